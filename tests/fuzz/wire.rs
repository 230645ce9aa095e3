//! Drivers for the records of `wire`, and for paths.

use ringkeeper::base::{PathHasher, Rng, SessionId, Xid, Zxid, validate_path};
use ringkeeper::wire::{
    AclBytes, AddWatch, Auth, ConnectRequest, ConnectResponse, Create, CreateTxn, MultiOp,
    MultiOps, OpCode, PathVersion, PathWatch, PersistedStat, Reader, Reconfig, RequestHeader,
    SetAcl, SetData, Stat, StrVector, Txn, TxnDigest, TxnHeader, TxnType, WatchPath, put_buffer,
    put_close_session_txn, put_create_txn, put_error_txn, put_i32, put_i64, put_str,
};

use super::harness::{Driver, run};
use super::input::{bytes, input, int, long, path, pick, put_data, put_path};
use super::requests::{connect, put_acl, put_body, put_path_list, put_request};

/// Decodes the body of `op` as the server does; the number of bytes left if it is one.
fn decode_body(op: OpCode, bytes: &[u8]) -> Option<usize> {
    let mut r = Reader::new(bytes);
    let done = match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            Create::decode_from(&mut r, op).map(|_| ())
        }
        OpCode::Delete | OpCode::Check => PathVersion::decode_from(&mut r).map(|_| ()),
        OpCode::SetData => SetData::decode_from(&mut r).map(|_| ()),
        OpCode::SetAcl => SetAcl::decode_from(&mut r).map(|_| ()),
        OpCode::Exists | OpCode::GetData | OpCode::GetChildren | OpCode::GetChildren2 => {
            PathWatch::decode_from(&mut r).map(|_| ())
        }
        OpCode::Reconfig => Reconfig::decode_from(&mut r).map(|_| ()),
        OpCode::CheckWatches | OpCode::RemoveWatches => WatchPath::decode_from(&mut r).map(|_| ()),
        OpCode::AddWatch => AddWatch::decode_from(&mut r).map(|_| ()),
        OpCode::Auth => Auth::decode_from(&mut r).map(|_| ()),
        OpCode::SetWatches | OpCode::SetWatches2 => {
            let lists = if op == OpCode::SetWatches { 3 } else { 5 };
            r.i64("relativeZxid").and_then(|_| (0..lists).try_for_each(|_| list(&mut r)))
        }
        OpCode::Multi | OpCode::MultiRead => {
            let ops = MultiOps::new(r);
            let count = ops.take_while(Result::is_ok).count();
            assert!(count <= bytes.len() / 9, "{count} operations in {} bytes", bytes.len());
            // How many bytes they take, the iterator does not say.
            return ops.collect::<Result<Vec<MultiOp<'_>>, _>>().ok().map(|_| 0);
        }
        OpCode::GetAcl
        | OpCode::Sync
        | OpCode::GetEphemerals
        | OpCode::GetAllChildrenNumber
        | OpCode::DeleteContainer => r.text("path").map(|_| ()),
        OpCode::Sasl => r.buffer("token").map(|_| ()),
        OpCode::CreateSession => r.i32("timeOut").map(|_| ()),
        OpCode::Ping | OpCode::CloseSession | OpCode::Error | OpCode::WhoAmI => Ok(()),
    };
    done.ok().map(|()| r.remaining())
}

fn list(r: &mut Reader<'_>) -> Result<(), ringkeeper::wire::DecodeError> {
    let before = r.remaining();
    if let Some(list) = StrVector::read(r, "paths")? {
        let count = list.iter().count();
        assert!(count <= before / 4, "{count} elements in {before} bytes");
    }
    Ok(())
}

fn body(rng: &mut Rng) {
    let op = pick(rng, &OpCode::ALL);
    let (bytes, is_valid) = input(rng, |rng| {
        let mut out = Vec::new();
        put_body(rng, op, &mut out);
        out
    });
    let left = decode_body(op, &bytes);
    // A null path or a strange multi may be refused; all else is read to its end.
    assert!(!is_valid || left.is_none_or(|left| left == 0), "{op:?} leaves {left:?}: {bytes:x?}");
    // Nothing is ever read with another opcode in mind, but nobody checks either.
    decode_body(pick(rng, &OpCode::ALL), &bytes);
}

fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    put_buffer(out, text.map(str::as_bytes));
}

/// What is decoded, encoded and decoded again is the same.
fn writes_again(rng: &mut Rng) {
    let op = pick(rng, &[OpCode::Create, OpCode::CreateTtl, OpCode::SetData, OpCode::SetAcl]);
    let (bytes, _) = input(rng, |rng| {
        let mut out = Vec::new();
        put_body(rng, op, &mut out);
        out
    });
    let (mut r, mut out) = (Reader::new(&bytes), Vec::new());
    match op {
        OpCode::SetData => {
            let Ok(set) = SetData::decode_from(&mut r) else { return };
            put_buffer(&mut out, set.path);
            put_buffer(&mut out, set.data);
            put_i32(&mut out, set.version);
            assert_eq!(SetData::decode_from(&mut Reader::new(&out)), Ok(set));
        }
        OpCode::SetAcl => {
            let Ok(set) = SetAcl::decode_from(&mut r) else { return };
            put_text(&mut out, set.path.as_deref());
            out.extend_from_slice(set.acl.bytes());
            put_i32(&mut out, set.version);
            assert_eq!(SetAcl::decode_from(&mut Reader::new(&out)), Ok(set));
        }
        _ => {
            let Ok(create) = Create::decode_from(&mut r, op) else { return };
            put_text(&mut out, create.path.as_deref());
            put_buffer(&mut out, create.data);
            out.extend_from_slice(create.acl.bytes());
            put_i32(&mut out, create.flags);
            if op == OpCode::CreateTtl {
                put_i64(&mut out, create.ttl);
            }
            assert_eq!(Create::decode_from(&mut Reader::new(&out), op), Ok(create));
        }
    }
}

fn handshake(rng: &mut Rng) {
    let (bytes, is_valid) = input(rng, connect);
    match ConnectRequest::decode(&bytes) {
        Ok(request) => {
            let mut out = Vec::new();
            request.encode_into(&mut out);
            assert_eq!(ConnectRequest::decode(&out), Ok(request));
        }
        Err(e) => assert!(!is_valid, "{e}: {bytes:x?}"),
    }
    let (bytes, is_valid) = input(rng, |rng| {
        let mut password = [0; 16];
        rng.fill(&mut password);
        let (timeout_ms, session) = (int(rng), SessionId(long(rng)));
        let read_only = pick(rng, &[None, Some(false), Some(true)]);
        let mut out = Vec::new();
        ConnectResponse { timeout_ms, session, password, read_only }.encode_frame_into(&mut out);
        out.split_off(4)
    });
    match ConnectResponse::decode(&bytes) {
        Ok(response) => {
            let mut out = Vec::new();
            response.encode_frame_into(&mut out);
            assert_eq!(ConnectResponse::decode(&out[4..]), Ok(response));
        }
        Err(e) => assert!(!is_valid, "{e}: {bytes:x?}"),
    }
    let (bytes, _) = input(rng, |rng| {
        let mut out = Vec::new();
        put_request(rng, 1, &mut out);
        out
    });
    let header = RequestHeader::decode_from(&mut Reader::new(&bytes));
    assert_eq!(header.is_ok(), bytes.len() >= 8);
    if let Some(op) = header.ok().and_then(|header| OpCode::from_code(header.op)) {
        decode_body(op, &bytes[8..]);
    }
}

fn records(rng: &mut Rng) {
    let bytes = bytes(rng, 140);
    let mut out = Vec::new();
    if let Ok(stat) = Stat::decode_from(&mut Reader::new(&bytes)) {
        stat.encode_into(&mut out);
        assert_eq!(out, bytes[..Stat::SIZE]);
    }
    out.clear();
    if let Ok(stat) = PersistedStat::decode_from(&mut Reader::new(&bytes)) {
        stat.encode_into(&mut out);
        assert_eq!(out, bytes[..PersistedStat::SIZE]);
    }
    let (bytes, is_valid) = input(rng, |rng| {
        let mut out = Vec::new();
        put_acl(rng, &mut out);
        out
    });
    match AclBytes::parse(&bytes) {
        Ok(list) if !list.is_null() => {
            let mut out = Vec::new();
            put_i32(&mut out, list.iter().count() as i32);
            list.iter().for_each(|entry| entry.encode_into(&mut out));
            let again = AclBytes::parse(&out).unwrap();
            assert!(list.iter().eq(again.iter()), "{bytes:x?}");
        }
        Ok(list) => assert!(list.is_empty()),
        Err(e) => assert!(!is_valid, "{e}: {bytes:x?}"),
    }
}

const TXNS: &[TxnType] = &[
    TxnType::CloseSession,
    TxnType::CreateSession,
    TxnType::Error,
    TxnType::Create,
    TxnType::Delete,
    TxnType::SetData,
    TxnType::SetAcl,
    TxnType::Check,
    TxnType::Multi,
    TxnType::Create2,
    TxnType::Reconfig,
    TxnType::CreateContainer,
    TxnType::DeleteContainer,
    TxnType::CreateTtl,
];

fn put_txn_body(rng: &mut Rng, kind: TxnType, out: &mut Vec<u8>) {
    match kind {
        TxnType::Create | TxnType::Create2 | TxnType::CreateContainer | TxnType::CreateTtl => {
            let (mut data, mut acl) = (Vec::new(), Vec::new());
            put_data(rng, &mut data);
            put_acl(rng, &mut acl);
            let txn = CreateTxn {
                path: path(rng),
                data: Reader::new(&data).buffer("data").unwrap(),
                acl: AclBytes::parse(&acl).unwrap(),
                ephemeral: rng.chance(1, 2),
                parent_cversion: int(rng),
                ttl: long(rng),
            };
            put_create_txn(out, kind, &txn);
        }
        TxnType::Delete | TxnType::DeleteContainer => put_str(out, path(rng)),
        TxnType::SetData | TxnType::Reconfig => {
            put_str(out, path(rng));
            put_data(rng, out);
            put_i32(out, int(rng));
        }
        TxnType::SetAcl => {
            put_str(out, path(rng));
            put_acl(rng, out);
            put_i32(out, int(rng));
        }
        TxnType::Check => {
            put_path(rng, out);
            put_i32(out, int(rng));
        }
        TxnType::CreateSession => put_i32(out, int(rng)),
        TxnType::CloseSession => put_path_list(rng, out),
        TxnType::Error => put_error_txn(out, int(rng)),
        TxnType::Multi => {
            let count = rng.below(5);
            put_i32(out, count as i32);
            for _ in 0..count {
                let kind = pick(rng, TXNS);
                let mut body = Vec::new();
                if kind != TxnType::Multi {
                    put_txn_body(rng, kind, &mut body);
                }
                put_i32(out, kind as i32);
                put_buffer(out, Some(&body));
            }
        }
    }
}

/// An entry as the log holds it.
pub fn put_entry(rng: &mut Rng, zxid: Zxid, out: &mut Vec<u8>) {
    let kind = pick(rng, TXNS);
    let (session, cxid, time_ms) = (SessionId(long(rng)), Xid(int(rng)), long(rng));
    TxnHeader { session, cxid, zxid, time_ms, kind }.encode_into(out);
    put_txn_body(rng, kind, out);
    if rng.chance(1, 2) {
        TxnDigest { version: TxnDigest::VERSION, tree_digest: rng.next_u64() }.encode_into(out);
    }
}

fn encode_txn(kind: TxnType, txn: &Txn<'_>, out: &mut Vec<u8>) {
    match txn {
        Txn::Create(create) => put_create_txn(out, kind, create),
        Txn::Delete { path } => put_str(out, path),
        Txn::SetData(set) => {
            put_buffer(out, Some(set.path));
            put_buffer(out, set.data);
            put_i32(out, set.version);
        }
        Txn::SetAcl(set) => {
            put_str(out, set.path);
            out.extend_from_slice(set.acl.bytes());
            put_i32(out, set.version);
        }
        Txn::Check { path, version } => {
            put_str(out, path);
            put_i32(out, *version);
        }
        Txn::CreateSession { timeout_ms } => put_i32(out, *timeout_ms),
        Txn::CloseSession(None) => {}
        Txn::CloseSession(Some(list)) => {
            put_close_session_txn(out, &list.iter().collect::<Vec<_>>());
        }
        Txn::Error { err } => put_error_txn(out, *err),
        Txn::Multi(multi) => {
            put_i32(out, multi.len() as i32);
            for part in multi.iter() {
                let (txn, mut body) = (part.txn().unwrap(), Vec::new());
                encode_txn(part.kind, &txn, &mut body);
                put_i32(out, part.kind as i32);
                put_buffer(out, Some(part.body));
                let again = Txn::decode_from(part.kind, &mut Reader::new(&body));
                assert_eq!(again, Ok(txn), "{:?}", part.kind);
            }
        }
    }
}

fn txn(rng: &mut Rng) {
    let (bytes, _) = input(rng, |rng| {
        let mut out = Vec::new();
        put_entry(rng, Zxid(1), &mut out);
        out
    });
    let mut r = Reader::new(&bytes);
    let Ok(header) = TxnHeader::decode_from(&mut r) else { return };
    let mut out = Vec::new();
    header.encode_into(&mut out);
    assert_eq!(out, bytes[..TxnHeader::SIZE]);
    out.clear();
    let Ok(txn) = Txn::decode_from(header.kind, &mut r) else { return };
    encode_txn(header.kind, &txn, &mut out);
    // A list of this length alone is taken for a digest: `read_close_session` says why.
    if header.kind != TxnType::CloseSession || out.len() != TxnDigest::SIZE {
        assert_eq!(Txn::decode_from(header.kind, &mut Reader::new(&out)), Ok(txn));
    }
    if let Ok(Some(digest)) = TxnDigest::decode_trailing(&mut r) {
        out.clear();
        digest.encode_into(&mut out);
        assert_eq!(TxnDigest::decode_trailing(&mut Reader::new(&out)), Ok(Some(digest)));
    }
}

fn paths(rng: &mut Rng) {
    let (bytes, _) = input(rng, |rng| {
        let mut out = Vec::new();
        for _ in 0..rng.below(4) {
            out.extend_from_slice(path(rng).as_bytes());
        }
        out
    });
    let text = String::from_utf8_lossy(&bytes);
    if validate_path(&text).is_ok() {
        let key = PathHasher::new(rng.next_u64()).key(&text);
        let (parent, name) = (key.parent_path(), key.name());
        let slash = if parent.len() > 1 { "/" } else { "" };
        assert!(key.is_root() || format!("{parent}{slash}{name}") == text, "{text:?}");
    }
}

#[test]
fn bodies() {
    run(Driver { name: "wire::bodies", budget: 60_000, case: body });
}

#[test]
fn requests_written_again() {
    let name = "wire::requests_written_again";
    run(Driver { name, budget: 30_000, case: writes_again });
}

#[test]
fn handshakes_and_headers() {
    run(Driver { name: "wire::handshakes_and_headers", budget: 30_000, case: handshake });
}

#[test]
fn stats_and_acls() {
    run(Driver { name: "wire::stats_and_acls", budget: 30_000, case: records });
}

#[test]
fn txns() {
    run(Driver { name: "wire::txns", budget: 60_000, case: txn });
}

#[test]
fn paths_and_keys() {
    run(Driver { name: "wire::paths_and_keys", budget: 30_000, case: paths });
}
