//! Election ports of several servers on a network in memory. What comes next is chosen from
//! outside, so that a test can go through all orders.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::net::SocketAddr;

use crate::base::{FixedHasher, Instant, LinkId, Rng, ServerId, Zxid};
use crate::peer::{
    DialError, Effect, Effects, ElectionEvent, ElectionLinkOptions, ElectionLinks, Input,
    LinkNumbers, Port,
};
use crate::wire::vote::{Notification, PeerState, Round, VoteEpoch};

/// What a host's system tells it about one connection.
#[derive(Clone, Debug)]
enum News {
    Accepted,
    Dialed(Result<(), DialError>),
    Bytes(Vec<u8>),
    Unsent,
    Ended(bool),
}

/// One end of a connection: a host and its number there.
type End = (usize, LinkId);

/// A host whose election port is under test.
#[derive(Debug)]
pub(super) struct Host {
    pub links: ElectionLinks,
    pub numbers: LinkNumbers,
    /// Nobody listens there while it is down.
    pub is_up: bool,
    /// The last message that came from each server.
    pub heard: BTreeMap<ServerId, i64>,
    pub unreachable: Vec<ServerId>,
}

pub(super) struct Network {
    pub now: Instant,
    pub hosts: Vec<Host>,
    /// What waits at each end, in order.
    news: BTreeMap<End, VecDeque<News>>,
    /// The other end of each end that is open.
    others: BTreeMap<End, End>,
    next_accepted: u64,
    /// How often a host has dialed.
    pub dials: usize,
}

pub(super) fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 3888))
}

pub(super) fn sid(host: usize) -> ServerId {
    ServerId(host as i64 + 1)
}

/// A vote that is known again by its round.
pub(super) fn vote(round: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let vote = Notification {
        state: PeerState::Looking,
        leader: ServerId(1),
        zxid: Zxid::ZERO,
        round: Round(round),
        epoch: VoteEpoch(0),
        version: Notification::VERSION,
        config: Some(b"version=0"),
    };
    vote.encode_into(&mut out);
    out
}

impl Network {
    /// Members 1 to `count`.
    pub fn new(count: usize) -> Network {
        let members: Vec<ServerId> = (0..count).map(sid).collect();
        let host = |host: usize| {
            let addresses = vec![(address(host).ip().to_string(), 3888)];
            let options = ElectionLinkOptions::new(sid(host), addresses, members.clone());
            Host {
                links: ElectionLinks::new(options),
                numbers: LinkNumbers::default(),
                is_up: true,
                heard: BTreeMap::new(),
                unreachable: Vec::new(),
            }
        };
        Network {
            now: Instant::from_ms(1_000),
            hosts: (0..count).map(host).collect(),
            news: BTreeMap::new(),
            others: BTreeMap::new(),
            next_accepted: 1,
            dials: 0,
        }
    }

    /// Ends at which something waits.
    pub fn waiting(&self) -> Vec<End> {
        self.news.iter().filter(|(_, news)| !news.is_empty()).map(|(end, _)| *end).collect()
    }

    /// Tells an end the next of what waits there.
    pub fn deliver(&mut self, end: End) {
        let Some(news) = self.news.get_mut(&end).and_then(VecDeque::pop_front) else { return };
        let (host, link) = end;
        let bytes;
        let input = match news {
            News::Accepted => Input::Accepted { link, port: Port::Election, from: address(0) },
            News::Dialed(result) => Input::Dialed { link, result: result.map(|()| address(0)) },
            News::Bytes(arrived) => {
                bytes = arrived;
                Input::Bytes { link, bytes: &bytes }
            }
            News::Unsent => Input::Unsent { link, bytes: 0 },
            News::Ended(was_reset) => Input::Ended { link, was_reset },
        };
        let mut effects = Effects::default();
        let Host { links, numbers, heard, unreachable, .. } = &mut self.hosts[host];
        links.handle(self.now, input, numbers, &mut effects, &mut |event| match event {
            ElectionEvent::Heard(from, vote) => {
                heard.insert(from, vote.round.0);
            }
            ElectionEvent::Unreachable(sid) => unreachable.push(sid),
            ElectionEvent::Connected(_) | ElectionEvent::Died(_) => {}
        });
        self.carry_out(host, &effects);
    }

    pub fn send(&mut self, host: usize, to: usize, round: i64) {
        let mut effects = Effects::default();
        let Host { links, numbers, .. } = &mut self.hosts[host];
        links.send(self.now, sid(to), &vote(round), numbers, &mut effects);
        self.carry_out(host, &effects);
    }

    /// Tells states apart, together with what a test has not done yet.
    pub fn fingerprint(&self, to_do: &[usize]) -> u64 {
        let Network { now, hosts, news, others, .. } = self;
        let mut hasher = FixedHasher::default();
        hasher.write(format!("{now:?} {hosts:?} {news:?} {others:?} {to_do:?}").as_bytes());
        hasher.finish()
    }

    /// Goes on to the next deadline, unless it is later than `until`. Says whether there was one.
    pub fn pass(&mut self, until: Instant) -> bool {
        let deadlines = self.hosts.iter().filter_map(|host| host.links.deadline());
        let Some(next) = deadlines.min().filter(|next| *next <= until) else { return false };
        self.now = self.now.max(next);
        for host in 0..self.hosts.len() {
            let mut effects = Effects::default();
            let Host { links, numbers, .. } = &mut self.hosts[host];
            links.tick(self.now, numbers, &mut effects);
            self.carry_out(host, &effects);
        }
        true
    }

    /// Delivers in random order, and lets time pass while nothing waits, until nothing is to be
    /// done or the time has come.
    pub fn settle(&mut self, rng: &mut Rng, until: Instant) {
        loop {
            let waiting = self.waiting();
            match waiting.get(rng.below(waiting.len() as u64) as usize) {
                Some(end) => self.deliver(*end),
                None if self.pass(until) => {}
                None => return,
            }
        }
    }

    fn carry_out(&mut self, host: usize, effects: &Effects) {
        for effect in &effects.list {
            match *effect {
                Effect::Dial { link, to, port } => {
                    assert_eq!(port, Port::Election);
                    self.dial((host, link), to);
                }
                Effect::Send { link, start, end } => {
                    let bytes = effects.bytes[start..end].to_vec();
                    self.push((host, link), News::Unsent);
                    if let Some(other) = self.others.get(&(host, link)) {
                        self.push(*other, News::Bytes(bytes));
                    }
                }
                Effect::Close { link } => self.cut((host, link), Some(host), false),
                Effect::Hold { .. } | Effect::Resume { .. } | Effect::KeepAlive { .. } => {}
            }
        }
    }

    fn push(&mut self, end: End, news: News) {
        if let Some(waiting) = self.news.get_mut(&end) {
            waiting.push_back(news);
        }
    }

    fn dial(&mut self, from: End, to: ServerId) {
        self.dials += 1;
        self.news.insert(from, VecDeque::new());
        let other = (to.0 - 1) as usize;
        if !self.hosts[other].is_up {
            return self.push(from, News::Dialed(Err(DialError::Refused)));
        }
        let accepted = (other, LinkId(self.next_accepted));
        self.next_accepted += 2;
        self.news.insert(accepted, VecDeque::from([News::Accepted]));
        self.push(from, News::Dialed(Ok(())));
        self.others.insert(from, accepted);
        self.others.insert(accepted, from);
    }

    /// Ends a connection. `by`, which has closed it, hears nothing more of it.
    fn cut(&mut self, end: End, by: Option<usize>, was_reset: bool) {
        let other = self.others.remove(&end);
        for end in [Some(end), other].into_iter().flatten() {
            self.others.remove(&end);
            if by == Some(end.0) {
                self.news.remove(&end);
            } else {
                self.push(end, News::Ended(was_reset));
            }
        }
    }

    /// Ends all connections of a host from outside; `was_reset` as its system does when it ends.
    pub fn cut_all(&mut self, host: usize, was_reset: bool) {
        let ends: Vec<End> = self.others.keys().filter(|end| end.0 == host).copied().collect();
        for end in ends {
            self.cut(end, None, was_reset);
        }
    }

    /// Whether each two servers have one connection, made by the larger id, and nothing else.
    pub fn check_settled(&self) {
        let count = self.hosts.len();
        let expected = (count * (count - 1)) as u64;
        assert_eq!(self.others.len() as u64, expected, "{:?}", self.others);
        for (from, to) in &self.others {
            let [dialer, other] = if from.1.0 % 2 == 0 { [from, to] } else { [to, from] };
            assert_eq!((dialer.1.0 % 2, other.1.0 % 2), (0, 1));
            assert!(dialer.0 > other.0, "{:?}", self.others);
            assert!(self.hosts[from.0].links.owns(from.1), "{from:?} of {:?}", self.others);
            assert!(self.hosts[from.0].links.is_connected(sid(to.0)));
        }
    }
}
