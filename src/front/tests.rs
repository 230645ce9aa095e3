//! Back-pressure of one connection: what waits, what goes on, and who is cut off.

use std::net::SocketAddr;

use super::{Front, FrontOptions, FrontSink, Queued, Sent, Verdict};
use crate::base::{ConnId, Instant, SessionId};

const NOW: Instant = Instant(0);

/// Collects the bytes of frames, and counts signs of life.
#[derive(Default)]
struct Taken(Vec<u8>, u32);

impl FrontSink for Taken {
    fn frames(&mut self, _: ConnId, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn heard(&mut self, _: ConnId) {
        self.1 += 1;
    }

    fn drained(&mut self, _: ConnId) {}

    fn word(&mut self, _: ConnId, _: [u8; 4], _: &[u8]) {}
}

fn front() -> (Front, ConnId) {
    let mut front = Front::new(FrontOptions {
        takes_mask: false,
        id: 0,
        max_frame: 100,
        sessionless_timeout_ms: 10_000,
        max_output: 1_000,
        max_excess: 4_000,
        min_rate: 100,
    });
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let conn = front.accept(NOW, peer);
    (front, conn)
}

fn frame(byte: u8) -> Vec<u8> {
    vec![0, 0, 0, 1, byte]
}

#[test]
fn requests_of_a_slow_reader_wait_and_go_on() {
    let (mut front, conn) = front();
    let mut taken = Taken::default();
    assert_eq!(front.queue(conn, &[0; 1_001]), Queued::Ready);
    assert_eq!(front.received(NOW, conn, &frame(1), &mut taken), Verdict::Read);
    assert!(taken.0.is_empty());
    let output = front.take_output(conn, Vec::new).unwrap();
    assert_eq!(output.len(), 1_001);
    assert_eq!(front.sent(conn), Sent::Unclogged);
    assert_eq!(front.resume(conn, &mut taken), Verdict::Read);
    assert_eq!(taken.0, frame(1));
}

/// The output that clogged is gone in the first of two sends; the second is small.
#[test]
fn requests_held_back_are_not_forgotten_when_more_output_follows() {
    let (mut front, conn) = front();
    let mut taken = Taken::default();
    front.queue(conn, &[0; 1_001]);
    front.take_output(conn, Vec::new).unwrap();
    front.received(NOW, conn, &frame(1), &mut taken);
    assert_eq!(front.queue(conn, &[0; 10]), Queued::Waiting);
    assert_eq!(front.sent(conn), Sent::More);
    front.take_output(conn, Vec::new).unwrap();
    assert_eq!(front.sent(conn), Sent::Unclogged);
    front.resume(conn, &mut taken);
    assert_eq!(taken.0, frame(1));
}

#[test]
fn a_connection_resumed_while_clogged_goes_on_later() {
    let (mut front, conn) = front();
    let mut taken = Taken::default();
    front.pause(conn);
    front.received(NOW, conn, &frame(1), &mut taken);
    front.queue(conn, &[0; 1_001]);
    front.take_output(conn, Vec::new).unwrap();
    assert_eq!(front.resume(conn, &mut taken), Verdict::Read);
    assert!(taken.0.is_empty());
    assert_eq!(front.sent(conn), Sent::Unclogged);
    front.resume(conn, &mut taken);
    assert_eq!(taken.0, frame(1));
}

/// A connection that has been served for a while.
fn front_with_a_known_one() -> (Front, ConnId) {
    let (mut front, conn) = front();
    let frames = frame(1).repeat(10_000);
    front.received(NOW, conn, &frames, &mut Taken::default());
    (front, conn)
}

/// Pings are read all the same, and where there is no room for more its session is kept.
#[test]
fn of_a_new_connection_little_is_read_while_it_is_paused() {
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut front = Front::new(FrontOptions::default());
    let conn = front.accept(NOW, peer);
    let mut taken = Taken::default();
    assert_eq!(front.received(NOW, conn, &frame(1), &mut taken), Verdict::Read);
    front.pause(conn);
    for pings in 1..100 {
        assert_eq!(front.received(NOW, conn, &frame(2), &mut taken), Verdict::Read);
        assert_eq!(taken.1, pings, "it is alive");
    }
    assert!(!front.took(NOW, conn, 0), "it can show that itself");
    let more = frame(3).repeat(2_000);
    assert_eq!(front.received(NOW, conn, &more, &mut taken), Verdict::Hold);
    assert!(front.is_held(conn) && front.took(NOW, conn, 0), "it can not any more");
    front.queue(conn, &[0; 10]);
    assert!(!front.took(NOW, conn, 0), "it does not take its replies: that is its own doing");
    assert_eq!(front.resume(conn, &mut taken), Verdict::Read);
    assert_eq!(taken.0.len(), 5 * (1 + 99 + 2_000));
    front.pause(conn);
    front.received(NOW, conn, &more, &mut taken);
    front.begin_close(conn);
    assert!(!front.is_held(conn), "its end is to be seen");
}

#[test]
fn a_paused_connection_is_read_up_to_a_frame_and_resumes_in_order() {
    let (mut front, conn) = front_with_a_known_one();
    let mut taken = Taken::default();
    front.pause(conn);
    let all: Vec<u8> = (0..40).flat_map(frame).collect();
    let mut verdicts = Vec::new();
    for part in all.chunks(50) {
        verdicts.push(front.received(NOW, conn, part, &mut taken));
    }
    assert_eq!(verdicts, [Verdict::Read, Verdict::Read, Verdict::Hold, Verdict::Hold]);
    assert!(taken.0.is_empty());
    assert_eq!(front.resume(conn, &mut taken), Verdict::Read);
    assert_eq!(taken.0, all);
}

#[test]
fn who_does_not_read_is_cut_off() {
    let (mut front, conn) = front();
    let mut taken = Taken::default();
    assert_eq!(front.queue(conn, &[0; 2_000]), Queued::Ready);
    front.take_output(conn, Vec::new).unwrap();
    // One answer may be large; the limit is on what is waiting when more comes.
    assert_eq!(front.queue(conn, &[0; 9_000]), Queued::Waiting);
    assert_eq!(front.queue(conn, &[0; 1]), Queued::CutOff);
    // Only once, and nothing is gathered any more.
    assert_eq!(front.queue(conn, &[0; 1]), Queued::Waiting);
    assert!(front.take_output(conn, Vec::new).is_none());
    front.received(NOW, conn, &frame(1), &mut taken);
    assert!(taken.0.is_empty());
    // The next sweep ends it at the latest.
    let mut idle = Vec::new();
    front.idle(NOW, &mut idle);
    assert_eq!(idle, [conn]);
    front.remove(conn);
    assert_eq!(front.queue(conn, &[0; 1]), Queued::Waiting);
}

#[test]
fn a_connection_is_named_with_its_session_once_it_has_one() {
    let (mut front, conn) = front();
    let who = |front: &mut Front| front.who(conn).to_string();
    assert_eq!(who(&mut front), "127.0.0.1:1");
    front.established(NOW, conn, SessionId(0x1_000f), 10_000);
    assert_eq!(who(&mut front), "127.0.0.1:1 (session 0x1000f)");
}

/// Idle connections as of `ms`.
fn idle_at(front: &mut Front, ms: u64) -> Vec<ConnId> {
    let mut idle = Vec::new();
    front.idle(Instant::from_ms(ms), &mut idle);
    idle
}

#[test]
fn a_client_that_reads_a_large_reply_is_alive() {
    let (mut front, conn) = front();
    let mut taken = Taken::default();
    front.established(NOW, conn, SessionId(1), 10_000);
    front.queue(conn, &[0; 50_000]);
    let output = front.take_output(conn, Vec::new).unwrap();
    assert!(front.wants_progress(conn));
    // Its pings are not taken, but heard.
    assert_eq!(front.received(NOW, conn, &frame(1), &mut taken), Verdict::Read);
    assert_eq!((taken.0.len(), taken.1), (0, 1));
    assert!(!front.took(Instant::from_ms(1), conn, 1), "it is read from");
    // So much comes that nothing is read any more: then it lives as long as it takes its reply.
    assert_eq!(front.received(NOW, conn, &[0; 200], &mut taken), Verdict::Hold);
    for second in 1..100 {
        let now = Instant::from_ms(1000 * second);
        assert!(front.took(now, conn, 200 * second), "{second}");
        assert!(!front.took(now, conn, 200 * second), "the same again is no progress");
        front.cut_off_slow(now, false);
        assert_eq!(idle_at(&mut front, 1000 * second), []);
        // Events on top of it do not end it.
        assert_eq!(front.queue(conn, &[0; 10]), Queued::Waiting);
    }
    assert_eq!(output.len(), 50_000);
    assert_eq!(front.sent(conn), Sent::More);
}

#[test]
fn who_takes_next_to_nothing_is_cut_off_after_its_session_timeout() {
    for (rate, was_late, is_cut_off) in
        [(0, false, true), (99, false, true), (101, false, false), (0, true, false)]
    {
        let (mut front, conn) = front();
        front.established(NOW, conn, SessionId(1), 4_000);
        front.queue(conn, &[0; 5_000]);
        front.take_output(conn, Vec::new).unwrap();
        for second in 0..10 {
            let now = Instant::from_ms(1000 * second);
            let mut taken = Taken::default();
            front.received(now, conn, &frame(1), &mut taken);
            front.took(now, conn, rate * second);
            front.cut_off_slow(now, was_late);
            let expect = is_cut_off && second >= 4;
            assert_eq!(front.is_over(conn), expect, "{rate} bytes a second, after {second} s");
        }
        let idle: &[ConnId] = if is_cut_off { &[conn] } else { &[] };
        assert_eq!(idle_at(&mut front, 9_000), idle, "its pings came");
    }
}

#[test]
fn little_that_waits_is_nobodys_concern() {
    let (mut front, conn) = front();
    front.queue(conn, &[0; 1_000]);
    front.take_output(conn, Vec::new).unwrap();
    for second in 0..100 {
        let now = Instant::from_ms(1000 * second);
        front.received(now, conn, &frame(1), &mut Taken::default());
        front.cut_off_slow(now, false);
        assert!(!front.is_over(conn), "{second}");
    }
}

/// More comes than it reads; each reply that it has read whole makes room again.
#[test]
fn what_comes_on_top_is_bounded_by_what_was_read() {
    let (mut front, conn) = front();
    front.queue(conn, &[0; 1_100]);
    for _ in 0..20 {
        front.take_output(conn, Vec::new).unwrap();
        for _ in 0..12 {
            assert_eq!(front.queue(conn, &[0; 100]), Queued::Waiting);
        }
        assert_eq!(front.sent(conn), Sent::More);
    }
    front.take_output(conn, Vec::new).unwrap();
    let more = (0..1000).take_while(|_| front.queue(conn, &[0; 100]) == Queued::Waiting).count();
    assert!((40..60).contains(&more), "{more}");
    assert!(front.is_over(conn));
}
