//! Writes the epoch files, at a start that has to mend them, at a clean end, and wherever a member
//! promises an epoch or follows its leader. What they mean is said in `log::epochs`.

use std::fs;
use std::io;
use std::path::Path;

use crate::base::{Epoch, Zxid};
use crate::log::{EpochFile, Party, RecoverError, epochs_in, find_epochs};

use super::files::LogFiles;
use super::steps::Step;

/// Gives an epoch file its next content, durably. A crash in between leaves the old content or the
/// new one under its name.
pub(super) fn write<F: LogFiles>(files: &F, file: EpochFile, epoch: Epoch) -> Vec<Step> {
    let dir = files.snap_dir();
    let unfinished = dir.join(file.unfinished_name());
    vec![
        Step::Create(unfinished.clone()),
        Step::Append(EpochFile::content(epoch)),
        Step::Sync,
        Step::Rename(unfinished, dir.join(file.name())),
        Step::SyncDir(dir.to_owned()),
    ]
}

/// Writes all of these, one after the other.
///
/// # Errors
/// As the files give them; what was written before stays.
pub fn write_epochs<F: LogFiles>(files: &F, all: &[(EpochFile, Epoch)]) -> io::Result<()> {
    let mut hand = None;
    let steps = all.iter().flat_map(|&(file, epoch)| write(files, file, epoch));
    steps.into_iter().try_for_each(|step| step.perform(files, &mut hand))
}

/// Brings the files of a server alone up to its last transaction, if there are any: its numbers may
/// have gone on into another epoch, and a member that starts here needs them in order.
pub(super) fn keep_up<F: LogFiles>(files: &F, last: Zxid) -> io::Result<()> {
    // What contradicts itself was told at the start, and stays as it is.
    let found = find_epochs(files, last, Party::Alone).unwrap_or_default();
    write_epochs(files, &found.write)
}

/// What is wrong with the epoch files in this `version-2` by the rules of `party`, whatever the end
/// of the log is. Changes nothing.
pub fn foresee_epochs(version_dir: &Path, party: Party) -> Option<RecoverError> {
    let read = |path: &Path| match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    epochs_in(version_dir, read, Zxid::ZERO, party).err()
}
