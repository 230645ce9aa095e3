//! What members say on the quorum port: `QuorumPacket` and the records inside its `data`.
//!
//! Corresponds to `org.apache.zookeeper.server.quorum`: `QuorumPacket`, `LearnerInfo`, and what
//! `Leader`, `Learner` and `LearnerHandler` put into packets by hand.

mod ours;
mod packet;
mod payload;
#[cfg(test)]
mod recorded_tests;

pub use ours::{
    BEAT, DIGEST, FAREWELL, Features, NEXT_EPOCH, PROPOSALS, ProposalGroup, Proposed, TOUCHES,
    proposals,
};
pub use packet::{AuthIds, Packet, PacketKind, PacketScan, Scan, requested_paths};
pub use payload::{
    Activate, EpochAnswer, Forwarded, LearnerInfo, PROTOCOL_VERSION, Revalidate, Revalidated,
    SessionTouches, leader_info, leader_info_version, new_leader_config,
};
