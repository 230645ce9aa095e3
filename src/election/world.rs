//! Many servers in one test: seeded delays, losses, crashes and cuts. Whatever happens, they settle
//! on one leader soon after it stops happening.
//!
//! What follows an election is modelled as far as elections depend on it: a follower needs a leader
//! that leads, a leader a quorum of followers, and then all are in a new epoch.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{ensemble, now};
use super::{Ballot, Effect, Election, History, Input, Options, Vote};
use crate::base::{Epoch, Rng, ServerId, Zxid};
use crate::quorum::{Ensemble, Role};
use crate::wire::vote::{Notification, PeerState, next_message};

/// Milliseconds until a new follower has to have its leader, and a leader its followers.
const FOLLOW_MS: u64 = 500;
const LEAD_MS: u64 = 1_000;

/// When something happens, and a number that keeps the order of equal times.
type When = (u64, u64);

#[derive(Clone, Copy)]
enum Event {
    Message {
        from: usize,
        to: usize,
        ballot: Ballot,
        connection: u64,
    },
    Start(usize),
    /// The role that began in this term is looked at.
    Role(usize, u64),
}

struct Server {
    /// `None` while it is down.
    election: Option<Election>,
    history: History,
    /// Counts its roles and its lives.
    term: u64,
    is_established: bool,
    leader: Option<usize>,
}

struct World {
    rng: Rng,
    ms: u64,
    count: u64,
    delay_ms_max: u64,
    ensemble: Ensemble,
    voters: usize,
    servers: Vec<Server>,
    events: BTreeMap<When, Event>,
    /// Who is down now, but answers connections soon.
    coming: BTreeSet<usize>,
    /// Pairs that cannot speak with each other, and do not notice.
    cut: BTreeSet<(usize, usize)>,
    /// The last message from one to another: when it arrives, and what it is.
    last: BTreeMap<(usize, usize), (u64, Ballot)>,
    /// The present connection of two servers.
    connections: BTreeMap<(usize, usize), u64>,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    fn new(seed: u64, voters: usize, observers: usize, delay_ms_max: u64) -> World {
        let mut rng = Rng::new(seed);
        let server = |_| Server {
            election: None,
            history: History { zxid: Zxid(rng.below(3) as i64), epoch: Epoch(rng.below(2) as i32) },
            term: 0,
            is_established: false,
            leader: None,
        };
        World {
            servers: (0..voters + observers).map(server).collect(),
            rng,
            ms: 0,
            count: 0,
            delay_ms_max,
            ensemble: ensemble(voters as i64, observers as i64),
            voters,
            events: BTreeMap::new(),
            coming: BTreeSet::new(),
            cut: BTreeSet::new(),
            last: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    fn schedule(&mut self, ms: u64, event: Event) {
        self.count += 1;
        self.events.insert((ms, self.count), event);
    }

    fn is_up(&self, server: usize) -> bool {
        self.servers[server].election.is_some()
    }

    fn state(&self, server: usize) -> Option<PeerState> {
        self.servers[server].election.as_ref().map(Election::state)
    }

    fn input(&mut self, server: usize, input: Input<'_>) {
        let mut effects = Vec::new();
        if let Some(election) = &mut self.servers[server].election {
            election.handle(now(self.ms), input, &mut effects);
        }
        self.run(server, effects);
    }

    fn run(&mut self, from: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to, ballot) => {
                    let to = to.0 as usize - 1;
                    self.send(from, to, ballot);
                }
                Effect::Elected { state, vote, backers } => {
                    self.elected(from, state, vote, &backers);
                }
                Effect::LooksAgain(_) | Effect::Outvoted(_) => {
                    assert_eq!(self.state(from), Some(PeerState::Leading));
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, ballot: Ballot) {
        let soonest = self.ms + self.rng.below(self.delay_ms_max + 1);
        let behind = self.last.get(&(from, to)).map_or(0, |(ms, _)| *ms);
        let at = soonest.max(behind);
        // Kept for the next connection, if there is none now.
        self.last.insert((from, to), (at, ballot));
        let connection = self.connections.get(&pair(from, to)).copied().unwrap_or(0);
        self.schedule(at, Event::Message { from, to, ballot, connection });
    }

    fn elected(&mut self, server: usize, state: PeerState, vote: Vote, backers: &[ServerId]) {
        assert!(self.ensemble.is_quorum(|sid| backers.contains(&sid)), "{backers:?}");
        let me = &mut self.servers[server];
        me.term += 1;
        me.is_established = false;
        me.leader = Some(vote.leader.0 as usize - 1);
        let wait = if state == PeerState::Leading { LEAD_MS } else { FOLLOW_MS };
        let term = me.term;
        self.schedule(self.ms + wait, Event::Role(server, term));
    }

    fn look(&mut self, server: usize) {
        let me = &mut self.servers[server];
        me.term += 1;
        me.is_established = false;
        me.leader = None;
        let history = me.history;
        self.input(server, Input::Look(history));
    }

    fn has_role(&self, server: usize) -> bool {
        self.state(server).is_some_and(|state| state != PeerState::Looking)
    }

    /// Who follows this server, itself included.
    fn followers(&self, leader: usize) -> Vec<usize> {
        let follows = |server: &usize| {
            self.has_role(*server)
                && self.servers[*server].leader == Some(leader)
                && !self.cut.contains(&pair(*server, leader))
        };
        (0..self.servers.len()).filter(follows).collect()
    }

    /// A role is begun in earnest, or given up.
    fn judge(&mut self, server: usize) {
        let leader = self.servers[server].leader.unwrap();
        let is_cut = self.cut.contains(&pair(server, leader));
        if is_cut || self.state(leader) != Some(PeerState::Leading) {
            return self.look(server);
        }
        if leader != server {
            if self.servers[leader].is_established {
                self.establish(server, self.servers[leader].history);
            }
            return;
        }
        let followers = self.followers(server);
        if !self.ensemble.is_quorum(|sid| followers.contains(&(sid.0 as usize - 1))) {
            return followers.into_iter().for_each(|other| self.look(other));
        }
        let epochs = self.servers.iter().map(|server| server.history.epoch);
        let epoch = Epoch(epochs.max().unwrap().0 + 1);
        let history = History { zxid: Zxid::new(epoch, self.rng.below(9) as u32), epoch };
        followers.into_iter().for_each(|other| self.establish(other, history));
    }

    fn establish(&mut self, server: usize, history: History) {
        self.servers[server].history = history;
        self.servers[server].is_established = true;
        self.input(server, Input::EpochEstablished(history.epoch));
    }

    fn start(&mut self, server: usize) {
        if self.is_up(server) {
            return;
        }
        let sid = ServerId(server as i64 + 1);
        let role = if server < self.voters { Role::Participant } else { Role::Observer };
        let (mut effects, options) = (Vec::new(), Options::new(sid, role));
        let history = self.servers[server].history;
        let ensemble = self.ensemble.clone();
        let election = Election::new(options, ensemble, history, now(self.ms), &mut effects);
        self.servers[server].election = Some(election);
        self.run(server, effects);
        for other in 0..self.servers.len() {
            if other == server || self.cut.contains(&pair(server, other)) {
                continue;
            }
            if self.is_up(other) {
                self.connect(server, other);
            } else if !self.coming.contains(&other) {
                self.input(server, Input::Unreachable(ServerId(other as i64 + 1)));
            }
        }
    }

    /// A fresh connection: what was under way is lost, and the last message is sent again.
    fn connect(&mut self, a: usize, b: usize) {
        *self.connections.entry(pair(a, b)).or_default() += 1;
        for (from, to) in [(a, b), (b, a)] {
            self.input(from, Input::Connected(ServerId(to as i64 + 1)));
            if let Some((_, ballot)) = self.last.get(&(from, to)).copied() {
                self.send(from, to, ballot);
            }
        }
    }

    fn crash(&mut self, server: usize) {
        self.servers[server].election = None;
        self.servers[server].term += 1;
        self.last.retain(|(from, _), _| *from != server);
        for other in 0..self.servers.len() {
            *self.connections.entry(pair(server, other)).or_default() += 1;
            if other != server && self.is_up(other) && !self.cut.contains(&pair(server, other)) {
                self.input(other, Input::Unreachable(ServerId(server as i64 + 1)));
                if self.has_role(other) && self.servers[other].leader == Some(server) {
                    self.look(other);
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, ballot: Ballot, connection: u64) {
        let present = self.connections.get(&pair(from, to)).copied().unwrap_or(0);
        if present != connection || !self.is_up(to) || self.cut.contains(&pair(from, to)) {
            return;
        }
        let mut bytes = Vec::new();
        ballot.notification(b"version=0").encode_into(&mut bytes);
        let (message, _) = next_message(&bytes).unwrap().unwrap();
        let notification = Notification::decode(message).unwrap();
        self.input(to, Input::Heard(ServerId(from as i64 + 1), &notification));
    }

    /// Runs to this time.
    fn run_until(&mut self, ms: u64) {
        loop {
            let ticks = self.servers.iter().enumerate().filter_map(|(at, server)| {
                Some((server.election.as_ref()?.deadline()?.as_ms(), at))
            });
            let tick = ticks.min();
            let event = self.events.first_key_value().map(|((ms, _), _)| *ms);
            let next = [tick.map(|(ms, _)| ms), event].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= ms) else { break };
            self.ms = self.ms.max(next);
            if event == Some(next) {
                let (_, event) = self.events.pop_first().unwrap();
                match event {
                    Event::Message { from, to, ballot, connection } => {
                        self.deliver(from, to, ballot, connection);
                    }
                    Event::Start(server) => self.start(server),
                    Event::Role(server, term) if self.servers[server].term == term => {
                        self.judge(server);
                    }
                    Event::Role(..) => {}
                }
            } else if let Some((_, server)) = tick {
                self.input(server, Input::Tick);
            }
        }
        self.ms = ms;
    }

    /// The one leader, if all that run have it.
    fn settled(&self) -> Option<usize> {
        self.settled_of(self.servers.len())
    }

    /// The one leader, if all that run of the first `count` have it.
    fn settled_of(&self, count: usize) -> Option<usize> {
        let up: Vec<usize> = (0..count).filter(|at| self.is_up(*at)).collect();
        let leader = self.servers[*up.first()?].leader?;
        let mut states = up.iter().map(|at| (*at, self.state(*at), self.servers[*at].leader));
        let is_settled = states.all(|(at, state, its)| {
            let is_right = match state {
                Some(PeerState::Leading) => at == leader,
                Some(PeerState::Following) => at != leader && at < self.voters,
                Some(PeerState::Observing) => at >= self.voters,
                Some(PeerState::Looking) | None => false,
            };
            is_right && its == Some(leader)
        });
        is_settled.then_some(leader)
    }

    /// The best of these by epoch, zxid and number.
    fn best(&self, of: impl Iterator<Item = usize>) -> usize {
        let key = |at: &usize| {
            let History { zxid, epoch } = self.servers[*at].history;
            (epoch, zxid, *at)
        };
        of.max_by_key(key).unwrap()
    }
}

#[test]
fn the_best_of_a_connected_majority_is_elected() {
    for seed in 0..600 {
        let mut rng = Rng::derived(seed, "who", 0);
        let voters = [3, 5, 7][rng.below(3) as usize];
        let mut world = World::new(seed, voters, rng.below(3) as usize, 20);
        let mut up: Vec<usize> = (0..voters).collect();
        for _ in 0..rng.below(voters as u64 / 2 + 1) {
            up.remove(rng.below(up.len() as u64) as usize);
        }
        let best = world.best(up.iter().copied());
        world.coming.extend(up.iter().copied());
        let observers = voters..world.servers.len();
        // In any order, within a short time.
        for server in up.into_iter().chain(observers) {
            let at = rng.below(30);
            world.schedule(at, Event::Start(server));
        }
        // Who is down refuses connections, so no voter waits 200 ms for a better vote. Observers
        // ask again after that time.
        world.run_until(180);
        assert_eq!(world.settled_of(voters), Some(best), "seed {seed}");
        world.run_until(5_000);
        assert_eq!(world.settled(), Some(best), "seed {seed}");
    }
}

#[test]
fn who_is_silent_is_waited_for_and_no_longer() {
    for seed in 0..200 {
        let mut world = World::new(seed, 3, 0, 5);
        world.cut.extend([(0, 2), (1, 2)]);
        for server in 0..3 {
            world.schedule(0, Event::Start(server));
        }
        world.run_until(150);
        assert_eq!(world.state(0), Some(PeerState::Looking), "seed {seed}");
        world.run_until(400);
        let best = world.best(0..2);
        assert_eq!(world.state(best), Some(PeerState::Leading), "seed {seed}");
        assert_eq!(world.state(2), Some(PeerState::Looking), "seed {seed}");
        // It comes back, and joins them however much better it is.
        world.run_until(3_000);
        world.cut.clear();
        world.connect(0, 2);
        world.connect(1, 2);
        world.run_until(4_000);
        assert_eq!(world.settled(), Some(best), "seed {seed}");
    }
}

#[test]
fn whatever_happens_they_settle_on_one_leader_afterwards() {
    let mut elections = 0;
    for seed in 0..400 {
        let mut rng = Rng::derived(seed, "faults", 0);
        let voters = [1, 2, 3, 4, 5, 7][rng.below(6) as usize];
        let delay_ms_max = [0, 5, 50, 400][rng.below(4) as usize];
        let mut world = World::new(seed, voters, rng.below(3) as usize, delay_ms_max);
        let count = world.servers.len() as u64;
        (0..count).for_each(|server| world.start(server as usize));
        for _ in 0..rng.below(60) {
            let (a, b) = (rng.below(count) as usize, rng.below(count) as usize);
            match rng.below(6) {
                0 => world.crash(a),
                1 | 2 => world.start(a),
                3 if a != b => drop(world.cut.insert(pair(a, b))),
                4 if a != b && world.is_up(a) && world.is_up(b) => {
                    world.cut.remove(&pair(a, b));
                    world.connect(a, b);
                }
                _ => {}
            }
            let pause_ms_max = [10, 300, 3_000][rng.below(3) as usize];
            let next = world.ms + rng.below(pause_ms_max);
            world.run_until(next);
        }
        let cut = std::mem::take(&mut world.cut);
        (0..count).for_each(|server| world.start(server as usize));
        cut.into_iter().for_each(|(a, b)| world.connect(a, b));
        // A leader whose followers went away unnoticed is noticed by its next heartbeat.
        for server in 0..count as usize {
            if world.has_role(server) {
                world.judge(server);
            }
        }
        let healed = world.ms;
        while world.settled().is_none() {
            assert!(world.ms < healed + 150_000, "seed {seed}: no leader");
            world.run_until(world.ms + 50);
        }
        let leader = world.settled();
        world.run_until(world.ms + 10_000);
        assert!(leader.is_some() && world.settled() == leader, "seed {seed}: not for long");
        // No two servers keep answering each other.
        assert!(world.count < 30_000, "seed {seed}: {} events", world.count);
        elections += world.servers.iter().map(|server| server.term).sum::<u64>();
    }
    assert!(elections > 4_000, "{elections}");
}
