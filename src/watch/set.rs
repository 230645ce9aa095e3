//! The watchers of one path: flags of a single connection packed into a word, or a sorted set.
//!
//! Corresponds to the value side of `WatchManager.watchTable` with `WatchStats`. Invariant: a set
//! holds at least two keys between operations; one key is folded back into the word.

use super::key_list::KeyList;
use crate::base::invariant;

/// One-shot watch of getData and exists, in the data registry.
pub(super) const DATA: u8 = 0;
/// One-shot watch of getChildren, in the child registry.
pub(super) const CHILD: u8 = 1;
/// Persistent watch, in both registries.
pub(super) const PERSISTENT: u8 = 2;
/// Persistent recursive watch, in the data registry.
pub(super) const RECURSIVE: u8 = 3;
/// Number of modes.
pub(super) const MODES: u8 = 4;

/// Flags whose presence puts a connection into the data registry of a path.
pub(super) const IN_DATA: u8 = 1 << DATA | 1 << PERSISTENT | 1 << RECURSIVE;
/// Flags whose presence puts a connection into the child registry of a path.
pub(super) const IN_CHILD: u8 = 1 << CHILD | 1 << PERSISTENT;

/// Connection slots and set indices have this many bits: 268 million, far more than the kernel
/// has file descriptors for.
const WORD_BITS: u32 = 28;
const WORD_MASK: u32 = (1 << WORD_BITS) - 1;
const KEY_SHIFT: u32 = 30;
const KEY_MASK: u32 = (1 << KEY_SHIFT) - 1;

/// Largest slot or set index; one less than the mask, which marks a vacant entry.
pub(super) const INDEX_MAX: u32 = WORD_MASK - 1;

/// Who watches a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// One connection with these flags (never empty).
    One { slot: u32, flags: u8 },
    /// The set with this index.
    Many(u32),
    /// Nobody: a free entry.
    Vacant,
}

impl Holder {
    /// Packs into 32 bits: flags in the top four, zero there means a set.
    pub(super) fn pack(self) -> u32 {
        match self {
            Holder::One { slot, flags } => u32::from(flags) << WORD_BITS | slot,
            Holder::Many(set) => set,
            Holder::Vacant => WORD_MASK,
        }
    }

    /// Reverses [`Holder::pack`].
    pub(super) fn unpack(word: u32) -> Holder {
        let flags = (word >> WORD_BITS) as u8;
        match (flags, word & WORD_MASK) {
            (0, WORD_MASK) => Holder::Vacant,
            (0, set) => Holder::Many(set),
            (flags, slot) => Holder::One { slot, flags },
        }
    }
}

/// Two or more watchers: keys are (mode, slot), so that each mode is one contiguous range and an
/// event never looks at watchers of another mode.
#[derive(Default)]
pub(super) struct WatcherSet {
    keys: KeyList,
    counts: [u32; MODES as usize],
}

fn key(mode: u8, slot: u32) -> u32 {
    u32::from(mode) << KEY_SHIFT | slot
}

/// Slot part of a key.
fn slot_of(key: u32) -> u32 {
    key & KEY_MASK
}

impl WatcherSet {
    /// How many connections watch in `mode`.
    pub(super) fn count(&self, mode: u8) -> u32 {
        self.counts[usize::from(mode)]
    }

    /// Whether any connection is in the data registry here.
    pub(super) fn has_data(&self) -> bool {
        self.count(DATA) > 0 || self.count(PERSISTENT) > 0 || self.count(RECURSIVE) > 0
    }

    /// Flags of `slot`; zero if it does not watch.
    pub(super) fn flags(&self, slot: u32) -> u8 {
        let mut flags = 0;
        for mode in 0..MODES {
            if self.count(mode) > 0 && self.keys.contains(key(mode, slot)) {
                flags |= 1 << mode;
            }
        }
        flags
    }

    /// Replaces the flags of `slot`, which were `old`.
    pub(super) fn set_flags(&mut self, slot: u32, old: u8, new: u8) {
        for mode in 0..MODES {
            let count = &mut self.counts[usize::from(mode)];
            match (old >> mode & 1, new >> mode & 1) {
                (0, 1) => {
                    let is_new = self.keys.insert(key(mode, slot));
                    invariant!(is_new, "connection {slot} did not watch in mode {mode}");
                    *count += 1;
                }
                (1, 0) => {
                    let was_there = self.keys.remove(key(mode, slot));
                    invariant!(was_there, "connection {slot} watched in mode {mode}");
                    *count -= 1;
                }
                _ => {}
            }
        }
    }

    /// Slots that watch in `mode`, ascending.
    pub(super) fn slots(&self, mode: u8) -> impl Iterator<Item = u32> + '_ {
        let count = self.count(mode) as usize;
        self.keys.iter_from(key(mode, 0)).take(count).map(slot_of)
    }

    /// Takes out every watcher of `mode` and returns their slots, ascending.
    pub(super) fn take(&mut self, mode: u8) -> impl Iterator<Item = u32> + use<> {
        let upper = if mode + 1 < MODES {
            self.keys.split_off(key(mode + 1, 0))
        } else {
            Default::default()
        };
        let taken = self.keys.split_off(key(mode, 0));
        invariant!(
            (self.count(mode) == 0) == taken.is_empty(),
            "{} watchers in mode {mode} are counted",
            self.count(mode)
        );
        self.keys.append(upper);
        self.counts[usize::from(mode)] = 0;
        taken.into_keys().map(slot_of)
    }

    /// What the path entry should hold: `Many(index)` as before, or less than a set needs.
    pub(super) fn fold(&self, index: u32) -> Holder {
        match self.counts.iter().sum::<u32>() {
            0 => Holder::Vacant,
            1 => match self.keys.iter_from(0).next() {
                Some(k) => Holder::One { slot: slot_of(k), flags: 1 << (k >> KEY_SHIFT) },
                None => Holder::Vacant,
            },
            _ => Holder::Many(index),
        }
    }

    /// Verifies counts against keys.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.keys.check(), self.counts.iter().sum::<u32>() as usize);
        for mode in 0..MODES {
            let n = self.keys.iter_from(0).filter(|k| k >> KEY_SHIFT == u32::from(mode)).count();
            assert_eq!(n, self.count(mode) as usize, "mode {mode}");
        }
        assert!(self.counts.iter().sum::<u32>() >= 2, "a set has at least two keys");
    }
}
