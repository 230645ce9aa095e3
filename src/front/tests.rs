//! Back-pressure of one connection: what waits, what goes on, and who is cut off.

use std::net::SocketAddr;

use super::{Front, FrontOptions, FrontSink, Queued, Sent, Verdict};
use crate::base::{ConnId, Instant, SessionId};

const NOW: Instant = Instant(0);

/// Collects the bytes of frames.
#[derive(Default)]
struct Taken(Vec<u8>);

impl FrontSink for Taken {
    fn frames(&mut self, _: ConnId, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn drained(&mut self, _: ConnId) {}

    fn word(&mut self, _: ConnId, _: [u8; 4], _: &[u8]) {}
}

fn front() -> (Front, ConnId) {
    let mut front = Front::new(FrontOptions {
        id: 0,
        max_frame: 100,
        sessionless_timeout_ms: 10_000,
        max_output: 1_000,
        cut_off_output: 4_000,
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
    let output = front.take_output(conn, Vec::new()).unwrap();
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
    front.take_output(conn, Vec::new()).unwrap();
    front.received(NOW, conn, &frame(1), &mut taken);
    assert_eq!(front.queue(conn, &[0; 10]), Queued::Waiting);
    assert_eq!(front.sent(conn), Sent::More);
    front.take_output(conn, Vec::new()).unwrap();
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
    front.take_output(conn, Vec::new()).unwrap();
    assert_eq!(front.resume(conn, &mut taken), Verdict::Read);
    assert!(taken.0.is_empty());
    assert_eq!(front.sent(conn), Sent::Unclogged);
    front.resume(conn, &mut taken);
    assert_eq!(taken.0, frame(1));
}

#[test]
fn a_paused_connection_is_read_up_to_a_frame_and_resumes_in_order() {
    let (mut front, conn) = front();
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
    front.take_output(conn, Vec::new()).unwrap();
    // One answer may be large; the limit is on what is waiting when more comes.
    assert_eq!(front.queue(conn, &[0; 9_000]), Queued::Waiting);
    assert_eq!(front.queue(conn, &[0; 1]), Queued::CutOff);
    // Only once, and nothing is gathered any more.
    assert_eq!(front.queue(conn, &[0; 1]), Queued::Waiting);
    assert!(front.take_output(conn, Vec::new()).is_none());
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
    let who = |front: &mut Front| front.who(conn).unwrap().to_string();
    assert_eq!(who(&mut front), "127.0.0.1:1");
    front.established(NOW, conn, SessionId(0x1_000f), 10_000);
    assert_eq!(who(&mut front), "127.0.0.1:1 (session 0x1000f)");
}
