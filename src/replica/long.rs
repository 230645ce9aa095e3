//! Reads that are done in parts, so that others get their turns in between: [`Parts`].
//!
//! Invariant: while a connection has one that is not through, nothing of what it sent later is
//! done, and the connection stands in the queue unless it is choked.

use crate::auth::Identities;
use crate::base::{ConnId, Instant, Now, SessionId, Xid, Zxid, invariant};
use crate::pipeline::{Parts, ReadContext, ReadResult, bytes_cost};
use crate::wire::{ErrorCode, OpCode, RequestHeader, begin_reply, end_frame, put_error_reply};

use super::core::Replica;
use super::effects::Effects;
use super::fair::READ_COST;
use super::request::{Request, choke};

/// A read that has begun.
#[derive(Debug)]
pub struct LongRead {
    op: OpCode,
    xid: Xid,
    session: SessionId,
    /// As whom the client asked.
    identities: Identities,
    asked: Instant,
    /// Microseconds that it had waited before it began.
    waited_us: u64,
    /// The request, without its length; empty while it is looked at.
    frame: Box<[u8]>,
    parts: Parts,
    /// What is to be sent when it is through, or after each part (setWatches).
    results: Vec<u8>,
}

/// Lists that are in parts at a time; more are made in one go. When a large node changes, all who
/// watch it ask for its list at once, and each list that is not through takes memory.
const LISTS_MAX: u32 = 16;

fn is_list(op: OpCode) -> bool {
    matches!(op, OpCode::GetChildren | OpCode::GetChildren2 | OpCode::GetEphemerals)
}

impl LongRead {
    /// Lists that it counts for.
    pub(super) fn lists(&self) -> u32 {
        u32::from(is_list(self.op))
    }
}

impl Replica {
    /// Begins a read that may take long, and mostly ends it, too.
    pub(super) fn begin_long(
        &mut self,
        request: &Request<'_>,
        waited_us: u64,
        effects: &mut Effects,
    ) {
        let Request { now, conn, op, xid, frame, .. } = *request;
        // A connection that is gone asks for nothing more.
        let Some((session, identities)) = request.who(&self.clients) else { return };
        let mut long = Box::new(LongRead {
            op,
            xid,
            session,
            identities: identities.clone(),
            asked: now.mono,
            waited_us,
            frame: Box::default(),
            parts: match is_list(op) && self.long_lists >= LISTS_MAX {
                true => Parts::undivided(),
                false => Parts::default(),
            },
            results: Vec::new(),
        });
        self.fair.spent += READ_COST;
        if self.do_part(now, conn, frame, &mut long, effects) {
            return;
        }
        long.frame = frame.into();
        self.long_lists += long.lists();
        self.clients.known(conn).long = Some(long);
        self.deferred_total += 1;
        self.queue_up(conn);
    }

    /// Does the next part of the read that a connection has begun.
    pub(super) fn go_on_long(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        let long = self.clients.known(conn).long.take();
        invariant!(long.is_some(), "{conn:?} has no read to go on with");
        let Some(mut long) = long else { unreachable!("just asserted") };
        let frame = std::mem::take(&mut long.frame);
        let is_over = self.do_part(now, conn, &frame, &mut long, effects);
        long.frame = frame;
        if is_over {
            self.deferred_total -= 1;
            self.long_lists -= long.lists();
        } else {
            self.clients.known(conn).long = Some(long);
        }
    }

    /// Returns whether that was the last part.
    fn do_part(
        &mut self,
        now: Now,
        conn: ConnId,
        frame: &[u8],
        long: &mut LongRead,
        effects: &mut Effects,
    ) -> bool {
        let mut context = ReadContext {
            tree: &self.tree,
            watches: &mut self.watches,
            auth: &self.auth,
            conn,
            session: long.session,
            identities: &long.identities,
            zxid: self.tail.applied(),
            bytes_read: &mut self.stats.bytes_read,
            cost: 0,
            limit: self.fair.part(),
        };
        let (body, before) = (&frame[RequestHeader::SIZE..], long.results.len());
        let over = context.part(long.op, body, &mut long.parts, &mut long.results);
        let made = long.results.len().saturating_sub(before);
        self.fair.spent += context.cost + self.auth.take_cost() + bytes_cost(made);
        let notified = long.parts.take_notified();
        self.stats.sent += notified;
        self.clients.known(conn).stats.sent += notified;
        let mut bytes = 0;
        let is_sent_now = matches!(long.op, OpCode::SetWatches | OpCode::SetWatches2);
        if is_sent_now && !long.results.is_empty() {
            self.owed.pay(conn, effects);
            effects.send(conn, |out| out.extend_from_slice(&long.results));
            bytes = long.results.len();
            long.results.clear();
        }
        let Some(outcome) = over else {
            choke(self.clients.known(conn), bytes, effects);
            return false;
        };
        self.owed.pay(conn, effects);
        let begun = effects.bytes.len();
        let zxid = self.tail.applied();
        effects.send(conn, |out| put_outcome(out, long, zxid, outcome));
        bytes += effects.bytes.len() - begun;
        self.stats.responded(bytes.saturating_sub(4));
        let waited_us = long.waited_us + now.mono.since(long.asked).as_micros() as u64;
        self.answered_read(now, conn, long.op, waited_us, bytes, effects);
        true
    }
}

/// The reply. The results of a multiRead that fails are sent all the same if there are any; it is
/// the one error with a body.
fn put_outcome(out: &mut Vec<u8>, long: &LongRead, zxid: Zxid, outcome: ReadResult) {
    let code = outcome.err().unwrap_or(ErrorCode::Ok);
    if outcome.is_ok() || long.op == OpCode::MultiRead && !long.results.is_empty() {
        let start = begin_reply(out, long.xid, zxid, code.code());
        out.extend_from_slice(&long.results);
        end_frame(out, start);
    } else {
        put_error_reply(out, long.xid, zxid, code);
    }
}
