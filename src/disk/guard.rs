//! The file that keeps an Apache server away while the newest transactions are in our segments.
//!
//! Apache does not read segments: started on the directory of a Ringkeeper that runs or was killed,
//! it would serve an older state and give zxids a second time. So as long as that may be, the log's
//! directory contains `log.7fffffffffffffff`. To Apache it is the newest log file, and as it does
//! not begin like one, every Apache from 3.5 on ends with 'invalid magic number' before it serves.
//! It is there, durably, before a start appends a record, and goes when a snapshot that holds
//! everything is durable and nothing more will be written. Recovery passes it over
//! (`log::is_guard`), a purge leaves it alone as it leaves the newest log, and a copy of the
//! directory has it as it has the segments.

use std::io;
use std::path::PathBuf;

use crate::base::Zxid;
use crate::log::{FileName, GUARD_NAME};

use super::epochs;
use super::files::{LogFiles, is_snapshot};
use super::steps::Step;

/// What Apache takes for a magic number, and a person for an explanation.
const TEXT: &str = "\
This file keeps Apache ZooKeeper from starting here. It holds no data.

Ringkeeper writes its transactions to the wal.* files of this directory, which Apache ZooKeeper
does not read: it would serve an older state, without transactions that were acknowledged. With
this file here it stops with 'invalid magic number' instead.

To go back to Apache ZooKeeper: start Ringkeeper on this directory and end it with SIGTERM. It then
writes a snapshot that holds everything and removes this file. Do not remove it by hand, unless the
transactions in the wal.* files are to be lost.
";

/// Its name until it is whole; the next start removes one that is not.
const UNFINISHED: &str = "spare.guard.tmp";

pub(super) fn path<F: LogFiles>(files: &F) -> PathBuf {
    files.log_dir().join(GUARD_NAME)
}

/// Puts the file in place, durably. Call it before a record is appended.
pub(super) fn place<F: LogFiles>(files: &F) -> io::Result<()> {
    let path = path(files);
    if files.exists(&path) {
        // An operator who copied the directory may not have synced it.
        files.sync_path(&path)?;
        return files.sync_dir(files.log_dir());
    }
    let unfinished = files.log_dir().join(UNFINISHED);
    let mut hand = None;
    let steps = [
        Step::Create(unfinished.clone()),
        Step::Append(TEXT.as_bytes().to_vec()),
        Step::Sync,
        Step::Rename(unfinished, path),
        Step::SyncDir(files.log_dir().to_owned()),
    ];
    steps.into_iter().try_for_each(|step| step.perform(files, &mut hand))
}

/// What became of the file at a clean end.
#[derive(Debug)]
pub enum Handover {
    /// An Apache server can go on from here: a snapshot holds everything up to `last`.
    Ready,
    /// No snapshot holds everything, so the file stays.
    NoSnapshot,
    /// It could not be removed, or an epoch file in this directory could not be written.
    Failed(PathBuf, io::Error),
}

/// Takes the file away if a snapshot holds everything up to `last`, once the epoch files, if there
/// are any, are as a member needs them. Call it when nothing will be written any more.
pub fn hand_over<F: LogFiles>(files: &F, last: Zxid) -> Handover {
    let path = path(files);
    let failed = |error| Handover::Failed(path.clone(), error);
    let snapshots = match files.entries(files.snap_dir()) {
        Ok(snapshots) => snapshots,
        Err(error) => return failed(error),
    };
    let holds_all = |(kind, path): &(FileName, PathBuf)| {
        matches!(kind, FileName::Snapshot(zxid) if *zxid >= last) && is_snapshot(files, path)
    };
    let is_named = |(kind, _): &(FileName, PathBuf)| matches!(kind, FileName::Snapshot(_));
    // A member that had no database, and got none, leaves what it has found.
    let is_void = last == Zxid::ZERO && !snapshots.iter().any(is_named);
    if !is_void && !snapshots.iter().any(holds_all) {
        return Handover::NoSnapshot;
    }
    if let Err(error) = epochs::keep_up(files, last) {
        return Handover::Failed(files.snap_dir().to_owned(), error);
    }
    let steps = [Step::Remove(path.clone()), Step::SyncDir(files.log_dir().to_owned())];
    match steps.into_iter().try_for_each(|step| step.perform(files, &mut None)) {
        Ok(()) => Handover::Ready,
        Err(error) => failed(error),
    }
}
