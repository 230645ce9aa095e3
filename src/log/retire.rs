//! A snapshot that another member sent takes the place of the whole log: which files go, and what
//! recovery sees meanwhile. Counterpart: the SNAP branch of `Learner.syncWithLeader`, which leaves
//! the old log beside the new snapshot.
//!
//! The old log may tell another history than the snapshot, or go on after it; together they are
//! nobody's state. So the change is decided by one file, the *intent* `retire.<zxid>` in the log's
//! directory. The snapshot stands beside the others as `received.<zxid>`, where nobody looks. From
//! the moment the intent is durable that snapshot is the database, and [`Retired`] shows a
//! directory without log and without another snapshot; recovery reads no other. For instance with
//! snapshot.3, wal.4 and received.200000005: before `retire.200000005` is durable a start gives
//! what snapshot.3 and wal.4 say, and from then on what received.200000005 says. The other files
//! are removed first, then the snapshot is renamed, and the intent goes last, before anything is
//! appended.
//!
//! The other snapshots go too: with one of them and the new log a start would lack what lies
//! between.

#![allow(clippy::result_large_err, reason = "a retirement fails once")]

use std::path::{Path, PathBuf};

use crate::base::Zxid;

use super::files::DataFiles;
use super::names::FileName;
use super::recover::{LogRepair, find_logs, io_error, plain_error, read};
use super::recover_error::{RecoverError, RecoverErrorKind};
use super::{Compression, looks_valid};

/// Name of a snapshot while it is received and until it becomes the database; beside the others.
pub fn received_name(zxid: Zxid, compression: Compression) -> String {
    format!("received.{zxid}{}", compression.extension())
}

/// What becomes of the files when a received snapshot takes the log's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retirement {
    /// The transaction that the log begins after from then on.
    pub snapshot: Zxid,
    /// The snapshot's file and the name it gets; `None` if it has that already.
    pub rename: Option<(PathBuf, PathBuf)>,
    /// Snapshots, then logs, that go before.
    pub remove: Vec<PathBuf>,
    /// What decided it, and whatever else was decided of the old log; these go last.
    pub intents: Vec<PathBuf>,
}

/// What it takes to make the snapshot that was received at this position the database; `None` if
/// there is no whole one.
pub fn plan_retirement(
    dir: &impl DataFiles,
    snapshot: Zxid,
) -> Result<Option<Retirement>, RecoverError> {
    let (snaps, logs) = (entries(dir, dir.snap_dir())?, entries(dir, dir.log_dir())?);
    let mut rename = None;
    for (kind, path) in &snaps {
        if *kind == FileName::Received(snapshot) && looks_valid(path, &read(dir, path)?) {
            rename = Some((path.clone(), final_name(path)));
        }
    }
    let is_named = snaps.iter().any(|(kind, _)| *kind == FileName::Snapshot(snapshot));
    // While it has not got its name, one that has it is another one.
    let stays = |kind: &FileName| rename.is_none() && *kind == FileName::Snapshot(snapshot);
    let source = rename.as_ref().map(|(from, _)| from);
    let goes = |(kind, path): &&(FileName, PathBuf)| match kind {
        FileName::Snapshot(_) => !stays(kind),
        FileName::Received(_) => Some(path) != source,
        _ => false,
    };
    let mut remove: Vec<PathBuf> =
        snaps.iter().filter(goes).map(|(_, path)| path.clone()).collect();
    remove.extend(find_logs(dir, &mut LogRepair::default())?.into_iter().map(|file| file.path));
    let is_intent = |kind: &FileName| matches!(kind, FileName::Truncate(_) | FileName::Retire(_));
    let intents = logs.into_iter().filter(|(kind, _)| is_intent(kind)).map(|(_, path)| path);
    let plan = Retirement { snapshot, remove, intents: intents.collect(), rename };
    Ok((plan.rename.is_some() || is_named).then_some(plan))
}

/// The one that was decided and is not completed.
pub(super) fn retirement_under_way(
    dir: &impl DataFiles,
) -> Result<Option<Retirement>, RecoverError> {
    let intent = entries(dir, dir.log_dir())?.into_iter().find_map(|(kind, path)| match kind {
        FileName::Retire(snapshot) => Some((snapshot, path)),
        _ => None,
    });
    let Some((snapshot, path)) = intent else { return Ok(None) };
    let plan = plan_retirement(dir, snapshot)?;
    plan.map(Some).ok_or_else(|| nothing_received(&path, snapshot))
}

fn nothing_received(intent: &Path, snapshot: Zxid) -> RecoverError {
    let what = format!(
        "it says that the snapshot at 0x{snapshot} takes the place of the whole log, and there is \
         no whole received.{snapshot} or snapshot.{snapshot}"
    );
    let advice = "Put that file back, or restore the version-2 directories from a backup; as a \
                  member of an ensemble this server can also begin with empty ones"
        .to_owned();
    plain_error(RecoverErrorKind::BadSnapshots, intent, what, advice)
}

/// `received.5.gz` becomes `snapshot.5.gz`.
fn final_name(received: &Path) -> PathBuf {
    let name = received.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let rest = name.strip_prefix("received").unwrap_or(name);
    received.with_file_name(format!("snapshot{rest}"))
}

fn entries(dir: &impl DataFiles, path: &Path) -> Result<Vec<(FileName, PathBuf)>, RecoverError> {
    let files = dir.list(path).map_err(|error| io_error(path, &error))?;
    let named = files.into_iter().filter_map(|path| {
        let kind = FileName::parse(path.file_name()?.to_str()?);
        Some((kind, path))
    });
    Ok(named.collect())
}

/// A directory as it is once a retirement is completed.
pub(super) struct Retired<'a, D> {
    dir: &'a D,
    retirement: &'a Retirement,
}

impl<'a, D> Retired<'a, D> {
    pub fn new(dir: &'a D, retirement: &'a Retirement) -> Retired<'a, D> {
        Retired { dir, retirement }
    }
}

impl<D: DataFiles> DataFiles for Retired<'_, D> {
    type Content = D::Content;

    fn snap_dir(&self) -> &Path {
        self.dir.snap_dir()
    }

    fn log_dir(&self) -> &Path {
        self.dir.log_dir()
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        let Retirement { rename, remove, intents, .. } = self.retirement;
        let mut files = self.dir.list(dir)?;
        files.retain(|path| !remove.contains(path) && !intents.contains(path));
        if let Some((from, to)) = rename
            && let Some(found) = files.iter_mut().find(|path| *path == from)
        {
            found.clone_from(to);
        }
        Ok(files)
    }

    fn read(&self, path: &Path) -> Result<Option<Self::Content>, String> {
        match &self.retirement.rename {
            Some((from, to)) if to == path => self.dir.read(from),
            _ => self.dir.read(path),
        }
    }

    fn take_initialize(&self) -> Result<bool, (PathBuf, String)> {
        self.dir.take_initialize()
    }
}
