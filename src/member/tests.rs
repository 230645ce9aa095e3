//! A member under load, whose log the test plays, while leadership comes and goes.

mod ensemble;
mod faults;
mod hostile;
mod world;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ConnId, Instant, Now, Rng, SessionId, Zxid};
use crate::log::Batch;
use crate::replica::{Effect, Effects, Input, Replica, ReplicaOptions, Restored};
use crate::tree::{Tree, TreeOptions};
use crate::wire::{
    ACL_OPEN_BYTES, OpCode, begin_frame, connect_frame, end_frame, put_buffer, put_i32, put_str,
};

use super::{Member, Role};

const CLIENTS: u32 = 4;

struct Scene {
    member: Member,
    now: Now,
    effects: Effects,
    /// Handed to the log, not durable.
    writing: VecDeque<Arc<Batch>>,
    logged: Zxid,
    /// Xids of the replies to each client, the handshake's left out.
    replies: Vec<Vec<i32>>,
}

fn request(xid: i32, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    let start = begin_frame(&mut frame);
    put_i32(&mut frame, xid);
    put_i32(&mut frame, op as i32);
    body(&mut frame);
    end_frame(&mut frame, start);
    frame
}

fn conn(client: usize) -> ConnId {
    ConnId::new(client as u32, 1)
}

impl Scene {
    fn new() -> Scene {
        let now = Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 };
        let tree = Tree::new(TreeOptions::STOCK);
        let options = ReplicaOptions { snap_size_bytes: 0, ..ReplicaOptions::default() };
        let replica = Replica::for_tests(now, options, Restored::fresh(tree));
        let mut scene = Scene {
            member: Member::alone(now, replica),
            now,
            effects: Effects::default(),
            writing: VecDeque::new(),
            logged: Zxid::ZERO,
            replies: vec![Vec::new(); CLIENTS as usize],
        };
        for client in 0..CLIENTS as usize {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            scene.handle(Input::Opened { conn: conn(client), peer });
            let bytes = &connect_frame(SessionId(0), 30_000);
            scene.handle(Input::Frames { conn: conn(client), bytes });
        }
        scene.settle();
        scene.replies.iter_mut().for_each(Vec::clear);
        scene
    }

    fn handle(&mut self, input: Input<'_>) {
        self.member.handle(self.now, input, &mut self.effects);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        self.member.flush(self.now, &mut self.effects);
        self.member.check();
        for effect in std::mem::take(&mut self.effects.list) {
            match effect {
                Effect::Append(batch) => self.writing.push_back(batch),
                Effect::Send { conn, start, end } => {
                    let mut rest = &self.effects.bytes[start..end];
                    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                        let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
                        let xid = i32::from_be_bytes(frame[..4].try_into().unwrap());
                        self.replies[conn.slot() as usize].push(xid);
                        rest = tail;
                    }
                }
                Effect::Close { conn, .. } => panic!("{conn:?} is closed"),
                Effect::Fatal(why) => panic!("{why}"),
                _ => {}
            }
        }
        self.effects.clear();
    }

    /// The disk finishes a write.
    fn write(&mut self) {
        if let Some(batch) = self.writing.pop_front() {
            self.logged = batch.last_zxid().unwrap();
            self.handle(Input::Logged { zxid: self.logged });
        }
    }

    /// Until nothing is under way.
    fn settle(&mut self) {
        loop {
            if !self.writing.is_empty() {
                self.write();
            } else if self.member.deadline() == Some(Instant(0)) {
                self.handle(Input::Tick);
            } else {
                return;
            }
        }
    }
}

/// Requests are answered once, in order, also if this server did not lead when they came.
#[test]
fn leadership_is_lost_and_taken_up_under_load() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::new();
        let mut asked = [0; CLIENTS as usize];
        let (mut resigned, mut waited) = (0, 0);
        for _ in 0..300 {
            let client = rng.below(u64::from(CLIENTS)) as usize;
            match rng.below(12) {
                0..4 => {
                    let mut bytes = Vec::new();
                    for _ in 0..=rng.below(6) {
                        asked[client] += 1;
                        let xid = asked[client];
                        let path = format!("/c{client}-{}", rng.below(5));
                        bytes.extend(match rng.below(4) {
                            0 => request(xid, OpCode::Create, |out| {
                                put_str(out, &path);
                                put_buffer(out, Some(b"x"));
                                out.extend_from_slice(ACL_OPEN_BYTES);
                                put_i32(out, 1);
                            }),
                            1 => request(xid, OpCode::Delete, |out| {
                                put_str(out, &path);
                                put_i32(out, -1);
                            }),
                            _ => request(xid, OpCode::Exists, |out| {
                                put_str(out, &path);
                                out.push(0);
                            }),
                        });
                    }
                    waited += u32::from(scene.member.role() != Role::Alone);
                    scene.handle(Input::Frames { conn: conn(client), bytes: &bytes });
                }
                4..8 => scene.write(),
                8 => {
                    scene.now.mono = scene.now.mono + Duration::from_millis(rng.below(3000));
                    scene.handle(Input::Tick);
                }
                9 => {
                    resigned += u32::from(scene.member.role() == Role::Alone);
                    scene.member.resign(&mut scene.effects);
                    scene.carry_out();
                }
                _ => {
                    scene.member.claim(scene.now, &mut scene.effects);
                    scene.carry_out();
                }
            }
        }
        scene.member.claim(scene.now, &mut scene.effects);
        scene.carry_out();
        scene.settle();
        assert_eq!(scene.member.role(), Role::Alone, "seed {seed}");
        for (client, replies) in scene.replies.iter().enumerate() {
            let wanted: Vec<i32> = (1..=asked[client]).collect();
            assert_eq!(replies, &wanted, "seed {seed}, client {client}");
        }
        assert!(resigned > 3 && waited > 3, "seed {seed}: {resigned} terms, {waited} waits");
        assert_eq!(scene.member.replica().last_logged(), scene.logged);
    }
}

/// A session that lived through a term without a leader gets its whole timeout from the next one.
#[test]
fn sessions_do_not_expire_while_nobody_leads() {
    let mut scene = Scene::new();
    scene.member.resign(&mut scene.effects);
    scene.now.mono = scene.now.mono + Duration::from_secs(3600);
    scene.handle(Input::Tick);
    assert_eq!(scene.member.replica().session_count(), CLIENTS as usize);
    scene.member.claim(scene.now, &mut scene.effects);
    scene.carry_out();
    scene.settle();
    assert_eq!(scene.member.role(), Role::Alone);
    assert_eq!(scene.member.replica().session_count(), CLIENTS as usize);
    scene.now.mono = scene.now.mono + Duration::from_secs(25);
    scene.handle(Input::Tick);
    scene.settle();
    assert_eq!(scene.member.replica().session_count(), CLIENTS as usize, "25 of 30 s");
}
