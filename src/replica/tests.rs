//! Limits and back-pressure, over a replica without sockets and disk. Nothing becomes durable
//! before a test says so.

mod fair;
mod forwarded;
mod learner;
mod lists;
mod receive;
mod regress;
mod slices;
mod waiting;
mod walks;

use std::net::SocketAddr;
use std::time::Duration;

use super::{CloseHow, Effect, Effects, Input, LimitOptions, Replica, ReplicaOptions, Restored};
use crate::base::{ConnId, Instant, Now, SessionId, Zxid};
use crate::leader::LeaderOptions;
use crate::tree::{Tree, TreeOptions};
use crate::wire::{
    ACL_OPEN_BYTES, OpCode, XID_PING, begin_frame, connect_frame, end_frame, put_bool, put_buffer,
    put_i32, put_str,
};

const TIMEOUT_MS: i32 = 10_000;

struct Scene {
    replica: Replica,
    now: Now,
    /// Last transaction handed to the log.
    logged: Zxid,
    effects: Effects,
}

fn limits(change: impl FnOnce(&mut LimitOptions)) -> LimitOptions {
    let mut limits = LimitOptions::default();
    change(&mut limits);
    limits
}

/// A header-only reply: xid, zxid, error.
type Header = (i32, i64, i32);

impl Scene {
    fn new(outstanding_limit: u64, limits: LimitOptions) -> Scene {
        let now = Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 };
        let options = ReplicaOptions {
            server_id: 1,
            leader: LeaderOptions { tick_ms: 1000, ..LeaderOptions::default() },
            min_session_timeout_ms: 1000,
            max_session_timeout_ms: 60_000,
            outstanding_limit,
            snap_size_bytes: 0,
            snap_log_ratio: 0,
            digest: false,
            limits,
            ..ReplicaOptions::default()
        };
        let tree = Tree::new(TreeOptions { digest: false, ..TreeOptions::STOCK });
        let restored = Restored::fresh(tree);
        let mut replica = Replica::for_tests(now, options, restored);
        replica.lead(now);
        Scene { replica, now, logged: Zxid(0), effects: Effects::default() }
    }

    /// A turn, and those that it leaves work for.
    fn handle(&mut self, input: Input<'_>) {
        self.turn(input);
        while self.replica.has_work() {
            assert_eq!(self.replica.deadline(), Some(Instant(0)));
            self.turn(Input::Tick);
        }
    }

    fn turn(&mut self, input: Input<'_>) {
        self.part_of_turn(input);
        self.replica.begin_turn();
        self.replica.check();
    }

    /// One input among others of a turn; what it prepared goes to the log.
    fn part_of_turn(&mut self, input: Input<'_>) {
        self.replica.handle(self.now, input, &mut self.effects);
        self.replica.hand_over(&mut self.effects);
        for effect in &self.effects.list {
            if let Effect::Append(batch) = effect {
                self.logged = batch.last_zxid().unwrap();
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono + Duration::from_millis(ms);
    }

    /// Makes durable what was logged before; what that sets going is logged, not durable.
    fn sync(&mut self) {
        self.durable(self.logged);
    }

    /// A quorum of one has everything up to `zxid`.
    fn durable(&mut self, zxid: Zxid) {
        self.replica.handle(self.now, Input::Logged { zxid }, &mut self.effects);
        self.handle(Input::Committed { zxid });
    }

    /// Until nothing is under way.
    fn settle(&mut self) {
        while self.replica.outstanding() > 0 || !self.replica.is_all_applied() {
            let before = self.replica.last_processed();
            self.sync();
            assert!(self.replica.last_processed() > before, "it does not go on");
        }
    }

    fn try_connect(&mut self, slot: u32) -> ConnId {
        self.connect_as(slot, SessionId(0))
    }

    /// A new connection that asks for a new session, or to go on with an old one.
    fn connect_as(&mut self, slot: u32, session: SessionId) -> ConnId {
        let conn = ConnId::new(slot, 1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        self.handle(Input::Opened { conn, peer });
        let frame = connect_frame(session, TIMEOUT_MS);
        self.handle(Input::Frames { conn, bytes: &frame });
        conn
    }

    fn connect(&mut self, slot: u32) -> ConnId {
        let conn = self.try_connect(slot);
        self.settle();
        self.effects.clear();
        conn
    }

    fn send(&mut self, conn: ConnId, frames: &[Vec<u8>]) {
        self.handle(Input::Frames { conn, bytes: &frames.concat() });
    }

    /// As [`Scene::send`], in one turn.
    fn send_in_turn(&mut self, conn: ConnId, frames: &[Vec<u8>]) {
        self.turn(Input::Frames { conn, bytes: &frames.concat() });
    }

    /// Header of every reply to `conn` since the last look.
    fn replies(&mut self, conn: ConnId) -> Vec<Header> {
        let mut found = Vec::new();
        for effect in &self.effects.list {
            let Effect::Send { conn: to, start, end } = effect else { continue };
            let mut rest = if *to == conn { &self.effects.bytes[*start..*end] } else { &[][..] };
            while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
                let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                let zxid = i64::from_be_bytes(frame[4..12].try_into().unwrap());
                found.push((int(0), zxid, int(12)));
                rest = tail;
            }
        }
        self.effects.list.retain(|e| !matches!(e, Effect::Send { conn: to, .. } if *to == conn));
        found
    }

    fn xids(&mut self, conn: ConnId) -> Vec<i32> {
        self.replies(conn).into_iter().map(|(xid, ..)| xid).collect()
    }

    fn is_closed(&self, conn: ConnId, by: CloseHow) -> bool {
        let closes =
            |e: &Effect| matches!(e, Effect::Close { conn: c, how } if *c == conn && *how == by);
        self.effects.list.iter().any(closes)
    }

    /// Pauses and resumptions since the last look, `true` for a pause.
    fn pauses(&mut self) -> Vec<(ConnId, bool)> {
        let mut found = Vec::new();
        self.effects.list.retain(|effect| {
            match effect {
                Effect::Pause { conn } => found.push((*conn, true)),
                Effect::Resume { conn } => found.push((*conn, false)),
                _ => return true,
            }
            false
        });
        found
    }
}

fn request(xid: i32, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    let start = begin_frame(&mut frame);
    put_i32(&mut frame, xid);
    put_i32(&mut frame, op.code());
    body(&mut frame);
    end_frame(&mut frame, start);
    frame
}

fn create_with(xid: i32, path: &str, data: &[u8], acl: &[u8]) -> Vec<u8> {
    request(xid, OpCode::Create, |out| {
        put_str(out, path);
        put_buffer(out, Some(data));
        out.extend_from_slice(acl);
        put_i32(out, 0);
    })
}

fn create(xid: i32, path: &str) -> Vec<u8> {
    create_with(xid, path, &[], ACL_OPEN_BYTES)
}

fn exists(xid: i32, path: &str) -> Vec<u8> {
    request(xid, OpCode::Exists, |out| {
        put_str(out, path);
        put_bool(out, false);
    })
}

fn get_data(xid: i32, path: &str) -> Vec<u8> {
    request(xid, OpCode::GetData, |out| {
        put_str(out, path);
        put_bool(out, false);
    })
}

fn set_data(xid: i32, path: &str, size: usize) -> Vec<u8> {
    request(xid, OpCode::SetData, |out| {
        put_str(out, path);
        put_buffer(out, Some(&vec![0; size]));
        put_i32(out, -1);
    })
}

fn delete(xid: i32, path: &str) -> Vec<u8> {
    request(xid, OpCode::Delete, |out| {
        put_str(out, path);
        put_i32(out, -1);
    })
}

fn ping() -> Vec<u8> {
    request(XID_PING, OpCode::Ping, |_| {})
}

#[test]
fn too_many_new_sessions_are_closed_silently() {
    let limits = limits(|limits| limits.connections.tokens = 2);
    let mut scene = Scene::new(1000, limits);
    let refused: Vec<_> = (0..4)
        .map(|slot| {
            let conn = scene.try_connect(slot);
            scene.is_closed(conn, CloseHow::Now)
        })
        .collect();
    assert_eq!(refused, [false, false, true, true]);
    assert_eq!(scene.replica.limit_figures().connections_refused, 2);
    assert_eq!(scene.replica.limit_figures().token_deficit.max, 2);
    scene.settle();
    assert_eq!(scene.replica.session_count(), 2);
}

#[test]
fn requests_beyond_the_limit_wait_in_order_of_arrival() {
    let mut scene = Scene::new(1000, limits(|limits| limits.requests_max = 2));
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create(1, "/a"), create(2, "/b"), create(3, "/c"), exists(4, "/c")]);
    scene.send(b, &[exists(1, "/b"), create(2, "/d"), ping()]);
    // Even b's read waits: the line is for everybody.
    assert_eq!(scene.replies(b), []);
    assert_eq!(scene.replica.outstanding(), 7);
    let base = scene.replica.last_processed().0;
    scene.sync();
    assert_eq!(scene.xids(a), [1, 2]);
    // a's third write and the read after it fill the pipeline again.
    assert_eq!(scene.replies(b), []);
    scene.sync();
    assert_eq!(scene.replies(a), [(3, base + 3, 0), (4, base + 3, 0)]);
    assert_eq!(scene.replies(b), [(1, base + 3, 0)]);
    scene.sync();
    assert_eq!(scene.replies(b), [(2, base + 4, 0), (XID_PING, base + 4, 0)]);
    assert_eq!(scene.replica.outstanding(), 0);
    assert_eq!(scene.replica.limit_figures().request_throttle_waits, 5);
    let client = scene.replica.clients().next().unwrap();
    assert_eq!((client.in_line, client.waiting_bytes), (0, 0));
}

#[test]
fn answers_that_are_no_requests_keep_their_place_in_line() {
    let mut scene = Scene::new(1000, limits(|limits| limits.requests_max = 1));
    let a = scene.connect(0);
    let auth = request(-4, OpCode::Auth, |out| {
        put_i32(out, 0);
        put_str(out, "digest");
        put_buffer(out, Some(b"u:p"));
    });
    let unknown = request(4, OpCode::Check, |_| {});
    scene.send(a, &[create(1, "/a"), create(2, "/b"), auth, create(3, "/c"), unknown]);
    while !scene.is_closed(a, CloseHow::AfterFlush) {
        scene.sync();
    }
    let replies = scene.replies(a);
    assert_eq!(replies.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, -4, 3, 4]);
    assert_eq!(replies[4].2, -6);
}

#[test]
fn requests_that_waited_too_long_are_refused_in_order() {
    let mut scene = Scene::new(
        1000,
        limits(|limits| {
            limits.requests_max = 1;
            limits.throttled_op_wait_ms = Some(100);
        }),
    );
    let a = scene.connect(0);
    let close = request(5, OpCode::CloseSession, |_| {});
    scene.send(a, &[create(1, "/a"), create(2, "/b"), exists(3, "/b"), ping(), close]);
    scene.pass(100);
    scene.sync();
    assert_eq!(scene.xids(a), [1]);
    // The second is in the pipeline now; the rest is refused but for ping and closeSession.
    let base = scene.replica.last_processed().0;
    scene.pass(1);
    scene.sync();
    assert_eq!(scene.replies(a), [(2, base + 1, 0), (3, base + 1, -127), (XID_PING, base + 1, 0)]);
    scene.sync();
    assert_eq!(scene.replies(a), [(5, base + 2, 0)]);
    assert!(scene.is_closed(a, CloseHow::AfterFlush));
    assert_eq!(scene.replica.limit_figures().throttled_ops, 1);
}

/// A refusal that follows a write of the same connection must not overtake the write, nor carry an
/// older zxid.
#[test]
fn a_refusal_waits_for_the_write_before_it() {
    let mut scene = Scene::new(
        1000,
        limits(|limits| {
            limits.requests_max = 2;
            limits.throttled_op_wait_ms = Some(100);
        }),
    );
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(b, &[create(1, "/1"), create(2, "/2")]);
    scene.send(a, &[create(3, "/3")]);
    scene.pass(50);
    scene.send(a, &[create(4, "/4")]);
    scene.pass(60);
    scene.sync();
    // Both of a's had waited, the first for too long.
    assert_eq!(scene.replies(a).iter().map(|r| (r.0, r.2)).collect::<Vec<_>>(), [(3, -127)]);
    scene.sync();
    let applied = scene.replica.last_processed().0;
    assert_eq!(scene.replies(a), [(4, applied, 0)]);
}

#[test]
fn requests_of_dead_connections_are_dropped() {
    for drops in [true, false] {
        let mut scene = Scene::new(
            1000,
            limits(|limits| {
                limits.requests_max = 1;
                limits.drop_stale = drops;
            }),
        );
        let (a, b) = (scene.connect(0), scene.connect(1));
        let close = request(4, OpCode::CloseSession, |_| {});
        scene.send(b, &[create(1, "/b")]);
        scene.send(a, &[create(1, "/a"), exists(2, "/a"), create(3, "/c"), close]);
        scene.send(b, &[create(2, "/d")]);
        scene.handle(Input::Closed { conn: a });
        scene.settle();
        let exists = |path: &str| {
            let tree = scene.replica.tree();
            tree.find(&tree.key(path)).is_some()
        };
        assert_eq!((exists("/a"), exists("/c")), (!drops, !drops));
        assert!(exists("/d"));
        // closeSession has to clean up in any case.
        assert_eq!(scene.replica.session_count(), 1);
        let figures = scene.replica.limit_figures();
        let counts = (figures.stale_requests_dropped, figures.stale_requests);
        assert_eq!(counts, if drops { (3, 0) } else { (0, 3) });
    }
}

#[test]
fn requests_older_than_their_session_timeout_close_the_connection() {
    let mut scene = Scene::new(
        1000,
        limits(|limits| {
            limits.requests_max = 1;
            limits.stale_latency_check = true;
        }),
    );
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(b, &[create(1, "/b"), create(2, "/c")]);
    scene.send(a, &[create(1, "/a"), create(2, "/d")]);
    scene.sync();
    scene.pass(TIMEOUT_MS as u64 + 1);
    scene.sync();
    assert!(scene.is_closed(a, CloseHow::AfterFlush));
    assert_eq!(scene.xids(b), [1, 2]);
    assert_eq!(scene.replica.outstanding(), 0);
    assert_eq!(scene.replica.limit_figures().stale_requests_dropped, 2);
}

#[test]
fn large_requests_close_their_connection_when_there_are_too_many() {
    let mut scene = Scene::new(
        1000,
        limits(|limits| {
            limits.large_request_threshold = 100;
            limits.large_request_bytes_max = 500;
        }),
    );
    let (a, b, c) = (scene.connect(0), scene.connect(1), scene.connect(2));
    scene.send(a, &[create(1, "/a")]);
    scene.settle();
    scene.send(a, &[set_data(2, "/a", 200)]);
    let used = scene.replica.large_request_bytes();
    assert!((200..300).contains(&used), "{used}");
    // Small ones pass at any time, as do large ones that fit.
    scene.send(b, &[set_data(1, "/a", 10), set_data(2, "/a", 200)]);
    assert!(!scene.is_closed(b, CloseHow::Now));
    scene.send(c, &[set_data(1, "/a", 200)]);
    assert!(scene.is_closed(c, CloseHow::Now));
    assert_eq!(scene.replica.limit_figures().large_requests_rejected, 1);
    // A large read that waits counts until its connection dies.
    scene.settle();
    assert_eq!(scene.replica.large_request_bytes(), 0);
    scene.send(a, &[set_data(3, "/a", 10), exists(4, &format!("/{}", "x".repeat(200)))]);
    assert!(scene.replica.large_request_bytes() > 200);
    scene.handle(Input::Closed { conn: a });
    assert_eq!(scene.replica.large_request_bytes(), 0);
    // One that waits in the pipeline counts until it is answered.
    scene.send(b, &[set_data(3, "/a", 10), exists(4, &format!("/{}", "x".repeat(200)))]);
    scene.settle();
    assert_eq!(scene.replica.large_request_bytes(), 0);
    assert_eq!(scene.xids(b), [1, 2, 3, 4]);
}

#[test]
fn large_requests_in_line_count_once() {
    let mut scene = Scene::new(
        1000,
        limits(|limits| {
            limits.requests_max = 1;
            limits.large_request_threshold = 100;
        }),
    );
    let a = scene.connect(0);
    scene.send(a, &[create(1, "/a"), set_data(2, "/a", 200), set_data(3, "/a", 200)]);
    let both = scene.replica.large_request_bytes();
    scene.sync();
    assert_eq!(scene.replica.large_request_bytes(), both);
    scene.sync();
    assert_eq!(scene.replica.large_request_bytes(), both / 2);
    scene.sync();
    assert_eq!(scene.replica.large_request_bytes(), 0);
}

#[test]
fn permissions_are_checked_on_arrival_if_wanted() {
    let closed = b"\0\0\0\x01\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone";
    for eager in [false, true] {
        let mut scene = Scene::new(1000, limits(|limits| limits.eager_acl = eager));
        let a = scene.connect(0);
        scene.send(a, &[create_with(1, "/a", &[], closed)]);
        scene.settle();
        scene.replies(a);
        let before = scene.replica.last_processed().0;
        let set_acl = request(5, OpCode::SetAcl, |out| {
            put_str(out, "/a");
            out.extend_from_slice(ACL_OPEN_BYTES);
            put_i32(out, -1);
        });
        scene.send(a, &[create(2, "/a/b"), delete(3, "/a/b"), set_data(4, "/a", 1), set_acl]);
        scene.settle();
        let zxid = |count| if eager { 0 } else { before + count };
        let expect = [2, 3, 4, 5].map(|xid| (xid, zxid(i64::from(xid) - 1), -102));
        assert_eq!(scene.replies(a), expect);
        // What else is wrong is left to the next stage.
        let from = scene.replica.last_processed().0;
        scene.send(a, &[create(6, "/x/y"), set_data(7, "/x", 1), delete(8, "bad"), create(9, "/")]);
        scene.settle();
        let codes: Vec<_> = scene.replies(a).iter().map(|r| (r.0, r.1 - from, r.2)).collect();
        assert_eq!(codes, [(6, 1, -101), (7, 2, -101), (8, 3, -8), (9, 4, -110)]);
    }
}

#[test]
fn a_refusal_on_arrival_does_not_overtake() {
    let mut scene = Scene::new(1000, limits(|limits| limits.eager_acl = true));
    let a = scene.connect(0);
    let closed = b"\0\0\0\x01\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone";
    scene.send(a, &[create_with(1, "/a", &[], closed)]);
    scene.settle();
    scene.replies(a);
    scene.send(a, &[create(2, "/b"), create(3, "/a/b"), create(4, "/c")]);
    scene.settle();
    assert_eq!(scene.xids(a), [2, 3, 4]);
}

#[test]
fn a_busy_server_takes_one_request_at_a_time_from_each() {
    let mut scene = Scene::new(2, LimitOptions::default());
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create(1, "/1"), create(2, "/2")]);
    assert_eq!(scene.pauses(), []);
    scene.send(a, &[create(3, "/3")]);
    assert_eq!(scene.pauses(), [(a, true)]);
    // b's first request is taken although the server is busy; only once is it paused.
    scene.send(b, &[create(1, "/4")]);
    scene.send(b, &[create(2, "/5")]);
    assert_eq!(scene.pauses(), [(b, true)]);
    scene.sync();
    assert_eq!(scene.pauses(), [(a, false), (b, false)]);
}

/// Others keep the server above the limit all the time; a paused connection goes on nevertheless
/// when its own requests are answered.
#[test]
fn nobody_stays_paused_because_of_others() {
    let mut scene = Scene::new(2, LimitOptions::default());
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &(1..5).map(|n| create(n, &format!("/a{n}"))).collect::<Vec<_>>());
    assert_eq!(scene.pauses(), [(a, true)]);
    let durable = scene.logged;
    scene.send(b, &(1..5).map(|n| create(n, &format!("/b{n}"))).collect::<Vec<_>>());
    assert_eq!(scene.pauses(), [(b, true)]);
    scene.durable(durable);
    assert_eq!(scene.replica.outstanding(), 4);
    assert_eq!(scene.pauses(), [(a, false)]);
    scene.sync();
    assert_eq!(scene.pauses(), [(b, false)]);
}

#[test]
fn a_paused_connection_may_go_away() {
    let mut scene = Scene::new(1, LimitOptions::default());
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create(1, "/1"), exists(2, "/1"), exists(3, "/1")]);
    scene.send(b, &[create(1, "/2")]);
    assert_eq!(scene.pauses(), [(a, true), (b, true)]);
    scene.handle(Input::Closed { conn: a });
    assert_eq!(scene.replica.outstanding(), 2);
    // Its slot is used again; the new connection was never paused.
    let again = ConnId::new(0, 2);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    scene.handle(Input::Opened { conn: again, peer });
    scene.sync();
    assert_eq!(scene.pauses(), [(b, false)]);
    assert_eq!(scene.replica.outstanding(), 0);
}

#[test]
fn writes_behind_a_set_acl_are_judged_by_a_list_that_is_in_use() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let a = scene.connect(0);
    let admin = b"\0\0\0\x01\0\0\0\x18\0\0\0\x05world\0\0\0\x06anyone";
    let other = b"\0\0\0\x01\0\0\0\x11\0\0\0\x05world\0\0\0\x06anyone";
    scene.send(a, &[create_with(1, "/n", &[], admin), create(2, "/m")]);
    scene.settle();
    let set_acl = request(3, OpCode::SetAcl, |out| {
        put_str(out, "/n");
        out.extend_from_slice(other);
        put_i32(out, -1);
    });
    // The node's only list goes out of use while a later transaction keeps its record.
    scene.send(a, &[set_acl, set_data(4, "/m", 1)]);
    scene.send(
        a,
        &[request(5, OpCode::SetAcl, |out| {
            put_str(out, "/n");
            out.extend_from_slice(other);
            put_i32(out, -1);
        })],
    );
    let zxid = Zxid(scene.logged.0 - 1);
    scene.replica.handle(scene.now, Input::Committed { zxid }, &mut scene.effects);
    scene.send(a, &[set_data(6, "/n", 1), create(7, "/n/x")]);
    scene.settle();
    let codes: Vec<_> = scene.replies(a).iter().map(|r| (r.0, r.2)).collect();
    assert_eq!(codes[2..], [(3, 0), (4, 0), (5, 0), (6, -102), (7, -102)]);
}

#[test]
fn a_server_that_was_held_up_reads_before_it_expires() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let a = scene.connect(0);
    let b = scene.connect(1);
    scene.pass(60_000);
    scene.handle(Input::Tick);
    scene.send(a, &[ping()]);
    scene.pass(1000);
    scene.handle(Input::Tick);
    scene.settle();
    assert!(!scene.is_closed(a, CloseHow::AfterFlush), "its ping was waiting");
    assert!(scene.is_closed(b, CloseHow::AfterFlush), "it was silent for a minute");
}

#[test]
fn a_snapshot_that_can_go_on_waits_for_nothing_else() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    scene.connect(0);
    let at_once = Some(Instant(0));
    assert!(scene.replica.deadline() > at_once);
    assert!(scene.replica.request_snapshot());
    for part in ["its beginning", "its nodes"] {
        assert_eq!(scene.replica.deadline(), at_once, "{part}");
        scene.handle(Input::Tick);
    }
    assert!(matches!(scene.effects.list.last(), Some(Effect::SnapshotFinish)));
    assert!(scene.replica.deadline() > at_once, "the disk has everything");
    scene.handle(Input::SnapshotEnded { ok: true });
    assert!(scene.replica.deadline() > at_once);
}

/// What is asked for as an ephemeral container is an ephemeral until it is applied, a container
/// from then on. Its session's end deletes it in between, but only if it lists what it deletes.
#[test]
fn a_container_made_as_an_ephemeral_outlives_a_close_that_lists_nothing() {
    let container = |xid, path: &str| {
        request(xid, OpCode::CreateContainer, |out| {
            put_str(out, path);
            put_buffer(out, Some(&[]));
            out.extend_from_slice(ACL_OPEN_BYTES);
            put_i32(out, 1);
        })
    };
    let close = || request(9, OpCode::CloseSession, |_| {});
    for (lists, recreated, parent_deleted) in [(true, 0, -111), (false, -110, -111)] {
        let mut scene = Scene::new(1000, limits(|_| {}));
        scene.replica.options.leader.prepare.close_session_paths = lists;
        scene.replica.resign(&mut scene.effects);
        scene.replica.lead(scene.now);
        let (a, b) = (scene.connect(0), scene.connect(1));
        scene.send(b, &[create(1, "/p")]);
        scene.settle();
        scene.effects.clear();
        // Nothing of this is applied before all of it is prepared.
        scene.send(a, &[container(1, "/p/c"), create(2, "/p/c/x"), close()]);
        scene.send(b, &[create(2, "/p/c"), delete(3, "/p"), exists(4, "/p/c")]);
        scene.settle();
        let codes = |replies: Vec<Header>| replies.iter().map(|r| r.2).collect::<Vec<_>>();
        assert_eq!(codes(scene.replies(a)), [0, -108, 0], "lists: {lists}");
        let expected = [recreated, parent_deleted, 0];
        assert_eq!(codes(scene.replies(b)), expected, "lists: {lists}");
        assert_eq!(scene.replica.tree().node_count(), 7, "lists: {lists}");
        // Applied, it is nobody's.
        let c = scene.connect(2);
        scene.send(c, &[container(1, "/p/d")]);
        scene.settle();
        scene.send(c, &[close()]);
        scene.send(b, &[exists(5, "/p/d"), delete(6, "/p/c"), delete(7, "/p/d"), delete(8, "/p")]);
        scene.settle();
        assert_eq!(codes(scene.replies(b)), [0, 0, 0, 0], "lists: {lists}");
    }
}
