//! Runs a history on one server, or on the members of an ensemble, and writes down everything that
//! its clients saw.
//!
//! Invariant: a step ends with a `sync` at every member and on every open connection, so that
//! notifications of the step belong to the step, and the next one sees its effects everywhere. That
//! makes the record a function of history and server state only.

use crate::codec::{Input, Writer};
use crate::decode::{Normalizer, password_of};
use crate::history::{self, Action, Connect, Identity, Op, Request, SLOTS, Seen, Since};
use crate::link::{Canary, Incoming, Link, PATIENCE};
use crate::requests;
use crate::words;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Timeout of sessions that are meant to expire.
pub const EXPIRY_MS: i32 = 1000;
const EXPIRY: Duration = Duration::from_secs(1);

const SYNC_XID: i32 = 0x7fff_0001;
const SYNC: i32 = 9;
const CLOSE_SESSION: i32 = -11;
const AUTH: i32 = 100;
const PING: i32 = 11;
const PING_XID: i32 = -2;
const AUTH_FAILED: i32 = -115;
const SUPER_USER: &str = "super:admin";

/// [`Step::index`] of the last step: the whole state after the history.
pub const AT_THE_END: usize = usize::MAX;

/// What clients saw during one step.
#[derive(Clone, Debug)]
pub struct Step {
    /// [`Op::index`].
    pub index: usize,
    /// Lines of text, normalized.
    pub lines: Vec<String>,
    /// How long it took, to tell a slow machine from a wrong answer.
    pub took: Duration,
}

/// How a history is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Parent of every node that the history uses.
    pub root: String,
    /// Zxids are compared as they are, not relative to the start (both servers are fresh).
    pub is_zxid_absolute: bool,
    /// Change that is made to one received frame.
    pub canary: Canary,
}

#[derive(Default)]
struct Slot {
    link: Option<Link>,
    session: Option<i64>,
    // Where the connection leads, or led.
    member: usize,
    // The last zxid in an answer to this client.
    seen: i64,
}

/// Runs `ops` at the servers with these addresses, of which the first leads, and cleans up after
/// them. Fails only if a server cannot be reached or used at all; what happened until then is in
/// `steps`.
pub fn run(
    addresses: &[SocketAddr],
    ops: &[&Op],
    options: &Options,
    steps: &mut Vec<Step>,
) -> io::Result<()> {
    let mut controls: Vec<Control> =
        addresses.iter().copied().map(Control::open).collect::<io::Result<_>>()?;
    let base = leader(&mut controls)?.create(&options.root)?;
    let base = if options.is_zxid_absolute { 0 } else { base };
    let mut runner = Runner {
        addresses,
        controls,
        place: 0,
        slots: Default::default(),
        normalizer: Normalizer::new(base, now_ms()),
        last_zxid: base,
        sessions: Vec::new(),
        canary: options.canary,
        lines: Vec::new(),
    };
    for op in ops {
        let began = Instant::now();
        let outcome = runner.step(op);
        let lines = std::mem::take(&mut runner.lines);
        steps.push(Step { index: op.index, lines, took: began.elapsed() });
        outcome?;
    }
    let began = Instant::now();
    let mut lines = Vec::new();
    let Runner { mut controls, mut normalizer, slots, sessions, .. } = runner;
    for control in &mut controls {
        control.sync()?;
        for top in [options.root.as_str(), "/zookeeper"] {
            control.state(top, &mut normalizer, &mut lines)?;
        }
    }
    steps.push(Step { index: AT_THE_END, lines, took: began.elapsed() });
    drop(slots);
    for session in sessions {
        close_session(addresses[0], session)?;
    }
    leader(&mut controls)?.clean_up()?;
    controls.iter_mut().try_for_each(Control::close)
}

/// The connection to the leader, or to the only server.
fn leader(controls: &mut [Control]) -> io::Result<&mut Control> {
    controls.first_mut().ok_or_else(|| io::Error::other("no server"))
}

struct Runner<'a> {
    addresses: &'a [SocketAddr],
    // One for each server.
    controls: Vec<Control>,
    // The server that the current step connects to.
    place: usize,
    slots: [Slot; SLOTS],
    normalizer: Normalizer,
    last_zxid: i64,
    sessions: Vec<i64>,
    canary: Canary,
    lines: Vec<String>,
}

impl Runner<'_> {
    fn step(&mut self, op: &Op) -> io::Result<()> {
        self.place = history::place(op, self.addresses.len());
        match &op.action {
            Action::Connect(connect) => self.connect(op.slot, connect, &[])?,
            Action::Eager(connect, requests) => self.connect(op.slot, connect, requests)?,
            Action::Disconnect => self.disconnect(op.slot)?,
            Action::Call(request) => self.call(op.slot, std::slice::from_ref(request))?,
            Action::Burst(requests) => self.call(op.slot, requests)?,
            Action::Expire(requests) => self.expire(op.slot, requests)?,
            Action::Raw(bytes, _) => {
                self.ensure_connected(op.slot)?;
                self.raw(op.slot, bytes);
            }
            Action::Hello(bytes, _) => self.hello(bytes)?,
            Action::Word(word) => {
                self.controls[self.place].sync()?;
                let answer = words::ask(self.address(), word)?;
                let answer = words::shape(word, &answer, &mut self.normalizer);
                self.lines.extend(answer.into_iter().map(|line| format!("word {line}")));
            }
        }
        self.barrier(op)
    }

    fn address(&self) -> SocketAddr {
        self.addresses[self.place]
    }

    fn note(&mut self, slot: usize, text: &str) {
        self.lines.push(format!("c{slot} {text}"));
    }

    /// A handshake, with `requests` in the same write.
    fn connect(&mut self, slot: usize, connect: &Connect, requests: &[Request]) -> io::Result<()> {
        let asked_of =
            |of: usize, slots: &[Slot; SLOTS]| slots[of % SLOTS].session.unwrap_or(0x1234);
        let (session, password) = match connect.identity {
            Identity::New => (0, vec![0; 16]),
            Identity::Unknown => (0x77, password_of(0x77).to_vec()),
            Identity::Slot(of) => {
                let id = asked_of(of, &self.slots);
                (id, password_of(id).to_vec())
            }
            Identity::WrongPassword(of) => (asked_of(of, &self.slots), vec![7; 16]),
            Identity::ShortPassword(of) => {
                let id = asked_of(of, &self.slots);
                (id, password_of(id)[..8].to_vec())
            }
        };
        if self.slots[slot].link.is_some() {
            self.disconnect(slot)?;
        }
        let seen = match connect.seen {
            Seen::Zero => 0,
            Seen::Last => self.last_zxid,
            Seen::Ahead => self.last_zxid + 1_000_000,
        };
        let mut record = Writer::new().int(0).long(seen).int(connect.timeout_ms).long(session);
        record = record.buffer(Some(&password));
        if let Some(byte) = connect.read_only {
            record = record.byte(byte);
        }
        let mut link = Link::open(self.address(), self.canary.patience())?;
        let seen = self.slots[slot].seen;
        let behind = requests.iter().flat_map(|request| self.encoded(request, seen));
        link.send(&record.frame().into_iter().chain(behind).collect::<Vec<_>>());
        match link.receive(&mut self.canary) {
            Incoming::Frame(frame) => {
                let text = self.normalizer.connect_response(&frame);
                self.note(slot, &text);
                let id = Input::new(frame.get(8..).unwrap_or_default()).long().unwrap_or(0);
                if id == 0 {
                    let after = link.receive(&mut self.canary);
                    self.note(slot, &format!("then {after:?}"));
                    return Ok(());
                }
                if !self.sessions.contains(&id) {
                    self.sessions.push(id);
                }
                self.take_over(slot, id);
                let (link, session) = (Some(link), Some(id));
                self.slots[slot] = Slot { link, session, member: self.place, seen };
                self.answers(slot, requests)?;
            }
            other => self.note(slot, &format!("{other:?}")),
        }
        Ok(())
    }

    /// The server closes another connection of the same session; wait for it here, because the
    /// closing may come a moment after the handshake. Another member closes it only when the client
    /// asks for something there.
    fn take_over(&mut self, slot: usize, id: i64) {
        for other in (0..SLOTS).filter(|other| *other != slot) {
            let of = &self.slots[other];
            if of.session == Some(id) && of.link.is_some() && of.member == self.place {
                self.drain_until_closed(other);
            }
        }
    }

    fn drain_until_closed(&mut self, slot: usize) {
        while let Some(link) = self.slots[slot].link.as_mut() {
            match link.receive(&mut self.canary) {
                Incoming::Frame(frame) => {
                    let text = self.normalizer.reply(0, &frame);
                    self.note(slot, &text);
                }
                Incoming::Closed => self.closed(slot),
                Incoming::Silence => return self.note(slot, "stays open"),
            }
        }
    }

    fn closed(&mut self, slot: usize) {
        self.note(slot, "closed by the server");
        self.slots[slot].link = None;
    }

    fn ensure_connected(&mut self, slot: usize) -> io::Result<()> {
        for _ in 0..2 {
            if self.slots[slot].link.is_some() {
                return Ok(());
            }
            self.connect(slot, &Connect::PLAIN, &[])?;
        }
        self.slots[slot].link.is_some().then_some(()).ok_or_else(|| {
            io::Error::other("the server gives out no session to an ordinary client")
        })
    }

    /// Drops the connection and waits until the server has noticed. The reference forgets the
    /// connection first and its watches a moment later.
    fn disconnect(&mut self, slot: usize) -> io::Result<()> {
        let address = self.addresses[self.slots[slot].member];
        let link = self.slots[slot].link.take();
        let (Some(id), Some(_)) = (self.slots[slot].session, &link) else { return Ok(()) };
        drop(link);
        let start = Instant::now();
        for (word, needle) in [("cons", format!("sid=0x{id:x},")), ("wchc", format!("0x{id:x}\n"))]
        {
            loop {
                let answer = words::ask(address, word)?;
                if !String::from_utf8_lossy(&answer).contains(&needle) {
                    break;
                }
                if start.elapsed() > PATIENCE {
                    self.note(slot, &format!("{word} still lists it after its connection ended"));
                    break;
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, slot: usize, requests: &[Request]) -> io::Result<()> {
        self.ensure_connected(slot)?;
        let seen = self.slots[slot].seen;
        let bytes: Vec<u8> = requests.iter().flat_map(|r| self.encoded(r, seen)).collect();
        if let Some(link) = self.slots[slot].link.as_mut() {
            link.send(&bytes);
        }
        self.answers(slot, requests)?;
        let wrote = requests.iter().any(Request::is_write) && self.slots[slot].link.is_some();
        if wrote && self.addresses.len() > 1 {
            self.leave_twins(slot);
        }
        Ok(())
    }

    /// Drops the connections at other members that this one has taken the session from. Ringkeeper
    /// ends them once the session has written here, the reference when they ask for something.
    fn leave_twins(&mut self, slot: usize) {
        let (session, member) = (self.slots[slot].session, self.slots[slot].member);
        for (number, other) in self.slots.iter_mut().enumerate() {
            if number != slot && other.session == session && other.member != member {
                other.link = None;
            }
        }
    }

    /// The frame of a request, of a client that has seen `seen`.
    fn encoded(&self, request: &Request, seen: i64) -> Vec<u8> {
        let mut body = request.body.clone();
        let since = match request.since {
            Some(Since::Start) => self.normalizer.base(),
            Some(Since::LastSeen) => seen,
            None => 0,
        };
        if let (Some(_), Some(head)) = (request.since, body.first_chunk_mut::<8>()) {
            *head = i64::from_be_bytes(*head).wrapping_add(since).to_be_bytes();
        }
        Writer::new().int(request.xid).int(request.op).raw(&body).frame()
    }

    /// Reads the replies to `requests`.
    fn answers(&mut self, slot: usize, requests: &[Request]) -> io::Result<()> {
        let from = self.lines.len();
        let mut waiting: Vec<&Request> = requests.iter().collect();
        let mut auth_lines = Vec::new();
        let mut is_cut_off = false;
        while let (Some(first), Some(link)) = (waiting.first(), self.slots[slot].link.as_mut()) {
            match link.receive(&mut self.canary) {
                Incoming::Frame(frame) => {
                    let is_event = frame.starts_with(&(-1i32).to_be_bytes());
                    let at = waiting.iter().position(|request| is_answer(request, &frame));
                    let op = at.map_or(first.op, |at| waiting[at].op);
                    self.remember_zxid(slot, &frame);
                    let text = self.normalizer.reply(op, &frame);
                    if !is_event && op == AUTH {
                        auth_lines.push(format!("c{slot} {text}"));
                    } else {
                        self.note(slot, &text);
                    }
                    if !is_event {
                        waiting.remove(at.unwrap_or(0));
                    }
                    if is_refusal(&frame) {
                        // The connection ends, but the reference may still answer what comes
                        // before it gets round to that.
                        self.drain_until_closed(slot);
                    }
                    if op == AUTH && frame.get(12..16) == Some(&AUTH_FAILED.to_be_bytes()) {
                        self.skip_to_end(slot);
                        is_cut_off = true;
                    }
                    if op == CLOSE_SESSION && !is_event {
                        self.skip_to_end(slot);
                    }
                }
                Incoming::Closed => self.closed(slot),
                Incoming::Silence => {
                    self.note(slot, "no reply");
                    break;
                }
            }
        }
        if self.addresses.len() > 1 && self.slots[slot].link.is_none() {
            // Of a session that has moved: auth packets may be answered before the connection ends.
            auth_lines.clear();
            is_cut_off |= requests.iter().any(requests::is_bad_auth);
        }
        if requests.len() > 1 && is_cut_off {
            // Failed authentication ends a connection of the reference while what came before it
            // is under way: it is carried out, but its replies may be lost.
            let end = self.lines.pop();
            self.lines.truncate(from);
            self.lines.extend(end);
        }
        // Replies to auth packets overtake others on the reference.
        self.lines.append(&mut auth_lines);
        // The reference reads a connection until the end of its session has been applied, or for a
        // moment after a failed authentication. What comes behind fails, but every write of it that
        // was read in time is a transaction.
        let is_end = |request: &Request| {
            request.op == CLOSE_SESSION || is_cut_off && requests::is_bad_auth(request)
        };
        let behind = requests.iter().skip_while(|request| !is_end(request));
        if behind.skip(1).any(|r| r.is_write() || r.op == CLOSE_SESSION) {
            let zxid = leader(&mut self.controls)?.settled_zxid()?;
            self.normalizer.mark(zxid);
        }
        Ok(())
    }

    /// Waits for the end of a connection; what still comes on it is up to timing.
    fn skip_to_end(&mut self, slot: usize) {
        let from = self.lines.len();
        self.drain_until_closed(slot);
        let end = self.lines.pop();
        self.lines.truncate(from);
        self.lines.extend(end);
    }

    fn expire(&mut self, slot: usize, requests: &[Request]) -> io::Result<()> {
        self.connect(slot, &Connect { timeout_ms: EXPIRY_MS, ..Connect::PLAIN }, &[])?;
        for request in requests {
            self.call(slot, std::slice::from_ref(request))?;
        }
        let before = server_zxid(self.address())?;
        let start = Instant::now();
        self.slots[slot].link = None;
        while server_zxid(self.address())? == before {
            if start.elapsed() > PATIENCE {
                self.note(slot, "does not expire");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // The session was touched a moment before the clock was read.
        let is_early = start.elapsed() + Duration::from_millis(50) < EXPIRY;
        self.note(slot, if is_early { "expires too early" } else { "expires" });
        Ok(())
    }

    fn remember_zxid(&mut self, slot: usize, frame: &[u8]) {
        let zxid = Input::new(frame.get(4..).unwrap_or_default()).long().unwrap_or(0);
        self.last_zxid = self.last_zxid.max(zxid);
        self.slots[slot].seen = self.slots[slot].seen.max(zxid);
    }

    fn raw(&mut self, slot: usize, bytes: &[u8]) {
        if let Some(link) = self.slots[slot].link.as_mut() {
            link.send(bytes);
        }
        self.drain_until_closed(slot);
    }

    fn hello(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut link = Link::open(self.address(), self.canary.patience())?;
        link.send(bytes);
        let text = match link.receive(&mut self.canary) {
            Incoming::Frame(frame) => {
                let id = Input::new(frame.get(8..).unwrap_or_default()).long().unwrap_or(0);
                if id != 0 {
                    self.sessions.push(id);
                }
                self.normalizer.connect_response(&frame)
            }
            other => format!("{other:?}"),
        };
        self.lines.push(format!("fresh {text}"));
        Ok(())
    }

    fn barrier(&mut self, op: &Op) -> io::Result<()> {
        if self.addresses.len() > 1 {
            for control in &mut self.controls {
                control.sync()?;
            }
        }
        let sync = Writer::new().int(SYNC_XID).int(SYNC).text("/").frame();
        for slot in &mut self.slots {
            if let Some(link) = slot.link.as_mut() {
                link.send(&sync);
            }
        }
        let from = self.lines.len();
        for slot in 0..SLOTS {
            let start = self.lines.len();
            while let Some(link) = self.slots[slot].link.as_mut() {
                match link.receive(&mut self.canary) {
                    Incoming::Frame(frame) => {
                        let is_answer = frame.starts_with(&SYNC_XID.to_be_bytes());
                        let text = self.normalizer.reply(SYNC, &frame);
                        self.note(slot, &text);
                        if is_answer {
                            break;
                        }
                    }
                    Incoming::Closed => {
                        if self.addresses.len() > 1 {
                            // Of a session that ended through another member, the reference may
                            // close the connection before or after the events of that.
                            self.lines.truncate(start);
                        }
                        self.closed(slot);
                    }
                    Incoming::Silence => {
                        self.note(slot, "does not answer a sync");
                        break;
                    }
                }
            }
        }
        // A closing session's ephemerals go in no particular order.
        let is_session_end = match &op.action {
            Action::Call(request) => request.op == CLOSE_SESSION,
            Action::Burst(requests) | Action::Eager(_, requests) => {
                requests.iter().any(|request| request.op == CLOSE_SESSION)
            }
            Action::Expire(_) => true,
            _ => false,
        };
        if is_session_end {
            sort_events(&mut self.lines[..from]);
            sort_events(&mut self.lines[from..]);
        }
        Ok(())
    }
}

/// Whether the frame has the xid that a reply to this request has.
fn is_answer(request: &Request, frame: &[u8]) -> bool {
    let xid = if request.op == PING { PING_XID } else { request.xid };
    frame.starts_with(&xid.to_be_bytes())
}

/// Whether the frame is the reply to an opcode that the server does not know: zxid -1, error -6.
fn is_refusal(frame: &[u8]) -> bool {
    frame.get(4..)
        == Some([(-1i64).to_be_bytes().as_slice(), &(-6i32).to_be_bytes()].concat().as_slice())
}

/// Last zxid that the server applied; only the expiry itself changes it here.
fn server_zxid(address: SocketAddr) -> io::Result<i64> {
    let answer = words::ask(address, "srvr")?;
    let text = String::from_utf8_lossy(&answer);
    let zxid = text.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
    zxid.and_then(|hex| i64::from_str_radix(hex, 16).ok())
        .ok_or_else(|| io::Error::other("no zxid in the answer to srvr"))
}

fn sort_events(lines: &mut [String]) {
    for run in lines.chunk_by_mut(|a, b| is_event(a) && is_event(b) && a[..2] == b[..2]) {
        run.sort();
    }
}

fn is_event(line: &str) -> bool {
    line.get(3..).is_some_and(|text| text.starts_with("event "))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn close_session(address: SocketAddr, session: i64) -> io::Result<()> {
    let mut link = Link::open(address, PATIENCE)?;
    let record = Writer::new().int(0).long(0).int(30_000).long(session);
    link.send(&record.buffer(Some(&password_of(session))).byte(0).frame());
    let mut canary = Canary::default();
    if let Incoming::Frame(frame) = link.receive(&mut canary)
        && frame.get(8..16) == Some(session.to_be_bytes().as_slice())
    {
        link.send(&Writer::new().int(1).int(CLOSE_SESSION).frame());
        while let Incoming::Frame(_) = link.receive(&mut canary) {}
    }
    Ok(())
}

/// A super user's connection that makes the root of a history and removes what it left.
struct Control {
    link: Link,
    xid: i32,
}

impl Control {
    fn open(address: SocketAddr) -> io::Result<Control> {
        let mut link = Link::open(address, PATIENCE)?;
        let record = Writer::new().int(0).long(0).int(60_000).long(0).buffer(Some(&[0; 16]));
        link.send(&record.byte(0).frame());
        let Incoming::Frame(_) = link.receive(&mut Canary::default()) else {
            return Err(io::Error::other("no session for the tester's own connection"));
        };
        let mut control = Control { link, xid: 0 };
        control.call(100, Writer::new().int(0).text("digest").text(SUPER_USER))?;
        Ok(control)
    }

    /// Returns the reply's frame.
    fn ask(&mut self, op: i32, body: Writer) -> io::Result<Vec<u8>> {
        self.xid += 1;
        self.link.send(&Writer::new().int(self.xid).int(op).raw(&body.0).frame());
        match self.link.receive(&mut Canary::default()) {
            Incoming::Frame(frame) => Ok(frame),
            other => Err(io::Error::other(format!("the tester's own connection: {other:?}"))),
        }
    }

    /// Returns zxid, error and body of the reply.
    fn call(&mut self, op: i32, body: Writer) -> io::Result<(i64, i32, Vec<u8>)> {
        let frame = self.ask(op, body)?;
        let mut r = Input::new(&frame);
        match (r.int(), r.long(), r.int()) {
            (Ok(_), Ok(zxid), Ok(err)) => Ok((zxid, err, r.rest().to_vec())),
            _ => Err(io::Error::other("a reply without a whole header")),
        }
    }

    /// Data, stat and ACL of every node at and below `top`.
    fn state(
        &mut self,
        top: &str,
        normalizer: &mut Normalizer,
        lines: &mut Vec<String>,
    ) -> io::Result<()> {
        let mut open = vec![top.to_owned()];
        while let Some(path) = open.pop() {
            for (op, body) in
                [(4, Writer::new().text(&path).byte(0)), (6, Writer::new().text(&path))]
            {
                let mut frame = self.ask(op, body)?;
                // Both servers got the same requests, but shrinking leaves some out.
                frame.splice(..4, [0; 4]);
                lines.push(format!("state {path} {}", normalizer.reply(op, &frame)));
            }
            open.extend(self.children(&path, &[])?.into_iter().map(|(child, _)| child));
        }
        Ok(())
    }

    /// Waits for everything that was submitted before; returns the last zxid.
    fn sync(&mut self) -> io::Result<i64> {
        self.call(SYNC, Writer::new().text("/")).map(|(zxid, ..)| zxid)
    }

    /// The last zxid once nobody else makes transactions: the reference may have read a request
    /// whose connection is closed by now, and have yet to begin with it.
    fn settled_zxid(&mut self) -> io::Result<i64> {
        let (mut last, mut quiet) = (self.fail()?, 0);
        while quiet < 3 {
            let next = self.fail()?;
            quiet = if next == last + 1 { quiet + 1 } else { 0 };
            last = next;
        }
        Ok(last)
    }

    /// A transaction that changes nothing; returns its zxid.
    fn fail(&mut self) -> io::Result<i64> {
        self.call(2, Writer::new().text("/no-such-node").int(-1)).map(|(zxid, ..)| zxid)
    }

    fn create(&mut self, path: &str) -> io::Result<i64> {
        let body = open_acl(Writer::new().text(path).buffer(Some(&[]))).int(0);
        match self.call(1, body)? {
            (zxid, 0, _) => Ok(zxid),
            (_, err, _) => Err(io::Error::other(format!("create {path}: error {err}"))),
        }
    }

    fn clean_up(&mut self) -> io::Result<()> {
        for path in ["/", "/zookeeper", "/zookeeper/quota"] {
            self.call(7, open_acl(Writer::new().text(path)).int(-1))?;
        }
        let config = Writer::new().text("/zookeeper/config").int(1).int(1);
        self.call(7, config.text("world").text("anyone").int(-1))?;
        self.delete_below("/zookeeper/quota", &[])?;
        self.delete_below("/zookeeper", &["quota", "config"])?;
        self.delete_below("/", &["zookeeper"])
    }

    fn close(&mut self) -> io::Result<()> {
        self.call(CLOSE_SESSION, Writer::new()).map(drop)
    }

    fn delete_below(&mut self, parent: &str, keep: &[&str]) -> io::Result<()> {
        // Children first: a path is deleted when it is met the second time.
        let mut open: Vec<(String, bool)> = self.children(parent, keep)?;
        while let Some((path, is_empty)) = open.pop() {
            if is_empty {
                self.call(2, Writer::new().text(&path).int(-1))?;
            } else {
                open.push((path.clone(), true));
                open.extend(self.children(&path, &[])?);
            }
        }
        Ok(())
    }

    fn children(&mut self, parent: &str, keep: &[&str]) -> io::Result<Vec<(String, bool)>> {
        let (_, err, body) = self.call(8, Writer::new().text(parent).byte(0))?;
        if err != 0 {
            return Ok(Vec::new());
        }
        let names = Input::new(&body)
            .vector(|r| Ok(String::from_utf8_lossy(r.buffer()?.unwrap_or_default()).into_owned()))
            .map_err(|_| io::Error::other("getChildren: undecodable reply"))?;
        let mut names = names.unwrap_or_default();
        names.sort();
        let prefix = parent.trim_end_matches('/');
        let wanted = names.into_iter().filter(|name| !keep.contains(&name.as_str()));
        Ok(wanted.map(|name| (format!("{prefix}/{name}"), false)).collect())
    }
}

fn open_acl(writer: Writer) -> Writer {
    writer.int(1).int(31).text("world").text("anyone")
}
