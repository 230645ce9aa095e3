//! Text to typed values, by the kind that the key table gives.
//!
//! Stands for `Integer.parseInt`, `Boolean.getBoolean` and `QuorumPeerConfig.parseBoolean`.

use super::key::{Key, Kind};

/// Number of CPUs that the kernel's `cpu_set_t` holds.
const CPU_COUNT_MAX: usize = 1024;

/// A whole number, and whether it was raised to the smallest allowed one. `None` if it is not
/// allowed.
pub(super) fn int(kind: Kind, text: &str) -> Option<(i64, bool)> {
    let Kind::Int { min, max, raise } = kind else { return None };
    // COMPAT: Java's Integer.getInteger, which reads a part of the properties, takes 0x. Leading
    // zeros stay decimal, though it reads octal there; nobody means that.
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((digits, 10), |hex| (hex, 16));
    if !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
        return None;
    }
    let value = i64::from_str_radix(digits, radix).ok()? * sign;
    if value < min && raise {
        return Some((min, true));
    }
    (min..=max).contains(&value).then_some((value, false))
}

/// `true` or `false`, in upper or lower case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A decimal number within the range of its kind.
pub(super) fn decimal(kind: Kind, text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let allowed = if kind == Kind::Share { (0.0..=1.0).contains(&value) } else { true };
    (allowed && value.is_finite()).then_some(value)
}

/// One of `words`, in the spelling of the table.
pub(super) fn choice(words: &'static [&'static str], text: &str) -> Option<&'static str> {
    words.iter().copied().find(|word| word.eq_ignore_ascii_case(text))
}

/// Milliseconds from whole hours, or from a number with its unit. Nothing negative comes out: 0 and
/// less are off.
pub(super) fn hours_or_time_ms(text: &str) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "h" => 3_600_000,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let count: i64 = digits.trim_end().parse().ok()?;
    u64::try_from(count.max(0)).ok()?.checked_mul(factor)
}

/// `auto` is `None`, `on` and `off` are themselves.
pub(super) fn auto(text: &str) -> Option<Option<bool>> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Some(None),
        "on" => Some(Some(true)),
        "off" => Some(Some(false)),
        _ => None,
    }
}

/// One CPU number.
pub(super) fn cpu(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: usize = if is_number { text.parse().ok()? } else { return None };
    (number < CPU_COUNT_MAX).then_some(number)
}

/// CPU numbers such as `0,2-3`, in the order given, none twice.
pub(super) fn cpus(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first.trim())?, cpu(last.trim())?);
        if first > last {
            return None;
        }
        for number in first..=last {
            if numbers.contains(&number) {
                return None;
            }
            numbers.push(number);
        }
    }
    Some(numbers)
}

/// Words separated by commas; blanks around them and empty words are dropped.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_string).collect()
}

/// Whether `text` is allowed for `key`. Kinds that read leniently allow everything.
pub(super) fn is_allowed(key: &Key, text: &str) -> bool {
    match key.kind {
        Kind::Bool => boolean(text).is_some(),
        Kind::JavaBool | Kind::Switch { .. } | Kind::Text | Kind::Path | Kind::List => true,
        Kind::Int { .. } => int(key.kind, text).is_some(),
        Kind::Share | Kind::Decimal => decimal(key.kind, text).is_some(),
        Kind::Choice(words) => choice(words, text).is_some(),
        Kind::HoursOrTime => hours_or_time_ms(text).is_some(),
        Kind::Auto => auto(text).is_some(),
        Kind::Cpus => cpus(text).is_some(),
        Kind::Cpu => cpu(text).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{NATURAL, at_least, within};
    use super::*;

    #[test]
    fn whole_numbers() {
        let check = |kind, text, expected| assert_eq!(int(kind, text), expected, "{text}");
        check(NATURAL, "17", Some((17, false)));
        check(NATURAL, "+17", Some((17, false)));
        check(NATURAL, "010", Some((10, false)));
        check(NATURAL, "0x10", Some((16, false)));
        check(NATURAL, "2147483647", Some((2_147_483_647, false)));
        for bad in ["2147483648", "-1", "", "+", "-", "--1", "1k", "1 ", "0x", "١", "1_0", "1.0"] {
            check(NATURAL, bad, None);
        }
        check(NATURAL, "99999999999999999999999", None);
        check(within(-5, 5), "-0x5", Some((-5, false)));
        check(at_least(3), "1", Some((3, true)));
        check(at_least(3), "x", None);
    }

    #[test]
    fn times() {
        let check = |text, expected| assert_eq!(hours_or_time_ms(text), expected, "{text}");
        check("24", Some(86_400_000));
        check("0", Some(0));
        check("-1", Some(0));
        check("24h", Some(86_400_000));
        check("1 D", Some(86_400_000));
        check("90m", Some(5_400_000));
        check("5s", Some(5_000));
        check("7ms", Some(7));
        for bad in ["", "h", "1w", "1.5h", "9223372036854775807d"] {
            check(bad, None);
        }
    }

    #[test]
    fn cpu_lists() {
        let check = |text, expected: Option<&[usize]>| {
            assert_eq!(cpus(text), expected.map(<[usize]>::to_vec), "{text}");
        };
        check("0", Some(&[0]));
        check("0,2-3", Some(&[0, 2, 3]));
        check(" 3 , 1 - 2 ", Some(&[3, 1, 2]));
        check("1023", Some(&[1023]));
        for bad in
            ["", ",", "0,", "a", "-1", "1-", "3-2", "0,0", "0-3,2", "1024", "0-99999999", "+1"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn words_and_shares() {
        assert_eq!(list(" a, b ,,c"), ["a", "b", "c"]);
        assert_eq!(choice(&["", "gz"], "GZ"), Some("gz"));
        assert_eq!(choice(&["", "gz"], "lz4"), None);
        assert_eq!(auto("ON"), Some(Some(true)));
        assert_eq!(auto("yes"), None);
        assert_eq!(decimal(Kind::Share, "0.5"), Some(0.5));
        assert_eq!(decimal(Kind::Share, "1.5"), None);
        assert_eq!(decimal(Kind::Decimal, "-1.5"), Some(-1.5));
        assert_eq!(decimal(Kind::Decimal, "NaN"), None);
    }
}
