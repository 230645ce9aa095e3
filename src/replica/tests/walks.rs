//! Several walks of the tree at a time: a snapshot file, and streams to receivers that are fast,
//! slow, or gone.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::base::Rng;
use crate::log::{Recovered, RecoveryTarget, SnapshotReader};
use crate::replica::{Restore, StreamId};
use crate::wire::{Reader, Txn, TxnHeader};

pub(super) const TREE: TreeOptions = TreeOptions::STOCK;

/// The bytes of a walk so far, and the chunks that its receiver has not taken.
#[derive(Default)]
pub(super) struct Received {
    pub at: Zxid,
    pub bytes: Vec<u8>,
    waiting: VecDeque<Vec<u8>>,
    is_over: bool,
}

impl Received {
    /// The most that may wait for a receiver, whatever it does.
    const WAITING_MAX: usize = 9 * (64 + 2) * 1024;

    fn chunk(&mut self, bytes: Vec<u8>) {
        assert!(!self.is_over);
        self.waiting.push_back(bytes);
        let waiting: usize = self.waiting.iter().map(Vec::len).sum();
        assert!(waiting <= Received::WAITING_MAX, "{waiting} bytes wait");
    }

    /// The receiver takes a chunk, if there is one.
    fn take(&mut self) -> bool {
        let Some(chunk) = self.waiting.pop_front() else { return false };
        self.bytes.extend_from_slice(&chunk);
        true
    }

    pub fn is_whole(&self) -> bool {
        self.is_over && self.waiting.is_empty()
    }
}

pub(super) struct Walked {
    scene: Scene,
    /// All transactions.
    log: Vec<(Zxid, Vec<u8>)>,
    pub streams: BTreeMap<StreamId, Received>,
    file: Received,
    /// The most bytes that one turn handed out.
    most: usize,
}

impl Walked {
    /// A tree of that many nodes of 300 bytes, made by a client; about a megabyte for 3000.
    pub fn new(nodes: i32) -> (Walked, ConnId) {
        let mut scene = Scene::new(1000, limits(|_| {}));
        let restored = Restored::fresh(Tree::new(TREE));
        let options = ReplicaOptions { digest: true, ..scene.replica.options().clone() };
        scene.replica = Replica::for_tests(scene.now, options, restored);
        scene.replica.lead(scene.now);
        let (streams, file) = (BTreeMap::new(), Received::default());
        let mut walked = Walked { scene, log: Vec::new(), streams, file, most: 0 };
        let conn = ConnId::new(0, 1);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        walked.handle(Input::Opened { conn, peer });
        walked.handle(Input::Frames { conn, bytes: &connect_frame(SessionId(0), TIMEOUT_MS) });
        for n in 0..nodes {
            walked.ask(conn, &create_with(n, &format!("/n{n}"), &[7; 300], ACL_OPEN_BYTES));
        }
        (walked, conn)
    }

    /// One turn.
    pub fn handle(&mut self, input: Input<'_>) {
        self.scene.turn(input);
        let mut bytes_out = 0;
        for effect in std::mem::take(&mut self.scene.effects.list) {
            match effect {
                Effect::Append(batch) => {
                    self.log.extend(batch.iter().map(|(zxid, entry)| (zxid, entry.to_vec())));
                }
                Effect::StreamBegin { stream, zxid } => {
                    let begun = Received { at: zxid, ..Received::default() };
                    assert!(self.streams.insert(stream, begun).is_none());
                }
                Effect::StreamChunk { stream, bytes } => {
                    bytes_out += bytes.len();
                    self.streams.get_mut(&stream).unwrap().chunk(bytes);
                }
                Effect::StreamEnd { stream, is_whole } => {
                    assert!(is_whole);
                    self.streams.get_mut(&stream).unwrap().is_over = true;
                }
                Effect::SnapshotBegin(zxid) => {
                    self.file = Received { at: zxid, ..Received::default() };
                }
                Effect::SnapshotChunk(bytes) => {
                    bytes_out += bytes.len();
                    self.file.chunk(bytes);
                }
                Effect::SnapshotFinish => self.file.is_over = true,
                Effect::Fatal(why) => panic!("{why}"),
                _ => {}
            }
        }
        self.scene.effects.clear();
        self.most = self.most.max(bytes_out);
    }

    /// A request, and all that follows from it.
    fn ask(&mut self, conn: ConnId, frame: &[u8]) {
        self.handle(Input::Frames { conn, bytes: frame });
        while self.scene.replica.outstanding() > 0 {
            let zxid = self.scene.logged;
            self.handle(Input::Logged { zxid });
            self.handle(Input::Committed { zxid });
        }
    }

    pub fn tick(&mut self) {
        self.handle(Input::Tick);
    }

    pub fn stream_takes(&mut self, stream: StreamId) -> bool {
        let took = self.streams.get_mut(&stream).is_some_and(Received::take);
        if took {
            self.handle(Input::StreamReady { stream });
        }
        took
    }

    fn file_takes(&mut self) -> bool {
        let took = self.file.take();
        if took {
            self.handle(Input::SnapshotReady);
        }
        took
    }

    /// What was received, and all transactions after it, are the tree that there is.
    fn check(&self, received: &Received, mut reader: SnapshotReader) {
        let mut restore = Restore::new(TREE);
        let used = reader.feed(&received.bytes, true, &mut restore).unwrap();
        assert!(reader.is_done());
        assert_eq!(used, received.bytes.len());
        restore.snapshot_done(received.at, reader.digest()).unwrap();
        for (_, entry) in self.log.iter().filter(|(zxid, _)| *zxid > received.at) {
            let r = &mut Reader::new(entry);
            let header = TxnHeader::decode_from(r).unwrap();
            let txn = Txn::decode_from(header.kind, r).unwrap();
            restore.txn(&header, &txn, None, entry).unwrap();
        }
        let Restored { tree, sessions, .. } = restore.finish(&Recovered::default());
        assert_eq!(tree.digest(), self.scene.replica.tree().digest());
        assert_eq!(tree.node_count(), self.scene.replica.tree().node_count());
        assert_eq!(sessions.len(), self.scene.replica.session_count());
    }
}

/// What a snapshot file or a stream holds: the tree, and the number of sessions.
pub(super) fn load(bytes: &[u8], at: Zxid, mut reader: SnapshotReader) -> (Tree, usize) {
    let mut restore = Restore::new(TREE);
    let used = reader.feed(bytes, true, &mut restore).unwrap();
    assert!(reader.is_done());
    assert_eq!(used, bytes.len());
    restore.snapshot_done(at, reader.digest()).unwrap();
    let Restored { tree, sessions, .. } = restore.finish(&Recovered::default());
    (tree, sessions.len())
}

/// A create, a delete or a set, of the nodes that there are or of new ones.
fn change(rng: &mut Rng, xid: i32) -> Vec<u8> {
    let path = format!("/n{}", rng.below(4000));
    match rng.below(3) {
        0 => create_with(xid, &path, &[8; 200], ACL_OPEN_BYTES),
        1 => delete(xid, &path),
        _ => set_data(xid, &path, rng.below(400) as usize),
    }
}

#[test]
fn walks_go_on_together_under_load_and_each_is_the_tree_with_what_follows() {
    let mut finished = 0;
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let (mut walked, conn) = Walked::new(3000);
        walked.most = 0;
        let mut next = 1;
        for xid in 0..600 {
            walked.ask(conn, &change(&mut rng, xid));
            match rng.below(20) {
                0 if next < 5 => {
                    walked.handle(Input::StreamWanted { stream: StreamId(next) });
                    next += 1;
                }
                1 => {
                    walked.scene.replica.request_snapshot();
                }
                _ => walked.tick(),
            }
            let stream = StreamId(1 + rng.below(4));
            walked.stream_takes(stream);
            if rng.below(3) == 0 {
                walked.file_takes();
            }
        }
        for stream in (1..next).map(StreamId) {
            while !walked.streams[&stream].is_whole() {
                walked.tick();
                walked.stream_takes(stream);
            }
            walked.check(&walked.streams[&stream], SnapshotReader::stream());
            finished += 1;
        }
        while !walked.file.is_whole() {
            walked.tick();
            walked.file_takes();
        }
        walked.check(&walked.file, SnapshotReader::new());
        walked.handle(Input::SnapshotEnded { ok: true });
        // A node more than a chunk.
        assert!(walked.most < (64 + 2) * 1024, "{} bytes in a turn", walked.most);
    }
    assert!(finished > 10, "{finished} streams");
}

#[test]
fn a_receiver_that_takes_nothing_holds_up_nobody_and_no_memory() {
    let (mut walked, conn) = Walked::new(3000);
    let (slow, fast) = (StreamId(1), StreamId(2));
    walked.handle(Input::StreamWanted { stream: slow });
    walked.handle(Input::StreamWanted { stream: fast });
    for turn in 0..200 {
        walked.tick();
        walked.stream_takes(fast);
        walked.ask(conn, &set_data(turn, "/n5", 10));
    }
    assert!(walked.streams[&fast].is_whole(), "the fast one has everything");
    walked.check(&walked.streams[&fast], SnapshotReader::stream());
    assert_eq!(walked.scene.replica.walks.waiting(), (8, 1));
    assert!(walked.scene.replica.deadline() > Some(Instant(0)), "nothing to do for the slow one");
    // It goes on a chunk at a time.
    let before = walked.streams[&slow].waiting.len();
    assert!(walked.stream_takes(slow));
    assert_eq!(walked.scene.replica.deadline(), Some(Instant(0)));
    walked.tick();
    assert_eq!(walked.streams[&slow].waiting.len(), before);
    // Its end leaves nothing behind.
    walked.handle(Input::StreamGone { stream: slow });
    assert_eq!(walked.scene.replica.walks.waiting(), (0, 0));
    assert!(walked.scene.replica.deadline() > Some(Instant(0)));
    // The name may be used again.
    walked.streams.clear();
    walked.handle(Input::StreamWanted { stream: slow });
    assert_eq!(walked.scene.replica.walks.waiting(), (1, 1));
}

/// What a turn spends on walks is taken from those who wait for their turn.
#[test]
fn walks_are_paid_for_by_the_turn() {
    let (mut walked, _) = Walked::new(3000);
    walked.handle(Input::StreamWanted { stream: StreamId(1) });
    let before = walked.scene.replica.fair.spent;
    walked.tick();
    let cost = walked.scene.replica.fair.spent - before;
    assert!((100_000..150_000).contains(&cost), "{cost} ns for a chunk");
}

/// A snapshot file waits for the disk; a stream shows what is committed, which is enough.
#[test]
fn only_the_file_waits_for_the_log_of_this_server() {
    let (mut walked, conn) = Walked::new(3000);
    walked.handle(Input::Frames { conn, bytes: &set_data(1, "/n1", 5) });
    let zxid = walked.scene.logged;
    walked.handle(Input::Committed { zxid });
    walked.scene.replica.request_snapshot();
    walked.tick();
    assert!(walked.file.waiting.is_empty(), "the disk does not have it yet");
    assert!(walked.scene.replica.deadline() > Some(Instant(0)));
    walked.handle(Input::StreamWanted { stream: StreamId(1) });
    assert_eq!(walked.streams[&StreamId(1)].at, zxid);
    walked.tick();
    assert_eq!(walked.scene.replica.walks.waiting(), (2, 1));
    walked.handle(Input::Logged { zxid });
    walked.tick();
    assert_eq!((walked.file.at, walked.file.waiting.len()), (zxid, 1));
}
