//! Why a loop cannot go on, and with it the process.

use std::fmt;
use std::io;

use crate::disk::FatalLogError;

/// See the module's introduction.
#[derive(Debug)]
pub enum Failure {
    /// The event loop itself: the system refuses an operation that it needs.
    EventLoop(io::Error),
    /// A write or sync of the log failed.
    Log(FatalLogError),
    /// The replica found that it must not go on.
    Replica(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::EventLoop(error) => write!(f, "event loop: {error}"),
            Failure::Log(error) => error.fmt(f),
            Failure::Replica(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::EventLoop(error)
    }
}

impl From<FatalLogError> for Failure {
    fn from(error: FatalLogError) -> Failure {
        Failure::Log(error)
    }
}
