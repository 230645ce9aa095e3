//! One simulated server: the real front, replica, log writer, housekeeper and recovery, driven the
//! way `server::worker` and `server::housekeeping` drive them, on simulated files.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Auth, AuthOptions};
use crate::base::{ConnId, FixedMap, Instant, Now, Rng, ServerId, SessionId, Zxid};
use crate::disk::{
    Chores, DURABLE, FatalLogError, Housekeeper, HousekeeperOptions, LogWriter, LogWriterOptions,
    PendingWrite, Report, Reports,
};
use crate::front::{Front, FrontOptions, FrontSink, Queued, Sent, Verdict};
use crate::log::{BLOCK, FileName, PurgePolicy, RecoverError, RecoverOptions, Recovered, recover};
use crate::pipeline::PrepareOptions;
use crate::replica::{
    CloseHow, Effect, Effects, Input, Replica, ReplicaOptions, Restore, Restored,
};
use crate::session::initial_session_id;
use crate::tree::{ApplyMode, NoSink, Tree, TreeOptions};
use crate::wire::{Txn, TxnHeader, TxnType};

use super::disk::{DiskError, SimDisk, name_of};
use super::files::SimFiles;
use super::options::{Bug, Swarm};

/// Something that reaches the server from outside.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Opened {
        link: usize,
    },
    Bytes {
        link: usize,
        bytes: Vec<u8>,
    },
    Eof {
        link: usize,
    },
    Sent {
        link: usize,
    },
    /// The write in flight ended, perhaps short.
    LogDone {
        of_256: usize,
    },
    HouseTurn,
}

/// Something the server does to the outside.
#[derive(Debug)]
pub(super) enum Action {
    Send {
        link: usize,
        bytes: Vec<u8>,
    },
    /// Half-closed after everything sent.
    Finish {
        link: usize,
    },
    Reset {
        link: usize,
    },
    /// A write of the log began.
    Writing,
    /// Transactions in their order, as given to the log.
    Logged {
        entry: Vec<u8>,
    },
    /// Frames of this session reached the replica.
    Touched {
        session: SessionId,
        timeout_ms: i32,
    },
}

/// How a server ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Crashed,
    /// The process ended itself with this message.
    Fatal(String),
    /// A clean shutdown is complete.
    Stopped,
}

impl From<DiskError> for Ended {
    fn from(error: DiskError) -> Ended {
        match error {
            DiskError::Crashed => Ended::Crashed,
            other => Ended::Fatal(io::Error::from(other).to_string()),
        }
    }
}

struct Socket {
    link: usize,
    sending: bool,
    held: bool,
    waiting: Vec<Vec<u8>>,
    lingering: bool,
}

/// A running server.
pub(super) struct Node {
    pub replica: Replica,
    front: Front,
    files: Arc<SimFiles>,
    writer: LogWriter<SimFiles>,
    in_flight: Option<PendingWrite<SimFiles>>,
    /// The log has a worker of its own, which writes in line.
    inline_log: bool,
    house: Housekeeper<SimFiles>,
    chores: Chores<SimFiles>,
    reports: Reports,
    /// Chunks of the snapshot that the replica was not told about.
    handed: u32,
    fx: Effects,
    sockets: FixedMap<ConnId, Socket>,
    conns: FixedMap<usize, ConnId>,
    ready: Vec<ConnId>,
    next_sweep: Instant,
    next_purge: Instant,
    pub draining: bool,
    finishing: bool,
    done: bool,
    bug: Option<Bug>,
    bug_rng: Rng,
    /// What the turn did to the outside.
    pub actions: Vec<Action>,
}

/// What a start found.
pub(super) struct Started {
    pub node: Node,
    pub recovered: Recovered,
    pub sessions: Vec<(SessionId, i32)>,
    pub mismatches: u64,
}

struct Sink<'a> {
    now: Now,
    replica: &'a mut Replica,
    fx: &'a mut Effects,
    touched: &'a mut Vec<Action>,
}

impl FrontSink for Sink<'_> {
    fn frames(&mut self, conn: ConnId, bytes: &[u8]) {
        self.replica.handle(self.now, Input::Frames { conn, bytes }, self.fx);
        self.replica.check();
        note_touch(self.replica, conn, self.touched);
    }

    fn drained(&mut self, conn: ConnId) {
        self.replica.handle(self.now, Input::Drained { conn }, self.fx);
        self.replica.check();
    }

    fn word(&mut self, conn: ConnId, _word: [u8; 4], _argument: &[u8]) {
        self.replica.handle(self.now, Input::Closed { conn }, self.fx);
        self.fx.close(conn, CloseHow::AfterFlush);
    }
}

fn note_touch(replica: &Replica, conn: ConnId, touched: &mut Vec<Action>) {
    if let Some(client) = replica.clients().find(|client| client.conn == conn)
        && client.session.0 != 0
    {
        let (session, timeout_ms) = (client.session, client.timeout_ms);
        touched.push(Action::Touched { session, timeout_ms });
    }
}

/// Width of an expiry bucket in the simulation.
pub(super) const TICK_MS: u64 = 500;
const RETAIN: usize = 3;
/// Bytes of snapshot that may wait for the disk.
const BACKLOG: usize = 2 << 10;

fn restored(tree: Tree, sessions: Vec<(SessionId, i32)>, recovered: &Recovered) -> Restored {
    Restored {
        tree,
        sessions,
        last_zxid: Zxid(recovered.last_zxid.0.max(0)),
        wants_snapshot: recovered.snapshot_zxid.is_none(),
        snapshot_zxid: recovered.snapshot_zxid,
    }
}

pub(super) fn tree_options(seed: u64) -> TreeOptions {
    TreeOptions { extended_types: true, emulate_353_ttl: false, digest: true, hash_seed: seed }
}

fn replica_options(swarm: &Swarm, seed: u64) -> ReplicaOptions {
    ReplicaOptions {
        server_id: 1,
        tick_ms: TICK_MS,
        min_session_timeout_ms: 2 * TICK_MS as i32,
        max_session_timeout_ms: 20 * TICK_MS as i32,
        prepare: PrepareOptions {
            extended_types: true,
            emulate_353_ttl: false,
            enforce_quota: false,
            close_session_paths: true,
        },
        outstanding_limit: swarm.outstanding,
        snap_count: swarm.snap_count,
        snap_size_bytes: 0,
        snap_log_ratio: 0,
        seed,
        ..ReplicaOptions::default()
    }
}

/// The last group commit of the newest segment vanishes.
fn drop_last_group(disk: &mut SimDisk) {
    use crate::log::{Expect, scan_segment};
    let newest = disk
        .names()
        .into_iter()
        .filter_map(|(kind, path)| match kind {
            FileName::Segment(zxid) => Some((zxid, path)),
            _ => None,
        })
        .max();
    let Some(file) = newest.and_then(|(_, path)| disk.find(name_of(&path))) else { return };
    let mut last = None;
    let _ = scan_segment::<()>(disk.content(file), Expect::default(), &mut |at, _| {
        last = Some(at.offset as usize);
        Ok(())
    });
    if let Some(offset) = last {
        disk.corrupt(file, offset);
    }
}

/// Takes the place of damage for the end of the log.
fn cut_at_damage(disk: &mut SimDisk, error: &RecoverError) {
    if let (Some(file), Some(offset)) = (disk.find(name_of(&error.path)), error.offset) {
        disk.corrupt(file, offset as usize);
    }
}

impl Node {
    /// Starts on what the disk holds. The outer error is the end of the machine, the inner one
    /// that of the process: it refuses to start.
    pub fn start(
        files: &Arc<SimFiles>,
        swarm: &Swarm,
        now: Now,
        seed: u64,
        bug: Option<Bug>,
    ) -> Result<Result<Started, String>, Ended> {
        files.disk().has_failed = false;
        if bug == Some(Bug::DropLastGroup) {
            drop_last_group(&mut files.disk());
        }
        let mut restore = Restore::new(tree_options(seed));
        let mut outcome = recover(&**files, &RecoverOptions::default(), &mut restore);
        if let (Some(Bug::TrustRot), Err(error)) = (bug, &outcome) {
            cut_at_damage(&mut files.disk(), error);
            restore = Restore::new(tree_options(seed));
            outcome = recover(&**files, &RecoverOptions::default(), &mut restore);
        }
        let mut recovered = match outcome {
            Ok(recovered) => recovered,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mismatches = restore.mismatches();
        let (mut tree, mut sessions) = restore.finish(recovered.last_zxid, now.wall_ms);
        match bug {
            Some(Bug::ForgetSession) => drop(sessions.pop()),
            Some(Bug::LoseEphemeral) => lose_ephemeral(&mut tree),
            Some(Bug::KeepTornTail) => recovered.repair.cut = None,
            _ => {}
        }
        let restored = restored(tree, sessions.clone(), &recovered);
        let auth = match Auth::new(AuthOptions::default()) {
            Ok(auth) => auth,
            Err(why) => return Ok(Err(why)),
        };
        let first = initial_session_id(ServerId(1), now.wall_ms as u64);
        let replica = Replica::new(now, replica_options(swarm, seed), auth, restored, first);
        let node = Node::open(files, swarm, now, seed, bug, &recovered, replica)?;
        Ok(Ok(Started { node, recovered, sessions, mismatches }))
    }

    /// Opens the log behind what was recovered.
    fn open(
        files: &Arc<SimFiles>,
        swarm: &Swarm,
        now: Now,
        seed: u64,
        bug: Option<Bug>,
        recovered: &Recovered,
        replica: Replica,
    ) -> Result<Node, Ended> {
        let house_options = HousekeeperOptions::default();
        let (house, chores, reports) =
            Housekeeper::without_thread(Arc::clone(files), house_options, Box::new(|| {}));
        let log_options = LogWriterOptions {
            segment_size: swarm.segment_size,
            write_size_max: swarm.staging,
            force_sync: true,
            direct_io: swarm.direct_log.then_some(true),
        };
        let writer = LogWriter::open(Arc::clone(files), recovered, log_options, &house)
            .map_err(|e| ended(files, &e))?;
        Ok(Node {
            replica,
            front: Front::new(FrontOptions {
                id: 0,
                max_frame: 1 << 20,
                sessionless_timeout_ms: 10_000,
                max_output: swarm.max_output,
                cut_off_output: 4 * swarm.max_output + (64 << 10),
            }),
            files: Arc::clone(files),
            writer,
            in_flight: None,
            inline_log: swarm.inline_log,
            house,
            chores,
            reports,
            handed: 0,
            fx: Effects::default(),
            sockets: FixedMap::default(),
            conns: FixedMap::default(),
            ready: Vec::new(),
            next_sweep: now.mono,
            next_purge: now.mono + Duration::from_secs(20),
            draining: false,
            finishing: false,
            done: false,
            bug,
            bug_rng: Rng::new(seed ^ 0xb06),
            actions: Vec::new(),
        })
    }

    /// One turn: everything that arrived, then time, then what follows from it.
    pub fn turn(&mut self, now: Now, arrivals: Vec<Arrival>) -> Result<(), Ended> {
        for arrival in arrivals {
            match arrival {
                Arrival::Opened { link } => self.opened(now, link),
                Arrival::Bytes { link, bytes } => self.bytes(now, link, &bytes),
                Arrival::Eof { link } => self.eof(now, link),
                Arrival::Sent { link } => self.sent(now, link),
                Arrival::LogDone { of_256 } => self.log_done(now, of_256)?,
                Arrival::HouseTurn => {
                    self.chores.turn();
                    self.check_power()?;
                }
            }
        }
        self.sweep(now);
        self.run_brain(now)?;
        self.write_log(now)?;
        self.send_ready()?;
        if self.draining && self.is_drained() {
            return Err(Ended::Stopped);
        }
        Ok(())
    }

    /// What is in the background has no other way to learn of it.
    fn check_power(&self) -> Result<(), Ended> {
        if self.files.disk().is_off() { Err(Ended::Crashed) } else { Ok(()) }
    }

    /// Starts the next write if none is in flight and something is queued.
    fn write_log(&mut self, now: Now) -> Result<(), Ended> {
        let failed = |e: FatalLogError| ended(&self.files, &e);
        if self.inline_log {
            let mut durable = None;
            while let Some(zxid) = self.writer.write_sync().map_err(failed)? {
                durable = Some(zxid);
            }
            if let Some(zxid) = durable {
                self.handle(now, Input::Synced { zxid });
                return self.run_brain(now);
            }
            return Ok(());
        }
        let Some(write) = self.writer.begin_write().map_err(failed)? else { return Ok(()) };
        let mut from = 0;
        let mut disk = self.files.disk();
        if self.bug == Some(Bug::SkipTailBlock) && write.offset > BLOCK as u64 {
            let old = &disk.content(write.fd)[write.offset as usize..][..16];
            from = if old.iter().any(|&b| b != 0) { BLOCK.min(write.len) } else { 0 };
        }
        disk.write(write.fd, write.offset as usize + from, &write.buf[from..write.len])?;
        drop(disk);
        self.actions.push(Action::Writing);
        let zxid = write.plan.last_zxid;
        self.in_flight = Some(write);
        if self.bug == Some(Bug::AckBeforeSync) {
            self.handle(now, Input::Synced { zxid });
            self.run_brain(now)?;
        }
        Ok(())
    }

    /// The write in flight ended; a short one ends in line.
    fn log_done(&mut self, now: Now, of_256: usize) -> Result<(), Ended> {
        let Some(write) = self.in_flight.take() else { return Ok(()) };
        let done = write.len * of_256 / 256;
        let synced = match write.rw_flags {
            DURABLE => self.files.disk().sync_range(write.fd, write.offset as usize, done),
            _ => Ok(()),
        };
        let result = match synced {
            Err(DiskError::Failed) if self.bug == Some(Bug::IgnoreFailedWrite) => Ok(write.len),
            Ok(()) if done == 0 => Err(io::ErrorKind::Interrupted.into()),
            other => other.map(|()| done).map_err(io::Error::from),
        };
        let finished = self.writer.finish_write(write, result);
        let zxid = finished.map_err(|e| ended(&self.files, &e))?;
        if self.bug != Some(Bug::AckBeforeSync) {
            // As in production, what is prepared goes to the disk before the rest is applied.
            while self.carry_out(now)? {}
            self.write_log(now)?;
            self.handle(now, Input::Synced { zxid });
        }
        Ok(())
    }

    fn handle(&mut self, now: Now, input: Input<'_>) {
        self.replica.handle(now, input, &mut self.fx);
        self.replica.check();
    }

    /// Whether the housekeeper has something to do.
    pub fn has_chores(&self) -> bool {
        !self.chores.is_idle()
    }

    /// Begins a clean shutdown: what is under way is finished, nothing new is taken.
    pub fn drain(&mut self) {
        self.draining = true;
        self.front.stop_taking();
    }

    /// When the next turn is needed though nothing arrives.
    pub fn deadline(&self) -> Instant {
        let mut next = self.next_sweep;
        if let Some(at) = self.replica.deadline() {
            next = next.min(at);
        }
        next
    }

    fn is_drained(&self) -> bool {
        let flushed = self.ready.is_empty() && self.sockets.values().all(|s| !s.sending);
        self.replica.is_settled() && self.done && flushed && self.chores.is_idle()
    }

    fn opened(&mut self, now: Now, link: usize) {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1024 + (link % 60_000) as u16));
        let conn = self.front.accept(now.mono, peer);
        let socket =
            Socket { link, sending: false, held: false, waiting: Vec::new(), lingering: false };
        self.sockets.insert(conn, socket);
        self.conns.insert(link, conn);
        self.handle(now, Input::Opened { conn, peer });
    }

    fn bytes(&mut self, now: Now, link: usize, bytes: &[u8]) {
        let Some(&conn) = self.conns.get(&link) else { return };
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if socket.held {
            return socket.waiting.push(bytes.to_vec());
        }
        let mut sink =
            Sink { now, replica: &mut self.replica, fx: &mut self.fx, touched: &mut self.actions };
        let verdict = self.front.received(now.mono, conn, bytes, &mut sink);
        self.act(now, conn, verdict);
    }

    fn act(&mut self, now: Now, conn: ConnId, verdict: Verdict) {
        match verdict {
            Verdict::Read => {
                let Some(socket) = self.sockets.get_mut(&conn) else { return };
                socket.held = false;
                let link = socket.link;
                for bytes in std::mem::take(&mut socket.waiting) {
                    self.bytes(now, link, &bytes);
                }
            }
            Verdict::Hold => {
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.held = true;
                }
            }
            Verdict::Close(_) => self.lost(now, conn),
        }
    }

    /// The peer is gone or must go; the replica learns of it unless it asked for the end itself.
    fn lost(&mut self, now: Now, conn: ConnId) {
        let Some(socket) = self.sockets.get(&conn) else { return };
        if !socket.lingering {
            self.handle(now, Input::Closed { conn });
        }
        self.kill(conn);
    }

    fn kill(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.remove(&conn) else { return };
        self.conns.remove(&socket.link);
        self.front.begin_close(conn);
        self.front.remove(conn);
        self.actions.push(Action::Reset { link: socket.link });
    }

    fn eof(&mut self, now: Now, link: usize) {
        if let Some(&conn) = self.conns.get(&link) {
            self.lost(now, conn);
        }
    }

    fn sent(&mut self, now: Now, link: usize) {
        let Some(&conn) = self.conns.get(&link) else { return };
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        socket.sending = false;
        match self.front.sent(conn) {
            Sent::Nothing => {}
            Sent::More => self.ready.push(conn),
            Sent::Flushed => self.half_close(conn),
            Sent::Unclogged => self.resume(now, conn),
            Sent::Drained => {
                self.drained(now, conn);
                if self.front.is_clogged(conn) {
                    self.resume(now, conn);
                }
            }
        }
    }

    fn drained(&mut self, now: Now, conn: ConnId) {
        let mut sink =
            Sink { now, replica: &mut self.replica, fx: &mut self.fx, touched: &mut self.actions };
        sink.drained(conn);
    }

    fn half_close(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && !socket.lingering
        {
            socket.lingering = true;
            self.actions.push(Action::Finish { link: socket.link });
        }
    }

    fn resume(&mut self, now: Now, conn: ConnId) {
        let mut sink =
            Sink { now, replica: &mut self.replica, fx: &mut self.fx, touched: &mut self.actions };
        let verdict = self.front.resume(conn, &mut sink);
        self.act(now, conn, verdict);
    }

    fn sweep(&mut self, now: Now) {
        if now.mono < self.next_sweep {
            return;
        }
        self.next_sweep = now.mono + Duration::from_secs(1);
        let mut idle = Vec::new();
        self.front.idle(now.mono, &mut idle);
        for conn in idle {
            self.lost(now, conn);
        }
        if self.next_purge <= now.mono {
            self.next_purge = now.mono + Duration::from_secs(20);
            let policy = PurgePolicy { snapshots: Some(RETAIN), segments_back_to: RETAIN };
            self.house.purge(policy);
        }
    }

    /// As `server::housekeeping` does: takes reports and asks for more of the snapshot.
    fn poll_house(&mut self, now: Now) -> Result<(), Ended> {
        while let Ok(report) = self.reports.try_recv() {
            let failure = match report {
                Report::SnapshotDone { .. } => {
                    self.handle(now, Input::SnapshotEnded { ok: true });
                    let policy = PurgePolicy { snapshots: None, segments_back_to: RETAIN };
                    self.house.purge(policy);
                    continue;
                }
                Report::Purged(_) | Report::DirSizes { .. } => continue,
                Report::SnapshotFailed { error, .. } => {
                    self.handle(now, Input::SnapshotEnded { ok: false });
                    error
                }
                Report::PurgeFailed(error) | Report::SegmentFailed(error) => error,
            };
            // It goes on, but not without a reason.
            if !self.files.disk().has_failed {
                return Err(Ended::Fatal(format!("the housekeeper failed: {failure}")));
            }
        }
        while self.handed > 0 && self.house.snapshot_backlog() < BACKLOG {
            self.handed -= 1;
            self.handle(now, Input::SnapshotReady);
        }
        Ok(())
    }

    fn run_brain(&mut self, now: Now) -> Result<(), Ended> {
        self.poll_house(now)?;
        loop {
            let mut tick = now;
            if self.bug == Some(Bug::ExpireEarly) {
                tick.mono = tick.mono + Duration::from_secs(2);
            }
            if self.replica.deadline().is_some_and(|at| at <= tick.mono) {
                self.handle(tick, Input::Tick);
            }
            if self.draining {
                self.final_snapshot();
            }
            if !self.carry_out(now)? {
                return Ok(());
            }
        }
    }

    /// Carries out what the replica wishes. Returns whether there was anything.
    fn carry_out(&mut self, now: Now) -> Result<bool, Ended> {
        self.replica.flush(&mut self.fx);
        if self.fx.list.is_empty() {
            self.fx.clear();
            return Ok(false);
        }
        let fx = std::mem::take(&mut self.fx);
        self.apply(now, fx)?;
        Ok(true)
    }

    fn final_snapshot(&mut self) {
        if !self.replica.is_settled() || self.done {
            return;
        }
        if !self.finishing {
            self.finishing = true;
            self.replica.request_snapshot();
        } else if !self.replica.is_snapshotting() {
            self.done = true;
        }
    }

    fn apply(&mut self, now: Now, fx: Effects) -> Result<(), Ended> {
        for effect in fx.list {
            self.files.disk().step()?;
            match effect {
                Effect::Send { conn, start, end } => {
                    let bytes = self.misbehave(&fx.bytes[start..end]);
                    match self.front.queue(conn, &bytes) {
                        Queued::Ready => self.ready.push(conn),
                        Queued::Waiting => {}
                        Queued::CutOff => self.lost(now, conn),
                    }
                }
                Effect::Close { conn, how: CloseHow::Now } => self.kill(conn),
                Effect::Close { conn, how: CloseHow::AfterFlush } => {
                    if self.front.begin_close(conn) {
                        self.half_close(conn);
                    }
                }
                Effect::Established { conn, session, timeout_ms } => {
                    self.front.established(now.mono, conn, session, timeout_ms);
                    note_touch(&self.replica, conn, &mut self.actions);
                }
                Effect::Pause { conn } => self.front.pause(conn),
                Effect::Resume { conn } => self.resume(now, conn),
                Effect::AwaitDrain { conn } => {
                    if self.front.await_drain(conn) {
                        self.drained(now, conn);
                    }
                }
                Effect::Append(batch) => {
                    for (_, entry) in batch.iter() {
                        self.actions.push(Action::Logged { entry: entry.to_vec() });
                    }
                    self.writer.submit(batch);
                }
                Effect::SnapshotBegin(zxid) => self.house.snapshot_begin(zxid),
                Effect::SnapshotChunk(bytes) => {
                    self.house.snapshot_chunk(bytes);
                    self.handed += 1;
                }
                Effect::SnapshotFinish => self.house.snapshot_finish(),
                Effect::Fatal(why) => return Err(Ended::Fatal(why)),
            }
        }
        Ok(())
    }

    fn send_ready(&mut self) -> Result<(), Ended> {
        for conn in std::mem::take(&mut self.ready) {
            let Some(socket) = self.sockets.get_mut(&conn) else { continue };
            let Some(bytes) = self.front.take_output(conn, Vec::new()) else { continue };
            self.files.disk().step()?;
            socket.sending = true;
            self.actions.push(Action::Send { link: socket.link, bytes });
        }
        Ok(())
    }

    /// Injected bugs of the reply path, on whole frames.
    fn misbehave(&mut self, bytes: &[u8]) -> Vec<u8> {
        let relevant = matches!(
            self.bug,
            Some(Bug::ReplyBeforeEvent | Bug::LoseEvent | Bug::SwapReplies | Bug::HideError)
        );
        if !relevant {
            return bytes.to_vec();
        }
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut rest = bytes;
        while let Some((len, _)) = rest.split_first_chunk::<4>() {
            let size = 4 + u32::from_be_bytes(*len) as usize;
            let (frame, tail) = rest.split_at(size.min(rest.len()));
            frames.push(frame.to_vec());
            rest = tail;
        }
        let is_event = |frame: &[u8]| frame.get(4..8) == Some(&[0xff; 4]);
        match self.bug {
            Some(Bug::ReplyBeforeEvent) => frames.sort_by_key(|frame| is_event(frame)),
            Some(Bug::LoseEvent) => {
                if self.bug_rng.chance(1, 3)
                    && let Some(at) = frames.iter().position(|frame| is_event(frame))
                {
                    frames.remove(at);
                }
            }
            Some(Bug::SwapReplies) => {
                let replies: Vec<usize> = (0..frames.len())
                    .filter(|&at| !is_event(&frames[at]) && frames[at].len() >= 20)
                    .collect();
                if let [first, second, ..] = replies[..] {
                    frames.swap(first, second);
                }
            }
            Some(Bug::HideError) => {
                for frame in frames.iter_mut().filter(|frame| frame.len() == 20) {
                    frame[16..20].fill(0);
                }
            }
            _ => {}
        }
        frames.concat()
    }
}

/// What an error of the real code means: the power's failure shows as one of whatever was done.
fn ended(files: &SimFiles, error: &dyn std::error::Error) -> Ended {
    if files.disk().is_off() { Ended::Crashed } else { Ended::Fatal(error.to_string()) }
}

fn lose_ephemeral(tree: &mut Tree) {
    let Some((session, _)) = tree.sessions_with_ephemerals().min() else { return };
    let Some(node) = tree.ephemerals(session).next() else { return };
    let mut path = String::new();
    tree.path_into(node, &mut path);
    let kind = TxnType::Delete;
    let header =
        TxnHeader { session, cxid: crate::base::Xid(0), zxid: Zxid::ZERO, time_ms: 0, kind };
    tree.apply(&header, &Txn::Delete { path: &path }, ApplyMode::Replay, &mut NoSink);
}
