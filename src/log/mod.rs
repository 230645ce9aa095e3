//! The transaction log and the snapshot format, without any file: batches, native segments
//! (append and recovery scan), Apache's log files, Apache's snapshots and their compression, and
//! the decisions of recovery and of purging.
//!
//! Everything here works on byte slices that somebody else owns; `disk` supplies the files. The
//! counterparts in ZooKeeper are `FileTxnLog`, `FileSnap`, `SnapStream` and `SerializeUtils`.
#![forbid(unsafe_code)]

mod adler_ranges;
mod apache;
mod appender;
mod batch;
mod command;
mod compress;
mod crc_ranges;
mod cut_short;
mod epochs;
mod files;
mod format1;
mod histories;
mod names;
mod range;
mod recover;
mod recover_error;
mod retention;
mod retire;
mod scan;
mod segment;
mod snapload;
mod snapread;
mod snapwrite;
#[cfg(test)]
mod tests;
mod truncate;

pub use apache::{ApacheScan, is_guard, put_apache_header, put_apache_record, scan_apache};
pub use appender::{Appender, Plan, WritePlan};
pub use batch::Batch;
pub use command::{
    LogChange, LogCommand, LogDone, LogRefusal, LogTicket, RangeCommand, RangeError,
};
pub use compress::{CompressError, Compression, Decoder, Encoder};
pub use epochs::{EpochFile, Epochs, EpochsFound, Party, epochs_in, find_epochs};
pub use files::DataFiles;
pub use format1::put_format1_record;
pub use names::{FileName, GUARD_NAME, snapshot_name};
pub use range::RangeReader;
pub use recover::{EmptyStart, LogRepair, RecoverOptions, Recovered, RecoveryTarget, recover};
pub use recover_error::{RecoverError, RecoverErrorKind};
pub use retention::{PurgePlan, PurgePolicy, plan_purge};
pub use retire::{Retirement, plan_retirement, received_name};
pub use scan::{Damage, EntryAt, Expect, OnEntry, ScanStop, SegmentScan, Tail, scan_segment};
pub use segment::{
    BLOCK, Format, GROUP_HEAD, HeaderError, MIN_ENTRY, RECORD_HEAD, Seal, SegmentHeader,
    entry_zxid, record_size,
};
pub use snapload::{LoadedSnapshot, load_snapshot, looks_valid};
pub use snapread::{SnapshotError, SnapshotNode, SnapshotReader, SnapshotVisitor};
pub use snapwrite::{SnapshotDigest, SnapshotWriter};
pub use truncate::{Truncation, plan_truncation};
