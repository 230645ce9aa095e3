//! Applying committed transactions (`DataTree.processTxn`).
//!
//! The rules are the same live and in replay, and idempotent: absolute versions come with the
//! transaction, a create of an existing node patches its ACL and its parent, a delete moves the
//! parent's pzxid forward even if the node has gone, a missing parent means that nothing happens.

use crate::base::{CONTAINER_OWNER, PathKey, SessionId, Zxid, invariant};
use crate::wire::{
    CreateTxn, ErrorCode, MultiTxn, PathList, PersistedStat, SetAclTxn, SetDataTxn, Stat, Txn,
    TxnHeader, TxnType,
};

use super::acl_table::{AclId, AclTable};
use super::digest::{DIGEST_LOG_INTERVAL, DIGEST_LOG_SIZE};
use super::node::NodeId;
use super::owner::ttl_owner;
use super::store::Tree;

/// Where a transaction comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyMode {
    /// The tree is exactly at the state before it.
    Live,
    /// The tree may hold this and later effects already (log replay after a fuzzy snapshot): the
    /// digest is not comparable and not entered in the digest log.
    Replay,
}

/// Receives what an applied transaction did, in order.
pub trait ApplySink {
    /// A node was created, deleted or rewritten.
    fn change(&mut self, acls: &AclTable, change: Change<'_>);
    /// Outcome of a transaction; of a multi, one per member.
    fn result(&mut self, result: OpResult<'_>);
}

/// A sink for replay.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl ApplySink for NoSink {
    fn change(&mut self, _acls: &AclTable, _change: Change<'_>) {}
    fn result(&mut self, _result: OpResult<'_>) {}
}

/// What happened to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// By any kind of create.
    Created,
    /// By any kind of delete, session close included.
    Deleted,
    /// By setData or reconfig.
    DataChanged,
}

/// A change that watches can see.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// What happened.
    pub kind: ChangeKind,
    /// Where; text.
    pub path: &'a [u8],
    /// Hash of the path.
    pub hash: u64,
    /// ACL of the node; of a deleted one, its last.
    pub acl: AclId,
    /// ACL of its parent; the root counts as its own parent.
    pub parent_acl: AclId,
    /// Bytes of data that were written; 0 for a delete.
    pub bytes: usize,
}

/// Outcome of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpResult<'a> {
    /// Type of the (sub-)transaction; `Error` for each member of a failed multi.
    pub kind: TxnType,
    /// 0 or the error code.
    pub err: i32,
    /// Path it was about; empty for setData, session and error transactions.
    pub path: &'a str,
    /// Stat right after the operation, for create, setData and setACL.
    pub stat: Option<Stat>,
}

type Outcome = Result<Option<Stat>, ErrorCode>;

/// Nodes of a session that ends that are asked for together.
const PATHS_AHEAD: usize = 16;

/// The stored fields of a node that a create makes.
#[inline(always)]
pub(super) fn created(header: &TxnHeader, kind: TxnType, txn: &CreateTxn<'_>) -> PersistedStat {
    let (zxid, time_ms) = (header.zxid.0, header.time_ms);
    PersistedStat {
        czxid: zxid,
        mzxid: zxid,
        ctime: time_ms,
        mtime: time_ms,
        ephemeral_owner: match kind {
            TxnType::CreateContainer => CONTAINER_OWNER,
            TxnType::CreateTtl => ttl_owner(txn.ttl),
            _ if txn.ephemeral => header.session.0,
            _ => 0,
        },
        pzxid: zxid,
        ..PersistedStat::default()
    }
}

/// What the prepare stage already found out, so that applying need not find it again. The caller
/// vouches that no transaction between the finding and this one creates or deletes these nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyHint {
    /// Hash of the transaction's path.
    pub hash: u64,
    /// setData: the node itself. Creates: the parent of a node that is known not to be there.
    pub node: NodeId,
}

impl ApplyHint {
    /// Nothing was found out. Not an `Option`: its tag and the node would be stored apart, read as
    /// one, and waited for.
    pub const NONE: ApplyHint = ApplyHint { hash: 0, node: NodeId::NONE };

    /// Whether there is anything in it.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.node != NodeId::NONE
    }
}

impl Tree {
    /// Applies one committed transaction.
    pub fn apply<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        mode: ApplyMode,
        sink: &mut S,
    ) {
        self.acls.release();
        match txn {
            Txn::Multi(multi) => self.apply_multi(header, *multi, sink),
            single => self.apply_one(header, header.kind, single, sink),
        }
        self.log_digest(header.zxid.0, mode);
    }

    /// Applies a committed setData whose node is known. The sink hears of the change; the result
    /// is returned.
    pub fn apply_set_data_at<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        txn: &SetDataTxn<'_>,
        hint: ApplyHint,
        sink: &mut S,
    ) -> Stat {
        self.acls.release();
        invariant!(self.is_named(hint.node, txn.path), "a hint names the node of its transaction");
        let stat = self.set_data_of(hint.node, hint.hash, header, txn, sink);
        self.log_digest(header.zxid.0, ApplyMode::Live);
        stat
    }

    /// Applies a committed create (not part of a multi) whose parent is known and whose path is
    /// known to be free.
    pub fn apply_create_at<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        txn: &CreateTxn<'_>,
        hint: ApplyHint,
        sink: &mut S,
    ) {
        self.acls.release();
        let key = PathKey { path: txn.path, hash: hint.hash };
        invariant!(
            self.is_named(hint.node, key.parent_path().as_bytes()),
            "a hint names the parent of what its transaction creates"
        );
        let stat = self.create_below(hint.node, key, header, header.kind, txn, sink);
        sink.result(OpResult { kind: header.kind, err: 0, path: txn.path, stat: Some(stat) });
        self.log_digest(header.zxid.0, ApplyMode::Live);
    }

    fn log_digest(&mut self, zxid: i64, mode: ApplyMode) {
        if zxid % DIGEST_LOG_INTERVAL == 0 && self.options.digest && mode == ApplyMode::Live {
            if self.digest_log.len() == DIGEST_LOG_SIZE {
                self.digest_log.pop_front();
            }
            self.digest_log.push_back((Zxid(zxid), self.digest()));
        }
    }

    fn apply_multi<S: ApplySink>(&mut self, header: &TxnHeader, multi: MultiTxn<'_>, sink: &mut S) {
        if !multi.iter().any(|sub| sub.kind == TxnType::Error) {
            for sub in multi.iter() {
                // Bodies were checked when the multi was decoded.
                if let Ok(txn) = sub.txn() {
                    self.apply_one(header, sub.kind, &txn, sink);
                }
            }
            return;
        }
        let mut failed = false;
        for sub in multi.iter() {
            let err = match sub.txn() {
                Ok(Txn::Error { err }) => {
                    failed = true;
                    err
                }
                _ if failed => ErrorCode::RuntimeInconsistency.code(),
                _ => ErrorCode::Ok.code(),
            };
            sink.result(OpResult { kind: TxnType::Error, err, path: "", stat: None });
        }
    }

    fn apply_one<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        kind: TxnType,
        txn: &Txn<'_>,
        sink: &mut S,
    ) {
        let (path, outcome) = match txn {
            Txn::Create(create) => (create.path, self.apply_create(header, kind, create, sink)),
            Txn::Delete { path } => {
                let key = self.hasher.key(path);
                (*path, self.apply_delete(header.zxid.0, &key, sink))
            }
            Txn::SetData(set) => ("", self.apply_set_data(header, set, sink)),
            Txn::SetAcl(set) => (set.path, self.apply_set_acl(set)),
            Txn::Check { path, .. } => (*path, Ok(None)),
            Txn::CreateSession { .. } => ("", Ok(None)),
            Txn::CloseSession(paths) => {
                self.apply_close_session(header, *paths, sink);
                ("", Ok(None))
            }
            Txn::Error { err } => {
                sink.result(OpResult { kind, err: *err, path: "", stat: None });
                return;
            }
            // Decoding refuses a multi within a multi.
            Txn::Multi(_) => return,
        };
        let (err, stat) = match outcome {
            Ok(stat) => (0, stat),
            Err(code) => (code.code(), None),
        };
        sink.result(OpResult { kind, err, path, stat });
    }

    fn apply_create<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        kind: TxnType,
        txn: &CreateTxn<'_>,
        sink: &mut S,
    ) -> Outcome {
        let key = self.hasher.key(txn.path);
        if key.is_root() {
            return Err(ErrorCode::NodeExists);
        }
        let parent = self.find_parent(&key).ok_or(ErrorCode::NoNode)?;
        if !Tree::is_storable(key.name()) {
            return Err(ErrorCode::NoNode);
        }
        let zxid = header.zxid.0;
        if let Some(existing) = self.find(&key) {
            self.replace_acl(existing, txn);
            if kind == TxnType::Create {
                self.note_child_created(parent, key.parent_path(), txn.parent_cversion, zxid);
            }
            return Err(ErrorCode::NodeExists);
        }
        Ok(Some(self.create_below(parent, key, header, kind, txn, sink)))
    }

    fn create_below<S: ApplySink>(
        &mut self,
        parent: NodeId,
        key: PathKey<'_>,
        header: &TxnHeader,
        kind: TxnType,
        txn: &CreateTxn<'_>,
        sink: &mut S,
    ) -> Stat {
        let zxid = header.zxid.0;
        let stat = created(header, kind, txn);
        let acl = self.acls.intern(txn.acl);
        let id = NodeId(self.insert(&key, parent.0, txn.data, acl, &stat));
        self.note_child_created(parent, key.parent_path(), txn.parent_cversion, zxid);
        self.quota_node_created(&key);
        let len = txn.data.map_or(0, <[u8]>::len) as i64;
        self.count_for_quota(txn.path.as_bytes(), 1, len);
        let stat = self.stat(id);
        let parent_acl = self.acl(parent);
        let (kind, bytes) = (ChangeKind::Created, len as usize);
        let (path, hash) = (key.path.as_bytes(), key.hash);
        sink.change(&self.acls, Change { kind, path, hash, acl, parent_acl, bytes });
        stat
    }

    fn replace_acl(&mut self, id: NodeId, txn: &CreateTxn<'_>) {
        let acl = self.acls.intern(txn.acl);
        let old = std::mem::replace(&mut self.node_mut(id.0).acl, acl);
        self.acls.drop_use(old);
    }

    /// The parent's cversion only grows, and its pzxid moves with it.
    fn note_child_created(&mut self, parent: NodeId, path: &str, cversion: i32, zxid: i64) {
        let ext = self.ext_mut(parent.0);
        let cversion = if cversion == -1 { ext.cversion.wrapping_add(1) } else { cversion };
        if cversion > ext.cversion {
            ext.cversion = cversion;
            ext.pzxid = zxid;
            self.refresh_digest(parent.0, path);
        }
    }

    fn apply_delete<S: ApplySink>(
        &mut self,
        zxid: i64,
        key: &PathKey<'_>,
        sink: &mut S,
    ) -> Outcome {
        if key.is_root() {
            return Err(ErrorCode::NoNode);
        }
        let parent = self.find_parent(key).ok_or(ErrorCode::NoNode)?;
        let known = self.persisted(parent).pzxid;
        if zxid > known {
            self.ext_mut(parent.0).pzxid = zxid;
            self.refresh_digest(parent.0, key.parent_path());
        }
        let id = self.find(key).ok_or(ErrorCode::NoNode)?;
        let acl = self.acl(id);
        let len = self.data(id).map_or(0, <[u8]>::len) as i64;
        self.remove(key, id.0);
        self.quota_node_deleted(key.path);
        self.count_for_quota(key.path.as_bytes(), -1, -len);
        let parent_acl = self.acl(parent);
        let (kind, path, hash) = (ChangeKind::Deleted, key.path.as_bytes(), key.hash);
        sink.change(&self.acls, Change { kind, path, hash, acl, parent_acl, bytes: 0 });
        Ok(None)
    }

    fn apply_set_data<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        txn: &SetDataTxn<'_>,
        sink: &mut S,
    ) -> Outcome {
        let hash = self.hasher.path_bytes(txn.path);
        let id = self.find_at(hash, txn.path).ok_or(ErrorCode::NoNode)?;
        Ok(Some(self.set_data_of(id, hash, header, txn, sink)))
    }

    fn set_data_of<S: ApplySink>(
        &mut self,
        id: NodeId,
        hash: u64,
        header: &TxnHeader,
        txn: &SetDataTxn<'_>,
        sink: &mut S,
    ) -> Stat {
        let before = self.node(id.0).data_size() as i64;
        let stat = self.write_data(id.0, txn.data, txn.version, header.zxid.0, header.time_ms);
        self.refresh_digest_to(id.0, txn.path, txn.data.unwrap_or_default(), &stat);
        let bytes = txn.data.map_or(0, <[u8]>::len);
        self.count_for_quota(txn.path, 0, bytes as i64 - before);
        let node = self.node(id.0);
        let (acl, parent_acl) = (node.acl, self.node(node.parent).acl);
        let (kind, path) = (ChangeKind::DataChanged, txn.path);
        sink.change(&self.acls, Change { kind, path, hash, acl, parent_acl, bytes });
        self.shown(id, &stat)
    }

    fn apply_set_acl(&mut self, txn: &SetAclTxn<'_>) -> Outcome {
        let key = self.hasher.key(txn.path);
        let id = self.find(&key).ok_or(ErrorCode::NoNode)?;
        let acl = self.acls.intern(txn.acl);
        let old = std::mem::replace(&mut self.node_mut(id.0).acl, acl);
        self.acls.drop_use(old);
        self.ext_mut(id.0).aversion = txn.version;
        self.refresh_digest(id.0, txn.path);
        Ok(Some(self.stat(id)))
    }

    /// Deletes the listed paths, even if another session owns them by now; then all other nodes
    /// that the session owns.
    fn apply_close_session<S: ApplySink>(
        &mut self,
        header: &TxnHeader,
        paths: Option<PathList<'_>>,
        sink: &mut S,
    ) {
        let zxid = header.zxid.0;
        let mut paths = paths.iter().flat_map(|paths| paths.iter());
        let (mut keys, mut hashes) = (Vec::new(), Vec::new());
        loop {
            keys.clear();
            keys.extend(paths.by_ref().take(PATHS_AHEAD).map(|path| self.hasher.key(path)));
            if keys.is_empty() {
                break;
            }
            hashes.clear();
            hashes.extend(keys.iter().map(|key| key.hash));
            self.touch_paths(&hashes);
            for key in &keys {
                // A path that has gone is as good as deleted.
                let _ = self.apply_delete(zxid, key, sink);
            }
        }
        let mut path = std::mem::take(&mut self.scratch);
        while let Some(id) = self.first_ephemeral(header.session) {
            self.path_into(id, &mut path);
            let key = self.hasher.key(&path);
            if self.apply_delete(zxid, &key, sink).is_err() {
                break;
            }
        }
        self.scratch = path;
    }

    fn first_ephemeral(&self, session: SessionId) -> Option<NodeId> {
        self.ephemerals(session).next()
    }
}
