//! When members contradict each other about what is committed: the one that finds it out ends, as
//! it cannot know which of them is right, and must neither forget nor spread anything.
//!
//! A follower compares its tree with its leader's at transactions whose numbers are divisible by
//! 128, twice a tick at most. That is done between servers of ours only: a leader of Apache's may
//! change its own tree without a transaction when it begins to lead (`LeaderZooKeeperServer`, the
//! ephemerals of unknown sessions), and its followers live with that.

use crate::base::{Mark, ServerId, Zxid, mark};
use crate::replica::Effect;
use crate::zab::LearnerEnd;

use super::party::{Machine, Party};
use super::turn::Turn;

impl Turn<'_> {
    /// Followers hear of the newest digest of the leader's tree.
    pub(super) fn tell_digest(&mut self) {
        let Party { machine, zab, .. } = &mut *self.party;
        if let (Machine::Leading(leading), true) = (machine, self.replica.is_leading())
            && let Some((zxid, digest)) = self.replica.tree().last_digest()
        {
            leading.tell_digest(zxid, digest, zab);
        }
    }

    /// Compares the trees as soon as this one has got to where the leader's was.
    pub(super) fn compare_digests(&mut self) {
        let Some((zxid, theirs)) = self.party.stated else { return };
        if self.replica.last_processed() < zxid {
            return;
        }
        self.party.stated = None;
        // None is known behind a database that was received just now.
        let Some(own) = self.replica.tree().digest_after(zxid) else { return };
        mark(Mark::DigestsCompared);
        if own == theirs {
            self.party.agreed = Some(zxid);
            return;
        }
        let leader = self.party.followed.map_or(ServerId(0), |followed| followed.leader);
        let why = differs(leader, zxid, (own, theirs), self.party.agreed);
        self.end_term();
        self.effects.list.push(Effect::Fatal(why));
    }
}

/// What an operator has to do where a member is to take another one's database.
const REFETCH: &str = "Then move what is in this server's version-2 away, in dataDir and in \
                       dataLogDir, but leave acceptedEpoch and currentEpoch where they are: at its \
                       next start it gets everything from the leader";

fn differs(leader: ServerId, zxid: Zxid, digests: (u64, u64), agreed: Option<Zxid>) -> String {
    let (own, theirs) = digests;
    let since = match agreed {
        Some(agreed) => format!("they were equal after 0x{agreed}"),
        None => "they were not compared before, since this server began to follow".to_owned(),
    };
    format!(
        "the database of this server is not its leader's (server {}): after transaction 0x{zxid} \
         its digest is {own}, and the leader's {theirs}; {since}. One of the two is damaged, so \
         this server ends. Ask the other members (`hash` shows digests by zxid) which one is \
         alone with its digest. If it is the leader, stop that one, and start this one again as it \
         is. If it is this server, look for what is wrong with its memory or disk. {REFETCH}",
        leader.0
    )
}

/// The leader of a quorum has not got what another quorum has acknowledged.
pub(super) fn forgotten(leader: ServerId, end: &LearnerEnd) -> String {
    format!(
        "server {}, which leads, has lost what this server has: {end}. Members were emptied, or \
         older data was restored. This server ends, and keeps what it has. If its data is what is \
         to be kept, stop the others, and give them a copy of it (see conf/ensemble.md). \
         Otherwise what only this server has is lost. {REFETCH}",
        leader.0
    )
}
