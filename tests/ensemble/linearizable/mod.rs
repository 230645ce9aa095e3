//! Histories of real members under faults, judged by a checker.
//!
//! Clients write, write under a condition, and read after a `sync` on a few nodes, and note when
//! each request began and ended and what came of it, be it unknown. Meanwhile members are killed,
//! paused and cut off from each other (every connection between two members goes through a proxy of
//! the test), and disks are slow or full. In the end [`history`] says whether one order of all
//! requests explains what clients saw. Plain reads may be old, but never go back in a session.
//!
//! `RK_LINEAR_SECONDS=600` makes the faults last that long, `RK_LINEAR_SEED` chooses them.

mod clients;
mod faults;
mod history;
mod members;
mod proof;
mod proxy;

use clients::Clients;
use faults::Faults;
pub use members::Members;
pub use proxy::Way;
use std::time::{Duration, SystemTime};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Lets faults happen to `size` members for a while, and judges what clients saw.
fn judge(size: usize, usual: Duration) {
    let time = setting("RK_LINEAR_SECONDS").map_or(usual, Duration::from_secs);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let seed = setting("RK_LINEAR_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()));
    eprintln!("{size} members for {time:?}, RK_LINEAR_SEED={seed}");
    let mut members = Members::start(size);
    let clients = Clients::start(members.addresses());
    let told = Faults::new(seed, size).happen(&mut members, &clients, time);
    let history = clients.end(&members);
    eprintln!("{told}; {}", history.summary());
    if let Err(why) = history.check() {
        panic!("seed {seed}, {told}: {why}");
    }
}

#[test]
fn what_clients_of_three_members_see_under_faults_has_one_order() {
    judge(3, Duration::from_secs(20));
}

#[test]
fn what_clients_of_five_members_see_under_faults_has_one_order() {
    judge(5, Duration::from_secs(10));
}
