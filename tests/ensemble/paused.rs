//! Members that are stopped for longer than the others wait, and go on as if nothing had been.

use super::cluster::{Ensemble, Mode};
use super::load::Load;
use crate::util::{Client, Jute, PATIENCE, eventually, op};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_leader_that_was_paused_acknowledges_nothing_of_its_old_epoch() {
    let mut ensemble = Ensemble::start(&[]);
    let load = Load::start(&ensemble);
    load.wait_for(300);
    let old = ensemble.leader();
    let mut client = ensemble.connect(old);
    let before = client.create("/before", b"", 0).zxid;

    ensemble.member(old).signal("STOP");
    let body = Jute::new().string("/paused").buffer(b"").open_acl().int(0);
    client.send(op::CREATE2, body);
    let others = Ensemble::others(old);
    ensemble.leader_among(&others);
    ensemble.connect(others[0]).create("/meanwhile", b"", 0).ok();
    load.wait_for(300);

    ensemble.member(old).signal("CONT");
    // Either the client learns that the fate is unknown, or the write went to the new leader.
    let answer = client.try_receive();
    ensemble.wait_for_mode(old, |mode| (mode == Some(Mode::Follower)).then_some(()));
    let mut reader = ensemble.connect(others[1]);
    reader.sync("/");
    if let Ok(reply) = answer {
        assert_eq!(reply.err, 0);
        assert!(reply.zxid >> 32 > before >> 32, "acknowledged in the old epoch: {reply:?}");
        assert_eq!(reader.get("/paused").1.czxid, reply.zxid);
    }
    assert!(reader.exists("/before", false).is_some());
    load.wait_for(300);
    load.verify(&ensemble);
    ensemble.assert_equal("/");
}

#[test]
fn a_leader_whose_followers_are_paused_acknowledges_nothing_and_stops_leading() {
    let mut ensemble = Ensemble::start(&[]);
    let leader = ensemble.leader();
    let mut client = ensemble.connect(leader);
    client.create("/before", b"", 0).ok();
    for at in Ensemble::others(leader) {
        ensemble.member(at).signal("STOP");
    }
    let body = Jute::new().string("/alone").buffer(b"").open_acl().int(0);
    client.send(op::CREATE2, body);
    ensemble.wait_for_mode(leader, |mode| mode.is_none().then_some(()));
    // Whatever it acknowledged has been sent by now: it has answered another connection since.
    let short = Some(Duration::from_millis(100));
    client.link().set_read_timeout(short).expect("a timeout");
    let early = client.try_receive();
    let error = early.expect_err("acknowledged, although nobody else has it").kind();

    for at in Ensemble::others(leader) {
        ensemble.member(at).signal("CONT");
    }
    ensemble.wait_until_all_serve();
    // A connection that is still there gets its answer now.
    if matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        client.link().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let reply = client.receive();
        reply.ok();
        assert_eq!(client.get("/alone").1.czxid, reply.zxid);
    }
    assert!(ensemble.connect(leader).exists("/before", false).is_some());
    ensemble.assert_equal("/");
}

/// `syncLimit` is ten seconds here, as in Apache's sample. Between servers of ours a silent leader
/// is left long before that, and clients of the others keep their connections.
#[test]
fn a_silent_leader_is_left_long_before_sync_limit() {
    let mut ensemble = Ensemble::start(&["tickTime=2000"]);
    let old = ensemble.leader();
    let others = Ensemble::others(old);
    let mut clients = others.map(|at| ensemble.connect(at));
    ensemble.member(old).signal("STOP");
    let begin = Instant::now();
    let next = ensemble.leader_among(&others);
    for (client, at) in clients.iter_mut().zip(others) {
        client.create(&format!("/of-{at}"), b"", 0).ok();
    }
    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    ensemble.member(old).signal("CONT");
    ensemble.wait_for_mode(old, |mode| (mode == Some(Mode::Follower)).then_some(()));
    assert_eq!(ensemble.mode(next), Some(Mode::Leader), "the one that comes back joins");
    ensemble.assert_equal("/");
}

/// It is not left here: `syncLimit` is an hour. Its machine takes some megabytes at most.
#[test]
fn a_follower_that_reads_nothing_costs_its_leader_little_and_disturbs_nobody() {
    const WRITES: u64 = 300;
    let mut ensemble = Ensemble::start(&["syncLimit=18000"]);
    let leader = ensemble.leader();
    let [deaf, other] = Ensemble::others(leader);
    let mut client = ensemble.connect(leader);
    client.create("/big", b"", 0).ok();
    let before = ensemble.member(leader).resident_kib();
    ensemble.member(deaf).signal("STOP");
    // 300 MiB in all.
    let body = Jute::new().string("/big").buffer(&vec![7; 1_000_000]).int(-1);
    for _ in 0..WRITES {
        client.request(op::SET_DATA, body.clone()).ok();
        client.sync("/");
    }
    let grown = ensemble.member(leader).resident_kib().saturating_sub(before);
    assert!(grown < 192 * 1024, "{grown} KiB for a follower that does not read");
    ensemble.connect(other).create("/meanwhile", b"", 0).ok();
    let figures = ensemble.member(leader).ask("mntr");
    assert!(figures.contains("zk_synced_followers\t2"), "it is not left: {figures}");
    ensemble.member(deaf).signal("CONT");
    let mut reader = eventually("it serves", || {
        let mut reader = ensemble.connect(deaf);
        (reader.exists("/meanwhile", false).is_some()).then_some(reader)
    });
    assert_eq!(u64::from(reader.get("/big").1.version.unsigned_abs()), WRITES);
    ensemble.assert_equal("/");
}

/// The longest time that a ping takes while this is going on.
fn longest_ping(mut client: Client, is_over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        client.ping();
        longest = longest.max(begin.elapsed());
    }
    longest
}

/// Longer than the silence after which followers leave. The last of the checks fails, so that only
/// the leader has something to do.
#[test]
fn a_leader_is_not_left_while_a_turn_takes_long() {
    let lines = ["tickTime=2000", "syncLimit=60"];
    let mut ensemble = Ensemble::start_with(&lines, &["jute.maxbuffer=1073741824"]);
    let leader = ensemble.leader();
    let mut client = ensemble.connect(leader);
    let before = client.create("/before", b"", 0).zxid;
    let mut checks = 50_000;
    loop {
        let check = |path| Jute::new().multi_header(op::CHECK).string(path).int(-1);
        // Hundreds of megabytes, in one piece.
        let body = Jute(check("/").0.repeat(checks)).raw(&check("/none").0).multi_end();
        let (other, is_over) = (ensemble.connect(leader), AtomicBool::new(false));
        let turn = std::thread::scope(|scope| {
            let pings = scope.spawn(|| longest_ping(other, &is_over));
            let answer = client.try_request(op::MULTI, &body);
            is_over.store(true, Ordering::Relaxed);
            answer.expect("an answer on the same connection");
            pings.join().expect("pings")
        });
        // Silence of 1.6 s is borne after shorter turns.
        if turn > Duration::from_millis(1_700) {
            break;
        }
        checks *= 2;
        assert!(checks < 55_000_000, "the frame is too long, and its turn takes {turn:?}");
    }
    let after = client.create("/after", b"", 0);
    after.ok();
    assert_eq!(after.zxid >> 32, before >> 32, "there was an election meanwhile");
    for at in Ensemble::others(leader) {
        let log = ensemble.member(at).stderr();
        assert!(!log.contains("looking for a leader again"), "{log}");
    }
}
