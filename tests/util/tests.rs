//! The harness itself, proven on the reference server.

use super::{Client, Event, Jute, Kind, Options, Server, op};
use std::time::Duration;

#[test]
fn a_crash_keeps_what_was_acknowledged_and_a_session_survives_it() {
    let mut server = Server::apache();
    let mut client = server.connect();
    client.create("/kept", b"one", 0).ok();
    client.create("/kept/mine", b"", 1).ok();
    client.set("/kept", b"two", 0).ok();
    let (session, last_zxid) = client.abandon();

    server.crash_and_restart();

    let mut client = Client::reconnect(server.address(), &session, last_zxid);
    assert_eq!(client.session.id, session.id);
    assert_eq!(client.get("/kept").0, b"two");
    assert_eq!(client.children("/kept", false), ["mine"]);
    client.close();
    assert!(server.ask("mntr").contains("zk_server_state\tstandalone"));
    server.stop();
}

#[test]
fn events_and_errors_reach_the_raw_client() {
    let server = Server::apache();
    let (mut watcher, mut writer) = (server.connect(), server.connect());
    watcher.request(op::ADD_WATCH, Jute::new().string("/w").int(1)).ok();
    let made = writer.create("/w", b"", 0).zxid;
    writer.create("/w/a", b"", 0).ok();
    assert_eq!(writer.create("/w", b"", 0).err, -110);
    assert_eq!(writer.delete("/w", -1).err, -111);

    let event = Event { zxid: made, kind: 1, state: 3, path: "/w".to_owned() };
    assert_eq!(watcher.event(), event);
    assert_eq!(watcher.event().path, "/w/a");
    assert_eq!(watcher.events(), []);
    watcher.close();
    writer.close();
}

#[test]
fn options_reach_the_server() {
    let properties = vec![
        "zookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="
            .to_owned(),
    ];
    let config = vec!["tickTime=100".to_owned(), "minSessionTimeout=300000".to_owned()];
    let server =
        Server::start(Options { kind: Kind::Apache, config, properties, ..Options::default() });
    let mut owner = server.connect();
    owner.auth("digest", "bob:secret").ok();
    let sealed = Jute::new().string("/sealed").buffer(b"").acl(&[(31, "auth", "")]).int(0);
    owner.request(op::CREATE, sealed).ok();
    let mut other = Client::connect(server.address(), Duration::from_millis(1));
    assert_eq!(other.session.timeout_ms, 300_000);
    assert_eq!(other.get_data("/sealed", false).err, -102);
    other.auth("digest", "super:test").ok();
    other.get_data("/sealed", false).ok();
}
