//! Lists that may be long: children, own ephemerals, and the number of nodes below one. A list that
//! is too long for one go is made in parts, see [`Parts`].
//!
//! [`Parts`]: super::Parts

use crate::tree::{NodeId, Tree};
use crate::watch::WatchMode;
use crate::wire::{
    ErrorCode, OpCode, PathWatch, Reader, VectorStart, begin_vector, end_vector, put_buffer,
    put_i32, text,
};

use super::parts::{PartEnd, Seen};
use super::read::ReadContext;

/// Cost of a node that is visited: its name.
const NODE_COST: u64 = 15;
/// Cost of a path that is put together.
const PATH_COST: u64 = 80;
/// Owned nodes that are asked for before their turn comes.
pub(super) const EPHEMERALS_AHEAD: usize = 16;
/// Nodes that are counted before it is asked whether the part is over.
const COUNTED_AHEAD: u32 = 64;

/// How far a list has come.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Length of the output before a list of children.
    begun: usize,
    /// Where the number of owned nodes is to be written.
    vector: Option<VectorStart>,
    /// Places of the list that are done; 0 before it begins.
    done: u32,
    /// Of owned nodes those that were listed; of nodes below another one those that were counted.
    count: u32,
    /// The node that was counted last.
    last: Option<NodeId>,
}

impl List {
    /// Whether it has begun and is not through.
    pub fn is_under_way(&self) -> bool {
        self.done > 0
    }
}

/// What tells that a list is not any more as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    /// The node whose children are listed.
    Node(Option<Seen>),
    /// Number of ephemerals that came or went, of whichever session.
    Owned(u64),
    /// Number of nodes that came or went in the whole tree.
    Shape(u64),
}

impl ReadContext<'_> {
    /// The list that the request asks for, as it is now.
    pub(super) fn version(&self, op: OpCode, body: &[u8]) -> Result<Version, ErrorCode> {
        Ok(match op {
            OpCode::GetEphemerals => Version::Owned(self.tree.ephemeral_changes()),
            OpCode::GetAllChildrenNumber => Version::Shape(self.tree.shape()),
            _ => {
                let request = PathWatch::decode_from(&mut Reader::new(body))?;
                Version::Node(self.see(request.path.as_bytes()))
            }
        })
    }

    /// Goes on with a list; true if it is through.
    pub(super) fn list_part(
        &mut self,
        op: OpCode,
        body: &[u8],
        list: &mut List,
        end: PartEnd,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let mut r = Reader::new(body);
        match op {
            OpCode::GetEphemerals => {
                let prefix = r.text("prefixPath")?;
                Ok(self.get_ephemerals(prefix.as_deref().unwrap_or(""), list, end, out))
            }
            OpCode::GetAllChildrenNumber => {
                self.count_descendants(&text(&mut r, "path")?, list, end, out)
            }
            _ => {
                let request = PathWatch::decode_from(&mut r)?;
                self.get_children(&request, op == OpCode::GetChildren2, list, end, out)
            }
        }
    }

    /// Lists children unless there are too many for one go: then it returns false.
    pub(super) fn get_children_at_once(
        &mut self,
        request: &PathWatch<'_>,
        with_stat: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let node = self.find_readable(&self.tree.key(&request.path))?;
        if NODE_COST * u64::from(self.tree.num_children(node)) > self.limit {
            return Ok(false);
        }
        self.list_children(node, request, with_stat, &mut List::default(), PartEnd::NEVER, out);
        Ok(true)
    }

    /// Goes on with a list of children; true if it is through.
    pub(super) fn get_children(
        &mut self,
        request: &PathWatch<'_>,
        with_stat: bool,
        list: &mut List,
        end: PartEnd,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let node = self.find_readable(&self.tree.key(&request.path))?;
        Ok(self.list_children(node, request, with_stat, list, end, out))
    }

    fn list_children(
        &mut self,
        node: NodeId,
        request: &PathWatch<'_>,
        with_stat: bool,
        list: &mut List,
        end: PartEnd,
        out: &mut Vec<u8>,
    ) -> bool {
        let total = self.tree.num_children(node);
        if !list.is_under_way() {
            list.begun = out.len();
            put_i32(out, total as i32);
        }
        while list.done < total {
            if list.is_under_way() && end.is_reached(self.cost, out) {
                return false;
            }
            let next = list.done.saturating_add(Tree::CHILDREN_AHEAD).min(total);
            self.tree.prefetch_children(node, list.done);
            for name in self.tree.children_at(node, list.done..next) {
                put_buffer(out, Some(name));
            }
            self.cost += NODE_COST * u64::from(next - list.done);
            list.done = next;
        }
        // A watch counts from the state that is shown, which is this one.
        if request.watch {
            self.watches.add(self.conn, &self.tree.key(&request.path), WatchMode::Child);
        }
        // Without the lengths of the vector and of each name.
        let lengths = 4 * (1 + total as usize);
        self.count(request.path.as_bytes(), (out.len() - list.begun).saturating_sub(lengths));
        if with_stat {
            self.tree.stat(node).encode_into(out);
        }
        true
    }

    /// Lists own ephemerals unless there are too many for one go: then it returns false.
    pub(super) fn get_ephemerals_at_once(&mut self, prefix: &str, out: &mut Vec<u8>) -> bool {
        let nodes = self.tree.ephemerals(self.session).len();
        PATH_COST * nodes as u64 <= self.limit
            && self.get_ephemerals(prefix, &mut List::default(), PartEnd::NEVER, out)
    }

    /// Goes on with a list of own ephemerals; true if it is through.
    fn get_ephemerals(
        &mut self,
        prefix: &str,
        list: &mut List,
        end: PartEnd,
        out: &mut Vec<u8>,
    ) -> bool {
        let all = matches!(prefix.trim(), "" | "/");
        let vector = *list.vector.get_or_insert_with(|| begin_vector(out));
        let done = list.done as usize;
        let nodes = self.tree.ephemerals_from(self.session, done);
        let mut ahead = self.tree.ephemerals_from(self.session, done + EPHEMERALS_AHEAD);
        for node in nodes {
            let at = list.done as usize;
            if at > done && at.is_multiple_of(EPHEMERALS_AHEAD) && end.is_reached(self.cost, out) {
                return false;
            }
            if let Some(later) = ahead.next() {
                self.tree.prefetch_node(later);
            }
            let (parent, name) = self.tree.path_parts(node);
            if all || is_prefix(prefix.as_bytes(), parent.as_bytes(), name) {
                put_i32(out, (parent.len() + 1 + name.len()) as i32);
                out.extend_from_slice(parent.as_bytes());
                out.push(b'/');
                out.extend_from_slice(name);
                list.count += 1;
            }
            list.done += 1;
            self.cost += PATH_COST;
        }
        end_vector(out, vector, list.count as i32);
        true
    }

    /// Goes on counting the nodes whose path begins with `path` and a slash; true if that is all.
    fn count_descendants(
        &mut self,
        path: &str,
        list: &mut List,
        end: PartEnd,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let top = self.find_readable(&self.tree.key(path))?;
        let count = if top == NodeId::ROOT {
            // They are not walked but known. The root's path begins with its alias and a slash.
            self.tree.count_descendants(top) + usize::from(path.is_empty())
        } else {
            while let Some(node) = self.tree.next_below(top, list.last.unwrap_or(top)) {
                (list.last, list.count) = (Some(node), list.count + 1);
                self.cost += NODE_COST;
                if list.count.is_multiple_of(COUNTED_AHEAD) && end.is_reached(self.cost, out) {
                    return Ok(false);
                }
            }
            list.count as usize
        };
        put_i32(out, i32::try_from(count).unwrap_or(i32::MAX));
        Ok(true)
    }
}

/// Whether `parent`, a slash and `name` together begin with `prefix`.
fn is_prefix(prefix: &[u8], parent: &[u8], name: &[u8]) -> bool {
    match prefix.split_at_checked(parent.len()) {
        None => parent.starts_with(prefix),
        Some((head, [])) => head == parent,
        Some((head, [slash, tail @ ..])) => {
            head == parent && *slash == b'/' && name.starts_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_may_end_anywhere() {
        let (parent, name) = ("/a/bc", "def");
        let whole = format!("{parent}/{name}");
        for end in 0..=whole.len() {
            assert!(is_prefix(&whole.as_bytes()[..end], parent.as_bytes(), name.as_bytes()));
        }
        for other in ["/a/bc/defg", "/b", "/a/bd", "/a/bcd", "/a/bc/e", "a"] {
            assert!(!is_prefix(other.as_bytes(), parent.as_bytes(), name.as_bytes()), "{other}");
        }
        assert!(is_prefix(b"/x", b"", b"xyz"));
    }
}
