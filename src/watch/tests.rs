//! The registries against a naive model, and one table row per rule of the trigger table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, WatchKind, WatchMode, WatchSummary, Watches};
use crate::base::{ConnId, PathHasher, Rng};
use crate::wire::EventType;

use Change::{Created, DataChanged, Deleted};
use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use WatchMode::{Child, Data, Persistent, Recursive};

type Frame = (u64, EventType, String);
type Fire<'a> = (Change, &'a str, &'a [(u64, EventType, &'a str)]);

const MODES: [WatchMode; 4] = [Data, Child, Persistent, Recursive];
const KINDS: [WatchKind; 5] = [
    WatchKind::Children,
    WatchKind::Data,
    WatchKind::Any,
    WatchKind::Persistent,
    WatchKind::PersistentRecursive,
];

/// One server's watches with short spellings.
struct Bench {
    hasher: PathHasher,
    watches: Watches,
}

impl Bench {
    fn new() -> Bench {
        Bench { hasher: PathHasher::new(99), watches: Watches::new() }
    }

    fn add(&mut self, conn: u64, path: &str, mode: WatchMode) {
        self.watches.add(ConnId(conn), &self.hasher.key(path), mode);
    }

    fn check(&self, conn: u64, path: &str, kind: WatchKind) -> bool {
        self.watches.check(ConnId(conn), &self.hasher.key(path), kind)
    }

    fn remove(&mut self, conn: u64, path: &str, kind: WatchKind) -> bool {
        self.watches.remove(ConnId(conn), &self.hasher.key(path), kind)
    }

    fn fire(&mut self, change: Change, path: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.watches.fire(change, &self.hasher.key(path), &self.hasher, &mut |conn, event, p| {
            frames.push((conn.0, event, p.to_string()));
        });
        frames
    }
}

/// Runs the changes and compares all frames with (connection, event, path).
fn expect(adds: &[(u64, &str, WatchMode)], fires: &[Fire]) {
    let mut bench = Bench::new();
    for &(conn, path, mode) in adds {
        bench.add(conn, path, mode);
    }
    for (i, &(change, path, frames)) in fires.iter().enumerate() {
        let want: Vec<Frame> = frames.iter().map(|&(c, e, p)| (c, e, p.to_string())).collect();
        assert_eq!(bench.fire(change, path), want, "fire {i}: {change:?} {path}, {adds:?}");
        bench.watches.check_invariants();
    }
}

#[test]
fn one_shots_fire_once_and_share_a_flag() {
    // Traps 66, 67: exists and getData are one watch.
    expect(
        &[(1, "/a", Data), (1, "/a", Data)],
        &[
            (DataChanged, "/a", &[(1, NodeDataChanged, "/a")]),
            (DataChanged, "/a", &[]),
            (Deleted, "/a", &[]),
        ],
    );
    expect(&[(1, "/a", Data)], &[(Created, "/a", &[(1, NodeCreated, "/a")])]);
}

#[test]
fn one_deletion_frame_for_data_and_child_watch() {
    // Trap 68; the child watch is used up all the same.
    expect(
        &[(1, "/a", Data), (1, "/a", Child), (2, "/a", Child)],
        &[
            (Deleted, "/a", &[(1, NodeDeleted, "/a"), (2, NodeDeleted, "/a")]),
            (Created, "/a", &[]),
            (Created, "/a/b", &[]),
        ],
    );
    // A recursive ancestor counts as notified by the data registry.
    expect(
        &[(1, "/", Recursive), (1, "/a", Child)],
        &[
            (Deleted, "/a", &[(1, NodeDeleted, "/a")]),
            (Created, "/a/b", &[(1, NodeCreated, "/a/b")]),
        ],
    );
}

#[test]
fn children_changed_for_direct_children_only() {
    // Trap 69, and the root as a parent.
    expect(
        &[(1, "/a", Child), (2, "/", Child)],
        &[
            (DataChanged, "/a/b", &[]),
            (DataChanged, "/a", &[]),
            (Created, "/a/b/c", &[]),
            (Created, "/a/b", &[(1, NodeChildrenChanged, "/a")]),
            (Deleted, "/a/b", &[]),
            (Deleted, "/x", &[(2, NodeChildrenChanged, "/")]),
        ],
    );
}

#[test]
fn order_is_data_child_parent() {
    expect(
        &[(3, "/a", Child), (2, "/a/b", Child), (1, "/a/b", Data), (1, "/a", Child)],
        &[(
            Deleted,
            "/a/b",
            &[
                (1, NodeDeleted, "/a/b"),
                (2, NodeDeleted, "/a/b"),
                (3, NodeChildrenChanged, "/a"),
                (1, NodeChildrenChanged, "/a"),
            ],
        )],
    );
}

#[test]
fn recursive_watches_report_the_changed_path_once() {
    // Trap 70: several watched ancestors, one frame, never NodeChildrenChanged.
    expect(
        &[(1, "/", Recursive), (1, "/a", Recursive), (1, "/a/b", Recursive), (2, "/a", Recursive)],
        &[
            (Created, "/a/b", &[(1, NodeCreated, "/a/b"), (2, NodeCreated, "/a/b")]),
            (DataChanged, "/a", &[(1, NodeDataChanged, "/a"), (2, NodeDataChanged, "/a")]),
            (Deleted, "/a/b/c", &[(1, NodeDeleted, "/a/b/c"), (2, NodeDeleted, "/a/b/c")]),
            (Created, "/ab", &[(1, NodeCreated, "/ab")]),
            (DataChanged, "/", &[(1, NodeDataChanged, "/")]),
        ],
    );
    // Both kinds of event for a connection with both kinds of watch.
    expect(
        &[(1, "/a", Recursive), (1, "/a", Child)],
        &[(Created, "/a/b", &[(1, NodeCreated, "/a/b"), (1, NodeChildrenChanged, "/a")])],
    );
}

#[test]
fn persistent_watches_stay() {
    // Trap 71.
    let created: &[(u64, EventType, &str)] = &[(1, NodeCreated, "/a")];
    expect(
        &[(1, "/a", Persistent)],
        &[
            (Created, "/a", created),
            (DataChanged, "/a", &[(1, NodeDataChanged, "/a")]),
            (Created, "/a/b", &[(1, NodeChildrenChanged, "/a")]),
            (DataChanged, "/a/b", &[]),
            (Deleted, "/a/b", &[(1, NodeChildrenChanged, "/a")]),
            (Deleted, "/a", &[(1, NodeDeleted, "/a")]),
            (Created, "/a", created),
        ],
    );
}

#[test]
fn modes_are_independent() {
    // Trap 72: one frame for all modes, and only the one-shots go.
    let mut bench = Bench::new();
    for mode in MODES {
        bench.add(1, "/a", mode);
    }
    assert_eq!(bench.fire(DataChanged, "/a").len(), 1);
    for (kind, left) in KINDS.into_iter().zip([true, false, true, true, true]) {
        assert_eq!(bench.check(1, "/a", kind), left, "{kind:?}");
    }
    assert_eq!(bench.fire(Created, "/a/b").len(), 2);
    assert!(!bench.check(1, "/a", WatchKind::Children));
    assert!(bench.remove(1, "/a", WatchKind::Persistent));
    assert!(bench.check(1, "/a", WatchKind::PersistentRecursive));
    assert!(bench.remove(1, "/a", WatchKind::Any));
    assert!(!bench.remove(1, "/a", WatchKind::Any));
    assert_eq!(bench.watches.count(), 0);
}

#[test]
fn removal_touches_the_asking_connection_only() {
    // Traps 75, 76.
    let mut bench = Bench::new();
    bench.add(1, "/a", Data);
    bench.add(2, "/a", Data);
    assert!(!bench.remove(1, "/a", WatchKind::Children));
    assert!(!bench.remove(3, "/a", WatchKind::Any));
    assert!(!bench.remove(1, "/b", WatchKind::Any));
    assert!(bench.remove(1, "/a", WatchKind::Any));
    assert!(bench.check(2, "/a", WatchKind::Data));
    bench.watches.drop_conn(ConnId(2));
    bench.watches.drop_conn(ConnId(7));
    assert_eq!(bench.fire(DataChanged, "/a"), []);
    bench.watches.check_invariants();
}

#[test]
fn odd_paths_are_literal() {
    // addWatch checks nothing; "" is not "/" here, as in the reference.
    let mut bench = Bench::new();
    for path in ["", "a", "/a/", "//", "/ü/x"] {
        bench.add(1, path, Recursive);
        assert!(bench.check(1, path, WatchKind::Any), "{path:?}");
    }
    assert_eq!(bench.fire(DataChanged, "/"), []);
    assert_eq!(bench.fire(Created, "/a"), []);
    assert_eq!(bench.fire(Created, "/ü/x/y").len(), 1);
    assert_eq!(bench.watches.summary().paths, 5);
}

#[test]
fn summary_covers_the_data_registry_only() {
    let mut bench = Bench::new();
    bench.add(1, "/a", Child);
    bench.add(1, "/b", Data);
    bench.add(2, "/b", Persistent);
    bench.add(2, "/b", Data);
    let want = WatchSummary { connections: 2, paths: 1, watches: 2 };
    assert_eq!(bench.watches.summary(), want);
    assert_eq!(bench.watches.count(), 4);
}

#[test]
fn kinds_from_the_wire() {
    for (value, kind) in (1..).zip(KINDS.map(|k| k as i32)) {
        assert_eq!(value, kind);
        assert_eq!(WatchKind::from_wire(value).map(|k| k as i32), Some(value));
    }
    for value in [0, 6, -1, i32::MAX] {
        assert_eq!(WatchKind::from_wire(value), None);
    }
}

#[test]
fn a_herd_on_one_path_is_linear() {
    let mut bench = Bench::new();
    for round in 0..3 {
        for conn in 0..100_000u64 {
            bench.add(conn, "/leader", Data);
            bench.add(conn, "/leader", if round == 1 { Persistent } else { Child });
        }
        assert_eq!(bench.fire(Deleted, "/leader").len(), 100_000, "round {round}");
        if round == 1 {
            for conn in 0..100_000u64 {
                bench.watches.drop_conn(ConnId(conn * 7919 % 100_000));
            }
        }
        assert_eq!(bench.watches.count(), 0, "round {round}");
        assert!(bench.watches.paths.is_empty(), "round {round}");
    }
}

#[test]
fn lists_of_a_busy_connection_stay_short() {
    let mut bench = Bench::new();
    bench.add(1, "/keep", Data);
    bench.add(2, "/hot", Persistent);
    for i in 0..10_000u32 {
        bench.add(1, "/hot", Data);
        assert_eq!(bench.fire(DataChanged, "/hot").len(), 2);
        bench.add(1, &format!("/n{i}"), Data);
        assert_eq!(bench.fire(Created, &format!("/n{i}")).len(), 1);
    }
    assert!(bench.watches.longest_list() <= 16, "{}", bench.watches.longest_list());
    bench.watches.check_invariants();
}

/// The specification in sets.
#[derive(Default)]
struct Model(BTreeSet<(u64, String, u8)>);

impl Model {
    fn at(&self, path: &str, modes: &[WatchMode]) -> BTreeSet<u64> {
        let wanted = |m: u8| modes.iter().any(|&mode| mode as u8 == m);
        self.0.iter().filter(|(_, p, m)| p == path && wanted(*m)).map(|w| w.0).collect()
    }

    fn consume(&mut self, path: &str, mode: WatchMode) {
        self.0.retain(|(_, p, m)| p != path || *m != mode as u8);
    }

    /// Groups of connections in the order of their frames.
    fn fire(&mut self, change: Change, path: &str) -> Vec<(EventType, String, BTreeSet<u64>)> {
        let event = match change {
            Created => NodeCreated,
            Deleted => NodeDeleted,
            DataChanged => NodeDataChanged,
        };
        let parent = match path.rfind('/') {
            Some(0) => "/",
            Some(at) => &path[..at],
            None => unreachable!(),
        };
        let mut data = self.at(path, &[Data, Persistent, Recursive]);
        for (at, _) in path.match_indices('/') {
            data.extend(self.at(if at == 0 { "/" } else { &path[..at] }, &[Recursive]));
        }
        self.consume(path, Data);
        let mut groups = vec![(event, path.to_string(), data.clone())];
        if change == Deleted {
            let child = self.at(path, &[Child, Persistent]).difference(&data).copied().collect();
            self.consume(path, Child);
            groups.push((event, path.to_string(), child));
        }
        if change != DataChanged && path != "/" {
            let members = self.at(parent, &[Child, Persistent]);
            self.consume(parent, Child);
            groups.push((NodeChildrenChanged, parent.to_string(), members));
        }
        groups
    }

    fn registry(&self, modes: &[WatchMode]) -> BTreeSet<(u64, &str)> {
        let wanted = |m: u8| modes.iter().any(|&mode| mode as u8 == m);
        self.0.iter().filter(|w| wanted(w.2)).map(|w| (w.0, w.1.as_str())).collect()
    }
}

fn compare_views(seed: u64, bench: &Bench, model: &Model) {
    let data = model.registry(&[Data, Persistent, Recursive]);
    let child = model.registry(&[Child, Persistent]);
    let summary = WatchSummary {
        connections: data.iter().map(|w| w.0).collect::<BTreeSet<_>>().len(),
        paths: data.iter().map(|w| w.1).collect::<BTreeSet<_>>().len(),
        watches: data.len(),
    };
    assert_eq!(bench.watches.summary(), summary, "seed {seed}");
    assert_eq!(bench.watches.count(), data.len() + child.len(), "seed {seed}");
    let (mut conns, mut paths) = (BTreeMap::new(), BTreeMap::new());
    bench.watches.visit_conns(&mut |conn, list: &[&str]| {
        assert!(!list.is_empty(), "seed {seed}");
        conns.insert(conn.0, list.iter().map(std::string::ToString::to_string).collect::<Vec<_>>());
    });
    bench.watches.visit_paths(&mut |path, list| {
        assert!(!list.is_empty(), "seed {seed}");
        paths.insert(path.to_string(), list.to_vec());
    });
    let pairs: Vec<_> =
        conns.iter().flat_map(|(c, list)| list.iter().map(|p| (*c, p.as_str()))).collect();
    assert_eq!(pairs.len(), data.len(), "seed {seed}");
    assert_eq!(pairs.into_iter().collect::<BTreeSet<_>>(), data, "seed {seed}");
    let pairs: Vec<_> =
        paths.iter().flat_map(|(p, list)| list.iter().map(|c| (c.0, p.as_str()))).collect();
    assert_eq!(pairs.len(), data.len(), "seed {seed}");
    assert_eq!(pairs.into_iter().collect::<BTreeSet<_>>(), data, "seed {seed}");
    bench.watches.check_invariants();
}

fn random_path(rng: &mut Rng, breadth: u64) -> String {
    let mut path = String::new();
    for _ in 0..rng.below(4) {
        path.push_str(&format!("/{}", rng.below(breadth)));
    }
    if path.is_empty() { "/".to_string() } else { path }
}

fn run_model(seed: u64) {
    let mut rng = Rng::new(seed);
    let (mut bench, mut model) = (Bench::new(), Model::default());
    let conns = [2, 5, 40, 600][(seed % 4) as usize];
    let breadth = 1 + seed % 3;
    for step in 0..1500 {
        let conn = rng.below(conns) + 1;
        let path = random_path(&mut rng, breadth);
        bench.watches.check_next();
        match rng.below(20) {
            0..12 => {
                let mode = MODES[rng.below(4) as usize];
                bench.add(conn, &path, mode);
                model.0.insert((conn, path, mode as u8));
            }
            12..14 => {
                let kind = KINDS[rng.below(5) as usize];
                let modes: &[WatchMode] = match kind {
                    WatchKind::Children => &[Child],
                    WatchKind::Data => &[Data],
                    WatchKind::Any => &MODES,
                    WatchKind::Persistent => &[Persistent],
                    WatchKind::PersistentRecursive => &[Recursive],
                };
                let had = model.at(&path, modes).contains(&conn);
                assert_eq!(bench.check(conn, &path, kind), had, "seed {seed} step {step}");
                if rng.chance(1, 2) {
                    assert_eq!(bench.remove(conn, &path, kind), had, "seed {seed} step {step}");
                    for &mode in modes {
                        model.0.remove(&(conn, path.clone(), mode as u8));
                    }
                }
            }
            14 => {
                bench.watches.drop_conn(ConnId(conn));
                model.0.retain(|w| w.0 != conn);
            }
            _ => {
                let change = [Created, Deleted, DataChanged][rng.below(3) as usize];
                let frames = bench.fire(change, &path);
                let mut rest = &frames[..];
                for (event, path, members) in model.fire(change, &path) {
                    let (group, tail) = rest.split_at(members.len().min(rest.len()));
                    let got: BTreeSet<u64> = group.iter().map(|f| f.0).collect();
                    assert_eq!(got, members, "seed {seed} step {step} {event:?} {path}");
                    assert!(group.iter().all(|f| f.1 == event && f.2 == path), "seed {seed}");
                    rest = tail;
                }
                assert_eq!(rest, [], "seed {seed} step {step}");
            }
        }
        if step % 250 == 249 {
            compare_views(seed, &bench, &model);
        }
    }
    for conn in 0..=conns {
        bench.watches.drop_conn(ConnId(conn));
    }
    compare_views(seed, &bench, &Model::default());
    assert!(bench.watches.paths.is_empty(), "seed {seed}");
}

#[test]
fn agrees_with_the_model() {
    for seed in 0..120 {
        run_model(seed);
    }
}

/// Recursive watches on paths of all lengths come and go, mostly few at a time; every event must
/// reach each watcher of its ancestors, and no look-up is for a path longer than any watched one.
#[test]
fn no_recursive_watch_is_too_long_to_be_found() {
    let mut path = String::new();
    let mut nested = vec!["/".to_string()];
    for length in [1, 30, 2, 100, 1, 60, 3, 500] {
        path.push('/');
        path.push_str(&"\u{fc}".repeat(length));
        nested.push(path.clone());
    }
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let (mut bench, mut model) = (Bench::new(), Model::default());
        let (conns, adds) = (1 + seed % 4, [3, 5, 8][(seed % 3) as usize]);
        for step in 0..400 {
            let (conn, path) = (rng.below(conns), &nested[rng.below(9) as usize]);
            match rng.below(10) {
                choice if choice < adds => {
                    let mode = if rng.chance(3, 4) { Recursive } else { Data };
                    bench.add(conn, path, mode);
                    model.0.insert((conn, path.clone(), mode as u8));
                }
                9 => {
                    bench.watches.drop_conn(ConnId(conn));
                    model.0.retain(|w| w.0 != conn);
                }
                _ => {
                    let had = model.0.remove(&(conn, path.clone(), Recursive as u8));
                    assert_eq!(bench.remove(conn, path, WatchKind::PersistentRecursive), had);
                }
            }
            let recursive = model.0.iter().filter(|w| w.2 == Recursive as u8);
            let longest = recursive.map(|w| w.1.len()).max();
            let bound = bench.watches.longest_recursive;
            assert!(bound >= longest.unwrap_or(0), "seed {seed} step {step}: {bound} bytes");
            assert!(longest.is_some() || bound == 0, "seed {seed} step {step}: {bound} bytes");
            let changed = format!("{}/x", nested[1 + rng.below(8) as usize]);
            let told: BTreeSet<u64> = bench.fire(Created, &changed).iter().map(|f| f.0).collect();
            let groups = model.fire(Created, &changed);
            let expected: BTreeSet<u64> = groups.into_iter().flat_map(|group| group.2).collect();
            assert_eq!(told, expected, "seed {seed} step {step}");
        }
    }
}
