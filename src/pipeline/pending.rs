//! The pending view: the tree as it will be once every transaction prepared so far is applied.
//!
//! Corresponds to `outstandingChanges` in `PrepRequestProcessor`. One record per node that some
//! outstanding transaction touches; everything else is read from the tree. A record goes when the
//! last transaction that touched it has been applied.
//!
//! A record is filed under its node in the tree, which is the common and the cheap case, unless an
//! outstanding transaction creates or deletes the node: then it is filed under the path, because the
//! node is not there yet or will not be for long, and the path is asked first.
//!
//! As in Apache, a pending setACL does not change which ACL later writes are checked against until
//! it is applied; the ACL of a pending create does.

use hashbrown::HashTable;

use crate::base::{FixedMap, PathKey, SessionId, Zxid};
use crate::tree::{AclId, NodeId, NodeView, Tree};
use crate::wire::AclBytes;

/// Index of a record.
pub type Slot = u32;

/// A node of the pending view.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'a> {
    /// Versions, counters and owner.
    pub view: NodeView,
    /// ACL that access is checked against.
    pub acl: AclBytes<'a>,
    /// Where it was found.
    pub place: Place,
}

/// Where the pending view found a node. Void after the next change of that node.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its record, if it has one.
    slot: Option<Slot>,
    /// The node in the tree, if it is there now and no outstanding transaction creates or deletes
    /// it: then it still is when a transaction prepared now is applied.
    pub node: Option<NodeId>,
}

#[derive(Clone, Debug)]
struct Record {
    hash: u64,
    path: String,
    /// The newest transaction that touched the node.
    zxid: Zxid,
    exists: bool,
    /// What it is filed under: the node in the tree, or the path for `None`.
    node: Option<NodeId>,
    view: NodeView,
    /// Encoded ACL of a node whose create is pending.
    acl: Vec<u8>,
}

/// What to restore when a multi fails.
#[derive(Debug)]
enum Undo {
    /// The record did not exist.
    Added(Slot),
    /// The record was this.
    Changed(Slot, Box<Record>),
}

/// See the module's introduction.
#[derive(Debug, Default)]
pub struct PendingView {
    by_node: HashTable<Slot>,
    by_path: HashTable<Slot>,
    records: Vec<Record>,
    free: Vec<Slot>,
    /// Records that are pending creates of a session's ephemerals.
    ephemerals: FixedMap<SessionId, Vec<Slot>>,
    undo: Option<Vec<Undo>>,
}

impl PendingView {
    /// A view without pending changes.
    pub fn new() -> PendingView {
        PendingView::default()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.by_node.len() + self.by_path.len()
    }

    /// Whether the view equals the tree.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty() && self.by_path.is_empty()
    }

    fn find_node(&self, node: NodeId) -> Option<Slot> {
        let is_it = |&slot: &Slot| self.records[slot as usize].node == Some(node);
        self.by_node.find(node_hash(node), is_it).copied()
    }

    fn find_path(&self, hash: u64, path: &str) -> Option<Slot> {
        if self.by_path.is_empty() {
            return None;
        }
        let is_it = |&slot: &Slot| {
            let record = &self.records[slot as usize];
            record.hash == hash && record.path == path
        };
        self.by_path.find(hash, is_it).copied()
    }

    /// The path of a record that a transaction not yet released has touched.
    pub fn path(&self, slot: Slot) -> &str {
        self.records.get(slot as usize).map_or("", |record| &record.path)
    }

    /// The hash of such a record's path.
    pub fn hash(&self, slot: Slot) -> u64 {
        self.records.get(slot as usize).map_or(0, |record| record.hash)
    }

    /// The node at `key`, if it will exist.
    pub fn get<'a>(&'a self, tree: &'a Tree, key: &PathKey<'_>) -> Option<Pending<'a>> {
        if let Some(slot) = self.find_path(key.hash, canonical(key.path)) {
            let record = &self.records[slot as usize];
            let acl = AclBytes::parse(&record.acl).unwrap_or(AclBytes::NOTHING);
            let place = Place { slot: Some(slot), node: None };
            return record.exists.then_some(Pending { view: record.view, acl, place });
        }
        let node = tree.find(key)?;
        let slot = self.find_node(node);
        let view = match slot {
            Some(slot) => {
                debug_assert_eq!(self.path(slot), canonical(key.path), "record of another node");
                self.records[slot as usize].view
            }
            None => tree.view(node),
        };
        // The ACL as it is now: a record does not keep one that is not in use yet.
        let acl = tree.acls().bytes(tree.acl(node));
        Some(Pending { view, acl, place: Place { slot, node: Some(node) } })
    }

    /// Records that transaction `zxid` leaves the node that was found at `place` as `view`.
    pub fn change(&mut self, place: Place, key: &PathKey<'_>, zxid: Zxid, view: NodeView) -> Slot {
        let slot = match place.slot {
            Some(slot) => self.touch(slot),
            None => self.add(key, place.node),
        };
        let record = &mut self.records[slot as usize];
        record.zxid = zxid;
        record.exists = true;
        record.view = view;
        slot
    }

    /// Records that transaction `zxid` makes the node at `key`, which was not there.
    pub fn create(
        &mut self,
        key: &PathKey<'_>,
        zxid: Zxid,
        view: NodeView,
        acl: AclBytes<'_>,
    ) -> Slot {
        let place = Place { slot: self.find_path(key.hash, canonical(key.path)), node: None };
        let slot = self.change(place, key, zxid, view);
        let record = &mut self.records[slot as usize];
        record.acl.clear();
        record.acl.extend_from_slice(acl.bytes());
        slot
    }

    /// Records that transaction `zxid` deletes the node that was found at `place`.
    pub fn delete(&mut self, place: Place, key: &PathKey<'_>, zxid: Zxid) -> Slot {
        let slot = match place.slot {
            Some(slot) => self.touch(slot),
            None => self.add(key, None),
        };
        if self.records[slot as usize].node.is_some() {
            self.unlink(slot);
            self.records[slot as usize].node = None;
            self.link(slot);
        }
        let record = &mut self.records[slot as usize];
        record.zxid = zxid;
        record.exists = false;
        slot
    }

    /// A record is about to be changed.
    fn touch(&mut self, slot: Slot) -> Slot {
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Changed(slot, Box::new(self.records[slot as usize].clone())));
        }
        slot
    }

    fn add(&mut self, key: &PathKey<'_>, node: Option<NodeId>) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.records.push(Record {
                    hash: 0,
                    path: String::new(),
                    zxid: Zxid::ZERO,
                    exists: false,
                    node: None,
                    view: fresh_view(0, -1),
                    acl: Vec::new(),
                });
                u32::try_from(self.records.len() - 1).expect("fewer than 2^32 pending changes")
            }
        };
        let record = &mut self.records[slot as usize];
        record.hash = key.hash;
        record.path.clear();
        record.path.push_str(canonical(key.path));
        record.node = node;
        record.acl.clear();
        self.link(slot);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Added(slot));
        }
        slot
    }

    /// Files a record.
    fn link(&mut self, slot: Slot) {
        let records = &self.records;
        match records[slot as usize].node {
            Some(node) => {
                let hash_of = |&slot: &Slot| records[slot as usize].node.map_or(0, node_hash);
                self.by_node.insert_unique(node_hash(node), slot, hash_of);
            }
            None => {
                let hash_of = |&slot: &Slot| records[slot as usize].hash;
                self.by_path.insert_unique(hash_of(&slot), slot, hash_of);
            }
        }
    }

    /// Takes a record out of where it is filed. Returns whether it was there.
    fn unlink(&mut self, slot: Slot) -> bool {
        let record = &self.records[slot as usize];
        let found = match record.node {
            Some(node) => self.by_node.find_entry(node_hash(node), |&other| other == slot),
            None => self.by_path.find_entry(record.hash, |&other| other == slot),
        };
        found.map(|entry| entry.remove()).is_ok()
    }

    /// Notes that the record at `slot` is a pending ephemeral create of `session`.
    pub fn note_ephemeral(&mut self, session: SessionId, slot: Slot) {
        self.ephemerals.entry(session).or_default().push(slot);
    }

    /// Calls `f` with every path that is a pending, not yet applied ephemeral of `session`.
    pub fn ephemerals_of(&self, session: SessionId, mut f: impl FnMut(&str)) {
        for &slot in self.ephemerals.get(&session).into_iter().flatten() {
            let record = &self.records[slot as usize];
            if record.exists && record.view.owner == session.0 {
                f(&record.path);
            }
        }
    }

    /// The session is gone.
    pub fn forget_session(&mut self, session: SessionId) {
        self.ephemerals.remove(&session);
    }

    /// Transaction `zxid`, which touched `slot`, has been applied.
    pub fn release(&mut self, slot: Slot, zxid: Zxid) {
        let record = &self.records[slot as usize];
        if record.zxid != zxid {
            return;
        }
        let owner = SessionId(record.view.owner);
        self.remove(slot);
        if owner.0 != 0 && !self.ephemerals.is_empty() {
            self.forget_ephemeral(owner, slot);
        }
    }

    fn forget_ephemeral(&mut self, owner: SessionId, slot: Slot) {
        if let Some(slots) = self.ephemerals.get_mut(&owner) {
            slots.retain(|&other| other != slot);
            if slots.is_empty() {
                self.ephemerals.remove(&owner);
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        if self.unlink(slot) {
            // Never equal to a later transaction's zxid, so a second release does nothing.
            self.records[slot as usize].zxid = Zxid(-1);
            self.free.push(slot);
        }
    }

    /// From here on changes can be taken back with [`PendingView::rollback`].
    pub fn begin_multi(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// Keeps what the multi changed.
    pub fn keep_multi(&mut self) {
        self.undo = None;
    }

    /// Takes back everything since [`PendingView::begin_multi`].
    pub fn rollback(&mut self) {
        for undo in self.undo.take().into_iter().flatten().rev() {
            match undo {
                Undo::Added(slot) => {
                    let owner = SessionId(self.records[slot as usize].view.owner);
                    self.forget_ephemeral(owner, slot);
                    self.remove(slot);
                }
                Undo::Changed(slot, record) => {
                    self.unlink(slot);
                    self.records[slot as usize] = *record;
                    self.link(slot);
                }
            }
        }
    }
}

/// The view of a node that was just created.
pub(super) fn fresh_view(owner: i64, data_len: i32) -> NodeView {
    NodeView {
        version: 0,
        cversion: 0,
        aversion: 0,
        num_children: 0,
        owner,
        acl: AclId::OPEN,
        data_len,
    }
}

/// The root's alias is the empty string; records know it as `/`.
fn canonical(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Node numbers are dense, so that spreading them is enough.
fn node_hash(node: NodeId) -> u64 {
    (node.index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
