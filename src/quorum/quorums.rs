//! Which sets of members decide. Corresponds to `QuorumVerifier`.

use crate::base::ServerId;

/// A rule that says which sets of voters decide. Any two sets that do have a voter in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Quorums {
    /// More than half of the voters (`QuorumMaj`). Rules with groups and weights
    /// (`QuorumHierarchical`) will be further variants.
    Majority {
        /// In ascending order.
        voters: Vec<ServerId>,
    },
}

impl Quorums {
    /// Whether the voters of which `has` is true decide. Others are never asked about.
    pub fn is_met(&self, has: impl Fn(ServerId) -> bool) -> bool {
        match self {
            Quorums::Majority { voters } => {
                voters.iter().filter(|sid| has(**sid)).count() > voters.len() / 2
            }
        }
    }

    /// How much a server's vote counts. A server of weight 0 is never elected.
    pub fn weight(&self, _sid: ServerId) -> u64 {
        match self {
            // Also of servers without a vote, as in `QuorumMaj`.
            Quorums::Majority { voters: _ } => 1,
        }
    }

    /// Everybody with a vote, in ascending order.
    pub fn voters(&self) -> &[ServerId] {
        match self {
            Quorums::Majority { voters } => voters,
        }
    }

    /// Whether this server has a vote.
    pub fn is_voter(&self, sid: ServerId) -> bool {
        self.voters().binary_search(&sid).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn majority(count: i64) -> Quorums {
        Quorums::Majority { voters: (1..=count).map(ServerId).collect() }
    }

    #[test]
    fn more_than_half_decide() {
        for voters in 0..=7_i64 {
            let quorums = majority(voters);
            for set in 0..1_u32 << voters {
                // Ids beyond the voters are in every set and count in none.
                let has = |sid: ServerId| sid.0 > voters || set >> (sid.0 - 1) & 1 == 1;
                let is_met = i64::from(set.count_ones()) * 2 > voters;
                assert_eq!(quorums.is_met(has), is_met, "{set:b} of {voters}");
            }
        }
    }

    #[test]
    fn two_sets_that_decide_share_a_voter() {
        for voters in 1..=6_i64 {
            let quorums = majority(voters);
            let decide = |set: u32| quorums.is_met(|sid| set >> (sid.0 - 1) & 1 == 1);
            let sets: Vec<u32> = (0..1_u32 << voters).filter(|set| decide(*set)).collect();
            assert!(!sets.is_empty());
            assert!(sets.iter().all(|a| sets.iter().all(|b| a & b != 0)));
        }
    }

    #[test]
    fn voters_are_found() {
        let quorums = Quorums::Majority { voters: vec![ServerId(-2), ServerId(5)] };
        assert!(quorums.is_voter(ServerId(-2)) && quorums.is_voter(ServerId(5)));
        assert!(!quorums.is_voter(ServerId(0)));
        assert_eq!(quorums.weight(ServerId(0)), 1);
    }
}
