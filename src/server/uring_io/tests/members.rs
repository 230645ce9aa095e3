//! Members that connect to each other over real sockets.

use std::collections::BTreeMap;

use crate::driver::Links;
use crate::peer::{DialError, Effect, Effects, Input, Port};

use super::*;

#[derive(PartialEq, Eq, Debug)]
enum Heard {
    Accepted(Port),
    Dialed(Result<(), DialError>),
    Ended { was_reset: bool },
}

/// One member: its sockets, and what it heard.
struct Side {
    links: Links<UringIo>,
    io: UringIo,
    now: Now,
    heard: Vec<Heard>,
    bytes: Vec<u8>,
    unsent: Option<usize>,
    last: LinkId,
}

impl Side {
    /// Listens at a port that the kernel chooses, if it shall, and knows where the other one is.
    fn new(other: Option<SocketAddr>) -> (Side, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut addresses = BTreeMap::new();
        for port in [Port::Election, Port::Quorum] {
            let at = other.iter().map(|at| (at.ip().to_string(), at.port())).collect();
            addresses.insert((ServerId(2), port), at);
        }
        let (listeners, dial_timeout) =
            (vec![(Port::Quorum, listener.into())], Duration::from_secs(5));
        let mut io = super::port(&Arc::new(Census::new(0, 0)), Vec::new());
        let held_up_max = Duration::from_secs(5);
        let ports =
            MemberPorts { sid: ServerId(1), listeners, addresses, dial_timeout, held_up_max };
        io.serve_members(ports).unwrap();
        io.start_listening_to_members().unwrap();
        let (links, now, heard) = (Links::new(), cpu::now(), Vec::new());
        let (bytes, unsent, last) = (Vec::new(), None, LinkId(0));
        (Side { links, io, now, heard, bytes, unsent, last }, address)
    }

    fn wish(&mut self, effect: Effect) {
        let effects = Effects { list: vec![effect], ..Effects::default() };
        self.links.carry_out(self.now, &mut self.io, &effects).unwrap();
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut effects = Effects::default();
        effects.send(self.last, bytes);
        self.links.carry_out(self.now, &mut self.io, &effects).unwrap();
    }

    /// A turn of its loop.
    fn turn(&mut self) {
        self.links.send_ready(&mut self.io).unwrap();
        self.io.wait(Some(Duration::from_millis(1)), || false).unwrap();
        let Side { links, io, now, heard, bytes, unsent, last } = self;
        while let Some(completion) = io.next_of_members().unwrap() {
            let mut hear = |input: Input<'_>| match input {
                Input::Accepted { link, port, .. } => {
                    *last = link;
                    heard.push(Heard::Accepted(port));
                }
                Input::Dialed { link, result } => {
                    *last = link;
                    heard.push(Heard::Dialed(result.map(|_| ())));
                }
                Input::Bytes { bytes: more, .. } => bytes.extend_from_slice(more),
                Input::Unsent { bytes, .. } => *unsent = Some(bytes),
                Input::Ended { was_reset, .. } => heard.push(Heard::Ended { was_reset }),
            };
            links.complete(*now, io, completion, &mut hear).unwrap();
        }
        links.send_ready(io).unwrap();
        links.check();
    }
}

fn turns_until(sides: &mut [&mut Side], is_done: impl Fn(&[&mut Side]) -> bool) {
    for _ in 0..10_000 {
        if is_done(sides) {
            return;
        }
        sides.iter_mut().for_each(|side| side.turn());
    }
    let heard: Vec<_> = sides.iter().map(|side| (&side.heard, side.bytes.len())).collect();
    panic!("the kernel does not complete what it should: {heard:?}");
}

const DIAL: Effect = Effect::Dial { link: LinkId(2), to: ServerId(2), port: Port::Quorum };

#[test]
fn members_connect_and_exchange_bytes_and_close() {
    let (mut one, at) = Side::new(None);
    let (mut two, _) = Side::new(Some(at));
    two.wish(DIAL);
    let are_connected = |sides: &[&mut Side]| sides.iter().all(|side| !side.heard.is_empty());
    turns_until(&mut [&mut one, &mut two], are_connected);
    assert_eq!(one.heard, [Heard::Accepted(Port::Quorum)]);
    assert_eq!(two.heard, [Heard::Dialed(Ok(()))]);
    // More than the buffers of both sockets, so that sends go on piece by piece.
    let text: Vec<u8> = (0..8u32 << 20).map(|at| (at ^ at >> 8) as u8).collect();
    two.send(&text);
    one.send(b"meanwhile");
    turns_until(&mut [&mut one, &mut two], |sides| {
        sides[0].bytes.len() == 8 << 20 && sides[1].bytes.len() == 9 && sides[1].unsent == Some(0)
    });
    assert!(one.bytes == text && two.bytes == b"meanwhile");
    one.bytes.clear();
    one.wish(Effect::Hold { link: one.last });
    two.send(b"last words");
    two.wish(Effect::Close { link: LinkId(2) });
    for _ in 0..50 {
        one.turn();
        two.turn();
    }
    assert_eq!(one.heard.len(), 1, "it does not read");
    one.wish(Effect::Resume { link: one.last });
    turns_until(&mut [&mut one, &mut two], |sides| sides.iter().all(|side| side.links.is_empty()));
    assert_eq!(one.bytes, b"last words");
    assert_eq!(one.heard[1..], [Heard::Ended { was_reset: false }]);
    assert_eq!(two.heard.len(), 1, "it has closed itself");
}

#[test]
fn where_nobody_listens_a_dial_is_refused() {
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let (mut side, _) = Side::new(Some(gone));
    side.wish(DIAL);
    turns_until(&mut [&mut side], |sides| !sides[0].heard.is_empty());
    assert_eq!(side.heard, [Heard::Dialed(Err(DialError::Refused))]);
    // A member of which nothing is known fails otherwise, and at once.
    side.heard.clear();
    side.wish(Effect::Dial { link: LinkId(4), to: ServerId(9), port: Port::Election });
    turns_until(&mut [&mut side], |sides| !sides[0].heard.is_empty());
    assert!(matches!(side.heard[0], Heard::Dialed(Err(DialError::Failed(_)))), "{:?}", side.heard);
    assert!(side.links.is_empty());
}

#[test]
fn a_member_that_is_killed_resets_its_connections() {
    let (mut one, at) = Side::new(None);
    let (mut two, _) = Side::new(Some(at));
    two.wish(DIAL);
    let are_connected = |sides: &[&mut Side]| sides.iter().all(|side| !side.heard.is_empty());
    turns_until(&mut [&mut one, &mut two], are_connected);
    // The machine of the other one answers with a reset as soon as it is sent something.
    let peer = TcpStream::connect(at).unwrap();
    turns_until(&mut [&mut one], |sides| sides[0].heard.len() == 2);
    let heard = one.heard.len();
    net::set_reset_on_close(&peer).unwrap();
    drop(peer);
    turns_until(&mut [&mut one], |sides| sides[0].heard.len() > heard);
    assert_eq!(one.heard.last(), Some(&Heard::Ended { was_reset: true }));
    assert_eq!(one.links.len(), 1, "the other connection stays");
}

/// Clients that send more than is read use up their own buffers, and take none from members.
#[test]
fn a_flood_of_clients_leaves_members_their_buffers_and_their_turn() {
    let (mut one, at) = Side::new(None);
    let (mut two, _) = Side::new(Some(at));
    two.wish(DIAL);
    let are_connected = |sides: &[&mut Side]| sides.iter().all(|side| !side.heard.is_empty());
    turns_until(&mut [&mut one, &mut two], are_connected);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near: OwnedFd = listener.accept().unwrap().0.into();
    one.io.receive(&near, ConnId::new(1, 1), false).unwrap();
    // The port of these tests has 8 buffers of 4096 bytes for clients.
    client.write_all(&[7; 64 << 10]).unwrap();
    for _ in 0..20 {
        one.turn();
    }
    two.send(b"a vote");
    turns_until(&mut [&mut one, &mut two], |sides| sides[0].bytes == b"a vote");
    let mut from_client = 0;
    while let Some(completion) = one.io.next_completion().unwrap() {
        let Completion::Received { result, .. } = completion else { panic!("nothing else began") };
        from_client += usize::from(matches!(result, Received::Bytes(_)));
    }
    assert_eq!(from_client, 8, "all buffers of clients were in use");
}
