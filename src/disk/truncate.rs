//! Carries out a truncation of the log, at run time or where a start finds one unfinished; what it
//! is and why a crash does no harm is said in `log::truncate`.

use std::path::PathBuf;

use crate::base::Zxid;
use crate::log::Truncation;

use super::files::LogFiles;
use super::steps::Step;

/// Name of a file until it is whole; a start removes it.
const UNFINISHED: &str = "spare.truncate.tmp";

/// Decides that the log ends with `keep`: once these are done, it does.
pub(super) fn decide<F: LogFiles>(files: &F, keep: Zxid) -> Vec<Step> {
    vec![Step::Create(intent(files, keep)), Step::SyncDir(files.log_dir().to_owned())]
}

/// What is left to do then. Before all of it is done nothing may be appended.
pub(super) fn complete<F: LogFiles>(files: &F, truncation: &Truncation) -> Vec<Step> {
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
    steps.push(Step::Remove(intent(files, truncation.keep)));
    steps.push(Step::SyncDir(dir.to_owned()));
    steps
}

fn intent<F: LogFiles>(files: &F, keep: Zxid) -> PathBuf {
    files.log_dir().join(format!("truncate.{keep}"))
}
