//! Connections to a member's ports for members from what is none.

use super::cluster::{Ensemble, SIZE};
use crate::util::{Client, Jute, raw_connect};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Bytes that no member sends: noise, lengths that are none, another protocol.
fn garbage() -> Vec<Vec<u8>> {
    let mut random: u64 = 7;
    let noise = (0..64 * 1024).map(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    });
    vec![
        noise.collect(),
        vec![0; 4096],
        vec![0xff; 4096],
        Jute::new().int(i32::MAX).raw(&[1; 100]).0,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"srvrsrvrsrvrsrvrsrvrsrvrsrvrsrvr".to_vec(),
    ]
}

/// What a client says first.
fn client_hello() -> Vec<u8> {
    let hello = Jute::new().int(0).long(0).int(10_000).long(0).buffer(&[0; 16]).bool(false);
    Jute::new().buffer(&hello.0).0
}

/// Knocks and goes away, many times; then connections that say what no member says.
fn disturb(port: SocketAddr) -> Vec<(TcpStream, Vec<u8>)> {
    for _ in 0..20 {
        drop(raw_connect(port).expect("a port for members"));
    }
    let say = |bytes: Vec<u8>| {
        let mut link = raw_connect(port).expect("a port for members");
        // An error is the refusal that came before all was sent.
        let _ = link.write_all(&bytes);
        (link, bytes)
    };
    // Silence, and a beginning without an end, are refused when `initLimit` is over.
    let all = garbage().into_iter().chain([client_hello(), vec![], vec![0, 0]]);
    all.map(say).collect()
}

/// Asserts that the other side closes; it may say something before.
fn assert_refused((mut link, said): (TcpStream, Vec<u8>)) {
    let mut answer = Vec::new();
    if let Err(error) = link.read_to_end(&mut answer) {
        let beginning = &said[..said.len().min(8)];
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{beginning:02x?}: not refused");
    }
}

#[test]
fn strangers_on_the_ports_for_members_are_refused_and_disturb_nobody() {
    let mut ensemble = Ensemble::start(&["initLimit=10"]);
    let leader = ensemble.leader();
    let mut clients: Vec<Client> = (0..SIZE).map(|at| ensemble.connect(at)).collect();
    let first = clients[0].create("/first", b"", 0).zxid;
    let ports = (0..SIZE).flat_map(|at| ensemble.peer_ports(at));
    let strangers: Vec<_> = ports.flat_map(disturb).collect();
    strangers.into_iter().for_each(assert_refused);

    assert_eq!(ensemble.leader(), leader);
    for (at, client) in clients.iter_mut().enumerate() {
        let made = client.create(&format!("/still-{at}"), b"", 0);
        made.ok();
        assert_eq!(made.zxid >> 32, first >> 32, "there was an election meanwhile");
    }
    ensemble.assert_equal("/");
    for at in 0..SIZE {
        let log = ensemble.member(at).stderr();
        assert!(!log.contains("looking for a leader again"), "{log}");
    }
}
