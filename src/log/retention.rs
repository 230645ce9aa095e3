//! Which files no start will ever need. Counterpart: `PurgeTxnLog`.

use std::path::PathBuf;

use crate::base::Zxid;

use super::names::FileName;

/// How much to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PurgePolicy {
    /// `autopurge.snapRetainCount`: snapshots kept; `None` removes no snapshot and none of
    /// Apache's logs.
    pub snapshots: Option<usize>,
    /// Native segments are kept back to this many snapshots, so that a start can fall back to an
    /// older one. At least 1, and never fewer than `snapshots`.
    pub segments_back_to: usize,
}

/// What may go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PurgePlan {
    /// Snapshots and Apache logs to remove, in this order.
    pub remove: Vec<PathBuf>,
    /// Native segments that may be used again or removed, oldest first.
    pub segments: Vec<PathBuf>,
}

/// Autopurge never keeps fewer snapshots.
const RETAIN_MIN: usize = 3;

/// Decides from the files of the two directories; `is_valid` tells a complete snapshot, and logs
/// stay from transaction `leased` on.
pub fn plan_purge(
    policy: PurgePolicy,
    leased: Option<Zxid>,
    snap_files: Vec<(FileName, PathBuf)>,
    log_files: Vec<(FileName, PathBuf)>,
    is_valid: &dyn Fn(&PathBuf) -> bool,
) -> PurgePlan {
    let mut plan = PurgePlan::default();
    let mut valid: Vec<Zxid> = snap_files
        .iter()
        .filter_map(|(kind, path)| match kind {
            FileName::Snapshot(zxid) if is_valid(path) => Some(*zxid),
            _ => None,
        })
        .collect();
    valid.sort();
    valid.reverse();
    valid.dedup();
    let oldest_of = |count: usize| valid.get(count.min(valid.len()).wrapping_sub(1)).copied();
    let retain = policy.snapshots.map(|n| n.max(RETAIN_MIN));
    let oldest_kept = retain.and_then(oldest_of);
    if let Some(oldest) = oldest_kept {
        // Unlike Apache, names that cannot be parsed are left alone.
        let old = |kind: &FileName| matches!(kind, FileName::Snapshot(zxid) if *zxid < oldest);
        plan.remove.extend(snap_files.into_iter().filter(|(k, _)| old(k)).map(|(_, path)| path));
    }
    // With fewer snapshots than that the oldest one counts: nothing before it can be loaded.
    let back_to = policy.segments_back_to.max(1).max(retain.unwrap_or(0));
    let segments_from = oldest_of(back_to);
    let mut logs: Vec<(Zxid, bool, PathBuf)> = log_files
        .into_iter()
        .filter_map(|(kind, path)| match kind {
            FileName::ApacheLog(zxid) => Some((zxid, false, path)),
            FileName::Segment(zxid) => Some((zxid, true, path)),
            _ => None,
        })
        .collect();
    logs.sort();
    let last_native = logs.iter().rposition(|(_, native, _)| *native);
    for (index, (_, native, path)) in logs.iter().enumerate() {
        let Some(from) = (if *native { segments_from } else { oldest_kept }) else { continue };
        let from = leased.map_or(from, |leased| leased.min(from));
        // The newest file that starts at or before `from` may hold the transaction after it, and so
        // may each copy of it (log.5.bak): any of them may be the incomplete one.
        let newest = logs.iter().rev().find(|(first, _, _)| *first <= from);
        let needed = newest.map_or(0, |(newest, _, _)| logs.partition_point(|l| l.0 < *newest));
        if index >= needed || (*native && last_native == Some(index)) {
            continue;
        }
        if *native {
            plan.segments.push(path.clone());
        } else {
            plan.remove.push(path.clone());
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy may have ended early, so it does not make what it was copied from superfluous.
    #[test]
    fn a_log_stays_as_long_as_its_copies() {
        let files = |names: &[&str]| {
            names.iter().map(|name| (FileName::parse(name), PathBuf::from(name))).collect()
        };
        let snaps = files(&["snapshot.8"]);
        let logs = files(&["log.1", "log.1.bak", "log.5", "log.5.bak", "wal.b"]);
        let policy = PurgePolicy { snapshots: Some(3), segments_back_to: 3 };
        let plan = plan_purge(policy, None, snaps, logs, &|_| true);
        assert_eq!(plan.remove, [PathBuf::from("log.1"), PathBuf::from("log.1.bak")]);
        assert_eq!(plan.segments, Vec::<PathBuf>::new());
    }
    /// For instance snapshot.1e makes superfluous what lies before wal.15, and somebody reads from
    /// 0x9 on.
    #[test]
    fn a_log_stays_as_long_as_somebody_reads_it() {
        let files = |names: &[&str]| {
            names.iter().map(|name| (FileName::parse(name), PathBuf::from(name))).collect()
        };
        let logs = ["log.1", "log.5", "log.9", "wal.b", "wal.15", "wal.1f"];
        let policy = PurgePolicy { snapshots: Some(3), segments_back_to: 3 };
        for (leased, removed, again) in [
            (None, 3, 1),
            (Some(0x1e), 3, 1),
            (Some(0x14), 3, 0),
            (Some(0xa), 2, 0),
            (Some(9), 2, 0),
            (Some(8), 1, 0),
            (Some(1), 0, 0),
        ] {
            let snaps = files(&["snapshot.1e"]);
            let plan = plan_purge(policy, leased.map(Zxid), snaps, files(&logs), &|_| true);
            let want: Vec<PathBuf> = logs[..removed].iter().map(PathBuf::from).collect();
            assert_eq!(plan.remove, want, "{leased:x?}");
            assert_eq!(plan.segments.len(), again, "{leased:x?}");
        }
    }
}
