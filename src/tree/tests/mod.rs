//! Tests of the tree as a whole.

mod model;
mod naive;
mod snapshot;
mod workload;

use crate::base::{SessionId, Xid, Zxid};
use crate::wire::quorum::{Packet, PacketKind};
use crate::wire::{
    AclBytes, CreateTxn, FOLLOWER, PersistedStat, Reader, SetDataTxn, Txn, TxnDigest, TxnHeader,
    TxnType, recorded,
};

use super::{ApplyMode, Foresight, NoSink, NodeId, QuotaValues, Tree, TreeOptions, node_digest};

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
    let mut names: Vec<&[u8]> = tree.children(zookeeper).collect();
    names.sort_unstable();
    assert_eq!(names, [&b"config"[..], b"quota"]);
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
        let txn =
            Txn::SetData(SetDataTxn { path: b"/a", data: Some(&data), version: n as i32 + 1 });
        let head = header(n as i64 + 2, TxnType::SetData, 0);
        tree.apply(&head, &txn, ApplyMode::Live, &mut NoSink);
        let id = tree.find(&tree.key("/a")).unwrap();
        assert_eq!(tree.data(id), Some(&data[..]));
        assert_eq!(tree.stat(id).version, n as i32 + 1);
    }
}

#[test]
fn quotas_count_their_subtree_and_survive_garbage() {
    let mut tree = Tree::new(OPTIONS);
    let text = |tree: &Tree, path: &str| {
        let id = tree.find(&tree.key(path)).unwrap();
        String::from_utf8(tree.data(id).unwrap().to_vec()).unwrap()
    };
    create(&mut tree, 1, "/p", b"12345678");
    create(&mut tree, 2, "/p/c", b"");
    create(&mut tree, 3, "/zookeeper/quota/p", b"");
    let limits = b"count=5,bytes=-1=;byteHardLimit=12;countHardLimit=3";
    create(&mut tree, 4, "/zookeeper/quota/p/zookeeper_limits", limits);
    create(&mut tree, 5, "/zookeeper/quota/p/zookeeper_stats", b"count=-1,bytes=-1");
    let stats = "/zookeeper/quota/p/zookeeper_stats";
    assert_eq!(text(&tree, stats), "count=2,bytes=8");
    create(&mut tree, 6, "/p/d", b"abc");
    create(&mut tree, 7, "/pp", b"abc");
    let id = tree.find(&tree.key(stats)).unwrap();
    assert_eq!((tree.stat(id).mzxid, tree.stat(id).version), (5, 0));
    for path in ["/p", "/p/c", "/p/not/there"] {
        let quota = tree.quota(path).unwrap();
        assert_eq!(quota.prefix, "/p");
        let usage = quota.usage.unwrap();
        assert_eq!((usage.count, usage.bytes), (3, 11));
        let expect = QuotaValues { count: 5, bytes: -1, count_hard: 3, bytes_hard: 12 };
        assert_eq!(quota.limits, expect);
        assert_eq!(expect.text().as_bytes(), limits);
    }
    assert!(tree.quota("/pp").is_none());
    create(&mut tree, 8, "/zookeeper/quota/pp", b"");
    create(&mut tree, 9, "/zookeeper/quota/pp/zookeeper_limits", limits);
    assert_eq!(tree.quota("/pp").unwrap().usage, None);
    // A quota on the root would govern everything; Apache dies of it.
    create(&mut tree, 10, "/zookeeper/quota/zookeeper_limits", b"count=1");
    create(&mut tree, 11, "/zookeeper/quota/zookeeper_stats", b"mine");
    create(&mut tree, 12, "/q", b"");
    assert!(tree.quota("/q").is_none());
    assert_eq!(text(&tree, "/zookeeper/quota/zookeeper_stats"), "mine");
    for garbage in
        [&b""[..], b"=", b"count=x,,;bytes", b"\xff\xfe=1", b"count=99999999999999999999"]
    {
        assert_eq!(QuotaValues::parse(garbage), QuotaValues::UNSET, "{garbage:?}");
    }
}

#[test]
fn the_reaper_sees_idle_containers_and_expired_ttls() {
    let mut tree = Tree::new(OPTIONS);
    let mut make = |zxid: i64, kind, path, ttl| {
        let acl = AclBytes::OPEN;
        let txn = CreateTxn { path, data: None, acl, ephemeral: false, parent_cversion: -1, ttl };
        let header = TxnHeader { time_ms: 1000, ..header(zxid, kind, 0) };
        tree.apply(&header, &Txn::Create(txn), ApplyMode::Live, &mut NoSink);
    };
    make(1, TxnType::CreateContainer, "/used", 0);
    make(2, TxnType::CreateContainer, "/new", 0);
    make(3, TxnType::CreateTtl, "/ttl", 50);
    make(4, TxnType::Create, "/used/child", 0);
    make(5, TxnType::CreateTtl, "/busy", 50);
    make(6, TxnType::Create, "/busy/child", 0);
    let due = |tree: &Tree, now, max| {
        let mut out = Vec::new();
        tree.reap_candidates(now, max, &mut out);
        out.sort();
        out
    };
    assert!(due(&tree, 1050, 300).is_empty());
    assert_eq!(due(&tree, 1051, 300), ["/ttl"]);
    assert_eq!(due(&tree, 1301, 300), ["/new", "/ttl"]);
    assert_eq!(due(&tree, i64::MAX, 0), ["/ttl"]);
    let delete = Txn::Delete { path: "/used/child" };
    tree.apply(&header(7, TxnType::Delete, 0), &delete, ApplyMode::Live, &mut NoSink);
    assert_eq!(due(&tree, 1000, 300), ["/used"]);
    let ttl = tree.find(&tree.key("/ttl")).unwrap();
    assert_eq!(tree.stat(ttl).ephemeral_owner, 0);
    assert_eq!((tree.containers_count(), tree.ttls_count()), (2, 2));
}

#[test]
fn the_digest_log_keeps_every_128th_zxid_of_live_transactions() {
    let mut tree = Tree::new(OPTIONS);
    for zxid in 1..=128 * 1030 {
        let txn = Txn::SetData(SetDataTxn { path: b"/", data: None, version: 1 });
        let mode = if zxid < 300 { ApplyMode::Replay } else { ApplyMode::Live };
        tree.apply(&header(zxid, TxnType::SetData, 0), &txn, mode, &mut NoSink);
        if zxid == 400 {
            assert_eq!(tree.digest_log().next(), Some((Zxid(384), tree_digest_at(384))));
        }
    }
    assert_eq!(tree.digest_log().len(), 1024);
    assert_eq!(tree.digest_log().last(), Some((Zxid(128 * 1030), tree.digest())));
}

fn tree_digest_at(zxid: i64) -> u64 {
    let mut tree = Tree::new(OPTIONS);
    let txn = Txn::SetData(SetDataTxn { path: b"/", data: None, version: 1 });
    tree.apply(&header(zxid, TxnType::SetData, 0), &txn, ApplyMode::Live, &mut NoSink);
    tree.digest()
}

#[test]
fn odd_times_and_large_families_hold() {
    let mut tree = Tree::new(OPTIONS);
    for time_ms in [-1, i64::MIN, i64::MAX, 0, (1 << 48) - 1, 1 << 48] {
        let txn = Txn::SetData(SetDataTxn { path: b"/", data: Some(b"x"), version: 1 });
        let header = TxnHeader { time_ms, ..header(1, TxnType::SetData, 0) };
        tree.apply(&header, &txn, ApplyMode::Live, &mut NoSink);
        assert_eq!((tree.stat(NodeId::ROOT).ctime, tree.stat(NodeId::ROOT).mtime), (0, time_ms));
    }
    for n in 0..5000 {
        create(&mut tree, 2 + n, &format!("/child{n}"), b"");
    }
    for n in (0..5000).step_by(2) {
        let path = format!("/child{n}");
        let header = header(6000 + n, TxnType::Delete, 0);
        tree.apply(&header, &Txn::Delete { path: &path }, ApplyMode::Live, &mut NoSink);
    }
    for n in 0..5000 {
        let found = tree.find(&tree.key(&format!("/child{n}"))).is_some();
        assert_eq!(found, n % 2 == 1, "{n}");
    }
    let mut names: Vec<&[u8]> = tree.children(NodeId::ROOT).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2501);
    assert_eq!(tree.stat(NodeId::ROOT).cversion, 2 * 5000 - 2501);
}

/// A leader of Apache's has appended the digest to each transaction.
#[test]
fn a_recorded_leader_of_apaches_has_had_the_same_trees() {
    let mut tree = Tree::new(OPTIONS);
    let mut foresight = Foresight::new(&tree);
    let mut count = 0;
    for said in recorded(FOLLOWER) {
        let packet = Packet::decode_from(&mut Reader::new(&said.bytes)).unwrap();
        if packet.kind != PacketKind::Proposal {
            continue;
        }
        let entry = packet.data.unwrap();
        let mut reader = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut reader).unwrap();
        let txn = Txn::decode_from(header.kind, &mut reader).unwrap();
        let stated = TxnDigest::decode_trailing(&mut reader).unwrap();
        assert_eq!(foresight.foresee(&tree, entry), stated, "{header:?}");
        tree.apply(&header, &txn, ApplyMode::Live, &mut NoSink);
        foresight.forget(&tree, header.zxid);
        let digest = stated.map(|stated| stated.tree_digest);
        assert_eq!(digest, Some(tree.digest()), "{header:?}");
        count += 1;
    }
    assert_eq!(count, 11);
}
