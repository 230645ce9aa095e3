//! What servers of Apache's said to each other, read and written again.

use std::collections::BTreeSet;

use crate::wire::{
    FOLLOWER, OBSERVER, REFILLED, Reader, TRUNCATED, Txn, TxnDigest, TxnHeader, put_buffer,
    put_close_session_txn, put_create_txn, put_i32, put_str, recorded,
};

use super::{
    AuthIds, EpochAnswer, Forwarded, LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind, PacketScan,
    Revalidate, Revalidated, Scan, SessionTouches, leader_info, leader_info_version,
};

#[test]
fn recorded_packets_are_written_as_they_were_read() {
    let mut kinds = BTreeSet::new();
    let all = [FOLLOWER, OBSERVER, TRUNCATED, REFILLED].into_iter().flat_map(recorded);
    for said in all.filter(|said| !said.is_database) {
        let bytes = &said.bytes;
        let scanned = PacketScan::new(1 << 20).advance(bytes);
        assert_eq!(scanned, Ok(Scan::Complete(bytes.len())));
        let packet = Packet::decode_from(&mut Reader::new(bytes)).unwrap();
        kinds.insert(packet.kind.code());
        let data = packet.data.map(|data| written_again(packet.kind, said.by_dialler, data));
        let mut ids = Vec::new();
        if let Some(auth) = packet.auth {
            let read: Vec<_> = auth.iter().collect();
            AuthIds::put(&mut ids, read.iter().map(|(scheme, id)| (&**scheme, &**id)));
        }
        let auth = packet.auth.map(|_| AuthIds::parse(&ids).unwrap());
        let mut again = Vec::new();
        Packet { data: data.as_deref(), auth, ..packet }.encode_into(&mut again);
        assert_eq!(again, *bytes, "{packet:?}");
    }
    // All but what reconfigures.
    let expected = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18];
    assert_eq!(kinds, BTreeSet::from(expected));
}

/// The data of a packet, read and written.
fn written_again(kind: PacketKind, by_learner: bool, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        PacketKind::FollowerInfo | PacketKind::ObserverInfo => {
            let info = LearnerInfo::decode(Some(data));
            assert_eq!(info.protocol_version, PROTOCOL_VERSION);
            out.extend(LearnerInfo::encode(info.sid.unwrap(), info.config_version.unwrap()));
        }
        PacketKind::LeaderInfo => {
            assert_eq!(leader_info_version(data), Ok(PROTOCOL_VERSION));
            out.extend(leader_info());
        }
        PacketKind::AckEpoch => out.extend(EpochAnswer::decode(data).unwrap().encode()),
        PacketKind::Request => Forwarded::decode(data).unwrap().encode_into(&mut out),
        PacketKind::Ping => {
            for (session, timeout_ms) in SessionTouches::decode(data).unwrap().iter() {
                SessionTouches::put(&mut out, session, timeout_ms);
            }
        }
        PacketKind::Revalidate if by_learner => {
            Revalidate::decode(data).unwrap().encode_into(&mut out);
        }
        PacketKind::Revalidate => Revalidated::decode(data).unwrap().encode_into(&mut out),
        PacketKind::Proposal | PacketKind::Inform => {
            let mut reader = Reader::new(data);
            let header = TxnHeader::decode_from(&mut reader).unwrap();
            header.encode_into(&mut out);
            put_txn(&mut out, &header, &Txn::decode_from(header.kind, &mut reader).unwrap());
            assert_eq!(TxnDigest::cut_off(data), out);
            if let Some(digest) = TxnDigest::decode_trailing(&mut reader).unwrap() {
                assert_eq!(digest.version, TxnDigest::VERSION);
                digest.encode_into(&mut out);
            }
        }
        // The text of the configuration.
        PacketKind::NewLeader => out.extend_from_slice(data),
        other => panic!("{other:?} with data"),
    }
    out
}

fn put_txn(out: &mut Vec<u8>, header: &TxnHeader, txn: &Txn<'_>) {
    match txn {
        Txn::Create(create) => put_create_txn(out, header.kind, create),
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
        Txn::CloseSession(Some(paths)) => {
            put_close_session_txn(out, &paths.iter().collect::<Vec<_>>());
        }
        Txn::CloseSession(None) => {}
        Txn::Error { err } => put_i32(out, *err),
        Txn::Multi(multi) => {
            put_i32(out, i32::try_from(multi.len()).unwrap());
            for sub in multi.iter() {
                let mut body = Vec::new();
                put_txn(&mut body, &TxnHeader { kind: sub.kind, ..*header }, &sub.txn().unwrap());
                put_i32(out, sub.kind as i32);
                put_buffer(out, Some(&body));
            }
        }
    }
}
