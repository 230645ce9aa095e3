//! What a run does: drawn from its seed, or set by hand.

use crate::base::{Mutation, Rng};

use super::clock::ClockOptions;
use super::network::NetworkOptions;

/// A fault put into the server or into what is around it, to prove that the checkers notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The server's own code does something wrong.
    Server(Mutation),
    /// Recovery does not see the last group commit.
    DropLastGroup,
    /// The partly filled last block of a segment is not written again.
    SkipTailBlock,
    /// A failed write is taken for a good one.
    IgnoreFailedWrite,
    /// Recovery takes everything that is logged for committed.
    CommitTail,
    /// Recovery loses one session.
    ForgetSession,
    /// A reply overtakes the watch events before it.
    ReplyBeforeEvent,
    /// A watch event is lost.
    LoseEvent,
    /// Two replies change places.
    SwapReplies,
    /// The torn end of the log is not cut at a restart.
    KeepTornTail,
    /// Recovery loses one ephemeral node.
    LoseEphemeral,
    /// A transaction that failed is answered as a success.
    HideError,
    /// Bit rot anywhere is taken for a torn write: what follows is lost in silence.
    TrustRot,
    /// Names are never made durable.
    SkipDirSync,
    /// Whole files are never made durable.
    SkipFileSync,
    /// What the log writer and the housekeeper write in line is not written through.
    SkipWriteThrough,
    /// Requests that arrive together change places.
    SwapRequests,
    /// Nothing keeps an Apache server away after a kill.
    SkipGuard,
}

impl Bug {
    /// Those that a lone server can have.
    pub const ALONE: [Bug; 21] = [
        Bug::Server(Mutation::AckBeforeSync),
        Bug::Server(Mutation::ExpireEarly),
        Bug::Server(Mutation::LoseEffects),
        Bug::Server(Mutation::SleepOnWork),
        Bug::DropLastGroup,
        Bug::SkipTailBlock,
        Bug::IgnoreFailedWrite,
        Bug::CommitTail,
        Bug::ForgetSession,
        Bug::ReplyBeforeEvent,
        Bug::LoseEvent,
        Bug::SwapReplies,
        Bug::KeepTornTail,
        Bug::LoseEphemeral,
        Bug::HideError,
        Bug::TrustRot,
        Bug::SkipDirSync,
        Bug::SkipFileSync,
        Bug::SkipWriteThrough,
        Bug::SwapRequests,
        Bug::SkipGuard,
    ];

    /// What has to happen to members of an ensemble for it to show; `None` for a mistake that a
    /// lone server shows.
    pub fn faults(self) -> Option<Faults> {
        let Bug::Server(mutation) = self else { return None };
        match mutation {
            _ if Bug::ALONE.contains(&self) => None,
            // A leader that is replaced without having noticed, histories that part, clients that
            // leave something behind.
            Mutation::KeepTail
            | Mutation::DiffForTrunc
            | Mutation::RememberTail
            | Mutation::SyncUnconfirmed
            | Mutation::AssumeKept
            | Mutation::ClaimMoved
            | Mutation::ForsakeNobody
            | Mutation::KeepMoved => Some(Faults::Partitions),
            _ => Some(Faults::Crashes),
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Bug> {
        let of_members = Mutation::ALL.into_iter().map(Bug::Server);
        Bug::ALONE.into_iter().chain(of_members.filter(|bug| !Bug::ALONE.contains(bug)))
    }
}

/// What may happen to the members of an ensemble; each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Faults {
    /// Nothing.
    None,
    /// They are killed, lose their power, and start again.
    Crashes,
    /// They do not reach each other, or their clients; connections are cut; a process stands still.
    Partitions,
    /// Their disks fail, fill up, and forget bits.
    Disks,
}

impl Faults {
    /// All of them.
    pub const ALL: [Faults; 4] = [Faults::None, Faults::Crashes, Faults::Partitions, Faults::Disks];
}

/// Settings of one run.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Everything random comes from it.
    pub seed: u64,
    /// Requests that the clients make in all.
    pub ops: u32,
    /// Servers, 1 to 3, members of an ensemble up to 7; drawn from the seed if not given.
    pub nodes: Option<usize>,
    /// The servers are the members of one ensemble, to whom this may happen. Otherwise each stands
    /// alone. Three if `nodes` does not say; one is a quorum by itself, and stands alone too.
    pub ensemble: Option<Faults>,
    /// Keep a readable history.
    pub verbose: bool,
    /// Fault in the driver, if any.
    pub bug: Option<Bug>,
}

/// Which stages share a loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stages {
    /// All of them.
    Together,
    /// The log has one of its own.
    LogApart,
    /// Each has one of its own.
    Apart,
    /// Two fronts, one of them beside the replica, and a log of its own.
    TwoFronts,
}

impl Stages {
    const ALL: [Stages; 4] = [Stages::Together, Stages::LogApart, Stages::Apart, Stages::TwoFronts];
}

/// What this seed's swarm member is like.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub clients: usize,
    pub depth: usize,
    pub think_us: u64,
    pub crashes: bool,
    pub stops: bool,
    pub pauses: bool,
    pub wall_jumps: bool,
    pub write_errors: bool,
    pub disk_full: bool,
    pub rot: bool,
    pub cuts: bool,
    pub vanish: bool,
    pub dribble: bool,
    pub slow_readers: bool,
    pub big_values: bool,
    pub watches: bool,
    /// Ephemerals and sessions come and go while what they replace is still pending.
    pub turnover: bool,
    /// The first start finds a snapshot with ephemerals of sessions that do not exist.
    pub orphans: bool,
    pub segment_size: u64,
    pub staging: usize,
    /// Demands direct access, so that each start makes sure of it.
    pub direct_log: bool,
    /// Which stages share a loop.
    pub stages: Stages,
    pub snap_count: u64,
    pub outstanding: u64,
    pub max_output: usize,
    /// Budget of a turn, in nanoseconds of work.
    pub turn_cost: u64,
    /// Bytes of one client's transactions that may be on their way.
    pub in_flight: usize,
    pub write_us: u64,
    /// Mean time between faults.
    pub fault_ms: u64,
    pub nodes: usize,
    /// How many of them have a vote; these come first.
    pub voters: usize,
    /// The servers are members of one ensemble.
    pub is_joined: bool,
    /// Bytes of transactions that a leader keeps for members that fall behind.
    pub history: usize,
    /// Members speak Apache's protocol only.
    pub is_plain: bool,
    /// Transactions of an epoch before the next one begins.
    pub epoch_transactions: u32,
    pub partitions: bool,
    /// Streams are cut in the middle, or stall.
    pub breaks: bool,
    /// Members do not reach each other for a while, or their streams break.
    pub isolates: bool,
    /// Clients ask for little, so that time passes: what happens is pauses, timeouts, elections.
    pub is_thoughtful: bool,
    /// Servers give up leadership for a while.
    pub terms: bool,
    /// How long a turn takes, so that more arrives before the next one.
    pub turn_us: u64,
    /// Bytes of a chunk of the database.
    pub walk_chunk: usize,
    /// Disks take nothing for seconds.
    pub slow_disks: bool,
    /// Members lose their databases, and keep their epochs.
    pub losses: bool,
    pub network: NetworkOptions,
    pub clocks: ClockOptions,
}

impl Swarm {
    /// One of many. A new option draws at the end, so that the others stay as they are.
    pub(super) fn draw(options: &SimOptions) -> Swarm {
        let mut rng = Rng::derived(options.seed, "swarm", 0);
        let clients = 1 + rng.below(6) as usize;
        let mut pick = |values: &[u64]| values[rng.below(values.len() as u64) as usize];
        let swarm = Swarm {
            clients,
            depth: pick(&[1, 2, 8, 32]) as usize,
            think_us: pick(&[200, 2_000, 20_000, 100_000]),
            crashes: pick(&[0, 1, 1, 1]) == 1,
            stops: pick(&[0, 1]) == 1,
            pauses: pick(&[0, 0, 1]) == 1,
            wall_jumps: pick(&[0, 0, 1]) == 1,
            write_errors: pick(&[0, 0, 1]) == 1,
            disk_full: pick(&[0, 0, 0, 1]) == 1,
            rot: pick(&[0, 1]) == 1,
            cuts: pick(&[0, 1]) == 1,
            vanish: pick(&[0, 1]) == 1,
            dribble: pick(&[0, 0, 1]) == 1,
            slow_readers: pick(&[0, 0, 1]) == 1,
            big_values: pick(&[0, 0, 1]) == 1,
            watches: pick(&[0, 1, 1]) == 1,
            turnover: pick(&[0, 1]) == 1,
            orphans: pick(&[0, 0, 1]) == 1,
            segment_size: pick(&[16 << 10, 32 << 10, 64 << 10]),
            staging: pick(&[8 << 10, 16 << 10, 64 << 10]) as usize,
            direct_log: pick(&[0, 0, 1]) == 1,
            stages: Stages::ALL[pick(&[0, 0, 0, 1, 2, 3]) as usize],
            snap_count: pick(&[10, 30, 100, 1000]),
            outstanding: pick(&[2, 20, 1000]),
            max_output: pick(&[2 << 10, 64 << 10, 16 << 20]) as usize,
            turn_cost: pick(&[4, 1_000, 10_000, 1_000_000]),
            in_flight: pick(&[1, 1_000, 1 << 20]) as usize,
            write_us: pick(&[50, 500, 5_000]),
            fault_ms: pick(&[200, 1_000, 5_000]),
            nodes: options.nodes.unwrap_or(pick(&[1, 1, 1, 1, 2, 3]) as usize),
            voters: 0,
            is_joined: false,
            history: 0,
            is_plain: false,
            epoch_transactions: u32::MAX,
            partitions: pick(&[0, 0, 1]) == 1,
            breaks: pick(&[0, 0, 1]) == 1,
            isolates: false,
            is_thoughtful: false,
            terms: pick(&[0, 0, 1]) == 1,
            turn_us: 0,
            walk_chunk: 64 << 10,
            slow_disks: false,
            losses: false,
            network: NetworkOptions { window: pick(&[0, 1 << 10, 64 << 10]) as usize },
            clocks: ClockOptions {
                drift_ppm: pick(&[0, 0, 200, 20_000]),
                wall_offset_ms: pick(&[0, 5_000]),
            },
        };
        match options.ensemble {
            Some(faults) => swarm.for_ensemble(options.seed, faults, options.nodes.unwrap_or(3)),
            None => swarm,
        }
    }

    /// Members of one ensemble.
    fn for_ensemble(self, seed: u64, faults: Faults, nodes: usize) -> Swarm {
        let mut rng = Rng::derived(seed, "ensemble", 0);
        let (crashing, divided) = (faults >= Faults::Crashes, faults >= Faults::Partitions);
        let failing = faults >= Faults::Disks;
        let history = [1 << 10, 64 << 10, 1 << 20][rng.below(3) as usize];
        let is_plain = rng.chance(1, 2);
        let epoch_transactions = [1_000_000, 1_000_000, 200, 20, 4][rng.below(5) as usize];
        let pause_us = [0, 0, 1_000_000, 4_000_000][rng.below(4) as usize];
        let observers = [0, 0, 0, 0, 0, 0, 1, 2][rng.below(8) as usize];
        let turn_us = [0, 0, 50, 300][rng.below(4) as usize];
        let walk_chunk = [64 << 10, 64 << 10, 2_000, 100][rng.below(4) as usize];
        let (slow_disks, losses) = (rng.chance(1, 3), rng.chance(1, 3));
        // An election takes a while; now and then it is disturbed, too.
        let fault_ms = if rng.chance(1, 6) { 150 } else { self.fault_ms.max(1_000) };
        Swarm {
            nodes,
            voters: nodes - observers.min(nodes.saturating_sub(2)),
            is_joined: nodes > 1,
            history,
            is_plain,
            epoch_transactions,
            turn_us,
            walk_chunk,
            slow_disks: slow_disks && failing,
            losses: losses && failing,
            is_thoughtful: pause_us > 0,
            think_us: self.think_us.max(pause_us),
            depth: if pause_us > 0 { self.depth.min(4) } else { self.depth },
            crashes: crashing,
            stops: self.stops && crashing,
            pauses: self.pauses && divided,
            partitions: divided,
            breaks: divided,
            isolates: divided,
            wall_jumps: self.wall_jumps && divided,
            write_errors: self.write_errors && failing,
            disk_full: self.disk_full && failing,
            rot: self.rot && failing,
            // A leader ends them as a lone server does; members would have to start with the same.
            orphans: false,
            // Only a lone server can be told to lead no more.
            terms: false,
            fault_ms,
            ..self
        }
    }
}
