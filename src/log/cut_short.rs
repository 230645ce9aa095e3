//! Log files that are shorter than they were, and who has accepted that.
//!
//! A segment has its full size before it gets its name, and a start that cuts one seals it first
//! (`segment`), so a shorter one without a seal was cut by somebody else: a copy that ended early,
//! a backup that ran out of space. What was cut may have been acknowledged, so the start is refused
//! unless `ringkeeper.log.acceptTruncated` names this very file. A start with the setting seals
//! the file; from then on it means nothing, and the next start says so.
//!
//! Two kinds of file say less. Releases that wrote format 1 cut a segment after its last whole
//! group commit and left no seal: ending there proves nothing. Apache allocates ahead of its last
//! record, but not with `preAllocSize=0` nor after a large record, and cuts the file itself where
//! an ensemble takes back transactions: only a record of which the end is missing, where 4 KiB
//! should follow its begin, is taken for a file that was cut.

#![allow(clippy::result_large_err, reason = "a recovery fails once")]

use std::path::Path;

use crate::base::Zxid;

use super::recover::{LogFile, RecoverOptions, plain_error};
use super::recover_error::{RecoverError, RecoverErrorKind};
use super::scan::{SegmentScan, Tail};
use super::segment::{Format, SegmentHeader};

/// The setting.
const KEY: &str = "ringkeeper.log.acceptTruncated";
/// Before it writes a record, Apache sees to it that more bytes than this follow its begin.
const APACHE_AHEAD: u64 = 4096;
/// Where this many zeros follow a record, no next one begins: its length would be among them.
const APACHE_HEAD: u64 = 12;

/// A file that may be cut short.
pub(super) struct Accepted<'a> {
    name: Option<&'a str>,
    is_used: bool,
}

impl<'a> Accepted<'a> {
    pub fn new(options: &'a RecoverOptions) -> Accepted<'a> {
        Accepted { name: options.accept_truncated.as_deref(), is_used: false }
    }

    /// Whether the loss in this file is accepted.
    pub fn takes(&mut self, path: &Path) -> bool {
        let is_named =
            self.name.is_some() && path.file_name().and_then(|n| n.to_str()) == self.name;
        self.is_used |= is_named;
        is_named
    }

    /// What to say of a setting that was not needed.
    pub fn unused(&self) -> Option<String> {
        let name = self.name.filter(|_| !self.is_used)?;
        Some(format!(
            "{KEY}={name} has no effect: no such log file is cut short. Remove the setting"
        ))
    }
}

/// A segment that is shorter than it was.
#[derive(Clone, Copy)]
pub(super) struct CutShort {
    len: u64,
    whole: u64,
    /// A release of old may have cut it.
    is_old: bool,
}

impl CutShort {
    pub fn of(content: &[u8], header: &SegmentHeader) -> Option<CutShort> {
        let sealed = header.sealed_end(content);
        let (len, whole) = (content.len() as u64, sealed.unwrap_or(header.size));
        let is_old = header.format == Format::One && sealed.is_none();
        (len < whole).then_some(CutShort { len, whole, is_old })
    }

    /// Refuses it, or notes what is to be said about it.
    pub fn judge(
        self,
        file: &LogFile,
        scan: &SegmentScan,
        accepted: &mut Accepted<'_>,
    ) -> Result<String, RecoverError> {
        let CutShort { len, whole, is_old } = self;
        let path = file.path.display();
        if is_old && len == scan.end {
            return Ok(format!(
                "{path}: the file has {len} bytes and was made with {whole}. An older release cuts \
                 it so at a start; if a copy of it ended early instead, transactions behind 0x{} \
                 are missing",
                last_of(file, scan)
            ));
        }
        let what = format!("the file has {len} bytes and had {whole}: it was cut short");
        if !accepted.takes(&file.path) {
            return Err(refused(file, scan.end, scan.last_zxid, what));
        }
        Ok(format!(
            "{path}: {what}. As {KEY} accepts, its log ends at offset {} with transaction 0x{}",
            scan.end,
            last_of(file, scan)
        ))
    }
}

fn last_of(file: &LogFile, scan: &SegmentScan) -> Zxid {
    scan.last_zxid.unwrap_or(Zxid(file.first.0.saturating_sub(1)))
}

/// Where one of Apache's logs ends: refuses it, or notes what is to be said about it. `is_last`: no
/// other log follows, so nothing else shows whether something is missing.
pub(super) fn judge_apache(
    file: &LogFile,
    (tail, end, last): (Tail, u64, Option<Zxid>),
    len: u64,
    is_last: bool,
    accepted: &mut Accepted<'_>,
) -> Result<Option<String>, RecoverError> {
    let path = file.path.display();
    if tail == Tail::Clean {
        return Ok((is_last && last.is_some() && len - end < APACHE_HEAD).then(|| {
            format!(
                "{path}: the file ends with its last record, at offset {end}, without the \
                 space that Apache allocates ahead. Apache leaves it so behind a large record, \
                 with preAllocSize=0, and where it took back transactions; if a copy of it \
                 ended early instead, transactions are missing"
            )
        }));
    }
    if is_last && len - end <= APACHE_AHEAD {
        let what = format!(
            "the file ends at {len}, inside a record, where Apache has allocated more: it was \
             cut short"
        );
        if !accepted.takes(&file.path) {
            return Err(refused(file, end, last, what));
        }
        return Ok(Some(format!("{path}: {what}. As {KEY} accepts, its log ends at offset {end}")));
    }
    Ok(Some(format!("{path}: an incomplete record at offset {end} is ignored, as Apache does")))
}

fn refused(file: &LogFile, end: u64, before: Option<Zxid>, what: String) -> RecoverError {
    let name = file.path.file_name().map(|name| name.display().to_string()).unwrap_or_default();
    let what = format!("{what}, and transactions that were acknowledged may be missing");
    let advice = format!(
        "Put the whole file back, or restore the version-2 directories from a backup. Only to go \
         on without what is missing, start once with {KEY}={name}"
    );
    RecoverError {
        offset: Some(end),
        before,
        ..plain_error(RecoverErrorKind::Truncated, &file.path, what, advice)
    }
}
