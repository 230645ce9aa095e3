//! The repository's Rust files, and a lexer just good enough to tell code from comments and text.
//!
//! Not a parser: it knows literals, comments, braces and paths. That is enough for every rule
//! here, and a rule that needs more belongs to clippy.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

/// One file: its text, and the same text with all but code, or all but comments, made blank. All
/// three have the same lines.
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
    pub code: String,
    pub comments: String,
    /// Compiled for tests only.
    pub is_test: bool,
}

impl Source {
    /// A file that exists only for a rule's own test, or that was read already.
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        let is_test = path.starts_with("tests/");
        Source { path: path.to_owned(), text: text.to_owned(), code, comments, is_test }
    }

    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.code)
    }

    /// The tokens that a build without tests has.
    pub fn shipped_tokens(&self) -> Vec<Token<'_>> {
        if self.is_test { Vec::new() } else { without_tests(&self.tokens()) }
    }

    pub fn problem(&self, line: usize, what: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line, what: what.into() }
    }
}

/// A word, a number, `::`, or one other character of the code; with its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// What a rule found, and where.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails the test that calls it, with one line per problem.
pub fn report(mut problems: Vec<Problem>) {
    problems.sort();
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}\n")).collect();
    assert!(lines.is_empty(), "{} problems\n{}", lines.len(), lines.concat());
}

/// A file of the repository that is not Rust.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

/// Every document of the repository: in its root and in the directories below, but not further.
pub fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["", "bench/", "conf/", "src/", "tests/", "tools/"] {
        let entries = fs::read_dir(root().join(directory)).expect("a directory of the package");
        for entry in entries {
            let name = entry.expect("a readable directory").file_name();
            let name = name.into_string().expect("a name in UTF-8");
            found.extend(name.ends_with(".md").then(|| format!("{directory}{name}")));
        }
    }
    found.sort();
    assert!(found.len() > 8, "found {found:?} only");
    found
}

pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// Every Rust file of the package. Foreign packages below `tests/foreign` have rules of their own.
pub fn package() -> Vec<Source> {
    let mut sources = Vec::new();
    for directory in ["src", "tests", "tools", "bench"] {
        collect(directory, &mut sources);
    }
    mark_tests(&mut sources);
    assert!(sources.len() > 100, "found {} files only", sources.len());
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(directory: &str, into: &mut Vec<Source>) {
    let entries = fs::read_dir(root().join(directory)).expect("a directory of the package");
    let names = entries.map(|entry| entry.expect("a readable directory").file_name());
    let mut names: Vec<String> =
        names.map(|name| name.into_string().expect("a name in UTF-8")).collect();
    names.sort();
    for name in names {
        let path = format!("{directory}/{name}");
        if path != "tests/foreign" && root().join(&path).is_dir() {
            collect(&path, into);
        } else if path.ends_with(".rs") {
            into.push(Source::new(&path, &read(&path)));
        }
    }
}

/// Marks the files of `#[cfg(test)] mod x;`, and all below them.
fn mark_tests(sources: &mut [Source]) {
    let mut roots = BTreeSet::new();
    for source in sources.iter() {
        let stem = source.path.trim_end_matches(".rs");
        let directory = match stem.rsplit_once('/') {
            Some((parent, "mod" | "lib" | "main")) => parent,
            _ => stem,
        };
        let tokens = source.tokens();
        for at in test_attributes(&tokens) {
            let rest: Vec<&str> = tokens[at + ATTRIBUTE.len()..].iter().map(|t| t.text).collect();
            if let ["mod", name, ";", ..] = rest.as_slice() {
                roots.insert(format!("{directory}/{name}"));
            }
        }
    }
    for source in sources {
        let stem = source.path.trim_end_matches(".rs");
        let is_below = |root: &String| {
            stem.strip_prefix(root.as_str())
                .is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'/', ..]))
        };
        source.is_test |= roots.iter().any(is_below);
    }
}

const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn test_attributes(tokens: &[Token<'_>]) -> Vec<usize> {
    find(tokens, &ATTRIBUTE)
}

/// Where a sequence of tokens begins.
pub fn find(tokens: &[Token<'_>], sequence: &[&str]) -> Vec<usize> {
    let matches = |window: &[Token<'_>]| window.iter().map(|t| t.text).eq(sequence.iter().copied());
    let starts = tokens.windows(sequence.len()).enumerate();
    starts.filter(|(_, window)| matches(window)).map(|(at, _)| at).collect()
}

/// Drops each item that stands after `#[cfg(test)]`: up to its `;` or its closing brace.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut from = 0;
    for at in test_attributes(tokens) {
        if at < from {
            continue;
        }
        kept.extend_from_slice(&tokens[from..at]);
        from = item_end(tokens, at + ATTRIBUTE.len());
    }
    kept.extend_from_slice(&tokens[from..]);
    kept
}

fn item_end(tokens: &[Token<'_>], from: usize) -> usize {
    let end = tokens[from..].iter().position(|token| matches!(token.text, ";" | "{"));
    match end.map(|end| from + end) {
        Some(end) if tokens[end].text == "{" => closing(tokens, end) + 1,
        Some(end) => end + 1,
        None => tokens.len(),
    }
}

/// Index of the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// A path of the code, with groups of a `use` multiplied out.
pub struct CodePath<'a> {
    pub segments: Vec<&'a str>,
    pub line: usize,
    /// Index of its first token.
    pub at: usize,
    /// Stands in a `use`.
    pub is_use: bool,
}

/// Every path of two or more segments, and every `use`.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<CodePath<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut in_use = false;
    while at < tokens.len() {
        let begins = is_word(tokens[at].text)
            && !continues_type(&tokens[..at])
            && (in_use || tokens.get(at + 1).is_some_and(|next| next.text == "::"));
        match tokens[at].text {
            "use" => in_use = true,
            ";" => in_use = false,
            _ if begins => {
                let mut ends = Vec::new();
                let next = expand(tokens, at, &mut Vec::new(), &mut ends);
                found.extend(ends.into_iter().map(|(segments, line)| CodePath {
                    segments,
                    line,
                    at,
                    is_use: in_use,
                }));
                at = next;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// After these tokens a path goes on that a type in angle brackets began.
fn continues_type(before: &[Token<'_>]) -> bool {
    let [.., arrow, close, colons] = before else { return false };
    colons.text == "::" && close.text == ">" && arrow.text != "-"
}

/// Reads the path at `at` after `prefix`; returns the index after it.
fn expand<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &mut Vec<&'a str>,
    into: &mut Vec<(Vec<&'a str>, usize)>,
) -> usize {
    let depth = prefix.len();
    let start = at;
    let mut line = tokens[at].line;
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            let end = closing(tokens, at);
            at += 1;
            while at < end {
                at = if tokens[at].text == "," { at + 1 } else { expand(tokens, at, prefix, into) };
            }
            prefix.truncate(depth);
            return end + 1;
        }
        if !is_word(token.text) && token.text != "*" {
            break;
        }
        prefix.push(token.text);
        line = token.line;
        at += 1;
        if tokens.get(at).is_some_and(|token| token.text == "::") {
            at += 1;
        } else {
            break;
        }
    }
    into.push((prefix.clone(), line));
    prefix.truncate(depth);
    let is_renamed = tokens.get(at).is_some_and(|token| token.text == "as");
    if is_renamed { at + 2 } else { at.max(start + 1) }
}

pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = if is_part(first) {
                rest.find(|c| !is_part(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token { text: &rest[..length], line: index + 1 });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// The text with all but code made blank, and with all but comments made blank. A literal leaves
/// its quotes.
fn split(text: &str) -> (String, String) {
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_in_word = false;
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => (block_comment(rest), true),
            _ => (if is_in_word { quoted(rest) } else { literal(rest) }, false),
        };
        let (piece, after) = rest.split_at(length.max(first.len_utf8()));
        if is_comment {
            comments.push_str(piece);
            code.extend(piece.chars().map(blank));
        } else if length > 0 {
            code.push('"');
            code.extend(piece.chars().skip(1).map(blank));
            comments.extend(piece.chars().map(blank));
        } else {
            code.push(first);
            comments.push(blank(first));
        }
        is_in_word = length == 0 && (first.is_alphanumeric() || first == '_');
        rest = after;
    }
    (code, comments)
}

fn blank(c: char) -> char {
    if c == '\n' { '\n' } else { ' ' }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let rest = &text.as_bytes()[at..];
        if rest.is_empty() {
            return at;
        } else if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
}

/// Length of the literal that begins here, perhaps with a prefix; 0 for none.
fn literal(text: &str) -> usize {
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    if prefix > 2 {
        return 0;
    }
    if text[..prefix].contains('r') {
        let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
        let opening = prefix + hashes;
        if text[opening..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = opening + 1;
            return text[body..].find(&close).map_or(text.len(), |at| body + at + close.len());
        }
        return 0;
    }
    match quoted(&text[prefix..]) {
        0 => 0,
        length => prefix + length,
    }
}

/// Length of the text or character literal that begins here; 0 for none, as for a lifetime.
fn quoted(text: &str) -> usize {
    let bytes = text.as_bytes();
    let quote = match bytes[0] {
        b'"' => b'"',
        b'\'' => {
            let mut chars = text[1..].chars();
            let (first, second) = (chars.next(), chars.next());
            if first != Some('\\') && second != Some('\'') {
                return 0;
            }
            b'\''
        }
        _ => return 0,
    };
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

#[test]
fn lexer_drops_comments_and_literals() {
    let text = "let a = \"unsafe \\\" {\"; // FIX\n\
                let b = r#\"x\"y\"#; /* a /* b */ c */ f('\"', '\\'', b'x', 'é');\n\
                fn g<'a>(x: &'a str) {}\n";
    let source = Source::new("src/x.rs", text);
    let words: Vec<&str> =
        source.tokens().into_iter().map(|token| token.text).filter(|text| is_word(text)).collect();
    assert_eq!(words, ["let", "a", "let", "b", "f", "fn", "g", "a", "x", "a", "str"]);
    assert_eq!(
        source.comments.split_whitespace().collect::<Vec<_>>().join(" "),
        "// FIX /* a /* b */ c */"
    );
    assert_eq!(source.tokens().last().unwrap().line, 3);
}

#[test]
fn lexer_multiplies_groups_out() {
    let text =
        "use crate::{a::{b, c as d}, e::*};\nuse f;\nlet x = g::h(i);\nlet S { j: k::L } = m;";
    let source = Source::new("src/x.rs", text);
    let tokens = source.tokens();
    let found: Vec<(String, usize)> =
        paths(&tokens).into_iter().map(|path| (path.segments.join("."), path.line)).collect();
    let expected =
        [("crate.a.b", 1), ("crate.a.c", 1), ("crate.e.*", 1), ("f", 2), ("g.h", 3), ("k.L", 4)];
    assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
}

#[test]
fn lexer_leaves_tests_out() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c(); } }\n#[cfg(test)] use d::e;\nfn f() {}";
    let words = |source: &Source| -> Vec<String> {
        let tokens = source.shipped_tokens();
        tokens
            .iter()
            .filter(|t| is_word(t.text) && t.text != "fn")
            .map(|t| t.text.to_owned())
            .collect()
    };
    assert_eq!(words(&Source::new("src/x.rs", text)), ["a", "f"]);
    let mut sources = [
        Source::new("src/x/mod.rs", "mod a;\n#[cfg(test)]\nmod tests;"),
        Source::new("src/x/a.rs", "fn f() {}"),
        Source::new("src/x/tests.rs", "fn g() {}"),
        Source::new("src/x/tests/h.rs", "fn g() {}"),
        Source::new("src/x/tests_of_y.rs", "fn g() {}"),
    ];
    mark_tests(&mut sources);
    assert_eq!(sources.each_ref().map(|source| source.is_test), [false, false, true, true, false]);
}
