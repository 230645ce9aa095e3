//! Bit rot: one bit of what was synced changes while the server is down.
//!
//! The server must refuse to start, or start with everything (from an older snapshot and more of
//! the log, say). Nothing may be lost in silence. Left alone are the last whole group commit,
//! where damage cannot be told from a torn write by anybody, the last two where no earlier segment
//! tells how many there were, and a segment whose name was lost in a crash, which has only its own
//! records to say that it is in use.

use crate::base::{Rng, Zxid};
use crate::log::{BLOCK, Expect, FileName, RecoverOptions, recover, scan_segment};
use crate::replica::Restore;
use crate::tree::TreeOptions;

use super::disk::{FileId, SimDisk, name_of};
use super::files::SimFiles;

/// A bit that was flipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rot {
    file: FileId,
    offset: usize,
    mask: u8,
    /// Where the log ends without it.
    pub last: i64,
}

impl Rot {
    /// Flips a bit of a segment or snapshot, if there is one to flip and the server would start
    /// without that.
    pub fn strike(files: &SimFiles, options: TreeOptions, rng: &mut Rng) -> Option<(Rot, String)> {
        let mut restore = Restore::new(options);
        let sound = recover(files, &RecoverOptions::default(), &mut restore).ok()?;
        let mut disk = files.disk();
        let newest = newest_group(&disk);
        let mut targets: Vec<(FileId, String, usize)> = Vec::new();
        for (kind, path) in disk.names() {
            let name = name_of(&path).to_owned();
            if let (FileName::Segment(_) | FileName::Snapshot(_), Some(file)) =
                (kind, disk.find(&name))
            {
                // Most of a segment may be untouched.
                let end = match kind {
                    FileName::Segment(_) => end_of(&disk, file),
                    _ => disk.len(file),
                };
                let end = newest.filter(|(of, _)| *of == file).map_or(end, |(_, start)| start);
                targets.push((file, name, end));
            }
        }
        targets.retain(|(_, _, end)| *end > 0);
        if targets.is_empty() {
            return None;
        }
        let (file, name, end) = targets.swap_remove(rng.below(targets.len() as u64) as usize);
        // The unused rest of a header block says nothing.
        let used = if end > BLOCK && name.starts_with("wal.") { 40 + end - BLOCK } else { end };
        let at = rng.below(used as u64) as usize;
        let offset = if used < end && at >= 40 { at - 40 + BLOCK } else { at };
        let (mask, last) = (1 << rng.below(8), sound.last_zxid.0);
        disk.flip(file, offset, mask);
        let text = format!("bit rot in {name} at {offset}, log ends at 0x{last:x}");
        Some((Rot { file, offset, mask, last }, text))
    }

    /// The operator put a good copy in place.
    pub fn undo(self, files: &SimFiles) {
        files.disk().flip(self.file, self.offset, self.mask);
    }
}

/// Offset behind the last whole group commit.
fn end_of(disk: &SimDisk, file: FileId) -> usize {
    let scan = scan_segment::<()>(disk.content(file), Expect::default(), &mut |_, _| Ok(()));
    scan.map_or(0, |scan| scan.end as usize)
}

/// The segment that holds the newest transaction, and where its group commit begins.
fn newest_group(disk: &SimDisk) -> Option<(FileId, usize)> {
    let mut newest = None;
    let segments = disk.names().iter().filter(|(k, _)| matches!(k, FileName::Segment(_))).count();
    for (kind, path) in disk.names() {
        let file = disk
            .find(name_of(&path))
            .filter(|_| matches!(kind, FileName::Segment(_) | FileName::Spare));
        let Some(file) = file else { continue };
        let content = disk.content(file);
        let mut starts: Vec<(u64, usize)> = Vec::new();
        let scan = scan_segment::<()>(content, Expect::default(), &mut |at, _| {
            let offset = at.offset as usize;
            let group = content[offset + 8..][..8].try_into().map_or(0, u64::from_le_bytes);
            if starts.last().is_none_or(|(last, _)| *last != group) {
                starts.push((group, offset));
            }
            Ok(())
        });
        let zxid = scan.ok().and_then(|scan| scan.last_zxid);
        if let (Some(zxid), Some(&(_, start))) = (zxid, starts.last()) {
            // With what was before it gone, the first of two is no better off than the last.
            let is_alone = segments == 1 && kind != FileName::Segment(Zxid(1));
            let start = if starts.len() == 2 && is_alone { BLOCK } else { start };
            newest = newest.max(Some((zxid, file, start)));
        }
    }
    newest.map(|(_, file, start)| (file, start))
}
