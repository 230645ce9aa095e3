//! Real directories: append and recover, fall back, refuse, lock, purge.

mod epochs;
mod guard;
mod regress;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::base::{Rng, SessionId, Xid, Zxid};
use crate::log::{
    Batch, Compression, Party, SnapshotDigest, SnapshotNode, SnapshotVisitor, SnapshotWriter,
    load_snapshot, looks_valid, put_apache_header, put_apache_record,
};
use crate::wire::{AclBytes, PersistedStat, Txn, TxnDigest, TxnHeader, TxnType, put_i32};

use super::*;

fn entry(zxid: i64, timeout_ms: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let (session, cxid, kind) = (SessionId(zxid), Xid(0), TxnType::CreateSession);
    TxnHeader { session, cxid, zxid: Zxid(zxid), time_ms: 5, kind }.encode_into(&mut out);
    put_i32(&mut out, timeout_ms);
    out
}

fn batch(zxids: std::ops::RangeInclusive<i64>) -> Arc<Batch> {
    let mut batch = Batch::new();
    for zxid in zxids {
        batch.entry().extend_from_slice(&entry(zxid, zxid as i32));
        batch.finish_entry(Zxid(zxid));
    }
    Arc::new(batch)
}

/// Keeps the last state: nodes of the snapshot, zxids of the transactions.
#[derive(Default, Debug, PartialEq)]
struct State {
    nodes: Vec<String>,
    snapshot: Option<Zxid>,
    txns: Vec<i64>,
}

impl SnapshotVisitor for State {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: AclBytes<'_>) -> Result<(), String> {
        Ok(())
    }
    fn node(&mut self, node: &SnapshotNode<'_>) -> Result<(), String> {
        self.nodes.push(node.path.to_owned());
        Ok(())
    }
}

impl RecoveryTarget for State {
    fn reset(&mut self) {
        *self = State::default();
    }
    fn snapshot_done(&mut self, zxid: Zxid, _: Option<SnapshotDigest>) -> Result<(), String> {
        self.snapshot = Some(zxid);
        Ok(())
    }
    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        _: Option<TxnDigest>,
        _: &[u8],
    ) -> Result<(), String> {
        assert_eq!(*txn, Txn::CreateSession { timeout_ms: header.zxid.0 as i32 });
        self.txns.push(header.zxid.0);
        Ok(())
    }
}

fn snapshot_bytes(nodes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let none = std::iter::empty();
    let mut w = SnapshotWriter::begin(none, Vec::new().into_iter(), &mut out);
    w.node("", Some(b""), -1, &PersistedStat::default(), &mut out);
    for i in 0..nodes {
        w.node(&format!("/n{i}"), Some(&[7; 100]), -1, &PersistedStat::default(), &mut out);
    }
    let digest = SnapshotDigest { zxid: Zxid(0), version: 2, digest: 0 };
    w.finish(Some(digest), Some(Zxid(0)), &mut out);
    out
}

struct Dirs {
    root: tempfile::TempDir,
    options: LogWriterOptions,
}

impl Dirs {
    fn new() -> Dirs {
        let root = tempfile::tempdir().unwrap();
        let options = LogWriterOptions {
            segment_size: 64 << 10,
            write_size_max: 16 << 10,
            ..LogWriterOptions::default()
        };
        Dirs { root, options }
    }

    fn dir_options(&self) -> DirOptions {
        DirOptions { data_dir: self.root.path().to_owned(), log_dir: None, autocreate: true }
    }

    fn open(&self) -> Arc<DataDir> {
        Arc::new(DataDir::open(&self.dir_options()).unwrap())
    }

    fn version_2(&self) -> std::path::PathBuf {
        self.root.path().join("version-2")
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.version_2()).unwrap();
        fs::write(self.version_2().join(name), bytes).unwrap();
    }

    /// Damages the first record of a segment; what the file was before is returned.
    fn damage(&self, name: &str) -> Vec<u8> {
        let good = fs::read(self.version_2().join(name)).unwrap();
        let mut bad = good.clone();
        bad[4096 + 20] ^= 1;
        self.put(name, &bad);
        good
    }

    /// Nothing of a segment's writes reached the disk.
    fn wipe(&self, name: &str) {
        let mut bytes = fs::read(self.version_2().join(name)).unwrap();
        bytes[4096..].fill(0);
        self.put(name, &bytes);
    }

    /// Recovery refuses to go on because of damage.
    fn expect_damage(&self) {
        let error = self.recover().map(|(recovered, _)| recovered.last_zxid).unwrap_err();
        assert_eq!(error.kind, RecoverErrorKind::Damage, "{error}");
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.version_2())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.starts_with(prefix))
            .collect();
        names.sort();
        names
    }

    #[allow(clippy::result_large_err, reason = "a test")]
    fn recover(&self) -> Result<(Recovered, State), RecoverError> {
        let dir = self.open();
        let mut state = State::default();
        let mut recovered = recover(&dir, &RecoverOptions::default(), &mut state)?;
        recovered.commit_tail(&mut state).unwrap();
        Ok((recovered, state))
    }

    /// Recovers, then runs `f` with a writer that goes on after the recovered log.
    fn run(&self, f: impl FnOnce(&mut LogWriter, &Housekeeper, &Receiver<Report>)) -> State {
        let dir = self.open();
        let mut state = State::default();
        let mut recovered = recover(&dir, &RecoverOptions::default(), &mut state).unwrap();
        recovered.commit_tail(&mut state).unwrap();
        let options = HousekeeperOptions::default();
        let (house, reports) =
            Housekeeper::start(Arc::clone(&dir), options, Box::new(|| {})).unwrap();
        let mut writer = LogWriter::open(dir, &recovered, self.options, &house).unwrap();
        f(&mut writer, &house, &reports);
        state
    }
}

fn write_all(writer: &mut LogWriter, zxids: std::ops::RangeInclusive<i64>) {
    for zxid in zxids {
        writer.submit(batch(zxid..=zxid));
        assert_eq!(writer.write_sync().unwrap(), Some(Zxid(zxid)));
    }
}

#[test]
fn what_was_written_is_recovered_over_many_starts_and_segments() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(2));
    let mut next = 1;
    for _ in 0..4 {
        let state = dirs.run(|writer, _, _| {
            write_all(writer, next..=next + 99);
            writer.submit(batch(next + 100..=next + 1999));
            while writer.write_sync().unwrap().is_some() {}
            writer.ask_roll();
            write_all(writer, next + 2000..=next + 2000);
            assert_eq!(writer.durable(), Zxid(next + 2000));
        });
        assert_eq!(state.txns, (1..next).collect::<Vec<_>>());
        assert_eq!(state.nodes, ["", "/n0", "/n1"]);
        next += 2001;
    }
    assert!(dirs.names("wal.").len() > 8);
    assert_eq!(dirs.recover().unwrap().0.last_zxid, Zxid(next - 1));
}

#[test]
fn a_write_in_flight_is_handed_back_and_gathers_the_next() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| {
        writer.submit(batch(1..=2));
        let write = writer.begin_write().unwrap().unwrap();
        writer.submit(batch(3..=9));
        assert!(writer.begin_write().unwrap().is_none() && writer.is_writing());
        assert_eq!(writer.durable(), Zxid(0));
        // A short write is completed in line.
        assert_eq!(writer.finish_write(write, Ok(0)).unwrap(), Zxid(2));
        assert_eq!(writer.write_sync().unwrap(), Some(Zxid(9)));
        writer.submit(batch(10..=10));
        let write = writer.begin_write().unwrap().unwrap();
        let full = std::io::Error::from_raw_os_error(28);
        let error = writer.finish_write(write, Err(full)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("0x9") && text.contains("Free space"), "{text}");
    });
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=9).collect::<Vec<_>>());
}

#[test]
fn a_large_transaction_gets_a_segment_of_its_own() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| {
        let mut big = Batch::new();
        let mut bytes = entry(1, 1);
        bytes.resize(300_000, 0);
        big.entry().extend_from_slice(&bytes);
        big.finish_entry(Zxid(1));
        writer.submit(Arc::new(big));
        assert_eq!(writer.write_sync().unwrap(), Some(Zxid(1)));
        write_all(writer, 2..=100);
    });
    assert_eq!(dirs.names("wal.").len(), 2);
    assert!(fs::metadata(dirs.version_2().join("wal.1")).unwrap().len() > 300_000);
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=100).collect::<Vec<_>>());
}

/// Flips and cuts over a directory of several segments: recovery gives everything acknowledged,
/// everything but the last write, or an error; and a start after it goes on from there.
#[test]
fn damage_in_any_segment_is_refused_or_is_the_last_write() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| {
        for first in (1..3000).step_by(50) {
            writer.submit(batch(first..=first + 49));
            writer.write_sync().unwrap();
        }
    });
    let segments = dirs.names("wal.");
    assert!(segments.len() >= 3, "{segments:?}");
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let path = dirs.version_2().join(&segments[rng.below(segments.len() as u64) as usize]);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let at = rng.below(bytes.len() as u64) as usize;
        if rng.chance(1, 2) {
            bytes[at] ^= 1 << rng.below(8);
        } else {
            // Less than one write: wiping the last writes whole leaves a shorter, clean log.
            let n = (rng.below(2400) as usize).min(bytes.len() - at);
            bytes[at..at + n].fill(0);
        }
        fs::write(&path, &bytes).unwrap();
        match dirs.recover() {
            Ok((recovered, state)) => {
                assert!(recovered.last_zxid.0 >= 2950, "seed {seed}: {recovered:?}");
                assert_eq!(state.txns, (1..=recovered.last_zxid.0).collect::<Vec<_>>());
            }
            Err(e) => assert!(e.offset.is_some() && !e.advice.is_empty(), "seed {seed}: {e}"),
        }
        fs::write(&path, &good).unwrap();
    }
    fs::remove_file(dirs.version_2().join(&segments[1])).unwrap();
    let error = dirs.recover().unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::Damage, "{error}");
}

#[test]
fn damage_in_the_first_of_two_writes_is_no_torn_write() {
    for first in [1, 4] {
        let dirs = Dirs::new();
        dirs.put("snapshot.0", &snapshot_bytes(1));
        dirs.run(|writer, _, _| {
            if first > 1 {
                write_all(writer, 1..=first - 1);
                writer.ask_roll();
            }
            write_all(writer, first..=first);
            write_all(writer, first + 1..=first + 1);
        });
        if first > 1 {
            // Makes the earlier segment superfluous, but it is still there.
            dirs.put(&format!("snapshot.{}", first - 1), &snapshot_bytes(1));
        }
        dirs.damage(&format!("wal.{first}"));
        dirs.expect_damage();
    }
}

#[test]
fn a_log_without_a_snapshot_begins_with_its_first_transaction() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| write_all(writer, 1..=1));
    dirs.run(|writer, _, _| write_all(writer, 2..=2));
    // The second start has closed the segment of the first, which is not its end any more.
    dirs.damage("wal.1");
    dirs.expect_damage();
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| write_all(writer, 1..=20));
    let path = dirs.version_2().join("wal.1");
    let mut bytes = fs::read(&path).unwrap();
    // The last record's last bytes never made it.
    let end = bytes.iter().rposition(|&b| b != 0).unwrap();
    bytes[end - 1..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let state = dirs.run(|writer, _, _| write_all(writer, 20..=30));
    assert_eq!(state.txns, (1..=19).collect::<Vec<_>>());
    assert_eq!(dirs.names("wal."), ["wal.1", "wal.14"]);
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=30).collect::<Vec<_>>());
}

/// The snapshot covers all but a write that was torn, so nothing of the log is replayed. It goes on
/// after what is there all the same: should the snapshot break one day, all of it is needed.
#[test]
fn a_log_that_a_snapshot_made_superfluous_goes_on_without_a_gap() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| {
        write_all(writer, 1..=10);
        writer.ask_roll();
        write_all(writer, 11..=11);
    });
    dirs.put("snapshot.a", &snapshot_bytes(2));
    let path = dirs.version_2().join("wal.b");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0);
    fs::write(&path, &bytes).unwrap();
    let state = dirs.run(|writer, _, _| write_all(writer, 11..=12));
    assert_eq!((state.snapshot, state.txns), (Some(Zxid(10)), vec![]));
    assert_eq!(dirs.names("wal."), ["wal.1", "wal.b"]);
    dirs.put("snapshot.a", b"broken");
    let (recovered, state) = dirs.recover().unwrap();
    assert_eq!((state.snapshot, recovered.last_zxid), (Some(Zxid(0)), Zxid(12)));
    assert_eq!(state.txns, (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_segment_whose_name_was_lost_is_found() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| {
        write_all(writer, 1..=5);
        writer.ask_roll();
        write_all(writer, 6..=9);
    });
    let v2 = dirs.version_2();
    fs::rename(v2.join("wal.6"), v2.join("spare.0123")).unwrap();
    let state = dirs.run(|writer, _, _| write_all(writer, 10..=11));
    assert_eq!(state.txns, (1..=9).collect::<Vec<_>>());
    assert_eq!(dirs.names("wal."), ["wal.1", "wal.6", "wal.a"]);
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=11).collect::<Vec<_>>());
}

fn apache_log(zxids: std::ops::RangeInclusive<i64>) -> Vec<u8> {
    let mut out = Vec::new();
    put_apache_header(&mut out);
    for zxid in zxids {
        put_apache_record(&mut out, &entry(zxid, zxid as i32));
    }
    out.resize(out.len() + 10_000, 0);
    out
}

#[test]
fn an_apache_directory_is_taken_over() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.put("snapshot.8", &snapshot_bytes(2));
    dirs.put("log.1", &apache_log(1..=4));
    dirs.put("log.5", &apache_log(5..=10));
    dirs.put("log.5.bak", &apache_log(5..=10));
    dirs.put("log.b", &apache_log(11..=12));
    let state = dirs.run(|writer, _, _| write_all(writer, 13..=15));
    assert_eq!((state.snapshot, state.txns), (Some(Zxid(8)), vec![9, 10, 11, 12]));
    let (recovered, state) = dirs.recover().unwrap();
    assert_eq!(state.txns, (9..=15).collect::<Vec<_>>());
    assert!(recovered.notes[0].contains("more than one"), "{:?}", recovered.notes);
    // The newest snapshot breaks: the older one and the logs give the same.
    let good = fs::read(dirs.version_2().join("snapshot.8")).unwrap();
    let mut bad = good.clone();
    bad[60] ^= 1;
    dirs.put("snapshot.8", &bad);
    let (recovered, state) = dirs.recover().unwrap();
    assert_eq!((state.snapshot, recovered.last_zxid), (Some(Zxid(0)), Zxid(15)));
    assert_eq!((state.nodes.len(), state.txns.len()), (2, 15));
    // … unless the log does not reach back.
    fs::remove_file(dirs.version_2().join("log.1")).unwrap();
    let error = dirs.recover().unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::Gap);
    assert!(error.to_string().contains("snapshot.8"), "{error}");
}

#[test]
fn a_damaged_snapshot_ahead_of_the_log_is_refused() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.put("snapshot.64", &snapshot_bytes(1)[..100]);
    dirs.put("log.1", &apache_log(1..=4));
    let error = dirs.recover().unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::SnapshotAhead, "{error}");
}

#[test]
fn logs_without_a_snapshot_need_trust() {
    let dirs = Dirs::new();
    dirs.put("log.1", &apache_log(1..=4));
    let error = dirs.recover().unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::NoSnapshot);
    assert!(error.to_string().contains("trust.empty"), "{error}");
    let dir = dirs.open();
    let mut state = State::default();
    let trusting = RecoverOptions { trust_empty: true, ..RecoverOptions::default() };
    let recovered = recover(&dir, &trusting, &mut state).unwrap();
    assert_eq!((recovered.last_zxid, recovered.snapshot_zxid), (Zxid(4), None));
}

#[test]
fn an_empty_directory_is_trusted_or_not() {
    let dirs = Dirs::new();
    let (recovered, _) = dirs.recover().unwrap();
    assert_eq!((recovered.empty, recovered.last_zxid), (Some(EmptyStart::Trusted), Zxid(0)));
    let strict = RecoverOptions { db_autocreate: false, ..RecoverOptions::default() };
    let attempt = || {
        let dir = dirs.open();
        recover(&dir, &strict, &mut State::default()).unwrap()
    };
    assert_eq!((attempt().empty, attempt().last_zxid), (Some(EmptyStart::Untrusted), Zxid(-1)));
    fs::write(dirs.root.path().join("initialize"), "").unwrap();
    assert_eq!(attempt().empty, Some(EmptyStart::Trusted));
    assert!(!dirs.root.path().join("initialize").exists());
}

/// Its files of epochs are left: it may have forgotten what it had acknowledged.
#[test]
fn a_member_whose_database_was_taken_away_is_not_trusted() {
    let dirs = Dirs::new();
    let version_dir = dirs.open().snap_dir().to_owned();
    let found = |party| {
        let options = RecoverOptions { party, ..RecoverOptions::default() };
        let recovered = recover(&dirs.open(), &options, &mut State::default()).unwrap();
        (recovered.empty, recovered.epochs.map(|epochs| (epochs.accepted.0, epochs.current.0)))
    };
    // Written by a start that came to no leader.
    fs::write(version_dir.join("acceptedEpoch"), "0").unwrap();
    assert_eq!(found(Party::Member), (Some(EmptyStart::Trusted), Some((0, 0))));
    fs::write(version_dir.join("acceptedEpoch"), "3").unwrap();
    fs::write(version_dir.join("currentEpoch"), "2").unwrap();
    assert_eq!(found(Party::Member), (Some(EmptyStart::Untrusted), Some((3, 2))));
    assert_eq!(found(Party::Alone).0, Some(EmptyStart::Trusted));
    fs::write(dirs.root.path().join("initialize"), "").unwrap();
    assert_eq!(found(Party::Member).0, Some(EmptyStart::Trusted));
}

#[test]
fn one_server_per_directory() {
    let dirs = Dirs::new();
    let held = dirs.open();
    let error = DataDir::open(&dirs.dir_options()).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(error, DirError::Locked { pid: Some(p), .. } if p == pid), "{error}");
    drop(held);
    DataDir::open(&dirs.dir_options()).unwrap();
    let missing = dirs.root.path().join("x");
    let options = DirOptions { data_dir: missing, log_dir: None, autocreate: false };
    assert!(matches!(DataDir::open(&options), Err(DirError::Missing { .. })));
    let proc = DirOptions { data_dir: "/proc/x".into(), log_dir: None, autocreate: true };
    assert!(matches!(DataDir::open(&proc), Err(DirError::Io { .. })));
    let log_dir = Some(dirs.root.path().join("logs"));
    dirs.put("log.1", b"");
    let split = DirOptions { log_dir, ..dirs.dir_options() };
    assert!(matches!(DataDir::open(&split), Err(DirError::Misplaced { .. })));
}

fn take_snapshot(
    house: &Housekeeper,
    reports: &Receiver<Report>,
    zxid: i64,
    bytes: &[u8],
) -> Report {
    house.snapshot_begin(Zxid(zxid));
    for chunk in bytes.chunks(10_000) {
        house.snapshot_chunk(chunk.to_vec());
    }
    house.snapshot_finish();
    reports.recv().unwrap()
}

#[test]
fn snapshots_are_published_and_segments_recycled() {
    let dirs = Dirs::new();
    dirs.run(|writer, house, reports| {
        for round in 1..=5 {
            let first = (round - 1) * 1000 + 1;
            for part in 0..10 {
                writer.submit(batch(first + part * 100..=first + part * 100 + 99));
                writer.write_sync().unwrap();
            }
            writer.ask_roll();
            let done = take_snapshot(house, reports, round * 1000, &snapshot_bytes(1000));
            assert!(matches!(done, Report::SnapshotDone { bytes, .. } if bytes > 100_000));
            assert_eq!(house.snapshot_backlog(), 0);
        }
        house.purge(PurgePolicy { snapshots: Some(3), segments_back_to: 3 });
        let Report::Purged(purged) = reports.recv().unwrap() else { panic!("a purge") };
        assert_eq!((purged.removed.len(), purged.segments.len() >= 2), (2, true));
        house.dir_sizes();
        let Report::DirSizes { snap_bytes, log_bytes } = reports.recv().unwrap() else {
            panic!("sizes")
        };
        // Spare segments take room as well.
        assert!(!dirs.names("spare.").is_empty());
        let files = fs::read_dir(dirs.version_2()).unwrap();
        let all: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!((snap_bytes, log_bytes), (all, all));
        for zxid in 5001..=5400 {
            writer.submit(batch(zxid..=zxid));
        }
        while writer.write_sync().unwrap().is_some() {}
    });
    assert_eq!(dirs.names("snapshot."), ["snapshot.1388", "snapshot.bb8", "snapshot.fa0"]);
    let (recovered, state) = dirs.recover().unwrap();
    assert_eq!((recovered.last_zxid, state.nodes.len()), (Zxid(5400), 1001));
    // Both newer snapshots break: the third, and the log after it, are still enough.
    dirs.put("snapshot.1388", b"broken");
    dirs.put("snapshot.fa0", b"broken");
    let (recovered, state) = dirs.recover().unwrap();
    assert_eq!(recovered.last_zxid, Zxid(5400));
    assert_eq!(state.txns, (3001..=5400).collect::<Vec<_>>());
}

#[test]
fn compressed_snapshots_load() {
    for (method, name) in [("gz", "snapshot.0.gz"), ("snappy", "snapshot.0.snappy")] {
        let dirs = Dirs::new();
        let dir = dirs.open();
        let compression = Compression::from_config(method).unwrap();
        let options = HousekeeperOptions { compression };
        let (house, reports) = Housekeeper::start(dir, options, Box::new(|| {})).unwrap();
        let done = take_snapshot(&house, &reports, 0, &snapshot_bytes(20_000));
        assert!(matches!(done, Report::SnapshotDone { .. }));
        drop(house);
        assert_eq!(dirs.names("snapshot."), [name]);
        let (_, state) = dirs.recover().unwrap();
        assert_eq!(state.nodes.len(), 20_001);
        let path = dirs.version_2().join(name);
        let bytes = fs::read(&path).unwrap();
        let bytes = &bytes[..bytes.len() - 300];
        fs::write(&path, bytes).unwrap();
        assert!(looks_valid(&path, bytes));
        assert!(load_snapshot(&path, bytes, &mut State::default()).is_err());
        dirs.put("log.1", &apache_log(1..=2));
        assert_eq!(dirs.recover().unwrap_err().kind, RecoverErrorKind::BadSnapshots);
    }
}

#[test]
fn a_log_that_cannot_grow_stops_with_a_message() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| {
        write_all(writer, 1..=3);
        fs::write(dirs.version_2().join("wal.4"), b"in the way").unwrap();
        writer.ask_roll();
        writer.submit(batch(4..=4));
        let error = writer.write_sync().unwrap_err();
        assert!(error.to_string().contains("up to 0x3 are safe"), "{error}");
    });
    // Nothing of transaction 4 was acknowledged, and the foreign file is not overlooked.
    assert_eq!(dirs.recover().unwrap_err().kind, RecoverErrorKind::Damage);
    fs::remove_file(dirs.version_2().join("wal.4")).unwrap();
    assert_eq!(dirs.recover().unwrap().1.txns, [1, 2, 3]);
}

#[test]
fn a_full_disk_costs_a_snapshot_and_stops_the_log() {
    let full = Path::new("/dev/full");
    let dirs = Dirs::new();
    let dir = dirs.open();
    // The temporary file is the device that is always full.
    std::os::unix::fs::symlink(full, dirs.version_2().join("snapshot.9.tmp")).unwrap();
    let options = HousekeeperOptions::default();
    let (house, reports) = Housekeeper::start(dir, options, Box::new(|| {})).unwrap();
    let failed = take_snapshot(&house, &reports, 9, &snapshot_bytes(500));
    let Report::SnapshotFailed { zxid: Zxid(9), error, .. } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(dirs.names("snapshot.").is_empty());
    let done = take_snapshot(&house, &reports, 10, &snapshot_bytes(5));
    assert!(matches!(done, Report::SnapshotDone { .. }));
}

/// What a killed Ringkeeper left: a snapshot at 4 and a log up to 10. Apache reads the snapshot
/// alone, goes on from there, and gives zxids a second time.
fn stale() -> Dirs {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| {
        write_all(writer, 1..=6);
        writer.ask_roll();
        write_all(writer, 7..=10);
    });
    dirs.put("snapshot.4", &snapshot_bytes(1));
    dirs
}

#[test]
fn two_histories_are_refused_whatever_snapshots_say() {
    type Files<'a> = &'a [(&'a str, Vec<u8>)];
    let snapshot = snapshot_bytes(2);
    let cases: [(&str, Files<'_>); 6] = [
        ("0x7", &[("log.5", apache_log(5..=7))]),
        ("inside", &[("log.5", apache_log(5..=7)), ("snapshot.5", snapshot.clone())]),
        ("at its end", &[("log.5", apache_log(5..=7)), ("snapshot.7", snapshot.clone())]),
        ("ours is older", &[("log.5", apache_log(5..=40)), ("snapshot.28", snapshot.clone())]),
        ("alike names", &[("log.7", apache_log(7..=7)), ("snapshot.7", snapshot.clone())]),
        // The call that came last has gone on, and covers everything.
        (
            "in the middle",
            &[
                ("log.5", apache_log(5..=12)),
                ("snapshot.c", snapshot.clone()),
                ("log.d", apache_log(13..=14)),
                ("snapshot.e", snapshot.clone()),
            ],
        ),
    ];
    for (case, files) in cases {
        let dirs = stale();
        for (name, bytes) in files {
            dirs.put(name, bytes);
        }
        let before = dirs.names("");
        let error = dirs.recover().map(|(r, _)| r).expect_err(case);
        assert_eq!(error.kind, RecoverErrorKind::Overlap, "{case}: {error}");
        let apache = files[0].0;
        let fork = apache.rsplit('.').next().unwrap();
        let text = error.to_string();
        for part in [
            "/wal.",
            apache,
            "mixes two histories",
            &format!("To keep Ringkeeper's, move {apache}, all later log.*"),
            &format!("to keep Apache's, move wal.{}", if fork == "5" { "1" } else { "7" }),
        ] {
            assert!(text.contains(part), "{case}: no {part:?} in {text}");
        }
        assert_eq!(dirs.names(""), before, "nothing was changed");
    }
    // Ours began a second time: somebody put an old copy of Apache's files back.
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.put("log.1", &apache_log(1..=4));
    dirs.run(|writer, _, _| write_all(writer, 5..=6));
    dirs.put("snapshot.6", &snapshot_bytes(1));
    dirs.put("log.1", &apache_log(1..=5));
    assert_eq!(dirs.recover().unwrap_err().kind, RecoverErrorKind::Overlap);
}

/// A snapshot with a node of transaction 9, as of `time_ms`.
fn snapshot_of_9(path: &str, time_ms: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = SnapshotWriter::begin(std::iter::empty(), Vec::new().into_iter(), &mut out);
    writer.node("", Some(b""), -1, &PersistedStat::default(), &mut out);
    let stat = PersistedStat { mzxid: 9, mtime: time_ms, ..PersistedStat::default() };
    writer.node(path, Some(b""), -1, &stat, &mut out);
    writer.finish(None, None, &mut out);
    out
}

/// Apache has purged the logs that show it, or somebody has moved them and not the snapshot.
#[test]
fn a_snapshot_of_another_history_is_refused_without_its_logs() {
    for name in ["snapshot.9", "snapshot.28"] {
        let dirs = stale();
        if name == "snapshot.28" {
            dirs.put("log.20", &apache_log(32..=41));
        }
        dirs.put(name, &snapshot_of_9("/theirs", 6));
        let error = dirs.recover().map(|(r, _)| r).expect_err(name);
        assert_eq!(error.kind, RecoverErrorKind::Overlap, "{error}");
        let text = error.to_string();
        for part in [name, "/theirs", "0x9", "/wal.7", "keep Apache's, move wal.7 "] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        // Ours, or a node that Apache writes at each start.
        for (path, time_ms) in [("/ours", 5), ("/zookeeper/config", 6)] {
            dirs.put(name, &snapshot_of_9(path, time_ms));
            let last = if name == "snapshot.28" { 41 } else { 10 };
            assert_eq!(dirs.recover().unwrap().0.last_zxid, Zxid(last));
        }
    }
    // Damage is no history.
    let dirs = stale();
    let mut bytes = snapshot_of_9("/theirs", 6);
    bytes[60] ^= 1;
    dirs.put("snapshot.9", &bytes);
    assert_eq!(dirs.recover().unwrap().1.snapshot, Some(Zxid(4)));
}

#[test]
fn one_history_goes_to_and_fro() {
    // Apache was started on a stale state and wrote nothing: its first act is the snapshot again.
    let dirs = stale();
    assert_eq!(dirs.recover().unwrap().0.last_zxid, Zxid(10));

    // A clean end of ours, then Apache with snapshots of its own and old logs purged, then ours.
    let dirs = stale();
    dirs.put("snapshot.a", &snapshot_bytes(2));
    dirs.put("log.b", &apache_log(11..=14));
    dirs.put("snapshot.c", &snapshot_bytes(3));
    dirs.put("log.f", &apache_log(15..=16));
    let state = dirs.run(|writer, _, _| write_all(writer, 17..=18));
    assert_eq!((state.snapshot, state.txns), (Some(Zxid(12)), vec![13, 14, 15, 16]));
    dirs.put("snapshot.12", &snapshot_bytes(4));
    dirs.put("log.13", &apache_log(19..=20));
    fs::remove_file(dirs.version_2().join("log.b")).unwrap();
    let state = dirs.run(|writer, _, _| write_all(writer, 21..=22));
    assert_eq!((state.snapshot, state.txns), (Some(Zxid(18)), vec![19, 20]));
    assert_eq!(dirs.recover().unwrap().0.last_zxid, Zxid(22));

    // A first write of ours that never became whole, and then Apache's.
    let dirs = stale();
    dirs.put("snapshot.a", &snapshot_bytes(2));
    dirs.run(|writer, _, _| write_all(writer, 11..=11));
    dirs.damage("wal.b");
    dirs.put("log.b", &apache_log(11..=12));
    assert_eq!(dirs.recover().unwrap().1.txns, [11, 12]);
}

#[test]
fn numbers_go_on_behind_a_damaged_segment_that_is_not_needed() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| {
        write_all(writer, 1..=3);
        writer.ask_roll();
        write_all(writer, 4..=4);
    });
    dirs.put("snapshot.3", &snapshot_bytes(2));
    // The write of 4 was torn, and wal.1, which the snapshot makes superfluous, is damaged.
    dirs.wipe("wal.4");
    let good = dirs.damage("wal.1");
    dirs.run(|writer, _, _| {
        write_all(writer, 4..=4);
        write_all(writer, 5..=5);
    });
    // The operator puts the good copy back; later the first of the two writes is damaged.
    dirs.put("wal.1", &good);
    dirs.damage("wal.4");
    dirs.expect_damage();
}
