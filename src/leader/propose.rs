//! Requests to numbered transactions. What a request means is decided in [`crate::pipeline`].

use crate::auth::{Auth, Identities};
use crate::base::{Now, SessionId, Xid, Zxid, invariant};
use crate::pipeline::{Outcome, PrepareOptions, Preparer, Slot};
use crate::session::{Owner, SessionSlot};
use crate::tree::{ApplyHint, Tree};
use crate::wire::{
    ErrorCode, MultiOp, TxnHeader, TxnType, begin_sub_txn, begin_vector, end_sub_txn, end_vector,
    put_close_session_txn, put_error_txn, put_i32, restart_sub_txn,
};

use super::leadership::{Leader, Prepared};

/// The committed state that a request is judged by, together with what is pending.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Nodes.
    pub tree: &'a Tree,
    /// Access rules.
    pub auth: &'a Auth,
}

/// On whose behalf a request is judged.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The session.
    pub session: SessionId,
    /// What its client has authenticated as.
    pub identities: &'a Identities,
    /// The request's number on its connection; 0 for the server's own.
    pub xid: Xid,
    /// Why nothing of the request is done, whatever it is: every request becomes a transaction.
    pub refused: Option<ErrorCode>,
}

/// A transaction that was made of a request, be it of its error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// Its number.
    pub zxid: Zxid,
    /// Bytes of its entry in the log.
    pub len: usize,
    /// A quota refused it.
    pub exceeds_quota: bool,
}

impl Leader {
    /// Makes a transaction of what `prepare` writes or, if it fails, of its error.
    #[inline(always)]
    pub fn transact(
        &mut self,
        now: Now,
        view: View<'_>,
        asker: Asker<'_>,
        prepare: impl FnOnce(&mut Preparer<'_>, &mut Vec<u8>) -> Outcome,
    ) -> Proposed {
        let (header, start) = self.begin(now, asker.session, asker.xid);
        let (mut preparer, entry) = self.preparer(view, asker, header.zxid);
        let outcome = match asker.refused {
            Some(code) => Err(code),
            None => prepare(&mut preparer, entry),
        };
        self.end(header, start, outcome)
    }

    /// A multi: all or nothing. The first failure takes back what the operations before it changed.
    /// `over_quota` is told the paths that a quota refuses.
    pub fn multi<'o>(
        &mut self,
        now: Now,
        view: View<'_>,
        asker: Asker<'_>,
        ops: Result<impl Iterator<Item = MultiOp<'o>>, ErrorCode>,
        over_quota: &mut dyn FnMut(&[u8]),
    ) -> Proposed {
        let (header, start) = self.begin(now, asker.session, asker.xid);
        let outcome =
            ops.and_then(|ops| self.operations(view, asker, header.zxid, ops, over_quota));
        self.hint = ApplyHint::NONE;
        self.end(header, start, outcome)
    }

    fn operations<'o>(
        &mut self,
        view: View<'_>,
        asker: Asker<'_>,
        zxid: Zxid,
        ops: impl Iterator<Item = MultiOp<'o>>,
        over_quota: &mut dyn FnMut(&[u8]),
    ) -> Outcome {
        let begun = self.batch.entry().len();
        let bytes_max = self.options.prepare.txn_bytes_max;
        let vector = begin_vector(self.batch.entry());
        let mut count = 0;
        self.pending.begin_multi(zxid);
        let mut failed = None;
        for op in ops {
            let (mut preparer, entry) = self.preparer(view, asker, zxid);
            let start = begin_sub_txn(entry);
            let outcome = match failed {
                Some(_) => Err(ErrorCode::RuntimeInconsistency),
                None => match asker.refused {
                    Some(code) => Err(code),
                    None => preparer.sub_operation(&op, entry),
                },
            };
            // ACLs of `auth:` entries grow with the identities of the asker.
            let is_too_long = entry.len() - begun > bytes_max;
            let outcome = if is_too_long { Err(ErrorCode::MarshallingError) } else { outcome };
            let kind = match outcome {
                Ok(kind) => kind,
                Err(code) => {
                    if code == ErrorCode::QuotaExceeded {
                        over_quota(op.path().unwrap_or_default());
                    }
                    failed = failed.or(Some(code));
                    restart_sub_txn(entry, start);
                    put_error_txn(entry, code.code());
                    TxnType::Error
                }
            };
            end_sub_txn(entry, start, kind);
            count += 1;
        }
        end_vector(self.batch.entry(), vector, count);
        if failed.is_some() {
            self.pending.rollback();
            self.touched.clear();
        } else {
            self.pending.keep_multi();
            self.touched.sort_unstable();
            self.touched.dedup();
        }
        match failed {
            Some(ErrorCode::MarshallingError) => Err(ErrorCode::MarshallingError),
            _ => Ok(TxnType::Multi),
        }
    }

    /// A new session with a timeout in ms, tracked from now on, of a client of `owner`. One that
    /// is there already gets a new owner, unless it is closing: then this is an error transaction.
    pub fn create_session(
        &mut self,
        now: Now,
        session: SessionId,
        xid: Xid,
        timeout_ms: i32,
        owner: Owner,
    ) -> (SessionSlot, Proposed) {
        let slot = self.sessions.create(session, timeout_ms, now.mono);
        let outcome = match self.sessions.is_closing(slot) {
            true => Err(ErrorCode::SessionExpired),
            false => Ok(TxnType::CreateSession),
        };
        self.sessions.set_owner(slot, owner);
        let (header, start) = self.begin(now, session, xid);
        put_i32(self.batch.entry(), timeout_ms);
        (slot, self.end(header, start, outcome))
    }

    /// The error transaction of a request of which nothing is done, not even decoded.
    pub fn refuse(&mut self, now: Now, session: SessionId, xid: Xid, code: ErrorCode) -> Proposed {
        let (header, start) = self.begin(now, session, xid);
        self.end(header, start, Err(code))
    }

    /// The end of a session, asked for by its client or by the clock. Also returns how many nodes
    /// go with it.
    pub fn close_session(
        &mut self,
        now: Now,
        view: View<'_>,
        session: SessionId,
        xid: Xid,
    ) -> (Proposed, usize) {
        if let Some(slot) = self.sessions.get(session) {
            self.sessions.set_closing(slot);
        }
        let (header, start) = self.begin(now, session, xid);
        let mut paths = Vec::new();
        let asker = Asker { session, identities: &Identities::none(), xid, refused: None };
        self.preparer(view, asker, header.zxid).0.close_session(&mut paths);
        // Without its paths it ends the same nodes.
        let bytes = paths.iter().fold(4, |sum, path| sum + 4 + path.len());
        let PrepareOptions { close_session_paths, txn_bytes_max, .. } = self.options.prepare;
        if close_session_paths && bytes <= txn_bytes_max {
            put_close_session_txn(self.batch.entry(), &paths);
        }
        (self.end(header, start, Ok(TxnType::CloseSession)), paths.len())
    }

    /// The removal of a container or TTL node that is due.
    pub fn delete_container(&mut self, now: Now, view: View<'_>, path: &str) -> Proposed {
        let identities = &Identities::none();
        let asker = Asker { session: SessionId(0), identities, xid: Xid(0), refused: None };
        self.transact(now, view, asker, |preparer, entry| preparer.delete_container(path, entry))
    }

    #[inline(always)]
    fn preparer<'a>(
        &'a mut self,
        view: View<'a>,
        asker: Asker<'a>,
        zxid: Zxid,
    ) -> (Preparer<'a>, &'a mut Vec<u8>) {
        let preparer = Preparer {
            tree: view.tree,
            pending: &mut self.pending,
            auth: view.auth,
            options: &self.options.prepare,
            session: asker.session,
            identities: asker.identities,
            zxid,
            touched: &mut self.touched,
            hint: &mut self.hint,
            scratch: &mut self.scratch,
            now: self.now,
            soft_quota: &mut self.soft_quota,
        };
        (preparer, self.batch.entry())
    }

    /// Begins a transaction: its header, and where its entry starts in the batch.
    #[inline(always)]
    fn begin(&mut self, now: Now, session: SessionId, cxid: Xid) -> (TxnHeader, usize) {
        let zxid = self.last.next();
        let numbering = self.numbering;
        invariant!(numbering.has(zxid), "{zxid:?} of {numbering:?}: it had to hand over before");
        (self.last, self.now) = (zxid, now.mono);
        let header = TxnHeader { session, cxid, zxid, time_ms: now.wall_ms, kind: TxnType::Error };
        let entry = self.batch.entry();
        let start = entry.len();
        header.encode_into(entry);
        (header, start)
    }

    /// Ends a transaction begun at `start`: its outcome decides what kind it is.
    #[inline(always)]
    fn end(&mut self, header: TxnHeader, start: usize, outcome: Outcome) -> Proposed {
        let entry = self.batch.entry();
        match outcome {
            Ok(kind) => TxnHeader::set_kind(&mut entry[start..], kind),
            Err(code) => {
                entry.truncate(start + TxnHeader::SIZE);
                put_error_txn(entry, code.code());
            }
        }
        let len = entry.len() - start;
        self.batch.finish_entry(header.zxid);
        let (touched, more_touched) = match *self.touched {
            [] => ([Slot::MAX; 2], None),
            [only] => ([only, Slot::MAX], None),
            [first, second] => ([first, second], None),
            ref all => ([Slot::MAX; 2], Some(all.into())),
        };
        self.touched.clear();
        let hint = std::mem::replace(&mut self.hint, ApplyHint::NONE);
        let zxid = header.zxid;
        self.outstanding.push_back(Prepared { zxid, touched, more_touched, hint });
        let exceeds_quota = outcome == Err(ErrorCode::QuotaExceeded);
        Proposed { zxid, len, exceeds_quota }
    }
}
