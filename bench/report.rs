//! Results for people: a table for the terminal. The page is in [`crate::page`].
#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::compare::Line;
use crate::servers::Contestant;

/// A number with about three significant digits and thousands set apart.
pub fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push('\u{2009}');
            }
            out.push(c);
        }
        out
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// As [`number`], or a dash where there is none.
pub fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

const COLUMNS: [(&str, &str); 6] = [
    ("req/s", "/ops_per_s"),
    ("p50 µs", "/latency/p50_us"),
    ("p99 µs", "/latency/p99_us"),
    ("p99.9 µs", "/latency/p999_us"),
    ("CPU µs/op", "/server_cpu_us_per_op"),
    ("client %", "/client_share"),
];

/// A table: lines with rates, then lines about the big tree, then failures.
pub fn text(lines: &[Line], failures: &[String]) -> String {
    let mut out = String::new();
    let _ = write!(out, "\n{:<50} {:<11}", "medians", "");
    for (title, _) in COLUMNS {
        let _ = write!(out, "{title:>11}");
    }
    let _ = writeln!(out, "{:>10}{:>10}", "×ceiling", "×Apache");
    for line in lines.iter().filter(|line| !is_big(line)) {
        rate_rows(&mut out, line);
    }
    for line in lines.iter().filter(|line| is_big(line)) {
        big_rows(&mut out, line);
    }
    member_rows(&mut out, lines);
    for failure in failures {
        let _ = writeln!(out, "FAILED {failure}");
    }
    out
}

/// What each member of an ensemble used, the leader first; nothing for servers that are alone.
pub fn by_member(line: &Line, who: Contestant) -> Option<String> {
    let all = |name: &str, scale: fn(f64) -> String| -> Option<String> {
        let one = |nth: usize| line.median(who, &format!("/members/{nth}/{name}"));
        let values: Vec<String> = (0..).map_while(one).map(scale).collect();
        (!values.is_empty()).then(|| values.join(" + "))
    };
    let (cpu, memory) = all("cpu_us_per_op", number).zip(all("rss_mib", number))?;
    Some(format!("{cpu} µs/op, {memory} MiB"))
}

fn member_rows(out: &mut String, lines: &[Line]) {
    let rows: Vec<_> = lines
        .iter()
        .flat_map(|line| line.rounds.keys().map(move |who| (line, *who)))
        .filter_map(|(line, who)| Some((line, who, by_member(line, who)?)))
        .collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nCPU and resident memory of each member, the leader first");
    for (line, who, text) in rows {
        let _ = writeln!(out, "{:<50} {:<11} {text}", line.title, who.name());
    }
}

/// Whether the line is about memory and start time.
pub fn is_big(line: &Line) -> bool {
    line.rounds.keys().any(|who| line.median(*who, "/start_ms").is_some())
}

fn rate_rows(out: &mut String, line: &Line) {
    for (i, who) in line.rounds.keys().enumerate() {
        let title = if i == 0 { line.title.as_str() } else { "" };
        let _ = write!(out, "{title:<50} {:<11}", who.name());
        for (_, pointer) in COLUMNS {
            let scale = if pointer == "/client_share" { 100.0 } else { 1.0 };
            let _ = write!(out, "{:>11}", cell(line.median(*who, pointer).map(|v| v * scale)));
        }
        for to in [Contestant::Ceiling, Contestant::Apache] {
            let _ = write!(out, "{:>10}", cell(line.ratio(*who, to, "/ops_per_s")));
        }
        if let Some(lost) = line.median(*who, "/lost").filter(|lost| *lost > 0.0) {
            let _ = write!(out, "  {lost} lost");
        }
        if failed(line, *who) {
            let _ = write!(out, "  with errors");
        }
        let disturbed = disturbed(line, *who);
        if disturbed > 0 {
            let _ = write!(out, "  {disturbed} disturbed");
        }
        out.push('\n');
    }
}

/// Rounds during which others used the machine.
pub fn disturbed(line: &Line, who: Contestant) -> usize {
    let rounds = line.rounds.get(&who).map_or(&[][..], Vec::as_slice);
    rounds.iter().filter(|r| r["disturbed"] == true).count()
}

/// Whether any round had error replies or unanswered requests.
pub fn failed(line: &Line, who: Contestant) -> bool {
    line.rounds.get(&who).is_some_and(|rounds| rounds.iter().any(|r| r["failed"] == true))
}

/// Figures of the big tree: name in the JSON, meaning, unit.
pub const BIG: [(&str, &str, &str); 9] = [
    ("bytes_per_znode", "resident memory per znode", "B"),
    ("anon_bytes_per_znode", "of which anonymous", "B"),
    ("bytes_per_znode_collected", "resident after a forced garbage collection", "B"),
    ("live_heap_per_znode", "of which live Java heap", "B"),
    ("bytes_per_znode_restarted", "resident memory per znode after a restart", "B"),
    ("rss_full_mib", "resident memory", "MiB"),
    ("rss_empty_mib", "resident memory, empty", "MiB"),
    ("start_ms", "start until the first read", "ms"),
    ("fill_per_s", "creates per second while filling", "/s"),
];

fn big_rows(out: &mut String, line: &Line) {
    let _ = writeln!(out, "\n{}", line.title);
    for (name, meaning, unit) in BIG {
        let _ = write!(out, "  {meaning:<44}");
        for who in line.rounds.keys() {
            if let Some(value) = line.median(*who, &format!("/{name}")) {
                let _ = write!(out, "  {} {} {unit}", who.name(), number(value));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn numbers_are_readable() {
        for (value, expect) in [
            (1_234_567.0, "1\u{2009}234\u{2009}567"),
            (1000.0, "1\u{2009}000"),
            (266.4, "266"),
            (26.64, "26.6"),
            (0.391, "0.39"),
        ] {
            assert_eq!(number(value), expect);
        }
    }

    #[test]
    fn ratios_are_medians_of_those_of_each_round() {
        let round = |n: u64, rate: u64| json!({ "round": n, "ops_per_s": rate });
        let line = Line {
            name: "set".into(),
            title: "set".into(),
            rounds: BTreeMap::from([
                (Contestant::Ringkeeper, vec![round(1, 100), round(2, 900), round(3, 300)]),
                // It failed in the second round, and the machine was slow in the third.
                (Contestant::Apache, vec![round(1, 10), round(3, 20)]),
            ]),
        };
        let ratio = |who, to| line.ratio(who, to, "/ops_per_s");
        assert_eq!(ratio(Contestant::Ringkeeper, Contestant::Apache), Some(12.5));
        let ringkeeper = Contestant::Ringkeeper;
        assert_eq!(line.ratio_to_line(&line, ringkeeper, "/ops_per_s"), Some(1.0));
        assert_eq!(line.ratio_to_line(&line, Contestant::Ceiling, "/ops_per_s"), None);
        assert_eq!(ratio(Contestant::Apache, Contestant::Apache), None);
        assert_eq!(ratio(Contestant::Apache, Contestant::Ceiling), None);
        assert!(text(&[line], &["x".into()]).contains("FAILED x"));
    }

    #[test]
    fn members_are_shown_one_by_one() {
        let members = json!([
            {"cpu_us_per_op": 1.5, "rss_mib": 20},
            {"cpu_us_per_op": 0.75, "rss_mib": 18},
        ]);
        let line = Line {
            name: "set".into(),
            title: "set".into(),
            rounds: BTreeMap::from([
                (Contestant::Ringkeeper, vec![json!({"round": 1, "members": members})]),
                (Contestant::Apache, vec![json!({"round": 1})]),
            ]),
        };
        let text = text(&[line], &[]);
        assert!(text.contains("1.50 + 0.75 µs/op, 20.0 + 18.0 MiB"), "{text}");
        assert_eq!(text.matches("µs/op,").count(), 1, "{text}");
    }
}
