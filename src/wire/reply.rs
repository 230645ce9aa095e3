//! Reply frames, notifications and the parts of multi results.

use crate::base::{Xid, Zxid};

use super::jute::grow;
use super::{ErrorCode, Stat, XID_NOTIFICATION, put_bool, put_i32, put_i64, put_str};

/// Where a frame under construction began; see [`begin_frame`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct FrameStart(usize);

/// Appends a length placeholder; [`end_frame`] fills it in.
pub fn begin_frame(out: &mut Vec<u8>) -> FrameStart {
    let start = out.len();
    put_i32(out, 0);
    FrameStart(start)
}

/// Completes the frame begun at `start` with everything appended since.
///
/// # Panics
/// When the frame is 2 GiB or larger: replies are bounded by the tree's limits.
pub fn end_frame(out: &mut [u8], start: FrameStart) {
    let len = i32::try_from(out.len() - start.0 - 4).expect("frames stay below 2 GiB");
    out[start.0..start.0 + 4].copy_from_slice(&len.to_be_bytes());
}

/// Where a vector under construction began; see [`begin_vector`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct VectorStart(usize);

/// Appends a placeholder for the number of elements; [`end_vector`] fills it in.
pub fn begin_vector(out: &mut Vec<u8>) -> VectorStart {
    let start = out.len();
    put_i32(out, 0);
    VectorStart(start)
}

/// Says that `count` elements were appended since the vector was begun at `start`.
pub fn end_vector(out: &mut [u8], start: VectorStart, count: i32) {
    out[start.0..start.0 + 4].copy_from_slice(&count.to_be_bytes());
}

/// Begins a reply frame: length placeholder and `ReplyHeader`.
pub fn begin_reply(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, err: i32) -> FrameStart {
    let start = out.len();
    let b: &mut [u8; 20] = grow(out);
    b[4..8].copy_from_slice(&xid.0.to_be_bytes());
    b[8..16].copy_from_slice(&zxid.0.to_be_bytes());
    b[16..20].copy_from_slice(&err.to_be_bytes());
    FrameStart(start)
}

/// Appends a whole reply frame without a body: a success of an op that returns nothing, or any
/// error.
pub fn put_error_reply(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, err: ErrorCode) {
    let start = begin_reply(out, xid, zxid, err.code());
    end_frame(out, start);
}

/// Appends a whole reply frame of a success that returns a stat.
#[inline]
pub fn put_stat_reply(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, stat: &Stat) {
    const HEAD: usize = 20;
    let b: &mut [u8; HEAD + Stat::SIZE] = grow(out);
    let (head, body) = b.split_at_mut(HEAD);
    head[0..4].copy_from_slice(&((HEAD - 4 + Stat::SIZE) as u32).to_be_bytes());
    head[4..8].copy_from_slice(&xid.0.to_be_bytes());
    head[8..16].copy_from_slice(&zxid.0.to_be_bytes());
    if let Some(body) = body.first_chunk_mut() {
        stat.write_to(body);
    }
}

/// Watch event types that travel (`Watcher.Event.EventType`); the others are made inside clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// Appends a whole notification frame. `zxid` is the transaction that fired it, -1 for the
/// catch-up events of setWatches.
pub fn put_notification(out: &mut Vec<u8>, zxid: Zxid, event: EventType, path: &str) {
    const SYNC_CONNECTED: i32 = 3;
    let start = begin_frame(out);
    put_i32(out, XID_NOTIFICATION);
    put_i64(out, zxid.0);
    put_i32(out, 0);
    put_i32(out, event as i32);
    put_i32(out, SYNC_CONNECTED);
    put_str(out, path);
    end_frame(out, start);
}

/// Appends a `MultiHeader` of a successful result of type `op`.
pub fn put_multi_header(out: &mut Vec<u8>, op: i32) {
    put_i32(out, op);
    put_bool(out, false);
    put_i32(out, 0);
}

/// Appends a failed sub-result: the code stands in the header and again in the body.
pub fn put_multi_error(out: &mut Vec<u8>, err: i32) {
    put_i32(out, -1);
    put_bool(out, false);
    put_i32(out, err);
    put_i32(out, err);
}

/// Appends the terminator of a multi request or result.
pub fn put_multi_end(out: &mut Vec<u8>) {
    put_i32(out, -1);
    put_bool(out, true);
    put_i32(out, -1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn frames_match_the_reference_vectors() {
        let mut out = Vec::new();
        put_error_reply(&mut out, Xid(2), Zxid(4), ErrorCode::NodeExists);
        assert_eq!(hex(&out), "00000010000000020000000000000004ffffff92");
        let mut out = Vec::new();
        put_notification(&mut out, Zxid(0x58), EventType::NodeDataChanged, "/w");
        assert_eq!(
            hex(&out),
            "0000001effffffff0000000000000058000000000000000300000003000000022f77"
        );
        let mut out = Vec::new();
        put_multi_error(&mut out, 0);
        put_multi_error(&mut out, -101);
        put_multi_error(&mut out, -2);
        put_multi_end(&mut out);
        assert_eq!(
            hex(&out),
            "ffffffff000000000000000000ffffffff00ffffff9bffffff9b\
             ffffffff00fffffffefffffffeffffffff01ffffffff"
        );
    }
}
