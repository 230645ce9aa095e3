//! Connections between simulated servers, and what a learner of Apache's makes of what it gets.

use std::collections::VecDeque;

use crate::base::Zxid;
use crate::wire::quorum::{Packet, PacketKind};

use super::super::follows;
use super::disk::Entry;

pub enum Message {
    Bytes(Vec<u8>),
    Snapshot(Vec<Entry>),
    Closed,
}

/// One direction of a connection.
#[derive(Default)]
pub struct Stream {
    pub messages: VecDeque<Message>,
    pub arrived: Vec<u8>,
}

/// What a learner of Apache's makes of what it is sent.
#[derive(Default)]
pub struct ApacheLearner {
    has_decision: bool,
    has_new_leader: bool,
    is_up_to_date: bool,
    /// Proposed and not committed.
    pending: VecDeque<Zxid>,
    last: Option<Zxid>,
}

impl ApacheLearner {
    /// Error where a learner of one of the releases 3.8.0 to 3.9.5 ends.
    pub fn take(&mut self, packet: &Packet<'_>, is_observer: bool) -> Result<(), String> {
        let is_history = self.has_decision && !self.has_new_leader;
        match packet.kind {
            PacketKind::Diff | PacketKind::Trunc | PacketKind::Snap => self.has_decision = true,
            PacketKind::NewLeader => self.has_new_leader = true,
            PacketKind::UpToDate => self.is_up_to_date = true,
            PacketKind::Proposal | PacketKind::Inform => {
                if is_observer != (packet.kind == PacketKind::Inform) && !is_history {
                    return Err(format!("{packet:?} for observer {is_observer}"));
                }
                if self.last.is_some_and(|last| !follows(last, packet.zxid)) {
                    return Err(format!("{:?} comes after {:?}", packet.zxid, self.last));
                }
                self.last = Some(packet.zxid);
                if packet.kind == PacketKind::Proposal {
                    self.pending.push_back(packet.zxid);
                }
            }
            PacketKind::Commit => {
                if self.has_new_leader && !self.is_up_to_date {
                    return Err("a COMMIT between NEWLEADER and UPTODATE".into());
                }
                if self.pending.pop_front() != Some(packet.zxid) {
                    return Err(format!("a COMMIT of {:?}, which is not next", packet.zxid));
                }
            }
            PacketKind::Unknown(kind) => return Err(format!("a packet of kind {kind}")),
            _ => {}
        }
        Ok(())
    }
}

pub struct Connection {
    pub apache: ApacheLearner,
    pub leader: usize,
    pub learner: usize,
    pub to_leader: Stream,
    pub to_learner: Stream,
}
