//! The driver's port on a real machine: a ring, sockets, the queues of the other workers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::admin::Live;
use crate::base::{ConnId, Instant, LifelineKey, LinkId, ServerId};
use crate::disk::DataDir;
use crate::driver::{Completion, Direction, Io, MemberCompletion, Received, Unobserved};
use crate::peer;
use crate::sys::file::AlignedBuf;
use crate::sys::ring::{self, Bytes, Lane, OpId, Ring, RingFeatures, may_receive_again};
use crate::sys::{cpu, memory, net};

use super::census::Census;
use super::dials::{Dials, MemberPorts};
use super::host;
use super::lifeline::Lifelines;
use super::links::{Mailbox, Message};
use super::pulse::Pulse;

/// Tokens carry the kind of the operation in the top byte and the connection's slot and generation
/// below. The front's index, which a connection's id has there, is added again.
const TOKEN_ACCEPT: u64 = 1 << 56;
const TOKEN_RECEIVE: u64 = 2 << 56;
const TOKEN_SEND: u64 = 3 << 56;
const TOKEN_LOG: u64 = 4 << 56;
const TOKEN_BELL: u64 = 5 << 56;
/// Tokens of members' connections carry the number of the connection, or of the listening socket.
const TOKEN_MEMBER_ACCEPT: u64 = 6 << 56;
const TOKEN_MEMBER_RECEIVE: u64 = 7 << 56;
const TOKEN_MEMBER_SEND: u64 = 8 << 56;
const KIND: u64 = 0xff << 56;

/// Receive buffers that members have to themselves.
const MEMBER_BUFFERS: u16 = 64;

/// The listening sockets of a front, and the rules for the connections that arrive.
pub struct Gate {
    /// Index of the front.
    pub front: u8,
    /// Where connections arrive; none at a front that only takes over what another accepts.
    pub listeners: Vec<OwnedFd>,
    /// Counts the connections of all fronts.
    pub census: Arc<Census>,
    /// `clientTcpKeepAlive`.
    pub keepalive: bool,
}

/// See the module's introduction.
pub struct UringIo {
    ring: Ring,
    gate: Gate,
    inbox: Receiver<Message>,
    index: usize,
    mailboxes: Vec<Mailbox>,
    /// Hears when a drain has nothing left to write; gone when the worker has ended.
    settled: Option<Sender<()>>,
    /// The ports for other members, if there are any, and the loop of the replica is this one.
    members: Option<Members>,
}

/// What serves the connections of other members.
struct Members {
    listeners: Vec<(peer::Port, OwnedFd)>,
    dials: Dials,
    pulse: Pulse,
    lifelines: Lifelines,
}

impl UringIo {
    /// The port of worker `index`, whose messages come from `inbox`.
    ///
    /// # Errors
    /// Of the ring.
    pub fn new(
        ring: Ring,
        gate: Gate,
        inbox: Receiver<Message>,
        index: usize,
        mailboxes: Vec<Mailbox>,
        settled: Option<Sender<()>>,
    ) -> io::Result<UringIo> {
        let mut io = UringIo { ring, gate, inbox, index, mailboxes, settled, members: None };
        io.wait_for_bell()?;
        Ok(io)
    }

    /// Serves other members, too.
    ///
    /// # Errors
    /// Of the ring, or a thread that cannot be started.
    pub fn serve_members(&mut self, ports: MemberPorts) -> io::Result<()> {
        self.ring.add_first_buffers(MEMBER_BUFFERS)?;
        let MemberPorts { sid, listeners, addresses, dial_timeout, held_up_max } = ports;
        let lifelines = Lifelines::start(sid, addresses.clone())?;
        let bell = Arc::clone(self.mailboxes[self.index].bell());
        let dials = Dials::new(addresses, dial_timeout, bell);
        let pulse = Pulse::start(held_up_max)?;
        self.members = Some(Members { listeners, dials, pulse, lifelines });
        Ok(())
    }

    /// The ports for members, of which only a loop with such connections speaks.
    fn members(&self) -> io::Result<&Members> {
        self.members.as_ref().ok_or_else(|| io::Error::other("this server has no other members"))
    }

    /// The loop begins a turn.
    pub fn begin_turn(&self, now: Instant) {
        if let Some(members) = &self.members {
            members.pulse.turn_begins(now);
        }
    }

    fn wait_for_bell(&mut self) -> io::Result<()> {
        let bell = self.mailboxes[self.index].bell().fd();
        self.ring.read_eventfd(bell, TOKEN_BELL).map(|_| ())
    }

    /// What the ring uses.
    pub fn features(&self) -> RingFeatures {
        self.ring.features()
    }

    /// Waits for a completion or the bell, for `limit` at most; `None` is for ever. `has_reports`
    /// is asked once more after the others know that this worker sleeps.
    pub fn wait(
        &mut self,
        limit: Option<Duration>,
        has_reports: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        if limit == Some(Duration::ZERO) {
            return self.ring.submit_and_wait(limit);
        }
        let bell = Arc::clone(self.mailboxes[self.index].bell());
        bell.about_to_sleep();
        let has_dialed = self.members.as_ref().is_some_and(|members| members.dials.have_ended());
        let is_idle = self.inbox.is_empty() && !has_dialed && !has_reports();
        let limit = if is_idle { limit } else { Some(Duration::ZERO) };
        let result = self.ring.submit_and_wait(limit);
        bell.awake();
        result
    }

    fn conn_of(&self, token: u64) -> ConnId {
        ConnId(token & !KIND | u64::from(self.gate.front) << 56)
    }

    /// A socket that was accepted and where it leads, or an error with advice.
    fn accepted(result: io::Result<RawFd>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        let result = result.map(|fd| {
            let socket = net::adopt(fd);
            let peer = net::peer_addr(&socket).ok();
            (socket, peer)
        });
        result.map_err(|e| io::Error::new(e.kind(), format!("{e}{}", net::accept_advice(&e))))
    }

    fn received(result: io::Result<Option<Bytes>>) -> Received<Bytes> {
        match result {
            Ok(Some(bytes)) => Received::Bytes(bytes),
            Ok(None) => Received::End,
            Err(e) if may_receive_again(&e) => Received::Again,
            Err(e) => Received::Failed(e.kind()),
        }
    }

    /// What an operation of members' connections came to.
    fn of_member(
        completion: ring::Completion,
        listeners: &[(peer::Port, OwnedFd)],
    ) -> MemberCompletion<UringIo> {
        match completion {
            ring::Completion::Accepted { token, result, more } => {
                let listener = (token & !KIND) as usize;
                let result = UringIo::accepted(result);
                let port = listeners[listener].0;
                MemberCompletion::Accepted { listener, port, result, more }
            }
            ring::Completion::Received { token, result, more } => {
                let result = UringIo::received(result);
                MemberCompletion::Received { link: LinkId(token & !KIND), result, more }
            }
            ring::Completion::Sent { token, buf, result } => {
                let result = result.map_err(|e| e.kind());
                MemberCompletion::Sent { link: LinkId(token & !KIND), buf, result }
            }
            ring::Completion::Written { .. } | ring::Completion::Woken { .. } => {
                unreachable!("the log and the bell have nothing to do with members")
            }
        }
    }
}

impl Io for UringIo {
    type Files = DataDir;
    type Socket = OwnedFd;
    type Receive = OpId;
    type Bytes = Bytes;
    type Probe = Unobserved;

    fn now(&self) -> Instant {
        cpu::now().mono
    }

    fn next_completion(&mut self) -> io::Result<Option<Completion<UringIo>>> {
        while let Some(completion) = self.ring.next_completion() {
            return Ok(Some(match completion {
                ring::Completion::Accepted { token, result, more } => {
                    let listener = (token & !KIND) as usize;
                    Completion::Accepted { listener, result: UringIo::accepted(result), more }
                }
                ring::Completion::Received { token, result, more } => {
                    let (conn, result) = (self.conn_of(token), UringIo::received(result));
                    Completion::Received { conn, result, more }
                }
                ring::Completion::Sent { token, buf, result } => {
                    let sent = result.unwrap_or(0);
                    Completion::Sent { conn: self.conn_of(token), buf, sent }
                }
                ring::Completion::Written { buf, result, .. } => {
                    Completion::Written { buf, result }
                }
                ring::Completion::Woken { .. } => {
                    self.wait_for_bell()?;
                    continue;
                }
            }));
        }
        Ok(None)
    }

    fn bytes<'a>(&'a self, bytes: &'a Bytes) -> &'a [u8] {
        self.ring.bytes(bytes)
    }

    fn release(&mut self, bytes: Bytes) {
        self.ring.release(bytes);
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    fn start_accepting(&mut self) -> io::Result<()> {
        (0..self.gate.listeners.len()).try_for_each(|listener| self.accept_again(listener))
    }

    fn accept_again(&mut self, listener: usize) -> io::Result<()> {
        let fd = self.gate.listeners[listener].as_raw_fd();
        self.ring.accept(Lane::Common, fd, TOKEN_ACCEPT | listener as u64).map(|_| ())
    }

    fn stop_accepting(&mut self) {
        for listener in self.gate.listeners.drain(..) {
            // Ends the accept in flight, which holds the socket open.
            net::shutdown(&listener, net::Direction::Both);
        }
    }

    fn admit(&mut self, peer: &SocketAddr) -> Result<(), String> {
        self.gate.census.enter(peer.ip()).map_err(|too_many| too_many.to_string())
    }

    fn leave(&mut self, peer: &SocketAddr) {
        self.gate.census.leave(peer.ip());
    }

    fn set_up(&mut self, socket: &OwnedFd) {
        // Failures of these two only mean that the peer is gone, which the receive will tell.
        let _ = net::set_nodelay(socket);
        if self.gate.keepalive {
            let _ = net::set_keepalive(socket);
        }
    }

    fn refuse(&mut self, socket: OwnedFd) {
        // Without the option the peer sees the connection end instead of a reset.
        let _ = net::set_reset_on_close(&socket);
    }

    fn receive(&mut self, socket: &OwnedFd, conn: ConnId, once: bool) -> io::Result<OpId> {
        let (fd, token) = (socket.as_raw_fd(), TOKEN_RECEIVE | conn.0 & !KIND);
        match once {
            true => self.ring.recv_once(Lane::Common, fd, token),
            false => self.ring.recv(Lane::Common, fd, token),
        }
    }

    fn cancel(&mut self, receive: OpId) -> io::Result<()> {
        self.ring.cancel(receive)
    }

    fn send(
        &mut self,
        socket: &OwnedFd,
        conn: ConnId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()> {
        let token = TOKEN_SEND | conn.0 & !KIND;
        self.ring.send(Lane::Common, socket.as_raw_fd(), buf, from, token).map(|_| ())
    }

    fn unconfirmed(&mut self, socket: &OwnedFd) -> usize {
        net::unsent(socket)
    }

    fn is_hung_up(&mut self, socket: &OwnedFd) -> bool {
        net::is_hung_up(socket)
    }

    fn shutdown(&mut self, socket: &OwnedFd, direction: Direction) {
        let direction = match direction {
            Direction::Write => net::Direction::Write,
            Direction::Both => net::Direction::Both,
        };
        net::shutdown(socket, direction);
    }

    fn start_listening_to_members(&mut self) -> io::Result<()> {
        (0..self.members()?.listeners.len())
            .try_for_each(|listener| self.accept_member_again(listener))
    }

    fn next_of_members(&mut self) -> io::Result<Option<MemberCompletion<UringIo>>> {
        let Some(members) = &mut self.members else { return Ok(None) };
        if let Some((link, result)) = members.dials.next() {
            return Ok(Some(MemberCompletion::Dialed { link, result }));
        }
        let Some(completion) = self.ring.next_first() else { return Ok(None) };
        let completion = UringIo::of_member(completion, &members.listeners);
        if let MemberCompletion::Sent { link, result: Ok(bytes), .. } = &completion {
            members.pulse.send_ends(*link, *bytes);
        }
        Ok(Some(completion))
    }

    fn accept_member_again(&mut self, listener: usize) -> io::Result<()> {
        let fd = self.members()?.listeners[listener].1.as_raw_fd();
        let token = TOKEN_MEMBER_ACCEPT | listener as u64;
        self.ring.accept(Lane::First, fd, token).map(|_| ())
    }

    fn dial_member(&mut self, link: LinkId, to: ServerId, port: peer::Port) {
        if let Some(members) = &mut self.members {
            members.dials.begin(link, to, port);
        }
    }

    fn set_up_member(&mut self, socket: &OwnedFd) {
        // As with clients, failures only mean that the peer is gone.
        let _ = net::set_nodelay(socket);
        // Votes that go nowhere would keep this server from ever finding a leader.
        let _ = net::set_impatient(socket);
    }

    fn receive_from_member(&mut self, socket: &OwnedFd, link: LinkId) -> io::Result<OpId> {
        let token = TOKEN_MEMBER_RECEIVE | link.0 & !KIND;
        self.ring.recv(Lane::First, socket.as_raw_fd(), token)
    }

    fn send_to_member(
        &mut self,
        socket: &OwnedFd,
        link: LinkId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()> {
        self.members()?.pulse.send_begins(link, buf.len() - from);
        let token = TOKEN_MEMBER_SEND | link.0 & !KIND;
        self.ring.send(Lane::First, socket.as_raw_fd(), buf, from, token).map(|_| ())
    }

    fn keep_alive(
        &mut self,
        socket: &OwnedFd,
        link: LinkId,
        lifeline: Option<(ServerId, LifelineKey)>,
        left: usize,
    ) {
        if let Some(members) = &self.members {
            members.pulse.add(socket, link, left);
            if let Some((learner, key)) = lifeline {
                members.lifelines.make(link, learner, key);
            }
        }
    }

    fn let_go(&mut self, link: LinkId) {
        if let Some(members) = &self.members {
            members.pulse.remove(link);
            members.lifelines.end(link);
        }
    }

    fn write_log(
        &mut self,
        fd: RawFd,
        buf: AlignedBuf,
        len: usize,
        offset: u64,
        flags: i32,
    ) -> io::Result<()> {
        self.ring.write(fd, buf, len, offset, flags, TOKEN_LOG).map(|_| ())
    }

    fn post(&mut self, to: usize, message: Message) -> Result<(), Message> {
        self.mailboxes[to].send(message)
    }

    fn next_message(&mut self) -> Option<Message> {
        self.inbox.try_recv().ok()
    }

    fn give_back_memory(&mut self) {
        memory::give_back();
    }

    fn look_up(&mut self, word: [u8; 4], live: &mut Live) {
        match &word {
            b"mntr" => live.open_files = host::open_files(),
            b"envi" => {
                (live.memory_free, live.memory_max, live.memory_used) = host::memory();
            }
            _ => {}
        }
    }

    fn settled(&mut self) {
        if let Some(settled) = &self.settled {
            let _ = settled.try_send(());
        }
    }
}

#[cfg(test)]
mod tests;
