//! A sorted set of `u32` keys in short leaves: 4 to 5 bytes per key for one key or for millions,
//! logarithmic search, and a cheap cut at a key.
//!
//! Stands where `WatchManager` has a `HashSet<Watcher>` per path. The order is what makes watch
//! delivery deterministic. Invariants: leaves are non-empty, sorted, at most [`LEAF`] long, and
//! every key of a leaf is smaller than every key of the next.

use crate::base::invariant;

/// Most keys in a leaf (1 KiB): an insertion moves at most this much.
const LEAF: usize = 256;

/// Keys whose top two bits differ are separate ranges that grow at their own ends.
const RANGE_SHIFT: u32 = 30;

/// The set.
#[derive(Default)]
pub(super) struct KeyList {
    leaves: Vec<Vec<u32>>,
}

impl KeyList {
    /// Position of the leaf that holds `key` if any leaf does; `leaves.len()` when all are below.
    fn leaf_of(&self, key: u32) -> usize {
        self.leaves.partition_point(|leaf| leaf.last().is_none_or(|&last| last < key))
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Whether `key` is in the set.
    pub(super) fn contains(&self, key: u32) -> bool {
        self.leaves.get(self.leaf_of(key)).is_some_and(|leaf| leaf.binary_search(&key).is_ok())
    }

    /// Adds `key`; false if it was there.
    pub(super) fn insert(&mut self, key: u32) -> bool {
        if self.leaves.is_empty() {
            self.leaves.reserve_exact(1);
            self.leaves.push(vec![key]);
            return true;
        }
        let at = self.leaf_of(key).min(self.leaves.len() - 1);
        let Err(position) = self.leaves[at].binary_search(&key) else { return false };
        // Between two leaves: the left one continues where a range grows in front of the next.
        if position == 0 && at > 0 && self.leaves[at - 1].len() < LEAF {
            self.leaves[at - 1].push(key);
            return true;
        }
        let leaf = &mut self.leaves[at];
        if leaf.len() < LEAF {
            leaf.insert(position, key);
            return true;
        }
        // A full leaf is cut in the middle, except where a range grows at its end: there the cut
        // is at the end, so that keys arriving in order fill their leaves.
        let ends_range =
            leaf.get(position).is_none_or(|&next| next >> RANGE_SHIFT != key >> RANGE_SHIFT);
        let cut = if ends_range { position } else { LEAF / 2 };
        let mut right = leaf.split_off(cut);
        if position <= cut && leaf.len() < LEAF {
            leaf.insert(position, key);
        } else {
            right.insert(position - cut, key);
        }
        if !right.is_empty() {
            self.leaves.insert(at + 1, right);
        }
        true
    }

    /// Takes `key` out; false if it was not there.
    pub(super) fn remove(&mut self, key: u32) -> bool {
        let at = self.leaf_of(key);
        let Some(leaf) = self.leaves.get_mut(at) else { return false };
        let Ok(position) = leaf.binary_search(&key) else { return false };
        leaf.remove(position);
        if leaf.is_empty() {
            self.leaves.remove(at);
            return true;
        }
        if leaf.len() < LEAF / 4 {
            leaf.shrink_to(leaf.len() * 2);
            self.join_small(at);
        }
        true
    }

    /// Joins the leaf at `at` with its successor or predecessor where both fit into half a leaf.
    fn join_small(&mut self, at: usize) {
        let fits = |i: usize| match (self.leaves.get(i), self.leaves.get(i + 1)) {
            (Some(a), Some(b)) => a.len() + b.len() <= LEAF / 2,
            _ => false,
        };
        let left = if fits(at) {
            at
        } else if at > 0 && fits(at - 1) {
            at - 1
        } else {
            return;
        };
        let right = self.leaves.remove(left + 1);
        self.leaves[left].extend_from_slice(&right);
    }

    /// Cuts off and returns the keys from `key` on.
    pub(super) fn split_off(&mut self, key: u32) -> KeyList {
        let at = self.leaf_of(key);
        if at == self.leaves.len() {
            return KeyList::default();
        }
        let mut right = self.leaves.split_off(at);
        let first = &mut right[0];
        let cut = first.partition_point(|&k| k < key);
        if cut > 0 {
            let upper = first.split_off(cut);
            let mut lower = std::mem::replace(first, upper);
            lower.shrink_to(LEAF / 4);
            self.leaves.push(lower);
        }
        KeyList { leaves: right }
    }

    /// Appends `upper`, all of whose keys are larger than all keys here.
    pub(super) fn append(&mut self, upper: KeyList) {
        let last = self.leaves.last().and_then(|leaf| leaf.last());
        let next = upper.leaves.first().and_then(|leaf| leaf.first());
        invariant!(last.is_none() || next.is_none() || last < next, "keys stay sorted");
        if self.leaves.is_empty() {
            self.leaves = upper.leaves;
        } else {
            self.leaves.extend(upper.leaves);
        }
    }

    /// Keys from `from` on, ascending.
    pub(super) fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let at = self.leaf_of(from);
        let skip = self.leaves.get(at).map_or(0, |leaf| leaf.partition_point(|&k| k < from));
        self.leaves[at..].iter().flatten().copied().skip(skip)
    }

    /// All keys, ascending.
    pub(super) fn into_keys(self) -> impl Iterator<Item = u32> {
        self.leaves.into_iter().flatten()
    }

    /// Length by counting, for tests.
    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        let all: Vec<u32> = self.leaves.iter().flatten().copied().collect();
        assert!(all.windows(2).all(|w| w[0] < w[1]), "sorted without duplicates");
        assert!(self.leaves.iter().all(|l| !l.is_empty() && l.len() <= LEAF), "leaf sizes");
        all.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::Rng;

    #[test]
    fn behaves_like_a_sorted_set() {
        for seed in 0..40u64 {
            let mut rng = Rng::new(seed);
            let (mut list, mut model) = (KeyList::default(), BTreeSet::new());
            let span = [20, 3_000, 1 << 20][(seed % 3) as usize];
            let adds = 1 + seed % 4;
            for step in 0..6_000u32 {
                let ascending = seed % 5 == 0 && rng.chance(3, 4);
                let low = if ascending { step } else { rng.below(span) as u32 };
                let key = (rng.below(4) as u32) << RANGE_SHIFT | low;
                if rng.below(5) < adds {
                    assert_eq!(list.insert(key), model.insert(key), "seed {seed}");
                } else {
                    assert_eq!(list.remove(key), model.remove(&key), "seed {seed}");
                }
                assert_eq!(list.contains(key), model.contains(&key), "seed {seed}");
                if rng.chance(1, 500) {
                    let cut = (rng.below(4) as u32) << RANGE_SHIFT | rng.below(span) as u32;
                    let upper = list.split_off(cut);
                    assert!(upper.iter_from(0).eq(model.split_off(&cut)), "seed {seed}");
                    if rng.chance(1, 2) {
                        model.extend(upper.iter_from(0));
                        list.append(upper);
                    }
                    assert!(list.iter_from(0).eq(model.iter().copied()), "seed {seed}");
                }
                if rng.chance(1, 100) {
                    assert!(list.iter_from(key).eq(model.range(key..).copied()), "seed {seed}");
                    assert_eq!(list.check(), model.len(), "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn keys_in_order_fill_their_leaves() {
        let mut list = KeyList::default();
        for slot in 0..10_000u32 {
            for range in 0..2 {
                list.insert(range << RANGE_SHIFT | slot);
            }
        }
        assert!(list.leaves.len() <= 20_000 / LEAF + 4, "{} leaves", list.leaves.len());
    }
}
