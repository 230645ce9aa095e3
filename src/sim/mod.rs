//! A deterministic simulation of one server: virtual time, a disk that loses, tears and fails,
//! clients that check every answer.
//!
//! The server is the real one, the body of its event loop included (`driver`), on one loop or on
//! several. Only what a loop stands on is replaced: sockets and queues (`driver::Io`), files
//! (`disk::LogFiles`), clocks. `run` takes a seed and either ends
//! well or says what was violated; the same seed always does the same. This is the seed of the
//! ensemble's simulator: `world` knows one server, and nothing else depends on that.
//!
//! What is checked: acknowledged writes survive every crash; a failed write changes nothing;
//! replies keep the order of requests and zxids never go back; reads equal a model at the reply's
//! zxid; events precede replies that reveal their cause; ephemerals live as long as their
//! sessions, which survive restarts and never expire early; the recovered tree is the model's node
//! by node; a failed log write ends the server; bit rot makes the server refuse to start or changes
//! nothing; when faults stop, everybody is served.
#![forbid(unsafe_code)]

mod client;
mod compare;
mod disk;
mod expect;
mod files;
mod io;
mod model;
mod node;
mod ops;
mod options;
mod report;
mod rot;
mod world;

pub use options::{Bug, SimOptions};
pub use report::{SimReport, Violation, run};
