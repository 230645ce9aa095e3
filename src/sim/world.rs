//! The world of one run: virtual time, the network, the faults, and the checks that need more
//! than one client's view.
//!
//! One thread, one seed. Events stand in a queue by time and number; whatever happens next is the
//! first of them. The server takes what has arrived in turns, as its event loop does.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{FixedMap, Instant, Now, Rng, SessionId};
use crate::wire::{Reader, Txn, TxnHeader, TxnType};

use super::client::{Client, State};
use super::compare::compare;
use super::files::SimFiles;
use super::model::{Context, Model};
use super::node::{Action, Arrival, Ended, Node, TICK_MS};
use super::ops::Op;
use super::options::{SimOptions, Swarm};
use super::report::{SimReport, Violation};
use super::rot::Rot;
use orphans::first_orphan;

mod orphans;
mod starts;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// After the faults stop, every client must have been served within this.
const LIVENESS: u64 = 60 * SECOND;
/// A run that takes longer than this hangs.
const PATIENCE: u64 = 3_600 * SECOND;

#[derive(Debug)]
enum Event {
    Arrive { life: u32, arrival: Arrival },
    Turn { life: u32 },
    ToClient { link: usize, bytes: Vec<u8> },
    ClientEof { link: usize },
    Act { client: usize },
    Fault,
    FullEnds,
    Restart,
}

struct Link {
    client: usize,
    life: u32,
    open: bool,
    up_last: u64,
    down_last: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Work,
    /// Faults have stopped; clients must get through.
    Heal,
}

/// One run.
pub(super) struct World {
    options: SimOptions,
    swarm: Swarm,
    rng: Rng,
    now: u64,
    wall_ms: i64,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    files: Arc<SimFiles>,
    node: Option<Node>,
    life: u32,
    arrivals: Vec<Arrival>,
    turn_at: Option<u64>,
    busy_until: u64,
    house_called: bool,
    links: Vec<Link>,
    clients: Vec<Client>,
    model: Model,
    requests: FixedMap<(SessionId, i32), Op>,
    touched: FixedMap<SessionId, (u64, i32)>,
    /// Sessions whose end was logged at least once.
    ended: FixedMap<SessionId, ()>,
    digests: BTreeMap<i64, u64>,
    revealed: i64,
    budget: u32,
    phase: Phase,
    healed_at: u64,
    completed_before: Vec<u64>,
    pub report: SimReport,
    hash: u64,
    /// Damage that does not matter so far.
    rotten: Vec<Rot>,
    /// Nothing was written since the start.
    is_fresh: bool,
}

type Checked = Result<(), Violation>;

impl World {
    pub fn new(options: SimOptions) -> World {
        let mut rng = Rng::new(options.seed.wrapping_mul(0x9e37_79b9).wrapping_add(17));
        let swarm = Swarm::draw(&mut rng);
        let clients = (0..swarm.clients).map(Client::new).collect();
        World {
            files: Arc::new(SimFiles::new(&options)),
            budget: options.ops,
            options,
            swarm,
            rng,
            now: SECOND,
            wall_ms: 1_700_000_000_000,
            queue: BTreeMap::new(),
            number: 0,
            node: None,
            life: 0,
            arrivals: Vec::new(),
            turn_at: None,
            busy_until: 0,
            house_called: false,
            links: Vec::new(),
            clients,
            model: Model::default(),
            requests: FixedMap::default(),
            touched: FixedMap::default(),
            ended: FixedMap::default(),
            digests: BTreeMap::new(),
            revealed: 0,
            phase: Phase::Work,
            healed_at: 0,
            completed_before: Vec::new(),
            report: SimReport::default(),
            hash: 0,
            rotten: Vec::new(),
            is_fresh: false,
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.options.verbose {
            let line = format!("{:>12.6} {}", self.now as f64 / SECOND as f64, what());
            self.report.history.push(line);
        }
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.hash = (product as u64) ^ ((product >> 64) as u64);
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.number += 1;
        self.queue.insert((time.max(self.now), self.number), event);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn clock(&self) -> Now {
        Now { mono: Instant(self.now), wall_ms: self.wall_ms + (self.now / MS) as i64 }
    }

    fn wrong(&self, what: String) -> Violation {
        Violation { at_ns: self.now, what }
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Checked {
        self.plant_orphans()?;
        self.at(self.now, Event::Restart);
        for client in 0..self.clients.len() {
            let delay = self.rng.below(50 * MS);
            self.after(delay, Event::Act { client });
        }
        self.plan_fault();
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            self.report.events += 1;
            self.mix(time);
            if time > PATIENCE {
                return Err(self.wrong("the run does not end".into()));
            }
            self.dispatch(event)?;
            if self.phase == Phase::Work && self.budget == 0 {
                self.heal();
            }
            if self.phase == Phase::Heal && self.check_liveness()? {
                break;
            }
        }
        self.finish()?;
        self.report.virtual_ns = self.now - SECOND;
        self.report.hash = self.hash;
        Ok(())
    }

    fn dispatch(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive { life, arrival } => {
                if life == self.life && self.node.is_some() {
                    if matches!(arrival, Arrival::HouseTurn) {
                        self.house_called = false;
                    }
                    self.arrivals.push(arrival);
                    self.want_turn(self.now + 5 * US);
                }
                Ok(())
            }
            Event::Turn { life } => {
                if life == self.life && self.turn_at == Some(self.now) {
                    self.turn_at = None;
                    return self.turn();
                }
                Ok(())
            }
            Event::ToClient { link, bytes } => self.delivered(link, &bytes),
            Event::ClientEof { link } => {
                self.cut(link, true);
                Ok(())
            }
            Event::Act { client } => {
                self.act(client);
                Ok(())
            }
            Event::Fault => self.fault(),
            Event::FullEnds => {
                self.files.disk().full = false;
                Ok(())
            }
            Event::Restart => self.restart(),
        }
    }

    // --- the server ---

    fn want_turn(&mut self, time: u64) {
        let time = time.max(self.busy_until).max(self.now);
        if self.turn_at.is_none_or(|at| time < at) {
            self.turn_at = Some(time);
            let life = self.life;
            self.at(time, Event::Turn { life });
        }
    }

    fn turn(&mut self) -> Checked {
        if self.now < self.busy_until {
            self.want_turn(self.busy_until);
            return Ok(());
        }
        let now = self.clock();
        let arrivals = std::mem::take(&mut self.arrivals);
        let Some(mut node) = self.node.take() else { return Ok(()) };
        let outcome = node.turn(now, arrivals);
        let actions = std::mem::take(&mut node.actions);
        self.report.turns += 1;
        for action in actions {
            self.action(action)?;
        }
        match outcome {
            Ok(()) => {
                self.node = Some(node);
                self.after_turn()
            }
            Err(ended) => self.server_ended(&ended),
        }
    }

    fn after_turn(&mut self) -> Checked {
        let Some(node) = &self.node else { return Ok(()) };
        let deadline = node.deadline().0.max(self.now + 20 * US);
        let house = node.has_chores() && !self.house_called;
        if node.replica().is_settled() {
            if let Some(orphan) = first_orphan(node) {
                return Err(self.wrong(format!("{orphan:?} does not exist and owns ephemerals")));
            }
            let (applied, digest) =
                (node.replica().last_processed().0, node.replica().tree().digest());
            self.digests.insert(applied, digest);
            if applied != self.model.last {
                let last = self.model.last;
                return Err(self.wrong(format!("applied 0x{applied:x}, logged 0x{last:x}")));
            }
            if self.rng.chance(1, 50) {
                self.compare("while running")?;
            }
        }
        if house {
            self.house_called = true;
            let slow = if self.rng.chance(1, 20) { 40 } else { 1 };
            let delay = self.rng.below(4 * self.swarm.write_us * US) * slow + US;
            self.arrive(delay, Arrival::HouseTurn);
        }
        self.want_turn(deadline);
        Ok(())
    }

    fn arrive(&mut self, delay: u64, arrival: Arrival) {
        let life = self.life;
        self.after(delay, Event::Arrive { life, arrival });
    }

    fn action(&mut self, action: Action) -> Checked {
        match action {
            Action::Send { link, bytes } => self.down(link, &bytes),
            Action::Finish { link } | Action::Reset { link } => {
                let time = self.links[link].down_last.max(self.now + 50 * US);
                self.links[link].down_last = time;
                self.at(time, Event::ClientEof { link });
            }
            Action::Writing => {
                let slow = if self.rng.chance(1, 50) { 40 } else { 1 };
                let delay = (self.rng.below(self.swarm.write_us) + 20) * US * slow;
                let of_256 = if self.rng.chance(1, 30) { self.rng.below(256) } else { 256 };
                self.arrive(delay, Arrival::LogDone { of_256: of_256 as usize });
                let is_first = std::mem::take(&mut self.is_fresh);
                if is_first && self.is_crashing() && self.rng.chance(1, 4) {
                    // The first write after a start is torn.
                    self.files.disk().crash_in = Some(self.rng.below(4) as u32);
                }
            }
            Action::Logged { entry } => self.logged(&entry)?,
            Action::Touched { session, timeout_ms } => {
                self.touched.insert(session, (self.now, timeout_ms));
            }
        }
        Ok(())
    }

    /// The order of transactions is the server's; what each does is not.
    fn logged(&mut self, entry: &[u8]) -> Checked {
        let mut r = Reader::new(entry);
        let header = TxnHeader::decode_from(&mut r).map_err(|e| self.wrong(e.to_string()))?;
        let txn = Txn::decode_from(header.kind, &mut r).map_err(|e| self.wrong(e.to_string()))?;
        let (session, zxid) = (header.session, header.zxid.0);
        if zxid != self.model.last + 1 {
            let last = self.model.last;
            return Err(self.wrong(format!("0x{zxid:x} is logged after 0x{last:x}")));
        }
        self.report.txns += 1;
        self.note(|| format!("log 0x{zxid:x} {session:?} xid {} {:?}", header.cxid.0, header.kind));
        let at = Context { session, zxid, time_ms: header.time_ms };
        let asked = self.requests.get(&(session, header.cxid.0)).cloned();
        self.note(|| format!("    which is {asked:?}"));
        match (&txn, asked) {
            (Txn::CreateSession { timeout_ms }, _) => self.model.open_session(at, *timeout_ms),
            (Txn::CloseSession(_), asked) => {
                if asked != Some(Op::Close) {
                    self.check_expiry(session)?;
                }
                self.ended.insert(session, ());
                self.model.close_session(at, header.cxid.0);
            }
            (_, None) => {
                let xid = header.cxid.0;
                return Err(self.wrong(format!("0x{zxid:x}: {session:?} never asked {xid}")));
            }
            (txn, Some(op)) => {
                let answer = self.model.write(at, header.cxid.0, &op);
                let found = match txn {
                    Txn::Error { err } => *err,
                    _ => 0,
                };
                let is_error = header.kind == TxnType::Error;
                if found != answer.err || is_error != (answer.err != 0) {
                    let want = answer.err;
                    let what = format!("0x{zxid:x} is logged as {found}, {want} is right: {op:?}");
                    return Err(self.wrong(what));
                }
            }
        }
        Ok(())
    }

    fn check_expiry(&self, session: SessionId) -> Checked {
        if !self.model.sessions(self.model.last).iter().any(|(id, _)| *id == session) {
            if self.model.has_ephemerals_of(session) {
                return Ok(());
            }
            return Err(self.wrong(format!("{session:?} is closed and was not open")));
        }
        let Some(&(at, timeout_ms)) = self.touched.get(&session) else {
            return Err(self.wrong(format!("{session:?} expires and was never heard of")));
        };
        let silent = (self.now - at) / MS;
        if silent < timeout_ms as u64 {
            let what = format!("{session:?} expires after {silent} of {timeout_ms} ms");
            return Err(self.wrong(what));
        }
        Ok(())
    }

    fn server_ended(&mut self, ended: &Ended) -> Checked {
        self.note(|| format!("SERVER ENDS: {ended:?}"));
        let power = match ended {
            Ended::Crashed => {
                self.report.crashes += 1;
                true
            }
            Ended::Fatal(why) => {
                if !self.files.disk().has_failed {
                    return Err(self.wrong(format!("nothing failed and the server ends: {why}")));
                }
                self.report.fatals += 1;
                self.rng.chance(1, 2)
            }
            Ended::Stopped => {
                self.report.stops += 1;
                self.rng.chance(1, 2)
            }
        };
        self.down_server(power);
        Ok(())
    }

    /// The process is gone; with it, perhaps, everything the disk did not hold for certain.
    fn down_server(&mut self, power: bool) {
        self.node = None;
        self.life += 1;
        self.arrivals.clear();
        self.turn_at = None;
        self.house_called = false;
        self.files.disk().calm();
        if power {
            self.files.disk().crash(&mut self.rng);
        }
        for link in 0..self.links.len() {
            if self.links[link].open && self.rng.chance(2, 3) {
                let delay = self.rng.below(20 * MS);
                let time = self.links[link].down_last.max(self.now + delay);
                self.at(time, Event::ClientEof { link });
            }
        }
        let delay = self.rng.below(500 * MS) + MS;
        self.busy_until = 0;
        self.after(delay, Event::Restart);
    }

    fn compare(&self, when: &str) -> Checked {
        let Some(node) = &self.node else { return Ok(()) };
        let sessions = self.model.sessions(self.model.last).len();
        if node.replica().session_count() != sessions {
            let found = node.replica().session_count();
            return Err(self.wrong(format!("{found} sessions {when}, {sessions} are right")));
        }
        compare(&self.model, node, when).map_err(|what| self.wrong(what))
    }

    // --- the network ---

    fn latency(&mut self) -> u64 {
        (20 + self.rng.below(200)) * US
    }

    fn up(&mut self, link: usize, bytes: &[u8]) {
        let life = self.links[link].life;
        let mut rest = bytes;
        while !rest.is_empty() {
            let take = if self.swarm.dribble {
                1 + self.rng.below(30.min(rest.len() as u64)) as usize
            } else {
                rest.len()
            };
            let delay = self.latency();
            let time = self.links[link].up_last.max(self.now + delay);
            self.links[link].up_last = time;
            let arrival = Arrival::Bytes { link, bytes: rest[..take].to_vec() };
            self.at(time, Event::Arrive { life, arrival });
            rest = &rest[take..];
        }
    }

    fn down(&mut self, link: usize, bytes: &[u8]) {
        let slow = self.swarm.slow_readers && self.links[link].client.is_multiple_of(2);
        for piece in bytes.chunks(if slow { 256 } else { 4096 }) {
            let delay = self.latency() * if slow { 20 } else { 1 };
            let time = self.links[link].down_last.max(self.now + delay);
            let time = if slow { time + delay } else { time };
            self.links[link].down_last = time;
            self.at(time, Event::ToClient { link, bytes: piece.to_vec() });
        }
        let (time, life) = (self.links[link].down_last, self.life);
        self.at(time, Event::Arrive { life, arrival: Arrival::Sent { link } });
    }

    fn delivered(&mut self, link: usize, bytes: &[u8]) -> Checked {
        if !self.links[link].open {
            return Ok(());
        }
        self.mix_bytes(bytes);
        let id = self.links[link].client;
        let client = &mut self.clients[id];
        let outcome = client.received(Instant(self.now), bytes, &self.model);
        self.revealed = self.revealed.max(client.last_zxid);
        if let Err(why) = outcome {
            return Err(self.wrong(format!("client {id}: {why}")));
        }
        for session in std::mem::take(&mut self.clients[id].refused) {
            if !self.ended.contains_key(&session) {
                return Err(self.wrong(format!("{session:?} was refused and never ended")));
            }
        }
        if self.clients[id].state == State::Down {
            self.cut(link, false);
        }
        Ok(())
    }

    /// The client's end of a connection is gone. The server learns of it, or never does.
    fn cut(&mut self, link: usize, told: bool) {
        if !self.links[link].open {
            return;
        }
        self.links[link].open = false;
        let (client, life) = (self.links[link].client, self.links[link].life);
        if self.clients[client].link == Some(link) {
            self.clients[client].disconnected();
        }
        if told || self.rng.chance(3, 4) {
            let delay = self.latency();
            let time = self.links[link].up_last.max(self.now + delay);
            self.at(time, Event::Arrive { life, arrival: Arrival::Eof { link } });
        }
    }

    // --- the clients ---

    fn act(&mut self, id: usize) {
        let now = self.now;
        let client = &self.clients[id];
        let think = match client.state {
            State::Down if now < client.away_until.0 => client.away_until.0 - now,
            State::Down => self.try_connect(id),
            State::Connecting if now - client.last_sent.0 > 4 * SECOND => self.hang_up(id),
            State::Connecting => 20 * MS,
            State::Up if now - client.last_heard.0 > client.timeout_ms as u64 * MS * 2 / 3 => {
                self.hang_up(id)
            }
            State::Up => self.work(id),
        };
        self.after(think.max(10 * US), Event::Act { client: id });
    }

    fn hang_up(&mut self, id: usize) -> u64 {
        if let Some(link) = self.clients[id].link {
            self.cut(link, false);
        }
        self.rng.below(100 * MS)
    }

    fn try_connect(&mut self, id: usize) -> u64 {
        if self.node.as_ref().is_none_or(|node| node.draining) {
            return self.rng.below(300 * MS);
        }
        let link = self.links.len();
        let life = self.life;
        self.links.push(Link { client: id, life, open: true, up_last: 0, down_last: 0 });
        let delay = self.latency();
        self.links[link].up_last = self.now + delay;
        self.arrive(delay, Arrival::Opened { link });
        let timeout_ms = (2 + self.rng.below(14)) as i32 * TICK_MS as i32;
        let frame = self.clients[id].connect(Instant(self.now), link, timeout_ms);
        self.note(|| format!("client {id} connects on link {link}"));
        self.up(link, &frame);
        20 * MS
    }

    fn work(&mut self, id: usize) -> u64 {
        let Some(link) = self.clients[id].link else { return MS };
        if let Some(op) = self.clients[id].rewatch() {
            self.ask(id, link, op, None);
        }
        let calm = self.phase == Phase::Heal;
        if !calm && self.swarm.vanish && self.rng.chance(1, 400) {
            let away = self.rng.below(15 * SECOND);
            self.clients[id].away_until = Instant(self.now + away);
            let told = self.rng.chance(1, 2);
            self.cut(link, told);
            return MS;
        }
        if !calm && self.swarm.cuts && self.rng.chance(1, 200) {
            // Perhaps in the middle of a frame.
            let op = Op::Ping;
            let half = self.rng.below(12) as usize;
            self.ask(id, link, op, Some(half));
            self.cut(link, false);
            return MS;
        }
        if self.clients[id].closing {
            return 20 * MS;
        }
        if !calm && self.rng.chance(1, 300) {
            self.ask(id, link, Op::Close, None);
            return 20 * MS;
        }
        let client = &self.clients[id];
        let idle = self.now - client.last_sent.0;
        if idle > client.timeout_ms as u64 * MS / 3 {
            self.ask(id, link, Op::Ping, None);
        }
        if calm && self.clients[id].outstanding() == 0 {
            self.ask(id, link, Op::Sync { path: "/".into() }, None);
        }
        let room = self.swarm.depth.saturating_sub(self.clients[id].outstanding());
        if !calm {
            let most = room.min(self.budget as usize);
            let ops = self.clients[id].burst(&mut self.rng, &self.swarm, most);
            self.budget -= ops.len() as u32;
            ops.into_iter().for_each(|op| self.ask(id, link, op, None));
        }
        let think = self.rng.below(self.swarm.think_us * 2) * US;
        let think = if calm { 100 * MS } else { think };
        think.min(self.clients[id].timeout_ms as u64 * MS / 4)
    }

    fn ask(&mut self, id: usize, link: usize, op: Op, cut_at: Option<usize>) {
        self.report.ops += 1;
        let session = self.clients[id].session.unwrap_or_default();
        self.note(|| format!("client {id} asks {op:?}"));
        let (xid, frame) = self.clients[id].send(Instant(self.now), op.clone());
        if op.is_write() {
            self.requests.insert((session, xid), op);
        }
        let end = cut_at.map_or(frame.len(), |at| at.min(frame.len()));
        self.up(link, &frame[..end]);
    }

    // --- the faults ---

    fn plan_fault(&mut self) {
        let delay = self.rng.below(2 * self.swarm.fault_ms * MS) + 10 * MS;
        self.after(delay, Event::Fault);
    }

    fn fault(&mut self) -> Checked {
        if self.phase != Phase::Work {
            return Ok(());
        }
        self.plan_fault();
        let kind = self.rng.below(9);
        let extent = self.rng.next_u64();
        match kind {
            0 | 1 if self.swarm.crashes => self.files.disk().crash_in = Some((extent % 40) as u32),
            2 if self.swarm.crashes && self.node.is_some() => {
                // The power fails, or only the process is killed.
                let power = extent.is_multiple_of(2);
                self.note(|| format!("KILLED, power lost: {power}"));
                self.report.crashes += 1;
                self.down_server(power);
            }
            3 if self.swarm.stops => {
                if let Some(node) = &mut self.node {
                    node.drain();
                }
            }
            4 if self.swarm.pauses => self.busy_until = self.now + extent % (8 * SECOND),
            5 if self.swarm.wall_jumps => self.wall_ms += (extent % 200_000) as i64 - 100_000,
            6 if self.swarm.write_errors => self.files.disk().fail_next = true,
            7 if self.swarm.disk_full => {
                self.files.disk().full = true;
                self.after(extent % (2 * SECOND), Event::FullEnds);
            }
            _ => {}
        }
        self.note(|| format!("fault {kind}"));
        Ok(())
    }

    fn heal(&mut self) {
        self.note(|| "FAULTS STOP".into());
        self.phase = Phase::Heal;
        self.healed_at = self.now;
        self.files.disk().calm();
        self.files.disk().full = false;
        self.busy_until = self.busy_until.min(self.now);
        if let Some(node) = &mut self.node
            && !node.draining
        {
            self.want_turn(self.now);
        }
        for client in &mut self.clients {
            client.away_until = Instant(0);
        }
        self.completed_before = self.clients.iter().map(|c| c.completed).collect();
    }

    /// Whether everybody has been served since the faults stopped.
    fn check_liveness(&mut self) -> Result<bool, Violation> {
        let served = |(client, before): (&Client, &u64)| {
            client.state == State::Up && client.completed > before + 1
        };
        let all = self.clients.iter().zip(&self.completed_before).all(served);
        let settled = self.node.as_ref().is_some_and(|n| n.replica().is_settled());
        if all && settled {
            return Ok(true);
        }
        if self.now - self.healed_at > LIVENESS {
            let stuck = self.clients.iter().zip(&self.completed_before).find(|p| !served(*p));
            let who = stuck.map(|(c, _)| (c.id, c.state, c.outstanding()));
            let what = format!("a minute after the last fault not everybody is served: {who:?}");
            return Err(self.wrong(what));
        }
        Ok(false)
    }

    /// At the end: the live tree is right, and so is what one more power failure leaves.
    fn finish(&mut self) -> Checked {
        self.compare("at the end")?;
        self.down_server(true);
        self.restart()?;
        if let Some(node) = &self.node {
            let digest = node.replica().tree().digest();
            self.mix(digest);
        }
        Ok(())
    }
}
