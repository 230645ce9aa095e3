//! Jute primitives: big-endian integers, length-prefixed buffers and text, counted vectors.

use std::borrow::Cow;
use std::fmt;

/// Why bytes could not be decoded. Carries what was being read, for the log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ended inside the named item.
    Truncated(&'static str),
    /// A length field is negative (other than -1) or above the limit.
    BadLength(&'static str, i32),
    /// A value that must be present is null.
    Null(&'static str),
    /// A field holds a value outside its domain.
    BadValue(&'static str, i64),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated(what) => write!(f, "input ends inside {what}"),
            DecodeError::BadLength(what, n) => write!(f, "unreasonable length {n} of {what}"),
            DecodeError::Null(what) => write!(f, "{what} must not be null"),
            DecodeError::BadValue(what, v) => write!(f, "{what} has the invalid value {v}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A cursor over encoded bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Number of bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated(what))?;
        self.rest = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, tail) =
            self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated(what))?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A boolean; any non-zero byte is true, as in Java's `DataInput`.
    #[inline]
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        Ok(self.u8(what)? != 0)
    }

    /// A 32-bit integer.
    #[inline]
    pub fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    /// A 64-bit integer.
    #[inline]
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// A buffer; `None` is jute's null (length -1), distinct from the empty buffer.
    #[inline]
    pub fn buffer(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let n = self.i32(what)?;
        if n == -1 {
            return Ok(None);
        }
        let n = usize::try_from(n).map_err(|_| DecodeError::BadLength(what, n))?;
        self.take(n, what).map(Some)
    }

    /// Text; `None` is null. Malformed UTF-8 becomes U+FFFD, as in Java's decoder.
    #[inline]
    pub fn text(&mut self, what: &'static str) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(self.buffer(what)?.map(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        }))
    }

    /// Element count of a vector; `None` is null (-1), counts below -1 read as empty.
    pub fn count(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        match self.i32(what)? {
            -1 => Ok(None),
            n => Ok(Some(usize::try_from(n).unwrap_or(0))),
        }
    }
}

/// Room for `N` more bytes. A record of several fields is written into it in place: gathered on the
/// stack first, it would be read back in other pieces than it was stored in, and wait for that.
#[inline]
pub(super) fn grow<const N: usize>(out: &mut Vec<u8>) -> &mut [u8; N] {
    let start = out.len();
    out.resize(start + N, 0);
    out[start..].first_chunk_mut().unwrap_or_else(|| unreachable!("{N} bytes were added"))
}

/// Appends a boolean.
#[inline]
pub fn put_bool(out: &mut Vec<u8>, v: bool) {
    out.push(u8::from(v));
}

/// Appends a 32-bit integer.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends a 64-bit integer.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, v: i64) {
    out.extend_from_slice(&v.to_be_bytes());
}

/// Appends a buffer, null for `None`.
///
/// # Panics
/// When the buffer is 2 GiB or larger: frames are bounded far below that.
#[inline]
pub fn put_buffer(out: &mut Vec<u8>, v: Option<&[u8]>) {
    match v {
        None => put_i32(out, -1),
        Some(bytes) => {
            let n = i32::try_from(bytes.len()).expect("buffers are bounded by the frame limit");
            put_i32(out, n);
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends text; never null.
#[inline]
pub fn put_str(out: &mut Vec<u8>, v: &str) {
    put_buffer(out, Some(v.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_empty_and_truncated_are_three_things() {
        let mut out = Vec::new();
        put_buffer(&mut out, None);
        put_buffer(&mut out, Some(b""));
        put_str(&mut out, "ab");
        let mut r = Reader::new(&out);
        assert_eq!(r.buffer("x"), Ok(None));
        assert_eq!(r.buffer("x"), Ok(Some(&b""[..])));
        assert_eq!(r.text("x"), Ok(Some(Cow::Borrowed("ab"))));
        assert_eq!(r.buffer("x"), Err(DecodeError::Truncated("x")));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).buffer("x"),
            Err(DecodeError::BadLength("x", -2))
        );
    }

    #[test]
    fn malformed_text_becomes_the_replacement_character() {
        let mut r = Reader::new(&[0, 0, 0, 2, b'/', 0xff]);
        assert_eq!(r.text("path"), Ok(Some(Cow::Owned("/\u{fffd}".to_owned()))));
    }
}
