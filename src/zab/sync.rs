//! How a learner's history is made equal to the leader's: DIFF, TRUNC or SNAP.
//!
//! Source: Apache's `LearnerHandler.syncFollower`, with the rules that its open mistakes ask for
//! (ZOOKEEPER-2832, -2846).

use crate::base::{Epoch, Mark, Zxid, mark};

use super::history::History;

/// The beginning of a synchronization.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The learner keeps everything, and gets what comes after this transaction.
    Diff(Zxid),
    /// The learner forgets what comes after this transaction, and gets ours.
    Trunc(Zxid),
    /// Too old for what is in memory: the log decides, by what it has around this transaction.
    FromLog(Zxid),
    /// The learner gets everything.
    Snap,
}

/// What a learner whose last transaction is `peer` needs.
///
/// `synced_epoch` is the leader's `currentEpoch` before this election: the leader has the whole
/// history that the leader of that epoch began with.
///
/// Why a truncation is right: all transactions of an epoch come from one leader and follow each
/// other, so a server that has number 9 of an epoch has its numbers 1 to 8, the same as all others.
/// - If our last transaction up to `peer` is of the same epoch, the learner has it, too. For
///   example: the learner has 2|1 to 2|9, we have 2|1 to 2|6 and 3|1. It truncates to 2|6.
/// - If we have none of that epoch, but have synchronized with its leader or a later one, our
///   history before it is the one that the learner had when it began. For example: the learner has
///   1|7 and 2|1, we end with 1|7 and have synchronized in epoch 2. It truncates to 1|7.
/// - Otherwise nothing is known, and the learner gets a snapshot.
pub fn decide(history: &History, synced_epoch: Epoch, peer: Zxid) -> Decision {
    if peer == history.last() {
        Decision::Diff(peer)
    } else if peer < Zxid::ZERO {
        // It says that it has nothing that can be relied on.
        Decision::Snap
    } else if history.reaches(peer) {
        around(history.floor(peer), history.last(), synced_epoch, peer)
    } else {
        Decision::FromLog(peer)
    }
}

/// The same, where `floor` is the last transaction up to `peer` that memory or log has, and `last`
/// the last of all.
pub fn around(floor: Zxid, last: Zxid, synced_epoch: Epoch, peer: Zxid) -> Decision {
    // What a leader says that had no transaction in its epoch: it has all that was before.
    let is_fresh = peer.counter() == 0;
    if floor == peer || is_fresh && peer < last {
        Decision::Diff(floor)
    } else if is_fresh {
        Decision::Snap
    } else if floor.epoch() == peer.epoch() {
        mark(Mark::TruncInsideEpoch);
        Decision::Trunc(floor)
    } else if peer.epoch() <= synced_epoch {
        mark(Mark::TruncToEarlierEpoch);
        Decision::Trunc(floor)
    } else {
        Decision::Snap
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::Batch;

    fn z(epoch: i32, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    fn history(before: Zxid, zxids: &[Zxid]) -> History {
        let mut history = History::new(before, usize::MAX);
        for &zxid in zxids {
            let mut batch = Batch::new();
            batch.entry().extend_from_slice(&[0; 40]);
            batch.finish_entry(zxid);
            history.push(Arc::new(batch));
        }
        history
    }

    #[test]
    fn the_table() {
        let history = history(z(1, 4), &[z(1, 5), z(1, 6), z(3, 1), z(3, 2)]);
        let synced = Epoch(3);
        for (peer, expected) in [
            (z(3, 2), Decision::Diff(z(3, 2))),
            (z(1, 5), Decision::Diff(z(1, 5))),
            (z(1, 4), Decision::Diff(z(1, 4))),
            (z(1, 3), Decision::FromLog(z(1, 3))),
            (z(1, 9), Decision::Trunc(z(1, 6))),
            (z(3, 7), Decision::Trunc(z(3, 2))),
            (z(2, 4), Decision::Trunc(z(1, 6))),
            (z(2, 0), Decision::Diff(z(1, 6))),
            (z(3, 0), Decision::Diff(z(1, 6))),
            (Zxid(-1), Decision::Snap),
            (z(4, 0), Decision::Snap),
            (z(4, 1), Decision::Snap),
        ] {
            assert_eq!(decide(&history, synced, peer), expected, "{peer:?}");
        }
        assert_eq!(decide(&history, Epoch(1), z(2, 4)), Decision::Snap, "nothing is known of 2");
    }

    #[test]
    fn an_empty_learner_of_an_empty_leader() {
        let nothing = history(Zxid::ZERO, &[]);
        assert_eq!(decide(&nothing, Epoch(0), Zxid::ZERO), Decision::Diff(Zxid::ZERO));
        let some = history(Zxid::ZERO, &[z(1, 1)]);
        assert_eq!(decide(&some, Epoch(1), Zxid::ZERO), Decision::Diff(Zxid::ZERO));
    }
}
