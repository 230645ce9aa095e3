//! Why a data directory cannot be recovered from, each with what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::base::Zxid;

/// What kind of trouble stopped a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoverErrorKind {
    /// A file could not be listed, opened or read.
    Io,
    /// There are logs but no snapshot (`snapshot.trust.empty` is off).
    NoSnapshot,
    /// There are snapshots, and none can be loaded.
    BadSnapshots,
    /// The newest snapshot is damaged and the log does not make up for it.
    SnapshotAhead,
    /// A log file is damaged before its tail.
    Damage,
    /// A log file is shorter than it was.
    Truncated,
    /// A transaction is numbered beyond what can be continued.
    ZxidRange,
    /// Transactions are missing between two that are there.
    Gap,
    /// Two log files contain different histories.
    Overlap,
    /// A transaction is whole but cannot be understood.
    Entry,
    /// The epoch files contradict each other or the log.
    Epochs,
}

/// Why a server does not start from this directory. Nothing on disk has been changed.
#[derive(Debug)]
pub struct RecoverError {
    /// Kind of trouble.
    pub kind: RecoverErrorKind,
    /// The file or directory.
    pub path: PathBuf,
    /// Byte offset in it, if there is one place.
    pub offset: Option<u64>,
    /// The last readable transaction before the place.
    pub before: Option<Zxid>,
    /// The first readable transaction after it.
    pub after: Option<Zxid>,
    /// What is wrong.
    pub what: String,
    /// What the operator can do.
    pub advice: String,
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(zxid) = self.before {
            write!(f, "; last readable transaction before it 0x{zxid}")?;
        }
        if let Some(zxid) = self.after {
            write!(f, "; first readable transaction after it 0x{zxid}")?;
        }
        write!(f, ". {}", self.advice)
    }
}

impl std::error::Error for RecoverError {}
