//! Process harness for the integration tests: real servers on 127.0.0.1 and a raw client.
//!
//! Nothing here shares code with the server: the client's frames are built by hand, so that a
//! mistake in the server's codec cannot hide. No sleep synchronizes anything: conditions are
//! polled until they hold or a deadline passes.

#![allow(dead_code, unused_imports, reason = "each suite uses its own part of the harness")]

mod client;
mod server;
mod tests;

use std::time::{Duration, Instant};

pub use client::{
    Client, Event, Jute, Reader, Reply, Session, Stat, op, raw_connect, read_frame, write_frame,
};
pub use server::{Kind, Options, Server, apache_class_path, free_port};

/// How long a server may take to answer, start or stop before a test gives up: only one that hangs
/// lets a test wait that long, and a machine that others use, too, must not.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What sessions ask for and get: none may expire because a test was held up.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(600);

/// Polls `probe` until it yields a value; panics with `what` when [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
