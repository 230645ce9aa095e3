//! The command line.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::admin::Admin;
use crate::catchup;
use crate::ceiling::{Canned, Ceiling};
use crate::charts;
use crate::compare;
use crate::failover;
use crate::fair;
use crate::load::{self, Load, Outcome, Pace};
use crate::mix::{self, Kind, Mix};
use crate::pair;
use crate::quorum::{self, Quorum};
use crate::restart;
use crate::stages;
use crate::stats::Latency;
use crate::storm::{self, Storm};

const HELP: &str = "\
rk-bench: load generator for servers that speak ZooKeeper's client protocol

rk-bench load [options] HOST:PORT...  put a load on a server, or on members of an ensemble
rk-bench storm [options] HOST:PORT    many sessions arrive, are cut off and return; watch fan-out
rk-bench ceiling [options]            the least a server can do: canned replies, write + fdatasync
rk-bench charts FILE.json -o DIR      drawings of what `compare` measured, for documents
rk-bench stages [options]             Ringkeeper's stages alone, in memory: ns per request
rk-bench compare [options]            Ringkeeper, the ceiling and Apache ZooKeeper in one run
rk-bench pair --server A --server B   two binaries of Ringkeeper in turn, before and after
rk-bench fair [options]               what a flood by one connection costs everybody else
rk-bench restart [options]            killed under full load: time until it serves again
rk-bench failover [options]           an ensemble whose leaders are killed: how long writes wait
rk-bench catchup [options]            a member that was away comes back under load

load:
  --mix M             kind[:weight],... or a named mix (default get); see below
  --connections N     sessions (16)
  --depth N           closed loop: requests in flight per session (64); 1 is synchronous
  --rate N            open loop: N requests/s are due; latency counts from the due time
  --threads N         generator threads (1)
  --keys N            nodes that reads and sets choose from (10000)
  --size N            bytes of data per node (100)
  --multi-ops N       operations per multi (10)
  --list-children N   children of the listed node (100); --list-name N: length of names (50)
  --watch-permille N  chance that a read leaves a watch (0)
  --seconds S         measured time (5); --warmup S: before it (1)
  --requests N        stop after N requests
  --root PATH         everything is created below it (/bench-<pid>)
  --keep              leave what was created; --no-fill: the keys are there already
  --server-pid PID    show that process's CPU time and memory as well; may be repeated
  --cpus LIST         cores for the generator threads, e.g. 1 or 2,3
  --seed N            choice of keys and kinds (1)
  --json              figures as JSON on standard output

ceiling:
  --port P            (2181) on 127.0.0.1
  --dir D             where its log goes (.)
  --ensemble N        a leader and N - 1 followers, processes of their own; a write is answered when
                      a majority has it on disk (1)
  --follow PORT       be such a follower, which the leader starts itself
  --size N, --list-children N, --list-name N   shape of the canned replies

stages:
  --keys N            znodes of the larger tree (1000000); --rounds N: bursts measured (200)

catchup, compare, failover, fair, pair, restart, storm: `rk-bench compare --help` and so on
";

/// Runs the command that the arguments name.
pub fn run() -> Result<(), String> {
    let mut parser = lexopt::Parser::from_env();
    match parser.next().map_err(|e| e.to_string())? {
        Some(Value(command)) => match command.to_str() {
            Some("load") => run_load(&mut parser),
            Some("compare") => compare::run(&mut parser),
            Some("catchup") => catchup::run(&mut parser),
            Some("charts") => charts::run(&mut parser),
            Some("failover") => failover::run(&mut parser),
            Some("fair") => fair::run(&mut parser),
            Some("pair") => pair::run(&mut parser),
            Some("restart") => restart::run(&mut parser),
            Some("storm") => run_storm(&mut parser),
            Some("ceiling") => run_ceiling(&mut parser),
            Some("stages") => run_stages(&mut parser),
            Some("help") => help(),
            _ => Err(format!("no command {command:?}; see rk-bench --help")),
        },
        Some(Long("help") | Short('h')) => help(),
        Some(Long("version") | Short('V')) => {
            println!("rk-bench {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some(arg) => Err(format!("{}; see rk-bench --help", arg.unexpected())),
        None => help(),
    }
}

/// Commands, options and mixes.
pub fn usage() -> String {
    let kinds: Vec<_> = Kind::ALL.iter().filter(|k| **k != Kind::Fill).map(|k| k.name()).collect();
    let mut text = format!("{HELP}\nkinds: {}\nnamed mixes:", kinds.join(" "));
    for (name, definition, meaning) in mix::NAMED {
        text.push_str(&format!("\n  {name:<20} {definition}\n{:<23}{meaning}", ""));
    }
    text
}

fn help() -> Result<(), String> {
    println!("{}", usage());
    Ok(())
}

/// The next argument as a value of the wanted type.
pub fn value<T: std::str::FromStr>(parser: &mut lexopt::Parser, name: &str) -> Result<T, String> {
    let text = parser.value().map_err(|e| e.to_string())?;
    let text = text.to_string_lossy();
    text.parse().map_err(|_| format!("--{name}: `{text}` is not a valid value"))
}

/// Seconds, fractions allowed.
pub fn seconds(parser: &mut lexopt::Parser, name: &str) -> Result<Duration, String> {
    let s: f64 = value(parser, name)?;
    Duration::try_from_secs_f64(s).map_err(|e| format!("--{name}: {e}"))
}

/// Core numbers separated by commas.
pub fn cpu_list(parser: &mut lexopt::Parser, name: &str) -> Result<Vec<usize>, String> {
    let text: String = value(parser, name)?;
    let parse = |n: &str| n.parse().map_err(|_| format!("--{name}: `{n}` is not a core number"));
    text.split(',').map(parse).collect()
}

/// `HOST:PORT`.
pub fn address(text: &std::ffi::OsStr) -> Result<SocketAddr, String> {
    let text = text.to_string_lossy();
    let mut found = text.to_socket_addrs().map_err(|e| format!("{text}: {e}"))?;
    found.next().ok_or_else(|| format!("{text}: no address"))
}

const STORM_HELP: &str = "\
rk-bench storm [options] HOST:PORT

Sessions arrive all at once (each creates an ephemeral node and leaves a watch), are notified by one
write, lose their connections, return with their ids, are notified again and leave.

  --sessions N        (10000)
  --no-ephemerals     sessions and watches only
  --connecting N      at most so many connects and handshakes under way (no limit)
  --timeout-ms N      session timeout asked for (120000)
  --server-pid PID    show that process's CPU time as well
  --json              figures as JSON on standard output
";

fn run_storm(parser: &mut lexopt::Parser) -> Result<(), String> {
    let mut storm = Storm::new(SocketAddr::from(([127, 0, 0, 1], 2181)));
    let mut target = None;
    let mut json = false;
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Long("sessions") => storm.sessions = value(parser, "sessions")?,
            Long("no-ephemerals") => storm.ephemerals = false,
            Long("connecting") => storm.connecting_max = value(parser, "connecting")?,
            Long("timeout-ms") => storm.timeout_ms = value(parser, "timeout-ms")?,
            Long("server-pid") => storm.server_pid = Some(value(parser, "server-pid")?),
            Long("json") => json = true,
            Long("help") | Short('h') => {
                println!("{STORM_HELP}");
                return Ok(());
            }
            Value(text) if target.is_none() => target = Some(address(&text)?),
            other => return Err(format!("{}; see rk-bench storm --help", other.unexpected())),
        }
    }
    storm.addr = target.ok_or("which server? rk-bench storm [options] HOST:PORT")?;
    let phases = storm::whole(storm)?;
    if json {
        let all: serde_json::Map<_, _> =
            phases.iter().map(|(name, phase)| ((*name).to_owned(), phase.json())).collect();
        println!("{:#}", serde_json::Value::Object(all));
        return Ok(());
    }
    println!(
        "{:<13} {:>9} {:>8} {:>6} {:>8} {:>10} {:>10}",
        "phase", "ms", "done", "lost", "retries", "p50 ms", "p99 ms"
    );
    for (name, phase) in &phases {
        println!(
            "{name:<13} {:>9.1} {:>8} {:>6} {:>8} {:>10.1} {:>10.1}",
            phase.seconds * 1e3,
            phase.done,
            phase.lost,
            phase.retries,
            phase.latency.at_us(0.5) / 1e3,
            phase.latency.at_us(0.99) / 1e3
        );
    }
    Ok(())
}

fn run_stages(parser: &mut lexopt::Parser) -> Result<(), String> {
    let (mut keys, mut rounds) = (1_000_000u64, 200usize);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Long("keys") => keys = value(parser, "keys")?,
            Long("rounds") => rounds = value(parser, "rounds")?,
            Long("help") => return help(),
            other => return Err(other.unexpected().to_string()),
        }
    }
    stages::run(keys.max(1), rounds.max(1))
}

fn run_ceiling(parser: &mut lexopt::Parser) -> Result<(), String> {
    let mut port = 2181u16;
    let mut dir = PathBuf::from(".");
    let mut canned = Canned { size: 100, list: (100, 50) };
    let (mut servers, mut leader) = (1usize, None::<u16>);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Long("port") => port = value(parser, "port")?,
            Long("dir") => dir = value(parser, "dir")?,
            Long("ensemble") => servers = value(parser, "ensemble")?,
            Long("follow") => leader = Some(value(parser, "follow")?),
            Long("size") => canned.size = value(parser, "size")?,
            Long("list-children") => canned.list.0 = value(parser, "list-children")?,
            Long("list-name") => canned.list.1 = value(parser, "list-name")?,
            Long("help") => return help(),
            other => return Err(other.unexpected().to_string()),
        }
    }
    if let Some(port) = leader {
        return quorum::follow(port, &dir);
    }
    let quorum = if servers == 1 { None } else { Some(Quorum::start(servers, &dir)?) };
    Ceiling::bind(SocketAddr::from(([127, 0, 0, 1], port)), &dir, canned, quorum)?.run()
}

struct LoadArgs {
    load: Load,
    keep: bool,
    fill: bool,
    json: bool,
}

fn parse_load(parser: &mut lexopt::Parser) -> Result<Option<LoadArgs>, String> {
    let mut load = Load::new(Vec::new(), Mix::only(Kind::Get));
    load.shape.root = format!("/bench-{}", std::process::id());
    load.duration = Duration::from_secs(5);
    let mut args = LoadArgs { load, keep: false, fill: true, json: false };
    let load = &mut args.load;
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Long("mix") => load.mix = Mix::parse(&value::<String>(parser, "mix")?)?,
            Long("connections") => load.connections = value(parser, "connections")?,
            Long("depth") => load.pace = Pace::Closed { depth: value(parser, "depth")? },
            Long("rate") => load.pace = Pace::Open { rate: value(parser, "rate")? },
            Long("threads") => load.threads = value(parser, "threads")?,
            Long("keys") => load.keys = value(parser, "keys")?,
            Long("size") => load.shape.size = value(parser, "size")?,
            Long("multi-ops") => load.shape.multi_ops = value(parser, "multi-ops")?,
            Long("list-children") => load.list.0 = value(parser, "list-children")?,
            Long("list-name") => load.list.1 = value(parser, "list-name")?,
            Long("watch-permille") => load.watch_permille = value(parser, "watch-permille")?,
            Long("seconds") => load.duration = seconds(parser, "seconds")?,
            Long("warmup") => load.warmup = seconds(parser, "warmup")?,
            Long("requests") => load.requests = Some(value(parser, "requests")?),
            Long("root") => load.shape.root = value(parser, "root")?,
            Long("server-pid") => load.server_pids.push(value(parser, "server-pid")?),
            Long("cpus") => load.cpus = cpu_list(parser, "cpus")?,
            Long("seed") => load.seed = value(parser, "seed")?,
            Long("keep") => args.keep = true,
            Long("no-fill") => args.fill = false,
            Long("json") => args.json = true,
            Long("help") | Short('h') => return help().map(|()| None),
            Value(text) => load.addrs.push(address(&text)?),
            other => return Err(format!("{}; see rk-bench --help", other.unexpected())),
        }
    }
    if load.addrs.is_empty() {
        return Err("which server? rk-bench load [options] HOST:PORT...".into());
    }
    Ok(Some(args))
}

fn run_load(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(args) = parse_load(parser)? else { return Ok(()) };
    let load = &args.load;
    load::prepare(load)?;
    if args.fill {
        load::fill(load)?;
    }
    let outcome = load::run(load)?;
    if !args.keep {
        let mut admin = Admin::connect(load.addrs[0])?;
        admin.remove_tree(&load.shape.root)?;
        admin.close();
    }
    if args.json {
        println!("{:#}", outcome.json());
    } else {
        show(load, &outcome);
    }
    Ok(())
}

fn line(name: &str, latency: &Latency) {
    println!(
        "{name:<12} {:>10} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
        latency.count(),
        latency.at_us(0.5),
        latency.at_us(0.99),
        latency.at_us(0.999),
        latency.at_us(1.0)
    );
}

fn show(load: &Load, outcome: &Outcome) {
    let pace = match load.pace {
        Pace::Closed { depth } => format!("closed loop, {} x {depth}", load.connections),
        Pace::Open { rate } => format!("open loop, {rate}/s over {}", load.connections),
    };
    let addrs: Vec<String> = load.addrs.iter().map(ToString::to_string).collect();
    let addrs = addrs.join(" ");
    println!("{} on {addrs}: {pace}, {} B, {} keys", load.mix, load.shape.size, load.keys);
    println!("{:.0} requests/s over {:.1} s", outcome.rate(), outcome.seconds);
    println!(
        "{:<12} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "µs", "count", "p50", "p99", "p99.9", "max"
    );
    for kind in Kind::ALL {
        let latency = &outcome.tally.latency[kind as usize];
        if latency.count() > 0 {
            line(kind.name(), latency);
        }
    }
    if load.mix.parts.len() > 1 {
        line("all", &outcome.tally.all());
    }
    for (code, count) in &outcome.tally.errors {
        println!("{count} replies with error {code}");
    }
    if outcome.tally.notifications > 0 {
        println!("{} watch events", outcome.tally.notifications);
    }
    if outcome.tally.unanswered > 0 {
        println!("{} requests unanswered 10 s after the end", outcome.tally.unanswered);
    }
    let json = outcome.json();
    println!(
        "client: {} µs CPU per request, {:.0} % of {} thread(s)",
        json["client_cpu_us_per_op"],
        100.0 * outcome.client_share(),
        outcome.threads
    );
    if outcome.client_share() > 0.9 {
        println!("the generator had no CPU time to spare: add --threads or free cores");
    }
    if outcome.server_cpu.is_some() {
        println!(
            "server: {} µs CPU per request, {} cores, {} MiB resident; ns per thread: {}",
            json["server_cpu_us_per_op"],
            json["server_cpu_cores"],
            json["server_rss_mib"],
            json["server_thread_ns_per_op"]
        );
    }
}
