//! Finds what no start will ever need; `log` decides what that is. Counterpart: `PurgeTxnLog`.

use std::io;
use std::path::PathBuf;

use crate::base::Zxid;
use crate::log::{PurgePolicy, plan_purge};

use super::files::{LogFiles, is_snapshot};

/// What a purge did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Purged {
    /// Snapshots and Apache logs removed.
    pub removed: Vec<PathBuf>,
    /// Native segments that may be used again or removed, oldest first.
    pub segments: Vec<PathBuf>,
}

/// What to remove, and the native segments that nobody needs; somebody may need the transaction
/// `leased` and later ones.
pub(super) fn plan<F: LogFiles>(
    files: &F,
    policy: PurgePolicy,
    leased: Option<Zxid>,
) -> io::Result<Purged> {
    let snap_files = files.entries(files.snap_dir())?;
    let log_files = files.entries(files.log_dir())?;
    let plan = plan_purge(policy, leased, snap_files, log_files, &|path| is_snapshot(files, path));
    Ok(Purged { removed: plan.remove, segments: plan.segments })
}
