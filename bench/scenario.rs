//! The scenarios of `compare`, and how each is carried out.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use ringkeeper::wire::OpCode;
use serde_json::{Map, Value, json};

use crate::codec;
use crate::ensemble::Target;
use crate::load::{self, Load, Pace};
use crate::mix::Mix;
use crate::procfs::Memory;
use crate::servers::{Contestant, Programs, Server};
use crate::stats::{Latency, round3};
use crate::storm::{Crowd, Phase, Storm};

/// The way a scenario is carried out.
#[derive(Clone, Debug)]
pub enum Method {
    /// A closed loop: mix, connections, depth.
    Load(&'static str, usize, u32),
    /// An open loop: mix, connections, requests per second.
    Paced(&'static str, usize, u64),
    /// An open loop at half of the rate of a closed one, which is measured just before unless
    /// `--rate` says it: mix, connections, depth.
    Half(&'static str, usize, u32),
    /// One write; the number of watchers that are told.
    FanOut(usize),
    /// `--sessions` sessions arrive, are cut, return, leave; on a server of its own with more
    /// lines in its configuration.
    Storm(&'static [&'static str]),
    /// A tree of `--znodes`: memory and start time; on a server of its own.
    Big,
}

/// One line of the comparison.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// For `--only`, and the key in the JSON.
    pub name: &'static str,
    /// Title in tables and charts.
    pub title: &'static str,
    /// How it is carried out.
    pub method: Method,
    /// Where its clients are.
    pub reach: Reach,
}

/// Where the clients of a load are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Spread over the members; one that is alone is on a follower.
    Members,
    /// All on the leader.
    Leader,
    /// On one server that is no ensemble, started for this.
    OneServer,
}

const fn scenario(name: &'static str, title: &'static str, method: Method) -> Scenario {
    Scenario { name, title, method, reach: Reach::Members }
}

const fn on_leader(name: &'static str, title: &'static str, method: Method) -> Scenario {
    Scenario { name, title, method, reach: Reach::Leader }
}

const fn on_one(name: &'static str, title: &'static str, method: Method) -> Scenario {
    Scenario { name, title, method, reach: Reach::OneServer }
}

/// The scenarios of an ensemble, in the order in which they run.
pub const ENSEMBLE: [Scenario; 17] = [
    scenario("set", "pipelined set, 16 × 64", Method::Load("set", 16, 64)),
    on_leader("set-leader", "pipelined set, 16 × 64, leader", Method::Load("set", 16, 64)),
    scenario("get", "pipelined get, 16 × 64", Method::Load("get", 16, 64)),
    on_leader("get-leader", "pipelined get, 16 × 64, leader", Method::Load("get", 16, 64)),
    on_one("get-one", "pipelined get, 16 × 64, one server", Method::Load("get", 16, 64)),
    scenario("set-lone", "one set at a time, on a follower", Method::Load("set", 1, 1)),
    on_leader("set-lone-leader", "one set at a time, on the leader", Method::Load("set", 1, 1)),
    scenario("get-lone", "one get at a time, on a follower", Method::Load("get", 1, 1)),
    on_leader("get-lone-leader", "one get at a time, on the leader", Method::Load("get", 1, 1)),
    scenario("set-64x1", "64 clients, one set at a time each", Method::Load("set", 64, 1)),
    on_leader("set-64x1-leader", "64 clients, one set each, leader", Method::Load("set", 64, 1)),
    scenario("mixed", "90 % get, 10 % set, 16 × 64", Method::Load("mixed", 16, 64)),
    on_leader("mixed-leader", "90 % get, 10 % set, 16 × 64, leader", Method::Load("mixed", 16, 64)),
    scenario("create", "pipelined create, 16 × 64", Method::Load("create", 16, 64)),
    on_leader("create-leader", "pipelined create, 16 × 64, leader", Method::Load("create", 16, 64)),
    scenario("set-half", "sets at half of full load", Method::Half("set", 64, 16)),
    on_leader("set-half-leader", "sets at half of full load, leader", Method::Half("set", 64, 16)),
];

/// The scenarios of one server, in the order in which they run.
pub const ALL: [Scenario; 24] = [
    scenario("set", "pipelined set, 16 × 64", Method::Load("set", 16, 64)),
    scenario("get", "pipelined get, 16 × 64", Method::Load("get", 16, 64)),
    scenario("set-lone", "one client, one set at a time", Method::Load("set", 1, 1)),
    scenario("get-lone", "one client, one get at a time", Method::Load("get", 1, 1)),
    scenario("set-64x1", "64 clients, one set at a time each", Method::Load("set", 64, 1)),
    scenario("get-64x1", "64 clients, one get at a time each", Method::Load("get", 64, 1)),
    scenario("mixed", "90 % get, 10 % set, 16 × 64", Method::Load("mixed", 16, 64)),
    scenario("mixed-64x1", "90 % get, 10 % set, 64 × 1", Method::Load("mixed", 64, 1)),
    scenario("create", "pipelined create, 16 × 64", Method::Load("create", 16, 64)),
    scenario("create-delete", "create and delete, 16 × 64", Method::Load("delete", 16, 64)),
    scenario("multi", "multi of 10 sets, 16 × 16", Method::Load("multi", 16, 16)),
    scenario("list", "list of 100 children, 16 × 16", Method::Load("list", 16, 16)),
    scenario("rk-create-20", "RaftKeeper create, 20 clients", Method::Load(RK_CREATE, 20, 1)),
    scenario("rk-create-400", "RaftKeeper create, 400 clients", Method::Load(RK_CREATE, 400, 1)),
    scenario("rk-mix-20", "RaftKeeper mix, 20 clients", Method::Load(RK_MIX, 20, 1)),
    scenario("rk-mix-400", "RaftKeeper mix, 400 clients", Method::Load(RK_MIX, 400, 1)),
    scenario("keeper-bench", "keeper-bench mix, 16 × 8", Method::Load("keeper-bench", 16, 8)),
    scenario("clickhouse", "ClickHouse mix, 16 × 8", Method::Load("clickhouse", 16, 8)),
    scenario("clickhouse-inserts", "ClickHouse inserts, 16 × 8", Method::Load(CH_INSERTS, 16, 8)),
    scenario("set-paced", "10 000 sets/s, open loop", Method::Paced("set", 64, 10_000)),
    scenario("fan-out", "one write, 1000 watchers", Method::FanOut(1000)),
    scenario("storm", "sessions, long listen backlog", Method::Storm(&[LONG_BACKLOG])),
    scenario("storm-stock", "sessions, stock listen backlog", Method::Storm(&[])),
    scenario("big", "a million znodes: memory, start", Method::Big),
];

const RK_CREATE: &str = "raftkeeper-create";
const RK_MIX: &str = "raftkeeper-mix";
const CH_INSERTS: &str = "clickhouse-inserts";

/// Apache listens with a backlog of 50 unless told otherwise. Of thousands of connects at once
/// most are then dropped by its kernel and come again after 1, 3, 7, 15 seconds.
const LONG_BACKLOG: &str = "clientPortListenBacklog=16384";

/// Sizes and times of a comparison.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Measured time per load.
    pub duration: Duration,
    /// Time before each load that is not measured.
    pub warmup: Duration,
    /// Time before the first load after a start that is not measured: Java compiles what it runs
    /// often.
    pub first_warmup: Duration,
    /// Nodes that reads and sets choose from.
    pub keys: u64,
    /// Bytes of node data.
    pub size: usize,
    /// Znodes of the big tree.
    pub znodes: u64,
    /// Sessions of the storm.
    pub sessions: usize,
    /// Java heap for the big tree.
    pub big_heap_mib: u64,
    /// Generator threads.
    pub threads: usize,
    /// Cores of the generator threads; empty leaves them to the scheduler.
    pub cpus: Vec<usize>,
    /// Requests per second of [`Method::Half`]; `None` measures.
    pub rate: Option<u64>,
}

/// One measurement: the line it belongs to, its title, its figures.
pub struct Measured {
    /// Scenario, or scenario and phase.
    pub name: String,
    /// For people.
    pub title: String,
    /// Figures by name.
    pub figures: Value,
}

fn load_for(settings: &Settings, target: &Target, mix: &str, index: usize) -> Result<Load, String> {
    let mut load = Load::new(target.members(), Mix::parse(mix)?);
    load.server_pids.clone_from(&target.pids);
    load.keys = settings.keys;
    load.shape.size = settings.size;
    load.warmup = settings.warmup;
    load.duration = settings.duration;
    load.threads = settings.threads;
    load.cpus = settings.cpus.clone();
    // Every scenario creates nodes of its own.
    load.seq_start = 100_000_000 * index as u64;
    Ok(load)
}

/// Fills a fresh server and keeps it busy for a while.
pub fn warm_up(settings: &Settings, target: &Target) -> Result<(), String> {
    let mix = "get:4,set:2,create:1,delete:1,list:1,multi:1,exists:1";
    let mut load = load_for(settings, target, mix, 99)?;
    load.threads = 1;
    load::prepare(&load)?;
    load::fill(&load)?;
    load.warmup = Duration::ZERO;
    load.duration = settings.first_warmup;
    load::run(&load).map(|_| ())
}

/// Runs scenario number `index` on a warm server or ensemble.
pub fn run(
    settings: &Settings,
    target: &Target,
    scenario: &Scenario,
    index: usize,
) -> Result<Vec<Measured>, String> {
    let (mix, connections, pace) = match scenario.method {
        Method::Load(mix, connections, depth) | Method::Half(mix, connections, depth) => {
            (mix, connections, Pace::Closed { depth })
        }
        Method::Paced(mix, connections, rate) => (mix, connections, Pace::Open { rate }),
        Method::FanOut(watchers) => return fan_out(target, scenario, watchers),
        Method::Storm(_) => return storm(settings, target, scenario),
        Method::Big => return Ok(Vec::new()),
    };
    let mut load = load_for(settings, target, mix, index)?;
    if scenario.reach == Reach::Leader {
        load.addrs = vec![target.leader()];
    }
    load.connections = connections;
    load.threads = settings.threads.min(connections);
    load.pace = pace;
    load::prepare(&load)?;
    let mut full_per_s = None;
    if matches!(scenario.method, Method::Half(..)) {
        let rate = match settings.rate {
            Some(rate) => rate,
            None => {
                let full = load::run(&load)?.rate();
                full_per_s = Some(full.round());
                (full / 2.0) as u64
            }
        };
        load.pace = Pace::Open { rate };
    }
    let outcome = load::run(&load)?;
    let mut figures = outcome.json();
    if let Pace::Open { rate } = load.pace {
        figures["due_per_s"] = json!(rate);
    }
    if let Some(full) = full_per_s {
        figures["full_per_s"] = json!(full);
    }
    if !outcome.tally.errors.is_empty() || outcome.tally.unanswered > 0 {
        figures["failed"] = json!(true);
    }
    Ok(vec![Measured { name: scenario.name.to_owned(), title: scenario.title.to_owned(), figures }])
}

fn fan_out(target: &Target, scenario: &Scenario, watchers: usize) -> Result<Vec<Measured>, String> {
    if target.who == Contestant::Ceiling {
        return Ok(Vec::new());
    }
    let storm = Storm {
        sessions: watchers,
        ephemerals: false,
        server_pid: target.pids.first().copied(),
        ..Storm::new(target.leader())
    };
    let mut crowd = Crowd::new(storm)?;
    crowd.arrive()?;
    let phases = (0..20).map(|_| crowd.notify()).collect::<Result<Vec<Phase>, String>>()?;
    crowd.leave()?;
    let mut all = Latency::new();
    let mut total = Latency::new();
    for phase in &phases[2..] {
        all.merge(&phase.latency);
        total.record((phase.seconds * 1e9) as u64, 1);
    }
    let events: usize = phases[2..].iter().map(|p| p.done).sum();
    let seconds: f64 = phases[2..].iter().map(|p| p.seconds).sum();
    let cpu: Option<f64> = phases[2..].iter().map(|p| p.server_cpu).sum();
    let figures = json!({
        "total_ms": round3(total.at_us(0.5) / 1e3),
        "ops": events,
        "ops_per_s": (events as f64 / seconds).round(),
        "latency": all.json(),
        "server_cpu_us_per_op": cpu.map(|c| round3(c * 1e6 / events.max(1) as f64)),
    });
    Ok(vec![Measured { name: scenario.name.to_owned(), title: scenario.title.to_owned(), figures }])
}

impl Scenario {
    /// Whether it shares a warm server with others.
    pub fn is_load(&self) -> bool {
        !matches!(self.method, Method::Storm(_) | Method::Big) && self.reach != Reach::OneServer
    }
}

fn storm(
    settings: &Settings,
    target: &Target,
    scenario: &Scenario,
) -> Result<Vec<Measured>, String> {
    let storm = Storm {
        sessions: settings.sessions,
        server_pid: target.pids.first().copied(),
        ..Storm::new(target.leader())
    };
    let mut crowd = Crowd::new(storm)?;
    let mut phases = vec![("arrive", "sessions arrive at once", crowd.arrive()?)];
    let watches = target.who != Contestant::Ceiling;
    if watches {
        phases.push(("notify", "sessions told by one write", crowd.notify()?));
    }
    crowd.cut();
    phases.push(("return", "sessions return at once", crowd.come_back()?));
    if watches {
        phases.push(("notify-again", "told again after their return", crowd.notify()?));
    }
    phases.push(("leave", "sessions close at once", crowd.leave()?));
    let backlog = if scenario.name == "storm" { "" } else { ", stock backlog" };
    let measured = |(name, title, phase): (&str, &str, Phase)| Measured {
        name: format!("{}-{name}", scenario.name),
        title: format!("{} {title}{backlog}", settings.sessions),
        figures: phase.json(),
    };
    Ok(phases.into_iter().map(measured).collect())
}

/// Memory per znode and time to start with many znodes, on a server of its own.
pub fn big(settings: &Settings, programs: &Programs, who: Contestant) -> Result<Value, String> {
    let mut programs = programs.clone();
    programs.heap_mib = settings.big_heap_mib;
    let home = programs.home(who, "big")?;
    let server = programs.start(who, &home)?;
    let mut load = load_for(settings, &Target::alone(&server), "get", 0)?;
    load.keys = settings.znodes;
    let rss = |server: &Server| Memory::of(server.pid()).ok_or("no memory figures in /proc");
    load::prepare(&Load { keys: 1, ..load.clone() })?;
    let live_empty = server.live_heap();
    let empty = rss(&server)?;
    load::prepare(&load)?;
    let begin = Instant::now();
    load::fill(&load)?;
    let fill_seconds = begin.elapsed().as_secs_f64();
    // Let a snapshot under way finish, so that its buffers are not counted.
    std::thread::sleep(Duration::from_secs(2));
    let full = rss(&server)?;
    let live = server.live_heap();
    let collected = rss(&server)?;
    let per_node = |a: u64, b: u64| round3(b.saturating_sub(a) as f64 / settings.znodes as f64);
    server.stop();
    let begin = Instant::now();
    let mut server = programs.spawn(who, &home)?;
    let mut admin = server.wait_until_up()?;
    let last = codec::key_path(&load.shape.root, settings.znodes - 1);
    let (err, _) = admin.call(|xid| codec::read_frame(xid, OpCode::GetData, &last, false))?;
    let start_seconds = begin.elapsed().as_secs_f64();
    let restarted = rss(&server)?;
    admin.close();
    server.stop();
    remove(&home);
    if err != 0 {
        return Err(format!("{}: znode {last} was lost over a restart ({err})", who.name()));
    }
    let mut figures = Map::new();
    for (name, value) in [
        ("fill_per_s", (settings.znodes as f64 / fill_seconds).round()),
        ("rss_empty_mib", (empty.total >> 20) as f64),
        ("rss_full_mib", (full.total >> 20) as f64),
        ("bytes_per_znode", per_node(empty.total, full.total)),
        ("anon_bytes_per_znode", per_node(empty.anonymous, full.anonymous)),
        ("bytes_per_znode_collected", per_node(empty.total, collected.total)),
        ("bytes_per_znode_restarted", per_node(empty.total, restarted.total)),
        ("start_ms", round3(start_seconds * 1e3)),
    ] {
        figures.insert(name.to_owned(), json!(value));
    }
    if let (Some(full), Some(empty)) = (live, live_empty) {
        figures.insert("live_heap_per_znode".to_owned(), json!(per_node(empty, full)));
    }
    Ok(Value::Object(figures))
}

/// Removes a home directory. A failure costs only disk space.
pub fn remove(home: &std::path::Path) {
    let _ = std::fs::remove_dir_all(home);
}
