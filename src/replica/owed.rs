//! Events of one transaction for very many connections: those that do not fit its turn are kept
//! and sent in later ones, because the kernel takes microseconds for each.
//!
//! Invariant: before anything else is sent to a connection, it gets the events that it is owed
//! ([`Owed::pay`]); so an event stays before the reply of its transaction and before whatever
//! shows its effect.

use std::collections::VecDeque;

use crate::base::{ConnId, FixedMap, Mark, invariant, mark};

use super::core::Replica;
use super::effects::Effects;
use super::fair::SEND_COST;

/// While more bytes of events are owed nothing is applied, which could make still more.
const BYTES_MAX: usize = 256 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Whole frames.
    events: FixedMap<ConnId, Vec<u8>>,
    /// Whom to pay next. Connections that have got everything may stand here, too.
    order: VecDeque<ConnId>,
    bytes: usize,
}

impl Owed {
    /// Whether nobody is owed anything.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether so much is owed that no more may come.
    pub fn is_much(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Bytes that are owed to all.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the connection is owed something.
    #[inline]
    pub fn has(&self, conn: ConnId) -> bool {
        !self.events.is_empty() && self.events.contains_key(&conn)
    }

    /// Adds an event, which `write` encodes; returns its bytes.
    pub fn add(&mut self, conn: ConnId, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let events = self.events.entry(conn).or_insert_with(|| {
            self.order.push_back(conn);
            Vec::new()
        });
        let before = events.len();
        write(events);
        let added = events.len() - before;
        self.bytes += added;
        added
    }

    /// Sends the connection what it is owed.
    #[inline]
    pub fn pay(&mut self, conn: ConnId, effects: &mut Effects) {
        if !self.events.is_empty() {
            self.pay_some(conn, effects);
        }
    }

    /// Returns whether anything was owed.
    fn pay_some(&mut self, conn: ConnId, effects: &mut Effects) -> bool {
        // Others are owed something, this one is not.
        let Some(events) = self.take(conn) else { return false };
        effects.send(conn, |out| out.extend_from_slice(&events));
        true
    }

    fn take(&mut self, conn: ConnId) -> Option<Vec<u8>> {
        let events = self.events.remove(&conn)?;
        self.bytes -= events.len();
        if self.events.is_empty() {
            invariant!(self.bytes == 0, "{} bytes are owed to nobody", self.bytes);
            self.order.clear();
        }
        Some(events)
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        self.take(conn);
    }
}

impl Replica {
    /// Sends events that are owed, a part of the turn long.
    pub(super) fn pay_owed(&mut self, effects: &mut Effects) {
        let stop_at = self.fair.spent + self.fair.part();
        while self.fair.spent < stop_at
            && let Some(conn) = self.owed.order.pop_front()
        {
            if self.owed.pay_some(conn, effects) {
                mark(Mark::EventsOwed);
                self.fair.spent += SEND_COST;
            }
        }
    }
}
