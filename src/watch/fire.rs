//! Delivery: which connections hear of a change, in which order, and which watches it uses up.
//!
//! Corresponds to the `triggerWatch` calls in `DataTree.createNode`, `deleteNode` and `setData`,
//! and to `WatchManager.triggerWatch`. Order for one change: the data registry at the path (one-
//! shots, then persistent, then recursive, then recursive watches of ancestors from the root
//! down), the child registry at the path, the child registry at the parent; connections of one
//! group in slot order. Invariant: a connection hears at most once per registry and event, and of
//! a deletion at most once.

use super::set::{CHILD, DATA, Holder, IN_CHILD, IN_DATA, PERSISTENT, RECURSIVE};
use super::watches::{Conn, Watches};
use crate::base::{ConnId, PathHasher, PathKey, invariant};
use crate::wire::EventType;

/// What happened to a znode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
}

/// A registry: who is in it, and which of them an event uses up.
struct Registry {
    /// Flags that put a connection into it.
    members: u8,
    /// The mode that is used up.
    one_shot: u8,
    /// The modes that stay.
    lasting: &'static [u8],
}

const DATA_REGISTRY: Registry =
    Registry { members: IN_DATA, one_shot: DATA, lasting: &[PERSISTENT, RECURSIVE] };
const CHILD_REGISTRY: Registry =
    Registry { members: IN_CHILD, one_shot: CHILD, lasting: &[PERSISTENT] };

impl Watches {
    /// Reports an applied change of the node at `key` to `emit` as (connection, event, path).
    /// `hasher` must be the one that made every key given to [`Watches::add`].
    #[inline]
    pub fn fire(
        &mut self,
        change: Change,
        key: &PathKey,
        hasher: &PathHasher,
        emit: &mut impl FnMut(ConnId, EventType, &str),
    ) {
        match change {
            Change::DataChanged => self.fire_data(EventType::NodeDataChanged, key, hasher, emit),
            Change::Created => {
                self.fire_data(EventType::NodeCreated, key, hasher, emit);
                self.fire_parent(key, hasher, emit);
            }
            Change::Deleted => {
                self.fire_data(EventType::NodeDeleted, key, hasher, emit);
                // The event has the same serial in both registries, so that a connection which the
                // data registry has notified is passed over.
                self.fire_child(EventType::NodeDeleted, key, emit);
                self.fire_parent(key, hasher, emit);
            }
        }
    }

    fn fire_data(
        &mut self,
        event: EventType,
        key: &PathKey,
        hasher: &PathHasher,
        emit: &mut impl FnMut(ConnId, EventType, &str),
    ) {
        self.serial += 1;
        if self.summary().watches == 0 {
            return;
        }
        if let Some(id) = self.paths.find(key.path, key.hash) {
            self.fire_at(id, &DATA_REGISTRY, event, key.path, emit);
        }
        if self.recursive > 0 && !key.is_root() {
            self.fire_ancestors(event, key.path, hasher, emit);
        }
    }

    fn fire_child(
        &mut self,
        event: EventType,
        key: &PathKey,
        emit: &mut impl FnMut(ConnId, EventType, &str),
    ) {
        if self.child_pairs == 0 {
            return;
        }
        if let Some(id) = self.paths.find(key.path, key.hash) {
            self.fire_at(id, &CHILD_REGISTRY, event, key.path, emit);
        }
    }

    fn fire_parent(
        &mut self,
        key: &PathKey,
        hasher: &PathHasher,
        emit: &mut impl FnMut(ConnId, EventType, &str),
    ) {
        self.serial += 1;
        if key.is_root() || self.child_pairs == 0 {
            return;
        }
        self.fire_child(EventType::NodeChildrenChanged, &hasher.parent(key), emit);
    }

    /// Notifies every member of `registry` at one path and takes its one-shots out.
    fn fire_at(
        &mut self,
        path_id: u32,
        registry: &Registry,
        event: EventType,
        path: &str,
        emit: &mut impl FnMut(ConnId, EventType, &str),
    ) {
        let mut send = |conn: ConnId| emit(conn, event, path);
        match self.paths.holder(path_id) {
            Holder::One { slot, flags } => {
                if flags & registry.members == 0 {
                    return;
                }
                notify(&mut self.conns, slot, self.serial, &mut send);
                let left = flags & !(1 << registry.one_shot);
                if left != flags {
                    self.set_flags(path_id, slot, flags, left);
                }
            }
            Holder::Many(index) => {
                let had_data = self.sets[index as usize].has_data();
                if self.sets[index as usize].count(registry.one_shot) > 0 {
                    for slot in self.sets[index as usize].take(registry.one_shot) {
                        notify(&mut self.conns, slot, self.serial, &mut send);
                        let left = self.sets[index as usize].flags(slot);
                        self.account(slot, left | 1 << registry.one_shot, left);
                    }
                }
                for &mode in registry.lasting {
                    for slot in self.sets[index as usize].slots(mode) {
                        notify(&mut self.conns, slot, self.serial, &mut send);
                    }
                }
                self.settle_set(path_id, index, had_data);
            }
            Holder::Vacant => {}
        }
    }

    /// Notifies recursive watchers at the proper ancestors of `path`, the root included.
    fn fire_ancestors(
        &mut self,
        event: EventType,
        path: &str,
        hasher: &PathHasher,
        emit: &mut impl FnMut(ConnId, EventType, &str),
    ) {
        let mut send = |conn: ConnId| emit(conn, event, path);
        self.fire_recursive(&hasher.key("/"), &mut send);
        let mut start = 1;
        while let Some(length) = path.get(start..).and_then(|rest| rest.find('/'))
            && start + length <= self.longest_recursive
        {
            let end = start + length;
            self.fire_recursive(&hasher.key(&path[..end]), &mut send);
            start = end + 1;
        }
    }

    fn fire_recursive(&mut self, ancestor: &PathKey, send: &mut impl FnMut(ConnId)) {
        let Some(id) = self.paths.find(ancestor.path, ancestor.hash) else { return };
        match self.paths.holder(id) {
            Holder::One { slot, flags } if flags >> RECURSIVE & 1 == 1 => {
                notify(&mut self.conns, slot, self.serial, send);
            }
            Holder::Many(index) => {
                for slot in self.sets[index as usize].slots(RECURSIVE) {
                    notify(&mut self.conns, slot, self.serial, send);
                }
            }
            Holder::One { .. } | Holder::Vacant => {}
        }
    }
}

/// Sends to the connection unless the current event has reached it already.
fn notify(conns: &mut [Conn], slot: u32, serial: u64, send: &mut impl FnMut(ConnId)) {
    let conn = &mut conns[slot as usize];
    if conn.mark != serial {
        invariant!(conn.mark < serial, "event {} has not been yet, this is {serial}", conn.mark);
        conn.mark = serial;
        send(conn.id);
    }
}
