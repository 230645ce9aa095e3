//! A follower, an observer and a leader of Apache's were recorded: in the place of any of them ours
//! says the same to the other one.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Epoch, LifelineKey, LinkId, Now, ServerId, Zxid};
use crate::log::Batch;
use crate::quorum::{Ensemble, Membership};
use crate::wire::quorum::{AuthIds, EpochAnswer, Forwarded, Packet, PacketKind};
use crate::wire::{FOLLOWER, OBSERVER, REFILLED, Reader, TRUNCATED, recorded};

use super::super::{
    Effect, Effects, History, LeadInput, Leading, LeadingOptions, LearnInput, Learning,
    LearningOptions, Standing,
};

const LINK: LinkId = LinkId(1);
const TICK: Duration = Duration::from_millis(500);
const NOTHING: Standing = Standing {
    accepted: Epoch(0),
    current: Epoch(0),
    logged: Zxid::ZERO,
    committed: Zxid::ZERO,
    needs_snapshot: false,
};

fn decode(bytes: &[u8]) -> Packet<'_> {
    Packet::decode_from(&mut Reader::new(bytes)).unwrap()
}

/// The packets in `bytes`, each with its own.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut reader, mut packets) = (Reader::new(bytes), Vec::new());
    while reader.remaining() > 0 {
        let rest = reader.rest();
        Packet::decode_from(&mut reader).unwrap();
        packets.push(rest[..rest.len() - reader.remaining()].to_vec());
    }
    packets
}

/// Without the packets that come when time has passed, or when a client asks for something.
fn of_protocol(packets: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
    let others = [PacketKind::Ping, PacketKind::Request];
    let is_asked = |packet: &Packet<'_>| {
        packet.kind == PacketKind::Revalidate && packet.data.is_some_and(|data| data.len() > 9)
    };
    packets
        .filter(|bytes| !others.contains(&decode(bytes).kind) && !is_asked(&decode(bytes)))
        .map(|bytes| format!("{:?} {bytes:02x?}", decode(&bytes).kind))
        .collect()
}

/// What one side said in a recording.
fn said(text: &str, by_dialler: bool) -> Vec<Vec<u8>> {
    let said = recorded(text).into_iter();
    let said = said.filter(|said| said.by_dialler == by_dialler && !said.is_database);
    said.map(|said| said.bytes).collect()
}

/// The transactions of a recording.
fn entries(text: &str) -> Vec<Vec<u8>> {
    let packets = said(text, false);
    let packets = packets.iter().map(|bytes| decode(bytes));
    let such = packets.filter(|p| matches!(p.kind, PacketKind::Proposal | PacketKind::Inform));
    such.map(|packet| packet.data.unwrap().to_vec()).collect()
}

/// What the learner of a recording had when it came.
fn standing(text: &str) -> Standing {
    let packets = said(text, true);
    let [info, answer] = [0, 1].map(|at| decode(&packets[at]));
    assert_eq!(answer.kind, PacketKind::AckEpoch);
    let EpochAnswer::Accepted(current) = EpochAnswer::decode(answer.data.unwrap()).unwrap() else {
        panic!("it has promised this epoch before");
    };
    Standing { accepted: info.zxid.epoch(), current, logged: answer.zxid, ..NOTHING }
}

/// The last transaction that a leader has committed in a recording.
fn committed(text: &str) -> Zxid {
    let packets = said(text, false);
    let packets = packets.iter().map(|bytes| decode(bytes));
    let such = packets.filter(|p| matches!(p.kind, PacketKind::Commit | PacketKind::Inform));
    such.map(|packet| packet.zxid).max().unwrap()
}

struct Learner {
    machine: Learning,
    sent: Vec<u8>,
    logged: Vec<Vec<u8>>,
    committed: Zxid,
    /// What its log or its database was made to end with.
    rebuilt: Option<Zxid>,
}

impl Learner {
    /// An input, and what its disk makes of what follows.
    fn input(&mut self, input: LearnInput<'_>) {
        let mut effects = Effects::default();
        self.machine.handle(Now::default(), input, &mut effects);
        self.machine.flush(&mut effects);
        self.machine.check();
        let Effects { bytes, list } = effects;
        for effect in list {
            match effect {
                Effect::Send { start, end, .. } => self.sent.extend(&bytes[start..end]),
                Effect::StoreEpoch(file, epoch) => {
                    self.input(LearnInput::EpochStored(file, epoch));
                }
                Effect::Append { batch, .. } => {
                    self.logged.extend(batch.iter().map(|(_, entry)| entry.to_vec()));
                    self.input(LearnInput::Logged(batch.last_zxid().unwrap()));
                }
                Effect::Truncate(keep) => {
                    self.rebuilt = Some(keep);
                    self.input(LearnInput::Truncated(keep));
                }
                Effect::ReceiveSnapshot(zxid) => self.rebuilt = Some(zxid),
                Effect::Committed(zxid) => self.committed = zxid,
                Effect::EndLearning(end) => panic!("{end}"),
                _ => {}
            }
        }
    }
}

impl Learner {
    /// One of its clients asks for what this packet asked for.
    fn forward(&mut self, packet: Packet<'_>) {
        let request = Forwarded::decode(packet.data.unwrap()).unwrap();
        let mut effects = Effects::default();
        let is_sent =
            self.machine.forward(request, packet.auth.unwrap_or(AuthIds::NONE), &mut effects);
        assert!(is_sent, "it follows the leader");
        self.sent.extend(effects.bytes);
    }
}

#[test]
fn learners_answer_a_recorded_leader_as_apaches_did() {
    for (text, sid, rebuilt_by) in [
        (FOLLOWER, 1, None),
        (OBSERVER, 3, None),
        (TRUNCATED, 3, Some(PacketKind::Trunc)),
        (REFILLED, 3, Some(PacketKind::Snap)),
    ] {
        let is_observer = text == OBSERVER;
        let options = LearningOptions {
            sid: ServerId(sid),
            is_observer,
            tick: TICK,
            init_limit: 40,
            sync_limit: 20,
            config_version: 0,
            is_plain: true,
            is_patient: true,
            lifeline_key: LifelineKey(3),
        };
        let machine = Learning::new(Now::default(), options, standing(text));
        let (sent, logged) = (Vec::new(), Vec::new());
        let mut learner = Learner { machine, sent, logged, committed: Zxid::ZERO, rebuilt: None };
        learner.input(LearnInput::Connected(LINK));
        for said in recorded(text) {
            if said.is_database {
                learner.input(LearnInput::Received);
                learner.input(LearnInput::Installed);
                continue;
            }
            assert!(learner.machine.wants_packets());
            let packet = decode(&said.bytes);
            match packet.kind {
                // An answer to a `sync` that nobody asked for would end the term.
                PacketKind::Request if said.by_dialler => learner.forward(packet),
                _ if said.by_dialler => {}
                _ => learner.input(LearnInput::Packet(packet)),
            }
        }
        let expected = of_protocol(said(text, true).into_iter());
        assert_eq!(of_protocol(split(&learner.sent).into_iter()), expected, "server {sid}");
        assert_eq!(learner.logged, entries(text));
        assert_eq!(learner.committed, committed(text));
        let packets = self::said(text, false);
        let mut packets = packets.iter().map(|bytes| decode(bytes));
        let rebuilds = packets.find(|packet| Some(packet.kind) == rebuilt_by);
        assert_eq!(learner.rebuilt, rebuilds.map(|packet| packet.zxid));
        assert_eq!(learner.rebuilt.is_some(), rebuilt_by.is_some());
    }
}

struct Leader {
    machine: Leading,
    sent: Vec<u8>,
    last: Zxid,
}

impl Leader {
    /// An input, and what its disk and the learner make of what follows. A PING is answered.
    fn input(&mut self, input: LeadInput<'_>) {
        let mut effects = Effects::default();
        self.machine.handle(Now::default(), input, &mut effects);
        self.machine.flush(&mut effects);
        self.machine.check();
        let Effects { bytes, list } = effects;
        for effect in list {
            match effect {
                Effect::Send { start, end, .. } => {
                    self.sent.extend(&bytes[start..end]);
                    for packet in split(&bytes[start..end]) {
                        let packet = decode(&packet);
                        if packet.kind == PacketKind::Ping {
                            let answer = Packet::with(PacketKind::Ping, packet.zxid, b"");
                            self.input(LeadInput::Packet(LINK, answer));
                        }
                    }
                }
                Effect::StoreEpoch(file, epoch) => self.input(LeadInput::EpochStored(file, epoch)),
                Effect::SyncAsked(link) => self.input(LeadInput::SyncPlaced(link, self.last)),
                Effect::Revalidate { link, asked } => {
                    self.machine.revalidated(link, asked.session, true, self.last);
                }
                Effect::EndLeading(end) => panic!("{end}"),
                Effect::Refuse { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    fn propose(&mut self, zxid: Zxid, entry: &[u8]) {
        let mut batch = Batch::new();
        batch.entry().extend_from_slice(entry);
        batch.finish_entry(zxid);
        self.last = zxid;
        self.input(LeadInput::Proposed(Arc::new(batch)));
        self.input(LeadInput::Logged(zxid));
    }
}

#[test]
fn a_leader_speaks_to_a_recorded_follower_as_apaches_did() {
    let leader = said(FOLLOWER, false);
    let mut packets = leader.iter().map(|bytes| decode(bytes));
    let new_leader = packets.find(|packet| packet.kind == PacketKind::NewLeader).unwrap();
    let config = new_leader.data.unwrap();
    let options = LeadingOptions {
        sid: ServerId(2),
        tick: TICK,
        init_limit: 40,
        sync_limit: 20,
        config: config.to_vec(),
        config_version: 0,
        epoch_least: Epoch(0),
        is_plain: true,
    };
    // The last line is the version.
    let text = String::from_utf8(config.to_vec()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("server."));
    let membership = lines.map(|line| format!("{line}\n")).collect::<String>();
    let ensemble = Ensemble::new(Arc::new(Membership::parse(&membership).unwrap()));
    let history = History::new(Zxid::ZERO, 1 << 20);
    let machine = Leading::new(Now::default(), options, ensemble, NOTHING, history);
    let mut script = Leader { machine, sent: Vec::new(), last: Zxid::ZERO };
    script.input(LeadInput::Tick);
    script.input(LeadInput::Opened(LINK));
    for said in recorded(FOLLOWER) {
        let packet = decode(&said.bytes);
        match packet.kind {
            PacketKind::Ping => {}
            PacketKind::Proposal => script.propose(packet.zxid, packet.data.unwrap()),
            _ if said.by_dialler => script.input(LeadInput::Packet(LINK, packet)),
            _ => {}
        }
    }
    script.input(LeadInput::Tick);
    let expected = of_protocol(leader.into_iter());
    assert_eq!(of_protocol(split(&script.sent).into_iter()), expected);
}
