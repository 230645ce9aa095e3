//! What goes wrong from outside, now and then, until the clients have asked for enough.

use super::super::network::{End, Endpoint};
use super::{Event, MS, Phase, SECOND, World};

/// Partitions are shorter than this; sessions last from one second to eight.
const PARTITION_MAX: u64 = 12 * SECOND;
/// A disk takes nothing for less than this; a member waits for its own for 2.5 s.
const DISK_STALL_MAX: u64 = 8 * SECOND;
/// Until then what was kept back has arrived, and is dealt with.
const AFTERMATH: u64 = SECOND;

impl World {
    pub(super) fn plan_fault(&mut self) {
        let delay = self.faults.below(2 * self.swarm.fault_ms * MS) + 10 * MS;
        self.after(delay, Event::Fault);
    }

    pub(super) fn fault(&mut self) {
        if self.phase != Phase::Work {
            return;
        }
        self.plan_fault();
        // Each fault draws as much as the others.
        let kind = self.faults.below(12);
        let extent = self.faults.next_u64();
        let host = self.faults.below(self.hosts.len() as u64) as usize;
        let client = self.faults.below(self.clients.len() as u64) as usize;
        // Where members can be isolated, too, they share these kinds.
        let has_turn = !self.swarm.isolates || extent % 2 == 1;
        match kind {
            0 | 1 if self.swarm.crashes => {
                self.hosts[host].files.disk().crash_in = Some((extent % 40) as u32);
            }
            2 if self.swarm.crashes && self.hosts[host].node().is_some() => {
                // The power fails, or only the process is killed.
                let power = extent.is_multiple_of(2);
                self.note(|| format!("host {host} KILLED, power lost: {power}"));
                self.report.crashes += 1;
                self.end_host(host, power);
            }
            3 if self.swarm.stops => {
                if let Some(node) = self.hosts[host].running() {
                    node.drain();
                }
            }
            4 if self.swarm.pauses && self.hosts[host].pause() => {
                let life = self.hosts[host].lives;
                let lasts = extent % (8 * SECOND);
                self.books.disturbed(self.now + lasts + AFTERMATH);
                self.after(lasts, Event::Proceed { host, life });
            }
            5 if self.swarm.wall_jumps => {
                self.hosts[host].clock.jump((extent % 200_000) as i64 - 100_000);
            }
            6 if self.swarm.write_errors && has_turn => {
                self.hosts[host].files.disk().fail_next = true;
            }
            7 if self.swarm.disk_full && has_turn => {
                self.hosts[host].files.disk().full = true;
                self.after(extent % (2 * SECOND), Event::FullEnds { host });
            }
            6 | 7 if self.swarm.isolates => self.isolate(host, extent),
            9 if self.swarm.isolates => {
                let streams = self.network.between_hosts();
                if !streams.is_empty() {
                    self.break_stream(streams[extent as usize / 8 % streams.len()], extent);
                }
            }
            8 | 9 if self.swarm.partitions => self.partition(client, extent),
            10 if self.swarm.breaks => {
                if let Some(link) = self.clients[client].link {
                    self.break_stream(link, extent);
                }
            }
            11 if self.swarm.terms => self.end_term(host, extent),
            11 if self.swarm.slow_disks => {
                let until = self.now + extent % DISK_STALL_MAX;
                self.hosts[host].disk_stalls_until = until;
                self.books.disturbed(until + AFTERMATH);
            }
            _ => return,
        }
        self.note(|| format!("fault {kind}, host {host}, client {client}"));
    }

    /// A server leads no more for a while.
    fn end_term(&mut self, host: usize, extent: u64) {
        let Some(node) = self.hosts[host].running() else { return };
        node.resign();
        self.report.terms += 1;
        let life = self.hosts[host].lives;
        self.after(extent % (3 * SECOND), Event::Claim { host, life });
        self.want_turn(host, self.now);
    }

    /// It leads again, if it runs; one that is paused does so when the faults stop.
    pub(super) fn claim(&mut self, host: usize) {
        if self.options.ensemble.is_some() {
            // An election says who leads.
            return;
        }
        let now = self.hosts[host].now(self.now);
        if let Some(node) = self.hosts[host].running() {
            node.claim(now);
            self.want_turn(host, self.now);
        }
    }

    /// A client and its host do not reach each other for a while, or one of them the other.
    fn partition(&mut self, client: usize, extent: u64) {
        let host = Endpoint::Host(self.clients[client].host);
        self.divide(Endpoint::Client(client), host, extent);
    }

    /// A member and another one, or all others, do not reach each other for a while.
    fn isolate(&mut self, host: usize, extent: u64) {
        let others: Vec<usize> = (0..self.hosts.len()).filter(|&other| other != host).collect();
        if others.is_empty() {
            return;
        }
        let others = match extent % 2 {
            0 => &others[..],
            _ => &others[(extent / 2) as usize % others.len()..][..1],
        };
        for &other in others {
            self.divide(Endpoint::Host(host), Endpoint::Host(other), extent / 16);
        }
    }

    fn divide(&mut self, one: Endpoint, other: Endpoint, extent: u64) {
        let ways = [(one, other), (other, one)];
        let (ways, lasts) = match extent % 3 {
            0 => (&ways[..], extent / 3),
            1 => (&ways[..1], extent / 3),
            _ => (&ways[1..], extent / 3),
        };
        self.report.partitions += 1;
        self.books.disturbed(self.now + lasts % PARTITION_MAX + AFTERMATH);
        for &(from, to) in ways {
            self.note(|| format!("{from:?} does not reach {to:?}"));
            self.network.partition(from, to);
            self.after(lasts % PARTITION_MAX, Event::PartitionEnds { from, to });
        }
    }

    /// A member sends its database, which does not take long: now and then just then a stream
    /// breaks between it and another one.
    pub(super) fn break_in_time(&mut self, host: usize) {
        let is_due = self.phase == Phase::Work && self.swarm.breaks && self.swarm.isolates;
        if !is_due || !self.faults.chance(1, 16) {
            return;
        }
        let host = Endpoint::Host(host);
        let mut streams = self.network.between_hosts();
        streams.retain(|end| [*end, end.peer()].iter().any(|end| self.network.owner(*end) == host));
        let extent = self.faults.next_u64();
        if !streams.is_empty() {
            self.break_stream(streams[extent as usize / 8 % streams.len()], extent);
        }
    }

    /// A stream is cut, which none, one or both of the ends learn, or stalls.
    fn break_stream(&mut self, link: End, extent: u64) {
        self.report.cuts += 1;
        match extent % 8 {
            0..4 => {
                let told = [extent & 1 != 0, extent & 2 != 0];
                self.note(|| format!("{link:?} is CUT, its ends learn: {told:?}"));
                self.network.cut(self.now, link, told);
                // An end that was not told finds out by silence.
                self.books.disturbed(self.now + 10 * SECOND);
            }
            kind => {
                let end = if kind < 6 { link } else { link.peer() };
                let until = self.now + extent / 8 % (3 * SECOND);
                self.books.disturbed(until + AFTERMATH);
                self.network.stall(self.now, end, until);
            }
        }
    }
}
