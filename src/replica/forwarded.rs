//! What a leader does for the clients of its learners: it judges their writes, and keeps their
//! sessions.
//!
//! Corresponds to `LeaderZooKeeperServer.submitLearnerRequest` and, of `LearnerHandler`, to what it
//! does with REQUEST, PING and REVALIDATE. Nobody is answered here: the learner knows its request
//! again when it comes back as a transaction. So every request becomes one, of an error at worst,
//! since the learner's client waits for it.
//!
//! A learner's requests do not stand in the queue with the clients of this server; each learner
//! bounds how many of them there are.

use crate::auth::Identities;
use crate::base::{CONTAINER_OWNER, Mark, Mutation, Now, SessionId, Xid, is_mutated, mark};
use crate::session::{Claim, Owner};
use crate::wire::quorum::AuthIds;
use crate::wire::{ErrorCode, OpCode, Reader};

use super::client::Clients;
use super::core::Replica;
use super::effects::Effects;
use super::fair::{FRAME_COST, WRITE_COST};
use super::leading::leading;
use super::tail::Origin;
use super::write::Writer;

/// A request that a learner forwards for one of its clients.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedRequest<'a> {
    /// The client's session.
    pub session: SessionId,
    /// The client's number of the request, which its transaction gets.
    pub cxid: Xid,
    /// Its type.
    pub op: OpCode,
    /// Its record, as the client sent it; the timeout in ms of a createSession.
    pub body: &'a [u8],
    /// What the client has authenticated as.
    pub ids: AuthIds<'a>,
    /// The learner.
    pub owner: Owner,
}

/// A write of a learner's client.
struct ForwardedWrite<'a> {
    now: Now,
    request: &'a ForwardedRequest<'a>,
    identities: &'a Identities,
    refused: Option<ErrorCode>,
}

impl Writer for ForwardedWrite<'_> {
    fn origin(&self) -> Origin {
        Origin::Learner
    }

    fn who<'a>(&'a self, _: &'a Clients) -> Option<(SessionId, &'a Identities)> {
        Some((self.request.session, self.identities))
    }

    fn request(&self) -> (Now, Xid, OpCode) {
        (self.now, self.request.cxid, self.request.op)
    }

    fn refused(&self) -> Option<ErrorCode> {
        self.refused
    }
}

impl Replica {
    /// Makes a transaction of a request that a learner forwards, be it of its error. Only a server
    /// that leads is asked for this.
    pub fn forwarded(&mut self, now: Now, request: ForwardedRequest<'_>, effects: &mut Effects) {
        self.fair.spent += FRAME_COST;
        let ForwardedRequest { session, cxid, op, .. } = request;
        let judged = match op {
            OpCode::CreateSession => self.forwarded_session(now, request),
            OpCode::CloseSession => self.forwarded_close(now, request),
            op if op.is_write() => self.forwarded_write(now, &request, effects),
            // Apache's learners also forward what any of its clients may ask for: a check on its
            // own, and deleteContainer, which ignores permissions.
            _ => Err(ErrorCode::Unimplemented),
        };
        if let Err(code) = judged {
            self.refuse(now, session, cxid, op, Origin::Learner, code);
        }
        self.hand_over_much(effects);
    }

    /// Makes the transaction of an error of a request that nobody had room for.
    pub fn throttle_forwarded(
        &mut self,
        now: Now,
        request: ForwardedRequest<'_>,
        effects: &mut Effects,
    ) {
        self.fair.spent += FRAME_COST;
        let ForwardedRequest { session, cxid, op, .. } = request;
        self.refuse(now, session, cxid, op, Origin::Learner, ErrorCode::ThrottledOp);
        self.hand_over_much(effects);
    }

    fn forwarded_write(
        &mut self,
        now: Now,
        request: &ForwardedRequest<'_>,
        effects: &mut Effects,
    ) -> Result<(), ErrorCode> {
        let identities = self.auth.forwarded(request.ids);
        let identities = &identities.map_err(|_| ErrorCode::MarshallingError)?;
        let refused = match leading(&mut self.leader).claim(request.session, request.owner) {
            Claim::Granted => None,
            Claim::Gone => {
                mark(Mark::LateSession);
                Some(ErrorCode::SessionExpired)
            }
            Claim::Moved => {
                mark(Mark::LateRequest);
                Some(ErrorCode::SessionMoved)
            }
        };
        let write = ForwardedWrite { now, request, identities, refused };
        self.write_as(&write, request.body, effects).map_err(|_| ErrorCode::MarshallingError)
    }

    /// The learner has chosen the id. A session that is there gets a new owner and a transaction
    /// once more, as in Apache, where a local session becomes a global one like that.
    fn forwarded_session(
        &mut self,
        now: Now,
        request: ForwardedRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let ForwardedRequest { session, cxid, op, body, owner, .. } = request;
        let timeout_ms = Reader::new(body).i32("session timeout");
        let timeout_ms = timeout_ms.map_err(|_| ErrorCode::MarshallingError)?;
        // Nobody's id, and the owner of containers.
        if session.0 == 0 || session.0 == CONTAINER_OWNER {
            return Err(ErrorCode::BadArguments);
        }
        let leader = leading(&mut self.leader);
        let (_, proposed) = leader.create_session(now, session, cxid, timeout_ms, owner);
        self.fair.spent += WRITE_COST;
        self.proposed(now, proposed, Origin::Learner, cxid, op);
        Ok(())
    }

    /// COMPAT(3.x): whose the session is does not matter. Unlike in Apache a session ends once: the
    /// second closeSession is an error.
    fn forwarded_close(
        &mut self,
        now: Now,
        request: ForwardedRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let ForwardedRequest { session, cxid, .. } = request;
        if leading(&mut self.leader).find_open(session).is_none() {
            return Err(ErrorCode::SessionExpired);
        }
        self.propose_close(now, session, Origin::Learner, cxid);
        Ok(())
    }

    /// A client of a learner was there: its session's timeout in ms starts afresh. Nothing happens
    /// to one that is unknown or closing.
    pub fn touched_by_learner(&mut self, now: Now, session: SessionId, timeout_ms: i32) {
        let leader = leading(&mut self.leader);
        if let Some(slot) = leader.find(session) {
            leader.touch(slot, timeout_ms, now.mono);
        }
    }

    /// Where the client of a session was seen last in this term; `None` if nowhere yet, or if this
    /// server does not lead.
    pub fn session_owner(&self, session: SessionId) -> Option<Owner> {
        self.leader.as_ref().and_then(|leader| leader.session_owner(session))
    }

    /// A client brought its session along to the learner `owner`, whose it is from now on, with a
    /// timeout in ms that starts afresh. False when it is unknown or closing: the client has to
    /// begin a new one.
    pub fn revalidate_for_learner(
        &mut self,
        now: Now,
        session: SessionId,
        timeout_ms: i32,
        owner: Owner,
    ) -> bool {
        let is_alive =
            leading(&mut self.leader).revalidate(now, session, timeout_ms, owner).is_some();
        if is_mutated(Mutation::EndMoved) && is_alive {
            self.propose_close(now, session, Origin::Server, Xid(0));
        }
        match is_alive {
            true => !is_mutated(Mutation::RevalidateNone),
            false => is_mutated(Mutation::RevalidateAll),
        }
    }
}
