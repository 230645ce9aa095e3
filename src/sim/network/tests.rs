//! The network alone, with streams between hosts: what every stream promises, whatever befalls it.

use super::*;

const A: Endpoint = Endpoint::Host(0);
const B: Endpoint = Endpoint::Host(1);
const DOOR: Door = Door::Members(Port::Quorum);
const SECOND: u64 = 1_000 * MS;

fn network(window: usize, seed: u64) -> Network {
    Network::new(NetworkOptions { window }, Rng::derived(seed, "network", 0))
}

/// What arrived until `until`, by end.
fn run(network: &mut Network, until: u64) -> Vec<(u64, Delivery)> {
    let mut found = Vec::new();
    while let Some(now) = network.deadline().filter(|&at| at <= until) {
        while let Some(delivery) = network.poll(now) {
            found.push((now, delivery));
        }
    }
    found
}

fn bytes_of(found: &[(u64, Delivery)], end: End) -> Vec<u8> {
    let pieces = found.iter().filter(|(_, delivery)| delivery.end == end);
    let bytes = pieces.filter_map(|(_, delivery)| match &delivery.what {
        Arrived::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    });
    bytes.flatten().collect()
}

fn has(found: &[(u64, Delivery)], end: End, what: &Arrived) -> bool {
    found.iter().any(|(_, delivery)| delivery.end == end && delivery.what == *what)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8 ^ (at >> 8) as u8).collect()
}

#[test]
fn what_was_sent_arrives_in_order_and_then_the_end() {
    for pace in [Pace::Fast, Pace::Dribble, Pace::Slow] {
        let mut network = network(0, 1);
        let a = network.open(0, [A, B], DOOR, [Pace::Fast, pace]);
        let sent = text(10_000);
        for piece in sent.chunks(3_000) {
            network.send(0, a, piece);
        }
        network.close(0, a);
        let found = run(&mut network, 100 * SECOND);
        let of_b: Vec<_> = found.iter().filter(|(_, delivery)| delivery.to == B).collect();
        assert_eq!(of_b[0].1.what, Arrived::Opened(DOOR));
        assert_eq!(of_b[of_b.len() - 1].1.what, Arrived::Finished);
        assert_eq!(bytes_of(&found, a.peer()), sent, "{pace:?}");
    }
}

#[test]
fn a_host_has_room_again_when_its_bytes_arrived_or_fit_the_window() {
    for (window, waits) in [(0, true), (4_000, false)] {
        let mut network = network(window, 2);
        let a = network.open(0, [A, B], DOOR, [Pace::Fast; 2]);
        network.send(0, a, &text(4_000));
        let found = run(&mut network, SECOND);
        let time = |what: &dyn Fn(&Arrived) -> bool| {
            found.iter().find(|(_, delivery)| what(&delivery.what)).map(|(at, _)| *at)
        };
        let taken = time(&|what| *what == Arrived::Taken).unwrap();
        let arrived = time(&|what| matches!(what, Arrived::Bytes(_))).unwrap();
        assert_eq!(taken >= arrived, waits);
    }
}

#[test]
fn a_cut_loses_what_is_in_flight_and_each_end_learns_or_never_does() {
    for seed in 0..200 {
        let mut network = network(0, seed);
        let a = network.open(0, [A, B], DOOR, [Pace::Fast, Pace::Dribble]);
        let b = a.peer();
        let sent = text(5_000);
        network.send(0, a, &sent);
        let at = 150 * US;
        let mut found = run(&mut network, at);
        let told = [seed & 1 == 0, seed & 2 == 0];
        network.cut(at, a, told);
        network.send(at, a, b"lost");
        network.send(at, b, b"lost");
        // Before a member's kernel finds out by itself.
        found.extend(run(&mut network, GIVE_UP / 2));
        let arrived = bytes_of(&found, b);
        assert!(sent.starts_with(&arrived) && arrived.len() < sent.len());
        assert_eq!(bytes_of(&found, a), b"");
        assert_eq!([a, b].map(|end| has(&found, end, &Arrived::Failed)), told);
    }
}

#[test]
fn a_partition_holds_one_direction_until_it_heals() {
    let mut network = network(0, 3);
    let a = network.open(0, [A, B], DOOR, [Pace::Fast; 2]);
    let b = a.peer();
    run(&mut network, SECOND);
    network.partition(A, B);
    network.send(SECOND, a, b"there");
    network.send(SECOND, b, b"back");
    let found = run(&mut network, 10 * SECOND);
    assert_eq!(bytes_of(&found, a), b"back");
    assert_eq!(bytes_of(&found, b), b"");
    assert!(!has(&found, a, &Arrived::Taken), "nothing confirms what does not arrive");
    network.heal(10 * SECOND, A, B);
    network.send(10 * SECOND, a, b" and more");
    let found = run(&mut network, 11 * SECOND);
    assert_eq!(bytes_of(&found, b), b"there and more");
    assert!(has(&found, a, &Arrived::Taken));
}

#[test]
fn what_was_in_flight_when_a_partition_began_is_held_too() {
    let mut network = network(0, 4);
    let a = network.open(0, [A, B], DOOR, [Pace::Fast; 2]);
    network.send(0, a, b"early");
    network.partition(A, B);
    assert_eq!(run(&mut network, 10 * SECOND), []);
    network.heal_all(10 * SECOND);
    assert_eq!(bytes_of(&run(&mut network, 11 * SECOND), a.peer()), b"early");
}

#[test]
fn a_stalled_end_gets_everything_later() {
    let mut network = network(0, 5);
    let a = network.open(0, [A, B], DOOR, [Pace::Fast; 2]);
    network.stall(0, a.peer(), 5 * SECOND);
    network.send(0, a, b"late");
    let found = run(&mut network, 10 * SECOND);
    assert!(found.iter().all(|(at, _)| *at >= 5 * SECOND));
    assert_eq!(bytes_of(&found, a.peer()), b"late");
}

#[test]
fn the_end_of_a_lost_host_gets_nothing_and_the_other_learns_or_may_when_it_sends() {
    let (mut told, mut told_later, mut half_open, mut cut_short) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut network = network(0, seed);
        let a = network.open(0, [A, B], DOOR, [Pace::Fast; 2]);
        run(&mut network, SECOND);
        network.send(SECOND, a, b"to the host that goes");
        network.send(SECOND, a.peer(), &text(20_000));
        network.lose(SECOND, B, seed % 2 == 0);
        let found = run(&mut network, 2 * SECOND);
        assert!(found.iter().all(|(_, delivery)| delivery.to == A));
        cut_short += usize::from(bytes_of(&found, a).len() < 20_000);
        if has(&found, a, &Arrived::Finished) || has(&found, a, &Arrived::Failed) {
            told += 1;
            continue;
        }
        network.send(2 * SECOND, a, b"is anybody there?");
        match has(&run(&mut network, 3 * SECOND), a, &Arrived::Failed) {
            true => told_later += 1,
            false => half_open += 1,
        }
    }
    let counts = [told, told_later, half_open, cut_short];
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
}

#[test]
fn equal_seeds_and_calls_give_equal_deliveries() {
    let play = |seed| {
        let mut network = network(100, seed);
        let ends = [(A, B), (B, A), (Endpoint::Client(0), A)]
            .map(|(from, to)| network.open(0, [from, to], DOOR, [Pace::Fast, Pace::Dribble]));
        for (at, end) in ends.into_iter().enumerate() {
            network.send(at as u64, end, &text(500 * (at + 1)));
        }
        network.partition(A, B);
        let mut found = run(&mut network, SECOND);
        network.cut(SECOND, ends[2], [true, false]);
        network.heal_all(SECOND);
        found.extend(run(&mut network, 100 * SECOND));
        found
    };
    assert_eq!(play(6), play(6));
    assert_ne!(play(6), play(7));
}

#[test]
fn a_member_learns_in_the_end_that_nothing_answers_and_a_client_does_not() {
    for (ends, learns) in [([A, B], true), ([Endpoint::Client(0), B], false)] {
        let mut network = network(0, 1);
        let end = network.open(0, ends, DOOR, [Pace::Fast; 2]);
        run(&mut network, SECOND);
        network.cut(SECOND, end, [false; 2]);
        assert!(!has(&run(&mut network, SECOND + GIVE_UP / 2), end, &Arrived::Failed));
        let found = run(&mut network, SECOND + GIVE_UP);
        assert_eq!(has(&found, end, &Arrived::Failed), learns);
        assert_eq!(has(&found, end.peer(), &Arrived::Failed), learns);
    }
}
