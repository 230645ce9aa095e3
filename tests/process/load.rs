//! Pipelined writers that remember what was acknowledged, and the check that it is all there.

use crate::util::{Client, Jute, Reader, Server, Session, op};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Requests under way at a time on each connection.
const WINDOW: usize = 64;

/// What one request did; its number makes every path, value and ACL unique.
#[derive(Clone, Copy, Debug)]
enum Did {
    Create(u64),
    /// Of the writer's counter, to this number.
    Count(u64),
    SetAcl(u64),
    Delete(u64),
}

/// The requests cycle through these; 4 creates, of which one gets an ACL and one is deleted.
fn step(number: u64) -> Did {
    match number % 8 {
        2 | 6 => Did::Count(number),
        4 => Did::SetAcl(number - 1),
        7 => Did::Delete(number - 2),
        _ => Did::Create(number),
    }
}

fn path(writer: usize, number: u64) -> String {
    format!("/load/{writer}/{number:08}")
}

fn counter(writer: usize) -> String {
    format!("/load/{writer}/counter")
}

fn value(number: u64) -> Vec<u8> {
    format!("{number}:").repeat(8).into_bytes()
}

fn acl(number: u64) -> [(i32, String); 1] {
    [(31, format!("user{number}:hash"))]
}

fn request(writer: usize, did: Did) -> (i32, Jute) {
    match did {
        Did::Create(n) => {
            let body = Jute::new().string(&path(writer, n)).buffer(&value(n)).open_acl().int(0);
            (op::CREATE2, body)
        }
        Did::Count(n) => {
            let body = Jute::new().string(&counter(writer)).buffer(&value(n)).int(-1);
            (op::SET_DATA, body)
        }
        Did::SetAcl(n) => {
            // Readable for all, so that the check can look at it.
            let [(perms, user)] = acl(n);
            let list = [(1, "world", "anyone"), (perms, "ip", "127.0.0.1"), (31, "digest", &user)];
            (op::SET_ACL, Jute::new().string(&path(writer, n)).acl(&list).int(-1))
        }
        Did::Delete(n) => (op::DELETE, Jute::new().string(&path(writer, n)).int(-1)),
    }
}

/// One writer's memory across rounds.
struct Writer {
    id: usize,
    next: u64,
    /// Requests that were answered, with the zxid of the answer.
    acknowledged: Vec<(Did, i64)>,
    /// Requests whose answer never came: each may have happened or not.
    open: Vec<Did>,
}

impl Writer {
    /// Writes until the connection ends or `stop` is reached.
    fn run(&mut self, mut client: Client, stop: u64, answered: &AtomicU64) {
        let mut under_way = VecDeque::new();
        loop {
            if under_way.len() < WINDOW && self.next < stop {
                let did = step(self.next);
                let (op, body) = request(self.id, did);
                match client.try_send(op, &body) {
                    Ok(xid) => under_way.push_back((xid, did)),
                    Err(_) => break,
                }
                self.next += 1;
                continue;
            }
            let Some(&(xid, did)) = under_way.front() else { break };
            let Ok(reply) = client.try_receive() else { break };
            assert_eq!(reply.xid, xid, "replies come in the order of requests");
            // What depends on a request that a crash swallowed may fail.
            assert!(
                reply.err == 0
                    || matches!((did, reply.err), (Did::SetAcl(_) | Did::Delete(_), -101)),
                "{did:?} failed with {}",
                reply.err
            );
            under_way.pop_front();
            if reply.err == 0 {
                self.acknowledged.push((did, reply.zxid));
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
        self.open.extend(under_way.into_iter().map(|(_, did)| did));
        // The next round begins with a whole cycle.
        self.next = self.next.next_multiple_of(8);
    }
}

/// Several writers and a session with ephemeral nodes.
pub struct Load {
    writers: Vec<Arc<Mutex<Writer>>>,
    running: Vec<JoinHandle<()>>,
    answered: Arc<AtomicU64>,
    holder: Session,
    ephemerals: usize,
}

impl Load {
    /// Makes the parents and the session that must survive.
    pub fn prepare(server: &Server, writers: usize) -> Load {
        let mut client = server.connect();
        client.create("/load", b"", 0).ok();
        for writer in 0..writers {
            client.create(&format!("/load/{writer}"), b"", 0).ok();
            client.create(&counter(writer), b"0", 0).ok();
        }
        client.close();
        let mut holder = server.connect();
        holder.create("/mine", b"", 0).ok();
        let load = |id| Writer { id, next: 1, acknowledged: Vec::new(), open: Vec::new() };
        Load {
            writers: (0..writers).map(|id| Arc::new(Mutex::new(load(id)))).collect(),
            running: Vec::new(),
            answered: Arc::new(AtomicU64::new(0)),
            holder: holder.abandon().0,
            ephemerals: 0,
        }
    }

    /// Starts the writers; each ends with its connection, or after `requests` more.
    pub fn start(&mut self, server: &Server, requests: u64) {
        for writer in &self.writers {
            let (writer, answered) = (Arc::clone(writer), Arc::clone(&self.answered));
            let client = server.connect();
            self.running.push(std::thread::spawn(move || {
                let mut writer = writer.lock().expect("writer");
                let stop = writer.next + requests;
                writer.run(client, stop, &answered);
            }));
        }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests have been answered in all, or the writers have ended.
    pub fn wait_for(&self, count: u64) {
        crate::util::eventually("requests are answered", || {
            let over = self.running.iter().all(JoinHandle::is_finished);
            (over || self.answered() >= count).then_some(())
        });
    }

    /// Waits until every writer has ended.
    pub fn join(&mut self) {
        for thread in self.running.drain(..) {
            thread.join().expect("a writer");
        }
    }

    /// Reads everything back: what was acknowledged must be there, and nothing that was never
    /// asked for.
    pub fn verify(&mut self, server: &Server) {
        for writer in &self.writers {
            let writer = writer.lock().expect("writer");
            writer.verify(&mut server.connect());
        }
        self.verify_session(server);
    }

    /// The session is the same, and so are its nodes; adds one more.
    fn verify_session(&mut self, server: &Server) {
        let mut holder = Client::reconnect(server.address(), &self.holder, 0);
        assert_eq!(holder.session.id, self.holder.id, "the session was lost");
        let names = holder.children("/mine", false);
        assert_eq!(names.len(), self.ephemerals, "ephemeral nodes of a live session: {names:?}");
        for name in names {
            let (_, stat) = holder.get(&format!("/mine/{name}"));
            assert_eq!(stat.ephemeral_owner, self.holder.id);
        }
        let name = format!("/mine/e{}", self.ephemerals);
        holder.create(&name, b"", 1).ok();
        self.ephemerals += 1;
    }
}

impl Writer {
    fn verify(&self, client: &mut Client) {
        use std::collections::BTreeMap;
        let mut deleted: BTreeMap<u64, bool> = BTreeMap::new();
        let mut created = BTreeMap::new();
        let mut counted = 0;
        let mut acls = Vec::new();
        for (did, zxid) in &self.acknowledged {
            match did {
                Did::Create(n) => drop(created.insert(*n, *zxid)),
                Did::Count(n) => counted = counted.max(*n),
                Did::SetAcl(n) => acls.push(*n),
                Did::Delete(n) => drop(deleted.insert(*n, true)),
            }
        }
        let mut maybe = 0;
        for did in &self.open {
            match did {
                Did::Delete(n) => drop(deleted.insert(*n, false)),
                Did::Count(n) => maybe = maybe.max(*n),
                Did::Create(_) | Did::SetAcl(_) => {}
            }
        }
        let asked: Vec<_> = created.into_iter().collect();
        pipelined(client, &asked, |(n, _)| {
            (op::GET_DATA, Jute::new().string(&path(self.id, *n)).bool(false))
        })
        .zip(&asked)
        .for_each(|((err, body), (n, zxid))| match (deleted.get(n), err) {
            (Some(true), err) => assert_eq!(err, -101, "{}: deleted, and back", path(self.id, *n)),
            (Some(false), -101) => {}
            (_, err) => {
                assert_eq!(err, 0, "{}: acknowledged, and lost", path(self.id, *n));
                let mut body = Reader(&body);
                assert_eq!(body.buffer(), Some(&value(*n)[..]));
                assert_eq!(body.stat().czxid, *zxid, "{}", path(self.id, *n));
            }
        });
        pipelined(client, &acls, |n| (op::GET_ACL, Jute::new().string(&path(self.id, *n))))
            .zip(&acls)
            .for_each(|((err, body), n)| {
                assert_eq!(err, 0, "{}", path(self.id, *n));
                let found = Reader(&body).acl();
                assert_eq!(found.len(), 3, "{}: {found:?}", path(self.id, *n));
                assert_eq!(found[2].2, acl(*n)[0].1, "{}", path(self.id, *n));
            });
        let (found, _) = client.get(&counter(self.id));
        let text = String::from_utf8(found).expect("digits");
        let found: u64 = text.split(':').next().and_then(|t| t.parse().ok()).expect("a number");
        assert!(
            found >= counted && found <= counted.max(maybe),
            "the counter of {} is {found}; acknowledged {counted}, asked for {maybe}",
            self.id
        );
    }
}

/// The error codes and bodies of many requests, a window of them at a time.
fn pipelined<T>(
    client: &mut Client,
    items: &[T],
    request: impl Fn(&T) -> (i32, Jute),
) -> std::vec::IntoIter<(i32, Vec<u8>)> {
    let mut answers = Vec::with_capacity(items.len());
    for window in items.chunks(256) {
        for item in window {
            let (op, body) = request(item);
            client.send(op, body);
        }
        answers.extend(window.iter().map(|_| client.receive()).map(|r| (r.err, r.body)));
    }
    answers.into_iter()
}
