//! Histories known to be right or wrong, and what the checkers make of them.

use super::*;
use crate::base::Xid;
use crate::member::Role;
use crate::wire::{TxnType, put_i32};

/// The start of a session, as a log has it.
fn entry(zxid: Zxid, session: i64) -> Vec<u8> {
    let mut entry = Vec::new();
    let (session, kind) = (SessionId(session), TxnType::CreateSession);
    let header = TxnHeader { session, cxid: Xid(0), zxid, time_ms: 5, kind };
    header.encode_into(&mut entry);
    put_i32(&mut entry, 4000);
    entry
}

fn at(epoch: i32, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

/// Three members that have logged, of epoch 1, transactions 1 to 3; the session of each has the
/// transaction's number. All of it is on their disks.
fn history() -> History {
    let mut history = History::new(3, 3);
    for member in 0..3 {
        for counter in 1..=3 {
            history.logged(member, &entry(at(1, counter), i64::from(counter))).unwrap();
        }
        history.advanced(member, at(1, 3), Zxid::ZERO).unwrap();
    }
    history
}

/// Members get this transaction, and have it on their disks.
fn spread_out(history: &mut History, members: &[usize], zxid: Zxid, entry: &[u8]) {
    for &member in members {
        history.logged(member, entry).unwrap();
        let checked = Zxid(history.members[member].checked);
        history.advanced(member, zxid, checked).unwrap();
    }
}

#[test]
fn members_that_commit_the_same_in_turn_are_right() {
    let mut history = history();
    for (member, counter) in [(0, 1), (1, 3), (0, 2), (2, 3), (0, 3)] {
        history.advanced(member, at(1, 3), at(1, counter)).unwrap();
    }
    assert_eq!(history.model.last, at(1, 3).0);
    assert_eq!(history.model.sessions(at(1, 2).0).len(), 2);
    // A next leader goes on in its epoch.
    spread_out(&mut history, &[2, 0], at(2, 1), &entry(at(2, 1), 4));
    for member in [2, 0] {
        history.advanced(member, at(2, 1), at(2, 1)).unwrap();
    }
    history.revealed(at(2, 1).0).unwrap();
    history.revealed(at(3, 0).0).unwrap();
    history.revealed(at(2, 2).0).unwrap_err();
}

#[test]
fn another_transaction_under_the_same_number_is_noticed() {
    let mut history = history();
    history.advanced(0, at(1, 3), at(1, 2)).unwrap();
    history.log_changed(1, &LogChange::Truncate { keep: at(1, 1) }).unwrap();
    history.logged(1, &entry(at(1, 2), 77)).unwrap();
    history.advanced(1, at(1, 2), at(1, 1)).unwrap();
    history.advanced(1, at(1, 2), at(1, 2)).unwrap_err();
}

#[test]
fn a_committed_transaction_that_another_member_passes_over_is_noticed() {
    for is_first in [true, false] {
        let mut history = history();
        if !is_first {
            history.advanced(0, at(1, 3), at(1, 3)).unwrap();
        }
        for member in [1, 2] {
            history.log_changed(member, &LogChange::Truncate { keep: at(1, 2) }).unwrap();
        }
        spread_out(&mut history, &[1, 2], at(2, 1), &entry(at(2, 1), 4));
        let outcome = history.advanced(1, at(2, 1), at(2, 1));
        assert_eq!(outcome.is_ok(), is_first, "{outcome:?}");
        if is_first {
            history.advanced(0, at(1, 3), at(1, 3)).unwrap_err();
        }
    }
    let mut history = history();
    history.advanced(0, at(1, 3), at(1, 3)).unwrap();
    history.log_changed(1, &LogChange::Truncate { keep: at(1, 2) }).unwrap();
    // It claims a place that its log does not reach.
    history.advanced(1, at(1, 2), at(1, 3)).unwrap_err();
}

#[test]
fn what_is_committed_stays_in_the_log() {
    let keep = at(1, 1);
    let mut history = history();
    history.advanced(0, at(1, 3), at(1, 2)).unwrap();
    history.log_changed(0, &LogChange::Truncate { keep }).unwrap_err();
    history.log_changed(0, &LogChange::Retire { snapshot: keep }).unwrap_err();
    history.advanced(0, at(1, 3), at(1, 1)).unwrap_err();
    // A snapshot that another member sends holds committed state.
    history.log_changed(1, &LogChange::Retire { snapshot: at(1, 3) }).unwrap_err();
    history.log_changed(2, &LogChange::Retire { snapshot: at(1, 2) }).unwrap();
    history.logged(2, &entry(at(1, 3), 3)).unwrap();
    history.advanced(2, at(1, 3), at(1, 3)).unwrap();
}

#[test]
fn a_start_finds_a_change_that_was_under_way_or_does_not() {
    let change = LogChange::Truncate { keep: at(1, 2) };
    for (last, durable) in [(at(1, 2), at(1, 2)), (at(1, 3), at(1, 3))] {
        let mut history = history();
        history.advanced(0, at(1, 3), at(1, 1)).unwrap();
        history.log_changing(0, change);
        history.find_change(0, last.0, at(1, 1).0).unwrap();
        assert_eq!(history.members[0].durable, durable.0);
    }
    // It would take back what is committed.
    let mut history = history();
    history.advanced(0, at(1, 3), at(1, 3)).unwrap();
    history.log_changing(0, change);
    history.find_change(0, at(1, 2).0, at(1, 2).0).unwrap_err();
}

#[test]
fn a_log_has_no_gaps() {
    let mut history = history();
    history.logged(0, &entry(at(1, 5), 5)).unwrap_err();
    history.logged(0, &entry(at(1, 3), 3)).unwrap_err();
    history.logged(0, &entry(at(2, 2), 5)).unwrap_err();
}

#[test]
fn what_a_member_commits_first_is_on_the_disks_of_a_quorum() {
    let mut history = history();
    let (zxid, news) = (at(1, 4), entry(at(1, 4), 4));
    spread_out(&mut history, &[0], zxid, &news);
    // It has reached another one, but not its disk.
    history.logged(1, &news).unwrap();
    history.advanced(0, zxid, zxid).unwrap_err();
    let mut history = self::history();
    spread_out(&mut history, &[0, 1], zxid, &news);
    history.advanced(0, zxid, zxid).unwrap();
}

#[test]
fn an_epoch_is_served_in_when_a_quorum_has_entered_it() {
    let mut history = history();
    history.entered(0, Epoch(2));
    history.entered(1, Epoch(1));
    history.serves(Epoch(2), Role::Leading).unwrap_err();
    // A learner may be the first, but not by two epochs.
    history.serves(Epoch(2), Role::Following).unwrap();
    history.serves(Epoch(3), Role::Following).unwrap_err();
    history.entered(1, Epoch(2));
    history.serves(Epoch(2), Role::Leading).unwrap();
}

#[test]
fn a_write_comes_behind_what_was_seen_when_it_was_asked_for() {
    let mut history = history();
    let (session, zxid, kind) = (SessionId(1), at(1, 4), TxnType::Error);
    let mut refused = Vec::new();
    TxnHeader { session, cxid: Xid(9), zxid, time_ms: 5, kind }.encode_into(&mut refused);
    put_i32(&mut refused, ErrorCode::NoNode.code());
    spread_out(&mut history, &[0, 1], zxid, &refused);
    history.advanced(0, zxid, at(1, 3)).unwrap();
    let asks = |history: &mut History| {
        history.asked(session, 9, Op::Delete { path: "/none".into(), version: -1 });
    };
    history.revealed(at(1, 3).0).unwrap();
    asks(&mut history);
    history.advanced(0, zxid, zxid).unwrap();
    // Somebody had seen a later place by then.
    let mut late = self::history();
    spread_out(&mut late, &[0, 1], zxid, &refused);
    late.revealed = zxid.0;
    asks(&mut late);
    late.advanced(0, zxid, zxid).unwrap_err();
}

#[test]
fn a_session_that_ends_too_early_counts_once_that_is_committed() {
    let mut history = history();
    history.vigil.plays(1_000_000, 0, Some(Role::Leading));
    history.advanced(0, at(1, 3), at(1, 3)).unwrap();
    let (session, zxid, kind) = (SessionId(1), at(1, 4), TxnType::CloseSession);
    let mut end = Vec::new();
    TxnHeader { session, cxid: Xid(0), zxid, time_ms: 5, kind }.encode_into(&mut end);
    put_i32(&mut end, 0);
    history.now = 3_000_000_000;
    spread_out(&mut history, &[0, 1], zxid, &end);
    history.advanced(0, zxid, zxid).unwrap_err();
    let mut history = self::history();
    history.vigil.plays(1_000_000, 0, Some(Role::Leading));
    history.advanced(0, at(1, 3), at(1, 3)).unwrap();
    history.now = 6_000_000_000;
    spread_out(&mut history, &[0, 1], zxid, &end);
    history.advanced(0, zxid, zxid).unwrap();
}
