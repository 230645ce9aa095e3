//! Snapshots in slices: the walk over the tree goes on between batches, so that no request waits
//! for it. Fuzzy, like Apache's: what happens meanwhile is replayed from the log.

use crate::base::{Rng, Zxid};
use crate::log::{SnapshotDigest, SnapshotWriter};
use crate::tree::Walk;
use crate::wire::TxnDigest;

use super::core::{Replica, ReplicaOptions};
use super::effects::{Effect, Effects};

/// Bytes handed to the disk at a time; about 100 µs of walking.
const CHUNK: usize = 64 * 1024;
/// Chunks that may wait for the disk, after which the walk pauses.
const IN_FLIGHT_MAX: u32 = 8;

enum Phase {
    Idle,
    Walking(Box<(Walk, SnapshotWriter)>),
    /// Everything was handed over; the disk publishes it.
    Publishing,
}

/// When the next snapshot is due, and how far the running one is.
pub struct SnapshotState {
    phase: Phase,
    in_flight: u32,
    txns: u64,
    bytes: u64,
    txns_due: u64,
    bytes_due: u64,
    /// Bytes of log that a snapshot must be worth: so many times the size of the last one.
    least_bytes: u64,
    size: u64,
    wanted: bool,
    /// Position of the one that began last.
    begun: Zxid,
    /// Position of the newest whole one on disk.
    newest: Option<Zxid>,
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
            in_flight: 0,
            txns: 0,
            bytes: 0,
            txns_due: 0,
            bytes_due: 0,
            least_bytes: options.snap_log_least,
            size: 0,
            wanted,
            begun: Zxid::ZERO,
            newest,
        };
        state.draw(options, rng);
        state
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

    /// Whether the newest one on disk lacks transactions up to `applied`, whoever logged them: this
    /// process, or one before it that was killed.
    fn is_stale(&self, applied: Zxid) -> bool {
        self.wanted || self.newest.is_none_or(|newest| newest < applied)
    }

    /// Whether a snapshot is under way.
    pub fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// The disk took a chunk.
    pub fn ready(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The one that began last is on disk.
    fn succeeded(&mut self) {
        self.newest = self.newest.max(Some(self.begun));
    }

    /// The next one must not wait for four times the size of one that does not exist.
    fn failed(&mut self, options: &ReplicaOptions) {
        self.least_bytes = options.snap_log_least;
    }

    /// The disk finished or gave up; the walk that was under way, if any.
    fn ended(&mut self) -> Option<Walk> {
        self.in_flight = 0;
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Walking(job) => Some(job.0),
            Phase::Idle | Phase::Publishing => None,
        }
    }

    /// Whether one will begin at the next opportunity.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Begin one at the next opportunity.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether one should begin: asked for, or enough has been logged. Under a fast load that is
    /// no question of `snapCount` alone: a large tree would be written without end.
    fn is_due(&self) -> bool {
        self.wanted
            || self.bytes > self.bytes_due
            || self.txns > self.txns_due && self.bytes >= self.least_bytes
    }

    /// Whether the walk could go on now.
    pub fn wants_step(&self) -> bool {
        match self.phase {
            Phase::Idle => self.is_due(),
            Phase::Walking(_) => self.in_flight < IN_FLIGHT_MAX,
            Phase::Publishing => false,
        }
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

    /// The disk finished or gave up, `!ok`: then the log is kept until the next one, which does not
    /// wait for as much of it.
    pub(super) fn snapshot_ended(&mut self, ok: bool) {
        if ok {
            self.snapshot.succeeded();
        } else {
            self.snapshot.failed(&self.options);
        }
        if let Some(walk) = self.snapshot.ended() {
            self.tree.end_walk(walk);
        }
    }

    /// Whether a snapshot could go on now. It must not show what the disk of this server does not
    /// have yet: a restart from it would have more than its log.
    pub(super) fn wants_snapshot_step(&self) -> bool {
        self.snapshot.wants_step() && self.tail.applied() <= self.tail.logged()
    }

    pub(super) fn step_snapshot(&mut self, fx: &mut Effects) {
        if !self.wants_snapshot_step() {
            return;
        }
        match &self.snapshot.phase {
            Phase::Idle if self.snapshot.is_due() => self.begin_snapshot(fx),
            Phase::Idle => {}
            Phase::Walking(_) if self.snapshot.in_flight < IN_FLIGHT_MAX => self.walk_on(fx),
            Phase::Walking(_) | Phase::Publishing => {}
        }
    }

    fn begin_snapshot(&mut self, fx: &mut Effects) {
        self.snapshot.wanted = false;
        self.snapshot.draw(&self.options, &mut self.rng);
        let zxid = self.tail.applied();
        self.snapshot.begun = zxid;
        let walk = self.tree.begin_walk(zxid);
        let mut out = Vec::with_capacity(CHUNK * 2);
        let sessions = self.committed_sessions.iter().map(|(&id, &timeout)| (id, timeout));
        let acls = self.tree.acls_of_walk(&walk);
        let writer = SnapshotWriter::begin(sessions, acls.into_iter(), &mut out);
        fx.list.push(Effect::SnapshotBegin(zxid));
        fx.list.push(Effect::SnapshotChunk(out));
        self.snapshot.in_flight += 1;
        self.snapshot.size = 0;
        self.snapshot.phase = Phase::Walking(Box::new((walk, writer)));
    }

    fn walk_on(&mut self, fx: &mut Effects) {
        let phase = std::mem::replace(&mut self.snapshot.phase, Phase::Publishing);
        let Phase::Walking(mut job) = phase else { return };
        let (walk, writer) = &mut *job;
        let mut out = Vec::with_capacity(CHUNK * 2);
        let done = walk.step(&mut self.tree, CHUNK, &mut |node| {
            writer.node(node.path, node.data, node.acl_id, &node.stat, &mut out);
        });
        self.snapshot.in_flight += 1;
        self.snapshot.size += out.len() as u64;
        if !done {
            fx.list.push(Effect::SnapshotChunk(out));
            self.snapshot.phase = Phase::Walking(job);
            return;
        }
        let digest = self.options.digest.then(|| SnapshotDigest {
            zxid: self.tail.applied(),
            version: TxnDigest::VERSION,
            digest: self.tree.digest(),
        });
        let last = self.options.snapshot_zxid.then_some(self.tail.applied());
        job.1.finish(digest, last, &mut out);
        let least = self.snapshot.size * self.options.snap_log_ratio;
        self.snapshot.least_bytes = least.max(self.options.snap_log_least);
        fx.list.push(Effect::SnapshotChunk(out));
        fx.list.push(Effect::SnapshotFinish);
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
        state.least_bytes = 5000;
        log(&mut state, 49);
        assert!(!state.is_due());
        log(&mut state, 1);
        assert!(state.is_due());
        state.draw(&options, &mut rng);
        state.least_bytes = u64::MAX;
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
