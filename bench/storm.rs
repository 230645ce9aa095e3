//! Many sessions at once: they arrive, are cut off, return with their ids, are notified, leave.
//!
//! Each member does what a client library does for a typical user (a lock holder, a registered
//! service): open a session, create an ephemeral node, leave a watch on a shared node. After the
//! cut it returns with its session id, sets its watch again and looks whether its node is still
//! there. A refused connection is tried again after a pause that grows, as client libraries do.
#![forbid(unsafe_code)]

use std::collections::BinaryHeap;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringkeeper::base::{SessionId, Xid, Zxid};
use ringkeeper::wire::{ConnectResponse, OpCode, XID_NOTIFICATION, XID_SET_WATCHES};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::codec;
use crate::net::{self, Poll};
use crate::procfs;
use crate::stats::{Latency, round3};

/// Size and limits of a storm.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Address of the server.
    pub addr: SocketAddr,
    /// Process id of the server, if it runs here and its CPU time is wanted.
    pub server_pid: Option<u32>,
    /// Number of sessions.
    pub sessions: usize,
    /// Whether each creates an ephemeral node.
    pub ephemerals: bool,
    /// Connects under way at the same time; the rest wait for their turn.
    pub connecting_max: usize,
    /// Session timeout asked for, ms.
    pub timeout_ms: i32,
    /// A phase that takes longer has failed.
    pub patience: Duration,
}

impl Storm {
    /// 10 000 sessions with an ephemeral node each, all at once.
    pub fn new(addr: SocketAddr) -> Storm {
        Storm {
            addr,
            server_pid: None,
            sessions: 10_000,
            ephemerals: true,
            connecting_max: usize::MAX,
            timeout_ms: 120_000,
            patience: Duration::from_secs(120),
        }
    }
}

/// Figures of one phase.
#[derive(Clone)]
pub struct Phase {
    /// Milliseconds from its start until the last member was done.
    pub seconds: f64,
    /// Per member, from the start of the phase.
    pub latency: Latency,
    /// Members that were done in time.
    pub done: usize,
    /// Sessions or ephemeral nodes that were gone.
    pub lost: usize,
    /// Connects that had to be repeated.
    pub retries: u64,
    /// Server's CPU seconds.
    pub server_cpu: Option<f64>,
    /// Generator's CPU seconds.
    pub client_cpu: Option<f64>,
}

impl Phase {
    /// All figures.
    pub fn json(&self) -> Value {
        let per_member = |cpu: Option<f64>| cpu.map(|c| round3(c * 1e6 / self.done.max(1) as f64));
        json!({
            "total_ms": round3(self.seconds * 1e3),
            "ops": self.done,
            "ops_per_s": (self.done as f64 / self.seconds).round(),
            "latency": self.latency.json(),
            "lost": self.lost,
            "retries": self.retries,
            "server_cpu_us_per_op": per_member(self.server_cpu),
            "client_cpu_us_per_op": per_member(self.client_cpu),
            "client_share": self.client_cpu.map(|c| round3(c / self.seconds)),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Away,
    Connecting,
    Handshake,
    /// Number of replies that are still to come.
    Working(u8),
    Done,
}

struct Member {
    stream: Option<TcpStream>,
    stage: Stage,
    session: SessionId,
    password: [u8; 16],
    zxid: i64,
    out: Vec<u8>,
    out_at: usize,
    input: Vec<u8>,
    tries: u32,
    lost: bool,
    watching_write: bool,
    dialled: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Task {
    Arrive,
    Return,
    Rearm,
    Notified,
    Leave,
}

/// Many sessions that do the same at the same time.
pub struct Crowd {
    storm: Storm,
    poll: Poll,
    members: Vec<Member>,
    retry: BinaryHeap<std::cmp::Reverse<(Instant, usize)>>,
    waiting: Vec<usize>,
    connecting: usize,
    task: Task,
    started: Instant,
    phase: Phase,
    buf: Vec<u8>,
    next_check: Instant,
}

/// A connect or handshake that takes longer is given up and begun again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const ROOT: &str = "/storm";
const FLAG: &str = "/storm/flag";

fn own(index: usize) -> String {
    format!("{ROOT}/member-{index:06}")
}

fn empty_phase() -> Phase {
    Phase {
        seconds: 0.0,
        latency: Latency::new(),
        done: 0,
        lost: 0,
        retries: 0,
        server_cpu: None,
        client_cpu: None,
    }
}

impl Crowd {
    /// Creates the shared nodes; nobody is there yet.
    pub fn new(storm: Storm) -> Result<Crowd, String> {
        let limit = net::raise_file_limit();
        if storm.sessions as u64 + 64 > limit {
            return Err(format!(
                "{} sessions need as many open files; the limit is {limit} (ulimit -n)",
                storm.sessions
            ));
        }
        let mut admin = Admin::connect(storm.addr)?;
        admin.create_all([ROOT, FLAG].into_iter().map(str::to_owned))?;
        admin.close();
        let member = || Member {
            stream: None,
            stage: Stage::Away,
            session: SessionId(0),
            password: [0; 16],
            zxid: 0,
            out: Vec::new(),
            out_at: 0,
            input: Vec::new(),
            tries: 0,
            lost: false,
            watching_write: false,
            dialled: Instant::now(),
        };
        Ok(Crowd {
            storm,
            poll: Poll::new(4096).map_err(|e| e.to_string())?,
            members: (0..storm.sessions).map(|_| member()).collect(),
            retry: BinaryHeap::new(),
            waiting: Vec::new(),
            connecting: 0,
            task: Task::Arrive,
            started: Instant::now(),
            phase: empty_phase(),
            buf: vec![0; 64 * 1024],
            next_check: Instant::now(),
        })
    }

    /// Everybody opens a session, creates an ephemeral node and leaves a watch.
    pub fn arrive(&mut self) -> Result<Phase, String> {
        self.connect_all(Task::Arrive)
    }

    /// Everybody reconnects with the id they had, sets the watch again and checks the node.
    pub fn come_back(&mut self) -> Result<Phase, String> {
        self.connect_all(Task::Return)
    }

    /// All connections break.
    pub fn cut(&mut self) {
        for member in &mut self.members {
            member.stream = None;
            member.stage = Stage::Away;
            member.input.clear();
            member.out.clear();
            member.out_at = 0;
        }
    }

    /// One write to the watched node; over when everybody has been told. The watches are set
    /// again afterwards, outside the measurement.
    pub fn notify(&mut self) -> Result<Phase, String> {
        let mut admin = Admin::connect(self.storm.addr)?;
        for member in &mut self.members {
            if member.stage == Stage::Done {
                member.stage = Stage::Working(1);
            }
        }
        let (server, client) = self.begin(Task::Notified);
        let (err, _) = admin.call(|xid| codec::set_frame(xid, FLAG, b"up"))?;
        if err != 0 {
            return Err(format!("setting {FLAG} was answered {err}"));
        }
        let phase = self.finish(server, client)?;
        admin.close();
        let watch = codec::read_frame(Xid(3), OpCode::Exists, FLAG, true);
        self.ask_all(Task::Rearm, &watch)?;
        Ok(phase)
    }

    /// Everybody closes their session.
    pub fn leave(&mut self) -> Result<Phase, String> {
        let close = codec::empty_frame(Xid(4), OpCode::CloseSession);
        let phase = self.ask_all(Task::Leave, &close)?;
        self.cut();
        Ok(phase)
    }

    fn ask_all(&mut self, task: Task, frame: &[u8]) -> Result<Phase, String> {
        let (server, client) = self.begin(task);
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.stream.is_some() {
                member.stage = Stage::Working(1);
                member.out.extend_from_slice(frame);
                self.flush(index);
            }
        }
        self.finish(server, client)
    }

    fn connect_all(&mut self, task: Task) -> Result<Phase, String> {
        let (server, client) = self.begin(task);
        self.connecting = 0;
        self.waiting = (0..self.members.len()).rev().collect();
        self.dial_waiting();
        self.finish(server, client)
    }

    /// CPU seconds of the server and of this process so far. Phases are short, so this takes the
    /// finer of the kernel's accounts.
    fn cpu(&self) -> (Option<f64>, Option<f64>) {
        let of = |pid: u32| procfs::threads(pid).values().sum::<f64>();
        (self.storm.server_pid.map(of), Some(of(std::process::id())))
    }

    fn begin(&mut self, task: Task) -> (Option<f64>, Option<f64>) {
        self.task = task;
        self.phase = empty_phase();
        let before = self.cpu();
        self.started = Instant::now();
        before
    }

    fn finish(&mut self, server: Option<f64>, client: Option<f64>) -> Result<Phase, String> {
        while self.phase.done + self.phase.lost < self.members.len() {
            if self.started.elapsed() > self.storm.patience {
                let (done, all) = (self.phase.done, self.members.len());
                let patience = self.storm.patience.as_secs();
                return Err(format!("{:?}: {done} of {all} done after {patience} s", self.task));
            }
            self.turn()?;
        }
        let mut phase = self.phase.clone();
        phase.seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let (server_end, client_end) = self.cpu();
        let spent = |from: Option<f64>, to: Option<f64>| Some((to? - from?).max(0.0));
        phase.server_cpu = spent(server, server_end);
        phase.client_cpu = spent(client, client_end);
        Ok(phase)
    }

    fn turn(&mut self) -> Result<(), String> {
        let mut patience = Duration::from_millis(100);
        let now = Instant::now();
        while let Some(std::cmp::Reverse((at, index))) = self.retry.peek().copied() {
            if at > now {
                patience = patience.min(at - now);
                break;
            }
            self.retry.pop();
            self.waiting.push(index);
        }
        self.dial_waiting();
        if now >= self.next_check {
            self.next_check = now + Duration::from_secs(1);
            self.give_up_slow_connects(now);
        }
        self.poll.wait(Some(patience)).map_err(|e| e.to_string())?;
        for i in 0..self.poll.ready_count() {
            let ready = self.poll.ready(i);
            if ready.writable {
                self.on_writable(ready.token);
            }
            if ready.readable {
                self.on_readable(ready.token);
            }
        }
        Ok(())
    }

    /// Client libraries do not wait for ever for a connection, they try again.
    fn give_up_slow_connects(&mut self, now: Instant) {
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let connecting = matches!(member.stage, Stage::Connecting | Stage::Handshake);
            if connecting && now.duration_since(member.dialled) > CONNECT_PATIENCE {
                self.fail(index);
            }
        }
    }

    fn dial_waiting(&mut self) {
        while self.connecting < self.storm.connecting_max {
            let Some(index) = self.waiting.pop() else { return };
            let dialled = net::connect_nonblocking(self.storm.addr, index)
                .and_then(|stream| self.poll.add(&stream, index, true).map(|()| stream));
            let member = &mut self.members[index];
            member.stage = Stage::Connecting;
            member.dialled = Instant::now();
            self.connecting += 1;
            match dialled {
                Ok(stream) => {
                    member.stream = Some(stream);
                    member.watching_write = true;
                }
                Err(_) => self.fail(index),
            }
        }
    }

    /// The connection broke or was refused: again, a little later.
    fn fail(&mut self, index: usize) {
        let member = &mut self.members[index];
        if matches!(member.stage, Stage::Connecting | Stage::Handshake) {
            self.connecting -= 1;
        }
        let was = std::mem::replace(&mut member.stage, Stage::Away);
        member.stream = None;
        member.input.clear();
        member.out.clear();
        member.out_at = 0;
        if was == Stage::Done || was == Stage::Away {
            return;
        }
        if !matches!(self.task, Task::Arrive | Task::Return) {
            self.phase.lost += 1;
            return;
        }
        self.phase.retries += 1;
        member.tries += 1;
        let pause = Duration::from_millis(20 * u64::from(member.tries.min(50)));
        self.retry.push(std::cmp::Reverse((Instant::now() + pause, index)));
    }

    fn on_writable(&mut self, index: usize) {
        let member = &mut self.members[index];
        if member.stage == Stage::Connecting {
            let Some(stream) = &member.stream else { return };
            if !matches!(stream.take_error(), Ok(None)) || stream.peer_addr().is_err() {
                self.fail(index);
                return;
            }
            member.stage = Stage::Handshake;
            let seen = Zxid(member.zxid);
            let timeout_ms = self.storm.timeout_ms;
            let frame = codec::connect_frame(member.session, &member.password, timeout_ms, seen);
            member.out.extend_from_slice(&frame);
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(stream) = &member.stream else { return };
        let sent = net::flush(stream, &mut member.out, member.out_at).and_then(|at| {
            member.out_at = at;
            let full = !member.out.is_empty();
            if full == member.watching_write {
                return Ok(());
            }
            member.watching_write = full;
            self.poll.modify(stream, index, full)
        });
        if sent.is_err() {
            self.fail(index);
        }
    }

    fn on_readable(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(stream) = &mut member.stream else { return };
        match stream.read(&mut self.buf) {
            Ok(n) if n > 0 => {
                member.input.extend_from_slice(&self.buf[..n]);
                if self.take_frames(index).is_err() {
                    self.fail(index);
                }
            }
            Err(e)
                if e.kind() == io::ErrorKind::WouldBlock
                    || e.kind() == io::ErrorKind::Interrupted => {}
            _ => self.fail(index),
        }
    }

    fn take_frames(&mut self, index: usize) -> Result<(), String> {
        let input = std::mem::take(&mut self.members[index].input);
        let mut rest = &input[..];
        while !rest.is_empty() {
            if self.members[index].stage == Stage::Handshake {
                let Some(body) = codec::frame_body(rest) else { break };
                rest = &rest[body.len() + 4..];
                self.on_connected(index, body)?;
                continue;
            }
            let Some(head) = codec::reply_head(rest)? else { break };
            rest = &rest[head.frame_len..];
            self.on_reply(index, head);
        }
        let left = rest.to_vec();
        self.members[index].input = left;
        Ok(())
    }

    fn on_connected(&mut self, index: usize, body: &[u8]) -> Result<(), String> {
        let response = ConnectResponse::decode(body).map_err(|e| e.to_string())?;
        let member = &mut self.members[index];
        self.connecting -= 1;
        if response.session == SessionId(0) {
            // Its id is not known any more: the session is lost.
            member.stage = Stage::Done;
            member.stream = None;
            member.lost = true;
            self.phase.lost += 1;
            return Ok(());
        }
        member.session = response.session;
        member.password = response.password;
        let mut wanted = 1;
        if self.task == Task::Arrive {
            if self.storm.ephemerals {
                member.out.extend_from_slice(&codec::create_frame(Xid(1), &own(index), b"", 1));
                wanted += 1;
            }
            let watch = codec::read_frame(Xid(2), OpCode::Exists, FLAG, true);
            member.out.extend_from_slice(&watch);
        } else {
            let seen = Zxid(member.zxid);
            let xid = Xid(XID_SET_WATCHES);
            member.out.extend_from_slice(&codec::set_watches_frame(xid, seen, &[FLAG]));
            if self.storm.ephemerals {
                let look = codec::read_frame(Xid(2), OpCode::Exists, &own(index), false);
                member.out.extend_from_slice(&look);
                wanted += 1;
            }
        }
        member.stage = Stage::Working(wanted);
        self.flush(index);
        Ok(())
    }

    fn on_reply(&mut self, index: usize, head: codec::ReplyHead) {
        let member = &mut self.members[index];
        member.zxid = member.zxid.max(head.zxid);
        let event = head.xid == XID_NOTIFICATION;
        if event != (self.task == Task::Notified) {
            return;
        }
        let Stage::Working(left) = member.stage else { return };
        // A node that its owner created before a retry exists: that is no loss.
        if head.err != 0 && head.err != crate::admin::NODE_EXISTS {
            member.lost = true;
        }
        if left > 1 {
            member.stage = Stage::Working(left - 1);
            return;
        }
        member.stage = Stage::Done;
        if member.lost {
            self.phase.lost += 1;
            return;
        }
        self.phase.done += 1;
        let ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.phase.latency.record(ns, 1);
    }
}

/// A whole storm: arrive, be notified, be cut off, return, be notified again, leave. Returns the
/// phases by name.
pub fn whole(storm: Storm) -> Result<Vec<(&'static str, Phase)>, String> {
    let mut crowd = Crowd::new(storm)?;
    let mut phases = vec![("arrive", crowd.arrive()?), ("notify", crowd.notify()?)];
    crowd.cut();
    phases.push(("return", crowd.come_back()?));
    // Only a watch that survived the return is notified here.
    phases.push(("notify-again", crowd.notify()?));
    phases.push(("leave", crowd.leave()?));
    Ok(phases)
}
