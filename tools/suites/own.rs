//! The suites of Ringkeeper itself: cargo, the comparison with Apache ZooKeeper, and a part of the
//! suites with the stages on separate threads.

use crate::context::{Context, Failure, Log, say};
use crate::counts::Counts;
use crate::{foreign, setup};

/// What a suite counted, and whether every program in it ended well.
pub type Outcome = Result<(Counts, bool), Failure>;

/// A batch of rk-diff: options, with the seeds.
type Batch = &'static [&'static str];

/// Ten times what `tests/differential` compares, and ensembles.
const WHOLE: [Batch; 5] = [
    &["--seed", "1", "--count", "1200"],
    &["--seed", "10000", "--count", "400", "--ops", "100"],
    &["--seed", "30000", "--count", "200", "--all"],
    &["--seed", "50000", "--count", "400", "--members", "3"],
    &["--seed", "60000", "--count", "40", "--members", "3", "--expiry"],
];

/// Members, with a few seeds that no other suite has.
const OF_MEMBERS: [Batch; 1] = [&["--seed", "70000", "--count", "20", "--members", "3"]];

/// A few seeds that no other suite has.
const SHORT: [Batch; 3] = [
    &["--seed", "40000", "--count", "60"],
    &["--seed", "41000", "--count", "20", "--ops", "100"],
    &["--seed", "42000", "--count", "10", "--all"],
];

/// The part of kazoo's tests in which sessions, watches, locks and reconnection meet.
const PART_OF_KAZOO: [&str; 3] =
    ["kazoo/tests/test_client.py", "kazoo/tests/test_watchers.py", "kazoo/tests/test_lock.py"];

/// The short form of what `--members` runs.
pub fn ensemble(context: &Context, log: &Log) -> Outcome {
    let (all, follower) = (context.clone().ensemble(3, false), context.clone().ensemble(3, true));
    let mut have_ended_well = true;
    for (name, context, parts) in [
        ("ensemble", &all, &PART_OF_KAZOO[..]),
        ("ensemble-follower", &follower, &PART_OF_KAZOO[..1]),
    ] {
        say(format!("kazoo ({name})"));
        have_ended_well &= foreign::kazoo(context, log, name, parts)?.1;
    }
    for (name, suite) in [
        ("java", foreign::java as fn(&Context, &Log) -> Outcome),
        ("c", foreign::c),
        ("rust", foreign::rust),
        ("kafka", |context, log| foreign::kafka(context, log, Some("each server is killed"))),
    ] {
        say(format!("{name} (ensemble)"));
        have_ended_well &= suite(&all, log)?.1;
    }
    // Each of them wrote what it counted.
    let mut counts = Counts::of_checks(&log.text()?);
    counts += compare(context, log, &OF_MEMBERS)?;
    Ok((counts, have_ended_well))
}

/// Formatting, clippy, cargo test.
pub fn cargo(context: &Context, log: &Log) -> Outcome {
    let class_path = setup::apache(context)?;
    let mut counts = Counts::default();
    for step in [&["fmt", "--check"][..], &["clippy", "--all-targets", "--", "-D", "warnings"]] {
        say(format!("cargo {}", step.join(" ")));
        let is_good = log.run(context.command("cargo").args(step))?;
        counts += Counts { passed: is_good.into(), failed: (!is_good).into() };
    }
    say("cargo test");
    let mut test = context.command("cargo");
    // The comparison with Apache must not pass because there is nothing to compare with.
    test.env("RK_REQUIRE_APACHE", "1").env("RK_APACHE_CLASSPATH", class_path);
    let has_ended_well = log.run(test.args(["test", "--no-fail-fast"]))?;
    counts += Counts::of_cargo(&log.text()?);
    Ok((counts, has_ended_well))
}

/// rk-diff on many seeds.
pub fn diff(context: &Context, log: &Log) -> Outcome {
    Ok((compare(context, log, &WHOLE)?, true))
}

/// rk-diff on a few seeds and a part of kazoo's tests, with the stages on separate threads.
pub fn stages(context: &Context, log: &Log) -> Outcome {
    let mut counts = compare(context, log, &SHORT)?;
    let (of_kazoo, has_ended_well) = foreign::kazoo(context, log, "stages", &PART_OF_KAZOO)?;
    counts += of_kazoo;
    Ok((counts, has_ended_well))
}

/// Each batch counts as one test.
fn compare(context: &Context, log: &Log, batches: &[Batch]) -> Result<Counts, Failure> {
    let class_path = setup::apache(context)?;
    setup::server(context)?;
    let mut counts = Counts::default();
    for batch in batches {
        say(format!("rk-diff {}", batch.join(" ")));
        let mut command = context.command(context.target.join("release/rk-diff"));
        command.env("RK_APACHE_CLASSPATH", &class_path).args(["--a", "apache", "--b"]);
        command.arg(format!("ringkeeper:{}", context.ringkeeper().display()));
        let is_good = log.run(command.args(*batch))?;
        if !is_good {
            log.append(&format!("FAILED rk-diff {}\n", batch.join(" ")))?;
        }
        counts += Counts { passed: is_good.into(), failed: (!is_good).into() };
    }
    Ok(counts)
}
