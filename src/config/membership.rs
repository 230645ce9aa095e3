//! The `server.N` lines: who belongs to the ensemble, and which of them this server is.
//!
//! Corresponds to `QuorumPeerConfig.parseDynamicConfig`, `setupMyId` and `setupClientPort`; a line
//! itself is read by `quorum`. One server in the list runs standalone, with a warning, as in
//! ZooKeeper. A quorum of one is refused so far.

use crate::base::{ServerId, Zxid};
use crate::quorum::{Address, Member, MemberError, Membership, Role};

use super::problem::{Origin, Problem, Severity, Topic};
use super::raw::RawConfig;
use super::reader::Reader;
use super::resolve::{Found, problem};

/// What the list says to this server.
#[derive(Default)]
pub(super) struct Listed {
    /// The client address in this server's line. Where that line is not known the first client
    /// address of all, so that nobody takes a missing `clientPort` for a second mistake.
    pub(super) client: Option<Address>,
    /// The list asks for an ensemble.
    pub(super) is_member: bool,
    /// This server and all members, if both are known.
    pub(super) this: Option<(ServerId, Membership)>,
}

/// What a list of members makes of a server that has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    Member,
    /// An error has said why not.
    Refused,
}

/// Checks the membership and reports problems to `reader`.
pub(super) fn read(reader: &mut Reader, raw: &RawConfig) -> Listed {
    let standalone_enabled = reader.flag("standaloneEnabled");
    let servers = reader.all("server.*");
    let is_unread = check_dynamic_file(reader, raw);
    let mut members = Vec::new();
    for found in &servers {
        let _ = reader.text(&found.entry.key);
        match parse(found) {
            Ok(member) => members.push(member),
            Err(wrong) => push(reader, found, Severity::Error, wrong.to_string(), FORM),
        }
    }
    if members.len() < servers.len() {
        return Listed { is_member: servers.len() > 1, ..Listed::default() };
    }
    let Some(first) = servers.first() else {
        // The dynamic file has them if it could not be read.
        if !is_unread {
            check_no_members(reader, standalone_enabled);
        }
        return Listed::default();
    };
    let listed = members.iter().find_map(|member| member.client.clone());
    let listed = listed.filter(|_| !reader.is_set("clientPort"));
    match kind(reader, first, &members, standalone_enabled) {
        Kind::Alone => {
            let client = members.first().and_then(|member| member.client.clone());
            Listed { client, ..Listed::default() }
        }
        Kind::Refused => Listed { client: listed, ..Listed::default() },
        Kind::Member => {
            check_addresses(reader, &servers, &members);
            let sid = this_server(reader, raw, &members);
            let this = sid.and_then(|sid| members.iter().find(|member| member.sid == sid));
            let client = this.map_or(listed, |member| member.client.clone());
            let membership = membership(reader, first, members);
            Listed { client, is_member: true, this: sid.zip(membership) }
        }
    }
}

/// Judges the list as a whole.
fn kind(reader: &mut Reader, first: &Found, members: &[Member], standalone_enabled: bool) -> Kind {
    let voters = members.iter().filter(|member| member.role == Role::Participant).count();
    let mut say =
        |severity, what: &str, hint| push(reader, first, severity, what.to_string(), hint);
    match (voters, members.len() - voters) {
        (0, _) => {
            let what = "observers without any participant cannot form an ensemble";
            say(Severity::Error, what, "list a participant");
            Kind::Refused
        }
        (1, 0) if standalone_enabled => {
            let what = "only one server in the list: it runs standalone, without a quorum";
            let hint = "remove the server line, or list all servers of the ensemble";
            say(Severity::Warning, what, hint);
            Kind::Alone
        }
        (1, _) if standalone_enabled => {
            let what = "one participant runs standalone, where observers mean nothing";
            say(Severity::Error, what, "list at least three participants, or this server alone");
            Kind::Refused
        }
        (1, _) => {
            let what = "a quorum of one participant is not built yet".to_string();
            let hint = "remove standaloneEnabled=false to run the server standalone";
            reader.error("standaloneEnabled", what, hint);
            Kind::Refused
        }
        (2, _) => {
            let what = "with two participants the ensemble stops as soon as one of them fails";
            say(Severity::Warning, what, "list three, or make one of the two run standalone");
            Kind::Member
        }
        (count, _) if count % 2 == 0 => {
            let what = format!(
                "{count} participants survive no more failures than {} do",
                count.saturating_sub(1)
            );
            say(Severity::Warning, &what, "list an odd number of participants");
            Kind::Member
        }
        _ => Kind::Member,
    }
}

/// Reports a `dynamicConfigFile` that cannot be read, which is returned, and lines that have to
/// stand there.
fn check_dynamic_file(reader: &mut Reader, raw: &RawConfig) -> bool {
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
    is_unread
}

/// The members at the version that the name of the dynamic file ends with.
fn membership(reader: &mut Reader, first: &Found, members: Vec<Member>) -> Option<Membership> {
    // COMPAT: `QuorumPeerConfig.getVersionFromFilename` reads any hexadecimal number as a version.
    let file = reader.resolved.found.get("dynamicConfigFile");
    let suffix = file.and_then(|found| found.entry.value.rsplit_once('.'));
    let version = suffix.and_then(|(_, suffix)| i64::from_str_radix(suffix, 16).ok());
    match Membership::new(members, version.map_or(Zxid::ZERO, Zxid)) {
        Ok(membership) => Some(membership),
        Err(wrong) => {
            push(reader, first, Severity::Error, wrong.to_string(), "give each server its number");
            None
        }
    }
}

/// The number in `myid`, if that is one of a member.
fn this_server(reader: &mut Reader, raw: &RawConfig, members: &[Member]) -> Option<ServerId> {
    let listed: Vec<String> = members.iter().map(|member| member.sid.0.to_string()).collect();
    let listed = listed.join(", ");
    let Some((name, content)) = &raw.my_id else {
        let what = "myid file is missing: nothing says which server of the list this one is";
        reader.error("dataDir", what.to_string(), "name the directory of its file myid");
        return None;
    };
    let content = match content {
        Ok(content) => String::from_utf8_lossy(content),
        Err(why) => {
            let what = format!("myid file is missing: {name} cannot be read: {why}");
            let hint = format!("write the number of this server into it, one of {listed}");
            reader.error("dataDir", what, &hint);
            return None;
        }
    };
    let text = content.lines().next().unwrap_or("").trim();
    let sid = text.parse().map(ServerId);
    let what = match sid {
        Ok(sid) if members.iter().any(|member| member.sid == sid) => return Some(sid),
        Ok(sid) => format!("my id {} is not in the list of servers", sid.0),
        Err(_) => format!("serverid `{text}` is not a number"),
    };
    let hint = format!("write the number of this server, one of {listed}, or list this server");
    reader.resolved.problems.push(Problem {
        severity: Severity::Error,
        topic: Topic::Value,
        origin: Origin::File { name: name.as_str().into(), line: 1 },
        key: String::new(),
        value: String::new(),
        what,
        hint,
    });
    None
}

/// Reports places that two members claim, and members with several addresses unless that is asked
/// for.
fn check_addresses(reader: &mut Reader, servers: &[Found], members: &[Member]) {
    let is_several_allowed = reader.flag("multiAddress.enabled");
    let mut taken: Vec<(String, u16, ServerId)> = Vec::new();
    for (found, member) in servers.iter().zip(members) {
        if member.addresses.len() > 1 && !is_several_allowed {
            let what = "several addresses for one server".to_string();
            push(reader, found, Severity::Error, what, "add multiAddress.enabled=true");
        }
        let own = member.addresses.iter().flat_map(|address| {
            let ports = [address.quorum_port, address.election_port];
            ports.map(|port| (address.host.to_ascii_lowercase(), port))
        });
        for (host, port) in own {
            let by = taken.iter().find(|(at, number, sid)| {
                (at.as_str(), *number) == (host.as_str(), port) && *sid != member.sid
            });
            if let Some((.., sid)) = by {
                let what = format!("server {} has port {port} of {host} already", sid.0);
                push(reader, found, Severity::Error, what, "give each server its own ports");
            }
            taken.push((host, port, member.sid));
        }
    }
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
    let file_of = |origin: &Origin| match origin {
        Origin::File { name, line: _ } => Some(name.clone()),
        Origin::Default | Origin::CommandLine | Origin::Variable(_) | Origin::Script { .. } => None,
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
