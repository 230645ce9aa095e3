//! Members among themselves: how one connects to another, and when that fails.

use crate::base::{LinkId, ServerId};
use crate::peer::Port;

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
