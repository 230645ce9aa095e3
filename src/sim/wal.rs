//! The simulated counterpart of `disk`'s log writer: the real [`Appender`] over simulated
//! segments, one write in flight.

use std::sync::Arc;

use crate::base::{Rng, Zxid};
use crate::log::{Appender, BLOCK, Batch, Plan, WritePlan};

use super::disk::{DiskError, FileId, SimDisk};
use super::house::{House, Spare};
use super::options::Bug;

/// Appends to the log of the simulated server.
#[derive(Debug)]
pub struct Wal {
    appender: Appender,
    current: Option<FileId>,
    staging: Vec<u8>,
    in_flight: Option<(FileId, WritePlan)>,
    spares: Vec<Spare>,
    segment_size: u64,
    /// Everything up to here is durable.
    pub durable: Zxid,
}

/// Why the server cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WalError {
    /// Power failure.
    Crashed,
    /// The process must end with this message.
    Fatal(String),
}

impl From<DiskError> for WalError {
    fn from(error: DiskError) -> WalError {
        match error {
            DiskError::Crashed => WalError::Crashed,
            DiskError::Full => WalError::Fatal("no space left for the log".into()),
            DiskError::Failed => WalError::Fatal("the log's device failed".into()),
        }
    }
}

impl Wal {
    /// Appends behind what was recovered; the first record opens a new segment.
    pub fn new(next_group: u64, last: Zxid, segment_size: u64, staging: usize) -> Wal {
        Wal {
            appender: Appender::new(next_group, last),
            current: None,
            staging: vec![0; staging.next_multiple_of(BLOCK)],
            in_flight: None,
            spares: Vec::new(),
            segment_size,
            durable: last,
        }
    }

    /// Queues a batch.
    pub fn submit(&mut self, batch: Arc<Batch>) {
        self.appender.submit(batch);
    }

    /// A segment is ready.
    pub fn offer(&mut self, spare: Spare) {
        self.spares.push(spare);
    }

    /// Starts the next write if none is in flight and something is queued.
    pub fn begin(
        &mut self,
        disk: &mut SimDisk,
        house: &mut House,
        bug: Option<Bug>,
    ) -> Result<Option<WritePlan>, WalError> {
        if self.in_flight.is_some() {
            return Ok(None);
        }
        loop {
            match self.appender.plan(&mut self.staging) {
                Plan::Idle => return Ok(None),
                Plan::Stage { len } => self.staging = vec![0; len],
                Plan::Roll { min_size, first_zxid } => {
                    self.roll(min_size, first_zxid, disk, house)?;
                }
                Plan::Write(plan) => {
                    let Some(file) = self.current else { return Err(DiskError::Failed.into()) };
                    let mut from = 0;
                    if bug == Some(Bug::SkipTailBlock) && plan.offset > BLOCK as u64 {
                        let old = &disk.content(file)[plan.offset as usize..][..16];
                        from = if old.iter().any(|&b| b != 0) { BLOCK.min(plan.len) } else { 0 };
                    }
                    let bytes = &self.staging[from..plan.len];
                    disk.write(file, plan.offset as usize + from, bytes)?;
                    self.in_flight = Some((file, plan));
                    return Ok(Some(plan));
                }
            }
        }
    }

    /// The write in flight ended. Counterpart of `LogWriter::finish_write`.
    pub fn finish(
        &mut self,
        ok: bool,
        disk: &mut SimDisk,
        rng: &mut Rng,
        bug: Option<Bug>,
    ) -> Result<Zxid, WalError> {
        let Some((file, plan)) = self.in_flight.take() else { return Ok(self.durable) };
        let (offset, len) = (plan.offset as usize, plan.len);
        if ok {
            disk.sync_range(file, offset, len);
        } else {
            disk.fail_range(file, offset, len, rng);
            if bug != Some(Bug::IgnoreFailedWrite) {
                return Err(DiskError::Failed.into());
            }
        }
        self.durable = plan.last_zxid;
        Ok(self.durable)
    }

    fn roll(
        &mut self,
        min_size: u64,
        first: Zxid,
        disk: &mut SimDisk,
        house: &mut House,
    ) -> Result<(), WalError> {
        let ready = self.spares.iter().position(|spare| spare.header.size >= min_size);
        let spare = match ready {
            // As the product does, those in front that are too small are let go.
            Some(at) => self.spares.drain(..=at).next_back(),
            None => None,
        };
        let spare = match spare {
            Some(spare) => spare,
            None => create(self.segment_size.max(min_size), disk, house)?,
        };
        let name = format!("wal.{first}");
        if disk.find(&name).is_some() {
            return Err(WalError::Fatal(format!("{name} is there already")));
        }
        disk.rename(&spare.name, &name)?;
        self.appender.roll(&spare.header);
        self.current = Some(spare.file);
        house.sync_log_dir();
        house.prepare();
        Ok(())
    }
}

/// A segment made in line, not written through.
fn create(size: u64, disk: &mut SimDisk, house: &mut House) -> Result<Spare, WalError> {
    let (header, name, tmp) = house.fresh(size);
    let file = disk.create(&tmp)?;
    disk.set_len(file, header.size as usize)?;
    disk.write(file, 0, &header.encode())?;
    disk.sync(file)?;
    disk.rename(&tmp, &name)?;
    disk.sync_dir()?;
    Ok(Spare { name, file, header })
}
