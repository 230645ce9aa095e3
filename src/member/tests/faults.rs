//! What goes wrong between members, one fault at a time.

use crate::base::SessionId;
use crate::member::Role;

use super::world::{Disk, TICK, World, create};

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
        let mut world = World::new(seed, 3, 0, seed % 2 == 0);
        world.until("all serve", World::all_serve);
        let leader = world.leader().unwrap();
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
