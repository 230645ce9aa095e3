//! Configuration: zoo.cfg and `-D` properties become typed, cross-checked [`Settings`].
//!
//! Three stages follow one another:
//! 1. [`RawConfig`]: entries with their origin, which may be a file, a property or a shell variable
//!    ([`ShellVariables`]);
//! 2. a resolver, which applies the order of precedence and the one key table ([`keys`]);
//! 3. [`check`], which yields a [`Check`]: every problem found, the effective values, and the
//!    [`Settings`] if there is no error.
//!
//! The module reads no file and no environment; it is handed text.
//!
//! Corresponds to ZooKeeper's `QuorumPeerConfig` and `ServerConfig`, and to the system properties
//! read all over its server. The same file and the same properties have the same effect; what
//! ZooKeeper ignores silently is ignored here with a warning.
#![forbid(unsafe_code)]

#[cfg(test)]
mod apache_tests;
mod build;
mod conflicts;
mod ensemble;
#[cfg(test)]
mod ensemble_tests;
mod key;
mod keys;
mod membership;
mod problem;
mod raw;
mod reader;
mod readings;
mod report;
mod resolve;
mod settings;
mod shell;
#[cfg(test)]
mod tests;
mod values;

pub use build::check;
pub use key::{Feature, Key, Kind, Place, Standard, Status};
pub use keys::{KEYS, find};
pub use problem::{Finding, Origin, Problem, Severity, Topic, Verdict};
pub use raw::{RawConfig, RawEntry, is_definition};
pub use reader::Effective;
pub use readings::escaped;
pub use report::Check;
pub use resolve::nearest_word;
pub use settings::{
    AuthSettings, ConnectionThrottle, EnsembleSettings, Environment, LargeRequests, NodeSettings,
    RequestThrottle, RingSettings, Settings, StorageSettings,
};
pub use shell::{SCRIPTS, ShellVariables};
