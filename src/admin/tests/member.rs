//! What the words of a member say.

use super::*;
use crate::admin::LeaderFigures;
use crate::metrics::{Histogram, Summary, SyncFigures, TermFigures, WayFigures};

const ENSEMBLE: &str = "initLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\n\
                        server.2=b:2889:3889:observer\nserver.3=c:2888:3888\n\
                        server.4=d:2888:3888\n";

fn member(state: MemberState) -> Scene {
    let mut scene = Scene::with("*", ENSEMBLE);
    scene.context.live.state = state;
    scene
}

#[test]
fn each_role_has_its_name() {
    let leading = MemberState::Leading(LeaderFigures::default());
    for (role, name, peer_state) in [
        (leading, "leader", "leading - broadcast"),
        (MemberState::Following, "follower", "following - broadcast"),
        (MemberState::Observing, "observer", "observing - broadcast"),
    ] {
        let mut scene = member(role);
        for word in [b"srvr", b"stat"] {
            let text = scene.word(word, b"");
            assert!(text.contains(&format!("\nMode: {name}\nNode count: 5\n")), "{text}");
        }
        assert_eq!((scene.metric("server_state"), scene.metric("peer_state")), {
            (name.to_owned(), peer_state.to_owned())
        });
        let lines: Vec<String> = scene.word(b"mntr", b"").lines().map(str::to_owned).collect();
        assert!(lines[1].starts_with("zk_server_state\t") && lines[2].starts_with("zk_peer_state"));
        assert_eq!(scene.metric("quorum_size"), "3");
        assert_eq!(scene.word(b"isro", b""), "rw");
    }
}

#[test]
fn a_leader_shows_its_followers_and_proposals() {
    let mut scene = member(MemberState::Leading(LeaderFigures {
        uptime_ms: 7000,
        learners: 3,
        synced_followers: 2,
        synced_non_voting: 0,
        synced_observers: 1,
        pending_syncs: 4,
        proposals: 6,
        commits: 5,
        proposal_sizes: Some((36, 32, 48)),
    }));
    assert!(scene.word(b"srvr", b"").ends_with("\nProposal sizes last/min/max: 36/32/48\n"));
    for (key, value) in [
        ("learners", "3"),
        ("synced_followers", "2"),
        ("synced_non_voting_followers", "0"),
        ("synced_observers", "1"),
        ("pending_syncs", "4"),
        ("leader_uptime", "7000"),
        ("proposal_count", "6"),
        ("commit_count", "5"),
        ("last_proposal_size", "36"),
        ("min_proposal_size", "32"),
        ("max_proposal_size", "48"),
    ] {
        assert_eq!(scene.metric(key), value, "{key}");
    }
    scene.context.live.state = MemberState::Leading(LeaderFigures::default());
    assert!(scene.word(b"srvr", b"").ends_with("\nProposal sizes last/min/max: -1/-1/-1\n"));
    scene.context.live.state = MemberState::Following;
    assert!(!scene.word(b"srvr", b"").contains("Proposal sizes"));
    assert_eq!(scene.metric("synced_followers"), "missing");
}

#[test]
fn members_show_how_long_transactions_take() {
    let mut scene = member(MemberState::Leading(LeaderFigures::default()));
    let taking = |us| {
        let mut times = Histogram::default();
        times.record(us);
        times
    };
    let voters = vec![(1, taking(2_000)), (4, taking(9_000))];
    let (proposal, commit) = (taking(3_000), taking(6_000));
    let way =
        WayFigures { quorum: taking(5_000), voters, proposals: 12, commits: 11, proposal, commit };
    scene.context.way = way;
    for (key, value) in [
        ("max_quorum_ack_latency", "5"),
        ("p99_quorum_ack_latency", "5"),
        ("max_1_ack_latency", "2"),
        ("p50_4_ack_latency", "9"),
        ("cnt_4_ack_latency", "1"),
        ("max_3_ack_latency", "missing"),
        ("learner_proposal_received_count", "12"),
        ("learner_commit_received_count", "11"),
        ("max_proposal_latency", "3"),
        ("max_commit_propagation_latency", "6"),
    ] {
        assert_eq!(scene.metric(key), value, "{key}");
    }
}

#[test]
fn elections_and_synchronizations_are_shown() {
    let mut scene = member(MemberState::Following);
    let summary = |value| {
        let mut summary = Summary::default();
        summary.record(value);
        summary
    };
    scene.context.live.terms = TermFigures {
        searches: 4,
        election: summary(11),
        follower_sync: summary(12),
        observer_sync: summary(13),
        unavailable: summary(14),
        leader_unavailable: summary(15),
        syncs: SyncFigures {
            diffs: 5,
            snapshots: 6,
            diffs_in_flight: summary(16),
            snapshots_in_flight: summary(17),
        },
    };
    for (key, value) in [
        ("looking_count", "4"),
        ("diff_count", "5"),
        ("snap_count", "6"),
        ("max_election_time", "11"),
        ("max_follower_sync_time", "12"),
        ("max_observer_sync_time", "13"),
        ("max_unavailable_time", "14"),
        ("max_leader_unavailable_time", "15"),
        ("max_inflight_diff_count", "16"),
        ("max_inflight_snap_count", "17"),
    ] {
        assert_eq!(scene.metric(key), value, "{key}");
    }
}

#[test]
fn a_member_without_a_leader_serves_no_word_that_shows_data() {
    let mut scene = member(MemberState::Looking);
    let not_serving = "This ZooKeeper instance is not currently serving requests\n";
    for word in [b"srvr", b"stat", b"mntr", b"conf", b"cons", b"dump", b"wchs", b"srst"] {
        assert_eq!(scene.word(word, b""), not_serving);
    }
    assert_eq!((scene.word(b"ruok", b""), scene.word(b"isro", b"")), {
        ("imok".to_owned(), "null".to_owned())
    });
    scene.context.live.state = MemberState::Following;
    let srvr = scene.word(b"srvr", b"");
    // Ten words that came and were answered, and the eleventh.
    assert!(srvr.contains("\nReceived: 11\nSent: 10\nConnections: 1\n"), "{srvr}");
}

#[test]
fn conf_of_a_member_ends_with_the_membership() {
    let mut scene = member(MemberState::Observing);
    let conf = scene.word(b"conf", b"");
    let ending = "serverId=2\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3889\n\
                  quorumPort=2889\npeerType=1\nmembership: \n\
                  server.1=a:2888:3888:participant\nserver.2=b:2889:3889:observer\n\
                  server.3=c:2888:3888:participant\nserver.4=d:2888:3888:participant\nversion=0";
    assert!(conf.starts_with("clientPort=2181\n") && conf.ends_with(ending), "{conf}");
}

#[test]
fn dump_of_a_learner_lists_the_sessions_without_their_ends() {
    let mut scene = member(MemberState::Following);
    scene.connect(1, 10_000, 0);
    scene.replica.resign(&mut Effects::default());
    let dump = scene.word(b"dump", b"");
    let begin = "SessionTracker dump:\nGlobal Sessions(1):\n0x10000130c1d0000\t10000ms\n\
                 ephemeral nodes dump:\n";
    assert!(dump.starts_with(begin), "{dump}");
}
