//! What can go wrong with a data directory, each with what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::base::Zxid;
use crate::log::{RecoverError, RecoverErrorKind as Kind};

use super::presence::Absence;

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DirError {
    /// An operation failed.
    Io {
        /// What it was about.
        path: PathBuf,
        /// What was attempted: "create", "lock", …
        doing: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// The directory does not exist and `datadir.autocreate` is off.
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Another server uses it.
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// An Apache ZooKeeper, which takes no lock, uses it.
    Apache {
        /// `dataDir`.
        path: PathBuf,
        /// Its process id, from `zookeeper_server.pid`.
        pid: u32,
    },
    /// There is no room for the first log segment.
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// Size of a segment in bytes.
        size: u64,
        /// The system's answer.
        error: io::Error,
    },
    /// Snapshots in the log directory or logs in the snapshot directory.
    Misplaced {
        /// The file.
        file: PathBuf,
        /// Where such files belong.
        belongs: PathBuf,
    },
}

impl DirError {
    /// The process that uses the directory, where that is the trouble and it is known.
    pub fn user(&self) -> Option<u32> {
        match self {
            DirError::Locked { pid, .. } => *pid,
            DirError::Apache { pid, .. } => Some(*pid),
            DirError::Io { .. }
            | DirError::Missing { .. }
            | DirError::NoRoom { .. }
            | DirError::Misplaced { .. } => None,
        }
    }
}

/// What to do about `EFBIG`, which a limit of the process or of the file system causes.
const FILE_TOO_LARGE: &str = "raise LimitFSIZE of its unit, or `ulimit -f`";

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirError::Io { path, doing, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        write!(f, "; the server's user must be able to write there")
                    }
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        write!(f, "; free some space and start again")
                    }
                    io::ErrorKind::FileTooLarge => {
                        write!(f, "; {FILE_TOO_LARGE}, and start again")
                    }
                    _ => Ok(()),
                }
            }
            DirError::Missing { path } => write!(
                f,
                "{} does not exist and zookeeper.datadir.autocreate is false; create it, or check \
                 dataDir and dataLogDir in the configuration",
                path.display()
            ),
            DirError::Locked { path, pid } => {
                write!(f, "{} is in use by another server", path.display())?;
                match pid {
                    Some(pid) => write!(f, " (process {pid}); stop it, or use another dataDir"),
                    None => write!(f, "; stop it, or use another dataDir"),
                }
            }
            DirError::Apache { path, pid } => write!(
                f,
                "{} is in use by Apache ZooKeeper (process {pid}, as zookeeper_server.pid says); \
                 stop it, or use another dataDir",
                path.display()
            ),
            DirError::NoRoom { path, size, error } => write!(
                f,
                "{} has no room for a log segment of {size} bytes: {error}; without one the first \
                 client would end this server. Make room on that file system, or set \
                 ringkeeper.log.segmentSizeInKb lower, then start again; of the files here only \
                 snapshots older than the newest may go, no wal.*",
                path.display()
            ),
            DirError::Misplaced { file, belongs } => write!(
                f,
                "{} does not belong there: dataDir and dataLogDir differ, and such files belong \
                 in {}; move it, or correct dataDir and dataLogDir",
                file.display(),
                belongs.display()
            ),
        }
    }
}

impl std::error::Error for DirError {}

/// The log could not be written or synced. What was not acknowledged yet never will be; the
/// process must end, because nobody can know what a failed write or sync left on disk.
#[derive(Debug)]
pub struct FatalLogError {
    /// The segment or directory.
    pub path: PathBuf,
    /// What was attempted.
    pub doing: &'static str,
    /// The system's answer.
    pub error: io::Error,
    /// Everything up to here is durable.
    pub durable: Zxid,
    /// Whether durable means that a power failure loses nothing: not with `forceSync=no`.
    pub is_synced: bool,
    /// What is open and has lost its name.
    pub absence: Option<Box<Absence>>,
}

impl fmt::Display for FatalLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.error.get_ref().and_then(|cause| cause.downcast_ref::<RecoverError>());
        if self.absence.is_none() && cause.is_some_and(|cause| cause.kind != Kind::Io) {
            // What is damaged was durable once, so that nothing is said of what is safe.
            return write!(
                f,
                "this server stops, as it cannot {} the transaction log: {}",
                self.doing, self.error
            );
        }
        write!(
            f,
            "cannot {} the transaction log {}: {}; ",
            self.doing,
            self.path.display(),
            self.error
        )?;
        if let Some(absence) = &self.absence {
            return write!(f, "this server stops: {absence}");
        }
        let care =
            if self.is_synced { "safe" } else { "in the page cache at least (forceSync=no)" };
        write!(
            f,
            "transactions up to 0x{} are {care}, nothing later was acknowledged, and this server \
             stops. ",
            self.durable
        )?;
        match self.error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                write!(f, "Free space on that file system (see autopurge), then start it again")
            }
            io::ErrorKind::FileTooLarge => {
                let (first, rest) = FILE_TOO_LARGE.split_at(1);
                write!(f, "{}{rest}, then start it again", first.to_uppercase())
            }
            _ => write!(f, "Check the disk and the kernel's messages, then start it again"),
        }
    }
}

impl std::error::Error for FatalLogError {}
