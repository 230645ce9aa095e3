//! What a run found.

use std::fmt;

use super::options::SimOptions;
use super::world::World;

/// Counters and history of one run.
#[derive(Clone, Debug, Default)]
pub struct SimReport {
    /// Simulated time.
    pub virtual_ns: u64,
    /// Events handled.
    pub events: u64,
    /// Turns of the server.
    pub turns: u64,
    /// Requests sent.
    pub ops: u64,
    /// Transactions logged.
    pub txns: u64,
    /// Starts of the server.
    pub starts: u64,
    /// Power failures and kills.
    pub crashes: u64,
    /// Times the server ended itself because of the disk.
    pub fatals: u64,
    /// Starts with a flipped bit on disk.
    pub rots: u64,
    /// Those of them that were refused.
    pub refusals: u64,
    /// Clean shutdowns.
    pub stops: u64,
    /// Hash over everything that happened: equal for equal seeds.
    pub hash: u64,
    /// Readable lines, if asked for.
    pub history: Vec<String>,
}

/// A checker's complaint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Virtual time.
    pub at_ns: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.6} s: {}", self.at_ns as f64 / 1e9, self.what)
    }
}

impl std::error::Error for Violation {}

/// Runs one seed. The report is complete even if a checker complained.
pub fn run(options: &SimOptions) -> (SimReport, Result<(), Violation>) {
    let mut world = World::new(options.clone());
    let outcome = world.run();
    (world.report, outcome)
}
