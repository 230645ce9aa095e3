//! Defects that reviews found once.

use super::fair::ephemeral;
use super::*;

/// A minute in which `a` pings every four seconds and `b` says nothing. Time is looked at every
/// second.
fn a_minute_of_pings(scene: &mut Scene, a: ConnId) {
    for second in 0..60 {
        if second % 4 == 0 {
            scene.send(a, &[ping()]);
        }
        scene.pass(1000);
        scene.handle(Input::Tick);
    }
}

fn held(scene: &Scene, conn: ConnId) -> usize {
    scene.replica.clients().find(|client| client.conn == conn).map_or(0, |c| c.held_count as usize)
}

#[test]
fn frames_kept_for_a_choked_connection_keep_its_session() {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create_with(1, "/big", &[7; 1_000_000], ACL_OPEN_BYTES)]);
    scene.settle();
    scene.effects.clear();
    scene.send(a, &(2..6).map(|xid| get_data(xid, "/big")).collect::<Vec<_>>());
    let answered = scene.replies(a).len();
    assert!(answered < 4, "the rest waits until these are sent");
    a_minute_of_pings(&mut scene, a);
    assert_eq!(held(&scene, a), 4 - answered + 15, "nothing was sent");
    scene.sync();
    assert!(scene.is_closed(b, CloseHow::AfterFlush), "it was silent for a minute");
    assert!(!scene.is_closed(a, CloseHow::AfterFlush), "its pings were waiting");
    let mut xids = Vec::new();
    while held(&scene, a) > 0 {
        scene.effects.clear();
        scene.handle(Input::Drained { conn: a });
        xids.extend(scene.xids(a));
    }
    let expected: Vec<i32> = (2 + answered as i32..6).chain([XID_PING; 15]).collect();
    assert_eq!(xids, expected);
    // A client that says nothing goes like any other, however much it is owed.
    scene.send(a, &(6..10).map(|xid| get_data(xid, "/big")).collect::<Vec<_>>());
    for _ in 0..2 * TIMEOUT_MS / 1000 {
        scene.pass(1000);
        scene.handle(Input::Tick);
    }
    scene.settle();
    assert_eq!(scene.replica.session_count(), 0);
}

#[test]
fn frames_kept_behind_too_much_that_waits_keep_their_session() {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create(1, "/1")]);
    scene.send(a, &(2..200).map(|xid| exists(xid, "/1")).collect::<Vec<_>>());
    let waiting = held(&scene, a);
    assert!(waiting > 0, "only so much may wait for a write");
    a_minute_of_pings(&mut scene, a);
    assert_eq!(held(&scene, a), waiting + 15, "the disk does not answer");
    scene.settle();
    assert!(scene.is_closed(b, CloseHow::AfterFlush), "it was silent for a minute");
    assert!(!scene.is_closed(a, CloseHow::AfterFlush), "its pings were waiting");
    let expected: Vec<i32> = (1..200).chain([XID_PING; 15]).collect();
    assert_eq!(scene.xids(a), expected);
}

/// The memory of a batch serves again, unless it was an uncommonly large one.
#[test]
fn a_large_batch_gives_its_memory_back() {
    // What each batch of one small write holds.
    let small = |scene: &mut Scene, conn: ConnId| -> Vec<usize> {
        let batch = |effect: &Effect| match effect {
            Effect::Append(batch) => Some(batch.capacity()),
            _ => None,
        };
        let mut one = |xid| {
            scene.send(conn, &[set_data(xid, "/n", 10)]);
            let held = scene.effects.list.iter().find_map(batch).unwrap();
            scene.effects.clear();
            scene.settle();
            scene.effects.clear();
            held
        };
        (0..6).map(&mut one).collect()
    };
    for (size, is_kept) in [(100_000, true), (900_000, false)] {
        let mut scene = Scene::new(1_000_000, limits(|_| {}));
        // One batch takes all large writes, though small ones came alone before.
        scene.replica.fair.options.turn_beside_lone = u64::MAX;
        let a = scene.connect(0);
        scene.send(a, &[create(1, "/n")]);
        scene.settle();
        scene.effects.clear();
        let before = small(&mut scene, a);
        assert!(before.iter().all(|held| *held < 10_000), "{before:?}");
        scene.send(a, &(0..5).map(|xid| set_data(xid, "/n", size)).collect::<Vec<_>>());
        scene.effects.clear();
        scene.settle();
        scene.effects.clear();
        let most = small(&mut scene, a).into_iter().max().unwrap();
        let larger = 4 * size;
        assert_eq!(most > larger, is_kept, "{most} bytes for small batches after {larger}");
        assert!(most <= 1 << 20, "{most} bytes for small batches");
    }
}

/// A member of Apache's takes no transaction of more than two mebibytes. Without paths it ends the
/// same nodes.
#[test]
fn the_end_of_a_session_leaves_out_paths_that_others_would_not_take() {
    for (count, names_paths) in [(1100, true), (2200, false)] {
        let mut scene = Scene::new(1_000_000, limits(|_| {}));
        let conn = scene.connect(0);
        let session = scene.replica.session_of(conn);
        for number in 1..=count {
            let path = format!("/{number:0>1000}");
            scene.send(conn, &[ephemeral(number, &path)]);
        }
        scene.settle();
        assert_eq!(scene.replica.tree().ephemerals(session).len(), count as usize);
        scene.effects.clear();
        scene.send(conn, &[request(count + 1, OpCode::CloseSession, |_| {})]);
        let logged = scene.effects.list.iter().find_map(|effect| match effect {
            Effect::Append(batch) => Some(batch.bytes_len()),
            _ => None,
        });
        let bytes = logged.unwrap();
        assert_eq!(bytes > 100 << 10, names_paths, "{bytes}");
        assert!(bytes < 2 << 20);
        scene.settle();
        assert_eq!(scene.replica.tree().ephemerals(session).len(), 0);
    }
}
