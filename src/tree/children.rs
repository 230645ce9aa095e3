//! The list of a node's children: node ids in no particular order, removal in constant time.
//!
//! Short lists are one vector; from 1024 on they continue in chunks of 1024, so that adding the
//! ten-millionth child copies nothing.

use super::slab::NONE;
use crate::base::invariant;

const CHUNK: usize = 1024;

#[derive(Debug, Default)]
struct Rest(Vec<Box<[u32; CHUNK]>>);

/// Child list. Each child knows its position in it.
#[derive(Debug, Default)]
pub(super) struct ChildList {
    /// Positions below `CHUNK`.
    first: Vec<u32>,
    /// Positions from `CHUNK` on.
    rest: Option<Box<Rest>>,
    len: u32,
}

impl ChildList {
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> u32 {
        let at = at as usize;
        if at < CHUNK {
            return self.first[at];
        }
        match &self.rest {
            Some(rest) => rest.0[at / CHUNK - 1][at % CHUNK],
            None => NONE,
        }
    }

    pub(super) fn set(&mut self, at: u32, child: u32) {
        invariant!(at < self.len, "position {at} of {} children", self.len);
        let at = at as usize;
        if at < CHUNK {
            self.first[at] = child;
        } else if let Some(rest) = &mut self.rest {
            rest.0[at / CHUNK - 1][at % CHUNK] = child;
        }
    }

    /// Appends a child and returns its position.
    pub(super) fn push(&mut self, child: u32) -> u32 {
        let at = self.len;
        self.len += 1;
        if (at as usize) < CHUNK {
            if self.first.len() == self.first.capacity() {
                // Directories of one or two children are common: start with two, not four.
                self.first.reserve_exact(self.first.len().max(2));
            }
            self.first.push(child);
        } else {
            let rest = self.rest.get_or_insert_default();
            if (at as usize).is_multiple_of(CHUNK) {
                rest.0.push(Box::new([NONE; CHUNK]));
            }
            self.set(at, child);
        }
        at
    }

    /// Drops the last position, which there is, and gives memory back.
    pub(super) fn pop(&mut self) {
        invariant!(self.len > 0, "a child is taken out of a list that has one");
        self.len -= 1;
        let len = self.len as usize;
        if len < CHUNK {
            self.rest = None;
            self.first.truncate(len);
            if len * 4 <= self.first.capacity() {
                self.first.shrink_to(len * 2);
            }
        } else if let Some(rest) = &mut self.rest {
            rest.0.truncate((len / CHUNK - 1) + usize::from(!len.is_multiple_of(CHUNK)));
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let rest = self
            .rest
            .as_ref()
            .map_or(0, |rest| size_of::<Rest>() + rest.0.capacity() * 8 + rest.0.len() * CHUNK * 4);
        self.first.capacity() * 4 + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_hold_across_chunks() {
        let mut list = ChildList::default();
        for n in 0..5000 {
            assert_eq!(list.push(n * 3), n);
        }
        assert!((0..5000).all(|n| list.get(n) == n * 3));
        for n in (0..5000).rev() {
            assert_eq!(list.get(n), n * 3);
            list.pop();
            assert_eq!(list.len(), n);
        }
        assert_eq!((list.len(), list.heap_bytes()), (0, 0));
    }
}
