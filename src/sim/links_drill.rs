//! Connections of two members over the simulated network: whatever befalls them, what one hears is
//! the beginning of what the other sent, and of a connection that was left alone it is everything.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::{Instant, LinkId, Now, Rng, ServerId};
use crate::driver::{Io, Links};
use crate::peer::{DialError, Effect, Effects, Input, Port};

use super::files::SimFiles;
use super::io::{Net, SimIo};
use super::network::{Arrived, Delivery, Door, End, Endpoint, Network, NetworkOptions, Pace};
use super::node::{Action, Arrival};

const MS: u64 = 1_000_000;

/// One connection as its member sees it.
#[derive(Default)]
struct Talk {
    is_open: bool,
    is_held: bool,
    sent: Vec<u8>,
    heard: Vec<u8>,
    /// Bytes that the socket has not taken, as far as it was told.
    unsent: usize,
    dial: Option<Result<(), DialError>>,
    was_reset: Option<bool>,
}

struct Side {
    links: Links<SimIo>,
    io: SimIo,
    net: Rc<RefCell<Net>>,
    talks: BTreeMap<LinkId, Talk>,
    next: LinkId,
}

impl Side {
    fn new(seed: u64) -> Side {
        let files = Arc::new(SimFiles::new(seed, None));
        let net = Net::new(1);
        let mut io = SimIo::new(0, Rc::clone(&net), files, None, seed);
        io.start_listening_to_members().unwrap();
        let (links, talks, next) = (Links::new(), BTreeMap::new(), LinkId(2));
        Side { links, io, net, talks, next }
    }

    fn turn(&mut self, time: u64, effects: &Effects) -> Vec<Action> {
        let now = Now { mono: Instant(time), wall_ms: 0 };
        let Side { links, io, talks, .. } = self;
        while let Some(completion) = io.next_of_members().unwrap() {
            let mut hear = |input: Input<'_>| match input {
                Input::Accepted { link, .. } => {
                    talks.insert(link, Talk { is_open: true, ..Talk::default() });
                }
                Input::Dialed { link, result } => {
                    let talk = talks.get_mut(&link).unwrap();
                    talk.is_open = result.is_ok();
                    talk.dial = Some(result.map(|_| ()));
                }
                Input::Bytes { link, bytes } => {
                    talks.get_mut(&link).unwrap().heard.extend_from_slice(bytes);
                }
                Input::Unsent { link, bytes } => {
                    let talk = talks.get_mut(&link).unwrap();
                    assert!(bytes <= talk.sent.len());
                    talk.unsent = bytes;
                }
                Input::Ended { link, was_reset } => {
                    let talk = talks.get_mut(&link).unwrap();
                    assert!(std::mem::replace(&mut talk.is_open, false), "told once");
                    talk.was_reset = Some(was_reset);
                }
            };
            links.complete(now, io, completion, &mut hear).unwrap();
        }
        links.carry_out(now, io, effects).unwrap();
        links.tick(now, io).unwrap();
        links.send_ready(io).unwrap();
        links.check();
        std::mem::take(&mut self.net.borrow_mut().actions)
    }
}

struct Drill {
    time: u64,
    network: Network,
    sides: [Side; 2],
    /// The dialler's end of each connection, by which it can be cut.
    ends: BTreeMap<(usize, LinkId), End>,
    /// Its target has no process.
    is_down: bool,
}

fn host(side: usize) -> Endpoint {
    Endpoint::Host(side)
}

impl Drill {
    fn new(seed: u64) -> Drill {
        let options = NetworkOptions { window: [0, 1 << 10, 64 << 10][seed as usize % 3] };
        let network = Network::new(options, Rng::derived(seed, "network", 0));
        let sides = [0, 1].map(|at| Side::new(seed * 2 + at));
        Drill { time: MS, network, sides, ends: BTreeMap::new(), is_down: false }
    }

    /// What one member wishes, carried out in a turn of its own.
    fn wish(&mut self, side: usize, effects: &Effects) {
        for action in self.sides[side].turn(self.time, effects) {
            match action {
                Action::Send { link, bytes } => self.network.send(self.time, link, &bytes),
                Action::Finish { link } => self.network.finish(self.time, link),
                Action::Reset { link } => self.network.close(self.time, link),
                Action::Dial { link, to, port } => {
                    let ends = [host(side), host(to.0 as usize - 1)];
                    let door = Door::Members(port);
                    let end = self.network.open(self.time, ends, door, [Pace::Fast; 2]);
                    self.sides[side].net.borrow_mut().dialing(link, end);
                    self.ends.insert((side, link), end);
                }
                // No lifeline was made.
                Action::LetGo { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Turns, until there is no work for another one.
    fn turns(&mut self) {
        let nothing = Effects::default();
        for side in [0, 1] {
            self.wish(side, &nothing);
            while self.sides[side].net.borrow().has_work(0) {
                self.wish(side, &nothing);
            }
        }
    }

    fn one(&mut self, side: usize, effect: Effect) {
        self.wish(side, &Effects { list: vec![effect], ..Effects::default() });
    }

    fn dial(&mut self, side: usize) -> LinkId {
        let link = self.sides[side].next;
        self.sides[side].next = LinkId(link.0 + 2);
        self.sides[side].talks.insert(link, Talk::default());
        let to = ServerId(2 - side as i64);
        self.one(side, Effect::Dial { link, to, port: Port::Quorum });
        link
    }

    fn send(&mut self, side: usize, link: LinkId, bytes: &[u8]) {
        let mut effects = Effects::default();
        effects.send(link, bytes);
        self.sides[side].talks.get_mut(&link).unwrap().sent.extend_from_slice(bytes);
        self.wish(side, &effects);
    }

    /// Lets time go on until nothing happens any more, or until then.
    fn run_until(&mut self, until: u64) {
        loop {
            self.turns();
            let due = (0..2).filter_map(|at| self.sides[at].links.deadline());
            let next = due.map(|at| at.0).chain(self.network.deadline()).min();
            let Some(next) = next.filter(|&at| at <= until) else { break };
            self.time = next.max(self.time);
            while let Some(delivery) = self.network.poll(self.time) {
                self.deliver(delivery);
            }
        }
        self.time = until;
    }

    fn deliver(&mut self, Delivery { end, to, what }: Delivery) {
        let Endpoint::Host(side) = to else { panic!("no clients here") };
        if matches!(what, Arrived::Opened(_)) {
            if self.is_down {
                return self.network.reset(self.time, end);
            }
            self.network.accept(self.time, end);
        }
        let arrival = Arrival::Stream { link: end, what };
        let Side { net, io, .. } = &mut self.sides[side];
        net.borrow_mut().arrive(io.files(), None, arrival);
        self.wish(side, &Effects::default());
    }

    fn talk(&self, side: usize, link: LinkId) -> &Talk {
        &self.sides[side].talks[&link]
    }

    /// The accepted end of a connection, which is known by the number that is sent first.
    fn other(&self, side: usize, link: LinkId) -> Option<&Talk> {
        let sent = &self.talk(side, link).sent;
        let mut talks = self.sides[1 - side].talks.iter();
        let is_it = |id: &LinkId, talk: &Talk| {
            id.0 % 2 == 1 && talk.heard.len() >= 8 && talk.heard[..8] == sent[..8]
        };
        talks.find(|(id, talk)| is_it(id, talk)).map(|(_, talk)| talk)
    }
}

#[test]
fn members_connect_and_hear_each_other_in_order() {
    for seed in 0..60 {
        let mut drill = Drill::new(seed);
        let mut rng = Rng::new(seed);
        let links = [0, 1].map(|side| drill.dial(side));
        drill.run_until(10 * MS);
        for _ in 0..40 {
            let side = rng.below(2) as usize;
            // Both ends of the connection that the first one made.
            let link = if side == 0 { links[0] } else { LinkId(1) };
            let bytes = vec![rng.next_u64() as u8; 1 + rng.below(9_000) as usize];
            drill.send(side, link, &bytes);
            if rng.chance(1, 3) {
                let is_held = drill.talk(side, link).is_held;
                drill.sides[side].talks.get_mut(&link).unwrap().is_held = !is_held;
                let effect = if is_held { Effect::Resume { link } } else { Effect::Hold { link } };
                drill.one(side, effect);
            }
            let until = drill.time + rng.below(2 * MS);
            drill.run_until(until);
        }
        for (side, link) in [(0, links[0]), (1, LinkId(1))] {
            drill.one(side, Effect::Resume { link });
        }
        drill.run_until(drill.time + 10_000 * MS);
        let (near, far) = (drill.talk(0, links[0]), drill.talk(1, LinkId(1)));
        assert!(near.is_open && far.is_open);
        assert!(near.heard == far.sent && far.heard == near.sent, "seed {seed}");
        assert_eq!((near.unsent, far.unsent), (0, 0));
        // The other connection is one of its own.
        assert_eq!(drill.talk(1, links[1]).dial, Some(Ok(())));
        // The last words of one that closes arrive, and then its end.
        drill.send(0, links[0], b"last words");
        drill.one(0, Effect::Close { link: links[0] });
        drill.run_until(drill.time + 10_000 * MS);
        let far = drill.talk(1, LinkId(1));
        assert!(far.heard.ends_with(b"last words") && far.was_reset == Some(false));
        assert_eq!(drill.sides[0].links.len(), 1, "the connection that the other one made");
    }
}

#[test]
fn a_member_without_a_process_refuses_and_one_behind_a_partition_says_nothing() {
    let mut drill = Drill::new(1);
    drill.is_down = true;
    let link = drill.dial(0);
    drill.run_until(10 * MS);
    assert_eq!(drill.talk(0, link).dial, Some(Err(DialError::Refused)));
    drill.is_down = false;
    for (from, to) in [(0, 1), (1, 0)] {
        drill.network.partition(host(from), host(to));
        let link = drill.dial(0);
        drill.run_until(drill.time + 4_000 * MS);
        assert_eq!(drill.talk(0, link).dial, None);
        let end = drill.ends[&(0, link)];
        assert!(drill.sides[0].net.borrow_mut().dial_timed_out(end));
        drill.network.reset(drill.time, end);
        drill.wish(0, &Effects::default());
        assert!(matches!(drill.talk(0, link).dial, Some(Err(DialError::Failed(_)))));
        drill.network.heal(drill.time, host(from), host(to));
        drill.run_until(drill.time + 1_000 * MS);
        assert!(drill.sides.iter().all(|side| side.links.is_empty()), "nobody goes on with it");
    }
}

#[test]
fn whatever_befalls_a_connection_what_arrives_is_the_beginning_of_what_was_sent() {
    let (mut cut_short, mut whole, mut resets) = (0, 0, 0);
    for seed in 0..100 {
        let mut drill = Drill::new(seed);
        let mut rng = Rng::new(seed);
        let mut made = Vec::new();
        let mut disturbed = Vec::new();
        for _ in 0..60 {
            let side = rng.below(2) as usize;
            match rng.below(12) {
                0 | 1 => {
                    let link = drill.dial(side);
                    drill.send(side, link, &(made.len() as u64 + 1).to_be_bytes());
                    made.push((side, link));
                }
                2..8 if !made.is_empty() => {
                    let (side, link) = made[rng.below(made.len() as u64) as usize];
                    if drill.talk(side, link).is_open {
                        let bytes = vec![rng.next_u64() as u8; rng.below(20_000) as usize + 1];
                        drill.send(side, link, &bytes);
                    }
                }
                8 if !made.is_empty() => {
                    let (side, link) = made[rng.below(made.len() as u64) as usize];
                    let told = [rng.chance(1, 2), rng.chance(1, 2)];
                    drill.network.cut(drill.time, drill.ends[&(side, link)], told);
                    disturbed.push((side, link));
                }
                9 => drill.network.partition(host(side), host(1 - side)),
                10 => drill.network.heal(drill.time, host(side), host(1 - side)),
                _ => {}
            }
            let until = drill.time + rng.below(20 * MS);
            drill.run_until(until);
        }
        drill.network.heal_all(drill.time);
        drill.run_until(drill.time + 100_000 * MS);
        for &(side, link) in &made {
            let heard = drill.other(side, link).map_or(&[][..], |talk| &talk.heard[..]);
            let talk = drill.talk(side, link);
            assert!(talk.sent.starts_with(heard), "seed {seed}: {link:?} of {side}");
            resets += usize::from(talk.was_reset == Some(true));
            if disturbed.contains(&(side, link)) {
                cut_short += usize::from(heard.len() < talk.sent.len());
                continue;
            }
            assert!(talk.is_open && heard.len() == talk.sent.len(), "seed {seed}: {link:?}");
            whole += 1;
        }
    }
    assert!(cut_short > 20 && whole > 200 && resets > 20, "{cut_short} {whole} {resets}");
}
