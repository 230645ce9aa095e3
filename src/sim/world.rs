//! The world of one run: virtual time, the hosts, the network, the clients and what befalls them.
//!
//! One thread, one seed. Events stand in a queue by time and number; whatever happens next is the
//! first of them, or what the network delivers by then. A server takes what has arrived in turns,
//! as its event loop does. What is random has a generator for each concern, so that one that draws
//! more or less leaves the others as they are.
//!
//! Hosts stand alone, each with clients of its own, or are the members of one ensemble.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{Rng, absorb};

use super::books::Books;
use super::client::{Client, State};
use super::host::Host;
use super::network::{Delivery, End, Endpoint, Network};
use super::node::{Arrival, Node};
use super::options::{SimOptions, Swarm};
use super::report::{SimReport, Violation};

mod clients;
mod faults;
mod hosts;
mod members;
mod orphans;
mod starts;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// After the faults stop, every client must have been served within this.
const LIVENESS: u64 = 60 * SECOND;
/// A run that takes longer than this hangs.
const PATIENCE: u64 = 2 * 3_600 * SECOND;
/// When faults end at the latest.
const WORK_MAX: u64 = 1_000 * SECOND;

#[derive(Debug)]
enum Event {
    Arrive {
        host: usize,
        life: u32,
        arrival: Arrival,
    },
    /// The server's start or pause is over.
    Proceed {
        host: usize,
        life: u32,
    },
    /// A server that gave up leadership leads again.
    Claim {
        host: usize,
        life: u32,
    },
    Restart {
        host: usize,
    },
    FullEnds {
        host: usize,
    },
    /// A member that connects to another one waits no longer.
    DialEnds {
        host: usize,
        life: u32,
        end: End,
    },
    Act {
        client: usize,
    },
    Fault,
    PartitionEnds {
        from: Endpoint,
        to: Endpoint,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Work,
    /// Faults have stopped; clients must get through.
    Heal,
}

/// One run.
pub(super) struct World {
    options: SimOptions,
    swarm: Swarm,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    hosts: Vec<Host>,
    /// What the hosts have promised.
    books: Books,
    network: Network,
    clients: Vec<Client>,
    /// What goes wrong, and when.
    faults: Rng,
    /// When the checkers look at everything. Nothing else depends on these numbers.
    checks: Rng,
    /// Requests that are left.
    budget: u32,
    phase: Phase,
    healed_at: u64,
    completed_before: Vec<u64>,
    /// What disks took long for lately: when it began, and how long it lasts.
    stalls: VecDeque<(u64, u64)>,
    /// Members that stay away when the faults stop: a minority, without which the others serve.
    absent: Vec<bool>,
    pub report: SimReport,
    hash: u64,
}

type Checked = Result<(), Violation>;

impl World {
    pub fn new(options: SimOptions) -> World {
        let swarm = Swarm::draw(&options);
        let rng = |concern, index: usize| Rng::derived(options.seed, concern, index as u64);
        // Each host has one client at least.
        let clients = (0..swarm.clients.max(swarm.nodes))
            .map(|id| Client::new(id, id % swarm.nodes, rng("client", id)));
        let hosts = (0..swarm.nodes).map(|index| Host::new(index, SECOND, &options, &swarm));
        World {
            hosts: hosts.collect(),
            books: Books::new(&swarm, options.ensemble.is_some()),
            network: Network::new(swarm.network, rng("network", 0)),
            clients: clients.collect(),
            faults: rng("faults", 0),
            checks: rng("checks", 0),
            budget: if swarm.is_thoughtful { options.ops.div_ceil(4) } else { options.ops },
            now: SECOND,
            queue: BTreeMap::new(),
            number: 0,
            phase: Phase::Work,
            healed_at: 0,
            completed_before: Vec::new(),
            stalls: VecDeque::new(),
            absent: vec![false; swarm.nodes],
            report: SimReport { nodes: swarm.nodes as u64, ..SimReport::default() },
            hash: 0,
            options,
            swarm,
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.options.verbose {
            let line = format!("{:>12.6} {}", self.now as f64 / SECOND as f64, what());
            self.report.history.push(line);
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = absorb(self.hash, word);
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.queue.insert((time.max(self.now), self.number), event);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn wrong(&self, what: String) -> Violation {
        Violation { at_ns: self.now, what }
    }

    /// What is wrong with a host.
    fn wrong_at(&self, host: usize, what: String) -> Violation {
        let is_alone = self.hosts.len() == 1;
        self.wrong(if is_alone { what } else { format!("host {host}: {what}") })
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Checked {
        let swarm = format!("{:?}", self.swarm);
        self.note(|| swarm);
        for host in 0..self.hosts.len() {
            self.plant_orphans(host)?;
            self.at(self.now, Event::Restart { host });
        }
        for client in 0..self.clients.len() {
            let delay = self.clients[client].rng.below(50 * MS);
            self.after(delay, Event::Act { client });
        }
        self.plan_fault();
        while self.step()? {
            self.report.events += 1;
            self.mix(self.now);
            if self.now > PATIENCE {
                return Err(self.wrong("the run does not end".into()));
            }
            // Faults in quick succession may leave clients no moment to ask for everything.
            let is_enough = self.budget == 0 || self.now > WORK_MAX;
            if self.phase == Phase::Work && is_enough {
                self.heal();
            }
            if self.phase == Phase::Heal && self.check_liveness()? {
                break;
            }
        }
        self.finish()?;
        self.report.virtual_ns = self.now - SECOND;
        self.report.hash = self.hash;
        Ok(())
    }

    /// What happens next, if anything does. At one time the network comes first and turns come
    /// last, so that a server finds all that has arrived by then.
    fn step(&mut self) -> Result<bool, Violation> {
        let arrives = self.network.deadline();
        let planned = self.queue.first_key_value().map(|((time, _), _)| *time);
        let turn = self.next_turn();
        let each = [arrives, planned, turn.map(|(time, _)| time)];
        let Some(time) = each.into_iter().flatten().min() else { return Ok(false) };
        self.now = time;
        self.books.at(time);
        if arrives == Some(time) {
            if let Some(delivery) = self.network.poll(time) {
                self.deliver(delivery)?;
            }
        } else if planned == Some(time) {
            if let Some((_, event)) = self.queue.pop_first() {
                self.dispatch(event)?;
            }
        } else if let Some((_, host)) = turn {
            self.hosts[host].turn_at = None;
            self.turn(host)?;
        }
        Ok(true)
    }

    /// The host that takes the next turn, and when.
    fn next_turn(&self) -> Option<(u64, usize)> {
        let each = self.hosts.iter().enumerate();
        each.filter_map(|(index, host)| Some((host.turn_at?, index))).min()
    }

    fn deliver(&mut self, delivery: Delivery) -> Checked {
        let Delivery { end, to, what } = delivery;
        match to {
            Endpoint::Client(client) => self.reach_client(client, end, &what),
            Endpoint::Host(host) => {
                self.reach_host(host, end, what);
                Ok(())
            }
        }
    }

    fn dispatch(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive { host, life, arrival } => {
                if life == self.hosts[host].lives {
                    self.arrived(host, arrival);
                }
                Ok(())
            }
            Event::Proceed { host, life } => {
                if life == self.hosts[host].lives {
                    self.proceed(host);
                }
                Ok(())
            }
            Event::Claim { host, life } => {
                if life == self.hosts[host].lives {
                    self.claim(host);
                }
                Ok(())
            }
            Event::Restart { host } if self.absent[host] => Ok(()),
            Event::Restart { host } => self.restart(host),
            Event::FullEnds { host } => {
                self.hosts[host].files.disk().full = false;
                Ok(())
            }
            Event::DialEnds { host, life, end } => {
                if life == self.hosts[host].lives {
                    self.dial_ends(host, end);
                }
                Ok(())
            }
            Event::Act { client } => self.act(client),
            Event::Fault => {
                self.fault();
                Ok(())
            }
            // Who stays away is cut off for good.
            Event::PartitionEnds { from, to } if self.is_away(from) || self.is_away(to) => Ok(()),
            Event::PartitionEnds { from, to } => {
                self.note(|| format!("{from:?} reaches {to:?} again"));
                self.network.heal(self.now, from, to);
                Ok(())
            }
        }
    }

    fn heal(&mut self) {
        self.note(|| "FAULTS STOP".into());
        self.phase = Phase::Heal;
        self.healed_at = self.now;
        self.network.heal_all(self.now);
        for host in 0..self.hosts.len() {
            self.hosts[host].files.disk().calm();
            self.hosts[host].files.disk().full = false;
            self.hosts[host].disk_stalls_until = 0;
            if self.hosts[host].is_paused() {
                self.proceed(host);
            }
            self.claim(host);
        }
        for client in &mut self.clients {
            client.away_until = crate::base::Instant(0);
        }
        self.completed_before = self.clients.iter().map(|c| c.completed).collect();
        self.leave_out();
    }

    /// Some members of an ensemble, fewer than half, do not come back: they are dead, or cut off
    /// from all others and from the clients.
    fn leave_out(&mut self) {
        if !self.swarm.is_joined || !self.swarm.crashes {
            return;
        }
        // Those that have lost their database are of no help to the others.
        let lost = self.hosts[..self.swarm.voters].iter().filter(|host| host.is_lost).count();
        let left = self.faults.below(self.swarm.voters.div_ceil(2) as u64);
        let mut left = left.saturating_sub(lost as u64);
        while left > 0 {
            left -= 1;
            let (host, dies) =
                (self.faults.below(self.hosts.len() as u64), self.faults.chance(1, 2));
            let host = host as usize;
            if std::mem::replace(&mut self.absent[host], true) {
                continue;
            }
            self.note(|| format!("host {host} stays away, dead: {dies}"));
            if dies {
                self.end_host(host, true);
                continue;
            }
            self.books.disturbed(self.now + LIVENESS);
            let hosts = (0..self.hosts.len()).map(Endpoint::Host);
            let others = hosts.chain((0..self.clients.len()).map(Endpoint::Client));
            for other in others.filter(|other| *other != Endpoint::Host(host)).collect::<Vec<_>>() {
                self.network.partition(Endpoint::Host(host), other);
                self.network.partition(other, Endpoint::Host(host));
            }
        }
    }

    fn is_away(&self, end: Endpoint) -> bool {
        matches!(end, Endpoint::Host(host) if self.absent[host])
    }

    /// Whether everybody has been served since the faults stopped.
    fn check_liveness(&mut self) -> Result<bool, Violation> {
        let served = |(client, before): (&Client, &u64)| {
            client.state == State::Up && client.completed > before + 1
        };
        let all = self.clients.iter().zip(&self.completed_before).all(served);
        let hosts = self.hosts.iter_mut().zip(&self.absent).filter(|(_, is_absent)| !**is_absent);
        let mut present = hosts.map(|(host, _)| host);
        if all && present.all(|host| host.running().is_some_and(is_settled)) {
            let took = self.now - self.healed_at;
            self.report.recovery_ns_max = self.report.recovery_ns_max.max(took);
            return Ok(true);
        }
        if self.now - self.healed_at > LIVENESS {
            let stuck = self.clients.iter().zip(&self.completed_before).find(|p| !served(*p));
            let who = stuck.map(|(c, _)| (c.id, c.state, c.outstanding()));
            let what = format!("a minute after the last fault not everybody is served: {who:?}");
            return Err(self.wrong(what));
        }
        Ok(false)
    }

    /// At the end: the live trees are right, and so is what one more power failure leaves of all.
    fn finish(&mut self) -> Checked {
        for host in 0..self.hosts.len() {
            self.compare(host, "at the end")?;
            self.end_host(host, true);
        }
        for host in 0..self.hosts.len() {
            self.restart(host)?;
            if let Some(digest) = self.hosts[host].node().map(|node| node.replica().tree().digest())
            {
                self.mix(digest);
            }
        }
        Ok(())
    }
}

fn is_settled(node: &mut Node) -> bool {
    node.replica().is_settled()
}
