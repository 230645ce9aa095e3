//! What clients may do to a server, seen from outside: limits, garbage, floods.

use crate::util::{
    Client, Jute, Options, SESSION_TIMEOUT, Server, Session, eventually, op, raw_connect,
    read_frame, write_frame,
};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

fn with(lines: &[&str]) -> Server {
    let config = lines.iter().map(|line| (*line).to_owned()).collect();
    Server::start(Options { config, ..Options::default() })
}

/// The server ends this connection without another byte.
fn assert_ended(mut link: TcpStream) {
    let mut rest = Vec::new();
    match link.read_to_end(&mut rest) {
        Ok(count) => assert_eq!(count, 0, "bytes before the end: {rest:02x?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn a_connection_too_many_is_reset() {
    let server = with(&["maxClientCnxns=3"]);
    let mut clients = connect_up_to(&server, 3);
    for _ in 0..3 {
        assert!(is_refused(&server));
    }
    for client in &mut clients {
        client.ping();
    }
    clients.pop().expect("a client").close();
    connect_up_to(&server, 1);
}

/// Clients that take all files must not keep the log from its next segment.
#[test]
fn a_server_short_of_files_refuses_connections_and_goes_on_writing() {
    let wrapper = ["prlimit", "--nofile=128", "--"].map(str::to_owned).to_vec();
    let config = vec!["ringkeeper.log.segmentSizeInKb=64".to_owned()];
    let mut server = Server::start(Options { config, wrapper, ..Options::default() });
    server.wait_for_output(0, "this process may have 128 files open, which leaves room for ");
    let started = Instant::now();
    let mut client = server.connect();
    // One by one: of many at once the kernel would accept more than there is room for, and the
    // server could have no file until it has closed them.
    let fresh = Session { id: 0, password: vec![0; 16], timeout_ms: 600_000, read_only: false };
    let mut clients = Vec::new();
    while let Ok(client) = Client::handshake(server.address(), &fresh, 0) {
        clients.push(client);
        assert!(clients.len() < 128, "more connections than files");
    }
    server.wait_for_output(0, "files that this process may still open are for log and snapshots");
    for number in 0..200 {
        client.create(&format!("/{number}"), &[7; 1000], 0).ok();
    }
    drop(clients);
    connect_up_to(&server, 10);
    assert!(server.stop().success(), "{}", server.stderr());
    let text = server.stderr();
    // Twice, and each again with how many more there were, at most every ten seconds.
    let told = text.matches("raise LimitNOFILE").count() as u64;
    assert!(told <= 4 + 2 * (started.elapsed().as_secs() / 10), "{text}");
    assert!(!text.contains("ERROR"), "{text}");
}

#[test]
fn what_cannot_be_framed_ends_the_connection_and_nothing_else() {
    let server = with(&["nio.sessionlessCnxnTimeout=10000"]);
    let mut witness = server.connect();
    let bad: [&[u8]; 5] = [
        &[0xff; 64],
        &[0x80, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
    ];
    for bytes in bad {
        let mut link = raw_connect(server.address()).expect("connect");
        link.write_all(bytes).expect("send");
        assert_ended(link);
        witness.ping();
    }
    // The same after a handshake.
    for length in [-1, i32::MIN, 1_048_576, i32::MAX] {
        let mut client = server.connect();
        client.ping();
        client.send_raw(&length.to_be_bytes());
        client.assert_closed();
        witness.ping();
    }
    // Requests before the bad frame are served.
    let mut client = server.connect();
    let good = Jute::new().string("/before").buffer(b"").open_acl().int(0);
    client.send(op::CREATE, good);
    client.send_raw(&(-1i32).to_be_bytes());
    let _ = client.try_receive();
    client.assert_closed();
    eventually("/before", || witness.exists("/before", false));
}

/// The log has one line for all that happens within ten seconds, so each message takes a server.
#[test]
fn what_cannot_be_framed_is_named_with_its_sender() {
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "text, \"GET \": HTTP or an unknown four-letter word?"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "it speaks TLS, and this port does not"),
    ] {
        let server = with(&[]);
        let mut link = raw_connect(server.address()).expect("connect");
        let who = link.local_addr().expect("address");
        link.write_all(bytes).expect("send");
        assert_ended(link);
        server.wait_for_output(0, &format!("closing the connection of {who}"));
        server.wait_for_output(0, why);
    }
    let server = with(&[]);
    let mut client = server.connect();
    let (session, who) = (client.session.id, client.link().local_addr().expect("address"));
    client.send_raw(&1_048_576i32.to_be_bytes());
    client.assert_closed();
    let why = "a request of 1048576 bytes, above jute.maxbuffer=1048575";
    let line = format!("closing the connection of {who} (session 0x{session:x}): {why}");
    server.wait_for_output(0, &line);
}

#[test]
fn every_length_of_garbage_handshake_is_survived() {
    let server = Server::ringkeeper();
    for length in 0..60 {
        let mut link = raw_connect(server.address()).expect("connect");
        write_frame(&mut link, &vec![0x41; length]).expect("send");
        link.shutdown(Shutdown::Write).expect("shutdown");
        let mut rest = Vec::new();
        let _ = link.read_to_end(&mut rest);
    }
    server.connect().ping();
}

#[test]
fn stalled_connections_without_a_session_are_closed() {
    let server = with(&["nio.sessionlessCnxnTimeout=1000", "4lw.commands.whitelist=stmk"]);
    let silent = raw_connect(server.address()).expect("connect");
    let mut half_length = raw_connect(server.address()).expect("connect");
    half_length.write_all(&[0, 0]).expect("send");
    let mut half_frame = raw_connect(server.address()).expect("connect");
    half_frame.write_all(&[0, 0, 0, 45, 0, 0]).expect("send");
    let mut half_word = raw_connect(server.address()).expect("connect");
    half_word.write_all(b"ruo").expect("send");
    let mut no_argument = raw_connect(server.address()).expect("connect");
    no_argument.write_all(b"stmk").expect("send");
    for link in [silent, half_length, half_frame, half_word, no_argument] {
        assert_ended(link);
    }
    server.connect().ping();
}

#[test]
fn a_frame_in_single_bytes_is_a_frame() {
    let server = Server::ringkeeper();
    let mut link = raw_connect(server.address()).expect("connect");
    let connect = Jute::new().int(0).long(0).int(8000).long(0).buffer(&[0; 16]).bool(false);
    for byte in Jute::new().buffer(&connect.0).0 {
        link.write_all(&[byte]).expect("send");
    }
    assert_eq!(read_frame(&mut link).expect("a response").len(), 37);
}

#[test]
fn four_letter_words_are_answered_while_data_is_pending() {
    let server = Server::ringkeeper();
    let mut client = server.connect();
    for number in 0..2000 {
        let path = format!("/n{number}");
        client.send(op::CREATE, Jute::new().string(&path).buffer(b"").open_acl().int(0));
    }
    assert_eq!(server.ask("ruok"), "imok");
    for _ in 0..2000 {
        client.receive().ok();
    }
    // Text after a word is ignored, as Apache ignores it.
    let mut link = raw_connect(server.address()).expect("connect");
    link.write_all(b"ruok\r\nand more").expect("send");
    let mut answer = String::new();
    link.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "imok");
}

#[test]
fn a_slow_reader_gets_everything_in_order() {
    let server = Server::ringkeeper();
    let mut client = server.connect();
    client.create("/big", &vec![7; 200_000], 0).ok();
    let mut reader = server.connect();
    let xids: Vec<i32> = (0..300)
        .map(|_| reader.send(op::GET_DATA, Jute::new().string("/big").bool(false)))
        .collect();
    client.ping();
    for xid in xids {
        let reply = reader.receive();
        assert_eq!(reply.xid, xid);
        assert_eq!(reply.ok().buffer().expect("data").len(), 200_000);
    }
}

/// The value of a figure of `mntr`.
fn figure(server: &Server, name: &str) -> u64 {
    let text = server.ask("mntr");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// All of the lists would take minutes. Others are served meanwhile, and when the client leaves,
/// what it asked for is forgotten.
#[test]
fn what_a_client_that_left_had_asked_for_is_not_done() {
    const NODES: i32 = 4_000;
    const LISTS: u64 = 20_000;
    const GET_EPHEMERALS: i32 = 103;
    let server = with(&[]);
    let mut flooder = server.connect();
    for part in 0..NODES / 100 {
        for number in part * 100..(part + 1) * 100 {
            let path = format!("/ephemeral-{number}");
            let body = Jute::new().string(&path).buffer(&[]).open_acl().int(1);
            flooder.send(op::CREATE, body);
        }
        for _ in 0..100 {
            flooder.receive().ok();
        }
    }
    let mut other = server.connect();
    let before = figure(&server, "zk_packets_received");
    let frame = [13, 0, GET_EPHEMERALS, 1].map(i32::to_be_bytes).concat();
    let frame = [&frame[..], b"/"].concat();
    flooder.send_raw(&frame.repeat(LISTS as usize));
    other.ping();
    other.get("/ephemeral-1");
    flooder.link().shutdown(Shutdown::Both).expect("a connection");
    eventually("the flooder is gone", || {
        (figure(&server, "zk_num_alive_connections") <= 2).then_some(())
    });
    other.ping();
    let done = figure(&server, "zk_packets_received") - before;
    assert!(done < LISTS / 2, "{done} requests were looked at");
}

#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    let mut server = Server::ringkeeper();
    let mut witness = server.connect();
    let descriptors =
        |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
    let pid = server.pid();
    let before = descriptors(pid);
    for round in 0..20 {
        let links: Vec<TcpStream> =
            (0..100).map(|_| raw_connect(server.address()).expect("connect")).collect();
        for (number, mut link) in links.into_iter().enumerate() {
            // Some with a handshake that nobody waits for, some with half of one, some silent.
            let connect = Jute::new().int(0).long(0).int(8000).long(0).buffer(&[0; 16]).bool(false);
            match (number + round) % 3 {
                0 => drop(write_frame(&mut link, &connect.0)),
                1 => drop(link.write_all(&[0, 0, 0, 44, 0])),
                _ => {}
            }
        }
        witness.ping();
    }
    eventually("the descriptors are closed", || (descriptors(pid) <= before + 4).then_some(()));
    server.connect().close();
}

/// Opens connections until one is refused; those that stay.
fn connect_up_to(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    // What the harness or the test closed just before may not be gone yet.
    eventually("as many connections as allowed", || {
        let timeout_ms = i32::try_from(SESSION_TIMEOUT.as_millis()).expect("ten minutes");
        let fresh = Session { id: 0, password: vec![0; 16], timeout_ms, read_only: false };
        clients.extend(Client::handshake(server.address(), &fresh, 0).ok());
        (clients.len() == count).then_some(())
    });
    clients
}

fn is_refused(server: &Server) -> bool {
    // The reset may come at any moment, even while the socket is being set up.
    let Ok(mut link) = raw_connect(server.address()) else { return true };
    let _ = link.write_all(b"ruok");
    let mut answer = String::new();
    link.read_to_string(&mut answer).is_err() || answer.is_empty()
}

/// Connections are dealt to the threads in turn, so that a limit divided among them would be
/// reached by one of them early, or by all of them late.
#[test]
fn limits_hold_for_all_network_threads_together() {
    for limit in ["maxClientCnxns=3", "maxCnxns=3"] {
        let cores = ["ringkeeper.cores.network=0,1", "ringkeeper.cores.pipeline=0"];
        let config = [limit, cores[0], cores[1]];
        let server = with(&config);
        server.wait_for_output(0, "network 1 on CPU 1");
        let mut clients = connect_up_to(&server, 3);
        for _ in 0..4 {
            assert!(is_refused(&server), "{limit}: a fourth connection");
        }
        // Whatever thread has room, three is what there may be.
        for _ in 0..6 {
            clients.remove(0).close();
            clients.extend(connect_up_to(&server, 1));
            assert!(is_refused(&server), "{limit}: a fourth connection");
        }
        for client in &mut clients {
            client.ping();
        }
    }
}
