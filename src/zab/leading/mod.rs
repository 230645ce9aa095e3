//! What a server has while it leads.

mod broadcast;
mod discovery;
mod figures;
mod machine;
mod renewal;
mod synchronize;

pub use figures::{LeadingFigures, ProposalSizes};
pub use machine::{LeadInput, Leading, LeadingOptions};
