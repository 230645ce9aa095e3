//! Reads a snapshot in Apache's format from however large pieces the caller has: the whole
//! mapped file, a decompressor's output, a SNAP stream. Counterpart: `FileSnap.deserialize`.
//!
//! The digest and last-zxid sections are told apart by the number of bytes left after the first
//! seal, never by a flag, so files of every 3.5 to 3.9 setting can be read.

use std::fmt;

use simd_adler32::Adler32;

use crate::base::{SessionId, Zxid};
use crate::wire::{AclBytes, DecodeError, PersistedStat, Reader};

use super::snapwrite::STREAM_END;
use super::{CompressError, SnapshotDigest};

/// One node of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotNode<'a> {
    /// Full path; `""` for the root.
    pub path: &'a str,
    /// Null stays null.
    pub data: Option<&'a [u8]>,
    /// Key into the ACL map; -1 is `world:anyone` with all permissions.
    pub acl: i64,
    /// Stored part of the stat.
    pub stat: PersistedStat,
}

/// Receives a snapshot's content in file order: sessions, ACLs, nodes (parents first). An `Err`
/// says why the content is unacceptable; it counts as corruption of the file.
pub trait SnapshotVisitor {
    /// A global session.
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String>;
    /// An entry of the ACL map.
    fn acl(&mut self, id: i64, acl: AclBytes<'_>) -> Result<(), String>;
    /// A node.
    fn node(&mut self, node: &SnapshotNode<'_>) -> Result<(), String>;
}

/// Why a snapshot cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// Does not start with `ZKSN`.
    Magic,
    /// Ends early, has impossible lengths, or the like.
    Decode {
        /// Offset in the uncompressed stream of the item that cannot be read.
        offset: u64,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A seal does not match the bytes before it.
    Seal {
        /// Offset of the seal in the uncompressed stream.
        offset: u64,
    },
    /// A SNAP stream does not have its mark after the tree.
    StreamEnd {
        /// Offset of what stands there.
        offset: u64,
    },
    /// The bytes after the first seal are no known combination of sections.
    Sections {
        /// How many there are.
        remaining: u64,
    },
    /// It is compressed, and that is not whole.
    Compressed(CompressError),
    /// Its compressed data ends before the file does.
    EndsEarly,
    /// The visitor refused an item.
    Content {
        /// Offset of the item in the uncompressed stream.
        offset: u64,
        /// Its reason.
        reason: String,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Magic => write!(f, "it does not start with ZKSN"),
            SnapshotError::Decode { offset, error } => write!(f, "{error} at offset {offset}"),
            SnapshotError::Seal { offset } => {
                write!(f, "the checksum at offset {offset} does not match what precedes it")
            }
            SnapshotError::StreamEnd { offset } => {
                write!(f, "\"{STREAM_END}\" does not follow the tree at offset {offset}")
            }
            SnapshotError::Sections { remaining } => {
                write!(f, "{remaining} bytes follow the first checksum: no known sections")
            }
            SnapshotError::Compressed(error) => write!(f, "{error}"),
            SnapshotError::EndsEarly => write!(f, "its compressed data ends early"),
            SnapshotError::Content { offset, reason } => write!(f, "{reason} at offset {offset}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl From<CompressError> for SnapshotError {
    fn from(error: CompressError) -> SnapshotError {
        SnapshotError::Compressed(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Header,
    SessionCount,
    Sessions(usize),
    AclCount,
    Acls(usize),
    Nodes,
    StreamEnd,
    Seal,
    Sections,
    Done,
}

/// Incremental reader of one snapshot.
pub struct SnapshotReader {
    stage: Stage,
    adler: Adler32,
    /// Offset in the stream of the next unread byte.
    offset: u64,
    stream: bool,
    digest: Option<SnapshotDigest>,
    last_zxid: Option<Zxid>,
    nodes: u64,
}

/// The sum is folded in slices of this size, while their bytes are still in the cache.
const SLICE: usize = 128 << 10;

impl SnapshotReader {
    /// Bytes of the mark after the tree of a SNAP stream.
    pub const STREAM_END_LEN: usize = 4 + STREAM_END.len();

    /// A reader of a snapshot file.
    pub fn new() -> SnapshotReader {
        SnapshotReader {
            stage: Stage::Header,
            adler: Adler32::new(),
            offset: 0,
            stream: false,
            digest: None,
            last_zxid: None,
            nodes: 0,
        }
    }

    /// A reader of a SNAP stream: no file header, no seals; a mark after the tree.
    pub fn stream() -> SnapshotReader {
        SnapshotReader { stage: Stage::SessionCount, stream: true, ..SnapshotReader::new() }
    }

    /// Whether everything has been read.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The digest section, if the file has one.
    pub fn digest(&self) -> Option<SnapshotDigest> {
        self.digest
    }

    /// The last-zxid section, if the file has one.
    pub fn last_zxid(&self) -> Option<Zxid> {
        self.last_zxid
    }

    /// Nodes read so far.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Reads as many whole items as `input` holds and returns how many bytes they take; the
    /// caller offers the rest again, with more after it. `last` says that nothing will follow:
    /// then an incomplete item is an error.
    pub fn feed(
        &mut self,
        input: &[u8],
        last: bool,
        visitor: &mut dyn SnapshotVisitor,
    ) -> Result<usize, SnapshotError> {
        let mut r = Reader::new(input);
        let mut summed = 0;
        while self.stage != Stage::Done {
            let mark = input.len() - r.remaining();
            if mark - summed >= SLICE {
                self.sum(&input[summed..mark]);
                summed = mark;
            }
            if matches!(self.stage, Stage::Seal | Stage::Sections) {
                // These need the sum up to here, and the number of bytes left.
                self.sum(&input[summed..mark]);
                summed = mark;
                if !last {
                    break;
                }
            }
            let at = self.offset + (mark - summed) as u64;
            match self.item(&mut r, at, visitor) {
                Ok(()) => {}
                Err(SnapshotError::Decode { error: DecodeError::Truncated(_), .. }) if !last => {
                    let done = mark;
                    self.sum(&input[summed..done]);
                    return Ok(done);
                }
                Err(e) => return Err(e),
            }
        }
        let done = input.len() - r.remaining();
        if summed < done {
            self.sum(&input[summed..done]);
        }
        Ok(done)
    }

    fn sum(&mut self, bytes: &[u8]) {
        if !self.stream {
            self.adler.write(bytes);
        }
        self.offset += bytes.len() as u64;
    }

    /// Reads one item at stream offset `at`. On `Err` nothing has changed but `r`.
    fn item(
        &mut self,
        r: &mut Reader<'_>,
        at: u64,
        visitor: &mut dyn SnapshotVisitor,
    ) -> Result<(), SnapshotError> {
        let bad = |error| SnapshotError::Decode { offset: at, error };
        let refused = |reason| SnapshotError::Content { offset: at, reason };
        self.stage = match self.stage {
            Stage::Header => {
                let header = r.take(16, "the file header").map_err(bad)?;
                if !header.starts_with(b"ZKSN") {
                    return Err(SnapshotError::Magic);
                }
                Stage::SessionCount
            }
            Stage::SessionCount => {
                Stage::Sessions(r.count("session count").map_err(bad)?.unwrap_or(0))
            }
            Stage::Sessions(0) => Stage::AclCount,
            Stage::Sessions(n) => {
                let id = SessionId(r.i64("session id").map_err(bad)?);
                let timeout_ms = r.i32("session timeout").map_err(bad)?;
                visitor.session(id, timeout_ms).map_err(refused)?;
                Stage::Sessions(n - 1)
            }
            Stage::AclCount => Stage::Acls(r.count("acl map count").map_err(bad)?.unwrap_or(0)),
            Stage::Acls(0) => Stage::Nodes,
            Stage::Acls(n) => {
                let id = r.i64("acl id").map_err(bad)?;
                if r.rest().starts_with(&[0xff; 4]) {
                    return Err(bad(DecodeError::Null("acl list")));
                }
                let acl = AclBytes::read(r).map_err(bad)?;
                visitor.acl(id, acl).map_err(refused)?;
                Stage::Acls(n - 1)
            }
            Stage::Nodes => match read_node(r).map_err(bad)? {
                Some(node) => {
                    visitor.node(&node).map_err(refused)?;
                    self.nodes += 1;
                    Stage::Nodes
                }
                None if self.stream => Stage::StreamEnd,
                None => Stage::Seal,
            },
            Stage::StreamEnd => {
                let mark = r.buffer("end of the stream").map_err(bad)?;
                if mark != Some(STREAM_END.as_bytes()) {
                    return Err(SnapshotError::StreamEnd { offset: at });
                }
                Stage::Done
            }
            Stage::Seal => {
                self.check_seal(r, at)?;
                Stage::Sections
            }
            Stage::Sections => {
                self.sections(r, at)?;
                Stage::Done
            }
            Stage::Done => Stage::Done,
        };
        Ok(())
    }

    /// Reads a seal at `at`, up to which everything has been summed, and sums the seal itself.
    fn check_seal(&mut self, r: &mut Reader<'_>, at: u64) -> Result<(), SnapshotError> {
        let bad = |error| SnapshotError::Decode { offset: at, error };
        let value = r.i64("checksum").map_err(bad)?;
        r.buffer("checksum end").map_err(bad)?;
        if value != i64::from(self.adler.finish()) {
            return Err(SnapshotError::Seal { offset: at });
        }
        Ok(())
    }

    fn sections(&mut self, r: &mut Reader<'_>, at: u64) -> Result<(), SnapshotError> {
        let mut at = at;
        let (digest, last) = match r.remaining() {
            0 => (false, false),
            33 => (true, false),
            21 => (false, true),
            54 => (true, true),
            n => match old_digest_len(r.rest()) {
                Some(len) if n == len + 13 => (true, false),
                Some(len) if n == len + 34 => (true, true),
                _ => return Err(SnapshotError::Sections { remaining: n as u64 }),
            },
        };
        if digest {
            self.section(r, &mut at, |this, r| {
                let zxid = Zxid(r.i64("digest zxid")?);
                let version = r.i32("digest version")?;
                if version < 2 {
                    // 3.6.0 wrote text; digests of other versions are never compared.
                    r.buffer("digest")?;
                    return Ok(());
                }
                let digest = r.i64("digest")? as u64;
                this.digest = Some(SnapshotDigest { zxid, version, digest });
                Ok(())
            })?;
        }
        if last {
            self.section(r, &mut at, |this, r| {
                this.last_zxid = Some(Zxid(r.i64("last zxid")?));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One section and its seal.
    fn section(
        &mut self,
        r: &mut Reader<'_>,
        at: &mut u64,
        body: impl FnOnce(&mut SnapshotReader, &mut Reader<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), SnapshotError> {
        let start = r.rest();
        body(self, r).map_err(|error| SnapshotError::Decode { offset: *at, error })?;
        let body_len = start.len() - r.remaining();
        // `feed` sums up to the first seal's end only; from here on the sum is kept here.
        self.adler.write(&start[..body_len]);
        *at += body_len as u64;
        self.check_seal(r, *at)?;
        let whole = start.len() - r.remaining();
        self.adler.write(&start[body_len..whole]);
        *at += (whole - body_len) as u64;
        Ok(())
    }
}

impl Default for SnapshotReader {
    fn default() -> SnapshotReader {
        SnapshotReader::new()
    }
}

/// Length of a digest section of version 0 or 1 (long, int, text), without its seal.
fn old_digest_len(rest: &[u8]) -> Option<usize> {
    let mut r = Reader::new(rest);
    r.i64("digest zxid").ok()?;
    if r.i32("digest version").ok()? >= 2 {
        return None;
    }
    r.buffer("digest").ok()??;
    Some(rest.len() - r.remaining())
}

/// The next node, or `None` for the path `/` that ends the list.
#[inline]
fn read_node<'a>(r: &mut Reader<'a>) -> Result<Option<SnapshotNode<'a>>, DecodeError> {
    let path = r.buffer("node path")?.ok_or(DecodeError::Null("node path"))?;
    if path == b"/" {
        return Ok(None);
    }
    let path =
        std::str::from_utf8(path).map_err(|_| DecodeError::BadValue("node path (UTF-8)", 0))?;
    let data = r.buffer("node data")?;
    let acl = r.i64("node acl")?;
    let stat = PersistedStat::decode_from(r)?;
    Ok(Some(SnapshotNode { path, data, acl, stat }))
}
