//! A member whose messages are damaged on their way: whatever the others make of it, none of them
//! panics. They may leave it, end with a message, or believe what it says.
//!
//! `RK_FUZZ_SECONDS=600` runs for that long from a new seed; `RK_FUZZ_SEED=<seed>` replays one.

use std::time::{Duration, SystemTime};

use crate::base::{ConnId, Rng, SessionId};
use crate::peer::Port;
use crate::wire::quorum::{
    BEAT, DIGEST, FAREWELL, NEXT_EPOCH, PROPOSALS, PacketKind, PacketScan, Scan,
};
use crate::wire::{OpCode, put_buffer, put_i32, put_str};

use super::world::{Disk, World, create, request, sync};

/// Seeds of a normal run.
const SEEDS: u64 = 80;

/// Packets that are kept to come again where they do not belong.
const KEPT: usize = 64;

/// Kind, zxid, and length of the data.
const HEAD: usize = 16;

/// Damages what one member sends.
pub(super) struct Hostile {
    pub(super) at: usize,
    kept: Vec<Vec<u8>>,
}

impl Hostile {
    pub(super) fn new(at: usize) -> Hostile {
        Hostile { at, kept: Vec::new() }
    }

    /// What arrives instead of what was sent.
    pub(super) fn damage(&mut self, rng: &mut Rng, port: Port, sent: &[u8]) -> Vec<u8> {
        let packets = match port {
            Port::Quorum => packets(sent),
            Port::Election => None,
        };
        let Some(mut packets) = packets else {
            let mut bytes = sent.to_vec();
            if rng.chance(1, 6) {
                damage_bytes(rng, &mut bytes);
            }
            return bytes;
        };
        for packet in &packets {
            let place = rng.below(KEPT as u64) as usize;
            match self.kept.get_mut(place) {
                Some(kept) => kept.clone_from(packet),
                None => self.kept.push(packet.clone()),
            }
        }
        if rng.chance(1, 6) {
            let at = rng.below(packets.len() as u64) as usize;
            match rng.below(6) {
                0 => drop(packets.remove(at)),
                1 => packets.insert(at, packets[at].clone()),
                2 => {
                    let kept = rng.below(self.kept.len() as u64) as usize;
                    packets.insert(at, self.kept[kept].clone());
                }
                _ => damage_packet(rng, &mut packets[at]),
            }
        }
        packets.concat()
    }
}

/// The packets of a send; `None` if it is something else, such as a part of a database.
fn packets(mut sent: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !sent.is_empty() {
        let Ok(Scan::Complete(length)) = PacketScan::new(1 << 20).advance(sent) else {
            return None;
        };
        let (packet, rest) = sent.split_at(length);
        found.push(packet.to_vec());
        sent = rest;
    }
    Some(found)
}

fn kind(rng: &mut Rng) -> i32 {
    let ours = [PROPOSALS, NEXT_EPOCH, DIGEST, FAREWELL, BEAT, PacketKind::Unknown(77)];
    match rng.below(4) {
        0 => ours[rng.below(6) as usize].code(),
        _ => 1 + rng.below(19) as i32,
    }
}

fn zxid(rng: &mut Rng, was: i64) -> i64 {
    match rng.below(10) {
        0 => 0,
        1 => -1,
        2 => i64::MAX,
        3 => i64::MIN,
        4 => was.wrapping_add(1 << 32),
        5 => was.wrapping_sub(1 << 32),
        6 => was & !0xffff_ffff,
        7 => was | 0xffff_ffff,
        8 => rng.next_u64() as i64,
        _ => was.wrapping_add(rng.below(7) as i64 - 3),
    }
}

fn int(rng: &mut Rng) -> i32 {
    let all = [0, 1, -1, 2, 3, 7, 12, 64, 0x1_0000, i32::MAX, i32::MIN, 1 << 30, 0x6fff_ffff];
    all[rng.below(all.len() as u64) as usize]
}

fn damage_bytes(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
            2 if at + 4 <= bytes.len() => {
                bytes[at..at + 4].copy_from_slice(&int(rng).to_be_bytes());
            }
            3 => bytes.truncate(at),
            _ => bytes.push(rng.next_u64() as u8),
        }
    }
}

/// Mostly the packet stays one.
fn damage_packet(rng: &mut Rng, packet: &mut Vec<u8>) {
    let was = i64::from_be_bytes(packet[4..12].try_into().unwrap());
    match rng.below(8) {
        0 => packet[..4].copy_from_slice(&kind(rng).to_be_bytes()),
        1 | 2 => packet[4..12].copy_from_slice(&zxid(rng, was).to_be_bytes()),
        3 => damage_bytes(rng, packet),
        _ => {
            let length = i32::from_be_bytes(packet[12..HEAD].try_into().unwrap()).max(0) as usize;
            let mut data = packet[HEAD..HEAD + length].to_vec();
            let rest = packet.split_off(HEAD + length);
            match rng.below(4) {
                0 if data.len() >= 8 => {
                    // Where a zxid may stand, in a proposal among others.
                    let at = rng.below(data.len() as u64 - 7) as usize;
                    let was = i64::from_be_bytes(data[at..at + 8].try_into().unwrap());
                    data[at..at + 8].copy_from_slice(&zxid(rng, was).to_be_bytes());
                }
                1 => data.clear(),
                _ => damage_bytes(rng, &mut data),
            }
            packet.truncate(HEAD);
            let length = if data.is_empty() && rng.chance(1, 2) { -1 } else { data.len() as i32 };
            packet[12..].copy_from_slice(&length.to_be_bytes());
            packet.extend(data);
            packet.extend(rest);
        }
    }
}

/// What a client asks for next.
fn ask(rng: &mut Rng, xid: i32) -> Vec<u8> {
    let path = format!("/n{}", rng.below(6));
    match rng.below(8) {
        0 => sync(xid),
        1 => request(xid, OpCode::Delete, |out| {
            put_str(out, &path);
            put_i32(out, -1);
        }),
        2 | 3 => request(xid, OpCode::SetData, |out| {
            put_str(out, &path);
            put_buffer(out, Some(b"other"));
            put_i32(out, -1);
        }),
        4 => request(xid, OpCode::Multi, |out| {
            put_i32(out, OpCode::Delete.code());
            out.push(0);
            put_i32(out, -1);
            put_str(out, &path);
            put_i32(out, -1);
            put_i32(out, -1);
            out.push(1);
            put_i32(out, -1);
        }),
        5 if rng.chance(1, 8) => request(xid, OpCode::CloseSession, |_| {}),
        _ => create(xid, &path),
    }
}

/// Says which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: RK_FUZZ_SEED={} cargo test --lib member::tests::hostile", self.0);
        }
    }
}

fn play(seed: u64) {
    let _told = Told(seed);
    let observers = usize::from(seed.is_multiple_of(5));
    let mut world = World::new(seed, 3, observers, seed.is_multiple_of(4));
    if seed % 3 == 1 {
        (world.spent_counter, world.held_max) = (15, 2_000);
    }
    let members = 3 + observers;
    for at in 0..members {
        world.nodes[at].may_end = true;
        world.kill(at);
        world.start(at);
    }
    // Some of them are damaged from the beginning.
    if !seed.is_multiple_of(7) {
        world.until("all serve", World::all_serve);
    }
    let hostile = world.rng.below(members as u64) as usize;
    world.hostile = Some(Hostile::new(hostile));
    let mut conns: Vec<(usize, ConnId)> = Vec::new();
    let mut xid = 0;
    for _ in 0..1_500 {
        match world.rng.below(40) {
            0 => {
                let at = world.rng.below(members as u64) as usize;
                if world.nodes[at].member.is_some() {
                    let conn = world.connect(at, SessionId(0));
                    conns.push((at, conn));
                }
            }
            1..=3 if !conns.is_empty() => {
                let (at, conn) = conns[world.rng.below(conns.len() as u64) as usize];
                xid += 1;
                let frame = ask(&mut world.rng, xid);
                if !world.nodes[at].closed.contains(&conn) && world.nodes[at].member.is_some() {
                    world.send(at, conn, &frame);
                }
            }
            4 if world.rng.chance(1, 8) => {
                world.kill(hostile);
                world.start(hostile);
            }
            _ => world.step(),
        }
        for at in 0..members {
            // What it has believed may be in its log. It begins with nothing.
            if world.nodes[at].ended.take().is_some() {
                world.nodes[at].disk = Disk { is_emptied: true, ..Disk::new() };
                world.start(at);
            }
        }
    }
}

#[test]
fn whatever_a_member_says_the_others_do_not_panic() {
    let setting = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = setting("RK_FUZZ_SEED") {
        return play(seed);
    }
    let Some(seconds) = setting("RK_FUZZ_SECONDS") else {
        return (0..SEEDS).for_each(play);
    };
    let now = SystemTime::now();
    let first = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() << 20;
    let mut seed = first;
    while now.elapsed().unwrap() < Duration::from_secs(seconds) {
        play(seed);
        seed += 1;
    }
    eprintln!("{} seeds from {first}", seed - first);
}
