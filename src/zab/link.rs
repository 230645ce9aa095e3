//! What a leader knows of one learner, and what it writes to the learner's connection.
//!
//! There is no queue: `cursor` says how far the learner's connection has got, and what comes next
//! is looked up when there is room. Answers wait for room, too, and one that asks for more and more
//! and reads nothing is refused: nobody's silence costs the leader more than 256 MiB.

use std::collections::VecDeque;

use crate::base::{Instant, LifelineKey, LinkId, Mark, ServerId, Zxid, invariant, mark};
use crate::wire::TxnDigest;
use crate::wire::quorum::{Features, Packet, PacketKind, ProposalGroup};

use super::effects::Effects;
use super::history::{History, follows};

/// How far a learner has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Connected; it has to introduce itself.
    Opened,
    /// It has; the epoch is not known yet, or not durable.
    Introduced,
    /// LEADERINFO is sent.
    Offered,
    /// It has answered with this last transaction; it waits until a quorum has.
    Answered { peer: Zxid },
    /// The log is asked what it has around its last transaction.
    Locating,
    /// A snapshot is being written to it. Nothing may come in between.
    Snapshot { zxid: Option<Zxid> },
    /// It gets history up to here, and then NEWLEADER.
    History { until: Zxid },
    /// NEWLEADER is sent.
    NewLeader,
    /// It has acknowledged NEWLEADER; the quorum has not.
    Current,
    /// UPTODATE is sent: it serves.
    UpToDate,
}

/// What a learner may be sent, of what the leader has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// Last transaction of the history that the leader began with: to learners it counts as
    /// committed from the start, as a quorum takes it over as a whole.
    pub began_with: Zxid,
    /// Last transaction that is committed.
    pub committed: Zxid,
}

#[derive(Debug)]
pub(super) struct Link {
    pub id: LinkId,
    pub stage: Stage,
    /// Its server; unknown before it has introduced itself.
    pub sid: Option<ServerId>,
    pub is_observer: bool,
    /// Its vote counts.
    pub is_voter: bool,
    pub features: Features,
    /// For a lifeline to its server, if that takes one.
    pub lifeline_key: Option<LifelineKey>,
    /// Last transaction that it has or was sent.
    pub cursor: Zxid,
    /// Last transaction that it was told is committed.
    pub commits_sent: Zxid,
    /// Last transaction that it has acknowledged.
    pub acked: Zxid,
    /// Part of the log that was read for it, and is not sent yet.
    pub part: Option<std::sync::Arc<crate::log::Batch>>,
    /// The log is being read for it.
    pub is_reading: bool,
    /// Bytes that its connection takes now.
    pub room: usize,
    /// Something was sent since the last look at this.
    was_sent: bool,
    /// When it counts as gone, unless something comes.
    pub silent_at: Instant,
    pub heard_at: Instant,
    /// Rounds of the PINGs that it has not answered, see [`super::confirm`].
    pub pings: VecDeque<u64>,
    /// The last round that it has answered.
    pub round: u64,
    /// `sync`s of its clients that are not answered, each with what was proposed last when it
    /// came: the answer stands behind the commit of that.
    syncs: VecDeque<Zxid>,
    /// The first of them, since which a quorum has confirmed the leader.
    confirmed: usize,
    /// What its requests have become that it was not sent yet; of a server of ours.
    own: VecDeque<Zxid>,
    /// The last transaction after which it was told the digest of the tree.
    pub digest_of: Zxid,
    /// Up to here transactions go to it without the digest that they state: its database came as a
    /// stream that shows effects of later ones.
    pub fuzzy_until: Zxid,
    /// Packets for it, each with the transaction that it has to have got before.
    later: VecDeque<(Zxid, Vec<u8>)>,
}

/// What a connection takes before it has said how much.
const ROOM_AT_FIRST: usize = 1 << 20;

/// Answers that may wait until a learner takes something: far more than its clients may ask for at
/// a time, and about 100 MiB.
const ANSWERS_MAX: usize = 1 << 20;

/// Numbers of transactions that its requests have become and that it was not sent. One whose disk
/// stalls reads nothing for a while, and its clients write on.
const OWN_MAX: usize = 1 << 24;

/// PINGs that a learner may have to answer: each `sync` of a busy ensemble may cost one. Who has
/// not answered a thousand confirms the leader late anyway, and the next one counts for those that
/// were left out.
const PINGS_MAX: usize = 1_000;

/// Bytes of transactions that are put into one packet for a server of ours.
const GROUP_BYTES: usize = 256 << 10;

impl Link {
    pub fn new(id: LinkId, now: Instant, silent_at: Instant) -> Link {
        Link {
            id,
            stage: Stage::Opened,
            sid: None,
            is_observer: false,
            is_voter: false,
            features: Features::NONE,
            lifeline_key: None,
            cursor: Zxid::ZERO,
            commits_sent: Zxid::ZERO,
            acked: Zxid::ZERO,
            part: None,
            is_reading: false,
            room: ROOM_AT_FIRST,
            was_sent: false,
            silent_at,
            heard_at: now,
            pings: VecDeque::new(),
            round: 0,
            syncs: VecDeque::new(),
            confirmed: 0,
            own: VecDeque::new(),
            digest_of: Zxid::ZERO,
            fuzzy_until: Zxid::ZERO,
            later: VecDeque::new(),
        }
    }

    /// One of its requests has become this transaction.
    pub fn note_own(&mut self, zxid: Zxid) {
        if self.features.has_groups() {
            self.own.push_back(zxid);
        }
    }

    /// Sends a packet as soon as it has got everything up to `after`.
    pub fn send_after(&mut self, after: Zxid, packet: Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode_into(&mut bytes);
        self.later.push_back((after, bytes));
    }

    /// History comes next: what follows `from`, and NEWLEADER after `until`. The learner takes for
    /// committed what it has up to `safe`.
    pub fn begin_history(&mut self, from: Zxid, safe: Zxid, until: Zxid) {
        self.stage = Stage::History { until };
        (self.cursor, self.commits_sent) = (from, from.min(safe));
    }

    /// A client of this learner asked for a `sync` when `after` was the last proposed transaction.
    pub fn note_sync(&mut self, after: Zxid) {
        self.syncs.push_back(after);
    }

    /// The first of its `sync`s that waits for a quorum has been confirmed by one.
    pub fn confirm_sync(&mut self) {
        self.confirmed = self.syncs.len().min(self.confirmed + 1);
    }

    /// The last transaction that it may be told is committed.
    ///
    /// COMPAT(3.8, 3.9): a server of Apache's keeps the writes and `sync`s of its clients in one
    /// queue, and compares a COMMIT or SYNC with the first of them only (`CommitProcessor`). One
    /// that comes too early would leave its request there, and block all behind it for ever. So
    /// the answer to a `sync` stands exactly between what was proposed before it and after it.
    fn commits_max(&self) -> Zxid {
        match self.syncs.front() {
            Some(after) if !self.features.has_groups() => {
                mark(Mark::CommitsAwaitSync);
                *after
            }
            Some(_) | None => Zxid(i64::MAX),
        }
    }

    /// Whether too many answers wait for it, so that it may ask for no more.
    pub fn takes_no_answers(&self) -> bool {
        self.syncs.len() + self.later.len() > ANSWERS_MAX || self.own.len() > OWN_MAX
    }

    /// Sends a PING of this round.
    pub fn ping(&mut self, round: u64, zxid: Zxid, effects: &mut Effects) {
        // Before UPTODATE it keeps the learner's connection alive, and nobody answers it: one that
        // takes nothing has enough to read.
        let is_answered = self.stage == Stage::UpToDate;
        let has_enough = if is_answered { self.pings.len() >= PINGS_MAX } else { self.room == 0 };
        if !self.is_streaming() || has_enough {
            return;
        }
        if is_answered {
            self.pings.push_back(round);
        }
        self.send(Packet::bare(PacketKind::Ping, zxid), effects);
    }

    /// Whether it has got through the handshake, each step of which is one packet.
    pub fn has_answered(&self) -> bool {
        !matches!(self.stage, Stage::Opened | Stage::Introduced | Stage::Offered)
    }

    /// Its name in messages.
    pub fn name(&self) -> String {
        match self.sid {
            Some(sid) => format!("server {}", sid.0),
            None => "a server that has not introduced itself".into(),
        }
    }

    /// Whether it gets packets between the parts of its history.
    pub fn is_streaming(&self) -> bool {
        matches!(
            self.stage,
            Stage::History { .. } | Stage::NewLeader | Stage::Current | Stage::UpToDate
        )
    }

    /// Whether it counts for NEWLEADER and for transactions.
    pub fn counts(&self) -> bool {
        self.is_voter && matches!(self.stage, Stage::Current | Stage::UpToDate)
    }

    /// COMPAT(3.8, 3.9.0 to 3.9.2): between NEWLEADER and UPTODATE such a learner ends at a COMMIT
    /// for what it got before NEWLEADER (ZOOKEEPER-4394), so it gets none meanwhile.
    fn takes_commits(&self) -> bool {
        matches!(self.stage, Stage::History { .. } | Stage::UpToDate)
    }

    pub fn send(&mut self, packet: Packet<'_>, effects: &mut Effects) {
        let before = effects.bytes.len();
        effects.send(self.id, |out| packet.encode_into(out));
        self.room = self.room.saturating_sub(effects.bytes.len() - before);
        self.was_sent = true;
    }

    /// Whether a server of ours is at the other end, which counts a silent leader as gone.
    pub fn wants_beats(&self) -> bool {
        self.stage == Stage::UpToDate && self.features.has_beats()
    }

    /// Sends a learner that was sent nothing since the last call a COMMIT that says nothing new, so
    /// that it knows that the leader lives. One that takes nothing has enough to read.
    pub fn beat(&mut self, effects: &mut Effects) {
        let was_sent = std::mem::take(&mut self.was_sent);
        if !was_sent && self.room > 0 {
            self.send(Packet::bare(PacketKind::Commit, self.commits_sent), effects);
            self.was_sent = false;
        }
    }

    /// Writes what comes next, as far as there is room. True if the log has to be read for more.
    pub fn fill(&mut self, history: &History, marks: Marks, effects: &mut Effects) -> bool {
        if !self.is_streaming() {
            return false;
        }
        loop {
            if self.write_all(history, marks, effects) {
                let asks = !self.is_reading;
                self.is_reading = true;
                return asks;
            }
            self.tell_commits(marks, effects);
            self.send_later(marks, effects);
            // What an observer gets next may have waited for the answer.
            if !self.answer_syncs(marks, effects) {
                return false;
            }
        }
    }

    /// Writes transactions, as far as there is room. True if the log has to be read for more.
    fn write_all(&mut self, history: &History, marks: Marks, effects: &mut Effects) -> bool {
        while self.room > 0 {
            let sent = match self.part.take() {
                Some(part) => {
                    let sent = self.write(part.iter(), marks, effects);
                    if part.last_zxid().is_some_and(|last| last > self.cursor) {
                        self.part = Some(part);
                    }
                    sent
                }
                None if !history.reaches(self.cursor) => return true,
                None => self.write(history.after(self.cursor), marks, effects),
            };
            if !sent {
                break;
            }
        }
        false
    }

    /// Writes some of `entries`, those that it has not got yet. False if there is nothing to write.
    fn write<'a>(
        &mut self,
        entries: impl Iterator<Item = (Zxid, &'a [u8])>,
        marks: Marks,
        effects: &mut Effects,
    ) -> bool {
        let safe = marks.committed.max(marks.began_with).min(self.commits_max());
        let is_informed = self.is_observer && !matches!(self.stage, Stage::History { .. });
        // Observers get what is committed only.
        let until = if self.is_observer { safe } else { Zxid(i64::MAX) };
        let cursor = self.cursor;
        let entries =
            entries.skip_while(|&(zxid, _)| zxid <= cursor).take_while(|&(zxid, _)| zxid <= until);
        let mut entries = entries.peekable();
        if let Some(&(first, _)) = entries.peek() {
            invariant!(follows(cursor, first), "{first:?} is sent after {cursor:?}");
        }
        if self.features.has_groups() {
            return self.write_group(entries, effects);
        }
        let mut has_written = false;
        for (zxid, entry) in entries {
            if self.room == 0 {
                break;
            }
            has_written = true;
            // COMPAT(3.6 to 3.9): it would compare all the same, and report a difference.
            let is_fuzzy = zxid <= self.fuzzy_until;
            let entry = if is_fuzzy { TxnDigest::cut_off(entry) } else { entry };
            let are_commits_told = self.commits_sent == self.cursor;
            self.cursor = zxid;
            if is_informed {
                self.send(Packet::with(PacketKind::Inform, zxid, entry), effects);
                self.commits_sent = zxid;
                continue;
            }
            self.send(Packet::with(PacketKind::Proposal, zxid, entry), effects);
            // Commits go out in order: with some left out, those come first.
            if zxid <= safe && self.takes_commits() && are_commits_told {
                self.send(Packet::bare(PacketKind::Commit, zxid), effects);
                self.commits_sent = zxid;
            }
        }
        has_written
    }

    /// Several transactions in one packet, for a server of ours. Observers get the same.
    fn write_group<'a>(
        &mut self,
        entries: impl Iterator<Item = (Zxid, &'a [u8])>,
        effects: &mut Effects,
    ) -> bool {
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            return false;
        }
        let before = effects.bytes.len();
        let (cursor, own) = (&mut self.cursor, &mut self.own);
        let room = self.room.min(GROUP_BYTES);
        effects.send(self.id, |out| {
            let mut group = ProposalGroup::begin(out);
            for (zxid, entry) in entries {
                let is_own = own.front() == Some(&zxid);
                if is_own {
                    own.pop_front();
                }
                group.push(entry, is_own);
                *cursor = zxid;
                if group.len() >= room {
                    break;
                }
            }
            group.finish(*cursor);
        });
        self.room = self.room.saturating_sub(effects.bytes.len() - before);
        self.was_sent = true;
        true
    }

    /// Tells it what is committed of what it has.
    fn tell_commits(&mut self, marks: Marks, effects: &mut Effects) {
        let safe = match self.stage {
            Stage::UpToDate => marks.committed,
            _ => marks.committed.max(marks.began_with),
        };
        let until = self.cursor.min(safe).min(self.commits_max());
        if self.takes_commits() && until > self.commits_sent {
            if self.features.has_groups() {
                self.send(Packet::bare(PacketKind::Commit, until), effects);
            } else {
                // Transactions of earlier epochs were committed as they were sent, so the rest is
                // numbered without a gap.
                let mut next = self.commits_sent.max(Zxid::new(until.epoch(), 0));
                while next < until {
                    next = next.next();
                    self.send(Packet::bare(PacketKind::Commit, next), effects);
                }
            }
            self.commits_sent = until;
        }
    }

    /// Sends what had to wait for transactions.
    ///
    /// COMPAT(3.8, 3.9): a server of Apache's looks for its client when it is told of the commit.
    fn send_later(&mut self, marks: Marks, effects: &mut Effects) {
        let got = match self.features.has_groups() {
            true => self.cursor,
            false => self.commits_sent.max(marks.began_with),
        };
        while self.room > 0
            && self.later.front().is_some_and(|(after, _)| *after <= got)
            && let Some((_, bytes)) = self.later.pop_front()
        {
            effects.send(self.id, |out| out.extend_from_slice(&bytes));
            self.room = self.room.saturating_sub(bytes.len());
        }
    }

    /// Answers the `sync`s that wait for nothing more. True if there was one.
    fn answer_syncs(&mut self, marks: Marks, effects: &mut Effects) -> bool {
        let told = self.commits_sent.max(marks.began_with);
        let before = self.syncs.len();
        while self.stage == Stage::UpToDate
            && self.room > 0
            && self.confirmed > 0
            && self.syncs.front().is_some_and(|after| *after <= told)
        {
            self.syncs.pop_front();
            self.confirmed -= 1;
            self.send(Packet::bare(PacketKind::Sync, Zxid::ZERO), effects);
        }
        self.syncs.len() < before
    }
}
