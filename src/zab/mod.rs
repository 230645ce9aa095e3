//! ZAB: how a leader and its learners agree on one sequence of transactions.
//!
//! Two machines without I/O: [`Leading`] is what a server has while it leads, [`Learning`] what it
//! has while it follows or observes. Both are told what happened (`handle`), say what they want
//! done ([`Effects`]), and when they want to be called at the latest (`deadline`). They know zxids,
//! epochs, packets and bytes of transactions; they never look at a tree, a session or a file.
//!
//! Phases, as in the paper of Junqueira, Reed and Serafini (DSN 2011), and in Apache's servers:
//! *discovery* (FOLLOWERINFO, LEADERINFO, ACKEPOCH: a quorum promises the new epoch),
//! *synchronization* (DIFF, TRUNC or SNAP, then NEWLEADER: a quorum has the leader's history on
//! disk), *broadcast* (UPTODATE, then PROPOSAL, ACK, COMMIT).
//!
//! Rules that both sides keep, each with the mistake of Apache's that taught it:
//! - Everything that a learner receives goes to its log in order, whatever the kind of
//!   synchronization, so that its memory is never ahead of its disk (ZOOKEEPER-3642, -5094).
//! - History is durable before `currentEpoch`, and that before the ACK of NEWLEADER (-4643, -4646).
//!   No proposal is acknowledged before NEWLEADER is (-4685).
//! - Nothing that came before UPTODATE is applied on the word of a leader that a quorum has not
//!   confirmed yet.
//! - ACKs are told apart by zxid, not by position, and cover everything before them. A learner
//!   decides to send one in `Learning::acknowledge`; a leader counts them in `Leading::advance`.
//! - A leader keeps no queue for a learner: it remembers how far the learner's connection has got,
//!   and writes what comes next when there is room. A slow learner costs no memory.
#![forbid(unsafe_code)]

mod confirm;
mod effects;
mod history;
mod leading;
mod learning;
mod link;
mod packets;
mod silence;
mod sync;
#[cfg(test)]
mod tests;

pub use effects::{Effect, Effects, LeadingEnd, LearnerEnd, Rebuild};
pub use history::{EPOCH_MAX, History, follows};
pub use leading::{LeadInput, Leading, LeadingFigures, LeadingOptions, ProposalSizes};
pub use learning::{LearnInput, Learning, LearningOptions, Standing};
pub use sync::{Decision, decide};
