//! The same leader goes on in the next epoch, without an election.
//!
//! A zxid has 32 bits for the counter, so at 400,000 writes a second an epoch is spent after three
//! hours. Apache's leader then gives up, and every client of every server reconnects. Between
//! servers of ours the leader stops to number, waits until all is committed, and has a quorum enter
//! the next epoch, on the connections that are there:
//!
//! 1. The leader sends NEXT_EPOCH after the last transaction, whose number is in it, and after the
//!    commits. Learners that have not been sent everything by the end of step 2's first write have
//!    to synchronize again.
//! 2. Each server, the leader among them, makes its whole log durable, then `acceptedEpoch`, then
//!    `currentEpoch`, and answers. One that has promised the epoch to somebody else leaves.
//! 3. With the answers of a quorum, itself included, the leader numbers from 1 again.
//!
//! This is safe for the reason that an election is: of two servers that want the same epoch only
//! one can get a quorum's promises. And a server that alone has entered the epoch may win the next
//! election with it, as it has everything that was ever committed: nothing is proposed between the
//! last commit and the quorum's answers. As at an election the leader offers the epoch while its
//! own disk takes it, so that two writes lie between two epochs and not three. It counts itself
//! when it has it. One that dies before may lead the same epoch after an election, and a server
//! that has entered it alone has nothing that this leader lacks.

use crate::base::{Epoch, LinkId, Mark, Now, ServerId, Zxid, invariant, mark};
use crate::log::EpochFile;
use crate::wire::quorum::{FAREWELL, NEXT_EPOCH, Packet};

use super::super::effects::{Effect, Effects};
use super::super::history::EPOCH_MAX;
use super::super::link::{Link, Stage};
use super::machine::{Leading, Phase};

impl Leading {
    /// Whether every learner that is served understands `NEXT_EPOCH`.
    pub fn can_renew(&self) -> bool {
        let serves = |stage| stage == Stage::UpToDate;
        let mut served = self.links.values().filter(|link| serves(link.stage));
        let are_able = served.all(|link| link.features.has_renewals());
        self.phase == Phase::Broadcast && are_able && self.next_epoch() < EPOCH_MAX
    }

    pub(super) fn next_epoch(&self) -> Epoch {
        Epoch(self.epoch.0 + 1)
    }

    pub(super) fn renew(&mut self, now: Now, effects: &mut Effects) {
        invariant!(self.can_renew(), "{:?} cannot be renewed", self.epoch);
        self.phase = Phase::Draining;
        self.renewed.clear();
        self.phase_ends = now.mono + self.options.tick * self.options.init_limit;
        self.end_draining(effects);
    }

    /// Everything that was proposed is committed: the next epoch may begin.
    pub(super) fn end_draining(&mut self, effects: &mut Effects) {
        let last = self.history.last();
        // This server's own disk, too: it enters the epoch with its whole history.
        if self.phase == Phase::Draining && self.committed == last && self.logged == last {
            self.phase = Phase::Renewing;
            self.asked.clear();
            effects.push(Effect::StoreEpoch(EpochFile::Accepted, self.next_epoch()));
        }
    }

    pub(super) fn next_epoch_stored(
        &mut self,
        now: Now,
        file: EpochFile,
        epoch: Epoch,
        effects: &mut Effects,
    ) {
        invariant!(epoch == self.next_epoch(), "{epoch:?} is stored after {:?}", self.epoch);
        match file {
            EpochFile::Accepted => {
                self.accepted = epoch;
                self.ask_for_next(effects);
                self.refuse_unasked(effects);
                effects.push(Effect::StoreEpoch(EpochFile::Current, epoch));
            }
            EpochFile::Current => self.renewed_by(now, Some(self.options.sid), effects),
        }
    }

    /// Offers the epoch to learners that have been sent everything, once to each.
    pub(super) fn ask_for_next(&mut self, effects: &mut Effects) {
        if self.phase != Phase::Renewing {
            return;
        }
        let (last, next) = (self.history.last(), Zxid::new(self.next_epoch(), 0));
        for link in self.links.values_mut() {
            // The packet must not overtake a transaction: a server that has entered the epoch with
            // less than all would win an election over those that have all.
            let is_ready = link.stage == Stage::UpToDate && link.cursor == last;
            if is_ready && !self.asked.contains(&link.id) {
                self.asked.push(link.id);
                link.send(Packet::with(NEXT_EPOCH, next, &last.0.to_be_bytes()), effects);
            }
        }
    }

    fn refuse_unasked(&mut self, effects: &mut Effects) {
        // Who has not been offered an epoch yet hears of the next one then.
        let is_new = |link: &Link| matches!(link.stage, Stage::Opened | Stage::Introduced);
        let behind = self.links.values().filter(|link| !is_new(link));
        let behind: Vec<LinkId> =
            behind.map(|link| link.id).filter(|id| !self.asked.contains(id)).collect();
        for id in behind {
            mark(Mark::RenewalLeavesOut);
            self.refuse(id, "has to synchronize again, as a new epoch begins".into(), effects);
        }
    }

    /// A voter has entered the next epoch.
    pub(super) fn renewed_by(&mut self, now: Now, sid: Option<ServerId>, effects: &mut Effects) {
        self.renewed.extend(sid.filter(|sid| !self.renewed.contains(sid)));
        // What this server has in its log of the epoch counts, so it has to be one of them.
        let has_entered = self.renewed.contains(&self.options.sid);
        if !has_entered {
            mark(Mark::RenewedLast);
        }
        if !has_entered || !self.has_quorum(&self.renewed) {
            return;
        }
        mark(Mark::Renewed);
        (self.epoch, self.phase) = (self.next_epoch(), Phase::Broadcast);
        effects.push(Effect::Serve(self.epoch));
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        ids.into_iter().for_each(|id| self.offer(now, id, effects));
    }

    /// This server is about to end. Apache's learners notice when the connection ends.
    pub(super) fn say_farewell(&mut self, effects: &mut Effects) {
        for link in self.links.values_mut().filter(|link| link.is_streaming()) {
            if link.features.has_groups() {
                link.send(Packet::bare(FAREWELL, Packet::NO_ZXID), effects);
            }
        }
    }
}
