//! Writes epoch files beside everything else that happens on the disk: an election waits for
//! them, and must wait neither for a snapshot that is being synced nor for a segment that is being
//! filled.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, select_biased};

use crate::base::Epoch;
use crate::log::{EpochFile, LogChange, LogDone, LogTicket};

use super::commands::Changed;
use super::epochs;
use super::files::LogFiles;
use super::housekeeper::Wake;
use super::steps::Step;

/// An epoch that is to be durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpochOrder {
    pub ticket: LogTicket,
    pub file: EpochFile,
    pub epoch: Epoch,
}

/// The work: a thread performs an order from end to end; a simulated event loop, step by step.
pub(super) struct EpochWriter<F: LogFiles> {
    files: Arc<F>,
    orders: Receiver<EpochOrder>,
    /// Disconnected when the housekeeper's handle is dropped. The log writer, which lives longer,
    /// has a sender of orders of its own.
    end: Receiver<()>,
    changed: Sender<Changed>,
    wake: Wake,
    current: Option<EpochOrder>,
    /// What is left of it.
    steps: VecDeque<Step>,
    hand: Option<F::File>,
}

impl<F: LogFiles> EpochWriter<F> {
    pub fn new(
        files: Arc<F>,
        orders: Receiver<EpochOrder>,
        end: Receiver<()>,
        changed: Sender<Changed>,
        wake: Wake,
    ) -> EpochWriter<F> {
        let (current, steps, hand) = (None, VecDeque::new(), None);
        EpochWriter { files, orders, end, changed, wake, current, steps, hand }
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.orders.is_empty()
    }

    /// Performs one operation of the order under way, or begins the next one.
    pub fn turn(&mut self) {
        match self.current {
            Some(order) => self.go_on(order),
            None => {
                if let Ok(order) = self.orders.try_recv() {
                    self.begin(order);
                }
            }
        }
    }

    /// Until the housekeeper's handle is dropped, and what was ordered before is done.
    pub fn run(mut self) {
        loop {
            let order = select_biased! {
                recv(self.orders) -> order => order.ok(),
                recv(self.end) -> _ => None,
            };
            let Some(order) = order else { break };
            self.begin(order);
            while let Some(order) = self.current {
                self.go_on(order);
            }
        }
    }

    fn begin(&mut self, order: EpochOrder) {
        self.steps = epochs::write(&*self.files, order.file, order.epoch).into();
        self.current = Some(order);
    }

    fn go_on(&mut self, order: EpochOrder) {
        let result = match self.steps.pop_front() {
            Some(step) => step.perform(&*self.files, &mut self.hand),
            None => Ok(()),
        };
        if result.is_err() || self.steps.is_empty() {
            self.end(order, result);
        }
    }

    fn end(&mut self, order: EpochOrder, result: std::io::Result<()>) {
        let EpochOrder { ticket, file, epoch } = order;
        (self.current, self.hand) = (None, None);
        self.steps.clear();
        let done = LogDone::Changed(LogChange::WriteEpoch { file, epoch });
        // Nobody listens any more during shutdown.
        let _ = self.changed.send(Changed { ticket, outcome: result.map(|()| (done, None)) });
        (self.wake)();
    }
}
