//! Builds the tree and the session table from what recovery reads.

use crate::base::{FixedMap, SessionId, Zxid};
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
    snapshot: Zxid,
    /// Digest of the snapshot, to be compared when replay passes its zxid.
    digest: Option<SnapshotDigest>,
    comparing: bool,
    /// A difference at the snapshot's digest section, which the next digest explains or confirms.
    unsure: Option<Difference>,
    mismatches: u64,
}

/// A tree that is not what a digest says it should be.
#[derive(Clone, Copy)]
struct Difference {
    zxid: Zxid,
    /// The transaction it is behind; `None` right after loading.
    kind: Option<TxnType>,
    found: u64,
    expected: u64,
}

impl Restore {
    /// Ready for a snapshot or, if there is none, for transactions.
    pub fn new(options: TreeOptions) -> Restore {
        Restore {
            options,
            phase: Phase::Empty,
            sessions: FixedMap::default(),
            snapshot: Zxid::ZERO,
            digest: None,
            comparing: true,
            unsure: None,
            mismatches: 0,
        }
    }

    /// Positions where the tree differed from what snapshot or log said. Final once everything
    /// was replayed.
    pub fn mismatches(&self) -> u64 {
        self.mismatches + u64::from(self.unsure.is_some())
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

    /// The tree and the sessions with their timeouts in ms, after everything was replayed. The tree
    /// is what snapshot and log say, and nothing else: ephemerals of sessions that do not exist are
    /// in it, until the replica ends those sessions by transactions of its own.
    pub fn finish(mut self) -> (Tree, Vec<(SessionId, i32)>) {
        self.tree();
        if let Some(difference) = &self.unsure {
            self.report(difference);
        }
        let Phase::Replaying(tree) = self.phase else { unreachable!("set above") };
        let mut sessions: Vec<_> = self.sessions.into_iter().collect();
        sessions.sort_unstable();
        (*tree, sessions)
    }

    /// Compares the tree after `zxid` with a digest.
    ///
    /// Apache's snapshot thread reads the position and the digest of its digest section when the
    /// last node is written, while another thread may have applied part or all of the next
    /// transaction and not yet noted its digest (`DataTree.processTxn` changes nodes first and
    /// calls `logZxidDigest` last). Such a snapshot is ahead of its own digest section by one
    /// transaction, so a difference there, be it from the section's digest or from that of the
    /// transaction at its zxid, means nothing yet: behind the next transaction the tree must be
    /// right. Apache itself reports these snapshots as mismatches.
    fn compare(&mut self, zxid: Zxid, kind: Option<TxnType>, expected: u64) {
        let found = self.tree().digest();
        let difference = (found != expected).then_some(Difference { zxid, kind, found, expected });
        if self.digest.is_some_and(|section| section.zxid == zxid) {
            self.unsure = self.unsure.or(difference);
            return;
        }
        let unsure = self.unsure.take();
        if let Some(difference) = difference {
            for one in unsure.into_iter().chain([difference]) {
                self.report(&one);
                self.mismatches += 1;
            }
        }
    }

    /// Logs a difference, if it is the first: all later ones follow from it.
    fn report(&self, difference: &Difference) {
        if self.mismatches > 0 {
            return;
        }
        let Difference { zxid, kind, found, expected } = difference;
        let behind = kind.map_or_else(|| "no transaction".to_owned(), |kind| format!("{kind:?}"));
        let section = self.digest.map_or_else(|| "none".to_owned(), |d| format!("{:?}", d.zxid));
        log::error!(
            "the tree differs from what the log says it should be after {zxid:?} ({behind}): \
             digest {found}, expected {expected}; replay began at {:?}, the snapshot's digest \
             section: {section}",
            self.snapshot
        );
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
        self.snapshot = zxid;
        let is_comparable = |d: &SnapshotDigest| d.version == TxnDigest::VERSION && d.zxid.0 != 0;
        self.digest = digest.filter(|d| self.options.digest && is_comparable(d));
        self.comparing = self.digest.is_some_and(|digest| digest.zxid == zxid);
        if let Some(digest) = self.digest
            && self.comparing
        {
            self.compare(zxid, None, digest.digest);
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
        if !self.options.digest {
            return Ok(());
        }
        if let Some(at) = self.digest
            && at.zxid == header.zxid
        {
            self.compare(header.zxid, Some(header.kind), at.digest);
            self.comparing = true;
        }
        if self.comparing
            && let Some(digest) = digest
            && digest.version == TxnDigest::VERSION
        {
            self.compare(header.zxid, Some(header.kind), digest.tree_digest);
        }
        Ok(())
    }
}
