//! The log writer: owns the current segment and turns batches into durable transactions, one
//! write at a time. Counterpart: `FileTxnLog.append/commit` and `SyncRequestProcessor`'s flush.
//!
//! Two ways to drive it: an event loop performs [`PendingWrite`]s asynchronously and hands them
//! back, or [`LogWriter::write_sync`] performs them in line. While one write is in flight the
//! next group gathers in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Mark, Zxid, invariant, mark};
use crate::log::{
    Appender, BLOCK, Batch, LogChange, LogDone, LogTicket, Plan, Recovered, WritePlan,
};

use super::commands::{ChangeChannels, Changed, LogEnd};
use super::datadir::DataDir;
use super::error::FatalLogError;
use super::files::{DURABLE, LogFiles};
use super::guard;
use super::housekeeper::Housekeeper;
use super::listing::repair;
use super::segments::{self, SegmentKind};
use super::spare_pool::SparePool;

/// Settings of the writer.
#[derive(Clone, Copy, Debug)]
pub struct LogWriterOptions {
    /// Size of a segment in bytes (`preAllocSize`).
    pub segment_size: u64,
    /// Largest write in bytes; a larger single transaction still gets its own larger write.
    pub write_size_max: usize,
    /// `forceSync`: false gives up durability for speed.
    pub force_sync: bool,
    /// `ringkeeper.log.directIo`: past the page cache; `None` where the file system can.
    pub direct_io: Option<bool>,
}

impl Default for LogWriterOptions {
    fn default() -> LogWriterOptions {
        LogWriterOptions {
            segment_size: 64 << 20,
            write_size_max: 1 << 20,
            force_sync: true,
            direct_io: None,
        }
    }
}

/// A write to perform: `buf[..len]` to `offset` of `fd` with `rw_flags`, then back to
/// [`LogWriter::finish_write`] with the number of bytes written or the error. The descriptor stays
/// open until then.
#[derive(Debug)]
pub struct PendingWrite<F: LogFiles = DataDir> {
    /// The segment's descriptor.
    pub fd: F::Handle,
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes to write.
    pub len: usize,
    /// Flags for `pwritev2`: [`DURABLE`], or 0 with `forceSync=no`.
    pub rw_flags: i32,
    /// The bytes; the address does not change when this is moved.
    pub buf: F::Buffer,
    /// What it makes durable.
    pub plan: WritePlan,
}

#[derive(Debug)]
struct Current<F: LogFiles> {
    path: PathBuf,
    file: F::File,
}

/// Appends to the log of one data directory.
pub struct LogWriter<F: LogFiles = DataDir> {
    files: Arc<F>,
    options: LogWriterOptions,
    appender: Appender,
    current: Option<Current<F>>,
    staging: Option<F::Buffer>,
    in_flight: bool,
    /// A segment without a record, which the next one takes the place of.
    unused: Option<PathBuf>,
    durable: Zxid,
    /// Transactions made durable so far.
    records: u64,
    spares: SparePool<F>,
    changes: ChangeChannels,
    /// The change under way.
    changing: Option<LogChange>,
}

impl<F: LogFiles> LogWriter<F> {
    /// Completes what recovery found to be necessary (cut the torn tail, remove empty segments),
    /// keeps Apache away (`guard`) and gets ready to append after `recovered`. The first record
    /// opens a new segment.
    pub fn open(
        files: Arc<F>,
        recovered: &Recovered,
        options: LogWriterOptions,
        house: &Housekeeper<F>,
    ) -> Result<LogWriter<F>, FatalLogError> {
        let fatal = |path: &Path, doing, error| FatalLogError {
            path: path.to_owned(),
            doing,
            error,
            durable: recovered.last_zxid,
            is_synced: options.force_sync,
            absence: files.absence().map(Box::new),
        };
        repair(&recovered.repair, &*files).map_err(|(p, e)| fatal(&p, "repair", e))?;
        guard::place(&*files).map_err(|e| fatal(&guard::path(&*files), "guard", e))?;
        let size = options.write_size_max.max(2 * BLOCK).next_multiple_of(BLOCK);
        let dir = files.log_dir();
        let staging = files.buffer(size).map_err(|e| fatal(dir, "buffer", e))?;
        let mut spares = SparePool::new(house.segment_channels());
        spares.adopt(recovered.repair.spares.clone());
        let kind = SegmentKind { size: options.segment_size, direct_io: options.direct_io };
        segments::check_direct(&*files, kind).map_err(|e| fatal(dir, "open", e))?;
        spares.ask(kind);
        // What was recovered had been acknowledged, or is now as good as that.
        let _ = files.may_acknowledge(recovered.last_zxid);
        Ok(LogWriter {
            files,
            options,
            appender: Appender::new(recovered.repair.next_group, recovered.last_zxid),
            current: None,
            staging: Some(staging),
            in_flight: false,
            unused: recovered.repair.unused.clone(),
            durable: recovered.last_zxid,
            records: 0,
            spares,
            changes: house.change_channels(),
            changing: None,
        })
    }

    /// Queues a batch for the next write.
    ///
    /// # Panics
    /// While a change is under way.
    pub fn submit(&mut self, batch: Arc<Batch>) {
        invariant!(
            self.changing.is_none(),
            "what is handed over during a change waits for its end"
        );
        self.appender.submit(batch);
    }

    /// Everything up to here is durable.
    pub fn durable(&self) -> Zxid {
        self.durable
    }

    /// The segment that is being written.
    pub fn segment(&self) -> Option<&Path> {
        self.current.as_ref().map(|current| &*current.path)
    }

    /// Transactions made durable since it was opened.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Entry bytes that are queued until the write in flight has ended.
    pub fn pending_bytes(&self) -> usize {
        self.appender.pending_bytes()
    }

    /// Whether a write is in flight.
    pub fn is_writing(&self) -> bool {
        self.in_flight
    }

    /// Starts a new segment with the next record: a snapshot begins.
    pub fn ask_roll(&mut self) {
        self.appender.ask_roll();
    }

    /// The next write, or `None` while one is in flight or nothing is queued.
    pub fn begin_write(&mut self) -> Result<Option<PendingWrite<F>>, FatalLogError> {
        if self.in_flight {
            return Ok(None);
        }
        loop {
            let Some(mut buf) = self.staging.take() else { return Ok(None) };
            let plan = self.appender.plan(&mut buf);
            match plan {
                Plan::Write(plan) => {
                    let Some(current) = &self.current else {
                        unreachable!("the appender plans writes into a segment it was given")
                    };
                    self.in_flight = true;
                    let rw_flags = if self.options.force_sync { DURABLE } else { 0 };
                    let fd = self.files.handle(&current.file);
                    let (offset, len) = (plan.offset, plan.len);
                    return Ok(Some(PendingWrite { fd, offset, len, rw_flags, buf, plan }));
                }
                Plan::Idle => {
                    self.staging = Some(buf);
                    return Ok(None);
                }
                Plan::Stage { len } => {
                    drop(buf);
                    let larger = self.files.buffer(len);
                    self.staging = Some(larger.map_err(|e| self.fatal("buffer", e))?);
                }
                Plan::Roll { min_size, first_zxid } => {
                    self.staging = Some(buf);
                    self.roll(min_size, first_zxid)?;
                }
            }
        }
    }

    /// Takes a completed write back. `Ok` is the zxid up to which everything is durable now and
    /// may be acknowledged; `Err` ends the process.
    pub fn finish_write(
        &mut self,
        write: PendingWrite<F>,
        result: io::Result<usize>,
    ) -> Result<Zxid, FatalLogError> {
        assert!(self.in_flight, "a write is handed back once");
        use io::ErrorKind::{Interrupted, Unsupported, WouldBlock};
        let done = match result {
            Ok(done) => done,
            // Not begun, or not possible that way: done in line below. Any other error is final.
            Err(e) if matches!(e.kind(), Interrupted | WouldBlock | Unsupported) => 0,
            Err(e) => return Err(self.fatal("write to", e)),
        };
        if done < write.len {
            mark(Mark::ShortLogWrite);
            // Short writes are legal, if rare; the rest goes in line, from a whole block on.
            let from = done - done % BLOCK;
            let rest = &write.buf[from..write.len];
            let Some(current) = &self.current else { unreachable!("a write needs a segment") };
            let offset = write.offset + from as u64;
            self.files
                .write_all(&current.file, rest, offset, write.rw_flags)
                .map_err(|e| self.fatal("write to", e))?;
        }
        self.in_flight = false;
        self.staging = Some(write.buf);
        debug_assert!(write.plan.last_zxid > self.durable);
        if !self.files.may_acknowledge(write.plan.last_zxid) {
            let lost = io::Error::new(io::ErrorKind::NotFound, "its name is gone");
            return Err(self.fatal("go on with", lost));
        }
        self.durable = write.plan.last_zxid;
        self.records += write.plan.records as u64;
        Ok(self.durable)
    }

    /// Performs the next write in line. `None` if nothing was queued.
    pub fn write_sync(&mut self) -> Result<Option<Zxid>, FatalLogError> {
        let Some(write) = self.begin_write()? else { return Ok(None) };
        let Some(current) = &self.current else { unreachable!("a write needs a segment") };
        let bytes = &write.buf[..write.len];
        let result = self.files.write(&current.file, bytes, write.offset, write.rw_flags);
        self.finish_write(write, result).map(Some)
    }

    /// Whether everything that was handed over is durable.
    pub fn is_idle(&self) -> bool {
        !self.in_flight && self.appender.pending_bytes() == 0
    }

    /// Whether a change is under way.
    pub fn is_changing(&self) -> bool {
        self.changing.is_some()
    }

    /// Whether [`LogWriter::finish_change`] has something to take.
    pub fn has_changed(&self) -> bool {
        !self.changes.changed.is_empty()
    }

    /// Has the housekeeper change what a start finds. A crash meanwhile leaves the state before or
    /// the one after it.
    ///
    /// # Panics
    /// Before all that was handed over is durable, and while another change is under way: its
    /// caller has to wait.
    pub fn begin_change(&mut self, ticket: LogTicket, change: LogChange) {
        invariant!(self.is_idle(), "a change comes behind the writes that were before it");
        invariant!(self.changing.is_none(), "one change at a time");
        if !matches!(change, LogChange::WriteEpoch { .. }) {
            // The next record begins a segment of its own, whatever becomes of this one.
            self.files.end_segment();
            self.current = None;
            self.appender.end_segment();
        }
        self.changing = Some(change);
        // If the housekeeper is gone, so is the process.
        self.changes.begin(ticket, change);
    }

    /// What the change that has just ended came to, if one has. From then on the log goes on.
    ///
    /// # Errors
    /// Any error of the files ends the process: a start finds one of the two states, and nobody
    /// knows which.
    pub fn finish_change(&mut self) -> Result<Option<(LogTicket, LogDone)>, FatalLogError> {
        let Ok(Changed { ticket, outcome }) = self.changes.changed.try_recv() else {
            return Ok(None);
        };
        let change = self.changing.take();
        invariant!(change.is_some(), "a change ends that never began");
        let (done, end) = outcome.map_err(|error| {
            let doing = match change {
                Some(LogChange::WriteEpoch { .. }) => "write an epoch file of",
                Some(LogChange::Retire { .. }) => "put a received snapshot in the place of",
                Some(LogChange::Truncate { .. }) | None => "take back transactions of",
            };
            self.fatal(doing, error)
        })?;
        if let Some(LogEnd { last, next_group }) = end {
            // An empty segment may have gone, too.
            self.unused = None;
            self.durable = last;
            self.appender.end_with(last, next_group);
        }
        Ok(Some((ticket, done)))
    }

    fn fatal(&self, doing: &'static str, error: io::Error) -> FatalLogError {
        let path = match &self.current {
            Some(current) => current.path.clone(),
            None => self.files.log_dir().to_owned(),
        };
        FatalLogError {
            path,
            doing,
            error,
            durable: self.durable,
            is_synced: self.options.force_sync,
            absence: self.files.absence().map(Box::new),
        }
    }

    /// Changes to a new segment. Its `wal.` name need not be durable before records in it are
    /// acknowledged: recovery looks into spare segments too.
    fn roll(&mut self, min_size: u64, first_zxid: Zxid) -> Result<(), FatalLogError> {
        let kind =
            SegmentKind { size: self.options.segment_size, direct_io: self.options.direct_io };
        let path = self.files.log_dir().join(format!("wal.{first_zxid}"));
        let is_unused = self.unused.take().is_some_and(|unused| unused == path);
        if !is_unused && self.files.exists(&path) {
            let exists = io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is there already and may hold transactions", path.display()),
            );
            return Err(self.fatal("name a segment of", exists));
        }
        let files = Arc::clone(&self.files);
        let spare = self
            .spares
            .take(&*files, kind, min_size, |spare| files.rename(&spare.path, &path))
            .and_then(|spare| files.begin_segment(&path, &spare.file, first_zxid).map(|()| spare))
            .map_err(|e| self.fatal("extend", e))?;
        self.appender.roll(&spare.header);
        self.current = Some(Current { path, file: spare.file });
        self.spares.sync_names();
        self.spares.ask(kind);
        Ok(())
    }
}
