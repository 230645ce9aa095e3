//! What members say on the election port: who connects, then votes.
//!
//! Corresponds to `QuorumCnxManager.InitialMessage` and to the messages of `FastLeaderElection`.
//! The sender of a vote is the connection's server id; it does not stand in the message.

use std::net::IpAddr;

use crate::base::{Epoch, LifelineKey, ServerId, Zxid};

use super::{DecodeError, Reader, put_buffer, put_i32, put_i64, put_str};

/// Largest text of addresses in a hello, in bytes.
const ADDRESSES_BYTES_MAX: i32 = 2048;

/// Largest message after the hello, in bytes.
const MESSAGE_BYTES_MAX: i32 = 512 * 1024;

/// The id of an observer that no configuration knows. Each gets a private negative one.
pub const ANONYMOUS: ServerId = ServerId(i64::MAX);

/// The first bytes of a connection, from the server that has made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Who connects.
    pub sid: ServerId,
    /// Host and port where its election port is, by its own word. Empty if it gives none that can
    /// be dialled; what the configuration says holds then.
    pub addresses: Vec<(String, u16)>,
}

/// What a connection to the election port begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum First {
    /// Votes follow.
    Hello(Hello),
    /// Nothing follows: the connection is a lifeline of this server, which ends when its process
    /// does. Between servers of ours only.
    Lifeline(ServerId, LifelineKey),
}

impl First {
    /// The version that stands where a hello has its own: 'rk' and a number.
    const LIFELINE: i64 = -0x726b_0001;

    /// Reads what stands at the start of a buffer; `None` if it has not arrived yet. Also says how
    /// many bytes it takes.
    ///
    /// # Errors
    /// The errors of [`Hello::decode`].
    pub fn decode(buffer: &[u8]) -> Result<Option<(First, usize)>, DecodeError> {
        let mut r = Reader::new(buffer);
        if r.i64("hello version").is_ok_and(|version| version == First::LIFELINE) {
            let (Ok(sid), Ok(key)) = (r.i64("sid"), r.i64("key of a lifeline")) else {
                return Ok(None);
            };
            let first = First::Lifeline(ServerId(sid), LifelineKey(key.cast_unsigned()));
            return Ok(Some((first, buffer.len() - r.remaining())));
        }
        let hello = Hello::decode(buffer)?;
        Ok(hello.map(|(hello, length)| (First::Hello(hello), length)))
    }

    /// Appends what the lifeline of a server begins with.
    pub fn encode_lifeline(sid: ServerId, key: LifelineKey, out: &mut Vec<u8>) {
        put_i64(out, First::LIFELINE);
        put_i64(out, sid.0);
        put_i64(out, key.0.cast_signed());
    }
}

impl Hello {
    const ONE_ADDRESS: i64 = -65_536;
    const SEVERAL_ADDRESSES: i64 = -65_535;

    /// Reads a hello at the start of a buffer; `None` if it has not arrived yet. Also says how many
    /// bytes it takes.
    ///
    /// # Errors
    /// An unknown version, or addresses that are too long or no addresses.
    pub fn decode(buffer: &[u8]) -> Result<Option<(Hello, usize)>, DecodeError> {
        let mut r = Reader::new(buffer);
        let Ok(version) = r.i64("hello version") else { return Ok(None) };
        if version >= 0 {
            // Before versions, the id stood first and alone.
            return Ok(Some((Hello { sid: ServerId(version), addresses: Vec::new() }, 8)));
        }
        if ![Hello::ONE_ADDRESS, Hello::SEVERAL_ADDRESSES].contains(&version) {
            return Err(DecodeError::BadValue("hello version", version));
        }
        let (Ok(sid), Ok(length)) = (r.i64("sid"), r.i32("length of addresses")) else {
            return Ok(None);
        };
        if !(1..=ADDRESSES_BYTES_MAX).contains(&length) {
            return Err(DecodeError::BadLength("hello addresses", length));
        }
        let Ok(text) = r.take(length as usize, "addresses") else { return Ok(None) };
        let text = String::from_utf8_lossy(text);
        let mut addresses = Vec::new();
        for (host, port) in text.split('|').map(host_and_port) {
            let port = port.ok_or(DecodeError::BadValue("port in hello", i64::from(length)))?;
            if !is_wildcard(host) {
                addresses.push((host.to_owned(), port));
            }
        }
        Ok(Some((Hello { sid: ServerId(sid), addresses }, buffer.len() - r.remaining())))
    }

    /// Appends the hello of a server whose election port is at `addresses`. All of it has to leave
    /// in one write: Apache reads the addresses by one call.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let version = match self.addresses.as_slice() {
            [] | [_] => Hello::ONE_ADDRESS,
            [_, _, ..] => Hello::SEVERAL_ADDRESSES,
        };
        let put = |(host, port): &(String, u16)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let texts: Vec<String> = self.addresses.iter().map(put).collect();
        put_i64(out, version);
        put_i64(out, self.sid.0);
        put_str(out, &texts.join("|"));
    }
}

/// Host and port of `host:port` or `[host]:port`; no port if it is not one of these.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    let split = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    };
    let Some((host, port)) = split else { return (text, None) };
    (host, port.parse().ok().filter(|port| *port > 0 && !host.is_empty()))
}

/// An address to listen at, which says nothing about where the server is.
fn is_wildcard(host: &str) -> bool {
    host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It looks for a leader.
    Looking,
    /// It follows one.
    Following,
    /// It leads.
    Leading,
    /// It follows a leader without a vote.
    Observing,
}

impl PeerState {
    fn from_code(code: i32) -> Result<PeerState, DecodeError> {
        match code {
            0 => Ok(PeerState::Looking),
            1 => Ok(PeerState::Following),
            2 => Ok(PeerState::Leading),
            3 => Ok(PeerState::Observing),
            other => Err(DecodeError::BadValue("state of a voter", i64::from(other))),
        }
    }

    fn code(self) -> i32 {
        match self {
            PeerState::Looking => 0,
            PeerState::Following => 1,
            PeerState::Leading => 2,
            PeerState::Observing => 3,
        }
    }
}

/// The number of an election, counted by each server for itself (`electionEpoch`, the logical
/// clock). Votes of one round are compared with each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Round(pub i64);

/// The epoch of the history that a vote stands for (`peerEpoch`): wider than an [`Epoch`], since
/// servers without a vote send the smallest `long` of all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct VoteEpoch(pub i64);

impl From<Epoch> for VoteEpoch {
    fn from(epoch: Epoch) -> VoteEpoch {
        VoteEpoch(i64::from(epoch.0))
    }
}

/// One message of an election.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notification<'a> {
    /// Of the sender.
    pub state: PeerState,
    /// Whom the sender votes for, or follows.
    pub leader: ServerId,
    /// The last transaction of that server, by the sender's word.
    pub zxid: Zxid,
    /// The sender's round, or that in which its leader was elected.
    pub round: Round,
    /// The epoch of that server's history. Of a sender that follows or leads: the epoch it is in.
    pub epoch: VoteEpoch,
    /// Of the message: 0 where the sender gives none, else 1 or 2.
    pub version: i32,
    /// The text of the sender's committed membership, which version 2 carries.
    pub config: Option<&'a [u8]>,
}

impl<'a> Notification<'a> {
    /// The message version of every server since 3.5.
    pub const VERSION: i32 = 2;

    /// Reads a message without its length.
    ///
    /// # Errors
    /// If it is to be dropped. The connection is good for the next one all the same.
    pub fn decode(payload: &'a [u8]) -> Result<Notification<'a>, DecodeError> {
        let mut r = Reader::new(payload);
        let state = r.i32("state of a voter")?;
        let (leader, zxid) = (ServerId(r.i64("leader")?), Zxid(r.i64("zxid of a vote")?));
        let round = Round(r.i64("round of a vote")?);
        let state = PeerState::from_code(state)?;
        let mut vote = Notification {
            state,
            leader,
            zxid,
            round,
            epoch: zxid.epoch().into(),
            version: 0,
            config: None,
        };
        // COMPAT(3.4): 28 bytes are a vote without an epoch, 40 one with four bytes of no meaning.
        if payload.len() == 28 {
            return Ok(vote);
        }
        vote.epoch = VoteEpoch(r.i64("epoch of a vote")?);
        if payload.len() == 40 {
            return Ok(vote);
        }
        vote.version = r.i32("version of a vote")?;
        if vote.version > 1 {
            let length = r.i32("length of a vote's configuration")?;
            let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= payload.len());
            let bytes = bytes.ok_or(DecodeError::BadLength("configuration of a vote", length))?;
            vote.config = Some(r.take(bytes, "configuration of a vote")?);
        }
        Ok(vote)
    }

    /// Appends the message in version 2, its length first. A configuration that is not there is
    /// sent as an empty one.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let config = self.config.unwrap_or_default();
        let length = i32::try_from(44 + config.len()).expect("a configuration is short");
        put_i32(out, length);
        put_i32(out, self.state.code());
        put_i64(out, self.leader.0);
        put_i64(out, self.zxid.0);
        put_i64(out, self.round.0);
        put_i64(out, self.epoch.0);
        put_i32(out, Notification::VERSION);
        put_buffer(out, Some(config));
    }
}

/// The first message in a buffer, without its length, and how many bytes both take; `None` if it
/// has not arrived yet.
///
/// # Errors
/// A length below 1 or above 512 KiB. The connection is useless then.
pub fn next_message(buffer: &[u8]) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let mut r = Reader::new(buffer);
    let Ok(length) = r.i32("length of a vote") else { return Ok(None) };
    if !(1..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(DecodeError::BadLength("message of an election", length));
    }
    let Ok(message) = r.take(length as usize, "message of an election") else { return Ok(None) };
    Ok(Some((message, 4 + message.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::wire::{VOTES, hex, recorded};

    fn hello(sid: i64, addresses: &[(&str, u16)]) -> Hello {
        let addresses = addresses.iter().map(|(host, port)| ((*host).to_owned(), *port));
        Hello { sid: ServerId(sid), addresses: addresses.collect() }
    }

    fn hello_of(version: i64, text: &str) -> Result<Option<(Hello, usize)>, DecodeError> {
        let mut bytes = Vec::new();
        put_i64(&mut bytes, version);
        put_i64(&mut bytes, 3);
        put_str(&mut bytes, text);
        Hello::decode(&bytes)
    }

    #[test]
    fn the_hello_has_the_bytes_of_apache() {
        let bytes =
            hex("ffffffffffff0000 0000000000000003 0000000f 3132372e302e302e313a3433383833");
        let one = hello(3, &[("127.0.0.1", 43883)]);
        let mut out = Vec::new();
        one.encode_into(&mut out);
        assert_eq!(out, bytes);
        for length in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..length]), Ok(None));
        }
        assert_eq!(Hello::decode(&bytes), Ok(Some((one.clone(), bytes.len()))));
        // What follows belongs to the messages.
        assert_eq!(Hello::decode(&[&bytes[..], &[1]].concat()), Ok(Some((one, bytes.len()))));
    }

    #[test]
    fn several_addresses_and_ipv6_are_written_and_read() {
        let two = hello(3, &[("::1", 3888), ("zoo3.example", 3889)]);
        let mut out = Vec::new();
        two.encode_into(&mut out);
        assert_eq!(out[..8], hex("ffffffffffff0001"));
        assert_eq!(out[20..], *b"[::1]:3888|zoo3.example:3889");
        assert_eq!(Hello::decode(&out), Ok(Some((two.clone(), out.len()))));
        // A receiver takes several in either version.
        let text = "[::1]:3888|zoo3.example:3889";
        assert_eq!(hello_of(Hello::ONE_ADDRESS, text).unwrap().unwrap().0, two);
    }

    #[test]
    fn an_old_hello_is_the_id_alone() {
        assert_eq!(Hello::decode(&hex("0000000000000005 ff")), Ok(Some((hello(5, &[]), 8))));
        assert_eq!(Hello::decode(&hex("00000000000000")), Ok(None));
    }

    #[test]
    fn addresses_to_listen_at_are_left_out() {
        let read = |text: &str| hello_of(Hello::SEVERAL_ADDRESSES, text).unwrap().unwrap().0;
        assert_eq!(read("0.0.0.0:1|a:2|[::]:3"), hello(3, &[("a", 2)]));
        assert_eq!(read("0.0.0.0:1"), hello(3, &[]));
    }

    #[test]
    fn a_strange_hello_is_refused() {
        for text in ["a", "a:", "a:0", ":1", "a:65536", "a:1:2", "a:-1", "[::1]", "a:1|", "::1:5"] {
            assert!(hello_of(Hello::ONE_ADDRESS, text).is_err(), "{text}");
        }
        for version in [-1, -65_534, -65_537, i64::MIN] {
            assert!(hello_of(version, "a:1").is_err(), "{version}");
        }
        let long = |length: usize| {
            hello_of(Hello::SEVERAL_ADDRESSES, &vec!["aaaaa:1"; length.div_ceil(8)].join("|"))
        };
        assert!(long(2048).is_ok());
        assert!(long(2056).is_err());
        let mut bytes = hex("ffffffffffff0000 0000000000000003 00000801");
        assert!(Hello::decode(&bytes).is_err(), "before the text has arrived");
        bytes[16..].fill(0);
        assert!(Hello::decode(&bytes).is_err(), "an empty text");
    }

    const CONFIG: &[u8] = b"server.1=127.0.0.1:42881:43881:participant\nversion=0";

    fn looking(version: i32, config: Option<&[u8]>) -> Notification<'_> {
        Notification {
            state: PeerState::Looking,
            leader: ServerId(3),
            zxid: Zxid(0x1_0000_0005),
            round: Round(1),
            epoch: VoteEpoch(1),
            version,
            config,
        }
    }

    /// Up to the epoch of the vote.
    const VOTE: &str = "00000000 0000000000000003 0000000100000005 0000000000000001";

    #[test]
    fn a_vote_has_the_bytes_of_apache() {
        let head = hex(&format!("00000060 {VOTE} 0000000000000001 00000002 00000034"));
        let bytes = [&head[..], CONFIG].concat();
        let vote = looking(2, Some(CONFIG));
        let mut out = Vec::new();
        vote.encode_into(&mut out);
        assert_eq!((out.len(), &out), (100, &bytes));
        let (message, taken) = next_message(&bytes).unwrap().unwrap();
        assert_eq!(taken, bytes.len());
        assert_eq!(Notification::decode(message), Ok(vote));
        for length in 0..bytes.len() {
            assert_eq!(next_message(&bytes[..length]), Ok(None));
        }
        for length in [0, -1, MESSAGE_BYTES_MAX + 1, i32::MAX] {
            assert!(next_message(&length.to_be_bytes()).is_err(), "{length}");
        }
        assert_eq!(next_message(&MESSAGE_BYTES_MAX.to_be_bytes()), Ok(None));
    }

    #[test]
    fn old_votes_are_told_by_their_length() {
        let decode = |text: &str| {
            let bytes = hex(&format!("{VOTE}{text}"));
            Notification::decode(&bytes).map(|vote| (vote.epoch.0, vote.version))
        };
        let epoch = "0000000000000007";
        // Without an epoch, the zxid's counts.
        assert_eq!(decode(""), Ok((1, 0)));
        assert_eq!(decode(&format!("{epoch} 00000002")), Ok((7, 0)));
        assert_eq!(decode(&format!("{epoch} 00000001 00")), Ok((7, 1)));
        assert!(decode(epoch).is_err());
        assert!(decode("00").is_err());
        let short = hex(VOTE);
        for length in 0..28 {
            assert!(Notification::decode(&short[..length]).is_err());
        }
    }

    #[test]
    fn a_configuration_of_a_wrong_length_drops_the_vote() {
        let decode = |length: i32, bytes: &[u8]| {
            let head = hex(&format!("{VOTE} 0000000000000001 00000002"));
            let all = [&head[..], &length.to_be_bytes(), bytes].concat();
            Notification::decode(&all).map(|vote| vote.config.map(<[u8]>::to_vec))
        };
        assert_eq!(decode(2, b"ab"), Ok(Some(b"ab".to_vec())));
        assert_eq!(decode(1, b"ab"), Ok(Some(b"a".to_vec())));
        assert_eq!(decode(0, b""), Ok(Some(Vec::new())));
        for (length, bytes) in [(-1, &b"ab"[..]), (3, b"ab"), (47, b"ab"), (i32::MAX, b"")] {
            assert!(decode(length, bytes).is_err(), "{length}");
        }
        let head = hex(&format!("{VOTE} 0000000000000001 00000002 0000"));
        assert!(Notification::decode(&head).is_err());
    }

    #[test]
    fn unknown_states_are_dropped() {
        for (code, is_known) in [(-1, false), (0, true), (3, true), (4, false)] {
            let mut bytes = hex(VOTE);
            bytes[..4].copy_from_slice(&i32::to_be_bytes(code));
            assert_eq!(Notification::decode(&bytes).is_ok(), is_known, "{code}");
        }
    }

    #[test]
    fn random_bytes_are_refused_or_mean_the_same_when_sent_on() {
        let mut rng = Rng::new(17);
        let mut read = 0;
        for _ in 0..50_000 {
            let mut bytes = vec![0; rng.below(64) as usize];
            rng.fill(&mut bytes);
            bytes.iter_mut().for_each(|byte| *byte &= if *byte & 3 == 0 { 0xff } else { 3 });
            for at in [0, 36, 40] {
                let zeros = bytes.iter_mut().skip(at).take(3);
                zeros.for_each(|byte| *byte = 0);
            }
            if let Ok(vote) = Notification::decode(&bytes) {
                read += 1;
                let mut out = Vec::new();
                vote.encode_into(&mut out);
                let again = Notification::decode(next_message(&out).unwrap().unwrap().0).unwrap();
                let sent = Notification { version: 2, config: vote.config.or(Some(b"")), ..vote };
                assert_eq!(again, sent);
            }
            let _ = next_message(&bytes);
            if let Some(start) = bytes.first_chunk_mut() {
                *start = Hello::ONE_ADDRESS.to_be_bytes();
            }
            if let Ok(Some((hello, taken))) = Hello::decode(&bytes) {
                assert!(taken <= bytes.len());
                assert!(hello.addresses.iter().all(|(host, port)| !host.is_empty() && *port > 0));
            }
        }
        assert!(read > 5_000, "{read}");
    }

    #[test]
    fn recorded_votes_are_written_as_they_were_read() {
        let said = recorded(VOTES);
        let (hello, size) = Hello::decode(&said[0].bytes).unwrap().unwrap();
        assert!(said[0].by_dialler && size == said[0].bytes.len());
        let mut again = Vec::new();
        hello.encode_into(&mut again);
        assert_eq!(again, said[0].bytes);
        for said in &said[1..] {
            let (message, size) = next_message(&said.bytes).unwrap().unwrap();
            assert_eq!(size, said.bytes.len());
            let vote = Notification::decode(message).unwrap();
            assert_eq!(vote.version, Notification::VERSION);
            again.clear();
            vote.encode_into(&mut again);
            assert_eq!(again, said.bytes, "{vote:?}");
        }
        // Each votes for itself, and the first for the second then.
        let leaders = said[1..].iter().map(|said| {
            let (message, _) = next_message(&said.bytes).unwrap().unwrap();
            (said.by_dialler, Notification::decode(message).unwrap().leader.0)
        });
        assert_eq!(leaders.collect::<Vec<_>>(), [(false, 1), (true, 2), (false, 2)]);
    }
}
