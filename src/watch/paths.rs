//! Table of watched paths: path text and its packed holder, found by the shared path hash.
//!
//! Corresponds to the key side of `WatchManager.watchTable`. An entry is 24 bytes plus the text,
//! its index slot 5 to 11 bytes. Invariants: the index holds exactly the occupied entries; a free
//! entry holds `Vacant` and links to the next free one through its hash field.

use hashbrown::HashTable;

use super::set::Holder;
use crate::base::invariant;

/// End of the free chain.
const NONE: u32 = u32::MAX;

/// Emptying a table larger than this gives its memory back.
const KEEP_MAX: usize = 4096;

struct Entry {
    hash: u32,
    word: u32,
    path: Box<str>,
}

/// The table. Entries are named by a stable index, the path id, which is reused after removal.
pub(super) struct Paths {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: u32,
}

/// Half of the path hash is kept per entry; the multiplication spreads it over the bits that the
/// index looks at.
fn spread(hash: u32) -> u64 {
    crate::base::spread(u64::from(hash))
}

impl Paths {
    /// An empty table.
    pub(super) fn new() -> Paths {
        Paths { index: HashTable::new(), entries: Vec::new(), free: NONE }
    }

    /// Whether no path is watched.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The id of `path`, whose path hash is `hash`.
    pub(super) fn find(&self, path: &str, hash: u64) -> Option<u32> {
        let hash = hash as u32;
        let matches = |&id: &u32| {
            let entry = &self.entries[id as usize];
            entry.hash == hash && *entry.path == *path
        };
        self.index.find(spread(hash), matches).copied()
    }

    /// Adds `path`, which is not in the table.
    pub(super) fn insert(&mut self, path: &str, hash: u64, holder: Holder) -> u32 {
        let hash = hash as u32;
        let entry = Entry { hash, word: holder.pack(), path: path.into() };
        let id = self.free;
        let id = if id == NONE {
            let id = u32::try_from(self.entries.len()).unwrap_or(NONE);
            invariant!(id != NONE, "more than {NONE} watched paths");
            self.entries.push(entry);
            id
        } else {
            let old = std::mem::replace(&mut self.entries[id as usize], entry);
            invariant!(old.word == Holder::Vacant.pack(), "path {id} was free");
            self.free = old.hash;
            id
        };
        let entries = &self.entries;
        self.index.insert_unique(spread(hash), id, |&i| spread(entries[i as usize].hash));
        id
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, id: u32) {
        let hash = self.entries[id as usize].hash;
        let slot = self.index.find_entry(spread(hash), |&i| i == id);
        invariant!(slot.is_ok(), "path {id} is filed under its hash");
        if let Ok(slot) = slot {
            slot.remove();
        }
        if self.index.is_empty() && self.entries.capacity() > KEEP_MAX {
            *self = Paths::new();
            return;
        }
        let word = Holder::Vacant.pack();
        self.entries[id as usize] = Entry { hash: self.free, word, path: Box::default() };
        self.free = id;
    }

    /// Who watches the path; `Vacant` for an id that is free or was never given out.
    pub(super) fn holder(&self, id: u32) -> Holder {
        self.entries.get(id as usize).map_or(Holder::Vacant, |entry| Holder::unpack(entry.word))
    }

    /// Replaces the holder of an occupied entry.
    pub(super) fn set_holder(&mut self, id: u32, holder: Holder) {
        invariant!(holder != Holder::Vacant, "a path that nobody watches is removed");
        let entry = &mut self.entries[id as usize];
        invariant!(entry.word != Holder::Vacant.pack(), "path {id} is watched");
        entry.word = holder.pack();
    }

    /// Text of an occupied entry.
    pub(super) fn path(&self, id: u32) -> &str {
        &self.entries[id as usize].path
    }

    /// Number of watched paths.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Checks an entry, if there is one with this id: it is found by its path exactly if somebody
    /// watches. Returns whether there is one.
    pub(super) fn check(&self, id: u32) -> bool {
        let Some(entry) = self.entries.get(id as usize) else { return false };
        if entry.word != Holder::Vacant.pack() {
            let found = self.find(&entry.path, u64::from(entry.hash));
            invariant!(found == Some(id), "path {id} is found at {found:?}");
        }
        true
    }

    /// Ids of all watched paths, ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let vacant = Holder::Vacant.pack();
        (0u32..).zip(&self.entries).filter(move |(_, e)| e.word != vacant).map(|(id, _)| id)
    }
}
