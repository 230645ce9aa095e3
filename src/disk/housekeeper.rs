//! The background thread for everything on disk that no request waits for: segments ahead of
//! need, snapshot files, purge, directory sizes.
//!
//! Segment work goes before snapshot pieces, so that the log never runs out of segments because
//! a snapshot is being written. A snapshot that cannot be written is abandoned and reported; the
//! server goes on. Counterparts: the snapshot thread of `SyncRequestProcessor`,
//! `DatadirCleanupManager`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};

use crate::base::Zxid;
use crate::log::{
    Compression, LogChange, LogDone, LogTicket, PurgePolicy, RangeCommand, SegmentHeader,
};
use crate::sys::cpu;

use super::commands::{ChangeChannels, Changed, Leases, Planned, plan_change};
use super::datadir::DataDir;
use super::epoch_writer::{EpochOrder, EpochWriter};
use super::files::LogFiles;
use super::presence::Absence;
use super::purge::{Purged, plan};
use super::segments::{Making, SegmentKind, Spare};
use super::snapfile::SnapshotFile;
use super::spare_pool::{Prepared, SegmentChannels};
use super::steps::Step;

/// Settings of the housekeeper.
#[derive(Clone, Copy, Debug, Default)]
pub struct HousekeeperOptions {
    /// `snapshot.compression.method`
    pub compression: Compression,
}

/// What the housekeeper has to say; collect after each wake.
#[derive(Debug)]
pub enum Report {
    /// The snapshot is complete and durable under its name.
    SnapshotDone {
        /// Position of the snapshot.
        zxid: Zxid,
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The snapshot was abandoned; older ones and the log still hold everything, unless something
    /// is absent.
    SnapshotFailed {
        /// Position of the snapshot.
        zxid: Zxid,
        /// The temporary file, removed.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
        /// What is open and has lost its name.
        absence: Option<Absence>,
    },
    /// What another member sent is complete and durable beside the snapshots, where a start does
    /// not look at it.
    Received {
        /// As given to [`Housekeeper::reception_begin`].
        stream: u64,
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// What another member sent could not be written.
    ReceiveFailed {
        /// As given to [`Housekeeper::reception_begin`].
        stream: u64,
        /// The file, removed.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// A purge is done.
    Purged(Purged),
    /// A purge failed half-way.
    PurgeFailed(io::Error),
    /// Sizes in bytes of the two `version-2` directories.
    DirSizes {
        /// Snapshots and epoch files.
        snap_bytes: u64,
        /// Logs, spare segments included.
        log_bytes: u64,
    },
    /// The snapshot under way was given up: the log was taken back, or another snapshot takes its
    /// place.
    SnapshotDropped(Zxid),
    /// What was asked about a range of the log has come to this.
    LogDone(LogTicket, LogDone),
    /// No segment could be prepared; the log will try itself when it needs one.
    SegmentFailed(io::Error),
}

/// Where the reports come out.
pub type Reports = Receiver<Report>;

#[derive(Debug)]
pub(super) enum Urgent {
    /// Have one segment of this kind ready.
    Prepare(SegmentKind),
    /// Unused files of an earlier run.
    Adopt(Vec<PathBuf>),
    /// Make a segment's name durable.
    SyncLogDir,
    /// Change the log, of which nothing is being written.
    Change(LogTicket, LogChange),
    /// Lease or read a range of the log.
    Range(LogTicket, RangeCommand),
}

enum Job {
    SnapshotBegin(Zxid),
    SnapshotChunk(Vec<u8>),
    SnapshotFinish,
    SnapshotAbandon,
    ReceptionBegin(u64, Zxid),
    ReceptionChunk(Vec<u8>),
    ReceptionFinish,
    ReceptionAbandon,
    Purge(PurgePolicy),
    DirSizes,
}

/// Called after each report.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// Handle of the background work. Dropping it lets the threads finish what is queued, then end.
pub struct Housekeeper<F: LogFiles = DataDir> {
    urgent: Option<Sender<Urgent>>,
    epochs: Option<Sender<EpochOrder>>,
    /// Dropped to end the thread that writes epochs.
    epochs_end: Option<Sender<()>>,
    jobs: Option<Sender<Job>>,
    prepared: Receiver<Prepared<F>>,
    changed: Receiver<Changed>,
    backlog: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Housekeeper {
    /// Starts the threads. `wake` is called on one of them after each report.
    pub fn start(
        dir: Arc<DataDir>,
        options: HousekeeperOptions,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<(Housekeeper, Reports)> {
        let (mut house, mut chores, reports) = Housekeeper::without_thread(dir, options, wake);
        if let Some(epochs) = chores.epochs.take() {
            let thread = Builder::new().name("epochs".into()).spawn(move || epochs.run())?;
            house.threads.push(thread);
        }
        let work = move || {
            cpu::give_way();
            chores.run();
        };
        let thread = Builder::new().name("housekeeper".into()).spawn(work)?;
        house.threads.push(thread);
        Ok((house, reports))
    }
}

impl<F: LogFiles> Housekeeper<F> {
    /// The handle, and the work for somebody else to perform. `wake` is called after each report.
    pub fn without_thread(
        files: Arc<F>,
        options: HousekeeperOptions,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> (Housekeeper<F>, Chores<F>, Reports) {
        let wake: Wake = Arc::new(wake);
        let (urgent, urgent_in) = unbounded();
        let (epochs, epochs_in) = unbounded();
        let (jobs, jobs_in) = unbounded();
        let (prepared_out, prepared) = unbounded();
        let (changed_out, changed) = unbounded();
        let (reports_out, reports) = unbounded();
        let backlog = Arc::new(AtomicUsize::new(0));
        let (epochs_end, end) = unbounded();
        let (epoch_changed, epoch_wake) = (changed_out.clone(), Arc::clone(&wake));
        let epoch_writer =
            EpochWriter::new(Arc::clone(&files), epochs_in, end, epoch_changed, epoch_wake);
        let chores = Chores {
            files,
            epochs: Some(epoch_writer),
            options,
            urgent: urgent_in,
            jobs: jobs_in,
            prepared: prepared_out,
            changed: changed_out,
            leases: Leases::default(),
            reports: reports_out,
            wake,
            backlog: Arc::clone(&backlog),
            acts: VecDeque::new(),
            hand: None,
            scope: FailureScope::Purge,
            reusable: Vec::new(),
            segments: SegmentKind::default(),
            snapshot: None,
            reception: None,
            received: None,
        };
        let (urgent, epochs, jobs) = (Some(urgent), Some(epochs), Some(jobs));
        let house = Housekeeper {
            urgent,
            epochs,
            epochs_end: Some(epochs_end),
            jobs,
            prepared,
            changed,
            backlog,
            threads: Vec::new(),
        };
        (house, chores, reports)
    }

    /// Begins the snapshot at `zxid`; one still unfinished is abandoned.
    pub fn snapshot_begin(&self, zxid: Zxid) {
        self.send(Job::SnapshotBegin(zxid));
    }

    /// The next piece of the uncompressed snapshot. Pieces queue in memory: pause while
    /// [`Housekeeper::snapshot_backlog`] is large.
    pub fn snapshot_chunk(&self, chunk: Vec<u8>) {
        self.backlog.fetch_add(chunk.len(), Ordering::Relaxed);
        self.send(Job::SnapshotChunk(chunk));
    }

    /// All pieces are there: sync, rename, report.
    pub fn snapshot_finish(&self) {
        self.send(Job::SnapshotFinish);
    }

    /// Gives up the snapshot that was begun, without a report.
    pub fn snapshot_abandon(&self) {
        self.send(Job::SnapshotAbandon);
    }

    /// Begins the file of a database, as of `zxid`, that another member sends; one still unfinished
    /// is abandoned. `stream` comes back in the report.
    pub fn reception_begin(&self, stream: u64, zxid: Zxid) {
        self.send(Job::ReceptionBegin(stream, zxid));
    }

    /// The next piece, as in [`Housekeeper::snapshot_chunk`].
    pub fn reception_chunk(&self, chunk: Vec<u8>) {
        self.backlog.fetch_add(chunk.len(), Ordering::Relaxed);
        self.send(Job::ReceptionChunk(chunk));
    }

    /// All pieces are there: sync, report. The file keeps its name.
    pub fn reception_finish(&self) {
        self.send(Job::ReceptionFinish);
    }

    /// Gives up what was begun, or removes it if it is whole; without a report.
    pub fn reception_abandon(&self) {
        self.send(Job::ReceptionAbandon);
    }

    /// Bytes of pieces not written yet.
    pub fn snapshot_backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Removes what the policy does not keep.
    pub fn purge(&self, policy: PurgePolicy) {
        self.send(Job::Purge(policy));
    }

    /// Asks for a [`Report::DirSizes`].
    pub fn dir_sizes(&self) {
        self.send(Job::DirSizes);
    }

    /// Leases or reads a range of the log; a [`Report::LogDone`] follows.
    pub fn range(&self, ticket: LogTicket, command: RangeCommand) {
        // As in `send`.
        let _ = self.urgent().send(Urgent::Range(ticket, command));
    }

    fn urgent(&self) -> Sender<Urgent> {
        match &self.urgent {
            Some(urgent) => urgent.clone(),
            None => unbounded().0,
        }
    }

    pub(super) fn change_channels(&self) -> ChangeChannels {
        let epochs = self.epochs.clone().unwrap_or_else(|| unbounded().0);
        ChangeChannels { urgent: self.urgent(), epochs, changed: self.changed.clone() }
    }

    pub(super) fn segment_channels(&self) -> SegmentChannels<F> {
        let urgent = self.urgent();
        let (prepared, has_thread) = (self.prepared.clone(), !self.threads.is_empty());
        SegmentChannels { urgent, prepared, has_thread }
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives as long as the sender, unless it panicked, which ends the process.
            let _ = jobs.send(job);
        }
    }
}

impl<F: LogFiles> Drop for Housekeeper<F> {
    fn drop(&mut self) {
        (self.urgent, self.epochs, self.jobs) = (None, None, None);
        self.epochs_end = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The housekeeper's work: jobs, each of them a list of operations on files. The thread performs a
/// job from end to end; a simulated event loop, operation by operation.
pub struct Chores<F: LogFiles> {
    files: Arc<F>,
    /// Goes on in between; where there are threads, on one of its own.
    epochs: Option<EpochWriter<F>>,
    options: HousekeeperOptions,
    urgent: Receiver<Urgent>,
    jobs: Receiver<Job>,
    prepared: Sender<Prepared<F>>,
    changed: Sender<Changed>,
    /// Ranges of the log that somebody reads.
    leases: Leases,
    reports: Sender<Report>,
    wake: Wake,
    backlog: Arc<AtomicUsize>,
    /// What is left of the job under way.
    acts: VecDeque<Act>,
    /// The file that the job under way has open.
    hand: Option<F::File>,
    /// What is lost if it fails.
    scope: FailureScope,
    /// Segments free for another life.
    reusable: Vec<PathBuf>,
    segments: SegmentKind,
    snapshot: Option<(Zxid, SnapshotFile<F>)>,
    reception: Option<(u64, SnapshotFile<F>)>,
    /// The whole file of a database that was received.
    received: Option<PathBuf>,
}

/// Piece of a job.
enum Act {
    File(Step),
    /// The file at hand is a segment for the log writer.
    Offer(PathBuf, SegmentHeader),
    /// The segment of that name is free for another life.
    Keep(PathBuf),
    Tell(Report),
    /// The log's writer goes on.
    Changed(Changed),
}

/// What is lost when the job under way fails.
enum FailureScope {
    /// A segment ahead of need, and this file of it.
    Segment(Option<PathBuf>),
    /// The durable names of segments.
    Names,
    /// The snapshot under this name.
    Snapshot(Zxid, PathBuf),
    /// What was received in this stream, and its file.
    Received(u64, PathBuf),
    /// What a start is to find.
    Log(LogTicket),
    Purge,
}

/// Old segments kept for reuse; more are removed.
const REUSABLE_MAX: usize = 2;

impl<F: LogFiles> Chores<F> {
    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        let has_epochs = self.epochs.as_ref().is_some_and(|epochs| !epochs.is_idle());
        self.acts.is_empty() && self.urgent.is_empty() && self.jobs.is_empty() && !has_epochs
    }

    /// Performs one operation of the job under way or begins the next one.
    pub fn turn(&mut self) {
        if let Some(epochs) = self.epochs.as_mut().filter(|epochs| !epochs.is_idle()) {
            epochs.turn();
        } else if let Some(act) = self.acts.pop_front() {
            self.act(act);
        } else if let Ok(message) = self.urgent.try_recv() {
            self.urgent(message);
        } else if let Ok(job) = self.jobs.try_recv() {
            self.job(job);
        }
    }

    fn run(mut self) {
        loop {
            select_biased! {
                recv(self.urgent) -> message => match message {
                    Ok(message) => self.urgent(message),
                    // The log writer has its own sender, so both ends are gone.
                    Err(_) => break,
                },
                recv(self.jobs) -> job => match job {
                    Ok(job) => self.job(job),
                    Err(_) => break,
                },
            }
            self.complete();
        }
        // What was queued before the handle was dropped is still done.
        while let Ok(job) = self.jobs.try_recv() {
            self.job(job);
            self.complete();
        }
        let unfinished = self.snapshot.take().map(|(_, file)| file);
        for file in unfinished.into_iter().chain(self.reception.take().map(|(_, file)| file)) {
            file.abandon();
        }
    }

    fn complete(&mut self) {
        while let Some(act) = self.acts.pop_front() {
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::File(step) => {
                let is_rename = matches!(step, Step::Rename(..));
                if let Err(error) = step.perform(&*self.files, &mut self.hand) {
                    let is_gone = is_rename && error.kind() == io::ErrorKind::NotFound;
                    if is_gone && matches!(self.scope, FailureScope::Purge) {
                        self.skip_segment();
                    } else {
                        self.acts.clear();
                        self.failed(error);
                    }
                }
            }
            Act::Offer(path, header) => {
                if let Some(file) = self.hand.take() {
                    // Nobody wants it any more during shutdown.
                    let _ = self.prepared.send(Prepared::Ready(Spare { path, file, header }));
                }
            }
            Act::Keep(path) => self.reusable.push(path),
            Act::Tell(report) => self.report(report),
            Act::Changed(changed) => self.changed(changed),
        }
        if self.acts.is_empty() {
            self.hand = None;
        }
    }

    /// Somebody has removed the segment that a purge was about to keep for another life: it goes on
    /// after it.
    fn skip_segment(&mut self) {
        while let Some(act) = self.acts.pop_front() {
            if matches!(act, Act::Keep(_)) {
                break;
            }
        }
    }

    fn failed(&mut self, error: io::Error) {
        match std::mem::replace(&mut self.scope, FailureScope::Purge) {
            FailureScope::Segment(tmp) => {
                // What it takes up is given back with its last handle.
                self.hand = None;
                if let Some(tmp) = tmp {
                    let _ = self.files.remove(&tmp);
                }
                self.prepare_failed(error);
            }
            FailureScope::Names => self.report(Report::SegmentFailed(error)),
            FailureScope::Snapshot(zxid, path) => {
                let _ = self.files.remove(&path);
                self.snapshot_failed(zxid, path, error);
            }
            FailureScope::Received(stream, path) => {
                let _ = self.files.remove(&path);
                self.received = None;
                self.report(Report::ReceiveFailed { stream, path, error });
            }
            FailureScope::Log(ticket) => self.changed(Changed { ticket, outcome: Err(error) }),
            FailureScope::Purge => self.report(Report::PurgeFailed(error)),
        }
    }

    fn changed(&self, changed: Changed) {
        // Nobody listens any more during shutdown.
        let _ = self.changed.send(changed);
        (self.wake)();
    }

    /// Begins a change of the log, or refuses it.
    fn change(&mut self, ticket: LogTicket, change: LogChange) -> io::Result<()> {
        let Planned { steps, done, end } = plan_change(&*self.files, change)?;
        if let LogDone::Changed(change) = done {
            self.leases.changed(change);
            if matches!(change, LogChange::Retire { .. }) {
                // It becomes the database: nobody gives it up any more.
                self.received = None;
            }
        }
        // The snapshot may hold transactions that are taken back.
        if end.is_some()
            && let Some((zxid, file)) = self.snapshot.take()
        {
            file.abandon();
            self.report(Report::SnapshotDropped(zxid));
        }
        self.scope = FailureScope::Log(ticket);
        self.acts.extend(steps.into_iter().map(Act::File));
        self.acts.push_back(Act::Changed(Changed { ticket, outcome: Ok((done, end)) }));
        Ok(())
    }

    fn prepare_failed(&self, error: io::Error) {
        self.report(Report::SegmentFailed(error));
        let _ = self.prepared.send(Prepared::Failed);
    }

    fn snapshot_failed(&self, zxid: Zxid, path: PathBuf, error: io::Error) {
        let absence = self.files.absence();
        self.report(Report::SnapshotFailed { zxid, path, error, absence });
    }

    fn report(&self, report: Report) {
        // Nobody listens any more during shutdown.
        let _ = self.reports.send(report);
        (self.wake)();
    }

    fn urgent(&mut self, message: Urgent) {
        match message {
            Urgent::Prepare(kind) => {
                self.segments = kind;
                if let Err(error) = self.prepare(kind) {
                    self.prepare_failed(error);
                }
            }
            Urgent::Adopt(files) => self.reusable.extend(files),
            Urgent::SyncLogDir => {
                self.scope = FailureScope::Names;
                self.acts.push_back(Act::File(Step::SyncDir(self.files.log_dir().to_owned())));
            }
            Urgent::Change(ticket, change) => {
                if let Err(error) = self.change(ticket, change) {
                    self.changed(Changed { ticket, outcome: Err(error) });
                }
            }
            Urgent::Range(ticket, command) => {
                let done = self.leases.command(&*self.files, ticket, command);
                self.report(Report::LogDone(ticket, done));
            }
        }
    }

    fn prepare(&mut self, kind: SegmentKind) -> io::Result<()> {
        let mut again = None;
        while let Some(old) = self.reusable.pop() {
            if self.files.size(&old).is_ok_and(|size| size == kind.size) {
                again = Some(Making::again(&*self.files, &old, kind.direct_io)?);
                break;
            }
            let _ = self.files.remove(&old);
        }
        let making = match again {
            Some(making) => {
                self.scope = FailureScope::Segment(None);
                making
            }
            None => {
                let making = Making::fresh(&*self.files, kind, true)?;
                self.scope = FailureScope::Segment(Some(making.tmp.clone()));
                making
            }
        };
        self.acts.extend(making.steps.into_iter().map(Act::File));
        self.acts.push_back(Act::Offer(making.path, making.header));
        Ok(())
    }

    /// A piece is written, which its maker may wait for.
    fn took(&self, bytes: usize) {
        self.backlog.fetch_sub(bytes, Ordering::Relaxed);
        (self.wake)();
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::SnapshotBegin(zxid) => self.snapshot_begin(zxid),
            Job::SnapshotChunk(chunk) => {
                self.snapshot_chunk(&chunk);
                self.took(chunk.len());
            }
            Job::SnapshotFinish => self.snapshot_finish(),
            Job::SnapshotAbandon => {
                if let Some((_, file)) = self.snapshot.take() {
                    file.abandon();
                }
            }
            Job::ReceptionBegin(stream, zxid) => self.reception_begin(stream, zxid),
            Job::ReceptionChunk(chunk) => {
                self.reception_chunk(&chunk);
                self.took(chunk.len());
            }
            Job::ReceptionFinish => self.reception_finish(),
            Job::ReceptionAbandon => self.reception_abandon(),
            Job::Purge(policy) => {
                if let Err(e) = self.purge(policy) {
                    self.report(Report::PurgeFailed(e));
                }
            }
            Job::DirSizes => {
                let snap_bytes = dir_size(&*self.files, self.files.snap_dir()).unwrap_or(0);
                let log_bytes = dir_size(&*self.files, self.files.log_dir()).unwrap_or(0);
                self.report(Report::DirSizes { snap_bytes, log_bytes });
            }
        }
    }

    fn snapshot_begin(&mut self, zxid: Zxid) {
        if let Some((_, unfinished)) = self.snapshot.take() {
            unfinished.abandon();
        }
        match SnapshotFile::create(Arc::clone(&self.files), zxid, self.options.compression) {
            Ok(file) => self.snapshot = Some((zxid, file)),
            Err(error) => {
                let path = self.files.snap_dir().to_owned();
                self.snapshot_failed(zxid, path, error);
            }
        }
    }

    fn snapshot_chunk(&mut self, chunk: &[u8]) {
        let Some((zxid, file)) = &mut self.snapshot else { return };
        let zxid = *zxid;
        if let Err(error) = file.push(chunk)
            && let Some((_, file)) = self.snapshot.take()
        {
            let path = file.abandon();
            self.snapshot_failed(zxid, path, error);
        }
    }

    fn snapshot_finish(&mut self) {
        let Some((zxid, file)) = self.snapshot.take() else { return };
        let finish = file.finish();
        self.hand = Some(finish.file);
        self.scope = FailureScope::Snapshot(zxid, finish.tmp);
        self.acts.extend(finish.steps.into_iter().map(Act::File));
        let (path, bytes) = (finish.path, finish.bytes);
        self.acts.push_back(Act::Tell(Report::SnapshotDone { zxid, path, bytes }));
    }

    fn reception_begin(&mut self, stream: u64, zxid: Zxid) {
        self.reception_abandon();
        let files = Arc::clone(&self.files);
        match SnapshotFile::create_received(files, zxid, self.options.compression) {
            Ok(file) => self.reception = Some((stream, file)),
            Err(error) => {
                let path = self.files.snap_dir().to_owned();
                self.report(Report::ReceiveFailed { stream, path, error });
            }
        }
    }

    fn reception_chunk(&mut self, chunk: &[u8]) {
        // One that failed was reported.
        let Some((stream, file)) = &mut self.reception else { return };
        let stream = *stream;
        if let Err(error) = file.push(chunk)
            && let Some((_, file)) = self.reception.take()
        {
            let path = file.abandon();
            self.report(Report::ReceiveFailed { stream, path, error });
        }
    }

    fn reception_finish(&mut self) {
        // One that failed was reported.
        let Some((stream, file)) = self.reception.take() else { return };
        let finish = file.finish();
        self.hand = Some(finish.file);
        self.received = Some(finish.path.clone());
        self.scope = FailureScope::Received(stream, finish.tmp);
        self.acts.extend(finish.steps.into_iter().map(Act::File));
        let (path, bytes) = (finish.path, finish.bytes);
        self.acts.push_back(Act::Tell(Report::Received { stream, path, bytes }));
    }

    fn reception_abandon(&mut self) {
        if let Some((_, file)) = self.reception.take() {
            file.abandon();
        }
        if let Some(path) = self.received.take() {
            // If it cannot be removed, nothing reads it: it is not the database.
            let _ = self.files.remove(&path);
        }
    }

    fn purge(&mut self, policy: PurgePolicy) -> io::Result<()> {
        let purged = plan(&*self.files, policy, self.leases.first())?;
        let remove = |path: &PathBuf| Act::File(Step::Remove(path.clone()));
        let mut acts: VecDeque<Act> = purged.removed.iter().map(remove).collect();
        let mut kept = self.reusable.len();
        for path in &purged.segments {
            let right_size = self.files.size(path).is_ok_and(|size| size == self.segments.size);
            if right_size && kept < REUSABLE_MAX {
                kept += 1;
                // Away from its name at once: a second purge must not find it again.
                let making = Making::again(&*self.files, path, None)?;
                acts.extend(making.steps.into_iter().map(Act::File));
                acts.push_back(Act::Keep(making.path));
            } else {
                acts.push_back(remove(path));
            }
        }
        acts.push_back(Act::Tell(Report::Purged(purged)));
        self.scope = FailureScope::Purge;
        self.acts = acts;
        Ok(())
    }
}

/// Lengths of all files, preallocated ones included, as `ZooKeeperServer.getDirSize`.
fn dir_size<F: LogFiles>(files: &F, dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for (_, path) in files.entries(dir)? {
        sum += files.size(&path).unwrap_or(0);
    }
    Ok(sum)
}
