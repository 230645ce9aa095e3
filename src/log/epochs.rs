//! The epoch files `acceptedEpoch` and `currentEpoch` beside the snapshots: what they say, and what
//! they have to say once the end of the log is known. Counterpart: `QuorumPeer.loadDataBase`.
//!
//! Of a directory that is in order holds `epoch of the last transaction <= current <= accepted`.
//! For instance, a member that follows the leader of epoch 5, has logged 0x500000007 and promised
//! nothing since, has 5 in both. Apache's standalone server neither reads nor writes the files, and
//! nor does one of ours that finds none.

#![allow(clippy::result_large_err, reason = "a recovery fails once")]

use std::path::{Path, PathBuf};

use crate::base::{Epoch, Mark, Zxid, mark};

use super::files::DataFiles;
use super::recover::{io_error, plain_error};
use super::recover_error::{RecoverError, RecoverErrorKind};

/// One of the two files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EpochFile {
    /// `acceptedEpoch`: the highest epoch that this server has promised to a leader.
    Accepted,
    /// `currentEpoch`: the epoch of the last leader whose history this server has on disk whole.
    Current,
}

impl EpochFile {
    /// Both.
    pub const ALL: [EpochFile; 2] = [EpochFile::Accepted, EpochFile::Current];

    /// Its name, beside the snapshots.
    pub fn name(self) -> &'static str {
        match self {
            EpochFile::Accepted => "acceptedEpoch",
            EpochFile::Current => "currentEpoch",
        }
    }

    /// The name of the next content until it is whole.
    pub fn unfinished_name(self) -> &'static str {
        match self {
            EpochFile::Accepted => "acceptedEpoch.tmp",
            EpochFile::Current => "currentEpoch.tmp",
        }
    }

    /// What stands in it: a decimal number, without an end of line.
    pub fn content(epoch: Epoch) -> Vec<u8> {
        epoch.0.to_string().into_bytes()
    }
}

/// What a server has promised and follows. `current <= accepted`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Epochs {
    /// See [`EpochFile::Accepted`].
    pub accepted: Epoch,
    /// See [`EpochFile::Current`].
    pub current: Epoch,
}

/// Who asks for the epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Party {
    /// A server without others: what its log holds is the history. It keeps files that are there
    /// in order, and makes none.
    #[default]
    Alone,
    /// A member of an ensemble: the files are needed, and only what proves itself is mended.
    Member,
}

/// The outcome of reading the files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EpochsFound {
    /// `None` for a server alone that has neither file.
    pub epochs: Option<Epochs>,
    /// What has to be written before the epochs count, in this order.
    pub write: Vec<(EpochFile, Epoch)>,
}

/// The two files as they are.
struct Files {
    dir: PathBuf,
    accepted: Option<Epoch>,
    current: Option<Epoch>,
    /// A next `currentEpoch` that a crash kept from getting its name.
    unfinished: Option<Epoch>,
}

impl Files {
    fn read(
        dir: &Path,
        read: impl Fn(&Path) -> Result<Option<Vec<u8>>, RecoverError>,
    ) -> Result<Files, RecoverError> {
        let epoch_in = |file: EpochFile| -> Result<Option<Epoch>, RecoverError> {
            let path = dir.join(file.name());
            let Some(content) = read(&path)? else { return Ok(None) };
            parse(&content).map(Some).ok_or_else(|| unreadable(&path))
        };
        // It may have been torn, and then says nothing.
        let unfinished = read(&dir.join(EpochFile::Current.unfinished_name()))?;
        Ok(Files {
            dir: dir.to_owned(),
            accepted: epoch_in(EpochFile::Accepted)?,
            current: epoch_in(EpochFile::Current)?,
            unfinished: unfinished.and_then(|content| parse(&content)),
        })
    }

    fn path(&self, file: EpochFile) -> PathBuf {
        self.dir.join(file.name())
    }

    /// Apache's rules for a member, in its order. `logged` is the epoch of the last transaction.
    fn of_member(&self, logged: Epoch) -> Result<Epochs, RecoverError> {
        let mut current = self.current.unwrap_or(logged);
        if logged > current {
            // A crash between a snapshot of the leader's and the epoch that goes with it.
            mark(Mark::CurrentEpochMended);
            current = match self.unfinished.filter(|unfinished| *unfinished >= logged) {
                Some(unfinished) => unfinished,
                None if self.accepted.is_some_and(|accepted| accepted >= logged) => logged,
                None => return Err(self.too_low(current, logged)),
            };
        }
        let accepted = self.accepted.unwrap_or(logged);
        if accepted < current {
            return Err(self.crossed(accepted, current));
        }
        Ok(Epochs { accepted, current })
    }

    /// A server alone leads itself, also into the epoch after the last number of one.
    fn of_lone(&self, logged: Epoch) -> Result<Option<Epochs>, RecoverError> {
        if self.current.is_none() && self.accepted.is_none() {
            return Ok(None);
        }
        if let (Some(accepted), Some(current)) = (self.accepted, self.current)
            && accepted < current
        {
            return Err(self.crossed(accepted, current));
        }
        let current = self.current.unwrap_or(logged).max(logged);
        let accepted = self.accepted.unwrap_or(current).max(current);
        Ok(Some(Epochs { accepted, current }))
    }

    fn too_low(&self, current: Epoch, logged: Epoch) -> RecoverError {
        let what = format!(
            "it says epoch {}, and the last transaction of this directory is of epoch {}: files \
             of two servers or of two times are mixed here",
            current.0, logged.0
        );
        plain_error(RecoverErrorKind::Epochs, &self.path(EpochFile::Current), what, advice())
    }

    fn crossed(&self, accepted: Epoch, current: Epoch) -> RecoverError {
        let says = if self.accepted.is_some() { "it says" } else { "it is missing, and counts as" };
        let what = format!(
            "{says} epoch {}, and this server follows epoch {} ({}): an epoch is promised before \
             its leader is followed, so one of the two files is from another time",
            accepted.0,
            current.0,
            EpochFile::Current.name()
        );
        plain_error(RecoverErrorKind::Epochs, &self.path(EpochFile::Accepted), what, advice())
    }
}

fn unreadable(path: &Path) -> RecoverError {
    let what = "it does not begin with an epoch, a decimal number from 0 on".to_owned();
    plain_error(RecoverErrorKind::Epochs, path, what, advice())
}

fn advice() -> String {
    "Restore acceptedEpoch and currentEpoch from the backup that the other files are from. For a \
     server that is and stays alone, remove both: it needs neither"
        .into()
}

/// The number in a file: its first line, as Java reads one. `None` if it is none.
///
/// COMPAT(3.5 to 3.9): a server of Apache's whose database is gone, with `db.autocreate=false`,
/// writes -1. It has promised nothing since.
fn parse(content: &[u8]) -> Option<Epoch> {
    let line = content.split(|byte| matches!(byte, b'\n' | b'\r')).next()?;
    let epoch: i32 = str::from_utf8(line).ok()?.parse().ok()?;
    (epoch >= -1).then_some(Epoch(epoch.max(0)))
}

fn judge(files: &Files, last: Zxid, party: Party) -> Result<EpochsFound, RecoverError> {
    let logged = Zxid(last.0.max(0)).epoch();
    let epochs = match party {
        Party::Alone => files.of_lone(logged)?,
        Party::Member => Some(files.of_member(logged)?),
    };
    let Some(Epochs { accepted, current }) = epochs else { return Ok(EpochsFound::default()) };
    // The promise first, so that a crash in between leaves an order that holds.
    let mut write = Vec::new();
    if files.accepted != Some(accepted) {
        write.push((EpochFile::Accepted, accepted));
    }
    if files.current != Some(current) {
        write.push((EpochFile::Current, current));
    }
    Ok(EpochsFound { epochs, write })
}

/// The epochs of a directory of which `last` is the last transaction. Reads only.
pub fn find_epochs(
    dir: &impl DataFiles,
    last: Zxid,
    party: Party,
) -> Result<EpochsFound, RecoverError> {
    let read = |path: &Path| Ok(dir.read(path)?.map(|content| content.to_vec()));
    epochs_in(dir.snap_dir(), read, last, party)
}

/// The same with another way to read a file; `None` says that there is none of that name.
pub fn epochs_in(
    dir: &Path,
    read: impl Fn(&Path) -> Result<Option<Vec<u8>>, String>,
    last: Zxid,
    party: Party,
) -> Result<EpochsFound, RecoverError> {
    let read = |path: &Path| read(path).map_err(|error| io_error(path, &error));
    judge(&Files::read(dir, read)?, last, party)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Written = Option<&'static str>;
    /// Accepted and current, and what is to be written.
    type Judged = (Option<(i32, i32)>, Vec<(EpochFile, i32)>);

    fn found(
        (accepted, current, unfinished): (Written, Written, Written),
        last: i64,
        party: Party,
    ) -> Result<Judged, String> {
        let read = |path: &Path| {
            let content = match path.file_name().and_then(|name| name.to_str()) {
                Some("acceptedEpoch") => accepted,
                Some("currentEpoch") => current,
                Some("currentEpoch.tmp") => unfinished,
                other => panic!("{other:?} is no epoch file"),
            };
            Ok(content.map(|content| content.as_bytes().to_vec()))
        };
        let files = Files::read(Path::new("/d"), read).map_err(|e| e.to_string())?;
        let found = judge(&files, Zxid(last), party).map_err(|e| e.to_string())?;
        let epochs = found.epochs.map(|epochs| (epochs.accepted.0, epochs.current.0));
        Ok((epochs, found.write.into_iter().map(|(file, epoch)| (file, epoch.0)).collect()))
    }

    const OF_3: i64 = 0x3_0000_0007;

    #[test]
    fn a_member_reads_them_by_the_rules_of_apache() {
        use EpochFile::{Accepted, Current};
        let member = |files, last| found(files, last, Party::Member).unwrap();
        let none = Vec::new();
        assert_eq!(member((Some("-1"), Some("-1"), None), -1), (Some((0, 0)), none.clone()));
        assert_eq!(member((Some("5"), Some("4"), None), OF_3), (Some((5, 4)), none.clone()));
        assert_eq!(member((Some("3\n"), Some("3\r\n"), None), OF_3), (Some((3, 3)), none));
        let both = |epoch| vec![(Accepted, epoch), (Current, epoch)];
        assert_eq!(member((None, None, None), OF_3), (Some((3, 3)), both(3)));
        assert_eq!(member((None, None, None), -1), (Some((0, 0)), both(0)));
        // It was about to get its name.
        let adopted = (Some((4, 4)), vec![(Current, 4)]);
        assert_eq!(member((Some("4"), Some("2"), Some("4")), OF_3), adopted);
        // Torn or older, but the promise covers the log.
        let mended = (Some((4, 3)), vec![(Current, 3)]);
        for unfinished in [None, Some(""), Some("2")] {
            assert_eq!(member((Some("4"), Some("2"), unfinished), OF_3), mended);
        }
        let promised = (Some((3, 3)), vec![(Accepted, 3)]);
        assert_eq!(member((None, Some("3"), None), OF_3), promised);
    }

    #[test]
    fn what_cannot_be_mended_is_refused_with_file_and_remedy() {
        for (files, party, wanted) in [
            ((Some("2"), Some("2"), None), Party::Member, "/d/currentEpoch: it says epoch 2"),
            ((Some("3"), Some("4"), None), Party::Member, "/d/acceptedEpoch: it says epoch 3"),
            ((None, Some("4"), None), Party::Member, "/d/acceptedEpoch: it is missing"),
            ((Some("2"), Some("2"), Some("4")), Party::Member, "/d/acceptedEpoch: it says epoch 2"),
            ((Some("3"), Some("4"), None), Party::Alone, "/d/acceptedEpoch: it says epoch 3"),
            ((Some("x"), Some("4"), None), Party::Alone, "/d/acceptedEpoch: it does not begin"),
            ((Some("4"), Some(""), None), Party::Alone, "/d/currentEpoch: it does not begin"),
            ((Some("4"), Some("-2"), None), Party::Member, "/d/currentEpoch: it does not begin"),
            ((Some("4"), Some(" 4"), None), Party::Member, "/d/currentEpoch: it does not begin"),
        ] {
            let error = found(files, OF_3, party).unwrap_err();
            assert!(error.starts_with(wanted) && error.contains("Restore"), "{error}");
        }
    }

    #[test]
    fn a_server_alone_keeps_them_in_order_and_makes_none() {
        use EpochFile::{Accepted, Current};
        let alone = |files, last| found(files, last, Party::Alone).unwrap();
        assert_eq!(alone((None, None, None), OF_3), (None, Vec::new()));
        assert_eq!(alone((None, None, Some("9")), OF_3), (None, Vec::new()));
        assert_eq!(alone((Some("3"), Some("3"), None), OF_3), (Some((3, 3)), Vec::new()));
        // Its numbers have gone on into the next epoch.
        let next = (Some((3, 3)), vec![(Accepted, 3), (Current, 3)]);
        assert_eq!(alone((Some("2"), Some("2"), None), OF_3), next);
        assert_eq!(alone((Some("9"), Some("2"), None), OF_3), (Some((9, 3)), vec![(Current, 3)]));
        assert_eq!(alone((None, Some("4"), None), OF_3), (Some((4, 4)), vec![(Accepted, 4)]));
    }

    #[test]
    fn what_is_written_is_read() {
        for epoch in [0, 1, 77, i32::MAX] {
            assert_eq!(parse(&EpochFile::content(Epoch(epoch))), Some(Epoch(epoch)));
        }
    }
}
