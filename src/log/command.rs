//! What a log is asked for besides appending, and what comes of it.
//!
//! A *change* is carried out when everything that was handed to the log before it is durable, and
//! what is handed over later waits until it is done. So a truncation takes back what it says and
//! nothing else, and an epoch file never promises a history that a power failure can take away.
//! *Ranges* are read beside the writes and wait for none.
//!
//! Who asks gives each command a ticket and gets it back with the outcome, once. A change that
//! fails on the disk has no outcome: the process ends, as it does when a write fails.

use std::sync::Arc;

use crate::base::{Epoch, Zxid};

use super::Batch;
use super::epochs::EpochFile;

/// Tells commands apart; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogTicket(pub u64);

/// Something that is asked of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogCommand {
    /// Change what a start finds.
    Change(LogChange),
    /// Read what is there.
    Range(RangeCommand),
}

/// Something about the transactions of a range, which stay there as long as they are leased.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeCommand {
    /// Keep the transactions of a range until [`RangeCommand::Release`]. Its ticket is the lease.
    Lease {
        /// The first of them.
        from: Zxid,
        /// The last of them, which is durable.
        to: Zxid,
    },
    /// Read on in a leased range, from where the last read of it ended.
    Read {
        /// Ticket of the lease.
        lease: LogTicket,
        /// Bytes of log to look at; at least one transaction is given if there is one.
        bytes_max: usize,
    },
    /// The range is not needed any more.
    Release {
        /// Ticket of the lease.
        lease: LogTicket,
    },
}

/// A change of what a start finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogChange {
    /// The log ends with this transaction; later ones are taken back.
    Truncate {
        /// The last one that stays. It stands in the log, or a snapshot is of it.
        keep: Zxid,
    },
    /// The snapshot that was received becomes the database: it gets its name, and the whole log and
    /// all other snapshots go.
    Retire {
        /// Its position. The file is complete and durable under the name of `received_name`.
        snapshot: Zxid,
    },
    /// An epoch file says this from now on.
    WriteEpoch {
        /// Which.
        file: EpochFile,
        /// What it is to say.
        epoch: Epoch,
    },
}

/// What a command came to.
#[derive(Clone, Debug)]
pub enum LogDone {
    /// It is carried out, durably.
    Changed(LogChange),
    /// It was not begun, and nothing has changed. A learner gets a snapshot instead.
    Refused(LogChange, LogRefusal),
    /// The range is there, and stays.
    Leased,
    /// The range is not there, or not any more. There is nothing to release.
    Unavailable(RangeError),
    /// The next transactions of a leased range.
    Read {
        /// They follow the transactions of the read before, and may be none.
        batch: Arc<Batch>,
        /// They end with the last one of the range.
        is_last: bool,
    },
    /// The lease is over.
    Released,
}

/// Why a change was not begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogRefusal {
    /// The transaction that the log was to end with is neither in it nor the last of a snapshot.
    NotThere,
    /// This snapshot holds transactions that were to be taken back.
    SnapshotBeyond(Zxid),
    /// There is no whole snapshot of the name under which it was to have been received.
    NothingReceived,
}

/// Why a range cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// The log begins after the first transaction, here, or holds nothing at all.
    Purged(Option<Zxid>),
    /// A truncation took some of them back, or a snapshot took the place of the log.
    TakenBack,
    /// The log cannot be read there; the words say where and why.
    Unreadable(String),
}
