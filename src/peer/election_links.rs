//! The connections of one server's election port.
//!
//! Counterpart of `QuorumCnxManager`. Two servers have one connection, over which votes go both
//! ways: the one that the server with the larger id has made. A server with a smaller id connects
//! only to say who it is; the other one closes that connection and dials back. One message waits
//! for each server, and a newer one replaces it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{Instant, LifelineKey, LinkId, Mark, ServerId, invariant, mark};
use crate::wire::vote::{ANONYMOUS, First, Hello, Notification, next_message};

use super::complaints::{Complaint, Complaints};
use super::correspondent::{Correspondent, DIAL_BACK, Ended};
use super::{DialError, Effect, Effects, Input, LinkNumbers, Port};

/// Settings of the election port, as plain values.
#[derive(Clone, Debug)]
pub struct ElectionLinkOptions {
    /// This server.
    pub sid: ServerId,
    /// Where this server's election port is, by its configuration, for the hello: one at least,
    /// and several only where other members understand them (`multiAddress.enabled`).
    pub own_addresses: Vec<(String, u16)>,
    /// All members of the configuration, with or without this server.
    pub members: Vec<ServerId>,
    /// How long a connection may take to say who it is from (`cnxTimeout`).
    pub hello_timeout: Duration,
}

impl ElectionLinkOptions {
    /// With the time that ZooKeeper gives a hello, 5 s.
    pub fn new(
        sid: ServerId,
        own_addresses: Vec<(String, u16)>,
        members: Vec<ServerId>,
    ) -> ElectionLinkOptions {
        let hello_timeout = Duration::from_secs(5);
        ElectionLinkOptions { sid, own_addresses, members, hello_timeout }
    }
}

/// Something that the election should know.
#[derive(Debug)]
pub enum ElectionEvent<'a> {
    /// A server sent a message. It may be a stale one, repeated on a new connection.
    Heard(ServerId, Notification<'a>),
    /// There is a connection with this server, perhaps another one than before.
    Connected(ServerId),
    /// This server's machine says that nobody listens there: it has refused a connection, or reset
    /// one. Silence is something else.
    Unreachable(ServerId),
    /// This server's lifeline has ended, so its process has.
    Died(ServerId),
}

/// Takes events in the order in which they happen.
pub type ElectionEvents<'e> = dyn FnMut(ElectionEvent<'_>) + 'e;

/// What one call needs besides its input.
struct Turn<'t, 'e> {
    now: Instant,
    numbers: &'t mut LinkNumbers,
    effects: &'t mut Effects,
    event: &'t mut ElectionEvents<'e>,
}

/// See the introduction of this file.
///
/// Invariants: a server has one connection at most, and `Correspondent::link` names it; a member
/// with a larger id is never the other end of a connection that was dialed here and is in use.
#[derive(Debug)]
pub struct ElectionLinks {
    options: ElectionLinkOptions,
    links: BTreeMap<LinkId, Link>,
    /// All members but this server, and the guests.
    others: BTreeMap<ServerId, Correspondent>,
    /// The id of the next server that has none.
    next_private: i64,
    complaints: Complaints,
    /// Whose lifeline is of use: the leader that this server follows, and the key that only this
    /// leader has.
    followed: Option<(ServerId, LifelineKey)>,
}

#[derive(Debug)]
struct Link {
    stage: Stage,
    /// What arrived and is no whole message yet.
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It is being made.
    Dialing(ServerId),
    /// It was made to a server with a larger id, which has been told who is here, and is to make
    /// the connection that stays. The server closes this one.
    Greeted(ServerId, Instant),
    /// It arrived, and has not said who it is from.
    Greeting { from: SocketAddr, until: Instant },
    /// Messages go over it.
    Live(Live),
    /// It ends when the leader's process does, and nothing goes over it.
    Lifeline,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    sid: ServerId,
    began: Instant,
    /// Bytes that the socket has not taken.
    unsent: usize,
    /// The last message for the server waits until the socket has taken what came before.
    is_behind: bool,
    /// When a message was given to it last.
    handed_at: Option<Instant>,
}

/// Connections without a hello that are kept; of more the oldest goes.
const GREETINGS_MAX: usize = 64;

/// Servers without a place in the configuration that may be connected; of more the oldest goes.
/// They can look for a leader, and are not counted.
const GUESTS_MAX: usize = 32;

impl ElectionLinks {
    /// Nothing is connected yet, and nothing is dialed before there is a message.
    pub fn new(options: ElectionLinkOptions) -> ElectionLinks {
        let is_other = |sid: &&ServerId| **sid != options.sid;
        let others = options.members.iter().filter(is_other);
        let others = others.map(|sid| (*sid, Correspondent::member()));
        let others: BTreeMap<ServerId, Correspondent> = others.collect();
        let least = options.members.iter().map(|sid| sid.0).min().unwrap_or(0);
        let next_private = least.min(options.sid.0).min(0).saturating_sub(1);
        let (links, complaints) = (BTreeMap::new(), Complaints::default());
        ElectionLinks { options, links, others, next_private, complaints, followed: None }
    }

    /// Whether a connection is one of the election port that is still in use here.
    pub fn owns(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Whether there is a connection with this server.
    pub fn is_connected(&self, sid: ServerId) -> bool {
        self.others.get(&sid).is_some_and(|other| other.link.is_some())
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Option<Instant> {
        let greetings = self.links.values().filter_map(|link| match link.stage {
            Stage::Greeting { until, .. } | Stage::Greeted(_, until) => Some(until),
            Stage::Dialing(_) | Stage::Live(_) | Stage::Lifeline => None,
        });
        greetings.chain(self.others.values().filter_map(Correspondent::redial_at)).min()
    }

    /// Takes one input about a connection of the election port. Others are ignored.
    pub fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        numbers: &mut LinkNumbers,
        effects: &mut Effects,
        event: &mut ElectionEvents<'_>,
    ) {
        let mut turn = Turn { now, numbers, effects, event };
        match input {
            Input::Accepted { link, port: Port::Election, from } => {
                self.accepted(&mut turn, link, from);
            }
            Input::Accepted { port: Port::Quorum, .. } => {}
            Input::Dialed { link, result } => self.dialed(&mut turn, link, result),
            Input::Bytes { link, bytes } => self.received(&mut turn, link, bytes),
            Input::Unsent { link, bytes } => self.taken(&mut turn, link, bytes),
            Input::Ended { link, was_reset } => self.ended(&mut turn, link, was_reset),
        }
        self.check();
    }

    /// Sends a whole message, its length included, or keeps it until there is a connection; one for
    /// the same server that has not left yet is replaced. A server that is neither a member nor
    /// connected gets nothing.
    pub fn send(
        &mut self,
        now: Instant,
        to: ServerId,
        message: &[u8],
        numbers: &mut LinkNumbers,
        effects: &mut Effects,
    ) {
        let Some(other) = self.others.get_mut(&to) else { return };
        other.message.clear();
        other.message.extend_from_slice(message);
        match other.link {
            Some(link) => self.hand_over(now, link, effects),
            None => {
                other.wait(now);
                if other.may_dial(now) {
                    self.dial(to, numbers, effects);
                }
            }
        }
        self.check();
    }

    /// The server was the leader, and its other connection has ended: probably it has ended, too,
    /// and makes no connection that it is expected to make. The next message for it is worth
    /// dialing at once.
    pub fn suspect(&mut self, now: Instant, sid: ServerId) {
        if let Some(other) = self.others.get_mut(&sid) {
            other.suspect(now);
        }
    }

    /// Does what is due: closes connections that do not say who they are from, and dials again.
    pub fn tick(&mut self, now: Instant, numbers: &mut LinkNumbers, effects: &mut Effects) {
        let late = self.links.iter().filter_map(|(id, link)| match link.stage {
            Stage::Greeting { from, until } if until <= now => Some((*id, from)),
            _ => None,
        });
        for (id, from) in late.collect::<Vec<_>>() {
            let ms = self.options.hello_timeout.as_millis();
            self.complaints.say(
                now,
                Complaint::Silent,
                format_args!(
                    "closing the connection of {from} to the election port: it has not said \
                     within {ms} ms which server it is from"
                ),
            );
            self.close(id, effects);
        }
        self.close_greeted(effects, |_, until| until <= now);
        let due = |other: &Correspondent| other.redial_at().is_some_and(|at| at <= now);
        let due: Vec<_> =
            self.others.iter().filter(|(_, other)| due(other)).map(|(sid, _)| *sid).collect();
        for sid in due {
            self.dial(sid, numbers, effects);
        }
        self.check();
    }

    fn dial(&mut self, to: ServerId, numbers: &mut LinkNumbers, effects: &mut Effects) {
        let Some(other) = self.others.get_mut(&to) else { return };
        let link = numbers.next_dialed();
        other.dial = Some(link);
        self.links.insert(link, Link { stage: Stage::Dialing(to), buffer: Vec::new() });
        effects.list.push(Effect::Dial { link, to, port: Port::Election });
    }

    /// This server has no say any more: closes everything, and forgets what was to be sent.
    pub fn close_all(&mut self, effects: &mut Effects) {
        for link in std::mem::take(&mut self.links).into_keys() {
            effects.list.push(Effect::Close { link });
        }
        for other in self.others.values_mut() {
            *other = Correspondent::member();
        }
    }

    /// Closes a connection and forgets it.
    fn close(&mut self, link: LinkId, effects: &mut Effects) {
        self.links.remove(&link);
        effects.list.push(Effect::Close { link });
    }

    /// Closes those connections to servers with a larger id that the condition names.
    fn close_greeted(
        &mut self,
        effects: &mut Effects,
        is_over: impl Fn(ServerId, Instant) -> bool,
    ) {
        self.close_where(
            effects,
            |stage| matches!(stage, Stage::Greeted(sid, until) if is_over(*sid, *until)),
        );
    }

    fn close_where(&mut self, effects: &mut Effects, is_over: impl Fn(&Stage) -> bool) {
        let over = self.links.iter().filter(|(_, link)| is_over(&link.stage));
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close(id, effects);
        }
    }

    fn accepted(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, from: SocketAddr) {
        let is_greeting = |link: &Link| matches!(link.stage, Stage::Greeting { .. });
        let greetings = || self.links.iter().filter(|(_, link)| is_greeting(link));
        // The numbers ascend, so the first is the oldest.
        let oldest = greetings().next().map(|(id, _)| *id);
        if let Some(oldest) = oldest.filter(|_| greetings().count() >= GREETINGS_MAX) {
            self.complaints.say(
                turn.now,
                Complaint::TooMany,
                format_args!(
                    "{GREETINGS_MAX} connections to the election port have not said which server \
                     they are from: closing the oldest, since another one came from {from}"
                ),
            );
            self.close(oldest, turn.effects);
        }
        let until = turn.now + self.options.hello_timeout;
        let stage = Stage::Greeting { from, until };
        self.links.insert(id, Link { stage, buffer: Vec::new() });
    }

    fn dialed(
        &mut self,
        turn: &mut Turn<'_, '_>,
        id: LinkId,
        result: Result<SocketAddr, DialError>,
    ) {
        let Some(Link { stage: Stage::Dialing(sid), .. }) = self.links.get(&id) else { return };
        let sid = *sid;
        let Some(other) = self.others.get_mut(&sid) else { return };
        other.dial = None;
        if let Err(error) = result {
            self.links.remove(&id);
            other.failed(turn.now);
            if let Some(more) = other.unreachable.take(turn.now) {
                let sid = sid.0;
                log::warn!("no connection to the election port of server {sid}: {error}{more}");
            }
            if error == DialError::Refused {
                mark(Mark::ElectionPortRefuses);
                (turn.event)(ElectionEvent::Unreachable(sid));
            }
            return;
        }
        let mut hello = Vec::new();
        let addresses = self.options.own_addresses.clone();
        Hello { sid: self.options.sid, addresses }.encode_into(&mut hello);
        turn.effects.send(id, &hello);
        if sid > self.options.sid {
            let greeted = Stage::Greeted(sid, turn.now + DIAL_BACK);
            other.greeted(turn.now);
            self.links.insert(id, Link { stage: greeted, buffer: Vec::new() });
        } else {
            self.establish(turn, id, sid);
        }
    }

    /// A connection is the one with this server from now on.
    fn establish(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, sid: ServerId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let began = turn.now;
        link.stage = Stage::Live(Live { sid, began, unsent: 0, is_behind: false, handed_at: None });
        let other = self.others.entry(sid).or_default();
        let (last, dial) = (other.link.replace(id), other.dial.take());
        if last.is_some() {
            mark(Mark::ElectionLinkReplaced);
        }
        other.connected();
        for old in [last, dial].into_iter().flatten() {
            self.close(old, turn.effects);
        }
        self.close_greeted(turn.effects, |greeted, _| greeted == sid);
        (turn.event)(ElectionEvent::Connected(sid));
        self.hand_over(turn.now, id, turn.effects);
    }

    /// Gives the last message for a server to its connection, once all before it has left.
    fn hand_over(&mut self, now: Instant, id: LinkId, effects: &mut Effects) {
        let Some(Link { stage: Stage::Live(live), .. }) = self.links.get_mut(&id) else { return };
        let Some(other) = self.others.get(&live.sid) else { return };
        live.is_behind = live.unsent > 0;
        if live.is_behind {
            mark(Mark::VoteWaits);
        }
        if !live.is_behind && !other.message.is_empty() {
            effects.send(id, &other.message);
            live.unsent = other.message.len();
            live.handed_at = Some(now);
        }
    }

    fn taken(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, unsent: usize) {
        let Some(Link { stage: Stage::Live(live), .. }) = self.links.get_mut(&id) else { return };
        live.unsent = unsent + turn.effects.queued(id);
        if live.is_behind && live.unsent == 0 {
            self.hand_over(turn.now, id, turn.effects);
        }
    }

    fn ended(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, was_reset: bool) {
        match self.links.remove(&id).map(|link| link.stage) {
            Some(Stage::Live(live)) => self.lost(turn, live, was_reset),
            // A dial ends by its result, and nobody waits for a connection without a hello.
            Some(Stage::Dialing(sid)) => {
                if let Some(other) = self.others.get_mut(&sid) {
                    other.dial = None;
                    other.failed(turn.now);
                }
            }
            // A server that lives reads who is here, and then closes it. One that is about to end
            // still has the connection in its queue, and its end resets it: nobody dials back.
            Some(Stage::Greeted(sid, _)) if was_reset => {
                if let Some(other) = self.others.get_mut(&sid).filter(|other| other.link.is_none())
                {
                    mark(Mark::GreetingReset);
                    other.not_greeted(turn.now);
                    (turn.event)(ElectionEvent::Unreachable(sid));
                }
            }
            // A reset is no end of a process: its kernel says goodbye for it.
            Some(Stage::Lifeline) if !was_reset => {
                if let Some((leader, _)) = self.followed {
                    (turn.event)(ElectionEvent::Died(leader));
                }
            }
            Some(Stage::Greeting { .. } | Stage::Greeted(..) | Stage::Lifeline) | None => {}
        }
    }

    /// The connection of a server is gone.
    fn lost(&mut self, turn: &mut Turn<'_, '_>, live: Live, was_reset: bool) {
        let Live { sid, began, unsent, handed_at, is_behind: _ } = live;
        let Some(other) = self.others.get_mut(&sid) else { return };
        if !other.is_member {
            self.others.remove(&sid);
            return;
        }
        let may_be_replaced = sid > self.options.sid && !was_reset;
        let is_unsent = unsent > 0;
        other.lost(turn.now, &Ended { began, may_be_replaced, is_unsent, handed_at });
        let is_due = other.redial_at().is_some_and(|at| at <= turn.now);
        if was_reset {
            (turn.event)(ElectionEvent::Unreachable(sid));
        }
        if is_due {
            mark(Mark::RedialedAtOnce);
            self.dial(sid, turn.numbers, turn.effects);
        }
    }

    fn received(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if matches!(link.stage, Stage::Greeted(..) | Stage::Lifeline) {
            // Nothing is said on it.
            return self.close(id, turn.effects);
        }
        link.buffer.extend_from_slice(bytes);
        if let Stage::Greeting { from, .. } = link.stage {
            match First::decode(&link.buffer) {
                Ok(None) => return,
                Ok(Some((First::Lifeline(sid, key), _))) => {
                    return self.hang_on(turn, id, from, (sid, key));
                }
                Ok(Some((First::Hello(hello), length))) => {
                    link.buffer.drain(..length);
                    self.greeted(turn, id, from, hello.sid);
                }
                Err(error) => {
                    self.complaints.say(
                        turn.now,
                        Complaint::NoHello,
                        format_args!(
                            "closing the connection of {from} to the election port: what it sent \
                             first is not what a server of an ensemble sends: {error}"
                        ),
                    );
                    return self.close(id, turn.effects);
                }
            }
        }
        self.read_messages(turn, id);
    }

    /// A connection that arrived has said who it is from.
    fn greeted(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, from: SocketAddr, sid: ServerId) {
        let own = self.options.sid;
        let is_member = self.others.get(&sid).is_some_and(|other| other.is_member);
        if sid == own {
            self.complaints.say(
                turn.now,
                Complaint::OwnId,
                format_args!(
                    "refusing {from} on the election port: it has the id of this server, {}; \
                     give every server its own number in `myid`",
                    own.0
                ),
            );
            self.close(id, turn.effects);
        } else if sid == ANONYMOUS && !is_member {
            let private = ServerId(self.next_private);
            self.next_private = self.next_private.saturating_sub(1);
            self.admit(turn, id, from, private);
        } else if is_member && sid < own {
            self.dial_back(turn, id, sid);
        } else if is_member {
            self.establish(turn, id, sid);
        } else if sid < own || sid.0 < 0 {
            // COMPAT(3.5): there a server is dialed back at an address that only its hello names,
            // so that it can join by a reconfiguration, which does not exist here yet.
            self.complaints.say(
                turn.now,
                Complaint::Stranger,
                format_args!(
                    "refusing {from} on the election port: it says that it is server {}, which is \
                     no member; give it a line server.{} in the configuration of every server",
                    sid.0, sid.0
                ),
            );
            self.close(id, turn.effects);
        } else {
            self.admit(turn, id, from, sid);
        }
    }

    /// A connection that arrived is to show when the leader's process ends.
    fn hang_on(
        &mut self,
        turn: &mut Turn<'_, '_>,
        id: LinkId,
        from: SocketAddr,
        shown: (ServerId, LifelineKey),
    ) {
        let (sid, _) = shown;
        if self.followed == Some(shown) {
            self.close_where(turn.effects, |stage| matches!(stage, Stage::Lifeline));
            self.links.insert(id, Link { stage: Stage::Lifeline, buffer: Vec::new() });
            return;
        }
        // One of the leader before may come late.
        if self.followed.is_some_and(|(leader, _)| leader == sid) {
            self.complaints.say(
                turn.now,
                Complaint::Stranger,
                format_args!(
                    "refusing {from} on the election port: it says that it is the leader, server \
                     {}, and does not know what this server has told its leader",
                    sid.0
                ),
            );
        }
        self.close(id, turn.effects);
    }

    /// This server follows a leader from now on, and has told it, and nobody else, this key. Only a
    /// lifeline that begins with it says anything about the leader.
    pub fn expect_lifeline(&mut self, leader: ServerId, key: LifelineKey) {
        self.followed = Some((leader, key));
    }

    /// This server follows nobody any more. Lifelines that are still there, or end late, mean
    /// nothing to the next term.
    pub fn close_lifelines(&mut self, effects: &mut Effects) {
        self.followed = None;
        self.close_where(effects, |stage| matches!(stage, Stage::Lifeline));
    }

    /// A server with a smaller id is there and has no connection, whatever this server believes.
    fn dial_back(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, sid: ServerId) {
        mark(Mark::DialedBack);
        self.close(id, turn.effects);
        let Some(other) = self.others.get_mut(&sid) else { return };
        // A dial that began when the server was not there yet may hang for seconds.
        for old in [other.link.take(), other.dial.take()].into_iter().flatten() {
            self.close(old, turn.effects);
        }
        self.dial(sid, turn.numbers, turn.effects);
    }

    /// A server without a place in the configuration is let in, as Apache does.
    fn admit(&mut self, turn: &mut Turn<'_, '_>, id: LinkId, from: SocketAddr, sid: ServerId) {
        let is_known = self.others.contains_key(&sid);
        let guests = || self.others.values().filter(|other| !other.is_member);
        if !is_known && guests().count() >= GUESTS_MAX {
            let oldest = guests().filter_map(|other| other.link).min();
            self.complaints.say(
                turn.now,
                Complaint::Stranger,
                format_args!(
                    "{GUESTS_MAX} servers that are no members are connected to the election port: \
                     closing the oldest of them, since another one came from {from}; give each a \
                     line server.N in the configuration of every server"
                ),
            );
            if let Some(oldest) = oldest {
                self.others.retain(|_, other| other.link != Some(oldest));
                self.close(oldest, turn.effects);
            }
        }
        self.establish(turn, id, sid);
    }

    /// Takes whole messages out of a connection's buffer.
    fn read_messages(&mut self, turn: &mut Turn<'_, '_>, id: LinkId) {
        let Some(Link { stage: Stage::Live(live), buffer }) = self.links.get_mut(&id) else {
            return;
        };
        let (live, mut read) = (*live, 0);
        let sid = live.sid;
        let broken = loop {
            match next_message(&buffer[read..]) {
                Ok(None) => break None,
                Ok(Some((message, length))) => {
                    read += length;
                    match Notification::decode(message) {
                        Ok(vote) => (turn.event)(ElectionEvent::Heard(sid, vote)),
                        Err(error) => self.complaints.say(
                            turn.now,
                            Complaint::NoVote,
                            format_args!("ignoring a message of server {}: {error}", sid.0),
                        ),
                    }
                }
                Err(error) => break Some(error),
            }
        };
        buffer.drain(..read);
        if let Some(error) = broken {
            self.complaints.say(
                turn.now,
                Complaint::BadLength,
                format_args!("closing the election connection of server {}: {error}", sid.0),
            );
            self.close(id, turn.effects);
            self.lost(turn, live, false);
        }
    }

    fn check(&self) {
        for (sid, other) in &self.others {
            invariant!(
                other.link.is_none() || other.dial.is_none(),
                "server {sid:?} is not dialed while it is connected"
            );
            let is_live = |link: &Link| matches!(link.stage, Stage::Live(live) if live.sid == *sid);
            invariant!(
                other.link.is_none_or(|id| self.links.get(&id).is_some_and(is_live)),
                "the connection of server {sid:?} is there"
            );
            invariant!(
                other.is_member || other.link.is_some(),
                "guest {sid:?} is there as long as its connection"
            );
        }
        let lifelines = self.links.values().filter(|link| matches!(link.stage, Stage::Lifeline));
        let most = usize::from(self.followed.is_some());
        invariant!(lifelines.count() <= most, "the leader, if there is one, has one lifeline");
    }
}
