//! How long the parts of a recovery take (`dbinittime`, `startup_*`).

use crate::base::{Instant, SessionId, Zxid};
use crate::disk::Recovered;
use crate::log::{RecoveryTarget, SnapshotDigest, SnapshotNode, SnapshotVisitor};
use crate::metrics::Measures;
use crate::replica::Restore;
use crate::sys::cpu;
use crate::wire::{AclBytes, Txn, TxnDigest, TxnHeader};

/// A [`Restore`] that notes when its snapshot was complete.
pub struct TimedRestore {
    /// Receives everything.
    pub restore: Restore,
    began: Instant,
    snapshot_loaded: Option<Instant>,
}

impl TimedRestore {
    /// Time runs from here.
    pub fn new(restore: Restore) -> TimedRestore {
        TimedRestore { restore, began: cpu::now().mono, snapshot_loaded: None }
    }

    /// Call when everything is in place. A start from an empty directory loads nothing.
    pub fn finish(self, recovered: &Recovered, measures: &Measures) -> Restore {
        let ended = cpu::now().mono;
        let us = |from: Instant, to: Instant| to.since(from).as_micros() as u64;
        measures.db_init.record(us(self.began, ended));
        let loaded = self.snapshot_loaded.unwrap_or(self.began);
        if self.snapshot_loaded.is_some() {
            measures.snapshot_load.record(us(self.began, loaded));
        }
        if self.snapshot_loaded.is_some() || recovered.entries_replayed > 0 {
            measures.txns_load.record(us(loaded, ended));
            measures.txns_loaded.record(recovered.entries_replayed);
        }
        measures.digest_mismatches.add(self.restore.mismatches());
        self.restore
    }
}

impl SnapshotVisitor for TimedRestore {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.restore.session(id, timeout_ms)
    }

    fn acl(&mut self, id: i64, acl: AclBytes<'_>) -> Result<(), String> {
        self.restore.acl(id, acl)
    }

    fn node(&mut self, node: &SnapshotNode<'_>) -> Result<(), String> {
        self.restore.node(node)
    }
}

impl RecoveryTarget for TimedRestore {
    fn reset(&mut self) {
        self.snapshot_loaded = None;
        self.restore.reset();
    }

    fn snapshot_done(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>) -> Result<(), String> {
        self.restore.snapshot_done(zxid, digest)?;
        self.snapshot_loaded = Some(cpu::now().mono);
        Ok(())
    }

    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        digest: Option<TxnDigest>,
        entry: &[u8],
    ) -> Result<(), String> {
        self.restore.txn(header, txn, digest, entry)
    }
}
