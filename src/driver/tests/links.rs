//! The connections of members over a port that the test plays.

use crate::peer::{DialError, Effect, Effects, Input};

use super::*;

/// What a member heard, with its bytes copied.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Heard {
    Accepted(u64, Port),
    Dialed(u64, Result<(), DialError>),
    Bytes(u64, Vec<u8>),
    Unsent(u64, usize),
    Ended(u64, bool),
}

impl From<Input<'_>> for Heard {
    fn from(input: Input<'_>) -> Heard {
        match input {
            Input::Accepted { link, port, .. } => Heard::Accepted(link.0, port),
            Input::Dialed { link, result } => Heard::Dialed(link.0, result.map(|_| ())),
            Input::Bytes { link, bytes } => Heard::Bytes(link.0, bytes.to_vec()),
            Input::Unsent { link, bytes } => Heard::Unsent(link.0, bytes),
            Input::Ended { link, was_reset } => Heard::Ended(link.0, was_reset),
        }
    }
}

#[derive(Default)]
struct Scene {
    links: Links<Hands>,
    io: Hands,
    later: Duration,
}

const OUT: LinkId = LinkId(2);

fn peer_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

impl Scene {
    /// With one connection that this member made.
    fn connected() -> Scene {
        let mut scene = Scene::default();
        scene.wish(&[Effect::Dial { link: OUT, to: ServerId(3), port: Port::Quorum }]);
        let result = Ok(((), peer_address()));
        let heard = scene.complete(MemberCompletion::Dialed { link: OUT, result });
        assert_eq!(heard, [Heard::Dialed(2, Ok(()))]);
        scene
    }

    fn now(&self) -> Now {
        Now { mono: now().mono + self.later, ..now() }
    }

    /// Something has ended; what the member hears of that.
    fn complete(&mut self, completion: MemberCompletion<Hands>) -> Vec<Heard> {
        let (mut heard, now) = (Vec::new(), self.now());
        let mut hear = |input: Input<'_>| heard.push(Heard::from(input));
        self.links.complete(now, &mut self.io, completion, &mut hear).unwrap();
        heard
    }

    fn received(&mut self, link: LinkId, result: Received<Vec<u8>>, more: bool) -> Vec<Heard> {
        let heard = self.complete(MemberCompletion::Received { link, result, more });
        self.links.check();
        heard
    }

    /// The last send ends.
    fn sent(&mut self, result: Result<usize, io::ErrorKind>) -> Vec<Heard> {
        let (link, buf, _) = self.io.member_sends.pop().unwrap();
        self.complete(MemberCompletion::Sent { link, buf, result })
    }

    fn accepted(&mut self) -> Vec<Heard> {
        let (port, result) = (Port::Election, Ok(((), Some(peer_address()))));
        self.complete(MemberCompletion::Accepted { listener: 0, port, result, more: true })
    }

    fn wish(&mut self, list: &[Effect]) {
        let effects = Effects { list: list.to_vec(), ..Effects::default() };
        self.carry_out(&effects);
    }

    fn carry_out(&mut self, effects: &Effects) {
        let now = self.now();
        self.links.carry_out(now, &mut self.io, effects).unwrap();
    }

    fn send(&mut self, link: LinkId, bytes: &[u8]) {
        let mut effects = Effects::default();
        effects.send(link, bytes);
        self.carry_out(&effects);
    }

    /// The end of a turn.
    fn turn_ends(&mut self) {
        let now = self.now();
        self.links.tick(now, &mut self.io).unwrap();
        self.links.send_ready(&mut self.io).unwrap();
        self.links.check();
    }
}

#[test]
fn connections_that_arrive_have_odd_numbers_which_never_come_again() {
    let mut scene = Scene::default();
    for number in [1, 3, 5] {
        assert_eq!(scene.accepted(), [Heard::Accepted(number, Port::Election)]);
        let link = LinkId(number);
        assert_eq!(scene.io.member_receives.pop(), Some(link), "it is received from");
        assert_eq!(scene.received(link, Received::End, false), [Heard::Ended(number, false)]);
        assert!(scene.links.is_empty());
    }
}

#[test]
fn more_connections_than_an_ensemble_makes_are_refused() {
    let mut scene = Scene::default();
    for _ in 0..256 {
        assert_eq!(scene.accepted().len(), 1);
    }
    assert_eq!((scene.accepted(), scene.io.refused), (vec![], 1));
    // A connection that this member makes is not one of them, and one that ends makes room.
    scene.wish(&[Effect::Dial { link: OUT, to: ServerId(3), port: Port::Election }]);
    assert_eq!(scene.io.dials, [(OUT, ServerId(3), Port::Election)]);
    scene.received(LinkId(5), failed(), false);
    assert_eq!(scene.accepted(), [Heard::Accepted(513, Port::Election)]);
    assert_eq!(scene.io.refused, 1);
}

#[test]
fn an_accept_that_failed_begins_again_after_a_while() {
    let mut scene = Scene::default();
    let ended = |result| MemberCompletion::Accepted {
        listener: 1,
        port: Port::Quorum,
        result,
        more: false,
    };
    assert_eq!(scene.complete(ended(Err(io::ErrorKind::OutOfMemory.into()))), []);
    scene.turn_ends();
    assert_eq!(scene.io.member_accepts, []);
    let at = scene.links.deadline().unwrap();
    scene.later = at.since(now().mono);
    scene.turn_ends();
    assert_eq!((&scene.io.member_accepts[..], scene.links.deadline()), (&[1][..], None));
    // The peer was gone before it could be asked for its address.
    assert_eq!(scene.complete(ended(Ok(((), None)))), []);
    assert_eq!(scene.io.member_accepts, [1, 1]);
}

#[test]
fn what_a_turn_sends_goes_in_one_operation_and_the_next_gathers_meanwhile() {
    let mut scene = Scene::connected();
    for piece in ["proposal ", "and ", "commit"] {
        scene.send(OUT, piece.as_bytes());
    }
    assert_eq!(scene.io.member_sends.len(), 0, "the turn goes on");
    scene.turn_ends();
    assert_eq!(scene.io.member_sends, [(OUT, b"proposal and commit".to_vec(), 0)]);
    for piece in ["next ", "turn"] {
        scene.send(OUT, piece.as_bytes());
        scene.turn_ends();
        assert_eq!(scene.io.member_sends.len(), 1, "one send at a time");
    }
    assert_eq!(scene.sent(Ok(9)), [Heard::Unsent(2, 10 + 9)]);
    assert_eq!(scene.io.member_sends, [(OUT, b"proposal and commit".to_vec(), 9)], "the rest");
    assert_eq!(scene.sent(Ok(10)), [Heard::Unsent(2, 9)]);
    scene.turn_ends();
    assert_eq!(scene.io.member_sends, [(OUT, b"next turn".to_vec(), 0)]);
    assert_eq!(scene.sent(Ok(9)), [Heard::Unsent(2, 0)]);
    scene.turn_ends();
    assert_eq!(scene.io.member_sends, []);
}

#[test]
fn a_dial_that_fails_leaves_nothing_behind() {
    for error in [DialError::Refused, DialError::Failed("nothing answered".to_owned())] {
        let mut scene = Scene::default();
        scene.wish(&[Effect::Dial { link: OUT, to: ServerId(3), port: Port::Election }]);
        scene.send(OUT, b"too early");
        scene.turn_ends();
        let completion = MemberCompletion::Dialed { link: OUT, result: Err(error.clone()) };
        assert_eq!(scene.complete(completion), [Heard::Dialed(2, Err(error))]);
        assert!(scene.links.is_empty());
        // The member had not heard of that when it wished for more.
        scene.send(OUT, b"too late");
        scene.wish(&[Effect::Hold { link: OUT }, Effect::Resume { link: OUT }]);
        scene.wish(&[Effect::Close { link: OUT }]);
        scene.turn_ends();
        assert_eq!((scene.io.member_sends.len(), scene.io.member_receives.len()), (0, 0));
    }
}

#[test]
fn a_dial_that_is_given_up_is_no_news_whatever_it_comes_to() {
    for result in [Ok(((), peer_address())), Err(DialError::Refused)] {
        let mut scene = Scene::default();
        scene.wish(&[Effect::Dial { link: OUT, to: ServerId(3), port: Port::Election }]);
        scene.wish(&[Effect::Close { link: OUT }]);
        scene.turn_ends();
        let is_made = result.is_ok();
        assert_eq!(scene.complete(MemberCompletion::Dialed { link: OUT, result }), []);
        assert!(scene.links.is_empty());
        assert_eq!(scene.io.shut.len(), usize::from(is_made), "its peer learns of it");
    }
}

#[test]
fn a_connection_that_is_held_brings_nothing_until_it_is_resumed() {
    let mut scene = Scene::connected();
    assert_eq!(scene.io.member_receives, [OUT]);
    let bytes = |text: &str| Received::Bytes(text.as_bytes().to_vec());
    assert_eq!(scene.received(OUT, bytes("a"), true), [Heard::Bytes(2, b"a".to_vec())]);
    scene.wish(&[Effect::Hold { link: OUT }, Effect::Hold { link: OUT }]);
    assert_eq!(scene.io.cancelled, [ConnId(2)], "once");
    assert_eq!(scene.received(OUT, bytes("b"), true), [Heard::Bytes(2, b"b".to_vec())]);
    assert_eq!(scene.received(OUT, Received::Again, false), []);
    assert_eq!(scene.io.member_receives, [OUT]);
    scene.wish(&[Effect::Resume { link: OUT }, Effect::Resume { link: OUT }]);
    assert_eq!(scene.io.member_receives, [OUT, OUT], "once");
    // It is resumed before the kernel has given up the receive.
    scene.wish(&[Effect::Hold { link: OUT }, Effect::Resume { link: OUT }]);
    assert_eq!(scene.io.member_receives, [OUT, OUT]);
    scene.received(OUT, Received::Again, false);
    assert_eq!(scene.io.member_receives, [OUT, OUT, OUT]);
    // Buffers had run out.
    scene.received(OUT, Received::Again, false);
    assert_eq!(scene.io.member_receives, [OUT; 4]);
}

#[test]
fn the_member_hears_once_that_a_connection_has_ended_and_how() {
    let reset = io::ErrorKind::ConnectionReset;
    for (result, was_reset) in [
        (Received::End, false),
        (Received::Failed(reset), true),
        (Received::Failed(io::ErrorKind::TimedOut), false),
    ] {
        let mut scene = Scene::connected();
        scene.send(OUT, b"on its way");
        scene.turn_ends();
        assert_eq!(scene.received(OUT, result, false), [Heard::Ended(2, was_reset)]);
        assert_eq!(scene.io.shut, [Direction::Both]);
        assert!(!scene.links.is_empty(), "the send is still to end");
        assert_eq!(scene.sent(Err(reset)), []);
        assert!(scene.links.is_empty());
    }
    for (result, was_reset) in
        [(Ok(0), false), (Err(io::ErrorKind::BrokenPipe), true), (Err(reset), true)]
    {
        let mut scene = Scene::connected();
        scene.send(OUT, b"on its way");
        scene.turn_ends();
        scene.send(OUT, b"never sent");
        assert_eq!(scene.sent(result), [Heard::Ended(2, was_reset)]);
        scene.turn_ends();
        assert_eq!(scene.io.member_sends, []);
        assert_eq!(scene.received(OUT, Received::End, false), []);
        assert!(scene.links.is_empty());
    }
}

#[test]
fn a_close_sends_what_was_queued_and_waits_for_the_peer_a_moment() {
    let mut scene = Scene::connected();
    scene.send(OUT, b"last ");
    scene.turn_ends();
    scene.send(OUT, b"words");
    scene.wish(&[Effect::Close { link: OUT }]);
    scene.send(OUT, b"behind the close");
    scene.turn_ends();
    assert_eq!(scene.sent(Ok(5)), []);
    scene.turn_ends();
    assert_eq!(scene.io.member_sends, [(OUT, b"words".to_vec(), 0)]);
    assert_eq!(scene.io.shut, []);
    // What the peer says meanwhile is taken, or the close would be a reset.
    assert_eq!(scene.received(OUT, Received::Bytes(vec![7]), true), []);
    assert_eq!(scene.sent(Ok(5)), []);
    assert_eq!(scene.io.shut, [Direction::Write]);
    scene.turn_ends();
    assert_eq!(scene.received(OUT, Received::End, false), [], "the member closed it itself");
    assert!(scene.links.is_empty());
}

#[test]
fn a_close_does_not_wait_for_long() {
    for is_sent in [false, true] {
        let mut scene = Scene::connected();
        scene.wish(&[Effect::Hold { link: OUT }]);
        scene.received(OUT, Received::Again, false);
        if !is_sent {
            scene.send(OUT, b"more than the peer reads");
        }
        scene.turn_ends();
        scene.wish(&[Effect::Close { link: OUT }]);
        assert_eq!(scene.io.member_receives, [OUT, OUT], "what the peer says is dropped");
        assert_eq!(scene.io.shut.len(), usize::from(is_sent));
        let at = scene.links.deadline().unwrap();
        scene.turn_ends();
        scene.later = at.since(now().mono);
        assert!(scene.later <= Duration::from_millis(500));
        scene.turn_ends();
        assert_eq!(scene.io.shut.last(), Some(&Direction::Both));
        assert_eq!(scene.received(OUT, Received::End, false), []);
        if !is_sent {
            assert_eq!(scene.sent(Err(io::ErrorKind::BrokenPipe)), []);
        }
        assert!(scene.links.is_empty());
    }
}

#[test]
fn what_members_are_to_get_leaves_before_the_write_of_the_log_begins() {
    let home = tempfile::tempdir().unwrap();
    let mut stages = parts();
    let (stage, log, _chores) = replica_and_log(&home, &stages.measures);
    let scene = Scene::connected();
    (stages.replica, stages.log, stages.links) = (Some(stage), Some(log), Some(scene.links));
    stages.routes.front_at = vec![1];
    let (mut driver, mut io) = (Driver::new(now(), stages), scene.io);
    ask_for_session(&mut driver, 0);
    driver.replica_stage_mut().unwrap().member.peer_effects().send(OUT, b"proposal");
    driver.turn(now(), &mut io).unwrap();
    assert_eq!(io.order, ["send to a member", "write of the log"]);
    // So does the write that begins in the middle of a turn, when the last one has ended.
    let (len, buf) = io.write.take().unwrap();
    io.member_sends.clear();
    io.order.clear();
    let done = MemberCompletion::Sent { link: OUT, buf: b"proposal".to_vec(), result: Ok(8) };
    driver.parts.links.as_mut().unwrap().complete(now(), &mut io, done, &mut |_| {}).unwrap();
    ask_for_session(&mut driver, 1);
    driver.replica_stage_mut().unwrap().member.peer_effects().send(OUT, b"next");
    io.completions.push_back(Completion::Written { buf, result: Ok(len) });
    driver.take_completions(&mut io).unwrap();
    assert_eq!(io.order, ["send to a member", "write of the log"]);
}
