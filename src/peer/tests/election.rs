//! Tests of the election port.

use std::collections::BTreeSet;
use std::time::Duration;

use super::network::{Network, address, sid, vote};
use crate::base::{Instant, LifelineKey, LinkId, Rng, ServerId};
use crate::peer::{
    DialError, Effect, Effects, ElectionEvent, ElectionLinkOptions, ElectionLinks, Input,
    LinkNumbers, Port,
};
use crate::wire::hex;
use crate::wire::vote::{ANONYMOUS, First, Hello};

/// Long enough for everything that is dialed again.
fn later(network: &Network) -> Instant {
    network.now + Duration::from_secs(200)
}

/// Two servers send one message each. Everything that can happen next is numbered, and `choices`
/// picks; beyond its end the first is taken, until a state comes that was `seen`. Returns how many
/// there were to choose from each time.
fn run_two(choices: &[usize], seen: &mut BTreeSet<u64>) -> Vec<usize> {
    let mut network = Network::new(2);
    let mut to_send = vec![0, 1];
    let mut options = Vec::new();
    loop {
        if options.len() >= choices.len() && !seen.insert(network.fingerprint(&to_send)) {
            return options;
        }
        let waiting = network.waiting();
        let count = waiting.len() + to_send.len();
        if count == 0 {
            if network.pass(network.now + Duration::from_secs(200)) {
                continue;
            }
            break;
        }
        let choice = choices.get(options.len()).copied().unwrap_or(0);
        options.push(count);
        assert!(options.len() < 500, "it never ends: {choices:?}");
        match waiting.get(choice) {
            Some(end) => network.deliver(*end),
            None => {
                let host = to_send.remove(choice - waiting.len());
                network.send(host, 1 - host, 7 + host as i64);
            }
        }
    }
    network.check_settled();
    assert_eq!(network.hosts[0].heard.get(&sid(1)), Some(&8), "{choices:?}");
    assert_eq!(network.hosts[1].heard.get(&sid(0)), Some(&7), "{choices:?}");
    options
}

#[test]
fn two_servers_end_with_one_connection_in_every_order_of_events() {
    let (mut choices, mut seen) = (Vec::new(), BTreeSet::new());
    loop {
        let options = run_two(&choices, &mut seen);
        // The next sequence of choices, in the order of a dictionary.
        choices.resize(options.len(), 0);
        while let Some(last) = choices.pop() {
            if last + 1 < options[choices.len()] {
                choices.push(last + 1);
                break;
            }
        }
        if choices.is_empty() {
            break;
        }
    }
    assert!(seen.len() > 100, "{}", seen.len());
}

#[test]
fn many_servers_end_with_one_connection_each_whatever_is_cut() {
    for seed in 0..400 {
        let mut rng = Rng::derived(seed, "peer network", 0);
        let count = 2 + rng.below(4) as usize;
        let mut network = Network::new(count);
        let mut last = 0;
        for _ in 0..rng.below(60) {
            let (from, to) = (rng.below(count as u64) as usize, rng.below(count as u64) as usize);
            last += 1;
            match rng.below(8) {
                0 => network.cut_all(from, rng.chance(1, 2)),
                1 => network.now = network.now + Duration::from_millis(rng.below(700)),
                _ if from != to => network.send(from, to, last),
                _ => {}
            }
            for _ in 0..rng.below(12) {
                let waiting = network.waiting();
                if let Some(end) = waiting.get(rng.below(waiting.len() as u64) as usize) {
                    network.deliver(*end);
                }
            }
        }
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if from != to {
                network.send(from, to, 1_000 + from as i64);
            }
        }
        let until = later(&network);
        network.settle(&mut rng, until);
        network.check_settled();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            let heard = network.hosts[to].heard.get(&sid(from));
            assert!(from == to || heard == Some(&(1_000 + from as i64)), "seed {seed}");
        }
    }
}

#[test]
fn a_server_that_is_down_is_dialed_again_and_again_for_a_minute() {
    let mut rng = Rng::new(1);
    for down in [0, 1] {
        let mut network = Network::new(2);
        network.hosts[down].is_up = false;
        network.send(1 - down, down, 5);
        let begin = network.now;
        network.settle(&mut rng, begin + Duration::from_secs(3));
        // At 0, 100, 300, 700 and 1500 ms.
        assert_eq!(network.dials, 5);
        assert_eq!(network.hosts[1 - down].unreachable, [sid(down); 5]);
        network.settle(&mut rng, begin + Duration::from_secs(3_600));
        assert!((20..30).contains(&network.dials), "{}", network.dials);
        // A new message is a reason to dial at once.
        network.hosts[down].is_up = true;
        network.send(1 - down, down, 6);
        let until = later(&network);
        network.settle(&mut rng, until);
        network.check_settled();
        assert_eq!(network.hosts[down].heard.get(&sid(1 - down)), Some(&6));
    }
}

#[test]
fn a_server_that_ends_is_found_out_at_once() {
    let mut rng = Rng::new(2);
    for (down, was_reset) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut network = Network::new(2);
        network.send(0, 1, 3);
        let until = network.now + Duration::from_secs(10);
        network.settle(&mut rng, until);
        network.check_settled();
        network.now = network.now + Duration::from_secs(20);
        let (now, dials) = (network.now, network.dials);
        // The other one begins to look for a leader before it notices.
        network.send(1 - down, down, 4);
        network.hosts[down].is_up = false;
        network.cut_all(down, was_reset);
        network.settle(&mut rng, now);
        assert_eq!(network.dials, dials + 1);
        let expected = 1 + usize::from(was_reset);
        assert_eq!(network.hosts[1 - down].unreachable, vec![sid(down); expected]);
    }
}

/// One election port, and what it wanted last.
struct ServerThree {
    links: ElectionLinks,
    numbers: LinkNumbers,
    effects: Effects,
    events: Vec<String>,
    now: Instant,
}

impl ServerThree {
    /// Server 3 of five.
    fn new() -> ServerThree {
        let addresses = vec![("127.0.0.1".to_owned(), 43_883)];
        let members = (1..=5).map(ServerId).collect();
        ServerThree {
            links: ElectionLinks::new(ElectionLinkOptions::new(ServerId(3), addresses, members)),
            numbers: LinkNumbers::default(),
            effects: Effects::default(),
            events: Vec::new(),
            now: Instant::from_ms(5),
        }
    }

    fn handle(&mut self, input: Input<'_>) -> &[Effect] {
        self.effects.clear();
        let ServerThree { links, numbers, effects, events, now } = self;
        links.handle(*now, input, numbers, effects, &mut |event| {
            events.push(match event {
                ElectionEvent::Heard(from, vote) => format!("{}: {}", from.0, vote.round.0),
                ElectionEvent::Connected(sid) => format!("{} connected", sid.0),
                ElectionEvent::Unreachable(sid) => format!("{} unreachable", sid.0),
                ElectionEvent::Died(sid) => format!("{} died", sid.0),
            });
        });
        &self.effects.list
    }

    fn send(&mut self, to: i64, round: i64) -> &[Effect] {
        self.effects.clear();
        let ServerThree { links, numbers, effects, now, .. } = self;
        links.send(*now, ServerId(to), &vote(round), numbers, effects);
        &self.effects.list
    }

    fn accept(&mut self, link: u64) -> &[Effect] {
        self.handle(Input::Accepted { link: LinkId(link), port: Port::Election, from: address(9) })
    }

    fn bytes(&mut self, link: u64, bytes: &[u8]) -> &[Effect] {
        self.handle(Input::Bytes { link: LinkId(link), bytes })
    }

    fn dialed(&mut self, link: u64) -> &[Effect] {
        self.handle(Input::Dialed { link: LinkId(link), result: Ok(address(9)) })
    }
}

fn hello(sid: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let addresses = vec![("10.0.0.9".to_owned(), 3888)];
    Hello { sid: ServerId(sid), addresses }.encode_into(&mut out);
    out
}

fn lifeline(sid: i64, key: u64) -> Vec<u8> {
    let mut out = Vec::new();
    First::encode_lifeline(ServerId(sid), LifelineKey(key), &mut out);
    out
}

fn dial(link: u64, to: i64) -> Effect {
    Effect::Dial { link: LinkId(link), to: ServerId(to), port: Port::Election }
}

fn close(link: u64) -> Effect {
    Effect::Close { link: LinkId(link) }
}

fn send(link: u64, start: usize, end: usize) -> Effect {
    Effect::Send { link: LinkId(link), start, end }
}

const HELLO_OF_3: &str =
    "ffffffffffff0000 0000000000000003 0000000f 3132372e302e302e313a3433383833";

#[test]
fn a_smaller_server_gets_hello_and_vote_in_one_piece() {
    let mut port = ServerThree::new();
    assert_eq!(port.send(1, 7), [dial(2, 1)]);
    let expected = [hex(HELLO_OF_3), vote(7)].concat();
    assert_eq!(port.dialed(2), [send(2, 0, expected.len())]);
    assert_eq!(port.effects.bytes, expected);
    assert_eq!(port.events, ["1 connected"]);
}

#[test]
fn a_larger_server_gets_a_hello_and_dials_back() {
    let mut port = ServerThree::new();
    assert_eq!(port.send(4, 7), [dial(2, 4)]);
    assert_eq!(port.dialed(2), [send(2, 0, 35)]);
    assert_eq!(port.effects.bytes, hex(HELLO_OF_3));
    // It has a second for that, also if there is a newer message.
    assert_eq!(port.send(4, 8), []);
    assert_eq!(port.links.deadline(), Some(port.now + Duration::from_secs(1)));
    // Its hello may come in pieces, the last of them with a vote.
    assert_eq!(port.accept(1), []);
    let bytes = [hello(4), vote(5)].concat();
    for byte in &bytes[..20] {
        assert_eq!(port.bytes(1, &[*byte]), []);
    }
    // The larger server closes the first connection when it has read the hello; or this one does.
    assert_eq!(port.bytes(1, &bytes[20..]), [close(2), send(1, 0, vote(8).len())]);
    assert_eq!(port.effects.bytes, vote(8));
    assert_eq!(port.events, ["4 connected", "4: 5"]);
    assert_eq!(port.links.deadline(), None);
}

/// The process ends, and its port is the last that it closes.
#[test]
fn a_larger_server_that_reads_no_hello_is_unreachable() {
    let mut port = ServerThree::new();
    port.send(4, 7);
    port.dialed(2);
    assert_eq!(port.handle(Input::Ended { link: LinkId(2), was_reset: true }), []);
    assert_eq!(port.events, ["4 unreachable"]);
    // One that read it takes a moment to dial back, and is left alone meanwhile.
    port.now = port.now + Duration::from_millis(100);
    assert_eq!(port.send(4, 8), [dial(4, 4)]);
    port.dialed(4);
    assert_eq!(port.handle(Input::Ended { link: LinkId(4), was_reset: false }), []);
    assert_eq!(port.send(4, 9), []);
    assert_eq!(port.events, ["4 unreachable"]);
}

#[test]
fn what_is_said_where_only_a_hello_belongs_ends_the_connection() {
    let mut port = ServerThree::new();
    port.send(4, 7);
    port.dialed(2);
    assert_eq!(port.bytes(2, b"x"), [close(2)]);
    port.now = port.now + Duration::from_secs(1);
    assert_eq!(port.send(4, 8), [dial(4, 4)]);
    port.dialed(4);
    let due = port.links.deadline().unwrap();
    port.now = due;
    let ServerThree { links, numbers, effects, .. } = &mut port;
    links.tick(due, numbers, effects);
    assert!(effects.list.contains(&close(4)), "it is not kept for long");
}

#[test]
fn a_smaller_server_that_connects_is_dialed_back() {
    let mut port = ServerThree::new();
    port.accept(1);
    assert_eq!(port.bytes(1, &hello(2)), [close(1), dial(2, 2)]);
    // The dial may hang: another hello begins a new one.
    port.accept(3);
    assert_eq!(port.bytes(3, &hello(2)), [close(3), close(2), dial(4, 2)]);
    assert_eq!(port.dialed(2), []);
    assert_eq!(port.dialed(4), [send(4, 0, 35)]);
    // It would not connect if it had a connection.
    port.accept(5);
    assert_eq!(port.bytes(5, &hello(2)), [close(5), close(4), dial(6, 2)]);
    assert_eq!(port.events, ["2 connected"]);
}

#[test]
fn a_message_that_has_not_left_is_replaced_by_a_newer_one() {
    let mut port = ServerThree::new();
    port.send(1, 1);
    port.send(1, 2);
    port.dialed(2);
    assert!(port.effects.bytes.ends_with(&vote(2)));
    assert_eq!(port.send(1, 3), []);
    assert_eq!(port.send(1, 4), []);
    assert_eq!(port.handle(Input::Unsent { link: LinkId(2), bytes: 1 }), []);
    assert_eq!(port.handle(Input::Unsent { link: LinkId(2), bytes: 0 }).len(), 1);
    assert_eq!(port.effects.bytes, vote(4));
    assert_eq!(port.handle(Input::Unsent { link: LinkId(2), bytes: 0 }), []);
    assert_eq!(port.send(1, 5).len(), 1);
}

#[test]
fn the_connection_of_a_larger_server_takes_the_place_of_a_dial() {
    let mut port = ServerThree::new();
    assert_eq!(port.send(4, 7), [dial(2, 4)]);
    port.accept(1);
    assert_eq!(port.bytes(1, &hello(4)), [close(2), send(1, 0, vote(7).len())]);
    assert_eq!(port.dialed(2), []);
}

#[test]
fn a_message_that_its_connection_did_not_take_is_dialed_for() {
    let mut port = ServerThree::new();
    port.send(1, 1);
    port.dialed(2);
    port.send(1, 2);
    let ended = |link| Input::Ended { link: LinkId(link), was_reset: false };
    port.now = port.now + Duration::from_secs(20);
    assert_eq!(port.handle(ended(2)), [dial(4, 1)]);
    port.dialed(4);
    assert!(port.effects.bytes.ends_with(&vote(2)));
    port.handle(Input::Unsent { link: LinkId(4), bytes: 0 });
    port.now = port.now + Duration::from_secs(20);
    assert_eq!(port.handle(ended(4)), []);
    assert_eq!(port.links.deadline(), None);
}

#[test]
fn a_larger_server_that_ends_a_young_connection_has_time_to_make_another() {
    let mut port = ServerThree::new();
    port.accept(1);
    port.bytes(1, &hello(4));
    assert_eq!(port.handle(Input::Ended { link: LinkId(1), was_reset: false }), []);
    assert_eq!(port.send(4, 7), []);
    port.now = port.now + Duration::from_millis(100);
    assert_eq!(port.links.deadline(), Some(port.now));
    assert_eq!(port.send(4, 8), [dial(2, 4)]);
    port.dialed(2);
    // It dials back in time. A reset is no sign that it will once more.
    port.accept(3);
    port.bytes(3, &hello(4));
    assert_eq!(port.handle(Input::Ended { link: LinkId(3), was_reset: true }), []);
    assert_eq!(port.send(4, 9), [dial(4, 4)]);
    assert_eq!(port.events, ["4 connected", "4 connected", "4 unreachable"]);
}

/// A leader that ends soon after it has come: the others wait for its vote until they know.
#[test]
fn a_server_that_has_probably_ended_is_dialed_at_once_after_a_young_connection() {
    let mut port = ServerThree::new();
    for (sid, accepted, dialed) in [(4, 1, 2), (5, 3, 4)] {
        port.accept(accepted);
        port.bytes(accepted, &hello(sid));
        if sid == 4 {
            port.links.suspect(port.now, ServerId(sid));
        }
        port.send(sid, 7);
        let ended = Input::Ended { link: LinkId(accepted), was_reset: false };
        let dials: &[Effect] = if sid == 4 { &[dial(dialed, sid)] } else { &[] };
        assert_eq!(port.handle(ended), dials, "server {sid}");
    }
    let refused = Err(DialError::Refused);
    port.handle(Input::Dialed { link: LinkId(2), result: refused });
    assert_eq!(port.events, ["4 connected", "5 connected", "4 unreachable"]);
    // It was right to suspect it, and it is dialed as everybody is.
    assert_eq!(port.links.deadline(), Some(port.now + Duration::from_millis(100)));
}

#[test]
fn strangers_are_refused_unless_they_keep_their_connection() {
    let mut port = ServerThree::new();
    let mut greet = |link: u64, sid: i64| {
        port.accept(link);
        port.bytes(link, &hello(sid)).to_vec()
    };
    // This server itself, one that would have to be dialed, and one that could pass for a guest.
    for (link, sid) in [(1, 3), (3, 0), (5, -2)] {
        assert_eq!(greet(link, sid), [close(link)], "{sid}");
    }
    assert_eq!(greet(7, ANONYMOUS.0), []);
    assert_eq!(greet(9, ANONYMOUS.0), []);
    assert_eq!(greet(11, 77), []);
    assert_eq!(port.events, ["-1 connected", "-2 connected", "77 connected"]);
    port.bytes(9, &vote(6));
    assert_eq!(port.events.last().map(String::as_str), Some("-2: 6"));
    assert_eq!(port.send(-2, 1), [send(9, 0, vote(1).len())]);
    // A guest is forgotten with its connection.
    assert_eq!(port.handle(Input::Ended { link: LinkId(9), was_reset: true }), []);
    assert_eq!(port.send(-2, 1), []);
    assert!(!port.links.is_connected(ServerId(-2)));
}

#[test]
fn a_lifeline_tells_of_the_end_of_the_leaders_process() {
    let mut port = ServerThree::new();
    let hang_on = |port: &mut ServerThree, link: u64, sid: i64, key: u64| {
        port.accept(link);
        // In pieces, too.
        let bytes = lifeline(sid, key);
        port.bytes(link, &bytes[..19]);
        port.bytes(link, &bytes[19..]).to_vec()
    };
    let end = |port: &mut ServerThree, link: u64, was_reset: bool| {
        port.handle(Input::Ended { link: LinkId(link), was_reset });
        std::mem::take(&mut port.events)
    };
    assert_eq!(hang_on(&mut port, 1, 4, 7), [close(1)], "this server follows nobody");
    port.links.expect_lifeline(ServerId(4), LifelineKey(7));
    // The own id, another member's, a stranger's, and one that asks for a private one.
    for (link, sid) in [(3, 3), (5, 1), (7, 77), (9, ANONYMOUS.0)] {
        assert_eq!(hang_on(&mut port, link, sid, 7), [close(link)], "{sid}");
    }
    assert_eq!(hang_on(&mut port, 11, 4, 7), []);
    assert_eq!(port.links.deadline(), None, "it may last for ever");
    // Anybody can say to be the leader, and only the leader knows the key.
    assert_eq!(hang_on(&mut port, 13, 4, 8), [close(13)]);
    assert_eq!(end(&mut port, 13, false), [""; 0]);
    assert_eq!(end(&mut port, 11, false), ["4 died"]);
    // The network may end it without a word of the process's kernel.
    assert_eq!(hang_on(&mut port, 15, 4, 7), []);
    assert_eq!(end(&mut port, 15, true), [""; 0]);
    // One takes the place of another one.
    assert_eq!(hang_on(&mut port, 17, 4, 7), []);
    assert_eq!(hang_on(&mut port, 19, 4, 7), [close(17)]);
    assert_eq!(end(&mut port, 17, false), [""; 0]);
    // Nothing is said on it.
    assert_eq!(port.bytes(19, b"x"), [close(19)]);
    assert_eq!(end(&mut port, 19, false), [""; 0]);
    // It is of no use any more when this server follows nobody, nor is the key of the last term.
    assert_eq!(hang_on(&mut port, 21, 4, 7), []);
    port.effects.clear();
    port.links.close_lifelines(&mut port.effects);
    assert_eq!(port.effects.list, [close(21)]);
    assert_eq!(end(&mut port, 21, false), [""; 0]);
    port.links.expect_lifeline(ServerId(4), LifelineKey(9));
    assert_eq!(hang_on(&mut port, 23, 4, 7), [close(23)]);
    assert_eq!(hang_on(&mut port, 25, 4, 9), []);
}

#[test]
fn guests_and_connections_without_a_hello_are_bounded() {
    let mut port = ServerThree::new();
    let mut open: Vec<u64> = Vec::new();
    for link in (1..1_000).step_by(2) {
        open.push(link);
        for effect in port.accept(link).to_vec() {
            open.retain(|link| effect != close(*link));
        }
    }
    assert_eq!(open, Vec::from_iter((873..1_000).step_by(2)));
    for link in open {
        port.bytes(link, &hello(ANONYMOUS.0));
    }
    let is_open = |link: &u64| port.links.owns(LinkId(*link));
    assert_eq!(Vec::from_iter((1..1_000).filter(is_open)), Vec::from_iter((937..1_000).step_by(2)));
}

#[test]
fn who_does_not_say_hello_in_time_is_closed() {
    let mut port = ServerThree::new();
    port.accept(1);
    port.bytes(1, &hello(4)[..30]);
    let due = port.now + Duration::from_secs(5);
    assert_eq!(port.links.deadline(), Some(due));
    let mut tick = |ms: u64| {
        port.effects.clear();
        port.links.tick(Instant::from_ms(ms), &mut port.numbers, &mut port.effects);
        port.effects.list.clone()
    };
    assert_eq!(tick(due.as_ms() - 1), []);
    assert_eq!(tick(due.as_ms()), [close(1)]);
    assert_eq!(port.links.deadline(), None);
}

#[test]
fn bad_bytes_close_their_own_connection_only() {
    let mut port = ServerThree::new();
    port.accept(1);
    port.bytes(1, &hello(4));
    port.accept(3);
    assert_eq!(port.bytes(3, &hex("fffffffffffffffe")), [close(3)]);
    port.accept(5);
    port.bytes(5, &hello(5));
    // A vote that is none is left out, and the next one counts.
    assert_eq!(port.bytes(5, &[&hex("00000001 00")[..], &vote(9)].concat()), []);
    assert_eq!(port.bytes(5, &hex("00080001")), [close(5)]);
    assert_eq!(port.events, ["4 connected", "5 connected", "5: 9"]);
    assert!(port.links.is_connected(ServerId(4)));
    assert!(!port.links.is_connected(ServerId(5)));
}

#[test]
fn random_inputs_break_no_rule() {
    let (mut votes, mut connected, mut died) = (0, 0, 0);
    for seed in 0..300 {
        let mut rng = Rng::derived(seed, "peer strangers", 0);
        let mut port = ServerThree::new();
        let mut next = 1_u64;
        for _ in 0..200 {
            port.now = port.now + Duration::from_millis(rng.below(300));
            let link = LinkId(next.saturating_sub(rng.below(8)));
            match rng.below(15) {
                0 | 1 => {
                    port.accept(next);
                    next += 2;
                }
                2 => {
                    let link = LinkId(2 * rng.below(60));
                    let result = [Ok(address(1)), Err(DialError::Refused)];
                    port.handle(Input::Dialed {
                        link,
                        result: result[rng.below(2) as usize].clone(),
                    });
                }
                3 => {
                    port.handle(Input::Ended { link, was_reset: rng.chance(1, 2) });
                }
                4 => {
                    port.handle(Input::Unsent { link, bytes: rng.below(2) as usize });
                }
                5 => {
                    port.send(rng.below(7) as i64, 1);
                }
                6 => {
                    let mut bytes = vec![0; rng.below(100) as usize];
                    rng.fill(&mut bytes);
                    port.bytes(link.0, &bytes);
                }
                7 => {
                    let sids = [1, 2, 3, 4, 5, 6, -1, ANONYMOUS.0, i64::MIN];
                    let hello = hello(sids[rng.below(9) as usize]);
                    port.bytes(link.0, &hello);
                }
                8 => {
                    if rng.chance(1, 4) {
                        port.links.close_lifelines(&mut port.effects);
                        let key = LifelineKey(rng.below(2));
                        port.links.expect_lifeline(ServerId(rng.below(6) as i64), key);
                    }
                    port.bytes(link.0, &lifeline(rng.below(6) as i64, rng.below(2)));
                }
                _ => {
                    port.bytes(link.0, &vote(3));
                }
            }
            port.links.tick(port.now, &mut port.numbers, &mut port.effects);
        }
        votes += port.events.iter().filter(|event| event.ends_with(": 3")).count();
        died += port.events.iter().filter(|event| event.ends_with("died")).count();
        connected += port.events.iter().filter(|event| event.ends_with("connected")).count();
    }
    assert!(votes > 100 && connected > 1_000 && died > 2, "{votes} {connected} {died}");
}
