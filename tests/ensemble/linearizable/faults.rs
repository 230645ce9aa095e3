//! What goes wrong: one fault after the other, each healed before the next.

use super::clients::Clients;
use super::members::Members;
use super::proxy::Way;
use ringkeeper::base::Rng;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::time::{Duration, Instant};

/// Requests that are answered between two faults.
const BETWEEN: u64 = 60;

/// What a disk is kept busy with.
const HOG_BYTES: usize = 8 << 20;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    Kill,
    KillAll,
    Pause,
    /// Nothing passes between one member and the others, for a while or with its connections.
    Isolate(bool),
    /// What one member says does not arrive, or what it is told.
    Deafen(bool),
    /// Two parts, neither of which hears the other.
    Split,
    FullDisk,
    SlowDisk,
}

const ALL: [Fault; 10] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::Pause,
    Fault::Isolate(false),
    Fault::Isolate(true),
    Fault::Deafen(false),
    Fault::Deafen(true),
    Fault::Split,
    Fault::FullDisk,
    Fault::SlowDisk,
];

/// Chooses faults.
pub struct Faults {
    rng: Rng,
    size: usize,
    counts: BTreeMap<Fault, u32>,
}

impl Faults {
    /// The faults that this seed stands for.
    pub fn new(seed: u64, size: usize) -> Faults {
        Faults { rng: Rng::new(seed), size, counts: BTreeMap::new() }
    }

    /// Lets one happen after the other for `time`. Returns which. In the end all members serve.
    pub fn happen(mut self, members: &mut Members, clients: &Clients, time: Duration) -> String {
        let begin = Instant::now();
        while begin.elapsed() < time {
            clients.wait_for(BETWEEN);
            let fault = ALL[self.rng.below(ALL.len() as u64) as usize];
            *self.counts.entry(fault).or_default() += 1;
            // Mostly the leader: it matters more than each of the others.
            let any = self.rng.below(self.size as u64) as usize;
            let leader = if self.rng.chance(1, 2) { members.leader() } else { None };
            self.happen_once(fault, leader.unwrap_or(any), members, clients);
        }
        clients.wait_for(BETWEEN);
        members.start_all();
        format!("{:?}", self.counts)
    }

    fn moment(&mut self) -> Duration {
        Duration::from_millis(100 + self.rng.below(2_000))
    }

    fn happen_once(&mut self, fault: Fault, at: usize, members: &mut Members, clients: &Clients) {
        let moment = self.moment();
        match fault {
            Fault::Kill => {
                members.server(at).kill();
                clients.go_on_for(moment);
                members.server(at).spawn();
            }
            Fault::KillAll => {
                (0..self.size).for_each(|at| members.server(at).signal("KILL"));
                for at in 0..self.size {
                    members.server(at).wait();
                }
                members.start_all();
            }
            Fault::Pause => {
                members.server(at).signal("STOP");
                clients.go_on_for(moment);
                members.server(at).signal("CONT");
            }
            Fault::Isolate(is_cut) => {
                let way = if is_cut { Way::Cut } else { Way::Stalled };
                members.ways.set(|from, to| ((from == at) != (to == at)).then_some(way));
                clients.go_on_for(moment);
            }
            Fault::Deafen(is_mute) => {
                members.ways.set(|from, to| {
                    let is_its = if is_mute { from == at } else { to == at };
                    (is_its && from != to).then_some(Way::Stalled)
                });
                clients.go_on_for(moment);
            }
            Fault::Split => {
                let is_here = |one: usize| (one + at) % self.size < self.size / 2;
                members.ways.set(|from, to| (is_here(from) != is_here(to)).then_some(Way::Cut));
                clients.go_on_for(moment);
            }
            Fault::FullDisk => {
                members.fill_disk(at);
                members.server(at).wait();
                clients.go_on_for(moment);
                members.server(at).spawn();
            }
            Fault::SlowDisk => hog(members, at, moment),
        }
        members.ways.set(|_, _| Some(Way::Open));
    }
}

/// Keeps the disk of a member busy, which members of one test share.
fn hog(members: &Members, at: usize, time: Duration) {
    let begin = Instant::now();
    let path = members.home(at).join("hog");
    let mut file = File::create(&path).expect("a file");
    while begin.elapsed() < time {
        file.rewind().expect("its beginning");
        file.write_all(&vec![1; HOG_BYTES]).expect("a write");
        file.sync_all().expect("a sync");
    }
    std::fs::remove_file(path).expect("the file");
}
