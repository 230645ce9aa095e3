//! The replica in its member, and everything that only their loop talks to.

use crate::admin::{self, AdminContext, LeaderFigures, MemberState};
use crate::base::{ConnId, Now};
use crate::log::LogDone;
use crate::member::{Member, Role};
use crate::peer;
use crate::replica::{CloseHow, Effects, Input};

use super::housekeeping::Housekeeping;
use super::message::{FrontEvent, FrontTurn};
use super::port::{Io, Probe};

/// A four-letter word that waits for its answer.
struct Word {
    conn: ConnId,
    word: [u8; 4],
    argument: Vec<u8>,
}

/// See the module's introduction.
pub struct ReplicaStage<I: Io> {
    /// Decides everything.
    pub member: Member,
    /// What the replica wants done, of this turn.
    pub effects: Effects,
    /// Snapshots and files in the background.
    pub house: Housekeeping<I::Files>,
    /// Texts of the four-letter words.
    pub admin: AdminContext,
    /// Looks on.
    pub probe: I::Probe,
    words: Vec<Word>,
}

impl<I: Io> ReplicaStage<I> {
    /// A server that has done nothing yet.
    pub fn new(
        member: Member,
        house: Housekeeping<I::Files>,
        admin: AdminContext,
        probe: I::Probe,
    ) -> ReplicaStage<I> {
        ReplicaStage { member, effects: Effects::default(), house, admin, probe, words: Vec::new() }
    }

    /// Hands one input to the replica.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        let heard = match &input {
            Input::Frames { conn, .. } | Input::Heard { conn } => Some(*conn),
            Input::LogDone { done: LogDone::Changed(change), .. } => {
                self.probe.log_changed(change);
                None
            }
            _ => None,
        };
        self.member.handle(now, input, &mut self.effects);
        self.probe.handled(&self.member, heard);
    }

    /// Hands the member what happened to a connection of another one.
    pub(super) fn handle_peer(&mut self, now: Now, input: peer::Input<'_>) {
        self.member.peer(now, input, &mut self.effects);
        self.probe.handled(&self.member, None);
    }

    /// A four-letter word came; its answer follows in the same turn.
    pub(super) fn asked(&mut self, conn: ConnId, word: [u8; 4], argument: &[u8]) {
        self.words.push(Word { conn, word, argument: argument.to_vec() });
    }

    /// Answers the four-letter words of this turn.
    pub(super) fn answer_words(&mut self, now: Now, io: &mut I) {
        for Word { conn, word, argument } in std::mem::take(&mut self.words) {
            if !self.member.replica().has_client(conn) {
                // Every connection was closed later in the same turn, for another database.
                continue;
            }
            self.admin.live.dir_sizes = self.house.dir_sizes;
            self.admin.live.state = state(&self.member, now);
            self.admin.live.terms = self.member.term_figures();
            if word == *b"mntr" {
                self.admin.way = self.member.way_figures();
            }
            io.look_up(word, &mut self.admin.live);
            let replica = self.member.replica_mut();
            let text = admin::four_letter(&mut self.admin, replica, now, conn, word, &argument);
            self.effects.send(conn, |out| out.extend_from_slice(text.as_bytes()));
            self.handle(now, Input::Closed { conn });
            self.effects.close(conn, CloseHow::AfterFlush);
        }
    }

    /// What happened at a front on another loop.
    pub(super) fn front_turn(&mut self, now: Now, turn: FrontTurn) {
        for event in turn.events {
            let input = match event {
                FrontEvent::Opened(conn, peer) => Input::Opened { conn, peer },
                FrontEvent::Frames(conn, start, end) => {
                    Input::Frames { conn, bytes: &turn.bytes[start..end] }
                }
                FrontEvent::Word(conn, word, argument) => {
                    self.asked(conn, word, &argument);
                    continue;
                }
                FrontEvent::Heard(conn) => Input::Heard { conn },
                FrontEvent::Drained(conn) => Input::Drained { conn },
                FrontEvent::Closed(conn) => Input::Closed { conn },
            };
            self.handle(now, input);
        }
    }
}

/// What four-letter words show of a member's part in its ensemble.
fn state(member: &Member, now: Now) -> MemberState {
    match member.role() {
        Role::Alone | Role::Claiming | Role::Idle => MemberState::Alone,
        Role::Looking => MemberState::Looking,
        Role::Following => MemberState::Following,
        Role::Observing => MemberState::Observing,
        Role::Leading => {
            let term = member.leading_figures().unwrap_or_default();
            let uptime = term.since.map(|since| now.mono.since(since).as_millis());
            MemberState::Leading(LeaderFigures {
                uptime_ms: uptime.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
                learners: term.learners,
                synced_followers: term.synced_followers,
                synced_non_voting: term.synced_non_voting,
                synced_observers: term.synced_observers,
                pending_syncs: term.pending_syncs,
                proposals: term.proposals,
                commits: term.commits,
                proposal_sizes: term.sizes.map(|sizes| (sizes.last, sizes.min, sizes.max)),
            })
        }
    }
}
