//! Starts of the server: what the disk is like by then, and what recovery must make of it.

use super::super::compare::{all_nodes, compare};
use super::super::node::{Ended, Node, Started, tree_options};
use super::super::rot::Rot;
use super::{Checked, Phase, World};

impl World {
    pub(super) fn restart(&mut self) -> Checked {
        let seed = self.rng.next_u64();
        if self.is_crashing() && self.rng.chance(1, 8) {
            self.files.disk().crash_in = Some(self.rng.below(20) as u32);
        }
        let (now, bug) = (self.clock(), self.options.bug);
        self.mend();
        let rot = self.rot(seed);
        let outcome = Node::start(&self.files, &self.swarm, now, seed, bug);
        let sound_last = rot.as_ref().map(|rot| rot.last);
        let mut kill_of_4 = 1;
        if let Some(rot) = rot {
            let loaded = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().ok());
            let loaded = loaded.map(|started| started.recovered.snapshot_zxid);
            if loaded.is_some_and(|loaded| rot.is_idle(loaded)) && self.rng.chance(3, 4) {
                self.rotten.push(rot);
                kill_of_4 = 2;
            } else {
                rot.undo(&self.files);
            }
            if let Ok(Err(why)) = &outcome {
                self.report.refusals += 1;
                self.note(|| format!("the start is refused: {why}"));
                self.down_server(false);
                return Ok(());
            }
        }
        let started = match outcome {
            Ok(Ok(started)) => started,
            Ok(Err(why)) => return Err(self.wrong(format!("the server refuses to start: {why}"))),
            Err(ended) => {
                self.note(|| format!("the start ends: {ended:?}"));
                self.down_server(ended == Ended::Crashed);
                return Ok(());
            }
        };
        self.files.disk().crash_in = None;
        let last = started.recovered.last_zxid.0;
        if sound_last.is_some_and(|sound| sound != last) {
            return Err(self.wrong(format!("bit rot goes unnoticed, recovery ends at 0x{last:x}")));
        }
        self.check_recovery(&started)?;
        for &(session, timeout_ms) in &started.sessions {
            self.touched.insert(session, (self.now, timeout_ms));
        }
        self.report.starts += 1;
        if self.is_crashing() && self.rng.chance(kill_of_4, 4) {
            // Again before anything is written.
            self.note(|| "KILLED at once".into());
            self.report.crashes += 1;
            let power = self.rng.chance(1, 2);
            self.down_server(power);
            return Ok(());
        }
        self.is_fresh = true;
        self.node = Some(started.node);
        self.want_turn(self.now);
        Ok(())
    }

    pub(super) fn is_crashing(&self) -> bool {
        self.phase == Phase::Work && self.swarm.crashes
    }

    /// Now and then a good copy of what is damaged turns up.
    fn mend(&mut self) {
        if self.rng.chance(1, 8)
            && let Some(rot) = self.rotten.pop()
        {
            self.note(|| format!("mended: {rot:?}"));
            rot.undo(&self.files);
        }
    }

    /// Now and then a bit on disk flips while the server is down.
    fn rot(&mut self, seed: u64) -> Option<Rot> {
        let is_due = self.swarm.rot && self.phase == Phase::Work;
        if !is_due || self.files.disk().crash_in.is_some() || !self.rng.chance(1, 2) {
            return None;
        }
        let (rot, text) = Rot::strike(&self.files, tree_options(seed), &mut self.rng)?;
        self.report.rots += 1;
        self.note(|| text);
        Some(rot)
    }

    fn check_recovery(&mut self, started: &Started) -> Checked {
        let last = started.recovered.last_zxid.0.max(0);
        let notes = &started.recovered.notes;
        let (model_last, revealed) = (self.model.last, self.revealed);
        self.note(|| format!("START at 0x{last:x} of 0x{model_last:x}, {notes:?}"));
        if self.report.starts == 0 {
            self.adopt(&started.node);
        }
        if last < revealed {
            let what =
                format!("0x{revealed:x} was revealed to a client, recovery ends at 0x{last:x}");
            return Err(self.wrong(what));
        }
        if last > model_last {
            return Err(self.wrong(format!("0x{last:x} is recovered, 0x{model_last:x} was last")));
        }
        if started.mismatches > 0 {
            return Err(self.wrong("replay does not give the digest of the snapshot".into()));
        }
        self.model.truncate(last);
        self.digests.retain(|zxid, _| *zxid <= last);
        let digest = started.node.replica().tree().digest();
        if self.digests.get(&last).is_some_and(|&live| live != digest) {
            return Err(self.wrong(format!("at 0x{last:x} the live tree had another digest")));
        }
        let mut sessions = started.sessions.clone();
        sessions.sort_unstable();
        let want = self.model.sessions(last);
        if sessions != want {
            return Err(self.wrong(format!("sessions {sessions:?} are recovered, not {want:?}")));
        }
        compare(&self.model, &started.node, "after recovery").map_err(|what| self.wrong(what))
    }

    /// The state of an empty server is where the model begins.
    fn adopt(&mut self, node: &Node) {
        for (path, found) in all_nodes(node) {
            self.model.adopt(&path, found);
        }
    }
}
