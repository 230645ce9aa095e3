//! Request records as clients send them, borrowed from the frame.

use std::borrow::Cow;

use crate::base::Xid;

use super::{AclBytes, DecodeError, OpCode, Reader};

/// Required text; null is an error, as it is for every path.
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
    /// Reads the header.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<RequestHeader, DecodeError> {
        Ok(RequestHeader { xid: Xid(r.i32("xid")?), op: r.i32("opcode")? })
    }
}

/// create, create2, createContainer and createTTL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create<'a> {
    /// Requested path; a sequential create appends to it.
    pub path: Cow<'a, str>,
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
            path: text(r, "path")?,
            data: r.buffer("data")?,
            acl: AclBytes::read(r)?,
            flags: r.i32("flags")?,
            ttl: if op == OpCode::CreateTtl { r.i64("ttl")? } else { -1 },
        })
    }
}

/// setData.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetData<'a> {
    pub path: Cow<'a, str>,
    pub data: Option<&'a [u8]>,
    /// Expected data version; -1 for any.
    pub version: i32,
}

impl<'a> SetData<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<SetData<'a>, DecodeError> {
        Ok(SetData { path: text(r, "path")?, data: r.buffer("data")?, version: r.i32("version")? })
    }
}

/// setACL.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct SetAcl<'a> {
    pub path: Cow<'a, str>,
    pub acl: AclBytes<'a>,
    /// Expected aversion; -1 for any.
    pub version: i32,
}

impl<'a> SetAcl<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<SetAcl<'a>, DecodeError> {
        Ok(SetAcl { path: text(r, "path")?, acl: AclBytes::read(r)?, version: r.i32("version")? })
    }
}

/// delete, and check inside a multi.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub struct PathVersion<'a> {
    pub path: Cow<'a, str>,
    /// Expected data version; -1 for any.
    pub version: i32,
}

/// `CheckVersionRequest` has the layout of a delete.
pub type CheckVersion<'a> = PathVersion<'a>;

impl<'a> PathVersion<'a> {
    /// Reads the record.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<PathVersion<'a>, DecodeError> {
        Ok(PathVersion { path: text(r, "path")?, version: r.i32("version")? })
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

/// A `vector<ustring>` read one element at a time, because setWatches acts on each before it
/// meets a malformed later one.
#[derive(Clone, Copy, Debug)]
pub struct StrVector {
    left: usize,
}

impl StrVector {
    /// Reads the count; a null vector is an error.
    pub fn begin(r: &mut Reader<'_>, what: &'static str) -> Result<StrVector, DecodeError> {
        Ok(StrVector { left: r.count(what)?.ok_or(DecodeError::Null(what))? })
    }

    /// The next element, or `None` at the end. Null elements read as empty.
    pub fn next<'a>(&mut self, r: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Ok(Some(r.text("path")?.unwrap_or_default()))
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
    GetData(PathWatch<'a>),
    GetChildren(PathWatch<'a>),
}

/// Iterates over the operations of a multi body.
#[derive(Clone, Copy, Debug)]
pub struct MultiOps<'a> {
    r: Reader<'a>,
    done: bool,
}

impl<'a> MultiOps<'a> {
    /// Reads from the start of a multi body.
    pub fn new(r: Reader<'a>) -> MultiOps<'a> {
        MultiOps { r, done: false }
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
        Ok(Some(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                MultiOp::Create(op, Create::decode_from(r, op)?)
            }
            OpCode::Delete => MultiOp::Delete(PathVersion::decode_from(r)?),
            OpCode::SetData => MultiOp::SetData(SetData::decode_from(r)?),
            OpCode::Check => MultiOp::Check(PathVersion::decode_from(r)?),
            OpCode::GetData => MultiOp::GetData(PathWatch::decode_from(r)?),
            OpCode::GetChildren => MultiOp::GetChildren(PathWatch::decode_from(r)?),
            _ => return Err(bad),
        }))
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
