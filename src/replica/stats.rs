//! Server-wide counters of `srvr`, `stat` and `mntr` (`ServerStats`).

use crate::base::Instant;
use crate::metrics::{Histogram, Namespaces, Summary};
use crate::wire::OpCode;

/// See the module's introduction.
#[derive(Clone, Debug)]
pub struct ServerStats {
    /// Frames received, four-letter words included.
    pub received: u64,
    /// Frames sent, notifications and answers to four-letter words included.
    pub sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Latencies of requests that are no transactions, in microseconds.
    pub reads: Histogram,
    /// Latencies of transactions that a client asked for, in microseconds.
    pub updates: Histogram,
    /// Requests answered, by position of the opcode in `OpCode::ALL`.
    pub ops: [u64; OpCode::ALL.len()],
    /// When this server started to serve.
    pub started: Instant,
    /// Bytes of replies.
    pub response_bytes: u64,
    /// Bytes of notifications.
    pub watch_bytes: u64,
    /// `read_per_namespace`: bytes of paths, data, names and stats.
    pub bytes_read: Namespaces,
    /// `write_per_namespace`: bytes of paths and data.
    pub bytes_written: Namespaces,
    /// `quota_exceeded_error_per_namespace`: writes that a hard limit refused.
    pub quota_exceeded: Namespaces,
    /// Watches that one change fired, by event type in the order of its numbers.
    pub fired: [Summary; 4],
    /// Size of the last reply in bytes; -1 before the first.
    pub last_response_size: i64,
    /// Least of them; -1 before the first.
    pub min_response_size: i64,
    /// Greatest of them; -1 before the first.
    pub max_response_size: i64,
    /// Auth packets refused.
    pub auth_failed: u64,
    /// Connect requests.
    pub connection_requests: u64,
    /// Connect requests that name a session.
    pub revalidated: u64,
    /// Sessions that expired.
    pub stale_sessions_expired: u64,
    /// Snapshots that failed.
    pub snapshot_errors: u64,
    /// TTL nodes reaped.
    pub ttl_deleted: u64,
}

impl ServerStats {
    /// Counters of a server that starts now.
    pub fn new(started: Instant) -> ServerStats {
        ServerStats {
            received: 0,
            sent: 0,
            bytes_received: 0,
            reads: Histogram::default(),
            updates: Histogram::default(),
            ops: [0; OpCode::ALL.len()],
            started,
            response_bytes: 0,
            watch_bytes: 0,
            bytes_read: Namespaces::default(),
            bytes_written: Namespaces::default(),
            quota_exceeded: Namespaces::default(),
            fired: [Summary::default(); 4],
            last_response_size: -1,
            min_response_size: -1,
            max_response_size: -1,
            auth_failed: 0,
            connection_requests: 0,
            revalidated: 0,
            stale_sessions_expired: 0,
            snapshot_errors: 0,
            ttl_deleted: 0,
        }
    }

    /// `srst`: everything goes back to the beginning but the start time and the count of refused
    /// auth packets, which `ServerStats.reset` leaves alone too.
    pub fn reset(&mut self) {
        let [bytes_read, bytes_written, quota_exceeded] =
            [&mut self.bytes_read, &mut self.bytes_written, &mut self.quota_exceeded].map(|all| {
                all.reset();
                std::mem::take(all)
            });
        *self = ServerStats {
            auth_failed: self.auth_failed,
            bytes_read,
            bytes_written,
            quota_exceeded,
            ..ServerStats::new(self.started)
        };
    }

    /// Latencies of all requests, in microseconds.
    pub fn latency(&self) -> Summary {
        self.reads.summary().merged(self.updates.summary())
    }

    /// Counts one answered request that was no transaction.
    #[inline(always)]
    pub fn read_answered(&mut self, op: OpCode, latency_us: u64) {
        self.reads.record(latency_us);
        self.ops[op.index()] += 1;
    }

    /// Counts one answered transaction.
    #[inline]
    pub fn update_answered(&mut self, op: OpCode, latency_us: u64) {
        self.updates.record(latency_us);
        self.ops[op.index()] += 1;
    }

    /// Notes a notification of `bytes` bytes without its length field.
    pub fn notified(&mut self, bytes: usize) {
        self.sent += 1;
        self.watch_bytes += bytes as u64;
    }

    /// Notes the size of a reply without its length field.
    #[inline]
    pub fn responded(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
        let bytes = bytes as i64;
        self.last_response_size = bytes;
        self.max_response_size = self.max_response_size.max(bytes);
        if self.min_response_size < 0 || bytes < self.min_response_size {
            self.min_response_size = bytes;
        }
    }
}
