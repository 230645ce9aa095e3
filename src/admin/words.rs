//! The words themselves: which are answered, and the short texts.

use std::fmt::Write;

use crate::base::{ConnId, Now};
use crate::config::EnsembleSettings;
use crate::metrics::Summary;
use crate::quorum::{MemberAddress, Role};
use crate::replica::Replica;

use super::context::AdminContext;
use super::date::build_date;
use super::state::MemberState;
use super::{listing, mntr};

/// What this server says it is: the Apache version that it stands in for, which clients parse and
/// derive features from, then its own name and version where Apache has the hash of its commit.
///
/// The build of a release sets `RINGKEEPER_COMMIT`, the hash of its commit, and
/// `SOURCE_DATE_EPOCH`, the seconds that reproducible builds set. A build script that asks git
/// would find nothing in an unpacked archive, or the repository of a distribution around it.
pub fn version() -> String {
    let built = option_env!("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.trim().parse().ok());
    describe(env!("CARGO_PKG_VERSION"), option_env!("RINGKEEPER_COMMIT"), built)
}

/// When this version came, for builds that do not say more: 2026-11-21.
const RELEASED: u32 = 1_795_219_200;

fn describe(number: &str, commit: Option<&str>, built: Option<u32>) -> String {
    // Clients split at blanks, commas and dashes.
    let is_hash = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let commit = commit.map(str::trim).filter(is_hash);
    let commit = commit.map_or(String::new(), |hash| format!(".{hash}"));
    let date = build_date(built.unwrap_or(RELEASED));
    format!("3.9.5-ringkeeper{number}{commit}, built on {date}")
}

const TELNET_INTERRUPT: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// Answers a four-letter word that came on `conn`; the connection is to be closed after it. The
/// word and its answer count as a frame received and one sent.
pub fn four_letter(
    context: &mut AdminContext,
    replica: &mut Replica,
    now: Now,
    conn: ConnId,
    word: [u8; 4],
    argument: &[u8],
) -> String {
    replica.word_received(conn);
    let text = match context.live.state {
        // COMPAT: without a leader there is no server behind the words.
        MemberState::Looking => not_serving(context, word, argument),
        MemberState::Alone
        | MemberState::Leading(_)
        | MemberState::Following
        | MemberState::Observing => answer(context, replica, now, conn, word, argument),
    };
    replica.word_answered(conn);
    text
}

fn answer(
    context: &mut AdminContext,
    replica: &mut Replica,
    now: Now,
    conn: ConnId,
    word: [u8; 4],
    argument: &[u8],
) -> String {
    let word = match permitted(context, word) {
        Ok(word) => word,
        Err(answer) => return answer,
    };
    match word.as_str() {
        "conf" => conf(context),
        "cons" => listing::cons(replica, conn),
        "crst" => {
            replica.reset_conn_stats();
            "Connection stats reset.\n".to_owned()
        }
        "dirs" => {
            let (snap, log) = context.live.dir_sizes;
            format!("datadir_size: {snap}\nlogdir_size: {log}\n")
        }
        "dump" => {
            let sessionless_ms = u64::from(context.settings.sessionless_timeout_ms);
            listing::dump(replica, now, sessionless_ms)
        }
        "envi" => envi(context),
        "gtmk" => context.trace_mask.to_string(),
        "hash" => hash(replica),
        "isro" => "rw".to_owned(),
        "mntr" => mntr::mntr(context, replica, now),
        "ruok" => "imok".to_owned(),
        "srst" => {
            replica.reset_stats();
            context.measures.reset();
            "Server stats reset.\n".to_owned()
        }
        "srvr" => version_line() + &server_lines(context, replica),
        "stat" => listing::stat(replica, conn, &version_line(), &server_lines(context, replica)),
        "stmk" => stmk(context, argument),
        "wchc" => listing::wchc(replica),
        "wchp" => listing::wchp(replica),
        "wchs" => listing::wchs(replica),
        _ => refusal(&word),
    }
}

/// The word, if it is to be executed; otherwise the whole answer.
fn permitted(context: &AdminContext, word: [u8; 4]) -> Result<String, String> {
    if word == TELNET_INTERRUPT {
        // Known to the list, so that it can be refused, but there is nothing to say.
        let allowed = context.allows_all();
        return Err(if allowed { String::new() } else { refusal("telnet close") });
    }
    let word = String::from_utf8_lossy(&word).into_owned();
    if context.allows(&word) { Ok(word) } else { Err(refusal(&word)) }
}

/// Answers a four-letter word while nothing is served: recovery runs, or there is no leader.
pub fn not_serving(context: &mut AdminContext, word: [u8; 4], argument: &[u8]) -> String {
    const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";
    let word = match permitted(context, word) {
        Ok(word) => word,
        Err(answer) => return answer,
    };
    match word.as_str() {
        "ruok" => "imok".to_owned(),
        "envi" => envi(context),
        "gtmk" => context.trace_mask.to_string(),
        "stmk" => stmk(context, argument),
        "isro" => "null".to_owned(),
        "hash" => NOT_SERVING.to_owned(),
        _ => format!("{NOT_SERVING}\n"),
    }
}

fn refusal(word: &str) -> String {
    format!("{word} is not executed because it is not in the whitelist.\n")
}

fn version_line() -> String {
    format!("Zookeeper version: {}\n", version())
}

fn server_lines(context: &AdminContext, replica: &Replica) -> String {
    let stats = replica.stats();
    let latency = stats.latency();
    let mut out = String::new();
    let (least, greatest) = (latency.least() / 1000, latency.max / 1000);
    let _ = writeln!(out, "Latency min/avg/max: {least}/{}/{greatest}", average(&latency, 1000));
    let _ = writeln!(out, "Received: {}", stats.received);
    let _ = writeln!(out, "Sent: {}", stats.sent);
    let _ = writeln!(out, "Connections: {}", replica.client_count());
    let _ = writeln!(out, "Outstanding: {}", replica.outstanding());
    let _ = writeln!(out, "Zxid: 0x{}", replica.last_processed());
    let state = &context.live.state;
    let _ = writeln!(out, "Mode: {}", state.name());
    let _ = writeln!(out, "Node count: {}", replica.tree().node_count());
    if let MemberState::Leading(leader) = state {
        let (last, min, max) = leader.shown_sizes();
        let _ = writeln!(out, "Proposal sizes last/min/max: {last}/{min}/{max}");
    }
    out
}

/// The mean of values that are shown divided by `unit`, as Java prints a double rounded to four
/// decimals: at least one of them, no trailing zeros.
pub(super) fn average(summary: &Summary, unit: u64) -> String {
    let divisor = u128::from(summary.count.max(1)) * u128::from(unit);
    let rounded = (u128::from(summary.sum) * 10_000 * 2 / divisor).div_ceil(2);
    let decimals = format!("{:04}", rounded % 10_000);
    let decimals = decimals.trim_end_matches('0');
    format!("{}.{}", rounded / 10_000, if decimals.is_empty() { "0" } else { decimals })
}

fn stmk(context: &mut AdminContext, argument: &[u8]) -> String {
    // The front hands the word over with its argument whole.
    if let Some(mask) = argument.first_chunk::<8>() {
        context.trace_mask = i64::from_be_bytes(*mask);
    }
    context.trace_mask.to_string()
}

fn hash(replica: &Replica) -> String {
    let mut out = String::new();
    for (zxid, digest) in replica.tree().digest_log() {
        let _ = writeln!(out, "{zxid}: {}", digest.cast_signed());
    }
    out
}

fn conf(context: &AdminContext) -> String {
    let (settings, host) = (&context.settings, &context.host);
    let (snap_size, log_size) = context.live.dir_sizes;
    let backlog = settings.listen_backlog.map_or(-1, i64::from);
    let mut text = format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={snap_size}\n\
         dataLogDir={}\ndataLogSize={log_size}\ntickTime={}\nmaxClientCnxns={}\n\
         minSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={backlog}\n\
         serverId={}\n",
        context.address.port(),
        host.snap_dir,
        host.log_dir,
        settings.tick_ms,
        settings.client_cnxns_max,
        settings.session_timeout_ms_min,
        settings.session_timeout_ms_max,
        settings.ensemble.as_ref().map_or(0, |ensemble| ensemble.sid.0),
    );
    if let Some(ensemble) = &settings.ensemble {
        put_ensemble(&mut text, ensemble);
    }
    text
}

/// What a member adds (`QuorumZooKeeperServer.dumpConf`): the last line has no end.
fn put_ensemble(out: &mut String, ensemble: &EnsembleSettings) {
    let ports = |port: fn(&MemberAddress) -> u16| {
        let addresses = ensemble.this().map_or(&[][..], |this| this.addresses.as_slice());
        let ports: Vec<String> = addresses.iter().map(|at| port(at).to_string()).collect();
        ports.join("|")
    };
    let peer_type = match ensemble.role() {
        Role::Participant => 0,
        Role::Observer => 1,
    };
    let _ = write!(
        out,
        "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\n\
         peerType={peer_type}\nmembership: \n{}",
        ensemble.init_limit,
        ensemble.sync_limit,
        ports(|at| at.election_port),
        ports(|at| at.quorum_port),
        ensemble.membership,
    );
}

/// The keys are the ones that a server in Java shows. A property that only a Java machine has is
/// `<NA>`, as Java shows what is not set. Memory figures are of the operating system and this
/// process.
fn envi(context: &AdminContext) -> String {
    let (host, live) = (&context.host, &context.live);
    let mb = |bytes: u64| format!("{}MB", bytes >> 20);
    let na = "<NA>".to_owned();
    let lines = [
        ("zookeeper.version", version()),
        ("host.name", host.name.clone()),
        ("java.version", na.clone()),
        ("java.vendor", "none (Ringkeeper is native)".to_owned()),
        ("java.home", na.clone()),
        ("java.class.path", host.executable.clone()),
        ("java.library.path", na.clone()),
        ("java.io.tmpdir", host.temp_dir.clone()),
        ("java.compiler", na),
        ("os.name", "Linux".to_owned()),
        ("os.arch", host.os_arch.clone()),
        ("os.version", host.os_version.clone()),
        ("user.name", host.user_name.clone()),
        ("user.home", host.user_home.clone()),
        ("user.dir", host.user_dir.clone()),
        ("os.memory.free", mb(live.memory_free)),
        ("os.memory.max", mb(live.memory_max)),
        ("os.memory.total", mb(live.memory_used)),
    ];
    let mut out = "Environment:\n".to_owned();
    for (key, value) in lines {
        let _ = writeln!(out, "{key}={value}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_print_as_javas_doubles() {
        let show = |sum, count, unit| average(&Summary { count, sum, min: 0, max: 0 }, unit);
        assert_eq!(show(0, 0, 1000), "0.0");
        assert_eq!(show(193, 12, 1), "16.0833");
        assert_eq!(show(5, 12, 1), "0.4167");
        assert_eq!(show(13_000, 1, 1000), "13.0");
        assert_eq!(show(1, 2, 1000), "0.0005");
        assert_eq!(show(1, 3, 1000), "0.0003");
        assert_eq!(show(7, 1, 1), "7.0");
    }

    #[test]
    fn a_build_says_what_it_is_made_of() {
        for (commit, built, text) in [
            (None, None, "3.9.5-ringkeeper1.2.3, built on 2026-11-21 00:00 UTC"),
            (Some("1af29ed\n"), Some(951_782_460), "1.2.3.1af29ed, built on 2000-02-29 00:01 UTC"),
            // What a shell leaves of a command that failed, and what no client could parse.
            (Some(""), None, "3.9.5-ringkeeper1.2.3, built on 2026-11-21 00:00 UTC"),
            (Some("v1, dirty"), None, "3.9.5-ringkeeper1.2.3, built on 2026-11-21 00:00 UTC"),
        ] {
            let version = describe("1.2.3", commit, built);
            assert!(version.ends_with(text), "{version}");
        }
    }
}
