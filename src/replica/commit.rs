//! Applying what is durable: tree, watch events, replies, in zxid order.
//!
//! Corresponds to `FinalRequestProcessor` for writes. Events caused by a transaction are queued
//! before its reply, and before anything that later reads it.

use std::sync::Arc;

use crate::auth::Auth;
use crate::base::{ConnId, Now, PathHasher, SessionId, Zxid};
use crate::pipeline::Slot;
use crate::tree::{AclTable, ApplyMode, ApplySink, Change, ChangeKind, OpResult};
use crate::watch::{self, Watches};
use crate::wire::{
    ErrorCode, EventType, Perms, Reader, Txn, TxnHeader, TxnType, begin_reply, end_frame, put_i32,
    put_multi_end, put_multi_error, put_multi_header, put_notification, put_str,
};

use super::client::Clients;
use super::core::{Proposal, Replica};
use super::effects::{CloseHow, Effect, Effects};
use super::stats::ServerStats;

/// Transactions whose nodes are fetched together.
const AHEAD: usize = 8;

/// Turns what a transaction changed into notifications and a reply body.
struct Deliver<'a> {
    watches: &'a mut Watches,
    clients: &'a mut Clients,
    auth: &'a Auth,
    stats: &'a mut ServerStats,
    fx: &'a mut Effects,
    hasher: PathHasher,
    zxid: Zxid,
    in_multi: bool,
    reply: &'a mut Vec<u8>,
}

impl ApplySink for Deliver<'_> {
    fn change(&mut self, acls: &AclTable, change: Change<'_>) {
        let (clients, auth, fx) = (&mut *self.clients, self.auth, &mut *self.fx);
        let (zxid, stats) = (self.zxid, &mut *self.stats);
        let kind = match change.kind {
            ChangeKind::Created => watch::Change::Created,
            ChangeKind::Deleted => watch::Change::Deleted,
            ChangeKind::DataChanged => watch::Change::DataChanged,
        };
        let written = change.key.path.len() + change.bytes;
        stats.bytes_written.record(change.key.path, written as u64);
        let mut fired = [0; 4];
        self.watches.fire(kind, &change.key, &self.hasher, &mut |conn, event, path| {
            let Some(client) = clients.get_mut(conn) else { return };
            fired[event as usize - 1] += 1;
            let acl = match event {
                EventType::NodeChildrenChanged => change.parent_acl,
                _ => change.acl,
            };
            if auth.allows(acls.bytes(acl), Perms::READ, &client.identities) {
                client.stats.sent += 1;
                let before = fx.bytes.len();
                fx.send(conn, |out| put_notification(out, zxid, event, path));
                stats.notified((fx.bytes.len() - before).saturating_sub(4));
            }
        });
        for (summary, count) in stats.fired.iter_mut().zip(fired) {
            if count > 0 {
                summary.record(count);
            }
        }
    }

    fn result(&mut self, result: OpResult<'_>) {
        let out = &mut *self.reply;
        if !self.in_multi {
            match result.kind {
                TxnType::Create => put_str(out, result.path),
                TxnType::Create2 | TxnType::CreateContainer | TxnType::CreateTtl => {
                    put_str(out, result.path);
                    put_stat(out, &result);
                }
                TxnType::SetData | TxnType::SetAcl => put_stat(out, &result),
                _ => {}
            }
            return;
        }
        if result.kind == TxnType::Error {
            return put_multi_error(out, result.err);
        }
        match result.kind {
            TxnType::Create => {
                put_multi_header(out, 1);
                put_str(out, result.path);
            }
            TxnType::Create2 | TxnType::CreateContainer | TxnType::CreateTtl => {
                put_multi_header(out, 15);
                put_str(out, result.path);
                put_stat(out, &result);
            }
            TxnType::SetData => {
                put_multi_header(out, 5);
                put_stat(out, &result);
            }
            kind => put_multi_header(out, kind as i32),
        }
    }
}

fn put_stat(out: &mut Vec<u8>, result: &OpResult<'_>) {
    if let Some(stat) = &result.stat {
        stat.encode_into(out);
    }
}

impl Replica {
    pub(super) fn synced(&mut self, now: Now, zxid: Zxid, fx: &mut Effects) {
        while let Some(batch) = self.unsynced.front() {
            let batch = Arc::clone(batch);
            for (at, entry) in batch.iter().skip(self.applied_in_front) {
                if at > zxid {
                    return self.make_room(now, fx);
                }
                if self.applied_in_front.is_multiple_of(AHEAD) {
                    self.look_ahead();
                }
                self.applied_in_front += 1;
                if let Err(reason) = self.apply(now, at, entry, fx) {
                    fx.list.push(Effect::Fatal(format!("applying {at:?}: {reason}")));
                    return;
                }
            }
            self.unsynced.pop_front();
            self.applied_in_front = 0;
        }
        self.make_room(now, fx);
    }

    /// Asks for the nodes of the next transactions at once instead of one after the other.
    fn look_ahead(&mut self) {
        self.ahead.clear();
        let next = self.proposals.iter().take(AHEAD);
        self.ahead.extend(next.filter_map(|proposal| proposal.hint.map(|hint| hint.node)));
        self.tree.touch(&self.ahead);
    }

    fn apply(
        &mut self,
        now: Now,
        zxid: Zxid,
        entry: &[u8],
        fx: &mut Effects,
    ) -> Result<(), String> {
        let proposal = self.proposals.pop_front().ok_or("no proposal for it")?;
        if proposal.zxid != zxid {
            return Err(format!("the next proposal is {:?}", proposal.zxid));
        }
        if let Some(conn) = proposal.conn {
            self.answer_earlier(now, conn, fx);
        }
        let mut r = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut r).map_err(|e| e.to_string())?;
        let txn = Txn::decode_from(header.kind, &mut r).map_err(|e| e.to_string())?;
        self.result.clear();
        let mut sink = Deliver {
            hasher: self.tree.hasher(),
            watches: &mut self.watches,
            clients: &mut self.clients,
            auth: &self.auth,
            stats: &mut self.stats,
            fx,
            zxid,
            in_multi: header.kind == TxnType::Multi,
            reply: &mut self.result,
        };
        match (&txn, proposal.hint) {
            (Txn::SetData(set), Some(hint)) => {
                self.tree.apply_set_data_at(&header, set, hint, &mut sink);
            }
            (Txn::Create(create), Some(hint)) => {
                self.tree.apply_create_at(&header, create, hint, &mut sink);
            }
            _ => self.tree.apply(&header, &txn, ApplyMode::Live, &mut sink),
        }
        self.applied = zxid;
        self.snapshot.logged(entry.len() as u64);
        self.release(&proposal);
        self.answer(now, &header, &txn, &proposal, fx);
        if let Some(conn) = proposal.conn {
            self.drain_deferred(now, conn, fx);
        }
        Ok(())
    }

    fn release(&mut self, proposal: &Proposal) {
        for slot in proposal.touched {
            if slot != Slot::MAX {
                self.pending.release(slot, proposal.zxid);
            }
        }
        for &slot in proposal.more_touched.iter().flatten() {
            self.pending.release(slot, proposal.zxid);
        }
    }

    fn session_created(
        &mut self,
        now: Now,
        session: SessionId,
        timeout_ms: i32,
        conn: Option<ConnId>,
        proposal: &Proposal,
        fx: &mut Effects,
    ) {
        self.committed_sessions.insert(session, timeout_ms);
        let Some(conn) = conn else { return };
        self.update_answered(now, conn, proposal, 0);
        // The client counts from the answer on, which a slow disk may have held up.
        if let Some(slot) = self.sessions.get(session) {
            self.sessions.touch(slot, timeout_ms, now.mono);
        }
        self.established(conn, fx);
    }

    /// A closeSession is applied. Returns whether that was all: a connection whose session expired
    /// is closed without a word.
    fn session_closed(
        &mut self,
        session: SessionId,
        conn: Option<ConnId>,
        fx: &mut Effects,
    ) -> bool {
        self.committed_sessions.remove(&session);
        self.pending.forget_session(session);
        self.sessions.remove(session);
        match self.session_conns.get(&session).copied() {
            Some(bound) if conn.is_none() => {
                self.close(bound, CloseHow::AfterFlush, fx);
                true
            }
            _ => false,
        }
    }

    fn answer(
        &mut self,
        now: Now,
        header: &TxnHeader,
        txn: &Txn<'_>,
        proposal: &Proposal,
        fx: &mut Effects,
    ) {
        let conn = proposal.conn.filter(|&conn| match self.clients.get_mut(conn) {
            Some(client) => {
                client.writes_applied += 1;
                true
            }
            None => false,
        });
        match *txn {
            Txn::CreateSession { timeout_ms } => {
                return self.session_created(now, header.session, timeout_ms, conn, proposal, fx);
            }
            Txn::CloseSession(_) if self.session_closed(header.session, conn, fx) => return,
            _ => {}
        }
        let Some(conn) = conn else { return };
        let err = match *txn {
            Txn::Error { err } => err,
            _ => 0,
        };
        let is_multi = matches!(txn, Txn::Multi(_));
        let result = &self.result;
        let before = fx.bytes.len();
        let encode = |out: &mut Vec<u8>| {
            let start = begin_reply(out, proposal.xid, proposal.zxid, ErrorCode::Ok);
            if err != 0 {
                let at = out.len();
                out.truncate(at - 4);
                put_i32(out, err);
            } else {
                out.extend_from_slice(result);
                if is_multi {
                    put_multi_end(out);
                }
            }
            end_frame(out, start);
        };
        fx.send(conn, encode);
        self.stats.responded((fx.bytes.len() - before).saturating_sub(4));
        self.stats.sent += 1;
        if let Some(client) = self.clients.get_mut(conn) {
            client.stats.sent += 1;
        }
        self.update_answered(now, conn, proposal, err);
        if matches!(txn, Txn::CloseSession(_)) {
            self.close(conn, CloseHow::AfterFlush, fx);
        }
    }

    /// Counts an answered transaction; one that failed leaves no trace as the last operation.
    fn update_answered(&mut self, now: Now, conn: ConnId, proposal: &Proposal, err: i32) {
        let latency_us = now.mono.since(proposal.received).as_micros() as u64;
        self.stats.update_answered(proposal.op, latency_us);
        let Some(client) = self.clients.get_mut(conn) else { return };
        client.stats.answered(proposal.op, latency_us / 1000, now.mono, proposal.zxid.0);
        if err != 0 {
            client.stats.last_op = None;
        }
    }
}
