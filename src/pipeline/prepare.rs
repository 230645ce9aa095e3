//! Turning a write request into a transaction: every check of the request against the pending
//! view, in ZooKeeper's order, then the transaction's body and the changed records.
//!
//! Corresponds to `PrepRequestProcessor.pRequest2Txn`. One [`Preparer`] serves one transaction;
//! in a multi it serves every sub-operation, so that each sees the effects of those before it.

use std::borrow::Cow;

use crate::auth::{AclError, Auth, Identities};
use crate::base::{CONTAINER_OWNER, Instant, PathKey, Ration, SessionId, Zxid, validate_path};
use crate::tree::{ApplyHint, NodeView, OwnerKind, TTL_MAX_MS, Tree, ttl_owner};
use crate::wire::{
    AclBytes, Create, CreateMode, CreateTxn, DecodeError, ErrorCode, MultiOp, MultiOps, OpCode,
    PathVersion, Perms, Reader, SetAcl, SetData, TxnType, put_create_txn, put_i32, put_str,
};

use super::lists::EPHEMERALS_AHEAD;
use super::pending::{Pending, PendingView, Place, Slot, fresh_view};

/// Settings that checks depend on.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// `extendedTypesEnabled`: TTL nodes may be made.
    pub extended_types: bool,
    /// `emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `closeSessionTxn.enabled`: a closeSession lists what it deletes.
    pub close_session_paths: bool,
    /// A create2 inside a multi becomes a transaction of that type, so that its client gets the
    /// stat, too. COMPAT(3.8.0, 3.8.1): such a server does not know it there, and leaves out the
    /// rest of the multi without a word (ZOOKEEPER-4026).
    pub create2_in_multi: bool,
    /// Bytes that a transaction may take without its header. A member of Apache's that reads a
    /// larger one leaves its leader, again and again, and does not start with one in its log.
    pub txn_bytes_max: usize,
}

/// What Apache's servers take by default: `jute.maxbuffer` and the same again, but for the header,
/// a digest, and a little.
const TXN_BYTES_MAX: usize = 2 * 0xf_ffff - 64;

impl Default for PrepareOptions {
    fn default() -> PrepareOptions {
        PrepareOptions {
            extended_types: false,
            emulate_353_ttl: false,
            enforce_quota: false,
            close_session_paths: true,
            create2_in_multi: true,
            txn_bytes_max: TXN_BYTES_MAX,
        }
    }
}

impl PrepareOptions {
    /// Whether a raw owner is a session, so that the node is an ephemeral.
    pub fn is_session_owner(&self, owner: i64) -> bool {
        let kind = OwnerKind::classify(owner, self.extended_types, self.emulate_353_ttl);
        matches!(kind, OwnerKind::Ephemeral(_))
    }
}

/// Bytes of a transaction beside its path, data and ACL: lengths, versions, the number of a
/// sequential node.
const FIXED_BYTES_MAX: usize = 64;

/// Prepares one transaction; see the module's introduction.
pub struct Preparer<'a> {
    /// Committed state.
    pub tree: &'a Tree,
    /// State with everything prepared so far.
    pub pending: &'a mut PendingView,
    /// Access rules.
    pub auth: &'a Auth,
    /// Settings.
    pub options: &'a PrepareOptions,
    /// Who asks.
    pub session: SessionId,
    /// As whom, at the time the request was read.
    pub identities: &'a Identities,
    /// The transaction's position.
    pub zxid: Zxid,
    /// Records it touches, for [`PendingView::release`].
    pub touched: &'a mut Vec<Slot>,
    /// Set if applying can do without a look-up; meaningless for a multi.
    pub hint: &'a mut ApplyHint,
    /// Reused buffer for ACL fix-up.
    pub scratch: &'a mut Vec<u8>,
    /// When the request came, for `soft_quota`.
    pub now: Instant,
    /// Lines about soft quotas that are exceeded, which a client can do with each write.
    pub soft_quota: &'a mut Ration,
}

/// What a write has to satisfy is an [`ErrorCode`] otherwise; the body is then incomplete and
/// must be dropped.
pub type Outcome = Result<TxnType, ErrorCode>;

fn check_version(expected: i32, current: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BadVersion);
    }
    // From -2 to -1, as in every 3.9, although a client that asks for version -1 asks for any.
    Ok(current.wrapping_add(1))
}

/// The path, where a null one is Java's null pointer.
fn not_null(path: Option<&str>) -> Result<&str, ErrorCode> {
    path.ok_or(ErrorCode::MarshallingError)
}

fn has_path_shape(path: &str) -> Result<(), ErrorCode> {
    if path.contains('/') && !path.contains('\0') { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

fn is_protected(path: &str) -> bool {
    matches!(path, "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config")
}

impl Preparer<'_> {
    fn key<'p>(&self, path: &'p str) -> PathKey<'p> {
        self.tree.key(path)
    }

    #[inline(always)]
    fn require(&self, node: &Pending<'_>, perm: Perms) -> Result<(), ErrorCode> {
        let may = self.auth.allows(node.acl, node.serial, perm, self.identities);
        if may { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// Refuses what makes a transaction that members may not take. `parts` are all that is long.
    #[inline(always)]
    fn check_size(&self, parts: &[&[u8]]) -> Result<(), ErrorCode> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let fits = bytes + FIXED_BYTES_MAX <= self.options.txn_bytes_max;
        if fits { Ok(()) } else { Err(ErrorCode::MarshallingError) }
    }

    fn change(&mut self, place: Place, hash: u64, view: NodeView) {
        let slot = self.pending.change(place, hash, self.zxid, view);
        self.touched.push(slot);
    }

    fn remove(&mut self, place: Place, key: &PathKey<'_>) {
        let slot = self.pending.delete(place, key, self.zxid);
        self.touched.push(slot);
    }

    /// create, create2, createContainer, createTTL.
    pub fn create(&mut self, op: OpCode, request: &Create<'_>, body: &mut Vec<u8>) -> Outcome {
        let mode = CreateMode::from_flags(request.flags).map_err(|_| ErrorCode::BadArguments)?;
        if mode.is_ttl() && !self.options.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let ttl_fits =
            if mode.is_ttl() { (1..=TTL_MAX_MS).contains(&request.ttl) } else { request.ttl < 0 };
        // Apache lets the last combination pass and dies when it applies it.
        if !ttl_fits || (op == OpCode::CreateTtl && !mode.is_ttl()) {
            return Err(ErrorCode::BadArguments);
        }
        let path = not_null(request.path.as_deref())?;
        has_path_shape(path)?;
        let mut acl_buffer = std::mem::take(self.scratch);
        let result = self.create_checked(op, mode, path, request, &mut acl_buffer, body);
        *self.scratch = acl_buffer;
        result
    }

    fn create_checked(
        &mut self,
        op: OpCode,
        mode: CreateMode,
        path: &str,
        request: &Create<'_>,
        acl_buffer: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Outcome {
        let acl = fix_up(self.auth, request.acl, self.identities, acl_buffer)?;
        self.check_size(&[path.as_bytes(), request.data.unwrap_or_default(), acl.bytes()])?;
        let requested = self.key(path);
        let parent_key = self.tree.hasher().parent(&requested);
        let parent = self.pending.get(self.tree, &parent_key).ok_or(ErrorCode::NoNode)?;
        self.require(&parent, Perms::CREATE)?;
        let (mut parent, parent_place) = (parent.view, parent.place);
        let path: Cow<'_, str> = if mode.is_sequential() {
            Cow::Owned(format!("{path}{:010}", parent.cversion))
        } else {
            Cow::Borrowed(path)
        };
        validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
        let key = if mode.is_sequential() { self.key(&path) } else { requested };
        let key = PathKey { path: &path, hash: key.hash };
        if !key.is_root() && !Tree::is_storable(key.name()) {
            return Err(ErrorCode::BadArguments);
        }
        if key.is_root() || self.pending.get(self.tree, &key).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if self.options.is_session_owner(parent.owner) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        self.check_quota(path.as_bytes(), 1, request.data.map_or(0, <[u8]>::len) as i64)?;
        if path.starts_with("/zookeeper/quota/zookeeper_") {
            // A quota on the root kills Apache servers.
            return Err(ErrorCode::BadArguments);
        }
        let kind = TxnType::of_create(op);
        let owner = self.owner_of(kind, mode, request.ttl);
        parent.cversion = parent.cversion.wrapping_add(1);
        parent.num_children += 1;
        let txn = CreateTxn {
            path: &path,
            data: request.data,
            acl,
            ephemeral: mode.is_ephemeral(),
            parent_cversion: parent.cversion,
            ttl: if kind == TxnType::CreateTtl { request.ttl } else { 0 },
        };
        put_create_txn(body, kind, &txn);
        self.change(parent_place, parent_key.hash, parent);
        let data_len = request.data.map_or(-1, |data| data.len() as i32);
        let slot = self.pending.create(&key, self.zxid, fresh_view(owner, data_len), acl);
        self.touched.push(slot);
        // Only a list of paths makes closing the session delete what will be a container by then.
        let closing_deletes = mode.is_ephemeral()
            && (kind != TxnType::CreateContainer || self.options.close_session_paths);
        if closing_deletes {
            self.pending.note_ephemeral(self.session, slot);
        }
        *self.hint = ApplyHint { hash: key.hash, node: parent_place.node };
        Ok(kind)
    }

    /// The owner of a node that is to be created.
    fn owner_of(&self, kind: TxnType, mode: CreateMode, ttl: i64) -> i64 {
        match kind {
            // Also for a createContainer, which is a container only once it is applied.
            _ if mode.is_ephemeral() => self.session.0,
            TxnType::CreateContainer => CONTAINER_OWNER,
            TxnType::CreateTtl => ttl_owner(ttl),
            _ => 0,
        }
    }

    /// Refuses what leaves more in use than a hard limit of the deepest quota above `path` allows,
    /// even if it makes it less. A limit of which nothing is known to be used is not enforced.
    fn check_quota(&mut self, path: &[u8], count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.options.enforce_quota || (count == 0 && bytes == 0) {
            return Ok(());
        }
        let path = str::from_utf8(path).map_err(|_| ErrorCode::BadArguments)?;
        let Some(quota) = self.tree.quota(path) else { return Ok(()) };
        let Some(usage) = quota.usage else { return Ok(()) };
        let over = |limit: i64, used: i64, more: i64| {
            limit > -1 && more != 0 && used.saturating_add(more) > limit
        };
        let limits = &quota.limits;
        if over(limits.count_hard, usage.count, count)
            || over(limits.bytes_hard, usage.bytes, bytes)
        {
            return Err(ErrorCode::QuotaExceeded);
        }
        if (over(limits.count, usage.count, count) || over(limits.bytes, usage.bytes, bytes))
            && let Some(more) = self.soft_quota.take(self.now)
        {
            log::warn!("soft quota of {} exceeded by {path}{more}", quota.prefix);
        }
        Ok(())
    }

    /// delete.
    pub fn delete(&mut self, request: &PathVersion<'_>, body: &mut Vec<u8>) -> Outcome {
        let path = not_null(request.path.as_deref())?;
        has_path_shape(path)?;
        if is_protected(path) {
            return Err(ErrorCode::BadArguments);
        }
        let key = self.key(path);
        let parent_key = self.tree.hasher().parent(&key);
        let parent = self.pending.get(self.tree, &parent_key).ok_or(ErrorCode::NoNode)?;
        self.require(&parent, Perms::DELETE)?;
        let (mut parent, parent_place) = (parent.view, parent.place);
        let node = self.pending.get(self.tree, &key).ok_or(ErrorCode::NoNode)?;
        let (node, place) = (node.view, node.place);
        check_version(request.version, node.version)?;
        if node.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        put_str(body, path);
        parent.num_children -= 1;
        self.change(parent_place, parent_key.hash, parent);
        self.remove(place, &key);
        Ok(TxnType::Delete)
    }

    /// deleteContainer, which only the container manager asks for.
    pub fn delete_container(&mut self, path: &str, body: &mut Vec<u8>) -> Outcome {
        let key = self.key(path);
        let node = self.pending.get(self.tree, &key).ok_or(ErrorCode::NoNode)?;
        let (node, place) = (node.view, node.place);
        if node.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if node.owner == 0 || self.options.is_session_owner(node.owner) {
            return Err(ErrorCode::BadVersion);
        }
        let parent_key = self.tree.hasher().parent(&key);
        let parent = self.pending.get(self.tree, &parent_key).ok_or(ErrorCode::NoNode)?;
        let (mut parent, parent_place) = (parent.view, parent.place);
        put_str(body, path);
        parent.num_children -= 1;
        self.change(parent_place, parent_key.hash, parent);
        self.remove(place, &key);
        Ok(TxnType::DeleteContainer)
    }

    /// setData.
    pub fn set_data(&mut self, request: &SetData<'_>, body: &mut Vec<u8>) -> Outcome {
        // Unlike elsewhere, a null path is only one more invalid path here.
        let path = request.path.unwrap_or_default();
        if path.is_empty() {
            return Err(ErrorCode::BadArguments);
        }
        let hash = self.tree.hasher().path_bytes(path);
        // Any other path that leads to a node is valid, so only a miss needs the closer look.
        let Some(node) = self.pending.get_at(self.tree, hash, path) else {
            let path = String::from_utf8_lossy(path);
            validate_path(&path).map_err(|_| ErrorCode::BadArguments)?;
            return Err(ErrorCode::NoNode);
        };
        self.require(&node, Perms::WRITE)?;
        self.check_size(&[request.encoded])?;
        let (mut view, place) = (node.view, node.place);
        let data_len = request.data.map_or(-1, |data| data.len() as i32);
        self.check_quota(path, 0, i64::from(data_len.max(0)) - i64::from(view.data_len.max(0)))?;
        view.version = check_version(request.version, view.version)?;
        view.data_len = data_len;
        body.extend_from_slice(request.encoded);
        put_i32(body, view.version);
        self.change(place, hash, view);
        *self.hint = ApplyHint { hash, node: place.node };
        Ok(TxnType::SetData)
    }

    /// setACL. The ACL is judged before the node is looked for.
    pub fn set_acl(&mut self, request: &SetAcl<'_>, body: &mut Vec<u8>) -> Outcome {
        let path = request.path.as_deref().ok_or(ErrorCode::BadArguments)?;
        validate_path(path).map_err(|_| ErrorCode::BadArguments)?;
        let mut acl_buffer = std::mem::take(self.scratch);
        let result = self.set_acl_checked(path, request, &mut acl_buffer, body);
        *self.scratch = acl_buffer;
        result
    }

    fn set_acl_checked(
        &mut self,
        path: &str,
        request: &SetAcl<'_>,
        acl_buffer: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Outcome {
        let acl = fix_up(self.auth, request.acl, self.identities, acl_buffer)?;
        self.check_size(&[path.as_bytes(), acl.bytes()])?;
        let key = self.key(path);
        let node = self.pending.get(self.tree, &key).ok_or(ErrorCode::NoNode)?;
        self.require(&node, Perms::ADMIN)?;
        let (mut view, place) = (node.view, node.place);
        view.aversion = check_version(request.version, view.aversion)?;
        put_str(body, path);
        body.extend_from_slice(acl.bytes());
        put_i32(body, view.aversion);
        self.change(place, key.hash, view);
        Ok(TxnType::SetAcl)
    }

    /// check, inside a multi.
    pub fn check(&mut self, request: &PathVersion<'_>, body: &mut Vec<u8>) -> Outcome {
        let path = not_null(request.path.as_deref())?;
        validate_path(path).map_err(|_| ErrorCode::BadArguments)?;
        let key = self.key(path);
        let node = self.pending.get(self.tree, &key).ok_or(ErrorCode::NoNode)?;
        self.require(&node, Perms::READ)?;
        let next = check_version(request.version, node.view.version)?;
        put_str(body, path);
        // The record carries the version that a change would have made, as Apache's does.
        put_i32(body, next);
        Ok(TxnType::Check)
    }

    /// One operation of a multi. MARSHALLINGERROR is no result of an operation: it fails the multi
    /// as a whole. The opcode of a create says which kind of node it makes, except in two cases:
    /// with the flags of a container each of them makes a container, and createTTL with flags that
    /// name no TTL mode, even flags that do not exist, is a plain create.
    pub fn sub_operation(&mut self, op: &MultiOp<'_>, body: &mut Vec<u8>) -> Outcome {
        match op {
            MultiOp::Create(code, create) => {
                let code = match (code, CreateMode::from_flags(create.flags)) {
                    (_, Ok(CreateMode::Container)) => OpCode::CreateContainer,
                    (OpCode::CreateTtl, Ok(mode)) if mode.is_ttl() => OpCode::CreateTtl,
                    (OpCode::CreateTtl, _) => OpCode::Create,
                    (OpCode::Create2, _) if !self.options.create2_in_multi => OpCode::Create,
                    (code, _) => *code,
                };
                if code != OpCode::CreateTtl && create.ttl != -1 {
                    let create = Create { ttl: -1, ..create.clone() };
                    return self.create(code, &create, body);
                }
                self.create(code, create, body)
            }
            MultiOp::Delete(delete) => self.delete(delete, body),
            MultiOp::SetData(set) => self.set_data(set, body),
            MultiOp::Check(check) => self.check(check, body),
            MultiOp::GetData(_) | MultiOp::GetChildren(_) => Err(ErrorCode::MarshallingError),
        }
    }

    /// The paths that closing the session deletes: its ephemerals in the pending view. Their
    /// records and their parents' are changed.
    pub fn close_session(&mut self, paths: &mut Vec<String>) {
        let mut ahead = self.tree.ephemerals(self.session).skip(EPHEMERALS_AHEAD);
        for node in self.tree.ephemerals(self.session) {
            ahead.next().into_iter().for_each(|later| self.tree.prefetch_node(later));
            let mut path = String::new();
            self.tree.path_into(node, &mut path);
            // A pending delete, or a later node of another owner in its place, is not ours.
            let pending = self.pending.get(self.tree, &self.key(&path));
            if pending.is_some_and(|node| node.view.owner == self.session.0) {
                paths.push(path);
            }
        }
        self.pending.ephemerals_of(self.session, |path| paths.push(path.to_owned()));
        // One whose node is made anew is found twice. And events come in an order that a model of
        // the server can foresee.
        paths.sort_unstable();
        paths.dedup();
        for path in paths.iter() {
            let key = self.key(path);
            let parent_key = self.tree.hasher().parent(&key);
            if let Some(parent) = self.pending.get(self.tree, &parent_key) {
                let (mut view, place) = (parent.view, parent.place);
                view.num_children -= 1;
                self.change(place, parent_key.hash, view);
            }
            if let Some(place) = self.pending.get(self.tree, &key).map(|node| node.place) {
                self.remove(place, &key);
            }
        }
    }
}

/// The operations of a multi that can be decoded. They are decoded once more when they are wanted:
/// a list of all would take several times the bytes of the request.
#[derive(Clone, Copy, Debug)]
pub struct Multi<'a> {
    ops: MultiOps<'a>,
    len: usize,
}

impl<'a> Multi<'a> {
    /// Checks a multi and calls `visit` with the path of each operation.
    ///
    /// # Errors
    /// The request fails as a whole and none of it is prepared. A null path is such an error, too;
    /// any other error is reported first.
    pub fn check(body: Reader<'a>, mut visit: impl FnMut(&[u8])) -> Result<Multi<'a>, DecodeError> {
        let ops = MultiOps::new(body);
        let (mut len, mut has_null) = (0, false);
        for op in ops {
            match op?.path() {
                Some(path) => visit(path),
                None => has_null = true,
            }
            len += 1;
        }
        if has_null {
            return Err(DecodeError::Null("path of an operation of a multi"));
        }
        Ok(Multi { ops, len })
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The operations in order.
    pub fn iter(&self) -> impl Iterator<Item = MultiOp<'a>> {
        self.ops.map_while(Result::ok)
    }
}

fn fix_up<'a>(
    auth: &Auth,
    acl: AclBytes<'a>,
    identities: &Identities,
    buffer: &'a mut Vec<u8>,
) -> Result<AclBytes<'a>, ErrorCode> {
    if acl == AclBytes::OPEN {
        return Ok(acl);
    }
    buffer.clear();
    auth.fix_up(acl, identities, buffer).map_err(|e| match e {
        AclError::InvalidAcl => ErrorCode::InvalidAcl,
        AclError::Marshalling => ErrorCode::MarshallingError,
    })?;
    AclBytes::parse(buffer).map_err(|_| ErrorCode::MarshallingError)
}
