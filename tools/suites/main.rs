//! `rk-test`, started by `tools/test`: runs every test, or the suites named.
//!
//! A suite is a function that installs what it needs, runs programs whose output goes to a log, and
//! counts what they say. A suite whose set-up fails does not end the others. What failed is shown
//! after all suites, and the last line is the verdict, which continuous integration reads.
#![forbid(unsafe_code)]

mod arguments;
mod context;
mod counts;
mod failures;
mod foreign;
mod junit;
mod own;
mod setup;
mod stages;
mod suite;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Request, USAGE};
use context::{Context, Failure, Log, say};
use counts::Counts;
use own::Outcome;
use suite::Suite;

fn main() -> ExitCode {
    let done = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Request::Help) => {
            print!("{USAGE}");
            Ok(true)
        }
        Ok(Request::Run(arguments)) => run(arguments),
        Ok(Request::SetupApache) => set_up(|context| {
            println!("{}", setup::apache(context)?.display());
            Ok(())
        }),
        Ok(Request::Setup) => set_up(setup::everything),
        Err(wrong) => Err(wrong),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(wrong) => {
            eprintln!("tools/test: {wrong}");
            ExitCode::from(2)
        }
    }
}

fn set_up(work: impl FnOnce(&Context) -> Result<(), Failure>) -> Result<bool, Failure> {
    let Request::Run(arguments) = arguments::parse([])? else {
        return Err("without arguments the suites run".to_owned());
    };
    work(&Context::new(arguments)?).map(|()| true)
}

/// Runs the suites; true if nothing failed.
fn run(arguments: Arguments) -> Result<bool, Failure> {
    let context = Context::new(arguments)?;
    let logs = context.logs();
    fs::create_dir_all(&logs).map_err(|e| format!("{}: {e}", logs.display()))?;
    let (mut total, mut summary, mut failed) = (Counts::default(), Vec::new(), Vec::new());
    for &suite in &context.arguments.suites {
        if context.arguments.skipped.contains(&suite) {
            summary.push(format!("{suite:<12} SKIPPED by --skip"));
            continue;
        }
        say(format!("{suite} ({})", description(&context.arguments)));
        let started = Instant::now();
        let log = Log::create(logs.join(format!("{suite}.log")))?;
        let counts = match attempt(suite, &context, &log) {
            Ok((counts, has_ended_well)) => counts.judged(has_ended_well),
            Err(why) => {
                log.append(&format!("FAILED {suite}: {why}\n"))?;
                Counts::default().judged(false)
            }
        };
        if counts.failed > 0 {
            failed.push(log);
        }
        summary.push(line(suite, counts, started.elapsed().as_secs()));
        total += counts;
    }
    // Here, since a reader of the end of the output must find what failed.
    failed.iter().try_for_each(failures::show)?;
    summary.iter().for_each(|line| println!("{line}"));
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

/// Of the server under test.
fn description(arguments: &Arguments) -> String {
    let stages = if arguments.is_separate { ", stages on separate threads" } else { "" };
    let members = match arguments.members {
        1 => String::new(),
        members => format!(", {members} members"),
    };
    let place = if arguments.is_at_follower { ", clients at a follower" } else { "" };
    format!("{}{members}{place}{stages}", arguments.server)
}

/// A line of the summary.
fn line(suite: Suite, counts: Counts, seconds: u64) -> String {
    format!("{suite:<12} {:>5} passed {:>4} failed {seconds:>5} s", counts.passed, counts.failed)
}

fn attempt(suite: Suite, context: &Context, log: &Log) -> Outcome {
    let context =
        if suite == Suite::Stages { context.clone().separate()? } else { context.clone() };
    if context.arguments.is_separate {
        setup::server(&context)?;
        stages::prove(&context)?;
    }
    let context = &context;
    match suite {
        Suite::Cargo => own::cargo(context, log),
        Suite::Kazoo => foreign::kazoo(context, log, suite.name(), &["kazoo/tests"]),
        Suite::Java => foreign::java(context, log),
        Suite::Zookeeper | Suite::Curator => junit::junit(context, log, suite.name()),
        Suite::C => foreign::c(context, log),
        Suite::Rust => foreign::rust(context, log),
        Suite::Kafka => foreign::kafka(context, log, None),
        Suite::ApacheData => foreign::apache_data(context, log),
        Suite::Mixed => foreign::mixed(context, log, 1),
        Suite::MixedLong => foreign::mixed(context, log, 10),
        Suite::Ensemble => own::ensemble(context, log),
        Suite::Stages => own::stages(context, log),
        Suite::Diff => own::diff(context, log),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_summary_are_aligned() {
        let of = |suite, passed, failed, seconds| line(suite, Counts { passed, failed }, seconds);
        assert_eq!(of(Suite::C, 59, 0, 9), "c               59 passed    0 failed     9 s");
        assert_eq!(
            of(Suite::ApacheData, 1234, 12, 600),
            "apache-data   1234 passed   12 failed   600 s"
        );
    }
}
