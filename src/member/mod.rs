//! One server as a whole, but for files and sockets: its role, and what that means for the rooms
//! below.
//!
//! It decides nothing about clients, nodes or numbers; it says when a transaction counts as
//! committed and when leadership begins and ends. A lone server is a quorum of one: what its disk
//! has is committed, by the same inputs that a quorum of several gives.
#![forbid(unsafe_code)]

mod distrust;
mod figures;
mod held;
mod links;
mod party;
mod role;
mod storage;
mod turn;
mod wishes;

pub use party::EnsembleOptions;
pub use role::{Member, Role};

#[cfg(test)]
mod start_tests;
#[cfg(test)]
mod tests;
