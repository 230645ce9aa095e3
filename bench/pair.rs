//! `rk-bench pair`: two binaries of Ringkeeper, before and after a change, in turn in one run. The
//! first binary takes part twice. Its two results differ by chance alone, so a smaller difference
//! between the two binaries means nothing.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

use crate::cli::{cpu_list, seconds, value};
use crate::disk::Disk;
use crate::ensemble::{Ensemble, Target};
use crate::options::Common;
use crate::procfs;
use crate::report::number;
use crate::scenario::{self, Measured, Method, Scenario, Settings, remove};
use crate::servers::{self, Contestant, Programs};
use crate::stats::{median, round3};

const HELP: &str = "\
rk-bench pair --server A --server B [options]

Runs two binaries of Ringkeeper in turn, A twice, several rounds; reports medians, the ratio of B to
A in the same round, and how far A was from itself.

  --server PATH            the binary before, then the one after
  --rounds N               (7)
  --ensemble N             ensembles of N processes each, without storm and big
  --seconds S              measured time per load (1); --warmup S before each (0.3)
  --first-warmup S         once per server (1)
  --only LIST              of get,set,create,get-lone,set-lone,set-64x1,storm,big (all)
  --znodes N               of the big tree (1000000); --sessions N of the storm (10000)
  --client-cpus LIST       cores of the generator
  --quiet-seconds S        wait so long for a quiet machine before each measurement (2)
";

/// A binary's place in a round: A, A once more, B.
const PLACES: [&str; 3] = ["a", "a-again", "b"];

/// Figures in the report: measurement, JSON pointer, unit, and whether more is better.
const FIGURES: [(&str, &str, &str, bool); 17] = [
    ("get", "/ops_per_s", "/s", true),
    ("get", "/server_cpu_us_per_op", "CPU µs/op", false),
    ("set", "/ops_per_s", "/s", true),
    ("set", "/server_cpu_us_per_op", "CPU µs/op", false),
    ("create", "/ops_per_s", "/s", true),
    ("create", "/server_cpu_us_per_op", "CPU µs/op", false),
    ("get-lone", "/latency/p50_us", "p50 µs", false),
    ("get-lone", "/latency/p99_us", "p99 µs", false),
    ("set-lone", "/latency/p50_us", "p50 µs", false),
    ("set-lone", "/latency/p99_us", "p99 µs", false),
    ("set-64x1", "/ops_per_s", "/s", true),
    ("set-64x1", "/latency/p99_us", "p99 µs", false),
    ("storm-arrive", "/total_ms", "ms", false),
    ("storm-return", "/total_ms", "ms", false),
    ("big", "/bytes_per_znode", "B/znode", false),
    ("big", "/fill_per_s", "creates/s", true),
    ("big", "/start_ms", "ms to start", false),
];

const SCENARIOS: [&str; 8] =
    ["get", "set", "create", "get-lone", "set-lone", "set-64x1", "storm", "big"];

struct Pair {
    common: Common,
    binaries: Vec<PathBuf>,
    settings: Settings,
    /// Processes of each.
    members: usize,
    scenarios: Vec<(usize, Scenario)>,
    rounds: usize,
    patience: Duration,
}

/// The values of one figure, by round, at each place.
#[derive(Clone, Debug, Default)]
struct Series([Vec<Option<f64>>; 3]);

impl Series {
    fn median(&self, place: usize) -> Option<f64> {
        let values: Vec<f64> = self.0[place].iter().flatten().copied().collect();
        median(&values)
    }

    /// The ratios to A in the same round.
    fn ratios(&self, place: usize) -> Vec<f64> {
        let pairs = self.0[place].iter().zip(&self.0[0]);
        let ratio = |(value, base): (&Option<f64>, &Option<f64>)| {
            let (value, base) = ((*value)?, (*base)?);
            (base > 0.0).then_some(value / base)
        };
        pairs.filter_map(ratio).collect()
    }

    /// The least and the greatest ratio of A to itself.
    fn spread(&self) -> Option<(f64, f64)> {
        let ratios = self.ratios(1);
        let least = ratios.iter().copied().reduce(f64::min)?;
        Some((least, ratios.iter().copied().fold(least, f64::max)))
    }

    /// Whether B's median ratio to A is worse than any ratio of A to itself.
    fn is_worse(&self, more_is_better: bool) -> bool {
        let Some((ratio, (least, most))) = median(&self.ratios(2)).zip(self.spread()) else {
            return false;
        };
        if more_is_better { ratio < least.min(1.0) } else { ratio > most.max(1.0) }
    }
}

/// Runs `rk-bench pair`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(pair) = parse(parser)? else { return Ok(()) };
    servers::end_with_us()?;
    let begin = Instant::now();
    let say = |e| format!("{}: {e}", pair.common.programs.dir.display());
    let mut disk = Disk::new(&pair.common.programs.dir).map_err(say)?;
    let mut rounds: Vec<[Map<String, Json>; 3]> = Vec::new();
    for round in 0..pair.rounds {
        eprintln!("round {} of {}", round + 1, pair.rounds);
        rounds.push(pair.round(round, &mut disk)?);
    }
    let mut json = procfs::about_run(&pair.common.programs.dir, begin.elapsed());
    if pair.members > 1 {
        json["ensemble"] = json!(pair.members);
    }
    json["a"] = json!(pair.binaries[0]);
    json["b"] = json!(pair.binaries[1]);
    let series = collect(&rounds);
    json["figures"] = figures(&series);
    let places = |round: &[Map<String, Json>; 3]| -> Json {
        PLACES.iter().zip(round).map(|(place, found)| (place.to_string(), json!(found))).collect()
    };
    json["rounds"] = rounds.iter().map(places).collect();
    pair.common.write(&json, || text(&series, pair.rounds))
}

fn settings() -> Settings {
    Settings {
        duration: Duration::from_secs(1),
        warmup: Duration::from_millis(300),
        first_warmup: Duration::from_secs(1),
        keys: 10_000,
        size: 100,
        znodes: 1_000_000,
        sessions: 10_000,
        big_heap_mib: 0,
        threads: 1,
        cpus: Vec::new(),
        rate: None,
    }
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Pair>, String> {
    let mut pair = Pair {
        common: Common::new(),
        binaries: Vec::new(),
        settings: settings(),
        members: 1,
        scenarios: Vec::new(),
        rounds: 7,
        patience: Duration::from_secs(2),
    };
    let mut only = None;
    let common = Common::parse(parser, "pair", HELP, |_, name, parser| {
        match name {
            "server" => pair.binaries.push(value(parser, "server")?),
            "rounds" => pair.rounds = value::<usize>(parser, "rounds")?.max(1),
            "seconds" => pair.settings.duration = seconds(parser, "seconds")?,
            "warmup" => pair.settings.warmup = seconds(parser, "warmup")?,
            "first-warmup" => pair.settings.first_warmup = seconds(parser, "first-warmup")?,
            "only" => only = Some(value::<String>(parser, "only")?),
            "ensemble" => {
                pair.members = value(parser, "ensemble")?;
                Ensemble::check(pair.members)?;
            }
            "znodes" => pair.settings.znodes = value::<u64>(parser, "znodes")?.max(1),
            "sessions" => pair.settings.sessions = value(parser, "sessions")?,
            "client-cpus" => pair.settings.cpus = cpu_list(parser, "client-cpus")?,
            "quiet-seconds" => pair.patience = seconds(parser, "quiet-seconds")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(common) = common else { return Ok(None) };
    pair.common = common;
    pair.scenarios = choose(pair.members, only.as_deref())?;
    if pair.binaries.len() != 2 {
        return Err("name two binaries: rk-bench pair --server BEFORE --server AFTER".into());
    }
    for binary in pair.binaries.clone() {
        pair.common.programs.ringkeeper = binary;
        pair.common.programs.get_ready(&[Contestant::Ringkeeper])?;
    }
    Ok(Some(pair))
}

/// The scenarios that `--only` lists; without it, all that `members` processes can run.
fn choose(members: usize, only: Option<&str>) -> Result<Vec<(usize, Scenario)>, String> {
    let table: &[Scenario] = if members == 1 { &scenario::ALL } else { &scenario::ENSEMBLE };
    let find = |name: &str| {
        let known = SCENARIOS.contains(&name);
        table.iter().cloned().enumerate().find(|(_, s)| known && s.name == name)
    };
    let Some(list) = only else {
        return Ok(SCENARIOS.into_iter().filter_map(find).collect());
    };
    let must_find = |name: &str| {
        let names = SCENARIOS.into_iter().filter(|name| find(name).is_some());
        let refusal = || {
            let names: Vec<&str> = names.collect();
            format!("--only: no scenario `{name}`: {}", names.join(","))
        };
        find(name).ok_or_else(refusal)
    };
    list.split(',').map(must_find).collect()
}

impl Pair {
    /// The programs to start, with the binary that takes this place in a round.
    fn programs(&self, place: usize) -> Programs {
        let binary = &self.binaries[place / 2];
        Programs { ringkeeper: binary.clone(), ..self.common.programs.clone() }
    }

    /// One round: by place, the figures by measurement. Who begins changes from round to round.
    fn round(&self, round: usize, disk: &mut Disk) -> Result<[Map<String, Json>; 3], String> {
        let mut order = [0, 1, 2];
        order.rotate_left(round % 3);
        let mut found: [Map<String, Json>; 3] = Default::default();
        let (loads, alone): (Vec<_>, Vec<_>) =
            self.scenarios.iter().partition(|(_, one)| one.is_load());
        self.loads(&order, &loads, disk, &mut found)?;
        for (index, one) in alone {
            for place in order {
                disk.settle(self.patience).map_err(|e| format!("disk: {e}"))?;
                let measured = self.alone(place, *index, one)?;
                note(place, measured, &mut found);
            }
        }
        Ok(found)
    }

    /// The loads, on one server of each place, one after the other.
    fn loads(
        &self,
        order: &[usize; 3],
        loads: &[&(usize, Scenario)],
        disk: &mut Disk,
        found: &mut [Map<String, Json>; 3],
    ) -> Result<(), String> {
        if loads.is_empty() {
            return Ok(());
        }
        let mut running = Vec::new();
        for place in *order {
            let programs = self.programs(place);
            let who = Contestant::Ringkeeper;
            let mut ensemble = Ensemble::start(&programs, who, PLACES[place], self.members)?;
            scenario::warm_up(&self.settings, &ensemble.target()?)?;
            running.push((place, ensemble));
        }
        for (index, one) in loads {
            for (place, ensemble) in &mut running {
                disk.settle(self.patience).map_err(|e| format!("disk: {e}"))?;
                let target = ensemble.target()?;
                let measured = scenario::run(&self.settings, &target, one, *index)?;
                note(*place, measured, found);
            }
        }
        running.into_iter().for_each(|(_, ensemble)| ensemble.end(self.common.keep));
        Ok(())
    }

    /// A scenario that has a server of its own.
    fn alone(&self, place: usize, index: usize, one: &Scenario) -> Result<Vec<Measured>, String> {
        let mut programs = self.programs(place);
        let Method::Storm(config) = one.method else {
            let figures = scenario::big(&self.settings, &programs, Contestant::Ringkeeper)?;
            let name = one.name.to_owned();
            return Ok(vec![Measured { name, title: one.title.to_owned(), figures }]);
        };
        programs.config.extend(config.iter().map(|line| (*line).to_owned()));
        let home = programs.home(Contestant::Ringkeeper, one.name)?;
        let server = programs.start(Contestant::Ringkeeper, &home)?;
        let measured = scenario::run(&self.settings, &Target::alone(&server), one, index);
        server.stop();
        if !self.common.keep {
            remove(&home);
        }
        measured
    }
}

fn note(place: usize, measured: Vec<Measured>, found: &mut [Map<String, Json>; 3]) {
    for one in measured {
        eprintln!("  {:<14} {}", one.name, PLACES[place]);
        found[place].insert(one.name, one.figures);
    }
}

fn collect(rounds: &[[Map<String, Json>; 3]]) -> Vec<Series> {
    let series = |(name, pointer, ..): &(&str, &str, &str, bool)| {
        let at = |found: &Map<String, Json>| found.get(*name)?.pointer(pointer)?.as_f64();
        let place = |nth: usize| rounds.iter().map(|round| at(&round[nth])).collect();
        Series([place(0), place(1), place(2)])
    };
    FIGURES.iter().map(series).collect()
}

fn figures(series: &[Series]) -> Json {
    let one = |((name, pointer, unit, more), series): (&(&str, &str, &str, bool), &Series)| {
        json!({
            "name": name,
            "pointer": pointer,
            "unit": unit,
            "more_is_better": more,
            "median_a": series.median(0),
            "median_b": series.median(2),
            "b_to_a": median(&series.ratios(2)).map(round3),
            "a_to_itself": series.spread().map(|(least, most)| [round3(least), round3(most)]),
            "worse": series.is_worse(*more),
        })
    };
    let measured = FIGURES.iter().zip(series).filter(|(_, s)| s.median(0).is_some());
    measured.map(one).collect()
}

fn text(series: &[Series], rounds: usize) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\n{:<14} {:<12} {:>12} {:>12} {:>8} {:>19}",
        format!("{rounds} rounds"),
        "",
        "median A",
        "median B",
        "B to A",
        "A to itself"
    );
    for ((name, _, unit, more), series) in FIGURES.iter().zip(series) {
        let (Some(a), Some(b)) = (series.median(0), series.median(2)) else { continue };
        let ratio = median(&series.ratios(2)).map_or_else(|| "-".to_owned(), |r| format!("{r:.3}"));
        let spread = series.spread().map(|(least, most)| format!("{least:.3} to {most:.3}"));
        let _ = writeln!(
            out,
            "{name:<14} {unit:<12} {:>12} {:>12} {ratio:>8} {:>19}  {}{}",
            number(a),
            number(b),
            spread.unwrap_or_default(),
            if *more { "more is better" } else { "less is better" },
            if series.is_worse(*more) { ": WORSE" } else { "" },
        );
    }
    out.push_str(
        "\nB to A: median over the rounds of the ratio in the same round. WORSE: that median lies \
         outside of\nwhat the rounds of A against itself show, on the bad side.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(a: [f64; 3], again: [f64; 3], b: [f64; 3]) -> Series {
        let some = |values: [f64; 3]| values.map(Some).to_vec();
        Series([some(a), some(again), some(b)])
    }

    #[test]
    fn worse_is_what_lies_outside_of_a_against_itself() {
        let slower = series([100.0, 200.0, 50.0], [95.0, 220.0, 50.0], [90.0, 180.0, 45.0]);
        assert_eq!(slower.spread(), Some((0.95, 1.1)));
        assert!(slower.is_worse(true) && !slower.is_worse(false));
        let alike = series([100.0, 200.0, 50.0], [95.0, 220.0, 50.0], [96.0, 193.0, 50.0]);
        assert!(!alike.is_worse(true) && !alike.is_worse(false));
        let longer = series([1.0, 1.0, 1.0], [1.0, 1.1, 0.9], [1.2, 1.2, 1.0]);
        assert!(longer.is_worse(false) && !longer.is_worse(true));
    }

    #[test]
    fn a_round_without_a_figure_is_left_out() {
        let mut one = series([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [2.0, 2.0, 4.0]);
        one.0[0][1] = None;
        assert_eq!(one.ratios(2), [2.0, 1.0]);
        assert!(!Series::default().is_worse(true));
    }

    #[test]
    fn every_figure_belongs_to_a_scenario() {
        assert_eq!(choose(1, None).unwrap().len(), SCENARIOS.len());
        assert_eq!(choose(1, Some("storm,get")).unwrap().len(), 2);
        assert!(choose(1, Some("list")).is_err() && choose(1, Some("")).is_err());
        // An ensemble has neither storm nor big tree.
        assert_eq!(choose(3, None).unwrap().len(), SCENARIOS.len() - 2);
        let refusal = choose(3, Some("storm")).unwrap_err();
        assert!(refusal.ends_with("get,set,create,get-lone,set-lone,set-64x1"), "{refusal}");
        for (name, ..) in FIGURES {
            assert!(SCENARIOS.iter().any(|s| name == *s || name.starts_with(&format!("{s}-"))));
        }
    }
}
