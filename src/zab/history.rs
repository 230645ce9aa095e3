//! The transactions that a leader has in memory for its learners.
//!
//! Invariants: zxids ascend; two neighbours follow each other inside an epoch, or the second is the
//! first of a later epoch. Nothing between `before` and `last` is missing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{Epoch, Mark, Zxid, invariant, mark};
use crate::log::Batch;

/// Whether transaction `next` may come directly after `last`: the next number of the same epoch, or
/// the first of a later one. No number is ever skipped (ZOOKEEPER-4925).
pub fn follows(last: Zxid, next: Zxid) -> bool {
    if next.epoch() == last.epoch() {
        last.counter() != u32::MAX && next == last.next()
    } else {
        next > last && next.counter() == 1
    }
}

/// No ensemble gets there: with a new epoch each second, it takes 60 years. Who says otherwise is
/// broken, and must not be believed: a server never goes back to an earlier epoch.
pub const EPOCH_MAX: Epoch = Epoch(i32::MAX - 0x1000_0000);

/// See the module's introduction.
#[derive(Debug)]
pub struct History {
    batches: VecDeque<Arc<Batch>>,
    /// The transaction before the first one here.
    before: Zxid,
    last: Zxid,
    bytes: usize,
    /// Above this the oldest batches go, unless somebody needs them.
    bytes_max: usize,
}

impl History {
    /// Nothing is in memory; the log ends with `last`.
    pub fn new(last: Zxid, bytes_max: usize) -> History {
        History { batches: VecDeque::new(), before: last, last, bytes: 0, bytes_max }
    }

    /// Has these transactions in memory, however many they are; the log has those up to `before`.
    pub fn after_snapshot(before: Zxid, batches: Vec<Arc<Batch>>, bytes_max: usize) -> History {
        let mut history = History::new(before, usize::MAX);
        batches.into_iter().for_each(|batch| history.push(batch));
        History { bytes_max, ..history }
    }

    /// The transaction before the first one in memory.
    pub fn before(&self) -> Zxid {
        self.before
    }

    /// The last transaction.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// Bytes of all transactions here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds transactions, and lets the oldest go that do not fit.
    ///
    /// # Panics
    /// When they do not follow the last one.
    pub fn push(&mut self, batch: Arc<Batch>) {
        let (Some(first), Some(last)) = (batch.first_zxid(), batch.last_zxid()) else { return };
        invariant!(follows(self.last, first), "{first:?} is proposed after {:?}", self.last);
        self.bytes += batch.bytes_len();
        self.last = last;
        self.batches.push_back(batch);
        while self.bytes > self.bytes_max && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            mark(Mark::HistoryForgotten);
            self.bytes -= oldest.bytes_len();
            self.before = oldest.last_zxid().unwrap_or(self.before);
        }
    }

    /// Whether all transactions after `zxid` are here.
    pub fn reaches(&self, zxid: Zxid) -> bool {
        zxid >= self.before
    }

    /// The last transaction here that is not after `zxid`; `before` if there is none.
    pub fn floor(&self, zxid: Zxid) -> Zxid {
        let (batch, index) = self.place_after(zxid);
        let previous = match index.checked_sub(1) {
            Some(index) => self.batches.get(batch).and_then(|batch| batch.get(index)),
            // The one before the first of a batch is the last of the batch before.
            None => batch.checked_sub(1).and_then(|at| {
                let batch = &self.batches[at];
                batch.get(batch.len() - 1)
            }),
        };
        previous.map_or(self.before, |(zxid, _)| zxid)
    }

    /// Where the first transaction after `zxid` stands: its batch, and its place there.
    fn place_after(&self, zxid: Zxid) -> (usize, usize) {
        let is_before = |batch: &Arc<Batch>| batch.last_zxid().is_none_or(|last| last <= zxid);
        let at = self.batches.partition_point(is_before);
        let Some(batch) = self.batches.get(at) else { return (at, 0) };
        let (mut low, mut high) = (0, batch.len());
        while low < high {
            let middle = low.midpoint(high);
            match batch.get(middle) {
                Some((entry, _)) if entry <= zxid => low = middle + 1,
                _ => high = middle,
            }
        }
        (at, low)
    }

    /// The transactions after `zxid`, in order.
    pub fn after(&self, zxid: Zxid) -> impl Iterator<Item = (Zxid, &[u8])> {
        let (first, skipped) = self.place_after(zxid);
        self.batches.range(first..).flat_map(|batch| batch.iter()).skip(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(zxids: &[i64]) -> Arc<Batch> {
        let mut batch = Batch::new();
        for &zxid in zxids {
            batch.entry().extend_from_slice(&[zxid as u8; 40]);
            batch.finish_entry(Zxid(zxid));
        }
        Arc::new(batch)
    }

    const E1: i64 = 1 << 32;
    const E2: i64 = 2 << 32;

    #[test]
    fn what_may_follow_what() {
        assert!(follows(Zxid(E1 + 1), Zxid(E1 + 2)));
        assert!(follows(Zxid(E1 + 7), Zxid(E2 + 1)));
        assert!(!follows(Zxid(E1 + 1), Zxid(E1 + 3)), "one is missing");
        assert!(!follows(Zxid(E1 + 1), Zxid(E2 + 2)), "the first of an epoch is missing");
        assert!(!follows(Zxid(E2 + 1), Zxid(E1 + 2)), "epochs never go back");
        assert!(!follows(Zxid(E1 + 1), Zxid(E1 + 1)));
        assert!(!follows(Zxid(E1 + i64::from(u32::MAX)), Zxid(E2)), "no counter is zero");
    }

    #[test]
    fn the_oldest_go_and_the_rest_is_found() {
        let mut history = History::new(Zxid(E1 + 3), 200);
        history.push(batch(&[E1 + 4, E1 + 5]));
        history.push(batch(&[E2 + 1, E2 + 2, E2 + 3]));
        assert_eq!((history.before(), history.last()), (Zxid(E1 + 3), Zxid(E2 + 3)));
        assert_eq!(history.floor(Zxid(E1 + 9)), Zxid(E1 + 5));
        assert_eq!(history.floor(Zxid(E1 + 1)), Zxid(E1 + 3), "nothing here is that early");
        let after: Vec<i64> = history.after(Zxid(E1 + 4)).map(|(zxid, _)| zxid.0).collect();
        assert_eq!(after, [E1 + 5, E2 + 1, E2 + 2, E2 + 3]);
        history.push(batch(&[E2 + 4]));
        assert_eq!(history.before(), Zxid(E1 + 5), "the first batch does not fit");
        assert!(history.reaches(Zxid(E1 + 5)) && !history.reaches(Zxid(E1 + 4)));
        assert_eq!(history.after(Zxid(E2 + 4)).count(), 0);
    }
}
