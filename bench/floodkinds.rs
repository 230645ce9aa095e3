//! The kinds of flood of `rk-bench fair`: what each needs in the tree, and the frames it sends.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpStream};

use ringkeeper::base::{Xid, Zxid};
use ringkeeper::wire::{
    OpCode, XID_AUTH, XID_PING, XID_SET_WATCHES, put_bool, put_buffer, put_i32, put_i64,
    put_multi_end, put_str,
};

use crate::admin::{self, Admin};
use crate::codec;
use crate::flood::{Flood, Manner};

/// Everything is created below it.
pub const ROOT: &str = "/fair";
const SMALL: &str = "/fair/small";
const LARGE: &str = "/fair/large";
const LISTED: &str = "/fair/acl";
const FLAG: &str = "/fair/flag";
const EPHEMERALS: &str = "/fair/own";
/// A request frame stays below the default `jute.maxbuffer`, 1 MiB − 1.
const FRAME_BYTES: usize = 1_000_000;
/// Requests in flight where they are small.
const DEEP: usize = 20_000;
/// Ringkeeper closes a connection on which more than 1000 users log in.
const USERS_MAX: usize = 900;
/// Users that the flood on the node with the long ACL has logged in.
const IDENTITIES: usize = 100;

/// Sizes of the nodes, lists and requests that make a flood expensive.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Number of children, own ephemerals and ACL entries; also of users, but no more than 900.
    pub entries: usize,
    /// Number of paths in a setWatches.
    pub watches: usize,
    /// Number of sessions that are told of each change.
    pub watchers: usize,
}

/// A kind of flood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "`title` says it")]
pub enum Kind {
    Set,
    Get,
    Ping,
    Sync,
    Auth,
    CreateDelete,
    MultiLarge,
    MultiLong,
    Ephemerals,
    EphemeralsNone,
    Acl,
    Children,
    MultiRead,
    SetWatches,
    FanOut,
    Disconnect,
}

impl Kind {
    /// All, in the order in which they run.
    pub const ALL: [Kind; 16] = [
        Kind::Set,
        Kind::Get,
        Kind::Ping,
        Kind::Sync,
        Kind::Auth,
        Kind::CreateDelete,
        Kind::MultiLarge,
        Kind::MultiLong,
        Kind::Ephemerals,
        Kind::EphemeralsNone,
        Kind::Acl,
        Kind::Children,
        Kind::MultiRead,
        Kind::SetWatches,
        Kind::FanOut,
        Kind::Disconnect,
    ];

    /// For `--only`, and the key in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Set => "set",
            Kind::Get => "get",
            Kind::Ping => "ping",
            Kind::Sync => "sync",
            Kind::Auth => "auth",
            Kind::CreateDelete => "create-delete",
            Kind::MultiLarge => "multi-large",
            Kind::MultiLong => "multi-long",
            Kind::Ephemerals => "ephemerals",
            Kind::EphemeralsNone => "ephemerals-none",
            Kind::Acl => "acl",
            Kind::Children => "children",
            Kind::MultiRead => "multi-read",
            Kind::SetWatches => "set-watches",
            Kind::FanOut => "fan-out",
            Kind::Disconnect => "disconnect",
        }
    }

    /// For people.
    pub fn title(self, sizes: &Sizes) -> String {
        let Sizes { entries, watches, watchers } = sizes;
        match self {
            Kind::Set => "sets of 100 B".into(),
            Kind::Get => "gets of 100 B".into(),
            Kind::Ping => "pings".into(),
            Kind::Sync => "syncs".into(),
            Kind::Auth => format!("auth, {} users", USERS_MAX.min(*entries)),
            Kind::CreateDelete => "create, delete".into(),
            Kind::MultiLarge => "1-MiB multis of 10 sets".into(),
            Kind::MultiLong => "1-MiB multis of small sets".into(),
            Kind::Ephemerals => format!("getEphemerals of {entries}"),
            Kind::EphemeralsNone => format!("getEphemerals, none of {entries}"),
            Kind::Acl => format!("getData, ACL of {entries}"),
            Kind::Children => format!("getChildren of {entries}"),
            Kind::MultiRead => format!("20 × getChildren of {entries}"),
            Kind::SetWatches => format!("setWatches of {watches}"),
            Kind::FanOut => format!("sets told to {watchers}"),
            Kind::Disconnect => format!("getEphemerals of {entries}, leaves"),
        }
    }

    /// Creates the nodes it needs; returns the flood, and the watchers that its changes are told
    /// to.
    ///
    /// # Errors
    /// The server refuses what the kind needs.
    pub fn set_up(
        self,
        addr: SocketAddr,
        sizes: &Sizes,
    ) -> Result<(Flood, Vec<TcpStream>), String> {
        let mut admin = Admin::connect(addr)?;
        let nodes = [SMALL, LARGE, LISTED, FLAG].map(str::to_owned);
        admin.create_all(nodes.into_iter())?;
        check("set", admin.call(|xid| codec::set_frame(xid, SMALL, &codec::filler(100)))?)?;
        let mut watchers = Vec::new();
        let mut prologue = Vec::new();
        match self {
            Kind::Ephemerals | Kind::EphemeralsNone | Kind::Disconnect => {
                own_ephemerals(&mut admin, sizes.entries)?;
            }
            Kind::Acl => {
                let body = acl_frame(Xid(1), LISTED, sizes.entries);
                check("setACL", admin.call(|_| body)?)?;
                (0..IDENTITIES).for_each(|i| prologue.extend_from_slice(&auth_frame(i)));
            }
            Kind::Children | Kind::MultiRead => {
                admin.create_all((0..sizes.entries).map(|i| format!("{LARGE}/child-{i:06}")))?;
            }
            Kind::FanOut => watchers = watch(addr, sizes.watchers)?,
            _ => {}
        }
        let (depth, manner) = match self {
            Kind::MultiLarge | Kind::MultiLong | Kind::SetWatches => (64, Manner::Stays),
            Kind::FanOut => (16, Manner::Stays),
            // All of them have left before the first reply is read.
            Kind::Disconnect => (usize::MAX, Manner::Leaves(DEEP)),
            _ => (DEEP, Manner::Stays),
        };
        let frames = self.frames(sizes);
        let session = admin.session();
        // Its connection breaks; the flood goes on with its session, which owns the ephemerals.
        drop(admin);
        Ok((Flood { session, prologue, frames, depth, manner }, watchers))
    }

    /// The frames that are sent round and round.
    fn frames(self, sizes: &Sizes) -> Vec<Vec<u8>> {
        let xid = Xid(1);
        let data = codec::filler(100);
        let ephemerals =
            |prefix: &str| codec::request(xid, OpCode::GetEphemerals, |out| put_str(out, prefix));
        match self {
            Kind::Set => vec![codec::set_frame(xid, SMALL, &data)],
            Kind::Get => vec![codec::read_frame(xid, OpCode::GetData, SMALL, false)],
            Kind::Ping => vec![codec::empty_frame(Xid(XID_PING), OpCode::Ping)],
            Kind::Sync => vec![codec::request(xid, OpCode::Sync, |out| put_str(out, SMALL))],
            Kind::Auth => (0..sizes.entries.min(USERS_MAX)).map(auth_frame).collect(),
            Kind::CreateDelete => {
                let path = format!("{ROOT}/comes-and-goes");
                vec![codec::create_frame(xid, &path, &data, 0), codec::delete_frame(xid, &path)]
            }
            Kind::MultiLarge => vec![multi_frame(10, FRAME_BYTES / 10)],
            Kind::MultiLong => vec![multi_frame(FRAME_BYTES / 42, 8)],
            Kind::Ephemerals => vec![ephemerals(EPHEMERALS)],
            Kind::EphemeralsNone | Kind::Disconnect => vec![ephemerals("/none")],
            Kind::Acl => vec![codec::read_frame(xid, OpCode::GetData, LISTED, false)],
            Kind::Children => vec![codec::read_frame(xid, OpCode::GetChildren, LARGE, false)],
            Kind::MultiRead => vec![multi_read_frame()],
            Kind::SetWatches => vec![set_watches_frame(sizes.watches)],
            Kind::FanOut => vec![codec::set_frame(xid, FLAG, &data)],
        }
    }
}

fn check(what: &str, (err, _): (i32, Vec<u8>)) -> Result<(), String> {
    if err == 0 { Ok(()) } else { Err(format!("{what} was answered {err}")) }
}

fn own_ephemerals(admin: &mut Admin, count: usize) -> Result<(), String> {
    let create = |i: usize| -> Box<dyn FnOnce(Xid) -> Vec<u8>> {
        Box::new(move |xid| codec::create_frame(xid, &format!("{EPHEMERALS}{i:06}"), b"", 1))
    };
    admin.batch(admin::NODE_EXISTS, (0..count).map(create))
}

/// Sessions with a watch on the flag that stays after an event.
fn watch(addr: SocketAddr, count: usize) -> Result<Vec<TcpStream>, String> {
    const STAYS: i32 = 0;
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut admin = Admin::connect(addr)?;
        let frame = |xid| {
            codec::request(xid, OpCode::AddWatch, |out| {
                put_str(out, FLAG);
                put_i32(out, STAYS);
            })
        };
        check("addWatch", admin.call(frame)?)?;
        let stream = admin.into_stream();
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        streams.push(stream);
    }
    Ok(streams)
}

fn auth_frame(user: usize) -> Vec<u8> {
    codec::request(Xid(XID_AUTH), OpCode::Auth, |out| {
        put_i32(out, 0);
        put_str(out, "digest");
        put_buffer(out, Some(format!("user{user:05}:secret").as_bytes()));
    })
}

/// An ACL of users and addresses that are not the flood's, and last of all everybody.
fn acl_frame(xid: Xid, path: &str, entries: usize) -> Vec<u8> {
    const ALL: i32 = 31;
    codec::request(xid, OpCode::SetAcl, |out| {
        put_str(out, path);
        put_i32(out, i32::try_from(entries).unwrap_or(i32::MAX));
        for i in 0..entries {
            put_i32(out, ALL);
            let (scheme, id) = match i {
                last if last + 1 == entries => ("world", "anyone".to_owned()),
                odd if odd % 2 == 1 => ("ip", format!("10.{}.{}.1/32", odd / 256, odd % 256)),
                even => ("digest", format!("u{even:05}:x6Bw0yTNtMzZ4iRc=")),
            };
            put_str(out, scheme);
            put_str(out, &id);
        }
        put_i32(out, -1);
    })
}

fn multi_item(out: &mut Vec<u8>, op: OpCode) {
    put_i32(out, op.code());
    put_bool(out, false);
    put_i32(out, -1);
}

fn multi_frame(operations: usize, data_bytes: usize) -> Vec<u8> {
    let data = codec::filler(data_bytes);
    codec::request(Xid(1), OpCode::Multi, |out| {
        for _ in 0..operations {
            multi_item(out, OpCode::SetData);
            put_str(out, SMALL);
            put_buffer(out, Some(&data));
            put_i32(out, -1);
        }
        put_multi_end(out);
    })
}

fn multi_read_frame() -> Vec<u8> {
    codec::request(Xid(1), OpCode::MultiRead, |out| {
        for _ in 0..20 {
            multi_item(out, OpCode::GetChildren);
            put_str(out, LARGE);
            put_bool(out, false);
        }
        put_multi_end(out);
    })
}

/// Watches on nodes that do not exist: `/w0000` and on, in base 36, so that 100 000 fit a frame.
fn set_watches_frame(count: usize) -> Vec<u8> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    codec::request(Xid(XID_SET_WATCHES), OpCode::SetWatches, |out| {
        put_i64(out, Zxid::ZERO.0);
        put_i32(out, 0);
        put_i32(out, i32::try_from(count).unwrap_or(i32::MAX));
        for i in 0..count {
            let digit = |nth: u32| char::from(DIGITS[i / 36usize.pow(nth) % 36]);
            put_str(out, &format!("/w{}{}{}{}", digit(3), digit(2), digit(1), digit(0)));
        }
        put_i32(out, 0);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_frame_fits_and_every_name_is_its_own() {
        let sizes = Sizes { entries: 20_000, watches: 100_000, watchers: 2_000 };
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(!kind.title(&sizes).is_empty());
            for frame in kind.frames(&sizes) {
                let len = codec::frame_body(&frame).map(<[u8]>::len);
                assert_eq!(len, Some(frame.len() - 4), "{kind:?}");
                assert!(frame.len() - 4 < 0xfffff, "{kind:?}: {} bytes", frame.len());
            }
        }
        assert!(acl_frame(Xid(1), LISTED, sizes.entries).len() < 0xfffff);
        let large = [Kind::MultiLarge, Kind::MultiLong, Kind::SetWatches];
        for kind in large {
            assert!(kind.frames(&sizes)[0].len() > 900_000, "{kind:?} is not as large as it says");
        }
    }

    #[test]
    fn paths_to_watch_differ() {
        let frame = set_watches_frame(2_000);
        let paths: BTreeSet<_> = frame[28..].chunks(10).take(2_000).collect();
        assert_eq!(paths.len(), 2_000);
    }
}
