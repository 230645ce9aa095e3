//! The replica's state, its entry point and its clockwork.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Auth;
use crate::base::{ConnId, FixedMap, Instant, Now, Rng, SessionId, Xid, Zxid};
use crate::log::Batch;
use crate::pipeline::{PendingView, PrepareOptions, Slot};
use crate::session::Sessions;
use crate::tree::{ApplyHint, NodeId, Tree};
use crate::watch::Watches;
use crate::wire::OpCode;

use super::client::{Client, Clients};
use super::effects::{Effect, Effects, Input};
use super::fair::{Fair, FairOptions};
use super::limits::{LimitOptions, Limits};
use super::messages::Rations;
use super::snapshot::SnapshotState;
use super::stats::ServerStats;

/// Settings of one server's brain, as plain values.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Server id: top byte of the session ids it makes; 1 when standalone.
    pub server_id: u64,
    /// `tickTime` in ms.
    pub tick_ms: u64,
    /// `minSessionTimeout` in ms.
    pub min_session_timeout_ms: i32,
    /// `maxSessionTimeout` in ms.
    pub max_session_timeout_ms: i32,
    /// Rules of the prepare stage.
    pub prepare: PrepareOptions,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// `globalOutstandingLimit`: beyond this many requests in process, connections with one
    /// outstanding are paused.
    pub outstanding_limit: u64,
    /// `snapCount`: a snapshot is due after half to all of this many transactions.
    pub snap_count: u64,
    /// `snapSizeLimitInKb` in bytes; 0 for no such limit.
    pub snap_size_bytes: u64,
    /// A snapshot that `snap_count` asks for waits until the log has grown by this many times the
    /// size of the last one, so that a large tree under a fast load is not written without end.
    pub snap_log_ratio: u64,
    /// Nor does it come before the log has grown by this many bytes.
    pub snap_log_least: u64,
    /// `znode.container.checkIntervalMs`.
    pub container_check_ms: u64,
    /// `znode.container.maxPerMinute`.
    pub container_per_minute: u64,
    /// `znode.container.maxNeverUsedIntervalMs`; 0 for never.
    pub container_never_used_ms: i64,
    /// Record the tree digest with each transaction and snapshot.
    pub digest: bool,
    /// `serializeLastProcessedZxid.enabled`: snapshots end with the zxid they hold.
    pub snapshot_zxid: bool,
    /// Limits on connections and requests.
    pub limits: LimitOptions,
    /// How connections take turns.
    pub fair: FairOptions,
    /// Seed of everything random.
    pub seed: u64,
}

/// What [`ReplicaOptions::snap_log_ratio`] is in production: at worst a fifth of the time of a busy
/// server goes into snapshots.
pub const SNAP_LOG_RATIO: u64 = 4;

impl Default for ReplicaOptions {
    /// A standalone server as Apache configures it by default.
    fn default() -> ReplicaOptions {
        ReplicaOptions {
            server_id: 1,
            tick_ms: 3000,
            min_session_timeout_ms: 6000,
            max_session_timeout_ms: 60_000,
            prepare: PrepareOptions::default(),
            reconfig_enabled: false,
            outstanding_limit: 1000,
            snap_count: 100_000,
            snap_size_bytes: 4 << 30,
            snap_log_ratio: SNAP_LOG_RATIO,
            snap_log_least: 0,
            container_check_ms: 60_000,
            container_per_minute: 10_000,
            container_never_used_ms: 0,
            digest: true,
            snapshot_zxid: true,
            limits: LimitOptions::default(),
            fair: FairOptions::default(),
            seed: 1,
        }
    }
}

/// What recovery found.
#[derive(Debug)]
pub struct Restored {
    /// The tree at `last_zxid`. Sessions that do not exist may own ephemerals in it.
    pub tree: Tree,
    /// Sessions and their timeouts in ms.
    pub sessions: Vec<(SessionId, i32)>,
    /// Last transaction in the tree.
    pub last_zxid: Zxid,
    /// Whether a snapshot is written first thing.
    pub wants_snapshot: bool,
    /// Position of the newest whole snapshot on disk.
    pub snapshot_zxid: Option<Zxid>,
}

impl Restored {
    /// A tree without sessions at zxid 0, of which there is a snapshot.
    pub fn fresh(tree: Tree) -> Restored {
        let (last_zxid, snapshot_zxid) = (Zxid::ZERO, Some(Zxid::ZERO));
        Restored { tree, sessions: Vec::new(), last_zxid, wants_snapshot: false, snapshot_zxid }
    }
}

/// A transaction on its way to stable storage.
#[derive(Debug)]
pub(super) struct Proposal {
    pub zxid: Zxid,
    /// Whom to answer; `None` for server-generated ones.
    pub conn: Option<ConnId>,
    pub xid: Xid,
    pub op: OpCode,
    /// Bytes of its entry.
    pub len: u32,
    pub received: Instant,
    /// Pending records it touched; `Slot::MAX` for none.
    pub touched: [Slot; 2],
    pub more_touched: Option<Box<[Slot]>>,
    pub hint: ApplyHint,
}

/// See the module [`crate::replica`].
pub struct Replica {
    pub(super) options: ReplicaOptions,
    pub(super) tree: Tree,
    pub(super) watches: Watches,
    pub(super) sessions: Sessions,
    pub(super) auth: Auth,
    pub(super) clients: Clients,
    pub(super) pending: PendingView,
    pub(super) proposals: VecDeque<Proposal>,
    /// Being filled until the next flush.
    pub(super) batch: Batch,
    /// Empty, with the memory of those that are done with.
    pub(super) spare_batches: Vec<Batch>,
    /// Handed to the log, not wholly applied.
    pub(super) unsynced: VecDeque<Arc<Batch>>,
    /// Entries of the first unsynced batch that are applied already.
    pub(super) applied_in_front: usize,
    /// Last transaction prepared.
    pub(super) prepared: Zxid,
    /// Last transaction applied. Invariant: `applied <= prepared`.
    pub(super) applied: Zxid,
    /// Sessions whose creation is applied, with their timeouts in ms: what a snapshot holds.
    pub(super) committed_sessions: FixedMap<SessionId, i32>,
    /// Which connection speaks for a session.
    pub(super) session_conns: FixedMap<SessionId, ConnId>,
    /// Reads and replies that wait behind writes of their connection.
    pub(super) deferred_total: u64,
    /// Connections that are not read from, in the order in which that began.
    pub(super) paused: Vec<ConnId>,
    pub(super) limits: Limits,
    pub(super) fair: Fair,
    pub(super) stats: ServerStats,
    pub(super) rations: Rations,
    pub(super) snapshot: SnapshotState,
    pub(super) rng: Rng,
    pub(super) touched: Vec<Slot>,
    /// What preparing the current transaction found, see [`ApplyHint`].
    pub(super) hint: ApplyHint,
    pub(super) ahead: Vec<NodeId>,
    /// Number of the current turn: what lies between two calls of [`Replica::flush`].
    pub(super) turn: u64,
    /// Set while expiry waits for what has piled up to be read.
    pub(super) expiry_postponed: Option<Instant>,
    pub(super) ahead_hashes: Vec<u64>,
    pub(super) scratch: Vec<u8>,
    pub(super) result: Vec<u8>,
    pub(super) next_reap: Instant,
    pub(super) reap_queue: VecDeque<String>,
    pub(super) expired: Vec<SessionId>,
}

impl Replica {
    /// A server that resumes from what recovery found. It may have transactions to log already: the
    /// driver calls [`Replica::flush`] before it waits for the first time.
    pub fn new(
        now: Now,
        options: ReplicaOptions,
        auth: Auth,
        restored: Restored,
        session_id_start: SessionId,
    ) -> Replica {
        let mut sessions = Sessions::new(options.tick_ms);
        sessions.start_ids_at(session_id_start);
        let mut committed_sessions = FixedMap::default();
        for &(id, timeout_ms) in &restored.sessions {
            sessions.create(id, timeout_ms, now.mono);
            committed_sessions.insert(id, timeout_ms);
        }
        let mut rng = Rng::new(options.seed);
        let (wanted, newest) = (restored.wants_snapshot, restored.snapshot_zxid);
        let snapshot = SnapshotState::new(&options, &mut rng, wanted, newest);
        let mut replica = Replica {
            tree: restored.tree,
            watches: Watches::new(),
            sessions,
            auth,
            clients: Clients::default(),
            pending: PendingView::new(),
            proposals: VecDeque::new(),
            batch: Batch::new(),
            spare_batches: Vec::new(),
            unsynced: VecDeque::new(),
            applied_in_front: 0,
            prepared: restored.last_zxid,
            applied: restored.last_zxid,
            committed_sessions,
            session_conns: FixedMap::default(),
            deferred_total: 0,
            paused: Vec::new(),
            limits: Limits::new(now.mono, &options.limits),
            fair: Fair::new(options.fair, restored.last_zxid),
            stats: ServerStats::new(now.mono),
            rations: Rations::default(),
            snapshot,
            rng,
            touched: Vec::new(),
            hint: ApplyHint::NONE,
            ahead: Vec::new(),
            turn: 1,
            expiry_postponed: None,
            ahead_hashes: Vec::new(),
            scratch: Vec::new(),
            result: Vec::new(),
            next_reap: now.mono + Duration::from_millis(options.container_check_ms),
            reap_queue: VecDeque::new(),
            expired: Vec::new(),
            options,
        };
        replica.end_orphaned_sessions(now);
        replica
    }

    /// Handles one input to completion.
    pub fn handle(&mut self, now: Now, input: Input<'_>, fx: &mut Effects) {
        match input {
            Input::Opened { conn, peer } => self.opened(now, conn, peer),
            Input::Frames { conn, bytes } => {
                self.frames(now, conn, bytes, fx);
                // A connection that was closed for these may have left the pipeline.
                if self.has_room() {
                    self.make_room(now, fx);
                }
            }
            Input::Drained { conn } => self.drained(now, conn, fx),
            Input::Heard { conn } => self.heard(now, conn),
            Input::Closed { conn } => {
                self.forget(conn);
                self.make_room(now, fx);
            }
            Input::Synced { zxid } => self.synced(now, zxid, fx),
            Input::SnapshotReady => self.snapshot.ready(),
            Input::SnapshotEnded { ok } => {
                self.stats.snapshot_errors += u64::from(!ok);
                self.snapshot_ended(ok);
            }
            // Time is looked at only here, after a turn's input, so that no session expires while
            // its ping waits to be read.
            Input::Tick => self.on_time(now, fx),
        }
    }

    /// Ends a turn of the replica: what was prepared goes to the log. Its driver calls this before
    /// it waits, and may do so at any time between two inputs.
    pub fn flush(&mut self, fx: &mut Effects) {
        self.turn += 1;
        self.fair.begin_turn();
        self.hand_over(fx);
    }

    /// Gives the log what was prepared.
    pub(super) fn hand_over(&mut self, fx: &mut Effects) {
        if self.batch.is_empty() {
            return;
        }
        let spare = self.spare_batches.pop().unwrap_or_default();
        let batch = Arc::new(std::mem::replace(&mut self.batch, spare));
        self.unsynced.push_back(Arc::clone(&batch));
        fx.list.push(Effect::Append(batch));
    }

    /// When [`Replica::handle`] wants to be called at the latest, with `Input::Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        let mut next = self.next_reap;
        if let Some(expiry) = self.expiry_deadline() {
            next = next.min(expiry);
        }
        if self.snapshot.wants_step() || self.has_work() {
            next = Instant(0);
        }
        Some(next)
    }

    /// Whether something waits for nothing but its turn.
    pub(super) fn has_work(&self) -> bool {
        self.fair.has_queue() || self.applied < self.fair.durable || self.has_room()
    }

    fn on_time(&mut self, now: Now, fx: &mut Effects) {
        if self.applied < self.fair.durable {
            self.apply_durable(now, fx);
        } else if self.has_room() {
            self.make_room(now, fx);
        }
        self.serve_queue(now, fx);
        if self.expiry_deadline().is_some_and(|at| at <= now.mono) {
            self.expire_or_wait(now);
        }
        if self.next_reap <= now.mono {
            self.reap(now);
        }
        self.step_snapshot(fx);
    }

    fn expiry_deadline(&self) -> Option<Instant> {
        self.expiry_postponed.or_else(|| self.sessions.deadline())
    }

    /// A server that comes late to expire sessions was held up (paused, or short of CPU), and so
    /// were the pings that wait in its sockets and queues: they get a tick to be read first.
    fn expire_or_wait(&mut self, now: Now) {
        let due = self.sessions.deadline().unwrap_or(now.mono);
        let tick = Duration::from_millis(self.options.tick_ms);
        if self.expiry_postponed.take().is_none() && now.mono.since(due) > tick / 2 {
            self.expiry_postponed = Some(now.mono + tick);
            return;
        }
        self.expire_sessions(now);
    }

    fn expire_sessions(&mut self, now: Now) {
        let mut expired = std::mem::take(&mut self.expired);
        expired.clear();
        self.sessions.expire(now.mono, &mut expired);
        self.tell_expired(now, &expired);
        for &session in &expired {
            self.stats.stale_sessions_expired += 1;
            self.propose_close(now, session, None, Xid(0));
        }
        self.expired = expired;
    }

    /// Containers and TTL nodes that are due, one at a time at the configured pace
    /// (`ContainerManager`).
    fn reap(&mut self, now: Now) {
        if self.reap_queue.is_empty() {
            let mut due = Vec::new();
            let never_used = self.options.container_never_used_ms;
            self.tree.reap_candidates(now.wall_ms, never_used, &mut due);
            self.reap_queue.extend(due);
        }
        let pace = Duration::from_millis(60_000 / self.options.container_per_minute.max(1));
        if let Some(path) = self.reap_queue.pop_front() {
            self.propose_delete_container(now, &path);
        }
        self.next_reap = now.mono
            + if self.reap_queue.is_empty() {
                Duration::from_millis(self.options.container_check_ms)
            } else {
                pace
            };
    }

    /// Requests received and not answered, of all connections.
    pub fn outstanding(&self) -> u64 {
        self.in_progress() + self.fair.held
    }

    /// Those of them that do not only wait for their turn.
    pub(super) fn in_progress(&self) -> u64 {
        self.proposals.len() as u64 + self.deferred_total + self.limits.waiting()
    }

    /// Last applied transaction.
    pub fn last_processed(&self) -> Zxid {
        self.applied
    }

    /// Whether everything prepared has been applied, and nobody waits for a turn.
    pub fn is_settled(&self) -> bool {
        self.proposals.is_empty() && self.batch.is_empty() && !self.fair.has_queue()
    }

    /// Committed state, for status views and checkers.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Watches of this server.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Sessions of this server.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Connections of this server.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter()
    }

    /// Whether a snapshot is wanted or under way.
    pub fn is_snapshotting(&self) -> bool {
        self.snapshot.is_wanted() || self.snapshot.is_running()
    }

    /// Number of connections.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Which connection speaks for a session.
    pub fn conn_of(&self, session: SessionId) -> Option<ConnId> {
        self.session_conns.get(&session).copied()
    }

    /// Session behind a connection; 0 before the handshake.
    pub fn session_of(&self, conn: ConnId) -> SessionId {
        self.clients.get(conn).map_or(SessionId(0), |client| client.session)
    }

    /// Counters.
    pub fn stats(&self) -> &ServerStats {
        &self.stats
    }

    /// Number of committed sessions.
    pub fn session_count(&self) -> usize {
        self.committed_sessions.len()
    }

    /// `srst`.
    pub fn reset_stats(&mut self) {
        self.stats.reset();
    }

    /// A four-letter word came on a connection.
    pub fn word_received(&mut self, conn: ConnId) {
        self.stats.received += 1;
        self.stats.bytes_received += 4;
        if let Some(client) = self.clients.get_mut(conn) {
            client.stats.received += 1;
        }
    }

    /// A four-letter word was answered.
    pub fn word_answered(&mut self, conn: ConnId) {
        self.stats.sent += 1;
        if let Some(client) = self.clients.get_mut(conn) {
            client.stats.sent += 1;
        }
    }

    /// `crst`.
    pub fn reset_conn_stats(&mut self) {
        for client in self.clients.iter_mut() {
            client.stats.reset();
        }
    }

    /// Settings.
    pub fn options(&self) -> &ReplicaOptions {
        &self.options
    }

    /// Checks what must always hold; for simulation and tests.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self) {
        assert!(self.applied <= self.prepared, "applied ahead of prepared");
        let distance = (self.prepared.0 - self.applied.0) as usize;
        assert_eq!(self.proposals.len(), distance, "one proposal per unapplied transaction");
        if self.proposals.is_empty() {
            assert!(self.pending.is_empty(), "pending records without a proposal");
        }
        let may_go_on = self.has_room() && self.fair.has_line_budget();
        assert!(!may_go_on, "somebody waits in line although there is room");
        assert!(self.applied <= self.fair.durable, "applied before it is durable");
        self.check_queue();
        for client in self.clients.iter() {
            assert!(client.writes_applied <= client.writes_prepared, "{:?}", client.conn);
        }
    }
}
