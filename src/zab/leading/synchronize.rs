//! The history of each learner is made equal to the leader's.

use std::sync::Arc;

use crate::base::{LinkId, Mark, Mutation, Now, Zxid, invariant, is_mutated, mark};
use crate::log::Batch;
use crate::wire::quorum::{Packet, PacketKind};

use super::super::effects::{Effect, Effects};
use super::super::link::Stage;
use super::super::sync::{self, Decision};
use super::machine::Leading;

impl Leading {
    pub(super) fn synchronize(&mut self, id: LinkId, effects: &mut Effects) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Stage::Answered { peer } = link.stage else { return };
        let decision = sync::decide(&self.history, self.elected_with, peer);
        self.begin(id, decision, effects);
    }

    pub(super) fn begin(&mut self, id: LinkId, decision: Decision, effects: &mut Effects) {
        let safe = self.committed.max(self.began_with);
        let last = self.history.last();
        let Some(link) = self.links.get_mut(&id) else { return };
        match decision {
            // COMPAT(3.x): a learner of Apache's has applied what it has, and ends at a COMMIT for
            // it. What is not committed yet it has to forget, and gets again.
            Decision::Diff(from) if from > safe && !link.features.has_groups() => {
                mark(Mark::TruncForApache);
                link.send(Packet::bare(PacketKind::Trunc, safe), effects);
                link.begin_history(safe, safe, last);
            }
            Decision::Diff(from) => {
                mark(Mark::Diff);
                link.send(Packet::bare(PacketKind::Diff, safe), effects);
                link.begin_history(from, safe, last);
            }
            Decision::Trunc(to) if is_mutated(Mutation::DiffForTrunc) => {
                link.send(Packet::bare(PacketKind::Diff, safe), effects);
                link.begin_history(to, safe, last);
            }
            Decision::Trunc(to) => {
                invariant!(to <= safe, "{to:?} is to be kept, {safe:?} is committed");
                link.send(Packet::bare(PacketKind::Trunc, to), effects);
                link.begin_history(to, safe, last);
            }
            Decision::FromLog(after) => {
                (link.stage, link.is_reading) = (Stage::Locating, true);
                link.cursor = after;
                effects.push(Effect::ReadLog { link: id, after });
            }
            Decision::Snap => {
                link.stage = Stage::Snapshot { zxid: None };
                effects.push(Effect::SendSnapshot(id));
            }
        }
        match decision {
            Decision::FromLog(_) => {}
            Decision::Diff(_) | Decision::Trunc(_) => self.note_sync(false),
            Decision::Snap => self.note_sync(true),
        }
    }

    pub(super) fn log_read(
        &mut self,
        id: LinkId,
        floor: Zxid,
        batch: Arc<Batch>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        // The learner may have gone meanwhile.
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        invariant!(link.is_reading, "the log was read for {id:?}, which did not ask");
        link.is_reading = false;
        if link.stage == Stage::Locating {
            let decision = sync::around(floor, self.history.last(), self.elected_with, link.cursor);
            self.begin(id, decision, effects);
        } else if floor != link.cursor {
            return Err("the log does not go on where its part before ended".into());
        }
        if let Some(link) = self.links.get_mut(&id)
            && link.is_streaming()
        {
            // A learner that forgets more than it was asked for needs the part before, too.
            let goes_on = link.cursor == floor;
            link.part = Some(batch).filter(|batch| goes_on && !batch.is_empty());
        }
        Ok(())
    }

    /// Whether the log may have to be read on for this learner.
    pub fn wants_log(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(|link| {
            link.is_reading || link.is_streaming() && !self.history.reaches(link.cursor)
        })
    }

    pub(super) fn log_unreadable(&mut self, id: LinkId, effects: &mut Effects) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.is_reading = false;
        if link.stage == Stage::Locating {
            mark(Mark::SnapOfShortLog);
            return self.begin(id, Decision::Snap, effects);
        }
        // It has fallen behind what the log still has, so it begins again.
        mark(Mark::FellBehind);
        self.refuse(
            id,
            "fell behind what the log holds, and has to synchronize again".into(),
            effects,
        );
    }

    pub(super) fn snapshot_begun(&mut self, id: LinkId, zxid: Zxid, effects: &mut Effects) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let is_asked = matches!(link.stage, Stage::Snapshot { zxid: None });
        invariant!(is_asked, "a snapshot begins for {id:?} in {:?}", link.stage);
        link.send(Packet::bare(PacketKind::Snap, zxid), effects);
        link.stage = Stage::Snapshot { zxid: Some(zxid) };
    }

    pub(super) fn snapshot_sent(&mut self, now: Now, id: LinkId) {
        self.heard(now, id);
        let last = self.history.last();
        let Some(link) = self.links.get_mut(&id) else { return };
        let Stage::Snapshot { zxid: Some(zxid) } = link.stage else {
            unreachable!("a snapshot ends for {id:?} in {:?}", link.stage)
        };
        // What is shown is committed.
        link.fuzzy_until = self.committed;
        let zxid = if is_mutated(Mutation::SkipAfterSnapshot) { last } else { zxid };
        link.begin_history(zxid, zxid, last);
    }
}
