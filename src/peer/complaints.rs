//! What the operator is told about connections of members. Strangers can bring about each of these
//! thousands of times a second, so each kind is rationed.

use std::fmt;

use crate::base::{Instant, Ration};

/// A kind of complaint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Complaint {
    /// A connection brought no hello in time.
    Silent,
    /// More connections without a hello, or in wait, than are kept.
    TooMany,
    /// The first bytes are no hello.
    NoHello,
    /// A server that the configuration does not know.
    Stranger,
    /// A server with this server's id.
    OwnId,
    /// A message that is no vote.
    NoVote,
    /// A length that no message has.
    BadLength,
}

impl Complaint {
    const COUNT: usize = Complaint::BadLength as usize + 1;
}

/// What of each kind was written and what was held back.
#[derive(Debug, Default)]
pub(super) struct Complaints([Ration; Complaint::COUNT]);

impl Complaints {
    /// Writes it, unless the same was said a moment ago.
    pub fn say(&mut self, now: Instant, complaint: Complaint, what: fmt::Arguments<'_>) {
        if let Some(more) = self.0[complaint as usize].take(now) {
            log::warn!("{what}{more}");
        }
    }
}
