//! Messages to other loops, gathered over a turn. What does not fit a queue stays here, and the
//! loop takes on nothing new of that kind until it does.

use std::collections::VecDeque;

use crate::base::{ConnId, Mark, Zxid, mark};
use crate::log::{LogDone, LogTicket};
use crate::replica::Effects;

use super::log_stage::LogWork;
use super::message::{FrontTurn, Message};
use super::port::Io;

/// Bytes of requests that one turn of a remote front hands over.
const TURN_MAX: usize = 256 << 10;

/// Which loop runs which stage.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Number of loops.
    pub loops: usize,
    /// The loop of each front.
    pub front_at: Vec<usize>,
    /// The loop of the replica.
    pub replica_at: usize,
    /// The loop of the log.
    pub log_at: usize,
}

/// See the module's introduction.
#[derive(Default)]
pub struct Outbox {
    /// What happened at this loop's front.
    pub front_turn: FrontTurn,
    to_fronts: Vec<Effects>,
    /// Work for the log.
    pub log: Vec<LogWork>,
    /// How far the log is durable.
    pub synced: Option<Zxid>,
    /// What changes of the log came to.
    pub log_done: VecDeque<(LogTicket, LogDone)>,
    /// The replica's queue was full.
    held: bool,
}

impl Outbox {
    /// With room for the wishes of that many fronts.
    pub fn new(fronts: usize) -> Outbox {
        let to_fronts = (0..fronts).map(|_| Effects::default()).collect();
        Outbox { to_fronts, ..Outbox::default() }
    }

    /// Wishes for the front of a connection.
    pub fn to(&mut self, conn: ConnId) -> &mut Effects {
        let front = (conn.0 >> 56) as usize;
        let last = self.to_fronts.len() - 1;
        &mut self.to_fronts[front.min(last)]
    }

    /// Nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.front_turn.events.is_empty()
            && self.to_fronts.iter().all(|effects| effects.list.is_empty())
            && self.log.is_empty()
            && self.synced.is_none()
            && self.log_done.is_empty()
    }

    /// After `publish`: the queue of a front was full.
    pub fn owes_fronts(&self) -> bool {
        self.to_fronts.iter().any(|effects| !effects.list.is_empty())
    }

    /// After `publish`: the replica's queue was full. During a turn a front that shares no loop
    /// with the replica gathers here, so a turn is bounded too.
    pub fn owes_replica(&self) -> bool {
        self.front_turn.bytes.len() > TURN_MAX || self.held
    }

    /// Only a full queue leaves anything here after `publish`.
    pub fn is_blocked(&self, routes: &Routes) -> bool {
        routes.loops > 1 && !self.is_empty()
    }

    /// Sends what the queues take.
    pub fn publish<I: Io>(&mut self, routes: &Routes, io: &mut I) {
        if !self.front_turn.events.is_empty() {
            let message = Message::FromFront(std::mem::take(&mut self.front_turn));
            self.held = false;
            if let Err(Message::FromFront(turn)) = io.post(routes.replica_at, message) {
                mark(Mark::ReplicaQueueFull);
                self.front_turn = turn;
                self.held = true;
            }
        }
        for (front, effects) in self.to_fronts.iter_mut().enumerate() {
            if effects.list.is_empty() {
                continue;
            }
            let message = Message::ToFront(std::mem::take(effects));
            if let Err(Message::ToFront(held)) = io.post(routes.front_at[front], message) {
                mark(Mark::FrontQueueFull);
                *effects = held;
            }
        }
        if !self.log.is_empty() {
            let message = Message::Log(std::mem::take(&mut self.log));
            if let Err(Message::Log(held)) = io.post(routes.log_at, message) {
                mark(Mark::LogQueueFull);
                self.log = held;
            }
        }
        self.publish_synced(routes, io);
        // Behind what was durable before the change.
        while self.synced.is_none()
            && let Some((ticket, done)) = self.log_done.pop_front()
        {
            let told = io.post(routes.replica_at, Message::LogDone(ticket, done));
            if let Err(Message::LogDone(ticket, done)) = told {
                self.log_done.push_front((ticket, done));
                break;
            }
        }
    }

    /// Tells the replica's loop how far the log is durable, if its queue takes that.
    pub fn publish_synced<I: Io>(&mut self, routes: &Routes, io: &mut I) {
        if let Some(zxid) = self.synced.take()
            && io.post(routes.replica_at, Message::Synced(zxid)).is_err()
        {
            self.synced = Some(zxid);
        }
    }
}
