//! The tester's own jute codec, written against the protocol description only.
//!
//! It deliberately shares nothing with `ringkeeper::wire`: a mistake there must show up as a
//! difference and not be repeated on this side of the socket.

/// Appends jute values to a byte vector.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// An empty record.
    pub fn new() -> Writer {
        Writer(Vec::new())
    }

    /// A 4-byte integer.
    pub fn int(mut self, value: i32) -> Writer {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// An 8-byte integer.
    pub fn long(mut self, value: i64) -> Writer {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// One byte; tests also send values other than 0 and 1.
    pub fn byte(mut self, value: u8) -> Writer {
        self.0.push(value);
        self
    }

    /// A buffer or string; `None` is null.
    pub fn buffer(self, value: Option<&[u8]>) -> Writer {
        let Some(value) = value else { return self.int(-1) };
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        let mut writer = self.int(length);
        writer.0.extend_from_slice(value);
        writer
    }

    /// A string.
    pub fn text(self, value: &str) -> Writer {
        self.buffer(Some(value.as_bytes()))
    }

    /// A vector of strings; `None` is the null vector.
    pub fn paths(self, values: Option<&[Option<Vec<u8>>]>) -> Writer {
        let Some(values) = values else { return self.int(-1) };
        let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
        values.iter().fold(self.int(count), |writer, value| writer.buffer(value.as_deref()))
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes with a frame length in front.
    pub fn frame(self) -> Vec<u8> {
        Writer::new().buffer(Some(&self.0)).0
    }
}

/// The input ended or a length was impossible.
#[derive(Clone, Copy, Debug)]
pub struct Malformed;

/// Reads jute values from a frame.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// A 4-byte integer.
    pub fn int(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// An 8-byte integer.
    pub fn long(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// A buffer; `None` is null.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.int()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Malformed)?).map(Some),
        }
    }

    /// A string, quoted for a report; null is `null`.
    pub fn quoted(&mut self) -> Result<String, Malformed> {
        Ok(quote(self.buffer()?))
    }

    /// A vector; `None` is null.
    pub fn vector<T>(
        &mut self,
        mut element: impl FnMut(&mut Input<'a>) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        match self.int()? {
            -1 => Ok(None),
            count if count < 0 => Err(Malformed),
            count => (0..count).map(|_| element(self)).collect::<Result<_, _>>().map(Some),
        }
    }
}

/// Bytes as readable text; long ones are abbreviated with a checksum of the whole.
pub fn quote(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    if bytes.len() > 300 {
        let sum = bytes.iter().fold(0u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        let head = String::from_utf8_lossy(&bytes[..16]).escape_debug().to_string();
        return format!("\"{head}...\"({} bytes, sum {sum:016x})", bytes.len());
    }
    match std::str::from_utf8(&without_surrogates(bytes)) {
        Ok(text) => format!("\"{}\"", text.escape_debug()),
        Err(_) => format!("x{}", hex(bytes)),
    }
}

/// Java writes characters outside the BMP as two 3-byte surrogates; every client accepts real
/// UTF-8 as well, so both spellings count as the same text.
fn without_surrogates(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if let [0xed, high @ 0xa0..=0xaf, h, 0xed, low @ 0xb0..=0xbf, l, ..] = bytes[at..] {
            let unit = |second: u8, third: u8| {
                0xd000 | (u32::from(second & 0x3f) << 6) | u32::from(third & 0x3f)
            };
            let code = 0x1_0000 + ((unit(high, h) - 0xd800) << 10) + (unit(low, l) - 0xdc00);
            if let Some(c) = char::from_u32(code) {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += 6;
                continue;
            }
        }
        out.push(bytes[at]);
        at += 1;
    }
    out
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_match_the_published_vectors() {
        let ping = Writer::new().int(-2).int(11).frame();
        assert_eq!(hex(&ping), "00000008fffffffe0000000b");
        let auth = Writer::new().int(-4).int(100).int(0).text("digest").text("bob:pw").frame();
        assert_eq!(
            hex(&auth),
            "00000020fffffffc00000064000000000000000664696765737400000006626f623a7077"
        );
    }

    #[test]
    fn both_spellings_of_a_supplementary_character_are_one() {
        let java = [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80];
        assert_eq!(quote(Some(&java)), quote(Some("\u{1f600}".as_bytes())));
        assert_eq!(quote(None), "null");
        assert_eq!(quote(Some(&[0xff])), "xff");
    }
}
