//! A look at one node at a time, so that a server whose tree is damaged ends before it tells
//! anybody.
//!
//! Stands for nothing in Apache. All nodes are looked at in turn: with one every 64 turns of the
//! loop and a thousand turns a second, a tree of 10 000 nodes takes eleven minutes.

use crate::base::invariant;

use super::node::NodeId;
use super::owner::OwnerKind;
use super::store::Tree;

impl Tree {
    /// Checks what must always hold of one node, the next at each call, in a time that depends on
    /// the length of its path only.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_next(&mut self) {
        let id = self.next_check;
        self.next_check = if id + 1 < self.nodes.used() { id + 1 } else { 0 };
        let node = self.node(id);
        let is_free = id != 0 && node.name_len() == 0;
        if is_free {
            return;
        }
        invariant!(self.acls.is_used(node.acl), "node {id} uses {:?}, which is dropped", node.acl);
        if id == 0 {
            invariant!(node.parent == 0, "the root is its own parent, not {}", node.parent);
            return;
        }
        let siblings = self.child_list(node.parent).filter(|list| node.pos < list.len());
        let there = siblings.map(|list| list.get(node.pos));
        invariant!(
            there == Some(id),
            "node {id} is child {} of node {}, where {there:?} is",
            node.pos,
            node.parent
        );
        self.check_owner(id);
        self.check_found(id);
    }

    /// Checks that a node is in its owner's list.
    fn check_owner(&self, id: u32) {
        let Some(ext) = self.ext(self.node(id)) else { return };
        let list = match self.owner_kind(ext.owner) {
            OwnerKind::Persistent => return,
            OwnerKind::Container => Some(&self.containers),
            OwnerKind::Ttl(_) => Some(&self.ttls),
            OwnerKind::Ephemeral(session) => self.sessions.get(&session.0),
        };
        let there = list.and_then(|list| list.get(ext.owner_pos as usize));
        invariant!(
            there == Some(&id),
            "node {id} is at {} in the list of its owner {:#x}, where {there:?} is",
            ext.owner_pos,
            ext.owner
        );
    }

    /// Checks that a node is found by its path, which its parent knows up to the last component.
    fn check_found(&mut self, id: u32) {
        let mut path = std::mem::take(&mut self.scratch);
        path.clear();
        let parent = self.ext(self.node(self.node(id).parent));
        path.push_str(parent.and_then(|ext| ext.path.as_deref()).unwrap_or_default());
        path.push('/');
        path.push_str(self.name(id));
        let found = self.find(&self.hasher.key(&path));
        invariant!(found == Some(NodeId(id)), "node {id} is found at {path:?} as {found:?}");
        self.scratch = path;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::tests::{OPTIONS, create};
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new(OPTIONS);
        for (zxid, path) in (1..).zip(["/a", "/a/b", "/a/c", "/d"]) {
            create(&mut tree, zxid, path, b"x");
        }
        tree
    }

    fn holds(tree: &mut Tree) -> bool {
        let round = AssertUnwindSafe(|| (0..tree.nodes.used()).for_each(|_| tree.check_next()));
        catch_unwind(round).is_ok()
    }

    #[test]
    fn a_round_looks_at_every_node() {
        assert!(holds(&mut tree()));
        let spoil: [fn(&mut Tree, u32); 4] = [
            |tree, id| tree.node_mut(id).pos += 1,
            |tree, id| tree.node_mut(id).parent = id,
            |tree, id| tree.ext_mut(id).owner = 7,
            |tree, id| {
                let key = tree.hasher.key("/a/c");
                tree.index.remove(key.hash, id);
            },
        ];
        for (case, spoil) in spoil.iter().enumerate() {
            let mut tree = tree();
            let id = tree.find(&tree.key("/a/c")).expect("just created");
            spoil(&mut tree, id.0);
            assert!(!holds(&mut tree), "case {case}");
        }
    }
}
