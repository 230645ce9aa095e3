//! The file that keeps Apache away: there while it must be, and of no concern to our own starts.

use super::super::guard;
use super::*;
use crate::log::{GUARD_NAME, scan_apache};

#[test]
fn it_stands_before_the_first_record_and_goes_with_a_snapshot_of_everything() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    // What a crash left of it.
    dirs.put("spare.guard.tmp", b"This fi");
    dirs.run(|writer, _, _| {
        assert_eq!(dirs.names("log."), [GUARD_NAME]);
        assert_eq!(dirs.names("spare.guard"), Vec::<String>::new());
        write_all(writer, 1..=9);
    });
    // An Apache refuses to read it, whether or not it takes it for the newest file.
    let content = fs::read(dirs.version_2().join(GUARD_NAME)).unwrap();
    for newest in [true, false] {
        assert!(scan_apache::<()>(&content, newest, &mut |_, _| Ok(())).is_err());
    }
    // Killed: it stays, and our own starts pass over it, more than once.
    for _ in 0..2 {
        assert_eq!(dirs.run(|_, _, _| {}).txns, (1..=9).collect::<Vec<_>>());
        assert_eq!(dirs.names("log."), [GUARD_NAME]);
    }
    let dir = dirs.open();
    assert!(matches!(hand_over(&*dir, Zxid(9)), Handover::NoSnapshot));
    dirs.put("snapshot.8", &snapshot_bytes(8));
    assert!(matches!(hand_over(&*dir, Zxid(9)), Handover::NoSnapshot));
    // One that is not whole holds nothing.
    dirs.put("snapshot.9", b"");
    assert!(matches!(hand_over(&*dir, Zxid(9)), Handover::NoSnapshot));
    assert_eq!(dirs.names("log."), [GUARD_NAME]);
    dirs.put("snapshot.9", &snapshot_bytes(9));
    assert!(matches!(hand_over(&*dir, Zxid(9)), Handover::Ready));
    assert_eq!(dirs.names("log."), Vec::<String>::new());
    // Somebody else has removed it.
    assert!(matches!(hand_over(&*dir, Zxid(9)), Handover::Ready));
}

/// It got no database of the others before it ended, and is to be as void at its next start.
#[test]
fn a_member_without_a_database_leaves_a_directory_without_one() {
    let dirs = Dirs::new();
    dirs.run(|_, _, _| assert_eq!(dirs.names("log."), [GUARD_NAME]));
    assert!(matches!(hand_over(&*dirs.open(), Zxid(0)), Handover::Ready));
    assert_eq!(dirs.names("log."), Vec::<String>::new());
    let strict = RecoverOptions { db_autocreate: false, ..RecoverOptions::default() };
    let recovered = recover(&dirs.open(), &strict, &mut State::default()).unwrap();
    assert_eq!(recovered.empty, Some(EmptyStart::Untrusted));
}

#[test]
fn a_purge_leaves_it_and_is_not_misled_by_it() {
    let dirs = Dirs::new();
    for zxid in [0, 5, 10, 20] {
        dirs.put(&format!("snapshot.{zxid:x}"), &snapshot_bytes(1));
    }
    let mut log = Vec::new();
    put_apache_header(&mut log);
    (1..=20).for_each(|zxid| put_apache_record(&mut log, &entry(zxid, zxid as i32)));
    dirs.put("log.1", &log);
    dirs.run(|writer, house, reports| {
        write_all(writer, 21..=22);
        house.purge(PurgePolicy { snapshots: Some(3), segments_back_to: 3 });
        let purged = reports.iter().find(|report| matches!(report, Report::Purged(_)));
        assert!(purged.is_some());
    });
    // The log holds what is after the oldest snapshot that stays.
    assert_eq!(dirs.names("log."), ["log.1", GUARD_NAME]);
    assert_eq!(dirs.names("snapshot."), ["snapshot.14", "snapshot.5", "snapshot.a"]);
}

/// Copies may end early, and bits of it may flip: it holds nothing.
#[test]
fn whatever_is_left_of_it_is_passed_over_unless_apache_would_read_it() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| write_all(writer, 1..=3));
    for content in [&b""[..], b"Thi", b"\0\0\0\0\0\0", b"Qhis file keeps Apache"] {
        dirs.put(GUARD_NAME, content);
        assert_eq!(dirs.recover().unwrap().1.txns, [1, 2, 3], "{content:?}");
    }
    let mut log = Vec::new();
    put_apache_header(&mut log);
    put_apache_record(&mut log, &entry(i64::MAX, 1));
    dirs.put(GUARD_NAME, &log);
    let error = dirs.recover().map(|(recovered, _)| recovered.last_zxid).unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::ZxidRange, "{error}");
}

/// A directory of its own for the log: that is where Apache looks for logs.
#[test]
fn it_stands_where_the_log_is() {
    let dirs = Dirs::new();
    let logs = tempfile::tempdir().unwrap();
    let log_dir = Some(logs.path().to_owned());
    let dir = DataDir::open(&DirOptions { log_dir, ..dirs.dir_options() }).unwrap();
    guard::place(&dir).unwrap();
    assert_eq!(dirs.names("log."), Vec::<String>::new());
    assert!(logs.path().join("version-2").join(GUARD_NAME).exists());
    drop(dir);
    let log_dir = Some(logs.path().to_owned());
    DataDir::open(&DirOptions { log_dir, ..dirs.dir_options() }).unwrap();
}
