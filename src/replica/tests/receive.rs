//! A database that another member sends: in pieces of any size, interrupted, damaged, too fast for
//! the disk; and what the server is afterwards.

use std::sync::Arc;

use super::walks::{TREE, Walked, load};
use super::*;
use crate::base::Rng;
use crate::log::{Batch, SnapshotError, SnapshotReader};
use crate::replica::{ReceptionError, ReceptionStage, StreamId};
use crate::wire::quorum::{Packet, PacketKind};
use crate::wire::{
    AclBytes, CreateTxn, REFILLED, Reader, Txn, TxnDigest, TxnHeader, TxnType, recorded,
};

const STREAM: StreamId = StreamId(9);

/// A database as it is sent: about 300 kB in 1000 nodes, and two sessions.
fn sent() -> (Vec<u8>, Zxid) {
    let (mut walked, _) = Walked::new(1000);
    walked.handle(Input::StreamWanted { stream: STREAM });
    while !walked.streams[&STREAM].is_whole() {
        walked.tick();
        walked.stream_takes(STREAM);
    }
    let received = &walked.streams[&STREAM];
    (received.bytes.clone(), received.at)
}

const MEMBERSHIP: &str = "server.1=h:1:2:participant\nversion=5";

/// What `/zookeeper/config` has: text, version and mzxid.
fn shown_membership(replica: &Replica) -> (&str, i32, i64) {
    let tree = replica.tree();
    let id = tree.find(&tree.key("/zookeeper/config")).unwrap();
    let stat = tree.stat(id);
    (str::from_utf8(tree.data(id).unwrap()).unwrap(), stat.version, stat.mzxid)
}

/// A server with a client that watches a node of its own, and no leader any more.
struct Learner {
    scene: Scene,
    client: ConnId,
    session: SessionId,
    /// What the disk was given of the reception under way.
    file: Vec<u8>,
    is_finished: bool,
}

impl Learner {
    fn new() -> Learner {
        let mut scene = Scene::new(1000, limits(|_| {}));
        let membership = Some((MEMBERSHIP.to_owned(), Zxid(5)));
        let options = scene.replica.options().clone();
        let options = ReplicaOptions { digest: true, membership, server_id: 2, ..options };
        let restored = Restored::fresh(Tree::new(TREE));
        scene.replica = Replica::for_tests(scene.now, options, restored);
        scene.replica.lead(scene.now);
        let client = scene.connect(0);
        let watch = request(2, OpCode::Exists, |out| {
            put_str(out, "/n1");
            put_bool(out, true);
        });
        scene.send(client, &[create(1, "/old"), watch]);
        scene.settle();
        let session = scene.replica.session_of(client);
        scene.replica.resign(&mut scene.effects);
        scene.effects.clear();
        Learner { scene, client, session, file: Vec::new(), is_finished: false }
    }

    fn begin(&mut self, zxid: Zxid) {
        self.scene.replica.begin_reception(STREAM, zxid, &mut self.scene.effects);
        self.file.clear();
        self.disk();
    }

    /// The disk takes what it was given.
    fn disk(&mut self) {
        for effect in std::mem::take(&mut self.scene.effects.list) {
            match effect {
                Effect::ReceptionChunk(chunk) => {
                    self.file.extend_from_slice(&chunk);
                    self.scene.turn(Input::ReceptionReady { stream: STREAM });
                }
                Effect::ReceptionFinish => self.is_finished = true,
                _ => {}
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<usize, ReceptionError> {
        let used = self.scene.replica.receive(bytes, &mut self.scene.effects);
        self.disk();
        self.scene.replica.check();
        used
    }

    fn state(&self) -> (Zxid, u64, usize) {
        let replica = &self.scene.replica;
        (replica.last_processed(), replica.tree().digest(), replica.session_count())
    }

    fn becomes_durable(&mut self) {
        assert!(self.is_finished);
        self.scene.turn(Input::ReceptionEnded { stream: STREAM, ok: true });
        assert_eq!(self.scene.replica.reception(), Some((STREAM, ReceptionStage::Durable)));
    }

    fn adopt(&mut self) {
        self.scene.replica.adopt(self.scene.now, &mut self.scene.effects);
        self.scene.logged = self.scene.replica.last_processed();
        self.scene.replica.check();
    }
}

#[test]
fn a_database_in_pieces_of_any_size_becomes_that_of_the_server() {
    let (bytes, zxid) = sent();
    let tree = load(&bytes, zxid, SnapshotReader::stream()).0;
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut learner = Learner::new();
        let before = learner.state();
        assert_eq!(shown_membership(&learner.scene.replica), (MEMBERSHIP, -1, 5));
        learner.begin(zxid);
        // What follows on the connection is not taken.
        let mut rest = &[&bytes[..], b"more"].concat()[..];
        while !learner.is_finished {
            let most = [20, 400, 70_000][rng.below(3) as usize];
            let piece = (1 + rng.below(most) as usize).min(rest.len());
            let used = learner.receive(&rest[..piece]).unwrap();
            assert!(used == piece || learner.is_finished);
            rest = &rest[used..];
        }
        assert_eq!(rest, b"more", "seed {seed}");
        // The file is one that a start takes, and the old state is there until it is adopted.
        let (from_file, sessions) = load(&learner.file, zxid, SnapshotReader::new());
        assert_eq!((from_file.digest(), sessions), (tree.digest(), 1));
        assert_eq!(learner.state(), before);
        learner.becomes_durable();
        learner.adopt();
        assert_eq!(learner.state(), (zxid, tree.digest(), 1));
        assert_eq!(learner.scene.replica.tree().node_count(), tree.node_count());
        assert!(learner.scene.replica.reception().is_none());
        // It has its own membership, as before.
        assert_eq!(shown_membership(&learner.scene.replica), (MEMBERSHIP, -1, 5));

        // It serves, numbers go on, and nobody waits for what was watched before.
        let Learner { mut scene, session, .. } = learner;
        scene.replica.lead(scene.now);
        let conn = scene.connect(1);
        assert_eq!(scene.replica.last_processed(), zxid.next());
        scene.send(conn, &[set_data(1, "/n1", 3), exists(2, "/old"), exists(3, "/n7")]);
        scene.settle();
        let codes: Vec<_> = scene.replies(conn).iter().map(|reply| reply.2).collect();
        assert_eq!(codes, [0, -101, 0]);
        assert!(scene.replica.watches().is_empty());
        // A session of the old state is none.
        let old = scene.connect_as(2, session);
        assert!(scene.is_closed(old, CloseHow::AfterFlush));
        assert!(!scene.replica.is_snapshotting(), "there is one of it already");
    }
}

/// The transactions that an Apache sent behind its database state which digest the tree has after
/// each, so the database was read as it was meant.
#[test]
fn the_database_that_an_apache_sent_is_what_its_digests_say() {
    let said: Vec<_> = recorded(REFILLED).into_iter().filter(|said| !said.by_dialler).collect();
    let at = said.iter().position(|said| said.is_database).unwrap();
    let snap = Packet::decode_from(&mut Reader::new(&said[at - 1].bytes)).unwrap();
    assert_eq!(snap.kind, PacketKind::Snap);

    let mut learner = Learner::new();
    learner.begin(snap.zxid);
    assert_eq!(learner.receive(&said[at].bytes), Ok(said[at].bytes.len()));
    learner.becomes_durable();
    learner.adopt();
    let Learner { mut scene, .. } = learner;
    scene.replica.follow(&mut scene.effects);
    let mut stated = None;
    for said in &said[at + 1..] {
        let packet = Packet::decode_from(&mut Reader::new(&said.bytes)).unwrap();
        if packet.kind != PacketKind::Proposal {
            continue;
        }
        let mut batch = Batch::new();
        batch.entry().extend_from_slice(packet.data.unwrap());
        batch.finish_entry(packet.zxid);
        scene.replica.append(scene.now, Arc::new(batch), None, &mut scene.effects);
        scene.handle(Input::Committed { zxid: packet.zxid });
        let mut reader = Reader::new(packet.data.unwrap());
        let header = TxnHeader::decode_from(&mut reader).unwrap();
        Txn::decode_from(header.kind, &mut reader).unwrap();
        let digest = TxnDigest::decode_trailing(&mut reader).unwrap().unwrap();
        assert_eq!(scene.replica.tree().digest(), digest.tree_digest, "{header:?}");
        stated = Some(digest.tree_digest);
    }
    assert!(stated.is_some(), "nothing came behind the database");
    assert_eq!(scene.replica.digest_mismatches(), 0);
}

#[test]
fn clients_are_closed_when_it_begins_and_those_that_came_since_when_it_ends() {
    let (bytes, zxid) = sent();
    let mut learner = Learner::new();
    learner.scene.replica.begin_reception(STREAM, zxid, &mut learner.scene.effects);
    assert!(learner.scene.is_closed(learner.client, CloseHow::AfterFlush));
    learner.disk();
    let late = learner.scene.try_connect(3);
    assert!(learner.receive(&bytes).is_ok());
    learner.becomes_durable();
    assert_eq!(learner.scene.replica.client_count(), 1);
    learner.adopt();
    assert!(learner.scene.is_closed(late, CloseHow::AfterFlush));
    assert_eq!((learner.scene.replica.client_count(), learner.scene.replica.outstanding()), (0, 0));
}

#[test]
fn one_that_is_interrupted_anywhere_leaves_what_there_was() {
    let (bytes, zxid) = sent();
    let pieces = bytes.chunks(20_000).count();
    for after in 0..=pieces + 1 {
        let mut learner = Learner::new();
        let before = learner.state();
        learner.begin(zxid);
        for piece in bytes.chunks(20_000).take(after) {
            learner.receive(piece).unwrap();
        }
        if after > pieces {
            learner.becomes_durable();
        }
        learner.scene.replica.abandon_reception(&mut learner.scene.effects);
        assert!(matches!(learner.scene.effects.list.last(), Some(Effect::ReceptionAbandon)));
        // What the disk still says of it is of no matter.
        learner.scene.turn(Input::ReceptionReady { stream: STREAM });
        learner.scene.turn(Input::ReceptionEnded { stream: STREAM, ok: true });
        assert_eq!(learner.state(), before, "after {after} pieces");
        let mut scene = learner.scene;
        scene.replica.lead(scene.now);
        let again = scene.connect_as(1, learner.session);
        scene.send(again, &[exists(1, "/old")]);
        assert_eq!(scene.replies(again).last().map(|reply| reply.2), Some(0));
    }
}

#[test]
fn a_disk_that_fails_ends_it() {
    let (bytes, zxid) = sent();
    let mut learner = Learner::new();
    learner.begin(zxid);
    learner.receive(&bytes[..1000]).unwrap();
    learner.scene.turn(Input::ReceptionEnded { stream: STREAM, ok: false });
    assert!(learner.scene.replica.reception().is_none());
    assert!(!learner.scene.replica.wants_received());
}

#[test]
fn a_sender_waits_for_the_disk() {
    let (bytes, zxid) = sent();
    let mut learner = Learner::new();
    learner.scene.replica.begin_reception(STREAM, zxid, &mut learner.scene.effects);
    let mut taken = 0;
    for piece in bytes.chunks(10_000) {
        if !learner.scene.replica.wants_received() {
            break;
        }
        taken += learner.scene.replica.receive(piece, &mut learner.scene.effects).unwrap();
    }
    // The file's head is a chunk, too.
    assert_eq!(taken, 70_000);
    learner.scene.turn(Input::ReceptionReady { stream: STREAM });
    assert!(learner.scene.replica.wants_received());
}

#[test]
fn what_is_no_database_is_refused_and_changes_nothing() {
    let (bytes, zxid) = sent();
    let refused = |stream: &[u8]| {
        let mut learner = Learner::new();
        let before = learner.state();
        learner.begin(zxid);
        let mut result = Ok(0);
        for piece in stream.chunks(1 << 20) {
            result = learner.receive(piece);
            if result.is_err() {
                break;
            }
        }
        assert_eq!(learner.state(), before);
        assert_eq!(result.is_err(), learner.scene.replica.reception().is_none());
        result
    };
    assert_eq!(refused(&bytes), Ok(bytes.len()));
    // Its last byte.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() = b'?';
    let offset = bytes.len() as u64 - 14;
    assert_eq!(refused(&other), Err(ReceptionError::Stream(SnapshotError::StreamEnd { offset })));
    // A node of 2 GiB.
    let mut endless = b"\0\0\0\0\0\0\0\0\0\0\0\0\x7f\xff\xff\xff".to_vec();
    endless.resize((64 << 20) + 100, b'x');
    let error = refused(&endless).unwrap_err();
    assert!(matches!(error, ReceptionError::ItemTooLong { bytes } if bytes > 64 << 20), "{error}");
    // A node without its parent.
    let mut orphan = bytes.clone();
    let at = orphan.windows(7).position(|seven| seven == b"\0\0\0\x03/n1").unwrap();
    orphan[at + 4..at + 6].copy_from_slice(b"a/");
    assert!(matches!(refused(&orphan), Err(ReceptionError::Stream(_))));
    // Damage of every kind is refused or accepted, and never more than that.
    let mut rng = Rng::new(5);
    let mut errors = 0;
    for _ in 0..200 {
        let mut damaged = bytes.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(damaged.len() as u64) as usize;
            damaged[at] ^= 1 << rng.below(8);
        }
        errors += u32::from(refused(&damaged).is_err());
    }
    assert!(errors > 10, "{errors}");
}

/// A snapshot file of the old state must not appear beside the new one.
#[test]
fn a_snapshot_of_the_old_tree_is_given_up_behind_the_last_piece() {
    let (bytes, zxid) = sent();
    let mut learner = Learner::new();
    for n in 0..600 {
        // More than a chunk, so that the walk is under way for some turns.
        let path = format!("/x{n}");
        let create = CreateTxn {
            path: &path,
            data: Some(&[1; 300]),
            acl: AclBytes::OPEN,
            ephemeral: false,
            parent_cversion: -1,
            ttl: 0,
        };
        let kind = TxnType::Create;
        let zxid = learner.scene.replica.last_processed();
        let (session, cxid) = (SessionId(1), crate::base::Xid(0));
        let header = TxnHeader { session, cxid, zxid, time_ms: 1, kind };
        let mode = crate::tree::ApplyMode::Live;
        let (tree, txn) = (&mut learner.scene.replica.tree, Txn::Create(create));
        tree.apply(&header, &txn, mode, &mut crate::tree::NoSink);
    }
    learner.begin(zxid);
    learner.scene.replica.request_snapshot();
    learner.scene.turn(Input::Tick);
    learner.scene.turn(Input::Tick);
    assert!(learner.scene.replica.is_snapshotting());
    learner.scene.replica.receive(&bytes, &mut learner.scene.effects).unwrap();
    let list = &learner.scene.effects.list;
    assert!(list.iter().any(|effect| matches!(effect, Effect::SnapshotAbandon)));
    learner.disk();
    // None begins until the new state is there, or cannot come.
    learner.scene.turn(Input::Tick);
    let begins = |effect: &Effect| matches!(effect, Effect::SnapshotBegin(_));
    assert!(!learner.scene.effects.list.iter().any(begins));
    learner.scene.turn(Input::ReceptionEnded { stream: STREAM, ok: false });
    learner.scene.turn(Input::Tick);
    assert!(learner.scene.effects.list.iter().any(begins));
}

/// Who is being sent the old database is told that it ends.
#[test]
fn streams_of_the_old_tree_end_early() {
    let (bytes, zxid) = sent();
    let mut learner = Learner::new();
    learner.begin(zxid);
    learner.scene.turn(Input::StreamWanted { stream: StreamId(4) });
    learner.receive(&bytes).unwrap();
    learner.becomes_durable();
    learner.adopt();
    let cut = |effect: &Effect| {
        matches!(effect, Effect::StreamEnd { stream: StreamId(4), is_whole: false })
    };
    assert!(learner.scene.effects.list.iter().any(cut));
    learner.scene.turn(Input::StreamReady { stream: StreamId(4) });
    learner.scene.turn(Input::StreamWanted { stream: StreamId(5) });
    let whole = |effect: &Effect| {
        matches!(effect, Effect::StreamEnd { stream: StreamId(5), is_whole: true })
    };
    for _ in 0..20 {
        learner.scene.turn(Input::Tick);
        learner.scene.turn(Input::StreamReady { stream: StreamId(5) });
    }
    assert!(learner.scene.effects.list.iter().any(whole));
}
