//! A new epoch: a quorum promises it, and the leader enters it.

use crate::base::{
    Epoch, LinkId, Mark, Mutation, Now, ServerId, Zxid, invariant, is_mutated, mark,
};
use crate::log::EpochFile;
use crate::wire::quorum::{
    EpochAnswer, Features, LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind, leader_info,
};

use super::super::effects::{Effect, Effects, LeadingEnd};
use super::super::history::EPOCH_MAX;
use super::super::link::Stage;
use super::machine::{Leading, Phase};

/// COMPAT(3.5 to 3.9): what a server of Apache's has promised whose database is gone, with
/// `db.autocreate=false`: nothing.
const NO_EPOCH: Epoch = Epoch(-1);

impl Leading {
    pub(super) fn introduced(
        &mut self,
        now: Now,
        id: LinkId,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let info = LearnerInfo::decode(packet.data);
        if info.protocol_version < PROTOCOL_VERSION {
            return Err(format!(
                "speaks version {:#x} of the protocol, older than ZooKeeper 3.4",
                info.protocol_version
            ));
        }
        if info.sid == Some(self.options.sid) {
            return Err("has the id of this server: is its myid right?".into());
        }
        if info.config_version.is_some_and(|version| version > self.options.config_version) {
            return Err("knows a later configuration than this server".into());
        }
        let claimed = packet.zxid.epoch();
        if !(NO_EPOCH..EPOCH_MAX).contains(&claimed) {
            return Err(format!("claims to have promised epoch {:x}", claimed.0));
        }
        if let Some(sid) = info.sid
            && let Some((&earlier, _)) = self.links.iter().find(|(_, link)| link.sid == Some(sid))
        {
            // The connection before it has ended, and only its end has not come yet.
            mark(Mark::SecondConnection);
            self.forget(earlier);
            effects.push(Effect::Close { link: earlier, reason: None });
        }
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.sid = info.sid;
        link.is_observer = packet.kind == PacketKind::ObserverInfo;
        link.is_voter =
            !link.is_observer && info.sid.is_some_and(|sid| self.ensemble.is_voter(sid));
        if !self.options.is_plain {
            let data = packet.data.unwrap_or_default();
            link.features = Features::of_learner(data);
            link.lifeline_key = Features::lifeline_key(data);
        }
        link.stage = Stage::Introduced;
        self.heard(now, id);
        let Some(link) = self.links.get(&id) else { return Ok(()) };
        let (sid, is_voter) = (link.sid, link.is_voter);
        let promised = claimed.max(Epoch(0));
        if promised > self.epoch && is_voter && self.is_established() {
            // Apache's leader goes on, and the voter tries in vain until somebody else leads.
            mark(Mark::LaterPromise);
            self.end(LeadingEnd::LaterPromise(promised), effects);
            return Ok(());
        }
        if self.phase == Phase::Collecting {
            let least = if is_mutated(Mutation::ReuseEpoch) { promised.0 } else { promised.0 + 1 };
            if least > self.epoch.0 {
                mark(Mark::EpochRaised);
            }
            self.epoch = self.epoch.max(Epoch(least));
            self.promised.extend(sid.filter(|sid| is_voter && !self.promised.contains(sid)));
        }
        self.fix_epoch(now, effects);
        if matches!(self.phase, Phase::Offering | Phase::Synchronizing | Phase::Broadcast) {
            self.offer(now, id, effects);
        }
        Ok(())
    }

    /// Chooses the epoch once a quorum has said what it has promised.
    pub(super) fn fix_epoch(&mut self, now: Now, effects: &mut Effects) {
        if self.phase == Phase::Collecting && self.has_quorum(&self.promised) {
            self.phase = Phase::Offering;
            match is_mutated(Mutation::OfferUnstored) {
                true => self.epoch_stored(now, EpochFile::Accepted, self.epoch, effects),
                false => effects.push(Effect::StoreEpoch(EpochFile::Accepted, self.epoch)),
            }
            // Others write it while this server does. It has promised nothing until it counts
            // itself, and goes no further before that.
            let ids: Vec<LinkId> = self.links.keys().copied().collect();
            ids.into_iter().for_each(|id| self.offer(now, id, effects));
        }
    }

    pub(super) fn has_quorum(&self, sids: &[ServerId]) -> bool {
        self.ensemble.is_quorum(|sid| sids.contains(&sid))
    }

    pub(super) fn offer(&mut self, now: Now, id: LinkId, effects: &mut Effects) {
        self.heard(now, id);
        let is_established = self.is_established();
        let zxid = Zxid::new(self.epoch, 0);
        if let Some(link) = self.links.get_mut(&id)
            && link.stage == Stage::Introduced
        {
            let mut data = leader_info().to_vec();
            if !self.options.is_plain {
                Features::ours(is_established).encode_into(&mut data);
            }
            link.send(Packet::with(PacketKind::LeaderInfo, zxid, &data), effects);
            link.stage = Stage::Offered;
        }
    }

    pub(super) fn epoch_stored(
        &mut self,
        now: Now,
        file: EpochFile,
        epoch: Epoch,
        effects: &mut Effects,
    ) {
        if self.phase == Phase::Renewing {
            return self.next_epoch_stored(now, file, epoch, effects);
        }
        invariant!(epoch == self.epoch, "{epoch:?} is stored, {:?} is led", self.epoch);
        self.phase_ends = now.mono + self.options.tick * self.options.init_limit;
        match (self.phase, file) {
            (Phase::Offering, EpochFile::Accepted) => {
                self.accepted = epoch;
                self.epoch_answers.push(self.options.sid);
                self.count_answers(effects);
            }
            (Phase::Synchronizing, EpochFile::Current) => {
                self.has_entered = true;
                self.advance(effects);
            }
            (phase, file) => unreachable!("{file:?} is stored in {phase:?}"),
        }
    }

    pub(super) fn epoch_answered(
        &mut self,
        now: Now,
        id: LinkId,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let data = packet.required_data().map_err(|error| error.to_string())?;
        let answer = EpochAnswer::decode(data).map_err(|error| error.to_string())?;
        let peer = packet.zxid;
        if peer > self.history.last() && peer > Zxid::new(self.epoch, 0) {
            return Err(format!(
                "claims to have {peer:?}, which the leader of this epoch has not proposed"
            ));
        }
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        if let EpochAnswer::Accepted(current) = answer
            && matches!(self.phase, Phase::Offering)
        {
            if (current, peer) > (self.elected_with, self.began_with) {
                mark(Mark::LaterHistory);
                return Err(format!(
                    "has a later history (epoch {:x}, {peer:?}) than this server \
                     (epoch {:x}, {:?}), which must not lead it",
                    current.0, self.elected_with.0, self.began_with
                ));
            }
            if peer != Zxid(-1) && link.is_voter {
                self.epoch_answers.extend(link.sid);
            }
        }
        link.stage = Stage::Answered { peer };
        self.heard(now, id);
        match self.phase {
            Phase::Offering => self.count_answers(effects),
            Phase::Synchronizing | Phase::Broadcast => self.synchronize(id, effects),
            _ => {}
        }
        Ok(())
    }

    /// A quorum has promised the epoch, this server among it: the others get the history, while
    /// this server enters the epoch.
    pub(super) fn count_answers(&mut self, effects: &mut Effects) {
        let has_promised = self.accepted == self.epoch;
        if self.phase == Phase::Offering && has_promised && self.has_quorum(&self.epoch_answers) {
            self.phase = Phase::Synchronizing;
            effects.push(Effect::StoreEpoch(EpochFile::Current, self.epoch));
            let ids: Vec<LinkId> = self.links.keys().copied().collect();
            ids.into_iter().for_each(|id| self.synchronize(id, effects));
        }
    }
}
