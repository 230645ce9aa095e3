//! The naive model: a map from path to node, written from the specification alone. Slow, simple,
//! recomputes everything.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::SessionId;
use crate::tree::{Tree, node_digest};
use crate::wire::{PersistedStat, Stat};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct NaiveNode {
    pub(super) data: Option<Vec<u8>>,
    pub(super) acl: Vec<u8>,
    pub(super) stat: PersistedStat,
}

/// Keyed by path, the root by "/".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Naive {
    pub(super) nodes: BTreeMap<String, NaiveNode>,
    pub(super) limits: BTreeSet<String>,
}

const CONTAINER: i64 = i64::MIN;

pub(super) fn is_ttl(owner: i64) -> bool {
    (owner as u64) >> 56 == 0xff
}

pub(super) fn parent_of(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
    }
}

impl Naive {
    /// Copies a tree node by node through its read interface.
    pub(super) fn of(tree: &Tree) -> Naive {
        let mut naive = Naive::default();
        let mut todo = vec!["/".to_owned()];
        while let Some(path) = todo.pop() {
            let id = tree.find(&tree.key(&path)).expect("listed children exist");
            for name in tree.children(id) {
                let name = str::from_utf8(name).unwrap();
                todo.push(if path == "/" { format!("/{name}") } else { format!("{path}/{name}") });
            }
            let mut back = String::new();
            tree.path_into(id, &mut back);
            assert_eq!(back, path);
            let acl = tree.acls().bytes(tree.acl(id)).bytes().to_vec();
            let data = tree.data(id).map(<[u8]>::to_vec);
            naive.nodes.insert(path, NaiveNode { data, acl, stat: tree.persisted(id) });
        }
        naive.limits = tree.quota_prefixes().map(str::to_owned).collect();
        naive
    }

    pub(super) fn children(&self, path: &str) -> usize {
        self.nodes.keys().filter(|p| *p != "/" && parent_of(p) == path).count()
    }

    fn below<'a>(&'a self, top: &'a str) -> impl Iterator<Item = &'a NaiveNode> {
        let prefix = format!("{top}/");
        self.nodes.iter().filter(move |(p, _)| *p == top || p.starts_with(&prefix)).map(|e| e.1)
    }

    pub(super) fn create(
        &mut self,
        path: &str,
        node: NaiveNode,
        parent_cversion: i32,
        plain_create: bool,
    ) -> bool {
        let zxid = node.stat.czxid;
        let exists = self.nodes.contains_key(path);
        let Some(parent) = self.nodes.get_mut(&parent_of(path)) else { return false };
        if !exists || plain_create {
            let c = parent.stat.cversion;
            let new = if parent_cversion == -1 { c + 1 } else { parent_cversion };
            if new > c {
                parent.stat.cversion = new;
                parent.stat.pzxid = zxid;
            }
        }
        if let Some(old) = self.nodes.get_mut(path) {
            old.acl = node.acl;
            return false;
        }
        let bytes = node.data.as_ref().map_or(0, Vec::len) as i64;
        self.nodes.insert(path.to_owned(), node);
        if let Some(rest) = path.strip_prefix("/zookeeper/quota") {
            if let Some(top) = rest.strip_suffix("/zookeeper_limits")
                && !top.is_empty()
            {
                self.limits.insert(top.to_owned());
            }
            if let Some(top) = rest.strip_suffix("/zookeeper_stats") {
                let count = self.below(top).count();
                let bytes: usize =
                    self.below(top).filter_map(|n| n.data.as_ref()).map(Vec::len).sum();
                let text = format!("count={count},bytes={bytes}").into_bytes();
                self.nodes.get_mut(path).unwrap().data = Some(text);
            }
        }
        self.usage(path, 1, bytes);
        true
    }

    pub(super) fn delete(&mut self, path: &str, zxid: i64) -> bool {
        let Some(parent) = self.nodes.get_mut(&parent_of(path)) else { return false };
        parent.stat.pzxid = parent.stat.pzxid.max(zxid);
        let Some(old) = self.nodes.remove(path) else { return false };
        if let Some(top) = path
            .strip_prefix("/zookeeper/quota")
            .and_then(|rest| rest.strip_suffix("/zookeeper_limits"))
        {
            self.limits.remove(top);
        }
        self.usage(path, -1, -(old.data.map_or(0, |d| d.len()) as i64));
        true
    }

    pub(super) fn set_data(&mut self, path: &str, data: Option<&[u8]>, stat: (i32, i64, i64)) {
        let Some(node) = self.nodes.get_mut(path) else { return };
        let before = node.data.as_ref().map_or(0, Vec::len) as i64;
        node.data = data.map(<[u8]>::to_vec);
        (node.stat.version, node.stat.mzxid, node.stat.mtime) = stat;
        self.usage(path, 0, data.map_or(0, <[u8]>::len) as i64 - before);
    }

    fn usage(&mut self, path: &str, count: i64, bytes: i64) {
        let deepest = self
            .limits
            .iter()
            .filter(|top| path == *top || path.starts_with(&format!("{top}/")))
            .max_by_key(|top| top.len());
        let Some(top) = deepest else { return };
        let Some(stats) = self.nodes.get_mut(&format!("/zookeeper/quota{top}/zookeeper_stats"))
        else {
            return;
        };
        let text = String::from_utf8(stats.data.clone().unwrap_or_default()).unwrap();
        let mut now = (-1, -1);
        for piece in text.split(',') {
            match piece.split_once('=') {
                Some(("count", n)) => now.0 = n.parse().unwrap(),
                Some(("bytes", n)) => now.1 = n.parse().unwrap(),
                _ => {}
            }
        }
        stats.data = Some(format!("count={},bytes={}", now.0 + count, now.1 + bytes).into_bytes());
    }

    pub(super) fn owned_by(&self, session: i64) -> Vec<String> {
        let owned = |n: &NaiveNode| n.stat.ephemeral_owner == session;
        self.nodes.iter().filter(|(_, n)| owned(n)).map(|(p, _)| p.clone()).collect()
    }

    pub(super) fn digest(&self) -> u64 {
        let counted = self.nodes.iter().filter(|(p, _)| !p.starts_with("/zookeeper/"));
        counted.fold(0u64, |sum, (path, node)| {
            sum.wrapping_add(node_digest(path, node.data.as_deref(), &node.stat))
        })
    }

    pub(super) fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let (s, n) = (node.stat, self.children(path) as i32);
        let special = s.ephemeral_owner == CONTAINER || is_ttl(s.ephemeral_owner);
        Stat {
            czxid: s.czxid,
            mzxid: s.mzxid,
            ctime: s.ctime,
            mtime: s.mtime,
            version: s.version,
            cversion: 2 * s.cversion - n,
            aversion: s.aversion,
            ephemeral_owner: if special { 0 } else { s.ephemeral_owner },
            data_length: node.data.as_ref().map_or(0, Vec::len) as i32,
            num_children: n,
            pzxid: s.pzxid,
        }
    }

    /// Compares node by node, for a readable failure.
    pub(super) fn assert_same(&self, got: &Naive, hint: &str) {
        for (path, node) in &self.nodes {
            assert_eq!(got.nodes.get(path), Some(node), "{hint} {path}");
        }
        let extra = got.nodes.keys().find(|path| !self.nodes.contains_key(*path));
        assert_eq!(extra, None, "{hint}");
        assert_eq!(got.limits, self.limits, "{hint}");
    }

    /// Checks everything that a tree says about itself.
    pub(super) fn check(&self, tree: &Tree, hint: &str) {
        self.assert_same(&Naive::of(tree), hint);
        assert_eq!(tree.digest(), self.digest(), "{hint}");
        assert_eq!(tree.node_count(), self.nodes.len() + 1, "{hint}");
        let size = |(p, n): (&String, &NaiveNode)| p.len() + n.data.as_ref().map_or(0, Vec::len);
        let root = self.nodes["/"].data.as_ref().map_or(0, Vec::len);
        let total: usize = self.nodes.iter().map(size).sum::<usize>() + root;
        assert_eq!(tree.approximate_data_size(), total as u64, "{hint}");
        let owners = self.nodes.values().map(|n| n.stat.ephemeral_owner);
        let normal = |o: &i64| *o != 0 && *o != CONTAINER && !is_ttl(*o);
        let sessions: BTreeSet<i64> = owners.clone().filter(normal).collect();
        assert_eq!(tree.ephemerals_count(), owners.clone().filter(normal).count(), "{hint}");
        assert_eq!(tree.containers_count(), owners.clone().filter(|o| *o == CONTAINER).count());
        assert_eq!(tree.ttls_count(), owners.filter(|o| is_ttl(*o)).count(), "{hint}");
        let listed: BTreeSet<i64> = tree.sessions_with_ephemerals().map(|(s, _)| s.0).collect();
        assert_eq!(listed, sessions, "{hint}");
        for session in sessions {
            let mut paths: Vec<String> = Vec::new();
            for id in tree.ephemerals(SessionId(session)) {
                let mut path = String::new();
                tree.path_into(id, &mut path);
                paths.push(path);
            }
            paths.sort();
            assert_eq!(paths, self.owned_by(session), "{hint}");
        }
        let lists: BTreeSet<&Vec<u8>> = self.nodes.values().map(|n| &n.acl).collect();
        let open = crate::wire::ACL_OPEN_BYTES.to_vec();
        let lists = lists.len() - usize::from(lists.contains(&open));
        assert!(tree.acls().len() >= lists, "{hint}");
        for path in self.nodes.keys() {
            let id = tree.find(&tree.key(path)).unwrap();
            assert_eq!(tree.stat(id), self.stat(path), "{hint} {path}");
            let below = self.below(if path == "/" { "" } else { path }).count();
            let below = if path == "/" { self.nodes.len() } else { below };
            assert_eq!(tree.count_descendants(id), below - 1, "{hint} {path}");
        }
    }
}
