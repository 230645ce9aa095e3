//! Members among themselves: how one connects to another, when that fails, and lifelines.

use crate::base::{LifelineKey, LinkId, ServerId};
use crate::peer::Port;
use crate::wire::vote::First;

use super::super::network::{Door, End, Endpoint, Pace};
use super::super::node::Node;
use super::{Event, MS, SECOND, World};

/// How long a member waits for another one to answer (`cnxTimeout`).
const DIAL_TIMEOUT: u64 = 5 * SECOND;

impl World {
    /// A member connects to another one.
    pub(super) fn dial(&mut self, host: usize, link: LinkId, to: ServerId, port: Port) {
        let target = self.hosts.iter().position(|other| other.id == to);
        let ends = [Endpoint::Host(host), Endpoint::Host(target.unwrap_or(host))];
        let end = self.network.open(self.now, ends, Door::Members(port), [Pace::Fast; 2]);
        let state = &mut self.hosts[host];
        let life = state.lives;
        if let Some(node) = state.running() {
            node.dialing(link, end);
        }
        self.after(DIAL_TIMEOUT, Event::DialEnds { host, life, end });
    }

    /// A leader shows a learner when its process ends.
    pub(super) fn lifeline(
        &mut self,
        host: usize,
        link: LinkId,
        learner: ServerId,
        key: LifelineKey,
    ) {
        let Some(target) = self.hosts.iter().position(|other| other.id == learner) else { return };
        let ends = [Endpoint::Host(host), Endpoint::Host(target)];
        let end = self.network.open(self.now, ends, Door::Members(Port::Election), [Pace::Fast; 2]);
        let mut first = Vec::new();
        First::encode_lifeline(self.hosts[host].id, key, &mut first);
        self.network.send(self.now, end, &first);
        if let Some(old) = self.hosts[host].lifelines.insert(link, end) {
            self.network.reset(self.now, old);
        }
    }

    /// A lifeline is not needed any more. Its end must not look like the end of the process.
    pub(super) fn let_go(&mut self, host: usize, link: LinkId) {
        if let Some(end) = self.hosts[host].lifelines.remove(&link) {
            self.network.reset(self.now, end);
        }
    }

    /// A process has ended. Unless its machine has, too, its lifelines show it at once.
    pub(super) fn end_lifelines(&mut self, host: usize, power: bool) {
        for end in std::mem::take(&mut self.hosts[host].lifelines).into_values() {
            match power {
                true => self.network.leave(end),
                false => self.network.close(self.now, end),
            }
        }
    }

    pub(super) fn dial_ends(&mut self, host: usize, end: End) {
        let node = self.hosts[host].node_mut();
        if node.is_some_and(|node| node.dial_timed_out(end)) {
            self.network.reset(self.now, end);
            self.want_turn(host, self.now + MS);
        }
    }

    /// A member connects: its machine is told whether this one lets it. Returns whether it does.
    pub(super) fn answers_member(&mut self, host: usize, end: End) -> bool {
        let state = &self.hosts[host];
        if state.node().is_some_and(Node::hears_members) {
            self.network.accept(self.now, end);
            return true;
        }
        match state.is_off {
            true => self.network.leave(end),
            false => self.network.reset(self.now, end),
        }
        false
    }
}
