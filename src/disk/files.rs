//! The port to the files of a data directory: every operation of the log writer, the repair and
//! the housekeeper whose order decides what a crash leaves behind.
//!
//! Implemented by the real directory here and by the simulated disk, which can lose power between
//! any two of these operations. Dispatch is static, so on the real directory each is the call it
//! stands for.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::ops::DerefMut;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use crate::base::Zxid;
use crate::log::{DataFiles, FileName};
use crate::sys::file::{
    AlignedBuf, open_direct, random_u64, reserve, sync_dir, write_all_flags, write_back,
    write_flags, zero_fill,
};

use super::datadir::DataDir;
use super::listing::list;
use super::presence::Absence;

/// Flag of a write that is durable when it has ended (`RWF_DSYNC`).
pub const DURABLE: i32 = crate::sys::file::RWF_DSYNC;

/// The files of one data directory. Paths come from the directory's own listing or are built from
/// its two directories; errors are the system's.
pub trait LogFiles: DataFiles {
    /// An open file. It stays open, whatever becomes of its name, until this is dropped.
    type File: fmt::Debug;
    /// How the code that performs a [`super::PendingWrite`] knows an open file.
    type Handle: Copy + fmt::Debug;
    /// Memory that a segment can be written from.
    type Buffer: DerefMut<Target = [u8]> + fmt::Debug;

    /// Files of one of the two directories with what their names say, ascending.
    fn entries(&self, dir: &Path) -> io::Result<Vec<(FileName, PathBuf)>>;
    /// Whether there is something of that name.
    fn exists(&self, path: &Path) -> bool;
    /// Size of a file in bytes.
    fn size(&self, path: &Path) -> io::Result<u64>;
    /// A number that no earlier call has given.
    fn salt(&self) -> io::Result<u64>;
    /// Zeroed memory of `len` bytes or the few more that whole blocks take.
    fn buffer(&self, len: usize) -> io::Result<Self::Buffer>;

    /// Creates an empty file or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for writing: past the page cache, through it, or (`None`) past it
    /// where the file system can.
    fn open(&self, path: &Path, direct_io: Option<bool>) -> io::Result<Self::File>;
    /// What [`super::PendingWrite`] calls the file.
    fn handle(&self, file: &Self::File) -> Self::Handle;
    /// Reserves space for the first `len` bytes, where the file system can, without writing them.
    fn reserve(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Cuts or extends the file to `len` bytes.
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Writes zeros over the bytes from `from` to `to`, both multiples of a block.
    fn zero_fill(&self, file: &Self::File, from: u64, to: u64) -> io::Result<()>;
    /// Writes at `offset`, durable on return if `flags` is [`DURABLE`] and not 0. May write less
    /// than asked.
    fn write(&self, file: &Self::File, buf: &[u8], offset: u64, flags: i32) -> io::Result<usize>;
    /// The same for all of `buf`, by other means where the system does not know the flag.
    fn write_all(&self, file: &Self::File, buf: &[u8], offset: u64, flags: i32) -> io::Result<()>;
    /// Writes all of `buf` after what [`LogFiles::append`] wrote before.
    fn append(&self, file: &Self::File, buf: &[u8]) -> io::Result<()>;
    /// Bytes of a file from `offset` on: `len`, or fewer where it ends. Other than
    /// [`DataFiles::read`], it may be written meanwhile.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Starts writing a range back, and waits for it if `wait`: paces a large file, and makes
    /// nothing durable.
    fn write_back(&self, file: &Self::File, offset: u64, len: u64, wait: bool);
    /// Makes content and size durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// The same for a file that is not open, and that may be read only.
    fn sync_path(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name; one that had it is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file's name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// From here on this segment is written, which begins with transaction `first`: its name is
    /// among those that [`LogFiles::absence`] looks up.
    fn begin_segment(&self, path: &Path, file: &Self::File, first: Zxid) -> io::Result<()>;
    /// The segment that is written is going to lose its name, as is meant.
    fn end_segment(&self);
    /// Whether what was written up to `zxid` may be acknowledged: not once something that is open
    /// was found to have lost its name.
    fn may_acknowledge(&self, zxid: Zxid) -> bool;
    /// What is open and has lost its name, by a fresh look.
    fn absence(&self) -> Option<Absence>;
}

impl LogFiles for DataDir {
    type File = File;
    type Handle = RawFd;
    type Buffer = AlignedBuf;

    fn entries(&self, dir: &Path) -> io::Result<Vec<(FileName, PathBuf)>> {
        list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|m| m.len())
    }

    fn salt(&self) -> io::Result<u64> {
        random_u64()
    }

    fn buffer(&self, len: usize) -> io::Result<AlignedBuf> {
        AlignedBuf::new(len)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn open(&self, path: &Path, direct_io: Option<bool>) -> io::Result<File> {
        if direct_io == Some(false) {
            return File::options().read(true).write(true).open(path);
        }
        match open_direct(path)? {
            (_, false) if direct_io == Some(true) => Err(no_direct()),
            (file, _) => Ok(file),
        }
    }

    fn handle(&self, file: &File) -> RawFd {
        file.as_raw_fd()
    }

    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        reserve(file, len)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn zero_fill(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        zero_fill(file, from, to)
    }

    fn write(&self, file: &File, buf: &[u8], offset: u64, flags: i32) -> io::Result<usize> {
        write_flags(file, buf, offset, flags)
    }

    fn write_all(&self, file: &File, buf: &[u8], offset: u64, flags: i32) -> io::Result<()> {
        write_all_flags(file, buf, offset, flags)
    }

    fn append(&self, file: &File, buf: &[u8]) -> io::Result<()> {
        (&*file).write_all(buf)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (File::open(path)?, Vec::new());
        // What a damaged length asks for is no reason to take that much memory.
        let rest = file.metadata()?.len().saturating_sub(offset);
        bytes.reserve(usize::try_from(rest).map_or(len, |rest| rest.min(len)));
        file.seek(io::SeekFrom::Start(offset))?;
        file.take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_back(&self, file: &File, offset: u64, len: u64, wait: bool) {
        let _ = write_back(file, offset, len, wait);
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_dir(dir)
    }

    fn begin_segment(&self, path: &Path, file: &File, first: Zxid) -> io::Result<()> {
        self.presence().segment(path, file, first)
    }

    fn end_segment(&self) {
        self.presence().no_segment();
    }

    fn may_acknowledge(&self, zxid: Zxid) -> bool {
        self.presence().may_acknowledge(zxid)
    }

    fn absence(&self) -> Option<Absence> {
        self.presence().look()
    }
}

/// Whether a file passes Apache's cheap test of a snapshot, see [`crate::log::looks_valid`].
/// Anything unreadable does not.
pub(super) fn is_snapshot<F: LogFiles>(files: &F, path: &Path) -> bool {
    matches!(files.read(path), Ok(Some(content)) if crate::log::looks_valid(path, &content))
}

fn no_direct() -> io::Error {
    let what = "the file system cannot write past the page cache; ringkeeper.log.directIo=auto \
                does without";
    io::Error::new(io::ErrorKind::Unsupported, what)
}
