//! Documents: what a reader is told to run or to open exists, what is quoted is said elsewhere, and
//! what must be short is short. Links are in `links`.

use std::collections::BTreeSet;

use ringkeeper::config::{KEYS, Standard};

use super::source::{documents, exists, package, read};

/// Longer, and nobody reads the door.
const README_WORDS: usize = 600;

/// Longer, and nobody reads the map.
const ARCHITECTURE_LINES: usize = 300;

/// Options of programs that are not ours.
const FOREIGN_OPTIONS: &[&str] = &[
    "--all-features",
    "--all-targets",
    "--bin",
    "--bins",
    "--check",
    "--format",
    "--help",
    "--lib",
    "--locked",
    "--no-fail-fast",
    "--path",
    "--profile",
    "--release",
    "--security-opt",
    "--target-dir",
    "--test",
    "--ulimit",
    "--version",
];

/// What of a document can be looked up.
#[derive(Default)]
struct Named<'a> {
    binaries: BTreeSet<&'a str>,
    paths: BTreeSet<&'a str>,
    options: BTreeSet<&'a str>,
}

/// Reads code spans and code blocks; prose may say what it likes.
fn named(document: &str) -> Named<'_> {
    let mut named = Named::default();
    for words in commands(document) {
        let words: Vec<&str> = words.split_whitespace().map(clean).collect();
        for (index, word) in words.iter().copied().enumerate() {
            if index > 0 && words[index - 1] == "--bin" {
                named.binaries.insert(word);
            }
            if let Some(binary) =
                word.strip_prefix("target/release/").or_else(|| word.strip_prefix("target/debug/"))
            {
                named.binaries.insert(binary);
            }
            if is_option(word) {
                named.options.insert(word.split('=').next().unwrap_or(word));
            }
            if is_path(word) {
                named.paths.insert(word);
            }
        }
    }
    named.binaries.remove("");
    named
}

/// The text between backticks and the lines between fences, up to a `#` of the shell.
fn commands(document: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced {
            found.push(line.split(" #").next().unwrap_or(line));
        } else {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

fn clean(word: &str) -> &str {
    word.trim_matches(|c: char| matches!(c, ',' | ';' | '.' | '(' | ')' | '[' | ']' | '"' | '\''))
}

fn is_option(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn is_path(word: &str) -> bool {
    let tops = ["src/", "tests/", "tools/", "conf/", "bench/"];
    tops.iter().any(|top| word.starts_with(top)) && !word.contains(['*', '<', '{', '…', '$'])
}

/// What a document names and the repository does not have.
fn missing(document: &str, binaries: &BTreeSet<String>, programs: &str) -> Vec<String> {
    let named = named(document);
    let mut found = Vec::new();
    for binary in named.binaries.into_iter().filter(|binary| !binaries.contains(*binary)) {
        found.push(format!("no binary {binary}"));
    }
    for path in named.paths.into_iter().filter(|path| !exists(path)) {
        found.push(format!("no file {path}"));
    }
    for option in named.options {
        let is_ours =
            [option, &format!("\"{}\"", &option[2..])].iter().any(|form| programs.contains(*form));
        if !is_ours && !FOREIGN_OPTIONS.contains(&option) {
            found.push(format!("no program has {option}"));
        }
    }
    found
}

fn binaries() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let sections = manifest.split("[[bin]]").skip(1);
    let declared = sections.filter_map(|section| section.split('"').nth(1));
    declared.map(str::to_owned).collect()
}

/// The texts in which an option of ours would be found.
fn programs() -> String {
    let sources = package();
    let ours = sources.iter().filter(|source| !source.path.starts_with("tests/"));
    ours.map(|source| source.text.as_str()).chain([read("tools/test").as_str()]).collect()
}

#[test]
fn documents_name_what_exists() {
    let (binaries, programs) = (binaries(), programs());
    let mut found = Vec::new();
    for document in documents() {
        let lacking = missing(&read(&document), &binaries, &programs);
        found.extend(lacking.into_iter().map(|what| format!("{document}: {what}")));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn architecture_is_short() {
    let lines = read("src/ARCHITECTURE.md").lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES,
        "src/ARCHITECTURE.md has {lines} lines: drop what is stale"
    );
}

/// Figures in the tables of `document` that `source` does not have.
fn unknown_figures<'a>(document: &'a str, source: &str) -> Vec<&'a str> {
    let cells = document.lines().filter(|line| line.starts_with("| ")).flat_map(|line| {
        // The first column says what is measured, the last `|` ends the row.
        line.trim_matches('|').split('|').skip(1)
    });
    let figures = cells.map(|cell| {
        cell.trim_matches(|c: char| !c.is_ascii_digit()) // without a unit
    });
    figures.filter(|figure| !figure.is_empty() && !source.contains(*figure)).collect()
}

/// The parts of the server's log lines in a document that no source has: pieces of some length
/// without the digits, which differ from run to run.
fn unsaid<'a>(document: &'a str, sources: &str) -> Vec<&'a str> {
    let lines = document.lines().filter_map(|line| Some(line.split_once(" INFO ] ")?.1));
    let pieces = lines.flat_map(|line| {
        line.split(|c: char| c.is_ascii_digit()).filter(|piece| piece.len() >= LEAST_PIECE)
    });
    pieces.filter(|piece| !sources.contains(*piece)).collect()
}

/// Shorter pieces of a log line are found anywhere.
const LEAST_PIECE: usize = 10;

#[test]
fn readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(
        words <= README_WORDS,
        "README.md has {words} words, at most {README_WORDS}: move what is not for a first look"
    );
}

#[test]
fn figures_of_the_readme_are_those_of_the_last_run() {
    let unknown = read("README.md");
    let unknown = unknown_figures(&unknown, &read("bench/README.md"));
    assert!(unknown.is_empty(), "README.md has figures that bench/README.md lacks: {unknown:?}");
}

#[test]
fn log_lines_in_documents_are_what_the_server_says() {
    let sources: String = package().into_iter().map(|source| source.text).collect();
    for document in documents() {
        let text = read(&document);
        let unsaid = unsaid(&text, &sources);
        assert!(unsaid.is_empty(), "{document}: the server does not say {unsaid:?}");
    }
}

/// Tests and planted mistakes in the tables of `document` that no source has. The name of a test is
/// a sentence, and a mistake's stands in the second column or later: `Name` or `Server(Name)`.
fn unproven<'a>(document: &'a str, sources: &str) -> Vec<&'a str> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let spans = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let is_there = |span: &str| {
        let name = span.rsplit("::").next().unwrap_or(span);
        let name = name.strip_prefix("Server(").and_then(|n| n.strip_suffix(')')).unwrap_or(name);
        let is_word = name.chars().all(char::is_alphanumeric);
        if name.matches('_').count() >= 3 {
            sources.contains(&format!("fn {name}("))
        } else if is_word && !span.contains(':') && name.starts_with(char::is_uppercase) {
            sources.contains(&format!("Mutation::{name}"))
                || sources.contains(&format!("Bug::{name}"))
        } else {
            true
        }
    };
    spans.filter(|span| !is_there(span)).collect()
}

#[test]
fn what_proves_a_rule_exists() {
    let sources: String = package().into_iter().map(|source| source.text).collect();
    let document = read("tests/README.md");
    let unproven = unproven(&document, &sources);
    assert!(unproven.is_empty(), "tests/README.md: there is no {unproven:?}");
}

#[test]
fn proof_rule_notices() {
    let document = "| a | `it_is_as_it_was`, `sim::it_was_as_it_is` |\n| b | `Loses`, `Finds` |\n\
                    | `Server(Keeps)` | `World::keeps` |\nno row: `it_never_was_there`\n";
    let sources = "fn it_is_as_it_was() { Mutation::Finds }";
    assert_eq!(unproven(document, sources), ["sim::it_was_as_it_is", "Loses", "Server(Keeps)"]);
}

#[test]
fn own_keys_are_documented_with_their_defaults() {
    let document = read("conf/README.md");
    let own = KEYS.iter().filter(|key| key.name.starts_with("ringkeeper."));
    let own: Vec<_> = own.collect();
    assert!(!own.is_empty());
    for key in own {
        let begin = format!("| `{}` |", key.name);
        let row = document.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("conf/README.md has no row for {}", key.name));
        if let Standard::Value(value) = key.default {
            assert!(row.ends_with(&format!("| {value} |")), "{row}: the default is {value}");
        }
    }
}

#[test]
fn quoting_rules_notice() {
    let table = "| | A |\n| --- | --- |\n| 7 clients | 1 200 ms |\n| x | 34.5 |\n";
    assert_eq!(unknown_figures(table, "| 1 200 | 34.55 |"), [""; 0]);
    assert_eq!(unknown_figures(table, "| 1200 | 34.5 |"), ["1 200"]);
    let line = "[2026 INFO ] ended cleanly at zxid 0x6, after 3 seconds of work\n";
    assert_eq!(unsaid(line, "\"ended cleanly at zxid {zxid}\""), [" seconds of work"]);
}

#[test]
fn document_rule_notices() {
    let document = "Run `cargo run --bin nothing` with `conf/nowhere.cfg`, `src/lib.rs`.\n\
                    ```sh\ntarget/release/ringkeeper --nonsense=3 # --comment\n```\n\
                    --prose src/prose\n";
    let found = missing(document, &binaries(), &programs());
    assert_eq!(
        found,
        ["no binary nothing", "no file conf/nowhere.cfg", "no program has --nonsense"]
    );
}
