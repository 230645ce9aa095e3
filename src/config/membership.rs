//! The `server.N` lines, as far as a standalone server is concerned with them.
//!
//! Corresponds to `QuorumPeerConfig.parseDynamicConfig`; a line itself is read by `quorum`. One
//! server in the list runs standalone, with a warning, as in ZooKeeper; several need an ensemble,
//! which is an error so far.

use crate::quorum::{Address, Member, MemberError, Role};

use super::problem::{Problem, Severity, Topic};
use super::raw::RawConfig;
use super::reader::Reader;
use super::resolve::{Found, problem};

/// Checks the membership and reports problems to `reader`. Returns the client address of a single
/// server. Of a list that is refused it returns the first one.
pub(super) fn read(reader: &mut Reader, raw: &RawConfig) -> Option<Address> {
    let standalone_enabled = reader.flag("standaloneEnabled");
    let servers = reader.all("server.*");
    let named = reader.text("dynamicConfigFile").is_some();
    let is_unread = named && raw.dynamic.is_none();
    if is_unread {
        let what = raw.dynamic_error.as_ref();
        let what = what.map_or("was not read".to_string(), |e| format!("cannot be read: {e}"));
        let hint = "correct its path or its permissions, or remove the line to run standalone";
        reader.error("dynamicConfigFile", what, hint);
    }
    if named {
        check_static_lines(reader);
    }
    let mut members = Vec::new();
    for found in &servers {
        let _ = reader.text(&found.entry.key);
        match parse(found) {
            Ok(member) => members.push(member),
            Err(wrong) => push(reader, found, Severity::Error, wrong.to_string(), FORM),
        }
    }
    if members.len() < servers.len() {
        return None;
    }
    // A refused list has a client address: that `clientPort` is missing is no second problem.
    let listed = members.iter().find_map(|member| member.client.clone());
    let refused = listed.filter(|_| !reader.is_set("clientPort"));
    let voters = members.iter().filter(|member| member.role == Role::Participant).count();
    let first = servers.first();
    match (members.len(), voters) {
        // The dynamic file has them, and it could not be read.
        (0, _) if is_unread => None,
        (0, _) => {
            check_no_members(reader, standalone_enabled);
            None
        }
        (_, 0) => {
            let what = "observers without any participant cannot form an ensemble";
            first.inspect(|found| {
                push(reader, found, Severity::Error, what.to_string(), "list a participant");
            });
            refused
        }
        (1, 1) if standalone_enabled => {
            let what = "only one server in the list: it runs standalone, without a quorum";
            let hint = "remove the server line, or list all servers of the ensemble";
            first.inspect(|found| push(reader, found, Severity::Warning, what.to_string(), hint));
            members.first().and_then(|member| member.client.clone())
        }
        (1, 1) => {
            push_quorum_of_one(reader);
            refused
        }
        (count, _) => {
            let what = format!("{count} servers are listed, but ensembles are not built yet");
            let hint = if standalone_enabled {
                "keep at most the line of this server, and it runs standalone"
            } else {
                "keep at most the line of this server, and remove standaloneEnabled=false, to run \
                 it standalone"
            };
            first.inspect(|found| push(reader, found, Severity::Error, what, hint));
            if !standalone_enabled {
                push_quorum_of_one(reader);
            }
            refused
        }
    }
}

fn push_quorum_of_one(reader: &mut Reader) {
    let what = "a quorum of one is a kind of ensemble, and ensembles are not built yet";
    let hint = "remove standaloneEnabled=false to run the server standalone";
    reader.error("standaloneEnabled", what.to_string(), hint);
}

const FORM: &str = "write server.<id>=<host>:<quorumPort>:<electionPort>[:participant|observer]\
                    [;[<host>:]<clientPort>]";

fn push(reader: &mut Reader, found: &Found, severity: Severity, what: String, hint: &str) {
    let problem: Problem = problem(severity, Topic::Value, &found.entry, what, hint.to_string());
    reader.resolved.problems.push(problem);
}

/// Membership lines may not stand in the static file beside `dynamicConfigFile`. An entry that the
/// dynamic file repeats has replaced the static one, with a warning.
fn check_static_lines(reader: &mut Reader) {
    let named = reader.resolved.found.get("dynamicConfigFile").map(|f| f.entry.origin.clone());
    let file_of = |origin: &super::Origin| match origin {
        super::Origin::File { name, line: _ } => Some(name.clone()),
        super::Origin::Default
        | super::Origin::CommandLine
        | super::Origin::Variable(_)
        | super::Origin::Script { .. } => None,
    };
    let static_file = named.as_ref().and_then(file_of);
    for pattern in ["server.*", "group*", "weight*"] {
        for found in reader.all(pattern) {
            if file_of(&found.entry.origin) == static_file {
                let what = "has to stand in the file that dynamicConfigFile names".to_string();
                push(reader, &found, Severity::Error, what, "move the line there");
            }
        }
    }
}

fn check_no_members(reader: &mut Reader, standalone_enabled: bool) {
    if !standalone_enabled {
        let what = "without server.N lines a server can only run standalone".to_string();
        reader.error("standaloneEnabled", what, "remove the line, or set it to true");
    }
    let is_observer = reader.resolved.found.get("peerType");
    if is_observer.is_some_and(|found| found.entry.value.eq_ignore_ascii_case("observer")) {
        let what = "an observer needs an ensemble, and no servers are listed".to_string();
        reader.error("peerType", what, "remove the line to run standalone");
    }
}

fn parse(found: &Found) -> Result<Member, MemberError> {
    let sid = found.entry.key.strip_prefix("server.").unwrap_or("");
    Member::parse(sid, &found.entry.value)
}
