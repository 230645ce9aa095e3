//! What a member shows of its part in the ensemble.

use crate::zab::LeadingFigures;

use super::party::Machine;
use super::role::Member;

impl Member {
    /// The term that this server leads others in, so far.
    pub fn leading_figures(&self) -> Option<LeadingFigures> {
        match &self.party()?.machine {
            Machine::Leading(leading) => Some(leading.figures()),
            Machine::Settling | Machine::Looking | Machine::Learning(_) | Machine::Retired => None,
        }
    }
}
