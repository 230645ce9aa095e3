//! The simulated counterpart of `disk`'s housekeeper: the same files in the same order of
//! operations, one operation at a time, so that the power can fail between any two.

use std::collections::VecDeque;

use crate::base::{Rng, Zxid};
use crate::log::{
    BLOCK, Compression, PurgePolicy, SegmentHeader, looks_valid, plan_purge, snapshot_name,
};

use super::disk::{DiskError, FileId, SimDisk, name_of};

/// A segment that waits for its first record.
#[derive(Clone, Debug)]
pub struct Spare {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: FileId,
    /// Its header block's content.
    pub header: SegmentHeader,
}

/// What came of a job.
#[derive(Debug)]
pub enum Report {
    /// A chunk of the snapshot was taken.
    ChunkTaken,
    /// The snapshot is published, or was given up.
    SnapshotEnded(bool),
    /// A segment is ready.
    SpareReady(Spare),
}

#[derive(Debug)]
enum Step {
    Create(String),
    /// Fills the file with zeros behind a header.
    Fill(String, SegmentHeader),
    Header(String, SegmentHeader),
    Append(String, Vec<u8>),
    Sync(String),
    Rename(String, String),
    SyncDir,
    Remove(String),
    Plan(PurgePolicy),
    Reusable(String),
    Tell(Report),
}

/// Background work on the simulated disk.
#[derive(Debug, Default)]
pub struct House {
    now: VecDeque<Step>,
    urgent: VecDeque<VecDeque<Step>>,
    jobs: VecDeque<VecDeque<Step>>,
    reusable: Vec<String>,
    segment_size: u64,
    snapshot: Option<String>,
    /// The job under way belongs to a snapshot.
    on_snapshot: bool,
    salts: Option<Rng>,
}

fn is_about_snapshot(job: &VecDeque<Step>) -> bool {
    job.iter().any(|step| match step {
        Step::Append(..) => true,
        Step::Create(name) | Step::Sync(name) => name.starts_with("snapshot."),
        Step::Tell(Report::SnapshotEnded(_)) => true,
        _ => false,
    })
}

const REUSABLE_MAX: usize = 2;

impl House {
    /// Nothing to do yet; salts come from `seed`.
    pub fn new(seed: u64, segment_size: u64, adopted: Vec<String>) -> House {
        let salts = Some(Rng::new(seed));
        let mut house = House { salts, segment_size, reusable: adopted, ..House::default() };
        house.prepare();
        house
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.now.is_empty() && self.urgent.is_empty() && self.jobs.is_empty()
    }

    /// Names of a segment with a fresh salt.
    pub fn fresh(&mut self, size: u64) -> (SegmentHeader, String, String) {
        let salt = self.salts.as_mut().map_or(0, Rng::next_u64);
        let header = SegmentHeader { salt, size: size.next_multiple_of(BLOCK as u64) };
        (header, format!("spare.{salt:016x}"), format!("spare.{salt:016x}.tmp"))
    }

    /// Have one more segment ready.
    pub fn prepare(&mut self) {
        // Decided when its turn comes, like the rest.
        let steps = match self.reusable.pop() {
            Some(old) => self.retire(&old, true),
            None => {
                let (header, name, tmp) = self.fresh(self.segment_size);
                VecDeque::from([
                    Step::Create(tmp.clone()),
                    Step::Fill(tmp.clone(), header),
                    Step::Sync(tmp.clone()),
                    Step::Rename(tmp, name.clone()),
                    Step::SyncDir,
                    Step::Tell(Report::SpareReady(Spare { name, file: FileId::NONE, header })),
                ])
            }
        };
        self.urgent.push_back(steps);
    }

    fn retire(&mut self, old: &str, use_now: bool) -> VecDeque<Step> {
        let (header, name, tmp) = self.fresh(self.segment_size);
        let last = if use_now {
            let spare = Spare { name: name.clone(), file: FileId::NONE, header };
            Step::Tell(Report::SpareReady(spare))
        } else {
            Step::Reusable(name.clone())
        };
        VecDeque::from([
            Step::Rename(old.to_owned(), tmp.clone()),
            Step::SyncDir,
            Step::Header(tmp.clone(), header),
            Step::Rename(tmp, name),
            Step::SyncDir,
            last,
        ])
    }

    /// A segment got its name.
    pub fn sync_log_dir(&mut self) {
        self.urgent.push_back(VecDeque::from([Step::SyncDir]));
    }

    /// Begins the snapshot at `zxid`.
    pub fn snapshot_begin(&mut self, zxid: Zxid) {
        let name = snapshot_name(zxid, Compression::None);
        self.jobs.push_back(VecDeque::from([Step::Create(format!("{name}.tmp"))]));
        self.snapshot = Some(name);
    }

    /// More of it.
    pub fn snapshot_chunk(&mut self, bytes: Vec<u8>) {
        let Some(name) = &self.snapshot else { return };
        self.jobs.push_back(VecDeque::from([
            Step::Append(format!("{name}.tmp"), bytes),
            Step::Tell(Report::ChunkTaken),
        ]));
    }

    /// That was all: publish it.
    pub fn snapshot_finish(&mut self) {
        let Some(name) = self.snapshot.take() else { return };
        let tmp = format!("{name}.tmp");
        self.jobs.push_back(VecDeque::from([
            Step::Sync(tmp.clone()),
            Step::Rename(tmp, name),
            Step::SyncDir,
            Step::Tell(Report::SnapshotEnded(true)),
        ]));
    }

    /// Remove what the policy does not keep.
    pub fn purge(&mut self, policy: PurgePolicy) {
        self.jobs.push_back(VecDeque::from([Step::Plan(policy)]));
    }

    /// Performs one operation.
    pub fn step(&mut self, disk: &mut SimDisk) -> Result<Option<Report>, DiskError> {
        if self.now.is_empty() {
            let next = self.urgent.pop_front().or_else(|| self.jobs.pop_front());
            self.now = next.unwrap_or_default();
            self.on_snapshot = is_about_snapshot(&self.now);
        }
        let Some(step) = self.now.pop_front() else { return Ok(None) };
        match self.perform(step, disk) {
            Err(DiskError::Crashed) => Err(DiskError::Crashed),
            Err(DiskError::Full | DiskError::Failed) => Ok(self.give_up(disk)),
            Ok(report) => Ok(report),
        }
    }

    /// The job under way cannot go on; a snapshot is given up as a whole.
    fn give_up(&mut self, disk: &mut SimDisk) -> Option<Report> {
        self.now.clear();
        if !std::mem::take(&mut self.on_snapshot) {
            return None;
        }
        self.snapshot = None;
        self.jobs.retain(|job| !is_about_snapshot(job));
        for (_, path) in disk.names() {
            let name = name_of(&path);
            if name.starts_with("snapshot.") && name.ends_with(".tmp") {
                let _ = disk.remove(name);
            }
        }
        Some(Report::SnapshotEnded(false))
    }

    fn perform(&mut self, step: Step, disk: &mut SimDisk) -> Result<Option<Report>, DiskError> {
        let found = |disk: &SimDisk, name: &str| disk.find(name).ok_or(DiskError::Failed);
        match step {
            Step::Create(name) => drop(disk.create(&name)?),
            Step::Fill(name, header) => {
                let file = found(disk, &name)?;
                disk.write(file, 0, &header.encode())?;
                disk.write(file, BLOCK, &vec![0; header.size as usize - BLOCK])?;
            }
            Step::Header(name, header) => {
                let file = found(disk, &name)?;
                disk.write(file, 0, &header.encode())?;
                disk.step()?;
                disk.sync_range(file, 0, BLOCK);
            }
            Step::Append(name, bytes) => disk.append(found(disk, &name)?, &bytes)?,
            Step::Sync(name) => disk.sync(found(disk, &name)?)?,
            Step::Rename(from, to) => disk.rename(&from, &to)?,
            Step::SyncDir => disk.sync_dir()?,
            Step::Remove(name) => disk.remove(&name)?,
            Step::Plan(policy) => self.plan(policy, disk),
            Step::Reusable(name) => self.reusable.push(name),
            Step::Tell(Report::SpareReady(spare)) => {
                let file = found(disk, &spare.name)?;
                return Ok(Some(Report::SpareReady(Spare { file, ..spare })));
            }
            Step::Tell(report) => return Ok(Some(report)),
        }
        Ok(None)
    }

    fn plan(&mut self, policy: PurgePolicy, disk: &SimDisk) {
        let is_valid = |path: &std::path::PathBuf| {
            disk.find(name_of(path)).is_some_and(|file| looks_valid(path, disk.content(file)))
        };
        let plan = plan_purge(policy, disk.names(), disk.names(), &is_valid);
        for path in &plan.remove {
            self.now.push_back(Step::Remove(name_of(path).to_owned()));
        }
        let mut kept = self.reusable.len();
        for path in &plan.segments {
            let name = name_of(path);
            let size = disk.find(name).map_or(0, |file| disk.len(file) as u64);
            if size == self.segment_size && kept < REUSABLE_MAX {
                kept += 1;
                let steps = self.retire(name, false);
                self.now.extend(steps);
            } else {
                self.now.push_back(Step::Remove(name.to_owned()));
            }
        }
    }
}
