//! Connections to other members, up to whole messages: the election port and the quorum port.
//!
//! Owns no socket. The driver says what happened to connections ([`Input`]) and carries out what is
//! wanted of them ([`Effect`]); what messages mean is decided in `member`, `election` and `zab`.
//! Counterparts: `QuorumCnxManager`, and the socket half of `Learner` and `LearnerHandler`.
#![forbid(unsafe_code)]

mod complaints;
mod correspondent;
mod effects;
mod election_links;
mod numbers;
mod quorum_links;
#[cfg(test)]
mod tests;

pub use effects::{DialError, Effect, Effects, Input, Port};
pub use election_links::{ElectionEvent, ElectionEvents, ElectionLinkOptions, ElectionLinks};
pub use numbers::LinkNumbers;
pub use quorum_links::{QuorumEvent, QuorumLinkOptions, QuorumLinks};
