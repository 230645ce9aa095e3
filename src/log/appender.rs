//! Turns pending batches into block-aligned writes: group commit without a file.
//!
//! One write is one group commit. It rewrites the last, partly filled block (same bytes, more
//! after them, so a torn write cannot harm what is already durable), never crosses a segment's
//! end, and numbers itself one above the write before. Only one write is in flight at a time;
//! recovery relies on that.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{Zxid, invariant};

use super::segment::{
    BLOCK, Format, GROUP_HEAD, GroupHead, SegmentHeader, TAIL, group_seed, record_size,
    write_record,
};
use super::{Batch, MIN_ENTRY};

/// One write to perform: `staging[..len]` goes to `offset` of the current segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WritePlan {
    /// Byte offset in the segment, a multiple of [`BLOCK`].
    pub offset: u64,
    /// Bytes of the staging slice to write, a multiple of [`BLOCK`].
    pub len: usize,
    /// zxid of the last record in it: durable when the write is.
    pub last_zxid: Zxid,
    /// Number of records.
    pub records: usize,
    /// Size of their entries in bytes.
    pub entry_bytes: usize,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing is pending.
    Idle,
    /// Perform this write; plan again only when it has completed.
    Write(WritePlan),
    /// A new segment is needed first ([`Appender::roll`]), of at least `min_size` bytes; its
    /// first record will be `first_zxid`.
    Roll {
        /// Header block included.
        min_size: u64,
        /// Names the segment.
        first_zxid: Zxid,
    },
    /// The staging slice is too small for the next record: offer at least `len` bytes.
    Stage {
        /// A multiple of [`BLOCK`].
        len: usize,
    },
}

#[derive(Debug)]
struct Segment {
    salt: u64,
    seed: u32,
    size: u64,
    /// Where the next group commit goes.
    at: u64,
}

/// The append side of the log. It decides offsets and bytes; it writes nothing itself.
#[derive(Debug)]
pub struct Appender {
    segment: Option<Segment>,
    /// Content of the last, partly filled block; bytes from `at % BLOCK` on are meaningless.
    tail: Box<[u8; BLOCK]>,
    next_group: u64,
    /// The last transaction that a batch has said to be committed.
    committed: Zxid,
    pending: VecDeque<Arc<Batch>>,
    /// Entries of `pending[0]` already written.
    front_done: usize,
    pending_bytes: usize,
    roll_asked: bool,
    last_submitted: Zxid,
}

const CACHE_LINE: usize = 64;

impl Appender {
    /// An appender whose first write is group commit `next_group` (one above the last recovered)
    /// and whose first transaction must be above `last_zxid`. It starts with a new segment.
    pub fn new(next_group: u64, last_zxid: Zxid) -> Appender {
        Appender {
            segment: None,
            tail: Box::new([0; BLOCK]),
            next_group,
            committed: Zxid::ZERO,
            pending: VecDeque::new(),
            front_done: 0,
            pending_bytes: 0,
            roll_asked: false,
            last_submitted: last_zxid,
        }
    }

    /// The next record begins a segment of its own, whatever room there is in this one.
    pub fn end_segment(&mut self) {
        (self.segment, self.roll_asked) = (None, false);
    }

    /// The log ends with `last` now: the next transaction is a later one, in a segment of its own
    /// and, where `next_group` says so, in this group commit.
    ///
    /// # Panics
    /// When something is queued, which would follow another transaction.
    pub fn end_with(&mut self, last: Zxid, next_group: Option<u64>) {
        invariant!(self.pending.is_empty(), "nothing is queued while the log's end changes");
        self.end_segment();
        self.last_submitted = last;
        self.committed = self.committed.min(last);
        self.next_group = next_group.unwrap_or(self.next_group);
    }

    /// Queues a batch. What it says to be committed goes into the group commits from here on.
    ///
    /// # Panics
    /// When its zxids do not continue upwards from the batch before.
    pub fn submit(&mut self, batch: Arc<Batch>) {
        let (Some(first), Some(last)) = (batch.first_zxid(), batch.last_zxid()) else { return };
        invariant!(first > self.last_submitted, "{first:?} comes after {:?}", self.last_submitted);
        self.last_submitted = last;
        self.committed = self.committed.max(batch.committed());
        self.pending_bytes += batch.bytes_len();
        self.pending.push_back(batch);
    }

    /// Entry bytes queued and not yet planned.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Number of the next group commit.
    pub fn next_group(&self) -> u64 {
        self.next_group
    }

    /// Makes the next record start a new segment (a snapshot begins: what it will cover then
    /// ends at a file border). No effect on a segment without records.
    pub fn ask_roll(&mut self) {
        self.roll_asked = self.segment.as_ref().is_some_and(|s| s.at > BLOCK as u64);
    }

    /// Continues in a fresh segment with this header, of format 2.
    pub fn roll(&mut self, header: &SegmentHeader) {
        invariant!(header.format == Format::Two, "format 1 is read only");
        invariant!(header.size >= 2 * BLOCK as u64, "a segment has room for records");
        let (salt, seed, size) = (header.salt, header.crc_seed(), header.size);
        self.segment = Some(Segment { salt, seed, size, at: BLOCK as u64 });
        self.roll_asked = false;
    }

    /// Plans the next write into `staging`, whose length is a multiple of [`BLOCK`]. The caller
    /// performs it before it plans again.
    pub fn plan(&mut self, staging: &mut [u8]) -> Plan {
        debug_assert!(staging.len().is_multiple_of(BLOCK));
        let Some((first_zxid, entry)) = self.peek() else { return Plan::Idle };
        let need = GROUP_HEAD + record_size(entry.len());
        let fresh_size = ((BLOCK + need + TAIL) as u64).next_multiple_of(BLOCK as u64);
        let roll = Plan::Roll { min_size: fresh_size, first_zxid };
        let Some(segment) = &self.segment else { return roll };
        if self.roll_asked || segment.at + need as u64 > segment.size {
            return roll;
        }
        let start = (segment.at % BLOCK as u64) as usize;
        let room_in_segment = segment.size - (segment.at - start as u64);
        let room_in_segment = usize::try_from(room_in_segment).unwrap_or(usize::MAX);
        let limit = staging.len().min(room_in_segment);
        // Room for the zeros that mark the end; at the segment's end there need not be any.
        let usable = if limit == room_in_segment { limit } else { limit - TAIL };
        if start + need > usable {
            return Plan::Stage { len: (start + need + TAIL).next_multiple_of(BLOCK) };
        }
        Plan::Write(self.fill(&mut staging[..limit], start, usable))
    }

    /// Copies records until `usable` bytes are full or nothing is pending. At least one fits.
    fn fill(&mut self, staging: &mut [u8], start: usize, usable: usize) -> WritePlan {
        let (salt, seed, base) = match &self.segment {
            Some(segment) => (segment.salt, segment.seed, segment.at - start as u64),
            None => unreachable!("plan() checked that there is a segment"),
        };
        // The device has read these lines since they were last written. Asking for all of them at
        // once, by a store to each, takes a third of the time that copying record by record spends
        // on getting them back one after the other.
        let expected = (start + self.pending_bytes + self.pending_bytes / 4).min(usable);
        for line in staging[..expected].chunks_mut(CACHE_LINE) {
            line[0] = 0;
        }
        staging[..start].copy_from_slice(&self.tail[..start]);
        let (number, group_at) = (self.next_group, base + start as u64);
        let records_seed = group_seed(seed, number, group_at);
        let mut at = start + GROUP_HEAD;
        let mut plan =
            WritePlan { offset: base, len: 0, last_zxid: Zxid::ZERO, records: 0, entry_bytes: 0 };
        while let Some((zxid, entry)) = self.peek() {
            let (len, size) = (entry.len(), record_size(entry.len()));
            if at + size > usable {
                break;
            }
            debug_assert!(len >= MIN_ENTRY);
            write_record(&mut staging[at..at + size], entry, records_seed);
            at += size;
            self.pending_bytes -= len;
            plan.records += 1;
            plan.entry_bytes += len;
            plan.last_zxid = zxid;
            self.advance();
        }
        let len = at - start - GROUP_HEAD;
        let head = GroupHead { number, committed: self.committed, len };
        head.write(&mut staging[start..], salt, seed, group_at);
        // Zeros after the last record mark the end, see `segment`.
        plan.len = (at + TAIL).next_multiple_of(BLOCK).min(staging.len());
        staging[at..plan.len].fill(0);
        let kept = at % BLOCK;
        self.tail[..kept].copy_from_slice(&staging[at - kept..at]);
        if let Some(segment) = &mut self.segment {
            segment.at = base + at as u64;
            let (end, size) = (segment.at, segment.size);
            invariant!(end <= size, "a write up to {end} crosses the segment's end at {size}");
        }
        invariant!(plan.records > 0, "group commit {number} says that something is committed");
        invariant!(
            self.pending.is_empty() == (self.pending_bytes == 0),
            "{} bytes wait in {} batches",
            self.pending_bytes,
            self.pending.len()
        );
        self.next_group += 1;
        plan
    }

    fn peek(&self) -> Option<(Zxid, &[u8])> {
        self.pending.front()?.get(self.front_done)
    }

    /// The record that [`Appender::peek`] gives is copied.
    fn advance(&mut self) {
        self.front_done += 1;
        if self.pending.front().is_some_and(|batch| self.front_done == batch.len()) {
            self.pending.pop_front();
            self.front_done = 0;
        }
    }
}
