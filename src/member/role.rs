//! The role of a server.

use crate::base::{Instant, Mark, Mutation, Now, Zxid, invariant, is_mutated, mark};
use crate::election::Vote;
use crate::log::{Epochs, LogChange, LogCommand, LogDone, LogTicket};
use crate::peer;
use crate::replica::{Effect, Effects, Input, Replica};
use crate::wire::vote::PeerState;

use super::party::{Asked, EnsembleOptions, Machine, Party, Purpose};
use super::turn::Turn;

/// What a server is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// There are no others: it leads, and what it has logged is committed.
    Alone,
    /// It takes up leadership as soon as all that is known is logged and applied. Requests wait.
    Claiming,
    /// Nobody leads. What is logged is committed all the same, and requests wait.
    Idle,
    /// One of several, which serves nobody: it looks for a leader, or is not up to date yet.
    Looking,
    /// It leads the others.
    Leading,
    /// It follows the leader and has a vote.
    Following,
    /// It follows the leader without a vote.
    Observing,
}

/// See [`crate::member`].
pub struct Member {
    replica: Replica,
    /// Of a server alone.
    role: Role,
    /// What one of several servers has besides.
    party: Option<Box<Party>>,
    /// The settings of one of several servers that has no snapshot yet: nobody is to rely on it
    /// before. A log that does not begin with the first transaction of all is of no use without
    /// one, so a member that votes must be able to start again.
    begins: Option<Box<EnsembleOptions>>,
    /// Commands of the log that have not ended.
    asked: Asked,
    /// Of a server alone, or not yet with the others.
    no_effects: peer::Effects,
}

impl Member {
    /// A lone server, which leads from the start: a quorum of one, so what its log holds is
    /// committed. It may have transactions to log already: call [`Member::flush`] before waiting
    /// for the first time.
    pub fn alone(now: Now, mut replica: Replica) -> Member {
        commit_logged(now, &mut replica);
        replica.lead(now);
        Member::new(replica, Role::Alone, None)
    }

    /// One of several servers, which looks for a leader at first. Call [`Member::hand_over`] before
    /// waiting for the first time.
    pub fn in_ensemble(now: Now, replica: Replica, options: EnsembleOptions) -> Member {
        let mut member = Member::new(replica, Role::Looking, None);
        member.begins = Some(Box::new(options));
        member.begin(now);
        member
    }

    /// Takes part in the ensemble as soon as there is a snapshot.
    fn begin(&mut self, now: Now) {
        let is_early = is_mutated(Mutation::VoteBeforeSnapshot);
        if (self.replica.has_snapshot() || self.replica.is_void() || is_early)
            && let Some(options) = self.begins.take()
        {
            let history = match self.replica.is_void() {
                true => None,
                false => Some(self.replica.last_logged()),
            };
            self.party = Some(Box::new(Party::new(now, *options, history)));
        } else {
            self.replica.request_snapshot();
        }
    }

    /// Handles an input of one of several servers that waits for its first snapshot.
    fn await_snapshot(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        let has_failed = matches!(input, Input::SnapshotEnded { ok: false });
        self.replica.handle(now, input, effects);
        if has_failed {
            let why = "the first snapshot could not be written, and a member has no say without \
                       one: is there room on the disk of dataDir?";
            effects.list.push(Effect::Fatal(why.into()));
        }
        self.begin(now);
    }

    fn new(replica: Replica, role: Role, party: Option<Box<Party>>) -> Member {
        Member {
            replica,
            role,
            party,
            begins: None,
            asked: Asked::default(),
            no_effects: peer::Effects::default(),
        }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        let Some(party) = &self.party else { return self.role };
        match party.state() {
            _ if !self.replica.is_serving() && !self.replica.is_held() => Role::Looking,
            PeerState::Looking => Role::Looking,
            PeerState::Leading => Role::Leading,
            PeerState::Following => Role::Following,
            PeerState::Observing => Role::Observing,
        }
    }

    pub(super) fn party(&self) -> Option<&Party> {
        self.party.as_deref()
    }

    /// What the epoch files of one of several servers say, as far as it knows.
    pub fn epochs(&self) -> Option<Epochs> {
        self.party.as_ref().map(|party| party.epochs)
    }

    /// Which epochs others may know one of several servers to have promised and entered.
    pub fn vows(&self) -> Epochs {
        match self.party.as_ref().map(|party| &party.machine) {
            Some(Machine::Leading(leading)) => leading.vows(),
            Some(Machine::Learning(learning)) => learning.vows(),
            Some(Machine::Settling | Machine::Looking | Machine::Retired) | None => {
                Epochs::default()
            }
        }
    }

    /// What it says of its own history while it looks for a leader.
    pub fn stands_with(&self) -> Option<Vote> {
        self.party.as_ref()?.election.stands_with()
    }

    /// The part that every server has.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The same, for four-letter words and snapshots on demand.
    pub fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// Handles one input to completion.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        if let Some(mut turn) = self.turn(now, effects) {
            return turn.handle(input);
        }
        if self.begins.is_some() {
            return self.await_snapshot(now, input, effects);
        }
        match input {
            Input::Logged { zxid } => {
                self.replica.handle(now, Input::Logged { zxid }, effects);
                // A quorum of one.
                self.replica.handle(now, Input::Committed { zxid }, effects);
            }
            Input::LogDone { ticket, done } => self.log_done(ticket, &done, effects),
            input => self.replica.handle(now, input, effects),
        }
        if self.role == Role::Claiming && self.replica.is_all_applied() {
            self.role = Role::Alone;
            self.replica.lead(now);
        }
    }

    /// What one of several servers handles its inputs with.
    fn turn<'a>(&'a mut self, now: Now, effects: &'a mut Effects) -> Option<Turn<'a>> {
        let party = self.party.as_deref_mut()?;
        let Member { replica, asked, .. } = self;
        Some(Turn { now, party, replica, asked, effects })
    }

    /// Something happened to a connection of another member.
    pub fn peer(&mut self, now: Now, input: peer::Input<'_>, effects: &mut Effects) {
        if self.begins.is_some() {
            if let peer::Input::Accepted { link, .. } = input {
                self.no_effects.list.push(peer::Effect::Close { link });
            }
            return;
        }
        let turn = self.turn(now, effects);
        invariant!(turn.is_some(), "a server alone has no connections with others");
        if let Some(mut turn) = turn {
            turn.peer(input);
        }
    }

    /// What is to be done about connections of other members.
    pub fn peer_effects(&mut self) -> &mut peer::Effects {
        match &mut self.party {
            Some(party) => &mut party.out,
            None => &mut self.no_effects,
        }
    }

    /// Asks something of the log; `Input::LogDone` brings the outcome under the ticket returned.
    pub fn ask_log(&mut self, command: LogCommand, effects: &mut Effects) -> LogTicket {
        // Behind what was prepared before.
        self.replica.hand_over(effects);
        let ticket = self.asked.add(Purpose::Other { known: self.replica.last_known() });
        effects.list.push(Effect::Log { ticket, command });
        ticket
    }

    /// Whether something that was asked of the log has not ended.
    pub fn awaits_log(&self) -> bool {
        self.asked.purposes().next().is_some()
    }

    fn log_done(&mut self, ticket: LogTicket, done: &LogDone, effects: &mut Effects) {
        let Purpose::Other { known } = self.asked.take(ticket) else { return };
        match done {
            // A tree cannot go back, and what is in the tail stays there.
            LogDone::Changed(LogChange::Truncate { keep }) if known > *keep => {
                start_again(known, *keep, effects);
            }
            LogDone::Changed(LogChange::Retire { snapshot }) => {
                let held = self.replica.last_processed();
                if held != *snapshot {
                    start_again(held, *snapshot, effects);
                }
            }
            LogDone::Changed(LogChange::Truncate { .. } | LogChange::WriteEpoch { .. })
            | LogDone::Refused(..)
            | LogDone::Leased
            | LogDone::Unavailable(_)
            | LogDone::Read { .. }
            | LogDone::Released => {}
        }
    }

    /// Gives up leadership as a whole. Clients stay; their requests wait.
    pub fn resign(&mut self, effects: &mut Effects) {
        if self.role == Role::Alone {
            self.replica.resign(effects);
        }
        self.role = Role::Idle;
    }

    /// Takes leadership up again, as soon as the last term is wholly applied.
    pub fn claim(&mut self, now: Now, effects: &mut Effects) {
        if self.role == Role::Idle {
            self.role = Role::Claiming;
            self.handle(now, Input::Tick, effects);
        }
    }

    /// Before it ends, one of several servers leaves the others: as soon as its own clients wait
    /// for nothing and the fate of all that it has is known, or at once if it `must`. A server
    /// alone has nobody to leave.
    pub fn retire(&mut self, now: Now, must: bool, effects: &mut Effects) {
        let has_answered = self.replica.outstanding() == 0;
        let is_done = has_answered && self.replica.is_all_applied();
        let Some(mut turn) = self.turn(now, effects) else { return };
        if matches!(turn.party.machine, Machine::Retired) {
            return;
        }
        // What is not part of the history yet must not become so with a part left out.
        let is_synchronizing = matches!(
            &turn.party.machine,
            Machine::Learning(learning) if !learning.is_serving()
        );
        if has_answered && !is_synchronizing {
            turn.begin_leaving();
        }
        if is_synchronizing {
            mark(Mark::LeavesInSync);
        } else if matches!(turn.party.machine, Machine::Looking | Machine::Settling) {
            mark(Mark::LeavesWhileLooking);
        } else if is_done {
            mark(Mark::LeavesInService);
        } else if must {
            mark(Mark::LeavesInVain);
        }
        if must || is_done || is_synchronizing {
            turn.retire();
        }
    }

    /// Begins a turn of the loop, see [`Replica::begin_turn`].
    pub fn begin_turn(&mut self) {
        self.replica.begin_turn();
    }

    /// What was prepared goes to the log, and to the others. The driver calls this before it waits,
    /// and may do so at any time between two inputs.
    pub fn hand_over(&mut self, now: Now, effects: &mut Effects) {
        match self.turn(now, effects) {
            Some(mut turn) => turn.hand_over(),
            None => self.replica.hand_over(effects),
        }
    }

    /// Ends a turn and begins the next one: what was prepared goes to the log.
    pub fn flush(&mut self, now: Now, effects: &mut Effects) {
        self.begin_turn();
        self.hand_over(now, effects);
    }

    /// When [`Member::handle`] wants to be called at the latest, with `Input::Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        let replica = self.replica.deadline();
        let Some(party) = &self.party else { return replica };
        [replica, party.deadline()].into_iter().flatten().min()
    }

    /// Checks what must always hold; for simulation and tests.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self) {
        let leads = matches!(self.role(), Role::Alone | Role::Leading);
        assert_eq!(self.replica.is_leading(), leads, "a role and its leader");
        self.replica.check();
    }
}

/// What this server holds is not what its log says now.
fn start_again(held: Zxid, end: Zxid, effects: &mut Effects) {
    let why = format!(
        "the log ends with transaction 0x{end} now and this server holds 0x{held}: it has to start \
         again and read what is there"
    );
    effects.list.push(Effect::Fatal(why));
}

/// Commits and applies all that a start has found in the log. There is no connection yet, so
/// nothing is to be done about it.
fn commit_logged(now: Now, replica: &mut Replica) {
    let (zxid, mut effects) = (replica.last_logged(), Effects::default());
    while !replica.is_all_applied() {
        // A turn applies as much as its budget allows.
        replica.begin_turn();
        replica.handle(now, Input::Committed { zxid }, &mut effects);
        invariant!(effects.list.is_empty(), "recovery has read every transaction of the tail");
    }
}
