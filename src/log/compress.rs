//! Snapshot compression (`zookeeper.snapshot.compression.method`): gzip and the stream framing of
//! snappy-java, both ways, over caller-owned buffers. Counterpart: `SnapStream`.
//!
//! snappy-java's stream: 8 magic bytes, int version 1, int compatible version 1, then blocks of
//! int length and a raw snappy block of at most 32 KiB. It is not snappy's framing format.

use std::fmt;

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// How a snapshot file is compressed; the last part of its name says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// `.gz`
    Gzip,
    /// `.snappy`
    Snappy,
}

impl Compression {
    /// The value of `snapshot.compression.method`; `None` if there is no such method.
    pub fn from_config(method: &str) -> Option<Compression> {
        match method {
            "" => Some(Compression::None),
            "gz" => Some(Compression::Gzip),
            "snappy" => Some(Compression::Snappy),
            _ => None,
        }
    }

    /// What a file name's last part means; anything unknown is plain.
    pub fn from_name(name: &str) -> Compression {
        match name.rsplit('.').next() {
            Some("gz") => Compression::Gzip,
            Some("snappy") => Compression::Snappy,
            _ => Compression::None,
        }
    }

    /// The extension, with its dot.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
}

/// Why a compressed stream cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressError {
    /// Does not start with the magic of its format.
    Magic,
    /// The compressed data is invalid.
    Data,
    /// gzip's checksum or length does not match.
    Checksum,
    /// The stream ends in mid-block.
    Truncated,
}

impl fmt::Display for CompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompressError::Magic => "it does not start like its compression format",
            CompressError::Data => "its compressed data is invalid",
            CompressError::Checksum => "its gzip checksum does not match",
            CompressError::Truncated => "its compressed data ends early",
        })
    }
}

impl std::error::Error for CompressError {}

const SNAPPY_MAGIC: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_BLOCK: usize = 32 << 10;
/// snappy-java refuses nothing, but no writer makes blocks above this.
const SNAPPY_BLOCK_MAX: usize = 64 << 20;
const GZIP_HEADER: &[u8; 10] = b"\x1f\x8b\x08\0\0\0\0\0\0\0";

enum Enc {
    Plain,
    Gzip { deflate: Box<Compress>, crc: Crc, started: bool },
    Snappy { block: Vec<u8>, started: bool },
}

/// Compresses a stream piece by piece.
pub struct Encoder(Enc);

impl Encoder {
    /// An encoder of the given kind.
    pub fn new(kind: Compression) -> Encoder {
        Encoder(match kind {
            Compression::None => Enc::Plain,
            Compression::Gzip => Enc::Gzip {
                deflate: Box::new(Compress::new(flate2::Compression::new(6), false)),
                crc: Crc::new(),
                started: false,
            },
            Compression::Snappy => Enc::Snappy { block: Vec::new(), started: false },
        })
    }

    /// Appends to `out` what `input` makes ready.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match &mut self.0 {
            Enc::Plain => out.extend_from_slice(input),
            Enc::Gzip { deflate, crc, started } => {
                if !*started {
                    out.extend_from_slice(GZIP_HEADER);
                    *started = true;
                }
                crc.update(input);
                deflate_all(deflate, input, FlushCompress::None, out);
            }
            Enc::Snappy { block, started } => {
                if !*started {
                    out.extend_from_slice(SNAPPY_MAGIC);
                    *started = true;
                }
                let mut input = input;
                while !input.is_empty() {
                    let n = input.len().min(SNAPPY_BLOCK - block.len());
                    block.extend_from_slice(&input[..n]);
                    input = &input[n..];
                    if block.len() == SNAPPY_BLOCK {
                        put_snappy_block(block, out);
                    }
                }
            }
        }
    }

    /// Appends the end of the stream.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.push(&[], out);
        match self.0 {
            Enc::Plain => {}
            Enc::Gzip { mut deflate, crc, .. } => {
                deflate_all(&mut deflate, &[], FlushCompress::Finish, out);
                out.extend_from_slice(&crc.sum().to_le_bytes());
                out.extend_from_slice(&crc.amount().to_le_bytes());
            }
            Enc::Snappy { mut block, .. } => {
                if !block.is_empty() {
                    put_snappy_block(&mut block, out);
                }
            }
        }
    }
}

fn deflate_all(deflate: &mut Compress, input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    let mut input = input;
    loop {
        out.reserve((input.len() / 2).max(4096));
        let before = deflate.total_in();
        let free = out.capacity() - out.len();
        // Deflate fails on invalid parameters only, and these are constant.
        let status = deflate.compress_vec(input, out, flush);
        input = &input[(deflate.total_in() - before) as usize..];
        match status {
            Ok(Status::StreamEnd) | Err(_) => return,
            Ok(Status::Ok | Status::BufError) => {}
        }
        let more_out = out.capacity() == out.len() && free > 0;
        if input.is_empty() && !more_out && matches!(flush, FlushCompress::None) {
            return;
        }
    }
}

fn put_snappy_block(block: &mut Vec<u8>, out: &mut Vec<u8>) {
    let at = out.len();
    let max = snap::raw::max_compress_len(block.len());
    out.resize(at + 4 + max, 0);
    // It fails only if the output is too small or the input above 4 GiB; neither can be.
    let n = snap::raw::Encoder::new().compress(block, &mut out[at + 4..]).unwrap_or(0);
    out[at..at + 4].copy_from_slice(&(n as u32).to_be_bytes());
    out.truncate(at + 4 + n);
    block.clear();
}

enum Dec {
    Plain,
    GzipHeader,
    Gzip {
        inflate: Box<Decompress>,
        crc: Crc,
    },
    GzipTrailer(Crc),
    SnappyHeader,
    Snappy,
    /// Bytes after a gzip member are ignored.
    Ended,
}

/// Decompresses a stream piece by piece.
pub struct Decoder(Dec);

impl Decoder {
    /// A decoder of the given kind.
    pub fn new(kind: Compression) -> Decoder {
        Decoder(match kind {
            Compression::None => Dec::Plain,
            Compression::Gzip => Dec::GzipHeader,
            Compression::Snappy => Dec::SnappyHeader,
        })
    }

    /// Decompresses some of `input` to the end of `out`, at most about `limit` bytes at a time,
    /// and returns how much of `input` was used. If nothing was used and nothing appended, more
    /// input is needed: offer the same bytes again with more after them, or call
    /// [`Decoder::finish`] at the end.
    pub fn pull(
        &mut self,
        input: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, CompressError> {
        match &mut self.0 {
            Dec::Plain => {
                let n = input.len().min(limit);
                out.extend_from_slice(&input[..n]);
                Ok(n)
            }
            Dec::GzipHeader => {
                let Some(n) = gzip_header_len(input)? else { return Ok(0) };
                let inflate = Box::new(Decompress::new(false));
                self.0 = Dec::Gzip { inflate, crc: Crc::new() };
                Ok(n)
            }
            Dec::Gzip { inflate, crc } => {
                let (start, before) = (out.len(), inflate.total_in());
                out.reserve(limit);
                let status = inflate
                    .decompress_vec(input, out, FlushDecompress::None)
                    .map_err(|_| CompressError::Data)?;
                crc.update(&out[start..]);
                let used = (inflate.total_in() - before) as usize;
                if status == Status::StreamEnd {
                    let crc = std::mem::take(crc);
                    self.0 = Dec::GzipTrailer(crc);
                }
                Ok(used)
            }
            Dec::GzipTrailer(crc) => {
                let Some(trailer) = input.first_chunk::<8>() else { return Ok(0) };
                let want = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
                if trailer[..] != want[..] {
                    return Err(CompressError::Checksum);
                }
                self.0 = Dec::Ended;
                Ok(8)
            }
            Dec::SnappyHeader => {
                let Some(head) = input.first_chunk::<16>() else { return Ok(0) };
                if head[..8] != SNAPPY_MAGIC[..8] {
                    return Err(CompressError::Magic);
                }
                self.0 = Dec::Snappy;
                Ok(16)
            }
            Dec::Snappy => snappy_block(input, out),
            Dec::Ended => Ok(input.len()),
        }
    }

    /// Whether the stream may end here, all input having been used.
    pub fn finish(&self) -> Result<(), CompressError> {
        match self.0 {
            Dec::Plain | Dec::Snappy | Dec::Ended => Ok(()),
            Dec::GzipHeader | Dec::Gzip { .. } | Dec::GzipTrailer(_) | Dec::SnappyHeader => {
                Err(CompressError::Truncated)
            }
        }
    }
}

fn snappy_block(input: &[u8], out: &mut Vec<u8>) -> Result<usize, CompressError> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(0) };
    // A reader of concatenated streams meets the magic again; so does snappy-java.
    if head == &SNAPPY_MAGIC[..4] {
        return Ok(if input.len() < 16 { 0 } else { 16 });
    }
    let len = u32::from_be_bytes(*head) as usize;
    if len > SNAPPY_BLOCK_MAX {
        return Err(CompressError::Data);
    }
    let Some(block) = input.get(4..4 + len) else { return Ok(0) };
    let plain = snap::raw::decompress_len(block).map_err(|_| CompressError::Data)?;
    if plain > SNAPPY_BLOCK_MAX {
        return Err(CompressError::Data);
    }
    let at = out.len();
    out.resize(at + plain, 0);
    let n = snap::raw::Decoder::new()
        .decompress(block, &mut out[at..])
        .map_err(|_| CompressError::Data)?;
    out.truncate(at + n);
    Ok(4 + len)
}

/// Length of the gzip header at the start of `input`; `None` if it is not all there.
fn gzip_header_len(input: &[u8]) -> Result<Option<usize>, CompressError> {
    if !GZIP_HEADER.starts_with(&input[..input.len().min(3)]) {
        return Err(CompressError::Magic);
    }
    let Some(head) = input.first_chunk::<10>() else { return Ok(None) };
    let flags = head[3];
    let mut at = 10;
    if flags & 4 != 0 {
        let Some(len) = input.get(at..at + 2) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes([len[0], len[1]]));
    }
    for _ in 0..(flags & 8) / 8 + (flags & 16) / 16 {
        let rest = input.get(at..).unwrap_or(&[]);
        let Some(end) = rest.iter().position(|&b| b == 0) else { return Ok(None) };
        at += end + 1;
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    Ok(if input.len() < at { None } else { Some(at) })
}
