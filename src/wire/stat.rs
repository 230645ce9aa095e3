//! `Stat` as clients see it and `StatPersisted` as snapshots store it.

use super::jute::grow;
use super::{DecodeError, Reader, put_i32, put_i64};

/// What a client sees of a node (68 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    /// Milliseconds since the epoch.
    pub ctime: i64,
    /// Milliseconds since the epoch.
    pub mtime: i64,
    pub version: i32,
    /// Creates plus deletes of direct children: `2 * creates - num_children`.
    pub cversion: i32,
    pub aversion: i32,
    /// Session id of an ephemeral; 0 for all others, containers and TTL nodes included.
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

impl Stat {
    /// Encoded size in bytes.
    pub const SIZE: usize = 68;

    /// Appends the record.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        self.write_to(grow(out));
    }

    /// Writes the record over `b`.
    #[inline]
    pub(super) fn write_to(&self, b: &mut [u8; Stat::SIZE]) {
        b[0..8].copy_from_slice(&self.czxid.to_be_bytes());
        b[8..16].copy_from_slice(&self.mzxid.to_be_bytes());
        b[16..24].copy_from_slice(&self.ctime.to_be_bytes());
        b[24..32].copy_from_slice(&self.mtime.to_be_bytes());
        b[32..36].copy_from_slice(&self.version.to_be_bytes());
        b[36..40].copy_from_slice(&self.cversion.to_be_bytes());
        b[40..44].copy_from_slice(&self.aversion.to_be_bytes());
        b[44..52].copy_from_slice(&self.ephemeral_owner.to_be_bytes());
        b[52..56].copy_from_slice(&self.data_length.to_be_bytes());
        b[56..60].copy_from_slice(&self.num_children.to_be_bytes());
        b[60..68].copy_from_slice(&self.pzxid.to_be_bytes());
    }

    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        Ok(Stat {
            czxid: r.i64("czxid")?,
            mzxid: r.i64("mzxid")?,
            ctime: r.i64("ctime")?,
            mtime: r.i64("mtime")?,
            version: r.i32("version")?,
            cversion: r.i32("cversion")?,
            aversion: r.i32("aversion")?,
            ephemeral_owner: r.i64("ephemeralOwner")?,
            data_length: r.i32("dataLength")?,
            num_children: r.i32("numChildren")?,
            pzxid: r.i64("pzxid")?,
        })
    }
}

/// What is stored of a node (60 bytes); `cversion` counts child creations only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct PersistedStat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Children ever created; also the next sequential suffix.
    pub cversion: i32,
    pub aversion: i32,
    /// Raw owner: 0, a session id, the container mark or a TTL encoding.
    pub ephemeral_owner: i64,
    pub pzxid: i64,
}

impl PersistedStat {
    /// Encoded size in bytes.
    pub const SIZE: usize = 60;

    /// Appends the record.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        for v in [self.czxid, self.mzxid, self.ctime, self.mtime] {
            put_i64(out, v);
        }
        for v in [self.version, self.cversion, self.aversion] {
            put_i32(out, v);
        }
        put_i64(out, self.ephemeral_owner);
        put_i64(out, self.pzxid);
    }

    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<PersistedStat, DecodeError> {
        Ok(PersistedStat {
            czxid: r.i64("czxid")?,
            mzxid: r.i64("mzxid")?,
            ctime: r.i64("ctime")?,
            mtime: r.i64("mtime")?,
            version: r.i32("version")?,
            cversion: r.i32("cversion")?,
            aversion: r.i32("aversion")?,
            ephemeral_owner: r.i64("ephemeralOwner")?,
            pzxid: r.i64("pzxid")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_records_round_trip() {
        let stat = Stat {
            czxid: 1,
            mzxid: 2,
            ctime: 3,
            mtime: 4,
            version: 5,
            cversion: -1,
            aversion: 7,
            ephemeral_owner: i64::MIN,
            data_length: 9,
            num_children: 10,
            pzxid: 11,
        };
        let mut out = Vec::new();
        stat.encode_into(&mut out);
        assert_eq!(out.len(), Stat::SIZE);
        assert_eq!(Stat::decode_from(&mut Reader::new(&out)), Ok(stat));
        let persisted = PersistedStat { czxid: 1, cversion: -1, pzxid: 9, ..Default::default() };
        let mut out = Vec::new();
        persisted.encode_into(&mut out);
        assert_eq!(out.len(), PersistedStat::SIZE);
        assert_eq!(PersistedStat::decode_from(&mut Reader::new(&out)), Ok(persisted));
    }
}
