//! Figures by the first name of a path (`SummarySet`).

use crate::base::FixedMap;

use super::Summary;

/// Names that are told apart. Apache keeps any number for ever; here those that come later are not
/// counted, so that clients that make ever new names at the top cannot fill the memory.
const NAMES_MAX: usize = 1000;

/// Longer names are not counted, for the same reason.
const NAME_BYTES_MAX: usize = 256;

/// One summary per first name, in the order in which they first came.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    summaries: Vec<(Box<str>, Summary)>,
    index: FixedMap<Box<str>, usize>,
    /// The one recorded last: the next is likely to be the same.
    last: usize,
}

impl Namespaces {
    /// Takes in a value for the first name of `path`; the root has none and is not counted.
    #[inline]
    pub fn record(&mut self, path: &[u8], value: u64) {
        let Some(rest) = path.strip_prefix(b"/") else { return };
        if let Some((known, summary)) = self.summaries.get_mut(self.last)
            && let Some(rest) = rest.strip_prefix(known.as_bytes())
            && matches!(rest.first(), None | Some(b'/'))
        {
            return summary.record(value);
        }
        self.record_other(rest, value);
    }

    fn record_other(&mut self, rest: &[u8], value: u64) {
        let name = rest.split(|&b| b == b'/').next().and_then(|name| str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len())) else {
            return;
        };
        let at = match self.index.get(name) {
            Some(&at) => at,
            None if self.summaries.len() == NAMES_MAX => return,
            None => {
                self.summaries.push((name.into(), Summary::default()));
                self.index.insert(name.into(), self.summaries.len() - 1);
                self.summaries.len() - 1
            }
        };
        self.last = at;
        if let Some((_, summary)) = self.summaries.get_mut(at) {
            summary.record(value);
        }
    }

    /// Every name with its summary.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Summary)> {
        self.summaries.iter().map(|(name, summary)| (&**name, summary))
    }

    /// Forgets the values; the names stay, as in Apache.
    pub fn reset(&mut self) {
        for (_, summary) in &mut self.summaries {
            *summary = Summary::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_first_name() {
        let mut all = Namespaces::default();
        for (path, value) in
            [("/a", 1), ("/b/c", 2), ("/a/b/c", 3), ("/", 4), ("", 5), ("/b", 6), ("/ab", 7)]
        {
            all.record(path.as_bytes(), value);
        }
        let seen = |all: &Namespaces| -> Vec<(String, u64, u64)> {
            all.iter().map(|(name, s)| (name.to_owned(), s.count, s.sum)).collect()
        };
        let named = |name: &str, count, sum| (name.to_owned(), count, sum);
        assert_eq!(seen(&all), [named("a", 2, 4), named("b", 2, 8), named("ab", 1, 7)]);
        all.reset();
        all.record(b"/b", 9);
        assert_eq!(seen(&all), [named("a", 0, 0), named("b", 1, 9), named("ab", 0, 0)]);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut all = Namespaces::default();
        for round in 0..2 {
            for n in 0..2 * NAMES_MAX {
                all.record(format!("/{n}").as_bytes(), 1);
            }
            assert_eq!(all.iter().count(), NAMES_MAX);
            assert!(all.iter().all(|(_, summary)| summary.count == round + 1));
        }
        let mut all = Namespaces::default();
        all.record(format!("/{}", "x".repeat(NAME_BYTES_MAX + 1)).as_bytes(), 1);
        assert_eq!(all.iter().count(), 0);
    }
}
