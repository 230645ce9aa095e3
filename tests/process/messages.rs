//! What the log says about clients: who, what and why, and not too often.

use crate::util::{Client, Server, Session, raw_connect, write_frame};
use std::io::Read;
use std::time::Duration;

/// Short enough to see a session expire.
const SHORT: Duration = Duration::from_secs(1);

fn count(server: &Server, what: &str) -> usize {
    server.stderr().matches(what).count()
}

#[test]
fn clients_that_are_turned_away_are_named_and_counted() {
    let server = Server::ringkeeper();
    let mut client = server.connect();
    client.create("/a", b"", 0).ok();
    for _ in 0..200 {
        let mut link = raw_connect(server.address()).expect("connect");
        write_frame(&mut link, b"garbage").expect("send");
        // Closed, or reset: either way after the message.
        let _ = link.read(&mut [0; 1]);
    }
    server.wait_for_output(0, "(no session yet): it does not begin with a ConnectRequest");
    assert_eq!(count(&server, "does not begin with a ConnectRequest"), 1, "one line for many");

    let ahead = Session { id: 0x77, password: vec![0; 16], timeout_ms: 1000, read_only: false };
    assert!(Client::handshake(server.address(), &ahead, 0x5000).is_err());
    server.wait_for_output(0, "(session 0x77): it has seen zxid 0x5000, and the last transaction");

    let gone = Client::reconnect(server.address(), &ahead, 0);
    assert_eq!(gone.session.id, 0);
    server.wait_for_output(0, "(session 0x77): this session is unknown here or has expired");

    assert_ne!(client.auth("sasl", "nobody").err, 0);
    server.wait_for_output(0, "failed to authenticate by the scheme \"sasl\"");
    assert_eq!(count(&server, "ConnId"), 0, "{}", server.stderr());
}

#[test]
fn sessions_that_expire_are_named_and_counted() {
    let server = Server::ringkeeper();
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(server.address(), SHORT)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.create(&format!("/e{n}"), b"", 1).ok();
    }
    let addresses: Vec<_> =
        clients.iter().map(|client| client.link().local_addr().expect("address")).collect();
    drop(clients);
    let watcher = server.connect();
    drop(watcher);
    server.wait_for_output(0, "expiring session 0x");
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains("expiring session")).expect("a line");
    assert!(addresses.iter().any(|at| line.contains(&format!("last served at {at}"))), "{line}");
    assert!(line.contains("and its timeout is 1000 ms; 1 ephemeral nodes"), "{line}");
    assert!(count(&server, "expiring session") < 5, "{log}");
}
