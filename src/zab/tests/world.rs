//! The world that simulated servers live in, and what must hold in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Epoch, LifelineKey, LinkId, Now, Rng, ServerId, Zxid};
use crate::log::{Batch, EpochFile};
use crate::quorum::{Ensemble, Membership};
use crate::wire::Reader;
use crate::wire::quorum::{Packet, PacketKind, PacketScan, Scan, TOUCHES};

use super::super::{
    Effect, Effects, History, LeadInput, Leading, LeadingOptions, LearnInput, Learning,
    LearningOptions, Standing,
};
use super::disk::{Entry, Op};
use super::network::{ApacheLearner, Connection, Message, Stream};
use super::node::{Node, Role};

/// A mistake that is made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// What is on its way to the disk is called durable.
    LoggedEarly,
    /// A promised epoch is not durable when it is acted upon.
    EpochEarly,
    /// A truncation is said to have happened.
    NoTruncation,
    /// A start loses the last transaction.
    LostTail,
    /// The server with the oldest history is elected.
    WorstLeader,
    /// A snapshot lacks its last transaction.
    ShortSnapshot,
    /// A leader answers `sync` on its own word.
    UnconfirmedSync,
}

impl Mutation {
    pub const ALL: [Mutation; 7] = [
        Mutation::LoggedEarly,
        Mutation::EpochEarly,
        Mutation::NoTruncation,
        Mutation::LostTail,
        Mutation::WorstLeader,
        Mutation::ShortSnapshot,
        Mutation::UnconfirmedSync,
    ];
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    pub servers: usize,
    pub observers: usize,
    /// Each server speaks Apache's protocol only, with one chance in two.
    pub plain: bool,
    pub mutation: Option<Mutation>,
}

/// How often what happened.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    pub epochs: u64,
    pub renewals: u64,
    pub commits: u64,
    pub diffs: u64,
    pub truncations: u64,
    pub snapshots: u64,
    pub log_parts: u64,
    pub syncs: u64,
    pub crashes: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.epochs += other.epochs;
        self.renewals += other.renewals;
        self.commits += other.commits;
        self.diffs += other.diffs;
        self.truncations += other.truncations;
        self.snapshots += other.snapshots;
        self.log_parts += other.log_parts;
        self.syncs += other.syncs;
        self.crashes += other.crashes;
    }
}

const TICK: Duration = Duration::from_millis(100);

pub struct World {
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) now: Now,
    pub(super) nodes: Vec<Node>,
    pub(super) connections: BTreeMap<LinkId, Connection>,
    pub(super) next_link: u64,
    pub(super) next_payload: i32,
    pub(super) next_ticket: u64,
    pub(super) is_healing: bool,
    pub(super) is_ending: bool,
    /// Pairs of servers that cannot reach each other.
    pub(super) cut: Vec<(usize, usize)>,
    /// The one sequence.
    pub(super) committed: Vec<Entry>,
    /// Who led which epoch.
    pub(super) leaders: BTreeMap<Epoch, usize>,
    /// What was proposed under which number.
    pub(super) proposed: BTreeMap<Zxid, Vec<u8>>,
    pub seen: Seen,
    /// What happened, for a reader who looks for a cause.
    pub history: Vec<String>,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> World {
        let mut rng = Rng::new(seed);
        let count = faults.servers + faults.observers;
        let nodes = (0..count)
            .map(|at| Node::new(at >= faults.servers, faults.plain && rng.chance(1, 2)))
            .collect();
        let mut world = World {
            rng,
            faults,
            now: Now::default(),
            nodes,
            connections: BTreeMap::new(),
            next_link: 1,
            next_payload: 1,
            next_ticket: 1,
            is_healing: false,
            is_ending: false,
            cut: Vec::new(),
            committed: Vec::new(),
            leaders: BTreeMap::new(),
            proposed: BTreeMap::new(),
            seen: Seen::default(),
            history: Vec::new(),
        };
        (0..count).for_each(|at| world.nodes[at].start(Zxid::ZERO));
        world
    }

    pub(super) fn is_mutated(&self, mutation: Mutation) -> bool {
        self.faults.mutation == Some(mutation)
    }

    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.rng.below(count as u64) as usize
    }

    pub(super) fn ensemble(&self) -> Ensemble {
        let voters = (1..=self.faults.servers)
            .map(|at| format!("server.{at}=h{at}:2888:3888:participant\n"));
        let membership = Membership::parse(&voters.collect::<String>());
        Ensemble::new(Arc::new(membership.expect("these are members")))
    }

    pub(super) fn is_paused(&self, at: usize) -> bool {
        self.nodes[at].paused_until > self.now.mono
    }

    pub(super) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// One random event.
    pub fn step(&mut self) -> Result<(), String> {
        self.now.mono = self.now.mono + Duration::from_micros(self.rng.below(4_000));
        let at = self.pick(self.nodes.len());
        if self.is_paused(at) {
            return Ok(());
        }
        match self.rng.below(100) {
            0..50 => self.deliver()?,
            50..75 => self.disk_step(at)?,
            75..79 => self.propose(at)?,
            79..81 => self.sync(at)?,
            86..93 => self.elect()?,
            93 => self.snapshot(at),
            94 => self.renew(at)?,
            95 if !self.is_healing => self.cut_or_join(at),
            96 if !self.is_healing && self.rng.chance(1, 3) => self.crash(at),
            97 => self.restart(at)?,
            99 if !self.is_healing && self.rng.chance(1, 4) => {
                let pause = Duration::from_millis(self.rng.below(2_000));
                self.nodes[at].paused_until = self.now.mono + pause;
            }
            98 if !self.is_healing && self.rng.chance(1, 20) => {
                (0..self.nodes.len()).for_each(|at| self.crash(at));
            }
            _ => {}
        }
        self.ticks()?;
        self.check()
    }

    /// All faults end; everybody must come to the same state, which has all that was committed.
    pub fn heal(&mut self) -> Result<(), String> {
        (self.is_healing, self.cut) = (true, Vec::new());
        for round in 0..30_000 {
            self.is_ending = round > 2_000;
            for at in 0..self.nodes.len() {
                self.restart(at)?;
            }
            self.step()?;
            let whole = |node: &Node| node.serves && node.applied.len() == self.committed.len();
            let is_quiet =
                self.nodes.iter().all(|node| node.tail.is_empty() && node.disk.is_idle());
            if round > 2_000 && is_quiet && self.nodes.iter().all(whole) {
                return Ok(());
            }
        }
        let states: Vec<String> = self
            .nodes
            .iter()
            .map(|node| {
                format!(
                    "{} serves {} applied {:?} last {:?}",
                    role_name(&node.role),
                    node.serves,
                    node.committed,
                    node.last()
                )
            })
            .collect();
        let last = self.history[self.history.len().saturating_sub(8)..].join("\n");
        Err(format!("no agreement after all faults ended: {states:?}\n{last}"))
    }

    // Network.

    pub(super) fn deliver(&mut self) -> Result<(), String> {
        let open: Vec<LinkId> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let (leader, learner) = (connection.leader, connection.learner);
                !self.is_cut(leader, learner) && !self.is_paused(leader) && !self.is_paused(learner)
            })
            .map(|(&link, _)| link)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let link = open[self.pick(open.len())];
        let to_leader = self.rng.chance(1, 2);
        for _ in 0..=self.rng.below(8) {
            match to_leader {
                true => self.deliver_to_leader(link)?,
                false => self.deliver_to_learner(link)?,
            }
        }
        Ok(())
    }

    pub(super) fn deliver_to_leader(&mut self, link: LinkId) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&link) else { return Ok(()) };
        let at = connection.leader;
        match connection.to_leader.messages.pop_front() {
            None => return Ok(()),
            Some(Message::Bytes(bytes)) => connection.to_leader.arrived.extend(bytes),
            Some(Message::Snapshot(_)) => unreachable!("learners send none"),
            Some(Message::Closed) => {
                self.connections.remove(&link);
                return self.lead(at, |machine, now, effects| {
                    machine.handle(now, LeadInput::Closed(link), effects);
                });
            }
        }
        while let Some(packet) = self.next_packet(link, true)? {
            self.lead(at, |machine, now, effects| {
                let packet = decode(&packet);
                machine.handle(now, LeadInput::Packet(link, packet), effects);
            })?;
        }
        Ok(())
    }

    pub(super) fn deliver_to_learner(&mut self, link: LinkId) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&link) else { return Ok(()) };
        let at = connection.learner;
        let Role::Learning { machine, link: current, .. } = &self.nodes[at].role else {
            return Ok(());
        };
        if *current != link || (!machine.wants_packets() && !self.expects_snapshot(link)) {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(&link) else { return Ok(()) };
        match connection.to_learner.messages.pop_front() {
            None => {
                let (leader, room) = (connection.leader, 1 + self.rng.below(2_000) as usize);
                self.lead(leader, |machine, now, effects| {
                    machine.handle(now, LeadInput::Room(link, room), effects);
                })?;
            }
            Some(Message::Bytes(bytes)) => connection.to_learner.arrived.extend(bytes),
            Some(Message::Snapshot(mut entries)) => {
                if self.is_mutated(Mutation::ShortSnapshot) {
                    entries.pop();
                }
                self.nodes[at].disk.queue.push_back(Op::Install(entries));
            }
            Some(Message::Closed) => {
                self.connections.remove(&link);
                return self.learn(at, |machine, now, effects| {
                    machine.handle(now, LearnInput::Lost, effects);
                });
            }
        }
        loop {
            match &self.nodes[at].role {
                Role::Learning { machine, link: current, .. }
                    if *current == link && machine.wants_packets() => {}
                _ => return Ok(()),
            }
            let Some(packet) = self.next_packet(link, false)? else { return Ok(()) };
            if self.nodes[at].is_plain
                && let Some(connection) = self.connections.get_mut(&link)
            {
                connection.apache.take(&decode(&packet), self.nodes[at].is_observer)?;
            }
            self.learn(at, |machine, now, effects| {
                machine.handle(now, LearnInput::Packet(decode(&packet)), effects);
            })?;
        }
    }

    pub(super) fn expects_snapshot(&self, link: LinkId) -> bool {
        let connection = &self.connections[&link];
        connection.to_learner.arrived.is_empty()
            && matches!(
                connection.to_learner.messages.front(),
                Some(Message::Snapshot(_) | Message::Closed)
            )
    }

    pub(super) fn next_packet(
        &mut self,
        link: LinkId,
        to_leader: bool,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some(connection) = self.connections.get_mut(&link) else { return Ok(None) };
        let stream = match to_leader {
            true => &mut connection.to_leader,
            false => &mut connection.to_learner,
        };
        match PacketScan::new(1 << 24).advance(&stream.arrived) {
            Ok(Scan::Complete(end)) => Ok(Some(stream.arrived.drain(..end).collect())),
            Ok(Scan::Needs(_)) => Ok(None),
            Err(error) => Err(format!("a packet that is none: {error}")),
        }
    }

    pub(super) fn close(&mut self, link: LinkId, by: usize) {
        let Some(connection) = self.connections.get_mut(&link) else { return };
        if connection.leader == by {
            connection.to_learner.messages.push_back(Message::Closed);
        } else {
            connection.to_leader.messages.push_back(Message::Closed);
        }
    }

    // Machines.

    pub(super) fn lead(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut Leading, Now, &mut Effects),
    ) -> Result<(), String> {
        let mut effects = Effects::default();
        let now = self.now;
        let Role::Leading(machine) = &mut self.nodes[at].role else { return Ok(()) };
        call(machine, now, &mut effects);
        machine.flush(&mut effects);
        machine.check();
        self.run(at, effects)
    }

    pub(super) fn learn(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut Learning, Now, &mut Effects),
    ) -> Result<(), String> {
        let mut effects = Effects::default();
        let now = self.now;
        let Role::Learning { machine, .. } = &mut self.nodes[at].role else { return Ok(()) };
        call(machine, now, &mut effects);
        machine.flush(&mut effects);
        machine.check();
        self.run(at, effects)
    }

    pub(super) fn run(&mut self, at: usize, effects: Effects) -> Result<(), String> {
        let Effects { bytes, list } = effects;
        for effect in list {
            self.carry_out(at, effect, &bytes)?;
        }
        Ok(())
    }

    pub(super) fn carry_out(
        &mut self,
        at: usize,
        effect: Effect,
        bytes: &[u8],
    ) -> Result<(), String> {
        match effect {
            Effect::Send { link, start, end } => {
                if let Some(connection) = self.connections.get_mut(&link) {
                    let stream = match connection.leader == at {
                        true => &mut connection.to_learner,
                        false => &mut connection.to_leader,
                    };
                    stream.messages.push_back(Message::Bytes(bytes[start..end].to_vec()));
                }
            }
            Effect::Close { link, reason } => {
                if let Some(reason) = reason {
                    self.tell(format!("{at} closes a connection: {reason}"));
                }
                self.close(link, at);
            }
            Effect::Refuse { link, reason, .. } => {
                self.tell(format!("{at} closes a connection: {reason}"));
                self.close(link, at);
            }
            Effect::StoreEpoch(file, epoch) => {
                if self.is_mutated(Mutation::EpochEarly) {
                    return self.tell_epoch(at, file, epoch);
                }
                self.nodes[at].disk.epochs.push_back((file, epoch));
            }
            Effect::EndLearning(end) => self.leave(at, &end),
            Effect::EndLeading(end) => self.leave(at, &end),
            Effect::Append { batch, .. } => self.append(at, &batch)?,
            Effect::Committed(zxid) => self.commit(at, zxid)?,
            Effect::Truncate(zxid) => {
                self.seen.truncations += 1;
                self.nodes[at].disk.queue.push_back(Op::Truncate(zxid));
            }
            Effect::ReceiveSnapshot(_) => self.seen.snapshots += 1,
            Effect::Serve(epoch) => self.serve(at, epoch)?,
            Effect::Renewed(_) => self.seen.renewals += 1,
            Effect::KeepAlive { .. } => {}
            Effect::SyncDone => self.synced(at, None)?,
            Effect::OwnSyncDone(ticket) => self.synced(at, Some(ticket))?,
            Effect::PingAsked => self.learn(at, |machine, _, effects| {
                let touched = std::iter::empty();
                machine.tell_touched(PacketKind::Ping, Zxid(0), touched, effects);
            })?,
            Effect::TouchesDue => self.learn(at, |machine, _, effects| {
                machine.tell_touched(TOUCHES, Zxid(0), std::iter::empty(), effects);
            })?,
            Effect::ReadLog { link, after } => self.read_log(at, link, after)?,
            Effect::SendSnapshot(link) => self.send_snapshot(at, link)?,
            Effect::Request { .. } => self.propose(at)?,
            Effect::SyncAsked(link) => {
                let after = self.nodes[at].last();
                self.lead(at, |machine, now, effects| {
                    machine.handle(now, LeadInput::SyncPlaced(link, after), effects);
                })?;
            }
            Effect::Touch { .. }
            | Effect::Revalidate { .. }
            | Effect::Revalidated { .. }
            | Effect::DigestTold(..) => {}
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, at: usize, end: &dyn std::fmt::Display) {
        self.tell(format!("{at} ends its role: {end}"));
        self.nodes[at].role = Role::Looking;
        self.nodes[at].leave();
    }

    /// Adds a line to the history of this run.
    pub(super) fn tell(&mut self, line: String) {
        self.history.push(format!("{:?} {line}", self.now.mono));
    }

    pub(super) fn append(&mut self, at: usize, batch: &Arc<Batch>) -> Result<(), String> {
        let entries: Vec<Entry> =
            batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec())).collect();
        let last = batch.last_zxid().unwrap_or_default();
        self.nodes[at].tail.extend(entries.iter().cloned());
        self.nodes[at].disk.queue.push_back(Op::Append(entries));
        if self.is_mutated(Mutation::LoggedEarly) {
            self.tell_logged(at, last)?;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, at: usize, zxid: Zxid) -> Result<(), String> {
        let node = &mut self.nodes[at];
        if zxid < node.committed {
            return Err(format!("{at} is told that {zxid:?} commits after {:?}", node.committed));
        }
        node.commit(zxid);
        self.check_applied(at)
    }

    pub(super) fn serve(&mut self, at: usize, epoch: Epoch) -> Result<(), String> {
        self.nodes[at].serves = true;
        if !matches!(self.nodes[at].role, Role::Leading(_)) {
            self.seen.diffs += 1;
            return Ok(());
        }
        self.seen.epochs += 1;
        self.nodes[at].next = Some(Zxid::new(epoch, 0));
        match self.leaders.insert(epoch, at) {
            None => Ok(()),
            Some(other) => Err(format!("{other} and {at} lead {epoch:?}")),
        }
    }

    pub(super) fn read_log(&mut self, at: usize, link: LinkId, after: Zxid) -> Result<(), String> {
        self.seen.log_parts += 1;
        let node = &self.nodes[at];
        // What is on its way to the disk is in memory, where a leader looks first.
        let all: Vec<Entry> = node.known().cloned().collect();
        let input = if after < node.disk.snapshot_zxid() {
            LeadInput::LogUnreadable(link)
        } else {
            let at = all.partition_point(|entry| entry.0 <= after);
            let floor = at.checked_sub(1).map_or(Zxid::ZERO, |at| all[at].0);
            let mut batch = Batch::new();
            for (zxid, entry) in all[at..].iter().take(5) {
                batch.entry().extend_from_slice(entry);
                batch.finish_entry(*zxid);
            }
            LeadInput::LogRead { link, floor, batch: Arc::new(batch) }
        };
        self.lead(at, |machine, now, effects| machine.handle(now, input, effects))
    }

    pub(super) fn send_snapshot(&mut self, at: usize, link: LinkId) -> Result<(), String> {
        let entries = self.nodes[at].applied.clone();
        let zxid = entries.last().map_or(Zxid::ZERO, |entry| entry.0);
        self.lead(at, |machine, now, effects| {
            machine.handle(now, LeadInput::SnapshotBegun(link, zxid), effects);
        })?;
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.to_learner.messages.push_back(Message::Snapshot(entries));
        }
        self.lead(at, |machine, now, effects| {
            machine.handle(now, LeadInput::SnapshotSent(link), effects);
        })
    }

    // Disk.

    pub(super) fn disk_step(&mut self, at: usize) -> Result<(), String> {
        if self.rng.chance(1, 3)
            && let Some((file, epoch)) = self.nodes[at].disk.epochs.pop_front()
        {
            self.nodes[at].disk.store(file, epoch);
            return self.tell_epoch(at, file, epoch);
        }
        let Some(op) = self.nodes[at].disk.queue.pop_front() else { return Ok(()) };
        let skips = self.is_mutated(Mutation::NoTruncation) && matches!(op, Op::Truncate(_));
        let is_done = skips || self.nodes[at].disk.perform(&op);
        match op {
            Op::Append(entries) => {
                let last = entries.last().map_or(Zxid::ZERO, |entry| entry.0);
                match self.is_mutated(Mutation::LoggedEarly) {
                    true => Ok(()),
                    false => self.tell_logged(at, last),
                }
            }
            Op::Truncate(zxid) if is_done => {
                self.nodes[at].tail.retain(|entry| entry.0 <= zxid);
                self.learn(at, |machine, now, effects| {
                    machine.handle(now, LearnInput::Truncated(zxid), effects);
                })
            }
            Op::Truncate(_) => self.learn(at, |machine, now, effects| {
                machine.handle(now, LearnInput::NotTruncated, effects);
            }),
            Op::Install(entries) => {
                let zxid = entries.last().map_or(Zxid::ZERO, |entry| entry.0);
                let node = &mut self.nodes[at];
                (node.applied, node.committed) = (entries, zxid);
                node.tail.clear();
                self.check_applied(at)?;
                self.learn(at, |machine, now, effects| {
                    machine.handle(now, LearnInput::Installed, effects);
                })
            }
        }
    }

    pub(super) fn tell_logged(&mut self, at: usize, last: Zxid) -> Result<(), String> {
        match self.nodes[at].role {
            Role::Leading(_) => self.lead(at, |machine, now, effects| {
                machine.handle(now, LeadInput::Logged(last), effects);
            }),
            _ => self.learn(at, |machine, now, effects| {
                machine.handle(now, LearnInput::Logged(last), effects);
            }),
        }
    }

    pub(super) fn tell_epoch(
        &mut self,
        at: usize,
        file: EpochFile,
        epoch: Epoch,
    ) -> Result<(), String> {
        match self.nodes[at].role {
            Role::Leading(_) => self.lead(at, |machine, now, effects| {
                machine.handle(now, LeadInput::EpochStored(file, epoch), effects);
            }),
            _ => self.learn(at, |machine, now, effects| {
                machine.handle(now, LearnInput::EpochStored(file, epoch), effects);
            }),
        }
    }

    pub(super) fn snapshot(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.disk.is_idle() && !matches!(node.role, Role::Down) {
            let zxid = node.committed;
            node.disk.snapshot_up_to(zxid);
        }
    }

    /// An election among some servers that reach each other, or one of them finds the leader.
    pub(super) fn elect(&mut self) -> Result<(), String> {
        let looking: Vec<usize> = (0..self.nodes.len())
            .filter(|&at| matches!(self.nodes[at].role, Role::Looking))
            // A role has ended when everything that it began has.
            .filter(|&at| self.nodes[at].disk.is_idle())
            .collect();
        if looking.is_empty() {
            return Ok(());
        }
        let one = looking[self.pick(looking.len())];
        let leader = (0..self.nodes.len())
            .find(|&at| matches!(self.nodes[at].role, Role::Leading(_)) && !self.is_cut(one, at));
        if let Some(leader) = leader
            && (self.is_healing || self.rng.chance(1, 2))
        {
            return self.follow(one, leader);
        }
        let voters: Vec<usize> = looking
            .into_iter()
            .filter(|&at| at < self.faults.servers && (at == one || !self.is_cut(one, at)))
            .collect();
        if !self.ensemble().is_quorum(|id| voters.iter().any(|&at| sid(at) == id)) {
            return Ok(());
        }
        let rank = |&at: &usize| (self.nodes[at].disk.current, self.nodes[at].last(), at);
        let best = match self.is_mutated(Mutation::WorstLeader) {
            true => voters.iter().copied().min_by_key(rank),
            false => voters.iter().copied().max_by_key(rank),
        };
        let Some(best) = best else { return Ok(()) };
        let options = LeadingOptions {
            sid: sid(best),
            tick: TICK,
            init_limit: 10,
            sync_limit: 5,
            config: b"version=0".to_vec(),
            config_version: 0,
            epoch_least: Epoch(0),
            is_plain: self.nodes[best].is_plain,
        };
        let machine = {
            let (ensemble, standing) = (self.ensemble(), self.standing(best));
            Leading::new(self.now, options, ensemble, standing, History::new(standing.logged, 400))
        };
        self.nodes[best].role = Role::Leading(Box::new(machine));
        self.lead(best, |machine, now, effects| machine.handle(now, LeadInput::Tick, effects))?;
        for at in voters.into_iter().filter(|&at| at != best) {
            self.follow(at, best)?;
        }
        Ok(())
    }

    pub(super) fn standing(&self, at: usize) -> Standing {
        let node = &self.nodes[at];
        Standing {
            accepted: node.disk.accepted,
            current: node.disk.current,
            logged: node.last(),
            committed: node.committed,
            needs_snapshot: false,
        }
    }

    pub(super) fn follow(&mut self, at: usize, leader: usize) -> Result<(), String> {
        let options = LearningOptions {
            sid: sid(at),
            is_observer: self.nodes[at].is_observer,
            tick: TICK,
            init_limit: 10,
            sync_limit: 5,
            config_version: 0,
            is_plain: self.nodes[at].is_plain,
            is_patient: false,
            lifeline_key: LifelineKey(3),
        };
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let machine = Box::new(Learning::new(self.now, options, self.standing(at)));
        self.nodes[at].role = Role::Learning { machine, link, leader };
        let (to_leader, to_learner) = (Stream::default(), Stream::default());
        let apache = ApacheLearner::default();
        let connection = Connection { apache, leader, learner: at, to_leader, to_learner };
        self.connections.insert(link, connection);
        self.lead(leader, |machine, now, effects| {
            machine.handle(now, LeadInput::Opened(link), effects);
        })?;
        self.learn(at, |machine, now, effects| {
            machine.handle(now, LearnInput::Connected(link), effects);
        })
    }

    pub(super) fn ticks(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            // A server that stood still hears of the time late.
            if self.is_paused(at) || self.rng.chance(1, 2) {
                continue;
            }
            let deadline = match &self.nodes[at].role {
                Role::Leading(machine) => machine.deadline(),
                Role::Learning { machine, .. } => machine.deadline(),
                _ => None,
            };
            if deadline.is_some_and(|at| at <= self.now.mono) {
                self.lead(at, |machine, now, effects| {
                    machine.handle(now, LeadInput::Tick, effects);
                })?;
                self.learn(at, |machine, now, effects| {
                    machine.handle(now, LearnInput::Tick, effects);
                })?;
            }
        }
        Ok(())
    }
}

fn sid(at: usize) -> ServerId {
    ServerId(at as i64 + 1)
}

fn decode(bytes: &[u8]) -> Packet<'_> {
    Packet::decode_from(&mut Reader::new(bytes)).expect("the scan found its end")
}

pub(super) fn role_name(role: &Role) -> String {
    match role {
        Role::Down => "down".into(),
        Role::Looking => "looking".into(),
        Role::Leading(machine) => format!("leads {:?}", machine.epoch()),
        Role::Learning { leader, machine, .. } => {
            format!("follows {leader} in {:?}", machine.epoch())
        }
    }
}
