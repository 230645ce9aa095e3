//! What a server does for its clients while another one leads: it forwards their writes, learns of
//! their fate when they come back as transactions, and tells the leader which sessions live.
//!
//! Counterparts: `FollowerRequestProcessor`, the matching in `CommitProcessor`, `SendAckRequest`,
//! `LearnerSessionTracker` and the learner's half of `Learner.validateSession`.
//!
//! A forwarded write comes back as a transaction with the session and the number (cxid) that it was
//! forwarded with. The leader keeps the order of what one learner forwards, so the first of
//! `forwarded` comes back first. For instance, a client forwards cxid 7, another client cxid 1, and
//! the leader's own client writes too: what comes is perhaps [leader's], 7, [leader's], 1. This
//! server answers 7 and 1. If 1 came without 7, the leader has lost 7, and its connection ends.
//!
//! A leader of ours says which transactions these are. Session and cxid alone may deceive: a client
//! that went from one member to another may number its requests anew, as kazoo does, and what it
//! had asked for before may become a transaction (or a refusal) with the number of a new request.
//! COMPAT(3.x): a leader of Apache's does not say it, so they are what there is to go by.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::auth::Identities;
use crate::base::{
    ConnId, FixedMap, Instant, Mark, Mutation, Now, SessionId, Xid, Zxid, invariant, is_mutated,
    mark,
};
use crate::log::Batch;
use crate::pipeline::{Multi, bytes_cost};
use crate::wire::{
    Create, ErrorCode, MultiOps, OpCode, PathVersion, Reader, SetAcl, SetData, TxnHeader, TxnType,
    put_error_reply, put_i32,
};

use super::client::{Asked, Client, Stage};
use super::core::Replica;
use super::effects::{CloseHow, Effect, Effects};
use super::fair::WRITE_COST;
use super::request::Request;
use super::tail::{Entry, Origin};
use super::write::allows;

/// A write that is with the leader.
#[derive(Clone, Copy, Debug)]
struct Forwarded {
    conn: ConnId,
    session: SessionId,
    cxid: Xid,
    op: OpCode,
    /// Bytes that count as on their way for its connection.
    len: u32,
    received: Instant,
}

impl Forwarded {
    /// Whether a transaction is what this request has become. One that failed has lost its kind.
    fn became(&self, header: &TxnHeader) -> bool {
        let is_session = |op, kind| (self.op == op) == (header.kind == kind);
        self.session == header.session
            && self.cxid == header.cxid
            && (header.kind == TxnType::Error
                || is_session(OpCode::CreateSession, TxnType::CreateSession)
                    && is_session(OpCode::CloseSession, TxnType::CloseSession))
    }
}

/// See the module's introduction.
#[derive(Debug, Default)]
pub(super) struct Learner {
    /// In the order in which the leader has got them.
    forwarded: VecDeque<Forwarded>,
    /// How many of them each session has: most transactions are of others.
    of_session: FixedMap<SessionId, u32>,
    /// Sessions that clients have brought along, of which the leader has not said whether they
    /// live.
    revalidating: VecDeque<(SessionId, ConnId)>,
    /// Sessions that were used since the leader asked last, and their timeouts in ms.
    touched: Vec<(SessionId, i32)>,
    /// Counts the leader's questions, so that a session is noted once for each.
    round: u64,
}

/// What the leader was asked before this server stopped to serve in the middle of a term, and has
/// not answered. Each kind is answered in order, so the first answers are to these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GivenUp {
    /// Forwarded requests, where the leader says which transactions are this server's.
    requests: usize,
    /// Questions about sessions.
    sessions: usize,
    syncs: usize,
}

/// Takes one off, if there is any.
fn take_one(count: &mut usize) -> bool {
    let is_some = *count > 0;
    *count -= usize::from(is_some);
    is_some
}

impl Learner {
    /// A client was there.
    pub fn touch(&mut self, client: &mut Client) {
        if client.touched_in != self.round {
            client.touched_in = self.round;
            self.touched.push((client.session, client.timeout_ms));
        }
    }

    /// Whom a transaction that the leader has made is to be answered to. Requests before it that
    /// have not come back never will: their connections are given as lost.
    fn take(&mut self, header: &TxnHeader, lost: &mut Vec<ConnId>) -> Option<Forwarded> {
        if !self.of_session.contains_key(&header.session) {
            return None;
        }
        let at = self.forwarded.iter().position(|request| request.became(header))?;
        for _ in 0..at {
            lost.extend(self.pop().map(|request| request.conn));
        }
        self.pop()
    }

    /// The same for what the leader says is this server's.
    fn take_own(&mut self, header: &TxnHeader, lost: &mut Vec<ConnId>) -> Option<Forwarded> {
        if self.forwarded.front().is_some_and(|request| request.became(header)) {
            return self.pop();
        }
        self.take(header, lost)
    }

    fn push(&mut self, request: Forwarded) {
        *self.of_session.entry(request.session).or_insert(0) += 1;
        self.forwarded.push_back(request);
    }

    fn pop(&mut self) -> Option<Forwarded> {
        let request = self.forwarded.pop_front()?;
        if let Some(count) = self.of_session.get_mut(&request.session) {
            *count -= 1;
            if *count == 0 {
                self.of_session.remove(&request.session);
            }
        }
        Some(request)
    }
}

/// What a server has that serves clients while another one leads.
fn learning(learner: &mut Option<Learner>) -> &mut Learner {
    invariant!(learner.is_some(), "a server asks its leader while it serves clients");
    learner.as_mut().unwrap_or_else(|| unreachable!("just asserted"))
}

impl Replica {
    /// Whether clients are served: this server leads, or knows who does and is up to date.
    pub fn is_serving(&self) -> bool {
        (self.leader.is_some() && !self.is_held) || self.learner.is_some()
    }

    /// Begins to serve clients while another server leads. The leader is asked about the sessions
    /// of clients that stayed, so that it takes them for this server's: it may know them as
    /// sessions of a connection that has ended.
    pub fn follow(&mut self, effects: &mut Effects) {
        invariant!(!self.is_serving(), "a term of service begins when the last one has ended");
        self.touch_round += 1;
        self.learner = Some(Learner { round: self.touch_round, ..Learner::default() });
        if self.fuzzy == Some(Zxid(i64::MAX)) {
            self.fuzzy = Some(self.tail.last());
            self.check.exact_after(self.tail.last());
        }
        let conns: Vec<ConnId> = self.clients.iter().map(|client| client.conn).collect();
        for conn in conns {
            self.ask_about_kept(conn, effects);
            self.queue_up(conn);
        }
    }

    /// Others have served clients in an epoch in which this server did not: those that stayed here
    /// may have been there, and what they left here must not be done after what they asked for
    /// there. Closes their connections; returns their number.
    pub fn forsake_clients(&mut self, effects: &mut Effects) -> usize {
        invariant!(!self.is_serving(), "clients are given up between two terms");
        let is_active = |client: &&Client| client.stage() == Stage::Active;
        let conns: Vec<ConnId> =
            self.clients.iter().filter(is_active).map(|client| client.conn).collect();
        for &conn in &conns {
            self.close(conn, CloseHow::AfterFlush, effects);
        }
        conns.len()
    }

    fn ask_about_kept(&mut self, conn: ConnId, effects: &mut Effects) {
        let (learner, client) = (learning(&mut self.learner), self.clients.known(conn));
        if client.stage() == Stage::Active && !is_mutated(Mutation::AssumeKept) {
            let (session, timeout_ms) = (client.session, client.timeout_ms);
            learner.revalidating.push_back((session, conn));
            effects.list.push(Effect::AskSession { session, timeout_ms, is_kept: true });
        }
    }

    /// Serves nobody any more: the leader is lost. Clients stay, and their requests wait. Closed
    /// are those with a write of which nobody knows whether it will ever be committed.
    pub fn stop_serving(&mut self, effects: &mut Effects) {
        self.resign(effects);
        self.learner = None;
        self.given_up = GivenUp::default();
        self.deferred_total -= self.syncs.clear();
        let mut unknown = Vec::new();
        let mut asking = Vec::new();
        for client in self.clients.iter_mut() {
            client.slot = None;
            let is_creating = client.stage() == Stage::Connecting;
            let is_unknown = client.writes_applied != client.writes_prepared;
            if is_creating || is_unknown && !is_mutated(Mutation::KeepUnknown) {
                unknown.push(client.conn);
            } else if client.awaits.is_some() {
                asking.push(client.conn);
            }
        }
        for conn in unknown {
            mark(Mark::UnknownFate);
            self.close(conn, CloseHow::AfterFlush, effects);
        }
        for conn in asking {
            mark(Mark::AskedAgain);
            self.put_back(conn);
        }
        self.relieve_pressure(effects);
    }

    /// Serves nobody for now, as what this server shows is too old, and goes on to follow the same
    /// leader. Clients are better served elsewhere: closes their connections, and returns the
    /// number. [`Replica::follow`] ends it.
    pub fn pause_serving(&mut self, effects: &mut Effects) -> usize {
        invariant!(self.learner.is_some(), "only a server that follows falls behind");
        let mut given_up = self.given_up;
        if let Some(learner) = &self.learner {
            given_up.requests += learner.forwarded.len();
            given_up.sessions += learner.revalidating.len();
            given_up.syncs += self.syncs.asked.len();
        }
        self.stop_serving(effects);
        self.given_up = given_up;
        self.forsake_clients(effects)
    }

    /// What a connection has asked the leader is asked again by the next term.
    fn put_back(&mut self, conn: ConnId) {
        let client = self.clients.known(conn);
        let asked = client.awaits.take();
        if matches!(asked, Some(Asked::Sync { .. })) {
            mark(Mark::SyncAskedAgain);
        }
        invariant!(asked.is_some(), "{conn:?} has not asked the leader for anything");
        let Some(Asked::Session { frame } | Asked::Sync { frame, .. }) = asked else {
            unreachable!("just asserted")
        };
        client.put_back(&frame);
        self.fair.held += 1;
    }

    /// Transactions that the leader proposes, or that this server was lacking. They go to the log,
    /// and are applied when they are committed. `own` names those, in order, that requests of this
    /// server have become; `None` where the leader does not say.
    pub fn append(
        &mut self,
        now: Now,
        batch: Arc<Batch>,
        own: Option<&[Zxid]>,
        effects: &mut Effects,
    ) {
        invariant!(self.leader.is_none(), "only its own transactions come to a server that leads");
        let mut lost = Vec::new();
        let mut named = own.map(|own| own.iter().peekable());
        for (zxid, bytes) in batch.iter() {
            // A batch is smaller than 4 GiB.
            let mut entry = Entry {
                zxid,
                origin: Origin::Leader,
                xid: Xid(0),
                op: OpCode::Error,
                len: bytes.len() as u32,
                cost: 0,
                received: now.mono,
            };
            let given_up = &mut self.given_up.requests;
            let may_be_own = named.as_mut().is_none_or(|named| {
                named.next_if(|own| **own == zxid).is_some() && !take_one(given_up)
            });
            if may_be_own
                && let Some(learner) = &mut self.learner
                && let Ok(header) = TxnHeader::decode_from(&mut Reader::new(bytes))
                && let Some(own) = match &named {
                    Some(_) => learner.take_own(&header, &mut lost),
                    None => learner.take(&header, &mut lost),
                }
            {
                let Forwarded { conn, cxid, op, len, received, .. } = own;
                let origin = Origin::Client(conn);
                entry = Entry { zxid, origin, xid: cxid, op, len, cost: 0, received };
            }
            self.tail.push(entry);
        }
        self.tail.push_batch(Arc::clone(&batch));
        effects.list.push(Effect::Append(batch));
        for conn in lost {
            if self.clients.get(conn).is_none() {
                continue;
            }
            log::warn!("the leader passed over a request of {}", self.who(conn));
            self.close(conn, CloseHow::Now, effects);
        }
    }

    /// Has the leader judge a write that can be decoded. One that cannot would end the connection
    /// to a leader of Apache's, and with it the service of this server.
    pub(super) fn forward_write(&mut self, request: &Request<'_>, effects: &mut Effects) {
        let r = &mut Reader::new(request.body());
        let path = match request.op {
            OpCode::SetData => SetData::decode_from(r).map(|set| set.path.map(Cow::Borrowed)),
            OpCode::Delete => PathVersion::decode_from(r).map(|delete| delete.path.map(bytes)),
            OpCode::SetAcl => SetAcl::decode_from(r).map(|set| set.path.map(bytes)),
            OpCode::Multi => match Multi::check(*r, |_| {}) {
                Err(error) if error == MultiOps::NULL_ACL => Err(error),
                Err(_) => return self.refuse_write(request, ErrorCode::MarshallingError, effects),
                Ok(_) => Ok(None),
            },
            OpCode::Reconfig => {
                let code = match self.options.reconfig_enabled {
                    true => ErrorCode::Unimplemented,
                    false => ErrorCode::ReconfigDisabled,
                };
                return self.refuse_write(request, code, effects);
            }
            op => Create::decode_from(r, op).map(|create| create.path.map(bytes)),
        };
        let Ok(path) = path else { return self.read_or_defer(request, effects) };
        // A connection that is gone asks for nothing more.
        let Some((_, identities)) = request.who(&self.clients) else { return };
        if self.options.limits.eager_acl
            && !allows(&self.auth, &self.tree, request.op, path.as_deref(), identities)
        {
            return self.refuse_write(request, ErrorCode::NoAuth, effects);
        }
        self.fair.spent += WRITE_COST + bytes_cost(request.frame.len()) + self.auth.take_cost();
        self.forward(request, effects);
    }

    /// Answers a write that becomes no transaction, in its place.
    fn refuse_write(&mut self, request: &Request<'_>, code: ErrorCode, effects: &mut Effects) {
        let mut reply = Vec::with_capacity(20);
        put_error_reply(&mut reply, request.xid, Zxid::ZERO, code);
        self.send_in_order(request.conn, reply, effects);
    }

    /// Forwards a write that was found to be well formed.
    pub(super) fn forward(&mut self, request: &Request<'_>, effects: &mut Effects) {
        let Request { now, conn, op, xid, .. } = *request;
        // A connection that is gone asks for nothing more.
        let Some((session, _)) = request.who(&self.clients) else { return };
        // A frame is smaller than 4 GiB.
        let (len, received) = (request.frame.len() as u32, now.mono);
        self.note_forwarded(Forwarded { conn, session, cxid: xid, op, len, received });
        self.tell_leader(request, effects);
    }

    fn tell_leader(&self, request: &Request<'_>, effects: &mut Effects) {
        // A connection that is gone asks for nothing more.
        let Some((session, identities)) = request.who(&self.clients) else { return };
        let (start, cxid, op) = (effects.bytes.len(), request.xid, request.op);
        effects.bytes.extend_from_slice(request.body());
        let ids = effects.bytes.len();
        identities.encode_into(&mut effects.bytes);
        let end = effects.bytes.len();
        effects.list.push(Effect::Forward { session, cxid, op, start, ids, end });
    }

    /// Forwards the creation of a session for a connection.
    pub(super) fn forward_session(
        &mut self,
        now: Now,
        conn: ConnId,
        session: SessionId,
        timeout_ms: i32,
        effects: &mut Effects,
    ) {
        let start = effects.bytes.len();
        put_i32(&mut effects.bytes, timeout_ms);
        let ids = effects.bytes.len();
        Identities::none().encode_into(&mut effects.bytes);
        let (end, cxid, op) = (effects.bytes.len(), Xid(0), OpCode::CreateSession);
        let received = now.mono;
        self.note_forwarded(Forwarded { conn, session, cxid, op, len: 0, received });
        effects.list.push(Effect::Forward { session, cxid, op, start, ids, end });
    }

    fn note_forwarded(&mut self, request: Forwarded) {
        let learner = learning(&mut self.learner);
        if let Some(client) = self.clients.get_mut(request.conn) {
            client.writes_prepared += 1;
            client.in_flight_bytes += request.len as usize;
        }
        learner.push(request);
    }

    /// Asks the leader whether a session lives that a client has brought along.
    pub(super) fn ask_about(
        &mut self,
        conn: ConnId,
        session: SessionId,
        timeout_ms: i32,
        frame: &[u8],
        effects: &mut Effects,
    ) {
        let learner = learning(&mut self.learner);
        self.clients.known(conn).awaits = Some(Asked::Session { frame: frame.into() });
        learner.revalidating.push_back((session, conn));
        effects.list.push(Effect::AskSession { session, timeout_ms, is_kept: false });
    }

    /// The leader's word on a session that a client has brought along.
    pub fn session_answered(
        &mut self,
        now: Now,
        session: SessionId,
        is_valid: bool,
        effects: &mut Effects,
    ) {
        if take_one(&mut self.given_up.sessions) {
            return;
        }
        // Nobody is served who could have been asked about.
        let Some(learner) = &mut self.learner else { return };
        let asked = learner.revalidating.iter().position(|&(asked, _)| asked == session);
        // The leader said it twice, or of a session that nobody asked about.
        let Some((_, conn)) = asked.and_then(|at| learner.revalidating.remove(at)) else { return };
        // The client has gone meanwhile.
        let Some(client) = self.clients.get_mut(conn) else { return };
        // It may wait for a sync meanwhile.
        let was_kept = !matches!(client.awaits, Some(Asked::Session { .. }));
        if !was_kept {
            client.awaits = None;
        }
        match (was_kept, is_valid) {
            (true, true) => return mark(Mark::KeptClient),
            (true, false) => {
                mark(Mark::KeptClientGone);
                return self.close(conn, CloseHow::AfterFlush, effects);
            }
            (false, true) => {}
            (false, false) => return self.refuse_session(now, conn, session, effects),
        }
        client.begin_session(session, None);
        learner.touch(client);
        if let Some(old) = self.session_conns.insert(session, conn)
            && old != conn
        {
            mark(Mark::SessionTakenOver);
            self.close(old, CloseHow::Now, effects);
            self.session_conns.insert(session, conn);
        }
        self.established(conn, effects);
        self.queue_up(conn);
    }

    /// A `sync` of a client: it is answered when this server has applied everything that was
    /// committed when the leader got it. Nothing that the client sends later is looked at before.
    pub(super) fn sync(&mut self, request: &Request<'_>, effects: &mut Effects) {
        let Request { now, conn, xid, frame, .. } = *request;
        // A connection that is gone asks for nothing more.
        let Some(client) = self.clients.get_mut(conn) else { return };
        invariant!(client.awaits.is_none(), "{conn:?} is blocked while it waits for a sync");
        let frame = frame.into();
        client.awaits = Some(Asked::Sync { xid, frame, received: now.mono });
        self.syncs.asked.push_back(conn);
        self.deferred_total += 1;
        match &self.learner {
            Some(_) => self.tell_leader(request, effects),
            None => effects.list.push(Effect::AskSync),
        }
    }

    /// The oldest `sync` that was asked for covers everything that is committed now.
    pub fn sync_done(&mut self, now: Now, effects: &mut Effects) {
        if take_one(&mut self.given_up.syncs) {
            return;
        }
        let conn = self.syncs.asked.pop_front();
        invariant!(conn.is_some(), "a sync is done that nobody has asked for");
        let Some(conn) = conn else { unreachable!("just asserted") };
        let covered = match is_mutated(Mutation::SyncUnapplied) {
            true => Zxid::ZERO,
            false => self.tail.committed(),
        };
        if covered > self.tail.applied() {
            mark(Mark::SyncAwaitsApply);
        }
        self.syncs.done.push_back((covered, conn));
        self.answer_syncs(now, effects);
    }

    /// Answers the syncs whose transactions are applied.
    pub(super) fn answer_syncs(&mut self, now: Now, effects: &mut Effects) {
        while let Some(&(zxid, conn)) = self.syncs.done.front()
            && zxid <= self.tail.applied()
        {
            self.syncs.done.pop_front();
            self.deferred_total -= 1;
            // The client has gone meanwhile.
            let Some(client) = self.clients.get_mut(conn) else { continue };
            let asked = client.awaits.take();
            invariant!(matches!(asked, Some(Asked::Sync { .. })), "{conn:?} waits for {asked:?}");
            let Some(Asked::Sync { xid, frame, received }) = asked else {
                unreachable!("just asserted")
            };
            let waiting = Now { mono: received, ..now };
            let (op, frame) = (OpCode::Sync, &frame[..]);
            let request = Request { now: waiting, conn, op, xid, frame, asked: None };
            self.read_or_defer(&request, effects);
            self.queue_up(conn);
        }
        // Where nobody writes, nothing else tells those who wait that there is less to do.
        self.relieve_pressure(effects);
    }

    /// The sessions that were used since the last call, and their timeouts in ms: the answer to
    /// the leader's PING.
    pub fn take_touched(&mut self) -> Vec<(SessionId, i32)> {
        self.touch_round += 1;
        // Nobody is served.
        let Some(learner) = &mut self.learner else { return Vec::new() };
        learner.round = self.touch_round;
        std::mem::take(&mut learner.touched)
    }

    /// The transactions that are known and not applied, in order.
    pub fn tail(&self) -> Vec<Arc<Batch>> {
        self.tail.batches()
    }

    /// The log ends with `keep` now: what the tail has after it was never committed and goes.
    pub fn forget_after(&mut self, keep: Zxid) {
        invariant!(!self.is_serving(), "the tail goes back while nobody is served");
        self.tail.truncate(keep);
        self.limits.forget_writes();
    }
}

/// The bytes of a path.
fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Clients that wait for a `sync`, in the order in which they asked.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    asked: VecDeque<ConnId>,
    /// The leader has answered: the transaction that has to be applied first.
    done: VecDeque<(Zxid, ConnId)>,
}

impl Syncs {
    fn clear(&mut self) -> u64 {
        let count = self.asked.len() + self.done.len();
        self.asked.clear();
        self.done.clear();
        count as u64
    }
}
