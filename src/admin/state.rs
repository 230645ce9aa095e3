//! What a member of an ensemble shows of its part in it.

use crate::metrics::Summary;

/// What a server is to its ensemble now. The default is a server alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberState {
    /// Its part.
    pub mode: Mode,
    /// What has happened since it was started.
    pub counts: MemberCounts,
}

/// The part that a server plays.
#[derive(Clone, Copy, Debug, Default)]
pub enum Mode {
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
    /// Bytes of the last, the smallest and the largest proposal; `None` before the first.
    pub proposal_sizes: Option<(u64, u64, u64)>,
}

/// What a member counts, under the names that ZooKeeper has for it in `mntr`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberCounts {
    /// `looking_count`: how often it has begun to look for a leader.
    pub looking: u64,
    /// `proposal_count`: transactions proposed as leader.
    pub proposals: u64,
    /// `commit_count`: transactions committed as leader.
    pub commits: u64,
    /// `learner_proposal_received_count`: proposals of a leader.
    pub learner_proposals: u64,
    /// `learner_commit_received_count`: commits of a leader.
    pub learner_commits: u64,
    /// `diff_count`: learners that got what they lacked from the log.
    pub diffs: u64,
    /// `snap_count`: learners that got the whole database.
    pub snaps: u64,
    /// `revalidate_count`: sessions that a leader was asked about.
    pub revalidations: u64,
    /// `election_time`: microseconds from looking for a leader to having one.
    pub election_us: Summary,
    /// `follower_sync_time`: microseconds until a follower was in step.
    pub follower_sync_us: Summary,
    /// `observer_sync_time`: microseconds until an observer was in step.
    pub observer_sync_us: Summary,
}

impl LeaderFigures {
    /// Sizes of proposals as ZooKeeper shows them: -1 before the first.
    pub(super) fn shown_sizes(&self) -> (i64, i64, i64) {
        let shown = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let sizes = self.proposal_sizes;
        sizes.map_or((-1, -1, -1), |(last, min, max)| (shown(last), shown(min), shown(max)))
    }
}

impl Mode {
    /// `Mode` in `srvr`, and `server_state` in `mntr`. While it serves nothing neither is shown.
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Alone => "standalone",
            Mode::Looking => "looking",
            Mode::Leading(_) => "leader",
            Mode::Following => "follower",
            Mode::Observing => "observer",
        }
    }

    /// `peer_state` in `mntr`; a server alone has none.
    pub(super) fn peer_state(&self) -> Option<&'static str> {
        match self {
            Mode::Alone => None,
            Mode::Looking => Some("looking"),
            Mode::Leading(_) => Some("leading - broadcast"),
            Mode::Following => Some("following - broadcast"),
            Mode::Observing => Some("observing - broadcast"),
        }
    }
}
