//! Format 1 of native segments: read for ever, written by tests only.
//!
//! ```text
//! block 0   as in `segment`, version 1
//! records   u32 CRC-32C, u32 length | END, u64 group commit number, entry bytes, zeros to 8
//! ```
//!
//! The CRC starts from the segment's salt. The last record of a group commit carries END, and at
//! least 16 zero bytes stand after each write. Where whole group commits end, at the first record
//! that is not valid:
//! - the last valid record has no END mark: its group commit is torn. If anything of a later
//!   group commit exists, it was complete once, and this is damage;
//! - the last valid record has the END mark of group commit n: what follows is n + 1. A zero head
//!   is the clean end; anything valid of n + 1 makes it a torn write; anything valid of n + 2 or
//!   later proves that n + 1 was complete, and this is damage.
//!
//! What format 1 cannot say: where a group commit stands. So damage in the first of two group
//! commits is taken for a torn write where the segment before is gone.

use crate::base::Zxid;

use super::crc_ranges::CrcRanges;
use super::scan::{EntryAt, Expect, Group, OnEntry, Piece, ScanStop, SegmentScan, Tail};
use super::segment::{BLOCK, MIN_ENTRY, SegmentHeader, checksum, entry_zxid, le_u32, le_u64};

/// Bytes in front of each record's entry.
pub(super) const RECORD_HEAD: usize = 16;
/// Marks the last record of a group commit in the length field.
const END: u32 = 1 << 31;

fn record_size(len: usize) -> usize {
    (RECORD_HEAD + len).next_multiple_of(8)
}

/// Appends a record of group commit `group`, whose last one it is if `end`.
pub fn put_format1_record(
    out: &mut Vec<u8>,
    header: &SegmentHeader,
    group: u64,
    end: bool,
    entry: &[u8],
) {
    let start = out.len();
    let tag = entry.len() as u32 | if end { END } else { 0 };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(entry);
    let crc = crc32c::crc32c_append(header.crc_seed(), &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + record_size(entry.len()), 0);
}

/// Bytes of the shortest record.
const MIN_RECORD: usize = RECORD_HEAD + MIN_ENTRY;

struct Record<'a> {
    crc: u32,
    group: u64,
    end: bool,
    entry: &'a [u8],
    zxid: Zxid,
    size: usize,
}

/// What the bytes at `at` say if a record stands there, which the checksum has to prove.
fn claimed_at(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let head = bytes.get(at..at + RECORD_HEAD)?;
    let tag = le_u32(head, 4);
    let len = (tag & !END) as usize;
    let entry = bytes.get(at + RECORD_HEAD..)?.get(..len)?;
    if len < MIN_ENTRY {
        return None;
    }
    Some(Record {
        crc: le_u32(head, 0),
        group: le_u64(head, 8),
        end: tag & END != 0,
        entry,
        zxid: entry_zxid(entry)?,
        size: record_size(len),
    })
}

fn record_at(bytes: &[u8], at: usize, seed: u32) -> Option<Record<'_>> {
    let record = claimed_at(bytes, at)?;
    let covered = &bytes[at + 4..at + RECORD_HEAD + record.entry.len()];
    (checksum(seed, covered) == record.crc).then_some(record)
}

/// What these bytes of a segment begin with.
pub(super) fn piece_at(bytes: &[u8], header: &SegmentHeader) -> Piece {
    let (seed, mut at, mut entries) = (header.crc_seed(), 0, Vec::new());
    let mut number = None;
    loop {
        let Some(head) = bytes.get(at..at + RECORD_HEAD) else {
            return Piece::More(at + RECORD_HEAD);
        };
        let len = (le_u32(head, 4) & !END) as usize;
        if len >= MIN_ENTRY && bytes.len() < at + RECORD_HEAD + len {
            return Piece::More(at + RECORD_HEAD + len);
        }
        let Some(record) = record_at(bytes, at, seed) else { return Piece::End };
        if *number.get_or_insert(record.group) != record.group {
            return Piece::End;
        }
        let start = at + RECORD_HEAD;
        entries.push((record.zxid, start..start + record.entry.len()));
        at += record.size;
        if record.end {
            return Piece::Group(Group { number, entries, len: at });
        }
    }
}

/// Looks for records of later group commits. What stands there may be anything, also what clients
/// chose: leftovers of the file's former life, or the data of a torn write.
struct Finder<'a> {
    bytes: &'a [u8],
    from: usize,
    seed: u32,
    /// Of the bytes from `from` on, made when the first candidate asks: so all candidates together
    /// cost one pass, whatever lengths they claim.
    sums: Option<CrcRanges<'a>>,
}

impl<'a> Finder<'a> {
    fn new(bytes: &'a [u8], from: usize, seed: u32) -> Finder<'a> {
        Finder { bytes, from, seed, sums: None }
    }

    /// First valid record whose group commit is numbered `min_group` or higher. `is_near`: if a
    /// group commit begins after `from` at all, it is known to have that number.
    fn find(&mut self, min_group: u64, is_near: bool) -> Option<(u64, Zxid)> {
        // Records start at multiples of 8, their group number 8 bytes later. Zeros and most
        // leftovers fail the comparison of that one word.
        let words = self.bytes.get(self.from + 8..)?;
        let (words, _) = words.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let group = u64::from_le_bytes(*word);
            // Each group commit between the two takes one record at least.
            let reach = if is_near { (index * 8 / MIN_RECORD) as u64 } else { 1 << 40 };
            if group < min_group || group - min_group > reach {
                continue;
            }
            if let Some(zxid) = self.record(self.from + index * 8) {
                return Some((group, zxid));
            }
        }
        None
    }

    /// The transaction of the record at `at`, if there is one: what [`record_at`] finds.
    fn record(&mut self, at: usize) -> Option<Zxid> {
        let (bytes, from) = (self.bytes, self.from);
        let record = claimed_at(bytes, at)?;
        let sums = self.sums.get_or_insert_with(|| CrcRanges::new(&bytes[from..]));
        let (start, end) = (at + 4 - from, at + RECORD_HEAD + record.entry.len() - from);
        (sums.append(self.seed, start, end) == record.crc).then_some(record.zxid)
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    seed: u32,
    scan: SegmentScan,
}

impl<'a> Scanner<'a> {
    /// Follows the records of one group commit from `at` without handing them out. Returns the
    /// offset after its END, or where the first bad record stands.
    fn walk_group(&self, at: usize) -> (usize, Option<(u64, bool)>) {
        let mut at = at;
        let mut group = None;
        while let Some(record) = record_at(self.bytes, at, self.seed) {
            if group.is_some_and(|g| g != record.group) {
                break;
            }
            group = Some(record.group);
            at += record.size;
            if record.end {
                return (at, group.map(|g| (g, true)));
            }
        }
        (at, group.map(|g| (g, false)))
    }
}

/// Scans the content of a segment up to where it ends, see [`super::scan_segment`].
pub(super) fn scan<E>(
    bytes: &[u8],
    header: &SegmentHeader,
    expect: Expect,
    on_entry: &mut OnEntry<'_, E>,
) -> Result<SegmentScan, ScanStop<E>> {
    let mut s = Scanner { bytes, seed: header.crc_seed(), scan: SegmentScan::begin(expect) };
    let mut at = BLOCK;
    loop {
        let (next, group) = s.walk_group(at);
        let start = at;
        let Some((group, true)) = group else {
            return finish(s, at, next, group.map(|(g, _)| g), expect);
        };
        if s.scan.last_group.is_some_and(|last| group != last.saturating_add(1)) {
            let last = s.scan.last_group.unwrap_or(0);
            let what = format!("group commit {} is missing before {group}", last.saturating_add(1));
            let after = record_at(bytes, at, s.seed).map(|r| r.zxid);
            return s.scan.damage(at, what, after);
        }
        while at < next {
            let Some(record) = claimed_at(bytes, at) else { break };
            let here = EntryAt { zxid: record.zxid, offset: at as u64, group_at: start as u64 };
            if s.scan.last_zxid.is_some_and(|last| record.zxid <= last) {
                let what = format!("transaction 0x{} does not ascend", record.zxid);
                return s.scan.damage(at, what, Some(record.zxid));
            }
            on_entry(here, record.entry).map_err(|e| ScanStop::Refused(here, e))?;
            s.scan.last_zxid = Some(record.zxid);
            s.scan.records += 1;
            at += record.size;
        }
        s.scan.last_group = Some(group);
        // A file cut inside the last record's padding is whole.
        s.scan.end = next.min(bytes.len()) as u64;
        at = next;
    }
}

/// The first transaction, if the first group commit is whole.
pub(super) fn first_entry(bytes: &[u8], header: &SegmentHeader) -> Option<Zxid> {
    let (seed, scan) = (header.crc_seed(), SegmentScan::begin(Expect::default()));
    let first = record_at(bytes, BLOCK, seed)?.zxid;
    let (_, group) = Scanner { bytes, seed, scan }.walk_group(BLOCK);
    matches!(group, Some((_, true))).then_some(first)
}

/// Judges the place where whole group commits end: `at` is where the last whole one ends, `bad` is
/// the first invalid record, `partial` the group commit of valid records between the two.
fn finish<E>(
    mut s: Scanner<'_>,
    at: usize,
    bad: usize,
    partial: Option<u64>,
    expect: Expect,
) -> Result<SegmentScan, ScanStop<E>> {
    let last = s.scan.last_group.unwrap_or(0);
    // The group commit that begins at `at`, if one was ever written.
    let this = partial.unwrap_or(last.saturating_add(1));
    if partial.is_some() && s.scan.last_group.is_some_and(|last| this != last.saturating_add(1)) {
        let what = format!("group commit {} is missing before {this}", last.saturating_add(1));
        let after = record_at(s.bytes, at, s.seed).map(|r| r.zxid);
        return s.scan.damage(at, what, after);
    }
    let mut finder = Finder::new(s.bytes, bad, s.seed);
    // Numbers are consecutive within a segment. What is expected of its first may be wrong.
    let is_near = s.scan.records > 0 || partial.is_some();
    if let Some((group, zxid)) = finder.find(this.saturating_add(1), is_near) {
        // The first group commit of a segment whose predecessor is unknown may have any number.
        let unknown_start = s.scan.last_group.is_none() && partial.is_none();
        if !unknown_start {
            let what = format!("the record of group commit {this} is unreadable, {group} follows");
            return s.scan.damage(bad, what, Some(zxid));
        }
        if let Some((later, zxid)) = finder.find(group.saturating_add(1), true) {
            let what = format!("the segment's first record is unreadable, {later} follows");
            return s.scan.damage(bad, what, Some(zxid));
        }
        s.scan.tail = Tail::Torn;
    } else if partial.is_some() {
        s.scan.tail = Tail::Torn;
    } else {
        let head_end = (bad + RECORD_HEAD).min(s.bytes.len());
        let zero = s.bytes.get(bad..head_end).is_none_or(|head| head.iter().all(|&b| b == 0));
        // Leftovers of a former life stand at a fresh segment's very start only: every write ends
        // with zeros.
        let untouched = s.scan.records == 0;
        let ends = bad + RECORD_HEAD + MIN_ENTRY > s.bytes.len();
        let torn_later = finder.find(this, is_near).is_some();
        if torn_later || !(zero || untouched || ends) {
            s.scan.tail = Tail::Torn;
        }
    }
    if s.scan.tail == Tail::Torn && expect.followed {
        let what = format!("group commit {this} is unreadable, and a later segment exists");
        return s.scan.damage(bad, what, None);
    }
    Ok(s.scan)
}
