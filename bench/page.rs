//! Results for people: one HTML file without external resources or scripts. Charts are inline SVG
//! that follows the reader's light or dark setting.
#![forbid(unsafe_code)]

use std::fmt::Write;

use serde_json::Value as Json;

use crate::charts::decade_label;
use crate::compare::{Line, members_of};
use crate::report::{BIG, by_member, disturbed, failed, is_big, number};
use crate::servers::Contestant;
use crate::stats::values;
use crate::svg::escape;

const WIDTH: f64 = 330.0;
const NAME_WIDTH: f64 = 74.0;
const BAR_MAX: f64 = 112.0;
const ROW: f64 = 24.0;

/// The whole page.
pub fn html(json: &Json, lines: &[Line]) -> String {
    let rates: Vec<&Line> = lines.iter().filter(|l| !is_big(l) && !is_timed(l)).collect();
    let timed: Vec<&Line> = lines.iter().filter(|l| is_timed(l)).collect();
    let big: Vec<&Line> = lines.iter().filter(|l| is_big(l)).collect();
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let _ = writeln!(out, "<title>Ringkeeper benchmark</title>\n<style>\n{CSS}</style>");
    head(&mut out, json, lines);
    let goals: &[Goal] = if members_of(json) == 1 { &GOALS } else { &ENSEMBLE_GOALS };
    tiles(&mut out, goals, lines);
    let title = "Requests per second";
    let note = "Longer is better. Bars are medians, dots the single rounds.";
    section(&mut out, title, note, &rates, |line| bars(line, "/ops_per_s", "/s", true));
    let title = "Latency";
    let note = "Logarithmic; further left is better. From the median over the 99th percentile \
                (dot) to the 99.9th.";
    section(&mut out, title, note, &rates, latencies);
    let title = "Server CPU per request";
    let note = "Shorter is better.";
    section(&mut out, title, note, &rates, |l| bars(l, "/server_cpu_us_per_op", "µs", false));
    let title = "Many sessions, many watchers";
    let note = "Time until the last one is served; shorter is better.";
    section(&mut out, title, note, &timed, |line| bars(line, "/total_ms", "ms", false));
    for line in big {
        let _ = write!(out, "<h2>{}</h2>\n<div class=\"grid\">\n", escape(&line.title));
        for (name, meaning, unit) in BIG {
            let higher = unit == "/s";
            let chart = bars(line, &format!("/{name}"), unit, higher);
            let _ = writeln!(out, "<div class=\"card\"><h3>{meaning}</h3>{chart}</div>");
        }
        out.push_str("</div>\n");
    }
    members(&mut out, lines);
    table(&mut out, lines);
    about(&mut out, json);
    out.push_str("</html>\n");
    out
}

const CSS: &str = include_str!("page.css");

/// Whether the line is a time until all are served rather than a rate.
fn is_timed(line: &Line) -> bool {
    line.rounds.keys().any(|who| line.median(*who, "/total_ms").is_some())
}

fn head(out: &mut String, json: &Json, lines: &[Line]) {
    let machine = &json["machine"];
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let members = members_of(json);
    let ensemble = match members {
        1 => String::new(),
        _ => format!(
            " Each contestant is an ensemble of {members} processes, which share cores and disk; \
             the ceiling answers a write when a majority has it on disk."
        ),
    };
    let _ = writeln!(
        out,
        "<h1>Ringkeeper beside Apache ZooKeeper</h1>\n<p>Same machine, same run, same load: \
         {} cores of {}, Linux {}, {}. {} round(s) of {} s each; medians. The ceiling is a server \
         that keeps no state and answers canned replies, with one write and fdatasync per turn of \
         its loop: what this machine allows.{ensemble}</p>",
        machine["cores"],
        escape(&text(&machine["cpu"])),
        escape(&text(&machine["kernel"])),
        escape(&text(&machine["file_system"])),
        json["rounds"],
        json["seconds"],
    );
    out.push_str("<div class=\"key\">");
    for who in Contestant::ALL {
        if lines.iter().any(|line| line.rounds.contains_key(&who)) {
            let _ = write!(out, "<span style=\"--c:var(--{0})\">{0}</span>", who.name());
        }
    }
    out.push_str("</div>\n");
    let failures = json["failures"].as_array().map_or(&[][..], Vec::as_slice);
    for failure in failures {
        let _ = writeln!(out, "<p class=\"failed\">{}</p>", escape(&text(failure)));
    }
}

/// What a figure is divided by.
#[derive(Clone, Copy)]
enum To {
    Nothing,
    Server(Contestant),
    /// The same server's figure in another line.
    Line(&'static str),
}

struct Goal {
    line: &'static str,
    pointer: &'static str,
    to: To,
    caption: &'static str,
    /// At least, or at most.
    least: bool,
    wanted: f64,
}

const fn goal(
    line: &'static str,
    pointer: &'static str,
    to: To,
    caption: &'static str,
    least: bool,
    wanted: f64,
) -> Goal {
    Goal { line, pointer, to, caption, least, wanted }
}

const CEILING: To = To::Server(Contestant::Ceiling);
const APACHE: To = To::Server(Contestant::Apache);
const RATE: &str = "/ops_per_s";
const CPU: &str = "/server_cpu_us_per_op";
const P50: &str = "/latency/p50_us";
const P999: &str = "/latency/p999_us";

/// The goals of one server, each with the figure that decides it.
const GOALS: [Goal; 12] = [
    goal("set", RATE, CEILING, "pipelined sets, of the ceiling", true, 0.6),
    goal("get", RATE, CEILING, "pipelined gets, of the ceiling", true, 0.6),
    goal("set", RATE, APACHE, "pipelined sets, of Apache", true, 15.0),
    goal("get", RATE, APACHE, "pipelined gets, of Apache", true, 25.0),
    goal("set-lone", P50, CEILING, "lone set latency, of the ceiling", false, 1.25),
    goal("get-lone", P50, CEILING, "lone get latency, of the ceiling", false, 1.25),
    goal("set", P999, APACHE, "p99.9 of sets, of Apache", false, 0.1),
    goal("get", P999, APACHE, "p99.9 of gets, of Apache", false, 0.1),
    goal("big", "/bytes_per_znode", To::Nothing, "bytes resident per znode", false, 220.0),
    goal("big", "/start_ms", To::Nothing, "ms to start with the big tree", false, 600.0),
    goal("storm-arrive", "/total_ms", To::Nothing, "ms until all sessions arrived", false, 1000.0),
    goal("storm-return", "/total_ms", To::Nothing, "ms until all sessions returned", false, 1000.0),
];

/// The goals of an ensemble.
const ENSEMBLE_GOALS: [Goal; 7] = [
    goal("set", RATE, APACHE, "pipelined sets, of Apache", true, 20.0),
    goal("set", RATE, CEILING, "pipelined sets, of the ceiling", true, 0.5),
    goal("set", CPU, To::Nothing, "µs of CPU per set, all members", false, 3.0),
    goal("set-lone-leader", P50, CEILING, "lone set latency, of the ceiling", false, 1.25),
    goal("set-64x1", RATE, CEILING, "64 lone clients, sets, of the ceiling", true, 0.6),
    goal("get-one", CPU, To::Line("get"), "gets per CPU second, of one server", true, 0.85),
    goal("set-half", P999, To::Nothing, "µs, p99.9 of sets at half of full load", false, 5000.0),
];

fn tiles(out: &mut String, goals: &[Goal], lines: &[Line]) {
    let mut tiles = String::new();
    for goal in goals {
        let Some(line) = lines.iter().find(|line| line.name == goal.line) else { continue };
        let found = match goal.to {
            To::Nothing => line.median(Contestant::Ringkeeper, goal.pointer),
            To::Server(to) => line.ratio(Contestant::Ringkeeper, to, goal.pointer),
            To::Line(name) => lines
                .iter()
                .find(|line| line.name == name)
                .and_then(|to| line.ratio_to_line(to, Contestant::Ringkeeper, goal.pointer)),
        };
        let Some(value) = found else { continue };
        let met = if goal.least { value >= goal.wanted } else { value <= goal.wanted };
        let times = if matches!(goal.to, To::Nothing) { "" } else { "×" };
        let bound = if goal.least { "≥" } else { "≤" };
        let class = if met { "met" } else { "missed" };
        let _ = writeln!(
            tiles,
            "<div class=\"card tile\"><b>{}{times}</b><small>{}</small>\
             <small class=\"goal {class}\">goal {bound} {} – {class}</small></div>",
            number(value),
            goal.caption,
            number(goal.wanted),
        );
    }
    if !tiles.is_empty() {
        let _ = write!(out, "<h2>Goals</h2>\n<div class=\"tiles\">\n{tiles}</div>\n");
    }
}

fn section(
    out: &mut String,
    title: &str,
    note: &str,
    lines: &[&Line],
    chart: impl Fn(&Line) -> String,
) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(out, "<h2>{title}</h2>\n<p>{note}</p>\n<div class=\"grid\">\n");
    for line in lines {
        let _ = writeln!(
            out,
            "<div class=\"card\"><h3>{}</h3>{}</div>",
            escape(&line.title),
            chart(line)
        );
    }
    out.push_str("</div>\n");
}

fn open_svg(height: f64, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(label))
}

/// One bar per server, with the ratio to Apache where higher or lower is what counts.
fn bars(line: &Line, pointer: &str, unit: &str, higher: bool) -> String {
    let servers: Vec<Contestant> =
        line.rounds.keys().copied().filter(|who| line.median(*who, pointer).is_some()).collect();
    let rounds = |who: Contestant| {
        let rounds = line.rounds.get(&who).map_or(&[][..], Vec::as_slice);
        values(rounds, pointer)
    };
    let most = servers.iter().flat_map(|who| rounds(*who)).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open_svg(ROW * servers.len() as f64, &line.title);
    for (i, who) in servers.iter().enumerate() {
        let value = line.median(*who, pointer).unwrap_or(0.0);
        let top = ROW * i as f64;
        let name = who.name();
        let width = (value / most * BAR_MAX).max(1.0);
        let base = top + ROW / 2.0 + 4.0;
        let _ = write!(
            svg,
            "<text class=\"dim\" x=\"0\" y=\"{base}\">{name}</text><rect class=\"{name}\" \
             x=\"{NAME_WIDTH}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\"/>",
            top + 5.0,
            ROW - 10.0
        );
        for round in rounds(*who) {
            let x = NAME_WIDTH + round / most * BAR_MAX;
            let y = top + ROW / 2.0;
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"2\" fill=\"var(--ink)\"><title>{} {unit}\
                 </title></circle>",
                number(round)
            );
        }
        let times = line
            .ratio(*who, Contestant::Apache, pointer)
            .filter(|_| *who == Contestant::Ringkeeper)
            .map(|r| format!(" ({}×)", number(if higher { r } else { 1.0 / r.max(1e-9) })));
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{base}\">{} {unit}{}</text>",
            NAME_WIDTH + BAR_MAX + 8.0,
            number(value),
            times.unwrap_or_default()
        );
    }
    svg.push_str("</svg>");
    svg
}

/// One line per server from p50 to p99.9 on a logarithmic axis, with a dot at p99.
fn latencies(line: &Line) -> String {
    let pick = |who: &Contestant| {
        let at = |name: &str| line.median(*who, &format!("/latency/{name}"));
        Some((*who, at("p50_us")?.max(1.0), at("p99_us")?.max(1.0), at("p999_us")?.max(1.0)))
    };
    let rows: Vec<_> = line.rounds.keys().filter_map(pick).collect();
    let least = rows.iter().map(|r| r.1).fold(f64::MAX, f64::min).log10().floor();
    let most = rows.iter().map(|r| r.3).fold(1.0, f64::max).log10().ceil().max(least + 1.0);
    // Labels are centred on their lines, so half of the last one stands to the right of its line.
    let span = WIDTH - NAME_WIDTH - 24.0;
    let x = |us: f64| NAME_WIDTH + (us.log10() - least) / (most - least) * span;
    let height = ROW * rows.len() as f64 + 16.0;
    let mut svg = open_svg(height, &line.title);
    for decade in least as i32..=most as i32 {
        let at = x(10f64.powi(decade));
        let bottom = height - 14.0;
        let label = decade_label(decade);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{bottom}\"/>\
             <text class=\"dim\" text-anchor=\"middle\" x=\"{at:.1}\" \
             y=\"{}\">{label}</text>",
            height - 2.0
        );
    }
    for (i, (who, p50, p99, p999)) in rows.iter().enumerate() {
        let y = ROW * i as f64 + ROW / 2.0;
        let name = who.name();
        let _ = write!(
            svg,
            "<g class=\"{name}\"><title>p50 {} µs, p99 {} µs, p99.9 {} µs</title>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke-width=\"7\" \
             stroke-linecap=\"round\" opacity=\"0.45\"/>\
             <circle cx=\"{:.1}\" cy=\"{y}\" r=\"3.5\"/><circle cx=\"{:.1}\" cy=\"{y}\" \
             r=\"4.5\" fill=\"var(--card)\" stroke-width=\"2\"/></g>\
             <text class=\"dim\" x=\"0\" y=\"{}\">{name}</text>",
            number(*p50),
            number(*p99),
            number(*p999),
            x(*p50),
            x(*p999),
            x(*p99),
            x(*p50),
            y + 4.0
        );
    }
    svg.push_str("</svg>");
    svg
}

/// What each member of an ensemble used.
fn members(out: &mut String, lines: &[Line]) {
    let mut rows = String::new();
    for line in lines {
        for who in line.rounds.keys() {
            let Some(text) = by_member(line, *who) else { continue };
            let title = escape(&line.title);
            let _ = writeln!(rows, "<tr><td>{title}<td>{}<td>{text}</tr>", who.name());
        }
    }
    if !rows.is_empty() {
        let _ = write!(
            out,
            "<h2>CPU and resident memory of each member, the leader first</h2>\n\
             <div class=\"card scroll\"><table>\n{rows}</table></div>\n"
        );
    }
}

fn table(out: &mut String, lines: &[Line]) {
    out.push_str(
        "<h2>All figures</h2>\n<div class=\"card scroll\"><table><tr><th>load<th>server<th>/s\
         <th>ms in all<th>p50 µs<th>p99 µs<th>p99.9 µs<th>CPU µs/op<th>client<th>of ceiling\
         <th>of Apache<th>disturbed</tr>\n",
    );
    for line in lines.iter().filter(|line| !is_big(line)) {
        for (i, who) in line.rounds.keys().enumerate() {
            let title = if i == 0 { escape(&line.title) } else { String::new() };
            let class = if failed(line, *who) { " class=\"failed\"" } else { "" };
            let _ = write!(out, "<tr{class}><td>{title}<td>{}", who.name());
            for pointer in
                [RATE, "/total_ms", P50, "/latency/p99_us", P999, "/server_cpu_us_per_op"]
            {
                let cell = line.median(*who, pointer).map(number).unwrap_or_default();
                let _ = write!(out, "<td>{cell}");
            }
            let share = line.median(*who, "/client_share").map(|s| format!("{:.0} %", s * 100.0));
            let _ = write!(out, "<td>{}", share.unwrap_or_default());
            for to in [Contestant::Ceiling, Contestant::Apache] {
                let cell = line.ratio(*who, to, RATE).map(|r| format!("{}×", number(r)));
                let _ = write!(out, "<td>{}", cell.unwrap_or_default());
            }
            let rounds = line.rounds.get(who).map_or(0, Vec::len);
            let _ = writeln!(out, "<td>{} of {rounds}</tr>", disturbed(line, *who));
        }
    }
    out.push_str("</table></div>\n");
}

fn about(out: &mut String, json: &Json) {
    out.push_str("<h2>About this run</h2>\n<dl>");
    let machine = &json["machine"];
    for (name, value) in [
        ("command", &json["command"]),
        ("machine", &machine["cpu"]),
        ("cores", &machine["cores"]),
        ("memory, GiB", &machine["memory_gib"]),
        ("kernel", &machine["kernel"]),
        ("file system", &machine["file_system"]),
        ("took, s", &json["took_s"]),
    ] {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(out, "<dt>{name}<dd><code>{}</code>", escape(&text));
    }
    out.push_str(
        "</dl>\n<p>“Client” is the share of its core that the load generator used: below 100 % it \
         was not the limit. CPU is user and kernel time of the server process. A round is \
         disturbed if other processes used the machine or its disk meanwhile.</p>\n",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::cut_off;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let figures = json!({"round": 1, "ops_per_s": 1000, "client_share": 0.5,
            "server_cpu_us_per_op": 1.0,
            "latency": {"p50_us": 10.0, "p99_us": 100.0, "p999_us": 20000.0}});
        let big = json!({"round": 1, "start_ms": 500.0, "bytes_per_znode": 200.0});
        let line = |name: &str, title: &str, figures: &Json| Line {
            name: name.into(),
            title: title.into(),
            rounds: Contestant::ALL.map(|who| (who, vec![figures.clone()])).into(),
        };
        let lines = [line("set", "a < b", &figures), line("big", "big", &big)];
        let json = json!({"machine": {"cpu": "x<y", "cores": 2}, "failures": ["broke & burnt"]});
        let page = html(&json, &lines);
        assert!(page.contains("a &lt; b") && page.contains("broke &amp; burnt"));
        assert!(!page.contains("http") && !page.contains("<script"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.contains("goal ≥ 0.60 – met"), "ratio 1 to the ceiling");
        assert!(!page.contains("NaN") && !page.contains("inf"));
        let charts = page.split("<svg").skip(1).map(|part| part.split("</svg>").next().unwrap());
        let cut: Vec<String> = charts.flat_map(|svg| cut_off(svg, WIDTH)).collect();
        assert!(cut.is_empty() && page.contains("100 ms</text>"), "{cut:?}");
        let empty = Line { name: "x".into(), title: "x".into(), rounds: BTreeMap::new() };
        assert!(!html(&json, &[empty]).contains("NaN"));
    }
}
