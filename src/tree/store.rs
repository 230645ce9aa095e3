//! The tree itself: node storage, lookups, and the primitive changes that `apply` and `load` are
//! made of.
//!
//! Invariants: the root is slot 0 and is its own parent; each other node is at `pos` of its
//! parent's child list and in the index under the hash of its path; `digest` is the sum of the
//! nodes' `crc`s; every owner's list holds exactly the nodes with that owner.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{PathHasher, PathKey, SessionId, Zxid, invariant};
use crate::wire::{Acl, AclBytes, Perms, PersistedStat, Stat, put_i32};

use super::acl_table::{AclId, AclTable};
use super::blob::BlobArena;
use super::children::ChildList;
use super::digest::{Gathered, finish_crc, is_digested, node_crc, prefix_crc, zero_crc};
use super::index::PathIndex;
use super::node::{DIGESTED, Ext, NAME_MAX, Node, NodeId, TIMES_IN_EXT};
use super::owner::OwnerKind;
use super::quota::Quotas;
use super::slab::{NONE, Slab};
use super::walk::WalkState;

/// How a tree reads owners and whether it keeps a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeOptions {
    /// `zookeeper.extendedTypesEnabled`: TTL owners are recognised.
    pub extended_types: bool,
    /// `zookeeper.emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// `zookeeper.digest.enabled`; without it the digest is always 0.
    pub digest: bool,
    /// Seed of path hashes, drawn once per process.
    pub hash_seed: u64,
}

impl TreeOptions {
    /// As Apache's default configuration has it, with a seed that is always the same.
    pub const STOCK: TreeOptions =
        TreeOptions { extended_types: false, emulate_353_ttl: false, digest: true, hash_seed: 1 };
}

/// What the prepare stage wants to know of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Data version.
    pub version: i32,
    /// Children ever created: the next sequential suffix.
    pub cversion: i32,
    /// ACL version.
    pub aversion: i32,
    /// Present children.
    pub num_children: i32,
    /// Raw owner.
    pub owner: i64,
    /// The ACL.
    pub acl: AclId,
    /// Data length in bytes, -1 for null.
    pub data_len: i32,
}

/// Heap use in bytes, by part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryUse {
    /// Fixed-size node records.
    pub nodes: usize,
    /// Extension records.
    pub extensions: usize,
    /// Names and data.
    pub blobs: usize,
    /// Path index.
    pub index: usize,
    /// Child lists.
    pub children: usize,
    /// ACL table.
    pub acls: usize,
}

impl MemoryUse {
    /// All parts together.
    pub fn total(&self) -> usize {
        self.nodes + self.extensions + self.blobs + self.index + self.children + self.acls
    }
}

/// The znode tree.
#[derive(Debug)]
pub struct Tree {
    pub(super) options: TreeOptions,
    pub(super) hasher: PathHasher,
    pub(super) nodes: Slab<Node, 1024>,
    exts: Slab<Ext, 128>,
    pub(super) blobs: BlobArena,
    pub(super) index: PathIndex,
    pub(super) acls: AclTable,
    pub(super) sessions: BTreeMap<i64, Vec<u32>>,
    pub(super) containers: Vec<u32>,
    pub(super) ttls: Vec<u32>,
    pub(super) quotas: Quotas,
    pub(super) walks: Vec<Option<WalkState>>,
    node_count: usize,
    /// Nodes that came or went.
    shape: u64,
    /// See [`Tree::ephemeral_changes`].
    ephemeral_changes: u64,
    ephemerals: usize,
    data_size: u64,
    children_bytes: usize,
    digest: u64,
    zero_crc: crc32fast::Hasher,
    /// The node, if any, whose `crc` and share of `digest` do not count its last setData yet; the
    /// input of the new CRC is in `gathered`. It was just stored, so reading it would wait for it:
    /// the CRC is taken at the next setData, or when somebody asks for the digest.
    overdue: u32,
    gathered: Gathered,
    pub(super) digest_log: VecDeque<(Zxid, u64)>,
    /// Reused path buffer.
    pub(super) scratch: String,
    /// The slot that [`Tree::check_next`] looks at next.
    pub(super) next_check: u32,
}

const SYSTEM_NODES: [&str; 3] = ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

impl Tree {
    /// A fresh database: the root and the three system nodes.
    pub fn new(options: TreeOptions) -> Tree {
        let mut tree = Tree::with_root(options);
        tree.add_system_nodes();
        tree
    }

    /// A tree with nothing but the root.
    pub(super) fn with_root(options: TreeOptions) -> Tree {
        let hasher = PathHasher::new(options.hash_seed);
        let mut tree = Tree {
            options,
            hasher,
            nodes: Slab::new(),
            exts: Slab::new(),
            blobs: BlobArena::new(),
            index: PathIndex::new(),
            acls: AclTable::new(hasher),
            sessions: BTreeMap::new(),
            containers: Vec::new(),
            ttls: Vec::new(),
            quotas: Quotas::default(),
            walks: Vec::new(),
            node_count: 1,
            shape: 0,
            ephemeral_changes: 0,
            ephemerals: 0,
            data_size: 0,
            children_bytes: 0,
            digest: 0,
            zero_crc: zero_crc(),
            overdue: NONE,
            gathered: Gathered::default(),
            digest_log: VecDeque::new(),
            scratch: String::new(),
            next_check: 0,
        };
        tree.nodes.insert(Node { name_bits: DIGESTED, ..Node::default() });
        tree.refresh_digest(0, "");
        tree
    }

    /// Adds what a database must have. Old snapshots lack `/zookeeper/config`.
    pub(super) fn add_system_nodes(&mut self) {
        let mut read_only = Vec::new();
        put_i32(&mut read_only, 1);
        let (scheme, id) = (Some("world".into()), Some("anyone".into()));
        Acl { perms: Perms::READ, scheme, id }.encode_into(&mut read_only);
        let read_only = AclBytes::parse(&read_only).unwrap_or(AclBytes::OPEN);
        for path in SYSTEM_NODES {
            let key = self.hasher.key(path);
            let (None, Some(parent)) = (self.find(&key), self.find_parent(&key)) else { continue };
            let config = path == "/zookeeper/config";
            let acl = if config { self.acls.intern(read_only) } else { AclId::OPEN };
            let aversion = if config { -1 } else { 0 };
            let stat = PersistedStat { aversion, ..PersistedStat::default() };
            self.insert(&key, parent.0, Some(b""), acl, &stat);
        }
    }

    /// The hash of this tree's paths.
    pub fn hasher(&self) -> PathHasher {
        self.hasher
    }

    /// Hashes `path` for the lookups below.
    pub fn key<'a>(&self, path: &'a str) -> PathKey<'a> {
        self.hasher.key(path)
    }

    /// The options it was made with.
    pub fn options(&self) -> TreeOptions {
        self.options
    }

    #[inline]
    pub(super) fn node(&self, id: u32) -> &Node {
        self.nodes.get(id)
    }

    #[inline]
    pub(super) fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(id)
    }

    #[inline]
    pub(super) fn ext(&self, node: &Node) -> Option<&Ext> {
        (node.ext != NONE).then(|| self.exts.get(node.ext))
    }

    pub(super) fn child_list(&self, id: u32) -> Option<&ChildList> {
        self.ext(self.node(id)).map(|ext| &ext.children)
    }

    /// The extension record, made if missing.
    pub(super) fn ext_mut(&mut self, id: u32) -> &mut Ext {
        let node = self.nodes.get_mut(id);
        if node.ext == NONE {
            node.ext = self.exts.insert(Ext { pzxid: node.czxid, ..Ext::default() });
        }
        self.exts.get_mut(node.ext)
    }

    pub(super) fn name(&self, id: u32) -> &str {
        std::str::from_utf8(self.name_bytes(id)).unwrap_or_default()
    }

    #[inline]
    pub(super) fn name_bytes(&self, id: u32) -> &[u8] {
        let node = self.node(id);
        &self.blobs.get(node.blob, node.blob_len())[..node.name_len()]
    }

    fn times(&self, node: &Node) -> (i64, i64) {
        match self.ext(node) {
            Some(ext) if node.has(TIMES_IN_EXT) => (ext.ctime, ext.mtime),
            _ => node.short_times(),
        }
    }

    /// The stored fields.
    #[inline(always)]
    pub fn persisted(&self, id: NodeId) -> PersistedStat {
        let node = self.node(id.0);
        let (ctime, mtime) = self.times(node);
        let mut stat = PersistedStat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime,
            mtime,
            version: node.version,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            pzxid: node.czxid,
        };
        if let Some(ext) = self.ext(node) {
            stat.cversion = ext.cversion;
            stat.aversion = ext.aversion;
            stat.ephemeral_owner = ext.owner;
            stat.pzxid = ext.pzxid;
        }
        stat
    }

    /// The fields as clients see them.
    pub fn stat(&self, id: NodeId) -> Stat {
        self.shown(id, &self.persisted(id))
    }

    /// Stored fields as clients see them.
    #[inline(always)]
    pub(super) fn shown(&self, id: NodeId, stat: &PersistedStat) -> Stat {
        let node = self.node(id.0);
        let num_children = self.ext(node).map_or(0, |ext| ext.children.len() as i32);
        let owner = match stat.ephemeral_owner {
            0 => 0,
            owner => match self.owner_kind(owner) {
                OwnerKind::Ephemeral(session) => session.0,
                OwnerKind::Persistent | OwnerKind::Container | OwnerKind::Ttl(_) => 0,
            },
        };
        Stat {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            cversion: stat.cversion.wrapping_mul(2).wrapping_sub(num_children),
            aversion: stat.aversion,
            ephemeral_owner: owner,
            data_length: node.data_len.max(0),
            num_children,
            pzxid: stat.pzxid,
        }
    }

    /// The few fields that preparing a write needs.
    pub fn view(&self, id: NodeId) -> NodeView {
        let node = self.node(id.0);
        let mut view = NodeView {
            version: node.version,
            cversion: 0,
            aversion: 0,
            num_children: 0,
            owner: 0,
            acl: node.acl,
            data_len: node.data_len,
        };
        if let Some(ext) = self.ext(node) {
            view.cversion = ext.cversion;
            view.aversion = ext.aversion;
            view.num_children = ext.children.len() as i32;
            view.owner = ext.owner;
        }
        view
    }

    /// What kind of node a raw owner makes under this tree's options.
    pub fn owner_kind(&self, owner: i64) -> OwnerKind {
        let TreeOptions { extended_types, emulate_353_ttl, .. } = self.options;
        OwnerKind::classify(owner, extended_types, emulate_353_ttl)
    }

    /// The data; `None` is null.
    #[inline]
    pub fn data(&self, id: NodeId) -> Option<&[u8]> {
        let node = self.node(id.0);
        if node.data_len < 0 {
            return None;
        }
        Some(&self.blobs.get(node.blob, node.blob_len())[node.name_len()..])
    }

    /// The ACL.
    #[inline]
    pub fn acl(&self, id: NodeId) -> AclId {
        self.node(id.0).acl
    }

    /// The interned ACLs.
    pub fn acls(&self) -> &AclTable {
        &self.acls
    }

    /// Number of children.
    pub fn num_children(&self, id: NodeId) -> u32 {
        self.child_list(id.0).map_or(0, ChildList::len)
    }

    /// Sessions that own nodes, by id, with the number they own.
    pub fn sessions_with_ephemerals(&self) -> impl Iterator<Item = (SessionId, usize)> {
        self.sessions.iter().map(|(&id, list)| (SessionId(id), list.len()))
    }

    /// Writes the path of a node over `out`; the root is `"/"`.
    pub fn path_into(&self, id: NodeId, out: &mut String) {
        out.clear();
        if id == NodeId::ROOT {
            out.push('/');
            return;
        }
        let (parent, _) = self.path_parts(id);
        out.push_str(parent);
        out.push('/');
        out.push_str(self.name(id.0));
    }

    /// Number of nodes as Apache reports it: the root counts twice (its two aliases).
    pub fn node_count(&self) -> usize {
        self.node_count + 1
    }

    /// Number of nodes that came or went so far.
    pub fn shape(&self) -> u64 {
        self.shape
    }

    /// Sum of path and data lengths in bytes.
    pub fn approximate_data_size(&self) -> u64 {
        // The alias "/" of the root has one byte of path and the root's data once more.
        self.data_size + 1 + self.node(0).data_size() as u64
    }

    /// Number of ephemerals.
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals
    }

    /// Number of ephemerals that came or went so far.
    pub fn ephemeral_changes(&self) -> u64 {
        self.ephemeral_changes
    }

    /// Number of containers.
    pub fn containers_count(&self) -> usize {
        self.containers.len()
    }

    /// Number of TTL nodes.
    pub fn ttls_count(&self) -> usize {
        self.ttls.len()
    }

    /// Digest of the whole tree, version 2; 0 if digests are off.
    pub fn digest(&self) -> u64 {
        if self.overdue == NONE {
            return self.digest;
        }
        let (mut digest, mut share) = (self.digest, self.node(self.overdue).crc);
        replace_share(&mut digest, &mut share, self.gathered.crc(&self.zero_crc));
        digest
    }

    /// Catches up with [`Tree::overdue`].
    fn settle_digest(&mut self) {
        if self.overdue != NONE {
            let crc = self.gathered.crc(&self.zero_crc);
            let node = self.nodes.get_mut(self.overdue);
            replace_share(&mut self.digest, &mut node.crc, crc);
            self.overdue = NONE;
        }
    }

    /// Heap use.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse {
            nodes: self.nodes.heap_bytes(),
            extensions: self.exts.heap_bytes(),
            blobs: self.blobs.heap_bytes(),
            index: self.index.heap_bytes(),
            children: self.children_bytes,
            acls: self.acls.heap_bytes(),
        }
    }

    /// Containers and TTL nodes that are due at wall-clock time `now_ms`; a container that never
    /// had a child is due after `max_never_used_ms` (0: never). Paths are added to `out`.
    pub fn reap_candidates(&self, now_ms: i64, max_never_used_ms: i64, out: &mut Vec<String>) {
        for &id in self.containers.iter().chain(&self.ttls) {
            let id = NodeId(id);
            let (stat, children) = (self.persisted(id), self.num_children(id));
            let idle = now_ms.saturating_sub(stat.mtime);
            let due = match self.owner_kind(stat.ephemeral_owner) {
                OwnerKind::Container if stat.cversion > 0 => true,
                OwnerKind::Container => max_never_used_ms > 0 && idle > max_never_used_ms,
                OwnerKind::Ttl(ttl) => idle > ttl,
                OwnerKind::Persistent | OwnerKind::Ephemeral(_) => false,
            };
            if due && children == 0 {
                let mut path = String::new();
                self.path_into(id, &mut path);
                out.push(path);
            }
        }
    }

    /// Puts the membership text into `/zookeeper/config` at the start of an ensemble member, as
    /// `initConfigInZKDatabase` does: local, not a transaction; the version becomes -1.
    pub fn init_config(&mut self, text: &[u8], config_version: i64, time_ms: i64) {
        let key = self.hasher.key("/zookeeper/config");
        if let Some(id) = self.find(&key) {
            self.write_data(id.0, Some(text), -1, config_version, time_ms);
        }
    }

    // Primitive changes.

    /// Whether a node can have this name: 16 MiB is the longest.
    pub fn is_storable(name: &str) -> bool {
        !name.is_empty() && name.len() <= NAME_MAX
    }

    /// Adds a node. The caller has checked that the parent exists and the path does not, and has
    /// counted the use of `acl`.
    pub(super) fn insert(
        &mut self,
        key: &PathKey<'_>,
        parent: u32,
        data: Option<&[u8]>,
        acl: AclId,
        stat: &PersistedStat,
    ) -> u32 {
        invariant!(Tree::is_storable(key.name()), "a node has a name: {:?}", key.path);
        let name = key.name().as_bytes();
        let bytes = data.unwrap_or_default();
        let len = name.len() + bytes.len();
        let blob = self.blobs.alloc(len);
        let room = self.blobs.get_mut(blob, len);
        room[..name.len()].copy_from_slice(name);
        room[name.len()..].copy_from_slice(bytes);
        let digested = if is_digested(key.path) { DIGESTED } else { 0 };
        let id = self.nodes.insert(Node {
            parent,
            acl,
            data_len: data.map_or(-1, |data| data.len() as i32),
            name_bits: name.len() as u32 | digested,
            blob,
            ..Node::default()
        });
        self.set_stat(id, stat);
        let ext = self.ext_mut(parent);
        let before = ext.heap_bytes();
        if ext.path.is_none() {
            ext.path = Some(if parent == 0 { "" } else { key.parent_path() }.into());
        }
        let pos = ext.children.push(id);
        let after = ext.heap_bytes();
        self.children_bytes = self.children_bytes + after - before;
        self.node_mut(id).pos = pos;
        self.index.insert(key.hash, id);
        self.node_count += 1;
        self.shape += 1;
        self.data_size += (key.path.len() + bytes.len()) as u64;
        if self.options.digest && digested != 0 {
            let crc = node_crc(&self.zero_crc, key.path.as_bytes(), bytes, stat);
            self.node_mut(id).crc = crc;
            self.digest = self.digest.wrapping_add(u64::from(crc));
        }
        id
    }

    /// Fills in the stat of a node that has none yet.
    pub(super) fn set_stat(&mut self, id: u32, stat: &PersistedStat) {
        let node = self.nodes.get_mut(id);
        node.czxid = stat.czxid;
        node.mzxid = stat.mzxid;
        node.version = stat.version;
        self.set_times(id, stat.ctime, stat.mtime);
        let plain = PersistedStat { pzxid: stat.czxid, cversion: 0, aversion: 0, ..*stat };
        if plain != *stat || stat.ephemeral_owner != 0 || self.node(id).ext != NONE {
            let ext = self.ext_mut(id);
            ext.pzxid = stat.pzxid;
            ext.cversion = stat.cversion;
            ext.aversion = stat.aversion;
            ext.owner = stat.ephemeral_owner;
        }
        if let Some(list) = self.owner_list(stat.ephemeral_owner) {
            let pos = list.len() as u32;
            list.push(id);
            let ext = self.ext_mut(id);
            invariant!(ext.owner == stat.ephemeral_owner, "an owned node knows its owner");
            ext.owner_pos = pos;
        }
    }

    /// The list that nodes with this owner are in; makes it if needed. Counts ephemerals.
    fn owner_list(&mut self, owner: i64) -> Option<&mut Vec<u32>> {
        match self.owner_kind(owner) {
            OwnerKind::Persistent => None,
            OwnerKind::Container => Some(&mut self.containers),
            OwnerKind::Ttl(_) => Some(&mut self.ttls),
            OwnerKind::Ephemeral(session) => {
                self.ephemerals += 1;
                self.ephemeral_changes += 1;
                Some(self.sessions.entry(session.0).or_default())
            }
        }
    }

    /// Takes a node out of its owner's list, in which the node is at `pos`.
    fn leave_owner(&mut self, id: u32, owner: i64, pos: u32) {
        let kind = self.owner_kind(owner);
        let list = match kind {
            OwnerKind::Persistent => return,
            OwnerKind::Container => Some(&mut self.containers),
            OwnerKind::Ttl(_) => Some(&mut self.ttls),
            OwnerKind::Ephemeral(session) => {
                self.ephemerals -= 1;
                self.ephemeral_changes += 1;
                self.sessions.get_mut(&session.0)
            }
        };
        let listed = list.filter(|list| list.get(pos as usize) == Some(&id));
        invariant!(listed.is_some(), "node {id} is at {pos} in the list of its owner {owner:#x}");
        let Some(list) = listed else { return };
        list.swap_remove(pos as usize);
        let (moved, empty) = (list.get(pos as usize).copied(), list.is_empty());
        if let Some(moved) = moved {
            self.ext_mut(moved).owner_pos = pos;
        }
        if let (OwnerKind::Ephemeral(session), true) = (kind, empty) {
            self.sessions.remove(&session.0);
        }
    }

    fn set_times(&mut self, id: u32, ctime: i64, mtime: i64) {
        let node = self.nodes.get_mut(id);
        if node.set_short_times(ctime, mtime) {
            node.name_bits &= !TIMES_IN_EXT;
        } else {
            node.name_bits |= TIMES_IN_EXT;
            let ext = self.ext_mut(id);
            (ext.ctime, ext.mtime) = (ctime, mtime);
        }
    }

    /// Replaces the data and nothing else; not even the digest.
    pub(super) fn replace_data(&mut self, id: u32, data: Option<&[u8]>) {
        let node = self.nodes.get_mut(id);
        let bytes = data.unwrap_or_default();
        self.data_size = self.data_size + bytes.len() as u64 - node.data_size() as u64;
        node.blob = self.blobs.replace_tail(node.blob, node.blob_len(), node.name_len(), bytes);
        node.data_len = data.map_or(-1, |data| data.len() as i32);
        if node.ext != NONE {
            self.exts.get_mut(node.ext).prefix_crc = None;
        }
    }

    /// setData without its digest. Returns the stored fields after it.
    #[inline(always)]
    pub(super) fn write_data(
        &mut self,
        id: u32,
        data: Option<&[u8]>,
        version: i32,
        zxid: i64,
        time_ms: i64,
    ) -> PersistedStat {
        // Reading back what was just written, in other pieces, would wait for it.
        let before = self.persisted(NodeId(id));
        let stat = PersistedStat { version, mzxid: zxid, mtime: time_ms, ..before };
        self.replace_data(id, data);
        let node = self.nodes.get_mut(id);
        node.version = version;
        node.mzxid = zxid;
        if node.has(TIMES_IN_EXT) || !node.set_mtime(time_ms) {
            self.set_times(id, stat.ctime, stat.mtime);
        }
        stat
    }

    /// Brings a node's share of the digest up to date; `path` is its path.
    pub(super) fn refresh_digest(&mut self, id: u32, path: &str) {
        self.settle_digest();
        let stat = self.persisted(NodeId(id));
        let node = self.nodes.get_mut(id);
        if self.options.digest && node.has(DIGESTED) {
            let data = &self.blobs.get(node.blob, node.blob_len())[node.name_len()..];
            let ext = (node.ext != NONE).then(|| self.exts.get_mut(node.ext));
            let crc = share(&self.zero_crc, ext, path.as_bytes(), data, &stat);
            replace_share(&mut self.digest, &mut node.crc, crc);
        }
    }

    /// As [`Tree::refresh_digest`], where data and stored fields are at hand.
    pub(super) fn refresh_digest_to(
        &mut self,
        id: u32,
        path: &[u8],
        data: &[u8],
        stat: &PersistedStat,
    ) {
        self.settle_digest();
        let node = self.nodes.get_mut(id);
        if self.options.digest && node.has(DIGESTED) {
            if node.ext == NONE && self.gathered.fill(path, data, stat) {
                self.overdue = id;
                return;
            }
            let ext = (node.ext != NONE).then(|| self.exts.get_mut(node.ext));
            let crc = share(&self.zero_crc, ext, path, data, stat);
            replace_share(&mut self.digest, &mut node.crc, crc);
        }
    }

    /// Removes a node and, should there be any, everything below it. Below there can only be
    /// nodes that a fuzzy snapshot holds too early: the log, being replayed, deletes the old
    /// parent here, and creates the new one and its children again further on.
    pub(super) fn remove(&mut self, key: &PathKey<'_>, id: u32) {
        while let Some(list) = self.child_list(id).filter(|list| list.len() != 0) {
            let mut leaf = list.get(0);
            while let Some(list) = self.child_list(leaf).filter(|list| list.len() != 0) {
                leaf = list.get(0);
            }
            let mut path = String::new();
            self.path_into(NodeId(leaf), &mut path);
            let len = self.node(leaf).data_size() as i64;
            self.remove_leaf(&self.hasher.key(&path), leaf);
            self.quota_node_deleted(&path);
            self.count_for_quota(path.as_bytes(), -1, -len);
        }
        self.remove_leaf(key, id);
    }

    fn remove_leaf(&mut self, key: &PathKey<'_>, id: u32) {
        self.settle_digest();
        invariant!(id != 0, "the root is never removed");
        invariant!(self.num_children(NodeId(id)) == 0, "node {id} is removed after its children");
        let node = self.node(id);
        let (parent, pos, crc, acl, ext) = (node.parent, node.pos, node.crc, node.acl, node.ext);
        let (blob, blob_len, data_size) = (node.blob, node.blob_len(), node.data_size());
        self.forget_in_walks(id);
        self.remove_child(parent, pos, id);
        self.index.remove(key.hash, id);
        if ext != NONE {
            let record = self.exts.get(ext);
            self.children_bytes -= record.heap_bytes();
            self.leave_owner(id, record.owner, record.owner_pos);
            self.exts.remove(ext);
        }
        self.acls.drop_use(acl);
        self.blobs.free(blob, blob_len);
        self.nodes.remove(id);
        self.node_count -= 1;
        self.shape += 1;
        self.data_size -= (key.path.len() + data_size) as u64;
        self.digest = self.digest.wrapping_sub(u64::from(crc));
    }

    /// Takes the node `id`, child `pos` of `parent`, out of the list. The last child fills the gap,
    /// except that children that a walk still has to visit stay below its cursor.
    fn remove_child(&mut self, parent: u32, pos: u32, id: u32) {
        let Tree { nodes, exts, walks, .. } = self;
        let list = &mut exts.get_mut(nodes.get(parent).ext).children;
        invariant!(list.get(pos) == id, "node {id} is child {pos} of node {parent}");
        let before = list.heap_bytes();
        let mut hole = pos;
        let mut fill = |list: &mut ChildList, hole: u32, from: u32| {
            if hole != from {
                let moved = list.get(from);
                list.set(hole, moved);
                nodes.get_mut(moved).pos = hole;
            }
        };
        if !walks.is_empty() {
            let mut cursors: Vec<&mut u32> = walks
                .iter_mut()
                .flatten()
                .filter_map(|walk| walk.cursor_in(parent))
                .filter(|cursor| **cursor > pos)
                .collect();
            cursors.sort_unstable();
            for cursor in cursors {
                *cursor -= 1;
                fill(list, hole, *cursor);
                hole = *cursor;
            }
        }
        fill(list, hole, list.len() - 1);
        list.pop();
        let after = list.heap_bytes();
        self.children_bytes = self.children_bytes + after - before;
    }
}

/// A node's share of the digest. With children it changes at each change of one, so the CRC of path
/// and data, which stays, is kept.
#[inline]
fn share(
    zero: &crc32fast::Hasher,
    ext: Option<&mut Ext>,
    path: &[u8],
    data: &[u8],
    stat: &PersistedStat,
) -> u32 {
    match ext {
        Some(ext) if ext.prefix_crc.is_some() || ext.children.len() != 0 => {
            let path = if path == b"/" { b"" } else { path };
            let prefix = ext.prefix_crc.get_or_insert_with(|| prefix_crc(path, data));
            finish_crc(*prefix, stat)
        }
        _ => node_crc(zero, path, data, stat),
    }
}

fn replace_share(digest: &mut u64, share: &mut u32, new: u32) {
    let old = std::mem::replace(share, new);
    *digest = digest.wrapping_sub(u64::from(old)).wrapping_add(u64::from(new));
}
