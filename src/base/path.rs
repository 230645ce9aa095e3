//! Znode paths: validation and the hash that every path-keyed table shares.
//!
//! A path is hashed once when a request is decoded. Tree, pending view and watch tables are all
//! keyed by that hash.

use super::mix::{GOLDEN_RATIO, fold};

/// Seeded path hash. The seed is drawn once per process, so that a client cannot prepare names
/// that collide.
#[derive(Clone, Copy, Debug)]
pub struct PathHasher {
    seed: u64,
}

/// A path with its hash.
#[derive(Clone, Copy, Debug)]
pub struct PathKey<'a> {
    /// The absolute path; the root is `"/"`, the empty string is an alias of it.
    pub path: &'a str,
    /// Hash of the path under the process's [`PathHasher`].
    pub hash: u64,
}

impl<'a> PathKey<'a> {
    /// Whether this names the root.
    pub fn is_root(&self) -> bool {
        self.path.len() <= 1
    }

    /// Path of the parent: the text before the last `/`, `"/"` for children of the root.
    pub fn parent_path(&self) -> &'a str {
        match last_slash(self.path) {
            None | Some(0) => "/",
            Some(at) => &self.path[..at],
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &'a str {
        match last_slash(self.path) {
            None => "",
            Some(at) => &self.path[at + 1..],
        }
    }
}

/// Names are short, so that looking byte by byte from the end is done before a search has begun.
#[inline]
fn last_slash(path: &str) -> Option<usize> {
    path.as_bytes().iter().rposition(|&byte| byte == b'/')
}

const L: u64 = 0xe703_7ed1_a0b4_28db;

impl PathHasher {
    /// A hasher whose values depend on `seed` only.
    pub fn new(seed: u64) -> PathHasher {
        PathHasher { seed: seed | 1 }
    }

    /// Hashes a path; both names of the root have the same hash.
    #[inline]
    pub fn key<'a>(&self, path: &'a str) -> PathKey<'a> {
        PathKey { path, hash: self.path_bytes(path.as_bytes()) }
    }

    /// The parent of a path; the root is its own parent.
    #[inline]
    pub fn parent<'a>(&self, key: &PathKey<'a>) -> PathKey<'a> {
        self.key(key.parent_path())
    }

    /// The hash of a path that is not known to be text.
    #[inline]
    pub fn path_bytes(&self, path: &[u8]) -> u64 {
        if path == b"/" { self.bytes(b"") } else { self.bytes(path) }
    }

    /// Hashes anything, sixteen bytes a step. The last step takes the last sixteen bytes, which
    /// overlap those before them, instead of a copy of a few.
    #[inline]
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut h = self.seed ^ (bytes.len() as u64).wrapping_mul(GOLDEN_RATIO);
        let mut rest = bytes;
        while rest.len() > 16
            && let Some((chunk, tail)) = rest.split_first_chunk::<16>()
        {
            let (a, b) = halves(chunk);
            h = fold(a ^ h, b ^ L);
            rest = tail;
        }
        let (a, b) = match (bytes.last_chunk::<16>(), rest.first_chunk::<8>()) {
            (Some(last), _) => halves(last),
            (None, Some(first)) => (u64::from_le_bytes(*first), last_word(rest)),
            (None, None) => (little_word(rest), 0),
        };
        fold(fold(a ^ h, b ^ L), self.seed ^ GOLDEN_RATIO)
    }
}

#[inline]
fn halves(chunk: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*chunk);
    (both as u64, (both >> 64) as u64)
}

#[inline]
fn last_word(bytes: &[u8]) -> u64 {
    bytes.last_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Up to seven bytes as a little-endian word.
#[inline]
fn little_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Why a path is not valid, in the words of ZooKeeper's `PathUtils.validatePath`.
pub fn validate_path(path: &str) -> Result<(), &'static str> {
    let bytes = path.as_bytes();
    match bytes.first() {
        None => return Err("path length must be > 0"),
        Some(b'/') => {}
        Some(_) => return Err("path must start with / character"),
    }
    if bytes.len() == 1 || is_plain(bytes) {
        return Ok(());
    }
    if bytes.last() == Some(&b'/') {
        return Err("path must not end with / character");
    }
    for component in path[1..].split('/') {
        match component {
            "" => return Err("empty node name specified"),
            "." | ".." => return Err("relative paths not allowed"),
            _ => {}
        }
    }
    for c in path.chars() {
        let forbidden = matches!(u32::from(c),
            0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..);
        if forbidden {
            return Err("invalid character");
        }
    }
    Ok(())
}

/// Whether a path is of the common kind that needs no closer look: printable ASCII, no component
/// that is empty or begins with a dot.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let odd = bytes.iter().fold(false, |odd, &b| odd | !(0x20..0x7f).contains(&b));
    let pairs = bytes.iter().zip(&bytes[1..]);
    let dots = pairs.fold(false, |odd, (&a, &b)| odd | ((a == b'/') & (b == b'/' || b == b'.')));
    !odd && !dots && bytes.last() != Some(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_every_byte_and_on_the_length() {
        let hasher = PathHasher::new(7);
        let mut seen = std::collections::BTreeSet::new();
        for len in 0..70 {
            let mut bytes = vec![b'x'; len];
            assert!(seen.insert(hasher.bytes(&bytes)), "length {len}");
            for at in 0..len {
                bytes[at] = b'y';
                assert!(seen.insert(hasher.bytes(&bytes)), "length {len}, byte {at}");
                bytes[at] = b'x';
            }
        }
        assert_eq!(hasher.key("").hash, hasher.key("/").hash);
        assert_ne!(hasher.key("/ab").hash, PathHasher::new(9).key("/ab").hash);
    }

    #[test]
    fn the_parent_is_what_stands_before_the_last_slash() {
        let hasher = PathHasher::new(7);
        for (path, parent) in
            [("/a", "/"), ("/a/b", "/a"), ("/a/b/c-0000000001", "/a/b"), ("/", "/"), ("", "/")]
        {
            let key = hasher.parent(&hasher.key(path));
            assert_eq!((key.path, key.hash), (parent, hasher.key(parent).hash), "{path}");
        }
    }

    #[test]
    fn validation_follows_path_utils() {
        for good in ["/", "/a", "/a..b", "/...", "/.a", "/ü/x", "/a b"] {
            assert!(validate_path(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/../b",
            "/a\0",
            "/\u{1}",
            "/\u{7f}",
            "/\u{e000}",
            "/\u{fffd}",
            "/\u{1f600}",
        ] {
            assert!(validate_path(bad).is_err(), "{bad:?}");
        }
    }
}
