//! Rules of a learner.

use super::*;
use crate::base::LifelineKey;

struct Script {
    machine: Learning,
    effects: Effects,
}

fn standing(logged: Zxid, committed: Zxid) -> Standing {
    let (accepted, current) = (Epoch(1), Epoch(1));
    Standing { accepted, current, logged, committed, needs_snapshot: false }
}

impl Script {
    fn new(standing: Standing) -> Script {
        Script::with(standing, |_| {})
    }

    fn with(standing: Standing, change: impl FnOnce(&mut LearningOptions)) -> Script {
        let mut options = LearningOptions {
            sid: ServerId(3),
            is_observer: false,
            tick: TICK,
            init_limit: 10,
            sync_limit: 5,
            config_version: 0,
            is_plain: false,
            is_patient: false,
            lifeline_key: LifelineKey(3),
        };
        change(&mut options);
        let machine = Learning::new(Now::default(), options, standing);
        let mut script = Script { machine, effects: Effects::default() };
        script.input(LearnInput::Connected(LinkId(1)));
        script
    }

    fn input(&mut self, input: LearnInput<'_>) -> Vec<String> {
        self.machine.handle(Now::default(), input, &mut self.effects);
        self.machine.flush(&mut self.effects);
        self.machine.check();
        told(&mut self.effects)
    }

    fn packet(&mut self, kind: PacketKind, zxid: Zxid) -> Vec<String> {
        self.input(LearnInput::Packet(Packet::bare(kind, zxid)))
    }

    /// The leader goes on in epoch 3 after this transaction.
    fn next_epoch(&mut self, last: Zxid) -> Vec<String> {
        let data = last.0.to_be_bytes();
        self.input(LearnInput::Packet(Packet::with(NEXT_EPOCH, z(3, 0), &data)))
    }

    fn proposal(&mut self, zxid: Zxid) -> Vec<String> {
        let entry = entry(zxid);
        self.input(LearnInput::Packet(Packet::with(PacketKind::Proposal, zxid, &entry)))
    }

    /// Through discovery into epoch 2 of a leader of Apache's.
    fn discovered(standing: Standing) -> Script {
        let mut script = Script::new(standing);
        script.leader_info(2, &leader_info());
        script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(2)));
        script
    }

    fn leader_info(&mut self, epoch: i32, data: &[u8]) -> Vec<String> {
        let packet = Packet::with(PacketKind::LeaderInfo, z(epoch, 0), data);
        self.input(LearnInput::Packet(packet))
    }

    /// And into the broadcast, with `logged` as history.
    fn following(standing: Standing) -> Script {
        Script::following_a(&leader_info(), standing)
    }

    /// The same with a leader of ours.
    fn following_ours(standing: Standing) -> Script {
        let mut data = leader_info().to_vec();
        Features::ours(true).encode_into(&mut data);
        Script::following_a(&data, standing)
    }

    fn following_a(leader_info: &[u8], standing: Standing) -> Script {
        let mut script = Script::new(standing);
        script.leader_info(2, leader_info);
        script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(2)));
        script.packet(PacketKind::Diff, standing.logged);
        script.packet(PacketKind::NewLeader, z(2, 0));
        script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(2)));
        script.packet(PacketKind::UpToDate, Zxid(-1));
        script
    }
}

/// The sequence that was observed with a server of Apache's: two committed transactions, and
/// one that is outstanding.
#[test]
fn history_then_epoch_then_acknowledgement() {
    let mut script = Script::new(standing(z(1, 5), z(1, 4)));
    assert_eq!(script.leader_info(2, &leader_info()), ["store Accepted 2"]);
    assert!(!script.machine.wants_packets(), "the promise is not durable yet");
    let stored = LearnInput::EpochStored(EpochFile::Accepted, Epoch(2));
    assert_eq!(script.input(stored), ["1: AckEpoch 100000005"]);
    assert!(script.packet(PacketKind::Diff, z(1, 7)).is_empty());
    assert_eq!(script.proposal(z(1, 6)), ["append 1 up to 100000006"]);
    assert!(script.packet(PacketKind::Commit, z(1, 6)).is_empty(), "no quorum has said so");
    script.proposal(z(1, 7));
    script.packet(PacketKind::Commit, z(1, 7));
    script.proposal(z(2, 1));
    assert!(script.packet(PacketKind::NewLeader, z(2, 0)).is_empty(), "it is not durable");
    assert!(script.input(LearnInput::Logged(z(1, 7))).is_empty());
    assert_eq!(script.input(LearnInput::Logged(z(2, 1))), ["store Current 2"]);
    assert!(script.packet(PacketKind::Ping, z(2, 1)).is_empty(), "nobody answers it now");
    let stored = LearnInput::EpochStored(EpochFile::Current, Epoch(2));
    assert_eq!(script.input(stored), ["1: Ack 200000000"]);
    assert!(script.packet(PacketKind::Commit, z(2, 1)).is_empty());
    let up_to_date = script.packet(PacketKind::UpToDate, Zxid(-1));
    let expected = ["1: Ack 200000000", "committed 200000001", "serve 2", "1: Ack 200000001"];
    assert_eq!(up_to_date, expected);
    assert!(script.machine.is_serving());
}

/// ZOOKEEPER-5094: Apache's learner applies what is committed between TRUNC and NEWLEADER without
/// logging it. If the connection breaks then, its memory has what its disk never gets.
#[test]
fn what_is_committed_behind_a_truncation_is_logged_before_anything_else_happens_to_it() {
    let mut script = Script::discovered(standing(z(1, 5), z(1, 4)));
    assert_eq!(script.packet(PacketKind::Trunc, z(1, 4)), ["truncate 100000004"]);
    script.input(LearnInput::Truncated(z(1, 4)));
    assert_eq!(script.proposal(z(2, 1)), ["append 1 up to 200000001"]);
    assert!(script.packet(PacketKind::Commit, z(2, 1)).is_empty(), "it is not applied");
    let told = script.input(LearnInput::Lost);
    let why = "the connection to the leader ended";
    assert_eq!(told, [format!("1: closed {why}"), format!("end: {why}")]);

    let mut script = Script::discovered(standing(z(1, 5), z(1, 4)));
    script.packet(PacketKind::Trunc, z(1, 4));
    script.input(LearnInput::Truncated(z(1, 4)));
    script.proposal(z(2, 1));
    script.packet(PacketKind::Commit, z(2, 1));
    assert!(script.packet(PacketKind::NewLeader, z(2, 0)).is_empty(), "it is not durable");
    assert_eq!(script.input(LearnInput::Logged(z(2, 1))), ["store Current 2"]);
}

#[test]
fn what_is_not_committed_at_new_leader_is_acknowledged_after_up_to_date() {
    let mut script = Script::discovered(standing(z(1, 5), z(1, 5)));
    script.packet(PacketKind::Diff, z(1, 5));
    script.proposal(z(2, 1));
    script.proposal(z(2, 2));
    script.packet(PacketKind::NewLeader, z(2, 0));
    script.input(LearnInput::Logged(z(2, 2)));
    script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(2)));
    script.proposal(z(2, 3));
    let up_to_date = script.packet(PacketKind::UpToDate, Zxid(-1));
    let expected = ["1: Ack 200000000", "serve 2", "1: Ack 200000001", "1: Ack 200000002"];
    assert_eq!(up_to_date, expected);
    assert_eq!(script.input(LearnInput::Logged(z(2, 3))), ["1: Ack 200000003"]);
}

#[test]
fn a_leader_of_ours_is_acknowledged_once_for_many() {
    let mut data = leader_info().to_vec();
    Features::ours(true).encode_into(&mut data);
    let mut script = Script::new(standing(z(1, 5), z(1, 4)));
    script.leader_info(2, &data);
    script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(2)));
    let early = script.packet(PacketKind::Diff, z(1, 5));
    assert_eq!(early, ["committed 100000005"], "a quorum has confirmed this leader");
    script.packet(PacketKind::NewLeader, z(2, 0));
    script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(2)));
    script.packet(PacketKind::UpToDate, Zxid(-1));
    for counter in 1..=3 {
        script.proposal(z(2, counter));
    }
    assert_eq!(script.input(LearnInput::Logged(z(2, 3))), ["1: Ack 200000003"]);
}

#[test]
fn epochs_that_are_promised() {
    let mut script = Script::new(standing(z(1, 5), z(1, 5)));
    assert_eq!(script.leader_info(1, &leader_info()), ["1: AckEpoch 100000005"]);
    let mut script = Script::new(standing(z(1, 5), z(1, 5)));
    let end = LearnerEnd::OldEpoch { offered: Epoch(0), promised: Epoch(1) };
    let told = script.leader_info(0, &leader_info());
    assert_eq!(told, [format!("1: closed {end}"), format!("end: {end}")]);
}

/// A server that promised an epoch to one leader does not help another one into the same.
#[test]
fn an_epoch_that_is_promised_twice_counts_once() {
    let mut script = Script::with(standing(z(1, 5), z(1, 5)), |options| options.is_plain = true);
    let data = leader_info();
    let info = Packet::with(PacketKind::LeaderInfo, z(1, 0), &data);
    let Script { machine, effects } = &mut script;
    machine.handle(Now::default(), LearnInput::Packet(info), effects);
    let packet = Packet::decode_from(&mut Reader::new(&effects.bytes)).unwrap();
    let answer = EpochAnswer::decode(packet.data.unwrap());
    assert_eq!(answer, Ok(EpochAnswer::AlreadyPromised));
}

#[test]
fn what_is_committed_is_never_given_up() {
    for (kind, zxid) in [(PacketKind::Trunc, z(1, 3)), (PacketKind::Snap, z(1, 3))] {
        let mut script = Script::discovered(standing(z(1, 5), z(1, 4)));
        let told = script.packet(kind, zxid);
        assert!(told[1].contains("that a quorum has acknowledged"), "{told:?}");
    }
    let mut script = Script::discovered(standing(z(1, 5), z(1, 4)));
    assert_eq!(script.packet(PacketKind::Trunc, z(1, 4)), ["truncate 100000004"]);
    assert!(!script.machine.wants_packets());
    script.input(LearnInput::Truncated(z(1, 4)));
    assert_eq!(script.proposal(z(2, 1)), ["append 1 up to 200000001"]);
}

#[test]
fn a_leader_that_breaks_the_protocol_is_left() {
    let ends = |script: &mut Script, told: Vec<String>| {
        let is_over = told.last().is_some_and(|line| line.starts_with("end: the leader breaks"));
        assert!(is_over, "{told:?}");
        assert!(script.input(LearnInput::Logged(z(2, 0))).is_empty(), "it has ended");
    };
    let following = || Script::following(standing(z(1, 5), z(1, 5)));
    let mut script = following();
    let told = script.proposal(z(2, 2));
    ends(&mut script, told);
    let mut script = following();
    let told = script.packet(PacketKind::Commit, z(2, 1));
    ends(&mut script, told);
    let mut script = following();
    let told = script.proposal(z(3, 1));
    ends(&mut script, told);
    let mut script = following();
    let wrong = entry(z(2, 7));
    let packet = Packet::with(PacketKind::Proposal, z(2, 1), &wrong);
    let told = script.input(LearnInput::Packet(packet));
    ends(&mut script, told);
    let mut script = following();
    let short = &entry(z(2, 1))[..20];
    let packet = Packet::with(PacketKind::Proposal, z(2, 1), short);
    let told = script.input(LearnInput::Packet(packet));
    ends(&mut script, told);
    let mut script = following();
    let told = script.packet(PacketKind::NewLeader, z(2, 0));
    ends(&mut script, told);
    let mut script = Script::discovered(standing(z(1, 5), z(1, 5)));
    let told = script.packet(PacketKind::UpToDate, Zxid(-1));
    ends(&mut script, told);
}

#[test]
fn an_observer_acknowledges_new_leader_only() {
    let mut script = Script::with(standing(z(1, 5), z(1, 5)), |options| options.is_observer = true);
    script.leader_info(2, &leader_info());
    script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(2)));
    script.packet(PacketKind::Diff, z(1, 5));
    script.packet(PacketKind::NewLeader, z(2, 0));
    let stored = LearnInput::EpochStored(EpochFile::Current, Epoch(2));
    assert_eq!(script.input(stored), ["1: Ack 200000000"]);
    script.packet(PacketKind::UpToDate, Zxid(-1));
    let entry = entry(z(2, 1));
    let inform = Packet::with(PacketKind::Inform, z(2, 1), &entry);
    let told = script.input(LearnInput::Packet(inform));
    assert_eq!(told, ["append 1 up to 200000001", "committed 200000001"]);
    assert!(script.input(LearnInput::Logged(z(2, 1))).is_empty());
}

#[test]
fn silence_ends_it() {
    let mut script = Script::following(standing(z(1, 5), z(1, 5)));
    assert_eq!(script.machine.deadline(), Some(after(5).mono));
    script.machine.handle(after(4), LearnInput::Tick, &mut script.effects);
    assert!(told(&mut script.effects).is_empty());
    script.machine.handle(after(5), LearnInput::Tick, &mut script.effects);
    let end = "nothing came from the leader for 500 ms";
    let expected = [format!("1: closed {end}"), format!("end: {end}")];
    assert_eq!(told(&mut script.effects), expected);
    assert_eq!(script.machine.deadline(), None);
}

/// It may have vanished in the middle of its database.
#[test]
fn a_leader_that_sends_its_database_must_not_be_silent() {
    let receiving = || {
        let mut script = Script::discovered(standing(z(1, 5), z(1, 4)));
        script.packet(PacketKind::Snap, z(1, 9));
        script
    };
    let mut script = receiving();
    script.machine.handle(after(9), LearnInput::Heard, &mut script.effects);
    script.machine.handle(after(18), LearnInput::Tick, &mut script.effects);
    assert!(told(&mut script.effects).is_empty(), "something came");
    script.machine.handle(after(19), LearnInput::Tick, &mut script.effects);
    let told_now = told(&mut script.effects);
    assert!(told_now.last().is_some_and(|line| line.starts_with("end: nothing came")));
    // Now this server's own disk is waited for.
    let mut script = receiving();
    script.input(LearnInput::Received);
    assert_eq!(script.machine.deadline(), None);
    script.machine.handle(after(100), LearnInput::Tick, &mut script.effects);
    assert!(told(&mut script.effects).is_empty());
}

/// It would be found when a start reads the log.
#[test]
fn a_proposal_with_something_behind_it_is_not_logged() {
    let mut script = Script::following(standing(z(1, 5), z(1, 5)));
    let damaged = [&entry(z(2, 1))[..], &[1, 2, 3]].concat();
    let packet = Packet::with(PacketKind::Proposal, z(2, 1), &damaged);
    let told = script.input(LearnInput::Packet(packet));
    assert!(!told.iter().any(|line| line.starts_with("append")), "{told:?}");
    assert!(told.last().is_some_and(|line| line.starts_with("end: the leader breaks")));
}

/// It would confirm a history of which it has left out a part.
#[test]
fn nothing_is_left_out_before_a_learner_serves() {
    let mut script = Script::discovered(standing(z(1, 5), z(1, 5)));
    let attempt = std::panic::AssertUnwindSafe(|| script.machine.leave());
    assert!(std::panic::catch_unwind(attempt).is_err());
}

/// What the leader sends in the new epoch waits on the connection until it is entered.
#[test]
fn the_next_epoch_is_entered_with_everything_on_disk() {
    let mut script = Script::following_ours(standing(z(1, 5), z(1, 5)));
    script.proposal(z(2, 1));
    assert_eq!(script.next_epoch(z(2, 1)), ["TouchesDue"], "2|1 is not on disk");
    assert!(!script.machine.wants_packets());
    let logged = script.input(LearnInput::Logged(z(2, 1)));
    assert_eq!(logged, ["1: Ack 200000001", "store Accepted 3"]);
    let promised = script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(3)));
    assert_eq!(promised, ["store Current 3"]);
    let entered = script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(3)));
    assert_eq!(entered, ["1: Ack 300000000", "Renewed(Epoch(3))"]);
    script.proposal(z(3, 1));
    assert_eq!(script.input(LearnInput::Logged(z(3, 1))), ["1: Ack 300000001"]);
    // Two leaders cannot both have its promise.
    let end = "the leader proposes epoch 3, but epoch 3 is promised already";
    let again = script.next_epoch(z(3, 1));
    assert_eq!(again.last(), Some(&format!("end: {end}")));
}

/// It reads no PING until its disk is done, and its clients' sessions must not end meanwhile.
#[test]
fn a_learner_whose_disk_is_slow_tells_the_leader_of_its_sessions_unasked() {
    let mut script = Script::following_ours(standing(z(1, 5), z(1, 5)));
    script.proposal(z(2, 1));
    script.input(LearnInput::Logged(z(2, 1)));
    assert_eq!(script.next_epoch(z(2, 1)), ["TouchesDue", "store Accepted 3"]);
    let mut now = Now::default();
    for _ in 0..10 {
        let due = script.machine.deadline().expect("a time to tell it");
        assert_eq!(due.since(now.mono), Duration::from_millis(100));
        now.mono = due;
        script.machine.handle(now, LearnInput::Tick, &mut script.effects);
        assert_eq!(told(&mut script.effects), ["TouchesDue"]);
    }
    script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(3)));
    script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(3)));
    assert_eq!(script.input(LearnInput::Tick), [""; 0], "it waits for questions again");
}

/// A leader of an earlier build of ours does not know the packet.
#[test]
fn a_leader_that_does_not_read_touches_is_sent_none() {
    let mut data = leader_info().to_vec();
    // Groups, beats and renewals.
    data.extend_from_slice(b"RkPr\0\0\0\x0d");
    let mut script = Script::following_a(&data, standing(z(1, 5), z(1, 5)));
    assert_eq!(script.next_epoch(z(1, 5)), ["store Accepted 3"]);
    assert_eq!(script.input(LearnInput::Tick), [""; 0]);
}

/// Of what was made at 0 by the leader's clock, and what is made in its future.
#[test]
fn a_learner_knows_how_long_transactions_take_to_come_here() {
    let mut script = Script::following(standing(z(1, 5), z(1, 5)));
    let mut at = |wall_ms, kind, zxid| {
        let (now, entry) = (Now { wall_ms, ..Now::default() }, entry(zxid));
        let data = (kind == PacketKind::Proposal).then_some(&entry[..]);
        let packet = Packet { data, ..Packet::bare(kind, zxid) };
        script.machine.handle(now, LearnInput::Packet(packet), &mut script.effects);
    };
    at(3, PacketKind::Proposal, z(2, 1));
    at(4, PacketKind::Proposal, z(2, 2));
    at(-1, PacketKind::Proposal, z(2, 3));
    at(9, PacketKind::Commit, z(2, 1));
    at(9, PacketKind::Commit, z(2, 3));
    let figures = script.machine.way_figures();
    assert_eq!((figures.proposals, figures.commits), (3, 3));
    let seen = |times: &crate::metrics::Histogram| (times.summary().count, times.summary().sum);
    assert_eq!((seen(&figures.proposal), seen(&figures.commit)), ((2, 7_000), (1, 9_000)));
}

/// Apache's leader says nothing for half a tick; one of ours never does for so long.
#[test]
fn a_leader_of_ours_is_left_earlier() {
    let ends_after = |is_patient| {
        let mut data = leader_info().to_vec();
        Features::ours(false).encode_into(&mut data);
        let mut script = Script::with(standing(z(1, 5), z(1, 5)), |options| {
            (options.tick, options.is_patient) = (TICK * 20, is_patient);
        });
        script.leader_info(2, &data);
        script.input(LearnInput::EpochStored(EpochFile::Accepted, Epoch(2)));
        script.packet(PacketKind::Diff, z(1, 5));
        script.packet(PacketKind::NewLeader, z(2, 0));
        script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(2)));
        script.packet(PacketKind::UpToDate, Zxid(-1));
        script.machine.deadline().unwrap().since(Now::default().mono)
    };
    assert_eq!(ends_after(true), TICK * 20 * 5);
    assert_eq!(ends_after(false), TICK * 12);
}

#[test]
fn no_packet_of_a_leader_ends_the_process() {
    let mut rng = Rng::new(7);
    for _ in 0..3_000 {
        let mut script = match rng.below(3) {
            0 => Script::new(standing(z(1, 5), z(1, 4))),
            1 => Script::discovered(standing(z(1, 5), z(1, 4))),
            _ => Script::following(standing(z(1, 5), z(1, 5))),
        };
        for _ in 0..20 {
            if !script.machine.wants_packets() {
                break;
            }
            let zxid = z(1 + rng.below(3) as i32, rng.below(4) as u32);
            let mut data = match rng.chance(1, 2) {
                true => entry(zxid),
                false => vec![0; rng.below(40) as usize],
            };
            if rng.chance(1, 3) && !data.is_empty() {
                let at = rng.below(data.len() as u64) as usize;
                data[at] ^= rng.next_u64() as u8;
            }
            let kind = PacketKind::from_code(rng.below(22) as i32);
            let data = rng.chance(3, 4).then_some(&data[..]);
            script.input(LearnInput::Packet(Packet { data, ..Packet::bare(kind, zxid) }));
        }
    }
}

#[test]
fn a_leader_that_says_farewell_is_left() {
    let mut script = Script::following(standing(z(1, 5), z(1, 5)));
    let told = script.packet(FAREWELL, Zxid(-1));
    assert_eq!(told.last(), Some(&"end: the leader is about to end".to_owned()));
}

#[test]
fn an_epoch_is_not_entered_with_less_than_all_before_it() {
    for (last, is_leaving) in [(z(2, 2), false), (z(2, 1), true)] {
        let mut script = Script::following(standing(z(1, 5), z(1, 5)));
        script.proposal(z(2, 1));
        script.input(LearnInput::Logged(z(2, 1)));
        if is_leaving {
            script.machine.leave();
        }
        let told = script.next_epoch(last);
        assert!(told.iter().any(|line| line.starts_with("end: ")), "{told:?}");
        assert!(!told.iter().any(|line| line.starts_with("store")), "{told:?}");
    }
}

#[test]
fn a_leader_that_answers_a_sync_that_nobody_asked_for_is_left() {
    let mut script = Script::discovered(standing(z(1, 5), z(1, 5)));
    script.packet(PacketKind::Diff, z(1, 5));
    script.packet(PacketKind::NewLeader, z(2, 0));
    script.input(LearnInput::EpochStored(EpochFile::Current, Epoch(2)));
    script.packet(PacketKind::UpToDate, Zxid(-1));
    let (session, cxid, op) = (SessionId(7), Xid(1), OpCode::Sync.code());
    let Script { machine, effects } = &mut script;
    machine.forward(Forwarded { session, cxid, op, body: b"" }, AuthIds::NONE, effects);
    effects.clear();
    assert_eq!(script.packet(PacketKind::Sync, Zxid::ZERO), ["SyncDone"]);
    let end = "the leader breaks the protocol: Sync though no sync waits for an answer";
    let told = script.packet(PacketKind::Sync, Zxid::ZERO);
    assert_eq!(told, [format!("1: closed {end}"), format!("end: {end}")]);
}

#[test]
fn a_database_of_a_later_epoch_than_the_leaders_is_not_taken() {
    let mut script = Script::discovered(standing(z(1, 5), z(1, 5)));
    let told = script.packet(PacketKind::Snap, z(3, 1));
    assert!(told[0].starts_with("1: closed the leader breaks the protocol"), "{told:?}");
}
