//! The sockets of other members: turns completions into what `member` hears of its connections, and
//! carries out what it wants of them.
//!
//! They live in the loop that runs the replica. What a turn sends on one connection goes in one
//! operation; while that is under way the next one gathers. How much may gather is decided by the
//! member, which is told what the socket has not taken.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{Instant, LinkId, Now, Ration, invariant};
use crate::peer::{DialError, Effect, Effects, Input};

use super::edge::{ACCEPT_PAUSE, Receive};
use super::port::{Direction, Io, MemberCompletion, Received};

/// Connections from others that may be open at a time. An ensemble has two or three for each of
/// its members; more come from something else, which must not use up all files.
const ACCEPTED_MAX: usize = 256;

/// How long a connection that this side closes may take to send what is left, and its peer to read
/// that and close too.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// A buffer of more bytes is not kept for the next send.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Where a connection is in its life. No stage leads back, see [`Link::enter`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is being made.
    Dialing,
    /// It is being made, and nobody wants it any more.
    GivenUp,
    /// The member talks with its peer. Only an end in this stage is news to the member.
    Open,
    /// This side closes; by then the socket must have taken what is left.
    Flushing { by: Instant },
    /// Everything is sent, and the peer is told so; until then it may read that and close.
    Lingering { until: Instant },
    /// Both directions are shut down; waiting for the last completions.
    Dying,
}

/// A send under way.
#[derive(Clone, Copy, Debug)]
struct Sending {
    len: usize,
    taken: usize,
}

/// Invariant: it stays until its last completion has arrived, so that a completion always finds the
/// connection it was begun for.
struct Link<I: Io> {
    /// `None` as long as it is being made.
    socket: Option<I::Socket>,
    stage: Stage,
    receive: Receive<I::Receive>,
    is_held: bool,
    /// Gathers for the next send.
    out: Vec<u8>,
    sending: Option<Sending>,
    /// It stands in `Links::ready`.
    is_ready: bool,
    /// The buffer of a send that has ended.
    spare: Vec<u8>,
}

impl<I: Io> Link<I> {
    fn new(socket: Option<I::Socket>) -> Link<I> {
        Link {
            stage: if socket.is_some() { Stage::Open } else { Stage::Dialing },
            socket,
            receive: Receive::Not,
            is_held: false,
            out: Vec::new(),
            sending: None,
            is_ready: false,
            spare: Vec::new(),
        }
    }

    /// The only way into another stage.
    fn enter(&mut self, next: Stage) {
        let is_legal = match (self.stage, next) {
            (Stage::Dialing, Stage::GivenUp | Stage::Open)
            | (Stage::Open, Stage::Flushing { .. })
            | (Stage::Flushing { .. }, Stage::Lingering { .. }) => true,
            (from, Stage::Dying) => !matches!(from, Stage::Dialing | Stage::GivenUp | Stage::Dying),
            _ => false,
        };
        invariant!(is_legal, "a connection cannot become {next:?} after {:?}", self.stage);
        self.stage = next;
    }

    /// Bytes that the socket has not taken.
    fn unsent(&self) -> usize {
        self.out.len() + self.sending.map_or(0, |sending| sending.len - sending.taken)
    }

    /// Whether what arrives is to be taken: by the member, or to be dropped, as a socket that is
    /// closed with something unread resets the connection and loses what the peer has not read.
    fn wants_input(&self) -> bool {
        match self.stage {
            Stage::Open => !self.is_held,
            Stage::Flushing { .. } | Stage::Lingering { .. } => true,
            Stage::Dialing | Stage::GivenUp | Stage::Dying => false,
        }
    }

    fn socket(&self) -> &I::Socket {
        invariant!(self.socket.is_some(), "a connection that is {:?} has a socket", self.stage);
        self.socket.as_ref().unwrap_or_else(|| unreachable!("just asserted"))
    }
}

/// See the module's introduction.
pub struct Links<I: Io> {
    links: BTreeMap<LinkId, Link<I>>,
    /// Connections with output to begin sending.
    ready: Vec<LinkId>,
    /// Number of the next one that arrives.
    next_accepted: LinkId,
    /// Number of `links` that arrived, and were not dialed.
    accepted: usize,
    /// Accepts to begin again later: the process ran out of something.
    accept_later: Vec<(Instant, usize)>,
    accept_failures: Ration,
    refusals: Ration,
}

fn has_arrived(link: LinkId) -> bool {
    link.0 % 2 == 1
}

impl<I: Io> Links<I> {
    /// Nothing is connected.
    pub fn new() -> Links<I> {
        Links {
            links: BTreeMap::new(),
            ready: Vec::new(),
            next_accepted: LinkId(1),
            accepted: 0,
            accept_later: Vec::new(),
            accept_failures: Ration::default(),
            refusals: Ration::default(),
        }
    }

    /// Connections that are open, being made, or closing.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The connection of an operation that has gone on.
    fn known(&mut self, id: LinkId) -> &mut Link<I> {
        let found = self.links.get_mut(&id);
        invariant!(found.is_some(), "a completion for {id:?}, which waits for none");
        found.unwrap_or_else(|| unreachable!("just asserted"))
    }

    /// An operation has gone on; the member hears what that means.
    pub fn complete(
        &mut self,
        now: Now,
        io: &mut I,
        completion: MemberCompletion<I>,
        hear: &mut impl FnMut(Input<'_>),
    ) -> io::Result<()> {
        match completion {
            MemberCompletion::Accepted { listener, port, result, more } => {
                if !more {
                    self.accept_ended(now, io, listener, result.is_err())?;
                }
                match result {
                    Ok((socket, Some(from))) => {
                        if let Some(link) = self.adopt(now, io, socket, from)? {
                            hear(Input::Accepted { link, port, from });
                        }
                    }
                    // It is gone again already.
                    Ok((_, None)) => {}
                    Err(error) => self.cannot_accept(now, &error),
                }
                Ok(())
            }
            MemberCompletion::Dialed { link, result } => self.dialed(io, link, result, hear),
            MemberCompletion::Received { link, result, more } => {
                self.received(io, link, result, more, hear)
            }
            MemberCompletion::Sent { link, buf, result } => {
                self.sent(now, io, link, buf, result, hear)
            }
        }
    }

    fn accept_ended(
        &mut self,
        now: Now,
        io: &mut I,
        listener: usize,
        has_failed: bool,
    ) -> io::Result<()> {
        if has_failed {
            self.accept_later.push((now.mono + ACCEPT_PAUSE, listener));
            return Ok(());
        }
        io.accept_member_again(listener)
    }

    fn cannot_accept(&mut self, now: Now, error: &io::Error) {
        if let Some(more) = self.accept_failures.take(now.mono) {
            log::warn!("cannot accept a connection of another member: {error}{more}");
        }
    }

    /// Takes over a connection that has arrived, unless there are too many.
    fn adopt(
        &mut self,
        now: Now,
        io: &mut I,
        socket: I::Socket,
        from: SocketAddr,
    ) -> io::Result<Option<LinkId>> {
        if self.accepted >= ACCEPTED_MAX {
            if let Some(more) = self.refusals.take(now.mono) {
                log::warn!(
                    "refusing {from} on a port for other members: {ACCEPTED_MAX} are connected \
                     there; can anything else reach that port?{more}"
                );
            }
            io.refuse(socket);
            return Ok(None);
        }
        let id = self.next_accepted;
        self.next_accepted = LinkId(id.0 + 2);
        self.accepted += 1;
        io.set_up_member(&socket);
        self.links.insert(id, Link::new(Some(socket)));
        self.receive(id, io)?;
        Ok(Some(id))
    }

    fn dialed(
        &mut self,
        io: &mut I,
        id: LinkId,
        result: Result<(I::Socket, SocketAddr), DialError>,
        hear: &mut impl FnMut(Input<'_>),
    ) -> io::Result<()> {
        let link = self.known(id);
        let is_awaited = matches!(link.stage, Stage::Dialing | Stage::GivenUp);
        invariant!(is_awaited, "{id:?} is made while it is {:?}", link.stage);
        let is_wanted = link.stage == Stage::Dialing;
        let (socket, to) = match result {
            Ok(made) if is_wanted => made,
            Ok((socket, _)) => {
                io.shutdown(&socket, Direction::Both);
                self.links.remove(&id);
                return Ok(());
            }
            Err(error) => {
                self.links.remove(&id);
                if is_wanted {
                    hear(Input::Dialed { link: id, result: Err(error) });
                }
                return Ok(());
            }
        };
        io.set_up_member(&socket);
        link.socket = Some(socket);
        link.enter(Stage::Open);
        self.receive(id, io)?;
        self.make_ready(id);
        hear(Input::Dialed { link: id, result: Ok(to) });
        Ok(())
    }

    /// Receives unless a receive is under way, or nothing is to be received.
    fn receive(&mut self, id: LinkId, io: &mut I) -> io::Result<()> {
        // Its last completion may just have freed it.
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        if matches!(link.receive, Receive::Not) && link.wants_input() {
            link.receive = Receive::Running(io.receive_from_member(link.socket(), id)?);
        }
        Ok(())
    }

    fn received(
        &mut self,
        io: &mut I,
        id: LinkId,
        result: Received<I::Bytes>,
        more: bool,
        hear: &mut impl FnMut(Input<'_>),
    ) -> io::Result<()> {
        let link = self.known(id);
        let is_expected = !matches!(link.receive, Receive::Not);
        invariant!(is_expected, "a receive of {id:?} goes on that has ended");
        if !more {
            link.receive = Receive::Not;
        }
        let stage = link.stage;
        match result {
            Received::Bytes(bytes) => {
                if stage == Stage::Open {
                    hear(Input::Bytes { link: id, bytes: io.bytes(&bytes) });
                }
                io.release(bytes);
            }
            Received::Again => {}
            Received::End => self.ended(id, io, false, hear),
            Received::Failed(kind) => self.ended(id, io, is_reset(kind), hear),
        }
        self.free(id);
        self.receive(id, io)
    }

    /// The peer is gone, or the network between.
    fn ended(&mut self, id: LinkId, io: &mut I, was_reset: bool, hear: &mut impl FnMut(Input<'_>)) {
        match self.known(id).stage {
            Stage::Open => {
                self.abort(id, io);
                hear(Input::Ended { link: id, was_reset });
            }
            Stage::Flushing { .. } | Stage::Lingering { .. } => self.abort(id, io),
            // Another completion told of it before.
            Stage::Dying => {}
            Stage::Dialing | Stage::GivenUp => unreachable!("nothing is under way on {id:?}"),
        }
    }

    /// Ends both directions; the connection is gone when the last completion has arrived.
    fn abort(&mut self, id: LinkId, io: &mut I) {
        io.let_go(id);
        let link = self.known(id);
        link.enter(Stage::Dying);
        link.out = Vec::new();
        io.shutdown(link.socket(), Direction::Both);
        self.free(id);
    }

    /// Forgets a dying connection if nothing is under way any more.
    fn free(&mut self, id: LinkId) {
        let is_over = |link: &Link<I>| {
            link.stage == Stage::Dying
                && link.sending.is_none()
                && matches!(link.receive, Receive::Not)
        };
        if self.links.get(&id).is_some_and(is_over) {
            self.links.remove(&id);
            self.accepted -= usize::from(has_arrived(id));
        }
    }

    fn sent(
        &mut self,
        now: Now,
        io: &mut I,
        id: LinkId,
        buf: Vec<u8>,
        result: Result<usize, io::ErrorKind>,
        hear: &mut impl FnMut(Input<'_>),
    ) -> io::Result<()> {
        let link = self.known(id);
        let sending = link.sending.take();
        invariant!(sending.is_some(), "a send of {id:?} ends that never began");
        let Some(Sending { len, taken }) = sending else { unreachable!("just asserted") };
        let taken = taken + result.unwrap_or(0);
        let is_moving = result.is_ok_and(|sent| sent > 0) && link.stage != Stage::Dying;
        if is_moving && taken < len {
            link.sending = Some(Sending { len, taken });
            io.send_to_member(link.socket(), id, buf, taken)?;
        } else if link.stage != Stage::Dying && buf.capacity() <= SPARE_BYTES_MAX {
            link.spare = buf;
            link.spare.clear();
        }
        if !is_moving {
            let was_reset = result.is_err_and(is_reset);
            self.ended(id, io, was_reset, hear);
            self.free(id);
            return Ok(());
        }
        if link.stage == Stage::Open {
            hear(Input::Unsent { link: id, bytes: link.unsent() });
        }
        self.make_ready(id);
        self.finish_if_flushed(now, id, io);
        Ok(())
    }

    /// A connection that closes has nothing left to send: its peer is told so.
    fn finish_if_flushed(&mut self, now: Now, id: LinkId, io: &mut I) {
        let link = self.known(id);
        if let Stage::Flushing { by } = link.stage
            && link.unsent() == 0
        {
            link.enter(Stage::Lingering { until: by.max(now.mono) });
            io.shutdown(link.socket(), Direction::Write);
        }
    }

    /// Has a connection with output, and no send under way, sent from at the turn's end.
    fn make_ready(&mut self, id: LinkId) {
        let link = self.known(id);
        if link.socket.is_some() && !link.is_ready && link.sending.is_none() && !link.out.is_empty()
        {
            link.is_ready = true;
            self.ready.push(id);
        }
    }

    /// Carries out what the member wants. It may name connections whose end it had not heard of.
    pub fn carry_out(&mut self, now: Now, io: &mut I, effects: &Effects) -> io::Result<()> {
        for effect in &effects.list {
            match *effect {
                Effect::Dial { link, to, port } => {
                    let is_new = !has_arrived(link) && !self.links.contains_key(&link);
                    invariant!(is_new, "{link:?} is no number for a new connection");
                    self.links.insert(link, Link::new(None));
                    io.dial_member(link, to, port);
                }
                Effect::Send { link: id, start, end } => {
                    if let Some(link) = self.links.get_mut(&id)
                        && matches!(link.stage, Stage::Dialing | Stage::Open)
                    {
                        link.out.extend_from_slice(&effects.bytes[start..end]);
                        self.make_ready(id);
                    }
                }
                Effect::Close { link } => self.close(now, io, link)?,
                Effect::Hold { link: id } => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_held = true;
                        if let (Stage::Open, Receive::Running(receive)) = (link.stage, link.receive)
                        {
                            link.receive = Receive::Ending;
                            io.cancel(receive)?;
                        }
                    }
                }
                Effect::Resume { link: id } => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_held = false;
                        self.receive(id, io)?;
                    }
                }
                Effect::KeepAlive { link: id, learner, key } => {
                    if let Some(link) = self.links.get_mut(&id)
                        && link.stage == Stage::Open
                    {
                        let left = link.sending.map_or(0, |sending| sending.len - sending.taken);
                        let lifeline = key.map(|key| (learner, key));
                        io.keep_alive(link.socket(), id, lifeline, left);
                    }
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, now: Now, io: &mut I, id: LinkId) -> io::Result<()> {
        // The member may close a link of whose end it has not been told yet.
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        match link.stage {
            Stage::Dialing => {
                link.out = Vec::new();
                link.enter(Stage::GivenUp);
                Ok(())
            }
            Stage::Open => {
                io.let_go(id);
                link.enter(Stage::Flushing { by: now.mono + CLOSE_LIMIT });
                self.finish_if_flushed(now, id, io);
                self.receive(id, io)
            }
            Stage::GivenUp | Stage::Flushing { .. } | Stage::Lingering { .. } | Stage::Dying => {
                Ok(())
            }
        }
    }

    /// Begins sending what has gathered. Returns whether there was anything.
    pub fn send_ready(&mut self, io: &mut I) -> io::Result<bool> {
        let mut has_begun = false;
        for id in std::mem::take(&mut self.ready) {
            // A connection that became ready may have ended later in the same turn.
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.is_ready = false;
            if link.out.is_empty() {
                continue;
            }
            let next = std::mem::take(&mut link.spare);
            let buf = std::mem::replace(&mut link.out, next);
            link.sending = Some(Sending { len: buf.len(), taken: 0 });
            io.send_to_member(link.socket(), id, buf, 0)?;
            has_begun = true;
        }
        Ok(has_begun)
    }

    /// Does what is due: ends connections that were closed a while ago, accepts again.
    pub fn tick(&mut self, now: Now, io: &mut I) -> io::Result<()> {
        let is_late = |link: &Link<I>| match link.stage {
            Stage::Flushing { by: limit } | Stage::Lingering { until: limit } => limit <= now.mono,
            Stage::Dialing | Stage::GivenUp | Stage::Open | Stage::Dying => false,
        };
        let links = self.links.iter();
        let late: Vec<LinkId> =
            links.filter(|(_, link)| is_late(link)).map(|(id, _)| *id).collect();
        for id in late {
            self.abort(id, io);
        }
        while let Some(&(at, listener)) = self.accept_later.first()
            && at <= now.mono
        {
            self.accept_later.remove(0);
            io.accept_member_again(listener)?;
        }
        Ok(())
    }

    /// When [`Links::tick`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let later = self.accept_later.first().map(|(at, _)| *at);
        let closing = self.links.values().filter_map(|link| match link.stage {
            Stage::Flushing { by: limit } | Stage::Lingering { until: limit } => Some(limit),
            Stage::Dialing | Stage::GivenUp | Stage::Open | Stage::Dying => None,
        });
        closing.chain(later).min()
    }

    /// Checks what must always hold after a turn.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self) {
        assert!(self.ready.is_empty(), "output of {:?} stays behind", self.ready);
        let arrived = self.links.keys().filter(|id| has_arrived(**id)).count();
        assert_eq!(self.accepted, arrived, "connections that arrived");
        for (id, link) in &self.links {
            let is_idle = matches!(link.receive, Receive::Not);
            let is_made = !matches!(link.stage, Stage::Dialing | Stage::GivenUp);
            assert_eq!(link.socket.is_some(), is_made, "{id:?} is {:?}", link.stage);
            assert!(!is_idle || !link.wants_input(), "nothing is received from {id:?}");
            let is_sent = link.out.is_empty() || link.sending.is_some() || !is_made;
            assert!(is_sent, "output of {id:?} waits for nothing");
            if link.stage == Stage::Dying {
                assert!(!is_idle || link.sending.is_some(), "{id:?} waits for nothing");
            }
        }
    }
}

impl<I: Io> Default for Links<I> {
    fn default() -> Links<I> {
        Links::new()
    }
}

/// Whether the peer's machine said that nobody is there any more.
fn is_reset(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset)
}
