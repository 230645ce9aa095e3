//! kill -9 under load, on every way to run: nothing that was acknowledged may be lost.

use super::load::Load;
use crate::util::{Options, Server, eventually};

/// Small segments and frequent snapshots, so that every round rolls, recycles and purges.
fn churning() -> Vec<String> {
    ["ringkeeper.log.segmentSizeInKb=64", "snapCount=500", "autopurge.purgeInterval=1"]
        .map(str::to_owned)
        .to_vec()
}

/// Kills the server under load, `rounds` times on the same directory.
fn rounds(server: &mut Server, rounds: u64, seed: u64) {
    let mut load = Load::prepare(server, 4);
    load.verify(server);
    // A fixed series, so that a failure can be repeated as far as timing allows.
    let mut random = seed;
    for round in 0..rounds {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = load.answered() + 200 + (random >> 33) % 3000;
        load.start(server, u64::MAX / 2);
        load.wait_for(after);
        server.kill();
        load.join();
        server.run();
        eprintln!("round {round}: {} requests answered so far", load.answered());
        load.verify(server);
    }
    assert!(server.stop().success());
    let before = server.stderr().len();
    server.run();
    server.wait_for_output(before, " 0 transactions replayed");
    load.verify(server);
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let mut server = Server::start(Options { config: churning(), ..Options::default() });
    rounds(&mut server, 6, 1);
    let log = server.stderr();
    assert!(log.contains("snapshot at"), "no snapshot was taken: {log}");
    // Each clean end leaves a snapshot; the next start purges what three of them cover.
    for round in 0..3 {
        server.connect().create(&format!("/round-{round}"), b"", 0).ok();
        assert!(server.stop().success());
        server.run();
    }
    for name in ["wal.1", "snapshot.0"] {
        let old = server.data_dir().join("version-2").join(name);
        eventually(name, || (!old.exists()).then_some(()));
    }
}

/// One round each with these lines of zoo.cfg; the start must report `stages`.
fn topology(lines: &[&str], stages: &str, seed: u64) {
    let config = churning().into_iter().chain(lines.iter().map(|l| (*l).to_owned())).collect();
    let mut server = Server::start(Options { config, ..Options::default() });
    server.wait_for_output(0, stages);
    rounds(&mut server, 2, seed);
}

#[test]
fn two_network_threads_survive_kills() {
    topology(
        &["ringkeeper.network.threads=2"],
        "network 0 on any CPU; network 1 on any CPU; pipeline + log on any CPU",
        2,
    );
}

#[test]
fn a_log_core_of_its_own_survives_kills() {
    topology(&["ringkeeper.cores.log=1"], "network 0 + pipeline on any CPU; log on CPU 1", 3);
}

#[test]
fn network_and_pipeline_apart_survive_kills() {
    topology(
        &["ringkeeper.cores.network=0", "ringkeeper.cores.pipeline=1"],
        "network 0 on CPU 0; pipeline + log on CPU 1",
        4,
    );
}

#[test]
fn single_shot_receives_survive_kills() {
    topology(&["ringkeeper.uring.multishot=off"], "network 0 + pipeline + log", 5);
}

#[test]
fn without_direct_io_kills_are_survived() {
    topology(&["ringkeeper.log.directIo=off"], "network 0 + pipeline + log", 6);
}

#[test]
fn without_force_sync_a_killed_process_loses_nothing() {
    // Only the machine's end may: what was written stays in the page cache.
    topology(&["forceSync=no"], "network 0 + pipeline + log", 7);
}
