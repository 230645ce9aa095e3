//! The connections of one network thread.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{ConnId, Instant, SessionId, Slots, invariant};

use super::framing::{First, FrameError, classify, whole_frames};

/// Settings of a front, as plain values.
#[derive(Clone, Copy, Debug)]
pub struct FrontOptions {
    /// Index of this front among the server's; part of its connections' ids.
    pub id: u8,
    /// Whether `stmk` is answered; if not, its argument is not waited for.
    pub takes_mask: bool,
    /// `jute.maxbuffer`: longest frame in bytes.
    pub max_frame: usize,
    /// `nio.sessionlessCnxnTimeout` in ms.
    pub sessionless_timeout_ms: u64,
    /// Output bytes waiting for a slow reader beyond which its requests are not taken.
    pub max_output: usize,
    /// Bytes that it did not ask for, such as notifications, which may be queued while more than
    /// `max_output` waits. A reply is never cut off for its size; with a reply of
    /// 70 MiB waiting, 64 MiB of notifications may follow.
    pub max_excess: usize,
    /// Who has more than `max_output` to read must take this many bytes a second, on average over
    /// its session timeout, or is cut off.
    pub min_rate: u64,
}

/// A connection is new until this many bytes of whole frames have come from it.
const NEW_BYTES: u64 = 32 << 10;

/// Input of a new connection that is read though its requests are not taken: there is always room
/// for pings, which keep its session.
const NEW_INPUT_MAX: usize = 8 << 10;

/// [`FrontOptions::min_rate`] in production: the slowest line that anybody uses is faster, and a
/// reply of 64 MiB is gone in an hour.
pub const MIN_RATE: u64 = 16 << 10;

impl Default for FrontOptions {
    fn default() -> FrontOptions {
        FrontOptions {
            id: 0,
            takes_mask: false,
            max_frame: 0xf_ffff,
            sessionless_timeout_ms: 10_000,
            max_output: 16 << 20,
            max_excess: 64 << 20,
            min_rate: MIN_RATE,
        }
    }
}

/// Where frames and commands go.
pub trait FrontSink {
    /// Whole frames of a connection, lengths included.
    fn frames(&mut self, conn: ConnId, bytes: &[u8]);
    /// Input came that is held back: nothing is handed on, but the client is alive.
    fn heard(&mut self, conn: ConnId);
    /// All output of a connection is sent, see [`Front::await_drain`].
    fn drained(&mut self, conn: ConnId);
    /// A four-letter word with its argument.
    fn word(&mut self, conn: ConnId, word: [u8; 4], argument: &[u8]);
}

/// What to do with a connection after input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on reading.
    Read,
    /// Stop reading until resumed: too much input waits.
    Hold,
    /// Close: the stream cannot be framed.
    Close(FrameError),
}

/// The other end of a connection, as messages name it.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    peer: SocketAddr,
    /// 0: none yet.
    session: SessionId,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.session {
            SessionId(0) => write!(f, "{}", self.peer),
            session => write!(f, "{} ({session:?})", self.peer),
        }
    }
}

/// What passes through a connection. In the order of a life: no stage leads back, see
/// [`Conn::enter`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// Nothing has been handed on yet, so a four-letter word may come.
    New,
    /// Frames were handed on: it is a client.
    Client,
    /// A four-letter word was handed on, and its answer is still to be queued. Input is ignored.
    Asked,
    /// This side closes it. Input is ignored; what is queued leaves, and nothing may be added.
    Closing,
    /// It was cut off, or its socket is shut down: input and output are ignored.
    Over,
}

/// Only `stage` says what passes; `paused` and `clogged` say for how long input of a client waits,
/// and are independent: the first is a wish of the replica, the second follows from the output.
#[derive(Debug)]
struct Conn {
    id: ConnId,
    who: Who,
    stage: Stage,
    /// The replica takes no requests for now.
    paused: bool,
    /// Input was held back because of waiting output, and is to be taken when that is gone.
    clogged: bool,
    /// The replica waits for the output to be sent.
    awaited: bool,
    /// Bytes of whole frames that were handed on.
    handed_on: u64,
    /// Input after the last whole frame, or held back while paused or clogged.
    input: Vec<u8>,
    /// Output not given to the socket yet.
    output: Vec<u8>,
    /// Output bytes given to the socket whose send has not ended; 0 if no send is under way.
    sending: usize,
    /// Output bytes that the peer has taken in all, as of the last look.
    taken: u64,
    /// Output bytes queued while more than `max_output` waited.
    excess: usize,
    /// While more than `max_output` waits: since when its pace is measured, and `taken` then.
    measured: Option<(Instant, u64)>,
    timeout_ms: u64,
    idle_at: Instant,
}

/// The connections of one network thread, by slot.
#[derive(Debug)]
pub struct Front {
    options: FrontOptions,
    conns: Slots<Conn>,
    free: Vec<u32>,
    generation: u32,
    /// Shutting down: input is ignored.
    stopped: bool,
}

impl Front {
    /// A front without connections.
    pub fn new(options: FrontOptions) -> Front {
        Front { options, conns: Slots::default(), free: Vec::new(), generation: 0, stopped: false }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// A connection that the replica names. It may be gone: the replica may not have been told yet.
    fn get(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(conn)
    }

    /// A connection whose socket there is, which stays until [`Front::remove`].
    fn known(&mut self, conn: ConnId) -> &mut Conn {
        let found = self.get(conn);
        invariant!(found.is_some(), "the socket of {conn:?} is there and the connection is not");
        found.unwrap_or_else(|| unreachable!("just asserted"))
    }

    /// A connection arrived and may stay; returns its id.
    pub fn accept(&mut self, now: Instant, peer: SocketAddr) -> ConnId {
        let options = self.options;
        let slot = self.free.pop().unwrap_or(self.conns.slots());
        self.generation = (self.generation + 1) & 0xff_ffff;
        let id = ConnId::new(slot, u32::from(options.id) << 24 | self.generation);
        let found = Conn {
            id,
            who: Who { peer, session: SessionId(0) },
            stage: Stage::New,
            paused: false,
            clogged: false,
            awaited: false,
            handed_on: 0,
            input: Vec::new(),
            output: Vec::new(),
            sending: 0,
            taken: 0,
            excess: 0,
            measured: None,
            timeout_ms: options.sessionless_timeout_ms,
            idle_at: now + Duration::from_millis(options.sessionless_timeout_ms),
        };
        self.conns.insert(id, found);
        id
    }

    /// Input arrived.
    pub fn received(
        &mut self,
        now: Instant,
        conn: ConnId,
        bytes: &[u8],
        sink: &mut impl FrontSink,
    ) -> Verdict {
        let (options, stopped) = (self.options, self.stopped);
        let found = self.known(conn);
        if !found.takes_input() || stopped {
            return Verdict::Read;
        }
        found.idle_at = now + Duration::from_millis(found.timeout_ms);
        if found.paused || found.clogs(&options) {
            found.input.extend_from_slice(bytes);
            sink.heard(conn);
            return found.verdict(&options);
        }
        if !found.input.is_empty() {
            found.input.extend_from_slice(bytes);
            return found.take_input(&options, sink);
        }
        match found.take(bytes, &options, sink) {
            Ok(taken) => {
                found.input.extend_from_slice(&bytes[taken..]);
                Verdict::Read
            }
            Err(error) => Verdict::Close(error),
        }
    }

    /// Takes nothing more from anybody: the server is going down. What is under way is still
    /// answered.
    pub fn stop_taking(&mut self) {
        self.stopped = true;
    }

    /// Requests are not taken until [`Front::resume`].
    pub fn pause(&mut self, conn: ConnId) {
        if let Some(found) = self.get(conn) {
            found.paused = true;
        }
    }

    /// Requests are taken again, those held back first.
    pub fn resume(&mut self, conn: ConnId, sink: &mut impl FrontSink) -> Verdict {
        let (options, stopped) = (self.options, self.stopped);
        let found = self.known(conn);
        found.paused = false;
        if !found.takes_input() || stopped {
            return Verdict::Read;
        }
        if found.clogs(&options) {
            return found.verdict(&options);
        }
        found.clogged = false;
        found.take_input(&options, sink)
    }

    /// The handshake is through: idleness is measured by the session's timeout.
    pub fn established(&mut self, now: Instant, conn: ConnId, session: SessionId, timeout_ms: i32) {
        if let Some(found) = self.get(conn) {
            found.who.session = session;
            found.timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
            found.idle_at = now + Duration::from_millis(found.timeout_ms);
        }
    }

    /// Queues output.
    pub fn queue(&mut self, conn: ConnId, bytes: &[u8]) -> Queued {
        let FrontOptions { max_output, max_excess, .. } = self.options;
        // The replica may not have been told of its end yet.
        let Some(found) = self.get(conn).filter(|found| found.stage != Stage::Over) else {
            return Queued::Waiting;
        };
        invariant!(
            found.stage != Stage::Closing,
            "output of {conn:?} after its close never leaves"
        );
        let waiting = found.waiting();
        if waiting > max_output {
            if found.excess > max_excess {
                found.cut_off(format_args!(
                    "{waiting} bytes wait to be read by it, and more comes than it reads"
                ));
                return Queued::CutOff;
            }
            found.excess += bytes.len();
        }
        found.output.extend_from_slice(bytes);
        if waiting == 0 { Queued::Ready } else { Queued::Waiting }
    }

    /// Takes the queued output for sending, exchanging it for a spare buffer. There is none if the
    /// connection was ended after it had become ready.
    pub fn take_output(
        &mut self,
        conn: ConnId,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Option<Vec<u8>> {
        let found = self.get(conn)?;
        if found.output.is_empty() {
            return None;
        }
        invariant!(found.sending == 0, "a connection is ready while nothing of it is being sent");
        found.sending = found.output.len();
        Some(std::mem::replace(&mut found.output, spare()))
    }

    /// Whether a send is under way.
    pub fn is_sending(&mut self, conn: ConnId) -> bool {
        self.known(conn).sending != 0
    }

    /// Whether no send is under way on any connection.
    pub fn is_flushed(&self) -> bool {
        self.conns.iter().all(|found| found.sending == 0)
    }

    /// The send is over. Returns what to do next.
    pub fn sent(&mut self, conn: ConnId) -> Sent {
        let max_output = self.options.max_output;
        let found = self.known(conn);
        found.excess = found.excess.saturating_sub(found.sending);
        found.sending = 0;
        if found.waiting() <= max_output {
            (found.excess, found.measured) = (0, None);
        }
        if !found.output.is_empty() {
            return Sent::More;
        }
        match found.stage {
            Stage::New | Stage::Client | Stage::Asked => {}
            Stage::Closing => return Sent::Flushed,
            Stage::Over => return Sent::Nothing,
        }
        if std::mem::take(&mut found.awaited) {
            return Sent::Drained;
        }
        if found.clogged && !found.paused { Sent::Unclogged } else { Sent::Nothing }
    }

    /// Whether requests are held back only because output waits.
    pub fn is_clogged(&mut self, conn: ConnId) -> bool {
        let found = self.known(conn);
        found.clogged && !found.paused
    }

    /// Asks for [`Sent::Drained`]; returns whether nothing waits to be sent, so that it is due at
    /// once.
    pub fn await_drain(&mut self, conn: ConnId) -> bool {
        // Who is gone sends nothing more: there is nothing to wait for, and nothing to go on with.
        let Some(found) = self.get(conn) else { return false };
        found.awaited = !found.output.is_empty() || found.sending != 0;
        !found.awaited
    }

    /// This side wants the connection closed; returns whether everything queued has been sent.
    pub fn begin_close(&mut self, conn: ConnId) -> bool {
        let found = self.known(conn);
        found.enter(Stage::Closing);
        found.input = Vec::new();
        found.waiting() == 0
    }

    /// The socket is shut down: what waits goes nowhere any more.
    pub fn end(&mut self, conn: ConnId) {
        let found = self.known(conn);
        // One that was cut off has ended already.
        if found.stage != Stage::Over {
            found.end();
        }
    }

    /// Who a connection is from, for messages.
    pub fn who(&mut self, conn: ConnId) -> Who {
        self.known(conn).who
    }

    /// Whether the peer may end its side and is still owed something: the answer to a four-letter
    /// word, or what leaves before this side closes.
    pub fn owes_output(&mut self, conn: ConnId) -> bool {
        matches!(self.known(conn).stage, Stage::Asked | Stage::Closing)
    }

    /// The socket is gone and its slot free; returns who it was.
    pub fn remove(&mut self, conn: ConnId) -> SocketAddr {
        let found = self.known(conn);
        invariant!(found.stage == Stage::Over, "{conn:?} is forgotten before it has ended");
        let peer = found.who.peer;
        self.conns.remove(conn);
        self.free.push(conn.slot());
        peer
    }

    /// Whether it matters how fast the peer takes its output: nothing is read from it, or much
    /// waits for it.
    pub fn wants_progress(&mut self, conn: ConnId) -> bool {
        let options = self.options;
        let found = self.known(conn);
        found.is_held(&options) || found.waiting() > options.max_output
    }

    /// The peer has taken `taken` bytes of output in all. Returns whether that is the only sign of
    /// life that it can give, because nothing is read from it. A new connection of which nothing is
    /// read counts as alive: what it sends next, be it a ping, stays in its socket until its first
    /// requests are done.
    pub fn took(&mut self, now: Instant, conn: ConnId, taken: u64) -> bool {
        let options = self.options;
        let found = self.known(conn);
        if taken <= found.taken {
            // One that does not take its replies holds itself up.
            let is_read = found.waiting() == 0;
            return is_read && found.paused && found.is_new() && found.is_held(&options);
        }
        found.taken = taken;
        found.idle_at = now + Duration::from_millis(found.timeout_ms);
        found.is_held(&options)
    }

    /// Whether nothing is to be read from the connection, because too much of its input waits.
    pub fn is_held(&mut self, conn: ConnId) -> bool {
        let options = self.options;
        self.known(conn).is_held(&options)
    }

    /// Whether it should be received from in small portions: nobody knows yet whether the client
    /// stays, or its requests are not taken. The system would hand over all that the client has
    /// sent at once, and fill the buffers that others need with it.
    pub fn wants_little(&mut self, conn: ConnId) -> bool {
        let found = self.known(conn);
        found.paused || found.is_new()
    }

    /// Cuts off who has much to read and does not read it. Call about once a second, after
    /// [`Front::took`]; `was_late`: the server was held up, and everybody's pace is measured anew.
    pub fn cut_off_slow(&mut self, now: Instant, was_late: bool) {
        let FrontOptions { max_output, min_rate, .. } = self.options;
        for found in self.conns.iter_mut() {
            if !found.takes_input() || found.waiting() <= max_output {
                continue;
            }
            let (since, had) = match found.measured {
                Some(begun) if !was_late => begun,
                _ => {
                    found.measured = Some((now, found.taken));
                    continue;
                }
            };
            let passed_ms = now.since(since).as_millis() as u64;
            if passed_ms < found.timeout_ms {
                continue;
            }
            let got = found.taken - had;
            if got < min_rate.saturating_mul(passed_ms) / 1000 {
                let waiting = found.waiting();
                found.cut_off(format_args!(
                    "it has {waiting} bytes to read and took {got} of them in {} s",
                    passed_ms / 1000
                ));
            } else {
                found.measured = Some((now, found.taken));
            }
        }
    }

    /// Whether this side closes it and what was queued may still leave.
    pub fn is_closing(&mut self, conn: ConnId) -> bool {
        self.known(conn).stage == Stage::Closing
    }

    /// Whether the connection was cut off, which was said then, or has ended otherwise.
    pub fn is_over(&mut self, conn: ConnId) -> bool {
        self.known(conn).stage == Stage::Over
    }

    /// Connections that have been silent for too long, while they were read from, and those that
    /// were cut off. Call about once a second.
    pub fn idle(&self, now: Instant, out: &mut Vec<ConnId>) {
        let is_due = |found: &&Conn| match found.stage {
            Stage::New | Stage::Client => found.idle_at <= now && !found.is_held(&self.options),
            Stage::Asked | Stage::Closing => false,
            Stage::Over => true,
        };
        out.extend(self.conns.iter().filter(is_due).map(|found| found.id));
    }
}

/// What became of output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// The connection has become ready to send.
    Ready,
    /// It waits until earlier output has left, or the connection is gone.
    Waiting,
    /// The peer does not read: all its output is dropped, and the connection must be ended.
    CutOff,
}

/// What follows a completed send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// More output waits.
    More,
    /// Everything is out and the connection wants to close.
    Flushed,
    /// Everything is out, which [`Front::await_drain`] asked about; otherwise as `Unclogged`.
    Drained,
    /// A slow reader caught up: take the requests held back.
    Unclogged,
}

impl Conn {
    /// The only way into another stage.
    fn enter(&mut self, next: Stage) {
        let from = self.stage;
        let is_legal = match next {
            Stage::New => false,
            Stage::Client | Stage::Asked => from == Stage::New,
            Stage::Closing | Stage::Over => from < next,
        };
        invariant!(is_legal, "{:?} cannot become {next:?} after {from:?}", self.id);
        self.stage = next;
    }

    fn takes_input(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Client)
    }

    /// Whether nothing more is to be read because too much input waits: more than any frame, or
    /// less where a new connection's requests are not taken.
    fn is_held(&self, options: &FrontOptions) -> bool {
        self.input.len() > options.max_frame + 4
            || self.paused && self.is_new() && self.input.len() >= NEW_INPUT_MAX
    }

    fn is_new(&self) -> bool {
        self.handed_on < NEW_BYTES
    }

    /// Whether so much output waits that input must, too; remembers that it does.
    fn clogs(&mut self, options: &FrontOptions) -> bool {
        let clogs = self.waiting() > options.max_output;
        self.clogged |= clogs;
        clogs
    }

    /// Output bytes that the socket has not taken whole.
    fn waiting(&self) -> usize {
        self.output.len() + self.sending
    }

    fn cut_off(&mut self, why: fmt::Arguments<'_>) {
        log::warn!("closing the connection of {}: {why}", self.who);
        self.end();
    }

    fn end(&mut self) {
        self.enter(Stage::Over);
        self.input = Vec::new();
        self.output = Vec::new();
    }

    fn verdict(&self, options: &FrontOptions) -> Verdict {
        if self.is_held(options) { Verdict::Hold } else { Verdict::Read }
    }

    fn take_input(&mut self, options: &FrontOptions, sink: &mut impl FrontSink) -> Verdict {
        let mut input = std::mem::take(&mut self.input);
        match self.take(&input, options, sink) {
            Ok(taken) => {
                if taken == input.len() && input.capacity() > 64 * 1024 {
                    input = Vec::new();
                } else {
                    input.drain(..taken);
                }
                self.input = input;
                self.verdict(options)
            }
            Err(error) => Verdict::Close(error),
        }
    }

    /// Hands on whole frames; returns the number of bytes taken.
    fn take(
        &mut self,
        bytes: &[u8],
        options: &FrontOptions,
        sink: &mut impl FrontSink,
    ) -> Result<usize, FrameError> {
        if self.stage == Stage::New {
            match classify(bytes, options.takes_mask) {
                First::Unknown => return Ok(0),
                First::Word(word, taken) => {
                    self.enter(Stage::Asked);
                    sink.word(self.id, word, &bytes[4..taken]);
                    return Ok(bytes.len());
                }
                First::Frame => {}
            }
        }
        let taken = whole_frames(bytes, options.max_frame)?;
        if taken > 0 {
            if self.stage == Stage::New {
                self.enter(Stage::Client);
            }
            self.handed_on += taken as u64;
            sink.frames(self.id, &bytes[..taken]);
            // What follows whole frames may already be known to be bad.
            whole_frames(&bytes[taken..], options.max_frame)?;
        }
        Ok(taken)
    }
}
