//! What the machines of ZAB want done, and what the replica wants of other members.

use std::sync::Arc;

use crate::base::{Epoch, LinkId, Mark, Mutation, Now, ServerId, Zxid, is_mutated, mark};
use crate::election;
use crate::log::{LogChange, LogCommand};
use crate::peer;
use crate::replica::{Effect, Effects, ForwardedRequest, Input, Replica, StreamId};
use crate::session::Owner;
use crate::wire::quorum::{AuthIds, Forwarded, PacketKind, Revalidate, TOUCHES};
use crate::zab::{self, LeadInput, LeadingEnd, LearnerEnd};

use super::distrust;
use super::held::{self, Asked, Held};
use super::party::{Machine, Purpose, ToFollow};
use super::turn::Turn;

impl Turn<'_> {
    pub(super) fn run_zab(&mut self) {
        let mut wishes = std::mem::take(&mut self.party.zab);
        for wish in wishes.list.drain(..) {
            self.carry_out(wish, &wishes.bytes);
        }
        wishes.bytes.clear();
        // What was carried out may have led to more; its bytes are its own.
        if self.party.zab.list.is_empty() {
            self.party.zab = wishes;
        }
    }

    fn carry_out(&mut self, wish: zab::Effect, bytes: &[u8]) {
        let now = self.now;
        match wish {
            zab::Effect::Send { link, start, end } => {
                self.party.links.send(link, &bytes[start..end], &mut self.party.out);
                self.tell_room(link);
            }
            zab::Effect::Close { link, reason } => {
                if let Some(reason) = reason {
                    log::warn!("closing the connection of another member: {reason}");
                }
                self.close_link(link);
            }
            zab::Effect::Refuse { link, reason, is_known } => {
                if let Some(more) = self.party.refusals[usize::from(is_known)].take(now.mono) {
                    log::warn!("closing the connection of another member: {reason}{more}");
                }
                self.close_link(link);
            }
            zab::Effect::StoreEpoch(file, epoch) => {
                let change = LogChange::WriteEpoch { file, epoch };
                self.ask(LogCommand::Change(change), Purpose::Epoch(file, epoch));
            }
            zab::Effect::EndLearning(end) => self.end_learning(end),
            zab::Effect::Append { batch, own } => {
                self.replica.append(now, batch, own.as_deref(), self.effects);
            }
            zab::Effect::Committed(zxid) => self.tell_replica(Input::Committed { zxid }),
            zab::Effect::Truncate(keep) => {
                let change = LogChange::Truncate { keep: misplaced(keep) };
                self.ask(LogCommand::Change(change), Purpose::Truncate(keep));
            }
            zab::Effect::ReceiveSnapshot(zxid) => self.begin_receiving(zxid),
            zab::Effect::Serve(epoch) => self.serve(epoch),
            zab::Effect::Renewed(epoch) => self.renewed(epoch),
            zab::Effect::SyncDone | zab::Effect::OwnSyncDone(_) => {
                self.replica.sync_done(now, self.effects);
            }
            zab::Effect::PingAsked => self.tell_touched(PacketKind::Ping),
            zab::Effect::TouchesDue => self.tell_touched(TOUCHES),
            zab::Effect::DigestTold(zxid, digest) => {
                // One that waits to be compared is not replaced, or none ever might be.
                self.party.stated.get_or_insert((zxid, digest));
            }
            zab::Effect::Revalidated { session, is_valid } => {
                self.replica.session_answered(now, session, is_valid, self.effects);
            }
            zab::Effect::EndLeading(end) => self.end_leading(end),
            zab::Effect::KeepAlive { link, learner, key } => {
                self.party.out.list.push(peer::Effect::KeepAlive { link, learner, key });
            }
            zab::Effect::ReadLog { link, after } => self.read_log(link, after),
            zab::Effect::SendSnapshot(link) => self.begin_sending(link),
            wish @ (zab::Effect::Request { .. }
            | zab::Effect::SyncAsked(_)
            | zab::Effect::Touch { .. }
            | zab::Effect::Revalidate { .. }) => self.learner_asks(wish, bytes),
        }
    }

    /// What a learner wants for its clients. While requests wait for the next epoch, so does this.
    fn learner_asks(&mut self, wish: zab::Effect, bytes: &[u8]) {
        match wish {
            zab::Effect::Request { link, session, cxid, op, start, ids, end }
                if self.replica.is_held() =>
            {
                mark(Mark::HeldRequest);
                let content = Some((bytes[start..ids].to_vec(), bytes[ids..end].to_vec()));
                let request = held::Request { session, cxid, op, content };
                self.hold(Held { link, asked: Asked::Request(request) });
            }
            zab::Effect::SyncAsked(link) if self.replica.is_held() => {
                mark(Mark::HeldSync);
                self.hold(Held { link, asked: Asked::Sync });
            }
            zab::Effect::Request { link, session, cxid, op, start, ids, end } => {
                // The shape of the identities was checked when the packet was read.
                let Ok(identities) = AuthIds::parse(&bytes[ids..end]) else { return };
                let (body, owner) = (&bytes[start..ids], Owner::Learner(link));
                let request = ForwardedRequest { session, cxid, op, body, ids: identities, owner };
                self.judge(link, request);
            }
            zab::Effect::SyncAsked(link) => self.place_sync(link),
            zab::Effect::Touch { session, timeout_ms } => {
                if self.replica.is_leading() {
                    self.replica.touched_by_learner(self.now, session, timeout_ms);
                }
            }
            zab::Effect::Revalidate { link, asked } => self.revalidate(link, asked),
            other => unreachable!("{other:?} is nothing that a learner asks for"),
        }
    }

    /// Keeps what a learner asks for until the next epoch.
    fn hold(&mut self, held: Held) {
        let link = held.link;
        if self.party.held.add(held) {
            return;
        }
        if let Some(more) = self.party.refusals[1].take(self.now.mono) {
            log::warn!(
                "closing the connection of a learner that asks for more than it may while the \
                 next epoch begins{more}"
            );
        }
        self.party.links.close(link, &mut self.party.out);
        self.link_ended(link);
    }

    fn close_link(&mut self, link: LinkId) {
        self.party.links.close(link, &mut self.party.out);
        self.link_gone(link);
    }

    fn begin_receiving(&mut self, zxid: Zxid) {
        let link = self.party.followed.and_then(|followed| followed.link);
        let stream = StreamId(link.map_or(0, |link| link.0));
        self.replica.begin_reception(stream, zxid, self.effects);
        self.party.receives = Some(zxid);
        self.go_on_receiving();
    }

    fn begin_sending(&mut self, link: LinkId) {
        self.party.streams.push((link, 0));
        self.tell_replica(Input::StreamWanted { stream: StreamId(link.0) });
    }

    /// A learner forwards a request of a client. Before this server judges requests, packets are
    /// not looked at, so one that comes when it does not belongs to a term that has just ended.
    fn judge(&mut self, link: LinkId, request: ForwardedRequest<'_>) {
        self.propose(link, |replica, now, effects| replica.forwarded(now, request, effects));
    }

    /// There was no room for what a learner has forwarded.
    fn throttle(&mut self, link: LinkId, request: ForwardedRequest<'_>) {
        self.propose(link, |replica, now, effects| {
            replica.throttle_forwarded(now, request, effects);
        });
    }

    /// `make` makes a transaction of what a learner has forwarded.
    fn propose(&mut self, link: LinkId, make: impl FnOnce(&mut Replica, Now, &mut Effects)) {
        if self.party.is_leaving {
            mark(Mark::ForwardedToLeaving);
        }
        if self.replica.is_leading() && !self.party.is_leaving {
            let (from, before) = (self.effects.list.len(), self.replica.last_known());
            make(self.replica, self.now, self.effects);
            let made = self.replica.last_known();
            if made > before {
                // It is not written to any connection yet.
                self.tell_leading(LeadInput::Judged(link, made));
            }
            self.route(from);
        }
    }

    fn place_sync(&mut self, link: LinkId) {
        let after = self.replica.last_known();
        self.tell_leading(LeadInput::SyncPlaced(link, after));
    }

    fn tell_touched(&mut self, by: PacketKind) {
        let touched = self.replica.take_touched();
        if let Machine::Learning(learning) = &self.party.machine {
            let zxid = self.replica.last_known();
            let told = if is_mutated(Mutation::TouchNothing) { Vec::new() } else { touched };
            learning.tell_touched(by, zxid, told.into_iter(), &mut self.party.zab);
        }
    }

    /// Whether a client may go on at a learner. One that is only believed to be there does not take
    /// its session from where it was seen since: what it left behind would be done after what it
    /// asked for later.
    fn revalidate(&mut self, link: LinkId, asked: Revalidate) {
        if self.replica.is_held() {
            mark(Mark::HeldRevalidation);
            return self.hold(Held { link, asked: Asked::Revalidation(asked) });
        }
        let Revalidate { session, timeout_ms, is_kept } = asked;
        let is_elsewhere = match self.replica.session_owner(session) {
            Some(Owner::Here) => true,
            Some(Owner::Learner(other)) => other != link && self.party.links.owns(other),
            None => false,
        };
        let is_late = is_kept && is_elsewhere && !is_mutated(Mutation::ClaimMoved);
        if is_late {
            mark(Mark::KeptElsewhere);
        }
        let is_valid = self.replica.is_leading()
            && !is_late
            && self.replica.revalidate_for_learner(
                self.now,
                session,
                timeout_ms,
                Owner::Learner(link),
            );
        let after = self.replica.last_known();
        if let Machine::Leading(leading) = &mut self.party.machine {
            leading.revalidated(link, session, is_valid, after);
        }
    }

    fn serve(&mut self, epoch: Epoch) {
        match self.party.machine {
            Machine::Leading(_) => self.party.to_lead = Some(epoch),
            _ => {
                let mark = self.replica.last_committed();
                self.party.to_follow = Some(ToFollow { epoch, mark });
                // Others go by it, whether or not clients are served here.
                self.tell_election(epoch);
            }
        }
    }

    /// Whether this server has all that its clients may have seen elsewhere before it began to
    /// follow.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.party.to_follow.is_some_and(|term| self.replica.last_processed() >= term.mark)
    }

    pub(super) fn begin_following(&mut self) {
        let Some(term) = self.party.to_follow.take() else { return };
        self.forsake_clients(term.epoch);
        let from = self.effects.list.len();
        self.replica.follow(self.effects);
        self.route(from);
        self.established(term.epoch);
    }

    /// Clients stay from one epoch to the next. Where there was one in between, they may have been
    /// elsewhere.
    ///
    /// COMPAT(3.x): a leader of Apache's gives a session to any server that asks. The session of a
    /// client that only seems to have stayed would be taken from where the client is, and what it
    /// has left here would be done after what it asks for there. With such a leader nobody stays,
    /// as at a server of Apache's.
    fn forsake_clients(&mut self, epoch: Epoch) {
        let can_tell = match &self.party.machine {
            Machine::Learning(learning) => learning.leader_tells_kept(),
            _ => true,
        };
        let is_gap = |before: &Epoch| epoch.0 > before.0 + 1 || !can_tell;
        let Some(before) = self.party.served.filter(is_gap) else { return };
        if is_mutated(Mutation::ForsakeNobody) {
            return;
        }
        let from = self.effects.list.len();
        let count = self.replica.forsake_clients(self.effects);
        self.route(from);
        if count > 0 {
            mark(Mark::ForsakenClients);
            log::info!(
                "closing {count} connections of clients, which may have been elsewhere since: this \
                 server has served in epoch {:x} last, and now it is {:x}{}",
                before.0,
                epoch.0,
                if can_tell { "" } else { " with a leader that cannot tell" }
            );
        }
    }

    pub(super) fn begin_leading(&mut self) {
        let Some(epoch) = self.party.to_lead.take() else { return };
        if self.replica.is_held() {
            self.replica.lead_on(epoch);
        } else {
            self.forsake_clients(epoch);
            self.replica.lead_epoch(self.now, epoch);
            self.replica.turn_clients_away(self.effects);
        }
        self.established(epoch);
        self.take_held();
        let unread = std::mem::take(&mut self.party.unread);
        self.party.to_read.extend(unread);
    }

    /// What learners asked for while requests waited for the next epoch, in its order.
    fn take_held(&mut self) {
        for Held { link, asked } in self.party.held.take() {
            match asked {
                Asked::Request(held::Request { session, cxid, op, content }) => {
                    let owner = Owner::Learner(link);
                    let Some((body, ids)) = content else {
                        let (body, ids) = (&[][..], AuthIds::NONE);
                        let request = ForwardedRequest { session, cxid, op, body, ids, owner };
                        self.throttle(link, request);
                        continue;
                    };
                    let Ok(ids) = AuthIds::parse(&ids) else {
                        unreachable!("they were parsed when the request came")
                    };
                    let body = body.as_slice();
                    let request = ForwardedRequest { session, cxid, op, body, ids, owner };
                    self.judge(link, request);
                }
                Asked::Sync => self.place_sync(link),
                Asked::Revalidation(asked) => self.revalidate(link, asked),
            }
        }
    }

    /// The leader goes on in the next epoch.
    fn renewed(&mut self, epoch: Epoch) {
        if let Some(term) = &mut self.party.to_follow {
            term.epoch = epoch;
        } else if let Some(served) = &mut self.party.catching_up {
            *served = epoch;
        } else {
            self.established(epoch);
        }
    }

    fn established(&mut self, epoch: Epoch) {
        log::info!("serving clients in epoch {:x}", epoch.0);
        self.note_service();
        self.party.served = Some(epoch);
        self.party.epoch_least = Epoch(0);
        self.tell_election(epoch);
    }

    fn tell_election(&mut self, epoch: Epoch) {
        let party = &mut *self.party;
        let established = election::Input::EpochEstablished(epoch);
        party.election.handle(self.now, established, &mut party.ballots);
    }

    fn end_learning(&mut self, end: LearnerEnd) {
        let leader = self.party.followed.map_or(ServerId(0), |followed| followed.leader);
        log::warn!("looking for a leader again, not following server {} any more: {end}", leader.0);
        self.end_term();
        if matches!(end, LearnerEnd::Forgotten { .. }) {
            self.effects.list.push(Effect::Fatal(distrust::forgotten(leader, &end)));
        }
        let party = &mut *self.party;
        match end {
            // Its connection for votes may stand all the same.
            LearnerEnd::Silent(_) | LearnerEnd::Left | LearnerEnd::Died => {
                let input = election::Input::Gone(leader);
                party.election.handle(self.now, input, &mut party.ballots);
            }
            LearnerEnd::Lost => party.votes.suspect(self.now.mono, leader),
            _ => {}
        }
    }

    fn end_leading(&mut self, end: LeadingEnd) {
        log::warn!("not leading any more: {end}");
        if let LeadingEnd::LaterPromise(epoch) = end {
            self.party.epoch_least = Epoch(epoch.0 + 1);
        }
        self.end_term();
    }

    /// Takes what is for other members out of the wishes from `from` on. The others keep their
    /// order, and stand before what this leads to.
    pub(super) fn route(&mut self, from: usize) {
        if !self.effects.list[from..].iter().any(concerns_members) {
            return;
        }
        let wishes = self.effects.list.split_off(from);
        let mut kept = Vec::with_capacity(wishes.len());
        for wish in wishes {
            if let Effect::Append(batch) = &wish {
                if self.replica.is_leading() {
                    self.tell_leading(LeadInput::Proposed(Arc::clone(batch)));
                }
                kept.push(wish);
            } else if concerns_members(&wish) {
                self.take(wish);
            } else {
                kept.push(wish);
            }
        }
        kept.append(&mut self.effects.list.split_off(from));
        self.effects.list.append(&mut kept);
    }

    fn take(&mut self, wish: Effect) {
        match wish {
            Effect::Forward { session, cxid, op, start, ids, end } => {
                let body = &self.effects.bytes[start..ids];
                let Ok(ids) = AuthIds::parse(&self.effects.bytes[ids..end]) else {
                    unreachable!("the replica encodes what its clients have authenticated as")
                };
                let request = Forwarded { session, cxid, op: op as i32, body };
                let is_lost = is_mutated(Mutation::LoseForwarded) && cxid.0 % 16 == 7;
                if let Machine::Learning(learning) = &mut self.party.machine
                    && !is_lost
                {
                    learning.forward(request, ids, &mut self.party.zab);
                }
            }
            Effect::AskSession { session, timeout_ms, is_kept } => {
                if let Machine::Learning(learning) = &self.party.machine {
                    let asked = Revalidate { session, timeout_ms, is_kept };
                    learning.revalidate(asked, &mut self.party.zab);
                }
            }
            Effect::AskSync => self.ask_sync(),
            Effect::StreamBegin { stream, zxid } => {
                self.tell_leading(LeadInput::SnapshotBegun(LinkId(stream.0), zxid));
                // The packet goes before the bytes that follow it.
                self.run_zab();
            }
            Effect::StreamChunk { stream, bytes } => {
                let link = LinkId(stream.0);
                self.party.links.send(link, &bytes, &mut self.party.out);
                if let Some((_, waiting)) =
                    self.party.streams.iter_mut().find(|(of, _)| *of == link)
                {
                    *waiting += 1;
                }
            }
            Effect::StreamEnd { stream, is_whole } => {
                let link = LinkId(stream.0);
                self.party.streams.retain(|(of, _)| *of != link);
                if is_whole {
                    self.tell_leading(LeadInput::SnapshotSent(link));
                } else {
                    self.party.links.close(link, &mut self.party.out);
                    self.link_gone(link);
                }
            }
            other => unreachable!("{other:?} is not for other members"),
        }
    }

    fn ask_sync(&mut self) {
        self.party.syncs += 1;
        self.tell_leading(LeadInput::OwnSync(self.party.syncs));
    }
}

/// Where the log is cut: at `keep`, or beside it by a planted mistake.
fn misplaced(keep: Zxid) -> Zxid {
    let Zxid(at) = keep;
    match keep.counter() {
        _ if is_mutated(Mutation::TruncateLate) => Zxid(at + 1),
        2.. if is_mutated(Mutation::TruncateEarly) => Zxid(at - 1),
        _ => keep,
    }
}

/// Whether other members have to hear of it.
fn concerns_members(wish: &Effect) -> bool {
    matches!(
        wish,
        Effect::Append(_)
            | Effect::Forward { .. }
            | Effect::AskSession { .. }
            | Effect::AskSync
            | Effect::StreamBegin { .. }
            | Effect::StreamChunk { .. }
            | Effect::StreamEnd { .. }
    )
}
