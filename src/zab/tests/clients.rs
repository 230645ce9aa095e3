//! Clients of simulated servers.

use std::sync::Arc;

use crate::base::{SessionId, Xid};
use crate::log::Batch;
use crate::wire::quorum::{AuthIds, Forwarded};
use crate::wire::{OpCode, TxnHeader, TxnType, put_i32};

use super::super::LeadInput;
use super::disk::{Entry, Op};
use super::node::{Role, Sync};
use super::world::{Mutation, World, role_name};

impl World {
    /// A client writes through this server.
    pub(super) fn propose(&mut self, at: usize) -> Result<(), String> {
        if !self.nodes[at].serves || self.is_ending {
            return Ok(());
        }
        if matches!(self.nodes[at].role, Role::Learning { .. }) {
            let request = Forwarded {
                session: SessionId(7),
                cxid: Xid(1),
                op: OpCode::SetData as i32,
                body: b"x",
            };
            return self.learn(at, |machine, _, effects| {
                machine.forward(request, AuthIds::NONE, effects);
            });
        }
        let Some(mut zxid) = self.nodes[at].next else { return Ok(()) };
        let mut batch = Batch::new();
        for _ in 0..=self.rng.below(3) {
            zxid = zxid.next();
            let (session, cxid, kind) = (SessionId(1), Xid(self.next_payload), TxnType::Error);
            self.next_payload += 1;
            TxnHeader { session, cxid, zxid, time_ms: 0, kind }.encode_into(batch.entry());
            put_i32(batch.entry(), -101);
            batch.finish_entry(zxid);
        }
        self.nodes[at].next = Some(zxid);
        for (zxid, entry) in batch.iter() {
            if let Some(other) = self.proposed.insert(zxid, entry.to_vec()) {
                return Err(format!("{zxid:?} is proposed twice, first as {other:?}"));
            }
        }
        let batch = Arc::new(batch);
        let entries: Vec<Entry> =
            batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec())).collect();
        self.nodes[at].tail.extend(entries);
        self.lead(at, |machine, now, effects| {
            machine.handle(now, LeadInput::Proposed(Arc::clone(&batch)), effects);
        })?;
        let entries = batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec())).collect();
        self.nodes[at].disk.queue.push_back(Op::Append(entries));
        if self.is_mutated(Mutation::LoggedEarly) {
            self.tell_logged(at, zxid)?;
        }
        Ok(())
    }

    /// The numbers of the epoch come to their end.
    pub(super) fn renew(&mut self, at: usize) -> Result<(), String> {
        let Role::Leading(machine) = &self.nodes[at].role else { return Ok(()) };
        if !machine.can_renew() || self.nodes[at].next.take().is_none() {
            return Ok(());
        }
        self.lead(at, |machine, now, effects| machine.handle(now, LeadInput::Renew, effects))
    }

    /// A client sends `sync` to this server.
    pub(super) fn sync(&mut self, at: usize) -> Result<(), String> {
        if !self.nodes[at].serves {
            return Ok(());
        }
        let (committed_before, ticket) = (self.committed.len(), self.next_ticket);
        self.next_ticket += 1;
        self.nodes[at].syncs.push(Sync { committed_before, ticket });
        if matches!(self.nodes[at].role, Role::Leading(_)) {
            if self.is_mutated(Mutation::UnconfirmedSync) {
                return self.synced(at, Some(ticket));
            }
            return self.lead(at, |machine, now, effects| {
                machine.handle(now, LeadInput::OwnSync(ticket), effects);
            });
        }
        let request =
            Forwarded { session: SessionId(7), cxid: Xid(2), op: OpCode::Sync as i32, body: b"" };
        self.learn(at, |machine, _, effects| {
            machine.forward(request, AuthIds::NONE, effects);
        })
    }

    pub(super) fn synced(&mut self, at: usize, ticket: Option<u64>) -> Result<(), String> {
        self.seen.syncs += 1;
        let node = &mut self.nodes[at];
        if node.syncs.is_empty() {
            return Err("a sync is answered that nobody sent".into());
        }
        let sync = node.syncs.remove(0);
        if ticket.is_some_and(|ticket| ticket != sync.ticket) {
            return Err("syncs are answered out of order".into());
        }
        if node.applied.len() < sync.committed_before {
            let (shown, before) = (node.applied.len(), sync.committed_before);
            let roles: Vec<String> = self
                .nodes
                .iter()
                .map(|node| {
                    format!("{} {:?} {:?}", role_name(&node.role), node.committed, node.last())
                })
                .collect();
            let missing = &self.committed[shown..];
            return Err(format!(
                "after sync {at} shows {shown} transactions, and {before} were committed before it \
                 {roles:#?} {missing:?} {:#?}",
                &self.history[self.history.len().saturating_sub(12)..]
            ));
        }
        Ok(())
    }
}
