//! The tree digest, version 2 (`DigestCalculator`): the sum of the nodes' CRC-32s.

use crate::base::Zxid;
use crate::wire::PersistedStat;

use super::store::Tree;

/// A digest is remembered for each zxid divisible by this.
pub const DIGEST_LOG_INTERVAL: i64 = 128;
/// How many digests are remembered.
pub const DIGEST_LOG_SIZE: usize = 1024;

/// Bytes of the stat fields that end each node's digest.
const TAIL: usize = 60;
/// Up to this size the input is gathered first: one pass over 200 bytes is faster than three.
const GATHER_MAX: usize = 256;
/// The processor takes whole steps of this size, from [`STEPS_LEAST`] on, the rest byte by byte.
const STEP: usize = 16;
const STEPS_LEAST: usize = 128;
/// Takes a register that is zero to the all ones that a CRC-32 starts with.
const ALL_ONES: [u8; 4] = 0x9226_f562_u32.to_le_bytes();

impl Tree {
    /// Digests after the last transactions whose zxid is divisible by 128, oldest first.
    pub fn digest_log(&self) -> impl ExactSizeIterator<Item = (Zxid, u64)> {
        self.digest_log.iter().copied()
    }

    /// The newest of [`Tree::digest_log`].
    pub fn last_digest(&self) -> Option<(Zxid, u64)> {
        self.digest_log.back().copied()
    }

    /// The digest after this transaction, if [`Tree::digest_log`] has it.
    pub fn digest_after(&self, zxid: Zxid) -> Option<u64> {
        let at = self.digest_log.binary_search_by_key(&zxid, |(of, _)| *of).ok()?;
        self.digest_log.get(at).map(|(_, digest)| *digest)
    }
}

/// Whether the node at `path` counts, as all nodes do that are not below `/zookeeper`.
pub fn is_digested(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// Digest of one node; `"/"` and `""` are the root.
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &PersistedStat) -> u64 {
    u64::from(node_crc(&zero_crc(), path.as_bytes(), data.unwrap_or_default(), stat))
}

/// A hasher whose register is zero: making one looks at the CPU's features each time.
pub(super) fn zero_crc() -> crc32fast::Hasher {
    crc32fast::Hasher::new_with_initial(!0)
}

fn tail(stat: &PersistedStat) -> [u8; TAIL] {
    let mut b = [0; TAIL];
    write_tail(stat, &mut b);
    b
}

#[inline(always)]
fn write_tail(stat: &PersistedStat, b: &mut [u8; TAIL]) {
    b[0..8].copy_from_slice(&stat.czxid.to_be_bytes());
    b[8..16].copy_from_slice(&stat.mzxid.to_be_bytes());
    b[16..24].copy_from_slice(&stat.pzxid.to_be_bytes());
    b[24..32].copy_from_slice(&stat.ctime.to_be_bytes());
    b[32..40].copy_from_slice(&stat.mtime.to_be_bytes());
    b[40..44].copy_from_slice(&stat.version.to_be_bytes());
    b[44..48].copy_from_slice(&stat.cversion.to_be_bytes());
    b[48..52].copy_from_slice(&stat.aversion.to_be_bytes());
    b[52..60].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
}

/// `zero` is what [`zero_crc`] made.
pub(super) fn node_crc(
    zero: &crc32fast::Hasher,
    path: &[u8],
    data: &[u8],
    stat: &PersistedStat,
) -> u32 {
    let mut gathered = Gathered::default();
    if gathered.fill(path, data, stat) {
        return gathered.crc(zero);
    }
    let path = if path == b"/" { &[] } else { path };
    finish_crc(prefix_crc(path, data), stat)
}

/// What a CRC is to be taken of, in one piece. To a register that is zero, zeros in front mean
/// nothing, and after [`ALL_ONES`] it is what it usually starts with: so the input is filled up in
/// front to whole steps.
#[derive(Debug)]
pub(super) struct Gathered {
    bytes: [u8; GATHER_MAX],
    from: usize,
}

impl Default for Gathered {
    fn default() -> Gathered {
        Gathered { bytes: [0; GATHER_MAX], from: GATHER_MAX }
    }
}

impl Gathered {
    /// Gathers a node's input. Returns whether there is room for it.
    #[inline]
    pub(super) fn fill(&mut self, path: &[u8], data: &[u8], stat: &PersistedStat) -> bool {
        let path = if path == b"/" { &[] } else { path };
        let len = ALL_ONES.len() + path.len() + data.len() + TAIL;
        if len > GATHER_MAX {
            return false;
        }
        let (head, tail) = self.bytes.split_at_mut(GATHER_MAX - TAIL);
        if let Some(tail) = tail.first_chunk_mut() {
            write_tail(stat, tail);
        }
        let (head, room) = head.split_at_mut(head.len() - data.len());
        room.copy_from_slice(data);
        let (head, room) = head.split_at_mut(head.len() - path.len());
        room.copy_from_slice(path);
        let (head, room) = head.split_at_mut(head.len() - ALL_ONES.len());
        room.copy_from_slice(&ALL_ONES);
        self.from = GATHER_MAX - len.next_multiple_of(STEP).max(STEPS_LEAST);
        head[self.from..].fill(0);
        true
    }

    /// The CRC of what was gathered.
    #[inline]
    pub(super) fn crc(&self, zero: &crc32fast::Hasher) -> u32 {
        let mut crc = zero.clone();
        crc.update(&self.bytes[self.from..]);
        crc.finalize()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_any_size_has_the_crc_of_its_parts() {
        let stat = PersistedStat { czxid: -2, mzxid: 3, version: 4, ..PersistedStat::default() };
        let path = "/0123456789".repeat(12);
        let data: Vec<u8> = (0..=255).rev().collect();
        for (path_len, data_len) in
            (0..path.len()).flat_map(|p| (0..data.len()).map(move |d| (p, d)))
        {
            let (path, data) = (&path[..path_len], &data[..data_len]);
            let plain =
                [if path == "/" { "" } else { path }.as_bytes(), data, &tail(&stat)].concat();
            let crc = crc32fast::hash(&plain);
            assert_eq!(
                node_digest(path, Some(data), &stat),
                u64::from(crc),
                "{path_len} {data_len}"
            );
        }
    }
}
