//! Connections of other members: votes to the election, packets to the machine of ZAB.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{LinkId, Mark, Zxid, mark};
use crate::election;
use crate::peer::{self, QuorumEvent};
use crate::replica::{AHEAD, Input, StreamId};
use crate::wire::DecodeError;
use crate::zab::{LeadInput, LearnInput};

use super::party::{Behind, Full, Machine, Party, ToFollow};
use super::turn::Turn;

/// Attempts at a connection to the elected leader, and the pause between two, as in Apache.
const DIALS_MAX: u32 = 5;
const DIAL_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that a learner's connection may have waiting.
const ROOM_MAX: usize = 1 << 20;

/// Packets of one connection that are handled in a row, so that no other member can own a turn: a
/// forwarded request takes about 2 µs.
const PACKETS_MAX: usize = 256;

/// Bytes of transactions that a learner gathers before it hands them on in the middle of a turn.
const GATHERED_MAX: usize = 1 << 20;

impl Turn<'_> {
    /// Something happened to a connection of another member.
    pub fn peer(&mut self, input: peer::Input<'_>) {
        if matches!(self.party.machine, Machine::Retired) {
            if let peer::Input::Accepted { link, .. } = input {
                self.party.out.list.push(peer::Effect::Close { link });
            }
            return;
        }
        let is_vote = match &input {
            peer::Input::Accepted { port, .. } => *port == peer::Port::Election,
            peer::Input::Dialed { link, .. }
            | peer::Input::Bytes { link, .. }
            | peer::Input::Unsent { link, .. }
            | peer::Input::Ended { link, .. } => self.party.votes.owns(*link),
        };
        if is_vote {
            let Party { votes, election, ballots, numbers, out, .. } = &mut *self.party;
            let (now, mut died) = (self.now, None);
            votes.handle(now.mono, input, numbers, out, &mut |event| {
                let input = match event {
                    peer::ElectionEvent::Heard(sid, ref vote) => election::Input::Heard(sid, vote),
                    peer::ElectionEvent::Connected(sid) => election::Input::Connected(sid),
                    peer::ElectionEvent::Unreachable(sid) => election::Input::Unreachable(sid),
                    peer::ElectionEvent::Died(sid) => return died = Some(sid),
                };
                election.handle(now, input, ballots);
            });
            // A leader is told of no learner's end by a lifeline.
            let followed = self.party.followed;
            if let Some(followed) = followed.filter(|it| Some(it.leader) == died) {
                mark(Mark::LeaderDied);
                followed.link.into_iter().for_each(|link| self.read_rest(link));
                self.tell_learning(LearnInput::Died);
            }
        } else {
            if let peer::Input::Ended { link, .. } = &input
                && self.is_leaders(*link)
            {
                self.read_rest(*link);
            }
            self.quorum_link(input);
        }
        self.settle();
    }

    fn quorum_link(&mut self, input: peer::Input<'_>) {
        let event = self.party.links.handle(self.now.mono, input, &mut self.party.out);
        let Some(event) = event else { return };
        match event {
            QuorumEvent::Accepted(link, _) => self.tell_leading(LeadInput::Opened(link)),
            QuorumEvent::Dialed(link, result) => self.dialed(link, &result),
            QuorumEvent::Received(link) => {
                // Bytes that are no whole packet yet show that the other side lives.
                self.tell_leading(LeadInput::Heard(link));
                if self.is_leaders(link) {
                    self.tell_learning(LearnInput::Heard);
                }
                self.party.to_read.push(link);
            }
            QuorumEvent::Taken(link) => {
                self.tell_room(link);
                self.feed_stream(link);
            }
            QuorumEvent::Ended(link) => self.link_ended(link),
        }
    }

    /// A connection has ended, or was closed for what came over it.
    pub(super) fn link_ended(&mut self, link: LinkId) {
        self.tell_leading(LeadInput::Closed(link));
        let was_leaders = self.is_leaders(link);
        self.link_gone(link);
        if was_leaders {
            self.tell_learning(LearnInput::Lost);
        }
    }

    fn dialed(&mut self, link: LinkId, result: &Result<SocketAddr, peer::DialError>) {
        if !self.is_leaders(link) {
            return;
        }
        let Some(followed) = &mut self.party.followed else { return };
        match result {
            Ok(_) => self.tell_learning(LearnInput::Connected(link)),
            Err(error) => {
                followed.failures += 1;
                followed.link = None;
                if followed.failures >= DIALS_MAX {
                    mark(Mark::DialGivenUp);
                    let leader = followed.leader;
                    log::warn!("cannot connect to server {}: {error}", leader.0);
                    let Party { election, ballots, .. } = &mut *self.party;
                    election.handle(self.now, election::Input::Gone(leader), ballots);
                    return self.tell_learning(LearnInput::Lost);
                }
                mark(Mark::DialFailed);
                followed.retry_at = Some(self.now.mono + DIAL_PAUSE);
            }
        }
    }

    pub(super) fn is_leaders(&self, link: LinkId) -> bool {
        self.party.followed.is_some_and(|followed| followed.link == Some(link))
    }

    /// Nothing goes over this connection any more.
    pub(super) fn link_gone(&mut self, link: LinkId) {
        if let Some(at) = self.party.streams.iter().position(|(of, _)| *of == link) {
            mark(Mark::StreamBrokenOff);
            self.party.streams.remove(at);
            self.tell_replica(Input::StreamGone { stream: StreamId(link.0) });
        }
        self.end_range(link);
        self.party.held.forget(link);
    }

    pub(super) fn tell_room(&mut self, link: LinkId) {
        let room = ROOM_MAX.saturating_sub(self.party.links.unsent(link));
        self.tell_leading(LeadInput::Room(link, room));
    }

    /// Has the next chunks of the database made for a learner that has taken the last ones.
    fn feed_stream(&mut self, link: LinkId) {
        if self.party.links.unsent(link) > self.replica.stream_room() {
            return;
        }
        let Some((_, waiting)) = self.party.streams.iter_mut().find(|(of, _)| *of == link) else {
            return;
        };
        for _ in 0..std::mem::take(waiting) {
            self.tell_replica(Input::StreamReady { stream: StreamId(link.0) });
        }
    }

    /// The leader's packets may be looked at again.
    pub(super) fn read_on(&mut self) {
        if let Some(link) = self.party.followed.and_then(|followed| followed.link) {
            self.party.to_read.push(link);
        }
    }

    /// Whether so much waits for this learner's disk that it takes nothing more from its leader.
    fn is_full(&mut self, link: LinkId) -> bool {
        let Machine::Learning(learning) = &mut self.party.machine else { return false };
        if self.party.followed.is_none_or(|followed| followed.link != Some(link)) {
            return false;
        }
        if learning.gathered() > GATHERED_MAX {
            learning.flush(&mut self.party.zab);
            self.run_zab();
        }
        let is_full = self.replica.backlog() > self.party.options.backlog_bytes_max;
        if is_full && self.party.full.is_none() {
            mark(Mark::TakesNothing);
            self.party.full = Some(Full { marks: self.marks(), since: self.now.mono });
            self.party.behind.get_or_insert(Behind(self.now.mono));
        }
        is_full
    }

    /// The last transactions on disk and in the tree.
    fn marks(&self) -> (Zxid, Zxid) {
        (self.replica.last_logged(), self.replica.last_processed())
    }

    /// Whether a learner that took nothing from its leader may go on.
    pub(super) fn has_room_again(&mut self) -> bool {
        if self.party.behind.is_some()
            && self.replica.backlog() <= self.party.options.backlog_bytes_max / 2
        {
            self.party.behind = None;
            if let Some(epoch) = self.party.catching_up.take() {
                let mark = self.replica.last_committed();
                self.party.to_follow = Some(ToFollow { epoch, mark });
            }
        }
        let marks = self.marks();
        let Some(full) = &mut self.party.full else { return false };
        if full.marks != marks {
            *full = Full { marks, since: self.now.mono };
        }
        let has_room = self.replica.backlog() <= self.party.options.backlog_bytes_max;
        if has_room {
            self.party.full = None;
        }
        has_room
    }

    /// Hands over packets as long as the machine takes them.
    pub(super) fn read_packets(&mut self, link: LinkId) {
        let now = self.now;
        for number in 0..PACKETS_MAX {
            if number % AHEAD == 0 && self.replica.is_leading() {
                self.replica.look_ahead_in_packets(self.party.links.arrived(link));
            }
            if self.party.receives.is_some() && self.is_leaders(link) {
                self.go_on_receiving();
                if self.party.receives.is_some() {
                    return;
                }
            }
            if self.is_full(link) {
                return;
            }
            let Party { machine, links, zab, out, to_lead, unread, .. } = &mut *self.party;
            let wants = match machine {
                // Until it judges requests, they stay where they are.
                Machine::Leading(_) => to_lead.is_none(),
                Machine::Learning(learning) => learning.wants_packets(),
                Machine::Settling | Machine::Looking | Machine::Retired => false,
            };
            if !wants {
                if matches!(machine, Machine::Leading(_)) && !unread.contains(&link) {
                    mark(Mark::PacketsBeforeService);
                    unread.push(link);
                }
                return;
            }
            match links.next_packet(link, out) {
                Ok(None) => return,
                Ok(Some(packet)) => match machine {
                    Machine::Leading(leading) => {
                        leading.handle(now, LeadInput::Packet(link, packet), zab);
                    }
                    Machine::Learning(learning) => {
                        learning.handle(now, LearnInput::Packet(packet), zab);
                    }
                    Machine::Settling | Machine::Looking | Machine::Retired => {}
                },
                Err(error) => return self.bad_packet(link, &error),
            }
            // Before the next packet is looked at: it may be a snapshot's first bytes.
            if !self.party.zab.list.is_empty() {
                self.run_zab();
            }
        }
        mark(Mark::PacketsLeftForLater);
        self.party.later.push(link);
    }

    /// The leader sends nothing more: handles all that has come from it, however much that is. What
    /// it has called committed is applied then, while this server looks for another leader.
    fn read_rest(&mut self, link: LinkId) {
        loop {
            self.read_packets(link);
            let Some(at) = self.party.later.iter().position(|of| *of == link) else { return };
            self.party.later.remove(at);
        }
    }

    fn bad_packet(&mut self, link: LinkId, why: &DecodeError) {
        if let Some(more) = self.party.noises.take(self.now.mono) {
            log::warn!(
                "closing a connection of the quorum port, as what comes is no packet: {why}{more}"
            );
        }
        self.party.links.close(link, &mut self.party.out);
        self.link_ended(link);
    }
}
