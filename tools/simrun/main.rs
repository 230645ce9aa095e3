//! `rk-sim`: runs the simulation over many seeds. A failing seed ends it with its history and the
//! command that replays it.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use lexopt::prelude::{Long, Short, ValueExt};
use ringkeeper::base::Mark;
use ringkeeper::sim::{Bug, Faults, SimOptions, SimReport, run, show_log_lines};

const USAGE: &str = "\
rk-sim [--seed S] [--count N] [--ops N] [--nodes N] [--ensemble FAULTS] [--bug NAME] [--verbose]
  --seed S      first seed (default 1)
  --count N     how many seeds (default 100)
  --ops N       requests per seed (default 2000)
  --nodes N     servers, 1 to 7 (default: 1 to 3 as the seed says)
  --ensemble F  members of one ensemble, by default 3, with faults: None, Crashes, Partitions,
                Disks; each includes those before it
  --bug NAME    put a fault into the driver, to see that it is caught
  --verbose     print the history of every seed";

/// Lines of history shown for a failing seed.
const TAIL: usize = 60;

/// For the message of a panic.
static SEED: AtomicU64 = AtomicU64::new(0);

struct Arguments {
    seed: u64,
    count: u64,
    ops: u32,
    nodes: Option<usize>,
    ensemble: Option<Faults>,
    bug: Option<Bug>,
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
        verbose: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seed") => parsed.seed = parser.value()?.parse()?,
            Long("count") => parsed.count = parser.value()?.parse()?,
            Long("ops") => parsed.ops = parser.value()?.parse()?,
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
            Long("verbose") | Short('v') => parsed.verbose = true,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
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
    let Arguments { seed: first, count, ops, nodes, ensemble, bug, verbose } = arguments;
    let options = SimOptions { seed: first, ops, nodes, ensemble, bug, verbose };
    let (default, of_panic) = (std::panic::take_hook(), options.clone());
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        let seed = SEED.load(Ordering::Relaxed);
        eprintln!("{}", replay(&SimOptions { seed, ..of_panic.clone() }));
    }));
    if verbose {
        show_log_lines();
    }
    let mut total = SimReport::default();
    for seed in first..first.saturating_add(count) {
        SEED.store(seed, Ordering::Relaxed);
        let options = SimOptions { seed, ..options.clone() };
        let (report, outcome) = run(&options);
        if verbose {
            report.history.iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: trace hash {:016x}", report.hash);
        }
        if let Err(violation) = outcome {
            show_log_lines();
            let (report, _) = run(&SimOptions { verbose: true, ..options.clone() });
            let from = report.history.len().saturating_sub(TAIL);
            report.history[from..].iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: {violation}");
            println!("{}", replay(&options));
            return ExitCode::from(129);
        }
        total.add(&report);
    }
    println!("{}", summary(count, &total));
    println!("{}", unmarked(&total));
    ExitCode::SUCCESS
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
