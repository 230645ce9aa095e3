//! A leader without clients, log or tree of its own.

use crate::auth::{Auth, AuthOptions, Identities};
use crate::base::{Epoch, Instant, LinkId, Now, SessionId, Xid, Zxid};
use crate::pipeline::PrepareOptions;
use crate::session::{Claim, Owner};
use crate::tree::{Tree, TreeOptions};
use crate::wire::{
    AclBytes, Create, ErrorCode, MultiOp, OpCode, Reader, SetData, Txn, TxnHeader, TxnType,
    put_buffer, put_str,
};

use super::{Asker, Leader, LeaderOptions, Numbering, Proposed, View};

const NOW: Now = Now { mono: Instant(1_000_000_000), wall_ms: 7 };

fn tree() -> Tree {
    Tree::new(TreeOptions { digest: false, ..TreeOptions::STOCK })
}

fn leader(last: Zxid) -> Leader {
    numbering(Numbering::After(last))
}

fn numbering(numbering: Numbering) -> Leader {
    Leader::new(NOW, LeaderOptions::default(), numbering, std::iter::empty())
}

fn create_session(leader: &mut Leader, session: SessionId) -> Proposed {
    leader.create_session(NOW, session, Xid(0), 4000, Owner::Here).1
}

#[test]
fn a_lone_server_counts_on_into_the_next_epoch() {
    let last = Zxid::new(Epoch(3), u32::MAX - 2);
    let mut leader = leader(last);
    let mut zxids = Vec::new();
    assert!(!leader.is_epoch_spent(), "nobody takes over from it");
    for number in 0..4 {
        let session = SessionId(100 + number);
        zxids.push(create_session(&mut leader, session).zxid);
    }
    let wanted = [
        Zxid::new(Epoch(3), u32::MAX - 1),
        Zxid::new(Epoch(3), u32::MAX),
        Zxid::new(Epoch(4), 0),
        Zxid::new(Epoch(4), 1),
    ];
    assert_eq!(zxids, wanted);
    let batch = leader.take_batch(last).unwrap();
    assert_eq!(batch.iter().map(|(zxid, _)| zxid).collect::<Vec<_>>(), wanted);
    for zxid in wanted {
        leader.check();
        let prepared = leader.begin_apply(zxid);
        leader.end_apply(&prepared);
    }
    leader.check();
}

#[test]
fn the_leader_of_an_ensemble_stays_in_its_epoch() {
    let mut leader = numbering(Numbering::In(Epoch(3)));
    let before = Zxid::new(Epoch(2), 77);
    assert!(leader.follows(before) && !leader.is_epoch_spent());
    let first = create_session(&mut leader, SessionId(100));
    assert_eq!(first.zxid, Zxid::new(Epoch(3), 1));
    assert!(leader.follows(first.zxid) && !leader.follows(before));

    let near_end = u32::MAX - (1 << 20);
    leader.last = Zxid::new(Epoch(3), near_end - 2);
    let mut spent = Vec::new();
    for number in 101..104 {
        create_session(&mut leader, SessionId(number));
        spent.push(leader.is_epoch_spent());
    }
    assert_eq!(spent, [false, true, true]);

    leader.last = Zxid::new(Epoch(3), u32::MAX - 1);
    let last = create_session(&mut leader, SessionId(104));
    assert_eq!(last.zxid, Zxid::new(Epoch(3), u32::MAX));
    let beyond = std::panic::AssertUnwindSafe(|| {
        create_session(&mut leader, SessionId(105));
    });
    assert!(std::panic::catch_unwind(beyond).is_err(), "the next epoch is another leader's");
}

#[test]
fn a_term_begins_with_the_sessions_of_the_committed_state() {
    let sessions = [(SessionId(5), 4000), (SessionId(6), 60_000)];
    let options = LeaderOptions::default();
    let mut leader = Leader::new(NOW, options, Numbering::After(Zxid(9)), sessions.into_iter());
    let (mut expired, mut at) = (Vec::new(), NOW);
    assert!(leader.find_open(SessionId(5)).is_some());
    while expired.is_empty() {
        at.mono = leader.deadline();
        leader.expired(at, &mut expired);
    }
    assert_eq!(expired, [SessionId(5)]);
    assert!(at.mono.since(NOW.mono).as_millis() >= 4000, "each gets its whole timeout");
    let (tree, auth) = (tree(), Auth::new(AuthOptions::default()).unwrap());
    let view = View { tree: &tree, auth: &auth };
    let (proposed, _) = leader.close_session(at, view, SessionId(5), Xid(0));
    assert_eq!(proposed.zxid, Zxid(10));
    assert!(leader.find_open(SessionId(5)).is_none());
}

#[test]
fn a_session_of_the_term_before_is_the_first_ones_that_asks() {
    let learner = Owner::Learner(LinkId(7));
    let sessions = [(SessionId(5), 4000), (SessionId(6), 4000)];
    let (options, numbering) = (LeaderOptions::default(), Numbering::In(Epoch(2)));
    let mut leader = Leader::new(NOW, options, numbering, sessions.into_iter());
    assert_eq!(leader.claim(SessionId(5), learner), Claim::Granted);
    assert_eq!(leader.claim(SessionId(5), Owner::Here), Claim::Moved);
    let slot = leader.find(SessionId(6)).unwrap();
    assert_eq!(leader.admit(slot, 4000, NOW.mono), Claim::Granted);
    assert_eq!(leader.claim(SessionId(6), learner), Claim::Moved);
    assert_eq!(leader.revalidate(NOW, SessionId(6), 4000, learner), Some(slot));
    assert_eq!(leader.admit(slot, 4000, NOW.mono), Claim::Moved);
    assert_eq!(leader.claim(SessionId(7), learner), Claim::Gone);
    assert_eq!(leader.revalidate(NOW, SessionId(7), 4000, learner), None);
}

#[test]
fn a_session_that_closes_is_not_created_anew() {
    let mut leader = leader(Zxid(9));
    let (tree, auth) = (tree(), Auth::new(AuthOptions::default()).unwrap());
    let learner = Owner::Learner(LinkId(7));
    create_session(&mut leader, SessionId(5));
    leader.create_session(NOW, SessionId(5), Xid(0), 4000, learner);
    assert_eq!(leader.claim(SessionId(5), learner), Claim::Granted, "it asked once more");
    leader.close_session(NOW, View { tree: &tree, auth: &auth }, SessionId(5), Xid(3));
    leader.create_session(NOW, SessionId(5), Xid(0), 4000, learner);
    assert_eq!(leader.claim(SessionId(5), learner), Claim::Gone);
    assert_eq!(leader.revalidate(NOW, SessionId(5), 4000, learner), None);
    let batch = leader.take_batch(Zxid(9)).unwrap();
    let kinds = batch
        .iter()
        .map(|(_, entry)| TxnHeader::decode_from(&mut Reader::new(entry)).unwrap().kind);
    let wanted =
        [TxnType::CreateSession, TxnType::CreateSession, TxnType::CloseSession, TxnType::Error];
    assert_eq!(kinds.collect::<Vec<_>>(), wanted);
}

#[test]
fn transactions_of_the_term_before_are_unknown_to_it() {
    let mut leader = leader(Zxid(9));
    let (tree, auth) = (tree(), Auth::new(AuthOptions::default()).unwrap());
    let view = View { tree: &tree, auth: &auth };
    let identities = &Identities::none();
    let asker = Asker { session: SessionId(1), identities, xid: Xid(1), refused: None };
    let refused = leader.transact(NOW, view, asker, |_, _| Err(ErrorCode::NoNode));
    assert_eq!((refused.zxid, refused.exceeds_quota), (Zxid(10), false));
    assert!(!leader.begin_apply(Zxid(9)).hint.is_some());
    leader.begin_apply(Zxid(10));
    let order = std::panic::AssertUnwindSafe(|| {
        leader.transact(NOW, view, asker, |_, _| Err(ErrorCode::NoNode));
        leader.begin_apply(Zxid(12));
    });
    assert!(std::panic::catch_unwind(order).is_err(), "11 was passed over");
}

/// A leader whose transactions may take `bytes`.
fn narrow(bytes: usize) -> Leader {
    let prepare = PrepareOptions { txn_bytes_max: bytes, ..PrepareOptions::default() };
    let options = LeaderOptions { prepare, ..LeaderOptions::default() };
    Leader::new(NOW, options, Numbering::After(Zxid(9)), std::iter::empty())
}

fn new_node<'a>(path: &'a str, data: &'a [u8]) -> Create<'a> {
    let (path, acl) = (Some(path.into()), AclBytes::OPEN);
    Create { path, data: Some(data), acl, flags: 0, ttl: -1 }
}

/// Type, error and length of the last transaction, which is applied: it has left nothing pending.
fn last(leader: &mut Leader) -> (TxnType, i32, usize) {
    let batch = leader.take_batch(Zxid(9)).unwrap();
    let (zxid, entry) = batch.iter().last().unwrap();
    let mut reader = Reader::new(entry);
    let header = TxnHeader::decode_from(&mut reader).unwrap();
    let err = match Txn::decode_from(header.kind, &mut reader).unwrap() {
        Txn::Error { err } => err,
        _ => 0,
    };
    let prepared = leader.begin_apply(zxid);
    leader.end_apply(&prepared);
    leader.check();
    (header.kind, err, entry.len() - TxnHeader::SIZE)
}

#[test]
fn no_transaction_is_larger_than_members_take() {
    let (tree, auth) = (tree(), Auth::new(AuthOptions::default()).unwrap());
    let view = View { tree: &tree, auth: &auth };
    let identities = &Identities::none();
    let asker = Asker { session: SessionId(1), identities, xid: Xid(1), refused: None };
    let mut leader = narrow(400);
    let refused = (TxnType::Error, ErrorCode::MarshallingError.code(), 4);
    for (size, fits) in [(200, true), (400, false)] {
        let data = vec![7; size];
        let create = new_node("/a", &data);
        leader.transact(NOW, view, asker, |p, entry| p.create(OpCode::Create, &create, entry));
        let made = last(&mut leader);
        assert_eq!(made == refused, !fits, "{made:?}");

        let mut encoded = Vec::new();
        put_str(&mut encoded, "/zookeeper");
        put_buffer(&mut encoded, Some(&data));
        let set = SetData {
            path: Some(b"/zookeeper"),
            data: Some(&data),
            version: -1,
            encoded: &encoded,
        };
        leader.transact(NOW, view, asker, |p, entry| p.set_data(&set, entry));
        assert_eq!(last(&mut leader) == refused, !fits);

        // Each part fits for itself.
        let half = &data[size / 2..];
        let ops = ["/a", "/b"].map(|path| MultiOp::Create(OpCode::Create, new_node(path, half)));
        leader.multi(NOW, view, asker, Ok(ops.clone().into_iter()), &mut |_| {});
        let made = last(&mut leader);
        assert_eq!(made == refused, !fits, "{made:?}");
        assert!(made.2 <= 400);
    }
}

/// COMPAT(3.8.0, 3.8.1): they would leave out the rest of the multi.
#[test]
fn a_create2_in_a_multi_is_logged_as_a_create_if_members_need_that() {
    let (tree, auth) = (tree(), Auth::new(AuthOptions::default()).unwrap());
    let view = View { tree: &tree, auth: &auth };
    let identities = &Identities::none();
    let asker = Asker { session: SessionId(1), identities, xid: Xid(1), refused: None };
    let create2 = || MultiOp::Create(OpCode::Create2, new_node("/a", b"x"));
    let container = Create { flags: 4, ..new_node("/c", b"x") };
    let ops = [create2(), MultiOp::Create(OpCode::Create2, container)];
    for (create2_in_multi, first) in [(true, TxnType::Create2), (false, TxnType::Create)] {
        let prepare = PrepareOptions { create2_in_multi, ..PrepareOptions::default() };
        let options = LeaderOptions { prepare, ..LeaderOptions::default() };
        let mut leader = Leader::new(NOW, options, Numbering::After(Zxid(9)), std::iter::empty());
        leader.multi(NOW, view, asker, Ok(ops.clone().into_iter()), &mut |_| {});
        let batch = leader.take_batch(Zxid(9)).unwrap();
        let mut reader = Reader::new(batch.get(0).unwrap().1);
        TxnHeader::decode_from(&mut reader).unwrap();
        let Ok(Txn::Multi(multi)) = Txn::decode_from(TxnType::Multi, &mut reader) else {
            panic!("a multi");
        };
        let kinds: Vec<TxnType> = multi.iter().map(|sub| sub.kind).collect();
        assert_eq!(kinds, [first, TxnType::CreateContainer]);
    }
}
