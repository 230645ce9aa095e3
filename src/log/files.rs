//! What recovery needs to see of a data directory.

use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Read access to the two `version-2` directories of a server. Implemented by real directories
/// and by the simulated disk; errors are the system's words.
pub trait DataFiles {
    /// The whole content of a file, mapped or copied.
    type Content: Deref<Target = [u8]>;

    /// `dataDir/version-2`: snapshots.
    fn snap_dir(&self) -> &Path;
    /// `dataLogDir/version-2`: logs.
    fn log_dir(&self) -> &Path;
    /// Paths of the files in one of the two, in any order.
    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String>;
    /// Content of a file; `None` if there is no such file.
    fn read(&self, path: &Path) -> Result<Option<Self::Content>, String>;
    /// Removes the marker file `initialize`; whether it was there.
    fn take_initialize(&self) -> Result<bool, (PathBuf, String)>;
}
