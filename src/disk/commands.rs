//! What the log is asked for besides appending, on the housekeeper's side: changes as lists of
//! operations, and ranges that are leased and read.
//!
//! Epochs are written by [`super::epoch_writer`]. All else is the housekeeper's work, one after
//! the other with its other jobs. So no purge runs during a truncation, nothing that is leased
//! is purged or used again, and none of it holds up a loop. The log writer has nothing under
//! way during a change ([`super::LogWriter::begin_change`]).

use std::io;
use std::path::Path;

use crossbeam_channel::{Receiver, Sender};

use crate::base::{Zxid, invariant};
use crate::log::{
    FileName, LogChange, LogDone, LogRefusal, LogTicket, RangeCommand, RangeError, RangeReader,
    RecoverError, plan_retirement, plan_truncation,
};

use super::epoch_writer::EpochOrder;
use super::epochs;
use super::files::LogFiles;
use super::housekeeper::Urgent;
use super::retire;
use super::steps::Step;
use super::truncate;

/// Where the log goes on after a change of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogEnd {
    /// Its last transaction.
    pub last: Zxid,
    /// Number of the next group commit, if that is to be another one than it was.
    pub next_group: Option<u64>,
}

/// A change that is carried out or refused; an error ends the process.
#[derive(Debug)]
pub(super) struct Changed {
    pub ticket: LogTicket,
    pub outcome: io::Result<(LogDone, Option<LogEnd>)>,
}

/// The log writer's ends of the channels to the housekeeper.
pub(super) struct ChangeChannels {
    pub urgent: Sender<Urgent>,
    pub epochs: Sender<EpochOrder>,
    pub changed: Receiver<Changed>,
}

impl ChangeChannels {
    /// Has a change carried out.
    pub fn begin(&self, ticket: LogTicket, change: LogChange) {
        // The threads live as long as the senders, unless they panicked, which ends the process.
        let _ = match change {
            LogChange::WriteEpoch { file, epoch } => {
                self.epochs.send(EpochOrder { ticket, file, epoch }).is_ok()
            }
            LogChange::Truncate { .. } | LogChange::Retire { .. } => {
                self.urgent.send(Urgent::Change(ticket, change)).is_ok()
            }
        };
    }
}

/// How to carry out a change.
pub(super) struct Planned {
    pub steps: Vec<Step>,
    pub done: LogDone,
    pub end: Option<LogEnd>,
}

impl Planned {
    fn refused(change: LogChange, why: LogRefusal) -> Planned {
        Planned { steps: Vec::new(), done: LogDone::Refused(change, why), end: None }
    }
}

/// Plans a change. Nothing but its steps changes anything.
pub(super) fn plan_change<F: LogFiles>(files: &F, change: LogChange) -> io::Result<Planned> {
    match change {
        LogChange::Truncate { keep } => plan_truncate(files, keep),
        LogChange::Retire { snapshot } => plan_retire(files, snapshot),
        LogChange::WriteEpoch { file, epoch } => Ok(Planned {
            steps: epochs::write(files, file, epoch),
            done: LogDone::Changed(change),
            end: None,
        }),
    }
}

fn plan_truncate<F: LogFiles>(files: &F, keep: Zxid) -> io::Result<Planned> {
    let change = LogChange::Truncate { keep };
    let refused = |why| Ok(Planned::refused(change, why));
    let snapshots = files.entries(files.snap_dir())?.into_iter();
    let snapshots: Vec<Zxid> = snapshots.filter_map(|(kind, _)| snapshot_of(kind)).collect();
    if let Some(beyond) = snapshots.iter().max().filter(|newest| **newest > keep) {
        return refused(LogRefusal::SnapshotBeyond(*beyond));
    }
    let truncation = plan_truncation(files, keep).map_err(damage)?;
    let is_there = truncation.last == Some(keep) || snapshots.contains(&keep) || keep == Zxid::ZERO;
    if !is_there {
        return refused(LogRefusal::NotThere);
    }
    let mut steps = truncate::decide(files, keep);
    steps.extend(truncate::complete(files, &truncation));
    let end = Some(LogEnd { last: keep, next_group: truncation.next_group });
    Ok(Planned { steps, done: LogDone::Changed(change), end })
}

/// Only a member's log is changed so, and its leader has what is lost here.
fn damage(error: RecoverError) -> io::Error {
    io::Error::other(error.for_member())
}

fn snapshot_of(kind: FileName) -> Option<Zxid> {
    match kind {
        FileName::Snapshot(zxid) => Some(zxid),
        _ => None,
    }
}

fn plan_retire<F: LogFiles>(files: &F, snapshot: Zxid) -> io::Result<Planned> {
    let change = LogChange::Retire { snapshot };
    let plan = plan_retirement(files, snapshot).map_err(damage)?;
    let Some(retirement) = plan.filter(|plan| plan.rename.is_some()) else {
        return Ok(Planned::refused(change, LogRefusal::NothingReceived));
    };
    let mut steps = retire::decide(files, snapshot);
    steps.extend(retire::complete(files, &retirement));
    let end = Some(LogEnd { last: snapshot, next_group: None });
    Ok(Planned { steps, done: LogDone::Changed(change), end })
}

/// The ranges that are leased.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Vec<(LogTicket, RangeReader)>,
    /// Leases that a change has ended before their readers knew.
    ended: Vec<LogTicket>,
}

impl Leases {
    /// The first transaction that somebody still has to read.
    pub fn first(&self) -> Option<Zxid> {
        self.held.iter().map(|(_, reader)| reader.rest().0).min()
    }

    /// A change has been decided: what it takes away cannot be read any more. A truncation does not
    /// wait for readers: it takes back what nobody may have got.
    pub fn changed(&mut self, change: LogChange) {
        let stays = |last: Zxid| match change {
            LogChange::Truncate { keep } => last <= keep,
            LogChange::Retire { .. } => false,
            LogChange::WriteEpoch { .. } => true,
        };
        let Leases { held, ended } = self;
        held.retain_mut(|(lease, reader)| {
            let stays = stays(reader.rest().1);
            reader.reopen();
            if !stays {
                ended.push(*lease);
            }
            stays
        });
    }

    /// Carries out a command about a range.
    pub fn command<F: LogFiles>(
        &mut self,
        files: &F,
        ticket: LogTicket,
        command: RangeCommand,
    ) -> LogDone {
        match command {
            RangeCommand::Lease { from, to } => {
                let reader = RangeReader::new(from, to);
                match reader.check_begin(files) {
                    Ok(()) => {
                        self.held.push((ticket, reader));
                        LogDone::Leased
                    }
                    Err(why) => LogDone::Unavailable(why),
                }
            }
            RangeCommand::Read { lease, bytes_max } => self.read(files, lease, bytes_max),
            RangeCommand::Release { lease } => {
                let Leases { held, ended } = self;
                // It may be one that was refused, or whose reading has failed, and nobody has heard
                // of that yet.
                held.retain(|(held, _)| *held != lease);
                ended.retain(|ended| *ended != lease);
                LogDone::Released
            }
        }
    }

    fn read<F: LogFiles>(&mut self, files: &F, lease: LogTicket, bytes_max: usize) -> LogDone {
        let Leases { held, ended } = self;
        let Some(at) = held.iter().position(|(held, _)| *held == lease) else {
            invariant!(ended.contains(&lease), "what is read is leased");
            ended.retain(|ended| *ended != lease);
            return LogDone::Unavailable(RangeError::TakenBack);
        };
        let read_at = |path: &Path, offset: u64, len: usize| {
            files.read_at(path, offset, len).map_err(|error| error.to_string())
        };
        match held[at].1.read(files, &read_at, bytes_max) {
            Ok((batch, is_last)) => LogDone::Read { batch: batch.into(), is_last },
            Err(why) => {
                held.remove(at);
                LogDone::Unavailable(why)
            }
        }
    }
}
