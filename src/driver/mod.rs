//! The one loop body: what a turn takes in, in which order effects leave, and when the log and the
//! clients get theirs.
//!
//! A [`Driver`] runs the stages of one loop: sockets ([`Edge`]), the replica ([`ReplicaStage`])
//! with the connections of other members ([`Links`]), the log ([`LogStage`]), or any of them.
//! Everything outside of it is a port, [`Io`] and [`crate::disk::LogFiles`]; the io_uring server
//! and the simulator implement the ports and contain no order of their own. Dispatch is static. The
//! driver knows no ring, no thread and no seed.
#![forbid(unsafe_code)]

mod describe;
mod edge;
mod failure;
mod housekeeping;
mod links;
mod log_stage;
mod message;
mod outbox;
mod port;
mod replica_stage;
mod sink;
mod turn;

pub use edge::Edge;
pub use failure::Failure;
pub use housekeeping::{Housekeeping, HousekeepingOptions};
pub use links::Links;
pub use log_stage::{LogStage, LogWork};
pub use message::{FrontEvent, FrontTurn, Message};
pub use outbox::Routes;
pub use port::{Completion, Direction, Io, MemberCompletion, Probe, Received, Unobserved};
pub use replica_stage::ReplicaStage;
pub use turn::{Driver, DriverParts, Turn};

#[cfg(test)]
mod tests;
