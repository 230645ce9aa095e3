//! Inputs of a member of an ensemble: who hears of them, and what follows from that.
//!
//! Order matters in three places. What a leader numbers is handed to its machine in the turn in
//! which it goes to the log, before any connection is written to. A machine's wishes are carried
//! out in their order, so that transactions are known before they are committed. And a server votes
//! only when nothing is on its way to its disk, because its vote says what the disk has.

use crate::base::{Instant, Mark, Mutation, Now, ServerId, Zxid, invariant, is_mutated, mark};
use crate::election::{self, History};
use crate::replica::{Effects, Input, ReceptionStage, Replica};
use crate::wire::vote::PeerState;
use crate::zab::{LeadInput, LearnInput};

use super::party::{Asked, Behind, Followed, Machine, Party, Purpose};

/// What a member's input is handled with.
pub(super) struct Turn<'a> {
    pub now: Now,
    pub party: &'a mut Party,
    pub replica: &'a mut Replica,
    pub asked: &'a mut Asked,
    pub effects: &'a mut Effects,
}

impl Turn<'_> {
    /// Handles an input that does not come from another member.
    pub fn handle(&mut self, input: Input<'_>) {
        match input {
            Input::Logged { zxid } => {
                self.tell_replica(Input::Logged { zxid });
                self.tell_leading(LeadInput::Logged(zxid));
                self.tell_learning(LearnInput::Logged(zxid));
            }
            Input::LogDone { ticket, done } => self.log_done(ticket, done),
            Input::Tick => self.tick(),
            input => {
                let has_received =
                    matches!(input, Input::ReceptionReady { .. } | Input::ReceptionEnded { .. });
                self.tell_replica(input);
                if has_received {
                    self.go_on_receiving();
                }
            }
        }
        self.settle();
    }

    fn tick(&mut self) {
        let now = self.now;
        if self.replica.deadline().is_some_and(|at| at <= now.mono) {
            self.tell_replica(Input::Tick);
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.mono);
        if matches!(self.party.machine, Machine::Retired) {
            return;
        }
        let later = std::mem::take(&mut self.party.later);
        self.party.to_read.extend(later);
        if is_due(self.party.election.deadline()) {
            let party = &mut *self.party;
            party.election.handle(now, election::Input::Tick, &mut party.ballots);
        }
        if is_due(self.party.votes.deadline()) {
            self.party.votes.tick(now.mono, &mut self.party.numbers, &mut self.party.out);
        }
        if is_due(self.party.links.deadline()) {
            self.party.links.tick(now.mono, &mut self.party.out);
        }
        if is_due(self.party.followed.and_then(|followed| followed.retry_at)) {
            self.dial();
        }
        if self.party.full.is_some() {
            // It is not the leader who is silent.
            self.tell_learning(LearnInput::Heard);
            if let (true, Some(full)) = (is_due(self.party.full_until()), self.party.full) {
                let ms = now.mono.since(full.since).as_millis();
                let bytes = self.replica.backlog();
                let ms = u64::try_from(ms).unwrap_or(u64::MAX);
                self.tell_learning(LearnInput::Stalled { ms, bytes });
            }
        }
        if is_due(self.party.behind_until()) {
            // One that is not in step yet is behind by its nature, and nobody reads from it.
            mark(Mark::LeavesBehind);
            self.party.behind = Some(Behind(now.mono));
            if self.replica.is_serving() {
                self.serve_nobody();
            }
        }
        match &self.party.machine {
            Machine::Leading(leading) if is_due(leading.deadline()) => {
                self.tell_leading(LeadInput::Tick);
                self.tell_digest();
            }
            Machine::Learning(learning) if is_due(learning.deadline()) => {
                self.tell_learning(LearnInput::Tick);
            }
            _ => {}
        }
    }

    /// What this learner shows is too old. The term goes on, or one whose disk is slow would end
    /// it again and again where its leader needs it for a quorum.
    fn serve_nobody(&mut self) {
        let Some(epoch) = self.party.served else { return };
        let from = self.effects.list.len();
        let count = self.replica.pause_serving(self.effects);
        self.route(from);
        self.party.catching_up = Some(epoch);
        log::warn!(
            "serving no clients until this server has caught up: {} bytes of transactions wait for \
             its disk, or to be applied; closing {count} connections",
            self.replica.backlog()
        );
    }

    /// What was prepared goes to the log and to the learners, and the machines end their turn.
    pub fn hand_over(&mut self) {
        let are_stated = matches!(
            &self.party.machine,
            Machine::Leading(leading) if leading.has_plain_learners()
        );
        self.replica.state_digests(are_stated);
        let from = self.effects.list.len();
        self.replica.hand_over(self.effects);
        self.route(from);
        if self.replica.is_epoch_spent() && !self.replica.is_held() {
            self.end_epoch();
        }
        match &mut self.party.machine {
            Machine::Leading(leading) => leading.flush(&mut self.party.zab),
            Machine::Learning(learning) => learning.flush(&mut self.party.zab),
            Machine::Settling | Machine::Looking | Machine::Retired => {}
        }
        self.settle();
        self.end_idle_ranges();
        self.compare_digests();
    }

    /// The epoch of this leader is spent: the next one begins in place, or by an election where a
    /// learner of Apache's takes part.
    fn end_epoch(&mut self) {
        let Machine::Leading(leading) = &self.party.machine else { return };
        let (epoch, in_place) = (leading.epoch(), leading.can_renew());
        log::info!("the numbers of epoch {:x} come to their end, so the next one begins", epoch.0);
        if in_place {
            self.replica.hold_requests();
            self.tell_leading(LeadInput::Renew);
        } else {
            mark(Mark::SpentByElection);
            self.end_term();
        }
    }

    /// Hands an input to the replica, and what it wants of other members to the machines.
    pub(super) fn tell_replica(&mut self, input: Input<'_>) {
        let from = self.effects.list.len();
        self.replica.handle(self.now, input, self.effects);
        self.route(from);
    }

    pub(super) fn tell_leading(&mut self, input: LeadInput<'_>) {
        if let Machine::Leading(leading) = &mut self.party.machine {
            leading.handle(self.now, input, &mut self.party.zab);
        }
    }

    pub(super) fn tell_learning(&mut self, input: LearnInput<'_>) {
        if let Machine::Learning(learning) = &mut self.party.machine {
            learning.handle(self.now, input, &mut self.party.zab);
        }
    }

    /// Carries out what the machines want, until they want nothing more.
    pub(super) fn settle(&mut self) {
        loop {
            if !self.party.zab.list.is_empty() {
                self.run_zab();
            } else if !self.party.ballots.is_empty() {
                self.run_ballots();
            } else if let Some(link) = self.party.to_read.pop() {
                self.read_packets(link);
            } else if self.has_room_again() {
                self.read_on();
            } else if self.is_up_to_date() {
                self.begin_following();
            } else if self.party.to_lead.is_some() && self.replica.is_all_applied() {
                self.begin_leading();
            } else if matches!(self.party.machine, Machine::Settling) && self.is_at_rest() {
                self.look();
            } else {
                break;
            }
        }
    }

    /// Whether the disk has everything that this server knows, and does nothing else.
    fn is_at_rest(&self) -> bool {
        self.replica.last_logged() == self.replica.last_known()
            && self.asked.purposes().all(|purpose| matches!(purpose, Purpose::History(..)))
    }

    fn look(&mut self) {
        self.party.machine = Machine::Looking;
        self.note_search();
        let zxid = match self.party.needs_snapshot {
            true => Zxid(-1),
            false if is_mutated(Mutation::VoteCommitted) => self.replica.last_committed(),
            false => self.replica.last_logged(),
        };
        let history = History { zxid, epoch: self.party.epochs.current };
        let party = &mut *self.party;
        party.election.handle(self.now, election::Input::Look(history), &mut party.ballots);
    }

    pub(super) fn run_ballots(&mut self) {
        let mut ballots = std::mem::take(&mut self.party.ballots);
        for effect in ballots.drain(..) {
            match effect {
                election::Effect::Send(to, ballot) => {
                    let party = &mut *self.party;
                    let mut message = Vec::with_capacity(64 + party.config.len());
                    ballot.notification(&party.config).encode_into(&mut message);
                    party.votes.send(
                        self.now.mono,
                        to,
                        &message,
                        &mut party.numbers,
                        &mut party.out,
                    );
                }
                election::Effect::Elected { state, vote, .. } => self.elected(state, vote.leader),
                // Its next FOLLOWERINFO comes on a connection of its own, and a leader that is left
                // by too many gives up by itself.
                election::Effect::LooksAgain(_) => {}
                election::Effect::Outvoted(sid) => self.outvoted(sid),
            }
        }
        // What was sent may have led to more.
        ballots.append(&mut self.party.ballots);
        self.party.ballots = ballots;
    }

    /// Before a quorum has come, one that follows somebody else by now is not waited for.
    fn outvoted(&mut self, sid: ServerId) {
        if let Machine::Leading(leading) = &self.party.machine
            && leading.awaits_voters()
        {
            mark(Mark::GivesUpOutvoted);
            log::info!(
                "server {} has found a better one to lead, so this server looks again",
                sid.0
            );
            self.end_term();
        }
    }

    fn elected(&mut self, state: PeerState, leader: ServerId) {
        let has_database = state != PeerState::Leading || !self.party.needs_snapshot;
        invariant!(has_database, "a server without a database does not lead");
        invariant!(
            matches!(self.party.machine, Machine::Looking),
            "a leader is elected while one is looked for"
        );
        self.note_election();
        let standing =
            self.party.standing(self.replica.last_logged(), self.replica.last_committed());
        log::info!(
            "server {} leads by the vote of a quorum; this server has zxid 0x{}{}",
            leader.0,
            standing.logged,
            describe(state)
        );
        if state == PeerState::Leading {
            let (applied, tail) = (self.replica.last_processed(), self.replica.tail());
            if !tail.is_empty() {
                mark(Mark::DirtyHistory);
            }
            let leading = self.party.leading(self.now, standing, applied, tail);
            self.party.machine = Machine::Leading(Box::new(leading));
            self.tell_leading(LeadInput::Tick);
            for (link, _) in self.party.links.take_waiting(&mut self.party.out) {
                self.tell_leading(LeadInput::Opened(link));
                self.party.to_read.push(link);
            }
        } else {
            let learning = self.party.learning(self.now, leader, standing);
            self.party.machine = Machine::Learning(Box::new(learning));
            self.party.links.turn_learners_away(&mut self.party.out);
            self.party.followed =
                Some(Followed { leader, link: None, failures: 0, retry_at: None });
            self.dial();
        }
    }

    pub(super) fn dial(&mut self) {
        let party = &mut *self.party;
        if let Some(followed) = &mut party.followed {
            followed.retry_at = None;
            let link = party.links.dial(followed.leader, &mut party.numbers, &mut party.out);
            followed.link = Some(link);
        }
    }

    /// This server is about to end: it makes or takes no more transactions, so that it hears what
    /// becomes of those that it has. Requests that are forwarded to it are as lost as if it had
    /// ended: their learners close those connections when they lose it.
    pub fn begin_leaving(&mut self) {
        self.party.is_leaving = true;
        if let Machine::Learning(learning) = &mut self.party.machine {
            learning.leave();
        }
    }

    /// This server is about to end: it leaves the others, so that they need not find that out. What
    /// it has in its log stays there.
    pub fn retire(&mut self) {
        log::info!("leaving the ensemble, as this server is about to end");
        self.tell_leading(LeadInput::Leave);
        self.run_zab();
        self.end_term();
        self.party.machine = Machine::Retired;
        self.party.votes.close_all(&mut self.party.out);
        self.party.links.turn_learners_away(&mut self.party.out);
        self.party.zab.clear();
        self.party.ballots.clear();
    }

    /// The term is over: this server looks for a leader again.
    pub(super) fn end_term(&mut self) {
        self.note_loss();
        if !self.is_at_rest() {
            mark(Mark::SettlesByDisk);
        }
        if self.asked.purposes().any(|purpose| matches!(purpose, Purpose::Adopt(_))) {
            mark(Mark::ReceptionStays);
        }
        self.party.machine = Machine::Settling;
        (self.party.to_lead, self.party.to_follow, self.party.followed) = (None, None, None);
        (self.party.full, self.party.behind, self.party.catching_up) = (None, None, None);
        self.party.held.take();
        (self.party.stated, self.party.agreed) = (None, None);
        let from = self.effects.list.len();
        self.replica.stop_serving(self.effects);
        let is_arriving =
            self.replica.reception().is_some_and(|(_, stage)| stage != ReceptionStage::Durable);
        if is_arriving {
            mark(Mark::ReceptionGivenUp);
            self.replica.abandon_reception(self.effects);
        }
        self.party.receives = None;
        self.route(from);
        let streams = self.party.streams.iter().map(|(link, _)| *link);
        let ranges = self.party.ranges.iter().map(|(link, _)| *link);
        for link in streams.chain(ranges).collect::<Vec<_>>() {
            self.link_gone(link);
        }
        self.party.links.close_all(&mut self.party.out);
        self.party.votes.close_lifelines(&mut self.party.out);
        self.party.to_read.clear();
        self.party.unread.clear();
        self.party.later.clear();
    }
}

fn describe(state: PeerState) -> &'static str {
    match state {
        PeerState::Looking => " and is looking for a leader",
        PeerState::Following => " and is about to follow",
        PeerState::Leading => " and is about to lead",
        PeerState::Observing => " and is about to observe",
    }
}
