//! A deterministic simulation of servers: virtual time, disks that lose, tear and fail, a network
//! that delays, cuts and divides, clocks that go wrong, clients that check every answer.
//!
//! The servers are the real ones, the body of their event loop included (`driver`), on one loop or
//! on several. Only what a loop stands on is replaced: sockets and queues (`driver::Io`), files
//! (`disk::LogFiles`), clocks. `run` takes a seed and either ends well or says what was violated;
//! the same seed always does the same. Each concern has a generator of its own (`derive_seed`), so
//! that a change in one place leaves the others as they are.
//!
//! A run has one to seven hosts. Either each server stands alone, with clients of its own and a
//! ledger that says what it has promised; or all are members of one ensemble, with clients that go
//! from one to another and one history that says what all have promised. The network does not know
//! that: its streams are between any two endpoints.
//!
//! What is checked: acknowledged writes survive every crash; a failed write changes nothing;
//! replies keep the order of requests and zxids never go back; reads equal a model at the reply's
//! zxid; events precede replies that reveal their cause; ephemerals live as long as their
//! sessions, which survive restarts and never expire early; the recovered tree is the model's node
//! by node; what a crash or a clean end leaves gives an Apache server everything or makes it
//! refuse to start; a failed log write ends the server; bit rot makes the server refuse to start or
//! changes nothing; when faults stop, everybody is served. Members of an ensemble have one history,
//! and more rules: `tests/README.md` has a table of them.
#![forbid(unsafe_code)]

mod books;
mod client;
mod clock;
mod compare;
mod disk;
#[cfg(test)]
mod epoch_drill;
mod expect;
mod files;
mod history;
mod host;
mod io;
mod ledger;
#[cfg(test)]
mod links_drill;
#[cfg(test)]
mod log_drill;
mod model;
mod network;
mod node;
mod ops;
mod options;
#[cfg(test)]
mod reception_drill;
mod report;
mod rot;
mod vigil;
mod voices;
mod world;

pub use options::{Bug, Faults, SimOptions};
pub use report::{SimReport, Violation, run};
pub use voices::show_log_lines;
