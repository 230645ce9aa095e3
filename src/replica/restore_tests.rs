//! When replay says that a tree is not what snapshot and log promise, and when it does not.

use super::Restore;
use crate::base::{SessionId, Xid, Zxid};
use crate::log::{Recovered, RecoveryTarget, SnapshotDigest, SnapshotNode, SnapshotVisitor};
use crate::tree::{ApplyMode, NoSink, Tree, TreeOptions};
use crate::wire::{AclBytes, CreateTxn, SetDataTxn, Txn, TxnDigest, TxnHeader, TxnType};

fn options() -> TreeOptions {
    TreeOptions { extended_types: true, ..TreeOptions::STOCK }
}

fn header(zxid: i64, kind: TxnType) -> TxnHeader {
    TxnHeader { session: SessionId(1), cxid: Xid(0), zxid: Zxid(zxid), time_ms: zxid, kind }
}

fn create(path: &str, parent_cversion: i32) -> Txn<'_> {
    let (acl, ephemeral, ttl) = (AclBytes::OPEN, false, 0);
    Txn::Create(CreateTxn { path, data: None, acl, ephemeral, parent_cversion, ttl })
}

fn set(path: &str, version: i32) -> Txn<'_> {
    Txn::SetData(SetDataTxn { path: path.as_bytes(), data: Some(b"x"), version })
}

/// Transactions 1 to 6 of a server.
fn history() -> Vec<(TxnType, Txn<'static>)> {
    vec![
        (TxnType::Create, create("/a", 1)),
        (TxnType::Create, create("/b", 2)),
        (TxnType::SetData, set("/a", 1)),
        (TxnType::SetData, set("/b", 1)),
        (TxnType::SetData, set("/a", 2)),
        (TxnType::SetData, set("/a", 3)),
    ]
}

/// The tree after the first `count` transactions.
fn tree_after(count: i64) -> Tree {
    let mut tree = Tree::new(options());
    for (zxid, (kind, txn)) in (1..=count).zip(&history()) {
        tree.apply(&header(zxid, *kind), txn, ApplyMode::Live, &mut NoSink);
    }
    tree
}

/// A snapshot file named `name` with the nodes as they were after `nodes` transactions, and a
/// digest section that was written at `section`.
#[derive(Clone, Copy)]
struct Snapshot {
    name: i64,
    nodes: i64,
    section: i64,
}

/// Counts the mismatches of a replay of the log up to `last`, where transaction `wrong` states
/// another digest than it had.
fn replay(snapshot: Snapshot, last: i64, wrong: Option<i64>) -> u64 {
    let mut restore = Restore::new(options());
    let mut tree = tree_after(snapshot.nodes);
    let mut walk = tree.begin_walk(Zxid(snapshot.nodes));
    while !walk.step(&mut tree, 1 << 20, &mut |node| {
        let (path, data, stat) = (node.path, node.data, node.stat);
        restore.node(&SnapshotNode { path, data, acl: -1, stat }).unwrap();
    }) {}
    tree.end_walk(walk);
    let digest = tree_after(snapshot.section).digest();
    let section = SnapshotDigest { zxid: Zxid(snapshot.section), version: 2, digest };
    restore.snapshot_done(Zxid(snapshot.name), Some(section)).unwrap();
    for (zxid, (kind, txn)) in (1..=last).zip(&history()) {
        if zxid <= snapshot.name {
            continue;
        }
        let tree_digest = tree_after(zxid).digest() ^ u64::from(wrong == Some(zxid));
        let digest = TxnDigest { version: 2, tree_digest };
        restore.txn(&header(zxid, *kind), txn, Some(digest), &[]).unwrap();
    }
    let restored = restore.finish(&Recovered::default());
    let (tree, mismatches) = (restored.tree, restored.check.mismatches());
    let expected = tree_after(last.max(snapshot.nodes)).digest();
    assert_eq!(tree.digest(), expected, "a replay ends at the same tree");
    mismatches
}

#[test]
fn an_exact_snapshot_and_log_agree() {
    for name in 0..=6 {
        assert_eq!(replay(Snapshot { name, nodes: name, section: name }, 6, None), 0, "{name}");
    }
}

/// Apache notes the digest of a transaction only when it has changed the nodes, so its snapshot
/// thread may see the nodes of one transaction more than the digest it writes after them.
#[test]
fn a_snapshot_one_transaction_ahead_of_its_digest_section_is_right() {
    // Nothing else was applied meanwhile.
    assert_eq!(replay(Snapshot { name: 4, nodes: 5, section: 4 }, 6, None), 0);
    // Two transactions were; both the section's digest and the transaction's are too early.
    assert_eq!(replay(Snapshot { name: 1, nodes: 4, section: 3 }, 6, None), 0);
}

#[test]
fn a_snapshot_further_ahead_is_not() {
    assert_eq!(replay(Snapshot { name: 2, nodes: 6, section: 2 }, 6, None), 2);
}

#[test]
fn a_difference_that_nothing_explains_counts() {
    // The log ends: whatever changed the node is not in it.
    assert_eq!(replay(Snapshot { name: 4, nodes: 5, section: 4 }, 4, None), 1);
    // The next transaction does not agree either.
    assert_eq!(replay(Snapshot { name: 4, nodes: 5, section: 4 }, 6, Some(5)), 2);
    assert_eq!(replay(Snapshot { name: 1, nodes: 1, section: 1 }, 6, Some(3)), 1);
    // At the digest section itself the last word is the next transaction's, if there is one.
    assert_eq!(replay(Snapshot { name: 1, nodes: 3, section: 3 }, 3, Some(3)), 1);
}

/// A server that keeps no digest has none to compare with the one that the snapshot brings.
#[test]
fn a_server_without_digests_finds_no_difference() {
    let mut restore = Restore::new(TreeOptions { digest: false, ..options() });
    let digest = tree_after(0).digest();
    assert_ne!(digest, 0);
    let section = SnapshotDigest { zxid: Zxid(6), version: 2, digest };
    restore.snapshot_done(Zxid(6), Some(section)).unwrap();
    assert_eq!(restore.finish(&Recovered::default()).check.mismatches(), 0);
}
