//! Requests that learners forward, and sessions that move between members.

use super::super::ForwardedRequest;
use super::*;
use crate::base::{CONTAINER_OWNER, Epoch, LinkId, Rng, Xid};
use crate::session::Owner;
use crate::wire::quorum::AuthIds;
use crate::wire::{
    ErrorCode, Reader, SubTxn, Txn, TxnHeader, TxnType, put_multi_end, put_multi_header,
};

const SESSION: SessionId = SessionId(0x0200_0000_0000_0001);
const FIRST: Owner = Owner::Learner(LinkId(1));
const SECOND: Owner = Owner::Learner(LinkId(2));

/// What became of a request: session, cxid, type, error.
type Made = (SessionId, i32, TxnType, i32);

fn forwarded<'a>(cxid: i32, op: OpCode, body: &'a [u8]) -> ForwardedRequest<'a> {
    let (session, cxid) = (SESSION, Xid(cxid));
    ForwardedRequest { session, cxid, op, body, ids: AuthIds::NONE, owner: FIRST }
}

/// The record of a request, without its frame.
fn record(frame: &[u8]) -> &[u8] {
    &frame[12..]
}

impl Scene {
    /// As the leader of an ensemble.
    fn leading(epoch: i32, limits: LimitOptions) -> Scene {
        let mut scene = Scene::new(1000, limits);
        scene.replica.resign(&mut scene.effects);
        scene.replica.lead_epoch(scene.now, Epoch(epoch));
        scene.replica.check();
        scene
    }

    fn forward(&mut self, request: ForwardedRequest<'_>) -> Made {
        let known = self.replica.last_known();
        let spent = self.replica.fair.spent;
        self.replica.forwarded(self.now, request, &mut self.effects);
        self.turn(Input::Tick);
        assert!(self.replica.fair.spent > spent, "it costs something");
        let before = known.max(Zxid::new(self.logged.epoch(), 0));
        assert_eq!(self.logged, before.next(), "one request, one transaction");
        assert!(!self.effects.list.iter().any(|e| matches!(e, Effect::Send { .. })));
        self.made().pop().unwrap()
    }

    /// A new session of the client of a learner.
    fn learner_session(&mut self) {
        let made = self.forward(forwarded(0, OpCode::CreateSession, &TIMEOUT_MS.to_be_bytes()));
        assert_eq!(made, (SESSION, 0, TxnType::CreateSession, 0));
    }

    /// Transactions since the last look.
    fn made(&mut self) -> Vec<Made> {
        let mut found = Vec::new();
        for effect in &self.effects.list {
            let Effect::Append(batch) = effect else { continue };
            for (_, entry) in batch.iter() {
                let r = &mut Reader::new(entry);
                let header = TxnHeader::decode_from(r).unwrap();
                let err = match Txn::decode_from(header.kind, r).unwrap() {
                    Txn::Error { err } => err,
                    _ => 0,
                };
                found.push((header.session, header.cxid.0, header.kind, err));
            }
        }
        self.effects.list.retain(|effect| !matches!(effect, Effect::Append(_)));
        found
    }

    fn exists(&self, path: &str) -> bool {
        let tree = self.replica.tree();
        tree.find(&tree.key(path)).is_some()
    }
}

fn error(cxid: i32, code: ErrorCode) -> Made {
    (SESSION, cxid, TxnType::Error, code.code())
}

#[test]
fn writes_of_a_learners_client_become_transactions_and_nobody_is_answered() {
    let mut scene = Scene::leading(5, limits(|_| {}));
    let stays = scene.connect(0);
    scene.made();
    scene.learner_session();
    let ephemeral = request(1, OpCode::Create, |out| {
        put_str(out, "/e");
        put_buffer(out, Some(b"x"));
        out.extend_from_slice(ACL_OPEN_BYTES);
        put_i32(out, 1);
    });
    let frames = [
        (OpCode::Create, ephemeral, TxnType::Create),
        (OpCode::Create, create(2, "/n"), TxnType::Create),
        (OpCode::SetData, set_data(3, "/n", 10), TxnType::SetData),
        (OpCode::Create, create(4, "/m"), TxnType::Create),
        (OpCode::Delete, delete(5, "/m"), TxnType::Delete),
    ];
    for (cxid, (op, frame, kind)) in (1..).zip(frames) {
        // Each is judged by what those before will have done.
        assert_eq!(scene.forward(forwarded(cxid, op, record(&frame))), (SESSION, cxid, kind, 0));
    }
    assert_eq!(scene.logged, Zxid::new(Epoch(5), 7));
    assert!(!scene.exists("/n"), "not committed yet");
    scene.settle();
    assert_eq!(["/e", "/n", "/m"].map(|path| scene.exists(path)), [true, true, false]);
    assert_eq!(scene.replica.session_count(), 2);
    let close = scene.forward(forwarded(6, OpCode::CloseSession, b""));
    assert_eq!(close, (SESSION, 6, TxnType::CloseSession, 0));
    scene.settle();
    assert_eq!(["/e", "/n"].map(|path| scene.exists(path)), [false, true]);
    assert_eq!(scene.replica.session_count(), 1);
    assert!(!scene.is_closed(stays, CloseHow::AfterFlush));
}

#[test]
fn a_request_that_cannot_be_done_is_an_error_transaction() {
    use OpCode::{CloseSession, CreateSession, DeleteContainer, GetData, SetData, Sync};
    let mut scene = Scene::leading(1, limits(|_| {}));
    let missing = set_data(1, "/missing", 1);
    let set = |cxid| forwarded(cxid, SetData, record(&missing));
    assert_eq!(scene.forward(set(1)), error(1, ErrorCode::SessionExpired));
    scene.learner_session();
    assert_eq!(scene.forward(set(2)), error(2, ErrorCode::NoNode));
    let moved = ForwardedRequest { owner: SECOND, ..set(3) };
    assert_eq!(scene.forward(moved), error(3, ErrorCode::SessionMoved));
    let writes = OpCode::ALL.into_iter().filter(|op| op.is_write());
    for (cxid, op) in (10..).zip(writes.chain([CreateSession])) {
        let made = scene.forward(forwarded(cxid, op, b"\0\0\0"));
        assert_eq!(made, error(cxid, ErrorCode::MarshallingError), "{op:?}");
    }
    for (cxid, op) in (30..).zip([GetData, DeleteContainer, Sync, OpCode::Check]) {
        let made = scene.forward(forwarded(cxid, op, record(&missing)));
        assert_eq!(made, error(cxid, ErrorCode::Unimplemented), "{op:?}");
    }
    for id in [0, CONTAINER_OWNER] {
        let session = SessionId(id);
        let request = forwarded(40, CreateSession, &[0; 4]);
        let (.., err) = scene.forward(ForwardedRequest { session, ..request });
        assert_eq!(err, ErrorCode::BadArguments.code());
    }
    let mut many = Vec::new();
    AuthIds::put(&mut many, vec![("ip", "10.0.0.1"); 10_000].into_iter());
    let many = ForwardedRequest { ids: AuthIds::parse(&many).unwrap(), ..set(50) };
    assert_eq!(scene.forward(many), error(50, ErrorCode::MarshallingError));
    assert_eq!(scene.forward(forwarded(51, CloseSession, b"")).2, TxnType::CloseSession);
    for request in [set(52), forwarded(53, CloseSession, b"")] {
        let made = scene.forward(request);
        assert_eq!(made, error(request.cxid.0, ErrorCode::SessionExpired));
    }
    let timeout = TIMEOUT_MS.to_be_bytes();
    let again = forwarded(54, CreateSession, &timeout);
    assert_eq!(scene.forward(again), error(54, ErrorCode::SessionExpired));
    scene.settle();
    assert_eq!(scene.replica.session_count(), 0);
}

#[test]
fn a_multi_of_a_session_that_moved_fails_with_its_first_operation() {
    let mut scene = Scene::leading(1, limits(|_| {}));
    scene.learner_session();
    let mut body = Vec::new();
    for path in ["/a", "/b"] {
        put_multi_header(&mut body, OpCode::Delete.code());
        put_str(&mut body, path);
        put_i32(&mut body, -1);
    }
    put_multi_end(&mut body);
    let request = ForwardedRequest { owner: SECOND, ..forwarded(1, OpCode::Multi, &body) };
    scene.replica.forwarded(scene.now, request, &mut scene.effects);
    scene.turn(Input::Tick);
    let Some(Effect::Append(batch)) = scene.effects.list.last() else {
        panic!("nothing is logged")
    };
    let (_, entry) = batch.iter().last().unwrap();
    let r = &mut Reader::new(entry);
    let header = TxnHeader::decode_from(r).unwrap();
    let Txn::Multi(multi) = Txn::decode_from(header.kind, r).unwrap() else { panic!("{header:?}") };
    let errors: Vec<_> = multi.iter().map(SubTxn::txn).collect();
    assert_eq!(errors, [Ok(Txn::Error { err: -118 }), Ok(Txn::Error { err: -2 })]);
    scene.settle();
}

#[test]
fn permissions_are_those_that_the_learner_forwards() {
    for eager in [false, true] {
        let mut scene = Scene::leading(1, limits(|limits| limits.eager_acl = eager));
        scene.learner_session();
        let mut acl = Vec::new();
        put_i32(&mut acl, 1);
        put_i32(&mut acl, 31);
        put_str(&mut acl, "digest");
        put_str(&mut acl, "bob:hash");
        let own = create_with(1, "/own", &[], &acl);
        assert_eq!(scene.forward(forwarded(1, OpCode::Create, record(&own))).3, 0);
        scene.settle();
        let set = set_data(2, "/own", 1);
        for (pair, expected) in [
            (("digest", "eve:hash"), ErrorCode::NoAuth),
            (("digest", "bob:hash"), ErrorCode::Ok),
            (("super", ""), ErrorCode::Ok),
        ] {
            let mut ids = Vec::new();
            AuthIds::put(&mut ids, [pair].into_iter());
            let ids = AuthIds::parse(&ids).unwrap();
            let request = forwarded(2, OpCode::SetData, record(&set));
            let (.., err) = scene.forward(ForwardedRequest { ids, ..request });
            assert_eq!(err, expected.code(), "{pair:?}, eager: {eager}");
        }
    }
}

#[test]
fn a_write_of_a_client_that_moved_away_closes_its_old_connection() {
    let mut scene = Scene::leading(1, limits(|_| {}));
    let conn = scene.connect(0);
    let session = scene.replica.session_of(conn);
    scene.send(conn, &[create(1, "/before")]);
    assert!(scene.replica.revalidate_for_learner(scene.now, session, TIMEOUT_MS, FIRST));
    scene.made();
    scene.send(conn, &[create(2, "/late"), create(3, "/later"), exists(4, "/before")]);
    assert_eq!(scene.made(), [(session, 2, TxnType::Error, -118)]);
    let moved = ForwardedRequest { session, ..forwarded(9, OpCode::Create, &[]) };
    let now = create(9, "/now");
    let made = scene.forward(ForwardedRequest { body: record(&now), ..moved });
    assert_eq!(made, (session, 9, TxnType::Create, 0));
    scene.settle();
    let codes: Vec<_> = scene.replies(conn).iter().map(|reply| (reply.0, reply.2)).collect();
    assert_eq!(codes, [(1, 0)], "it hears of what came in time");
    assert!(scene.is_closed(conn, CloseHow::AfterFlush));
    assert_eq!(
        ["/before", "/late", "/later", "/now"].map(|path| scene.exists(path)),
        [true, false, false, true]
    );
    assert_eq!(scene.replica.session_count(), 1, "the session lives on");
}

#[test]
fn whatever_a_client_that_moved_away_sends_closes_its_old_connection() {
    for frame in [ping(), exists(2, "/n"), create(2, "/late")] {
        let mut scene = Scene::leading(1, limits(|_| {}));
        let conn = scene.connect(0);
        let session = scene.replica.session_of(conn);
        assert!(scene.replica.revalidate_for_learner(scene.now, session, TIMEOUT_MS, FIRST));
        scene.send(conn, &[frame]);
        scene.settle();
        assert_eq!(scene.replies(conn), []);
        assert!(scene.is_closed(conn, CloseHow::AfterFlush));
    }
    // Only the end of the session may be asked for anywhere.
    let mut scene = Scene::leading(1, limits(|_| {}));
    let conn = scene.connect(0);
    let session = scene.replica.session_of(conn);
    scene.replica.revalidate_for_learner(scene.now, session, TIMEOUT_MS, FIRST);
    scene.send(conn, &[request(7, OpCode::CloseSession, |_| {})]);
    scene.settle();
    assert_eq!(scene.xids(conn), [7]);
    assert_eq!(scene.replica.session_count(), 0);
}

#[test]
fn a_request_that_waited_in_line_while_its_client_moved_is_not_done() {
    for (late, made) in [(create(2, "/late"), 1), (exists(2, "/late"), 0)] {
        let mut scene = Scene::leading(1, limits(|limits| limits.requests_max = 1));
        let (conn, other) = (scene.connect(0), scene.connect(1));
        let session = scene.replica.session_of(conn);
        scene.send(other, &[create(1, "/first")]);
        scene.send(conn, &[late]);
        assert_eq!(scene.replica.limit_figures().request_throttle_waits, 1);
        assert!(scene.replica.revalidate_for_learner(scene.now, session, TIMEOUT_MS, FIRST));
        scene.made();
        scene.settle();
        assert_eq!(scene.made().len(), made);
        assert!(!scene.exists("/late"));
        assert_eq!(scene.replies(conn), []);
        assert!(scene.is_closed(conn, CloseHow::AfterFlush));
    }
}

#[test]
fn a_client_that_comes_back_here_is_served_here_again() {
    let mut scene = Scene::leading(1, limits(|_| {}));
    let session = {
        let conn = scene.connect(0);
        scene.replica.session_of(conn)
    };
    let frame = create(5, "/n");
    let request = ForwardedRequest { session, ..forwarded(5, OpCode::Create, record(&frame)) };
    assert_eq!(scene.forward(request).3, ErrorCode::SessionMoved.code());
    assert!(scene.replica.revalidate_for_learner(scene.now, session, TIMEOUT_MS, FIRST));
    assert_eq!(scene.forward(request).3, 0);
    let conn = scene.connect_as(1, session);
    scene.effects.clear();
    assert_eq!(scene.forward(request).3, ErrorCode::SessionMoved.code());
    scene.send(conn, &[exists(6, "/n")]);
    scene.settle();
    assert_eq!(scene.xids(conn), [6]);
}

#[test]
fn a_new_leader_takes_sessions_as_they_come() {
    let mut scene = Scene::leading(1, limits(|_| {}));
    let conn = scene.connect(0);
    scene.learner_session();
    scene.settle();
    scene.effects.clear();
    let moved = scene.replica.session_of(conn);
    scene.replica.resign(&mut scene.effects);
    scene.replica.lead_epoch(scene.now, Epoch(2));
    scene.replica.check();
    let frame = create(1, "/a");
    let request = forwarded(1, OpCode::Create, record(&frame));
    let made = scene.forward(ForwardedRequest { owner: SECOND, ..request });
    assert_eq!((made.3, scene.logged), (0, Zxid::new(Epoch(2), 1)));
    // The connection is still here, its client may be elsewhere: it shows by who asks first.
    let made =
        scene.forward(ForwardedRequest { session: moved, ..forwarded(2, OpCode::Sync, b"") });
    assert_eq!(made.3, ErrorCode::Unimplemented.code(), "that is no use of it");
    scene.send(conn, &[create(2, "/b")]);
    scene.settle();
    assert_eq!(scene.xids(conn), [2]);
    let made = scene.forward(ForwardedRequest { session: moved, ..request });
    assert_eq!(made.3, ErrorCode::SessionMoved.code());
}

#[test]
fn sessions_of_learners_live_as_long_as_they_are_heard_of() {
    let mut scene = Scene::leading(1, limits(|_| {}));
    scene.learner_session();
    scene.settle();
    for _ in 0..10 {
        scene.pass(TIMEOUT_MS as u64 * 2 / 3);
        scene.replica.touched_by_learner(scene.now, SESSION, TIMEOUT_MS);
        scene.handle(Input::Tick);
    }
    assert_eq!(scene.made(), []);
    assert!(scene.replica.revalidate_for_learner(scene.now, SESSION, TIMEOUT_MS, SECOND));
    scene.pass(TIMEOUT_MS as u64 + 1000);
    // A server that comes late waits once more.
    scene.handle(Input::Tick);
    scene.pass(1000);
    scene.handle(Input::Tick);
    assert_eq!(scene.made(), [(SESSION, 0, TxnType::CloseSession, 0)]);
    scene.replica.touched_by_learner(scene.now, SESSION, TIMEOUT_MS);
    assert!(!scene.replica.revalidate_for_learner(scene.now, SESSION, TIMEOUT_MS, FIRST));
    scene.settle();
    assert_eq!(scene.replica.session_count(), 0);
    scene.replica.touched_by_learner(scene.now, SESSION, TIMEOUT_MS);
    assert!(!scene.replica.revalidate_for_learner(scene.now, SESSION, TIMEOUT_MS, FIRST));
}

#[test]
fn only_a_server_that_leads_judges_what_learners_forward() {
    let asks: [fn(&mut Scene); 3] = [
        |scene| scene.learner_session(),
        |scene| scene.replica.touched_by_learner(scene.now, SESSION, 1),
        |scene| {
            scene.replica.revalidate_for_learner(scene.now, SESSION, 1, FIRST);
        },
    ];
    for (at, ask) in asks.into_iter().enumerate() {
        let mut scene = Scene::leading(1, limits(|_| {}));
        scene.replica.resign(&mut scene.effects);
        let attempt = std::panic::AssertUnwindSafe(|| ask(&mut scene));
        assert!(std::panic::catch_unwind(attempt).is_err(), "{at}");
    }
}

/// What a member has to read of its leader is bounded. Without the list each member ends the nodes
/// that its own tree has for the session.
#[test]
fn the_end_of_a_session_carries_no_list_that_does_not_fit() {
    for limit in [400, 10_000] {
        let mut scene = Scene::leading(1, limits(|_| {}));
        let mut options = scene.replica.options().clone();
        options.leader.prepare.txn_bytes_max = limit;
        let tree = Tree::new(scene.replica.tree().options());
        scene.replica = Replica::for_tests(scene.now, options, Restored::fresh(tree));
        scene.replica.lead_epoch(scene.now, Epoch(1));
        scene.learner_session();
        for number in 0..50 {
            let frame = request(1, OpCode::Create, |out| {
                put_str(out, &format!("/ephemeral{number:02}"));
                put_buffer(out, Some(b""));
                out.extend_from_slice(ACL_OPEN_BYTES);
                put_i32(out, 1);
            });
            let made = scene.forward(forwarded(number, OpCode::Create, record(&frame)));
            assert_eq!(made.3, 0);
        }
        let close = scene.forward(forwarded(99, OpCode::CloseSession, &[]));
        assert_eq!(close, (SESSION, 99, TxnType::CloseSession, 0));
        let entry = scene.replica.tail().last().unwrap().iter().last().unwrap().1.to_vec();
        let listed = entry.windows(10).filter(|bytes| bytes == b"/ephemeral").count();
        assert_eq!(listed, if limit == 400 { 0 } else { 50 });
        assert!(entry.len() <= limit + TxnHeader::SIZE);
        scene.settle();
        assert!((0..50).all(|number| !scene.exists(&format!("/ephemeral{number:02}"))));
        assert_eq!(scene.replica.tree().ephemerals(SESSION).count(), 0);
    }
}

/// Whatever a learner forwards is one transaction, and leaves the server whole.
#[test]
fn random_requests_of_learners_are_one_transaction_each() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::leading(1, limits(|limits| limits.eager_acl = seed % 2 == 0));
        let local = scene.connect(0);
        let sessions = [SessionId(0), SESSION, SessionId(-7), scene.replica.session_of(local)];
        for cxid in 0..300 {
            let path = format!("/{}", rng.below(5));
            let frame = match rng.below(4) {
                0 => create(1, &path),
                1 => delete(1, &path),
                2 => set_data(1, &path, 3),
                _ => request(1, OpCode::CreateSession, |out| put_i32(out, rng.below(9_000) as i32)),
            };
            let op = i32::from_be_bytes(frame[8..12].try_into().unwrap());
            let mut op = OpCode::from_code(op).unwrap();
            if rng.chance(1, 4) {
                op = OpCode::ALL[rng.below(OpCode::ALL.len() as u64) as usize];
            }
            let mut body = record(&frame).to_vec();
            if rng.chance(1, 4) {
                body.truncate(rng.below(body.len() as u64 + 1) as usize);
            }
            let owner = [Owner::Here, FIRST, SECOND][rng.below(3) as usize];
            let session = sessions[rng.below(4) as usize];
            scene.forward(ForwardedRequest { session, owner, ..forwarded(cxid, op, &body) });
            if rng.chance(1, 10) {
                scene.settle();
                scene.effects.clear();
            }
        }
        scene.settle();
    }
}
