//! The state of one server: routes what happens on connections, disk and clock to sessions, the
//! prepare stage, the tree and the watches, and says what is to be done about it.
//!
//! Sans-IO: [`Replica::handle`] takes the time and one [`Input`] and leaves [`Effects`]. It reads
//! no clock, owns no socket or file, and draws randomness from its seed only, so the simulator
//! runs it unchanged. A write is answered only after `Input::Committed` covers it.
#![forbid(unsafe_code)]

mod client;
mod commit;
mod core;
mod digest_check;
mod effects;
mod fair;
mod forwarded;
mod handshake;
mod leading;
mod learner;
mod limits;
mod long;
mod messages;
#[cfg(test)]
mod odd_tests;
mod orphans;
mod owed;
mod receive;
mod request;
mod restore;
#[cfg(test)]
mod restore_tests;
mod snapshot;
mod stats;
mod tail;
mod throttle;
mod walks;
mod write;

pub use client::{Client, ConnStats};
pub use core::{Replica, ReplicaOptions, Restored, SNAP_LOG_RATIO, WALK_CHUNK};
pub use digest_check::DigestCheck;
pub use effects::{CloseHow, Effect, Effects, Input, StreamId};
pub use fair::FairOptions;
pub use forwarded::ForwardedRequest;
pub use limits::{LimitFigures, LimitOptions};
pub use receive::{ReceptionError, ReceptionStage};
pub use request::AHEAD;
pub use restore::Restore;
pub use stats::ServerStats;
pub use throttle::{BILLION, ThrottleOptions};

#[cfg(test)]
mod tests;
