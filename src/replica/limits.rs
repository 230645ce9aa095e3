//! Limits on requests: how many are in the pipeline, how many bytes the large ones take, how much
//! may wait for one connection, and when a connection is not read from.
//!
//! Corresponds to `RequestThrottler`, to the large request limit and the outstanding limit of
//! `ZooKeeperServer`. Nothing polls: a request that waits in line goes on when another one is
//! answered. Invariant: while requests wait in line the pipeline is full, and each that leaves it,
//! answered or forgotten with its connection, lets others in.

use std::collections::VecDeque;

use crate::auth::Identities;
use crate::base::{ConnId, Instant, Now, SessionId, Xid, Zxid};
use crate::metrics::{Histogram, Summary};
use crate::session::{Claim, Owner};
use crate::wire::OpCode;

use super::client::{Client, Deferred, Ready};
use super::core::Replica;
use super::effects::{CloseHow, Effect, Effects};
use super::fair::FRAME_COST;
use super::messages::Complaint;
use super::request::Request;
use super::throttle::{ConnectionThrottle, ThrottleOptions};

/// Settings of the limits.
#[derive(Clone, Debug)]
pub struct LimitOptions {
    /// Limit on new sessions.
    pub connections: ThrottleOptions,
    /// `request_throttle_max_requests`: requests in the pipeline; 0 for no limit.
    pub requests_max: u64,
    /// `request_throttle_drop_stale`: stale requests that waited in line are dropped and their
    /// connections closed.
    pub drop_stale: bool,
    /// `request_stale_connection_check`: requests of dead connections are stale.
    pub stale_connection_check: bool,
    /// `request_stale_latency_check`: requests older than the session timeout are stale.
    pub stale_latency_check: bool,
    /// `throttled_op_wait_time` in ms: who waited longer in line is refused; `None` is off.
    pub throttled_op_wait_ms: Option<u64>,
    /// `largeRequestThreshold`: requests of more bytes are large; `usize::MAX` for none.
    pub large_request_threshold: usize,
    /// `largeRequestMaxBytes`: of all large requests in progress.
    pub large_request_bytes_max: usize,
    /// `enableEagerACLCheck`.
    pub eager_acl: bool,
    /// Bytes that may wait for one connection's writes before it is paused.
    pub waiting_bytes_max: usize,
}

impl Default for LimitOptions {
    fn default() -> LimitOptions {
        LimitOptions {
            connections: ThrottleOptions::default(),
            requests_max: 0,
            drop_stale: true,
            stale_connection_check: true,
            stale_latency_check: false,
            throttled_op_wait_ms: None,
            large_request_threshold: usize::MAX,
            large_request_bytes_max: 100 << 20,
            eager_acl: false,
            waiting_bytes_max: 4 << 20,
        }
    }
}

/// Figures of the limits, under the names of `mntr`.
#[derive(Clone, Debug, Default)]
pub struct LimitFigures {
    /// ConnectRequests refused by the throttle.
    pub connections_refused: u64,
    /// `connection_token_deficit`, seen by each ConnectRequest that went on.
    pub token_deficit: Summary,
    /// `request_throttle_wait_count`: requests that had to wait in line.
    pub request_throttle_waits: u64,
    /// `request_throttle_queue_time_ms`, in microseconds.
    pub request_throttle_queue_us: Histogram,
    /// `throttled_ops`: requests refused because they had waited too long.
    pub throttled_ops: u64,
    /// `stale_requests`: stale requests let in all the same.
    pub stale_requests: u64,
    /// `stale_requests_dropped`.
    pub stale_requests_dropped: u64,
    /// `large_requests_rejected`.
    pub large_requests_rejected: u64,
}

/// A place in line for the pipeline: of a request, or of a reply that follows earlier requests.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    session: SessionId,
    timeout_ms: i32,
    what: InLine,
}

/// What stands in line for the pipeline.
#[derive(Debug)]
pub(super) enum InLine {
    /// A request, with the identities it was read under. The frame is whole, without its length.
    Request { op: OpCode, xid: Xid, frame: Box<[u8]>, received: Instant, identities: Identities },
    /// Anything that its client is to get after the answers to such requests.
    Ready(Ready),
}

impl InLine {
    /// Bytes of memory that it takes, about, and bytes of the request in it.
    fn sizes(&self) -> (usize, usize) {
        match self {
            InLine::Request { frame, .. } => (frame.len() + size_of::<Waiting>(), frame.len()),
            InLine::Ready(ready) => (ready.size(), 0),
        }
    }
}

/// What the limits remember.
#[derive(Debug)]
pub(super) struct Limits {
    pub throttle: ConnectionThrottle,
    pub figures: LimitFigures,
    line: VecDeque<Waiting>,
    /// The first in line are being let in, and wait for nobody else in line.
    letting_in: bool,
    large_bytes: usize,
    /// Large writes under way and their sizes.
    large_writes: VecDeque<(Zxid, usize)>,
}

impl Limits {
    /// Writes under way are not going to be applied.
    pub fn forget_writes(&mut self) {
        for (_, len) in std::mem::take(&mut self.large_writes) {
            self.large_bytes -= len;
        }
    }

    pub fn new(now: Instant, options: &LimitOptions) -> Limits {
        Limits {
            throttle: ConnectionThrottle::new(now, options.connections.clone()),
            figures: LimitFigures::default(),
            line: VecDeque::new(),
            letting_in: false,
            large_bytes: 0,
            large_writes: VecDeque::new(),
        }
    }

    /// Requests in line.
    pub fn waiting(&self) -> u64 {
        self.line.len() as u64
    }

    /// Whether the first in line are being let in, who wait for nobody else in line.
    pub fn is_letting_in(&self) -> bool {
        self.letting_in
    }
}

impl Replica {
    /// Whether the throttle lets a ConnectRequest pass.
    pub(super) fn admits_connect(&mut self, now: Now, renews: bool) -> bool {
        let limits = &mut self.limits;
        if !limits.throttle.is_on() {
            return true;
        }
        let admitted = limits.throttle.admit(now.mono, renews, &mut self.rng);
        if admitted {
            limits.figures.token_deficit.record(limits.throttle.deficit());
        } else {
            limits.figures.connections_refused += 1;
        }
        admitted
    }

    /// Requests that have been let in and are not answered.
    fn in_pipeline(&self) -> u64 {
        self.tail.own() as u64 + self.deferred_total
    }

    fn is_large(&self, len: usize) -> bool {
        len > self.options.limits.large_request_threshold
    }

    /// Whether a request of `len` bytes fits; if it does not, its connection is to be closed.
    pub(super) fn fits_large(&mut self, len: usize) -> bool {
        if !self.is_large(len)
            || self.limits.large_bytes + len <= self.options.limits.large_request_bytes_max
        {
            return true;
        }
        self.limits.figures.large_requests_rejected += 1;
        false
    }

    /// Counts a write that was large; `zxid` is its transaction.
    pub(super) fn wrote_large(&mut self, zxid: Zxid, len: usize) {
        if self.is_large(len) {
            self.limits.large_bytes += len;
            self.limits.large_writes.push_back((zxid, len));
        }
    }

    /// Counts a request that begins to wait if it is large.
    fn hold_large(&mut self, len: usize) {
        if self.is_large(len) {
            self.limits.large_bytes += len;
        }
    }

    /// Counts a request that waits no longer if it is large.
    pub(super) fn release_large(&mut self, len: usize) {
        if self.is_large(len) {
            self.limits.large_bytes -= len;
        }
    }

    /// A choked connection has taken its replies.
    pub(super) fn drained(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        // It may have been closed from this side before its front knew.
        let Some(client) = self.clients.get_mut(conn) else { return };
        client.drained();
        let begun = self.fair.spent;
        self.go_on_early(now, conn, self.fair.arrivals_stop(), effects);
        self.fair.charge_arrivals(begun);
        self.make_room(now, effects);
    }

    /// The connection is gone: what waited for its writes does not take memory any more.
    pub(super) fn forget_deferred(&mut self, client: &Client) {
        self.deferred_total -= client.deferred.len() as u64 + u64::from(client.long.is_some());
        self.long_lists -= client.long.as_ref().map_or(0, |long| long.lists());
        self.fair.held -= client.held_count;
        if self.limits.large_bytes > 0 {
            for (_, what) in &client.deferred {
                self.release_large(what.request_len());
            }
        }
    }

    /// Has something wait for the writes of its connection.
    pub(super) fn defer(&mut self, conn: ConnId, what: Deferred) {
        self.hold_large(what.request_len());
        let client = self.clients.known(conn);
        client.waiting_bytes += what.size();
        client.heavy += u32::from(what.is_heavy());
        client.deferred.push_back((client.writes_prepared, what));
        self.deferred_total += 1;
    }

    /// As [`Replica::defer`], for a request.
    pub(super) fn defer_request(&mut self, request: &Request<'_>) {
        let Request { now, conn, op, xid, frame, asked } = *request;
        self.clients.known(conn).frames.push(frame);
        // A frame is smaller than 2 GiB.
        let (len, received) = (frame.len() as u32, now.mono);
        let identities = asked.map(|(_, as_whom)| as_whom.clone());
        let is_heavy = self.is_heavy(op, conn, request.body());
        self.defer(conn, Deferred::Request { op, xid, len, received, identities, is_heavy });
    }

    /// Whether a request has to line up. Only with a limit on requests.
    pub(super) fn is_pipeline_full(&self) -> bool {
        let max = self.options.limits.requests_max;
        max != 0 && (!self.limits.line.is_empty() || self.in_pipeline() >= max)
    }

    /// Has something line up for the pipeline.
    pub(super) fn line_up(&mut self, conn: ConnId, what: InLine) {
        let (size, request_len) = what.sizes();
        self.hold_large(request_len);
        let client = self.clients.known(conn);
        client.waiting_bytes += size;
        client.in_line += 1;
        let is_request = matches!(what, InLine::Request { .. });
        self.limits.figures.request_throttle_waits += u64::from(is_request);
        self.limits.line.push_back(Waiting {
            conn,
            session: client.session,
            timeout_ms: client.timeout_ms,
            what,
        });
    }

    /// Whether somebody in line could be let in.
    pub(super) fn has_room(&self) -> bool {
        self.is_serving()
            && !self.limits.line.is_empty()
            && !self.is_first_blocked()
            && self.in_pipeline() < self.options.limits.requests_max
    }

    /// Transactions were applied: lets in who waits, as far as there is room.
    pub(super) fn make_room(&mut self, now: Now, effects: &mut Effects) {
        while let Some(&(zxid, len)) = self.limits.large_writes.front()
            && zxid <= self.tail.applied()
        {
            self.limits.large_writes.pop_front();
            self.limits.large_bytes -= len;
        }
        // Without a leader everybody in line waits on.
        if self.is_serving() && !self.limits.line.is_empty() {
            let begun = self.fair.spent;
            self.limits.letting_in = true;
            self.let_in(now, effects);
            self.limits.letting_in = false;
            self.fair.charge_line(begun);
        }
        self.relieve_pressure(effects);
    }

    /// Whether the first in line waits for the leader's word on what its client asked before.
    fn is_first_blocked(&self) -> bool {
        let first = self.limits.line.front().and_then(|first| self.clients.get(first.conn));
        first.is_some_and(|client| client.awaits.is_some())
    }

    fn let_in(&mut self, now: Now, effects: &mut Effects) {
        let stop_at = self.fair.line_stop();
        while self.fair.spent < stop_at
            && !self.is_first_blocked()
            && let Some(first) = self.limits.line.front()
        {
            self.fair.spent += FRAME_COST;
            let (conn, is_stale) = (first.conn, self.is_stale(now, first));
            if is_stale && self.options.limits.drop_stale {
                self.drop_stale(now, conn, effects);
                continue;
            }
            if self.in_pipeline() >= self.options.limits.requests_max {
                return;
            }
            let Some(waiting) = self.limits.line.pop_front() else {
                unreachable!("it has a first one")
            };
            self.leave_line(&waiting);
            self.limits.figures.stale_requests += u64::from(is_stale);
            match waiting.what {
                InLine::Request { op, xid, frame, received, identities } => {
                    let queued = now.mono.since(received).as_micros() as u64;
                    self.limits.figures.request_throttle_queue_us.record(queued);
                    let asked = Some((waiting.session, &identities));
                    let request = Request { now, conn, op, xid, frame: &frame, asked };
                    self.let_request_in(&request, waiting.session, received, effects);
                }
                InLine::Ready(ready) => {
                    // Its connection may have gone while it stood in line.
                    if self.clients.get(conn).is_some() {
                        self.defer_or_give(conn, ready, effects);
                    }
                }
            }
        }
    }

    fn leave_line(&mut self, waiting: &Waiting) {
        let (size, request_len) = waiting.what.sizes();
        self.release_large(request_len);
        if let Some(client) = self.clients.get_mut(waiting.conn) {
            client.waiting_bytes -= size;
            client.in_line -= 1;
        }
    }

    /// `Request.isStale`. The end of a session is never stale: it has to clean up.
    fn is_stale(&self, now: Now, waiting: &Waiting) -> bool {
        let limits = &self.options.limits;
        let is_gone = self.clients.get(waiting.conn).is_none();
        match waiting.what {
            InLine::Ready(_) => is_gone,
            InLine::Request { op: OpCode::CloseSession, .. } => false,
            InLine::Request { .. } if is_gone => limits.stale_connection_check,
            InLine::Request { received, .. } => {
                let waited_ms = now.mono.since(received).as_millis();
                limits.stale_latency_check && waited_ms as i64 > i64::from(waiting.timeout_ms)
            }
        }
    }

    /// Drops the first in line and everything else of its connection: what came later must not be
    /// done without what came before.
    fn drop_stale(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        if self.clients.get(conn).is_none() {
            if let Some(waiting) = self.limits.line.pop_front() {
                self.leave_line(&waiting);
                self.limits.figures.stale_requests_dropped += 1;
            }
            return;
        }
        let line = std::mem::take(&mut self.limits.line);
        for waiting in line {
            if waiting.conn == conn {
                self.leave_line(&waiting);
                self.limits.figures.stale_requests_dropped += 1;
            } else {
                self.limits.line.push_back(waiting);
            }
        }
        let why = format_args!("its request waited longer than its session timeout");
        self.complain(now, Complaint::Stale, self.who(conn), why);
        self.close(conn, CloseHow::AfterFlush, effects);
    }

    /// Brings a request of `session`, which came at `received`, from the line into the pipeline.
    fn let_request_in(
        &mut self,
        request: &Request<'_>,
        session: SessionId,
        received: Instant,
        effects: &mut Effects,
    ) {
        let Request { now, conn, op, xid, .. } = *request;
        let claim = match &mut self.leader {
            Some(leader) => leader.claim(session, Owner::Here),
            None if self.committed_sessions.contains_key(&session) => Claim::Granted,
            None => Claim::Gone,
        };
        match claim {
            Claim::Granted => {}
            // Dropped without a reply; the close of the session closes the connection.
            Claim::Gone => return,
            Claim::Moved if op == OpCode::CloseSession => {}
            Claim::Moved => return self.refuse_moved(now, conn, op, xid, effects),
        }
        let waited_ms = now.mono.since(received).as_millis() as u64;
        if self.options.limits.throttled_op_wait_ms.is_some_and(|max| waited_ms > max)
            && !matches!(op, OpCode::Ping | OpCode::CloseSession)
        {
            self.limits.figures.throttled_ops += 1;
            // Its connection may have gone while it stood in line.
            let Some(client) = self.clients.get_mut(conn) else { return };
            client.stats.sent += 1;
            self.stats.sent += 1;
            return self.defer_or_give(conn, Ready::Throttled(xid), effects);
        }
        self.dispatch(request, effects);
    }

    /// Input came: pauses its connection if the server has more than enough to do and the
    /// connection some of it, or if too much waits for its writes.
    pub(super) fn apply_pressure(&mut self, conn: ConnId, effects: &mut Effects) {
        let outstanding = self.in_progress();
        if outstanding <= self.options.outstanding_limit
            && self.deferred_total == 0
            && self.fair.held == 0
            && self.limits.line.is_empty()
        {
            return;
        }
        let is_busy = outstanding > self.options.outstanding_limit;
        let bytes_max = self.options.limits.waiting_bytes_max;
        if let Some(client) = self.clients.get_mut(conn)
            && !client.paused
            && client.has_enough(is_busy, bytes_max)
        {
            client.paused = true;
            self.paused.push(conn);
            effects.list.push(Effect::Pause { conn });
        }
    }

    /// Resumes who need not be paused any longer, first paused first. Even a busy server takes
    /// one request at a time from everybody, or a few connections could keep others out for ever.
    pub(super) fn relieve_pressure(&mut self, effects: &mut Effects) {
        if self.paused.is_empty() {
            return;
        }
        let is_busy = self.in_progress() > self.options.outstanding_limit;
        let bytes_max = self.options.limits.waiting_bytes_max;
        let clients = &mut self.clients;
        self.paused.retain(|&conn| {
            // One that has gone needs nothing any more.
            let Some(client) = clients.get_mut(conn) else { return false };
            client.paused = client.has_enough(is_busy, bytes_max);
            if !client.paused {
                effects.list.push(Effect::Resume { conn });
            }
            client.paused
        });
    }

    /// Figures of the limits.
    pub fn limit_figures(&self) -> &LimitFigures {
        &self.limits.figures
    }

    /// Probability that a ConnectRequest is refused at random, in billionths.
    pub fn connection_drop_probability(&self) -> u64 {
        self.limits.throttle.drop_probability()
    }

    /// Bytes of the large requests in progress.
    pub fn large_request_bytes(&self) -> usize {
        self.limits.large_bytes
    }
}
