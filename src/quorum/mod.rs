//! Who belongs to an ensemble, and which of them decide.
//!
//! Corresponds to `QuorumPeer.QuorumServer`, `QuorumVerifier` and `QuorumMaj`. Reads and writes the
//! text of a membership; files, addresses of hosts and the change of a membership at run time are
//! not its business.
#![forbid(unsafe_code)]

mod ensemble;
mod member;
mod membership;
mod quorums;

pub use ensemble::Ensemble;
pub use member::{ANY_HOST, Address, Member, MemberAddress, MemberError, Role};
pub use membership::{Membership, MembershipError};
pub use quorums::Quorums;
