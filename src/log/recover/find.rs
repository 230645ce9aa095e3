//! Which files a recovery has before it, and the newest snapshot that can be loaded.

use std::path::{Path, PathBuf};

use crate::base::Zxid;
use crate::log::histories::{HistoryCheck, Times};
use crate::log::scan::first_entry;
use crate::log::{
    DataFiles, FileName, GUARD_NAME, RecoverError, is_guard, load_snapshot, looks_valid,
};

use super::errors::{ZXID_LIMIT, io_error, snapshot_beyond};
use super::{LogRepair, RecoveryTarget};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::log) enum Source {
    Apache,
    Native,
}

#[derive(Clone, Debug)]
pub(in crate::log) struct LogFile {
    pub source: Source,
    pub first: Zxid,
    pub path: PathBuf,
    /// Found under its spare name.
    pub spare: bool,
}

pub(super) fn list(
    dir: &impl DataFiles,
    path: &Path,
) -> Result<Vec<(FileName, PathBuf)>, RecoverError> {
    let mut files: Vec<_> = dir.list(path).map_err(|error| io_error(path, &error))?;
    files.sort();
    let name_of =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).map(FileName::parse);
    Ok(files.into_iter().filter_map(|path| Some((name_of(&path)?, path))).collect())
}

/// Whether the logs begin with our own log's very first transaction.
pub(super) fn is_complete(logs: &[LogFile]) -> bool {
    logs.first().is_some_and(|file| file.source == Source::Native && file.first == Zxid(1))
}

pub(super) fn find_snapshots(dir: &impl DataFiles) -> Result<Vec<(Zxid, PathBuf)>, RecoverError> {
    let files = list(dir, dir.snap_dir())?;
    let zxid_of = |(kind, path)| match kind {
        FileName::Snapshot(zxid) => Some((zxid, path)),
        _ => None,
    };
    let mut snaps: Vec<(Zxid, PathBuf)> = files.into_iter().filter_map(zxid_of).collect();
    snaps.sort();
    snaps.reverse();
    Ok(snaps)
}

pub(super) type BadSnapshot = (Zxid, PathBuf, String);

/// All log files in the order of their first transaction.
pub(in crate::log) fn find_logs(
    dir: &impl DataFiles,
    repair: &mut LogRepair,
) -> Result<Vec<LogFile>, RecoverError> {
    let mut logs = Vec::new();
    for (kind, path) in list(dir, dir.log_dir())? {
        if path.ends_with(GUARD_NAME) && is_guard(&read(dir, &path)?) {
            continue;
        }
        let (source, first, spare) = match kind {
            FileName::ApacheLog(first) => (Source::Apache, first, false),
            FileName::Segment(first) => (Source::Native, first, false),
            FileName::Spare => match first_record(dir, &path)? {
                Some(first) => (Source::Native, first, true),
                None => {
                    repair.spares.push(path);
                    continue;
                }
            },
            FileName::Snapshot(_)
            | FileName::Truncate(_)
            | FileName::Received(_)
            | FileName::Retire(_)
            | FileName::Temporary
            | FileName::Other => continue,
        };
        logs.push(LogFile { source, first, path, spare });
    }
    // A segment that lost its name got it from one that has nothing in it, if there is one.
    logs.sort_by(|a, b| (a.first, a.spare, &a.path).cmp(&(b.first, b.spare, &b.path)));
    Ok(logs)
}

/// First transaction of a spare segment whose new name was lost in a crash.
fn first_record(dir: &impl DataFiles, path: &Path) -> Result<Option<Zxid>, RecoverError> {
    // Not more than that: the rest of a spare is what is left of its former life.
    Ok(first_entry(&read(dir, path)?))
}

/// The content of a file that was there when the directory was listed.
pub(in crate::log) fn read<F: DataFiles>(dir: &F, path: &Path) -> Result<F::Content, RecoverError> {
    match dir.read(path) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(io_error(path, "it has just disappeared")),
        Err(error) => Err(io_error(path, &error)),
    }
}

/// The snapshot that was loaded.
#[derive(Clone, Copy)]
pub(super) struct Newest {
    /// Its position.
    pub zxid: Zxid,
    /// The last transaction whose effects it may show: those during the walk that made it.
    pub covered: Zxid,
}

/// Tries the snapshots, newest first. Returns the one that was loaded and those that failed before
/// it. One of another history than our logs is an error.
pub(super) fn load_newest(
    dir: &impl DataFiles,
    (snaps, logs): (&[(Zxid, PathBuf)], &[LogFile]),
    target: &mut dyn RecoveryTarget,
    notes: &mut Vec<String>,
) -> Result<(Option<Newest>, Vec<BadSnapshot>), RecoverError> {
    let mut bad: Vec<BadSnapshot> = Vec::new();
    target.reset();
    for (zxid, path) in snaps.iter().take(100) {
        let attempt = match dir.read(path) {
            Ok(Some(content)) if looks_valid(path, &content) => {
                let times = Times::below(dir, logs, *zxid)?;
                let mut check = HistoryCheck::new(target, &times);
                let loaded = load_snapshot(path, &content, &mut check);
                if loaded.is_ok() {
                    check.verdict(path)?;
                }
                loaded.map_err(|error| error.to_string())
            }
            Ok(_) => Err("it is incomplete".into()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        };
        let attempt = attempt.and_then(|loaded| {
            let sections = [loaded.last_zxid, loaded.digest.map(|digest| digest.zxid)];
            target.snapshot_done(*zxid, loaded.digest)?;
            Ok(sections.into_iter().flatten().fold(*zxid, Zxid::max))
        });
        match attempt {
            Ok(_) if *zxid >= ZXID_LIMIT => return Err(snapshot_beyond(*zxid, path)),
            Ok(covered) => return Ok((Some(Newest { zxid: *zxid, covered }), bad)),
            Err(why) => {
                notes.push(format!("snapshot {} cannot be used: {why}", path.display()));
                bad.push((*zxid, path.clone(), why));
                target.reset();
            }
        }
    }
    Ok((None, bad))
}
