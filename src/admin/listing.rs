//! Words that list connections, sessions and watches.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::base::{ConnId, FixedMap, Now, SessionId};
use crate::replica::{Client, Replica};
use crate::session::Sessions;
use crate::wire::OpCode;

use super::date::java_date;

/// `/ip:port` as Java prints an `InetSocketAddress` that has no name.
fn peer(address: &SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}:{}", address.port()),
        IpAddr::V6(ip) => {
            let words: Vec<String> = ip.segments().iter().map(|word| format!("{word:x}")).collect();
            format!("/[{}]:{}", words.join(":"), address.port())
        }
    }
}

/// Tag of a last operation (`FinalRequestProcessor`).
fn tag(op: OpCode) -> &'static str {
    match op {
        OpCode::CreateSession => "SESS",
        OpCode::Ping => "PING",
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => "CREA",
        OpCode::Delete | OpCode::DeleteContainer => "DELE",
        OpCode::Exists => "EXIS",
        OpCode::GetData => "GETD",
        OpCode::SetData => "SETD",
        OpCode::GetAcl => "GETA",
        OpCode::SetAcl => "SETA",
        OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
        OpCode::GetAllChildrenNumber => "GETACN",
        OpCode::Sync => "SYNC",
        OpCode::Multi => "MULT",
        OpCode::MultiRead => "MLTR",
        OpCode::Reconfig => "RECO",
        OpCode::Check => "CHEC",
        OpCode::SetWatches => "SETW",
        OpCode::SetWatches2 => "STW2",
        OpCode::AddWatch => "ADDW",
        OpCode::CheckWatches => "CHKW",
        OpCode::RemoveWatches => "REMW",
        OpCode::GetEphemerals => "GETE",
        OpCode::WhoAmI => "HOMI",
        OpCode::CloseSession => "CLOS",
        OpCode::Error | OpCode::Auth | OpCode::Sasl => "NA",
    }
}

/// The part that `stat` and `cons` share, without the closing parenthesis. In brackets what the
/// connection waits for: 1 for input, 0 for nothing.
fn brief(out: &mut String, client: &Client, asking: ConnId) {
    let waits = u8::from(client.conn != asking && !client.paused);
    let stats = &client.stats;
    let _ = write!(
        out,
        " {}[{waits}](queued={},recved={},sent={}",
        peer(&client.peer),
        client.outstanding(),
        stats.received,
        stats.sent,
    );
}

/// `stat`: `version`, the connections, `server`.
pub(super) fn stat(replica: &Replica, asking: ConnId, version: &str, server: &str) -> String {
    let mut out = format!("{version}Clients:\n");
    for client in replica.clients() {
        brief(&mut out, client, asking);
        out.push_str(")\n");
    }
    out + "\n" + server
}

/// `cons`.
pub(super) fn cons(replica: &Replica, asking: ConnId) -> String {
    let mut out = String::new();
    for client in replica.clients() {
        brief(&mut out, client, asking);
        if client.session.0 != 0 {
            session_part(&mut out, client);
        }
        out.push_str(")\n");
    }
    out + "\n"
}

fn session_part(out: &mut String, client: &Client) {
    let stats = &client.stats;
    // Java's null: a session that was taken up again and has done nothing yet.
    let never = stats.count == 0 && stats.last_zxid == 0;
    let none = if never { "null" } else { "NA" };
    let _ = write!(
        out,
        ",sid={},lop={},est={},to={}",
        client.session,
        stats.last_op.map_or(none, tag),
        client.established_ms,
        client.timeout_ms,
    );
    if stats.last_cxid >= 0 {
        let _ = write!(out, ",lcxid=0x{:x}", stats.last_cxid);
    }
    let least = if stats.count == 0 { 0 } else { stats.min_latency_ms };
    let _ = write!(
        out,
        ",lzxid=0x{:x},lresp={},llat={},minlat={least},avglat={},maxlat={}",
        stats.last_zxid,
        stats.last_response.as_ms(),
        stats.last_latency_ms,
        stats.total_latency_ms / stats.count.max(1),
        stats.max_latency_ms,
    );
}

/// The sessions as a learner knows them: when they end is the leader's business.
fn learned_sessions(out: &mut String, replica: &Replica) {
    let mut sessions: Vec<_> = replica.sessions().collect();
    sessions.sort_unstable();
    let _ = writeln!(out, "Global Sessions({}):", sessions.len());
    for (id, timeout_ms) in sessions {
        let _ = writeln!(out, "{id}\t{timeout_ms}ms");
    }
}

/// `dump`. Unlike Apache's, no bucket is listed that has become empty.
pub(super) fn dump(replica: &Replica, now: Now, sessionless_ms: u64) -> String {
    let date = |mono_ms: u64| {
        let ahead = mono_ms.cast_signed() - now.mono.as_ms().cast_signed();
        java_date(now.wall_ms.saturating_add(ahead))
    };
    let mut out = "SessionTracker dump:\n".to_owned();
    let expiries = replica.tracked_sessions().map(Sessions::expiries).unwrap_or_default();
    if replica.tracked_sessions().is_some() {
        let sessions: usize = expiries.values().map(Vec::len).sum();
        let _ = writeln!(out, "Session Sets ({})/({sessions}):", expiries.len());
        for (&at, ids) in &expiries {
            let _ = writeln!(out, "{} expire at {}:", ids.len(), date(at));
            for id in ids {
                let _ = writeln!(out, "\t{id}");
            }
        }
    } else {
        learned_sessions(&mut out, replica);
    }
    ephemerals(&mut out, replica);
    out.push_str("Connections dump:\n");
    let buckets = connection_buckets(replica, now, &expiries, sessionless_ms);
    let _ = writeln!(out, "Connections Sets ({})/({}):", buckets.len(), replica.client_count());
    for (at, clients) in buckets {
        let _ = writeln!(out, "{} expire at {}:", clients.len(), date(at));
        for client in clients {
            let _ = writeln!(out, "\tip: {} sessionId: {}", peer(&client.peer), client.session);
        }
    }
    out
}

fn ephemerals(out: &mut String, replica: &Replica) {
    let tree = replica.tree();
    let mut owners: Vec<SessionId> =
        tree.sessions_with_ephemerals().map(|(session, _)| session).collect();
    owners.sort_unstable();
    out.push_str("ephemeral nodes dump:\n");
    let _ = writeln!(out, "Sessions with Ephemerals ({}):", owners.len());
    let mut path = String::new();
    for session in owners {
        let _ = writeln!(out, "{session}:");
        for node in tree.ephemerals(session) {
            tree.path_into(node, &mut path);
            let _ = writeln!(out, "\t{path}");
        }
    }
}

/// When connections would be closed for being silent, in monotonic milliseconds. An estimate: the
/// fronts know the moments, the replica knows when each session expires, which is at most one
/// tick later. Rounded up to the sessionless timeout, as Apache's queue of connections is.
fn connection_buckets<'a>(
    replica: &'a Replica,
    now: Now,
    expiries: &BTreeMap<u64, Vec<SessionId>>,
    sessionless_ms: u64,
) -> BTreeMap<u64, Vec<&'a Client>> {
    let mut expiry_of: FixedMap<SessionId, u64> = FixedMap::default();
    for (&at, ids) in expiries {
        expiry_of.extend(ids.iter().map(|&id| (id, at)));
    }
    let width = sessionless_ms.max(1);
    let mut buckets: BTreeMap<u64, Vec<&Client>> = BTreeMap::new();
    for client in replica.clients() {
        let at = expiry_of.get(&client.session).copied().unwrap_or_else(|| {
            let age = now.wall_ms.saturating_sub(client.established_ms).max(0).cast_unsigned();
            (now.mono.as_ms() + sessionless_ms).saturating_sub(age)
        });
        buckets.entry((at / width + 1) * width).or_default().push(client);
    }
    buckets
}

/// `wchs`.
pub(super) fn wchs(replica: &Replica) -> String {
    let summary = replica.watches().summary();
    format!(
        "{} connections watching {} paths\nTotal watches:{}\n",
        summary.connections, summary.paths, summary.watches
    )
}

/// `wchc`.
pub(super) fn wchc(replica: &Replica) -> String {
    let mut out = String::new();
    replica.watches().visit_conns(&mut |conn, paths| {
        let _ = writeln!(out, "{}", replica.session_of(conn));
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    });
    out + "\n"
}

/// `wchp`.
pub(super) fn wchp(replica: &Replica) -> String {
    let mut out = String::new();
    replica.watches().visit_paths(&mut |path, conns| {
        let _ = writeln!(out, "{path}");
        for &conn in conns {
            let _ = writeln!(out, "\t{}", replica.session_of(conn));
        }
    });
    out + "\n"
}
