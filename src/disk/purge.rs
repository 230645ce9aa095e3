//! Removes what no start will ever need. Counterpart: `PurgeTxnLog`.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::base::Zxid;

use super::datadir::DataDir;
use super::names::{FileName, list};
use super::snapfile::looks_valid;

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

/// What a purge did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Purged {
    /// Snapshots and Apache logs removed.
    pub removed: Vec<PathBuf>,
    /// Native segments that may be used again or removed, oldest first.
    pub segments: Vec<PathBuf>,
}

/// Autopurge never keeps fewer snapshots.
const RETAIN_MIN: usize = 3;

/// Removes old snapshots and Apache logs, and lists the native segments that nobody needs.
pub(super) fn purge(dir: &DataDir, policy: PurgePolicy) -> io::Result<Purged> {
    let mut purged = Purged::default();
    let files = list(dir.snap_dir())?;
    let mut valid: Vec<Zxid> = files
        .iter()
        .filter_map(|(kind, path)| match kind {
            FileName::Snapshot(zxid) if looks_valid(path) => Some(*zxid),
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
        for (kind, path) in files {
            // Unlike Apache, names that cannot be parsed are left alone.
            if matches!(kind, FileName::Snapshot(zxid) if zxid < oldest) {
                fs::remove_file(&path)?;
                purged.removed.push(path);
            }
        }
    }
    // With fewer snapshots than that the oldest one counts: nothing before it can be loaded.
    let back_to = policy.segments_back_to.max(1).max(retain.unwrap_or(0));
    let segments_from = oldest_of(back_to);
    let mut logs: Vec<(Zxid, bool, PathBuf)> = list(dir.log_dir())?
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
        // The newest file that starts at or before `from` may hold the transaction after it.
        let needed = logs.iter().rposition(|(first, _, _)| *first <= from).unwrap_or(0);
        if index >= needed || (*native && last_native == Some(index)) {
            continue;
        }
        if *native {
            purged.segments.push(path.clone());
        } else {
            fs::remove_file(path)?;
            purged.removed.push(path.clone());
        }
    }
    Ok(purged)
}
