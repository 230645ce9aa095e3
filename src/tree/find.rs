//! Looking nodes up by path, and fetching what coming look-ups will need.

use crate::base::PathKey;

use super::node::NodeId;
use super::store::Tree;

/// Equality of names, which are mostly so short that calling out costs more than comparing.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a0), Some(b0), Some(a1), Some(b1)) if a.len() <= 16 => a0 == b0 && a1 == b1,
        (None, None, None, None) => a.iter().zip(b).all(|(a, b)| a == b),
        _ => a == b,
    }
}

impl Tree {
    /// The node at a path; `""` and `"/"` are the root, malformed paths match nothing.
    #[inline]
    pub fn find(&self, key: &PathKey<'_>) -> Option<NodeId> {
        self.find_at(key.hash, key.path.as_bytes())
    }

    /// As [`Tree::find`], for bytes that may be no text: then they lead to no node.
    #[inline]
    pub fn find_bytes(&self, path: &[u8]) -> Option<NodeId> {
        self.find_at(self.hasher.path_bytes(path), path)
    }

    /// The node at the text before the last `/`; the root is its own parent.
    #[inline]
    pub fn find_parent(&self, key: &PathKey<'_>) -> Option<NodeId> {
        if !key.path.is_empty() && !key.path.contains('/') {
            return None;
        }
        self.find(&self.hasher.parent(key))
    }

    /// As [`Tree::find_bytes`], where the hash is at hand.
    #[inline]
    pub fn find_at(&self, hash: u64, path: &[u8]) -> Option<NodeId> {
        if matches!(path, b"" | b"/") {
            return Some(NodeId::ROOT);
        }
        self.index.find(hash, |id| self.is_path_of(id, path)).map(NodeId)
    }

    /// Whether the node's own name is the last component of `path`.
    pub(super) fn is_named(&self, id: NodeId, path: &[u8]) -> bool {
        let node = self.nodes.get(id.0);
        let name = &self.blobs.get(node.blob, node.blob_len())[..node.name_len()];
        let at = path.len().checked_sub(name.len());
        at.is_some_and(|at| is_same(&path[at..], name))
    }

    /// Asks for a node without waiting for it: the first of two steps, each of which takes as long
    /// as memory does, so that there is time for other work in between.
    #[inline]
    pub fn prefetch_node(&self, id: NodeId) {
        self.nodes.prefetch(id.0);
    }

    /// Asks for names and data of these nodes without waiting for them: the second step. The nodes
    /// themselves are waited for.
    #[inline]
    pub fn prefetch_data(&self, ids: impl IntoIterator<Item = NodeId>) {
        for id in ids {
            let node = self.nodes.get(id.0);
            self.blobs.prefetch(node.blob, node.blob_len());
        }
    }

    /// Asks for the names of children from position `at` on without waiting for them, and for the
    /// nodes of those after them: called for every [`CHILDREN_AHEAD`] children, it makes a long
    /// list several times as fast.
    ///
    /// [`CHILDREN_AHEAD`]: Tree::CHILDREN_AHEAD
    pub fn prefetch_children(&self, id: NodeId, at: u32) {
        let Some(list) = self.child_list(id.0) else { return };
        let near = at.saturating_add(Tree::CHILDREN_AHEAD).min(list.len());
        let far = near.saturating_add(Tree::CHILDREN_AHEAD).min(list.len());
        (near..far).for_each(|at| self.prefetch_node(NodeId(list.get(at))));
        self.prefetch_data((at..near).map(|at| NodeId(list.get(at))));
    }

    /// Children that [`Tree::prefetch_children`] asks for.
    pub const CHILDREN_AHEAD: u32 = 16;

    /// The path of a node other than the root, in two parts: up to its last slash, and from there
    /// on, both without that slash.
    pub fn path_parts(&self, id: NodeId) -> (&str, &[u8]) {
        let parent = self.ext(self.node(self.node(id.0).parent));
        (parent.and_then(|ext| ext.path.as_deref()).unwrap_or_default(), self.name_bytes(id.0))
    }

    /// The node, if any, that a look-up under a hash will most likely find. The look-up that
    /// follows does not search again, unless too many others came between.
    #[inline]
    pub fn candidate(&mut self, hash: u64) -> Option<NodeId> {
        self.index.candidate(hash).map(NodeId)
    }

    /// Prefetches all that look-ups under these hashes will need: first nodes, then their data.
    pub fn touch_paths(&mut self, hashes: &[u64]) {
        let mut ids = [NodeId::ROOT; 16];
        for some in hashes.chunks(ids.len()) {
            for (id, &hash) in ids.iter_mut().zip(some) {
                *id = self.candidate(hash).unwrap_or(NodeId::ROOT);
                self.prefetch_node(*id);
            }
            self.prefetch_data(ids[..some.len()].iter().copied());
        }
    }

    /// Compares the last component with the node's name, and the rest with the parent's path.
    #[inline]
    fn is_path_of(&self, id: u32, path: &[u8]) -> bool {
        let node = self.nodes.get(id);
        let name = &self.blobs.get(node.blob, node.blob_len())[..node.name_len()];
        let Some((head, [b'/', tail @ ..])) =
            path.len().checked_sub(name.len() + 1).and_then(|at| path.split_at_checked(at))
        else {
            return false;
        };
        let parent = self.ext(self.node(node.parent)).and_then(|ext| ext.path.as_deref());
        is_same(tail, name) && parent.is_some_and(|parent| is_same(head, parent.as_bytes()))
    }
}
