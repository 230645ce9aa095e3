//! One member: its role and where it is reached. Corresponds to `QuorumPeer.QuorumServer`.

use std::fmt;

use crate::base::ServerId;

/// What a client address without a host means: every address of the machine.
pub const ANY_HOST: &str = "0.0.0.0";

/// Host and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// From 1 to 65535.
    pub port: u16,
}

/// One place where other members reach a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAddress {
    /// A name, or an address without brackets.
    pub host: String,
    /// Learners connect here while this member leads.
    pub quorum_port: u16,
    /// Votes are exchanged here.
    pub election_port: u16,
}

/// Whether a member has a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It votes, and its acknowledgements count.
    Participant,
    /// It only follows.
    Observer,
}

/// One `server.N` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The N.
    pub sid: ServerId,
    /// Participant, unless the line says otherwise.
    pub role: Role,
    /// At least one; sorted by host, so that lines in another order are the same member.
    pub addresses: Vec<MemberAddress>,
    /// Where clients connect, if the line says so.
    pub client: Option<Address>,
}

/// What is wrong with a `server.N` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberError {
    /// The N is not a number.
    Sid,
    /// There is no colon, or no closing bracket.
    NoPorts,
    /// Nothing before the first colon.
    NoHost,
    /// There is one port.
    PortMissing,
    /// This is not a port.
    Port(String),
    /// Both ports are the same.
    SamePorts,
    /// This is not a role.
    Role(String),
    /// This comes after the role.
    AfterRole(String),
    /// The addresses of one member differ in their role.
    RolesDiffer,
    /// This comes after the client address; Apache's 3.8 and 3.9 refuse it, too.
    AfterClient(String),
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberError::Sid => f.write_str("the part after `server.` is not a number"),
            MemberError::NoPorts => f.write_str("no host and ports"),
            MemberError::NoHost => f.write_str("no host name"),
            MemberError::PortMissing => f.write_str("quorum port or election port missing"),
            MemberError::Port(text) => {
                write!(f, "`{text}` is not a port, a number from 1 to 65535")
            }
            MemberError::SamePorts => f.write_str("quorum port and election port are the same"),
            MemberError::Role(role) => write!(f, "`{role}` is not a role"),
            MemberError::AfterRole(more) => write!(f, "`{more}` after the role means nothing"),
            MemberError::RolesDiffer => {
                f.write_str("the addresses of one server give different roles")
            }
            MemberError::AfterClient(more) => {
                write!(f, "`;{more}` after the client address: only one `;` may stand in a line")
            }
        }
    }
}

impl std::error::Error for MemberError {}

impl Member {
    /// Reads the value of `server.<sid>`:
    /// `host:quorumPort:electionPort[:role][|...][;[host:]clientPort]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(sid: &str, value: &str) -> Result<Member, MemberError> {
        let sid = sid.parse().map_err(|_| MemberError::Sid)?;
        let mut parts = value.split(';');
        let mut role = None;
        let mut addresses = Vec::new();
        for text in parts.next().unwrap_or("").split('|') {
            let (address, its_role) = member_address(text.trim())?;
            // One role stands for all, as Apache prints it after the last address.
            if role.is_some() && its_role.is_some() && role != its_role {
                return Err(MemberError::RolesDiffer);
            }
            role = role.or(its_role);
            addresses.push(address);
        }
        addresses.sort_by(|a, b| a.host.cmp(&b.host));
        let client = match parts.next().map(str::trim) {
            None | Some("") => None,
            Some(text) => {
                let (host, text) = split_host(text).unwrap_or((ANY_HOST, text));
                Some(Address { host: host.to_owned(), port: port(text)? })
            }
        };
        if let Some(more) = parts.next() {
            return Err(MemberError::AfterClient(more.to_owned()));
        }
        let role = role.unwrap_or(Role::Participant);
        Ok(Member { sid: ServerId(sid), role, addresses, client })
    }
}

/// The value of the line, as Apache prints it.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.addresses.iter().enumerate() {
            let MemberAddress { host, quorum_port, election_port } = address;
            let separator = if at == 0 { "" } else { "|" };
            write!(f, "{separator}{}:{quorum_port}:{election_port}", Bracketed(host))?;
        }
        f.write_str(match self.role {
            Role::Participant => ":participant",
            Role::Observer => ":observer",
        })?;
        match &self.client {
            None => Ok(()),
            Some(Address { host, port }) => write!(f, ";{}:{port}", Bracketed(host)),
        }
    }
}

/// A host, in brackets where it has colons of its own.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

fn member_address(text: &str) -> Result<(MemberAddress, Option<Role>), MemberError> {
    let (host, rest) = split_host(text).ok_or(MemberError::NoPorts)?;
    let fields: Vec<&str> = rest.split(':').collect();
    let [quorum, election, role @ ..] = fields.as_slice() else {
        return Err(MemberError::PortMissing);
    };
    if host.is_empty() {
        return Err(MemberError::NoHost);
    }
    let (quorum_port, election_port) = (port(quorum)?, port(election)?);
    if quorum_port == election_port {
        return Err(MemberError::SamePorts);
    }
    let role = match role {
        [] => None,
        [role] if role.eq_ignore_ascii_case("observer") => Some(Role::Observer),
        [role] if role.eq_ignore_ascii_case("participant") => Some(Role::Participant),
        [role] => return Err(MemberError::Role((*role).to_owned())),
        [_, more, ..] => return Err(MemberError::AfterRole((*more).to_owned())),
    };
    Ok((MemberAddress { host: host.to_owned(), quorum_port, election_port }, role))
}

/// Host and what follows its colon; brackets around an IPv6 address vanish.
fn split_host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            Some((host, rest.strip_prefix(':')?))
        }
        None => text.split_once(':'),
    }
}

fn port(text: &str) -> Result<u16, MemberError> {
    let number = text.trim().parse().ok().filter(|port| *port > 0);
    number.ok_or_else(|| MemberError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_as_apache_prints_it() {
        let check = |value: &str, printed: &str| {
            let member = Member::parse("3", value).unwrap();
            assert_eq!(member.to_string(), printed, "{value}");
            assert_eq!(Member::parse("3", printed), Ok(member));
        };
        check("h:1:2", "h:1:2:participant");
        check("h:1:2:OBSERVER", "h:1:2:observer");
        check("h:1:2;2181", "h:1:2:participant;0.0.0.0:2181");
        check("h:1:2:participant; c:2181", "h:1:2:participant;c:2181");
        check("[fe80::1]:1:2;[::]:3", "[fe80::1]:1:2:participant;[::]:3");
        check("b:1:2|a:3:4", "a:3:4|b:1:2:participant");
        check("b:1:2:observer|a:3:4", "a:3:4|b:1:2:observer");
        check("b:1:2:observer|a:3:4:observer;5", "a:3:4|b:1:2:observer;0.0.0.0:5");
        check("127.0.0.1:42881:43881:participant;127.0.0.1:32181", {
            "127.0.0.1:42881:43881:participant;127.0.0.1:32181"
        });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |value: &str| Member::parse("3", value).unwrap_err();
        let text = str::to_owned;
        assert_eq!(Member::parse("x", "h:1:2"), Err(MemberError::Sid));
        assert_eq!(Member::parse("", "h:1:2"), Err(MemberError::Sid));
        assert_eq!(error(""), MemberError::NoPorts);
        assert_eq!(error("[::1:2:3"), MemberError::NoPorts);
        assert_eq!(error("h:1"), MemberError::PortMissing);
        assert_eq!(error(":1:2"), MemberError::NoHost);
        assert_eq!(error("h:0:2"), MemberError::Port(text("0")));
        assert_eq!(error("h:1:65536"), MemberError::Port(text("65536")));
        assert_eq!(error("h:7:7"), MemberError::SamePorts);
        assert_eq!(error("h:1:2:"), MemberError::Role(text("")));
        assert_eq!(error("h:1:2:observer:5"), MemberError::AfterRole(text("5")));
        assert_eq!(error("h:1:2:participant|i:1:2:observer"), MemberError::RolesDiffer);
        assert_eq!(error("h:1:2|"), MemberError::NoPorts);
        assert_eq!(error("h:1:2;5;6"), MemberError::AfterClient(text("6")));
    }
}
