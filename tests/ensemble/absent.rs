//! Members that come back with less than the others have.

use super::cluster::{Ensemble, Mode, SIZE};
use crate::util::{Client, Jute, eventually, op};
use std::fs;

/// Creates `count` nodes, many requests at a time.
fn create_many(client: &mut Client, count: usize) {
    client.create("/many", b"", 0).ok();
    for first in (0..count).step_by(250) {
        for number in first..first + 250 {
            let body = Jute::new().string(&format!("/many/{number}")).buffer(b"of many");
            client.send(op::CREATE, body.open_acl().int(0));
        }
        for _ in 0..250 {
            client.receive().ok();
        }
    }
}

/// A write through `at` reaches all.
fn assert_member_takes_part(ensemble: &Ensemble, at: usize, nodes: usize) {
    assert_eq!(ensemble.mode(at), Some(Mode::Follower));
    assert_eq!(ensemble.assert_equal("/many"), nodes);
    ensemble.connect(at).create("/many/more", b"", 0).ok();
    assert_eq!(ensemble.assert_equal("/many"), nodes + 1);
    ensemble.assert_equal("/");
}

#[test]
fn a_member_whose_data_is_gone_gets_a_snapshot_where_logs_do_not_go_back_to_the_beginning() {
    let lines = ["ringkeeper.log.segmentSizeInKb=64", "snapCount=500", "autopurge.purgeInterval=1"];
    let mut ensemble = Ensemble::start(&lines);
    create_many(&mut ensemble.connect(0), 3000);
    // A start purges what the last three snapshots cover. Only a leader that has started again
    // has to look into its log for what an older one wrote.
    ensemble.signal_all("TERM");
    ensemble.wait_for_ends();
    ensemble.start_all();
    for at in 0..SIZE {
        let first = ensemble.member(at).data_dir().join("version-2/wal.1");
        eventually("the first segment is purged", || (!first.exists()).then_some(()));
    }
    let leader = ensemble.leader();
    let [at, _] = Ensemble::others(leader);
    let member = ensemble.member(at);
    member.kill();
    fs::remove_dir_all(member.data_dir().join("version-2")).expect("the member's data");
    let before = member.stderr().len();
    ensemble.restart(at);
    ensemble.member(at).wait_for_output(before, " is received: ");
    assert_member_takes_part(&ensemble, at, 3000);
}

#[test]
fn a_member_whose_data_is_gone_gets_all_from_logs_that_go_back_to_the_beginning() {
    let mut ensemble = Ensemble::start(&[]);
    let leader = ensemble.leader();
    let [at, _] = Ensemble::others(leader);
    create_many(&mut ensemble.connect(leader), 500);
    let member = ensemble.member(at);
    member.kill();
    fs::remove_dir_all(member.data_dir().join("version-2")).expect("the member's data");
    ensemble.restart(at);
    assert_member_takes_part(&ensemble, at, 500);
}

#[test]
fn a_member_that_was_away_for_many_writes_catches_up() {
    let mut ensemble = Ensemble::start(&[]);
    let leader = ensemble.leader();
    let [at, _] = Ensemble::others(leader);
    ensemble.member(at).kill();
    create_many(&mut ensemble.connect(leader), 20_000);
    ensemble.restart(at);
    assert_member_takes_part(&ensemble, at, 20_000);
}

/// The remedy that a start with damaged data names. Meanwhile this member has no say: with its vote
/// one that missed the newest write could lead.
#[test]
fn a_member_with_damaged_data_is_emptied_and_gets_all_from_a_leader_of_the_others() {
    let mut ensemble = Ensemble::start(&[]);
    let leader = ensemble.leader();
    let [damaged, behind] = Ensemble::others(leader);
    create_many(&mut ensemble.connect(leader), 500);
    ensemble.member(behind).kill();
    ensemble.connect(leader).create("/newest", b"", 0).ok();
    ensemble.member(damaged).kill();
    let version_dir = ensemble.member(damaged).data_dir().join("version-2");
    let log = version_dir.join("wal.100000001");
    let mut bytes = fs::read(&log).expect("the log");
    bytes[20_000..20_100].fill(0xa5);
    fs::write(&log, bytes).expect("the log");
    let member = ensemble.member(damaged);
    member.spawn();
    assert_eq!(member.wait().code(), Some(3));
    let said = member.stderr();
    assert!(said.contains("but leave acceptedEpoch and currentEpoch where they are"), "{said}");
    for entry in fs::read_dir(&version_dir).expect("version-2") {
        let path = entry.expect("an entry").path();
        if !path.ends_with("acceptedEpoch") && !path.ends_with("currentEpoch") {
            fs::remove_file(path).expect("a file of the member's");
        }
    }
    // The one that has the newest write is away, so nobody may lead.
    ensemble.member(leader).kill();
    let before = ensemble.member(damaged).stderr().len();
    ensemble.member(damaged).spawn();
    ensemble.member(behind).spawn();
    ensemble.member(damaged).wait_for_output(before, "holds no database");
    // A clean end changes nothing about that.
    ensemble.member(damaged).signal("TERM");
    assert_eq!(ensemble.member(damaged).wait().code(), Some(0));
    let before = ensemble.member(damaged).stderr().len();
    ensemble.member(damaged).spawn();
    ensemble.member(damaged).wait_for_output(before, "holds no database");
    // An operator compares these lines of all members to find the newest data.
    ensemble.member(damaged).wait_for_output(before, "recovered no database, in ");
    assert_eq!((ensemble.mode(damaged), ensemble.mode(behind)), (None, None));
    let before = ensemble.member(leader).stderr().len();
    ensemble.restart(leader);
    ensemble.wait_until_all_serve();
    let said = ensemble.member(leader).stderr()[before..].to_owned();
    assert!(said.contains(" wait for a leader and do not count yet"), "{said}");
    assert_eq!(ensemble.assert_equal("/many"), 500);
    for at in 0..SIZE {
        assert!(ensemble.connect(at).children("/", false).contains(&"newest".to_owned()), "{at}");
    }
}
