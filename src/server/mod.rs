//! The real world: start-up, threads and pinning, queues between them, the driver's ports on a
//! ring, shutdown.
#![forbid(unsafe_code)]

mod boot;
mod census;
mod dials;
mod ensemble;
mod host;
mod init;
mod lifeline;
mod links;
mod listen;
mod listeners;
mod log_pipe;
mod logging;
mod member_ports;
mod preflight;
mod presence_watch;
mod probe;
mod pulse;
mod rings;
mod signals;
mod state_report;
mod timed;
mod topology;
mod uring_io;
mod worker;

pub use boot::{BootError, Server, Started, describe_dirs};
pub use init::{Members, init};
pub use log_pipe::{LogPipe, flush as flush_log};
pub use logging::log_filter;
pub use preflight::{foresee_start, preflight};
pub use topology::{CoreOptions, Topology, WorkerPlan};
