//! Unsafe code: in `sys` only, and each block says why it is sound. The compiler refuses the rest
//! as long as every other module forbids it, and this test checks that each does.

use super::source::{Problem, Source, package, report};

const HOME: &str = "src/sys/";

fn unsafe_problems(source: &Source) -> Vec<Problem> {
    let mut found = Vec::new();
    let tokens = source.tokens();
    let is_home = source.path.starts_with(HOME);
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "unsafe") {
        let next = tokens.get(at + 1).map_or("", |token| token.text);
        if !is_home {
            found.push(source.problem(token.line, "unsafe outside src/sys: wrap it there"));
        } else if matches!(next, "{" | "impl") && !has_reason(source, token.line) {
            found.push(source.problem(token.line, "unsafe without a `// SAFETY:` reason above it"));
        }
    }
    let is_root =
        matches!(source.path.split('/').collect::<Vec<_>>().as_slice(), ["src", _, "mod.rs"]);
    if is_root && !is_home && !source.code.contains("#![forbid(unsafe_code)]") {
        found.push(source.problem(1, "a module's root needs `#![forbid(unsafe_code)]`"));
    }
    let allows = ["allow(unsafe_code)", "expect(unsafe_code)", "warn(unsafe_code)"];
    if source.path != "src/sys/mod.rs" && allows.iter().any(|allow| source.code.contains(allow)) {
        found.push(source.problem(1, "only src/sys/mod.rs may allow unsafe code"));
    }
    found
}

/// The comment right above the statement that holds this line has a reason.
fn has_reason(source: &Source, line: usize) -> bool {
    let code: Vec<&str> = source.code.lines().collect();
    let comments: Vec<&str> = source.comments.lines().collect();
    let mut at = line - 1;
    while at > 0 {
        at -= 1;
        if comments[at].contains("SAFETY:") {
            return true;
        }
        let above = code[at].trim();
        if above.ends_with([';', '{', '}']) || (above.is_empty() && comments[at].trim().is_empty())
        {
            return false;
        }
    }
    false
}

#[test]
fn unsafe_code_stays_in_sys() {
    report(package().iter().flat_map(unsafe_problems).collect());
}

#[test]
fn unsafe_rule_notices() {
    let count = |path: &str, text: &str| unsafe_problems(&Source::new(path, text)).len();
    let reasoned =
        "fn f() {\n    // SAFETY: it is,\n    // really.\n    let x =\n        unsafe { g() };\n}";
    assert_eq!(count("src/sys/x.rs", reasoned), 0);
    assert_eq!(count("src/disk/x.rs", reasoned), 1);
    assert_eq!(count("src/sys/x.rs", "// SAFETY: stale\ng();\nunsafe { h() };"), 1);
    assert_eq!(count("src/disk/mod.rs", "//! Disk.\n"), 1);
    assert_eq!(count("src/disk/mod.rs", "//! #![forbid(unsafe_code)]\n"), 1);
    assert_eq!(count("src/disk/mod.rs", "#![forbid(unsafe_code)]\n"), 0);
    assert_eq!(count("bench/x.rs", "#![allow(unsafe_code)]"), 1);
}
