//! The words themselves.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::base::Now;
use crate::config::Settings;
use crate::replica::{Replica, ServerStats};

/// What the words show besides the replica's state.
#[derive(Clone, Debug)]
pub struct AdminContext {
    settings: Settings,
    address: SocketAddr,
}

impl AdminContext {
    /// For a server of these settings.
    pub fn new(settings: &Settings, address: SocketAddr) -> AdminContext {
        AdminContext { settings: settings.clone(), address }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn allows(&self, word: &str) -> bool {
        let words = &self.settings.four_letter_words;
        words.iter().any(|allowed| allowed == "*" || allowed == word)
    }
}

/// Answers a four-letter word.
pub fn four_letter(
    context: &mut AdminContext,
    replica: &mut Replica,
    _now: Now,
    word: [u8; 4],
    _argument: &[u8],
) -> String {
    let word = String::from_utf8_lossy(&word).into_owned();
    if !context.allows(&word) {
        return format!("{word} is not executed because it is not in the whitelist.\n");
    }
    match word.as_str() {
        "ruok" => "imok".to_owned(),
        "isro" => "rw".to_owned(),
        "srvr" => srvr(replica),
        _ => format!("{word} is not executed because it is not in the whitelist.\n"),
    }
}

fn srvr(replica: &Replica) -> String {
    let stats: &ServerStats = replica.stats();
    let min = if stats.count == 0 { 0 } else { stats.min_latency_ms };
    let avg =
        if stats.count == 0 { 0.0 } else { stats.total_latency_ms as f64 / stats.count as f64 };
    let mut out = String::new();
    let _ = writeln!(out, "Zookeeper version: 3.9.5-ringkeeper, built on 2026-11-21 00:00 UTC");
    let _ = writeln!(out, "Latency min/avg/max: {min}/{avg:.4}/{}", stats.max_latency_ms);
    let _ = writeln!(out, "Received: {}", stats.received);
    let _ = writeln!(out, "Sent: {}", stats.sent);
    let _ = writeln!(out, "Connections: {}", replica.client_count());
    let _ = writeln!(out, "Outstanding: {}", replica.outstanding());
    let _ = writeln!(out, "Zxid: 0x{}", replica.last_processed());
    let _ = writeln!(out, "Mode: standalone");
    let _ = writeln!(out, "Node count: {}", replica.tree().node_count());
    out
}
