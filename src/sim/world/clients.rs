//! The clients at work: when they connect, ask, go away, and what reaches them.

use crate::base::Instant;

use super::super::client::State;
use super::super::network::{Arrived, Door, End, Endpoint, Pace};
use super::super::node::TICK_MS;
use super::super::ops::Op;
use super::{Checked, Event, MS, Phase, SECOND, US, World};

/// A member that serves with nothing the matter answers within this, beside what disks take long
/// for. No member can make that shorter: a write, or a new epoch, waits for a quorum's disks.
const ANSWERED_WITHIN: u64 = 1_500 * MS;

impl World {
    /// Something from the network reaches a client.
    pub(super) fn reach_client(&mut self, id: usize, link: End, what: &Arrived) -> Checked {
        match what {
            Arrived::Bytes(bytes) => self.reply(id, link, bytes),
            Arrived::Finished | Arrived::Failed => {
                self.note(|| format!("client {id} is disconnected, {link:?}"));
                self.leave(id, link, true);
                Ok(())
            }
            Arrived::Opened(_) | Arrived::Accepted | Arrived::Taken => Ok(()),
        }
    }

    fn reply(&mut self, id: usize, link: End, bytes: &[u8]) -> Checked {
        self.mix_bytes(bytes);
        let client = &mut self.clients[id];
        let (books, host) = (&mut self.books, client.host);
        let outcome = client.received(Instant(self.now), bytes, books.model(host));
        let outcome = outcome.and_then(|()| books.revealed(host, client.last_zxid));
        let outcome = outcome.and_then(|()| {
            let refused = std::mem::take(&mut client.refused);
            refused.into_iter().try_for_each(|session| books.refused(host, session))
        });
        let is_down = client.state == State::Down;
        outcome.map_err(|why| self.wrong(format!("client {id}: {why}")))?;
        if is_down {
            self.leave(id, link, false);
        }
        Ok(())
    }

    /// The client's end of a connection is gone. The server learns of it, or never does.
    fn leave(&mut self, id: usize, link: End, told: bool) {
        let client = &mut self.clients[id];
        if client.link == Some(link) {
            client.disconnected();
        }
        if told || client.rng.chance(3, 4) {
            self.network.close(self.now, link);
        } else {
            self.network.leave(link);
        }
    }

    pub(super) fn act(&mut self, id: usize) -> Checked {
        let now = self.now;
        let client = &self.clients[id];
        let think = match client.state {
            State::Down if now < client.away_until.0 => client.away_until.0 - now,
            State::Down => self.try_connect(id),
            State::Connecting if now - client.last_sent.0 > 4 * SECOND => {
                if let Some(session) = client.session {
                    self.books.gives_up(session);
                }
                self.hang_up(id)
            }
            State::Connecting => 20 * MS,
            State::Up if now - client.last_heard.0 > client.timeout_ms as u64 * MS * 2 / 3 => {
                self.check_silence(id)?;
                self.hang_up(id)
            }
            State::Up => self.work(id),
        };
        self.after(think.max(10 * US), Event::Act { client: id });
        Ok(())
    }

    /// A member that serves answers everything, so its client hears of it.
    fn check_silence(&self, id: usize) -> Checked {
        let client = &self.clients[id];
        let (host, since) = (client.host, client.last_heard.0);
        if let Some(since) = self.books.serves_calmly(host, since)
            && (self.now - since).saturating_sub(self.stalled_since(since))
                >= ANSWERED_WITHIN.min(client.timeout_ms as u64 * MS * 2 / 3)
            && client.life == self.hosts[host].lives
            && !self.is_slow(id)
        {
            let ms = (self.now - since) / MS;
            let waits = client.oldest();
            let what = format!("client {id} was not answered for {ms} ms by host {host}: {waits}");
            return Err(self.wrong(what));
        }
        Ok(())
    }

    fn is_slow(&self, id: usize) -> bool {
        self.swarm.slow_readers && id.is_multiple_of(2)
    }

    fn hang_up(&mut self, id: usize) -> u64 {
        if let Some(link) = self.clients[id].link {
            self.leave(id, link, false);
        }
        self.clients[id].rng.below(100 * MS)
    }

    fn try_connect(&mut self, id: usize) -> u64 {
        let client = &mut self.clients[id];
        if self.options.ensemble.is_some() {
            client.host = match self.phase {
                // One after the other, as clients do: with bad luck at the dice, one that has a
                // minute finds none but those that are cut off.
                Phase::Heal => (client.host + 1) % self.hosts.len(),
                Phase::Work => client.rng.below(self.hosts.len() as u64) as usize,
            };
        }
        let host = client.host;
        if self.hosts[host].node().is_none_or(|node| node.draining) {
            // It would be refused; another try costs time only.
            return self.clients[id].rng.below(300 * MS);
        }
        let is_slow = self.is_slow(id);
        let paces = [
            if is_slow { Pace::Slow } else { Pace::Fast },
            if self.swarm.dribble { Pace::Dribble } else { Pace::Fast },
        ];
        let ends = [Endpoint::Client(id), Endpoint::Host(host)];
        let link = self.network.open(self.now, ends, Door::Clients, paces);
        let client = &mut self.clients[id];
        client.life = self.hosts[host].lives;
        let timeout_ms = (2 + client.rng.below(14)) as i32 * TICK_MS as i32;
        let frame = client.connect(Instant(self.now), link, timeout_ms);
        if let Some(session) = client.session {
            let model = self.books.model(host);
            // An old leader that is cut off does not know.
            let is_over = !model.has_session(session, model.last);
            client.has_ended = is_over && !self.books.may_be_cut_off(host);
            self.books.moves(session);
        }
        self.note(|| format!("client {id} connects to host {host}, {link:?}"));
        self.network.send(self.now, link, &frame);
        20 * MS
    }

    fn work(&mut self, id: usize) -> u64 {
        let Some(link) = self.clients[id].link else { return MS };
        if let Some(op) = self.clients[id].rewatch() {
            self.ask(id, link, op, None);
        }
        let calm = self.phase == Phase::Heal;
        if !calm && self.goes_wrong(id, link) {
            return MS;
        }
        if self.clients[id].closing {
            return 20 * MS;
        }
        if !calm && self.clients[id].rng.chance(1, 300) {
            self.ask(id, link, Op::Close, None);
            return 20 * MS;
        }
        let client = &self.clients[id];
        let idle = self.now - client.last_sent.0;
        if idle > client.timeout_ms as u64 * MS / 3 {
            self.ask(id, link, Op::Ping, None);
        }
        if calm && self.clients[id].outstanding() == 0 {
            self.ask(id, link, Op::Sync { path: "/".into() }, None);
        }
        if calm {
            return 100 * MS;
        }
        if self.clients[id].asks_at.0 <= self.now {
            let room = self.swarm.depth.saturating_sub(self.clients[id].outstanding());
            let ops = self.clients[id].burst(&self.swarm, room.min(self.budget as usize));
            self.budget -= ops.len() as u32;
            ops.into_iter().for_each(|op| self.ask(id, link, op, None));
            let client = &mut self.clients[id];
            let think = client.rng.below(self.swarm.think_us * 2) * US;
            client.asks_at = Instant(self.now + think);
        }
        let client = &self.clients[id];
        (client.asks_at.0 - self.now).min(client.timeout_ms as u64 * MS / 4)
    }

    /// Now and then a client goes away, or is cut off, perhaps in the middle of a frame.
    fn goes_wrong(&mut self, id: usize, link: End) -> bool {
        let rng = &mut self.clients[id].rng;
        if self.swarm.vanish && rng.chance(1, 400) {
            let away = rng.below(15 * SECOND);
            let told = rng.chance(1, 2);
            self.clients[id].away_until = Instant(self.now + away);
            self.leave(id, link, told);
            return true;
        }
        if self.swarm.cuts && rng.chance(1, 200) {
            let half = rng.below(12) as usize;
            self.ask(id, link, Op::Ping, Some(half));
            self.leave(id, link, false);
            return true;
        }
        false
    }

    fn ask(&mut self, id: usize, link: End, op: Op, cut_at: Option<usize>) {
        self.report.ops += 1;
        self.note(|| format!("client {id} asks {op:?}"));
        let client = &mut self.clients[id];
        let session = client.session.unwrap_or_default();
        let floor = self.books.floor(client.host);
        let (xid, frame) = client.send(Instant(self.now), op.clone(), floor);
        if op.is_write() {
            self.books.asked(client.host, session, xid, op);
        }
        let end = cut_at.map_or(frame.len(), |at| at.min(frame.len()));
        self.network.send(self.now, link, &frame[..end]);
    }
}
