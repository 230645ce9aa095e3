//! The next epoch in place, on the leader's side.

use super::*;

/// The numbers start again when a quorum has entered the epoch, and not before everything of
/// the epoch before is committed.
#[test]
fn the_next_epoch_begins_in_place() {
    let mut script = Script::new(3);
    script.introduce(B, 3);
    script.stored(EpochFile::Accepted, 2);
    script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    script.stored(EpochFile::Current, 2);
    script.packet(B, PacketKind::Ack, z(2, 0));
    assert!(script.machine.can_renew());
    script.propose(&[z(2, 1)]);
    assert!(script.input(LeadInput::Renew).is_empty(), "2|1 is not committed");
    script.input(LeadInput::Logged(z(2, 1)));
    let committed = script.packet(B, PacketKind::Ack, z(2, 1));
    // The epoch is offered behind the commit, and while this server's disk takes it.
    let next = format!("2: {NEXT_EPOCH:?} 300000000");
    let wanted = ["committed 200000001", "store Accepted 3", "2: Commit 200000001", &next];
    assert_eq!(committed, wanted);
    assert!(script.packet(B, PacketKind::Ack, z(3, 0)).is_empty(), "this server has not");
    assert_eq!(script.stored(EpochFile::Accepted, 3), ["store Current 3"]);
    assert_eq!(script.stored(EpochFile::Current, 3), ["serve 3"]);
    script.propose(&[z(3, 1)]);
    script.input(LeadInput::Logged(z(3, 1)));
    let committed = script.packet(B, PacketKind::Ack, z(3, 1));
    assert_eq!(committed, ["committed 300000001", "2: Commit 300000001"]);
}

#[test]
fn an_epoch_with_a_learner_of_apache_ends_by_an_election() {
    assert!(!Script::established().machine.can_renew());
}

#[test]
fn a_leader_that_ends_says_so_to_learners_of_ours() {
    let mut script = Script::established();
    script.introduce(B, 3);
    script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    assert_eq!(script.input(LeadInput::Leave), [format!("2: {FAREWELL:?} ffffffffffffffff")]);
}

/// It would enter the epoch without what it was not sent, and win elections.
#[test]
fn a_learner_that_was_not_sent_everything_does_not_enter_the_next_epoch() {
    let mut script = Script::with(3, 1 << 20, TICK * 20);
    for (link, sid) in [(A, 2), (B, 3)] {
        script.introduce(link, sid);
    }
    script.stored(EpochFile::Accepted, 2);
    for link in [A, B] {
        script.answer(link, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    }
    script.stored(EpochFile::Current, 2);
    for link in [A, B] {
        script.packet(link, PacketKind::Ack, z(2, 0));
    }
    script.input(LeadInput::Room(A, 0));
    script.propose(&[z(2, 1)]);
    script.packet(B, PacketKind::Ack, z(2, 1));
    assert!(script.machine.can_renew());
    assert!(script.input(LeadInput::Renew).is_empty(), "2|1 is not on this server's disk");
    let logged = script.input(LeadInput::Logged(z(2, 1)));
    assert_eq!(logged[..2], ["committed 200000001", "store Accepted 3"]);
    // Nobody takes the leader for gone meanwhile.
    let deadline = script.machine.deadline().unwrap();
    assert!(deadline <= script.now.mono + TICK);
    let next = format!("2: {NEXT_EPOCH:?} 300000000");
    assert!(logged.contains(&next), "{logged:?}");
    let told = script.stored(EpochFile::Accepted, 3);
    let told = || logged.iter().chain(&told);
    assert!(!told().any(|line| line.starts_with("1: Unknown")));
    assert!(told().any(|line| line.starts_with("1: closed")));
}

/// The quorum is looked at when a voter that counts is lost, not when anybody hangs up.
#[test]
fn a_stranger_that_hangs_up_ends_no_term() {
    let mut script = Script::established();
    script.input(LeadInput::Opened(B));
    assert!(script.input(LeadInput::Closed(B)).is_empty());
    assert!(script.machine.is_established());
}
