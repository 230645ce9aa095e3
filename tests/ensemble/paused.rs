//! A leader that is stopped for longer than the others wait, and goes on as if nothing had been.

use super::cluster::{Ensemble, Mode};
use super::load::Load;
use crate::util::{Jute, eventually, op};

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
    eventually("the old leader follows", || {
        (ensemble.mode(old) == Some(Mode::Follower)).then_some(())
    });
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
