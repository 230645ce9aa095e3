//! Recovery of a native segment: which group commits are whole, where the log ends, and whether
//! what is missing can have been acknowledged.
//!
//! Only one write is in flight at a time, so a crash can tear the last group commit only, and any
//! subset of its blocks may have reached the disk. Hence, where the group commit that begins at an
//! offset is not whole:
//! - a later group commit stands after it: it was whole once, and this is damage. For instance,
//!   the group at 4096 is unreadable and at 8192 there is the head of one. Which numbers the two
//!   have, and what lies before the segment, does not matter;
//! - none does: it is the end of the log, or a write that was torn, and it is cut as a whole.
//!
//! Damage inside the very last write cannot be told from a torn write by anybody. A later group is
//! found by one comparison for each 8 bytes of the rest of the segment, see `segment`.

use std::ops::Range;

use crate::base::Zxid;

use super::format1;
use super::segment::{
    BLOCK, Format, GROUP_HEAD, GroupHead, MIN_ENTRY, RECORD_HEAD, SegmentHeader, TAIL, checksum,
    entry_zxid, group_seed, le_u32, record_size,
};

/// Where an entry handed out by a scan stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryAt {
    /// Its transaction.
    pub zxid: Zxid,
    /// Byte offset of its record in the file.
    pub offset: u64,
    /// Byte offset of its group commit; of the record itself in Apache's logs.
    pub group_at: u64,
}

/// What is known about the log before a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expect {
    /// Number the first group commit must have, if the segment before was scanned.
    pub group: Option<u64>,
    /// A segment with records of later transactions follows: nothing may be torn here.
    pub followed: bool,
    /// The file may end before what its seal says: it is shorter than that, which is judged later.
    pub accept_cut: bool,
}

/// How a segment ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tail {
    /// After a whole group commit; zeros or the end of the file follow.
    Clean,
    /// What is left of a group commit begins at `SegmentScan::end`; cut there.
    Torn,
}

/// What a scan found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentScan {
    /// How it ends.
    pub tail: Tail,
    /// Byte offset after the last whole group commit.
    pub end: u64,
    /// Number of the last whole group commit.
    pub last_group: Option<u64>,
    /// Entries handed out.
    pub records: u64,
    /// zxid of the last one.
    pub last_zxid: Option<Zxid>,
    /// The last transaction that is said to be committed; 0 in format 1.
    pub committed: Zxid,
}

impl SegmentScan {
    /// Nothing is found yet.
    pub(super) fn begin(expect: Expect) -> SegmentScan {
        SegmentScan {
            tail: Tail::Clean,
            end: BLOCK as u64,
            last_group: expect.group.map(|g| g.saturating_sub(1)),
            records: 0,
            last_zxid: None,
            committed: Zxid::ZERO,
        }
    }

    pub(super) fn damage<E>(
        &self,
        at: usize,
        what: String,
        after: Option<Zxid>,
    ) -> Result<SegmentScan, ScanStop<E>> {
        Err(ScanStop::Damage(Damage { offset: at as u64, what, before: self.last_zxid, after }))
    }
}

/// Damage that is not a torn tail: something that may have been acknowledged is unreadable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Byte offset in the file of the first unreadable byte.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The last readable transaction before it.
    pub before: Option<Zxid>,
    /// The first readable transaction after it.
    pub after: Option<Zxid>,
}

/// Consumer of the entries of a scan: place, entry bytes.
pub type OnEntry<'a, E> = dyn FnMut(EntryAt, &[u8]) -> Result<(), E> + 'a;

/// Why a scan stopped early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScanStop<E> {
    /// The segment is damaged.
    Damage(Damage),
    /// The consumer of the entries refused one.
    Refused(EntryAt, E),
}

/// Scans a whole segment file and hands the entries of every whole group commit to `on_entry`.
/// A header problem counts as damage at offset 0.
pub fn scan_segment<E>(
    content: &[u8],
    expect: Expect,
    on_entry: &mut OnEntry<'_, E>,
) -> Result<SegmentScan, ScanStop<E>> {
    let header = match SegmentHeader::decode(content) {
        Ok(header) => header,
        Err(e) => return SegmentScan::begin(expect).damage(0, e.to_string(), None),
    };
    // What follows the end of a sealed segment is a write that a start has judged to be torn.
    let sealed = header.sealed_end(content).filter(|_| !expect.accept_cut);
    let end = sealed.and_then(|end| usize::try_from(end).ok()).unwrap_or(content.len());
    let bytes = &content[..end.min(content.len())];
    let scan = match header.format {
        Format::One => format1::scan(bytes, &header, expect, on_entry)?,
        Format::Two => Scanner::new(bytes, &header, expect).run(on_entry)?,
    };
    match sealed {
        Some(end) if scan.end != end => {
            let what = format!("it was whole up to offset {end} when an earlier start closed it");
            scan.damage(scan.end as usize, what, None)
        }
        _ => Ok(scan),
    }
}

/// What the group commits of a segment say to be committed, by their heads alone; `None` where they
/// say nothing: in format 1, and where there is none. A group commit whose head is whole may be
/// torn further on; what the head says was true when it was written all the same.
pub(super) fn committed_in(bytes: &[u8]) -> Option<Zxid> {
    let header = SegmentHeader::decode(bytes).ok().filter(|h| h.format == Format::Two)?;
    let scanner = Scanner::new(bytes, &header, Expect::default());
    let (mut at, mut committed) = (BLOCK, None);
    while let Some(head) = scanner.head(at) {
        committed = committed.max(Some(head.committed));
        at += GROUP_HEAD + head.len;
    }
    committed
}

/// The first transaction of a segment whose first group commit is whole. Looks at nothing else.
pub(super) fn first_entry(bytes: &[u8]) -> Option<Zxid> {
    let header = SegmentHeader::decode(bytes).ok()?;
    match header.format {
        Format::One => format1::first_entry(bytes, &header),
        Format::Two => {
            let scanner = Scanner::new(bytes, &header, Expect::default());
            let head = scanner.head(BLOCK)?;
            scanner.group(BLOCK, head)?.next().map(|(_, _, zxid)| zxid)
        }
    }
}

/// A whole group commit, or one record of Apache's.
pub(super) struct Group {
    /// Its number; Apache's records have none.
    pub number: Option<u64>,
    /// Transaction of each entry and its place in the bytes that were looked at.
    pub entries: Vec<(Zxid, Range<usize>)>,
    /// Bytes that it takes up.
    pub len: usize,
}

/// What the bytes of a log from some place on begin with.
pub(super) enum Piece {
    Group(Group),
    /// It takes at least this number of bytes to tell.
    More(usize),
    /// No whole group commit.
    End,
}

/// What stands at `offset` of a segment, whose bytes from there on these are, as far as they go.
pub(super) fn piece_at(bytes: &[u8], header: &SegmentHeader, offset: u64) -> Piece {
    if header.format == Format::One {
        return format1::piece_at(bytes, header);
    }
    let mut scanner = Scanner::new(bytes, header, Expect::default());
    scanner.base = offset;
    if bytes.len() < GROUP_HEAD {
        return Piece::More(GROUP_HEAD);
    }
    let Some(head) = scanner.head(0) else { return Piece::End };
    let len = GROUP_HEAD + head.len;
    if bytes.len() < len {
        return Piece::More(len);
    }
    let Some(records) = scanner.group(0, head) else { return Piece::End };
    let place = |(at, entry, zxid): (usize, &[u8], Zxid)| {
        (zxid, at + RECORD_HEAD..at + RECORD_HEAD + entry.len())
    };
    Piece::Group(Group { number: Some(head.number), entries: records.map(place).collect(), len })
}

/// How long the group commit of format 2 at `offset` is, and its first transaction, by its head
/// alone. What stands after the head may not be whole.
pub(super) fn head_at(bytes: &[u8], header: &SegmentHeader, offset: u64) -> Option<(u64, Zxid)> {
    let mut scanner = Scanner::new(bytes, header, Expect::default());
    scanner.base = offset;
    let len = (GROUP_HEAD + scanner.head(0)?.len) as u64;
    Some((len, entry_zxid(bytes.get(GROUP_HEAD + RECORD_HEAD..)?)?))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    /// Where they begin in the file.
    base: u64,
    salt: u64,
    seed: u32,
    followed: bool,
    scan: SegmentScan,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], header: &SegmentHeader, expect: Expect) -> Scanner<'a> {
        let (salt, seed, followed) = (header.salt, header.crc_seed(), expect.followed);
        Scanner { bytes, base: 0, salt, seed, followed, scan: SegmentScan::begin(expect) }
    }

    fn run<E>(mut self, on_entry: &mut OnEntry<'_, E>) -> Result<SegmentScan, ScanStop<E>> {
        let mut at = BLOCK;
        loop {
            let Some(head) = self.head(at) else { return self.finish(at, false) };
            let number = head.number;
            let group = self.group(at, head);
            if let Some(last) = self.scan.last_group.filter(|last| *last != number.wrapping_sub(1))
            {
                let missing = last.saturating_add(1);
                let what = format!("group commit {missing} is missing before {number}");
                let after = group.and_then(|mut records| records.next()).map(|(_, _, zxid)| zxid);
                return self.scan.damage(at, what, after);
            }
            let Some(records) = group else { return self.finish(at, true) };
            for (offset, entry, zxid) in records {
                let here = EntryAt { zxid, offset: offset as u64, group_at: at as u64 };
                if self.scan.last_zxid.is_some_and(|last| zxid <= last) {
                    let what = format!("transaction 0x{zxid} does not ascend");
                    return self.scan.damage(offset, what, Some(zxid));
                }
                on_entry(here, entry).map_err(|e| ScanStop::Refused(here, e))?;
                self.scan.last_zxid = Some(zxid);
                self.scan.records += 1;
            }
            at += GROUP_HEAD + head.len;
            self.scan.last_group = Some(number);
            self.scan.committed = self.scan.committed.max(head.committed);
            self.scan.end = at as u64;
        }
    }

    fn head(&self, at: usize) -> Option<GroupHead> {
        GroupHead::read(self.bytes, at, self.base + at as u64, (self.salt, self.seed))
    }

    /// The records of the group commit at `at`, if it is whole.
    fn group(&self, at: usize, head: GroupHead) -> Option<Records<'a>> {
        let start = at + GROUP_HEAD;
        let bytes = self.bytes.get(..start + head.len)?;
        let seed = group_seed(self.seed, head.number, self.base + at as u64);
        let mut next = start;
        while next < bytes.len() {
            let record = bytes.get(next..next + RECORD_HEAD)?;
            let len = le_u32(record, 4) as usize;
            let covered = bytes.get(next + 4..next + RECORD_HEAD + len)?;
            if len < MIN_ENTRY || checksum(seed, covered) != le_u32(record, 0) {
                return None;
            }
            next += record_size(len);
        }
        (next == bytes.len() && next > start).then_some(Records { bytes, at: start })
    }

    /// First head of a group commit at or after `from`.
    fn find_later(&self, from: usize) -> Option<(GroupHead, usize)> {
        let (words, _) = self.bytes.get(from..)?.as_chunks::<8>();
        let mut stamp_at = from as u64;
        for word in words {
            if u64::from_le_bytes(*word) ^ self.salt == stamp_at
                && let Some(head) = self.head(stamp_at as usize)
            {
                return Some((head, stamp_at as usize));
            }
            stamp_at += 8;
        }
        None
    }

    /// Judges the place `at` where whole group commits end; `is_begun`: a head stands there.
    fn finish<E>(mut self, at: usize, is_begun: bool) -> Result<SegmentScan, ScanStop<E>> {
        if let Some((head, later)) = self.find_later(at + 8) {
            let after = self.group(later, head).and_then(|mut records| records.next());
            let what = match self.scan.last_group {
                Some(last) => format!("group commit {} is unreadable", last.saturating_add(1)),
                None => "the segment's first group commit is unreadable".to_owned(),
            };
            let what = format!("{what}, and group commit {} follows at {later}", head.number);
            return self.scan.damage(at, what, after.map(|(_, _, zxid)| zxid));
        }
        let rest = self.bytes.get(at..).unwrap_or(&[]);
        let is_zero = rest.iter().take(TAIL).all(|&byte| byte == 0);
        // Leftovers of a former life stand at a fresh segment's very start only: every write ends
        // with zeros.
        let is_fresh = self.scan.records == 0 && !self.is_stamped(at);
        if is_begun || !(is_zero || is_fresh) {
            self.scan.tail = Tail::Torn;
        }
        if self.scan.tail == Tail::Torn && self.followed {
            let what = "a group commit is unreadable, and a later segment exists".to_owned();
            return self.scan.damage(at, what, None);
        }
        Ok(self.scan)
    }

    /// Whether a head was begun at `at`, though it may not be whole.
    fn is_stamped(&self, at: usize) -> bool {
        let stamp = (self.salt ^ at as u64).to_le_bytes();
        self.bytes.get(at..at + 8).is_some_and(|found| found == stamp)
    }
}

/// The records of a whole group commit: offset, entry, transaction.
struct Records<'a> {
    /// Up to the group's end.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = (usize, &'a [u8], Zxid);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let head = self.bytes.get(at..at + RECORD_HEAD)?;
        let entry = self.bytes.get(at + RECORD_HEAD..)?.get(..le_u32(head, 4) as usize)?;
        self.at += record_size(entry.len());
        Some((at, entry, entry_zxid(entry)?))
    }
}
