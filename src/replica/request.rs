//! One request frame: what it is, whether it may go ahead, and where it goes.
//!
//! Corresponds to `ZooKeeperServer.processPacket` and the entry of the request pipeline. Writes are
//! prepared at once, in arrival order. Reads, pings and the like run at once too unless the
//! connection has unfinished writes before them; then they wait, so that replies keep request
//! order.

use crate::auth::{AuthOutcome, Identities, SaslOutcome};
use crate::base::{ConnId, Now, SessionId, Xid, Zxid, invariant};
use crate::leader::Leader;
use crate::pipeline::{ReadContext, bytes_cost};
use crate::session::Claim;
use crate::wire::{
    Auth as AuthPacket, ErrorCode, OpCode, Reader, RequestHeader, XID_PING, begin_reply, end_frame,
    put_buffer, put_error_reply, quorum, requested_path, split_frame,
};

use super::client::{Client, Clients, Deferred, Frames, Ready, Stage};
use super::core::Replica;
use super::effects::{CloseHow, Effect, Effects};
use super::fair::{AUTH_COST, FRAME_COST, READ_COST, SASL_COST};
use super::limits::InLine;
use super::messages::Complaint;
use super::tail::Origin;

/// Bytes of transactions after which a batch goes to the log at once.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Bytes of replies to one connection, not sent yet, that are owed ahead of its write.
const URGENT_BYTES_MAX: usize = 64 << 20;

/// Requests whose nodes are asked for together, once while as many are handled.
pub const AHEAD: usize = 16;

/// A request that may go ahead: what it is and who asks.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub now: Now,
    pub conn: ConnId,
    pub op: OpCode,
    pub xid: Xid,
    /// Without its length.
    pub frame: &'a [u8],
    /// Who asked and as whom, if not the connection's session as of now.
    pub asked: Option<(SessionId, &'a Identities)>,
}

impl Request<'_> {
    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.frame[RequestHeader::SIZE..]
    }

    /// Who asks and as whom: as noted when the request was read, or the connection as of now.
    pub fn who<'a>(&'a self, clients: &'a Clients) -> Option<(SessionId, &'a Identities)> {
        let client = clients.get(self.conn);
        self.asked.or_else(|| client.map(|client| (client.session, &client.identities)))
    }
}

/// How far [`Replica::run`] came. If the connection is gone, all counts as taken.
pub(super) struct Taken {
    /// Bytes of the frames that were handled, lengths included.
    pub bytes: usize,
    /// Number of frames that were handled.
    pub frames: u64,
}

impl Replica {
    /// Handles frames of a connection, one after the other, until it has to wait for something or
    /// the work has come to `stop_at`.
    pub(super) fn run(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: &[u8],
        stop_at: u64,
        effects: &mut Effects,
    ) -> Taken {
        let (begun, in_flight_max) = (self.fair.spent, self.fair.options.in_flight_bytes);
        let (mut rest, mut frames) = (bytes, 0);
        // What a lone request needs is waited for anyhow.
        let is_alone = split_frame(bytes).is_some_and(|(_, others)| others.is_empty());
        let mut ahead = if is_alone { &[] } else { bytes };
        let mut until_next = 0;
        self.ahead.clear();
        self.look_ahead_in(&mut ahead);
        while let Some((frame, tail)) = split_frame(rest) {
            // The request before may have closed it.
            let Some(client) = self.clients.get_mut(conn) else { break };
            if self.fair.spent >= stop_at || client.is_blocked(in_flight_max) {
                break;
            }
            let stage = client.stage();
            if until_next == 0 {
                self.look_ahead_in(&mut ahead);
                until_next = AHEAD;
            }
            until_next -= 1;
            (rest, frames) = (tail, frames + 1);
            self.fair.spent += FRAME_COST;
            match stage {
                Stage::New => self.connect(now, conn, frame, effects),
                Stage::Closing => {}
                Stage::Connecting | Stage::Active => self.request(now, conn, frame, effects),
            }
            self.hand_over_much(effects);
        }
        let cost = self.fair.spent - begun;
        self.stats.received += frames;
        match self.clients.get_mut(conn) {
            Some(client) => {
                client.stats.received += frames;
                client.credit -= cost as i64;
                client.handled_bytes =
                    client.handled_bytes.saturating_add(bytes.len() - rest.len());
            }
            None => rest = &[],
        }
        Taken { bytes: bytes.len() - rest.len(), frames }
    }

    /// Gives the log what was prepared if that is much.
    #[inline(always)]
    pub(super) fn hand_over_much(&mut self, effects: &mut Effects) {
        // A learner prepares nothing.
        let bytes = self.leader.as_ref().map_or(0, Leader::batch_bytes);
        if bytes > BATCH_BYTES_MAX {
            self.hand_over(effects);
        }
    }

    /// Asks for what coming requests will need: names and data of the nodes that were asked for the
    /// last time, and the nodes of the requests after those.
    fn look_ahead_in(&mut self, frames: &mut &[u8]) {
        self.tree.prefetch_data(self.ahead.drain(..));
        self.ahead_hashes.clear();
        for _ in 0..AHEAD {
            let Some((frame, tail)) = split_frame(frames) else { break };
            *frames = tail;
            if let Some(path) = requested_path(frame) {
                self.ahead_hashes.push(self.tree.hasher().path_bytes(path));
            }
        }
        self.prefetch_candidates();
    }

    /// Asks for all that the requests in these packets of a learner need, before the first of them
    /// is judged.
    pub fn look_ahead_in_packets(&mut self, packets: &[u8]) {
        self.ahead_hashes.clear();
        for path in quorum::requested_paths(packets, AHEAD) {
            self.ahead_hashes.push(self.tree.hasher().path_bytes(path));
        }
        if self.ahead_hashes.len() > 1 {
            self.tree.touch_paths(&self.ahead_hashes);
        }
    }

    /// Asks for the nodes that will be found under `ahead_hashes`, and notes them in `ahead`.
    fn prefetch_candidates(&mut self) {
        // In a loop of its own, so short that the processor waits for several at a time.
        for &hash in &self.ahead_hashes {
            self.ahead.extend(self.tree.candidate(hash));
        }
        for &node in &self.ahead {
            self.tree.prefetch_node(node);
        }
    }

    /// Asks for what the next deferred requests that may run will need.
    fn look_ahead_deferred(&mut self, conn: ConnId, frames: &Frames) {
        let client = self.clients.known(conn);
        let applied = client.writes_applied;
        let mut rest = frames.rest();
        self.ahead_hashes.clear();
        for (after, deferred) in client.deferred.iter().take(AHEAD) {
            let Deferred::Request { len, .. } = deferred else { break };
            let Some((frame, tail)) = rest.split_at_checked(*len as usize) else { break };
            if *after > applied {
                break;
            }
            rest = tail;
            if let Some(path) = requested_path(frame) {
                self.ahead_hashes.push(self.tree.hasher().path_bytes(path));
            }
        }
        if self.ahead_hashes.len() > 1 {
            self.ahead.clear();
            self.prefetch_candidates();
            self.tree.prefetch_data(self.ahead.drain(..));
        }
    }

    #[inline(always)]
    pub(super) fn request(&mut self, now: Now, conn: ConnId, frame: &[u8], effects: &mut Effects) {
        let mut r = Reader::new(frame);
        let Ok(header) = RequestHeader::decode_from(&mut r) else {
            return self.close(conn, CloseHow::Now, effects);
        };
        if !self.fits_large(frame.len()) {
            let why = format_args!("its large request exceeds largeRequestMaxBytes");
            self.complain(now, Complaint::TooLarge, self.who(conn), why);
            return self.close(conn, CloseHow::Now, effects);
        }
        let xid = header.xid;
        let op = match OpCode::from_code(header.op) {
            Some(
                OpCode::CreateSession | OpCode::Error | OpCode::Check | OpCode::DeleteContainer,
            )
            | None => return self.refuse_opcode(conn, xid, effects),
            Some(op) => op,
        };
        match op {
            OpCode::Auth => return self.auth_packet(now, conn, xid, &mut r, effects),
            OpCode::Sasl => return self.sasl_packet(now, conn, xid, &mut r, effects),
            _ => {}
        }
        let client = self.clients.known(conn);
        if !self.auth.is_enforced_ok(&client.identities) {
            let code = ErrorCode::SessionClosedRequireSaslAuth;
            return self.reply_and_close(conn, xid, Zxid::ZERO, code, effects);
        }
        if xid.0 > 0 {
            client.stats.last_cxid = i64::from(xid.0);
        }
        let (slot, timeout_ms) = (client.slot, client.timeout_ms);
        let claim = match (&mut self.leader, &mut self.learner, slot) {
            (Some(leader), _, Some(slot)) => leader.admit(slot, timeout_ms, now.mono),
            (None, Some(learner), _) => {
                learner.touch(client);
                Claim::Granted
            }
            _ => Claim::Gone,
        };
        match claim {
            Claim::Granted => {}
            // Dropped without a reply; the close of the session closes the connection.
            Claim::Gone => return,
            // COMPAT(3.x): its end may be asked for anywhere.
            Claim::Moved if op == OpCode::CloseSession => {}
            Claim::Moved => return self.refuse_moved(now, conn, op, xid, effects),
        }
        if op == OpCode::CloseSession {
            client.end_input();
        }
        if self.is_pipeline_full() {
            let identities = self.clients.known(conn).identities.clone();
            let (frame, received) = (frame.into(), now.mono);
            return self.line_up(conn, InLine::Request { op, xid, frame, received, identities });
        }
        self.dispatch(&Request { now, conn, op, xid, frame, asked: None }, effects);
    }

    /// Brings a request into the pipeline.
    #[inline(always)]
    pub(super) fn dispatch(&mut self, request: &Request<'_>, effects: &mut Effects) {
        match request.op {
            op if op.is_write() => self.write(request, effects),
            OpCode::CloseSession if self.learner.is_some() => self.forward(request, effects),
            OpCode::Sync if self.options.is_member => self.sync(request, effects),
            OpCode::CloseSession => {
                if let Some((session, _)) = request.who(&self.clients) {
                    let origin = Origin::Client(request.conn);
                    self.propose_close(request.now, session, origin, request.xid);
                }
            }
            _ => self.read_or_defer(request, effects),
        }
    }

    /// The client goes on with its session at another member: what it sent here comes too late.
    ///
    /// COMPAT(3.x): a write becomes an error transaction, and whatever it was, its connection is
    /// closed without a reply once what came before is answered. A client that read SESSIONMOVED
    /// could not tell that its newer connection is fine.
    pub(super) fn refuse_moved(
        &mut self,
        now: Now,
        conn: ConnId,
        op: OpCode,
        xid: Xid,
        effects: &mut Effects,
    ) {
        // A connection that is gone asks for nothing more.
        let Some(client) = self.clients.get_mut(conn) else { return };
        if !op.is_write() {
            return self.close_in_order(conn, effects);
        }
        client.end_input();
        let session = client.session;
        self.refuse(now, session, xid, op, Origin::Client(conn), ErrorCode::SessionMoved);
    }

    /// An unknown or disallowed opcode is answered and ends the connection.
    fn refuse_opcode(&mut self, conn: ConnId, xid: Xid, effects: &mut Effects) {
        self.reply_and_close(conn, xid, Zxid(-1), ErrorCode::Unimplemented, effects);
    }

    fn reply_and_close(
        &mut self,
        conn: ConnId,
        xid: Xid,
        zxid: Zxid,
        code: ErrorCode,
        effects: &mut Effects,
    ) {
        let mut reply = Vec::with_capacity(20);
        put_error_reply(&mut reply, xid, zxid, code);
        self.send_in_order(conn, reply, effects);
        self.close_in_order(conn, effects);
    }

    /// Sends a reply once everything before it on the connection is answered.
    pub(super) fn send_in_order(&mut self, conn: ConnId, reply: Vec<u8>, effects: &mut Effects) {
        // The connection of a request that is let in from the line may have gone.
        let Some(client) = self.clients.get_mut(conn) else { return };
        client.stats.sent += 1;
        self.stats.sent += 1;
        self.give_in_order(conn, Ready::Reply(reply.into()), effects);
    }

    fn close_in_order(&mut self, conn: ConnId, effects: &mut Effects) {
        self.clients.known(conn).end_input();
        self.give_in_order(conn, Ready::Close, effects);
    }

    /// Gives a connection what is ready for it, after all that it asked for before.
    fn give_in_order(&mut self, conn: ConnId, ready: Ready, effects: &mut Effects) {
        let client = self.clients.known(conn);
        if client.in_line > 0 && !self.limits.is_letting_in() {
            self.line_up(conn, InLine::Ready(ready));
        } else {
            self.defer_or_give(conn, ready, effects);
        }
    }

    /// Gives a connection what is ready for it, once its writes before it are applied.
    pub(super) fn defer_or_give(&mut self, conn: ConnId, ready: Ready, effects: &mut Effects) {
        if self.clients.known(conn).must_wait() {
            self.defer(conn, Deferred::Ready(ready));
        } else {
            self.give(conn, ready, effects);
        }
    }

    /// Gives a connection what is ready for it, whose turn it is.
    fn give(&mut self, conn: ConnId, ready: Ready, effects: &mut Effects) {
        self.owed.pay(conn, effects);
        match ready {
            Ready::Reply(reply) => effects.send(conn, |out| out.extend_from_slice(&reply)),
            Ready::Throttled(xid) => {
                let (zxid, code) = (self.tail.applied(), ErrorCode::ThrottledOp);
                effects.send(conn, |out| put_error_reply(out, xid, zxid, code));
            }
            Ready::Close => self.close(conn, CloseHow::AfterFlush, effects),
        }
    }

    fn auth_packet(
        &mut self,
        now: Now,
        conn: ConnId,
        xid: Xid,
        r: &mut Reader<'_>,
        effects: &mut Effects,
    ) {
        let Ok(packet) = AuthPacket::decode_from(r) else {
            return self.close(conn, CloseHow::Now, effects);
        };
        let client = self.clients.known(conn);
        let outcome = self.auth.add_auth(
            &client.identities,
            client.peer.ip(),
            packet.scheme.as_deref(),
            packet.auth,
        );
        self.fair.spent += AUTH_COST + self.auth.take_cost();
        match outcome {
            AuthOutcome::Added(identities) => {
                client.identify(identities);
                let mut reply = Vec::with_capacity(20);
                put_error_reply(&mut reply, xid, Zxid::ZERO, ErrorCode::Ok);
                self.send_in_order(conn, reply, effects);
            }
            AuthOutcome::Failed => {
                self.stats.auth_failed += 1;
                let scheme = packet.scheme.as_deref().unwrap_or_default();
                let why = format_args!("by the scheme {scheme:?}");
                self.complain(now, Complaint::NotAuthentic, self.who(conn), why);
                self.reply_and_close(conn, xid, Zxid::ZERO, ErrorCode::AuthFailed, effects);
            }
            AuthOutcome::CloseSilently => self.close(conn, CloseHow::Now, effects),
        }
    }

    fn sasl_packet(
        &mut self,
        now: Now,
        conn: ConnId,
        xid: Xid,
        r: &mut Reader<'_>,
        effects: &mut Effects,
    ) {
        // COMPAT(3.9): a null token is a null pointer in Apache and ends the connection.
        let Ok(Some(token)) = r.buffer("sasl token") else {
            return self.close(conn, CloseHow::Now, effects);
        };
        let client = self.clients.known(conn);
        self.fair.spent += SASL_COST;
        let identities = client.identities.clone();
        let sasl = client.sasl.get_or_insert_with(|| Box::new(self.auth.sasl_begin()));
        let rng = &mut self.rng;
        let mut nonce = |bytes: &mut [u8; 30]| rng.fill(bytes);
        let (code, answer) = match sasl.step(&self.auth, &identities, token, &mut nonce) {
            SaslOutcome::Continue(answer) => (ErrorCode::Ok, Some(answer)),
            SaslOutcome::Done { token, ids } => {
                client.identify(ids);
                (ErrorCode::Ok, Some(token))
            }
            SaslOutcome::NotConfigured => (ErrorCode::Ok, None),
            SaslOutcome::Failed { close_with, reason } => {
                let why = format_args!("by SASL: {reason}");
                self.complain(now, Complaint::NotAuthentic, self.who(conn), why);
                (close_with.unwrap_or(ErrorCode::Ok), None)
            }
        };
        let mut reply = Vec::new();
        let start = begin_reply(&mut reply, xid, Zxid::ZERO, code.code());
        put_buffer(&mut reply, answer.as_deref());
        end_frame(&mut reply, start);
        self.send_in_order(conn, reply, effects);
        if code != ErrorCode::Ok {
            self.stats.auth_failed += 1;
            self.close_in_order(conn, effects);
        }
    }

    #[inline(always)]
    pub(super) fn read_or_defer(&mut self, request: &Request<'_>, effects: &mut Effects) {
        // The connection of a request that is let in from the line may have gone. A write is done
        // all the same; a read has nobody to answer.
        let Some(client) = self.clients.get(request.conn) else { return };
        if client.must_wait() {
            return self.defer_request(request);
        }
        self.read(request, 0, effects);
    }

    /// Executes anything that is not a write, now.
    fn read(&mut self, request: &Request<'_>, waited_us: u64, effects: &mut Effects) {
        let Request { now, conn, op, xid, .. } = *request;
        if ReadContext::is_divided(op) {
            return self.begin_long(request, waited_us, effects);
        }
        let client = self.clients.known(conn);
        self.owed.pay(conn, effects);
        let before = effects.bytes.len();
        let mut cost = READ_COST + bytes_cost(request.frame.len());
        if op == OpCode::Ping {
            let zxid = self.tail.applied();
            effects.send(conn, |out| put_error_reply(out, Xid(XID_PING), zxid, ErrorCode::Ok));
        } else {
            let mut context = ReadContext {
                tree: &self.tree,
                watches: &mut self.watches,
                auth: &self.auth,
                conn,
                session: client.session,
                identities: request.asked.map_or(&client.identities, |(_, as_whom)| as_whom),
                zxid: self.tail.applied(),
                bytes_read: &mut self.stats.bytes_read,
                cost: 0,
                limit: self.fair.part(),
            };
            let mut is_done = true;
            effects.send(conn, |out| is_done = context.execute(op, xid, request.body(), out));
            let looked = context.cost + self.auth.take_cost();
            cost += looked;
            if !is_done {
                self.fair.spent += looked;
                return self.begin_long(request, waited_us, effects);
            }
        }
        if op != OpCode::Ping {
            self.stats.responded((effects.bytes.len() - before).saturating_sub(4));
        }
        self.fair.spent += cost + bytes_cost(effects.bytes.len() - before);
        self.answered_read(now, conn, op, waited_us, effects.bytes.len() - before, effects);
    }

    /// A read was answered with `bytes` bytes.
    #[inline(always)]
    pub(super) fn answered_read(
        &mut self,
        now: Now,
        conn: ConnId,
        op: OpCode,
        waited_us: u64,
        bytes: usize,
        effects: &mut Effects,
    ) {
        self.stats.sent += 1;
        self.stats.read_answered(op, waited_us);
        let zxid = self.tail.applied().0;
        let client = self.clients.known(conn);
        client.stats.sent += 1;
        client.stats.answered(op, waited_us / 1000, now.mono, zxid);
        choke(client, bytes, effects);
    }

    /// Runs what waited for a connection's own writes, as far as it may and until the work has come
    /// to `stop_at`.
    ///
    /// `is_urgent`: a write of a choked connection is to be applied next. What came before it must
    /// not see it, and is answered in spite of the ration. [`DEFERRED_MAX`] bounds how many that
    /// are, and a connection for which even those make too many bytes is closed.
    ///
    /// [`DEFERRED_MAX`]: super::client::DEFERRED_MAX
    pub(super) fn run_deferred(
        &mut self,
        now: Now,
        conn: ConnId,
        is_urgent: bool,
        stop_at: u64,
        effects: &mut Effects,
    ) {
        let client = self.clients.known(conn);
        if !client.owes_earlier() {
            return;
        }
        let begun = self.fair.spent;
        let mut frames = std::mem::take(&mut client.frames);
        self.look_ahead_deferred(conn, &frames);
        self.run_frames(now, conn, is_urgent, stop_at, &mut frames, effects);
        if let Some(client) = self.clients.get_mut(conn) {
            client.credit -= (self.fair.spent - begun) as i64;
            frames.tidy();
            client.frames = frames;
        }
    }

    fn run_frames(
        &mut self,
        now: Now,
        conn: ConnId,
        is_urgent: bool,
        stop_at: u64,
        frames: &mut Frames,
        effects: &mut Effects,
    ) {
        loop {
            // What it got last may have been its end.
            let Some(client) = self.clients.get_mut(conn) else { return };
            let is_choked = client.is_choked() && !is_urgent;
            if !client.owes_earlier() || is_choked || self.fair.spent >= stop_at {
                return;
            }
            self.fair.spent += FRAME_COST;
            if client.owed_bytes > URGENT_BYTES_MAX {
                let why = format_args!(
                    "the answers that it is owed before its next write exceed {URGENT_BYTES_MAX} \
                     bytes"
                );
                self.complain(now, Complaint::TooMuchOwed, self.who(conn), why);
                return self.close(conn, CloseHow::Now, effects);
            }
            if client.long.is_some() {
                self.go_on_long(now, conn, effects);
                continue;
            }
            let session = client.session;
            let next = client.deferred.pop_front();
            invariant!(next.is_some(), "{conn:?} owes work, and none is there");
            let Some((_, deferred)) = next else { unreachable!("just asserted") };
            client.waiting_bytes -= deferred.size();
            client.heavy -= u32::from(deferred.is_heavy());
            self.deferred_total -= 1;
            self.release_large(deferred.request_len());
            match deferred {
                Deferred::Request { op, xid, len, received, identities, .. } => {
                    let frame = frames.pop(len as usize);
                    let waited_us = now.mono.since(received).as_micros() as u64;
                    let asked = identities.as_ref().map(|as_whom| (session, as_whom));
                    self.read(&Request { now, conn, op, xid, frame, asked }, waited_us, effects);
                }
                Deferred::Ready(ready) => self.give(conn, ready, effects),
            }
        }
    }
}

/// Counts bytes of a reply to a read: the connection may have to take them before it gets more.
#[inline(always)]
pub(super) fn choke(client: &mut Client, bytes: usize, effects: &mut Effects) {
    if client.is_choked_by(bytes) {
        effects.list.push(Effect::AwaitDrain { conn: client.conn });
    }
}
