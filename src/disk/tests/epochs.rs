//! The epoch files of a server alone: at a start, at a clean end, and as `check` sees them; and the
//! advice to a member that cannot start.

use super::*;
use crate::base::Epoch;
use crate::log::{EpochFile, Epochs, LogChange, LogTicket, Party};

fn read(dirs: &Dirs, name: &str) -> Option<String> {
    fs::read_to_string(dirs.version_2().join(name)).ok()
}

#[test]
fn none_are_made_where_there_are_none() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    dirs.run(|writer, _, _| write_all(writer, 1..=3));
    dirs.put("snapshot.3", &snapshot_bytes(3));
    assert_eq!(dirs.recover().unwrap().0.epochs, None);
    assert!(matches!(hand_over(&*dirs.open(), Zxid(3)), Handover::Ready));
    assert_eq!((read(&dirs, "acceptedEpoch"), read(&dirs, "currentEpoch")), (None, None));
}

#[test]
fn a_start_and_a_clean_end_bring_them_up_to_the_last_transaction() {
    let dirs = Dirs::new();
    let (one, two) = (Zxid::new(Epoch(1), 7), Zxid::new(Epoch(2), 3));
    dirs.put(&format!("snapshot.{one}"), &snapshot_bytes(1));
    dirs.put("acceptedEpoch", b"1");
    dirs.put("currentEpoch", b"0");
    // Killed in the middle of it.
    dirs.put("currentEpoch.tmp", b"");
    dirs.run(|_, _, _| {});
    assert_eq!(read(&dirs, "acceptedEpoch").as_deref(), Some("1"));
    assert_eq!(read(&dirs, "currentEpoch").as_deref(), Some("1"));
    let epochs = Epochs { accepted: Epoch(1), current: Epoch(1) };
    assert_eq!(dirs.recover().unwrap().0.epochs, Some(epochs));

    dirs.put(&format!("snapshot.{two}"), &snapshot_bytes(1));
    assert!(matches!(hand_over(&*dirs.open(), two), Handover::Ready));
    assert_eq!(read(&dirs, "acceptedEpoch").as_deref(), Some("2"));
    assert_eq!(read(&dirs, "currentEpoch").as_deref(), Some("2"));
}

#[test]
fn what_contradicts_itself_is_told_and_left_alone() {
    let dirs = Dirs::new();
    dirs.put("snapshot.0", &snapshot_bytes(1));
    assert!(foresee_epochs(&dirs.version_2(), Party::Alone).is_none());
    dirs.put("acceptedEpoch", b"1");
    dirs.put("currentEpoch", b"2");
    let recovered = dirs.recover().unwrap().0;
    assert_eq!((recovered.epochs, recovered.notes.len()), (None, 1));
    let foreseen = foresee_epochs(&dirs.version_2(), Party::Alone).unwrap().to_string();
    assert!(recovered.notes[0].starts_with(&foreseen), "{:?}", recovered.notes);
    assert!(matches!(hand_over(&*dirs.open(), Zxid(0)), Handover::Ready));
    assert_eq!(read(&dirs, "acceptedEpoch").as_deref(), Some("1"), "nothing is changed");
    assert!(foresee_epochs(&dirs.version_2().join("elsewhere"), Party::Alone).is_none());
}

#[test]
fn what_a_server_alone_must_never_do_is_what_helps_a_member() {
    let dirs = Dirs::new();
    dirs.put("snapshot.5", b"damaged");
    dirs.put("log.6", &apache_log(6..=7));
    let advice = |party| {
        let options = RecoverOptions { party, ..RecoverOptions::default() };
        let error = recover(&dirs.open(), &options, &mut State::default()).unwrap_err();
        error.advice
    };
    assert!(advice(Party::Alone).contains("Emptying them would lose everything"));
    let of_member = advice(Party::Member);
    assert!(
        of_member.starts_with("The other members have everything. Move what is in version-2 away")
    );
}

/// An election waits for an epoch, and must not wait for a snapshot's disk.
#[test]
fn an_epoch_is_written_before_anything_that_is_under_way() {
    let dirs = Dirs::new();
    let (house, mut chores, reports) =
        Housekeeper::without_thread(dirs.open(), HousekeeperOptions::default(), || {});
    house.snapshot_begin(Zxid(7));
    house.snapshot_chunk(vec![1; 100]);
    house.snapshot_finish();
    // The snapshot's last steps are under way.
    (0..4).for_each(|_| chores.turn());
    assert!(!chores.is_idle() && reports.is_empty());
    let changes = house.change_channels();
    let change = LogChange::WriteEpoch { file: EpochFile::Accepted, epoch: Epoch(5) };
    changes.begin(LogTicket(1), change);
    while changes.changed.is_empty() {
        chores.turn();
        assert!(reports.is_empty(), "the snapshot came first");
    }
    assert_eq!(read(&dirs, "acceptedEpoch").as_deref(), Some("5"));
    while !chores.is_idle() {
        chores.turn();
    }
    assert!(matches!(reports.try_recv(), Ok(Report::SnapshotDone { .. })));
}

/// As at the end of the process, where the log's writer goes after the housekeeper.
#[test]
fn the_housekeeper_ends_while_the_logs_writer_is_still_there() {
    let dirs = Dirs::new();
    let (house, _reports) =
        Housekeeper::start(dirs.open(), HousekeeperOptions::default(), || {}).unwrap();
    let changes = house.change_channels();
    let change = LogChange::WriteEpoch { file: EpochFile::Current, epoch: Epoch(3) };
    changes.begin(LogTicket(1), change);
    let (ended, has_ended) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        drop(house);
        let _ = ended.send(());
    });
    has_ended.recv_timeout(std::time::Duration::from_secs(60)).expect("it waits for the writer");
    assert_eq!(read(&dirs, "currentEpoch").as_deref(), Some("3"));
    drop(changes);
}
