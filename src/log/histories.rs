//! Whether Apache's logs and ours tell one history. Counterpart: none.
//!
//! Apache does not read our segments, so started on what a killed Ringkeeper left it goes on from
//! an older state and gives zxids a second time. From then on there are two histories with
//! acknowledged transactions in each, and no rule can merge them or choose. The rule that notices:
//! **no transaction stands both in one of Apache's logs and in one of ours.** In one history, who
//! takes over begins after the last transaction of the other, so that where the kind of log
//! changes their ranges touch and never overlap. What the two say about the same zxid is not
//! compared: even if it were alike, nobody writes it twice.
//!
//! The snapshot that recovery loads has no say in that: it may be Apache's, cover everything, and
//! so hide that our segments below it hold something else. Therefore also files that are not
//! needed are looked at, but only where the kind changes: within a run of one kind each file
//! begins after the one before.
//!
//! Apache purges its logs, and somebody who sorts files by hand may leave a snapshot of the wrong
//! history there. Hence a second rule: **a transaction has one time.** Nodes carry the zxid and
//! the time of the transactions that created and last changed them; where our newest segment that
//! begins at or below the snapshot holds such a zxid, it must have that time. (Digests would say
//! more, but our entries have none, and Apache's snapshots have empty ones after a start
//! without replay.)

#![allow(clippy::result_large_err, reason = "a recovery fails once")]

use std::path::{Path, PathBuf};

use crate::base::{SessionId, Zxid};
use crate::wire::{AclBytes, Reader, TxnHeader};

use super::files::DataFiles;
use super::recover::{LogFile, Source, plain_error, read};
use super::recover_error::{RecoverError, RecoverErrorKind};
use super::{
    Damage, EntryAt, Expect, ScanStop, SnapshotNode, SnapshotVisitor, scan_apache, scan_segment,
};

/// The transactions of a file.
#[derive(Clone, Copy)]
struct Span {
    first: Zxid,
    last: Zxid,
}

/// Refuses log files, in the order of their first transactions, that overlap files of
/// the other kind.
pub(super) fn check_one_history(
    dir: &impl DataFiles,
    logs: &[LogFile],
) -> Result<(), RecoverError> {
    // The end of the other kind's last run, until the begin of this one is known.
    let mut earlier = None;
    for (index, file) in logs.iter().enumerate() {
        let (before, _) = logs.split_at(index);
        if before.last().is_some_and(|last| last.source != file.source) {
            earlier = end_of_run(dir, before)?;
        }
        if let Some((other, end)) = earlier
            && let Some(span) = span(dir, file)?
        {
            if span.first <= end.last {
                return Err(two_histories((other, end), (file, span)));
            }
            earlier = None;
        }
    }
    Ok(())
}

/// Where the last run of one kind ends; `None` if there is no transaction in it.
fn end_of_run<'a>(
    dir: &impl DataFiles,
    logs: &'a [LogFile],
) -> Result<Option<(&'a LogFile, Span)>, RecoverError> {
    let mut end: Option<(&LogFile, Span)> = None;
    let kind = logs.last().map(|file| file.source);
    for file in logs.iter().rev().take_while(|file| Some(file.source) == kind) {
        // Copies (log.5.bak) begin alike; each may be the incomplete one.
        if end.is_some_and(|(found, _)| found.first != file.first) {
            break;
        }
        if let Some(span) = span(dir, file)?
            && end.is_none_or(|(_, found)| found.last < span.last)
        {
            end = Some((file, span));
        }
    }
    Ok(end)
}

/// First and last transaction of a file, as far as they can be read. Whether damage matters is
/// decided later, when it is known which files are needed.
fn span(dir: &impl DataFiles, file: &LogFile) -> Result<Option<Span>, RecoverError> {
    let map = read(dir, &file.path)?;
    let mut span: Option<Span> = None;
    let mut seen = |zxid: Zxid| {
        let so_far = span.unwrap_or(Span { first: zxid, last: zxid });
        span = Some(Span { first: so_far.first.min(zxid), last: so_far.last.max(zxid) });
    };
    let mut on_entry = |at: EntryAt, _: &[u8]| {
        seen(at.zxid);
        Ok::<(), ()>(())
    };
    let stop = match file.source {
        Source::Apache => scan_apache(&map, true, &mut on_entry).err(),
        Source::Native => scan_segment(&map, Expect::default(), &mut on_entry).err(),
    };
    if let Some(ScanStop::Damage(Damage { after: Some(zxid), .. })) = stop {
        seen(zxid);
    }
    Ok(span)
}

fn two_histories((other, end): (&LogFile, Span), (file, span): (&LogFile, Span)) -> RecoverError {
    let name = |path: &PathBuf| path.file_name().map(|name| name.display().to_string());
    let name = |file: &LogFile| name(&file.path).unwrap_or_default();
    let (apache, own) = match file.source {
        Source::Apache => (name(file), name(other)),
        Source::Native => (name(other), name(file)),
    };
    let from = span.first;
    let what = format!(
        "it holds transactions 0x{from} to 0x{}, and {} goes up to 0x{}: two servers went on from \
         0x{}, each without what the other wrote, as when Apache is started on what a killed \
         Ringkeeper left",
        span.last,
        other.path.display(),
        end.last,
        Zxid(from.0.saturating_sub(1)),
    );
    let advice = format!(
        "The log directory mixes two histories. Decide for one, and move the files of the other \
         elsewhere. To keep Ringkeeper's, move {apache}, all later log.* and each snapshot.* from \
         snapshot.{from} on; to keep Apache's, move {own} and all later wal.*",
    );
    plain_error(RecoverErrorKind::Overlap, &file.path, what, advice)
}

/// When the transactions of one of our segments were, in ms since 1970.
pub(super) struct Times {
    path: PathBuf,
    /// Ascending.
    times: Vec<(Zxid, i64)>,
}

impl Times {
    /// Transactions of our newest segment that begins at or below a snapshot and holds something.
    pub(super) fn below(
        dir: &impl DataFiles,
        logs: &[LogFile],
        snapshot: Zxid,
    ) -> Result<Times, RecoverError> {
        let is_below = |file: &&LogFile| file.source == Source::Native && file.first <= snapshot;
        let mut times = Vec::new();
        for file in logs.iter().rev().filter(is_below) {
            // A damaged part says nothing; recovery decides whether that matters when it needs it.
            let _ = scan_segment(&read(dir, &file.path)?, Expect::default(), &mut |at, entry| {
                if let Ok(header) = TxnHeader::decode_from(&mut Reader::new(entry)) {
                    times.push((at.zxid, header.time_ms));
                }
                Ok::<(), ()>(())
            });
            // There may be nothing but a name.
            if !times.is_empty() {
                return Ok(Times { path: file.path.clone(), times });
            }
        }
        Ok(Times { path: PathBuf::new(), times })
    }

    fn differs(&self, zxid: Zxid, time_ms: i64) -> bool {
        let within = |last: &(Zxid, i64)| zxid <= last.0;
        self.times.last().is_some_and(within)
            && self
                .times
                .binary_search_by_key(&zxid, |&(zxid, _)| zxid)
                .is_ok_and(|index| self.times[index].1 != time_ms)
    }
}

/// Passes a snapshot on, and compares its nodes with our log.
pub(super) struct HistoryCheck<'a> {
    target: &'a mut dyn SnapshotVisitor,
    times: &'a Times,
    /// The first node that is of another history, and the transaction.
    found: Option<(String, Zxid)>,
}

impl<'a> HistoryCheck<'a> {
    pub(super) fn new(target: &'a mut dyn SnapshotVisitor, times: &'a Times) -> HistoryCheck<'a> {
        HistoryCheck { target, times, found: None }
    }

    /// Refuses a snapshot of another history; call when its checksums have proved to be right.
    pub(super) fn verdict(self, snapshot: &Path) -> Result<(), RecoverError> {
        let Some((node, zxid)) = self.found else { return Ok(()) };
        let own = &self.times.path;
        let what = format!(
            "{node} in it was written by transaction 0x{zxid}, which in {} is another one, of \
             another time: this snapshot does not continue Ringkeeper's log, as when Apache is \
             started on what a killed Ringkeeper left",
            own.display()
        );
        let own = own.file_name().map(|name| name.display().to_string()).unwrap_or_default();
        let advice = format!(
            "The directory mixes two histories. Decide for one, and move the files of the other \
             elsewhere. To keep Ringkeeper's, move this snapshot and the log.* and snapshot.* that \
             Apache wrote with it; to keep Apache's, move {own} and all later wal.*",
        );
        Err(plain_error(RecoverErrorKind::Overlap, snapshot, what, advice))
    }
}

impl SnapshotVisitor for HistoryCheck<'_> {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.target.session(id, timeout_ms)
    }

    fn acl(&mut self, id: i64, acl: AclBytes<'_>) -> Result<(), String> {
        self.target.acl(id, acl)
    }

    fn node(&mut self, node: &SnapshotNode<'_>) -> Result<(), String> {
        let stat = &node.stat;
        for (zxid, time_ms) in [(stat.czxid, stat.ctime), (stat.mzxid, stat.mtime)] {
            let zxid = Zxid(zxid);
            // Apache writes the membership here at a start, at the time of the start.
            if self.found.is_none()
                && self.times.differs(zxid, time_ms)
                && node.path != "/zookeeper/config"
            {
                self.found = Some((node.path.to_owned(), zxid));
            }
        }
        self.target.node(node)
    }
}
