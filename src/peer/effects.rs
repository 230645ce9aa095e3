//! What the driver says of members' connections, and what it is asked for.

use std::fmt;
use std::net::SocketAddr;

use crate::base::{LifelineKey, LinkId, ServerId};

/// The two ports of a member for other members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Port {
    /// Where votes are exchanged: one connection for each pair of members.
    Election,
    /// Where learners connect to the leader.
    Quorum,
}

/// Why a connection to a member could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialError {
    /// The member's machine answers, and nobody listens at that port.
    Refused,
    /// Nothing answered in time, or the address cannot be found or reached: the words say which.
    Failed(String),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Refused => f.write_str("the connection was refused: nobody listens there"),
            DialError::Failed(why) => f.write_str(why),
        }
    }
}

/// What happened to a connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection arrived. Its number is new and odd.
    Accepted {
        /// The connection.
        link: LinkId,
        /// Where it arrived.
        port: Port,
        /// The other end.
        from: SocketAddr,
    },
    /// What [`Effect::Dial`] came to. After an error the connection does not exist.
    Dialed {
        /// The connection.
        link: LinkId,
        /// The other end's address, or why there is none.
        result: Result<SocketAddr, DialError>,
    },
    /// Bytes arrived.
    Bytes {
        /// The connection.
        link: LinkId,
        /// In the order in which they were sent.
        bytes: &'a [u8],
    },
    /// The socket took some of what was to be sent. Comes also while it takes no more, once a send
    /// has ended.
    Unsent {
        /// The connection.
        link: LinkId,
        /// Bytes of it that the socket has not taken.
        bytes: usize,
    },
    /// The other side, or the network, has ended the connection. Does not follow on
    /// [`Effect::Close`].
    Ended {
        /// The connection.
        link: LinkId,
        /// It was reset: nobody is there who would go on with it.
        was_reset: bool,
    },
}

/// One wish. The wishes of one connection are carried out in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Connect to a member; `Input::Dialed` answers.
    Dial {
        /// The connection's number, new and even.
        link: LinkId,
        /// The member.
        to: ServerId,
        /// Its port.
        port: Port,
    },
    /// Send `Effects::bytes[start..end]`.
    Send {
        /// The connection.
        link: LinkId,
        /// First byte.
        start: usize,
        /// End.
        end: usize,
    },
    /// Close a connection once what was queued for it before is sent, or at once if that takes
    /// longer than a moment. A dial that has not ended is given up.
    Close {
        /// The connection.
        link: LinkId,
    },
    /// Receive nothing more for now; what has arrived may still come.
    Hold {
        /// The connection.
        link: LinkId,
    },
    /// Receive again.
    Resume {
        /// The connection.
        link: LinkId,
    },
    /// From now on a BEAT goes over the connection, between two packets, now and then while the
    /// loop is held up; and a lifeline to the learner, if it takes one, shows it when this process
    /// ends.
    KeepAlive {
        /// The connection, which is open.
        link: LinkId,
        /// The server at its other end.
        learner: ServerId,
        /// For its lifeline.
        key: Option<LifelineKey>,
    },
}

/// Wishes of one or more calls, reused between turns.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes that [`Effect::Send`] refers to.
    pub bytes: Vec<u8>,
    /// The wishes in order.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Appends bytes for a connection.
    pub fn send(&mut self, link: LinkId, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        if let Some(Effect::Send { link: last, end: last_end, .. }) = self.list.last_mut()
            && *last == link
            && *last_end == start
        {
            *last_end = end;
            return;
        }
        self.list.push(Effect::Send { link, start, end });
    }

    /// Bytes for a connection that still stand here, which no `Input::Unsent` counts.
    pub fn queued(&self, link: LinkId) -> usize {
        let length = |effect: &Effect| match effect {
            Effect::Send { link: to, start, end } if *to == link => end - start,
            _ => 0,
        };
        self.list.iter().map(length).sum()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }
}
