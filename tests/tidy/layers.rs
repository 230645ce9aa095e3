//! The layer rule: a module uses only what its row lists, and a row lists only lower layers, so
//! that nothing goes round in a circle. The table is the single source of truth;
//! `src/ARCHITECTURE.md` explains it.

use std::collections::BTreeSet;

use super::source::{CodePath, Problem, Source, Token, closing, package, paths, read, report};

/// A module, what it may use, and what it is for.
pub struct Row {
    pub module: &'static str,
    pub layer: u8,
    /// Decides only: reads no clock, opens no file, owns no socket (see `purity.rs`).
    pub is_pure: bool,
    pub uses: &'static [&'static str],
    /// One sentence.
    pub about: &'static str,
}

/// Everybody may use `base`, which no row repeats.
pub const ROWS: &[Row] = &[
    Row {
        module: "base",
        layer: 0,
        is_pure: true,
        uses: &[],
        about: "Newtypes, time that is handed in, randomness from a seed, maps in a fixed order.",
    },
    Row {
        module: "wire",
        layer: 1,
        is_pure: true,
        uses: &[],
        about: "Every byte layout and every offset into a record: clients, members, transactions.",
    },
    Row {
        module: "metrics",
        layer: 1,
        is_pure: true,
        uses: &[],
        about: "Counters, summaries and histograms.",
    },
    Row {
        module: "sys",
        layer: 1,
        is_pure: false,
        uses: &[],
        about: "The kernel side, and the only unsafe code: the ring, files, sockets, cores.",
    },
    Row {
        module: "quorum",
        layer: 2,
        is_pure: true,
        uses: &["wire"],
        about: "Members and their text form; which sets of them decide.",
    },
    Row {
        module: "auth",
        layer: 2,
        is_pure: true,
        uses: &["wire"],
        about: "Credentials to identities, and identities against ACLs.",
    },
    Row {
        module: "tree",
        layer: 2,
        is_pure: true,
        uses: &["wire"],
        about: "Znodes: applies committed transactions and answers reads.",
    },
    Row {
        module: "watch",
        layer: 2,
        is_pure: true,
        uses: &["wire"],
        about: "Which connections wait for which change of which path.",
    },
    Row {
        module: "session",
        layer: 2,
        is_pure: true,
        uses: &[],
        about: "Sessions, their passwords and when they expire.",
    },
    Row {
        module: "log",
        layer: 2,
        is_pure: true,
        uses: &["wire"],
        about: "Segments, snapshots, recovery and purging as decisions over bytes.",
    },
    Row {
        module: "pipeline",
        layer: 3,
        is_pure: true,
        uses: &["wire", "metrics", "auth", "tree", "watch"],
        about: "From a request to a transaction, and from a committed one to its reply.",
    },
    Row {
        module: "config",
        layer: 3,
        is_pure: true,
        uses: &["wire", "quorum"],
        about: "From the lines of zoo.cfg to checked settings, with one table of keys.",
    },
    Row {
        module: "election",
        layer: 3,
        is_pure: true,
        uses: &["wire", "quorum"],
        about: "Fast leader election: votes in, votes and a leader out.",
    },
    Row {
        module: "zab",
        layer: 3,
        is_pure: true,
        uses: &["wire", "metrics", "quorum", "log"],
        about: "Leader and learner: epochs, synchronization, proposals, the quorum of acks.",
    },
    Row {
        module: "disk",
        layer: 3,
        is_pure: false,
        uses: &["sys", "log"],
        about: "The log and the snapshots on real files.",
    },
    Row {
        module: "leader",
        layer: 4,
        is_pure: true,
        uses: &["wire", "auth", "tree", "session", "log", "pipeline"],
        about: "The work of a leader or a lone server: prepare, numbering, expiry, reaper.",
    },
    Row {
        module: "replica",
        layer: 5,
        is_pure: true,
        uses: &["wire", "metrics", "auth", "tree", "watch", "session", "log", "pipeline", "leader"],
        about: "The work of every server: clients and their order, apply, watches, replies.",
    },
    Row {
        module: "member",
        layer: 6,
        is_pure: true,
        uses: &[
            "wire", "metrics", "quorum", "session", "log", "election", "zab", "replica", "peer",
        ],
        about: "One server of an ensemble: its role, and what goes where below it.",
    },
    Row {
        module: "front",
        layer: 5,
        is_pure: true,
        uses: &[],
        about: "Client connections: framing, limits, back-pressure.",
    },
    Row {
        module: "peer",
        layer: 5,
        is_pure: true,
        uses: &["wire"],
        about: "Connections of members: framing, redial, bounded queues.",
    },
    Row {
        module: "admin",
        layer: 6,
        is_pure: false,
        uses: &["wire", "config", "quorum", "metrics", "tree", "session", "replica"],
        about: "Four-letter words and the admin server's pages.",
    },
    Row {
        module: "driver",
        layer: 7,
        is_pure: false,
        uses: &["metrics", "log", "disk", "replica", "member", "front", "peer", "admin"],
        about: "The one loop body: the order of inputs and effects, over ports to the outside.",
    },
    Row {
        module: "server",
        layer: 8,
        is_pure: false,
        uses: &[
            "wire", "config", "quorum", "metrics", "sys", "auth", "tree", "session", "log",
            "pipeline", "disk", "leader", "replica", "member", "front", "peer", "admin", "driver",
        ],
        about: "The real world: rings, threads, cores, start and end.",
    },
    Row {
        module: "sim",
        layer: 8,
        is_pure: false,
        uses: &[
            "wire", "config", "metrics", "auth", "tree", "session", "log", "pipeline", "disk",
            "leader", "replica", "member", "front", "peer", "admin", "driver", "quorum",
            "election",
        ],
        about: "The simulated world: virtual time, seeded faults, checkers.",
    },
    Row {
        module: "main",
        layer: 9,
        is_pure: false,
        uses: &["config", "sys", "server"],
        about: "The command line of `ringkeeper`.",
    },
];

pub fn row(module: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.module == module)
}

/// The module of a file below `src`, and how many modules deep the file itself is.
pub fn module_of(path: &str) -> Option<(&str, usize)> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = inside.split('/').filter(|part| *part != "mod").collect();
    match parts.as_slice() {
        ["lib"] => None,
        parts => Some((parts[0], parts.len())),
    }
}

/// The module of the crate that a path of the code leads to, if it leaves its own.
fn target<'a>(path: &CodePath<'a>, module: &str, depth: usize) -> Option<&'a str> {
    let target = match path.segments.as_slice() {
        ["crate" | "ringkeeper", target, ..] => *target,
        ["super" | "self", ..] => {
            let inner = usize::from(path.segments[0] == "self");
            let ups = path.segments[inner..].iter().take_while(|part| **part == "super").count();
            if ups < depth {
                return None;
            }
            path.segments.get(inner + ups).copied()?
        }
        _ => return None,
    };
    (target != module).then_some(target)
}

/// Modules that a file uses and may not: those that its row does not list, and in tests, which
/// put together what they need, those that are not lower.
fn forbidden_uses(source: &Source) -> Vec<Problem> {
    let Some((module, _)) = module_of(&source.path) else { return Vec::new() };
    let Some(row) = row(module) else { return Vec::new() };
    let is_lower = |used: &str| self::row(used).is_some_and(|used| used.layer < row.layer);
    let is_listed = |used: &str| used == "base" || row.uses.contains(&used);
    let shipped = uses(source, &source.shipped_tokens());
    let unlisted = shipped.into_iter().filter(|(used, _)| is_lower(used) && !is_listed(used));
    let anywhere = uses(source, &source.tokens());
    let upward = anywhere.into_iter().filter(|(used, _)| !is_lower(used));
    let problem = |(used, line)| {
        let what = format!(
            "`{module}` may not use `{used}`; move what both need down, or hand it in \
             (the table is in tests/tidy/layers.rs)"
        );
        source.problem(line, what)
    };
    unlisted.chain(upward).map(problem).collect()
}

/// The other modules that these tokens of a file name, with lines.
fn uses<'a>(source: &Source, tokens: &[Token<'a>]) -> Vec<(&'a str, usize)> {
    let Some((module, file_depth)) = module_of(&source.path) else { return Vec::new() };
    let inline = inline_modules(tokens);
    let depth_at = |at: usize| {
        file_depth + inline.iter().filter(|(open, close)| (*open..*close).contains(&at)).count()
    };
    let paths = paths(tokens).into_iter();
    paths.filter_map(|path| Some((target(&path, module, depth_at(path.at))?, path.line))).collect()
}

/// First and last token of each `mod x { … }`.
fn inline_modules(tokens: &[Token<'_>]) -> Vec<(usize, usize)> {
    let opens = tokens.windows(3).enumerate();
    opens
        .filter(|(_, window)| window[0].text == "mod" && window[2].text == "{")
        .map(|(at, _)| (at + 2, closing(tokens, at + 2)))
        .collect()
}

/// Grants of the table that no file needs: a row says what its module uses, not what it might.
fn unused_grants(sources: &[Source]) -> Vec<String> {
    let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
    for source in sources {
        if let Some((module, _)) = module_of(&source.path) {
            let names = uses(source, &source.shipped_tokens()).into_iter();
            used.extend(names.map(|(name, _)| (module, name)));
        }
    }
    let grants = ROWS.iter().flat_map(|row| row.uses.iter().map(move |name| (row.module, *name)));
    grants
        .filter(|grant| !used.contains(grant))
        .map(|(module, name)| format!("`{module}` may use `{name}` and does not"))
        .collect()
}

/// Rows that contradict themselves, modules without a row, rows without a module, and modules
/// that the architecture does not name.
fn table_problems(rows: &[Row], modules: &BTreeSet<&str>, architecture: &str) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows {
        for used in row.uses {
            match rows.iter().find(|other| other.module == *used) {
                None => found.push(format!("`{}` uses `{used}`, which has no row", row.module)),
                Some(other) if other.layer >= row.layer => {
                    found.push(format!("`{}` uses `{used}`, which is not lower", row.module));
                }
                Some(other) if row.is_pure && !other.is_pure => {
                    found.push(format!("`{}` is pure and uses `{used}`", row.module));
                }
                Some(_) => {}
            }
        }
        if !row.about.ends_with('.') {
            found.push(format!("`{}` has no sentence", row.module));
        }
        if !modules.contains(row.module) {
            found.push(format!("`{}` has a row and is no module", row.module));
        }
    }
    for module in modules {
        if !rows.iter().any(|row| row.module == *module) {
            found.push(format!("`{module}` has no row in tests/tidy/layers.rs"));
        }
        let names = [format!("`{module}`"), format!("`{module}/`"), format!("`{module}.rs`")];
        if !names.iter().any(|name| architecture.contains(name)) {
            found.push(format!("src/ARCHITECTURE.md does not name `{module}`"));
        }
    }
    found
}

#[test]
fn modules_use_lower_layers_only() {
    report(package().iter().flat_map(forbidden_uses).collect());
}

#[test]
fn every_module_has_a_row_and_is_explained() {
    let sources = package();
    let modules: BTreeSet<&str> =
        sources.iter().filter_map(|source| Some(module_of(&source.path)?.0)).collect();
    let found = table_problems(ROWS, &modules, &read("src/ARCHITECTURE.md"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_grant_is_needed() {
    let found = unused_grants(&package());
    assert!(found.is_empty(), "{found:#?}");
    let lone = [Source::new("src/front/conns.rs", "")];
    assert!(unused_grants(&lone).contains(&"`log` may use `wire` and does not".to_owned()));
}

#[test]
fn layer_rule_notices() {
    let lines = |path: &str, text: &str| -> Vec<usize> {
        forbidden_uses(&Source::new(path, text)).iter().map(|problem| problem.line).collect()
    };
    let grouped = "use crate::{base::Zxid,\nsys::{cpu, net},\nwire::Stat};";
    assert_eq!(lines("src/tree/store.rs", grouped), [2, 2]);
    assert_eq!(lines("src/wire/acl.rs", "fn f() {\n crate::tree::g();\n}"), [2]);
    assert_eq!(lines("src/wire/acl.rs", "use super::super::tree;\nuse super::tree;"), [1]);
    assert_eq!(lines("src/wire/mod.rs", "use super::tree;"), [1]);
    assert_eq!(lines("src/wire/acl.rs", "mod a {\n use super::super::op;\n}\n"), [0; 0]);
    assert_eq!(lines("src/wire/acl.rs", "// crate::tree\nf(\"crate::tree\");"), [0; 0]);
    assert_eq!(lines("src/main.rs", "use ringkeeper::tree::Tree;"), [1]);
    let tests = "#[cfg(test)]\nmod tests {\n use crate::auth::A;\n use crate::server::B;\n}";
    assert_eq!(lines("src/front/conns.rs", tests), [4]);
    assert_eq!(lines("src/front/conns.rs", "use crate::{auth, server};"), [1, 1]);
    assert_eq!(lines("src/disk/writer.rs", "use crate::{log::{self}, sys::file};"), [0; 0]);
}

#[test]
fn table_rule_notices() {
    let row = |module, layer, is_pure, uses| Row { module, layer, is_pure, uses, about: "A." };
    let rows = [
        row("low", 0, false, &[]),
        row("same", 1, false, &["same"]),
        row("pure", 1, true, &["low"]),
        row("lost", 1, false, &["nowhere"]),
    ];
    let modules = BTreeSet::from(["low", "same", "pure", "new"]);
    let found = table_problems(&rows, &modules, "`low` `same` `pure/`");
    assert_eq!(
        found,
        [
            "`same` uses `same`, which is not lower",
            "`pure` is pure and uses `low`",
            "`lost` uses `nowhere`, which has no row",
            "`lost` has a row and is no module",
            "`new` has no row in tests/tidy/layers.rs",
            "src/ARCHITECTURE.md does not name `new`",
        ]
    );
}
