//! What a leader ends by itself: sessions whose time is up, containers and TTL nodes that are due.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{Instant, Now, SessionId};
use crate::tree::Tree;

use super::leadership::Leader;

/// When the next look is due.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// Set while expiry waits for the requests that have piled up to be read.
    expiry_postponed: Option<Instant>,
    next_reap: Instant,
    reap_queue: VecDeque<String>,
}

impl Upkeep {
    pub fn new(next_reap: Instant) -> Upkeep {
        Upkeep { expiry_postponed: None, next_reap, reap_queue: VecDeque::new() }
    }
}

impl Leader {
    /// When [`Leader::expired`] or [`Leader::next_due`] has something.
    pub fn deadline(&self) -> Instant {
        let expiry = self.expiry_deadline();
        expiry.map_or(self.upkeep.next_reap, |at| at.min(self.upkeep.next_reap))
    }

    fn expiry_deadline(&self) -> Option<Instant> {
        self.upkeep.expiry_postponed.or_else(|| self.sessions.deadline())
    }

    /// Appends the sessions whose time is up; each must be closed.
    ///
    /// A server that comes late to this was held up (paused, or short of CPU), and so were the
    /// pings that wait in its sockets and queues: they get a tick to be read first.
    pub fn expired(&mut self, now: Now, out: &mut Vec<SessionId>) {
        if self.expiry_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        let due = self.sessions.deadline().unwrap_or(now.mono);
        let tick = Duration::from_millis(self.options.tick_ms);
        let was_postponed = self.upkeep.expiry_postponed.take().is_some();
        if !was_postponed && now.mono.since(due) > tick / 2 {
            self.upkeep.expiry_postponed = Some(now.mono + tick);
            return;
        }
        self.sessions.expire(now.mono, out);
    }

    /// The next container or TTL node that is due, one at a time at the configured pace
    /// (`ContainerManager`).
    pub fn next_due(&mut self, now: Now, tree: &Tree) -> Option<String> {
        if self.upkeep.next_reap > now.mono {
            return None;
        }
        if self.upkeep.reap_queue.is_empty() {
            let mut due = Vec::new();
            tree.reap_candidates(now.wall_ms, self.options.container_never_used_ms, &mut due);
            self.upkeep.reap_queue.extend(due);
        }
        let path = self.upkeep.reap_queue.pop_front();
        let pause_ms = match self.upkeep.reap_queue.is_empty() {
            true => self.options.container_check_ms,
            false => 60_000 / self.options.container_per_minute.max(1),
        };
        self.upkeep.next_reap = now.mono + Duration::from_millis(pause_ms);
        path
    }
}
