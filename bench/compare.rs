//! Ringkeeper, the ceiling and Apache ZooKeeper in turn, in one run, several rounds; medians and
//! ratios as a table, as JSON and as an HTML page.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use serde_json::{Map, Value as Json, json};

use crate::cli::{cpu_list, seconds, value};
use crate::disk::Disk;
use crate::ensemble::{Ensemble, Target};
use crate::page;
use crate::procfs;
use crate::report;
use crate::scenario::{self, Measured, Method, Scenario, Settings};
use crate::servers::{self, Contestant, Programs};
use crate::stats::{median, round3, values};

const HELP: &str = "\
rk-bench compare [options]

Each round starts all servers afresh, warms them up, and runs each scenario on one after the other,
so that they are compared within seconds; the order of the servers changes from round to round.

  --rounds N               (3)
  --ensemble N             ensembles of N processes each, with other scenarios: clients spread
                           over the members, or all on the leader
  --rate N                 requests per second of set-half (half of what was measured before it)
  --seconds S              measured time per load (3); --warmup S before each (1)
  --first-warmup S         once per server (5)
  --only LIST              scenarios whose names begin with one of LIST, e.g. set,get,storm
  --servers LIST           of ringkeeper,ceiling,apache (all)
  --quick                  1 round, 1 second, a tenth of znodes and sessions
  --ringkeeper PATH        (target/release/ringkeeper)
  --apache-classpath FILE  a file that holds a Java class path (else .cache, Maven Central, Debian)
  --heap-mib N             Java heap (1000, as in Apache's scripts); --big-heap-mib N (4096)
  --znodes N               of the big tree (1000000); --sessions N of the storm (10000)
  --keys N (10000), --size N (100), --threads N (1)
  --dir D                  for data directories; choose the disk to be measured (.)
  --out D                  for compare.json and compare.html (target/bench)
  --server-cpus LIST, --client-cpus LIST   cores (left to the scheduler)
  --config LINE            one more line for zoo.cfg of Ringkeeper and Apache; may be repeated
  --quiet-seconds S        wait so long for a quiet machine before each measurement (15)
  --keep                   leave the servers' directories
  --list                   name the scenarios
";

struct Compare {
    programs: Programs,
    settings: Settings,
    /// Processes of each contestant.
    members: usize,
    rounds: usize,
    scenarios: Vec<(usize, Scenario)>,
    servers: Vec<Contestant>,
    out: PathBuf,
    keep: bool,
    patience: Duration,
}

/// Cores that other processes may use during a measurement before it is called disturbed. The
/// kernel's own work for our traffic is part of it.
const OTHERS_MAX: f64 = 0.25;

/// Figures of one line: by server, one value per round.
pub struct Line {
    /// Key in the JSON.
    pub name: String,
    /// For people.
    pub title: String,
    /// Rounds by server.
    pub rounds: BTreeMap<Contestant, Vec<Json>>,
}

impl Line {
    /// Median over the rounds of the figure at `pointer` (a JSON pointer).
    pub fn median(&self, who: Contestant, pointer: &str) -> Option<f64> {
        let rounds = self.rounds.get(&who)?;
        median(&values(rounds, pointer))
    }

    /// Median over the rounds of a ratio: the figure at `pointer` divided by the other server's in
    /// the same round. A slow moment of the machine slows both, so the ratio hardly shows it.
    pub fn ratio(&self, who: Contestant, to: Contestant, pointer: &str) -> Option<f64> {
        let base = self.rounds.get(&to)?;
        if who == to { None } else { ratio(self.rounds.get(&who)?, base, pointer) }
    }

    /// The same of one server's figures in two lines: here, divided by those in `other`.
    pub fn ratio_to_line(&self, other: &Line, who: Contestant, pointer: &str) -> Option<f64> {
        ratio(self.rounds.get(&who)?, other.rounds.get(&who)?, pointer)
    }
}

/// Median of the ratios of a figure in the same rounds.
fn ratio(rounds: &[Json], base: &[Json], pointer: &str) -> Option<f64> {
    let figure = |round: &Json| Some((round["round"].as_u64()?, round.pointer(pointer)?.as_f64()?));
    let base: BTreeMap<u64, f64> = base.iter().filter_map(figure).collect();
    let pairs = rounds
        .iter()
        .filter_map(figure)
        .filter_map(|(round, value)| Some((value, *base.get(&round)?)));
    let ratios: Vec<f64> =
        pairs.filter(|(_, base)| *base != 0.0).map(|(value, base)| value / base).collect();
    median(&ratios)
}

/// Runs `rk-bench compare`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(compare) = parse(parser)? else { return Ok(()) };
    servers::end_with_us()?;
    let begin = Instant::now();
    let mut lines: Vec<Line> = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    let say = |e| format!("{}: {e}", compare.programs.dir.display());
    let mut disk = Disk::new(&compare.programs.dir).map_err(say)?;
    for round in 0..compare.rounds {
        eprintln!("round {} of {}", round + 1, compare.rounds);
        let mut order = compare.servers.clone();
        order.rotate_left(round % compare.servers.len());
        let mut notes = Notes { round, lines: &mut lines, failures: &mut failures };
        if let Err(e) = compare.round(&order, &mut disk, &mut notes) {
            notes.fail(&e);
        }
    }
    lines.sort_by_key(|line| order(line, compare.members));
    let json = compare.json(&lines, &failures, begin.elapsed());
    print!("{}", report::text(&lines, &failures));
    compare.write(&json, &lines)
}

/// The scenarios of contestants that are `members` processes each.
fn table(members: usize) -> &'static [Scenario] {
    if members == 1 { &scenario::ALL } else { &scenario::ENSEMBLE }
}

/// The place of a line among the scenarios.
fn order(line: &Line, members: usize) -> Option<usize> {
    table(members).iter().rposition(|s| {
        let rest = line.name.strip_prefix(s.name);
        rest.is_some_and(|r| r.is_empty() || matches!(s.method, Method::Storm(_)))
    })
}

/// Processes of each contestant in a `compare.json`.
pub fn members_of(json: &Json) -> usize {
    json["ensemble"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
}

/// The lines that a `compare.json` holds; `None` if it is something else.
pub fn lines_of(json: &Json) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    for (name, result) in json.get("results")?.as_object()? {
        let servers = result.get("rounds")?.as_object()?;
        let rounds = |who: &Contestant| Some((*who, servers.get(who.name())?.as_array()?.clone()));
        lines.push(Line {
            name: name.clone(),
            title: result.get("title")?.as_str()?.to_owned(),
            rounds: Contestant::ALL.iter().filter_map(rounds).collect(),
        });
    }
    let members = members_of(json);
    lines.sort_by_key(|line| order(line, members));
    Some(lines)
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Compare>, String> {
    let mut settings = Settings {
        duration: Duration::from_secs(3),
        warmup: Duration::from_secs(1),
        first_warmup: Duration::from_secs(5),
        keys: 10_000,
        size: 100,
        znodes: 1_000_000,
        sessions: 10_000,
        big_heap_mib: 4096,
        threads: 1,
        cpus: Vec::new(),
        rate: None,
    };
    let mut programs = Programs::new();
    let (mut rounds, mut keep, mut out) = (3, false, PathBuf::from("target/bench"));
    let mut patience = Duration::from_secs(15);
    let (mut only, mut names, mut classpath) = (None, None, None::<PathBuf>);
    let (mut members, mut list) = (1, false);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Long("ensemble") => {
                members = value(parser, "ensemble")?;
                Ensemble::check(members)?;
            }
            Long("rate") => settings.rate = Some(value(parser, "rate")?),
            Long("rounds") => rounds = value(parser, "rounds")?,
            Long("seconds") => settings.duration = seconds(parser, "seconds")?,
            Long("warmup") => settings.warmup = seconds(parser, "warmup")?,
            Long("first-warmup") => settings.first_warmup = seconds(parser, "first-warmup")?,
            Long("only") => only = Some(value::<String>(parser, "only")?),
            Long("servers") => names = Some(value::<String>(parser, "servers")?),
            Long("quick") => {
                rounds = 1;
                settings.duration = Duration::from_secs(1);
                settings.warmup = Duration::from_millis(500);
                settings.first_warmup = Duration::from_secs(2);
                settings.znodes = 100_000;
                settings.sessions = 1_000;
            }
            Long("ringkeeper") => programs.ringkeeper = value(parser, "ringkeeper")?,
            Long("apache-classpath") => classpath = Some(value(parser, "apache-classpath")?),
            Long("heap-mib") => programs.heap_mib = value(parser, "heap-mib")?,
            Long("big-heap-mib") => settings.big_heap_mib = value(parser, "big-heap-mib")?,
            Long("znodes") => settings.znodes = value(parser, "znodes")?,
            Long("sessions") => settings.sessions = value(parser, "sessions")?,
            Long("keys") => settings.keys = value(parser, "keys")?,
            Long("size") => settings.size = value(parser, "size")?,
            Long("threads") => settings.threads = value(parser, "threads")?,
            Long("dir") => programs.dir = value(parser, "dir")?,
            Long("out") => out = value(parser, "out")?,
            Long("server-cpus") => programs.cpus = cpu_list(parser, "server-cpus")?,
            Long("client-cpus") => settings.cpus = cpu_list(parser, "client-cpus")?,
            Long("config") => programs.config.push(value(parser, "config")?),
            Long("quiet-seconds") => patience = seconds(parser, "quiet-seconds")?,
            Long("keep") => keep = true,
            Long("list") => list = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(None);
            }
            other => return Err(format!("{}; see rk-bench compare --help", other.unexpected())),
        }
    }
    if list {
        table(members).iter().for_each(|s| println!("{:<20} {}", s.name, s.title));
        return Ok(None);
    }
    let absolute =
        |dir: &PathBuf| dir.canonicalize().map_err(|e| format!("--dir {}: {e}", dir.display()));
    programs.dir = absolute(&programs.dir)?;
    let servers = choose_servers(names.as_deref())?;
    if servers.contains(&Contestant::Apache) {
        programs.apache_classpath = Some(servers::find_apache(classpath.as_deref())?);
    }
    for who in &servers {
        programs.check(*who)?;
    }
    let scenarios = choose_scenarios(table(members), only.as_deref())?;
    let compare =
        Compare { programs, settings, members, rounds, scenarios, servers, out, keep, patience };
    Ok(Some(compare))
}

fn choose_servers(names: Option<&str>) -> Result<Vec<Contestant>, String> {
    let Some(names) = names else { return Ok(Contestant::ALL.to_vec()) };
    let find = |name: &str| {
        let found = Contestant::ALL.into_iter().find(|c| c.name() == name);
        found.ok_or_else(|| format!("no server `{name}`: ringkeeper, ceiling, apache"))
    };
    names.split(',').map(find).collect()
}

fn choose_scenarios(
    table: &[Scenario],
    only: Option<&str>,
) -> Result<Vec<(usize, Scenario)>, String> {
    let wanted = |s: &Scenario| {
        only.is_none_or(|list| {
            list.split(',').any(|w| s.name == w || s.name.starts_with(&format!("{w}-")))
        })
    };
    let chosen: Vec<_> = table.iter().cloned().enumerate().filter(|(_, s)| wanted(s)).collect();
    if chosen.is_empty() {
        return Err(format!("no scenario matches `{}`: see --list", only.unwrap_or("")));
    }
    Ok(chosen)
}

impl Compare {
    /// One round of all servers.
    fn round(
        &self,
        order: &[Contestant],
        disk: &mut Disk,
        notes: &mut Notes<'_>,
    ) -> Result<(), String> {
        let (loads, alone): (Vec<_>, Vec<_>) =
            self.scenarios.iter().partition(|(_, s)| s.is_load());
        if !loads.is_empty() {
            let mut running = Vec::new();
            for &who in order {
                match self.start_warm(who, self.members) {
                    Ok(ensemble) => running.push(ensemble),
                    Err(e) => notes.fail(&format!("{}: {e}", who.name())),
                }
            }
            for (index, one) in loads {
                for ensemble in &mut running {
                    let found = self.load(disk, ensemble, one, *index);
                    notes.keep(ensemble.who(), one, found);
                }
            }
            running.into_iter().for_each(|ensemble| ensemble.end(self.keep));
        }
        for (index, one) in alone {
            for &who in order {
                let found = match one.method {
                    Method::Storm(config) => self.storm(who, config, one, *index, disk),
                    Method::Big if who == Contestant::Ceiling => continue,
                    Method::Big => self.big(who, one, disk),
                    _ => self.one_server(who, one, *index, disk),
                };
                notes.keep(who, one, found);
            }
        }
        Ok(())
    }

    /// A contestant in fresh directories, warmed up.
    fn start_warm(&self, who: Contestant, members: usize) -> Result<Ensemble, String> {
        let mut ensemble = Ensemble::start(&self.programs, who, "load", members)?;
        let warm = ensemble.target().and_then(|t| scenario::warm_up(&self.settings, &t));
        match warm {
            Ok(()) => Ok(ensemble),
            Err(e) => ensemble.conclude(Err(e), self.keep),
        }
    }

    /// A load. A leader that changes meanwhile makes it a failed one: it is where clients were.
    fn load(
        &self,
        disk: &mut Disk,
        ensemble: &mut Ensemble,
        one: &Scenario,
        index: usize,
    ) -> Result<Vec<Measured>, String> {
        let target = ensemble.target()?;
        let mut found = self.measure(disk, &target, one, index)?;
        if ensemble.target()?.leader() != target.leader() {
            found.iter_mut().for_each(|measured| measured.figures["failed"] = json!(true));
        }
        Ok(found)
    }

    /// A load on one server that is started for it.
    fn one_server(
        &self,
        who: Contestant,
        one: &Scenario,
        index: usize,
        disk: &mut Disk,
    ) -> Result<Vec<Measured>, String> {
        let mut server = self.start_warm(who, 1)?;
        let found = self.load(disk, &mut server, one, index);
        server.conclude(found, self.keep)
    }

    /// A storm of sessions on a server of its own, with these lines in its configuration.
    fn storm(
        &self,
        who: Contestant,
        config: &[&str],
        one: &Scenario,
        index: usize,
        disk: &mut Disk,
    ) -> Result<Vec<Measured>, String> {
        let mut programs = self.programs.clone();
        programs.config.extend(config.iter().map(|line| (*line).to_owned()));
        let home = programs.home(who, one.name)?;
        let server = programs.start(who, &home)?;
        let found = self.measure(disk, &Target::alone(&server), one, index);
        server.stop();
        self.clear(&home);
        found
    }

    /// A tree of many znodes on a server of its own.
    fn big(
        &self,
        who: Contestant,
        one: &Scenario,
        disk: &mut Disk,
    ) -> Result<Vec<Measured>, String> {
        disk.settle(self.patience).map_err(|e| format!("disk: {e}"))?;
        let figures = scenario::big(&self.settings, &self.programs, who)?;
        let title = format!("{} znodes: memory, start", self.settings.znodes);
        Ok(vec![Measured { name: one.name.to_owned(), title, figures }])
    }

    /// Waits until the machine is quiet, runs a scenario, and notes how quiet it was.
    fn measure(
        &self,
        disk: &mut Disk,
        target: &Target,
        scenario: &Scenario,
        index: usize,
    ) -> Result<Vec<Measured>, String> {
        let quiet = disk.settle(self.patience).map_err(|e| format!("disk: {e}"))?;
        let mut found = scenario::run(&self.settings, target, scenario, index)?;
        for measured in &mut found {
            let others = measured.figures["others_cpu_cores"].as_f64();
            let disturbed = !quiet.is_quiet || others.is_some_and(|cores| cores > OTHERS_MAX);
            measured.figures["disk_sync_us"] = json!(round3(quiet.sync_us));
            measured.figures["others_cpu_cores_before"] = json!(round3(quiet.others_cores));
            measured.figures["disturbed"] = json!(disturbed);
        }
        Ok(found)
    }

    fn clear(&self, home: &std::path::Path) {
        if !self.keep {
            scenario::remove(home);
        }
    }

    fn json(&self, lines: &[Line], failures: &[String], took: Duration) -> Json {
        let mut results = Map::new();
        for line in lines {
            let servers: Map<String, Json> = line
                .rounds
                .iter()
                .map(|(who, rounds)| (who.name().to_owned(), json!(rounds)))
                .collect();
            results.insert(line.name.clone(), json!({"title": line.title, "rounds": servers}));
        }
        let mut json = procfs::about_run(&self.programs.dir, took);
        if self.members > 1 {
            json["ensemble"] = json!(self.members);
        }
        json["rounds"] = json!(self.rounds);
        json["seconds"] = json!(self.settings.duration.as_secs_f64());
        json["failures"] = json!(failures);
        json["results"] = Json::Object(results);
        json
    }

    fn write(&self, json: &Json, lines: &[Line]) -> Result<(), String> {
        let say = |e| format!("{}: {e}", self.out.display());
        std::fs::create_dir_all(&self.out).map_err(say)?;
        let data = self.out.join("compare.json");
        std::fs::write(&data, format!("{json:#}\n")).map_err(say)?;
        let page = self.out.join("compare.html");
        std::fs::write(&page, page::html(json, lines)).map_err(say)?;
        println!("\n{}\n{}", data.display(), page.display());
        Ok(())
    }
}

/// Collects the results and failures of one round.
struct Notes<'a> {
    round: usize,
    lines: &'a mut Vec<Line>,
    failures: &'a mut Vec<String>,
}

impl Notes<'_> {
    /// Adds what was measured, or notes why nothing was.
    fn keep(&mut self, who: Contestant, scenario: &Scenario, found: Result<Vec<Measured>, String>) {
        match found {
            Ok(measured) => measured.into_iter().for_each(|m| self.add(who, m)),
            Err(e) => self.fail(&format!("{} on {}: {e}", scenario.name, who.name())),
        }
    }

    fn fail(&mut self, what: &str) {
        eprintln!("  {what}");
        self.failures.push(format!("round {}: {what}", self.round + 1));
    }

    fn add(&mut self, who: Contestant, mut measured: Measured) {
        let rate = measured.figures.get("ops_per_s").and_then(Json::as_f64);
        let total = measured.figures.get("total_ms").and_then(Json::as_f64);
        let (name, server) = (&measured.name, who.name());
        match (rate, total) {
            (_, Some(ms)) => eprintln!("  {name:<20} {server:<11} {ms:>12.1} ms"),
            (Some(rate), None) => eprintln!("  {name:<20} {server:<11} {rate:>12.0} /s"),
            _ => eprintln!("  {name:<20} {server:<11} {}", measured.figures),
        }
        measured.figures["round"] = json!(self.round + 1);
        match self.lines.iter_mut().find(|line| line.name == measured.name) {
            Some(line) => line.rounds.entry(who).or_default().push(measured.figures),
            None => self.lines.push(Line {
                name: measured.name,
                title: measured.title,
                rounds: BTreeMap::from([(who, vec![measured.figures])]),
            }),
        }
    }
}
