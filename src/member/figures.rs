//! What a member shows of its part in the ensemble.

use std::time::Duration;

use crate::metrics::{TermFigures, WayFigures};
use crate::wire::vote::PeerState;
use crate::zab::LeadingFigures;

use super::party::Machine;
use super::role::Member;
use super::turn::Turn;

impl Member {
    /// The term that this server leads others in, so far.
    pub fn leading_figures(&self) -> Option<LeadingFigures> {
        match &self.party()?.machine {
            Machine::Leading(leading) => Some(leading.figures()),
            Machine::Settling | Machine::Looking | Machine::Learning(_) | Machine::Retired => None,
        }
    }

    /// How long transactions take from the leader to the others, in this term.
    pub fn way_figures(&self) -> WayFigures {
        match self.party().map(|party| &party.machine) {
            Some(Machine::Leading(leading)) => leading.way_figures(),
            Some(Machine::Learning(learning)) => learning.way_figures(),
            _ => WayFigures::default(),
        }
    }

    /// Elections and synchronizations since this server started.
    pub fn term_figures(&self) -> TermFigures {
        let noted = self.party().map(|party| party.noted.figures).unwrap_or_default();
        let syncs = self.leading_figures().unwrap_or_default().syncs;
        TermFigures { syncs: noted.syncs.merged(&syncs), ..noted }
    }
}

impl Turn<'_> {
    /// The term ends, or never came to be.
    pub(super) fn note_loss(&mut self) {
        let now = self.now.mono;
        let noted = &mut self.party.noted;
        noted.lost_at.get_or_insert(now);
        if let Machine::Leading(leading) = &self.party.machine {
            noted.figures.syncs = noted.figures.syncs.merged(&leading.figures().syncs);
        }
    }

    pub(super) fn note_search(&mut self) {
        let noted = &mut self.party.noted;
        noted.looks_since = self.now.mono;
        noted.figures.searches += 1;
    }

    pub(super) fn note_election(&mut self) {
        let noted = &mut self.party.noted;
        noted.elected_at = self.now.mono;
        noted.figures.election.record(ms(self.now.mono.since(noted.looks_since)));
    }

    /// Clients are served: for the first time in this term, or in a further epoch of it.
    pub(super) fn note_service(&mut self) {
        let (now, state) = (self.now.mono, self.party.state());
        let noted = &mut self.party.noted;
        let Some(lost_at) = noted.lost_at.take() else { return };
        let (figures, synced) = (&mut noted.figures, ms(now.since(noted.elected_at)));
        figures.unavailable.record(ms(now.since(lost_at)));
        match state {
            PeerState::Leading => figures.leader_unavailable.record(ms(now.since(lost_at))),
            PeerState::Observing => figures.observer_sync.record(synced),
            PeerState::Following | PeerState::Looking => figures.follower_sync.record(synced),
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
