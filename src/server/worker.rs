//! One thread with one ring, running the stages of its plan.
//!
//! A turn: take what the kernel completed and what other workers sent, run it through the stages
//! to completion, hand the results on, wait. Stages of the same worker call each other; nothing
//! is queued between them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::admin::{self, AdminContext};
use crate::base::{ConnId, Instant, Now, Zxid};
use crate::disk::{FatalLogError, LogWriter, PendingWrite};
use crate::front::FrontSink;
use crate::log::WritePlan;
use crate::metrics::Measures;
use crate::replica::{CloseHow, Effect, Effects, Input, Replica};
use crate::sys::ring::{Completion, Ring, RingOptions};
use crate::sys::{cpu, net};

use super::edge::{Edge, Gone, TOKEN_BELL, TOKEN_LOG};
use super::host;
use super::housekeeping::Housekeeping;
use super::links::{FrontEvent, FrontTurn, Message};
use super::outbox::{Outbox, Routes};
use super::ration::Ration;
use super::sink::Sink;

/// The replica and what only it talks to.
pub struct Brain {
    /// Decides everything.
    pub replica: Replica,
    /// Its wishes of this turn.
    pub fx: Effects,
    /// Snapshots and files in the background.
    pub house: Housekeeping,
    /// Texts of the four-letter words.
    pub admin: AdminContext,
}

/// The log stage.
pub struct LogStage {
    /// Segments and group commit.
    pub writer: LogWriter,
    /// The write in flight, without its buffer.
    pub in_flight: Option<InFlight>,
    /// Write in line instead of through the ring: for a worker that does nothing else.
    pub inline: bool,
    /// A write that takes longer is warned about.
    pub slow: Duration,
}

impl LogStage {
    /// Notes how long a write took.
    fn took(&self, measures: &Measures, us: u64) {
        measures.log_write.record(us);
        if u128::from(us) > self.slow.as_micros() {
            log::warn!(
                "fsync-ing the write ahead log took {} ms, which delays every write: is the disk \
                 of dataLogDir shared, slow or failing? (fsync.warningthresholdms)",
                us / 1000
            );
        }
    }
}

/// A write that the ring is performing; the ring holds its buffer.
pub struct InFlight {
    fd: RawFd,
    offset: u64,
    len: usize,
    rw_flags: i32,
    plan: WritePlan,
    began: Instant,
}

/// Everything a worker needs to run.
pub struct WorkerParts {
    /// Position among the workers.
    pub index: usize,
    /// CPU to pin to.
    pub cpu: Option<usize>,
    /// Sockets, if this worker runs a front.
    pub edge: Option<Edge>,
    /// The replica, if this worker runs it.
    pub brain: Option<Brain>,
    /// The log, if this worker runs it.
    pub log: Option<LogStage>,
    /// This worker's own queue.
    pub inbox: Receiver<Message>,
    /// Who runs what.
    pub routes: Routes,
    /// Figures that all workers contribute to.
    pub measures: Arc<Measures>,
    /// Ring settings.
    pub ring: RingOptions,
    /// Spin this long before sleeping.
    pub busy_poll: Duration,
}

/// Why a worker ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to.
    Stopped {
        /// What the replica had processed, from the worker that ran it.
        at: Option<Zxid>,
    },
    /// It was asked to, and everything is in the log, but the final snapshot failed.
    Unsaved,
    /// The process cannot go on.
    Fatal(String),
}

/// See the module's introduction.
pub struct Worker {
    parts: WorkerParts,
    ring: Ring,
    outbox: Outbox,
    now: Now,
    draining: bool,
    /// Ends when everything is sent, or at this time.
    stopping: Option<Instant>,
    next_front: usize,
    accept_failures: Ration,
    gone: Vec<ConnId>,
}

/// How long an ending worker waits for its sockets to take what is left.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Completions that one turn takes, so that its results leave however much arrives.
const COMPLETIONS_MAX: usize = 128;

/// Messages that one turn takes, so that its results leave however fast others send.
const MESSAGES_MAX: usize = 16;

impl Brain {
    /// Answers a four-letter word.
    pub fn word(&mut self, now: Now, conn: ConnId, word: [u8; 4], argument: &[u8]) {
        self.admin.live.dir_sizes = self.house.dir_sizes;
        match &word {
            b"mntr" => self.admin.live.open_files = host::open_files(),
            b"envi" => {
                let (free, max, used) = host::memory();
                let live = &mut self.admin.live;
                (live.memory_free, live.memory_max, live.memory_used) = (free, max, used);
            }
            _ => {}
        }
        let replica = &mut self.replica;
        let text = admin::four_letter(&mut self.admin, replica, now, conn, word, argument);
        self.fx.send(conn, |out| out.extend_from_slice(text.as_bytes()));
        self.replica.handle(now, Input::Closed { conn }, &mut self.fx);
        self.fx.close(conn, CloseHow::AfterFlush);
    }

    fn front_turn(&mut self, now: Now, turn: FrontTurn) {
        for event in turn.events {
            let input = match event {
                FrontEvent::Opened(conn, peer) => Input::Opened { conn, peer },
                FrontEvent::Frames(conn, start, end) => {
                    Input::Frames { conn, bytes: &turn.bytes[start..end] }
                }
                FrontEvent::Word(conn, word, argument) => {
                    self.word(now, conn, word, &argument);
                    continue;
                }
                FrontEvent::Drained(conn) => Input::Drained { conn },
                FrontEvent::Closed(conn) => Input::Closed { conn },
            };
            self.replica.handle(now, input, &mut self.fx);
        }
    }
}

impl Worker {
    /// Sets up the ring. Call on the thread that will run it.
    pub fn new(parts: WorkerParts) -> io::Result<Worker> {
        if let Some(cpu) = parts.cpu {
            cpu::pin_to(cpu)?;
        }
        let ring = Ring::new(parts.ring)?;
        let fronts = parts.routes.front_at.len();
        Ok(Worker {
            ring,
            outbox: Outbox::new(fronts),
            now: cpu::now(),
            draining: false,
            stopping: None,
            next_front: 0,
            accept_failures: Ration::default(),
            gone: Vec::new(),
            parts,
        })
    }

    /// What the ring uses.
    pub fn features(&self) -> crate::sys::ring::RingFeatures {
        self.ring.features()
    }

    /// Runs until stopped.
    pub fn run(mut self) -> Ended {
        match self.serve() {
            Ok(()) if self.parts.brain.as_ref().is_some_and(|b| b.house.is_unsaved()) => {
                Ended::Unsaved
            }
            Ok(()) => Ended::Stopped {
                at: self.parts.brain.as_ref().map(|brain| brain.replica.last_processed()),
            },
            Err(reason) => Ended::Fatal(reason),
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        let bell = self.parts.routes.mailboxes[self.parts.index].bell().fd();
        self.ring.read_eventfd(bell, TOKEN_BELL).map_err(event_loop)?;
        if let Some(edge) = &mut self.parts.edge {
            edge.start(&mut self.ring).map_err(event_loop)?;
        }
        let mut last_work = cpu::now().mono;
        loop {
            self.now = cpu::now();
            let mut worked = self.take_completions()? > 0;
            match self.receive()? {
                Received::Nothing => {}
                Received::Something => worked = true,
                Received::Stop => {
                    self.drain();
                    let limit = self.now.mono + FLUSH_LIMIT;
                    self.stopping = Some(self.stopping.unwrap_or(limit));
                }
            }
            self.finish_turn()?;
            if worked {
                last_work = self.now.mono;
            }
            if let Some(limit) = self.stopping
                && (limit <= self.now.mono || self.parts.edge.as_ref().is_none_or(Edge::is_flushed))
            {
                return Ok(());
            }
            if self.draining && self.is_drained() {
                for mailbox in &self.parts.routes.mailboxes {
                    let _ = mailbox.send(Message::Stop);
                }
                if self.parts.brain.is_some() {
                    return Ok(());
                }
            }
            self.wait(last_work).map_err(event_loop)?;
            self.let_disk_finish();
        }
    }

    /// Handles what the kernel has completed, up to a limit. Returns how many there were.
    fn take_completions(&mut self) -> Result<usize, String> {
        let mut taken = 0;
        // A front whose last turn did not fit the replica's queue takes on nothing new.
        while taken < COMPLETIONS_MAX
            && !self.outbox.owes_replica()
            && let Some(completion) = self.ring.next_completion()
        {
            taken += 1;
            self.complete(completion)?;
        }
        Ok(taken)
    }

    fn complete(&mut self, completion: Completion) -> Result<(), String> {
        match completion {
            Completion::Accepted { token, result, more } => self.accepted(token, result, more),
            Completion::Received { token, result, more } => {
                let now = self.now;
                let (edge, ring, mut sink) = self.edge_and_sink();
                let Some(edge) = edge else { return Ok(()) };
                let gone =
                    edge.received(now, ring, token, result, more, &mut sink).map_err(event_loop)?;
                if let Gone::Yes(conn) = gone {
                    sink.closed(conn);
                    self.parts.measures.connections_dropped.add(1);
                }
                Ok(())
            }
            Completion::Sent { token, buf, result } => {
                let now = self.now;
                let (edge, ring, mut sink) = self.edge_and_sink();
                let Some(edge) = edge else { return Ok(()) };
                let gone =
                    edge.sent(now, ring, token, buf, result, &mut sink).map_err(event_loop)?;
                if let Gone::Yes(conn) = gone {
                    sink.closed(conn);
                }
                Ok(())
            }
            Completion::Written { buf, result, .. } => {
                let Some(log) = &mut self.parts.log else { return Ok(()) };
                let Some(InFlight { fd, offset, len, rw_flags, plan, began }) =
                    log.in_flight.take()
                else {
                    return Ok(());
                };
                let write = PendingWrite { fd, offset, len, rw_flags, buf, plan };
                let measures = &self.parts.measures;
                measures.log_batch.record(plan.records as u64);
                log.took(measures, self.now.mono.since(began).as_micros() as u64);
                let zxid = log.writer.finish_write(write, result).map_err(fatal)?;
                self.durable(zxid)
            }
            Completion::Woken { .. } => {
                let bell = self.parts.routes.mailboxes[self.parts.index].bell().fd();
                self.ring.read_eventfd(bell, TOKEN_BELL).map_err(event_loop)?;
                Ok(())
            }
        }
    }

    fn edge_and_sink(&mut self) -> (Option<&mut Edge>, &mut Ring, Sink<'_>) {
        let sink = match &mut self.parts.brain {
            Some(brain) => Sink::Local { now: self.now, brain },
            None => Sink::Remote(&mut self.outbox.front_turn),
        };
        (self.parts.edge.as_mut(), &mut self.ring, sink)
    }

    fn accepted(
        &mut self,
        token: u64,
        result: io::Result<RawFd>,
        more: bool,
    ) -> Result<(), String> {
        if !more && let Some(edge) = &mut self.parts.edge {
            match result {
                Ok(_) => edge.rearm_accept(&mut self.ring, token).map_err(event_loop)?,
                Err(_) => edge.rearm_accept_later(self.now, token),
            }
        }
        let fd = match result {
            Ok(fd) => fd,
            Err(e) => {
                if !self.draining
                    && let Some(more) = self.accept_failures.take(self.now.mono)
                {
                    log::warn!("cannot accept a connection: {e}{}{more}", net::accept_advice(&e));
                }
                return Ok(());
            }
        };
        let socket = net::adopt(fd);
        let Ok(peer) = net::peer_addr(&socket) else { return Ok(()) };
        let front = self.next_front;
        let routes = &self.parts.routes;
        self.next_front = (front + 1) % routes.front_at.len();
        let target = routes.front_at[front];
        if target == self.parts.index {
            return self.adopt(socket, peer);
        }
        if let Err(Message::Adopt(socket, peer)) =
            routes.mailboxes[target].send(Message::Adopt(socket, peer))
        {
            // That front is behind; this one takes it.
            return self.adopt(socket, peer);
        }
        Ok(())
    }

    fn adopt(&mut self, socket: OwnedFd, peer: SocketAddr) -> Result<(), String> {
        let now = self.now;
        let (edge, ring, mut sink) = self.edge_and_sink();
        let Some(edge) = edge else { return Ok(()) };
        match edge.adopt(now, ring, socket, peer) {
            Ok(Some(conn)) => sink.opened(conn, peer),
            Ok(None) => self.parts.measures.connections_rejected.add(1),
            Err(e) => return Err(event_loop(e)),
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Received, String> {
        let mut received = Received::Nothing;
        let mut taken = 0;
        // While the replica's wishes do not fit a front's queue, nothing new is taken on.
        while !self.outbox.owes_fronts()
            && taken < MESSAGES_MAX
            && let Ok(message) = self.parts.inbox.try_recv()
        {
            taken += 1;
            received = Received::Something;
            match message {
                Message::FromFront(turn) => {
                    if let Some(brain) = &mut self.parts.brain {
                        brain.front_turn(self.now, turn);
                    }
                }
                Message::ToFront(fx) => self.apply_effects(fx)?,
                Message::Adopt(socket, peer) => self.adopt(socket, peer)?,
                Message::Append(batches) => {
                    if let Some(log) = &mut self.parts.log {
                        for batch in batches {
                            log.writer.submit(batch);
                        }
                    }
                }
                Message::Synced(zxid) => self.durable(zxid)?,
                Message::Drain => self.drain(),
                Message::Stop => return Ok(Received::Stop),
            }
        }
        Ok(received)
    }

    fn drain(&mut self) {
        self.draining = true;
        if let Some(edge) = &mut self.parts.edge {
            edge.stop_taking();
        }
    }

    /// Has everything up to `zxid` applied, while the disk goes on with what is prepared.
    fn durable(&mut self, zxid: Zxid) -> Result<(), String> {
        if self.parts.brain.is_none() {
            self.outbox.synced = Some(zxid);
            return Ok(());
        }
        self.carry_out()?;
        self.hand_on()?;
        self.ring.submit().map_err(event_loop)?;
        if let Some(brain) = &mut self.parts.brain {
            brain.replica.handle(self.now, Input::Synced { zxid }, &mut brain.fx);
        }
        Ok(())
    }

    fn finish_turn(&mut self) -> Result<(), String> {
        let now = self.now;
        if let Some(edge) = &mut self.parts.edge {
            edge.sweep(now, &mut self.gone);
            edge.rearm_due(now, &mut self.ring).map_err(event_loop)?;
        }
        let mut gone = std::mem::take(&mut self.gone);
        if !gone.is_empty() {
            self.parts.measures.connections_idle.add(gone.len() as u64);
        }
        let (_, _, mut sink) = self.edge_and_sink();
        for conn in gone.drain(..) {
            sink.closed(conn);
        }
        self.gone = gone;
        self.run_brain()?;
        self.hand_on()
    }

    fn run_brain(&mut self) -> Result<(), String> {
        let Some(brain) = &mut self.parts.brain else { return Ok(()) };
        brain.house.poll(self.now, &mut brain.replica, &mut brain.fx);
        if brain.replica.deadline().is_some_and(|at| at <= self.now.mono) {
            brain.replica.handle(self.now, Input::Tick, &mut brain.fx);
        }
        if self.draining {
            brain.house.final_snapshot(&mut brain.replica);
        }
        self.carry_out()
    }

    /// Carries out what the replica wishes, until that leads to no more.
    fn carry_out(&mut self) -> Result<(), String> {
        while let Some(brain) = &mut self.parts.brain {
            brain.replica.flush(&mut brain.fx);
            if brain.fx.list.is_empty() {
                break;
            }
            let fx = std::mem::take(&mut brain.fx);
            let mut fx = self.apply(fx)?;
            fx.clear();
            // Resumed connections may have been served meanwhile.
            if let Some(brain) = &mut self.parts.brain
                && brain.fx.list.is_empty()
            {
                brain.fx = fx;
            }
        }
        Ok(())
    }

    /// Hands what has gathered to the disk, the sockets and the other workers.
    fn hand_on(&mut self) -> Result<(), String> {
        self.run_log()?;
        if let Some(edge) = &mut self.parts.edge {
            edge.send_ready(&mut self.ring).map_err(event_loop)?;
        }
        self.outbox.publish(&self.parts.routes);
        Ok(())
    }

    fn apply_effects(&mut self, fx: Effects) -> Result<(), String> {
        self.apply(fx).map(|_| ())
    }

    /// Carries out wishes: here what belongs to this worker, the rest goes to the outbox.
    fn apply(&mut self, mut fx: Effects) -> Result<Effects, String> {
        let mut list = std::mem::take(&mut fx.list);
        for effect in list.drain(..) {
            match effect {
                Effect::Send { conn, start, end } => match self.local_edge(conn) {
                    Some(edge) => edge.queue(conn, &fx.bytes[start..end]),
                    None => {
                        let bytes = &fx.bytes[start..end];
                        self.outbox.to(conn).send(conn, |out| out.extend_from_slice(bytes));
                    }
                },
                Effect::Close { conn, how } => {
                    let now = self.now;
                    match self.local_edge(conn) {
                        Some(edge) => edge.close(now, conn, how == CloseHow::AfterFlush),
                        None => self.outbox.to(conn).close(conn, how),
                    }
                }
                Effect::Established { conn, session, timeout_ms } => {
                    let now = self.now.mono;
                    match self.local_edge(conn) {
                        Some(edge) => edge.front.established(now, conn, session, timeout_ms),
                        None => self.outbox.to(conn).list.push(effect),
                    }
                }
                Effect::Pause { conn } => match self.local_edge(conn) {
                    Some(edge) => edge.front.pause(conn),
                    None => self.outbox.to(conn).list.push(effect),
                },
                Effect::AwaitDrain { conn } => self.await_drain(conn, effect),
                Effect::Resume { conn } => self.resume(conn, effect)?,
                Effect::Append(batch) => match &mut self.parts.log {
                    Some(log) => log.writer.submit(batch),
                    None => self.outbox.append.push(batch),
                },
                Effect::SnapshotBegin(_) | Effect::SnapshotChunk(_) | Effect::SnapshotFinish => {
                    if let Some(brain) = &mut self.parts.brain {
                        brain.house.snapshot(effect);
                    }
                }
                Effect::Fatal(reason) => return Err(reason),
            }
        }
        fx.list = list;
        Ok(fx)
    }

    fn resume(&mut self, conn: ConnId, effect: Effect) -> Result<(), String> {
        if self.local_edge(conn).is_none() {
            self.outbox.to(conn).list.push(effect);
            return Ok(());
        }
        let (edge, ring, mut sink) = self.edge_and_sink();
        let Some(edge) = edge else { return Ok(()) };
        let gone = edge.resume(conn, ring, &mut sink).map_err(event_loop)?;
        if let Gone::Yes(conn) = gone {
            sink.closed(conn);
        }
        Ok(())
    }

    fn await_drain(&mut self, conn: ConnId, effect: Effect) {
        match self.local_edge(conn) {
            None => self.outbox.to(conn).list.push(effect),
            Some(edge) => {
                if edge.front.await_drain(conn) {
                    let (_, _, mut sink) = self.edge_and_sink();
                    sink.drained(conn);
                }
            }
        }
    }

    fn local_edge(&mut self, conn: ConnId) -> Option<&mut Edge> {
        let front = (conn.0 >> 56) as usize;
        if self.parts.routes.front_at.get(front) == Some(&self.parts.index) {
            self.parts.edge.as_mut()
        } else {
            None
        }
    }

    fn run_log(&mut self) -> Result<(), String> {
        let Some(log) = &mut self.parts.log else { return Ok(()) };
        if log.inline {
            let mut durable = None;
            loop {
                let (before, began) = (log.writer.durable(), cpu::now().mono);
                let Some(zxid) = log.writer.write_sync().map_err(fatal)? else { break };
                let measures = &self.parts.measures;
                log.took(measures, host::micros_since(began));
                measures.log_batch.record((zxid.0 - before.0).unsigned_abs());
                durable = Some(zxid);
            }
            if let Some(zxid) = durable {
                self.outbox.synced = Some(zxid);
            }
            return Ok(());
        }
        if log.in_flight.is_some() {
            return Ok(());
        }
        if let Some(write) = log.writer.begin_write().map_err(fatal)? {
            let PendingWrite { fd, offset, len, rw_flags, buf, plan } = write;
            self.ring.write(fd, buf, len, offset, rw_flags, TOKEN_LOG).map_err(event_loop)?;
            let began = self.now.mono;
            log.in_flight = Some(InFlight { fd, offset, len, rw_flags, plan, began });
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        let Some(brain) = &self.parts.brain else { return false };
        let flushed = self.parts.edge.as_ref().is_none_or(Edge::is_flushed);
        brain.replica.is_settled() && brain.house.is_done() && flushed && self.outbox.is_empty()
    }

    fn deadline(&self) -> Option<Instant> {
        let brain = self.parts.brain.as_ref().map(|brain| {
            let house = brain.house.deadline();
            brain.replica.deadline().map_or(house, |at| at.min(house))
        });
        let edge = self.parts.edge.as_ref().and_then(Edge::deadline);
        let mut next = [brain, edge].into_iter().flatten().min();
        if self.draining {
            // What draining waits for on other workers is polled for.
            let soon = self.now.mono + Duration::from_millis(5);
            next = Some(next.map_or(soon, |at| at.min(soon)));
        }
        next
    }

    /// Where the disk's cache has to be flushed, the kernel completes a write on a thread of its
    /// own, mostly on the CPU that began it. Under a load that never lets this one sleep, that
    /// thread would wait for the end of its time slice, some milliseconds.
    fn let_disk_finish(&self) {
        if self.parts.log.as_ref().is_some_and(|log| log.in_flight.is_some()) {
            std::thread::yield_now();
        }
    }

    fn wait(&mut self, last_work: Instant) -> io::Result<()> {
        let limit = self.deadline().map(|at| at.since(self.now.mono));
        let spinning = !self.parts.busy_poll.is_zero()
            && self.now.mono.since(last_work) < self.parts.busy_poll;
        if spinning || limit == Some(Duration::ZERO) || self.outbox.is_blocked(&self.parts.routes) {
            return self.ring.submit_and_wait(Some(Duration::ZERO));
        }
        let bell = Arc::clone(self.parts.routes.mailboxes[self.parts.index].bell());
        bell.about_to_sleep();
        let reported = self.parts.brain.as_ref().is_some_and(|brain| brain.house.has_reports());
        let is_idle = self.parts.inbox.is_empty() && !reported;
        let limit = if is_idle { limit } else { Some(Duration::ZERO) };
        let result = self.ring.submit_and_wait(limit);
        bell.awake();
        result
    }
}

fn event_loop(error: io::Error) -> String {
    format!("event loop: {error}")
}

fn fatal(error: FatalLogError) -> String {
    error.to_string()
}

enum Received {
    Nothing,
    Something,
    Stop,
}

#[cfg(test)]
mod tests;
