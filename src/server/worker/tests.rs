//! Workers without sockets.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crossbeam_channel::bounded;

use crate::admin::Host;
use crate::auth::{Auth, AuthOptions};
use crate::base::SessionId;
use crate::config::{self, Environment, RawConfig};
use crate::disk::{DataDir, DirOptions, Housekeeper, HousekeeperOptions, LogWriterOptions};
use crate::log::{LogRepair, Recovered};
use crate::replica::{ReplicaOptions, Restored};
use crate::tree::{Tree, TreeOptions};
use crate::wire::connect_frame;

use super::super::links::Mailbox;
use super::*;

/// A worker without stages, and its mailbox: who floods it is all that matters.
fn worker() -> (Worker, Mailbox) {
    let (mailbox, inbox) = Mailbox::new().unwrap();
    let mailboxes = vec![mailbox.clone()];
    let parts = WorkerParts {
        index: 0,
        cpu: None,
        edge: None,
        brain: None,
        log: None,
        inbox,
        routes: Routes { mailboxes, front_at: vec![0], replica_at: 0, log_at: 0 },
        measures: Arc::new(Measures::default()),
        ring: RingOptions { entries: 64, multishot: false, buffers: 8, buffer_size: 4096 },
        busy_poll: Duration::ZERO,
    };
    (Worker::new(parts).unwrap(), mailbox)
}

#[test]
fn a_turn_takes_a_bounded_number_of_messages() {
    let (mut worker, mailbox) = worker();
    let all = 3 * MESSAGES_MAX + 1;
    for _ in 0..all {
        mailbox.send(Message::FromFront(FrontTurn::default())).unwrap();
    }
    for left in [2 * MESSAGES_MAX + 1, MESSAGES_MAX + 1, 1, 0] {
        assert!(matches!(worker.receive(), Ok(Received::Something)));
        assert_eq!(worker.parts.inbox.len(), left);
    }
    assert!(matches!(worker.receive(), Ok(Received::Nothing)));
}

#[test]
fn a_turn_takes_a_bounded_number_of_completions() {
    let (mut worker, _mailbox) = worker();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _far = listener.accept().unwrap();
    // Fewer than the ring's queue of completions holds.
    for _ in 0..COMPLETIONS_MAX + 50 {
        worker.ring.send(near.as_raw_fd(), vec![1], 0, 0).unwrap();
    }
    worker.ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(worker.take_completions(), Ok(COMPLETIONS_MAX));
    let mut rest = 0;
    while rest < 50 {
        worker.ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
        rest += worker.take_completions().unwrap();
    }
    assert_eq!((rest, worker.ring.in_flight()), (50, 0));
}

/// A worker with replica and log, whose fronts are elsewhere.
fn worker_with_brain(home: &tempfile::TempDir) -> Worker {
    let (mut worker, _) = worker();
    let measures = Arc::clone(&worker.parts.measures);
    let data_dir = home.path().to_owned();
    let dir = DataDir::open(&DirOptions { data_dir, log_dir: None, autocreate: true });
    let dir = Arc::new(dir.unwrap());
    let (house, _, reports) = Housekeeper::without_thread(
        Arc::clone(&dir),
        HousekeeperOptions::default(),
        Box::new(|| {}),
    );
    let recovered = Recovered {
        last_zxid: Zxid::ZERO,
        snapshot_zxid: None,
        entries_replayed: 0,
        empty: None,
        notes: Vec::new(),
        repair: LogRepair { next_group: 1, ..LogRepair::default() },
    };
    let options = LogWriterOptions { segment_size: 1 << 20, ..LogWriterOptions::default() };
    let writer = LogWriter::open(dir, &recovered, options, &house).unwrap();
    let slow = Duration::MAX;
    worker.parts.log = Some(LogStage { writer, in_flight: None, inline: false, slow });
    let tree = Tree::new(TreeOptions {
        extended_types: false,
        emulate_353_ttl: false,
        digest: false,
        hash_seed: 1,
    });
    let auth = Auth::new(AuthOptions::default()).unwrap();
    let (options, restored) = (ReplicaOptions::default(), Restored::fresh(tree));
    let replica = Replica::new(cpu::now(), options, auth, restored, SessionId(1 << 56));
    let mut raw = RawConfig::new();
    raw.add_file(
        "zoo.cfg",
        format!("dataDir={}\nclientPort=1\n", home.path().display()).as_bytes(),
    );
    let (settings, _) = config::check(&raw, &Environment::default()).into_settings().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    worker.parts.brain = Some(Brain {
        replica,
        fx: Effects::default(),
        house: Housekeeping::new(house, reports, None, 3, Arc::clone(&measures), bounded(1).0),
        admin: AdminContext::new(&settings, address, Host::default(), measures),
    });
    worker
}

impl Worker {
    fn brain(&mut self) -> &mut Brain {
        self.parts.brain.as_mut().unwrap()
    }

    /// Handles what completes until more than `before` is applied.
    fn wait_for_disk(&mut self, before: Zxid) {
        // A disk that others use, too, may take its time; it is a hang that must end.
        for _ in 0..12 {
            if self.brain().replica.last_processed() != before {
                return;
            }
            self.ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
            self.take_completions().unwrap();
        }
        panic!("the disk does not finish");
    }

    fn is_writing(&self) -> bool {
        self.parts.log.as_ref().unwrap().in_flight.is_some()
    }

    /// A client asks for a session, which is a write.
    fn ask_for_session(&mut self, slot: u32) {
        let conn = ConnId::new(slot, 1);
        let (now, peer) = (self.now, SocketAddr::from(([127, 0, 0, 1], 1)));
        let frame = connect_frame(SessionId(0), 10_000);
        let brain = self.brain();
        brain.replica.handle(now, Input::Opened { conn, peer }, &mut brain.fx);
        brain.replica.handle(now, Input::Frames { conn, bytes: &frame }, &mut brain.fx);
    }
}

#[test]
fn the_next_write_begins_in_the_turn_in_which_the_last_one_ended() {
    let home = tempfile::tempdir().unwrap();
    let mut worker = worker_with_brain(&home);
    worker.ask_for_session(0);
    worker.finish_turn().unwrap();
    assert!(worker.is_writing());
    worker.ask_for_session(1);
    worker.wait_for_disk(Zxid::ZERO);
    assert_eq!(worker.brain().replica.last_processed(), Zxid(1));
    assert!(worker.is_writing(), "the disk stands still until the turn ends");
    worker.wait_for_disk(Zxid(1));
    assert_eq!(worker.brain().replica.last_processed(), Zxid(2));
}
