//! A write request: decoded, judged by the leader, noted in the tail.
//!
//! Corresponds to the entry of `PrepRequestProcessor`, for clients of this server and of its
//! learners (see `replica::forwarded`). Everything that a write needs is looked up once here; what
//! it means is decided in [`crate::pipeline`].

use crate::auth::{Auth, Identities};
use crate::base::{Now, SessionId, Xid, Zxid, validate_path};
use crate::leader::{Asker, View};
use crate::pipeline::{Multi, Outcome, Preparer, bytes_cost};
use crate::tree::Tree;
use crate::wire::{
    Create, DecodeError, ErrorCode, MultiOps, OpCode, PathVersion, Perms, Reader, Reconfig, SetAcl,
    SetData, put_error_reply,
};

use super::client::Clients;
use super::core::Replica;
use super::effects::Effects;
use super::fair::WRITE_COST;
use super::leading::leading;
use super::request::Request;
use super::tail::Origin;

/// A request for a write, of a client or of another member. Each kind has its own copy of the code
/// below, so that one costs the other nothing.
pub(super) trait Writer {
    /// Where the answer to the transaction goes.
    fn origin(&self) -> Origin;

    /// The session that asks, and its identities; `None` if its connection is gone.
    fn who<'a>(&'a self, clients: &'a Clients) -> Option<(SessionId, &'a Identities)>;

    /// When the request came, its number, and its type.
    fn request(&self) -> (Now, Xid, OpCode);

    /// Why nothing of it is done.
    fn refused(&self) -> Option<ErrorCode>;
}

impl Writer for Request<'_> {
    #[inline(always)]
    fn origin(&self) -> Origin {
        Origin::Client(self.conn)
    }

    #[inline(always)]
    fn who<'a>(&'a self, clients: &'a Clients) -> Option<(SessionId, &'a Identities)> {
        Request::who(self, clients)
    }

    #[inline(always)]
    fn request(&self) -> (Now, Xid, OpCode) {
        (self.now, self.xid, self.op)
    }

    #[inline(always)]
    fn refused(&self) -> Option<ErrorCode> {
        None
    }
}

impl Replica {
    /// Prepares a write. One that cannot be decoded makes no transaction: it is answered like a
    /// read.
    pub(super) fn write(&mut self, request: &Request<'_>, effects: &mut Effects) {
        if self.learner.is_some() {
            return self.forward_write(request, effects);
        }
        let before = self.tail.last();
        if self.write_as(request, request.body(), effects).is_err() {
            return self.read_or_defer(request, effects);
        }
        let last = self.tail.last();
        if last > before {
            self.wrote_large(last, request.frame.len());
        }
    }

    /// Decodes the record of a write, see [`OpCode::is_write`], and has it prepared.
    #[inline(always)]
    pub(super) fn write_as(
        &mut self,
        writer: &impl Writer,
        record: &[u8],
        effects: &mut Effects,
    ) -> Result<(), DecodeError> {
        let r = &mut Reader::new(record);
        match writer.request().2 {
            OpCode::SetData => SetData::decode_from(r).map(|set| {
                self.transact(writer, set.path, effects, |p, entry| p.set_data(&set, entry));
            }),
            OpCode::Delete => PathVersion::decode_from(r).map(|delete| {
                let path = delete.path.as_deref().map(str::as_bytes);
                self.transact(writer, path, effects, |p, entry| p.delete(&delete, entry));
            }),
            OpCode::SetAcl => SetAcl::decode_from(r).map(|set| {
                let path = set.path.as_deref().map(str::as_bytes);
                self.transact(writer, path, effects, |p, entry| p.set_acl(&set, entry));
            }),
            OpCode::Multi => self.multi(writer, r),
            OpCode::Reconfig => Reconfig::decode_from(r).map(|_| {
                let code = match self.options.reconfig_enabled {
                    true => ErrorCode::Unimplemented,
                    false => ErrorCode::ReconfigDisabled,
                };
                self.transact(writer, None, effects, |_, _| Err(code));
            }),
            op @ (OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl) => Create::decode_from(r, op).map(|create| {
                let path = create.path.as_deref().map(str::as_bytes);
                self.transact(writer, path, effects, |p, entry| p.create(op, &create, entry));
            }),
            op => unreachable!("{op:?} was taken for a write"),
        }
    }

    /// Has a transaction made of what `prepare` writes or, if it fails, of its error.
    #[inline(always)]
    fn transact(
        &mut self,
        writer: &impl Writer,
        path: Option<&[u8]>,
        effects: &mut Effects,
        prepare: impl FnOnce(&mut Preparer<'_>, &mut Vec<u8>) -> Outcome,
    ) {
        let (now, xid, op) = writer.request();
        // A connection that is gone asks for nothing more.
        let Some((session, identities)) = writer.who(&self.clients) else { return };
        let mut refused = writer.refused();
        if self.options.limits.eager_acl && !allows(&self.auth, &self.tree, op, path, identities) {
            if let Some(conn) = writer.origin().conn() {
                let mut reply = Vec::with_capacity(20);
                put_error_reply(&mut reply, xid, Zxid::ZERO, ErrorCode::NoAuth);
                return self.send_in_order(conn, reply, effects);
            }
            refused = refused.or(Some(ErrorCode::NoAuth));
        }
        let view = View { tree: &self.tree, auth: &self.auth };
        let asker = Asker { session, identities, xid, refused };
        let proposed = leading(&mut self.leader).transact(now, view, asker, prepare);
        if proposed.exceeds_quota {
            self.stats.quota_exceeded.record(path.unwrap_or_default(), 1);
        }
        self.fair.spent += WRITE_COST + bytes_cost(proposed.len) + self.auth.take_cost();
        self.proposed(now, proposed, writer.origin(), xid, op);
    }

    #[inline]
    fn multi(&mut self, writer: &impl Writer, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let (hasher, hashes) = (self.tree.hasher(), &mut self.ahead_hashes);
        hashes.clear();
        let multi = Multi::check(*r, |path| hashes.push(hasher.path_bytes(path)));
        if multi.as_ref().err() == Some(&MultiOps::NULL_ACL) {
            return Err(MultiOps::NULL_ACL);
        }
        let (now, xid, op) = writer.request();
        // A connection that is gone asks for nothing more.
        let Some((session, identities)) = writer.who(&self.clients) else { return Ok(()) };
        let count = multi.as_ref().map_or(0, Multi::len) as u64;
        if multi.is_ok() {
            self.tree.touch_paths(&self.ahead_hashes);
        }
        let ops = multi.as_ref().map(Multi::iter).map_err(|_| ErrorCode::MarshallingError);
        let view = View { tree: &self.tree, auth: &self.auth };
        let asker = Asker { session, identities, xid, refused: writer.refused() };
        let quotas = &mut self.stats.quota_exceeded;
        let mut over_quota = |path: &[u8]| quotas.record(path, 1);
        let proposed = leading(&mut self.leader).multi(now, view, asker, ops, &mut over_quota);
        let cost = WRITE_COST * count + bytes_cost(proposed.len);
        self.fair.spent += cost + self.auth.take_cost();
        self.proposed(now, proposed, writer.origin(), xid, op);
        Ok(())
    }

    /// Has an error transaction made of a request of which nothing is done.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        session: SessionId,
        xid: Xid,
        op: OpCode,
        origin: Origin,
        code: ErrorCode,
    ) {
        let proposed = leading(&mut self.leader).refuse(now, session, xid, code);
        self.fair.spent += WRITE_COST;
        self.proposed(now, proposed, origin, xid, op);
    }
}

/// `ZooKeeperServer.authWriteRequest`: whether committed permissions allow a write. `true` if
/// anything else is wrong with the write: that is found when it is prepared.
pub(super) fn allows(
    auth: &Auth,
    tree: &Tree,
    op: OpCode,
    path: Option<&[u8]>,
    identities: &Identities,
) -> bool {
    // No path, or one that is no text: see above.
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
    // No such node: see above.
    let Some(node) = tree.find(&tree.key(path)) else { return true };
    let (acls, acl) = (tree.acls(), tree.acl(node));
    auth.allows(acls.bytes(acl), acls.serial(acl), perms, identities)
}
