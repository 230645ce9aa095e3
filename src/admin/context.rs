//! What the words show besides the replica's state.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::FOUR_LETTER_WORDS;
use crate::config::Settings;
use crate::metrics::{Measures, TermFigures, WayFigures};

use super::state::MemberState;

/// The machine and the process: what does not change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Name of the machine.
    pub name: String,
    /// Release of the kernel.
    pub os_version: String,
    /// Architecture as Java names it (`amd64`, `aarch64`).
    pub os_arch: String,
    /// Who runs the server.
    pub user_name: String,
    /// Home directory of that user.
    pub user_home: String,
    /// Working directory.
    pub user_dir: String,
    /// Directory of temporary files.
    pub temp_dir: String,
    /// The running executable.
    pub executable: String,
    /// Snapshot directory, absolute, `version-2` included.
    pub snap_dir: String,
    /// Log directory, absolute, `version-2` included.
    pub log_dir: String,
    /// Limit of open files.
    pub open_files_max: u64,
}

/// What the server looks up when a word asks for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    /// Bytes in the snapshot and in the log directory.
    pub dir_sizes: (u64, u64),
    /// Open files.
    pub open_files: u64,
    /// Bytes of memory that the machine could still give.
    pub memory_free: u64,
    /// Bytes of memory of the machine.
    pub memory_max: u64,
    /// Bytes of memory that the process holds.
    pub memory_used: u64,
    /// What this server is to its ensemble.
    pub state: MemberState,
    /// Its elections so far.
    pub terms: TermFigures,
}

/// See the module's introduction.
#[derive(Clone, Debug)]
pub struct AdminContext {
    pub(super) settings: Settings,
    pub(super) address: SocketAddr,
    pub(super) host: Host,
    pub(super) measures: Arc<Measures>,
    /// `gtmk`, `stmk`: kept and shown only; logging follows its own configuration.
    pub(super) trace_mask: i64,
    /// Looked up for the word about to be answered.
    pub live: Live,
    /// The same, for `mntr` only.
    pub way: WayFigures,
}

/// `ZooTrace.getTextTraceLevel` at the start: client requests, server packets, sessions, warnings.
const TRACE_MASK: i64 = 306;

impl AdminContext {
    /// For a server of these settings that listens on `address`.
    pub fn new(
        settings: &Settings,
        address: SocketAddr,
        host: Host,
        measures: Arc<Measures>,
    ) -> AdminContext {
        AdminContext {
            settings: settings.clone(),
            address,
            host,
            measures,
            trace_mask: TRACE_MASK,
            live: Live::default(),
            way: WayFigures::default(),
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether `stmk` is answered, so that its argument is worth waiting for.
    pub fn takes_mask(&self) -> bool {
        self.allows("stmk")
    }

    /// Whether a word is answered. The settings hold all of them for `*`.
    pub(super) fn allows(&self, word: &str) -> bool {
        self.settings.four_letter_words.iter().any(|allowed| allowed == word)
    }

    /// Whether every known word is answered, which takes a `*` or a complete list.
    pub(super) fn allows_all(&self) -> bool {
        FOUR_LETTER_WORDS.iter().all(|word| self.allows(word))
    }
}
