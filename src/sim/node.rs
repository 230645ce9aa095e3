//! One simulated server: the production driver over simulated ports, with the real front, replica,
//! log writer, housekeeper and recovery.
//!
//! Nothing here has an order of its own but the start, which production has in `server::boot`. The
//! stages run on one loop or on several, as on a machine of many cores.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::admin::{AdminContext, Host};
use crate::auth::{Auth, AuthOptions};
use crate::base::{Instant, LifelineKey, LinkId, Now, Rng, ServerId, SessionId, Zxid, derive_seed};
use crate::config::{self, Environment, RawConfig, Settings};
use crate::disk::{
    Chores, Handover, Housekeeper, HousekeeperOptions, LogWriter, LogWriterOptions, hand_over,
};
use crate::driver::{
    Driver, DriverParts, Edge, Failure, Housekeeping, HousekeepingOptions, Links, LogStage,
    Message, ReplicaStage, Routes, Turn,
};
use crate::front::FrontOptions;
use crate::leader::LeaderOptions;
use crate::log::{FileName, LogChange, Party, RecoverError, RecoverOptions, Recovered, recover};
use crate::member::{EnsembleOptions, Member};
use crate::metrics::Measures;
use crate::peer::Port;
use crate::pipeline::PrepareOptions;
use crate::quorum::Membership;
use crate::replica::{FairOptions, Replica, ReplicaOptions, Restore};
use crate::session::initial_session_id;
use crate::tree::{ApplyMode, NoSink, Tree, TreeOptions};
use crate::wire::{Txn, TxnHeader, TxnType};

use super::disk::{DiskError, SimDisk, name_of};
use super::files::SimFiles;
use super::io::{Net, SimIo, SimProbe};
use super::network::{Arrived, End};
use super::options::{Bug, Stages, Swarm};

/// Something that reaches the server from outside.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Stream {
        link: End,
        what: Arrived,
    },
    /// The write in flight ended, perhaps short.
    LogDone {
        of_256: usize,
    },
    HouseTurn,
}

/// Something the server does to the outside.
#[derive(Debug)]
pub(super) enum Action {
    Send {
        link: End,
        bytes: Vec<u8>,
    },
    /// Half-closed after everything sent.
    Finish {
        link: End,
    },
    Reset {
        link: End,
    },
    /// It connects to another member.
    Dial {
        link: LinkId,
        to: ServerId,
        port: Port,
    },
    /// Another member is to see when this process ends.
    Lifeline {
        link: LinkId,
        learner: ServerId,
        key: LifelineKey,
    },
    /// It need not see that any more.
    LetGo {
        link: LinkId,
    },
    /// A write of the log began.
    Writing,
    /// Transactions in their order, as given to the log.
    Logged {
        entry: Vec<u8>,
    },
    /// The log is asked for a change; it may come to pass, or not.
    LogChanging(LogChange),
    /// The log has changed.
    LogChanged(LogChange),
    /// Frames of this session reached the replica.
    Touched {
        session: SessionId,
        timeout_ms: i32,
    },
}

/// How a server ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Crashed,
    /// The process ended itself with this message.
    Fatal(String),
    /// A clean shutdown is complete.
    Stopped,
}

impl From<DiskError> for Ended {
    fn from(error: DiskError) -> Ended {
        match error {
            DiskError::Crashed => Ended::Crashed,
            other => Ended::Fatal(io::Error::from(other).to_string()),
        }
    }
}

/// One loop of the server.
struct Loop {
    driver: Driver<SimIo>,
    io: SimIo,
    is_over: bool,
}

/// A running server.
pub(super) struct Node {
    files: Arc<SimFiles>,
    loops: Vec<Loop>,
    replica_at: usize,
    net: Rc<RefCell<Net>>,
    chores: Chores<SimFiles>,
    pub draining: bool,
    /// When a drain stops waiting for clients that do not read.
    give_up_at: Option<Instant>,
    bug: Option<Bug>,
    rng: Rng,
    /// What the turn did to the outside.
    pub actions: Vec<Action>,
}

/// What a start found.
pub(super) struct Started {
    pub node: Node,
    pub recovered: Recovered,
}

/// Width of an expiry bucket in the simulation.
pub(super) const TICK_MS: u64 = 500;
const RETAIN: usize = 3;
/// Bytes of snapshot that may wait for the disk.
const BACKLOG: usize = 2 << 10;
/// Between two purges of old snapshots.
const PURGE: Duration = Duration::from_secs(20);
/// As `server` does: clients that do not read are waited for no longer.
const FLUSH_MAX: Duration = Duration::from_secs(1);

pub(super) fn tree_options(seed: u64) -> TreeOptions {
    TreeOptions { extended_types: true, emulate_353_ttl: false, digest: true, hash_seed: seed }
}

fn replica_options(swarm: &Swarm, id: ServerId, seed: u64) -> ReplicaOptions {
    ReplicaOptions {
        server_id: id.0.cast_unsigned(),
        is_member: swarm.is_joined,
        membership: swarm.is_joined.then(|| (membership_text(swarm), Zxid::ZERO)),
        min_session_timeout_ms: 2 * TICK_MS as i32,
        max_session_timeout_ms: 20 * TICK_MS as i32,
        leader: LeaderOptions {
            tick_ms: TICK_MS,
            prepare: PrepareOptions {
                extended_types: true,
                emulate_353_ttl: false,
                enforce_quota: false,
                close_session_paths: true,
                ..PrepareOptions::default()
            },
            spent_counter: swarm.epoch_transactions,
            ..LeaderOptions::default()
        },
        outstanding_limit: swarm.outstanding,
        snap_count: swarm.snap_count,
        fair: FairOptions {
            turn: swarm.turn_cost,
            turn_beside_lone: swarm.turn_cost / 2,
            share: swarm.turn_cost / 4,
            in_flight_bytes: swarm.in_flight,
        },
        snap_size_bytes: 0,
        snap_log_ratio: 0,
        walk_chunk: swarm.walk_chunk,
        seed,
        ..ReplicaOptions::default()
    }
}

/// The last group commit of the newest segment vanishes.
fn drop_last_group(disk: &mut SimDisk) {
    use crate::log::{Expect, scan_segment};
    let newest = disk
        .names()
        .into_iter()
        .filter_map(|(kind, path)| match kind {
            FileName::Segment(zxid) => Some((zxid, path)),
            _ => None,
        })
        .max();
    let Some(file) = newest.and_then(|(_, path)| disk.find(name_of(&path))) else { return };
    let mut last = None;
    let _ = scan_segment::<()>(disk.content(file), Expect::default(), &mut |at, _| {
        last = Some(at.offset as usize);
        Ok(())
    });
    if let Some(offset) = last {
        disk.corrupt(file, offset);
    }
}

/// Takes the place of damage for the end of the log.
fn cut_at_damage(disk: &mut SimDisk, error: &RecoverError) {
    if let (Some(file), Some(offset)) = (disk.find(name_of(&error.path)), error.offset) {
        disk.corrupt(file, offset as usize);
    }
}

/// What the four-letter words show of the configuration.
fn admin(measures: &Arc<Measures>) -> Result<AdminContext, String> {
    // Checking a configuration takes as long as everything else of a start.
    static SETTINGS: LazyLock<Option<Settings>> = LazyLock::new(|| {
        let mut raw = RawConfig::new();
        raw.add_file("zoo.cfg", b"dataDir=/sim\nclientPort=2181\n4lw.commands.whitelist=*\n");
        let outcome = config::check(&raw, &Environment::default()).into_settings();
        outcome.ok().map(|(settings, _)| settings)
    });
    let settings = SETTINGS.as_ref().ok_or("the simulated configuration is wrong")?;
    let address = SocketAddr::from(([127, 0, 0, 1], 2181));
    Ok(AdminContext::new(settings, address, Host::default(), Arc::clone(measures)))
}

/// What the members of an ensemble are told of each other.
fn membership_text(swarm: &Swarm) -> String {
    let line = |id| {
        let role = if id <= swarm.voters { "participant" } else { "observer" };
        format!("server.{id}=10.0.0.{id}:2888:3888:{role};2181")
    };
    (1..=swarm.nodes).map(line).collect::<Vec<_>>().join("\n")
}

/// The member of a server that stands alone, or joins the others.
fn member(
    now: Now,
    replica: Replica,
    swarm: &Swarm,
    (id, seed): (ServerId, u64),
    recovered: &Recovered,
) -> Result<Member, String> {
    if !swarm.is_joined {
        return Ok(Member::alone(now, replica));
    }
    let options = EnsembleOptions {
        sid: id,
        membership: Membership::parse(&membership_text(swarm)).map_err(|e| e.to_string())?,
        epochs: recovered.epochs.ok_or("a member has no epochs")?,
        tick: Duration::from_millis(TICK_MS),
        init_limit: 10,
        sync_limit: 5,
        repeat_votes: (Duration::from_millis(200), Duration::from_secs(60)),
        backlog_bytes_max: swarm.history,
        held_bytes_max: swarm.history,
        history_bytes_max: swarm.history,
        packet_bytes_max: 1 << 20,
        is_plain: swarm.is_plain,
        is_patient: false,
        seed: derive_seed(seed, "member", 0),
    };
    Ok(Member::in_ensemble(now, replica, options))
}

/// Which loop runs what.
fn routes(stages: Stages) -> Routes {
    let (loops, front_at, replica_at, log_at) = match stages {
        Stages::Together => (1, vec![0], 0, 0),
        Stages::LogApart => (2, vec![0], 0, 1),
        Stages::Apart => (3, vec![0], 1, 2),
        Stages::TwoFronts => (3, vec![0, 1], 1, 2),
    };
    Routes { loops, front_at, replica_at, log_at }
}

fn front_options(swarm: &Swarm, id: u8) -> FrontOptions {
    FrontOptions {
        id,
        takes_mask: false,
        max_frame: 1 << 20,
        sessionless_timeout_ms: 10_000,
        max_output: swarm.max_output,
        max_excess: 4 * swarm.max_output + (64 << 10),
        min_rate: 1,
    }
}

/// What a start would find.
pub(super) struct Reloaded {
    pub recovered: Recovered,
    /// Of the tree, which is at `Recovered::committed`.
    pub digest: u64,
    /// The tree may show effects of transactions that come later.
    pub is_fuzzy: bool,
}

/// What a member would start with if its power failed now. Its disk stays as it is.
pub(super) fn reload(files: &SimFiles, rng: &mut Rng) -> Result<Reloaded, String> {
    let copy = files.after_power_loss(rng);
    let seed = rng.next_u64();
    let mut restore = Restore::new(tree_options(seed));
    let options = RecoverOptions { party: Party::Member, ..RecoverOptions::default() };
    let recovered = recover(&copy, &options, &mut restore).map_err(|error| error.to_string())?;
    let restored = restore.finish(&recovered);
    let (digest, is_fuzzy) = (restored.tree.digest(), restored.is_fuzzy);
    Ok(Reloaded { recovered, digest, is_fuzzy })
}

impl Node {
    /// Starts on what the disk holds. The outer error is the end of the machine, the inner one
    /// the end of the process: it refuses to start.
    pub fn start(
        files: &Arc<SimFiles>,
        swarm: &Swarm,
        now: Now,
        (id, seed): (ServerId, u64),
        bug: Option<Bug>,
    ) -> Result<Result<Started, String>, Ended> {
        files.disk().has_failed = false;
        if bug == Some(Bug::DropLastGroup) {
            drop_last_group(&mut files.disk());
        }
        let mut restore = Restore::new(tree_options(seed));
        let party = if swarm.is_joined { Party::Member } else { Party::Alone };
        let options = RecoverOptions { party, ..RecoverOptions::default() };
        let mut outcome = recover(&**files, &options, &mut restore);
        if let (Some(Bug::TrustRot), Err(error)) = (bug, &outcome) {
            cut_at_damage(&mut files.disk(), error);
            restore = Restore::new(tree_options(seed));
            outcome = recover(&**files, &options, &mut restore);
        }
        let mut recovered = match outcome {
            Ok(recovered) => recovered,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if bug == Some(Bug::CommitTail)
            && let Err(why) = recovered.commit_tail(&mut restore)
        {
            return Ok(Err(why));
        }
        let mut restored = restore.finish(&recovered);
        match bug {
            Some(Bug::ForgetSession) => drop(restored.sessions.pop()),
            Some(Bug::LoseEphemeral) => lose_ephemeral(&mut restored.tree),
            Some(Bug::KeepTornTail) => recovered.repair.cut = None,
            _ => {}
        }
        let auth = match Auth::new(AuthOptions::default()) {
            Ok(auth) => auth,
            Err(why) => return Ok(Err(why)),
        };
        let first = initial_session_id(id, now.wall_ms as u64);
        let replica = Replica::new(now, replica_options(swarm, id, seed), auth, restored, first);
        let member = match member(now, replica, swarm, (id, seed), &recovered) {
            Ok(member) => member,
            Err(why) => return Ok(Err(why)),
        };
        let node = Node::open(files, swarm, now, seed, bug, &recovered, member)?;
        Ok(Ok(Started { node, recovered }))
    }

    /// Opens the log where recovery ended, and sets up the loops.
    fn open(
        files: &Arc<SimFiles>,
        swarm: &Swarm,
        now: Now,
        seed: u64,
        bug: Option<Bug>,
        recovered: &Recovered,
        member: Member,
    ) -> Result<Node, Ended> {
        let house_options = HousekeeperOptions::default();
        let (house, chores, reports) =
            Housekeeper::without_thread(Arc::clone(files), house_options, Box::new(|| {}));
        let log_options = LogWriterOptions {
            segment_size: swarm.segment_size,
            write_size_max: swarm.staging,
            force_sync: true,
            direct_io: swarm.direct_log.then_some(true),
        };
        let writer = LogWriter::open(Arc::clone(files), recovered, log_options, &house)
            .map_err(|e| ended(files, &e))?;
        let routes = routes(swarm.stages);
        let net = Net::new(routes.loops);
        let measures = Arc::new(Measures::default());
        let options =
            HousekeepingOptions { purge: Some(PURGE), retain: RETAIN, backlog_bytes_max: BACKLOG };
        let house = Housekeeping::new(options, house, reports, Arc::clone(&measures));
        let admin = admin(&measures).map_err(Ended::Fatal)?;
        let probe = SimProbe::new(Rc::clone(&net));
        let mut stage = Some(ReplicaStage::new(member, house, admin, probe));
        let mut writer = Some(writer);
        let mut rng = Rng::derived(seed, "loops", 0);
        let loops = (0..routes.loops).map(|index| {
            let front = routes.front_at.iter().position(|&at| at == index);
            let is_alone = front.is_none() && index != routes.replica_at;
            let log = if index == routes.log_at { writer.take() } else { None };
            let parts = DriverParts {
                index,
                edge: front.map(|id| Edge::new(front_options(swarm, id as u8))),
                links: (index == routes.replica_at && swarm.is_joined).then(Links::new),
                replica: if index == routes.replica_at { stage.take() } else { None },
                log: log.map(|writer| LogStage::new(writer, is_alone, Duration::MAX)),
                routes: routes.clone(),
                measures: Arc::clone(&measures),
            };
            let seed = rng.next_u64();
            let mut io = SimIo::new(index, Rc::clone(&net), Arc::clone(files), bug, seed);
            let mut driver = Driver::new(now, parts);
            driver.start(&mut io)?;
            Ok(Loop { driver, io, is_over: false })
        });
        let loops = loops.collect::<io::Result<Vec<_>>>().map_err(|e| ended(files, &e))?;
        Ok(Node {
            files: Arc::clone(files),
            loops,
            replica_at: routes.replica_at,
            net,
            chores,
            draining: false,
            give_up_at: None,
            bug,
            rng,
            actions: Vec::new(),
        })
    }

    /// Its member, to be looked at.
    pub fn member(&self) -> &Member {
        match self.loops[self.replica_at].driver.replica_stage() {
            Some(stage) => &stage.member,
            None => unreachable!("its loop runs it"),
        }
    }

    /// The replica, to be looked at.
    pub fn replica(&self) -> &Replica {
        self.member().replica()
    }

    /// One turn of the server: everything that arrived is there, and its loops take turns of their
    /// own. With several, some are slower than others.
    pub fn turn(&mut self, now: Now, arrivals: Vec<Arrival>) -> Result<(), Ended> {
        for arrival in arrivals {
            if matches!(arrival, Arrival::HouseTurn) {
                self.chores.turn();
                self.check_power()?;
            } else {
                self.net.borrow_mut().arrive(&self.files, self.bug, arrival);
            }
        }
        let count = self.loops.len();
        let first = self.rng.below(count as u64) as usize;
        for at in (first..count).chain(0..first) {
            if count == 1 || self.rng.chance(3, 4) {
                self.turn_of(at, now)?;
            }
        }
        self.give_up_waiting(now);
        self.actions.append(&mut self.net.borrow_mut().actions);
        if self.loops.iter().all(|one| one.is_over) {
            return Err(self.end());
        }
        self.check_chores()
    }

    /// What `server` does when its threads have ended: the housekeeper completes what is queued,
    /// and an Apache server may go on.
    fn end(&mut self) -> Ended {
        while !self.chores.is_idle() {
            self.chores.turn();
            if let Err(ended) = self.check_power() {
                return ended;
            }
        }
        let Some(stage) = self.loops[self.replica_at].driver.replica_stage() else {
            unreachable!("its loop runs it")
        };
        if stage.house.is_unsaved() {
            return Ended::Stopped;
        }
        let replica = stage.member.replica();
        if replica.last_known() > replica.last_processed() {
            // Only the others know what becomes of the rest: an Apache server has to wait.
            return Ended::Stopped;
        }
        match hand_over(&*self.files, replica.last_processed()) {
            _ if self.files.disk().is_off() => Ended::Crashed,
            Handover::Ready => Ended::Stopped,
            other => Ended::Fatal(format!("no Apache server can go on: {other:?}")),
        }
    }

    fn turn_of(&mut self, at: usize, now: Now) -> Result<(), Ended> {
        let Loop { driver, io, is_over } = &mut self.loops[at];
        if *is_over {
            return Ok(());
        }
        io.now = now.mono;
        let outcome = driver.turn(now, io);
        match outcome {
            Ok(Turn::Over) => *is_over = true,
            Ok(Turn::Idle | Turn::Worked) => driver.check(),
            Err(failure) => {
                self.actions.append(&mut self.net.borrow_mut().actions);
                return Err(match failure {
                    Failure::Replica(why) => Ended::Fatal(why),
                    Failure::EventLoop(_) | Failure::Log(_) => ended(&self.files, &failure),
                });
            }
        }
        Ok(())
    }

    /// The server goes on when something in the background fails, but not without a reason.
    fn check_chores(&self) -> Result<(), Ended> {
        match self.net.borrow_mut().chore_failure.take() {
            Some(what) if !self.files.disk().has_failed => {
                Err(Ended::Fatal(format!("the housekeeper failed: {what}")))
            }
            _ => Ok(()),
        }
    }

    /// A drain ends though a client does not read.
    fn give_up_waiting(&mut self, now: Now) {
        if self.give_up_at.is_none() && self.net.borrow().is_settled {
            self.give_up_at = Some(now.mono + FLUSH_MAX);
        }
        if self.give_up_at.is_some_and(|at| at <= now.mono) {
            self.tell(|| Message::Stop);
        }
    }

    fn tell(&self, message: impl Fn() -> Message<SimIo>) {
        (0..self.loops.len()).for_each(|at| self.net.borrow_mut().tell(at, message()));
    }

    /// Work in the background has no other way to learn that the power failed.
    fn check_power(&self) -> Result<(), Ended> {
        if self.files.disk().is_off() { Err(Ended::Crashed) } else { Ok(()) }
    }

    /// Whether it listens to other members.
    pub fn hears_members(&self) -> bool {
        self.net.borrow().hears_members()
    }

    /// A connection that it asked for is on its way, by this end.
    pub fn dialing(&mut self, link: LinkId, end: End) {
        self.net.borrow_mut().dialing(link, end);
    }

    /// Nothing answered at this end in time. Returns whether that was still waited for.
    pub fn dial_timed_out(&mut self, end: End) -> bool {
        self.net.borrow_mut().dial_timed_out(end)
    }

    /// Whether the housekeeper has something to do.
    pub fn has_chores(&self) -> bool {
        !self.chores.is_idle()
    }

    /// Begins a clean shutdown: what is under way is finished, nothing new is taken.
    pub fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            self.tell(|| Message::Drain);
        }
    }

    /// Gives up leadership; what follows is the next turn's.
    pub fn resign(&mut self) {
        let stage = self.loops[self.replica_at].driver.replica_stage_mut();
        if let Some(stage) = stage {
            stage.member.resign(&mut stage.effects);
        }
    }

    /// Takes leadership up again; what follows is the next turn's.
    pub fn claim(&mut self, now: Now) {
        let stage = self.loops[self.replica_at].driver.replica_stage_mut();
        if let Some(stage) = stage {
            stage.member.claim(now, &mut stage.effects);
        }
    }

    /// When the next turn is needed though nothing arrives.
    pub fn deadline(&self) -> Instant {
        let has_work = |at: usize| {
            let Loop { driver, is_over, .. } = &self.loops[at];
            !is_over
                && (self.net.borrow().has_work(at) || driver.is_blocked() || driver.has_reports())
        };
        if (0..self.loops.len()).any(has_work) {
            return Instant(0);
        }
        let running = self.loops.iter().filter(|one| !one.is_over);
        let loops = running.filter_map(|one| one.driver.deadline());
        loops.chain(self.give_up_at).min().unwrap_or(Instant(u64::MAX))
    }
}

/// What an error of the real code means: the power's failure shows as one of whatever was done.
fn ended(files: &SimFiles, error: &dyn std::error::Error) -> Ended {
    if files.disk().is_off() { Ended::Crashed } else { Ended::Fatal(error.to_string()) }
}

fn lose_ephemeral(tree: &mut Tree) {
    let Some((session, _)) = tree.sessions_with_ephemerals().min() else { return };
    let Some(node) = tree.ephemerals(session).next() else { return };
    let mut path = String::new();
    tree.path_into(node, &mut path);
    let kind = TxnType::Delete;
    let header =
        TxnHeader { session, cxid: crate::base::Xid(0), zxid: Zxid::ZERO, time_ms: 0, kind };
    tree.apply(&header, &Txn::Delete { path: &path }, ApplyMode::Replay, &mut NoSink);
}
