//! The replica's state, its entry point and its clockwork.

use std::sync::Arc;

use crate::auth::Auth;
use crate::base::{
    ConnId, FixedMap, Instant, Mark, Now, Rng, SessionId, Xid, Zxid, invariant, mark,
};
use crate::leader::{Leader, LeaderOptions};
use crate::log::Batch;
use crate::session::{SessionIds, Sessions};
use crate::tree::{Foresight, NodeId, Tree};
use crate::watch::Watches;

use super::client::{Asked, Client, Clients, Stage};
use super::digest_check::DigestCheck;
use super::effects::{Effect, Effects, Input};
use super::fair::{Fair, FairOptions};
use super::learner::{GivenUp, Learner, Syncs};
use super::limits::{LimitOptions, Limits};
use super::messages::Rations;
use super::owed::Owed;
use super::receive::Reception;
use super::snapshot::SnapshotState;
use super::stats::ServerStats;
use super::tail::{Origin, Tail};
use super::walks::{Target, Walks};

/// Settings of one server, as plain values.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Server id: top byte of the session ids it makes; 1 when standalone.
    pub server_id: u64,
    /// It is one of several servers: a `sync` asks a quorum.
    pub is_member: bool,
    /// `minSessionTimeout` in ms.
    pub min_session_timeout_ms: i32,
    /// `maxSessionTimeout` in ms.
    pub max_session_timeout_ms: i32,
    /// What it does when it leads.
    pub leader: LeaderOptions,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// What a member of an ensemble has in `/zookeeper/config`: the membership as text, and its
    /// version. `None` for a server alone.
    pub membership: Option<(String, Zxid)>,
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
    pub snapshot_log_bytes_min: u64,
    /// Record the tree digest with each transaction and snapshot.
    pub digest: bool,
    /// `serializeLastProcessedZxid.enabled`: snapshots end with the zxid they hold.
    pub snapshot_zxid: bool,
    /// Bytes of a chunk of the database, on its way to a snapshot file or to another member, not
    /// counting the node that it ends with. Eight chunks may wait for a receiver.
    pub walk_chunk: usize,
    /// Limits on connections and requests.
    pub limits: LimitOptions,
    /// How connections take turns.
    pub fair: FairOptions,
    /// `leaderServes`: clients are served while this server leads.
    pub leader_serves: bool,
    /// Seed of everything random.
    pub seed: u64,
}

/// A server checks a part of its state once in this many turns of the loop: a look takes about a
/// microsecond, so it costs nothing that could be measured.
pub(super) const CHECK_TURNS: u64 = 64;

/// What [`ReplicaOptions::snap_log_ratio`] is in production: at worst a fifth of the time of a busy
/// server goes into snapshots.
pub const SNAP_LOG_RATIO: u64 = 4;

/// What [`ReplicaOptions::walk_chunk`] is in production.
pub const WALK_CHUNK: usize = 64 << 10;

impl Default for ReplicaOptions {
    /// A standalone server as Apache configures it by default.
    fn default() -> ReplicaOptions {
        ReplicaOptions {
            server_id: 1,
            is_member: false,
            min_session_timeout_ms: 6000,
            max_session_timeout_ms: 60_000,
            leader: LeaderOptions::default(),
            reconfig_enabled: false,
            membership: None,
            outstanding_limit: 1000,
            snap_count: 100_000,
            snap_size_bytes: 4 << 30,
            snap_log_ratio: SNAP_LOG_RATIO,
            snapshot_log_bytes_min: 0,
            digest: true,
            snapshot_zxid: true,
            walk_chunk: WALK_CHUNK,
            limits: LimitOptions::default(),
            fair: FairOptions::default(),
            leader_serves: true,
            seed: 1,
        }
    }
}

/// What recovery found.
#[derive(Debug)]
pub struct Restored {
    /// The tree at `committed`. Sessions that do not exist may own ephemerals in it.
    pub tree: Tree,
    /// Sessions and their timeouts in ms.
    pub sessions: Vec<(SessionId, i32)>,
    /// The last transaction in the tree. Everything up to it is known to be committed.
    pub committed: Zxid,
    /// Transactions after it that the log of this server has, and of which it does not say whether
    /// they are committed.
    pub tail: Vec<Arc<Batch>>,
    /// How the tree agrees with the digests in snapshot and log so far.
    pub check: DigestCheck,
    /// Whether a snapshot is written first thing.
    pub wants_snapshot: bool,
    /// Position of the newest whole snapshot on disk.
    pub snapshot_zxid: Option<Zxid>,
    /// Nothing says how far the snapshot shows effects of later transactions, see
    /// [`Replica::fuzzy`].
    pub is_fuzzy: bool,
    /// The directory was empty, and nobody said that it should be: see [`Replica::is_void`].
    pub is_void: bool,
}

impl Restored {
    /// A tree without sessions at zxid 0, of which there is a snapshot.
    pub fn fresh(tree: Tree) -> Restored {
        Restored {
            tree,
            sessions: Vec::new(),
            committed: Zxid::ZERO,
            tail: Vec::new(),
            check: DigestCheck::default(),
            wants_snapshot: false,
            snapshot_zxid: Some(Zxid::ZERO),
            is_fuzzy: false,
            is_void: false,
        }
    }
}

/// See the module [`crate::replica`].
pub struct Replica {
    pub(super) options: ReplicaOptions,
    pub(super) tree: Tree,
    pub(super) watches: Watches,
    pub(super) auth: Auth,
    pub(super) clients: Clients,
    /// What only a leader has; without it, requests wait.
    pub(super) leader: Option<Leader>,
    /// It leads, and numbers nothing before the next epoch begins.
    pub(super) is_held: bool,
    /// Transactions state the digest of the tree after them, see [`Replica::state_digests`].
    pub(super) foresight: Option<Box<Foresight>>,
    /// What a server has that serves clients while another one leads.
    pub(super) learner: Option<Learner>,
    /// What the leader will answer, and nobody waits for any more.
    pub(super) given_up: GivenUp,
    /// Counts the leader's questions which sessions are used, over all terms.
    pub(super) touch_round: u64,
    /// Clients that wait for a quorum to confirm that this server is up to date.
    pub(super) syncs: Syncs,
    /// The tree was received while its sender's went on, before this start perhaps: it may show
    /// effects of transactions up to here, which are applied as a replay applies them. It is the
    /// highest number until this server is in step with a leader, who has them all.
    pub(super) fuzzy: Option<Zxid>,
    /// Transactions that are known and not applied.
    pub(super) tail: Tail,
    pub(super) session_ids: SessionIds,
    /// Sessions whose creation is applied, with their timeouts in ms: what a snapshot holds.
    pub(super) committed_sessions: FixedMap<SessionId, i32>,
    /// Which connection speaks for a session.
    pub(super) session_conns: FixedMap<SessionId, ConnId>,
    /// Number of reads and replies that wait for earlier writes of their connection.
    pub(super) deferred_total: u64,
    /// Lists that are being made in parts.
    pub(super) long_lists: u32,
    /// Connections that are not read from, in the order in which that began.
    pub(super) paused: Vec<ConnId>,
    pub(super) limits: Limits,
    pub(super) fair: Fair,
    /// Events that are to be sent in a later turn.
    pub(super) owed: Owed,
    pub(super) stats: ServerStats,
    pub(super) rations: Rations,
    pub(super) snapshot: SnapshotState,
    /// Goes on for what others state with their transactions.
    pub(super) check: DigestCheck,
    pub(super) walks: Walks,
    /// A database that another member sends.
    pub(super) reception: Option<Box<Reception>>,
    pub(super) rng: Rng,
    pub(super) ahead: Vec<NodeId>,
    /// Number of the current turn: what lies between two calls of [`Replica::flush`].
    pub(super) turn: u64,
    pub(super) ahead_hashes: Vec<u64>,
    pub(super) result: Vec<u8>,
    pub(super) expired: Vec<SessionId>,
}

/// COMPAT(2819): a member shows the membership of its own configuration, whatever the database of
/// another server says. No transaction does that, so no watch fires and no digest changes.
pub(super) fn place_membership(tree: &mut Tree, options: &ReplicaOptions, now: Now) {
    if let Some((text, version)) = &options.membership {
        tree.init_config(text.as_bytes(), version.0, now.wall_ms);
    }
}

impl Replica {
    /// A server that resumes from what recovery found. Nobody is served before [`Replica::lead`].
    pub fn new(
        now: Now,
        options: ReplicaOptions,
        auth: Auth,
        restored: Restored,
        session_id_start: SessionId,
    ) -> Replica {
        let committed_sessions = restored.sessions.iter().copied().collect();
        let mut rng = Rng::new(options.seed);
        let (wanted, newest) = (restored.wants_snapshot, restored.snapshot_zxid);
        let mut snapshot = SnapshotState::new(&options, &mut rng, wanted, newest);
        if options.is_member && restored.is_void {
            snapshot.bar();
        }
        let is_member = options.is_member;
        let mut tree = restored.tree;
        place_membership(&mut tree, &options, now);
        Replica {
            tree,
            watches: Watches::new(),
            auth,
            clients: Clients::default(),
            leader: None,
            is_held: false,
            foresight: None,
            learner: None,
            given_up: GivenUp::default(),
            touch_round: 0,
            syncs: Syncs::default(),
            fuzzy: (is_member && restored.is_fuzzy).then_some(Zxid(i64::MAX)),
            tail: Tail::recovered(restored.committed, restored.tail, now.mono),
            session_ids: SessionIds::new(session_id_start),
            committed_sessions,
            session_conns: FixedMap::default(),
            deferred_total: 0,
            long_lists: 0,
            paused: Vec::new(),
            limits: Limits::new(now.mono, &options.limits),
            fair: Fair::new(options.fair),
            owed: Owed::default(),
            stats: ServerStats::new(now.mono),
            rations: Rations::default(),
            snapshot,
            check: restored.check,
            walks: Walks::default(),
            reception: None,
            rng,
            ahead: Vec::new(),
            turn: 1,
            ahead_hashes: Vec::new(),
            result: Vec::new(),
            expired: Vec::new(),
            options,
        }
    }

    /// As [`Replica::new`], for tests: with no identities configured, and session ids that begin
    /// where its server id says.
    #[cfg(test)]
    pub fn for_tests(now: Now, options: ReplicaOptions, restored: Restored) -> Replica {
        let auth = Auth::new(crate::auth::AuthOptions::default()).expect("nothing is configured");
        let first = SessionId((options.server_id << 56).cast_signed());
        Replica::new(now, options, auth, restored, first)
    }

    /// Handles one input to completion.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        match input {
            Input::Opened { conn, peer } => self.opened(now, conn, peer),
            Input::Frames { conn, bytes } => {
                self.frames(now, conn, bytes, effects);
                // A connection that was closed for these may have left the pipeline.
                if self.has_room() {
                    self.make_room(now, effects);
                }
            }
            Input::Drained { conn } => self.drained(now, conn, effects),
            Input::Heard { conn } => self.heard(now, conn),
            Input::Closed { conn } => {
                self.forget(conn);
                self.make_room(now, effects);
            }
            Input::Logged { zxid } => self.tail.set_logged(zxid),
            Input::Committed { zxid } => {
                self.tail.set_committed(zxid);
                self.apply_committed(now, effects);
            }
            Input::LogDone { ticket, .. } => {
                invariant!(false, "{ticket:?} is its member's, which asked for it");
            }
            Input::SnapshotReady => self.walks.ready(Target::File),
            Input::ReceptionReady { stream } => self.reception_ready(stream),
            Input::ReceptionEnded { stream, ok } => self.reception_ended(stream, ok),
            Input::StreamWanted { stream } => self.begin_walk(Target::Stream(stream), effects),
            Input::StreamReady { stream } => self.walks.ready(Target::Stream(stream)),
            Input::StreamGone { stream } => self.abandon_walk(Target::Stream(stream)),
            Input::SnapshotEnded { ok } => {
                self.stats.snapshot_errors += u64::from(!ok);
                self.snapshot_ended(ok);
            }
            // Time is looked at only here, after a turn's input, so that no session expires while
            // its ping waits to be read.
            Input::Tick => self.on_time(now, effects),
        }
    }

    /// Ends a turn and begins the next one: what was prepared goes to the log. A driver that hands
    /// over in the middle of a turn uses [`Replica::hand_over`] and [`Replica::begin_turn`].
    pub fn flush(&mut self, effects: &mut Effects) {
        self.begin_turn();
        self.hand_over(effects);
    }

    /// Gives the log what was prepared, in the middle of a turn.
    pub fn hand_over(&mut self, effects: &mut Effects) {
        let committed = self.tail.committed();
        let batch = self.leader.as_mut().and_then(|leader| leader.take_batch(committed));
        if let Some(batch) = batch {
            let batch = self.stated(batch);
            self.tail.push_batch(Arc::clone(&batch));
            effects.list.push(Effect::Append(batch));
        }
    }

    /// When [`Replica::handle`] wants to be called at the latest, with `Input::Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        if self.wants_walk_step() || self.has_work() {
            return Some(Instant(0));
        }
        self.leader.as_ref().filter(|_| !self.is_held).map(Leader::deadline)
    }

    /// Whether something waits for nothing but its turn.
    pub(super) fn has_work(&self) -> bool {
        self.fair.has_queue() || self.tail.can_apply() || self.has_room() || !self.owed.is_empty()
    }

    fn on_time(&mut self, now: Now, effects: &mut Effects) {
        self.pay_owed(effects);
        if self.tail.can_apply() {
            self.apply_committed(now, effects);
        } else if self.has_room() {
            self.make_room(now, effects);
        }
        self.step_walks(effects);
        self.serve_queue(now, effects);
        self.end_what_is_due(now);
    }

    /// Sessions, containers and TTL nodes whose time is up, if this server leads.
    fn end_what_is_due(&mut self, now: Now) {
        // Another server does it, or this one in the next epoch: nothing gets a number before.
        let Some(leader) = self.leader.as_mut().filter(|_| !self.is_held) else { return };
        let due = leader.next_due(now, &self.tree);
        let mut expired = std::mem::take(&mut self.expired);
        expired.clear();
        leader.expired(now, &mut expired);
        if !expired.is_empty() {
            self.tell_expired(now, &expired);
            for &session in &expired {
                mark(Mark::ExpiredSession);
                self.stats.stale_sessions_expired += 1;
                self.propose_close(now, session, Origin::Server, Xid(0));
            }
        }
        self.expired = expired;
        if let Some(path) = due {
            self.propose_delete_container(now, &path);
        }
    }

    /// Requests received and not answered, of all connections.
    pub fn outstanding(&self) -> u64 {
        self.in_progress() + self.fair.held
    }

    /// Requests received and not answered that wait for more than their turn.
    pub(super) fn in_progress(&self) -> u64 {
        self.tail.own() as u64 + self.deferred_total + self.limits.waiting()
    }

    /// Last applied transaction.
    pub fn last_processed(&self) -> Zxid {
        self.tail.applied()
    }

    /// Last transaction that is known to be committed.
    pub fn last_committed(&self) -> Zxid {
        self.tail.committed()
    }

    /// Last transaction that is durable on this server.
    pub fn last_logged(&self) -> Zxid {
        self.tail.logged()
    }

    /// Last transaction that is known, logged or not.
    pub fn last_known(&self) -> Zxid {
        self.tail.last()
    }

    /// Bytes of transactions that wait for this server's disk, or to be applied.
    pub fn backlog(&self) -> usize {
        self.tail.backlog()
    }

    /// Whether everything that is known has been applied.
    pub fn is_all_applied(&self) -> bool {
        self.tail.is_empty()
    }

    /// Whether everything prepared has been applied, and nobody waits for a turn. A server that
    /// serves nobody has settled when everything that it knows is durable and the rest of its tail
    /// waits for a leader.
    pub fn is_settled(&self) -> bool {
        let is_at_rest = match self.is_serving() {
            true => self.tail.is_empty(),
            false => !self.tail.can_apply() && self.tail.logged() == self.tail.last(),
        };
        is_at_rest && !self.fair.has_queue() && self.owed.is_empty()
    }

    /// Whether the tree may show effects of transactions that are still to be applied: it was
    /// received from a leader whose tree went on meanwhile.
    pub fn is_fuzzy(&self) -> bool {
        self.fuzzy.is_some_and(|until| until > self.tail.applied())
    }

    /// Committed state, for status views and checkers.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Watches of this server.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Sessions as a leader tracks them; `None` on a server that does not lead.
    pub fn tracked_sessions(&self) -> Option<&Sessions> {
        self.leader.as_ref().map(Leader::sessions)
    }

    /// Connections of this server.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter()
    }

    /// Whether a snapshot is wanted or under way.
    pub fn is_snapshotting(&self) -> bool {
        self.snapshot.is_wanted() || self.snapshot.is_running()
    }

    /// Whether this connection was opened, and has not been closed since by either side.
    pub fn has_client(&self, conn: ConnId) -> bool {
        self.clients.get(conn).is_some()
    }

    /// Number of connections.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Which connection speaks for a session.
    pub fn conn_of(&self, session: SessionId) -> Option<ConnId> {
        self.session_conns.get(&session).copied()
    }

    /// Session that a connection speaks for; 0 before the handshake.
    pub fn session_of(&self, conn: ConnId) -> SessionId {
        self.clients.get(conn).map_or(SessionId(0), |client| client.session)
    }

    /// Counters.
    pub fn stats(&self) -> &ServerStats {
        &self.stats
    }

    /// The committed sessions with their timeouts in ms, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> {
        self.committed_sessions.iter().map(|(&id, &timeout_ms)| (id, timeout_ms))
    }

    /// Transactions after which the tree was not what snapshot, log or leader say.
    pub fn digest_mismatches(&self) -> u64 {
        self.check.mismatches()
    }

    /// Number of committed sessions.
    pub fn session_count(&self) -> usize {
        self.committed_sessions.len()
    }

    /// `srst`.
    pub fn reset_stats(&mut self) {
        self.stats.reset();
        self.check.reset_count();
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

    /// Checks a part of what must always hold, the next at each call, in a time that does not
    /// depend on how much there is.
    pub(super) fn check_next(&mut self) {
        self.tail.check_marks();
        self.tree.check_next();
        self.watches.check_next();
        if let Some(leader) = &mut self.leader {
            leader.check_next();
            let (numbered, known) = (leader.last(), self.tail.last());
            let follows = leader.follows(known);
            invariant!(follows, "{numbered:?} is numbered, {known:?} is known last");
        }
    }

    /// Checks what must always hold; for simulation and tests.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self) {
        self.tail.check();
        assert!(self.leader.is_none() || self.learner.is_none(), "one leads or learns");
        if let Some(leader) = &self.leader {
            leader.check();
            assert!(leader.follows(self.tail.last()), "a leader numbers what is known last");
        }
        let may_go_on = self.has_room() && self.fair.has_line_budget();
        assert!(!may_go_on, "somebody waits in line although there is room");
        self.check_queue();
        for client in self.clients.iter() {
            let (conn, stage) = (client.conn, client.stage());
            assert!(client.writes_applied <= client.writes_prepared, "{conn:?}");
            let is_new = stage == Stage::New;
            assert_eq!(is_new, client.session == SessionId(0), "{conn:?} is {stage:?}");
            let asks_for_session = matches!(client.awaits, Some(Asked::Session { .. }));
            assert!(is_new || !asks_for_session, "{conn:?} has a session and asks for one");
        }
    }
}
