//! A write request: decoded, prepared against the pending view, queued as a proposal.
//!
//! Corresponds to the entry of `PrepRequestProcessor`. Everything that a write needs is looked up
//! once here; what it means is decided in [`crate::pipeline`].

use crate::auth::{Auth, Identities};
use crate::base::{ConnId, Now, SessionId, Xid, Zxid, validate_path};
use crate::log::Batch;
use crate::pipeline::{Outcome, Preparer, Slot, decode_multi};
use crate::tree::{ApplyHint, Tree};
use crate::wire::{
    Create, DecodeError, ErrorCode, MultiOp, MultiOps, OpCode, PathVersion, Perms, Reader,
    Reconfig, SetAcl, SetData, TxnHeader, TxnType, put_error_reply, put_error_txn, put_i32,
};

use super::core::{Proposal, Replica};
use super::effects::Effects;
use super::fair::{WRITE_COST, bytes_cost};
use super::request::Request;

/// Bytes that one transaction may take; frames are far smaller.
const TXN_BYTES_MAX: usize = 64 << 20;

impl Replica {
    /// Prepares a write. One that cannot be decoded makes no transaction: it is answered like a
    /// read.
    pub(super) fn write(&mut self, request: &Request<'_>, fx: &mut Effects) {
        let before = self.prepared;
        let r = &mut Reader::new(request.body());
        let decoded = match request.op {
            OpCode::SetData => SetData::decode_from(r).map(|set| {
                self.transact(request, set.path, fx, |p, entry| p.set_data(&set, entry));
            }),
            OpCode::Delete => PathVersion::decode_from(r).map(|delete| {
                let path = delete.path.as_deref().map(str::as_bytes);
                self.transact(request, path, fx, |p, entry| p.delete(&delete, entry));
            }),
            OpCode::SetAcl => SetAcl::decode_from(r).map(|set| {
                let path = set.path.as_deref().map(str::as_bytes);
                self.transact(request, path, fx, |p, entry| p.set_acl(&set, entry));
            }),
            OpCode::Multi => self.multi(request, r),
            OpCode::Reconfig => Reconfig::decode_from(r).map(|_| {
                let code = match self.options.reconfig_enabled {
                    true => ErrorCode::Unimplemented,
                    false => ErrorCode::ReconfigDisabled,
                };
                self.transact(request, None, fx, |_, _| Err(code));
            }),
            op => Create::decode_from(r, op).map(|create| {
                let path = create.path.as_deref().map(str::as_bytes);
                self.transact(request, path, fx, |p, entry| p.create(op, &create, entry));
            }),
        };
        if decoded.is_err() {
            return self.read_or_defer(request, fx);
        }
        if self.prepared > before {
            self.wrote_large(self.prepared, request.frame.len());
        }
    }

    /// Makes a transaction of what `prepare` writes or, if it fails, of its error.
    #[inline(always)]
    fn transact(
        &mut self,
        request: &Request<'_>,
        path: Option<&[u8]>,
        fx: &mut Effects,
        prepare: impl FnOnce(&mut Preparer<'_>, &mut Vec<u8>) -> Outcome,
    ) {
        let Request { now, conn, op, xid, .. } = *request;
        let client = self.clients.get_mut(conn);
        let (session, identities) = match (request.asked, client.as_deref()) {
            (Some(asked), _) => asked,
            (None, Some(client)) => (client.session, &client.identities),
            (None, None) => return,
        };
        if self.options.limits.eager_acl && !allows(&self.auth, &self.tree, op, path, identities) {
            let mut reply = Vec::with_capacity(20);
            put_error_reply(&mut reply, xid, Zxid::ZERO, ErrorCode::NoAuth);
            return self.send_in_order(conn, reply, fx);
        }
        let (header, start) = begin_txn(&mut self.prepared, &mut self.batch, now, session, xid);
        let mut preparer = Preparer {
            tree: &self.tree,
            pending: &mut self.pending,
            auth: &self.auth,
            options: &self.options.prepare,
            session,
            identities,
            zxid: header.zxid,
            touched: &mut self.touched,
            hint: &mut self.hint,
            scratch: &mut self.scratch,
        };
        let outcome = prepare(&mut preparer, self.batch.entry());
        if outcome == Err(ErrorCode::QuotaExceeded) {
            self.stats.quota_exceeded.record(path.unwrap_or_default(), 1);
        }
        let len = end_txn(&mut self.batch, header, start, outcome);
        self.fair.spent += WRITE_COST + bytes_cost(len) + self.auth.take_cost();
        if let Some(client) = client {
            client.writes_prepared += 1;
            client.in_flight_bytes += len;
        }
        self.queue(now, header.zxid, Some(conn), xid, op, len);
    }

    /// Begins a transaction: its header and where its entry starts in the batch.
    pub(super) fn begin_txn(
        &mut self,
        now: Now,
        session: SessionId,
        cxid: Xid,
    ) -> (TxnHeader, usize) {
        begin_txn(&mut self.prepared, &mut self.batch, now, session, cxid)
    }

    /// Ends a transaction begun at `start`: its outcome decides what kind it is.
    /// Returns the length of its entry.
    pub(super) fn end_txn(&mut self, header: TxnHeader, start: usize, outcome: Outcome) -> usize {
        end_txn(&mut self.batch, header, start, outcome)
    }

    /// Queues the proposal of a transaction that was just encoded.
    pub(super) fn queue_proposal(
        &mut self,
        now: Now,
        zxid: Zxid,
        conn: Option<ConnId>,
        xid: Xid,
        op: OpCode,
        len: usize,
    ) {
        self.queue(now, zxid, conn, xid, op, len);
        if let Some(client) = conn.and_then(|conn| self.clients.get_mut(conn)) {
            client.writes_prepared += 1;
            client.in_flight_bytes += len;
        }
    }

    #[inline(always)]
    fn queue(
        &mut self,
        now: Now,
        zxid: Zxid,
        conn: Option<ConnId>,
        xid: Xid,
        op: OpCode,
        len: usize,
    ) {
        // A batch is smaller than 4 GiB.
        let len = len as u32;
        let (touched, more_touched) = match *self.touched {
            [] => ([Slot::MAX; 2], None),
            [only] => ([only, Slot::MAX], None),
            [first, second] => ([first, second], None),
            ref all => ([Slot::MAX; 2], Some(all.into())),
        };
        self.touched.clear();
        let received = now.mono;
        let hint = std::mem::replace(&mut self.hint, ApplyHint::NONE);
        let proposal = Proposal { zxid, conn, xid, op, len, received, touched, more_touched, hint };
        self.proposals.push_back(proposal);
    }

    fn multi(&mut self, request: &Request<'_>, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let ops = decode_multi(*r);
        if ops == Err(MultiOps::NULL_ACL) {
            return Err(MultiOps::NULL_ACL);
        }
        let Request { now, conn, xid, .. } = *request;
        let Some((session, _)) = request.who(&self.clients) else { return Ok(()) };
        let (header, start) = self.begin_txn(now, session, xid);
        let outcome = match ops {
            Ok(ops) => self.operations(request, header.zxid, &ops),
            Err(_) => Err(ErrorCode::MarshallingError),
        };
        self.hint = ApplyHint::NONE;
        let len = self.end_txn(header, start, outcome);
        self.fair.spent += bytes_cost(len) + self.auth.take_cost();
        self.queue_proposal(now, header.zxid, Some(conn), xid, OpCode::Multi, len);
        Ok(())
    }

    /// All or nothing: the first failure takes back what the operations before it changed.
    fn operations(&mut self, request: &Request<'_>, zxid: Zxid, ops: &[MultiOp<'_>]) -> Outcome {
        let paths = ops.iter().filter_map(MultiOp::path);
        self.ahead_hashes.clear();
        self.ahead_hashes.extend(paths.map(|path| self.tree.hasher().path_bytes(path)));
        self.tree.touch_paths(&self.ahead_hashes);
        let who = request.who(&self.clients);
        let (session, identities) = who.ok_or(ErrorCode::SessionExpired)?;
        self.fair.spent += WRITE_COST * ops.len() as u64;
        let entry = self.batch.entry();
        let begun = entry.len();
        put_i32(entry, ops.len() as i32);
        self.pending.begin_multi();
        let mut failed = None;
        for op in ops {
            let at = entry.len();
            put_i32(entry, 0);
            put_i32(entry, 0);
            let outcome = match failed {
                Some(_) => Err(ErrorCode::RuntimeInconsistency),
                // ACLs of `auth:` entries grow with the identities of who asks.
                None if entry.len() - begun > TXN_BYTES_MAX => Err(ErrorCode::MarshallingError),
                None => Preparer {
                    tree: &self.tree,
                    pending: &mut self.pending,
                    auth: &self.auth,
                    options: &self.options.prepare,
                    session,
                    identities,
                    zxid,
                    touched: &mut self.touched,
                    hint: &mut self.hint,
                    scratch: &mut self.scratch,
                }
                .sub_operation(op, entry),
            };
            let kind = match outcome {
                Ok(kind) => kind,
                Err(code) => {
                    if code == ErrorCode::QuotaExceeded {
                        self.stats.quota_exceeded.record(op.path().unwrap_or_default(), 1);
                    }
                    failed = failed.or(Some(code));
                    entry.truncate(at + 8);
                    put_error_txn(entry, code.code());
                    TxnType::Error
                }
            };
            let len = (entry.len() - at - 8) as i32;
            entry[at..at + 4].copy_from_slice(&(kind as i32).to_be_bytes());
            entry[at + 4..at + 8].copy_from_slice(&len.to_be_bytes());
        }
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
}

fn begin_txn(
    prepared: &mut Zxid,
    batch: &mut Batch,
    now: Now,
    session: SessionId,
    cxid: Xid,
) -> (TxnHeader, usize) {
    let zxid = Zxid(prepared.0 + 1);
    *prepared = zxid;
    let header = TxnHeader { session, cxid, zxid, time_ms: now.wall_ms, kind: TxnType::Error };
    let entry = batch.entry();
    let start = entry.len();
    header.encode_into(entry);
    (header, start)
}

fn end_txn(batch: &mut Batch, header: TxnHeader, start: usize, outcome: Outcome) -> usize {
    let entry = batch.entry();
    match outcome {
        Ok(kind) => {
            entry[start + 28..start + 32].copy_from_slice(&(kind as i32).to_be_bytes());
        }
        Err(code) => {
            entry.truncate(start + TxnHeader::SIZE);
            put_error_txn(entry, code.code());
        }
    }
    let len = entry.len() - start;
    batch.finish_entry(header.zxid);
    len
}

/// `ZooKeeperServer.authWriteRequest`: whether committed permissions allow a write. What is wrong
/// with it otherwise is found when it is prepared.
fn allows(
    auth: &Auth,
    tree: &Tree,
    op: OpCode,
    path: Option<&[u8]>,
    identities: &Identities,
) -> bool {
    let Some(Ok(path)) = path.map(str::from_utf8) else { return true };
    let parent = match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => "",
    };
    let (path, perms) = match op {
        OpCode::Create | OpCode::Create2 => (parent, Perms::CREATE),
        OpCode::Delete => (parent, Perms::DELETE),
        OpCode::SetData => (path, Perms::WRITE),
        OpCode::SetAcl => (path, Perms::ADMIN),
        _ => return true,
    };
    if validate_path(path).is_err() {
        return true;
    }
    let Some(node) = tree.find(&tree.key(path)) else { return true };
    auth.allows(tree.acls().bytes(tree.acl(node)), perms, identities)
}
