//! Finding whole frames in a byte stream, and telling commands from frames.

use std::fmt;

use crate::base::FOUR_LETTER_WORDS;

/// Why a stream cannot be framed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length field is negative or above `jute.maxbuffer`, which is `max`.
    BadLength {
        /// What the field says.
        len: i32,
        /// What is allowed.
        max: usize,
    },
}

/// The kind of a [`FrameError`]: messages about one do not hide messages about another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offence {
    /// It speaks TLS, and this port does not.
    Tls,
    /// It sent text: HTTP, or an unknown four-letter word.
    Text,
    /// A negative length.
    Negative,
    /// A length above `jute.maxbuffer`.
    TooLong,
}

impl Offence {
    /// Number of kinds.
    pub const COUNT: usize = 4;
}

impl FrameError {
    /// What the peer did wrong, most likely.
    pub fn offence(&self) -> Offence {
        let FrameError::BadLength { len, .. } = *self;
        let bytes = len.to_be_bytes();
        match bytes {
            // A handshake record of TLS 1.x.
            [0x16, 3, ..] => Offence::Tls,
            _ if bytes.iter().all(|b| b.is_ascii_graphic() || b" \r\n\t".contains(b)) => {
                Offence::Text
            }
            _ if len < 0 => Offence::Negative,
            _ => Offence::TooLong,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FrameError::BadLength { len, max } = *self;
        match self.offence() {
            Offence::Tls => write!(f, "it speaks TLS, and this port does not"),
            Offence::Text => write!(
                f,
                "it sent text, \"{}\": HTTP or an unknown four-letter word?",
                len.to_be_bytes().escape_ascii()
            ),
            Offence::Negative => write!(f, "a request of {len} bytes, a negative length"),
            Offence::TooLong => write!(
                f,
                "a request of {len} bytes, above jute.maxbuffer={max}; if it is meant, raise that \
                 property here and for the clients"
            ),
        }
    }
}

impl std::error::Error for FrameError {}

/// How many bytes at the start of `bytes` are whole frames. A bad length after whole frames is
/// reported only when those have been taken, so that requests before it are served.
pub fn whole_frames(bytes: &[u8], max_frame: usize) -> Result<usize, FrameError> {
    let mut at = 0;
    while let Some(head) = bytes[at..].first_chunk::<4>() {
        let len = i32::from_be_bytes(*head);
        let fits = usize::try_from(len).ok().filter(|&len| len <= max_frame);
        // Frames before a bad one are served first.
        let Some(size) = fits else {
            return if at == 0 {
                Err(FrameError::BadLength { len, max: max_frame })
            } else {
                Ok(at)
            };
        };
        if bytes.len() - at - 4 < size {
            break;
        }
        at += 4 + size;
    }
    Ok(at)
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    /// Too few to tell.
    Unknown,
    /// A four-letter word, whole with its argument; the number of bytes it takes.
    Word([u8; 4], usize),
    /// A frame.
    Frame,
}

/// Classifies the first bytes of a connection. `takes_mask`: `stmk` is answered, so its argument is
/// waited for; otherwise it is refused at once, as Apache does.
pub fn classify(bytes: &[u8], takes_mask: bool) -> First {
    // A word has four bytes, and so has the length of a frame.
    let Some(word) = bytes.first_chunk::<4>() else { return First::Unknown };
    let telnet_interrupt = [0xff, 0xf4, 0xff, 0xfd];
    let is_word = FOUR_LETTER_WORDS.iter().any(|known| known.as_bytes() == word);
    let known = is_word || *word == telnet_interrupt;
    match (known, word) {
        (false, _) => First::Frame,
        // It carries an 8-byte mask.
        (true, b"stmk") if takes_mask && bytes.len() < 12 => First::Unknown,
        (true, b"stmk") if takes_mask => First::Word(*word, 12),
        (true, _) => First::Word(*word, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_are_taken() {
        let stream = [0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 2, 1];
        for end in 0..=stream.len() {
            let expect = match end {
                0..5 => 0,
                5..9 => 5,
                _ => 9,
            };
            assert_eq!(whole_frames(&stream[..end], 2), Ok(expect), "{end}");
        }
    }

    #[test]
    fn the_limit_is_inclusive_and_good_frames_come_first() {
        let bad = |len| FrameError::BadLength { len, max: 8 };
        let frame = |len: i32| [&len.to_be_bytes()[..], &vec![0; len.max(0) as usize]].concat();
        assert_eq!(whole_frames(&frame(8), 8), Ok(12));
        assert_eq!(whole_frames(&frame(9), 8), Err(bad(9)));
        assert_eq!(whole_frames(&(-1i32).to_be_bytes(), 8), Err(bad(-1)));
        let both = [frame(8), frame(9)].concat();
        assert_eq!(whole_frames(&both, 8), Ok(12));
        assert_eq!(whole_frames(&both[12..], 8), Err(bad(9)));
    }

    #[test]
    fn a_bad_length_says_what_it_may_have_been() {
        for (bytes, part) in [
            (*b"lsnp", "text, \"lsnp\": HTTP or an unknown four-letter word?"),
            (*b"G\r\n\"", "text, \"G\\r\\n\\\"\": HTTP"),
            ([0x16, 3, 1, 2], "it speaks TLS"),
            ([0xff; 4], "-1 bytes, a negative length"),
            (1_100_052i32.to_be_bytes(), "1100052 bytes, above jute.maxbuffer=1048575; if"),
        ] {
            let error = whole_frames(&bytes, 0xf_ffff).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn words_are_told_from_lengths() {
        assert_eq!(classify(b"ruo", true), First::Unknown);
        assert_eq!(classify(b"ruok\n", true), First::Word(*b"ruok", 4));
        assert_eq!(classify(b"wchs", true), First::Word(*b"wchs", 4));
        assert_eq!(classify(b"stmk\0\0\0\0", true), First::Unknown);
        assert_eq!(classify(b"stmk", false), First::Word(*b"stmk", 4));
        assert_eq!(classify(b"stmk\0\0\0\0\0\0\0\x01", true), First::Word(*b"stmk", 12));
        assert_eq!(classify(&[0, 0, 0, 45], true), First::Frame);
    }
}
