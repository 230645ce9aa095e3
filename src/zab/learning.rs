//! What a server has while it follows or observes a leader.

mod asking;
mod figures;
mod renewal;

use std::sync::Arc;
use std::time::Duration;

use crate::base::{
    Epoch, Instant, LifelineKey, LinkId, Mark, Mutation, Now, ServerId, Zxid, invariant,
    is_mutated, mark,
};
use crate::log::{Batch, EpochFile, Epochs};
use crate::wire::quorum::{
    DIGEST, EpochAnswer, FAREWELL, Features, LearnerInfo, NEXT_EPOCH, PROPOSALS, Packet,
    PacketKind, Proposed, Revalidated, leader_info_version, proposals,
};

use super::effects::{Effect, Effects, LearnerEnd, Rebuild};
use super::history::{EPOCH_MAX, follows};
use super::packets::{check_entry, digest_told, malformed, unexpected};
use super::silence::Silence;

use figures::Noted;
use renewal::Renewal;

/// Settings of a learner, as plain values.
#[derive(Clone, Debug)]
pub struct LearningOptions {
    /// This server.
    pub sid: ServerId,
    /// It never votes: it is told of commits only.
    pub is_observer: bool,
    /// `tickTime`.
    pub tick: Duration,
    /// `initLimit`, in ticks: for everything up to NEWLEADER.
    pub init_limit: u32,
    /// `syncLimit`, in ticks: for silence after it.
    pub sync_limit: u32,
    /// Version of the committed configuration.
    pub config_version: i64,
    /// Speak Apache's protocol only, also with a leader of ours.
    pub is_plain: bool,
    /// A leader counts as silent after `sync_limit` only, also where it sends at short intervals.
    pub is_patient: bool,
    /// For the leader's lifeline to this server.
    pub lifeline_key: LifelineKey,
}

/// What a server has on its disk when it begins to learn. Nothing is on its way there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// `acceptedEpoch`.
    pub accepted: Epoch,
    /// `currentEpoch`.
    pub current: Epoch,
    /// The last transaction in its log, or of its snapshot if that is later.
    pub logged: Zxid,
    /// The last transaction that it knows to be committed.
    pub committed: Zxid,
    /// The history cannot be relied on, or could not be truncated: only a snapshot helps. Such a
    /// server does not count for the new epoch.
    pub needs_snapshot: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum LearnInput<'a> {
    /// The connection to the leader stands.
    Connected(LinkId),
    /// It could not be made, or has ended.
    Lost,
    /// The leader's process has ended, whatever the connection says.
    Died,
    /// Something came from the leader that is no whole packet yet.
    Heard,
    /// A packet came. Only while [`Learning::wants_packets`].
    Packet(Packet<'a>),
    /// An epoch is durable.
    EpochStored(EpochFile, Epoch),
    /// The log ends with this transaction now, durably.
    Truncated(Zxid),
    /// The log cannot be cut there: it begins later, or a snapshot holds more.
    NotTruncated,
    /// All of the snapshot of `ReceiveSnapshot` has arrived. Until then the leader counts as silent
    /// when nothing comes, which `Heard` has to be told of.
    Received,
    /// The snapshot of `ReceiveSnapshot` is the database now, durably.
    Installed,
    /// The stream of a snapshot is no snapshot.
    BadSnapshot(String),
    /// Everything up to here is durable.
    Logged(Zxid),
    /// This server's own disk has taken nothing for so long that it is of no use to anybody.
    Stalled {
        /// Milliseconds.
        ms: u64,
        /// Transactions that wait for it.
        bytes: usize,
    },
    /// Time passed.
    Tick,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Connecting,
    /// FOLLOWERINFO is sent.
    Discovery,
    /// `acceptedEpoch` is on its way to the disk.
    Promising,
    /// ACKEPOCH is sent; DIFF, TRUNC or SNAP comes.
    Deciding,
    /// The log goes back, or a snapshot comes in: packets wait.
    Rebuilding(Zxid),
    /// History comes.
    Synchronizing,
    /// NEWLEADER came; history up to this transaction is on its way to the disk.
    Persisting(Zxid),
    /// `currentEpoch` is on its way to the disk.
    Entering,
    /// NEWLEADER is acknowledged.
    AwaitingQuorum,
    /// UPTODATE came.
    Broadcast,
    Ended,
}

/// See [`crate::zab`].
///
/// Invariants: `acked <= logged <= last`; `committed <= last`; nothing is acknowledged before phase
/// `Broadcast` but NEWLEADER.
#[derive(Debug)]
pub struct Learning {
    options: LearningOptions,
    phase: Phase,
    link: LinkId,
    accepted: Epoch,
    current: Epoch,
    needs_snapshot: bool,
    /// The leader's epoch, from LEADERINFO on.
    epoch: Epoch,
    /// The leader understands more than Apache's packets.
    leader_features: Features,
    /// Last transaction that is known: received, and handed to the log.
    last: Zxid,
    logged: Zxid,
    /// Last transaction that the leader called committed.
    committed: Zxid,
    /// Told to the replica.
    released: Zxid,
    /// Last proposal that is acknowledged, or that needs no acknowledgement.
    acked: Zxid,
    /// Received and not handed over yet.
    batch: Batch,
    /// Transactions of `batch` that requests of this server have become, if the leader says so.
    own: Vec<Zxid>,
    /// When the leader counts as silent.
    silence: Silence,
    /// `sync`s that were forwarded and are not answered.
    syncs: usize,
    /// It takes no more transactions.
    is_leaving: bool,
    /// A snapshot has not arrived as a whole.
    is_receiving: bool,
    /// The leader goes on in the next epoch, and this server is about to.
    renewal: Option<Renewal>,
    noted: Noted,
}

impl Learning {
    /// A server that is about to connect to its leader.
    pub fn new(now: Now, options: LearningOptions, standing: Standing) -> Learning {
        invariant!(
            standing.current <= standing.accepted,
            "epochs are entered after they are promised: {standing:?}"
        );
        invariant!(
            standing.committed <= standing.logged,
            "what is committed is known: {standing:?}"
        );
        let silence = Silence::new(now.mono, options.tick * options.init_limit);
        Learning {
            options,
            phase: Phase::Connecting,
            link: LinkId(0),
            accepted: standing.accepted,
            current: standing.current,
            needs_snapshot: standing.needs_snapshot,
            epoch: Epoch(0),
            leader_features: Features::NONE,
            last: standing.logged,
            logged: standing.logged,
            committed: standing.committed,
            released: standing.committed,
            acked: standing.logged,
            batch: Batch::new(),
            own: Vec::new(),
            silence,
            syncs: 0,
            is_leaving: false,
            is_receiving: false,
            renewal: None,
            noted: Noted::default(),
        }
    }

    /// Whether it serves clients.
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Broadcast
    }

    /// This server is about to end: it takes no more transactions, but hears of the commits of
    /// those that it has.
    ///
    /// Only while it serves. Before, it would confirm a history of which it has left out a part.
    pub fn leave(&mut self) {
        invariant!(self.is_serving(), "nothing is left out of the history of an epoch");
        self.is_leaving = true;
    }

    /// Whether packets may be handed in. Otherwise they stay on the connection.
    pub fn wants_packets(&self) -> bool {
        let is_busy = matches!(
            self.phase,
            Phase::Connecting | Phase::Promising | Phase::Rebuilding(_) | Phase::Ended
        );
        !is_busy && self.renewal.is_none()
    }

    /// Bytes of transactions that were received and not handed over yet.
    pub fn gathered(&self) -> usize {
        self.batch.bytes_len()
    }

    /// Whether it is the leader whom it waits for, and not its own disk.
    fn awaits_leader(&self) -> bool {
        self.wants_packets() || self.phase == Phase::Connecting || self.is_receiving
    }

    /// The epoch of the leader; 0 before it is known.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Which epochs the leader may know this server to have promised and entered. What it was
    /// told by an earlier leader is not among them.
    pub fn vows(&self) -> Epochs {
        let of = |is_told: bool| if is_told { self.epoch } else { Epoch(0) };
        let has_promised = !matches!(
            self.phase,
            Phase::Connecting | Phase::Discovery | Phase::Promising | Phase::Ended
        );
        let has_entered = matches!(self.phase, Phase::AwaitingQuorum | Phase::Broadcast);
        Epochs { accepted: of(has_promised), current: of(has_entered) }
    }

    /// Handles one input to completion.
    pub fn handle(&mut self, now: Now, input: LearnInput<'_>, effects: &mut Effects) {
        if self.phase == Phase::Ended {
            return;
        }
        let result = match input {
            LearnInput::Connected(link) => {
                self.connected(now, link, effects);
                Ok(())
            }
            LearnInput::Lost => Err(LearnerEnd::Lost),
            LearnInput::Died => Err(LearnerEnd::Died),
            LearnInput::Heard => {
                self.heard(now);
                Ok(())
            }
            LearnInput::Packet(packet) => {
                self.heard(now);
                let result = self.packet(now, packet, effects);
                self.note_packet(now);
                result
            }
            LearnInput::EpochStored(file, epoch) => {
                self.heard(now);
                self.epoch_stored(file, epoch, effects);
                Ok(())
            }
            LearnInput::Truncated(zxid) => {
                self.heard(now);
                self.rebuilt(zxid, Phase::Rebuilding(zxid));
                Ok(())
            }
            LearnInput::Installed => {
                self.heard(now);
                let Phase::Rebuilding(zxid) = self.phase else {
                    unreachable!("a snapshot is installed that nobody asked for")
                };
                self.rebuilt(zxid, self.phase);
                (self.released, self.needs_snapshot) = (zxid, false);
                Ok(())
            }
            LearnInput::Received => {
                self.is_receiving = false;
                Ok(())
            }
            LearnInput::NotTruncated => {
                Err(LearnerEnd::Protocol("the log cannot be truncated as it asks".into()))
            }
            LearnInput::BadSnapshot(why) => Err(LearnerEnd::Protocol(why)),
            LearnInput::Logged(zxid) => {
                self.on_disk(zxid, effects);
                Ok(())
            }
            LearnInput::Stalled { ms, bytes } => {
                mark(Mark::Stalled);
                Err(LearnerEnd::Stalled { ms, bytes })
            }
            LearnInput::Tick => {
                self.touch(now, effects);
                self.check_silence(now)
            }
        };
        if let Err(end) = result {
            self.end(end, effects);
        }
    }

    /// When [`Learning::handle`] wants `Tick` at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.touch_at().or_else(|| self.awaits_leader().then_some(self.silence.ends_at()))
    }

    /// Hands over what was received since the last call: to the log, then to those who apply it.
    pub fn flush(&mut self, effects: &mut Effects) {
        if !self.batch.is_empty() {
            let mut batch = std::mem::take(&mut self.batch);
            // For the next start: what the log says of commits.
            batch.set_committed(self.released);
            let own = std::mem::take(&mut self.own);
            let own = self.leader_features.has_groups().then_some(own);
            effects.push(Effect::Append { batch: Arc::new(batch), own });
        }
        if self.may_release() && self.committed > self.released {
            if self.phase != Phase::Broadcast {
                mark(Mark::CommittedInSync);
            }
            self.released = self.committed;
            effects.push(Effect::Committed(self.committed));
        }
    }

    /// Whether a quorum has what the leader calls committed.
    ///
    /// Before UPTODATE a leader of Apache's sends its whole history as committed, also what no
    /// quorum has. A leader of ours says whether it is beyond that.
    fn may_release(&self) -> bool {
        self.phase == Phase::Broadcast || self.leader_features.is_established()
    }

    fn heard(&mut self, now: Now) {
        let limit = match self.phase {
            Phase::AwaitingQuorum | Phase::Broadcast => self.options.sync_limit,
            _ => self.options.init_limit,
        };
        self.silence.heard(now.mono, self.options.tick * limit);
    }

    fn check_silence(&mut self, now: Now) -> Result<(), LearnerEnd> {
        // While this server's own disk is awaited, nothing is taken from the leader.
        if !self.awaits_leader() {
            return Ok(());
        }
        if is_mutated(Mutation::WaitForever) {
            self.heard(now);
        }
        match self.silence.check(now.mono) {
            None => Ok(()),
            Some(lasts) => {
                mark(Mark::LeaderSilent);
                Err(LearnerEnd::Silent(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)))
            }
        }
    }

    fn end(&mut self, end: LearnerEnd, effects: &mut Effects) {
        if end == LearnerEnd::Left {
            mark(Mark::LeaderLeft);
        }
        // What was received is history all the same, and goes to the log.
        self.flush(effects);
        if self.phase != Phase::Connecting {
            effects.push(Effect::Close { link: self.link, reason: Some(end.to_string()) });
        }
        effects.push(Effect::EndLearning(end));
        self.phase = Phase::Ended;
    }

    fn connected(&mut self, now: Now, link: LinkId, effects: &mut Effects) {
        invariant!(self.phase == Phase::Connecting, "connected twice: {:?}", self.phase);
        (self.link, self.phase) = (link, Phase::Discovery);
        self.heard(now);
        let kind = match self.options.is_observer {
            true => PacketKind::ObserverInfo,
            false => PacketKind::FollowerInfo,
        };
        let info = LearnerInfo::encode(self.options.sid, self.options.config_version);
        let mut info = info.to_vec();
        if !self.options.is_plain {
            Features::encode_learner(self.options.lifeline_key, &mut info);
        }
        self.send(Packet::with(kind, Zxid::new(self.accepted, 0), &info), effects);
    }

    fn packet(
        &mut self,
        now: Now,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), LearnerEnd> {
        invariant!(self.wants_packets(), "a packet comes in {:?}", self.phase);
        match self.phase {
            Phase::Discovery => self.leader_info(packet, effects),
            Phase::Deciding => self.decision(packet, effects),
            _ => self.traffic(now, packet, effects),
        }
    }

    fn leader_info(&mut self, packet: Packet<'_>, effects: &mut Effects) -> Result<(), LearnerEnd> {
        if packet.kind != PacketKind::LeaderInfo {
            return Err(unexpected(&packet, "before LEADERINFO"));
        }
        let data = packet.required_data().map_err(malformed)?;
        leader_info_version(data).map_err(malformed)?;
        let offered = packet.zxid.epoch();
        if offered >= EPOCH_MAX {
            return Err(LearnerEnd::Protocol(format!("it proposes epoch {:x}", offered.0)));
        }
        if offered < self.accepted {
            mark(Mark::OldEpochOffered);
            return Err(LearnerEnd::OldEpoch { offered, promised: self.accepted });
        }
        if !self.options.is_plain {
            self.leader_features = Features::of_leader(data);
        }
        self.epoch = offered;
        if offered == self.accepted || is_mutated(Mutation::PromiseUnstored) {
            let is_new = offered > self.accepted;
            self.accepted = offered;
            self.acknowledge_epoch(is_new.then_some(self.current), effects);
        } else {
            self.phase = Phase::Promising;
            effects.push(Effect::StoreEpoch(EpochFile::Accepted, offered));
        }
        Ok(())
    }

    fn epoch_stored(&mut self, file: EpochFile, epoch: Epoch, effects: &mut Effects) {
        if let Some(renewal) = self.renewal {
            return self.renewed(renewal, file, epoch, effects);
        }
        invariant!(epoch == self.epoch, "{epoch:?} is stored in {:?}", self.epoch);
        match (self.phase, file) {
            (Phase::Promising, EpochFile::Accepted) => {
                self.accepted = epoch;
                self.acknowledge_epoch(Some(self.current), effects);
            }
            (Phase::Entering, EpochFile::Current) => {
                self.current = epoch;
                self.phase = Phase::AwaitingQuorum;
                self.acknowledge_new_leader(effects);
                if is_mutated(Mutation::ServeEarly) {
                    self.up_to_date(effects);
                }
            }
            (phase, file) => unreachable!("{file:?} is stored in {phase:?}"),
        }
    }

    /// Answers LEADERINFO. `None` says: "I have promised this epoch before, do not count me".
    fn acknowledge_epoch(&mut self, current: Option<Epoch>, effects: &mut Effects) {
        self.phase = Phase::Deciding;
        let (answer, zxid) = match current {
            _ if self.needs_snapshot => (EpochAnswer::AlreadyPromised, Zxid(-1)),
            Some(current) => (EpochAnswer::Accepted(current), self.last),
            None => {
                mark(Mark::EpochPromisedBefore);
                (EpochAnswer::AlreadyPromised, self.last)
            }
        };
        self.send(Packet::with(PacketKind::AckEpoch, zxid, &answer.encode()), effects);
    }

    fn acknowledge_new_leader(&self, effects: &mut Effects) {
        self.send(Packet::bare(PacketKind::Ack, Zxid::new(self.epoch, 0)), effects);
    }

    fn decision(&mut self, packet: Packet<'_>, effects: &mut Effects) -> Result<(), LearnerEnd> {
        match packet.kind {
            PacketKind::Diff if self.needs_snapshot => {
                Err(LearnerEnd::Protocol("a DIFF for a server that needs a snapshot".into()))
            }
            PacketKind::Diff => {
                // The packet names what the leader has committed. It is not a position.
                self.committed = self.committed.max(self.last.min(packet.zxid));
                self.phase = Phase::Synchronizing;
                Ok(())
            }
            PacketKind::Trunc if packet.zxid < self.released => {
                // A leader that asks for this has lost what a quorum had.
                Err(self.forgotten(Rebuild::Truncation, packet.zxid))
            }
            PacketKind::Trunc if self.needs_snapshot || packet.zxid > self.last => {
                Err(LearnerEnd::Protocol(format!(
                    "it asks to truncate to {:?}, and this server has {:?}",
                    packet.zxid, self.last
                )))
            }
            PacketKind::Trunc => {
                self.phase = Phase::Rebuilding(packet.zxid);
                match is_mutated(Mutation::KeepTail) {
                    true => self.rebuilt(packet.zxid, self.phase),
                    false => effects.push(Effect::Truncate(packet.zxid)),
                }
                Ok(())
            }
            PacketKind::Snap if packet.zxid < self.released => {
                Err(self.forgotten(Rebuild::Snapshot, packet.zxid))
            }
            PacketKind::Snap if packet.zxid.epoch() > self.epoch => {
                Err(LearnerEnd::Protocol(format!(
                    "it sends its database as of {:?} in epoch {:x}",
                    packet.zxid, self.epoch.0
                )))
            }
            PacketKind::Snap => {
                self.is_receiving = true;
                self.phase = Phase::Rebuilding(packet.zxid);
                effects.push(Effect::ReceiveSnapshot(packet.zxid));
                Ok(())
            }
            _ => Err(unexpected(&packet, "instead of DIFF, TRUNC or SNAP")),
        }
    }

    fn forgotten(&self, asks: Rebuild, zxid: Zxid) -> LearnerEnd {
        LearnerEnd::Forgotten { asks, zxid, committed: self.released }
    }

    /// The log and what is known end with `zxid` now, which is history of the leader.
    fn rebuilt(&mut self, zxid: Zxid, expected: Phase) {
        self.is_receiving = false;
        invariant!(self.phase == expected, "rebuilt to {zxid:?} in {:?}", self.phase);
        (self.last, self.logged, self.committed) = (zxid, zxid, zxid);
        self.phase = Phase::Synchronizing;
    }

    fn traffic(
        &mut self,
        now: Now,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), LearnerEnd> {
        match packet.kind {
            PacketKind::Proposal => self.proposal(packet.zxid, packet.data.unwrap_or_default()),
            PROPOSALS => {
                for proposed in proposals(packet.data.unwrap_or_default()) {
                    let Proposed { zxid, entry, is_own } = proposed.map_err(malformed)?;
                    let before = self.last;
                    self.proposal(zxid, entry)?;
                    if is_own && self.last > before {
                        self.own.push(zxid);
                    }
                }
                Ok(())
            }
            PacketKind::Commit => self.commit(packet.zxid),
            PacketKind::Inform => {
                self.proposal(packet.zxid, packet.data.unwrap_or_default())?;
                self.commit(packet.zxid)
            }
            PacketKind::NewLeader if self.phase == Phase::Synchronizing => {
                self.new_leader(packet.zxid, effects)
            }
            PacketKind::UpToDate if self.phase == Phase::AwaitingQuorum => {
                self.up_to_date(effects);
                self.heard(now);
                Ok(())
            }
            PacketKind::UpToDate if is_mutated(Mutation::ServeEarly) => Ok(()),
            PacketKind::NewLeader | PacketKind::UpToDate => Err(unexpected(&packet, "now")),
            FAREWELL => Err(LearnerEnd::Left),
            NEXT_EPOCH if self.phase == Phase::Broadcast => self.next_epoch(now, &packet, effects),
            PacketKind::Ping if self.phase == Phase::Broadcast => {
                effects.push(Effect::PingAsked);
                Ok(())
            }
            DIGEST if self.phase == Phase::Broadcast => digest_told(&packet, effects),
            PacketKind::Sync if self.phase == Phase::Broadcast => {
                let Some(left) = self.syncs.checked_sub(1) else {
                    return Err(unexpected(&packet, "though no sync waits for an answer"));
                };
                self.syncs = left;
                // It stands behind the commits that it waited for.
                self.flush(effects);
                effects.push(Effect::SyncDone);
                Ok(())
            }
            PacketKind::Revalidate => {
                // It stands behind what the session has done elsewhere.
                self.flush(effects);
                let data = packet.required_data().map_err(malformed)?;
                let Revalidated { session, is_valid } =
                    Revalidated::decode(data).map_err(malformed)?;
                effects.push(Effect::Revalidated { session, is_valid });
                Ok(())
            }
            // Members are fixed. Passed over, it would be missing from the history.
            PacketKind::CommitAndActivate | PacketKind::InformAndActivate => {
                Err(unexpected(&packet, "though members cannot be changed here"))
            }
            // COMPAT(3.x): other packets are ignored, during synchronization PING, too.
            _ => Ok(()),
        }
    }

    /// A quorum has the history: this server may serve.
    fn up_to_date(&mut self, effects: &mut Effects) {
        self.phase = Phase::Broadcast;
        if self.leader_features.has_beats() && !self.options.is_patient {
            self.silence.expect_beats();
        }
        // COMPAT(3.x): the second acknowledgement that Apache's leader waits for.
        self.acknowledge_new_leader(effects);
        self.flush(effects);
        effects.push(Effect::Serve(self.epoch));
        self.acknowledge(effects);
    }

    fn proposal(&mut self, zxid: Zxid, entry: &[u8]) -> Result<(), LearnerEnd> {
        if zxid <= self.last && self.phase == Phase::Synchronizing {
            // COMPAT(3.x): a snapshot may be followed by transactions that it holds already.
            return Ok(());
        }
        if self.is_leaving {
            mark(Mark::ProposalWhileLeaving);
            return Ok(());
        }
        if !follows(self.last, zxid) {
            return Err(LearnerEnd::Protocol(format!(
                "{zxid:?} comes after {:?}, so that transactions are missing",
                self.last
            )));
        }
        if zxid.epoch() > self.epoch {
            return Err(LearnerEnd::Protocol(format!("{zxid:?} in epoch {:x}", self.epoch.0)));
        }
        self.noted.proposed(check_entry(zxid, entry)?);
        self.last = zxid;
        self.batch.entry().extend_from_slice(entry);
        self.batch.finish_entry(zxid);
        Ok(())
    }

    fn commit(&mut self, zxid: Zxid) -> Result<(), LearnerEnd> {
        if self.is_leaving && zxid > self.last {
            mark(Mark::CommitWhileLeaving);
        }
        let zxid = if self.is_leaving { zxid.min(self.last) } else { zxid };
        if zxid > self.last {
            return Err(LearnerEnd::Protocol(format!(
                "it commits {zxid:?}, but {:?} is the last that it proposed",
                self.last
            )));
        }
        self.committed = self.committed.max(zxid);
        if is_mutated(Mutation::CommitAhead) {
            self.committed = self.last;
        }
        Ok(())
    }

    fn new_leader(&mut self, zxid: Zxid, effects: &mut Effects) -> Result<(), LearnerEnd> {
        if zxid != Zxid::new(self.epoch, 0) {
            return Err(LearnerEnd::Protocol(format!(
                "NEWLEADER of {zxid:?} in epoch {:x}",
                self.epoch.0
            )));
        }
        // Proposals of this epoch that are not committed yet are acknowledged after UPTODATE.
        self.acked = self.committed.max(Zxid::new(self.epoch, 0));
        if self.acked < self.last {
            mark(Mark::OpenProposals);
        }
        if self.logged < self.last {
            mark(Mark::AwaitsDiskToEnter);
        }
        self.phase = Phase::Persisting(self.last);
        self.flush(effects);
        self.on_disk(self.logged, effects);
        Ok(())
    }

    fn on_disk(&mut self, zxid: Zxid, effects: &mut Effects) {
        invariant!(zxid <= self.last, "{zxid:?} is logged, {:?} is known", self.last);
        self.logged = self.logged.max(zxid);
        if let Phase::Persisting(last) = self.phase
            && self.logged >= last
        {
            self.phase = Phase::Entering;
            match is_mutated(Mutation::EnterUnstored) {
                true => self.epoch_stored(EpochFile::Current, self.epoch, effects),
                false => effects.push(Effect::StoreEpoch(EpochFile::Current, self.epoch)),
            }
        }
        self.acknowledge(effects);
        self.enter_next(effects);
    }

    /// Acknowledges what is durable and of this epoch.
    fn acknowledge(&mut self, effects: &mut Effects) {
        let logged = if is_mutated(Mutation::AckUnlogged) { self.last } else { self.logged };
        if self.phase != Phase::Broadcast || self.options.is_observer || logged <= self.acked {
            return;
        }
        if self.leader_features.has_groups() {
            self.acked = logged;
            return self.send(Packet::bare(PacketKind::Ack, self.acked), effects);
        }
        // COMPAT(3.x): Apache's leader counts one acknowledgement for each proposal.
        while self.acked < logged {
            self.acked = self.acked.next();
            self.send(Packet::bare(PacketKind::Ack, self.acked), effects);
        }
    }

    fn send(&self, packet: Packet<'_>, effects: &mut Effects) {
        effects.send(self.link, |out| packet.encode_into(out));
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check(&self) {
        assert!(self.logged <= self.last, "{self:?}");
        assert!(self.committed <= self.last && self.released <= self.committed, "{self:?}");
        assert!(self.current <= self.accepted, "{self:?}");
        assert!(self.phase != Phase::Broadcast || self.current == self.epoch, "{self:?}");
    }
}
