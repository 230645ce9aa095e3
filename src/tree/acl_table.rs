//! Interned ACLs (`ReferenceCountedACLCache`): each distinct list is stored once.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use crate::base::{PathHasher, invariant};
use crate::wire::AclBytes;

/// Handle of an interned ACL. Valid while some node uses the list, and on to the end of the apply
/// call that dropped the last use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct AclId(pub(super) u32);

impl AclId {
    /// `world:anyone` with all permissions; always present.
    pub const OPEN: AclId = AclId(0);

    /// A small number that tells lists apart, for caches of access decisions. Reused after the
    /// list was dropped.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Box<[u8]>,
    refs: u32,
    /// Id in snapshots: never reused in the life of this tree.
    file_id: i64,
}

/// All lists in use.
#[derive(Debug)]
pub struct AclTable {
    entries: Vec<Entry>,
    by_bytes: HashTable<u32>,
    free: Vec<u32>,
    /// Lists that lost their last use since the apply call began.
    dying: Vec<u32>,
    next_file_id: i64,
    hasher: PathHasher,
}

/// Id of the open list in snapshots; it is not in the map there.
const OPEN_FILE_ID: i64 = -1;

impl AclTable {
    pub(super) fn new(hasher: PathHasher) -> AclTable {
        let open = Entry { bytes: AclBytes::OPEN.bytes().into(), refs: 1, file_id: OPEN_FILE_ID };
        AclTable {
            entries: vec![open],
            by_bytes: HashTable::new(),
            free: Vec::new(),
            dying: Vec::new(),
            next_file_id: 1,
            hasher,
        }
    }

    /// The list with this id.
    #[inline]
    pub fn bytes(&self, id: AclId) -> AclBytes<'_> {
        if id == AclId::OPEN {
            return AclBytes::OPEN;
        }
        // Entries are only ever filled from well-formed lists, and not looked through again: that
        // would be done for each request, however long the list.
        AclBytes::known(&self.entries[id.0 as usize].bytes)
    }

    /// The id of a list that is in use.
    pub fn find(&self, acl: AclBytes<'_>) -> Option<AclId> {
        if acl == AclBytes::OPEN {
            return Some(AclId::OPEN);
        }
        self.find_bytes(normal(acl)).map(AclId)
    }

    /// A number of this list that no other list gets in the life of this tree; `None` for the open
    /// list, which needs none.
    #[inline]
    pub fn serial(&self, id: AclId) -> Option<u64> {
        u64::try_from(self.entries[id.0 as usize].file_id).ok()
    }

    /// Number of distinct lists, the open one not counted.
    pub fn len(&self) -> usize {
        self.by_bytes.len()
    }

    /// Whether only the open list is in use.
    pub fn is_empty(&self) -> bool {
        self.by_bytes.is_empty()
    }

    fn find_bytes(&self, bytes: &[u8]) -> Option<u32> {
        let hash = self.hasher.bytes(bytes);
        self.by_bytes.find(hash, |&at| *self.entries[at as usize].bytes == *bytes).copied()
    }

    /// The id of `acl`, added if new; counts one use.
    pub(super) fn intern(&mut self, acl: AclBytes<'_>) -> AclId {
        if acl == AclBytes::OPEN {
            return AclId::OPEN;
        }
        let bytes = normal(acl);
        if let Some(at) = self.find_bytes(bytes) {
            self.add_use(AclId(at));
            return AclId(at);
        }
        let file_id = self.next_file_id;
        self.next_file_id += 1;
        let entry = Entry { bytes: bytes.into(), refs: 1, file_id };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer ACLs than nodes")
            }
        };
        let AclTable { by_bytes, entries, hasher, .. } = self;
        let hash_of = |at: &u32| hasher.bytes(&entries[*at as usize].bytes);
        by_bytes.insert_unique(hash_of(&at), at, hash_of);
        AclId(at)
    }

    pub(super) fn add_use(&mut self, id: AclId) {
        if id != AclId::OPEN {
            let entry = &mut self.entries[id.0 as usize];
            invariant!(!entry.bytes.is_empty(), "{id:?} gains a use after it was dropped");
            entry.refs += 1;
        }
    }

    pub(super) fn drop_use(&mut self, id: AclId) {
        if id == AclId::OPEN {
            return;
        }
        let entry = &mut self.entries[id.0 as usize];
        invariant!(entry.refs > 0, "{id:?} loses a use that nobody counted");
        entry.refs -= 1;
        if entry.refs == 0 {
            self.dying.push(id.0);
        }
    }

    /// Drops the lists that are still unused.
    #[inline]
    pub(super) fn release(&mut self) {
        while let Some(at) = self.dying.pop() {
            let entry = &self.entries[at as usize];
            if entry.refs != 0 || entry.bytes.is_empty() {
                continue;
            }
            let hash = self.hasher.bytes(&entry.bytes);
            let found = self.by_bytes.find_entry(hash, |&other| other == at);
            invariant!(found.is_ok(), "ACL list {at} is filed under the hash of its bytes");
            if let Ok(found) = found {
                found.remove();
            }
            self.entries[at as usize].bytes = Box::default();
            self.free.push(at);
        }
    }

    /// Whether nodes use the list.
    pub(super) fn is_used(&self, id: AclId) -> bool {
        self.entries.get(id.0 as usize).is_some_and(|entry| entry.refs > 0)
    }

    pub(super) fn file_id(&self, id: AclId) -> i64 {
        self.entries[id.0 as usize].file_id
    }

    /// Fixes the ids of a snapshot that begins now: the lists with an id below the first number
    /// are in its ACL map; the second is the id there of [`AclBytes::NOTHING`], which may be new.
    pub(super) fn begin_snapshot(&mut self) -> (i64, i64) {
        let limit = self.next_file_id;
        match self.find_bytes(AclBytes::NOTHING.bytes()) {
            Some(at) => (limit, self.file_id(AclId(at))),
            None => {
                self.next_file_id += 1;
                (limit, limit)
            }
        }
    }

    /// The lists in use with their ids in snapshots, ascending; without the open one.
    pub(super) fn in_use(&self) -> BTreeMap<i64, AclBytes<'_>> {
        let ids = self.by_bytes.iter().map(|&at| AclId(at));
        ids.map(|id| (self.file_id(id), self.bytes(id))).collect()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let lists: usize = self.entries.iter().map(|e| e.bytes.len()).sum();
        lists
            + self.entries.capacity() * size_of::<Entry>()
            + self.by_bytes.allocation_size()
            + (self.free.capacity() + self.dying.capacity()) * 4
    }
}

/// Null lists become empty ones: snapshots must not hold null lists.
fn normal(acl: AclBytes<'_>) -> &[u8] {
    if acl.is_empty() { &[0; 4] } else { acl.bytes() }
}
