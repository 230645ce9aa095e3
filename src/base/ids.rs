//! Identifier newtypes. A bare integer never crosses a module border.

use std::fmt;

/// Transaction id: epoch in the high 32 bits, counter in the low 32. Compared signed, as
/// ZooKeeper does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// No transaction yet.
    pub const ZERO: Zxid = Zxid(0);

    /// The zxid of transaction `counter` of `epoch`.
    pub fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid((i64::from(epoch.0) << 32) | i64::from(counter))
    }

    /// The epoch this transaction belongs to.
    pub fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as i32)
    }

    /// Position inside the epoch; the first transaction has counter 1.
    pub fn counter(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The transaction after this one. After the last of an epoch comes the first number of the
    /// next, as a lone server of ZooKeeper counts; a leader hands over before it comes to that.
    ///
    /// # Panics
    /// At the last number of all, which recovery refuses long before.
    #[must_use]
    pub fn next(self) -> Zxid {
        Zxid(self.0 + 1)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zxid 0x{:x}", self.0)
    }
}

/// Leadership epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Epoch(pub i32);

/// The number in `myid`, a signed `long` as in ZooKeeper; standalone servers use 1 for session ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub i64);

/// Session id; the top byte is the id of the server that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session 0x{:x}", self.0)
    }
}

/// The `ephemeralOwner` of container nodes (`EphemeralType.CONTAINER_EPHEMERAL_OWNER`). No session
/// has it for an id.
pub const CONTAINER_OWNER: i64 = i64::MIN;

/// A client's correlation id on one connection, echoed in the reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Xid(pub i32);

/// The xid as stored in a transaction header; 0 for server-generated transactions.
pub type Cxid = Xid;

/// A client connection of this server: a slot that is reused in the low 32 bits, the count of its
/// uses in the high 32, so that a late message never reaches the slot's next holder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The connection in `slot` after `generation` earlier uses.
    pub fn new(slot: u32, generation: u32) -> ConnId {
        ConnId(u64::from(generation) << 32 | u64::from(slot))
    }

    /// The reusable slot.
    pub fn slot(self) -> u32 {
        self.0 as u32
    }

    /// How often the slot had been used before.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A connection between two members, on either port. Never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LinkId(pub u64);

/// Shows a learner that a lifeline comes from its leader (`server::lifeline`). The learner chooses
/// it anew for each term, and tells nobody else: who can reach the election port could end the term
/// otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LifelineKey(pub u64);
