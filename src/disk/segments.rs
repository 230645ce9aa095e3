//! Makes segment files ready for appending: new ones, and old ones for another life.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::log::{BLOCK, SegmentHeader};
use crate::sys::file::{
    AlignedBuf, RWF_DSYNC, open_direct, random_u64, reserve, sync_dir, write_all_flags, zero_fill,
};

/// A segment that waits for its first record, durable under its `spare.` name.
#[derive(Debug)]
pub(super) struct Spare {
    pub path: PathBuf,
    pub file: File,
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

/// Opens a segment for writing as wanted.
fn open(path: &Path, direct_io: Option<bool>) -> io::Result<File> {
    if direct_io == Some(false) {
        return File::options().read(true).write(true).open(path);
    }
    match open_direct(path)? {
        (_, false) if direct_io == Some(true) => Err(no_direct()),
        (file, _) => Ok(file),
    }
}

fn no_direct() -> io::Error {
    let what = "the file system cannot write past the page cache; ringkeeper.log.directIo=auto \
                does without";
    io::Error::new(io::ErrorKind::Unsupported, what)
}

/// Fails if direct access is demanded and `dir` does not offer it. Better at the start than when
/// the first client writes.
pub(super) fn check_direct(dir: &Path, kind: SegmentKind) -> io::Result<()> {
    if kind.direct_io != Some(true) {
        return Ok(());
    }
    create(dir, SegmentKind { size: 2 * BLOCK as u64, ..kind }, true)
        .and_then(|probe| fs::remove_file(probe.path))
}

/// Creates a segment. With `fill` every block is written, so that appending
/// changes no metadata later; without, it is merely reserved, which is quick.
pub(super) fn create(dir: &Path, kind: SegmentKind, fill: bool) -> io::Result<Spare> {
    let header =
        SegmentHeader { salt: random_u64()?, size: kind.size.next_multiple_of(BLOCK as u64) };
    let path = dir.join(format!("spare.{:016x}", header.salt));
    let tmp = dir.join(format!("spare.{:016x}.tmp", header.salt));
    let make = || -> io::Result<File> {
        let file = File::create(&tmp)?;
        reserve(&file, header.size)?;
        file.set_len(header.size)?;
        let file = open(&tmp, kind.direct_io)?;
        write_header(&file, &header)?;
        if fill {
            zero_fill(&file, BLOCK as u64, header.size)?;
        }
        file.sync_all()?;
        fs::rename(&tmp, &path)?;
        sync_dir(dir)?;
        Ok(file)
    };
    match make() {
        Ok(file) => Ok(Spare { path, file, header }),
        Err(e) => {
            let _ = fs::remove_file(&tmp);
            Err(e)
        }
    }
}

/// Takes a segment that nobody needs out of the log: durably away from its name, and a header
/// with a new salt, which invalidates every record in it. Returns its new name.
pub(super) fn retire(dir: &Path, old: &Path) -> io::Result<PathBuf> {
    recycle(dir, old, None).map(|spare| spare.path)
}

/// The same, to be used at once.
pub(super) fn recycle(dir: &Path, old: &Path, direct_io: Option<bool>) -> io::Result<Spare> {
    let size = fs::metadata(old)?.len();
    let header = SegmentHeader { salt: random_u64()?, size };
    let path = dir.join(format!("spare.{:016x}", header.salt));
    let tmp = dir.join(format!("spare.{:016x}.tmp", header.salt));
    fs::rename(old, &tmp)?;
    sync_dir(dir)?;
    let file = open(&tmp, direct_io)?;
    write_header(&file, &header)?;
    fs::rename(&tmp, &path)?;
    sync_dir(dir)?;
    Ok(Spare { path, file, header })
}

fn write_header(file: &File, header: &SegmentHeader) -> io::Result<()> {
    let mut block = AlignedBuf::new(BLOCK)?;
    block.copy_from_slice(&header.encode());
    write_all_flags(file, &block, 0, RWF_DSYNC)
}
