//! Snapshot files: the cheap validity test, loading, and writing under a temporary name.
//! Counterpart: `FileSnap`, `SnapStream`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::Zxid;
use crate::log::{Compression, Decoder, Encoder, SnapshotDigest, SnapshotReader, SnapshotVisitor};
use crate::sys::file::{MappedFile, sync_dir, write_back};

use super::names::snapshot_name;

/// What a loaded snapshot said about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadedSnapshot {
    /// Its digest section.
    pub digest: Option<SnapshotDigest>,
    /// Its last-zxid section; the file's name overrides it.
    pub last_zxid: Option<Zxid>,
    /// Number of nodes.
    pub nodes: u64,
}

/// Apache's cheap test: the end mark of the last seal, or the magic of the compression. Anything
/// unreadable is not valid.
pub fn looks_valid(path: &Path) -> bool {
    let test = || -> io::Result<bool> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut head = [0u8; 8];
        let mut tail = [0u8; 5];
        if len < 10 {
            return Ok(false);
        }
        file.read_exact_at(&mut head, 0)?;
        file.read_exact_at(&mut tail, len - 5)?;
        Ok(match compression_of(path) {
            Compression::None => tail == *b"\0\0\0\x01/",
            Compression::Gzip => head.starts_with(&[0x1f, 0x8b]),
            Compression::Snappy => head == *b"\x82SNAPPY\0",
        })
    };
    test().unwrap_or(false)
}

fn compression_of(path: &Path) -> Compression {
    Compression::from_name(path.file_name().and_then(|n| n.to_str()).unwrap_or(""))
}

/// Loads a whole snapshot file, all seals checked. The error says what is wrong with it.
pub fn load_snapshot(
    path: &Path,
    visitor: &mut dyn SnapshotVisitor,
) -> Result<LoadedSnapshot, String> {
    let file = File::open(path).map_err(|e| format!("it cannot be opened: {e}"))?;
    let map = MappedFile::new(&file).map_err(|e| format!("it cannot be read: {e}"))?;
    let mut reader = SnapshotReader::new();
    match compression_of(path) {
        Compression::None => {
            reader.feed(&map, true, visitor).map_err(|e| e.to_string())?;
        }
        kind @ (Compression::Gzip | Compression::Snappy) => {
            load_compressed(&map, kind, &mut reader, visitor)?;
        }
    }
    Ok(LoadedSnapshot {
        digest: reader.digest(),
        last_zxid: reader.last_zxid(),
        nodes: reader.nodes(),
    })
}

fn load_compressed(
    map: &[u8],
    kind: Compression,
    reader: &mut SnapshotReader,
    visitor: &mut dyn SnapshotVisitor,
) -> Result<(), String> {
    const PIECE: usize = 1 << 20;
    let mut decoder = Decoder::new(kind);
    let mut plain = Vec::with_capacity(2 * PIECE);
    let mut at = 0;
    loop {
        let had = plain.len();
        let mut more = true;
        while more && plain.len() < had + PIECE {
            let before = plain.len();
            let used = decoder.pull(&map[at..], PIECE, &mut plain).map_err(|e| e.to_string())?;
            at += used;
            more = used > 0 || plain.len() > before;
        }
        if !more {
            decoder.finish().map_err(|e| e.to_string())?;
            if at < map.len() {
                return Err("its compressed data ends early".into());
            }
        }
        let used = reader.feed(&plain, !more, visitor).map_err(|e| e.to_string())?;
        plain.drain(..used);
        if !more {
            return Ok(());
        }
    }
}

/// A snapshot being written.
pub(super) struct SnapshotFile {
    file: File,
    tmp: PathBuf,
    path: PathBuf,
    dir: PathBuf,
    encoder: Encoder,
    packed: Vec<u8>,
    written: u64,
    /// Write-back has been started up to here.
    started: u64,
}

/// Write-back is started, and the one before awaited, every so many bytes.
const PACE: u64 = 8 << 20;

impl SnapshotFile {
    /// Creates the temporary file.
    pub fn create(dir: &Path, zxid: Zxid, compression: Compression) -> io::Result<SnapshotFile> {
        let name = snapshot_name(zxid, compression);
        let path = dir.join(&name);
        let tmp = dir.join(format!("{name}.tmp"));
        let file = File::create(&tmp)?;
        Ok(SnapshotFile {
            file,
            tmp,
            path,
            dir: dir.to_owned(),
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
        self.file.write_all(&self.packed)?;
        self.written += self.packed.len() as u64;
        if self.written - self.started >= PACE {
            let _ = write_back(&self.file, self.started.saturating_sub(PACE), PACE, true);
            let _ = write_back(&self.file, self.started, self.written - self.started, false);
            self.started = self.written;
        }
        Ok(())
    }

    /// Completes the file and gives it its name. Returns the path and the size in bytes.
    pub fn finish(mut self) -> Result<(PathBuf, u64), (PathBuf, io::Error)> {
        let encoder = std::mem::replace(&mut self.encoder, Encoder::new(Compression::None));
        let mut end = Vec::new();
        encoder.finish(&mut end);
        let publish = || -> io::Result<()> {
            (&self.file).write_all(&end)?;
            self.file.sync_all()?;
            fs::rename(&self.tmp, &self.path)?;
            sync_dir(&self.dir)
        };
        match publish() {
            Ok(()) => Ok((self.path, self.written + end.len() as u64)),
            Err(e) => {
                let _ = fs::remove_file(&self.tmp);
                Err((self.tmp, e))
            }
        }
    }

    /// Gives up: the temporary file goes.
    pub fn abandon(self) -> PathBuf {
        // If it cannot be removed now, the next start removes it.
        let _ = fs::remove_file(&self.tmp);
        self.tmp
    }
}
