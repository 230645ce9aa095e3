//! Files as the log needs them: aligned buffers, direct synchronous writes, zero-filled
//! preallocation, read mappings, free space. Everything blocks; the asynchronous write is the
//! ring's, on the same file descriptor and flags.
//!
//! Mappings are read-only. A page that the disk cannot deliver raises SIGBUS when it is read, and
//! so does a page past the end of a file that somebody truncated; that ends the process. The
//! directory lock keeps other servers out, and nothing here shrinks a file while the file is
//! mapped.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::{Advice, Mmap, MmapMut};

/// Flag of a write that is durable when it returns (`RWF_DSYNC`).
pub const RWF_DSYNC: i32 = libc::RWF_DSYNC;

/// Page-aligned, zeroed memory that may be moved between owners (into a ring operation and back)
/// while its address stays.
#[derive(Debug)]
pub struct AlignedBuf(MmapMut);

impl AlignedBuf {
    /// `len` bytes, rounded up to whole pages of 4096.
    pub fn new(len: usize) -> io::Result<AlignedBuf> {
        Ok(AlignedBuf(MmapMut::map_anon(len.max(1).next_multiple_of(4096))?))
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A whole file mapped for reading.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps `file` as long as it is now and announces a sequential read.
    pub fn new(file: &File) -> io::Result<MappedFile> {
        if file.metadata()?.len() == 0 {
            return Ok(MappedFile(None));
        }
        // SAFETY: the mapping is read-only and private to this process; that nobody changes or
        // truncates the file meanwhile is what the directory lock is for (see the file's head).
        let map = unsafe { Mmap::map(file) }?;
        // Advice only: a kernel without it just reads ahead less.
        let _ = map.advise(Advice::Sequential);
        // All of it is looked at, and holes, which are not read ahead, from their end.
        let _ = map.advise(Advice::PopulateRead);
        Ok(MappedFile(Some(map)))
    }
}

impl Deref for MappedFile {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

/// A path as the kernel wants it.
fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Whether this process could make files in a directory; the system's words if not. Changes
/// nothing.
pub fn may_write(dir: &Path) -> io::Result<()> {
    may(dir, libc::W_OK | libc::X_OK)
}

/// Whether this process could open a file for reading, and for `writing` too; the system's words if
/// not.
pub fn may_open(file: &Path, writing: bool) -> io::Result<()> {
    may(file, if writing { libc::R_OK | libc::W_OK } else { libc::R_OK })
}

fn may(path: &Path, mode: libc::c_int) -> io::Result<()> {
    let path = c_path(path)?;
    let flags = libc::AT_EACCESS;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a path belongs to a file system that only shows what the kernel knows (proc, sysfs,
/// cgroup), where no file of ours can be.
pub fn is_of_kernel(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    // SAFETY: all zeros is a valid statfs, a struct of numbers.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a NUL-terminated string and the result points to the struct above.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    let kinds = [libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC, libc::CGROUP2_SUPER_MAGIC];
    result == 0 && kinds.contains(&found.f_type)
}

/// Opens an existing file for block-aligned writing past the page cache. The flag says whether
/// the file system can do that; if not, the file is open for ordinary writing.
pub fn open_direct(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) if direct_works(&file) => Ok((file, true)),
        Ok(_) => Ok((options.open(path)?, false)),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok((options.open(path)?, false)),
        Err(e) => Err(e),
    }
}

/// Whether 4096-byte direct access is really possible: some file systems take the flag on open
/// and refuse the access, and some devices have larger blocks.
fn direct_works(file: &File) -> bool {
    let Ok(mut buf) = AlignedBuf::new(4096) else { return false };
    matches!(file.read_at(&mut buf, 0), Ok(4096))
}

/// Writes at `offset`, durable on return if `flags` has [`RWF_DSYNC`]. May write less than asked.
pub fn write_flags(file: &File, buf: &[u8], offset: u64, flags: i32) -> io::Result<usize> {
    let vec = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        // SAFETY: `vec` describes `buf`, which outlives the call and is only read by it.
        let n = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const vec, 1, offset, flags) };
        if n >= 0 {
            return Ok(n as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Writes all of `buf` at `offset` with `flags`; falls back to write and fdatasync where the
/// kernel does not know the flags.
pub fn write_all_flags(file: &File, buf: &[u8], offset: u64, flags: i32) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match write_flags(file, &buf[done..], offset + done as u64, flags) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(e)
                if flags != 0
                    && matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) =>
            {
                file.write_all_at(&buf[done..], offset + done as u64)?;
                return file.sync_data();
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reserves space for the first `len` bytes without writing them. Unsupported is not an error.
pub fn reserve(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: no memory is passed, and the descriptor is open for the whole call.
    let rc = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
    if rc == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        e if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
        e => Err(e),
    }
}

/// Fails unless a new file of `len` bytes fits into `dir`. The file that is made to find out has no
/// name, so nothing is left of it. A file system without such files is asked for its free space
/// instead, a figure that knows no quotas.
///
/// # Errors
/// `StorageFull` or `QuotaExceeded` without room; others of open.
pub fn has_room(dir: &Path, len: u64) -> io::Result<()> {
    use io::ErrorKind::{
        NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let is_final = |kind| {
        matches!(
            kind,
            NotFound | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
        )
    };
    match OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(dir) {
        Ok(file) => reserve(&file, len),
        Err(e) if is_final(e.kind()) => Err(e),
        Err(_) if free_space(dir)? < len => Err(io::ErrorKind::StorageFull.into()),
        Err(_) => Ok(()),
    }
}

/// Writes zeros over the bytes from `from` to `to`, so that later writes change no metadata. A
/// file opened for direct access needs both to be multiples of 4096.
pub fn zero_fill(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = AlignedBuf::new(1 << 20)?;
    let mut at = from;
    while at < to {
        let n = zeros.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

/// Starts write-back of a range, and waits for it if `wait`: paces a large file's writing, so
/// that a final sync has little left to do. Not a durability guarantee.
pub fn write_back(file: &File, offset: u64, len: u64, wait: bool) -> io::Result<()> {
    let to = |n| libc::off64_t::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
    let (offset, len) = (to(offset)?, to(len)?);
    let mut flags = libc::SYNC_FILE_RANGE_WRITE;
    if wait {
        flags |= libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    }
    // SAFETY: no memory is passed, and the descriptor is open for the whole call.
    let rc = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes renames, creations and removals in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Bytes that this process may still write to the file system of `path`.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let name = c_path(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends with a zero byte and `stat` has room for the result.
    let rc = unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled in the whole structure.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A random number from the kernel, for salts and seeds.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is valid for its 8 bytes for the whole call.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_le_bytes(bytes))
}

/// From now on the calling thread has descriptors of its own, at first only the three standard
/// ones: what it opens others cannot use, and what others have open it does not keep open.
pub fn have_own_descriptors() -> io::Result<()> {
    let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
    // SAFETY: it takes integers only. No owner of a descriptor is on this thread, as its callers
    // have just started it.
    let rc =
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_UNSHARE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_writes_arrive_and_map() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        reserve(&file, 16384).unwrap();
        zero_fill(&file, 0, 16384).unwrap();
        file.sync_all().unwrap();
        sync_dir(dir.path()).unwrap();
        let (file, _direct) = open_direct(&path).unwrap();
        let mut buf = AlignedBuf::new(5000).unwrap();
        assert_eq!((buf.len(), buf.as_ptr().addr() % 4096), (8192, 0));
        buf.fill(7);
        write_all_flags(&file, &buf, 4096, RWF_DSYNC).unwrap();
        let map = MappedFile::new(&file).unwrap();
        assert_eq!(map.len(), 16384);
        assert!(map[4096..12288].iter().all(|&b| b == 7) && map[12288..].iter().all(|&b| b == 0));
        assert!(free_space(dir.path()).unwrap() > 0);
        has_room(dir.path(), 4096).unwrap();
        let full = has_room(dir.path(), 1 << 60).unwrap_err().kind();
        assert!(matches!(full, io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_ne!(random_u64().unwrap(), random_u64().unwrap());
    }
}
