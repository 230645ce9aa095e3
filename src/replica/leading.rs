//! Taking up leadership and losing it, as a whole. Clients stay connected meanwhile: their requests
//! wait, and are served by the next term.

use std::sync::Arc;

use crate::base::{ConnId, Epoch, Now, Xid, Zxid, invariant};
use crate::leader::{Leader, Numbering, Proposed, View};
use crate::log::Batch;
use crate::tree::Foresight;
use crate::wire::OpCode;

use super::client::Stage;
use super::core::Replica;
use super::effects::Effects;
use super::tail::{Entry, Origin};

/// The leader of a server that leads.
#[inline(always)]
pub(super) fn leading(leader: &mut Option<Leader>) -> &mut Leader {
    invariant!(leader.is_some(), "only a server that leads judges requests");
    leader.as_mut().unwrap_or_else(|| unreachable!("just asserted"))
}

impl Replica {
    /// Whether it leads, or is alone.
    pub fn is_leading(&self) -> bool {
        self.leader.is_some()
    }

    /// Takes up leadership as a lone server, which goes on after the last number that it knows.
    /// Everything that it knows must have been applied. Sessions get their whole timeout from now
    /// on, and requests that waited are served.
    ///
    /// It may have transactions to log at once: call [`Replica::flush`] before waiting.
    pub fn lead(&mut self, now: Now) {
        self.take_up(now, Numbering::After(self.tail.applied()));
    }

    /// As [`Replica::lead`], as the leader of an ensemble: its first transaction is number 1 of
    /// `epoch`, which is later than all that is known.
    pub fn lead_epoch(&mut self, now: Now, epoch: Epoch) {
        let (floor, known) = (Zxid::new(epoch, 0), self.tail.last());
        invariant!(known < floor, "{epoch:?} begins, and {known:?} is known");
        self.take_up(now, Numbering::In(epoch));
    }

    /// From now on requests wait, and sessions do not expire: nothing more gets a number in this
    /// epoch. It leads on, in the next one, by [`Replica::lead_on`].
    pub fn hold_requests(&mut self) {
        invariant!(self.is_leading(), "only a leader numbers transactions");
        self.is_held = true;
    }

    /// Whether requests wait for the next epoch of the same leader.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Leads on in `epoch`, with the sessions and their owners as they are. Everything that is
    /// known must have been applied.
    pub fn lead_on(&mut self, epoch: Epoch) {
        invariant!(self.is_held && self.tail.is_empty(), "the epoch before is wholly applied");
        leading(&mut self.leader).begin_epoch(epoch);
        self.is_held = false;
        let waiting: Vec<ConnId> = self.clients.iter().map(|client| client.conn).collect();
        waiting.into_iter().for_each(|conn| self.queue_up(conn));
    }

    /// Whether the numbers of the epoch that it leads come to their end, so that the next one has
    /// to begin. Never so for a lone server.
    pub fn is_epoch_spent(&self) -> bool {
        self.leader.as_ref().is_some_and(Leader::is_epoch_spent)
    }

    /// `leaderServes=no`: closes every connection, so that clients find a member with more time.
    /// Those that come later are closed, too, as long as this server leads.
    pub fn turn_clients_away(&mut self, effects: &mut Effects) {
        if !self.options.leader_serves {
            log::info!("serving no clients while this server leads (leaderServes=no)");
            self.close_all(effects);
        }
    }

    fn take_up(&mut self, now: Now, numbering: Numbering) {
        invariant!(!self.is_serving(), "a term begins when the one before has ended");
        invariant!(self.tail.is_empty(), "a term begins when the last one is wholly applied");
        self.check.conclude();
        if self.fuzzy.take().is_some() {
            self.check.exact_after(self.tail.last());
        }
        let sessions = self.committed_sessions.iter().map(|(&id, &timeout_ms)| (id, timeout_ms));
        let options = self.options.leader.clone();
        let mut leader = Leader::new(now, options, numbering, sessions);
        let mut waiting = Vec::new();
        for client in self.clients.iter_mut() {
            client.slot = leader.find(client.session);
            if let Some(slot) = client.slot {
                leader.set_peer(slot, client.peer);
                // A connection at a learner that only seems to stand takes no session from here.
                if client.stage() == Stage::Active {
                    leader.keep(slot);
                }
            }
            waiting.push(client.conn);
        }
        self.leader = Some(leader);
        self.end_orphaned_sessions(now);
        waiting.into_iter().for_each(|conn| self.queue_up(conn));
    }

    /// Loses leadership. Transactions that were prepared still go to the log.
    pub fn resign(&mut self, effects: &mut Effects) {
        self.hand_over(effects);
        (self.leader, self.is_held, self.foresight) = (None, false, None);
    }

    /// Whether each transaction that this server makes says from now on what the digest of the tree
    /// is after it. That is for learners of Apache's, which compare; learners of ours are told now
    /// and then, which costs less. Nothing is stated where digests are off or another server leads.
    pub fn state_digests(&mut self, is_wanted: bool) {
        let can_state = self.leader.is_some() && self.tree.options().digest;
        if !is_wanted || !can_state {
            self.foresight = None;
        } else if self.foresight.is_none() {
            let mut foresight = Foresight::new(&self.tree);
            for batch in self.tail.batches() {
                for (_, entry) in batch.iter() {
                    foresight.foresee(&self.tree, entry);
                }
            }
            self.foresight = Some(Box::new(foresight));
        }
    }

    /// A batch as it goes to the log: each transaction with its digest, if that is wanted.
    pub(super) fn stated(&mut self, batch: Arc<Batch>) -> Arc<Batch> {
        // Nobody wants digests with the transactions.
        let Some(foresight) = &mut self.foresight else { return batch };
        foresight.forget(&self.tree, self.tail.applied());
        let mut stated = Batch::new();
        for (zxid, entry) in batch.iter() {
            stated.entry().extend_from_slice(entry);
            if let Some(digest) = foresight.foresee(&self.tree, entry) {
                digest.encode_into(stated.entry());
            }
            stated.finish_entry(zxid);
        }
        stated.set_committed(batch.committed());
        if let Some(leader) = &mut self.leader {
            leader.give_back(batch);
        }
        Arc::new(stated)
    }

    /// The committed state that requests are judged by, and the leader that judges.
    #[inline(always)]
    pub(super) fn judge(&mut self) -> (&mut Leader, View<'_>) {
        (leading(&mut self.leader), View { tree: &self.tree, auth: &self.auth })
    }

    /// Notes a transaction that was just proposed, and that its client waits for it.
    #[inline(always)]
    pub(super) fn proposed(
        &mut self,
        now: Now,
        proposed: Proposed,
        origin: Origin,
        xid: Xid,
        op: OpCode,
    ) {
        let Proposed { zxid, len, .. } = proposed;
        if let Some(client) = origin.conn().and_then(|conn| self.clients.get_mut(conn)) {
            client.writes_prepared += 1;
            client.in_flight_bytes += len;
        }
        // A batch is smaller than 4 GiB.
        let len = len as u32;
        self.tail.push(Entry { zxid, origin, xid, op, len, cost: 0, received: now.mono });
    }
}
