//! All members with their version, and the text that carries them.

use std::collections::BTreeMap;
use std::fmt;

use crate::base::{ServerId, Zxid};
use crate::wire::{Line, parse_property_text};

use super::{Member, MemberError, Quorums, Role};

/// The members of an ensemble at one version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    members: BTreeMap<ServerId, Member>,
    quorums: Quorums,
    version: Zxid,
}

/// Why a text is not a membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipError {
    /// A `server.N` line, its key, and what is wrong with it.
    Member(String, MemberError),
    /// Two lines with the same number.
    Twice(ServerId),
    /// `group` and `weight` lines are not understood yet.
    Groups(String),
    /// A key that has no meaning here.
    Key(String),
    /// The version is no hexadecimal number.
    Version(String),
    /// Nobody has a vote.
    NoVoter,
    /// A character escape that Java refuses.
    Escape(String),
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipError::Member(key, error) => write!(f, "{key}: {error}"),
            MembershipError::Twice(sid) => write!(f, "server {} is listed twice", sid.0),
            MembershipError::Groups(key) => {
                write!(f, "{key}: quorums of groups and weights are not built yet")
            }
            MembershipError::Key(key) => write!(f, "{key} has no meaning in a list of members"),
            MembershipError::Version(text) => {
                write!(f, "version `{text}` is not a hexadecimal number")
            }
            MembershipError::NoVoter => f.write_str("no participant is listed"),
            MembershipError::Escape(text) => write!(f, "`{text}` is not a character escape"),
        }
    }
}

impl std::error::Error for MembershipError {}

impl Membership {
    /// These members, of whom more than half of the participants decide.
    ///
    /// # Errors
    /// If two have the same number, or nobody votes.
    pub fn new(
        members: impl IntoIterator<Item = Member>,
        version: Zxid,
    ) -> Result<Membership, MembershipError> {
        let mut listed = BTreeMap::new();
        for member in members {
            let sid = member.sid;
            if listed.insert(sid, member).is_some() {
                return Err(MembershipError::Twice(sid));
            }
        }
        let participants = listed.values().filter(|member| member.role == Role::Participant);
        let voters: Vec<ServerId> = participants.map(|member| member.sid).collect();
        if voters.is_empty() {
            return Err(MembershipError::NoVoter);
        }
        Ok(Membership { members: listed, quorums: Quorums::Majority { voters }, version })
    }

    /// Reads the text that members send each other and keep in files.
    /// A key that comes twice counts where it comes last, as in Java; no version is
    /// version 0. Corresponds to `QuorumPeer.configFromString`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Membership, MembershipError> {
        let mut lines: BTreeMap<String, String> = BTreeMap::new();
        for line in parse_property_text(text) {
            let line = line.map_err(|bad| MembershipError::Escape(bad.text))?;
            let Line { key, value, line: _, utf8: _ } = line;
            lines.insert(key, value);
        }
        let (mut members, mut version) = (Vec::new(), Zxid::ZERO);
        for (key, value) in lines {
            if let Some(sid) = key.strip_prefix("server.") {
                let member = Member::parse(sid, &value);
                members.push(member.map_err(|error| MembershipError::Member(key, error))?);
            } else if key == "version" {
                let number = i64::from_str_radix(&value, 16);
                version = Zxid(number.map_err(|_| MembershipError::Version(value))?);
            } else if key.starts_with("group") || key.starts_with("weight") {
                return Err(MembershipError::Groups(key));
            } else {
                return Err(MembershipError::Key(key));
            }
        }
        Membership::new(members, version)
    }

    /// The transaction that made this membership; 0 for one that stands in files only.
    pub fn version(&self) -> Zxid {
        self.version
    }

    /// All members by number.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this number.
    pub fn member(&self, sid: ServerId) -> Option<&Member> {
        self.members.get(&sid)
    }

    /// Who decides.
    pub fn quorums(&self) -> &Quorums {
        &self.quorums
    }

    /// Whether ZooKeeper takes both for equal: by version, or else by what they list. The text may
    /// differ in order and spelling.
    pub fn is_equal(&self, other: &Membership) -> bool {
        self.version == other.version || self.members == other.members
    }
}

/// The text, as Apache prints it: no line end after the version.
impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members: Vec<&Member> = self.members.values().collect();
        // COMPAT: the order of Java's `HashMap<Long, …>`: by the hash's last bits, which for small
        // numbers are the number. Clients see this text in `/zookeeper/config`. The table has 16
        // places, and doubles when three quarters are taken. Numbers that share a place stand in
        // the order in which Java read them, which depends on more; here in ascending order.
        let mut places = 16;
        while members.len() > places / 4 * 3 {
            places *= 2;
        }
        members.sort_by_key(|member| java_hash(member.sid) as usize & (places - 1));
        for member in members {
            writeln!(f, "server.{}={member}", member.sid.0)?;
        }
        write!(f, "version={}", self.version)
    }
}

/// `Long.hashCode`, spread as `HashMap` does.
fn java_hash(sid: ServerId) -> u32 {
    let bits = sid.0.cast_unsigned();
    let hash = (bits ^ bits >> 32) as u32;
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn parse(text: &str) -> Membership {
        Membership::parse(text).unwrap()
    }

    fn order(text: &str) -> Vec<i64> {
        let printed = parse(text).to_string();
        let keys = printed.lines().filter_map(|line| line.strip_prefix("server."));
        keys.map(|rest| rest.split_once('=').unwrap().0.parse().unwrap()).collect()
    }

    #[test]
    fn a_membership_survives_its_text() {
        let text = "server.1=127.0.0.1:42881:43881:participant;127.0.0.1:32181\n\
                    server.2=[::1]:42882:43882:participant\n\
                    server.3=h:42883:43883:observer;0.0.0.0:32183\n\
                    version=10000000f";
        let membership = parse(text);
        assert_eq!(membership.to_string(), text);
        assert_eq!(membership.version(), Zxid(0x1_0000_000f));
        assert_eq!(membership.quorums().voters(), [ServerId(1), ServerId(2)]);
        assert_eq!(membership.member(ServerId(3)).unwrap().role, Role::Observer);
        assert_eq!(membership.members().count(), 3);
    }

    #[test]
    fn it_is_properties_syntax() {
        let plain = parse("server.1=h:1:2:participant\nversion=0");
        for text in [
            "# by hand\nserver.1 = h:1:2\r\n",
            "server.1:h:1:2",
            "server.1 h:1\\\n  :2",
            "server.1=gone:1:2\nserver.1=h\\:1\\:2",
            "version=00\nserver.1=h:1:2:PARTICIPANT",
            "server.\\u0031=h:1:2",
        ] {
            assert_eq!(parse(text), plain, "{text}");
        }
        assert_eq!(parse("server.1=zo\u{eb}:1:2").to_string(), {
            "server.1=zo\u{eb}:1:2:participant\nversion=0"
        });
        assert_eq!(parse("server.1=h:1:2\nversion=-1").to_string().lines().last(), {
            Some("version=ffffffffffffffff")
        });
    }

    #[test]
    fn what_is_no_membership_is_refused() {
        let error = |text: &str| Membership::parse(text).unwrap_err();
        let key = |key: &str| key.to_owned();
        let wrong = MembershipError::Member(key("server.1"), MemberError::PortMissing);
        assert_eq!(error("server.1=h:1"), wrong);
        assert_eq!(error("server.1=h:1:2\nserver.01=h:1:2"), MembershipError::Twice(ServerId(1)));
        assert_eq!(error("server.1=h:1:2\ngroup.1=1"), MembershipError::Groups(key("group.1")));
        assert_eq!(error("server.1=h:1:2\nweight.1=1"), MembershipError::Groups(key("weight.1")));
        assert_eq!(error("server.1=h:1:2\ntickTime=1"), MembershipError::Key(key("tickTime")));
        assert_eq!(error("server.1=h:1:2\nversion=x"), MembershipError::Version(key("x")));
        assert_eq!(error("server.1=h:1:2:observer"), MembershipError::NoVoter);
        assert_eq!(error(""), MembershipError::NoVoter);
        assert_eq!(error("server.1=\\u12"), MembershipError::Escape(key("\\u12")));
    }

    #[test]
    fn equality_is_by_version_or_by_content() {
        let one = "server.1=a:1:2\n";
        let same = |a: &str, b: &str| parse(a).is_equal(&parse(b));
        assert!(same(&format!("{one}version=5"), &format!("{one}version=6")));
        assert!(same("server.1=a:1:2\nversion=5", "server.1=b:1:2\nversion=5"));
        for other in ["b:1:2", "a:3:2", "a:1:3", "a:1:2;5", "a:1:2|b:1:2"] {
            assert!(!same(one, &format!("server.1={other}\nversion=5")), "{other}");
        }
        let two = "server.1=a:1:2\nserver.2=b:1:2";
        assert!(!same(two, &format!("{two}:observer\nversion=5")));
        assert!(!same(two, &format!("{one}version=5")));
    }

    #[test]
    fn lines_stand_in_the_order_of_javas_hash_map() {
        let lines = |sids: &[i64]| -> String {
            sids.iter().map(|sid| format!("server.{sid}=h:1:2\n")).collect()
        };
        assert_eq!(order(&lines(&[3, 1, 2])), [1, 2, 3]);
        assert_eq!(order(&lines(&[17, 2, 33])), [17, 33, 2]);
        assert_eq!(order(&lines(&[100, 200, 255])), [100, 200, 255]);
        assert_eq!(order(&lines(&[0x1_0000, 5])), [0x1_0000, 5]);
        // With 13 members the table has 32 places.
        let many: Vec<i64> = (4..17).collect();
        assert_eq!(order(&lines(&many)), many);
        let few: Vec<i64> = (5..17).collect();
        assert_eq!(order(&lines(&few))[0], 16);
    }

    #[test]
    fn any_text_is_refused_or_printed_as_what_it_is() {
        let parts = [
            "server.",
            "1",
            "2",
            "=",
            ":",
            ":1:2",
            "a",
            "[::1]",
            "|",
            ";",
            "\n",
            "version=",
            "f",
            ":observer",
            "\\",
            "\u{eb}",
            " ",
        ];
        let mut rng = Rng::new(23);
        let mut read = 0;
        for _ in 0..100_000 {
            let count = rng.below(12);
            let mut text = if rng.chance(1, 2) { "server.7=x:7:8\n" } else { "" }.to_owned();
            (0..count).for_each(|_| text.push_str(parts[rng.below(parts.len() as u64) as usize]));
            if let Ok(membership) = Membership::parse(&text) {
                read += 1;
                let printed = membership.to_string();
                assert!(Membership::parse(&printed).is_ok(), "{text:?} gives {printed:?}");
            }
        }
        assert!(read > 1_000, "{read}");
    }
}
