//! What servers of ours say to each other beside Apache's packets. A server of Apache's ignores the
//! bytes after its own records, so both sides know without a further round trip whether the other
//! one understands more.

use crate::base::{LifelineKey, Zxid};
use crate::wire::{DecodeError, Reader, TxnHeader, put_i32, put_i64};

use super::PacketKind;

/// Several proposals in one packet: each is a length and an entry of the log. Its zxid is the last
/// one's. [`OWN`] is set in the length of what a request of the receiver has become.
pub const PROPOSALS: PacketKind = PacketKind::Unknown(0x524b_0001);

/// The leader goes on in the epoch of this packet's zxid, with the same history, which is
/// committed and ends with the zxid that is its data (8 bytes, big endian). A learner answers with
/// an ACK of the packet's zxid when it has entered the epoch.
pub const NEXT_EPOCH: PacketKind = PacketKind::Unknown(0x524b_0002);

/// The digest of the leader's tree after the transaction of its zxid, as 8 bytes.
pub const DIGEST: PacketKind = PacketKind::Unknown(0x524b_0003);

/// See [`PROPOSALS`]. Requests come back in the order in which their server has forwarded them, so
/// nothing else is needed to know them again. Session and number are not enough: a client that went
/// to another server may number its requests anew there, while some that it sent before are still
/// with the leader.
const OWN: i32 = 1 << 30;

/// The leader is about to end. What comes after it does not come from this leader.
pub const FAREWELL: PacketKind = PacketKind::Unknown(0x524b_0004);

/// The leader is held up, and its process lives. It comes from beside the leader's loop, says
/// nothing else, and may stand between any two packets after UPTODATE.
pub const BEAT: PacketKind = PacketKind::Unknown(0x524b_0005);

/// Sessions that a learner's clients have used, as in an answer to PING, without a question: it
/// reads none while its disk takes the next epoch.
pub const TOUCHES: PacketKind = PacketKind::Unknown(0x524b_0006);

/// Marks our bytes after LearnerInfo and after the version in LEADERINFO.
const MAGIC: [u8; 4] = *b"RkPr";

/// What a member understands, or says of itself, beyond Apache's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(u32);

impl Features {
    /// Apache's protocol.
    pub const NONE: Features = Features(0);
    /// It reads [`PROPOSALS`], and takes an ACK or COMMIT for everything before its zxid, too.
    const GROUPS: u32 = 1;
    /// As leader: a quorum has confirmed its epoch, so that its COMMITs are final.
    const ESTABLISHED: u32 = 2;
    /// As leader: it is never silent for long. As learner: it counts on that.
    const BEATS: u32 = 4;
    /// It takes part in [`NEXT_EPOCH`].
    const RENEWALS: u32 = 8;
    /// As leader: it reads [`TOUCHES`].
    const TOUCHES: u32 = 16;
    /// As learner: it takes lifelines, with the key that follows its features.
    const LIFELINES: u32 = 32;

    /// The features of this server.
    pub fn ours(is_established: bool) -> Features {
        let established = if is_established { Features::ESTABLISHED } else { 0 };
        let links = Features::BEATS | Features::LIFELINES;
        let epochs = Features::RENEWALS | Features::TOUCHES;
        Features(Features::GROUPS | links | epochs | established)
    }

    /// Whether proposals come in groups, and one ACK or COMMIT stands for all before it.
    pub fn has_groups(self) -> bool {
        self.0 & Features::GROUPS != 0
    }

    /// Whether the leader sends something at short intervals, be it news or not.
    pub fn has_beats(self) -> bool {
        self.0 & Features::BEATS != 0
    }

    /// Whether a leader can go on in the next epoch without an election.
    pub fn has_renewals(self) -> bool {
        self.0 & Features::RENEWALS != 0
    }

    /// Whether a learner tells unasked which sessions were used.
    pub fn has_touches(self) -> bool {
        self.0 & Features::TOUCHES != 0
    }

    /// Whether what the leader calls committed is committed, before UPTODATE, too.
    pub fn is_established(self) -> bool {
        self.0 & Features::ESTABLISHED != 0
    }

    /// Our bytes after a LearnerInfo.
    pub fn of_learner(data: &[u8]) -> Features {
        Features::behind(data, 20)
    }

    /// The key of a learner's lifeline, from its LearnerInfo; `None` for one that takes none.
    pub fn lifeline_key(data: &[u8]) -> Option<LifelineKey> {
        let features = Features::of_learner(data);
        let key = data.get(20 + Features::SIZE..)?.first_chunk()?;
        (features.0 & Features::LIFELINES != 0).then_some(LifelineKey(u64::from_be_bytes(*key)))
    }

    /// Our bytes after the version in LEADERINFO.
    pub fn of_leader(data: &[u8]) -> Features {
        Features::behind(data, 4)
    }

    fn behind(data: &[u8], start: usize) -> Features {
        let ours = data.get(start..).and_then(|rest| rest.strip_prefix(&MAGIC));
        let bits = ours.and_then(|rest| rest.first_chunk());
        Features(bits.map_or(0, |bits| u32::from_be_bytes(*bits)))
    }

    /// Bytes that [`Features::encode_into`] appends.
    const SIZE: usize = 8;

    /// Appends them.
    pub fn encode_into(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    /// Appends a learner's, with the key of its lifeline.
    pub fn encode_learner(key: LifelineKey, out: &mut Vec<u8>) {
        Features::ours(false).encode_into(out);
        out.extend_from_slice(&key.0.to_be_bytes());
    }
}

/// A packet of proposals that is being written.
#[derive(Debug)]
pub struct ProposalGroup<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

/// Kind, zxid, and length of the data.
const HEAD: usize = 16;

impl<'a> ProposalGroup<'a> {
    /// Begins one at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>) -> ProposalGroup<'a> {
        let start = out.len();
        put_i32(out, PROPOSALS.code());
        put_i64(out, 0);
        put_i32(out, 0);
        ProposalGroup { out, start }
    }

    /// Adds an entry of the log; `is_own` says that a request of the receiver has become it.
    ///
    /// # Panics
    /// If it is 1 GiB long: such a transaction is never made.
    pub fn push(&mut self, entry: &[u8], is_own: bool) {
        let length = i32::try_from(entry.len()).ok().filter(|length| *length < OWN);
        let length = length.expect("a transaction is below 1 GiB");
        put_i32(self.out, if is_own { length | OWN } else { length });
        self.out.extend_from_slice(entry);
    }

    /// Bytes of the packet so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == HEAD
    }

    /// Ends it; `last` is the zxid of its last entry.
    ///
    /// # Panics
    /// If it is 2 GiB long: the caller bounds it.
    pub fn finish(self, last: Zxid) {
        let data = i32::try_from(self.len() - HEAD).expect("a group is below 2 GiB");
        self.out[self.start + 4..self.start + 12].copy_from_slice(&last.0.to_be_bytes());
        self.out[self.start + 12..self.start + HEAD].copy_from_slice(&data.to_be_bytes());
        put_i32(self.out, -1);
    }
}

/// One of a packet of proposals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposed<'a> {
    /// The number in its header.
    pub zxid: Zxid,
    /// As the log has it.
    pub entry: &'a [u8],
    /// A request of the receiver has become it.
    pub is_own: bool,
}

/// The entries of a packet of proposals.
pub fn proposals(data: &[u8]) -> impl Iterator<Item = Result<Proposed<'_>, DecodeError>> {
    let mut r = Reader::new(data);
    std::iter::from_fn(move || {
        if r.remaining() == 0 {
            return None;
        }
        let next = proposed(&mut r);
        if next.is_err() {
            // Nothing more is known of where entries begin.
            r = Reader::new(&[]);
        }
        Some(next)
    })
}

fn proposed<'a>(r: &mut Reader<'a>) -> Result<Proposed<'a>, DecodeError> {
    let length = r.i32("length of a proposal")?;
    let is_own = length > 0 && length & OWN != 0;
    let count = usize::try_from(if is_own { length & !OWN } else { length });
    let count = count.map_err(|_| DecodeError::BadLength("proposal", length))?;
    let entry = r.take(count, "proposal")?;
    let zxid = TxnHeader::decode_from(&mut Reader::new(entry))?.zxid;
    Ok(Proposed { zxid, entry, is_own })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LifelineKey, Rng, SessionId, Xid};
    use crate::wire::TxnType;
    use crate::wire::quorum::{LearnerInfo, Packet, PacketScan, Scan, leader_info};

    fn entry(zxid: i64) -> Vec<u8> {
        let (session, cxid, kind) = (SessionId(1), Xid(2), TxnType::Error);
        let mut out = Vec::new();
        TxnHeader { session, cxid, zxid: Zxid(zxid), time_ms: 3, kind }.encode_into(&mut out);
        put_i32(&mut out, -101);
        out
    }

    #[test]
    fn a_group_is_a_packet_with_its_entries() {
        let mut out = Vec::new();
        let mut group = ProposalGroup::begin(&mut out);
        assert!(group.is_empty());
        group.push(&entry(7), false);
        group.push(&entry(8), true);
        group.finish(Zxid(8));
        assert_eq!(PacketScan::new(1000).advance(&out), Ok(Scan::Complete(out.len())));
        let packet = Packet::decode_from(&mut Reader::new(&out)).unwrap();
        assert_eq!((packet.kind, packet.zxid, packet.auth), (PROPOSALS, Zxid(8), None));
        let read: Vec<_> = proposals(packet.data.unwrap()).map(Result::unwrap).collect();
        let (first, second) = (&entry(7)[..], &entry(8)[..]);
        let expected = [(Zxid(7), first, false), (Zxid(8), second, true)];
        assert_eq!(read, expected.map(|(zxid, entry, is_own)| Proposed { zxid, entry, is_own }));
    }

    #[test]
    fn groups_of_anything_are_read_or_refused() {
        let mut rng = Rng::new(9);
        let mut whole = Vec::new();
        for zxid in 1..4 {
            put_i32(&mut whole, entry(zxid).len() as i32);
            whole.extend_from_slice(&entry(zxid));
        }
        for _ in 0..5_000 {
            let mut bytes = whole[..rng.below(whole.len() as u64 + 1) as usize].to_vec();
            if let Some(byte) = (!bytes.is_empty()).then(|| rng.below(bytes.len() as u64)) {
                bytes[byte as usize] ^= rng.next_u64() as u8;
            }
            assert!(proposals(&bytes).count() <= 4);
        }
    }

    #[test]
    fn features_stand_where_apache_does_not_look() {
        let mut learner = LearnerInfo::encode(crate::base::ServerId(3), 0).to_vec();
        assert_eq!(Features::of_learner(&learner), Features::NONE);
        Features::ours(false).encode_into(&mut learner);
        assert_eq!(Features::of_learner(&learner), Features::ours(false));
        assert_eq!(LearnerInfo::decode(Some(&learner)).config_version, Some(0));
        assert_eq!(Features::lifeline_key(&learner), None, "the key is missing");
        learner.extend_from_slice(&7_u64.to_be_bytes());
        assert_eq!(Features::lifeline_key(&learner), Some(LifelineKey(7)));
        let mut other = LearnerInfo::encode(crate::base::ServerId(3), 0).to_vec();
        Features::encode_learner(LifelineKey(7), &mut other);
        assert_eq!(learner, other);
        // A build of ours that knows fewer features, and one that knows more.
        learner[24..28].copy_from_slice(&1_u32.to_be_bytes());
        assert_eq!(Features::lifeline_key(&learner), None);
        assert!(!Features::of_learner(&learner).has_touches());
        learner[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Features::of_learner(&learner).has_touches());
        assert_eq!(Features::lifeline_key(&learner), Some(LifelineKey(7)));
        let mut leader = leader_info().to_vec();
        assert_eq!(Features::of_leader(&leader), Features::NONE);
        Features::ours(true).encode_into(&mut leader);
        let features = Features::of_leader(&leader);
        assert!(features.has_groups() && features.is_established());
    }
}
