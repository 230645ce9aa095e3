//! What is asked of the log, and what comes of it: epochs, truncations, a database that was
//! received, and transactions for learners that are behind.

use std::sync::Arc;

use crate::base::{LinkId, Mark, Mutation, Zxid, is_mutated, mark};
use crate::log::{EpochFile, LogChange, LogCommand, LogDone, LogTicket, RangeCommand};
use crate::replica::{Effect, ReceptionStage};
use crate::zab::{LeadInput, LearnInput};

use super::party::{Machine, Party, Purpose, Range, Step};
use super::turn::Turn;

/// Bytes of log that are read for a learner at once.
const RANGE_BYTES: usize = 256 << 10;

/// Bytes of a database that is received, handed on at once.
const RECEIVE_BYTES: usize = 64 << 10;

impl Turn<'_> {
    pub(super) fn ask(&mut self, command: LogCommand, purpose: Purpose) -> LogTicket {
        // Behind what was prepared before.
        let from = self.effects.list.len();
        self.replica.hand_over(self.effects);
        self.route(from);
        let ticket = self.asked.add(purpose);
        self.effects.list.push(Effect::Log { ticket, command });
        ticket
    }

    pub(super) fn log_done(&mut self, ticket: LogTicket, done: LogDone) {
        match (self.asked.take(ticket), done) {
            (Purpose::Epoch(file, epoch), _) => {
                match file {
                    EpochFile::Accepted => self.party.epochs.accepted = epoch,
                    EpochFile::Current => {
                        self.party.epochs.current = epoch;
                        // All of the leader's history is on this disk.
                        self.party.needs_snapshot = false;
                    }
                }
                self.tell_leading(LeadInput::EpochStored(file, epoch));
                self.tell_learning(LearnInput::EpochStored(file, epoch));
                self.read_on();
            }
            (Purpose::Truncate(keep), LogDone::Changed(_)) => {
                if !is_mutated(Mutation::RememberTail) {
                    self.replica.forget_after(keep);
                }
                self.tell_learning(LearnInput::Truncated(keep));
                self.read_on();
            }
            (Purpose::Truncate(_), _) => {
                self.party.needs_snapshot = true;
                self.tell_learning(LearnInput::NotTruncated);
            }
            (Purpose::Adopt(_), LogDone::Changed(_)) => {
                if self.party.needs_snapshot {
                    mark(Mark::VoidAdopts);
                }
                self.replica.adopt(self.now, self.effects);
                // The next term still needs one, if this one ends before the epoch is entered: what
                // the leader did not know to be committed comes after the snapshot.
                self.tell_learning(LearnInput::Installed);
                self.read_on();
            }
            (Purpose::Adopt(zxid), done) => {
                let why = format!(
                    "the database that was received at zxid 0x{zxid} was complete on disk, and is \
                     not found there ({done:?})"
                );
                self.effects.list.push(Effect::Fatal(why));
            }
            (Purpose::History(link, step), done) => self.history(ticket, link, step, done),
            (Purpose::Other { .. }, _) => {}
        }
    }

    pub(super) fn read_log(&mut self, link: LinkId, after: Zxid) {
        if let Some(range) = self.party.range(link).copied()
            && range.reached == after
        {
            return self.read_range(link, range.lease);
        }
        self.end_range(link);
        let to = self.replica.last_logged();
        let command = RangeCommand::Lease { from: after, to };
        if after > to {
            mark(Mark::LogAskedBeyondDisk);
            return self.tell_leading(LeadInput::LogUnreadable(link));
        }
        let lease = self.ask(LogCommand::Range(command), Purpose::History(link, Step::Lease));
        let reached = after;
        let range = Range { lease, reached, is_fresh: true };
        self.party.ranges.push((link, range));
    }

    fn read_range(&mut self, link: LinkId, lease: LogTicket) {
        let command = RangeCommand::Read { lease, bytes_max: RANGE_BYTES };
        self.ask(LogCommand::Range(command), Purpose::History(link, Step::Read));
    }

    /// Nothing more is read of the log for a learner.
    pub(super) fn end_range(&mut self, link: LinkId) {
        if let Some(at) = self.party.ranges.iter().position(|(of, _)| *of == link) {
            let (_, range) = self.party.ranges.remove(at);
            self.release(link, range);
        }
    }

    /// Learners that have got to what this server has in memory need no more of the log.
    pub(super) fn end_idle_ranges(&mut self) {
        let Party { machine: Machine::Leading(leading), ranges, .. } = &*self.party else { return };
        let idle = ranges.iter().map(|(link, _)| *link).filter(|link| !leading.wants_log(*link));
        for link in idle.collect::<Vec<_>>() {
            self.end_range(link);
        }
    }

    fn release(&mut self, link: LinkId, range: Range) {
        let command = RangeCommand::Release { lease: range.lease };
        self.ask(LogCommand::Range(command), Purpose::History(link, Step::Release));
    }

    /// What reading the log for a learner has come to. The first transaction of a range is the
    /// learner's last one: if the log has another one there, or none, only a snapshot helps.
    fn history(&mut self, ticket: LogTicket, link: LinkId, step: Step, done: LogDone) {
        let known = self.party.range(link).copied();
        match (step, done) {
            (Step::Lease, LogDone::Leased) => match known {
                Some(range) if range.lease == ticket => self.read_range(link, ticket),
                // The learner has gone meanwhile, and its lease was given back in advance.
                _ => mark(Mark::LeaseOutlived),
            },
            (Step::Read, LogDone::Read { batch, is_last }) => {
                let Some(range) = self.party.range(link) else { return };
                let is_fresh = std::mem::take(&mut range.is_fresh);
                let floor = range.reached;
                range.reached = batch.last_zxid().unwrap_or(floor);
                let is_missing = is_fresh && batch.first_zxid() != Some(floor);
                if is_last || is_missing {
                    // A range that is leased is kept on the disk.
                    self.end_range(link);
                }
                if is_missing {
                    mark(Mark::LogLacksFloor);
                    return self.tell_leading(LeadInput::LogUnreadable(link));
                }
                let batch = match is_fresh {
                    true => Arc::new(batch.part(1..batch.len())),
                    false => batch,
                };
                self.tell_leading(LeadInput::LogRead { link, floor, batch });
            }
            (Step::Release, _) => {}
            (Step::Lease | Step::Read, _) => {
                self.party.ranges.retain(|(of, range)| *of != link || range.lease != ticket);
                self.tell_leading(LeadInput::LogUnreadable(link));
            }
        }
    }

    /// Takes over what has arrived of the leader's database, as far as the disk keeps up.
    pub(super) fn go_on_receiving(&mut self) {
        let Some(zxid) = self.party.receives else { return };
        if let Some((_, ReceptionStage::Durable)) = self.replica.reception() {
            self.party.receives = None;
            let change = LogChange::Retire { snapshot: zxid };
            let ticket = self.ask(LogCommand::Change(change), Purpose::Adopt(zxid));
            if is_mutated(Mutation::KeepLog) {
                self.effects.list.pop();
                self.log_done(ticket, LogDone::Changed(change));
            }
            return;
        }
        let Some(link) = self.party.followed.and_then(|followed| followed.link) else { return };
        if !self.replica.wants_received() {
            // This server's disk is waited for, not the leader.
            mark(Mark::ReceptionAwaitsDisk);
            self.tell_learning(LearnInput::Heard);
        }
        while self.replica.wants_received() {
            let Party { links, out, .. } = &mut *self.party;
            let bytes = links.take_bytes(link, RECEIVE_BYTES, out);
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len();
            match self.replica.receive(bytes, self.effects) {
                Ok(used) => links.give_back(link, count - used),
                Err(error) => {
                    self.party.receives = None;
                    return self.tell_learning(LearnInput::BadSnapshot(error.to_string()));
                }
            }
        }
        if let Some((_, ReceptionStage::Writing)) = self.replica.reception() {
            self.tell_learning(LearnInput::Received);
        }
        if self.replica.reception().is_none() {
            self.party.receives = None;
            let why = "the database that it sends cannot be written to this server's disk";
            self.tell_learning(LearnInput::BadSnapshot(why.into()));
        }
    }
}
