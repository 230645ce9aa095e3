//! The tree digest, version 2 (`DigestCalculator`): the sum of the nodes' CRC-32s.

use crate::wire::PersistedStat;

/// A digest is remembered for each zxid divisible by this.
pub const DIGEST_LOG_INTERVAL: i64 = 128;
/// How many digests are remembered.
pub const DIGEST_LOG_SIZE: usize = 1024;

/// Bytes of the stat fields that end each node's digest.
const TAIL: usize = 60;
/// Up to this size the input is gathered first: one pass over 200 bytes is faster than three.
const GATHER_MAX: usize = 256;

/// Whether the node at `path` counts: everything except what is below `/zookeeper`.
pub fn is_digested(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// Digest of one node; `"/"` and `""` are the root.
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &PersistedStat) -> u64 {
    u64::from(node_crc(&crc32fast::Hasher::new(), path, data.unwrap_or_default(), stat))
}

fn tail(stat: &PersistedStat) -> [u8; TAIL] {
    let mut b = [0; TAIL];
    b[0..8].copy_from_slice(&stat.czxid.to_be_bytes());
    b[8..16].copy_from_slice(&stat.mzxid.to_be_bytes());
    b[16..24].copy_from_slice(&stat.pzxid.to_be_bytes());
    b[24..32].copy_from_slice(&stat.ctime.to_be_bytes());
    b[32..40].copy_from_slice(&stat.mtime.to_be_bytes());
    b[40..44].copy_from_slice(&stat.version.to_be_bytes());
    b[44..48].copy_from_slice(&stat.cversion.to_be_bytes());
    b[48..52].copy_from_slice(&stat.aversion.to_be_bytes());
    b[52..60].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    b
}

/// `fresh` is a hasher that has seen nothing: making one looks at the CPU's features each time.
pub(super) fn node_crc(
    fresh: &crc32fast::Hasher,
    path: &str,
    data: &[u8],
    stat: &PersistedStat,
) -> u32 {
    let path = if path == "/" { &[] } else { path.as_bytes() };
    let head = path.len() + data.len();
    if head + TAIL <= GATHER_MAX {
        let mut b = [0; GATHER_MAX];
        b[..path.len()].copy_from_slice(path);
        b[path.len()..head].copy_from_slice(data);
        b[head..head + TAIL].copy_from_slice(&tail(stat));
        let mut crc = fresh.clone();
        crc.update(&b[..head + TAIL]);
        return crc.finalize();
    }
    finish_crc(prefix_crc(path, data), stat)
}

/// CRC of path and data alone; the root's path is empty here.
pub(super) fn prefix_crc(path: &[u8], data: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(path);
    crc.update(data);
    crc.finalize()
}

/// Continues a prefix with the stat fields.
pub(super) fn finish_crc(prefix: u32, stat: &PersistedStat) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(prefix);
    crc.update(&tail(stat));
    crc.finalize()
}
