//! Every mark and every planted mistake stands in the code: one that is only listed would never be
//! hit, or never be caught, and nobody would know why.

use super::source::{Problem, Source, package, report};

/// Where they are listed, and the name of the list.
const LISTS: [(&str, &str); 2] =
    [("src/base/mark.rs", "Mark"), ("src/base/mutation.rs", "Mutation")];

/// The words that follow `list::` in these files.
fn named<'a>(sources: &'a [Source], list: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for source in sources {
        let tokens = source.shipped_tokens();
        let uses = tokens.windows(3).filter(|three| three[0].text == list && three[1].text == "::");
        found.extend(uses.map(|three| three[2].text));
    }
    found
}

/// The names in a list: each has a line of its own.
fn listed(source: &Source) -> Vec<&str> {
    let is_name = |name: &&str| {
        name.starts_with(char::is_uppercase) && name.chars().all(char::is_alphanumeric)
    };
    let lines = source.text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_suffix(',')).filter(is_name).collect()
}

fn unused(sources: &[Source]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (path, list) in LISTS {
        let (lists, others): (Vec<&Source>, Vec<&Source>) =
            sources.iter().partition(|source| source.path == path);
        let others: Vec<Source> =
            others.iter().map(|source| Source::new(&source.path, &source.text)).collect();
        let used = named(&others, list);
        for source in lists {
            let mut missing = listed(source);
            missing.retain(|name| !used.contains(name));
            found.extend(
                missing.iter().map(|name| source.problem(1, format!("{list}::{name} is nowhere"))),
            );
        }
    }
    found
}

#[test]
fn marks_and_mistakes_stand_in_the_code() {
    report(unused(&package()));
}

#[test]
fn mark_rule_notices() {
    let list = Source::new("src/base/mark.rs", "marks! {\n    A,\n    B,\n}");
    let code = Source::new("src/zab/x.rs", "fn f() { mark(Mark::B); }");
    let missing: Vec<String> =
        unused(&[list, code]).iter().map(|found| found.what.clone()).collect();
    assert_eq!(missing, ["Mark::A is nowhere"]);
}
