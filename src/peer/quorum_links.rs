//! The connections of one server's quorum port: to its leader, or from its learners.
//!
//! Counterpart of the socket halves of `Learner` and `LearnerHandler`. Knows the lengths of packets
//! and nothing else of them. Bytes are kept until the owner takes them, which may wait for its
//! disk: then the other side is held back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{Instant, LinkId, ServerId, invariant};
use crate::wire::quorum::{Packet, PacketScan, Scan};
use crate::wire::{DecodeError, Reader};

use super::complaints::{Complaint, Complaints};
use super::{DialError, Effect, Effects, Input, LinkNumbers, Port};

/// Settings of the quorum port, as plain values.
#[derive(Clone, Copy, Debug)]
pub struct QuorumLinkOptions {
    /// Largest data of a packet, in bytes, see [`PacketScan::new`].
    pub packet_bytes_max: usize,
    /// How long a learner may wait for this server to lead (`initLimit` ticks).
    pub wait: Duration,
}

/// Something that happened to a connection of the owner's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QuorumEvent {
    /// A learner has connected, and this server leads.
    Accepted(LinkId, SocketAddr),
    /// A connection is made, or why not. After an error it does not exist.
    Dialed(LinkId, Result<SocketAddr, DialError>),
    /// There is more to take.
    Received(LinkId),
    /// The socket has taken something of what was sent.
    Taken(LinkId),
    /// The connection is gone, with all that was not taken of it.
    Ended(LinkId),
}

/// What becomes of learners that connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reception {
    /// They wait: a leader may be the last to hear that it is elected.
    Waits,
    /// They go to the owner, which leads.
    Open,
    /// They are turned away: another server leads.
    Closed,
}

/// See the introduction of this file.
#[derive(Debug)]
pub struct QuorumLinks {
    options: QuorumLinkOptions,
    links: BTreeMap<LinkId, Link>,
    reception: Reception,
    complaints: Complaints,
}

#[derive(Debug)]
struct Link {
    stage: Stage,
    /// It has connected by itself, and its first packet was not taken yet.
    is_stranger: bool,
    /// What arrived; `buffer[..start]` is taken.
    buffer: Vec<u8>,
    start: usize,
    content: Content,
    is_held: bool,
    /// Bytes that the socket has not taken.
    unsent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is being made.
    Dialing,
    /// A learner that waits for this server to lead.
    Waiting { from: SocketAddr, until: Instant },
    /// The owner has it.
    Open,
}

/// What the bytes at `Link::start` are.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// The start of a packet whose end is looked for.
    Packet(PacketScan),
    /// A whole packet of this length.
    Whole(usize),
    /// No packet.
    Bad(DecodeError),
    /// Bytes of something else, which the owner takes as they come.
    Raw,
}

/// Learners that wait; of more the oldest goes.
const WAITING_MAX: usize = 64;

/// Bytes of one connection that wait to be taken, beyond which it is held. The packet that comes
/// next may be larger.
const HOLD_BYTES: usize = 256 << 10;

/// The most that a connection may begin with, in bytes of data: FOLLOWERINFO has 20, and a server
/// of ours adds a few. Anybody can connect, and must not fill the memory.
const HELLO_BYTES_MAX: usize = 1 << 10;

/// As `HOLD_BYTES`, before the first packet is taken. Nothing follows it unasked.
const STRANGER_BYTES: usize = 4 * HELLO_BYTES_MAX;

/// A buffer that was larger, for one packet, is given back once it is empty.
const KEPT_BYTES: usize = 2 * HOLD_BYTES;

impl QuorumLinks {
    /// Nothing is connected yet, and learners that connect wait.
    pub fn new(options: QuorumLinkOptions) -> QuorumLinks {
        let (links, complaints) = (BTreeMap::new(), Complaints::default());
        QuorumLinks { options, links, reception: Reception::Waits, complaints }
    }

    /// Whether a connection is one of the quorum port that is still in use here.
    pub fn owns(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Option<Instant> {
        let until = |link: &Link| match link.stage {
            Stage::Waiting { until, .. } => Some(until),
            Stage::Dialing | Stage::Open => None,
        };
        self.links.values().filter_map(until).min()
    }

    /// Takes one input about a connection of the quorum port. Others are ignored.
    pub fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        effects: &mut Effects,
    ) -> Option<QuorumEvent> {
        match input {
            Input::Accepted { link, port: Port::Quorum, from } => {
                self.accepted(now, link, from, effects)
            }
            Input::Accepted { port: Port::Election, .. } => None,
            Input::Dialed { link, result } => {
                let dialed = self.links.get_mut(&link).filter(|it| it.stage == Stage::Dialing)?;
                match &result {
                    Ok(_) => dialed.stage = Stage::Open,
                    Err(_) => {
                        self.links.remove(&link);
                    }
                }
                Some(QuorumEvent::Dialed(link, result))
            }
            Input::Bytes { link, bytes } => {
                let arrived = self.links.get_mut(&link)?;
                arrived.append(bytes);
                arrived.regulate(link, effects);
                if arrived.stage == Stage::Open {
                    return Some(QuorumEvent::Received(link));
                }
                self.turn_away_noise(now, link, effects);
                None
            }
            Input::Unsent { link, bytes } => {
                let sent = self.links.get_mut(&link)?;
                sent.unsent = bytes + effects.queued(link);
                (sent.stage == Stage::Open).then_some(QuorumEvent::Taken(link))
            }
            Input::Ended { link, was_reset: _ } => {
                let ended = self.links.remove(&link)?;
                let is_owners = !matches!(ended.stage, Stage::Waiting { .. });
                is_owners.then_some(QuorumEvent::Ended(link))
            }
        }
    }

    fn accepted(
        &mut self,
        now: Instant,
        id: LinkId,
        from: SocketAddr,
        effects: &mut Effects,
    ) -> Option<QuorumEvent> {
        let stage = match self.reception {
            Reception::Closed => {
                effects.list.push(Effect::Close { link: id });
                return None;
            }
            Reception::Open => Stage::Open,
            Reception::Waits => {
                self.make_room(now, from, effects);
                Stage::Waiting { from, until: now + self.options.wait }
            }
        };
        self.links.insert(id, Link { is_stranger: true, ..Link::new(stage, HELLO_BYTES_MAX) });
        (stage == Stage::Open).then_some(QuorumEvent::Accepted(id, from))
    }

    /// Closes a connection that waits if it is no learner's.
    fn turn_away_noise(&mut self, now: Instant, id: LinkId, effects: &mut Effects) {
        let Some(link) = self.links.get(&id) else { return };
        let (Content::Bad(error), Stage::Waiting { from, .. }) = (link.content, link.stage) else {
            return;
        };
        self.complaints.say(
            now,
            Complaint::NoHello,
            format_args!(
                "closing a connection to the quorum port from {from}, as what comes is no \
                 packet: {error}"
            ),
        );
        self.close(id, effects);
    }

    /// Closes the learner that has waited longest if there are too many.
    fn make_room(&mut self, now: Instant, from: SocketAddr, effects: &mut Effects) {
        // The numbers ascend, so the first is the oldest.
        let waiting = || self.waiting().map(|(id, _)| id);
        let Some(oldest) = waiting().next().filter(|_| waiting().count() >= WAITING_MAX) else {
            return;
        };
        self.complaints.say(
            now,
            Complaint::TooMany,
            format_args!(
                "{WAITING_MAX} connections to the quorum port wait for this server to lead: \
                 closing the oldest, since another one came from {from}"
            ),
        );
        self.close(oldest, effects);
    }

    fn waiting(&self) -> impl Iterator<Item = (LinkId, SocketAddr)> {
        self.links.iter().filter_map(|(id, link)| match link.stage {
            Stage::Waiting { from, .. } => Some((*id, from)),
            Stage::Dialing | Stage::Open => None,
        })
    }

    /// Closes the connections of learners that have waited too long.
    pub fn tick(&mut self, now: Instant, effects: &mut Effects) {
        let is_late =
            |link: &Link| matches!(link.stage, Stage::Waiting { until, .. } if until <= now);
        let late: Vec<_> =
            self.links.iter().filter(|(_, link)| is_late(link)).map(|(id, _)| *id).collect();
        for id in late {
            let ms = self.options.wait.as_millis();
            self.complaints.say(
                now,
                Complaint::Silent,
                format_args!(
                    "closing a connection to the quorum port: in {ms} ms this server has not \
                     become the leader"
                ),
            );
            self.close(id, effects);
        }
    }

    /// This server leads from now on: the learners that waited, oldest first. What they have sent
    /// already is there to be taken; those that come later are told as [`QuorumEvent::Accepted`].
    pub fn take_waiting(&mut self, effects: &mut Effects) -> Vec<(LinkId, SocketAddr)> {
        self.reception = Reception::Open;
        let waiting: Vec<_> = self.waiting().collect();
        for (id, _) in &waiting {
            if let Some(link) = self.links.get_mut(id) {
                link.stage = Stage::Open;
                link.regulate(*id, effects);
            }
        }
        waiting
    }

    /// Another server leads: learners that wait, or connect from now on, are turned away, so that
    /// they look again at once. Connections of the owner's stay.
    pub fn turn_learners_away(&mut self, effects: &mut Effects) {
        self.reception = Reception::Closed;
        let waiting: Vec<_> = self.waiting().collect();
        for (id, _) in waiting {
            self.close(id, effects);
        }
    }

    /// A role has ended: closes everything. Learners that connect from now on wait.
    pub fn close_all(&mut self, effects: &mut Effects) {
        self.reception = Reception::Waits;
        for (link, _) in std::mem::take(&mut self.links) {
            effects.list.push(Effect::Close { link });
        }
    }

    /// Closes a connection once what was sent has left. Nothing more is heard of it.
    pub fn close(&mut self, link: LinkId, effects: &mut Effects) {
        if self.links.remove(&link).is_some() {
            effects.list.push(Effect::Close { link });
        }
    }

    /// Connects to the leader; [`QuorumEvent::Dialed`] answers.
    pub fn dial(
        &mut self,
        to: ServerId,
        numbers: &mut LinkNumbers,
        effects: &mut Effects,
    ) -> LinkId {
        let link = numbers.next_dialed();
        self.links.insert(link, Link::new(Stage::Dialing, self.options.packet_bytes_max));
        effects.list.push(Effect::Dial { link, to, port: Port::Quorum });
        link
    }

    /// Sends bytes. There is no limit here: the owner looks at [`QuorumLinks::unsent`].
    pub fn send(&mut self, link: LinkId, bytes: &[u8], effects: &mut Effects) {
        if let Some(to) = self.links.get_mut(&link) {
            to.unsent += bytes.len();
            effects.send(link, bytes);
        }
    }

    /// Bytes that were sent and that the socket has not taken.
    pub fn unsent(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, |link| link.unsent)
    }

    /// Bytes that have arrived and were not taken.
    pub fn buffered(&self, link: LinkId) -> usize {
        self.links.get(&link).map_or(0, Link::buffered)
    }

    /// What has arrived and was not taken.
    pub fn arrived(&self, link: LinkId) -> &[u8] {
        self.links.get(&link).map_or(&[], |link| &link.buffer[link.start..])
    }

    /// Takes the next packet, if all of it is there.
    ///
    /// # Errors
    /// What comes next is no packet. The connection is useless then, and the owner closes it.
    pub fn next_packet(
        &mut self,
        link: LinkId,
        effects: &mut Effects,
    ) -> Result<Option<Packet<'_>>, DecodeError> {
        let Some(from) = self.links.get_mut(&link) else { return Ok(None) };
        if let Content::Raw = from.content {
            from.content = Content::Packet(PacketScan::new(self.options.packet_bytes_max));
        }
        from.scan();
        let taken = match from.content {
            Content::Whole(length) => {
                from.is_stranger = false;
                from.content = Content::Packet(PacketScan::new(self.options.packet_bytes_max));
                Ok(from.start..from.start + length)
            }
            Content::Bad(error) => Err(error),
            Content::Packet(_) | Content::Raw => Ok(from.start..from.start),
        };
        let taken = taken?;
        from.start = taken.end;
        from.scan();
        from.regulate(link, effects);
        if taken.is_empty() {
            return Ok(None);
        }
        Packet::decode_from(&mut Reader::new(&from.buffer[taken])).map(Some)
    }

    /// Takes bytes that are no packets, such as a snapshot's: `max` at most, and none if there are
    /// none. What follows the last of them may be packets again.
    pub fn take_bytes(&mut self, link: LinkId, max: usize, effects: &mut Effects) -> &[u8] {
        let Some(from) = self.links.get_mut(&link) else { return &[] };
        from.content = Content::Raw;
        let taken = from.start..from.start + from.buffered().min(max);
        from.start = taken.end;
        from.regulate(link, effects);
        &from.buffer[taken]
    }

    /// Of the bytes that were taken last, this many at the end belong to packets.
    pub fn give_back(&mut self, link: LinkId, bytes: usize) {
        if let Some(from) = self.links.get_mut(&link) {
            invariant!(bytes <= from.start, "{link:?} is given back more than was taken");
            from.start -= bytes;
        }
    }
}

impl Link {
    fn new(stage: Stage, packet_bytes_max: usize) -> Link {
        let content = Content::Packet(PacketScan::new(packet_bytes_max));
        let (buffer, start, is_stranger) = (Vec::new(), 0, false);
        Link { stage, is_stranger, buffer, start, content, is_held: false, unsent: 0 }
    }

    fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer = Vec::new();
            }
        } else if self.start >= self.buffered() {
            // As many bytes are moved as were taken, at most.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        self.scan();
    }

    /// Looks for the end of the packet that comes next.
    fn scan(&mut self) {
        if let Content::Packet(scan) = &mut self.content {
            match scan.advance(&self.buffer[self.start..]) {
                Ok(Scan::Complete(length)) => self.content = Content::Whole(length),
                Ok(Scan::Needs(_)) => {}
                Err(error) => self.content = Content::Bad(error),
            }
        }
        if let Content::Whole(length) = self.content {
            invariant!(length <= self.buffered(), "a whole packet is there");
        }
    }

    /// Holds the connection, or receives again. While the packet that comes next is not whole, more
    /// has to come, however much there is.
    fn regulate(&mut self, id: LinkId, effects: &mut Effects) {
        let needs_more = matches!(self.content, Content::Packet(_)) && self.stage == Stage::Open;
        let bytes = self.buffered();
        let most = if self.is_stranger { STRANGER_BYTES } else { HOLD_BYTES };
        if !self.is_held && bytes > most && !needs_more {
            self.is_held = true;
            effects.list.push(Effect::Hold { link: id });
        } else if self.is_held && (bytes < most / 2 || needs_more) {
            self.is_held = false;
            effects.list.push(Effect::Resume { link: id });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Zxid;
    use crate::wire::quorum::PacketKind;

    #[test]
    fn a_buffer_does_not_grow_with_what_has_passed_through() {
        let (mut packet, mut large) = (Vec::new(), Vec::new());
        Packet::with(PacketKind::Proposal, Zxid(1), &[0; 80]).encode_into(&mut packet);
        Packet::with(PacketKind::Proposal, Zxid(2), &vec![0; 1 << 20]).encode_into(&mut large);
        let wait = Duration::from_secs(1);
        let mut links = QuorumLinks::new(QuorumLinkOptions { packet_bytes_max: 1 << 20, wait });
        let (mut numbers, mut effects) = (LinkNumbers::default(), Effects::default());
        let id = links.dial(ServerId(1), &mut numbers, &mut effects);
        let dialed = Input::Dialed { link: id, result: Ok(SocketAddr::from(([10, 0, 0, 1], 1))) };
        links.handle(Instant(0), dialed, &mut effects);
        // Half a packet is always left.
        let half = packet.len() / 2;
        let mut arrive = |links: &mut QuorumLinks, bytes: &[u8]| {
            links.handle(Instant(0), Input::Bytes { link: id, bytes }, &mut effects);
            let is_whole = links.next_packet(id, &mut effects).unwrap().is_some();
            (is_whole, links.links[&id].buffer.len(), links.links[&id].buffer.capacity())
        };
        assert!(!arrive(&mut links, &packet[..half]).0);
        let shifted = [&packet[half..], &packet[..half]].concat();
        for _ in 0..1_000 {
            let (is_whole, length, _) = arrive(&mut links, &shifted);
            assert!(is_whole && length <= 4 * packet.len(), "{length}");
        }
        arrive(&mut links, &packet[half..]);
        assert!(arrive(&mut links, &large).2 > 1 << 20);
        assert!(arrive(&mut links, &packet).2 < 1_000);
    }
}
