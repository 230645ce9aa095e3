//! Lists of operations on files: what the housekeeper does, in pieces between which the log
//! writer does something else or the power fails.

use std::io;
use std::path::PathBuf;

use crate::log::{BLOCK, SegmentHeader};

use super::files::{DURABLE, LogFiles};

/// One operation. What needs an open file takes the one at hand: the last created or opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Create(PathBuf),
    Open(PathBuf, Option<bool>),
    Reserve(u64),
    SetLen(u64),
    /// Writes the first block through.
    Header(SegmentHeader),
    /// Writes zeros after the first block up to here.
    ZeroFill(u64),
    Append(Vec<u8>),
    Sync,
    Rename(PathBuf, PathBuf),
    SyncDir(PathBuf),
    Remove(PathBuf),
}

/// Performs them in line.
pub(super) fn perform<F: LogFiles>(files: &F, steps: Vec<Step>) -> io::Result<()> {
    let mut hand = None;
    steps.into_iter().try_for_each(|step| step.perform(files, &mut hand))
}

impl Step {
    /// Performs it.
    pub fn perform<F: LogFiles>(self, files: &F, hand: &mut Option<F::File>) -> io::Result<()> {
        let at_hand = || hand.as_ref().ok_or_else(|| io::Error::other("no file is open"));
        match self {
            Step::Create(path) => *hand = Some(files.create(&path)?),
            Step::Open(path, direct_io) => *hand = Some(files.open(&path, direct_io)?),
            Step::Reserve(len) => files.reserve(at_hand()?, len)?,
            Step::SetLen(len) => files.set_len(at_hand()?, len)?,
            Step::Header(header) => {
                let mut block = files.buffer(BLOCK)?;
                block.copy_from_slice(&header.encode());
                files.write_all(at_hand()?, &block, 0, DURABLE)?;
            }
            Step::ZeroFill(to) => files.zero_fill(at_hand()?, BLOCK as u64, to)?,
            Step::Append(bytes) => files.append(at_hand()?, &bytes)?,
            Step::Sync => files.sync(at_hand()?)?,
            Step::Rename(from, to) => files.rename(&from, &to)?,
            Step::SyncDir(dir) => files.sync_dir(&dir)?,
            Step::Remove(path) => match files.remove(&path) {
                // Somebody else has done it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            },
        }
        Ok(())
    }
}
