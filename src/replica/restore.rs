//! Builds the tree and the session table from what recovery reads.

use crate::base::{FixedMap, SessionId, Zxid};
use crate::log::{
    EmptyStart, Recovered, RecoveryTarget, SnapshotDigest, SnapshotNode, SnapshotVisitor,
};
use crate::tree::{ApplyMode, NoSink, Tree, TreeLoader, TreeOptions};
use crate::wire::{AclBytes, Txn, TxnDigest, TxnHeader};

use super::core::Restored;
use super::digest_check::DigestCheck;

enum Phase {
    Loading(Box<TreeLoader>),
    Replaying(Box<Tree>),
    /// Only between two others.
    Empty,
}

/// Receives a recovery.
pub struct Restore {
    options: TreeOptions,
    phase: Phase,
    sessions: FixedMap<SessionId, i32>,
    check: DigestCheck,
    is_fuzzy: bool,
}

impl Restore {
    /// Ready for a snapshot or, if there is none, for transactions.
    pub fn new(options: TreeOptions) -> Restore {
        Restore {
            options,
            phase: Phase::Empty,
            sessions: FixedMap::default(),
            check: DigestCheck::new(options.digest),
            is_fuzzy: false,
        }
    }

    fn tree(&mut self) -> &mut Tree {
        if !matches!(self.phase, Phase::Replaying(_)) {
            self.phase = Phase::Replaying(Box::new(Tree::new(self.options)));
        }
        match &mut self.phase {
            Phase::Replaying(tree) => tree,
            _ => unreachable!("set above"),
        }
    }

    /// What a server begins with, after everything that is committed was replayed. The tree is what
    /// snapshot and log say, and nothing else: ephemerals of sessions that do not exist are in it,
    /// until the replica ends those sessions by transactions of its own.
    pub fn finish(mut self, recovered: &Recovered) -> Restored {
        self.tree();
        let Phase::Replaying(tree) = self.phase else { unreachable!("set above") };
        let mut sessions: Vec<_> = self.sessions.into_iter().collect();
        sessions.sort_unstable();
        Restored {
            tree: *tree,
            sessions,
            committed: recovered.committed,
            tail: recovered.tail.clone(),
            check: self.check,
            wants_snapshot: recovered.snapshot_zxid.is_none(),
            snapshot_zxid: recovered.snapshot_zxid,
            is_fuzzy: self.is_fuzzy,
            is_void: recovered.empty == Some(EmptyStart::Untrusted),
        }
    }
}

impl SnapshotVisitor for Restore {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.insert(id, timeout_ms);
        Ok(())
    }

    fn acl(&mut self, id: i64, acl: AclBytes<'_>) -> Result<(), String> {
        if let Phase::Loading(loader) = &mut self.phase {
            loader.acl(id, acl);
            return Ok(());
        }
        let mut loader = Tree::begin_load(self.options);
        loader.acl(id, acl);
        self.phase = Phase::Loading(Box::new(loader));
        Ok(())
    }

    fn node(&mut self, node: &SnapshotNode<'_>) -> Result<(), String> {
        if !matches!(self.phase, Phase::Loading(_)) {
            self.phase = Phase::Loading(Box::new(Tree::begin_load(self.options)));
        }
        let Phase::Loading(loader) = &mut self.phase else { unreachable!("set above") };
        loader.node(node.path, node.data, node.acl, &node.stat).map_err(|e| e.to_string())
    }
}

impl RecoveryTarget for Restore {
    fn reset(&mut self) {
        *self = Restore::new(self.options);
    }

    fn snapshot_done(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), String> {
        if let Phase::Loading(loader) = std::mem::replace(&mut self.phase, Phase::Empty) {
            let tree = loader.finish().map_err(|e| e.to_string())?;
            self.phase = Phase::Replaying(Box::new(tree));
        }
        // It was received from another member, or written by a server that keeps no digest.
        let is_blank = |section: SnapshotDigest| section.zxid < zxid || section.digest == 0;
        self.is_fuzzy = digest.is_none_or(is_blank);
        self.tree();
        if let Phase::Replaying(tree) = &self.phase {
            self.check.loaded(zxid, digest, tree);
        }
        Ok(())
    }

    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
        _entry: &[u8],
    ) -> Result<(), String> {
        match txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
            }
            Txn::CloseSession(_) => {
                self.sessions.remove(&header.session);
            }
            _ => {}
        }
        self.tree().apply(header, txn, ApplyMode::Replay, &mut NoSink);
        if let Phase::Replaying(tree) = &self.phase {
            self.check.applied(header, digest, tree);
        }
        Ok(())
    }
}
