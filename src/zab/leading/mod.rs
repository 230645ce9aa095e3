//! What a server has while it leads.

mod broadcast;
mod discovery;
mod machine;
mod synchronize;

pub use machine::{LeadInput, Leading, LeadingOptions};
