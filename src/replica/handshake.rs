//! Connections coming and going, sessions beginning and ending.
//!
//! Corresponds to `ZooKeeperServer.processConnectRequest`, `finishSessionInit`, `reopenSession` and
//! the session half of `PrepRequestProcessor`.

use std::net::SocketAddr;

use crate::base::{ConnId, Mark, Now, SessionId, Xid, mark};
use crate::session::Owner;
use crate::wire::{ConnectRequest, ConnectResponse, OpCode, session_password};

use super::client::Client;
use super::core::Replica;
use super::effects::{CloseHow, Effect, Effects};
use super::fair::{CLOSE_NODE_COST, CONNECT_COST, WRITE_COST};
use super::leading::leading;
use super::messages::Complaint;
use super::tail::Origin;

impl Replica {
    pub(super) fn opened(&mut self, now: Now, conn: ConnId, peer: SocketAddr) {
        let identities = self.auth.initial(peer.ip());
        let mut client = Client::new(now, conn, peer, identities);
        // It has waited for nothing yet: in its first turn it stands in the queue. Otherwise one
        // that leaves and comes back would have a full share each time.
        client.credit_turn = self.turn;
        self.clients.insert(client);
    }

    /// The connection is gone; its session lives on until it expires.
    pub(super) fn forget(&mut self, conn: ConnId) {
        // The front tells of an end that this side may have brought about meanwhile.
        let Some(client) = self.clients.remove(conn) else { return };
        self.forget_deferred(&client);
        self.owed.forget(conn);
        self.watches.drop_conn(conn);
        if client.session.0 != 0 && self.session_conns.get(&client.session) == Some(&conn) {
            self.session_conns.remove(&client.session);
        }
    }

    /// Closes from this side.
    pub(super) fn close(&mut self, conn: ConnId, how: CloseHow, effects: &mut Effects) {
        self.owed.pay(conn, effects);
        self.forget(conn);
        effects.close(conn, how);
    }

    /// The first frame of a connection. Refusals are silent closes, except
    /// for a session that is not valid.
    pub(super) fn connect(&mut self, now: Now, conn: ConnId, frame: &[u8], effects: &mut Effects) {
        self.stats.connection_requests += 1;
        self.fair.spent += CONNECT_COST;
        let Ok(request) = ConnectRequest::decode(frame) else {
            let why = format_args!(
                "it does not begin with a ConnectRequest as ZooKeeper clients do; a port scan, a \
                 health check, or TLS on a port without TLS looks like this"
            );
            self.complain(now, Complaint::NoClient, self.who(conn), why);
            return self.close(conn, CloseHow::Now, effects);
        };
        if self.leader.is_some() && !self.options.leader_serves {
            // It finds another member.
            return self.close(conn, CloseHow::Now, effects);
        }
        if !self.admits_connect(now, request.session.0 != 0) {
            log::debug!("closing the connection of {}: too many new sessions", self.who(conn));
            return self.close(conn, CloseHow::Now, effects);
        }
        if request.last_zxid_seen > self.tail.applied() {
            mark(Mark::ClientAhead);
            let (seen, applied) = (request.last_zxid_seen, self.tail.applied());
            let why = format_args!(
                "it has seen zxid 0x{seen}, and the last transaction here is 0x{applied}; if this \
                 is the only server, its data directory was emptied or replaced by an older one: \
                 bring the newer one back, or restart these clients so that they begin anew"
            );
            self.complain(now, Complaint::Ahead, self.who(conn).asking_for(request.session), why);
            return self.close(conn, CloseHow::Now, effects);
        }
        let timeout_ms = request
            .timeout_ms
            .clamp(self.options.min_session_timeout_ms, self.options.max_session_timeout_ms);
        let client = self.clients.known(conn);
        client.timeout_ms = timeout_ms;
        client.wants_read_only = request.read_only.is_some();
        if request.session.0 == 0 {
            self.create_session(now, conn, timeout_ms, effects);
        } else {
            self.reconnect(now, conn, timeout_ms, &request, frame, effects);
        }
    }

    fn create_session(&mut self, now: Now, conn: ConnId, timeout_ms: i32, effects: &mut Effects) {
        let client = self.clients.known(conn);
        if self.learner.is_some() {
            let exists = |id| self.committed_sessions.contains_key(&id);
            let session = self.session_ids.next(exists);
            client.begin_session(session, None);
            self.session_conns.insert(session, conn);
            return self.forward_session(now, conn, session, timeout_ms, effects);
        }
        let leader = leading(&mut self.leader);
        let session = self.session_ids.next(|id| leader.find(id).is_some());
        let (slot, proposed) = leader.create_session(now, session, Xid(0), timeout_ms, Owner::Here);
        leader.set_peer(slot, client.peer);
        client.begin_session(session, Some(slot));
        self.session_conns.insert(session, conn);
        self.proposed(now, proposed, Origin::Client(conn), Xid(0), OpCode::CreateSession);
    }

    fn reconnect(
        &mut self,
        now: Now,
        conn: ConnId,
        timeout_ms: i32,
        request: &ConnectRequest<'_>,
        frame: &[u8],
        effects: &mut Effects,
    ) {
        self.stats.revalidated += 1;
        let session = request.session;
        // Before the password is looked at, as in Apache: a wrong one still disconnects the
        // rightful connection.
        if let Some(old) = self.session_conns.get(&session).copied() {
            mark(Mark::SessionReconnected);
            self.close(old, CloseHow::Now, effects);
        }
        let valid = request.password == session_password(session);
        if self.learner.is_some() && valid {
            return self.ask_about(conn, session, timeout_ms, frame, effects);
        }
        let slot = match (&mut self.leader, valid) {
            (Some(leader), true) => leader.revalidate(now, session, timeout_ms, Owner::Here),
            _ => None,
        };
        let Some(slot) = slot else {
            return self.refuse_session(now, conn, session, effects);
        };
        self.session_conns.insert(session, conn);
        let client = self.clients.known(conn);
        client.begin_session(session, Some(slot));
        leading(&mut self.leader).set_peer(slot, client.peer);
        self.established(conn, effects);
    }

    /// Answers a ConnectRequest for a session that is not valid.
    pub(super) fn refuse_session(
        &mut self,
        now: Now,
        conn: ConnId,
        session: SessionId,
        effects: &mut Effects,
    ) {
        mark(Mark::SessionRefused);
        let why = format_args!(
            "this session is unknown here or has expired, or the password is wrong; the client has \
             to begin a new one"
        );
        self.complain(now, Complaint::NoSuchSession, self.who(conn).asking_for(session), why);
        let read_only = self.clients.known(conn).wants_read_only.then_some(false);
        effects.send(conn, |out| ConnectResponse::refused(read_only).encode_frame_into(out));
        self.close(conn, CloseHow::AfterFlush, effects);
    }

    /// Answers the ConnectRequest: the session is usable.
    pub(super) fn established(&mut self, conn: ConnId, effects: &mut Effects) {
        let known = self.tail.last();
        let client = self.clients.known(conn);
        client.since = known;
        client.established();
        client.stats.sent += 1;
        self.stats.sent += 1;
        let response = ConnectResponse {
            timeout_ms: client.timeout_ms,
            session: client.session,
            password: session_password(client.session),
            read_only: client.wants_read_only.then_some(false),
        };
        effects.send(conn, |out| response.encode_frame_into(out));
        let ConnectResponse { session, timeout_ms, .. } = response;
        effects.list.push(Effect::Established { conn, session, timeout_ms });
    }

    /// Proposes the end of a session, asked for by its client or by the clock.
    pub(super) fn propose_close(&mut self, now: Now, session: SessionId, origin: Origin, xid: Xid) {
        let (leader, view) = self.judge();
        let (proposed, nodes) = leader.close_session(now, view, session, xid);
        self.fair.spent += WRITE_COST + CLOSE_NODE_COST * nodes as u64;
        self.proposed(now, proposed, origin, xid, OpCode::CloseSession);
    }

    /// Proposes the removal of a container or TTL node that is due.
    pub(super) fn propose_delete_container(&mut self, now: Now, path: &str) {
        let (leader, view) = self.judge();
        let proposed = leader.delete_container(now, view, path);
        self.proposed(now, proposed, Origin::Server, Xid(0), OpCode::DeleteContainer);
    }
}
