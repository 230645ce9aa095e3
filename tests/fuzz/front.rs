//! Drivers for framing: however the bytes of a stream arrive, the same frames come out.

use std::net::SocketAddr;

use ringkeeper::base::{ConnId, Instant, Rng};
use ringkeeper::front::{Front, FrontOptions, FrontSink, Verdict, whole_frames};

use super::harness::{Driver, run};
use super::input::{bytes, mutate};
use super::requests::{connect, framed, put_request};

const MAX_FRAME: usize = 300;

#[derive(Default)]
struct Taken {
    frames: Vec<u8>,
    words: Vec<u8>,
}

impl FrontSink for Taken {
    fn frames(&mut self, _: ConnId, bytes: &[u8]) {
        assert_eq!(whole_frames(bytes, MAX_FRAME), Ok(bytes.len()), "whole frames only");
        self.frames.extend_from_slice(bytes);
    }

    fn heard(&mut self, _: ConnId) {}

    fn drained(&mut self, _: ConnId) {}

    fn word(&mut self, _: ConnId, word: [u8; 4], argument: &[u8]) {
        self.words.extend_from_slice(&word);
        self.words.extend_from_slice(argument);
    }
}

fn stream(rng: &mut Rng) -> Vec<u8> {
    if rng.chance(1, 8) {
        return bytes(rng, 100);
    }
    let mut out = if rng.chance(1, 8) { b"stmk".to_vec() } else { framed(&connect(rng)) };
    for xid in 0..rng.below(6) {
        let mut request = Vec::new();
        put_request(rng, xid as i32, &mut request);
        out.extend(framed(&request));
    }
    if rng.chance(1, 2) {
        mutate(rng, &mut out, b"ruok\0\0\0\x01");
    }
    out
}

/// Offers `stream` in pieces of up to `piece` bytes; the bytes taken, and whether it ends badly.
fn offer(rng: &mut Rng, stream: &[u8], piece: u64) -> (Taken, bool) {
    let options = FrontOptions { max_frame: MAX_FRAME, ..FrontOptions::default() };
    let (mut front, mut taken) = (Front::new(options), Taken::default());
    let now = Instant::from_ms(1);
    let conn = front.accept(now, SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut rest = stream;
    while !rest.is_empty() {
        let (now_in, later) = rest.split_at((1 + rng.below(piece) as usize).min(rest.len()));
        rest = later;
        let pauses = piece < 50 && rng.chance(1, 8);
        if pauses {
            front.pause(conn);
        }
        let mut verdict = front.received(now, conn, now_in, &mut taken);
        if pauses {
            verdict = front.resume(conn, &mut taken);
        }
        match verdict {
            Verdict::Read => {}
            Verdict::Hold => panic!("nothing waits"),
            Verdict::Close(_) => return (taken, true),
        }
    }
    // A bad length after whole frames shows with the next byte.
    let ends_badly = matches!(front.received(now, conn, &[], &mut taken), Verdict::Close(_));
    (taken, ends_badly)
}

fn dribble(rng: &mut Rng) {
    let stream = stream(rng);
    let (whole, _) = offer(rng, &stream, stream.len() as u64 + 1);
    let (pieces, _) = offer(rng, &stream, 7);
    let (single, _) = offer(rng, &stream, 1);
    for other in [&pieces, &single] {
        // A piece may end before the bad length is seen, never after it.
        assert!(other.frames.starts_with(&whole.frames) || whole.frames.starts_with(&other.frames));
        assert_eq!(other.words, whole.words, "{stream:x?}");
    }
    assert_eq!(pieces.frames, single.frames, "{stream:x?}");
    assert!(
        stream.windows(pieces.frames.len().max(1)).any(|w| w == pieces.frames)
            || pieces.frames.is_empty()
    );
}

fn frames(rng: &mut Rng) {
    let stream = stream(rng);
    let max = rng.below(400) as usize;
    let Ok(taken) = whole_frames(&stream, max) else { return };
    assert!(taken <= stream.len());
    assert_eq!(whole_frames(&stream[..taken], max), Ok(taken));
}

#[test]
fn dribbled_input() {
    run(Driver { name: "front::dribbled_input", budget: 5_000, case: dribble });
}

#[test]
fn frame_borders() {
    run(Driver { name: "front::frame_borders", budget: 20_000, case: frames });
}
