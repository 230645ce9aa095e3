//! The membership that counts now, and the one that is about to.

use std::sync::Arc;

use crate::base::{ServerId, Zxid};

use super::{Membership, Quorums};

/// The committed membership, and the last one that was proposed. While the last one is newer, both
/// have to agree. They differ during a change of the membership only.
#[derive(Clone, Debug)]
pub struct Ensemble {
    committed: Arc<Membership>,
    /// Newer than the committed one.
    proposed: Option<Arc<Membership>>,
}

impl Ensemble {
    /// An ensemble whose membership is not about to change.
    pub fn new(committed: Arc<Membership>) -> Ensemble {
        Ensemble { committed, proposed: None }
    }

    /// Takes note of a proposed membership. One that is no newer than the committed one has no say.
    pub fn propose(&mut self, membership: Arc<Membership>) {
        self.proposed = Some(membership).filter(|new| new.version() > self.committed.version());
    }

    /// The membership that counts now.
    pub fn committed(&self) -> &Arc<Membership> {
        &self.committed
    }

    /// The version of the membership that counts now.
    pub fn version(&self) -> Zxid {
        self.committed.version()
    }

    /// Whether this server has a vote in either.
    pub fn is_voter(&self, sid: ServerId) -> bool {
        self.each().any(|membership| membership.quorums().is_voter(sid))
    }

    /// Everybody with a vote in either, in ascending order.
    pub fn voters(&self) -> Vec<ServerId> {
        let quorums = self.each().map(Membership::quorums);
        let mut voters: Vec<ServerId> = quorums.flat_map(Quorums::voters).copied().collect();
        voters.sort_unstable();
        voters.dedup();
        voters
    }

    /// Whether the servers of which `has` is true decide, in both.
    pub fn is_quorum(&self, has: impl Fn(ServerId) -> bool) -> bool {
        self.each().all(|membership| membership.quorums().is_met(&has))
    }

    fn each(&self) -> impl Iterator<Item = &Membership> {
        [Some(&self.committed), self.proposed.as_ref()].into_iter().flatten().map(Arc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(sids: &[i64], version: i64) -> Arc<Membership> {
        let lines: String = sids.iter().map(|sid| format!("server.{sid}=h:1:2\n")).collect();
        Arc::new(Membership::parse(&format!("{lines}version={version:x}")).unwrap())
    }

    #[test]
    fn during_a_change_both_memberships_have_to_agree() {
        let mut ensemble = Ensemble::new(membership(&[1, 2, 3], 5));
        let decide =
            |ensemble: &Ensemble, sids: &[i64]| ensemble.is_quorum(|sid| sids.contains(&sid.0));
        assert!(decide(&ensemble, &[1, 2]) && !decide(&ensemble, &[3, 4, 5]));
        ensemble.propose(membership(&[3, 4, 5], 6));
        assert!(!decide(&ensemble, &[1, 2]) && !decide(&ensemble, &[3, 4, 5]));
        assert!(decide(&ensemble, &[2, 3, 4]));
        assert_eq!(ensemble.voters(), [1, 2, 3, 4, 5].map(ServerId));
        assert!(ensemble.is_voter(ServerId(5)) && !ensemble.is_voter(ServerId(6)));
        assert_eq!(ensemble.version(), Zxid(5));
    }

    #[test]
    fn an_older_proposal_has_no_say() {
        let mut ensemble = Ensemble::new(membership(&[1], 5));
        ensemble.propose(membership(&[2], 5));
        assert!(ensemble.is_quorum(|sid| sid == ServerId(1)));
    }
}
