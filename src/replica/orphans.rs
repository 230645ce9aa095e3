//! Ephemerals whose session does not exist: what recovery gives may have some.
//!
//! How they come about: a server wrote a snapshot without the session, or lost the end of a log in
//! which the session was created. Apache deletes such nodes in memory when it loads its database
//! (`ZooKeeperServer.loadData`) and writes a snapshot at once. Here the session is ended by a
//! closeSession in the log, so that every later replay sees the nodes go at the same place. If they
//! went in memory only, a client could create one of the paths anew, with children; a replay would
//! find the old node there, and delete the client's node with it.
//!
//! These transactions are the first that a replica prepares, before it has seen a connection:
//!
//! - Writes, and the creation of sessions, are prepared after them, so the pending view has the
//!   nodes deleted already. No answer to a write can leave before they are durable and applied.
//! - A read of a session that recovery found may see the nodes until then, with the owner that they
//!   have in snapshot and log. That is the committed state at the zxid of the reply. A watch set by
//!   it fires when they go.

use crate::base::{Now, SessionId, Xid};

use super::core::Replica;
use super::tail::Origin;

/// Sessions named in the message.
const NAMED: usize = 5;

impl Replica {
    /// Prepares a closeSession for each session that owns ephemerals and does not exist.
    pub(super) fn end_orphaned_sessions(&mut self, now: Now) {
        let exists = |session: &SessionId| self.committed_sessions.contains_key(session);
        let owners = self.tree.sessions_with_ephemerals();
        let mut orphans: Vec<_> = owners.filter(|(session, _)| !exists(session)).collect();
        if orphans.is_empty() {
            return;
        }
        orphans.sort_unstable();
        let nodes: usize = orphans.iter().map(|(_, count)| count).sum();
        let named = orphans.iter().take(NAMED).map(|(session, _)| format!("0x{:x}", session.0));
        let more = if orphans.len() > NAMED { ", and more" } else { "" };
        log::warn!(
            "the data directory has {nodes} ephemeral nodes of {} sessions that do not exist \
             ({}{more}): these nodes are deleted, by transactions in the log",
            orphans.len(),
            named.collect::<Vec<_>>().join(", ")
        );
        for (session, _) in orphans {
            self.propose_close(now, session, Origin::Server, Xid(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Instant, Zxid};
    use crate::log::{Recovered, RecoveryTarget};
    use crate::replica::{Effect, Effects, Input, ReplicaOptions, Restore, Restored};
    use crate::tree::TreeOptions;
    use crate::wire::{AclBytes, CreateTxn, Reader, Txn, TxnHeader, TxnType};

    const NOW: Now = Now { mono: Instant(1), wall_ms: 99 };

    fn create(path: &str, ephemeral: bool, parent_cversion: i32) -> (TxnType, Txn<'_>) {
        let (data, acl, ttl) = (None, AclBytes::OPEN, 0);
        let txn = CreateTxn { path, data, acl, ephemeral, parent_cversion, ttl };
        (TxnType::Create, Txn::Create(txn))
    }

    /// A log of transactions of sessions 7 and 8, of which only 8 was ever created.
    fn history() -> Vec<(i64, TxnType, Txn<'static>)> {
        let of = |session, (kind, txn)| (session, kind, txn);
        vec![
            of(7, create("/lock", true, 1)),
            of(7, create("/dir", false, 2)),
            of(7, create("/dir/lock", true, 1)),
            (8, TxnType::CreateSession, Txn::CreateSession { timeout_ms: 4000 }),
            of(8, create("/mine", true, 3)),
        ]
    }

    fn restored(more: &[Vec<u8>]) -> Restored {
        let digest = true;
        let options =
            TreeOptions { extended_types: true, emulate_353_ttl: false, digest, hash_seed: 1 };
        let mut restore = Restore::new(options);
        let mut last_zxid = Zxid(0);
        for (session, kind, txn) in history() {
            last_zxid = Zxid(last_zxid.0 + 1);
            let session = SessionId(session);
            let header = TxnHeader { session, cxid: Xid(0), zxid: last_zxid, time_ms: 1, kind };
            restore.txn(&header, &txn, None, &[]).unwrap();
        }
        for entry in more {
            let r = &mut Reader::new(entry);
            let header = TxnHeader::decode_from(r).unwrap();
            let txn = Txn::decode_from(header.kind, r).unwrap();
            last_zxid = header.zxid;
            restore.txn(&header, &txn, None, entry).unwrap();
        }
        let snapshot_zxid = Some(Zxid(0));
        let committed = last_zxid;
        restore.finish(&Recovered { committed, snapshot_zxid, ..Recovered::default() })
    }

    fn start(restored: Restored) -> Replica {
        let mut replica = Replica::for_tests(NOW, ReplicaOptions::default(), restored);
        replica.lead(NOW);
        replica
    }

    fn paths(replica: &Replica) -> Vec<&'static str> {
        let tree = replica.tree();
        let all = ["/lock", "/dir", "/dir/lock", "/mine"];
        all.into_iter().filter(|path| tree.find(&tree.key(path)).is_some()).collect()
    }

    /// What a replica logs before it has seen any input.
    fn logged(replica: &mut Replica) -> Vec<Vec<u8>> {
        let mut effects = Effects::default();
        replica.flush(&mut effects);
        let mut entries = Vec::new();
        for effect in &effects.list {
            let Effect::Append(batch) = effect else { panic!("{effect:?}") };
            entries.extend(batch.iter().map(|(_, entry)| entry.to_vec()));
        }
        entries
    }

    #[test]
    fn they_go_by_a_transaction_that_a_replay_repeats() {
        let mut replica = start(restored(&[]));
        assert_eq!(paths(&replica), ["/lock", "/dir", "/dir/lock", "/mine"], "nothing unlogged");
        let entries = logged(&mut replica);
        let header = TxnHeader::decode_from(&mut Reader::new(&entries[0])).unwrap();
        assert_eq!((entries.len(), header.kind), (1, TxnType::CloseSession));
        assert_eq!((header.session, header.zxid), (SessionId(7), Zxid(6)));
        replica.handle(NOW, Input::Logged { zxid: Zxid(6) }, &mut Effects::default());
        replica.handle(NOW, Input::Committed { zxid: Zxid(6) }, &mut Effects::default());
        replica.check();
        assert!(replica.is_settled());
        assert_eq!(paths(&replica), ["/dir", "/mine"]);
        assert_eq!(replica.session_count(), 1);

        let mut again = start(restored(&entries));
        assert_eq!(logged(&mut again), Vec::<Vec<u8>>::new(), "once is enough");
        assert_eq!(paths(&again), ["/dir", "/mine"]);
        assert_eq!(again.tree().digest(), replica.tree().digest());
        assert_eq!(again.last_processed(), Zxid(6));
    }

    #[test]
    fn a_server_that_dies_before_they_are_durable_does_it_again() {
        let first = logged(&mut start(restored(&[])));
        assert_eq!(logged(&mut start(restored(&[]))), first);
    }
}
