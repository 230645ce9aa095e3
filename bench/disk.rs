//! Whether the machine is quiet, asked before each measurement: how long the disk takes to make a
//! small write durable, and how much CPU time others use. A machine that is busy with something
//! else makes every server look slow, and shared machines have such moments.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::procfs;

const FILE_BYTES: u64 = 1 << 20;
const WRITE_BYTES: usize = 512;
/// Writes per look at the disk: enough for a median, and over in a moment.
const PROBES: u64 = 101;
/// A disk this many times slower than it has been at its best is busy.
const BUSY_FACTOR: u64 = 4;

/// Cores that other processes may use on a quiet machine.
const OTHERS_CORES_MAX: f64 = 0.3;
const LISTEN: Duration = Duration::from_millis(200);

/// State of the machine before a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// Median of write + fdatasync in microseconds.
    pub sync_us: f64,
    /// Cores in use while nothing was asked of the server.
    pub others_cores: f64,
    /// Both are as they should be.
    pub is_quiet: bool,
}

/// A file of its own on the disk under test.
pub struct Disk {
    file: File,
    path: PathBuf,
    best_ns: u64,
}

impl Disk {
    /// On the file system of `dir`.
    pub fn new(dir: &Path) -> io::Result<Disk> {
        let path = dir.join(format!("rk-bench-{}-probe", std::process::id()));
        let file = File::options().create(true).truncate(true).write(true).open(&path)?;
        file.write_all_at(&vec![0; FILE_BYTES as usize], 0)?;
        file.sync_all()?;
        Ok(Disk { file, path, best_ns: u64::MAX })
    }

    /// Median time of write + fdatasync, nanoseconds.
    fn probe(&self) -> io::Result<u64> {
        let block = [1u8; WRITE_BYTES];
        let mut times = Vec::with_capacity(PROBES as usize);
        for i in 0..PROBES {
            let start = Instant::now();
            self.file.write_all_at(&block, i * WRITE_BYTES as u64 % FILE_BYTES)?;
            self.file.sync_data()?;
            times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    /// Waits up to `patience` until the disk is about as fast as it has been at its best and the
    /// cores are about idle.
    pub fn settle(&mut self, patience: Duration) -> io::Result<Quiet> {
        let start = Instant::now();
        loop {
            let now = self.probe()?;
            self.best_ns = self.best_ns.min(now);
            let busy = procfs::machine_busy();
            std::thread::sleep(LISTEN);
            let busy = procfs::machine_busy().zip(busy).map_or(0.0, |(end, start)| end - start);
            let others_cores = busy / LISTEN.as_secs_f64();
            let is_quiet =
                now <= self.best_ns.saturating_mul(BUSY_FACTOR) && others_cores <= OTHERS_CORES_MAX;
            if is_quiet || start.elapsed() > patience {
                return Ok(Quiet { sync_us: now as f64 / 1e3, others_cores, is_quiet });
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A file that cannot be removed wastes one megabyte.
        let _ = fs::remove_file(&self.path);
    }
}
