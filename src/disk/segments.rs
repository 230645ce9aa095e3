//! Makes segment files ready for appending: new ones, and old ones for another life.

use std::io;
use std::path::{Path, PathBuf};

use crate::log::{BLOCK, SegmentHeader};

use super::files::LogFiles;
use super::steps::Step;

/// A segment that waits for its first record, durable under its `spare.` name.
#[derive(Debug)]
pub(super) struct Spare<F: LogFiles> {
    /// Its name.
    pub path: PathBuf,
    /// The file, open for writing.
    pub file: F::File,
    /// What its first block says.
    pub header: SegmentHeader,
}

/// What segments are to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SegmentKind {
    /// Size in bytes.
    pub size: u64,
    /// Written past the page cache; `None` where the file system can.
    pub direct_io: Option<bool>,
}

/// Fails if direct access is demanded and the log's directory does not offer it. Better at the
/// start than when the first client writes.
pub(super) fn check_direct<F: LogFiles>(files: &F, kind: SegmentKind) -> io::Result<()> {
    if kind.direct_io != Some(true) {
        return Ok(());
    }
    create(files, SegmentKind { size: 2 * BLOCK as u64, ..kind }, true)
        .and_then(|probe| files.remove(&probe.path))
}

/// A segment that is to be made.
pub(super) struct Making {
    /// How; at the end the file is at hand.
    pub steps: Vec<Step>,
    /// Its name then.
    pub path: PathBuf,
    /// Its name meanwhile.
    pub tmp: PathBuf,
    /// What its first block will say.
    pub header: SegmentHeader,
}

impl Making {
    fn new<F: LogFiles>(files: &F, size: u64) -> io::Result<Making> {
        let header = SegmentHeader::new(files.salt()?, size);
        let path = files.log_dir().join(format!("spare.{:016x}", header.salt));
        let tmp = files.log_dir().join(format!("spare.{:016x}.tmp", header.salt));
        Ok(Making { steps: Vec::new(), path, tmp, header })
    }

    /// A new segment. With `fill` every block is written, so that appending
    /// changes no metadata later; without, it is merely reserved, which is quick.
    pub fn fresh<F: LogFiles>(files: &F, kind: SegmentKind, fill: bool) -> io::Result<Making> {
        let mut making = Making::new(files, kind.size.next_multiple_of(BLOCK as u64))?;
        let (header, tmp) = (making.header, &making.tmp);
        let mut steps = vec![
            Step::Create(tmp.clone()),
            Step::Reserve(header.size),
            Step::SetLen(header.size),
            Step::Open(tmp.clone(), kind.direct_io),
            Step::Header(header),
        ];
        if fill {
            steps.push(Step::ZeroFill(header.size));
        }
        steps.extend([
            Step::Sync,
            Step::Rename(tmp.clone(), making.path.clone()),
            Step::SyncDir(files.log_dir().to_owned()),
        ]);
        making.steps = steps;
        Ok(making)
    }

    /// Takes a segment that nobody needs out of the log: durably away from its name, and a header
    /// with a new salt, which invalidates every record in it.
    pub fn again<F: LogFiles>(
        files: &F,
        old: &Path,
        direct_io: Option<bool>,
    ) -> io::Result<Making> {
        let mut making = Making::new(files, files.size(old)?)?;
        let dir = files.log_dir();
        making.steps = vec![
            Step::Rename(old.to_owned(), making.tmp.clone()),
            Step::SyncDir(dir.to_owned()),
            Step::Open(making.tmp.clone(), direct_io),
            Step::Header(making.header),
            Step::Rename(making.tmp.clone(), making.path.clone()),
            Step::SyncDir(dir.to_owned()),
        ];
        Ok(making)
    }
}

/// Makes a new segment in line.
pub(super) fn create<F: LogFiles>(
    files: &F,
    kind: SegmentKind,
    fill: bool,
) -> io::Result<Spare<F>> {
    let Making { steps, path, tmp, header } = Making::fresh(files, kind, fill)?;
    let mut hand = None;
    let made = steps.into_iter().try_for_each(|step| step.perform(files, &mut hand));
    match (made, hand) {
        (Ok(()), Some(file)) => Ok(Spare { path, file, header }),
        (made, _) => {
            let _ = files.remove(&tmp);
            Err(made.err().unwrap_or_else(|| io::ErrorKind::NotFound.into()))
        }
    }
}
