//! What happens in the background on behalf of the replica: snapshot files, purge, directory sizes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Instant, Now, Zxid};
use crate::disk::{Absence, Housekeeper, LogFiles, PurgePolicy, Report, Reports};
use crate::log::{LogTicket, RangeCommand};
use crate::member::Member;
use crate::metrics::Measures;
use crate::replica::{Effect, Effects, Input, Replica, StreamId};

use super::port::Probe;

/// When files are removed, and how much of a snapshot may wait.
#[derive(Clone, Copy, Debug)]
pub struct HousekeepingOptions {
    /// `autopurge.purgeInterval`: between two purges of old snapshots; `None` keeps them all.
    pub purge: Option<Duration>,
    /// `autopurge.snapRetainCount`: snapshots that are kept, and the log back to the oldest of
    /// them.
    pub retain: usize,
    /// Bytes of snapshot that may wait for the disk, beyond which the walk over the tree pauses.
    pub backlog_bytes_max: usize,
}

impl Default for HousekeepingOptions {
    fn default() -> HousekeepingOptions {
        HousekeepingOptions { purge: None, retain: 3, backlog_bytes_max: 4 << 20 }
    }
}

/// The replica's end of the housekeeper.
pub struct Housekeeping<F: LogFiles> {
    options: HousekeepingOptions,
    house: Housekeeper<F>,
    reports: Reports,
    /// How many chunks were handed over that the replica was not told about.
    handed: u32,
    /// The database that is being received, and how many chunks of it.
    received: (StreamId, u32),
    next_purge: Instant,
    next_sizes: Instant,
    /// Bytes below the snapshot and log directories, as of the last look.
    pub dir_sizes: (u64, u64),
    /// The final snapshot could not be written.
    failed: bool,
    /// What was found to have lost its name when a snapshot failed.
    absence: Option<Absence>,
    finishing: bool,
    /// The last one that began did so when everything was applied and a final one was due.
    is_final: bool,
    done: bool,
    measures: Arc<Measures>,
    /// When [`Housekeeping::poll`] was last called: within the same turn as everything else.
    polled: Instant,
    snapshot_began: Instant,
}

impl<F: LogFiles> Housekeeping<F> {
    /// Nothing is under way.
    pub fn new(
        options: HousekeepingOptions,
        house: Housekeeper<F>,
        reports: Reports,
        measures: Arc<Measures>,
    ) -> Housekeeping<F> {
        Housekeeping {
            options,
            house,
            reports,
            handed: 0,
            received: (StreamId(0), 0),
            next_purge: Instant(0),
            next_sizes: Instant(0),
            dir_sizes: (0, 0),
            failed: false,
            absence: None,
            finishing: false,
            is_final: false,
            done: false,
            measures,
            polled: Instant(0),
            snapshot_began: Instant(0),
        }
    }

    /// Carries out a snapshot effect.
    pub fn snapshot(&mut self, effect: Effect) {
        match effect {
            Effect::SnapshotBegin(zxid) => {
                // Chunks of one that failed are not those that its successor waits for.
                self.handed = 0;
                self.snapshot_began = self.polled;
                self.is_final = self.finishing;
                self.house.snapshot_begin(zxid);
            }
            Effect::SnapshotChunk(chunk) => {
                self.house.snapshot_chunk(chunk);
                self.handed += 1;
            }
            Effect::SnapshotFinish => self.house.snapshot_finish(),
            Effect::SnapshotAbandon => self.house.snapshot_abandon(),
            Effect::ReceptionBegin { stream, zxid } => {
                self.received = (stream, 0);
                self.house.reception_begin(stream.0, zxid);
            }
            Effect::ReceptionChunk(chunk) => {
                self.house.reception_chunk(chunk);
                self.received.1 += 1;
            }
            Effect::ReceptionFinish => self.house.reception_finish(),
            Effect::ReceptionAbandon => self.house.reception_abandon(),
            _ => {}
        }
    }

    /// The snapshot under way, for a state report.
    pub fn describe_snapshot(&self, now: Instant, is_running: bool) -> String {
        if !is_running {
            return "no snapshot under way".to_owned();
        }
        format!(
            "a snapshot under way since {} ms, {} bytes of it waiting for the disk",
            now.since(self.snapshot_began).as_millis(),
            self.house.snapshot_backlog()
        )
    }

    /// Leases or reads a range of the log; `Input::LogDone` follows.
    pub fn range(&self, ticket: LogTicket, command: RangeCommand) {
        self.house.range(ticket, command);
    }

    /// Whether [`Housekeeping::poll`] has something to take, or somebody waits to hear that the
    /// disk takes more.
    pub fn has_reports(&self) -> bool {
        let is_waited_for = self.handed > 0 || self.received.1 > 0;
        !self.reports.is_empty() || is_waited_for && self.takes_more()
    }

    fn takes_more(&self) -> bool {
        self.house.snapshot_backlog() < self.options.backlog_bytes_max
    }

    /// Takes reports, tells the replica, starts what is due.
    pub fn poll(
        &mut self,
        now: Now,
        member: &mut Member,
        effects: &mut Effects,
        probe: &mut impl Probe,
    ) {
        self.polled = now.mono;
        self.take_reports(now, member, effects, probe);
        while self.handed > 0 && self.takes_more() {
            self.handed -= 1;
            member.handle(now, Input::SnapshotReady, effects);
        }
        while self.received.1 > 0 && self.takes_more() {
            self.received.1 -= 1;
            let stream = self.received.0;
            member.handle(now, Input::ReceptionReady { stream }, effects);
        }
        let retain = self.options.retain;
        if let Some(every) = self.options.purge
            && self.next_purge <= now.mono
        {
            self.next_purge = now.mono + every;
            self.house.purge(PurgePolicy { snapshots: Some(retain), segments_back_to: retain });
        }
        if self.next_sizes <= now.mono {
            self.next_sizes = now.mono + Duration::from_secs(10);
            self.house.dir_sizes();
        }
    }

    fn take_reports(
        &mut self,
        now: Now,
        member: &mut Member,
        effects: &mut Effects,
        probe: &mut impl Probe,
    ) {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::SnapshotDone { zxid, bytes, .. } => {
                    let took = now.mono.since(self.snapshot_began);
                    self.measures.snapshot.record(took.as_micros() as u64);
                    self.next_sizes = now.mono;
                    log::info!("snapshot at 0x{zxid} is complete: {bytes} bytes");
                    member.handle(now, Input::SnapshotEnded { ok: true }, effects);
                    self.purge_segments();
                }
                Report::SnapshotFailed { zxid, path, error, absence } => {
                    probe.chore_failed(&error);
                    self.snapshot_failed(zxid, &path, &error, absence);
                    member.handle(now, Input::SnapshotEnded { ok: false }, effects);
                }
                Report::Received { stream, path, bytes } => {
                    log::info!("{} is received: {bytes} bytes", path.display());
                    let stream = StreamId(stream);
                    member.handle(now, Input::ReceptionEnded { stream, ok: true }, effects);
                }
                Report::ReceiveFailed { stream, path, error } => {
                    probe.chore_failed(&error);
                    log::error!(
                        "the database that another member sends cannot be written to {}: {error}; \
                         what is here stays as it is, and it has to be sent again",
                        path.display()
                    );
                    let stream = StreamId(stream);
                    member.handle(now, Input::ReceptionEnded { stream, ok: false }, effects);
                }
                Report::SnapshotDropped(zxid) => {
                    log::info!("the snapshot at 0x{zxid} is given up: the log has changed");
                    member.handle(now, Input::SnapshotEnded { ok: false }, effects);
                }
                Report::LogDone(ticket, done) => {
                    member.handle(now, Input::LogDone { ticket, done }, effects);
                }
                Report::Purged(purged) => {
                    for path in &purged.removed {
                        log::info!("purged {}", path.display());
                    }
                }
                Report::PurgeFailed(error) => {
                    probe.chore_failed(&error);
                    log::error!("purge failed: {error}");
                }
                Report::DirSizes { snap_bytes, log_bytes } => {
                    self.dir_sizes = (snap_bytes, log_bytes);
                }
                Report::SegmentFailed(error) => {
                    probe.chore_failed(&error);
                    log::warn!(
                        "cannot make a log segment ahead of need: {error}; the log goes on in the \
                         one it has, and needs room for another when that is full"
                    );
                }
            }
        }
    }

    fn snapshot_failed(
        &mut self,
        zxid: Zxid,
        path: &Path,
        error: &std::io::Error,
        absence: Option<Absence>,
    ) {
        // One that was under way when the end was asked for is tried again.
        self.failed = self.is_final;
        let standing = absence.as_ref().map_or_else(
            || "the log holds what older snapshots do not".to_owned(),
            ToString::to_string,
        );
        log::error!(
            "snapshot at 0x{zxid} failed at {}: {error}; the next one will be tried as usual; \
             {standing}",
            path.display()
        );
        self.absence = absence;
    }

    /// Segments that the newest snapshots cover are recycled whether or not old snapshots are
    /// purged.
    fn purge_segments(&self) {
        let retain = self.options.retain;
        self.house.purge(PurgePolicy { snapshots: None, segments_back_to: retain });
    }

    /// During shutdown: when everything is applied, one last snapshot, which is also what an Apache
    /// server needs to take over. It must hold every transaction, so one that was under way
    /// already, or was overtaken by requests still in the queues, is followed by another, as often
    /// as there are such. Only the failure of one that began here is final. Returns whether that
    /// has ended just now.
    pub fn final_snapshot(&mut self, replica: &mut Replica) -> bool {
        self.finishing = replica.is_settled();
        if !self.finishing || (self.done && self.failed) {
            return false;
        }
        if !self.failed && replica.request_snapshot() {
            // Requests that were still in the queues of other loops came after the last one.
            self.done = false;
            return false;
        }
        if std::mem::replace(&mut self.done, true) {
            return false;
        }
        match &self.absence {
            _ if !self.failed => {}
            Some(absence) => log::error!("the final snapshot could not be written: {absence}"),
            None => log::error!(
                "the final snapshot could not be written; the log holds what older snapshots do \
                 not: Ringkeeper can start from this directory, an Apache server does not start \
                 from it"
            ),
        }
        true
    }

    /// Whether the final snapshot is done, was not needed, or failed.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it failed.
    pub fn is_unsaved(&self) -> bool {
        self.done && self.failed
    }

    /// When [`Housekeeping::poll`] has something to start.
    pub fn deadline(&self) -> Instant {
        match self.options.purge {
            Some(_) => self.next_purge.min(self.next_sizes),
            None => self.next_sizes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::base::{ConnId, SessionId, Zxid};
    use crate::disk::{Chores, DataDir, DirOptions, HousekeeperOptions};
    use crate::replica::{ReplicaOptions, Restored};
    use crate::tree::{Tree, TreeOptions};
    use crate::wire::connect_frame;

    use super::super::port::Unobserved;
    use super::*;

    /// A replica without a snapshot on disk, and what the disk's thread would do, done on demand.
    struct Scene {
        home: tempfile::TempDir,
        member: Member,
        effects: Effects,
        house: Housekeeping<DataDir>,
        chores: Chores<DataDir>,
        /// How often the worker was woken.
        wakes: Arc<AtomicUsize>,
    }

    impl Scene {
        fn new() -> Scene {
            let home = tempfile::tempdir().unwrap();
            let data_dir = home.path().to_owned();
            let dir = DataDir::open(&DirOptions { data_dir, log_dir: None, autocreate: true });
            let (options, wakes) = (HousekeeperOptions::default(), Arc::new(AtomicUsize::new(0)));
            let counted = Arc::clone(&wakes);
            let wake = move || {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            let (house, chores, reports) =
                Housekeeper::without_thread(Arc::new(dir.unwrap()), options, wake);
            let measures = Arc::new(Measures::default());
            let options = HousekeepingOptions::default();
            let house = Housekeeping::new(options, house, reports, measures);
            let tree = Tree::new(TreeOptions { digest: false, ..TreeOptions::STOCK });
            let restored = Restored { snapshot_zxid: None, ..Restored::fresh(tree) };
            let options = ReplicaOptions::default();
            let replica = Replica::for_tests(now(), options, restored);
            let member = Member::alone(now(), replica);
            Scene { home, member, effects: Effects::default(), house, chores, wakes }
        }

        /// What is in the way of the snapshot's file.
        fn obstacle(&self) -> PathBuf {
            self.home.path().join("version-2/snapshot.0.tmp")
        }

        /// A turn of the replica's worker.
        fn turn(&mut self, draining: bool) {
            self.house.poll(now(), &mut self.member, &mut self.effects, &mut Unobserved);
            self.member.handle(now(), Input::Tick, &mut self.effects);
            if draining {
                self.house.final_snapshot(self.member.replica_mut());
            }
            for effect in self.effects.list.drain(..) {
                self.house.snapshot(effect);
            }
        }

        fn disk(&mut self) {
            while !self.chores.is_idle() {
                self.chores.turn();
            }
        }

        /// A client's session, transaction 1, is logged and applied.
        fn connect(&mut self) {
            let conn = ConnId::new(1, 1);
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let request = connect_frame(SessionId(0), 10_000);
            let frames = Input::Frames { conn, bytes: &request };
            for input in [Input::Opened { conn, peer }, frames, Input::Logged { zxid: Zxid(1) }] {
                self.member.handle(now(), input, &mut self.effects);
                self.member.flush(now(), &mut self.effects);
            }
            assert_eq!(self.member.replica().last_processed(), Zxid(1));
            self.effects.list.clear();
        }

        /// Drains to the end; returns whether a snapshot holds everything.
        fn end(&mut self) -> bool {
            for _ in 0..20 {
                self.turn(true);
                if self.house.is_done() {
                    return !self.house.is_unsaved();
                }
                self.disk();
            }
            panic!("the drain does not end");
        }
    }

    fn now() -> Now {
        Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 }
    }

    #[test]
    fn a_snapshot_that_was_under_way_and_fails_is_not_the_last_one() {
        let mut scene = Scene::new();
        fs::create_dir(scene.obstacle()).unwrap();
        scene.member.replica_mut().request_snapshot();
        scene.turn(false);
        // The end is asked for while it is being written.
        scene.turn(true);
        scene.disk();
        fs::remove_dir(scene.obstacle()).unwrap();
        assert!(scene.end());
        assert!(scene.home.path().join("version-2/snapshot.0").exists());
    }

    /// A request that was in the queue of another loop.
    #[test]
    fn what_comes_behind_the_last_snapshot_is_followed_by_another() {
        let mut scene = Scene::new();
        assert!(scene.end());
        assert!(!scene.home.path().join("version-2/snapshot.1").exists());
        scene.connect();
        scene.turn(true);
        assert!(!scene.house.is_done());
        assert!(scene.end());
        assert!(scene.home.path().join("version-2/snapshot.1").exists());
    }

    #[test]
    fn chunks_of_a_snapshot_that_failed_are_not_told_to_the_next() {
        let mut scene = Scene::new();
        scene.house.options.backlog_bytes_max = 0;
        fs::create_dir(scene.obstacle()).unwrap();
        for _ in 0..3 {
            scene.member.replica_mut().request_snapshot();
            scene.turn(false);
            assert_eq!(scene.house.handed, 1, "the head of the one that begins");
            scene.disk();
        }
    }

    /// Where nothing else happens, nobody but the disk wakes the loop.
    #[test]
    fn somebody_who_waits_for_the_disk_keeps_the_loop_awake_or_is_woken() {
        let mut scene = Scene::new();
        scene.house.options.backlog_bytes_max = 50;
        assert!(!scene.house.has_reports());
        scene.house.snapshot(Effect::ReceptionBegin { stream: StreamId(7), zxid: Zxid(1) });
        scene.house.snapshot(Effect::ReceptionChunk(vec![0; 40]));
        assert!(scene.house.has_reports(), "the disk takes more");
        scene.house.snapshot(Effect::ReceptionChunk(vec![0; 40]));
        assert!(!scene.house.has_reports(), "it has enough for now");
        let before = scene.wakes.load(Ordering::Relaxed);
        scene.disk();
        assert!(scene.wakes.load(Ordering::Relaxed) > before, "nobody says that it takes more");
        assert!(scene.house.has_reports());
    }

    #[test]
    fn a_last_snapshot_that_fails_is_not_tried_for_ever() {
        let mut scene = Scene::new();
        fs::create_dir(scene.obstacle()).unwrap();
        scene.member.replica_mut().request_snapshot();
        scene.turn(false);
        assert!(!scene.end());
    }
}
