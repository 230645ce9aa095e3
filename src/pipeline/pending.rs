//! The pending view: the tree as it will be once every transaction prepared so far is applied.
//!
//! Corresponds to `outstandingChanges` in `PrepRequestProcessor`. One record per node that some
//! outstanding transaction touches; everything else is read from the tree. A record goes when the
//! last transaction that touched it has been applied.
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
    /// The node in the tree, unless an outstanding transaction creates or deletes it.
    node: Option<NodeId>,
    view: NodeView,
    /// Encoded ACL of a node whose create is pending; empty: the tree's.
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
    table: HashTable<Slot>,
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
        self.table.len()
    }

    /// Whether the view equals the tree.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn slot_of(&self, hash: u64, path: &str) -> Option<Slot> {
        if self.table.is_empty() {
            return None;
        }
        let records = &self.records;
        self.table
            .find(hash, |&slot| {
                let record = &records[slot as usize];
                record.hash == hash && record.path == path
            })
            .copied()
    }

    /// The path of a record that a transaction not yet released has touched.
    pub fn path(&self, slot: Slot) -> &str {
        self.records.get(slot as usize).map_or("", |record| &record.path)
    }

    /// The hash of such a record's path.
    pub fn hash(&self, slot: Slot) -> u64 {
        self.records.get(slot as usize).map_or(0, |record| record.hash)
    }

    fn record(&self, hash: u64, path: &str) -> Option<&Record> {
        self.slot_of(hash, path).map(|slot| &self.records[slot as usize])
    }

    /// The node at `key`, if it will exist.
    pub fn get<'a>(&'a self, tree: &'a Tree, key: &PathKey<'_>) -> Option<Pending<'a>> {
        self.resolve(tree, key.hash, canonical(key.path), || tree.find(key))
    }

    /// The parent of `key`, if it will exist.
    pub fn get_parent<'a>(&'a self, tree: &'a Tree, key: &PathKey<'_>) -> Option<Pending<'a>> {
        let parent = tree.hasher().parent(key);
        self.resolve(tree, parent.hash, parent.path, || tree.find_parent(key))
    }

    fn resolve<'a>(
        &'a self,
        tree: &'a Tree,
        hash: u64,
        path: &str,
        find: impl FnOnce() -> Option<NodeId>,
    ) -> Option<Pending<'a>> {
        if let Some(record) = self.record(hash, path) {
            if !record.exists {
                return None;
            }
            let acl = match AclBytes::parse(&record.acl) {
                Ok(acl) if !record.acl.is_empty() => acl,
                // The node's ACL as it is now: the record does not keep the one it saw in use.
                _ => tree.acls().bytes(record.node.map_or(record.view.acl, |node| tree.acl(node))),
            };
            return Some(Pending { view: record.view, acl, node: record.node });
        }
        let node = find()?;
        let view = tree.view(node);
        Some(Pending { view, acl: tree.acls().bytes(view.acl), node: Some(node) })
    }

    /// Records that transaction `zxid` leaves the node at (`hash`, `path`) as `view`, or deleted
    /// for `None`. `acl` is given for creates only; `node` as [`PendingView::get`] gave it, `None`
    /// for creates and deletes.
    pub fn put(
        &mut self,
        hash: u64,
        path: &str,
        zxid: Zxid,
        view: Option<NodeView>,
        acl: Option<AclBytes<'_>>,
        node: Option<NodeId>,
    ) -> Slot {
        let path = canonical(path);
        let slot = match self.slot_of(hash, path) {
            Some(slot) => {
                if let Some(undo) = &mut self.undo {
                    let saved = Box::new(self.records[slot as usize].clone());
                    undo.push(Undo::Changed(slot, saved));
                }
                slot
            }
            None => self.add(hash, path),
        };
        let record = &mut self.records[slot as usize];
        record.zxid = zxid;
        record.exists = view.is_some();
        record.node = node;
        if let Some(view) = view {
            record.view = view;
        }
        if let Some(acl) = acl {
            record.acl.clear();
            record.acl.extend_from_slice(acl.bytes());
        }
        slot
    }

    fn add(&mut self, hash: u64, path: &str) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.records.push(Record {
                    hash,
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
        record.hash = hash;
        record.path.clear();
        record.path.push_str(path);
        record.acl.clear();
        let records = &self.records;
        self.table.insert_unique(hash, slot, |&slot| records[slot as usize].hash);
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Added(slot));
        }
        slot
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
        let hash = self.records[slot as usize].hash;
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
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
                Undo::Changed(slot, record) => self.records[slot as usize] = *record,
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
