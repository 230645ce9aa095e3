//! `rk-bench fair`: what a flood by one connection costs lone clients of the same server. For each
//! kind of flood and each server: a fresh server, the lone clients alone, the lone clients beside
//! the flood. The ratio of the two is the result.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use crate::admin::Admin;
use crate::cli::{seconds, value};
use crate::compare::Line;
use crate::flood::{self, Signals};
use crate::floodkinds::{Kind, ROOT, Sizes};
use crate::load::{self, Load};
use crate::mix::Mix;
use crate::neighbours::{Neighbours, Waits};
use crate::options::{Common, contestant};
use crate::procfs::{self, Cpu};
use crate::report::cell;
use crate::scenario::remove;
use crate::servers::{self, Contestant, Server};
use crate::stats::round3;

const HELP: &str = "\
rk-bench fair [options]

One connection floods a server with one kind of request, deeply pipelined, while lone clients send
one get or set at a time. Each kind runs on a fresh server: first the clients alone, then beside the
flood, and the flood ends by breaking its connection.

  --server NAME            ringkeeper (if none is named) or apache; may be repeated
  --only LIST              kinds, e.g. set,auth; --list names them
  --rounds N               (1)
  --seconds S              length of each of the two windows (2)
  --patience S             wait so long for replies after the end of a window (10)
  --clients N              lone clients (20)
  --entries N              own ephemerals, children, ACL entries; users, at most 900 (20000)
  --watches N              paths of a setWatches (100000)
  --watchers N             sessions that are told of each change (2000)
  --first-warmup S         mixed load after each start; Java compiles meanwhile (2)
";

/// The neighbours' p99 beside a flood may be this many times their p99 without.
const GOAL: f64 = 2.0;
const PERCENTILES: [&str; 3] = ["p50_us", "p99_us", "p999_us"];

struct Fair {
    common: Common,
    servers: Vec<Contestant>,
    kinds: Vec<Kind>,
    sizes: Sizes,
    rounds: usize,
    clients: usize,
    window: Duration,
    patience: Duration,
    first_warmup: Duration,
}

/// Runs `rk-bench fair`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(fair) = parse(parser)? else { return Ok(()) };
    servers::end_with_us()?;
    let begin = Instant::now();
    let mut lines: Vec<Line> = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    for round in 0..fair.rounds {
        for kind in &fair.kinds {
            let mut rounds = BTreeMap::new();
            for &who in &fair.servers {
                eprintln!("{} on {}", kind.title(&fair.sizes), who.name());
                match fair.one(who, *kind) {
                    Ok(mut figures) => {
                        figures["round"] = json!(round + 1);
                        rounds.insert(who, vec![figures]);
                    }
                    Err(e) => {
                        eprintln!("  {e}");
                        failures.push(format!("{} on {}: {e}", kind.name(), who.name()));
                    }
                }
            }
            keep(&mut lines, *kind, &fair.sizes, rounds);
        }
    }
    let json = fair.report(&lines, &failures, begin.elapsed());
    fair.common.write(&json, || text(&lines, &failures))
}

fn keep(lines: &mut Vec<Line>, kind: Kind, sizes: &Sizes, rounds: BTreeMap<Contestant, Vec<Json>>) {
    match lines.iter_mut().find(|line| line.name == kind.name()) {
        Some(line) => rounds.into_iter().for_each(|(who, mut figures)| {
            line.rounds.entry(who).or_default().append(&mut figures);
        }),
        None => lines.push(Line { name: kind.name().into(), title: kind.title(sizes), rounds }),
    }
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Fair>, String> {
    let mut fair = Fair {
        common: Common::new(),
        servers: Vec::new(),
        kinds: Kind::ALL.to_vec(),
        sizes: Sizes { entries: 20_000, watches: 100_000, watchers: 2_000 },
        rounds: 1,
        clients: 20,
        window: Duration::from_secs(2),
        patience: Duration::from_secs(10),
        first_warmup: Duration::from_secs(2),
    };
    let mut list = false;
    let common = Common::parse(parser, "fair", HELP, |_, name, parser| {
        match name {
            "server" => fair.servers.push(contestant(parser)?),
            "only" => fair.kinds = choose(&value::<String>(parser, "only")?)?,
            "rounds" => fair.rounds = value(parser, "rounds")?,
            "seconds" => fair.window = seconds(parser, "seconds")?,
            "patience" => fair.patience = seconds(parser, "patience")?,
            "clients" => fair.clients = value(parser, "clients")?,
            "entries" => fair.sizes.entries = value(parser, "entries")?,
            "watches" => fair.sizes.watches = value(parser, "watches")?,
            "watchers" => fair.sizes.watchers = value(parser, "watchers")?,
            "first-warmup" => fair.first_warmup = seconds(parser, "first-warmup")?,
            "list" => list = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(common) = common else { return Ok(None) };
    fair.common = common;
    if list {
        let show = |kind: &Kind| println!("{:<16} {}", kind.name(), kind.title(&fair.sizes));
        Kind::ALL.iter().for_each(show);
        return Ok(None);
    }
    if fair.servers.is_empty() {
        fair.servers.push(Contestant::Ringkeeper);
    }
    fair.servers.sort_unstable();
    fair.servers.dedup();
    fair.common.programs.get_ready(&fair.servers)?;
    Ok(Some(fair))
}

fn choose(list: &str) -> Result<Vec<Kind>, String> {
    let find = |name: &str| {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("--only: no kind `{name}`; see --list"))
    };
    list.split(',').map(find).collect()
}

impl Fair {
    fn one(&self, who: Contestant, kind: Kind) -> Result<Json, String> {
        let home = self.common.programs.home(who, kind.name())?;
        let server = self.common.programs.start(who, &home)?;
        let figures = self.flood(&server, kind);
        // It may have hours of work before it, so it is not asked to stop.
        server.kill();
        if !self.common.keep {
            remove(&home);
        }
        figures
    }

    fn warm_up(&self, server: &Server) -> Result<(), String> {
        if self.first_warmup.is_zero() {
            return Ok(());
        }
        let mix = Mix::parse("get:4,set:2,create:1,delete:1,list:1,multi:1,sync:1")?;
        let mut load = Load::new(vec![server.addr], mix);
        (load.keys, load.warmup, load.duration) = (1000, Duration::ZERO, self.first_warmup);
        load::prepare(&load)?;
        load::fill(&load)?;
        load::run(&load).map(|_| ())
    }

    fn flood(&self, server: &Server, kind: Kind) -> Result<Json, String> {
        self.warm_up(server)?;
        let mut admin = Admin::connect(server.addr)?;
        admin.create_all(std::iter::once(ROOT.to_owned()))?;
        admin.close();
        let mut neighbours = Neighbours::new(server.addr, self.clients, ROOT)?;
        let (flood, watchers) = kind.set_up(server.addr, &self.sizes)?;
        let quiet = neighbours.measure(self.window, self.patience, || {})?;
        if quiet.unanswered + quiet.lost + quiet.errors > 0 {
            return Err(format!("not even the quiet clients were served: {}", quiet.json()));
        }
        let pid = server.pid();
        let signals = Signals::default();
        std::thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                flood::step_back();
                flood::run(server.addr, std::slice::from_ref(&flood), &watchers, &signals)
            });
            // Requests from here on are sent after the flood's, and their waits count.
            while !signals.flows.load(Ordering::Relaxed) && !flooding.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let before = (Cpu::of(Some(pid)), Cpu::of(None), procfs::machine_busy());
            let mut after = before;
            let waits = neighbours.measure(self.window, self.patience, || {
                after = (Cpu::of(Some(pid)), Cpu::of(None), procfs::machine_busy());
                signals.stop.store(true, Ordering::Relaxed);
            });
            signals.stop.store(true, Ordering::Relaxed);
            let outcome = flooding.join().map_err(|_| "the flood's thread panicked")??;
            let mut figures = figures(&quiet, &waits?, &outcome);
            let spent = |from: Option<Cpu>, to: Option<Cpu>| Some(to?.since(from?).total());
            let (server, client) = (spent(before.0, after.0), spent(before.1, after.1));
            let all = before.2.zip(after.2).map(|(from, to)| to - from);
            let window = self.window.as_secs_f64();
            figures["server_cpu_cores"] = json!(server.map(|cpu| round3(cpu / window)));
            let ours = server.zip(client).map(|(server, client)| server + client);
            let others = all.zip(ours).map(|(all, ours)| (all - ours).max(0.0));
            figures["others_cpu_cores"] = json!(others.map(|cpu| round3(cpu / window)));
            Ok(figures)
        })
    }

    fn report(&self, lines: &[Line], failures: &[String], took: Duration) -> Json {
        let mut results = Map::new();
        for line in lines {
            let rounds: Map<String, Json> = line
                .rounds
                .iter()
                .map(|(who, rounds)| (who.name().to_owned(), json!(rounds)))
                .collect();
            results.insert(line.name.clone(), json!({"title": line.title, "rounds": rounds}));
        }
        let mut json = procfs::about_run(&self.common.programs.dir, took);
        json["rounds"] = json!(self.rounds);
        json["seconds"] = json!(self.window.as_secs_f64());
        json["clients"] = json!(self.clients);
        json["failures"] = json!(failures);
        json["results"] = Json::Object(results);
        json
    }
}

/// The figures of one flood on one server.
fn figures(quiet: &Waits, beside: &Waits, outcome: &flood::Outcome) -> Json {
    let (quiet, beside) = (quiet.json(), beside.json());
    let mut ratio = Map::new();
    for request in ["get", "set"] {
        for percentile in PERCENTILES {
            let at = |waits: &Json| waits[request][percentile].as_f64();
            let times = at(&beside).zip(at(&quiet)).map(|(b, q)| round3(b / q.max(1e-3)));
            ratio.insert(format!("{request}_{}", percentile.trim_end_matches("_us")), json!(times));
        }
    }
    let errors: BTreeMap<String, u64> =
        outcome.replies.errors.iter().map(|(code, n)| (code.to_string(), *n)).collect();
    json!({
        "quiet": quiet,
        "flood": beside,
        "ratio": ratio,
        "flooder": {
            "sent": outcome.sent,
            "answered": outcome.replies.answered,
            "answered_per_s": (outcome.replies.answered as f64 / outcome.seconds).round(),
            "events": outcome.replies.events,
            "errors": errors,
            "closed_by_server": outcome.closed_by_server,
            "returns": outcome.returns,
        },
    })
}

/// The table: for each flood, server and request the waits in ms without and beside the flood.
fn text(lines: &[Line], failures: &[String]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\n{:<36} {:<11}{:<4} {:^24} {:^24} {:^24} {:>9} {:>9}",
        "ms, medians", "", "", "quiet", "beside the flood", "times", "longest", "flood/s"
    );
    let _ = write!(out, "{:<53}", "flood by one connection");
    for _ in 0..3 {
        let _ = write!(out, " {:>8}{:>8}{:>8}", "p50", "p99", "p99.9");
    }
    out.push('\n');
    for line in lines {
        for (i, who) in line.rounds.keys().enumerate() {
            for request in ["get", "set"] {
                let first = request == "get";
                let title = if first && i == 0 { line.title.as_str() } else { "" };
                let name = if first { who.name() } else { "" };
                let _ = write!(out, "{title:<36} {name:<11}{request:<4} ");
                row(&mut out, line, *who, request);
                out.push('\n');
            }
        }
    }
    for failure in failures {
        let _ = writeln!(out, "FAILED {failure}");
    }
    let _ =
        write!(out, "\nGoal: p99 beside a flood at most {GOAL} times the quiet one (! if not).");
    out.push_str(
        " Each flood ends by\nbreaking its connection; a wait counts however long it is.\n",
    );
    out
}

fn row(out: &mut String, line: &Line, who: Contestant, request: &str) {
    let median = |pointer: &str| line.median(who, pointer);

    for phase in ["quiet", "flood"] {
        for percentile in PERCENTILES {
            let ms = median(&format!("/{phase}/{request}/{percentile}")).map(|us| us / 1e3);
            let _ = write!(out, "{:>8}", cell(ms));
        }
        out.push(' ');
    }
    for percentile in ["p50", "p99", "p999"] {
        let times = median(&format!("/ratio/{request}_{percentile}"));
        let mark = if percentile == "p99" && times.is_some_and(|t| t > GOAL) { "!" } else { " " };
        let _ = write!(out, "{:>7}{mark}", cell(times));
    }
    let longest = median(&format!("/flood/{request}/max_us")).map(|us| us / 1e3);
    let _ = write!(out, " {:>9}", cell(longest));
    if request == "get" {
        let _ = write!(out, " {:>9}", cell(median("/flooder/answered_per_s")));
        for (name, what) in [
            ("/flood/unanswered", "unanswered"),
            ("/flood/lost", "connections lost"),
            ("/flood/errors", "errors"),
            ("/flooder/closed_by_server", "times closed by the server"),
        ] {
            if let Some(count) = median(name).filter(|count| *count > 0.0) {
                let _ = write!(out, "  {count} {what}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Latency;

    fn waits(us: u64) -> Waits {
        let mut get = Latency::new();
        get.record(us * 1000, 100);
        Waits {
            set: get.clone(),
            get,
            completed: 200,
            unanswered: 0,
            errors: 0,
            lost: 0,
            seconds: 1.0,
        }
    }

    #[test]
    fn the_table_marks_what_misses_the_goal() {
        let outcome = flood::Outcome { seconds: 1.0, ..flood::Outcome::default() };
        let line = |name: &str, beside: u64| Line {
            name: name.into(),
            title: name.into(),
            rounds: BTreeMap::from([(
                Contestant::Ringkeeper,
                vec![figures(&waits(1000), &waits(beside), &outcome)],
            )]),
        };
        let fine = text(&[line("get", 1900)], &[]);
        assert!(fine.contains("1.90") && !fine.contains("1.90!"), "{fine}");
        let slow = text(&[line("sync", 300_000)], &["sync on apache: x".into()]);
        assert!(slow.contains("300!") && slow.contains("FAILED sync on apache"), "{slow}");
    }

    #[test]
    fn kinds_and_servers_are_chosen_by_name() {
        assert_eq!(choose("get,fan-out"), Ok(vec![Kind::Get, Kind::FanOut]));
        assert!(choose("got").is_err());
        let server = |name: &str| contestant(&mut lexopt::Parser::from_args(["--server", name]));
        assert!(server("ceiling").is_err());
    }
}
