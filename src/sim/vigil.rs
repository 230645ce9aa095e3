//! What must hold of the sessions of an ensemble, beside what their transactions do: when they may
//! expire, in which order their requests are done, and who may be told that a session has moved.
//!
//! A session expires by the word of the leader, who hears of clients through its learners. So
//! being heard counts for certain only at a member that went on to serve for as long as the next
//! answer to a PING may take, with nothing the matter on the network.

use std::collections::VecDeque;

use crate::base::{FixedMap, SessionId};
use crate::member::Role;

use super::node::TICK_MS;

const MS: u64 = 1_000_000;

/// Until then a leader has asked a learner for the sessions that were used, and has its answer:
/// half a tick between two questions, and as much for all delays.
const TOLD_WITHIN: u64 = TICK_MS * MS;

/// A member finds out within this that another one is gone without a word: `syncLimit`, and more.
const SILENCE: u64 = 4_000 * MS;

/// Parts in a hundred by which a clock goes wrong at most.
const DRIFT: u64 = 3;

/// A connection that its client has given up may bring something about for so long.
const PATIENCE: u64 = 20_000 * MS;

/// How a member serves.
#[derive(Clone, Copy, Debug, Default)]
struct Service {
    /// Counts the services of this member.
    number: u64,
    /// Since when; `None` while it serves nobody.
    since: Option<u64>,
}

#[derive(Debug, Default)]
struct Watched {
    /// The leader had heard of it by then, for certain.
    heard: u64,
    /// When members have heard of it, and in which of their services.
    told: VecDeque<(u64, usize, u64)>,
    /// Connections that have brought it along.
    moves: u32,
    /// Until then a connection that its client has given up may still bring it along. The client
    /// sees so with its next request, whenever that is, so one that is done afterwards ends it.
    confused_until: Option<u64>,
    /// The last request that was done.
    done: i32,
}

/// See the module's introduction. Times are nanoseconds of virtual time.
#[derive(Debug)]
pub(super) struct Vigil {
    services: Vec<Service>,
    sessions: FixedMap<SessionId, Watched>,
    /// Any member that joins a leader makes a quorum with it.
    is_small: bool,
    /// Until then the network may have kept something back.
    disturbed_until: u64,
    /// When a member died last.
    died_at: u64,
}

type Checked = Result<(), String>;

impl Vigil {
    /// Of that many members, of which nobody serves.
    pub fn new(members: usize, voters: usize) -> Vigil {
        Vigil {
            is_small: voters == members && voters <= 3,
            services: vec![Service::default(); members],
            sessions: FixedMap::default(),
            disturbed_until: 0,
            died_at: 0,
        }
    }

    /// Members do not hear of each other, or of their clients, as they should, until this time.
    pub fn disturbed(&mut self, until: u64) {
        self.disturbed_until = self.disturbed_until.max(until);
    }

    /// A member has had a turn, and has this role now; `None` if there is no such process.
    /// Returns whether it begins to serve.
    pub fn plays(&mut self, now: u64, member: usize, role: Option<Role>) -> bool {
        if role.is_none() {
            self.died_at = now;
        }
        let service = &mut self.services[member];
        let serves = !matches!(role, None | Some(Role::Looking));
        match (service.since, serves) {
            (None, true) => (service.since, service.number) = (Some(now), service.number + 1),
            (Some(_), false) => service.since = None,
            _ => return false,
        }
        serves
    }

    /// Since when the member serves, if nothing has been the matter since `since`, or since it
    /// began if that was later.
    pub fn serves_calmly(&self, member: usize, since: u64) -> Option<u64> {
        let began = self.services[member].since?;
        let since = since.max(began);
        // Who serves since then and makes a quorum does not depend on the dead.
        let is_anew = self.is_small && began > self.died_at;
        let knows_of_deaths = is_anew || self.died_at + SILENCE <= since;
        (self.disturbed_until <= since && knows_of_deaths).then_some(since)
    }

    /// Whether a member serves, and something has been the matter of which it may not know yet.
    pub fn may_be_cut_off(&self, now: u64, member: usize) -> bool {
        self.services[member].since.is_some() && self.serves_calmly(member, now).is_none()
    }

    /// A client brings its session along.
    pub fn moves(&mut self, session: SessionId) {
        self.sessions.entry(session).or_default().moves += 1;
    }

    /// Its client does not wait for the answer, which may come all the same.
    pub fn gives_up(&mut self, now: u64, session: SessionId) {
        self.sessions.entry(session).or_default().confused_until = Some(now + PATIENCE);
    }

    /// How often a session was brought along so far.
    pub fn count_moves(&self, session: SessionId) -> u32 {
        self.sessions.get(&session).map_or(0, |watched| watched.moves)
    }

    /// A member has heard of a session.
    pub fn heard(&mut self, now: u64, member: usize, session: SessionId) {
        // A leader that is cut off counts as little as a learner that is.
        let Service { number, since } = self.services[member];
        let watched = self.sessions.entry(session).or_default();
        if since.is_some() {
            watched.told.push_back((now, member, number));
        }
        self.settle(now, session);
    }

    /// Finds out of which touches the leader knows.
    fn settle(&mut self, now: u64, session: SessionId) {
        let Some(watched) = self.sessions.get_mut(&session) else { return };
        let due = watched.told.iter().take_while(|(at, ..)| at + TOLD_WITHIN <= now).count();
        let due: Vec<_> = watched.told.drain(..due).collect();
        let is_sure = |&&(at, member, number): &&(u64, usize, u64)| {
            self.services[member].number == number && self.serves_calmly(member, at) == Some(at)
        };
        let last = due.iter().filter(is_sure).map(|(at, ..)| *at).max();
        if let (Some(watched), Some(last)) = (self.sessions.get_mut(&session), last) {
            watched.heard = watched.heard.max(last);
        }
    }

    /// A leader ends a session because nobody was heard of it.
    pub fn expires(
        &mut self,
        now: u64,
        leader: usize,
        session: SessionId,
        timeout_ms: i32,
    ) -> Checked {
        self.settle(now, session);
        let heard = self.sessions.get(&session).map_or(0, |watched| watched.heard);
        let began = self.services[leader].since.unwrap_or(0);
        let silent = now.saturating_sub(heard.max(began)) / MS;
        let least = u64::from(timeout_ms.unsigned_abs()) * (100 - DRIFT) / 100;
        match silent < least {
            true => Err(format!("{session:?} expires after {silent} of {timeout_ms} ms")),
            false => Ok(()),
        }
    }

    /// A session begins. Its id may be the id of one that has ended: ids begin with the time of the
    /// start, and a clock can be set back by just as much.
    pub fn begins(&mut self, session: SessionId) {
        self.sessions.entry(session).or_default().done = 0;
    }

    /// A request of a session is done, whatever came of it. What the client has left behind at
    /// another member is not done after what it asked for later.
    pub fn done(&mut self, now: u64, session: SessionId, xid: i32) -> Checked {
        let watched = self.sessions.entry(session).or_default();
        watched.confused_until = watched.confused_until.filter(|until| now < *until);
        let before = watched.done;
        watched.done = before.max(xid);
        match before < xid {
            true => Ok(()),
            false => Err(format!("request {xid} of {session:?} is done after {before}")),
        }
    }

    /// A request is refused because its session has moved to another member.
    /// `moves`: how often it had been brought along when the request was sent.
    pub fn refused_as_moved(&self, now: u64, session: SessionId, moves: u32) -> Checked {
        let watched = self.sessions.get(&session);
        let is_excused = watched.is_some_and(|watched| watched.confused_until.is_some());
        match is_excused || self.disturbed_until > now || self.count_moves(session) > moves {
            true => Ok(()),
            false => Err(format!("{session:?} counts as moved, and its client has stayed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(7);
    const SECOND: u64 = 1_000 * MS;

    /// Member 0 leads since 1 s, member 1 follows.
    fn vigil() -> Vigil {
        let mut vigil = Vigil::new(2, 2);
        vigil.plays(SECOND, 0, Some(Role::Leading));
        vigil.plays(SECOND, 1, Some(Role::Following));
        vigil
    }

    #[test]
    fn a_session_has_its_time_since_the_leader_began_or_heard_of_it() {
        let mut vigil = vigil();
        vigil.expires(2 * SECOND, 0, S, 2_000).unwrap_err();
        vigil.expires(3 * SECOND, 0, S, 2_000).unwrap();
        vigil.heard(4 * SECOND, 0, S);
        vigil.expires(5 * SECOND, 0, S, 2_000).unwrap_err();
        vigil.heard(5 * SECOND, 1, S);
        vigil.expires(6 * SECOND, 0, S, 2_000).unwrap_err();
        vigil.expires(7 * SECOND, 0, S, 2_000).unwrap();
    }

    #[test]
    fn what_a_learner_could_not_tell_does_not_count() {
        let ends: [fn(&mut Vigil); 3] = [
            |vigil| {
                vigil.plays(5 * SECOND + MS, 1, None);
            },
            |vigil| vigil.disturbed(5 * SECOND + MS),
            |vigil| {
                vigil.plays(5 * SECOND + MS, 1, Some(Role::Looking));
                vigil.plays(5 * SECOND + 2 * MS, 1, Some(Role::Following));
            },
        ];
        for end in ends {
            let mut vigil = vigil();
            vigil.heard(5 * SECOND, 1, S);
            end(&mut vigil);
            vigil.expires(6 * SECOND, 0, S, 2_000).unwrap();
        }
        // It had half a tick's time at most.
        let mut vigil = vigil();
        vigil.heard(5 * SECOND, 1, S);
        vigil.expires(5 * SECOND + MS, 0, S, 2_000).unwrap();
    }

    #[test]
    fn requests_are_done_in_order_and_only_who_moved_has_moved() {
        let mut vigil = vigil();
        vigil.done(SECOND, S, 4).unwrap();
        vigil.done(SECOND, S, 6).unwrap();
        vigil.done(SECOND, S, 5).unwrap_err();
        vigil.refused_as_moved(SECOND, S, 0).unwrap_err();
        vigil.moves(S);
        vigil.refused_as_moved(SECOND, S, 0).unwrap();
        vigil.refused_as_moved(SECOND, S, 1).unwrap_err();
        vigil.gives_up(SECOND, S);
        vigil.done(2 * SECOND, S, 7).unwrap();
        // However late it asks again.
        let late = SECOND + 2 * PATIENCE;
        vigil.refused_as_moved(late, S, 1).unwrap();
        vigil.done(late, S, 8).unwrap();
        vigil.refused_as_moved(late, S, 1).unwrap_err();
    }
}
