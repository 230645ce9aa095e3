//! A slab in chunks: adding never moves what is stored, and a freed slot holds the number of the
//! next free one, so neither growth nor mass deletion costs more than one chunk at a time.

use prefetch_index::prefetch_index;

use crate::base::invariant;

/// What a slab can hold.
pub(super) trait Slot: Default {
    /// Link to the next free slot; meaningful in free slots only.
    fn next_free(&self) -> u32;
    /// Turns this into a free slot that links to `next`.
    fn set_free(&mut self, next: u32);
}

/// End of the chain of free slots, and "no slot" in general.
pub(super) const NONE: u32 = u32::MAX;

/// Chunked slab; slots are numbered from 0.
#[derive(Debug)]
pub(super) struct Slab<T, const CHUNK: usize> {
    chunks: Vec<Box<[T; CHUNK]>>,
    /// Slots ever handed out. Invariant: `used <= chunks.len() * CHUNK`.
    used: u32,
    free: u32,
}

impl<T: Slot, const CHUNK: usize> Slab<T, CHUNK> {
    pub(super) fn new() -> Slab<T, CHUNK> {
        const { assert!(CHUNK.is_power_of_two()) };
        Slab { chunks: Vec::new(), used: 0, free: NONE }
    }

    /// Takes a free slot and stores `value` there.
    ///
    /// # Panics
    /// At 2^32 - 1 slots: with nodes of 64 bytes and more, that is beyond 256 GiB of heap.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let id = if self.free == NONE {
            invariant!(self.used < NONE, "slab is full at 2^32 - 1 slots");
            if self.used as usize == self.chunks.len() * CHUNK {
                self.chunks.push(Self::chunk());
            }
            self.used += 1;
            self.used - 1
        } else {
            let id = self.free;
            self.free = self.get(id).next_free();
            invariant!(
                self.free == NONE || self.free < self.used,
                "slot {id} was written to while it was free"
            );
            id
        };
        *self.get_mut(id) = value;
        id
    }

    /// Made in place: on the stack it would not fit everywhere.
    fn chunk() -> Box<[T; CHUNK]> {
        let slots: Box<[T]> = (0..CHUNK).map(|_| T::default()).collect();
        slots.try_into().unwrap_or_else(|_| unreachable!("a chunk has {CHUNK} slots"))
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> &T {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    /// Asks for the first cache line of a slot, without waiting for it.
    #[inline]
    pub(super) fn prefetch(&self, id: u32) {
        prefetch_index(&self.chunks[id as usize / CHUNK][..], id as usize % CHUNK);
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    /// Puts the slot back. Its heap memory must be dropped by `set_free`.
    pub(super) fn remove(&mut self, id: u32) {
        invariant!(
            id < self.used && id != self.free,
            "slot {id} is freed twice, or was never used"
        );
        let next = self.free;
        self.get_mut(id).set_free(next);
        self.free = id;
    }

    /// Slots that were ever in use; some of them may be free now.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<usize>()
    }
}
