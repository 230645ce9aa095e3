//! The sockets of one front: turns ring completions into front input and front output into ring
//! operations.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ConnId, Instant, Now};
use crate::front::{Front, FrontOptions, FrontSink, Queued, Sent, Verdict};
use crate::sys::net::{self, Direction};
use crate::sys::ring::{Bytes, OpId, Ring, may_receive_again};

use super::census::Census;
use super::ration::Ration;

/// Tokens carry what they belong to in the top byte and the connection's slot and generation
/// below. The front's index is not needed there.
pub const TOKEN_ACCEPT: u64 = 1 << 56;
/// Receive on a connection.
pub const TOKEN_RECV: u64 = 2 << 56;
/// Send on a connection.
pub const TOKEN_SEND: u64 = 3 << 56;
/// Write of the log.
pub const TOKEN_LOG: u64 = 4 << 56;
/// The worker's bell.
pub const TOKEN_BELL: u64 = 5 << 56;
const KIND: u64 = 0xff << 56;

/// Pause before accepting again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at the connections' timers.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// How long a peer may take to receive what was queued before its connection is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How long a closed connection's peer may take to read what is left.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Socket {
    conn: ConnId,
    fd: OwnedFd,
    recv: Option<OpId>,
    sending: bool,
    /// Bytes of the buffer being sent that the socket has taken.
    sent: usize,
    /// Sending is over; waiting for the peer to close.
    lingering: Option<Instant>,
    /// A close was asked for; by then the peer must have taken what is left.
    close_by: Option<Instant>,
    /// The peer sends no more, but an answer is still owed to it.
    input_ended: bool,
    /// Both directions are shut down; waiting for the last completions.
    dying: bool,
    held: bool,
}

/// The sockets of one front.
#[derive(Debug)]
pub struct Edge {
    /// Framing and queues.
    pub front: Front,
    id: u8,
    /// Counts the connections of all fronts.
    census: Arc<Census>,
    listeners: Vec<OwnedFd>,
    sockets: Vec<Option<Socket>>,
    /// Connections with output to begin sending.
    ready: Vec<ConnId>,
    spare: Vec<Vec<u8>>,
    keepalive: bool,
    next_sweep: Instant,
    /// The last sweep left idle connections to the next one.
    postponed: bool,
    idle: Vec<ConnId>,
    accepting: bool,
    refusals: Ration,
    /// Accepts to arm again later: the process ran out of something.
    accept_later: Vec<(Instant, u64)>,
}

/// What became of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// It is still there, or was already known to be gone.
    No,
    /// The peer closed it or it failed; the replica must be told.
    Yes(ConnId),
}

fn slot_of(conn: ConnId) -> usize {
    conn.0 as u32 as usize
}

impl Edge {
    /// The edge of front `options.id`.
    pub fn new(
        options: FrontOptions,
        census: Arc<Census>,
        listeners: Vec<OwnedFd>,
        keepalive: bool,
    ) -> Edge {
        Edge {
            id: options.id,
            census,
            front: Front::new(options),
            listeners,
            sockets: Vec::new(),
            ready: Vec::new(),
            spare: Vec::new(),
            keepalive,
            next_sweep: Instant(0),
            postponed: false,
            idle: Vec::new(),
            accepting: true,
            refusals: Ration::default(),
            accept_later: Vec::new(),
        }
    }

    /// Begins to accept.
    pub fn start(&mut self, ring: &mut Ring) -> io::Result<()> {
        for (index, listener) in self.listeners.iter().enumerate() {
            ring.accept(listener.as_raw_fd(), TOKEN_ACCEPT | index as u64)?;
        }
        Ok(())
    }

    /// Stops accepting, which frees the ports at once, and takes no more requests.
    pub fn stop_taking(&mut self) {
        self.accepting = false;
        self.front.stop_taking();
        for listener in self.listeners.drain(..) {
            // Ends the accept in flight, which holds the socket open.
            net::shutdown(&listener, Direction::Both);
        }
    }

    /// Re-arms an accept that failed, after a while: without descriptors or memory the next one
    /// would fail at once too.
    pub fn rearm_accept_later(&mut self, now: Now, token: u64) {
        self.accept_later.push((now.mono + ACCEPT_PAUSE, token));
    }

    /// Re-arms what waited for its time.
    pub fn rearm_due(&mut self, now: Now, ring: &mut Ring) -> io::Result<()> {
        while let Some(&(at, token)) = self.accept_later.first()
            && at <= now.mono
        {
            self.accept_later.remove(0);
            self.rearm_accept(ring, token)?;
        }
        Ok(())
    }

    /// Re-arms an accept that ended.
    pub fn rearm_accept(&mut self, ring: &mut Ring, token: u64) -> io::Result<()> {
        match self.listeners.get((token & !KIND) as usize) {
            Some(listener) if self.accepting => {
                ring.accept(listener.as_raw_fd(), token).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn conn_of(&self, token: u64) -> ConnId {
        ConnId(token & !KIND | u64::from(self.id) << 56)
    }

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(slot_of(conn))?.as_mut().filter(|socket| socket.conn == conn)
    }

    /// Takes over an accepted socket; `None` if it is refused.
    pub fn adopt(
        &mut self,
        now: Now,
        ring: &mut Ring,
        fd: OwnedFd,
        peer: SocketAddr,
    ) -> io::Result<Option<ConnId>> {
        if let Err(too_many) = self.census.enter(peer.ip()) {
            if let Some(more) = self.refusals.take(now.mono) {
                log::warn!("refusing {peer}: {too_many}{more}");
            }
            net::set_reset_on_close(&fd)?;
            return Ok(None);
        }
        let conn = self.front.accept(now.mono, peer);
        // Failures of these two only mean that the peer is gone, which the receive will tell.
        let _ = net::set_nodelay(&fd);
        if self.keepalive {
            let _ = net::set_keepalive(&fd);
        }
        let recv = ring.recv(fd.as_raw_fd(), TOKEN_RECV | conn.0 & !KIND)?;
        let slot = slot_of(conn);
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(Socket {
            conn,
            fd,
            recv: Some(recv),
            sending: false,
            sent: 0,
            lingering: None,
            close_by: None,
            input_ended: false,
            dying: false,
            held: false,
        });
        Ok(Some(conn))
    }

    /// Handles a receive's completion.
    pub fn received(
        &mut self,
        now: Now,
        ring: &mut Ring,
        token: u64,
        result: io::Result<Option<Bytes>>,
        more: bool,
        sink: &mut impl FrontSink,
    ) -> io::Result<Gone> {
        let conn = self.conn_of(token);
        if !more && let Some(socket) = self.socket(conn) {
            socket.recv = None;
        }
        if self.socket(conn).is_some_and(|socket| socket.dying) {
            // Whatever the last completion says, nothing may wait for another one.
            if let Ok(Some(bytes)) = result {
                ring.release(bytes);
            }
            self.bury(conn);
            return Ok(Gone::No);
        }
        match result {
            Ok(Some(bytes)) => {
                let verdict = self.front.received(now.mono, conn, ring.bytes(&bytes), sink);
                ring.release(bytes);
                self.act(conn, verdict, ring)
            }
            Ok(None) => Ok(self.input_ended(conn)),
            // No buffer was free, or the operation was cancelled to hold the connection.
            Err(e) if may_receive_again(&e) => {
                self.rearm(conn, ring)?;
                Ok(Gone::No)
            }
            Err(_) => Ok(self.lost(conn)),
        }
    }

    fn act(&mut self, conn: ConnId, verdict: Verdict, ring: &mut Ring) -> io::Result<Gone> {
        match verdict {
            Verdict::Read => {
                if let Some(socket) = self.socket(conn) {
                    socket.held = false;
                }
                self.rearm(conn, ring)?;
                Ok(Gone::No)
            }
            Verdict::Hold => {
                if let Some(socket) = self.socket(conn)
                    && !socket.held
                {
                    socket.held = true;
                    if let Some(op) = socket.recv {
                        ring.cancel(op)?;
                    }
                }
                Ok(Gone::No)
            }
            Verdict::Close(error) => {
                if let Some(who) = self.front.who(conn) {
                    log::warn!("closing the connection of {who}: {error}");
                }
                Ok(self.lost(conn))
            }
        }
    }

    fn rearm(&mut self, conn: ConnId, ring: &mut Ring) -> io::Result<()> {
        let Some(socket) = self.socket(conn) else { return Ok(()) };
        if socket.recv.is_none() && !socket.dying && !socket.held {
            let op = ring.recv(socket.fd.as_raw_fd(), TOKEN_RECV | conn.0 & !KIND)?;
            socket.recv = Some(op);
        }
        Ok(())
    }

    /// The peer has ended its side. Whoever sent a four-letter word that way wants the answer; a
    /// client's connection is over, as with Apache.
    fn input_ended(&mut self, conn: ConnId) -> Gone {
        let answering = self.front.is_closing(conn);
        match self.socket(conn) {
            Some(socket) if answering && socket.lingering.is_none() && !socket.dying => {
                socket.input_ended = true;
                Gone::No
            }
            _ => self.lost(conn),
        }
    }

    /// The peer is gone or must go.
    pub fn lost(&mut self, conn: ConnId) -> Gone {
        let Some(socket) = self.socket(conn) else { return Gone::No };
        if socket.dying {
            self.bury(conn);
            return Gone::No;
        }
        let was_ours = socket.lingering.is_some();
        self.kill(conn);
        if was_ours { Gone::No } else { Gone::Yes(conn) }
    }

    /// Ends both directions; the slot is free when the last completion arrived.
    fn kill(&mut self, conn: ConnId) {
        let Some(socket) = self.socket(conn) else { return };
        socket.dying = true;
        net::shutdown(&socket.fd, Direction::Both);
        self.front.begin_close(conn);
        self.bury(conn);
    }

    fn bury(&mut self, conn: ConnId) {
        let Some(socket) = self.socket(conn) else { return };
        if socket.dying && socket.recv.is_none() && !socket.sending {
            self.sockets[slot_of(conn)] = None;
            if let Some(peer) = self.front.remove(conn) {
                self.census.leave(peer.ip());
            }
        }
    }

    /// The replica wants the connection closed.
    pub fn close(&mut self, now: Now, conn: ConnId, after_flush: bool) {
        if !after_flush {
            return self.kill(conn);
        }
        let flushed = self.front.begin_close(conn);
        if let Some(socket) = self.socket(conn) {
            socket.close_by = Some(now.mono + CLOSE_LIMIT);
        }
        if flushed {
            self.half_close(now.mono, conn);
        }
    }

    /// Everything is sent: say so, and give the peer time to read it. Closing outright would
    /// reset the connection, and lose the reply, if the peer has sent something unread.
    fn half_close(&mut self, now: Instant, conn: ConnId) {
        if self.socket(conn).is_some_and(|socket| socket.input_ended) {
            return self.kill(conn);
        }
        if let Some(socket) = self.socket(conn)
            && socket.lingering.is_none()
        {
            socket.lingering = Some(now + LINGER);
            net::shutdown(&socket.fd, Direction::Write);
        }
    }

    /// Queues output of a connection.
    pub fn queue(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.front.queue(conn, bytes) {
            Queued::Ready => self.ready.push(conn),
            Queued::Waiting => {}
            // Ends the operations in flight, which tells the replica; failing that, the sweep.
            Queued::CutOff => {
                if let Some(socket) = self.socket(conn) {
                    net::shutdown(&socket.fd, Direction::Both);
                }
            }
        }
    }

    /// Begins sending whatever became ready.
    pub fn send_ready(&mut self, ring: &mut Ring) -> io::Result<()> {
        while let Some(conn) = self.ready.pop() {
            self.send(conn, ring)?;
        }
        Ok(())
    }

    fn send(&mut self, conn: ConnId, ring: &mut Ring) -> io::Result<()> {
        match self.socket(conn) {
            Some(socket) if !socket.dying => {}
            _ => return Ok(()),
        }
        let spare = self.spare.pop().unwrap_or_default();
        let Some(output) = self.front.take_output(conn, spare) else { return Ok(()) };
        if let Some(socket) = self.socket(conn) {
            socket.sending = true;
            ring.send(socket.fd.as_raw_fd(), output, 0, TOKEN_SEND | conn.0 & !KIND)?;
        }
        Ok(())
    }

    /// Handles a send's completion. `Some` verdict-driven input may follow through `sink`.
    pub fn sent(
        &mut self,
        now: Now,
        ring: &mut Ring,
        token: u64,
        mut buf: Vec<u8>,
        result: io::Result<usize>,
        sink: &mut impl FrontSink,
    ) -> io::Result<Gone> {
        let conn = self.conn_of(token);
        let sent = result.unwrap_or(0);
        if let Some(socket) = self.socket(conn)
            && !socket.dying
            && sent > 0
            && socket.sent + sent < buf.len()
        {
            // Kernels before 5.19 do not go on by themselves when a socket's buffer is full.
            socket.sent += sent;
            let (fd, from) = (socket.fd.as_raw_fd(), socket.sent);
            ring.send(fd, buf, from, token)?;
            return Ok(Gone::No);
        }
        let complete = self.socket(conn).is_some_and(|socket| socket.sent + sent == buf.len());
        buf.clear();
        if buf.capacity() <= 64 * 1024 && self.spare.len() < 64 {
            self.spare.push(buf);
        }
        let Some(socket) = self.socket(conn) else { return Ok(Gone::No) };
        socket.sending = false;
        socket.sent = 0;
        if socket.dying {
            self.bury(conn);
            return Ok(Gone::No);
        }
        if !complete {
            return Ok(self.lost(conn));
        }
        match self.front.sent(conn) {
            Sent::Nothing => Ok(Gone::No),
            Sent::More => self.send(conn, ring).map(|()| Gone::No),
            Sent::Flushed => {
                self.half_close(now.mono, conn);
                Ok(Gone::No)
            }
            Sent::Drained => {
                sink.drained(conn);
                self.unclog(conn, ring, sink)
            }
            Sent::Unclogged => self.resume(conn, ring, sink),
        }
    }

    /// Takes requests again from a connection that only waited for its output to be sent.
    fn unclog(
        &mut self,
        conn: ConnId,
        ring: &mut Ring,
        sink: &mut impl FrontSink,
    ) -> io::Result<Gone> {
        if self.front.is_clogged(conn) { self.resume(conn, ring, sink) } else { Ok(Gone::No) }
    }

    /// Takes requests from a connection again.
    pub fn resume(
        &mut self,
        conn: ConnId,
        ring: &mut Ring,
        sink: &mut impl FrontSink,
    ) -> io::Result<Gone> {
        let verdict = self.front.resume(conn, sink);
        self.act(conn, verdict, ring)
    }

    /// Once a second: connections idle for too long, and peers that do not close. `gone` gets
    /// those the replica must be told of.
    ///
    /// A sweep that comes late tells of a server that was held up (paused, or waiting for its
    /// disk), and so was what waits in its sockets and queues: that is taken first.
    pub fn sweep(&mut self, now: Now, gone: &mut Vec<ConnId>) {
        if now.mono < self.next_sweep {
            return;
        }
        let is_late = now.mono.since(self.next_sweep) > SWEEP_PAUSE;
        self.postponed = is_late && !self.postponed;
        self.next_sweep = now.mono + SWEEP_PAUSE;
        if !self.postponed {
            self.end_idle(now, gone);
        }
        self.end_late(now);
    }

    fn end_idle(&mut self, now: Now, gone: &mut Vec<ConnId>) {
        let mut idle = std::mem::take(&mut self.idle);
        idle.clear();
        self.front.idle(now.mono, &mut idle);
        for conn in idle.drain(..) {
            if let Some(who) = self.front.who(conn) {
                log::info!("closing the connection of {who}: nothing came from it for too long");
            }
            if let Gone::Yes(conn) = self.lost(conn) {
                gone.push(conn);
            }
        }
        self.idle = idle;
    }

    fn end_late(&mut self, now: Now) {
        let late: Vec<ConnId> = self
            .sockets
            .iter()
            .flatten()
            .filter(|socket| {
                let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.mono);
                !socket.dying && (due(socket.lingering) || due(socket.close_by))
            })
            .map(|socket| socket.conn)
            .collect();
        for conn in late {
            self.kill(conn);
        }
    }

    /// When [`Edge::sweep`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let later = self.accept_later.first().map(|(at, _)| *at);
        let sweep = (!self.front.is_empty()).then_some(self.next_sweep);
        [later, sweep].into_iter().flatten().min()
    }

    /// Whether every connection's output has been given to its socket.
    pub fn is_flushed(&self) -> bool {
        self.ready.is_empty() && self.sockets.iter().flatten().all(|socket| !socket.sending)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sys::cpu;
    use crate::sys::ring::{Completion, RingOptions};

    /// Only what sockets do matters here.
    struct Deaf;

    impl FrontSink for Deaf {
        fn frames(&mut self, _: ConnId, _: &[u8]) {}

        fn drained(&mut self, _: ConnId) {}

        fn word(&mut self, _: ConnId, _: [u8; 4], _: &[u8]) {}
    }

    /// One connection over real sockets, the only one allowed.
    struct Scene {
        edge: Edge,
        census: Arc<Census>,
        ring: Ring,
        now: Now,
        conn: ConnId,
        peer: TcpStream,
    }

    fn ring() -> Ring {
        let (entries, multishot) = (64, true);
        Ring::new(RingOptions { entries, multishot, buffers: 8, buffer_size: 4096 }).unwrap()
    }

    impl Scene {
        fn new() -> Scene {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, address) = listener.accept().unwrap();
            let census = Arc::new(Census::new(0, 1));
            let options = FrontOptions::default();
            let mut edge = Edge::new(options, Arc::clone(&census), Vec::new(), false);
            let (mut ring, now) = (ring(), cpu::now());
            let conn = edge.adopt(now, &mut ring, socket.into(), address).unwrap().unwrap();
            Scene { edge, census, ring, now, conn, peer }
        }

        /// Handles what the kernel completes until `is_done`.
        fn run(&mut self, is_done: impl Fn(&Edge) -> bool) {
            for _ in 0..1000 {
                if is_done(&self.edge) {
                    return;
                }
                self.ring.submit_and_wait(Some(Duration::from_millis(50))).unwrap();
                while let Some(completion) = self.ring.next_completion() {
                    let (edge, ring, now) = (&mut self.edge, &mut self.ring, self.now);
                    match completion {
                        Completion::Received { token, result, more } => {
                            edge.received(now, ring, token, result, more, &mut Deaf).unwrap()
                        }
                        Completion::Sent { token, buf, result } => {
                            edge.sent(now, ring, token, buf, result, &mut Deaf).unwrap()
                        }
                        other => panic!("unexpected {other:?}"),
                    };
                }
            }
            panic!("the kernel does not complete what it should");
        }

        fn assert_buried(&self) {
            assert!(self.edge.front.is_empty());
            assert!(self.edge.sockets.iter().all(Option::is_none));
            let ip = self.peer.local_addr().unwrap().ip();
            assert_eq!(self.census.enter(ip), Ok(()), "its place is taken");
        }
    }

    #[test]
    fn a_closed_connection_whose_peer_never_reads_is_buried() {
        let mut scene = Scene::new();
        // More than both sockets' buffers hold.
        scene.edge.queue(scene.conn, &vec![7; 48 << 20]);
        scene.edge.send_ready(&mut scene.ring).unwrap();
        let mut gone = Vec::new();
        scene.edge.close(scene.now, scene.conn, true);
        scene.now.mono = scene.now.mono + CLOSE_LIMIT / 2;
        scene.edge.sweep(scene.now, &mut gone);
        assert!(!scene.edge.is_flushed(), "it has its time to read");
        scene.now.mono = scene.now.mono + CLOSE_LIMIT / 2;
        scene.edge.sweep(scene.now, &mut gone);
        scene.run(|edge| edge.front.is_empty());
        scene.assert_buried();
        assert_eq!(gone, [], "the replica closed it itself");
    }

    #[test]
    fn a_closed_connection_whose_peer_never_closes_is_buried() {
        let mut scene = Scene::new();
        scene.edge.queue(scene.conn, b"bye");
        scene.edge.send_ready(&mut scene.ring).unwrap();
        scene.edge.close(scene.now, scene.conn, true);
        scene.run(Edge::is_flushed);
        assert!(!scene.edge.front.is_empty(), "the peer may still read");
        scene.now.mono = scene.now.mono + LINGER;
        scene.edge.sweep(scene.now, &mut Vec::new());
        scene.run(|edge| edge.front.is_empty());
        scene.assert_buried();
    }

    #[test]
    fn a_server_that_was_held_up_reads_before_it_ends_idle_connections() {
        for is_silent in [false, true] {
            let mut scene = Scene::new();
            let mut gone = Vec::new();
            for _ in 0..2 {
                scene.edge.sweep(scene.now, &mut gone);
                scene.now.mono = scene.now.mono + SWEEP_PAUSE;
            }
            scene.now.mono = scene.now.mono + Duration::from_secs(3600);
            if !is_silent {
                scene.peer.write_all(&[0, 0, 0, 1, 7]).unwrap();
            }
            scene.edge.sweep(scene.now, &mut gone);
            assert_eq!(gone, [], "nothing was read yet");
            if !is_silent {
                let now = scene.now.mono;
                scene.run(|edge| {
                    let mut idle = Vec::new();
                    edge.front.idle(now, &mut idle);
                    idle.is_empty()
                });
            }
            scene.now.mono = scene.now.mono + SWEEP_PAUSE;
            scene.edge.sweep(scene.now, &mut gone);
            assert_eq!(gone.is_empty(), !is_silent);
        }
    }

    #[test]
    fn a_dying_connection_is_buried_whatever_completes_last() {
        // ENOBUFS, ECANCELED, ECONNRESET.
        for errno in [105, 125, 104] {
            let mut scene = Scene::new();
            scene.edge.close(scene.now, scene.conn, false);
            assert!(!scene.edge.front.is_empty(), "the kernel still receives for it");
            let token = TOKEN_RECV | scene.conn.0 & !KIND;
            let last = Err(io::Error::from_raw_os_error(errno));
            let (now, ring) = (scene.now, &mut scene.ring);
            let gone = scene.edge.received(now, ring, token, last, false, &mut Deaf).unwrap();
            assert_eq!(gone, Gone::No);
            scene.assert_buried();
        }
    }

    #[test]
    fn short_sends_go_on_where_they_ended() {
        let mut scene = Scene::new();
        let first: Vec<u8> = (0..200).collect();
        let token = TOKEN_SEND | scene.conn.0 & !KIND;
        // A ring that is never submitted sends nothing; the test plays the kernel's part.
        let mut idle = ring();
        scene.edge.queue(scene.conn, &first);
        scene.edge.send_ready(&mut idle).unwrap();
        scene.edge.queue(scene.conn, b"second");
        for (sent, is_last) in [(10, false), (20, true)] {
            let ring = if is_last { &mut scene.ring } else { &mut idle };
            let (now, buf) = (scene.now, first.clone());
            let gone = scene.edge.sent(now, ring, token, buf, Ok(sent), &mut Deaf).unwrap();
            assert_eq!(gone, Gone::No);
            assert!(!scene.edge.is_flushed());
        }
        // From here on it is the kernel itself.
        scene.run(Edge::is_flushed);
        let mut taken = vec![0; 170 + 6];
        scene.peer.read_exact(&mut taken).unwrap();
        assert_eq!(taken, [&first[30..], b"second"].concat());
    }

    #[test]
    fn a_send_that_takes_nothing_ends_the_connection() {
        let mut scene = Scene::new();
        let token = TOKEN_SEND | scene.conn.0 & !KIND;
        let mut idle = ring();
        scene.edge.queue(scene.conn, b"reply");
        scene.edge.send_ready(&mut idle).unwrap();
        let (now, buf) = (scene.now, b"reply".to_vec());
        let gone = scene.edge.sent(now, &mut scene.ring, token, buf, Ok(0), &mut Deaf).unwrap();
        assert_eq!(gone, Gone::Yes(scene.conn));
        scene.run(|edge| edge.front.is_empty());
        scene.assert_buried();
    }

    #[test]
    fn every_accept_that_failed_is_armed_again() {
        let listeners: Vec<_> =
            (0..2).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let listeners = listeners.into_iter().map(Into::into).collect();
        let census = Arc::new(Census::new(0, 0));
        let mut edge = Edge::new(FrontOptions::default(), census, listeners, false);
        let (mut ring, now) = (ring(), cpu::now());
        edge.rearm_accept_later(now, TOKEN_ACCEPT);
        edge.rearm_accept_later(now, TOKEN_ACCEPT | 1);
        let later = Now { mono: now.mono + 2 * ACCEPT_PAUSE, ..now };
        assert!(edge.deadline().unwrap() <= later.mono);
        edge.rearm_due(later, &mut ring).unwrap();
        let _peers: Vec<_> = addresses.iter().map(|at| TcpStream::connect(at).unwrap()).collect();
        let mut accepted = [false; 2];
        for _ in 0..1000 {
            ring.submit_and_wait(Some(Duration::from_millis(50))).unwrap();
            while let Some(completion) = ring.next_completion() {
                if let Completion::Accepted { token, result, .. } = completion {
                    drop(net::adopt(result.unwrap()));
                    accepted[(token & !KIND) as usize] = true;
                }
            }
            if accepted == [true; 2] {
                return;
            }
        }
        panic!("accepted: {accepted:?}");
    }
}
