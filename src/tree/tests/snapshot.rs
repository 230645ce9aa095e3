//! Walks in slices between transactions, loading, and replay on top.

use crate::base::{Rng, Zxid};
use crate::tree::{ApplyMode, LoadError, NoSink, Tree, Walk};
use crate::wire::{AclBytes, CreateTxn, PersistedStat, SetAclTxn, Txn, TxnType};

use super::naive::{Naive, NaiveNode};
use super::workload::{Logged, Workload};
use super::{OPTIONS, create};

#[derive(Default)]
struct Taken {
    acls: Vec<(i64, Vec<u8>)>,
    /// Path, ACL in the snapshot, and the node as it was in the tree.
    nodes: Vec<(String, i64, NaiveNode)>,
}

fn begin(tree: &mut Tree, at: i64) -> (Walk, Taken) {
    let walk = tree.begin_walk(Zxid(at));
    let acls = tree.acls_of_walk(&walk);
    let acls = acls.into_iter().map(|(id, list)| (id, list.bytes().to_vec())).collect();
    (walk, Taken { acls, nodes: Vec::new() })
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

fn acl_of<'a>(tree: &'a Tree, path: &str) -> &'a [u8] {
    let key = tree.key(if path.is_empty() { "/" } else { path });
    tree.acls().bytes(tree.acl(tree.find(&key).unwrap())).bytes()
}

fn step(walk: &mut Walk, tree: &mut Tree, max: usize, taken: &mut Taken) -> bool {
    let before = taken.nodes.len();
    let done = walk.step(tree, max, &mut |r| {
        let data = r.data.map(<[u8]>::to_vec);
        let node = NaiveNode { data, acl: Vec::new(), stat: r.stat };
        taken.nodes.push((r.path.to_owned(), r.acl_id, node));
    });
    for (path, _, node) in &mut taken.nodes[before..] {
        node.acl = acl_of(tree, path).to_vec();
    }
    done
}

/// Without the log, each node has the ACL that it had when it was written, or one that grants
/// nothing. How many have the latter although it was not theirs.
fn check_acls(taken: &Taken, hint: &str) -> usize {
    let alone = load(taken);
    let mut closed = 0;
    for (path, _, node) in &taken.nodes {
        let found = acl_of(&alone, path);
        if found != node.acl {
            assert_eq!(found, AclBytes::NOTHING.bytes(), "{hint} {path}");
            closed += 1;
        }
    }
    closed
}

/// One run: transactions, a walk with transactions in between (two walks overlapping), load,
/// replay, compare. How many nodes a snapshot closed because their ACL was too young for it.
fn run(seed: u64) -> usize {
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
        let (walk, taken) = begin(&mut tree, at);
        runs.push((at, before, walk, taken));
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
    let mut closed = 0;
    for (at, before, taken) in done {
        let hint = format!("seed {seed} at {at}");
        check_complete(&before, &taken, &log, at, &hint);
        closed += check_acls(&taken, &hint);
        let mut copy = load(&taken);
        for txn in log.iter().filter(|txn| txn.header.zxid.0 > at) {
            txn.apply(&mut copy, ApplyMode::Replay, &mut NoSink);
        }
        work.model.assert_same(&Naive::of(&copy), &hint);
        assert_eq!(copy.digest(), tree.digest(), "{hint}");
    }
    work.model.check(&tree, &format!("seed {seed}"));
    closed
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
    let closed: usize = (0..150).map(run).sum();
    assert!(closed > 0, "no ACL was changed during a walk");
}

#[test]
fn a_quiet_snapshot_is_the_tree() {
    let mut tree = Tree::new(OPTIONS);
    let mut work = Workload::new(9, &tree, false);
    for _ in 0..300 {
        work.next().apply(&mut tree, ApplyMode::Live, &mut NoSink);
    }
    let (mut walk, mut taken) = begin(&mut tree, work.zxid);
    while !step(&mut walk, &mut tree, 500, &mut taken) {}
    assert_eq!(check_acls(&taken, "quiet"), 0);
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

/// One entry, for an address of its own.
fn acl_of_host(host: u64) -> Vec<u8> {
    let id = format!("10.{}.{}.{}", host >> 16 & 255, host >> 8 & 255, host & 255);
    let mut out = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x02ip".to_vec();
    out.extend((id.len() as u32).to_be_bytes());
    out.extend(id.as_bytes());
    out
}

#[test]
fn a_snapshot_without_its_log_is_not_more_open_than_the_tree_was() {
    const NODES: u64 = 100;
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut tree = Tree::new(OPTIONS);
        let mut log = Vec::new();
        let mut zxid = 0;
        let mut change = |tree: &mut Tree, log: &mut Vec<_>, path: String, is_new: bool| {
            zxid += 1;
            let (acl, version) = (acl_of_host(zxid as u64), zxid as i32);
            log.push((zxid, path, acl, is_new, version));
            apply_acl(tree, log.last().unwrap(), ApplyMode::Live);
        };
        for n in 0..NODES {
            change(&mut tree, &mut log, format!("/n{n}"), true);
        }
        let (mut walk, mut taken) = begin(&mut tree, NODES as i64);
        let mut made = NODES;
        while !step(&mut walk, &mut tree, 150, &mut taken) {
            for _ in 0..3 {
                change(&mut tree, &mut log, format!("/n{}", rng.below(made)), false);
            }
            change(&mut tree, &mut log, format!("/n{made}"), true);
            made += 1;
        }
        let closed = check_acls(&taken, &format!("seed {seed}"));
        assert!(closed > 20, "{closed} nodes closed");
        let mut copy = load(&taken);
        for txn in log.iter().filter(|txn| txn.0 > NODES as i64) {
            apply_acl(&mut copy, txn, ApplyMode::Replay);
        }
        for n in 0..made {
            let path = format!("/n{n}");
            assert_eq!(acl_of(&copy, &path), acl_of(&tree, &path), "{path}");
        }
        assert_eq!(copy.digest(), tree.digest());
        assert_eq!(copy.acls().len(), tree.acls().len(), "the closed list goes with its last use");
    }
}

/// A create or a setACL: zxid, path, ACL, whether it is a create, and the version it leads to.
fn apply_acl(tree: &mut Tree, txn: &(i64, String, Vec<u8>, bool, i32), mode: ApplyMode) {
    let (zxid, path, acl, is_new, version) = txn;
    let (path, acl, version) = (path.as_str(), AclBytes::parse(acl).unwrap(), *version);
    let (kind, txn) = if *is_new {
        let (data, ephemeral, parent_cversion, ttl) = (None, false, -1, 0);
        let create = CreateTxn { path, data, acl, ephemeral, parent_cversion, ttl };
        (TxnType::Create, Txn::Create(create))
    } else {
        (TxnType::SetAcl, Txn::SetAcl(SetAclTxn { path, acl, version }))
    };
    tree.apply(&super::header(*zxid, kind, 0), &txn, mode, &mut NoSink);
}

#[test]
fn a_list_that_grants_nothing_already_is_not_in_the_map_twice() {
    let mut tree = Tree::new(OPTIONS);
    let set = |tree: &mut Tree, zxid: i64, acl| {
        let txn = Txn::SetAcl(SetAclTxn { path: "/zookeeper", acl, version: zxid as i32 });
        let head = super::header(zxid, TxnType::SetAcl, 0);
        tree.apply(&head, &txn, ApplyMode::Live, &mut NoSink);
    };
    set(&mut tree, 1, AclBytes::NOTHING);
    let (mut walk, mut taken) = begin(&mut tree, 1);
    let is_closed = |(_, list): &&(i64, Vec<u8>)| list == AclBytes::NOTHING.bytes();
    assert_eq!(taken.acls.iter().filter(is_closed).count(), 1);
    // The list goes with its last use; the snapshot has it all the same.
    let other = b"\0\0\0\x01\0\0\0\x01\0\0\0\x02ip\0\0\0\x0210";
    set(&mut tree, 2, AclBytes::OPEN);
    set(&mut tree, 3, AclBytes::parse(other).unwrap());
    while !step(&mut walk, &mut tree, 500, &mut taken) {}
    assert_eq!(check_acls(&taken, "closed"), 1);
}
