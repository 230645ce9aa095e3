//! The simulation in short: many seeds, each twice; and proof that its checkers can fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringkeeper::base::Mutation;
use ringkeeper::sim::{Bug, Faults, SimOptions, SimReport, run};

const OPS: u32 = 300;

/// A run with as many servers as asked for, or as the seed says.
fn options(seed: u64, nodes: Option<usize>, bug: Option<Bug>) -> SimOptions {
    SimOptions { seed, ops: OPS, nodes, ensemble: None, verbose: false, bug }
}

/// Runs a seed; a failed assertion in the server counts as a violation.
fn outcome(options: &SimOptions) -> Result<SimReport, String> {
    let caught = catch_unwind(AssertUnwindSafe(|| run(options)));
    match caught {
        Ok((report, Ok(()))) => Ok(report),
        Ok((_, Err(violation))) => Err(violation.to_string()),
        Err(_) => Err("the server panicked, see above".into()),
    }
}

fn expect_good(options: &SimOptions) -> SimReport {
    outcome(options).unwrap_or_else(|why| {
        let SimOptions { seed, ops, nodes, ensemble, .. } = options;
        let nodes = nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
        let ensemble = ensemble.map(|faults| format!(" --ensemble {faults:?}")).unwrap_or_default();
        panic!(
            "seed {seed}: {why}\nreplay: cargo run --profile sim --bin rk-sim -- --seed {seed} \
             --count 1 --ops {ops}{nodes}{ensemble} --verbose"
        )
    })
}

/// Runs seeds, each twice; what the runs of each first time come to.
fn replay_seeds(count: u64, nodes: Option<usize>, ensemble: Option<Faults>) -> SimReport {
    let mut total = SimReport::default();
    for seed in 0..count {
        let options = SimOptions { ensemble, ..options(seed, nodes, None) };
        let (first, second) = (expect_good(&options), expect_good(&options));
        assert_eq!(first.hash, second.hash, "seed {seed} does not replay");
        assert_eq!(first.events, second.events, "seed {seed} does not replay");
        total.add(&first);
    }
    total
}

#[test]
fn short_seeds_end_well_and_replay_exactly() {
    let total = replay_seeds(200, None, None);
    // The seeds are worth something only if these happen.
    assert!(total.crashes > 50 && total.fatals > 5 && total.stops > 10, "{total:?}");
    assert!(total.txns > 10_000 && total.tails > 50, "{total:?}");
    assert!(total.rots > total.refusals && total.refusals > 20, "{total:?}");
    assert!(total.partitions > 20 && total.cuts > 20, "{total:?}");
    assert!(total.nodes > 250, "{total:?}");
}

#[test]
fn three_servers_end_well_and_replay_exactly() {
    let total = replay_seeds(60, Some(3), None);
    assert_eq!(total.nodes, 180);
    assert!(total.crashes > 20 && total.txns > 5_000, "{total:?}");
}

#[test]
fn an_ensemble_of_one_keeps_its_history() {
    for faults in Faults::ALL {
        let total = replay_seeds(30, Some(1), Some(faults));
        assert_eq!(total.crashes > 10, faults >= Faults::Crashes, "{total:?}");
        assert!(total.txns > 3_000 && total.tails > 10, "{total:?}");
    }
}

#[test]
fn three_members_keep_one_history() {
    let total = replay_seeds(30, Some(3), Some(Faults::None));
    assert!(total.txns > 10_000 && total.crashes == 0, "{total:?}");
}

#[test]
fn three_members_keep_one_history_when_they_crash() {
    let total = replay_seeds(30, Some(3), Some(Faults::Crashes));
    assert!(total.txns > 10_000 && total.crashes > 30 && total.tails > 30, "{total:?}");
}

#[test]
fn three_members_keep_one_history_when_they_are_divided() {
    let total = replay_seeds(30, Some(3), Some(Faults::Partitions));
    assert!(total.txns > 10_000 && total.partitions > 10 && total.cuts > 0, "{total:?}");
}

/// ZOOKEEPER-4882: an Apache server whose log fails may go on with writes that only its memory has.
#[test]
fn three_members_keep_one_history_when_their_disks_fail() {
    let total = replay_seeds(30, Some(3), Some(Faults::Disks));
    assert!(total.txns > 10_000 && total.fatals > 0 && total.rots > 0, "{total:?}");
}

#[test]
fn five_members_keep_one_history_when_they_are_divided() {
    let total = replay_seeds(10, Some(5), Some(Faults::Partitions));
    assert!(total.txns > 3_000 && total.partitions > 0, "{total:?}");
}

/// Mistakes of members that few seeds catch; `tests/README.md` has all of them.
const OF_MEMBERS: &[Bug] = &[
    Bug::Server(Mutation::PromiseUnstored),
    Bug::Server(Mutation::EnterUnstored),
    Bug::Server(Mutation::AckUnlogged),
    Bug::Server(Mutation::CommitAhead),
    Bug::Server(Mutation::OfferUnstored),
    Bug::Server(Mutation::CommitAlone),
    Bug::Server(Mutation::CountUnlogged),
    Bug::Server(Mutation::KeepLog),
    Bug::Server(Mutation::MarkAhead),
    Bug::Server(Mutation::SnapshotAhead),
    Bug::Server(Mutation::LoseForwarded),
    Bug::Server(Mutation::TouchNothing),
    Bug::Server(Mutation::ShortTimeouts),
    Bug::Server(Mutation::RevalidateNone),
    Bug::Server(Mutation::EndMoved),
    Bug::Server(Mutation::AckBeforeSync),
    Bug::DropLastGroup,
    Bug::CommitTail,
    Bug::LoseEphemeral,
];

#[test]
fn mistakes_of_one_member_are_caught_by_the_history_of_all() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let is_missed = |&bug: &Bug| {
        let ensemble = Some(Faults::Crashes);
        let of = |seed| SimOptions { ensemble, ..options(seed, Some(3), Some(bug)) };
        (1..=100).all(|seed| outcome(&of(seed)).is_ok())
    };
    let missed: Vec<Bug> = OF_MEMBERS.iter().copied().filter(is_missed).collect();
    std::panic::set_hook(quiet);
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn every_injected_bug_is_caught() {
    // Not every seed has the crash, the watch or the expiry that a bug needs.
    const SEEDS: u64 = 1_000;
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let is_missed = |bug| (0..SEEDS).all(|seed| outcome(&options(seed, None, Some(bug))).is_ok());
    let missed: Vec<Bug> = Bug::ALONE.into_iter().filter(|&bug| is_missed(bug)).collect();
    std::panic::set_hook(quiet);
    assert!(missed.is_empty(), "{SEEDS} seeds do not catch {missed:?}");
}
