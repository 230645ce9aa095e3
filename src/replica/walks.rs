//! Walks over the tree: one into a snapshot file, any number to those who want the whole database,
//! as a learner does that is too far behind for anything else.
//!
//! Each is fuzzy, as in Apache: it begins at a zxid, goes on between transactions, and may show
//! effects of later ones, which replay or the receiver repeats. They share one bound: a turn of the
//! loop makes one chunk, for the walk whose turn it is, and what that costs is taken from the
//! turn's budget. A walk whose receiver has not taken its last chunks pauses, so each holds a few
//! chunks of memory, however slow its receiver is. For example, with a file and two learners, one
//! of which takes nothing, the file and the other learner get a chunk in every second turn.
//!
//! A snapshot file must not show what the disk of this server does not have: a restart from it
//! would have more than its log. A stream may, as what it shows is committed.

use std::collections::VecDeque;

use crate::base::invariant;
use crate::log::SnapshotWriter;
use crate::tree::Walk;

use super::core::Replica;
use super::effects::{Effect, Effects, StreamId};

/// Chunks that may wait for the receiver, after which the walk pauses.
pub(super) const IN_FLIGHT_MAX: u32 = 8;
/// Nanoseconds that a byte takes: nodes of 200 bytes take 300 ns each, or 100 µs for a chunk.
pub(super) const BYTE_COST: u64 = 2;

/// Where the nodes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The snapshot file; there is one at a time.
    File,
    /// A receiver.
    Stream(StreamId),
}

#[derive(Debug)]
struct Job {
    target: Target,
    walk: Walk,
    writer: SnapshotWriter,
    /// Chunks that the receiver has not taken.
    in_flight: u32,
    /// Bytes so far.
    size: u64,
}

/// See the module's introduction.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// The one that goes on next stands first.
    jobs: VecDeque<Job>,
}

impl Walks {
    /// The receiver took a chunk. It may be one that was not told yet that its walk has ended or
    /// was given up.
    pub fn ready(&mut self, target: Target) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.target == target) {
            invariant!(job.in_flight > 0, "{target:?} takes a chunk that it was not given");
            job.in_flight -= 1;
        }
    }

    /// The first that may go on.
    fn next(&self, may_write_file: bool) -> Option<usize> {
        self.jobs.iter().position(|job| {
            job.in_flight < IN_FLIGHT_MAX && (may_write_file || job.target != Target::File)
        })
    }

    fn take(&mut self, target: Target) -> Option<Job> {
        let at = self.jobs.iter().position(|job| job.target == target)?;
        self.jobs.remove(at)
    }

    /// What is walked for.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.jobs.iter().map(|job| job.target)
    }

    /// The most chunks that wait for one receiver, and for how many walks.
    #[cfg(test)]
    pub fn waiting(&self) -> (u32, usize) {
        let most = self.jobs.iter().map(|job| job.in_flight).max();
        (most.unwrap_or(0), self.jobs.len())
    }
}

impl Replica {
    /// While no more bytes than this wait for the receiver of a stream, it takes further chunks.
    pub fn stream_room(&self) -> usize {
        self.options.walk_chunk * IN_FLIGHT_MAX as usize
    }

    /// Whether its database is on its way to another member, for checkers.
    pub fn is_streaming(&self) -> bool {
        self.walks.targets().any(|target| matches!(target, Target::Stream(_)))
    }

    /// Whether a snapshot file may go on: all that it may show is on the disk of this server.
    fn may_write_file(&self) -> bool {
        self.tail.applied() <= self.tail.logged()
    }

    /// Whether a walk could go on, or begin, now.
    pub(super) fn wants_walk_step(&self) -> bool {
        let may_write_file = self.may_write_file();
        may_write_file && self.may_begin_snapshot() || self.walks.next(may_write_file).is_some()
    }

    /// The part of walks in a turn.
    pub(super) fn step_walks(&mut self, effects: &mut Effects) {
        let may_write_file = self.may_write_file();
        if may_write_file && self.may_begin_snapshot() {
            self.begin_snapshot(effects);
        } else if let Some(at) = self.walks.next(may_write_file)
            && let Some(job) = self.walks.jobs.remove(at)
        {
            self.walk_on(job, effects);
        }
    }

    /// Begins a walk at the last applied transaction. Its head, with sessions and ACLs, is made at
    /// once: they have to be as that transaction left them.
    pub(super) fn begin_walk(&mut self, target: Target, effects: &mut Effects) {
        let is_new = self.walks.jobs.iter().all(|job| job.target != target);
        invariant!(is_new, "{target:?} is walked for twice");
        let zxid = self.tail.applied();
        let walk = self.tree.begin_walk(zxid);
        let mut out = Vec::with_capacity(self.options.walk_chunk * 2);
        let sessions = self.committed_sessions.iter().map(|(&id, &timeout)| (id, timeout));
        let acls = self.tree.acls_of_walk(&walk).into_iter();
        let writer = match target {
            Target::File => SnapshotWriter::begin(sessions, acls, &mut out),
            Target::Stream(stream) => {
                effects.list.push(Effect::StreamBegin { stream, zxid });
                SnapshotWriter::begin_stream(sessions, acls, &mut out)
            }
        };
        self.walks.jobs.push_back(Job {
            target,
            walk,
            writer,
            in_flight: 1,
            size: out.len() as u64,
        });
        self.hand_over_chunk(target, out, effects);
    }

    /// Gives up a walk, if it is still under way: its receiver is gone.
    pub(super) fn abandon_walk(&mut self, target: Target) {
        if let Some(job) = self.walks.take(target) {
            self.tree.end_walk(job.walk);
        }
    }

    fn walk_on(&mut self, mut job: Job, effects: &mut Effects) {
        let chunk = self.options.walk_chunk;
        let mut out = Vec::with_capacity(chunk * 2);
        let writer = &mut job.writer;
        let target = job.target;
        let is_done = job.walk.step(&mut self.tree, chunk, &mut |node| {
            writer.node(node.path, node.data, node.acl_id, &node.stat, &mut out);
        });
        if !is_done {
            job.in_flight += 1;
            job.size += out.len() as u64;
            self.walks.jobs.push_back(job);
            return self.hand_over_chunk(target, out, effects);
        }
        let Job { walk, writer, size, .. } = job;
        let size = size + out.len() as u64;
        match target {
            Target::File => {
                self.end_snapshot(writer, size, &mut out);
                self.hand_over_chunk(target, out, effects);
                effects.list.push(Effect::SnapshotFinish);
            }
            Target::Stream(stream) => {
                writer.finish_stream(&mut out);
                self.hand_over_chunk(target, out, effects);
                effects.list.push(Effect::StreamEnd { stream, is_whole: true });
            }
        }
        self.tree.end_walk(walk);
    }

    fn hand_over_chunk(&mut self, target: Target, bytes: Vec<u8>, effects: &mut Effects) {
        self.fair.spent += BYTE_COST * bytes.len() as u64;
        effects.list.push(match target {
            Target::File => Effect::SnapshotChunk(bytes),
            Target::Stream(stream) => Effect::StreamChunk { stream, bytes },
        });
    }
}
