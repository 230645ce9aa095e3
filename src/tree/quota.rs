//! Quota bookkeeping (`PathTrie`, `StatsTrack`): which prefixes have a limit, and the silent
//! upkeep of their usage nodes.
//!
//! Limits and usage are the texts of ordinary nodes below `/zookeeper/quota`. Garbage in them
//! reads as "unset" and harms nothing. Enforcement is the prepare stage's business.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::base::PathKey;

use super::node::NodeId;
use super::store::Tree;

const QUOTA_ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// Prefixes with a limits node.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    prefixes: BTreeMap<Box<str>, QuotaPaths>,
}

#[derive(Debug)]
struct QuotaPaths {
    limits: Box<str>,
    stats: Box<str>,
}

/// The numbers of a quota text; -1 is unset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotaValues {
    /// Nodes, the prefix itself included; the soft limit in limits.
    pub count: i64,
    /// Bytes of data; the soft limit in limits.
    pub bytes: i64,
    /// Hard limit of nodes.
    pub count_hard: i64,
    /// Hard limit of bytes.
    pub bytes_hard: i64,
}

impl QuotaValues {
    /// Nothing set.
    pub const UNSET: QuotaValues =
        QuotaValues { count: -1, bytes: -1, count_hard: -1, bytes_hard: -1 };

    /// Reads `count=N,bytes=N=;byteHardLimit=N;countHardLimit=N`; a number that is missing or
    /// malformed stays unset.
    pub fn parse(text: &[u8]) -> QuotaValues {
        let mut values = QuotaValues::UNSET;
        for piece in String::from_utf8_lossy(text).split([',', ';']) {
            let mut parts = piece.split('=');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
            let field = match name {
                "count" => &mut values.count,
                "bytes" => &mut values.bytes,
                "countHardLimit" => &mut values.count_hard,
                "byteHardLimit" => &mut values.bytes_hard,
                _ => continue,
            };
            *field = value.parse().unwrap_or(-1);
        }
        values
    }

    /// The text, as Apache writes it.
    pub fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        let hard = [("byteHardLimit", self.bytes_hard), ("countHardLimit", self.count_hard)];
        if hard.iter().any(|(_, value)| *value > -1) {
            // Old parsers want the `=` before the first `;`.
            text.push('=');
        }
        for (name, value) in hard.into_iter().filter(|(_, value)| *value > -1) {
            // Writing to a string does not fail.
            let _ = write!(text, ";{name}={value}");
        }
        text
    }
}

/// The quota that governs a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota<'a> {
    /// The path that has the limit.
    pub prefix: &'a str,
    /// The limits.
    pub limits: QuotaValues,
    /// What is used, according to the applied usage node, if there is one.
    pub usage: Option<QuotaValues>,
}

/// The prefix that a quota node is about: `/zookeeper/quota/a/zookeeper_limits` is about `/a`.
/// There is none on the root, and nodes below `/zookeeper` are not counted.
fn prefix_of<'a>(path: &'a str, suffix: &str) -> Option<&'a str> {
    let prefix = path.strip_prefix(QUOTA_ROOT)?.strip_suffix(suffix)?;
    (prefix.starts_with('/') && is_counted(prefix)).then_some(prefix)
}

fn is_counted(path: &str) -> bool {
    !path.strip_prefix("/zookeeper").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Tree {
    /// The quota of the deepest prefix of `path` that has one.
    pub fn quota(&self, path: &str) -> Option<Quota<'_>> {
        let (prefix, paths) = self.governing(path)?;
        let read = |path: &str| {
            let node = self.find(&self.key(path))?;
            Some(self.data(node).map_or(QuotaValues::UNSET, QuotaValues::parse))
        };
        let limits = read(&paths.limits).unwrap_or(QuotaValues::UNSET);
        Some(Quota { prefix, limits, usage: read(&paths.stats) })
    }

    /// Paths that have a limit, ascending.
    pub fn quota_prefixes(&self) -> impl Iterator<Item = &str> {
        self.quotas.prefixes.keys().map(|prefix| &**prefix)
    }

    fn governing(&self, path: &str) -> Option<(&str, &QuotaPaths)> {
        let prefixes = &self.quotas.prefixes;
        if prefixes.is_empty() || !is_counted(path) {
            return None;
        }
        let mut at = path;
        while !at.is_empty() {
            if let Some((prefix, paths)) = prefixes.get_key_value(at) {
                return Some((prefix, paths));
            }
            at = &at[..at.rfind('/')?];
        }
        None
    }

    /// To be called after a create of any node.
    pub(super) fn quota_node_created(&mut self, key: &PathKey<'_>) {
        if !key.path.starts_with(QUOTA_ROOT) {
            return;
        }
        if let Some(prefix) = prefix_of(key.path, LIMITS) {
            let stats = format!("{QUOTA_ROOT}{prefix}{STATS}").into();
            let paths = QuotaPaths { limits: key.path.into(), stats };
            self.quotas.prefixes.insert(prefix.into(), paths);
        }
        if let Some(prefix) = prefix_of(key.path, STATS) {
            self.recount(prefix, key.path);
        }
    }

    /// To be called after a delete of any node.
    pub(super) fn quota_node_deleted(&mut self, path: &str) {
        if !self.quotas.prefixes.is_empty()
            && let Some(prefix) = prefix_of(path, LIMITS)
        {
            self.quotas.prefixes.remove(prefix);
        }
    }

    /// Writes the true totals below `prefix` into its usage node.
    fn recount(&mut self, prefix: &str, stats_path: &str) {
        let Some(stats) = self.find(&self.key(stats_path)) else { return };
        let mut usage = QuotaValues { count: 0, bytes: 0, ..QuotaValues::UNSET };
        if let Some(top) = self.find(&self.key(prefix)) {
            for id in self.subtree(top.0) {
                usage.count += 1;
                usage.bytes += self.node(id).data_size() as i64;
            }
        }
        self.replace_data(stats.0, Some(usage.text().as_bytes()));
    }

    /// Adds to the usage of the quota that governs `path`. Silent: no stat field changes.
    #[inline]
    pub(super) fn count_for_quota(&mut self, path: &[u8], count: i64, bytes: i64) {
        if self.quotas.prefixes.is_empty() || (count == 0 && bytes == 0) {
            return;
        }
        if let Ok(path) = str::from_utf8(path) {
            self.add_usage(path, count, bytes);
        }
    }

    fn add_usage(&mut self, path: &str, count: i64, bytes: i64) {
        let Some((_, paths)) = self.governing(path) else { return };
        let Some(stats) = self.find(&self.key(&paths.stats)) else { return };
        let mut usage = self.data(stats).map_or(QuotaValues::UNSET, QuotaValues::parse);
        usage.count = usage.count.saturating_add(count);
        usage.bytes = usage.bytes.saturating_add(bytes);
        self.replace_data(stats.0, Some(usage.text().as_bytes()));
    }

    /// Finds the quotas of a freshly loaded tree and recounts them.
    pub(super) fn rebuild_quotas(&mut self) {
        let Some(root) = self.find(&self.key(QUOTA_ROOT)) else { return };
        let leaves: Vec<NodeId> = self.subtree(root.0).map(NodeId).collect();
        let mut path = String::new();
        for id in leaves {
            if self.name(id.0) != &LIMITS[1..] || self.num_children(id) != 0 {
                continue;
            }
            self.path_into(id, &mut path);
            self.quota_node_created(&self.hasher.key(&path));
            if let Some(prefix) = prefix_of(&path, LIMITS) {
                self.recount(prefix, &format!("{QUOTA_ROOT}{prefix}{STATS}"));
            }
        }
    }
}
