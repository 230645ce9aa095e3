//! `mntr`: the gauges, counters and summaries of Apache 3.9 under their names.
//!
//! What measures a part that this server does not have (thread pools of the commit processor,
//! caches, Netty, roles of an ensemble) is there with 0, so that dashboards find every key.
//! Figures by namespace exist only once there is something in them.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::base::Now;
use crate::metrics::{Histogram, Summary};
use crate::replica::{BILLION, Replica};
use crate::session::Sessions;
use crate::tree::{QuotaValues, Tree};

use super::context::AdminContext;
use super::state::{LeaderFigures, MemberState};
use super::words::{average, version};

/// Counters of Apache 3.9.
const COUNTERS: [&str; 51] = [
    "add_dead_watcher_stall_time",
    "bytes_received_count",
    "cnxn_closed_without_zk_server_running",
    "commit_count",
    "connection_drop_count",
    "connection_rejected",
    "connection_request_count",
    "connection_revalidate_count",
    "dead_watchers_cleared",
    "dead_watchers_queued",
    "diff_count",
    "digest_mismatches_count",
    "ensemble_auth_fail",
    "ensemble_auth_skip",
    "ensemble_auth_success",
    "insecure_admin_count",
    "large_requests_rejected",
    "learner_commit_received_count",
    "learner_proposal_received_count",
    "looking_count",
    "outstanding_changes_queued",
    "outstanding_changes_removed",
    "prep_processor_request_queued",
    "proposal_count",
    "quit_leading_due_to_disloyal_voter",
    "request_commit_queued",
    "request_throttle_wait_count",
    "requests_not_forwarded_to_commit_processor",
    "response_bytes",
    "response_packet_cache_hits",
    "response_packet_cache_misses",
    "response_packet_get_children_cache_hits",
    "response_packet_get_children_cache_misses",
    "restore_error_count",
    "restore_rate_limited_count",
    "revalidate_count",
    "sessionless_connections_expired",
    "skip_learner_request_to_next_processor_count",
    "snap_count",
    "snapshot_error_count",
    "snapshot_rate_limited_count",
    "stale_replies",
    "stale_requests",
    "stale_requests_dropped",
    "stale_sessions_expired",
    "sync_processor_request_queued",
    "throttled_ops",
    "tls_handshake_exceeded",
    "unrecoverable_error_count",
    "unsuccessful_handshake",
    "watch_bytes",
];

/// Its basic summaries.
const SUMMARIES: [&str; 42] = [
    "commit_commit_proc_req_queued",
    "commit_process_time",
    "concurrent_request_processing_in_commit_processor",
    "connection_token_deficit",
    "dbinittime",
    "election_time",
    "follower_sync_time",
    "fsynctime",
    "inflight_diff_count",
    "inflight_snap_count",
    "leader_unavailable_time",
    "learner_request_processor_queue_size",
    "netty_queued_buffer_capacity",
    "node_changed_watch_count",
    "node_children_watch_count",
    "node_created_watch_count",
    "node_deleted_watch_count",
    "observer_sync_time",
    "pending_session_queue_size",
    "prep_process_time",
    "prep_processor_queue_size",
    "proposal_process_time",
    "read_commit_proc_issued",
    "read_commit_proc_req_queued",
    "reads_after_write_in_session_queue",
    "reads_issued_from_session_queue",
    "requests_in_session_queue",
    "restore_time",
    "session_queues_drained",
    "snapshottime",
    "socket_closing_time",
    "startup_snap_load_time",
    "startup_txns_load_time",
    "startup_txns_loaded",
    "sync_process_time",
    "sync_processor_batch_size",
    "sync_processor_queue_size",
    "time_waiting_empty_pool_in_commit_processor_read_ms",
    "unavailable_time",
    "write_batch_time_in_commit_processor",
    "write_commit_proc_issued",
    "write_commit_proc_req_queued",
];

/// Its summaries with percentiles.
const HISTOGRAMS: [&str; 23] = [
    "close_session_prep_time",
    "commit_propagation_latency",
    "dead_watchers_cleaner_latency",
    "jvm_pause_time_ms",
    "local_write_committed_time_ms",
    "om_commit_process_time_ms",
    "om_proposal_process_time_ms",
    "prep_processor_queue_time_ms",
    "propagation_latency",
    "proposal_ack_creation_latency",
    "proposal_latency",
    "quorum_ack_latency",
    "read_commitproc_time_ms",
    "read_final_proc_time_ms",
    "readlatency",
    "request_throttle_queue_time_ms",
    "server_write_committed_time_ms",
    "sync_processor_queue_and_flush_time_ms",
    "sync_processor_queue_flush_time_ms",
    "sync_processor_queue_time_ms",
    "updatelatency",
    "write_commitproc_time_ms",
    "write_final_proc_time_ms",
];

/// Microseconds in the unit in which times are shown.
const MS: u64 = 1000;

fn line(out: &mut String, key: &str, value: impl Display) {
    let _ = writeln!(out, "zk_{key}\t{value}");
}

/// `mntr`.
pub(super) fn mntr(context: &AdminContext, replica: &Replica, now: Now) -> String {
    let mut out = String::with_capacity(16 * 1024);
    gauges(&mut out, context, replica, now);
    quotas(&mut out, replica.tree());
    for key in COUNTERS {
        line(&mut out, key, counter(key, context, replica));
    }
    for key in SUMMARIES {
        let (summary, unit) = summary(key, context, replica);
        put_summary(&mut out, key, &summary, unit);
    }
    let none = Histogram::default();
    for key in HISTOGRAMS {
        put_histogram(&mut out, key, histogram(key, context, replica).unwrap_or(&none));
    }
    for (sid, times) in &context.way.voters {
        put_histogram(&mut out, &format!("{sid}_ack_latency"), times);
    }
    let stats = replica.stats();
    for (key, all) in
        [("read_per_namespace", &stats.bytes_read), ("write_per_namespace", &stats.bytes_written)]
    {
        for (namespace, summary) in all.iter() {
            put_summary(&mut out, &format!("{namespace}_{key}"), summary, 1);
        }
    }
    for (namespace, refused) in stats.quota_exceeded.iter() {
        let key = format!("{namespace}_quota_exceeded_error_per_namespace");
        line(&mut out, &key, refused.count);
    }
    out
}

fn put_summary(out: &mut String, key: &str, summary: &Summary, unit: u64) {
    line(out, &format!("avg_{key}"), average(summary, unit));
    line(out, &format!("min_{key}"), summary.least() / unit);
    line(out, &format!("max_{key}"), summary.max / unit);
    line(out, &format!("cnt_{key}"), summary.count);
    line(out, &format!("sum_{key}"), summary.sum / unit);
}

fn put_histogram(out: &mut String, key: &str, histogram: &Histogram) {
    put_summary(out, key, histogram.summary(), MS);
    for (percentile, permille) in [("p50", 500), ("p95", 950), ("p99", 990), ("p999", 999)] {
        line(out, &format!("{percentile}_{key}"), histogram.percentile(permille) / MS);
    }
}

fn gauges(out: &mut String, context: &AdminContext, replica: &Replica, now: Now) {
    let (stats, tree) = (replica.stats(), replica.tree());
    let latency = stats.latency();
    line(out, "version", version());
    let state = &context.live.state;
    line(out, "server_state", state.name());
    if let Some(peer_state) = state.peer_state() {
        line(out, "peer_state", peer_state);
    }
    line(out, "avg_latency", average(&latency, MS));
    line(out, "max_latency", latency.max / MS);
    line(out, "min_latency", latency.least() / MS);
    line(out, "packets_received", stats.received);
    line(out, "packets_sent", stats.sent);
    line(out, "num_alive_connections", replica.client_count());
    line(out, "outstanding_requests", replica.outstanding());
    line(out, "uptime", now.mono.since(stats.started).as_millis());
    line(out, "znode_count", tree.node_count());
    line(out, "watch_count", replica.watches().count());
    line(out, "ephemerals_count", tree.ephemerals_count());
    line(out, "approximate_data_size", tree.approximate_data_size());
    let sessions = replica.tracked_sessions().map_or(replica.session_count(), Sessions::len);
    line(out, "global_sessions", sessions);
    line(out, "local_sessions", 0);
    line(out, "open_file_descriptor_count", context.live.open_files);
    line(out, "max_file_descriptor_count", context.host.open_files_max);
    let drop = replica.connection_drop_probability() as f64 / BILLION as f64;
    line(out, "connection_drop_probability", format_args!("{drop:?}"));
    line(out, "last_client_response_size", stats.last_response_size);
    line(out, "max_client_response_size", stats.max_response_size);
    line(out, "min_client_response_size", stats.min_response_size);
    line(out, "outstanding_tls_handshake", 0);
    line(out, "auth_failed_count", stats.auth_failed);
    line(out, "non_mtls_remote_conn_count", 0);
    line(out, "non_mtls_local_conn_count", 0);
    if let Some(ensemble) = &context.settings.ensemble {
        line(out, "quorum_size", ensemble.membership.quorums().voters().len());
    }
    if let MemberState::Leading(leader) = state {
        leader_gauges(out, leader);
    }
}

/// Apache's followers show none of these: there, they are null.
fn leader_gauges(out: &mut String, leader: &LeaderFigures) {
    let (last, min, max) = leader.shown_sizes();
    line(out, "learners", leader.learners);
    line(out, "synced_followers", leader.synced_followers);
    line(out, "synced_non_voting_followers", leader.synced_non_voting);
    line(out, "synced_observers", leader.synced_observers);
    line(out, "pending_syncs", leader.pending_syncs);
    line(out, "leader_uptime", leader.uptime_ms);
    line(out, "last_proposal_size", last);
    line(out, "max_proposal_size", max);
    line(out, "min_proposal_size", min);
}

/// Limits and usage, summed over the quotas below each top-level node (`QuotaMetricsUtils`).
fn quotas(out: &mut String, tree: &Tree) {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for prefix in tree.quota_prefixes() {
        let Some(quota) = tree.quota(prefix) else { continue };
        let namespace = prefix.trim_start_matches('/').split('/').next().unwrap_or_default();
        let limit = |soft: i64, hard: i64| if hard > -1 { hard } else { soft };
        let (limits, usage) = (&quota.limits, quota.usage.unwrap_or(QuotaValues::UNSET));
        for (key, value) in [
            ("quota_bytes_limit_per_namespace", limit(limits.bytes, limits.bytes_hard)),
            ("quota_bytes_usage_per_namespace", usage.bytes),
            ("quota_count_limit_per_namespace", limit(limits.count, limits.count_hard)),
            ("quota_count_usage_per_namespace", usage.count),
        ] {
            let sum = sums.entry((key, namespace)).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    for ((key, namespace), sum) in sums {
        line(out, &format!("{namespace}_{key}"), sum);
    }
}

fn counter(key: &str, context: &AdminContext, replica: &Replica) -> u64 {
    let (stats, measures) = (replica.stats(), &context.measures);
    let limits = replica.limit_figures();
    let leader = match context.live.state {
        MemberState::Leading(leader) => leader,
        _ => LeaderFigures::default(),
    };
    let terms = &context.live.terms;
    match key {
        "looking_count" => terms.searches,
        "diff_count" => terms.syncs.diffs,
        "snap_count" => terms.syncs.snapshots,
        "commit_count" => leader.commits,
        "proposal_count" => leader.proposals,
        "learner_commit_received_count" => context.way.commits,
        "learner_proposal_received_count" => context.way.proposals,
        "bytes_received_count" => stats.bytes_received,
        "connection_drop_count" => measures.connections_dropped.get(),
        "connection_rejected" => measures.connections_rejected.get() + limits.connections_refused,
        "connection_request_count" => stats.connection_requests,
        "connection_revalidate_count" => stats.revalidated,
        "digest_mismatches_count" => replica.digest_mismatches(),
        "large_requests_rejected" => limits.large_requests_rejected,
        // Every request, as in Apache, where reads too pass through these stages.
        "prep_processor_request_queued" | "sync_processor_request_queued" => stats.latency().count,
        "request_throttle_wait_count" => limits.request_throttle_waits,
        "response_bytes" => stats.response_bytes,
        // Apache counts connections with a session too.
        "sessionless_connections_expired" => measures.connections_idle.get(),
        "snapshot_error_count" => stats.snapshot_errors,
        "stale_requests" => limits.stale_requests,
        "stale_requests_dropped" => limits.stale_requests_dropped,
        "stale_sessions_expired" => stats.stale_sessions_expired,
        "throttled_ops" => limits.throttled_ops,
        "watch_bytes" => stats.watch_bytes,
        _ => 0,
    }
}

/// Figures and the unit in which they are shown.
fn summary(key: &str, context: &AdminContext, replica: &Replica) -> (Summary, u64) {
    let (fired, measures) = (&replica.stats().fired, &context.measures);
    let terms = &context.live.terms;
    match key {
        "election_time" => (terms.election, 1),
        "follower_sync_time" => (terms.follower_sync, 1),
        "observer_sync_time" => (terms.observer_sync, 1),
        "unavailable_time" => (terms.unavailable, 1),
        "leader_unavailable_time" => (terms.leader_unavailable, 1),
        "inflight_diff_count" => (terms.syncs.diffs_in_flight, 1),
        "inflight_snap_count" => (terms.syncs.snapshots_in_flight, 1),
        "connection_token_deficit" => (replica.limit_figures().token_deficit, 1),
        "dbinittime" => (measures.db_init.get(), MS),
        "fsynctime" | "sync_process_time" => (measures.log_write.get(), MS),
        "node_created_watch_count" => (fired[0], 1),
        "node_deleted_watch_count" => (fired[1], 1),
        "node_changed_watch_count" => (fired[2], 1),
        "node_children_watch_count" => (fired[3], 1),
        "snapshottime" => (measures.snapshot.get(), MS),
        "startup_snap_load_time" => (measures.snapshot_load.get(), MS),
        "startup_txns_load_time" => (measures.txns_load.get(), MS),
        "startup_txns_loaded" => (measures.txns_loaded.get(), 1),
        "sync_processor_batch_size" => (measures.log_batch.get(), 1),
        _ => (Summary::default(), 1),
    }
}

fn histogram<'a>(
    key: &str,
    context: &'a AdminContext,
    replica: &'a Replica,
) -> Option<&'a Histogram> {
    let stats = replica.stats();
    match key {
        "commit_propagation_latency" => Some(&context.way.commit),
        "proposal_latency" => Some(&context.way.proposal),
        "quorum_ack_latency" => Some(&context.way.quorum),
        "request_throttle_queue_time_ms" => {
            Some(&replica.limit_figures().request_throttle_queue_us)
        }
        "readlatency" => Some(&stats.reads),
        // From its arrival a transaction waits for nothing but the log.
        "updatelatency" | "propagation_latency" | "sync_processor_queue_and_flush_time_ms" => {
            Some(&stats.updates)
        }
        _ => None,
    }
}
