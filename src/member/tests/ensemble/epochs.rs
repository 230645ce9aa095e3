//! Epochs whose numbers are used up.

use super::*;

/// Each of the clients has a request under way all the time.
#[test]
fn an_epoch_that_is_spent_is_followed_by_the_next_one_in_place() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, seed as usize % 2, false);
        world.spent_counter = 12;
        for at in 0..world.nodes.len() {
            world.kill(at);
            world.start(at);
        }
        world.until("all serve", World::all_serve);
        let leader = world.leader();
        let members = world.nodes.len();
        let conns: Vec<ConnId> = (0..members).map(|at| world.connect(at, SessionId(0))).collect();
        world.until("sessions begin", |world| {
            world.nodes.iter().all(|node| node.sessions.len() == 1)
        });
        let first = world.nodes[0].member.as_ref().unwrap().replica().last_processed();
        for xid in 1..=40 {
            for (at, conn) in conns.iter().enumerate() {
                let frames = [create(2 * xid, &format!("/n{at}-{xid}")), sync(2 * xid + 1)];
                world.send(at, *conn, &frames.concat());
            }
            for _ in 0..world.rng.below(40) {
                world.step();
            }
        }
        world.until("all are answered", |world| {
            conns.iter().enumerate().all(|(at, conn)| world.has_replies(at, *conn, 80))
        });
        world.settle();
        let last = world.nodes[0].member.as_ref().unwrap().replica().last_processed();
        assert!(last.epoch().0 - first.epoch().0 >= 5, "seed {seed}: {first:?} to {last:?}");
        assert_eq!(world.leader(), leader, "seed {seed}: nobody was elected");
        for (at, conn) in conns.iter().enumerate() {
            let node = &world.nodes[at];
            let wanted: Vec<(i32, i32)> = (2..=81).map(|xid| (xid, 0)).collect();
            assert_eq!(node.replies[conn], wanted, "seed {seed}: once each, and in order");
            assert!(!node.closed.contains(conn));
        }
        // What was promised on the way lets everybody elect again.
        world.kill(leader.unwrap());
        world.until("another leads", |world| world.leader().is_some() && world.all_serve());
        world.start(leader.unwrap());
        world.until("all serve", World::all_serve);
        world.settle();
    }
}
