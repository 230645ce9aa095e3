//! How long the parts of a recovery take (`dbinittime`, `startup_*`), and what it tells about the
//! end of the server before.

use std::time::Duration;

use crate::admin::java_date;
use crate::base::{Instant, SessionId, Zxid};
use crate::disk::Recovered;
use crate::log::{RecoveryTarget, SnapshotDigest, SnapshotNode, SnapshotVisitor};
use crate::metrics::Measures;
use crate::replica::{Replica, Restore};
use crate::sys::cpu;
use crate::wire::{AclBytes, Reader, Txn, TxnDigest, TxnHeader};

/// What recovery has found, as an operator reads it who looks for the member with the newest data.
pub fn found(recovered: &Recovered, replica: &Replica, took: Duration) -> String {
    let took = took.as_secs_f64();
    if replica.is_void() {
        // Its tree is a new one's, and its zxid, -1, would look like the latest of all.
        return format!("no database, in {took:.3} s");
    }
    let last = recovered.last_zxid;
    let waiting: usize = match replica.last_committed() < last {
        true => recovered.tail.iter().map(|batch| batch.iter().count()).sum(),
        false => 0,
    };
    let waiting = match waiting {
        0 => String::new(),
        count => format!("; the last {count} wait for a leader and do not count yet"),
    };
    format!(
        "{} znodes and {} sessions at zxid 0x{last}, {} transactions replayed, in {took:.3} s\
         {waiting}",
        replica.tree().node_count(),
        replica.session_count(),
        recovered.entries_replayed,
    )
}

/// A [`Restore`] that notes when its snapshot was complete.
pub struct TimedRestore {
    /// Receives everything.
    pub restore: Restore,
    began: Instant,
    snapshot_loaded: Option<Instant>,
    /// When the last transaction was prepared that was replayed; of the tail nothing is.
    last_txn_ms: i64,
}

impl TimedRestore {
    /// Time runs from here.
    pub fn new(restore: Restore) -> TimedRestore {
        TimedRestore { restore, began: cpu::now().mono, snapshot_loaded: None, last_txn_ms: 0 }
    }

    /// What to say if the last server here did not end cleanly: a clean end leaves a snapshot of
    /// everything, so that nothing is replayed. `None` too where the log's end is Apache's, which
    /// leaves none, and where a server was killed before it logged anything after a snapshot.
    pub fn unclean_end(&self, recovered: &Recovered) -> Option<String> {
        let repair = &recovered.repair;
        // A last segment without a record may be what a clean end has left.
        let Some((last, _)) = &repair.cut else { return None };
        if recovered.entries_replayed == 0 || repair.unused.as_ref() == Some(last) {
            return None;
        }
        let after = match recovered.snapshot_zxid {
            Some(zxid) => format!("after the snapshot at zxid 0x{zxid}"),
            None => "without a snapshot".to_owned(),
        };
        Some(format!(
            "the last server on this data directory did not end cleanly (it was killed, or it \
             failed, or this is a copy of its directory): {} transactions were replayed {after}; \
             the last one, zxid 0x{}, is of {}",
            recovered.entries_replayed,
            recovered.last_zxid,
            java_date(self.last_time(recovered))
        ))
    }

    /// When the last transaction of the log was prepared, in ms since 1970.
    fn last_time(&self, recovered: &Recovered) -> i64 {
        let last = recovered.tail.last().and_then(|batch| batch.iter().last());
        let header =
            last.and_then(|(_, entry)| TxnHeader::decode_from(&mut Reader::new(entry)).ok());
        header.map_or(self.last_txn_ms, |header| header.time_ms)
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
        self.last_txn_ms = header.time_ms;
        self.restore.txn(header, txn, digest, entry)
    }
}
