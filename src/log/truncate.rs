//! Takes back the end of the log: which files go, and what takes the place of the one that holds
//! both what stays and what goes. Counterpart: `FileTxnLog.truncate`.
//!
//! A truncation is decided by one file, the *intent* `truncate.<zxid>` in the log's directory. From
//! the moment it is durable the log ends with that transaction, whatever else the directory still
//! holds: [`Truncated`] shows a directory as it will be, and recovery reads no other. So a crash
//! between any two operations leaves the state before the truncation or the one after it. For
//! instance with wal.1 (transactions 1 to 9) and wal.a (from 10 on), `truncate.5` says: wal.a goes,
//! and in place of wal.1 stands a segment with 1 to 5. Who carries that out does it again after a
//! crash, and removes the intent last, before anything is appended.
//!
//! A segment is written anew in format 2, sealed, with the numbers of its group commits; only the
//! last one is shorter. One of Apache's logs keeps its bytes up to the record.

#![allow(clippy::result_large_err, reason = "a truncation fails once")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::base::{Mark, Zxid, mark};

use super::files::DataFiles;
use super::names::FileName;
use super::recover::{LogFile, LogRepair, Source};
use super::recover::{find_logs, io_error, read, stopped_scan};
use super::recover_error::RecoverError;
use super::segment::{
    BLOCK, GROUP_HEAD, GroupHead, SegmentHeader, TAIL, group_seed, record_size, write_record,
};
use super::{Expect, Format, RECORD_HEAD, format1, scan_apache, scan_segment};

/// As much as Apache allocates after its last record, so that the file looks like one of its own.
const APACHE_ROOM: usize = 8192;

/// What a truncation does to the files of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Truncation {
    /// The last transaction that stays.
    pub keep: Zxid,
    /// Files without a transaction that stays, newest first.
    pub remove: Vec<PathBuf>,
    /// Files with transactions that stay and others, and what takes their place.
    pub rewrite: BTreeMap<PathBuf, Vec<u8>>,
    /// The number of the group commit that follows, where what stays demands one.
    pub next_group: Option<u64>,
    /// The last transaction that stays in the log, if one does.
    pub last: Option<Zxid>,
}

/// What stays of a file.
#[derive(Default)]
struct Prefix {
    /// What takes its place; `None` if all of it stays.
    shorter: Option<Vec<u8>>,
    /// See [`Truncation::next_group`].
    next_group: Option<u64>,
    /// See [`Truncation::last`].
    last: Option<Zxid>,
}

/// The transaction that the log was decided to end with, if that is not completed.
pub fn intended(dir: &impl DataFiles) -> Result<Option<Zxid>, RecoverError> {
    let log_dir = dir.log_dir();
    let files = dir.list(log_dir).map_err(|error| io_error(log_dir, &error))?;
    let kind = |path: &PathBuf| Some(FileName::parse(path.file_name()?.to_str()?));
    let intents = files.iter().filter_map(kind).filter_map(|kind| match kind {
        FileName::Truncate(keep) => Some(keep),
        _ => None,
    });
    Ok(intents.min())
}

/// What it takes to end the log with `keep`. The same directory gives the same bytes.
pub fn plan_truncation(dir: &impl DataFiles, keep: Zxid) -> Result<Truncation, RecoverError> {
    let logs = find_logs(dir, &mut LogRepair::default())?;
    let (stays, goes): (Vec<LogFile>, Vec<LogFile>) =
        logs.into_iter().partition(|file| file.first <= keep);
    if !goes.is_empty() {
        mark(Mark::TruncatedSegments);
    }
    let remove = goes.into_iter().rev().map(|file| file.path).collect();
    let (mut rewrite, mut last) = (BTreeMap::new(), None);
    let mut next_group = (keep == Zxid::ZERO).then_some(1);
    // Those before end before it begins. Copies (log.5.bak) begin alike.
    let newest = stays.last().map(|file| file.first);
    for file in stays.iter().filter(|file| Some(file.first) == newest) {
        let content = read(dir, &file.path)?;
        let prefix = match file.source {
            Source::Apache => apache_prefix(file, &content, keep)?,
            Source::Native => segment_prefix(file, &content, keep)?,
        };
        next_group = next_group.max(prefix.next_group);
        last = last.max(prefix.last);
        rewrite.extend(prefix.shorter.map(|shorter| (file.path.clone(), shorter)));
    }
    Ok(Truncation { keep, remove, rewrite, next_group, last })
}

/// One of Apache's logs without what is later than `keep`.
fn apache_prefix(file: &LogFile, content: &[u8], keep: Zxid) -> Result<Prefix, RecoverError> {
    let (mut end, mut last) = (None, None);
    scan_apache(content, true, &mut |at, _| {
        if at.zxid <= keep {
            last = Some(at.zxid);
        } else if end.is_none() {
            end = Some(at.offset as usize);
        }
        Ok::<(), Infallible>(())
    })
    .map_err(|stop| stopped_scan(file, stop))?;
    let shorter = end.map(|end| {
        let mut shorter = content[..end].to_vec();
        shorter.resize(end + APACHE_ROOM, 0);
        shorter
    });
    Ok(Prefix { shorter, next_group: None, last })
}

/// The same for one of ours, as a segment of format 2 that is full.
fn segment_prefix(file: &LogFile, content: &[u8], keep: Zxid) -> Result<Prefix, RecoverError> {
    // Entries by the group commit they are in.
    let mut groups: Vec<(u64, Vec<&[u8]>)> = Vec::new();
    let (head, old_salt) = match SegmentHeader::decode(content) {
        Ok(header) if header.format == Format::One => (format1::RECORD_HEAD, header.salt),
        Ok(header) => (RECORD_HEAD, header.salt),
        Err(_) => (RECORD_HEAD, 0),
    };
    let (mut last, mut last_kept) = (Zxid::ZERO, None);
    let scan = scan_segment(content, Expect::default(), &mut |at, entry| {
        if groups.last().is_none_or(|(group_at, _)| *group_at != at.group_at) {
            groups.push((at.group_at, Vec::new()));
        }
        last = at.zxid;
        if at.zxid > keep
            && last_kept.is_some()
            && groups.last().is_some_and(|(_, kept)| !kept.is_empty())
        {
            mark(Mark::TruncatedInsideGroup);
        }
        last_kept = Some(at.zxid).filter(|zxid| *zxid <= keep).or(last_kept);
        if let Some((_, entries)) = groups.last_mut().filter(|_| at.zxid <= keep) {
            // The scan lends what it reads for the call only.
            let start = at.offset as usize + head;
            entries.extend(content.get(start..start + entry.len()));
        }
        Ok::<(), Infallible>(())
    })
    .map_err(|stop| stopped_scan(file, stop))?;
    if last <= keep {
        let next_group = scan.last_group.map(|last| last + 1);
        return Ok(Prefix { shorter: None, next_group, last: last_kept });
    }
    let committed = scan.committed.min(keep);
    // Numbers ascend without a gap, which the scan has seen to.
    let first = scan.last_group.map_or(1, |last| last + 1 - groups.len() as u64);
    let numbered = (first..).zip(groups.into_iter().map(|(_, entries)| entries));
    let kept: Vec<_> = numbered.filter(|(_, entries)| !entries.is_empty()).collect();
    let next_group = kept.last().map(|(number, _)| number + 1);
    // As unknown to clients as the old one. There are no stale bytes in a new file.
    let salt = !old_salt.rotate_left(32);
    Ok(Prefix { shorter: Some(encode(&kept, committed, salt)), next_group, last: last_kept })
}

/// A segment of just these group commits.
fn encode(groups: &[(u64, Vec<&[u8]>)], committed: Zxid, salt: u64) -> Vec<u8> {
    let size_of =
        |entries: &[&[u8]]| entries.iter().map(|entry| record_size(entry.len())).sum::<usize>();
    let used: usize = groups.iter().map(|(_, entries)| GROUP_HEAD + size_of(entries)).sum();
    let size = (BLOCK + used + TAIL).next_multiple_of(BLOCK).max(2 * BLOCK);
    let header = SegmentHeader::new(salt, size as u64);
    let mut out = header.encode().to_vec();
    out.resize(size, 0);
    let (mut at, seed) = (BLOCK, header.crc_seed());
    for (number, entries) in groups {
        let (number, offset) = (*number, at as u64);
        let head = GroupHead { number, committed, len: size_of(entries) };
        head.write(&mut out[at..], salt, seed, offset);
        at += GROUP_HEAD;
        let records_seed = group_seed(seed, number, offset);
        for entry in entries {
            let len = record_size(entry.len());
            write_record(&mut out[at..at + len], entry, records_seed);
            at += len;
        }
    }
    // Nothing is appended to it. Where one group commit stays, and its head is damaged, only this
    // shows that it was there.
    header.seal(at as u64).put(&mut out);
    out
}

/// A directory as it is once a truncation is completed.
pub(super) struct Truncated<'a, D> {
    pub dir: &'a D,
    pub truncation: &'a Truncation,
}

/// Content of a file that stays, or what takes its place.
pub(super) enum Shown<C> {
    Found(C),
    Rewritten(Vec<u8>),
}

impl<C: Deref<Target = [u8]>> Deref for Shown<C> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Shown::Found(content) => content,
            Shown::Rewritten(content) => content,
        }
    }
}

impl<D: DataFiles> DataFiles for Truncated<'_, D> {
    type Content = Shown<D::Content>;

    fn snap_dir(&self) -> &Path {
        self.dir.snap_dir()
    }

    fn log_dir(&self) -> &Path {
        self.dir.log_dir()
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        let files = self.dir.list(dir)?;
        Ok(files.into_iter().filter(|path| !self.truncation.remove.contains(path)).collect())
    }

    fn read(&self, path: &Path) -> Result<Option<Self::Content>, String> {
        if let Some(content) = self.truncation.rewrite.get(path) {
            return Ok(Some(Shown::Rewritten(content.clone())));
        }
        Ok(self.dir.read(path)?.map(Shown::Found))
    }

    fn take_initialize(&self) -> Result<bool, (PathBuf, String)> {
        self.dir.take_initialize()
    }
}
