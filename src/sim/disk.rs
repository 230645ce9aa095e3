//! A disk that forgets: files with a volatile and a durable image, names that are durable only
//! after a directory sync, failing and full on demand.
//!
//! Pessimistic on purpose: at a crash every 512-byte sector written since the last sync is old,
//! new or torn independently, every file's name is any of those it had since the last directory
//! sync, and a length that was not synced is anything between the two. What was synced stays, and a
//! file loses its name to another only together with that one's getting it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::base::Rng;
use crate::log::FileName;

/// Unit that a crash keeps or loses.
pub const SECTOR: usize = 512;
/// Where its files are.
pub const DIR: &str = "version-2";

/// Why an operation did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The machine lost power before it.
    Crashed,
    /// No space left.
    Full,
    /// There is no such name.
    Missing,
    /// The device answered with an error.
    Failed,
}

/// A file, whatever its name is by now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId(usize);

#[derive(Clone, Debug, Default)]
struct SimFile {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// The durable name, then every later one.
    names: Vec<Naming>,
}

/// What became of a file's name.
#[derive(Clone, Debug)]
enum Naming {
    None,
    /// Given at this time.
    Given(String, u64),
    /// Lost to a file that got it at this time.
    Taken(usize, u64),
}

/// One directory on one device.
#[derive(Clone, Debug)]
pub struct SimDisk {
    files: Vec<SimFile>,
    current: BTreeMap<String, usize>,
    /// Operations (and other effects of the server) until the power fails.
    pub crash_in: Option<u32>,
    /// Nothing can be created or extended.
    pub full: bool,
    /// The next write that is to be durable fails.
    pub fail_next: bool,
    /// It has answered with an error since the server started.
    pub has_failed: bool,
    /// The power has failed: nothing happens any more.
    off: bool,
    salts: Rng,
    /// Counts the names that were given.
    time: u64,
}

fn sector_of(image: &[u8], index: usize) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let start = (index * SECTOR).min(image.len());
    let end = (start + SECTOR).min(image.len());
    sector[..end - start].copy_from_slice(&image[start..end]);
    sector
}

fn put_sector(image: &mut [u8], index: usize, sector: &[u8; SECTOR]) {
    let start = (index * SECTOR).min(image.len());
    let end = (start + SECTOR).min(image.len());
    image[start..end].copy_from_slice(&sector[..end - start]);
}

impl SimDisk {
    /// An empty disk; salts come from `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            files: Vec::new(),
            current: BTreeMap::new(),
            crash_in: None,
            full: false,
            fail_next: false,
            has_failed: false,
            off: false,
            salts: Rng::new(seed),
            time: 0,
        }
    }

    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// The faults that were to come do not.
    pub fn calm(&mut self) {
        self.crash_in = None;
        self.fail_next = false;
    }

    /// The next random number, for a salt.
    pub fn salt(&mut self) -> u64 {
        self.salts.next_u64()
    }

    /// Counts one effect; the power may fail instead of it.
    pub fn step(&mut self) -> Result<(), DiskError> {
        match &mut self.crash_in {
            Some(0) => {
                self.off = true;
                Err(DiskError::Crashed)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn refuse(&mut self, error: DiskError) -> DiskError {
        self.has_failed = true;
        error
    }

    /// Creates an empty file, replacing one of that name.
    pub fn create(&mut self, name: &str) -> Result<FileId, DiskError> {
        self.step()?;
        if self.full {
            return Err(self.refuse(DiskError::Full));
        }
        self.files.push(SimFile { names: vec![Naming::None], ..SimFile::default() });
        let id = self.files.len() - 1;
        self.give(name, id);
        Ok(FileId(id))
    }

    /// A whole, durable file of that name.
    pub fn plant(&mut self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        let file = self.create(name)?;
        self.append(file, content)?;
        self.sync(file)?;
        self.sync_dir()
    }

    fn give(&mut self, name: &str, id: usize) {
        self.time += 1;
        self.files[id].names.push(Naming::Given(name.to_owned(), self.time));
        if let Some(old) = self.current.insert(name.to_owned(), id) {
            self.files[old].names.push(Naming::Taken(id, self.time));
        }
    }

    /// Writes into the volatile image; what was there stays possible until a sync.
    pub fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), DiskError> {
        self.step()?;
        let end = offset + bytes.len();
        if self.full && end > self.len(file) {
            return Err(self.refuse(DiskError::Full));
        }
        let file = &mut self.files[file.0];
        if end > file.volatile.len() {
            file.volatile.resize(end, 0);
        }
        file.volatile[offset..end].copy_from_slice(bytes);
        file.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    /// Appends to the volatile image.
    pub fn append(&mut self, file: FileId, bytes: &[u8]) -> Result<(), DiskError> {
        let end = self.files[file.0].volatile.len();
        self.write(file, end, bytes)
    }

    /// Length of the volatile image.
    pub fn len(&self, file: FileId) -> usize {
        self.files[file.0].volatile.len()
    }

    /// Changes the length.
    pub fn set_len(&mut self, file: FileId, len: usize) -> Result<(), DiskError> {
        self.step()?;
        if self.full && len > self.len(file) {
            return Err(self.refuse(DiskError::Full));
        }
        self.files[file.0].volatile.resize(len, 0);
        Ok(())
    }

    /// Makes content and length durable.
    pub fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.step()?;
        let file = &mut self.files[file.0];
        file.durable.clone_from(&file.volatile);
        file.dirty.clear();
        Ok(())
    }

    /// The end of a write with `RWF_DSYNC`: makes a range durable.
    pub fn sync_range(&mut self, file: FileId, offset: usize, len: usize) -> Result<(), DiskError> {
        self.step()?;
        if std::mem::take(&mut self.fail_next) {
            self.fail_range(file, offset, len);
            return Err(self.refuse(DiskError::Failed));
        }
        let file = &mut self.files[file.0];
        if file.durable.len() < offset + len {
            file.durable.resize(offset + len, 0);
        }
        for index in offset / SECTOR..(offset + len).div_ceil(SECTOR) {
            let sector = sector_of(&file.volatile, index);
            put_sector(&mut file.durable, index, &sector);
            file.dirty.remove(&index);
        }
        Ok(())
    }

    /// The device failed a write: some of its sectors may still arrive, nobody will ever know.
    pub fn fail_range(&mut self, file: FileId, offset: usize, len: usize) {
        let file = &mut self.files[file.0];
        for index in offset / SECTOR..(offset + len).div_ceil(SECTOR) {
            if self.salts.chance(1, 2) {
                let sector = sector_of(&file.durable, index);
                put_sector(&mut file.volatile, index, &sector);
                file.dirty.remove(&index);
            }
        }
    }

    /// The file of that name.
    pub fn find(&self, name: &str) -> Option<FileId> {
        self.current.get(name).copied().map(FileId)
    }

    /// Content as the running server sees it.
    pub fn content(&self, file: FileId) -> &[u8] {
        &self.files[file.0].volatile
    }

    /// Changes bits of a byte, if it is there, in what was synced too.
    pub fn flip(&mut self, file: FileId, offset: usize, mask: u8) {
        let file = &mut self.files[file.0];
        for image in [&mut file.volatile, &mut file.durable] {
            if let Some(byte) = image.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    /// Cuts a file, in what was synced too. Returns what was cut off.
    pub fn cut(&mut self, file: FileId, len: usize) -> Vec<u8> {
        let file = &mut self.files[file.0];
        file.durable.truncate(len);
        file.volatile.split_off(len)
    }

    /// Puts what was cut off a file back, if it has not changed its length since.
    pub fn put_back(&mut self, file: FileId, len: usize, end: &[u8]) {
        let file = &mut self.files[file.0];
        if file.volatile.len() == len {
            file.volatile.extend_from_slice(end);
            file.durable.truncate(len);
            file.durable.extend_from_slice(end);
        }
    }

    /// Overwrites content without a trace; for injected bugs.
    pub fn corrupt(&mut self, file: FileId, from: usize) {
        let file = &mut self.files[file.0];
        for image in [&mut file.volatile, &mut file.durable] {
            if from < image.len() {
                image[from..].fill(0);
            }
        }
    }

    /// Renames; an existing target is replaced.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.step()?;
        let id = self.current.remove(from).ok_or(DiskError::Missing)?;
        self.give(to, id);
        Ok(())
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.step()?;
        let id = self.current.remove(name).ok_or(DiskError::Missing)?;
        self.files[id].names.push(Naming::None);
        Ok(())
    }

    /// Makes all names durable.
    pub fn sync_dir(&mut self) -> Result<(), DiskError> {
        self.step()?;
        for file in &mut self.files {
            let Some(Naming::Given(name, time)) = file.names.pop() else {
                // It can never be found again.
                *file = SimFile { names: vec![Naming::None], ..SimFile::default() };
                continue;
            };
            file.names = vec![Naming::Given(name, time)];
        }
        Ok(())
    }

    /// Names with what they say, ascending.
    pub fn names(&self) -> Vec<(FileName, PathBuf)> {
        let path = |name: &String| (FileName::parse(name), Path::new(DIR).join(name));
        self.current.keys().map(path).collect()
    }

    /// The power fails and comes back: what is left is one of the many images possible.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.calm();
        self.full = false;
        self.off = false;
        self.current.clear();
        // In 100: how many unsynced sectors survive this time, and how many of those are torn.
        let keep = [0, 100, 50, 90, 10][rng.below(5) as usize];
        let torn = [0, 0, 20][rng.below(3) as usize];
        for file in &mut self.files {
            file.settle(rng, keep, torn);
            let pick = rng.below(file.names.len() as u64) as usize;
            file.names.truncate(pick + 1);
        }
        while let Some(id) = self.files.iter().position(|file| file.is_taken_in_vain(&self.files)) {
            self.files[id].names.pop();
        }
        let mut given: Vec<(u64, usize, String)> = Vec::new();
        for (id, file) in self.files.iter().enumerate() {
            if let Some(Naming::Given(name, time)) = file.names.last() {
                given.push((*time, id, name.clone()));
            }
        }
        given.sort();
        // Two files claim a name: the one that got it first has been replaced.
        self.current = given.into_iter().map(|(_, id, name)| (name, id)).collect();
        let alive: BTreeSet<usize> = self.current.values().copied().collect();
        for (id, file) in self.files.iter_mut().enumerate() {
            match file.names.pop() {
                Some(name) if alive.contains(&id) => file.names = vec![name],
                _ => *file = SimFile { names: vec![Naming::None], ..SimFile::default() },
            }
        }
    }
}

impl SimFile {
    /// Whether it lost its name to a file that has not got it.
    fn is_taken_in_vain(&self, files: &[SimFile]) -> bool {
        let Some(Naming::Taken(by, time)) = self.names.last() else { return false };
        let has = |name: &Naming| matches!(name, Naming::Given(_, given) if given == time);
        !files[*by].names.iter().any(has)
    }

    fn settle(&mut self, rng: &mut Rng, keep: u64, torn: u64) {
        let (old, new) = (self.durable.len(), self.volatile.len());
        let (least, range) = (old.min(new), old.abs_diff(new) as u64);
        let len = match rng.below(3) {
            0 => old,
            1 => new,
            _ => least + rng.below(range + 1) as usize / SECTOR * SECTOR,
        };
        self.durable.resize(len, 0);
        for index in std::mem::take(&mut self.dirty) {
            if !rng.chance(keep, 100) {
                continue;
            }
            let mut sector = sector_of(&self.volatile, index);
            if rng.chance(torn, 100) {
                let at = rng.below(SECTOR as u64 / 8) as usize * 8;
                sector[at..].copy_from_slice(&sector_of(&self.durable, index)[at..]);
            }
            put_sector(&mut self.durable, index, &sector);
        }
        self.volatile.clone_from(&self.durable);
    }
}

/// Last component of a path on the simulated disk.
pub fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_stay_and_others_may_go() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = SimDisk::new(0);
            let file = disk.create("a").unwrap();
            disk.write(file, 0, &[1; 2048]).unwrap();
            disk.sync(file).unwrap();
            disk.sync_dir().unwrap();
            disk.write(file, 512, &[2; 512]).unwrap();
            disk.crash(&mut Rng::new(seed));
            let file = disk.find("a").unwrap();
            let content = disk.content(file);
            assert_eq!(content.len(), 2048);
            assert!(content[..512].iter().chain(&content[1024..]).all(|&b| b == 1));
            match content[512..1024].iter().filter(|&&b| b == 2).count() {
                0 => lost += 1,
                512 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 20 && kept > 20 && torn > 2, "{lost} {kept} {torn}");
    }

    #[test]
    fn a_name_that_is_taken_over_is_never_gone() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = SimDisk::new(0);
            let new = disk.create("b").unwrap();
            let old = disk.create("a").unwrap();
            disk.append(old, b"old").unwrap();
            disk.append(new, b"new").unwrap();
            disk.sync(old).unwrap();
            disk.sync(new).unwrap();
            disk.sync_dir().unwrap();
            disk.rename("b", "a").unwrap();
            disk.crash(&mut Rng::new(seed));
            let of = |name| disk.find(name).map(|file| disk.content(file).to_vec());
            seen.insert((of("a"), of("b")));
        }
        let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(new.clone(), None), (old, new)]);
    }

    #[test]
    fn names_need_a_directory_sync() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = SimDisk::new(0);
            disk.create("a").unwrap();
            disk.sync_dir().unwrap();
            disk.rename("a", "b").unwrap();
            disk.crash(&mut Rng::new(seed));
            seen.insert(disk.current.keys().cloned().collect::<Vec<_>>());
        }
        assert_eq!(seen.into_iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
    }
}
