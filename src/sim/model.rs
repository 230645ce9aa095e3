//! What the server should be doing: a naive tree with all its past, driven by the order in which
//! the server logged requests, and by the requests as the clients made them.
//!
//! Every path keeps its versions by zxid, so a read can be judged at the zxid of its reply, and a
//! crash takes the model back to what survived. Nothing is shared with `pipeline` or `tree`.

use std::collections::BTreeMap;

use crate::base::{FixedMap, SessionId};
use crate::wire::{
    ErrorCode, PersistedStat, Stat, put_i32, put_multi_end, put_multi_error, put_multi_header,
    put_str,
};

use super::ops::{Op, open_acl};

/// A znode at one point of its history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// `None` is null data.
    pub data: Option<Vec<u8>>,
    /// As snapshots store it.
    pub stat: PersistedStat,
    /// Encoded list.
    pub acl: Vec<u8>,
    /// Present children.
    pub children: i32,
}

impl Node {
    /// What clients see.
    pub fn client_stat(&self) -> Stat {
        let s = &self.stat;
        Stat {
            czxid: s.czxid,
            mzxid: s.mzxid,
            ctime: s.ctime,
            mtime: s.mtime,
            version: s.version,
            cversion: s.cversion * 2 - self.children,
            aversion: s.aversion,
            ephemeral_owner: s.ephemeral_owner,
            data_length: self.data.as_ref().map_or(0, Vec::len) as i32,
            num_children: self.children,
            pzxid: s.pzxid,
        }
    }
}

/// Something a watch can see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which transaction did it.
    pub zxid: i64,
    /// 1 created, 2 deleted, 3 data changed.
    pub kind: i32,
    /// Where.
    pub path: String,
}

/// How a write must be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its transaction.
    pub zxid: i64,
    /// 0 or the error code.
    pub err: i32,
    /// Everything after the reply header.
    pub body: Vec<u8>,
}

/// See the module's introduction.
#[derive(Debug, Default)]
pub struct Model {
    paths: BTreeMap<String, Vec<(i64, Option<Node>)>>,
    sessions: BTreeMap<SessionId, Vec<(i64, Option<i32>)>>,
    changes: Vec<Change>,
    answers: FixedMap<(SessionId, i32), Answer>,
    /// Last transaction.
    pub last: i64,
    touched: Vec<String>,
}

/// Path of the parent.
pub fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

fn next_version(expected: i32, current: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BadVersion);
    }
    Ok(current.wrapping_add(1))
}

/// Who asks and when.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The session.
    pub session: SessionId,
    /// The transaction.
    pub zxid: i64,
    /// Its time stamp.
    pub time_ms: i64,
}

impl Model {
    /// A node that is there before the first transaction.
    pub fn adopt(&mut self, path: &str, node: Node) {
        self.paths.insert(path.to_owned(), vec![(0, Some(node))]);
    }

    /// The node at a point in time.
    pub fn at(&self, path: &str, zxid: i64) -> Option<&Node> {
        let versions = self.paths.get(path)?;
        let end = versions.partition_point(|(at, _)| *at <= zxid);
        versions[..end].last()?.1.as_ref()
    }

    fn now(&self, path: &str) -> Option<&Node> {
        self.paths.get(path)?.last()?.1.as_ref()
    }

    fn put(&mut self, path: &str, zxid: i64, node: Option<Node>) {
        self.touched.push(path.to_owned());
        self.paths.entry(path.to_owned()).or_default().push((zxid, node));
    }

    /// Whether a session owns ephemerals.
    pub fn has_ephemerals_of(&self, session: SessionId) -> bool {
        self.nodes(self.last).any(|(_, node)| node.stat.ephemeral_owner == session.0)
    }

    /// Names of the children at a point in time, sorted.
    pub fn children(&self, path: &str, zxid: i64) -> Vec<String> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.paths
            .range(prefix.clone()..)
            .take_while(|(p, _)| p.starts_with(&prefix))
            .filter(|(p, _)| p.len() > prefix.len() && !p[prefix.len()..].contains('/'))
            .filter(|(p, _)| self.at(p, zxid).is_some())
            .map(|(p, _)| p[prefix.len()..].to_owned())
            .collect()
    }

    /// Every node at a point in time.
    pub fn nodes(&self, zxid: i64) -> impl Iterator<Item = (&str, &Node)> {
        self.paths.keys().filter_map(move |path| Some((path.as_str(), self.at(path, zxid)?)))
    }

    /// Every session at a point in time with its timeout.
    pub fn sessions(&self, zxid: i64) -> Vec<(SessionId, i32)> {
        let at = |versions: &Vec<(i64, Option<i32>)>| {
            let end = versions.partition_point(|(at, _)| *at <= zxid);
            versions[..end].last()?.1
        };
        self.sessions.iter().filter_map(|(&id, versions)| Some((id, at(versions)?))).collect()
    }

    /// Whether a session was open at a point in time.
    pub fn has_session(&self, session: SessionId, zxid: i64) -> bool {
        let Some(versions) = self.sessions.get(&session) else { return false };
        let end = versions.partition_point(|(at, _)| *at <= zxid);
        versions[..end].last().is_some_and(|(_, timeout_ms)| timeout_ms.is_some())
    }

    /// Whether a session was ever opened, as far as the log says.
    pub fn knows_session(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|versions| !versions.is_empty())
    }

    /// Which transaction began a session first.
    pub fn began(&self, session: SessionId) -> Option<i64> {
        self.sessions.get(&session)?.first().map(|(zxid, _)| *zxid)
    }

    /// Changes after `from` up to and including `to`.
    pub fn changes(&self, from: i64, to: i64) -> &[Change] {
        let start = self.changes.partition_point(|c| c.zxid <= from);
        let end = self.changes.partition_point(|c| c.zxid <= to);
        &self.changes[start..end.max(start)]
    }

    /// How the request `xid` of `session` must be answered, if it was logged.
    pub fn answer(&self, session: SessionId, xid: i32) -> Option<&Answer> {
        self.answers.get(&(session, xid))
    }

    /// A write was logged that does nothing but fail, whatever it asks.
    pub fn refuse(&mut self, at: Context, xid: i32, op: &Op, err: i32) {
        let mut body = Vec::new();
        let err = match op {
            // One for which there was no room is not looked at, and fails as a whole.
            Op::Multi(ops) if err != ErrorCode::ThrottledOp.code() => {
                put_multi_error(&mut body, err);
                let rest = ErrorCode::RuntimeInconsistency.code();
                ops.iter().skip(1).for_each(|_| put_multi_error(&mut body, rest));
                put_multi_end(&mut body);
                0
            }
            _ => err,
        };
        self.answers.insert((at.session, xid), Answer { zxid: at.zxid, err, body });
    }

    /// Everything after `zxid` was lost in a crash.
    pub fn truncate(&mut self, zxid: i64) {
        for versions in self.paths.values_mut() {
            versions.truncate(versions.partition_point(|(at, _)| *at <= zxid));
        }
        self.paths.retain(|_, versions| !versions.is_empty());
        for versions in self.sessions.values_mut() {
            versions.truncate(versions.partition_point(|(at, _)| *at <= zxid));
        }
        self.changes.truncate(self.changes.partition_point(|c| c.zxid <= zxid));
        self.answers.retain(|_, answer| answer.zxid <= zxid);
        self.last = zxid;
    }

    /// A session was created.
    pub fn open_session(&mut self, at: Context, timeout_ms: i32) {
        self.last = at.zxid;
        self.sessions.entry(at.session).or_default().push((at.zxid, Some(timeout_ms)));
    }

    /// A session was closed: its ephemerals go, in the order of their paths.
    pub fn close_session(&mut self, at: Context, xid: i32) {
        self.last = at.zxid;
        self.sessions.entry(at.session).or_default().push((at.zxid, None));
        let owned = |node: &Node| node.stat.ephemeral_owner == at.session.0;
        let paths: Vec<String> =
            self.paths.keys().filter(|path| self.now(path).is_some_and(owned)).cloned().collect();
        for path in paths {
            self.unlink(&path, at.zxid);
        }
        if xid != 0 {
            let answer = Answer { zxid: at.zxid, err: 0, body: Vec::new() };
            self.answers.insert((at.session, xid), answer);
        }
    }

    /// A write was logged; the outcome that it must have had.
    pub fn write(&mut self, at: Context, xid: i32, op: &Op) -> Answer {
        self.last = at.zxid;
        self.touched.clear();
        let mut body = Vec::new();
        let changes = self.changes.len();
        let err = match op {
            Op::Multi(ops) => {
                self.multi(at, ops, changes, &mut body);
                0
            }
            op => match self.single(at, op, &mut body) {
                Ok(()) => 0,
                Err(code) => code.code(),
            },
        };
        let answer = Answer { zxid: at.zxid, err, body };
        self.answers.insert((at.session, xid), answer.clone());
        answer
    }

    fn multi(&mut self, at: Context, ops: &[Op], changes: usize, body: &mut Vec<u8>) {
        for (index, op) in ops.iter().enumerate() {
            let mark = body.len();
            put_multi_header(body, op.code());
            let Err(code) = self.single(at, op, body) else { continue };
            body.truncate(mark);
            for path in std::mem::take(&mut self.touched) {
                if let Some(versions) = self.paths.get_mut(&path) {
                    versions.retain(|(zxid, _)| *zxid != at.zxid);
                }
            }
            self.changes.truncate(changes);
            body.clear();
            for other in 0..ops.len() {
                let err = match other.cmp(&index) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => code.code(),
                    std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.code(),
                };
                put_multi_error(body, err);
            }
            break;
        }
        put_multi_end(body);
    }

    fn single(&mut self, at: Context, op: &Op, body: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let zxid = at.zxid;
        match op {
            Op::Create { path, data, flags, with_stat } => {
                let path = self.create(at, path, data, *flags)?;
                put_str(body, &path);
                if *with_stat {
                    self.put_stat(&path, body);
                }
            }
            Op::Delete { path, version } => {
                if self.now(parent_of(path)).is_none() {
                    return Err(ErrorCode::NoNode);
                }
                let node = self.now(path).ok_or(ErrorCode::NoNode)?;
                next_version(*version, node.stat.version)?;
                if node.children > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                self.unlink(path, zxid);
            }
            Op::SetData { path, data, version } => {
                let mut node = self.now(path).ok_or(ErrorCode::NoNode)?.clone();
                node.stat.version = next_version(*version, node.stat.version)?;
                node.stat.mzxid = zxid;
                node.stat.mtime = at.time_ms;
                node.data = Some(data.clone());
                self.put(path, zxid, Some(node));
                self.changes.push(Change { zxid, kind: 3, path: path.clone() });
                self.put_stat(path, body);
            }
            Op::SetAcl { path, acl, version } => {
                let mut node = self.now(path).ok_or(ErrorCode::NoNode)?.clone();
                node.stat.aversion = next_version(*version, node.stat.aversion)?;
                node.acl.clone_from(acl);
                self.put(path, zxid, Some(node));
                self.put_stat(path, body);
            }
            Op::Check { path, version } => {
                let node = self.now(path).ok_or(ErrorCode::NoNode)?;
                next_version(*version, node.stat.version)?;
            }
            _ => return Err(ErrorCode::Unimplemented),
        }
        Ok(())
    }

    fn put_stat(&self, path: &str, body: &mut Vec<u8>) {
        if let Some(node) = self.now(path) {
            node.client_stat().encode_into(body);
        }
    }

    fn create(
        &mut self,
        at: Context,
        path: &str,
        data: &[u8],
        flags: i32,
    ) -> Result<String, ErrorCode> {
        let parent_path = parent_of(path).to_owned();
        let mut parent = self.now(&parent_path).ok_or(ErrorCode::NoNode)?.clone();
        let path = match flags {
            2 | 3 => format!("{path}{:010}", parent.stat.cversion),
            _ => path.to_owned(),
        };
        if self.now(&path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if parent.stat.ephemeral_owner != 0 {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        parent.stat.cversion += 1;
        parent.stat.pzxid = at.zxid;
        parent.children += 1;
        self.put(&parent_path, at.zxid, Some(parent));
        let owner = if matches!(flags, 1 | 3) { at.session.0 } else { 0 };
        let stat = PersistedStat {
            czxid: at.zxid,
            mzxid: at.zxid,
            ctime: at.time_ms,
            mtime: at.time_ms,
            ephemeral_owner: owner,
            pzxid: at.zxid,
            ..PersistedStat::default()
        };
        let node = Node { data: Some(data.to_vec()), stat, acl: open_acl(), children: 0 };
        self.put(&path, at.zxid, Some(node));
        self.changes.push(Change { zxid: at.zxid, kind: 1, path: path.clone() });
        Ok(path)
    }

    fn unlink(&mut self, path: &str, zxid: i64) {
        let parent_path = parent_of(path).to_owned();
        if let Some(parent) = self.now(&parent_path) {
            let mut parent = parent.clone();
            parent.children -= 1;
            parent.stat.pzxid = zxid;
            self.put(&parent_path, zxid, Some(parent));
        }
        self.put(path, zxid, None);
        self.changes.push(Change { zxid, kind: 2, path: path.to_owned() });
    }

    /// The answer to a read at a point in time: error code and body; `None` for requests that
    /// are no plain reads. Children come sorted.
    pub fn read(&self, op: &Op, zxid: i64) -> Option<(i32, Vec<u8>)> {
        let mut body = Vec::new();
        let path = match op {
            Op::Exists { path, .. } | Op::GetData { path, .. } | Op::GetChildren { path, .. } => {
                path
            }
            Op::Sync { path } => {
                put_str(&mut body, path);
                return Some((0, body));
            }
            _ => return None,
        };
        let Some(node) = self.at(path, zxid) else {
            return Some((ErrorCode::NoNode.code(), body));
        };
        match op {
            Op::GetData { .. } => {
                crate::wire::put_buffer(&mut body, node.data.as_deref());
                node.client_stat().encode_into(&mut body);
            }
            Op::GetChildren { with_stat, .. } => {
                let names = self.children(path, zxid);
                put_i32(&mut body, names.len() as i32);
                names.iter().for_each(|name| put_str(&mut body, name));
                if *with_stat {
                    node.client_stat().encode_into(&mut body);
                }
            }
            _ => node.client_stat().encode_into(&mut body),
        }
        Some((0, body))
    }
}
