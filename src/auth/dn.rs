//! Whether a text is an X.500 distinguished name, as Java's `X500Principal(String)` decides.
//!
//! Only validity: matching is by equal text, so nothing is normalized here.

/// Attribute keywords that the JDK knows, in upper case.
const KEYWORDS: [&str; 20] = [
    "CN",
    "C",
    "L",
    "S",
    "ST",
    "O",
    "OU",
    "T",
    "IP",
    "STREET",
    "DC",
    "DNQUALIFIER",
    "DNQ",
    "SURNAME",
    "GIVENNAME",
    "INITIALS",
    "GENERATION",
    "EMAIL",
    "EMAILADDRESS",
    "UID",
];

/// Whether `text` may stand as an `x509` id in an ACL. The empty name is valid.
pub(super) fn is_valid(text: &str) -> bool {
    let mut rest = text.trim();
    if rest.is_empty() {
        return true;
    }
    loop {
        let Some((keyword, value)) = rest.split_once('=') else { return false };
        if !is_attribute(keyword.trim()) {
            return false;
        }
        match skip_value(value) {
            None => return false,
            Some("") => return true,
            // The separator is one ASCII byte.
            Some(tail) => rest = &tail[1..],
        }
    }
}

fn is_attribute(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    if upper == "SERIALNUMBER" || KEYWORDS.contains(&upper.as_str()) {
        return true;
    }
    let oid = upper.strip_prefix("OID.").unwrap_or(&upper);
    let arcs: Option<Vec<u32>> = oid
        .split('.')
        .map(|arc| if arc.starts_with('+') { None } else { arc.parse().ok() })
        .collect();
    match arcs.as_deref() {
        Some([2, _, ..]) => true,
        Some([0 | 1, second, ..]) => *second < 40,
        Some(_) | None => false,
    }
}

/// What follows one attribute value: empty, or text that starts with its separator.
fn skip_value(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\n']);
    if let Some(quoted) = text.strip_prefix('"') {
        let rest = skip_quoted(quoted)?.trim_start_matches([' ', '\n']);
        return (rest.is_empty() || rest.starts_with([',', ';', '+'])).then_some(rest);
    }
    if let Some(hex) = text.strip_prefix('#') {
        let end = hex.find([',', ';', '+']).unwrap_or(hex.len());
        return is_der(hex[..end].trim()).then(|| &hex[end..]);
    }
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | ';' | '+' => return Some(&text[at..]),
            '<' | '>' | '"' => return None,
            '\\' => skip_escape(&mut chars)?,
            _ => {}
        }
    }
    Some("")
}

fn skip_quoted(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some(&text[at + 1..]),
            '\\' => skip_escape(&mut chars)?,
            _ => {}
        }
    }
    None
}

fn skip_escape(chars: &mut std::str::CharIndices<'_>) -> Option<()> {
    let (_, c) = chars.next()?;
    if c.is_ascii_hexdigit() {
        return chars.next()?.1.is_ascii_hexdigit().then_some(());
    }
    ",+<>#;\"\\= ".contains(c).then_some(())
}

/// One DER value in hexadecimal whose length field fits.
fn is_der(hex: &str) -> bool {
    let digits = hex.as_bytes();
    if digits.len() < 4
        || !digits.len().is_multiple_of(2)
        || !digits.iter().all(u8::is_ascii_hexdigit)
    {
        return false;
    }
    let byte = |i: usize| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok();
    let total = digits.len() / 2;
    match byte(1) {
        Some(length @ 0..=0x7f) => total == 2 + usize::from(length),
        Some(0x81) => byte(2).is_some_and(|length| total == 3 + usize::from(length)),
        Some(_) | None => false,
    }
}
