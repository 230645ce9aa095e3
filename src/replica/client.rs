//! Client connections as the replica sees them: session, identities, what is still owed.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::auth::{Identities, SaslSession};
use crate::base::{ConnId, Instant, SessionId, Xid};
use crate::session::SessionSlot;
use crate::wire::OpCode;

use super::long::LongRead;

/// How much may wait for a connection's own writes before its next frames are kept unread. All of
/// it may have to be answered in one turn, see `Replica::answer_earlier`.
pub const DEFERRED_MAX: usize = 128;

/// What keeping a frame takes besides its bytes.
pub(super) const FRAME_OVERHEAD: usize = 32;

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
    /// Least of them.
    pub min_latency_ms: u64,
    /// Greatest of them.
    pub max_latency_ms: u64,
    /// Their sum.
    pub total_latency_ms: u64,
    /// Their number.
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

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// No ConnectRequest yet.
    New,
    /// The session is being created.
    Connecting,
    /// Requests are served.
    Active,
    /// A close was asked for; further input is ignored.
    Closing,
}

/// Work that must wait for the connection's own writes before it.
#[derive(Debug)]
pub enum Deferred {
    /// A request to execute then, as the identities it was read under. Its frame, without the
    /// length, is the next of [`Client::frames`].
    Request {
        /// Bytes of the frame.
        len: usize,
        /// When it arrived.
        received: Instant,
        /// Identities at the time of reading, if they are not the connection's.
        identities: Option<Identities>,
        /// It takes long, see [`Client::heavy`].
        is_heavy: bool,
    },
    /// A reply that is ready but must keep its place.
    Reply(Box<[u8]>),
    /// The refusal of a request that waited too long.
    Throttled(Xid),
    /// The end of the connection.
    Close,
}

impl Deferred {
    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let extra = match self {
            Deferred::Request { len, .. } => *len,
            Deferred::Reply(reply) => reply.len(),
            Deferred::Throttled(_) | Deferred::Close => 0,
        };
        extra + 2 * size_of::<Deferred>()
    }

    /// Whether it is a read that takes long.
    pub fn is_heavy(&self) -> bool {
        matches!(self, Deferred::Request { is_heavy: true, .. })
    }

    /// Length of the request; 0 for anything else.
    pub fn request_len(&self) -> usize {
        match self {
            Deferred::Request { len, .. } => *len,
            _ => 0,
        }
    }
}

/// What a client waits for that the leader of the ensemble has to say. Nothing that it sends later
/// is looked at before.
#[derive(Debug)]
pub enum Asked {
    /// Whether the session lives that it has brought along.
    Session {
        /// Its ConnectRequest, without the length.
        frame: Box<[u8]>,
    },
    /// That this server is up to date (`sync`).
    Sync {
        /// The request, without the length.
        frame: Box<[u8]>,
        /// When it came.
        received: Instant,
    },
}

/// Frames one behind the other, first in, first out. Its memory serves again once it is empty.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the first one begins.
    at: usize,
}

impl Frames {
    /// What an empty one keeps, in bytes: ten thousand idle connections have one each.
    const KEPT_MAX: usize = 4096;

    /// Adds a frame behind the others.
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

/// One client connection.
#[derive(Debug)]
pub struct Client {
    /// Its id, generation included.
    pub conn: ConnId,
    /// The other end.
    pub peer: SocketAddr,
    /// Where it is in its life.
    pub stage: Stage,
    /// Its session; 0 before the handshake.
    pub session: SessionId,
    /// Where the session is in the table.
    pub slot: Option<SessionSlot>,
    /// Negotiated timeout in ms.
    pub timeout_ms: i32,
    /// The client sent the readOnly byte, so it gets one back.
    pub wants_read_only: bool,
    /// Whom it may act as.
    pub identities: Identities,
    /// SASL negotiation under way.
    pub sasl: Option<Box<SaslSession>>,
    /// Writes prepared for it.
    pub writes_prepared: u64,
    /// Writes applied for it. Invariant: `writes_applied <= writes_prepared`.
    pub writes_applied: u64,
    /// What waits, each with the number of writes that must be applied first.
    pub deferred: VecDeque<(u64, Deferred)>,
    /// Frames of the requests in `deferred`.
    pub frames: Frames,
    /// Bytes of what waits, about.
    pub waiting_bytes: usize,
    /// Requests that wait for room in the pipeline.
    pub in_line: u64,
    /// Bytes of read replies made for it since all was known to be sent.
    pub unsent_bytes: usize,
    /// The same since its last write was applied: what it is owed before its next one.
    pub owed_bytes: usize,
    /// It was asked whether all has been sent.
    pub awaits_drain: bool,
    /// Too much was answered: nothing more is done for it until that has been sent.
    pub choked: bool,
    /// Reads that take long among `deferred`: at most one, because the connection's next write,
    /// and with it everybody else's, must not be applied before them.
    pub heavy: u32,
    /// Whole frames, lengths included, that came while it was blocked or had no credit.
    pub held: Frames,
    /// Their number.
    pub held_count: u64,
    /// What it may cost, in nanoseconds, see [`super::fair`]; below zero it is in debt.
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
    /// What it waits for that the leader of the ensemble has to say.
    pub awaits: Option<Asked>,
    /// The leader's question by which its session was noted as used last, see `super::learner`.
    pub touched_in: u64,
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
    /// Whether requests must queue behind unfinished ones.
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
        self.choked
            || self.awaits.is_some()
            || self.deferred.len() >= DEFERRED_MAX
            || self.heavy > 0
            || self.long.is_some()
            || self.in_flight_bytes >= in_flight_max
    }

    /// Counts reply bytes of a read. A small request can have a large answer, so that the replies
    /// to one receive buffer of requests could fill the memory: beyond a limit the rest waits until
    /// the connection has taken what is there. However short turns are, the limit is the same.
    /// Returns whether it is to be asked when all has been sent.
    #[inline]
    pub fn is_choked_by(&mut self, bytes: usize) -> bool {
        self.unsent_bytes += bytes;
        self.owed_bytes += bytes;
        self.choked |= self.unsent_bytes > REPLY_BYTES_MAX;
        let asks = self.unsent_bytes > REPLY_BYTES_MAX / 2 && !self.awaits_drain;
        self.awaits_drain |= asks;
        asks
    }

    /// All has been sent.
    pub fn drained(&mut self) {
        (self.unsent_bytes, self.owed_bytes) = (0, 0);
        (self.awaits_drain, self.choked) = (false, false);
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
        // A frame is smaller than 2 GiB.
        let len = (frame.len() as u32).to_be_bytes();
        let mut held = Frames::default();
        held.push(&len);
        held.push(frame);
        held.push(self.held.rest());
        self.held = held;
        self.held_count += 1;
        self.waiting_bytes += len.len() + frame.len() + FRAME_OVERHEAD;
    }

    /// Whether no more requests should be taken: it has something to wait for while the server is
    /// busy, or more than `bytes_max` bytes wait.
    pub fn has_enough(&self, is_busy: bool, bytes_max: usize) -> bool {
        is_busy && self.outstanding() > 0 || self.waiting_bytes > bytes_max
    }
}

/// Connections by id.
#[derive(Debug, Default)]
pub struct Clients {
    fronts: Vec<Vec<Option<Box<Client>>>>,
    count: usize,
}

fn place(conn: ConnId) -> (usize, usize) {
    ((conn.0 >> 56) as usize, conn.0 as u32 as usize)
}

impl Clients {
    /// The connection, unless it is gone or its slot serves another one now.
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&Client> {
        let (front, slot) = place(conn);
        let client = self.fronts.get(front)?.get(slot)?.as_deref()?;
        (client.conn == conn).then_some(client)
    }

    /// As [`Clients::get`].
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        let (front, slot) = place(conn);
        let client = self.fronts.get_mut(front)?.get_mut(slot)?.as_deref_mut()?;
        (client.conn == conn).then_some(client)
    }

    /// Adds a connection.
    pub fn insert(&mut self, client: Client) {
        let (front, slot) = place(client.conn);
        if self.fronts.len() <= front {
            self.fronts.resize_with(front + 1, Vec::new);
        }
        let slots = &mut self.fronts[front];
        if slots.len() <= slot {
            slots.resize_with(slot + 1, || None);
        }
        if slots[slot].replace(Box::new(client)).is_none() {
            self.count += 1;
        }
    }

    /// Removes a connection.
    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Client>> {
        self.get(conn)?;
        let (front, slot) = place(conn);
        let client = self.fronts.get_mut(front)?.get_mut(slot)?.take();
        self.count -= usize::from(client.is_some());
        client
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.count
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.fronts.iter().flatten().filter_map(|client| client.as_deref())
    }

    /// All connections, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.fronts.iter_mut().flatten().filter_map(|client| client.as_deref_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
