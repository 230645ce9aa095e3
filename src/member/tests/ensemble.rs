//! Three to seven members that elect, lose their leader, come back and end.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::{ConnId, SessionId};
use crate::member::Role;
use crate::wire::{Reader, Txn, TxnDigest, TxnHeader};

use super::world::{TICK, World, create, sync};

mod epochs;

#[test]
fn three_members_elect_a_leader_and_serve_clients_of_each() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.until("all serve", World::all_serve);
        let conns: Vec<ConnId> = (0..3).map(|at| world.connect(at, SessionId(0))).collect();
        world.until("sessions begin", |world| {
            world.nodes.iter().all(|node| node.sessions.len() == 1)
        });
        for (at, conn) in conns.iter().enumerate() {
            let frames =
                [create(1, &format!("/a{at}")), sync(2), create(3, "/same"), create(4, "/b/c")];
            world.send(at, *conn, &frames.concat());
        }
        world.until("all are answered", |world| {
            conns.iter().enumerate().all(|(at, conn)| world.has_replies(at, *conn, 4))
        });
        let mut made = 0;
        for (at, conn) in conns.iter().enumerate() {
            let replies = &world.nodes[at].replies[conn];
            assert_eq!((replies[0], replies[1]), ((1, 0), (2, 0)), "{replies:?}");
            made += usize::from(replies[2] == (3, 0));
            assert_eq!(replies[3], (4, -101));
        }
        assert_eq!(made, 1, "one creates it");
        world.settle();
    }
}

/// COMPAT(3.6 to 3.9): as a leader of Apache's states them; the others compare.
#[test]
fn to_members_that_speak_as_apaches_do_transactions_state_their_digest() {
    for is_plain in [true, false] {
        let (mut world, at) = World::serving(7, 3, 0, is_plain);
        let conn = world.connect(at, SessionId(0));
        world.until("a session begins", |world| !world.nodes[at].sessions.is_empty());
        let frames: Vec<Vec<u8>> = (1..30).map(|xid| create(xid, &format!("/n{xid}"))).collect();
        world.send(at, conn, &frames.concat());
        world.until("all are answered", |world| world.has_replies(at, conn, frames.len()));
        world.settle();
        for node in &world.nodes {
            let (zxid, entry) = node.disk.log.last().unwrap();
            let mut reader = Reader::new(entry);
            let header = TxnHeader::decode_from(&mut reader).unwrap();
            Txn::decode_from(header.kind, &mut reader).unwrap();
            let stated = TxnDigest::decode_trailing(&mut reader).unwrap();
            let replica = node.member.as_ref().unwrap().replica();
            assert_eq!(*zxid, replica.last_processed());
            let tree_digest = replica.tree().digest();
            let expected = TxnDigest { version: TxnDigest::VERSION, tree_digest };
            assert_eq!(stated, is_plain.then_some(expected));
        }
    }
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    for seed in 0..20 {
        let (mut world, old) = World::serving(seed, 3, 0, seed % 3 == 0);
        let at = (old + 1) % 3;
        let conn = world.connect(at, SessionId(0));
        world.until("a session begins", |world| !world.nodes[at].sessions.is_empty());
        world.send(at, conn, &create(1, "/before"));
        world.until("an answer", |world| world.has_replies(at, conn, 1));
        world.kill(old);
        world.until("another leads", |world| world.leader().is_some());
        world.until("all serve", World::all_serve);
        let (session, _) = world.nodes[at].sessions[&conn];
        // A leader that speaks Apache's protocol gives a session to any server that asks.
        let stays = seed % 3 != 0 || world.leader() == Some(at);
        assert_eq!(world.nodes[at].closed.contains(&conn), !stays);
        if stays {
            world.send(at, conn, &create(2, "/after"));
            world.until("an answer", |world| world.has_replies(at, conn, 2));
            assert_eq!(world.nodes[at].replies[&conn], [(1, 0), (2, 0)]);
        }
        world.start(old);
        world.until("all serve", World::all_serve);
        world.settle();
        // Its session moves to the server that was away.
        let moved = world.connect(old, session);
        world.until("the session moves", |world| world.nodes[old].sessions.contains_key(&moved));
        world.send(old, moved, &create(3, "/moved"));
        world.until("an answer", |world| world.has_replies(old, moved, 1));
        assert_eq!(world.nodes[old].replies[&moved], [(3, 0)]);
    }
}

#[test]
fn a_leader_that_ends_leaves_the_others_at_once() {
    for seed in 0..20 {
        let (mut world, old) = World::serving(seed, 3, 0, seed % 2 == 0);
        let conn = world.connect(old, SessionId(0));
        world.until("a session begins", |world| !world.nodes[old].sessions.is_empty());
        world.send(old, conn, &create(1, "/last"));
        let node = &mut world.nodes[old];
        let member = node.member.as_mut().unwrap();
        member.retire(world.now, false, &mut node.effects);
        assert_eq!(member.role(), Role::Leading, "its client waits for an answer");
        world.until("an answer", |world| world.has_replies(old, conn, 1));
        let began = world.now.mono;
        let node = &mut world.nodes[old];
        node.member.as_mut().unwrap().retire(world.now, false, &mut node.effects);
        world.carry_out(old);
        world.until("another leads", |world| world.leader().is_some());
        // Where members speak Apache's protocol they wait for a vote that does not come.
        let least = if seed % 2 == 0 { 500 } else { 100 };
        let took = world.now.mono.since(began);
        assert!(took <= Duration::from_millis(least), "seed {seed}: {took:?}");
        world.until("its disk rests", |world| {
            world.nodes[old].member.as_ref().unwrap().replica().is_settled()
        });
        assert_eq!(world.nodes[old].member.as_ref().unwrap().role(), Role::Looking);
        world.kill(old);
        world.settle();
    }
}

/// Others write on; the one that ends has nothing in its log of which it does not know the fate.
#[test]
fn whoever_ends_under_load_knows_what_became_of_all_that_it_has() {
    for seed in 0..30 {
        let mut world = World::new(seed, 3, seed as usize % 2, seed % 4 < 2);
        world.until("all serve", World::all_serve);
        let at = seed as usize % 3;
        let others: Vec<usize> = (0..3).filter(|other| *other != at).collect();
        let conns: Vec<ConnId> =
            others.iter().map(|&other| world.connect(other, SessionId(0))).collect();
        world.until("sessions begin", |world| {
            others.iter().all(|&other| !world.nodes[other].sessions.is_empty())
        });
        let mut xid = 0;
        let is_over =
            |world: &World| world.nodes[at].member.as_ref().unwrap().replica().is_settled();
        for step in 0..3_000 {
            if step % 5 == 0 && step < 2_000 {
                xid += 1;
                for (&other, conn) in others.iter().zip(&conns) {
                    world.send(other, *conn, &create(xid, &format!("/n{other}-{xid}")));
                }
            }
            world.step();
            let node = &mut world.nodes[at];
            let member = node.member.as_mut().unwrap();
            if step >= 200 {
                member.retire(world.now, false, &mut node.effects);
                world.carry_out(at);
            }
        }
        world.until("it ends", is_over);
        let replica = world.nodes[at].member.as_ref().unwrap().replica();
        assert!(!replica.is_serving(), "seed {seed}: it has left");
        let marks = (replica.last_known(), replica.last_logged());
        assert_eq!(marks, (replica.last_processed(), replica.last_processed()), "seed {seed}");
    }
}

#[test]
fn whatever_is_killed_nothing_acknowledged_is_lost() {
    for seed in 0..40 {
        let mut world =
            World::new(seed, 3 + seed as usize % 2 * 2, seed as usize % 3, seed % 4 == 0);
        let members = world.nodes.len();
        if seed % 3 == 1 {
            world.spent_counter = 20;
        }
        let mut acknowledged = BTreeSet::new();
        let mut next = 0;
        for round in 0..12 {
            world.until("a leader", |world| world.leader().is_some() && world.all_serve());
            let up: Vec<usize> =
                (0..members).filter(|&at| world.nodes[at].member.is_some()).collect();
            let at = up[world.rng.below(up.len() as u64) as usize];
            let conn = world.connect(at, SessionId(0));
            let mut frames = Vec::new();
            let count = 1 + world.rng.below(30) as i32;
            let first = next;
            for xid in 1..=count {
                frames.extend(create(xid, &format!("/n{next}")));
                next += 1;
            }
            world.send(at, conn, &frames);
            for _ in 0..world.rng.below(300) {
                world.step();
            }
            // The handshake comes first.
            let replies = world.nodes[at].replies.get(&conn).cloned().unwrap_or_default();
            let own = replies.iter().filter(|(_, error)| *error == 0);
            acknowledged.extend(own.map(|(xid, _)| first + xid - 1));
            if round % 2 == 0 {
                let down = world.rng.below(members as u64) as usize;
                let is_up = |world: &World, at: usize| world.nodes[at].member.is_some();
                if is_up(&world, down) && (0..members).all(|at| is_up(&world, at)) {
                    world.kill(down);
                }
            } else {
                for at in 0..members {
                    if world.nodes[at].member.is_none() {
                        world.start(at);
                        // Now and then it is told to end again while it synchronizes.
                        if world.rng.chance(1, 3) {
                            world.leave(at);
                        }
                    }
                }
            }
        }
        for at in 0..members {
            if world.nodes[at].member.is_none() {
                world.start(at);
            }
        }
        world.until("all serve", World::all_serve);
        world.settle();
        let tree = world.nodes[0].member.as_ref().unwrap().replica().tree();
        for path in acknowledged.iter().map(|number| format!("/n{number}")) {
            assert!(tree.find(&tree.key(&path)).is_some(), "seed {seed}: {path} is lost");
        }
    }
}

/// Two may elect one of them while the third comes up and convinces the other.
#[test]
fn members_that_start_one_after_the_other_soon_serve() {
    for seed in 0..300 {
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.until("all serve", World::all_serve);
        for _ in 0..4 {
            (0..3).for_each(|at| world.kill(at));
            let first = world.rng.below(3) as usize;
            for at in 0..3 {
                world.start((first + at) % 3);
                for _ in 0..world.rng.below(60) {
                    world.step();
                }
            }
            let began = world.now.mono;
            world.until("all serve", World::all_serve);
            let took = world.now.mono.since(began);
            assert!(took < TICK * 5, "seed {seed}: {took:?}");
        }
    }
}
