//! Which directory a line of zoo.cfg means, if its letters can be read in several ways.
//!
//! ZooKeeper reads the file as ISO-8859-1, where an editor of today writes UTF-8: of `dataDir=/é`
//! it makes the directory `/Ã©`. Java then names the directory in the encoding of its locale, and
//! where that is POSIX, every letter beyond ASCII becomes a question mark. So a line has up to
//! three readings, and the wrong one would be an empty directory beside the data.
//!
//! The rule: if exactly one of the directories exists, it is meant. Otherwise a line that both
//! encodings read alike, because it is in ASCII with `\u` escapes or is no UTF-8, means what it
//! says, and any other line is refused. An example: with `dataDir=/é` in UTF-8 the server starts on
//! `/Ã©` if only that exists, on `/é` if only that exists, and not at all if both or none do.

use super::problem::{Problem, Severity, Topic};
use super::raw::RawEntry;
use super::resolve::problem;

/// Gives `entry`, which names a path, the value that is meant. `exists` says whether there is such
/// a file or directory.
pub(super) fn choose(entry: &mut RawEntry, exists: impl Fn(&str) -> bool) -> Option<Problem> {
    let as_java = entry.value.clone();
    if as_java.is_ascii() {
        return None;
    }
    let as_utf8 = entry.utf8.take();
    let as_posix: String = as_java.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    let all = [Some(as_java.clone()), as_utf8.clone(), Some(as_posix.clone())];
    let found: Vec<String> = all.into_iter().flatten().filter(|path| exists(path)).collect();
    let chosen = match (found.as_slice(), &as_utf8) {
        ([only], _) => only.clone(),
        // The escapes, or the encoding of the file, leave no doubt.
        (_, None) => as_java.clone(),
        (_, Some(as_utf8)) => return Some(refusal(entry, &found, as_utf8)),
    };
    if chosen == as_java {
        return None;
    }
    let why = if chosen == as_posix {
        "as Java does where the locale is POSIX"
    } else {
        "because the line is read as UTF-8"
    };
    let what = format!(
        "means {chosen}, {why}: that exists, and {as_java}, which ZooKeeper reads in the line \
         where the locale is UTF-8, does not"
    );
    let hint = format!("write {}={} to be sure", entry.key, escaped(&chosen));
    entry.value = chosen;
    Some(problem(Severity::Warning, Topic::Value, entry, what, hint))
}

fn refusal(entry: &RawEntry, found: &[String], as_utf8: &str) -> Problem {
    let as_java = &entry.value;
    let existing = match found {
        [] => "neither of which exists".to_string(),
        found => format!("of which exist: {}", found.join(" and ")),
    };
    let what = format!(
        "can mean {as_java}, as ZooKeeper reads the line (ISO-8859-1), or {as_utf8}, as UTF-8, \
         {existing}; the wrong one would be a start without the data"
    );
    let key = &entry.key;
    let hint = format!(
        "write {key}={} for the first, or {key}={} for the second",
        escaped(as_java),
        escaped(as_utf8)
    );
    problem(Severity::Error, Topic::Value, entry, what, hint)
}

/// `text` as it may stand in a file of either encoding.
pub fn escaped(text: &str) -> String {
    let mut units = [0u16; 2];
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii_graphic() || c == ' ' {
            // Only the backslash means something within a value.
            escaped.extend((c == '\\').then_some('\\'));
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::problem::Origin;
    use super::*;

    /// Checks which value is chosen, and how the message about it begins.
    #[track_caller]
    fn check(value: &str, utf8: Option<&str>, existing: &[&str], chosen: &str, said: &str) {
        let mut entry = RawEntry {
            key: "dataDir".to_string(),
            value: value.to_string(),
            utf8: utf8.map(str::to_string),
            origin: Origin::CommandLine,
        };
        let problem = choose(&mut entry, |path| existing.contains(&path));
        let text = problem.map_or(String::new(), |problem| problem.to_string());
        assert_eq!(entry.value, chosen, "{text}");
        assert!(text.contains(said) && text.is_empty() == said.is_empty(), "{text}");
    }

    #[test]
    fn the_only_directory_that_exists_is_meant() {
        let utf8 = Some("/é");
        check("/Ã©", utf8, &["/Ã©"], "/Ã©", "");
        check("/Ã©", utf8, &["/é"], "/é", "warning: dataDir=/é: means /é, because the line");
        check("/Ã©", utf8, &["/é"], "/é", "write dataDir=/\\u00e9 to be sure");
        check("/Ã©", utf8, &["/??"], "/??", "means /??, as Java does where the locale is POSIX");
        check("/é", None, &["/é"], "/é", "");
        check("/é", None, &["/?"], "/?", "means /?, as Java does");
        check("/e", None, &["/e"], "/e", "");
    }

    #[test]
    fn what_stays_in_doubt_is_refused_with_all_names() {
        let utf8 = Some("/é");
        let names =
            "error: dataDir=/Ã©: can mean /Ã©, as ZooKeeper reads the line (ISO-8859-1), or /é";
        check("/Ã©", utf8, &[], "/Ã©", names);
        check("/Ã©", utf8, &[], "/Ã©", "neither of which exists");
        check("/Ã©", utf8, &["/Ã©", "/é"], "/Ã©", names);
        check("/Ã©", utf8, &["/é", "/??"], "/Ã©", "of which exist: /é and /??");
        let hint = "dataDir=/\\u00c3\\u00a9 for the first, or dataDir=/\\u00e9 for the second";
        check("/Ã©", utf8, &[], "/Ã©", hint);
    }

    #[test]
    fn a_line_that_is_no_utf8_or_has_escapes_is_never_in_doubt() {
        check("/é", None, &[], "/é", "");
        check("/é", None, &["/é", "/?"], "/é", "");
    }

    #[test]
    fn an_escaped_path_is_ascii() {
        assert_eq!(escaped("/a b\\é😀\t"), "/a b\\\\\\u00e9\\ud83d\\ude00\\u0009");
    }
}
