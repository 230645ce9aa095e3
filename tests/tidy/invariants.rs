//! Rules that are checked wherever the state machines run: their number may only rise.

use super::source::{Source, find, package};

/// Rooms with state of their own, and how many `invariant!`s each has at least. A change that
/// adds some raises the number; no change lowers it.
const LEAST: &[(&str, usize)] = &[
    ("disk", 5),
    ("driver", 18),
    ("election", 3),
    ("front", 5),
    ("leader", 6),
    ("log", 10),
    ("peer", 5),
    ("replica", 50),
    ("session", 12),
    ("tree", 25),
    ("watch", 27),
];

/// The `invariant!`s in what is shipped of a room.
fn count(sources: &[Source], room: &str) -> usize {
    let inside = format!("src/{room}/");
    let sources = sources.iter().filter(|source| source.path.starts_with(&inside));
    sources.map(|source| find(&source.shipped_tokens(), &["invariant", "!", "("]).len()).sum()
}

#[test]
fn invariants_only_rise() {
    let sources = package();
    for &(room, least) in LEAST {
        let found = count(&sources, room);
        assert!(found >= least, "src/{room} has {found} `invariant!`s and had {least}: see LEAST");
    }
}

#[test]
fn invariants_are_counted() {
    let text = "fn f() { invariant!(a, \"b\"); }\n#[cfg(test)] mod t { fn g() { invariant!(c); } }";
    let sources = [Source::new("src/tree/x.rs", text), Source::new("src/log/x.rs", text)];
    assert_eq!(count(&sources, "tree"), 1);
}
