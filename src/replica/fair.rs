//! Turns by cost: no connection owns the server.
//!
//! Work is metered in nanoseconds of a calibrated machine, by constants, so that a simulated
//! server decides as a real one does. A connection that sends a request is served at once as long
//! as it has credit; what its credit does not pay for waits in [`Client::held`], and the connection
//! stands in a queue. At the end of each turn (`Input::Tick`, which [`Replica::deadline`] asks for
//! without a pause) the queue is served round by round, each connection for one share more
//! (deficit round robin): who has asked for something large pays until the debt is gone. With one
//! connection in the queue there is nobody to wait for, and it gets everything.
//!
//! A turn of the loop has one budget, and replies leave at its end: so its length is what a lone
//! request waits for. What arrives, what becomes durable, what stands in line and what stands in
//! the queue have parts of it, and a part that is not used goes to the queue. For example: of 1 ms,
//! 0.5 ms are spent on applying, nothing arrives, and 0.5 ms are left for the queue.
//! Invariant: a connection that could go on stands in the queue.
//!
//! Turns are long where everybody pipelines, because each turn costs some system calls for each
//! connection. They are short while there are *lone* clients, who send one request, wait, and send
//! the next: for them the length of a turn is the latency.
//!
//! Reads that may take long are done in parts of [`Fair::part`], see `replica::long`, and of the
//! events of one transaction only as many are sent in its turn as a part allows, see
//! `replica::owed`.

use std::collections::VecDeque;

use crate::base::{ConnId, Now, invariant};
use crate::pipeline::bytes_cost;
use crate::wire::{OpCode, leading_path, split_frame};

use super::client::{Client, FRAME_OVERHEAD, Stage};
use super::core::{CHECK_TURNS, Replica};
use super::effects::{CloseHow, Effects};

/// Any frame: found, decoded, counted.
pub(super) const FRAME_COST: u64 = 50;
/// A read or a ping, without what it looks at.
pub(super) const READ_COST: u64 = 200;
/// A write that is prepared; so much again for each operation of a multi.
pub(super) const WRITE_COST: u64 = 500;
/// A transaction that is applied, and each operation of a multi.
pub(super) const APPLY_COST: u64 = 400;
/// A watch that fires: looked up, taken out, its event encoded.
pub(super) const EVENT_COST: u64 = 100;
/// The first event of a turn for a connection: the kernel sends it.
pub(super) const SEND_COST: u64 = 2_500;
/// A digest of a user and a password, and its reply.
pub(super) const AUTH_COST: u64 = 1_000;
/// A step of a SASL exchange: several MD5 sums.
pub(super) const SASL_COST: u64 = 20_000;
/// A ConnectRequest: password, session table, transaction.
pub(super) const CONNECT_COST: u64 = 2_000;
/// An ephemeral node that the end of its session deletes.
pub(super) const CLOSE_NODE_COST: u64 = 300;
/// Number of requests that came alone, one after the other, from which on a connection is lone.
const LONE_STREAK: u8 = 3;
/// How long, in nanoseconds of work, turns stay short after the request of a lone client.
const LONE_FOR: u64 = 100_000_000;

/// A read that looks at more than this must not stand before a write, see [`Client::heavy`].
const HEAVY_NODES: usize = 1_000;
/// A list of paths longer than this is heavy, too.
const HEAVY_BYTES: usize = 16 << 10;

/// Budgets, in nanoseconds of work.
#[derive(Clone, Copy, Debug)]
pub struct FairOptions {
    /// Of a turn: at most half of it for what arrives, half for what is applied, and a quarter for
    /// those in line; the rest for the queue, at least a quarter.
    pub turn: u64,
    /// As `turn`, while there are lone clients.
    pub turn_beside_lone: u64,
    /// Of one connection in a turn or a round of the queue.
    pub share: u64,
    /// Bytes of one connection's transactions that may be on their way; beyond, its requests wait.
    /// They go to disk and are applied before anything that others write later.
    pub in_flight_bytes: usize,
}

impl Default for FairOptions {
    fn default() -> FairOptions {
        FairOptions {
            turn: 1_000_000,
            turn_beside_lone: 200_000,
            share: 250_000,
            in_flight_bytes: 1 << 20,
        }
    }
}

/// What is left of the budgets, and who waits.
#[derive(Debug)]
pub(super) struct Fair {
    pub options: FairOptions,
    /// All work done so far.
    pub spent: u64,
    /// Where this turn should end.
    turn_end: u64,
    /// See [`Fair::part`].
    part: u64,
    /// This turn's parts. What begins while something is left ends, so they may go below zero.
    arrivals_left: i64,
    apply_left: i64,
    line_left: i64,
    events_left: i64,
    /// While less than this was spent, the last request of a lone client is not long ago.
    lone_until: u64,
    /// Connections that could go on.
    queue: VecDeque<ConnId>,
    /// The last turn had nothing left for them.
    left_out: bool,
    /// Frames in [`Client::held`], of all connections.
    pub held: u64,
}

impl Fair {
    pub fn new(options: FairOptions) -> Fair {
        let mut fair = Fair {
            options,
            spent: 0,
            turn_end: 0,
            part: 0,
            arrivals_left: 0,
            apply_left: 0,
            line_left: 0,
            events_left: 0,
            lone_until: 0,
            queue: VecDeque::new(),
            left_out: false,
            held: 0,
        };
        fair.begin_turn();
        fair
    }

    fn begin_turn(&mut self) {
        self.turn_end = self.spent.saturating_add(self.turn());
        self.set_part();
        let turn = i64::try_from(self.turn()).unwrap_or(i64::MAX);
        (self.arrivals_left, self.apply_left) = (turn / 2, turn / 2);
        (self.line_left, self.events_left) = (turn / 4, turn / 4);
    }

    /// Of a turn that begins now.
    fn turn(&self) -> u64 {
        let FairOptions { turn, turn_beside_lone, .. } = self.options;
        if self.spent < self.lone_until { turn.min(turn_beside_lone) } else { turn }
    }

    /// Of what is done in parts, one part.
    #[inline]
    pub fn part(&self) -> u64 {
        self.part
    }

    /// A lone client has sent a request.
    fn saw_lone(&mut self) {
        self.lone_until = self.spent + LONE_FOR;
        self.set_part();
    }

    fn set_part(&mut self) {
        self.part = (self.turn() / 4).max(1);
    }

    /// Whether the queue has to wait for the next turn, as this one lasts twice as long as it
    /// should already: a multi of many operations was applied. It waits for one turn at most.
    fn leaves_out_queue(&mut self) -> bool {
        let is_late = self.spent > self.turn_end.saturating_add(self.turn());
        self.left_out = is_late && !self.left_out;
        self.left_out
    }

    /// Where the queue has to stop in this turn.
    fn queue_stop(&self) -> u64 {
        self.turn_end.max(self.spent.saturating_add(self.part()))
    }

    /// Whether one more connection may be told of a transaction in this turn; if so, that is taken
    /// from the budget.
    pub fn takes_event(&mut self) -> bool {
        let takes = self.events_left > 0;
        self.events_left -= if takes { SEND_COST as i64 } else { 0 };
        takes
    }

    /// Where what arrives has to stop in this turn.
    pub fn arrivals_stop(&self) -> u64 {
        self.stop_after(self.arrivals_left)
    }

    /// Takes from the budget for what arrives what was spent since.
    pub fn charge_arrivals(&mut self, begun: u64) {
        self.arrivals_left -= (self.spent - begun) as i64;
    }

    /// Whether somebody stands in the queue.
    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether those in line may go on in this turn.
    pub fn has_line_budget(&self) -> bool {
        self.line_left > 0
    }

    /// Where letting in from the line has to stop in this turn.
    pub fn line_stop(&self) -> u64 {
        self.stop_after(self.line_left)
    }

    /// Takes from the line's budget what was spent since.
    pub fn charge_line(&mut self, begun: u64) {
        self.line_left -= (self.spent - begun) as i64;
    }

    /// Where work that may take `budget` has to stop.
    fn stop_after(&self, budget: i64) -> u64 {
        self.spent + u64::try_from(budget).unwrap_or(0)
    }

    /// Where applying has to stop in this turn.
    pub fn apply_stop(&self) -> u64 {
        self.stop_after(self.apply_left)
    }

    /// Takes from the budget for applying what was spent since.
    pub fn charge_apply(&mut self, begun: u64) {
        self.apply_left -= (self.spent - begun) as i64;
    }
}

impl Client {
    /// Input came, of one request if `is_one`.
    fn arrived(&mut self, is_one: bool) {
        let is_alone = is_one && self.outstanding() == 0;
        self.lone_streak = if is_alone { self.lone_streak.saturating_add(1) } else { 0 };
    }

    /// What it may cost now; a new turn gives it a new share, and debts stay.
    fn credit_at(&mut self, turn: u64, share: u64) -> i64 {
        if self.credit_turn != turn {
            let shares = i64::try_from((turn - self.credit_turn).saturating_mul(share));
            let full = i64::try_from(share).unwrap_or(i64::MAX);
            self.credit = self.credit.saturating_add(shares.unwrap_or(i64::MAX)).min(full);
            self.credit_turn = turn;
        }
        self.credit
    }

    /// Whether it could go on if it were its turn; requests are taken by a server that leads only.
    fn could_go_on(&self, is_led: bool, in_flight_max: usize) -> bool {
        self.owes_earlier() && !self.is_choked()
            || is_led && !self.held.is_empty() && !self.is_blocked(in_flight_max)
    }
}

impl Replica {
    /// Begins a turn of the loop: everybody gets a share, and the turn its budget.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
        if self.turn.is_multiple_of(CHECK_TURNS) {
            self.check_next();
        }
        self.fair.begin_turn();
    }

    /// Frames arrived: those that the connection has credit for are handled, the others wait.
    pub(super) fn frames(&mut self, now: Now, conn: ConnId, bytes: &[u8], effects: &mut Effects) {
        self.stats.bytes_received += bytes.len() as u64;
        let is_serving = self.is_serving();
        // It may have been closed from this side before its front knew.
        let Some(client) = self.clients.get_mut(conn) else { return };
        let mut rest = bytes;
        client.arrived(split_frame(bytes).is_some_and(|(_, others)| others.is_empty()));
        if client.lone_streak >= LONE_STREAK {
            self.fair.saw_lone();
        }
        let begun = self.fair.spent;
        if is_serving && !client.queued && client.held.is_empty() {
            let credit = client.credit_at(self.turn, self.fair.options.share);
            let stop_at = self.fair.stop_after(credit).min(self.fair.arrivals_stop());
            let taken = self.run(now, conn, bytes, stop_at, effects);
            rest = &bytes[taken.bytes..];
        }
        if !rest.is_empty() {
            self.hold(now, conn, rest, effects);
        }
        self.fair.charge_arrivals(begun);
        self.apply_pressure(conn, effects);
    }

    /// Keeps frames for later. The client has shown that it lives: its session is not to end for
    /// requests that wait here.
    fn hold(&mut self, now: Now, conn: ConnId, frames: &[u8], effects: &mut Effects) {
        let (mut rest, mut count) = (frames, 0);
        while let Some((_, tail)) = split_frame(rest) {
            (rest, count) = (tail, count + 1);
        }
        if !rest.is_empty() {
            // The front hands over whole frames only.
            return self.close(conn, CloseHow::Now, effects);
        }
        let client = self.clients.known(conn);
        if client.stage() == Stage::Closing {
            return;
        }
        // It is copied: one that sends much that has to wait keeps the server busy, too.
        let cost = bytes_cost(frames.len());
        self.fair.spent += cost;
        client.credit -= cost as i64;
        client.held.push(frames);
        client.held_count += count;
        client.waiting_bytes += frames.len() + count as usize * FRAME_OVERHEAD;
        self.fair.held += count;
        self.heard(now, conn);
        self.queue_up(conn);
    }

    /// The client is there, though nothing that it sends is looked at for now.
    ///
    /// COMPAT(3.9): Apache counts a request when it is taken from the socket, and lets a session
    /// expire while it takes none. A session that lives longer is safe: nobody may rely on an end
    /// that has not been announced, and who is dead sends and takes nothing.
    pub(super) fn heard(&mut self, now: Now, conn: ConnId) {
        // It may have been closed from this side before its front knew.
        let Some(client) = self.clients.get_mut(conn) else { return };
        if client.stage() != Stage::Active {
            return;
        }
        if let Some(learner) = &mut self.learner {
            learner.touch(client);
        } else if let (Some(slot), Some(leader)) = (client.slot, &mut self.leader) {
            leader.touch(slot, client.timeout_ms, now.mono);
        }
    }

    /// Puts a connection that could go on into the queue.
    pub(super) fn queue_up(&mut self, conn: ConnId) {
        let (is_led, in_flight_max) = (self.is_serving(), self.fair.options.in_flight_bytes);
        if let Some(client) = self.clients.get_mut(conn)
            && !client.queued
            && client.could_go_on(is_led, in_flight_max)
        {
            client.queued = true;
            self.fair.queue.push_back(conn);
        }
    }

    /// Ends the turn's work with those who wait: every one gets a share, again and again until the
    /// budget is spent.
    pub(super) fn serve_queue(&mut self, now: Now, effects: &mut Effects) {
        if self.fair.has_queue() && self.fair.leaves_out_queue() {
            return;
        }
        let options = self.fair.options;
        let end = self.fair.queue_stop();
        let share = i64::try_from(options.share).unwrap_or(i64::MAX).max(1);
        while self.fair.spent < end
            && let Some(conn) = self.fair.queue.pop_front()
        {
            // One that has gone had left its place in the queue.
            let Some(client) = self.clients.get_mut(conn) else { continue };
            invariant!(client.queued, "{conn:?} stands in the queue and does not know it");
            client.queued = false;
            client.credit = (client.credit_at(self.turn, options.share) + share).min(share);
            let credit = client.credit;
            if credit > 0 {
                let stop_at = self.fair.stop_after(credit).min(end);
                self.go_on(now, conn, stop_at, stop_at, effects);
            } else {
                self.queue_up(conn);
            }
        }
        if !self.paused.is_empty() {
            self.relieve_pressure(effects);
        }
    }

    /// Its writes were applied, or it has taken its replies: goes on with what that held up, as far
    /// as its share allows.
    pub(super) fn go_on_early(
        &mut self,
        now: Now,
        conn: ConnId,
        stop_at: u64,
        effects: &mut Effects,
    ) {
        // The transaction that was applied may have been its end.
        let Some(client) = self.clients.get_mut(conn) else { return };
        if client.queued {
            return;
        }
        let credit = client.credit_at(self.turn, self.fair.options.share);
        let held_stop = self.fair.stop_after(credit).min(stop_at);
        self.go_on(now, conn, stop_at, held_stop, effects);
    }

    /// Goes on with what waits for its turn: first what was deferred, then what was never looked
    /// at. What is left stands in the queue.
    fn go_on(
        &mut self,
        now: Now,
        conn: ConnId,
        deferred_stop: u64,
        held_stop: u64,
        effects: &mut Effects,
    ) {
        self.run_deferred(now, conn, false, deferred_stop, effects);
        if let Some(client) = self.clients.get_mut(conn)
            && !client.held.is_empty()
            && !client.owes_earlier()
            && self.is_serving()
        {
            self.run_held(now, conn, held_stop, effects);
        }
        self.queue_up(conn);
    }

    fn run_held(&mut self, now: Now, conn: ConnId, stop_at: u64, effects: &mut Effects) {
        let client = self.clients.known(conn);
        let mut held = std::mem::take(&mut client.held);
        let taken = self.run(now, conn, held.rest(), stop_at, effects);
        // One that is gone has taken the counts of all its frames with it.
        let Some(client) = self.clients.get_mut(conn) else { return };
        held.pop(taken.bytes);
        held.tidy();
        client.held = held;
        client.held_count -= taken.frames;
        client.waiting_bytes -= taken.bytes + taken.frames as usize * FRAME_OVERHEAD;
        self.fair.held -= taken.frames;
    }

    /// Whether a read may take so long that no write should have to wait for it.
    pub(super) fn is_heavy(&self, op: OpCode, conn: ConnId, body: &[u8]) -> bool {
        match op {
            OpCode::GetEphemerals => {
                let session = self.session_of(conn);
                self.tree.ephemerals(session).len() > HEAVY_NODES
            }
            OpCode::GetChildren | OpCode::GetChildren2 => {
                let node =
                    leading_path(op.code(), body).and_then(|path| self.tree.find_bytes(path));
                node.is_some_and(|node| self.tree.num_children(node) as usize > HEAVY_NODES)
            }
            OpCode::GetAllChildrenNumber => true,
            OpCode::SetWatches | OpCode::SetWatches2 | OpCode::MultiRead => {
                body.len() > HEAVY_BYTES
            }
            _ => false,
        }
    }

    /// Whether everything that could be done stands where it will be.
    pub(super) fn check_queue(&self) {
        let held: u64 = self.clients.iter().map(|client| client.held_count).sum();
        assert_eq!(held, self.fair.held, "frames that wait for their turn");
        for client in self.clients.iter() {
            let could = client.could_go_on(self.is_serving(), self.fair.options.in_flight_bytes);
            assert!(client.queued || !could, "{:?} waits for nothing", client.conn);
            assert_eq!(client.held.rest().is_empty(), client.held_count == 0);
            assert!(!client.queued || self.fair.queue.contains(&client.conn), "{:?}", client.conn);
        }
    }
}
