//! The data directories on a real file system: opening and locking, recovery, the log writer and
//! the background housekeeper (segments, snapshots, purge).
//!
//! Invariants: nothing is acknowledged before [`LogWriter::finish_write`] returned its zxid; a
//! file gets its final name only when its content is durable, except a segment, whose content
//! recovery finds under either name; the only writer is the holder of the directory lock.
//! Counterparts: `FileTxnSnapLog`, `FileTxnLog`, `FileSnap`, `PurgeTxnLog`.
#![forbid(unsafe_code)]

mod datadir;
mod error;
mod housekeeper;
mod names;
mod purge;
mod recover;
mod segments;
mod snapfile;
#[cfg(test)]
mod tests;
mod writer;

pub use datadir::{DataDir, DirOptions};
pub use error::{DirError, FatalLogError, RecoverError, RecoverErrorKind};
pub use housekeeper::{Housekeeper, HousekeeperOptions, Report};
pub use names::{FileName, snapshot_name};
pub use purge::{PurgePolicy, Purged};
pub use recover::{EmptyStart, LogRepair, RecoverOptions, Recovered, RecoveryTarget, recover};
pub use snapfile::{LoadedSnapshot, load_snapshot, looks_valid};
pub use writer::{LogWriter, LogWriterOptions, PendingWrite};
