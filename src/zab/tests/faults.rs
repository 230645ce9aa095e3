//! What happens to simulated servers.

use crate::base::Zxid;

use super::node::Role;
use super::world::{Mutation, World};
use crate::base::LinkId;

impl World {
    pub(super) fn cut_or_join(&mut self, at: usize) {
        let other = self.pick(self.nodes.len());
        if at == other {
            return;
        }
        let pair = (at.min(other), at.max(other));
        match self.cut.iter().position(|cut| *cut == pair) {
            Some(place) => {
                self.cut.remove(place);
            }
            None => self.cut.push(pair),
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        if matches!(self.nodes[at].role, Role::Down) {
            return;
        }
        self.seen.crashes += 1;
        self.nodes[at].role = Role::Down;
        self.nodes[at].leave();
        if self.rng.chance(1, 2) {
            // Everything reached the disk, and nobody was told.
            while let Some(op) = self.nodes[at].disk.queue.pop_front() {
                self.nodes[at].disk.perform(&op);
            }
        }
        self.nodes[at].disk.crash(&mut self.rng);
        let ids: Vec<LinkId> = self.connections.keys().copied().collect();
        for link in ids {
            let connection = &self.connections[&link];
            if connection.leader == at || connection.learner == at {
                self.close(link, at);
            }
        }
    }

    pub(super) fn restart(&mut self, at: usize) -> Result<(), String> {
        if !matches!(self.nodes[at].role, Role::Down) {
            return Ok(());
        }
        if self.is_mutated(Mutation::LostTail) {
            self.nodes[at].disk.log.pop();
        }
        // A log knows of some of the commits.
        let (committed, snapshot) = (self.nodes[at].committed, self.nodes[at].disk.snapshot_zxid());
        let last = self.nodes[at].disk.last().min(committed).max(snapshot);
        let all: Vec<Zxid> = self.nodes[at].disk.all().map(|entry| entry.0).collect();
        let known: Vec<Zxid> =
            all.into_iter().filter(|&zxid| zxid >= snapshot && zxid <= last).collect();
        let marked = match known.is_empty() {
            true => snapshot,
            false => known[self.pick(known.len())],
        };
        self.nodes[at].start(marked);
        self.check_applied(at)
    }
}
