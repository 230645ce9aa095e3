//! What the members of an ensemble have promised together, and whether each keeps it: one book for
//! all of them.
//!
//! What is committed is one history: the member that commits a transaction first says what comes
//! next, and from then on all others must commit the same, without a gap and in the same order,
//! whichever member leads and whatever was lost. What a member has logged beyond that may go again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::{Epoch, FixedMap, SessionId, Zxid, spread};
use crate::election::Vote;
use crate::log::{Batch, Epochs, LogChange};
use crate::member::Role;
use crate::wire::{ErrorCode, Reader, Txn, TxnDigest, TxnHeader};

use super::compare::{all_nodes, compare};
use super::ledger::{check_outcome, first_orphan};
use super::model::{Context, Model};
use super::node::{Node, Reloaded, Started};
use super::ops::Op;
use super::vigil::Vigil;

/// A write that a client asked for.
#[derive(Debug)]
struct Request {
    op: Op,
    /// What clients had seen by then. It comes after that, whichever client asks and wherever.
    floor: i64,
    /// How often its session had been brought along by then.
    moves: u32,
}

/// The log of one member, as it was given to it.
#[derive(Debug, Default)]
struct MemberLog {
    entries: BTreeMap<i64, Vec<u8>>,
    /// Up to here its commits are the same as the others'.
    checked: i64,
    /// How far that ever was. A start may know less, and the next one as much again, where what is
    /// damaged is mended in between.
    known: i64,
    /// What it said is on its disk.
    durable: i64,
    /// What was on its disk when it lost its database. It has acknowledged that, which counts.
    lost: BTreeMap<i64, Vec<u8>>,
    /// A change that it has begun, of which a start may find that it came to pass.
    changing: Option<LogChange>,
    /// Where its tree was looked at last, and whether it waited for nothing then.
    looked_at: Option<(i64, bool)>,
    /// The epochs that others may know it to have promised and entered.
    vows: Epochs,
    /// The last epoch that it has entered, as it says itself.
    entered: Epoch,
}

/// See the module's introduction.
#[derive(Debug)]
pub(super) struct History {
    pub model: Model,
    /// Writes that clients asked for.
    requests: FixedMap<(SessionId, i32), Request>,
    /// What is committed, in order.
    entries: BTreeMap<i64, Vec<u8>>,
    /// Sessions whose end was logged by a member at least.
    ended: FixedMap<SessionId, ()>,
    /// Digest of the tree, and hash of the sessions, at each zxid at which one was looked at.
    digests: BTreeMap<i64, (u64, u64)>,
    /// Ends of sessions that come too early, if they are committed: what is wrong with each.
    early: BTreeMap<i64, String>,
    /// Highest zxid that a client has seen.
    revealed: i64,
    pub vigil: Vigil,
    /// Virtual time.
    pub now: u64,
    members: Vec<MemberLog>,
    /// How many of them have a vote; these come first.
    voters: usize,
    is_adopted: bool,
}

type Checked = Result<(), String>;

impl History {
    /// Of that many members, which have logged nothing; the first `voters` have a vote.
    pub fn new(members: usize, voters: usize) -> History {
        History {
            model: Model::default(),
            requests: FixedMap::default(),
            entries: BTreeMap::new(),
            ended: FixedMap::default(),
            digests: BTreeMap::new(),
            early: BTreeMap::new(),
            revealed: 0,
            vigil: Vigil::new(members, voters),
            now: 0,
            members: (0..members).map(|_| MemberLog::default()).collect(),
            voters,
            is_adopted: false,
        }
    }

    /// How many voters meet a condition, and how many there are.
    fn count(&self, meets: impl Fn(&MemberLog) -> bool) -> (usize, usize) {
        let voters = &self.members[..self.voters];
        (voters.iter().filter(|log| meets(log)).count(), self.voters)
    }

    /// A client asks for a write.
    pub fn asked(&mut self, session: SessionId, xid: i32, op: Op) {
        let floor = self.revealed;
        let moves = self.vigil.count_moves(session);
        self.requests.insert((session, xid), Request { op, floor, moves });
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
    pub fn revealed(&mut self, zxid: i64) -> Checked {
        let last = self.model.last;
        self.revealed = self.revealed.max(zxid);
        match zxid <= last || Zxid(zxid).counter() == 0 {
            true => Ok(()),
            false => Err(format!("0x{zxid:x} is revealed, and 0x{last:x} was committed last")),
        }
    }

    /// Highest zxid that a client has seen: what is asked for now is done after it.
    pub fn floor(&self) -> i64 {
        self.revealed
    }

    /// Highest zxid that a member has said is on its disk.
    pub fn durable(&self, member: usize) -> i64 {
        self.members[member].durable
    }

    /// The request that became a transaction.
    pub fn request(&self, header: &TxnHeader) -> Option<&Op> {
        self.requests.get(&(header.session, header.cxid.0)).map(|request| &request.op)
    }

    /// A transaction goes to a member's log.
    pub fn logged(&mut self, member: usize, entry: &[u8]) -> Result<TxnHeader, String> {
        let (header, txn) = decode(entry)?;
        if matches!(txn, Txn::CloseSession(_)) {
            self.note_expiry(member, &header);
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

    /// The first who logs the end of a session leads, or did so: it counts if it is committed.
    fn note_expiry(&mut self, member: usize, header: &TxnHeader) {
        let TxnHeader { session, cxid, zxid, .. } = *header;
        let is_known = self.members.iter().any(|log| log.entries.contains_key(&zxid.0))
            || self.entries.contains_key(&zxid.0);
        if cxid.0 != 0 || is_known {
            return;
        }
        let sessions = self.model.sessions(self.model.last);
        // Others own ephemerals without a session, or are not committed yet.
        if let Some(&(_, timeout_ms)) = sessions.iter().find(|(open, _)| *open == session)
            && let Err(why) = self.vigil.expires(self.now, member, session, timeout_ms)
        {
            self.early.insert(zxid.0, why);
        }
    }

    /// A member's log is asked for a change.
    pub fn log_changing(&mut self, member: usize, change: LogChange) {
        self.members[member].changing = Some(change);
    }

    /// Whether others may know that a member has promised an epoch.
    pub fn has_promised(&self, member: usize) -> bool {
        self.members[member].vows.accepted > Epoch(0)
    }

    /// A member's database is gone, and with it all that it had logged.
    pub fn lost(&mut self, member: usize) {
        let log = &mut self.members[member];
        let MemberLog { mut entries, mut lost, durable, vows, entered, .. } = std::mem::take(log);
        entries.retain(|zxid, _| *zxid <= durable);
        lost.append(&mut entries);
        *log = MemberLog { lost, vows, entered, ..MemberLog::default() };
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
                log.known = log.known.max(snapshot.0);
                return self.is_committed(snapshot.0);
            }
            LogChange::WriteEpoch { .. } => {}
        }
        Ok(())
    }

    /// The last transaction that a member's log was given. A process that dies in the middle of a
    /// turn may know of later ones as committed, which nobody hears of any more.
    pub fn handed_over(&self, member: usize) -> Zxid {
        let log = &self.members[member];
        Zxid(log.entries.last_key_value().map_or(log.checked, |(zxid, _)| *zxid).max(log.checked))
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
        (log.checked, log.known) = (to, log.known.max(to));
        let news = between(&log.entries, from, to);
        let news: Vec<_> = news.map(|(zxid, entry)| (*zxid, entry.clone())).collect();
        let mut last = from;
        for (zxid, entry) in news {
            let next = self.entries.range(last + 1..).next();
            match next {
                None => self.commit(zxid, &entry)?,
                Some((next, known)) if *next != zxid || !is_same(known, &entry) => {
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
            None => self.is_committed(to),
        }
    }

    /// Whether the zxid belongs to a committed transaction, or is the beginning of an epoch.
    fn is_committed(&self, zxid: i64) -> Checked {
        let last = self.model.last;
        match zxid <= last || Zxid(zxid).counter() == 0 {
            true => Ok(()),
            false => Err(format!("0x{zxid:x} counts as committed, 0x{last:x} was the last")),
        }
    }

    /// What a member commits first is on the disks of a quorum.
    fn check_quorum(&self, zxid: i64, entry: &[u8]) -> Checked {
        let has = |log: &MemberLog| {
            log.checked >= zxid && !log.entries.contains_key(&zxid)
                || log.durable >= zxid && log.entries.get(&zxid).is_some_and(|found| found == entry)
                || log.lost.get(&zxid).is_some_and(|found| found == entry)
        };
        let (count, all) = self.count(has);
        match 2 * count > all {
            true => Ok(()),
            false => Err(format!("0x{zxid:x} is committed, and {count} of {all} have it")),
        }
    }

    /// The next transaction of all.
    fn commit(&mut self, zxid: i64, entry: &[u8]) -> Checked {
        self.check_quorum(zxid, entry)?;
        let (header, txn) = decode(entry)?;
        let (session, xid) = (header.session, header.cxid.0);
        let at = Context { session, zxid, time_ms: header.time_ms };
        if let Some(err) = late_error(&txn) {
            return self.commit_late(at, xid, err, entry);
        }
        match (&txn, self.requests.get(&(session, xid))) {
            (Txn::CreateSession { timeout_ms }, _) => {
                self.vigil.begins(session);
                self.model.open_session(at, *timeout_ms);
            }
            (Txn::CloseSession(_), _) => {
                if let Some(why) = self.early.remove(&zxid) {
                    return Err(why);
                }
                self.model.close_session(at, xid);
            }
            (_, None) => return Err(format!("0x{zxid:x}: {session:?} never asked {xid}")),
            (txn, Some(request)) => {
                let Request { op, floor, .. } = request;
                if zxid <= *floor {
                    return Err(format!("0x{zxid:x} was asked for when 0x{floor:x} was seen"));
                }
                let answer = self.model.write(at, xid, op);
                check_outcome(&header, txn, &answer, op)?;
                self.vigil.done(self.now, session, xid)?;
            }
        }
        self.entries.insert(zxid, entry.to_vec());
        Ok(())
    }

    /// A request that came when its session had ended, or belonged to another member, or when it
    /// would have had to wait.
    fn commit_late(&mut self, at: Context, xid: i32, err: i32, entry: &[u8]) -> Checked {
        let Context { session, zxid, .. } = at;
        let is_open = self.model.has_session(session, self.model.last);
        if is_open && err == ErrorCode::SessionExpired.code() {
            return Err(format!("0x{zxid:x}: {session:?} is open and counts as expired"));
        }
        if err == ErrorCode::SessionMoved.code() {
            let request = self.requests.get(&(session, xid));
            let moves = request.map_or(0, |request| request.moves);
            self.vigil.refused_as_moved(self.now, session, moves)?;
        }
        if err == ErrorCode::ThrottledOp.code() {
            self.vigil.done(self.now, session, xid)?;
        }
        self.model.last = zxid;
        if let Some(request) = self.requests.get(&(session, xid)) {
            self.model.refuse(at, xid, &request.op, err);
        }
        self.entries.insert(zxid, entry.to_vec());
        Ok(())
    }

    /// A member has had a turn. Its tree is the one after its last transaction, also where it has
    /// more to do. Returns whether it waits for nothing, and was not looked at there.
    pub fn has_come(&mut self, member: usize, node: &Node) -> Result<bool, String> {
        let is_settled = node.replica().is_settled();
        let seen = (node.replica().last_processed().0, is_settled);
        if self.members[member].looked_at.replace(seen) == Some(seen) {
            return Ok(false);
        }
        self.check_digest(seen.0, node)?;
        if !is_settled || !is_comparable(node) {
            return Ok(false);
        }
        match first_orphan(node) {
            Some(orphan) => Err(format!("{orphan:?} does not exist and owns ephemerals")),
            None => Ok(true),
        }
    }

    /// Members that are equally far have the same tree, and the same sessions.
    fn check_digest(&mut self, at: i64, node: &Node) -> Checked {
        if !is_comparable(node) {
            return Ok(());
        }
        let sessions = node.replica().sessions();
        let of = |(id, ms): (SessionId, i32)| spread(id.0.cast_unsigned() ^ ms as u64);
        let hash = sessions.fold(0, |hash, session| hash ^ of(session));
        let found = (node.replica().tree().digest(), hash);
        match *self.digests.entry(at).or_insert(found) {
            known if known == found => Ok(()),
            (tree, _) if tree == found.0 => {
                let sessions: Vec<_> = node.replica().sessions().collect();
                let right = self.model.sessions(at);
                Err(format!(
                    "at 0x{at:x} others had other sessions than {sessions:?}; {right:?} are right"
                ))
            }
            _ => Err(format!("at 0x{at:x} others had another tree")),
        }
    }

    /// Others may know by now that a member has promised and entered these epochs.
    pub fn vowed(&mut self, member: usize, epochs: Epochs) {
        let vows = &mut self.members[member].vows;
        vows.accepted = vows.accepted.max(epochs.accepted);
        vows.current = vows.current.max(epochs.current);
    }

    /// A member has entered this epoch by now.
    pub fn entered(&mut self, member: usize, epoch: Epoch) {
        let log = &mut self.members[member];
        log.entered = log.entered.max(epoch);
    }

    /// A member begins to serve clients in this epoch, which a quorum has entered. A learner may be
    /// the first to enter it, if its leader went on from the epoch before just when it was in step.
    pub fn serves(&self, epoch: Epoch, role: Role) -> Checked {
        let least = if role == Role::Leading { epoch } else { Epoch(epoch.0.saturating_sub(1)) };
        let (count, all) = self.count(|log| log.entered >= least);
        match 2 * count > all {
            true => Ok(()),
            false => Err(format!(
                "epoch {:x} is served in, and {count} of {all} have entered it",
                epoch.0
            )),
        }
    }

    /// A member votes. What it would be after a power failure is what it says: `reloaded` is what
    /// a start makes of its disk.
    pub fn voted(&self, node: &Node, reloaded: &Reloaded) -> Checked {
        let Reloaded { recovered, digest, is_fuzzy } = reloaded;
        let replica = node.replica();
        let (logged, last) = (replica.last_logged(), recovered.last_zxid.max(Zxid::ZERO));
        // Observers say nothing.
        let vote = node.member().stands_with().filter(|vote| *vote != Vote::NOBODY);
        let said = vote.map_or(logged, |vote| vote.zxid);
        if logged != last || said != last && said != Zxid(-1) {
            return Err(format!("it votes with 0x{said}, has 0x{logged}, and its disk 0x{last}"));
        }
        if vote.is_some() && said != Zxid(-1) && recovered.empty.is_some() {
            return Err("it votes, and its disk has no database yet".into());
        }
        let found = (node.member().epochs(), recovered.epochs);
        let (Some(epochs), Some(stored)) = found else { return Ok(()) };
        // A start takes a history of a later epoch for synchronized, which goes no less far.
        let is_mended = epochs.current < logged.epoch() && stored.current == logged.epoch();
        if stored != epochs && !(is_mended && stored.accepted == epochs.accepted) {
            return Err(format!("it votes with {epochs:?}, and its disk has {stored:?}"));
        }
        let entries = |batches: &[Arc<Batch>]| -> BTreeMap<i64, Vec<u8>> {
            let each = batches.iter().flat_map(|batch| batch.iter());
            each.map(|(zxid, entry)| (zxid.0, entry.to_vec())).collect()
        };
        let (tail, on_disk) = (entries(&replica.tail()), entries(&recovered.tail));
        // Some of it may be committed, and wait for its turn.
        let from = replica.last_processed().max(recovered.committed).0 + 1;
        let (on_disk, tail) = (on_disk.range(from..), tail.range(from..));
        if !on_disk.clone().eq(tail.clone()) {
            let [on_disk, tail] = [on_disk, tail].map(|entries| {
                let ends = [entries.clone().next(), entries.clone().next_back()];
                ends.map(|entry| entry.map(|(zxid, _)| format!("0x{zxid:x}")))
            });
            return Err(format!("its tail is {tail:?}, and its disk has {on_disk:?}"));
        }
        let at = recovered.committed.max(Zxid::ZERO).0;
        self.is_committed(at)?;
        match self.digests.get(&at) {
            Some((known, _)) if known != digest && !is_fuzzy => {
                Err(format!("its disk has another tree at 0x{at:x} than others had"))
            }
            _ => Ok(()),
        }
    }

    /// A member's tree and its sessions are what they must be where it is. One that was received,
    /// and shows effects of what comes later, cannot be compared.
    pub fn compare(&self, node: &Node, when: &str) -> Checked {
        if !is_comparable(node) {
            return Ok(());
        }
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
        if known > log.known {
            let before = log.known;
            return Err(format!("it knew of 0x{before:x} as committed, recovery of 0x{known:x}"));
        }
        if replica.digest_mismatches() > 0 {
            return Err("replay does not give the digest of the snapshot".into());
        }
        let (vows, epochs) = (log.vows, started.recovered.epochs.unwrap_or_default());
        if epochs.accepted < vows.accepted || epochs.current < vows.current {
            return Err(format!("others know of {vows:?}, recovery finds {epochs:?}"));
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

/// Whether a member's tree is the one of its last transaction: it has one, and if it was received,
/// that does not show effects of what comes later.
fn is_comparable(node: &Node) -> bool {
    !node.replica().is_fuzzy() && !node.replica().is_void()
}

/// Whether two members have the same transaction. One that was received just after a database,
/// which may be ahead of it, comes without the digest of the tree.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    TxnDigest::cut_off(one) == TxnDigest::cut_off(other)
}

/// The entries behind `from` up to `to`.
fn between(
    entries: &BTreeMap<i64, Vec<u8>>,
    from: i64,
    to: i64,
) -> impl Iterator<Item = (&i64, &Vec<u8>)> {
    entries.range((Bound::Excluded(from), Bound::Included(to)))
}

/// The error of a request that was refused for its session, or as it had to wait for an epoch and
/// there was no room for that, and not for what it asks.
fn late_error(txn: &Txn<'_>) -> Option<i32> {
    let err = match txn {
        Txn::Error { err } => *err,
        Txn::Multi(multi) => match multi.iter().next()?.txn() {
            Ok(Txn::Error { err }) => err,
            _ => return None,
        },
        _ => return None,
    };
    use ErrorCode::{SessionExpired, SessionMoved, ThrottledOp};
    let late = [SessionExpired, SessionMoved, ThrottledOp].map(ErrorCode::code);
    late.contains(&err).then_some(err)
}

fn decode(entry: &[u8]) -> Result<(TxnHeader, Txn<'_>), String> {
    let mut r = Reader::new(entry);
    let header = TxnHeader::decode_from(&mut r).map_err(|e| e.to_string())?;
    let txn = Txn::decode_from(header.kind, &mut r).map_err(|e| e.to_string())?;
    Ok((header, txn))
}

#[cfg(test)]
mod tests;
