//! Requests as simulated clients make them, encoded by hand, so that a mistake in the server's
//! codec cannot hide behind itself.

use std::fmt;

use crate::wire::{put_bool, put_buffer, put_i32, put_i64, put_str};

/// One request.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Op {
    /// `with_stat`: create2. `flags`: 0 to 3.
    Create {
        path: String,
        data: Vec<u8>,
        flags: i32,
        with_stat: bool,
    },
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: Vec<u8>,
        version: i32,
    },
    /// Only inside a multi.
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Op>),
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    GetChildren {
        path: String,
        watch: bool,
        with_stat: bool,
    },
    Sync {
        path: String,
    },
    /// `mode`: 0 persistent, 1 recursive.
    AddWatch {
        path: String,
        mode: i32,
    },
    /// Of any kind.
    RemoveWatches {
        path: String,
    },
    /// setWatches2: data, exist, child, persistent, recursive.
    SetWatches {
        relative: i64,
        lists: [Vec<String>; 5],
    },
    Ping,
    Close,
}

/// The ACL that lets everybody do everything.
pub fn open_acl() -> Vec<u8> {
    crate::wire::ACL_OPEN_BYTES.to_vec()
}

/// An open ACL with a second, powerless entry.
pub fn other_acl(host: u8) -> Vec<u8> {
    let mut out = Vec::new();
    put_i32(&mut out, 2);
    for (perms, scheme, id) in [(31, "world", "anyone"), (1, "ip", &*format!("10.0.0.{host}"))] {
        put_i32(&mut out, perms);
        put_str(&mut out, scheme);
        put_str(&mut out, id);
    }
    out
}

/// As a history shows it: values by their start and length.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn short(data: &[u8]) -> String {
            let start = String::from_utf8_lossy(&data[..data.len().min(8)]).into_owned();
            format!("{start}+{}", data.len())
        }
        match self {
            Op::Create { path, data, flags, with_stat } => {
                let data = short(data);
                write!(f, "create {path} {data} flags {flags} with_stat {with_stat}")
            }
            Op::Delete { path, version } => write!(f, "delete {path} version {version}"),
            Op::SetData { path, data, version } => {
                write!(f, "setData {path} {} version {version}", short(data))
            }
            Op::SetAcl { path, acl, version } => {
                write!(f, "setACL {path} {} bytes version {version}", acl.len())
            }
            Op::Check { path, version } => write!(f, "check {path} version {version}"),
            Op::Multi(ops) => write!(f, "multi {ops:?}"),
            Op::Exists { path, watch } => write!(f, "exists {path} watch {watch}"),
            Op::GetData { path, watch } => write!(f, "getData {path} watch {watch}"),
            Op::GetChildren { path, watch, .. } => write!(f, "getChildren {path} watch {watch}"),
            Op::Sync { path } => write!(f, "sync {path}"),
            Op::AddWatch { path, mode } => write!(f, "addWatch {path} mode {mode}"),
            Op::RemoveWatches { path } => write!(f, "removeWatches {path}"),
            Op::SetWatches { relative, lists } => {
                write!(f, "setWatches since 0x{relative:x} {lists:?}")
            }
            Op::Ping => write!(f, "ping"),
            Op::Close => write!(f, "closeSession"),
        }
    }
}

impl Op {
    /// Whether it becomes a transaction.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Op::Create { .. }
                | Op::Delete { .. }
                | Op::SetData { .. }
                | Op::SetAcl { .. }
                | Op::Multi(_)
                | Op::Close
        )
    }

    /// Its opcode.
    pub fn code(&self) -> i32 {
        match self {
            Op::Create { with_stat: false, .. } => 1,
            Op::Create { with_stat: true, .. } => 15,
            Op::Delete { .. } => 2,
            Op::Exists { .. } => 3,
            Op::GetData { .. } => 4,
            Op::SetData { .. } => 5,
            Op::SetAcl { .. } => 7,
            Op::GetChildren { with_stat: false, .. } => 8,
            Op::GetChildren { with_stat: true, .. } => 12,
            Op::Sync { .. } => 9,
            Op::Ping => 11,
            Op::Check { .. } => 13,
            Op::Multi(_) => 14,
            Op::RemoveWatches { .. } => 18,
            Op::SetWatches { .. } => 105,
            Op::AddWatch { .. } => 106,
            Op::Close => -11,
        }
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Op::Create { path, data, flags, .. } => {
                put_str(out, path);
                put_buffer(out, Some(data));
                out.extend_from_slice(&open_acl());
                put_i32(out, *flags);
            }
            Op::Delete { path, version } | Op::Check { path, version } => {
                put_str(out, path);
                put_i32(out, *version);
            }
            Op::SetData { path, data, version } => {
                put_str(out, path);
                put_buffer(out, Some(data));
                put_i32(out, *version);
            }
            Op::SetAcl { path, acl, version } => {
                put_str(out, path);
                out.extend_from_slice(acl);
                put_i32(out, *version);
            }
            Op::Multi(ops) => {
                for op in ops {
                    put_i32(out, op.code());
                    put_bool(out, false);
                    put_i32(out, -1);
                    op.put_body(out);
                }
                put_i32(out, -1);
                put_bool(out, true);
                put_i32(out, -1);
            }
            Op::Exists { path, watch }
            | Op::GetData { path, watch }
            | Op::GetChildren { path, watch, .. } => {
                put_str(out, path);
                put_bool(out, *watch);
            }
            Op::Sync { path } => put_str(out, path),
            Op::AddWatch { path, mode } => {
                put_str(out, path);
                put_i32(out, *mode);
            }
            Op::RemoveWatches { path } => {
                put_str(out, path);
                put_i32(out, 3);
            }
            Op::SetWatches { relative, lists } => {
                put_i64(out, *relative);
                for list in lists {
                    put_i32(out, list.len() as i32);
                    list.iter().for_each(|path| put_str(out, path));
                }
            }
            Op::Ping | Op::Close => {}
        }
    }

    /// The whole frame.
    pub fn frame(&self, xid: i32) -> Vec<u8> {
        let mut out = vec![0; 4];
        put_i32(&mut out, xid);
        put_i32(&mut out, self.code());
        self.put_body(&mut out);
        let len = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&len.to_be_bytes());
        out
    }
}
