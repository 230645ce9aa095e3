//! Random transactions of every kind, as the prepare stage would make them, applied to a tree
//! and to the naive model side by side.

use crate::base::Rng;
use crate::tree::{AclTable, ApplyMode, ApplySink, Change, ChangeKind, OpResult, Tree};
use crate::wire::{
    Acl, AclBytes, CreateTxn, Perms, PersistedStat, Reader, Stat, Txn, TxnHeader, TxnType,
    put_buffer, put_close_session_txn, put_create_txn, put_i32, put_str,
};

use super::header;
use super::naive::{Naive, NaiveNode, parent_of};

/// An encoded transaction.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) header: TxnHeader,
    pub(super) body: Vec<u8>,
}

impl Logged {
    pub(super) fn apply(&self, tree: &mut Tree, mode: ApplyMode, sink: &mut impl ApplySink) {
        let txn = Txn::decode_from(self.header.kind, &mut Reader::new(&self.body)).unwrap();
        tree.apply(&self.header, &txn, mode, sink);
    }
}

/// Records what the tree reports.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) changes: Vec<(ChangeKind, String, Vec<u8>)>,
    pub(super) results: Vec<(TxnType, i32, String, Option<Stat>)>,
}

impl ApplySink for Recorder {
    fn change(&mut self, acls: &AclTable, change: Change<'_>) {
        let acl = acls.bytes(change.acl).bytes().to_vec();
        self.changes.push((change.kind, String::from_utf8(change.path.to_vec()).unwrap(), acl));
    }
    fn result(&mut self, r: OpResult<'_>) {
        self.results.push((r.kind, r.err, r.path.to_owned(), r.stat));
    }
}

pub(super) struct Workload {
    pub(super) rng: Rng,
    pub(super) model: Naive,
    pub(super) zxid: i64,
    pub(super) expected: Recorder,
    /// Each transaction is applied once: also make those whose replay is not exact (relative
    /// cversions, rewritten usage nodes, nested quotas).
    pub(super) once: bool,
}

const CREATES: [TxnType; 4] =
    [TxnType::Create, TxnType::Create2, TxnType::CreateContainer, TxnType::CreateTtl];

impl Workload {
    pub(super) fn new(seed: u64, tree: &Tree, once: bool) -> Workload {
        let rng = Rng::new(seed);
        Workload { rng, model: Naive::of(tree), zxid: 0, expected: Recorder::default(), once }
    }

    fn acl(&mut self) -> Vec<u8> {
        if self.rng.chance(1, 2) {
            return AclBytes::OPEN.bytes().to_vec();
        }
        let mut out = Vec::new();
        put_i32(&mut out, 1);
        let id = format!("user{}", self.rng.below(6));
        Acl { perms: Perms(31), scheme: Some("digest".into()), id: Some(id.into()) }
            .encode_into(&mut out);
        out
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        let len = match self.rng.below(12) {
            0 => return None,
            1 => 0,
            2 => self.rng.below(5000),
            _ => self.rng.below(60),
        };
        let mut data = vec![0; len as usize];
        self.rng.fill(&mut data);
        Some(data)
    }

    fn some_node(&mut self) -> String {
        let at = self.rng.below(self.model.nodes.len() as u64) as usize;
        self.model.nodes.keys().nth(at).unwrap().clone()
    }

    fn new_path(&mut self) -> Option<String> {
        if self.rng.chance(1, 12) {
            let tops: &[&str] = if self.once { &["/n1", "/n1/n2", "/n3"] } else { &["/n1", "/n3"] };
            let top = tops[self.rng.below(tops.len() as u64) as usize];
            let mut path = "/zookeeper/quota".to_owned();
            for part in top[1..].split('/').chain(["zookeeper_limits"]) {
                path = format!("{path}/{part}");
                if !self.model.nodes.contains_key(&path) {
                    return Some(path);
                }
            }
            let stats = format!("/zookeeper/quota{top}/zookeeper_stats");
            return (!self.model.nodes.contains_key(&stats)).then_some(stats);
        }
        let parent = self.some_node();
        let node = &self.model.nodes[&parent];
        let owner = node.stat.ephemeral_owner;
        if parent.starts_with("/zookeeper/") || parent.len() > 40 || (1..1000).contains(&owner) {
            return None;
        }
        let parent = if parent == "/" { "" } else { &parent };
        let path = format!("{parent}/n{}", self.rng.below(9));
        (!self.model.nodes.contains_key(&path)).then_some(path)
    }

    /// Appends one operation's body; applies it to the model.
    fn op(&mut self, body: &mut Vec<u8>, session: i64, in_multi: bool) -> Option<TxnType> {
        match self.rng.below(20) {
            0..=8 => self.create(body, session),
            9..=12 => {
                let path = self.some_node();
                if path.starts_with("/zookeeper") && path.ends_with(['r', 'g', 'a'])
                    || path == "/"
                    || (path.starts_with("/zookeeper") && !self.once)
                    || self.model.children(&path) != 0
                {
                    return None;
                }
                put_str(body, &path);
                let acl = self.model.nodes[&path].acl.clone();
                assert!(self.model.delete(&path, self.zxid));
                self.expected.changes.push((ChangeKind::Deleted, path.clone(), acl));
                let kind =
                    if self.rng.chance(1, 4) { TxnType::DeleteContainer } else { TxnType::Delete };
                self.expected.results.push((kind, 0, path, None));
                Some(kind)
            }
            13..=16 => {
                let path = self.some_node();
                if path.starts_with("/zookeeper/") && !self.once {
                    return None;
                }
                let mut data = self.data();
                if path.ends_with("zookeeper_stats") {
                    data = Some(b"count=7,bytes=-3".to_vec());
                }
                let version = self.model.nodes[&path].stat.version + 1;
                put_str(body, &path);
                put_buffer(body, data.as_deref());
                put_i32(body, version);
                let time = header(self.zxid, TxnType::SetData, 0).time_ms;
                self.model.set_data(&path, data.as_deref(), (version, self.zxid, time));
                let acl = self.model.nodes[&path].acl.clone();
                let stat = self.model.stat(&path);
                self.expected.changes.push((ChangeKind::DataChanged, path.clone(), acl));
                self.expected.results.push((TxnType::SetData, 0, String::new(), Some(stat)));
                Some(TxnType::SetData)
            }
            17 if !in_multi => {
                let path = self.some_node();
                let acl = self.acl();
                let node = self.model.nodes.get_mut(&path).unwrap();
                node.stat.aversion += 1;
                node.acl.clone_from(&acl);
                put_str(body, &path);
                body.extend_from_slice(&acl);
                put_i32(body, node.stat.aversion);
                let stat = self.model.stat(&path);
                self.expected.results.push((TxnType::SetAcl, 0, path, Some(stat)));
                Some(TxnType::SetAcl)
            }
            _ if in_multi => {
                let path = self.some_node();
                put_str(body, &path);
                put_i32(body, -1);
                self.expected.results.push((TxnType::Check, 0, path, None));
                Some(TxnType::Check)
            }
            _ => None,
        }
    }

    fn create(&mut self, body: &mut Vec<u8>, session: i64) -> Option<TxnType> {
        let path = self.new_path()?;
        let quota_node = path.starts_with("/zookeeper");
        let kind = CREATES[self.rng.below(if quota_node { 2 } else { 4 }) as usize];
        let plain = matches!(kind, TxnType::Create | TxnType::Create2);
        let ephemeral = plain && !quota_node && self.rng.chance(1, 3);
        let (data, acl) = (self.data(), self.acl());
        let next = self.model.nodes[&parent_of(&path)].stat.cversion + 1;
        // "One more" of the oldest logs cannot be replayed twice.
        let relative = self.once && self.rng.chance(1, 10);
        let parent_cversion = if relative { -1 } else { next };
        let ttl = if kind == TxnType::CreateTtl { 5000 } else { 0 };
        let txn = CreateTxn {
            path: &path,
            data: data.as_deref(),
            acl: AclBytes::parse(&acl).unwrap(),
            ephemeral,
            parent_cversion,
            ttl,
        };
        put_create_txn(body, kind, &txn);
        let owner = match kind {
            TxnType::CreateContainer => i64::MIN,
            TxnType::CreateTtl => (0xff << 56) | ttl,
            _ if ephemeral => session,
            _ => 0,
        };
        let time = header(self.zxid, kind, 0).time_ms;
        let stat = PersistedStat {
            czxid: self.zxid,
            mzxid: self.zxid,
            pzxid: self.zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner,
            ..PersistedStat::default()
        };
        let node = NaiveNode { data, acl: acl.clone(), stat };
        assert!(self.model.create(&path, node, parent_cversion, kind == TxnType::Create));
        self.expected.changes.push((ChangeKind::Created, path.clone(), acl));
        let stat = self.model.stat(&path);
        self.expected.results.push((kind, 0, path, Some(stat)));
        Some(kind)
    }

    /// The next transaction, already applied to the model.
    pub(super) fn next(&mut self) -> Logged {
        self.zxid += 1;
        self.expected = Recorder::default();
        let session = 1 + self.rng.below(5) as i64;
        let mut body = Vec::new();
        let kind = match self.rng.below(30) {
            0 => self.close_session(&mut body, session),
            1 => {
                put_i32(&mut body, 30_000);
                self.expected.results.push((TxnType::CreateSession, 0, String::new(), None));
                TxnType::CreateSession
            }
            2 => {
                put_i32(&mut body, -101);
                self.expected.results.push((TxnType::Error, -101, String::new(), None));
                TxnType::Error
            }
            3 => self.failed_multi(&mut body),
            4..=7 => self.multi(&mut body, session),
            _ => loop {
                if let Some(kind) = self.op(&mut body, session, false) {
                    break kind;
                }
            },
        };
        Logged { header: header(self.zxid, kind, session), body }
    }

    fn multi(&mut self, body: &mut Vec<u8>, session: i64) -> TxnType {
        let mut subs = Vec::new();
        for _ in 0..self.rng.below(6) {
            let mut sub = Vec::new();
            if let Some(kind) = self.op(&mut sub, session, true) {
                subs.push((kind, sub));
            }
        }
        put_i32(body, subs.len() as i32);
        for (kind, sub) in subs {
            put_i32(body, kind as i32);
            put_buffer(body, Some(&sub));
        }
        TxnType::Multi
    }

    fn failed_multi(&mut self, body: &mut Vec<u8>) -> TxnType {
        put_i32(body, 3);
        let mut sub = Vec::new();
        put_str(&mut sub, "/n1");
        for (kind, sub) in [
            (TxnType::Delete, sub),
            (TxnType::Error, b"\xff\xff\xff\x91".to_vec()),
            (TxnType::Error, b"\xff\xff\xff\xfe".to_vec()),
        ] {
            put_i32(body, kind as i32);
            put_buffer(body, Some(&sub));
        }
        for err in [0, -111, -2] {
            self.expected.results.push((TxnType::Error, err, String::new(), None));
        }
        TxnType::Multi
    }

    fn close_session(&mut self, body: &mut Vec<u8>, session: i64) -> TxnType {
        let owned = self.model.owned_by(session);
        // Sometimes the list is short: the rest must go as well. (Replay needs the whole list.)
        let listed =
            if self.once { self.rng.below(owned.len() as u64 + 1) as usize } else { owned.len() };
        put_close_session_txn(body, &owned[..listed]);
        for path in &owned {
            let acl = self.model.nodes[path].acl.clone();
            assert!(self.model.delete(path, self.zxid));
            self.expected.changes.push((ChangeKind::Deleted, path.clone(), acl));
        }
        self.expected.results.push((TxnType::CloseSession, 0, String::new(), None));
        TxnType::CloseSession
    }

    /// Compares what the tree reported with what had to come.
    pub(super) fn check(&mut self, mut got: Recorder, kind: TxnType, hint: &str) {
        if kind == TxnType::CloseSession {
            // The order beyond the list is free.
            got.changes.sort_by(|a, b| a.1.cmp(&b.1));
            self.expected.changes.sort_by(|a, b| a.1.cmp(&b.1));
        }
        assert_eq!(got.changes, self.expected.changes, "{hint}");
        assert_eq!(got.results, self.expected.results, "{hint}");
    }
}
