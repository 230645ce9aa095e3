//! The sockets of one front: turns completions into front input and front output into operations.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{ConnId, Instant, Now, Ration, Slots, invariant};
use crate::front::{Front, FrontOptions, FrontSink, Offence, Queued, Sent, Verdict};

use super::port::{Direction, Io, Received};

/// Pause before accepting again after a failure.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at the connections' timers.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// How long a peer may take to receive what was queued before its connection is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How long a closed connection's peer may take to read what is left.
const LINGER: Duration = Duration::from_secs(2);

/// Spent output buffers that are kept for the next sends, and the largest that is.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Output buffers of more bytes are worth giving back to the system when they are sent, once, when
/// no more of them have come for a while.
const LARGE_BYTES: usize = 1 << 20;
const GIVE_BACK_AFTER: Duration = Duration::from_millis(500);

/// Where a socket is in its life. No stage leads back, see [`Socket::enter`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Serves its peer. Only an end in this stage is news to the replica.
    Open,
    /// This side closes; by then the peer must have taken what is left.
    Flushing { by: Instant },
    /// Everything is sent, and the peer is told so; until then it may read that and close.
    Lingering { until: Instant },
    /// Both directions are shut down; waiting for the last completions.
    Dying,
}

/// The receive of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Receive<R> {
    /// None is under way.
    Not,
    Running(R),
    /// It was cancelled; its last completion is still to come.
    Ending,
}

/// Whether a send is under way, and whether input is to be received, knows [`Front`].
///
/// Invariant: it stays in its slot until its last completion has arrived, so that a completion
/// always finds the connection it was begun for.
#[derive(Debug)]
struct Socket<I: Io> {
    conn: ConnId,
    socket: I::Socket,
    stage: Stage,
    receive: Receive<I::Receive>,
    /// Bytes of the buffer being sent that the socket has taken.
    sent: usize,
    /// Bytes of the buffers before it.
    sent_before: u64,
    /// The peer sends no more, but an answer is still owed to it.
    input_ended: bool,
}

impl<I: Io> Socket<I> {
    /// The only way into another stage.
    fn enter(&mut self, next: Stage) {
        let is_legal = match (self.stage, next) {
            (Stage::Open, Stage::Flushing { .. }) => true,
            (Stage::Flushing { .. }, Stage::Lingering { .. }) => true,
            (from, Stage::Dying) => from != Stage::Dying,
            _ => false,
        };
        invariant!(is_legal, "{:?} cannot become {next:?} after {:?}", self.conn, self.stage);
        self.stage = next;
    }
}

/// The sockets of one front. Where a method returns a connection, that connection has ended from
/// the other side, and the replica must be told.
#[derive(Debug)]
pub struct Edge<I: Io> {
    /// Framing and queues.
    pub front: Front,
    sockets: Slots<Socket<I>>,
    /// Connections with output to begin sending.
    ready: Vec<ConnId>,
    spare: Vec<Vec<u8>>,
    next_sweep: Instant,
    /// The last sweep left idle connections to the next one.
    postponed: bool,
    idle: Vec<ConnId>,
    /// When a large buffer was freed last, until that memory is given back.
    large_freed: Option<Instant>,
    accepting: bool,
    refusals: Ration,
    /// Connections that sent something else than frames, by what it seems to be.
    offenders: [Ration; Offence::COUNT],
    /// Connections that said nothing for too long.
    silent: Ration,
    /// Accepts to begin again later: the process ran out of something.
    accept_later: Vec<(Instant, usize)>,
}

impl<I: Io> Edge<I> {
    /// The edge of front `options.id`.
    pub fn new(options: FrontOptions) -> Edge<I> {
        Edge {
            front: Front::new(options),
            sockets: Slots::default(),
            ready: Vec::new(),
            spare: Vec::new(),
            next_sweep: Instant(0),
            postponed: false,
            idle: Vec::new(),
            large_freed: None,
            accepting: true,
            refusals: Ration::default(),
            offenders: Default::default(),
            silent: Ration::default(),
            accept_later: Vec::new(),
        }
    }

    /// Connections that are open here.
    pub fn connections(&self) -> usize {
        self.front.len()
    }

    /// Stops accepting, which frees the ports at once, and takes no more requests.
    pub fn stop_taking(&mut self, io: &mut I) {
        self.accepting = false;
        self.accept_later.clear();
        self.front.stop_taking();
        io.stop_accepting();
    }

    /// An accept has ended. After a failure it begins again after a while: without descriptors or
    /// memory the next one would fail at once too.
    pub fn accept_ended(
        &mut self,
        now: Now,
        io: &mut I,
        listener: usize,
        has_failed: bool,
    ) -> io::Result<()> {
        if !self.accepting {
            return Ok(());
        }
        if has_failed {
            self.accept_later.push((now.mono + ACCEPT_PAUSE, listener));
            return Ok(());
        }
        io.accept_again(listener)
    }

    /// Begins the accepts again that waited for their time.
    pub fn accept_due(&mut self, now: Now, io: &mut I) -> io::Result<()> {
        while let Some(&(at, listener)) = self.accept_later.first()
            && at <= now.mono
        {
            self.accept_later.remove(0);
            io.accept_again(listener)?;
        }
        Ok(())
    }

    /// The socket of a connection that the replica names. It may be gone: the replica may not have
    /// been told yet.
    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket<I>> {
        self.sockets.get_mut(conn)
    }

    /// The socket of an operation that has gone on, or that was found just now.
    fn known(&mut self, conn: ConnId) -> &mut Socket<I> {
        let found = self.socket(conn);
        invariant!(found.is_some(), "a completion for {conn:?}, which waits for none");
        found.unwrap_or_else(|| unreachable!("just asserted"))
    }

    /// Takes over an accepted socket; `None` if it is refused.
    pub fn adopt(
        &mut self,
        now: Now,
        io: &mut I,
        socket: I::Socket,
        peer: SocketAddr,
    ) -> io::Result<Option<ConnId>> {
        if let Err(too_many) = io.admit(&peer) {
            if let Some(more) = self.refusals.take(now.mono) {
                log::warn!("refusing {peer}: {too_many}{more}");
            }
            io.refuse(socket);
            return Ok(None);
        }
        let conn = self.front.accept(now.mono, peer);
        io.set_up(&socket);
        let receive = Receive::Running(io.receive(&socket, conn, true)?);
        let socket = Socket {
            conn,
            socket,
            stage: Stage::Open,
            receive,
            sent: 0,
            sent_before: 0,
            input_ended: false,
        };
        self.sockets.insert(conn, socket);
        Ok(Some(conn))
    }

    /// A receive went on.
    pub fn received(
        &mut self,
        now: Now,
        io: &mut I,
        conn: ConnId,
        result: Received<I::Bytes>,
        more: bool,
        sink: &mut impl FrontSink,
    ) -> io::Result<Option<ConnId>> {
        let socket = self.known(conn);
        let is_expected = !matches!(socket.receive, Receive::Not);
        invariant!(is_expected, "a receive of {conn:?} goes on that has ended");
        if !more {
            socket.receive = Receive::Not;
        }
        if socket.stage == Stage::Dying {
            if let Received::Bytes(bytes) = result {
                io.release(bytes);
            }
            self.free(conn, io);
            return Ok(None);
        }
        match result {
            Received::Bytes(bytes) => {
                let verdict = self.front.received(now.mono, conn, io.bytes(&bytes), sink);
                io.release(bytes);
                self.act(conn, verdict, io)
            }
            Received::End => Ok(self.input_ended(conn, io)),
            Received::Again => {
                self.receive_again(conn, io)?;
                Ok(None)
            }
            Received::Failed(_) => Ok(self.disconnected(conn, io)),
        }
    }

    fn act(&mut self, conn: ConnId, verdict: Verdict, io: &mut I) -> io::Result<Option<ConnId>> {
        match verdict {
            Verdict::Read => {
                self.receive_again(conn, io)?;
                Ok(None)
            }
            Verdict::Hold => {
                let socket = self.known(conn);
                if let Receive::Running(receive) = socket.receive {
                    socket.receive = Receive::Ending;
                    io.cancel(receive)?;
                }
                Ok(None)
            }
            Verdict::Close(error) => {
                if let Some(more) = self.offenders[error.offence() as usize].take(io.now()) {
                    log::warn!("closing the connection of {}: {error}{more}", self.front.who(conn));
                }
                Ok(self.disconnected(conn, io))
            }
        }
    }

    /// Receives unless a receive is under way, or nothing is to be received.
    fn receive_again(&mut self, conn: ConnId, io: &mut I) -> io::Result<()> {
        let socket = self.known(conn);
        if !matches!(socket.receive, Receive::Not)
            || socket.stage == Stage::Dying
            || socket.input_ended
            || self.front.is_held(conn)
        {
            return Ok(());
        }
        let once = self.front.wants_little(conn);
        let socket = self.known(conn);
        socket.receive = Receive::Running(io.receive(&socket.socket, conn, once)?);
        Ok(())
    }

    /// The peer has ended its side. The sender of a four-letter word wants the answer all the
    /// same; a client's connection is over, as with Apache.
    fn input_ended(&mut self, conn: ConnId, io: &mut I) -> Option<ConnId> {
        let is_owed = self.front.owes_output(conn);
        let socket = self.known(conn);
        if is_owed && matches!(socket.stage, Stage::Open | Stage::Flushing { .. }) {
            socket.input_ended = true;
            return None;
        }
        self.disconnected(conn, io)
    }

    /// The peer is gone or must go.
    fn disconnected(&mut self, conn: ConnId, io: &mut I) -> Option<ConnId> {
        let is_news = match self.known(conn).stage {
            Stage::Open => true,
            Stage::Flushing { .. } | Stage::Lingering { .. } => false,
            // The sweep meets it once more while its last completion is still to come.
            Stage::Dying => return None,
        };
        self.abort(conn, io);
        is_news.then_some(conn)
    }

    /// Ends both directions; the slot is free when the last completion has arrived.
    fn abort(&mut self, conn: ConnId, io: &mut I) {
        let socket = self.known(conn);
        socket.enter(Stage::Dying);
        io.shutdown(&socket.socket, Direction::Both);
        self.front.end(conn);
        self.free(conn, io);
    }

    /// Gives the slot of a dying connection back if nothing is under way any more.
    fn free(&mut self, conn: ConnId, io: &mut I) {
        let is_sending = self.front.is_sending(conn);
        let socket = self.known(conn);
        invariant!(
            socket.stage == Stage::Dying,
            "{conn:?} is freed while it is {:?}",
            socket.stage
        );
        if !is_sending && matches!(socket.receive, Receive::Not) {
            let is_freed = self.sockets.remove(conn).is_some();
            invariant!(is_freed, "the socket of {conn:?} was just there");
            io.leave(&self.front.remove(conn));
        }
    }

    /// The replica wants the connection closed.
    pub fn close(
        &mut self,
        now: Now,
        io: &mut I,
        conn: ConnId,
        after_flush: bool,
    ) -> io::Result<()> {
        // The replica may close a connection whose end it has not been told of yet.
        let Some(socket) = self.socket(conn) else { return Ok(()) };
        if socket.stage == Stage::Dying {
            return Ok(());
        }
        if !after_flush || self.front.is_over(conn) {
            self.abort(conn, io);
            return Ok(());
        }
        self.known(conn).enter(Stage::Flushing { by: now.mono + CLOSE_LIMIT });
        if self.front.begin_close(conn) {
            self.half_close(now.mono, conn, io);
        }
        // Input that was held back is dropped, and the rest must be taken from the socket: see
        // `half_close`.
        if self.socket(conn).is_some() { self.receive_again(conn, io) } else { Ok(()) }
    }

    /// Everything is sent: say so, and give the peer time to read it. Closing outright would
    /// reset the connection, and lose the reply, if the peer has sent something unread.
    fn half_close(&mut self, now: Instant, conn: ConnId, io: &mut I) {
        let socket = self.known(conn);
        if socket.input_ended {
            return self.abort(conn, io);
        }
        socket.enter(Stage::Lingering { until: now + LINGER });
        io.shutdown(&socket.socket, Direction::Write);
    }

    /// Queues output of a connection.
    pub fn queue(&mut self, io: &mut I, conn: ConnId, bytes: &[u8]) {
        match self.front.queue(conn, bytes) {
            Queued::Ready => self.ready.push(conn),
            Queued::Waiting => {}
            // Ends the operations in flight, which tells the replica; failing that, the sweep.
            Queued::CutOff => io.shutdown(&self.known(conn).socket, Direction::Both),
        }
    }

    /// Begins sending what became ready.
    pub fn send_ready(&mut self, io: &mut I) -> io::Result<()> {
        while let Some(conn) = self.ready.pop() {
            self.send(conn, io)?;
        }
        Ok(())
    }

    fn send(&mut self, conn: ConnId, io: &mut I) -> io::Result<()> {
        let spare = || self.spare.pop().unwrap_or_default();
        // A connection that became ready may have been ended later in the same turn.
        let Some(output) = self.front.take_output(conn, spare) else { return Ok(()) };
        io.send(&self.known(conn).socket, conn, output, 0)
    }

    /// A send ended.
    pub fn sent(
        &mut self,
        now: Now,
        io: &mut I,
        conn: ConnId,
        buf: Vec<u8>,
        sent: usize,
        sink: &mut impl FrontSink,
    ) -> io::Result<Option<ConnId>> {
        invariant!(self.front.is_sending(conn), "a send of {conn:?} ends that never began");
        let socket = self.known(conn);
        socket.sent += sent;
        let is_complete = socket.sent == buf.len();
        let is_dying = socket.stage == Stage::Dying;
        if !is_complete && sent > 0 && !is_dying {
            // Kernels before 5.19 do not go on by themselves when a socket's buffer is full.
            io.send(&socket.socket, conn, buf, socket.sent)?;
            return Ok(None);
        }
        socket.sent_before += socket.sent as u64;
        socket.sent = 0;
        self.reuse(now.mono, buf);
        let next = self.front.sent(conn);
        if is_dying {
            self.free(conn, io);
            return Ok(None);
        }
        if !is_complete {
            return Ok(self.disconnected(conn, io));
        }
        match next {
            Sent::Nothing => Ok(None),
            Sent::More => self.send(conn, io).map(|()| None),
            Sent::Flushed => {
                self.half_close(now.mono, conn, io);
                Ok(None)
            }
            Sent::Drained => {
                sink.drained(conn);
                self.unclog(conn, io, sink)
            }
            Sent::Unclogged => self.resume(conn, io, sink),
        }
    }

    /// Keeps a buffer for the next send, or frees it.
    fn reuse(&mut self, now: Instant, mut buf: Vec<u8>) {
        buf.clear();
        if buf.capacity() > LARGE_BYTES {
            self.large_freed = Some(now);
        }
        if buf.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARES_MAX {
            self.spare.push(buf);
        }
    }

    /// Takes requests again from a connection that only waited for its output to be sent.
    fn unclog(
        &mut self,
        conn: ConnId,
        io: &mut I,
        sink: &mut impl FrontSink,
    ) -> io::Result<Option<ConnId>> {
        if self.front.is_clogged(conn) { self.resume(conn, io, sink) } else { Ok(None) }
    }

    /// Takes requests from a connection again.
    pub fn resume(
        &mut self,
        conn: ConnId,
        io: &mut I,
        sink: &mut impl FrontSink,
    ) -> io::Result<Option<ConnId>> {
        // The replica may not have been told yet that it is gone.
        if self.socket(conn).is_none() {
            return Ok(None);
        }
        let verdict = self.front.resume(conn, sink);
        self.act(conn, verdict, io)
    }

    /// Once a second: connections idle for too long, and peers that do not close. `gone` gets
    /// the connections that the replica must be told of.
    ///
    /// A sweep that comes late tells of a server that was held up (paused, or waiting for its
    /// disk), and so was the input in its sockets and queues: that is taken first.
    pub fn sweep(
        &mut self,
        now: Now,
        io: &mut I,
        gone: &mut Vec<ConnId>,
        sink: &mut impl FrontSink,
    ) {
        if now.mono < self.next_sweep {
            return;
        }
        let is_late = now.mono.since(self.next_sweep) > SWEEP_PAUSE;
        self.postponed = is_late && !self.postponed;
        self.next_sweep = now.mono + SWEEP_PAUSE;
        self.look_at_slow(now, io, gone, sink);
        self.front.cut_off_slow(now.mono, is_late);
        if !self.postponed {
            self.end_idle(now, io, gone);
        }
        self.end_late(now, io);
        if self.large_freed.is_some_and(|at| now.mono.since(at) >= GIVE_BACK_AFTER) {
            self.large_freed = None;
            io.give_back_memory();
        }
    }

    /// Looks at the connections that show no other sign of life than taking their output, and at
    /// those with much to take: bytes that the kernel has and the peer has not do not count.
    fn look_at_slow(
        &mut self,
        now: Now,
        io: &mut I,
        gone: &mut Vec<ConnId>,
        sink: &mut impl FrontSink,
    ) {
        for slot in 0..self.sockets.slots() {
            // A free slot.
            let Some(socket) = self.sockets.at(slot) else { continue };
            let conn = socket.conn;
            if socket.stage == Stage::Dying || !self.front.wants_progress(conn) {
                continue;
            }
            let unconfirmed = io.unconfirmed(&socket.socket) as u64;
            let taken = (socket.sent_before + socket.sent as u64).saturating_sub(unconfirmed);
            // One that is not read from could be gone without anybody noticing.
            if self.front.is_held(conn) && io.is_hung_up(&socket.socket) {
                gone.extend(self.disconnected(conn, io));
            } else if self.front.took(now.mono, conn, taken) {
                sink.heard(conn);
            }
        }
    }

    fn end_idle(&mut self, now: Now, io: &mut I, gone: &mut Vec<ConnId>) {
        let mut idle = std::mem::take(&mut self.idle);
        idle.clear();
        self.front.idle(now.mono, &mut idle);
        for conn in idle.drain(..) {
            if !self.front.is_over(conn)
                && let Some(more) = self.silent.take(now.mono)
            {
                let who = self.front.who(conn);
                log::info!(
                    "closing the connection of {who}: nothing came from it for too long{more}"
                );
            }
            gone.extend(self.disconnected(conn, io));
        }
        self.idle = idle;
    }

    fn end_late(&mut self, now: Now, io: &mut I) {
        let is_late = |socket: &&Socket<I>| match socket.stage {
            Stage::Flushing { by: limit } | Stage::Lingering { until: limit } => limit <= now.mono,
            Stage::Open | Stage::Dying => false,
        };
        let sockets = self.sockets.iter();
        let late: Vec<ConnId> = sockets.filter(is_late).map(|socket| socket.conn).collect();
        for conn in late {
            self.abort(conn, io);
        }
    }

    /// When [`Edge::sweep`] or [`Edge::accept_due`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let later = self.accept_later.first().map(|(at, _)| *at);
        let sweeps = !self.front.is_empty() || self.large_freed.is_some();
        let sweep = sweeps.then_some(self.next_sweep);
        [later, sweep].into_iter().flatten().min()
    }

    /// Checks what must always hold between a socket and its connection.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&mut self) {
        for slot in 0..self.sockets.slots() {
            // A free slot.
            let Some(socket) = self.sockets.at(slot) else { continue };
            let (conn, stage) = (socket.conn, socket.stage);
            let is_idle = matches!(socket.receive, Receive::Not);
            let may_idle = socket.input_ended || self.front.is_held(conn);
            let is_sending = self.front.is_sending(conn);
            let (is_closing, is_over) = (self.front.is_closing(conn), self.front.is_over(conn));
            match stage {
                Stage::Open => {
                    assert!(!is_closing, "{conn:?} closes without a limit");
                    assert!(!is_idle || may_idle, "nothing is received from {conn:?}");
                }
                Stage::Flushing { .. } => assert!(is_closing && is_sending, "{conn:?} lingers"),
                Stage::Lingering { .. } => assert!(is_closing && !is_sending, "{conn:?} flushes"),
                Stage::Dying => assert!(is_over, "{conn:?} is dying, and its connection lives on"),
            }
        }
    }

    /// Whether every connection's output has been given to its socket.
    pub fn is_flushed(&self) -> bool {
        self.ready.is_empty() && self.front.is_flushed()
    }
}
