//! The same leader goes on in the next epoch: a learner's part, see `zab::leading::renewal`.

use crate::base::{Epoch, Instant, Mark, Mutation, Now, Zxid, invariant, is_mutated, mark};
use crate::log::EpochFile;
use crate::wire::quorum::Packet;

use super::super::effects::{Effect, Effects, LearnerEnd};
use super::super::history::EPOCH_MAX;
use super::super::silence::BEAT;
use super::Learning;

/// The way into the next epoch of the same leader. Packets wait meanwhile, as nothing of the epoch
/// may be acknowledged before it is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Renewal {
    epoch: Epoch,
    /// Everything that is known is on disk, and the epoch on its way there.
    is_written: bool,
    /// When the leader is told again which sessions were used. Its PINGs are not read, and with a
    /// slow disk that lasts longer than a short session may be silent.
    touch_at: Instant,
}

impl Learning {
    /// The leader goes on in the next epoch. All that it has is committed, and comes before this.
    pub(super) fn next_epoch(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), LearnerEnd> {
        let offered = packet.zxid.epoch();
        let ends_with = packet.data.and_then(|data| data.first_chunk().copied());
        let ends_with = ends_with.map(|bytes| Zxid(i64::from_be_bytes(bytes)));
        if self.is_leaving {
            mark(Mark::RenewalWhileLeaving);
            // It has left out what came meanwhile, and must not enter an epoch without that.
            return Err(LearnerEnd::Lost);
        }
        if ends_with != Some(self.last) {
            return Err(LearnerEnd::Protocol(format!(
                "it ends an epoch with {ends_with:?}, and this server has {:?}",
                self.last
            )));
        }
        if offered >= EPOCH_MAX {
            return Err(LearnerEnd::Protocol(format!("it proposes epoch {:x}", offered.0)));
        }
        if offered <= self.accepted {
            return Err(LearnerEnd::OldEpoch { offered, promised: self.accepted });
        }
        self.flush(effects);
        if self.logged < self.last {
            mark(Mark::RenewalAwaitsDisk);
        }
        let (epoch, touch_at) = (offered, now.mono);
        self.renewal = Some(Renewal { epoch, is_written: false, touch_at });
        self.touch(now, effects);
        self.enter_next(effects);
        Ok(())
    }

    /// When the leader is told without a question which sessions were used.
    pub(super) fn touch_at(&self) -> Option<Instant> {
        let renewal = self.renewal.filter(|_| self.leader_features.has_touches())?;
        Some(renewal.touch_at)
    }

    /// Tells it if that is due.
    pub(super) fn touch(&mut self, now: Now, effects: &mut Effects) {
        let is_due = self.touch_at().is_some_and(|at| at <= now.mono);
        if let Some(renewal) = self.renewal.as_mut().filter(|_| is_due) {
            renewal.touch_at = now.mono + BEAT;
            effects.push(Effect::TouchesDue);
        }
    }

    /// Promises and enters the next epoch, once everything before it is on disk.
    pub(super) fn enter_next(&mut self, effects: &mut Effects) {
        if let Some(renewal) = &mut self.renewal
            && !renewal.is_written
            && self.logged == self.last
        {
            renewal.is_written = true;
            if is_mutated(Mutation::RenewUnstored) {
                let renewal = *renewal;
                self.accepted = renewal.epoch;
                return self.renewed(renewal, EpochFile::Current, renewal.epoch, effects);
            }
            effects.push(Effect::StoreEpoch(EpochFile::Accepted, renewal.epoch));
        }
    }

    pub(super) fn renewed(
        &mut self,
        renewal: Renewal,
        file: EpochFile,
        epoch: Epoch,
        effects: &mut Effects,
    ) {
        invariant!(epoch == renewal.epoch, "{epoch:?} is stored during {renewal:?}");
        if file == EpochFile::Accepted {
            self.accepted = epoch;
            return effects.push(Effect::StoreEpoch(EpochFile::Current, epoch));
        }
        mark(Mark::RenewedByLearner);
        (self.current, self.epoch, self.renewal) = (epoch, epoch, None);
        self.acked = Zxid::new(epoch, 0);
        self.acknowledge_new_leader(effects);
        effects.push(Effect::Renewed(epoch));
    }
}
