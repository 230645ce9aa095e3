//! A problem with a value of the configuration, and the origin of that value.
//!
//! Stands for ZooKeeper's `QuorumPeerConfig.ConfigException`, which names neither file nor line and
//! stops at the first error; here all problems are collected.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it: the default of the key table, or a value derived from other settings.
    Default,
    /// A configuration file.
    File {
        /// The name as handed in.
        name: Arc<str>,
        /// First line of the entry, counted from 1.
        line: u32,
    },
    /// A positional argument or a `-Dkey=value` of the command line.
    CommandLine,
    /// A `-Dkey=value` inside an environment variable such as `SERVER_JVMFLAGS`.
    Variable(Arc<str>),
    /// A script beside zoo.cfg, such as `java.env`, which puts options into a variable.
    Script {
        /// The name as handed in.
        name: Arc<str>,
        /// The line, counted from 1.
        line: u32,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } | Origin::Script { name, line } => {
                write!(f, "{name}:{line}")
            }
            Origin::CommandLine => f.write_str("command line"),
            Origin::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Worth listing in a report; nothing to do.
    Note,
    /// The server starts, but probably not with what the operator had in mind.
    Warning,
    /// The server does not start.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// What a problem is about; the report groups by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// A value, or the way values go together.
    Value,
    /// A key that this server accepts and has no use for.
    Ignored,
    /// A key of a feature that is not built yet.
    NotBuilt,
    /// A key that nothing reads.
    Unknown,
    /// How things are on the machine just now.
    Now,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub topic: Topic,
    /// Where the value came from.
    pub origin: Origin,
    /// The key as written; empty if it concerns no single key.
    pub key: String,
    /// The value as written, or `***` for a secret.
    pub value: String,
    /// The fault, and the values that are allowed.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// A problem with the value of one key that only the machine shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Name of the key, without prefix.
    pub key: Cow<'static, str>,
    /// The fault.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// What it means for the start.
    pub verdict: Verdict,
}

/// The effect of a finding on a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The server ends at once.
    Refused {
        /// The exit code: 1 unexpected, 2 configuration, 3 data directory.
        exit_code: u8,
    },
    /// It starts, but probably not with what the operator had in mind.
    Doubtful,
    /// It starts; there is nothing to do.
    Noted,
}

impl Problem {
    /// The text for a log; its severity is left out, because each line of a log has its level.
    pub fn unrated(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, false);
        text
    }

    fn write(&self, f: &mut impl fmt::Write, is_rated: bool) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if is_rated {
            write!(f, "{}: ", self.severity)?;
        }
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, _) => {}
            (false, true) => write!(f, "{}: ", self.key)?,
            (false, false) => write!(f, "{}={}: ", self.key, self.value)?,
        }
        f.write_str(&self.what)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}
