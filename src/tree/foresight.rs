//! The digest of the tree as it will be, after transactions that are numbered and not applied
//! yet.
//!
//! COMPAT(3.6 to 3.9): a leader of Apache's appends the digest to each transaction that it
//! proposes (`PrepRequestProcessor.precalculateDigest`), and its followers compare their trees
//! with it (`DataTree.compareDigest`). The leader applies a transaction only later, so what the
//! digest will be has to be foreseen. It goes by the rules of [`super::apply`], as far as digests
//! see them: of a node that a transaction touches, its stored fields and the CRC of its path and
//! data are noted here until the tree has them. For instance, while `create /a` and `set /a` are
//! under way, `/a` is noted as the set will leave it, and `/` with one more child.

use std::collections::VecDeque;

use crate::base::{FixedMap, SessionId, Zxid};
use crate::wire::{CreateTxn, PathList, PersistedStat, Reader, Txn, TxnDigest, TxnHeader, TxnType};

use super::apply::created;
use super::digest::{finish_crc, is_digested, prefix_crc};
use super::store::Tree;

/// What a node's share of the digest is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct DigestPart {
    /// CRC of path and data.
    pub(super) prefix: u32,
    pub(super) stat: PersistedStat,
}

impl DigestPart {
    fn share(&self) -> u64 {
        u64::from(finish_crc(self.prefix, &self.stat))
    }
}

/// A node that a transaction touches which the tree may not have yet.
#[derive(Debug)]
struct Foreseen {
    /// The last such transaction.
    zxid: Zxid,
    /// The node after it; `None` if it will be gone.
    part: Option<DigestPart>,
}

/// See the module's introduction.
#[derive(Debug)]
pub struct Foresight {
    nodes: FixedMap<Box<str>, Foreseen>,
    /// What is noted in `nodes`, by transaction.
    touched: VecDeque<(Zxid, Box<str>)>,
    /// The last transaction that is counted in.
    last: Zxid,
    /// The digest after it.
    digest: u64,
}

impl Foresight {
    /// Begins with the tree as it is.
    pub fn new(tree: &Tree) -> Foresight {
        Foresight {
            nodes: FixedMap::default(),
            touched: VecDeque::new(),
            last: Zxid::ZERO,
            digest: tree.digest(),
        }
    }

    /// Counts in the next transaction, as the log has it, and returns the digest after it. `None`
    /// for one that goes without: an error, and the end of a session that names no paths, where
    /// Apache would take the digest for paths.
    pub fn foresee(&mut self, tree: &Tree, entry: &[u8]) -> Option<TxnDigest> {
        let mut reader = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut reader).ok()?;
        let txn = Txn::decode_from(header.kind, &mut reader).ok()?;
        self.last = header.zxid;
        match txn {
            Txn::Multi(multi) if multi.iter().any(|sub| sub.kind == TxnType::Error) => {}
            Txn::Multi(multi) => {
                let parts = multi.iter().filter_map(|sub| Some((sub.kind, sub.txn().ok()?)));
                parts.for_each(|(kind, txn)| self.count(tree, &header, kind, &txn));
            }
            ref single => self.count(tree, &header, header.kind, single),
        }
        let is_stated = !matches!(txn, Txn::Error { .. } | Txn::CloseSession(None));
        let (version, tree_digest) = (TxnDigest::VERSION, self.digest);
        is_stated.then_some(TxnDigest { version, tree_digest })
    }

    /// The tree has everything up to `applied`: notes of that are not needed any more.
    pub fn forget(&mut self, tree: &Tree, applied: Zxid) {
        while let Some((zxid, _)) = self.touched.front()
            && *zxid <= applied
            && let Some((_, path)) = self.touched.pop_front()
        {
            if self.nodes.get(&path).is_some_and(|node| node.zxid <= applied) {
                self.nodes.remove(&path);
            }
        }
        if self.last <= applied {
            debug_assert_eq!(self.digest, tree.digest(), "foreseen after {applied:?}");
            self.digest = tree.digest();
        }
    }

    fn count(&mut self, tree: &Tree, header: &TxnHeader, kind: TxnType, txn: &Txn<'_>) {
        let zxid = header.zxid;
        match txn {
            Txn::Create(create) => self.create(tree, header, kind, create),
            Txn::Delete { path } => self.delete(tree, zxid, path),
            Txn::SetData(set) => {
                let path = str::from_utf8(set.path).unwrap_or_default();
                self.change(tree, zxid, path, |part| {
                    part.prefix = prefix_of(path, set.data);
                    part.stat.version = set.version;
                    (part.stat.mzxid, part.stat.mtime) = (zxid.0, header.time_ms);
                });
            }
            Txn::SetAcl(set) => {
                self.change(tree, zxid, set.path, |part| part.stat.aversion = set.version);
            }
            Txn::CloseSession(paths) => self.close_session(tree, header, *paths),
            // Decoding refuses a multi within a multi.
            Txn::Check { .. } | Txn::CreateSession { .. } | Txn::Error { .. } | Txn::Multi(_) => {}
        }
    }

    fn create(&mut self, tree: &Tree, header: &TxnHeader, kind: TxnType, txn: &CreateTxn<'_>) {
        let (path, zxid) = (txn.path, header.zxid);
        let parent = tree.key(path).parent_path();
        if self.find(tree, parent).is_none() {
            return;
        }
        let is_new = self.find(tree, path).is_none();
        if is_new {
            let stat = created(header, kind, txn);
            self.put(
                tree,
                zxid,
                path,
                Some(DigestPart { prefix: prefix_of(path, txn.data), stat }),
            );
        }
        if is_new || kind == TxnType::Create {
            self.change(tree, zxid, parent, |part| {
                let stat = &mut part.stat;
                let cversion = match txn.parent_cversion {
                    -1 => stat.cversion.wrapping_add(1),
                    cversion => cversion,
                };
                if cversion > stat.cversion {
                    (stat.cversion, stat.pzxid) = (cversion, zxid.0);
                }
            });
        }
    }

    fn delete(&mut self, tree: &Tree, zxid: Zxid, path: &str) {
        let parent = tree.key(path).parent_path();
        if self.find(tree, parent).is_none() {
            return;
        }
        self.change(tree, zxid, parent, |part| part.stat.pzxid = part.stat.pzxid.max(zxid.0));
        if self.find(tree, path).is_some() {
            self.put(tree, zxid, path, None);
        }
    }

    fn close_session(&mut self, tree: &Tree, header: &TxnHeader, paths: Option<PathList<'_>>) {
        match paths {
            // They are all that the session will own: the leader has found them in its pending
            // view.
            Some(paths) => paths.iter().for_each(|path| self.delete(tree, header.zxid, path)),
            None => {
                for path in self.owned(tree, header.session) {
                    self.delete(tree, header.zxid, &path);
                }
            }
        }
    }

    /// The paths of the nodes that a session will own.
    fn owned(&self, tree: &Tree, session: SessionId) -> Vec<String> {
        let mut path = String::new();
        let mut paths: Vec<String> = self.nodes.keys().map(|path| (**path).to_owned()).collect();
        for node in tree.ephemerals(session) {
            tree.path_into(node, &mut path);
            paths.push(path.clone());
        }
        paths.sort_unstable();
        paths.dedup();
        paths.retain(|path| {
            self.find(tree, path).is_some_and(|part| part.stat.ephemeral_owner == session.0)
        });
        paths
    }

    /// The node at `path`, if it will be there.
    fn find(&self, tree: &Tree, path: &str) -> Option<DigestPart> {
        match self.nodes.get(path) {
            Some(node) => node.part,
            None => tree.digest_part(path),
        }
    }

    fn change(
        &mut self,
        tree: &Tree,
        zxid: Zxid,
        path: &str,
        change: impl FnOnce(&mut DigestPart),
    ) {
        if let Some(mut part) = self.find(tree, path) {
            change(&mut part);
            self.put(tree, zxid, path, Some(part));
        }
    }

    fn put(&mut self, tree: &Tree, zxid: Zxid, path: &str, part: Option<DigestPart>) {
        if is_digested(path) {
            let share = |part: Option<DigestPart>| part.map_or(0, |part| part.share());
            let before = share(self.find(tree, path));
            self.digest = self.digest.wrapping_sub(before).wrapping_add(share(part));
        }
        let path: Box<str> = path.into();
        self.touched.push_back((zxid, path.clone()));
        self.nodes.insert(path, Foreseen { zxid, part });
    }
}

impl Tree {
    /// What the share of the node at `path` is made of.
    fn digest_part(&self, path: &str) -> Option<DigestPart> {
        let id = self.find(&self.key(path))?;
        let known = self.ext(self.node(id.0)).and_then(|ext| ext.prefix_crc);
        let prefix = known.unwrap_or_else(|| prefix_of(path, self.data(id)));
        Some(DigestPart { prefix, stat: self.persisted(id) })
    }
}

/// CRC of path and data; the root's path is empty here.
fn prefix_of(path: &str, data: Option<&[u8]>) -> u32 {
    let path = if path == "/" { "" } else { path };
    prefix_crc(path.as_bytes(), data.unwrap_or_default())
}
