//! The work that only a leader or a lone server has: the pending view, judging writes against it,
//! numbering transactions, and deciding when sessions, containers and TTL nodes end.
//!
//! It answers no client and knows no connection: it takes requests, and gives batches of numbered
//! transactions for the log. A server that does not lead has no [`Leader`]: leadership is taken up
//! and lost as a whole. Corresponds to `PrepRequestProcessor`, `SessionTrackerImpl` and
//! `ContainerManager`.
#![forbid(unsafe_code)]

mod leadership;
mod propose;
mod upkeep;

pub use leadership::{Leader, LeaderOptions, Numbering, Prepared};
pub use propose::{Asker, Proposed, View};

#[cfg(test)]
mod tests;
