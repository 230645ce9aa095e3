//! Writing the tree out while it changes (`SerializeUtils.serializeSnapshot`): a depth-first walk
//! in slices, with transactions applied between the slices.
//!
//! Guarantee: every node that exists when the walk begins and is not deleted before its turn is
//! emitted exactly once, after its parent; nodes created since are not. The result is fuzzy (a
//! node shows its state at its turn), which the replay rules of `apply` make good.
//!
//! How: positions below a frame's cursor are still to be visited; `Tree::remove_child` keeps that
//! true, new children are appended above every cursor.

use crate::base::Zxid;
use crate::wire::{AclBytes, PersistedStat};

use super::children::ChildList;
use super::node::NodeId;
use super::store::Tree;

#[derive(Debug)]
struct Frame {
    node: u32,
    /// Children at positions below this are still to be visited.
    cursor: u32,
    /// Length of the path of `node`.
    path_len: usize,
}

/// A walk under way; part of the tree, so that changes can keep it right.
#[derive(Debug)]
pub(super) struct WalkState {
    at: Zxid,
    /// ACLs with this id in snapshots or above are younger than the walk.
    acl_limit: i64,
    /// Id in the snapshot's ACL map of the list that grants nothing.
    closed_acl: i64,
    begun: bool,
    frames: Vec<Frame>,
    path: String,
}

impl WalkState {
    pub(super) fn cursor_in(&mut self, node: u32) -> Option<&mut u32> {
        self.frames.iter_mut().find(|f| f.node == node).map(|f| &mut f.cursor)
    }
}

/// Handle of a walk. Give it back with [`Tree::end_walk`] if it is dropped before it is done.
#[derive(Debug)]
#[must_use = "an unfinished walk slows down deletes"]
pub struct Walk {
    slot: usize,
    done: bool,
}

/// A node as snapshots store it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeRecord<'a> {
    /// Path; empty for the root.
    pub path: &'a str,
    /// Null stays null.
    pub data: Option<&'a [u8]>,
    /// Id in the ACL map, or -1 for the open ACL. A node whose ACL is younger than the walk has the
    /// id of a list that grants nothing: the map was written before that ACL was known. The setACL
    /// in the log sets it again; without the log, nobody but a superuser gets at the node.
    pub acl_id: i64,
    /// Stored fields.
    pub stat: PersistedStat,
}

/// What a record costs beside its path and data.
const RECORD_BYTES: usize = 76;

impl Tree {
    /// The ACL map of the snapshot that a walk is for: ids ascending, without the open list. To be
    /// taken before the next transaction is applied.
    pub fn acls_of_walk(&self, walk: &Walk) -> Vec<(i64, AclBytes<'_>)> {
        let mut acls = self.acls.in_use();
        if let Some(state) = &self.walks[walk.slot] {
            acls.insert(state.closed_acl, AclBytes::NOTHING);
        }
        acls.into_iter().collect()
    }

    /// Begins a walk of the tree as of `at`, the last applied zxid. Take
    /// [`acls_of_walk`](Tree::acls_of_walk) before the next transaction is applied.
    pub fn begin_walk(&mut self, at: Zxid) -> Walk {
        let (acl_limit, closed_acl) = self.acls.begin_snapshot();
        let state = WalkState {
            at,
            acl_limit,
            closed_acl,
            begun: false,
            frames: Vec::new(),
            path: String::new(),
        };
        if let Some(slot) = self.walks.iter().position(Option::is_none) {
            self.walks[slot] = Some(state);
            return Walk { slot, done: false };
        }
        self.walks.push(Some(state));
        Walk { slot: self.walks.len() - 1, done: false }
    }

    /// Gives up a walk.
    pub fn end_walk(&mut self, walk: Walk) {
        if !walk.done {
            self.drop_walk(walk.slot);
        }
    }

    fn drop_walk(&mut self, slot: usize) {
        if let Some(state) = self.walks.get_mut(slot) {
            *state = None;
        }
        while self.walks.last().is_some_and(Option::is_none) {
            self.walks.pop();
        }
    }

    /// A node is about to be deleted: its frame and those below go.
    pub(super) fn forget_in_walks(&mut self, node: u32) {
        for walk in self.walks.iter_mut().flatten() {
            if let Some(depth) = walk.frames.iter().position(|f| f.node == node) {
                walk.frames.truncate(depth);
            }
        }
    }
}

impl Walk {
    /// Emits nodes until about `max_bytes` of record bytes are out (at least one node); true when
    /// the walk is complete.
    ///
    /// # Panics
    /// When `tree` is not the tree that the walk began on: going on would publish a truncated
    /// snapshot. Drop the walks of a tree with the tree.
    pub fn step(
        &mut self,
        tree: &mut Tree,
        max_bytes: usize,
        emit: &mut impl FnMut(NodeRecord<'_>),
    ) -> bool {
        if self.done {
            return true;
        }
        let state = tree.walks.get_mut(self.slot).and_then(Option::take);
        let mut state = state.expect("a walk goes on in the tree that it began on");
        let mut bytes = 0;
        if !state.begun {
            state.begun = true;
            bytes += state.visit(tree, 0, emit);
        }
        // At least one look per call, so that a tiny budget still makes progress.
        while let Some(id) = state.next(tree) {
            if tree.node(id).czxid <= state.at.0 {
                bytes += state.visit(tree, id, emit);
            }
            if bytes >= max_bytes {
                break;
            }
        }
        self.done = state.frames.is_empty();
        tree.walks[self.slot] = Some(state);
        if self.done {
            tree.drop_walk(self.slot);
        }
        self.done
    }
}

impl WalkState {
    /// The next unvisited node; leaves the frames of exhausted ones.
    fn next(&mut self, tree: &Tree) -> Option<u32> {
        while let Some(frame) = self.frames.last_mut() {
            if frame.cursor > 0 {
                frame.cursor -= 1;
                return tree.child_list(frame.node).map(|list| list.get(frame.cursor));
            }
            self.frames.pop();
        }
        None
    }

    fn visit(&mut self, tree: &Tree, id: u32, emit: &mut impl FnMut(NodeRecord<'_>)) -> usize {
        self.path.truncate(self.frames.last().map_or(0, |f| f.path_len));
        if id != 0 {
            self.path.push('/');
            self.path.push_str(tree.name(id));
        }
        let acl_id = tree.acls.file_id(tree.node(id).acl);
        let data = tree.data(NodeId(id));
        emit(NodeRecord {
            path: &self.path,
            data,
            acl_id: if acl_id < self.acl_limit { acl_id } else { self.closed_acl },
            stat: tree.persisted(NodeId(id)),
        });
        let cursor = tree.child_list(id).map_or(0, ChildList::len);
        if cursor > 0 {
            self.frames.push(Frame { node: id, cursor, path_len: self.path.len() });
        }
        self.path.len() + data.map_or(0, <[u8]>::len) + RECORD_BYTES
    }
}
