//! A start with a tail: the tree is at the last committed transaction until a quorum decides, and a
//! server alone is a quorum.

use std::sync::Arc;

use crate::base::{Instant, Now, SessionId, Xid, Zxid};
use crate::log::{Batch, Recovered, RecoveryTarget};
use crate::replica::{Effect, Effects, Replica, ReplicaOptions, Restore, Restored};
use crate::tree::{ApplyMode, NoSink, Tree, TreeOptions};
use crate::wire::{
    AclBytes, CreateTxn, Reader, Txn, TxnDigest, TxnHeader, TxnType, put_close_session_txn,
    put_create_txn, put_i32,
};

use super::{Member, Role};

const NOW: Now = Now { mono: Instant(1_000), wall_ms: 99 };
const TREE: TreeOptions = TreeOptions { extended_types: true, ..TreeOptions::STOCK };

enum What {
    Open,
    Close(&'static [&'static str]),
    Create(&'static str, bool),
}

/// Sessions 8 and 9 come and own ephemerals, 8 goes; 7 was never there and owns one.
const HISTORY: [(i64, What); 8] = [
    (8, What::Open),
    (8, What::Create("/dir", false)),
    (8, What::Create("/dir/of8", true)),
    (9, What::Open),
    (9, What::Create("/dir/of9", true)),
    (7, What::Create("/of7", true)),
    (8, What::Close(&["/dir/of8"])),
    (9, What::Create("/last", false)),
];
const LAST: i64 = HISTORY.len() as i64;

/// The entries of the log, and the digest of the tree behind each. The one of `wrong` is false.
fn entries(wrong: Option<i64>) -> Vec<(Vec<u8>, u64)> {
    let mut tree = Tree::new(TREE);
    let mut made = Vec::new();
    let mut all = Vec::new();
    for (zxid, (session, what)) in (1..).zip(&HISTORY) {
        let (mut entry, mut body) = (Vec::new(), Vec::new());
        let kind = match what {
            What::Open => {
                put_i32(&mut body, 4000);
                TxnType::CreateSession
            }
            What::Close(paths) => {
                put_close_session_txn(&mut body, paths);
                TxnType::CloseSession
            }
            What::Create(path, ephemeral) => {
                made.push(*path);
                let parent_cversion = made.len() as i32;
                let (data, acl, ephemeral, ttl) = (None, AclBytes::OPEN, *ephemeral, 0);
                let txn = CreateTxn { path, data, acl, ephemeral, parent_cversion, ttl };
                put_create_txn(&mut body, TxnType::Create, &txn);
                TxnType::Create
            }
        };
        let (session, zxid) = (SessionId(*session), Zxid(zxid));
        let header = TxnHeader { session, cxid: Xid(0), zxid, time_ms: 5, kind };
        header.encode_into(&mut entry);
        entry.extend_from_slice(&body);
        let txn = Txn::decode_from(kind, &mut Reader::new(&body)).unwrap();
        tree.apply(&header, &txn, ApplyMode::Live, &mut NoSink);
        let tree_digest = tree.digest() ^ u64::from(wrong == Some(zxid.0));
        TxnDigest { version: TxnDigest::VERSION, tree_digest }.encode_into(&mut entry);
        all.push((entry, tree.digest()));
    }
    all
}

/// What recovery gives where the log says that transactions up to `committed` are.
fn restored(committed: i64, entries: &[(Vec<u8>, u64)]) -> Restored {
    let mut restore = Restore::new(TREE);
    let mut tail = Vec::new();
    for (zxid, (entry, _)) in (1..).zip(entries) {
        if zxid <= committed {
            let mut r = Reader::new(entry);
            let header = TxnHeader::decode_from(&mut r).unwrap();
            let txn = Txn::decode_from(header.kind, &mut r).unwrap();
            let digest = TxnDigest::decode_trailing(&mut r).unwrap();
            restore.txn(&header, &txn, digest, entry).unwrap();
        } else {
            let mut batch = Batch::new();
            batch.entry().extend_from_slice(entry);
            batch.finish_entry(Zxid(zxid));
            tail.push(Arc::new(batch));
        }
    }
    let (committed, last_zxid) = (Zxid(committed), Zxid(LAST));
    restore.finish(&Recovered { last_zxid, committed, tail, ..Recovered::default() })
}

fn replica(restored: Restored) -> Replica {
    Replica::for_tests(NOW, ReplicaOptions::default(), restored)
}

fn sessions(replica: &Replica) -> Vec<i64> {
    let mut sessions: Vec<i64> = replica.sessions().map(|(session, _)| session.0).collect();
    sessions.sort_unstable();
    sessions
}

#[test]
fn the_tree_is_at_the_last_committed_transaction_and_the_tail_is_behind_it() {
    let entries = entries(None);
    for committed in 0..=LAST {
        let replica = replica(restored(committed, &entries));
        replica.check();
        let marks = (replica.last_processed(), replica.last_logged(), replica.last_known());
        assert_eq!(marks, (Zxid(committed), Zxid(LAST), Zxid(LAST)));
        let digest = entries[..committed as usize].last().map_or(0, |(_, digest)| *digest);
        if committed > 0 {
            assert_eq!(replica.tree().digest(), digest, "at {committed}");
        }
        assert_eq!(sessions(&replica).contains(&8), (1..7).contains(&committed));
        assert_eq!(replica.is_all_applied(), committed == LAST);
        assert!(!replica.is_leading());
    }
}

#[test]
fn a_server_alone_commits_its_tail_and_then_ends_sessions_that_do_not_exist() {
    let entries = entries(None);
    for committed in 0..=LAST {
        let mut member = Member::alone(NOW, replica(restored(committed, &entries)));
        member.check();
        assert_eq!(member.role(), Role::Alone);
        let replica = member.replica();
        assert_eq!((replica.last_processed(), replica.digest_mismatches()), (Zxid(LAST), 0));
        assert_eq!(replica.tree().digest(), entries[LAST as usize - 1].1, "from {committed}");
        assert_eq!(sessions(replica), [9]);
        let tracked = replica.tracked_sessions().unwrap();
        assert!(tracked.get(SessionId(9)).is_some() && tracked.get(SessionId(8)).is_none());
        // Of the tail nothing is logged again: the next transaction is the end of session 7.
        let mut effects = Effects::default();
        member.flush(NOW, &mut effects);
        let [Effect::Append(batch)] = &effects.list[..] else { panic!("{:?}", effects.list) };
        let (zxid, entry) = batch.get(0).unwrap();
        let header = TxnHeader::decode_from(&mut Reader::new(entry)).unwrap();
        assert_eq!((batch.len(), zxid, header.session), (1, Zxid(LAST + 1), SessionId(7)));
        assert_eq!(batch.committed(), Zxid(LAST), "what the log says of it");
    }
}

#[test]
fn a_digest_that_differs_is_found_in_the_tail_as_before_it() {
    for wrong in 1..=LAST {
        let entries = entries(Some(wrong));
        for committed in 0..=LAST {
            let member = Member::alone(NOW, replica(restored(committed, &entries)));
            assert_eq!(member.replica().digest_mismatches(), 1, "{wrong} from {committed}");
        }
    }
}

/// A snapshot that was written meanwhile shows some of what the tail does.
#[test]
fn a_tail_may_repeat_what_a_fuzzy_snapshot_shows() {
    let entries = entries(None);
    for committed in 0..=LAST {
        let mut restored = restored(committed, &entries);
        restored.tree = restored_tree(&entries);
        restored.check = crate::replica::DigestCheck::default();
        let member = Member::alone(NOW, replica(restored));
        assert_eq!(member.replica().tree().digest(), entries[LAST as usize - 1].1);
    }
}

fn restored_tree(entries: &[(Vec<u8>, u64)]) -> Tree {
    restored(LAST, entries).tree
}
