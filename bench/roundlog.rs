//! The log of the ceiling: a file that is filled with zeroes first and then written round and
//! round. A write into it changes no file metadata, which is the cheapest durable write there is.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const BYTES: u64 = 64 << 20;

/// See the module.
pub struct RoundLog {
    file: File,
    at: u64,
}

impl RoundLog {
    /// A new file `ceiling.log` in `dir`.
    ///
    /// # Errors
    /// The file cannot be made or filled, with its path.
    pub fn new(dir: &Path) -> Result<RoundLog, String> {
        let path = dir.join("ceiling.log");
        let say = |e| format!("{}: {e}", path.display());
        let file = File::options().create(true).truncate(true).write(true).open(&path);
        let file = file.map_err(say)?;
        let zeroes = vec![0u8; 4096];
        for at in (0..BYTES).step_by(zeroes.len()) {
            file.write_all_at(&zeroes, at).map_err(say)?;
        }
        file.sync_all().map_err(say)?;
        Ok(RoundLog { file, at: 0 })
    }

    /// Makes `group` durable: one write, one fdatasync.
    pub fn append(&mut self, group: &[u8]) -> io::Result<()> {
        let len = group.len() as u64;
        if self.at + len > BYTES {
            self.at = 0;
        }
        self.file.write_all_at(group, self.at)?;
        self.file.sync_data()?;
        self.at += len;
        Ok(())
    }
}
