//! The pending view: the tree as it will be once every transaction prepared so far is applied.
//!
//! Corresponds to `outstandingChanges` in `PrepRequestProcessor`. One record per node that some
//! outstanding transaction touches; everything else is read from the tree. A record goes when the
//! last transaction that touched it has been applied.
//!
//! A record is filed under its node in the tree, which is the common and the cheap case, unless an
//! outstanding transaction creates or deletes the node: then it is filed under the path, because
//! the node is not there yet or will not be for long, and the path is asked first.
//!
//! As in Apache, a pending setACL does not change which ACL later writes are checked against until
//! it is applied; the ACL of a pending create does.

use crate::base::{FixedMap, PathKey, SessionId, Zxid, invariant, spread};
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
    /// Its number, see `AclTable::serial`; `None` for one that is not in use yet.
    pub serial: Option<u64>,
    /// Where it was found.
    pub place: Place,
}

/// Where the pending view found a node. Void after the next change of that node.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its record, if it has one, or [`END`].
    slot: Slot,
    /// The node in the tree, if it is there now and no outstanding transaction creates or deletes
    /// it: then it still is when a transaction prepared now is applied.
    pub node: NodeId,
}

/// As small as a line of the processor's caches: a setData needs nothing else.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Record {
    /// Of the path.
    hash: u64,
    /// The newest transaction that touched the node.
    zxid: Zxid,
    view: NodeView,
    /// What it is filed under: the node in the tree, or the path for [`NodeId::NONE`].
    node: NodeId,
    /// The next one that is filed at the same place.
    next: Slot,
    /// Its [`Named`]. Invariant: it has one if, and only if, it is filed under its path.
    named: Slot,
    exists: bool,
}

const _: () = assert!(size_of::<Record>() == 64);

impl Record {
    /// One that is filed nowhere.
    const NEW: Record = Record {
        hash: 0,
        // Never equal to a transaction's, so that a second release does nothing.
        zxid: Zxid(-1),
        view: fresh_view(0, -1),
        node: NodeId::NONE,
        next: END,
        named: END,
        exists: false,
    };

    fn filed_at(&self) -> u64 {
        if self.node == NodeId::NONE { self.hash } else { node_hash(self.node) }
    }
}

/// What belongs to a record that is filed under its path.
#[derive(Clone, Debug, Default)]
struct Named {
    path: String,
    /// The session in whose list of pending ephemerals it stands; 0 for none.
    noted: SessionId,
    /// Encoded ACL of a node whose create is pending.
    acl: Vec<u8>,
}

/// What to restore when a multi fails: each record as it was before the multi changed it first.
#[derive(Debug)]
enum Undo {
    /// The record did not exist.
    Added(Slot),
    /// The record was this.
    Changed(Slot, Record, Option<Named>),
}

/// End of a chain.
const END: Slot = Slot::MAX;
/// Chains to begin with.
const CHAINS: usize = 64;
/// Records to take back for which memory is kept from one multi to the next.
const UNDO_KEPT_MAX: usize = 64;

/// See the module's introduction.
#[derive(Debug)]
pub struct PendingView {
    /// Where the chains of records begin; their number is a power of two.
    heads: Vec<Slot>,
    /// How many are filed.
    filed: usize,
    /// How many of them under their path.
    on_paths: usize,
    records: Vec<Record>,
    free: Vec<Slot>,
    named: Vec<Named>,
    named_free: Vec<Slot>,
    /// Records that were at some time pending creates of a session's ephemerals.
    ephemerals: FixedMap<SessionId, Vec<Slot>>,
    /// The multi that is being prepared.
    multi: Option<Zxid>,
    /// What takes it back. Invariant: one for each record that it touched, however often; empty
    /// while there is no multi.
    undo: Vec<Undo>,
}

impl Default for PendingView {
    fn default() -> PendingView {
        PendingView {
            heads: vec![END; CHAINS],
            filed: 0,
            on_paths: 0,
            records: Vec::new(),
            free: Vec::new(),
            named: Vec::new(),
            named_free: Vec::new(),
            ephemerals: FixedMap::default(),
            multi: None,
            undo: Vec::new(),
        }
    }
}

impl PendingView {
    /// A view without pending changes.
    pub fn new() -> PendingView {
        PendingView::default()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.filed
    }

    /// Whether the view equals the tree.
    pub fn is_empty(&self) -> bool {
        self.filed == 0
    }

    fn chain_of(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    #[inline]
    fn find(&self, hash: u64, is_it: impl Fn(&Record) -> bool) -> Slot {
        let mut at = self.heads[self.chain_of(hash)];
        while at != END {
            let record = &self.records[at as usize];
            if is_it(record) {
                break;
            }
            at = record.next;
        }
        at
    }

    #[inline]
    fn find_node(&self, node: NodeId) -> Slot {
        self.find(node_hash(node), |record| record.node == node)
    }

    #[inline]
    fn find_path(&self, hash: u64, path: &[u8]) -> Slot {
        if self.on_paths == 0 {
            return END;
        }
        self.find(hash, |record| {
            record.hash == hash
                && record.node == NodeId::NONE
                && self.named(record).path.as_bytes() == path
        })
    }

    fn named(&self, record: &Record) -> &Named {
        &self.named[record.named as usize]
    }

    /// The hash of the path of a record that a transaction not yet released has touched.
    pub fn hash(&self, slot: Slot) -> u64 {
        self.records.get(slot as usize).map_or(0, |record| record.hash)
    }

    /// The node at `key`, if it will exist.
    pub fn get<'a>(&'a self, tree: &'a Tree, key: &PathKey<'_>) -> Option<Pending<'a>> {
        self.get_at(tree, key.hash, key.path.as_bytes())
    }

    /// As [`PendingView::get`], for bytes that may be no text: then they lead to no node.
    #[inline(always)]
    pub fn get_at<'a>(&'a self, tree: &'a Tree, hash: u64, path: &[u8]) -> Option<Pending<'a>> {
        let path = if path.is_empty() { b"/" } else { path };
        let slot = self.find_path(hash, path);
        if slot != END {
            let record = &self.records[slot as usize];
            let acl = AclBytes::known(&self.named(record).acl);
            let place = Place { slot, node: NodeId::NONE };
            let view = record.view;
            return record.exists.then_some(Pending { view, acl, serial: None, place });
        }
        let node = tree.find_at(hash, path)?;
        let slot = self.find_node(node);
        let view = match self.records.get(slot as usize) {
            Some(record) => {
                debug_assert_eq!(record.hash, hash, "record of another node");
                record.view
            }
            None => tree.view(node),
        };
        // The ACL as it is now: a record does not keep one that is not in use yet.
        let (acls, id) = (tree.acls(), tree.acl(node));
        let (acl, serial) = (acls.bytes(id), acls.serial(id));
        Some(Pending { view, acl, serial, place: Place { slot, node } })
    }

    /// Records that transaction `zxid` leaves the node that was found at `place` as `view`. `hash`
    /// is the hash of the node's path.
    pub fn change(&mut self, place: Place, hash: u64, zxid: Zxid, view: NodeView) -> Slot {
        let slot = match place.slot {
            END => self.add(hash, place.node, ""),
            slot => self.touch(slot),
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
        let slot = match self.find_path(key.hash, key.path.as_bytes()) {
            END => self.add(key.hash, NodeId::NONE, key.path),
            slot => self.touch(slot),
        };
        let record = &mut self.records[slot as usize];
        record.zxid = zxid;
        record.exists = true;
        record.view = view;
        let named = &mut self.named[record.named as usize];
        named.acl.clear();
        named.acl.extend_from_slice(acl.bytes());
        slot
    }

    /// Records that transaction `zxid` deletes the node that was found at `place`.
    pub fn delete(&mut self, place: Place, key: &PathKey<'_>, zxid: Zxid) -> Slot {
        let slot = match place.slot {
            END => self.add(key.hash, NodeId::NONE, key.path),
            slot => self.touch(slot),
        };
        if self.records[slot as usize].node != NodeId::NONE {
            self.unlink(slot);
            let named = self.name(key.path);
            let record = &mut self.records[slot as usize];
            (record.node, record.named) = (NodeId::NONE, named);
            self.link(slot);
        }
        let record = &mut self.records[slot as usize];
        record.zxid = zxid;
        record.exists = false;
        slot
    }

    /// A record is about to be changed. One that the multi has changed before bears its number.
    fn touch(&mut self, slot: Slot) -> Slot {
        let record = &self.records[slot as usize];
        if self.multi.is_some_and(|multi| record.zxid != multi) {
            let named = self.named.get(record.named as usize).cloned();
            self.undo.push(Undo::Changed(slot, *record, named));
        }
        slot
    }

    fn add(&mut self, hash: u64, node: NodeId, path: &str) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => add_slot(&mut self.records, Record::NEW),
        };
        let named = if node == NodeId::NONE { self.name(path) } else { END };
        let record = &mut self.records[slot as usize];
        (record.hash, record.node, record.named) = (hash, node, named);
        self.link(slot);
        if self.multi.is_some() {
            self.undo.push(Undo::Added(slot));
        }
        slot
    }

    /// A [`Named`] of a record at `path`.
    fn name(&mut self, path: &str) -> Slot {
        let slot = match self.named_free.pop() {
            Some(slot) => slot,
            None => add_slot(&mut self.named, Named::default()),
        };
        let named = &mut self.named[slot as usize];
        named.path.clear();
        named.path.push_str(path);
        named.acl.clear();
        slot
    }

    /// A record is not filed under its path any more.
    fn unname(&mut self, record_slot: Slot) {
        let record = &mut self.records[record_slot as usize];
        let slot = std::mem::replace(&mut record.named, END);
        let Some(named) = self.named.get_mut(slot as usize) else { return };
        // Also if another session owns the node by now: both slots will be used for other nodes.
        let noted = std::mem::replace(&mut named.noted, SessionId(0));
        if noted.0 != 0 {
            self.forget_ephemeral(noted, record_slot);
        }
        self.named_free.push(slot);
    }

    /// Files a record.
    #[inline]
    fn link(&mut self, slot: Slot) {
        if self.filed == self.heads.len() {
            self.add_chains();
        }
        self.filed += 1;
        self.on_paths += usize::from(self.records[slot as usize].node == NodeId::NONE);
        self.chain(slot);
    }

    #[inline]
    fn chain(&mut self, slot: Slot) {
        let record = &mut self.records[slot as usize];
        let at = record.filed_at() as usize & (self.heads.len() - 1);
        record.next = std::mem::replace(&mut self.heads[at], slot);
    }

    fn add_chains(&mut self) {
        let more = self.heads.len() * 2;
        for head in std::mem::replace(&mut self.heads, vec![END; more]) {
            let mut at = head;
            while at != END {
                let next = self.records[at as usize].next;
                self.chain(at);
                at = next;
            }
        }
    }

    /// Takes a record out of where it is filed. Returns whether it was there.
    fn unlink(&mut self, slot: Slot) -> bool {
        let Record { next, node, .. } = self.records[slot as usize];
        let head = self.chain_of(self.records[slot as usize].filed_at());
        let mut at = self.heads[head];
        if at == slot {
            self.heads[head] = next;
        } else {
            while at != END && self.records[at as usize].next != slot {
                at = self.records[at as usize].next;
            }
            let Some(before) = self.records.get_mut(at as usize) else { return false };
            before.next = next;
        }
        self.filed -= 1;
        self.on_paths -= usize::from(node == NodeId::NONE);
        true
    }

    /// Notes that the record at `slot` is a pending ephemeral create of `session`.
    pub fn note_ephemeral(&mut self, session: SessionId, slot: Slot) {
        let record = &self.records[slot as usize];
        let named = &mut self.named[record.named as usize];
        let noted = std::mem::replace(&mut named.noted, session);
        if noted != session {
            self.forget_ephemeral(noted, slot);
            self.ephemerals.entry(session).or_default().push(slot);
        }
    }

    /// Calls `f` with every path that is a pending, not yet applied ephemeral of `session`.
    pub fn ephemerals_of(&self, session: SessionId, mut f: impl FnMut(&str)) {
        for &slot in self.ephemerals.get(&session).into_iter().flatten() {
            let record = &self.records[slot as usize];
            if record.exists && record.view.owner == session.0 {
                f(&self.named(record).path);
            }
        }
    }

    /// The session is gone.
    pub fn forget_session(&mut self, session: SessionId) {
        self.ephemerals.remove(&session);
    }

    /// Transaction `zxid`, which touched `slot`, has been applied.
    pub fn release(&mut self, slot: Slot, zxid: Zxid) {
        if self.records[slot as usize].zxid == zxid {
            self.remove(slot);
        }
    }

    fn forget_ephemeral(&mut self, session: SessionId, slot: Slot) {
        if let Some(slots) = self.ephemerals.get_mut(&session) {
            slots.retain(|&other| other != slot);
            if slots.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        if self.unlink(slot) {
            self.unname(slot);
            self.records[slot as usize].zxid = Record::NEW.zxid;
            self.free.push(slot);
        }
    }

    /// From here on changes, all of transaction `zxid`, can be taken back with
    /// [`PendingView::rollback`].
    pub fn begin_multi(&mut self, zxid: Zxid) {
        invariant!(self.multi.is_none() && self.undo.is_empty(), "{zxid:?} is within a multi");
        self.multi = Some(zxid);
    }

    /// Keeps what the multi changed.
    pub fn keep_multi(&mut self) {
        self.undo.clear();
        self.end_multi();
    }

    fn end_multi(&mut self) {
        invariant!(self.multi.is_some(), "a multi ends that never began");
        self.multi = None;
        // One that touched very many nodes is not paid for ever after.
        self.undo.shrink_to(UNDO_KEPT_MAX);
    }

    /// Takes back everything since [`PendingView::begin_multi`].
    pub fn rollback(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Added(slot) => self.remove(slot),
                Undo::Changed(slot, record, named) => self.restore(slot, record, named),
            }
        }
        self.end_multi();
    }

    fn restore(&mut self, slot: Slot, record: Record, named: Option<Named>) {
        self.unlink(slot);
        match named {
            None => self.unname(slot),
            Some(named) => {
                // What is filed under its path stays there.
                let place = record.named as usize;
                let noted = named.noted;
                let now = std::mem::replace(&mut self.named[place], named).noted;
                if now != noted {
                    self.forget_ephemeral(now, slot);
                    if noted.0 != 0 {
                        self.ephemerals.entry(noted).or_default().push(slot);
                    }
                }
            }
        }
        self.records[slot as usize] = record;
        self.link(slot);
    }
}

fn add_slot<T>(slots: &mut Vec<T>, new: T) -> Slot {
    slots.push(new);
    u32::try_from(slots.len() - 1).expect("fewer than 2^32 pending changes")
}

/// The view of a node that was just created.
pub(super) const fn fresh_view(owner: i64, data_len: i32) -> NodeView {
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

/// Depends on all of the number, lest writes to every thousandth node share a chain.
fn node_hash(node: NodeId) -> u64 {
    spread(node.index() as u64) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::TreeOptions;

    #[test]
    fn a_multi_notes_each_record_once() {
        let tree = Tree::new(TreeOptions::STOCK);
        let mut pending = PendingView::new();
        let key = tree.key("/zookeeper");
        pending.begin_multi(Zxid(2));
        for version in 1..=100 {
            let found = pending.get(&tree, &key).expect("every tree has it");
            let (place, view) = (found.place, NodeView { version, ..found.view });
            pending.change(place, key.hash, Zxid(2), view);
        }
        assert_eq!(pending.undo.len(), 1);
        pending.rollback();
        assert!(pending.is_empty());
    }
}
