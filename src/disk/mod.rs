//! The data directories on a real file system: opening and locking, recovery, the log writer and
//! the background housekeeper (segments, snapshots, purge).
//!
//! Invariants: nothing is called durable on this server before [`LogWriter::finish_write`] returned
//! its zxid; a
//! file gets its final name only when its content is durable, except a segment, whose content
//! recovery finds under either name; the only writer is the holder of the directory lock.
//! Counterparts: `FileTxnSnapLog`, `FileTxnLog`, `FileSnap`, `PurgeTxnLog`.
#![forbid(unsafe_code)]

mod commands;
mod datadir;
mod epoch_writer;
mod epochs;
mod error;
mod files;
mod guard;
mod housekeeper;
mod listing;
mod presence;
mod purge;
mod retire;
mod segments;
mod snapfile;
mod spare_pool;
mod steps;
#[cfg(test)]
mod tests;
mod truncate;
mod writer;

pub use crate::log::PurgePolicy;
pub use crate::log::{
    EmptyStart, FileName, LogRepair, RecoverError, RecoverErrorKind, RecoverOptions, Recovered,
    RecoveryTarget,
};
pub use datadir::{DataDir, DirOptions, closed_file, foresee_lock, foresee_room};
pub use epochs::{foresee_epochs, write_epochs};
pub use error::{DirError, FatalLogError};
pub use files::{DURABLE, LogFiles};
pub use guard::{Handover, hand_over};
pub use housekeeper::{Chores, Housekeeper, HousekeeperOptions, Report, Reports};
pub use listing::recover;
pub use presence::Absence;
pub use purge::Purged;
pub use writer::{LogWriter, LogWriterOptions, PendingWrite};
