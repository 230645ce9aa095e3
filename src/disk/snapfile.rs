//! Snapshot files: written under a temporary name. Counterpart: `FileSnap`, `SnapStream`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::Zxid;
use crate::log::{Compression, Encoder, received_name, snapshot_name};

use super::files::LogFiles;
use super::steps::Step;

/// A snapshot being written.
pub(super) struct SnapshotFile<F: LogFiles> {
    files: Arc<F>,
    file: F::File,
    tmp: PathBuf,
    /// `None` if it keeps the name that it has.
    path: Option<PathBuf>,
    encoder: Encoder,
    packed: Vec<u8>,
    written: u64,
    /// Write-back has been started up to here.
    started: u64,
}

/// A snapshot of which all pieces are written.
pub(super) struct SnapshotFinish<F: LogFiles> {
    /// What is left to do, with `file` at hand.
    pub steps: Vec<Step>,
    /// The file.
    pub file: F::File,
    /// Its name until then.
    pub tmp: PathBuf,
    /// Its name afterwards.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Bytes after which the next write-back is started, and the one before awaited.
const PACE: u64 = 8 << 20;

impl<F: LogFiles> SnapshotFile<F> {
    /// Creates the temporary file.
    pub fn create(
        files: Arc<F>,
        zxid: Zxid,
        compression: Compression,
    ) -> io::Result<SnapshotFile<F>> {
        let name = snapshot_name(zxid, compression);
        let path = files.snap_dir().join(&name);
        let tmp = files.snap_dir().join(format!("{name}.tmp"));
        SnapshotFile::create_as(files, tmp, Some(path), compression)
    }

    /// Creates the file of a database that is received, under the name that it keeps until it
    /// becomes the database.
    pub fn create_received(
        files: Arc<F>,
        zxid: Zxid,
        compression: Compression,
    ) -> io::Result<SnapshotFile<F>> {
        let path = files.snap_dir().join(received_name(zxid, compression));
        SnapshotFile::create_as(files, path, None, compression)
    }

    fn create_as(
        files: Arc<F>,
        tmp: PathBuf,
        path: Option<PathBuf>,
        compression: Compression,
    ) -> io::Result<SnapshotFile<F>> {
        let file = files.create(&tmp)?;
        Ok(SnapshotFile {
            files,
            file,
            tmp,
            path,
            encoder: Encoder::new(compression),
            packed: Vec::new(),
            written: 0,
            started: 0,
        })
    }

    /// Appends a piece of the uncompressed stream.
    pub fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.packed.clear();
        self.encoder.push(chunk, &mut self.packed);
        self.files.append(&self.file, &self.packed)?;
        self.written += self.packed.len() as u64;
        if self.written - self.started >= PACE {
            let before = self.started.saturating_sub(PACE);
            self.files.write_back(&self.file, before, PACE, true);
            let len = self.written - self.started;
            self.files.write_back(&self.file, self.started, len, false);
            self.started = self.written;
        }
        Ok(())
    }

    /// How to complete the file and give it its name.
    pub fn finish(self) -> SnapshotFinish<F> {
        let mut end = Vec::new();
        self.encoder.finish(&mut end);
        let bytes = self.written + end.len() as u64;
        let rename = self.path.clone().map(|path| Step::Rename(self.tmp.clone(), path));
        let mut steps = vec![Step::Append(end), Step::Sync];
        steps.extend(rename);
        steps.push(Step::SyncDir(self.files.snap_dir().to_owned()));
        let path = self.path.unwrap_or_else(|| self.tmp.clone());
        SnapshotFinish { steps, file: self.file, tmp: self.tmp, path, bytes }
    }

    /// Gives up: the temporary file goes.
    pub fn abandon(self) -> PathBuf {
        // If it cannot be removed now, the next start removes it.
        let _ = self.files.remove(&self.tmp);
        self.tmp
    }
}
