//! The whole server with hostile clients: no frame makes it fail, every reply is a frame,
//! and what it logged gives the same tree again.

use std::net::SocketAddr;
use std::time::Duration;

use ringkeeper::auth::{Auth, AuthOptions};
use ringkeeper::base::{ConnId, Instant, Now, Rng, SessionId, Zxid};
use ringkeeper::front::whole_frames;
use ringkeeper::leader::LeaderOptions;
use ringkeeper::log::{Recovered, RecoveryTarget};
use ringkeeper::pipeline::PrepareOptions;
use ringkeeper::replica::{
    Effect, Effects, Input, LimitOptions, Replica, ReplicaOptions, Restore, Restored,
};
use ringkeeper::tree::{Tree, TreeOptions};
use ringkeeper::wire::{Reader, Txn, TxnDigest, TxnHeader};

use super::harness::{Driver, run};
use super::input::{bytes, mutate};
use super::requests::{connect, framed, put_request};

const TREE: TreeOptions = TreeOptions { extended_types: true, ..TreeOptions::STOCK };

struct Scene {
    replica: Replica,
    now: Now,
    effects: Effects,
    log: Vec<(Zxid, Vec<u8>)>,
    unsynced: Option<Zxid>,
    /// Connections whose output is waited for.
    draining: Vec<ConnId>,
    /// Connections, and the next xid of each.
    conns: Vec<(ConnId, i32)>,
    opened: u64,
}

impl Scene {
    fn new(rng: &mut Rng) -> Scene {
        let now = Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 };
        let prepare = PrepareOptions {
            extended_types: true,
            enforce_quota: rng.chance(1, 2),
            close_session_paths: rng.chance(1, 2),
            ..PrepareOptions::default()
        };
        let leader = LeaderOptions { prepare, ..LeaderOptions::default() };
        let seed = rng.next_u64();
        let requests_max = [0, 1, 4][rng.below(3) as usize];
        let limits = LimitOptions {
            requests_max,
            drop_stale: rng.chance(1, 2),
            throttled_op_wait_ms: rng.chance(1, 2).then_some(1_000),
            ..LimitOptions::default()
        };
        let options = ReplicaOptions { leader, limits, seed, ..ReplicaOptions::default() };
        let restored = Restored::fresh(Tree::new(TREE));
        let auth = Auth::new(AuthOptions::default()).unwrap();
        let mut replica = Replica::new(now, options, auth, restored, SessionId(1 << 56));
        replica.lead(now);
        let (effects, log, conns) = (Effects::default(), Vec::new(), Vec::new());
        Scene { replica, now, effects, log, unsynced: None, draining: Vec::new(), conns, opened: 0 }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.replica.handle(self.now, input, &mut self.effects);
        self.replica.flush(&mut self.effects);
        self.take_effects();
        self.replica.check();
    }

    fn take_effects(&mut self) {
        for effect in &self.effects.list {
            match effect {
                Effect::Send { start, end, .. } => {
                    let sent = &self.effects.bytes[*start..*end];
                    assert_eq!(whole_frames(sent, usize::MAX >> 1), Ok(sent.len()));
                }
                Effect::Close { conn, .. } => self.conns.retain(|(other, _)| other != conn),
                Effect::Append(batch) => {
                    self.log.extend(batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec())));
                    self.unsynced = batch.last_zxid();
                }
                Effect::AwaitDrain { conn } => self.draining.push(*conn),
                Effect::Fatal(why) => panic!("fatal: {why}"),
                Effect::Established { .. }
                | Effect::Pause { .. }
                | Effect::Resume { .. }
                | Effect::SnapshotBegin(_)
                | Effect::SnapshotChunk(_)
                | Effect::SnapshotFinish
                | Effect::SnapshotAbandon
                | Effect::ReceptionBegin { .. }
                | Effect::ReceptionChunk(_)
                | Effect::ReceptionFinish
                | Effect::ReceptionAbandon
                | Effect::StreamBegin { .. }
                | Effect::StreamChunk { .. }
                | Effect::StreamEnd { .. } => {}
                Effect::Log { .. } => panic!("a lone server asks nothing of its log"),
                Effect::Forward { .. } | Effect::AskSession { .. } | Effect::AskSync => {
                    panic!("a lone server asks nobody")
                }
            }
        }
        self.effects.clear();
    }

    fn sync(&mut self) {
        loop {
            if let Some(zxid) = self.unsynced.take() {
                self.handle(Input::Logged { zxid });
                self.handle(Input::Committed { zxid });
            } else if let Some(conn) = self.draining.pop() {
                self.handle(Input::Drained { conn });
            } else {
                return;
            }
        }
    }

    fn open(&mut self, rng: &mut Rng) {
        self.opened += 1;
        let conn = ConnId(self.opened << 32 | self.opened);
        self.conns.push((conn, 1));
        self.handle(Input::Opened { conn, peer: SocketAddr::from(([127, 0, 0, 1], 1)) });
        let mut request = connect(rng);
        if rng.chance(1, 16) {
            mutate(rng, &mut request, &[0xff; 8]);
        }
        self.handle(Input::Frames { conn, bytes: &framed(&request) });
    }

    fn request(&mut self, rng: &mut Rng) {
        let Some(at) = (!self.conns.is_empty()).then(|| rng.below(self.conns.len() as u64)) else {
            return self.open(rng);
        };
        let (conn, xid) = &mut self.conns[at as usize];
        let (conn, mut frames) = (*conn, Vec::new());
        for _ in 0..=rng.below(3) {
            let mut request = Vec::new();
            put_request(rng, *xid, &mut request);
            *xid += 1;
            match rng.below(24) {
                0..=3 => {
                    let mut other = Vec::new();
                    put_request(rng, *xid, &mut other);
                    // Most often the header stays: without it there is little to decode.
                    let mut body = request.split_off(if rng.chance(7, 8) { 8 } else { 0 });
                    mutate(rng, &mut body, &other);
                    request.extend(body);
                }
                4 => request = bytes(rng, 60),
                _ => {}
            }
            frames.extend(framed(&request));
        }
        self.handle(Input::Frames { conn, bytes: &frames });
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.below(24) {
            0 => self.open(rng),
            1 => {
                let by = Duration::from_millis(rng.below(20_000));
                self.now.mono = self.now.mono + by;
                self.now.wall_ms += by.as_millis() as i64;
                self.handle(Input::Tick);
            }
            2 if !self.conns.is_empty() => {
                let (conn, _) = self.conns.swap_remove(rng.below(self.conns.len() as u64) as usize);
                self.handle(Input::Closed { conn });
            }
            3..=8 => self.sync(),
            _ => self.request(rng),
        }
    }

    /// Replays the log into an empty tree.
    fn compare(&self) {
        let mut restore = Restore::new(TREE);
        for (zxid, entry) in &self.log {
            let mut r = Reader::new(entry);
            let header = TxnHeader::decode_from(&mut r).unwrap();
            assert_eq!(header.zxid, *zxid);
            let txn = Txn::decode_from(header.kind, &mut r).unwrap_or_else(|e| {
                panic!("what is logged cannot be read, {e}: {header:?} {entry:x?}");
            });
            let digest = TxnDigest::decode_trailing(&mut r).unwrap();
            assert_eq!(r.remaining(), 0, "{header:?} {txn:?}");
            restore.txn(&header, &txn, digest, entry).unwrap();
        }
        let restored = restore.finish(&Recovered::default());
        let (tree, mismatches) = (restored.tree, restored.check.mismatches());
        assert_eq!(mismatches, 0, "digests in the log differ from the replayed tree's");
        let live = self.replica.tree();
        assert_eq!(tree.node_count(), live.node_count());
        assert_eq!(tree.digest(), live.digest());
    }
}

/// Runs a scene; how many transactions it wrote.
fn play(rng: &mut Rng) -> usize {
    let mut scene = Scene::new(rng);
    scene.open(rng);
    for _ in 0..rng.below(80) {
        scene.step(rng);
    }
    scene.sync();
    scene.compare();
    scene.log.len()
}

fn hostile(rng: &mut Rng) {
    play(rng);
}

#[test]
fn hostile_frames() {
    run(Driver { name: "replica::hostile_frames", budget: 1_500, case: hostile });
}

#[test]
fn scenes_get_past_the_handshake() {
    let written: usize = (0..50).map(|seed| play(&mut Rng::new(seed))).sum();
    assert!(written > 500, "{written} transactions in 50 scenes");
}
