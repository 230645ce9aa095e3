//! Fast leader election: votes in, votes and a leader out. Owns no connection and no clock.
//!
//! Corresponds to `FastLeaderElection`, with which it exchanges votes. What is done otherwise, and
//! no peer notices:
//! - The wait for a better vote is skipped when none can come: see [`Input::Unreachable`].
//! - A vote is repeated by the clock only. In ZooKeeper every message that arrives puts it off.
//! - A server without a vote and a voter that looks do not answer each other without end. Two of
//!   ZooKeeper do, if the former has a leader or looks in a later round.
//! - During the wait for a better vote, a voter's new vote counts, also one that is no better. A
//!   voter that has started anew no longer stands for what it said before.
//!
//! A configuration inside a vote is not looked at: membership does not change yet.
#![forbid(unsafe_code)]

mod machine;
#[cfg(test)]
mod rules;
mod vote;
#[cfg(test)]
mod world;

pub use machine::{Effect, Election, History, Input, Options};
pub use vote::{Ballot, Vote};
