//! A turn of a loop: take what was completed and what other loops sent, run it through the stages
//! to completion, and hand the results on. Stages of the same loop call each other; nothing is
//! queued between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ConnId, Instant, Mutation, Now, Ration, Zxid, invariant, is_mutated};
use crate::front::FrontSink;
use crate::log::LogCommand;
use crate::metrics::Measures;
use crate::replica::{CloseHow, Effect, Effects, Input};

use super::describe;
use super::edge::Edge;
use super::failure::Failure;
use super::links::Links;
use super::log_stage::{LogStage, LogWork};
use super::message::Message;
use super::outbox::{Outbox, Routes};
use super::port::{Completion, Io, Probe};
use super::replica_stage::ReplicaStage;
use super::sink::Sink;

/// How long an ending loop waits for its sockets to take what is left.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// How long a member that ends waits for what its clients have asked for.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// Completions that one turn takes, so that its results leave however much arrives.
pub(super) const COMPLETIONS_MAX: usize = 128;

/// Completions of members' connections that one turn takes before all others.
pub(super) const MEMBERS_MAX: usize = 128;

/// Messages that one turn takes, so that its results leave however fast others send.
pub(super) const MESSAGES_MAX: usize = 16;

/// During a drain the work of other loops is looked at this often.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// What a loop runs.
pub struct DriverParts<I: Io> {
    /// Position among the loops.
    pub index: usize,
    /// Sockets, if it runs a front.
    pub edge: Option<Edge<I>>,
    /// Connections of other members: beside the replica, if there are any others.
    pub links: Option<Links<I>>,
    /// The replica, if it runs it.
    pub replica: Option<ReplicaStage<I>>,
    /// The log, if it runs it.
    pub log: Option<LogStage<I::Files>>,
    /// Which loop runs which stage.
    pub routes: Routes,
    /// Figures that all loops contribute to.
    pub measures: Arc<Measures>,
}

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing had arrived.
    Idle,
    /// Something was done.
    Worked,
    /// The loop was asked to end, and has.
    Over,
}

/// See [`crate::driver`].
pub struct Driver<I: Io> {
    pub(super) parts: DriverParts<I>,
    outbox: Outbox,
    now: Now,
    draining: bool,
    /// When a member that drains leaves the others, whatever its clients wait for.
    leave_at: Option<Instant>,
    /// Ends when everything is sent, or at this time.
    stopping: Option<Instant>,
    next_front: usize,
    accept_failures: Ration,
    gone: Vec<ConnId>,
}

/// What the messages of a turn asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Messages {
    None,
    Some,
    Stop,
}

impl<I: Io> Driver<I> {
    /// A loop that has not begun.
    pub fn new(now: Now, parts: DriverParts<I>) -> Driver<I> {
        Driver {
            outbox: Outbox::new(parts.routes.front_at.len()),
            now,
            draining: false,
            leave_at: None,
            stopping: None,
            next_front: 0,
            accept_failures: Ration::default(),
            gone: Vec::new(),
            parts,
        }
    }

    /// Begins to accept connections.
    pub fn start(&mut self, io: &mut I) -> io::Result<()> {
        if self.parts.links.is_some() {
            io.start_listening_to_members()?;
        }
        if self.parts.edge.is_some() { io.start_accepting() } else { Ok(()) }
    }

    /// The replica and what only it talks to, if this loop runs it.
    pub fn replica_stage(&self) -> Option<&ReplicaStage<I>> {
        self.parts.replica.as_ref()
    }

    /// The same, to be changed.
    pub fn replica_stage_mut(&mut self) -> Option<&mut ReplicaStage<I>> {
        self.parts.replica.as_mut()
    }

    /// Whether a write of the log is under way.
    pub fn is_writing(&self) -> bool {
        self.parts.log.as_ref().is_some_and(LogStage::is_writing)
    }

    /// Whether it finishes what is under way and takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether the housekeeper has something to say.
    pub fn has_reports(&self) -> bool {
        self.parts.replica.as_ref().is_some_and(|stage| stage.house.has_reports())
            || self.parts.log.as_ref().is_some_and(LogStage::has_changed)
    }

    /// Whether the queue of another loop was full: try again without sleeping.
    pub fn is_blocked(&self) -> bool {
        self.outbox.is_blocked(&self.parts.routes)
    }

    /// One turn. Call it when something has arrived, and at [`Driver::deadline`] at the latest.
    pub fn turn(&mut self, now: Now, io: &mut I) -> Result<Turn, Failure> {
        self.now = now;
        if let Some(stage) = &mut self.parts.replica {
            stage.member.begin_turn();
        }
        let mut worked = self.take_members(io)?;
        worked |= self.take_completions(io)? > 0;
        worked |= self.take_changes()?;
        match self.take_messages(io)? {
            Messages::None => {}
            Messages::Some => worked = true,
            Messages::Stop => {
                self.drain(io);
                let limit = now.mono + FLUSH_LIMIT;
                self.stopping = Some(self.stopping.unwrap_or(limit));
            }
        }
        self.finish_turn(io)?;
        if let Some(limit) = self.stopping
            && (limit <= now.mono || self.parts.edge.as_ref().is_none_or(Edge::is_flushed))
            && self.is_saved()
        {
            return Ok(Turn::Over);
        }
        if self.draining && self.is_drained() {
            for to in 0..self.parts.routes.loops {
                // A loop whose queue is full is told by the process's end.
                let _ = io.post(to, Message::Stop);
            }
            return Ok(Turn::Over);
        }
        Ok(if worked { Turn::Worked } else { Turn::Idle })
    }

    /// Handles what was completed on members' connections, up to a limit, before clients add to
    /// the turn. Returns whether there was anything.
    fn take_members(&mut self, io: &mut I) -> Result<bool, Failure> {
        let now = self.now;
        // A lone server, or another loop has them.
        let Some(links) = &mut self.parts.links else { return Ok(false) };
        let Some(stage) = &mut self.parts.replica else {
            unreachable!("links are beside the replica")
        };
        let mut taken = 0;
        while taken < MEMBERS_MAX
            && let Some(completion) = io.next_of_members()?
        {
            taken += 1;
            links.complete(now, io, completion, &mut |input| stage.handle_peer(now, input))?;
        }
        Ok(taken > 0)
    }

    /// Handles what was completed, up to a limit. Returns the number of completions.
    pub(super) fn take_completions(&mut self, io: &mut I) -> Result<usize, Failure> {
        let mut taken = 0;
        // A front whose last turn did not fit the replica's queue takes on nothing new.
        while taken < COMPLETIONS_MAX
            && !self.outbox.owes_replica()
            && let Some(completion) = io.next_completion()?
        {
            taken += 1;
            self.complete(io, completion)?;
        }
        Ok(taken)
    }

    fn complete(&mut self, io: &mut I, completion: Completion<I>) -> Result<(), Failure> {
        let now = self.now;
        match completion {
            Completion::Accepted { listener, result, more } => {
                self.accepted(io, listener, result, more)
            }
            Completion::Received { conn, result, more } => {
                let (edge, mut sink) = self.edge_and_sink();
                if let Some(conn) = edge.received(now, io, conn, result, more, &mut sink)? {
                    sink.closed(conn);
                    self.parts.measures.connections_dropped.add(1);
                }
                Ok(())
            }
            Completion::Sent { conn, buf, sent } => {
                let (edge, mut sink) = self.edge_and_sink();
                if let Some(conn) = edge.sent(now, io, conn, buf, sent, &mut sink)? {
                    sink.closed(conn);
                }
                Ok(())
            }
            Completion::Written { buf, result } => {
                let log = self.parts.log.as_mut();
                invariant!(log.is_some(), "a write of the log ends in a loop without a log");
                let Some(log) = log else { unreachable!("just asserted") };
                let zxid = log.finish(now.mono, buf, result, &self.parts.measures)?;
                if self.parts.replica.is_some() && is_mutated(Mutation::AckBeforeSync) {
                    return Ok(());
                }
                self.durable(io, zxid)
            }
        }
    }

    /// The sockets, of which a completion told, and where their input goes.
    fn edge_and_sink(&mut self) -> (&mut Edge<I>, Sink<'_, I>) {
        let sink = match &mut self.parts.replica {
            Some(stage) => Sink::Local { now: self.now, stage },
            None => Sink::Remote(&mut self.outbox.front_turn),
        };
        let edge = self.parts.edge.as_mut();
        invariant!(edge.is_some(), "a socket in a loop without sockets");
        (edge.unwrap_or_else(|| unreachable!("just asserted")), sink)
    }

    fn accepted(
        &mut self,
        io: &mut I,
        listener: usize,
        result: io::Result<(I::Socket, Option<SocketAddr>)>,
        more: bool,
    ) -> Result<(), Failure> {
        let now = self.now;
        if !more {
            let has_failed = result.is_err();
            self.edge_and_sink().0.accept_ended(now, io, listener, has_failed)?;
        }
        let (socket, peer) = match result {
            Ok((socket, Some(peer))) => (socket, peer),
            // It is gone again already.
            Ok((_, None)) => return Ok(()),
            Err(error) => {
                if !self.draining
                    && let Some(more) = self.accept_failures.take(now.mono)
                {
                    log::warn!("cannot accept a connection: {error}{more}");
                }
                return Ok(());
            }
        };
        let front = self.next_front;
        let routes = &self.parts.routes;
        self.next_front = (front + 1) % routes.front_at.len();
        let target = routes.front_at[front];
        if target == self.parts.index {
            return self.adopt(io, socket, peer);
        }
        // A front whose queue is full has enough to do; this one takes the connection.
        match io.post(target, Message::Adopt(socket, peer)) {
            Err(Message::Adopt(socket, peer)) => self.adopt(io, socket, peer),
            _ => Ok(()),
        }
    }

    fn adopt(&mut self, io: &mut I, socket: I::Socket, peer: SocketAddr) -> Result<(), Failure> {
        let now = self.now;
        let (edge, mut sink) = self.edge_and_sink();
        match edge.adopt(now, io, socket, peer)? {
            Some(conn) => sink.opened(conn, peer),
            None => self.parts.measures.connections_rejected.add(1),
        }
        Ok(())
    }

    /// Handles what other loops sent, up to a limit.
    pub(super) fn take_messages(&mut self, io: &mut I) -> Result<Messages, Failure> {
        let mut found = Messages::None;
        let mut taken = 0;
        // While effects of the replica do not fit a front's queue, nothing new is taken on.
        while !self.outbox.owes_fronts()
            && taken < MESSAGES_MAX
            && let Some(message) = io.next_message()
        {
            taken += 1;
            found = Messages::Some;
            match message {
                Message::FromFront(turn) => {
                    let now = self.now;
                    self.expect_replica().front_turn(now, turn);
                }
                Message::ToFront(effects) => {
                    self.apply(io, effects)?;
                }
                Message::Adopt(socket, peer) => self.adopt(io, socket, peer)?,
                Message::Log(work) => {
                    let log = self.parts.log.as_mut();
                    invariant!(log.is_some(), "work for the log in a loop without it");
                    if let Some(log) = log {
                        work.into_iter().for_each(|work| log.take(work));
                    }
                }
                Message::Synced(zxid) => self.durable(io, zxid)?,
                Message::LogDone(ticket, done) => {
                    let now = self.now;
                    self.expect_replica().handle(now, Input::LogDone { ticket, done });
                }
                Message::Describe(tell) => tell(describe::stages(self.now.mono, &self.parts)),
                Message::Drain => self.drain(io),
                Message::Stop => return Ok(Messages::Stop),
            }
        }
        Ok(found)
    }

    /// The replica of a loop that got a message for it.
    fn expect_replica(&mut self) -> &mut ReplicaStage<I> {
        invariant!(self.parts.replica.is_some(), "a message for the replica in a loop without it");
        self.parts.replica.as_mut().unwrap_or_else(|| unreachable!("just asserted"))
    }

    /// Finishes what is under way, takes nothing new, ends.
    pub fn drain(&mut self, io: &mut I) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.leave_at = Some(self.now.mono + LEAVE_LIMIT);
        if let Some(edge) = &mut self.parts.edge {
            edge.stop_taking(io);
        }
    }

    /// Tells `Member` that everything up to `zxid` is durable here, while the disk goes on with the
    /// next batches. What is committed by that, and may be acknowledged, `Member::handle` decides.
    fn durable(&mut self, io: &mut I, zxid: Zxid) -> Result<(), Failure> {
        if self.parts.replica.is_none() {
            self.outbox.synced = Some(zxid);
            return Ok(());
        }
        self.run_effects(io)?;
        self.flush_outputs(io)?;
        io.submit()?;
        let now = self.now;
        self.expect_replica().handle(now, Input::Logged { zxid });
        Ok(())
    }

    /// Tells of changes of the log that have ended. Returns whether there was one.
    fn take_changes(&mut self) -> Result<bool, Failure> {
        // Another loop runs the log.
        let Some(log) = &mut self.parts.log else { return Ok(false) };
        // None is under way, or it goes on.
        let Some((ticket, done)) = log.finish_change()? else { return Ok(false) };
        let now = self.now;
        match &mut self.parts.replica {
            Some(stage) => stage.handle(now, Input::LogDone { ticket, done }),
            None => self.outbox.log_done.push_back((ticket, done)),
        }
        Ok(true)
    }

    fn finish_turn(&mut self, io: &mut I) -> Result<(), Failure> {
        let now = self.now;
        if self.parts.edge.is_some() {
            let mut gone = std::mem::take(&mut self.gone);
            let (edge, mut sink) = self.edge_and_sink();
            edge.sweep(now, io, &mut gone, &mut sink);
            edge.accept_due(now, io)?;
            let ended = gone.len() as u64;
            gone.drain(..).for_each(|conn| sink.closed(conn));
            self.gone = gone;
            if ended > 0 {
                self.parts.measures.connections_idle.add(ended);
            }
        }
        if let Some(links) = &mut self.parts.links {
            links.tick(now, io)?;
        }
        self.run_replica(io)?;
        self.flush_outputs(io)
    }

    fn run_replica(&mut self, io: &mut I) -> Result<(), Failure> {
        // Another loop runs the replica.
        let Some(stage) = &mut self.parts.replica else { return Ok(()) };
        let mut now = self.now;
        stage.house.poll(now, &mut stage.member, &mut stage.effects, &mut stage.probe);
        stage.answer_words(now, io);
        if is_mutated(Mutation::ExpireEarly) {
            now.mono = now.mono + Duration::from_secs(2);
        }
        let sleeps = is_mutated(Mutation::SleepOnWork);
        let due = stage.member.deadline().filter(|&at| at <= now.mono);
        if due.is_some_and(|at| {
            !sleeps || at > Instant(0) || stage.member.replica().is_snapshotting()
        }) {
            stage.handle(now, Input::Tick);
        }
        if let Some(leave_at) = self.leave_at {
            stage.member.retire(now, leave_at <= now.mono, &mut stage.effects);
        }
        if self.draining && stage.house.final_snapshot(stage.member.replica_mut()) {
            io.settled();
        }
        self.run_effects(io)
    }

    /// Carries out what the replica wants done, until that leads to no more.
    fn run_effects(&mut self, io: &mut I) -> Result<(), Failure> {
        let mut rounds = 0;
        while let Some(stage) = &mut self.parts.replica {
            stage.member.hand_over(self.now, &mut stage.effects);
            if let Some(links) = &mut self.parts.links {
                let wishes = stage.member.peer_effects();
                links.carry_out(self.now, io, wishes)?;
                wishes.clear();
            }
            if stage.effects.list.is_empty() {
                break;
            }
            let mut effects = std::mem::take(&mut stage.effects);
            rounds += 1;
            if rounds > 1 && is_mutated(Mutation::LoseEffects) {
                effects.clear();
            }
            let mut effects = self.apply(io, effects)?;
            effects.clear();
            // Resumed connections may have been served meanwhile.
            if let Some(stage) = &mut self.parts.replica
                && stage.effects.list.is_empty()
            {
                stage.effects = effects;
            }
        }
        Ok(())
    }

    /// Hands what has gathered to the disk, the sockets and the other loops.
    fn flush_outputs(&mut self, io: &mut I) -> Result<(), Failure> {
        self.send_to_members(io)?;
        self.run_log(io)?;
        if let Some(edge) = &mut self.parts.edge {
            edge.send_ready(io)?;
        }
        self.outbox.publish(&self.parts.routes, io);
        Ok(())
    }

    /// What members are to get leaves before this server's own write begins, so that their disks
    /// and this one work at the same time.
    fn send_to_members(&mut self, io: &mut I) -> Result<(), Failure> {
        if let Some(links) = &mut self.parts.links {
            let has_begun = links.send_ready(io)?;
            // A log of another loop would begin before this one goes to wait.
            if has_begun && self.parts.log.is_none() {
                io.submit()?;
            }
        }
        Ok(())
    }

    /// Carries out effects: here what belongs to this loop, the rest goes to the outbox.
    fn apply(&mut self, io: &mut I, mut effects: Effects) -> Result<Effects, Failure> {
        let now = self.now;
        let mut list = std::mem::take(&mut effects.list);
        for effect in list.drain(..) {
            match effect {
                Effect::Append(batch) => {
                    if let Some(stage) = &mut self.parts.replica {
                        stage.probe.appended(&batch);
                    }
                    self.hand_to_log(LogWork::Append(batch));
                }
                Effect::Log { ticket, command } => match command {
                    LogCommand::Change(change) => {
                        self.expect_replica().probe.log_changing(&change);
                        self.hand_to_log(LogWork::Change(ticket, change));
                    }
                    LogCommand::Range(command) => {
                        self.expect_replica().house.range(ticket, command);
                    }
                },
                Effect::SnapshotBegin(_)
                | Effect::SnapshotChunk(_)
                | Effect::SnapshotFinish
                | Effect::SnapshotAbandon
                | Effect::ReceptionBegin { .. }
                | Effect::ReceptionChunk(_)
                | Effect::ReceptionFinish
                | Effect::ReceptionAbandon => self.expect_replica().house.snapshot(effect),
                Effect::StreamBegin { .. }
                | Effect::StreamChunk { .. }
                | Effect::StreamEnd { .. } => self.expect_replica().probe.streamed(effect),
                Effect::Forward { .. } | Effect::AskSession { .. } | Effect::AskSync => {
                    unreachable!("a member takes out what is for other members")
                }
                Effect::Fatal(reason) => return Err(Failure::Replica(reason)),
                Effect::Send { conn, start, end } => match self.local_edge(conn) {
                    Some(edge) => edge.queue(io, conn, &effects.bytes[start..end]),
                    None => {
                        let bytes = &effects.bytes[start..end];
                        self.outbox.to(conn).send(conn, |out| out.extend_from_slice(bytes));
                    }
                },
                Effect::Close { conn, how } => match self.local_edge(conn) {
                    Some(edge) => edge.close(now, io, conn, how == CloseHow::AfterFlush)?,
                    None => self.outbox.to(conn).close(conn, how),
                },
                Effect::Established { conn, session, timeout_ms } => {
                    if let Some(stage) = &mut self.parts.replica {
                        stage.probe.established(stage.member.replica(), conn);
                    }
                    match self.local_edge(conn) {
                        Some(edge) => edge.front.established(now.mono, conn, session, timeout_ms),
                        None => self.outbox.to(conn).list.push(effect),
                    }
                }
                Effect::Pause { conn } => match self.local_edge(conn) {
                    Some(edge) => edge.front.pause(conn),
                    None => self.outbox.to(conn).list.push(effect),
                },
                Effect::AwaitDrain { conn } => self.await_drain(conn, effect),
                Effect::Resume { conn } => self.resume(io, conn, effect)?,
            }
        }
        effects.list = list;
        Ok(effects)
    }

    fn hand_to_log(&mut self, work: LogWork) {
        match &mut self.parts.log {
            Some(log) => log.take(work),
            None => self.outbox.log.push(work),
        }
    }

    fn resume(&mut self, io: &mut I, conn: ConnId, effect: Effect) -> Result<(), Failure> {
        if self.local_edge(conn).is_none() {
            self.outbox.to(conn).list.push(effect);
            return Ok(());
        }
        let (edge, mut sink) = self.edge_and_sink();
        if let Some(conn) = edge.resume(conn, io, &mut sink)? {
            sink.closed(conn);
        }
        Ok(())
    }

    fn await_drain(&mut self, conn: ConnId, effect: Effect) {
        match self.local_edge(conn) {
            None => self.outbox.to(conn).list.push(effect),
            Some(edge) => {
                if edge.front.await_drain(conn) {
                    self.edge_and_sink().1.drained(conn);
                }
            }
        }
    }

    fn local_edge(&mut self, conn: ConnId) -> Option<&mut Edge<I>> {
        let front = (conn.0 >> 56) as usize;
        if self.parts.routes.front_at.get(front) == Some(&self.parts.index) {
            self.parts.edge.as_mut()
        } else {
            None
        }
    }

    fn run_log(&mut self, io: &mut I) -> Result<(), Failure> {
        // Another loop runs the log.
        let Some(log) = &mut self.parts.log else { return Ok(()) };
        if log.inline {
            while let Some(zxid) = log.write_inline(io, &self.parts.measures)? {
                // Each write is told at once: the next one may take its time.
                self.outbox.synced = Some(zxid);
                self.outbox.publish_synced(&self.parts.routes, io);
            }
            return Ok(());
        }
        let began = log.begin(self.now.mono, io)?;
        if let Some(zxid) = began
            && self.parts.replica.is_some()
            && is_mutated(Mutation::AckBeforeSync)
        {
            let now = self.now;
            self.expect_replica().handle(now, Input::Logged { zxid });
            self.run_effects(io)?;
            return self.send_to_members(io);
        }
        Ok(())
    }

    /// Whether a snapshot holds what was applied, or could not be written. What is not applied when
    /// all loops end was not acknowledged.
    fn is_saved(&self) -> bool {
        // Only the loop of the replica has anything to save.
        let Some(stage) = &self.parts.replica else { return true };
        !stage.member.replica().is_settled() || stage.house.is_done()
    }

    fn is_drained(&self) -> bool {
        // The loop of the replica decides for all.
        let Some(stage) = &self.parts.replica else { return false };
        let flushed = self.parts.edge.as_ref().is_none_or(Edge::is_flushed);
        stage.member.replica().is_settled()
            && !stage.member.awaits_log()
            && stage.house.is_done()
            && flushed
            && self.outbox.is_empty()
    }

    /// Checks, after a turn, what must always hold between its stages.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&mut self) {
        if let Some(edge) = &mut self.parts.edge {
            edge.check();
        }
        if let Some(links) = &self.parts.links {
            links.check();
        }
    }

    /// When [`Driver::turn`] is needed though nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let replica = self.parts.replica.as_ref().map(|stage| {
            let house = stage.house.deadline();
            stage.member.deadline().map_or(house, |at| at.min(house))
        });
        let edge = self.parts.edge.as_ref().and_then(Edge::deadline);
        let links = self.parts.links.as_ref().and_then(Links::deadline);
        let mut next = [replica, edge, links].into_iter().flatten().min();
        if self.draining {
            let soon = self.now.mono + DRAIN_POLL;
            next = Some(next.map_or(soon, |at| at.min(soon)));
        }
        next
    }
}
