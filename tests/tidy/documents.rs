//! Documents: what a reader is told to run or to open exists.

use std::collections::BTreeSet;

use super::source::{exists, package, read};

/// Documents whose commands and paths are checked.
const DOCUMENTS: &[&str] = &["README.md", "bench/README.md", "src/ARCHITECTURE.md"];

/// Binaries that documents name before they are there. Take one off as it arrives.
const PLANNED: &[&str] = &["rk-sim"];

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
    "--target-dir",
    "--test",
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
    declared.chain(PLANNED.iter().copied()).map(str::to_owned).collect()
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
    for document in DOCUMENTS.iter().filter(|document| exists(document)) {
        let lacking = missing(&read(document), &binaries, &programs);
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
