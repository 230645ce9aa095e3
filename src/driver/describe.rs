//! What a loop says of its stages in a state report.

use crate::base::Instant;
use crate::disk::LogFiles;

use super::edge::Edge;
use super::links::Links;
use super::log_stage::LogStage;
use super::port::Io;
use super::replica_stage::ReplicaStage;
use super::turn::DriverParts;

/// The state of the stages of one loop.
pub(super) fn stages<I: Io>(now: Instant, parts: &DriverParts<I>) -> String {
    let told = [
        parts.edge.as_ref().map(connections),
        parts.links.as_ref().map(members),
        parts.replica.as_ref().map(|stage| replica(now, stage)),
        parts.log.as_ref().map(|stage| log_stage(now, stage)),
    ];
    told.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn connections<I: Io>(edge: &Edge<I>) -> String {
    format!("{} connections here", edge.connections())
}

fn members<I: Io>(links: &Links<I>) -> String {
    format!("{} connections with other members", links.len())
}

fn replica<I: Io>(now: Instant, stage: &ReplicaStage<I>) -> String {
    let replica = stage.member.replica();
    let (snap_bytes, log_bytes) = stage.house.dir_sizes;
    let timer = match replica.deadline() {
        Some(at) => format!("in {} ms", at.since(now).as_millis()),
        None => "none".to_owned(),
    };
    format!(
        "applied up to 0x{}, {} sessions, {} connections, {} znodes, {} requests outstanding, \
         next timer {timer}; {}; {snap_bytes} bytes in dataDir, {log_bytes} in dataLogDir",
        replica.last_processed(),
        replica.session_count(),
        replica.client_count(),
        replica.tree().node_count(),
        replica.outstanding(),
        stage.house.describe_snapshot(now, replica.is_snapshotting()),
    )
}

fn log_stage<F: LogFiles>(now: Instant, stage: &LogStage<F>) -> String {
    let segment = stage.writer.segment();
    let segment = segment.map_or("no segment yet".to_owned(), |path| path.display().to_string());
    format!(
        "log durable up to 0x{} in {segment}, {} bytes queued, {}",
        stage.writer.durable(),
        stage.writer.pending_bytes(),
        stage.describe_write(now)
    )
}
