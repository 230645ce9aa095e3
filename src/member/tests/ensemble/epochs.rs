//! Epochs whose numbers are used up.

use super::*;

/// `ErrorCode::ThrottledOp`.
const THROTTLED: i32 = -127;

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

/// The leader's disk is held up in between: requests of others may not fill its memory.
#[test]
fn while_an_epoch_follows_another_learners_have_a_bound() {
    let mut throttled = 0;
    for seed in 0..10 {
        let mut world = World::new(seed, 3, 0, false);
        (world.spent_counter, world.held_max) = (12, 3_000);
        world.restart(&[0, 1, 2]);
        let leader = world.leader().unwrap();
        let at = (leader + 1) % 3;
        let conn = world.connect(at, SessionId(0));
        world.until("a session begins", |world| world.nodes[at].sessions.contains_key(&conn));
        let is_held =
            |world: &World| world.nodes[leader].member.as_ref().unwrap().replica().is_held();
        let mut xid = 0;
        while !is_held(&world) {
            xid += 1;
            world.send(at, conn, &create(xid, &format!("/n{xid}")));
            let sent = xid as usize;
            world.until("an answer", |world| world.has_replies(at, conn, sent) || is_held(world));
        }
        world.nodes[leader].is_stalled = true;
        let more = if seed % 2 == 0 { 30 } else { 200 };
        for _ in 0..more {
            xid += 1;
            world.send(at, conn, &create(xid, &format!("/n{xid}")));
        }
        let until = world.now.mono + TICK;
        world.until("time passes", |world| world.now.mono >= until);
        assert!(is_held(&world));
        if seed % 2 == 1 {
            assert!(world.nodes[at].closed.contains(&conn), "seed {seed}: it has lost its leader");
        }
        world.nodes[leader].is_stalled = false;
        world.until("all serve", World::all_serve);
        if seed % 2 == 0 {
            world.until("all are answered", |world| world.has_replies(at, conn, xid as usize));
            let replies = &world.nodes[at].replies[&conn];
            assert!(replies.iter().map(|(xid, _)| *xid).eq(1..=xid), "seed {seed}: {replies:?}");
            assert!(replies.iter().all(|(_, error)| [0, THROTTLED].contains(error)), "{replies:?}");
            throttled += replies.iter().filter(|(_, error)| *error == THROTTLED).count();
            assert_eq!(world.leader(), Some(leader), "seed {seed}");
        }
        world.settle();
    }
    assert!(throttled > 20, "{throttled} requests were refused");
}
