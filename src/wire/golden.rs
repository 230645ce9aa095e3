//! Bytes of tests, written as Apache's servers were seen to send them.

/// The bytes of hexadecimal `text`; blanks only part them.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "half a byte in {text}");
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(byte).collect()
}

/// What two servers of Apache's (3.9.5) said on a connection: a voter at the election port
/// of another one, and a follower and an observer at the port of their leader.
/// `tests/foreign/mixed/record.py` has recorded it.
pub(crate) const VOTES: &str = include_str!("recorded/votes.txt");
/// See [`VOTES`].
pub(crate) const FOLLOWER: &str = include_str!("recorded/follower.txt");
/// See [`VOTES`].
pub(crate) const OBSERVER: &str = include_str!("recorded/observer.txt");
/// Of a follower whose log goes back. See [`VOTES`].
pub(crate) const TRUNCATED: &str = include_str!("recorded/trunc.txt");
/// Of a follower that gets the leader's database. See [`VOTES`].
pub(crate) const REFILLED: &str = include_str!("recorded/snap.txt");

/// A SNAP begins like this.
const SNAP: [u8; 4] = [0, 0, 0, 15];

/// A message that was recorded.
pub(crate) struct Said {
    /// By the server that connected; otherwise by the one that it connected to.
    pub by_dialler: bool,
    pub bytes: Vec<u8>,
    /// The stream behind a SNAP. Everything else at a quorum port is a packet.
    pub is_database: bool,
}

/// The messages of a recording, in the order in which they were said.
pub(crate) fn recorded(text: &str) -> Vec<Said> {
    let mut found: Vec<Said> = Vec::new();
    for line in text.lines() {
        let (mark, digits) = line.split_at(1);
        match found.last_mut() {
            Some(said) if mark == " " => said.bytes.extend(hex(digits)),
            last => {
                let by_dialler = mark == ">";
                let is_database =
                    last.is_some_and(|said| !said.by_dialler && said.bytes.starts_with(&SNAP));
                found.push(Said { by_dialler, bytes: hex(digits), is_database });
            }
        }
    }
    found
}
