//! Links in documents: files and headings exist, tables of contents name every section in order.

use super::source::{documents, exists, read};

/// Files that documents show before they are there. Take one off as it arrives.
const PLANNED: &[&str] = &[];

/// Documents that a reader sees at one glance, or reads from end to end.
const WITHOUT_CONTENTS: &[&str] =
    &["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "src/ARCHITECTURE.md"];

/// The lines of a document outside of code blocks, without code spans.
fn prose(document: &str) -> impl Iterator<Item = String> {
    let mut is_fenced = false;
    document.lines().filter_map(move |line| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            return None;
        }
        (!is_fenced).then(|| line.split('`').step_by(2).collect())
    })
}

/// The targets of `[text](target)`, but those on the web.
fn links(document: &str) -> Vec<String> {
    let lines: Vec<String> = prose(document).collect();
    let text = lines.join("\n");
    let after = text.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// Headings of a level, 1 for the title.
fn headings(document: &str, level: usize) -> Vec<String> {
    let mark = format!("{} ", "#".repeat(level));
    let mut is_fenced = false;
    let mut found = Vec::new();
    for line in document.lines() {
        is_fenced ^= line.trim_start().starts_with("```");
        if let Some(heading) = line.strip_prefix(&mark).filter(|_| !is_fenced) {
            found.push(heading.to_owned());
        }
    }
    found
}

/// The anchor that a heading gets where documents are shown.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

fn has_anchor(document: &str, name: &str) -> bool {
    (1..=4).flat_map(|level| headings(document, level)).any(|heading| anchor(&heading) == name)
}

/// A path beside the document, from the repository's root; `None` if it leaves the repository.
fn beside(document: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

/// Links of the document at `path` that lead nowhere.
fn broken(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for link in links(text) {
        let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() { Some(path.to_owned()) } else { beside(path, file) };
        let is_there =
            |target: &String| target == path || exists(target) || PLANNED.contains(&&**target);
        let Some(target) = target.filter(is_there) else {
            found.push(format!("{path}: no file {link}"));
            continue;
        };
        let there = || if target == path { text.to_owned() } else { read(&target) };
        if !heading.is_empty() && !has_anchor(&there(), heading) {
            found.push(format!("{path}: no heading {link}"));
        }
    }
    found
}

/// What the table of contents shall be and what it is, where they differ. It is the first list that
/// links to headings of the same document, and stands before the first section.
fn wrong_contents(text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let entry = |heading: String| format!("- [{heading}](#{})", anchor(&heading));
    let wanted: Vec<String> = headings(text, 2).into_iter().map(entry).collect();
    let before = text.split("\n## ").next().unwrap_or(text);
    let is_entry = |line: &&str| line.starts_with("- [") && line.contains("](#");
    // After its link an entry may say more.
    let link = |line: &str| line.find(')').map_or(line, |end| &line[..=end]).to_owned();
    let found: Vec<String> = before.lines().filter(is_entry).map(link).collect();
    (wanted != found).then_some((wanted, found))
}

#[test]
fn links_lead_somewhere() {
    let broken: Vec<String> =
        documents().iter().flat_map(|path| broken(path, &read(path))).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn nothing_planned_is_there() {
    let there: Vec<_> = PLANNED.iter().filter(|path| exists(path)).collect();
    assert!(there.is_empty(), "take these off PLANNED: {there:?}");
}

#[test]
fn contents_name_every_section() {
    for path in documents().iter().filter(|path| !WITHOUT_CONTENTS.contains(&path.as_str())) {
        if let Some((wanted, found)) = wrong_contents(&read(path)) {
            panic!("{path}: the table of contents is {found:#?}, but shall be {wanted:#?}");
        }
    }
}

#[test]
fn link_rules_notice() {
    let document = "# A\n\n- [B c](#b-c): more\n\n[x](nowhere.md) `[y](code.md)` [z](../LICENSE)\n\
                    [w](https://example.org) [v](#d) [u](../README.md#no-such) [t](../../up)\n\
                    ```\n[s](block.md)\n## not a heading\n```\n\n## B c\n\n## D, e!\n";
    let expect = ["no file nowhere.md", "no heading #d", "no heading ../README.md#no-such"];
    let expect = expect.iter().chain(&["no file ../../up"]);
    let expect: Vec<String> = expect.map(|what| format!("conf/x.md: {what}")).collect();
    assert_eq!(broken("conf/x.md", document), expect);
    let (wanted, found) = wrong_contents(document).expect("a section without an entry");
    assert_eq!(wanted, ["- [B c](#b-c)", "- [D, e!](#d-e)"]);
    assert_eq!(found, ["- [B c](#b-c)"]);
}
