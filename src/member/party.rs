//! What one of several servers has besides its replica: its votes, its machine of ZAB, and the
//! connections to the others.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{
    Epoch, Instant, LifelineKey, LinkId, Mark, Now, Ration, Rng, ServerId, Zxid, invariant, mark,
};
use crate::election::{self, Election};
use crate::log::{Batch, EpochFile, Epochs, LogTicket};
use crate::metrics::TermFigures;
use crate::peer::{
    self, ElectionLinkOptions, ElectionLinks, LinkNumbers, QuorumLinkOptions, QuorumLinks,
};
use crate::quorum::{Ensemble, Membership, Role};
use crate::wire::vote::PeerState;
use crate::zab::{self, History, Leading, LeadingOptions, Learning, LearningOptions, Standing};

use super::held::HeldRequests;

/// Settings of one of several servers, as plain values.
#[derive(Clone, Debug)]
pub struct EnsembleOptions {
    /// This server (`myid`).
    pub sid: ServerId,
    /// All members.
    pub membership: Membership,
    /// What the epoch files say.
    pub epochs: Epochs,
    /// `tickTime`.
    pub tick: Duration,
    /// `initLimit`, in ticks.
    pub init_limit: u32,
    /// `syncLimit`, in ticks.
    pub sync_limit: u32,
    /// `fastleader.minNotificationInterval` and `maxNotificationInterval`.
    pub repeat_votes: (Duration, Duration),
    /// Bytes of transactions that may wait for a learner's own disk, or to be applied. Beyond that
    /// it takes nothing more from its leader.
    pub backlog_bytes_max: usize,
    /// Bytes of requests that a learner may have waiting for the leader's next epoch. Beyond that
    /// they get an error, and beyond twice as much the learner loses its connection.
    pub held_bytes_max: usize,
    /// Bytes of transactions that a leader keeps in memory for learners that fall behind.
    pub history_bytes_max: usize,
    /// Largest packet of another member, in bytes.
    pub packet_bytes_max: usize,
    /// Speak Apache's protocol only, also with servers of ours.
    pub is_plain: bool,
    /// Leave a silent leader of ours after `sync_limit` only, as one of Apache's.
    pub is_patient: bool,
    /// For numbers that nobody can guess, new at each start.
    pub seed: u64,
}

/// What this server does at the moment.
#[derive(Debug)]
pub(super) enum Machine {
    /// The last term has ended; the disk has something to do before this server may vote again.
    Settling,
    Looking,
    Leading(Box<Leading>),
    Learning(Box<Learning>),
    /// This server is about to end, and has no say any more.
    Retired,
}

/// A learner takes nothing from its leader, as too much waits for its own disk.
///
/// What it has not read stays in the socket, so the leader neither waits nor keeps anything for it.
/// The leader's PINGs are held up, too, but as long as the disk goes on, ACKs show the leader that
/// the learner lives. Once nothing has gone on for as long as the leader would bear silence, the
/// learner gives up: its clients are better served elsewhere. It begins again when its disk does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    /// The last transactions on disk and in the tree.
    pub marks: (Zxid, Zxid),
    /// Since when they are the last ones.
    pub since: Instant,
}

/// A learner is behind: so much waits for its disk, or to be applied, that it has taken nothing
/// from its leader for a moment, since this time. It is over when half of that is done. One that
/// does not catch up within `syncLimit` serves nobody, so that nobody reads from it what is older
/// still (`Party::catching_up`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Behind(pub Instant);

/// The term that a learner is in step with, but for transactions that it has not applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToFollow {
    pub epoch: Epoch,
    /// What was committed when the leader said that this server is up to date. Clients are not
    /// served before this is applied (ZOOKEEPER-3500).
    pub mark: Zxid,
}

/// Whom a learner follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub leader: ServerId,
    /// The connection, or the attempt at one.
    pub link: Option<LinkId>,
    /// Attempts that have failed.
    pub failures: u32,
    /// When to try again.
    pub retry_at: Option<Instant>,
}

/// The purpose of a command of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Somebody outside of this module; the last transaction that was known then.
    Other { known: Zxid },
    /// An epoch file.
    Epoch(EpochFile, Epoch),
    /// A learner's history goes back to this transaction.
    Truncate(Zxid),
    /// The database that was received, at this zxid, becomes this server's.
    Adopt(Zxid),
    /// Transactions for a learner that is behind.
    History(LinkId, Step),
}

/// Commands of the log that have not ended.
#[derive(Debug, Default)]
pub(super) struct Asked {
    list: Vec<(LogTicket, Purpose)>,
    last_ticket: LogTicket,
}

impl Asked {
    /// The ticket of a command that is asked for now.
    pub fn add(&mut self, purpose: Purpose) -> LogTicket {
        self.last_ticket = LogTicket(self.last_ticket.0 + 1);
        self.list.push((self.last_ticket, purpose));
        self.last_ticket
    }

    /// What the command was for that has ended.
    pub fn take(&mut self, ticket: LogTicket) -> Purpose {
        let at = self.list.iter().position(|(asked, _)| *asked == ticket);
        invariant!(at.is_some(), "a command of the log ends once, and was asked for");
        let Some(at) = at else { unreachable!("just asserted") };
        self.list.remove(at).1
    }

    /// What has not ended.
    pub fn purposes(&self) -> impl Iterator<Item = Purpose> {
        self.list.iter().map(|(_, purpose)| *purpose)
    }
}

/// How far reading the log for a learner has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Lease,
    Read,
    Release,
}

/// When the steps into a term were taken, and what came of those before it.
#[derive(Debug)]
pub(super) struct Noted {
    /// When the last term ended; `None` while there is one.
    pub lost_at: Option<Instant>,
    /// When the search began.
    pub looks_since: Instant,
    /// When a leader was elected.
    pub elected_at: Instant,
    pub figures: TermFigures,
}

impl Noted {
    /// The first search begins now.
    fn new(now: Instant) -> Noted {
        let figures = TermFigures { searches: 1, ..TermFigures::default() };
        Noted { lost_at: Some(now), looks_since: now, elected_at: now, figures }
    }
}

/// A range of the log that is read for a learner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// The ticket of the lease.
    pub lease: LogTicket,
    /// The last transaction that was handed on; before the first, the one that is asked for.
    pub reached: Zxid,
    /// Nothing was read yet.
    pub is_fresh: bool,
}

/// See the module's introduction.
pub(super) struct Party {
    pub options: EnsembleOptions,
    pub ensemble: Ensemble,
    pub epochs: Epochs,
    /// This server has no history to go by, or could not truncate it: only a snapshot of the leader
    /// helps, and what the leader sends after it, until this server has entered the epoch.
    pub needs_snapshot: bool,
    /// The last epoch in which this server served clients, since its start.
    pub served: Option<Epoch>,
    /// The next epoch that this server begins is this one at least.
    pub epoch_least: Epoch,
    pub machine: Machine,
    pub election: Election,
    pub votes: ElectionLinks,
    pub links: QuorumLinks,
    pub numbers: LinkNumbers,
    /// Messages about learners that were refused: those that have not introduced themselves, and
    /// those that have.
    pub refusals: [Ration; 2],
    /// Messages about connections on which no packets come.
    pub noises: Ration,
    pub followed: Option<Followed>,
    pub full: Option<Full>,
    pub behind: Option<Behind>,
    pub to_follow: Option<ToFollow>,
    /// The epoch in which this learner serves nobody while it is behind. It goes on to follow: the
    /// leader may need it for its quorum. Once it has caught up, it serves when it has applied what
    /// was committed by then.
    pub catching_up: Option<Epoch>,
    /// A digest of the leader's tree that is not compared yet, and the transaction before it.
    pub stated: Option<(Zxid, u64)>,
    /// The last transaction after which the leader's tree was found to be the same as here.
    pub agreed: Option<Zxid>,
    /// The epoch that this server is to lead once everything committed is applied.
    pub to_lead: Option<Epoch>,
    /// A database is on its way in over the leader's connection, as of this zxid.
    pub receives: Option<Zxid>,
    /// Streams of the database to learners: chunks that their connections have not taken.
    pub streams: Vec<(LinkId, u32)>,
    /// Ranges of the log that are read for learners.
    pub ranges: Vec<(LinkId, Range)>,
    /// Connections to hand packets of, in this turn.
    pub to_read: Vec<LinkId>,
    /// This server is about to end, and makes or takes no more transactions.
    pub is_leaving: bool,
    /// Connections with more packets than were handled in this turn.
    pub later: Vec<LinkId>,
    /// Connections with packets that a leader has not looked at, as it does not judge requests yet.
    pub unread: Vec<LinkId>,
    /// What waits for the next epoch of this leader.
    pub held: HeldRequests,
    /// Numbers of `sync`s of own clients.
    pub syncs: u64,
    pub noted: Noted,
    pub zab: zab::Effects,
    pub ballots: Vec<election::Effect>,
    pub out: peer::Effects,
    /// The membership as text, for votes.
    pub config: Vec<u8>,
    pub rng: Rng,
}

impl Party {
    /// A server that looks for its first leader, with `last` as the last transaction in its log;
    /// `None` for one that has forgotten what it had.
    pub fn new(now: Now, options: EnsembleOptions, last: Option<Zxid>) -> Party {
        let membership = Arc::new(options.membership.clone());
        let own = membership.member(options.sid);
        let role = own.map_or(Role::Observer, |own| own.role);
        let addresses = own.map_or_else(Vec::new, |own| {
            let each = own.addresses.iter();
            each.map(|address| (address.host.clone(), address.election_port)).collect()
        });
        let members = membership.members().map(|member| member.sid).collect();
        let ensemble = Ensemble::new(Arc::clone(&membership));
        let (repeat_min, repeat_max) = options.repeat_votes;
        let election_options = election::Options {
            repeat_min,
            repeat_max,
            ..election::Options::new(options.sid, role)
        };
        if last.is_none() {
            mark(Mark::StartsVoid);
        }
        let zxid = last.unwrap_or(Zxid(-1));
        let history = election::History { zxid, epoch: options.epochs.current };
        let mut ballots = Vec::new();
        let election =
            Election::new(election_options, ensemble.clone(), history, now, &mut ballots);
        let vote_links = ElectionLinkOptions::new(options.sid, addresses, members);
        let votes = ElectionLinks::new(vote_links);
        let links = QuorumLinkOptions {
            packet_bytes_max: options.packet_bytes_max,
            wait: options.tick * options.init_limit,
        };
        Party {
            links: QuorumLinks::new(links),
            ensemble,
            epochs: options.epochs,
            needs_snapshot: last.is_none(),
            served: None,
            epoch_least: Epoch(0),
            machine: Machine::Looking,
            election,
            votes,
            numbers: LinkNumbers::default(),
            refusals: [Ration::default(); 2],
            noises: Ration::default(),
            followed: None,
            full: None,
            behind: None,
            to_follow: None,
            catching_up: None,
            stated: None,
            agreed: None,
            to_lead: None,
            receives: None,
            streams: Vec::new(),
            ranges: Vec::new(),
            to_read: Vec::new(),
            is_leaving: false,
            later: Vec::new(),
            unread: Vec::new(),
            held: HeldRequests::new(options.held_bytes_max),
            syncs: 0,
            noted: Noted::new(now.mono),
            zab: zab::Effects::default(),
            ballots,
            out: peer::Effects::default(),
            config: membership.to_string().into_bytes(),
            rng: Rng::new(options.seed),
            options,
        }
    }

    pub fn state(&self) -> PeerState {
        self.election.state()
    }

    /// What this server has on its disk, when nothing is on its way there.
    pub fn standing(&self, logged: Zxid, committed: Zxid) -> Standing {
        Standing {
            accepted: self.epochs.accepted,
            current: self.epochs.current,
            logged,
            committed,
            needs_snapshot: self.needs_snapshot,
        }
    }

    /// A leader whose tree is at `applied`, and has this tail after it.
    pub fn leading(
        &self,
        now: Now,
        standing: Standing,
        applied: Zxid,
        tail: Vec<Arc<Batch>>,
    ) -> Leading {
        let options = LeadingOptions {
            sid: self.options.sid,
            tick: self.options.tick,
            init_limit: self.options.init_limit,
            sync_limit: self.options.sync_limit,
            config: self.config.clone(),
            config_version: self.ensemble.version().0,
            epoch_least: self.epoch_least,
            is_plain: self.options.is_plain,
        };
        let history = History::after_snapshot(applied, tail, self.options.history_bytes_max);
        Leading::new(now, options, self.ensemble.clone(), standing, history)
    }

    /// What follows this leader. It is told how its lifeline is to be known.
    pub fn learning(&mut self, now: Now, leader: ServerId, standing: Standing) -> Learning {
        let lifeline_key = LifelineKey(self.rng.next_u64());
        self.votes.expect_lifeline(leader, lifeline_key);
        let options = LearningOptions {
            sid: self.options.sid,
            is_observer: self.state() == PeerState::Observing,
            tick: self.options.tick,
            init_limit: self.options.init_limit,
            sync_limit: self.options.sync_limit,
            config_version: self.ensemble.version().0,
            is_plain: self.options.is_plain,
            is_patient: self.options.is_patient,
            lifeline_key,
        };
        Learning::new(now, options, standing)
    }

    /// When something is due though nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let machine = match &self.machine {
            Machine::Retired => return None,
            Machine::Settling | Machine::Looking => None,
            Machine::Leading(leading) => leading.deadline(),
            Machine::Learning(learning) => learning.deadline(),
        };
        if !self.later.is_empty() {
            return Some(Instant(0));
        }
        let retry = self.followed.and_then(|followed| followed.retry_at);
        let each = [
            machine,
            retry,
            self.full_until(),
            self.behind_until(),
            self.election.deadline(),
            self.votes.deadline(),
            self.links.deadline(),
        ];
        each.into_iter().flatten().min()
    }

    /// When a learner gives up that takes nothing.
    pub fn full_until(&self) -> Option<Instant> {
        Some(self.full?.since + self.options.tick * self.options.sync_limit)
    }

    /// When a learner that does not catch up serves nobody any more.
    pub fn behind_until(&self) -> Option<Instant> {
        Some(self.behind?.0 + self.options.tick * self.options.sync_limit)
    }

    /// The range that is read for a learner.
    pub fn range(&mut self, link: LinkId) -> Option<&mut Range> {
        self.ranges.iter_mut().find(|(of, _)| *of == link).map(|(_, range)| range)
    }
}
