//! Reads that may take long, done in parts: setWatches, of as many paths as fit a frame, multiRead,
//! of as many lists, and single lists that are long, see [`super::lists`].
//!
//! Between two parts transactions are applied. For setWatches each path counts for itself: what
//! happens to one that is watched already fires, and one whose turn comes later is compared as of
//! then. Lists and the results of a multiRead must show one state of the tree, the one at their
//! end. A list is compared before each part, what a multiRead has read is compared when it is
//! through; if something of it has changed, everything is read again; after
//! [`Parts::ATTEMPTS_MAX`] times in one go, so that it ends.

use crate::base::Zxid;
use crate::wire::{
    ErrorCode, EventType, MultiOp, MultiOps, OpCode, PathWatch, Reader, StrVector, put_multi_end,
    put_multi_error, put_multi_header, put_notification,
};

use super::lists::{List, Version};
use super::read::{ReadContext, ReadResult, WATCH_COST, bytes_cost};

/// Bytes of results that one multiRead may have; more than any client's `jute.maxbuffer` takes.
const MULTI_READ_BYTES_MAX: usize = 64 << 20;

/// Lists of a setWatches that Apache's first version has; in them a null path is an error.
const FIRST_LISTS: usize = 3;

/// What of a node is in the results of reads: when it came, when data, children and ACL changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    /// Where the count of changes has come to its end, children change without a pzxid.
    children: u32,
    aversion: i32,
}

/// Where a part ends.
#[derive(Clone, Copy)]
pub(super) struct PartEnd {
    /// The cost after which it does, bytes of the output included.
    limit: u64,
    /// Length of the output when it began.
    begun: usize,
}

impl PartEnd {
    /// What is done in one go.
    pub const NEVER: PartEnd = PartEnd { limit: u64::MAX, begun: 0 };

    /// Whether a read that cost so much, without its output, has to wait for its next part.
    pub fn is_reached(self, cost: u64, out: &[u8]) -> bool {
        cost.saturating_add(bytes_cost(out.len() - self.begun)) >= self.limit
    }
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
    /// The list under way, of a multiRead or alone.
    list: List,
    /// Of a list alone: its version when it began.
    version: Option<Version>,
    /// All but setWatches: times that it began anew.
    attempts: u32,
}

impl Parts {
    /// Times that a read begins anew because the tree has changed; the last time it is not divided.
    pub const ATTEMPTS_MAX: u32 = 2;

    /// A read that is done in one go.
    pub fn undivided() -> Parts {
        Parts { attempts: Parts::ATTEMPTS_MAX, ..Parts::default() }
    }

    /// Where the part that begins now has to end.
    fn end(&self, limit: u64, out: &[u8]) -> PartEnd {
        let limit = if self.attempts < Parts::ATTEMPTS_MAX { limit } else { u64::MAX };
        PartEnd { limit, begun: out.len() }
    }

    /// What was read has changed: forgets it.
    fn begin_anew(&mut self, out: &mut Vec<u8>) {
        *self = Parts { attempts: self.attempts + 1, ..Parts::default() };
        out.clear();
    }

    /// Notifications that were appended since the last call.
    pub fn take_notified(&mut self) -> u64 {
        std::mem::take(&mut self.notified)
    }
}

/// What became of an operation of a multiRead.
enum Step {
    /// Its result stands whole.
    Done,
    /// More of it follows, or everything again.
    NotThrough,
    /// It is none of the two reads.
    NoRead,
}

impl ReadContext<'_> {
    /// Whether a request is always done by [`ReadContext::part`].
    pub fn is_divided(op: OpCode) -> bool {
        matches!(
            op,
            OpCode::SetWatches
                | OpCode::SetWatches2
                | OpCode::MultiRead
                | OpCode::GetAllChildrenNumber
        )
    }

    /// Goes on with a read, and ends when that has cost the limit or is through: then its outcome
    /// is returned. Appended to `out` are whole notification frames (setWatches), or more of the
    /// result (all others), which has to be kept until then. Only the result of a multiRead is to
    /// be sent in spite of an error.
    pub fn part(
        &mut self,
        op: OpCode,
        body: &[u8],
        parts: &mut Parts,
        out: &mut Vec<u8>,
    ) -> Option<ReadResult> {
        let outcome = match op {
            OpCode::MultiRead => self.multi_read_part(body, parts, out),
            OpCode::SetWatches | OpCode::SetWatches2 => self.set_watches_part(op, body, parts, out),
            _ => self.lone_list_part(op, body, parts, out),
        };
        match outcome {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(code) => Some(Err(code)),
        }
    }

    fn lone_list_part(
        &mut self,
        op: OpCode,
        body: &[u8],
        parts: &mut Parts,
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let version = Some(self.version(op, body)?);
        if parts.version.is_some() && parts.version != version {
            parts.begin_anew(out);
        }
        parts.version = version;
        let end = parts.end(self.limit, out);
        self.list_part(op, body, &mut parts.list, end, out)
    }

    /// The whole record has to decode before anything happens. A null list, and a null path
    /// where the node is looked for, end the work then and there.
    fn set_watches_part(
        &mut self,
        op: OpCode,
        body: &[u8],
        parts: &mut Parts,
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
        while self.cost < self.limit {
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
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        if !parts.begun {
            for op in MultiOps::new(Reader::new(body)) {
                op?;
            }
            (parts.begun, parts.since) = (true, self.zxid);
            self.cost += bytes_cost(body.len());
        }
        let mut outcome = Ok(true);
        let mut ops = MultiOps::new(Reader::new(body.get(parts.at..).unwrap_or_default()));
        let end = parts.end(self.limit, out);
        loop {
            parts.at = body.len() - ops.remaining();
            if end.is_reached(self.cost, out) {
                return Ok(false);
            }
            let Some(op) = ops.next() else { break };
            match self.read_one(&op?, parts, end, out)? {
                Step::Done => {}
                Step::NotThrough => return Ok(false),
                Step::NoRead => {
                    outcome = Err(ErrorCode::MarshallingError);
                    break;
                }
            }
        }
        if !self.is_unchanged(body, parts) {
            parts.begin_anew(out);
            return Ok(false);
        }
        put_multi_end(out);
        outcome
    }

    /// One operation of a multiRead, or more of one.
    fn read_one(
        &mut self,
        op: &MultiOp<'_>,
        parts: &mut Parts,
        end: PartEnd,
        out: &mut Vec<u8>,
    ) -> Result<Step, ErrorCode> {
        let (code, path) = match op {
            MultiOp::GetData(Some(path)) => (OpCode::GetData, path),
            MultiOp::GetChildren(Some(path)) => (OpCode::GetChildren, path),
            _ => return Ok(Step::NoRead),
        };
        if parts.list.is_under_way() && parts.seen.last() != Some(&self.see(path.as_bytes())) {
            // The list has changed, and will not be as it was when all is compared.
            parts.begin_anew(out);
            return Ok(Step::NotThrough);
        }
        let before = out.len();
        if !parts.list.is_under_way() {
            if out.len() > MULTI_READ_BYTES_MAX {
                return Err(ErrorCode::MarshallingError);
            }
            self.cost += WATCH_COST;
            parts.seen.push(self.see(path.as_bytes()));
            put_multi_header(out, code.code());
        }
        // Watch flags inside a multiRead are ignored.
        let result = if code == OpCode::GetData {
            self.get_data(path.as_bytes(), false, out).map(|()| true)
        } else {
            let request = PathWatch { path: path.clone(), watch: false };
            self.get_children(&request, false, &mut parts.list, end, out)
        };
        match result {
            Ok(false) => return Ok(Step::NotThrough),
            Ok(true) => {}
            Err(err) => {
                out.truncate(before);
                put_multi_error(out, err.code());
            }
        }
        parts.list = List::default();
        Ok(Step::Done)
    }

    pub(super) fn see(&self, path: &[u8]) -> Option<Seen> {
        let node = self.tree.find_bytes(path)?;
        let (stat, children) = (self.tree.persisted(node), self.tree.num_children(node));
        let (czxid, mzxid, pzxid) = (stat.czxid, stat.mzxid, stat.pzxid);
        Some(Seen { czxid, mzxid, pzxid, children, aversion: stat.aversion })
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
