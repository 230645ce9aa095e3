//! What a run found.

use std::fmt;
use std::time::{Duration, Instant};

use crate::base::{Mark, plant, take_marks};

use super::options::{Bug, SimOptions};
use super::world::World;

/// Counters and history of one run.
#[derive(Clone, Debug, Default)]
pub struct SimReport {
    /// Servers.
    pub nodes: u64,
    /// Simulated time.
    pub virtual_ns: u64,
    /// Time that the run took.
    pub took: Duration,
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
    /// Starts that found a tail, which the log does not say is committed.
    pub tails: u64,
    /// Power failures and kills.
    pub crashes: u64,
    /// Times the server ended itself because of the disk.
    pub fatals: u64,
    /// Starts with a flipped bit on disk.
    pub rots: u64,
    /// Starts with a flipped bit that were refused.
    pub refusals: u64,
    /// Clean shutdowns.
    pub stops: u64,
    /// Times a server gave up leadership.
    pub terms: u64,
    /// Partitions between a client and its server.
    pub partitions: u64,
    /// Streams that were cut in the middle or stalled.
    pub cuts: u64,
    /// Longest time until everybody was served after the last fault, in nanoseconds.
    pub recovery_ns_max: u64,
    /// Hash over everything that happened: equal for equal seeds.
    pub hash: u64,
    /// How often the run came along each mark, in their order.
    pub marks: Vec<u64>,
    /// Readable lines, if asked for.
    pub history: Vec<String>,
}

impl SimReport {
    /// Adds what another run counted. Histories and hashes of several runs mean nothing together.
    pub fn add(&mut self, other: &SimReport) {
        let SimReport { nodes, virtual_ns, took, events, turns, ops, txns, .. } = other;
        self.nodes += nodes;
        self.virtual_ns += virtual_ns;
        self.took += *took;
        self.events += events;
        self.turns += turns;
        self.ops += ops;
        self.txns += txns;
        self.starts += other.starts;
        self.tails += other.tails;
        self.crashes += other.crashes;
        self.fatals += other.fatals;
        self.rots += other.rots;
        self.refusals += other.refusals;
        self.stops += other.stops;
        self.terms += other.terms;
        self.partitions += other.partitions;
        self.cuts += other.cuts;
        self.marks.resize(Mark::COUNT, 0);
        self.marks.iter_mut().zip(&other.marks).for_each(|(sum, hits)| *sum += hits);
        self.recovery_ns_max = self.recovery_ns_max.max(other.recovery_ns_max);
    }

    /// Events in a second of real time.
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Simulated seconds in a second of real time.
    pub fn times_real_time(&self) -> f64 {
        self.virtual_ns as f64 / 1e9 / self.took.as_secs_f64().max(1e-9)
    }
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
    let began = Instant::now();
    plant(match options.bug {
        Some(Bug::Server(mutation)) => Some(mutation),
        _ => None,
    });
    take_marks();
    let outcome = world.run();
    plant(None);
    world.report.marks = take_marks().to_vec();
    world.report.took = began.elapsed();
    (world.report, outcome)
}
