//! Acknowledgements, commits, requests of learners, and rounds of PINGs.

use crate::base::{LinkId, Mark, Mutation, Now, Zxid, is_mutated, mark};
use crate::wire::OpCode;
use crate::wire::quorum::{AuthIds, Forwarded, Packet, PacketKind, SessionTouches};

use super::super::confirm::Asker;
use super::super::effects::{Effect, Effects};
use super::super::link::{Link, Stage};
use super::machine::{Leading, Phase};

impl Leading {
    pub(super) fn acked(
        &mut self,
        now: Now,
        id: LinkId,
        zxid: Zxid,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let new_leader = Zxid::new(self.epoch, 0);
        let next_epoch = Zxid::new(self.next_epoch(), 0);
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        if zxid == new_leader {
            if link.stage == Stage::NewLeader {
                link.stage = Stage::Current;
                self.heard(now, id);
                self.advance(effects);
                self.bring_up_to_date(effects);
                // From now on it answers PINGs.
                self.heard(now, id);
            }
            // The second one, after UPTODATE.
            return Ok(());
        }
        if self.phase == Phase::Renewing && zxid == next_epoch {
            let sid = link.sid.filter(|_| link.is_voter);
            self.renewed_by(now, sid, effects);
            return Ok(());
        }
        if zxid > link.cursor {
            return Err(format!("acknowledges {zxid:?}, but was sent {:?} at most", link.cursor));
        }
        // COMPAT(3.8.0 to 3.8.4, 3.9.0, 3.9.1): may come before NEWLEADER is acknowledged; it
        // counts afterwards.
        if zxid.epoch() == self.epoch {
            link.acked = link.acked.max(zxid);
            let sid = link.sid;
            self.note_ack(now, sid, zxid);
            self.advance(effects);
        }
        Ok(())
    }

    /// Commits what a quorum has on its disks.
    pub(super) fn advance(&mut self, effects: &mut Effects) {
        let own = self.options.sid;
        if self.phase == Phase::Synchronizing {
            let has = |sid| {
                sid == own || self.links.values().any(|link| link.counts() && link.sid == Some(sid))
            };
            let is_enough = self.ensemble.is_quorum(has) || is_mutated(Mutation::LeadAlone);
            // A transaction of the epoch may only be where the epoch is entered.
            if !self.has_entered || !is_enough {
                return;
            }
            self.phase = Phase::Broadcast;
            self.committed = self.began_with;
            effects.push(Effect::Committed(self.committed));
            effects.push(Effect::Serve(self.epoch));
            self.bring_up_to_date(effects);
            return;
        }
        if !matches!(self.phase, Phase::Broadcast | Phase::Draining) {
            return;
        }
        let candidates = self.links.values().filter(|link| link.counts()).map(|link| link.acked);
        let best = candidates
            .chain([self.logged])
            .filter(|&zxid| zxid > self.committed && self.is_on_quorum(zxid))
            .max();
        if let Some(zxid) = best {
            if self.logged < zxid {
                mark(Mark::CommitBeforeOwnDisk);
            }
            self.committed = zxid;
            effects.push(Effect::Committed(zxid));
        }
        self.end_draining(effects);
    }

    pub(super) fn is_on_quorum(&self, zxid: Zxid) -> bool {
        if is_mutated(Mutation::CommitAlone) {
            return true;
        }
        let counts_own = self.logged >= zxid || is_mutated(Mutation::CountUnlogged);
        self.ensemble.is_quorum(|sid| {
            let has = |link: &Link| link.counts() && link.sid == Some(sid) && link.acked >= zxid;
            (sid == self.options.sid && counts_own) || self.links.values().any(has)
        })
    }

    pub(super) fn bring_up_to_date(&mut self, effects: &mut Effects) {
        if self.phase != Phase::Broadcast {
            return;
        }
        for link in self.links.values_mut() {
            if link.stage == Stage::Current {
                link.stage = Stage::UpToDate;
                link.send(Packet::bare(PacketKind::UpToDate, Packet::NO_ZXID), effects);
                if link.wants_beats()
                    && let Some(learner) = link.sid
                {
                    let key = link.lifeline_key;
                    effects.push(Effect::KeepAlive { link: link.id, learner, key });
                }
            }
        }
    }

    pub(super) fn requested(
        id: LinkId,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let data = packet.required_data().map_err(|error| error.to_string())?;
        let request = Forwarded::decode(data).map_err(|error| error.to_string())?;
        let op = OpCode::from_code(request.op)
            .ok_or_else(|| format!("forwards a request of unknown type {}", request.op))?;
        if op == OpCode::Sync {
            effects.push(Effect::SyncAsked(id));
            return Ok(());
        }
        // COMPAT(3.8, 3.9): a learner forwards the beginning and the end of a session with null.
        let ids = packet.auth.unwrap_or(AuthIds::NONE);
        let start = effects.bytes.len();
        effects.bytes.extend_from_slice(request.body);
        let ids_at = effects.bytes.len();
        effects.bytes.extend_from_slice(ids.as_bytes());
        effects.push(Effect::Request {
            link: id,
            session: request.session,
            cxid: request.cxid,
            op,
            start,
            ids: ids_at,
            end: effects.bytes.len(),
        });
        Ok(())
    }

    pub(super) fn judged(&mut self, id: LinkId, zxid: Zxid) {
        if let Some(link) = self.links.get_mut(&id) {
            link.note_own(zxid);
        }
    }

    pub(super) fn own_sync(&mut self, ticket: u64) {
        mark(Mark::SyncOfOwn);
        self.confirm.add(Asker::Own(ticket), self.history.last());
    }

    pub(super) fn sync_placed(&mut self, id: LinkId, after: Zxid) {
        if let Some(link) = self.links.get_mut(&id) {
            mark(Mark::SyncForLearner);
            link.note_sync(after);
            self.confirm.add(Asker::Learner(id), after);
        }
    }

    pub(super) fn pinged(
        &mut self,
        id: LinkId,
        packet: Packet<'_>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        Leading::touched(&packet, effects)?;
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let round = link.pings.pop_front().ok_or("answers a PING that was not sent")?;
        link.round = link.round.max(round);
        self.confirm_rounds(effects);
        Ok(())
    }

    /// A learner's clients have used these sessions.
    pub(super) fn touched(packet: &Packet<'_>, effects: &mut Effects) -> Result<(), String> {
        let data = packet.required_data().map_err(|error| error.to_string())?;
        let touches = SessionTouches::decode(data).map_err(|error| error.to_string())?;
        for (session, timeout_ms) in touches.iter() {
            effects.push(Effect::Touch { session, timeout_ms });
        }
        Ok(())
    }

    pub(super) fn begin_rounds(&mut self, effects: &mut Effects) {
        if self.is_established() && self.confirm.begin().is_some() {
            self.ping(effects);
            // Alone it is a quorum where it is the only voter.
            self.confirm_rounds(effects);
        }
    }

    pub(super) fn ping(&mut self, effects: &mut Effects) {
        let (round, zxid) = (self.confirm.last(), self.history.last());
        for link in self.links.values_mut() {
            link.ping(round, zxid, effects);
        }
    }

    pub(super) fn confirm_rounds(&mut self, effects: &mut Effects) {
        if is_mutated(Mutation::SyncUnconfirmed) {
            self.confirm.confirm(self.confirm.last());
        }
        let own = self.options.sid;
        let mut rounds: Vec<u64> = self.links.values().map(|link| link.round).collect();
        rounds.push(self.confirm.last());
        let is_confirmed = |&round: &u64| {
            self.ensemble.is_quorum(|sid| {
                sid == own
                    || self
                        .links
                        .values()
                        .any(|link| link.counts() && link.sid == Some(sid) && link.round >= round)
            })
        };
        if let Some(round) = rounds.into_iter().filter(is_confirmed).max() {
            self.confirm.confirm(round);
            self.answer_syncs(effects);
        }
    }

    pub(super) fn answer_syncs(&mut self, effects: &mut Effects) {
        while let Some(asker) = self.confirm.pop(self.committed) {
            match asker {
                Asker::Own(ticket) => effects.push(Effect::OwnSyncDone(ticket)),
                Asker::Learner(id) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.confirm_sync();
                    }
                }
            }
        }
    }
}
