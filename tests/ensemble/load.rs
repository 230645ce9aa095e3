//! Clients that write on and on, whatever happens to members, and remember what was acknowledged.

use super::cluster::Ensemble;
use crate::util::{Client, Jute, Reader, Session, eventually, op};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Requests under way at a time on each connection.
const WINDOW: usize = 8;

/// Of one writer, so that the check at the end is short.
const MOST_WRITES: u64 = 100_000;

/// What threads and test share.
struct Shared {
    addresses: Vec<SocketAddr>,
    /// Requests answered by all writers.
    answered: AtomicU64,
    is_over: AtomicBool,
}

/// One client: its session moves from member to member, its node numbers go up.
struct Writer {
    id: usize,
    session: Session,
    last_zxid: i64,
    next: u64,
    /// Node number and zxid of each write that was acknowledged.
    acknowledged: Vec<(u64, i64)>,
    /// Node numbers, by connection, whose answer never came: each may exist or not.
    open: Vec<Vec<u64>>,
}

impl Writer {
    /// Creates nodes until the load is over; starts at the member of its own number.
    fn run(mut self, shared: &Shared) -> Writer {
        let mut member = self.id;
        while let Some(client) = self.connect(&mut member, shared) {
            assert_eq!(client.session.id, self.session.id, "the session was lost");
            self.write(client, shared);
        }
        self
    }

    /// A connection to the member that took the last one, or to the next that takes one; none if
    /// the load is over.
    fn connect(&self, member: &mut usize, shared: &Shared) -> Option<Client> {
        eventually("a member takes a writer", || {
            if self.is_done(shared) {
                return Some(None);
            }
            let address = shared.addresses[*member % shared.addresses.len()];
            let client = Client::handshake(address, &self.session, self.last_zxid);
            if client.is_err() {
                *member += 1;
            }
            client.ok().map(Some)
        })
    }

    fn is_done(&self, shared: &Shared) -> bool {
        shared.is_over.load(Ordering::Relaxed) || self.next == MOST_WRITES
    }

    /// Writes until the connection ends or the load is over.
    fn write(&mut self, mut client: Client, shared: &Shared) {
        let mut under_way = VecDeque::new();
        loop {
            if under_way.len() < WINDOW && !self.is_done(shared) {
                let number = self.next;
                self.next += 1;
                under_way.push_back(number);
                let body = Jute::new().string(&self.path(number)).buffer(&value(number));
                let body = body.open_acl().int(0);
                if client.try_send(op::CREATE2, &body).is_err() {
                    break;
                }
                continue;
            }
            if under_way.is_empty() {
                break;
            }
            let Ok(reply) = client.try_receive() else { break };
            let number = under_way.pop_front().expect("it was not empty");
            assert_eq!(reply.err, 0, "creating {}", self.path(number));
            self.acknowledged.push((number, reply.zxid));
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        self.open.push(under_way.into());
        (self.session, self.last_zxid) = client.abandon();
    }

    fn path(&self, number: u64) -> String {
        format!("{}/{number:08}", parent(self.id))
    }

    /// The zxid of the transaction that created each node; none where there is no such node.
    fn creations(&self, client: &mut Client) -> Vec<Option<i64>> {
        let numbers: Vec<u64> = (0..self.next).collect();
        let mut found = Vec::with_capacity(numbers.len());
        for window in numbers.chunks(256) {
            for number in window {
                let body = Jute::new().string(&self.path(*number)).bool(false);
                client.send(op::GET_DATA, body);
            }
            for number in window {
                let reply = client.receive();
                if reply.err == -101 {
                    found.push(None);
                    continue;
                }
                let mut body: Reader<'_> = reply.ok();
                assert_eq!(body.buffer(), Some(&value(*number)[..]), "{}", self.path(*number));
                found.push(Some(body.stat().czxid));
            }
        }
        found
    }

    /// Reads everything back. The order of a client's writes shows in two ways: zxids go up with
    /// the numbers, and of the writes that a connection left unanswered the first few exist.
    fn verify(&self, client: &mut Client) {
        let found = self.creations(client);
        for (number, zxid) in &self.acknowledged {
            let at = usize::try_from(*number).expect("a small number");
            let path = self.path(*number);
            assert_eq!(found[at], Some(*zxid), "{path} was acknowledged at 0x{zxid:x}");
        }
        let zxids: Vec<i64> = found.iter().copied().flatten().collect();
        let disorder = zxids.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(disorder, None, "writer {}: a later write came first", self.id);
        for open in &self.open {
            let exist = open.iter().map(|n| found[usize::try_from(*n).expect("small")].is_some());
            let gap = exist.collect::<Vec<_>>().windows(2).any(|pair| !pair[0] && pair[1]);
            assert!(!gap, "writer {}: one of {open:?} was left out", self.id);
        }
        let (_, stat) = client.get(&ephemeral(self.id));
        assert_eq!(stat.ephemeral_owner, self.session.id, "the session's own node");
    }
}

fn parent(writer: usize) -> String {
    format!("/load-{writer}")
}

fn ephemeral(writer: usize) -> String {
    format!("/alive-{writer}")
}

fn value(number: u64) -> Vec<u8> {
    format!("{number}:").repeat(8).into_bytes()
}

/// A writer for each member, each in a thread.
pub struct Load {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<Writer>>,
}

/// Waits until `answered` has grown by `more`, or one of the threads that count it has ended.
pub fn wait_for_answers<T>(answered: &AtomicU64, more: u64, running: &[JoinHandle<T>]) {
    let target = answered.load(Ordering::Relaxed) + more;
    eventually("requests are answered", || {
        let is_ended = running.iter().any(JoinHandle::is_finished);
        let is_enough = answered.load(Ordering::Relaxed) >= target;
        (is_ended || is_enough).then_some(())
    });
}

impl Load {
    /// Makes sessions and parents, and starts to write.
    pub fn start(ensemble: &Ensemble) -> Load {
        let addresses = ensemble.addresses();
        let writer = |id| {
            let mut client = ensemble.connect(id);
            client.create(&parent(id), b"", 0).ok();
            client.create(&ephemeral(id), b"", 1).ok();
            let (session, last_zxid) = client.abandon();
            Writer { id, session, last_zxid, next: 0, acknowledged: vec![], open: vec![] }
        };
        let writers: Vec<Writer> = (0..addresses.len()).map(writer).collect();
        let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { addresses, answered, is_over });
        let spawn = |writer: Writer| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || writer.run(&shared))
        };
        let running = writers.into_iter().map(spawn).collect();
        Load { shared, running }
    }

    /// Waits until `more` requests were answered from now on, or a writer has ended.
    pub fn wait_for(&self, more: u64) {
        wait_for_answers(&self.shared.answered, more, &self.running);
    }

    /// Tells the writers to end with their connection, or when all is answered.
    pub fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits until the writers have ended, and checks what they wrote, at each member.
    pub fn verify(self, ensemble: &Ensemble) {
        self.end();
        let mut acknowledged = 0;
        for writer in self.running {
            let writer = writer.join().expect("a writer");
            acknowledged += writer.acknowledged.len();
            let mut client = ensemble.connect(writer.id);
            client.sync("/");
            writer.verify(&mut client);
            ensemble.assert_equal(&parent(writer.id));
        }
        assert!(acknowledged > 0, "nothing was written");
        eprintln!("{acknowledged} writes acknowledged");
    }
}
