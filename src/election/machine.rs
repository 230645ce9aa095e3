//! The state machine of one server's elections.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{
    Epoch, Instant, Mark, Mutation, Now, ServerId, Zxid, invariant, is_mutated, mark,
};
use crate::quorum::{Ensemble, Role};
use crate::wire::vote::{Notification, PeerState, Round};

use super::vote::{Ballot, Heard, Vote};

/// What does not change while a server runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// This server.
    pub sid: ServerId,
    /// Whether this server follows or observes once a leader is found.
    pub role: Role,
    /// Until a vote is repeated for the first time (`fastleader.minNotificationInterval`).
    pub repeat_min: Duration,
    /// The longest pause between two repetitions (`fastleader.maxNotificationInterval`).
    pub repeat_max: Duration,
    /// How long a quorum waits for a better vote.
    pub better_vote_wait: Duration,
}

impl Options {
    /// The intervals of ZooKeeper: 200 ms, doubled up to a minute, and 200 ms for a better vote.
    pub fn new(sid: ServerId, role: Role) -> Options {
        Options {
            sid,
            role,
            repeat_min: Duration::from_millis(200),
            repeat_max: Duration::from_secs(60),
            better_vote_wait: Duration::from_millis(200),
        }
    }
}

/// What this server's disk holds, by which it may be elected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// The last logged transaction, committed or not. -1: the history is unknown, and the server
    /// neither counts votes nor is one to vote for, until it finds a leader that others have.
    pub zxid: Zxid,
    /// The epoch of the last leader that this server has taken (`currentEpoch`).
    pub epoch: Epoch,
}

/// What an election is told.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The server has no leader any more: look for one.
    Look(History),
    /// A message has come over the connection of this server.
    Heard(ServerId, &'a Notification<'a>),
    /// There is a connection of the election port with this server.
    Connected(ServerId),
    /// This server's machine says that nobody listens there: it has refused a connection, or reset
    /// one. Silence is something else. Who is unreachable has no better vote: once all others have
    /// voted, nobody is waited for.
    Unreachable(ServerId),
    /// The leader has said that it ends, or has been silent for too long. Nobody waits for its
    /// vote, whether it can be connected to or not, before it says something.
    Gone(ServerId),
    /// The leader has begun to serve, or this server has synchronized with it, in this epoch. From
    /// now on others are told so; if each told the epoch it had voted with, one who comes late
    /// would find no quorum that agrees (ZOOKEEPER-1732).
    EpochEstablished(Epoch),
    /// The time of `deadline` has come.
    Tick,
}

/// What an election wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Tell this server. A message to the same server that has not left yet is out of date.
    Send(ServerId, Ballot),
    /// A leader is found, and the server is to do this from now on.
    Elected {
        /// Leading, following or observing.
        state: PeerState,
        /// The leader, and the history it was elected with.
        vote: Vote,
        /// The voters that stand for it, as far as this server has heard, in ascending order.
        backers: Vec<ServerId>,
    },
    /// A voter looks for a leader while this server leads. If it was one of the backers, it will
    /// not come of its own accord, and a leader that still waits for it may give up
    /// (ZOOKEEPER-3109).
    LooksAgain(ServerId),
    /// This server was elected, and this voter votes for a better one in the same round. Apache's
    /// leader then waits for `initLimit`; one that is not established may as well look again.
    Outvoted(ServerId),
}

/// One server's elections, from the first to the last.
#[derive(Debug)]
pub struct Election {
    options: Options,
    ensemble: Ensemble,
    /// Counts this server's elections; goes ahead to the count of others (`logicalclock`).
    round: Round,
    /// The leader that was found last; before the first, this server itself.
    current: Ballot,
    /// While looking for a leader.
    search: Option<Search>,
    /// Whether the vote of each voter may still come.
    reach: BTreeMap<ServerId, Reach>,
}

/// What is known of the connection with a voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Connected,
    Unreachable,
    /// It was the leader, and is about to end or stands still.
    Gone,
}

/// One search for a leader.
#[derive(Debug)]
struct Search {
    /// What this server votes for on its own account.
    initial: Vote,
    /// Whether this server's own history is known; votes count only then.
    is_known: bool,
    /// The best vote of the round so far, which is what this server votes for.
    proposal: Vote,
    /// The last vote of each voter in this round, with this server's own (`recvset`).
    votes: BTreeMap<ServerId, Heard>,
    /// What servers with a leader say, whatever their round (`outofelection`).
    settled: BTreeMap<ServerId, Heard>,
    /// Who was told this server's vote once more, in this round.
    told_again: BTreeSet<ServerId>,
    repeat: Duration,
    repeat_at: Instant,
    /// While a quorum votes for the proposal: when the wait for a better one ends.
    decide_at: Option<Instant>,
}

impl Election {
    /// A server that looks for its first leader.
    pub fn new(
        options: Options,
        ensemble: Ensemble,
        history: History,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Election {
        let vote = Vote { leader: options.sid, zxid: history.zxid, epoch: history.epoch.into() };
        let round = Round::default();
        let mut election = Election {
            options,
            ensemble,
            round,
            current: Ballot { state: PeerState::Looking, vote, round },
            search: None,
            reach: BTreeMap::new(),
        };
        election.look(now.mono, history, effects);
        election
    }

    /// What this server does, as it tells others.
    pub fn state(&self) -> PeerState {
        self.current.state
    }

    /// The leader that was found last, with the epoch that it has established since.
    pub fn vote(&self) -> Vote {
        self.current.vote
    }

    /// The history of this server that it looks for a leader with; `None` while it has one.
    pub fn stands_with(&self) -> Option<Vote> {
        self.search.as_ref().map(|search| search.initial)
    }

    /// When `Tick` is due; `None` while there is a leader.
    pub fn deadline(&self) -> Option<Instant> {
        let search = self.search.as_ref()?;
        Some(search.decide_at.map_or(search.repeat_at, |at| at.min(search.repeat_at)))
    }

    /// Takes one input. Effects are appended.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Look(history) => self.look(now.mono, history, effects),
            Input::Heard(from, notification) => {
                if self.reach.get(&from) == Some(&Reach::Gone) {
                    self.reach.insert(from, Reach::Connected);
                }
                self.heard(now.mono, from, notification, effects);
            }
            Input::Connected(sid) => self.reached(sid, Reach::Connected),
            Input::Unreachable(sid) => {
                self.reached(sid, Reach::Unreachable);
                self.decide(now.mono, effects);
            }
            Input::Gone(sid) => {
                mark(Mark::LeaderGone);
                self.reached(sid, Reach::Gone);
                self.decide(now.mono, effects);
            }
            Input::EpochEstablished(epoch) => {
                // The leader may have been lost in the meantime; then its epoch is no news.
                if self.search.is_none() {
                    self.current.vote.epoch = epoch.into();
                }
            }
            Input::Tick => self.tick(now.mono, effects),
        }
        self.check();
    }

    fn reached(&mut self, sid: ServerId, reach: Reach) {
        // Nobody waits for the others.
        if self.ensemble.is_voter(sid) && self.reach.get(&sid) != Some(&Reach::Gone) {
            self.reach.insert(sid, reach);
        }
    }

    fn is_voter(&self) -> bool {
        self.options.role == Role::Participant && self.ensemble.is_voter(self.options.sid)
    }

    fn look(&mut self, now: Instant, history: History, effects: &mut Vec<Effect>) {
        let History { zxid, epoch } = history;
        // A member without a vote proposes nobody, but its history.
        let leader = if self.is_voter() { self.options.sid } else { Vote::NOBODY.leader };
        let initial = match self.options.role {
            Role::Participant => Vote { leader, zxid, epoch: epoch.into() },
            Role::Observer => Vote::NOBODY,
        };
        // Other servers choose this number, and Java lets it wrap, too.
        self.round = Round(self.round.0.wrapping_add(1));
        self.current.state = PeerState::Looking;
        self.search = Some(Search {
            initial,
            is_known: initial.zxid != Zxid(-1),
            proposal: initial,
            votes: BTreeMap::new(),
            settled: BTreeMap::new(),
            told_again: BTreeSet::new(),
            repeat: self.options.repeat_min,
            repeat_at: now + self.options.repeat_min,
            decide_at: None,
        });
        self.send_proposal(now, effects);
        self.decide(now, effects);
    }

    /// Tells all voters what this server votes for, itself included.
    fn send_proposal(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let counts = self.is_voter();
        let search = looking(&mut self.search);
        let ballot = Ballot { state: PeerState::Looking, vote: search.proposal, round: self.round };
        let me = self.options.sid;
        if counts && search.is_known && self.ensemble.is_voter(ballot.vote.leader) {
            search.votes.insert(me, Heard { ballot, has_version: false });
        }
        search.repeat_at = now + search.repeat;
        let others = self.ensemble.voters().into_iter().filter(|sid| *sid != me);
        effects.extend(others.map(|sid| Effect::Send(sid, ballot)));
    }

    fn heard(
        &mut self,
        now: Instant,
        from: ServerId,
        notification: &Notification<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let said = Ballot::of(notification);
        if !self.ensemble.is_voter(from) {
            // Observers and servers that want to join: they get an answer and are not counted. It
            // must be of use to them, or an Apache server would answer it again, without end. One
            // that has a leader, or looks in a later round than this server, can use none.
            let is_ahead = self.search.is_some() && said.round > self.round;
            if said.state == PeerState::Looking && !is_ahead {
                effects.push(Effect::Send(from, Ballot { round: self.round, ..self.current }));
            }
            return;
        }
        let Some(search) = &self.search else {
            // Nobody goes by what a server without a vote says.
            if said.state == PeerState::Looking && self.is_voter() {
                effects.push(Effect::Send(from, self.current));
                if self.current.state == PeerState::Leading {
                    effects.push(Effect::LooksAgain(from));
                    let is_better = said.vote.is_better_than(&self.current.vote)
                        && self.ensemble.is_voter(said.vote.leader);
                    if said.round == self.round && is_better {
                        mark(Mark::Outvoted);
                        effects.push(Effect::Outvoted(from));
                    }
                }
            }
            return;
        };
        // A voter does not go by the round of a server without a vote, so that one keeps quiet.
        if said.state == PeerState::Looking && said.round < self.round && self.is_voter() {
            mark(Mark::EarlierRound);
            let proposal =
                Ballot { state: PeerState::Looking, vote: search.proposal, round: self.round };
            effects.push(Effect::Send(from, proposal));
        }
        // A vote for a server that nobody can follow must not win (ZOOKEEPER-2988).
        if from == self.options.sid || !self.ensemble.is_voter(said.vote.leader) {
            return;
        }
        let heard = Heard { ballot: said, has_version: notification.version > 0 };
        match said.state {
            PeerState::Looking => self.take_vote(now, from, said, effects),
            PeerState::Following | PeerState::Leading => self.take_report(from, heard, effects),
            PeerState::Observing => {}
        }
        self.decide(now, effects);
    }

    /// A voter that looks for a leader, too.
    fn take_vote(&mut self, now: Instant, from: ServerId, said: Ballot, effects: &mut Vec<Effect>) {
        let search = looking(&mut self.search);
        if !search.is_known || said.vote.zxid == Zxid(-1) {
            mark(Mark::VoteWithoutHistory);
            return;
        }
        // Somebody else may still hear of a server that this one has left, and could not follow.
        // Votes for it by hearsay would elect it again and again where only few reach it.
        let is_gone = |sid| self.reach.get(&sid) == Some(&Reach::Gone);
        let better = |vote: &Vote, than: &Vote| {
            self.ensemble.committed().quorums().weight(vote.leader) > 0
                && vote.is_better_than(than)
                && !is_gone(vote.leader)
        };
        if is_gone(said.vote.leader) {
            mark(Mark::GoneByHearsay);
        }
        let beats_proposal = better(&said.vote, &search.proposal);
        // A quorum that waits for a better vote begins no new round for a worse one.
        if said.round < self.round
            || (said.round > self.round && search.decide_at.is_some() && !beats_proposal)
        {
            if said.round > self.round {
                mark(Mark::LaterRoundPassedOver);
            }
            return;
        }
        let is_new_round = said.round > self.round;
        if is_new_round {
            self.round = said.round;
            mark(Mark::LaterRound);
            search.votes.clear();
            search.told_again.clear();
            search.decide_at = None;
            // Compared with what this server wanted at first: the proposals of its old round are
            // forgotten.
            let wins = better(&said.vote, &search.initial);
            search.proposal = if wins { said.vote } else { search.initial };
        } else if beats_proposal {
            mark(Mark::BetterVote);
            search.proposal = said.vote;
            search.decide_at = None;
        }
        // What ZooKeeper keeps of a vote has no message version.
        search.votes.insert(from, Heard { ballot: said, has_version: false });
        let missed_ours = better(&search.proposal, &said.vote);
        if is_new_round || beats_proposal {
            self.send_proposal(now, effects);
        } else if missed_ours && search.told_again.insert(from) {
            // It still had a leader when this server's vote came, and would wait until that is
            // repeated. Once in a round is enough; more is what repetitions are for.
            mark(Mark::ToldAgain);
            let ballot =
                Ballot { state: PeerState::Looking, vote: search.proposal, round: self.round };
            effects.push(Effect::Send(from, ballot));
        }
    }

    /// A voter that has a leader. If a quorum has the same, and the leader says so itself, this
    /// server joins.
    fn take_report(&mut self, from: ServerId, heard: Heard, effects: &mut Vec<Effect>) {
        let search = looking(&mut self.search);
        let Ballot { vote, round, state: _ } = heard.ballot;
        // Others still stand for the server that this one was before it lost its database. If it
        // led with nothing, they would be told to forget what they have.
        if vote.leader == self.options.sid && !search.is_known {
            mark(Mark::VotedForWithoutHistory);
            return;
        }
        let is_waiting = search.decide_at.is_some();
        if is_waiting && !vote.is_better_than(&search.proposal) {
            mark(Mark::ReportPassedOver);
            return;
        }
        let is_this_round = round == self.round;
        if is_this_round {
            search.votes.insert(from, Heard { has_version: false, ..heard });
        }
        search.settled.insert(from, heard);
        let joins = |said: &BTreeMap<ServerId, Heard>| {
            let is_leading = |its: &Heard| its.ballot.state == PeerState::Leading;
            let is_confirmed = if vote.leader == self.options.sid {
                is_this_round
            } else {
                said.get(&vote.leader).is_some_and(is_leading)
            };
            let agrees = |sid| said.get(&sid).is_some_and(|its| its.agrees_with(&heard));
            is_confirmed && self.ensemble.is_quorum(agrees)
        };
        // What was heard in this round first, then what was heard in any.
        let backers = if is_this_round && joins(&search.votes) {
            Some(backers(&search.votes, &heard))
        } else {
            joins(&search.settled).then(|| backers(&search.settled, &heard))
        };
        if let Some(backers) = backers {
            mark(Mark::JoinsLeader);
            self.round = round;
            self.finish(vote, backers, effects);
        }
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.decide(now, effects);
        // A decision leaves nothing to repeat.
        let Some(search) = self.search.as_mut().filter(|search| search.repeat_at <= now) else {
            return;
        };
        mark(Mark::VoteRepeated);
        search.repeat = (search.repeat * 2).min(self.options.repeat_max);
        self.send_proposal(now, effects);
    }

    /// Ends the search if a quorum votes for the proposal, and nothing better comes.
    fn decide(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        // A vote may have ended the search.
        let Some(search) = &self.search else { return };
        let ballot = Ballot { state: PeerState::Looking, vote: search.proposal, round: self.round };
        let backers = backers(&search.votes, &Heard { ballot, has_version: false });
        let is_enough = self.ensemble.is_quorum(|sid| backers.binary_search(&sid).is_ok());
        if !is_enough && !is_mutated(Mutation::ElectAlone) {
            self.wait_until(None);
            return;
        }
        let decide_at = search.decide_at.unwrap_or(now + self.options.better_vote_wait);
        if decide_at <= now || self.have_all_voted(search) {
            if backers.len() < self.ensemble.voters().len() {
                mark(Mark::DecidesOnUnreachable);
            }
            self.finish(ballot.vote, backers, effects);
        } else {
            mark(Mark::WaitsForBetterVote);
            self.wait_until(Some(decide_at));
        }
    }

    fn wait_until(&mut self, decide_at: Option<Instant>) {
        if let Some(search) = &mut self.search {
            search.decide_at = decide_at;
        }
    }

    /// Whether nobody is left who could come with a better vote: each has voted in this round, or
    /// does not run. One of whom nothing is known yet may still come.
    fn have_all_voted(&self, search: &Search) -> bool {
        self.ensemble.voters().iter().all(|sid| {
            *sid == self.options.sid
                || search.votes.contains_key(sid)
                || self.reach.get(sid).is_some_and(|reach| *reach != Reach::Connected)
        })
    }

    fn finish(&mut self, vote: Vote, backers: Vec<ServerId>, effects: &mut Vec<Effect>) {
        let state = match self.options.role {
            _ if vote.leader == self.options.sid => PeerState::Leading,
            Role::Participant => PeerState::Following,
            Role::Observer => PeerState::Observing,
        };
        self.search = None;
        self.current = Ballot { state, vote, round: self.round };
        effects.push(Effect::Elected { state, vote, backers });
    }

    /// What holds between two inputs.
    fn check(&self) {
        let is_looking = self.current.state == PeerState::Looking;
        invariant!(is_looking == self.search.is_some(), "a server without a leader looks for one");
        let Some(search) = &self.search else { return };
        invariant!(
            !search.initial.is_better_than(&search.proposal),
            "no server votes for a worse leader than itself"
        );
        let is_own = search
            .votes
            .get(&self.options.sid)
            .is_none_or(|own| own.ballot.vote == search.proposal && own.ballot.round == self.round);
        invariant!(is_own, "a server counts for itself what it tells others");
    }
}

/// Who agrees with `one`, in ascending order.
fn backers(said: &BTreeMap<ServerId, Heard>, one: &Heard) -> Vec<ServerId> {
    said.iter().filter(|(_, its)| its.agrees_with(one)).map(|(sid, _)| *sid).collect()
}

/// The search, for those who are called during one.
fn looking(search: &mut Option<Search>) -> &mut Search {
    match search {
        Some(search) => search,
        None => unreachable!("votes are counted while looking for a leader only"),
    }
}
