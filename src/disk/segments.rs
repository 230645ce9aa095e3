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

/// Creates a segment of `size` bytes. With `fill` every block is written, so that appending
/// changes no metadata later; without, it is merely reserved, which is quick.
pub(super) fn create(dir: &Path, size: u64, fill: bool) -> io::Result<Spare> {
    let header = SegmentHeader { salt: random_u64()?, size: size.next_multiple_of(BLOCK as u64) };
    let path = dir.join(format!("spare.{:016x}", header.salt));
    let tmp = dir.join(format!("spare.{:016x}.tmp", header.salt));
    let make = || -> io::Result<File> {
        let file = File::create(&tmp)?;
        reserve(&file, header.size)?;
        file.set_len(header.size)?;
        let (file, _) = open_direct(&tmp)?;
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
    recycle(dir, old).map(|spare| spare.path)
}

/// The same, to be used at once.
pub(super) fn recycle(dir: &Path, old: &Path) -> io::Result<Spare> {
    let size = fs::metadata(old)?.len();
    let header = SegmentHeader { salt: random_u64()?, size };
    let path = dir.join(format!("spare.{:016x}", header.salt));
    let tmp = dir.join(format!("spare.{:016x}.tmp", header.salt));
    fs::rename(old, &tmp)?;
    sync_dir(dir)?;
    let (file, _) = open_direct(&tmp)?;
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
