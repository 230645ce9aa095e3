//! What the code does not say, and what to say instead. Clippy bans `dbg!`, `todo!` and the like
//! too; here they are banned where clippy does not look, and in one place with their reasons.

use super::source::{Problem, Source, Token, closing, find, package, paths, report};

const COLUMNS: usize = 100;

/// Tokens, and what to write instead. Everywhere.
const BANS: &[(&[&str], &str)] = &[
    (&["dbg", "!"], "remove it, or `log::debug!` what an operator may want"),
    (&["todo", "!"], "write it, or return an error that says what is missing"),
    (&["unimplemented", "!"], "write it, or return an error that says what is missing"),
    (&["#", "[", "ignore"], "make the test fast and certain, or remove it"),
    (&["#", "[", "should_panic"], "return an error and check it, or catch that one panic"),
];

/// Words of comments.
const MARKS: &[(&str, &str)] = &[
    ("FIXME", "mend it, or write `TODO(#issue):` and why it may wait"),
    ("XXX", "say what is wrong in a sentence"),
    ("HACK", "say why it must be so in a sentence"),
];

/// Files that may wait on the wall clock, and why.
const SLEEPERS: &[(&str, &str)] =
    &[("tests/util/mod.rs", "the one loop that polls a real process until a condition holds")];

fn banned(source: &Source) -> Vec<Problem> {
    let tokens = source.tokens();
    let mut found = Vec::new();
    for (sequence, instead) in BANS {
        found.extend(find(&tokens, sequence).into_iter().map(|at| {
            source.problem(tokens[at].line, format!("{}: {instead}", sequence.concat()))
        }));
    }
    for (index, comment) in source.comments.lines().enumerate() {
        for (mark, instead) in MARKS.iter().filter(|(mark, _)| comment.contains(mark)) {
            found.push(source.problem(index + 1, format!("{mark}: {instead}")));
        }
        if has_loose_todo(comment) {
            found.push(source.problem(index + 1, "a task without an owner: `TODO(#issue):`"));
        }
    }
    found.extend(
        unused_matches(&tokens)
            .into_iter()
            .map(|line| source.problem(line, "matches!(…); has no effect: `assert!(matches!(…))`")),
    );
    found
}

fn has_loose_todo(comment: &str) -> bool {
    comment.match_indices("TODO").any(|(at, mark)| !comment[at + mark.len()..].starts_with("(#"))
}

/// Lines of `matches!(…);` as a statement.
fn unused_matches(tokens: &[Token<'_>]) -> Vec<usize> {
    let starts = find(tokens, &["matches", "!", "("]).into_iter();
    starts
        .filter(|&at| {
            let before = at.checked_sub(1).map_or(";", |before| tokens[before].text);
            let after = tokens.get(closing(tokens, at + 2) + 1).map_or("", |token| token.text);
            matches!(before, ";" | "{" | "}") && after == ";"
        })
        .map(|at| tokens[at].line)
        .collect()
}

fn unwraps(source: &Source) -> Vec<Problem> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let tokens = source.shipped_tokens();
    let starts = find(&tokens, &[".", "unwrap", "(", ")"]).into_iter();
    starts
        .map(|at| {
            source.problem(
                tokens[at].line,
                ".unwrap(): return the error; where it cannot be, `.expect(\"why it cannot\")`",
            )
        })
        .collect()
}

fn sleeps(source: &Source) -> Vec<Problem> {
    let is_bound = source.path.starts_with("src/") || source.path.starts_with("tests/");
    if !is_bound || SLEEPERS.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let found = paths(&tokens).into_iter();
    found
        .filter(|path| path.segments.windows(2).any(|pair| pair == ["thread", "sleep"]))
        .map(|path| {
            source.problem(
                path.line,
                "thread::sleep: in src arm a timer of the loop; in tests `util::eventually`",
            )
        })
        .collect()
}

fn shape(source: &Source) -> Vec<Problem> {
    let mut found = Vec::new();
    if !source.text.starts_with("//! ") {
        found.push(source.problem(1, "no `//!` header: what the file is for, and its invariants"));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS {
            found.push(source.problem(index + 1, format!("{columns} columns: at most {COLUMNS}")));
        }
    }
    found
}

/// What fields and variables that hold a zxid are called.
const ZXID_NAMES: &[&str] =
    &["zxid", "applied", "committed", "logged", "durable", "prepared", "snapshot", "first", "last"];

/// Lines that count with the number of a zxid, which has an epoch in its upper half.
fn zxid_arithmetic(source: &Source) -> Vec<Problem> {
    if !source.path.starts_with("src/") || source.path == "src/base/ids.rs" {
        return Vec::new();
    }
    let tokens = source.shipped_tokens();
    let counts = |window: &&[Token<'_>]| {
        let name = window[0].text;
        let is_zxid = ZXID_NAMES.iter().any(|known| name == *known || name.ends_with("_zxid"));
        let is_number = window[1].text == "." && window[2].text == "0";
        is_zxid && is_number && matches!(window[3].text, "+" | "-")
    };
    let instead = "`Zxid::next`: a zxid is no number to count with";
    let found = tokens.windows(4).filter(counts);
    found.map(|window| source.problem(window[0].line, instead)).collect()
}

#[test]
fn zxid_rule_notices() {
    let lines = |path: &str, text: &str| zxid_arithmetic(&Source::new(path, text)).len();
    for text in ["fn f() { g(a.applied.0 + 1); }", "fn f() { Zxid(last_zxid.0 - 1) }"] {
        assert_eq!(lines("src/log/x.rs", text), 1, "{text}");
        assert_eq!(lines("src/base/ids.rs", text), 0, "{text}");
    }
    assert_eq!(lines("src/log/x.rs", "fn f() { g(zxid.0, pair.0 + 1); }"), 0);
}

#[test]
fn nothing_banned() {
    let sources = package();
    let rules = [banned, unwraps, sleeps, shape, zxid_arithmetic];
    report(rules.iter().flat_map(|rule| sources.iter().flat_map(rule)).collect());
}

#[test]
fn bans_notice() {
    let bad = [
        "fn f() { dbg!(x); }",
        "fn f() { todo!() }",
        "fn f() { unimplemented!() }",
        "#[test]#[ignore = \"slow\"] fn f() {}",
        "#[test]#[should_panic] fn f() {}",
        "// FIXME: later",
        "/* XXX */",
        "let a = 1; // TODO: b",
        "fn f() { matches!(x, Some(_)); }",
    ];
    for text in bad {
        assert_eq!(banned(&Source::new("tools/x.rs", text)).len(), 1, "{text}");
    }
    let good = "//! The word \"dbg!\".\nf(\"todo!()\");\n// TODO(#12): soon\n\
                assert!(matches!(x, Some(_)));\nlet y = matches!(x, None);";
    assert!(banned(&Source::new("tools/x.rs", good)).is_empty());
}

#[test]
fn bans_of_calls_notice() {
    let unwrapping =
        "fn f() { g()\n.unwrap(); }\n#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }";
    let found = unwraps(&Source::new("src/a/b.rs", unwrapping));
    assert_eq!(found.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2]);
    assert!(unwraps(&Source::new("tests/b.rs", unwrapping)).is_empty());

    for text in ["fn f() { std::thread::sleep(x); }", "use std::thread::{self, sleep};"] {
        assert_eq!(sleeps(&Source::new("src/a/b.rs", text)).len(), 1);
        assert_eq!(sleeps(&Source::new("tests/b.rs", text)).len(), 1);
        assert!(sleeps(&Source::new("tests/util/mod.rs", text)).is_empty());
    }
}

#[test]
fn shape_rule_notices() {
    let count = |text: &str| shape(&Source::new("src/a/b.rs", text)).len();
    assert_eq!(count("//! A.\n"), 0);
    assert_eq!(count("use a;\n"), 1);
    assert_eq!(count(&format!("//! {}\n", "é".repeat(COLUMNS - 4))), 0);
    assert_eq!(count(&format!("//! {}\n", "é".repeat(COLUMNS - 3))), 1);
}
