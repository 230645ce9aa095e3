//! The tail: transactions that this server knows and has not applied yet.
//!
//! Three marks move through it: up to `logged` it is durable here, up to `committed` it may be
//! applied, up to `applied` the tree has it. A lone server commits what it has logged; in an
//! ensemble a quorum decides, and may commit a transaction before the disk of this server has it.
//!
//! For example, transactions 5 to 9 are known, the disk has 5 to 8, a quorum has 5 to 7, and the
//! tree has 5: `logged` is 8, `committed` is 7, `applied` is 5, and the tail holds 6 to 9.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{ConnId, Instant, Xid, Zxid, invariant};
use crate::log::Batch;
use crate::wire::OpCode;

/// Where a transaction comes from, and with it who is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A client of this server.
    Client(ConnId),
    /// A client of a learner, which answers it: a leader has such transactions.
    Learner,
    /// The server itself: the end of a session or node whose time is up.
    Server,
    /// The leader of the ensemble, for nobody whom this server answers.
    Leader,
    /// The log: it was there when the server started, and whose it was is forgotten.
    Log,
}

impl Origin {
    /// Whether it comes from this server: a client, or the server itself.
    fn is_own(self) -> bool {
        matches!(self, Origin::Client(_) | Origin::Server)
    }

    /// The connection to answer.
    pub fn conn(self) -> Option<ConnId> {
        match self {
            Origin::Client(conn) => Some(conn),
            Origin::Learner | Origin::Server | Origin::Leader | Origin::Log => None,
        }
    }
}

/// A transaction of the tail, without its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub zxid: Zxid,
    pub origin: Origin,
    pub xid: Xid,
    pub op: OpCode,
    /// Bytes of its entry in the log.
    pub len: u32,
    /// Nanoseconds of work that applying it took; 0 before that.
    pub cost: u32,
    /// When the request for it came.
    pub received: Instant,
}

/// See the module's introduction. Invariant: `applied <= committed`, and `entries` are the
/// transactions after `applied`, the ones in `batches` first.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    /// How many of them a client of this server waits for, or this server itself.
    own: usize,
    /// Handed to the log, not wholly applied.
    batches: VecDeque<Arc<Batch>>,
    /// Entries of the first batch that are applied already.
    applied_in_front: usize,
    /// Bytes of `batches`.
    bytes: usize,
    /// Batches that are not durable: the last transaction and the bytes of each.
    unlogged: VecDeque<(Zxid, usize)>,
    unlogged_bytes: usize,
    logged: Zxid,
    committed: Zxid,
    applied: Zxid,
    last: Zxid,
}

impl Tail {
    /// Nothing is known beyond `last`, which is applied.
    pub fn new(last: Zxid) -> Tail {
        Tail {
            entries: VecDeque::new(),
            own: 0,
            batches: VecDeque::new(),
            applied_in_front: 0,
            bytes: 0,
            unlogged: VecDeque::new(),
            unlogged_bytes: 0,
            logged: last,
            committed: last,
            applied: last,
            last,
        }
    }

    /// What a start found: the tree has everything up to `applied`, which is committed, and the
    /// log has these batches after it.
    pub fn recovered(applied: Zxid, batches: Vec<Arc<Batch>>, now: Instant) -> Tail {
        let mut tail = Tail::new(applied);
        for batch in batches {
            for (zxid, bytes) in batch.iter() {
                // A batch is smaller than 4 GiB. Nobody is answered, so nobody counts its kind.
                let (origin, op, len) = (Origin::Log, OpCode::Error, bytes.len() as u32);
                tail.push(Entry { zxid, origin, xid: Xid(0), op, len, cost: 0, received: now });
            }
            tail.push_batch(batch);
        }
        tail.set_logged(tail.last());
        tail
    }

    /// Last transaction in the tree.
    pub fn applied(&self) -> Zxid {
        self.applied
    }

    /// Last transaction that may be applied.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Last transaction that is durable on this server.
    pub fn logged(&self) -> Zxid {
        self.logged
    }

    /// Last transaction that is known.
    pub fn last(&self) -> Zxid {
        self.last
    }

    fn last_entry(&self) -> Zxid {
        self.entries.back().map_or(self.applied, |entry| entry.zxid)
    }

    /// Number of transactions that are not applied.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of those that are not applied and come from this server.
    pub fn own(&self) -> usize {
        self.own
    }

    /// Whether everything is applied.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the next transaction may be applied.
    pub fn can_apply(&self) -> bool {
        self.applied < self.committed
    }

    /// A transaction that the current batch ends with.
    #[inline]
    pub fn push(&mut self, entry: Entry) {
        invariant!(entry.zxid > self.last(), "{:?} is known after {:?}", entry.zxid, self.last());
        self.last = entry.zxid;
        self.own += usize::from(entry.origin.is_own());
        self.entries.push_back(entry);
    }

    /// The batch that the last entries are in is complete.
    pub fn push_batch(&mut self, batch: Arc<Batch>) {
        invariant!(batch.last_zxid() == Some(self.last()), "a batch ends with what is known last");
        let bytes = batch.bytes_len();
        self.bytes += bytes;
        self.unlogged_bytes += bytes;
        self.unlogged.push_back((self.last(), bytes));
        self.batches.push_back(batch);
    }

    /// Bytes of transactions that wait for the disk, or for their turn to be applied: the larger of
    /// the two. What is not committed waits for others.
    pub fn backlog(&self) -> usize {
        self.unlogged_bytes.max(if self.can_apply() { self.bytes } else { 0 })
    }

    /// Everything up to here is durable on this server.
    pub fn set_logged(&mut self, zxid: Zxid) {
        invariant!(zxid <= self.last(), "{zxid:?} is logged, the last known is {:?}", self.last());
        self.logged = self.logged.max(zxid);
        while let Some(&(last, bytes)) = self.unlogged.front()
            && last <= zxid
        {
            self.unlogged.pop_front();
            self.unlogged_bytes -= bytes;
        }
    }

    /// Everything up to here may be applied.
    pub fn set_committed(&mut self, zxid: Zxid) {
        invariant!(zxid <= self.last(), "{zxid:?} commits, the last known is {:?}", self.last());
        self.committed = self.committed.max(zxid);
    }

    /// The next transactions to be applied, `count` at most, as far as they were handed to the log.
    pub fn next(&self, count: usize) -> impl Iterator<Item = (Zxid, &[u8])> {
        let starts = [self.applied_in_front].into_iter().chain(std::iter::repeat(0));
        let rests = self.batches.iter().zip(starts);
        rests
            .flat_map(|(batch, start)| (start..batch.len()).map_while(move |at| batch.get(at)))
            .take(count)
    }

    /// The first transaction that is not applied.
    pub fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// The batch of the next transaction, if it is known whole, and that one's place in it.
    pub fn front_batch(&self) -> Option<(Arc<Batch>, usize)> {
        Some((Arc::clone(self.batches.front()?), self.applied_in_front))
    }

    /// Takes the next transaction, which is applied now.
    #[inline]
    pub fn begin_apply(&mut self, zxid: Zxid) -> Entry {
        invariant!(
            zxid <= self.committed,
            "{zxid:?} is applied, {:?} is committed",
            self.committed
        );
        let entry = self.entries.pop_front();
        let is_it = entry.as_ref().is_some_and(|entry| entry.zxid == zxid);
        invariant!(is_it, "{zxid:?} is applied, {entry:?} is next");
        self.applied_in_front += 1;
        self.own -= usize::from(entry.is_some_and(|entry| entry.origin.is_own()));
        entry.unwrap_or_else(|| unreachable!("just asserted"))
    }

    /// The transaction is in the tree.
    #[inline]
    pub fn end_apply(&mut self, zxid: Zxid) {
        self.applied = zxid;
    }

    /// What is not applied, in order. Everything that is known has been handed to the log.
    pub fn batches(&self) -> Vec<Arc<Batch>> {
        let mut all: Vec<Arc<Batch>> = self.batches.iter().cloned().collect();
        if self.applied_in_front > 0
            && let Some(front) = all.first_mut()
        {
            *front = Arc::new(front.part(self.applied_in_front..front.len()));
        }
        all
    }

    /// Forgets everything after `keep`, which the log has taken back.
    pub fn truncate(&mut self, keep: Zxid) {
        invariant!(keep >= self.committed, "{keep:?} is kept, {:?} is committed", self.committed);
        while self.entries.back().is_some_and(|entry| entry.zxid > keep) {
            let entry = self.entries.pop_back();
            self.own -= usize::from(entry.is_some_and(|entry| entry.origin.is_own()));
        }
        self.last = self.last_entry();
        while self.batches.back().is_some_and(|batch| batch.first_zxid() > Some(keep)) {
            self.batches.pop_back();
        }
        if let Some(last) = self.batches.back_mut()
            && last.last_zxid() > Some(keep)
        {
            let kept = last.iter().take_while(|(zxid, _)| *zxid <= keep).count();
            *last = Arc::new(last.part(0..kept));
        }
        self.bytes = self.batches.iter().map(|batch| batch.bytes_len()).sum();
        self.pop_applied();
        self.logged = self.logged.min(keep);
        while let Some(&(last, bytes)) = self.unlogged.back()
            && last > keep
        {
            self.unlogged.pop_back();
            self.unlogged_bytes -= bytes;
        }
    }

    /// Lets go of the first batch if all of it is applied.
    pub fn pop_applied(&mut self) -> Option<Arc<Batch>> {
        if self.batches.front()?.len() > self.applied_in_front {
            return None;
        }
        self.applied_in_front = 0;
        let applied = self.batches.pop_front();
        self.bytes -= applied.as_ref().map_or(0, |batch| batch.bytes_len());
        applied
    }

    /// Checks what always holds of the marks, in constant time.
    pub fn check_marks(&self) {
        let (applied, committed, last) = (self.applied, self.committed, self.last());
        invariant!(applied <= committed, "{applied:?} is applied, {committed:?} is committed");
        invariant!(committed <= last, "{committed:?} is committed, {last:?} is known");
        let next = self.entries.front().map_or(last, |entry| entry.zxid);
        invariant!(next >= applied, "{next:?} is to be applied after {applied:?}");
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check(&self) {
        self.check_marks();
        assert!(self.entries.iter().map(|entry| entry.zxid).is_sorted());
        assert_eq!(self.last, self.last_entry(), "what is known last");
        assert_eq!(self.own, self.entries.iter().filter(|entry| entry.origin.is_own()).count());
        let bytes: usize = self.batches.iter().map(|batch| batch.bytes_len()).sum();
        assert_eq!(self.bytes, bytes, "bytes of what is not applied");
        let bytes: usize = self.unlogged.iter().map(|(_, bytes)| *bytes).sum();
        assert_eq!(self.unlogged_bytes, bytes, "bytes of what is not logged");
        let in_batches: usize = self.batches.iter().map(|batch| batch.len()).sum();
        assert!(
            in_batches - self.applied_in_front <= self.entries.len(),
            "batches without entries"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(zxid: i64) -> Entry {
        let (origin, op) = (Origin::Server, OpCode::SetData);
        Entry { zxid: Zxid(zxid), origin, xid: Xid(0), op, len: 32, cost: 0, received: Instant(0) }
    }

    fn tail() -> Tail {
        let mut tail = Tail::new(Zxid(4));
        for zxids in [5..8, 8..10] {
            let mut batch = Batch::new();
            for zxid in zxids {
                tail.push(entry(zxid));
                batch.entry().extend_from_slice(&[0; 32]);
                batch.finish_entry(Zxid(zxid));
            }
            tail.push_batch(Arc::new(batch));
        }
        tail
    }

    #[test]
    fn the_next_ones_are_found_over_the_ends_of_batches() {
        let mut tail = tail();
        let next =
            |tail: &Tail, count| tail.next(count).map(|(zxid, _)| zxid.0).collect::<Vec<_>>();
        assert_eq!(next(&tail, 4), [5, 6, 7, 8]);
        tail.set_logged(Zxid(9));
        tail.set_committed(Zxid(9));
        for zxid in 5..=6 {
            tail.begin_apply(Zxid(zxid));
            tail.end_apply(Zxid(zxid));
        }
        assert_eq!(next(&tail, 2), [7, 8]);
        assert_eq!(next(&tail, 9), [7, 8, 9]);
    }

    #[test]
    fn marks_move_apart() {
        let mut tail = tail();
        tail.set_logged(Zxid(8));
        tail.set_committed(Zxid(7));
        for zxid in 5..=7 {
            assert!(tail.can_apply());
            assert_eq!(tail.begin_apply(Zxid(zxid)).zxid, Zxid(zxid));
            tail.end_apply(Zxid(zxid));
            assert_eq!(tail.pop_applied().is_some(), zxid == 7, "the first batch ends with 7");
            tail.check();
        }
        assert!(!tail.can_apply());
        assert_eq!((tail.applied(), tail.committed(), tail.logged()), (Zxid(7), Zxid(7), Zxid(8)));
        assert_eq!((tail.last(), tail.len()), (Zxid(9), 2));
    }

    #[test]
    fn what_waits_for_the_disk_or_to_be_applied_is_counted() {
        let mut tail = tail();
        let [first, second] = [0, 1].map(|at| tail.batches[at].bytes_len());
        assert_eq!(tail.backlog(), first + second, "nothing is logged");
        tail.set_logged(Zxid(8));
        assert_eq!(tail.backlog(), second);
        tail.set_logged(Zxid(9));
        assert_eq!(tail.backlog(), 0, "the rest waits for others");
        tail.set_committed(Zxid(8));
        assert_eq!(tail.backlog(), first + second);
        for zxid in 5..=8 {
            tail.begin_apply(Zxid(zxid));
            tail.end_apply(Zxid(zxid));
            tail.pop_applied();
            tail.check();
        }
        assert_eq!(tail.backlog(), 0);
        tail.truncate(Zxid(8));
        tail.check();
        assert_eq!(tail.bytes, 0);
    }

    #[test]
    fn what_a_start_found_is_logged_and_not_committed() {
        let batches: Vec<Arc<Batch>> = tail().batches.into_iter().collect();
        let tail = Tail::recovered(Zxid(4), batches, Instant(7));
        tail.check();
        assert_eq!((tail.applied(), tail.committed(), tail.logged()), (Zxid(4), Zxid(4), Zxid(9)));
        assert_eq!((tail.len(), tail.can_apply()), (5, false));
        assert_eq!(
            tail.front().map(|entry| (entry.zxid, entry.origin.conn())),
            Some((Zxid(5), None))
        );
        let empty = Tail::recovered(Zxid(4), Vec::new(), Instant(7));
        assert_eq!((empty.logged(), empty.last()), (Zxid(4), Zxid(4)));
    }

    #[test]
    fn what_breaks_its_rules_is_noticed() {
        let broken: [fn(&mut Tail); 5] = [
            |tail| tail.set_committed(Zxid(10)),
            |tail| tail.set_logged(Zxid(10)),
            |tail| tail.push(entry(9)),
            |tail| {
                tail.begin_apply(Zxid(5));
            },
            |tail| {
                tail.set_committed(Zxid(9));
                tail.begin_apply(Zxid(6));
            },
        ];
        for (at, breaks) in broken.into_iter().enumerate() {
            let mut tail = tail();
            let attempt = std::panic::AssertUnwindSafe(|| breaks(&mut tail));
            assert!(std::panic::catch_unwind(attempt).is_err(), "{at}");
        }
    }
}
