//! The hosts at work: their turns, what they do to the outside, and how their lives end.

use crate::wire::TxnHeader;

use super::super::network::{Arrived, Door, End};
use super::super::node::{Action, Arrival, Ended, reload};
use super::super::voices::take_lines;
use super::{Checked, Event, MS, US, World};

/// A server's own pause between what arrived and its turn.
const WAKE_UP: u64 = 5 * US;
/// What takes a disk as long as this is longer than usual.
const STALL: u64 = 50 * MS;
/// Longer than any client waits.
const STALLS_KEPT: u64 = 20_000 * MS;

impl World {
    /// Something from the network reaches a machine, though perhaps no server.
    pub(super) fn reach_host(&mut self, host: usize, link: End, what: Arrived) {
        if matches!(what, Arrived::Opened(Door::Members(_))) && !self.answers_member(host, link) {
            return;
        }
        if self.hosts[host].node().is_some() {
            return self.arrived(host, Arrival::Stream { link, what });
        }
        self.network.reset(self.now, link);
    }

    pub(super) fn arrived(&mut self, host: usize, arrival: Arrival) {
        let state = &mut self.hosts[host];
        if matches!(arrival, Arrival::HouseTurn) {
            state.house_called = false;
        }
        state.arrivals.push(arrival);
        self.want_turn(host, self.now + WAKE_UP);
    }

    /// The start or the pause of a server is over.
    pub(super) fn proceed(&mut self, host: usize) {
        self.hosts[host].proceed();
        self.want_turn(host, self.now);
    }

    pub(super) fn want_turn(&mut self, host: usize, time: u64) {
        let state = &mut self.hosts[host];
        let time = time.max(self.now).max(state.busy_until);
        if state.running().is_some() && state.turn_at.is_none_or(|at| time < at) {
            state.turn_at = Some(time);
        }
    }

    pub(super) fn turn(&mut self, host: usize) -> Checked {
        let state = &mut self.hosts[host];
        let now = state.now(self.now);
        let arrivals = std::mem::take(&mut state.arrivals);
        let Some(node) = state.running() else { return Ok(()) };
        let outcome = node.turn(now, arrivals);
        let actions = std::mem::take(&mut node.actions);
        self.report.turns += 1;
        self.hosts[host].busy_until = self.now + self.swarm.turn_us * US;
        self.note_lines(host);
        for action in actions {
            self.action(host, action)?;
        }
        if let Some(node) = self.hosts[host].node() {
            let has_died = matches!(outcome, Err(Ended::Crashed | Ended::Fatal(_)));
            let checked = self.books.committed(host, node, has_died);
            checked.map_err(|what| self.wrong_at(host, what))?;
            let is_back = node.replica().is_serving() && !node.replica().is_void();
            self.hosts[host].is_lost &= !is_back;
        }
        self.check_vote(host)?;
        match outcome {
            Ok(()) => self.after_turn(host),
            Err(ended) => self.server_ended(host, &ended),
        }
    }

    /// The lines that a server has logged go to the history.
    pub(super) fn note_lines(&mut self, host: usize) {
        for line in take_lines() {
            self.note(|| format!("host {host} logs {line}"));
        }
    }

    /// What a member votes with is what it would be after a power failure, too.
    fn check_vote(&mut self, host: usize) -> Checked {
        let state = &mut self.hosts[host];
        let votes = state.node().is_some_and(|node| node.member().stands_with().is_some());
        let voted = std::mem::replace(&mut state.is_voting, votes);
        let (false, true, false) = (voted, votes, state.files.disk().is_off()) else {
            return Ok(());
        };
        let reloaded = reload(&state.files, &mut self.checks);
        let Some(node) = state.node() else { return Ok(()) };
        let outcome = reloaded.and_then(|reloaded| self.books.voted(node, &reloaded));
        outcome.map_err(|what| self.wrong_at(host, what))
    }

    fn after_turn(&mut self, host: usize) -> Checked {
        let Some(node) = self.hosts[host].running() else { return Ok(()) };
        let (deadline, has_chores) = (node.deadline(), node.has_chores());
        let outcome = self.books.has_come(host, node);
        let is_news = outcome.map_err(|what| self.wrong_at(host, what))?;
        if is_news && self.checks.chance(1, 30) {
            self.compare(host, "while running")?;
        }
        if self.hosts[host].node().is_some_and(|node| node.replica().is_streaming()) {
            self.break_in_time(host);
        }
        let state = &mut self.hosts[host];
        let next = state.clock.when(deadline).max(self.now + 20 * US);
        if has_chores && !std::mem::replace(&mut state.house_called, true) {
            let slow = if state.schedule.chance(1, 20) { 40 } else { 1 };
            let delay = state.schedule.below(4 * self.swarm.write_us * US) * slow + US;
            let delay = delay.max(state.disk_stalls_until.saturating_sub(self.now));
            self.takes_long(delay);
            self.arrive(host, delay, Arrival::HouseTurn);
        }
        self.want_turn(host, next);
        Ok(())
    }

    fn arrive(&mut self, host: usize, delay: u64, arrival: Arrival) {
        let life = self.hosts[host].lives;
        self.after(delay, Event::Arrive { host, life, arrival });
    }

    fn action(&mut self, host: usize, action: Action) -> Checked {
        let now = self.hosts[host].clock.mono(self.now);
        match action {
            Action::Send { link, bytes } => self.network.send(self.now, link, &bytes),
            Action::Finish { link } => self.network.finish(self.now, link),
            Action::Reset { link } => self.network.close(self.now, link),
            Action::Dial { link, to, port } => self.dial(host, link, to, port),
            Action::Lifeline { link, learner, key } => self.lifeline(host, link, learner, key),
            Action::LetGo { link } => self.let_go(host, link),
            Action::Writing => self.writing(host),
            Action::Logged { entry } => {
                let outcome = self.books.logged(host, now, &entry);
                let header = outcome.map_err(|what| self.wrong_at(host, what))?;
                self.report.txns += 1;
                self.note_logged(host, &header);
            }
            Action::LogChanging(change) => self.books.log_changing(host, change),
            Action::LogChanged(change) => {
                let outcome = self.books.log_changed(host, &change);
                outcome.map_err(|what| self.wrong_at(host, what))?;
                self.note(|| format!("host {host} has changed its log: {change:?}"));
            }
            Action::Touched { session, timeout_ms } => {
                self.books.touched(host, session, now, timeout_ms);
            }
        }
        Ok(())
    }

    fn note_logged(&mut self, host: usize, header: &TxnHeader) {
        if self.options.verbose {
            let (zxid, session, xid) = (header.zxid.0, header.session, header.cxid.0);
            let asked = self.books.request(host, header);
            let line = format!("logs 0x{zxid:x} {session:?} xid {xid}, which is {asked:?}");
            self.note(|| format!("host {host} {line}"));
        }
    }

    /// A write of the log began.
    fn writing(&mut self, host: usize) {
        let is_crashing = self.is_crashing();
        let state = &mut self.hosts[host];
        let rng = &mut state.disk_rng;
        let slow = if rng.chance(1, 50) { 40 } else { 1 };
        let delay = (rng.below(self.swarm.write_us) + 20) * US * slow;
        let delay = delay.max(state.disk_stalls_until.saturating_sub(self.now));
        let of_256 = if rng.chance(1, 30) { rng.below(256) } else { 256 };
        let is_first = std::mem::take(&mut state.is_fresh);
        if is_first && is_crashing && rng.chance(1, 4) {
            // The first write after a start is torn.
            state.files.disk().crash_in = Some(rng.below(4) as u32);
        }
        self.takes_long(delay);
        self.arrive(host, delay, Arrival::LogDone { of_256: of_256 as usize });
    }

    /// A disk takes so long for something.
    fn takes_long(&mut self, delay: u64) {
        if delay < STALL {
            return;
        }
        self.stalls.push_back((self.now, delay));
        while self.stalls.front().is_some_and(|(began, _)| began + STALLS_KEPT < self.now) {
            self.stalls.pop_front();
        }
    }

    /// How long disks were slow in all since this time. An answer may have had to wait for each.
    pub(super) fn stalled_since(&self, since: u64) -> u64 {
        let ended = |&(began, delay): &(u64, u64)| (began + delay).saturating_sub(since).min(delay);
        self.stalls.iter().map(ended).sum()
    }

    fn server_ended(&mut self, host: usize, ended: &Ended) -> Checked {
        self.note(|| format!("SERVER {host} ENDS: {ended:?}"));
        let power = match ended {
            Ended::Crashed => {
                self.report.crashes += 1;
                true
            }
            Ended::Fatal(why) => {
                if !self.hosts[host].files.disk().has_failed && !self.mend_named(host, why) {
                    let what = format!("nothing failed and the server ends: {why}");
                    return Err(self.wrong_at(host, what));
                }
                self.report.fatals += 1;
                self.hosts[host].starts_rng.chance(1, 2)
            }
            Ended::Stopped => {
                self.report.stops += 1;
                self.hosts[host].starts_rng.chance(1, 2)
            }
        };
        self.end_host(host, power);
        Ok(())
    }

    /// The process is gone; with it, perhaps, everything the disk did not hold for certain.
    pub(super) fn end_host(&mut self, host: usize, power: bool) {
        self.books.ended(host);
        self.hosts[host].end(self.now, power);
        self.end_lifelines(host, power);
        self.network.lose(self.now, super::Endpoint::Host(host), power);
        let delay = self.hosts[host].starts_rng.below(500 * MS) + MS;
        self.after(delay, Event::Restart { host });
    }

    pub(super) fn compare(&self, host: usize, when: &str) -> Checked {
        let Some(node) = self.hosts[host].node() else { return Ok(()) };
        self.books.compare(host, node, when).map_err(|what| self.wrong_at(host, what))
    }
}
