//! Defects that process tests found once, each with the test that failed then.

use super::load::Load;
use crate::util::{Jute, Options, Server, eventually, op, raw_connect};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

#[test]
fn a_snapshot_that_is_due_is_taken_at_once() {
    let config = vec!["snapCount=200".to_owned()];
    let server = Server::start(Options { config, ..Options::default() });
    let mut load = Load::prepare(&server, 2);
    load.start(&server, 1000);
    load.join();
    // That it does not wait for something else to wake the server is a matter of the replica's
    // deadline, and tested there: how long the disk takes is not known.
    let snapshots = || server.stderr().matches("is complete").count();
    eventually("2000 transactions and no snapshot", || (snapshots() >= 2).then_some(()));
}

#[test]
fn a_word_from_a_client_that_has_finished_sending_is_answered() {
    // As `echo ruok | nc -N` does.
    let server = Server::ringkeeper();
    for _ in 0..50 {
        let mut link = raw_connect(server.address()).expect("connect");
        link.write_all(b"ruok").expect("send");
        link.shutdown(Shutdown::Write).expect("shutdown");
        let mut answer = String::new();
        link.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "imok");
    }
}

#[test]
fn a_client_that_never_reads_costs_little_and_disturbs_nobody() {
    let mut server = Server::ringkeeper();
    let mut client = server.connect();
    client.create("/big", &vec![7; 100_000], 0).ok();
    let before = server.resident_kib();
    let request = |xid: i32| {
        Jute::new().buffer(&Jute::new().int(xid).int(op::GET_DATA).string("/big").bool(false).0)
    };
    // It sends as long as anybody takes what it sends.
    let hog = server.connect();
    let mut link = hog.link().try_clone().expect("socket");
    link.set_write_timeout(Some(Duration::from_millis(300))).expect("timeout");
    let mut sent = 0;
    while sent < 2_000_000 {
        let burst: Vec<u8> = (0..100).flat_map(|n| request(sent + n).0).collect();
        if link.write_all(&burst).is_err() {
            break;
        }
        sent += 100;
        if sent % 100_000 == 0 {
            client.ping();
        }
    }
    assert!(sent < 2_000_000, "all {sent} requests were taken, without a reply being read");
    // The hog reads nothing until the end, so it is useless to wait for its replies.
    for _ in 0..20 {
        client.get("/big");
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 192 * 1024, "{grown} KiB for one client that does not read");
    drop((hog, link));
    client.ping();
}

/// Replies as large as they come leave nothing resident, also when nothing follows them.
#[test]
fn memory_of_large_replies_is_given_back() {
    let mut server = Server::ringkeeper();
    let mut client = server.connect();
    client.create("/big", &vec![7; 1_000_000], 0).ok();
    let before = server.resident_kib();
    for _ in 0..5 {
        let reads = (0..66).fold(Jute::new(), |reads, _| {
            reads.multi_header(op::GET_DATA).string("/big").bool(false)
        });
        let reply = client.request(op::MULTI_READ, reads.multi_end());
        assert!(reply.body.len() > 66_000_000, "{}", reply.body.len());
    }
    eventually("the memory of five replies of 66 MB is not given back", || {
        (server.resident_kib() < before + 24 * 1024).then_some(())
    });
}

#[test]
fn a_slow_sync_is_warned_about_wherever_the_log_is_written() {
    let warning = "fsync-ing the write ahead log took";
    for place in ["ringkeeper.network.threads=1", "ringkeeper.cores.log=0"] {
        for (threshold, warns) in [(0, true), (3_600_000, false)] {
            let threshold = format!("fsync.warningthresholdms={threshold}");
            let config = vec![place.to_owned(), threshold];
            let server = Server::start(Options { config, ..Options::default() });
            server.connect().create("/a", b"", 0).ok();
            if warns {
                server.wait_for_output(0, warning);
            } else {
                assert!(!server.stderr().contains(warning), "{}", server.stderr());
            }
        }
    }
}

/// A server that is killed before a snapshot is due, again and again, must not have ever more to
/// replay.
#[test]
fn what_is_replayed_counts_towards_the_next_snapshot() {
    let config = vec!["snapCount=200".to_owned()];
    let mut server = Server::start(Options { config, ..Options::default() });
    let snapshots = |server: &Server| server.stderr().matches("is complete").count();
    eventually("no first snapshot", || (snapshots(&server) == 1).then_some(()));
    for round in 1..=3 {
        let mut client = server.connect();
        for i in 0..80 {
            client.create(&format!("/{round}-{i}"), b"", 0).ok();
        }
        assert_eq!(snapshots(&server), 1, "81 transactions are too few, with 200 to a snapshot");
        let before = server.stderr().len();
        server.kill();
        server.run();
        server.wait_for_output(before, &format!(" {} transactions replayed", 81 * round));
    }
    eventually("243 transactions and no snapshot", || (snapshots(&server) == 2).then_some(()));
    let before = server.stderr().len();
    server.kill();
    server.run();
    server.wait_for_output(before, " 0 transactions replayed");
}
