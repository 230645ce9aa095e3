//! A load: what to send, how fast, from how many connections and threads; and running one.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::admin::{self, Admin};
use crate::codec::{self, Shape};
use crate::mix::{Kind, Mix};
use crate::procfs::{self, Cpu, Memory};
use crate::stats::{Tally, round3};
use crate::worker::{Conn, Window, Worker};

/// How requests follow one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Each connection keeps `depth` requests in flight.
    Closed {
        /// 1 is a client that waits for every answer.
        depth: u32,
    },
    /// `rate` requests per second are due, even while the server answers none.
    Open {
        /// Over all connections.
        rate: u64,
    },
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub struct Load {
    /// Address of the server, or of members of an ensemble, over which the connections are spread.
    pub addrs: Vec<SocketAddr>,
    /// Process ids of the server, or of all members, on this machine: their CPU time is wanted.
    pub server_pids: Vec<u32>,
    /// Number of sessions, each on a connection of its own.
    pub connections: usize,
    /// Generator threads.
    pub threads: usize,
    /// How requests follow one another.
    pub pace: Pace,
    /// Kinds of requests.
    pub mix: Mix,
    /// Paths and sizes.
    pub shape: Shape,
    /// Keys that reads and sets choose from.
    pub keys: u64,
    /// Children of the list directory, and the length of their names.
    pub list: (usize, usize),
    /// Chance in a thousand that a read leaves a watch.
    pub watch_permille: u32,
    /// Time at the beginning that is not measured.
    pub warmup: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// Number of requests to stop after; `None` stops by time only.
    pub requests: Option<u64>,
    /// First number that each connection creates.
    pub seq_start: u64,
    /// Seed of the choice of keys and kinds.
    pub seed: u64,
    /// Cores for the generator threads, in turn; empty leaves it to the scheduler.
    pub cpus: Vec<usize>,
    /// Session timeout to ask for in the handshake, milliseconds.
    pub session_timeout_ms: i32,
    /// Ends the run before its time.
    pub stop: Stop,
}

/// Ends a run before its time. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Nothing is sent from here on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run shall end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Load {
    /// 16 connections with 64 requests in flight each, 100-byte values, three seconds.
    pub fn new(addrs: Vec<SocketAddr>, mix: Mix) -> Load {
        Load {
            addrs,
            server_pids: Vec::new(),
            connections: 16,
            threads: 1,
            pace: Pace::Closed { depth: 64 },
            mix,
            shape: Shape { root: "/bench".to_owned(), size: 100, multi_ops: 10 },
            keys: 10_000,
            list: (100, 50),
            watch_permille: 0,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(3),
            requests: None,
            seq_start: 0,
            seed: 1,
            cpus: Vec::new(),
            session_timeout_ms: 120_000,
            stop: Stop::default(),
        }
    }

    /// Refuses what cannot be run.
    pub fn check(&self) -> Result<(), String> {
        let limit = 10u64.pow(codec::KEY_DIGITS as u32);
        if self.addrs.is_empty() {
            return Err("which server?".into());
        }
        if self.connections == 0 || self.threads == 0 || self.threads > self.connections {
            return Err("need at least one connection, and no more threads than connections".into());
        }
        if self.connections > 99_999 {
            return Err("at most 99999 connections".into());
        }
        if self.keys == 0 || self.keys > limit {
            return Err(format!("--keys must be between 1 and {limit}"));
        }
        if !self.shape.root.starts_with('/') || self.shape.root.ends_with('/') {
            return Err("--root must be a path such as /bench".into());
        }
        Ok(())
    }
}

/// Figures of a run.
pub struct Outcome {
    /// Latencies and counts.
    pub tally: Tally,
    /// Seconds measured.
    pub seconds: f64,
    /// CPU seconds of the generator within them.
    pub client_cpu: Option<Cpu>,
    /// CPU seconds of the server within them.
    pub server_cpu: Option<Cpu>,
    /// CPU seconds of the server by thread name.
    pub server_threads: BTreeMap<String, f64>,
    /// CPU seconds that everything else on the machine used, time stolen included.
    pub others_cpu: Option<f64>,
    /// What each process of the server used, in the order of [`Load::server_pids`].
    pub members: Vec<Member>,
    /// Generator threads.
    pub threads: usize,
}

/// What one process of the server used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Member {
    /// CPU seconds within the measured window.
    pub cpu: Option<Cpu>,
    /// Memory at the end.
    pub memory: Option<Memory>,
}

impl Outcome {
    /// Replies per second.
    pub fn rate(&self) -> f64 {
        self.tally.completed as f64 / self.seconds
    }

    fn per_op_us(&self, cpu_seconds: f64) -> f64 {
        cpu_seconds * 1e6 / (self.tally.completed.max(1) as f64)
    }

    /// Share of its cores that the generator used; close to 1 it measures itself.
    pub fn client_share(&self) -> f64 {
        let cpu = self.client_cpu.map_or(0.0, Cpu::total);
        cpu / self.seconds / self.threads as f64
    }

    /// All figures.
    pub fn json(&self) -> Value {
        let mut by_kind = Map::new();
        for kind in Kind::ALL {
            let latency = &self.tally.latency[kind as usize];
            if latency.count() > 0 {
                by_kind.insert(kind.name().to_owned(), latency.json());
            }
        }
        let per_op = |cpu: Option<Cpu>| cpu.map(|cpu| round3(self.per_op_us(cpu.total())));
        let threads: BTreeMap<_, _> = self
            .server_threads
            .iter()
            .filter(|(_, cpu)| **cpu > 0.0)
            .map(|(name, cpu)| (name.clone(), (self.per_op_us(*cpu) * 1e3).round()))
            .collect();
        let mib = |bytes: u64| bytes >> 20;
        let member = |one: &Member| {
            json!({
                "cpu_us_per_op": per_op(one.cpu),
                "rss_mib": one.memory.map(|memory| mib(memory.total)),
            })
        };
        let memory: Option<u64> = self.members.iter().map(|m| Some(m.memory?.total)).sum();
        let mut json = json!({
            "ops_per_s": self.rate().round(),
            "ops": self.tally.completed,
            "seconds": round3(self.seconds),
            "latency": self.tally.all().json(),
            "by_kind": by_kind,
            "errors": self.tally.errors.iter()
                .map(|(code, n)| (code.to_string(), *n)).collect::<BTreeMap<_, _>>(),
            "notifications": self.tally.notifications,
            "unanswered": self.tally.unanswered,
            "client_cpu_us_per_op": per_op(self.client_cpu),
            "client_share": round3(self.client_share()),
            "server_cpu_us_per_op": per_op(self.server_cpu),
            "server_cpu_cores": self.server_cpu.map(|cpu| round3(cpu.total() / self.seconds)),
            "server_thread_ns_per_op": threads,
            "others_cpu_cores": self.others_cpu.map(|cpu| round3(cpu / self.seconds)),
            "server_rss_mib": memory.filter(|_| !self.members.is_empty()).map(mib),
        });
        if self.members.len() > 1 {
            json["members"] = self.members.iter().map(member).collect();
        }
        json
    }
}

/// Creates what `load` works on: directories, keys, list children.
pub fn prepare(load: &Load) -> Result<(), String> {
    load.check()?;
    let mut admin = Admin::connect(load.addrs[0])?;
    let root = &load.shape.root;
    admin.create_all(std::iter::once(root.clone()))?;
    let dirs = load.keys.div_ceil(1000);
    admin.create_all((0..dirs).map(|dir| codec::dir_path(root, dir)))?;
    if load.mix.has(Kind::Create) || load.mix.has(Kind::Delete) || load.mix.has(Kind::MultiCreate) {
        admin.create_all((0..load.connections).map(|conn| codec::own_dir(root, conn)))?;
    }
    if load.mix.has(Kind::List) {
        let dir = codec::list_dir(root);
        admin.create_all(std::iter::once(dir.clone()))?;
        let (count, width) = load.list;
        admin.create_all((0..count).map(|i| format!("{dir}/{i:0width$}")))?;
    }
    admin.close();
    catch_up(load)
}

/// Waits until every member has what was written through another one.
fn catch_up(load: &Load) -> Result<(), String> {
    if load.addrs.len() > 1 {
        for addr in &load.addrs {
            let mut admin = Admin::connect(*addr)?;
            admin.sync()?;
            admin.close();
        }
    }
    Ok(())
}

/// Creates the keys, pipelined.
pub fn fill(load: &Load) -> Result<(), String> {
    let filling = Load {
        connections: 16.max(load.threads),
        pace: Pace::Closed { depth: 64 },
        mix: Mix::only(Kind::Fill),
        warmup: Duration::ZERO,
        duration: Duration::from_secs(600),
        requests: Some(load.keys),
        ..load.clone()
    };
    let outcome = run(&filling)?;
    let failed = outcome.tally.errors.iter().find(|(code, _)| **code != admin::NODE_EXISTS);
    match failed {
        Some((code, count)) => Err(format!("filling: {count} creates were answered {code}")),
        None if outcome.tally.unanswered > 0 => Err("filling did not finish".into()),
        None => catch_up(load),
    }
}

/// Runs `load` against a server that has been prepared.
pub fn run(load: &Load) -> Result<Outcome, String> {
    load.check()?;
    let mut streams = Vec::with_capacity(load.connections);
    let addr = |number: usize| load.addrs[number % load.addrs.len()];
    for number in 0..load.connections {
        streams.push(admin::dial(addr(number), load.session_timeout_ms)?);
    }
    let mut shares: Vec<Vec<Conn>> = (0..load.threads).map(|_| Vec::new()).collect();
    for (number, mut stream) in streams.into_iter().enumerate() {
        admin::finish_handshake(addr(number), &mut stream)?;
        let conn = Conn::new(stream, number, load.seq_start).map_err(|e| e.to_string())?;
        shares[number % load.threads].push(conn);
    }
    let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let from = ns(load.warmup);
    let window = Window { origin: Instant::now(), from, to: from + ns(load.duration) };
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for (index, conns) in shares.into_iter().enumerate() {
            handles.push(scope.spawn(move || {
                pin(&load.cpus, index);
                let worker = Worker::new(load, index, conns, window);
                worker.map_err(|e| e.to_string())?.run()
            }));
        }
        let begin = window.origin + load.warmup;
        let watch = Meter::between(&load.server_pids, begin, begin + load.duration, || {
            handles.iter().all(std::thread::ScopedJoinHandle::is_finished)
        });
        let mut tally = Tally::new();
        let mut open = Vec::new();
        for handle in handles {
            let (part, conns) = handle.join().map_err(|_| "a generator thread panicked")??;
            tally.merge(&part);
            open.extend(conns);
        }
        drop(open);
        Ok(watch.outcome(tally, load))
    })
}

/// Binds the calling thread to the next core of the list.
pub fn pin(cpus: &[usize], index: usize) {
    if let Some(cpu) = cpus.get(index % cpus.len().max(1)) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(*cpu);
        // Without the permission the scheduler decides, which the CPU shares will show.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// CPU times at both ends of the measured window.
struct Meter {
    client: Option<Cpu>,
    members: Vec<Member>,
    machine: Option<f64>,
    threads: BTreeMap<String, f64>,
    seconds: f64,
}

/// CPU seconds of the threads of all processes, by thread name.
fn threads_of(pids: &[u32]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for (name, cpu) in pids.iter().flat_map(|pid| procfs::threads(*pid)) {
        *all.entry(name).or_insert(0.0) += cpu;
    }
    all
}

impl Meter {
    fn between(pids: &[u32], begin: Instant, end: Instant, over: impl Fn() -> bool) -> Meter {
        sleep_until(begin, &over);
        let start = Instant::now();
        let read = || -> (Option<Cpu>, Vec<Option<Cpu>>) {
            (Cpu::of(None), pids.iter().map(|pid| Cpu::of(Some(*pid))).collect())
        };
        let (client, servers) = read();
        let machine = procfs::machine_busy();
        let before = threads_of(pids);
        sleep_until(end, &over);
        let (client_end, servers_end) = read();
        let machine_end = procfs::machine_busy();
        let mut threads = threads_of(pids);
        for (name, cpu) in &mut threads {
            *cpu -= before.get(name).copied().unwrap_or(0.0);
        }
        let spent = |a: Option<Cpu>, b: Option<Cpu>| Some(b?.since(a?));
        let member = |((pid, a), b): ((&u32, Option<Cpu>), Option<Cpu>)| Member {
            cpu: spent(a, b),
            memory: Memory::of(*pid),
        };
        Meter {
            client: spent(client, client_end),
            members: pids.iter().zip(servers).zip(servers_end).map(member).collect(),
            machine: machine_end.zip(machine).map(|(end, start)| end - start),
            threads,
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    fn outcome(self, tally: Tally, load: &Load) -> Outcome {
        let server = self.members.iter().map(|member| member.cpu).reduce(|a, b| Some(a?.and(b?)));
        let server = server.flatten();
        Outcome {
            tally,
            // Replies are counted inside the window; the meter read is a little later.
            seconds: self.seconds.clamp(1e-9, load.duration.as_secs_f64()),
            others_cpu: self.machine.map(|all| {
                let ours = [self.client, server].into_iter().flatten().map(Cpu::total);
                (all - ours.sum::<f64>()).max(0.0)
            }),
            client_cpu: self.client,
            server_cpu: server,
            server_threads: self.threads,
            members: self.members,
            threads: load.threads,
        }
    }
}

/// Sleeps until `deadline`, or until `over`, which is looked at often enough for short runs.
fn sleep_until(deadline: Instant, over: &impl Fn() -> bool) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || over() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
}
