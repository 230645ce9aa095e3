//! Four-letter words: texts rendered from what the replica shows of itself, and from what the
//! server tells about the machine and about its other threads.
//!
//! Corresponds to `server/command/*`, `ServerCnxn.dumpConnectionInfo` and the text forms of the
//! session tracker, the watch managers and the metrics. Reference: Apache 3.9. Knows nothing of
//! sockets, files or clocks; the server sends what it returns.
#![forbid(unsafe_code)]

mod context;
mod date;
mod listing;
mod mntr;
mod state;
mod words;

#[cfg(test)]
mod tests;

pub use context::{AdminContext, Host, Live};
pub use date::java_date;
pub use state::{LeaderFigures, MemberState};
pub use words::{four_letter, not_serving, version};
