//! A leader without clients, log or tree of its own.

use std::net::SocketAddr;

use crate::auth::{Auth, AuthOptions, Identities};
use crate::base::{Epoch, Instant, Now, SessionId, Xid, Zxid};
use crate::tree::{Tree, TreeOptions};
use crate::wire::ErrorCode;

use super::{Asker, Leader, LeaderOptions, View};

const NOW: Now = Now { mono: Instant(1_000_000_000), wall_ms: 7 };
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

fn tree() -> Tree {
    Tree::new(TreeOptions {
        extended_types: false,
        emulate_353_ttl: false,
        digest: false,
        hash_seed: 1,
    })
}

fn leader(last: Zxid) -> Leader {
    Leader::new(NOW, LeaderOptions::default(), last, std::iter::empty())
}

#[test]
fn the_counter_rolls_over_into_the_next_epoch() {
    let last = Zxid::new(Epoch(3), u32::MAX - 2);
    let mut leader = leader(last);
    let mut zxids = Vec::new();
    for number in 0..4 {
        let session = SessionId(100 + number);
        zxids.push(leader.create_session(NOW, session, 4000, PEER).1.zxid);
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
fn a_term_begins_with_the_sessions_of_the_committed_state() {
    let sessions = [(SessionId(5), 4000), (SessionId(6), 60_000)];
    let options = LeaderOptions::default();
    let mut leader = Leader::new(NOW, options, Zxid(9), sessions.into_iter());
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
fn transactions_of_the_term_before_are_unknown_to_it() {
    let mut leader = leader(Zxid(9));
    let (tree, auth) = (tree(), Auth::new(AuthOptions::default()).unwrap());
    let view = View { tree: &tree, auth: &auth };
    let identities = &Identities::none();
    let asker = Asker { session: SessionId(1), identities, xid: Xid(1) };
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
