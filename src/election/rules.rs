//! One test for each rule of an election: one server, whose peers are written here.

use std::time::Duration;

use super::{Ballot, Effect, Election, History, Input, Options, Vote};
use crate::base::{Epoch, Instant, Now, ServerId, Zxid};
use crate::quorum::{Ensemble, Membership, Role};
use crate::wire::vote::{Notification, PeerState, Round, VoteEpoch};

pub(super) fn ensemble(voters: i64, observers: i64) -> Ensemble {
    let line = |sid: i64| {
        let role = if sid > voters { "observer" } else { "participant" };
        format!("server.{sid}=h{sid}:1:2:{role}\n")
    };
    let text: String = (1..=voters + observers).map(line).collect();
    Ensemble::new(Membership::parse(&text).unwrap().into())
}

pub(super) fn now(ms: u64) -> Now {
    Now { mono: Instant::from_ms(ms), wall_ms: 0 }
}

fn vote(leader: i64, zxid: i64, epoch: i64) -> Vote {
    Vote { leader: ServerId(leader), zxid: Zxid(zxid), epoch: VoteEpoch(epoch) }
}

fn ballot(state: PeerState, vote: Vote, round: i64) -> Ballot {
    Ballot { state, vote, round: Round(round) }
}

use PeerState::{Following, Leading, Looking, Observing};

/// Server 3 of five voters, with an observer 6; its history is zxid 10 of epoch 1.
struct Script {
    election: Election,
    ms: u64,
    effects: Vec<Effect>,
}

const OWN: History = History { zxid: Zxid(10), epoch: Epoch(1) };

impl Script {
    fn start() -> Script {
        Script::of(3, 5, OWN)
    }

    fn of(sid: i64, voters: i64, history: History) -> Script {
        let role = if sid > voters { Role::Observer } else { Role::Participant };
        let (mut effects, options) = (Vec::new(), Options::new(ServerId(sid), role));
        let ensemble = ensemble(voters, 2);
        let election = Election::new(options, ensemble, history, now(0), &mut effects);
        Script { election, ms: 0, effects }
    }

    fn take(&mut self, input: Input<'_>) -> Vec<Effect> {
        self.effects.clear();
        self.election.handle(now(self.ms), input, &mut self.effects);
        self.effects.clone()
    }

    fn hear(&mut self, from: i64, ballot: Ballot) -> Vec<Effect> {
        let notification = ballot.notification(b"");
        self.take(Input::Heard(ServerId(from), &notification))
    }

    /// From a server that gives no message version.
    fn hear_old(&mut self, from: i64, ballot: Ballot) -> Vec<Effect> {
        let notification = Notification { version: 0, config: None, ..ballot.notification(b"") };
        self.take(Input::Heard(ServerId(from), &notification))
    }

    fn after(&mut self, ms: u64) -> Vec<Effect> {
        self.ms += ms;
        self.take(Input::Tick)
    }

    /// Ends with the leader that is elected after the wait for a better vote.
    fn elected(&mut self) -> Option<Vote> {
        leader(&self.after(200))
    }
}

fn leader(effects: &[Effect]) -> Option<Vote> {
    effects.iter().find_map(|effect| match effect {
        Effect::Elected { vote, .. } => Some(*vote),
        Effect::Send(..) | Effect::LooksAgain(_) | Effect::Outvoted(_) => None,
    })
}

fn to(sids: &[i64], ballot: Ballot) -> Vec<Effect> {
    sids.iter().map(|sid| Effect::Send(ServerId(*sid), ballot)).collect()
}

/// What server 3 votes for itself.
fn own() -> Vote {
    vote(3, 10, 1)
}

#[test]
fn the_order_of_votes_is_total() {
    let values = [i64::MIN, -1, 0, 1, i64::MAX];
    let mut votes = Vec::new();
    for leader in values {
        for zxid in values {
            votes.extend(values.map(|epoch| vote(leader, zxid, epoch)));
        }
    }
    for a in &votes {
        for b in &votes {
            let count = usize::from(a.is_better_than(b)) + usize::from(b.is_better_than(a));
            assert_eq!(count, usize::from(a != b), "{a:?} {b:?}");
            // By the order of three numbers, it is transitive.
            let key = |vote: &Vote| (vote.epoch.0, vote.zxid.0, vote.leader.0);
            assert_eq!(a.is_better_than(b), key(a) > key(b));
        }
    }
}

#[test]
fn a_server_first_votes_for_itself() {
    let script = Script::start();
    assert_eq!(script.effects, to(&[1, 2, 4, 5], ballot(Looking, own(), 1)));
    assert_eq!(script.election.state(), Looking);
}

#[test]
fn a_better_vote_is_taken_over_and_a_worse_one_is_not() {
    for worse in [vote(2, 10, 1), vote(5, 9, 1), vote(5, 99, 0)] {
        // Who has it may have missed this server's, and is told once.
        let mut script = Script::start();
        let sent = script.hear(1, ballot(Looking, worse, 1));
        assert_eq!(sent, to(&[1], ballot(Looking, own(), 1)), "{worse:?}");
        assert_eq!(script.hear(1, ballot(Looking, worse, 1)), [], "{worse:?}");
    }
    assert_eq!(Script::start().hear(1, ballot(Looking, own(), 1)), []);
    for better in [vote(4, 10, 1), vote(1, 11, 1), vote(1, 0, 2)] {
        let sent = Script::start().hear(1, ballot(Looking, better, 1));
        assert_eq!(sent, to(&[1, 2, 4, 5], ballot(Looking, better, 1)));
    }
}

#[test]
fn who_is_in_an_older_round_is_told_and_not_counted() {
    let mut script = Script::start();
    script.hear(1, ballot(Looking, own(), 7));
    let sent = script.hear(2, ballot(Looking, vote(5, 99, 9), 6));
    assert_eq!(sent, to(&[2], ballot(Looking, own(), 7)));
    script.hear(2, ballot(Looking, own(), 6));
    assert_eq!(script.elected(), None);
}

#[test]
fn a_newer_round_begins_with_what_the_server_wanted_first() {
    let mut script = Script::start();
    script.hear(5, ballot(Looking, vote(5, 99, 9), 1));
    script.hear(4, ballot(Looking, vote(5, 99, 9), 1));
    script.take(Input::Look(OWN));
    // Round 2 has begun; a worse vote of round 4 makes the server vote for itself there.
    let sent = script.hear(1, ballot(Looking, vote(1, 1, 1), 4));
    assert_eq!(sent, to(&[1, 2, 4, 5], ballot(Looking, own(), 4)));
    // Votes of earlier rounds are gone.
    script.hear(2, ballot(Looking, own(), 4));
    assert_eq!(script.elected(), None);
    script.hear(1, ballot(Looking, own(), 4));
    assert_eq!(script.elected(), Some(own()));
    // A better one is taken over from the newer round.
    let mut script = Script::start();
    let sent = script.hear(1, ballot(Looking, vote(1, 11, 1), 4));
    assert_eq!(sent, to(&[1, 2, 4, 5], ballot(Looking, vote(1, 11, 1), 4)));
}

#[test]
fn a_quorum_waits_for_a_better_vote() {
    let mut script = Script::start();
    script.hear(1, ballot(Looking, own(), 1));
    assert_eq!(script.hear(2, ballot(Looking, own(), 1)), []);
    assert_eq!(script.election.deadline(), Some(Instant::from_ms(200)));
    script.ms = 199;
    // Worse votes do not put it off, nor does a newer round that brings nothing better.
    let again = script.hear(4, ballot(Looking, vote(2, 10, 1), 1));
    assert_eq!(again, to(&[4], ballot(Looking, own(), 1)));
    assert_eq!(script.hear(4, ballot(Looking, vote(2, 10, 1), 8)), []);
    let effects = script.after(1);
    let backers = [1, 2, 3].map(ServerId).to_vec();
    assert_eq!(effects, [Effect::Elected { state: Leading, vote: own(), backers }]);
    assert_eq!(script.election.deadline(), None);

    let mut script = Script::start();
    script.hear(1, ballot(Looking, own(), 1));
    script.hear(2, ballot(Looking, own(), 1));
    script.ms = 199;
    let better = vote(5, 10, 1);
    assert_eq!(script.hear(5, ballot(Looking, better, 1)).len(), 4);
    assert_eq!(script.after(1), []);
    script.hear(1, ballot(Looking, better, 1));
    assert_eq!(script.after(199), to(&[1, 2, 4, 5], ballot(Looking, better, 1)));
    let effects = script.after(1);
    let backers = [1, 3, 5].map(ServerId).to_vec();
    assert_eq!(effects, [Effect::Elected { state: Following, vote: better, backers }]);
}

#[test]
fn a_voter_that_starts_anew_no_longer_stands_for_its_old_vote() {
    let mut script = Script::start();
    script.hear(1, ballot(Looking, own(), 1));
    script.hear(2, ballot(Looking, own(), 1));
    script.hear(2, ballot(Looking, vote(2, 1, 0), 1));
    assert_eq!(script.elected(), None);
}

#[test]
fn nobody_is_waited_for_when_nothing_better_can_come() {
    // All have voted.
    let mut script = Script::start();
    for sid in [1, 2, 4] {
        script.take(Input::Connected(ServerId(sid)));
        assert_eq!(leader(&script.hear(sid, ballot(Looking, own(), 1))), None);
    }
    let worse = ballot(Looking, vote(5, 1, 0), 1);
    assert_eq!(leader(&script.hear(5, worse)), Some(own()));

    // The others do not run. One that is silent may still come.
    let mut script = Script::start();
    script.take(Input::Unreachable(ServerId(4)));
    script.hear(1, ballot(Looking, own(), 1));
    assert_eq!(script.hear(2, ballot(Looking, own(), 1)), []);
    assert_eq!(leader(&script.take(Input::Unreachable(ServerId(5)))), Some(own()));

    // One that was unreachable and has come back is waited for.
    let mut script = Script::start();
    script.take(Input::Unreachable(ServerId(4)));
    script.take(Input::Unreachable(ServerId(5)));
    script.take(Input::Connected(ServerId(5)));
    script.hear(1, ballot(Looking, own(), 1));
    assert_eq!(script.hear(2, ballot(Looking, own(), 1)), []);
    assert_eq!(script.elected(), Some(own()));

    // The leader before has gone, until it says something.
    let mut script = Script::start();
    script.take(Input::Unreachable(ServerId(4)));
    script.take(Input::Gone(ServerId(5)));
    script.take(Input::Connected(ServerId(5)));
    script.hear(1, ballot(Looking, own(), 1));
    assert_eq!(leader(&script.hear(2, ballot(Looking, own(), 1))), Some(own()));
    let mut script = Script::start();
    script.take(Input::Unreachable(ServerId(4)));
    script.take(Input::Gone(ServerId(5)));
    script.hear(5, ballot(Looking, vote(5, 1, 0), 0));
    script.hear(1, ballot(Looking, own(), 1));
    assert_eq!(script.hear(2, ballot(Looking, own(), 1)), []);

    // Without a quorum nobody is elected, however few run.
    let mut script = Script::start();
    script.hear(1, ballot(Looking, own(), 1));
    for sid in [2, 4, 5] {
        assert_eq!(script.take(Input::Unreachable(ServerId(sid))), []);
    }
}

/// Only server 1 reaches server 5, the best of all, which others could not follow.
#[test]
fn nobody_votes_by_hearsay_for_a_server_that_it_has_left() {
    let best = vote(5, 20, 1);
    let mut script = Script::start();
    script.take(Input::Gone(ServerId(5)));
    assert_eq!(script.hear(1, ballot(Looking, best, 1)), []);
    script.hear(2, ballot(Looking, own(), 1));
    assert_eq!(leader(&script.hear(4, ballot(Looking, own(), 1))), Some(own()));

    let mut script = Script::start();
    script.take(Input::Gone(ServerId(5)));
    let took_over = script.hear(5, ballot(Looking, best, 1));
    assert_eq!(took_over[..4], to(&[1, 2, 4, 5], ballot(Looking, best, 1)), "its own word");
}

#[test]
fn a_lone_voter_elects_itself_at_once() {
    let script = Script::of(1, 1, OWN);
    assert_eq!(leader(&script.effects), Some(vote(1, 10, 1)));
}

#[test]
fn a_server_joins_a_leader_that_a_quorum_has_and_that_says_so() {
    let led = vote(4, 50, 2);
    let mut script = Script::start();
    // Three follow, but the leader itself is not heard.
    for sid in [1, 2, 5] {
        assert_eq!(script.hear(sid, ballot(Following, led, 9)), []);
    }
    // Its own word that it follows does not help.
    assert_eq!(script.hear(4, ballot(Following, led, 9)), []);
    let effects = script.hear(4, ballot(Leading, led, 9));
    let backers = [1, 2, 4, 5].map(ServerId).to_vec();
    assert_eq!(effects, [Effect::Elected { state: Following, vote: led, backers }]);
    // The round is the leader's from now on.
    let mut sent = script.take(Input::Look(OWN));
    assert_eq!(sent.remove(0), to(&[1], ballot(Looking, own(), 10)).remove(0));
}

#[test]
fn a_leader_without_a_quorum_convinces_nobody() {
    let led = vote(4, 50, 2);
    let mut script = Script::start();
    script.hear(4, ballot(Leading, led, 9));
    assert_eq!(script.hear(1, ballot(Following, led, 9)), []);
    // Others may have been elected in other rounds and with another zxid, but not in another epoch.
    assert_eq!(script.hear(2, ballot(Following, vote(4, 50, 1), 9)), []);
    assert_eq!(leader(&script.hear(2, ballot(Following, vote(4, 7, 2), 5))).unwrap().leader.0, 4);
}

#[test]
fn of_old_servers_the_epoch_does_not_count() {
    let mut script = Script::start();
    script.hear(4, ballot(Leading, vote(4, 50, 2), 9));
    script.hear(1, ballot(Following, vote(4, 50, 2), 9));
    let effects = script.hear_old(2, ballot(Following, vote(4, 50, 0), 9));
    assert_eq!(leader(&effects).unwrap().leader.0, 4);

    // Two old ones compare epochs among themselves.
    let mut script = Script::start();
    script.hear_old(4, ballot(Leading, vote(4, 50, 2), 9));
    script.hear_old(1, ballot(Following, vote(4, 50, 2), 9));
    assert_eq!(script.hear_old(2, ballot(Following, vote(4, 50, 0), 9)), []);
}

#[test]
fn in_its_own_round_a_server_counts_votes_and_reports_together() {
    let led = vote(4, 50, 2);
    let mut script = Script::start();
    // A vote counts for a report if all of it is equal.
    script.hear(4, ballot(Looking, led, 1));
    script.hear(4, ballot(Leading, led, 1));
    let effects = script.hear(1, ballot(Following, led, 1));
    let backers = [1, 3, 4].map(ServerId).to_vec();
    assert_eq!(effects, [Effect::Elected { state: Following, vote: led, backers }]);
}

#[test]
fn a_server_that_others_follow_leads_in_their_round_only() {
    for (round, leads) in [(1, true), (2, false)] {
        let mut script = Script::start();
        script.hear(1, ballot(Following, own(), round));
        script.hear(2, ballot(Following, own(), round));
        let effects = script.hear(4, ballot(Following, own(), round));
        assert_eq!(leader(&effects).is_some() || script.election.state() == Leading, leads);
    }
}

#[test]
fn votes_for_unknown_servers_win_nothing() {
    for state in [Looking, Leading, Following] {
        let mut script = Script::start();
        // 6 is an observer, 9 is nobody.
        for candidate in [6, 9, i64::MAX, i64::MIN] {
            for from in [1, 2, 4, 5] {
                assert_eq!(script.hear(from, ballot(state, vote(candidate, 99, 9), 1)), []);
            }
        }
        assert_eq!(script.elected(), None);
    }
}

#[test]
fn an_unknown_history_neither_votes_nor_is_voted_for() {
    let unknown = History { zxid: Zxid(-1), epoch: Epoch(0) };
    let mut script = Script::of(3, 3, unknown);
    assert_eq!(script.effects, to(&[1, 2], ballot(Looking, vote(3, -1, 0), 1)));
    let better = ballot(Looking, vote(2, 5, 1), 1);
    assert_eq!(script.hear(1, better), []);
    assert_eq!(script.hear(2, better), []);
    assert_eq!(script.elected(), None);
    // It joins a leader that others have.
    script.hear(1, ballot(Following, vote(2, 5, 1), 1));
    assert_eq!(leader(&script.hear(2, ballot(Leading, vote(2, 5, 1), 1))), Some(vote(2, 5, 1)));

    // Others have not noticed yet that it has ended and lost its database.
    let mut script = Script::of(3, 3, unknown);
    for from in [1, 2, 1] {
        assert_eq!(script.hear(from, ballot(Following, vote(3, 5, 1), 1)), []);
    }
    assert_eq!(script.elected(), None);

    let mut script = Script::of(1, 3, History { zxid: Zxid(-5), epoch: Epoch(1) });
    assert_eq!(script.hear(2, ballot(Looking, vote(2, -1, 9), 1)), []);
}

#[test]
fn an_observer_asks_voters_and_follows_their_choice() {
    let mut script = Script::of(6, 5, OWN);
    assert_eq!(script.effects, to(&[1, 2, 3, 4, 5], ballot(Looking, Vote::NOBODY, 1)));
    let led = vote(4, 50, 2);
    script.hear(1, ballot(Following, led, 9));
    script.hear(2, ballot(Following, led, 9));
    let effects = script.hear(4, ballot(Leading, led, 9));
    let backers = [1, 2, 4].map(ServerId).to_vec();
    assert_eq!(effects, [Effect::Elected { state: Observing, vote: led, backers }]);

    // It also goes by votes, of which its own is none.
    let mut script = Script::of(6, 5, OWN);
    script.hear(1, ballot(Looking, led, 9));
    script.hear(2, ballot(Looking, led, 9));
    assert_eq!(script.elected(), None);
    script.hear(3, ballot(Looking, led, 9));
    assert_eq!(script.elected(), Some(led));
}

#[test]
fn who_has_no_vote_is_answered_and_not_counted() {
    let question = ballot(Looking, Vote::NOBODY, 1);
    let mut script = Script::start();
    for sid in [6, 9, -1] {
        assert_eq!(script.hear(sid, question), to(&[sid], ballot(Looking, own(), 1)));
        script.hear(sid, ballot(Looking, own(), 1));
    }
    assert_eq!(script.elected(), None);
    // With a leader: the round of the last election is told, not the round of the vote.
    let led = vote(4, 50, 2);
    for (from, state) in [(1, Following), (2, Following), (4, Leading)] {
        script.hear(from, ballot(state, led, 9));
    }
    assert_eq!(script.hear(6, question), to(&[6], ballot(Following, led, 9)));
    script.take(Input::Look(OWN));
    assert_eq!(script.hear(6, question), to(&[6], ballot(Looking, led, 10)));
}

#[test]
fn a_voter_and_an_observer_do_not_answer_each_other_without_end() {
    // The observer looks in a later round, or has a leader.
    let mut script = Script::start();
    assert_eq!(script.hear(6, ballot(Looking, Vote::NOBODY, 2)), []);
    assert_eq!(script.hear(6, ballot(Observing, own(), 1)), []);
    // The same from the observer's side.
    let mut script = Script::of(6, 3, OWN);
    script.take(Input::Look(OWN));
    assert_eq!(script.hear(1, ballot(Looking, own(), 1)), []);
    script.hear(1, ballot(Following, vote(2, 5, 1), 1));
    script.hear(2, ballot(Leading, vote(2, 5, 1), 1));
    assert_eq!(script.election.state(), Observing);
    assert_eq!(script.hear(1, ballot(Looking, own(), 1)), []);
}

#[test]
fn a_server_with_a_leader_answers_voters_that_look() {
    let mut script = Script::of(3, 3, OWN);
    script.hear(1, ballot(Looking, own(), 1));
    script.hear(2, ballot(Looking, own(), 1));
    assert_eq!(script.election.state(), Leading);
    let question = ballot(Looking, vote(1, 99, 9), 5);
    let answer = to(&[1], ballot(Leading, own(), 1)).remove(0);
    assert_eq!(script.hear(1, question), [answer, Effect::LooksAgain(ServerId(1))]);
    for state in [Following, Leading, Observing] {
        assert_eq!(script.hear(1, ballot(state, vote(1, 99, 9), 5)), []);
    }
    // Once the epoch is established, it is what all tell.
    script.take(Input::EpochEstablished(Epoch(2)));
    let answer = to(&[2], ballot(Leading, vote(3, 10, 2), 1)).remove(0);
    assert_eq!(script.hear(2, question), [answer, Effect::LooksAgain(ServerId(2))]);
    assert_eq!(script.election.vote(), vote(3, 10, 2));
}

#[test]
fn an_epoch_that_comes_too_late_is_no_news() {
    let mut script = Script::start();
    script.take(Input::EpochEstablished(Epoch(7)));
    let sent = script.hear(6, ballot(Looking, Vote::NOBODY, 1));
    assert_eq!(sent, to(&[6], ballot(Looking, own(), 1)));
}

#[test]
fn a_vote_is_repeated_less_and_less_often() {
    let mut script = Script::start();
    let (mut at, mut pause) = (0, 200);
    for _ in 0..12 {
        at += pause;
        assert_eq!(script.election.deadline(), Some(Instant::from_ms(at)));
        script.ms = at - 1;
        assert_eq!(script.take(Input::Tick), []);
        // Messages do not put it off.
        script.hear(1, ballot(Looking, vote(1, 1, 1), 1));
        assert_eq!(script.after(1), to(&[1, 2, 4, 5], ballot(Looking, own(), 1)));
        pause = (pause * 2).min(60_000);
    }
    let sixty = Duration::from_secs(60);
    assert_eq!(script.election.deadline(), Some(Instant::from_ms(at) + sixty));
    // The next search begins with short pauses.
    script.take(Input::Look(OWN));
    assert_eq!(script.election.deadline(), Some(Instant::from_ms(at + 200)));
}

#[test]
fn a_stale_vote_on_a_fresh_connection_does_no_harm() {
    // The last message is sent again on a fresh connection: here, of an election that is over.
    let led = vote(4, 50, 2);
    let mut script = Script::start();
    let stale = ballot(Looking, vote(5, 1, 1), 1);
    for (from, state) in [(1, Following), (2, Following), (4, Leading)] {
        script.hear(from, stale);
        script.hear(from, ballot(state, led, 9));
    }
    assert_eq!(script.election.vote().leader, ServerId(4));
    assert_eq!(script.election.state(), Following);
}

#[test]
fn rounds_wrap_around_where_others_choose_them() {
    let mut script = Script::start();
    script.hear(1, ballot(Looking, own(), i64::MAX));
    let sent = script.take(Input::Look(OWN));
    assert_eq!(sent[0], to(&[1], ballot(Looking, own(), i64::MIN)).remove(0));
}

#[test]
fn a_leader_hears_of_a_voter_that_has_found_a_better_one() {
    let mut script = Script::start();
    for sid in [1, 2, 4, 5] {
        script.hear(sid, ballot(Looking, own(), 1));
    }
    assert_eq!(script.election.state(), Leading);
    let outvoted = |effects: &[Effect]| effects.contains(&Effect::Outvoted(ServerId(1)));
    assert!(!outvoted(&script.hear(1, ballot(Looking, vote(1, 9, 1), 1))), "an earlier vote");
    assert!(!outvoted(&script.hear(1, ballot(Looking, vote(4, 10, 1), 0))), "an earlier round");
    assert!(!outvoted(&script.hear(1, ballot(Looking, vote(77, 10, 1), 1))), "no voter");
    assert!(outvoted(&script.hear(1, ballot(Looking, vote(4, 10, 1), 1))));
}
