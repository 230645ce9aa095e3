//! What the replica tells its operator about clients: who, what and why. Clients can bring about
//! each of these thousands of times a second, so each kind is rationed.

use std::fmt;
use std::net::SocketAddr;

use crate::base::{ConnId, Now, Ration, SessionId, invariant};
use crate::session::Owner;

use super::core::Replica;
use super::leading::leading;

/// Reasons to write to the operator: except for one kind, why a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Complaint {
    /// What came first is no ConnectRequest.
    NoClient,
    /// The client knows a later state than this server has.
    Ahead,
    /// The client asks for a session that it cannot have.
    NoSuchSession,
    /// The client failed to prove who it is; its connection may go on.
    NotAuthentic,
    /// `largeRequestMaxBytes` is exceeded.
    TooLarge,
    /// A request waited too long.
    Stale,
    /// More is asked for, before a write is done, than the server keeps.
    TooMuchOwed,
}

impl Complaint {
    const COUNT: usize = Complaint::TooMuchOwed as usize + 1;
}

/// How many messages of each kind were written and held back.
#[derive(Debug, Default)]
pub(super) struct Rations {
    complaints: [Ration; Complaint::COUNT],
    expiries: Ration,
}

/// The client that a message is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    peer: Option<SocketAddr>,
    session: SessionId,
}

impl Who {
    /// The same, with a session that the connection does not speak for yet.
    pub fn asking_for(self, session: SessionId) -> Who {
        Who { session, ..self }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{peer}")?,
            None => write!(f, "an unknown address")?,
        }
        match self.session {
            SessionId(0) => write!(f, " (no session yet)"),
            session => write!(f, " (session {session})"),
        }
    }
}

impl Replica {
    /// The client of a connection, for messages.
    pub(super) fn who(&self, conn: ConnId) -> Who {
        match self.clients.get(conn) {
            Some(client) => Who { peer: Some(client.peer), session: client.session },
            None => Who { peer: None, session: SessionId(0) },
        }
    }

    /// Writes to the operator what happened and why, unless the same was written a moment ago of
    /// another connection.
    pub(super) fn complain(
        &mut self,
        now: Now,
        complaint: Complaint,
        who: Who,
        why: fmt::Arguments<'_>,
    ) {
        // The same was said a moment ago; it is counted.
        let Some(more) = self.rations.complaints[complaint as usize].take(now.mono) else { return };
        let level = match complaint {
            // Nobody did anything wrong: it happens when a server or a client was away for long.
            Complaint::NoSuchSession => log::Level::Info,
            _ => log::Level::Warn,
        };
        match complaint {
            Complaint::NotAuthentic => log::warn!("{who} failed to authenticate {why}{more}"),
            _ => log::log!(level, "closing the connection of {who}: {why}{more}"),
        }
    }

    /// Says which session expired and what goes with it: of many that expire at once, the first.
    pub(super) fn tell_expired(&mut self, now: Now, expired: &[SessionId]) {
        let first = expired.first().copied();
        // None has expired, or the same was said a moment ago and these are counted.
        let Some((session, more)) =
            first.zip(self.rations.expiries.take_many(now.mono, expired.len() as u64))
        else {
            return;
        };
        let sessions = leading(&mut self.leader).sessions();
        let tracked = sessions.get(session).and_then(|slot| sessions.session(slot));
        invariant!(tracked.is_some(), "{session:?} is tracked until its end is applied");
        let Some(tracked) = tracked else { unreachable!("just asserted") };
        let of = match (tracked.owner, tracked.peer) {
            (Some(Owner::Learner(_)), _) => "last served by another member".to_owned(),
            (_, Some(peer)) => format!("last served at {peer}"),
            (_, None) => "not resumed since this server started or began to lead".to_owned(),
        };
        log::info!(
            "expiring session {session}, {of}: nothing was heard of it for {} ms, and its timeout \
             is {} ms; {} ephemeral nodes are deleted with it{more}",
            now.mono.since(tracked.heard).as_millis(),
            tracked.granted_ms,
            self.tree.ephemerals(session).len(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_address_and_session() {
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 4711)));
        let who = Who { peer, session: SessionId(0) };
        assert_eq!(who.to_string(), "10.0.0.1:4711 (no session yet)");
        let who = who.asking_for(SessionId(0x100));
        assert_eq!(who.to_string(), "10.0.0.1:4711 (session 0x100)");
    }
}
