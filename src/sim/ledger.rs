//! What a server has promised so far, and the checks of the order in which it logs: one ledger for
//! each server that stands alone.

use std::collections::BTreeMap;

use crate::base::{FixedMap, Instant, SessionId};
use crate::wire::{Reader, Txn, TxnHeader, TxnType};

use super::compare::{all_nodes, compare};
use super::model::{Answer, Context, Model};
use super::node::{Node, Started};
use super::ops::Op;

/// See the module's introduction.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub model: Model,
    /// Writes that clients asked for.
    requests: FixedMap<(SessionId, i32), Op>,
    /// When each session was last heard of, by the server's monotonic clock, and its timeout.
    touched: FixedMap<SessionId, (Instant, i32)>,
    /// Sessions whose end was logged at least once.
    ended: FixedMap<SessionId, ()>,
    /// Digest of the live tree at each zxid at which it was looked at.
    digests: BTreeMap<i64, u64>,
    /// The last of those zxids.
    looked_at: Option<i64>,
    /// Highest zxid that a client has seen.
    pub revealed: i64,
    /// Highest zxid that was committed on the server.
    pub committed: i64,
}

/// Whether a write is logged as the model says it ends.
pub(super) fn check_outcome(
    header: &TxnHeader,
    txn: &Txn<'_>,
    answer: &Answer,
    op: &Op,
) -> Result<(), String> {
    let found = match txn {
        Txn::Error { err } => *err,
        _ => 0,
    };
    let is_error = header.kind == TxnType::Error;
    if found != answer.err || is_error != (answer.err != 0) {
        let (zxid, want) = (header.zxid, answer.err);
        return Err(format!("0x{zxid} is logged as {found}, {want} is right: {op:?}"));
    }
    Ok(())
}

/// A session that owns ephemerals in the server's tree and does not exist.
pub(super) fn first_orphan(node: &Node) -> Option<SessionId> {
    let owners = node.replica().tree().sessions_with_ephemerals().map(|(session, _)| session);
    let exists =
        |session| node.replica().tracked_sessions().is_none_or(|all| all.get(session).is_some());
    owners.filter(|&session| !exists(session)).min()
}

type Checked = Result<(), String>;

impl Ledger {
    /// A client asks for a write.
    pub fn asked(&mut self, session: SessionId, xid: i32, op: Op) {
        self.requests.insert((session, xid), op);
    }

    /// Frames of a session reached the replica.
    pub fn touched(&mut self, session: SessionId, now: Instant, timeout_ms: i32) {
        self.touched.insert(session, (now, timeout_ms));
    }

    /// A client was told that its session is not valid.
    pub fn refused(&self, session: SessionId) -> Checked {
        match self.ended.contains_key(&session) {
            true => Ok(()),
            false => Err(format!("{session:?} was refused and never ended")),
        }
    }

    /// A transaction goes to the log. The order is the server's; what each does is not. Returns a
    /// line for the history.
    pub fn logged(&mut self, now: Instant, entry: &[u8]) -> Result<TxnHeader, String> {
        let mut r = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut r).map_err(|e| e.to_string())?;
        let txn = Txn::decode_from(header.kind, &mut r).map_err(|e| e.to_string())?;
        let (session, zxid, xid) = (header.session, header.zxid.0, header.cxid.0);
        if zxid != self.model.last + 1 {
            let last = self.model.last;
            return Err(format!("0x{zxid:x} is logged after 0x{last:x}"));
        }
        let at = Context { session, zxid, time_ms: header.time_ms };
        match (&txn, self.requests.get(&(session, xid))) {
            (Txn::CreateSession { timeout_ms }, _) => self.model.open_session(at, *timeout_ms),
            (Txn::CloseSession(_), asked) => {
                if asked != Some(&Op::Close) {
                    self.check_expiry(now, session)?;
                }
                self.ended.insert(session, ());
                self.model.close_session(at, xid);
            }
            (_, None) => return Err(format!("0x{zxid:x}: {session:?} never asked {xid}")),
            (txn, Some(op)) => {
                let answer = self.model.write(at, xid, op);
                check_outcome(&header, txn, &answer, op)?;
            }
        }
        Ok(header)
    }

    /// The request that became a transaction.
    pub fn request(&self, header: &TxnHeader) -> Option<&Op> {
        self.requests.get(&(header.session, header.cxid.0))
    }

    fn check_expiry(&self, now: Instant, session: SessionId) -> Checked {
        if !self.model.has_session(session, self.model.last) {
            if self.model.has_ephemerals_of(session) {
                return Ok(());
            }
            return Err(format!("{session:?} is closed and was not open"));
        }
        let Some(&(at, timeout_ms)) = self.touched.get(&session) else {
            return Err(format!("{session:?} expires and was never heard of"));
        };
        let silent = now.since(at).as_millis();
        if silent < timeout_ms as u128 {
            return Err(format!("{session:?} expires after {silent} of {timeout_ms} ms"));
        }
        Ok(())
    }

    /// The server has applied all that it logged. Returns whether that is news.
    pub fn settled(&mut self, node: &Node) -> Result<bool, String> {
        let replica = node.replica();
        let (applied, last) = (replica.last_processed().0, self.model.last);
        if applied != last {
            return Err(format!("applied 0x{applied:x}, logged 0x{last:x}"));
        }
        if self.looked_at.replace(last) == Some(last) {
            return Ok(false);
        }
        if let Some(orphan) = first_orphan(node) {
            return Err(format!("{orphan:?} does not exist and owns ephemerals"));
        }
        self.digests.insert(applied, replica.tree().digest());
        Ok(true)
    }

    /// The server's tree and its sessions are what they must be now.
    pub fn compare(&self, node: &Node, when: &str) -> Checked {
        let sessions = self.model.sessions(self.model.last).len();
        let found = node.replica().session_count();
        if found != sessions {
            return Err(format!("{found} sessions {when}, {sessions} are right"));
        }
        compare(&self.model, self.model.last, node, when)
    }

    /// The state of an empty server is where the model begins.
    pub fn adopt(&mut self, node: &Node) {
        self.committed = node.replica().last_committed().0;
        for (path, found) in all_nodes(node) {
            self.model.adopt(&path, found);
        }
    }

    /// A server has recovered at `now`: with everything that was promised, and nothing else.
    pub fn recovered(&mut self, now: Instant, started: &Started) -> Checked {
        let last = started.recovered.last_zxid.0.max(0);
        let (model_last, revealed) = (self.model.last, self.revealed);
        if last < revealed {
            return Err(format!(
                "0x{revealed:x} was revealed to a client, recovery ends at 0x{last:x}"
            ));
        }
        if last > model_last {
            return Err(format!("0x{last:x} is recovered, 0x{model_last:x} was last"));
        }
        let (known, committed) = (started.recovered.committed.0, self.committed);
        if known > committed {
            return Err(format!(
                "the recovered tree holds 0x{known:x}, and 0x{committed:x} was committed last"
            ));
        }
        let replica = started.node.replica();
        self.committed = replica.last_committed().0;
        if replica.digest_mismatches() > 0 {
            return Err("replay does not give the digest of the snapshot".into());
        }
        self.looked_at = None;
        self.model.truncate(last);
        self.digests.retain(|zxid, _| *zxid <= last);
        let digest = replica.tree().digest();
        if self.digests.get(&last).is_some_and(|&live| live != digest) {
            return Err(format!("at 0x{last:x} the live tree had another digest"));
        }
        let mut sessions: Vec<_> = replica.sessions().collect();
        sessions.sort_unstable();
        let want = self.model.sessions(last);
        if sessions != want {
            return Err(format!("sessions {sessions:?} are recovered, not {want:?}"));
        }
        self.touched.clear();
        for (session, timeout_ms) in sessions {
            self.touched.insert(session, (now, timeout_ms));
        }
        compare(&self.model, last, &started.node, "after recovery")
    }
}
