//! Which stages run on which cores.
//!
//! A worker is one thread with one ring. Stages on the same worker hand work over by a function
//! call; stages on different workers through a queue. With few cores one worker does everything;
//! with many each stage owns its cores.

use std::fmt;

/// What one worker thread runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkerPlan {
    /// CPU to pin to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// Index of the network front it runs.
    pub front: Option<u8>,
    /// Runs the replica.
    pub replica: bool,
    /// Runs the log.
    pub log: bool,
}

/// The workers of a server. Invariant: exactly one runs the replica, exactly one the log, and the
/// fronts are numbered from 0 without gaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// The workers; the first one with a front accepts connections.
    pub workers: Vec<WorkerPlan>,
}

/// What the configuration says about cores.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CoreOptions {
    /// `ringkeeper.cores.network`.
    pub network: Vec<usize>,
    /// `ringkeeper.cores.pipeline`.
    pub pipeline: Option<usize>,
    /// `ringkeeper.cores.log`.
    pub log: Option<usize>,
    /// `ringkeeper.network.threads`; 0 for a number that suits the machine.
    pub network_threads: u32,
}

impl Topology {
    /// Plans for a process that may use `cpus`.
    pub fn plan(options: &CoreOptions, cpus: &[usize]) -> Topology {
        let configured = !options.network.is_empty()
            || options.pipeline.is_some()
            || options.log.is_some()
            || options.network_threads != 0;
        if !configured {
            return Topology::default_for(cpus);
        }
        let mut workers: Vec<WorkerPlan> = Vec::new();
        let threads = match (options.network_threads, options.network.len()) {
            (0, 0) => 1,
            (0, pinned) => pinned,
            (threads, _) => threads as usize,
        };
        for id in 0..threads.clamp(1, 64) {
            let cpu = match options.network.len() {
                0 => None,
                n => Some(options.network[id % n]),
            };
            workers.push(WorkerPlan { cpu, front: Some(id as u8), ..WorkerPlan::default() });
        }
        let place = |workers: &mut Vec<WorkerPlan>, cpu: Option<usize>| -> usize {
            let shared = match cpu {
                Some(cpu) => workers.iter().position(|worker| worker.cpu == Some(cpu)),
                // Unpinned stages share the first loop when there is one network thread, so that
                // nothing hops; with more they get a thread of their own.
                None if threads == 1 => Some(0),
                None => None,
            };
            shared.unwrap_or_else(|| {
                workers.push(WorkerPlan { cpu, ..WorkerPlan::default() });
                workers.len() - 1
            })
        };
        let at = place(&mut workers, options.pipeline);
        workers[at].replica = true;
        let at = match options.log {
            None => at,
            log => place(&mut workers, log),
        };
        workers[at].log = true;
        Topology { workers }
    }

    /// One and two CPUs: one loop, because a hop costs more than it gains and the clients need the
    /// rest. Three: the log apart. Four and more: every stage its own CPUs.
    fn default_for(cpus: &[usize]) -> Topology {
        let all = WorkerPlan { cpu: None, front: Some(0), replica: true, log: true };
        match cpus {
            [] | [_] | [_, _] => Topology { workers: vec![all] },
            [a, b, _] => Topology {
                workers: vec![
                    WorkerPlan { cpu: Some(*a), log: false, ..all },
                    WorkerPlan { cpu: Some(*b), log: true, ..WorkerPlan::default() },
                ],
            },
            [a, b, rest @ ..] => {
                let fronts = (rest.len() / 2).clamp(1, 8);
                let mut workers: Vec<WorkerPlan> = (0..fronts)
                    .map(|id| WorkerPlan {
                        cpu: Some(rest[id]),
                        front: Some(id as u8),
                        ..WorkerPlan::default()
                    })
                    .collect();
                workers.push(WorkerPlan { cpu: Some(*a), replica: true, ..Default::default() });
                workers.push(WorkerPlan { cpu: Some(*b), log: true, ..Default::default() });
                Topology { workers }
            }
        }
    }

    /// Number of fronts.
    pub fn fronts(&self) -> usize {
        self.workers.iter().filter(|worker| worker.front.is_some()).count()
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, worker) in self.workers.iter().enumerate() {
            if at > 0 {
                write!(f, "; ")?;
            }
            let mut stages = Vec::new();
            if let Some(id) = worker.front {
                stages.push(format!("network {id}"));
            }
            if worker.replica {
                stages.push("pipeline".to_owned());
            }
            if worker.log {
                stages.push("log".to_owned());
            }
            write!(f, "{}", stages.join(" + "))?;
            match worker.cpu {
                Some(cpu) => write!(f, " on CPU {cpu}")?,
                None => write!(f, " on any CPU")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: CoreOptions, cpus: &[usize], expect: &str) {
        let plan = Topology::plan(&options, cpus);
        assert_eq!(plan.to_string(), expect);
        assert_eq!(plan.workers.iter().filter(|worker| worker.replica).count(), 1);
        assert_eq!(plan.workers.iter().filter(|worker| worker.log).count(), 1);
    }

    #[test]
    fn defaults_suit_the_machine() {
        let auto = CoreOptions::default;
        check(auto(), &[0], "network 0 + pipeline + log on any CPU");
        check(auto(), &[0, 1], "network 0 + pipeline + log on any CPU");
        check(auto(), &[0, 1, 2], "network 0 + pipeline on CPU 0; log on CPU 1");
        check(
            auto(),
            &[0, 1, 2, 3, 4, 5],
            "network 0 on CPU 2; network 1 on CPU 3; pipeline on CPU 0; log on CPU 1",
        );
    }

    #[test]
    fn configured_cores_are_taken_and_shared() {
        let options =
            CoreOptions { network: vec![0], pipeline: Some(1), log: Some(1), network_threads: 0 };
        check(options, &[0, 1], "network 0 on CPU 0; pipeline + log on CPU 1");
        let options = CoreOptions { network_threads: 2, ..CoreOptions::default() };
        check(
            options,
            &[0, 1],
            "network 0 on any CPU; network 1 on any CPU; pipeline + log on any CPU",
        );
        let options = CoreOptions { log: Some(1), ..CoreOptions::default() };
        check(options, &[0, 1], "network 0 + pipeline on any CPU; log on CPU 1");
    }
}
