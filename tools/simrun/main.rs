//! `rk-sim`: runs the simulation over many seeds. A failing seed ends it with its history and the
//! command that replays it.
#![forbid(unsafe_code)]

mod ledger;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use lexopt::prelude::{Long, Short, ValueExt};
use ringkeeper::base::Mark;
use ringkeeper::sim::{Bug, Faults, SimOptions, SimReport, run, show_log_lines};

const USAGE: &str = "\
rk-sim [--seed S] [--count N] [--ops N] [--nodes N] [--ensemble FAULTS] [--bug NAME] [--go-on]
       [--nightly] [--ledger] [--verbose]
  --seed S      first seed (default 1)
  --count N     how many seeds (default 100; with --ledger 10000)
  --ops N       requests per seed (default 2000; with --ledger 300)
  --nodes N     servers, 1 to 7 (default: 1 to 3 as the seed says)
  --ensemble F  members of one ensemble, by default 3, with faults: None, Crashes, Partitions,
                Disks; each includes those before it
  --bug NAME    put a fault into the server or what is around it, to see that it is caught
  --go-on       run all seeds, and list those that fail
  --nightly     N seeds of each kind: lone servers, and ensembles of 2 to 7
  --ledger      for each bug, or the one of --bug, the first seed that catches it
  --verbose     print the history of every seed";

/// Lines of history shown for a failing seed.
const TAIL: usize = 60;

/// For the message of a panic.
static REPLAY: Mutex<String> = Mutex::new(String::new());

struct Arguments {
    seed: u64,
    count: u64,
    ops: u32,
    nodes: Option<usize>,
    ensemble: Option<Faults>,
    bug: Option<Bug>,
    goes_on: bool,
    is_ledger: bool,
    is_nightly: bool,
    verbose: bool,
}

fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let mut parsed = Arguments {
        seed: 1,
        count: 100,
        ops: 2000,
        nodes: None,
        ensemble: None,
        bug: None,
        goes_on: false,
        is_ledger: false,
        is_nightly: false,
        verbose: false,
    };
    let (mut count, mut ops) = (None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seed") => parsed.seed = parser.value()?.parse()?,
            Long("count") => count = Some(parser.value()?.parse()?),
            Long("ops") => ops = Some(parser.value()?.parse()?),
            Long("nodes") => {
                let nodes = parser.value()?.parse()?;
                if !(1..=7).contains(&nodes) {
                    return Err(format!("--nodes: {nodes} is not 1 to 7").into());
                }
                parsed.nodes = Some(nodes);
            }
            Long("ensemble") => {
                let name = parser.value()?.string()?;
                let found = Faults::ALL.into_iter().find(|faults| format!("{faults:?}") == name);
                let known = format!("--ensemble: one of {:?}", Faults::ALL);
                parsed.ensemble = Some(found.ok_or(known)?);
            }
            Long("bug") => {
                let name = parser.value()?.string()?;
                let found = Bug::all().find(|bug| format!("{bug:?}") == name);
                let known = format!("--bug: one of {:?}", Bug::all().collect::<Vec<_>>());
                parsed.bug = Some(found.ok_or(known)?);
            }
            Long("go-on") => parsed.goes_on = true,
            Long("ledger") => parsed.is_ledger = true,
            Long("nightly") => parsed.is_nightly = true,
            Long("verbose") | Short('v') => parsed.verbose = true,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let (usual_count, usual_ops) = if parsed.is_ledger { (10_000, 300) } else { (100, 2000) };
    parsed.count = count.unwrap_or(usual_count);
    parsed.ops = ops.unwrap_or(usual_ops);
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("{e}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Arguments { seed, count, ops, nodes, ensemble, bug, verbose, .. } = arguments;
    let options = SimOptions { seed, ops, nodes, ensemble, bug, verbose };
    if arguments.is_ledger {
        let bugs: Vec<Bug> = bug.map_or_else(|| Bug::all().collect(), |bug| vec![bug]);
        return match ledger::print(&bugs, &options, count) {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        };
    }
    if verbose {
        show_log_lines();
    }
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        eprintln!("{}", REPLAY.lock().unwrap_or_else(PoisonError::into_inner));
    }));
    let kinds = if arguments.is_nightly { nightly() } else { vec![(ensemble, nodes)] };
    let (mut total, mut failed) = (SimReport::default(), 0);
    for (ensemble, nodes) in kinds {
        let options = SimOptions { ensemble, nodes, ..options.clone() };
        let (report, bad) = run_seeds(&options, count, arguments.goes_on);
        if bad > 0 && !arguments.goes_on {
            return ExitCode::from(129);
        }
        let nodes = nodes.map_or("as drawn".to_owned(), |nodes| nodes.to_string());
        println!("faults {ensemble:?}, nodes {nodes}, failed {bad}: {}", summary(count, &report));
        total.add(&report);
        failed += bad;
    }
    println!("{}", unmarked(&total));
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What a nightly run consists of: faults, and how many servers.
fn nightly() -> Vec<(Option<Faults>, Option<usize>)> {
    let of_three = Faults::ALL.map(|faults| (Some(faults), Some(3)));
    let larger = [2, 4, 5, 7].map(|nodes| (Some(Faults::Disks), Some(nodes)));
    [(None, None)].into_iter().chain(of_three).chain(larger).collect()
}

/// Runs `count` seeds, or up to the first that fails. What they come to, and how many failed.
fn run_seeds(options: &SimOptions, count: u64, goes_on: bool) -> (SimReport, usize) {
    let (mut total, mut failed) = (SimReport::default(), 0);
    for seed in options.seed..options.seed.saturating_add(count) {
        let options = SimOptions { seed, ..options.clone() };
        *REPLAY.lock().unwrap_or_else(PoisonError::into_inner) = replay(&options);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&options)));
        let Ok((report, outcome)) = outcome else {
            failed += 1;
            match goes_on {
                true => continue,
                false => break,
            }
        };
        if options.verbose {
            report.history.iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: trace hash {:016x}", report.hash);
        }
        total.add(&report);
        if let Err(violation) = outcome {
            failed += 1;
            if !goes_on {
                show_history(&options);
            }
            println!("seed {seed}: {violation}\n{}", replay(&options));
            if !goes_on {
                break;
            }
        }
    }
    (total, failed)
}

/// The last lines of the history of a seed.
fn show_history(options: &SimOptions) {
    show_log_lines();
    let (report, _) = run(&SimOptions { verbose: true, ..options.clone() });
    let from = report.history.len().saturating_sub(TAIL);
    report.history[from..].iter().for_each(|line| println!("{line}"));
}

fn replay(options: &SimOptions) -> String {
    let SimOptions { seed, ops, nodes, ensemble, bug, .. } = options;
    let nodes = nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    let ensemble = ensemble.map(|faults| format!(" --ensemble {faults:?}")).unwrap_or_default();
    let bug = bug.map(|bug| format!(" --bug {bug:?}")).unwrap_or_default();
    format!(
        "replay: cargo run --profile sim --bin rk-sim -- --seed {seed} --count 1 --ops \
         {ops}{nodes}{ensemble}{bug} --verbose"
    )
}

/// The branches that no seed has passed through.
fn unmarked(total: &SimReport) -> String {
    let marks = Mark::ALL.into_iter().zip(&total.marks);
    let missed: Vec<Mark> = marks.filter(|(_, hits)| **hits == 0).map(|(mark, _)| mark).collect();
    format!("{} of {} marks were never hit: {missed:?}", missed.len(), Mark::COUNT)
}

fn summary(seeds: u64, total: &SimReport) -> String {
    format!(
        "{seeds} seeds, {:.1} nodes each, {:.1} simulated hours, {} requests, {} transactions, {} \
         starts ({} with a tail, {} crashes, {} disk failures, {} clean stops), {} lost terms, {} \
         partitions, {} cuts and stalls, {} flipped bits ({} starts refused), recovery within \
         {:.1} s, {} turns, {} events \
         in {:.1} s: {:.0} events/s, {:.0} simulated seconds per second",
        total.nodes as f64 / seeds.max(1) as f64,
        total.virtual_ns as f64 / 3.6e12,
        total.ops,
        total.txns,
        total.starts,
        total.tails,
        total.crashes,
        total.fatals,
        total.stops,
        total.terms,
        total.partitions,
        total.cuts,
        total.rots,
        total.refusals,
        total.recovery_ns_max as f64 / 1e9,
        total.turns,
        total.events,
        total.took.as_secs_f64(),
        total.events_per_second(),
        total.times_real_time(),
    )
}
