//! The settings of a member of an ensemble, beyond the list of members.
//!
//! Corresponds to `QuorumPeerConfig.setupPeerType` and `checkValidity`, and to the properties of
//! `QuorumCnxManager` and `FastLeaderElection`. What a member can ask for and is not built is
//! refused here: a server that ignored it would differ from the others of its ensemble.

use crate::base::ServerId;
use crate::quorum::{Membership, Role};

use super::reader::Reader;
use super::settings::EnsembleSettings;

/// Keys that a member may not set so far: the value that is refused, or all if it is empty, and
/// what is not built.
const REFUSED: [(&str, &str, &str); 6] = [
    ("reconfigEnabled", "true", "changes of the membership at run time are"),
    ("quorum.auth.enableSasl", "true", "SASL between members is"),
    ("sslQuorum", "true", "TLS between members is"),
    ("localSessionsEnabled", "true", "local sessions are"),
    ("readonlymode.enabled", "true", "read-only service without a quorum is"),
    ("oraclePath", "", "the oracle of two members is"),
];

/// Reads the settings of a member. `this` is missing where an error has told of it already.
pub(super) fn read(
    reader: &mut Reader,
    this: Option<(ServerId, Membership)>,
) -> Option<EnsembleSettings> {
    refuse_unbuilt(reader);
    let init_limit = required(reader, "initLimit", "10");
    let sync_limit = required(reader, "syncLimit", "5");
    // Only 3 passes.
    let _ = reader.word("electionAlg");
    let role = this.as_ref().and_then(|(sid, all)| all.member(*sid)).map(|member| member.role);
    check_role(reader, role);
    let cnx_timeout_ms = reader.natural("cnxTimeout");
    let is_listen_on_all_ips = reader.flag("quorumListenOnAllIPs");
    let bind_attempts = reader.natural("electionPortBindRetry");
    let vote_repeat_ms_min = reader.natural("fastleader.minNotificationInterval");
    let vote_repeat_ms_max = reader.natural("fastleader.maxNotificationInterval");
    let (sid, membership) = this?;
    Some(EnsembleSettings {
        sid,
        membership,
        init_limit,
        sync_limit,
        epoch_transactions: reader.natural("ringkeeper.quorum.epochTransactions"),
        is_leader_serving: reader.is_standard("leaderServes"),
        is_adaptive_timeout: reader.is_standard("ringkeeper.quorum.adaptiveTimeout"),
        is_create2_in_multi: reader.is_standard("ringkeeper.quorum.create2InMulti"),
        cnx_timeout_ms,
        is_listen_on_all_ips,
        bind_attempts_max: Some(bind_attempts).filter(|attempts| *attempts > 0),
        vote_repeat_ms_min,
        vote_repeat_ms_max: vote_repeat_ms_max.max(vote_repeat_ms_min),
    })
}

/// A limit that a member cannot do without; `usual` is what Apache's sample has.
fn required(reader: &mut Reader, name: &str, usual: &str) -> u32 {
    if !reader.is_set(name) {
        let hint = format!("add it, for example {name}={usual}");
        reader.error(name, "not set; a member of an ensemble needs it".to_string(), &hint);
        reader.derived(name, "");
        return 0;
    }
    let ticks = reader.int_or_derived(name);
    ticks.and_then(|ticks| u32::try_from(ticks).ok()).unwrap_or(0)
}

fn refuse_unbuilt(reader: &mut Reader) {
    for (name, refused, what) in REFUSED {
        let set = reader.resolved.found.get(name);
        let is_refused = |value: &str| match refused {
            "" => !value.is_empty(),
            _ => value.eq_ignore_ascii_case(refused),
        };
        if set.is_some_and(|found| is_refused(&found.entry.value)) {
            reader.error(name, format!("{what} not built yet"), "remove the line");
        }
    }
    let port = reader.resolved.found.get("observerMasterPort");
    if port.is_some_and(|found| found.entry.value.parse::<i64>().is_ok_and(|port| port != 0)) {
        let what = "observer masters are not built yet".to_string();
        reader.error("observerMasterPort", what, "remove the line: observers follow the leader");
    }
    for pattern in ["group*", "weight*"] {
        for found in reader.all(pattern) {
            let what = "quorums of groups and weights are not built yet".to_string();
            let hint = "remove all such lines: then more than half of the participants decide";
            reader.error(&found.entry.key, what, hint);
        }
    }
}

/// COMPAT: the list decides, not `peerType`.
fn check_role(reader: &mut Reader, role: Option<Role>) {
    let named = reader.word("peerType");
    let listed = match role {
        None => return,
        Some(Role::Participant) => "participant",
        Some(Role::Observer) => "observer",
    };
    if named != listed {
        if reader.is_set("peerType") {
            let what = format!("the list of servers makes this one a {listed}, which counts");
            reader.warn("peerType", what, "make both the same, or remove the line");
        }
        reader.derived("peerType", listed);
    }
}
