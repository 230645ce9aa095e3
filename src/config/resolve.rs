//! From all entries to the one that counts for each key.
//!
//! Order of precedence, as in `QuorumPeerConfig.parseProperties`: an entry of zoo.cfg that is not
//! read directly becomes the property `zookeeper.<key>` and so overrides `-Dzookeeper.<key>`; a
//! property without prefix comes last where both exist; among equals the last one counts.
//! Keys that nothing reads are reported here, with the name that was probably meant.

use std::collections::BTreeMap;

use super::key::{Key, Place, Status};
use super::keys::{KEYS, find};
use super::problem::{Origin, Problem, Severity, Topic};
use super::raw::{RawConfig, RawEntry};
use super::readings::escaped;

/// The entry that counts for one key.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) key: &'static Key,
    pub(super) entry: RawEntry,
    rank: Rank,
}

/// Later ones win.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    Bare,
    Prefixed,
    File,
}

/// What counts, by name without prefix, and what was found on the way.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) found: BTreeMap<String, Found>,
    pub(super) problems: Vec<Problem>,
}

/// Applies the order of precedence.
pub(super) fn resolve(raw: &RawConfig) -> Resolved {
    let mut resolved = Resolved { found: BTreeMap::new(), problems: raw.problems.clone() };
    for entry in &raw.properties {
        resolved.add_property(entry);
    }
    for entry in &raw.file {
        resolved.add_file_entry(entry);
        resolved.warn_of_encoding(entry);
    }
    for entry in raw.dynamic.iter().flatten() {
        resolved.add_member_entry(entry);
    }
    resolved
}

/// A problem with one entry.
pub(super) fn problem(
    severity: Severity,
    topic: Topic,
    entry: &RawEntry,
    what: String,
    hint: String,
) -> Problem {
    let name = entry.key.strip_prefix("zookeeper.").unwrap_or(&entry.key);
    let meant = find(name).or_else(|| nearest(name));
    // A misspelled password is a password all the same.
    let lower = name.to_ascii_lowercase();
    let is_secret = meant.is_some_and(|key| key.is_secret)
        || lower.contains("password")
        || lower.contains("superdigest");
    let value = if is_secret { "***".to_string() } else { entry.value.clone() };
    Problem {
        severity,
        topic,
        origin: entry.origin.clone(),
        key: entry.key.clone(),
        value,
        what,
        hint,
    }
}

impl Resolved {
    fn add_file_entry(&mut self, entry: &RawEntry) {
        // Our own keys may carry the prefix everywhere.
        let own = entry.key.strip_prefix("zookeeper.").filter(|name| is_own(name));
        let name = own.unwrap_or(&entry.key);
        match find(name) {
            Some(key) if key.place == Place::Bare => self.warn_unread(
                entry,
                "ZooKeeper reads this only as a Java property, so it has no effect in a file"
                    .to_string(),
                format!(
                    "put -D{name}={} on the command line or into SERVER_JVMFLAGS",
                    shown(key, &entry.value)
                ),
            ),
            Some(key) => self.insert(name, key, entry, Rank::File),
            None => self.add_unknown(entry, name),
        }
    }

    fn warn_of_encoding(&mut self, entry: &RawEntry) {
        let Some(utf8) = &entry.utf8 else { return };
        let what = "read as ISO-8859-1, as ZooKeeper reads it, but these bytes are also UTF-8";
        let shown =
            problem(Severity::Warning, Topic::Value, entry, what.to_string(), String::new());
        // What is secret is not shown.
        let is_shown = shown.value == entry.value;
        let written = if is_shown { escaped(utf8) } else { "\\u and its number".to_string() };
        let hint = format!("if that is meant, write {written}");
        self.problems.push(Problem { hint, ..shown });
    }

    fn add_member_entry(&mut self, entry: &RawEntry) {
        match find(&entry.key).filter(|key| key.place == Place::Membership) {
            Some(key) if key.name != "version" => {
                self.insert(&entry.key, key, entry, Rank::File);
            }
            Some(_) | None => self.problems.push(problem(
                Severity::Error,
                Topic::Value,
                entry,
                "a dynamic configuration file holds only server.N, group.N and weight.N"
                    .to_string(),
                "move this line to the static file or remove it".to_string(),
            )),
        }
    }

    fn add_property(&mut self, entry: &RawEntry) {
        let prefixed = entry.key.strip_prefix("zookeeper.");
        let name = prefixed.unwrap_or(&entry.key);
        let Some(key) = find(name) else {
            if prefixed.is_none() && nearest(name).is_none() {
                let what = "a property of Java or its libraries; nothing reads it here";
                let what = what.to_string();
                self.problems.push(problem(
                    Severity::Note,
                    Topic::Ignored,
                    entry,
                    what,
                    String::new(),
                ));
            } else {
                self.add_unknown(entry, name);
            }
            return;
        };
        match (key.place, prefixed.is_some()) {
            (Place::Property | Place::PropertyOrBare | Place::Own, true) => {
                self.insert(name, key, entry, Rank::Prefixed);
            }
            (Place::Bare | Place::PropertyOrBare | Place::Own, false) => {
                self.insert(name, key, entry, Rank::Bare);
            }
            (Place::File | Place::Membership, _) => self.warn_unread(
                entry,
                "ZooKeeper reads this only from zoo.cfg, so it has no effect as a property"
                    .to_string(),
                format!("write {name}={} into zoo.cfg", shown(key, &entry.value)),
            ),
            (Place::Property, false) if matches!(key.status, Status::Ignored(_)) => {}
            (Place::Property, false) => self.warn_unread(
                entry,
                "ZooKeeper reads this property only with the prefix `zookeeper.`".to_string(),
                format!("write -Dzookeeper.{name}={}", shown(key, &entry.value)),
            ),
            (Place::Bare, true) => self.warn_unread(
                entry,
                "ZooKeeper reads this property only without the prefix `zookeeper.`".to_string(),
                format!("write -D{name}={}", shown(key, &entry.value)),
            ),
        }
    }

    fn insert(&mut self, name: &str, key: &'static Key, entry: &RawEntry, rank: Rank) {
        if let Some(before) = self.found.get(name) {
            // A file overrides properties in either order.
            let loser = if before.rank > rank { entry } else { &before.entry };
            let winner = if before.rank > rank { &before.entry } else { entry };
            // The same property with the same value in two variables is harmless; the same key
            // twice in a file is a slip that the next edit turns into a mistake.
            let is_twice_in_file = before.rank == Rank::File && rank == Rank::File;
            if is_twice_in_file || before.entry.value != entry.value {
                let what = format!("overridden by {} at {}", winner.key, winner.origin);
                let hint = "remove one of the two".to_string();
                let warning = problem(Severity::Warning, Topic::Value, loser, what, hint);
                self.problems.push(warning);
            }
            if before.rank > rank {
                return;
            }
        }
        self.found.insert(name.to_string(), Found { key, entry: entry.clone(), rank });
    }

    fn warn_unread(&mut self, entry: &RawEntry, what: String, hint: String) {
        self.problems.push(problem(Severity::Warning, Topic::Unknown, entry, what, hint));
    }

    fn add_unknown(&mut self, entry: &RawEntry, name: &str) {
        let in_file = matches!(entry.origin, Origin::File { .. });
        let stripped = name.strip_prefix("zookeeper.").unwrap_or(name);
        let hint = match nearest(stripped) {
            Some(key) if is_misnomer(key, stripped) => format!(
                "documentation calls it so, but the name that is read is {}",
                right_name(key, in_file)
            ),
            Some(key) => format!("did you mean {}?", right_name(key, in_file)),
            None => "check its spelling or remove it".to_string(),
        };
        let what = if in_file {
            format!(
                "unknown key; ZooKeeper makes it the Java property zookeeper.{name}, which \
                     nothing reads"
            )
        } else {
            "unknown property; nothing reads it".to_string()
        };
        self.warn_unread(entry, what, hint);
    }
}

fn is_own(name: &str) -> bool {
    find(name).is_some_and(|key| key.place == Place::Own)
}

fn is_misnomer(key: &Key, name: &str) -> bool {
    key.misnomers.iter().any(|misnomer| misnomer.eq_ignore_ascii_case(name))
}

fn shown<'a>(key: &Key, value: &'a str) -> &'a str {
    if key.is_secret { "***" } else { value }
}

/// How to write `key` in a file, or as a property.
fn right_name(key: &Key, in_file: bool) -> String {
    let spellings = key.spellings();
    let is_option = |name: &&String| name.starts_with("-D");
    let fitting = if in_file {
        spellings.iter().find(|name| !is_option(name))
    } else {
        spellings.iter().find(is_option)
    };
    fitting.or(spellings.first()).map_or_else(|| key.name.to_string(), String::clone)
}

/// The key that was probably meant: a known misnomer, the same name in another case, or one that
/// differs by at most two letters.
fn nearest(name: &str) -> Option<&'static Key> {
    if let Some(key) = KEYS.iter().find(|key| is_misnomer(key, name)) {
        return Some(key);
    }
    // The exact key, for a name that only carries the wrong prefix; else nearly the same.
    if let Some(key) = KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name)) {
        return Some(key);
    }
    // Short names are near to too many others; long ones cost too much to compare.
    if !(5..=100).contains(&name.len()) {
        return None;
    }
    let near = KEYS.iter().map(|key| (distance(key.name, name), key));
    near.filter(|(distance, _)| *distance <= 2).min_by_key(|(distance, _)| *distance).map(|n| n.1)
}

/// The word that was probably meant: it differs by at most two letters.
pub fn nearest_word<'a>(words: &[&'a str], text: &str) -> Option<&'a str> {
    let near = words.iter().map(|word| (distance(word, text), *word));
    near.filter(|(distance, _)| *distance <= 2).min_by_key(|(distance, _)| *distance).map(|n| n.1)
}

/// Number of letters to insert, delete or replace to get from one to the other, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((y, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(i + 1);
            let replaced = diagonal + usize::from(x != *y);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("dataDir", "datadir"), 0);
        assert_eq!(distance("tickTime", "tickTimes"), 1);
        assert_eq!(distance("tickTime", "tcikTime"), 2);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn nearest_key() {
        let name = |text| nearest(text).map(|key| key.name);
        assert_eq!(name("connectionMaxTokens"), Some("connection_throttle_tokens"));
        assert_eq!(name("ticktime"), Some("tickTime"));
        assert_eq!(name("clientPrt"), Some("clientPort"));
        assert_eq!(name("somethingElse"), None);
        assert_eq!(name("abc"), None);
    }

    #[test]
    fn nearest_of_some_words() {
        let words = ["server", "check", "version", "help"];
        assert_eq!(nearest_word(&words, "servr"), Some("server"));
        assert_eq!(nearest_word(&words, "serve"), Some("server"));
        assert_eq!(nearest_word(&words, "Chek"), Some("check"));
        assert_eq!(nearest_word(&words, "zoo.cfg"), None);
    }
}
