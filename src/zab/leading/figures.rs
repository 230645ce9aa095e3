//! What a leader shows of its learners and of its term.

use std::collections::BTreeMap;

use crate::base::{Instant, Now, ServerId, Zxid};
use crate::log::Batch;
use crate::metrics::{Pace, SyncFigures, WayFigures};

use super::super::link::Stage;
use super::machine::{Leading, Phase};

/// A term so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeadingFigures {
    /// When the history was committed; `None` before that.
    pub since: Option<Instant>,
    /// Learners that have introduced themselves, observers included.
    pub learners: usize,
    /// Followers that are in step, with a vote or without.
    pub synced_followers: usize,
    /// How many of these followers have no vote.
    pub synced_non_voting: usize,
    /// Observers that are in step.
    pub synced_observers: usize,
    /// `sync` requests that are not answered.
    pub pending_syncs: usize,
    /// Transactions proposed.
    pub proposals: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Sizes of proposals; `None` before the first.
    pub sizes: Option<ProposalSizes>,
    /// How learners were synchronized.
    pub syncs: SyncFigures,
}

/// Bytes of proposed transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProposalSizes {
    /// The last one's.
    pub last: usize,
    /// The smallest one's.
    pub min: usize,
    /// The largest one's.
    pub max: usize,
}

/// What is noted as it happens.
#[derive(Debug, Default)]
pub(super) struct Noted {
    since: Option<Instant>,
    proposals: u64,
    sizes: Option<ProposalSizes>,
    syncs: SyncFigures,
    /// From a proposal until it is committed.
    quorum: Pace,
    /// Until each voter has it on its disk.
    voters: BTreeMap<ServerId, Pace>,
}

impl Noted {
    /// These were proposed.
    pub fn proposed(&mut self, batch: &Batch) {
        for (_, entry) in batch.iter() {
            let last = entry.len();
            self.proposals += 1;
            self.sizes = Some(match self.sizes {
                None => ProposalSizes { last, min: last, max: last },
                Some(ProposalSizes { min, max, .. }) => {
                    ProposalSizes { last, min: min.min(last), max: max.max(last) }
                }
            });
        }
    }
}

impl Leading {
    /// Notes that transactions are on their way to the voters.
    pub(super) fn note_proposed(&mut self, now: Now, batch: &Batch) {
        self.noted.proposed(batch);
        let (Some(last), us) = (batch.last_zxid(), us(now.mono)) else { return };
        self.noted.quorum.begin(last.0, us);
        let followers = self.links.values().filter(|link| link.counts());
        for sid in followers.filter_map(|link| link.sid).chain([self.options.sid]) {
            self.noted.voters.entry(sid).or_default().begin(last.0, us);
        }
    }

    /// A voter has everything up to this transaction on its disk.
    pub(super) fn note_ack(&mut self, now: Now, sid: Option<ServerId>, zxid: Zxid) {
        if let Some(pace) = sid.and_then(|sid| self.noted.voters.get_mut(&sid)) {
            pace.reached(zxid.0, us(now.mono));
        }
    }

    /// What is on its way to this server does not get there by its present connection.
    pub(super) fn note_end(&mut self, sid: ServerId) {
        if let Some(pace) = self.noted.voters.get_mut(&sid) {
            pace.give_up();
        }
    }

    /// How long transactions take to get to the others' disks.
    pub fn way_figures(&self) -> WayFigures {
        let voters = self.noted.voters.iter();
        WayFigures {
            quorum: self.noted.quorum.times().clone(),
            voters: voters.map(|(sid, pace)| (sid.0, pace.times().clone())).collect(),
            ..WayFigures::default()
        }
    }

    /// Notes that a learner begins to get the whole database, or else what it lacks.
    pub(super) fn note_sync(&mut self, is_snapshot: bool) {
        let is_such = |stage| match stage {
            Stage::Snapshot { .. } => is_snapshot,
            Stage::History { .. } | Stage::NewLeader => !is_snapshot,
            _ => false,
        };
        let in_flight = self.links.values().filter(|link| is_such(link.stage)).count() as u64;
        let syncs = &mut self.noted.syncs;
        if is_snapshot {
            syncs.snapshots += 1;
            syncs.snapshots_in_flight.record(in_flight);
        } else {
            syncs.diffs += 1;
            syncs.diffs_in_flight.record(in_flight);
        }
    }

    /// Notes when the term's history, or what is measured, has been committed.
    pub(super) fn note_time(&mut self, now: Now) {
        self.noted.quorum.reached(self.committed.0, us(now.mono));
        if self.phase == Phase::Broadcast && self.noted.since.is_none() {
            self.noted.since = Some(now.mono);
        }
    }

    /// What there is to show now.
    pub fn figures(&self) -> LeadingFigures {
        let Noted { since, proposals, sizes, syncs, .. } = self.noted;
        let is_of_term = self.committed.epoch() == self.epoch;
        let mut figures = LeadingFigures {
            since,
            pending_syncs: self.confirm.waiting(),
            proposals,
            // Numbers of a term begin with 1.
            commits: if is_of_term { u64::from(self.committed.counter()) } else { 0 },
            sizes,
            syncs,
            ..LeadingFigures::default()
        };
        for link in self.links.values() {
            let is_synced = link.stage == Stage::UpToDate;
            let is_mute = !link.is_observer && !link.is_voter;
            figures.learners += usize::from(link.sid.is_some());
            figures.synced_observers += usize::from(is_synced && link.is_observer);
            figures.synced_followers += usize::from(is_synced && !link.is_observer);
            figures.synced_non_voting += usize::from(is_synced && is_mute);
        }
        figures
    }
}

fn us(now: Instant) -> u64 {
    now.0 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_proposals_are_noted_over_all_batches() {
        let mut noted = Noted::default();
        let mut number = 0;
        for sizes in [&[60, 37][..], &[], &[42]] {
            let mut batch = Batch::new();
            for &size in sizes {
                number += 1;
                batch.entry().extend_from_slice(&vec![0; size]);
                batch.finish_entry(Zxid(number));
            }
            noted.proposed(&batch);
        }
        assert_eq!(noted.sizes, Some(ProposalSizes { last: 42, min: 37, max: 60 }));
        assert_eq!(noted.proposals, 3);
    }
}
