//! What servers have promised: a ledger for each one that stands alone, one history for all members
//! of an ensemble.

use crate::base::{Instant, SessionId};
use crate::log::LogChange;
use crate::member::Role;
use crate::wire::TxnHeader;

use super::history::History;
use super::ledger::Ledger;
use super::model::Model;
use super::node::{Node, Reloaded, Started};
use super::ops::Op;
use super::options::Swarm;

/// See the module's introduction. Each server is named by its number.
pub(super) enum Books {
    Alone(Vec<Ledger>),
    Together(Box<History>),
}

type Checked = Result<(), String>;

impl Books {
    /// Of the servers of a run.
    pub fn new(swarm: &Swarm, is_ensemble: bool) -> Books {
        let servers = swarm.nodes;
        match is_ensemble {
            true => {
                let history = History::new(servers, swarm.voters);
                Books::Together(Box::new(history))
            }
            false => Books::Alone((0..servers).map(|_| Ledger::default()).collect()),
        }
    }

    /// It is this time now.
    pub fn at(&mut self, now: u64) {
        if let Books::Together(history) = self {
            history.now = now;
        }
    }

    /// Highest zxid that clients of a server have seen.
    pub fn floor(&self, server: usize) -> i64 {
        match self {
            Books::Alone(ledgers) => ledgers[server].revealed,
            Books::Together(history) => history.floor(),
        }
    }

    /// What a server must never lose: what its clients have seen, or what it has told other members
    /// is on its disk.
    pub fn owed(&self, server: usize) -> i64 {
        match self {
            Books::Alone(ledgers) => ledgers[server].revealed,
            Books::Together(history) => history.durable(server),
        }
    }

    /// The network keeps things back until this time.
    pub fn disturbed(&mut self, until: u64) {
        if let Books::Together(history) = self {
            history.vigil.disturbed(until);
        }
    }

    /// A client brings its session along on a new connection.
    pub fn moves(&mut self, session: SessionId) {
        if let Books::Together(history) = self {
            history.vigil.moves(session);
        }
    }

    /// A client does not wait for the answer to its session any more.
    pub fn gives_up(&mut self, session: SessionId) {
        if let Books::Together(history) = self {
            history.vigil.gives_up(history.now, session);
        }
    }

    /// Whether a member may serve though another one leads by now, or does not hear of its leader.
    pub fn may_be_cut_off(&self, server: usize) -> bool {
        match self {
            Books::Alone(_) => false,
            Books::Together(history) => history.vigil.may_be_cut_off(history.now, server),
        }
    }

    /// Since when a member serves with nothing the matter, from `since` on.
    pub fn serves_calmly(&self, server: usize, since: u64) -> Option<u64> {
        match self {
            Books::Alone(_) => None,
            Books::Together(history) => history.vigil.serves_calmly(server, since),
        }
    }

    /// The process of a server has ended.
    pub fn ended(&mut self, server: usize) {
        if let Books::Together(history) = self {
            history.vigil.plays(history.now, server, None);
        }
    }

    /// A member votes, with what a start would make of its disk.
    pub fn voted(&self, node: &Node, reloaded: &Reloaded) -> Checked {
        match self {
            Books::Alone(_) => Ok(()),
            Books::Together(history) => history.voted(node, reloaded),
        }
    }

    /// What the server should be doing.
    pub fn model(&self, server: usize) -> &Model {
        match self {
            Books::Alone(ledgers) => &ledgers[server].model,
            Books::Together(history) => &history.model,
        }
    }

    /// The first transaction of a server comes after this one.
    pub fn begin_at(&mut self, server: usize, zxid: i64) {
        match self {
            Books::Alone(ledgers) => ledgers[server].model.last = zxid,
            Books::Together(history) => history.model.last = zxid,
        }
    }

    /// A client asks for a write.
    pub fn asked(&mut self, server: usize, session: SessionId, xid: i32, op: Op) {
        match self {
            Books::Alone(ledgers) => ledgers[server].asked(session, xid, op),
            Books::Together(history) => history.asked(session, xid, op),
        }
    }

    /// Frames of a session reached a server.
    pub fn touched(&mut self, server: usize, session: SessionId, now: Instant, timeout_ms: i32) {
        match self {
            Books::Alone(ledgers) => ledgers[server].touched(session, now, timeout_ms),
            Books::Together(history) => history.vigil.heard(history.now, server, session),
        }
    }

    /// A client of a server has seen the state at this zxid.
    pub fn revealed(&mut self, server: usize, zxid: i64) -> Checked {
        match self {
            Books::Alone(ledgers) => {
                ledgers[server].revealed = ledgers[server].revealed.max(zxid);
                Ok(())
            }
            Books::Together(history) => history.revealed(zxid),
        }
    }

    /// A client was told that its session is not valid.
    pub fn refused(&self, server: usize, session: SessionId) -> Checked {
        match self {
            Books::Alone(ledgers) => ledgers[server].refused(session),
            Books::Together(history) => history.refused(server, session),
        }
    }

    /// The request that became a transaction.
    pub fn request(&self, server: usize, header: &TxnHeader) -> Option<&Op> {
        match self {
            Books::Alone(ledgers) => ledgers[server].request(header),
            Books::Together(history) => history.request(header),
        }
    }

    /// A transaction goes to a server's log.
    pub fn logged(
        &mut self,
        server: usize,
        now: Instant,
        entry: &[u8],
    ) -> Result<TxnHeader, String> {
        match self {
            Books::Alone(ledgers) => ledgers[server].logged(now, entry),
            Books::Together(history) => history.logged(server, entry),
        }
    }

    /// A server's log is asked for a change.
    pub fn log_changing(&mut self, server: usize, change: LogChange) {
        if let Books::Together(history) = self {
            history.log_changing(server, change);
        }
    }

    /// Whether others may know that a member has promised an epoch.
    pub fn has_promised(&self, server: usize) -> bool {
        matches!(self, Books::Together(history) if history.has_promised(server))
    }

    /// A member's database is gone.
    pub fn lost(&mut self, server: usize) {
        if let Books::Together(history) = self {
            history.lost(server);
        }
    }

    /// A server has changed its log.
    pub fn log_changed(&mut self, server: usize, change: &LogChange) -> Checked {
        match self {
            Books::Alone(_) => Ok(()),
            Books::Together(history) => history.log_changed(server, change),
        }
    }

    /// A server has had a turn, and all that it logged in that is told; perhaps its process died in
    /// the middle.
    pub fn committed(&mut self, server: usize, node: &Node, has_died: bool) -> Checked {
        match self {
            Books::Alone(ledgers) => {
                ledgers[server].committed = node.replica().last_committed().0;
                Ok(())
            }
            Books::Together(history) => {
                let (member, replica) = (node.member(), node.replica());
                // One that ends takes nothing new.
                let role = if node.draining { Role::Looking } else { member.role() };
                let begins = history.vigil.plays(history.now, server, Some(role));
                history.vowed(server, member.vows());
                if let Some(epochs) = member.epochs() {
                    history.entered(server, epochs.current);
                    if begins {
                        history.serves(epochs.current, role)?;
                    }
                }
                let committed = match has_died {
                    true => replica.last_committed().min(history.handed_over(server)),
                    false => replica.last_committed(),
                };
                history.advanced(server, replica.last_logged(), committed)
            }
        }
    }

    /// A server has had a turn. Returns whether it waits for nothing now, and that is news.
    pub fn has_come(&mut self, server: usize, node: &Node) -> Result<bool, String> {
        match self {
            Books::Alone(_) if !node.replica().is_settled() => Ok(false),
            Books::Alone(ledgers) => ledgers[server].settled(node),
            Books::Together(history) => history.has_come(server, node),
        }
    }

    /// A server's tree and its sessions are what they must be now.
    pub fn compare(&self, server: usize, node: &Node, when: &str) -> Checked {
        match self {
            Books::Alone(ledgers) => ledgers[server].compare(node, when),
            Books::Together(history) => history.compare(node, when),
        }
    }

    /// The state of an empty server is where the model begins.
    pub fn adopt(&mut self, server: usize, node: &Node) {
        match self {
            Books::Alone(ledgers) => ledgers[server].adopt(node),
            Books::Together(history) => history.adopt(node),
        }
    }

    /// A server has recovered at `now`.
    pub fn recovered(&mut self, server: usize, now: Instant, started: &Started) -> Checked {
        match self {
            Books::Alone(ledgers) => ledgers[server].recovered(now, started),
            Books::Together(history) => history.recovered(server, started),
        }
    }
}
