//! Registration, inquiry, removal and counting of watches.
//!
//! Corresponds to `WatchManager` (both instances, data and child) with `WatcherMode` and
//! `IWatchManager`'s dump and summary methods. Invariants: the counters equal what a full scan
//! would find; `Conn::list` names every path the connection watches, plus stale or repeated ids,
//! which are at most as many as the live ones when the list grows.

use hashbrown::HashTable;

use super::paths::Paths;
use super::set::{
    CHILD, DATA, Holder, IN_CHILD, IN_DATA, INDEX_MAX, MODES, PERSISTENT, RECURSIVE, WatcherSet,
};
use crate::base::{ConnId, PathKey, invariant, spread};

/// How a connection watches a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchMode {
    /// One-shot, set by getData and exists: creation, deletion and data changes of the node.
    Data,
    /// One-shot, set by getChildren: deletion of the node and changes of its list of children.
    Child,
    /// Stays until removed; both of the above.
    Persistent,
    /// Stays until removed; creation, deletion and data changes of the node and all below it.
    Recursive,
}

impl WatchMode {
    fn flag(self) -> u8 {
        match self {
            WatchMode::Data => 1 << DATA,
            WatchMode::Child => 1 << CHILD,
            WatchMode::Persistent => 1 << PERSISTENT,
            WatchMode::Recursive => 1 << RECURSIVE,
        }
    }
}

/// What checkWatches and removeWatches ask about (`Watcher.WatcherType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum WatchKind {
    /// The one-shot watch of getChildren.
    Children = 1,
    /// The one-shot watch of getData and exists.
    Data = 2,
    /// Any watch.
    Any = 3,
    /// The persistent watch.
    Persistent = 4,
    /// The persistent recursive watch.
    PersistentRecursive = 5,
}

impl WatchKind {
    /// The kind with this wire value; `None` calls for a marshalling error (-5).
    pub fn from_wire(value: i32) -> Option<WatchKind> {
        Some(match value {
            1 => WatchKind::Children,
            2 => WatchKind::Data,
            3 => WatchKind::Any,
            4 => WatchKind::Persistent,
            5 => WatchKind::PersistentRecursive,
            _ => return None,
        })
    }

    fn flags(self) -> u8 {
        match self {
            WatchKind::Children => 1 << CHILD,
            WatchKind::Data => 1 << DATA,
            WatchKind::Any => IN_DATA | IN_CHILD,
            WatchKind::Persistent => 1 << PERSISTENT,
            WatchKind::PersistentRecursive => 1 << RECURSIVE,
        }
    }
}

/// The figures of `wchs`: data registry only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WatchSummary {
    /// Connections with a watch.
    pub connections: usize,
    /// Watched paths.
    pub paths: usize,
    /// Pairs of path and connection.
    pub watches: usize,
}

/// A connection that watches, or has watched, something.
pub(super) struct Conn {
    pub(super) id: ConnId,
    /// Serial of the event that last reached this connection: one frame per event.
    pub(super) mark: u64,
    /// Paths watched.
    live: u32,
    /// Paths watched in the data registry.
    data: u32,
    /// Path ids, see the module's invariants.
    list: Vec<u32>,
}

/// All watches of a server.
pub struct Watches {
    pub(super) paths: Paths,
    pub(super) sets: Vec<WatcherSet>,
    free_sets: Vec<u32>,
    pub(super) conns: Vec<Conn>,
    free_conns: Vec<u32>,
    slots: HashTable<u32>,
    /// Number of the current event.
    pub(super) serial: u64,
    summary: WatchSummary,
    /// Pairs of path and connection in the child registry.
    pub(super) child_pairs: usize,
    /// Recursive watches.
    pub(super) recursive: usize,
    /// No path of a recursive watch is longer, in bytes: below that nobody looks for one.
    pub(super) longest_recursive: usize,
    /// The path and the connection that [`Watches::check_next`] looks at next.
    next_check: (u32, u32),
}

fn conn_hash(id: ConnId) -> u64 {
    let h = spread(id.0 ^ id.0 >> 32);
    h ^ h >> 32
}

impl Default for Watches {
    fn default() -> Watches {
        Watches::new()
    }
}

impl Watches {
    /// No watches.
    pub fn new() -> Watches {
        Watches {
            paths: Paths::new(),
            sets: Vec::new(),
            free_sets: Vec::new(),
            conns: Vec::new(),
            free_conns: Vec::new(),
            slots: HashTable::new(),
            serial: 0,
            summary: WatchSummary::default(),
            child_pairs: 0,
            recursive: 0,
            longest_recursive: 0,
            next_check: (0, 0),
        }
    }

    /// Registers a watch; a second one of the same mode by the same connection changes nothing.
    /// Any text is accepted as a path and compared literally.
    pub fn add(&mut self, conn: ConnId, key: &PathKey, mode: WatchMode) {
        let slot = self.slot_or_insert(conn);
        if mode == WatchMode::Recursive {
            self.longest_recursive = self.longest_recursive.max(key.path.len());
        }
        let (path_id, old) = match self.paths.find(key.path, key.hash) {
            Some(id) => (id, self.flags(id, slot)),
            None => {
                let holder = Holder::One { slot, flags: mode.flag() };
                let id = self.paths.insert(key.path, key.hash, holder);
                self.summary.paths += usize::from(mode.flag() & IN_DATA != 0);
                self.account(slot, 0, mode.flag());
                self.remember(slot, id);
                return;
            }
        };
        let new = old | mode.flag();
        if new != old {
            self.set_flags(path_id, slot, old, new);
            if old == 0 {
                self.remember(slot, path_id);
            }
        }
    }

    /// Whether `conn` has a watch of this kind at exactly this path.
    pub fn check(&self, conn: ConnId, key: &PathKey, kind: WatchKind) -> bool {
        self.locate(conn, key).is_some_and(|(_, _, flags)| flags & kind.flags() != 0)
    }

    /// Removes the watches of this kind at exactly this path; false if there was none.
    pub fn remove(&mut self, conn: ConnId, key: &PathKey, kind: WatchKind) -> bool {
        let Some((id, slot, flags)) = self.locate(conn, key) else { return false };
        if flags & kind.flags() == 0 {
            return false;
        }
        self.set_flags(id, slot, flags, flags & !kind.flags());
        true
    }

    /// Forgets a connection and its watches, in time proportional to their number.
    pub fn drop_conn(&mut self, conn: ConnId) {
        let Some(slot) = self.find_slot(conn) else { return };
        let list = std::mem::take(&mut self.conns[slot as usize].list);
        for id in list {
            let flags = self.flags(id, slot);
            if flags != 0 {
                self.set_flags(id, slot, flags, 0);
            }
        }
        let left = &self.conns[slot as usize];
        invariant!(left.live == 0, "{conn:?} is gone and watches {} paths", left.live);
        let entry = self.slots.find_entry(conn_hash(conn), |&s| s == slot);
        invariant!(entry.is_ok(), "{conn:?} is filed under the hash of its id");
        if let Ok(entry) = entry {
            entry.remove();
        }
        self.free_conns.push(slot);
    }

    /// The figures of `wchs` (data registry only).
    pub fn summary(&self) -> WatchSummary {
        self.summary
    }

    /// Whether nobody watches anything.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The metric `watch_count`: pairs of path and connection, summed over both registries.
    pub fn count(&self) -> usize {
        self.summary.watches + self.child_pairs
    }

    /// Calls `visit` with each connection in the data registry and its paths (`wchc`), ordered by
    /// when the connections first watched something, as far as their places were not reused.
    pub fn visit_conns(&self, visit: &mut impl FnMut(ConnId, &[&str])) {
        for (slot, conn) in (0u32..).zip(&self.conns) {
            if conn.data == 0 {
                continue;
            }
            let mut ids = conn.list.clone();
            ids.sort_unstable();
            ids.dedup();
            ids.retain(|&id| self.flags(id, slot) & IN_DATA != 0);
            let paths: Vec<&str> = ids.iter().map(|&id| self.paths.path(id)).collect();
            visit(conn.id, &paths);
        }
    }

    /// Calls `visit` with each path of the data registry and its connections (`wchp`).
    pub fn visit_paths(&self, visit: &mut impl FnMut(&str, &[ConnId])) {
        let mut slots: Vec<u32> = Vec::new();
        let mut conns: Vec<ConnId> = Vec::new();
        for id in self.paths.ids() {
            slots.clear();
            match self.paths.holder(id) {
                Holder::One { slot, flags } if flags & IN_DATA != 0 => slots.push(slot),
                Holder::Many(set) => {
                    let set = &self.sets[set as usize];
                    for mode in [DATA, PERSISTENT, RECURSIVE] {
                        slots.extend(set.slots(mode));
                    }
                    slots.sort_unstable();
                    slots.dedup();
                }
                Holder::One { .. } | Holder::Vacant => {}
            }
            if !slots.is_empty() {
                conns.clear();
                conns.extend(slots.iter().map(|&slot| self.conns[slot as usize].id));
                visit(self.paths.path(id), &conns);
            }
        }
    }

    /// Checks what must always hold of one path and one connection, the next at each call, in a
    /// time that does not depend on how many there are.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_next(&mut self) {
        invariant!(
            self.slots.len() + self.free_conns.len() == self.conns.len(),
            "{} connections and {} free places are not {} places",
            self.slots.len(),
            self.free_conns.len(),
            self.conns.len()
        );
        invariant!(self.paths.len() <= self.count(), "each of the watched paths has a watcher");
        invariant!(
            self.recursive > 0 || self.longest_recursive == 0,
            "nobody looks for recursive watches when there are none"
        );
        let (path_id, slot) = self.next_check;
        let path_id = if self.paths.check(path_id) {
            self.check_holder(path_id);
            path_id + 1
        } else {
            0
        };
        let slot = match self.conns.get(slot as usize) {
            Some(conn) => {
                let is_known = conn.live == 0 || self.find_slot(conn.id) == Some(slot);
                invariant!(is_known, "{:?} watches, and is not found", conn.id);
                invariant!(
                    conn.data <= conn.live && conn.live as usize <= conn.list.len(),
                    "{:?} has {} paths with data watches, {} paths, {} listed",
                    conn.id,
                    conn.data,
                    conn.live,
                    conn.list.len()
                );
                slot + 1
            }
            None => 0,
        };
        self.next_check = (path_id, slot);
    }

    /// Checks that those who watch a path are connections that watch.
    fn check_holder(&self, path_id: u32) {
        let first = match self.paths.holder(path_id) {
            Holder::Vacant => return,
            Holder::One { slot, .. } => slot,
            Holder::Many(set) => {
                let set = &self.sets[set as usize];
                invariant!(set.fold(0) == Holder::Many(0), "a set has two watchers or more");
                let mode = (0..MODES).find(|&mode| set.count(mode) > 0).unwrap_or(DATA);
                set.slots(mode).next().unwrap_or(INDEX_MAX)
            }
        };
        let live = self.conns.get(first as usize).map_or(0, |conn| conn.live);
        invariant!(live > 0, "path {path_id} is watched by connection {first}, which does not");
    }

    fn find_slot(&self, conn: ConnId) -> Option<u32> {
        self.slots.find(conn_hash(conn), |&s| self.conns[s as usize].id == conn).copied()
    }

    fn slot_or_insert(&mut self, id: ConnId) -> u32 {
        if let Some(slot) = self.find_slot(id) {
            return slot;
        }
        let conn = Conn { id, mark: 0, live: 0, data: 0, list: Vec::new() };
        let slot = match self.free_conns.pop() {
            Some(slot) => {
                let old = std::mem::replace(&mut self.conns[slot as usize], conn);
                invariant!(old.live == 0, "place {slot} of a connection was free");
                slot
            }
            None => {
                self.conns.push(conn);
                checked_index(self.conns.len() - 1)
            }
        };
        let conns = &self.conns;
        let hash_of = |&s: &u32| conn_hash(conns[s as usize].id);
        self.slots.insert_unique(conn_hash(id), slot, hash_of);
        slot
    }

    /// Path id, slot and flags of an existing registration.
    fn locate(&self, conn: ConnId, key: &PathKey) -> Option<(u32, u32, u8)> {
        let slot = self.find_slot(conn)?;
        let id = self.paths.find(key.path, key.hash)?;
        Some((id, slot, self.flags(id, slot)))
    }

    /// Flags of a connection at a path; zero also for an id that is not in use.
    fn flags(&self, path_id: u32, slot: u32) -> u8 {
        match self.paths.holder(path_id) {
            Holder::One { slot: s, flags } if s == slot => flags,
            Holder::Many(set) => self.sets[set as usize].flags(slot),
            Holder::One { .. } | Holder::Vacant => 0,
        }
    }

    /// Replaces the flags of a connection at a path, which were `old`; the path entry goes with
    /// its last watcher.
    pub(super) fn set_flags(&mut self, path_id: u32, slot: u32, old: u8, new: u8) {
        self.account(slot, old, new);
        match self.paths.holder(path_id) {
            Holder::One { slot: s, flags } if s == slot => {
                invariant!(flags == old, "connection {slot} watches as {flags:b}, not {old:b}");
                let holder = match new {
                    0 => Holder::Vacant,
                    flags => Holder::One { slot, flags },
                };
                self.settle(path_id, flags & IN_DATA != 0, new & IN_DATA != 0, holder);
            }
            Holder::One { slot: first, flags } => {
                invariant!(old == 0, "connection {slot} did not watch path {path_id}");
                let index = self.free_sets.pop().unwrap_or_else(|| {
                    self.sets.push(WatcherSet::default());
                    checked_index(self.sets.len() - 1)
                });
                let set = &mut self.sets[index as usize];
                set.set_flags(first, 0, flags);
                set.set_flags(slot, 0, new);
                let has_data = set.has_data();
                self.settle(path_id, flags & IN_DATA != 0, has_data, Holder::Many(index));
            }
            Holder::Many(index) => {
                let had_data = self.sets[index as usize].has_data();
                self.sets[index as usize].set_flags(slot, old, new);
                self.settle_set(path_id, index, had_data);
            }
            Holder::Vacant => invariant!(false, "path {path_id} is watched by somebody"),
        }
    }

    /// After a set was changed: folds it into the path entry where it became too small.
    pub(super) fn settle_set(&mut self, path_id: u32, index: u32, had_data: bool) {
        let set = &mut self.sets[index as usize];
        let (has_data, holder) = (set.has_data(), set.fold(index));
        if holder != Holder::Many(index) {
            *set = WatcherSet::default();
            self.free_sets.push(index);
        }
        self.settle(path_id, had_data, has_data, holder);
    }

    fn settle(&mut self, path_id: u32, had_data: bool, has_data: bool, holder: Holder) {
        match (had_data, has_data) {
            (false, true) => self.summary.paths += 1,
            (true, false) => self.summary.paths -= 1,
            (true, true) | (false, false) => {}
        }
        if holder == Holder::Vacant {
            self.paths.remove(path_id);
        } else {
            self.paths.set_holder(path_id, holder);
        }
    }

    /// Keeps the counters when a connection's flags at one path go from `old` to `new`.
    pub(super) fn account(&mut self, slot: u32, old: u8, new: u8) {
        let conn = &mut self.conns[slot as usize];
        match (old & IN_DATA != 0, new & IN_DATA != 0) {
            (false, true) => {
                self.summary.watches += 1;
                self.summary.connections += usize::from(conn.data == 0);
                conn.data += 1;
            }
            (true, false) => {
                self.summary.watches -= 1;
                conn.data -= 1;
                self.summary.connections -= usize::from(conn.data == 0);
            }
            (true, true) | (false, false) => {}
        }
        match (old & IN_CHILD != 0, new & IN_CHILD != 0) {
            (false, true) => self.child_pairs += 1,
            (true, false) => self.child_pairs -= 1,
            (true, true) | (false, false) => {}
        }
        match (old >> RECURSIVE & 1, new >> RECURSIVE & 1) {
            (0, 1) => self.recursive += 1,
            (1, 0) => {
                self.recursive -= 1;
                if self.recursive == 0 {
                    self.longest_recursive = 0;
                }
            }
            _ => {}
        }
        match (old != 0, new != 0) {
            (false, true) => conn.live += 1,
            (true, false) => {
                conn.live -= 1;
                if conn.live == 0 {
                    conn.list.clear();
                }
            }
            (true, true) | (false, false) => {}
        }
        invariant!(conn.data <= conn.live, "{} of {} watched paths", conn.data, conn.live);
    }

    /// Puts a path id on the connection's list. Ids of fired watches are left there and swept
    /// only when the list is full and at most half of it is live: constant cost per watch.
    fn remember(&mut self, slot: u32, path_id: u32) {
        let conn = &mut self.conns[slot as usize];
        if conn.list.len() == conn.list.capacity() && conn.live as usize <= conn.list.len() / 2 {
            let mut list = std::mem::take(&mut conn.list);
            list.sort_unstable();
            list.dedup();
            list.retain(|&id| self.flags(id, slot) != 0);
            self.conns[slot as usize].list = list;
        }
        let conn = &mut self.conns[slot as usize];
        conn.list.push(path_id);
        invariant!(
            conn.live as usize <= conn.list.len(),
            "each of {} watched paths is listed, {} are",
            conn.live,
            conn.list.len()
        );
    }

    /// Length of the longest list of path ids.
    #[cfg(test)]
    pub(super) fn longest_list(&self) -> usize {
        self.conns.iter().map(|conn| conn.list.len()).max().unwrap_or(0)
    }

    /// Verifies every counter and cross reference by a full scan.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut found = WatchSummary::default();
        let (mut child, mut recursive) = (0, 0);
        let mut live = vec![(0u32, 0u32); self.conns.len()];
        for id in self.paths.ids() {
            if let Holder::Many(set) = self.paths.holder(id) {
                self.sets[set as usize].check();
            }
            let mut in_data = false;
            for slot in 0..self.conns.len() as u32 {
                let flags = self.flags(id, slot);
                live[slot as usize].0 += u32::from(flags != 0);
                live[slot as usize].1 += u32::from(flags & IN_DATA != 0);
                found.watches += usize::from(flags & IN_DATA != 0);
                child += usize::from(flags & IN_CHILD != 0);
                recursive += usize::from(flags >> RECURSIVE & 1);
                in_data |= flags & IN_DATA != 0;
                assert!(flags == 0 || self.conns[slot as usize].list.contains(&id), "listed");
            }
            found.paths += usize::from(in_data);
        }
        for (conn, &(live, data)) in self.conns.iter().zip(&live) {
            assert_eq!((conn.live, conn.data), (live, data), "{:?}", conn.id);
            assert!(live > 0 || conn.list.is_empty(), "nothing stale without live watches");
            found.connections += usize::from(data > 0);
        }
        assert_eq!((self.summary, self.child_pairs, self.recursive), (found, child, recursive));
        assert_eq!(self.slots.len() + self.free_conns.len(), self.conns.len());
    }
}

/// An index that fits the packed word.
fn checked_index(index: usize) -> u32 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    invariant!(index <= INDEX_MAX, "more than {INDEX_MAX} watching connections or shared paths");
    index
}
