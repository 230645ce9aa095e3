//! `rk-bench catchup`: a follower is away while the others write on, and comes back under load. How
//! long until it serves, and what that costs the clients and the memory of the leader.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::admin::Admin;
use crate::cli::{seconds, value};
use crate::ensemble::{Ensemble, Target};

use crate::load::{self, Load, Outcome, Pace, Stop};
use crate::mix::{Kind, Mix};
use crate::options::{Common, contestant, rounds};
use crate::procfs::{self, Memory};
use crate::report::cell;
use crate::servers::{self, Contestant, Server};
use crate::stats::{median, round3, values};

const HELP: &str = "\
rk-bench catchup [options]

Starts an ensemble, stops a follower, writes, and starts the follower again while clients of the
leader go on writing. Says how long it took until the follower served, and what the leader's clients
and its memory noticed of it.

  --server NAME            ringkeeper or apache (ringkeeper)
  --ensemble N             members (3)
  --rounds N               (1)
  --transactions N         writes that the follower misses (1000000)
  --kill                   the follower is killed; otherwise it is ended by SIGTERM
  --empty                  its data is removed, so that it needs everything
  --znodes N               nodes of the tree, which the writes set (10000)
  --rate N                 writes per second on the leader while it comes back (20000)
  --connections N          of these clients (16); --size N: bytes of data (100)
  --seconds S              the same load before, with all members there (3)
  --gives-way              the follower has nice 19 and so takes the CPU time that the others leave.
                           Where all share a few CPUs, this comes closer to a machine of its own
  --patience S             the follower must serve within it (300)
";

/// The load runs this long before the follower is started.
const LEAD: Duration = Duration::from_millis(500);
/// Between two looks at the follower and at the leader's memory.
const LOOK: Duration = Duration::from_millis(2);
/// No load lasts longer.
const LOAD_MAX: Duration = Duration::from_secs(3600);

struct Catchup {
    common: Common,
    who: Contestant,
    members: usize,
    rounds: usize,
    transactions: u64,
    kill: bool,
    empty: bool,
    gives_way: bool,
    znodes: u64,
    rate: u64,
    connections: usize,
    size: usize,
    quiet: Duration,
    patience: Duration,
}

/// Runs `rk-bench catchup`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(catchup) = parse(parser)? else { return Ok(()) };
    servers::end_with_us()?;
    let begin = Instant::now();
    let rounds = rounds(catchup.rounds, || catchup.round(), line)?;
    let mut json = procfs::about_run(&catchup.common.programs.dir, begin.elapsed());
    json["server"] = json!(catchup.who.name());
    json["ensemble"] = json!(catchup.members);
    json["medians"] = medians(&rounds);
    json["rounds"] = json!(rounds);
    catchup.common.write(&json, || text(&json))
}

fn default() -> Catchup {
    Catchup {
        common: Common::new(),
        who: Contestant::Ringkeeper,
        members: 3,
        rounds: 1,
        transactions: 1_000_000,
        kill: false,
        empty: false,
        gives_way: false,
        znodes: 10_000,
        rate: 20_000,
        connections: 16,
        size: 100,
        quiet: Duration::from_secs(3),
        patience: Duration::from_secs(300),
    }
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Catchup>, String> {
    let mut this = default();
    let common = Common::parse(parser, "catchup", HELP, |_, name, parser| {
        match name {
            "server" => this.who = contestant(parser)?,
            "ensemble" => this.members = value(parser, "ensemble")?,
            "rounds" => this.rounds = value(parser, "rounds")?,
            "transactions" => this.transactions = value(parser, "transactions")?,
            "kill" => this.kill = true,
            "empty" => this.empty = true,
            "gives-way" => this.gives_way = true,
            "znodes" => this.znodes = value::<u64>(parser, "znodes")?.max(1),
            "rate" => this.rate = value::<u64>(parser, "rate")?.max(1),
            "connections" => this.connections = value::<usize>(parser, "connections")?.max(1),
            "size" => this.size = value(parser, "size")?,
            "seconds" => this.quiet = seconds(parser, "seconds")?,
            "patience" => this.patience = seconds(parser, "patience")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(common) = common else { return Ok(None) };
    this.common = common;
    if this.members < 3 {
        return Err(format!("--ensemble {}: no follower can be spared", this.members));
    }
    Ensemble::check(this.members)?;
    this.common.programs.get_ready(&[this.who])?;
    Ok(Some(this))
}

/// When the follower had come how far, after the start of its process, and the most memory that the
/// leader had until then.
struct Return {
    serves: Duration,
    in_step: Duration,
    leader_rss: u64,
}

impl Catchup {
    fn round(&self) -> Result<Json, String> {
        let mut ensemble =
            Ensemble::start(&self.common.programs, self.who, "catchup", self.members)?;
        let found = self.measure(&mut ensemble);
        ensemble.conclude(found, self.common.keep)
    }

    fn measure(&self, ensemble: &mut Ensemble) -> Result<Json, String> {
        let target = ensemble.target()?;
        let load = self.load(&target)?;
        load::prepare(&load)?;
        load::fill(&load)?;
        let quiet = load::run(&Load { warmup: LEAD, duration: self.quiet, ..load.clone() })?;
        let away = ensemble.place(target.addrs[1]).ok_or("the ensemble has no follower")?;
        let server = ensemble.take(away);
        server.into_iter().for_each(if self.kill { Server::kill } else { Server::stop });
        let missed = self.write_on(&load)?;
        if self.empty {
            ensemble.remove_data(away)?;
        }
        let leader = target.pids[0];
        let before = rss(leader)?;
        let (back, meanwhile) = self.bring_back(ensemble, away, &load, leader)?;
        if ensemble.target()?.leader() != target.leader() {
            return Err("the leader has changed meanwhile".into());
        }
        let ms = |duration: Duration| round3(duration.as_secs_f64() * 1e3);
        let mib = |bytes: u64| bytes >> 20;
        Ok(json!({
            "transactions_missed": missed,
            "serves_ms": ms(back.serves),
            "in_step_ms": ms(back.in_step),
            "quiet": quiet.json(),
            "meanwhile": meanwhile.json(),
            "p99_ratio": ratio(&quiet, &meanwhile).map(round3),
            "leader_rss_mib_before": mib(before),
            "leader_rss_mib_most": mib(back.leader_rss),
            "leader_rss_mib_grown": mib(back.leader_rss.saturating_sub(before)),
        }))
    }

    /// Sets on the leader at `--rate`.
    fn load(&self, target: &Target) -> Result<Load, String> {
        let mut load = Load::new(vec![target.leader()], Mix::only(Kind::Set));
        load.server_pids.clone_from(&target.pids);
        load.keys = self.znodes;
        load.shape.size = self.size;
        load.connections = self.connections;
        load.pace = Pace::Open { rate: self.rate };
        load.check()?;
        Ok(load)
    }

    /// As many writes as the follower shall miss, as fast as they go.
    fn write_on(&self, load: &Load) -> Result<u64, String> {
        if self.transactions == 0 {
            return Ok(0);
        }
        let fast = Load {
            pace: Pace::Closed { depth: 64 },
            requests: Some(self.transactions),
            warmup: Duration::ZERO,
            duration: LOAD_MAX,
            ..load.clone()
        };
        let outcome = load::run(&fast)?;
        match outcome.tally.errors.iter().next() {
            Some((code, count)) => Err(format!("{count} writes were answered {code}")),
            None => Ok(outcome.tally.completed),
        }
    }

    /// Starts the follower while the load goes on, which ends when the follower is in step.
    fn bring_back(
        &self,
        ensemble: &mut Ensemble,
        away: usize,
        load: &Load,
        leader: u32,
    ) -> Result<(Return, Outcome), String> {
        let stop = Stop::default();
        let load = Load { warmup: LEAD, duration: LOAD_MAX, stop: stop.clone(), ..load.clone() };
        std::thread::scope(|scope| {
            let running = scope.spawn(|| load::run(&load));
            std::thread::sleep(LEAD);
            let back = self.watch_return(ensemble, away, leader);
            stop.set();
            let outcome = running.join().map_err(|_| "the load's thread panicked")??;
            Ok((back?, outcome))
        })
    }

    fn watch_return(
        &self,
        ensemble: &mut Ensemble,
        away: usize,
        leader: u32,
    ) -> Result<Return, String> {
        let begin = Instant::now();
        ensemble.spawn(away)?;
        if self.gives_way {
            // Its first thread, of which it starts all others a moment later.
            ensemble.lower_priority(away)?;
        }
        let addr = ensemble.addrs()[away];
        let mut leader_rss = 0;
        loop {
            leader_rss = leader_rss.max(rss(leader)?);
            ensemble.must_live()?;
            if let Ok(mut admin) = Admin::probe(addr) {
                let serves = begin.elapsed();
                // It answers when it has all that was acknowledged before.
                admin.sync()?;
                let in_step = begin.elapsed();
                admin.close();
                return Ok(Return { serves, in_step, leader_rss: leader_rss.max(rss(leader)?) });
            }
            if begin.elapsed() > self.patience {
                let patience = self.patience.as_secs();
                let words = ensemble.last_words();
                return Err(format!("the follower does not serve after {patience} s\n{words}"));
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn rss(pid: u32) -> Result<u64, String> {
    Memory::of(pid).map(|memory| memory.total).ok_or_else(|| format!("process {pid} has ended"))
}

/// The 99th percentile of the writes meanwhile, as a multiple of the quiet one.
fn ratio(quiet: &Outcome, meanwhile: &Outcome) -> Option<f64> {
    let (quiet, meanwhile) = (quiet.tally.all(), meanwhile.tally.all());
    let is_measured = quiet.count() > 0 && meanwhile.count() > 0;
    is_measured.then(|| meanwhile.at_us(0.99) / quiet.at_us(0.99).max(1e-3))
}

/// Figures of a round: pointer, for people, unit.
const FIGURES: [(&str, &str, &str); 10] = [
    ("/transactions_missed", "transactions missed", ""),
    ("/serves_ms", "serves after", "ms"),
    ("/in_step_ms", "has all that was acknowledged after", "ms"),
    ("/quiet/latency/p50_us", "leader's writes before, p50", "µs"),
    ("/quiet/latency/p99_us", "leader's writes before, p99", "µs"),
    ("/meanwhile/latency/p50_us", "leader's writes meanwhile, p50", "µs"),
    ("/meanwhile/latency/p99_us", "leader's writes meanwhile, p99", "µs"),
    ("/p99_ratio", "p99 meanwhile to before", "×"),
    ("/leader_rss_mib_before", "leader's memory before", "MiB"),
    ("/leader_rss_mib_grown", "leader's memory has grown by up to", "MiB"),
];

/// By pointer: the medians over the rounds.
fn medians(rounds: &[Json]) -> Json {
    let one = |(pointer, ..): &(&str, &str, &str)| {
        ((*pointer).to_owned(), json!(median(&values(rounds, pointer)).map(round3)))
    };
    Json::Object(FIGURES.iter().map(one).collect())
}

/// One round for people.
fn line(figures: &Json) -> String {
    let show = |pointer: &str| cell(figures.pointer(pointer).and_then(Json::as_f64));
    format!(
        "{} transactions missed: serves after {} ms, in step after {} ms; p99 {} µs, before {} µs; \
         memory +{} MiB",
        show("/transactions_missed"),
        show("/serves_ms"),
        show("/in_step_ms"),
        show("/meanwhile/latency/p99_us"),
        show("/quiet/latency/p99_us"),
        show("/leader_rss_mib_grown"),
    )
}

fn text(json: &Json) -> String {
    let rounds = json["rounds"].as_array().map_or(0, Vec::len);
    let server = json["server"].as_str().unwrap_or_default();
    let mut out = format!("{server}, {} members, medians of {rounds}\n", json["ensemble"]);
    for (pointer, meaning, unit) in FIGURES {
        let value = cell(json["medians"][pointer].as_f64());
        out.push_str(&format!("{meaning:<44}{value:>12} {unit}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_shown_by_their_medians() {
        let round = |serves: f64| {
            json!({"serves_ms": serves, "quiet": {"latency": {"p99_us": 900.0}},
                "meanwhile": {"latency": null}})
        };
        let rounds = vec![round(20.0), round(500.0), round(30.0)];
        let json = json!({"server": "ringkeeper", "ensemble": 3, "medians": medians(&rounds),
            "rounds": rounds});
        assert_eq!(json["medians"]["/serves_ms"], 30.0);
        assert!(json["medians"]["/meanwhile/latency/p99_us"].is_null());
        let text = text(&json);
        assert!(text.contains("medians of 3") && text.contains("30.0 ms"), "{text}");
        assert!(line(&rounds[1]).contains("serves after 500 ms"), "{}", line(&rounds[1]));
    }
}
