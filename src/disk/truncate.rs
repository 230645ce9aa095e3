//! Carries out a truncation of the log, at run time or where a start finds one unfinished; what it
//! is and why a crash does no harm is said in `log::truncate`.

use std::io;
use std::path::PathBuf;

use crate::base::Zxid;
use crate::log::{FileName, Truncation};

use super::files::LogFiles;
use super::steps::Step;

/// Name of a file until it is whole; a start removes it.
const UNFINISHED: &str = "spare.truncate.tmp";

/// Decides that the log ends with `keep`: behind these, it does.
pub(super) fn decide<F: LogFiles>(files: &F, keep: Zxid) -> Vec<Step> {
    let dir = files.log_dir();
    vec![Step::Create(dir.join(format!("truncate.{keep}"))), Step::SyncDir(dir.to_owned())]
}

/// What is left to do then. Before all of it is done nothing may be appended.
pub(super) fn complete<F: LogFiles>(files: &F, truncation: &Truncation) -> io::Result<Vec<Step>> {
    let dir = files.log_dir();
    let unfinished = dir.join(UNFINISHED);
    let mut steps: Vec<Step> = truncation.remove.iter().cloned().map(Step::Remove).collect();
    for (path, content) in &truncation.rewrite {
        steps.push(Step::Create(unfinished.clone()));
        steps.push(Step::Append(content.clone()));
        steps.push(Step::Sync);
        steps.push(Step::Rename(unfinished.clone(), path.clone()));
    }
    steps.push(Step::SyncDir(dir.to_owned()));
    let is_intent = |(kind, _): &(FileName, PathBuf)| matches!(kind, FileName::Truncate(_));
    let intents = files.entries(dir)?.into_iter().filter(is_intent);
    steps.extend(intents.map(|(_, path)| Step::Remove(path)));
    steps.push(Step::SyncDir(dir.to_owned()));
    Ok(steps)
}

/// Performs them in line.
pub(super) fn perform<F: LogFiles>(files: &F, steps: Vec<Step>) -> io::Result<()> {
    let mut hand = None;
    steps.into_iter().try_for_each(|step| step.perform(files, &mut hand))
}

/// The newest snapshot, if it holds what would go. A snapshot cannot be taken back.
pub(super) fn snapshot_beyond<F: LogFiles>(files: &F, keep: Zxid) -> io::Result<Option<PathBuf>> {
    let snapshots = files.entries(files.snap_dir())?.into_iter();
    let beyond = snapshots.filter_map(|(kind, path)| match kind {
        FileName::Snapshot(zxid) if zxid > keep => Some((zxid, path)),
        _ => None,
    });
    Ok(beyond.max().map(|(_, path)| path))
}
