//! Applying what is committed: tree, watch events, replies, in zxid order.
//!
//! Corresponds to `FinalRequestProcessor` for writes. Events caused by a transaction are queued
//! before its reply, and before anything that later reads it.

use std::ops::Range;

use crate::auth::Auth;
use crate::base::{Mark, Mutation, Now, PathHasher, PathKey, SessionId, Zxid, is_mutated, mark};
use crate::leader::Prepared;
use crate::pipeline::bytes_cost;
use crate::tree::{AclTable, ApplyMode, ApplySink, Change, ChangeKind, NodeId, OpResult};
use crate::watch::{self, Watches};
use crate::wire::{
    ErrorCode, EventType, Perms, Reader, SetDataTxn, SubTxn, Txn, TxnDigest, TxnHeader, TxnType,
    begin_reply, end_frame, leading_path_of_txn, put_multi_end, put_multi_error, put_multi_header,
    put_notification, put_stat_reply, put_str,
};

use super::client::{Client, Clients, Stage};
use super::core::Replica;
use super::effects::{CloseHow, Effect, Effects};
use super::fair::{APPLY_COST, EVENT_COST, Fair, SEND_COST};
use super::owed::Owed;
use super::request::AHEAD;
use super::stats::ServerStats;
use super::tail::{Entry, Origin};

/// Turns what a transaction changed into notifications and a reply body.
struct Deliver<'a> {
    watches: &'a mut Watches,
    clients: &'a mut Clients,
    auth: &'a Auth,
    stats: &'a mut ServerStats,
    effects: &'a mut Effects,
    owed: &'a mut Owed,
    fair: &'a mut Fair,
    hasher: PathHasher,
    zxid: Zxid,
    turn: u64,
    /// What watches that fired cost, of which `later` is due when their events are sent.
    events: u64,
    later: u64,
    in_multi: bool,
    reply: &'a mut Vec<u8>,
}

impl ApplySink for Deliver<'_> {
    fn change(&mut self, acls: &AclTable, change: Change<'_>) {
        let (clients, auth, effects) = (&mut *self.clients, self.auth, &mut *self.effects);
        let (zxid, stats, turn) = (self.zxid, &mut *self.stats, self.turn);
        let (owed, fair) = (&mut *self.owed, &mut *self.fair);
        let (mut cost, mut later) = (0, 0);
        let kind = match change.kind {
            ChangeKind::Created => watch::Change::Created,
            ChangeKind::Deleted => watch::Change::Deleted,
            ChangeKind::DataChanged => watch::Change::DataChanged,
        };
        let written = change.path.len() + change.bytes;
        stats.bytes_written.record(change.path, written as u64);
        if self.watches.is_empty() {
            return;
        }
        // Nobody can watch a path that is no text; a log of Apache's could hold one.
        let Ok(path) = str::from_utf8(change.path) else { return };
        let key = PathKey { path, hash: change.hash };
        let mut fired = [0; 4];
        self.watches.fire(kind, &key, &self.hasher, &mut |conn, event, path| {
            // Watches go with their connection.
            let client = clients.known(conn);
            fired[event as usize - 1] += 1;
            let acl = match event {
                EventType::NodeChildrenChanged => change.parent_acl,
                _ => change.acl,
            };
            if auth.allows(acls.bytes(acl), acls.serial(acl), Perms::READ, &client.identities) {
                client.stats.sent += 1;
                let write = |out: &mut Vec<u8>| put_notification(out, zxid, event, path);
                let is_first = client.told_turn != turn;
                cost += if is_first { SEND_COST } else { 0 };
                if owed.has(conn) || is_first && !fair.takes_event() {
                    later += if is_first { SEND_COST } else { 0 };
                    stats.notified(owed.add(conn, write).saturating_sub(4));
                } else {
                    client.told_turn = turn;
                    let before = effects.bytes.len();
                    effects.send(conn, write);
                    stats.notified((effects.bytes.len() - before).saturating_sub(4));
                }
            }
        });
        self.later += later;
        self.events += cost;
        for (summary, count) in stats.fired.iter_mut().zip(fired) {
            if count > 0 {
                self.events += EVENT_COST * count;
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
                TxnType::Delete
                | TxnType::DeleteContainer
                | TxnType::CreateSession
                | TxnType::CloseSession
                | TxnType::Check
                | TxnType::Multi
                | TxnType::Reconfig
                | TxnType::Error => {}
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
    /// Applies what is committed, as far as the turn's budget goes; `Input::Tick` goes on.
    pub(super) fn apply_committed(&mut self, now: Now, effects: &mut Effects) {
        let begun = self.fair.spent;
        let stop_at = self.fair.apply_stop();
        self.begin_look_ahead();
        let mut applied = 0_usize;
        while self.fair.spent < stop_at
            && let Some((batch, mut place)) = self.tail.front_batch()
        {
            while let Some((at, entry)) = batch.get(place) {
                if at > self.tail.committed() || !self.may_apply(now, stop_at, effects) {
                    self.fair.charge_apply(begun);
                    self.answer_syncs(now, effects);
                    return self.make_room(now, effects);
                }
                if applied.is_multiple_of(AHEAD) {
                    self.look_ahead();
                }
                applied += 1;
                place += 1;
                if let Err(reason) = self.apply(now, at, entry, stop_at, effects) {
                    effects.list.push(Effect::Fatal(format!("applying {at:?}: {reason}")));
                    return;
                }
            }
            drop(batch);
            if let (Some(batch), Some(leader)) = (self.tail.pop_applied(), &mut self.leader) {
                leader.give_back(batch);
            }
        }
        self.fair.charge_apply(begun);
        self.answer_syncs(now, effects);
        self.make_room(now, effects);
    }

    /// Whether the next transaction may be applied in this turn: there is budget, and what its
    /// connection asked for before it is answered.
    fn may_apply(&mut self, now: Now, stop_at: u64, effects: &mut Effects) -> bool {
        if self.fair.spent >= stop_at || self.owed.is_much() {
            return false;
        }
        // No client of this server asked for it.
        let Some(conn) = self.tail.front().and_then(|next| next.origin.conn()) else { return true };
        if !self.clients.get(conn).is_some_and(Client::owes_earlier) {
            return true;
        }
        self.run_deferred(now, conn, true, stop_at, effects);
        !self.clients.get(conn).is_some_and(Client::owes_earlier)
    }

    /// Asks for the nodes of the next transactions, for [`Replica::look_ahead`] to go on from.
    fn begin_look_ahead(&mut self) {
        if self.leader.is_none() {
            return;
        }
        self.prefetch_nodes(0..2 * AHEAD);
        self.prefetch_data(0..AHEAD);
    }

    /// Asks for what coming transactions will need: names and data of the nodes that were asked for
    /// a while ago, and the nodes of the transactions after those.
    fn look_ahead(&mut self) {
        if self.leader.is_none() {
            return self.look_ahead_in_tail();
        }
        self.prefetch_data(AHEAD..2 * AHEAD);
        self.prefetch_nodes(2 * AHEAD..3 * AHEAD);
    }

    /// The same where nobody has prepared the transactions: their paths are looked up.
    fn look_ahead_in_tail(&mut self) {
        self.ahead_hashes.clear();
        for (_, entry) in self.tail.next(AHEAD) {
            if let Some(path) = leading_path_of_txn(entry) {
                self.ahead_hashes.push(self.tree.hasher().path_bytes(path));
            }
        }
        // What a lone transaction needs is waited for anyhow.
        if self.ahead_hashes.len() > 1 {
            self.tree.touch_paths(&self.ahead_hashes);
        }
    }

    fn prefetch_nodes(&self, places: Range<usize>) {
        self.hinted(places).for_each(|node| self.tree.prefetch_node(node));
    }

    fn prefetch_data(&self, places: Range<usize>) {
        self.tree.prefetch_data(self.hinted(places));
    }

    /// The nodes that the next transactions are about, as far as they are known.
    fn hinted(&self, places: Range<usize>) -> impl Iterator<Item = NodeId> {
        self.leader.iter().flat_map(move |leader| leader.hinted(places.clone()))
    }

    /// Asks for all nodes of a multi at once.
    fn fetch_touched(&mut self, prepared: &Prepared) {
        // Nothing is known of the nodes of what another server prepared.
        let Some(leader) = &self.leader else { return };
        self.ahead_hashes.clear();
        leader.hashes_of(prepared, &mut self.ahead_hashes);
        self.tree.touch_paths(&self.ahead_hashes);
    }

    fn apply(
        &mut self,
        now: Now,
        zxid: Zxid,
        entry: &[u8],
        stop_at: u64,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let mut proposal = self.tail.begin_apply(zxid);
        let prepared = match &mut self.leader {
            Some(leader) => leader.begin_apply(zxid),
            None => Prepared::UNKNOWN,
        };
        let mode = self.mode(&proposal);
        let mut r = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut r).map_err(|e| e.to_string())?;
        self.result.clear();
        if header.kind == TxnType::Multi {
            self.fetch_touched(&prepared);
        }
        let mut sink = Deliver {
            hasher: self.tree.hasher(),
            watches: &mut self.watches,
            clients: &mut self.clients,
            auth: &self.auth,
            stats: &mut self.stats,
            effects,
            owed: &mut self.owed,
            fair: &mut self.fair,
            zxid,
            turn: self.turn,
            events: 0,
            later: 0,
            in_multi: header.kind == TxnType::Multi,
            reply: &mut self.result,
        };
        let is_owed_more = if header.kind == TxnType::SetData && prepared.hint.is_some() {
            let set = SetDataTxn::decode_known(&mut r).map_err(|e| e.to_string())?;
            // The stat is not made part of anything: moved, it would be read in other pieces than
            // it was stored in, and waited for.
            let stat = self.tree.apply_set_data_at(&header, &set, prepared.hint, &mut sink);
            let events = (sink.events, sink.later);
            self.settle(1, entry.len(), events, &mut proposal, &prepared);
            self.answer(now, 0, &proposal, effects, |out| {
                put_stat_reply(out, proposal.xid, proposal.zxid, &stat);
            })
        } else {
            let txn = Txn::decode_from(header.kind, &mut r).map_err(|e| e.to_string())?;
            match &txn {
                Txn::Create(create) if prepared.hint.is_some() => {
                    self.tree.apply_create_at(&header, create, prepared.hint, &mut sink);
                }
                _ => self.tree.apply(&header, &txn, mode, &mut sink),
            }
            let (count, events) = (operations(&txn, &prepared), (sink.events, sink.later));
            if self.leader.is_none() {
                let stated = TxnDigest::decode_trailing(&mut r).map_err(|e| e.to_string())?;
                self.check.applied(&header, stated, &self.tree);
            }
            self.settle(count, entry.len(), events, &mut proposal, &prepared);
            self.answer_other(now, header.session, &txn, &proposal, effects)
        };
        if matches!(proposal.origin, Origin::Learner | Origin::Leader) {
            self.let_go_if_elsewhere(&header, entry, effects);
        }
        if is_owed_more && let Some(conn) = proposal.origin.conn() {
            self.go_on_early(now, conn, stop_at, effects);
        }
        Ok(())
    }

    /// A client whose session has written by way of another member since it came here is there, and
    /// its connection here only seems to stand. What it has left here must not be done after what
    /// it asked for there, also not by another leader, who does not know where it was seen.
    #[inline]
    fn let_go_if_elsewhere(&mut self, header: &TxnHeader, entry: &[u8], effects: &mut Effects) {
        // Most sessions have their clients elsewhere.
        let Some(&conn) = self.session_conns.get(&header.session) else { return };
        let is_kept = |client: &Client| {
            client.stage() == Stage::Active
                && client.since < header.zxid
                && !is_mutated(Mutation::KeepMoved)
        };
        if self.clients.get(conn).is_some_and(is_kept) && tells_where_its_client_is(header, entry) {
            mark(Mark::SeenElsewhere);
            self.close(conn, CloseHow::AfterFlush, effects);
        }
    }

    /// What a start found, or a leader has sent after its database, may come after a fuzzy
    /// snapshot, which holds some of its effects.
    fn mode(&self, proposal: &Entry) -> ApplyMode {
        match proposal.origin {
            Origin::Log => ApplyMode::Replay,
            _ if self.fuzzy.is_some_and(|until| proposal.zxid <= until) => {
                mark(Mark::FuzzyReplay);
                ApplyMode::Replay
            }
            Origin::Client(_) | Origin::Learner | Origin::Server | Origin::Leader => {
                ApplyMode::Live
            }
        }
    }

    /// A transaction, of `len` bytes in the log, is applied: nothing is owed to it but its answer.
    /// `events`: what its events cost, of which the second is spent when they are sent.
    fn settle(
        &mut self,
        operations: usize,
        len: usize,
        events: (u64, u64),
        proposal: &mut Entry,
        prepared: &Prepared,
    ) {
        let work = APPLY_COST * operations as u64 + events.0;
        let cost = work + self.auth.take_cost() + bytes_cost(len);
        self.fair.spent += cost - events.1;
        // Its client pays for it when it is answered.
        proposal.cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.tail.end_apply(proposal.zxid);
        self.snapshot.logged(len as u64);
        if let Some(leader) = &mut self.leader {
            leader.end_apply(prepared);
        }
    }

    /// Answers a transaction other than a setData. Returns whether the connection waits for more.
    fn answer_other(
        &mut self,
        now: Now,
        session: SessionId,
        txn: &Txn<'_>,
        proposal: &Entry,
        effects: &mut Effects,
    ) -> bool {
        match *txn {
            Txn::CreateSession { timeout_ms } => {
                self.session_created(now, session, timeout_ms, proposal, effects)
            }
            Txn::CloseSession(_) => self.session_closed(now, session, proposal, effects),
            Txn::Error { err } if err == MOVED => self.close_moved(proposal, effects),
            Txn::Error { err } => self.answer_empty(now, err, proposal, effects),
            Txn::Multi(multi) if multi.iter().next().is_some_and(|part| is_moved(&part)) => {
                self.close_moved(proposal, effects)
            }
            Txn::Multi(_) => {
                put_multi_end(&mut self.result);
                self.answer_result(now, proposal, effects)
            }
            _ => self.answer_result(now, proposal, effects),
        }
    }

    /// The session of a request has moved to another server. It is not answered, see
    /// `Replica::refuse_moved`; its connection ends.
    fn close_moved(&mut self, proposal: &Entry, effects: &mut Effects) -> bool {
        let conn = proposal.origin.conn();
        if let Some(conn) = conn.filter(|&conn| self.clients.get(conn).is_some()) {
            self.close(conn, CloseHow::AfterFlush, effects);
        }
        false
    }

    /// A createSession is applied. Returns whether the connection waits for more.
    fn session_created(
        &mut self,
        now: Now,
        session: SessionId,
        timeout_ms: i32,
        proposal: &Entry,
        effects: &mut Effects,
    ) -> bool {
        self.committed_sessions.insert(session, timeout_ms);
        // Another member's client asked for it, or a client of this server that has gone meanwhile.
        let Some(conn) = proposal.origin.conn() else { return false };
        let Some(client) = self.clients.get_mut(conn) else { return false };
        count_answer(client, &mut self.stats, now, proposal, 0);
        let is_owed_more = client.is_owed_more();
        // The client counts from the answer on, which a slow disk may have held up.
        if let Some(leader) = &mut self.leader
            && let Some(slot) = leader.find(session)
        {
            leader.touch(slot, timeout_ms, now.mono);
        } else if let Some(learner) = &mut self.learner {
            learner.touch(client);
        }
        self.established(conn, effects);
        is_owed_more
    }

    /// A closeSession is applied. A connection whose session expired is closed without a word.
    fn session_closed(
        &mut self,
        now: Now,
        session: SessionId,
        proposal: &Entry,
        effects: &mut Effects,
    ) -> bool {
        self.committed_sessions.remove(&session);
        if let Some(leader) = &mut self.leader {
            leader.session_ended(session);
        }
        let asker = proposal.origin.conn().filter(|&conn| self.clients.get(conn).is_some());
        let bound = self.session_conns.get(&session).copied();
        let is_owed_more = self.answer_empty(now, 0, proposal, effects);
        if let Some(conn) = asker.or(bound) {
            self.close(conn, CloseHow::AfterFlush, effects);
        }
        is_owed_more
    }

    /// Replies to the client that asked for the transaction with `self.result`. Returns whether
    /// its connection waits for more.
    fn answer_result(&mut self, now: Now, proposal: &Entry, effects: &mut Effects) -> bool {
        let result = std::mem::take(&mut self.result);
        let is_owed_more = self.answer(now, 0, proposal, effects, |out| {
            let start = begin_reply(out, proposal.xid, proposal.zxid, 0);
            out.extend_from_slice(&result);
            end_frame(out, start);
        });
        self.result = result;
        is_owed_more
    }

    /// Replies to the client that asked for the transaction with nothing but `err`. Returns whether
    /// its connection waits for more.
    fn answer_empty(
        &mut self,
        now: Now,
        err: i32,
        proposal: &Entry,
        effects: &mut Effects,
    ) -> bool {
        self.answer(now, err, proposal, effects, |out| {
            let start = begin_reply(out, proposal.xid, proposal.zxid, err);
            end_frame(out, start);
        })
    }

    /// Replies to the client that asked for the transaction with the frame that `write` appends.
    /// Returns whether its connection waits for more.
    #[inline]
    fn answer(
        &mut self,
        now: Now,
        err: i32,
        proposal: &Entry,
        effects: &mut Effects,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        // Another member's client asked for it, or a client of this server that has gone meanwhile.
        let Some(conn) = proposal.origin.conn() else { return false };
        let Some(client) = self.clients.get_mut(conn) else { return false };
        self.owed.pay(conn, effects);
        let before = effects.bytes.len();
        effects.send(conn, write);
        self.stats.responded((effects.bytes.len() - before).saturating_sub(4));
        self.stats.sent += 1;
        client.stats.sent += 1;
        count_answer(client, &mut self.stats, now, proposal, err);
        client.is_owed_more()
    }
}

/// The error of a request whose session has moved to another server.
const MOVED: i32 = ErrorCode::SessionMoved.code();

/// Operations of a transaction, about: of the end of a session the nodes that it deletes.
fn operations(txn: &Txn<'_>, prepared: &Prepared) -> usize {
    match txn {
        Txn::Multi(multi) => multi.len(),
        _ => prepared.operations(),
    }
}

/// Whether the first part of a multi says that the session of the whole has moved.
fn is_moved(part: &SubTxn<'_>) -> bool {
    matches!(part.txn(), Ok(Txn::Error { err: MOVED }))
}

/// Counts an answered transaction; one that failed leaves no trace as the last operation.
#[inline]
fn count_answer(
    client: &mut Client,
    stats: &mut ServerStats,
    now: Now,
    proposal: &Entry,
    err: i32,
) {
    let latency_us = now.mono.since(proposal.received).as_micros() as u64;
    stats.update_answered(proposal.op, latency_us);
    client.writes_applied += 1;
    client.owed_bytes = 0;
    client.credit -= i64::from(proposal.cost);
    client.in_flight_bytes -= proposal.len as usize;
    client.stats.answered(proposal.op, latency_us / 1000, now.mono, proposal.zxid.0);
    if err != 0 {
        client.stats.last_op = None;
    }
}

/// Whether a transaction of a session was asked for by its client where the session is. It is not
/// where the server itself has made it, or where it failed before it was looked up whose the
/// session is.
fn tells_where_its_client_is(header: &TxnHeader, entry: &[u8]) -> bool {
    let mut r = Reader::new(entry);
    let txn = TxnHeader::decode_from(&mut r).and_then(|_| Txn::decode_from(header.kind, &mut r));
    let err = match txn {
        Ok(Txn::CreateSession { .. } | Txn::CloseSession(_)) | Err(_) => return false,
        Ok(Txn::Error { err }) => err,
        Ok(Txn::Multi(multi)) => match multi.iter().next().map(SubTxn::txn) {
            Some(Ok(Txn::Error { err })) => err,
            _ => return true,
        },
        Ok(_) => return true,
    };
    use ErrorCode::{MarshallingError, SessionExpired, SessionMoved, ThrottledOp, Unimplemented};
    let unclaimed = [SessionMoved, SessionExpired, ThrottledOp, Unimplemented, MarshallingError];
    !unclaimed.map(ErrorCode::code).contains(&err)
}
