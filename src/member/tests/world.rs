//! Several members whose disks and network are played by the test, in a random order from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Auth, AuthOptions};
use crate::base::{
    ConnId, Epoch, Instant, LifelineKey, LinkId, Now, Rng, ServerId, SessionId, Zxid,
};
use crate::leader::LeaderOptions;
use crate::log::{
    Batch, EmptyStart, EpochFile, Epochs, LogChange, LogCommand, LogDone, LogTicket, RangeCommand,
    RangeError, Recovered, RecoveryTarget,
};
use crate::member::{EnsembleOptions, Member, Role};
use crate::peer;
use crate::quorum::Membership;
use crate::replica::{
    Effect, Effects, FairOptions, Input, Replica, ReplicaOptions, Restore, StreamId,
};
use crate::tree::TreeOptions;
use crate::wire::vote::First;
use crate::wire::{
    ACL_OPEN_BYTES, OpCode, Reader, Txn, TxnDigest, TxnHeader, begin_frame, connect_frame,
    end_frame, put_buffer, put_i32, put_str,
};

use super::hostile::Hostile;

const TREE: TreeOptions = TreeOptions { extended_types: true, ..TreeOptions::STOCK };

/// Little, so that members are full now and then.
pub(super) const BACKLOG_MAX: usize = 1_500;

pub(super) const TICK: Duration = Duration::from_millis(1000);

/// Numbers of the near ends of lifelines, which the member does not know.
const LINES: u64 = 1 << 60;

/// What survives a crash.
#[derive(Clone)]
pub(super) struct Disk {
    /// Be it of an empty tree.
    pub(super) has_snapshot: bool,
    pub(super) log: Vec<(Zxid, Vec<u8>)>,
    /// Position of the snapshot that the log begins after.
    pub(super) snapshot: Zxid,
    /// What was received, as of that position.
    pub(super) database: Vec<u8>,
    pub(super) epochs: Epochs,
    /// What was there is gone, and a start does not take that for a beginning.
    pub(super) is_emptied: bool,
    /// What the log says of commits.
    pub(super) committed: Zxid,
}

/// What the disk was told to do and has not done.
pub(super) enum Work {
    Snapshot,
    Append(Arc<Batch>),
    Log(LogTicket, LogCommand),
    Chunk(StreamId),
    Finish(StreamId),
}

pub(super) struct Link {
    pub(super) port: peer::Port,
    /// The other end, if it is still there.
    pub(super) other: Option<(usize, LinkId)>,
    pub(super) arrives: VecDeque<Vec<u8>>,
    pub(super) is_held: bool,
}

pub(super) struct Node {
    pub(super) member: Option<Member>,
    pub(super) disk: Disk,
    pub(super) work: VecDeque<Work>,
    /// Why it has ended by itself, which fails the test unless `may_end`.
    pub(super) ended: Option<String>,
    pub(super) may_end: bool,
    /// Its disk does nothing for now.
    pub(super) is_stalled: bool,
    /// See [`World::vanish`].
    has_vanished: bool,
    /// Dials of others to it that nobody answers.
    unanswered: Vec<(usize, LinkId)>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_accepted: u64,
    pub(super) effects: Effects,
    pub(super) received: Vec<u8>,
    pub(super) reception: Option<(StreamId, Zxid)>,
    pub(super) leases: BTreeMap<LogTicket, (Zxid, Zxid)>,
    pub(super) next_conn: u32,
    /// Replies to each connection: xid and error.
    pub(super) replies: BTreeMap<ConnId, Vec<(i32, i32)>>,
    pub(super) sessions: BTreeMap<ConnId, (SessionId, i32)>,
    pub(super) closed: BTreeSet<ConnId>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) nodes: Vec<Node>,
    pub(super) text: String,
    pub(super) is_plain: bool,
    /// An epoch is spent after this transaction.
    pub(super) spent_counter: u32,
    /// Work of a turn, for servers that start from now on.
    pub(super) turn: u64,
    /// The same for `leaderServes`.
    pub(super) leader_serves: bool,
    /// The same for what a learner may have waiting for the next epoch.
    pub(super) held_max: usize,
    /// The same for what may wait for a disk.
    pub(super) backlog_max: usize,
    /// Damages what one of them sends.
    pub(super) hostile: Option<Hostile>,
}

pub(super) fn request(xid: i32, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    let start = begin_frame(&mut frame);
    put_i32(&mut frame, xid);
    put_i32(&mut frame, op.code());
    body(&mut frame);
    end_frame(&mut frame, start);
    frame
}

pub(super) fn create(xid: i32, path: &str) -> Vec<u8> {
    request(xid, OpCode::Create, |out| {
        put_str(out, path);
        put_buffer(out, Some(b"data"));
        out.extend_from_slice(ACL_OPEN_BYTES);
        put_i32(out, 0);
    })
}

pub(super) fn sync(xid: i32) -> Vec<u8> {
    request(xid, OpCode::Sync, |out| put_str(out, "/"))
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk {
            has_snapshot: false,
            log: Vec::new(),
            snapshot: Zxid::ZERO,
            database: Vec::new(),
            epochs: Epochs { accepted: Epoch(0), current: Epoch(0) },
            is_emptied: false,
            committed: Zxid::ZERO,
        }
    }

    pub(super) fn last(&self) -> Zxid {
        self.log.last().map_or(self.snapshot, |(zxid, _)| *zxid)
    }

    /// What a start reads.
    pub(super) fn recover(&self) -> crate::replica::Restored {
        let mut restore = Restore::new(TREE);
        let mut tail = Vec::new();
        if self.snapshot > Zxid::ZERO {
            let mut reader = crate::log::SnapshotReader::new();
            let used = reader.feed(&self.database, true, &mut restore).unwrap();
            assert!(reader.is_done() && used <= self.database.len());
            restore.snapshot_done(self.snapshot, None).unwrap();
        }
        let committed = self.committed.max(self.snapshot);
        for (zxid, entry) in &self.log {
            if *zxid <= committed {
                let mut r = Reader::new(entry);
                let header = TxnHeader::decode_from(&mut r).unwrap();
                let txn = Txn::decode_from(header.kind, &mut r).unwrap();
                let digest = TxnDigest::decode_trailing(&mut r).unwrap();
                restore.txn(&header, &txn, digest, entry).unwrap();
            } else {
                let mut batch = Batch::new();
                batch.entry().extend_from_slice(entry);
                batch.finish_entry(*zxid);
                tail.push(Arc::new(batch));
            }
        }
        let committed = committed.min(self.last());
        let last_zxid = self.last();
        let snapshot_zxid = self.has_snapshot.then_some(self.snapshot);
        let is_void = self.is_emptied && !self.has_snapshot;
        restore.finish(&Recovered {
            last_zxid,
            committed,
            tail,
            snapshot_zxid,
            empty: is_void.then_some(EmptyStart::Untrusted),
            ..Recovered::default()
        })
    }
}

impl World {
    pub(super) fn new(seed: u64, voters: usize, observers: usize, is_plain: bool) -> World {
        let members = voters + observers;
        let mut text = String::new();
        for sid in 1..=members {
            let role = if sid > voters { "observer" } else { "participant" };
            text += &format!("server.{sid}=h{sid}:1:2:{role};2181\n");
        }
        let mut world = World {
            seed,
            rng: Rng::new(seed),
            now: Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 },
            nodes: Vec::new(),
            text: text + "version=0",
            is_plain,
            spent_counter: LeaderOptions::default().spent_counter,
            turn: FairOptions::default().turn,
            leader_serves: true,
            held_max: 16 << 20,
            backlog_max: BACKLOG_MAX,
            hostile: None,
        };
        for _ in 0..members {
            world.nodes.push(Node {
                member: None,
                disk: Disk::new(),
                work: VecDeque::new(),
                ended: None,
                may_end: false,
                is_stalled: false,
                has_vanished: false,
                unanswered: Vec::new(),
                links: BTreeMap::new(),
                next_accepted: 1,
                effects: Effects::default(),
                received: Vec::new(),
                reception: None,
                leases: BTreeMap::new(),
                next_conn: 0,
                replies: BTreeMap::new(),
                sessions: BTreeMap::new(),
                closed: BTreeSet::new(),
            });
        }
        (0..members).for_each(|at| world.start(at));
        world
    }

    pub(super) fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.has_vanished = false;
        let unanswered = std::mem::take(&mut node.unanswered);
        let auth = Auth::new(AuthOptions::default()).unwrap();
        let options = ReplicaOptions {
            is_member: true,
            server_id: at as u64 + 1,
            snap_size_bytes: 0,
            snap_count: u64::MAX / 4,
            min_session_timeout_ms: 2_000,
            leader_serves: self.leader_serves,
            fair: FairOptions { turn: self.turn, ..FairOptions::default() },
            leader: LeaderOptions { spent_counter: self.spent_counter, ..LeaderOptions::default() },
            ..ReplicaOptions::default()
        };
        let first = SessionId(((at as i64 + 1) << 56) + self.now.wall_ms);
        let replica = Replica::new(self.now, options, auth, node.disk.recover(), first);
        let options = EnsembleOptions {
            sid: ServerId(at as i64 + 1),
            membership: Membership::parse(&self.text).unwrap(),
            epochs: node.disk.epochs,
            tick: TICK,
            init_limit: 10,
            sync_limit: 5,
            repeat_votes: (Duration::from_millis(200), Duration::from_secs(60)),
            backlog_bytes_max: self.backlog_max,
            held_bytes_max: self.held_max,
            history_bytes_max: 4_000,
            packet_bytes_max: 1 << 20,
            is_plain: self.is_plain,
            is_patient: false,
            seed: at as u64,
        };
        node.member = Some(Member::in_ensemble(self.now, replica, options));
        self.carry_out(at);
        for (by, link) in unanswered {
            let result = Err(peer::DialError::Failed("timed out".to_owned()));
            self.peer(by, peer::Input::Dialed { link, result });
        }
    }

    /// A new ensemble in which all serve, and its leader.
    pub(super) fn serving(
        seed: u64,
        voters: usize,
        observers: usize,
        is_plain: bool,
    ) -> (World, usize) {
        let mut world = World::new(seed, voters, observers, is_plain);
        world.until("all serve", World::all_serve);
        let leader = world.leader().expect("those who serve have a leader");
        (world, leader)
    }

    /// These are killed and started anew, and then all serve.
    pub(super) fn restart(&mut self, servers: &[usize]) {
        for &at in servers {
            self.kill(at);
            self.start(at);
        }
        self.until("all serve", World::all_serve);
    }

    /// The process ends; some of what was on its way to the disk may have got there.
    pub(super) fn kill(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.member = None;
        node.effects.clear();
        node.received.clear();
        node.leases.clear();
        node.reception = None;
        let done = self.rng.below(node.work.len() as u64 + 1);
        for work in node.work.drain(..).take(done as usize) {
            match work {
                Work::Append(batch) => {
                    let entries = batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec()));
                    node.disk.log.extend(entries);
                    node.disk.committed = node.disk.committed.max(batch.committed());
                }
                // A change may be done or not; here it is not, nor is anything after it.
                _ => break,
            }
        }
        node.closed.extend(node.sessions.keys().copied());
        for (id, link) in std::mem::take(&mut self.nodes[at].links) {
            self.cut(link.other, id.0 & LINES == 0);
        }
    }

    /// Its machine is gone, or the network is, and nobody tells: connections stay half-open, and
    /// dials are not answered. When it is back, `kill` ends them, as it does not know them.
    pub(super) fn vanish(&mut self, at: usize) {
        self.nodes[at].member = None;
        self.nodes[at].has_vanished = true;
    }

    /// The leader's process keeps a connection to a learner that ends with it.
    fn lifeline(&mut self, at: usize, learner: ServerId, key: LifelineKey) {
        let other = (learner.0 - 1) as usize;
        // A hostile learner may have said that it is anybody.
        if self.nodes.get(other).is_none_or(|node| node.member.is_none()) {
            return;
        }
        let link = LinkId(self.nodes[other].next_accepted);
        self.nodes[other].next_accepted += 2;
        let own = LinkId(LINES | (learner.0 as u64 * 1_000_000) | link.0);
        let mut first = Vec::new();
        First::encode_lifeline(ServerId(at as i64 + 1), key, &mut first);
        let port = peer::Port::Election;
        let end = |other, arrives| Link { port, other: Some(other), arrives, is_held: false };
        self.nodes[at].links.insert(own, end((other, link), VecDeque::new()));
        self.nodes[other].links.insert(link, end((at, own), VecDeque::from([first])));
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        self.peer(other, peer::Input::Accepted { link, port, from });
    }

    /// The lifeline of one server at another one ends.
    pub(super) fn end_lifeline(&mut self, at: usize, other: usize) {
        let is_line = |(id, link): &(&LinkId, &Link)| {
            id.0 & LINES != 0 && link.other.is_some_and(|(to, _)| to == other)
        };
        let id = *self.nodes[at].links.iter().find(is_line).expect("a lifeline").0;
        let theirs = self.nodes[at].links[&id].other.expect("it has two ends").1;
        self.until("the lifeline is known", |world| {
            world.nodes[other].links[&theirs].arrives.is_empty()
        });
        let line = self.nodes[at].links.remove(&id).expect("it was found");
        self.cut(line.other, false);
    }

    /// It is told to end, goes on for a while as it does then, and is started anew.
    pub(super) fn leave(&mut self, at: usize) {
        for _ in 0..self.rng.below(60) {
            self.step();
        }
        for _ in 0..self.rng.below(60) {
            let node = &mut self.nodes[at];
            let Some(member) = &mut node.member else { return };
            member.retire(self.now, false, &mut node.effects);
            self.carry_out(at);
            self.step();
        }
        self.kill(at);
        self.start(at);
    }

    pub(super) fn cut(&mut self, end: Option<(usize, LinkId)>, was_reset: bool) {
        let Some((at, link)) = end else { return };
        if self.nodes[at].links.remove(&link).is_some() {
            self.peer(at, peer::Input::Ended { link, was_reset });
        }
    }

    pub(super) fn peer(&mut self, at: usize, input: peer::Input<'_>) {
        let node = &mut self.nodes[at];
        if let Some(member) = &mut node.member {
            member.begin_turn();
            member.peer(self.now, input, &mut node.effects);
            self.carry_out(at);
        }
    }

    pub(super) fn handle(&mut self, at: usize, input: Input<'_>) {
        let node = &mut self.nodes[at];
        if let Some(member) = &mut node.member {
            member.begin_turn();
            member.handle(self.now, input, &mut node.effects);
            self.carry_out(at);
        }
    }

    pub(super) fn carry_out(&mut self, at: usize) {
        loop {
            let node = &mut self.nodes[at];
            let Some(member) = &mut node.member else { return };
            member.hand_over(self.now, &mut node.effects);
            member.check();
            let peers = std::mem::take(member.peer_effects());
            let effects = std::mem::take(&mut node.effects);
            if peers.list.is_empty() && effects.list.is_empty() {
                return;
            }
            for effect in peers.list {
                self.peer_effect(at, effect, &peers.bytes);
            }
            for effect in effects.list {
                self.effect(at, effect, &effects.bytes);
            }
            if self.nodes[at].ended.is_some() && self.nodes[at].member.is_some() {
                return self.kill(at);
            }
        }
    }

    pub(super) fn peer_effect(&mut self, at: usize, effect: peer::Effect, bytes: &[u8]) {
        match effect {
            peer::Effect::Dial { link, to, port } => {
                let other = (to.0 - 1) as usize;
                let from = SocketAddr::from(([127, 0, 0, 1], 9));
                if self.nodes[other].has_vanished {
                    return self.nodes[other].unanswered.push((at, link));
                }
                if self.nodes[other].member.is_none() {
                    let result = Err(peer::DialError::Refused);
                    return self.peer(at, peer::Input::Dialed { link, result });
                }
                let accepted = LinkId(self.nodes[other].next_accepted);
                self.nodes[other].next_accepted += 2;
                let arrives = VecDeque::new();
                let own = Link { port, other: Some((other, accepted)), arrives, is_held: false };
                self.nodes[at].links.insert(link, own);
                let (other_end, arrives) = (Some((at, link)), VecDeque::new());
                let its = Link { port, other: other_end, arrives, is_held: false };
                self.nodes[other].links.insert(accepted, its);
                self.peer(at, peer::Input::Dialed { link, result: Ok(from) });
                self.peer(other, peer::Input::Accepted { link: accepted, port, from });
            }
            peer::Effect::Send { link, start, end } => {
                let Some(own) = self.nodes[at].links.get(&link) else { return };
                let Some((other, its)) = own.other else { return };
                let bytes = match &mut self.hostile {
                    Some(hostile) if hostile.at == at => {
                        hostile.damage(&mut self.rng, own.port, &bytes[start..end])
                    }
                    _ => bytes[start..end].to_vec(),
                };
                if let Some(link) = self.nodes[other].links.get_mut(&its) {
                    link.arrives.push_back(bytes);
                }
            }
            peer::Effect::Close { link } => {
                if let Some(link) = self.nodes[at].links.remove(&link) {
                    let Some((other, its)) = link.other else { return };
                    // What was sent before arrives all the same.
                    if let Some(link) = self.nodes[other].links.get_mut(&its) {
                        link.other = None;
                    }
                }
            }
            peer::Effect::KeepAlive { link: _, learner, key } => {
                key.into_iter().for_each(|key| self.lifeline(at, learner, key));
            }
            peer::Effect::Hold { link } | peer::Effect::Resume { link } => {
                let is_held = matches!(effect, peer::Effect::Hold { .. });
                if let Some(link) = self.nodes[at].links.get_mut(&link) {
                    link.is_held = is_held;
                }
            }
        }
    }

    pub(super) fn effect(&mut self, at: usize, effect: Effect, bytes: &[u8]) {
        let node = &mut self.nodes[at];
        match effect {
            Effect::Append(batch) => node.work.push_back(Work::Append(batch)),
            Effect::Log { ticket, command } => node.work.push_back(Work::Log(ticket, command)),
            Effect::Send { conn, start, end } => {
                let mut rest = &bytes[start..end];
                while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                    let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
                    let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                    // The handshake is told of by `Established`.
                    let replies = node.replies.entry(conn).or_default();
                    if node.sessions.contains_key(&conn) {
                        replies.push((int(0), int(12)));
                    }
                    rest = tail;
                }
            }
            Effect::Established { conn, session, timeout_ms } => {
                node.sessions.insert(conn, (session, timeout_ms));
            }
            Effect::Close { conn, .. } => {
                node.closed.insert(conn);
            }
            Effect::ReceptionBegin { stream, zxid } => {
                node.received.clear();
                node.reception = Some((stream, zxid));
            }
            Effect::ReceptionChunk(chunk) => {
                node.received.extend_from_slice(&chunk);
                let stream = node.reception.unwrap().0;
                node.work.push_back(Work::Chunk(stream));
            }
            Effect::ReceptionFinish => {
                let stream = node.reception.unwrap().0;
                node.work.push_back(Work::Finish(stream));
            }
            Effect::SnapshotFinish => node.work.push_back(Work::Snapshot),
            Effect::ReceptionAbandon => node.reception = None,
            Effect::Fatal(why) if node.may_end => node.ended = Some(why),
            Effect::Fatal(why) => panic!("server {} ends: {why}", at + 1),
            _ => {}
        }
    }

    /// The disk does the next thing.
    pub(super) fn disk(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(work) = node.work.pop_front() else { return };
        match work {
            Work::Append(batch) => {
                let entries = batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec()));
                node.disk.log.extend(entries);
                node.disk.committed = node.disk.committed.max(batch.committed());
                assert!(node.disk.has_snapshot, "a log of no use, without a snapshot before it");
                assert!(node.disk.log.is_sorted_by(|a, b| a.0 < b.0));
                let zxid = node.disk.last();
                self.handle(at, Input::Logged { zxid });
            }
            Work::Snapshot => {
                node.disk.has_snapshot = true;
                self.handle(at, Input::SnapshotEnded { ok: true });
            }
            Work::Chunk(stream) => self.handle(at, Input::ReceptionReady { stream }),
            Work::Finish(stream) => self.handle(at, Input::ReceptionEnded { stream, ok: true }),
            Work::Log(ticket, command) => {
                let done = self.command(at, ticket, command);
                self.handle(at, Input::LogDone { ticket, done });
            }
        }
    }

    pub(super) fn command(&mut self, at: usize, ticket: LogTicket, command: LogCommand) -> LogDone {
        let node = &mut self.nodes[at];
        match command {
            LogCommand::Change(change) => {
                match change {
                    LogChange::WriteEpoch { file: EpochFile::Accepted, epoch } => {
                        node.disk.epochs.accepted = epoch;
                    }
                    LogChange::WriteEpoch { file: EpochFile::Current, epoch } => {
                        node.disk.epochs.current = epoch;
                    }
                    LogChange::Truncate { keep } => {
                        assert!(keep >= node.disk.snapshot);
                        node.disk.log.retain(|(zxid, _)| *zxid <= keep);
                    }
                    LogChange::Retire { snapshot } => {
                        node.disk.log.clear();
                        (node.disk.snapshot, node.disk.has_snapshot) = (snapshot, true);
                        node.disk.database = std::mem::take(&mut node.received);
                        node.disk.committed = snapshot;
                    }
                }
                LogDone::Changed(change)
            }
            LogCommand::Range(RangeCommand::Lease { from, to }) => {
                let has = node.disk.log.iter().any(|(zxid, _)| *zxid == from);
                if !has {
                    return LogDone::Unavailable(RangeError::Purged(None));
                }
                node.leases.insert(ticket, (from, to));
                LogDone::Leased
            }
            LogCommand::Range(RangeCommand::Read { lease, .. }) => {
                let Some((from, to)) = node.leases.get_mut(&lease) else {
                    return LogDone::Unavailable(RangeError::TakenBack);
                };
                let mut batch = Batch::new();
                let rest = node.disk.log.iter().filter(|(zxid, _)| zxid >= from && zxid <= to);
                for (zxid, entry) in rest.take(3) {
                    batch.entry().extend_from_slice(entry);
                    batch.finish_entry(*zxid);
                }
                *from = batch.last_zxid().map_or(*from, Zxid::next);
                let is_last = *from > *to;
                LogDone::Read { batch: Arc::new(batch), is_last }
            }
            LogCommand::Range(RangeCommand::Release { lease }) => {
                node.leases.remove(&lease);
                LogDone::Released
            }
        }
    }

    /// Something that is under way goes on; if nothing is, time passes to the next deadline.
    pub(super) fn step(&mut self) {
        let mut choices = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if node.member.is_none() {
                continue;
            }
            if !node.work.is_empty() && !node.is_stalled {
                choices.push((at, None));
            }
            for (id, link) in &node.links {
                let has_ended = link.other.is_none();
                if !link.is_held && (!link.arrives.is_empty() || has_ended) {
                    choices.push((at, Some(*id)));
                }
            }
        }
        let due: Vec<usize> = (0..self.nodes.len())
            .filter(|&at| {
                let member = self.nodes[at].member.as_ref();
                member.and_then(Member::deadline).is_some_and(|at| at <= self.now.mono)
            })
            .collect();
        if !due.is_empty() && (choices.is_empty() || self.rng.chance(1, 3)) {
            let at = due[self.rng.below(due.len() as u64) as usize];
            return self.handle(at, Input::Tick);
        }
        if choices.is_empty() {
            let deadlines = self.nodes.iter().filter_map(|node| node.member.as_ref()?.deadline());
            let next = deadlines.min().expect("somebody waits for a time");
            self.now.mono = next.max(self.now.mono + Duration::from_millis(1));
            return;
        }
        let (at, link) = choices[self.rng.below(choices.len() as u64) as usize];
        let Some(id) = link else { return self.disk(at) };
        let Some(link) = self.nodes[at].links.get_mut(&id) else { return };
        if let Some(mut bytes) = link.arrives.pop_front() {
            // In pieces, now and then.
            if bytes.len() > 1 && self.rng.chance(1, 4) {
                let cut = 1 + self.rng.below(bytes.len() as u64 - 1) as usize;
                link.arrives.push_front(bytes.split_off(cut));
            }
            let from = link.other;
            self.peer(at, peer::Input::Bytes { link: id, bytes: &bytes });
            if let Some((other, its)) = from {
                self.peer(other, peer::Input::Unsent { link: its, bytes: 0 });
            }
        } else if link.other.is_none() {
            self.nodes[at].links.remove(&id);
            self.peer(at, peer::Input::Ended { link: id, was_reset: false });
        }
    }

    pub(super) fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        for _ in 0..50_000 {
            if is_so(self) {
                return;
            }
            self.step();
        }
        let roles: Vec<_> = self.roles();
        panic!("never: {what}; seed {}; roles are {roles:?} at {:?}", self.seed, self.now.mono);
    }

    pub(super) fn roles(&self) -> Vec<Option<Role>> {
        self.nodes.iter().map(|node| node.member.as_ref().map(Member::role)).collect()
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.roles().iter().position(|role| *role == Some(Role::Leading))
    }

    pub(super) fn all_serve(&self) -> bool {
        self.roles().iter().flatten().all(|role| *role != Role::Looking)
    }

    pub(super) fn connect(&mut self, at: usize, session: SessionId) -> ConnId {
        self.nodes[at].next_conn += 1;
        let conn = ConnId::new(self.nodes[at].next_conn, 1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        self.handle(at, Input::Opened { conn, peer });
        let bytes = &connect_frame(session, 8_000);
        self.handle(at, Input::Frames { conn, bytes });
        conn
    }

    pub(super) fn send(&mut self, at: usize, conn: ConnId, bytes: &[u8]) {
        self.handle(at, Input::Frames { conn, bytes });
    }

    pub(super) fn has_replies(&self, at: usize, conn: ConnId, count: usize) -> bool {
        self.nodes[at].replies.get(&conn).is_some_and(|replies| replies.len() >= count)
    }

    /// Until everything is applied everywhere, and all have the same.
    pub(super) fn settle(&mut self) {
        self.until("all have the same", |world| {
            let members = || world.nodes.iter().filter_map(|node| node.member.as_ref());
            let last = members().map(|member| member.replica().last_processed()).max();
            members().all(|member| {
                member.replica().is_all_applied() && Some(member.replica().last_processed()) == last
            })
        });
        let digests: BTreeSet<u64> = self
            .nodes
            .iter()
            .filter_map(|node| node.member.as_ref())
            .map(|member| member.replica().tree().digest())
            .collect();
        assert_eq!(digests.len(), 1, "trees differ");
        for node in &self.nodes {
            let Some(member) = &node.member else { continue };
            assert_eq!(member.replica().digest_mismatches(), 0, "a digest is wrong");
        }
    }
}
