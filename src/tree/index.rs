//! Path hash to node. The path itself is not stored: a candidate is verified against its own name
//! and its parent's path.

use hashbrown::HashTable;

use crate::base::invariant;

/// Shards as a power of two. With ten million nodes a shard has about ten thousand entries, so
/// that growing one takes tens of microseconds.
const SHARD_BITS: u32 = 10;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    node: u32,
}

/// Look-ups that are remembered; a power of two. It is several times the number of those under way
/// at a time, so that few are displaced.
const RECENT: usize = 128;

/// Sharded hash table.
#[derive(Debug)]
pub(super) struct PathIndex {
    shards: Vec<HashTable<Entry>>,
    /// What [`PathIndex::candidate`] found, by hash, so that the look-up that follows need not
    /// search again. Invariant: each is in the table.
    recent: [(u64, u32); RECENT],
}

/// What stands at a place where nothing is remembered: a hash that would be remembered elsewhere.
fn no_lookup(at: usize) -> (u64, u32) {
    (!(at as u64), 0)
}

#[inline]
fn recent_of(hash: u64) -> usize {
    hash as usize % RECENT
}

/// Spreads the stored 32 bits over the 64 that the table wants (position below, tag on top).
#[inline]
fn spread(hash: u32) -> u64 {
    crate::base::spread(u64::from(hash))
}

/// Shard of a hash. Shards are deliberately unequal: the expected size grows from 1 to 2 along
/// the shard numbers (`log2(1 + x)`, approximated), so that at any tree size some shards have
/// just doubled and others are just about to. Equal shards would all double at the same time, and
/// the index would take between 10 and 21 bytes per node; this way it is always about 15.
#[inline]
fn shard_of(hash: u64) -> usize {
    let x = (hash >> 48) as u32;
    let bulge = (((x * (0xffff - x)) >> 16) * 11) >> 5;
    ((x + bulge).min(0xffff) >> (16 - SHARD_BITS)) as usize
}

impl PathIndex {
    pub(super) fn new() -> PathIndex {
        let shards = (0..1 << SHARD_BITS).map(|_| HashTable::new()).collect();
        PathIndex { shards, recent: std::array::from_fn(no_lookup) }
    }

    /// The node filed under `hash` that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (recent, node) = self.recent[recent_of(hash)];
        if recent == hash && is_it(node) {
            return Some(node);
        }
        self.search(hash, is_it)
    }

    #[inline]
    fn search(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let short = hash as u32;
        self.shards[shard_of(hash)]
            .find(spread(short), |e| e.hash == short && is_it(e.node))
            .map(|e| e.node)
    }

    /// A node filed under `hash`, not verified: what [`PathIndex::find`] will most likely look at.
    #[inline]
    pub(super) fn candidate(&mut self, hash: u64) -> Option<u32> {
        let node = self.search(hash, |_| true)?;
        self.recent[recent_of(hash)] = (hash, node);
        Some(node)
    }

    pub(super) fn insert(&mut self, hash: u64, node: u32) {
        let short = hash as u32;
        self.shards[shard_of(hash)].insert_unique(
            spread(short),
            Entry { hash: short, node },
            |e| spread(e.hash),
        );
    }

    pub(super) fn remove(&mut self, hash: u64, node: u32) {
        self.recent[recent_of(hash)] = no_lookup(recent_of(hash));
        let shard = &mut self.shards[shard_of(hash)];
        let entry = shard.find_entry(spread(hash as u32), |e| e.node == node);
        invariant!(entry.is_ok(), "node {node} is filed under the hash of its path, {hash:x}");
        if let Ok(entry) = entry {
            entry.remove();
        }
        if shard.len() * 8 < shard.capacity() {
            shard.shrink_to(shard.len() * 2, |e| spread(e.hash));
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let tables: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        tables + self.shards.capacity() * size_of::<HashTable<Entry>>()
    }
}
