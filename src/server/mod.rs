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
mod listeners;
mod logging;
mod look;
mod outbox;
mod ration;
mod sink;
mod timed;
mod topology;
mod worker;

pub use boot::{BootError, Server, Started, describe_dirs};
pub use logging::log_filter;
pub use look::{look, look_ahead};
pub use topology::{CoreOptions, Topology, WorkerPlan};
