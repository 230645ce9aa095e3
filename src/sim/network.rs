//! The network of a run: streams of bytes between endpoints, as TCP gives them, and what befalls
//! them.
//!
//! A stream is ordered in each direction: what arrives is a prefix of what was sent. It delays and
//! stalls; it is cut, and then loses what was in flight, while either end learns of that or never
//! does. Between two endpoints nothing may get through for a while, in one direction or in both
//! (`partition`): that is kept and sent again when the network heals, as TCP would. An end that
//! was left, and was not told, may learn of it when it sends; or nothing answers. Members' kernels
//! give up then (`GIVE_UP`).
//!
//! It decides nothing about endpoints and has no clock: `poll(now)` yields what has arrived by
//! then, in an order that depends on the seed and the calls only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::Rng;
use crate::peer::Port;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// Longest time until something is sent again after the network has healed.
const SENT_AGAIN: u64 = 400 * MS;

/// A member's kernel ends a stream after so long without an answer, as `sys::net` asks it to.
const GIVE_UP: u64 = 20_000 * MS;

/// Who is connected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Endpoint {
    /// A client, by its number.
    Client(usize),
    /// A server, by its number.
    Host(usize),
}

/// One end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct End(usize);

impl End {
    /// The other end.
    pub fn peer(self) -> End {
        End(self.0 ^ 1)
    }

    /// A port number for the end's address.
    pub fn port(self) -> u16 {
        1024 + (self.0 % 60_000) as u16
    }
}

/// What a stream is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    /// A client wants to be served.
    Clients,
    /// One member connects to another one.
    Members(Port),
}

/// How an end receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Pieces of a few kilobytes, soon.
    Fast,
    /// A few bytes at a time.
    Dribble,
    /// Small pieces, each long after the one before.
    Slow,
}

/// What reaches an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Arrived {
    /// The other end wants to connect.
    Opened(Door),
    /// The other end has let this one connect; only members wait for that.
    Accepted,
    /// The next bytes.
    Bytes(Vec<u8>),
    /// The other end sends no more.
    Finished,
    /// The stream is broken.
    Failed,
    /// The bytes of the end's own last send are on their way; there is room for the next.
    Taken,
}

/// Something that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Delivery {
    pub end: End,
    /// Whose end.
    pub to: Endpoint,
    pub what: Arrived,
}

/// What a run's network is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkOptions {
    /// Bytes that may be in flight in one direction before a send has to wait.
    pub window: usize,
}

#[derive(Debug)]
enum Packet {
    Arrival(Arrived),
    /// Everything before has arrived: the sender has room again.
    Receipt,
}

#[derive(Debug)]
struct EndState {
    owner: Endpoint,
    pace: Pace,
    /// On their way to this end, with the time when they would arrive.
    incoming: VecDeque<(u64, Packet)>,
    /// The latest of those times.
    due_last: u64,
    /// Bytes on their way to this end.
    in_flight: usize,
    /// Nothing arrives before.
    stalled_until: u64,
    /// When this end is looked at next.
    wake: Option<u64>,
    /// Its owner has left it.
    is_gone: bool,
    /// A sender to this end is told when it is gone; drawn the first time.
    tells: Option<bool>,
}

#[derive(Debug)]
enum Timer {
    Arrival(End),
    Taken(End),
}

/// See the module's introduction.
#[derive(Debug)]
pub(super) struct Network {
    options: NetworkOptions,
    rng: Rng,
    /// The ends of stream n are 2n, which connected, and 2n + 1.
    ends: Vec<EndState>,
    /// Streams that were cut.
    cut: BTreeSet<usize>,
    timers: BTreeMap<(u64, u64), Timer>,
    number: u64,
    /// Pairs between which nothing gets through, from the first to the second.
    blocked: BTreeSet<(Endpoint, Endpoint)>,
}

impl Network {
    /// Nothing is connected.
    pub fn new(options: NetworkOptions, rng: Rng) -> Network {
        Network {
            options,
            rng,
            ends: Vec::new(),
            cut: BTreeSet::new(),
            timers: BTreeMap::new(),
            number: 0,
            blocked: BTreeSet::new(),
        }
    }

    /// When [`Network::poll`] has something to do next.
    pub fn deadline(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((time, _), _)| *time)
    }

    /// The next thing that has arrived.
    pub fn poll(&mut self, now: u64) -> Option<Delivery> {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let ((time, _), timer) = entry.remove_entry();
            let found = match timer {
                Timer::Taken(end) => Some((end, Arrived::Taken)),
                Timer::Arrival(end) if self.ends[end.0].wake == Some(time) => self.arrive(now, end),
                // It was put off or brought forward since.
                Timer::Arrival(_) => None,
            };
            if let Some((end, what)) = found
                && !self.ends[end.0].is_gone
            {
                return Some(Delivery { end, to: self.ends[end.0].owner, what });
            }
        }
        None
    }

    fn arrive(&mut self, now: u64, end: End) -> Option<(End, Arrived)> {
        let is_held = self.is_held(end);
        let state = &mut self.ends[end.0];
        state.wake = None;
        if is_held {
            return None;
        }
        let is_due = |due: u64| due.max(state.stalled_until) <= now;
        let packet = match state.incoming.front() {
            Some((due, _)) if is_due(*due) => state.incoming.pop_front(),
            _ => None,
        };
        self.watch(now, end);
        match packet?.1 {
            Packet::Receipt => Some((end.peer(), Arrived::Taken)),
            Packet::Arrival(what) => {
                if let Arrived::Bytes(bytes) = &what {
                    self.ends[end.0].in_flight -= bytes.len();
                }
                Some((end, what))
            }
        }
    }

    /// Whether a partition keeps what is on its way to this end.
    fn is_held(&self, end: End) -> bool {
        let pair = (self.ends[end.peer().0].owner, self.ends[end.0].owner);
        !self.blocked.is_empty() && self.blocked.contains(&pair)
    }

    /// Makes sure that the end is looked at when the next packet arrives.
    fn watch(&mut self, now: u64, end: End) {
        if self.is_held(end) {
            return;
        }
        let state = &mut self.ends[end.0];
        let Some((due, _)) = state.incoming.front() else { return };
        let time = (*due).max(state.stalled_until).max(now);
        if state.wake.is_none_or(|wake| time != wake) {
            state.wake = Some(time);
            self.at(time, Timer::Arrival(end));
        }
    }

    fn at(&mut self, time: u64, timer: Timer) {
        self.number += 1;
        self.timers.insert((time, self.number), timer);
    }

    fn latency(&mut self) -> u64 {
        (20 + self.rng.below(200)) * US
    }

    /// Puts a packet on its way, after those that are.
    fn push(&mut self, now: u64, to: End, delay: u64, packet: Packet) {
        let state = &mut self.ends[to.0];
        let last = state.due_last.max(now);
        let due = match state.pace {
            Pace::Slow => last + delay,
            Pace::Fast | Pace::Dribble => last.max(now + delay),
        };
        state.due_last = due;
        state.incoming.push_back((due, packet));
        self.watch(now, to);
    }

    fn push_arrival(&mut self, now: u64, to: End, what: Arrived) {
        let delay = self.latency();
        self.push(now, to, delay, Packet::Arrival(what));
    }

    /// Begins a stream; the end that connects. `paces`: of its end, and of the other.
    pub fn open(
        &mut self,
        now: u64,
        [from, to]: [Endpoint; 2],
        door: Door,
        paces: [Pace; 2],
    ) -> End {
        let end = End(self.ends.len());
        for (owner, pace) in [from, to].into_iter().zip(paces) {
            self.ends.push(EndState {
                owner,
                pace,
                incoming: VecDeque::new(),
                due_last: 0,
                in_flight: 0,
                stalled_until: 0,
                wake: None,
                is_gone: false,
                tells: None,
            });
        }
        self.push_arrival(now, end.peer(), Arrived::Opened(door));
        end
    }

    /// Lets a member connect whose stream has arrived at this end.
    pub fn accept(&mut self, now: u64, end: End) {
        if !self.ends[end.0].is_gone && !self.is_cut(end) {
            self.push_arrival(now, end.peer(), Arrived::Accepted);
        }
    }

    /// Sends. A host is told when there is room again ([`Arrived::Taken`]); a client has always
    /// room.
    pub fn send(&mut self, now: u64, from: End, bytes: &[u8]) {
        let to = from.peer();
        if self.ends[from.0].is_gone {
            return;
        }
        self.ends[to.0].in_flight += bytes.len();
        let has_room = self.ends[to.0].in_flight <= self.options.window;
        let is_host = matches!(self.ends[from.0].owner, Endpoint::Host(_));
        let is_lost = self.is_cut(from) || self.ends[to.0].is_gone;
        if is_lost {
            self.send_in_vain(now, from);
        } else {
            self.send_pieces(now, to, bytes);
        }
        if is_host && has_room {
            self.at(now + 10 * US, Timer::Taken(from));
        } else if is_host && !is_lost {
            self.push(now, to, 0, Packet::Receipt);
        }
    }

    fn send_pieces(&mut self, now: u64, to: End, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (most, slower) = match self.ends[to.0].pace {
                Pace::Fast => (4096, 1),
                Pace::Dribble => (1 + self.rng.below(30) as usize, 1),
                Pace::Slow => (256, 20),
            };
            let (piece, tail) = rest.split_at(most.min(rest.len()));
            let delay = self.latency() * slower;
            self.push(now, to, delay, Packet::Arrival(Arrived::Bytes(piece.to_vec())));
            rest = tail;
        }
    }

    /// What was sent to an end that is gone may be answered with a reset.
    fn send_in_vain(&mut self, now: u64, from: End) {
        let to = from.peer();
        if self.is_cut(from) || self.is_held(to) {
            return;
        }
        if self.ends[to.0].tells.is_none() {
            let tells = self.rng.chance(1, 2);
            self.ends[to.0].tells = Some(tells);
            match tells {
                true => self.push_arrival(now, from, Arrived::Failed),
                false => self.give_up(now, from),
            }
        }
    }

    /// Nothing answers at the other end, which a member's kernel finds out.
    fn give_up(&mut self, now: u64, end: End) {
        let is_host = |end: End| matches!(self.ends[end.0].owner, Endpoint::Host(_));
        if is_host(end) && is_host(end.peer()) && !self.ends[end.0].is_gone {
            self.push(now, end, GIVE_UP, Packet::Arrival(Arrived::Failed));
        }
    }

    /// Says that nothing more will be sent; what arrives is still wanted.
    pub fn finish(&mut self, now: u64, from: End) {
        let to = from.peer();
        if !self.ends[from.0].is_gone && !self.ends[to.0].is_gone && !self.is_cut(from) {
            self.push_arrival(now, to, Arrived::Finished);
        }
    }

    /// Leaves a stream: the other end gets what was sent, and the end of it.
    pub fn close(&mut self, now: u64, end: End) {
        self.finish(now, end);
        self.leave(end);
    }

    /// Leaves a stream without a word to the other end.
    pub fn leave(&mut self, end: End) {
        let state = &mut self.ends[end.0];
        state.is_gone = true;
        state.incoming.clear();
    }

    /// Refuses to connect, or ends a stream with a reset.
    pub fn reset(&mut self, now: u64, end: End) {
        let to = end.peer();
        if !self.ends[end.0].is_gone && !self.ends[to.0].is_gone && !self.is_cut(end) {
            self.push_arrival(now, to, Arrived::Failed);
        }
        self.leave(end);
    }

    fn is_cut(&self, end: End) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(end.0 / 2))
    }

    /// Cuts a stream. What is in flight is lost, and everything that is sent from now on. `told`
    /// says of this end and of the other whether it learns so.
    pub fn cut(&mut self, now: u64, end: End, told: [bool; 2]) {
        if !self.cut.insert(end.0 / 2) {
            return;
        }
        for (end, told) in [end, end.peer()].into_iter().zip(told) {
            self.ends[end.0].incoming.clear();
            if !told {
                self.give_up(now, end);
            } else if !self.ends[end.0].is_gone {
                self.push_arrival(now, end, Arrived::Failed);
            }
        }
    }

    /// One end of each stream between hosts that neither has left.
    pub fn between_hosts(&self) -> Vec<End> {
        let is_member = |end: End| {
            let state = &self.ends[end.0];
            matches!(state.owner, Endpoint::Host(_)) && !state.is_gone
        };
        let ends = (0..self.ends.len()).step_by(2).map(End);
        ends.filter(|&end| is_member(end) && is_member(end.peer()) && !self.is_cut(end)).collect()
    }

    /// Whose end this is.
    pub fn owner(&self, end: End) -> Endpoint {
        self.ends[end.0].owner
    }

    /// Nothing reaches this end before `until`; then everything does.
    pub fn stall(&mut self, now: u64, end: End, until: u64) {
        self.ends[end.0].stalled_until = until;
        self.watch(now, end);
    }

    /// An endpoint is gone, and its ends with it. If the power failed, what had not left it yet is
    /// lost. Some of the others learn of it, the rest only if something answers later.
    pub fn lose(&mut self, now: u64, owner: Endpoint, power: bool) {
        for at in 0..self.ends.len() {
            if self.ends[at].owner != owner || self.ends[at].is_gone {
                continue;
            }
            let (end, peer) = (End(at), End(at).peer());
            self.leave(end);
            if self.ends[peer.0].is_gone || self.is_cut(end) {
                continue;
            }
            let waiting = self.ends[peer.0].incoming.len() as u64;
            if power && self.rng.chance(1, 2) {
                let left = self.rng.below(waiting + 1) as usize;
                self.ends[peer.0].incoming.truncate(left);
            }
            if self.rng.chance(2, 3) {
                let delay = self.rng.below(20 * MS);
                // A machine that is up resets what has something unread.
                let is_member = matches!(self.ends[peer.0].owner, Endpoint::Host(_));
                let is_reset = is_member && self.rng.chance(1, 2);
                let what = if is_reset { Arrived::Failed } else { Arrived::Finished };
                self.push(now, peer, delay, Packet::Arrival(what));
            }
        }
    }

    /// From now on nothing gets from one endpoint to another.
    pub fn partition(&mut self, from: Endpoint, to: Endpoint) {
        self.blocked.insert((from, to));
    }

    /// Everything gets through again, what was kept first.
    pub fn heal(&mut self, now: u64, from: Endpoint, to: Endpoint) {
        if !self.blocked.remove(&(from, to)) {
            return;
        }
        for at in 0..self.ends.len() {
            let end = End(at);
            if self.ends[at].owner == to && self.ends[end.peer().0].owner == from {
                let until = now + self.rng.below(SENT_AGAIN);
                self.stall(now, end, until);
            }
        }
    }

    /// Ends all partitions and stalls.
    pub fn heal_all(&mut self, now: u64) {
        for (from, to) in std::mem::take(&mut self.blocked) {
            self.blocked.insert((from, to));
            self.heal(now, from, to);
        }
        for at in 0..self.ends.len() {
            let soon = now + SENT_AGAIN;
            if self.ends[at].stalled_until > soon {
                self.stall(now, End(at), soon);
            }
        }
    }
}

#[cfg(test)]
mod tests;
