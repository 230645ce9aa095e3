//! The watch registries of one server: who is told what when a znode changes.
//!
//! Corresponds to ZooKeeper's `WatchManager`, `WatcherMode` and the trigger calls of `DataTree`.
//! Watches belong to a connection, not to a session; they are never replicated. Nothing here
//! knows ACLs, zxids or frames: the caller filters and encodes inside the `emit` callback, and a
//! one-shot watch is consumed whether or not the caller sends the frame.
//!
//! Invariants: a path is stored once however many connections watch it; a change costs one branch
//! when no watch exists and at most one probe per registry otherwise; ancestors are visited only
//! while a recursive watch exists; emission order depends on the calls made so far only.
#![forbid(unsafe_code)]

mod fire;
mod key_list;
mod paths;
mod set;
mod watches;

#[cfg(test)]
mod tests;

pub use fire::Change;
pub use watches::{WatchKind, WatchMode, WatchSummary, Watches};
