//! SIGTERM: what was acknowledged is safe, a final snapshot is there, the port is free.

use super::load::Load;
use crate::util::{Options, Server};
use std::fs;

fn snapshots(server: &Server) -> Vec<String> {
    let dir = fs::read_dir(server.data_dir().join("version-2")).expect("data directory");
    let names = dir.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("snapshot.")).collect();
    names.sort();
    names
}

/// The file on which an Apache server stops, see `disk::guard`.
fn keeps_apache_away(server: &Server) -> bool {
    server.data_dir().join("version-2/log.7fffffffffffffff").exists()
}

#[test]
fn a_clean_end_finishes_what_was_acknowledged_and_leaves_nothing_to_replay() {
    let mut server = Server::ringkeeper();
    let mut load = Load::prepare(&server, 4);
    load.start(&server, u64::MAX / 2);
    load.wait_for(2000);
    server.signal("TERM");
    // A second one during the drain changes nothing.
    server.signal("TERM");
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", server.stderr());
    load.join();
    assert!(snapshots(&server).iter().any(|name| name != "snapshot.0"), "no final snapshot");

    // At once, on the same port. Requests that came while the snapshot was being written are in
    // it, or were never answered.
    let before = server.stderr().len();
    server.run();
    server.wait_for_output(before, " 0 transactions replayed");
    load.verify(&server);
}

/// The way back to Apache after a crash: one start and one clean end.
#[test]
fn a_clean_end_saves_what_a_killed_server_left_although_nothing_is_written() {
    let mut server = Server::ringkeeper();
    let mut client = server.connect();
    for number in 0..20 {
        client.create(&format!("/node-{number}"), b"", 0).ok();
    }
    client.abandon();
    server.wait_for_output(0, "is complete");
    assert!(keeps_apache_away(&server));
    server.kill();
    assert!(keeps_apache_away(&server));
    assert_eq!(snapshots(&server), ["snapshot.0"]);
    server.run();
    assert!(keeps_apache_away(&server));
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr());
    assert!(!keeps_apache_away(&server));
    // The session and its nodes.
    assert_eq!(snapshots(&server), ["snapshot.0", "snapshot.15"]);
    // Once is enough.
    fs::remove_file(server.data_dir().join("version-2/snapshot.0")).expect("snapshot");
    let before = server.stderr().len();
    server.run();
    server.wait_for_output(before, " 0 transactions replayed");
    // No snapshot was needed, and none is for the way back.
    assert!(keeps_apache_away(&server));
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr());
    assert!(!keeps_apache_away(&server));
    assert!(!server.stderr()[before..].contains("is complete"), "{}", server.stderr());
}

#[test]
fn an_idle_server_ends_at_once_with_each_signal() {
    for signal in ["TERM", "INT", "HUP"] {
        // The shell that runs the tests may ignore it.
        let wrapper = ["env", "--default-signal=HUP"].map(str::to_owned).to_vec();
        let mut server = Server::start(Options { wrapper, ..Options::default() });
        let client = server.connect();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
        client.assert_closed();
        let text = server.stderr();
        let last = text.lines().last().unwrap_or("");
        assert!(last.contains("ended cleanly at zxid 0x"), "{text}");
        assert!(text.contains(&format!("SIG{signal}: finishing what is under way")), "{text}");
        server.run();
    }
}

#[test]
fn a_server_that_was_told_to_outlive_its_terminal_does() {
    let wrapper = vec!["nohup".to_owned()];
    let mut server = Server::start(Options { wrapper, ..Options::default() });
    server.signal("HUP");
    server.connect().ping();
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr());
    assert!(!server.stderr().contains("SIGHUP"), "{}", server.stderr());
}

#[test]
fn a_client_that_does_not_read_cannot_hold_the_end_up() {
    let mut server = Server::ringkeeper();
    let mut client = server.connect();
    client.create("/big", &vec![7; 500_000], 0).ok();
    for _ in 0..200 {
        let body = crate::util::Jute::new().string("/big").bool(false);
        client.send(crate::util::op::GET_DATA, body);
    }
    server.connect().ping();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    drop(client);
}
