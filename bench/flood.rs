//! A flood: connections that keep many requests in flight, even if the server answers errors, on a
//! thread of their own. Frames are prepared before and sent round and round; replies are counted
//! and thrown away.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringkeeper::base::{SessionId, Zxid};
use ringkeeper::wire::XID_NOTIFICATION;

use crate::codec;
use crate::net::{self, Poll};

/// Bytes that one connection hands to its socket before it looks for replies.
const BURST_BYTES: usize = 256 * 1024;
const READ_BUFFER: usize = 256 * 1024;
/// How soon the thread notices that it shall stop.
const PAUSE: Duration = Duration::from_millis(10);
/// A server that is busy may leave its listen queue full; then the connect is tried again.
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
const SESSION_TIMEOUT_MS: i32 = 120_000;
/// Bytes of a reply up to and with its error code: length, xid, zxid, error.
const HEAD_BYTES: usize = 20;

/// Counts replies in a stream of bytes that may be cut anywhere.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    head: Vec<u8>,
    skip: usize,
    /// The first frame answers a connect request, which has a form of its own.
    handshake: bool,
    /// Replies, the answer to the connect request left out.
    pub answered: u64,
    /// Watch events.
    pub events: u64,
    /// Replies by error code.
    pub errors: BTreeMap<i32, u64>,
    /// The highest zxid in a reply.
    pub zxid: i64,
}

impl Replies {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// A frame that no ZooKeeper server sends.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = if self.handshake { 4 } else { HEAD_BYTES };
            let taken = (wanted - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.head.len() == wanted {
                self.take_head()?;
            }
        }
        Ok(())
    }

    fn take_head(&mut self) -> Result<(), String> {
        let word = |at: usize| -> [u8; 4] { std::array::from_fn(|i| self.head[at + i]) };
        let len = i32::from_be_bytes(word(0));
        let rest = self.head.len() as i32 - 4;
        if !(rest..=1 << 30).contains(&len) {
            return Err(format!("the server sent a frame of {len} bytes"));
        }
        self.skip = (len - rest) as usize;
        if !std::mem::take(&mut self.handshake) {
            let xid = i32::from_be_bytes(word(4));
            let zxid: [u8; 8] = std::array::from_fn(|i| self.head[8 + i]);
            let err = i32::from_be_bytes(word(16));
            if xid == XID_NOTIFICATION {
                self.events += 1;
            } else {
                self.answered += 1;
                self.zxid = self.zxid.max(i64::from_be_bytes(zxid));
                if err != 0 {
                    *self.errors.entry(err).or_default() += 1;
                }
            }
        }
        self.head.clear();
        Ok(())
    }

    /// Adds the counts of another stream.
    pub fn merge(&mut self, other: &Replies) {
        self.answered += other.answered;
        self.events += other.events;
        self.zxid = self.zxid.max(other.zxid);
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }
}

/// What a connection does once it has requests in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Reads replies and sends more.
    Stays,
    /// Breaks the connection as soon as this number of requests has left, and comes back.
    Leaves(usize),
}

/// One connection's flood.
#[derive(Clone, Debug)]
pub struct Flood {
    /// The session it continues.
    pub session: (SessionId, [u8; 16]),
    /// Sent once after the connect request.
    pub prologue: Vec<u8>,
    /// Request frames, sent in turn.
    pub frames: Vec<Vec<u8>>,
    /// Requests in flight.
    pub depth: usize,
    /// What it does once it has requests in flight.
    pub manner: Manner,
}

/// Flags between the thread of a flood and the thread that started it.
#[derive(Debug, Default)]
pub struct Signals {
    /// The first requests have left.
    pub flows: AtomicBool,
    /// The flood shall end.
    pub stop: AtomicBool,
}

/// Counts at the end of a flood.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Counts over all connections and watchers.
    pub replies: Replies,
    /// Requests handed to the kernel's sockets.
    pub sent: u64,
    /// Times that the server closed a connection; it came back.
    pub closed_by_server: u64,
    /// Times that a connection broke on purpose ([`Manner`]) and came back.
    pub returns: u64,
    /// From the first byte to the end.
    pub seconds: f64,
}

struct Conn<'a> {
    flood: &'a Flood,
    addr: SocketAddr,
    token: usize,
    /// `None` from the break of the connection to its return.
    stream: Option<TcpStream>,
    /// When a broken connection tries to come back.
    back_at: Instant,
    out: Vec<u8>,
    out_at: usize,
    next: usize,
    /// Requests since the connect, and those answered among them.
    sent: usize,
    replies: Replies,
    answered_before: u64,
    watching_write: bool,
}

impl<'a> Conn<'a> {
    fn new(flood: &'a Flood, addr: SocketAddr, token: usize) -> Conn<'a> {
        Conn {
            flood,
            addr,
            token,
            stream: None,
            back_at: Instant::now(),
            out: Vec::new(),
            out_at: 0,
            next: 0,
            sent: 0,
            replies: Replies::default(),
            answered_before: 0,
            watching_write: false,
        }
    }

    /// Connects; the requests follow the connect request without waiting for its answer.
    fn open(&mut self, poll: &Poll) -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&self.addr, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, self.token, true)?;
        self.stream = Some(stream);
        self.watching_write = true;
        self.replies.handshake = true;
        self.replies.head.clear();
        self.replies.skip = 0;
        self.answered_before = self.replies.answered;
        let (session, password) = self.flood.session;
        self.out = codec::connect_frame(session, &password, SESSION_TIMEOUT_MS, Zxid::ZERO);
        self.out.extend_from_slice(&self.flood.prologue);
        (self.out_at, self.sent) = (0, 0);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        let answered = self.replies.answered - self.answered_before;
        // Replies to the prologue count, too, so this may be a little too low.
        self.sent.saturating_sub(answered as usize)
    }

    /// Hands the socket as much as it takes; true if the connection has said all it had to say.
    fn push(&mut self, poll: &Poll) -> io::Result<bool> {
        let Some(stream) = &self.stream else { return Ok(false) };
        let limit = match self.flood.manner {
            Manner::Stays => usize::MAX,
            Manner::Leaves(after) => after,
        };
        loop {
            while self.out.len() < BURST_BYTES
                && self.in_flight() < self.flood.depth
                && self.sent < limit
            {
                self.out.extend_from_slice(&self.flood.frames[self.next]);
                self.next = (self.next + 1) % self.flood.frames.len();
                self.sent += 1;
            }
            if self.out.is_empty() {
                break;
            }
            self.out_at = net::flush(stream, &mut self.out, self.out_at)?;
            if !self.out.is_empty() {
                break;
            }
        }
        let full = !self.out.is_empty();
        if full != self.watching_write {
            poll.modify(stream, self.token, full)?;
            self.watching_write = full;
        }
        Ok(!full && self.sent >= limit)
    }
}

/// Reads what has arrived; false at the end of the stream.
fn pull(mut stream: &TcpStream, replies: &mut Replies, buf: &mut [u8]) -> Result<bool, String> {
    match stream.read(buf) {
        Ok(0) => Ok(false),
        Ok(n) => replies.feed(&buf[..n]).map(|()| true),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

/// Lowers the priority of this thread, so that the clients whose wait is measured get the CPU
/// first.
pub fn step_back() {
    // Without a lower priority the floods cost a little more of the machine, that is all.
    let me = Some(rustix::thread::gettid());
    let _ = rustix::process::setpriority_process(me, 10);
}

/// Floods `addr` until it shall stop; `watchers` are sockets whose events are read meanwhile.
///
/// # Errors
/// The server cannot be reached, or answers what no ZooKeeper server answers.
pub fn run(
    addr: SocketAddr,
    floods: &[Flood],
    watchers: &[TcpStream],
    signals: &Signals,
) -> Result<Outcome, String> {
    let say = |e: io::Error| format!("flood on {addr}: {e}");
    let mut poll = Poll::new(4096).map_err(say)?;
    let mut outcome = Outcome::default();
    let begin = Instant::now();
    let mut conns: Vec<Conn<'_>> = Vec::new();
    for (token, flood) in floods.iter().enumerate() {
        let mut conn = Conn::new(flood, addr, token);
        conn.open(&poll).map_err(say)?;
        conns.push(conn);
    }
    let mut events = vec![Replies::default(); watchers.len()];
    for (i, watcher) in watchers.iter().enumerate() {
        poll.add(watcher, floods.len() + i, false).map_err(say)?;
    }
    let mut buf = vec![0; READ_BUFFER];
    while !signals.stop.load(Ordering::Relaxed) {
        for conn in conns.iter_mut().filter(|conn| conn.stream.is_none()) {
            // A server that was killed, or that takes no connection now, is tried again.
            if Instant::now() >= conn.back_at && conn.open(&poll).is_err() {
                conn.back_at = Instant::now() + PAUSE;
            }
        }
        poll.wait(Some(PAUSE)).map_err(say)?;
        for i in 0..poll.ready_count() {
            let ready = poll.ready(i);
            if let Some(nth) = ready.token.checked_sub(floods.len()) {
                if !pull(&watchers[nth], &mut events[nth], &mut buf)? {
                    return Err("the server closed a watcher's connection".into());
                }
                continue;
            }
            turn(&mut conns[ready.token], ready.readable, &poll, &mut buf, &mut outcome)?;
        }
        if outcome.sent > 0 || conns.iter().any(|conn| conn.sent > 0) {
            signals.flows.store(true, Ordering::Relaxed);
        }
    }
    outcome.seconds = begin.elapsed().as_secs_f64();
    for conn in &conns {
        outcome.sent += conn.sent as u64;
        outcome.replies.merge(&conn.replies);
    }
    events.iter().for_each(|replies| outcome.replies.merge(replies));
    Ok(outcome)
}

/// One connection's turn: replies in, requests out.
fn turn(
    conn: &mut Conn<'_>,
    readable: bool,
    poll: &Poll,
    buf: &mut [u8],
    outcome: &mut Outcome,
) -> Result<(), String> {
    let Some(stream) = &conn.stream else { return Ok(()) };
    let alive = !readable || pull(stream, &mut conn.replies, buf)?;
    let pushed = conn.push(poll);
    if alive && matches!(pushed, Ok(false)) {
        return Ok(());
    }
    conn.stream = None;
    outcome.sent += std::mem::take(&mut conn.sent) as u64;
    if alive && pushed.is_ok() {
        outcome.returns += 1;
    } else {
        outcome.closed_by_server += 1;
        conn.back_at = Instant::now() + PAUSE;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkeeper::base::Xid;
    use ringkeeper::wire::{begin_reply, end_frame};

    fn reply(out: &mut Vec<u8>, xid: i32, zxid: i64, err: i32, body: usize) {
        let start = begin_reply(out, Xid(xid), Zxid(zxid), err);
        out.resize(out.len() + body, 7);
        end_frame(out, start);
    }

    #[test]
    fn replies_are_counted_however_the_stream_is_cut() {
        let mut bytes = vec![0, 0, 0, 6, 1, 2, 3, 4, 5, 6];
        reply(&mut bytes, 1, 5, 0, 0);
        reply(&mut bytes, XID_NOTIFICATION, -1, 0, 30);
        reply(&mut bytes, 2, 9, -101, 0);
        reply(&mut bytes, 3, 7, 0, 1000);
        for step in [1, 2, 3, 19, 20, 21, bytes.len()] {
            let mut replies = Replies { handshake: true, ..Replies::default() };
            for part in bytes.chunks(step) {
                replies.feed(part).unwrap();
            }
            assert_eq!((replies.answered, replies.events, replies.zxid), (3, 1, 9), "{step}");
            assert_eq!(replies.errors, BTreeMap::from([(-101, 1)]), "{step}");
            assert!(replies.head.is_empty() && replies.skip == 0, "{step}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let mut replies = Replies::default();
        assert!(replies.feed(&[0; 20]).is_err());
        let mut replies = Replies::default();
        assert!(replies.feed(&[0xff; 20]).is_err());
    }
}
