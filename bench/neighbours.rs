//! Lone clients: each has a node of its own and sends gets and sets of it in turn, one request at a
//! time. How long they wait says how much a busy neighbour costs.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringkeeper::base::Xid;
use ringkeeper::wire::OpCode;
use serde_json::{Value, json};

use crate::admin;
use crate::codec;
use crate::net::Poll;
use crate::stats::{Latency, round3};

const SESSION_TIMEOUT_MS: i32 = 120_000;
const DATA_BYTES: usize = 100;

/// How long the clients waited. A request counts if it was *sent* inside the window, even if its
/// reply came after the end, so that a stall longer than the window is not lost.
pub struct Waits {
    /// Latencies of gets.
    pub get: Latency,
    /// Latencies of sets.
    pub set: Latency,
    /// Replies inside the window.
    pub completed: u64,
    /// Requests without a reply when patience ended; each counts with its wait until then.
    pub unanswered: u64,
    /// Replies with an error code.
    pub errors: u64,
    /// Connections that the server closed.
    pub lost: u64,
    /// Length of the window.
    pub seconds: f64,
}

impl Waits {
    fn new(window: Duration) -> Waits {
        Waits {
            get: Latency::new(),
            set: Latency::new(),
            completed: 0,
            unanswered: 0,
            errors: 0,
            lost: 0,
            seconds: window.as_secs_f64(),
        }
    }

    fn record(&mut self, is_set: bool, wait: Duration) {
        let ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let latency = if is_set { &mut self.set } else { &mut self.get };
        latency.record(ns, 1);
    }

    /// All figures.
    pub fn json(&self) -> Value {
        json!({
            "get": self.get.json(),
            "set": self.set.json(),
            "ops_per_s": (self.completed as f64 / self.seconds).round(),
            "unanswered": self.unanswered,
            "errors": self.errors,
            "lost": self.lost,
            "seconds": round3(self.seconds),
        })
    }
}

struct Client {
    /// `None` after the server has closed it.
    stream: Option<TcpStream>,
    get: Vec<u8>,
    set: Vec<u8>,
    is_set: bool,
    sent: Instant,
    input: Vec<u8>,
    waiting: bool,
}

/// Clients that each have one request in flight.
pub struct Neighbours {
    poll: Poll,
    clients: Vec<Client>,
    buf: Vec<u8>,
}

impl Neighbours {
    /// Opens `count` sessions; their nodes are `root/n…`, below a node that exists.
    pub fn new(addr: SocketAddr, count: usize, root: &str) -> Result<Neighbours, String> {
        let path = |i: usize| format!("{root}/n{i}");
        let mut admin = admin::Admin::connect(addr)?;
        admin.create_all((0..count).map(path))?;
        let data = codec::filler(DATA_BYTES);
        for i in 0..count {
            admin.call(|xid| codec::set_frame(xid, &path(i), &data))?;
        }
        admin.close();
        let poll = Poll::new(count).map_err(|e| e.to_string())?;
        let mut clients = Vec::with_capacity(count);
        for i in 0..count {
            let mut stream = admin::dial(addr, SESSION_TIMEOUT_MS)?;
            admin::finish_handshake(addr, &mut stream)?;
            stream.set_nonblocking(true).map_err(|e| e.to_string())?;
            poll.add(&stream, i, false).map_err(|e| e.to_string())?;
            clients.push(Client {
                stream: Some(stream),
                get: codec::read_frame(Xid(1), OpCode::GetData, &path(i), false),
                set: codec::set_frame(Xid(1), &path(i), &data),
                // Half begin with a get, half with a set.
                is_set: i % 2 == 1,
                sent: Instant::now(),
                input: Vec::new(),
                waiting: false,
            });
        }
        Ok(Neighbours { poll, clients, buf: vec![0; 4096] })
    }

    /// Sends and waits for `window`; calls `over` at its end, and waits up to `patience` for what
    /// is then still unanswered.
    pub fn measure(
        &mut self,
        window: Duration,
        patience: Duration,
        over: impl FnOnce(),
    ) -> Result<Waits, String> {
        let mut waits = Waits::new(window);
        let end = Instant::now() + window;
        for i in 0..self.clients.len() {
            self.ask(i, &mut waits);
        }
        while Instant::now() < end && self.is_waiting() {
            self.turn(&mut waits, Some(end))?;
        }
        over();
        while self.is_waiting() && end.elapsed() < patience {
            self.turn(&mut waits, None)?;
        }
        for client in self.clients.iter_mut().filter(|client| client.waiting) {
            client.waiting = false;
            waits.unanswered += 1;
            waits.record(client.is_set, client.sent.elapsed());
        }
        Ok(waits)
    }

    fn is_waiting(&self) -> bool {
        self.clients.iter().any(|client| client.waiting)
    }

    fn ask(&mut self, i: usize, waits: &mut Waits) {
        let client = &mut self.clients[i];
        client.is_set = !client.is_set;
        let frame = if client.is_set { &client.set } else { &client.get };
        client.sent = Instant::now();
        let Some(stream) = &mut client.stream else { return };
        // One small request is in flight at a time, so the socket has room for it.
        client.waiting = stream.write_all(frame).is_ok();
        if !client.waiting {
            client.stream = None;
            waits.lost += 1;
        }
    }

    /// Takes replies; until `end` each is followed by the next request.
    fn turn(&mut self, waits: &mut Waits, end: Option<Instant>) -> Result<(), String> {
        let pause = Duration::from_millis(10);
        self.poll.wait(Some(pause)).map_err(|e| e.to_string())?;
        for nth in 0..self.poll.ready_count() {
            let i = self.poll.ready(nth).token;
            let client = &mut self.clients[i];
            let Some(stream) = &mut client.stream else { continue };
            match stream.read(&mut self.buf) {
                Ok(n) if n > 0 => client.input.extend_from_slice(&self.buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                _ => {
                    client.waiting = false;
                    client.stream = None;
                    waits.lost += 1;
                    continue;
                }
            }
            let Some(head) = codec::reply_head(&client.input)? else { continue };
            client.input.drain(..head.frame_len);
            let now = Instant::now();
            waits.record(client.is_set, now - client.sent);
            waits.errors += u64::from(head.err != 0);
            client.waiting = false;
            if end.is_some_and(|end| now < end) {
                waits.completed += 1;
                self.ask(i, waits);
            }
        }
        Ok(())
    }
}
