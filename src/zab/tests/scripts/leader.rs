//! Rules of a leader.

use super::*;
use crate::base::LifelineKey;

mod renewal;

struct Script {
    machine: Leading,
    effects: Effects,
    now: Now,
}

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

impl Script {
    /// Server 1 of as many voters, elected with 1|5 in epoch 1.
    fn new(voters: usize) -> Script {
        Script::with_memory(voters, 1 << 20)
    }

    fn with_memory(voters: usize, history_bytes_max: usize) -> Script {
        Script::with(voters, history_bytes_max, TICK)
    }

    fn with(voters: usize, history_bytes_max: usize, tick: Duration) -> Script {
        let lines = (1..=voters).map(|at| format!("server.{at}=h{at}:2888:3888\n"));
        let membership = Membership::parse(&lines.collect::<String>()).unwrap();
        let options = LeadingOptions {
            sid: ServerId(1),
            tick,
            init_limit: 10,
            sync_limit: 5,
            config: b"version=0".to_vec(),
            config_version: 0,
            epoch_least: Epoch(0),
            is_plain: false,
        };
        let standing = Standing {
            accepted: Epoch(1),
            current: Epoch(1),
            logged: z(1, 5),
            committed: z(1, 4),
            needs_snapshot: false,
        };
        let now = Now::default();
        let ensemble = Ensemble::new(Arc::new(membership));
        let machine = {
            let history = History::new(standing.logged, history_bytes_max);
            Leading::new(now, options, ensemble, standing, history)
        };
        let mut script = Script { machine, effects: Effects::default(), now };
        script.input(LeadInput::Tick);
        script
    }

    fn input(&mut self, input: LeadInput<'_>) -> Vec<String> {
        self.machine.handle(self.now, input, &mut self.effects);
        self.machine.flush(&mut self.effects);
        self.machine.check();
        told(&mut self.effects)
    }

    fn packet(&mut self, link: LinkId, kind: PacketKind, zxid: Zxid) -> Vec<String> {
        self.input(LeadInput::Packet(link, Packet::bare(kind, zxid)))
    }

    fn join(&mut self, link: LinkId, sid: i64, promised: i32) -> Vec<String> {
        self.input(LeadInput::Opened(link));
        let info = LearnerInfo::encode(ServerId(sid), 0);
        let packet = Packet::with(PacketKind::FollowerInfo, z(promised, 0), &info);
        self.input(LeadInput::Packet(link, packet))
    }

    /// A learner of ours.
    fn introduce(&mut self, link: LinkId, sid: i64) -> Vec<String> {
        self.input(LeadInput::Opened(link));
        let mut info = LearnerInfo::encode(ServerId(sid), 0).to_vec();
        Features::encode_learner(LifelineKey(8), &mut info);
        let packet = Packet::with(PacketKind::FollowerInfo, z(1, 0), &info);
        self.input(LeadInput::Packet(link, packet))
    }

    /// A server of ours comes into step.
    fn join_ours(&mut self, link: LinkId, sid: i64) {
        self.introduce(link, sid);
        self.answer(link, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
        self.packet(link, PacketKind::Ack, z(2, 0));
    }

    fn answer(&mut self, link: LinkId, answer: EpochAnswer, zxid: Zxid) -> Vec<String> {
        let data = answer.encode();
        self.input(LeadInput::Packet(link, Packet::with(PacketKind::AckEpoch, zxid, &data)))
    }

    fn stored(&mut self, file: EpochFile, epoch: i32) -> Vec<String> {
        self.input(LeadInput::EpochStored(file, Epoch(epoch)))
    }

    /// In the broadcast of epoch 2 with server 2, of three, on link A.
    fn established() -> Script {
        let mut script = Script::new(3);
        script.establish();
        script
    }

    fn establish(&mut self) {
        self.join(A, 2, 1);
        self.stored(EpochFile::Accepted, 2);
        self.answer(A, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
        self.stored(EpochFile::Current, 2);
        self.packet(A, PacketKind::Ack, z(2, 0));
        assert!(self.machine.is_established());
    }

    fn propose(&mut self, zxids: &[Zxid]) -> Vec<String> {
        self.input(LeadInput::Proposed(batch(zxids)))
    }
}

/// COMPAT(3.5 to 3.9): with `db.autocreate=false` it claims epoch -1 and zxid -1.
#[test]
fn a_server_of_apaches_whose_database_is_gone_gets_a_snapshot() {
    let mut script = Script::established();
    assert_eq!(script.join(B, 3, -1), ["2: LeaderInfo 200000000"]);
    let wanted = script.answer(B, EpochAnswer::AlreadyPromised, Zxid(-1));
    assert_eq!(wanted, ["SendSnapshot(LinkId(2))"]);
    let refused = script.join(LinkId(7), 3, -2);
    assert!(refused[0].starts_with("7: closed a server"), "{refused:?}");
}

#[test]
fn the_way_to_the_broadcast() {
    let mut script = Script::new(3);
    let joined = script.join(A, 2, 3);
    let offer = ["store Accepted 4", "1: LeaderInfo 400000000"];
    assert_eq!(joined, offer, "one more than anybody promised");
    assert!(script.stored(EpochFile::Accepted, 4).is_empty());
    let answered = script.answer(A, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    let history = ["store Current 4", "1: Diff 100000005", "1: NewLeader 400000000"];
    assert_eq!(answered, history);
    assert!(script.stored(EpochFile::Current, 4).is_empty());
    let acknowledged = script.packet(A, PacketKind::Ack, z(4, 0));
    let up_to_date = "1: UpToDate ffffffffffffffff";
    assert_eq!(acknowledged, ["committed 100000005", "serve 4", up_to_date]);
    assert!(script.packet(A, PacketKind::Ack, z(4, 0)).is_empty(), "the second one");
}

#[test]
fn only_voters_count() {
    let mut script = Script::new(3);
    assert!(script.join(A, 9, 7).is_empty(), "a server that is not listed");
    script.input(LeadInput::Opened(B));
    let info = LearnerInfo::encode(ServerId(3), 0);
    let observer = Packet::with(PacketKind::ObserverInfo, z(1, 0), &info);
    assert!(script.input(LeadInput::Packet(B, observer)).is_empty(), "it does not vote");
    // The number that the first one has promised is passed over all the same, as by Apache.
    assert_eq!(script.join(LinkId(3), 2, 1)[0], "store Accepted 8");
}

/// Others are not kept waiting for this server's disk, and it counts itself when that is done.
#[test]
fn a_leader_goes_no_further_than_its_own_disk() {
    let mut script = Script::new(3);
    script.join(A, 2, 1);
    script.join(B, 3, 1);
    script.answer(A, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    let both = script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    assert!(both.is_empty(), "two of three have promised, and this server has not");
    assert_eq!(script.stored(EpochFile::Accepted, 2)[0], "store Current 2");
    script.packet(A, PacketKind::Ack, z(2, 0));
    let both = script.packet(B, PacketKind::Ack, z(2, 0));
    assert!(both.is_empty() && !script.machine.is_established(), "it has not entered the epoch");
    let entered = script.stored(EpochFile::Current, 2);
    assert_eq!(entered[..2], ["committed 100000005", "serve 2"]);
}

#[test]
fn an_epoch_that_was_promised_to_somebody_else_does_not_count() {
    let mut script = Script::new(3);
    script.join(A, 2, 1);
    script.stored(EpochFile::Accepted, 2);
    let answered = script.answer(A, EpochAnswer::AlreadyPromised, z(1, 5));
    assert!(answered.is_empty(), "server 2 has promised epoch 2 to another leader");
    script.join(B, 3, 1);
    let answered = script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 2));
    assert_eq!(answered[0], "store Current 2");
}

#[test]
fn who_knows_more_is_not_led() {
    for (epoch, zxid) in [(1, z(1, 6)), (2, z(1, 1))] {
        let mut script = Script::new(3);
        script.join(A, 2, 1);
        script.stored(EpochFile::Accepted, 2);
        let told = script.answer(A, EpochAnswer::Accepted(Epoch(epoch)), zxid);
        assert!(told[0].contains("has a later history"), "{told:?}");
    }
}

#[test]
fn a_quorum_of_disks_commits() {
    let mut script = Script::established();
    assert_eq!(
        script.propose(&[z(2, 1), z(2, 2)]),
        ["1: Proposal 200000001", "1: Proposal 200000002"]
    );
    let told = script.packet(A, PacketKind::Ack, z(2, 1));
    assert!(told.is_empty(), "only one disk has it");
    let told = script.input(LeadInput::Logged(z(2, 2)));
    assert_eq!(told, ["committed 200000001", "1: Commit 200000001"]);
    let told = script.packet(A, PacketKind::Ack, z(2, 2));
    assert_eq!(told, ["committed 200000002", "1: Commit 200000002"]);
    let told = script.packet(A, PacketKind::Ack, z(2, 3));
    assert!(told[0].contains("but was sent"), "{told:?}");
}

/// Two others may commit what the leader's own disk does not have yet.
#[test]
fn a_leader_knows_how_long_its_voters_take() {
    let mut script = Script::established();
    script.join_ours(B, 3);
    // The second batch comes while the first one is under way, and is not measured.
    for (us, zxid) in [(0, z(2, 1)), (100, z(2, 2))] {
        script.now.mono = Now::default().mono + Duration::from_micros(us);
        script.propose(&[zxid]);
    }
    for (us, server) in [(1_000, 1), (3_000, 2), (7_000, 3)] {
        script.now.mono = Now::default().mono + Duration::from_micros(us);
        match server {
            1 => script.input(LeadInput::Logged(z(2, 2))),
            2 => script.packet(A, PacketKind::Ack, z(2, 1)),
            _ => script.packet(B, PacketKind::Ack, z(2, 2)),
        };
    }
    let figures = script.machine.way_figures();
    let seen = |times: &crate::metrics::Histogram| (times.summary().count, times.summary().sum);
    assert_eq!(seen(&figures.quorum), (1, 3_000));
    let voters: Vec<_> = figures.voters.iter().map(|(sid, times)| (*sid, seen(times))).collect();
    assert_eq!(voters, [(1, (1, 1_000)), (2, (1, 3_000)), (3, (1, 7_000))]);
    // What was under way to one that is gone is not counted when it is back.
    script.propose(&[z(2, 3)]);
    script.input(LeadInput::Closed(B));
    script.join_ours(LinkId(3), 3);
    script.packet(LinkId(3), PacketKind::Ack, z(2, 3));
    assert_eq!(seen(&script.machine.way_figures().voters[2].1), (1, 7_000));
}

#[test]
fn the_leader_is_one_of_a_quorum_and_not_more() {
    let mut script = Script::established();
    script.join(B, 3, 1);
    script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    script.packet(B, PacketKind::Ack, z(2, 0));
    script.propose(&[z(2, 1)]);
    assert!(script.packet(A, PacketKind::Ack, z(2, 1)).is_empty());
    let told = script.packet(B, PacketKind::Ack, z(2, 1));
    assert_eq!(told[0], "committed 200000001");
}

/// Learners of 3.8.0 to 3.8.4 acknowledge proposals before NEWLEADER, and end at a COMMIT
/// between NEWLEADER and UPTODATE.
#[test]
fn early_acknowledgements_and_late_commits() {
    let mut script = Script::established();
    script.propose(&[z(2, 1)]);
    script.join(B, 3, 1);
    let told = script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 4));
    assert_eq!(told, ["ReadLog { link: LinkId(2), after: zxid 0x100000004 }"]);
    let input = LeadInput::LogRead { link: B, floor: z(1, 4), batch: batch(&[z(1, 5), z(2, 1)]) };
    let told = script.input(input);
    let history = [
        "2: Diff 100000005",
        "2: Proposal 100000005",
        "2: Commit 100000005",
        "2: Proposal 200000001",
        "2: NewLeader 200000000",
    ];
    assert_eq!(told, history);
    script.input(LeadInput::Logged(z(2, 1)));
    assert!(script.packet(B, PacketKind::Ack, z(2, 1)).is_empty(), "it does not count yet");
    let told = script.packet(A, PacketKind::Ack, z(2, 1));
    assert_eq!(told, ["committed 200000001", "1: Commit 200000001"], "none for link 2");
    let told = script.packet(B, PacketKind::Ack, z(2, 0));
    assert_eq!(told, ["2: UpToDate ffffffffffffffff", "2: Commit 200000001"]);
}

/// A leader that has to read its log for a learner which is at its transaction 2|1.
fn behind_memory() -> Script {
    let mut script = Script::with_memory(3, 100);
    script.establish();
    for counter in 1..=4 {
        script.propose(&[z(2, counter)]);
    }
    script.join(B, 3, 1);
    let told = script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(2, 1));
    assert_eq!(told, ["ReadLog { link: LinkId(2), after: zxid 0x200000001 }"]);
    script
}

/// A follower of Apache's comes back with transactions that are not committed, and the leader has
/// that part of the history in its log only: the follower gets all of it from there, and no gap.
#[test]
fn what_is_forgotten_is_read_from_the_log() {
    let mut script = behind_memory();
    let batch_after = batch(&[z(2, 2), z(2, 3), z(2, 4)]);
    let told = script.input(LeadInput::LogRead { link: B, floor: z(2, 1), batch: batch_after });
    let asked = "ReadLog { link: LinkId(2), after: zxid 0x100000005 }";
    assert_eq!(told, ["2: Trunc 100000005", asked]);
    let whole = batch(&[z(2, 1), z(2, 2), z(2, 3), z(2, 4)]);
    let told = script.input(LeadInput::LogRead { link: B, floor: z(1, 5), batch: whole });
    assert_eq!(told[0], "2: Proposal 200000001");
    assert_eq!(told.last(), Some(&"2: NewLeader 200000000".to_owned()));
}

/// ZOOKEEPER-2846: Apache's leader sends what its log has on both sides of a hole. One of ours
/// sends its database if the log is not whole from where the learner is.
#[test]
fn nobody_is_sent_a_log_with_a_hole() {
    let mut script = behind_memory();
    let told = script.input(LeadInput::LogUnreadable(B));
    assert_eq!(told, ["SendSnapshot(LinkId(2))"]);
    let told = script.input(LeadInput::SnapshotBegun(B, z(2, 4)));
    assert_eq!(told, ["2: Snap 200000004"]);
}

#[test]
fn a_sync_waits_for_a_quorum() {
    let mut script = Script::established();
    let told = script.input(LeadInput::OwnSync(7));
    assert_eq!(told, ["1: Ping 100000005"]);
    let told = script.input(LeadInput::OwnSync(8));
    assert_eq!(told, ["1: Ping 100000005"], "the round under way does not count for it");
    let answer = Packet::with(PacketKind::Ping, z(1, 5), b"");
    assert_eq!(script.input(LeadInput::Packet(A, answer)), ["OwnSyncDone(7)"]);
    assert_eq!(script.input(LeadInput::Packet(A, answer)), ["OwnSyncDone(8)"]);
    let told = script.input(LeadInput::Packet(A, answer));
    assert!(told[0].contains("answers a PING that was not sent"), "{told:?}");
}

#[test]
fn a_sync_of_a_learner_comes_after_the_commits() {
    let mut script = Script::established();
    script.propose(&[z(2, 1)]);
    let (session, cxid) = (SessionId(1), Xid(1));
    let mut data = Vec::new();
    Forwarded { session, cxid, op: OpCode::Sync as i32, body: b"" }.encode_into(&mut data);
    let packet = Packet::with(PacketKind::Request, Zxid(-1), &data);
    let request = Packet { auth: Some(AuthIds::NONE), ..packet };
    assert_eq!(script.input(LeadInput::Packet(A, request)), ["SyncAsked(LinkId(1))"]);
    assert_eq!(script.input(LeadInput::SyncPlaced(A, z(2, 1))), ["1: Ping 200000001"]);
    let answer = Packet::with(PacketKind::Ping, z(2, 1), b"");
    assert!(script.input(LeadInput::Packet(A, answer)).is_empty(), "2|1 is not committed");
    script.input(LeadInput::Logged(z(2, 1)));
    let told = script.packet(A, PacketKind::Ack, z(2, 1));
    assert_eq!(told, ["committed 200000001", "1: Commit 200000001", "1: Sync 0"]);
}

/// Else a server of Apache's answers its clients no more.
#[test]
fn a_sync_stands_between_the_commits_of_what_came_before_and_after_it() {
    let mut script = Script::established();
    // What was forwarded before it is prepared, and will be proposed at the end of the turn.
    let told = script.input(LeadInput::SyncPlaced(A, z(2, 1)));
    assert_eq!(told, ["1: Ping 100000005"]);
    script.propose(&[z(2, 1), z(2, 2)]);
    script.input(LeadInput::Logged(z(2, 2)));
    let told = script.packet(A, PacketKind::Ack, z(2, 2));
    assert_eq!(told, ["committed 200000002", "1: Commit 200000001"]);
    let answer = Packet::with(PacketKind::Ping, z(2, 1), b"");
    let told = script.input(LeadInput::Packet(A, answer));
    assert_eq!(told, ["1: Sync 0", "1: Commit 200000002"]);
}

/// A client that came to the learner may have left requests with another one.
#[test]
fn the_word_on_a_session_stands_behind_what_was_prepared_before_it() {
    for is_ours in [false, true] {
        let mut script = Script::established();
        if is_ours {
            script.join_ours(B, 3);
        }
        let link = if is_ours { B } else { A };
        script.machine.revalidated(link, SessionId(7), true, z(2, 1));
        assert_eq!(script.input(LeadInput::Tick), [""; 0]);
        let told = script.propose(&[z(2, 1)]);
        let word = format!("{}: Revalidate ffffffffffffffff", link.0);
        assert_eq!(told.last() == Some(&word), is_ours, "{told:?}");
        if !is_ours {
            script.input(LeadInput::Logged(z(2, 1)));
            let told = script.packet(A, PacketKind::Ack, z(2, 1));
            assert_eq!(told[1..], ["1: Commit 200000001".to_owned(), word]);
        }
    }
}

#[test]
fn a_learner_of_ours_is_told_what_its_requests_have_become() {
    let mut script = Script::established();
    script.join_ours(B, 3);
    for zxid in [z(2, 2), z(2, 4)] {
        script.input(LeadInput::Judged(B, zxid));
    }
    let all = [z(2, 1), z(2, 2), z(2, 3), z(2, 4)];
    let batch = batch(&all);
    script.machine.handle(script.now, LeadInput::Proposed(batch), &mut script.effects);
    script.machine.flush(&mut script.effects);
    let Effects { bytes, list } = std::mem::take(&mut script.effects);
    let sent = list.iter().find_map(|effect| match *effect {
        Effect::Send { link: B, start, end } => Some(&bytes[start..end]),
        _ => None,
    });
    let packet = Packet::decode_from(&mut Reader::new(sent.unwrap())).unwrap();
    let own = proposals(packet.data.unwrap()).map(Result::unwrap);
    assert_eq!(own.map(|own| own.is_own).collect::<Vec<_>>(), [false, true, false, true]);
}

/// Answers to its own questions wait, and a question of another learner costs it a PING at most.
#[test]
fn a_learner_that_reads_nothing_gathers_little_and_holds_up_nobody() {
    for is_ours in [false, true] {
        let mut script = Script::new(3);
        script.establish();
        if is_ours {
            script.join_ours(B, 3);
        } else {
            script.join(B, 3, 1);
            script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
            script.packet(B, PacketKind::Ack, z(2, 0));
        }
        script.input(LeadInput::Room(B, 0));
        let pong = Packet::with(PacketKind::Ping, z(2, 1), b"");
        let mut sent = Vec::new();
        for number in 1..=2_000 {
            let zxid = z(2, number);
            let mut told = script.propose(&[zxid]);
            script.machine.revalidated(B, SessionId(7), true, z(2, 0));
            told.extend(script.input(LeadInput::SyncPlaced(B, z(2, 0))));
            script.input(LeadInput::Logged(zxid));
            told.extend(script.packet(A, PacketKind::Ack, zxid));
            assert!(told.contains(&format!("committed {zxid}")), "{told:?}");
            told.extend(script.input(LeadInput::Packet(A, pong)));
            sent.extend(told.into_iter().filter(|line| line.starts_with("2: ")));
        }
        let is_ping = |line: &String| line.starts_with("2: Ping");
        let other = sent.iter().find(|line| !is_ping(line));
        assert_eq!((other, sent.len()), (None, 1_000), "{is_ours}");
        // Its answers come when it reads on.
        let told = script.input(LeadInput::Room(B, 1 << 20));
        let count = |kind: &str| told.iter().filter(|line| line.starts_with(kind)).count();
        assert_eq!((count("2: Revalidate"), count("2: Sync")), (2_000, 2_000), "{is_ours}");
        assert_eq!(script.packet(B, PacketKind::Ack, z(2, 2_000)), [""; 0]);
    }
}

#[test]
fn a_learner_that_asks_for_more_and_more_and_reads_no_answers_is_refused() {
    let mut script = Script::established();
    script.join_ours(B, 3);
    script.input(LeadInput::Room(B, 0));
    let ask = |script: &mut Script| {
        script.machine.handle(script.now, LeadInput::SyncPlaced(B, z(2, 0)), &mut script.effects);
        script.effects.list.clear();
        script.effects.bytes.clear();
    };
    (0..1 << 20).for_each(|_| ask(&mut script));
    // Its clients' writes do not count: who has a slow disk may have many of them.
    for number in 1..1_000 {
        script.machine.handle(script.now, LeadInput::Judged(B, z(2, number)), &mut script.effects);
    }
    let told = script.packet(B, PacketKind::Ack, z(2, 0));
    assert!(told.iter().all(|line| line.contains("Ping")), "it may have so many: {told:?}");
    ask(&mut script);
    let told = script.packet(B, PacketKind::Ack, z(2, 0));
    assert!(told[0].starts_with("2: closed server 3: asks for more and more"), "{told:?}");
    assert!(script.machine.is_established());
}

#[test]
fn a_learner_of_apache_begins_a_session_without_identities() {
    let mut script = Script::established();
    let (session, cxid, op) = (SessionId(1), Xid(0), OpCode::CreateSession as i32);
    let mut data = Vec::new();
    Forwarded { session, cxid, op, body: &[0, 0, 0, 9] }.encode_into(&mut data);
    let request = Packet::with(PacketKind::Request, Zxid(-1), &data);
    script.machine.handle(script.now, LeadInput::Packet(A, request), &mut script.effects);
    let Effects { bytes, list } = &script.effects;
    let [Effect::Request { ids, end, .. }] = list[..] else { panic!("{list:?}") };
    assert_eq!(bytes[ids..end], [0; 4], "an empty list is handed on");
}

#[test]
fn a_leader_without_a_quorum_looks_for_a_leader_at_once() {
    let mut script = Script::established();
    script.join(B, 3, 2);
    let told = script.input(LeadInput::Closed(A));
    assert_eq!(told.last(), Some(&format!("end: {}", LeadingEnd::QuorumLost)));
}

#[test]
fn nobody_answers() {
    let mut script = Script::new(3);
    script.now = after(10);
    let told = script.input(LeadInput::Tick);
    let end = LeadingEnd::NotConfirmed("said which epoch it has promised");
    assert_eq!(told, [format!("end: {end}")]);
    let mut script = Script::established();
    for ticks in 1..=8 {
        script.now = after(ticks);
        let told = script.input(LeadInput::Tick);
        if told.last().is_some_and(|line| line.starts_with("end:")) {
            assert_eq!(told.last(), Some(&format!("end: {}", LeadingEnd::QuorumLost)));
            assert!(ticks >= 5, "too early: {ticks} ticks");
            return;
        }
    }
    panic!("it leads on without a quorum");
}

/// A learner of ours, on link B, is never sent nothing for a whole beat.
#[test]
fn a_learner_of_ours_hears_of_the_leader_again_and_again() {
    let mut script = Script::with(3, 1 << 20, TICK * 20);
    script.establish();
    script.introduce(B, 3);
    script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    script.packet(B, PacketKind::Ack, z(2, 0));
    script.packet(B, PacketKind::Ack, z(2, 0));
    // What was said until now counts, and in the first interval a proposal does.
    let mut quiet = 0;
    for half_beats in 1..=40 {
        script.now.mono = script.now.mono + TICK / 2;
        let deadline = script.machine.deadline().unwrap();
        assert!(deadline <= script.now.mono, "it wants to be called in time");
        if half_beats == 9 {
            script.propose(&[z(2, 1)]);
        }
        let told = script.input(LeadInput::Tick);
        assert!(!told.iter().any(|line| line == "1: Commit 100000005"), "Apache's hears none");
        let is_told = told.iter().any(|line| line.starts_with("2: ")) || half_beats == 9;
        quiet = if is_told { 0 } else { quiet + 1 };
        assert!(quiet < 2, "nothing for a beat: {half_beats}");
    }
}

#[test]
fn a_voter_that_has_promised_more_makes_for_a_new_election() {
    let mut script = Script::established();
    let told = script.join(B, 3, 2);
    assert_eq!(told, ["2: LeaderInfo 200000000"], "the same epoch is no reason");
    let told = script.join(LinkId(3), 3, 3);
    let end = LeadingEnd::LaterPromise(Epoch(3));
    assert_eq!(told.last(), Some(&format!("end: {end}")));
    let mut script = Script::established();
    let told = script.join(B, 3, i32::MAX);
    assert!(told[0].contains("claims to have promised"), "{told:?}");
    assert!(script.machine.is_established());
}

/// Until then it answers no PING.
#[test]
fn who_has_confirmed_the_epoch_is_not_silent_before_the_quorum_has() {
    let mut script = Script::new(5);
    script.join(A, 2, 1);
    script.join(B, 3, 1);
    script.stored(EpochFile::Accepted, 2);
    for link in [A, B] {
        script.answer(link, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
    }
    script.stored(EpochFile::Current, 2);
    script.packet(A, PacketKind::Ack, z(2, 0));
    assert!(!script.machine.is_established(), "two of five");
    for ticks in 1..10 {
        script.now = after(ticks);
        let told = script.input(LeadInput::Tick);
        assert!(!told.iter().any(|line| line.contains("closed")), "{told:?}");
    }
    script.packet(B, PacketKind::Ack, z(2, 0));
    assert!(script.machine.is_established());
}

/// However often something comes, and whatever it is.
#[test]
fn who_does_not_introduce_itself_is_refused_in_time() {
    let mut script = Script::established();
    script.input(LeadInput::Opened(B));
    for ticks in 0..10 {
        script.now = after(ticks);
        script.input(LeadInput::Heard(A));
        script.input(LeadInput::Heard(B));
        let told = script.input(LeadInput::Tick);
        assert!(!told.iter().any(|line| line.contains("closed")), "{told:?}");
    }
    script.now = after(10);
    script.input(LeadInput::Heard(B));
    let told = script.input(LeadInput::Tick);
    let why = "2: closed a server that has not introduced itself: was in the handshake for";
    assert!(told[0].starts_with(why), "{told:?}");
}

#[test]
fn of_many_strangers_the_oldest_goes() {
    let mut script = Script::established();
    let links = (3..).map(LinkId);
    for link in links.clone().take(64) {
        assert_eq!(script.input(LeadInput::Opened(link)), [""; 0]);
    }
    let told = script.input(LeadInput::Opened(LinkId(100)));
    assert!(told[0].starts_with("3: closed a server that has not introduced"), "{told:?}");
    assert_eq!(told.len(), 1);
}

#[test]
fn strangers_are_refused_by_name() {
    let mut script = Script::established();
    script.input(LeadInput::Opened(B));
    let told = script.packet(B, PacketKind::Request, Zxid(-1));
    assert!(told[0].contains("is it a member of this ensemble?"), "{told:?}");
    let told = script.join(B, 1, 1);
    assert!(told[0].contains("is its myid right?"), "{told:?}");
}

#[test]
fn no_packet_of_a_learner_ends_the_process() {
    let mut rng = Rng::new(8);
    for _ in 0..3_000 {
        let mut script = Script::established();
        script.propose(&[z(2, 1), z(2, 2)]);
        script.join(B, 3, 1);
        for _ in 0..20 {
            let link = if rng.chance(1, 2) { A } else { B };
            let zxid = z(1 + rng.below(3) as i32, rng.below(4) as u32);
            let mut data = vec![0; rng.below(40) as usize];
            rng.fill(&mut data);
            let kind = PacketKind::from_code(rng.below(22) as i32);
            let data = rng.chance(3, 4).then_some(&data[..]);
            let auth = rng.chance(1, 2).then_some(AuthIds::NONE);
            let packet = Packet { data, auth, ..Packet::bare(kind, zxid) };
            script.input(LeadInput::Packet(link, packet));
        }
    }
}

/// COMPAT(3.6 to 3.9): it compares from the first transaction behind its database on, though that
/// shows what later ones have done.
#[test]
fn a_learner_of_apaches_gets_no_digest_with_what_its_database_shows() {
    let mut script = Script::established();
    assert!(script.machine.has_plain_learners());
    script.join(B, 3, 1);
    script.answer(B, EpochAnswer::AlreadyPromised, Zxid(-1));
    for counter in 1..=2 {
        script.input(LeadInput::Proposed(stated(z(2, counter))));
    }
    script.packet(A, PacketKind::Ack, z(2, 2));
    script.input(LeadInput::Logged(z(2, 2)));
    script.input(LeadInput::SnapshotBegun(B, z(2, 1)));
    let plain = entry(z(2, 2)).len();
    let whole = plain + TxnDigest::SIZE;
    assert_eq!(script.proposals(LeadInput::SnapshotSent(B), B), [(z(2, 2), plain)]);
    let next = || LeadInput::Proposed(stated(z(2, 3)));
    assert_eq!(script.proposals(next(), B), [(z(2, 3), whole)]);
}

/// A transaction that states a digest.
fn stated(zxid: Zxid) -> Arc<Batch> {
    let mut batch = Batch::new();
    batch.entry().extend_from_slice(&entry(zxid));
    TxnDigest { version: TxnDigest::VERSION, tree_digest: 7 }.encode_into(batch.entry());
    batch.finish_entry(zxid);
    Arc::new(batch)
}

impl Script {
    /// The transactions that this makes the leader propose to a learner, and their bytes.
    fn proposals(&mut self, input: LeadInput<'_>, to: LinkId) -> Vec<(Zxid, usize)> {
        self.machine.handle(self.now, input, &mut self.effects);
        self.machine.flush(&mut self.effects);
        let Effects { bytes, list } = std::mem::take(&mut self.effects);
        let mut found = Vec::new();
        for effect in list {
            let Effect::Send { link, start, end } = effect else { continue };
            let mut reader = Reader::new(&bytes[start..end]);
            while link == to && reader.remaining() > 0 {
                let packet = Packet::decode_from(&mut reader).unwrap();
                if packet.kind == PacketKind::Proposal {
                    found.push((packet.zxid, packet.data.unwrap().len()));
                }
            }
        }
        found
    }
}
