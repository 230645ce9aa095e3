//! Start-up and shutdown of a standalone server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::admin::AdminContext;
use crate::auth::{Auth, AuthOptions, DigestAlg, JaasSection};
use crate::base::{ServerId, Zxid};
use crate::config::Settings;
use crate::disk::{
    self, DataDir, DirOptions, Handover, Housekeeper, HousekeeperOptions, LogWriter,
    LogWriterOptions, RecoverOptions, recover,
};
use crate::driver::{
    DriverParts, Edge, Housekeeping, HousekeepingOptions, Links, LogStage, ReplicaStage, Routes,
    Unobserved,
};
use crate::front::{FrontOptions, MIN_RATE};
use crate::leader::LeaderOptions;
use crate::log::{Compression, Party};
use crate::member::Member;
use crate::metrics::Measures;
use crate::replica::{
    BILLION, FairOptions, LimitOptions, Replica, ReplicaOptions, Restore, SNAP_LOG_RATIO,
    ThrottleOptions, WALK_CHUNK,
};
use crate::session::initial_session_id;
use crate::sys::cpu;
use crate::sys::file::random_u64;
use crate::sys::ring::RingFeatures;
use crate::tree::TreeOptions;

use super::census::Census;
use super::dials::MemberPorts;
use super::ensemble::{member, prepare_options};
use super::host;
use super::links::{Mailbox, Message};
use super::listen;
use super::log_pipe;
use super::member_ports;
use super::preflight::read_jaas;
use super::presence_watch::PresenceWatch;
use super::probe::Probe;
use super::rings::{self, missing_multishot, ring_options};
use super::signals::{Running, Signals};
use super::timed::{TimedRestore, found};
use super::topology::{Topology, WorkerPlan};
use super::uring_io::Gate;
use super::worker::{Ended, Worker, WorkerParts};

/// Why a server did not start, with Apache's exit code for it.
#[derive(Debug)]
pub struct BootError {
    /// What is wrong and what to do.
    pub message: String,
    /// 1 unexpected, 2 configuration, 3 data directory.
    pub exit_code: u8,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for BootError {}

pub(super) fn unexpected(what: &str) -> impl Fn(io::Error) -> BootError + '_ {
    move |e| BootError { message: format!("{what}: {e}"), exit_code: 1 }
}

pub(super) fn misconfigured(message: String) -> BootError {
    BootError { message, exit_code: 2 }
}

/// Facts about a start, for the program that asked for it.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where clients connect.
    pub listening: Vec<SocketAddr>,
    /// What recovery did.
    pub recovery: String,
    /// What the kernel offered.
    pub features: RingFeatures,
    /// Where stages run.
    pub topology: Topology,
}

/// A running server.
pub struct Server {
    threads: Vec<JoinHandle<()>>,
    mailboxes: Vec<Mailbox>,
    ended: Receiver<Ended>,
    /// Hears when a drain has nothing left to write.
    settled: Receiver<()>,
    presence: PresenceWatch,
    dir: Arc<DataDir>,
    /// What to show.
    pub started: Started,
}

/// The number in `myid`; Apache's standalone server makes its session ids as server 1 would.
fn server_id(settings: &Settings) -> ServerId {
    settings.ensemble.as_ref().map_or(ServerId(1), |ensemble| ensemble.sid)
}

fn tree_options(settings: &Settings, seed: u64) -> TreeOptions {
    TreeOptions {
        extended_types: settings.nodes.is_extended_types,
        emulate_353_ttl: settings.nodes.is_emulate_353_ttl,
        digest: settings.storage.is_digest,
        hash_seed: seed,
    }
}

fn auth_options(settings: &Settings) -> Result<AuthOptions, BootError> {
    let auth = &settings.auth;
    let digest_alg = DigestAlg::from_name(&auth.digest_algorithm).ok_or_else(|| {
        misconfigured(format!(
            "DigestAuthenticationProvider.digestAlg: no algorithm {:?}",
            auth.digest_algorithm
        ))
    })?;
    Ok(AuthOptions {
        digest_enabled: auth.is_digest_enabled,
        digest_alg,
        super_digest: auth.super_digest.clone(),
        skip_acl: settings.nodes.is_skip_acl,
        super_users: auth.super_users.clone(),
        super_password: auth.sasl_super_password.clone(),
        let_any_sasl_user_do_x: auth.any_sasl_user_id.clone(),
        sasl_provider_enabled: auth.extra_schemes.iter().any(|scheme| scheme == "sasl"),
        allow_sasl_failed_clients: auth.is_allow_sasl_failed_clients,
        enforce: (!auth.enforced_schemes.is_empty()).then(|| auth.enforced_schemes.clone()),
        ensemble_provider_enabled: auth.extra_schemes.iter().any(|scheme| scheme == "ensemble"),
        ensemble_names: (!auth.ensemble_names.is_empty()).then(|| auth.ensemble_names.clone()),
        remove_host: auth.is_remove_host_from_principal,
        remove_realm: auth.is_remove_realm_from_principal,
        jaas_server: jaas_section(settings)?,
        ..AuthOptions::default()
    })
}

fn jaas_section(settings: &Settings) -> Result<Option<JaasSection>, BootError> {
    let Some(path) = &settings.auth.jaas_file else { return Ok(None) };
    let jaas = read_jaas(path).map_err(misconfigured)?;
    Ok(jaas.section(&settings.auth.jaas_section).cloned())
}

/// Unless `snapCount` is set, a snapshot waits for this much log, which replays in a moment.
const SNAP_LOG_LEAST: u64 = 64 << 20;

fn replica_options(settings: &Settings, seed: u64) -> ReplicaOptions {
    let nodes = &settings.nodes;
    let storage = &settings.storage;
    let ms = |ms: u32| i32::try_from(ms).unwrap_or(i32::MAX);
    ReplicaOptions {
        server_id: server_id(settings).0.cast_unsigned(),
        is_member: settings.ensemble.is_some(),
        min_session_timeout_ms: ms(settings.session_timeout_ms_min),
        max_session_timeout_ms: ms(settings.session_timeout_ms_max),
        leader: LeaderOptions {
            tick_ms: u64::from(settings.tick_ms),
            prepare: prepare_options(settings),
            container_check_ms: u64::from(nodes.container_check_interval_ms),
            container_per_minute: u64::from(nodes.container_deletions_per_minute_max),
            container_never_used_ms: i64::from(nodes.container_never_used_ms_max),
            spent_counter: settings
                .ensemble
                .as_ref()
                .map_or(u32::MAX, |ensemble| ensemble.epoch_transactions),
        },
        reconfig_enabled: settings.is_reconfig,
        membership: settings
            .ensemble
            .as_ref()
            .map(|ensemble| (ensemble.membership.to_string(), ensemble.membership.version())),
        outstanding_limit: u64::from(settings.outstanding_max),
        snap_count: u64::from(storage.snap_count),
        snap_size_bytes: storage.snap_log_size_bytes.unwrap_or(0),
        snap_log_ratio: if storage.is_snap_count_set { 0 } else { SNAP_LOG_RATIO },
        snapshot_log_bytes_min: if storage.is_snap_count_set { 0 } else { SNAP_LOG_LEAST },
        digest: storage.is_digest,
        snapshot_zxid: storage.is_snapshot_zxid,
        walk_chunk: WALK_CHUNK,
        limits: limit_options(settings),
        fair: FairOptions::default(),
        leader_serves: settings.ensemble.as_ref().is_none_or(|ensemble| ensemble.is_leader_serving),
        seed,
    }
}

/// A segment is what a log file is to Apache, so `txnLogSizeLimitInKb` bounds it.
pub(super) fn segment_size(settings: &Settings) -> u64 {
    let limit = settings.storage.txn_log_size_bytes_max.unwrap_or(u64::MAX);
    settings.ring.log_segment_size_bytes.min(limit.max(SEGMENT_MIN)) & !4095
}

fn limit_options(settings: &Settings) -> LimitOptions {
    let (connections, requests) = (&settings.connection_throttle, &settings.request_throttle);
    let weight = |weight: u32| if connections.is_weight_enabled { u64::from(weight) } else { 1 };
    let billionths = |share: f64| (share * BILLION as f64).round() as u64;
    LimitOptions {
        connections: ThrottleOptions {
            tokens: u64::from(connections.tokens),
            fill_time_ms: u64::from(connections.fill_time_ms),
            fill_count: u64::from(connections.fill_count),
            freeze_time_ms: connections.freeze_time_ms.map(u64::from),
            drop_increase: billionths(connections.drop_increase),
            drop_decrease: billionths(connections.drop_decrease),
            decrease_ratio: billionths(connections.decrease_ratio),
            new_session_weight: weight(connections.global_session_weight),
            renew_session_weight: weight(connections.renew_session_weight),
        },
        requests_max: u64::from(requests.requests_max),
        drop_stale: requests.is_drop_stale,
        stale_connection_check: requests.is_stale_connection_check,
        stale_latency_check: requests.is_stale_latency_check,
        throttled_op_wait_ms: requests.throttled_op_wait_ms.map(u64::from),
        large_request_threshold: settings
            .large_requests
            .threshold
            .map_or(usize::MAX, |threshold| threshold as usize),
        large_request_bytes_max: settings.large_requests.total_size_max as usize,
        eager_acl: settings.nodes.is_eager_acl_check,
        waiting_bytes_max: (4 << 20).max(settings.packet_size_max as usize),
    }
}

fn dir_error(error: &dyn fmt::Display) -> BootError {
    BootError { message: error.to_string(), exit_code: 3 }
}

fn open_dir(settings: &Settings) -> Result<DataDir, BootError> {
    let storage = &settings.storage;
    DataDir::open(&DirOptions {
        data_dir: storage.data_dir.clone(),
        log_dir: Some(storage.data_log_dir.clone()),
        autocreate: storage.is_datadir_autocreate,
    })
    .map_err(|e| dir_error(&e))
}

/// The client port, and the ports for other members.
struct Port {
    listeners: Vec<OwnedFd>,
    members: Option<MemberPorts>,
    address: SocketAddr,
    admin: AdminContext,
}

impl Port {
    fn bind(
        settings: &Settings,
        dir: &DataDir,
        measures: &Arc<Measures>,
    ) -> Result<Port, BootError> {
        let (listeners, address) = listen::bind(settings)?;
        let host = host::host(dir, host::open_files_max());
        let admin = AdminContext::new(settings, address, host, Arc::clone(measures));
        Ok(Port { listeners, members: None, address, admin })
    }

    /// Has the port answer while recovery runs.
    fn probe(&mut self) -> Result<Probe, BootError> {
        let listeners = std::mem::take(&mut self.listeners);
        let probe = Probe::start(listeners, self.admin.clone());
        let probe = probe.map_err(unexpected("answering probes"))?;
        log::info!("{} answers probes while recovery runs, and serves nothing yet", self.address);
        Ok(probe)
    }
}

impl Server {
    /// Recovers the data directory and starts to serve.
    pub fn start(settings: &Settings) -> Result<Server, BootError> {
        let signals = Signals::start().map_err(unexpected("receiving signals"))?;
        log_pipe::start().map_err(unexpected("starting a thread"))?;
        let _ = cpu::raise_open_files();
        cpu::forgo_huge_pages();
        let seed = random_u64().map_err(unexpected("random seed"))?;
        let now = cpu::now();
        let auth = Auth::new(auth_options(settings)?).map_err(misconfigured)?;
        let storage = &settings.storage;
        let dir = Arc::new(open_dir(settings)?);
        let measures = Arc::new(Measures::default());
        let mut port = Port::bind(settings, &dir, &measures)?;
        let probe = port.probe()?;
        let mut restore = TimedRestore::new(Restore::new(tree_options(settings, seed)));
        let options = RecoverOptions {
            trust_empty: storage.is_trust_empty_snapshot,
            db_autocreate: storage.is_db_autocreate,
            accept_truncated: storage.accepted_truncated_log.clone(),
            party: if settings.ensemble.is_some() { Party::Member } else { Party::Alone },
        };
        let recovered = recover(&dir, &options, &mut restore).map_err(|e| dir_error(&e))?;
        // Not before there is something to answer with: until then others are refused, and know it.
        let tick = Duration::from_millis(u64::from(settings.tick_ms));
        let members = settings.ensemble.as_ref();
        let members = members.map(|members| member_ports::open(members, tick)).transpose()?;
        signals.recovered();
        for note in &recovered.notes {
            log::warn!("{note}");
        }
        if let Some(end) = restore.unclean_end(&recovered) {
            log::warn!("{end}");
        }
        dir.check_room(segment_size(settings), &recovered.repair).map_err(|e| dir_error(&e))?;
        let restore = restore.finish(&recovered, &measures);
        let mut restored = restore.finish(&recovered);
        // What was replayed counts, or a server that is killed often would never write one.
        restored.wants_snapshot |= recovered.entries_replayed > u64::from(storage.snap_count);
        // Milliseconds since 1970 never repeat, unlike Apache's, which restart at boot.
        let first_session = initial_session_id(server_id(settings), now.wall_ms as u64);
        let options = replica_options(settings, seed);
        let replica = Replica::new(cpu::now(), options, auth, restored, first_session);
        // Of its own: what else is drawn from the other one may be seen by clients.
        let seed = random_u64().map_err(unexpected("random seed"))?;
        let member = member(settings, replica, recovered.epochs, seed);
        let replica = member.replica();
        let mismatches = replica.digest_mismatches();
        let took = cpu::now().mono.since(now.mono);
        let differ = if mismatches > 0 { "; DIGESTS DIFFER, see above" } else { "" };
        let recovery = format!("{}{differ}", found(&recovered, replica, took));
        let listeners = probe.stop().map_err(unexpected("ending the probes"))?;
        let port = Port { listeners, members, ..port };
        let server = Self::launch(settings, &dir, &recovered, member, recovery, (port, &measures))?;
        signals.running(Running {
            mailboxes: server.mailboxes.clone(),
            settled: server.settled.clone(),
            stages: server.started.topology.workers.iter().map(thread_name).collect(),
        });
        Ok(server)
    }

    fn launch(
        settings: &Settings,
        dir: &Arc<DataDir>,
        recovered: &crate::disk::Recovered,
        member: Member,
        recovery: String,
        (port, measures): (Port, &Arc<Measures>),
    ) -> Result<Server, BootError> {
        let storage = &settings.storage;
        let topology = rings::plan(settings).map_err(unexpected("reading the CPU affinity"))?;
        let Port { mut listeners, mut members, address, admin } = port;
        let mut mailboxes = Vec::new();
        let mut inboxes = Vec::new();
        for _ in &topology.workers {
            let (mailbox, inbox) = Mailbox::new().map_err(unexpected("eventfd"))?;
            mailboxes.push(mailbox);
            inboxes.push(inbox);
        }
        let at =
            |wanted: fn(&WorkerPlan) -> bool| topology.workers.iter().position(wanted).unwrap_or(0);
        let (replica_at, log_at) = (at(|worker| worker.replica), at(|worker| worker.log));
        let bells = [replica_at, log_at].map(|at| Arc::clone(mailboxes[at].bell()));
        let compression = Compression::from_config(&storage.snapshot_compression)
            .ok_or_else(|| misconfigured("snapshot.compression.method".to_owned()))?;
        let (house, reports) = Housekeeper::start(
            Arc::clone(dir),
            HousekeeperOptions { compression },
            Box::new(move || bells.iter().for_each(|bell| bell.ring())),
        )
        .map_err(unexpected("starting the housekeeper"))?;
        let writer = LogWriter::open(
            Arc::clone(dir),
            recovered,
            LogWriterOptions {
                segment_size: segment_size(settings),
                force_sync: storage.is_force_sync,
                direct_io: settings.ring.log_direct_io,
                ..LogWriterOptions::default()
            },
            &house,
        )
        .map_err(|e| BootError { message: e.to_string(), exit_code: 3 })?;
        let (settled_out, settled) = bounded(1);
        let house_options = HousekeepingOptions {
            purge: storage.purge_interval_ms.map(Duration::from_millis),
            retain: storage.purge_snap_retain_count as usize,
            ..HousekeepingOptions::default()
        };
        let house = Housekeeping::new(house_options, house, reports, Arc::clone(measures));
        let mut replica = Some(ReplicaStage::new(member, house, admin, Unobserved));
        let mut settled_out = Some(settled_out);
        let mut writer = Some(writer);
        let front_at: Vec<usize> = (0..topology.fronts())
            .map(|id| {
                let is_it = |worker: &WorkerPlan| worker.front == Some(id as u8);
                topology.workers.iter().position(is_it).unwrap_or(0)
            })
            .collect();
        let census = Census::new(settings.client_cnxns_max, settings.cnxns_max)
            .with_room(connection_room(settings, &topology));
        let census = Arc::new(census);
        let (ended_out, ended) = bounded(topology.workers.len() + 1);
        let (ready_out, ready) = bounded(topology.workers.len());
        let mut threads = Vec::new();
        for (index, (plan, inbox)) in topology.workers.iter().zip(inboxes).enumerate() {
            let inline = !plan.replica && plan.front.is_none();
            let slow = Duration::from_millis(u64::from(storage.sync_warning_ms));
            let log = if plan.log { writer.take() } else { None };
            let members = if plan.replica { members.take() } else { None };
            let has_sockets = plan.front.is_some() || members.is_some();
            let parts = WorkerParts {
                cpu: plan.cpu,
                stages: DriverParts {
                    index,
                    edge: plan.front.map(|id| Edge::new(front_options(settings, id))),
                    replica: if plan.replica { replica.take() } else { None },
                    links: members.as_ref().map(|_| Links::new()),
                    log: log.map(|writer| LogStage::new(writer, inline, slow)),
                    routes: Routes {
                        loops: mailboxes.len(),
                        front_at: front_at.clone(),
                        replica_at,
                        log_at,
                    },
                    measures: Arc::clone(measures),
                },
                gate: Gate {
                    front: plan.front.unwrap_or(0),
                    listeners: match plan.front {
                        Some(_) => std::mem::take(&mut listeners),
                        None => Vec::new(),
                    },
                    census: Arc::clone(&census),
                    keepalive: settings.is_client_keep_alive,
                },
                members,
                inbox,
                mailboxes: mailboxes.clone(),
                settled: if plan.replica { settled_out.take() } else { None },
                ring: ring_options(settings, has_sockets),
                busy_poll: Duration::from_micros(u64::from(settings.ring.busy_poll_us)),
            };
            let (ended, ready) = (ended_out.clone(), ready_out.clone());
            let needs_multishot = settings.ring.uring_multishot == Some(true);
            let thread = std::thread::Builder::new()
                .name(thread_name(plan))
                .spawn(move || run_worker(parts, needs_multishot, &ready, &ended))
                .map_err(unexpected("starting a thread"))?;
            threads.push(thread);
        }
        let presence = PresenceWatch::start(Arc::clone(dir), ended_out.clone());
        let presence = presence.map_err(unexpected("starting a thread"))?;
        drop((ended_out, ready_out));
        let mut features = None;
        for _ in &topology.workers {
            let (has_front, found) = ready
                .recv()
                .map_err(|_| unexpected("event loop")(io::Error::other("a thread ended")))?
                .map_err(|message| BootError { message, exit_code: 1 })?;
            if has_front || features.is_none() {
                features = Some(found);
            }
        }
        let started = Started {
            listening: vec![address],
            recovery,
            features: features.unwrap_or_default(),
            topology,
        };
        Ok(Server { threads, mailboxes, ended, settled, presence, dir: Arc::clone(dir), started })
    }

    /// Waits for a signal that ends it, or for the server to fail. Returns the exit code.
    pub fn run_until_terminated(self) -> u8 {
        let mut code = 0;
        // The first worker to end decides. A failure waits for nobody: the process ends with this
        // code, and the other workers with it.
        let first = self.ended.recv();
        if let Ok(Ended::Fatal(reason)) = first {
            log::error!("{reason}");
            // If a file has lost its name, the reason above says what is lost.
            if self.presence.look().is_none() {
                log::error!("this server ends now: nothing acknowledged is lost by that");
            }
            return 1;
        }
        tell(&self.mailboxes, || Message::Stop);
        for thread in self.threads {
            if thread.join().is_err() {
                code = 1;
            }
        }
        let mut last_processed = None;
        for ended in first.into_iter().chain(self.ended.try_iter()) {
            match ended {
                Ended::Unsaved if code == 0 => code = UNSAVED,
                Ended::Stopped { at } => last_processed = last_processed.or(at),
                Ended::Unsaved | Ended::Fatal(_) => {}
            }
        }
        if let Some(absence) = self.presence.look() {
            log::error!("ended, but not cleanly: {absence}");
            return code.max(1);
        }
        if let Some((zxid, known)) = last_processed.filter(|_| code == 0) {
            if known > zxid {
                log::info!(
                    "ended at zxid 0x{zxid}, with transactions up to 0x{known} in the log of which \
                     only the others know whether a quorum has them: Apache ZooKeeper does not \
                     start from this directory before another clean end of Ringkeeper"
                );
                return code;
            }
            if !hand_over(&self.dir, zxid) {
                return UNSAVED;
            }
            log::info!("ended cleanly at zxid 0x{zxid}");
        }
        code
    }
}

/// From here on an Apache server may go on: nothing runs that could write. Returns whether it may.
fn hand_over(dir: &DataDir, last: Zxid) -> bool {
    let stays = "Apache ZooKeeper does not start from this directory before another clean end of \
                 Ringkeeper, which loses nothing";
    match disk::hand_over(dir, last) {
        Handover::Ready => return true,
        Handover::NoSnapshot => log::error!("no snapshot holds transaction 0x{last}: {stays}"),
        Handover::Failed(path, error) => {
            log::error!("{} cannot be handed over ({error}): {stays}", path.display());
        }
    }
    false
}

/// Exit code of a clean end without its final snapshot: Apache's `TXNLOG_ERROR_TAKING_SNAPSHOT`.
const UNSAVED: u8 = 10;

/// Files that log, snapshots and purge have open at a time, with as many again to be sure.
const FILES_OF_DISK: u64 = 24;

/// Files of an event loop.
const FILES_OF_RING: u64 = 2;

/// Fewer connections than this are hardly what an operator had in mind.
const CONNECTIONS_FEW: u32 = 1000;

/// Connections for which there are files, with what the server needs itself put by: if clients had
/// them all, the next segment of the log could not be opened, which would end the server.
fn connection_room(settings: &Settings, topology: &Topology) -> u32 {
    let max = host::open_files_max();
    let own = host::open_files() + topology.workers.len() as u64 * FILES_OF_RING + FILES_OF_DISK;
    let room = u32::try_from(max.saturating_sub(own)).unwrap_or(u32::MAX).max(1);
    let wanted = if settings.cnxns_max == 0 { CONNECTIONS_FEW } else { settings.cnxns_max };
    if room < wanted {
        log::warn!(
            "this process may have {max} files open, which leaves room for {room} connections: \
             raise LimitNOFILE of its unit, or `ulimit -n`"
        );
    }
    room
}

/// Says which stages a thread runs; the kernel shows 15 characters.
fn thread_name(plan: &WorkerPlan) -> String {
    let mut stages = Vec::new();
    if let Some(id) = plan.front {
        stages.push(format!("net{id}"));
    }
    if plan.replica {
        stages.push("pipe".to_owned());
    }
    if plan.log {
        stages.push("log".to_owned());
    }
    stages.join("+")
}

/// How long clients may take to read their last replies once everything is on disk.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Waits until everything is finished, the final snapshot included. Then clients get a moment to
/// read their last replies; a client that does not read must not keep the server from ending.
pub(super) fn drain(mailboxes: &[Mailbox], settled: &Receiver<()>) {
    tell(mailboxes, || Message::Drain);
    // Disconnected as soon as the replica's worker has ended by itself.
    if settled.recv().is_ok() && settled.recv_timeout(FLUSH_MAX) == Err(RecvTimeoutError::Timeout) {
        log::warn!("some client does not read its replies; not waiting for it any longer");
        tell(mailboxes, || Message::Stop);
    }
}

/// Sends to every worker although its queue may be full; one that is gone takes everything.
fn tell(mailboxes: &[Mailbox], message: impl Fn() -> Message) {
    for mailbox in mailboxes {
        while mailbox.send(message()).is_err() {
            std::thread::yield_now();
        }
    }
}

/// Smallest segment of the log in bytes, as for `ringkeeper.log.segmentSizeInKb`.
const SEGMENT_MIN: u64 = 64 << 10;

type Ready = Result<(bool, RingFeatures), String>;

fn run_worker(
    parts: WorkerParts,
    needs_multishot: bool,
    ready: &Sender<Ready>,
    ended: &Sender<Ended>,
) {
    let has_front = parts.stages.edge.is_some();
    match Worker::new(parts) {
        Ok(worker) => match missing_multishot(needs_multishot, has_front, worker.features()) {
            Some(what) => {
                let _ = ready.send(Err(format!("ringkeeper.uring.multishot=on: {what}")));
            }
            None => {
                let _ = ready.send(Ok((has_front, worker.features())));
                let _ = ended.send(worker.run());
            }
        },
        Err(e) => {
            let _ = ready.send(Err(e.to_string()));
        }
    }
}

fn front_options(settings: &Settings, id: u8) -> FrontOptions {
    FrontOptions {
        id,
        takes_mask: settings.four_letter_words.iter().any(|word| word == "stmk"),
        max_frame: settings.packet_size_max as usize,
        sessionless_timeout_ms: u64::from(settings.sessionless_timeout_ms),
        max_output: 16 << 20,
        max_excess: 64 << 20,
        min_rate: MIN_RATE,
    }
}

/// Where data lives, in absolute terms.
pub fn describe_dirs(settings: &Settings) -> String {
    let storage = &settings.storage;
    let [data, log] = [&storage.data_dir, &storage.data_log_dir].map(|dir| host::absolute(dir));
    if data == log { data } else { format!("{data} (snapshots), {log} (log)") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, RawConfig, check};
    use crate::sys::ring::RingOptions;

    fn settings(lines: &str) -> Settings {
        let mut raw = RawConfig::new();
        raw.add_file("zoo.cfg", format!("dataDir=/d\nclientPort=2181\n{lines}").as_bytes());
        check(&raw, &Environment::default()).into_settings().unwrap().0
    }

    #[test]
    fn a_fatal_error_ends_the_server_whatever_the_other_workers_do() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = home.path().to_owned();
        let dir = DataDir::open(&DirOptions { data_dir, log_dir: None, autocreate: true });
        let (mailbox, inbox) = Mailbox::new().unwrap();
        while mailbox.send(Message::Stop).is_ok() {}
        let (never, waits) = bounded::<()>(1);
        let stuck = std::thread::spawn(move || {
            let _ = waits.recv();
            drop(inbox);
        });
        let (ended_out, ended) = bounded(2);
        let dir = Arc::new(dir.unwrap());
        let presence = PresenceWatch::start(Arc::clone(&dir), ended_out.clone()).unwrap();
        ended_out.send(Ended::Fatal("the log cannot be written".to_owned())).unwrap();
        let started = Started {
            listening: Vec::new(),
            recovery: String::new(),
            features: RingFeatures::default(),
            topology: Topology { workers: Vec::new() },
        };
        let (threads, mailboxes) = (vec![stuck], vec![mailbox]);
        let settled = bounded(1).1;
        let server = Server { threads, mailboxes, ended, settled, presence, dir, started };
        let (code_out, code) = bounded(1);
        std::thread::spawn(move || code_out.send(server.run_until_terminated()));
        assert_eq!(code.recv_timeout(Duration::from_secs(20)), Ok(1));
        drop(never);
    }

    #[test]
    fn a_connection_without_a_session_has_the_time_that_was_configured() {
        let timeout_ms = |lines| front_options(&settings(lines), 0).sessionless_timeout_ms;
        assert_eq!(timeout_ms(""), 10_000);
        assert_eq!(timeout_ms("nio.sessionlessCnxnTimeout=1000\n"), 1000);
    }

    #[test]
    fn multishot_that_is_required_and_missing_is_refused() {
        let (mailbox, inbox) = Mailbox::new().unwrap();
        let front = FrontOptions::default();
        let census = Arc::new(Census::new(0, 0));
        let settings = settings("ringkeeper.uring.multishot=on\n");
        assert_eq!(settings.ring.uring_multishot, Some(true));
        let routes = Routes { loops: 1, front_at: vec![0], replica_at: 0, log_at: 0 };
        let parts = WorkerParts {
            cpu: None,
            stages: DriverParts {
                index: 0,
                edge: Some(Edge::new(front)),
                links: None,
                replica: None,
                log: None,
                routes,
                measures: Arc::new(Measures::default()),
            },
            gate: Gate { front: 0, listeners: Vec::new(), census, keepalive: false },
            members: None,
            inbox,
            mailboxes: vec![mailbox],
            settled: None,
            // As on a kernel that lacks it.
            ring: RingOptions { multishot: false, ..ring_options(&settings, true) },
            busy_poll: Duration::ZERO,
        };
        let (ready_out, ready) = bounded(1);
        let (ended_out, ended) = bounded(1);
        run_worker(parts, true, &ready_out, &ended_out);
        let refusal = ready.try_recv().unwrap().unwrap_err();
        assert!(refusal.starts_with("ringkeeper.uring.multishot=on"), "{refusal}");
        assert!(refusal.contains("set it to auto"), "{refusal}");
        assert!(ended.try_recv().is_err(), "it did not run");
    }

    /// `ringkeeper check` tells the rule, but knows nothing of those who follow it.
    #[test]
    fn the_rule_of_snapshots_is_told_as_it_is() {
        let told = crate::config::find("snapCount").unwrap().unless_set;
        assert!(told.contains(&format!("{} MiB", SNAP_LOG_LEAST >> 20)), "{told}");
        assert_eq!((SNAP_LOG_RATIO, told.contains("four times the size")), (4, true));
    }

    #[test]
    fn a_segment_is_no_larger_than_a_log_may_be() {
        for (lines, size) in [
            ("", 64 << 20),
            ("ringkeeper.log.segmentSizeInKb=1024\n", 1 << 20),
            ("txnLogSizeLimitInKb=-1\n", 64 << 20),
            ("txnLogSizeLimitInKb=0\n", 64 << 20),
            ("txnLogSizeLimitInKb=8192\n", 8 << 20),
            // Whole blocks.
            ("txnLogSizeLimitInKb=101\n", 100 << 10),
            // A segment has to hold something.
            ("txnLogSizeLimitInKb=1\n", SEGMENT_MIN),
            ("txnLogSizeLimitInKb=1000000\nringkeeper.log.segmentSizeInKb=128\n", 128 << 10),
        ] {
            assert_eq!(segment_size(&settings(lines)), size, "{lines}");
        }
    }
}
