//! Sessions as the server that expires them sees them: a standalone server or a leader.
//!
//! Corresponds to ZooKeeper's `SessionTrackerImpl` and `ExpiryQueue`. Nothing here decides when a
//! session is created or closed, and nothing reads a clock: the caller passes the time, submits
//! the closeSession of every session that [`Sessions::expire`] names, and removes the session
//! when that is applied. Passwords are `wire::session_password`.
#![forbid(unsafe_code)]

mod sessions;

#[cfg(test)]
mod tests;

pub use sessions::{Claim, Owner, Session, SessionIds, SessionSlot, Sessions, initial_session_id};
