//! The sockets of one front: turns completions into front input and front output into operations.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{ConnId, Instant, Now, Ration};
use crate::front::{Front, FrontOptions, FrontSink, Queued, Sent, Verdict};

use super::port::{Direction, Io, Received};

/// Pause before accepting again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Invariant: it stays in its slot until its last completion has arrived, so that a completion
/// always finds the connection it was begun for.
#[derive(Debug)]
struct Socket<I: Io> {
    conn: ConnId,
    peer: SocketAddr,
    socket: I::Socket,
    receive: Option<I::Receive>,
    sending: bool,
    /// Bytes of the buffer being sent that the socket has taken.
    sent: usize,
    /// Bytes of the buffers before it.
    sent_before: u64,
    /// Sending is over; until then the peer may close.
    lingering: Option<Instant>,
    /// A close was asked for; by then the peer must have taken what is left.
    close_by: Option<Instant>,
    /// The peer sends no more, but an answer is still owed to it.
    input_ended: bool,
    /// Both directions are shut down; waiting for the last completions.
    dying: bool,
    held: bool,
}

/// The sockets of one front. Where a method returns a connection, that connection has ended from
/// the other side, and the replica must be told.
#[derive(Debug)]
pub struct Edge<I: Io> {
    /// Framing and queues.
    pub front: Front,
    sockets: Vec<Option<Socket<I>>>,
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
    /// Connections that sent what is no frame.
    offenders: Ration,
    /// Connections that said nothing for too long.
    silent: Ration,
    /// Accepts to begin again later: the process ran out of something.
    accept_later: Vec<(Instant, usize)>,
}

fn slot_of(conn: ConnId) -> usize {
    conn.slot() as usize
}

impl<I: Io> Edge<I> {
    /// The edge of front `options.id`.
    pub fn new(options: FrontOptions) -> Edge<I> {
        Edge {
            front: Front::new(options),
            sockets: Vec::new(),
            ready: Vec::new(),
            spare: Vec::new(),
            next_sweep: Instant(0),
            postponed: false,
            idle: Vec::new(),
            large_freed: None,
            accepting: true,
            refusals: Ration::default(),
            offenders: Ration::default(),
            silent: Ration::default(),
            accept_later: Vec::new(),
        }
    }

    /// Connections that are open here.
    pub fn connections(&self) -> usize {
        self.sockets.iter().flatten().count()
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

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket<I>> {
        self.sockets.get_mut(slot_of(conn))?.as_mut().filter(|socket| socket.conn == conn)
    }

    /// The socket of an operation that has gone on.
    fn waiting(&mut self, conn: ConnId) -> &mut Socket<I> {
        let found = self.socket(conn);
        assert!(found.is_some(), "a completion for {conn:?}, which waits for none");
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
        let receive = Some(io.receive(&socket, conn)?);
        let slot = slot_of(conn);
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        assert!(self.sockets[slot].is_none(), "the slot of {conn:?} is taken");
        self.sockets[slot] = Some(Socket {
            conn,
            peer,
            socket,
            receive,
            sending: false,
            sent: 0,
            sent_before: 0,
            lingering: None,
            close_by: None,
            input_ended: false,
            dying: false,
            held: false,
        });
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
        let socket = self.waiting(conn);
        assert!(socket.receive.is_some(), "a receive of {conn:?} goes on that has ended");
        if !more {
            socket.receive = None;
        }
        if socket.dying {
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
            Received::Failed => Ok(self.disconnected(conn, io)),
        }
    }

    fn act(&mut self, conn: ConnId, verdict: Verdict, io: &mut I) -> io::Result<Option<ConnId>> {
        match verdict {
            Verdict::Read => {
                if let Some(socket) = self.socket(conn) {
                    socket.held = false;
                }
                self.receive_again(conn, io)?;
                Ok(None)
            }
            Verdict::Hold => {
                if let Some(socket) = self.socket(conn)
                    && !socket.held
                {
                    socket.held = true;
                    if let Some(receive) = socket.receive {
                        io.cancel(receive)?;
                    }
                }
                Ok(None)
            }
            Verdict::Close(error) => {
                if let Some(who) = self.front.who(conn)
                    && let Some(more) = self.offenders.take(io.now())
                {
                    log::warn!("closing the connection of {who}: {error}{more}");
                }
                Ok(self.disconnected(conn, io))
            }
        }
    }

    /// Receives unless a receive is under way, or nothing is to be received.
    fn receive_again(&mut self, conn: ConnId, io: &mut I) -> io::Result<()> {
        if let Some(socket) = self.socket(conn)
            && socket.receive.is_none()
            && !socket.dying
            && !socket.held
        {
            socket.receive = Some(io.receive(&socket.socket, conn)?);
        }
        Ok(())
    }

    /// The peer has ended its side. The sender of a four-letter word wants the answer all the
    /// same; a client's connection is over, as with Apache.
    fn input_ended(&mut self, conn: ConnId, io: &mut I) -> Option<ConnId> {
        let answering = self.front.is_closing(conn);
        match self.socket(conn) {
            Some(socket) if answering && socket.lingering.is_none() && !socket.dying => {
                socket.input_ended = true;
                None
            }
            _ => self.disconnected(conn, io),
        }
    }

    /// The peer is gone or must go.
    fn disconnected(&mut self, conn: ConnId, io: &mut I) -> Option<ConnId> {
        // Two reasons may meet in one turn, a failed send and the end of the stream for example.
        let socket = self.socket(conn)?;
        if socket.dying {
            self.free(conn, io);
            return None;
        }
        let was_ours = socket.lingering.is_some();
        self.abort(conn, io);
        (!was_ours).then_some(conn)
    }

    /// Ends both directions; the slot is free when the last completion has arrived.
    fn abort(&mut self, conn: ConnId, io: &mut I) {
        // The replica may close a connection whose end it has not been told of yet.
        let Some(socket) = self.socket(conn) else { return };
        socket.dying = true;
        io.shutdown(&socket.socket, Direction::Both);
        self.front.begin_close(conn);
        self.free(conn, io);
    }

    /// Gives the slot back if nothing is under way any more.
    fn free(&mut self, conn: ConnId, io: &mut I) {
        let is_over = |socket: &Socket<I>| {
            socket.conn == conn && socket.dying && socket.receive.is_none() && !socket.sending
        };
        let slot = &mut self.sockets[slot_of(conn)];
        if let Some(over) = slot.take_if(|socket| is_over(socket)) {
            io.leave(&over.peer);
            self.front.remove(conn);
        }
    }

    /// The replica wants the connection closed.
    pub fn close(&mut self, now: Now, io: &mut I, conn: ConnId, after_flush: bool) {
        if !after_flush {
            return self.abort(conn, io);
        }
        let flushed = self.front.begin_close(conn);
        if let Some(socket) = self.socket(conn) {
            socket.close_by = Some(now.mono + CLOSE_LIMIT);
        }
        if flushed {
            self.half_close(now.mono, conn, io);
        }
    }

    /// Everything is sent: say so, and give the peer time to read it. Closing outright would
    /// reset the connection, and lose the reply, if the peer has sent something unread.
    fn half_close(&mut self, now: Instant, conn: ConnId, io: &mut I) {
        if self.socket(conn).is_some_and(|socket| socket.input_ended) {
            return self.abort(conn, io);
        }
        if let Some(socket) = self.socket(conn)
            && socket.lingering.is_none()
        {
            socket.lingering = Some(now + LINGER);
            io.shutdown(&socket.socket, Direction::Write);
        }
    }

    /// Queues output of a connection.
    pub fn queue(&mut self, io: &mut I, conn: ConnId, bytes: &[u8]) {
        match self.front.queue(conn, bytes) {
            Queued::Ready => self.ready.push(conn),
            Queued::Waiting => {}
            // Ends the operations in flight, which tells the replica; failing that, the sweep.
            Queued::CutOff => {
                if let Some(socket) = self.socket(conn) {
                    io.shutdown(&socket.socket, Direction::Both);
                }
            }
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
        // A connection that became ready may have been closed later in the same turn.
        if self.socket(conn).is_none_or(|socket| socket.dying) {
            return Ok(());
        }
        let spare = self.spare.pop().unwrap_or_default();
        // A connection that became ready twice is already sending.
        let Some(output) = self.front.take_output(conn, spare) else { return Ok(()) };
        if let Some(socket) = self.socket(conn) {
            socket.sending = true;
            io.send(&socket.socket, conn, output, 0)?;
        }
        Ok(())
    }

    /// A send ended.
    pub fn sent(
        &mut self,
        now: Now,
        io: &mut I,
        conn: ConnId,
        mut buf: Vec<u8>,
        sent: usize,
        sink: &mut impl FrontSink,
    ) -> io::Result<Option<ConnId>> {
        let socket = self.waiting(conn);
        assert!(socket.sending, "a send of {conn:?} ends that never began");
        socket.sent += sent;
        let is_complete = socket.sent == buf.len();
        if !is_complete && sent > 0 && !socket.dying {
            // Kernels before 5.19 do not go on by themselves when a socket's buffer is full.
            io.send(&socket.socket, conn, buf, socket.sent)?;
            return Ok(None);
        }
        socket.sending = false;
        socket.sent_before += socket.sent as u64;
        socket.sent = 0;
        let is_dying = socket.dying;
        buf.clear();
        if buf.capacity() > LARGE_BYTES {
            self.large_freed = Some(now.mono);
        }
        if buf.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARES_MAX {
            self.spare.push(buf);
        }
        if is_dying {
            self.free(conn, io);
            return Ok(None);
        }
        if !is_complete {
            return Ok(self.disconnected(conn, io));
        }
        match self.front.sent(conn) {
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
        for at in 0..self.sockets.len() {
            let Some(socket) = &self.sockets[at] else { continue };
            let conn = socket.conn;
            if socket.dying || !self.front.wants_progress(conn) {
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
            if !self.front.is_cut_off(conn)
                && let Some(who) = self.front.who(conn)
                && let Some(more) = self.silent.take(now.mono)
            {
                log::info!(
                    "closing the connection of {who}: nothing came from it for too long{more}"
                );
            }
            gone.extend(self.disconnected(conn, io));
        }
        self.idle = idle;
    }

    fn end_late(&mut self, now: Now, io: &mut I) {
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

    /// Whether every connection's output has been given to its socket.
    pub fn is_flushed(&self) -> bool {
        self.ready.is_empty() && self.sockets.iter().flatten().all(|socket| !socket.sending)
    }
}
