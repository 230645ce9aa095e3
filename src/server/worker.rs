//! One thread with one ring, running the driver over the stages of its plan.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::base::{Instant, Zxid};
use crate::driver::{Driver, DriverParts, Failure, Turn};
use crate::sys::cpu;
use crate::sys::ring::{Ring, RingFeatures, RingOptions};

use super::dials::MemberPorts;
use super::links::{Mailbox, Message};
use super::uring_io::{Gate, UringIo};

/// Everything a worker needs to run.
pub struct WorkerParts {
    /// CPU to pin to.
    pub cpu: Option<usize>,
    /// The stages.
    pub stages: DriverParts<UringIo>,
    /// Listening sockets, and the rules for connections.
    pub gate: Gate,
    /// Listening sockets for other members and where those are, if there are any, and the replica
    /// runs here.
    pub members: Option<MemberPorts>,
    /// This worker's own queue.
    pub inbox: Receiver<Message>,
    /// The queues of all workers.
    pub mailboxes: Vec<Mailbox>,
    /// Hears when a drain has nothing left to write, if the replica runs here.
    pub settled: Option<Sender<()>>,
    /// Ring settings.
    pub ring: RingOptions,
    /// Spin this long before sleeping.
    pub busy_poll: Duration,
}

/// Why a worker ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to.
    Stopped {
        /// What the replica had processed and what it knew, from the worker that ran it.
        at: Option<(Zxid, Zxid)>,
    },
    /// It was asked to, and everything is in the log, but the final snapshot failed.
    Unsaved,
    /// The process cannot go on.
    Fatal(String),
}

/// See the module's introduction.
pub struct Worker {
    driver: Driver<UringIo>,
    io: UringIo,
    busy_poll: Duration,
}

impl Worker {
    /// Sets up the ring. Call on the thread that will run it.
    pub fn new(parts: WorkerParts) -> io::Result<Worker> {
        if let Some(cpu) = parts.cpu {
            cpu::pin_to(cpu)?;
        }
        let ring = Ring::new(parts.ring)?;
        let WorkerParts { stages, gate, members, inbox, mailboxes, settled, .. } = parts;
        let mut io = UringIo::new(ring, gate, inbox, stages.index, mailboxes, settled)?;
        if let Some(members) = members {
            io.serve_members(members)?;
        }
        Ok(Worker { driver: Driver::new(cpu::now(), stages), io, busy_poll: parts.busy_poll })
    }

    /// What the ring uses.
    pub fn features(&self) -> RingFeatures {
        self.io.features()
    }

    /// Runs until stopped.
    pub fn run(mut self) -> Ended {
        let outcome = self.serve();
        let stage = self.driver.replica_stage();
        match outcome {
            Ok(()) if stage.is_some_and(|stage| stage.house.is_unsaved()) => Ended::Unsaved,
            Ok(()) => {
                let marks = stage.map(|stage| stage.member.replica());
                let marks = marks.map(|it| (it.last_processed(), it.last_known()));
                Ended::Stopped { at: marks }
            }
            Err(failure) => Ended::Fatal(failure.to_string()),
        }
    }

    fn serve(&mut self) -> Result<(), Failure> {
        self.driver.start(&mut self.io)?;
        let mut last_work = cpu::now().mono;
        loop {
            let now = cpu::now();
            self.io.begin_turn(now.mono);
            match self.driver.turn(now, &mut self.io)? {
                Turn::Over => return Ok(()),
                Turn::Worked => last_work = now.mono,
                Turn::Idle => {}
            }
            self.wait(now.mono, last_work)?;
            self.let_disk_finish();
        }
    }

    fn wait(&mut self, now: Instant, last_work: Instant) -> io::Result<()> {
        let is_spinning = !self.busy_poll.is_zero() && now.since(last_work) < self.busy_poll;
        let limit = match self.driver.deadline() {
            _ if is_spinning || self.driver.is_blocked() => Some(Duration::ZERO),
            deadline => deadline.map(|at| at.since(now)),
        };
        let driver = &self.driver;
        self.io.wait(limit, || driver.has_reports())
    }

    /// Where the disk's cache has to be flushed, the kernel completes a write on a thread of its
    /// own, mostly on the CPU that began it. Under a load that never lets this one sleep, that
    /// thread would wait for the end of its time slice, some milliseconds.
    fn let_disk_finish(&self) {
        if self.driver.is_writing() {
            std::thread::yield_now();
        }
    }
}
