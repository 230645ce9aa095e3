//! What a server has while it leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{
    Epoch, Instant, LinkId, Mark, Mutation, Now, ServerId, SessionId, Zxid, invariant, is_mutated,
    mark,
};
use crate::log::{Batch, EpochFile, Epochs};
use crate::quorum::Ensemble;
use crate::wire::quorum::{DIGEST, Packet, PacketKind, Revalidate, Revalidated, TOUCHES};

use super::super::confirm::Confirm;
use super::super::effects::{Effect, Effects, LeadingEnd};
use super::super::history::History;
use super::super::learning::Standing;
use super::super::link::{Link, Marks, Stage};
use super::super::silence::BEAT;
use super::figures::Noted;

/// Settings of a leader, as plain values.
#[derive(Clone, Debug)]
pub struct LeadingOptions {
    /// This server.
    pub sid: ServerId,
    /// `tickTime`.
    pub tick: Duration,
    /// `initLimit`, in ticks: for each step before the broadcast.
    pub init_limit: u32,
    /// `syncLimit`, in ticks: for silence of a learner.
    pub sync_limit: u32,
    /// The committed configuration as text, for NEWLEADER.
    pub config: Vec<u8>,
    /// Its version.
    pub config_version: i64,
    /// The new epoch is this one at least: a voter has promised the epoch before.
    pub epoch_least: Epoch,
    /// Speak Apache's protocol only, also with servers of ours.
    pub is_plain: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum LeadInput<'a> {
    /// A learner has connected.
    Opened(LinkId),
    /// Its connection has ended.
    Closed(LinkId),
    /// Something came from it that is no whole packet yet, or it took what was sent.
    Heard(LinkId),
    /// A packet came from it.
    Packet(LinkId, Packet<'a>),
    /// Its connection takes this many more bytes; at first it takes 1 MiB.
    Room(LinkId, usize),
    /// An epoch is durable.
    EpochStored(EpochFile, Epoch),
    /// Everything up to here is durable on this server.
    Logged(Zxid),
    /// Transactions were numbered, and are on their way to this server's log.
    Proposed(Arc<Batch>),
    /// Part of the log for a learner. `floor` is the last transaction of the log that is not after
    /// the one that was asked for, and `batch` follows it directly.
    LogRead {
        /// The learner's link.
        link: LinkId,
        /// See above.
        floor: Zxid,
        /// See above; empty where the log has no more.
        batch: Arc<Batch>,
    },
    /// The log does not go back that far, or has a gap.
    LogUnreadable(LinkId),
    /// A snapshot for the learner begins with the state at this transaction.
    SnapshotBegun(LinkId, Zxid),
    /// All of it is written.
    SnapshotSent(LinkId),
    /// A client of this server sent `sync`; answered by `OwnSyncDone` of the same number.
    OwnSync(u64),
    /// Answers `Effect::SyncAsked`: the last transaction that was prepared when it was carried
    /// out, be it proposed already or not.
    SyncPlaced(LinkId, Zxid),
    /// The numbers of the epoch come to their end: nothing more is proposed in it. Only if
    /// [`Leading::can_renew`]; answered by `Effect::Serve`.
    Renew,
    /// This server is about to end, and leads no more.
    Leave,
    /// Answers `Effect::Request`: the transaction that it has become, be it proposed or not.
    Judged(LinkId, Zxid),
    /// Time passed.
    Tick,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Voters say which epochs they have promised.
    Collecting,
    /// Voters acknowledge the new epoch, which is on its way to this server's disk, too.
    Offering,
    /// Voters take over the history, and this server's disk the epoch that it enters.
    Synchronizing,
    Broadcast,
    /// The last transactions of an epoch are on their way to a quorum's disks.
    Draining,
    /// The next epoch is on its way to a quorum's disks.
    Renewing,
    Ended,
}

/// Connections whose servers have not introduced themselves. A member does so at once.
const STRANGERS_MAX: usize = 64;

/// See [`crate::zab`].
///
/// Invariants: `committed <= last`; a transaction of this epoch is committed only after the history
/// before it is; nothing is proposed before the history is committed.
#[derive(Debug)]
pub struct Leading {
    pub(super) options: LeadingOptions,
    pub(super) ensemble: Ensemble,
    pub(super) phase: Phase,
    pub(super) accepted: Epoch,
    /// `currentEpoch` when this server was elected.
    pub(super) elected_with: Epoch,
    /// The new epoch, as far as it is known.
    pub(super) epoch: Epoch,
    /// Last transaction of the history that the epoch begins with.
    pub(super) began_with: Zxid,
    pub(super) history: History,
    pub(super) logged: Zxid,
    pub(super) committed: Zxid,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) confirm: Confirm,
    /// Voters whose promise is known, this server among them.
    pub(super) promised: Vec<ServerId>,
    /// Voters that have acknowledged the epoch; this server once it is on its disk.
    pub(super) epoch_answers: Vec<ServerId>,
    /// `currentEpoch` is on this server's disk.
    pub(super) has_entered: bool,
    /// Voters that have entered the next epoch, this server among them, while `Phase::Renewing`.
    pub(super) renewed: Vec<ServerId>,
    /// Learners that were offered the next epoch meanwhile.
    pub(super) asked: Vec<LinkId>,
    /// When the phase has to be over.
    pub(super) phase_ends: Instant,
    pub(super) next_ping: Instant,
    /// When learners of ours are looked at that were sent nothing for a while.
    pub(super) next_beat: Instant,
    /// Every second round of PINGs is a tick.
    pub(super) rounds: u64,
    pub(super) noted: Noted,
}

impl Leading {
    /// A server that an election has made leader, with what is on its disk. `Tick` comes next.
    /// `history` ends with the last transaction of its log, and has at least everything after what
    /// its tree shows: a snapshot of the tree is followed by it.
    /// `LeadingOptions::epoch_least` comes from the end of the term before, if it ended by
    /// `LeadingEnd::LaterPromise`.
    pub fn new(
        now: Now,
        options: LeadingOptions,
        ensemble: Ensemble,
        standing: Standing,
        history: History,
    ) -> Leading {
        invariant!(history.last() == standing.logged, "{standing:?}, {:?}", history.last());
        invariant!(standing.current <= standing.accepted, "{standing:?}");
        let phase_ends = now.mono + options.tick * options.init_limit;
        let next_ping = now.mono + options.tick / 2;
        let epoch_least = options.epoch_least;
        Leading {
            promised: vec![options.sid],
            epoch_answers: Vec::new(),
            has_entered: false,
            renewed: Vec::new(),
            asked: Vec::new(),
            options,
            ensemble,
            phase: Phase::Collecting,
            accepted: standing.accepted,
            elected_with: standing.current,
            epoch: epoch_least.max(match is_mutated(Mutation::ReuseEpoch) {
                true => standing.accepted,
                false => Epoch(standing.accepted.0 + 1),
            }),
            began_with: standing.logged,
            history,
            logged: standing.logged,
            committed: standing.committed,
            links: BTreeMap::new(),
            confirm: Confirm::default(),
            phase_ends,
            next_ping,
            next_beat: now.mono,
            rounds: 0,
            noted: Noted::default(),
        }
    }

    /// Whether the history is committed and transactions may be proposed.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Broadcast
    }

    /// Whether a learner understands Apache's protocol only: it compares the digests that
    /// transactions state.
    pub fn has_plain_learners(&self) -> bool {
        let is_plain = |link: &Link| link.sid.is_some() && !link.features.has_groups();
        self.links.values().any(is_plain)
    }

    /// Whether no quorum of voters has come yet.
    pub fn awaits_voters(&self) -> bool {
        self.phase == Phase::Collecting
    }

    /// The epoch that this server leads; before it is fixed, the least that it can be.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Which epochs learners may know this server to have promised and entered.
    pub fn vows(&self) -> Epochs {
        let of = |is_told: bool| if is_told { self.epoch } else { Epoch(0) };
        Epochs { accepted: of(self.accepted == self.epoch), current: of(self.has_entered) }
    }

    /// Last committed transaction.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Handles one input to completion. Call [`Leading::flush`] before waiting.
    pub fn handle(&mut self, now: Now, input: LeadInput<'_>, effects: &mut Effects) {
        if self.phase == Phase::Ended {
            return;
        }
        match input {
            LeadInput::Opened(id) => {
                self.make_room(effects);
                let silent_at = now.mono + self.options.tick * self.options.init_limit;
                let before = self.links.insert(id, Link::new(id, now.mono, silent_at));
                invariant!(before.is_none(), "{id:?} is opened twice");
            }
            LeadInput::Closed(id) => self.closed(id, effects),
            LeadInput::Heard(id) => {
                // Somebody who never gets to the end of a packet must not stay for that.
                if self.links.get(&id).is_some_and(Link::has_answered) {
                    self.heard(now, id);
                }
            }
            LeadInput::Packet(id, packet) => {
                if self.links.get(&id).is_some_and(Link::has_answered) {
                    self.heard(now, id);
                }
                if let Err(reason) = self.packet(now, id, packet, effects) {
                    self.refuse(id, reason, effects);
                }
            }
            LeadInput::Room(id, bytes) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.room = bytes;
                    // Later its kernel may take much from a learner that stands still.
                    let is_loading =
                        matches!(link.stage, Stage::Snapshot { .. } | Stage::History { .. });
                    if is_loading {
                        self.heard(now, id);
                    }
                }
            }
            LeadInput::EpochStored(file, epoch) => self.epoch_stored(now, file, epoch, effects),
            LeadInput::Logged(zxid) => {
                invariant!(zxid <= self.history.last(), "{zxid:?} is logged");
                self.logged = self.logged.max(zxid);
                self.note_ack(now, Some(self.options.sid), zxid);
                self.advance(effects);
            }
            LeadInput::Proposed(batch) => {
                let in_epoch = batch.first_zxid().is_none_or(|first| first.epoch() == self.epoch);
                invariant!(self.is_established() && in_epoch, "proposed in {:?}", self.phase);
                self.note_proposed(now, &batch);
                self.history.push(batch);
                self.advance(effects);
            }
            LeadInput::LogRead { link, floor, batch } => {
                if let Err(reason) = self.log_read(link, floor, batch, effects) {
                    self.refuse(link, reason, effects);
                }
            }
            LeadInput::LogUnreadable(id) => self.log_unreadable(id, effects),
            LeadInput::SnapshotBegun(id, zxid) => self.snapshot_begun(id, zxid, effects),
            LeadInput::SnapshotSent(id) => self.snapshot_sent(now, id),
            LeadInput::OwnSync(ticket) => self.own_sync(ticket),
            LeadInput::SyncPlaced(id, after) => self.sync_placed(id, after),
            LeadInput::Renew => self.renew(now, effects),
            LeadInput::Leave => self.say_farewell(effects),
            LeadInput::Judged(id, zxid) => self.judged(id, zxid),
            LeadInput::Tick => self.tick(now, effects),
        }
        self.note_time(now);
    }

    /// Ends a turn: every learner gets what there is for it and its connection takes.
    pub fn flush(&mut self, effects: &mut Effects) {
        if self.phase == Phase::Ended {
            return;
        }
        self.begin_rounds(effects);
        self.answer_syncs(effects);
        let marks = Marks { began_with: self.began_with, committed: self.committed };
        let new_leader = Zxid::new(self.epoch, 0);
        for link in self.links.values_mut() {
            if link.fill(&self.history, marks, effects) {
                mark(Mark::ReadsOn);
                effects.push(Effect::ReadLog { link: link.id, after: link.cursor });
            }
            if let Stage::History { until } = link.stage
                && link.cursor >= until
            {
                // It stands after everything that a snapshot may hold already (ZOOKEEPER-3104).
                let config = (!self.options.config.is_empty()).then_some(&self.options.config[..]);
                let kind = PacketKind::NewLeader;
                let packet = Packet { data: config, ..Packet::bare(kind, new_leader) };
                link.send(packet, effects);
                link.stage = Stage::NewLeader;
            }
        }
        self.ask_for_next(effects);
    }

    /// When [`Leading::handle`] wants `Tick` at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let beats = self.links.values().any(Link::wants_beats).then_some(self.next_beat);
        let phase_ends = match self.phase {
            Phase::Ended => return None,
            Phase::Broadcast => None,
            _ => Some(self.phase_ends),
        };
        [Some(self.next_ping), beats, phase_ends].into_iter().flatten().min()
    }

    /// The answer to `Effect::Revalidate`, when `after` was the last prepared transaction. It
    /// leaves behind that one: what the client has asked for elsewhere before is no answer to what
    /// it asks for from now on, though it may number its requests anew.
    pub fn revalidated(&mut self, id: LinkId, session: SessionId, is_valid: bool, after: Zxid) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut data = Vec::with_capacity(9);
        Revalidated { session, is_valid }.encode_into(&mut data);
        let packet = Packet::with(PacketKind::Revalidate, Packet::NO_ZXID, &data);
        link.send_after(after, packet);
    }

    /// The tree has this digest after transaction `zxid`: followers of ours compare it with theirs.
    pub fn tell_digest(&mut self, zxid: Zxid, digest: u64, effects: &mut Effects) {
        for link in self.links.values_mut() {
            let is_due = link.digest_of < zxid && link.cursor >= zxid;
            if is_due && link.stage == Stage::UpToDate && link.features.has_groups() {
                link.digest_of = zxid;
                link.send(Packet::with(DIGEST, zxid, &digest.to_be_bytes()), effects);
            }
        }
    }

    pub(super) fn heard(&mut self, now: Now, id: LinkId) {
        let (tick, options) = (self.options.tick, &self.options);
        if let Some(link) = self.links.get_mut(&id) {
            let limit = match link.stage {
                // Before it answers no PING.
                Stage::UpToDate => options.sync_limit,
                _ => options.init_limit,
            };
            link.heard_at = now.mono;
            link.silent_at = now.mono + tick * limit;
        }
    }

    /// Closes the oldest of too many connections whose servers have not introduced themselves.
    fn make_room(&mut self, effects: &mut Effects) {
        // The numbers ascend, so the first is the oldest.
        let mut strangers = self.links.values().filter(|link| link.stage == Stage::Opened);
        let oldest = strangers.next().map(|link| link.id);
        if strangers.count() + 1 < STRANGERS_MAX {
            return;
        }
        if let Some(oldest) = oldest {
            let reason = format!("{STRANGERS_MAX} others wait, too, and one more has come");
            self.refuse(oldest, reason, effects);
        }
    }

    /// Closes a link on which came what must not come.
    pub(super) fn refuse(&mut self, id: LinkId, reason: String, effects: &mut Effects) {
        let Some(link) = self.links.get(&id) else { return };
        let (reason, is_known) = (format!("{}: {reason}", link.name()), link.sid.is_some());
        self.forget(id);
        effects.push(Effect::Refuse { link: id, reason, is_known });
    }

    fn closed(&mut self, id: LinkId, effects: &mut Effects) {
        let counted = self.links.get(&id).is_some_and(Link::counts);
        self.forget(id);
        if counted {
            self.check_quorum(effects);
        }
    }

    pub(super) fn forget(&mut self, id: LinkId) {
        if let Some(sid) = self.links.remove(&id).and_then(|link| link.sid) {
            self.note_end(sid);
        }
        self.confirm.forget(id);
    }

    pub(super) fn end(&mut self, end: LeadingEnd, effects: &mut Effects) {
        self.phase = Phase::Ended;
        for &link in self.links.keys() {
            effects.push(Effect::Close { link, reason: None });
        }
        self.links.clear();
        effects.push(Effect::EndLeading(end));
    }

    pub(super) fn packet(
        &mut self,
        now: Now,
        id: LinkId,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        // A packet of a link that was closed meanwhile.
        let Some(link) = self.links.get(&id) else { return Ok(()) };
        if link.takes_no_answers() {
            return Err("asks for more and more, and reads no answers".into());
        }
        match (link.stage, packet.kind) {
            (Stage::Opened, PacketKind::FollowerInfo | PacketKind::ObserverInfo) => {
                self.introduced(now, id, packet, effects)
            }
            (Stage::Opened, kind) => Err(format!(
                "begins with {kind:?} instead of FOLLOWERINFO: is it a member of this ensemble?"
            )),
            (Stage::Offered, PacketKind::AckEpoch) => self.epoch_answered(now, id, packet, effects),
            (Stage::Introduced | Stage::Offered, kind) => {
                Err(format!("sends {kind:?} before its ACKEPOCH"))
            }
            (_, PacketKind::Ack) => self.acked(now, id, packet.zxid, effects),
            (Stage::UpToDate, PacketKind::Ping) => self.pinged(id, packet, effects),
            (Stage::UpToDate, TOUCHES) => Leading::touched(&packet, effects),
            (Stage::UpToDate, PacketKind::Request) => Leading::requested(id, packet, effects),
            (Stage::UpToDate, PacketKind::Revalidate) => {
                let data = packet.required_data().map_err(|error| error.to_string())?;
                let asked = Revalidate::decode(data).map_err(|error| error.to_string())?;
                effects.push(Effect::Revalidate { link: id, asked });
                Ok(())
            }
            // COMPAT(3.x): Apache's leader logs and ignores what it does not expect.
            _ => Ok(()),
        }
    }

    pub(super) fn tick(&mut self, now: Now, effects: &mut Effects) {
        // The only voter needs nobody else.
        self.fix_epoch(now, effects);
        if self.phase != Phase::Broadcast && now.mono >= self.phase_ends {
            let what = match self.phase {
                Phase::Collecting => "said which epoch it has promised",
                Phase::Offering => "acknowledged the new epoch",
                Phase::Draining => "has written the last transactions of the epoch",
                Phase::Renewing => "entered the next epoch",
                _ => "took over the history of the new epoch",
            };
            mark(Mark::NotConfirmed);
            return self.end(LeadingEnd::NotConfirmed(what), effects);
        }
        self.beat(now, effects);
        if now.mono < self.next_ping {
            return;
        }
        self.next_ping = now.mono + self.options.tick / 2;
        self.rounds += 1;
        let silent = self.links.values().filter(|link| link.silent_at <= now.mono);
        let silent: Vec<(LinkId, String)> = silent
            .map(|link| {
                let ms = now.mono.since(link.heard_at).as_millis();
                // Something may have come all the time.
                let what = if link.has_answered() { "silent" } else { "in the handshake" };
                (link.id, format!("was {what} for {ms} ms"))
            })
            .collect();
        for (id, reason) in silent {
            mark(Mark::LearnerSilent);
            self.refuse(id, reason, effects);
        }
        self.ping(effects);
        if self.rounds.is_multiple_of(2) {
            self.check_quorum(effects);
        }
    }

    /// Without a quorum of voters nothing is committed any more. Learners that were lost look for a
    /// leader, and some of them can find one only when this server does, too.
    fn check_quorum(&mut self, effects: &mut Effects) {
        let own = self.options.sid;
        let is_synced = |sid| {
            sid == own || self.links.values().any(|link| link.counts() && link.sid == Some(sid))
        };
        let is_lost = self.has_begun() && !self.ensemble.is_quorum(is_synced);
        if is_lost && !is_mutated(Mutation::LeadOn) {
            mark(Mark::QuorumLost);
            self.end(LeadingEnd::QuorumLost, effects);
        }
    }

    /// The epoch, or the one before it, is established.
    fn has_begun(&self) -> bool {
        matches!(self.phase, Phase::Broadcast | Phase::Draining | Phase::Renewing)
    }

    /// Keeps learners of ours from taking this leader for gone.
    fn beat(&mut self, now: Now, effects: &mut Effects) {
        if now.mono >= self.next_beat {
            // Looked at twice as often: between two packets lies one interval at most.
            self.next_beat = now.mono + BEAT / 2;
            for link in self.links.values_mut().filter(|link| link.wants_beats()) {
                link.beat(effects);
            }
        }
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check(&self) {
        assert!(self.committed <= self.history.last(), "{:?}", self.committed);
        assert!(self.logged <= self.history.last(), "{:?}", self.logged);
        for link in self.links.values() {
            assert!(link.acked <= link.cursor, "{link:?}");
            assert!(!link.is_streaming() || link.cursor <= self.history.last(), "{link:?}");
            assert!(link.stage != Stage::UpToDate || self.has_begun(), "{link:?}");
        }
    }
}
