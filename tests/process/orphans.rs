//! A data directory with ephemerals whose session does not exist.

use crate::util::{Options, Server};
use ringkeeper::log::SnapshotWriter;
use ringkeeper::wire::PersistedStat;
use std::fs;

/// A snapshot of which one node is an ephemeral of a session that is not in it.
fn snapshot_with_orphan(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = SnapshotWriter::begin([].into_iter(), [].into_iter(), &mut out);
    for (path, owner) in [("", 0), (path, 0x100_0000_0bad)] {
        let stat = PersistedStat { ephemeral_owner: owner, ..PersistedStat::default() };
        writer.node(path, Some(b"old"), -1, &stat, &mut out);
    }
    writer.finish(None, None, &mut out);
    out
}

#[test]
fn what_takes_the_place_of_an_orphan_survives_every_kill() {
    let mut server = Server::prepare(Options::default());
    let dir = server.data_dir().join("version-2");
    fs::create_dir_all(&dir).expect("directory");
    fs::write(dir.join("snapshot.5"), snapshot_with_orphan("/lock")).expect("snapshot");
    server.run();
    server.wait_for_output(0, "1 ephemeral nodes of 1 sessions that do not exist (0x10000000bad)");
    let mut client = server.connect();
    assert!(client.exists("/lock", false).is_none());
    client.create("/lock", b"new", 0).ok();
    let children: Vec<String> = (0..100).map(|n| format!("child-{n:03}")).collect();
    for child in &children {
        client.create(&format!("/lock/{child}"), b"", 0).ok();
    }
    let (_, stat) = client.get("/lock");
    for _ in 0..2 {
        let before = server.stderr().len();
        server.crash_and_restart();
        assert!(!server.stderr()[before..].contains("do not exist"), "they are gone for good");
        let mut client = server.connect();
        assert_eq!(client.children("/lock", false), children);
        assert_eq!(client.get("/lock"), (b"new".to_vec(), stat));
    }
}

#[test]
fn a_server_that_is_killed_at_once_ends_them_at_the_next_start() {
    let mut server = Server::prepare(Options::default());
    let dir = server.data_dir().join("version-2");
    fs::create_dir_all(&dir).expect("directory");
    fs::write(dir.join("snapshot.5"), snapshot_with_orphan("/lock")).expect("snapshot");
    for _ in 0..3 {
        server.run();
        server.kill();
    }
    server.run();
    assert!(server.connect().exists("/lock", false).is_none());
}
