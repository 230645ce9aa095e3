//! What a learner asks of its leader and tells it, for its clients.

use crate::base::{SessionId, Zxid};
use crate::wire::OpCode;
use crate::wire::quorum::{AuthIds, Forwarded, Packet, PacketKind, Revalidate, SessionTouches};

use super::super::effects::Effects;
use super::{Learning, Phase};

impl Learning {
    /// Tells the leader which sessions (and their timeouts in ms) were used since the last time: in
    /// answer to a PING, or by TOUCHES.
    pub fn tell_touched(
        &self,
        by: PacketKind,
        zxid: Zxid,
        touched: impl Iterator<Item = (SessionId, i32)>,
        effects: &mut Effects,
    ) {
        if self.phase == Phase::Broadcast {
            // Empty is not null, which Apache's leader cannot read.
            let mut data = Vec::new();
            touched.for_each(|(session, ms)| SessionTouches::put(&mut data, session, ms));
            self.send(Packet::with(by, zxid, &data), effects);
        }
    }

    /// Forwards a request of a client, who has authenticated as `ids`. Requests stay in order.
    /// False when there is no leader to forward it to.
    pub fn forward(
        &mut self,
        request: Forwarded<'_>,
        ids: AuthIds<'_>,
        effects: &mut Effects,
    ) -> bool {
        if self.phase == Phase::Broadcast {
            self.syncs += usize::from(request.op == OpCode::Sync.code());
            let mut data = Vec::with_capacity(16 + request.body.len());
            request.encode_into(&mut data);
            let packet = Packet::with(PacketKind::Request, Packet::NO_ZXID, &data);
            self.send(Packet { auth: Some(ids), ..packet }, effects);
        }
        self.phase == Phase::Broadcast
    }

    /// Asks the leader whether a session that a client brought along is alive. False when there is
    /// no leader to ask.
    pub fn revalidate(&self, asked: Revalidate, effects: &mut Effects) -> bool {
        if self.phase == Phase::Broadcast {
            let is_kept = asked.is_kept && self.leader_tells_kept();
            let mut data = Vec::with_capacity(13);
            Revalidate { is_kept, ..asked }.encode_into(&mut data);
            self.send(Packet::with(PacketKind::Revalidate, Packet::NO_ZXID, &data), effects);
        }
        self.phase == Phase::Broadcast
    }

    /// Whether the leader gives no session to a server where the client has only seemed to stay.
    pub fn leader_tells_kept(&self) -> bool {
        self.leader_features.has_renewals()
    }
}
