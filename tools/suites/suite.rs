//! The suites: their names, and which of them run when nobody names one.

use std::fmt;

/// A group of tests that runs as one and gets a line of the summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// Formatting, clippy and our own tests.
    Cargo,
    /// kazoo's own tests.
    Kazoo,
    /// Our checks through Apache's Java client and Curator.
    Java,
    /// Apache ZooKeeper's own client tests.
    Zookeeper,
    /// Our checks through the C client.
    C,
    /// Our checks through a Rust client.
    Rust,
    /// Kafka brokers that keep their state in the server.
    Kafka,
    /// Data directories exchanged with Apache ZooKeeper.
    ApacheData,
    /// Ensembles of the server and Apache ZooKeeper.
    Mixed,
    /// Parts of the other suites on three members.
    Ensemble,
    /// Some of kazoo and of rk-diff with the stages on separate threads.
    Stages,
    /// Curator's own tests.
    Curator,
    /// As `Mixed`, and ensembles migrate again and again.
    MixedLong,
    /// rk-diff with many seeds.
    Diff,
}

impl Suite {
    /// All of them, in the order in which they run.
    pub const ALL: [Suite; 14] = [
        Suite::Cargo,
        Suite::Kazoo,
        Suite::Java,
        Suite::Zookeeper,
        Suite::C,
        Suite::Rust,
        Suite::Kafka,
        Suite::ApacheData,
        Suite::Mixed,
        Suite::Ensemble,
        Suite::Stages,
        Suite::Curator,
        Suite::MixedLong,
        Suite::Diff,
    ];

    /// What `--separate-stages` runs when nobody names a suite.
    pub const SEPARATE: [Suite; 3] = [Suite::Kazoo, Suite::Java, Suite::Diff];

    /// As on the command line, in the summary, and in the name of the log.
    pub const fn name(self) -> &'static str {
        match self {
            Suite::Cargo => "cargo",
            Suite::Kazoo => "kazoo",
            Suite::Java => "java",
            Suite::Zookeeper => "zookeeper",
            Suite::C => "c",
            Suite::Rust => "rust",
            Suite::Kafka => "kafka",
            Suite::ApacheData => "apache-data",
            Suite::Mixed => "mixed",
            Suite::Ensemble => "ensemble",
            Suite::Stages => "stages",
            Suite::Curator => "curator",
            Suite::MixedLong => "mixed-long",
            Suite::Diff => "diff",
        }
    }

    /// The suite with this name.
    pub fn find(name: &str) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Runs when nobody names a suite.
    pub const fn is_default(self) -> bool {
        !matches!(self, Suite::Curator | Suite::MixedLong | Suite::Diff)
    }

    /// Says something about a server that is not Ringkeeper.
    pub const fn is_for_any_server(self) -> bool {
        !matches!(self, Suite::Cargo | Suite::Ensemble | Suite::Stages | Suite::Diff)
    }

    /// Starts servers with the configuration that the whole run asks for. Our own tests choose
    /// theirs, and `stages` has its own.
    pub const fn is_for_any_configuration(self) -> bool {
        !matches!(self, Suite::Cargo | Suite::Stages)
    }

    /// Runs on an ensemble, too, when `--members` says so.
    pub const fn is_for_members(self) -> bool {
        use Suite::{C, Curator, Java, Kafka, Kazoo, Rust, Zookeeper};
        matches!(self, Kazoo | Java | Zookeeper | C | Rust | Kafka | Curator)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
