//! Snapshot files: when the next one is due, and how far the one under way is. The walk over the
//! tree is one of [`super::walks`].

use crate::base::{Mutation, Rng, Zxid, invariant, is_mutated};
use crate::log::{SnapshotDigest, SnapshotWriter};
use crate::wire::TxnDigest;

use super::core::{Replica, ReplicaOptions};
use super::effects::{Effect, Effects};
use super::walks::Target;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// A walk goes on, see [`super::walks`].
    Walking,
    /// Everything was handed over; the disk makes it durable and gives it its name.
    Publishing,
}

/// When the next snapshot is due, and how far the running one is.
pub struct SnapshotState {
    phase: Phase,
    txns: u64,
    bytes: u64,
    txns_due: u64,
    bytes_due: u64,
    /// Bytes of log that a snapshot must be worth: a multiple of the size of the last one.
    log_bytes_min: u64,
    wanted: bool,
    /// Position of the one that began last.
    begun: Zxid,
    /// Position of the newest whole one on disk.
    newest: Option<Zxid>,
    /// What is here is not the database of this server, see [`Replica::is_void`].
    is_barred: bool,
}

impl SnapshotState {
    /// Nothing logged yet; `newest` is on disk.
    pub fn new(
        options: &ReplicaOptions,
        rng: &mut Rng,
        wanted: bool,
        newest: Option<Zxid>,
    ) -> SnapshotState {
        let mut state = SnapshotState {
            phase: Phase::Idle,
            txns: 0,
            bytes: 0,
            txns_due: 0,
            bytes_due: 0,
            log_bytes_min: options.snapshot_log_bytes_min,
            wanted,
            begun: Zxid::ZERO,
            newest,
            is_barred: false,
        };
        state.draw(options, rng);
        state
    }

    /// None may be written before the database is replaced.
    pub fn bar(&mut self) {
        (self.is_barred, self.wanted) = (true, false);
    }

    /// Half the limit plus a random half, so that the servers of an ensemble take turns.
    fn draw(&mut self, options: &ReplicaOptions, rng: &mut Rng) {
        let half = options.snap_count / 2;
        self.txns_due = half + rng.below(half.max(1));
        let half = options.snap_size_bytes / 2;
        self.bytes_due = if half == 0 { u64::MAX } else { half + rng.below(half) };
        self.txns = 0;
        self.bytes = 0;
    }

    /// Counts a transaction.
    pub fn logged(&mut self, bytes: u64) {
        self.txns += 1;
        self.bytes += bytes;
    }

    /// Whether the newest one on disk lacks transactions up to `applied`, logged by
    /// this process, or by one before it that was killed.
    fn is_stale(&self, applied: Zxid) -> bool {
        let is_older = self.newest.is_none_or(|newest| newest < applied);
        !self.is_barred && (self.wanted || is_older)
    }

    /// Whether a snapshot is under way.
    pub fn is_running(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// The one that began last is on disk.
    fn succeeded(&mut self) {
        self.newest = self.newest.max(Some(self.begun));
    }

    /// The next one must not wait for four times the size of one that does not exist.
    fn failed(&mut self, options: &ReplicaOptions) {
        self.log_bytes_min = options.snapshot_log_bytes_min;
    }

    /// Whether one will begin at the next opportunity.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Begin one at the next opportunity.
    pub fn want(&mut self) {
        self.wanted = !self.is_barred;
    }

    /// Whether one should begin: asked for, or enough has been logged. Under a fast load that is
    /// no question of `snapCount` alone: a large tree would be written without end.
    fn is_due(&self) -> bool {
        self.wanted
            || self.bytes > self.bytes_due
            || self.txns > self.txns_due && self.bytes >= self.log_bytes_min
    }

    /// The database is another one, of which there is a snapshot: of `newest`.
    pub fn replaced(&mut self, options: &ReplicaOptions, rng: &mut Rng, newest: Zxid) {
        invariant!(self.phase == Phase::Idle, "a snapshot of a tree that is gone");
        *self = SnapshotState::new(options, rng, false, Some(newest));
    }
}

impl Replica {
    /// Asks for a snapshot if the newest one on disk lacks transactions; returns whether one is
    /// wanted or under way. After a failed one it is so until one succeeds.
    pub fn request_snapshot(&mut self) -> bool {
        if self.snapshot.is_stale(self.tail.applied()) && !self.snapshot.is_running() {
            self.snapshot.want();
        }
        self.snapshot.wanted || self.snapshot.is_running()
    }

    /// Whether there is a whole snapshot on disk, be it of an empty tree.
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.newest.is_some()
    }

    /// Whether this member has no database at all: its directory was empty, and nobody said that it
    /// should be. It may have forgotten what it had acknowledged, so it has no say, and writes no
    /// snapshot by which the next start would take it for new, before another member's database is
    /// adopted.
    pub fn is_void(&self) -> bool {
        self.snapshot.is_barred
    }

    /// Whether the next one should begin now.
    pub(super) fn may_begin_snapshot(&self) -> bool {
        self.snapshot.phase == Phase::Idle && self.snapshot.is_due() && self.may_snapshot_old()
    }

    /// Gives up the one whose nodes are not all written; it is due again. One that the disk
    /// publishes already is left to it.
    pub(super) fn abandon_snapshot(&mut self, effects: &mut Effects) {
        if self.snapshot.phase == Phase::Walking {
            self.abandon_walk(Target::File);
            self.snapshot.phase = Phase::Idle;
            self.snapshot.want();
            effects.list.push(Effect::SnapshotAbandon);
        }
    }

    /// The disk finished or gave up, `!ok`: then the log is kept until the next one, which does not
    /// wait for as much of it.
    pub(super) fn snapshot_ended(&mut self, ok: bool) {
        if !self.snapshot.is_running() {
            // It failed when it was given up already.
            invariant!(!ok, "the disk completes a snapshot that never began");
            return;
        }
        if ok {
            self.snapshot.succeeded();
        } else {
            self.snapshot.failed(&self.options);
        }
        self.snapshot.phase = Phase::Idle;
        self.abandon_walk(Target::File);
    }

    pub(super) fn begin_snapshot(&mut self, effects: &mut Effects) {
        let phase = self.snapshot.phase;
        invariant!(phase == Phase::Idle, "a snapshot file begins while one is {phase:?}");
        self.snapshot.wanted = false;
        self.snapshot.draw(&self.options, &mut self.rng);
        self.snapshot.begun = self.tail.applied();
        self.snapshot.phase = Phase::Walking;
        let name = match is_mutated(Mutation::SnapshotAhead) {
            true => self.tail.last(),
            false => self.snapshot.begun,
        };
        effects.list.push(Effect::SnapshotBegin(name));
        self.begin_walk(Target::File, effects);
    }

    /// The walk is at its end: `out` gets what follows the nodes. `size` is the number of bytes
    /// before that.
    pub(super) fn end_snapshot(&mut self, writer: SnapshotWriter, size: u64, out: &mut Vec<u8>) {
        let phase = self.snapshot.phase;
        invariant!(phase == Phase::Walking, "the walk for a snapshot file ends while {phase:?}");
        let is_fuzzy = self.is_fuzzy();
        let digest = self.options.digest.then(|| match is_fuzzy {
            // The tree shows the state after no transaction yet.
            true => SnapshotDigest::BLANK,
            false => SnapshotDigest {
                zxid: self.tail.applied(),
                version: TxnDigest::VERSION,
                digest: self.tree.digest(),
            },
        });
        let last = self.options.snapshot_zxid.then_some(self.tail.applied());
        writer.finish(digest, last, out);
        let ratio = size * self.options.snap_log_ratio;
        self.snapshot.log_bytes_min = ratio.max(self.options.snapshot_log_bytes_min);
        self.snapshot.phase = Phase::Publishing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_on_disk_is_stale_until_one_with_every_transaction_is_there() {
        let options = ReplicaOptions::default();
        let state = |newest| SnapshotState::new(&options, &mut Rng::new(1), false, newest);
        assert!(state(None).is_stale(Zxid(0)), "there is none");
        assert!(!state(Some(Zxid(7))).is_stale(Zxid(7)));
        // Nothing logged since the start, but the start replayed.
        let mut one = state(Some(Zxid(7)));
        assert!(one.is_stale(Zxid(9)));
        one.begun = Zxid(9);
        one.failed(&options);
        assert!(one.is_stale(Zxid(9)));
        one.succeeded();
        assert!(!one.is_stale(Zxid(9)));
        assert!(one.is_stale(Zxid(10)), "logged while it was written");
    }

    #[test]
    fn a_large_tree_waits_for_more_log() {
        let options = ReplicaOptions {
            snap_count: 10,
            snap_size_bytes: 1 << 20,
            ..ReplicaOptions::default()
        };
        let mut rng = Rng::new(1);
        let mut state = SnapshotState::new(&options, &mut rng, false, None);
        let log = |state: &mut SnapshotState, txns: u64| (0..txns).for_each(|_| state.logged(100));
        log(&mut state, 11);
        assert!(state.is_due());
        state.draw(&options, &mut rng);
        state.log_bytes_min = 5000;
        log(&mut state, 49);
        assert!(!state.is_due());
        log(&mut state, 1);
        assert!(state.is_due());
        state.draw(&options, &mut rng);
        state.log_bytes_min = u64::MAX;
        log(&mut state, 5000);
        assert!(!state.is_due());
        log(&mut state, 5486);
        assert!(state.is_due(), "snapSizeLimitInKb holds whatever the ratio");
        state.draw(&options, &mut rng);
        log(&mut state, 11);
        assert!(!state.is_due());
        state.failed(&options);
        assert!(state.is_due(), "after a failure snapCount alone counts");
    }
}
