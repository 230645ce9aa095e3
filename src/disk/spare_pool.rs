//! The log writer's side of the segments that the housekeeper makes ahead of need. They are a
//! convenience: one that is too small waits for its turn, one that was removed is passed over, and
//! the writer makes a segment itself when none is ready.

use std::io;
use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender};

use super::files::LogFiles;
use super::housekeeper::Urgent;
use super::segments::{self, SegmentKind, Spare};

/// What a [`Urgent::Prepare`] has led to: one of these for each.
#[derive(Debug)]
pub(super) enum Prepared<F: LogFiles> {
    Ready(Spare<F>),
    /// There is no room, or something else is in the way, which was reported.
    Failed,
}

/// The two ends of the channels to the housekeeper.
pub(super) struct SegmentChannels<F: LogFiles> {
    pub urgent: Sender<Urgent>,
    pub prepared: Receiver<Prepared<F>>,
    /// Somebody else works while this one waits. In a simulation nobody does.
    pub has_thread: bool,
}

/// See the module's introduction.
pub(super) struct SparePool<F: LogFiles> {
    channels: SegmentChannels<F>,
    /// How many were asked for and are neither ready nor failed.
    awaited: u32,
    ready: Vec<Spare<F>>,
}

impl<F: LogFiles> SparePool<F> {
    pub fn new(channels: SegmentChannels<F>) -> SparePool<F> {
        SparePool { channels, awaited: 0, ready: Vec::new() }
    }

    /// Has the housekeeper reuse these files of an earlier run.
    pub fn adopt(&self, files: Vec<PathBuf>) {
        self.send(Urgent::Adopt(files));
    }

    /// Has the housekeeper make one, unless one is ready that will do.
    pub fn ask(&mut self, kind: SegmentKind) {
        self.collect();
        if self.ready.iter().all(|spare| spare.header.size < kind.size) && self.awaited == 0 {
            self.awaited += 1;
            self.send(Urgent::Prepare(kind));
        }
    }

    /// Has the housekeeper make the names in the log's directory durable.
    pub fn sync_names(&self) {
        self.send(Urgent::SyncLogDir);
    }

    /// A segment of at least `min_size` bytes under the name that `name` gives it, with what
    /// `name` returned `Ok` for.
    ///
    /// # Errors
    /// As making a file and naming it give them.
    pub fn take(
        &mut self,
        files: &F,
        kind: SegmentKind,
        min_size: u64,
        name: impl Fn(&Spare<F>) -> io::Result<()>,
    ) -> io::Result<Spare<F>> {
        self.collect();
        while let Some(spare) = self.large_enough(min_size) {
            match name(&spare) {
                Ok(()) => return Ok(spare),
                // Somebody has removed it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        // None is ready: make one without writing it through, so that this takes a moment.
        let size = kind.size.max(min_size);
        let made = segments::create(files, SegmentKind { size, ..kind }, false);
        let error = match made {
            Ok(spare) => return name(&spare).map(|()| spare),
            Err(error) => error,
        };
        // The one that the housekeeper is making may have taken the last room: it is the one.
        let waited = self.awaited > 0 && self.channels.has_thread;
        while self.awaited > 0 && self.channels.has_thread {
            match self.channels.prepared.recv() {
                Ok(prepared) => self.note(prepared),
                Err(_) => self.awaited = 0,
            }
        }
        let spare = match self.large_enough(min_size) {
            Some(spare) => spare,
            None if !waited => return Err(error),
            // Both attempts may have been in each other's way.
            None => segments::create(files, SegmentKind { size, ..kind }, false)?,
        };
        name(&spare).map(|()| spare)
    }

    fn large_enough(&mut self, min_size: u64) -> Option<Spare<F>> {
        let at = self.ready.iter().position(|spare| spare.header.size >= min_size)?;
        Some(self.ready.remove(at))
    }

    fn collect(&mut self) {
        while let Ok(prepared) = self.channels.prepared.try_recv() {
            self.note(prepared);
        }
    }

    fn note(&mut self, prepared: Prepared<F>) {
        self.awaited = self.awaited.saturating_sub(1);
        if let Prepared::Ready(spare) = prepared {
            self.ready.push(spare);
        }
    }

    fn send(&self, message: Urgent) {
        // If the housekeeper is gone, segments are made in line.
        let _ = self.channels.urgent.send(message);
    }
}
