//! Lists of nodes: the children of one, everything below one, and what a session owns. Each can be
//! gone through in parts by somebody who notices changes between them.

use std::ops::Range;

use crate::base::SessionId;

use super::node::NodeId;
use super::store::Tree;

impl Tree {
    /// Names of the children, in no particular order. They are text; checking that again would
    /// cost more than all else that a list of children takes.
    pub fn children(&self, id: NodeId) -> impl ExactSizeIterator<Item = &[u8]> {
        self.children_at(id, 0..self.num_children(id))
    }

    /// As [`Tree::children`], those at these places of the list, all of which there are.
    pub fn children_at(
        &self,
        id: NodeId,
        places: Range<u32>,
    ) -> impl ExactSizeIterator<Item = &[u8]> {
        let list = self.child_list(id.0);
        (places.start as usize..places.end as usize)
            .map(move |at| list.map_or(&[][..], |list| self.name_bytes(list.get(at as u32))))
    }

    /// Number of nodes below `id`, without it.
    pub fn count_descendants(&self, id: NodeId) -> usize {
        if id == NodeId::ROOT {
            // As Apache counts them, the root is two.
            return self.node_count() - 2;
        }
        self.subtree(id.0).count() - 1
    }

    /// The node after `at` in a walk over everything below `top`, which begins with `top` itself.
    pub fn next_below(&self, top: NodeId, at: NodeId) -> Option<NodeId> {
        self.after(top.0, at.0).map(NodeId)
    }

    /// `top` and everything below it, parents first.
    pub(super) fn subtree(&self, top: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(top), move |&at| self.after(top, at))
    }

    /// Next node in depth-first order: first child, else next sibling of the nearest ancestor.
    fn after(&self, top: u32, mut at: u32) -> Option<u32> {
        match self.child_list(at) {
            Some(list) if list.len() != 0 => return Some(list.get(0)),
            _ => {}
        }
        while at != top {
            let node = self.node(at);
            let siblings = self.child_list(node.parent)?;
            if node.pos + 1 < siblings.len() {
                return Some(siblings.get(node.pos + 1));
            }
            at = node.parent;
        }
        None
    }

    /// Nodes owned by a session.
    pub fn ephemerals(&self, session: SessionId) -> impl ExactSizeIterator<Item = NodeId> {
        self.ephemerals_from(session, 0)
    }

    /// As [`Tree::ephemerals`], without the first `from` of them.
    pub fn ephemerals_from(
        &self,
        session: SessionId,
        from: usize,
    ) -> impl ExactSizeIterator<Item = NodeId> {
        let list = self.sessions.get(&session.0).map_or(&[][..], |list| list);
        list.get(from..).unwrap_or_default().iter().map(|&id| NodeId(id))
    }
}
