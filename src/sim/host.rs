//! A machine with a server on it: its disk, its clock, and what has reached it while the server is
//! starting, runs, is paused or is down.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{LinkId, Now, Rng, ServerId, derive_seed};

use super::clock::Clock;
use super::files::SimFiles;
use super::network::End;
use super::node::{Arrival, Node};
use super::options::{SimOptions, Swarm};
use super::rot::Rot;

/// What its server is doing.
pub(super) enum Life {
    /// There is no process.
    Down,
    /// It has recovered and does not serve yet.
    Starting(Box<Node>),
    Running(Box<Node>),
    /// The process gets no processor; what arrives waits.
    Paused(Box<Node>),
}

/// See the module's introduction.
pub(super) struct Host {
    pub id: ServerId,
    pub files: Arc<SimFiles>,
    pub clock: Clock,
    pub life: Life,
    /// The machine has no power: nothing answers.
    pub is_off: bool,
    /// Counts the lives: what was meant for an earlier one is not for this.
    pub lives: u32,
    /// For the next turn.
    pub arrivals: Vec<Arrival>,
    /// When that is.
    pub turn_at: Option<u64>,
    /// Until then its processor is at work on the last turn.
    pub busy_until: u64,
    /// By the connections beside which they are kept.
    pub lifelines: BTreeMap<LinkId, End>,
    /// Until then its disk takes nothing.
    pub disk_stalls_until: u64,
    /// It has lost its database, and has not served with another one since.
    pub is_lost: bool,
    /// It voted at the end of its last turn.
    pub is_voting: bool,
    /// The housekeeper's next step is on its way.
    pub house_called: bool,
    /// Nothing was written since the start.
    pub is_fresh: bool,
    /// Recoveries that ended well.
    pub starts: u64,
    /// Damage that does not matter so far.
    pub rotten: Vec<Rot>,
    /// When turns and background work happen.
    pub schedule: Rng,
    /// How long writes take, which are short, and what a power failure leaves.
    pub disk_rng: Rng,
    /// How long it is down, and what happens to starts.
    pub starts_rng: Rng,
}

impl Host {
    /// Host `index` of a run, switched on at `now`, with an empty disk.
    pub fn new(index: usize, now: u64, options: &SimOptions, swarm: &Swarm) -> Host {
        let rng = |concern| Rng::derived(options.seed, concern, index as u64);
        let salts = derive_seed(options.seed, "salts", index as u64);
        Host {
            id: ServerId(index as i64 + 1),
            files: Arc::new(SimFiles::new(salts, options.bug)),
            clock: Clock::new(now, swarm.clocks, rng("clock")),
            life: Life::Down,
            is_off: false,
            lives: 0,
            arrivals: Vec::new(),
            turn_at: None,
            busy_until: 0,
            lifelines: BTreeMap::new(),
            disk_stalls_until: 0,
            is_lost: false,
            is_voting: false,
            house_called: false,
            is_fresh: false,
            starts: 0,
            rotten: Vec::new(),
            schedule: rng("schedule"),
            disk_rng: rng("disk"),
            starts_rng: rng("starts"),
        }
    }

    /// The server, unless it is down.
    pub fn node(&self) -> Option<&Node> {
        match &self.life {
            Life::Down => None,
            Life::Starting(node) | Life::Running(node) | Life::Paused(node) => Some(node),
        }
    }

    /// The server, unless it is down, to be changed.
    pub fn node_mut(&mut self) -> Option<&mut Node> {
        match &mut self.life {
            Life::Down => None,
            Life::Starting(node) | Life::Running(node) | Life::Paused(node) => Some(node),
        }
    }

    /// The server, if it takes turns.
    pub fn running(&mut self) -> Option<&mut Node> {
        match &mut self.life {
            Life::Running(node) => Some(node),
            _ => None,
        }
    }

    /// Whether the process takes no turns though it is there.
    pub fn is_paused(&self) -> bool {
        matches!(self.life, Life::Paused(_))
    }

    /// The processor is taken away from the server. Returns whether it had it.
    pub fn pause(&mut self) -> bool {
        self.life = match std::mem::replace(&mut self.life, Life::Down) {
            Life::Running(node) => Life::Paused(node),
            other => other,
        };
        self.turn_at = None;
        self.is_paused()
    }

    /// The server gets the processor: its start is over, or its pause.
    pub fn proceed(&mut self) {
        self.life = match std::mem::replace(&mut self.life, Life::Down) {
            Life::Starting(node) | Life::Paused(node) => Life::Running(node),
            other => other,
        };
    }

    /// What its clocks show.
    pub fn now(&self, time: u64) -> Now {
        self.clock.at(time)
    }

    /// The process ends, and if the power fails, the machine with it.
    pub fn end(&mut self, time: u64, power: bool) {
        self.life = Life::Down;
        self.is_off = power;
        self.lives += 1;
        self.arrivals.clear();
        self.turn_at = None;
        (self.house_called, self.is_voting) = (false, false);
        self.files.disk().calm();
        if power {
            self.files.disk().crash(&mut self.disk_rng);
            self.clock.boot(time);
        }
    }
}
