//! What a learner shows of its leader's transactions.

use crate::base::{Now, Zxid};
use crate::metrics::{Histogram, Pace, WayFigures};

use super::{Learning, Phase};

/// What is noted of packets, while this server serves.
#[derive(Debug, Default)]
pub(super) struct Noted {
    proposals: u64,
    commits: u64,
    /// From the leader's clock at a transaction to this server's when it came.
    proposal: Histogram,
    /// The same for its commit.
    commit: Pace,
    /// Transactions that came since the last look.
    fresh: u64,
    /// What the leader's clock said at the last one, in milliseconds.
    made_ms: i64,
    /// Last transaction, and last committed one, at the last look.
    seen: (Zxid, Zxid),
}

impl Noted {
    /// A transaction came, which the leader has made at this time by its clock.
    pub fn proposed(&mut self, made_ms: i64) {
        self.fresh += 1;
        self.made_ms = made_ms;
    }
}

impl Learning {
    /// Notes what a packet has brought. Of many transactions in one the last one is measured.
    pub(super) fn note_packet(&mut self, now: Now) {
        let (noted, seen) = (&mut self.noted, (self.last, self.committed));
        let fresh = std::mem::take(&mut noted.fresh);
        let (last, committed) = std::mem::replace(&mut noted.seen, seen);
        // What comes before is history.
        if self.phase != Phase::Broadcast {
            return;
        }
        let us = |ms: i64| u64::try_from(ms).map_or(0, |ms| ms.saturating_mul(1_000));
        let passed_ms = now.wall_ms.saturating_sub(noted.made_ms);
        // COMPAT(3.x): clocks differ; what comes before it was made is not measured.
        if self.last > last && passed_ms >= 0 {
            noted.proposal.record(us(passed_ms));
            noted.commit.begin(self.last.0, us(noted.made_ms));
        }
        noted.proposals += fresh;
        if self.committed > committed {
            let is_same_epoch = self.committed.epoch() == committed.epoch();
            let before = if is_same_epoch { committed.counter() } else { 0 };
            noted.commits += u64::from(self.committed.counter().saturating_sub(before));
            noted.commit.reached(self.committed.0, us(now.wall_ms));
        }
    }

    /// How the leader's transactions have come here.
    pub fn way_figures(&self) -> WayFigures {
        let Noted { proposals, commits, proposal, commit, .. } = &self.noted;
        WayFigures {
            proposals: *proposals,
            commits: *commits,
            proposal: proposal.clone(),
            commit: commit.times().clone(),
            ..WayFigures::default()
        }
    }
}
