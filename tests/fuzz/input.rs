//! Inputs: random bytes, valid encodings, and valid encodings with a few defects.

use ringkeeper::base::Rng;
use ringkeeper::wire::{put_buffer, put_i32};

const INTS: &[i32] = &[
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    7,
    12,
    31,
    64,
    255,
    256,
    4096,
    0xffff,
    0xf_ffff,
    0x10_0000,
    i32::MAX,
    i32::MAX - 1,
    i32::MAX - 7,
    i32::MIN,
    i32::MIN + 1,
    -2,
    0x4000_0000,
];

const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/b",
    "/s-",
    "/zookeeper",
    "/zookeeper/quota",
    "/e",
    "/é/ü",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/config",
    "/t",
    "/a/",
    "",
    "a",
    "//",
    "/a//b",
    "/.",
    "/a/..",
    "/a/./b",
    "/\0",
    "/\u{1}",
    "/\u{fff0}",
    "/\u{f8ff}",
];

/// One of `all`.
pub fn pick<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.below(all.len() as u64) as usize]
}

/// Near a border, or anything.
pub fn int(rng: &mut Rng) -> i32 {
    if rng.chance(1, 8) { rng.next_u64() as i32 } else { pick(rng, INTS) }
}

/// Near a border, or anything.
pub fn long(rng: &mut Rng) -> i64 {
    if rng.chance(1, 4) { rng.next_u64() as i64 } else { i64::from(int(rng)) }
}

/// Up to `max` random bytes.
pub fn bytes(rng: &mut Rng, max: u64) -> Vec<u8> {
    let mut out = vec![0; rng.below(max + 1) as usize];
    rng.fill(&mut out);
    out
}

/// A path, mostly one that the server can use.
pub fn path(rng: &mut Rng) -> &'static str {
    let used = if rng.chance(3, 4) { &PATHS[..9] } else { PATHS };
    pick(rng, used)
}

/// Appends a path; seldom null, not UTF-8, or long.
pub fn put_path(rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(40) {
        0 => put_i32(out, -1),
        1 => put_buffer(out, Some(&bytes(rng, 20))),
        2 => put_buffer(out, Some("/x".repeat(rng.below(500) as usize).as_bytes())),
        _ => put_buffer(out, Some(path(rng).as_bytes())),
    }
}

/// Appends a buffer, sometimes null.
pub fn put_data(rng: &mut Rng, out: &mut Vec<u8>) {
    if rng.chance(1, 8) {
        put_buffer(out, None);
    } else {
        put_buffer(out, Some(&bytes(rng, 40)));
    }
}

fn damage(rng: &mut Rng, out: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(out.len() as u64 + 1) as usize;
    match rng.below(9) {
        0 | 1 if at < out.len() => out[at] ^= 1 << rng.below(8),
        2 if at < out.len() => out[at] = rng.next_u64() as u8,
        3 => out.truncate(at),
        4 => out.extend(bytes(rng, 20)),
        // A length field, or what stands where one might.
        5 if at + 4 <= out.len() => out[at..at + 4].copy_from_slice(&int(rng).to_be_bytes()),
        6 if at + 4 <= out.len() => {
            let was = u32::from_be_bytes(out[at..at + 4].try_into().unwrap());
            let by = rng.below(9) as u32;
            out[at..at + 4].copy_from_slice(&was.wrapping_add(by).wrapping_sub(4).to_be_bytes());
        }
        7 => {
            out.truncate(at);
            out.extend_from_slice(&other[rng.below(other.len() as u64 + 1) as usize..]);
        }
        8 => {
            let tail = out.split_off(at);
            let from = rng.below(tail.len() as u64 + 1) as usize;
            out.extend_from_slice(&tail[..from]);
            out.extend_from_slice(&tail);
        }
        _ => out.push(rng.next_u64() as u8),
    }
}

/// Damages `out` in one to four places; `other` is what splices take from.
pub fn mutate(rng: &mut Rng, out: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(4) {
        damage(rng, out, other);
    }
}

/// An input for a decoder of what `valid` encodes, and whether it is still valid.
pub fn input(rng: &mut Rng, valid: impl Fn(&mut Rng) -> Vec<u8>) -> (Vec<u8>, bool) {
    match rng.below(8) {
        0 => (bytes(rng, 200), false),
        1 => (valid(rng), true),
        _ => {
            let (mut out, other) = (valid(rng), valid(rng));
            mutate(rng, &mut out, &other);
            (out, false)
        }
    }
}
