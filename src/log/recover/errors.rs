//! The errors of a recovery, with what an operator can do.

use std::convert::Infallible;
use std::path::Path;

use crate::base::Zxid;
use crate::log::{Damage, DataFiles, RecoverError, RecoverErrorKind as Kind, ScanStop};

use super::find::{BadSnapshot, LogFile};

pub(super) fn advice_restore() -> String {
    "Restore the version-2 directories from a backup. Emptying them would lose everything: nobody \
     else has the data of a standalone server"
        .into()
}

impl RecoverError {
    /// With advice to a member of an ensemble, whose leader has what is lost here.
    #[must_use]
    pub fn for_member(self) -> RecoverError {
        let advice = member_advice(self.kind).map_or(self.advice, str::to_owned);
        RecoverError { advice, ..self }
    }
}

fn member_advice(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::NoSnapshot
        | Kind::BadSnapshots
        | Kind::SnapshotAhead
        | Kind::Damage
        | Kind::Truncated
        | Kind::Gap
        | Kind::Overlap => Some(
            "The other members have everything. Move what is in version-2 away, in dataDir and in \
             dataLogDir, but leave acceptedEpoch and currentEpoch where they are: by them the next \
             start knows that this member had a database. It then has no say in elections before \
             it has got the database of a leader that the others have elected",
        ),
        Kind::Io | Kind::ZxidRange | Kind::Entry | Kind::Epochs => None,
    }
}

pub(in crate::log) fn plain_error(
    kind: Kind,
    path: &Path,
    what: String,
    advice: String,
) -> RecoverError {
    RecoverError {
        kind,
        path: path.to_owned(),
        offset: None,
        before: None,
        after: None,
        what,
        advice,
    }
}

pub(in crate::log) fn io_error(path: &Path, error: &str) -> RecoverError {
    let advice = "Check the disk, the file's owner and its permissions".into();
    plain_error(Kind::Io, path, format!("it cannot be read: {error}"), advice)
}

pub(super) fn no_snapshot(dir: &impl DataFiles) -> RecoverError {
    let what = format!(
        "there are transaction logs in {} but no snapshot here: data would be missing",
        dir.log_dir().display()
    );
    let advice = "Put the snapshots back. Only if there never were any (an upgrade from 3.4 that \
                  never took one), start once with zookeeper.snapshot.trust.empty=true"
        .into();
    plain_error(Kind::NoSnapshot, dir.snap_dir(), what, advice)
}

pub(super) fn bad_snapshots((_, path, why): &BadSnapshot) -> RecoverError {
    let what = format!("no snapshot in this directory can be loaded; the newest: {why}");
    plain_error(Kind::BadSnapshots, path, what, advice_restore())
}

pub(super) fn snapshot_ahead((zxid, path, why): &BadSnapshot, last_zxid: Zxid) -> RecoverError {
    let what = format!(
        "this snapshot is damaged ({why}) and the log ends before it: transactions up to 0x{zxid} \
         would be lost"
    );
    RecoverError {
        before: Some(last_zxid),
        after: Some(*zxid),
        ..plain_error(Kind::SnapshotAhead, path, what, advice_restore())
    }
}

/// After falling back to an older snapshot, an error in the log has two causes.
pub(super) fn explain_fallback(mut e: RecoverError, bad: &[BadSnapshot]) -> RecoverError {
    if let Some((_, path, why)) = bad.first() {
        e.what = format!(
            "{} (this part of the log is needed because the newest snapshot {} is damaged: {why})",
            e.what,
            path.display()
        );
    }
    e
}

/// No transaction is numbered from here on: the last epoch there is, with no other to go on in.
pub(super) const ZXID_LIMIT: Zxid = Zxid(0x7fff_ffff_0000_0000);

fn advice_zxid() -> String {
    format!(
        "zxids from 0x{ZXID_LIMIT} on cannot be continued, and no server gets there by counting: \
         move this file elsewhere if it does not belong to this server's history, or restore the \
         version-2 directories from a backup"
    )
}

pub(super) fn snapshot_beyond(zxid: Zxid, path: &Path) -> RecoverError {
    let what = format!("this snapshot is of transaction 0x{zxid}");
    plain_error(Kind::ZxidRange, path, what, advice_zxid())
}

pub(super) struct EntryTrouble {
    kind: Kind,
    what: String,
    before: Option<Zxid>,
}

impl EntryTrouble {
    pub fn new(kind: Kind, what: String) -> EntryTrouble {
        EntryTrouble { kind, what, before: None }
    }

    pub fn before(mut self, zxid: Zxid) -> EntryTrouble {
        self.before = Some(zxid);
        self
    }
}

/// The same where nobody refuses an entry.
pub(in crate::log) fn stopped_scan(file: &LogFile, stop: ScanStop<Infallible>) -> RecoverError {
    match stop {
        ScanStop::Damage(damage) => stopped(file, ScanStop::Damage(damage)),
        ScanStop::Refused(_, never) => match never {},
    }
}

pub(super) fn stopped(file: &LogFile, stop: ScanStop<EntryTrouble>) -> RecoverError {
    let path = file.path.clone();
    match stop {
        ScanStop::Damage(Damage { offset, what, before, after }) => RecoverError {
            kind: Kind::Damage,
            path,
            offset: Some(offset),
            before,
            after,
            what: format!("the log is damaged, and not just its unfinished end: {what}"),
            advice: advice_restore(),
        },
        ScanStop::Refused(at, trouble) => RecoverError {
            advice: match trouble.kind {
                Kind::Overlap => "The log directory mixes two histories (an old copy, or logs \
                                  written by Apache after a move back). Move the files that do \
                                  not belong to this server's history elsewhere"
                    .into(),
                Kind::Entry => {
                    "It was written by a newer or a different server; start the one that \
                                wrote it, stop it cleanly, and see `Upgrade and rollback` and \
                                `Coming from Apache ZooKeeper` in the README"
                        .into()
                }
                Kind::ZxidRange => advice_zxid(),
                Kind::Io
                | Kind::Truncated
                | Kind::NoSnapshot
                | Kind::BadSnapshots
                | Kind::SnapshotAhead
                | Kind::Damage
                | Kind::Epochs
                | Kind::Gap => advice_restore(),
            },
            kind: trouble.kind,
            path,
            offset: Some(at.offset),
            before: trouble.before,
            after: Some(at.zxid),
            what: trouble.what,
        },
    }
}
