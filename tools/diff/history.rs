//! A history: what several clients do, one after the other.
//!
//! Everything in it follows from the seed alone and never from an answer, so that operations can
//! be left out (shrinking) and both servers get the very same bytes.

use ringkeeper::base::Rng;
use std::fmt;

/// How many client connections a history uses.
pub const SLOTS: usize = 3;

/// One request, encoded.
#[derive(Clone, Debug)]
pub struct Request {
    /// Correlation id.
    pub xid: i32,
    /// Opcode.
    pub op: i32,
    /// The record after the header.
    pub body: Vec<u8>,
    /// The request in words.
    pub text: String,
    /// What the first 8 bytes of the body are relative to, if they are a zxid.
    pub since: Option<Since>,
}

/// What a zxid in a request counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The start of the history.
    Start,
    /// The last answer that the slot got, as a client counts that connects again.
    LastSeen,
}

/// Which session a handshake asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A new one.
    New,
    /// The session that this slot used last, with its password.
    Slot(usize),
    /// The same with a wrong password.
    WrongPassword(usize),
    /// The same with a password that is too short.
    ShortPassword(usize),
    /// An id that no server gave out.
    Unknown,
}

/// The highest zxid that the client claims to have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// None.
    Zero,
    /// What the last answer carried.
    Last,
    /// More than the server has.
    Ahead,
}

/// A handshake.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// Requested timeout in ms.
    pub timeout_ms: i32,
    /// The optional last byte.
    pub read_only: Option<u8>,
    /// Which session.
    pub identity: Identity,
    /// lastZxidSeen.
    pub seen: Seen,
}

impl Connect {
    /// What a slot without a connection does before its next request.
    pub const PLAIN: Connect = Connect {
        timeout_ms: 300_000,
        read_only: Some(0),
        identity: Identity::New,
        seen: Seen::Zero,
    };
}

/// What one client does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Opens a connection; one that the slot has is dropped first.
    Connect(Connect),
    /// Drops the connection without closing the session.
    Disconnect,
    /// One request; waits for its reply.
    Call(Request),
    /// Several requests in one write, replies awaited afterwards.
    Burst(Vec<Request>),
    /// A handshake and requests in one write.
    Eager(Connect, Vec<Request>),
    /// Bytes that no client sends, on the slot's connection; ends when the server closes.
    Raw(Vec<u8>, String),
    /// Bytes as the first ones of a fresh connection; ends when the server closes or answers.
    Hello(Vec<u8>, String),
    /// A new session that does this, loses its connection and is waited for until it expires.
    Expire(Vec<Request>),
    /// A four-letter word.
    Word(String),
}

/// One step of a history.
#[derive(Clone, Debug)]
pub struct Op {
    /// Position in the generated history; stays the same when others are left out.
    pub index: usize,
    /// Which client.
    pub slot: usize,
    /// What it does.
    pub action: Action,
}

impl Op {
    /// The requests in it, damaged bytes aside.
    pub fn requests(&self) -> &[Request] {
        match &self.action {
            Action::Call(request) => std::slice::from_ref(request),
            Action::Burst(requests) | Action::Expire(requests) | Action::Eager(_, requests) => {
                requests
            }
            _ => &[],
        }
    }
}

/// The member of an ensemble where a client connects that does so in this operation: mostly one
/// for each client, so that clients are on different members, and now and then another.
pub fn place(op: &Op, members: usize) -> usize {
    let any = Rng::new(op.index as u64).below(3 * members as u64) as usize;
    if any < members { any } else { op.slot % members }
}

impl Request {
    /// Whether the request changes nodes.
    pub fn is_write(&self) -> bool {
        matches!(self.op, 1 | 2 | 5 | 7 | 14..=16 | 19..=21)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xid={} {}", self.xid, self.text)
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connect {:?} timeout={} readOnly={:?} lastZxidSeen={:?}",
            self.identity, self.timeout_ms, self.read_only, self.seen
        )
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, requests: &[Request]) -> fmt::Result {
    write!(f, "{what} {}:", requests.len())?;
    requests.iter().try_for_each(|request| write!(f, "\n           {request}"))
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} c{} ", self.index, self.slot)?;
        match &self.action {
            Action::Connect(connect) => connect.fmt(f),
            Action::Disconnect => write!(f, "disconnect"),
            Action::Call(request) => write!(f, "{request}"),
            Action::Burst(requests) => list(f, "burst of", requests),
            Action::Expire(requests) => list(f, "expiry after", requests),
            Action::Eager(connect, requests) => {
                write!(f, "{connect} ")?;
                list(f, "and at once", requests)
            }
            Action::Raw(_, text) => write!(f, "raw {text}"),
            Action::Hello(_, text) => write!(f, "first bytes: {text}"),
            Action::Word(word) => write!(f, "word {word:?}"),
        }
    }
}
