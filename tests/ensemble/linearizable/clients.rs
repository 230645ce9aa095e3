//! Clients that write and read a few nodes, and note what they see.

use super::super::load::wait_for_answers;
use super::history::{History, Kind, NEVER, Request, Time};
use super::members::Members;
use crate::util::{Client, Jute, Reader, Reply, Session, eventually, op};
use ringkeeper::base::Rng;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nodes.
const KEYS: usize = 5;

/// Clients of each member.
const PER_MEMBER: usize = 2;

/// An answer that takes longer is not waited for: its request is of unknown fate.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Between two requests of a client, so that histories of minutes can be judged.
const PAUSE: Duration = Duration::from_millis(2);

/// Error codes.
const BAD_VERSION: i32 = -103;

fn path(key: usize) -> String {
    format!("/register-{key}")
}

/// What threads and test share.
struct Shared {
    addresses: Vec<SocketAddr>,
    start: Instant,
    answered: AtomicU64,
    is_over: AtomicBool,
}

impl Shared {
    fn now(&self) -> Time {
        Time::try_from(self.start.elapsed().as_nanos()).expect("not that long")
    }
}

/// Lets time pass: nobody ever says anything here.
struct Silence {
    /// As long as it is there, nothing ends the wait.
    _sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Silence {
    fn new() -> Silence {
        let (sender, receiver) = channel();
        Silence { _sender: sender, receiver }
    }

    fn lasts(&self, time: Duration) {
        let said = self.receiver.recv_timeout(time);
        assert!(said.is_err(), "somebody said something");
    }
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<Vec<Request>>>,
    silence: Silence,
}

impl Clients {
    /// Makes the nodes, and begins.
    pub fn start(addresses: Vec<SocketAddr>) -> Clients {
        let mut maker = Client::connect(addresses[0], Duration::from_secs(600));
        for key in 0..KEYS {
            maker.create(&path(key), &0_u64.to_be_bytes(), 0).ok();
        }
        let count = addresses.len() * PER_MEMBER;
        let shared = Arc::new(Shared {
            addresses,
            start: Instant::now(),
            answered: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let spawn = |id: usize| {
            let worker = Worker::new(id, Arc::clone(&shared));
            std::thread::spawn(move || worker.run())
        };
        let running = (0..count).map(spawn).collect();
        Clients { shared, running, silence: Silence::new() }
    }

    /// Lets time pass.
    pub fn go_on_for(&self, time: Duration) {
        self.silence.lasts(time);
    }

    /// Waits until `more` requests are answered from now on, or a client has ended.
    pub fn wait_for(&self, more: u64) {
        wait_for_answers(&self.shared.answered, more, &self.running);
    }

    /// Ends all, and reads every node at every member once more. All members serve.
    pub fn end(self, members: &Members) -> History {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut requests = Vec::new();
        for client in self.running {
            requests.extend(client.join().expect("a client"));
        }
        for (at, address) in members.addresses().into_iter().enumerate() {
            let mut last = Worker::new(1_000 + at, Arc::clone(&self.shared));
            let mut client = Client::connect(address, Duration::from_secs(600));
            for key in 0..KEYS {
                last.read(&mut client, key).expect("all members serve");
            }
            requests.extend(last.seen);
        }
        History { requests }
    }
}

/// One client.
struct Worker {
    id: usize,
    shared: Arc<Shared>,
    rng: Rng,
    session: Session,
    last_zxid: i64,
    /// The last version of each node that this client has seen, over all its sessions.
    known: [i32; KEYS],
    /// The same in this session, which never goes back.
    in_session: [i32; KEYS],
    next: u64,
    seen: Vec<Request>,
    silence: Silence,
}

impl Worker {
    fn new(id: usize, shared: Arc<Shared>) -> Worker {
        Worker {
            id,
            rng: Rng::new(shared.now() ^ ((id as u64) << 40)),
            shared,
            session: Worker::fresh(),
            last_zxid: 0,
            known: [0; KEYS],
            in_session: [0; KEYS],
            next: 0,
            seen: Vec::new(),
            silence: Silence::new(),
        }
    }

    fn fresh() -> Session {
        Session { id: 0, password: vec![0; 16], timeout_ms: 20_000, read_only: false }
    }

    fn run(mut self) -> Vec<Request> {
        let mut at = self.id;
        while let Some(mut client) = self.connect(&mut at) {
            while !self.is_over() && self.ask(&mut client).is_ok() {
                self.silence.lasts(PAUSE);
            }
            (self.session, self.last_zxid) = client.abandon();
            at += 1;
        }
        self.seen
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
    }

    /// A connection to the next member that takes one; none if all is over.
    fn connect(&mut self, at: &mut usize) -> Option<Client> {
        let client = eventually("a member takes a client", || {
            if self.is_over() {
                return Some(None);
            }
            let address = self.shared.addresses[*at % self.shared.addresses.len()];
            *at += 1;
            match Client::handshake(address, &self.session, self.last_zxid) {
                Ok(client) if client.session.id != 0 => Some(Some(client)),
                // The session is over, and with it what it was promised.
                Ok(_) => {
                    (self.session, self.in_session) = (Worker::fresh(), [0; KEYS]);
                    None
                }
                Err(_) => None,
            }
        })?;
        client.link().set_read_timeout(Some(ANSWER_PATIENCE)).expect("a timeout");
        Some(client)
    }

    fn ask(&mut self, client: &mut Client) -> io::Result<()> {
        let key = self.rng.below(KEYS as u64) as usize;
        match self.rng.below(10) {
            0..3 => self.write(client, key, None),
            3..6 => self.write(client, key, Some(self.known[key])),
            6..9 => self.read(client, key),
            _ => self.read_plainly(client, key),
        }
    }

    fn note(&mut self, key: usize, began: Time, kind: Kind, reply: Option<&Reply>) {
        let ended = reply.map_or(NEVER, |_| self.shared.now());
        let zxid = reply.map_or(0, |reply| reply.zxid);
        self.seen.push(Request { client: self.id, key, began, ended, kind, zxid });
        self.shared.answered.fetch_add(u64::from(reply.is_some()), Ordering::Relaxed);
    }

    fn saw(&mut self, key: usize, version: i32) {
        let last = self.in_session[key];
        assert!(version >= last, "client {}: version {version} after {last}", self.id);
        self.in_session[key] = version;
        self.known[key] = version;
    }

    fn write(&mut self, client: &mut Client, key: usize, expected: Option<i32>) -> io::Result<()> {
        self.next += 1;
        let value = (self.id as u64 + 1) << 40 | self.next;
        let body = Jute::new().string(&path(key)).buffer(&value.to_be_bytes());
        let began = self.shared.now();
        let answer = client.try_request(op::SET_DATA, &body.int(expected.unwrap_or(-1)));
        let unknown = Kind::Write { value, expected, version: None };
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) => {
                self.note(key, began, unknown, None);
                return Err(error);
            }
        };
        match (reply.err, expected) {
            (0, _) => {
                let version = Reader(&reply.body).stat().version;
                let kind = Kind::Write { value, expected, version: Some(version) };
                self.note(key, began, kind, Some(&reply));
                self.saw(key, version);
                Ok(())
            }
            (BAD_VERSION, Some(expected)) => {
                self.note(key, began, Kind::Refused { expected }, Some(&reply));
                // Whatever it is by now, it is another one.
                self.read(client, key)
            }
            // Nothing was done, and the session goes on elsewhere, or not at all.
            (code, _) => Err(io::Error::other(format!("error {code}"))),
        }
    }

    /// A `sync` and a read, which together see everything that had ended before.
    fn read(&mut self, client: &mut Client, key: usize) -> io::Result<()> {
        let began = self.shared.now();
        client.try_send(op::SYNC, &Jute::new().string(&path(key)))?;
        client.try_send(op::GET_DATA, &Jute::new().string(&path(key)).bool(false))?;
        let (synced, reply) = (client.try_receive()?, client.try_receive()?);
        if synced.err != 0 || reply.err != 0 {
            return Err(io::Error::other(format!("errors {} and {}", synced.err, reply.err)));
        }
        let (value, version) = data(&reply);
        self.note(key, began, Kind::Read { value, version }, Some(&reply));
        self.saw(key, version);
        Ok(())
    }

    /// May be old, but never older than what this session has seen.
    fn read_plainly(&mut self, client: &mut Client, key: usize) -> io::Result<()> {
        let body = Jute::new().string(&path(key)).bool(false);
        let reply = client.try_request(op::GET_DATA, &body)?;
        if reply.err != 0 {
            return Err(io::Error::other(format!("error {}", reply.err)));
        }
        let (_, version) = data(&reply);
        self.saw(key, version);
        Ok(())
    }
}

/// Value and version.
fn data(reply: &Reply) -> (u64, i32) {
    let mut body = reply.ok();
    let value = body.buffer().expect("data").try_into().expect("8 bytes");
    (u64::from_be_bytes(value), body.stat().version)
}
