//! Makes segment files ready for appending: new ones, and old ones for another life.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::{BLOCK, SegmentHeader};

use super::files::{DURABLE, LogFiles};

/// A segment that waits for its first record, durable under its `spare.` name.
#[derive(Debug)]
pub(super) struct Spare<F: LogFiles> {
    /// Its name.
    pub path: PathBuf,
    /// The file, open for writing.
    pub file: F::File,
    /// What its first block says.
    pub header: SegmentHeader,
}

/// What segments are to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SegmentKind {
    /// Size in bytes.
    pub size: u64,
    /// Written past the page cache; `None` where the file system can.
    pub direct_io: Option<bool>,
}

/// Fails if direct access is demanded and the log's directory does not offer it. Better at the
/// start than when the first client writes.
pub(super) fn check_direct<F: LogFiles>(files: &F, kind: SegmentKind) -> io::Result<()> {
    if kind.direct_io != Some(true) {
        return Ok(());
    }
    create(files, SegmentKind { size: 2 * BLOCK as u64, ..kind }, true)
        .and_then(|probe| files.remove(&probe.path))
}

/// Creates a segment. With `fill` every block is written, so that appending
/// changes no metadata later; without, it is merely reserved, which is quick.
pub(super) fn create<F: LogFiles>(
    files: &F,
    kind: SegmentKind,
    fill: bool,
) -> io::Result<Spare<F>> {
    let header =
        SegmentHeader { salt: files.salt()?, size: kind.size.next_multiple_of(BLOCK as u64) };
    let dir = files.log_dir();
    let path = dir.join(format!("spare.{:016x}", header.salt));
    let tmp = dir.join(format!("spare.{:016x}.tmp", header.salt));
    let make = || -> io::Result<F::File> {
        let file = files.create(&tmp)?;
        files.reserve(&file, header.size)?;
        files.set_len(&file, header.size)?;
        let file = files.open(&tmp, kind.direct_io)?;
        write_header(files, &file, &header)?;
        if fill {
            files.zero_fill(&file, BLOCK as u64, header.size)?;
        }
        files.sync(&file)?;
        files.rename(&tmp, &path)?;
        files.sync_dir(dir)?;
        Ok(file)
    };
    match make() {
        Ok(file) => Ok(Spare { path, file, header }),
        Err(e) => {
            let _ = files.remove(&tmp);
            Err(e)
        }
    }
}

/// Takes a segment that nobody needs out of the log: durably away from its name, and a header
/// with a new salt, which invalidates every record in it. Returns its new name.
pub(super) fn retire<F: LogFiles>(files: &F, old: &Path) -> io::Result<PathBuf> {
    recycle(files, old, None).map(|spare| spare.path)
}

/// The same, to be used at once.
pub(super) fn recycle<F: LogFiles>(
    files: &F,
    old: &Path,
    direct_io: Option<bool>,
) -> io::Result<Spare<F>> {
    let header = SegmentHeader { salt: files.salt()?, size: files.size(old)? };
    let dir = files.log_dir();
    let path = dir.join(format!("spare.{:016x}", header.salt));
    let tmp = dir.join(format!("spare.{:016x}.tmp", header.salt));
    files.rename(old, &tmp)?;
    files.sync_dir(dir)?;
    let file = files.open(&tmp, direct_io)?;
    write_header(files, &file, &header)?;
    files.rename(&tmp, &path)?;
    files.sync_dir(dir)?;
    Ok(Spare { path, file, header })
}

fn write_header<F: LogFiles>(files: &F, file: &F::File, header: &SegmentHeader) -> io::Result<()> {
    let mut block = files.buffer(BLOCK)?;
    block.copy_from_slice(&header.encode());
    files.write_all(file, &block, 0, DURABLE)
}
