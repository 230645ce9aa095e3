//! The fixed-size part of a node and its optional extension record.

use super::acl_table::AclId;
use super::children::ChildList;
use super::slab::{NONE, Slot};

/// Handle of a node. Valid until the node is deleted; ids are reused, so it must not be kept
/// across applied transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The root, which always exists.
    pub const ROOT: NodeId = NodeId(0);
    /// No node.
    pub const NONE: NodeId = NodeId(NONE);

    /// A small number that tells nodes apart, for tables. Reused after the node was deleted.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Longest node name in bytes; frames are far smaller.
pub(super) const NAME_MAX: usize = (1 << 24) - 1;

/// Flag: part of the tree digest.
pub(super) const DIGESTED: u32 = 1 << 24;
/// Flag: ctime and mtime do not fit 48 bits and are in the extension record.
pub(super) const TIMES_IN_EXT: u32 = 1 << 25;

fn is_short(time: i64) -> bool {
    (0..1 << 48).contains(&time)
}

/// One node. Times are 48-bit; name and data are `blob[..name_len]` and `blob[name_len..]`.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Node {
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) ctime_low: u32,
    pub(super) mtime_low: u32,
    pub(super) ctime_high: u16,
    pub(super) mtime_high: u16,
    pub(super) version: i32,
    /// The root is its own parent.
    pub(super) parent: u32,
    /// Position in the parent's child list; link to the next free slot when free.
    pub(super) pos: u32,
    pub(super) acl: AclId,
    /// -1 for null data.
    pub(super) data_len: i32,
    /// Name length in the low 24 bits, flags above.
    pub(super) name_bits: u32,
    pub(super) blob: u32,
    /// Slot of the extension record or `NONE`.
    pub(super) ext: u32,
    /// This node's share of the tree digest.
    pub(super) crc: u32,
}

const _: () = assert!(size_of::<Node>() == 64);

impl Default for Node {
    fn default() -> Node {
        Node {
            czxid: 0,
            mzxid: 0,
            ctime_low: 0,
            mtime_low: 0,
            ctime_high: 0,
            mtime_high: 0,
            version: 0,
            parent: 0,
            pos: NONE,
            acl: AclId::OPEN,
            data_len: 0,
            name_bits: 0,
            blob: NONE,
            ext: NONE,
            crc: 0,
        }
    }
}

impl Slot for Node {
    fn next_free(&self) -> u32 {
        self.pos
    }
    fn set_free(&mut self, next: u32) {
        self.pos = next;
        // No name, which all nodes but the root have: see `Tree::check_next`.
        self.name_bits = 0;
    }
}

impl Node {
    #[inline]
    pub(super) fn name_len(&self) -> usize {
        (self.name_bits & (DIGESTED - 1)) as usize
    }

    #[inline]
    pub(super) fn data_size(&self) -> usize {
        usize::try_from(self.data_len).unwrap_or(0)
    }

    #[inline]
    pub(super) fn blob_len(&self) -> usize {
        self.name_len() + self.data_size()
    }

    #[inline]
    pub(super) fn has(&self, flag: u32) -> bool {
        self.name_bits & flag != 0
    }

    /// The times as stored here; meaningless with [`TIMES_IN_EXT`].
    #[inline]
    pub(super) fn short_times(&self) -> (i64, i64) {
        let join = |low: u32, high: u16| (i64::from(high) << 32) | i64::from(low);
        (join(self.ctime_low, self.ctime_high), join(self.mtime_low, self.mtime_high))
    }

    /// Stores the times if both fit 48 bits; otherwise changes nothing and says so.
    pub(super) fn set_short_times(&mut self, ctime: i64, mtime: i64) -> bool {
        if !is_short(ctime) || !self.set_mtime(mtime) {
            return false;
        }
        (self.ctime_low, self.ctime_high) = (ctime as u32, (ctime >> 32) as u16);
        true
    }

    /// Stores the time of the last change if it fits 48 bits; otherwise changes nothing and says
    /// so.
    #[inline]
    pub(super) fn set_mtime(&mut self, mtime: i64) -> bool {
        if is_short(mtime) {
            (self.mtime_low, self.mtime_high) = (mtime as u32, (mtime >> 32) as u16);
        }
        is_short(mtime)
    }
}

/// What only some nodes need: those that have or had children, an owner, a changed ACL, or odd
/// values. Without it: no children, cversion 0, aversion 0, owner 0, pzxid = czxid.
#[derive(Debug, Default)]
pub(super) struct Ext {
    /// Raw owner: 0, session id, container mark or TTL encoding.
    pub(super) owner: i64,
    pub(super) pzxid: i64,
    /// Both only with `TIMES_IN_EXT`.
    pub(super) ctime: i64,
    pub(super) mtime: i64,
    pub(super) children: ChildList,
    /// Children ever created.
    pub(super) cversion: i32,
    pub(super) aversion: i32,
    /// Position in the list of the owner (session, containers or TTL nodes); free-slot link.
    pub(super) owner_pos: u32,
    /// Path of a node that has or had children, so that a look-up below compares two texts instead
    /// of a name for each level; the root's path is empty here.
    pub(super) path: Option<Box<str>>,
    /// CRC of path and data, so that a change below does not hash them again.
    pub(super) prefix_crc: Option<u32>,
}

impl Ext {
    /// What it holds besides itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.children.heap_bytes() + self.path.as_deref().map_or(0, str::len)
    }
}

impl Slot for Ext {
    fn next_free(&self) -> u32 {
        self.owner_pos
    }
    fn set_free(&mut self, next: u32) {
        *self = Ext { owner_pos: next, ..Ext::default() };
    }
}
