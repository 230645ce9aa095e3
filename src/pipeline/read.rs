//! Answering reads and watch operations from the committed tree.
//!
//! Corresponds to the read half of `FinalRequestProcessor`. What may take long is done in parts,
//! see [`Parts`]: setWatches, multiRead, and lists that are long.
//!
//! [`Parts`]: super::Parts

use crate::auth::{Auth, Identities};
use crate::base::{ConnId, PathKey, SessionId, Xid, Zxid};
use crate::metrics::Namespaces;
use crate::tree::{AclId, NodeId, Tree};
use crate::watch::{WatchKind, WatchMode, Watches};
use crate::wire::{
    AclBytes, AddWatch, DecodeError, ErrorCode, EventType, OpCode, PathWatch, Perms, Reader,
    WatchPath, begin_reply, end_frame, put_buffer, put_error_reply, put_i32, text,
};

/// Cost of a path that is looked up and watched or read.
pub(super) const WATCH_COST: u64 = 200;
/// Cost of an ACL's entry that is shown without its secret.
const REDACT_COST: u64 = 100;
/// Bytes in or out that take a nanosecond: copied three times, by the replica, front and kernel.
const BYTES_PER_NS: usize = 2;

/// What moving `bytes` costs, in nanoseconds.
#[inline]
pub fn bytes_cost(bytes: usize) -> u64 {
    (bytes / BYTES_PER_NS) as u64
}

/// What Apache counts for the stat in the figures of a read.
const STAT_BYTES: usize = 68;

/// A read's outcome before it is framed.
pub type ReadResult = Result<(), ErrorCode>;

/// Everything a read looks at.
pub struct ReadContext<'a> {
    /// Committed state.
    pub tree: &'a Tree,
    /// Watches of this server.
    pub watches: &'a mut Watches,
    /// Access rules.
    pub auth: &'a Auth,
    /// Connection that asks.
    pub conn: ConnId,
    /// Its session.
    pub session: SessionId,
    /// Its identities when the request was read.
    pub identities: &'a Identities,
    /// Last applied transaction.
    pub zxid: Zxid,
    /// Bytes read: path, data or names of children, and stat.
    pub bytes_read: &'a mut Namespaces,
    /// What was looked at, in nanoseconds: nodes, watches and results, but not their bytes.
    pub cost: u64,
    /// What may be done in one go, in nanoseconds.
    pub limit: u64,
}

impl From<DecodeError> for ErrorCode {
    fn from(_: DecodeError) -> ErrorCode {
        ErrorCode::MarshallingError
    }
}

impl ReadContext<'_> {
    /// Executes `op` and appends its reply. Returns false, and has done nothing, if that would take
    /// longer than the limit: [`ReadContext::part`] does it.
    #[inline(always)]
    pub fn execute(&mut self, op: OpCode, xid: Xid, body: &[u8], out: &mut Vec<u8>) -> bool {
        let mut r = Reader::new(body);
        let start = begin_reply(out, xid, self.zxid, ErrorCode::Ok.code());
        let before = out.len();
        match self.answer(op, &mut r, out) {
            Ok(true) => end_frame(out, start),
            Ok(false) => {
                out.truncate(before - 20);
                return false;
            }
            Err(code) => {
                out.truncate(before - 20);
                put_error_reply(out, xid, self.zxid, code);
            }
        }
        true
    }

    #[inline(always)]
    fn answer(
        &mut self,
        op: OpCode,
        r: &mut Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        match op {
            OpCode::Exists => self.exists(&PathWatch::decode_from(r)?, out)?,
            OpCode::GetData => {
                let path = r.buffer("path")?.ok_or(ErrorCode::MarshallingError)?;
                self.get_data(path, r.bool("watch")?, out)?;
            }
            OpCode::GetChildren | OpCode::GetChildren2 => {
                let request = PathWatch::decode_from(r)?;
                return self.get_children_at_once(&request, op == OpCode::GetChildren2, out);
            }
            OpCode::GetAcl => self.get_acl(&text(r, "path")?, out)?,
            OpCode::GetEphemerals => {
                let prefix = r.text("prefixPath")?;
                return Ok(self.get_ephemerals_at_once(prefix.as_deref().unwrap_or(""), out));
            }
            OpCode::Sync => {
                // COMPAT(3.9): any path comes back, also a null, which no other reply sends.
                put_buffer(out, r.text("path")?.as_ref().map(|path| path.as_bytes()));
            }
            OpCode::WhoAmI => self.auth.who_am_i(self.identities, out),
            OpCode::AddWatch => self.add_watch(&AddWatch::decode_from(r)?, out)?,
            OpCode::CheckWatches => self.check_watches(&WatchPath::decode_from(r)?)?,
            OpCode::RemoveWatches => self.remove_watches(&WatchPath::decode_from(r)?)?,
            // Writes get here if they cannot be decoded; they take no zxid then.
            op if op.is_write() => return Err(ErrorCode::MarshallingError),
            _ => return Err(ErrorCode::Unimplemented),
        }
        Ok(true)
    }

    pub(super) fn find_readable(&self, key: &PathKey<'_>) -> Result<NodeId, ErrorCode> {
        let node = self.tree.find(key).ok_or(ErrorCode::NoNode)?;
        self.require(node, Perms::READ)?;
        Ok(node)
    }

    #[inline(always)]
    fn require(&self, node: NodeId, perm: Perms) -> ReadResult {
        if self.may(self.tree.acl(node), perm) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    #[inline(always)]
    fn may(&self, acl: AclId, perm: Perms) -> bool {
        let acls = self.tree.acls();
        self.auth.allows(acls.bytes(acl), acls.serial(acl), perm, self.identities)
    }

    fn exists(&mut self, request: &PathWatch<'_>, out: &mut Vec<u8>) -> ReadResult {
        if request.path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let key = self.tree.key(&request.path);
        let node = self.tree.find(&key);
        if let Some(node) = node {
            self.require(node, Perms::READ)?;
        }
        if request.watch {
            self.watches.add(self.conn, &key, WatchMode::Data);
        }
        let node = node.ok_or(ErrorCode::NoNode)?;
        self.tree.stat(node).encode_into(out);
        self.count(request.path.as_bytes(), 0);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn count(&mut self, path: &[u8], bytes: usize) {
        self.bytes_read.record(path, (path.len() + bytes + STAT_BYTES) as u64);
    }

    /// Does not ask whether the path is text: what leads to a node is.
    #[inline(always)]
    pub(super) fn get_data(&mut self, path: &[u8], watch: bool, out: &mut Vec<u8>) -> ReadResult {
        let node = self.tree.find_bytes(path).ok_or(ErrorCode::NoNode)?;
        self.require(node, Perms::READ)?;
        if watch && let Ok(path) = str::from_utf8(path) {
            self.watches.add(self.conn, &self.tree.key(path), WatchMode::Data);
        }
        let data = self.tree.data(node);
        put_buffer(out, data);
        self.tree.stat(node).encode_into(out);
        self.count(path, data.map_or(0, <[u8]>::len));
        Ok(())
    }

    fn get_acl(&mut self, path: &str, out: &mut Vec<u8>) -> ReadResult {
        let node = self.tree.find(&self.tree.key(path)).ok_or(ErrorCode::NoNode)?;
        let id = self.tree.acl(node);
        let acl: AclBytes<'_> = self.tree.acls().bytes(id);
        if self.may(id, Perms::ADMIN) {
            out.extend_from_slice(acl.bytes());
        } else if self.may(id, Perms::READ) {
            self.cost += REDACT_COST * acl.iter().count() as u64;
            self.auth.redact(acl, out);
        } else {
            return Err(ErrorCode::NoAuth);
        }
        self.tree.stat(node).encode_into(out);
        Ok(())
    }

    fn add_watch(&mut self, request: &AddWatch<'_>, out: &mut Vec<u8>) -> ReadResult {
        let mode = match request.mode {
            0 => WatchMode::Persistent,
            1 => WatchMode::Recursive,
            _ => return Err(ErrorCode::MarshallingError),
        };
        self.watches.add(self.conn, &self.tree.key(&request.path), mode);
        put_i32(out, 0);
        Ok(())
    }

    fn check_watches(&mut self, request: &WatchPath<'_>) -> ReadResult {
        let kind = watch_kind(request.kind)?;
        let key = self.tree.key(&request.path);
        if self.watches.check(self.conn, &key, kind) { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }

    fn remove_watches(&mut self, request: &WatchPath<'_>) -> ReadResult {
        let kind = watch_kind(request.kind)?;
        let key = self.tree.key(&request.path);
        if self.watches.remove(self.conn, &key, kind) { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }

    /// Registers one watch, or says which event the client has missed.
    pub(super) fn restore_watch(
        &mut self,
        list: usize,
        key: &PathKey<'_>,
        relative: Zxid,
    ) -> Option<EventType> {
        let stat = self.tree.find(key).map(|node| self.tree.stat(node));
        let mode = match (list, stat) {
            (0 | 2, None) => return Some(EventType::NodeDeleted),
            (0, Some(stat)) if stat.mzxid > relative.0 => {
                return Some(EventType::NodeDataChanged);
            }
            (1, Some(_)) => return Some(EventType::NodeCreated),
            (2, Some(stat)) if stat.pzxid > relative.0 => {
                return Some(EventType::NodeChildrenChanged);
            }
            (0 | 1, _) => WatchMode::Data,
            (2, _) => WatchMode::Child,
            (3, _) => WatchMode::Persistent,
            _ => WatchMode::Recursive,
        };
        self.watches.add(self.conn, key, mode);
        None
    }
}

fn watch_kind(kind: i32) -> Result<WatchKind, ErrorCode> {
    WatchKind::from_wire(kind).ok_or(ErrorCode::MarshallingError)
}
