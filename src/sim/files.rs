//! The simulated disk as the real code sees it: what recovery reads and what `disk` does to files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Rng, Zxid};
use crate::disk::{Absence, DURABLE, LogFiles};
use crate::log::{BLOCK, DataFiles, FileName, GUARD_NAME};

use super::disk::{DIR, DiskError, FileId, SimDisk, name_of};
use super::options::Bug;

/// The one directory of the simulated server. The mutex is for the signatures only: there is one
/// thread.
#[derive(Debug)]
pub struct SimFiles {
    disk: Mutex<SimDisk>,
    dir: PathBuf,
    bug: Option<Bug>,
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> io::Error {
        match error {
            DiskError::Crashed => io::Error::other("the power failed"),
            DiskError::Full => io::ErrorKind::StorageFull.into(),
            DiskError::Missing => io::ErrorKind::NotFound.into(),
            DiskError::Failed => io::Error::other("the device failed"),
        }
    }
}

impl SimFiles {
    /// An empty directory.
    pub fn new(seed: u64, bug: Option<Bug>) -> SimFiles {
        let disk = Mutex::new(SimDisk::new(seed));
        SimFiles { disk, dir: PathBuf::from(DIR), bug }
    }

    /// The disk itself, for faults and for looking behind the server's back.
    pub fn disk(&self) -> MutexGuard<'_, SimDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy as a power failure now would leave it.
    pub fn after_power_loss(&self, rng: &mut Rng) -> SimFiles {
        let mut disk = self.disk().clone();
        disk.crash(rng);
        SimFiles { disk: Mutex::new(disk), dir: self.dir.clone(), bug: self.bug }
    }

    fn find(&self, path: &Path) -> Result<FileId, DiskError> {
        self.disk().find(name_of(path)).ok_or(DiskError::Missing)
    }
}

impl DataFiles for SimFiles {
    type Content = Vec<u8>;

    fn snap_dir(&self) -> &Path {
        &self.dir
    }

    fn log_dir(&self) -> &Path {
        &self.dir
    }

    fn list(&self, _dir: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(self.disk().names().into_iter().map(|(_, path)| path).collect())
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        let disk = self.disk();
        Ok(disk.find(name_of(path)).map(|file| disk.content(file).to_vec()))
    }

    fn take_initialize(&self) -> Result<bool, (PathBuf, String)> {
        Ok(false)
    }
}

impl LogFiles for SimFiles {
    type File = FileId;
    type Handle = FileId;
    type Buffer = Vec<u8>;

    fn entries(&self, _dir: &Path) -> io::Result<Vec<(FileName, PathBuf)>> {
        Ok(self.disk().names())
    }

    fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let file = self.find(path)?;
        Ok(self.disk().len(file) as u64)
    }

    fn salt(&self) -> io::Result<u64> {
        Ok(self.disk().salt())
    }

    fn buffer(&self, len: usize) -> io::Result<Vec<u8>> {
        Ok(vec![0; len.next_multiple_of(BLOCK)])
    }

    fn create(&self, path: &Path) -> io::Result<FileId> {
        Ok(self.disk().create(name_of(path))?)
    }

    fn open(&self, path: &Path, _direct_io: Option<bool>) -> io::Result<FileId> {
        Ok(self.find(path)?)
    }

    fn handle(&self, file: &FileId) -> FileId {
        *file
    }

    fn reserve(&self, _file: &FileId, _len: u64) -> io::Result<()> {
        Ok(self.disk().step()?)
    }

    fn set_len(&self, file: &FileId, len: u64) -> io::Result<()> {
        Ok(self.disk().set_len(*file, len as usize)?)
    }

    fn zero_fill(&self, file: &FileId, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; (to - from) as usize];
        Ok(self.disk().write(*file, from as usize, &zeros)?)
    }

    fn write(&self, file: &FileId, buf: &[u8], offset: u64, flags: i32) -> io::Result<usize> {
        self.write_all(file, buf, offset, flags)?;
        Ok(buf.len())
    }

    fn write_all(&self, file: &FileId, buf: &[u8], offset: u64, flags: i32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.write(*file, offset as usize, buf)?;
        if flags == DURABLE && self.bug != Some(Bug::SkipWriteThrough) {
            disk.sync_range(*file, offset as usize, buf.len())?;
        }
        Ok(())
    }

    fn append(&self, file: &FileId, buf: &[u8]) -> io::Result<()> {
        Ok(self.disk().append(*file, buf)?)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = self.find(path)?;
        let disk = self.disk();
        let rest = disk.content(file).get(offset as usize..).unwrap_or(&[]);
        Ok(rest[..rest.len().min(len)].to_vec())
    }

    fn write_back(&self, _file: &FileId, _offset: u64, _len: u64, _wait: bool) {}

    fn sync(&self, file: &FileId) -> io::Result<()> {
        match self.bug {
            Some(Bug::SkipFileSync) => Ok(()),
            _ => Ok(self.disk().sync(*file)?),
        }
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        self.sync(&self.find(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.bug == Some(Bug::SkipGuard) && name_of(to) == GUARD_NAME {
            return self.remove(from);
        }
        Ok(self.disk().rename(name_of(from), name_of(to))?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(self.disk().remove(name_of(path))?)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        match self.bug {
            Some(Bug::SkipDirSync) => Ok(()),
            _ => Ok(self.disk().sync_dir()?),
        }
    }

    // Nobody but the server touches the simulated directory.

    fn begin_segment(&self, _path: &Path, _file: &FileId, _first: Zxid) -> io::Result<()> {
        Ok(())
    }

    fn end_segment(&self) {}

    fn may_acknowledge(&self, _zxid: Zxid) -> bool {
        true
    }

    fn absence(&self) -> Option<Absence> {
        None
    }
}
