//! The driver's port in the simulation: sockets that the world feeds, a log write that takes its
//! time, queues between loops that are soon full.
//!
//! It does what a kernel does and decides nothing. All loops of one server share one [`Net`].

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::admin::Live;
use crate::base::{ConnId, FixedMap, Instant, LifelineKey, LinkId, Rng, ServerId, SessionId};
use crate::disk::DURABLE;
use crate::driver::{Completion, Direction, Io, MemberCompletion, Message, Probe, Received};
use crate::log::{BLOCK, Batch, LogChange};
use crate::member::Member;
use crate::peer::{DialError, Port};
use crate::replica::Replica;

use super::disk::{DiskError, FileId};
use super::files::SimFiles;
use super::network::{Arrived, Door, End};
use super::node::{Action, Arrival};
use super::options::Bug;

/// Messages that a loop's queue holds: few, so that it is often full.
const QUEUE: usize = 3;

/// A connection, by its end in the network.
#[derive(Debug)]
pub(super) struct SimSocket(End);

/// Whose operation it is.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// A client's connection, on a loop.
    Client(usize, ConnId),
    /// Another member's.
    Member(LinkId),
}

/// A send under way, and how much of it is taken.
#[derive(Debug)]
struct Sending {
    owner: Owner,
    buf: Vec<u8>,
    taken: usize,
}

/// What the kernel knows of a connection.
#[derive(Debug, Default)]
struct LinkState {
    /// Whose receive is under way.
    receiving: Option<Owner>,
    /// It ends with the next bytes.
    once: bool,
    /// Arrived while no receive was under way.
    waiting: VecDeque<Vec<u8>>,
    /// Something has arrived.
    has_begun: bool,
    /// The peer sends no more.
    ended: bool,
    /// Nor does it take anything.
    failed: bool,
    sending: Option<Sending>,
    is_shut: bool,
}

/// The log's write under way.
#[derive(Debug)]
struct LogWrite {
    at: usize,
    fd: FileId,
    buf: Vec<u8>,
    len: usize,
    offset: u64,
    flags: i32,
}

/// What the loops of one server share.
pub(super) struct Net {
    links: FixedMap<End, LinkState>,
    completions: Vec<VecDeque<Completion<SimIo>>>,
    /// Of members' connections, for the loop that has them.
    of_members: VecDeque<MemberCompletion<SimIo>>,
    members_at: Option<usize>,
    /// Connections to members that are being made.
    dials: FixedMap<End, LinkId>,
    inboxes: Vec<VecDeque<Message<SimIo>>>,
    write: Option<LogWrite>,
    accepting: bool,
    /// What the server did to the outside, in order.
    pub actions: Vec<Action>,
    /// Everything is applied, and the last snapshot is done or failed.
    pub is_settled: bool,
    /// What failed in the background.
    pub chore_failure: Option<String>,
}

impl Net {
    /// Nothing is connected.
    pub fn new(loops: usize) -> Rc<RefCell<Net>> {
        Rc::new(RefCell::new(Net {
            links: FixedMap::default(),
            completions: (0..loops).map(|_| VecDeque::new()).collect(),
            of_members: VecDeque::new(),
            members_at: None,
            dials: FixedMap::default(),
            inboxes: (0..loops).map(|_| VecDeque::new()).collect(),
            write: None,
            accepting: false,
            actions: Vec::new(),
            is_settled: false,
            chore_failure: None,
        }))
    }

    /// Whether something waits for a loop.
    pub fn has_work(&self, at: usize) -> bool {
        !self.completions[at].is_empty()
            || !self.inboxes[at].is_empty()
            || (self.members_at == Some(at) && !self.of_members.is_empty())
    }

    /// Whether it listens to other members.
    pub fn hears_members(&self) -> bool {
        self.members_at.is_some()
    }

    /// A connection to a member is on its way.
    pub fn dialing(&mut self, link: LinkId, end: End) {
        self.dials.insert(end, link);
    }

    /// Nothing answered in time. Returns whether that was still waited for.
    pub fn dial_timed_out(&mut self, end: End) -> bool {
        let silent = || DialError::Failed("nothing answered in time".to_owned());
        self.dials.contains_key(&end) && self.dialed(end, Err(silent()))
    }

    /// Ends a dial. Returns whether this end belongs to one.
    fn dialed(&mut self, end: End, outcome: Result<(), DialError>) -> bool {
        let Some(link) = self.dials.remove(&end) else { return false };
        let result = outcome.map(|()| {
            self.links.insert(end, LinkState::default());
            (SimSocket(end), address(end.peer()))
        });
        self.of_members.push_back(MemberCompletion::Dialed { link, result });
        true
    }

    fn completed_receive(&mut self, owner: Owner, result: Received<Vec<u8>>, more: bool) {
        match owner {
            Owner::Client(at, conn) => {
                self.completions[at].push_back(Completion::Received { conn, result, more });
            }
            Owner::Member(link) => {
                self.of_members.push_back(MemberCompletion::Received { link, result, more });
            }
        }
    }

    /// A message from outside of the loops, which no full queue stops.
    pub fn tell(&mut self, at: usize, message: Message<SimIo>) {
        self.inboxes[at].push_back(message);
    }

    /// Takes in what the world brings.
    pub fn arrive(&mut self, files: &SimFiles, bug: Option<Bug>, arrival: Arrival) {
        match arrival {
            Arrival::Stream { link, what } => self.stream(bug, link, what),
            Arrival::LogDone { of_256 } => self.log_done(files, bug, of_256),
            Arrival::HouseTurn => unreachable!("the node does this itself"),
        }
    }

    fn stream(&mut self, bug: Option<Bug>, link: End, what: Arrived) {
        match what {
            Arrived::Opened(Door::Clients) if !self.accepting => {
                self.actions.push(Action::Reset { link });
            }
            Arrived::Opened(door) => {
                self.links.insert(link, LinkState::default());
                let result = Ok((SimSocket(link), Some(address(link))));
                let (listener, more) = (0, true);
                match door {
                    Door::Clients => {
                        let accepted = Completion::Accepted { listener, result, more };
                        self.completions[0].push_back(accepted);
                    }
                    Door::Members(port) => {
                        let accepted = MemberCompletion::Accepted { listener, port, result, more };
                        self.of_members.push_back(accepted);
                    }
                }
            }
            Arrived::Accepted => {
                self.dialed(link, Ok(()));
            }
            Arrived::Bytes(bytes) => {
                if let Some(state) = self.links.get_mut(&link).filter(|state| !state.is_shut) {
                    // The first frame is the handshake.
                    let swaps = bug == Some(Bug::SwapRequests) && state.has_begun;
                    state.has_begun = true;
                    let bytes = if swaps { swap_requests(bytes) } else { bytes };
                    state.waiting.push_back(bytes);
                    self.deliver(link);
                }
            }
            Arrived::Finished | Arrived::Failed => {
                if self.dialed(link, Err(DialError::Refused)) {
                    return;
                }
                if let Some(state) = self.links.get_mut(&link).filter(|state| !state.is_shut) {
                    state.ended = true;
                    state.failed |= what == Arrived::Failed;
                    let has_failed = state.failed;
                    self.deliver(link);
                    if has_failed {
                        self.sent(link);
                    }
                }
            }
            Arrived::Taken => self.sent(link),
        }
    }

    /// Completes a receive with what has arrived.
    fn deliver(&mut self, link: End) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(owner) = state.receiving else { return };
        if state.once
            && let Some(bytes) = state.waiting.pop_front()
        {
            state.receiving = None;
            return self.completed_receive(owner, Received::Bytes(bytes), false);
        }
        let waiting = std::mem::take(&mut state.waiting);
        let (has_ended, has_failed) = (state.ended, state.failed);
        if has_ended {
            state.receiving = None;
        }
        for bytes in waiting {
            self.completed_receive(owner, Received::Bytes(bytes), true);
        }
        if has_failed {
            let lost = Received::Failed(io::ErrorKind::ConnectionReset);
            self.completed_receive(owner, lost, false);
        } else if has_ended {
            self.completed_receive(owner, Received::End, false);
        }
    }

    fn receive(&mut self, link: End, owner: Owner, once: bool) -> End {
        if let Some(state) = self.links.get_mut(&link) {
            assert!(state.receiving.is_none(), "two receives on {link:?}");
            state.receiving = Some(owner);
            state.once = once;
        }
        self.deliver(link);
        link
    }

    fn send(&mut self, link: End, sending: Sending, bytes: Vec<u8>) {
        if let Some(state) = self.links.get_mut(&link) {
            assert!(state.sending.is_none(), "two sends on {link:?}");
            state.sending = Some(sending);
            if state.failed || state.is_shut {
                return self.sent(link);
            }
        }
        self.actions.push(Action::Send { link, bytes });
    }

    fn sent(&mut self, link: End) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(Sending { owner, buf, taken }) = state.sending.take() else { return };
        let has_failed = state.is_shut || state.failed;
        match owner {
            Owner::Client(at, conn) => {
                let sent = if has_failed { 0 } else { taken };
                self.completions[at].push_back(Completion::Sent { conn, buf, sent });
            }
            Owner::Member(link) => {
                let lost = io::ErrorKind::ConnectionReset;
                let result = if has_failed { Err(lost) } else { Ok(taken) };
                self.of_members.push_back(MemberCompletion::Sent { link, buf, result });
            }
        }
    }

    /// The write under way ends, perhaps short or failed.
    fn log_done(&mut self, files: &SimFiles, bug: Option<Bug>, of_256: usize) {
        let Some(LogWrite { at, fd, buf, len, offset, flags }) = self.write.take() else { return };
        let done = len * of_256 / 256;
        let synced = match flags {
            DURABLE => files.disk().sync_range(fd, offset as usize, done),
            _ => Ok(()),
        };
        let result = match synced {
            Err(DiskError::Failed) if bug == Some(Bug::IgnoreFailedWrite) => Ok(len),
            Ok(()) if done == 0 => Err(io::ErrorKind::Interrupted.into()),
            other => other.map(|()| done).map_err(io::Error::from),
        };
        self.completions[at].push_back(Completion::Written { buf, result });
    }
}

/// Where an end is, for those who ask.
fn address(end: End) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], end.port()))
}

/// The port of one loop.
pub(super) struct SimIo {
    index: usize,
    net: Rc<RefCell<Net>>,
    files: Arc<SimFiles>,
    bug: Option<Bug>,
    rng: Rng,
    /// The time of the turn.
    pub now: Instant,
}

impl fmt::Debug for SimIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimIo {}", self.index)
    }
}

impl SimIo {
    /// The port of loop `index`.
    pub fn new(
        index: usize,
        net: Rc<RefCell<Net>>,
        files: Arc<SimFiles>,
        bug: Option<Bug>,
        seed: u64,
    ) -> SimIo {
        SimIo { index, net, files, bug, rng: Rng::new(seed), now: Instant(0) }
    }

    /// The files of its server.
    #[cfg(test)]
    pub fn files(&self) -> &SimFiles {
        &self.files
    }

    fn net(&self) -> RefMut<'_, Net> {
        self.net.borrow_mut()
    }

    /// How much of a send the socket takes: old kernels do not go on by themselves when its buffer
    /// is full.
    fn taken(&mut self, rest: usize) -> usize {
        match self.rng.chance(1, 16) {
            true => 1 + self.rng.below(rest as u64) as usize,
            false => rest,
        }
    }

    /// The power may fail before anything that the outside sees.
    fn step(&self) -> io::Result<()> {
        Ok(self.files.disk().step()?)
    }
}

impl Io for SimIo {
    type Files = SimFiles;
    type Socket = SimSocket;
    type Receive = End;
    type Bytes = Vec<u8>;
    type Probe = SimProbe;

    fn now(&self) -> Instant {
        self.now
    }

    fn next_completion(&mut self) -> io::Result<Option<Completion<SimIo>>> {
        let index = self.index;
        Ok(self.net().completions[index].pop_front())
    }

    fn bytes<'a>(&'a self, bytes: &'a Vec<u8>) -> &'a [u8] {
        bytes
    }

    fn release(&mut self, _bytes: Vec<u8>) {}

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn start_accepting(&mut self) -> io::Result<()> {
        self.net().accepting |= self.index == 0;
        Ok(())
    }

    fn accept_again(&mut self, _listener: usize) -> io::Result<()> {
        Ok(())
    }

    fn stop_accepting(&mut self) {
        self.net().accepting = false;
    }

    fn admit(&mut self, _peer: &SocketAddr) -> Result<(), String> {
        Ok(())
    }

    fn leave(&mut self, _peer: &SocketAddr) {}

    fn set_up(&mut self, _socket: &SimSocket) {}

    fn refuse(&mut self, socket: SimSocket) {
        self.net().actions.push(Action::Reset { link: socket.0 });
    }

    fn receive(&mut self, socket: &SimSocket, conn: ConnId, once: bool) -> io::Result<End> {
        Ok(self.net().receive(socket.0, Owner::Client(self.index, conn), once))
    }

    fn cancel(&mut self, link: End) -> io::Result<()> {
        let mut net = self.net();
        if let Some(state) = net.links.get_mut(&link)
            && let Some(owner) = state.receiving.take()
        {
            net.completed_receive(owner, Received::Again, false);
        }
        Ok(())
    }

    fn send(
        &mut self,
        socket: &SimSocket,
        conn: ConnId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()> {
        self.step()?;
        let taken = self.taken(buf.len() - from);
        let bytes = match from {
            0 if taken == buf.len() => misbehave(self.bug, &mut self.rng, &buf),
            _ => buf[from..from + taken].to_vec(),
        };
        let sending = Sending { owner: Owner::Client(self.index, conn), buf, taken };
        self.net().send(socket.0, sending, bytes);
        Ok(())
    }

    fn unconfirmed(&mut self, _socket: &SimSocket) -> usize {
        0
    }

    fn is_hung_up(&mut self, socket: &SimSocket) -> bool {
        self.net().links.get(&socket.0).is_none_or(|state| state.ended)
    }

    fn shutdown(&mut self, socket: &SimSocket, direction: Direction) {
        let link = socket.0;
        let mut net = self.net();
        if direction == Direction::Write {
            return net.actions.push(Action::Finish { link });
        }
        if let Some(state) = net.links.get_mut(&link).filter(|state| !state.is_shut) {
            state.is_shut = true;
            state.ended = true;
            state.waiting.clear();
            net.deliver(link);
            // The send under way ends with it, though nothing confirms it any more.
            net.sent(link);
            net.actions.push(Action::Reset { link });
        }
    }

    fn start_listening_to_members(&mut self) -> io::Result<()> {
        self.net().members_at = Some(self.index);
        Ok(())
    }

    fn next_of_members(&mut self) -> io::Result<Option<MemberCompletion<SimIo>>> {
        Ok(self.net().of_members.pop_front())
    }

    fn accept_member_again(&mut self, _listener: usize) -> io::Result<()> {
        Ok(())
    }

    fn dial_member(&mut self, link: LinkId, to: ServerId, port: Port) {
        self.net().actions.push(Action::Dial { link, to, port });
    }

    fn set_up_member(&mut self, _socket: &SimSocket) {}

    fn receive_from_member(&mut self, socket: &SimSocket, link: LinkId) -> io::Result<End> {
        Ok(self.net().receive(socket.0, Owner::Member(link), false))
    }

    fn send_to_member(
        &mut self,
        socket: &SimSocket,
        link: LinkId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()> {
        self.step()?;
        let taken = self.taken(buf.len() - from);
        let bytes = buf[from..from + taken].to_vec();
        self.net().send(socket.0, Sending { owner: Owner::Member(link), buf, taken }, bytes);
        Ok(())
    }

    /// No turn takes so long here that a BEAT would be due.
    fn keep_alive(
        &mut self,
        _: &SimSocket,
        link: LinkId,
        lifeline: Option<(ServerId, LifelineKey)>,
        _left: usize,
    ) {
        if let Some((learner, key)) = lifeline {
            self.net().actions.push(Action::Lifeline { link, learner, key });
        }
    }

    fn let_go(&mut self, link: LinkId) {
        self.net().actions.push(Action::LetGo { link });
    }

    fn write_log(
        &mut self,
        fd: FileId,
        buf: Vec<u8>,
        len: usize,
        offset: u64,
        flags: i32,
    ) -> io::Result<()> {
        let mut from = 0;
        let mut disk = self.files.disk();
        if self.bug == Some(Bug::SkipTailBlock) && offset > BLOCK as u64 {
            let old = &disk.content(fd)[offset as usize..][..16];
            from = if old.iter().any(|&b| b != 0) { BLOCK.min(len) } else { 0 };
        }
        disk.write(fd, offset as usize + from, &buf[from..len])?;
        drop(disk);
        let at = self.index;
        let mut net = self.net();
        assert!(net.write.is_none(), "two writes of the log at once");
        net.write = Some(LogWrite { at, fd, buf, len, offset, flags });
        net.actions.push(Action::Writing);
        Ok(())
    }

    fn post(&mut self, to: usize, message: Message<SimIo>) -> Result<(), Message<SimIo>> {
        let mut net = self.net();
        if net.inboxes[to].len() >= QUEUE {
            return Err(message);
        }
        net.inboxes[to].push_back(message);
        Ok(())
    }

    fn next_message(&mut self) -> Option<Message<SimIo>> {
        let index = self.index;
        self.net().inboxes[index].pop_front()
    }

    fn give_back_memory(&mut self) {}

    fn look_up(&mut self, _word: [u8; 4], _live: &mut Live) {}

    fn settled(&mut self) {
        self.net().is_settled = true;
    }
}

/// Notes what the checkers want to know, and checks the replica after every input.
pub(super) struct SimProbe {
    net: Rc<RefCell<Net>>,
}

impl SimProbe {
    /// Of the server whose loops share this.
    pub fn new(net: Rc<RefCell<Net>>) -> SimProbe {
        SimProbe { net }
    }

    /// The session of the connection was heard of.
    fn touched(&self, replica: &Replica, conn: ConnId) {
        if let Some(client) = replica.clients().find(|client| client.conn == conn)
            && client.session != SessionId(0)
        {
            let (session, timeout_ms) = (client.session, client.timeout_ms);
            self.net.borrow_mut().actions.push(Action::Touched { session, timeout_ms });
        }
    }
}

impl Probe for SimProbe {
    fn handled(&mut self, member: &Member, conn: Option<ConnId>) {
        member.check();
        if let Some(conn) = conn {
            self.touched(member.replica(), conn);
        }
    }

    fn established(&mut self, replica: &Replica, conn: ConnId) {
        self.touched(replica, conn);
    }

    fn appended(&mut self, batch: &Batch) {
        let mut net = self.net.borrow_mut();
        net.actions.extend(batch.iter().map(|(_, entry)| Action::Logged { entry: entry.to_vec() }));
    }

    fn log_changing(&mut self, change: &LogChange) {
        self.net.borrow_mut().actions.push(Action::LogChanging(*change));
    }

    fn log_changed(&mut self, change: &LogChange) {
        self.net.borrow_mut().actions.push(Action::LogChanged(*change));
    }

    fn chore_failed(&mut self, what: &dyn fmt::Display) {
        self.net.borrow_mut().chore_failure = Some(what.to_string());
    }
}

fn split_frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let Some((len, _)) = rest.split_first_chunk::<4>() {
        let size = 4 + u32::from_be_bytes(*len) as usize;
        let (frame, tail) = rest.split_at(size.min(rest.len()));
        frames.push(frame.to_vec());
        rest = tail;
    }
    frames
}

/// An injected bug: two requests that arrived together change places.
fn swap_requests(bytes: Vec<u8>) -> Vec<u8> {
    let mut frames = split_frames(&bytes);
    match &mut *frames {
        [first, second, ..] if bytes.len() < 4096 => std::mem::swap(first, second),
        _ => return bytes,
    }
    frames.concat()
}

/// Injected bugs of the reply path, on whole frames.
fn misbehave(bug: Option<Bug>, rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let relevant =
        [Bug::ReplyBeforeEvent, Bug::LoseEvent, Bug::SwapReplies, Bug::HideError].map(Some);
    if !relevant.contains(&bug) {
        return bytes.to_vec();
    }
    let mut frames = split_frames(bytes);
    let is_event = |frame: &[u8]| frame.get(4..8) == Some(&[0xff; 4]);
    match bug {
        Some(Bug::ReplyBeforeEvent) => frames.sort_by_key(|frame| is_event(frame)),
        Some(Bug::LoseEvent) => {
            if rng.chance(1, 3)
                && let Some(at) = frames.iter().position(|frame| is_event(frame))
            {
                frames.remove(at);
            }
        }
        Some(Bug::SwapReplies) => {
            let replies: Vec<usize> = (0..frames.len())
                .filter(|&at| !is_event(&frames[at]) && frames[at].len() >= 20)
                .collect();
            if let [first, second, ..] = replies[..] {
                frames.swap(first, second);
            }
        }
        Some(Bug::HideError) => {
            for frame in frames.iter_mut().filter(|frame| frame.len() == 20) {
                frame[16..20].fill(0);
            }
        }
        _ => {}
    }
    frames.concat()
}
