//! Java properties syntax, as `java.util.Properties.load` reads it, with line numbers.
//!
//! That is ISO-8859-1 with `\u` escapes, even if an editor wrote UTF-8. A line whose value would
//! differ in UTF-8 has both values, because a name of a directory must not be guessed. One
//! deliberate difference: a leading byte order mark is skipped, which Java takes for a part of the
//! first key.

/// The mark that some editors put at the beginning of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One entry: the key and value are unescaped and trimmed, `line` counts from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Where the entry begins in its file.
    pub line: u32,
    /// Empty where a line begins with its separator.
    pub key: String,
    /// Empty where nothing follows the key.
    pub value: String,
    /// The value read as UTF-8; `None` if the bytes are not UTF-8 or the value is the same.
    pub utf8: Option<String>,
}

/// A `\u` escape that is not followed by four hexadecimal digits. Java refuses the whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadEscape {
    /// Where its entry begins in its file.
    pub line: u32,
    /// From the backslash on.
    pub text: String,
}

/// Splits `bytes` into entries. Entries with a bad escape are reported in their place.
pub fn parse_properties(bytes: &[u8]) -> Vec<Result<Line, BadEscape>> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    parse_property_text(&text)
}

/// Splits text that is in characters already, as `load` does with a `Reader`. So ZooKeeper reads
/// configurations that members send each other.
pub fn parse_property_text(text: &str) -> Vec<Result<Line, BadEscape>> {
    let mut lines = NaturalLines { rest: text, number: 0 };
    let mut entries = Vec::new();
    while let Some((number, first)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = String::from(first);
        // An odd number of trailing backslashes continues the line; the blanks that open the next
        // one are dropped. A comment sign there has no meaning.
        while trailing_backslashes(&logical) % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        entries.push(entry(number, &logical));
    }
    entries
}

/// Whether the file begins with a byte order mark.
pub fn has_byte_order_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(BYTE_ORDER_MARK)
}

/// Takes letters of ISO-8859-1 for the bytes that they were.
fn as_utf8(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// As Java's `String.trim`; a non-breaking space, which is the second half of `à`, stays.
fn trim(text: &str) -> String {
    text.trim_matches(|c| c <= ' ').to_string()
}

/// The white space of the format; a line feed is none.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn trailing_backslashes(text: &str) -> usize {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count()
}

/// Lines ended by `\n`, `\r` or `\r\n`.
struct NaturalLines<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Iterator for NaturalLines<'a> {
    type Item = (u32, &'a str);

    fn next(&mut self) -> Option<(u32, &'a str)> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let Some((line, rest)) = self.rest.split_once(['\n', '\r']) else {
            let line = std::mem::take(&mut self.rest);
            return Some((self.number, line));
        };
        let ended_by_cr = self.rest.as_bytes().get(line.len()) == Some(&b'\r');
        self.rest = if ended_by_cr { rest.strip_prefix('\n').unwrap_or(rest) } else { rest };
        Some((self.number, line))
    }
}

fn entry(line: u32, logical: &str) -> Result<Line, BadEscape> {
    let mut escaped = false;
    let end = logical.find(|c: char| {
        let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = logical.split_at(end.unwrap_or(logical.len()));
    // Blanks around at most one sign separate key and value: `a = b`, `a b`, `a:b`.
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    let utf8 = as_utf8(rest).map(|rest| unescape(line, &rest)).transpose()?;
    Ok(Line {
        line,
        key: trim(&unescape(line, key)?),
        value: trim(&unescape(line, rest)?),
        utf8: utf8.map(|text| trim(&text)),
    })
}

fn unescape(line: u32, text: &str) -> Result<String, BadEscape> {
    // Java strings are UTF-16: two `\u` escapes may form one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0u16; 2];
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut buffer));
            continue;
        }
        match chars.next() {
            Some('t') => units.push(u16::from(b'\t')),
            Some('n') => units.push(u16::from(b'\n')),
            Some('r') => units.push(u16::from(b'\r')),
            Some('f') => units.push(0x0c),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                match u16::from_str_radix(&digits, 16) {
                    Ok(unit) if is_hex => units.push(unit),
                    Ok(_) | Err(_) => {
                        return Err(BadEscape { line, text: format!("\\u{digits}") });
                    }
                }
            }
            Some(other) => units.extend_from_slice(other.encode_utf16(&mut buffer)),
            None => {}
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &[(u32, &str, &str)]) {
        let found: Vec<_> = parse_properties(input.as_bytes())
            .into_iter()
            .map(|entry| entry.map(|e| (e.line, e.key, e.value)).unwrap())
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(l, k, v)| (*l, k.to_string(), v.to_string())).collect();
        assert_eq!(found, expected, "input {input:?}");
    }

    #[test]
    fn separators_comments_and_blanks() {
        check("", &[]);
        check("a=b", &[(1, "a", "b")]);
        check("a = b \n", &[(1, "a", "b")]);
        check("a:b\r\nc d\re\tf", &[(1, "a", "b"), (2, "c", "d"), (3, "e", "f")]);
        check("  # no\n\t! no\n\n a  =  b c  ", &[(4, "a", "b c")]);
        check("a==b", &[(1, "a", "=b")]);
        check("a : = b", &[(1, "a", "= b")]);
        check("a", &[(1, "a", "")]);
        check("a=", &[(1, "a", "")]);
        check("=b", &[(1, "", "b")]);
        check("a=b # not a comment", &[(1, "a", "b # not a comment")]);
        check("\u{feff}a=b", &[(1, "a", "b")]);
        assert!(has_byte_order_mark("\u{feff}a=b".as_bytes()) && !has_byte_order_mark(b"a=b"));
    }

    #[test]
    fn escapes_and_continuation() {
        check("a\\=b=c", &[(1, "a=b", "c")]);
        check("a\\ b\\:c d", &[(1, "a b:c", "d")]);
        check("a=1,\\\n   2,\\\r\n\t3\nb=4", &[(1, "a", "1,2,3"), (4, "b", "4")]);
        check("a=b\\\\\nc=d", &[(1, "a", "b\\"), (2, "c", "d")]);
        check("a=b\\", &[(1, "a", "b")]);
        check("a=b\\\n# c\n", &[(1, "a", "b# c")]);
        check("# c\\\na=b", &[(2, "a", "b")]);
        check("a=b\\tc\\nd\\qe", &[(1, "a", "b\tc\ndqe")]);
        check("a=\\u0041\\uD83D\\uDE00", &[(1, "a", "A😀")]);
        check("a=C:\\\\data", &[(1, "a", "C:\\data")]);
    }

    #[test]
    fn bad_escapes_are_reported_with_their_line() {
        for text in ["\n a=\\u12", "\n a=\\u12g4", "\n a=\\u+123"] {
            let found = parse_properties(text.as_bytes());
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].as_ref().unwrap_err().line, 2, "{text:?}");
        }
    }

    #[test]
    fn bytes_are_read_as_java_reads_them() {
        let check = |bytes: &[u8], value: &str, utf8: Option<&str>| {
            let found = parse_properties(bytes).remove(0).unwrap();
            assert_eq!((&*found.key, &*found.value, found.utf8.as_deref()), ("dir", value, utf8));
        };
        check(b"dir=/d", "/d", None);
        check(b"dir=/d\xe4ta", "/däta", None);
        check(b"dir=/d\\u00e4ta", "/däta", None);
        check("dir=/däta".as_bytes(), "/dÃ¤ta", Some("/däta"));
        // Java's trim leaves the second half of this letter.
        check("dir= /à ".as_bytes(), "/Ã\u{a0}", Some("/à"));
        check("dir=/é\\u00e9".as_bytes(), "/Ã©é", Some("/éé"));
        // Not UTF-8 as a whole.
        check(b"dir=/\xe9\xc3\xa9", "/éÃ©", None);
        // A comment does not count.
        check("# é\ndir=/d".as_bytes(), "/d", None);
    }

    #[test]
    fn any_byte_is_accepted() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let _ = parse_properties(&all);
    }
}
