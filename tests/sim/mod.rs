//! The simulation in short: many seeds, each twice; and proof that its checkers can fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringkeeper::sim::{Bug, SimOptions, SimReport, run};

const OPS: u32 = 300;

fn options(seed: u64, bug: Option<Bug>) -> SimOptions {
    SimOptions { seed, ops: OPS, verbose: false, bug }
}

/// Runs a seed; a failed assertion in the server counts as a violation.
fn outcome(seed: u64, bug: Option<Bug>) -> Result<SimReport, String> {
    let caught = catch_unwind(AssertUnwindSafe(|| run(&options(seed, bug))));
    match caught {
        Ok((report, Ok(()))) => Ok(report),
        Ok((_, Err(violation))) => Err(violation.to_string()),
        Err(_) => Err("the server panicked, see above".into()),
    }
}

fn expect_good(seed: u64) -> SimReport {
    outcome(seed, None).unwrap_or_else(|why| {
        panic!(
            "seed {seed}: {why}\nreplay: cargo run --release --bin rk-sim -- --seed {seed} --count \
             1 --ops {OPS} --verbose"
        )
    })
}

#[test]
fn short_seeds_end_well_and_replay_exactly() {
    let mut total = SimReport::default();
    for seed in 0..200 {
        let (first, second) = (expect_good(seed), expect_good(seed));
        assert_eq!(first.hash, second.hash, "seed {seed} does not replay");
        assert_eq!(first.events, second.events, "seed {seed} does not replay");
        total.crashes += first.crashes;
        total.fatals += first.fatals;
        total.stops += first.stops;
        total.rots += first.rots;
        total.refusals += first.refusals;
        total.txns += first.txns;
    }
    // The seeds are worth something only if these happen.
    assert!(total.crashes > 50 && total.fatals > 5 && total.stops > 10, "{total:?}");
    assert!(total.txns > 10_000, "{total:?}");
    assert!(total.rots > total.refusals && total.refusals > 20, "{total:?}");
}

#[test]
fn every_injected_bug_is_caught() {
    // Not every seed has the crash, the watch or the expiry that a bug needs.
    const SEEDS: u64 = 1_000;
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|&bug| (0..SEEDS).all(|seed| outcome(seed, Some(bug)).is_ok()))
        .collect();
    std::panic::set_hook(quiet);
    assert!(missed.is_empty(), "{SEEDS} seeds do not catch {missed:?}");
}
