//! Walks in slices between transactions, loading, and replay on top.

use crate::base::{Rng, Zxid};
use crate::tree::{ApplyMode, LoadError, NoSink, Tree};
use crate::wire::{AclBytes, PersistedStat};

use super::naive::{Naive, NaiveNode};
use super::workload::{Logged, Workload};
use super::{OPTIONS, create};

#[derive(Default)]
struct Taken {
    acls: Vec<(i64, Vec<u8>)>,
    nodes: Vec<(String, i64, NaiveNode)>,
}

fn take_acls(tree: &Tree) -> Taken {
    let acls = tree.acls_in_use().map(|(id, list)| (id, list.bytes().to_vec())).collect();
    Taken { acls, nodes: Vec::new() }
}

fn load(taken: &Taken) -> Tree {
    let mut loader = Tree::begin_load(OPTIONS);
    for (id, list) in &taken.acls {
        loader.acl(*id, AclBytes::parse(list).unwrap());
    }
    for (path, acl, node) in &taken.nodes {
        loader.node(path, node.data.as_deref(), *acl, &node.stat).unwrap();
    }
    loader.finish().unwrap()
}

fn step(walk: &mut crate::tree::Walk, tree: &mut Tree, max: usize, taken: &mut Taken) -> bool {
    walk.step(tree, max, &mut |r| {
        let data = r.data.map(<[u8]>::to_vec);
        let node = NaiveNode { data, acl: Vec::new(), stat: r.stat };
        taken.nodes.push((r.path.to_owned(), r.acl_id, node));
    })
}

/// One run: transactions, a walk with transactions in between (two walks overlapping), load,
/// replay, compare.
fn run(seed: u64) {
    let mut tree = Tree::new(OPTIONS);
    let mut work = Workload::new(seed, &tree, false);
    let mut rng = Rng::new(seed ^ 0xabcd);
    let mut log: Vec<Logged> = Vec::new();
    let advance = |tree: &mut Tree, work: &mut Workload, log: &mut Vec<Logged>, n: u64| {
        for _ in 0..n {
            let txn = work.next();
            txn.apply(tree, ApplyMode::Live, &mut NoSink);
            log.push(txn);
        }
    };
    advance(&mut tree, &mut work, &mut log, 50 + rng.below(300));
    let mut runs = Vec::new();
    let mut done = Vec::new();
    for _ in 0..2 {
        let (at, before) = (tree_at(&log), Naive::of(&tree));
        let taken = take_acls(&tree);
        runs.push((at, before, tree.begin_walk(Zxid(at)), taken));
        advance(&mut tree, &mut work, &mut log, rng.below(20));
    }
    while !runs.is_empty() {
        let pick = rng.below(runs.len() as u64) as usize;
        let run = &mut runs[pick];
        if step(&mut run.2, &mut tree, rng.below(400) as usize, &mut run.3) {
            let (at, before, walk, taken) = runs.swap_remove(pick);
            tree.end_walk(walk);
            done.push((at, before, taken));
        }
        let n = rng.below(6);
        advance(&mut tree, &mut work, &mut log, n);
    }
    for (at, before, taken) in done {
        let hint = format!("seed {seed} at {at}");
        check_complete(&before, &taken, &log, at, &hint);
        let mut copy = load(&taken);
        for txn in log.iter().filter(|txn| txn.header.zxid.0 > at) {
            txn.apply(&mut copy, ApplyMode::Replay, &mut NoSink);
        }
        work.model.assert_same(&Naive::of(&copy), &hint);
        assert_eq!(copy.digest(), tree.digest(), "{hint}");
    }
    work.model.check(&tree, &format!("seed {seed}"));
}

fn tree_at(log: &[Logged]) -> i64 {
    log.last().map_or(0, |txn| txn.header.zxid.0)
}

/// Nothing twice, nothing new, parents first, and nothing missing that lived all along.
fn check_complete(before: &Naive, taken: &Taken, log: &[Logged], at: i64, hint: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for (path, _, node) in &taken.nodes {
        assert!(node.stat.czxid <= at, "{hint} {path}");
        assert!(seen.insert(path.as_str()), "{hint}: {path} twice");
        if !path.is_empty() {
            let parent = &path[..path.rfind('/').unwrap()];
            assert!(seen.contains(parent), "{hint}: {path} before its parent");
        }
    }
    let mut now = Tree::new(OPTIONS);
    for txn in log {
        txn.apply(&mut now, ApplyMode::Live, &mut NoSink);
    }
    let now = Naive::of(&now);
    for (path, node) in &before.nodes {
        let survives = now.nodes.get(path).is_some_and(|n| n.stat.czxid == node.stat.czxid);
        let key = if path == "/" { "" } else { path };
        assert!(!survives || seen.contains(key), "{hint}: {path} is missing");
    }
}

#[test]
fn a_fuzzy_snapshot_and_the_log_give_the_live_tree() {
    for seed in 0..150 {
        run(seed);
    }
}

#[test]
fn a_quiet_snapshot_is_the_tree() {
    let mut tree = Tree::new(OPTIONS);
    let mut work = Workload::new(9, &tree, false);
    for _ in 0..300 {
        work.next().apply(&mut tree, ApplyMode::Live, &mut NoSink);
    }
    let mut taken = take_acls(&tree);
    let mut walk = tree.begin_walk(Zxid(work.zxid));
    while !step(&mut walk, &mut tree, 500, &mut taken) {}
    assert_eq!(taken.nodes.len(), work.model.nodes.len());
    work.model.check(&load(&taken), "loaded");
}

#[test]
fn corrupt_snapshots_are_refused() {
    let stat = PersistedStat::default();
    let mut loader = Tree::begin_load(OPTIONS);
    loader.node("", None, -1, &stat).unwrap();
    loader.node("/a", None, -1, &stat).unwrap();
    let mut refuse = |path: &str, acl| loader.node(path, None, acl, &stat).unwrap_err();
    assert_eq!(refuse("", -1), LoadError::Duplicate("/".into()));
    assert_eq!(refuse("/a", -1), LoadError::Duplicate("/a".into()));
    assert_eq!(refuse("/b/c", -1), LoadError::MissingParent("/b/c".into()));
    assert_eq!(refuse("/c", 5), LoadError::MissingAcl("/c".into(), 5));
    for bad in ["a", "a/b", "/a/", "//", "/a//b"] {
        assert_eq!(refuse(bad, -1), LoadError::MissingParent(bad.into()), "{bad:?}");
    }
}

#[test]
fn deleting_a_parent_that_a_snapshot_filled_too_early_takes_its_children() {
    let mut tree = Tree::new(OPTIONS);
    for (zxid, path) in [(1, "/a"), (2, "/a/b"), (3, "/a/b/c"), (4, "/a/d")] {
        create(&mut tree, zxid, path, b"x");
    }
    let before = Tree::new(OPTIONS).node_count();
    let txn = crate::wire::Txn::Delete { path: "/a" };
    let head = super::header(5, crate::wire::TxnType::Delete, 0);
    tree.apply(&head, &txn, ApplyMode::Replay, &mut NoSink);
    assert_eq!(tree.node_count(), before);
    assert!(tree.find(&tree.key("/a/b/c")).is_none());
    assert_eq!(tree.digest(), Naive::of(&tree).digest());
}
