//! Long work is done in parts: whatever one connection asks for, a turn beside a lone client stays
//! short, and the lone client is answered in it.

use super::*;
use crate::wire::{XID_NOTIFICATION, XID_SET_WATCHES, put_i64, put_multi_end};

/// A turn beside a lone client and one part that begins when it is over.
fn turn_max(scene: &Scene) -> u64 {
    let fair = scene.replica.options.fair;
    fair.turn_beside_lone * 3 / 2
}

/// Turns with a lone read each, until the flood has nothing left to do. Returns their number.
pub(super) fn turns_beside_lone(scene: &mut Scene, flooder: ConnId, lone: ConnId) -> usize {
    let mut turns = 0;
    while scene.replica.has_work() {
        turns += 1;
        let xid = 1000 + turns;
        let begun = scene.replica.fair.spent;
        scene.part_of_turn(Input::Frames { conn: lone, bytes: &get_data(xid, "/n") });
        assert_eq!(scene.xids(lone), [xid], "at once");
        scene.turn(Input::Tick);
        let taken = scene.replica.fair.spent - begun;
        assert!(taken < turn_max(scene), "turn {turns} took {taken}");
        scene.replica.handle(scene.now, Input::Drained { conn: flooder }, &mut scene.effects);
    }
    turns as usize
}

/// A flooder and a lone client that has been seen as such, with the node `/n`.
pub(super) fn scene_with_lone() -> (Scene, ConnId, ConnId) {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    let (flooder, lone) = (scene.connect(0), scene.connect(1));
    scene.send(flooder, &[create(1, "/n")]);
    scene.settle();
    for xid in 0..5 {
        scene.send(lone, &[get_data(xid, "/n")]);
    }
    scene.effects.clear();
    (scene, flooder, lone)
}

fn set_watches(paths: usize) -> Vec<u8> {
    request(XID_SET_WATCHES, OpCode::SetWatches, |out| {
        put_i64(out, 0);
        put_i32(out, 0);
        put_i32(out, paths as i32);
        (0..paths).for_each(|n| put_str(out, &format!("/w{n}")));
        // A child watch on what is not there: an event at once.
        put_i32(out, 1);
        put_str(out, "/none");
    })
}

#[test]
fn many_watches_are_set_in_parts_and_what_comes_later_waits() {
    let (mut scene, flooder, lone) = scene_with_lone();
    let frames = [set_watches(20_000), get_data(7, "/n"), set_watches(20_000), ping()].concat();
    scene.turn(Input::Frames { conn: flooder, bytes: &frames });
    assert_eq!(scene.xids(flooder), [], "neither is through");
    let turns = turns_beside_lone(&mut scene, flooder, lone);
    assert!(turns > 30, "{turns}");
    let part = [XID_NOTIFICATION, XID_SET_WATCHES];
    let expect = [&part[..], &[7], &part[..], &[XID_PING]].concat();
    assert_eq!(scene.xids(flooder), expect);
    assert_eq!(scene.replica.watches().summary().watches, 20_000);
    assert_eq!(scene.replica.outstanding(), 0);
}

/// Changes between two parts fire what is watched already, and are told of what comes later.
#[test]
fn no_change_is_lost_while_watches_are_set() {
    let (mut scene, flooder, lone) = scene_with_lone();
    scene.turn(Input::Frames { conn: flooder, bytes: &set_watches(20_000) });
    scene.turn(Input::Tick);
    scene.send_in_turn(lone, &[create(1, "/w0"), create(2, "/w19999")]);
    let zxid = scene.logged;
    scene.turn(Input::Committed { zxid });
    assert_eq!(scene.xids(flooder), [XID_NOTIFICATION], "the first is watched");
    while scene.replica.has_work() {
        scene.turn(Input::Tick);
    }
    let left = [XID_NOTIFICATION, XID_NOTIFICATION, XID_SET_WATCHES];
    assert_eq!(scene.xids(flooder), left, "/w19999 exists, /none does not");
}

#[test]
fn a_connection_that_leaves_takes_its_long_read_along() {
    let (mut scene, flooder, _) = scene_with_lone();
    let frames = [set_watches(20_000), set_watches(20_000)].concat();
    scene.turn(Input::Frames { conn: flooder, bytes: &frames });
    assert_eq!(scene.replica.outstanding(), 2);
    scene.handle(Input::Closed { conn: flooder });
    assert_eq!(scene.replica.outstanding(), 0);
    assert_eq!(scene.replica.watches().summary().watches, 0);
}

fn multi_read(xid: i32, paths: &[&str]) -> Vec<u8> {
    request(xid, OpCode::MultiRead, |out| {
        for path in paths {
            put_i32(out, OpCode::GetData.code());
            put_bool(out, false);
            put_i32(out, -1);
            put_str(out, path);
            put_bool(out, false);
        }
        put_multi_end(out);
    })
}

/// The frames that were sent to `conn`, without their lengths.
pub(super) fn sent_to(scene: &Scene, conn: ConnId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for effect in &scene.effects.list {
        if let Effect::Send { conn: to, start, end } = effect
            && *to == conn
        {
            bytes.extend_from_slice(&scene.effects.bytes[*start..*end]);
        }
    }
    bytes
}

#[test]
fn a_long_multi_read_is_divided_and_says_what_a_short_one_says() {
    let (mut scene, flooder, lone) = scene_with_lone();
    scene.turn(Input::Frames { conn: flooder, bytes: &multi_read(1, &["/n", "/none"]) });
    let short = sent_to(&scene, flooder);
    // Length and header, then the results of two operations, then the end.
    let (results, end) = short[20..].split_at(short.len() - 20 - 9);
    scene.effects.clear();
    let many = ["/n", "/none"].repeat(2_000);
    scene.turn(Input::Frames { conn: flooder, bytes: &multi_read(2, &many) });
    let turns = turns_beside_lone(&mut scene, flooder, lone);
    assert!(turns > 2, "{turns}");
    let long = sent_to(&scene, flooder);
    assert_eq!(long[20..], [results.repeat(2_000), end.to_vec()].concat());
}

/// Its results show one moment, though the node changes between the parts.
#[test]
fn a_multi_read_shows_one_state_of_the_tree() {
    for changes in [1, 2, 1_000] {
        let (mut scene, flooder, lone) = scene_with_lone();
        let frame = multi_read(2, &["/n"; 3_000]);
        scene.turn(Input::Frames { conn: flooder, bytes: &frame });
        let mut changed = 0;
        while scene.replica.has_work() {
            if changed < changes {
                changed += 1;
                scene.send_in_turn(lone, &[set_data(changed, "/n", 10)]);
                let zxid = scene.logged;
                scene.turn(Input::Committed { zxid });
            }
            scene.turn(Input::Tick);
        }
        let reply = sent_to(&scene, flooder);
        let results = &reply[20..reply.len() - 9];
        let one = &results[..results.len() / 3_000];
        assert_eq!(results, one.repeat(3_000), "after {changed} changes");
        assert!(changed > 1 || changes == 1, "{changed}");
        // Its version says which of the changes it has seen; the header's zxid is not older.
        assert_eq!(scene.xids(flooder), [2]);
    }
}

fn watch(xid: i32, path: &str) -> Vec<u8> {
    request(xid, OpCode::GetData, |out| {
        put_str(out, path);
        put_bool(out, true);
    })
}

#[test]
fn many_are_told_in_parts_and_each_before_it_sees_the_change() {
    let (mut scene, writer, lone) = scene_with_lone();
    let watchers: Vec<_> = (2..502).map(|slot| scene.connect(slot)).collect();
    for &conn in watchers.iter().chain([&writer]) {
        scene.send(conn, &[watch(1, "/n")]);
    }
    scene.effects.clear();
    scene.send_in_turn(writer, &[set_data(2, "/n", 10)]);
    let zxid = scene.logged;
    scene.turn(Input::Committed { zxid });
    assert_eq!(scene.xids(writer), [XID_NOTIFICATION, 2]);
    let told = |scene: &mut Scene| {
        watchers.iter().filter(|&&conn| scene.xids(conn) == [XID_NOTIFICATION]).count()
    };
    let at_once = told(&mut scene);
    assert!((1..100).contains(&at_once), "{at_once}");
    // The last to be told asks what the change has made, and hears of it first.
    let last = watchers[499];
    scene.turn(Input::Frames { conn: last, bytes: &get_data(3, "/n") });
    assert_eq!(scene.xids(last), [XID_NOTIFICATION, 3]);
    // One that leaves is forgotten.
    scene.turn(Input::Closed { conn: watchers[498] });
    let mut later = told(&mut scene);
    assert!(at_once + later < 400);
    let turns = turns_beside_lone(&mut scene, writer, lone);
    assert!(turns > 5, "{turns}");
    later += told(&mut scene);
    assert_eq!(at_once + later, 498);
}

/// Who writes to what thousands watch does not fill the memory with events.
#[test]
fn events_that_wait_to_be_sent_are_bounded() {
    let (mut scene, writer, lone) = scene_with_lone();
    let stays = |xid| {
        request(xid, OpCode::AddWatch, |out| {
            put_str(out, "/n");
            put_i32(out, 0);
        })
    };
    let watchers: Vec<_> = (2..1002).map(|slot| scene.connect(slot)).collect();
    watchers.iter().for_each(|&conn| scene.send(conn, &[stays(1)]));
    scene.effects.clear();
    let sets: Vec<_> = (1..50).map(|xid| set_data(xid, "/n", 10)).collect();
    scene.send_in_turn(writer, &sets);
    let zxid = scene.logged;
    scene.turn(Input::Committed { zxid });
    let mut turns = 0;
    while scene.replica.has_work() {
        assert!(scene.replica.owed.bytes() < 512 << 10);
        turns += turns_beside_lone_once(&mut scene, lone);
    }
    assert!(turns > 100, "{turns}");
    let events: usize = watchers.iter().map(|&conn| scene.xids(conn).len()).sum();
    assert_eq!(events, 49 * watchers.len());
}

fn turns_beside_lone_once(scene: &mut Scene, lone: ConnId) -> usize {
    scene.part_of_turn(Input::Frames { conn: lone, bytes: &get_data(9, "/n") });
    let begun = scene.replica.fair.spent;
    scene.turn(Input::Tick);
    assert!(scene.replica.fair.spent - begun < turn_max(scene));
    1
}

#[test]
fn turns_are_short_beside_lone_clients_only() {
    let (mut scene, flooder, lone) = scene_with_lone();
    let fair = scene.replica.options.fair;
    let flood = get_data(1, "/n").repeat(10_000);
    let turn = |scene: &mut Scene| {
        let begun = scene.replica.fair.spent;
        scene.turn(Input::Tick);
        scene.effects.clear();
        scene.replica.fair.spent - begun
    };
    scene.turn(Input::Frames { conn: flooder, bytes: &flood });
    assert!(turn(&mut scene) < fair.turn_beside_lone * 5 / 4);
    // Nothing has come from it for long: all others pipeline.
    let mut longest = 0;
    for _ in 0..1_000 {
        scene.turn(Input::Frames { conn: flooder, bytes: &get_data(1, "/n").repeat(3_000) });
        longest = longest.max(turn(&mut scene));
        scene.replica.handle(scene.now, Input::Drained { conn: flooder }, &mut scene.effects);
        if longest > fair.turn / 2 {
            break;
        }
    }
    assert!(longest > fair.turn / 2, "{longest}");
    scene.turn(Input::Frames { conn: lone, bytes: &get_data(1, "/n") });
    assert!(turn(&mut scene) < fair.turn_beside_lone * 5 / 4);
}
