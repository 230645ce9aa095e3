//! One rule at a time: what is told to a machine, and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Epoch, LinkId, Now, Rng, ServerId, SessionId, Xid, Zxid};
use crate::log::{Batch, EpochFile};
use crate::quorum::{Ensemble, Membership};
use crate::wire::quorum::{
    AuthIds, EpochAnswer, Features, Forwarded, LearnerInfo, NEXT_EPOCH, Packet, PacketKind,
    leader_info, proposals,
};
use crate::wire::{OpCode, Reader, TxnHeader, TxnType, put_i32};

use super::super::{
    Effect, Effects, History, LeadInput, Leading, LeadingEnd, LeadingOptions, LearnInput,
    LearnerEnd, Learning, LearningOptions, Standing,
};

const TICK: Duration = Duration::from_millis(100);

fn z(epoch: i32, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

fn after(ticks: u32) -> Now {
    Now { mono: Now::default().mono + TICK * ticks, wall_ms: 0 }
}

fn entry(zxid: Zxid) -> Vec<u8> {
    let (session, cxid, kind) = (SessionId(1), Xid(0), TxnType::Error);
    let mut out = Vec::new();
    TxnHeader { session, cxid, zxid, time_ms: 0, kind }.encode_into(&mut out);
    put_i32(&mut out, -101);
    out
}

fn batch(zxids: &[Zxid]) -> Arc<Batch> {
    let mut batch = Batch::new();
    for &zxid in zxids {
        batch.entry().extend_from_slice(&entry(zxid));
        batch.finish_entry(zxid);
    }
    Arc::new(batch)
}

/// What a machine wants done, a line each, and packets as kind and zxid.
fn told(effects: &mut Effects) -> Vec<String> {
    let Effects { bytes, list } = std::mem::take(effects);
    let mut lines = Vec::new();
    for effect in list {
        match effect {
            Effect::Send { link, start, end } => {
                let mut reader = Reader::new(&bytes[start..end]);
                while reader.remaining() > 0 {
                    let packet = Packet::decode_from(&mut reader).unwrap();
                    lines.push(format!("{}: {:?} {:x}", link.0, packet.kind, packet.zxid.0));
                }
            }
            Effect::StoreEpoch(file, epoch) => lines.push(format!("store {file:?} {}", epoch.0)),
            Effect::Append { batch, .. } => {
                let last = batch.last_zxid().unwrap();
                lines.push(format!("append {} up to {last}", batch.len()));
            }
            Effect::Committed(zxid) => lines.push(format!("committed {zxid}")),
            Effect::Serve(epoch) => lines.push(format!("serve {}", epoch.0)),
            Effect::EndLearning(end) => lines.push(format!("end: {end}")),
            Effect::EndLeading(end) => lines.push(format!("end: {end}")),
            Effect::Close { link, reason } => {
                lines.push(format!("{}: closed {}", link.0, reason.unwrap_or_default()));
            }
            Effect::Truncate(zxid) => lines.push(format!("truncate {zxid}")),
            other => lines.push(format!("{other:?}")),
        }
    }
    lines
}

mod learner {
    use super::*;

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
            let mut script = Script::discovered(standing);
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
        let options = LearningOptions {
            sid: ServerId(3),
            is_observer: false,
            tick: TICK,
            init_limit: 10,
            sync_limit: 5,
            config_version: 0,
            is_plain: true,
            is_patient: false,
        };
        let now = Now::default();
        let mut effects = Effects::default();
        let mut machine = Learning::new(now, options, standing(z(1, 5), z(1, 5)));
        machine.handle(now, LearnInput::Connected(LinkId(1)), &mut effects);
        effects.clear();
        let data = leader_info();
        let info = Packet::with(PacketKind::LeaderInfo, z(1, 0), &data);
        machine.handle(now, LearnInput::Packet(info), &mut effects);
        let packet = Packet::decode_from(&mut Reader::new(&effects.bytes)).unwrap();
        let answer = EpochAnswer::decode(packet.data.unwrap());
        assert_eq!(answer, Ok(EpochAnswer::AlreadyPromised));
    }

    #[test]
    fn what_is_committed_is_never_given_up() {
        for (kind, zxid) in [(PacketKind::Trunc, z(1, 3)), (PacketKind::Snap, z(1, 3))] {
            let mut script = Script::discovered(standing(z(1, 5), z(1, 4)));
            let told = script.packet(kind, zxid);
            assert!(told[1].contains("is committed"), "{told:?}");
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
            let is_over =
                told.last().is_some_and(|line| line.starts_with("end: the leader breaks"));
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
        let mut script =
            Script::with(standing(z(1, 5), z(1, 5)), |options| options.is_observer = true);
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

    /// What the leader sends in the new epoch waits on the connection until it is entered.
    #[test]
    fn the_next_epoch_is_entered_with_everything_on_disk() {
        let mut script = Script::following(standing(z(1, 5), z(1, 5)));
        script.proposal(z(2, 1));
        assert!(script.packet(NEXT_EPOCH, z(3, 0)).is_empty(), "2|1 is not on disk");
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
        let again = script.packet(NEXT_EPOCH, z(3, 0));
        assert_eq!(again.last(), Some(&format!("end: {end}")));
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
}

mod leader {
    use super::*;

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
            Features::ours(false).encode_into(&mut info);
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
        assert_eq!(script.join(A, 2, 3), ["store Accepted 4"], "one more than anybody promised");
        assert_eq!(script.stored(EpochFile::Accepted, 4), ["1: LeaderInfo 400000000"]);
        let answered = script.answer(A, EpochAnswer::Accepted(Epoch(1)), z(1, 5));
        assert_eq!(answered, ["store Current 4"]);
        let synchronized = script.stored(EpochFile::Current, 4);
        assert_eq!(synchronized, ["1: Diff 100000005", "1: NewLeader 400000000"]);
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
        assert_eq!(script.join(LinkId(3), 2, 1), ["store Accepted 8"]);
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
        assert_eq!(answered, ["store Current 2"]);
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
        let input =
            LeadInput::LogRead { link: B, floor: z(1, 4), batch: batch(&[z(1, 5), z(2, 1)]) };
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

    /// A follower of Apache's comes back with what is not committed, and what it has to forget is
    /// not in memory any more: it gets all of it from the log, and no gap.
    #[test]
    fn what_is_forgotten_is_read_from_the_log() {
        let mut script = Script::with_memory(3, 100);
        script.establish();
        for counter in 1..=4 {
            script.propose(&[z(2, counter)]);
        }
        script.join(B, 3, 1);
        let told = script.answer(B, EpochAnswer::Accepted(Epoch(1)), z(2, 1));
        assert_eq!(told, ["ReadLog { link: LinkId(2), after: zxid 0x200000001 }"]);
        let batch_after = batch(&[z(2, 2), z(2, 3), z(2, 4)]);
        let told = script.input(LeadInput::LogRead { link: B, floor: z(2, 1), batch: batch_after });
        let asked = "ReadLog { link: LinkId(2), after: zxid 0x100000005 }";
        assert_eq!(told, ["2: Trunc 100000005", asked]);
        let whole = batch(&[z(2, 1), z(2, 2), z(2, 3), z(2, 4)]);
        let told = script.input(LeadInput::LogRead { link: B, floor: z(1, 5), batch: whole });
        assert_eq!(told[0], "2: Proposal 200000001");
        assert_eq!(told.last(), Some(&"2: NewLeader 200000000".to_owned()));
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
}
