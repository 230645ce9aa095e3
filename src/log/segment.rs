//! Layout of a native segment file (`wal.<first zxid>`), format 2; all numbers little-endian.
//!
//! ```text
//! block 0   offset 0: magic "RKWAL\0\0\1", u32 version 2, u32 block size, u64 salt, u64 segment
//!           size, u32 CRC-32C of the 32 bytes before it; zeros
//!           offset 512, once a start has closed the segment: see [`SegmentHeader::seal`]
//! groups    a head of 32 bytes, then its records
//!   head    u64 stamp = salt XOR the head's offset in the file, u64 group commit number,
//!           i64 committed zxid, u32 size of the records / 8, u32 CRC-32C of the 28 bytes before it
//!   record  u32 CRC-32C of what follows, u32 length, entry bytes, zeros to a multiple of 8
//! ```
//!
//! A group commit is one write. The CRC of a head starts from the segment's salt, the CRC of a
//! record from its group's position and number. The salt is random, drawn anew whenever a file is
//! used again, and no client ever sees it. So a head proves by one comparison of 8 bytes that it
//! was written here in this life of the file: neither what is left of a former life nor bytes that
//! clients chose pass for one, and nothing is summed up before. For instance with salt 0x5000 the
//! first group commit begins at 4096 = 0x1000 with the stamp 0x4000.
//!
//! After the last record of each write stand at least 8 zero bytes (unless the segment ends there),
//! so a clean end shows as a zero stamp. Format 1, still read, is in `format1`; Apache's format is
//! in `apache`. There is no ZooKeeper counterpart.

use std::fmt;

use crate::base::Zxid;

/// Unit of writing, in bytes; also the size of a segment's header.
pub const BLOCK: usize = 4096;
/// Bytes in front of each group commit's records.
pub const GROUP_HEAD: usize = 32;
/// Bytes in front of each record's entry.
pub const RECORD_HEAD: usize = 8;
/// Zero bytes after each write.
pub(super) const TAIL: usize = 8;
/// The shortest entry: a transaction header.
pub const MIN_ENTRY: usize = crate::wire::TxnHeader::SIZE;

const MAGIC: &[u8; 8] = b"RKWAL\0\0\x01";
const HEADER_USED: usize = 36;
/// Where the seal stands: in a sector of its own, so that a torn write cannot harm the header.
pub(super) const SEAL_AT: usize = 512;
const SEAL: usize = 24;

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

/// How a segment's records are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Records that know the number of their group commit; read only.
    One,
    /// Group commits that know where they stand.
    Two,
}

/// The header block of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Layout of what follows.
    pub format: Format,
    /// Random; no client knows it.
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
    /// The header of a new segment of `size` bytes.
    pub fn new(salt: u64, size: u64) -> SegmentHeader {
        SegmentHeader { format: Format::Two, salt, size }
    }

    /// The header block.
    pub fn encode(&self) -> [u8; BLOCK] {
        let version: u32 = match self.format {
            Format::One => 1,
            Format::Two => 2,
        };
        let mut b = [0u8; BLOCK];
        b[0..8].copy_from_slice(MAGIC);
        b[8..12].copy_from_slice(&version.to_le_bytes());
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
        let format = match le_u32(bytes, 8) {
            1 => Format::One,
            2 => Format::Two,
            other => return Err(HeaderError::Version(other)),
        };
        Ok(SegmentHeader { format, salt: le_u64(bytes, 16), size: le_u64(bytes, 24) })
    }

    /// Start value of the CRCs in this segment.
    pub(super) fn crc_seed(&self) -> u32 {
        crc32c::crc32c(&self.salt.to_le_bytes())
    }

    /// Says that the segment is whole up to `end` and ends there: u64 stamp, u64 end, u32 CRC-32C
    /// of both, zeros. A start writes it at [`Seal::offset`] before it cuts the file, so that one
    /// which is shorter than it was made, and not for this reason, shows as cut by somebody else.
    pub(super) fn seal(&self, end: u64) -> Seal {
        let mut bytes = [0; SEAL];
        bytes[..8].copy_from_slice(&(self.salt ^ SEAL_AT as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&end.to_le_bytes());
        let crc = crc32c::crc32c_append(self.crc_seed(), &bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        Seal { bytes, end }
    }

    /// Where the segment whose content this is ends, if it was sealed.
    pub(super) fn sealed_end(&self, content: &[u8]) -> Option<u64> {
        let found = content.get(SEAL_AT..SEAL_AT + SEAL)?;
        let end = le_u64(found, 8);
        (found == self.seal(end).bytes).then_some(end)
    }
}

/// The end of a segment, as written into its first block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    bytes: [u8; SEAL],
    /// Byte offset after the last whole group commit.
    pub end: u64,
}

impl Seal {
    /// Where [`Seal::bytes`] go in the file.
    pub fn offset(&self) -> u64 {
        SEAL_AT as u64
    }

    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes it into a segment in memory, whose first block is there.
    pub(super) fn put(&self, segment: &mut [u8]) {
        segment[SEAL_AT..SEAL_AT + SEAL].copy_from_slice(&self.bytes);
    }
}

/// The head of a group commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHead {
    pub number: u64,
    /// The last transaction that was known to be committed when the group was written.
    pub committed: Zxid,
    /// Bytes of its records.
    pub len: usize,
}

impl GroupHead {
    /// Writes the head of the group commit at `offset` of the file over the start of `room`.
    pub fn write(&self, room: &mut [u8], salt: u64, seed: u32, offset: u64) {
        let room = &mut room[..GROUP_HEAD];
        room[..8].copy_from_slice(&(salt ^ offset).to_le_bytes());
        room[8..16].copy_from_slice(&self.number.to_le_bytes());
        room[16..24].copy_from_slice(&self.committed.0.to_le_bytes());
        room[24..28].copy_from_slice(&((self.len / 8) as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &room[..28]);
        room[28..32].copy_from_slice(&crc.to_le_bytes());
    }

    /// The head at `at` of these bytes, which is `offset` of the file, if one was written there in
    /// this life of the file: `salt` and `seed` are in its header.
    pub fn read(
        bytes: &[u8],
        at: usize,
        offset: u64,
        (salt, seed): (u64, u32),
    ) -> Option<GroupHead> {
        let head = bytes.get(at..at + GROUP_HEAD)?;
        if le_u64(head, 0) != salt ^ offset || checksum(seed, &head[..28]) != le_u32(head, 28) {
            return None;
        }
        let committed = Zxid(le_u64(head, 16).cast_signed());
        Some(GroupHead { number: le_u64(head, 8), committed, len: le_u32(head, 24) as usize * 8 })
    }
}

/// Start value of the CRCs of the records of group commit `number` at `offset`.
pub(super) fn group_seed(seed: u32, number: u64, offset: u64) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&number.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c_append(seed, &place)
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
pub(super) fn write_record(room: &mut [u8], entry: &[u8], seed: u32) {
    let len = (entry.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &len), entry);
    let (head, body) = room.split_at_mut(RECORD_HEAD);
    // Stored in the piece in which it will be read: a load of what lies in two stores waits until
    // both have left the processor.
    let word = u64::from(crc) | u64::from(u32::from_le_bytes(len)) << 32;
    head.copy_from_slice(&word.to_le_bytes());
    let (body, padding) = body.split_at_mut(entry.len());
    body.copy_from_slice(entry);
    padding.fill(0);
}
