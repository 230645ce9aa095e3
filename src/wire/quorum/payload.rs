//! What stands in the `data` of a packet, kind by kind.

use crate::base::{Epoch, ServerId, SessionId, Xid};
use crate::wire::{DecodeError, Reader, put_bool, put_i32, put_i64};

/// The handshake with epochs, which every server since 3.4 speaks.
pub const PROTOCOL_VERSION: i32 = 0x10000;

/// Who a learner is: `LearnerInfo` in FOLLOWERINFO and OBSERVERINFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LearnerInfo {
    /// `None` where the packet is too short to say; the leader then invents a negative one.
    pub sid: Option<ServerId>,
    /// 1 where the packet does not say.
    pub protocol_version: i32,
    /// Of its committed membership; `None` where the packet does not say.
    pub config_version: Option<i64>,
}

impl LearnerInfo {
    /// Reads by position, as ZooKeeper does: the older the sender, the shorter its record.
    pub fn decode(data: Option<&[u8]>) -> LearnerInfo {
        let mut r = Reader::new(data.unwrap_or_default());
        let sid = r.i64("serverid").ok().map(ServerId);
        // A reader takes nothing where it fails, so what follows must not be read on its own.
        let version = sid.and_then(|_| r.i32("protocolVersion").ok());
        let config_version = version.and_then(|_| r.i64("configVersion").ok());
        LearnerInfo { sid, protocol_version: version.unwrap_or(1), config_version }
    }

    /// The 20 bytes of the current record.
    pub fn encode(sid: ServerId, config_version: i64) -> [u8; 20] {
        let mut out = [0; 20];
        out[..8].copy_from_slice(&sid.0.to_be_bytes());
        out[8..12].copy_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        out[12..].copy_from_slice(&config_version.to_be_bytes());
        out
    }
}

/// The data of LEADERINFO, whose zxid has the new epoch.
pub fn leader_info() -> [u8; 4] {
    PROTOCOL_VERSION.to_be_bytes()
}

/// The protocol version in LEADERINFO.
///
/// # Errors
/// If the data has less than four bytes.
pub fn leader_info_version(data: &[u8]) -> Result<i32, DecodeError> {
    Reader::new(data).i32("leader's protocol version")
}

/// A learner's answer to the leader's epoch: the data of ACKEPOCH, whose zxid is its last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochAnswer {
    /// It had not accepted this epoch before: its current epoch, by which histories are compared.
    Accepted(Epoch),
    /// It had promised this epoch before, and must not be counted again (-1 on the wire).
    AlreadyPromised,
}

impl EpochAnswer {
    /// Reads the data.
    ///
    /// # Errors
    /// If it has less than four bytes.
    pub fn decode(data: &[u8]) -> Result<EpochAnswer, DecodeError> {
        Ok(match Reader::new(data).i32("current epoch")? {
            -1 => EpochAnswer::AlreadyPromised,
            epoch => EpochAnswer::Accepted(Epoch(epoch)),
        })
    }

    /// The four bytes of the data.
    pub fn encode(self) -> [u8; 4] {
        let EpochAnswer::Accepted(epoch) = self else { return (-1_i32).to_be_bytes() };
        epoch.0.to_be_bytes()
    }
}

/// The configuration text of NEWLEADER; `None` if there is none to take over.
pub fn new_leader_config(data: Option<&[u8]>) -> Option<&[u8]> {
    // ZooKeeper looks at texts of more than one byte only.
    data.filter(|text| text.len() > 1)
}

/// A client's request on its way to the leader: the data of REQUEST. The client's identities are
/// the packet's `auth`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forwarded<'a> {
    /// The client's session.
    pub session: SessionId,
    /// By which the learner knows its request again when it comes back as a transaction.
    pub cxid: Xid,
    /// The opcode's number; which ones may be forwarded is not decided here.
    pub op: i32,
    /// The client's record, unchanged.
    pub body: &'a [u8],
}

impl<'a> Forwarded<'a> {
    /// Reads the data.
    ///
    /// # Errors
    /// If it has less than 16 bytes.
    pub fn decode(data: &'a [u8]) -> Result<Forwarded<'a>, DecodeError> {
        let mut r = Reader::new(data);
        let session = SessionId(r.i64("sessionId")?);
        let (cxid, op) = (Xid(r.i32("cxid")?), r.i32("request type")?);
        Ok(Forwarded { session, cxid, op, body: r.rest() })
    }

    /// Appends the data.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i64(out, self.session.0);
        put_i32(out, self.cxid.0);
        put_i32(out, self.op);
        out.extend_from_slice(self.body);
    }
}

/// The sessions that a learner's clients have touched since the last PING: the data of its answer,
/// which may be empty and must not be null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionTouches<'a> {
    entries: &'a [[u8; 12]],
}

impl<'a> SessionTouches<'a> {
    /// Takes the data.
    ///
    /// # Errors
    /// If it ends inside an entry.
    pub fn decode(data: &'a [u8]) -> Result<SessionTouches<'a>, DecodeError> {
        let (entries, rest) = data.as_chunks();
        if !rest.is_empty() {
            return Err(DecodeError::Truncated("touched sessions"));
        }
        Ok(SessionTouches { entries })
    }

    /// Session and its timeout in milliseconds, in the order of the packet.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (SessionId, i32)> {
        self.entries.iter().map(|entry| {
            let mut r = Reader::new(entry);
            // Twelve bytes are there.
            let session = r.i64("sessionId").unwrap_or_default();
            (SessionId(session), r.i32("timeout").unwrap_or_default())
        })
    }

    /// Appends one entry to the data of an answer.
    pub fn put(out: &mut Vec<u8>, session: SessionId, timeout_ms: i32) {
        put_i64(out, session.0);
        put_i32(out, timeout_ms);
    }
}

/// A learner asks whether a client may go on with its session: the data of REVALIDATE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revalidate {
    /// The client's session.
    pub session: SessionId,
    /// The session's timeout.
    pub timeout_ms: i32,
    /// The client has not come now: it stayed while this learner had no leader, and may be
    /// elsewhere by now. Between servers of ours, by one byte more.
    pub is_kept: bool,
}

impl Revalidate {
    /// Reads the data.
    ///
    /// # Errors
    /// If it has less than 12 bytes.
    pub fn decode(data: &[u8]) -> Result<Revalidate, DecodeError> {
        let mut r = Reader::new(data);
        let (session, timeout_ms) = (SessionId(r.i64("sessionId")?), r.i32("timeout")?);
        let is_kept = r.remaining() > 0 && r.bool("kept")?;
        Ok(Revalidate { session, timeout_ms, is_kept })
    }

    /// Appends the data.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i64(out, self.session.0);
        put_i32(out, self.timeout_ms);
        if self.is_kept {
            put_bool(out, true);
        }
    }
}

/// The leader's answer to [`Revalidate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revalidated {
    /// As in the question.
    pub session: SessionId,
    /// Whether the session lives, and belongs to the asking learner from now on.
    pub is_valid: bool,
}

impl Revalidated {
    /// Reads the data.
    ///
    /// # Errors
    /// If it has less than nine bytes.
    pub fn decode(data: &[u8]) -> Result<Revalidated, DecodeError> {
        let mut r = Reader::new(data);
        Ok(Revalidated { session: SessionId(r.i64("sessionId")?), is_valid: r.bool("valid")? })
    }

    /// Appends the data.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i64(out, self.session.0);
        put_bool(out, self.is_valid);
    }
}

/// The data of COMMITANDACTIVATE (without a transaction) and INFORMANDACTIVATE (with one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activate<'a> {
    /// Who leads with the new membership.
    pub leader: ServerId,
    /// The transaction's bytes, as in a proposal.
    pub txn: &'a [u8],
}

impl<'a> Activate<'a> {
    /// Reads the data.
    ///
    /// # Errors
    /// If it has less than eight bytes.
    pub fn decode(data: &'a [u8]) -> Result<Activate<'a>, DecodeError> {
        let mut r = Reader::new(data);
        Ok(Activate { leader: ServerId(r.i64("designated leader")?), txn: r.rest() })
    }

    /// Appends the data.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i64(out, self.leader.0);
        out.extend_from_slice(self.txn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Zxid};
    use crate::wire::hex;
    use crate::wire::quorum::{AuthIds, Packet, PacketKind, PacketScan, Scan};

    fn encoded(packet: &Packet<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        packet.encode_into(&mut out);
        out
    }

    fn decoded(bytes: &[u8]) -> Packet<'_> {
        assert_eq!(PacketScan::new(100).advance(bytes), Ok(Scan::Complete(bytes.len())));
        Packet::decode_from(&mut Reader::new(bytes)).unwrap()
    }

    #[test]
    fn the_handshake_has_the_bytes_of_apache() {
        let epoch = |epoch| Zxid::new(Epoch(epoch), 0);
        let bytes = hex("0000000b 0000000100000000 00000014 \
             0000000000000003 00010000 0000000000000000 ffffffff");
        let info = LearnerInfo::encode(ServerId(3), 0);
        assert_eq!(encoded(&Packet::with(PacketKind::FollowerInfo, epoch(1), &info)), bytes);
        let whole = LearnerInfo {
            sid: Some(ServerId(3)),
            protocol_version: PROTOCOL_VERSION,
            config_version: Some(0),
        };
        assert_eq!(LearnerInfo::decode(decoded(&bytes).data), whole);

        let bytes = hex("00000011 0000000200000000 00000004 00010000 ffffffff");
        assert_eq!(encoded(&Packet::with(PacketKind::LeaderInfo, epoch(2), &leader_info())), bytes);
        let data = decoded(&bytes).required_data().unwrap();
        assert_eq!(leader_info_version(data), Ok(PROTOCOL_VERSION));

        let bytes = hex("00000012 0000000100000005 00000004 00000001 ffffffff");
        let answer = EpochAnswer::Accepted(Epoch(1));
        let data = answer.encode();
        let packet = Packet::with(PacketKind::AckEpoch, Zxid::new(Epoch(1), 5), &data);
        assert_eq!(encoded(&packet), bytes);
        assert_eq!(EpochAnswer::decode(decoded(&bytes).required_data().unwrap()), Ok(answer));
        let promised = EpochAnswer::AlreadyPromised;
        assert_eq!(promised.encode(), [0xff; 4]);
        assert_eq!(EpochAnswer::decode(&promised.encode()), Ok(promised));
    }

    #[test]
    fn learner_info_is_read_by_position() {
        let whole = LearnerInfo::encode(ServerId(3), 9);
        let read = |length: usize| {
            let info = LearnerInfo::decode(Some(&whole[..length]));
            (info.sid.map(|sid| sid.0), info.protocol_version, info.config_version)
        };
        assert_eq!(read(7), (None, 1, None));
        assert_eq!(read(8), (Some(3), 1, None));
        assert_eq!(read(11), (Some(3), 1, None));
        assert_eq!(read(12), (Some(3), PROTOCOL_VERSION, None));
        assert_eq!(read(19), (Some(3), PROTOCOL_VERSION, None));
        assert_eq!(read(20), (Some(3), PROTOCOL_VERSION, Some(9)));
        assert_eq!(LearnerInfo::decode(None).sid, None);
    }

    #[test]
    fn requests_and_pings_have_the_bytes_of_apache() {
        let session = SessionId(0x0300_003a_0e8b_0000);
        let bytes = hex(
            "00000001 ffffffffffffffff 0000001a 0300003a0e8b0000 00000007 00000002 00000002 2f61 \
             ffffffff 00000001 00000002 6970 00000008 31302e302e302e37",
        );
        let body = hex("00000002 2f61 ffffffff");
        let request = Forwarded { session, cxid: Xid(7), op: 2, body: &body };
        let (mut data, mut ids) = (Vec::new(), Vec::new());
        request.encode_into(&mut data);
        AuthIds::put(&mut ids, [("ip", "10.0.0.7")].into_iter());
        let auth = Some(AuthIds::parse(&ids).unwrap());
        let packet = Packet { auth, ..Packet::with(PacketKind::Request, Packet::NO_ZXID, &data) };
        assert_eq!(encoded(&packet), bytes);
        let packet = decoded(&bytes);
        assert_eq!(Forwarded::decode(packet.required_data().unwrap()), Ok(request));
        let ids: Vec<_> = packet.auth.unwrap().iter().collect();
        assert_eq!(ids, [("ip".into(), "10.0.0.7".into())]);

        let bytes = hex("00000005 0000000200000001 0000000c 0300003a0e8b0000 00007530 ffffffff");
        let mut data = Vec::new();
        SessionTouches::put(&mut data, session, 30_000);
        let packet = Packet::with(PacketKind::Ping, Zxid::new(Epoch(2), 1), &data);
        assert_eq!(encoded(&packet), bytes);
        let touches = SessionTouches::decode(decoded(&bytes).required_data().unwrap()).unwrap();
        assert_eq!(touches.iter().collect::<Vec<_>>(), [(session, 30_000)]);
        assert_eq!(SessionTouches::decode(b"").unwrap().iter().len(), 0);
        assert!(SessionTouches::decode(&data[..11]).is_err());
    }

    #[test]
    fn revalidation_goes_both_ways() {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        let session = SessionId(0x0300_003a_0e8b_0000);
        let question = Revalidate { session, timeout_ms: 30_000, is_kept: false };
        let answer = Revalidated { session, is_valid: true };
        question.encode_into(&mut asked);
        answer.encode_into(&mut answered);
        assert_eq!(asked, hex("0300003a0e8b0000 00007530"));
        assert_eq!(answered, hex("0300003a0e8b0000 01"));
        assert_eq!(Revalidate::decode(&asked), Ok(question));
        assert_eq!(Revalidated::decode(&answered), Ok(answer));
        assert!(Revalidate::decode(&answered).is_err());
        let kept = Revalidate { is_kept: true, ..question };
        asked.clear();
        kept.encode_into(&mut asked);
        assert_eq!(asked, hex("0300003a0e8b0000 00007530 01"));
        assert_eq!(Revalidate::decode(&asked), Ok(kept));
    }

    #[test]
    fn activation_carries_the_leader_before_the_transaction() {
        let (mut data, activate) = (Vec::new(), Activate { leader: ServerId(2), txn: b"txn" });
        activate.encode_into(&mut data);
        assert_eq!(data, hex("0000000000000002 74786e"));
        assert_eq!(Activate::decode(&data), Ok(activate));
    }

    #[test]
    fn a_configuration_of_one_byte_is_none() {
        assert_eq!(new_leader_config(None), None);
        assert_eq!(new_leader_config(Some(b"x")), None);
        assert_eq!(new_leader_config(Some(b"xy")), Some(&b"xy"[..]));
    }

    /// Whatever is read from random bytes has the same bytes again when it is written.
    #[test]
    fn random_data_is_refused_or_read_as_it_is() {
        let mut rng = Rng::new(11);
        for _ in 0..20_000 {
            let mut data = vec![0; rng.below(40) as usize];
            rng.fill(&mut data);
            let mut out = Vec::new();
            let _ = LearnerInfo::decode(Some(&data));
            if let Ok(request) = Forwarded::decode(&data) {
                request.encode_into(&mut out);
                assert_eq!(out, data);
            }
            out.clear();
            if let Ok(touches) = SessionTouches::decode(&data) {
                touches.iter().for_each(|(id, ms)| SessionTouches::put(&mut out, id, ms));
                assert_eq!(out, data);
            }
            out.clear();
            if let Ok(activate) = Activate::decode(&data) {
                activate.encode_into(&mut out);
                assert_eq!(out, data);
            }
            assert_eq!(EpochAnswer::decode(&data).is_ok(), data.len() >= 4);
            assert_eq!(Revalidate::decode(&data).is_ok(), data.len() >= 12);
            assert_eq!(Revalidated::decode(&data).is_ok(), data.len() >= 9);
        }
    }
}
