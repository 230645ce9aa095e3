//! The packet itself, and where it ends in a stream that has no outer lengths.

use std::borrow::Cow;

use crate::base::Zxid;
use crate::wire::{DecodeError, Reader, leading_path, put_buffer, put_i32, put_i64, put_str};

use super::payload::Forwarded;

/// What a packet is about, numbered as in ZooKeeper's `Leader`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketKind {
    /// A learner forwards a client's request.
    Request,
    /// The leader proposes a transaction.
    Proposal,
    /// A follower has logged a transaction, or has taken a new leader.
    Ack,
    /// A proposal is committed.
    Commit,
    /// Heartbeat; the answer lists touched sessions.
    Ping,
    /// May this session go on at another server?
    Revalidate,
    /// The oldest `sync` of this learner may be answered.
    Sync,
    /// A committed transaction, for an observer.
    Inform,
    /// A reconfiguration is committed.
    CommitAndActivate,
    /// End of the history that a learner was lacking; takes the new leader's epoch.
    NewLeader,
    /// A follower introduces itself.
    FollowerInfo,
    /// The learner may serve.
    UpToDate,
    /// The missing transactions follow.
    Diff,
    /// Cut the log first.
    Trunc,
    /// A whole tree follows, outside of packets.
    Snap,
    /// An observer introduces itself.
    ObserverInfo,
    /// The leader's new epoch.
    LeaderInfo,
    /// The learner's answer to the new epoch.
    AckEpoch,
    /// A committed reconfiguration, for an observer.
    InformAndActivate,
    /// A number that is none of these. Both sides of ZooKeeper log and ignore it.
    Unknown(i32),
}

impl PacketKind {
    /// The kind with this number.
    pub fn from_code(code: i32) -> PacketKind {
        match code {
            1 => PacketKind::Request,
            2 => PacketKind::Proposal,
            3 => PacketKind::Ack,
            4 => PacketKind::Commit,
            5 => PacketKind::Ping,
            6 => PacketKind::Revalidate,
            7 => PacketKind::Sync,
            8 => PacketKind::Inform,
            9 => PacketKind::CommitAndActivate,
            10 => PacketKind::NewLeader,
            11 => PacketKind::FollowerInfo,
            12 => PacketKind::UpToDate,
            13 => PacketKind::Diff,
            14 => PacketKind::Trunc,
            15 => PacketKind::Snap,
            16 => PacketKind::ObserverInfo,
            17 => PacketKind::LeaderInfo,
            18 => PacketKind::AckEpoch,
            19 => PacketKind::InformAndActivate,
            other => PacketKind::Unknown(other),
        }
    }

    /// The number on the wire.
    pub fn code(self) -> i32 {
        match self {
            PacketKind::Request => 1,
            PacketKind::Proposal => 2,
            PacketKind::Ack => 3,
            PacketKind::Commit => 4,
            PacketKind::Ping => 5,
            PacketKind::Revalidate => 6,
            PacketKind::Sync => 7,
            PacketKind::Inform => 8,
            PacketKind::CommitAndActivate => 9,
            PacketKind::NewLeader => 10,
            PacketKind::FollowerInfo => 11,
            PacketKind::UpToDate => 12,
            PacketKind::Diff => 13,
            PacketKind::Trunc => 14,
            PacketKind::Snap => 15,
            PacketKind::ObserverInfo => 16,
            PacketKind::LeaderInfo => 17,
            PacketKind::AckEpoch => 18,
            PacketKind::InformAndActivate => 19,
            PacketKind::Unknown(code) => code,
        }
    }
}

/// One `QuorumPacket`. What `data` holds depends on the kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// What it is about.
    pub kind: PacketKind,
    /// A position, or the start of an epoch; -1 where the kind has none.
    pub zxid: Zxid,
    /// Null in most kinds, and then not the same as empty.
    pub data: Option<&'a [u8]>,
    /// Who asks; set in `Request` only. Apache's learners leave it out where a session begins or
    /// ends, and its leaders refuse any other write without it.
    pub auth: Option<AuthIds<'a>>,
}

impl<'a> Packet<'a> {
    /// The zxid of packets that have none.
    pub const NO_ZXID: Zxid = Zxid(-1);

    /// A packet without data.
    pub fn bare(kind: PacketKind, zxid: Zxid) -> Packet<'a> {
        Packet { kind, zxid, data: None, auth: None }
    }

    /// A packet with data.
    pub fn with(kind: PacketKind, zxid: Zxid, data: &'a [u8]) -> Packet<'a> {
        Packet { kind, zxid, data: Some(data), auth: None }
    }

    /// Appends the record. A record without data and identities has 20 bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i32(out, self.kind.code());
        put_i64(out, self.zxid.0);
        put_buffer(out, self.data);
        match self.auth {
            None => put_i32(out, -1),
            Some(ids) => out.extend_from_slice(ids.bytes),
        }
    }

    /// Reads one packet, whose end a [`PacketScan`] has found.
    ///
    /// # Errors
    /// Where the bytes end too early or a length makes no sense.
    pub fn decode_from(r: &mut Reader<'a>) -> Result<Packet<'a>, DecodeError> {
        let kind = PacketKind::from_code(r.i32("packet type")?);
        let zxid = Zxid(r.i64("packet zxid")?);
        Ok(Packet { kind, zxid, data: r.buffer("packet data")?, auth: AuthIds::read(r)? })
    }

    /// The data, which this kind of packet cannot do without.
    ///
    /// # Errors
    /// If it is null.
    pub fn required_data(&self) -> Result<&'a [u8], DecodeError> {
        self.data.ok_or(DecodeError::Null("packet data"))
    }
}

/// The paths in the requests that a learner forwards, among the first `count` of these packets, as
/// far as they begin with one: for prefetching only.
pub fn requested_paths(packets: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    let mut r = Reader::new(packets);
    let packets = std::iter::from_fn(move || Packet::decode_from(&mut r).ok());
    packets.take(count).filter_map(|packet| {
        let request = Forwarded::decode(packet.data?).ok()?;
        let is_request = packet.kind == PacketKind::Request;
        is_request.then(|| leading_path(request.op, request.body)).flatten()
    })
}

/// A `vector<Id>` in its encoded form, checked: scheme and id of everything that a client has
/// proved to be, for instance `("ip", "10.0.0.7")`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthIds<'a> {
    bytes: &'a [u8],
}

impl<'a> AuthIds<'a> {
    /// No identity. In a packet this differs from null, see `Packet::auth`.
    pub const NONE: AuthIds<'static> = AuthIds { bytes: &[0; 4] };

    /// Takes an encoded vector, count included.
    ///
    /// # Errors
    /// If it is not one, is null, or has bytes after its end.
    pub fn parse(bytes: &'a [u8]) -> Result<AuthIds<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        let ids = AuthIds::read(&mut r)?.ok_or(DecodeError::Null("authinfo"))?;
        if r.remaining() > 0 {
            return Err(DecodeError::BadValue("bytes after authinfo", r.remaining() as i64));
        }
        Ok(ids)
    }

    /// Appends the encoded vector of these identities.
    pub fn put<'b>(out: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = (&'b str, &'b str)>) {
        put_i32(out, i32::try_from(ids.len()).expect("identities of a client are bounded"));
        for (scheme, id) in ids {
            put_str(out, scheme);
            put_str(out, id);
        }
    }

    /// The encoded vector, count included.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    fn read(r: &mut Reader<'a>) -> Result<Option<AuthIds<'a>>, DecodeError> {
        let start = r.rest();
        let Some(count) = r.count("authinfo")? else { return Ok(None) };
        for _ in 0..count {
            r.buffer("auth scheme")?;
            r.buffer("auth id")?;
        }
        Ok(Some(AuthIds { bytes: &start[..start.len() - r.remaining()] }))
    }

    /// Scheme and id of each, in order; null reads as empty.
    pub fn iter(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        let mut r = Reader::new(self.bytes);
        let count = r.count("authinfo").ok().flatten().unwrap_or(0);
        // The shape was checked in `read`, so this cannot end early.
        (0..count).map_while(move |_| {
            let mut text = |what| Some(r.text(what).ok()?.unwrap_or_default());
            Some((text("auth scheme")?, text("auth id")?))
        })
    }
}

/// Finds the end of the packet at the start of a buffer that grows. Remembers how far it came, so
/// that bytes that arrive one at a time are not looked at again and again.
///
/// A packet's end depends on its data's length and on each identity's two lengths. Nothing is
/// stored before it is complete, and a length above the limit is an error at once.
#[derive(Clone, Copy, Debug)]
pub struct PacketScan {
    /// Largest data, and largest sum of identities, in bytes.
    bytes_max: usize,
    /// Bytes that were looked at, from the packet's start.
    seen: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Data,
    IdCount,
    /// Texts to come, two for each identity, and where the first began.
    Ids {
        left: usize,
        start: usize,
    },
}

/// What a scan found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// The packet takes this many bytes; the scan begins with the next packet.
    Complete(usize),
    /// The packet takes at least this many bytes, more than are there.
    Needs(usize),
}

/// Type, zxid and length of the data.
const HEAD: usize = 16;

impl PacketScan {
    /// A scan for packets whose data is at most `bytes_max` bytes, as are all their identities
    /// together. ZooKeeper's default is 2 097 150 (`jute.maxbuffer` and its extra).
    pub fn new(bytes_max: usize) -> PacketScan {
        PacketScan { bytes_max, seen: 0, stage: Stage::Data }
    }

    /// Looks on in `buffer`, which begins with the packet.
    ///
    /// # Errors
    /// A length that is negative (other than null) or above the limit. The stream is useless then.
    pub fn advance(&mut self, buffer: &[u8]) -> Result<Scan, DecodeError> {
        loop {
            match self.stage {
                Stage::Data => {
                    let Some(length) = int_at(buffer, HEAD - 4) else { return needs(HEAD) };
                    let length = length_of("packet data", length, self.bytes_max)?;
                    self.seen = HEAD + length;
                    self.stage = Stage::IdCount;
                }
                Stage::IdCount => {
                    let Some(count) = int_at(buffer, self.seen) else {
                        return needs(self.seen + 4);
                    };
                    // An identity has eight bytes at least. Java reads a negative count as none.
                    let count_max = self.bytes_max / 8;
                    let ids = usize::try_from(count).unwrap_or(0);
                    if ids > count_max {
                        return Err(DecodeError::BadLength("authinfo", count));
                    }
                    self.seen += 4;
                    self.stage = Stage::Ids { left: 2 * ids, start: self.seen };
                }
                Stage::Ids { left: 0, start: _ } => {
                    let end = self.seen;
                    // The buffer may end inside the text that was announced last.
                    if buffer.len() < end {
                        return needs(end);
                    }
                    *self = PacketScan::new(self.bytes_max);
                    return Ok(Scan::Complete(end));
                }
                Stage::Ids { left, start } => {
                    let Some(length) = int_at(buffer, self.seen) else {
                        return needs(self.seen + 4 * left);
                    };
                    let room = (start + self.bytes_max).saturating_sub(self.seen + 4);
                    self.seen += 4 + length_of("auth id", length, room)?;
                    self.stage = Stage::Ids { left: left - 1, start };
                }
            }
        }
    }
}

fn length_of(what: &'static str, length: i32, max: usize) -> Result<usize, DecodeError> {
    match usize::try_from(length) {
        Ok(bytes) if bytes <= max => Ok(bytes),
        Err(_) if length == -1 => Ok(0),
        Ok(_) | Err(_) => Err(DecodeError::BadLength(what, length)),
    }
}

fn needs(bytes: usize) -> Result<Scan, DecodeError> {
    Ok(Scan::Needs(bytes))
}

fn int_at(buffer: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(*buffer.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, SessionId, Xid};
    use crate::wire::hex;

    const BYTES_MAX: usize = 64;

    #[test]
    fn the_paths_of_forwarded_requests_are_found_among_other_packets() {
        let mut packets = encoded(&Packet::bare(PacketKind::Ack, Zxid(7)));
        for (op, path) in [(1, "/created"), (14, "/multi"), (5, "/set")] {
            let (session, cxid) = (SessionId(1), Xid(2));
            let (mut body, mut data) = (Vec::new(), Vec::new());
            put_str(&mut body, path);
            Forwarded { session, cxid, op, body: &body }.encode_into(&mut data);
            Packet {
                auth: Some(AuthIds::NONE),
                ..Packet::with(PacketKind::Request, Zxid(-1), &data)
            }
            .encode_into(&mut packets);
        }
        let paths = |bytes, count| requested_paths(bytes, count).collect::<Vec<_>>();
        assert_eq!(paths(&packets, 9), [&b"/created"[..], b"/set"]);
        assert_eq!(paths(&packets, 2), [b"/created"], "of the first two packets");
        assert_eq!(paths(&packets[..packets.len() - 1], 9), [b"/created"], "the last one is cut");
    }

    fn encoded(packet: &Packet<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        packet.encode_into(&mut out);
        out
    }

    #[test]
    fn packets_have_the_bytes_of_apache() {
        let check = |text: &str, packet: Packet<'_>| {
            assert_eq!(encoded(&packet), hex(text), "{packet:?}");
            let bytes = hex(text);
            assert_eq!(Packet::decode_from(&mut Reader::new(&bytes)), Ok(packet));
        };
        let bare = Packet::bare;
        check(
            "0000000d 0000000100000005 ffffffff ffffffff",
            bare(PacketKind::Diff, Zxid(0x1_0000_0005)),
        );
        check(
            "00000003 0000000200000000 ffffffff ffffffff",
            bare(PacketKind::Ack, Zxid(0x2_0000_0000)),
        );
        check(
            "0000000c ffffffffffffffff ffffffff ffffffff",
            bare(PacketKind::UpToDate, Packet::NO_ZXID),
        );
        check("00000007 0000000000000000 ffffffff ffffffff", bare(PacketKind::Sync, Zxid::ZERO));
        check(
            "00000005 0000000000000007 00000000 ffffffff",
            Packet::with(PacketKind::Ping, Zxid(7), b""),
        );
        check(
            "0000004d 0000000000000000 ffffffff ffffffff",
            bare(PacketKind::Unknown(77), Zxid(0)),
        );
    }

    #[test]
    fn each_number_has_one_kind() {
        for code in -1..30 {
            let kind = PacketKind::from_code(code);
            assert_eq!(kind.code(), code);
            assert_eq!(kind == PacketKind::Unknown(code), !(1..=19).contains(&code));
        }
    }

    /// A valid packet within the limits of these tests.
    fn any(rng: &mut Rng, ids: &mut Vec<u8>, data: &mut Vec<u8>) -> (bool, bool) {
        data.resize(rng.below(BYTES_MAX as u64 + 1) as usize, 0);
        rng.fill(data);
        let names = ["", "ip", "digest"];
        let count = rng.below(4) as usize;
        let picked: Vec<_> = (0..count).map(|_| names[rng.below(3) as usize]).collect();
        AuthIds::put(ids, picked.iter().map(|name| (*name, *name)));
        (rng.chance(1, 2), rng.chance(1, 2))
    }

    #[test]
    fn a_stream_falls_apart_into_its_packets_however_it_arrives() {
        let mut rng = Rng::new(3);
        for _ in 0..2_000 {
            let (mut ids, mut data) = (Vec::new(), Vec::new());
            let (has_data, has_ids) = any(&mut rng, &mut ids, &mut data);
            let packet = Packet {
                kind: PacketKind::from_code(rng.below(25) as i32),
                zxid: Zxid(rng.next_u64() as i64),
                data: has_data.then_some(&data[..]),
                auth: has_ids.then(|| AuthIds::parse(&ids).unwrap()),
            };
            let bytes = [encoded(&packet), encoded(&packet)].concat();
            let whole = bytes.len() / 2;
            let mut scan = PacketScan::new(BYTES_MAX);
            let (mut arrived, mut last) = (0, 0);
            loop {
                match scan.advance(&bytes[..arrived]).unwrap() {
                    Scan::Complete(end) => break assert_eq!(end, whole),
                    Scan::Needs(least) => {
                        assert!(least > arrived && least <= whole && least >= last);
                        last = least;
                        arrived += 1 + rng.below((least - arrived) as u64) as usize;
                    }
                }
            }
            assert_eq!(Packet::decode_from(&mut Reader::new(&bytes)), Ok(packet));
            assert_eq!(scan.advance(&bytes[whole..]), Ok(Scan::Complete(whole)));
        }
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused_before_their_bytes_arrive() {
        let refused = |text: &str| PacketScan::new(BYTES_MAX).advance(&hex(text)).is_err();
        let head = "00000003 0000000200000000";
        assert!(!refused(&format!("{head} 00000040")));
        assert!(refused(&format!("{head} 00000041")));
        assert!(refused(&format!("{head} fffffffe")));
        assert!(refused(&format!("{head} ffffffff 00000009")));
        assert!(refused(&format!("{head} ffffffff 7fffffff")));
        assert!(!refused(&format!("{head} ffffffff 00000001 0000003c")));
        assert!(refused(&format!("{head} ffffffff 00000001 0000003d")));
        // Fifty bytes of the 64 are taken: each text has four bytes of length.
        let most = format!("{head} ffffffff 00000001 0000002e {}", "61".repeat(46));
        assert!(!refused(&format!("{most} 0000000a")));
        assert!(refused(&format!("{most} 0000000b")));
        assert!(refused(&format!("{head} ffffffff 00000001 fffffffe")));
    }

    #[test]
    fn random_bytes_give_packets_or_errors() {
        let mut rng = Rng::new(5);
        let (mut complete, mut refused) = (0, 0);
        for _ in 0..100_000 {
            let mut bytes = vec![0; rng.below(80) as usize];
            rng.fill(&mut bytes);
            // Mostly small numbers, or nearly everything is refused at the first length.
            bytes.iter_mut().for_each(|byte| *byte &= if *byte & 7 == 0 { 15 } else { 0 });
            match PacketScan::new(BYTES_MAX).advance(&bytes) {
                Ok(Scan::Complete(end)) => {
                    complete += 1;
                    let mut r = Reader::new(&bytes);
                    let packet = Packet::decode_from(&mut r).unwrap();
                    assert_eq!(bytes.len() - r.remaining(), end);
                    let _ = packet.auth.map(|ids| ids.iter().count());
                }
                Ok(Scan::Needs(least)) => assert!(least > bytes.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(complete > 1_000 && refused > 1_000, "{complete} {refused}");
    }
}
