//! Reads that may take long, done in parts: setWatches, of as many paths as fit a frame, and
//! multiRead, of as many lists.
//!
//! Between two parts transactions are applied. For setWatches each path counts for itself: what
//! happens to one that is watched already fires, and one whose turn comes later is compared as of
//! then. The results of a multiRead must show one state of the tree: what was read is compared at
//! the end, and if something of it has changed, everything is read again; after
//! [`Parts::ATTEMPTS_MAX`] times in one go, so that it ends.

use crate::base::Zxid;
use crate::wire::{
    ErrorCode, EventType, MultiOp, MultiOps, OpCode, PathWatch, Reader, StrVector, put_multi_end,
    put_multi_error, put_multi_header, put_notification,
};

use super::read::{ReadContext, ReadResult, WATCH_COST, bytes_cost};

/// Bytes of results that one multiRead may have; more than any client's `jute.maxbuffer` takes.
const MULTI_READ_BYTES_MAX: usize = 64 << 20;

/// Lists of a setWatches that Apache's first version has; in them a null path is an error.
const FIRST_LISTS: usize = 3;

/// What of a node is in the results of reads: when it came, when data, children and ACL changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    aversion: i32,
}

/// How far a read has come.
#[derive(Debug, Default)]
pub struct Parts {
    /// Its shape was checked: it begins.
    begun: bool,
    /// Bytes of the body that are done.
    at: usize,
    /// setWatches: lists that are begun.
    lists: usize,
    /// setWatches: paths left in the last of them.
    left: usize,
    /// setWatches: notifications since [`Parts::take_notified`].
    notified: u64,
    /// multiRead: when the first operation was done.
    since: Zxid,
    /// multiRead: what each operation saw, `None` where there was no node.
    seen: Vec<Option<Seen>>,
    /// multiRead: times that it began anew.
    attempts: u32,
}

impl Parts {
    /// Times that a multiRead begins anew because the tree has changed; the last time it is not
    /// divided.
    pub const ATTEMPTS_MAX: u32 = 2;

    /// Notifications that were appended since the last call.
    pub fn take_notified(&mut self) -> u64 {
        std::mem::take(&mut self.notified)
    }
}

impl ReadContext<'_> {
    /// Whether a request is done by [`ReadContext::part`].
    pub fn is_divided(op: OpCode) -> bool {
        matches!(op, OpCode::SetWatches | OpCode::SetWatches2 | OpCode::MultiRead)
    }

    /// Goes on with a read, and ends when it has cost `limit` or is through: then its outcome is
    /// returned. Appended to `out` are whole notification frames (setWatches), or more of the
    /// results (multiRead), which an error may follow.
    pub fn part(
        &mut self,
        op: OpCode,
        body: &[u8],
        parts: &mut Parts,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Option<ReadResult> {
        let outcome = match op {
            OpCode::MultiRead => self.multi_read_part(body, parts, limit, out),
            _ => self.set_watches_part(op, body, parts, limit, out),
        };
        match outcome {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(code) => Some(Err(code)),
        }
    }

    /// The whole record has to decode before anything happens. A null list, and a null path
    /// where the node is looked for, end the work then and there.
    fn set_watches_part(
        &mut self,
        op: OpCode,
        body: &[u8],
        parts: &mut Parts,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let count = if op == OpCode::SetWatches2 { 5 } else { FIRST_LISTS };
        let mut r = Reader::new(body);
        let relative = Zxid(r.i64("relativeZxid")?);
        if !parts.begun {
            parts.at = body.len() - r.remaining();
            for _ in 0..count {
                StrVector::read(&mut r, "watches")?;
            }
            parts.begun = true;
            self.cost += bytes_cost(body.len());
        }
        let mut r = Reader::new(body.get(parts.at..).unwrap_or_default());
        while self.cost < limit {
            if parts.left == 0 {
                if parts.lists == count {
                    return Ok(true);
                }
                parts.left = r.count("watches")?.ok_or(ErrorCode::MarshallingError)?;
                parts.lists += 1;
                continue;
            }
            parts.left -= 1;
            let list = parts.lists - 1;
            let path = match r.text("path")? {
                None if list < FIRST_LISTS => return Err(ErrorCode::MarshallingError),
                // A watch that never fires, like one on the empty path.
                path => path.unwrap_or_default(),
            };
            self.cost += WATCH_COST;
            let key = self.tree.key(&path);
            let missed: Option<EventType> = self.restore_watch(list, &key, relative);
            if let Some(event) = missed {
                put_notification(out, Zxid(-1), event, &path);
                parts.notified += 1;
            }
        }
        parts.at = body.len() - r.remaining();
        Ok(false)
    }

    /// A body that does not decode is answered without results. An operation that is none of the
    /// two reads, or a null path, ends the reading: then `out` holds the results so far, whole.
    fn multi_read_part(
        &mut self,
        body: &[u8],
        parts: &mut Parts,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        if !parts.begun {
            for op in MultiOps::new(Reader::new(body)) {
                op?;
            }
            (parts.begun, parts.since) = (true, self.zxid);
            self.cost += bytes_cost(body.len());
        }
        let limit = if parts.attempts < Parts::ATTEMPTS_MAX { limit } else { u64::MAX };
        let mut outcome = Ok(true);
        let mut ops = MultiOps::new(Reader::new(body.get(parts.at..).unwrap_or_default()));
        let begun = out.len();
        loop {
            if self.cost + bytes_cost(out.len() - begun) >= limit {
                parts.at = body.len() - ops.remaining();
                return Ok(false);
            }
            let Some(op) = ops.next() else { break };
            if !self.read_one(&op?, parts, out)? {
                outcome = Err(ErrorCode::MarshallingError);
                break;
            }
        }
        if !self.is_unchanged(body, parts) {
            *parts = Parts { attempts: parts.attempts + 1, ..Parts::default() };
            out.clear();
            return Ok(false);
        }
        put_multi_end(out);
        outcome
    }

    /// One operation of a multiRead; false if it is none, which ends the reading.
    fn read_one(
        &mut self,
        op: &MultiOp<'_>,
        parts: &mut Parts,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let (code, path) = match op {
            MultiOp::GetData(Some(path)) => (OpCode::GetData, path),
            MultiOp::GetChildren(Some(path)) => (OpCode::GetChildren, path),
            _ => return Ok(false),
        };
        if out.len() > MULTI_READ_BYTES_MAX {
            return Err(ErrorCode::MarshallingError);
        }
        self.cost += WATCH_COST;
        parts.seen.push(self.see(path.as_bytes()));
        let before = out.len();
        put_multi_header(out, code.code());
        // Watch flags inside a multiRead are ignored.
        let result = if code == OpCode::GetData {
            self.get_data(path.as_bytes(), false, out)
        } else {
            self.get_children(&PathWatch { path: path.clone(), watch: false }, false, out)
        };
        if let Err(err) = result {
            out.truncate(before);
            put_multi_error(out, err.code());
        }
        Ok(true)
    }

    fn see(&self, path: &[u8]) -> Option<Seen> {
        let stat = self.tree.persisted(self.tree.find_bytes(path)?);
        let (czxid, mzxid, pzxid) = (stat.czxid, stat.mzxid, stat.pzxid);
        Some(Seen { czxid, mzxid, pzxid, aversion: stat.aversion })
    }

    /// Whether what was read is as it was.
    fn is_unchanged(&mut self, body: &[u8], parts: &Parts) -> bool {
        if parts.since == self.zxid {
            return true;
        }
        self.cost += WATCH_COST / 2 * parts.seen.len() as u64;
        let ops = MultiOps::new(Reader::new(body));
        ops.zip(&parts.seen).all(|(op, seen)| {
            op.is_ok_and(|op| op.path().map(|path| self.see(path)) == Some(*seen))
        })
    }
}
