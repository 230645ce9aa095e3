//! Writes a snapshot in Apache's format, piece by piece, into a buffer that the caller drains
//! whenever it likes. Counterpart: `FileSnap.serialize`, `SerializeUtils.serializeSnapshot`.
//!
//! Invariant: every byte of the stream passes through one running Adler-32; each seal holds its
//! value over everything before the seal.

use std::fmt;

use simd_adler32::Adler32;

use crate::base::{SessionId, Zxid};
use crate::wire::{AclBytes, PersistedStat, TxnDigest, put_buffer, put_i32, put_i64, put_str};

/// The optional digest section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotDigest {
    /// Last transaction applied when the section is written.
    pub zxid: Zxid,
    /// Algorithm version, 2 since 3.6.1.
    pub version: i32,
    /// Digest of the whole tree right after that transaction.
    pub digest: u64,
}

impl SnapshotDigest {
    /// What Apache writes where nothing was replayed: no digest is known.
    pub const BLANK: SnapshotDigest =
        SnapshotDigest { zxid: Zxid::ZERO, version: TxnDigest::VERSION, digest: 0 };
}

/// Writer of one snapshot. Order: begin, every node (parents before children), finish.
#[derive(Clone)]
pub struct SnapshotWriter {
    adler: Adler32,
}

/// What a SNAP stream ends with, after the tree.
pub(super) const STREAM_END: &str = "BenWasHere";

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// Starts a snapshot file: header, sessions, ACL map. The map must hold every list that a
    /// node written later refers to.
    pub fn begin<'a>(
        sessions: impl ExactSizeIterator<Item = (SessionId, i32)>,
        acls: impl ExactSizeIterator<Item = (i64, AclBytes<'a>)>,
        out: &mut Vec<u8>,
    ) -> SnapshotWriter {
        let mut writer = SnapshotWriter::begin_file(out);
        writer.begin_tree(sessions, acls, out);
        writer
    }

    /// Starts a snapshot file whose sessions, ACLs and nodes come from a SNAP stream, as they are.
    pub fn begin_file(out: &mut Vec<u8>) -> SnapshotWriter {
        let start = out.len();
        out.extend_from_slice(b"ZKSN");
        put_i32(out, 2);
        put_i64(out, -1);
        let mut writer = SnapshotWriter { adler: Adler32::new() };
        writer.adler.write(&out[start..]);
        writer
    }

    /// Bytes of a SNAP stream, up to the path that ends its nodes.
    pub fn relay(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
        self.adler.write(bytes);
    }

    /// Starts a SNAP stream to a learner: the same without the file header.
    pub fn begin_stream<'a>(
        sessions: impl ExactSizeIterator<Item = (SessionId, i32)>,
        acls: impl ExactSizeIterator<Item = (i64, AclBytes<'a>)>,
        out: &mut Vec<u8>,
    ) -> SnapshotWriter {
        let mut writer = SnapshotWriter { adler: Adler32::new() };
        writer.begin_tree(sessions, acls, out);
        writer
    }

    fn begin_tree<'a>(
        &mut self,
        sessions: impl ExactSizeIterator<Item = (SessionId, i32)>,
        acls: impl ExactSizeIterator<Item = (i64, AclBytes<'a>)>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        put_i32(out, i32::try_from(sessions.len()).expect("fewer than 2^31 sessions"));
        for (id, timeout_ms) in sessions {
            put_i64(out, id.0);
            put_i32(out, timeout_ms);
        }
        put_i32(out, i32::try_from(acls.len()).expect("fewer than 2^31 ACLs"));
        for (id, acl) in acls {
            put_i64(out, id);
            out.extend_from_slice(acl.bytes());
        }
        self.adler.write(&out[start..]);
    }

    /// Writes one node; the root's path is `""`. `acl` is an id of the map, or -1 for
    /// `world:anyone` with all permissions.
    #[inline]
    pub fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: i64,
        stat: &PersistedStat,
        out: &mut Vec<u8>,
    ) {
        debug_assert!(path != "/", "\"/\" ends the list of nodes");
        let start = out.len();
        put_str(out, path);
        put_buffer(out, data);
        put_i64(out, acl);
        stat.encode_into(out);
        self.adler.write(&out[start..]);
    }

    /// Ends the tree and seals the file. Apache 3.9 can read a file with both sections or with
    /// the digest alone, whatever its flags; 3.8 reads the digest and ignores the rest.
    pub fn finish(mut self, digest: Option<SnapshotDigest>, last: Option<Zxid>, out: &mut Vec<u8>) {
        let start = out.len();
        put_str(out, "/");
        self.adler.write(&out[start..]);
        self.finish_relayed(digest, last, out);
    }

    /// Seals a file whose tree was ended by what was relayed.
    pub fn finish_relayed(
        mut self,
        digest: Option<SnapshotDigest>,
        last: Option<Zxid>,
        out: &mut Vec<u8>,
    ) {
        let mut start = out.len();
        self.seal(&mut start, out);
        if let Some(digest) = digest {
            put_i64(out, digest.zxid.0);
            put_i32(out, digest.version);
            put_i64(out, digest.digest as i64);
            self.seal(&mut start, out);
        }
        if let Some(last) = last {
            put_i64(out, last.0);
            self.seal(&mut start, out);
        }
    }

    /// Ends a SNAP stream: no seals there, but a mark.
    pub fn finish_stream(self, out: &mut Vec<u8>) {
        put_str(out, "/");
        put_str(out, STREAM_END);
    }

    /// Appends the seal over everything up to here; `start` is the first byte not summed yet.
    fn seal(&mut self, start: &mut usize, out: &mut Vec<u8>) {
        self.adler.write(&out[*start..]);
        *start = out.len();
        put_i64(out, i64::from(self.adler.finish()));
        put_str(out, "/");
    }
}
