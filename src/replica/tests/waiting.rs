//! What waits: for the writes of its connection, for the reader of its replies.

use super::*;

#[test]
fn reads_that_wait_for_a_write_take_bounded_memory() {
    let mut scene = Scene::new(u64::MAX, limits(|limits| limits.waiting_bytes_max = 10_000));
    let (a, b) = (scene.connect(0), scene.connect(1));
    scene.send(a, &[create(1, "/1")]);
    let mut sent = 0;
    while scene.pauses().is_empty() {
        sent += 1;
        assert!(sent < 10_000);
        scene.send(a, &[exists(2, "/1")]);
    }
    assert!(sent > 10, "{sent}");
    // Only the one with too much waiting is paused.
    scene.send(b, &[create(1, "/2"), exists(2, "/2")]);
    assert_eq!(scene.pauses(), []);
    scene.sync();
    assert_eq!(scene.pauses(), [(a, false)]);
    assert_eq!(scene.xids(a).len(), sent + 1);
    assert!(scene.replica.clients().all(|client| client.waiting_bytes == 0));
}

#[test]
fn what_waits_is_answered_under_the_identities_it_came_with() {
    let mut scene = Scene::new(1000, limits(|_| {}));
    let (a, b) = (scene.connect(0), scene.connect(1));
    let auth = request(-4, OpCode::Auth, |out| {
        put_i32(out, 0);
        put_str(out, "digest");
        put_buffer(out, Some(b"user:secret"));
    });
    let own = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x04auth\0\0\0\0";
    scene.send(b, &[auth.clone(), create_with(1, "/own", &[], own), create(2, "/n")]);
    scene.settle();
    scene.replies(b);
    scene.send(a, &[set_data(1, "/n", 1), get_data(2, "/own"), auth, get_data(3, "/own")]);
    scene.settle();
    let codes: Vec<_> = scene.replies(a).iter().map(|r| (r.0, r.2)).collect();
    assert_eq!(codes, [(1, 0), (2, -102), (-4, 0), (3, 0)]);
}

#[test]
fn what_one_turn_answers_is_bounded_and_stays_in_order() {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    let a = scene.connect(0);
    scene.send(a, &[create_with(1, "/big", &[7; 100_000], ACL_OPEN_BYTES), create(2, "/n")]);
    scene.settle();
    scene.replies(a);
    scene.effects.clear();
    let get = |xid| get_data(xid, "/big");
    // A write, reads that wait for it, a write that waits for these, and more of both.
    let mut frames = vec![set_data(1, "/n", 1)];
    frames.extend((2..40).map(get));
    frames.push(set_data(40, "/n", 1));
    frames.extend((41..80).map(get));
    frames.push(set_data(80, "/n", 1));
    frames.extend((81..200).map(get));
    scene.send(a, &frames);
    let mut seen = Vec::new();
    while seen.len() < 199 {
        scene.sync();
        assert!(
            scene.effects.bytes.len() < 10 << 20,
            "{} bytes at once",
            scene.effects.bytes.len()
        );
        seen.extend(scene.replies(a));
        let awaited = |e: &Effect| matches!(e, Effect::AwaitDrain { .. });
        let choked = scene.effects.list.iter().any(awaited);
        scene.effects.clear();
        if choked {
            scene.handle(Input::Drained { conn: a });
            assert!(
                scene.effects.bytes.len() < 10 << 20,
                "{} bytes at once",
                scene.effects.bytes.len()
            );
            seen.extend(scene.replies(a));
            if !scene.effects.list.iter().any(awaited) {
                scene.effects.clear();
            }
        }
    }
    assert_eq!(seen.iter().map(|reply| reply.0).collect::<Vec<_>>(), Vec::from_iter(1..200));
    // What was sent before a write must not see it.
    for (xids, write) in [(1..40usize, 0), (40..80, 39), (80..200, 79)] {
        for xid in xids {
            assert_eq!(seen[xid - 1].1, seen[write].1, "{xid}");
        }
    }
}

#[test]
fn what_is_owed_ahead_of_a_write_is_bounded() {
    let mut scene = Scene::new(1_000_000, limits(|_| {}));
    let a = scene.connect(0);
    scene.send(a, &[create_with(1, "/big", &[7; 1_000_000], ACL_OPEN_BYTES), create(2, "/n")]);
    scene.settle();
    scene.effects.clear();
    let get = |xid| get_data(xid, "/big");
    let mut frames = vec![set_data(1, "/n", 1)];
    frames.extend((2..100).map(get));
    frames.push(set_data(100, "/n", 1));
    scene.send(a, &frames);
    scene.sync();
    assert!(scene.effects.bytes.len() < 70 << 20, "{} bytes at once", scene.effects.bytes.len());
    assert!(scene.is_closed(a, CloseHow::Now));
}

/// A choked connection holds places in the pipeline; its client comes back on another one, and what
/// it held is forgotten without anything being applied or sent.
#[test]
fn a_connection_forgotten_without_an_answer_lets_others_in() {
    let mut scene = Scene::new(1000, limits(|limits| limits.requests_max = 5));
    let (a, b, d) = (scene.connect(0), scene.connect(1), scene.connect(3));
    scene.send(a, &[create_with(1, "/big", &[7; 1_000_000], ACL_OPEN_BYTES), create(2, "/n")]);
    scene.settle();
    scene.effects.clear();
    let get = |xid| get_data(xid, "/big");
    scene.send(a, &[set_data(3, "/n", 1), get(4), get(5), get(6), get(7)]);
    scene.sync();
    assert_eq!(scene.xids(a), [3, 4, 5], "the rest waits until these are sent");
    scene.send(b, &[create(1, "/1"), create(2, "/2"), create(3, "/3")]);
    scene.send(d, &[exists(1, "/big")]);
    assert_eq!(scene.replies(d), [], "there is no room");
    let session = scene.replica.session_of(a);
    let c = scene.connect_as(2, session);
    assert!(scene.is_closed(a, CloseHow::Now));
    assert_eq!(scene.xids(d), [1], "there is room");
    scene.settle();
    assert_eq!(scene.xids(b), [1, 2, 3]);
    assert_eq!((scene.replica.session_of(c), scene.replica.outstanding()), (session, 0));
}

/// What waits in line is done for its session or not at all, whatever became of its connection
/// and whichever has its slot, and nothing stays counted.
#[test]
fn what_waits_for_a_closed_connection_is_counted_no_longer_than_it_waits() {
    for drops in [true, false] {
        let mut scene = Scene::new(
            1000,
            limits(|limits| {
                limits.requests_max = 1;
                limits.drop_stale = drops;
                limits.large_request_threshold = 100;
            }),
        );
        let (a, b) = (scene.connect(0), scene.connect(1));
        scene.send(b, &[create(1, "/b")]);
        scene.send(a, &[set_data(1, "/b", 200), exists(2, "/b"), create(3, "/a")]);
        assert!(scene.replica.large_request_bytes() > 200);
        // Its session ends with the line still full; another connection gets its slot.
        scene.handle(Input::Closed { conn: a });
        scene.pass(2 * TIMEOUT_MS as u64);
        scene.handle(Input::Tick);
        scene.pass(2000);
        scene.handle(Input::Tick);
        let again = ConnId::new(0, 2);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        scene.handle(Input::Opened { conn: again, peer });
        scene.settle();
        assert_eq!(scene.replica.session_count(), 0, "drops: {drops}");
        let tree = scene.replica.tree();
        assert_eq!(tree.find(&tree.key("/a")), None, "drops: {drops}: its session had ended");
        assert_eq!(scene.replica.large_request_bytes(), 0, "drops: {drops}");
        assert_eq!(scene.replica.outstanding(), 0, "drops: {drops}");
        let client = scene.replica.clients().next().unwrap();
        assert_eq!((client.conn, client.in_line, client.waiting_bytes), (again, 0, 0));
        assert_eq!(scene.replies(again), []);
    }
}
