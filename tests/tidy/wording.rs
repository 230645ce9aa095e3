//! Phrases of comments that make a reader look back for a noun.

use super::source::{Problem, Source, package, report};

/// A phrase in small letters, and what to write instead.
const VAGUE: &[(&str, &str)] = &[
    ("that of", "name the thing again"),
    ("those of", "name the things again"),
    ("whoever", "say who: the client, the operator, the process"),
    ("so many", "give the number, or say what is counted"),
];

/// Whether `phrase` stands in `line`, not as a part of other words.
fn holds(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let is_end = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric());
        is_end(line[..at].chars().next_back()) && is_end(line[at + phrase.len()..].chars().next())
    })
}

fn vague(source: &Source) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, line) in source.comments.to_lowercase().lines().enumerate() {
        for (phrase, instead) in VAGUE.iter().filter(|(phrase, _)| holds(line, phrase)) {
            found.push(source.problem(index + 1, format!("`{phrase}` in a comment: {instead}")));
        }
    }
    found
}

#[test]
fn comments_name_what_they_speak_of() {
    report(package().iter().flat_map(vague).collect());
}

#[test]
fn wording_rule_notices() {
    let count = |text: &str| vague(&Source::new("src/a/b.rs", text)).len();
    assert_eq!(count("/// Whoever asks.\nfn f() {} // so many; that of a path\n"), 3);
    assert_eq!(count("/// That often, that offer.\nf(\"those of\");\n"), 0);
}
