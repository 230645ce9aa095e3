//! Epochs whose numbers are used up.

use super::cluster::{Ensemble, SIZE};
use crate::util::{Jute, op};

const ROUNDS: usize = 30;
const CREATES: usize = 120;

/// At each member a client writes on, over one connection and with a window of requests.
#[test]
fn a_spent_epoch_closes_no_connection_and_loses_no_request() {
    let mut ensemble = Ensemble::start(&["ringkeeper.quorum.epochTransactions=1000"]);
    let leader = ensemble.leader();
    let mut clients: Vec<_> = (0..SIZE).map(|at| ensemble.connect(at)).collect();
    let mut zxids: Vec<i64> = Vec::new();
    for round in 0..ROUNDS {
        for (at, client) in clients.iter_mut().enumerate() {
            for number in 0..CREATES {
                let path = format!("/at-{at}-{round}-{number}");
                client.send(op::CREATE2, Jute::new().string(&path).buffer(b"").open_acl().int(0));
            }
        }
        for client in &mut clients {
            for _ in 0..CREATES {
                let reply = client.receive();
                reply.ok();
                zxids.push(reply.zxid);
            }
        }
    }
    let epoch = |zxid: Option<&i64>| zxid.expect("something was written") >> 32;
    let (first, last) = (epoch(zxids.iter().min()), epoch(zxids.iter().max()));
    let (writes, per_epoch) = (ROUNDS * CREATES * SIZE, 1_000);
    let least = i64::try_from(writes / per_epoch).expect("small") - 1;
    assert!(last - first >= least, "epochs {first} to {last} for {writes} writes");
    assert_eq!(ensemble.leader(), leader, "nobody was elected");
    assert_eq!(ensemble.assert_equal("/"), writes + 1, "and /zookeeper");
    // What was promised on the way is good for an election, and for a start.
    ensemble.member(leader).kill();
    ensemble.leader_among(&Ensemble::others(leader));
    for client in &mut clients.iter_mut().enumerate().filter(|(at, _)| *at != leader) {
        client.1.create(&format!("/after-{}", client.0), b"", 0).ok();
    }
    ensemble.restart(leader);
    ensemble.assert_equal("/");
}
