//! Bit rot: one bit of what was synced changes while the server is down, or the end of the newest
//! segment is gone.
//!
//! The server must refuse to start, or start with everything (from an older snapshot and more of
//! the log, say). Nothing may be lost in silence. What did not keep it from starting may stay as it
//! is, through any number of starts. Left alone are the last whole group commit, where damage
//! cannot be told from a torn write by anybody, and a segment whose name was lost in a crash, which
//! has only its own records to say that it is in use.

use std::ops::Range;

use crate::base::{Rng, Zxid};
use crate::log::{BLOCK, Expect, FileName, RecoverOptions, recover, scan_segment};
use crate::replica::Restore;
use crate::tree::TreeOptions;

use super::disk::{FileId, SimDisk, name_of};
use super::files::SimFiles;

/// Bytes that the header of a segment takes.
const HEADER: usize = 36;
/// Where its seal stands.
const SEAL: Range<usize> = 512..536;

/// What became of a file from an offset on.
#[derive(Clone, Debug)]
enum Harm {
    /// These bits of one byte were flipped, which left this there.
    Flip { mask: u8, left: Vec<u8> },
    /// This was cut off.
    Cut(Vec<u8>),
}

impl Harm {
    fn flip(disk: &mut SimDisk, file: FileId, offset: usize, mask: u8) -> Harm {
        disk.flip(file, offset, mask);
        let left = disk.content(file).get(written_with(offset)).unwrap_or_default().to_vec();
        Harm::Flip { mask, left }
    }

    /// Where a start has written since (it seals a segment once more), nothing is harmed any more.
    fn undo(self, disk: &mut SimDisk, file: FileId, offset: usize) {
        match self {
            Harm::Flip { mask, left }
                if disk.content(file).get(written_with(offset)) == Some(left.as_slice()) =>
            {
                disk.flip(file, offset, mask);
            }
            Harm::Flip { .. } => {}
            Harm::Cut(end) => disk.put_back(file, offset, &end),
        }
    }
}

/// What a server writes together with the byte at an offset. The byte alone does not show whether
/// that was written again: another seal may have, by chance, the byte that the harm has made.
fn written_with(offset: usize) -> Range<usize> {
    if SEAL.contains(&offset) { SEAL } else { offset..offset + 1 }
}

/// A file that was harmed.
#[derive(Clone, Debug)]
pub(super) struct Rot {
    file: FileId,
    pub name: String,
    offset: usize,
    harm: Harm,
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
        if rng.chance(1, 6)
            && let Some((rot, text)) = Rot::cut(&mut disk, sound.last_zxid.0, rng)
        {
            return Some((rot, text));
        }
        targets.retain(|(_, _, end)| *end > 0);
        if targets.is_empty() {
            return None;
        }
        if rng.chance(1, 2) {
            prefer_superfluous(&mut targets, sound.snapshot_zxid.unwrap_or(Zxid::ZERO));
        }
        let (file, name, end) = targets.swap_remove(rng.below(targets.len() as u64) as usize);
        let offset = match FileName::parse(&name) {
            FileName::Segment(_) => place(disk.content(file), end, rng),
            _ => rng.below(end as u64) as usize,
        };
        let (mask, last) = (1 << rng.below(8), sound.last_zxid.0);
        let harm = Harm::flip(&mut disk, file, offset, mask);
        let text = format!("bit rot in {name} at {offset}, log ends at 0x{last:x}");
        Some((Rot { file, name, offset, harm, last }, text))
    }

    /// A copy of the newest segment ended early.
    fn cut(disk: &mut SimDisk, last: i64, rng: &mut Rng) -> Option<(Rot, String)> {
        let first_of = |(kind, path)| match kind {
            FileName::Segment(first) => Some((first, path)),
            _ => None,
        };
        let (_, path): (Zxid, std::path::PathBuf) =
            disk.names().into_iter().filter_map(first_of).max()?;
        let name = name_of(&path).to_owned();
        let file = disk.find(&name)?;
        let offset = rng.below(disk.len(file) as u64) as usize;
        let harm = Harm::Cut(disk.cut(file, offset));
        let text = format!("{name} is cut at {offset}, log ends at 0x{last:x}");
        Some((Rot { file, name, offset, harm, last }, text))
    }

    /// The operator put a good copy in place, if the file is still there.
    pub fn undo(self, files: &SimFiles) {
        let mut disk = files.disk();
        if disk.find(&self.name) == Some(self.file) {
            self.harm.undo(&mut disk, self.file, self.offset);
        }
    }

    /// Whether what is damaged plays no part in a start from the snapshot at `loaded`.
    pub fn is_idle(&self, loaded: Option<Zxid>) -> bool {
        match FileName::parse(&self.name) {
            FileName::Snapshot(zxid) => Some(zxid) < loaded,
            _ => true,
        }
    }
}

/// An offset below `end` in a segment. The unused rest of its header block says nothing; a seal
/// that is not there yet would be written over the harm, and undoing the harm would harm the seal.
fn place(segment: &[u8], end: usize, rng: &mut Rng) -> usize {
    let is_sealed = segment.get(SEAL).is_some_and(|seal| seal.iter().any(|b| *b != 0));
    let seal = if is_sealed { SEAL } else { 0..0 };
    let behind_block = end.saturating_sub(BLOCK);
    match rng.below((HEADER + seal.len() + behind_block) as u64) as usize {
        at if at < HEADER => at,
        at if at < HEADER + seal.len() => seal.start + at - HEADER,
        at => BLOCK + at - HEADER - seal.len(),
    }
}

/// Keeps the last segment that a start from the snapshot does not look at, if there is one.
fn prefer_superfluous(targets: &mut Vec<(FileId, String, usize)>, snapshot: Zxid) {
    let first_of = |name: &str| match FileName::parse(name) {
        FileName::Segment(first) => Some(first),
        _ => None,
    };
    let needed = targets.iter().filter_map(|(_, name, _)| first_of(name));
    let needed = needed.filter(|first| *first <= snapshot.next()).max();
    let firsts = targets.iter().filter_map(|(_, name, _)| first_of(name));
    let last = firsts.filter(|first| Some(*first) < needed).max();
    if last.is_some() {
        targets.retain(|(_, name, _)| first_of(name) == last);
    }
}

/// Offset after the last whole group commit.
fn end_of(disk: &SimDisk, file: FileId) -> usize {
    let scan = scan_segment::<()>(disk.content(file), Expect::default(), &mut |_, _| Ok(()));
    scan.map_or(0, |scan| scan.end as usize)
}

/// The segment that holds the newest transaction, and where its group commit begins.
fn newest_group(disk: &SimDisk) -> Option<(FileId, usize)> {
    let mut newest = None;
    for (kind, path) in disk.names() {
        let file = disk
            .find(name_of(&path))
            .filter(|_| matches!(kind, FileName::Segment(_) | FileName::Spare));
        let Some(file) = file else { continue };
        let mut last = None;
        let _ = scan_segment::<()>(disk.content(file), Expect::default(), &mut |at, _| {
            last = Some((at.zxid, file, at.group_at as usize));
            Ok(())
        });
        newest = newest.max(last);
    }
    newest.map(|(_, file, start)| (file, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A killed start has sealed a segment and not cut it; a bit of the seal flips, the next start
    /// seals and cuts. The good copy that turns up then is what stands there already.
    #[test]
    fn what_was_written_again_is_not_mended() {
        let mut disk = SimDisk::new(1);
        let file = disk.create("wal.1").unwrap();
        disk.write(file, SEAL.start, &[7; 24]).unwrap();
        let harm = Harm::flip(&mut disk, file, SEAL.start, 8);
        disk.write(file, SEAL.start, &[7; 24]).unwrap();
        harm.undo(&mut disk, file, SEAL.start);
        assert_eq!(disk.content(file)[SEAL], [7; 24]);

        // Another seal, which has the byte that the harm has made.
        let harm = Harm::flip(&mut disk, file, SEAL.start, 8);
        let mut other = [9; 24];
        other[0] = 7 ^ 8;
        disk.write(file, SEAL.start, &other).unwrap();
        harm.undo(&mut disk, file, SEAL.start);
        assert_eq!(disk.content(file)[SEAL], other);
        disk.write(file, SEAL.start, &[7; 24]).unwrap();

        let harm = Harm::flip(&mut disk, file, SEAL.start, 8);
        assert_ne!(disk.content(file)[SEAL], [7; 24]);
        harm.undo(&mut disk, file, SEAL.start);
        assert_eq!(disk.content(file)[SEAL], [7; 24]);
    }

    /// A start writes a seal there. Also where the newest group commit, which is left alone, is the
    /// segment's first one, so that only the header block can be harmed.
    #[test]
    fn where_a_seal_will_be_nothing_is_harmed() {
        let mut segment = vec![0; 2 * BLOCK];
        let seen = |segment: &[u8], end, seed| place(segment, end, &mut Rng::new(seed));
        for end in [BLOCK, BLOCK + 100] {
            assert!((0..2000).all(|seed| !(HEADER..BLOCK).contains(&seen(&segment, end, seed))));
        }
        segment[SEAL].fill(7);
        assert!((0..2000).any(|seed| SEAL.contains(&seen(&segment, BLOCK, seed))));
    }
}
