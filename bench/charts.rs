//! `rk-bench charts`: drawings for documents, from the JSON of `rk-bench compare`: SVG files that
//! need no script, font or other file and can be read on light and on dark pages.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use lexopt::prelude::*;
use serde_json::Value as Json;

use crate::cli::value;
use crate::compare::{self, Line};
use crate::report::number;
use crate::servers::Contestant;
use crate::svg::{Anchor, Drawing};

const HELP: &str = "\
rk-bench charts FILE.json -o DIR

Draws what `rk-bench compare` measured (its compare.json):

  DIR/overview.svg   throughput, latency, memory and start beside Apache
  DIR/latency.svg    p50, p99 and p99.9 of every load

  -o, --out DIR      (.)
";

const RINGKEEPER: Contestant = Contestant::Ringkeeper;
const APACHE: Contestant = Contestant::Apache;

/// Runs `rk-bench charts`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let (mut file, mut out) = (None::<PathBuf>, PathBuf::from("."));
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Short('o') | Long("out") => out = value(parser, "out")?,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(());
            }
            Value(name) if file.is_none() => file = Some(name.into()),
            other => return Err(format!("{}; see rk-bench charts --help", other.unexpected())),
        }
    }
    let file = file.ok_or("which file? rk-bench charts FILE.json -o DIR")?;
    let say = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(&file).map_err(|e| say(&file, &e))?;
    let json: Json = serde_json::from_str(&text).map_err(|e| say(&file, &e))?;
    let lines = compare::lines_of(&json)
        .ok_or_else(|| format!("{}: this is not the JSON of `rk-bench compare`", file.display()))?;
    std::fs::create_dir_all(&out).map_err(|e| say(&out, &e))?;
    let charts = [("overview.svg", overview(&json, &lines)), ("latency.svg", latency(&lines))];
    let mut drawn = 0;
    for (name, drawing) in charts {
        let Some(drawing) = drawing else {
            eprintln!("rk-bench: {name} is not drawn: {} has no figures for it", file.display());
            continue;
        };
        let path = out.join(name);
        std::fs::write(&path, drawing.finish()).map_err(|e| say(&path, &e))?;
        println!("{}", path.display());
        drawn += 1;
    }
    if drawn == 0 { Err(format!("{} has nothing to draw", file.display())) } else { Ok(()) }
}

/// A group of bars in the overview.
struct Panel {
    title: &'static str,
    /// `{znodes}` stands for the size of the big tree.
    note: &'static str,
    /// Longer bars are better.
    higher: bool,
    /// Scenario, name on the chart, JSON pointer, unit.
    rows: &'static [(&'static str, &'static str, &'static str, Unit)],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    PerSecond,
    Micros,
    Millis,
    Bytes,
}

impl Unit {
    /// Three digits and a unit that suits them.
    fn show(self, value: f64) -> String {
        let (value, unit) = match self {
            Unit::PerSecond if value >= 1e6 => (value / 1e6, "M/s"),
            Unit::PerSecond if value >= 1e3 => (value / 1e3, "k/s"),
            Unit::PerSecond => (value, "/s"),
            Unit::Micros if value >= 1e6 => (value / 1e6, "s"),
            Unit::Micros if value >= 1e3 => (value / 1e3, "ms"),
            Unit::Micros => (value, "µs"),
            Unit::Millis if value >= 1e3 => (value / 1e3, "s"),
            Unit::Millis => (value, "ms"),
            Unit::Bytes => (value, "B"),
        };
        let digits = match value {
            v if v >= 99.95 => 0,
            v if v >= 9.995 => 1,
            _ => 2,
        };
        format!("{value:.digits$} {unit}")
    }
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Requests per second",
        note: "16 connections, pipelined; longer is better",
        higher: true,
        rows: &[
            ("get", "get", "/ops_per_s", Unit::PerSecond),
            ("set", "set", "/ops_per_s", Unit::PerSecond),
            ("create", "create", "/ops_per_s", Unit::PerSecond),
        ],
    },
    Panel {
        title: "Latency, 99th percentile",
        note: "64 clients, one request each; shorter is better",
        higher: false,
        rows: &[
            ("get-64x1", "get", "/latency/p99_us", Unit::Micros),
            ("set-64x1", "set", "/latency/p99_us", Unit::Micros),
            ("mixed-64x1", "90 % get", "/latency/p99_us", Unit::Micros),
        ],
    },
    Panel {
        title: "Memory",
        note: "resident, per znode of 100 bytes; shorter is better",
        higher: false,
        rows: &[("big", "per znode", "/bytes_per_znode", Unit::Bytes)],
    },
    Panel {
        title: "Start",
        note: "with {znodes}; shorter is better",
        higher: false,
        rows: &[("big", "first read", "/start_ms", Unit::Millis)],
    },
];

const WIDTH: f64 = 800.0;
const MARGIN: f64 = 24.0;
const GAP: f64 = 40.0;
const PANEL_WIDTH: f64 = (WIDTH - 2.0 * MARGIN - GAP) / 2.0;
const LABEL_WIDTH: f64 = 92.0;
const VALUE_WIDTH: f64 = 106.0;
const BAR: f64 = 15.0;
const GROUP: f64 = 2.0 * BAR + 14.0;
const HEAD: f64 = 56.0;

/// Throughput, latency, memory and start beside Apache; `None` without figures of both.
fn overview(json: &Json, lines: &[Line]) -> Option<Drawing> {
    let has = |panel: &Panel| panel.rows.iter().filter(|row| both(lines, row).is_some()).count();
    let panels: Vec<&Panel> = PANELS.iter().filter(|panel| has(panel) > 0).collect();
    if panels.is_empty() {
        return None;
    }
    let height_of = |pair: &[&Panel]| {
        let rows = pair.iter().map(|panel| has(panel)).max().unwrap_or(0);
        HEAD + GROUP * rows as f64 + 18.0
    };
    let height: f64 = 44.0 + panels.chunks(2).map(height_of).sum::<f64>() + 22.0;
    let mut drawing = Drawing::new(WIDTH, height, "Ringkeeper beside Apache ZooKeeper");
    legend(&mut drawing, &[RINGKEEPER, APACHE]);
    let mut top = 44.0;
    for pair in panels.chunks(2) {
        for (column, panel) in pair.iter().enumerate() {
            let left = MARGIN + column as f64 * (PANEL_WIDTH + GAP);
            bars(&mut drawing, panel, lines, left, top);
        }
        top += height_of(pair);
    }
    let text = |v: &Json| v.as_str().unwrap_or("?").to_owned();
    let machine = &json["machine"];
    let ensemble = match compare::members_of(json) {
        1 => String::new(),
        members => format!("ensembles of {members}; "),
    };
    let about = format!(
        "{ensemble}{} cores, {}, Linux {}; medians of {}",
        machine["cores"],
        text(&machine["cpu"]),
        text(&machine["kernel"]),
        if json["rounds"] == 1 {
            "1 round".to_owned()
        } else {
            format!("{} rounds", json["rounds"])
        },
    );
    drawing.text(MARGIN, height - 14.0, "dim", 11.0, Anchor::Start, &about);
    Some(drawing)
}

type Row = (&'static str, &'static str, &'static str, Unit);

/// The medians of Ringkeeper and Apache.
fn both(lines: &[Line], row: &Row) -> Option<(f64, f64)> {
    let line = lines.iter().find(|line| line.name == row.0)?;
    line.median(RINGKEEPER, row.2).zip(line.median(APACHE, row.2))
}

fn bars(drawing: &mut Drawing, panel: &Panel, lines: &[Line], left: f64, top: f64) {
    drawing.text(left, top + 16.0, "bold", 15.0, Anchor::Start, panel.title);
    let note = panel.note.replace("{znodes}", &znodes(lines));
    drawing.text(left, top + 34.0, "dim", 11.5, Anchor::Start, &note);
    let rows: Vec<_> = panel.rows.iter().filter_map(|row| Some((row, both(lines, row)?))).collect();
    let most = rows.iter().map(|(_, (r, a))| r.max(*a)).fold(f64::MIN_POSITIVE, f64::max);
    let room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    for (i, (row, (ours, theirs))) in rows.iter().enumerate() {
        let y = top + HEAD + GROUP * i as f64;
        drawing.text(left, y + BAR + 4.0, "ink", 12.5, Anchor::Start, row.1);
        for (nth, who, value) in [(0.0, RINGKEEPER, *ours), (1.0, APACHE, *theirs)] {
            let at = y + nth * (BAR + 1.0);
            let width = (value / most * room).max(1.5);
            drawing.bar(left + LABEL_WIDTH, at, width, BAR, who.name());
            let times = if panel.higher { ours / theirs } else { theirs / ours };
            let mut text = row.3.show(value);
            if who == RINGKEEPER {
                text = format!("{text} ({}×)", times_of(times));
            }
            let x = left + LABEL_WIDTH + width + 6.0;
            let class = if who == RINGKEEPER { "ink" } else { "dim" };
            drawing.text(x, at + BAR - 3.5, class, 11.5, Anchor::Start, &text);
        }
    }
}

/// The size of the big tree, from the beginning of its line's title: `1000000 znodes: …`.
fn znodes(lines: &[Line]) -> String {
    let big = lines.iter().find(|line| line.name == "big");
    let count = big.and_then(|line| line.title.split(' ').next()?.parse::<f64>().ok());
    count.map_or_else(|| "many znodes".to_owned(), |count| format!("{} znodes", number(count)))
}

/// How many times better, with two digits at least.
fn times_of(times: f64) -> String {
    match times {
        t if t >= 9.95 => format!("{times:.0}"),
        t if t >= 0.995 => format!("{times:.1}"),
        _ => format!("{times:.2}"),
    }
}

fn legend(drawing: &mut Drawing, servers: &[Contestant]) {
    let mut x = MARGIN;
    for who in servers {
        let name = match who {
            Contestant::Ringkeeper => "Ringkeeper",
            Contestant::Ceiling => "ceiling of this machine",
            Contestant::Apache => "Apache ZooKeeper",
        };
        drawing.bar(x, 16.0, 12.0, 12.0, who.name());
        x = drawing.text(x + 18.0, 26.0, "ink", 12.5, Anchor::Start, name) + 22.0;
    }
}

const LOAD_WIDTH: f64 = 232.0;
const LANE: f64 = 15.0;

/// p50, p99 and p99.9 of every load on one logarithmic axis; `None` without latencies.
fn latency(lines: &[Line]) -> Option<Drawing> {
    let at = |line: &Line, who: Contestant, name: &str| {
        line.median(who, &format!("/latency/{name}_us")).map(|us| us.max(1.0))
    };
    let lanes = |line: &Line| -> Vec<(Contestant, [f64; 3])> {
        let one = |who: &Contestant| {
            let p50 = at(line, *who, "p50")?;
            Some((*who, [p50, at(line, *who, "p99")?, at(line, *who, "p999")?]))
        };
        // A storm is no request: its time is until the last session is served.
        let is_load = line.rounds.keys().any(|who| line.median(*who, "/client_share").is_some())
            && !line.rounds.keys().any(|who| line.median(*who, "/total_ms").is_some());
        if is_load { line.rounds.keys().filter_map(one).collect() } else { Vec::new() }
    };
    let loads: Vec<_> =
        lines.iter().map(|line| (line, lanes(line))).filter(|(_, l)| !l.is_empty()).collect();
    let all = || loads.iter().flat_map(|(_, lanes)| lanes.iter());
    let least = all().map(|(_, p)| p[0]).reduce(f64::min)?.log10().floor();
    let most = all().map(|(_, p)| p[2]).fold(1.0, f64::max).log10().ceil().max(least + 1.0);
    let height_of = |count: usize| LANE * count as f64 + 14.0;
    let body: f64 = loads.iter().map(|(_, lanes)| height_of(lanes.len())).sum();
    let (top, height) = (84.0, 84.0 + body + 34.0);
    let mut drawing = Drawing::new(WIDTH, height, "Latency beside Apache ZooKeeper");
    let servers: Vec<Contestant> =
        Contestant::ALL.into_iter().filter(|who| all().any(|(w, _)| w == who)).collect();
    legend(&mut drawing, &servers);
    let note = "Logarithmic; further left is better. From the median (ring) over the 99th \
                percentile (dot) to the 99.9th.";
    drawing.text(MARGIN, 52.0, "dim", 11.5, Anchor::Start, note);
    // The last label is centred on the last line, so half of the label stands to its right.
    let span = WIDTH - 2.0 * MARGIN - LOAD_WIDTH - 8.0;
    let x = |us: f64| MARGIN + LOAD_WIDTH + (us.log10() - least) / (most - least) * span;
    for decade in least as i32..=most as i32 {
        let at = x(10f64.powi(decade));
        drawing.line((at, top - 6.0), (at, top + body), "axis");
        for y in [top - 11.0, top + body + 16.0] {
            drawing.text(at, y, "dim", 11.0, Anchor::Middle, &decade_label(decade));
        }
    }
    let mut y = top;
    for (line, lanes) in &loads {
        let middle = y + LANE * lanes.len() as f64 / 2.0 + 4.0;
        drawing.text(MARGIN, middle, "ink", 12.0, Anchor::Start, &line.title);
        for (nth, (who, [p50, p99, p999])) in lanes.iter().enumerate() {
            let at = y + LANE * (nth as f64 + 0.5);
            drawing.span((x(*p50), x(*p99), x(*p999)), at, who.name());
        }
        y += height_of(lanes.len());
    }
    Some(drawing)
}

/// A power of ten of microseconds, in the unit that suits it.
pub fn decade_label(decade: i32) -> String {
    match decade {
        6.. => format!("{} s", 10f64.powi(decade - 6)),
        3..=5 => format!("{} ms", 10f64.powi(decade - 3)),
        _ => format!("{} µs", 10f64.powi(decade)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::cut_off;
    use serde_json::json;

    fn results() -> Json {
        let load = |rate: u64, p999: f64| {
            json!([{"round": 1, "ops_per_s": rate, "client_share": 0.5,
                "latency": {"p50_us": 70.0, "p99_us": 900.0, "p999_us": p999}}])
        };
        let loads = |title: &str| {
            json!({"title": title, "rounds": {
                "ringkeeper": load(3_152_512, 3_000.0),
                "ceiling": load(5_402_048, 1_000.0),
                "apache": load(83_628, 99_999.0),
            }})
        };
        let big =
            |bytes: f64, ms: f64| json!([{"round": 1, "bytes_per_znode": bytes, "start_ms": ms}]);
        json!({
            "machine": {"cpu": "A < B", "cores": 2, "kernel": "6.18"},
            "rounds": 3,
            "results": {
                "get": loads("pipelined get, 16 × 64"),
                "set": loads("pipelined set, 16 × 64"),
                "get-64x1": loads("64 clients, one get at a time each"),
                "big": {"title": "1000000 znodes: memory, start", "rounds": {
                    "ringkeeper": big(217.0, 741.0), "apache": big(1497.0, 4598.0)}},
            }
        })
    }

    #[test]
    fn charts_show_everything_and_cut_nothing_off() {
        let json = results();
        let lines = compare::lines_of(&json).unwrap();
        let overview = overview(&json, &lines).unwrap().finish();
        for text in ["3.15 M/s (38×)", "83.6 k/s", "217 B (6.9×)", "4.60 s", "A &lt; B", "3 rounds"]
        {
            assert!(overview.contains(text), "{text} is not in {overview}");
        }
        assert!(overview.contains("1\u{2009}000\u{2009}000 znodes"), "{overview}");
        let latency = latency(&lines).unwrap().finish();
        assert!(latency.contains("100 ms") && latency.contains("10 µs"), "{latency}");
        assert!(!latency.contains("memory"), "{latency}");
        for svg in [overview, latency] {
            assert_eq!(cut_off(&svg, WIDTH), Vec::<String>::new());
            assert!(svg.contains("prefers-color-scheme: dark"));
            assert!(!svg.contains("NaN") && !svg.contains("<script"));
        }
    }

    #[test]
    fn without_figures_nothing_is_drawn() {
        let mut json = results();
        json["results"] = json!({});
        let lines = compare::lines_of(&json).unwrap();
        assert!(overview(&json, &lines).is_none() && latency(&lines).is_none());
        assert!(compare::lines_of(&json!({"x": 1})).is_none());
    }

    #[test]
    fn units_suit_their_values() {
        for (unit, value, text) in [
            (Unit::PerSecond, 999.0, "999 /s"),
            (Unit::PerSecond, 12_345.0, "12.3 k/s"),
            (Unit::Micros, 999.6, "1000 µs"),
            (Unit::Micros, 37_224.0, "37.2 ms"),
            (Unit::Millis, 741.0, "741 ms"),
            (Unit::Bytes, 217.4, "217 B"),
        ] {
            assert_eq!(unit.show(value), text);
        }
        assert_eq!((decade_label(1), decade_label(5)), ("10 µs".into(), "100 ms".into()));
    }
}
