//! The log of a loop: its writer, the one write that is under way, and what waits for a change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Instant, Mark, Ration, Zxid, invariant, mark};
use crate::disk::{FatalLogError, LogFiles, LogWriter, PendingWrite};
use crate::log::{Batch, LogChange, LogDone, LogTicket, WritePlan};
use crate::metrics::Measures;

use super::failure::Failure;
use super::port::Io;

/// A write that the system is performing; the port holds its buffer.
struct InFlight<F: LogFiles> {
    fd: F::Handle,
    offset: u64,
    len: usize,
    rw_flags: i32,
    plan: WritePlan,
    began: Instant,
}

/// What is handed to the log.
#[derive(Debug)]
pub enum LogWork {
    /// Make these transactions durable.
    Append(Arc<Batch>),
    /// Change what a start finds, see `log::LogChange`.
    Change(LogTicket, LogChange),
}

/// See the module's introduction.
pub struct LogStage<F: LogFiles> {
    /// Segments and group commit.
    pub writer: LogWriter<F>,
    in_flight: Option<InFlight<F>>,
    /// A change that waits for the writes before it, and all work that came after a change which
    /// waits or is under way.
    waiting: VecDeque<LogWork>,
    /// Writes in line: for a loop that does nothing else.
    pub inline: bool,
    /// A write that takes longer is warned about.
    slow: Duration,
    slow_writes: Ration,
}

impl<F: LogFiles> LogStage<F> {
    /// A log that has written nothing yet; see the fields.
    pub fn new(writer: LogWriter<F>, inline: bool, slow: Duration) -> LogStage<F> {
        let (waiting, slow_writes) = (VecDeque::new(), Ration::default());
        LogStage { writer, in_flight: None, waiting, inline, slow, slow_writes }
    }

    /// Takes on work, in this order.
    pub(super) fn take(&mut self, work: LogWork) {
        match work {
            LogWork::Append(batch) if self.waiting.is_empty() && !self.writer.is_changing() => {
                self.writer.submit(batch);
            }
            work => self.waiting.push_back(work),
        }
    }

    /// Lets what waits go on as far as it may.
    fn go_on(&mut self) {
        while !self.writer.is_changing()
            && let Some(work) = self.waiting.pop_front()
        {
            match work {
                LogWork::Append(batch) => self.writer.submit(batch),
                LogWork::Change(ticket, change) if self.writer.is_idle() => {
                    self.writer.begin_change(ticket, change);
                }
                change @ LogWork::Change(..) => {
                    mark(Mark::ChangeAwaitsWrites);
                    self.waiting.push_front(change);
                    break;
                }
            }
        }
    }

    /// Whether a change has ended that nobody was told about.
    pub(super) fn has_changed(&self) -> bool {
        self.writer.has_changed()
    }

    /// What a change that has ended came to.
    pub(super) fn finish_change(&mut self) -> Result<Option<(LogTicket, LogDone)>, FatalLogError> {
        self.writer.finish_change()
    }

    /// Whether a write is under way.
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The write under way, for a state report.
    pub(super) fn describe_write(&self, now: Instant) -> String {
        if self.writer.is_changing() {
            return format!("a change of it under way, {} more wait for it", self.waiting.len());
        }
        match &self.in_flight {
            None => "no write in flight".to_owned(),
            Some(write) => {
                let (offset, took) = (write.offset, now.since(write.began).as_millis());
                format!("{} bytes at offset {offset} in flight since {took} ms", write.len)
            }
        }
    }

    /// Begins the next write if none is under way and something is queued; returns its last
    /// transaction.
    pub(super) fn begin<I: Io<Files = F>>(
        &mut self,
        now: Instant,
        io: &mut I,
    ) -> Result<Option<Zxid>, Failure> {
        if self.in_flight.is_some() {
            return Ok(None);
        }
        self.go_on();
        // Nothing is queued, or a change of the log comes first.
        let Some(write) = self.writer.begin_write()? else { return Ok(None) };
        let PendingWrite { fd, offset, len, rw_flags, buf, plan } = write;
        io.write_log(fd, buf, len, offset, rw_flags)?;
        self.in_flight = Some(InFlight { fd, offset, len, rw_flags, plan, began: now });
        Ok(Some(plan.last_zxid))
    }

    /// The write under way has ended. Returns how far the log is durable.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        buf: F::Buffer,
        result: std::io::Result<usize>,
        measures: &Measures,
    ) -> Result<Zxid, FatalLogError> {
        let in_flight = self.in_flight.take();
        invariant!(in_flight.is_some(), "a write of the log ends that never began");
        let Some(InFlight { fd, offset, len, rw_flags, plan, began }) = in_flight else {
            unreachable!("just asserted")
        };
        self.took(now, measures, now.since(began), plan.records as u64);
        self.writer.finish_write(PendingWrite { fd, offset, len, rw_flags, buf, plan }, result)
    }

    /// Performs the next write in line; `None` if nothing is queued.
    pub(super) fn write_inline<I: Io<Files = F>>(
        &mut self,
        io: &I,
        measures: &Measures,
    ) -> Result<Option<Zxid>, FatalLogError> {
        self.go_on();
        let (before, began) = (self.writer.records(), io.now());
        // Nothing is queued, or a change of the log comes first.
        let Some(zxid) = self.writer.write_sync()? else { return Ok(None) };
        let now = io.now();
        self.took(now, measures, now.since(began), self.writer.records() - before);
        Ok(Some(zxid))
    }

    /// Notes how long a write of that many transactions took.
    ///
    /// COMPAT(3.x): like Apache's, the threshold is compared with whole milliseconds, so with 0 a
    /// write of a millisecond or more is slow, and one of 0.9 ms is not.
    fn took(&mut self, now: Instant, measures: &Measures, took: Duration, records: u64) {
        measures.log_batch.record(records);
        measures.log_write.record(took.as_micros() as u64);
        if took.as_millis() > self.slow.as_millis()
            && let Some(more) = self.slow_writes.take(now)
        {
            log::warn!(
                "fsync-ing the write ahead log took {} ms, which delays every write: is the disk \
                 of dataLogDir shared, slow or failing? (fsync.warningthresholdms){more}",
                took.as_millis()
            );
        }
    }
}
