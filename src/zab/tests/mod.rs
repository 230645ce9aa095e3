//! Servers that are nothing but their machines, a disk and a network, under faults.

mod checks;
mod clients;
mod disk;
mod faults;
mod network;
mod node;
mod recorded;
mod scripts;
mod world;

use world::{Faults, Mutation, World};

/// Runs one world; the error is what a checker found.
fn run(seed: u64, faults: Faults) -> Result<World, String> {
    let mut world = World::new(seed, faults);
    for _ in 0..3_000 {
        world.step()?;
    }
    world.heal()?;
    Ok(world)
}

fn survive(seeds: std::ops::Range<u64>, faults: Faults) {
    for seed in seeds {
        if let Err(found) = run(seed, faults) {
            panic!("seed {seed} with {faults:?}: {found}");
        }
    }
}

#[test]
fn three_servers_agree_under_faults() {
    survive(0..200, Faults { servers: 3, ..Faults::default() });
}

#[test]
fn five_servers_and_two_observers_agree_under_faults() {
    survive(1_000..1_100, Faults { servers: 5, observers: 2, ..Faults::default() });
}

#[test]
fn servers_that_speak_as_apache_does_agree_under_faults() {
    survive(2_000..2_150, Faults { servers: 3, plain: true, ..Faults::default() });
}

#[test]
fn a_server_that_leads_alone() {
    survive(3_000..3_020, Faults { servers: 1, ..Faults::default() });
}

/// Everything that matters happens in these runs.
#[test]
fn the_runs_meet_each_way_of_synchronizing() {
    let mut seen = world::Seen::default();
    for seed in 0..60 {
        let world = run(seed, Faults { servers: 3, ..Faults::default() });
        seen.add(&world.expect("no fault is found").seen);
    }
    let least = [
        ("epochs", seen.epochs, 100),
        ("learners in the next epoch in place", seen.renewals, 20),
        ("commits", seen.commits, 1_000),
        ("diffs", seen.diffs, 50),
        ("truncations", seen.truncations, 4),
        ("snapshots", seen.snapshots, 20),
        ("parts of the log", seen.log_parts, 20),
        ("syncs", seen.syncs, 100),
        ("crashes", seen.crashes, 100),
    ];
    for (what, count, least) in least {
        assert!(count >= least, "only {count} {what}: {seen:?}");
    }
}

/// The checkers notice what they are there for.
#[test]
fn planted_mistakes_are_found() {
    for mutation in Mutation::ALL {
        let faults = Faults { servers: 3, mutation: Some(mutation), ..Faults::default() };
        let found = (0..2_000).find_map(|seed| {
            let run = std::panic::AssertUnwindSafe(|| run(seed, faults).err());
            match std::panic::catch_unwind(run) {
                Ok(found) => found,
                Err(_) => Some("an invariant".into()),
            }
        });
        assert!(found.is_some(), "{mutation:?} is not found");
    }
}

/// A longer run by hand: `RK_ZAB_SEEDS=FROM..TO cargo test --lib zab::tests::a_longer_run`.
#[test]
fn a_longer_run() {
    let Ok(seeds) = std::env::var("RK_ZAB_SEEDS") else { return };
    let (from, to) = seeds.split_once("..").expect("FROM..TO");
    let seeds = from.parse().expect("a number")..to.parse().expect("a number");
    for (servers, observers, plain) in [(3, 0, false), (3, 0, true), (5, 1, true)] {
        survive(seeds.clone(), Faults { servers, observers, plain, mutation: None });
    }
}
