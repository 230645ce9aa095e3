//! Clients of a server that another one leads: their writes go to the leader and are answered when
//! they come back as transactions.

use std::sync::Arc;

use super::*;
use crate::base::{Epoch, Xid};
use crate::log::Batch;
use crate::replica::DigestCheck;
use crate::session::Owner;
use crate::wire::{
    AclBytes, CreateTxn, Txn, TxnDigest, TxnHeader, TxnType, put_create_txn, session_password,
};

/// A server that follows, and what it has said to its leader.
struct Follower {
    scene: Scene,
    next: i64,
    forwarded: Vec<(SessionId, i32, OpCode)>,
    /// The leader says that what it commits is this server's, or that it is not. `None`: it does
    /// not say.
    says_own: Option<bool>,
}

impl Follower {
    fn new() -> Follower {
        Follower::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ReplicaOptions)) -> Follower {
        let mut scene = Scene::new(1000, limits(|_| {}));
        let mut options =
            ReplicaOptions { is_member: true, server_id: 2, ..scene.replica.options().clone() };
        change(&mut options);
        let tree = Tree::new(scene.replica.tree().options());
        scene.replica = Replica::for_tests(scene.now, options, Restored::fresh(tree));
        scene.replica.follow(&mut scene.effects);
        Follower { scene, next: 1, forwarded: Vec::new(), says_own: None }
    }

    /// What was forwarded since the last look.
    fn forwarded(&mut self) -> Vec<(SessionId, i32, OpCode)> {
        self.scene.effects.list.retain(|effect| {
            if let Effect::Forward { session, cxid, op, .. } = effect {
                self.forwarded.push((*session, cxid.0, *op));
                return false;
            }
            true
        });
        std::mem::take(&mut self.forwarded)
    }

    /// The leader proposes a transaction and commits it.
    fn commit(&mut self, session: SessionId, cxid: i32, kind: TxnType) {
        let number = self.next;
        self.commit_body(session, cxid, kind, |out| match kind {
            TxnType::CreateSession => put_i32(out, TIMEOUT_MS),
            TxnType::Create => put_node(out, number),
            TxnType::Error => put_i32(out, -110),
            other => panic!("{other:?}"),
        });
    }

    fn commit_body(
        &mut self,
        session: SessionId,
        cxid: i32,
        kind: TxnType,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let zxid = self.append(session, cxid, kind, body);
        self.scene.handle(Input::Committed { zxid });
    }

    /// The leader proposes a transaction: its number.
    fn append(
        &mut self,
        session: SessionId,
        cxid: i32,
        kind: TxnType,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Zxid {
        let zxid = Zxid(self.next);
        self.next += 1;
        let mut batch = Batch::new();
        let header = TxnHeader { session, cxid: Xid(cxid), zxid, time_ms: 1, kind };
        header.encode_into(batch.entry());
        body(batch.entry());
        batch.finish_entry(zxid);
        let own = self.says_own.map(|is_own| if is_own { vec![zxid] } else { Vec::new() });
        let (now, batch) = (self.scene.now, Arc::new(batch));
        self.scene.replica.append(now, batch, own.as_deref(), &mut self.scene.effects);
        zxid
    }

    fn connect(&mut self, slot: u32) -> (ConnId, SessionId) {
        let conn = self.scene.try_connect(slot);
        let asked = self.forwarded();
        let [(session, 0, OpCode::CreateSession)] = asked[..] else { panic!("{asked:?}") };
        self.commit(session, 0, TxnType::CreateSession);
        assert_eq!(self.scene.replica.session_of(conn), session);
        self.scene.effects.clear();
        (conn, session)
    }

    fn sync(xid: i32) -> Vec<u8> {
        request(xid, OpCode::Sync, |out| put_str(out, "/"))
    }
}

#[test]
fn a_forwarded_write_is_answered_when_it_comes_back() {
    let mut follower = Follower::new();
    let (conn, session) = follower.connect(0);
    follower.scene.send(conn, &[create(7, "/n3"), exists(8, "/n3"), create(9, "/x")]);
    let expected = [(session, 7, OpCode::Create), (session, 9, OpCode::Create)];
    assert_eq!(follower.forwarded(), expected);
    // Somebody else's, with the same number.
    follower.commit(SessionId(99), 7, TxnType::Create);
    assert_eq!(follower.scene.replies(conn), []);
    follower.commit(session, 7, TxnType::Create);
    assert_eq!(follower.scene.replies(conn), [(7, 3, 0), (8, 3, 0)]);
    follower.commit(session, 9, TxnType::Error);
    assert_eq!(follower.scene.replies(conn), [(9, 4, -110)]);
    follower.scene.replica.check();
    let client = follower.scene.replica.clients().next().unwrap();
    assert_eq!((client.in_flight_bytes, client.outstanding()), (0, 0));
}

/// A leader of Apache's would end its connection to this server for it, and with that the service
/// of all clients here.
#[test]
fn a_request_that_cannot_be_decoded_is_never_forwarded() {
    let acl = |out: &mut Vec<u8>| out.extend_from_slice(ACL_OPEN_BYTES);
    let multi = request(1, OpCode::Multi, |out| {
        put_i32(out, OpCode::Create.code());
        out.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0xff]);
        out.extend_from_slice(&create(0, "/m")[12..]);
        put_i32(out, -1);
        out.extend_from_slice(&[1, 0xff, 0xff, 0xff, 0xff]);
    });
    let ttl = request(1, OpCode::CreateTtl, |out| {
        out.extend_from_slice(&create(0, "/t")[12..]);
        out.extend_from_slice(&[0; 8]);
    });
    let set_acl = request(1, OpCode::SetAcl, |out| {
        put_str(out, "/n");
        acl(out);
        put_i32(out, -1);
    });
    for whole in [create(1, "/n"), set_data(1, "/n", 9), delete(1, "/n"), set_acl, ttl, multi] {
        for len in 12..=whole.len() {
            let mut follower = Follower::new();
            let (conn, session) = follower.connect(0);
            let mut frame = whole[..len].to_vec();
            frame[..4].copy_from_slice(&(len as u32 - 4).to_be_bytes());
            follower.scene.send(conn, &[frame]);
            let op = OpCode::from_code(i32::from_be_bytes(whole[8..12].try_into().unwrap()));
            let sent = [(session, 1, op.unwrap())];
            let wanted = if len == whole.len() { &sent[..] } else { &[] };
            assert_eq!(follower.forwarded(), wanted, "{len} of {whole:02x?}");
            follower.scene.replica.check();
        }
    }
    // A multi within a multi, and what no client asks for.
    let nested = request(1, OpCode::Multi, |out| {
        put_i32(out, OpCode::Multi.code());
        out.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0xff]);
    });
    let inner = |op| request(1, op, |out| out.extend_from_slice(&create(0, "/n")[12..]));
    let odd = [nested, inner(OpCode::Error), inner(OpCode::DeleteContainer)];
    for frame in odd.into_iter().chain([inner(OpCode::CreateSession), inner(OpCode::Check)]) {
        let mut follower = Follower::new();
        let (conn, _) = follower.connect(0);
        follower.scene.send(conn, std::slice::from_ref(&frame));
        assert_eq!(follower.forwarded(), [], "{frame:02x?}");
    }
}

#[test]
fn a_request_that_the_leader_passes_over_costs_its_connection() {
    let mut follower = Follower::new();
    let (lost, a) = follower.connect(0);
    let (other, b) = follower.connect(1);
    follower.scene.send(lost, &[create(1, "/x")]);
    follower.scene.send(other, &[create(1, "/y")]);
    assert_eq!(follower.forwarded().len(), 2);
    follower.commit(b, 1, TxnType::Create);
    assert!(follower.scene.is_closed(lost, CloseHow::Now));
    assert_eq!(follower.scene.xids(other), [1]);
    follower.commit(a, 1, TxnType::Create);
    follower.scene.replica.check();
}

#[test]
fn a_request_of_a_session_that_has_moved_ends_its_connection() {
    for kind in [TxnType::Error, TxnType::Multi] {
        let mut follower = Follower::new();
        let (conn, session) = follower.connect(0);
        follower.scene.send(conn, &[create(1, "/x")]);
        follower.forwarded();
        follower.commit_body(session, 1, kind, |out| {
            if kind == TxnType::Multi {
                put_i32(out, 1);
                put_i32(out, TxnType::Error as i32);
                put_i32(out, 4);
            }
            put_i32(out, -118);
        });
        assert_eq!(follower.scene.replies(conn), [], "{kind:?}");
        assert!(follower.scene.is_closed(conn, CloseHow::AfterFlush), "{kind:?}");
        follower.scene.replica.check();
    }
}

/// The client had sent requests with this number to another server before it came here. They came
/// too late.
#[test]
fn what_the_leader_gives_to_another_server_answers_nobody_here() {
    let mut follower = Follower::new();
    let (conn, session) = follower.connect(0);
    follower.scene.send(conn, &[create(7, "/n3")]);
    follower.forwarded();
    follower.says_own = Some(false);
    for _ in 0..2 {
        follower.commit_body(session, 7, TxnType::Error, |out| put_i32(out, -118));
    }
    assert_eq!(follower.scene.replies(conn), []);
    follower.says_own = Some(true);
    follower.commit(session, 7, TxnType::Create);
    assert_eq!(follower.scene.replies(conn), [(7, 4, 0)]);
    // One that this server has never forwarded.
    follower.commit(SessionId(99), 1, TxnType::Create);
    follower.scene.replica.check();
}

/// Its connection here only seems to stand. A next leader would not know that, and do what was left
/// here after what was asked for elsewhere later.
#[test]
fn a_client_that_has_written_elsewhere_since_is_let_go() {
    for says_own in [None, Some(false)] {
        let mut follower = Follower::new();
        let (conn, session) = follower.connect(0);
        let (other, _) = follower.connect(1);
        follower.says_own = says_own;
        follower.commit_body(session, 3, TxnType::Error, |out| put_i32(out, -118));
        assert!(!follower.scene.is_closed(conn, CloseHow::AfterFlush), "it was refused there");
        follower.commit(session, 4, TxnType::Create);
        assert!(follower.scene.is_closed(conn, CloseHow::AfterFlush));
        assert!(!follower.scene.is_closed(other, CloseHow::AfterFlush));
        follower.scene.replica.check();
    }
}

/// A learner may believe that it has the same client, whose connection there only seems to stand.
#[test]
fn a_server_that_begins_to_lead_keeps_the_sessions_of_clients_that_stayed() {
    let mut follower = Follower::new();
    let (conn, session) = follower.connect(0);
    let (gone, left) = follower.connect(1);
    follower.scene.handle(Input::Closed { conn: gone });
    let Scene { replica, effects, now, .. } = &mut follower.scene;
    replica.stop_serving(effects);
    replica.lead_epoch(*now, Epoch(1));
    assert_eq!(replica.session_owner(session), Some(Owner::Here));
    assert_eq!(replica.session_owner(left), None, "nobody has claimed it yet");
    follower.scene.send(conn, &[exists(1, "/")]);
    assert_eq!(follower.scene.xids(conn), [1]);
    follower.scene.replica.check();
}

/// Where the number of changes has come to its end, as after 2^31 creates, a create does not show
/// in its parent's pzxid.
#[test]
fn a_list_that_grows_without_a_sign_at_its_parent_is_made_anew() {
    let mut follower = Follower::with(|options| {
        (options.fair.turn, options.fair.turn_beside_lone) = (20_000, 20_000);
    });
    let (conn, _) = follower.connect(0);
    let (lone, _) = follower.connect(1);
    (0..2_000).for_each(|_| follower.commit(SessionId(99), 0, TxnType::Create));
    for xid in 0..5 {
        follower.scene.send(lone, &[exists(xid, "/")]);
    }
    follower.scene.effects.clear();
    let list = request(7, OpCode::GetChildren2, |out| {
        put_str(out, "/");
        out.push(0);
    });
    follower.scene.turn(Input::Tick);
    follower.scene.part_of_turn(Input::Frames { conn, bytes: &list });
    assert_eq!(follower.scene.replica.long_lists, 1);
    let zxid = follower.append(SessionId(99), 0, TxnType::Create, |out| {
        let (data, acl, ephemeral, ttl) = (None, AclBytes::OPEN, false, 0);
        let create = CreateTxn { path: "/more", data, acl, ephemeral, parent_cversion: 1, ttl };
        put_create_txn(out, TxnType::Create, &create);
    });
    follower.scene.part_of_turn(Input::Committed { zxid });
    assert_eq!(follower.scene.replica.long_lists, 1, "the list is not through");
    follower.scene.handle(Input::Tick);
    let sent = &follower.scene.effects;
    let reply = sent.list.iter().find_map(|effect| match effect {
        Effect::Send { conn: to, start, end } if *to == conn => Some(&sent.bytes[*start..*end]),
        _ => None,
    });
    let mut r = crate::wire::Reader::new(&reply.expect("the list")[20..]);
    let count = r.i32("count").unwrap();
    assert!((0..count).all(|_| r.buffer("name").is_ok_and(|name| name.is_some())));
    assert_eq!(r.remaining(), 68, "a stat follows the names");
    assert!(count > 2_000);
}

#[test]
fn a_sync_holds_up_its_connection_until_what_was_committed_is_applied() {
    let mut follower = Follower::new();
    let (conn, session) = follower.connect(0);
    follower.scene.send(conn, &[exists(1, "/"), Follower::sync(2), exists(3, "/")]);
    assert_eq!(follower.forwarded(), [(session, 2, OpCode::Sync)]);
    assert_eq!(follower.scene.xids(conn), [1]);
    follower.scene.replica.sync_done(follower.scene.now, &mut follower.scene.effects);
    follower.scene.handle(Input::Tick);
    assert_eq!(follower.scene.xids(conn), [2, 3]);
}

/// Others write on all the time, so that there is always more to be applied.
#[test]
fn a_sync_is_answered_as_soon_as_what_it_waits_for_is_applied() {
    let mut follower = Follower::with(|options| {
        (options.fair.turn, options.fair.turn_beside_lone) = (20_000, 20_000);
    });
    let (conn, _) = follower.connect(0);
    let append = |follower: &mut Follower, count: i64| {
        let mut batch = Batch::new();
        for _ in 0..count {
            let (session, cxid, kind) = (SessionId(9), Xid(0), TxnType::Error);
            let zxid = Zxid(follower.next);
            TxnHeader { session, cxid, zxid, time_ms: 1, kind }.encode_into(batch.entry());
            put_i32(batch.entry(), -110);
            batch.finish_entry(zxid);
            follower.next += 1;
        }
        let (now, zxid) = (follower.scene.now, Zxid(follower.next - 1));
        follower.scene.replica.append(now, Arc::new(batch), None, &mut follower.scene.effects);
        follower.scene.turn(Input::Committed { zxid });
        zxid
    };
    let mark = append(&mut follower, 500);
    follower.scene.send_in_turn(conn, &[Follower::sync(1), exists(2, "/")]);
    let now = follower.scene.now;
    follower.scene.replica.sync_done(now, &mut follower.scene.effects);
    let mut turns = 0;
    while follower.scene.replica.last_processed() < mark {
        assert_eq!(follower.scene.xids(conn), []);
        append(&mut follower, 40);
        turns += 1;
    }
    assert!(turns > 5 && !follower.scene.replica.is_all_applied());
    assert_eq!(follower.scene.xids(conn).first(), Some(&1));
}

/// Where nobody writes, only the answers say that the server has less to do.
#[test]
fn clients_that_a_flood_of_syncs_has_paused_go_on_when_these_are_answered() {
    let mut follower = Follower::with(|options| options.outstanding_limit = 2);
    let conns: Vec<ConnId> = (0..4).map(|slot| follower.connect(slot).0).collect();
    for conn in &conns {
        follower.scene.send(*conn, &[Follower::sync(1)]);
    }
    let pauses = follower.scene.pauses();
    assert_eq!(pauses, [(conns[2], true), (conns[3], true)], "these are above the limit");
    for _ in &conns {
        follower.scene.replica.sync_done(follower.scene.now, &mut follower.scene.effects);
    }
    assert_eq!(follower.scene.pauses(), [(conns[2], false), (conns[3], false)]);
}

/// Nothing after a `sync` is looked at before the leader has answered it.
#[test]
fn requests_of_a_client_that_waits_for_a_sync_stay_in_line() {
    let mut follower = Follower::with(|options| options.limits.requests_max = 1);
    let (other, writer) = follower.connect(0);
    let (conn, session) = follower.connect(1);
    follower.scene.send(other, &[create(1, "/n3")]);
    follower.forwarded();
    let zxid = follower.append(writer, 1, TxnType::Error, |out| put_i32(out, -110));
    let frames = [Follower::sync(1), exists(2, "/"), Follower::sync(3)];
    follower.scene.send(conn, &frames);
    assert_eq!(follower.forwarded(), [], "the pipeline is full");
    follower.scene.handle(Input::Committed { zxid });
    assert_eq!(follower.forwarded(), [(session, 1, OpCode::Sync)]);
    for (xids, asks) in [(&[1, 2][..], true), (&[3], false)] {
        assert_eq!(follower.scene.xids(conn), []);
        follower.scene.replica.sync_done(follower.scene.now, &mut follower.scene.effects);
        follower.scene.handle(Input::Tick);
        assert_eq!(follower.scene.xids(conn), xids);
        assert_eq!(!follower.forwarded().is_empty(), asks);
    }
    follower.scene.replica.check();
}

#[test]
fn clients_stay_when_the_leader_is_lost_unless_the_fate_of_a_write_is_unknown() {
    let mut follower = Follower::new();
    let (idle, _) = follower.connect(0);
    let (asking, session) = follower.connect(1);
    let (writing, _) = follower.connect(2);
    let new = follower.scene.try_connect(3);
    follower.scene.send(asking, &[Follower::sync(4), exists(5, "/")]);
    follower.scene.send(writing, &[create(1, "/x")]);
    follower.forwarded();
    follower.scene.replica.stop_serving(&mut follower.scene.effects);
    let is_closed = |conn| follower.scene.is_closed(conn, CloseHow::AfterFlush);
    assert_eq!([idle, asking, writing, new].map(is_closed), [false, false, true, true]);
    follower.scene.send(idle, &[exists(1, "/")]);
    assert_eq!(follower.scene.replies(idle), [], "requests wait");
    follower.scene.replica.check();

    follower.scene.effects.clear();
    follower.scene.replica.follow(&mut follower.scene.effects);
    let asks = |e: &Effect| matches!(e, Effect::AskSession { .. });
    assert_eq!(follower.scene.effects.list.iter().filter(|e| asks(e)).count(), 2, "of who stayed");
    let asked: Vec<SessionId> = follower.scene.replica.sessions().map(|(id, _)| id).collect();
    for session in asked {
        let (replica, now) = (&mut follower.scene.replica, follower.scene.now);
        replica.session_answered(now, session, true, &mut follower.scene.effects);
    }
    follower.scene.handle(Input::Tick);
    assert_eq!(follower.scene.xids(idle), [1]);
    assert_eq!(follower.forwarded(), [(session, 4, OpCode::Sync)], "it is asked again");
    follower.scene.replica.sync_done(follower.scene.now, &mut follower.scene.effects);
    follower.scene.handle(Input::Tick);
    assert_eq!(follower.scene.xids(asking), [4, 5]);
    follower.scene.replica.check();
}

#[test]
fn a_client_that_stayed_and_waits_for_a_sync_is_not_taken_for_a_new_one() {
    let mut follower = Follower::new();
    let (conn, session) = follower.connect(0);
    follower.scene.replica.stop_serving(&mut follower.scene.effects);
    follower.scene.replica.follow(&mut follower.scene.effects);
    follower.scene.send(conn, &[Follower::sync(4)]);
    assert_eq!(follower.forwarded(), [(session, 4, OpCode::Sync)]);
    follower.scene.effects.clear();
    let now = follower.scene.now;
    follower.scene.replica.session_answered(now, session, true, &mut follower.scene.effects);
    assert!(follower.scene.effects.list.is_empty(), "it has its session");
    follower.scene.replica.sync_done(now, &mut follower.scene.effects);
    follower.scene.handle(Input::Tick);
    assert_eq!(follower.scene.xids(conn), [4]);
    follower.scene.replica.check();
}

#[test]
fn a_session_goes_on_at_another_server_by_the_word_of_the_leader() {
    let mut follower = Follower::new();
    let (first, session) = follower.connect(0);
    for (slot, is_valid) in [(1, true), (2, false)] {
        let conn = follower.scene.connect_as(slot, session);
        let asks =
            |e: &Effect| matches!(e, Effect::AskSession { session: of, .. } if *of == session);
        assert!(follower.scene.effects.list.iter().any(asks));
        follower.scene.effects.clear();
        let now = follower.scene.now;
        follower.scene.replica.session_answered(
            now,
            session,
            is_valid,
            &mut follower.scene.effects,
        );
        follower.scene.handle(Input::Tick);
        let speaks = follower.scene.replica.conn_of(session) == Some(conn);
        assert_eq!(speaks, is_valid);
        assert_eq!(follower.scene.is_closed(conn, CloseHow::AfterFlush), !is_valid);
    }
    assert!(follower.scene.replica.clients().all(|client| client.conn != first));
    assert_ne!(session_password(session), [0; 16]);
}

/// A slow disk may hold its answer up, and the leader counts from the creation until it is told.
#[test]
fn the_leader_is_told_of_a_new_session_when_its_client_is_answered() {
    let mut follower = Follower::new();
    follower.scene.try_connect(0);
    let [(session, ..)] = follower.forwarded()[..] else { panic!("one session is asked for") };
    assert_eq!(follower.scene.replica.take_touched(), [], "its client does not have it yet");
    follower.commit(session, 0, TxnType::CreateSession);
    assert_eq!(follower.scene.replica.take_touched(), [(session, TIMEOUT_MS)]);
    // Another server's client has it.
    follower.commit(SessionId(99), 0, TxnType::CreateSession);
    assert_eq!(follower.scene.replica.take_touched(), []);
}

#[test]
fn the_leader_is_told_once_of_each_session_that_was_used() {
    let mut follower = Follower::new();
    let (conn, session) = follower.connect(0);
    assert_eq!(follower.scene.replica.take_touched(), [(session, TIMEOUT_MS)], "its answer");
    assert_eq!(follower.scene.replica.take_touched(), []);
    follower.scene.send(conn, &[ping(), exists(1, "/"), ping()]);
    assert_eq!(follower.scene.replica.take_touched(), [(session, TIMEOUT_MS)]);
    assert_eq!(follower.scene.replica.take_touched(), []);
}

#[test]
fn what_the_log_takes_back_goes_from_the_tail() {
    let mut follower = Follower::new();
    follower.connect(0);
    let mut batch = Batch::new();
    for zxid in 2..=5 {
        let (session, kind) = (SessionId(9), TxnType::Error);
        let header = TxnHeader { session, cxid: Xid(0), zxid: Zxid(zxid), time_ms: 1, kind };
        header.encode_into(batch.entry());
        put_i32(batch.entry(), -110);
        batch.finish_entry(Zxid(zxid));
    }
    let replica = &mut follower.scene.replica;
    replica.append(follower.scene.now, Arc::new(batch), None, &mut follower.scene.effects);
    replica.handle(
        follower.scene.now,
        Input::Logged { zxid: Zxid(5) },
        &mut follower.scene.effects,
    );
    replica.stop_serving(&mut follower.scene.effects);
    for keep in [5, 4, 2, 1] {
        replica.forget_after(Zxid(keep));
        replica.check();
        assert_eq!((replica.last_known(), replica.last_logged()), (Zxid(keep), Zxid(keep)));
    }
    assert!(replica.is_all_applied());
}

/// It crashed after a database that was received while its sender's tree went on.
#[test]
fn a_fuzzy_tree_stays_so_over_a_start_until_its_server_is_in_step() {
    let mut digests = Vec::new();
    for ahead in [0, 100] {
        let (mut follower, _) = received(100, 100 + ahead);
        for _ in 101..=200 {
            follower.commit(SessionId(99), 1, TxnType::Create);
        }
        let digest_log = |follower: &Follower| -> Vec<_> {
            follower.scene.replica.tree().digest_log().collect()
        };
        assert_eq!(digest_log(&follower), [], "{ahead} ahead");
        follower.scene.replica.follow(&mut follower.scene.effects);
        for _ in 201..=300 {
            follower.commit(SessionId(99), 1, TxnType::Create);
        }
        digests.push(digest_log(&follower));
    }
    assert_eq!(digests[0].len(), 1);
    assert_eq!(digests[0], digests[1]);
}

/// It received a database while its leader's tree went on, and the leader states the digest of the
/// tree with each transaction, as Apache's does.
#[test]
fn a_database_that_was_received_is_compared_once_its_server_is_in_step() {
    // When the server begins to follow, 115 is applied, and 120 known.
    for (wrong, mismatches) in [(0, 0), (101, 0), (119, 0), (120, 1), (121, 1), (130, 1)] {
        let (mut follower, mut leader) = received(100, 110);
        for number in 101..=130 {
            tree_creates(&mut leader, number);
            let tree_digest = leader.digest() ^ u64::from(wrong == number);
            let zxid = follower.append(SessionId(99), 1, TxnType::Create, |out| {
                put_node(out, number);
                TxnDigest { version: TxnDigest::VERSION, tree_digest }.encode_into(out);
            });
            if number == 120 {
                follower.scene.replica.follow(&mut follower.scene.effects);
            }
            if !(116..120).contains(&number) {
                follower.scene.handle(Input::Committed { zxid });
            }
        }
        let replica = &mut follower.scene.replica;
        assert_eq!(replica.tree().digest(), leader.digest());
        assert_eq!(replica.digest_mismatches(), mismatches, "{wrong}");
        replica.reset_stats();
        assert_eq!(replica.digest_mismatches(), 0);
    }
}

/// A server with the database as of transaction `at`, which shows all up to `shown`; and the tree
/// of its leader at `at`.
fn received(at: i64, shown: i64) -> (Follower, Tree) {
    let [leader, tree] = [at, shown].map(|last| {
        let mut tree = Tree::new(super::walks::TREE);
        (1..=last).for_each(|number| tree_creates(&mut tree, number));
        tree
    });
    let mut check = DigestCheck::new(true);
    check.loaded(Zxid(at), None, &tree);
    let (committed, snapshot_zxid) = (Zxid(at), Some(Zxid(at)));
    let restored =
        Restored { committed, snapshot_zxid, is_fuzzy: true, check, ..Restored::fresh(tree) };
    let mut follower = Follower::new();
    let options = follower.scene.replica.options().clone();
    follower.scene.replica = Replica::for_tests(follower.scene.now, options, restored);
    follower.next = at + 1;
    (follower, leader)
}

/// What transaction `number` does in [`Follower::commit`].
fn creates(number: i64, then: impl FnOnce(&CreateTxn<'_>)) {
    let path = format!("/n{number}");
    let (data, acl, ephemeral, ttl) = (None, AclBytes::OPEN, false, 0);
    let parent_cversion = number as i32;
    then(&CreateTxn { path: &path, data, acl, ephemeral, parent_cversion, ttl });
}

fn put_node(out: &mut Vec<u8>, number: i64) {
    creates(number, |txn| put_create_txn(out, TxnType::Create, txn));
}

fn tree_creates(tree: &mut Tree, number: i64) {
    let (session, cxid, zxid) = (SessionId(99), Xid(1), Zxid(number));
    let header = TxnHeader { session, cxid, zxid, time_ms: 1, kind: TxnType::Create };
    let mode = crate::tree::ApplyMode::Replay;
    creates(number, |txn| tree.apply(&header, &Txn::Create(*txn), mode, &mut crate::tree::NoSink));
}
