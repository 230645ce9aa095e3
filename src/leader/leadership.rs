//! The state of a leader: transactions that are prepared and not applied, and the sessions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Epoch, Instant, Mutation, Now, Ration, SessionId, Zxid, invariant, is_mutated};
use crate::log::Batch;
use crate::pipeline::{PendingView, PrepareOptions, Slot};
use crate::session::{Claim, Owner, SessionSlot, Sessions};
use crate::tree::{ApplyHint, NodeId};

use super::upkeep::Upkeep;

/// Settings of a leader, as plain values.
#[derive(Clone, Debug)]
pub struct LeaderOptions {
    /// `tickTime` in ms.
    pub tick_ms: u64,
    /// Rules of the prepare stage.
    pub prepare: PrepareOptions,
    /// `znode.container.checkIntervalMs`.
    pub container_check_ms: u64,
    /// `znode.container.maxPerMinute`.
    pub container_per_minute: u64,
    /// `znode.container.maxNeverUsedIntervalMs`; 0 for never.
    pub container_never_used_ms: i64,
    /// From this counter on an epoch counts as spent. What is left must be far more than one turn
    /// of the loop can use.
    pub spent_counter: u32,
}

impl Default for LeaderOptions {
    /// As Apache configures it by default.
    fn default() -> LeaderOptions {
        LeaderOptions {
            tick_ms: 3000,
            prepare: PrepareOptions::default(),
            container_check_ms: 60_000,
            container_per_minute: 10_000,
            container_never_used_ms: 0,
            spent_counter: SPENT_COUNTER,
        }
    }
}

/// With which number a leader begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbering {
    /// After this transaction, and on into the next epoch: a lone server, which nobody else could
    /// disagree with.
    After(Zxid),
    /// With counter 1 of this epoch, never beyond it: the leader of an ensemble, in which each
    /// epoch has one leader.
    In(Epoch),
}

impl Numbering {
    /// The number before the first one.
    fn floor(self) -> Zxid {
        match self {
            Numbering::After(last) => last,
            Numbering::In(epoch) => Zxid::new(epoch, 0),
        }
    }

    /// Whether a transaction may have this number.
    #[inline(always)]
    pub(super) fn has(self, zxid: Zxid) -> bool {
        match self {
            Numbering::After(_) => true,
            Numbering::In(epoch) => zxid.epoch() == epoch,
        }
    }
}

/// What is left is a million numbers, so the next epoch begins in time; at two million transactions
/// a second an epoch lasts 36 minutes.
const SPENT_COUNTER: u32 = u32::MAX - (1 << 20);

/// Larger batches give their memory back.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// As many batches as a group commit mostly consists of, and those that gather meanwhile.
const SPARES_MAX: usize = 8;

/// What preparing a transaction found and changed, until it is applied.
#[derive(Debug)]
pub struct Prepared {
    pub(super) zxid: Zxid,
    /// Pending records it touched; `Slot::MAX` for none.
    pub(super) touched: [Slot; 2],
    pub(super) more_touched: Option<Box<[Slot]>>,
    /// Where the tree has the node that it is about.
    pub hint: ApplyHint,
}

impl Prepared {
    /// A transaction that this leader did not prepare.
    pub const UNKNOWN: Prepared = Prepared {
        zxid: Zxid::ZERO,
        touched: [Slot::MAX; 2],
        more_touched: None,
        hint: ApplyHint::NONE,
    };

    /// Number of nodes that it changes, or 1 where that is one or two.
    pub fn operations(&self) -> usize {
        self.more_touched.as_ref().map_or(1, |slots| slots.len())
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        let few = self.touched.iter().filter(|slot| **slot != Slot::MAX);
        few.chain(self.more_touched.iter().flatten()).copied()
    }
}

/// See [`crate::leader`].
///
/// Invariant: every record of `pending` belongs to a transaction in `outstanding`, which ascend and
/// end with `last`.
pub struct Leader {
    pub(super) options: LeaderOptions,
    pub(super) pending: PendingView,
    pub(super) outstanding: VecDeque<Prepared>,
    /// Being filled until [`Leader::take_batch`].
    pub(super) batch: Batch,
    /// Empty, with the memory of batches that are done with.
    spares: Vec<Batch>,
    pub(super) numbering: Numbering,
    /// Last transaction that was numbered; before the first one, the number before it.
    pub(super) last: Zxid,
    pub(super) sessions: Sessions,
    pub(super) upkeep: Upkeep,
    pub(super) touched: Vec<Slot>,
    /// What preparing the current transaction found.
    pub(super) hint: ApplyHint,
    pub(super) scratch: Vec<u8>,
    /// When the last transaction was numbered.
    pub(super) now: Instant,
    pub(super) soft_quota: Ration,
}

impl Leader {
    /// Takes up leadership when everything known is applied, with the sessions of the committed
    /// state, each of which gets its whole timeout (in ms) from now on.
    pub fn new(
        now: Now,
        options: LeaderOptions,
        numbering: Numbering,
        sessions: impl Iterator<Item = (SessionId, i32)>,
    ) -> Leader {
        let mut tracked = Sessions::new(options.tick_ms);
        for (id, timeout_ms) in sessions {
            let timeout_ms = if is_mutated(Mutation::ShortTimeouts) { 1 } else { timeout_ms };
            tracked.create(id, timeout_ms, now.mono);
        }
        let check = Duration::from_millis(options.container_check_ms);
        Leader {
            options,
            pending: PendingView::new(),
            outstanding: VecDeque::new(),
            batch: Batch::new(),
            spares: Vec::new(),
            numbering,
            last: numbering.floor(),
            sessions: tracked,
            upkeep: Upkeep::new(now.mono + check),
            touched: Vec::new(),
            hint: ApplyHint::NONE,
            now: now.mono,
            soft_quota: Ration::default(),
            scratch: Vec::new(),
        }
    }

    /// The last transaction that was numbered; before the first one, the number before it.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// Whether this may be what the server knows last: what this leader has numbered last, or
    /// anything of the epochs before as long as it has numbered nothing.
    pub fn follows(&self, known: Zxid) -> bool {
        let is_first =
            self.numbering == Numbering::In(self.last.epoch()) && self.last.counter() == 0;
        known == self.last || is_first && known < self.last
    }

    /// Whether the numbers of this leader's epoch come to their end, so that it has to hand over.
    /// A lone server goes on into the next epoch.
    pub fn is_epoch_spent(&self) -> bool {
        matches!(self.numbering, Numbering::In(_))
            && self.last.counter() >= self.options.spent_counter
    }

    /// Goes on with counter 1 of a later epoch. Everything that it has numbered must be applied.
    pub fn begin_epoch(&mut self, epoch: Epoch) {
        invariant!(
            self.outstanding.is_empty() && self.batch.is_empty(),
            "an epoch ends with everything applied"
        );
        invariant!(self.last < Zxid::new(epoch, 0), "{epoch:?} comes after {:?}", self.last);
        self.numbering = Numbering::In(epoch);
        self.last = self.numbering.floor();
    }

    /// Bytes of transactions that wait for [`Leader::take_batch`].
    pub fn batch_bytes(&self) -> usize {
        self.batch.bytes_len()
    }

    /// The transactions that were prepared since the last call, as a batch that says what is
    /// `committed` now; `None` if there are none.
    pub fn take_batch(&mut self, committed: Zxid) -> Option<Arc<Batch>> {
        if self.batch.is_empty() {
            return None;
        }
        invariant!(
            self.batch.last_zxid() == Some(self.last),
            "a batch ends with the last number, {:?}, and not with {:?}",
            self.last,
            self.batch.last_zxid()
        );
        let told = if is_mutated(Mutation::MarkAhead) { self.last } else { committed };
        self.batch.set_committed(told);
        let spare = self.spares.pop().unwrap_or_default();
        Some(Arc::new(std::mem::replace(&mut self.batch, spare)))
    }

    /// Takes back a batch of which everything is applied, for its memory.
    pub fn give_back(&mut self, batch: Arc<Batch>) {
        // The log has copied it by now; if it has not, its memory goes with its last owner.
        if let Some(mut batch) = Arc::into_inner(batch)
            && batch.capacity() <= SPARE_BYTES_MAX
            && self.spares.len() < SPARES_MAX
        {
            batch.clear();
            self.spares.push(batch);
        }
    }

    /// The nodes that transactions at these places of the queue are about, as far as they are
    /// known: to be fetched into the processor's caches.
    pub fn hinted(&self, places: Range<usize>) -> impl Iterator<Item = NodeId> {
        let count = self.outstanding.len();
        let range = places.start.min(count)..places.end.min(count);
        let hints = self.outstanding.range(range).map(|prepared| prepared.hint);
        hints.filter(ApplyHint::is_some).map(|hint| hint.node)
    }

    /// Transaction `zxid` is about to be applied: hands over what is known of it.
    #[inline]
    pub fn begin_apply(&mut self, zxid: Zxid) -> Prepared {
        match self.outstanding.front() {
            // Of the term before: everything that this leader prepares is numbered higher.
            None => return Prepared::UNKNOWN,
            Some(next) if next.zxid > zxid => return Prepared::UNKNOWN,
            Some(next) => {
                invariant!(
                    next.zxid == zxid,
                    "transactions are applied in the order of their zxids"
                );
            }
        }
        self.outstanding.pop_front().unwrap_or(Prepared::UNKNOWN)
    }

    /// Path hashes of all nodes that a transaction touches, appended to `out`.
    pub fn hashes_of(&self, prepared: &Prepared, out: &mut Vec<u64>) {
        out.extend(prepared.slots().map(|slot| self.pending.hash(slot)));
    }

    /// A transaction has been applied: the tree has what the pending view had.
    #[inline]
    pub fn end_apply(&mut self, prepared: &Prepared) {
        for slot in prepared.touched {
            if slot != Slot::MAX {
                self.pending.release(slot, prepared.zxid);
            }
        }
        for &slot in prepared.more_touched.iter().flatten() {
            self.pending.release(slot, prepared.zxid);
        }
    }

    /// The end of a session has been applied.
    pub fn session_ended(&mut self, session: SessionId) {
        self.pending.forget_session(session);
        self.sessions.remove(session);
    }

    /// The handle of a session, closing or not.
    pub fn find(&self, session: SessionId) -> Option<SessionSlot> {
        self.sessions.get(session)
    }

    /// The handle of a session that may still be used.
    pub fn find_open(&self, session: SessionId) -> Option<SessionSlot> {
        self.sessions.get(session).filter(|&slot| !self.sessions.is_closing(slot))
    }

    /// Starts a session's timeout (in ms) afresh. False when the session is gone or closing.
    #[inline]
    pub fn touch(&mut self, slot: SessionSlot, timeout_ms: i32, now: Instant) -> bool {
        self.sessions.touch(slot, timeout_ms, now)
    }

    /// The same for a request of a client of this server. Whether it may be done.
    #[inline]
    pub fn admit(&mut self, slot: SessionSlot, timeout_ms: i32, now: Instant) -> Claim {
        self.sessions.admit(slot, Owner::Here, timeout_ms, now)
    }

    /// Whether a request that comes through `owner` may be done for its session.
    pub fn claim(&mut self, session: SessionId, owner: Owner) -> Claim {
        let slot = self.sessions.get(session);
        slot.map_or(Claim::Gone, |slot| self.sessions.claim(slot, owner))
    }

    /// Where the client of a session was seen last; `None` before the first time.
    pub fn session_owner(&self, session: SessionId) -> Option<Owner> {
        self.sessions.get(session).and_then(|slot| self.sessions.session(slot))?.owner
    }

    /// A client brings a session along to `owner`, whose it is from now on. Its timeout (in ms)
    /// starts afresh. `None` when the session is unknown or closing.
    pub fn revalidate(
        &mut self,
        now: Now,
        session: SessionId,
        timeout_ms: i32,
        owner: Owner,
    ) -> Option<SessionSlot> {
        let slot = self.sessions.get(session)?;
        let is_alive = self.sessions.touch(slot, timeout_ms, now.mono);
        if !is_mutated(Mutation::KeepOwner) {
            is_alive.then(|| self.sessions.set_owner(slot, owner))?;
        }
        Some(slot)
    }

    /// The client of a session has stayed with this server since before it led.
    pub fn keep(&mut self, slot: SessionSlot) {
        self.sessions.claim(slot, Owner::Here);
    }

    /// Notes the address that speaks for a session, for messages.
    pub fn set_peer(&mut self, slot: SessionSlot, peer: SocketAddr) {
        self.sessions.set_peer(slot, peer);
    }

    /// The sessions, for status views and checkers.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Checks a part of what must always hold, the next at each call, in constant time.
    pub fn check_next(&mut self) {
        self.sessions.check_next();
        let (next, last) = (self.outstanding.front(), self.last);
        let is_in_order = next.is_none_or(|prepared| prepared.zxid <= last);
        invariant!(is_in_order, "{next:?} is to be applied, {last:?} was numbered last");
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check(&self) {
        let zxids = self.outstanding.iter().map(|prepared| prepared.zxid);
        assert!(zxids.is_sorted(), "transactions are numbered in order");
        assert!(self.outstanding.back().is_none_or(|prepared| prepared.zxid == self.last));
        if self.outstanding.is_empty() {
            assert!(self.pending.is_empty(), "pending records without a transaction");
            assert!(self.batch.is_empty(), "a batch of applied transactions");
        }
    }
}
