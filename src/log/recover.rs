//! Start-up: the newest good snapshot, then every later transaction of the logs, Apache's and
//! ours, in zxid order, as far as they are known to be committed; the rest is handed out as tail.
//! Reads only (but consumes the marker file `initialize`); what has to be changed on disk is
//! returned as a [`LogRepair`]. Counterpart: `FileTxnSnapLog.restore`.
//!
//! Files are reached through [`DataFiles`] only, so real directories and simulated disks are
//! recovered by the same code.
//!
//! Invariant: a transaction that may have been acknowledged is handed to the target, is in the
//! tail, or makes the recovery fail with the file, the offset and what to do. Hence a directory
//! that holds two histories is refused before any data is changed: no transaction may stand both
//! in one of Apache's logs and in one of ours, needed or not, and no node of the snapshot may say
//! that one of ours was at another time; see `histories`, which also says why.

#![allow(clippy::result_large_err, reason = "a recovery fails once")]

mod errors;
mod find;
mod replay;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{Epoch, Mark, Zxid, mark};
use crate::wire::{DecodeError, Reader, Txn, TxnDigest, TxnHeader};

use super::cut_short::Accepted;
use super::epochs::{EpochFile, Epochs, EpochsFound, Party, find_epochs};
use super::files::DataFiles;
use super::histories::check_one_history;
use super::recover_error::RecoverError;
use super::retire::{Retired, Retirement, retirement_under_way};
use super::truncate::{Truncated, Truncation, intended, plan_truncation};
use super::{Batch, Seal, SnapshotDigest, SnapshotVisitor};

pub(super) use self::errors::{io_error, plain_error, stopped_scan};
pub(super) use self::find::{LogFile, Source, find_logs, read};

use self::errors::{bad_snapshots, explain_fallback, no_snapshot, snapshot_ahead};
use self::find::{BadSnapshot, find_snapshots, is_complete, load_newest};
use self::replay::Replay;
use self::tail::Kept;

/// Receives what is recovered, in order.
pub trait RecoveryTarget: SnapshotVisitor {
    /// Forget everything: a snapshot turned out to be damaged half-way.
    fn reset(&mut self);
    /// The snapshot at `zxid` is complete.
    fn snapshot_done(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), String>;
    /// The next transaction. `entry` is its encoding. An `Err` stops the recovery; failures that
    /// replay over a fuzzy snapshot produces (node exists, no node) are none.
    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
        entry: &[u8],
    ) -> Result<(), String>;
}

/// Settings of a recovery.
#[derive(Clone, Debug)]
pub struct RecoverOptions {
    /// `zookeeper.snapshot.trust.empty`: logs without a snapshot start from an empty tree.
    pub trust_empty: bool,
    /// `zookeeper.db.autocreate`: an empty directory is a trusted empty database.
    pub db_autocreate: bool,
    /// `ringkeeper.log.acceptTruncated`: name of the log file that may be shorter than it was.
    pub accept_truncated: Option<String>,
    /// Whose rules hold for the epoch files.
    pub party: Party,
}

impl Default for RecoverOptions {
    fn default() -> RecoverOptions {
        RecoverOptions {
            trust_empty: false,
            db_autocreate: true,
            accept_truncated: None,
            party: Party::Alone,
        }
    }
}

/// A start from an empty directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmptyStart {
    /// An empty database at zxid 0: write `snapshot.0` before serving.
    Trusted,
    /// `db.autocreate=false` and no `initialize` file: zxid is -1, and this server does not
    /// count in elections until it has synced.
    Untrusted,
}

/// What the log needs before it can be appended to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogRepair {
    /// The number of the next group commit.
    pub next_group: u64,
    /// The last segment and the seal that says where its last whole group commit ends; what follows
    /// is zeros or what is left of a torn write. Sealed first, then cut there.
    pub cut: Option<(PathBuf, Seal)>,
    /// The segment that was begun for the next transaction of its epoch, if there is no whole group
    /// commit in it. It stays, cut to its header: the name says that all of the segment before is
    /// whole, and that nothing of it comes after a snapshot that ends there. Usually it is the
    /// last. Where the next transaction was one of a later epoch another follows, as in `wal.5`,
    /// `wal.9` (empty), `wal.100000001`. Transaction 9 would take the same name.
    pub unused: Option<PathBuf>,
    /// Other segments without a whole group commit.
    pub remove: Vec<PathBuf>,
    /// Segments in use whose name did not become durable, with the name they get.
    pub rename: Vec<(PathBuf, PathBuf)>,
    /// Unused spare segments.
    pub spares: Vec<PathBuf>,
    /// What was read and perhaps never synced: the snapshot, Apache's logs, and segments before the
    /// last, which is in `cut`. A server that was killed leaves what only the page cache holds, and
    /// our log begins after it.
    pub sync: Vec<PathBuf>,
    /// Epoch files to be written, in this order.
    pub epochs: Vec<(EpochFile, Epoch)>,
    /// A truncation that was decided and not completed. It comes first: everything else is said of
    /// the directory as it is then.
    pub truncation: Option<Truncation>,
    /// The same for a log that a received snapshot takes the place of.
    pub retirement: Option<Retirement>,
}

/// A completed recovery.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The last transaction that is logged; -1 for an untrusted empty database.
    pub last_zxid: Zxid,
    /// The last transaction in the target. Everything up to it is committed, as far as the log
    /// says (see `tail`).
    pub committed: Zxid,
    /// The transactions after `committed`. A quorum decides of them: for a server alone, its own
    /// log.
    pub tail: Vec<Arc<Batch>>,
    /// Position of the snapshot it started from.
    pub snapshot_zxid: Option<Zxid>,
    /// Transactions after the snapshot, the tail included.
    pub entries_replayed: u64,
    /// What the epoch files say; `None` for a server alone that has none.
    pub epochs: Option<Epochs>,
    /// The directory held neither snapshot nor log.
    pub empty: Option<EmptyStart>,
    /// Things an operator should read.
    pub notes: Vec<String>,
    /// What the log's writer must change before it appends.
    pub repair: LogRepair,
}

impl Recovered {
    /// Hands the tail to the target that the recovery was for, as if all of it were committed: for
    /// tests, and for a simulated server that errs.
    ///
    /// # Errors
    /// As the target gives them.
    pub fn commit_tail(&mut self, target: &mut dyn RecoveryTarget) -> Result<(), String> {
        for batch in std::mem::take(&mut self.tail) {
            for (zxid, entry) in batch.iter() {
                let Decoded { header, txn, digest } = decode(entry).map_err(|e| e.to_string())?;
                target.txn(&header, &txn, digest, entry)?;
                self.committed = zxid;
            }
        }
        Ok(())
    }
}

/// A transaction as the log has it.
struct Decoded<'a> {
    header: TxnHeader,
    txn: Txn<'a>,
    digest: Option<TxnDigest>,
}

fn decode(entry: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    let mut r = Reader::new(entry);
    let header = TxnHeader::decode_from(&mut r)?;
    let txn = Txn::decode_from(header.kind, &mut r)?;
    Ok(Decoded { header, txn, digest: TxnDigest::decode_trailing(&mut r)? })
}

/// Loads what is committed of the directory into `target`.
pub fn recover(
    dir: &impl DataFiles,
    options: &RecoverOptions,
    target: &mut dyn RecoveryTarget,
) -> Result<Recovered, RecoverError> {
    let found = recover_decided(dir, options, target);
    match options.party {
        Party::Alone => found,
        Party::Member => found.map_err(RecoverError::for_member),
    }
}

/// As the directory will be once what was decided for it is done.
fn recover_decided(
    dir: &impl DataFiles,
    options: &RecoverOptions,
    target: &mut dyn RecoveryTarget,
) -> Result<Recovered, RecoverError> {
    if let Some(retirement) = retirement_under_way(dir)? {
        mark(Mark::RetirementCompleted);
        let shown = Retired::new(dir, &retirement);
        let mut recovered = recover_from(&shown, options, target)?;
        recovered.repair.retirement = Some(retirement);
        return Ok(recovered);
    }
    let Some(keep) = intended(dir)? else { return recover_from(dir, options, target) };
    mark(Mark::TruncationCompleted);
    let truncation = plan_truncation(dir, keep)?;
    let shown = Truncated { dir, truncation: &truncation };
    let mut recovered = recover_from(&shown, options, target)?;
    recovered.repair.truncation = Some(truncation);
    Ok(recovered)
}

fn recover_from(
    dir: &impl DataFiles,
    options: &RecoverOptions,
    target: &mut dyn RecoveryTarget,
) -> Result<Recovered, RecoverError> {
    let mut notes = Vec::new();
    let mut repair = LogRepair { next_group: 1, ..LogRepair::default() };
    let logs = find_logs(dir, &mut repair)?;
    check_one_history(dir, &logs)?;
    let snaps = find_snapshots(dir)?;
    let (newest, bad) = load_newest(dir, (&snaps, &logs), target, &mut notes)?;
    let (loaded, covered) = (newest.map(|newest| newest.zxid), newest.map(|newest| newest.covered));
    let covered = covered.unwrap_or(Zxid::ZERO);
    repair.sync.extend(path_of(loaded, &snaps, &bad));
    let empty = match loaded {
        Some(_) => {
            take_initialize(dir)?;
            None
        }
        None => start_without_snapshot(dir, options, &logs, &bad, &mut notes)?,
    };
    let mut replay = Replay {
        dir,
        target,
        snapshot: loaded,
        // From nothing, transaction 1 must come first if our log begins there.
        last: loaded.or(is_complete(&logs).then_some(Zxid::ZERO)),
        applied: loaded.unwrap_or(Zxid::ZERO),
        // A snapshot holds nothing that was not committed, to the end of the walk that made it.
        committed: covered,
        says_what_is_committed: false,
        tail: Kept::default(),
        entries: 0,
        overlaps: 0,
        unproven: None,
        accepted: Accepted::new(options),
        party: options.party,
        notes: &mut notes,
        repair: &mut repair,
    };
    replay.files(&logs).map_err(|e| explain_fallback(e, &bad))?;
    let (last, entries_replayed) = (replay.last, replay.entries);
    let (committed, tail) = (replay.applied, replay.tail.into_batches());
    if !tail.is_empty() {
        mark(Mark::TailFound);
    }
    note_finds(&repair, loaded, &bad);
    let last_zxid = match empty {
        Some(EmptyStart::Untrusted) => Zxid(-1),
        Some(EmptyStart::Trusted) | None => last.unwrap_or(Zxid::ZERO),
    };
    if let Some(newest) = bad.iter().find(|(zxid, _, _)| *zxid > last_zxid)
        && empty.is_none()
    {
        return Err(snapshot_ahead(newest, last_zxid));
    }
    let EpochsFound { epochs, write } = epochs(dir, last_zxid, options.party, &mut notes)?;
    repair.epochs = write;
    Ok(Recovered {
        last_zxid,
        committed,
        tail,
        snapshot_zxid: loaded,
        entries_replayed,
        epochs,
        empty,
        notes,
        repair,
    })
}

/// The file of the snapshot that was loaded; damaged copies may have the same zxid.
fn path_of(
    loaded: Option<Zxid>,
    snaps: &[(Zxid, PathBuf)],
    bad: &[BadSnapshot],
) -> Option<PathBuf> {
    let is_good = |path: &PathBuf| bad.iter().all(|(_, bad, _)| bad != path);
    let found = snaps.iter().find(|(zxid, path)| Some(*zxid) == loaded && is_good(path));
    found.map(|(_, path)| path.clone())
}

/// Marks what a start rarely finds.
fn note_finds(repair: &LogRepair, loaded: Option<Zxid>, bad: &[BadSnapshot]) {
    let finds = [
        (loaded.is_some() && !bad.is_empty(), Mark::DamagedSnapshotPassedOver),
        (loaded.is_none(), Mark::LogFromItsBeginning),
        (repair.unused.is_some(), Mark::EmptySegmentKept),
        (!repair.remove.is_empty(), Mark::EmptySegmentsRemoved),
        (!repair.rename.is_empty(), Mark::SegmentRenamed),
        (!repair.spares.is_empty(), Mark::SparesFound),
    ];
    finds.into_iter().filter(|(is_found, _)| *is_found).for_each(|(_, found)| mark(found));
}

/// The epochs of the directory, of which `last` is the last transaction. What is wrong with them is
/// only noted for a server alone: Apache's does not look at them.
fn epochs(
    dir: &impl DataFiles,
    last: Zxid,
    party: Party,
    notes: &mut Vec<String>,
) -> Result<EpochsFound, RecoverError> {
    match find_epochs(dir, last, party) {
        Err(error) if party == Party::Alone => {
            notes.push(format!("{error}. This server is alone and goes on without them"));
            Ok(EpochsFound::default())
        }
        found => found,
    }
}

/// Whether there was a marker file `initialize`; it is used up by every start.
fn take_initialize(dir: &impl DataFiles) -> Result<bool, RecoverError> {
    dir.take_initialize().map_err(|(path, error)| io_error(&path, &error))
}

/// Decides what no usable snapshot means. `None`: replay all logs into an empty tree.
fn start_without_snapshot(
    dir: &impl DataFiles,
    options: &RecoverOptions,
    logs: &[LogFile],
    bad: &[BadSnapshot],
    notes: &mut Vec<String>,
) -> Result<Option<EmptyStart>, RecoverError> {
    if logs.is_empty() {
        // A snapshot.0 that was not completed lost nothing; any other one would be a loss.
        if let Some(newest) = bad.iter().find(|(zxid, _, _)| *zxid != Zxid::ZERO) {
            return Err(bad_snapshots(newest));
        }
        // The files of epochs are all that is left of a member: its database was taken away.
        let was_member = options.party == Party::Member
            && find_epochs(dir, Zxid(-1), options.party)?
                .epochs
                .is_some_and(|epochs| epochs.accepted > Epoch(0));
        let trusted = take_initialize(dir)? || (options.db_autocreate && !was_member);
        if !trusted && options.party == Party::Member {
            notes.push(format!(
                "{} holds no database: this server has no say in elections before it has got one \
                 from a leader of the others. Only if the whole ensemble is new, end it, create an \
                 empty file {} and start it again",
                dir.snap_dir().display(),
                dir.log_dir().with_file_name("initialize").display()
            ));
        }
        return Ok(Some(if trusted { EmptyStart::Trusted } else { EmptyStart::Untrusted }));
    }
    // Our own log from the very first transaction on needs no snapshot below it.
    if !is_complete(logs) && !options.trust_empty {
        return Err(bad.first().map_or_else(|| no_snapshot(dir), bad_snapshots));
    }
    take_initialize(dir)?;
    notes.push(format!(
        "there is no usable snapshot; starting from an empty tree and all logs in {}",
        dir.log_dir().display()
    ));
    Ok(None)
}
