//! Storage of names and data: a safe arena with classes of 8 bytes each.
//!
//! A blob is addressed by its length (which its owner knows anyway) and a slot number, so no size
//! is stored here. Blobs above 2 KiB are boxes of their own.

use prefetch_index::prefetch_index;

use super::slab::{NONE, Slab, Slot};
use crate::base::invariant;

const STEP: usize = 8;
const CLASSES: usize = 256;
/// Longest blob that lives in a class.
const SMALL_MAX: usize = STEP * CLASSES;
/// Chunks hold as many blobs as fit here: a size that allocators keep, so that nothing is lost.
const CHUNK_BYTES: usize = 32 * 1024;
/// Bytes to a line of the processor's caches.
const CACHE_LINE: usize = 64;
/// The processor itself fetches the rest of a longer blob, once it is read in order.
const PREFETCH_MAX: usize = 4 * CACHE_LINE;

#[derive(Debug)]
struct SizeClass {
    size: usize,
    /// Slots per chunk.
    slots: u32,
    /// 2^64 divided by that, rounded up: a multiplication instead of a division by it, exact for
    /// all numbers of 32 bits.
    reciprocal: u64,
    chunks: Vec<Box<[u8]>>,
    used: u32,
    free: u32,
}

impl SizeClass {
    fn new(size: usize) -> SizeClass {
        let slots = (CHUNK_BYTES / size) as u32;
        let reciprocal = u64::MAX / u64::from(slots) + 1;
        SizeClass { size, slots, reciprocal, chunks: Vec::new(), used: 0, free: NONE }
    }

    /// Chunk, and where in it: below [`CHUNK_BYTES`], so nothing overflows here.
    #[inline(always)]
    fn place(&self, slot: u32) -> (usize, usize) {
        let chunk = (u128::from(slot) * u128::from(self.reciprocal)) >> 64;
        let within = slot.wrapping_sub((chunk as u32).wrapping_mul(self.slots));
        (chunk as usize, (within as usize).wrapping_mul(self.size))
    }

    #[inline(always)]
    fn get(&self, slot: u32, len: usize) -> &[u8] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk][at..][..len]
    }

    #[inline(always)]
    fn get_mut(&mut self, slot: u32, len: usize) -> &mut [u8] {
        let (chunk, at) = self.place(slot);
        &mut self.chunks[chunk][at..][..len]
    }

    fn alloc(&mut self) -> u32 {
        if self.free != NONE {
            let slot = self.free;
            let mut link = [0; 4];
            link.copy_from_slice(self.get(slot, 4));
            self.free = u32::from_le_bytes(link);
            invariant!(
                self.free == NONE || self.free < self.used,
                "blob {slot} of size {} was written to while it was free",
                self.size
            );
            return slot;
        }
        invariant!(self.used < NONE, "blob class is full at 2^32 - 1 slots");
        if self.used as usize == self.chunks.len() * self.slots as usize {
            self.chunks.push(vec![0; self.size * self.slots as usize].into_boxed_slice());
        }
        self.used += 1;
        self.used - 1
    }

    fn free(&mut self, slot: u32) {
        invariant!(
            slot < self.used && slot != self.free,
            "blob {slot} of size {} is freed twice, or was never used",
            self.size
        );
        let next = self.free.to_le_bytes();
        self.get_mut(slot, 4).copy_from_slice(&next);
        self.free = slot;
    }
}

#[derive(Debug)]
struct Large {
    bytes: Box<[u8]>,
    next: u32,
}

impl Default for Large {
    fn default() -> Large {
        Large { bytes: Box::default(), next: NONE }
    }
}

impl Slot for Large {
    fn next_free(&self) -> u32 {
        self.next
    }
    fn set_free(&mut self, next: u32) {
        *self = Large { bytes: Box::default(), next };
    }
}

/// The arena.
#[derive(Debug)]
pub(super) struct BlobArena {
    classes: Vec<SizeClass>,
    large: Slab<Large, 256>,
    large_bytes: usize,
    scratch: Vec<u8>,
}

impl BlobArena {
    pub(super) fn new() -> BlobArena {
        BlobArena {
            classes: (1..=CLASSES).map(|n| SizeClass::new(n * STEP)).collect(),
            large: Slab::new(),
            large_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Room for `len` bytes; the contents are unspecified until written.
    pub(super) fn alloc(&mut self, len: usize) -> u32 {
        if len == 0 {
            NONE
        } else if len <= SMALL_MAX {
            self.classes[(len - 1) / STEP].alloc()
        } else {
            self.large_bytes += len;
            self.large.insert(Large { bytes: vec![0; len].into_boxed_slice(), next: NONE })
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, slot: u32, len: usize) -> &[u8] {
        if len == 0 {
            &[]
        } else if len <= SMALL_MAX {
            self.classes[(len - 1) / STEP].get(slot, len)
        } else {
            &self.large.get(slot).bytes
        }
    }

    /// Asks for a blob, or the start of a long one, without waiting for it.
    #[inline]
    pub(super) fn prefetch(&self, slot: u32, len: usize) {
        let blob = self.get(slot, len);
        let wanted = blob.len().min(PREFETCH_MAX);
        for at in (0..wanted).step_by(CACHE_LINE) {
            prefetch_index(blob, at);
        }
        // It need not begin where a line does.
        prefetch_index(blob, wanted.saturating_sub(1));
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, slot: u32, len: usize) -> &mut [u8] {
        if len == 0 {
            &mut []
        } else if len <= SMALL_MAX {
            self.classes[(len - 1) / STEP].get_mut(slot, len)
        } else {
            &mut self.large.get_mut(slot).bytes
        }
    }

    pub(super) fn free(&mut self, slot: u32, len: usize) {
        if len == 0 {
        } else if len <= SMALL_MAX {
            self.classes[(len - 1) / STEP].free(slot);
        } else {
            self.large_bytes -= len;
            self.large.remove(slot);
        }
    }

    /// Replaces what follows the first `keep` bytes of a blob by `tail`; returns the slot of the
    /// result, whose length is `keep + tail.len()`.
    pub(super) fn replace_tail(&mut self, slot: u32, len: usize, keep: usize, tail: &[u8]) -> u32 {
        let new_len = keep + tail.len();
        let same = new_len == len
            || (len != 0
                && new_len != 0
                && len <= SMALL_MAX
                && new_len <= SMALL_MAX
                && (len - 1) / STEP == (new_len - 1) / STEP);
        if same {
            self.get_mut(slot, new_len)[keep..].copy_from_slice(tail);
            return slot;
        }
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        head.extend_from_slice(&self.get(slot, len)[..keep]);
        self.free(slot, len);
        let slot = self.alloc(new_len);
        let blob = self.get_mut(slot, new_len);
        blob[..keep].copy_from_slice(&head);
        blob[keep..].copy_from_slice(tail);
        self.scratch = head;
        slot
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let small: usize =
            self.classes.iter().map(|c| c.chunks.len() * (c.size * c.slots as usize + 16)).sum();
        small + self.large.heap_bytes() + self.large_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        for n in 1..=CLASSES {
            let class = SizeClass::new(n * STEP);
            let slots = class.slots;
            for slot in [0, 1, slots - 1, slots, 7 * slots - 1, 7 * slots, u32::MAX - 1, u32::MAX] {
                let place = ((slot / slots) as usize, (slot % slots) as usize * class.size);
                assert_eq!(class.place(slot), place, "slot {slot} of size {}", class.size);
                assert!(place.1 + class.size <= CHUNK_BYTES);
            }
        }
    }
}
