//! Members between whom nothing passes any more, and no connection ends: what is sent waits, as
//! where a machine has vanished or a network drops everything.

use super::linearizable::{Members, Way};
use crate::util::{Client, Jute, PATIENCE, eventually, op};
use std::io::ErrorKind;
use std::time::Duration;

impl Members {
    /// From now on nothing passes between this member and the others.
    fn part(&self, at: usize) {
        self.ways.set(|from, to| ((from == at) != (to == at)).then_some(Way::Stalled));
    }

    /// Everything passes, also what has waited. Waits until all serve.
    fn join(&mut self) {
        self.ways.set(|_, _| Some(Way::Open));
        self.start_all();
    }

    fn connect(&mut self, at: usize) -> Client {
        self.server(at).connect()
    }
}

#[test]
fn a_leader_whose_links_are_half_open_acknowledges_nothing_and_another_one_leads() {
    let mut members = Members::start(3);
    let old = eventually("a leader", || members.leader());
    let mut client = members.connect(old);
    client.create("/before", b"", 0).ok();
    members.part(old);
    client.send(op::CREATE2, Jute::new().string("/alone").buffer(b"").open_acl().int(0));
    let new = eventually("another one leads", || members.leader().filter(|at| *at != old));
    members.connect(new).create("/meanwhile", b"", 0).ok();
    eventually("the old one leads no more", || (!members.is_serving(old)).then_some(()));
    // What it acknowledged would have come by now: it has answered another connection since.
    let short = Some(Duration::from_millis(100));
    client.link().set_read_timeout(short).expect("a timeout");
    let early = client.try_receive();
    let error = early.expect_err("acknowledged, although nobody else has it").kind();
    members.join();
    assert_eq!(members.leader(), Some(new), "the one that comes back joins");
    // A connection that is still there gets its answer now.
    if matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        client.link().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let reply = client.receive();
        reply.ok();
        assert_eq!(client.get("/alone").1.czxid, reply.zxid);
    }
    let mut reader = members.connect(old);
    reader.sync("/");
    for path in ["/before", "/meanwhile"] {
        assert!(reader.exists(path, false).is_some(), "{path}");
    }
}

#[test]
fn a_follower_whose_links_are_half_open_serves_nobody_and_stops_nobody() {
    let mut members = Members::start(3);
    let leader = eventually("a leader", || members.leader());
    let follower = (leader + 1) % 3;
    let mut client = members.connect(leader);
    let before = client.create("/before", b"", 0).zxid;
    members.part(follower);
    client.create("/meanwhile", b"", 0).ok();
    eventually("it serves no more", || (!members.is_serving(follower)).then_some(()));
    client.sync("/");
    members.join();
    let after = client.create("/after", b"", 0).zxid;
    assert_eq!(after >> 32, before >> 32, "there was an election, although a quorum was together");
    let mut reader = members.connect(follower);
    reader.sync("/");
    assert!(reader.exists("/meanwhile", false).is_some());
}
