//! Lists of very many nodes are made in parts, beside lone clients, and show one state of the tree.

use super::fair::ephemeral;
use super::slices::{scene_with_lone, sent_to, turns_beside_lone};
use super::*;
use crate::wire::put_multi_end;

/// With this number of nodes each kind of list takes several turns of [`TURN`].
const NODES: i32 = 2_000;
const TURN: u64 = 20_000;

/// A flooder and a lone client, and below `/d` nodes of the flooder's session.
fn scene_with_nodes() -> (Scene, ConnId, ConnId) {
    let (mut scene, flooder, lone) = scene_with_lone();
    scene.send(flooder, &[create(1, "/d")]);
    for part in 0..NODES / 100 {
        let nodes = part * 100..(part + 1) * 100;
        let frames = nodes.map(|n| ephemeral(n, &format!("/d/{n}"))).collect::<Vec<_>>();
        scene.send(flooder, &frames);
        scene.settle();
        scene.effects.clear();
    }
    scene.replica.fair.options.turn_beside_lone = TURN;
    for xid in 0..5 {
        scene.send(lone, &[get_data(xid, "/n")]);
    }
    scene.effects.clear();
    (scene, flooder, lone)
}

fn list(xid: i32, op: OpCode, watch: bool) -> Vec<u8> {
    request(xid, op, |out| {
        put_str(out, "/d");
        if matches!(op, OpCode::GetChildren | OpCode::GetChildren2) {
            put_bool(out, watch);
        }
    })
}

const LISTS: [OpCode; 4] = [
    OpCode::GetChildren,
    OpCode::GetChildren2,
    OpCode::GetEphemerals,
    OpCode::GetAllChildrenNumber,
];

/// What `frame` is answered with if nothing has to wait.
fn at_once(scene: &mut Scene, conn: ConnId, frame: &[u8]) -> Vec<u8> {
    let fair = scene.replica.fair.options;
    (scene.replica.fair.options.turn, scene.replica.fair.options.turn_beside_lone) =
        (u64::MAX >> 8, u64::MAX >> 8);
    scene.replica.fair.options.share = u64::MAX >> 8;
    scene.handle(Input::Drained { conn });
    scene.turn(Input::Tick);
    scene.turn(Input::Frames { conn, bytes: frame });
    assert!(!scene.replica.has_work());
    let reply = sent_to(scene, conn);
    scene.effects.clear();
    scene.replica.fair.options = fair;
    scene.handle(Input::Drained { conn });
    scene.turn(Input::Tick);
    reply
}

#[test]
fn a_long_list_is_divided_and_says_what_one_in_one_go_says() {
    let (mut scene, flooder, lone) = scene_with_nodes();
    for op in LISTS {
        let expect = at_once(&mut scene, flooder, &list(7, op, false));
        assert!(expect.len() > 20, "{op:?}");
        scene.turn(Input::Frames { conn: flooder, bytes: &list(7, op, false) });
        let turns = turns_beside_lone(&mut scene, flooder, lone);
        assert!(turns >= 2, "{op:?} took {turns} turns");
        assert!(sent_to(&scene, flooder) == expect, "{op:?} says something else");
        scene.effects.clear();
    }
}

/// The nodes of a list change while it is made, once, a few times, or in every turn.
#[test]
fn a_list_shows_the_state_of_its_end() {
    for op in LISTS {
        for changes in [1, 2, 1_000] {
            let (mut scene, flooder, lone) = scene_with_nodes();
            scene.turn(Input::Frames { conn: flooder, bytes: &list(7, op, false) });
            let mut changed = 0;
            loop {
                scene.turn(Input::Tick);
                let reply = sent_to(&scene, flooder);
                if !reply.is_empty() {
                    // Nothing was applied since.
                    scene.effects.clear();
                    let expect = at_once(&mut scene, flooder, &list(7, op, false));
                    assert!(reply == expect, "{op:?} after {changed} changes");
                    break;
                }
                if changed < changes {
                    changed += 1;
                    let nodes = [delete(changed, &format!("/d/{changed}")), create(0, "/d/new")];
                    scene.send_in_turn(lone, &nodes);
                    let zxid = scene.logged;
                    scene.part_of_turn(Input::Committed { zxid });
                }
            }
            assert!(changed >= changes.min(2), "{op:?} took one turn");
        }
    }
}

/// All who watch a large node ask for its list when it changes. Those that are not through take
/// memory, so a bounded number is made in parts.
#[test]
fn a_crowd_that_asks_for_a_long_list_has_few_in_parts() {
    let (mut scene, flooder, _) = scene_with_nodes();
    let frame = list(7, OpCode::GetChildren, false);
    let expect = at_once(&mut scene, flooder, &frame);
    let crowd: Vec<ConnId> = (10..60).map(|slot| scene.connect(slot)).collect();
    let lone = scene.connect(60);
    for xid in 0..5 {
        scene.send(lone, &[get_data(xid, "/n")]);
    }
    scene.effects.clear();
    for conn in &crowd {
        scene.part_of_turn(Input::Frames { conn: *conn, bytes: &frame });
    }
    assert!(scene.replica.has_work());
    let mut most = scene.replica.long_lists;
    while scene.replica.has_work() {
        scene.turn(Input::Tick);
        most = most.max(scene.replica.long_lists);
        // One leaves in the middle of it.
        if most == 16 && scene.replica.clients().any(|client| client.conn == crowd[0]) {
            scene.turn(Input::Closed { conn: crowd[0] });
        }
    }
    assert_eq!((most, scene.replica.long_lists), (16, 0));
    // Without length, xid and zxid.
    assert!(crowd[1..].iter().all(|conn| sent_to(&scene, *conn)[16..] == expect[16..]));
}

/// A client knows of a watch when it has the list that set it, so no event comes before.
#[test]
fn a_watch_counts_from_the_end_of_its_list() {
    let (mut scene, flooder, lone) = scene_with_nodes();
    scene.turn(Input::Frames { conn: flooder, bytes: &list(7, OpCode::GetChildren, true) });
    let change = |scene: &mut Scene, path: &str| {
        scene.send_in_turn(lone, &[create(1, path)]);
        let zxid = scene.logged;
        scene.handle(Input::Committed { zxid });
    };
    change(&mut scene, "/d/early");
    assert_eq!(scene.xids(flooder), [7]);
    change(&mut scene, "/d/late");
    assert_eq!(scene.xids(flooder), [crate::wire::XID_NOTIFICATION]);
}

#[test]
fn a_long_list_inside_a_multi_read_is_divided() {
    let (mut scene, flooder, lone) = scene_with_nodes();
    let frame = request(7, OpCode::MultiRead, |out| {
        for path in ["/d", "/none", "/d"] {
            put_i32(out, OpCode::GetChildren.code());
            put_bool(out, false);
            put_i32(out, -1);
            put_str(out, path);
            put_bool(out, false);
        }
        put_multi_end(out);
    });
    let expect = at_once(&mut scene, flooder, &frame);
    for changes in [0, 1, 1_000] {
        scene.turn(Input::Frames { conn: flooder, bytes: &frame });
        for change in 0..changes {
            if !scene.replica.has_work() {
                break;
            }
            // It comes and goes.
            scene.send_in_turn(lone, &[create(change, "/d/new"), delete(change, "/d/new")]);
            let zxid = scene.logged;
            scene.turn(Input::Committed { zxid });
            scene.xids(lone);
        }
        let turns = turns_beside_lone(&mut scene, flooder, lone);
        assert!(turns > 3 || changes > 0, "{turns}");
        assert!(sent_to(&scene, flooder)[20..] == expect[20..], "after {changes} changes");
        scene.effects.clear();
    }
}
