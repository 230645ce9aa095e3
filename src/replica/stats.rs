//! Server-wide counters behind `srvr`, `stat` and `mntr` (`ServerStats`).

use crate::base::Instant;
use crate::wire::OpCode;

/// See the module's introduction.
#[derive(Clone, Debug)]
pub struct ServerStats {
    /// Frames received.
    pub received: u64,
    /// Frames sent, notifications included.
    pub sent: u64,
    /// Least request latency in ms.
    pub min_latency_ms: u64,
    /// Greatest request latency in ms.
    pub max_latency_ms: u64,
    /// Sum of request latencies in ms.
    pub total_latency_ms: u64,
    /// Number of requests measured.
    pub count: u64,
    /// Requests answered, by position of the opcode in `OpCode::ALL`.
    pub ops: [u64; OpCode::ALL.len()],
    /// When this server started to serve.
    pub started: Instant,
    /// Size of the last reply in bytes; -1 before the first.
    pub last_response_size: i64,
    /// Least of them; -1 before the first.
    pub min_response_size: i64,
    /// Greatest of them; -1 before the first.
    pub max_response_size: i64,
    /// Auth packets refused.
    pub auth_failed: u64,
    /// Sessions created and renewed.
    pub connection_requests: u64,
    /// Sessions validated on reconnect.
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
            min_latency_ms: u64::MAX,
            max_latency_ms: 0,
            total_latency_ms: 0,
            count: 0,
            ops: [0; OpCode::ALL.len()],
            started,
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

    /// `srst`: everything but the start time goes back to the beginning.
    pub fn reset(&mut self) {
        *self = ServerStats::new(self.started);
    }

    /// Counts one answered request.
    pub fn answered(&mut self, op: OpCode, latency_ms: u64) {
        self.min_latency_ms = self.min_latency_ms.min(latency_ms);
        self.max_latency_ms = self.max_latency_ms.max(latency_ms);
        self.total_latency_ms += latency_ms;
        self.count += 1;
        self.ops[op.index()] += 1;
    }

    /// Notes the size of a reply.
    pub fn responded(&mut self, bytes: usize) {
        let bytes = bytes as i64;
        self.last_response_size = bytes;
        self.max_response_size = self.max_response_size.max(bytes);
        if self.min_response_size < 0 || bytes < self.min_response_size {
            self.min_response_size = bytes;
        }
    }
}
