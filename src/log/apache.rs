//! Apache's log files (`log.<first zxid>`): read when a directory is taken over, written by tools
//! and tests. Counterpart: `FileTxnLog` and its iterator.
//!
//! Layout, big-endian: `"ZKLG"`, int version 2, long dbid; then records of long Adler-32, int
//! length, entry, byte 0x42; then zeros of the preallocation. Apache never cuts a torn tail, it
//! starts a new file, so a torn record at the end of an older file is normal as long as the next
//! file continues with the next zxid (the caller checks that).

use crate::base::Zxid;

use super::adler_ranges::AdlerRanges;
use super::scan::{Damage, EntryAt, Group, OnEntry, Piece, ScanStop, Tail};
use super::{MIN_ENTRY, entry_zxid};

const MAGIC: &[u8; 4] = b"ZKLG";
/// Bytes before the first record.
pub(super) const HEADER: usize = 16;
const RECORD_HEAD: usize = 12;
const END_MARK: u8 = 0x42;

/// What a scan of one of Apache's log files found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApacheScan {
    /// Whether a torn record follows the last whole one.
    pub tail: Tail,
    /// Byte offset after the last whole record.
    pub end: u64,
    /// Entries handed out.
    pub records: u64,
    /// zxid of the last one.
    pub last_zxid: Option<Zxid>,
}

/// Appends the file header.
pub fn put_apache_header(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&2i32.to_be_bytes());
    out.extend_from_slice(&0i64.to_be_bytes());
}

/// Appends one record.
///
/// # Panics
/// When the entry is 2 GiB or larger.
pub fn put_apache_record(out: &mut Vec<u8>, entry: &[u8]) {
    let len = i32::try_from(entry.len()).expect("entries are bounded by the frame limit");
    out.extend_from_slice(&i64::from(simd_adler32::adler32(&entry)).to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(entry);
    out.push(END_MARK);
}

/// Whether a file of the name [`super::GUARD_NAME`] with this content is what keeps Apache away,
/// and not a log: Apache would refuse it.
pub fn is_guard(content: &[u8]) -> bool {
    !content.starts_with(MAGIC)
}

enum Step<'a> {
    Entry(&'a [u8]),
    /// What Apache takes for the end of the file: the file ends, length 0, end mark missing.
    End,
    /// What Apache refuses.
    Bad(&'static str),
}

fn be_i32(bytes: &[u8]) -> i32 {
    let mut b = [0u8; 4];
    b.copy_from_slice(&bytes[..4]);
    i32::from_be_bytes(b)
}

fn adler(bytes: &[u8]) -> u32 {
    #[cfg(test)]
    super::segment::SUMMED.with(|summed| summed.set(summed.get() + bytes.len() as u64));
    simd_adler32::adler32(&bytes)
}

fn step(bytes: &[u8], at: usize) -> Step<'_> {
    step_with(bytes, at, |from, to| adler(&bytes[from..to]))
}

/// The same; `adler` sums up a range of the bytes.
fn step_with(bytes: &[u8], at: usize, adler: impl FnOnce(usize, usize) -> u32) -> Step<'_> {
    let Some(head) = bytes.get(at..at + RECORD_HEAD) else { return Step::End };
    let len = be_i32(&head[8..]);
    if len == 0 {
        return Step::End;
    }
    let Ok(len) = usize::try_from(len) else { return Step::Bad("its length is negative") };
    let (from, to) = (at + RECORD_HEAD, at + RECORD_HEAD + len);
    let Some(entry) = bytes.get(from..to) else { return Step::End };
    if bytes.get(to) != Some(&END_MARK) {
        return Step::End;
    }
    if head[..4] != [0; 4] || adler(from, to).to_be_bytes() != head[4..8] {
        return Step::Bad("its checksum does not match");
    }
    if len < MIN_ENTRY {
        return Step::Bad("it is shorter than a transaction header");
    }
    Step::Entry(entry)
}

/// What these bytes of one of Apache's logs begin with.
pub(super) fn piece_at(bytes: &[u8]) -> Piece {
    let Some(head) = bytes.get(..RECORD_HEAD) else { return Piece::More(RECORD_HEAD) };
    let len = usize::try_from(be_i32(&head[8..])).unwrap_or(0);
    if len > 0 && bytes.len() <= RECORD_HEAD + len {
        return Piece::More(RECORD_HEAD + len + 1);
    }
    let Step::Entry(entry) = step(bytes, 0) else { return Piece::End };
    let Some(zxid) = entry_zxid(entry) else { return Piece::End };
    let end = RECORD_HEAD + entry.len();
    let entries = vec![(zxid, RECORD_HEAD..end)];
    Piece::Group(Group { number: None, entries, len: end + 1 })
}

/// Whether a file begins like one of Apache's logs, with the first record at [`HEADER`].
pub(super) fn has_header(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes.starts_with(MAGIC)
}

/// First whole record at or after `from`. Records stand at any offset, so this looks at each;
/// the zeros of the preallocation are skipped from the end. Clients choose the bytes of a torn
/// record, and so the lengths in them: all of them together cost one pass over the bytes.
fn find_later(bytes: &[u8], from: usize) -> Option<Zxid> {
    let zero_chunks = bytes.rchunks(64).take_while(|c| c.iter().all(|&b| b == 0)).count();
    let used = bytes.len().saturating_sub(zero_chunks * 64);
    let mut sums: Option<AdlerRanges<'_>> = None;
    let mut at = from;
    while at + RECORD_HEAD + MIN_ENTRY < used {
        // The upper half of the checksum is zero and the length is neither zero nor negative.
        if bytes[at..at + 4] == [0; 4]
            && bytes[at + 8] < 0x80
            && let Step::Entry(entry) = step_with(bytes, at, |start, end| {
                let sums = sums.get_or_insert_with(|| AdlerRanges::new(&bytes[from..]));
                sums.of(start - from, end - from)
            })
        {
            return entry_zxid(entry);
        }
        at += 1;
    }
    None
}

/// Scans one of Apache's log files; `newest` if no other log file follows it. Entries whose zxid
/// does not ascend are handed out like all others: what to do with them is the caller's choice.
pub fn scan_apache<E>(
    bytes: &[u8],
    newest: bool,
    on_entry: &mut OnEntry<'_, E>,
) -> Result<ApacheScan, ScanStop<E>> {
    let mut scan = ApacheScan { tail: Tail::Clean, end: 0, records: 0, last_zxid: None };
    let damage = |offset: usize, what: String, before, after| {
        Err(ScanStop::Damage(Damage { offset: offset as u64, what, before, after }))
    };
    if newest && bytes.len() < HEADER {
        // A crash right after the file was made; 3.9.3 and later delete it.
        scan.tail = if bytes.is_empty() { Tail::Clean } else { Tail::Torn };
        return Ok(scan);
    }
    if bytes.len() < HEADER {
        return damage(0, "the file header is incomplete".into(), None, None);
    }
    if !bytes.starts_with(MAGIC) {
        if newest && bytes.iter().all(|&b| b == 0) {
            scan.tail = Tail::Torn;
            return Ok(scan);
        }
        return damage(0, "the file does not start with ZKLG".into(), None, None);
    }
    let mut at = HEADER;
    loop {
        let (what, torn) = match step(bytes, at) {
            Step::Entry(entry) => {
                let zxid = entry_zxid(entry).unwrap_or_default();
                let here = EntryAt { zxid, offset: at as u64, group_at: at as u64 };
                on_entry(here, entry).map_err(|e| ScanStop::Refused(here, e))?;
                scan.last_zxid = Some(zxid);
                scan.records += 1;
                at += RECORD_HEAD + entry.len() + 1;
                scan.end = at as u64;
                continue;
            }
            Step::End => {
                let head = &bytes[at..(at + RECORD_HEAD).min(bytes.len())];
                ("it is incomplete", head.iter().any(|&b| b != 0))
            }
            Step::Bad(what) => (what, true),
        };
        scan.end = at as u64;
        if let Some(after) = find_later(bytes, at + 1) {
            let what = format!("a record is damaged ({what}) but others follow it");
            return damage(at, what, scan.last_zxid, Some(after));
        }
        if torn && !newest && what != "it is incomplete" {
            let what = format!("the last record is damaged ({what}) and a later log file exists");
            return damage(at, what, scan.last_zxid, None);
        }
        scan.tail = if torn { Tail::Torn } else { Tail::Clean };
        return Ok(scan);
    }
}
