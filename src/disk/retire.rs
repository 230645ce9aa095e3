//! Makes a received snapshot the database, at run time or where a start finds that unfinished; why
//! a crash does no harm is said in `log::retire`.

use std::path::PathBuf;

use crate::base::Zxid;
use crate::log::Retirement;

use super::files::LogFiles;
use super::steps::Step;

/// Decides it: once these are done, a start gives the snapshot. The snapshot's own name is made
/// durable before, in case its directory is another one.
pub(super) fn decide<F: LogFiles>(files: &F, snapshot: Zxid) -> Vec<Step> {
    let (snap_dir, log_dir) = (files.snap_dir(), files.log_dir());
    vec![
        Step::SyncDir(snap_dir.to_owned()),
        Step::Create(intent(files, snapshot)),
        Step::SyncDir(log_dir.to_owned()),
    ]
}

/// What is left to do then. Before all of it is done nothing may be appended.
pub(super) fn complete<F: LogFiles>(files: &F, retirement: &Retirement) -> Vec<Step> {
    let (snap_dir, log_dir) = (files.snap_dir(), files.log_dir());
    let sync = |steps: &mut Vec<Step>| {
        steps.push(Step::SyncDir(snap_dir.to_owned()));
        if log_dir != snap_dir {
            steps.push(Step::SyncDir(log_dir.to_owned()));
        }
    };
    let mut steps: Vec<Step> = retirement.remove.iter().cloned().map(Step::Remove).collect();
    // Another snapshot of that name must be gone for good before this one gets it.
    sync(&mut steps);
    if let Some((from, to)) = &retirement.rename {
        steps.push(Step::Rename(from.clone(), to.clone()));
        sync(&mut steps);
    }
    steps.extend(retirement.intents.iter().cloned().map(Step::Remove));
    // At run time it was not there yet when the rest was looked up.
    steps.push(Step::Remove(intent(files, retirement.snapshot)));
    steps.push(Step::SyncDir(log_dir.to_owned()));
    steps
}

fn intent<F: LogFiles>(files: &F, snapshot: Zxid) -> PathBuf {
    files.log_dir().join(format!("retire.{snapshot}"))
}
