//! Builds the tree and the session table from what recovery reads.

use crate::base::{FixedMap, SessionId, Xid, Zxid};
use crate::log::{RecoveryTarget, SnapshotDigest, SnapshotNode, SnapshotVisitor};
use crate::tree::{ApplyMode, NoSink, Tree, TreeLoader, TreeOptions};
use crate::wire::{AclBytes, Txn, TxnDigest, TxnHeader, TxnType};

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
    /// Digest of the snapshot, to be compared when replay passes its zxid.
    digest: Option<SnapshotDigest>,
    /// Transactions whose digest differed from the tree's.
    pub mismatches: u64,
    comparing: bool,
}

impl Restore {
    /// Ready for a snapshot or, if there is none, for transactions.
    pub fn new(options: TreeOptions) -> Restore {
        Restore {
            options,
            phase: Phase::Empty,
            sessions: FixedMap::default(),
            digest: None,
            mismatches: 0,
            comparing: true,
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

    /// The tree and the sessions with their timeouts in ms, after everything was replayed.
    /// Ephemerals whose session is not known any more are deleted, as Apache does when it loads
    /// its database.
    pub fn finish(mut self, last_zxid: Zxid, now_ms: i64) -> (Tree, Vec<(SessionId, i32)>) {
        self.tree();
        let Phase::Replaying(mut tree) = self.phase else { unreachable!("set above") };
        let mut orphans: Vec<SessionId> = tree
            .sessions_with_ephemerals()
            .map(|(session, _)| session)
            .filter(|session| !self.sessions.contains_key(session))
            .collect();
        orphans.sort_unstable();
        for session in orphans {
            log::warn!("deleting ephemerals of {session:?}, which is no session any more");
            let header = TxnHeader {
                session,
                cxid: Xid(0),
                zxid: last_zxid,
                time_ms: now_ms,
                kind: TxnType::CloseSession,
            };
            tree.apply(&header, &Txn::CloseSession(None), ApplyMode::Replay, &mut NoSink);
        }
        let mut sessions: Vec<_> = self.sessions.into_iter().collect();
        sessions.sort_unstable();
        (*tree, sessions)
    }

    fn compare(&mut self, zxid: Zxid, expected: u64) {
        let found = self.tree().digest();
        if found != expected {
            self.mismatches += 1;
            if self.mismatches == 1 {
                log::error!(
                    "the tree differs from what the log says it should be after {zxid:?}: digest \
                     {found}, expected {expected}"
                );
            }
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
        // A fuzzy snapshot holds effects of later transactions: comparing starts again where the
        // digest section was written.
        let digest = digest.filter(|d| d.version == TxnDigest::VERSION && d.zxid.0 != 0);
        self.comparing = match digest {
            Some(digest) if digest.zxid == zxid => {
                self.compare(zxid, digest.digest);
                true
            }
            Some(_) => false,
            None => false,
        };
        self.digest = digest;
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
        if !self.options.digest {
            return Ok(());
        }
        if let Some(at) = self.digest
            && at.zxid == header.zxid
        {
            self.compare(header.zxid, at.digest);
            self.comparing = true;
        }
        if self.comparing
            && let Some(digest) = digest
            && digest.version == TxnDigest::VERSION
        {
            self.compare(header.zxid, digest.tree_digest);
        }
        Ok(())
    }
}
