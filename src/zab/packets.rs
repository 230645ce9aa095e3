//! What a learner makes of packets of its leader, and finds wrong with them.

use crate::base::Zxid;
use crate::wire::quorum::Packet;
use crate::wire::{Reader, Txn, TxnDigest, TxnHeader};

use super::effects::{Effect, Effects, LearnerEnd};

/// What was proposed must be a transaction of that number: it goes to the log, and the
/// code that applies it relies on it. Returns when it was made, by the leader's clock.
pub(super) fn check_entry(zxid: Zxid, entry: &[u8]) -> Result<i64, LearnerEnd> {
    let mut reader = Reader::new(entry);
    let header = TxnHeader::decode_from(&mut reader).map_err(malformed)?;
    if header.zxid != zxid {
        return Err(LearnerEnd::Protocol(format!("{zxid:?} holds transaction {:?}", header.zxid)));
    }
    Txn::decode_from(header.kind, &mut reader).map_err(malformed)?;
    TxnDigest::decode_trailing(&mut reader).map_err(malformed)?;
    Ok(header.time_ms)
}

/// What came cannot be decoded.
pub(super) fn malformed(error: impl std::fmt::Display) -> LearnerEnd {
    LearnerEnd::Protocol(error.to_string())
}

/// The packet does not belong there.
pub(super) fn unexpected(packet: &Packet<'_>, when: &str) -> LearnerEnd {
    LearnerEnd::Protocol(format!("{:?} {when}", packet.kind))
}

/// The digest of the leader after a transaction.
pub(super) fn digest_told(packet: &Packet<'_>, effects: &mut Effects) -> Result<(), LearnerEnd> {
    let data = packet.required_data().map_err(malformed)?;
    let digest = Reader::new(data).i64("digest").map_err(malformed)?;
    effects.push(Effect::DigestTold(packet.zxid, digest.cast_unsigned()));
    Ok(())
}
