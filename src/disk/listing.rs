//! Listing, reading and repairing real data directories.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::log::{
    self, DataFiles, FileName, LogRepair, RecoverError, RecoverOptions, Recovered, RecoveryTarget,
};
use crate::sys::file::MappedFile;

use super::datadir::DataDir;
use super::epochs::write_epochs;
use super::files::{LogFiles, is_snapshot};
use super::retire;
use super::steps::perform;
use super::truncate;

/// Files of a directory with what their names say; names that are not UTF-8 are passed over.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(FileName, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str() {
            files.push((FileName::parse(name), entry.path()));
        }
    }
    files.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(files)
}

impl DataFiles for DataDir {
    type Content = MappedFile;

    fn snap_dir(&self) -> &Path {
        DataDir::snap_dir(self)
    }

    fn log_dir(&self) -> &Path {
        DataDir::log_dir(self)
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        let files = list(dir).map_err(|e| e.to_string())?;
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }

    fn read(&self, path: &Path) -> Result<Option<MappedFile>, String> {
        match File::open(path).and_then(|file| MappedFile::new(&file)) {
            Ok(map) => Ok(Some(map)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }

    fn take_initialize(&self) -> Result<bool, (PathBuf, String)> {
        let path = self.log_root().join("initialize");
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err((path, e.to_string())),
        }
    }
}

/// Loads the directory into `target`, see [`crate::log::recover`].
#[allow(clippy::result_large_err, reason = "a recovery fails once")]
pub fn recover(
    dir: &DataDir,
    options: &RecoverOptions,
    target: &mut dyn RecoveryTarget,
) -> Result<Recovered, RecoverError> {
    log::recover(dir, options, target)
}

/// Removes unfinished files of ours, and databases that were received and did not become this
/// server's. A temporary snapshot stays if there is no proper one: it may be all that is left for
/// an operator to look at.
pub(super) fn tidy<F: LogFiles>(files: &F) -> Result<(), (PathBuf, io::Error)> {
    let (snap_dir, log_dir) = (files.snap_dir(), files.log_dir());
    let snaps = files.entries(snap_dir).map_err(at(snap_dir))?;
    let proper =
        snaps.iter().any(|(k, p)| matches!(k, FileName::Snapshot(_)) && is_snapshot(files, p));
    for (kind, path) in snaps {
        let is_left = matches!(kind, FileName::Received(_));
        if is_left || (kind == FileName::Temporary && proper) {
            files.remove(&path).map_err(at(&path))?;
        }
    }
    for (kind, path) in files.entries(log_dir).map_err(at(log_dir))? {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if kind == FileName::Temporary && name.starts_with("spare.") {
            files.remove(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> (PathBuf, io::Error) {
    move |error| (path.to_owned(), error)
}

/// Makes the directories fit for going on, durably: the log as recovery said, all that it read, and
/// without what an earlier run has left unfinished. Not before recovery has succeeded: a start that
/// is refused changes nothing.
pub(super) fn repair<F: LogFiles>(
    repair: &LogRepair,
    files: &F,
) -> Result<(), (PathBuf, io::Error)> {
    // Before unfinished files go: the snapshot that was received may be among them.
    if let Some(retirement) = &repair.retirement {
        perform(files, retire::complete(files, retirement)).map_err(at(files.log_dir()))?;
    }
    tidy(files)?;
    if let Some(truncation) = &repair.truncation {
        perform(files, truncate::complete(files, truncation)).map_err(at(files.log_dir()))?;
    }
    for path in &repair.remove {
        files.remove(path).map_err(at(path))?;
    }
    for (from, to) in &repair.rename {
        files.rename(from, to).map_err(at(from))?;
    }
    if let Some((path, seal)) = &repair.cut {
        let renamed = repair.rename.iter().find(|(from, _)| from == path).map(|(_, to)| to);
        let path = renamed.unwrap_or(path);
        let file = files.open(path, Some(false)).map_err(at(path))?;
        // What a killed process left in the page cache is durable before a seal vouches for it, and
        // the seal before the file is cut: a shorter one without it was cut by somebody else.
        files.sync(&file).map_err(at(path))?;
        files.write_all(&file, seal.bytes(), seal.offset(), 0).map_err(at(path))?;
        files.sync(&file).map_err(at(path))?;
        files.set_len(&file, seal.end).map_err(at(path))?;
        files.sync(&file).map_err(at(path))?;
    }
    for path in &repair.sync {
        files.sync_path(path).map_err(at(path))?;
    }
    let (snap_dir, log_dir) = (files.snap_dir(), files.log_dir());
    if snap_dir != log_dir {
        files.sync_dir(snap_dir).map_err(at(snap_dir))?;
    }
    files.sync_dir(log_dir).map_err(at(log_dir))?;
    // An epoch says that the history before it is there (ZOOKEEPER-4643), so it comes last.
    write_epochs(files, &repair.epochs).map_err(at(snap_dir))
}
