//! What the key table says about one key.
//!
//! ZooKeeper has no counterpart: there each class reads its own system properties.

/// One key of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Key {
    /// The name without the `zookeeper.` prefix. A name that ends in `*` stands for all keys that
    /// begin with the rest.
    pub name: &'static str,
    /// Where the key may stand; gives its other spellings too.
    pub place: Place,
    /// Type and allowed range.
    pub kind: Kind,
    /// Unit of a number, or empty.
    pub unit: &'static str,
    /// Value when nobody sets it.
    pub default: Standard,
    /// Whether the server does what the key asks for.
    pub status: Status,
    /// Its meaning in one sentence, for samples and reports.
    pub doc: &'static str,
    /// Names found in ZooKeeper's documentation or JMX that ZooKeeper itself does not read; they
    /// have no effect, but lead to a warning with the right name.
    pub misnomers: &'static [&'static str],
    /// Whether reports show `***` instead of the value.
    pub is_secret: bool,
    /// An effect besides `default` that lasts until somebody sets the key; empty for most.
    pub unless_set: &'static str,
}

/// Where a key may stand, and so how it is spelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Only in zoo.cfg.
    File,
    /// Only in the lists of members: zoo.cfg or the dynamic file.
    Membership,
    /// `k` in zoo.cfg, which wins, or `-Dzookeeper.k`.
    Property,
    /// Only `-Dk`, without the prefix. In zoo.cfg ZooKeeper ignores it.
    Bare,
    /// As `Property`, else `-Dk`.
    PropertyOrBare,
    /// Our own: `ringkeeper.k` in zoo.cfg, `-Dringkeeper.k` or `-Dzookeeper.ringkeeper.k`.
    Own,
}

/// Type and allowed range of a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// `true` or `false`; all else is an error.
    Bool,
    /// `true`, or anything else for false, as Java reads properties; other words are warned about.
    JavaBool,
    /// A switch with `yes` and `no`: one of the two changes the default, any other text does not.
    Switch {
        /// The only value (case matters) that differs from the default.
        flips: &'static str,
    },
    /// A whole number. Hexadecimal with `0x` is accepted in properties.
    Int {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
        /// Whether a smaller value becomes `min` with a warning, as in ZooKeeper, instead of an
        /// error.
        raise: bool,
    },
    /// A decimal number between 0 and 1.
    Share,
    /// A decimal number.
    Decimal,
    /// Any text.
    Text,
    /// A path in the file system.
    Path,
    /// Words separated by commas.
    List,
    /// One of some words, in upper or lower case.
    Choice(&'static [&'static str]),
    /// Hours as a whole number, or a number with ms, s, m, h or d.
    HoursOrTime,
    /// `auto`, `on` or `off`.
    Auto,
    /// CPU numbers such as `0,2-3`.
    Cpus,
    /// One CPU number.
    Cpu,
}

/// Value of a key that nobody sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standard {
    /// A constant, in the syntax of the configuration file.
    Value(&'static str),
    /// Computed; the text says how.
    Derived(&'static str),
    /// None: the feature is off, or the operating system decides.
    Unset,
    /// The server does not start without a value.
    Required,
}

/// Whether a key has an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It has one.
    Supported,
    /// It has one for a member of an ensemble, and none for a server alone.
    ForMembers,
    /// Accepted without effect, because this server has no need of it: the reason.
    Ignored(&'static str),
    /// Accepted without effect, because a feature is missing.
    NotBuilt(Feature),
}

/// A part of ZooKeeper that is not built yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Quorums of groups and weights.
    Groups,
    /// The oracle that decides for one of two members.
    Oracle,
    /// Followers that serve observers.
    ObserverMasters,
    /// Sessions that only one member knows.
    LocalSessions,
    /// SASL between members.
    QuorumSasl,
    /// TLS for clients and between servers, X.509 authentication.
    Tls,
    /// The HTTP admin server.
    AdminServer,
    /// Metrics providers such as Prometheus.
    MetricsProvider,
    /// SASL with Kerberos.
    Kerberos,
    /// The audit log.
    AuditLog,
    /// Statistics by path in the log.
    PathStatistics,
}

impl Feature {
    /// What to call it in a message.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Groups => "quorums of groups and weights",
            Feature::Oracle => "the oracle of two members",
            Feature::ObserverMasters => "observer masters",
            Feature::LocalSessions => "local sessions",
            Feature::QuorumSasl => "SASL between members",
            Feature::Tls => "TLS",
            Feature::AdminServer => "the HTTP admin server",
            Feature::MetricsProvider => "metrics providers",
            Feature::Kerberos => "Kerberos",
            Feature::AuditLog => "the audit log",
            Feature::PathStatistics => "path statistics",
        }
    }

    /// Whether it means something to members of an ensemble only.
    pub fn is_for_members(self) -> bool {
        match self {
            Feature::Groups
            | Feature::Oracle
            | Feature::ObserverMasters
            | Feature::LocalSessions
            | Feature::QuorumSasl => true,
            Feature::Tls
            | Feature::AdminServer
            | Feature::MetricsProvider
            | Feature::Kerberos
            | Feature::AuditLog
            | Feature::PathStatistics => false,
        }
    }
}

/// Any 32-bit number, as Java's `int`.
pub(super) const INT: Kind = Kind::Int { min: i32::MIN as i64, max: i32::MAX as i64, raise: false };
/// From 0 up.
pub(super) const NATURAL: Kind = Kind::Int { min: 0, max: i32::MAX as i64, raise: false };
/// From 1 up.
pub(super) const POSITIVE: Kind = Kind::Int { min: 1, max: i32::MAX as i64, raise: false };
/// A switch that is on unless it says `no`, as ZooKeeper reads some of them.
pub(super) const ON_UNLESS_NO: Kind = Kind::Switch { flips: "no" };
/// From -1 up; -1 turns something off.
pub(super) const FROM_MINUS_1: Kind = Kind::Int { min: -1, max: i32::MAX as i64, raise: false };
/// A TCP port.
pub(super) const PORT: Kind = Kind::Int { min: 0, max: 65_535, raise: false };

/// A number within bounds.
pub(super) const fn within(min: i64, max: i64) -> Kind {
    Kind::Int { min, max, raise: false }
}

/// A number that is raised to `min` if it is smaller.
pub(super) const fn at_least(min: i64) -> Kind {
    Kind::Int { min, max: i32::MAX as i64, raise: true }
}

impl Key {
    const fn new(name: &'static str, place: Place, kind: Kind, default: Standard) -> Key {
        Key {
            name,
            place,
            kind,
            unit: "",
            default,
            status: Status::Supported,
            doc: "",
            misnomers: &[],
            is_secret: false,
            unless_set: "",
        }
    }

    pub(super) const fn file(name: &'static str, kind: Kind, default: Standard) -> Key {
        Key::new(name, Place::File, kind, default)
    }

    pub(super) const fn member(name: &'static str, kind: Kind, default: Standard) -> Key {
        Key::new(name, Place::Membership, kind, default)
    }

    pub(super) const fn property(name: &'static str, kind: Kind, default: Standard) -> Key {
        Key::new(name, Place::Property, kind, default)
    }

    pub(super) const fn bare(name: &'static str, kind: Kind, default: Standard) -> Key {
        Key::new(name, Place::Bare, kind, default)
    }

    pub(super) const fn either(name: &'static str, kind: Kind, default: Standard) -> Key {
        Key::new(name, Place::PropertyOrBare, kind, default)
    }

    pub(super) const fn own(name: &'static str, kind: Kind, default: Standard) -> Key {
        Key::new(name, Place::Own, kind, default)
    }

    pub(super) const fn unit(mut self, unit: &'static str) -> Key {
        self.unit = unit;
        self
    }

    pub(super) const fn doc(mut self, doc: &'static str) -> Key {
        self.doc = doc;
        self
    }

    pub(super) const fn ignored(mut self, reason: &'static str) -> Key {
        self.status = Status::Ignored(reason);
        self
    }

    pub(super) const fn for_members(mut self) -> Key {
        self.status = Status::ForMembers;
        self
    }

    pub(super) const fn not_built(mut self, feature: Feature) -> Key {
        self.status = Status::NotBuilt(feature);
        self
    }

    pub(super) const fn not(mut self, misnomers: &'static [&'static str]) -> Key {
        self.misnomers = misnomers;
        self
    }

    pub(super) const fn unless_set(mut self, rule: &'static str) -> Key {
        self.unless_set = rule;
        self
    }

    pub(super) const fn secret(mut self) -> Key {
        self.is_secret = true;
        self
    }

    /// Whether `name`, written without prefix, is this key.
    pub fn matches(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => self.name == name,
        }
    }

    /// How to write the key, best way first. Each of these has an effect.
    pub fn spellings(&self) -> Vec<String> {
        let name = self.name;
        match self.place {
            Place::File | Place::Membership => vec![name.to_string()],
            Place::Property => vec![name.to_string(), format!("-Dzookeeper.{name}")],
            Place::Bare => vec![format!("-D{name}")],
            Place::PropertyOrBare | Place::Own => {
                vec![name.to_string(), format!("-Dzookeeper.{name}"), format!("-D{name}")]
            }
        }
    }

    /// What values are allowed, for messages and samples.
    pub fn allowed(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match self.kind {
            Kind::Bool | Kind::JavaBool => "true or false".to_string(),
            Kind::Switch { .. } => "yes or no".to_string(),
            Kind::Int { min, max, raise: false } => {
                format!("a whole number from {min} to {max}{unit}")
            }
            Kind::Int { min, max, raise: true } => {
                format!(
                    "a whole number up to {max}{unit}, of which less than {min} counts as {min}"
                )
            }
            Kind::Share => "a decimal number from 0 to 1".to_string(),
            Kind::Decimal => "a decimal number".to_string(),
            Kind::Text => "any text".to_string(),
            Kind::Path => "a path".to_string(),
            Kind::List => "words separated by commas".to_string(),
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Kind::HoursOrTime => {
                "whole hours, or a whole number with one of ms, s, m, h, d".to_string()
            }
            Kind::Auto => "auto, on or off".to_string(),
            Kind::Cpus => "CPU numbers from 0 to 1023, such as 0,2-3".to_string(),
            Kind::Cpu => "one CPU number from 0 to 1023".to_string(),
        }
    }
}
