//! What learners ask for while requests wait for the next epoch of the same leader.
//!
//! A learner's socket is never paused for its requests, as its acknowledgements come the same way.
//! So it is bounded here what a learner may have waiting: beyond `bytes_max` its requests get an
//! error, and are kept without their records, as each has to come back in its place. Who goes on to
//! ask for twice as much is no member of ours, and loses its connection.

use std::collections::BTreeMap;

use crate::base::{LinkId, SessionId, Xid};
use crate::wire::OpCode;
use crate::wire::quorum::Revalidate;

/// Something that a learner has asked for.
#[derive(Debug)]
pub(super) struct Held {
    pub link: LinkId,
    pub asked: Asked,
}

/// What a learner has asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A client's request, see `zab::Effect::Request`.
    Request(Request),
    /// See `zab::Effect::SyncAsked`: it stands behind the requests before it.
    Sync,
    /// See `zab::Effect::Revalidate`.
    Revalidation(Revalidate),
}

/// See `zab::Effect::Request`.
#[derive(Debug)]
pub(super) struct Request {
    pub session: SessionId,
    pub cxid: Xid,
    pub op: OpCode,
    /// Its record, and what the client has authenticated as; `None` where there was no room.
    pub content: Option<(Vec<u8>, Vec<u8>)>,
}

/// See the module's introduction.
#[derive(Debug)]
pub(super) struct HeldRequests {
    list: Vec<Held>,
    /// Of each learner.
    bytes: BTreeMap<LinkId, usize>,
    bytes_max: usize,
}

/// What one takes beside its record.
const OVERHEAD: usize = 128;

impl HeldRequests {
    /// Nothing waits; a learner may have `bytes_max` bytes waiting.
    pub fn new(bytes_max: usize) -> HeldRequests {
        HeldRequests { list: Vec::new(), bytes: BTreeMap::new(), bytes_max }
    }

    /// Keeps it. False if its learner has far too much waiting.
    pub fn add(&mut self, mut held: Held) -> bool {
        let bytes = self.bytes.entry(held.link).or_default();
        if let Asked::Request(request) = &mut held.asked {
            let content = request.content.as_ref();
            let size = content.map_or(0, |(body, ids)| body.len() + ids.len());
            // Sessions begin and end all the same.
            let is_write = request.op.is_write();
            if is_write && *bytes + OVERHEAD + size > self.bytes_max {
                request.content = None;
            } else {
                *bytes += size;
            }
        }
        *bytes += OVERHEAD;
        let has_room = *bytes <= 2 * self.bytes_max;
        self.list.push(held);
        has_room
    }

    /// All of it, in its order.
    pub fn take(&mut self) -> Vec<Held> {
        self.bytes.clear();
        std::mem::take(&mut self.list)
    }

    /// A learner is gone, and what it has asked for with it.
    pub fn forget(&mut self, link: LinkId) {
        if self.bytes.remove(&link).is_some() {
            self.list.retain(|held| held.link != link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(link: u64, op: OpCode, size: usize) -> Held {
        let content = Some((vec![1; size], Vec::new()));
        let (session, cxid) = (SessionId(1), Xid(1));
        Held { link: LinkId(link), asked: Asked::Request(Request { session, cxid, op, content }) }
    }

    fn has_content(held: &Held) -> bool {
        matches!(&held.asked, Asked::Request(request) if request.content.is_some())
    }

    #[test]
    fn each_learner_has_a_share_and_then_errors_and_then_no_connection() {
        let mut held = HeldRequests::new(10 * OVERHEAD);
        for _ in 0..5 {
            assert!(held.add(request(1, OpCode::SetData, OVERHEAD)));
        }
        assert!(held.add(request(1, OpCode::SetData, OVERHEAD)), "it gets an error");
        assert!(held.add(request(1, OpCode::CloseSession, 0)));
        assert!(held.add(request(2, OpCode::SetData, OVERHEAD)), "another one has room");
        let mut count = 8;
        while held.add(Held { link: LinkId(1), asked: Asked::Sync }) {
            count += 1;
        }
        assert_eq!(count, 8 + 8, "it has twice as much as it may");
        let list = held.take();
        let kept: Vec<bool> = list.iter().take(8).map(has_content).collect();
        assert_eq!(kept, [true, true, true, true, true, false, true, true]);
        held.add(request(1, OpCode::SetData, 0));
        held.add(request(2, OpCode::SetData, 0));
        held.forget(LinkId(1));
        assert_eq!(held.take().iter().map(|held| held.link).collect::<Vec<_>>(), [LinkId(2)]);
    }
}
