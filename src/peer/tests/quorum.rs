//! Tests of the quorum port.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{Instant, LinkId, Rng, ServerId, Zxid};
use crate::peer::{
    DialError, Effect, Effects, Input, LinkNumbers, Port, QuorumEvent, QuorumLinkOptions,
    QuorumLinks,
};
use crate::wire::hex;
use crate::wire::quorum::{Packet, PacketKind};

const PACKET_BYTES_MAX: usize = 1 << 20;
const HOLD_BYTES: usize = 256 << 10;
const NOW: Instant = Instant(7_000_000);
const LINK: LinkId = LinkId(1);
const HOLD: Effect = Effect::Hold { link: LINK };
const RESUME: Effect = Effect::Resume { link: LINK };

fn quorum() -> QuorumLinks {
    let wait = Duration::from_secs(20);
    QuorumLinks::new(QuorumLinkOptions { packet_bytes_max: PACKET_BYTES_MAX, wait })
}

/// A leader with one learner.
fn leading() -> (QuorumLinks, Effects) {
    let (mut links, mut effects) = (quorum(), Effects::default());
    assert_eq!(links.take_waiting(&mut effects), []);
    let event = accept(&mut links, 1, &mut effects);
    assert_eq!(event, Some(QuorumEvent::Accepted(LINK, from())));
    bytes(&mut links, &packet(0, 20), &mut effects);
    assert_eq!(take_all(&mut links, &mut effects), [0]);
    assert_eq!(effects.list, []);
    (links, effects)
}

fn from() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 40_000))
}

fn accept(links: &mut QuorumLinks, link: u64, effects: &mut Effects) -> Option<QuorumEvent> {
    let input = Input::Accepted { link: LinkId(link), port: Port::Quorum, from: from() };
    links.handle(NOW, input, effects)
}

fn bytes(links: &mut QuorumLinks, bytes: &[u8], effects: &mut Effects) -> Option<QuorumEvent> {
    links.handle(NOW, Input::Bytes { link: LINK, bytes }, effects)
}

fn packet(zxid: i64, data: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Packet::with(PacketKind::Proposal, Zxid(zxid), &vec![5; data]).encode_into(&mut out);
    out
}

/// The numbers of all packets that can be taken.
fn take_all(links: &mut QuorumLinks, effects: &mut Effects) -> Vec<i64> {
    std::iter::from_fn(|| Some(links.next_packet(LINK, effects).unwrap()?.zxid.0)).collect()
}

#[test]
fn learners_wait_for_their_leader_with_what_they_have_said() {
    let (mut links, mut effects) = (quorum(), Effects::default());
    assert_eq!(accept(&mut links, 1, &mut effects), None);
    assert_eq!(accept(&mut links, 3, &mut effects), None);
    let info = hex(
        "0000000b 0000000100000000 00000014 0000000000000003 00010000 0000000000000000 ffffffff",
    );
    assert_eq!(bytes(&mut links, &info, &mut effects), None);
    let ended = Input::Ended { link: LinkId(3), was_reset: false };
    assert_eq!(links.handle(NOW, ended, &mut effects), None);
    assert_eq!(links.take_waiting(&mut effects), [(LINK, from())]);
    assert_eq!(links.buffered(LINK), info.len());
    let packet = links.next_packet(LINK, &mut effects).unwrap().unwrap();
    assert_eq!((packet.kind, packet.zxid), (PacketKind::FollowerInfo, Zxid(1 << 32)));
    assert_eq!(packet.data, Some(&info[16..36]));
    assert_eq!(links.next_packet(LINK, &mut effects), Ok(None));
    assert_eq!(links.deadline(), None);
    assert_eq!(effects.list, []);
}

#[test]
fn learners_that_wait_are_bounded_in_number_and_time() {
    let (mut links, mut effects) = (quorum(), Effects::default());
    for link in (1..200).step_by(2) {
        accept(&mut links, link, &mut effects);
    }
    let closed: Vec<_> =
        (1..73).step_by(2).map(|link| Effect::Close { link: LinkId(link) }).collect();
    assert_eq!(effects.list, closed);
    let due = NOW + Duration::from_secs(20);
    assert_eq!(links.deadline(), Some(due));
    effects.clear();
    links.tick(Instant(due.0 - 1), &mut effects);
    assert_eq!(effects.list, []);
    links.tick(due, &mut effects);
    assert_eq!(effects.list.len(), 64);
    assert_eq!(links.take_waiting(&mut effects), []);
}

#[test]
fn a_server_that_does_not_lead_turns_learners_away() {
    let (mut links, mut effects) = (quorum(), Effects::default());
    let close = |link: u64| Effect::Close { link: LinkId(link) };
    accept(&mut links, 1, &mut effects);
    let mut numbers = LinkNumbers::default();
    let leader = links.dial(ServerId(2), &mut numbers, &mut effects);
    effects.clear();
    links.turn_learners_away(&mut effects);
    accept(&mut links, 3, &mut effects);
    assert_eq!(effects.list, [close(1), close(3)]);
    assert!(links.owns(leader) && !links.owns(LINK) && !links.owns(LinkId(3)));
    // Its role ends, and it may be elected next.
    effects.clear();
    links.close_all(&mut effects);
    assert_eq!(effects.list, [close(leader.0)]);
    accept(&mut links, 5, &mut effects);
    assert_eq!(links.take_waiting(&mut effects), [(LinkId(5), from())]);
    effects.clear();
    links.close_all(&mut effects);
    assert_eq!(effects.list, [close(5)]);
}

#[test]
fn a_dial_opens_a_connection_or_says_why_not() {
    let (mut links, mut effects) = (quorum(), Effects::default());
    let mut numbers = LinkNumbers::default();
    let [first, second] = [0, 1].map(|_| links.dial(ServerId(2), &mut numbers, &mut effects));
    let dial = |link| Effect::Dial { link, to: ServerId(2), port: Port::Quorum };
    assert_eq!(effects.list, [dial(first), dial(second)]);
    for (link, result) in [(first, Ok(from())), (second, Err(DialError::Refused))] {
        let input = Input::Dialed { link, result: result.clone() };
        let event = links.handle(NOW, input, &mut effects);
        assert_eq!(links.owns(link), result.is_ok());
        assert_eq!(event, Some(QuorumEvent::Dialed(link, result)));
    }
    let ended = |link| Input::Ended { link, was_reset: true };
    assert_eq!(links.handle(NOW, ended(first), &mut effects), Some(QuorumEvent::Ended(first)));
    assert_eq!(links.handle(NOW, ended(first), &mut effects), None);
}

#[test]
fn what_is_not_taken_by_the_socket_is_counted() {
    let (mut links, mut effects) = leading();
    links.send(LINK, b"abc", &mut effects);
    links.send(LINK, b"de", &mut effects);
    assert_eq!((links.unsent(LINK), effects.bytes.as_slice()), (5, &b"abcde"[..]));
    // Of another turn's bytes the socket has four left; these five it does not know yet.
    let unsent = Input::Unsent { link: LINK, bytes: 4 };
    assert_eq!(links.handle(NOW, unsent, &mut effects), Some(QuorumEvent::Taken(LINK)));
    assert_eq!(links.unsent(LINK), 9);
    effects.clear();
    links.handle(NOW, Input::Unsent { link: LINK, bytes: 2 }, &mut effects);
    assert_eq!(links.unsent(LINK), 2);
    links.send(LinkId(99), b"abc", &mut effects);
    assert_eq!((links.unsent(LinkId(99)), effects.list.as_slice()), (0, &[][..]));
}

#[test]
fn an_owner_that_stops_taking_holds_its_connection_back() {
    let (mut links, mut effects) = leading();
    let part = packet(1, 1_000);
    let mut arrived = 0;
    while effects.list.is_empty() {
        let event = bytes(&mut links, &part, &mut effects);
        assert_eq!(event, Some(QuorumEvent::Received(LINK)));
        arrived += part.len();
        assert_eq!(links.buffered(LINK), arrived);
    }
    assert_eq!(effects.list, [HOLD]);
    assert!((HOLD_BYTES..HOLD_BYTES + 2_000).contains(&arrived), "{arrived}");
    // What was on its way may still come.
    bytes(&mut links, &part, &mut effects);
    assert_eq!(effects.list, [HOLD]);
    effects.clear();
    while effects.list.is_empty() {
        assert!(links.next_packet(LINK, &mut effects).unwrap().is_some());
    }
    assert_eq!(effects.list, [RESUME]);
    let left = links.buffered(LINK);
    assert!((HOLD_BYTES / 2 - 2_000..HOLD_BYTES / 2).contains(&left), "{left}");
}

#[test]
fn a_packet_larger_than_what_is_kept_comes_through() {
    let (mut links, mut effects) = leading();
    let stream = [packet(1, 10), packet(2, PACKET_BYTES_MAX), packet(3, 10)].concat();
    let mut taken = Vec::new();
    for part in stream.chunks(10_000) {
        bytes(&mut links, part, &mut effects);
        taken.extend(take_all(&mut links, &mut effects));
    }
    assert_eq!(taken, [1, 2, 3]);
    assert_eq!(links.buffered(LINK), 0);
    let holds = effects.list.iter().filter(|effect| **effect == HOLD).count();
    assert_eq!(effects.list.iter().filter(|effect| **effect == RESUME).count(), holds);
    // It may become whole behind others that are not taken: then it is held once they are.
    effects.clear();
    let stream = [packet(4, HOLD_BYTES), packet(5, HOLD_BYTES)].concat();
    let (first, second) = stream.split_at(HOLD_BYTES + 100);
    bytes(&mut links, first, &mut effects);
    assert_eq!(effects.list, [HOLD]);
    assert!(links.next_packet(LINK, &mut effects).unwrap().is_some());
    assert_eq!(effects.list, [HOLD, RESUME]);
    bytes(&mut links, second, &mut effects);
    assert_eq!(effects.list, [HOLD, RESUME, HOLD]);
    assert_eq!(take_all(&mut links, &mut effects), [5]);
    assert_eq!(effects.list, [HOLD, RESUME, HOLD, RESUME]);
}

#[test]
fn a_learner_that_waits_may_not_send_without_end() {
    let (mut links, mut effects) = (quorum(), Effects::default());
    accept(&mut links, 1, &mut effects);
    let stream = [packet(1, 20), packet(2, PACKET_BYTES_MAX)].concat();
    let (first, rest) = stream.split_at(4097);
    bytes(&mut links, first, &mut effects);
    assert_eq!(effects.list, [HOLD]);
    links.take_waiting(&mut effects);
    assert_eq!(take_all(&mut links, &mut effects), [1]);
    assert_eq!(effects.list, [HOLD, RESUME]);
    bytes(&mut links, rest, &mut effects);
    assert_eq!(take_all(&mut links, &mut effects), [2]);
}

/// Before it has introduced itself it may be anybody, also where this server leads.
#[test]
fn the_first_packet_of_a_connection_is_a_small_one() {
    let large = packet(1, 1025);
    let (mut links, mut effects) = (quorum(), Effects::default());
    accept(&mut links, 1, &mut effects);
    assert_eq!(bytes(&mut links, &large[..16], &mut effects), None);
    assert_eq!(effects.list, [Effect::Close { link: LINK }]);
    links.take_waiting(&mut effects);
    accept(&mut links, 1, &mut effects);
    bytes(&mut links, &large[..15], &mut effects);
    assert_eq!(links.next_packet(LINK, &mut effects), Ok(None));
    bytes(&mut links, &large[15..16], &mut effects);
    assert!(links.next_packet(LINK, &mut effects).is_err());
}

#[test]
fn raw_bytes_stand_between_packets() {
    let mut rng = Rng::new(4);
    for _ in 0..300 {
        let (mut links, mut effects) = leading();
        // As packets these bytes would be refused.
        let raw = vec![0xfe; rng.below(100_000) as usize];
        let stream = [&packet(1, 30)[..], &raw, &packet(2, 30), &packet(3, 0)].concat();
        let mut rest = stream.as_slice();
        let (mut packets, mut left) = (Vec::new(), raw.len());
        while packets.len() < 3 {
            let (part, after) =
                rest.split_at(rng.below(rest.len().min(20_000) as u64 + 1) as usize);
            bytes(&mut links, part, &mut effects);
            rest = after;
            loop {
                if !packets.is_empty() && left > 0 {
                    let most = left.min(1 + rng.below(9_000) as usize);
                    let taken = links.take_bytes(LINK, most, &mut effects);
                    assert!(taken.iter().all(|byte| *byte == 0xfe) && taken.len() <= most);
                    left -= taken.len();
                    if taken.is_empty() {
                        break;
                    }
                } else {
                    let Some(packet) = links.next_packet(LINK, &mut effects).unwrap() else {
                        break;
                    };
                    packets.push(packet.zxid.0);
                }
            }
        }
        assert_eq!((packets, links.buffered(LINK)), (vec![1, 2, 3], 0));
    }
}

#[test]
fn raw_bytes_that_are_not_taken_are_held_back() {
    let (mut links, mut effects) = leading();
    assert_eq!(links.take_bytes(LINK, 9, &mut effects), b"");
    bytes(&mut links, &vec![1; HOLD_BYTES + 1], &mut effects);
    assert_eq!(effects.list, [HOLD]);
    assert_eq!(links.take_bytes(LINK, HOLD_BYTES / 2, &mut effects).len(), HOLD_BYTES / 2);
    assert_eq!(effects.list, [HOLD]);
    assert_eq!(links.take_bytes(LINK, 2, &mut effects), [1, 1]);
    assert_eq!(effects.list, [HOLD, RESUME]);
}

#[test]
fn what_is_no_packet_is_an_error_as_often_as_it_is_asked_for() {
    let (mut links, mut effects) = leading();
    bytes(
        &mut links,
        &[packet(1, 3), hex("00000003 0000000200000000 fffffffe")].concat(),
        &mut effects,
    );
    assert!(links.next_packet(LINK, &mut effects).unwrap().is_some());
    for _ in 0..2 {
        assert!(links.next_packet(LINK, &mut effects).is_err());
        bytes(&mut links, &[0; 50], &mut effects);
    }
    links.close(LINK, &mut effects);
    assert_eq!(effects.list, [Effect::Close { link: LINK }]);
    assert_eq!(links.next_packet(LINK, &mut effects), Ok(None));
    assert_eq!(links.take_bytes(LINK, 5, &mut effects), b"");
}

#[test]
fn random_bytes_give_packets_or_errors() {
    let (mut packets, mut errors) = (0, 0);
    for seed in 0..500 {
        let mut rng = Rng::derived(seed, "peer quorum", 0);
        let (mut links, mut effects) = leading();
        for _ in 0..100 {
            let mut part = vec![0; rng.below(60) as usize];
            rng.fill(&mut part);
            part.iter_mut().for_each(|byte| *byte &= if *byte & 7 == 0 { 15 } else { 0 });
            bytes(&mut links, &part, &mut effects);
            match links.next_packet(LINK, &mut effects) {
                Ok(Some(_)) => packets += 1,
                Ok(None) => {}
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
    }
    assert!(packets > 500 && errors > 100, "{packets} {errors}");
}
