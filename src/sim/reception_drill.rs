//! A drill for what another member sends, on a simulated disk: a database is received while this
//! server writes a snapshot of its own, with the power failing before every operation on files.
//! Before the log is retired a start gives what there was, however much was received.

use std::sync::Arc;

use crate::base::{Rng, SessionId, Zxid};
use crate::disk::{Chores, Housekeeper, HousekeeperOptions, LogFiles, Report, Reports};
use crate::log::{DataFiles, RecoverOptions, SnapshotReader, SnapshotWriter, recover};
use crate::replica::Restore;
use crate::tree::{Tree, TreeOptions};
use crate::wire::PersistedStat;

use super::files::SimFiles;

const TREE: TreeOptions = TreeOptions::STOCK;

/// A snapshot file of a root, some nodes, and a session.
fn file(nodes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let sessions = [(SessionId(nodes as i64), 4000)].into_iter();
    let mut writer = SnapshotWriter::begin(sessions, [].into_iter(), &mut out);
    let stat = PersistedStat::default();
    writer.node("", Some(b""), -1, &stat, &mut out);
    for n in 0..nodes {
        writer.node(&format!("/n{n}"), Some(&[5; 100]), -1, &stat, &mut out);
    }
    writer.finish(None, None, &mut out);
    out
}

/// What a start gives: the zxid and the number of nodes.
fn start(files: &SimFiles) -> (Zxid, usize) {
    let mut restore = Restore::new(TREE);
    let recovered = recover(files, &RecoverOptions::default(), &mut restore).unwrap();
    (recovered.last_zxid, restore.finish(&recovered).tree.node_count())
}

fn house(files: &Arc<SimFiles>) -> (Housekeeper<SimFiles>, Chores<SimFiles>, Reports) {
    let options = HousekeeperOptions::default();
    Housekeeper::without_thread(Arc::clone(files), options, Box::new(|| {}))
}

/// Writes a snapshot at 5 while one at 9 is received; the power fails before operation `crash_in`.
/// Returns whether it did.
fn receive(files: &Arc<SimFiles>, crash_in: u32, rng: &mut Rng) -> bool {
    let (house, mut chores, reports) = house(files);
    files.disk().crash_in = Some(crash_in);
    let (own, received) = (file(20), file(300));
    house.reception_begin(1, Zxid(9));
    house.snapshot_begin(Zxid(5));
    let mut own = own.chunks(500);
    for piece in received.chunks(5000) {
        house.reception_chunk(piece.to_vec());
        own.next().into_iter().for_each(|piece| house.snapshot_chunk(piece.to_vec()));
        if rng.chance(1, 2) {
            chores.turn();
        }
    }
    own.for_each(|piece| house.snapshot_chunk(piece.to_vec()));
    house.snapshot_finish();
    house.reception_finish();
    while !chores.is_idle() && !files.disk().is_off() {
        chores.turn();
    }
    let is_off = files.disk().is_off();
    if !is_off {
        let said: Vec<Report> = reports.try_iter().collect();
        let is_done = |report: &Report| matches!(report, Report::Received { stream: 1, .. });
        assert!(said.iter().any(is_done), "{said:?}");
        let is_own = |report: &Report| matches!(report, Report::SnapshotDone { .. });
        assert!(said.iter().any(is_own), "{said:?}");
    }
    files.disk().crash(rng);
    is_off
}

#[test]
fn a_start_gives_the_old_state_whenever_the_power_fails() {
    let nodes = Tree::new(TREE).node_count();
    let (mut olds, mut news) = (0, 0);
    for crash_in in 0.. {
        let files = Arc::new(SimFiles::new(u64::from(crash_in), None));
        files.disk().plant("snapshot.3", &file(10)).unwrap();
        let mut rng = Rng::new(u64::from(crash_in));
        let is_off = receive(&files, crash_in, &mut rng);
        let found = start(&files);
        if found == (Zxid(3), nodes + 10) {
            olds += 1;
        } else {
            assert_eq!(found, (Zxid(5), nodes + 20), "its own snapshot, at most: {crash_in}");
            news += 1;
        }
        if is_off {
            continue;
        }
        // What was reported is whole, and survived.
        let path = files.snap_dir().join("received.9");
        let content = files.read(&path).unwrap().unwrap();
        let mut restore = Restore::new(TREE);
        let mut reader = SnapshotReader::new();
        reader.feed(&content, true, &mut restore).unwrap();
        assert_eq!(reader.nodes(), 301);
        break;
    }
    assert!(olds > 10 && news > 0, "{olds} {news}");
}

#[test]
fn what_is_given_up_leaves_no_file() {
    for whole in [false, true] {
        let files = Arc::new(SimFiles::new(1, None));
        let (house, mut chores, reports) = house(&files);
        house.reception_begin(1, Zxid(9));
        house.reception_chunk(file(3));
        if whole {
            house.reception_finish();
        }
        let mut turns = 0;
        while !chores.is_idle() {
            chores.turn();
            turns += 1;
        }
        let path = files.snap_dir().join("received.9");
        assert!(files.exists(&path) && turns > 1);
        house.reception_abandon();
        chores.turn();
        assert!(!files.exists(&path), "whole: {whole}");
        assert_eq!(reports.try_iter().count(), usize::from(whole));
    }
}
