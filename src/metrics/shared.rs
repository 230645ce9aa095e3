//! Figures that threads other than the replica's contribute: the log, the fronts, start-up. Each
//! is touched once per write to disk or per connection, never per request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Summary;

/// A count that another thread shows and resets.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A [`Summary`] that another thread shows and resets. A reader may see a value in part while it
/// is being recorded.
#[derive(Debug)]
pub struct SharedSummary {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for SharedSummary {
    fn default() -> SharedSummary {
        SharedSummary {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

impl SharedSummary {
    /// Takes in a value.
    pub fn record(&self, value: u64) {
        self.sum.fetch_add(value, Relaxed);
        self.min.fetch_min(value, Relaxed);
        self.max.fetch_max(value, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// What it holds.
    pub fn get(&self) -> Summary {
        Summary {
            count: self.count.load(Relaxed),
            sum: self.sum.load(Relaxed),
            min: self.min.load(Relaxed),
            max: self.max.load(Relaxed),
        }
    }

    fn reset(&self) {
        self.count.store(0, Relaxed);
        self.sum.store(0, Relaxed);
        self.min.store(u64::MAX, Relaxed);
        self.max.store(0, Relaxed);
    }
}

/// The shared figures of a server. Times in microseconds.
#[derive(Debug, Default)]
pub struct Measures {
    /// Writing a group of transactions through to disk.
    pub log_write: SharedSummary,
    /// Transactions in such a group.
    pub log_batch: SharedSummary,
    /// Writing a snapshot, from its first byte until it is durable.
    pub snapshot: SharedSummary,
    /// Loading the database at the start.
    pub db_init: SharedSummary,
    /// The part of it that was the snapshot.
    pub snapshot_load: SharedSummary,
    /// The part of it that was the log.
    pub txns_load: SharedSummary,
    /// Transactions replayed at the start.
    pub txns_loaded: SharedSummary,
    /// Connections refused by a limit.
    pub connections_rejected: SharedCounter,
    /// Connections that ended from the other side.
    pub connections_dropped: SharedCounter,
    /// Connections closed because they were silent for too long.
    pub connections_idle: SharedCounter,
}

impl Measures {
    /// `srst`: everything starts afresh.
    pub fn reset(&self) {
        for summary in [
            &self.log_write,
            &self.log_batch,
            &self.snapshot,
            &self.db_init,
            &self.snapshot_load,
            &self.txns_load,
            &self.txns_loaded,
        ] {
            summary.reset();
        }
        for counter in
            [&self.connections_rejected, &self.connections_dropped, &self.connections_idle]
        {
            counter.0.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_leaves_nothing() {
        let measures = Measures::default();
        measures.log_write.record(7);
        measures.log_write.record(3);
        measures.connections_rejected.add(2);
        assert_eq!(measures.log_write.get(), Summary { count: 2, sum: 10, min: 3, max: 7 });
        assert_eq!(measures.connections_rejected.get(), 2);
        measures.reset();
        assert_eq!(measures.log_write.get(), Summary::default());
        assert_eq!(measures.connections_rejected.get(), 0);
    }
}
