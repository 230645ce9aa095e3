//! Request records as clients send them, borrowed from the frame.

use std::borrow::Cow;

use crate::base::Xid;

use super::{AclBytes, CreateMode, DecodeError, OpCode, Reader, leading_path};

/// Required text; null is an error, as it is for the path of every read.
pub fn text<'a>(r: &mut Reader<'a>, what: &'static str) -> Result<Cow<'a, str>, DecodeError> {
    r.text(what)?.ok_or(DecodeError::Null(what))
}

/// Head of every request frame but the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// Client's correlation id.
    pub xid: Xid,
    /// Opcode number, possibly unknown.
    pub op: i32,
}

impl RequestHeader {
    /// Encoded size in bytes.
    pub const SIZE: usize = 8;

    /// Reads the header.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<RequestHeader, DecodeError> {
        Ok(RequestHeader { xid: Xid(r.i32("xid")?), op: r.i32("opcode")? })
    }
}

/// The first of a run of frames, without its length, and the frames after it; `None` if there is no
/// whole one.
#[inline(always)]
pub fn split_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = frames.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

/// The path of a request whose record begins with one, for prefetching only: nothing is checked.
#[inline(always)]
pub fn requested_path(frame: &[u8]) -> Option<&[u8]> {
    let (head, record) = frame.split_first_chunk::<{ RequestHeader::SIZE }>()?;
    leading_path(i32::from_be_bytes(*head.last_chunk()?), record)
}

/// create, create2, createContainer and createTTL.
///
/// The path of a write may be null: the request still decodes, takes a zxid, and fails where its
/// rules first look at the path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create<'a> {
    /// Requested path; a sequential create appends to it.
    pub path: Option<Cow<'a, str>>,
    /// Null data is stored as null.
    pub data: Option<&'a [u8]>,
    /// Before fix-up.
    pub acl: AclBytes<'a>,
    /// Create mode number, not validated.
    pub flags: i32,
    /// Milliseconds; -1 for every op but createTTL.
    pub ttl: i64,
}

impl<'a> Create<'a> {
    /// Reads the record of opcode `op`.
    pub fn decode_from(r: &mut Reader<'a>, op: OpCode) -> Result<Create<'a>, DecodeError> {
        Ok(Create {
            path: r.text("path")?,
            data: r.buffer("data")?,
            acl: AclBytes::read(r)?,
            flags: r.i32("flags")?,
            ttl: if op == OpCode::CreateTtl { r.i64("ttl")? } else { -1 },
        })
    }
}

/// setData. What leads to a node is text, so the path is left as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetData<'a> {
    pub path: Option<&'a [u8]>,
    pub data: Option<&'a [u8]>,
    /// Expected data version; -1 for any.
    pub version: i32,
    /// Path and data as they are encoded, which is how the transaction begins too.
    pub encoded: &'a [u8],
}

impl<'a> SetData<'a> {
    /// Reads the record.
    #[inline]
    pub fn decode_from(r: &mut Reader<'a>) -> Result<SetData<'a>, DecodeError> {
        let from = r.rest();
        let (path, data) = (r.buffer("path")?, r.buffer("data")?);
        let encoded = &from[..from.len() - r.remaining()];
        Ok(SetData { path, data, version: r.i32("version")?, encoded })
    }
}

/// setACL.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetAcl<'a> {
    pub path: Option<Cow<'a, str>>,
    pub acl: AclBytes<'a>,
    /// Expected aversion; -1 for any.
    pub version: i32,
}

impl<'a> SetAcl<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<SetAcl<'a>, DecodeError> {
        Ok(SetAcl { path: r.text("path")?, acl: AclBytes::read(r)?, version: r.i32("version")? })
    }
}

/// delete, and check inside a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct PathVersion<'a> {
    pub path: Option<Cow<'a, str>>,
    /// Expected data version; -1 for any.
    pub version: i32,
}

/// `CheckVersionRequest` has the layout of a delete.
pub type CheckVersion<'a> = PathVersion<'a>;

impl<'a> PathVersion<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<PathVersion<'a>, DecodeError> {
        Ok(PathVersion { path: r.text("path")?, version: r.i32("version")? })
    }
}

/// exists, getData, getChildren and getChildren2.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct PathWatch<'a> {
    pub path: Cow<'a, str>,
    pub watch: bool,
}

impl<'a> PathWatch<'a> {
    /// Reads the record.
    #[inline]
    pub fn decode_from(r: &mut Reader<'a>) -> Result<PathWatch<'a>, DecodeError> {
        Ok(PathWatch { path: text(r, "path")?, watch: r.bool("watch")? })
    }
}

/// addWatch; the path may even be null, which reads as empty.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct AddWatch<'a> {
    pub path: Cow<'a, str>,
    /// 0 persistent, 1 persistent recursive; not validated.
    pub mode: i32,
}

impl<'a> AddWatch<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<AddWatch<'a>, DecodeError> {
        Ok(AddWatch { path: r.text("path")?.unwrap_or_default(), mode: r.i32("mode")? })
    }
}

/// checkWatches and removeWatches.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct WatchPath<'a> {
    pub path: Cow<'a, str>,
    /// 1 children, 2 data, 3 any, 4 persistent, 5 persistent recursive; not validated.
    pub kind: i32,
}

impl<'a> WatchPath<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<WatchPath<'a>, DecodeError> {
        Ok(WatchPath { path: r.text("path")?.unwrap_or_default(), kind: r.i32("type")? })
    }
}

/// reconfig; null lists stay null.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct Reconfig<'a> {
    pub joining_servers: Option<Cow<'a, str>>,
    pub leaving_servers: Option<Cow<'a, str>>,
    pub new_members: Option<Cow<'a, str>>,
    pub cur_config_id: i64,
}

impl<'a> Reconfig<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<Reconfig<'a>, DecodeError> {
        Ok(Reconfig {
            joining_servers: r.text("joiningServers")?,
            leaving_servers: r.text("leavingServers")?,
            new_members: r.text("newMembers")?,
            cur_config_id: r.i64("curConfigId")?,
        })
    }
}

/// The auth packet.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct Auth<'a> {
    pub scheme: Option<Cow<'a, str>>,
    pub auth: Option<&'a [u8]>,
}

impl<'a> Auth<'a> {
    /// Reads the record; its leading `type` field is ignored, as in Apache.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<Auth<'a>, DecodeError> {
        r.i32("auth type")?;
        Ok(Auth { scheme: r.text("scheme")?, auth: r.buffer("auth")? })
    }
}

/// A `vector<ustring>` whose shape has been checked; its elements are decoded when they are wanted.
#[derive(Clone, Copy, Debug)]
pub struct StrVector<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> StrVector<'a> {
    /// Reads the vector; `None` is null.
    pub fn read(
        r: &mut Reader<'a>,
        what: &'static str,
    ) -> Result<Option<StrVector<'a>>, DecodeError> {
        let Some(count) = r.count(what)? else { return Ok(None) };
        let start = r.rest();
        for _ in 0..count {
            r.buffer(what)?;
        }
        Ok(Some(StrVector { bytes: &start[..start.len() - r.remaining()], count }))
    }

    /// The elements in order; each may be null.
    pub fn iter(self) -> impl Iterator<Item = Option<Cow<'a, str>>> {
        let mut r = Reader::new(self.bytes);
        // The shape was checked in `read`, so this cannot end early.
        (0..self.count).map_while(move |_| r.text("path").ok())
    }
}

/// One operation of a multi or multiRead.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum MultiOp<'a> {
    /// The opcode is one of the four creates.
    Create(OpCode, Create<'a>),
    Delete(PathVersion<'a>),
    SetData(SetData<'a>),
    Check(PathVersion<'a>),
    /// A read, by its path: its watch flag is decoded and ignored.
    GetData(Option<Cow<'a, str>>),
    /// As `GetData`.
    GetChildren(Option<Cow<'a, str>>),
}

impl MultiOp<'_> {
    fn is_read(&self) -> bool {
        matches!(self, MultiOp::GetData(_) | MultiOp::GetChildren(_))
    }

    /// The path, which may be no text; `None` if it is null.
    pub fn path(&self) -> Option<&[u8]> {
        let path = match self {
            MultiOp::SetData(set) => return set.path,
            MultiOp::Create(_, create) => &create.path,
            MultiOp::Delete(request) | MultiOp::Check(request) => &request.path,
            MultiOp::GetData(path) | MultiOp::GetChildren(path) => path,
        };
        path.as_deref().map(str::as_bytes)
    }
}

fn read_path<'a>(r: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, DecodeError> {
    let path = r.text("path")?;
    r.bool("watch")?;
    Ok(path)
}

/// Iterates over the operations of a multi body, with the checks that are part of decoding it
/// (`MultiOperationRecord.deserialize`): writes and reads are not mixed; op 1, 15 and 19 have an
/// ACL, and flags that exist and name no TTL mode, else the error is [`MultiOps::NULL_ACL`].
#[derive(Clone, Copy, Debug)]
pub struct MultiOps<'a> {
    r: Reader<'a>,
    is_read: Option<bool>,
    done: bool,
}

impl<'a> MultiOps<'a> {
    /// Reads from the start of a multi body.
    pub fn new(r: Reader<'a>) -> MultiOps<'a> {
        MultiOps { r, is_read: None, done: false }
    }

    /// The error for a null ACL of a create: Apache fails on it before it takes a zxid, unlike on
    /// every other defect of a multi.
    pub const NULL_ACL: DecodeError = DecodeError::Null("acl of an operation of a multi");

    /// Bytes that follow the operations read so far.
    pub fn remaining(&self) -> usize {
        self.r.remaining()
    }

    fn read(&mut self) -> Result<Option<MultiOp<'a>>, DecodeError> {
        let op = self.r.i32("multi op type")?;
        let done = self.r.bool("multi done")?;
        self.r.i32("multi err")?;
        if done {
            return Ok(None);
        }
        let r = &mut self.r;
        let bad = DecodeError::BadValue("multi op type", i64::from(op));
        let op = OpCode::from_code(op).ok_or(bad)?;
        let op = match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer => {
                let create = Create::decode_from(r, op)?;
                let mode = CreateMode::from_flags(create.flags)?;
                if create.acl.is_null() {
                    return Err(MultiOps::NULL_ACL);
                }
                if mode.is_ttl() {
                    let flags = i64::from(create.flags);
                    return Err(DecodeError::BadValue("create flags without a TTL", flags));
                }
                MultiOp::Create(op, create)
            }
            OpCode::CreateTtl => MultiOp::Create(op, Create::decode_from(r, op)?),
            OpCode::Delete => MultiOp::Delete(PathVersion::decode_from(r)?),
            OpCode::SetData => MultiOp::SetData(SetData::decode_from(r)?),
            OpCode::Check => MultiOp::Check(PathVersion::decode_from(r)?),
            OpCode::GetData => MultiOp::GetData(read_path(r)?),
            OpCode::GetChildren => MultiOp::GetChildren(read_path(r)?),
            _ => return Err(bad),
        };
        if *self.is_read.get_or_insert(op.is_read()) != op.is_read() {
            return Err(DecodeError::BadValue("reads and writes in one multi", 0));
        }
        Ok(Some(op))
    }
}

impl<'a> Iterator for MultiOps<'a> {
    type Item = Result<MultiOp<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_bool, put_buffer, put_i32, put_multi_end, put_str};

    fn part(out: &mut Vec<u8>, op: i32) {
        put_i32(out, op);
        put_bool(out, false);
        put_i32(out, -1);
    }

    fn create(out: &mut Vec<u8>, op: i32, acl: Option<&[u8]>, flags: i32) {
        part(out, op);
        put_buffer(out, Some(b"/a"));
        put_buffer(out, None);
        match acl {
            Some(acl) => out.extend_from_slice(acl),
            None => put_i32(out, -1),
        }
        put_i32(out, flags);
        if op == 21 {
            out.extend_from_slice(&[0; 8]);
        }
    }

    fn check(bytes: &[u8]) -> Result<usize, DecodeError> {
        let ops: Result<Vec<_>, _> = MultiOps::new(Reader::new(bytes)).collect();
        ops.map(|ops| ops.len())
    }

    #[test]
    fn frames_are_split_where_they_are_whole() {
        let frames = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1];
        let (first, rest) = split_frame(&frames).unwrap();
        assert_eq!(first, [7, 8]);
        let (second, rest) = split_frame(rest).unwrap();
        assert_eq!((second, rest), (&[][..], &frames[10..]));
        assert_eq!(split_frame(rest), None);
        assert_eq!(split_frame(&[0xff; 5]), None);
    }

    #[test]
    fn requests_that_begin_with_a_path_show_it() {
        for op in OpCode::ALL {
            let mut frame = Vec::new();
            put_i32(&mut frame, 1);
            put_i32(&mut frame, op.code());
            put_str(&mut frame, "/a");
            let has_path = op.is_write() && !matches!(op, OpCode::Multi | OpCode::Reconfig)
                || matches!(op, OpCode::Exists | OpCode::GetData | OpCode::GetAcl)
                || matches!(op, OpCode::GetChildren | OpCode::GetChildren2)
                || op == OpCode::DeleteContainer;
            assert_eq!(requested_path(&frame), has_path.then_some(&b"/a"[..]), "{op:?}");
            frame.pop();
            assert_eq!(requested_path(&frame), None, "{op:?}");
        }
        assert_eq!(requested_path(&[0; 7]), None);
    }

    #[test]
    fn the_first_defect_of_a_multi_decides() {
        let acl = Some(AclBytes::OPEN.bytes());
        let one = |op, acl, flags| {
            let mut out = Vec::new();
            create(&mut out, op, acl, flags);
            put_multi_end(&mut out);
            check(&out)
        };
        for op in [1, 15, 19] {
            assert_eq!(one(op, acl, 4), Ok(1));
            assert_eq!(one(op, None, 0), Err(MultiOps::NULL_ACL));
            assert_eq!(one(op, None, 5), Err(MultiOps::NULL_ACL));
            assert_eq!(one(op, None, 7), Err(DecodeError::BadValue("create flags", 7)));
            assert!(matches!(one(op, acl, 6), Err(DecodeError::BadValue(_, 6))));
        }
        // Judged when it is prepared.
        assert_eq!(one(21, None, 7), Ok(1));
    }

    #[test]
    fn a_multi_holds_reads_or_writes_and_its_paths_may_be_null() {
        let read = |out: &mut Vec<u8>| {
            part(out, 4);
            put_buffer(out, None);
            put_bool(out, true);
        };
        let delete = |out: &mut Vec<u8>| {
            part(out, 2);
            put_str(out, "/a");
            put_i32(out, -1);
        };
        let mut reads = Vec::new();
        read(&mut reads);
        let mut mixed = reads.clone();
        put_multi_end(&mut reads);
        assert_eq!(check(&reads), Ok(1));
        let mut ops = MultiOps::new(Reader::new(&reads));
        assert_eq!(ops.next().unwrap().unwrap().path(), None);
        delete(&mut mixed);
        put_multi_end(&mut mixed);
        assert!(matches!(check(&mixed), Err(DecodeError::BadValue(_, 0))));
        assert!(matches!(check(&reads[..reads.len() - 1]), Err(DecodeError::Truncated(_))));
    }

    #[test]
    fn a_vector_of_text_is_checked_before_its_elements_are_used() {
        let mut out = Vec::new();
        put_i32(&mut out, 2);
        put_str(&mut out, "/a");
        put_buffer(&mut out, None);
        let list = StrVector::read(&mut Reader::new(&out), "paths").unwrap().unwrap();
        assert!(list.iter().eq([Some(Cow::Borrowed("/a")), None]));
        assert!(StrVector::read(&mut Reader::new(&out[..10]), "paths").is_err());
        let null = StrVector::read(&mut Reader::new(&[0xff; 4]), "paths").unwrap();
        assert!(null.is_none());
    }
}
