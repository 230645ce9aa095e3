//! How far a log says that it is committed, and the transactions after that.
//!
//! Each group commit of format 2 says which transaction was known to be committed when it was
//! written. For instance, of the group commits with 1 to 4, 5 to 7 and 8 to 9 the last one says 6:
//! recovery hands 1 to 6 to its target and keeps 7 to 9 as tail, of which a quorum decides.
//!
//! Logs of format 1 and Apache's say nothing of commits. For a server alone all that is in them,
//! and before them, counts as committed. For a member that goes for format 1 only, whose releases
//! knew no quorum. What it has in Apache's logs after the snapshot is tail, as an Apache that
//! led may have logged what no quorum ever had: that is taken back by the next leader, and must
//! not have been shown by then. Apache itself applies all of it at a start, and loads everything
//! anew when it is taken back. More than [`UNTOLD_BYTES_MAX`] were never under way at a time, so
//! what lies before that counts as committed.

use std::sync::Arc;

use crate::base::Zxid;
use crate::log::scan::committed_in;
use crate::log::{Batch, DataFiles, Format, Party, RecoverError, SegmentHeader};

use super::find::{LogFile, Source, read};

/// Bytes after which the tail goes on in another batch.
const BATCH: usize = 1 << 20;

/// Bytes of Apache's logs that are kept as tail.
pub(super) const UNTOLD_BYTES_MAX: usize = 64 << 20;

/// Where the tail begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The first log file, by its place, that may hold some of the tail.
    pub from: usize,
    /// The last transaction that is said to be committed.
    pub committed: Zxid,
}

impl Mark {
    /// The mark in these log files; the first `skip` of them are not needed.
    pub fn find(
        dir: &impl DataFiles,
        logs: &[LogFile],
        skip: usize,
        party: Party,
    ) -> Result<Mark, RecoverError> {
        let mut committed = None;
        for (index, file) in logs.iter().enumerate().skip(skip).rev() {
            let nothing_said = Mark { from: index + 1, committed: committed.unwrap_or_default() };
            if file.source == Source::Apache {
                return Ok(match party {
                    Party::Alone => nothing_said,
                    Party::Member => Mark { from: skip, ..nothing_said },
                });
            }
            let content = read(dir, &file.path)?;
            if SegmentHeader::decode(&content).is_ok_and(|header| header.format == Format::One) {
                return Ok(nothing_said);
            }
            // It only grows from segment to segment.
            committed = committed.or_else(|| committed_in(&content));
            if let Some(committed) = committed.filter(|committed| file.first <= *committed) {
                return Ok(Mark { from: index, committed });
            }
        }
        Ok(Mark { from: skip, committed: committed.unwrap_or_default() })
    }
}

/// The transactions of a tail, as they are read.
#[derive(Default)]
pub(super) struct Kept(Vec<Batch>);

impl Kept {
    pub fn push(&mut self, zxid: Zxid, entry: &[u8]) {
        if self.0.last().is_none_or(|batch| batch.bytes_len() >= BATCH) {
            self.0.push(Batch::new());
        }
        if let Some(batch) = self.0.last_mut() {
            batch.entry().extend_from_slice(entry);
            batch.finish_entry(zxid);
        }
    }

    /// Takes the first of several batches out, if there are more than `bytes_max` and it ends
    /// before `end`.
    pub fn take_first(&mut self, end: Zxid, bytes_max: usize) -> Option<Batch> {
        let bytes: usize = self.0.iter().map(Batch::bytes_len).sum();
        let is_before = self.0.first()?.last_zxid() <= Some(end);
        (is_before && self.0.len() > 1 && bytes > bytes_max).then(|| self.0.remove(0))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_batches(self) -> Vec<Arc<Batch>> {
        self.0.into_iter().map(Arc::new).collect()
    }
}
