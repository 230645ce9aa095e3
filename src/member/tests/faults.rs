//! What goes wrong between members, one fault at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::base::{ConnId, LinkId, SessionId, Zxid};
use crate::member::Role;
use crate::peer;

use super::world::{Disk, Link, TICK, World, create, sync};

impl World {
    /// Somebody takes the data of this server away, and starts it again.
    fn empty(&mut self, at: usize) {
        self.kill(at);
        self.nodes[at].disk = Disk { is_emptied: true, ..Disk::new() };
        self.start(at);
    }

    fn create_at(&mut self, at: usize, path: &str) {
        let conn = self.connect(at, SessionId(0));
        self.send(at, conn, &create(1, path));
        self.until("an answer", |world| world.has_replies(at, conn, 1));
        assert_eq!(self.nodes[at].replies[&conn], [(1, 0)], "{path}");
    }

    fn has(&self, at: usize, path: &str) -> bool {
        let tree = self.nodes[at].member.as_ref().unwrap().replica().tree();
        tree.find(&tree.key(path)).is_some()
    }
}

/// It has forgotten what it had acknowledged: with its vote, one that never had it would lead.
#[test]
fn a_member_that_was_emptied_has_no_say_before_it_has_the_database_of_a_leader() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 0, seed % 2 == 0);
        let (emptied, behind) = ((leader + 1) % 3, (leader + 2) % 3);
        world.kill(behind);
        world.create_at(leader, "/acknowledged");
        world.empty(emptied);
        world.kill(leader);
        world.start(behind);
        let until = world.now.mono + TICK * 60;
        while world.now.mono < until {
            world.step();
            assert!(world.roles().iter().flatten().all(|role| *role == Role::Looking));
        }
        assert!(!world.nodes[emptied].disk.has_snapshot, "it would count at its next start");
        world.start(leader);
        world.until("all serve", World::all_serve);
        world.settle();
        assert!((0..3).all(|at| world.has(at, "/acknowledged")), "seed {seed}");
        // Now it counts.
        world.kill(behind);
        world.create_at(emptied, "/more");
        world.kill(emptied);
        world.start(emptied);
        world.create_at(emptied, "/and-more");
    }
}

/// The database that it got may lack what the leader itself does not know to be committed. So it
/// counts when it has entered the leader's epoch, with all of the leader's history on its disk.
#[test]
fn a_member_that_was_emptied_has_no_say_before_it_is_in_step() {
    let mut early = 0;
    for seed in 0..150 {
        let (mut world, leader) = World::serving(seed, 3, 0, seed % 2 == 0);
        let (emptied, behind) = ((leader + 1) % 3, (leader + 2) % 3);
        world.kill(behind);
        world.create_at(leader, "/acknowledged");
        world.kill(leader);
        world.empty(emptied);
        // In its log, and not known to be committed.
        world.start(leader);
        world.start(behind);
        world.until("it has a database", |world| world.nodes[emptied].disk.has_snapshot);
        early += usize::from(!world.has(behind, "/acknowledged"));
        world.kill(leader);
        let until = world.now.mono + TICK * 60;
        while world.now.mono < until {
            world.step();
        }
        world.start(leader);
        world.until("all serve", World::all_serve);
        world.settle();
        assert!((0..3).all(|at| world.has(at, "/acknowledged")), "seed {seed}");
    }
    assert!(early > 5, "{early}");
}

/// It leaves requests behind at one member, and numbers those at the next one anew, as kazoo does.
#[test]
fn a_client_that_moves_gets_answers_to_what_it_asks_for_there() {
    let mut early = 0;
    for seed in 0..100 {
        let (mut world, leader) = World::serving(seed, 3, seed as usize % 2, false);
        let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
        let left = world.connect(from, SessionId(0));
        world.until("a session begins", |world| world.nodes[from].sessions.contains_key(&left));
        let (session, _) = world.nodes[from].sessions[&left];
        let made: Vec<u8> = (1..=20).flat_map(|xid| create(xid, &format!("/a{xid}"))).collect();
        world.send(from, left, &made);
        for _ in 0..world.rng.below(20) {
            world.step();
        }
        let conn = world.connect(to, session);
        world.until("it moves", |world| world.nodes[to].sessions.contains_key(&conn));
        early += usize::from(!world.has_replies(from, left, 20));
        let asked: Vec<u8> = (1..=20).flat_map(|xid| create(xid, "/none/b")).collect();
        world.send(to, conn, &asked);
        world.until("all are answered", |world| {
            world.has_replies(to, conn, 20) || world.nodes[to].closed.contains(&conn)
        });
        let no_node: Vec<_> = (1..=20).map(|xid| (xid, -101)).collect();
        assert_eq!(world.nodes[to].replies[&conn], no_node, "seed {seed}");
    }
    assert!(early > 20, "it left nothing behind");
}

/// The kernel has not closed its other connections yet.
#[test]
fn learners_leave_a_leader_as_soon_as_its_process_has_ended() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 0, false);
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        world.nodes[leader].member = None;
        let began = world.now.mono;
        for at in others {
            world.end_lifeline(leader, at);
            assert_eq!(world.roles()[at], Some(Role::Looking), "seed {seed}");
        }
        world.until("another one leads", |world| {
            others.iter().any(|at| world.roles()[*at] == Some(Role::Leading))
        });
        assert!(world.now.mono < began + TICK / 10, "nobody waits for the silence of the leader");
        world.kill(leader);
        world.start(leader);
        world.until("all serve", World::all_serve);
        world.settle();
    }
}

/// Something between them may end it. That costs a look for the leader, and nothing else: clients
/// stay, and others notice nothing.
#[test]
fn a_learner_whose_lifeline_ends_for_nothing_comes_back_to_its_leader() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 1, false);
        for at in (0..4).filter(|at| *at != leader) {
            let conns = [at, leader].map(|at| (at, world.connect(at, SessionId(0))));
            for (of, conn) in conns {
                world.send(of, conn, &create(1, &format!("/before-{at}-{of}")));
                world.until("an answer", |world| world.has_replies(of, conn, 1));
            }
            let began = world.now.mono;
            // Only what is followed can be left.
            world.end_lifeline(leader, at);
            assert_eq!(world.roles()[at], Some(Role::Looking));
            for (of, conn) in conns {
                world.send(of, conn, &create(2, &format!("/meanwhile-{at}-{of}")));
                world.until("an answer", |world| world.has_replies(of, conn, 2));
                assert_eq!(world.nodes[of].replies[&conn], [(1, 0), (2, 0)], "seed {seed}");
                assert!(!world.nodes[of].closed.contains(&conn), "seed {seed}");
            }
            assert!(world.all_serve() && world.leader() == Some(leader), "seed {seed}");
            let lasted = world.now.mono.since(began);
            assert!(lasted < TICK / 2, "seed {seed}: {lasted:?}");
        }
        world.settle();
    }
}

/// There may be more than is handled in a turn.
#[test]
fn what_came_from_a_leader_before_its_end_counts() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.backlog_max = 1 << 20;
        world.restart(&[0, 1, 2]);
        let leader = world.leader().unwrap();
        let at = (leader + 1) % 3;
        let conn = world.connect(leader, SessionId(0));
        world.until("a session", |world| world.nodes[leader].sessions.contains_key(&conn));
        world.settle();
        let followed = world.nodes[at].member.as_ref().unwrap().party().unwrap().followed.unwrap();
        let link = followed.link.unwrap();
        world.nodes[at].links.get_mut(&link).unwrap().is_held = true;
        for xid in 1..=300 {
            world.send(leader, conn, &create(xid, &format!("/n{xid}")));
            world.until("an answer", |world| world.has_replies(leader, conn, xid as usize));
        }
        let arrives = &mut world.nodes[at].links.get_mut(&link).unwrap().arrives;
        let arrived: Vec<u8> = arrives.drain(..).flatten().collect();
        let committed = |world: &World, at: usize| {
            world.nodes[at].member.as_ref().unwrap().replica().last_committed()
        };
        let before = committed(&world, at);
        world.peer(at, peer::Input::Bytes { link, bytes: &arrived });
        let some = committed(&world, at);
        assert!(before < some && some < committed(&world, leader), "seed {seed}: {some}");
        if seed % 4 == 1 {
            world.end_lifeline(leader, at);
        } else {
            world.peer(at, peer::Input::Ended { link, was_reset: seed % 4 == 0 });
        }
        assert_eq!(world.roles()[at], Some(Role::Looking));
        assert!(committed(&world, at) > some, "seed {seed}: it has dropped what came");
    }
}

/// Its leader, which others acknowledge, neither waits for it nor keeps anything for it.
#[test]
fn a_learner_whose_disk_stalls_takes_no_more_and_gives_up_if_that_lasts() {
    for seed in 0..40 {
        let (mut world, leader) = World::serving(seed, 3, seed as usize % 2, seed % 4 == 0);
        let stalled = (0..world.nodes.len()).find(|at| *at != leader).unwrap();
        let conn = world.connect(leader, SessionId(0));
        world.nodes[stalled].is_stalled = true;
        let began = world.now.mono;
        for round in 0..10 {
            let xids = 30 * round + 1..=30 * round + 30;
            let made: Vec<u8> = xids.flat_map(|xid| create(xid, &format!("/n{xid}"))).collect();
            world.send(leader, conn, &made);
            world.until("answers", |world| world.has_replies(leader, conn, 30 * round as usize));
        }
        world.until("all are answered", |world| world.has_replies(leader, conn, 300));
        let backlog =
            |world: &World| world.nodes[stalled].member.as_ref().unwrap().replica().backlog();
        // One packet more than allowed, which has up to all of this in a few.
        assert!((1..15_000).contains(&backlog(&world)), "seed {seed}: {}", backlog(&world));
        let lasts = seed % 3 == 0;
        if lasts {
            world.until("it gives up", |world| world.roles()[stalled] == Some(Role::Looking));
            assert!(world.now.mono < began + TICK * 7);
        }
        world.nodes[stalled].is_stalled = false;
        world.until("all serve", World::all_serve);
        world.settle();
        assert_eq!(world.leader(), Some(leader), "seed {seed}");
        assert!(world.has(stalled, "/n300"));
    }
}

/// A few at a time, so that they are in several batches.
fn creates(world: &mut World, at: usize, conn: ConnId, xids: RangeInclusive<i32>) {
    let all: Vec<i32> = xids.collect();
    for few in all.chunks(5) {
        let made: Vec<u8> = few.iter().flat_map(|xid| create(*xid, &format!("/m{xid}"))).collect();
        world.send(at, conn, &made);
        let last = few[few.len() - 1] as usize;
        world.until("answers", |world| world.has_replies(at, conn, last));
    }
}

#[test]
fn a_follower_whose_tree_is_not_the_leaders_ends_and_says_what_to_do() {
    for seed in 0..10 {
        let (mut world, leader) = World::serving(seed, 3, 0, false);
        let damaged = (leader + 1) % 3;
        let conn = world.connect(leader, SessionId(0));
        creates(&mut world, leader, conn, 1..=140);
        world.settle();
        let began = world.now.mono;
        world.until("digests agree", |world| world.now.mono > began + TICK * 2);
        world.kill(damaged);
        let (_, entry) = &mut world.nodes[damaged].disk.log[20];
        let at = entry.windows(4).position(|bytes| bytes == b"data").unwrap();
        entry[at] = b'D';
        world.nodes[damaged].may_end = true;
        world.start(damaged);
        world.until("all serve", World::all_serve);
        creates(&mut world, leader, conn, 141..=280);
        world.until("it ends", |world| world.nodes[damaged].ended.is_some());
        let why = world.nodes[damaged].ended.as_ref().unwrap();
        let wanted = format!("is not its leader's (server {})", leader + 1);
        assert!(why.contains(&wanted) && why.contains("after transaction 0x100000100 "), "{why}");
        creates(&mut world, leader, conn, 281..=290);
    }
}

/// Both others were emptied, and trusted to be new.
#[test]
fn a_member_that_is_asked_to_forget_what_is_committed_ends_and_keeps_it() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.until("all serve", World::all_serve);
        let conn = world.connect(0, SessionId(0));
        creates(&mut world, 0, conn, 1..=20);
        world.settle();
        // With the next ones the log says that those are committed.
        for number in 21.. {
            creates(&mut world, 0, conn, number..=number);
            world.settle();
            if world.nodes[0].disk.committed > Zxid::ZERO {
                break;
            }
        }
        world.kill(0);
        for at in [1, 2] {
            world.kill(at);
            world.nodes[at].disk = Disk::new();
            world.nodes[at].sessions.clear();
        }
        // Into an epoch after the one of what is lost.
        let lost = world.nodes[0].disk.epochs.current;
        for round in 0.. {
            (1..3).for_each(|at| world.kill(at));
            (1..3).for_each(|at| world.start(at));
            world.until("they serve", |world| world.leader().is_some() && world.all_serve());
            world.create_at(1, &format!("/another-{round}"));
            if world.nodes[1].disk.epochs.current > lost {
                break;
            }
        }
        let had = world.nodes[0].disk.log.len();
        world.nodes[0].may_end = true;
        world.start(0);
        world.until("it ends", |world| world.nodes[0].ended.is_some());
        let why = world.nodes[0].ended.as_ref().unwrap();
        assert!(why.contains("has lost what this server has"), "{why}");
        assert_eq!(world.nodes[0].disk.log.len(), had, "seed {seed}");
        world.create_at(2, "/goes-on");
    }
}

#[test]
fn elections_and_synchronizations_are_counted() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, 1, seed % 2 == 0);
        world.until("all serve", World::all_serve);
        let figures =
            |world: &World, at: usize| world.nodes[at].member.as_ref().unwrap().term_figures();
        let old = world.leader().unwrap();
        let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
        for at in 0..4 {
            let seen = figures(&world, at);
            assert!(seen.searches >= 1 && seen.election.count <= seen.searches);
            let roles = [&seen.leader_unavailable, &seen.follower_sync, &seen.observer_sync];
            let counts = roles.map(|summary| summary.count);
            let expected =
                if at == old { [1, 0, 0] } else { [0, u64::from(at < 3), u64::from(at == 3)] };
            assert_eq!((seen.unavailable.count, counts), (1, expected), "seed {seed}, {at}");
        }
        let syncs = figures(&world, old).syncs;
        assert!(syncs.diffs >= 3 && syncs.diffs_in_flight.count == syncs.diffs, "{syncs:?}");
        assert_eq!(syncs.snapshots, 0);
        world.create_at(old, "/a");
        world.empty(others[0]);
        world.until("all serve", World::all_serve);
        assert_eq!(figures(&world, old).syncs.snapshots, 1);
        world.kill(old);
        world.until("all serve", |world| world.leader().is_some() && world.all_serve());
        let new = world.leader().unwrap();
        assert_eq!(figures(&world, new).leader_unavailable.count, 1);
        world.kill(new);
        let last = others.iter().copied().find(|at| *at != new).unwrap();
        world.until("no leader", |world| world.roles()[last] == Some(Role::Looking));
        world.start(old);
        world.until("all serve", |world| world.leader().is_some() && world.all_serve());
        assert_eq!(figures(&world, last).unavailable.count, 3);
    }
}

impl World {
    /// The ways of servers that have vanished come back, and with them they do, started anew.
    fn return_all(&mut self, vanished: &[usize]) {
        self.restart(vanished);
        self.settle();
    }
}

#[test]
fn a_half_open_link_to_the_leader_convinces_no_learner() {
    for seed in 0..20 {
        let is_plain = seed % 2 == 0;
        let (mut world, old) = World::serving(seed, 3, 1, is_plain);
        world.create_at(old, "/before");
        world.vanish(old);
        let began = world.now.mono;
        world.until("another leads", |world| world.leader().is_some() && world.all_serve());
        // A leader of Apache's promises to speak within `syncLimit`.
        let patience = if is_plain { TICK * 5 } else { TICK * 3 / 2 };
        let without = world.now.mono.since(began);
        assert!(without < patience + TICK, "seed {seed}: {without:?}, nobody waits for its vote");
        let new = world.leader().unwrap();
        world.create_at(new, "/without");
        world.return_all(&[old]);
        assert!(world.has(old, "/before") && world.has(old, "/without"), "seed {seed}");
        assert_eq!(world.leader(), Some(new), "seed {seed}");
    }
}

#[test]
fn half_open_links_to_learners_convince_no_leader() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 1, seed % 2 == 0);
        // An observer counts for nothing.
        let gone: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        let conn = world.connect(leader, SessionId(0));
        world.send(leader, conn, &create(1, "/before"));
        world.until("an answer", |world| world.has_replies(leader, conn, 1));
        world.settle();
        gone.iter().for_each(|&at| world.vanish(at));
        let began = world.now.mono;
        world.send(leader, conn, &[create(2, "/alone"), sync(3)].concat());
        world.until("it leads no more", |world| world.leader().is_none());
        // It looks each tick.
        let led_on = world.now.mono.since(began);
        assert!(led_on >= TICK * 4 && led_on <= TICK * 7, "seed {seed}: {led_on:?}");
        assert_eq!(world.nodes[leader].replies[&conn], [(1, 0)], "seed {seed}");
        let until = world.now.mono + TICK * 20;
        while world.now.mono < until {
            world.step();
            assert_eq!(world.leader(), None, "seed {seed}");
        }
        world.return_all(&gone);
        assert!(gone.iter().all(|&at| world.has(at, "/before")), "seed {seed}");
    }
}

#[test]
fn a_half_open_link_to_one_learner_stops_nobody() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 0, seed % 2 == 0);
        let gone = (leader + 1) % 3;
        let figures =
            |world: &World| world.nodes[leader].member.as_ref().unwrap().leading_figures().unwrap();
        world.vanish(gone);
        let began = world.now.mono;
        let conn = world.connect(leader, SessionId(0));
        let mut asked = 0;
        while figures(&world).synced_followers == 2 {
            world.send(leader, conn, &[create(asked, &format!("/a{asked}")), sync(0)].concat());
            asked += 1;
            world.until("answers", |world| world.has_replies(leader, conn, 2 * asked as usize));
            let next = world.now.mono + TICK / 20;
            world.until("time passes", |world| world.now.mono >= next);
        }
        assert!(world.now.mono <= began + TICK * 7, "seed {seed}: {:?}", world.now.mono);
        assert!(asked > 8, "seed {seed}: {asked} writes and as many syncs");
        world.create_at((leader + 2) % 3, "/without");
        assert_eq!(world.leader(), Some(leader), "seed {seed}");
        world.return_all(&[gone]);
        assert!(world.has(gone, "/without"), "seed {seed}");
    }
}

/// It would leave a part of the history out and confirm it all the same.
#[test]
fn a_member_that_is_told_to_end_while_it_synchronizes_confirms_nothing() {
    let mut ended = 0;
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 0, seed % 2 == 0);
        let at = (leader + 1) % 3;
        world.create_at(leader, "/before");
        world.settle();
        world.kill(at);
        let conn = world.connect(leader, SessionId(0));
        creates(&mut world, leader, conn, 1..=60);
        let before = world.nodes[at].disk.log.len();
        world.start(at);
        world.until("it synchronizes", |world| world.nodes[at].disk.log.len() > before);
        if world.roles()[at] != Some(Role::Looking) {
            continue;
        }
        ended += 1;
        for _ in 0..1_000 {
            let node = &mut world.nodes[at];
            node.member.as_mut().unwrap().retire(world.now, false, &mut node.effects);
            world.carry_out(at);
            world.step();
            let of = world.nodes[leader].member.as_ref().unwrap();
            assert_eq!(of.leading_figures().unwrap().synced_followers, 1, "seed {seed}");
        }
        world.create_at(leader, "/goes-on");
    }
    assert!(ended > 5, "{ended} were synchronizing");
}

#[test]
fn a_member_that_has_left_elects_nobody() {
    let mut left = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.until("all serve", World::all_serve);
        let at = seed as usize % 3;
        let others = [(at + 1) % 3, (at + 2) % 3];
        others.into_iter().for_each(|other| world.kill(other));
        world.until("it looks", |world| world.roles()[at] == Some(Role::Looking));
        world.start(others[0]);
        for _ in 0..world.rng.below(40) {
            world.step();
        }
        if world.roles()[at] != Some(Role::Looking) {
            continue;
        }
        left += 1;
        let node = &mut world.nodes[at];
        node.member.as_mut().unwrap().retire(world.now, true, &mut node.effects);
        world.carry_out(at);
        for _ in 0..300 {
            world.step();
            assert_eq!(world.roles()[at], Some(Role::Looking));
        }
        world.start(others[1]);
        world.until("the others serve", |world| {
            others.iter().all(|&other| world.roles()[other] != Some(Role::Looking))
        });
    }
    assert!(left > 20, "{left} left while they looked");
}

/// So that they look for the leader at once.
#[test]
fn a_follower_turns_learners_away() {
    for seed in 0..5 {
        let (mut world, leader) = World::serving(seed, 3, 1, false);
        for at in (0..4).filter(|at| *at != leader) {
            let link = LinkId(world.nodes[at].next_accepted);
            world.nodes[at].next_accepted += 2;
            let (other, arrives) = (None, VecDeque::new());
            let port = peer::Port::Quorum;
            world.nodes[at].links.insert(link, Link { port, other, arrives, is_held: false });
            let from = SocketAddr::from(([127, 0, 0, 1], 9));
            world.peer(at, peer::Input::Accepted { link, port, from });
            assert!(!world.nodes[at].links.contains_key(&link), "server {}", at + 1);
        }
    }
}

/// They keep the log from being purged.
#[test]
fn a_range_of_the_log_is_leased_no_longer_than_it_is_read() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 0, seed % 2 == 0);
        let away = (leader + 1) % 3;
        world.create_at(leader, "/before");
        world.settle();
        world.kill(away);
        let conn = world.connect(leader, SessionId(0));
        creates(&mut world, leader, conn, 1..=100);
        world.start(away);
        world.until("a range is leased", |world| !world.nodes[leader].leases.is_empty());
        world.until("all serve", World::all_serve);
        world.settle();
        world.until("all is given back", |world| world.nodes[leader].leases.is_empty());
    }
}

/// What its clients had seen at other members would be missing.
#[test]
fn a_member_that_comes_back_serves_when_it_has_applied_what_was_committed() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, seed as usize % 2, seed % 4 < 2);
        let at = (0..world.nodes.len()).find(|at| *at != leader).unwrap();
        world.kill(at);
        let conn = world.connect(leader, SessionId(0));
        creates(&mut world, leader, conn, 1..=100);
        let of = |world: &World, at: usize| {
            world.nodes[at].member.as_ref().unwrap().replica().last_processed()
        };
        let committed = of(&world, leader);
        // It applies one transaction in a turn.
        world.turn = 2;
        world.start(at);
        let mut waited = false;
        while world.roles()[at] == Some(Role::Looking) {
            world.step();
            waited |= of(&world, at) < committed;
        }
        assert!(waited && of(&world, at) >= committed, "seed {seed}");
        world.settle();
    }
}

/// Its disk goes on, but not as fast as others write. The leader needs it for a quorum.
#[test]
fn a_member_that_does_not_catch_up_serves_nobody_until_it_has_and_ends_no_term() {
    for seed in 0..10 {
        let (mut world, leader) = World::serving(seed, 3, 0, seed % 4 == 0);
        let (slow, away) = ((leader + 1) % 3, (leader + 2) % 3);
        world.kill(away);
        let conns = [leader, slow].map(|at| (at, world.connect(at, SessionId(0))));
        world.until("sessions begin", |world| {
            conns.iter().all(|(at, conn)| world.nodes[*at].sessions.contains_key(conn))
        });
        world.settle();
        let (epochs, conn) = (world.nodes[slow].disk.epochs, conns[0].1);
        world.nodes[slow].is_stalled = true;
        let began = world.now.mono;
        let mut xid = 0;
        let mut paused = None;
        while world.now.mono < began + TICK * 20 {
            // Each is a batch, and there are always more than it may have waiting.
            let more = if xid == 0 { 60 } else { 3 };
            for _ in 0..more {
                xid += 1;
                world.send(leader, conn, &create(xid, &format!("/s{xid}")));
            }
            // Of its last request it will not hear.
            if paused.is_none() {
                world.send(slow, conns[1].1, &create(xid, &format!("/of-slow{xid}")));
            }
            let next = world.now.mono + TICK / 2;
            world.until("time passes", |world| world.now.mono >= next);
            world.disk(slow);
            if paused.is_none() && world.roles()[slow] == Some(Role::Looking) {
                paused = Some(world.now.mono);
                assert!(world.nodes[slow].closed.contains(&conns[1].1), "seed {seed}");
            }
            assert_eq!(world.leader(), Some(leader), "seed {seed}: it goes on to lead");
        }
        let paused = paused.expect("it does not go on to show what is old").since(began);
        assert!(paused > TICK * 4 && paused < TICK * 8, "seed {seed}: {paused:?}");
        world.nodes[slow].is_stalled = false;
        world.until("all serve", World::all_serve);
        world.until("all are answered", |world| world.has_replies(leader, conn, xid as usize));
        world.settle();
        assert_eq!(world.nodes[slow].disk.epochs, epochs, "seed {seed}: there was no election");
        // Answers to what was given up are not taken for others.
        let conn = world.connect(slow, SessionId(0));
        world.send(slow, conn, &[sync(1), create(2, "/again"), sync(3)].concat());
        world.until("answers", |world| world.has_replies(slow, conn, 3));
        assert_eq!(world.nodes[slow].replies[&conn], [(1, 0), (2, 0), (3, 0)]);
    }
}

#[test]
fn a_leader_serves_no_clients_where_it_is_not_to() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.leader_serves = false;
        world.restart(&[0, 1, 2]);
        let old = world.leader().unwrap();
        let early = world.connect(old, SessionId(0));
        assert!(world.nodes[old].closed.contains(&early), "seed {seed}");
        let others = [(old + 1) % 3, (old + 2) % 3];
        let conns = others.map(|at| world.connect(at, SessionId(0)));
        world.until("sessions begin", |world| {
            others.iter().all(|&at| world.nodes[at].sessions.len() == 1)
        });
        world.kill(old);
        world.until("another leads", |world| world.leader().is_some() && world.all_serve());
        let new = world.leader().unwrap();
        for (at, conn) in others.into_iter().zip(conns) {
            // Nor does anybody stay where the leader speaks Apache's protocol.
            let is_closed = at == new || seed % 2 == 0;
            assert_eq!(world.nodes[at].closed.contains(&conn), is_closed, "seed {seed}");
        }
    }
}

/// A client leaves a member that has lost its leader, and what it has sent there arrives late.
#[test]
fn what_a_client_left_behind_is_not_done_after_what_it_asked_for_elsewhere() {
    for seed in 0..20 {
        let (mut world, leader) = World::serving(seed, 3, 0, false);
        let (left, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let now_at = if seed % 2 == 0 { leader } else { other };
        let conn = world.connect(left, SessionId(0));
        world.until("a session begins", |world| world.nodes[left].sessions.contains_key(&conn));
        let (session, _) = world.nodes[left].sessions[&conn];
        world.settle();
        let member = world.nodes[left].member.as_ref().unwrap();
        let link = member.party().unwrap().followed.unwrap().link.unwrap();
        let other_end = world.nodes[left].links[&link].other;
        world.cut(Some((left, link)), true);
        world.cut(other_end, true);
        world.nodes[left].is_stalled = true;
        world.send(left, conn, &create(1, "/old"));
        let moved = world.connect(now_at, session);
        world.until("it moves", |world| world.nodes[now_at].sessions.contains_key(&moved));
        world.send(now_at, moved, &create(2, "/new"));
        world.until("an answer", |world| world.has_replies(now_at, moved, 1));
        world.nodes[left].is_stalled = false;
        world.until("all serve", World::all_serve);
        world.settle();
        assert!(world.has(leader, "/new") && !world.has(leader, "/old"), "seed {seed}");
        world.until("it is told", |world| world.nodes[left].closed.contains(&conn));
        world.send(now_at, moved, &create(3, "/newer"));
        world.until("an answer", |world| world.has_replies(now_at, moved, 2));
        assert_eq!(world.nodes[now_at].replies[&moved], [(2, 0), (3, 0)], "seed {seed}");
    }
}
