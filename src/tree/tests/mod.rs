//! Tests of the tree as a whole.

mod model;
mod naive;
mod snapshot;
mod workload;

use crate::base::{SessionId, Xid, Zxid};
use crate::wire::{AclBytes, CreateTxn, PersistedStat, SetDataTxn, Txn, TxnHeader, TxnType};

use super::{ApplyMode, NoSink, NodeId, Tree, TreeOptions, node_digest};

pub(super) const OPTIONS: TreeOptions =
    TreeOptions { extended_types: true, emulate_353_ttl: false, digest: true, hash_seed: 0x5eed };

pub(super) fn header(zxid: i64, kind: TxnType, session: i64) -> TxnHeader {
    TxnHeader {
        session: SessionId(session),
        cxid: Xid(0),
        zxid: Zxid(zxid),
        time_ms: 1_700_000_000_000 + zxid,
        kind,
    }
}

pub(super) fn create(tree: &mut Tree, zxid: i64, path: &str, data: &[u8]) {
    let txn = Txn::Create(CreateTxn {
        path,
        data: Some(data),
        acl: AclBytes::OPEN,
        ephemeral: false,
        parent_cversion: -1,
        ttl: 0,
    });
    tree.apply(&header(zxid, TxnType::Create, 0), &txn, ApplyMode::Live, &mut NoSink);
}

#[test]
fn a_fresh_tree_is_apaches() {
    let tree = Tree::new(OPTIONS);
    assert_eq!(tree.digest(), 1_371_985_504);
    assert_eq!(tree.node_count(), 5);
    let root = tree.stat(NodeId::ROOT);
    assert_eq!((root.cversion, root.num_children), (-1, 1));
    let zookeeper = tree.find(&tree.key("/zookeeper")).unwrap();
    assert_eq!(tree.stat(zookeeper).cversion, -2);
    let mut names: Vec<&str> = tree.children(zookeeper).collect();
    names.sort_unstable();
    assert_eq!(names, ["config", "quota"]);
    let config = tree.find(&tree.key("/zookeeper/config")).unwrap();
    assert_eq!(tree.stat(config).aversion, -1);
    let acl: Vec<_> = tree.acls().bytes(tree.acl(config)).iter().collect();
    assert_eq!((acl.len(), acl[0].perms.0), (1, 1));
    assert_eq!(tree.data(config), Some(&b""[..]));
    assert_eq!(tree.count_descendants(NodeId::ROOT), 3);
    assert_eq!(tree.count_descendants(zookeeper), 2);
}

#[test]
fn the_digest_check_values_hold() {
    let zero = PersistedStat::default();
    assert_eq!(node_digest("/", Some(b""), &zero), 68_323_592);
    assert_eq!(node_digest("/zookeeper", Some(b""), &zero), 1_303_661_912);
    let mut loader = Tree::begin_load(OPTIONS);
    let root = PersistedStat { cversion: 3, pzxid: 4_294_967_306, ..zero };
    let a = PersistedStat {
        czxid: 4_294_967_298,
        mzxid: 4_294_967_300,
        ctime: 1_795_216_185_578,
        mtime: 1_795_216_185_602,
        version: 1,
        cversion: 1,
        pzxid: 4_294_967_307,
        ..zero
    };
    let c = PersistedStat {
        czxid: 4_294_967_301,
        mzxid: 4_294_967_301,
        ctime: 1_795_216_185_620,
        mtime: 1_795_216_185_620,
        cversion: 1,
        pzxid: 4_294_967_302,
        ..zero
    };
    let d = PersistedStat {
        czxid: 4_294_967_302,
        mzxid: 4_294_967_302,
        pzxid: 4_294_967_302,
        ctime: 1_795_216_185_627,
        mtime: 1_795_216_185_627,
        ..zero
    };
    for (path, data, stat) in [
        ("", &b""[..], root),
        ("/zookeeper", b"", zero),
        ("/a", b"world", a),
        ("/c", b"", c),
        ("/c/d", b"", d),
    ] {
        loader.node(path, Some(data), -1, &stat).unwrap();
    }
    let tree = loader.finish().unwrap();
    assert_eq!(tree.digest(), 8_722_239_722);
}

#[test]
fn malformed_paths_match_nothing() {
    let mut tree = Tree::new(OPTIONS);
    create(&mut tree, 1, "/a", b"");
    create(&mut tree, 2, "/a/b", b"x");
    for good in ["", "/", "/a", "/a/b"] {
        assert!(tree.find(&tree.key(good)).is_some(), "{good:?}");
    }
    for bad in ["a", "a/b", "/a/", "//", "//a", "/a//b", "/b", "/a/b/", "b", "/a/b/c", "a/"] {
        assert!(tree.find(&tree.key(bad)).is_none(), "{bad:?}");
    }
    assert_eq!(tree.find_parent(&tree.key("/a")), Some(NodeId::ROOT));
    assert_eq!(tree.find_parent(&tree.key("/a/")), tree.find(&tree.key("/a")));
    assert_eq!(tree.find_parent(&tree.key("/a/b")), tree.find(&tree.key("/a")));
    assert_eq!(tree.find_parent(&tree.key("/x/b")), None);
    assert_eq!(tree.find_parent(&tree.key("a")), None);
}

#[test]
fn data_moves_between_size_classes() {
    let mut tree = Tree::new(OPTIONS);
    create(&mut tree, 1, "/a", b"");
    let sizes = [0usize, 1, 13, 14, 15, 30, 2045, 2046, 2047, 2048, 5000, 5000, 10, 0, 70_000];
    for (n, size) in sizes.into_iter().enumerate() {
        let data = vec![n as u8; size];
        let txn = Txn::SetData(SetDataTxn { path: "/a", data: Some(&data), version: n as i32 + 1 });
        let head = header(n as i64 + 2, TxnType::SetData, 0);
        tree.apply(&head, &txn, ApplyMode::Live, &mut NoSink);
        let id = tree.find(&tree.key("/a")).unwrap();
        assert_eq!(tree.data(id), Some(&data[..]));
        assert_eq!(tree.stat(id).version, n as i32 + 1);
    }
}
