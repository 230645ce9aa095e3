//! Turns by cost: what one connection asks for does not hold others up, and is forgotten with it.

use super::*;
use crate::replica::fair::{APPLY_COST, WRITE_COST};
use crate::wire::put_multi_end;

fn get_ephemerals(xid: i32) -> Vec<u8> {
    request(xid, OpCode::GetEphemerals, |out| put_str(out, "/"))
}

pub(super) fn ephemeral(xid: i32, path: &str) -> Vec<u8> {
    request(xid, OpCode::Create, |out| {
        put_str(out, path);
        put_buffer(out, Some(&[]));
        out.extend_from_slice(ACL_OPEN_BYTES);
        put_i32(out, 1);
    })
}

fn spent(scene: &Scene) -> u64 {
    scene.replica.fair.spent
}

/// A connection with 2,000 ephemerals, so that listing them takes a good part of a turn.
fn scene_with_lister() -> (Scene, ConnId, ConnId) {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let (a, b) = (scene.connect(0), scene.connect(1));
    for part in 0..20 {
        let nodes = part * 100..(part + 1) * 100;
        scene.send(a, &nodes.map(|n| ephemeral(n, &format!("/{n}"))).collect::<Vec<_>>());
        scene.settle();
        scene.effects.clear();
    }
    (scene, a, b)
}

/// One turn of a loop in which a write of the log ends: effects are carried out before what became
/// durable is applied, and the turn goes on. Returns what it has spent.
fn loop_turn(scene: &mut Scene, before_write: Vec<Input<'_>>, after_write: Vec<Input<'_>>) -> u64 {
    let begun = spent(scene);
    scene.replica.begin_turn();
    let zxid = scene.logged;
    before_write.into_iter().for_each(|input| scene.part_of_turn(input));
    scene.part_of_turn(Input::Committed { zxid });
    after_write.into_iter().for_each(|input| scene.part_of_turn(input));
    if scene.replica.has_work() {
        scene.part_of_turn(Input::Tick);
    }
    scene.replica.check();
    spent(scene) - begun
}

/// One that leaves and comes back at once would get all that others wait for.
#[test]
fn a_connection_has_no_share_in_its_first_turn() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let conn = ConnId::new(5, 1);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let frame = connect_frame(SessionId(0), 10_000);
    scene.replica.begin_turn();
    scene.part_of_turn(Input::Opened { conn, peer });
    scene.part_of_turn(Input::Frames { conn, bytes: &frame });
    assert_eq!(scene.replica.last_known(), Zxid::ZERO, "it waits behind all that came before");
    scene.part_of_turn(Input::Tick);
    assert!(scene.replica.last_known() > Zxid::ZERO, "the end of the turn serves the queue");
}

/// One that sends much at once and leaves before anything is answered costs little.
#[test]
fn a_new_connection_is_paused_when_more_waits_than_it_has_had_done() {
    let (mut scene, a, b) = scene_with_lister();
    // The one has had a hundred kilobytes of requests done before, the other nothing.
    for (conn, count, is_new) in [(a, 1_000, false), (b, 5_000, true)] {
        scene.effects.clear();
        let flood: Vec<_> = (0..count).flat_map(get_ephemerals).collect();
        scene.replica.begin_turn();
        scene.replica.handle(scene.now, Input::Frames { conn, bytes: &flood }, &mut scene.effects);
        let paused = |effect: &Effect| matches!(effect, Effect::Pause { conn: it } if *it == conn);
        assert_eq!(scene.effects.list.iter().any(paused), is_new, "{conn:?}");
        let waiting = scene.replica.clients.known(conn).waiting_bytes;
        assert!(waiting > 32 << 10, "{waiting}");
    }
    for _ in 0..1_000 {
        scene.turn(Input::Tick);
        // Nobody is choked.
        for conn in [a, b] {
            scene.replica.handle(scene.now, Input::Drained { conn }, &mut scene.effects);
        }
    }
    assert!(!scene.replica.has_work());
    let resumed = |effect: &Effect| matches!(effect, Effect::Resume { conn } if *conn == b);
    assert!(scene.effects.list.iter().any(resumed), "it goes on when it was served");
}

/// A turn's length is what a lone request waits for, so all kinds of work share one budget.
#[test]
fn a_lone_read_is_answered_in_its_turn_and_turns_are_short() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let conns: Vec<_> = (0..5).map(|slot| scene.connect(slot)).collect();
    scene.send(conns[0], &[create(0, "/n")]);
    scene.settle();
    let floods: Vec<Vec<u8>> = [set_data(1, "/n", 100), get_data(1, "/n")]
        .iter()
        .map(|frame| frame.repeat(5_000))
        .collect();
    let turn = scene.replica.options.fair.turn;
    let lone = conns[4];
    for xid in 1..200 {
        let flood: Vec<_> = (0..4)
            .map(|n| Input::Frames { conn: conns[n], bytes: &floods[n % 2] })
            .filter(|_| xid % 10 == 1)
            .collect();
        let get = get_data(xid, "/n");
        let (before, after) = match xid % 2 {
            0 => (flood, vec![Input::Frames { conn: lone, bytes: &get }]),
            _ => (vec![Input::Frames { conn: lone, bytes: &get }], flood),
        };
        scene.effects.clear();
        let taken = loop_turn(&mut scene, before, after);
        assert_eq!(scene.xids(lone), [xid], "at once");
        assert!(taken < turn + turn / 4, "turn {xid} took {taken}");
        assert!(xid < 5 || scene.replica.has_work(), "the flood goes on");
        // Nobody is choked.
        for &conn in &conns {
            scene.replica.handle(scene.now, Input::Drained { conn }, &mut scene.effects);
        }
    }
}

/// The worst that one list and one budget of each kind can make of a turn.
const TURN_MAX: u64 = 4_000_000;

#[test]
fn a_flood_of_lists_leaves_every_turn_to_others() {
    let (mut scene, a, b) = scene_with_lister();
    let flood: Vec<_> = (0..20_000).map(get_ephemerals).collect();
    let before = spent(&scene);
    scene.turn(Input::Frames { conn: a, bytes: &flood.concat() });
    assert!(spent(&scene) - before < TURN_MAX, "{}", spent(&scene) - before);
    for xid in 1..50 {
        let before = spent(&scene);
        scene.turn(Input::Frames { conn: b, bytes: &get_data(xid, "/1") });
        assert_eq!(scene.xids(b), [xid], "at once");
        scene.turn(Input::Tick);
        let taken = spent(&scene) - before;
        assert!(taken < TURN_MAX, "{taken}");
        if scene.replica.deadline() != Some(Instant(0)) {
            // It has enough to read for now.
            scene.effects.clear();
            scene.turn(Input::Drained { conn: a });
        }
    }
    // Its client leaves: nothing of what it asked for is done any more.
    scene.effects.clear();
    let before = (spent(&scene), scene.replica.stats().received);
    scene.turn(Input::Closed { conn: a });
    while scene.replica.has_work() {
        scene.turn(Input::Tick);
    }
    assert_eq!((spent(&scene), scene.replica.stats().received), before);
    assert_eq!(scene.replica.outstanding(), 0);
}

#[test]
fn a_lone_connection_gets_everything_in_order() {
    let mut scene = Scene::new(u64::MAX, limits(|_| {}));
    let a = scene.connect(0);
    scene.send(a, &[create(0, "/n")]);
    scene.settle();
    scene.replies(a);
    let frames: Vec<_> = (1..20_000).map(|xid| get_data(xid, "/n")).collect();
    let before = spent(&scene);
    scene.turn(Input::Frames { conn: a, bytes: &frames.concat() });
    let mut turns = 1u64;
    while scene.replica.has_work() {
        assert_eq!(scene.replica.deadline(), Some(Instant(0)), "the loop must not sleep");
        scene.turn(Input::Tick);
        // It reads what it gets.
        scene.replica.handle(scene.now, Input::Drained { conn: a }, &mut scene.effects);
        turns += 1;
    }
    assert_eq!(scene.xids(a), Vec::from_iter(1..20_000));
    // The budget is spent again and again.
    let (total, turn) = (spent(&scene) - before, scene.replica.options.fair.turn);
    assert!(turns > total / (2 * turn), "{turns} turns for {total}");
    assert!(turns < 4 + total / (turn / 4), "{turns} turns for {total}");
}

#[test]
fn connections_that_wait_share_by_cost() {
    let (mut scene, a, b) = scene_with_lister();
    // a asks for lists, b for as much work in small pieces.
    let lists: Vec<_> = (0..1_000).map(get_ephemerals).collect();
    let gets: Vec<_> = (0..100_000).map(|xid| get_data(xid, "/1")).collect();
    scene.turn(Input::Frames { conn: a, bytes: &lists.concat() });
    scene.turn(Input::Frames { conn: b, bytes: &gets.concat() });
    for _ in 0..40 {
        scene.turn(Input::Tick);
        // Nobody is choked.
        for conn in [a, b] {
            scene.replica.handle(scene.now, Input::Drained { conn }, &mut scene.effects);
        }
    }
    let list_cost = 80 * 2_000;
    let (lists, gets) = (scene.xids(a).len() as u64, scene.xids(b).len() as u64);
    let (a, b) = (lists * list_cost, gets * 300);
    assert!(a > b / 2 && b > a / 2, "{lists} lists and {gets} gets");
}

/// Transactions of a connection that are on their way are bounded in bytes, and applied by turns.
#[test]
fn large_writes_of_one_leave_room_for_those_of_others() {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create(1, "/a"), create(2, "/b")]);
    scene.settle();
    scene.effects.clear();
    let flood: Vec<_> = (3..20).map(|xid| set_data(xid, "/a", 700_000)).collect();
    scene.send(a, &flood);
    scene.send(b, &[set_data(1, "/b", 10)]);
    assert!(scene.replica.tail.len() <= 3, "{}", scene.replica.tail.len());
    scene.sync();
    assert_eq!(scene.xids(b), [1]);
    scene.settle();
    assert_eq!(scene.xids(a), Vec::from_iter(3..20));
}

#[test]
fn what_is_durable_is_applied_by_turns_and_in_order() {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    scene.replica.options.limits.waiting_bytes_max = usize::MAX;
    let conns: Vec<_> = (0..20).map(|slot| scene.connect(slot)).collect();
    scene.send(conns[0], &[create(0, "/n")]);
    scene.settle();
    scene.effects.clear();
    for &conn in &conns {
        scene.send(conn, &(1..500).map(|xid| set_data(xid, "/n", 10)).collect::<Vec<_>>());
    }
    let (zxid, mut turns) = (scene.logged, 0);
    let before = spent(&scene);
    scene.turn(Input::Committed { zxid });
    while scene.replica.last_processed() < zxid {
        assert_eq!(scene.replica.deadline(), Some(Instant(0)));
        scene.turn(Input::Tick);
        turns += 1;
    }
    let total = spent(&scene) - before;
    assert!(turns >= total / scene.replica.options.fair.turn - 1, "{turns} turns for {total}");
    assert!(turns >= 3, "{turns}");
    scene.settle();
    for conn in conns {
        assert_eq!(scene.xids(conn), Vec::from_iter(1..500));
    }
}

fn multi_of_sets(xid: i32, count: u64) -> Vec<u8> {
    request(xid, OpCode::Multi, |out| {
        for _ in 0..count {
            put_i32(out, OpCode::SetData.code());
            put_bool(out, false);
            put_i32(out, -1);
            put_str(out, "/n");
            put_buffer(out, None);
            put_i32(out, -1);
        }
        put_multi_end(out);
    })
}

/// A multi is judged in one go and applied in one go. The next one of its client does not make a
/// turn longer that is too long already.
#[test]
fn what_follows_a_large_multi_has_a_turn_of_its_own() {
    const SETS: u64 = 6_000;
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    scene.replica.options.limits.waiting_bytes_max = usize::MAX;
    scene.replica.fair.options.in_flight_bytes = 1;
    let a = scene.connect(0);
    scene.send(a, &[create(0, "/n")]);
    scene.settle();
    scene.effects.clear();
    let before = spent(&scene);
    scene.turn(Input::Frames { conn: a, bytes: &multi_of_sets(1, SETS) });
    assert!(spent(&scene) - before >= SETS * WRITE_COST, "each of its operations was judged");
    scene.turn(Input::Frames { conn: a, bytes: &multi_of_sets(2, SETS) });
    let first = scene.replica.last_known();
    let applied = loop_turn(&mut scene, vec![], vec![]);
    assert_eq!(scene.xids(a), [1]);
    assert!(applied >= SETS * APPLY_COST, "and each was applied: {applied}");
    assert_eq!(scene.replica.last_known(), first, "the turn was long enough");
    assert!(scene.replica.has_work());
    scene.turn(Input::Tick);
    assert!(scene.replica.last_known() > first, "it waits for one turn");
}

/// A read that takes long and stands before a write would hold up everybody's writes.
#[test]
fn no_more_than_one_long_read_stands_before_a_write() {
    let (mut scene, a, b) = scene_with_lister();
    let mut frames = vec![create(1, "/x")];
    frames.extend((2..60).map(get_ephemerals));
    frames.push(create(60, "/y"));
    scene.send(a, &frames);
    scene.send(b, &[create(1, "/z")]);
    let before = spent(&scene);
    let zxid = scene.logged;
    scene.turn(Input::Committed { zxid });
    assert_eq!(scene.xids(b), [1]);
    assert!(spent(&scene) - before < TURN_MAX);
    let mut seen = scene.xids(a);
    while seen.len() < 60 {
        scene.effects.clear();
        scene.handle(Input::Drained { conn: a });
        scene.sync();
        seen.extend(scene.xids(a));
    }
    assert_eq!(seen, Vec::from_iter(1..61));
}

#[test]
fn a_client_whose_input_is_held_back_is_alive() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let (a, b) = (scene.connect(0), scene.connect(1));
    for _ in 0..60 {
        scene.pass(1000);
        scene.handle(Input::Heard { conn: a });
        scene.handle(Input::Tick);
    }
    scene.settle();
    assert!(!scene.is_closed(a, CloseHow::AfterFlush));
    assert!(scene.is_closed(b, CloseHow::AfterFlush), "it was silent for a minute");
}
