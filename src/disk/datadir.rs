//! `dataDir` and `dataLogDir`: created, checked, locked. Counterpart: `FileTxnSnapLog`'s
//! constructor.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::after;

use crate::base::Zxid;
use crate::log::{BLOCK, FileName, LogRepair};
use crate::sys::file::{free_space, has_room, may_open, sync_dir};

use super::error::DirError;
use super::listing::{list, tidy};
use super::presence::{Absence, Presence};

const VERSION_DIR: &str = "version-2";
const LOCK_FILE: &str = "ringkeeper.lock";

/// Which directories, and how to treat them.
#[derive(Clone, Debug)]
pub struct DirOptions {
    /// `dataDir`
    pub data_dir: PathBuf,
    /// `dataLogDir`; `None`: the same.
    pub log_dir: Option<PathBuf>,
    /// `zookeeper.datadir.autocreate`
    pub autocreate: bool,
}

/// The directories of one server, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    log_root: PathBuf,
    snap_dir: PathBuf,
    log_dir: PathBuf,
    presence: Presence,
    _locks: Vec<File>,
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> DirError {
    move |error| DirError::Io { path: path.to_owned(), doing, error }
}

impl DataDir {
    /// Creates (if allowed), locks and checks the directories. The lock comes first: nothing is
    /// changed while another server runs.
    pub fn open(options: &DirOptions) -> Result<DataDir, DirError> {
        let data_dir = options.data_dir.clone();
        let log_root = options.log_dir.clone().unwrap_or_else(|| data_dir.clone());
        let snap_dir = data_dir.join(VERSION_DIR);
        let log_dir = log_root.join(VERSION_DIR);
        for dir in [&snap_dir, &log_dir] {
            ensure(dir, options.autocreate)?;
        }
        if let Some(pid) = running_apache(&data_dir) {
            return Err(DirError::Apache { path: data_dir, pid });
        }
        let same = same_dir(&snap_dir, &log_dir)?;
        let [snap_handle, log_handle] =
            [&snap_dir, &log_dir].map(|dir| File::open(dir).map_err(io_error(dir, "open")));
        let (snap_handle, log_handle) = (snap_handle?, log_handle?);
        let mut locks = lock(&snap_dir, &snap_handle)?;
        if !same {
            locks.extend(lock(&log_dir, &log_handle)?);
        }
        let presence = Presence::new((&snap_dir, &snap_handle), (&log_dir, &log_handle));
        let presence = presence.map_err(io_error(&snap_dir, "look at"))?;
        locks.extend([snap_handle, log_handle]);
        let dir = DataDir { log_root, snap_dir, log_dir, presence, _locks: locks };
        if !same {
            dir.check_misplaced()?;
        }
        Ok(dir)
    }

    /// `dataLogDir` itself: `initialize`.
    pub fn log_root(&self) -> &Path {
        &self.log_root
    }

    /// `dataDir/version-2`: snapshots, epoch files.
    pub fn snap_dir(&self) -> &Path {
        &self.snap_dir
    }

    /// `dataLogDir/version-2`: logs.
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// What is open here and has lost its name. Nothing is acknowledged any more once that is
    /// certain.
    pub fn absence(&self) -> Option<Absence> {
        self.presence.look()
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Fails unless a segment of `size` bytes will fit after the repair or one of the spares will
    /// do. Not even a session begins without a write, so a start without it serves nobody. Call it
    /// when recovery has succeeded: for want of room, unfinished files go already here.
    pub fn check_room(&self, size: u64, repair: &LogRepair) -> Result<(), DirError> {
        let fits = |spare: &PathBuf| fs::metadata(spare).is_ok_and(|found| found.len() == size);
        if repair.spares.iter().any(fits) {
            return Ok(());
        }
        let needed = size.saturating_sub(freed_by(repair)).max(1);
        let room = |needed| match try_room(&self.log_dir, needed) {
            Err(DirError::NoRoom { path, error, .. }) => {
                Err(DirError::NoRoom { path, size, error })
            }
            found => found,
        };
        let found = room(needed);
        if !matches!(found, Err(DirError::NoRoom { .. })) {
            return found;
        }
        tidy(self).map_err(|(path, error)| io_error(&path, "tidy")(error))?;
        room(needed)
    }

    fn check_misplaced(&self) -> Result<(), DirError> {
        for (kind, file) in list(&self.log_dir).map_err(io_error(&self.log_dir, "list"))? {
            if matches!(kind, FileName::Snapshot(_)) {
                return Err(DirError::Misplaced { file, belongs: self.snap_dir.clone() });
            }
        }
        for (kind, file) in list(&self.snap_dir).map_err(io_error(&self.snap_dir, "list"))? {
            if matches!(kind, FileName::ApacheLog(_) | FileName::Segment(_)) {
                return Err(DirError::Misplaced { file, belongs: self.log_dir.clone() });
            }
        }
        Ok(())
    }
}

/// What [`DataDir::check_room`] will find under `log_root`, whose directories need not exist yet.
/// Changes nothing.
pub fn foresee_room(log_root: &Path, size: u64) -> Result<(), DirError> {
    let log_dir = log_root.join(VERSION_DIR);
    let Some(at) = log_dir.ancestors().find(|at| at.is_dir()) else { return Ok(()) };
    let room = try_room(at, size);
    if !matches!(room, Err(DirError::NoRoom { .. })) || at != log_dir {
        return room;
    }
    let files = list(&log_dir).map_err(io_error(&log_dir, "list"))?;
    let is_spare = |(kind, path): &(FileName, PathBuf)| {
        *kind == FileName::Spare && fs::metadata(path).is_ok_and(|found| found.len() == size)
    };
    if files.iter().any(is_spare) {
        return Ok(());
    }
    // The start removes these, if it needs to.
    let unfinished = files.iter().filter(|(kind, _)| *kind == FileName::Temporary);
    let blocks = unfinished.filter_map(|(_, path)| fs::metadata(path).ok()).map(|m| m.blocks());
    let freed = blocks.sum::<u64>().saturating_mul(512);
    let free = free_space(&log_dir).map_err(io_error(&log_dir, "look at"))?;
    if free.saturating_add(freed) >= size { Ok(()) } else { room }
}

/// A file in a `version-2` that a start needs and cannot open, as one that another user's server
/// left. Changes nothing. Older snapshots and logs are not looked at: whether one of them is needed
/// shows only at the start.
pub fn closed_file(version_dir: &Path) -> Option<(PathBuf, io::Error)> {
    let files = list(version_dir).ok()?;
    let newest = |is_it: fn(&FileName) -> Option<Zxid>| {
        let zxid = files.iter().filter_map(|(kind, _)| is_it(kind)).max()?;
        files.iter().find(|(kind, _)| is_it(kind) == Some(zxid)).map(|(_, path)| path.clone())
    };
    let snapshot = newest(|kind| match kind {
        FileName::Snapshot(zxid) => Some(*zxid),
        _ => None,
    });
    // Cut after its last whole group commit.
    let segment = newest(|kind| match kind {
        FileName::Segment(zxid) => Some(*zxid),
        _ => None,
    });
    let lock = Some(version_dir.join(LOCK_FILE));
    [(snapshot, false), (segment, true), (lock, true)].into_iter().find_map(|(path, writing)| {
        let path = path?;
        let denied = may_open(&path, writing).err()?;
        // A server that runs there renames and removes.
        (denied.kind() != io::ErrorKind::NotFound).then_some((path, denied))
    })
}

/// Bytes that the repair gives back: a segment that a killed server was writing is as long as it
/// was made, and is cut where its last group commit ends. Example: of 64 MiB with 1 MiB of group
/// commits, 63 MiB.
fn freed_by(repair: &LogRepair) -> u64 {
    let occupied = |path: &PathBuf| fs::metadata(path).map_or(0, |found| found.blocks() * 512);
    let removed: u64 = repair.remove.iter().map(occupied).sum();
    let cut = repair.cut.as_ref().map_or(0, |(path, seal)| {
        // What stays takes whole blocks.
        occupied(path).saturating_sub(seal.end.next_multiple_of(BLOCK as u64))
    });
    removed + cut
}

fn try_room(dir: &Path, size: u64) -> Result<(), DirError> {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    has_room(dir, size).map_err(|error| {
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            return DirError::NoRoom { path: dir.to_owned(), size, error };
        }
        io_error(dir, "reserve space in")(error)
    })
}

/// [`foresee_lock`] takes the lock for as long as it looks, so a start asks this often again, with
/// pauses of [`LOOK`], before it takes the lock for a server's.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(20);

/// Who keeps a start from using this `dataDir` or `dataLogDir` now. Changes nothing.
pub fn foresee_lock(root: &Path) -> Option<DirError> {
    let dir = root.join(VERSION_DIR);
    if let Some(pid) = running_apache(root) {
        return Some(DirError::Apache { path: root.to_owned(), pid });
    }
    // Shared, so that two who look do not see each other. It ends with the handle.
    let is_locked = |path: &Path| {
        let handle = File::open(path).ok();
        handle.is_some_and(|h| matches!(h.try_lock_shared(), Err(TryLockError::WouldBlock)))
    };
    let locked = is_locked(&dir) || is_locked(&dir.join(LOCK_FILE));
    let pid = if locked { File::open(dir.join(LOCK_FILE)).ok().and_then(holder) } else { None };
    locked.then_some(DirError::Locked { path: dir, pid })
}

/// The process that a lock file names.
fn holder(mut file: File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn ensure(dir: &Path, autocreate: bool) -> Result<(), DirError> {
    if dir.is_dir() {
        return Ok(());
    }
    if !autocreate {
        return Err(DirError::Missing { path: dir.to_owned() });
    }
    // Each level's name must be durable: a lost dataDir takes along what was synced in it.
    let missing = missing_levels(dir);
    fs::create_dir_all(dir).map_err(io_error(dir, "create"))?;
    for parent in missing.iter().filter_map(|level| level.parent()) {
        // A relative path begins in the directory that the process is in.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        sync_dir(parent).map_err(io_error(parent, "sync"))?;
    }
    Ok(())
}

/// The directory and those above it that are not there, from below.
fn missing_levels(dir: &Path) -> Vec<&Path> {
    dir.ancestors().take_while(|level| !level.as_os_str().is_empty() && !level.exists()).collect()
}

fn same_dir(a: &Path, b: &Path) -> Result<bool, DirError> {
    let canonical = |p: &Path| fs::canonicalize(p).map_err(io_error(p, "resolve"));
    Ok(canonical(a)? == canonical(b)?)
}

/// The process of an Apache ZooKeeper that `zkServer.sh start` has started here. Apache takes no
/// lock, so one that was started in another way goes unnoticed.
fn running_apache(data_dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(data_dir.join("zookeeper_server.pid")).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    // A number from before a crash may be anybody's by now.
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command);
    let mains = ["QuorumPeerMain", "ZooKeeperServerMain"];
    mains.iter().any(|main| command.contains(main)).then_some(pid)
}

/// Locks the directory itself, through `handle`, and the file in it that says who does, which
/// earlier versions lock alone. The directory's lock is what counts: a cleaner may remove the file.
/// Locks go with the process, so a leftover file means nothing.
fn lock(dir: &Path, handle: &File) -> Result<Vec<File>, DirError> {
    match try_for_a_while(handle) {
        Err(TryLockError::WouldBlock) => {
            let pid = File::open(dir.join(LOCK_FILE)).ok().and_then(holder);
            return Err(DirError::Locked { path: dir.to_owned(), pid });
        }
        // NFS locks only what is open for writing, which no directory can be.
        Err(TryLockError::Error(e)) => {
            log::warn!(
                "{} cannot be locked itself ({e}): only {LOCK_FILE} in it keeps a second server \
                 away, so do not remove that file",
                dir.display()
            );
        }
        Ok(()) => {}
    }
    lock_file(dir).map(|file| vec![file])
}

/// [`foresee_lock`] may have the lock for a moment.
fn try_for_a_while(file: &File) -> Result<(), TryLockError> {
    let mut tried = file.try_lock();
    for _ in 0..LOOKS {
        if !matches!(tried, Err(TryLockError::WouldBlock)) {
            break;
        }
        let _ = after(LOOK).recv();
        tried = file.try_lock();
    }
    tried
}

/// Locks the file and writes the process id into it.
fn lock_file(dir: &Path) -> Result<File, DirError> {
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error(&path, "open"))?;
    match try_for_a_while(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DirError::Locked { path: dir.to_owned(), pid: holder(file) });
        }
        Err(TryLockError::Error(e)) => return Err(io_error(&path, "lock")(e)),
    }
    let mut write = || -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    // The id is a courtesy for the next one's message. A full disk must not keep a server down.
    if let Err(e) = write()
        && !matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    {
        return Err(io_error(&path, "write")(e));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_that_is_made_is_known() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("a/b"));
        let dir = b.join(VERSION_DIR);
        assert_eq!(missing_levels(&dir), [&*dir, &*b, &*a]);
        ensure(&dir, true).unwrap();
        assert!(dir.is_dir() && missing_levels(&dir).is_empty());
        let relative = Path::new("no such/directory");
        assert_eq!(missing_levels(relative), [relative, Path::new("no such")]);
    }
}
