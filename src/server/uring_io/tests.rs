//! The edge of the driver over real sockets.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use crate::base::Now;
use crate::driver::Edge;
use crate::front::{FrontOptions, FrontSink};
use crate::sys::ring::RingOptions;

use super::*;

mod members;

/// Only what sockets do matters here.
struct Deaf;

impl FrontSink for Deaf {
    fn frames(&mut self, _: ConnId, _: &[u8]) {}

    fn heard(&mut self, _: ConnId) {}

    fn drained(&mut self, _: ConnId) {}

    fn word(&mut self, _: ConnId, _: [u8; 4], _: &[u8]) {}
}

/// One connection over real sockets, the only one allowed.
struct Scene {
    edge: Edge<UringIo>,
    census: Arc<Census>,
    io: UringIo,
    now: Now,
    conn: ConnId,
    peer: TcpStream,
}

/// A port without connections.
fn port(census: &Arc<Census>, listeners: Vec<OwnedFd>) -> UringIo {
    let (entries, multishot) = (64, true);
    let options = RingOptions { entries, multishot, buffers: 8, buffer_size: 4096 };
    let (mailbox, inbox) = Mailbox::new().unwrap();
    let gate = Gate { front: 0, listeners, census: Arc::clone(census), keepalive: false };
    UringIo::new(Ring::new(options).unwrap(), gate, inbox, 0, vec![mailbox], None).unwrap()
}

impl Scene {
    fn new() -> Scene {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, address) = listener.accept().unwrap();
        let census = Arc::new(Census::new(0, 1));
        let mut edge = Edge::new(FrontOptions::default());
        let (mut io, now) = (port(&census, Vec::new()), cpu::now());
        let conn = edge.adopt(now, &mut io, socket.into(), address).unwrap().unwrap();
        Scene { edge, census, io, now, conn, peer }
    }

    /// Handles what the kernel completes until `is_done`.
    fn run(&mut self, is_done: impl Fn(&Edge<UringIo>) -> bool) {
        for _ in 0..1000 {
            if is_done(&self.edge) {
                return;
            }
            self.io.wait(Some(Duration::from_millis(50)), || false).unwrap();
            while let Some(completion) = self.io.next_completion().unwrap() {
                let (edge, io, now) = (&mut self.edge, &mut self.io, self.now);
                match completion {
                    Completion::Received { conn, result, more } => {
                        edge.received(now, io, conn, result, more, &mut Deaf).unwrap()
                    }
                    Completion::Sent { conn, buf, sent } => {
                        edge.sent(now, io, conn, buf, sent, &mut Deaf).unwrap()
                    }
                    _ => panic!("nothing else was begun"),
                };
            }
        }
        panic!("the kernel does not complete what it should");
    }

    fn assert_free(&self) {
        assert!(self.edge.front.is_empty());
        let ip = self.peer.local_addr().unwrap().ip();
        assert_eq!(self.census.enter(ip), Ok(()), "its place is taken");
    }
}

/// A new connection takes one of the buffers, however much it has sent.
#[test]
fn what_a_new_connection_has_sent_is_received_bit_by_bit() {
    let mut scene = Scene::new();
    // All 8 buffers of 4096 bytes, and the same again. The length says that more is to follow.
    let mut sent = vec![0; 64 << 10];
    sent[..4].copy_from_slice(&(1_i32 << 19).to_be_bytes());
    scene.peer.write_all(&sent).unwrap();
    let mut received = Vec::new();
    for _ in 0..1000 {
        if received.len() == 3 {
            break;
        }
        scene.io.wait(Some(Duration::from_millis(50)), || false).unwrap();
        let before = received.len();
        while let Some(completion) = scene.io.next_completion().unwrap() {
            let Completion::Received { conn, result, more } = completion else {
                panic!("nothing else was begun")
            };
            if let Received::Bytes(bytes) = &result {
                received.push(scene.io.bytes(bytes).len());
            }
            assert!(!more, "it is asked for once more");
            let (edge, io) = (&mut scene.edge, &mut scene.io);
            edge.received(scene.now, io, conn, result, more, &mut Deaf).unwrap();
        }
        assert!(received.len() <= before + 1, "{received:?}");
    }
    assert_eq!(received, [4096; 3]);
}

#[test]
fn a_closed_connection_whose_peer_never_reads_is_freed() {
    let mut scene = Scene::new();
    // More than both sockets' buffers hold.
    scene.edge.queue(&mut scene.io, scene.conn, &vec![7; 48 << 20]);
    scene.edge.send_ready(&mut scene.io).unwrap();
    let mut gone = Vec::new();
    scene.edge.close(scene.now, &mut scene.io, scene.conn, true).unwrap();
    scene.now.mono = scene.now.mono + Duration::from_secs(5);
    scene.edge.sweep(scene.now, &mut scene.io, &mut gone, &mut Deaf);
    assert!(!scene.edge.is_flushed(), "it has its time to read");
    scene.now.mono = scene.now.mono + Duration::from_secs(5);
    scene.edge.sweep(scene.now, &mut scene.io, &mut gone, &mut Deaf);
    scene.run(|edge| edge.front.is_empty());
    scene.assert_free();
    assert_eq!(gone, [], "the replica closed it itself");
}

#[test]
fn a_closed_connection_whose_peer_never_closes_is_freed() {
    let mut scene = Scene::new();
    scene.edge.queue(&mut scene.io, scene.conn, b"bye");
    scene.edge.send_ready(&mut scene.io).unwrap();
    scene.edge.close(scene.now, &mut scene.io, scene.conn, true).unwrap();
    scene.run(Edge::is_flushed);
    assert!(!scene.edge.front.is_empty(), "the peer may still read");
    scene.now.mono = scene.now.mono + Duration::from_secs(2);
    scene.edge.sweep(scene.now, &mut scene.io, &mut Vec::new(), &mut Deaf);
    scene.run(|edge| edge.front.is_empty());
    scene.assert_free();
}

#[test]
fn a_server_that_was_held_up_reads_before_it_ends_idle_connections() {
    for is_silent in [false, true] {
        let mut scene = Scene::new();
        let mut gone = Vec::new();
        for _ in 0..2 {
            scene.edge.sweep(scene.now, &mut scene.io, &mut gone, &mut Deaf);
            scene.now.mono = scene.now.mono + Duration::from_secs(1);
        }
        scene.now.mono = scene.now.mono + Duration::from_secs(3600);
        if !is_silent {
            scene.peer.write_all(&[0, 0, 0, 1, 7]).unwrap();
        }
        scene.edge.sweep(scene.now, &mut scene.io, &mut gone, &mut Deaf);
        assert_eq!(gone, [], "nothing was read yet");
        if !is_silent {
            let now = scene.now.mono;
            scene.run(|edge| {
                let mut idle = Vec::new();
                edge.front.idle(now, &mut idle);
                idle.is_empty()
            });
        }
        scene.now.mono = scene.now.mono + Duration::from_secs(1);
        scene.edge.sweep(scene.now, &mut scene.io, &mut gone, &mut Deaf);
        assert_eq!(gone.is_empty(), !is_silent);
    }
}

#[test]
fn every_accept_that_failed_is_armed_again() {
    let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let listeners = listeners.into_iter().map(Into::into).collect();
    let census = Arc::new(Census::new(0, 0));
    let mut edge: Edge<UringIo> = Edge::new(FrontOptions::default());
    let (mut io, now) = (port(&census, listeners), cpu::now());
    edge.accept_ended(now, &mut io, 0, true).unwrap();
    edge.accept_ended(now, &mut io, 1, true).unwrap();
    let later = Now { mono: now.mono + Duration::from_secs(1), ..now };
    assert!(edge.deadline().unwrap() <= later.mono);
    edge.accept_due(later, &mut io).unwrap();
    let _peers: Vec<_> = addresses.iter().map(|at| TcpStream::connect(at).unwrap()).collect();
    let mut accepted = [false; 2];
    for _ in 0..1000 {
        io.wait(Some(Duration::from_millis(50)), || false).unwrap();
        while let Some(completion) = io.next_completion().unwrap() {
            if let Completion::Accepted { listener, result, .. } = completion {
                drop(result.unwrap());
                accepted[listener] = true;
            }
        }
        if accepted == [true; 2] {
            return;
        }
    }
    panic!("accepted: {accepted:?}");
}
