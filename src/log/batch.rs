//! A run of transactions on their way from the pipeline to the log, encoded once and shared.
//!
//! An entry has exactly the bytes that Apache's log and a PROPOSAL have: `TxnHeader`, body,
//! optionally `TxnDigest`. Invariant: zxids ascend strictly.

use std::ops::Range;

use crate::base::{Zxid, invariant};

/// Concatenated log entries. Built by the pipeline, then shared read-only as `Arc<Batch>`.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// zxid and end offset of each entry.
    entries: Vec<(Zxid, u32)>,
    /// See [`Batch::committed`].
    committed: Zxid,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// The buffer to append the next entry's bytes to; close it with [`Batch::finish_entry`].
    pub fn entry(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Declares everything appended since the last call to be the entry of transaction `zxid`.
    ///
    /// # Panics
    /// When the entry is shorter than a transaction header, zxids do not ascend, or the batch
    /// reaches 4 GiB: all three are mistakes of the caller.
    pub fn finish_entry(&mut self, zxid: Zxid) {
        let end = u32::try_from(self.bytes.len()).expect("a batch is smaller than 4 GiB");
        let start = self.entries.last().map_or(0, |&(_, end)| end);
        invariant!(end >= start + super::MIN_ENTRY as u32, "{zxid:?} is shorter than a header");
        invariant!(self.entries.last().is_none_or(|&(last, _)| last < zxid), "{zxid:?} repeats");
        self.entries.push((zxid, end));
    }

    /// The last transaction that was known to be committed when the batch was handed to the log,
    /// which notes it beside the entries; 0 where none was.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Sets [`Batch::committed`].
    pub fn set_committed(&mut self, zxid: Zxid) {
        self.committed = zxid;
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Size of all entries in bytes.
    pub fn bytes_len(&self) -> usize {
        self.entries.last().map_or(0, |&(_, end)| end as usize)
    }

    /// Memory that it holds, in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<(Zxid, u32)>()
    }

    /// zxid of the first entry.
    pub fn first_zxid(&self) -> Option<Zxid> {
        self.entries.first().map(|&(zxid, _)| zxid)
    }

    /// zxid of the last entry.
    pub fn last_zxid(&self) -> Option<Zxid> {
        self.entries.last().map(|&(zxid, _)| zxid)
    }

    /// Entry number `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(Zxid, &[u8])> {
        let &(zxid, end) = self.entries.get(index)?;
        let start = match index {
            0 => 0,
            _ => self.entries[index - 1].1,
        };
        Some((zxid, &self.bytes[start as usize..end as usize]))
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (Zxid, &[u8])> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// These entries of the batch, as a batch of their own.
    pub fn part(&self, entries: Range<usize>) -> Batch {
        let mut part = Batch::new();
        for (zxid, bytes) in entries.map_while(|index| self.get(index)) {
            part.entry().extend_from_slice(bytes);
            part.finish_entry(zxid);
        }
        part.set_committed(self.committed);
        part
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.committed = Zxid::ZERO;
    }
}
