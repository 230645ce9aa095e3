//! Client connections as the replica sees them: session, identities, and the work still to do.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::auth::{Identities, SaslSession};
use crate::base::{ConnId, Instant, Now, SessionId, Slots, Xid, Zxid, invariant};
use crate::session::SessionSlot;
use crate::wire::{OpCode, begin_frame, end_frame};

use super::long::LongRead;

/// How much may wait for a connection's own writes before its next frames are kept unread. All of
/// it may have to be answered in one turn, see `Replica::answer_earlier`.
pub const DEFERRED_MAX: usize = 128;

/// What keeping a frame takes besides its bytes.
pub(super) const FRAME_OVERHEAD: usize = 32;

/// Bytes that may wait for a new connection before it is paused. Each byte of its requests that was
/// handled makes it one more: a client that leaves before anything is answered does not fill the
/// memory, nor keep the server busy with copying.
const NEW_WAITING_BYTES: usize = 16 << 10;

/// Bytes of read replies that may be made for one connection and not sent yet: beyond, nothing is
/// done for it. Half of them on, it is asked whether they are sent, so that the limit is not met
/// where they go as they come.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Counters of one connection, shown by `cons` and `stat`.
#[derive(Clone, Copy, Debug)]
pub struct ConnStats {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Last operation that was answered; `None` after a reset or a failed write.
    pub last_op: Option<OpCode>,
    /// Xid of the last request with one; 0 before the first, -1 after a reset.
    pub last_cxid: i64,
    /// Zxid of the last reply; 0 before the first, -1 after a reset.
    pub last_zxid: i64,
    /// When the last reply was made.
    pub last_response: Instant,
    /// Milliseconds that the last request took.
    pub last_latency_ms: u64,
    /// Least milliseconds that a request took.
    pub min_latency_ms: u64,
    /// Most milliseconds that a request took.
    pub max_latency_ms: u64,
    /// Milliseconds that all requests took together.
    pub total_latency_ms: u64,
    /// Number of requests answered.
    pub count: u64,
}

impl Default for ConnStats {
    fn default() -> ConnStats {
        ConnStats {
            received: 0,
            sent: 0,
            last_op: None,
            last_cxid: 0,
            last_zxid: 0,
            last_response: Instant(0),
            last_latency_ms: 0,
            min_latency_ms: u64::MAX,
            max_latency_ms: 0,
            total_latency_ms: 0,
            count: 0,
        }
    }
}

impl ConnStats {
    /// `crst`. Not quite as in the beginning, see the fields.
    pub fn reset(&mut self) {
        *self = ConnStats { last_cxid: -1, last_zxid: -1, ..ConnStats::default() };
    }

    /// Counts one answered request.
    #[inline]
    pub fn answered(&mut self, op: OpCode, latency_ms: u64, now: Instant, zxid: i64) {
        self.last_op = Some(op);
        self.last_zxid = zxid;
        self.last_response = now;
        self.last_latency_ms = latency_ms;
        self.min_latency_ms = self.min_latency_ms.min(latency_ms);
        self.max_latency_ms = self.max_latency_ms.max(latency_ms);
        self.total_latency_ms += latency_ms;
        self.count += 1;
    }
}

/// How far a client has got. No stage leads back, see [`Client::enter`]. A connection that is
/// closed from this side, or has ended from the other, is removed at once and has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It has no session yet: its ConnectRequest has not come, or asks for a session of which only
    /// the leader knows whether it lives.
    New,
    /// Its session is being created and its ConnectRequest not answered. Requests are taken.
    Connecting,
    /// Its ConnectRequest is answered, and requests are served.
    Active,
    /// Its end was asked for: what it sends is ignored, and what it asked for before is answered.
    Closing,
}

/// Whether a client takes its replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drain {
    /// Few bytes can be on their way to it.
    Unasked,
    /// The front was asked to say when all has been sent.
    Asked,
    /// The same, and so much is on its way that nothing more is done for it until then.
    Choked,
}

/// Work that must wait for the connection's own writes before it.
#[derive(Debug)]
pub enum Deferred {
    /// A request to execute then, as the identities it was read under. Its frame, without the
    /// length, is the next of [`Client::frames`].
    Request {
        /// What it asks for.
        op: OpCode,
        /// Its number.
        xid: Xid,
        /// Bytes of the frame.
        len: u32,
        /// When it arrived.
        received: Instant,
        /// Identities at the time of reading, if they are not the connection's.
        identities: Option<Identities>,
        /// It takes long, see [`Client::heavy`].
        is_heavy: bool,
    },
    /// Anything else that must keep its place.
    Ready(Ready),
}

/// What a client is to get in its place, and no work has to be done for.
#[derive(Debug)]
pub enum Ready {
    /// A reply.
    Reply(Box<[u8]>),
    /// The refusal of a request that waited too long.
    Throttled(Xid),
    /// The end of the connection.
    Close,
}

impl Ready {
    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let reply = match self {
            Ready::Reply(reply) => reply.len(),
            Ready::Throttled(_) | Ready::Close => 0,
        };
        reply + 2 * size_of::<Deferred>()
    }
}

impl Deferred {
    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Deferred::Request { len, .. } => *len as usize + 2 * size_of::<Deferred>(),
            Deferred::Ready(ready) => ready.size(),
        }
    }

    /// Whether it is a read that takes long.
    pub fn is_heavy(&self) -> bool {
        matches!(self, Deferred::Request { is_heavy: true, .. })
    }

    /// Length of the request; 0 for anything else.
    pub fn request_len(&self) -> usize {
        match self {
            Deferred::Request { len, .. } => *len as usize,
            Deferred::Ready(_) => 0,
        }
    }
}

/// A client's question that the leader of the ensemble has to answer. Until then nothing that the
/// client sends later is looked at.
#[derive(Debug)]
pub enum Asked {
    /// Whether the session lives that the client wants to go on with. It stays in [`Stage::New`].
    Session {
        /// Its ConnectRequest, without the length.
        frame: Box<[u8]>,
    },
    /// That this server is up to date (`sync`).
    Sync {
        /// Its number.
        xid: Xid,
        /// The request, without the length.
        frame: Box<[u8]>,
        /// When it came.
        received: Instant,
    },
}

/// Frames in one piece of memory, first in, first out. The memory serves again once it is empty.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the first one begins.
    at: usize,
}

impl Frames {
    /// Bytes of memory that an empty one keeps: ten thousand idle connections have one each.
    const KEPT_MAX: usize = 4096;

    /// Adds a frame after the others.
    pub fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Takes the first frame, which has `len` bytes.
    pub fn pop(&mut self, len: usize) -> &[u8] {
        let begin = self.at;
        self.at += len;
        &self.bytes[begin..self.at]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The bytes of all frames that were not taken.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Forgets what was taken once it is at least half of all, so that each byte moves but once.
    pub fn tidy(&mut self) {
        if self.at * 2 >= self.bytes.len() {
            self.bytes.drain(..self.at);
            self.at = 0;
            if self.bytes.is_empty() {
                self.bytes.shrink_to(Frames::KEPT_MAX);
            }
        }
    }
}

/// One client connection. Only `stage` says how far it has got. The other marks say what holds it
/// up for a while, and are independent of each other: `drain` replies that it has not taken,
/// `awaits` a word of the leader, `long` and `heavy` a read, `queued` its turn, `paused` the
/// server's load.
#[derive(Debug)]
pub struct Client {
    /// Its id, generation included.
    pub conn: ConnId,
    /// The other end.
    pub peer: SocketAddr,
    /// How far it has got.
    stage: Stage,
    /// Its session; 0 in [`Stage::New`].
    pub session: SessionId,
    /// Where the session is in the leader's table; `None` on a server that does not lead.
    pub slot: Option<SessionSlot>,
    /// Negotiated timeout in ms.
    pub timeout_ms: i32,
    /// The client sent the readOnly byte, so it gets one back.
    pub wants_read_only: bool,
    /// The identities that its requests are judged by.
    pub identities: Identities,
    /// SASL negotiation under way.
    pub sasl: Option<Box<SaslSession>>,
    /// Writes prepared for it.
    pub writes_prepared: u64,
    /// Writes applied for it. Invariant: `writes_applied <= writes_prepared`.
    pub writes_applied: u64,
    /// Work and replies that wait, each with the number of writes that must be applied first.
    pub deferred: VecDeque<(u64, Deferred)>,
    /// Frames of the requests in `deferred`.
    pub frames: Frames,
    /// Bytes of all that waits (deferred, in line, held), about.
    pub waiting_bytes: usize,
    /// Bytes of its frames that were handled, lengths included.
    pub handled_bytes: usize,
    /// Requests that wait for room in the pipeline.
    pub in_line: u64,
    /// Bytes of read replies made for it since all was known to be sent.
    pub unsent_bytes: usize,
    /// The part of these bytes made since its last write was applied, which leaves before its next
    /// one is.
    pub owed_bytes: usize,
    /// Whether it takes its replies.
    drain: Drain,
    /// Reads that take long among `deferred`: at most one, because the connection's next write,
    /// and with it everybody else's, must not be applied before them.
    pub heavy: u32,
    /// Whole frames, lengths included, that came while it was blocked or had no credit.
    pub held: Frames,
    /// Number of frames in `held`.
    pub held_count: u64,
    /// Nanoseconds of work that it may still cause, see [`super::fair`]; below zero it is in debt.
    pub credit: i64,
    /// The turn that it got credit for last.
    pub credit_turn: u64,
    /// It stands in the queue of those that could go on.
    pub queued: bool,
    /// Requests that came alone, with nothing before them unanswered, since the last that did not.
    pub lone_streak: u8,
    /// A read that has begun and is not through; nothing that came later is done before.
    pub long: Option<Box<LongRead>>,
    /// The turn in which it was told of an event last.
    pub told_turn: u64,
    /// Its question that the leader of the ensemble has to answer.
    pub awaits: Option<Asked>,
    /// The leader's question by which its session was noted as used last, see `super::learner`.
    pub touched_in: u64,
    /// The last transaction that was known when its session was established here.
    pub since: Zxid,
    /// Bytes of its transactions that are not applied.
    pub in_flight_bytes: usize,
    /// Asked to pause.
    pub paused: bool,
    /// When it connected, wall clock in ms.
    pub established_ms: i64,
    /// Counters.
    pub stats: ConnStats,
}

impl Client {
    /// A connection from `peer` of which nothing has been seen yet.
    pub fn new(now: Now, conn: ConnId, peer: SocketAddr, identities: Identities) -> Client {
        Client {
            conn,
            peer,
            stage: Stage::New,
            session: SessionId(0),
            slot: None,
            timeout_ms: 0,
            wants_read_only: false,
            identities,
            sasl: None,
            writes_prepared: 0,
            writes_applied: 0,
            deferred: VecDeque::new(),
            frames: Frames::default(),
            waiting_bytes: 0,
            handled_bytes: 0,
            in_line: 0,
            unsent_bytes: 0,
            owed_bytes: 0,
            drain: Drain::Unasked,
            heavy: 0,
            held: Frames::default(),
            held_count: 0,
            credit: 0,
            credit_turn: 0,
            queued: false,
            lone_streak: 0,
            long: None,
            told_turn: 0,
            awaits: None,
            touched_in: 0,
            since: Zxid::ZERO,
            in_flight_bytes: 0,
            paused: false,
            established_ms: now.wall_ms,
            stats: ConnStats::default(),
        }
    }

    /// How far it has got.
    #[inline]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The only way into another stage.
    fn enter(&mut self, next: Stage) {
        let from = self.stage;
        let is_legal = match next {
            Stage::New => false,
            Stage::Connecting => from == Stage::New,
            Stage::Active => from == Stage::Connecting,
            Stage::Closing => matches!(from, Stage::Connecting | Stage::Active),
        };
        invariant!(is_legal, "{:?} cannot become {next:?} after {from:?}", self.conn);
        self.stage = next;
    }

    /// It speaks for `session` from now on; `slot` is the session's place in the leader's table.
    pub fn begin_session(&mut self, session: SessionId, slot: Option<SessionSlot>) {
        invariant!(self.awaits.is_none(), "{:?} still waits for the leader's word", self.conn);
        self.enter(Stage::Connecting);
        (self.session, self.slot) = (session, slot);
    }

    /// Its ConnectRequest is answered.
    pub fn established(&mut self) {
        // Requests are taken before that: with one of them it may have asked for its end.
        if self.stage != Stage::Closing {
            self.enter(Stage::Active);
        }
    }

    /// What it sends from now on is ignored.
    pub fn end_input(&mut self) {
        // A request that waited in line may ask for the end that a later one has asked for already.
        if self.stage != Stage::Closing {
            self.enter(Stage::Closing);
        }
    }

    /// Whether a read that was deferred has to wait until its replies are taken.
    #[inline]
    pub fn is_choked(&self) -> bool {
        self.drain == Drain::Choked
    }

    /// Whether a request must wait until earlier ones of the connection are finished.
    pub fn must_wait(&self) -> bool {
        self.writes_applied != self.writes_prepared
            || !self.deferred.is_empty()
            || self.long.is_some()
    }

    /// Whether something that came before its next write has not been done, which takes a
    /// connection that was choked, or a read that is done in parts.
    pub fn owes_earlier(&self) -> bool {
        self.long.is_some()
            || self.deferred.front().is_some_and(|(after, _)| *after <= self.writes_applied)
    }

    /// Whether anything waits for its writes.
    pub fn is_owed_more(&self) -> bool {
        !self.deferred.is_empty() || !self.held.is_empty() || self.long.is_some()
    }

    /// From here on it acts as `identities`; what waits was asked for under those before.
    pub fn identify(&mut self, identities: Identities) {
        let before = std::mem::replace(&mut self.identities, identities);
        for (_, deferred) in &mut self.deferred {
            if let Deferred::Request { identities: as_whom @ None, .. } = deferred {
                *as_whom = Some(before.clone());
            }
        }
    }

    /// Whether its next frame has to wait until something of it is answered, applied or sent.
    #[inline]
    pub fn is_blocked(&self, in_flight_max: usize) -> bool {
        self.is_choked()
            || self.awaits.is_some()
            || self.deferred.len() >= DEFERRED_MAX
            || self.heavy > 0
            || self.long.is_some()
            || self.in_flight_bytes >= in_flight_max
    }

    /// Counts reply bytes of a read. A small request can have a large answer, so that the replies
    /// to one receive buffer of requests could fill the memory: beyond a limit the rest waits until
    /// the connection has taken those that there are. However short turns are, the limit is the
    /// same. Returns whether it is to be asked when all has been sent.
    #[inline]
    pub fn is_choked_by(&mut self, bytes: usize) -> bool {
        self.unsent_bytes += bytes;
        self.owed_bytes += bytes;
        if self.unsent_bytes <= REPLY_BYTES_MAX / 2 {
            return false;
        }
        let is_first = self.drain == Drain::Unasked;
        let is_much = self.unsent_bytes > REPLY_BYTES_MAX;
        self.drain = if is_much { Drain::Choked } else { Drain::Asked };
        is_first
    }

    /// All has been sent.
    pub fn drained(&mut self) {
        (self.unsent_bytes, self.owed_bytes) = (0, 0);
        self.drain = Drain::Unasked;
    }

    /// Requests received and not answered.
    pub fn outstanding(&self) -> u64 {
        self.writes_prepared - self.writes_applied
            + self.deferred.len() as u64
            + u64::from(self.long.is_some() || self.awaits.is_some())
            + self.in_line
            + self.held_count
    }

    /// What it asked, `frame` without the length, is to be looked at again before all that waits.
    pub fn put_back(&mut self, frame: &[u8]) {
        let mut held = Frames::default();
        let start = begin_frame(&mut held.bytes);
        held.push(frame);
        end_frame(&mut held.bytes, start);
        self.waiting_bytes += held.rest().len() + FRAME_OVERHEAD;
        held.push(self.held.rest());
        self.held = held;
        self.held_count += 1;
    }

    /// Whether no more requests should be taken: it has something to wait for while the server is
    /// busy, or more than `bytes_max` bytes wait, or more than is granted to one as new as it is.
    pub fn has_enough(&self, is_busy: bool, bytes_max: usize) -> bool {
        let bytes_max = bytes_max.min(NEW_WAITING_BYTES.saturating_add(self.handled_bytes));
        is_busy && self.outstanding() > 0 || self.waiting_bytes > bytes_max
    }
}

/// Connections by id.
#[derive(Debug, Default)]
pub struct Clients {
    fronts: Vec<Slots<Box<Client>>>,
}

fn front_of(conn: ConnId) -> usize {
    (conn.0 >> 56) as usize
}

impl Clients {
    /// The connection, unless it is gone or its slot serves another one now.
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&Client> {
        self.fronts.get(front_of(conn))?.get(conn).map(|client| &**client)
    }

    /// As [`Clients::get`].
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.fronts.get_mut(front_of(conn))?.get_mut(conn).map(|client| &mut **client)
    }

    /// A connection that is being worked for, which nothing but the end of that work removes.
    #[inline]
    pub fn known(&mut self, conn: ConnId) -> &mut Client {
        let found = self.get_mut(conn);
        invariant!(found.is_some(), "{conn:?} is gone while it is being worked for");
        found.unwrap_or_else(|| unreachable!("just asserted"))
    }

    /// Adds a connection.
    pub fn insert(&mut self, client: Client) {
        let front = front_of(client.conn);
        if self.fronts.len() <= front {
            self.fronts.resize_with(front + 1, Slots::default);
        }
        self.fronts[front].insert(client.conn, Box::new(client));
    }

    /// Removes a connection.
    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Client>> {
        self.fronts.get_mut(front_of(conn))?.remove(conn)
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.fronts.iter().map(Slots::len).sum()
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.fronts.iter().flat_map(Slots::iter).map(|client| &**client)
    }

    /// All connections, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.fronts.iter_mut().flat_map(Slots::iter_mut).map(|client| &mut **client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Auth, AuthOptions};

    type Step = fn(&mut Client);
    const BEGIN: Step = |client| client.begin_session(SessionId(7), None);
    const ESTABLISHED: Step = Client::established;
    const END: Step = Client::end_input;

    fn client_after(steps: &[Step]) -> Client {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let auth = Auth::new(AuthOptions::default()).unwrap();
        let now = Now { mono: Instant(0), wall_ms: 0 };
        let mut client = Client::new(now, ConnId::new(0, 1), peer, auth.initial(peer.ip()));
        steps.iter().for_each(|step| step(&mut client));
        client
    }

    #[test]
    fn no_stage_leads_back() {
        let can = |before: &[Step], step: Step| {
            let run = std::panic::AssertUnwindSafe(|| step(&mut client_after(before)));
            std::panic::catch_unwind(run).is_ok()
        };
        let after = |before: &[Step]| [BEGIN, ESTABLISHED, END].map(|step| can(before, step));
        assert_eq!(after(&[]), [true, false, false]);
        assert_eq!(after(&[BEGIN]), [false, true, true]);
        assert_eq!(after(&[BEGIN, ESTABLISHED]), [false, false, true]);
        assert_eq!(after(&[BEGIN, ESTABLISHED, END]), [false, true, true]);
    }

    #[test]
    fn an_end_that_was_asked_for_early_stays_when_the_session_is_there() {
        assert_eq!(client_after(&[BEGIN, END, ESTABLISHED]).stage(), Stage::Closing);
    }

    #[test]
    fn a_client_that_does_not_take_its_replies_is_asked_once_and_then_choked() {
        let mut client = client_after(&[BEGIN, ESTABLISHED]);
        let half = REPLY_BYTES_MAX / 2;
        let mut seen = Vec::new();
        for bytes in [half, 1, half - 1, 1, 1] {
            seen.push((client.is_choked_by(bytes), client.is_choked()));
        }
        let (is_asked, is_choked) = (true, true);
        let expected = [
            (false, false),
            (is_asked, false),
            (false, false),
            (false, is_choked),
            (false, is_choked),
        ];
        assert_eq!(seen, expected);
        client.drained();
        assert!(!client.is_choked() && client.is_choked_by(half + 1));
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_leave_nothing_behind() {
        let mut frames = Frames::default();
        let mut lens = VecDeque::new();
        let (mut next_in, mut next_out) = (0u8, 0u8);
        for round in 0..1000 {
            for _ in 0..round % 7 {
                let len = usize::from(next_in) % 50;
                frames.push(&vec![next_in; len]);
                lens.push_back(len);
                next_in = next_in.wrapping_add(1);
            }
            for _ in 0..(round % 5).min(lens.len()) {
                let len = lens.pop_front().unwrap();
                assert_eq!(frames.pop(len), vec![next_out; len]);
                next_out = next_out.wrapping_add(1);
            }
            frames.tidy();
            let waiting: usize = lens.iter().sum();
            assert!(frames.bytes.len() <= 2 * waiting, "{} for {waiting}", frames.bytes.len());
        }
        frames.push(&[1; 100_000]);
        for len in lens {
            frames.pop(len);
        }
        frames.pop(100_000);
        frames.tidy();
        assert!(frames.bytes.capacity() <= Frames::KEPT_MAX);
    }
}
