//! Reads the transactions of a range from the log's files: ours of both formats and Apache's, as a
//! follower needs them that was away for a while. Counterpart: `FileTxnLog.read` and
//! `TxnLogProposalIterator`.
//!
//! A [`RangeReader`] goes forwards in pieces, each of which looks at a bounded part of the log, so
//! that somebody else gets a turn in between. It holds no file open: it knows how far it has come
//! in which one. The files must not go meanwhile, and what is to be read must be durable. The bytes
//! are copied out of the files, since the last segment is being written.
//!
//! What it gives is proven to be whole and without a gap: group commits by their checksums, their
//! numbers from segment to segment, and within an epoch each transaction is the one after the one
//! before. For instance with 0x100000001 to 0x100000007 in wal.100000001 and 0x200000001 on in
//! wal.200000001, the range from 0x100000006 to 0x200000001 has three transactions.

use std::path::{Path, PathBuf};

use crate::base::Zxid;

use super::apache;
use super::command::RangeError;
use super::files::DataFiles;
use super::names::{FileName, GUARD_NAME};
use super::scan::{Group, Piece, head_at, piece_at};
use super::{BLOCK, Batch, Format, GROUP_HEAD, MIN_ENTRY, RECORD_HEAD, SegmentHeader};

/// Reads bytes of a file: from an offset on, the number asked for, or fewer where the file ends.
pub type ReadAt<'a> = dyn Fn(&Path, u64, usize) -> Result<Vec<u8>, String> + 'a;

/// Bytes that are looked at to pass over a group commit: two heads and a transaction's.
const PEEK: usize = GROUP_HEAD + RECORD_HEAD + MIN_ENTRY;
/// Bytes read at once, if that is enough for a group commit.
const WINDOW: usize = 64 << 10;

/// One of the log's files.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Source {
    first: Zxid,
    path: PathBuf,
}

/// How the records of a file are laid out.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Apache,
    Native(SegmentHeader),
}

/// How far the reader has come in a file.
#[derive(Debug)]
struct Place {
    source: Source,
    layout: Layout,
    /// Offset of the next group commit.
    at: u64,
}

/// See the module's introduction.
#[derive(Debug)]
pub struct RangeReader {
    /// The next transaction to give, if there is one of that number.
    next: Zxid,
    to: Zxid,
    /// The last transaction that was looked at, if nothing was passed over after it.
    previous: Option<Zxid>,
    /// Number of the last group commit, likewise.
    group: Option<u64>,
    place: Option<Place>,
    /// The file before ends with an incomplete record of Apache's.
    is_torn: bool,
    is_done: bool,
}

/// What a piece came to.
enum Went {
    On,
    /// The last transaction of the range is reached.
    Done,
    /// So is the limit, inside of a group commit.
    Full,
}

impl RangeReader {
    /// A reader of the transactions from `from` to `to`, which is durable.
    pub fn new(from: Zxid, to: Zxid) -> RangeReader {
        let (previous, group, place, is_torn) = (None, None, None, false);
        RangeReader { next: from, to, previous, group, place, is_torn, is_done: from > to }
    }

    /// The first transaction that it still needs, and the last.
    pub fn rest(&self) -> (Zxid, Zxid) {
        (self.next, self.to)
    }

    /// Files have changed, though not what is still to be read.
    pub fn reopen(&mut self) {
        (self.place, self.previous, self.group, self.is_torn) = (None, None, None, false);
    }

    /// Makes sure that the range begins in the log.
    ///
    /// # Errors
    /// [`RangeError::Purged`] where it does not.
    pub fn check_begin(&self, dir: &impl DataFiles) -> Result<(), RangeError> {
        let sources = sources(dir)?;
        let first = sources.first().map(|source| source.first);
        let is_there = self.is_done || first.is_some_and(|first| first <= self.next);
        if is_there { Ok(()) } else { Err(RangeError::Purged(first)) }
    }

    /// The next transactions, and whether they end with the last one. Looks at `bytes_max` bytes of
    /// log or what one group commit takes; there may be no transaction of the range in them.
    pub fn read(
        &mut self,
        dir: &impl DataFiles,
        read_at: &ReadAt<'_>,
        bytes_max: usize,
    ) -> Result<(Batch, bool), RangeError> {
        let (mut batch, mut looked) = (Batch::new(), 0);
        while !self.is_done && looked < bytes_max.max(1) {
            let mut place = self.take_place(dir, read_at)?;
            if let Some(len) = self.passed_over(&place, read_at)? {
                place.at += len;
                looked += 2 * PEEK;
                self.place = Some(place);
                continue;
            }
            let (bytes, piece) = read_piece(&place, read_at)?;
            match piece {
                Some(group) => {
                    looked += group.len;
                    let room = bytes_max.saturating_sub(batch.bytes_len());
                    match self.take(&place, &group, &bytes, (&mut batch, room))? {
                        Went::On => {
                            place.at += group.len as u64;
                            self.group = group.number;
                        }
                        Went::Done => self.is_done = true,
                        Went::Full => looked = bytes_max.max(1),
                    }
                    self.place = Some(place);
                }
                None => {
                    looked += BLOCK;
                    self.place = Some(self.next_file(dir, read_at, &place, &bytes)?);
                }
            }
        }
        Ok((batch, self.is_done))
    }

    fn take_place(
        &mut self,
        dir: &impl DataFiles,
        read_at: &ReadAt<'_>,
    ) -> Result<Place, RangeError> {
        if let Some(place) = self.place.take() {
            return Ok(place);
        }
        let sources = sources(dir)?;
        // Copies (log.5.bak) begin alike, and each may be the incomplete one.
        let newest = sources.iter().rev().find(|source| source.first <= self.next);
        let newest = newest.and_then(|newest| sources.iter().find(|s| s.first == newest.first));
        match newest {
            Some(source) => open(read_at, source.clone()),
            None => Err(RangeError::Purged(sources.first().map(|source| source.first))),
        }
    }

    /// Length of the group commit at this place if all of it is before the range.
    fn passed_over(
        &mut self,
        place: &Place,
        read_at: &ReadAt<'_>,
    ) -> Result<Option<u64>, RangeError> {
        let Layout::Native(header) = place.layout else { return Ok(None) };
        // What was looked at already is passed over no more.
        if header.format == Format::One || self.previous.is_some() {
            return Ok(None);
        }
        let path = &place.source.path;
        let peek = |at| {
            let bytes = read_at(path, at, PEEK).map_err(|e| unreadable(path, at, &e))?;
            Ok(head_at(&bytes, &header, at))
        };
        let Some((len, first)) = peek(place.at)? else { return Ok(None) };
        let Some((_, behind)) = peek(place.at + len)? else { return Ok(None) };
        // One that is just being written may have older bytes after its head.
        Ok((first < behind && behind <= self.next).then_some(len))
    }

    /// Where it goes on after the last whole group commit of a file.
    fn next_file(
        &mut self,
        dir: &impl DataFiles,
        read_at: &ReadAt<'_>,
        place: &Place,
        bytes: &[u8],
    ) -> Result<Place, RangeError> {
        let path = &place.source.path;
        let is_clean = bytes.iter().take(RECORD_HEAD).all(|&byte| byte == 0);
        if !is_clean && matches!(place.layout, Layout::Native(_)) {
            return Err(unreadable(path, place.at, "a group commit is unreadable"));
        }
        // A record that Apache did not complete is normal if the next file goes on.
        self.is_torn |= !is_clean;
        let next = open_next(dir, read_at, &place.source)?.ok_or_else(|| self.ends_early())?;
        // The transaction that a file is named after stands in it, or in a copy of it.
        if self.previous.is_none() && next.source.first != place.source.first {
            let what = format!("transaction 0x{} is unreadable", place.source.first);
            return Err(unreadable(path, place.at, &what));
        }
        Ok(next)
    }

    /// Gives those transactions of a group commit that are in the range.
    fn take(
        &mut self,
        place: &Place,
        group: &Group,
        bytes: &[u8],
        (batch, mut room): (&mut Batch, usize),
    ) -> Result<Went, RangeError> {
        let broken = |what: String| Err(unreadable(&place.source.path, place.at, &what));
        if let (Some(last), Some(number)) = (self.group, group.number)
            && number != last.wrapping_add(1)
        {
            return broken(format!("group commit {number} follows {last}"));
        }
        for (zxid, range) in &group.entries {
            if let Some(previous) = self.previous {
                if *zxid <= previous {
                    // Apache's copies say it again, and so does what was given before.
                    if matches!(place.layout, Layout::Apache) || *zxid < self.next {
                        continue;
                    }
                    return broken(format!("transaction 0x{zxid} does not ascend"));
                }
                if zxid.epoch() == previous.epoch() && *zxid != previous.next() {
                    return broken(format!("0x{zxid} follows 0x{previous}"));
                }
                if zxid.epoch() != previous.epoch() && self.is_torn {
                    return broken(format!("what follows 0x{previous} may be missing"));
                }
                self.is_torn = false;
            }
            if *zxid > self.to {
                return Ok(Went::Done);
            }
            if *zxid >= self.next {
                let entry = bytes.get(range.clone()).unwrap_or(&[]);
                if !batch.is_empty() && entry.len() > room {
                    return Ok(Went::Full);
                }
                room = room.saturating_sub(entry.len());
                batch.entry().extend_from_slice(entry);
                batch.finish_entry(*zxid);
                self.next = zxid.next();
            }
            self.previous = Some(*zxid);
            if *zxid == self.to {
                return Ok(Went::Done);
            }
        }
        Ok(Went::On)
    }

    fn ends_early(&self) -> RangeError {
        RangeError::Unreadable(format!("the log ends before transaction 0x{}", self.to))
    }
}

fn unreadable(path: &Path, at: u64, what: &str) -> RangeError {
    RangeError::Unreadable(format!("{}, offset {at}: {what}", path.display()))
}

/// The log's files in the order of their first transaction.
fn sources(dir: &impl DataFiles) -> Result<Vec<Source>, RangeError> {
    let log_dir = dir.log_dir();
    let files = dir.list(log_dir).map_err(|e| unreadable(log_dir, 0, &e))?;
    let source = |path: PathBuf| match FileName::parse(path.file_name()?.to_str()?) {
        _ if path.ends_with(GUARD_NAME) => None,
        FileName::ApacheLog(first) | FileName::Segment(first) => Some(Source { first, path }),
        _ => None,
    };
    let mut sources: Vec<Source> = files.into_iter().filter_map(source).collect();
    sources.sort();
    Ok(sources)
}

fn open(read_at: &ReadAt<'_>, source: Source) -> Result<Place, RangeError> {
    let head = read_at(&source.path, 0, BLOCK).map_err(|e| unreadable(&source.path, 0, &e))?;
    let (layout, at) = match SegmentHeader::decode(&head) {
        Ok(header) => (Layout::Native(header), BLOCK),
        Err(_) if apache::has_header(&head) => (Layout::Apache, apache::HEADER),
        Err(e) => return Err(unreadable(&source.path, 0, &e.to_string())),
    };
    Ok(Place { source, layout, at: at as u64 })
}

fn open_next(
    dir: &impl DataFiles,
    read_at: &ReadAt<'_>,
    after: &Source,
) -> Result<Option<Place>, RangeError> {
    let next = sources(dir)?.into_iter().find(|source| source > after);
    next.map(|source| open(read_at, source)).transpose()
}

fn read(place: &Place, read_at: &ReadAt<'_>, len: usize) -> Result<Vec<u8>, RangeError> {
    let path = &place.source.path;
    read_at(path, place.at, len).map_err(|e| unreadable(path, place.at, &e))
}

/// The group commit at a place, if there is a whole one, with the bytes from there on.
fn read_piece(place: &Place, read_at: &ReadAt<'_>) -> Result<(Vec<u8>, Option<Group>), RangeError> {
    let mut len = WINDOW;
    loop {
        let bytes = read(place, read_at, len)?;
        let piece = match &place.layout {
            Layout::Apache => apache::piece_at(&bytes),
            Layout::Native(header) => piece_at(&bytes, header, place.at),
        };
        match piece {
            Piece::Group(group) => return Ok((bytes, Some(group))),
            Piece::More(more) if bytes.len() == len => len = more.max(len + 1),
            Piece::More(_) | Piece::End => return Ok((bytes, None)),
        }
    }
}
