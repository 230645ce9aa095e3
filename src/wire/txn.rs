//! Transactions: what the log holds, what proposals carry, what the tree applies. Layouts are
//! Apache's (`TxnHeader` and the `*Txn` records), so that one encoding serves log, quorum and
//! tree.

use crate::base::{SessionId, Xid, Zxid};

use super::jute::grow;
use super::{
    AclBytes, DecodeError, OpCode, Reader, put_bool, put_buffer, put_i32, put_i64, put_str,
};

/// The path that the record of an operation of this type begins with; `None` where it begins with
/// something else. It is not checked, and for prefetching only.
#[inline]
pub fn leading_path(op: i32, body: &[u8]) -> Option<&[u8]> {
    if !matches!(op, 1..=8 | 12 | 15 | 19..=21) {
        return None;
    }
    let (len, body) = body.split_first_chunk::<4>()?;
    body.get(..u32::from_be_bytes(*len) as usize)
}

/// The path that a transaction begins with, as [`leading_path`].
#[inline]
pub fn leading_path_of_txn(txn: &[u8]) -> Option<&[u8]> {
    let (head, body) = txn.split_first_chunk::<{ TxnHeader::SIZE }>()?;
    leading_path(i32::from_be_bytes(*head.last_chunk()?), body)
}

/// Head of every transaction (32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnHeader {
    /// Session that asked for it; 0 for the container manager.
    pub session: SessionId,
    /// Client's xid; 0 for server-generated transactions.
    pub cxid: Xid,
    /// Position in the total order.
    pub zxid: Zxid,
    /// Wall clock of the preparing server, ms; becomes ctime and mtime.
    pub time_ms: i64,
    /// Transaction type number.
    pub kind: TxnType,
}

/// Transaction types; each has the number of its opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum TxnType {
    CloseSession = -11,
    CreateSession = -10,
    Error = -1,
    Create = 1,
    Delete = 2,
    SetData = 5,
    SetAcl = 7,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
}

impl TxnType {
    /// The type numbered `code`.
    pub fn from_code(code: i32) -> Result<TxnType, DecodeError> {
        Ok(match code {
            -11 => TxnType::CloseSession,
            -10 => TxnType::CreateSession,
            -1 => TxnType::Error,
            1 => TxnType::Create,
            2 => TxnType::Delete,
            5 => TxnType::SetData,
            7 => TxnType::SetAcl,
            13 => TxnType::Check,
            14 => TxnType::Multi,
            15 => TxnType::Create2,
            16 => TxnType::Reconfig,
            19 => TxnType::CreateContainer,
            20 => TxnType::DeleteContainer,
            21 => TxnType::CreateTtl,
            other => return Err(DecodeError::BadValue("txn type", i64::from(other))),
        })
    }

    /// The transaction type a create opcode makes.
    pub fn of_create(op: OpCode) -> TxnType {
        match op {
            OpCode::CreateContainer => TxnType::CreateContainer,
            OpCode::CreateTtl => TxnType::CreateTtl,
            OpCode::Create2 => TxnType::Create2,
            _ => TxnType::Create,
        }
    }
}

impl TxnHeader {
    /// Encoded size in bytes.
    pub const SIZE: usize = 32;

    /// Appends the record.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let b: &mut [u8; TxnHeader::SIZE] = grow(out);
        b[0..8].copy_from_slice(&self.session.0.to_be_bytes());
        b[8..12].copy_from_slice(&self.cxid.0.to_be_bytes());
        b[12..20].copy_from_slice(&self.zxid.0.to_be_bytes());
        b[20..28].copy_from_slice(&self.time_ms.to_be_bytes());
        b[28..32].copy_from_slice(&(self.kind as i32).to_be_bytes());
    }

    /// Changes the kind of an encoded record, which begins at `record[0]`.
    pub fn set_kind(record: &mut [u8], kind: TxnType) {
        record[28..32].copy_from_slice(&(kind as i32).to_be_bytes());
    }

    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<TxnHeader, DecodeError> {
        Ok(TxnHeader {
            session: SessionId(r.i64("txn clientId")?),
            cxid: Xid(r.i32("txn cxid")?),
            zxid: Zxid(r.i64("txn zxid")?),
            time_ms: r.i64("txn time")?,
            kind: TxnType::from_code(r.i32("txn type")?)?,
        })
    }
}

/// Body of create, create2, createContainer and createTTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateTxn<'a> {
    /// Final path.
    pub path: &'a str,
    /// Null stays null.
    pub data: Option<&'a [u8]>,
    /// After fix-up.
    pub acl: AclBytes<'a>,
    /// Owned by the header's session.
    pub ephemeral: bool,
    /// Parent's stored cversion after this create; -1 (very old logs) means "one more".
    pub parent_cversion: i32,
    /// Milliseconds; 0 unless the type is createTTL.
    pub ttl: i64,
}

/// Body of setData and reconfig.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetDataTxn<'a> {
    /// Text.
    pub path: &'a [u8],
    pub data: Option<&'a [u8]>,
    /// The new version.
    pub version: i32,
}

impl<'a> SetDataTxn<'a> {
    /// Reads the body of a transaction whose path is known to be text.
    #[inline]
    pub fn decode_known(r: &mut Reader<'a>) -> Result<SetDataTxn<'a>, DecodeError> {
        let path = r.buffer("txn path")?.ok_or(DecodeError::Null("txn path"))?;
        Ok(SetDataTxn { path, data: r.buffer("data")?, version: r.i32("version")? })
    }
}

/// Body of setACL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetAclTxn<'a> {
    pub path: &'a str,
    pub acl: AclBytes<'a>,
    /// The new aversion.
    pub version: i32,
}

/// A transaction body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Txn<'a> {
    Create(CreateTxn<'a>),
    /// Also deleteContainer.
    Delete {
        path: &'a str,
    },
    SetData(SetDataTxn<'a>),
    SetAcl(SetAclTxn<'a>),
    /// Changes nothing; only inside a multi.
    Check {
        path: &'a str,
        version: i32,
    },
    CreateSession {
        timeout_ms: i32,
    },
    /// `None`: written with `closeSessionTxn.enabled=false`, no path list.
    CloseSession(Option<PathList<'a>>),
    Error {
        err: i32,
    },
    Multi(MultiTxn<'a>),
}

/// Ephemerals deleted with their session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathList<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> PathList<'a> {
    fn read(r: &mut Reader<'a>) -> Result<PathList<'a>, DecodeError> {
        let count = r.count("paths2Delete")?.unwrap_or(0);
        let start = r.rest();
        for _ in 0..count {
            path(r)?;
        }
        Ok(PathList { bytes: &start[..start.len() - r.remaining()], count })
    }

    /// The paths in order.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut r = Reader::new(self.bytes);
        // The shape was checked in `read`, so this cannot end early.
        (0..self.count).map_while(move |_| path(&mut r).ok())
    }
}

/// The sub-transactions of a multi.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MultiTxn<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// One member of a multi, not decoded further yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubTxn<'a> {
    /// Type of the body.
    pub kind: TxnType,
    /// Encoded body.
    pub body: &'a [u8],
}

impl<'a> SubTxn<'a> {
    /// Decodes the body. Of an error only the first four bytes count: in a failed multi Apache
    /// overwrites the types and keeps the bodies.
    pub fn txn(self) -> Result<Txn<'a>, DecodeError> {
        Txn::decode_from(self.kind, &mut Reader::new(self.body))
    }
}

impl<'a> MultiTxn<'a> {
    fn read(r: &mut Reader<'a>) -> Result<MultiTxn<'a>, DecodeError> {
        let count = r.count("multi txns")?.unwrap_or(0);
        let start = r.rest();
        for _ in 0..count {
            let kind = TxnType::from_code(r.i32("sub-txn type")?)?;
            let body = r.buffer("sub-txn")?.ok_or(DecodeError::Null("sub-txn"))?;
            if matches!(
                kind,
                TxnType::Multi
                    | TxnType::CreateSession
                    | TxnType::CloseSession
                    | TxnType::Reconfig
                    | TxnType::SetAcl
            ) {
                return Err(DecodeError::BadValue("sub-txn type", kind as i64));
            }
            SubTxn { kind, body }.txn()?;
        }
        Ok(MultiTxn { bytes: &start[..start.len() - r.remaining()], count })
    }

    /// Number of sub-transactions.
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The members in order. Their bodies were checked when the multi was decoded.
    pub fn iter(self) -> impl Iterator<Item = SubTxn<'a>> {
        let mut r = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| {
            let kind = TxnType::from_code(r.i32("sub-txn type").ok()?).ok()?;
            let body = r.buffer("sub-txn").ok()??;
            Some(SubTxn { kind, body })
        })
    }
}

fn path<'a>(r: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let bytes = r.buffer("txn path")?.ok_or(DecodeError::Null("txn path"))?;
    std::str::from_utf8(bytes).map_err(|_| DecodeError::BadValue("txn path (UTF-8)", 0))
}

impl<'a> Txn<'a> {
    /// Reads the body of a transaction of type `kind`.
    pub fn decode_from(kind: TxnType, r: &mut Reader<'a>) -> Result<Txn<'a>, DecodeError> {
        Ok(match kind {
            TxnType::Create | TxnType::Create2 | TxnType::CreateContainer | TxnType::CreateTtl => {
                Txn::Create(read_create(kind, r)?)
            }
            TxnType::Delete | TxnType::DeleteContainer => Txn::Delete { path: path(r)? },
            TxnType::SetData | TxnType::Reconfig => Txn::SetData(SetDataTxn {
                path: path(r)?.as_bytes(),
                data: r.buffer("data")?,
                version: r.i32("version")?,
            }),
            TxnType::SetAcl => Txn::SetAcl(SetAclTxn {
                path: path(r)?,
                acl: AclBytes::read(r)?,
                version: r.i32("aversion")?,
            }),
            TxnType::Check => Txn::Check { path: path(r)?, version: r.i32("version")? },
            TxnType::CreateSession => Txn::CreateSession { timeout_ms: r.i32("timeOut")? },
            TxnType::CloseSession => Txn::CloseSession(read_close_session(r)?),
            TxnType::Error => Txn::Error { err: r.i32("err")? },
            TxnType::Multi => Txn::Multi(MultiTxn::read(r)?),
        })
    }
}

fn read_create<'a>(kind: TxnType, r: &mut Reader<'a>) -> Result<CreateTxn<'a>, DecodeError> {
    let plain = matches!(kind, TxnType::Create | TxnType::Create2);
    let (path, data, acl) = (path(r)?, r.buffer("data")?, AclBytes::read(r)?);
    let ephemeral = plain && r.bool("ephemeral")?;
    // The oldest logs (CreateTxnV0) end here.
    let old = kind == TxnType::Create && r.remaining() < 4;
    let parent_cversion = if old { -1 } else { r.i32("parentCVersion")? };
    let ttl = if kind == TxnType::CreateTtl { r.i64("ttl")? } else { 0 };
    Ok(CreateTxn { path, data, acl, ephemeral, parent_cversion, ttl })
}

/// A missing body and a digest of exactly 12 bytes cannot be told apart by reading on, so length
/// decides, as the log rules prescribe.
fn read_close_session<'a>(r: &mut Reader<'a>) -> Result<Option<PathList<'a>>, DecodeError> {
    if r.remaining() == 0 {
        return Ok(None);
    }
    if r.remaining() == TxnDigest::SIZE {
        let mut ahead = *r;
        if ahead.i32("digest version")? == TxnDigest::VERSION {
            return Ok(None);
        }
    }
    PathList::read(r).map(Some)
}

/// Appends the body of a create of type `kind`.
pub fn put_create_txn(out: &mut Vec<u8>, kind: TxnType, txn: &CreateTxn<'_>) {
    put_str(out, txn.path);
    put_buffer(out, txn.data);
    out.extend_from_slice(txn.acl.bytes());
    if matches!(kind, TxnType::Create | TxnType::Create2) {
        put_bool(out, txn.ephemeral);
    }
    put_i32(out, txn.parent_cversion);
    if kind == TxnType::CreateTtl {
        put_i64(out, txn.ttl);
    }
}

/// Appends the body of a closeSession with its list of ephemerals.
///
/// # Panics
/// When there are more than `i32::MAX` paths.
pub fn put_close_session_txn<S: AsRef<str>>(out: &mut Vec<u8>, paths: &[S]) {
    put_i32(out, i32::try_from(paths.len()).expect("a session owns fewer than 2^31 nodes"));
    for path in paths {
        put_str(out, path.as_ref());
    }
}

/// Where a part of a multi under construction began; see [`begin_sub_txn`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct SubTxnStart(usize);

impl SubTxnStart {
    /// Bytes before the part's record: its type and its length.
    const HEAD: usize = 8;
}

/// Appends placeholders for type and length of a part of a multi; [`end_sub_txn`] fills them in.
pub fn begin_sub_txn(out: &mut Vec<u8>) -> SubTxnStart {
    let start = out.len();
    put_i32(out, 0);
    put_i32(out, 0);
    SubTxnStart(start)
}

/// Takes back what was appended since the part was begun at `start`: an error follows instead.
pub fn restart_sub_txn(out: &mut Vec<u8>, start: SubTxnStart) {
    out.truncate(start.0 + SubTxnStart::HEAD);
}

/// Completes the part begun at `start`, which became a `kind`, with everything appended since.
pub fn end_sub_txn(out: &mut [u8], start: SubTxnStart, kind: TxnType) {
    // A transaction is smaller than 2 GiB.
    let len = (out.len() - start.0 - SubTxnStart::HEAD) as i32;
    out[start.0..start.0 + 4].copy_from_slice(&(kind as i32).to_be_bytes());
    out[start.0 + 4..start.0 + SubTxnStart::HEAD].copy_from_slice(&len.to_be_bytes());
}

/// Appends the body of an error transaction.
pub fn put_error_txn(out: &mut Vec<u8>, err: i32) {
    put_i32(out, err);
}

/// Digest of the whole tree after a transaction, trailing its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnDigest {
    /// Algorithm version; digests of other versions are never compared.
    pub version: i32,
    /// Sum of the node digests.
    pub tree_digest: u64,
}

impl TxnDigest {
    /// Encoded size in bytes.
    pub const SIZE: usize = 12;
    /// The algorithm in use since 3.6.
    pub const VERSION: i32 = 2;

    /// Appends the record.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i32(out, self.version);
        put_i64(out, self.tree_digest as i64);
    }

    /// The bytes of a transaction without the digest that may follow it.
    pub fn cut_off(entry: &[u8]) -> &[u8] {
        let mut r = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut r);
        match header.and_then(|header| Txn::decode_from(header.kind, &mut r)) {
            Ok(_) => &entry[..entry.len() - r.remaining()],
            Err(_) => entry,
        }
    }

    /// Reads the record if anything is left.
    pub fn decode_trailing(r: &mut Reader<'_>) -> Result<Option<TxnDigest>, DecodeError> {
        if r.remaining() == 0 {
            return Ok(None);
        }
        Ok(Some(TxnDigest {
            version: r.i32("digest version")?,
            tree_digest: r.i64("tree digest")? as u64,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_in_front_is_found_or_there_is_none() {
        let header = TxnHeader {
            session: SessionId(1),
            cxid: Xid(2),
            zxid: Zxid(3),
            time_ms: 4,
            kind: TxnType::SetData,
        };
        let mut txn = Vec::new();
        header.encode_into(&mut txn);
        put_str(&mut txn, "/a/b");
        assert_eq!(leading_path_of_txn(&txn), Some(&b"/a/b"[..]));
        for cut in 0..txn.len() {
            assert_eq!(leading_path_of_txn(&txn[..cut]), None, "cut at {cut}");
        }
        assert_eq!(leading_path(TxnType::Multi as i32, &txn[32..]), None, "a multi has no path");
        assert_eq!(leading_path(5, &[0xff; 8]), None, "a null path");
    }

    #[test]
    fn creates_round_trip_in_every_type() {
        for kind in
            [TxnType::Create, TxnType::Create2, TxnType::CreateContainer, TxnType::CreateTtl]
        {
            let txn = CreateTxn {
                path: "/a",
                data: Some(b"x"),
                acl: AclBytes::OPEN,
                ephemeral: kind == TxnType::Create,
                parent_cversion: 4,
                ttl: if kind == TxnType::CreateTtl { 99 } else { 0 },
            };
            let mut out = Vec::new();
            put_create_txn(&mut out, kind, &txn);
            let mut r = Reader::new(&out);
            assert_eq!(Txn::decode_from(kind, &mut r), Ok(Txn::Create(txn)));
            assert_eq!(r.remaining(), 0);
        }
    }

    #[test]
    fn a_close_session_without_body_keeps_its_digest() {
        let mut out = Vec::new();
        TxnDigest { version: 2, tree_digest: 7 }.encode_into(&mut out);
        let mut r = Reader::new(&out);
        assert_eq!(Txn::decode_from(TxnType::CloseSession, &mut r), Ok(Txn::CloseSession(None)));
        assert!(TxnDigest::decode_trailing(&mut r).unwrap().is_some());
    }

    #[test]
    fn an_error_inside_a_multi_may_carry_a_foreign_body() {
        let mut out = Vec::new();
        put_i32(&mut out, 2);
        for (kind, body) in
            [(TxnType::Delete, &b"\0\0\0\x02/a"[..]), (TxnType::Error, b"\0\0\0\0x")]
        {
            put_i32(&mut out, kind as i32);
            put_buffer(&mut out, Some(body));
        }
        let Ok(Txn::Multi(multi)) = Txn::decode_from(TxnType::Multi, &mut Reader::new(&out)) else {
            panic!("a multi");
        };
        let kinds: Vec<_> = multi.iter().map(|sub| sub.kind).collect();
        assert_eq!(kinds, [TxnType::Delete, TxnType::Error]);
        assert_eq!(multi.iter().next().unwrap().txn(), Ok(Txn::Delete { path: "/a" }));
    }
}
