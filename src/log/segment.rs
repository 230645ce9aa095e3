//! Layout of a native segment file (`wal.<first zxid>`).
//!
//! ```text
//! block 0   header, little-endian: magic "RKWAL\0\0\1", u32 version, u32 block, u64 salt,
//!           u64 segment size, u32 CRC-32C of the 32 bytes before it; zeros
//! records   u32 CRC-32C, u32 length | END, u64 group commit number, entry bytes, zeros to 8
//! ```
//!
//! The CRC covers the segment's salt, then everything of the record behind the CRC field. The
//! salt is drawn anew whenever a file is used again, so records of its former life are invalid.
//! A group commit is one write; the last record of it carries END. After the last record of each
//! write stand at least 16 zero bytes (unless the segment ends there), so a clean end always
//! shows as a zero head, never as leftovers of a former life. There is no ZooKeeper counterpart;
//! the Apache format is in `apache`.

use std::fmt;

use crate::base::Zxid;

/// Unit of writing, in bytes; also the size of a segment's header.
pub const BLOCK: usize = 4096;
/// Bytes in front of each record's entry.
pub const RECORD_HEAD: usize = 16;
/// The shortest entry: a transaction header.
pub const MIN_ENTRY: usize = crate::wire::TxnHeader::SIZE;
/// Marks the last record of a group commit in the length field.
pub(super) const END: u32 = 1 << 31;

const MAGIC: &[u8; 8] = b"RKWAL\0\0\x01";
const VERSION: u32 = 1;
const HEADER_USED: usize = 36;

/// Bytes a record with an entry of `len` bytes takes in a segment.
#[inline]
pub fn record_size(len: usize) -> usize {
    (RECORD_HEAD + len).next_multiple_of(8)
}

/// zxid of an entry, from its transaction header; `None` if it is too short.
#[inline]
pub fn entry_zxid(entry: &[u8]) -> Option<Zxid> {
    let bytes = entry.get(12..20)?;
    Some(Zxid(i64::from_be_bytes(bytes.try_into().ok()?)))
}

/// The header block of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Mixed into the CRC of every record.
    pub salt: u64,
    /// Size of the file in bytes, header included, as preallocated.
    pub size: u64,
}

/// Why a header block is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// The file is shorter than a header block.
    Short,
    /// Not the magic of a segment.
    Magic,
    /// The CRC does not match.
    Crc,
    /// Written by a newer release.
    Version(u32),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Short => write!(f, "the file is shorter than a segment header"),
            HeaderError::Magic => write!(f, "the file does not start like a segment"),
            HeaderError::Crc => write!(f, "the checksum of the segment header does not match"),
            HeaderError::Version(v) => write!(f, "segment format version {v} is not known"),
        }
    }
}

impl std::error::Error for HeaderError {}

impl SegmentHeader {
    /// The header block.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut b = [0u8; BLOCK];
        b[0..8].copy_from_slice(MAGIC);
        b[8..12].copy_from_slice(&VERSION.to_le_bytes());
        b[12..16].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        b[16..24].copy_from_slice(&self.salt.to_le_bytes());
        b[24..32].copy_from_slice(&self.size.to_le_bytes());
        let crc = crc32c::crc32c(&b[..32]);
        b[32..HEADER_USED].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads the header block at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if bytes.len() < BLOCK {
            return Err(HeaderError::Short);
        }
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::Magic);
        }
        if crc32c::crc32c(&bytes[..32]) != le_u32(bytes, 32) {
            return Err(HeaderError::Crc);
        }
        match le_u32(bytes, 8) {
            VERSION => {}
            other => return Err(HeaderError::Version(other)),
        }
        Ok(SegmentHeader { salt: le_u64(bytes, 16), size: le_u64(bytes, 24) })
    }

    /// Start value of the CRC of this segment's records.
    pub(super) fn crc_seed(&self) -> u32 {
        crc32c::crc32c(&self.salt.to_le_bytes())
    }
}

#[inline]
pub(super) fn le_u32(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0u8; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

#[inline]
pub(super) fn le_u64(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0u8; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

/// CRC-32C of what a scan looks at. Tests count the bytes: the time of a start follows from them.
pub(super) fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    #[cfg(test)]
    SUMMED.with(|summed| summed.set(summed.get() + bytes.len() as u64));
    crc32c::crc32c_append(seed, bytes)
}

#[cfg(test)]
thread_local! {
    /// Bytes that scans have summed up.
    pub(super) static SUMMED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Writes a record over the start of `room`, which is as long as [`record_size`] says. The CRC
/// reads the entry where it comes from: what was just copied is not quite there yet.
#[inline]
pub(super) fn write_record(room: &mut [u8], entry: &[u8], end: bool, group: u64, seed: u32) {
    let tag = entry.len() as u32 | if end { END } else { 0 };
    // Stored in the pieces in which the CRC reads it: a load of what lies in two stores waits until
    // both have left the processor.
    let mut covered = [0; RECORD_HEAD - 4];
    covered[..8].copy_from_slice(&(u64::from(tag) | group << 32).to_le_bytes());
    covered[8..].copy_from_slice(&((group >> 32) as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &covered), entry);
    let (head, body) = room.split_at_mut(RECORD_HEAD);
    head[..4].copy_from_slice(&crc.to_le_bytes());
    head[4..].copy_from_slice(&covered);
    let (body, padding) = body.split_at_mut(entry.len());
    body.copy_from_slice(entry);
    padding.fill(0);
}
