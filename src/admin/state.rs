//! What a member of an ensemble shows of its part in it.

/// What a server is to its ensemble now.
#[derive(Clone, Copy, Debug, Default)]
pub enum MemberState {
    /// There are no other members.
    #[default]
    Alone,
    /// There is no leader, or this server is not yet in step with its leader: it serves nothing.
    Looking,
    /// It leads.
    Leading(LeaderFigures),
    /// It follows a leader, and votes.
    Following,
    /// It follows a leader, and never votes.
    Observing,
}

/// What only a leader shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaderFigures {
    /// Milliseconds since it leads.
    pub uptime_ms: u64,
    /// Connected learners, observers included.
    pub learners: usize,
    /// Followers that are in step.
    pub synced_followers: usize,
    /// How many of these followers have no vote.
    pub synced_non_voting: usize,
    /// Observers that are in step.
    pub synced_observers: usize,
    /// `sync` requests that wait for a quorum or for what was proposed before.
    pub pending_syncs: usize,
    /// Transactions proposed.
    pub proposals: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Bytes of the last, the smallest and the largest proposal; `None` before the first.
    pub proposal_sizes: Option<(usize, usize, usize)>,
}

impl LeaderFigures {
    /// Sizes of proposals as ZooKeeper shows them: -1 before the first.
    pub(super) fn shown_sizes(&self) -> (i64, i64, i64) {
        let shown = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        let sizes = self.proposal_sizes;
        sizes.map_or((-1, -1, -1), |(last, min, max)| (shown(last), shown(min), shown(max)))
    }
}

impl MemberState {
    /// `Mode` in `srvr`, and `server_state` in `mntr`. While it serves nothing neither is shown.
    pub fn name(&self) -> &'static str {
        match self {
            MemberState::Alone => "standalone",
            MemberState::Looking => "looking",
            MemberState::Leading(_) => "leader",
            MemberState::Following => "follower",
            MemberState::Observing => "observer",
        }
    }

    /// `peer_state` in `mntr`; a server alone has none.
    pub(super) fn peer_state(&self) -> Option<&'static str> {
        match self {
            MemberState::Alone => None,
            MemberState::Looking => Some("looking"),
            MemberState::Leading(_) => Some("leading - broadcast"),
            MemberState::Following => Some("following - broadcast"),
            MemberState::Observing => Some("observing - broadcast"),
        }
    }
}
