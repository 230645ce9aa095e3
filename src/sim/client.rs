//! A simulated client with its session: what it asks, and whether the answers are right.

use std::collections::VecDeque;

use crate::base::{Instant, Rng, SessionId};
use crate::wire::{ConnectRequest, ConnectResponse, Reader, put_str};

use super::compare::MEMBERSHIP;
use super::expect::{self, Event, Expected, LISTS, Restoring};
use super::model::{Model, parent_of};
use super::network::End;
use super::ops::{Op, other_acl};
use super::options::Swarm;

/// Where a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Down,
    Connecting,
    Up,
}

#[derive(Debug)]
struct Pending {
    xid: i32,
    op: Op,
    /// Highest zxid that any client had seen when it was sent.
    floor: i64,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub id: usize,
    pub state: State,
    pub link: Option<End>,
    /// The host whose client it is.
    pub host: usize,
    /// The life of the host in which it has connected.
    pub life: u32,
    /// What it asks, and when.
    pub rng: Rng,
    pub session: Option<SessionId>,
    password: [u8; 16],
    pub timeout_ms: i32,
    xid: i32,
    pending: VecDeque<Pending>,
    input: Vec<u8>,
    /// Highest zxid seen by the session.
    pub last_zxid: i64,
    /// Highest zxid of a reply on this connection.
    conn_zxid: i64,
    /// What a `sync` on this connection has made sure of.
    synced: i64,
    /// The session had ended before it was brought along.
    pub has_ended: bool,
    expected: Expected,
    /// Watches of the connection before.
    lists: Option<[Vec<String>; 5]>,
    /// Events that arrived before the reply to setWatches.
    caught_up: Vec<Event>,
    made: u64,
    pub last_sent: Instant,
    pub last_heard: Instant,
    /// When it asks for something again.
    pub asks_at: Instant,
    /// Stays away until then.
    pub away_until: Instant,
    pub completed: u64,
    pub closing: bool,
    /// Sessions that the server said are not valid.
    pub refused: Vec<SessionId>,
    /// Sequential names by prefix, with the zxid that made them.
    sequence: std::collections::BTreeMap<String, (i64, String)>,
}

impl Client {
    /// A client of one host.
    pub fn new(id: usize, host: usize, rng: Rng) -> Client {
        Client {
            id,
            state: State::Down,
            link: None,
            host,
            life: 0,
            rng,
            session: None,
            password: [0; 16],
            timeout_ms: 0,
            xid: 0,
            pending: VecDeque::new(),
            input: Vec::new(),
            last_zxid: 0,
            conn_zxid: 0,
            synced: 0,
            has_ended: false,
            expected: Expected::default(),
            lists: None,
            caught_up: Vec::new(),
            made: 0,
            last_sent: Instant(0),
            last_heard: Instant(0),
            asks_at: Instant(0),
            away_until: Instant(0),
            completed: 0,
            closing: false,
            refused: Vec::new(),
            sequence: Default::default(),
        }
    }

    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// The first request that is not answered, for a person.
    pub fn oldest(&self) -> String {
        format!("{:?}", self.pending.front())
    }

    /// Begins a connection; the first frame to send.
    pub fn connect(&mut self, now: Instant, link: End, timeout_ms: i32) -> Vec<u8> {
        self.state = State::Connecting;
        self.link = Some(link);
        self.input.clear();
        (self.conn_zxid, self.synced, self.has_ended) = (0, 0, false);
        self.caught_up.clear();
        self.expected = Expected::default();
        if self.session.is_none() {
            self.timeout_ms = timeout_ms;
            self.last_zxid = 0;
        }
        self.last_sent = now;
        self.last_heard = now;
        let mut out = vec![0; 4];
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: crate::base::Zxid(self.last_zxid),
            timeout_ms: self.timeout_ms,
            session: self.session.unwrap_or_default(),
            password: &self.password,
            read_only: Some(false),
        }
        .encode_into(&mut out);
        let len = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&len.to_be_bytes());
        out
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        if self.state == State::Up && !self.expected.is_empty() {
            self.lists = Some(self.expected.lists());
        }
        self.state = State::Down;
        self.link = None;
        self.pending.clear();
        self.input.clear();
        if std::mem::take(&mut self.closing) {
            // Whether the close was carried out is unknown; the session is given up.
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.session = None;
        self.password = [0; 16];
        self.last_zxid = 0;
        self.lists = None;
        self.xid = 0;
    }

    /// Turns a request into a frame.
    /// `floor`: highest zxid that any client has seen.
    pub fn send(&mut self, now: Instant, op: Op, floor: i64) -> (i32, Vec<u8>) {
        let xid = match op {
            Op::Ping => -2,
            Op::SetWatches { .. } => -8,
            _ => {
                self.xid += 1;
                self.xid
            }
        };
        self.last_sent = now;
        self.closing |= op == Op::Close;
        let frame = op.frame(xid);
        self.pending.push_back(Pending { xid, op, floor });
        (xid, frame)
    }

    /// The setWatches that a reconnected session begins with.
    pub fn rewatch(&mut self) -> Option<Op> {
        let lists = self.lists.take()?;
        Some(Op::SetWatches { relative: self.last_zxid, lists })
    }

    /// Takes bytes; says what is wrong with them.
    pub fn received(&mut self, now: Instant, bytes: &[u8], model: &Model) -> Result<(), String> {
        self.last_heard = now;
        self.input.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(head) = input[at..].first_chunk::<4>() {
            let len = u32::from_be_bytes(*head) as usize;
            let Some(frame) = input.get(at + 4..at + 4 + len) else { break };
            self.frame(frame, model)?;
            at += 4 + len;
            if self.state == State::Down {
                return Ok(());
            }
        }
        input.drain(..at);
        self.input = input;
        Ok(())
    }

    fn frame(&mut self, frame: &[u8], model: &Model) -> Result<(), String> {
        if self.state == State::Connecting {
            return self.connected(frame, model);
        }
        let bad = |e: crate::wire::DecodeError| format!("a reply cannot be decoded: {e}");
        let mut r = Reader::new(frame);
        let xid = r.i32("xid").map_err(bad)?;
        let zxid = r.i64("zxid").map_err(bad)?;
        let err = r.i32("err").map_err(bad)?;
        if xid == -1 {
            let kind = r.i32("type").map_err(bad)?;
            r.i32("state").map_err(bad)?;
            let path = r.text("path").map_err(bad)?.unwrap_or_default().into_owned();
            return self.event((zxid, kind, path), model);
        }
        let Some(Pending { xid: asked, op, floor }) = self.pending.pop_front() else {
            return Err(format!("reply {xid} to no request"));
        };
        if asked != xid {
            return Err(format!("reply {xid} where {asked} is due: {op:?}"));
        }
        if zxid < self.conn_zxid || zxid < self.last_zxid {
            let seen = self.conn_zxid.max(self.last_zxid);
            return Err(format!("reply at 0x{zxid:x} after 0x{seen:x}: {op:?}"));
        }
        if matches!(op, Op::Sync { .. }) {
            self.synced = self.synced.max(floor);
        }
        if zxid < self.synced {
            let synced = self.synced;
            return Err(format!("reply at 0x{zxid:x} after a sync at 0x{synced:x}: {op:?}"));
        }
        self.conn_zxid = zxid;
        self.last_zxid = zxid;
        self.expected.revealed(model, zxid)?;
        self.completed += 1;
        self.judge(xid, &op, zxid, err, r.rest(), model)
            .map_err(|why| format!("{why}; request {xid} {op:?}, reply at 0x{zxid:x}, err {err}"))
    }

    fn connected(&mut self, frame: &[u8], model: &Model) -> Result<(), String> {
        let response = ConnectResponse::decode(frame).map_err(|e| e.to_string())?;
        if response.session.0 == 0 {
            if let Some(session) = self.session {
                self.refused.push(session);
            }
            self.forget();
            self.disconnected();
            return Ok(());
        }
        if let Some(session) = self.session
            && session != response.session
        {
            return Err(format!("{session:?} came back as {:?}", response.session));
        }
        let fresh = self.session.is_none();
        if self.has_ended {
            return Err(format!("{:?} had ended and is served", response.session));
        }
        self.session = Some(response.session);
        self.password = response.password;
        // The answer may have been on its way for so long that the session is over.
        if fresh && !model.knows_session(response.session) {
            return Err(format!("{:?} was promised and is not in the log", response.session));
        }
        self.timeout_ms = response.timeout_ms;
        self.state = State::Up;
        Ok(())
    }

    fn event(&mut self, event: Event, model: &Model) -> Result<(), String> {
        self.last_zxid = self.last_zxid.max(event.0);
        if let Some(Pending { op: Op::SetWatches { .. }, .. }) = self.pending.front() {
            self.caught_up.push(event);
            return Ok(());
        }
        self.expected.arrived(model, &event)
    }

    fn judge(
        &mut self,
        xid: i32,
        op: &Op,
        zxid: i64,
        err: i32,
        body: &[u8],
        model: &Model,
    ) -> Result<(), String> {
        if op.is_write() {
            let session = self.session.unwrap_or_default();
            let Some(answer) = model.answer(session, xid) else {
                return Err("it is answered and not in the log".into());
            };
            if (answer.zxid, answer.err) != (zxid, err) || answer.body != body {
                return Err(format!("expected {answer:x?}, found {body:x?}"));
            }
            return self.sequential(op, zxid, err, body);
        }
        match op {
            Op::AddWatch { path, mode } => {
                let flag = if *mode == 0 { expect::PERSISTENT } else { expect::RECURSIVE };
                self.expected.add(path, flag);
                if err == 0 { Ok(()) } else { Err("addWatch failed".into()) }
            }
            Op::RemoveWatches { path } => {
                let had = self.expected.flags(path) != 0;
                self.expected.clear(path, 0xff);
                let want = if had { 0 } else { -121 };
                if err == want { Ok(()) } else { Err(format!("expected {want}")) }
            }
            Op::SetWatches { relative, lists } => {
                let arrived = &std::mem::take(&mut self.caught_up)[..];
                let each = LISTS.into_iter().zip(lists);
                let items = each.flat_map(|(flag, paths)| paths.iter().map(move |p| (flag, &**p)));
                let (items, relative) = (items.collect(), *relative);
                self.expected.restore(model, &Restoring { items, relative, zxid, arrived })
            }
            Op::Ping => Ok(()),
            _ => self.read(op, zxid, err, body, model),
        }
    }

    fn read(
        &mut self,
        op: &Op,
        zxid: i64,
        err: i32,
        body: &[u8],
        model: &Model,
    ) -> Result<(), String> {
        let Some((want_err, want)) = model.read(op, zxid) else { return Ok(()) };
        if let Op::GetData { path, .. } = op
            && path == MEMBERSHIP
        {
            // Data and its length; the stat is of the member that was asked.
            let size =
                4 + model.at(path, zxid).and_then(|node| node.data.as_ref()).map_or(0, Vec::len);
            return match body.get(..size) == want.get(..size) && err == 0 {
                true => Ok(()),
                false => Err(format!("{body:x?} is not the membership")),
            };
        }
        let found = match op {
            Op::GetChildren { .. } if err == 0 => sort_names(body)?,
            _ => body.to_vec(),
        };
        if want_err != err || want != found {
            return Err(format!("the tree says {want_err} {want:x?}, the reply {found:x?}"));
        }
        match op {
            Op::Exists { path, watch: true } => {
                self.expected.add(path, if err == 0 { expect::DATA } else { expect::EXIST });
            }
            Op::GetData { path, watch: true } if err == 0 => {
                self.expected.add(path, expect::DATA);
            }
            Op::GetChildren { path, watch: true, .. } if err == 0 => {
                self.expected.add(path, expect::CHILD);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sequential names ascend; checked apart from the model. They restart with their parent.
    fn sequential(&mut self, op: &Op, zxid: i64, err: i32, body: &[u8]) -> Result<(), String> {
        let Op::Create { path, flags: 2 | 3, .. } = op else { return Ok(()) };
        if err != 0 {
            return Ok(());
        }
        let name = Reader::new(body).text("path").map_err(|e| e.to_string())?;
        let name = name.unwrap_or_default().into_owned();
        let key = path.clone();
        if let Some((before, last)) = self.sequence.get(&key)
            && *last >= name
            && parent_of(path) == "/"
        {
            return Err(format!("{name} at 0x{zxid:x} follows {last} at 0x{before:x}"));
        }
        self.sequence.insert(key, (zxid, name));
        Ok(())
    }

    /// The next requests of the workload, at most this number.
    pub fn burst(&mut self, swarm: &Swarm, most: usize) -> Vec<Op> {
        if most == 0 {
            return Vec::new();
        }
        let mut rng = self.rng.clone();
        let ops = if swarm.turnover && most > 1 && rng.chance(1, 2) {
            let mut ops = self.turnover(&mut rng);
            ops.truncate(most);
            ops
        } else {
            (0..=rng.below(most as u64)).map(|_| self.draw(&mut rng, swarm)).collect()
        };
        self.rng = rng;
        ops
    }

    /// What only means something pipelined: a few paths belong in turn to nobody, to this session
    /// and, as other clients do the same, to another one, and perhaps the session ends behind it.
    fn turnover(&mut self, rng: &mut Rng) -> Vec<Op> {
        let mut ops = Vec::new();
        match rng.below(5) {
            0 | 1 => {
                let path = shared_path(rng);
                ops.push(self.create(path.clone(), 1));
                if rng.chance(1, 3) {
                    ops.push(self.set_data(path.clone()));
                }
                ops.push(Op::Delete { path: path.clone(), version: -1 });
                if rng.chance(3, 4) {
                    let flags = rng.below(2) as i32;
                    ops.push(self.create(path, flags));
                }
            }
            2 => {
                let count = 1 + rng.below(4);
                let mut parts: Vec<Op> = (0..count).map(|_| self.fleeting(rng)).collect();
                if rng.chance(1, 3) {
                    // Which takes everything back, unless the node is there.
                    parts.push(Op::Check { path: shared_path(rng), version: -1 });
                }
                ops.push(Op::Multi(parts));
            }
            3 => {
                ops.extend((0..rng.below(3)).map(|_| self.set_data(shared_path(rng))));
                ops.push(self.set_data(self.own_path()));
                ops.push(Op::Close);
            }
            _ => ops.extend((0..=rng.below(6)).map(|_| self.fleeting(rng))),
        }
        ops
    }

    /// A write of a node that does not last.
    fn fleeting(&mut self, rng: &mut Rng) -> Op {
        let path = shared_path(rng);
        match rng.below(10) {
            0 | 1 => self.create(path, 1),
            2 | 3 => self.create(self.own_path(), 1),
            4 => self.create(path, 0),
            5 => self.create(format!("{path}-"), 3),
            6 | 7 => Op::Delete { path, version: -1 },
            _ => self.set_data(path),
        }
    }

    /// An ephemeral of this client alone.
    fn own_path(&self) -> String {
        format!("/own{}", self.id)
    }

    fn value(&mut self) -> Vec<u8> {
        self.made += 1;
        format!("{}-{}-", self.id, self.made).into_bytes()
    }

    fn create(&mut self, path: String, flags: i32) -> Op {
        Op::Create { path, data: self.value(), flags, with_stat: self.made.is_multiple_of(2) }
    }

    fn set_data(&mut self, path: String) -> Op {
        Op::SetData { path, data: self.value(), version: -1 }
    }

    /// The next request of the workload.
    fn draw(&mut self, rng: &mut Rng, swarm: &Swarm) -> Op {
        let path = |rng: &mut Rng| {
            let mut path = format!("/r{}", rng.below(3));
            for (letter, count) in [('k', 3), ('g', 2)] {
                if rng.chance(2, 5) {
                    break;
                }
                path.push_str(&format!("/{letter}{}", rng.below(count)));
            }
            path
        };
        let watch = swarm.watches && rng.chance(1, 3);
        match rng.below(100) {
            0..55 => self.draw_write(rng, swarm, &path),
            55..60 => {
                let count = 1 + rng.below(4);
                let ops = (0..count).map(|_| {
                    if rng.chance(1, 4) {
                        let version = rng.below(3) as i32 - 1;
                        return Op::Check { path: path(rng), version };
                    }
                    loop {
                        let op = self.draw_write(rng, swarm, &path);
                        if !matches!(op, Op::SetAcl { .. }) {
                            return op;
                        }
                    }
                });
                Op::Multi(ops.collect())
            }
            60..68 => Op::Exists { path: path(rng), watch },
            68..78 if swarm.is_joined && rng.chance(1, 20) => {
                Op::GetData { path: MEMBERSHIP.to_owned(), watch: false }
            }
            68..78 => Op::GetData { path: path(rng), watch },
            78..86 => {
                let path = if rng.chance(1, 5) { "/".to_owned() } else { path(rng) };
                Op::GetChildren { path, watch, with_stat: rng.chance(1, 2) }
            }
            86..90 => Op::Sync { path: path(rng) },
            90..94 if swarm.watches => {
                let path = if rng.chance(1, 8) { "/".to_owned() } else { path(rng) };
                Op::AddWatch { path, mode: rng.below(2) as i32 }
            }
            94..97 if swarm.watches => Op::RemoveWatches { path: path(rng) },
            _ => Op::Ping,
        }
    }

    fn draw_write(
        &mut self,
        rng: &mut Rng,
        swarm: &Swarm,
        path: &dyn Fn(&mut Rng) -> String,
    ) -> Op {
        let size = match rng.below(10) {
            0 if swarm.big_values => 20_000,
            0..3 => 600,
            _ => 10,
        };
        let mut data = self.value();
        data.resize(data.len() + rng.below(size) as usize, b'.');
        let version = if rng.chance(2, 3) { -1 } else { rng.below(3) as i32 };
        match rng.below(20) {
            0..10 => {
                let flags = [0, 0, 0, 1, 1, 2, 3][rng.below(7) as usize];
                let mut path = path(rng);
                if flags >= 2 {
                    path = if rng.chance(1, 4) { "/q-".into() } else { format!("{path}/q-") };
                }
                Op::Create { path, data, flags, with_stat: rng.chance(1, 2) }
            }
            10..14 => Op::Delete { path: path(rng), version },
            14..19 => Op::SetData { path: path(rng), data, version },
            _ => {
                let host = rng.below(3) as u8;
                Op::SetAcl { path: path(rng), acl: other_acl(host), version: -1 }
            }
        }
    }
}

fn shared_path(rng: &mut Rng) -> String {
    format!("/e{}", rng.below(4))
}

/// The list of names at the front of a getChildren reply, sorted.
fn sort_names(body: &[u8]) -> Result<Vec<u8>, String> {
    let bad = |e: crate::wire::DecodeError| e.to_string();
    let mut r = Reader::new(body);
    let count = r.i32("count").map_err(bad)?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(r.text("name").map_err(bad)?.unwrap_or_default().into_owned());
    }
    names.sort();
    let mut out = count.to_be_bytes().to_vec();
    names.iter().for_each(|name| put_str(&mut out, name));
    out.extend_from_slice(r.rest());
    Ok(out)
}
