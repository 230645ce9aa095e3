//! Judging and loading a whole snapshot file, compressed or not, from its name and its bytes.
//! Counterpart: `FileSnap`, `SnapStream`.

use std::path::Path;

use crate::base::Zxid;

use super::{Compression, Decoder, SnapshotDigest, SnapshotError, SnapshotReader, SnapshotVisitor};

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

/// Apache's cheap test: the end mark of the last seal, or the magic of the compression.
pub fn looks_valid(path: &Path, content: &[u8]) -> bool {
    if content.len() < 10 {
        return false;
    }
    match compression_of(path) {
        Compression::None => content.ends_with(b"\0\0\0\x01/"),
        Compression::Gzip => content.starts_with(&[0x1f, 0x8b]),
        Compression::Snappy => content.starts_with(b"\x82SNAPPY\0"),
    }
}

fn compression_of(path: &Path) -> Compression {
    Compression::from_name(path.file_name().and_then(|n| n.to_str()).unwrap_or(""))
}

/// Loads a whole snapshot file, all seals checked. The error says what is wrong with it.
pub fn load_snapshot(
    path: &Path,
    content: &[u8],
    visitor: &mut dyn SnapshotVisitor,
) -> Result<LoadedSnapshot, SnapshotError> {
    let mut reader = SnapshotReader::new();
    match compression_of(path) {
        Compression::None => {
            reader.feed(content, true, visitor)?;
        }
        kind @ (Compression::Gzip | Compression::Snappy) => {
            load_compressed(content, kind, &mut reader, visitor)?;
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
) -> Result<(), SnapshotError> {
    const PIECE: usize = 1 << 20;
    let mut decoder = Decoder::new(kind);
    let mut plain = Vec::with_capacity(2 * PIECE);
    let mut at = 0;
    loop {
        let had = plain.len();
        let mut more = true;
        while more && plain.len() < had + PIECE {
            let before = plain.len();
            let used = decoder.pull(&map[at..], PIECE, &mut plain)?;
            at += used;
            more = used > 0 || plain.len() > before;
        }
        if !more {
            decoder.finish()?;
            if at < map.len() {
                return Err(SnapshotError::EndsEarly);
            }
        }
        let used = reader.feed(&plain, !more, visitor)?;
        plain.drain(..used);
        if !more {
            return Ok(());
        }
    }
}
