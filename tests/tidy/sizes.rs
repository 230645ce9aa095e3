//! Sizes: files and functions that fit a head. What is too large today is listed by name; the
//! lists only ever get shorter.

use super::source::{Problem, Source, closing, package, report};

/// Above this a file is perhaps two rooms in one.
const SOFT_FILE_LINES: usize = 800;
const HARD_FILE_LINES: usize = 1200;
const FUNCTION_LINES: usize = 70;
const ROOT_LINES: usize = 80;

/// Data tables, which may be as long as the data is.
const TABLES: &[&str] = &["src/config/keys.rs"];

/// Files above the soft limit: split them, add none.
const LARGE_FILES: &[&str] = &[];

/// Functions above the limit: split them, add none.
const LONG_FUNCTIONS: &[(&str, &str)] = &[
    ("bench/compare.rs", "parse"),
    ("src/config/tests.rs", "defaults_are_those_of_zookeeper"),
    ("src/server/boot.rs", "launch"),
];

fn is_large(source: &Source) -> Option<Problem> {
    let lines = source.text.lines().count();
    let path = source.path.as_str();
    if TABLES.contains(&path) || lines <= SOFT_FILE_LINES {
        return None;
    }
    let limit = if LARGE_FILES.contains(&path) { HARD_FILE_LINES } else { SOFT_FILE_LINES };
    (lines > limit).then(|| source.problem(lines, format!("{lines} lines: split it by topic")))
}

/// Name, first line and length of each function with a body.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let tokens = source.tokens();
    let mut found = Vec::new();
    for (at, window) in tokens.windows(2).enumerate() {
        let is_name = window[1].text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if window[0].text != "fn" || !is_name {
            continue;
        }
        let mut open = at;
        while tokens.get(open).is_some_and(|token| !matches!(token.text, "{" | ";")) {
            let is_nested = matches!(tokens[open].text, "(" | "[");
            open = if is_nested { closing(&tokens, open) + 1 } else { open + 1 };
        }
        if tokens.get(open).is_some_and(|token| token.text == "{") {
            let last = tokens[closing(&tokens, open)].line;
            let first = window[0].line;
            found.push((window[1].text.to_owned(), first, last + 1 - first));
        }
    }
    found
}

fn is_known(path: &str, name: &str) -> bool {
    LONG_FUNCTIONS.contains(&(path, name))
}

fn long_functions(source: &Source) -> Vec<Problem> {
    let long = functions(source).into_iter().filter(|(_, _, length)| *length > FUNCTION_LINES);
    long.filter(|(name, _, _)| !is_known(&source.path, name))
        .map(|(name, line, length)| {
            source.problem(line, format!("fn {name}: {length} lines: name its steps, split it"))
        })
        .collect()
}

/// A module's root holds documents, `mod` and `use`, so that no file becomes everybody's.
fn root_problems(source: &Source) -> Vec<Problem> {
    if !source.path.starts_with("src/") || !source.path.ends_with("/mod.rs") || source.is_test {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > ROOT_LINES {
        found.push(source.problem(lines, format!("{lines} lines: over {ROOT_LINES} in a mod.rs")));
    }
    for token in source.tokens() {
        if matches!(token.text, "fn" | "struct" | "enum" | "impl" | "trait" | "const" | "static") {
            let what = format!("`{}` in a mod.rs: give it a file of its own", token.text);
            found.push(source.problem(token.line, what));
        }
    }
    found
}

#[test]
fn files_and_functions_are_small() {
    let sources = package();
    let mut found: Vec<Problem> = sources.iter().filter_map(is_large).collect();
    found.extend(sources.iter().flat_map(long_functions));
    found.extend(sources.iter().flat_map(root_problems));
    report(found);
}

#[test]
fn size_lists_hold_nothing_mended() {
    let sources = package();
    let find = |path: &str| {
        let found = sources.iter().find(|source| source.path == path);
        found.unwrap_or_else(|| panic!("{path} is gone: take it off its list"))
    };
    for path in LARGE_FILES {
        let lines = find(path).text.lines().count();
        assert!(lines > SOFT_FILE_LINES, "{path} is small now: take it off LARGE_FILES");
    }
    for path in TABLES {
        find(path);
    }
    for (path, name) in LONG_FUNCTIONS {
        let all = functions(find(path));
        let is_long =
            all.iter().any(|(found, _, length)| found == name && *length > FUNCTION_LINES);
        assert!(is_long, "{path}: {name} is short now: take it off LONG_FUNCTIONS");
    }
}

#[test]
fn size_rules_notice() {
    let lines = |count: usize| "// a\n".repeat(count);
    assert!(is_large(&Source::new("src/a/b.rs", &lines(SOFT_FILE_LINES))).is_none());
    assert!(is_large(&Source::new("src/a/b.rs", &lines(SOFT_FILE_LINES + 1))).is_some());
    assert!(is_large(&Source::new(TABLES[0], &lines(HARD_FILE_LINES + 1))).is_none());

    let function = |inner: usize| {
        format!("fn a(x: [u8; 3]) -> [u8; 3] {{\n{}}}\nfn b();", " x();\n".repeat(inner))
    };
    let fits = Source::new("src/a/b.rs", &function(FUNCTION_LINES - 2));
    assert_eq!(functions(&fits), [("a".to_owned(), 1, FUNCTION_LINES)]);
    assert!(long_functions(&fits).is_empty());
    assert_eq!(long_functions(&Source::new("src/a/b.rs", &function(FUNCTION_LINES - 1))).len(), 1);

    assert_eq!(root_problems(&Source::new("src/a/mod.rs", "mod b;\nfn c() {}")).len(), 1);
    assert_eq!(root_problems(&Source::new("src/a/mod.rs", &lines(ROOT_LINES + 1))).len(), 1);
    assert!(root_problems(&Source::new("src/a/b.rs", "fn c() {}")).is_empty());
}
