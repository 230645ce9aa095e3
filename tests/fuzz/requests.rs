//! Valid requests of every opcode, as clients encode them, with values near the borders.

use ringkeeper::base::{Rng, SessionId, Zxid};
use ringkeeper::wire::{
    ACL_OPEN_BYTES, ConnectRequest, OpCode, begin_frame, end_frame, put_bool, put_buffer, put_i32,
    put_i64, put_multi_end, put_str,
};

use super::input::{bytes, int, long, path, pick, put_data, put_path};

const IDS: &[(&str, &str)] = &[
    ("world", "anyone"),
    ("auth", ""),
    ("ip", "127.0.0.1"),
    ("ip", "10.0.0.0/8"),
    ("ip", "::1/200"),
    ("digest", "u:6DfGPxxe5sFOGMOJjAwRmJ2HmVk="),
    ("digest", "nocolon"),
    ("sasl", "user@REALM"),
    ("x509", "CN=a"),
    ("", ""),
];

/// Appends an ACL.
pub fn put_acl(rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(8) {
        0..=3 => out.extend_from_slice(ACL_OPEN_BYTES),
        4 => put_i32(out, -1),
        _ => {
            let count = rng.below(4);
            put_i32(out, count as i32);
            for _ in 0..count {
                put_i32(out, if rng.chance(3, 4) { 31 } else { int(rng) });
                let (scheme, id) = pick(rng, IDS);
                put_str(out, scheme);
                put_str(out, id);
            }
        }
    }
}

fn put_paths(rng: &mut Rng, out: &mut Vec<u8>) {
    let count = rng.below(5);
    put_i32(out, count as i32);
    for _ in 0..count {
        put_path(rng, out);
    }
}

fn put_create(rng: &mut Rng, op: OpCode, out: &mut Vec<u8>) {
    put_path(rng, out);
    put_data(rng, out);
    put_acl(rng, out);
    let usual: i32 = match op {
        OpCode::CreateTtl => pick(rng, &[5, 6]),
        OpCode::CreateContainer => 4,
        _ => rng.below(4) as i32,
    };
    put_i32(out, if rng.chance(1, 16) { int(rng) } else { usual });
    if op == OpCode::CreateTtl {
        put_i64(out, if rng.chance(1, 2) { 1000 } else { long(rng) });
    }
}

fn put_version(rng: &mut Rng, out: &mut Vec<u8>) {
    put_i32(out, if rng.chance(3, 4) { -1 } else { int(rng) });
}

const WRITES: &[OpCode] = &[
    OpCode::Create,
    OpCode::Create2,
    OpCode::CreateContainer,
    OpCode::CreateTtl,
    OpCode::Delete,
    OpCode::SetData,
    OpCode::Check,
];

fn put_multi(rng: &mut Rng, all: &[OpCode], out: &mut Vec<u8>) {
    for _ in 0..rng.below(6) {
        let op = if rng.chance(1, 32) { pick(rng, &OpCode::ALL) } else { pick(rng, all) };
        put_i32(out, op.code());
        put_bool(out, false);
        put_i32(out, -1);
        if !matches!(op, OpCode::Multi | OpCode::MultiRead) {
            put_body(rng, op, out);
        }
    }
    put_multi_end(out);
}

/// Appends a body of `op`.
pub fn put_body(rng: &mut Rng, op: OpCode, out: &mut Vec<u8>) {
    match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            put_create(rng, op, out);
        }
        OpCode::Delete | OpCode::Check => {
            put_path(rng, out);
            put_version(rng, out);
        }
        OpCode::SetData => {
            put_path(rng, out);
            if rng.chance(1, 6) {
                put_str(out, pick(rng, &["count=1,bytes=-1", "count=x", "bytes=9999999999999999"]));
            } else {
                put_data(rng, out);
            }
            put_version(rng, out);
        }
        OpCode::SetAcl => {
            put_path(rng, out);
            put_acl(rng, out);
            put_version(rng, out);
        }
        OpCode::Exists | OpCode::GetData | OpCode::GetChildren | OpCode::GetChildren2 => {
            put_path(rng, out);
            put_bool(out, rng.chance(1, 2));
        }
        OpCode::GetAcl
        | OpCode::Sync
        | OpCode::GetEphemerals
        | OpCode::GetAllChildrenNumber
        | OpCode::DeleteContainer => put_path(rng, out),
        OpCode::Multi => put_multi(rng, WRITES, out),
        OpCode::MultiRead => put_multi(rng, &[OpCode::GetData, OpCode::GetChildren], out),
        OpCode::Reconfig => {
            for _ in 0..3 {
                put_data(rng, out);
            }
            put_i64(out, long(rng));
        }
        OpCode::CheckWatches | OpCode::RemoveWatches | OpCode::AddWatch => {
            put_path(rng, out);
            put_i32(out, if rng.chance(1, 8) { int(rng) } else { rng.below(6) as i32 });
        }
        OpCode::Auth => {
            put_i32(out, 0);
            put_str(out, pick(rng, &["digest", "ip", "world", "sasl", "x509", "ensemble", ""]));
            put_data(rng, out);
        }
        OpCode::SetWatches | OpCode::SetWatches2 => {
            put_i64(out, long(rng));
            for _ in 0..if op == OpCode::SetWatches { 3 } else { 5 } {
                put_paths(rng, out);
            }
        }
        OpCode::Sasl => put_data(rng, out),
        OpCode::CreateSession => put_i32(out, int(rng)),
        OpCode::Ping | OpCode::CloseSession | OpCode::Error | OpCode::WhoAmI => {}
    }
}

/// Appends a request frame, without its length.
pub fn put_request(rng: &mut Rng, xid: i32, out: &mut Vec<u8>) {
    let op = pick(rng, &OpCode::ALL);
    let special = match op {
        OpCode::Ping => -2,
        OpCode::Auth => -4,
        OpCode::SetWatches | OpCode::SetWatches2 => -8,
        _ => xid,
    };
    put_i32(out, if rng.chance(1, 32) { int(rng) } else { special });
    put_i32(out, if rng.chance(1, 64) { int(rng) } else { op.code() });
    put_body(rng, op, out);
}

/// A connect request, without its length.
pub fn connect(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    let is_plain = rng.chance(3, 4);
    let password = if is_plain { vec![0; 16] } else { bytes(rng, 20) };
    ConnectRequest {
        protocol_version: int(rng),
        last_zxid_seen: Zxid(if is_plain { 0 } else { long(rng) }),
        timeout_ms: int(rng),
        session: SessionId(if is_plain { 0 } else { long(rng) }),
        password: &password,
        read_only: pick(rng, &[None, Some(false), Some(true)]),
    }
    .encode_into(&mut out);
    out
}

/// `body` with its length in front.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_frame(&mut out);
    out.extend_from_slice(body);
    end_frame(&mut out, start);
    out
}

/// A closeSession body, also for transactions.
pub fn put_path_list(rng: &mut Rng, out: &mut Vec<u8>) {
    let count = rng.below(4);
    put_i32(out, count as i32);
    for _ in 0..count {
        put_buffer(out, Some(path(rng).as_bytes()));
    }
}
