//! Clients that live through the death of a leader: each has one session and one node, sets the
//! node again and again, and returns with its session as soon as its connection is gone.
//!
//! Three kinds, since what a change of the leader costs a client depends on what it has in flight:
//! *calm* ones set once in an interval and have mostly nothing on its way, *lone* ones send the
//! next set with the reply to the last, *pipelined* ones keep several in flight.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use ringkeeper::base::{SessionId, Xid, Zxid};
use ringkeeper::wire::{ConnectResponse, XID_NOTIFICATION};

use crate::admin::Admin;
use crate::book::Book;
use crate::codec;
use crate::net::{self, Poll};
use crate::watch::Watch;

/// Clients and their habits.
#[derive(Clone, Debug)]
pub struct Crew {
    /// The members, over which the clients are spread.
    pub addrs: Vec<SocketAddr>,
    /// Clients that set once in `interval`.
    pub calm: usize,
    /// Clients with one set in flight at any time.
    pub lone: usize,
    /// Clients with `depth` sets in flight.
    pub pipelined: usize,
    /// Sets in flight of a pipelined client.
    pub depth: usize,
    /// Time between two sets of a calm client.
    pub interval: Duration,
    /// Bytes of data of a set, at least eight.
    pub size: usize,
    /// Session timeout. As with other client libraries, a connection without a word for two thirds
    /// of it is given up, and one that takes a third of it to begin.
    pub timeout: Duration,
}

/// What the crew is told to do.
pub enum Order {
    /// Say when every client is where it belongs and has had a set acknowledged.
    Settle,
    /// From `begin` on, note when each client has a set acknowledged that a new leader has made.
    Watch {
        /// Just before the leader is killed.
        begin: Instant,
        /// The place of that leader.
        victim: usize,
    },
    /// Send nothing more, and end when everything is answered.
    End,
}

/// What the crew says.
pub enum Word {
    /// To [`Order::Settle`].
    Settled,
    /// To [`Order::Watch`], when all have had one.
    Watched(Watch),
}

/// Everything that the crew knows at the end.
#[derive(Default)]
pub struct Log {
    /// By client.
    pub books: Vec<Book>,
    /// Sessions that a server did not know any more.
    pub sessions_lost: u64,
    /// Error replies by code.
    pub errors: BTreeMap<i32, u64>,
}

/// How long replies are awaited at the end.
const DRAIN: Duration = Duration::from_secs(10);
/// After all members have refused a connection.
const REST: Duration = Duration::from_millis(2);
/// The longest sleep, so that orders are heard.
const NAP: Duration = Duration::from_millis(1);
const ROOT: &str = "/crew";
/// The version in the reply to a set: after the head, two zxids and two times.
const VERSION_AT: usize = 20 + 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Without a connection; dials at this time.
    Away(Instant),
    Connecting,
    Handshake,
    Serving,
}

struct Client {
    /// The place of the member to which it belongs.
    home: usize,
    /// The place to which it is, or was, connected.
    at: usize,
    /// Members that have refused it since it was served.
    refusals: usize,
    stage: Stage,
    stream: Option<TcpStream>,
    session: (SessionId, [u8; 16]),
    zxid: i64,
    depth: usize,
    /// Of a calm client: when its next set is due.
    due: Option<Instant>,
    frame: Vec<u8>,
    number_at: usize,
    xid: i32,
    /// Xids and numbers of the sets on their way.
    in_flight: VecDeque<(i32, u64)>,
    out: Vec<u8>,
    out_at: usize,
    watching_write: bool,
    input: Vec<u8>,
    /// When it last heard from a server, or began to dial.
    heard: Instant,
    settled: bool,
    book: Book,
}

/// The clients at work.
pub struct AtWork {
    crew: Crew,
    poll: Poll,
    clients: Vec<Client>,
    buf: Vec<u8>,
    log: Log,
    orders: Receiver<Order>,
    words: Sender<Word>,
    watch: Option<Watch>,
    settling: bool,
    ending: Option<Instant>,
    /// The newest epoch that an acknowledgement has shown.
    epoch: i64,
}

/// The node that client `number` sets.
pub fn node(number: usize) -> String {
    format!("{ROOT}/c{number:05}")
}

/// The number that the data of a node carries, and the node's version, from the reply to a getData.
pub fn read_node(body: &[u8]) -> Option<(u64, u64)> {
    let mut r = ringkeeper::wire::Reader::new(body);
    let data = r.buffer("data").ok()??;
    let number = data.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let stat = body.get(4 + data.len()..)?;
    let version = stat.get(32..36)?.first_chunk::<4>()?;
    Some((number, u64::from(u32::from_be_bytes(*version))))
}

impl Crew {
    /// All clients.
    pub fn count(&self) -> usize {
        self.calm + self.lone + self.pipelined
    }

    /// Creates the nodes and gets ready to connect.
    pub fn set_out(self, orders: Receiver<Order>, words: Sender<Word>) -> Result<AtWork, String> {
        let mut admin = Admin::connect(self.addrs[0])?;
        admin.create_all(std::iter::once(ROOT.to_owned()).chain((0..self.count()).map(node)))?;
        admin.close();
        let now = Instant::now();
        let clients = (0..self.count()).map(|number| self.client(number, now)).collect();
        Ok(AtWork {
            poll: Poll::new(self.count().max(1)).map_err(|e| e.to_string())?,
            crew: self,
            clients,
            buf: vec![0; 64 * 1024],
            log: Log::default(),
            orders,
            words,
            watch: None,
            settling: false,
            ending: None,
            epoch: 0,
        })
    }

    fn client(&self, number: usize, now: Instant) -> Client {
        let is_calm = number < self.calm;
        let path = node(number);
        let frame = codec::set_frame(Xid(0), &path, &codec::filler(self.size.max(8)));
        // Calm clients take turns, so that one of them is always about to send.
        let turn = self.interval.mul_f64(number as f64 / self.calm.max(1) as f64);
        let home = number % self.addrs.len();
        Client {
            home,
            at: home,
            refusals: 0,
            stage: Stage::Away(now),
            stream: None,
            session: (SessionId(0), [0; 16]),
            zxid: 0,
            depth: if number < self.calm + self.lone { 1 } else { self.depth.max(1) },
            due: is_calm.then(|| now + turn),
            number_at: 12 + 4 + path.len() + 4,
            frame,
            xid: 1,
            in_flight: VecDeque::new(),
            out: Vec::new(),
            out_at: 0,
            watching_write: false,
            input: Vec::new(),
            heard: now,
            settled: false,
            book: Book::default(),
        }
    }
}

impl Client {
    /// Appends one set to what it will send.
    fn put(&mut self) {
        let number = self.book.send();
        self.frame[4..8].copy_from_slice(&self.xid.to_be_bytes());
        self.frame[self.number_at..self.number_at + 8].copy_from_slice(&number.to_be_bytes());
        self.out.extend_from_slice(&self.frame);
        self.in_flight.push_back((self.xid, number));
        self.xid = self.xid.wrapping_add(1).max(1);
    }

    /// Puts as many sets as its habit allows now.
    fn refill(&mut self, now: Instant, interval: Duration) {
        match self.due {
            Some(due) if due > now || !self.in_flight.is_empty() => {}
            Some(due) => {
                self.put();
                self.due = Some((due + interval).max(now));
            }
            None => {
                while self.in_flight.len() < self.depth {
                    self.put();
                }
            }
        }
    }

    /// Whether it shall go to its own member before it sends anything more.
    fn wants_home(&self) -> bool {
        self.at != self.home
    }
}

impl AtWork {
    /// Works until it is told to end.
    ///
    /// # Errors
    /// The kernel refuses a socket, or a reply does not belong to the oldest request.
    pub fn run(mut self) -> Result<Log, String> {
        loop {
            let now = Instant::now();
            self.begin_turn(now)?;
            if self.is_over(now) {
                self.log.books = self.clients.iter().map(|client| client.book).collect();
                return Ok(self.log);
            }
            self.poll.wait(Some(NAP)).map_err(|e| format!("epoll_wait: {e}"))?;
            // After the wait and before the events: what an order is about comes after it.
            self.hear()?;
            for i in 0..self.poll.ready_count() {
                let ready = self.poll.ready(i);
                self.event(ready.token, ready.readable, ready.writable)?;
            }
            self.report();
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let idle = self.clients.iter().all(|client| client.in_flight.is_empty());
        self.ending.is_some_and(|since| idle || now - since > DRAIN)
    }

    /// Takes orders.
    fn hear(&mut self) -> Result<(), String> {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Settle) => {
                    self.settling = true;
                    self.clients.iter_mut().for_each(|client| client.settled = false);
                }
                Ok(Order::Watch { begin, victim }) => {
                    let places = self.clients.iter().map(|client| client.at).collect();
                    self.watch = Some(Watch::new(begin, self.epoch, victim, places));
                }
                Ok(Order::End) => self.ending = self.ending.or(Some(Instant::now())),
                Err(TryRecvError::Empty) => return Ok(()),
                // Nobody wants anything more: the other side has failed and says so itself.
                Err(TryRecvError::Disconnected) => {
                    self.ending = self.ending.or(Some(Instant::now()));
                    return Ok(());
                }
            }
        }
    }

    /// Says what is due. Nobody may be listening any more, which is no fault of the crew's.
    fn report(&mut self) {
        if self.settling && self.clients.iter().all(|client| client.settled) {
            self.settling = false;
            let _ = self.words.send(Word::Settled);
        }
        if let Some(watch) = self.watch.take_if(|watch| watch.is_complete()) {
            let _ = self.words.send(Word::Watched(watch));
        }
    }

    /// What the time makes due: dialling, giving up, sending, going home.
    fn begin_turn(&mut self, now: Instant) -> Result<(), String> {
        for index in 0..self.clients.len() {
            let timeout = self.crew.timeout;
            let client = &mut self.clients[index];
            let silence = now.saturating_duration_since(client.heard);
            match client.stage {
                Stage::Away(at) if at <= now => self.dial(index, now),
                Stage::Away(_) => {}
                Stage::Connecting | Stage::Handshake if silence > timeout / 3 => {
                    self.refused(index, now);
                }
                Stage::Connecting | Stage::Handshake => {}
                Stage::Serving if !client.in_flight.is_empty() && silence > timeout * 2 / 3 => {
                    self.lose(index, now);
                }
                Stage::Serving if self.settling && client.wants_home() => {
                    if client.in_flight.is_empty() {
                        client.at = client.home;
                        self.part(index, now);
                    }
                }
                Stage::Serving => {
                    self.send(index, now)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, now: Instant) -> Result<(), String> {
        let client = &mut self.clients[index];
        let is_held = self.ending.is_some() || self.settling && client.wants_home();
        if !is_held {
            client.refill(now, self.crew.interval);
        }
        self.flush(index)
    }

    fn dial(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        let dialled = net::connect_nonblocking(self.crew.addrs[client.at], index);
        let added = dialled.and_then(|stream| {
            self.poll.add(&stream, index, true)?;
            Ok(stream)
        });
        match added {
            Ok(stream) => {
                client.stream = Some(stream);
                client.stage = Stage::Connecting;
                client.watching_write = true;
                client.heard = now;
            }
            Err(_) => self.refused(index, now),
        }
    }

    /// The connection is gone, and what became of the sets in flight is not known.
    fn part(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        client.stream = None;
        client.stage = Stage::Away(now);
        client.in_flight.clear();
        client.out.clear();
        client.out_at = 0;
        client.input.clear();
    }

    /// The connection broke while it was served.
    fn lose(&mut self, index: usize, now: Instant) {
        if let Some(watch) = &mut self.watch {
            watch.lost(index);
        }
        self.refused(index, now);
    }

    /// Goes on to the next member: at once, or after a rest if all have refused. Which one is next
    /// differs from client to client, so that the others share the clients of one that is gone.
    fn refused(&mut self, index: usize, now: Instant) {
        self.part(index, now);
        let members = self.crew.addrs.len();
        let client = &mut self.clients[index];
        let step = if (index / members).is_multiple_of(2) { 1 } else { members - 1 };
        client.at = (client.at + step) % members;
        client.refusals += 1;
        if client.refusals.is_multiple_of(members) {
            client.stage = Stage::Away(now + REST);
        }
    }

    fn event(&mut self, index: usize, readable: bool, writable: bool) -> Result<(), String> {
        let now = Instant::now();
        if self.clients[index].stage == Stage::Connecting {
            if writable {
                self.connected(index, now)?;
            }
            return Ok(());
        }
        if readable {
            self.read(index, now)?;
        }
        if self.clients[index].stage == Stage::Serving {
            self.send(index, now)?;
        }
        Ok(())
    }

    fn connected(&mut self, index: usize, now: Instant) -> Result<(), String> {
        let client = &mut self.clients[index];
        let Some(stream) = &client.stream else { return Ok(()) };
        if !matches!(stream.take_error(), Ok(None)) {
            self.refused(index, now);
            return Ok(());
        }
        let (session, password) = client.session;
        let timeout_ms = i32::try_from(self.crew.timeout.as_millis()).unwrap_or(i32::MAX);
        let hello = codec::connect_frame(session, &password, timeout_ms, Zxid(client.zxid));
        client.out.extend_from_slice(&hello);
        client.stage = Stage::Handshake;
        self.flush(index)
    }

    fn flush(&mut self, index: usize) -> Result<(), String> {
        let client = &mut self.clients[index];
        let Some(stream) = &client.stream else { return Ok(()) };
        match net::flush(stream, &mut client.out, client.out_at) {
            Ok(at) => client.out_at = at,
            // Reading will find the same.
            Err(_) => return Ok(()),
        }
        let full = !client.out.is_empty();
        if full != client.watching_write {
            client.watching_write = full;
            self.poll.modify(stream, index, full).map_err(|e| format!("epoll_ctl: {e}"))?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, now: Instant) -> Result<(), String> {
        let client = &mut self.clients[index];
        let Some(stream) = &mut client.stream else { return Ok(()) };
        match stream.read(&mut self.buf) {
            Ok(n) if n > 0 => client.input.extend_from_slice(&self.buf[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            _ => {
                match client.stage {
                    Stage::Serving => self.lose(index, now),
                    _ => self.refused(index, now),
                }
                return Ok(());
            }
        }
        client.heard = now;
        if client.stage == Stage::Handshake {
            self.welcome(index, now)?;
        }
        if self.clients[index].stage == Stage::Serving {
            self.replies(index, now)?;
        }
        Ok(())
    }

    /// The answer to the connect request, once it is whole.
    fn welcome(&mut self, index: usize, now: Instant) -> Result<(), String> {
        let client = &mut self.clients[index];
        let Some(body) = codec::frame_body(&client.input) else { return Ok(()) };
        let (length, answer) = (body.len() + 4, ConnectResponse::decode(body));
        let answer = answer.map_err(|e| format!("{}: {e}", self.crew.addrs[client.at]))?;
        if answer.session == SessionId(0) {
            self.log.sessions_lost += u64::from(client.session.0 != SessionId(0));
            client.session = (SessionId(0), [0; 16]);
            self.part(index, now);
            return Ok(());
        }
        client.session = (answer.session, answer.password);
        client.input.drain(..length);
        client.stage = Stage::Serving;
        client.refusals = 0;
        Ok(())
    }

    fn replies(&mut self, index: usize, now: Instant) -> Result<(), String> {
        let client = &mut self.clients[index];
        let mut at = 0;
        while let Some(head) = codec::reply_head(&client.input[at..])? {
            let frame = &client.input[at..at + head.frame_len];
            at += head.frame_len;
            if head.xid == XID_NOTIFICATION {
                continue;
            }
            let Some((xid, number)) = client.in_flight.pop_front() else {
                return Err(format!("client {index}: reply {head:?} to no request"));
            };
            if xid != head.xid {
                return Err(format!("client {index}: {head:?} where xid {xid} was due"));
            }
            client.zxid = client.zxid.max(head.zxid);
            let version = frame.get(VERSION_AT..).and_then(|rest| rest.first_chunk::<4>());
            let Some(version) = version.filter(|_| head.err == 0) else {
                *self.log.errors.entry(head.err).or_default() += 1;
                continue;
            };
            client.book.acknowledge(number, u64::from(u32::from_be_bytes(*version)));
            client.settled = !client.wants_home();
            let epoch = head.zxid >> 32;
            self.epoch = self.epoch.max(epoch);
            if let Some(watch) = &mut self.watch {
                watch.acknowledged(index, epoch, now);
            }
        }
        client.input.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew() -> Crew {
        Crew {
            addrs: vec![SocketAddr::from(([127, 0, 0, 1], 1)); 3],
            calm: 2,
            lone: 1,
            pipelined: 1,
            depth: 5,
            interval: Duration::from_millis(10),
            size: 20,
            timeout: Duration::from_secs(6),
        }
    }

    #[test]
    fn each_set_carries_its_number() {
        let mut client = crew().client(3, Instant::now());
        client.refill(Instant::now(), Duration::ZERO);
        assert_eq!(client.in_flight.len(), 5);
        let one = client.frame.len();
        assert_eq!(client.out.len(), 5 * one);
        for (nth, frame) in client.out.chunks(one).enumerate() {
            let number = nth as u64 + 1;
            assert_eq!(frame[4..8], (nth as u32 + 1).to_be_bytes());
            let mut r = ringkeeper::wire::Reader::new(&frame[12..]);
            let set = ringkeeper::wire::SetData::decode_from(&mut r).unwrap();
            assert_eq!(set.path, Some(node(3).as_bytes()));
            let mut body = frame[12 + 4 + node(3).len()..frame.len() - 4].to_vec();
            body.extend_from_slice(&[0; 32]);
            body.extend_from_slice(&7u32.to_be_bytes());
            body.extend_from_slice(&[0; 32]);
            assert_eq!(read_node(&body), Some((number, 7)));
        }
    }

    #[test]
    fn a_calm_client_sends_when_it_is_due_and_has_nothing_on_its_way() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut client = crew().client(1, now);
        client.refill(now, ms(10));
        assert_eq!(client.book.sent, 0, "it is due in the middle of the interval");
        client.refill(now + ms(5), ms(10));
        client.refill(now + ms(30), ms(10));
        assert_eq!(client.book.sent, 1, "the first is on its way");
        client.in_flight.clear();
        client.refill(now + ms(30), ms(10));
        client.in_flight.clear();
        client.refill(now + ms(30), ms(10));
        client.in_flight.clear();
        client.refill(now + ms(31), ms(10));
        assert_eq!(client.book.sent, 3, "what was missed is made up for once");
    }
}
