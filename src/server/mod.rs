//! Production composition: start-up, threads and pinning, queues between stages, carrying out the
//! core's effects on sockets and files, shutdown.
#![forbid(unsafe_code)]

mod boot;
mod census;
mod edge;
mod host;
mod housekeeping;
mod links;
mod listen;
mod outbox;
mod sink;
mod timed;
mod topology;
mod worker;

pub use boot::{BootError, Server, Started};
pub use topology::{CoreOptions, Topology, WorkerPlan};
