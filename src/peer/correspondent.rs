//! What is kept of one other server on the election port: the last message for it, its connection,
//! and when to dial it again.

use std::time::Duration;

use crate::base::{Instant, LinkId, Ration};

/// Pause after the first dial that failed; doubled after each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause between two dials.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How long a server with a larger id has, at least, to dial back. Greeting it once more would
/// make an Apache server close the connection that it is just making.
pub(super) const DIAL_BACK: Duration = Duration::from_secs(1);

/// A connection that ends before this was given up for another one, or found useless. One that
/// ends later is a loss, and worth dialing at once.
const SETTLED: Duration = Duration::from_secs(1);

/// A message that was handed to a connection so long before its end, or less, may be lost.
const DOUBTFUL: Duration = Duration::from_secs(1);

/// How long a message is worth dialing for. Servers that look for a leader repeat theirs within a
/// minute; others have nothing to say unless they are asked.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One other server.
///
/// Invariant: while there is a connection, none is being made.
#[derive(Debug, Default)]
pub(super) struct Correspondent {
    /// The configuration knows it: it can be dialed, and is never forgotten.
    pub is_member: bool,
    /// Its connection, over which messages go.
    pub link: Option<LinkId>,
    /// A connection that is being made.
    pub dial: Option<LinkId>,
    /// The last message for it, whole; empty before the first. A new connection gets it again.
    pub message: Vec<u8>,
    /// The message waits for a connection.
    waits_since: Option<Instant>,
    /// Until then the server, which has a larger id, is expected to dial.
    expected_until: Instant,
    /// When a message that waits is dialed for.
    redial_at: Instant,
    /// It has probably ended. The next dial tells, so there is no pause before it.
    is_suspect: bool,
    /// Dials, and connections that hardly lived, since the last good one.
    failures: u32,
    /// Complaints that it cannot be reached.
    pub unreachable: Ration,
}

impl Correspondent {
    /// A server of the configuration, before there was anything to tell it.
    pub fn member() -> Correspondent {
        Correspondent { is_member: true, ..Correspondent::default() }
    }

    /// The message waits from now on.
    pub fn wait(&mut self, now: Instant) {
        self.waits_since = Some(now);
    }

    /// Whether it has no connection, and none is being made.
    fn is_apart(&self) -> bool {
        self.link.is_none() && self.dial.is_none()
    }

    /// Whether a new message is a reason to dial at once.
    pub fn may_dial(&self, now: Instant) -> bool {
        self.is_member && self.is_apart() && now >= self.expected_until
    }

    /// When it is to be dialed for the message that waits.
    pub fn redial_at(&self) -> Option<Instant> {
        let since = self.waits_since.filter(|_| self.is_member && self.is_apart())?;
        (self.redial_at < since + WAIT_MAX).then_some(self.redial_at)
    }

    /// There is a connection.
    pub fn connected(&mut self) {
        self.waits_since = None;
        self.is_suspect = false;
        self.expected_until = Instant::default();
    }

    /// A dial has failed.
    pub fn failed(&mut self, now: Instant) {
        self.is_suspect = false;
        self.failures = self.failures.saturating_add(1);
        self.redial_at = now + self.pause();
    }

    /// It has a larger id and was told who is here: it is to dial back.
    pub fn greeted(&mut self, now: Instant) {
        self.failed(now);
        self.redial_at = self.redial_at.max(now + DIAL_BACK);
        self.expected_until = self.redial_at;
    }

    /// It has a larger id, and did not read who is here.
    pub fn not_greeted(&mut self, now: Instant) {
        self.redial_at = now + self.pause();
        self.expected_until = self.redial_at;
    }

    /// It has probably ended.
    pub fn suspect(&mut self, now: Instant) {
        (self.failures, self.redial_at, self.expected_until) = (0, now, Instant::default());
        self.is_suspect = true;
    }

    /// Its connection has ended. The message waits again if it may be lost.
    pub fn lost(&mut self, now: Instant, ended: &Ended) {
        self.link = None;
        if now.since(ended.began) < SETTLED && !self.is_suspect {
            self.failed(now);
            if ended.may_be_replaced {
                self.expected_until = self.redial_at;
            }
        } else {
            (self.failures, self.redial_at) = (0, now);
        }
        let is_doubtful = |at: Instant| now.since(at) < DOUBTFUL;
        if ended.is_unsent || ended.handed_at.is_some_and(is_doubtful) {
            self.waits_since = Some(now);
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(5);
        (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX)
    }
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// When it was made.
    pub began: Instant,
    /// The other server has the larger id, and may have ended it to make another one.
    pub may_be_replaced: bool,
    /// The socket had not taken all that was sent.
    pub is_unsent: bool,
    /// When the last message was given to it.
    pub handed_at: Option<Instant>,
}
