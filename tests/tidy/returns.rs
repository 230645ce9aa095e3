//! An early return that does nothing says which race makes it legal, or is an assertion instead.

use super::source::{Problem, Source, Token, closing, package, report};

/// Rooms where what is looked up may be gone, because somebody else has ended it meanwhile.
const ROOMS: &[&str] = &["src/replica/", "src/front/", "src/driver/"];

/// A `let ... else` that only leaves: index of its `let`, and of its closing brace.
fn bare_returns(tokens: &[Token<'_>]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, window) in tokens.windows(3).enumerate() {
        let [word, open, first] = window else { continue };
        let leaves =
            word.text == "else" && open.text == "{" && matches!(first.text, "return" | "continue");
        if !leaves {
            continue;
        }
        let end = closing(tokens, at + 1);
        let does_nothing = tokens[at + 1..end].iter().all(|token| token.text != "self");
        let begin = tokens[..at].iter().rposition(|token| matches!(token.text, "let" | ";"));
        if let Some(begin) = begin.filter(|&begin| tokens[begin].text == "let" && does_nothing) {
            found.push((begin, end));
        }
    }
    found
}

/// Those without a comment in the line before. One comment may speak for several in a row.
fn unexplained(source: &Source) -> Vec<Problem> {
    let comments: Vec<&str> = source.comments.lines().collect();
    let is_comment =
        |line: usize| comments.get(line - 1).is_some_and(|text| !text.trim().is_empty());
    let tokens = source.shipped_tokens();
    let mut found = Vec::new();
    let mut explained_until = None;
    for (begin, end) in bare_returns(&tokens) {
        let (first, last) = (tokens[begin].line, tokens[end].line);
        if first > 1 && is_comment(first - 1) || explained_until == Some(first - 1) {
            explained_until = Some(last);
        } else {
            let what = "a return that does nothing: assert, or say which race makes it legal";
            found.push(source.problem(first, what));
        }
    }
    found
}

#[test]
fn bare_returns_say_what_makes_them_legal() {
    let sources = package();
    let is_there = |source: &&Source| ROOMS.iter().any(|room| source.path.starts_with(room));
    report(sources.iter().filter(is_there).flat_map(unexplained).collect());
}

#[test]
fn bare_returns_are_noticed() {
    let count = |text: &str| unexplained(&Source::new("src/driver/x.rs", text)).len();
    let bare = "let Some(a) = f() else { return };\n";
    assert_eq!(count(bare), 1);
    assert_eq!(count(&format!("// It may be gone.\n{bare}{bare}")), 0);
    assert_eq!(count(&format!("// It may be gone.\n{bare}g();\n{bare}")), 1);
    assert_eq!(count("let Some(a) = f() else {\n    return Ok(());\n};\n"), 1);
    assert_eq!(count("let Some(a) = f() else { return self.close(conn) };\n"), 0);
    assert_eq!(count("let a = if b { c } else { d };\nif a { g() } else { return }\n"), 0);
}
