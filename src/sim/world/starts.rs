//! Starts of a server: what its disk is like by then, and what recovery must make of it.

use crate::base::Zxid;
use crate::log::{FileName, GUARD_NAME};

use super::super::disk::name_of;
use super::super::host::Life;
use super::super::node::{Ended, Node, Started, tree_options};
use super::super::rot::Rot;
use super::{Checked, Event, MS, Phase, World};

impl World {
    pub(super) fn restart(&mut self, host: usize) -> Checked {
        self.lose(host);
        let is_crashing = self.is_crashing();
        let state = &mut self.hosts[host];
        state.is_off = false;
        let seed = state.starts_rng.next_u64();
        if is_crashing && state.starts_rng.chance(1, 8) {
            state.files.disk().crash_in = Some(state.starts_rng.below(20) as u32);
        }
        self.check_apache(host)?;
        self.mend(host);
        let rot = self.rot(host, seed);
        let state = &self.hosts[host];
        let (now, bug) = (state.now(self.now), self.options.bug);
        let outcome = Node::start(&state.files, &self.swarm, now, (state.id, seed), bug);
        let sound_last = rot.as_ref().map(|rot| rot.last);
        let mut kill_of_4 = 1;
        // A member that has lost its database relies on nothing, and asks the others for theirs.
        let is_void = |started: &Started| started.recovered.last_zxid < Zxid::ZERO;
        if let Some(rot) = rot {
            if matches!(&outcome, Ok(Ok(started)) if is_void(started)) {
                rot.undo(&self.hosts[host].files);
                self.report.refusals += 1;
                self.note(|| format!("host {host} has no database that it can use"));
                self.end_host(host, false);
                return Ok(());
            }
            if self.keep_rot(host, rot, &outcome) {
                kill_of_4 = 2;
            }
            if let Ok(Err(why)) = &outcome {
                self.report.refusals += 1;
                self.note(|| format!("the start of host {host} is refused: {why}"));
                self.end_host(host, false);
                return Ok(());
            }
        }
        let started = match outcome {
            Ok(Ok(started)) => started,
            Ok(Err(why)) => {
                return Err(self.wrong_at(host, format!("the server refuses to start: {why}")));
            }
            Err(ended) => {
                self.note(|| format!("the start of host {host} ends: {ended:?}"));
                self.end_host(host, ended == Ended::Crashed);
                return Ok(());
            }
        };
        let last = started.recovered.last_zxid.0;
        if sound_last.is_some_and(|sound| sound != last) {
            let what = format!("bit rot goes unnoticed, recovery ends at 0x{last:x}");
            return Err(self.wrong_at(host, what));
        }
        self.started(host, started, kill_of_4)
    }

    /// Whether what is damaged did not matter to the start, and stays.
    fn keep_rot(
        &mut self,
        host: usize,
        rot: Rot,
        outcome: &Result<Result<Started, String>, Ended>,
    ) -> bool {
        let state = &mut self.hosts[host];
        let loaded = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().ok());
        let loaded = loaded.map(|started| started.recovered.snapshot_zxid);
        if loaded.is_some_and(|loaded| rot.is_idle(loaded)) && state.starts_rng.chance(3, 4) {
            state.rotten.push(rot);
            return true;
        }
        rot.undo(&state.files);
        false
    }

    /// Recovery is over; the server serves soon, unless it is killed before anything is written.
    fn started(&mut self, host: usize, started: Started, kill_of_4: u64) -> Checked {
        let (last, model_last) =
            (started.recovered.last_zxid.0.max(0), self.books.model(host).last);
        let state = &mut self.hosts[host];
        state.files.disk().crash_in = None;
        if state.starts == 0 {
            self.books.adopt(host, &started.node);
        }
        let outcome = self.books.recovered(host, state.now(self.now).mono, &started);
        self.note(|| {
            let notes = &started.recovered.notes;
            format!("START of host {host} at 0x{last:x} of 0x{model_last:x}, {notes:?}")
        });
        outcome.map_err(|what| self.wrong_at(host, what))?;
        self.report.starts += 1;
        self.report.tails += u64::from(!started.recovered.tail.is_empty());
        let is_crashing = self.is_crashing();
        let state = &mut self.hosts[host];
        state.starts += 1;
        state.is_fresh = true;
        state.life = Life::Starting(Box::new(started.node));
        let rng = &mut state.starts_rng;
        if is_crashing && rng.chance(kill_of_4, 4) {
            let power = rng.chance(1, 2);
            self.note(|| format!("host {host} KILLED at once"));
            self.report.crashes += 1;
            self.end_host(host, power);
            return Ok(());
        }
        let delay = rng.below(20 * MS);
        let life = state.lives;
        self.after(delay, Event::Proceed { host, life });
        Ok(())
    }

    /// An Apache server that is started now, which reads no segments, serves everything or nothing.
    fn check_apache(&self, host: usize) -> Checked {
        let names = self.hosts[host].files.disk().names();
        if names.iter().any(|(_, path)| path.ends_with(GUARD_NAME)) {
            return Ok(());
        }
        let snapshots = names.iter().filter_map(|(kind, _)| match kind {
            FileName::Snapshot(zxid) => Some(zxid.0),
            _ => None,
        });
        let (newest, owed) = (snapshots.max().unwrap_or(0), self.books.owed(host));
        if newest < owed {
            let what = format!("an Apache server would have 0x{newest:x}, and owes 0x{owed:x}");
            return Err(self.wrong_at(host, what));
        }
        Ok(())
    }

    pub(super) fn is_crashing(&self) -> bool {
        self.phase == Phase::Work && self.swarm.crashes
    }

    /// Now and then a good copy of what is damaged turns up.
    fn mend(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        if state.starts_rng.chance(1, 8)
            && let Some(rot) = state.rotten.pop()
        {
            rot.undo(&state.files);
            self.note(|| "a good copy of what is damaged turns up".into());
        }
    }

    /// A server has ended itself with a message that names a file which is damaged. Whether there
    /// is one; a good copy turns up.
    pub(super) fn mend_named(&mut self, host: usize, why: &str) -> bool {
        let state = &mut self.hosts[host];
        let Some(at) = state.rotten.iter().position(|rot| why.contains(&rot.name)) else {
            return false;
        };
        state.rotten.swap_remove(at).undo(&state.files);
        self.report.refusals += 1;
        true
    }

    /// Now and then the database of a member is gone, of a minority at most at a time, and only the
    /// files of its epochs are left: what an operator does with one that is damaged.
    fn lose(&mut self, host: usize) {
        if !self.swarm.losses || self.phase != Phase::Work {
            return;
        }
        let voters = &self.hosts[..self.swarm.voters];
        let others = voters.iter().filter(|other| other.is_lost).count();
        let is_spared = self.hosts[host].is_lost || 2 * (others + 1) >= self.swarm.voters;
        let state = &mut self.hosts[host];
        if !state.starts_rng.chance(1, 4) || is_spared || !self.books.has_promised(host) {
            return;
        }
        let mut disk = state.files.disk();
        disk.calm();
        let names = disk.names().into_iter().map(|(_, path)| name_of(&path).to_owned());
        let gone = names.filter(|name| !name.ends_with("Epoch")).collect::<Vec<_>>();
        let is_gone = gone.iter().all(|name| disk.remove(name).is_ok()) && disk.sync_dir().is_ok();
        drop(disk);
        assert!(is_gone, "nothing of it fails");
        state.is_lost = true;
        state.rotten.clear();
        self.books.lost(host);
        self.note(|| format!("host {host} LOSES its database"));
    }

    /// Now and then a bit on disk flips while the server is down.
    fn rot(&mut self, host: usize, seed: u64) -> Option<Rot> {
        let is_due = self.swarm.rot && self.phase == Phase::Work;
        let state = &mut self.hosts[host];
        if !is_due || state.files.disk().crash_in.is_some() || !state.starts_rng.chance(1, 2) {
            return None;
        }
        let (rot, text) = Rot::strike(&state.files, tree_options(seed), &mut state.starts_rng)?;
        // A file is damaged in one place: without its seal, a segment does not show that its only
        // group commit is gone.
        if let Some(at) = state.rotten.iter().position(|older| older.name == rot.name) {
            state.rotten.swap_remove(at).undo(&state.files);
        }
        self.report.rots += 1;
        self.note(|| format!("host {host}: {text}"));
        Some(rot)
    }
}
