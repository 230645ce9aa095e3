//! What was wrong once.

use std::fs;
use std::sync::Arc;

use crate::log::{BLOCK, GROUP_HEAD, record_size};

use super::*;

/// Bytes of a group commit with one transaction.
fn one_group() -> usize {
    GROUP_HEAD + record_size(entry(9, 9).len())
}

/// Where the second group commit of `wal.1` begins, see [`two_segments`].
fn second_group() -> usize {
    BLOCK + GROUP_HEAD + 5 * record_size(entry(6, 6).len())
}

/// Somebody tidies up by hand while a purge is under way.
#[test]
fn a_purge_goes_on_behind_files_that_are_gone() {
    let dirs = Dirs::new();
    dirs.run(|writer, _, _| {
        for first in (1..=51).step_by(10) {
            write_all(writer, first..=first + 9);
            writer.ask_roll();
        }
    });
    for zxid in [0, 10, 30, 40, 50] {
        dirs.put(&format!("snapshot.{zxid:x}"), &snapshot_bytes(1));
    }
    for name in dirs.names("spare.") {
        fs::remove_file(dirs.version_2().join(name)).unwrap();
    }
    let dir = dirs.open();
    let recovered = recover(&dir, &RecoverOptions::default(), &mut State::default()).unwrap();
    let options = HousekeeperOptions::default();
    let (house, mut chores, reports) =
        Housekeeper::without_thread(Arc::clone(&dir), options, Box::new(|| {}));
    let _writer = LogWriter::open(dir, &recovered, dirs.options, &house).unwrap();
    while !chores.is_idle() {
        chores.turn();
    }
    let spares = dirs.names("spare.").len();
    house.purge(PurgePolicy { snapshots: Some(3), segments_back_to: 3 });
    chores.turn();
    // One to remove, one to use again.
    for name in ["snapshot.0", "wal.1"] {
        fs::remove_file(dirs.version_2().join(name)).unwrap();
    }
    while !chores.is_idle() {
        chores.turn();
    }
    let report = reports.try_recv().unwrap();
    assert!(matches!(report, Report::Purged(_)), "{report:?}");
    assert_eq!(dirs.names("snapshot."), ["snapshot.1e", "snapshot.28", "snapshot.32"]);
    assert_eq!(dirs.names("wal."), ["wal.15", "wal.1f", "wal.29", "wal.33"]);
    assert_eq!(dirs.names("spare.").len(), spares + 1);
}

/// Segments ahead of need are a convenience.
#[test]
fn spares_that_a_cleaner_removed_are_passed_over() {
    let dirs = Dirs::new();
    {
        let dir = dirs.open();
        let recovered = recover(&dir, &RecoverOptions::default(), &mut State::default()).unwrap();
        let (house, mut chores, _reports) = Housekeeper::without_thread(
            Arc::clone(&dir),
            HousekeeperOptions::default(),
            Box::new(|| {}),
        );
        let mut writer = LogWriter::open(dir, &recovered, dirs.options, &house).unwrap();
        for zxid in 1..=5 {
            while !chores.is_idle() {
                chores.turn();
            }
            let spares = dirs.names("spare.");
            assert_eq!(spares.len(), 1, "before {zxid}: {spares:?}");
            fs::remove_file(dirs.version_2().join(&spares[0])).unwrap();
            write_all(&mut writer, zxid..=zxid);
            writer.ask_roll();
        }
    }
    assert_eq!(dirs.names("wal.").len(), 5);
    assert_eq!(dirs.recover().unwrap().1.txns, [1, 2, 3, 4, 5]);
}

/// A transaction that is larger than a spare leaves the spare to the next segment.
#[test]
fn a_spare_that_is_too_small_waits_for_its_turn() {
    let dirs = Dirs::new();
    let dir = dirs.open();
    let recovered = recover(&dir, &RecoverOptions::default(), &mut State::default()).unwrap();
    let (house, mut chores, _reports) = Housekeeper::without_thread(
        Arc::clone(&dir),
        HousekeeperOptions::default(),
        Box::new(|| {}),
    );
    let mut writer = LogWriter::open(dir, &recovered, dirs.options, &house).unwrap();
    while !chores.is_idle() {
        chores.turn();
    }
    let spare = dirs.names("spare.");
    assert_eq!(spare.len(), 1);
    let mut large = Batch::new();
    large.entry().extend_from_slice(&vec![0; 100 << 10]);
    large.finish_entry(Zxid(1));
    writer.submit(Arc::new(large));
    assert_eq!(writer.write_sync().unwrap(), Some(Zxid(1)));
    assert_eq!(dirs.names("spare."), spare);
    writer.ask_roll();
    write_all(&mut writer, 2..=2);
    assert!(dirs.names("spare.").is_empty(), "it was used");
    assert!(fs::metadata(dirs.version_2().join("wal.1")).unwrap().len() > 100 << 10);
}

#[test]
fn only_a_start_that_succeeds_removes_unfinished_files() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| write_all(writer, 1..=2));
    let good = dirs.damage("wal.1");
    dirs.put("snapshot.2.tmp", &snapshot_bytes(1)[..100]);
    dirs.put("spare.12.tmp", b"");
    let before = dirs.names("");
    dirs.expect_damage();
    assert_eq!(dirs.names(""), before);
    dirs.put("wal.1", &good);
    dirs.run(|_, _, _| {});
    assert_eq!(dirs.names("snapshot."), ["snapshot.0"]);
    assert!(dirs.names("spare.").iter().all(|name| !name.ends_with(".tmp")));
}

/// Leaves `wal.1` with two group commits, the second of transaction 6, and `wal.7` up to `last`.
fn two_segments(dirs: &Dirs, last: i64) {
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| {
        writer.submit(batch(1..=5));
        writer.write_sync().unwrap();
        write_all(writer, 6..=6);
        writer.ask_roll();
        write_all(writer, 7..=last);
    });
}

/// The number that follows a damaged segment is only known to be higher. Put back good, with the
/// snapshot that hid the damage broken, nothing is missing.
#[test]
fn a_segment_that_is_whole_again_is_followed_by_a_higher_number() {
    let dirs = Dirs::new();
    two_segments(&dirs, 7);
    dirs.put("snapshot.6", &snapshot_bytes(2));
    // The write of 7 was torn, and wal.1, which the snapshot makes superfluous, is damaged.
    dirs.wipe("wal.7");
    let whole = dirs.damage("wal.1");
    dirs.run(|writer, _, _| write_all(writer, 7..=8));
    dirs.put("snapshot.6", b"broken");
    dirs.expect_damage();
    dirs.put("wal.1", &whole);
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=8).collect::<Vec<_>>());
    // A last group commit that is gone is missed all the same.
    let mut cut = whole.clone();
    cut[second_group()..].fill(0);
    dirs.put("wal.1", &cut);
    dirs.expect_damage();
    // So is a first one after it.
    dirs.put("wal.1", &whole);
    dirs.damage("wal.7");
    dirs.expect_damage();
}

/// Leaves a snapshot at 6 and `wal.7` with a torn first write only.
fn torn_first_write(dirs: &Dirs) {
    two_segments(dirs, 7);
    dirs.put("snapshot.6", &snapshot_bytes(2));
    let mut torn = fs::read(dirs.version_2().join("wal.7")).unwrap();
    torn[4096 + 30..].fill(0);
    dirs.put("wal.7", &torn);
}

/// That `wal.1` holds nothing after the snapshot is known from the name of the segment after it,
/// even if there is nothing in that one.
#[test]
fn a_segment_that_is_not_needed_is_not_needed_at_the_next_start() {
    let dirs = Dirs::new();
    torn_first_write(&dirs);
    dirs.damage("wal.1");
    for _ in 0..3 {
        assert_eq!(dirs.run(|_, _, _| {}).snapshot, Some(Zxid(6)));
    }
    dirs.run(|writer, _, _| write_all(writer, 7..=8));
    assert_eq!(dirs.recover().unwrap().1.txns, [7, 8]);
    assert_eq!(dirs.names("wal."), ["wal.1", "wal.7"]);
}

/// Nor can the last write before a segment that has a name be torn.
#[test]
fn damage_before_a_segment_without_a_write_stays_damage() {
    let dirs = Dirs::new();
    torn_first_write(&dirs);
    fs::remove_file(dirs.version_2().join("snapshot.6")).unwrap();
    dirs.run(|_, _, _| {});
    let mut last = fs::read(dirs.version_2().join("wal.1")).unwrap();
    last[second_group() + 20] ^= 1;
    dirs.put("wal.1", &last);
    dirs.expect_damage();
}

/// The segment that takes the name of one without a write gets it from a rename, which a crash may
/// undo while what was written stays.
#[test]
fn a_segment_without_a_write_gives_its_name_to_the_next() {
    let dirs = Dirs::new();
    torn_first_write(&dirs);
    dirs.run(|_, _, _| {});
    let v2 = dirs.version_2();
    let empty = fs::read(v2.join("wal.7")).unwrap();
    dirs.run(|writer, _, _| write_all(writer, 7..=9));
    let mut torn = fs::read(v2.join("wal.7")).unwrap();
    torn[BLOCK + one_group() * 5 / 2..].fill(0);
    fs::remove_file(v2.join("wal.7")).unwrap();
    dirs.put("spare.0123", &torn);
    dirs.put("wal.7", &empty);
    assert_eq!(dirs.run(|writer, _, _| write_all(writer, 9..=10)).txns, [7, 8]);
    assert_eq!(dirs.names("wal."), ["wal.1", "wal.7", "wal.9"]);
    dirs.put("snapshot.6", b"broken");
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=10).collect::<Vec<_>>());
}

/// The same transactions in other group commits are another history, though their numbers may fit.
#[test]
fn a_segment_of_another_history_does_not_pass_for_one_numbered_anew() {
    let other = Dirs::new();
    other.run(|writer, _, _| {
        write_all(writer, 1..=6);
        writer.ask_roll();
        write_all(writer, 7..=7);
    });
    let dirs = Dirs::new();
    two_segments(&dirs, 9);
    dirs.put("wal.7", &fs::read(other.version_2().join("wal.7")).unwrap());
    dirs.expect_damage();
}

/// A copy that ended too early is none that a crash leaves: segments are as long as they were made.
#[test]
fn a_segment_that_was_cut_is_refused_until_that_is_accepted() {
    let dirs = Dirs::new();
    two_segments(&dirs, 9);
    let whole = fs::read(dirs.version_2().join("wal.7")).unwrap();
    // In the last third of the last record.
    dirs.put("wal.7", &whole[..BLOCK + 3 * one_group() - 9]);
    let error = dirs.recover().unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::Truncated, "{error}");
    assert_eq!(error.before, Some(Zxid(8)));
    let options =
        RecoverOptions { accept_truncated: Some("wal.7".into()), ..RecoverOptions::default() };
    let dir = dirs.open();
    let recovered = recover(&dir, &options, &mut State::default()).unwrap();
    let house = HousekeeperOptions::default();
    let (house, _, _) = Housekeeper::without_thread(Arc::clone(&dir), house, Box::new(|| {}));
    let mut writer = LogWriter::open(dir, &recovered, dirs.options, &house).unwrap();
    write_all(&mut writer, 9..=10);
    drop(writer);
    // That was for one start.
    assert_eq!(dirs.run(|_, _, _| {}).txns, (1..=10).collect::<Vec<_>>());
    let (recovered, _) = dirs.recover().unwrap();
    assert!(recovered.notes.iter().all(|note| !note.contains("cut short")), "{recovered:?}");
}

/// What a snapshot holds was durable before, so a log that ends torn before it has lost something.
#[test]
fn a_log_that_ends_torn_before_the_snapshot_is_damaged() {
    let dirs = Dirs::new();
    two_segments(&dirs, 9);
    let mut torn = fs::read(dirs.version_2().join("wal.7")).unwrap();
    torn[BLOCK + one_group() * 5 / 2..].fill(0);
    dirs.put("wal.7", &torn);
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=8).collect::<Vec<_>>());
    dirs.put("wal.7", &torn);
    dirs.put("snapshot.9", &snapshot_bytes(2));
    dirs.expect_damage();
}

/// Nor is it the last write that was torn if a snapshot holds a part of it.
#[test]
fn a_group_commit_that_a_snapshot_knows_is_damaged_and_not_torn() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| {
        write_all(writer, 1..=6);
        writer.ask_roll();
        writer.submit(batch(7..=9));
        writer.write_sync().unwrap();
    });
    dirs.damage("wal.7");
    assert_eq!(dirs.recover().unwrap().1.txns, (1..=6).collect::<Vec<_>>());
    dirs.put("snapshot.8", &snapshot_bytes(2));
    dirs.expect_damage();
    // It may be torn where the snapshot is Apache's, which went on from the same transaction.
    dirs.put("log.7", &apache_log(7..=9));
    assert_eq!(dirs.recover().unwrap().1.txns, [9]);
}

/// Nor has a server with forceSync=no synced the segments that are full.
#[test]
fn segments_before_the_last_are_made_durable() {
    let dirs = Dirs::new();
    two_segments(&dirs, 9);
    let repair = dirs.recover().unwrap().0.repair;
    assert_eq!(repair.sync, ["snapshot.0", "wal.1"].map(|name| dirs.version_2().join(name)));
    assert_eq!(repair.cut.map(|(path, _)| path), Some(dirs.version_2().join("wal.7")));
}

/// A killed Apache leaves what is in the page cache only. Our log begins after it, so it must not
/// vanish when the power fails.
#[test]
fn what_apache_left_is_made_durable() {
    let dirs = Dirs::new();
    for (name, bytes) in [
        ("snapshot.0", snapshot_bytes(1)),
        ("snapshot.8", snapshot_bytes(2)),
        ("snapshot.a", b"broken".to_vec()),
        ("log.1", apache_log(1..=4)),
        ("log.5", apache_log(5..=10)),
        ("log.b", apache_log(11..=12)),
    ] {
        dirs.put(name, &bytes);
    }
    let (recovered, _) = dirs.recover().unwrap();
    let names = recovered.repair.sync.iter().filter_map(|path| path.file_name()?.to_str());
    assert_eq!(names.collect::<Vec<_>>(), ["snapshot.8", "log.5", "log.b"]);
    dirs.run(|writer, _, _| write_all(writer, 13..=13));
}
