//! Start-up: the newest good snapshot, then every later transaction of the logs, Apache's and
//! ours, in zxid order. Reads only (but consumes the marker file `initialize`); what has to be
//! changed on disk is returned as a [`LogRepair`]. Counterpart: `FileTxnSnapLog.restore`.
//!
//! Files are reached through [`DataFiles`] only, so real directories and simulated disks are
//! recovered by the same code.
//!
//! Invariant: a transaction that may have been acknowledged is either handed to the target or
//! makes the recovery fail with the file, the offset and what to do. Hence a directory that holds
//! two histories is refused before any data is changed: no transaction may stand both in one of
//! Apache's logs and in one of ours, needed or not, and no node of the snapshot may say that one
//! of ours was at another time; see `histories`, which also says why.

#![allow(clippy::result_large_err, reason = "a recovery fails once")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use crate::base::Zxid;
use crate::wire::{Reader, Txn, TxnDigest, TxnHeader};

use super::cut_short::{Accepted, CutShort, judge_apache};
use super::files::DataFiles;
use super::histories::{Times, Witness, check_one_history};
use super::names::FileName;
use super::recover_error::{RecoverError, RecoverErrorKind as Kind};
use super::scan::first_entry;
use super::snapload::{load_snapshot, looks_valid};
use super::truncate::{Truncated, Truncation, intended, plan_truncation};
use super::{
    Damage, EntryAt, Expect, GUARD_NAME, ScanStop, Seal, SegmentHeader, SegmentScan,
    SnapshotDigest, SnapshotVisitor, Tail, is_guard, scan_apache, scan_segment,
};

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
}

impl Default for RecoverOptions {
    fn default() -> RecoverOptions {
        RecoverOptions { trust_empty: false, db_autocreate: true, accept_truncated: None }
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
    /// The last segment if there is no whole group commit in it and the next transaction gives its
    /// segment the same name. Until then it stays, cut to its header: the name says that all of the
    /// segment before is whole, and that nothing of it is behind a snapshot that ends there.
    pub unused: Option<PathBuf>,
    /// Other segments without a whole group commit.
    pub remove: Vec<PathBuf>,
    /// Segments in use whose name did not become durable, with the name they get.
    pub rename: Vec<(PathBuf, PathBuf)>,
    /// Unused spare segments.
    pub spares: Vec<PathBuf>,
    /// What was read and perhaps never synced: the snapshot, Apache's logs, and segments before the
    /// last, which is in `cut`. A server that was killed leaves what only the page cache holds, and
    /// our log begins behind it.
    pub sync: Vec<PathBuf>,
    /// A truncation that was decided and not completed. It comes first: everything else is said of
    /// the directory as it is then.
    pub truncation: Option<Truncation>,
}

/// A completed recovery.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The last transaction; -1 for an untrusted empty database.
    pub last_zxid: Zxid,
    /// Position of the snapshot it started from.
    pub snapshot_zxid: Option<Zxid>,
    /// Transactions handed to the target.
    pub entries_replayed: u64,
    /// The directory held neither snapshot nor log.
    pub empty: Option<EmptyStart>,
    /// Things an operator should read.
    pub notes: Vec<String>,
    /// What the log's writer must change before it appends.
    pub repair: LogRepair,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Apache,
    Native,
}

#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub source: Source,
    pub first: Zxid,
    pub path: PathBuf,
    /// Found under its spare name.
    spare: bool,
}

/// Loads the directory into `target`.
pub fn recover(
    dir: &impl DataFiles,
    options: &RecoverOptions,
    target: &mut dyn RecoveryTarget,
) -> Result<Recovered, RecoverError> {
    let Some(keep) = intended(dir)? else { return recover_from(dir, options, target) };
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
    let (loaded, bad) = load_newest(dir, (&snaps, &logs), target, &mut notes)?;
    let is_loaded = |(zxid, path): &&(Zxid, PathBuf)| {
        Some(*zxid) == loaded && bad.iter().all(|(_, bad, _)| bad != path)
    };
    repair.sync.extend(snaps.iter().find(is_loaded).map(|(_, path)| path.clone()));
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
        applied: loaded.or(is_complete(&logs).then_some(Zxid::ZERO)),
        entries: 0,
        overlaps: 0,
        accepted: Accepted::new(options),
        notes: &mut notes,
        repair: &mut repair,
    };
    replay.files(&logs).map_err(|e| explain_fallback(e, &bad))?;
    let (applied, entries_replayed) = (replay.applied, replay.entries);
    let last_zxid = match empty {
        Some(EmptyStart::Untrusted) => Zxid(-1),
        Some(EmptyStart::Trusted) | None => applied.unwrap_or(Zxid::ZERO),
    };
    if let Some(newest) = bad.iter().find(|(zxid, _, _)| *zxid > last_zxid)
        && empty.is_none()
    {
        return Err(snapshot_ahead(newest, last_zxid));
    }
    Ok(Recovered { last_zxid, snapshot_zxid: loaded, entries_replayed, empty, notes, repair })
}

/// Whether there was a marker file `initialize`; it is used up by every start.
fn take_initialize(dir: &impl DataFiles) -> Result<bool, RecoverError> {
    dir.take_initialize().map_err(|(path, error)| io_error(&path, &error))
}

fn list(dir: &impl DataFiles, path: &Path) -> Result<Vec<(FileName, PathBuf)>, RecoverError> {
    let mut files: Vec<_> = dir.list(path).map_err(|error| io_error(path, &error))?;
    files.sort();
    let name_of =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).map(FileName::parse);
    Ok(files.into_iter().filter_map(|path| Some((name_of(&path)?, path))).collect())
}

/// The number of the group commit that follows those of a segment; `None` if it holds none.
fn group_behind(scan: &SegmentScan) -> Option<u64> {
    scan.last_group.map(|group| group.saturating_add(1))
}

/// A number above those of all group commits up to a transaction, and one that the next would not
/// have got by counting: each has a transaction, so counting gives none above its zxid. Nor will
/// there be 2^39 of them, and a scan does not look for numbers much farther ahead.
fn group_above(zxid: Zxid) -> u64 {
    zxid.0.unsigned_abs().min(1 << 39) + 2
}

/// Whether the logs begin with our own log's very first transaction.
fn is_complete(logs: &[LogFile]) -> bool {
    logs.first().is_some_and(|file| file.source == Source::Native && file.first == Zxid(1))
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
        let trusted = take_initialize(dir)? || options.db_autocreate;
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

fn find_snapshots(dir: &impl DataFiles) -> Result<Vec<(Zxid, PathBuf)>, RecoverError> {
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

fn advice_restore() -> String {
    "Restore the version-2 directories from a backup. Emptying them would lose everything: nobody \
     else has the data of a standalone server"
        .into()
}

pub(super) fn plain_error(kind: Kind, path: &Path, what: String, advice: String) -> RecoverError {
    RecoverError {
        kind,
        path: path.to_owned(),
        offset: None,
        before: None,
        after: None,
        what,
        advice,
    }
}

pub(super) fn io_error(path: &Path, error: &str) -> RecoverError {
    let advice = "Check the disk, the file's owner and its permissions".into();
    plain_error(Kind::Io, path, format!("it cannot be read: {error}"), advice)
}

fn no_snapshot(dir: &impl DataFiles) -> RecoverError {
    let what = format!(
        "there are transaction logs in {} but no snapshot here: data would be missing",
        dir.log_dir().display()
    );
    let advice = "Put the snapshots back. Only if there never were any (an upgrade from 3.4 that \
                  never took one), start once with zookeeper.snapshot.trust.empty=true"
        .into();
    plain_error(Kind::NoSnapshot, dir.snap_dir(), what, advice)
}

fn bad_snapshots((_, path, why): &BadSnapshot) -> RecoverError {
    let what = format!("no snapshot in this directory can be loaded; the newest: {why}");
    plain_error(Kind::BadSnapshots, path, what, advice_restore())
}

fn snapshot_ahead((zxid, path, why): &BadSnapshot, last_zxid: Zxid) -> RecoverError {
    let what = format!(
        "this snapshot is damaged ({why}) and the log ends before it: transactions up to 0x{zxid} \
         would be lost"
    );
    RecoverError {
        before: Some(last_zxid),
        after: Some(*zxid),
        ..plain_error(Kind::SnapshotAhead, path, what, advice_restore())
    }
}

/// After falling back to an older snapshot, an error in the log has two causes.
fn explain_fallback(mut e: RecoverError, bad: &[BadSnapshot]) -> RecoverError {
    if let Some((_, path, why)) = bad.first() {
        e.what = format!(
            "{} (this part of the log is needed because the newest snapshot {} is damaged: {why})",
            e.what,
            path.display()
        );
    }
    e
}

/// No transaction is numbered from here on: the last epoch there is, with no other to go on in.
const ZXID_LIMIT: Zxid = Zxid(0x7fff_ffff_0000_0000);

fn advice_zxid() -> String {
    format!(
        "zxids from 0x{ZXID_LIMIT} on cannot be continued, and no server gets there by counting: \
         move this file elsewhere if it does not belong to this server's history, or restore the \
         version-2 directories from a backup"
    )
}

fn snapshot_beyond(zxid: Zxid, path: &Path) -> RecoverError {
    let what = format!("this snapshot is of transaction 0x{zxid}");
    plain_error(Kind::ZxidRange, path, what, advice_zxid())
}

type BadSnapshot = (Zxid, PathBuf, String);

/// Tries the snapshots, newest first. Returns the position of the loaded one and those that
/// failed before it. One of another history than our logs is an error.
fn load_newest(
    dir: &impl DataFiles,
    (snaps, logs): (&[(Zxid, PathBuf)], &[LogFile]),
    target: &mut dyn RecoveryTarget,
    notes: &mut Vec<String>,
) -> Result<(Option<Zxid>, Vec<BadSnapshot>), RecoverError> {
    let mut bad: Vec<BadSnapshot> = Vec::new();
    target.reset();
    for (zxid, path) in snaps.iter().take(100) {
        let attempt = match dir.read(path) {
            Ok(Some(content)) if looks_valid(path, &content) => {
                let times = Times::below(dir, logs, *zxid)?;
                let mut witness = Witness::new(target, &times);
                let loaded = load_snapshot(path, &content, &mut witness);
                if loaded.is_ok() {
                    witness.verdict(path)?;
                }
                loaded
            }
            Ok(_) => Err("it is incomplete".into()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        };
        let attempt = attempt.and_then(|loaded| target.snapshot_done(*zxid, loaded.digest));
        match attempt {
            Ok(()) if *zxid >= ZXID_LIMIT => return Err(snapshot_beyond(*zxid, path)),
            Ok(()) => return Ok((Some(*zxid), bad)),
            Err(why) => {
                notes.push(format!("snapshot {} cannot be used: {why}", path.display()));
                bad.push((*zxid, path.clone(), why));
                target.reset();
            }
        }
    }
    Ok((None, bad))
}

/// All log files in the order of their first transaction.
pub(super) fn find_logs(
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
pub(super) fn read<F: DataFiles>(dir: &F, path: &Path) -> Result<F::Content, RecoverError> {
    match dir.read(path) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(io_error(path, "it has just disappeared")),
        Err(error) => Err(io_error(path, &error)),
    }
}

struct Replay<'a, F> {
    dir: &'a F,
    target: &'a mut dyn RecoveryTarget,
    snapshot: Option<Zxid>,
    /// The last transaction in the target; `None` while nothing says which one comes first.
    applied: Option<Zxid>,
    entries: u64,
    /// Transactions that Apache's logs hold twice.
    overlaps: u64,
    accepted: Accepted<'a>,
    notes: &'a mut Vec<String>,
    repair: &'a mut LogRepair,
}

impl<F: DataFiles> Replay<'_, F> {
    fn files(&mut self, logs: &[LogFile]) -> Result<(), RecoverError> {
        // A file is needed unless the next one starts at or before the first needed transaction.
        let from = self.snapshot.map_or(Zxid::ZERO, |s| Zxid(s.0.saturating_add(1)));
        let newest = logs.iter().rev().find(|f| f.first <= from).map(|f| f.first);
        // Copies (log.5.bak) start alike; each may be the incomplete one.
        let skip = newest.and_then(|n| logs.iter().position(|f| f.first == n)).unwrap_or(0);
        let last_native = logs.iter().rposition(|f| f.source == Source::Native);
        let last_apache = logs.iter().rposition(|f| f.source == Source::Apache);
        let mut group = None;
        for (index, file) in logs.iter().enumerate().skip(skip) {
            match file.source {
                Source::Apache => {
                    group = None;
                    self.repair.sync.push(file.path.clone());
                    let is_last = index + 1 == logs.len();
                    self.apache(file, last_apache == Some(index), is_last)?;
                }
                Source::Native => {
                    let followed = last_native != Some(index);
                    let accept_cut = false;
                    let expect = Expect { group, followed, accept_cut };
                    group = self.native(file, expect, &logs[..index])?;
                }
            }
        }
        self.repair.next_group = match group {
            Some(group) => group,
            None => self.group_after(&logs[..skip])?,
        };
        self.notes.extend(self.accepted.unused());
        if self.overlaps > 0 {
            self.notes.push(format!(
                "{} transactions stand in more than one log file (copies such as log.1f.bak \
                 count as logs); each was applied once",
                self.overlaps
            ));
        }
        Ok(())
    }

    /// Where nothing that was scanned holds a group, numbering goes on after the segments that were
    /// not needed: should the snapshot that made them so prove bad one day, they are.
    fn group_after(&self, skipped: &[LogFile]) -> Result<u64, RecoverError> {
        let newest = skipped.iter().rev().find(|file| file.source == Source::Native);
        let Some(file) = newest else { return Ok(1) };
        // Damage there does not matter now, but a good copy may come back.
        let above = group_above(self.applied.unwrap_or(Zxid::ZERO));
        Ok(self.scan_again(file)?.and_then(|scan| group_behind(&scan)).unwrap_or(above))
    }

    /// The number of a segment's first group commit if it was given while the segment before was
    /// damaged (see [`Replay::group_after`]), and that is whole again: it ends with the transaction
    /// before the first here, and that one's group commit is whole, so that nothing is missing
    /// between the two, although numbers are.
    fn group_given(
        &self,
        file: &LogFile,
        map: &[u8],
        expect: Expect,
        before: &[LogFile],
    ) -> Result<Option<u64>, RecoverError> {
        let given = Some(group_above(Zxid(file.first.0.saturating_sub(1))));
        if expect.group.is_none()
            || expect.group == given
            || self.first_group(file, before)? != expect.group
        {
            return Ok(None);
        }
        let mut is_first = false;
        let _ = scan_segment(map, Expect { group: given, ..expect }, &mut |at, _| {
            is_first = at.zxid == file.first;
            Err(())
        });
        Ok(given.filter(|_| is_first))
    }

    /// What a segment that others follow holds, for its numbers only; `None` if it is damaged.
    fn scan_again(&self, file: &LogFile) -> Result<Option<SegmentScan>, RecoverError> {
        let map = read(self.dir, &file.path)?;
        let expect = Expect { followed: true, ..Expect::default() };
        Ok(scan_segment(&map, expect, &mut |_, _| Ok::<(), ()>(())).ok())
    }

    /// `newest`: no other log of Apache's follows. `is_last`: nor does one of ours.
    fn apache(&mut self, file: &LogFile, newest: bool, is_last: bool) -> Result<(), RecoverError> {
        let map = read(self.dir, &file.path)?;
        let scan = scan_apache(&map, newest, &mut |at, entry| self.entry(file, at, entry))
            .map_err(|e| stopped(file, e))?;
        let (end, len) = ((scan.tail, scan.end, scan.last_zxid), map.len() as u64);
        self.notes.extend(judge_apache(file, end, len, is_last, &mut self.accepted)?);
        Ok(())
    }

    /// The number of the first group commit of a segment, if what lies before it tells.
    fn first_group(&self, file: &LogFile, before: &[LogFile]) -> Result<Option<u64>, RecoverError> {
        // Our log begins with transaction 1 only where it begins.
        if file.first == Zxid(1) {
            return Ok(Some(1));
        }
        let previous = before.iter().rev().find(|previous| previous.first != file.first);
        let Some(previous) = previous.filter(|previous| previous.source == Source::Native) else {
            return Ok(None);
        };
        let scan = self.scan_again(previous)?;
        let scan = scan.filter(|scan| scan.last_zxid == Some(Zxid(file.first.0.saturating_sub(1))));
        Ok(scan.and_then(|scan| group_behind(&scan)))
    }

    /// Returns the number of the group commit that must follow.
    fn native(
        &mut self,
        file: &LogFile,
        mut expect: Expect,
        before: &[LogFile],
    ) -> Result<Option<u64>, RecoverError> {
        let map = read(self.dir, &file.path)?;
        let header = SegmentHeader::decode(&map).ok();
        let cut = header.and_then(|header| CutShort::of(&map, &header));
        let cut = cut.filter(|_| !expect.followed);
        expect.accept_cut = cut.is_some();
        let mut scan = match self.scan(file, &map, expect) {
            Ok(scan) => scan,
            // With a first number that is not the expected one, nothing was handed out.
            Err(error) => match self.group_given(file, &map, expect, before)? {
                None => return Err(error),
                given => {
                    expect.group = given;
                    self.notes.push(format!(
                        "{}: group commits are numbered anew from here on, as is done while what \
                         lies before is damaged; it is whole again, and no transaction is missing",
                        file.path.display()
                    ));
                    self.scan(file, &map, expect)?
                }
            },
        };
        if scan.tail == Tail::Torn && scan.records == 0 && expect.group.is_none() {
            // A torn first write, or a damaged one with a single one behind it: that depends on
            // the number of the one that can be read.
            expect.group = self.first_group(file, before)?;
            scan = self.scan(file, &map, expect)?;
        }
        if let Some(cut) = cut {
            self.notes.push(cut.judge(file, &scan, &mut self.accepted)?);
        } else if scan.tail == Tail::Torn {
            self.check_torn(file, &scan, before)?;
            self.notes.push(format!(
                "{}: the last block of the log holds an incomplete write, which is cut at offset \
                 {}. A power failure leaves such a write, as does damage to the last block",
                file.path.display(),
                scan.end
            ));
        }
        if expect.followed && scan.records > 0 && !file.spare {
            // With forceSync=no it may never have been.
            self.repair.sync.push(file.path.clone());
        }
        let next = self.applied.map(|applied| Zxid(applied.0.saturating_add(1)));
        if let Some(next) = next.filter(|next| scan.records == 0 && file.first > *next)
            && next.epoch() == file.first.epoch()
        {
            return Err(self.missed_before(file, next));
        }
        let is_unused = scan.records == 0 && !expect.followed && next == Some(file.first);
        if is_unused {
            self.repair.unused = Some(file.path.clone());
        } else if scan.records == 0 {
            self.repair.remove.push(file.path.clone());
        } else if file.spare {
            let name = file.path.with_file_name(format!("wal.{}", file.first));
            self.repair.rename.push((file.path.clone(), name));
        }
        // Also where nothing is to be cut: what a killed process wrote and did not sync has been
        // replayed here, so it must be durable before a client sees it.
        if !expect.followed && (scan.records > 0 || is_unused) {
            self.repair.cut = header.map(|header| (file.path.clone(), header.seal(scan.end)));
        }
        Ok(group_behind(&scan))
    }

    /// A segment gets its name when all before it is durable, so the name says what there was.
    fn missed_before(&self, file: &LogFile, next: Zxid) -> RecoverError {
        let what = format!(
            "it was begun for transaction 0x{}, so those from 0x{next} on were there, and they are \
             missing",
            file.first
        );
        let before = self.applied;
        RecoverError { before, ..plain_error(Kind::Gap, &file.path, what, advice_restore()) }
    }

    /// Refuses what looks like a torn write and cannot be one: a snapshot holds nothing that was
    /// not durable before.
    fn check_torn(
        &self,
        file: &LogFile,
        scan: &SegmentScan,
        before: &[LogFile],
    ) -> Result<(), RecoverError> {
        // Where Apache went on from the same transaction, what the snapshot holds is in its log.
        let is_continued = before.last().is_some_and(|previous| previous.first == file.first);
        if scan.records == 0 && is_continued {
            return Ok(());
        }
        let last = scan.last_zxid.unwrap_or(Zxid(file.first.0.saturating_sub(1)));
        let Some(snapshot) = self.snapshot.filter(|snapshot| *snapshot > last) else {
            return Ok(());
        };
        let what =
            format!("it ends before transaction 0x{snapshot} of the snapshot, which was durable");
        let damage = Damage { offset: scan.end, what, before: scan.last_zxid, after: None };
        Err(stopped(file, ScanStop::Damage(damage)))
    }

    fn scan(
        &mut self,
        file: &LogFile,
        map: &[u8],
        expect: Expect,
    ) -> Result<SegmentScan, RecoverError> {
        let mut is_first = true;
        let scan = scan_segment(map, expect, &mut |at, entry| {
            if std::mem::take(&mut is_first) && at.zxid != file.first {
                return Err(EntryTrouble::new(
                    Kind::Overlap,
                    format!("its first transaction is 0x{}: the file was renamed", at.zxid),
                ));
            }
            self.entry(file, at, entry)
        });
        scan.map_err(|e| stopped(file, e))
    }

    fn entry(&mut self, file: &LogFile, at: EntryAt, entry: &[u8]) -> Result<(), EntryTrouble> {
        let zxid = at.zxid;
        if zxid < Zxid::ZERO || zxid >= ZXID_LIMIT {
            let what = format!("its zxid 0x{zxid} is out of range");
            return Err(EntryTrouble::new(Kind::ZxidRange, what));
        }
        if self.snapshot.is_some_and(|s| zxid <= s) {
            return Ok(());
        }
        if let Some(applied) = self.applied {
            if zxid <= applied {
                if file.source == Source::Apache {
                    self.overlaps += 1;
                    return Ok(());
                }
                let what = format!("transaction 0x{zxid} follows 0x{applied} of an earlier file");
                return Err(EntryTrouble::new(Kind::Overlap, what).before(applied));
            }
            if zxid.epoch() == applied.epoch() && zxid != applied.next() {
                let what = format!("transactions between 0x{applied} and 0x{zxid} are missing");
                return Err(EntryTrouble::new(Kind::Gap, what).before(applied));
            }
        }
        let mut r = Reader::new(entry);
        let parsed = TxnHeader::decode_from(&mut r).and_then(|header| {
            let txn = Txn::decode_from(header.kind, &mut r)?;
            Ok((header, txn, TxnDigest::decode_trailing(&mut r)?))
        });
        let (header, txn, digest) = parsed
            .map_err(|e| EntryTrouble::new(Kind::Entry, format!("transaction 0x{zxid}: {e}")))?;
        self.target
            .txn(&header, &txn, digest, entry)
            .map_err(|e| EntryTrouble::new(Kind::Entry, format!("transaction 0x{zxid}: {e}")))?;
        self.applied = Some(zxid);
        self.entries += 1;
        Ok(())
    }
}

struct EntryTrouble {
    kind: Kind,
    what: String,
    before: Option<Zxid>,
}

impl EntryTrouble {
    fn new(kind: Kind, what: String) -> EntryTrouble {
        EntryTrouble { kind, what, before: None }
    }

    fn before(mut self, zxid: Zxid) -> EntryTrouble {
        self.before = Some(zxid);
        self
    }
}

/// The same where nobody refuses an entry.
pub(super) fn stopped_scan(file: &LogFile, stop: ScanStop<Infallible>) -> RecoverError {
    match stop {
        ScanStop::Damage(damage) => stopped(file, ScanStop::Damage(damage)),
        ScanStop::Refused(_, never) => match never {},
    }
}

fn stopped(file: &LogFile, stop: ScanStop<EntryTrouble>) -> RecoverError {
    let path = file.path.clone();
    match stop {
        ScanStop::Damage(Damage { offset, what, before, after }) => RecoverError {
            kind: Kind::Damage,
            path,
            offset: Some(offset),
            before,
            after,
            what: format!("the log is damaged, and not just its unfinished end: {what}"),
            advice: advice_restore(),
        },
        ScanStop::Refused(at, trouble) => RecoverError {
            advice: match trouble.kind {
                Kind::Overlap => "The log directory mixes two histories (an old copy, or logs \
                                  written by Apache after a move back). Move the files that do \
                                  not belong to this server's history elsewhere"
                    .into(),
                Kind::Entry => {
                    "It was written by a newer or a different server; start the one that \
                                wrote it, stop it cleanly, and see `Upgrade and rollback` and \
                                `Coming from Apache ZooKeeper` in the README"
                        .into()
                }
                Kind::ZxidRange => advice_zxid(),
                Kind::Io
                | Kind::Truncated
                | Kind::NoSnapshot
                | Kind::BadSnapshots
                | Kind::SnapshotAhead
                | Kind::Damage
                | Kind::Gap => advice_restore(),
            },
            kind: trouble.kind,
            path,
            offset: Some(at.offset),
            before: trouble.before,
            after: Some(at.zxid),
            what: trouble.what,
        },
    }
}
