//! A database that another member sends (SNAP): received in pieces, kept on disk while it arrives,
//! and then made this server's own in one step. Counterpart: the SNAP branch of
//! `Learner.syncWithLeader`.
//!
//! The order, each step after the one before it:
//! 1. [`Replica::begin_reception`]: every client connection is closed. Watches cannot be carried
//!    over transactions that are skipped, and clients find another member the sooner.
//! 2. [`Replica::receive`]: the pieces are read item by item into a tree apart, and handed to the
//!    disk as an ordinary snapshot file under a name that a start ignores.
//! 3. `Input::ReceptionEnded` says that the whole file is durable.
//! 4. The log is retired as a command of its own: one decision on disk makes the file the database
//!    and everything older nothing. Before it a start gives the old state, after it the new one.
//! 5. [`Replica::adopt`]: tree and sessions are replaced. Then the server may serve again.
//!
//! Until step 5 the old tree is here unchanged, so a sender that is lost costs nothing but time;
//! the price is the memory of two trees. Invariant: nothing of the old state, such as a watch, a
//! verdict about one of its ACLs, or a walk over its nodes, is left after step 5.

use std::fmt;

use crate::base::{Mutation, Now, Zxid, invariant, is_mutated};
use crate::log::{
    Recovered, RecoveryTarget, SnapshotDigest, SnapshotError, SnapshotReader, SnapshotWriter,
};
use crate::tree::Tree;
use crate::watch::Watches;

use super::core::{Replica, Restored, place_membership};
use super::effects::{CloseHow, Effect, Effects, StreamId};
use super::restore::Restore;
use super::tail::Tail;
use super::walks::{BYTE_COST, IN_FLIGHT_MAX, Target};

/// The largest session, ACL or node that is received, in bytes. A node's data has at most
/// `jute.maxbuffer`, which is 1 MiB unless the ensemble raised it.
const ITEM_MAX: usize = 64 << 20;

/// Why what a member sends is not a database. The connection to that member must be closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceptionError {
    /// It cannot be read.
    Stream(SnapshotError),
    /// A single item in it is larger than any can be.
    ItemTooLong {
        /// Bytes of it that were there already.
        bytes: usize,
    },
    /// Its nodes make no tree.
    Tree(String),
}

impl fmt::Display for ReceptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceptionError::Stream(error) => write!(f, "the snapshot stream is damaged: {error}"),
            ReceptionError::ItemTooLong { bytes } => {
                write!(f, "the snapshot stream has an item of more than {bytes} bytes")
            }
            ReceptionError::Tree(why) => write!(f, "the snapshot stream holds no tree: {why}"),
        }
    }
}

impl std::error::Error for ReceptionError {}

/// How far a reception is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceptionStage {
    /// Pieces arrive.
    Arriving,
    /// All have arrived, and the disk does not have all of them yet.
    Writing,
    /// The file is durable: the log may be retired, then [`Replica::adopt`].
    Durable,
}

/// A database on its way in.
pub(super) struct Reception {
    stream: StreamId,
    zxid: Zxid,
    stage: ReceptionStage,
    reader: SnapshotReader,
    restore: Box<Restore>,
    file: SnapshotWriter,
    /// What has arrived of the next item, as long as that is not whole.
    rest: Vec<u8>,
    /// Chunks that the disk has not taken.
    in_flight: u32,
}

impl Reception {
    /// Reads the whole items in `rest`; returns how many bytes they have.
    fn read(&mut self) -> Result<usize, ReceptionError> {
        let used = self.reader.feed(&self.rest, false, &mut *self.restore);
        let used = used.map_err(ReceptionError::Stream)?;
        if self.reader.is_done() {
            // No digest: nodes may show effects of later transactions.
            let done = self.restore.snapshot_done(self.zxid, None);
            done.map_err(ReceptionError::Tree)?;
        } else if self.rest.len() - used > ITEM_MAX {
            return Err(ReceptionError::ItemTooLong { bytes: self.rest.len() - used });
        }
        Ok(used)
    }
}

impl Replica {
    /// The database as of `zxid` is going to be received; one that was on its way is given up. Only
    /// a server that does not lead takes one.
    pub fn begin_reception(&mut self, stream: StreamId, zxid: Zxid, effects: &mut Effects) {
        invariant!(self.leader.is_none(), "a server that leads has the newest database itself");
        self.abandon_reception(effects);
        self.close_all(effects);
        let mut head = Vec::new();
        let file = SnapshotWriter::begin_file(&mut head);
        effects.list.push(Effect::ReceptionBegin { stream, zxid });
        effects.list.push(Effect::ReceptionChunk(head));
        self.reception = Some(Box::new(Reception {
            stream,
            zxid,
            stage: ReceptionStage::Arriving,
            reader: SnapshotReader::stream(),
            restore: Box::new(Restore::new(self.tree.options())),
            file,
            rest: Vec::new(),
            in_flight: 1,
        }));
    }

    /// How far the reception under way is, if there is one.
    pub fn reception(&self) -> Option<(StreamId, ReceptionStage)> {
        self.reception.as_ref().map(|reception| (reception.stream, reception.stage))
    }

    /// Whether [`Replica::receive`] may be called: the disk has taken enough of what came before.
    pub fn wants_received(&self) -> bool {
        self.reception.as_ref().is_some_and(|reception| {
            reception.stage == ReceptionStage::Arriving && reception.in_flight < IN_FLIGHT_MAX
        })
    }

    /// More of the stream arrived. Returns how many of these bytes belong to it: fewer than all
    /// when it ends in them. A piece of 64 KiB takes about 100 µs; larger ones are for the caller
    /// to divide. After an error the reception is over.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Result<usize, ReceptionError> {
        invariant!(self.wants_received(), "pieces wait until the disk has taken those before");
        self.fair.spent += BYTE_COST * bytes.len() as u64;
        let Some(reception) = &mut self.reception else { unreachable!("just asserted") };
        reception.rest.extend_from_slice(bytes);
        let used = match reception.read() {
            Ok(used) => used,
            Err(error) => {
                self.abandon_reception(effects);
                return Err(error);
            }
        };
        let is_done = reception.reader.is_done();
        let mut chunk = Vec::with_capacity(used + 64);
        // The mark after the tree is not the file's.
        let nodes = used - if is_done { SnapshotReader::STREAM_END_LEN } else { 0 };
        reception.file.relay(&reception.rest[..nodes], &mut chunk);
        let beyond = if is_done { reception.rest.len() - used } else { 0 };
        reception.rest.drain(..used);
        if is_done {
            reception.rest = Vec::new();
            reception.stage = ReceptionStage::Writing;
            let last = self.options.snapshot_zxid.then_some(reception.zxid);
            reception.file.clone().finish_relayed(Some(SnapshotDigest::BLANK), last, &mut chunk);
        }
        if !chunk.is_empty() {
            reception.in_flight += 1;
            effects.list.push(Effect::ReceptionChunk(chunk));
        }
        if is_done {
            // No snapshot of the old tree may get its name while older files are removed.
            self.abandon_snapshot(effects);
            effects.list.push(Effect::ReceptionFinish);
        }
        Ok(bytes.len() - beyond)
    }

    /// The sender is lost, or what it sends is of no use. The state is what it was.
    pub fn abandon_reception(&mut self, effects: &mut Effects) {
        if self.reception.take().is_some() {
            effects.list.push(Effect::ReceptionAbandon);
        }
    }

    /// The disk took a chunk. It may be of a reception that was given up meanwhile.
    pub(super) fn reception_ready(&mut self, of: StreamId) {
        if let Some(reception) = self.reception.as_mut().filter(|found| found.stream == of) {
            invariant!(reception.in_flight > 0, "the disk takes a chunk that it was not given");
            reception.in_flight -= 1;
        }
    }

    /// The file is durable, or could not be written, `!ok`: then the reception is over.
    pub(super) fn reception_ended(&mut self, of: StreamId, ok: bool) {
        // It may be one that was given up meanwhile.
        let Some(reception) = self.reception.as_mut().filter(|found| found.stream == of) else {
            return;
        };
        if !ok {
            self.reception = None;
            return;
        }
        let is_written = reception.stage == ReceptionStage::Writing;
        invariant!(is_written, "a file is whole before everything was handed over");
        reception.stage = ReceptionStage::Durable;
    }

    /// Whether a snapshot file of the old tree may begin.
    pub(super) fn may_snapshot_old(&self) -> bool {
        self.reception.as_ref().is_none_or(|found| found.stage == ReceptionStage::Arriving)
    }

    /// Makes the database that was received this server's: its file is durable, the log is retired
    /// and ends with it, and nobody leads. What the tail holds goes.
    pub fn adopt(&mut self, now: Now, effects: &mut Effects) {
        invariant!(self.leader.is_none(), "a database is replaced while nobody leads");
        invariant!(
            self.tail.logged() == self.tail.last(),
            "what the log has not ended would be taken for what follows the new database"
        );
        let reception = self.reception.take();
        let is_durable =
            reception.as_ref().is_some_and(|found| found.stage == ReceptionStage::Durable);
        invariant!(is_durable, "only a database that is on disk as a whole is adopted");
        let Some(reception) = reception else { unreachable!("just asserted") };
        let (committed, snapshot_zxid) = (reception.zxid, Some(reception.zxid));
        let what = Recovered { committed, snapshot_zxid, ..Recovered::default() };
        let Restored { mut tree, sessions, check, .. } = reception.restore.finish(&what);
        place_membership(&mut tree, &self.options, now);
        // Connections that came since. Nobody has confirmed the session of one.
        self.close_all(effects);
        self.end_walks(effects);
        self.replace_tree(tree);
        self.check.replace(check);
        self.committed_sessions = sessions.into_iter().collect();
        self.tail = Tail::new(reception.zxid);
        self.fuzzy = (!is_mutated(Mutation::ForgetFuzzy)).then_some(Zxid(i64::MAX));
        self.limits.forget_writes();
        self.snapshot.replaced(&self.options, &mut self.rng, reception.zxid);
        self.make_room(now, effects);
        log::info!(
            "the database that was received replaces what this server had: {} znodes and {} \
             sessions at zxid 0x{}",
            self.tree.node_count(),
            self.committed_sessions.len(),
            reception.zxid
        );
    }

    /// All that knows nodes or ACLs of the old tree goes with it.
    fn replace_tree(&mut self, tree: Tree) {
        invariant!(self.watches.is_empty(), "watches go with their connections");
        self.tree = tree;
        self.watches = Watches::new();
        self.auth.forget_verdicts();
        self.ahead.clear();
        self.ahead_hashes.clear();
    }

    /// Closes every connection; what was answered before still leaves.
    pub(super) fn close_all(&mut self, effects: &mut Effects) {
        let conns: Vec<_> = self.clients.iter().map(|client| client.conn).collect();
        for conn in conns {
            self.close(conn, CloseHow::AfterFlush, effects);
        }
        invariant!(self.session_conns.is_empty(), "sessions go on without their connections");
    }

    /// The tree that is walked over goes.
    fn end_walks(&mut self, effects: &mut Effects) {
        for target in std::mem::take(&mut self.walks).targets() {
            match target {
                Target::Stream(stream) => {
                    effects.list.push(Effect::StreamEnd { stream, is_whole: false });
                }
                Target::File => unreachable!("none begins behind the last piece"),
            }
        }
    }
}
