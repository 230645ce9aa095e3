//! What the members of an ensemble have promised together, and whether each keeps it: one book for
//! all of them.
//!
//! What is committed is one history: the member that commits a transaction first says what comes
//! next, and from then on all others must commit the same, without a gap and in the same order,
//! whoever leads and whatever was lost. What a member has logged beyond that may go again.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::base::{FixedMap, SessionId, Zxid};
use crate::log::LogChange;
use crate::wire::{ErrorCode, Reader, Txn, TxnHeader};

use super::compare::{all_nodes, compare};
use super::ledger::{check_outcome, first_orphan};
use super::model::{Context, Model};
use super::node::{Node, Started};
use super::ops::Op;

/// The log of one member, as it was given to it.
#[derive(Debug, Default)]
struct MemberLog {
    entries: BTreeMap<i64, Vec<u8>>,
    /// Up to here its commits are those of the others.
    checked: i64,
    /// What it said is on its disk.
    durable: i64,
    /// A change that it has begun, of which a start may find that it came to pass.
    changing: Option<LogChange>,
    /// Where its tree was looked at last.
    looked_at: Option<i64>,
}

/// See the module's introduction.
#[derive(Debug)]
pub(super) struct History {
    pub model: Model,
    /// Writes that clients asked for.
    requests: FixedMap<(SessionId, i32), Op>,
    /// What is committed, in order.
    entries: BTreeMap<i64, Vec<u8>>,
    /// Sessions whose end was logged by a member at least.
    ended: FixedMap<SessionId, ()>,
    /// Digest of the tree at each zxid at which one was looked at.
    digests: BTreeMap<i64, u64>,
    members: Vec<MemberLog>,
    is_adopted: bool,
}

type Checked = Result<(), String>;

impl History {
    /// Of that many members, which have logged nothing.
    pub fn new(members: usize) -> History {
        History {
            model: Model::default(),
            requests: FixedMap::default(),
            entries: BTreeMap::new(),
            ended: FixedMap::default(),
            digests: BTreeMap::new(),
            members: (0..members).map(|_| MemberLog::default()).collect(),
            is_adopted: false,
        }
    }

    /// A client asks for a write.
    pub fn asked(&mut self, session: SessionId, xid: i32, op: Op) {
        self.requests.insert((session, xid), op);
    }

    /// A client was told by a member that its session is not valid.
    ///
    /// COMPAT(3.x): a leader that is cut off says so of a session that began without it, as
    /// Apache's do, if the client has not seen a zxid yet.
    pub fn refused(&self, member: usize, session: SessionId) -> Checked {
        let known = self.members[member].checked;
        let is_unknown = self.model.began(session).is_some_and(|began| began > known);
        match is_unknown || self.ended.contains_key(&session) {
            true => Ok(()),
            false => Err(format!("{session:?} was refused and never ended")),
        }
    }

    /// A client has seen the state at this zxid.
    pub fn revealed(&self, zxid: i64) -> Checked {
        let last = self.model.last;
        match zxid <= last || Zxid(zxid).counter() == 0 {
            true => Ok(()),
            false => Err(format!("0x{zxid:x} is revealed, and 0x{last:x} was committed last")),
        }
    }

    /// The request that became a transaction.
    pub fn request(&self, header: &TxnHeader) -> Option<&Op> {
        self.requests.get(&(header.session, header.cxid.0))
    }

    /// A transaction goes to a member's log.
    pub fn logged(&mut self, member: usize, entry: &[u8]) -> Result<TxnHeader, String> {
        let (header, txn) = decode(entry)?;
        if matches!(txn, Txn::CloseSession(_)) {
            self.ended.insert(header.session, ());
        }
        let log = &mut self.members[member];
        let last = log.entries.last_key_value().map_or(log.checked, |(zxid, _)| *zxid);
        let zxid = header.zxid;
        let follows = zxid.0 == last + 1 || (zxid.counter() == 1 && zxid.0 > last);
        if !follows {
            return Err(format!("0x{zxid} is logged after 0x{last:x}"));
        }
        log.entries.insert(zxid.0, entry.to_vec());
        Ok(header)
    }

    /// A member's log is asked for a change.
    pub fn log_changing(&mut self, member: usize, change: LogChange) {
        self.members[member].changing = Some(change);
    }

    /// A member has changed its log.
    pub fn log_changed(&mut self, member: usize, change: &LogChange) -> Checked {
        let log = &mut self.members[member];
        log.changing = None;
        match change {
            LogChange::Truncate { keep } => {
                if log.checked > keep.0 {
                    let committed = log.checked;
                    return Err(format!("0x{committed:x} was committed, the log ends at 0x{keep}"));
                }
                log.entries.retain(|zxid, _| *zxid <= keep.0);
                log.durable = log.durable.min(keep.0);
            }
            LogChange::Retire { snapshot } => {
                if log.checked > snapshot.0 {
                    let committed = log.checked;
                    return Err(format!(
                        "0x{committed:x} was committed, it retires to 0x{snapshot}"
                    ));
                }
                log.entries.clear();
                (log.checked, log.durable) = (snapshot.0, snapshot.0);
                return self.revealed(snapshot.0);
            }
            LogChange::WriteEpoch { .. } => {}
        }
        Ok(())
    }

    /// A member has come so far: compares what it has committed since with what the others have,
    /// and goes on with it where it is the first.
    pub fn advanced(&mut self, member: usize, durable: Zxid, committed: Zxid) -> Checked {
        let log = &mut self.members[member];
        log.durable = log.durable.max(durable.0);
        let (from, to) = (log.checked, committed.0);
        if to < from {
            return Err(format!("0x{to:x} is committed after 0x{from:x}"));
        }
        if to == from {
            return Ok(());
        }
        log.checked = to;
        let news = between(&log.entries, from, to);
        let news: Vec<_> = news.map(|(zxid, entry)| (*zxid, entry.clone())).collect();
        let mut last = from;
        for (zxid, entry) in news {
            let next = self.entries.range(last + 1..).next();
            match next {
                None => self.commit(zxid, &entry)?,
                Some((next, known)) if *next != zxid || *known != entry => {
                    return Err(format!(
                        "it commits 0x{zxid:x} after 0x{last:x}, where 0x{next:x} is next, or not \
                         the same transaction"
                    ));
                }
                Some(_) => {}
            }
            last = zxid;
        }
        match between(&self.entries, last, to).next() {
            Some((missing, _)) => Err(format!("it commits 0x{to:x} without 0x{missing:x}")),
            None => self.revealed(to),
        }
    }

    /// The next transaction of all.
    fn commit(&mut self, zxid: i64, entry: &[u8]) -> Checked {
        let (header, txn) = decode(entry)?;
        let (session, xid) = (header.session, header.cxid.0);
        let at = Context { session, zxid, time_ms: header.time_ms };
        if let Some(err) = late_error(&txn) {
            return self.commit_late(at, xid, err, entry);
        }
        match (&txn, self.requests.get(&(session, xid))) {
            (Txn::CreateSession { timeout_ms }, _) => self.model.open_session(at, *timeout_ms),
            (Txn::CloseSession(_), _) => self.model.close_session(at, xid),
            (_, None) => return Err(format!("0x{zxid:x}: {session:?} never asked {xid}")),
            (txn, Some(op)) => {
                let answer = self.model.write(at, xid, op);
                check_outcome(&header, txn, &answer, op)?;
            }
        }
        self.entries.insert(zxid, entry.to_vec());
        Ok(())
    }

    /// A request that came when its session had ended, or belonged to another member.
    fn commit_late(&mut self, at: Context, xid: i32, err: i32, entry: &[u8]) -> Checked {
        let Context { session, zxid, .. } = at;
        let is_open = self.model.has_session(session, self.model.last);
        if is_open && err == ErrorCode::SessionExpired.code() {
            return Err(format!("0x{zxid:x}: {session:?} is open and counts as expired"));
        }
        self.model.last = zxid;
        if let Some(op) = self.requests.get(&(session, xid)) {
            self.model.refuse(at, xid, op, err);
        }
        self.entries.insert(zxid, entry.to_vec());
        Ok(())
    }

    /// A member waits for nothing. Returns whether its tree is at a place where it was not looked
    /// at.
    pub fn settled(&mut self, member: usize, node: &Node) -> Result<bool, String> {
        let at = node.replica().last_processed().0;
        if self.members[member].looked_at.replace(at) == Some(at) {
            return Ok(false);
        }
        if let Some(orphan) = first_orphan(node) {
            return Err(format!("{orphan:?} does not exist and owns ephemerals"));
        }
        self.check_digest(at, node)?;
        Ok(true)
    }

    fn check_digest(&mut self, at: i64, node: &Node) -> Checked {
        let digest = node.replica().tree().digest();
        match *self.digests.entry(at).or_insert(digest) == digest {
            true => Ok(()),
            false => Err(format!("at 0x{at:x} another tree had another digest")),
        }
    }

    /// A member's tree and its sessions are what they must be where it is.
    pub fn compare(&self, node: &Node, when: &str) -> Checked {
        let at = node.replica().last_processed().0;
        let mut found: Vec<_> = node.replica().sessions().collect();
        found.sort_unstable();
        let want = self.model.sessions(at);
        if found != want {
            return Err(format!("sessions {found:?} {when}, {want:?} are right"));
        }
        compare(&self.model, at, node, when)
    }

    /// The state of an empty server is where the model begins.
    pub fn adopt(&mut self, node: &Node) {
        if !std::mem::replace(&mut self.is_adopted, true) {
            for (path, found) in all_nodes(node) {
                self.model.adopt(&path, found);
            }
        }
    }

    /// A member has recovered: with everything that it said is on its disk.
    pub fn recovered(&mut self, member: usize, started: &Started) -> Checked {
        let last = started.recovered.last_zxid.0.max(0);
        let known = started.recovered.committed.0.max(0);
        self.find_change(member, last, known)?;
        let log = &mut self.members[member];
        if last < log.durable {
            let durable = log.durable;
            return Err(format!("0x{durable:x} was on disk, recovery ends at 0x{last:x}"));
        }
        let replica = started.node.replica();
        if known > log.checked {
            let checked = log.checked;
            return Err(format!("it knew of 0x{checked:x} as committed, recovery of 0x{known:x}"));
        }
        if replica.digest_mismatches() > 0 {
            return Err("replay does not give the digest of the snapshot".into());
        }
        log.entries.retain(|zxid, _| *zxid <= last);
        (log.checked, log.durable, log.looked_at) = (known, last, None);
        self.advanced(member, replica.last_logged(), replica.last_committed())?;
        self.check_digest(replica.last_processed().0, &started.node)?;
        self.compare(&started.node, "after recovery")
    }

    /// Whether a change that was under way came to pass, where a start ends at `last` and knows
    /// that `known` is committed.
    fn find_change(&mut self, member: usize, last: i64, known: i64) -> Checked {
        let log = &mut self.members[member];
        match log.changing.take() {
            Some(change @ LogChange::Truncate { keep }) if last == keep.0 => {
                self.log_changed(member, &change)
            }
            Some(change @ LogChange::Retire { snapshot }) if known == snapshot.0 => {
                self.log_changed(member, &change)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The entries behind `from` up to `to`.
fn between(
    entries: &BTreeMap<i64, Vec<u8>>,
    from: i64,
    to: i64,
) -> impl Iterator<Item = (&i64, &Vec<u8>)> {
    entries.range((Bound::Excluded(from), Bound::Included(to)))
}

/// The error of a request that was refused for its session, and not for what it asks.
fn late_error(txn: &Txn<'_>) -> Option<i32> {
    let err = match txn {
        Txn::Error { err } => *err,
        Txn::Multi(multi) => match multi.iter().next()?.txn() {
            Ok(Txn::Error { err }) => err,
            _ => return None,
        },
        _ => return None,
    };
    let late = [ErrorCode::SessionExpired, ErrorCode::SessionMoved].map(ErrorCode::code);
    late.contains(&err).then_some(err)
}

fn decode(entry: &[u8]) -> Result<(TxnHeader, Txn<'_>), String> {
    let mut r = Reader::new(entry);
    let header = TxnHeader::decode_from(&mut r).map_err(|e| e.to_string())?;
    let txn = Txn::decode_from(header.kind, &mut r).map_err(|e| e.to_string())?;
    Ok((header, txn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, Xid};
    use crate::wire::{TxnType, put_i32};

    /// The start of a session, as a log has it.
    fn entry(zxid: Zxid, session: i64) -> Vec<u8> {
        let mut entry = Vec::new();
        let (session, kind) = (SessionId(session), TxnType::CreateSession);
        let header = TxnHeader { session, cxid: Xid(0), zxid, time_ms: 5, kind };
        header.encode_into(&mut entry);
        put_i32(&mut entry, 4000);
        entry
    }

    fn at(epoch: i32, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    /// Three members that have logged, of epoch 1, transactions 1 to 3; the session of each has the
    /// transaction's number.
    fn history() -> History {
        let mut history = History::new(3);
        for member in 0..3 {
            for counter in 1..=3 {
                history.logged(member, &entry(at(1, counter), i64::from(counter))).unwrap();
            }
        }
        history
    }

    #[test]
    fn members_that_commit_the_same_in_turn_are_right() {
        let mut history = history();
        for (member, counter) in [(0, 1), (1, 3), (0, 2), (2, 3), (0, 3)] {
            history.advanced(member, at(1, 3), at(1, counter)).unwrap();
        }
        assert_eq!(history.model.last, at(1, 3).0);
        assert_eq!(history.model.sessions(at(1, 2).0).len(), 2);
        // A next leader goes on in its epoch.
        for member in [2, 0] {
            history.logged(member, &entry(at(2, 1), 4)).unwrap();
            history.advanced(member, at(2, 1), at(2, 1)).unwrap();
        }
        history.revealed(at(2, 1).0).unwrap();
        history.revealed(at(3, 0).0).unwrap();
        history.revealed(at(2, 2).0).unwrap_err();
    }

    #[test]
    fn another_transaction_under_the_same_number_is_noticed() {
        let mut history = history();
        history.advanced(0, at(1, 3), at(1, 2)).unwrap();
        history.log_changed(1, &LogChange::Truncate { keep: at(1, 1) }).unwrap();
        history.logged(1, &entry(at(1, 2), 77)).unwrap();
        history.advanced(1, at(1, 2), at(1, 1)).unwrap();
        history.advanced(1, at(1, 2), at(1, 2)).unwrap_err();
    }

    #[test]
    fn a_committed_transaction_that_another_member_passes_over_is_noticed() {
        for is_first in [true, false] {
            let mut history = history();
            history.log_changed(1, &LogChange::Truncate { keep: at(1, 2) }).unwrap();
            history.logged(1, &entry(at(2, 1), 4)).unwrap();
            if is_first {
                history.advanced(1, at(2, 1), at(2, 1)).unwrap();
                history.advanced(0, at(1, 3), at(1, 3)).unwrap_err();
            } else {
                history.advanced(0, at(1, 3), at(1, 3)).unwrap();
                history.advanced(1, at(2, 1), at(2, 1)).unwrap_err();
            }
        }
        let mut history = history();
        history.advanced(0, at(1, 3), at(1, 3)).unwrap();
        history.log_changed(1, &LogChange::Truncate { keep: at(1, 2) }).unwrap();
        // It claims a place that its log does not reach.
        history.advanced(1, at(1, 2), at(1, 3)).unwrap_err();
    }

    #[test]
    fn what_is_committed_stays_in_the_log() {
        let keep = at(1, 1);
        let mut history = history();
        history.advanced(0, at(1, 3), at(1, 2)).unwrap();
        history.log_changed(0, &LogChange::Truncate { keep }).unwrap_err();
        history.log_changed(0, &LogChange::Retire { snapshot: keep }).unwrap_err();
        history.advanced(0, at(1, 3), at(1, 1)).unwrap_err();
        // A snapshot that another member sends holds committed state.
        history.log_changed(1, &LogChange::Retire { snapshot: at(1, 3) }).unwrap_err();
        history.log_changed(2, &LogChange::Retire { snapshot: at(1, 2) }).unwrap();
        history.logged(2, &entry(at(1, 3), 3)).unwrap();
        history.advanced(2, at(1, 3), at(1, 3)).unwrap();
    }

    #[test]
    fn a_start_finds_a_change_that_was_under_way_or_does_not() {
        let change = LogChange::Truncate { keep: at(1, 2) };
        for (last, durable) in [(at(1, 2), at(1, 2)), (at(1, 3), at(1, 3))] {
            let mut history = history();
            history.advanced(0, at(1, 3), at(1, 1)).unwrap();
            history.log_changing(0, change);
            history.find_change(0, last.0, at(1, 1).0).unwrap();
            assert_eq!(history.members[0].durable, durable.0);
        }
        // It would take back what is committed.
        let mut history = history();
        history.advanced(0, at(1, 3), at(1, 3)).unwrap();
        history.log_changing(0, change);
        history.find_change(0, at(1, 2).0, at(1, 2).0).unwrap_err();
    }

    #[test]
    fn a_log_has_no_gaps() {
        let mut history = history();
        history.logged(0, &entry(at(1, 5), 5)).unwrap_err();
        history.logged(0, &entry(at(1, 3), 3)).unwrap_err();
        history.logged(0, &entry(at(2, 2), 5)).unwrap_err();
    }
}
