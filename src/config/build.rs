//! Builds [`Settings`] from the resolved entries; the entry point is [`check`].
//!
//! Corresponds to `QuorumPeerConfig.parseProperties`, `ServerConfig.readFrom` and the places where
//! server classes read their properties.

use std::path::PathBuf;

use crate::base::FOUR_LETTER_WORDS;
use crate::quorum::{ANY_HOST, Address};

use super::conflicts;
use super::ensemble;
use super::key::{Feature, Kind, Place, Standard, Status};
use super::membership::{self, Listed};
use super::problem::{Severity, Topic};
use super::raw::{Base, RawConfig};
use super::reader::Reader;
use super::report::Check;
use super::resolve::{problem, resolve};
use super::settings::{
    AuthSettings, ConnectionThrottle, Environment, LargeRequests, NodeSettings, RequestThrottle,
    RingSettings, Settings, StorageSettings,
};
use super::values;

/// Checks everything that was handed in, and yields the settings if nothing is wrong.
pub fn check(raw: &RawConfig, environment: &Environment) -> Check {
    let mut reader = Reader::new(resolve(raw));
    let (settings, is_member) = build(&mut reader, raw);
    note_other_keys(&mut reader, is_member);
    conflicts::find(&mut reader, &settings, environment);
    let Reader { resolved, mut effective } = reader;
    effective.sort_by(|a, b| a.name.cmp(&b.name));
    Check::new(settings, resolved.problems, effective)
}

/// The settings, and whether a member of an ensemble has them.
fn build(reader: &mut Reader, raw: &RawConfig) -> (Settings, bool) {
    let Listed { client, is_member, this } = membership::read(reader, raw);
    let (client_host, client_port) = client_address(reader, raw, client);
    let tick_ms = reader.natural("tickTime");
    let is_read_only_mode = reader.flag("readonlymode.enabled");
    let packet_size_max = reader.natural("jute.maxbuffer");
    let settings = Settings {
        client_port,
        client_host,
        listen_backlog: or_none(reader.int("clientPortListenBacklog"), 1),
        tick_ms,
        session_timeout_ms_min: session_timeout(reader, "minSessionTimeout", tick_ms, 2),
        session_timeout_ms_max: session_timeout(reader, "maxSessionTimeout", tick_ms, 20),
        client_cnxns_max: client_cnxns_max(reader, raw.base),
        cnxns_max: reader.natural("maxCnxns"),
        outstanding_max: reader.natural("globalOutstandingLimit"),
        packet_size_max,
        txn_size_max: packet_size_max.saturating_add(txn_extra_size(reader, packet_size_max)),
        sessionless_timeout_ms: reader.natural("nio.sessionlessCnxnTimeout"),
        is_client_keep_alive: reader.flag("clientTcpKeepAlive"),
        is_read_only_mode,
        is_reconfig: reader.flag("reconfigEnabled"),
        ensemble: if is_member { ensemble::read(reader, this) } else { None },
        four_letter_words: four_letter_words(reader, is_read_only_mode),
        storage: storage(reader, raw.base),
        nodes: nodes(reader),
        connection_throttle: connection_throttle(reader),
        request_throttle: request_throttle(reader),
        large_requests: LargeRequests {
            total_size_max: reader.natural("largeRequestMaxBytes"),
            threshold: or_none(reader.int("largeRequestThreshold"), 0),
        },
        auth: auth(reader),
        ring: ring(reader),
    };
    (settings, is_member)
}

/// `value` if it is at least `min`.
fn or_none(value: i64, min: i64) -> Option<u32> {
    u32::try_from(value).ok().filter(|_| value >= min)
}

fn session_timeout(reader: &mut Reader, name: &str, tick_ms: u32, ticks: u32) -> u32 {
    match reader.int_or_derived(name).map(u32::try_from) {
        Some(Ok(value)) => value,
        // -1 asks for the default.
        Some(Err(_)) | None => {
            let value = tick_ms.saturating_mul(ticks);
            reader.derived(name, value);
            value
        }
    }
}

/// COMPAT(3.5.7 to 3.9): `BinaryInputArchive` takes 1024 for anything less.
fn txn_extra_size(reader: &mut Reader, packet_size_max: u32) -> u32 {
    let name = "jute.maxbuffer.extrasize";
    let extra = reader.int_or_derived(name).and_then(|extra| u32::try_from(extra).ok());
    if extra.is_none() {
        reader.derived(name, packet_size_max);
    }
    extra.unwrap_or(packet_size_max).max(1024)
}

fn client_cnxns_max(reader: &mut Reader, base: Base) -> u32 {
    // COMPAT: ServerConfig.parse(String[]) leaves the field at zero, unlike zoo.cfg.
    if base == Base::Arguments && !reader.is_set("maxClientCnxns") {
        reader.derived("maxClientCnxns", 0);
        return 0;
    }
    reader.natural("maxClientCnxns")
}

fn client_address(
    reader: &mut Reader,
    raw: &RawConfig,
    from_list: Option<Address>,
) -> (Option<String>, u16) {
    let port = reader.int_or_derived("clientPort").and_then(|port| u16::try_from(port).ok());
    let host = reader.text("clientPortAddress").map(|host| without_brackets(&host));
    // COMPAT(3.9): 0 in zoo.cfg counts as not set; as an argument it lets the system choose.
    let port = port.filter(|port| *port != 0 || raw.base == Base::Arguments);
    let (host, port) = match (port, from_list) {
        (Some(port), Some(listed))
            if port != listed.port || host.as_ref().is_some_and(|host| *host != listed.host) =>
        {
            let Address { host: _, port: other } = listed;
            let what = format!("differs from the client address in the server line, {other}");
            reader.error("clientPort", what, "remove clientPort, or make both the same");
            (host, port)
        }
        (Some(port), Some(listed)) => (Some(listed.host).filter(|host| host != ANY_HOST), port),
        (Some(port), None) => (host, port),
        (None, Some(Address { host, port })) => {
            reader.derived("clientPort", port);
            (Some(host).filter(|host| host != ANY_HOST), port)
        }
        (None, None) if raw.base == Base::Embedded => {
            reader.derived("clientPort", 2181);
            (Some("127.0.0.1".to_string()), 2181)
        }
        (None, None) => {
            // A file that cannot be read may have it.
            if raw.dynamic_error.is_none() {
                missing_port(reader, host.is_some());
            }
            reader.derived("clientPort", "");
            (host, 0)
        }
    };
    if !reader.is_set("clientPortAddress") {
        reader.derived("clientPortAddress", host.as_deref().unwrap_or("all addresses"));
    }
    (host, port)
}

fn missing_port(reader: &mut Reader, has_host: bool) {
    let set = reader.resolved.found.get("clientPort");
    if set.is_some_and(|found| !values::is_allowed(found.key, &found.entry.value)) {
        return;
    }
    if set.is_some() {
        let what = "0 counts as not set, as in ZooKeeper, so no client could connect".to_string();
        reader.error("clientPort", what, "write the port, for example clientPort=2181");
    } else if has_host {
        let what = "set without clientPort".to_string();
        reader.error("clientPortAddress", what, "add clientPort, for example clientPort=2181");
    } else if reader.is_set("secureClientPort") {
        let what = "the only client port, but TLS is not built yet".to_string();
        reader.error("secureClientPort", what, "add clientPort, for example clientPort=2181");
    } else {
        let what = "not set, so no client could connect".to_string();
        reader.error("clientPort", what, "add it, for example clientPort=2181");
    }
}

fn without_brackets(host: &str) -> String {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host).to_string()
}

fn four_letter_words(reader: &mut Reader, is_read_only_mode: bool) -> Vec<String> {
    let name = "4lw.commands.whitelist";
    let mut words = Vec::new();
    for word in reader.list(name) {
        if word == "*" {
            words.extend(FOUR_LETTER_WORDS.iter().map(|known| (*known).to_string()));
        } else if !FOUR_LETTER_WORDS.contains(&word.as_str()) {
            reader.warn(name, format!("`{word}` is no four-letter word"), "remove it");
        } else {
            words.push(word);
        }
    }
    // COMPAT: ZooKeeper's own scripts need these two, so no list takes them away.
    words.push("srvr".to_string());
    if is_read_only_mode {
        words.push("isro".to_string());
    }
    words.sort();
    words.dedup();
    words
}

fn data_dirs(reader: &mut Reader, base: Base) -> (PathBuf, PathBuf) {
    let data_dir = match reader.text("dataDir") {
        Some(dir) => dir,
        None if base == Base::Embedded => {
            reader.derived("dataDir", "./data");
            "./data".to_string()
        }
        None => {
            let hint = "add it, for example dataDir=/var/lib/zookeeper";
            reader.error("dataDir", "not set".to_string(), hint);
            reader.derived("dataDir", "");
            String::new()
        }
    };
    let data_log_dir = reader.text("dataLogDir").unwrap_or_else(|| {
        reader.derived("dataLogDir", &data_dir);
        data_dir.clone()
    });
    (PathBuf::from(data_dir), PathBuf::from(data_log_dir))
}

fn storage(reader: &mut Reader, base: Base) -> StorageSettings {
    let (data_dir, data_log_dir) = data_dirs(reader, base);
    // The variable comes in as this property.
    let is_datadir_autocreate = reader.flag_or_derived("datadir.autocreate").unwrap_or_else(|| {
        reader.derived("datadir.autocreate", true);
        true
    });
    StorageSettings {
        data_dir,
        data_log_dir,
        is_datadir_autocreate,
        is_db_autocreate: reader.flag("db.autocreate"),
        snap_count: reader.natural("snapCount"),
        is_snap_count_set: reader.is_set("snapCount"),
        snap_log_size_bytes: reader.positive("snapSizeLimitInKb").map(|kib| kib << 10),
        txn_log_size_bytes_max: reader.positive("txnLogSizeLimitInKb").map(|kib| kib << 10),
        is_force_sync: reader.is_standard("forceSync"),
        sync_warning_ms: reader.natural("fsync.warningthresholdms"),
        snapshot_compression: reader.word("snapshot.compression.method"),
        is_trust_empty_snapshot: reader.flag("snapshot.trust.empty"),
        accepted_truncated_log: reader.text("ringkeeper.log.acceptTruncated"),
        is_snapshot_zxid: reader.flag("serializeLastProcessedZxid.enabled"),
        is_digest: reader.flag("digest.enabled"),
        is_close_session_txn: reader.flag("closeSessionTxn.enabled"),
        purge_snap_retain_count: reader.natural("autopurge.snapRetainCount"),
        purge_interval_ms: Some(reader.time_ms("autopurge.purgeInterval")).filter(|ms| *ms > 0),
    }
}

fn nodes(reader: &mut Reader) -> NodeSettings {
    NodeSettings {
        is_extended_types: reader.flag("extendedTypesEnabled"),
        is_emulate_353_ttl: reader.flag("emulate353TTLNodes"),
        container_check_interval_ms: reader.natural("znode.container.checkIntervalMs"),
        container_deletions_per_minute_max: reader.natural("znode.container.maxPerMinute"),
        container_never_used_ms_max: reader.natural("znode.container.maxNeverUsedIntervalMs"),
        is_enforce_quota: reader.flag("enforceQuota"),
        is_skip_acl: !reader.is_standard("skipACL"),
        is_eager_acl_check: reader.flag("enableEagerACLCheck"),
    }
}

fn connection_throttle(reader: &mut Reader) -> ConnectionThrottle {
    ConnectionThrottle {
        tokens: reader.natural("connection_throttle_tokens"),
        fill_time_ms: reader.natural("connection_throttle_fill_time"),
        fill_count: reader.natural("connection_throttle_fill_count"),
        freeze_time_ms: or_none(reader.int("connection_throttle_freeze_time"), 0),
        drop_increase: reader.decimal("connection_throttle_drop_increase"),
        drop_decrease: reader.decimal("connection_throttle_drop_decrease"),
        decrease_ratio: reader.decimal("connection_throttle_decrease_ratio"),
        is_weight_enabled: reader.flag("connection_throttle_weight_enabled"),
        global_session_weight: reader.natural("connection_throttle_global_session_weight"),
        renew_session_weight: reader.natural("connection_throttle_renew_session_weight"),
    }
}

fn request_throttle(reader: &mut Reader) -> RequestThrottle {
    RequestThrottle {
        requests_max: reader.natural("request_throttle_max_requests"),
        is_drop_stale: reader.flag("request_throttle_drop_stale"),
        is_stale_latency_check: reader.flag("request_stale_latency_check"),
        is_stale_connection_check: reader.flag("request_stale_connection_check"),
        throttled_op_wait_ms: or_none(reader.int("throttled_op_wait_time"), 1),
    }
}

fn auth(reader: &mut Reader) -> AuthSettings {
    let extra_schemes = extra_schemes(reader);
    let mut super_users: Vec<String> = reader.text("superUser").into_iter().collect();
    for found in reader.all("superUser.*") {
        super_users.extend(reader.text(&name_of(&found.entry.key)));
    }
    let algorithm = reader.word("DigestAuthenticationProvider.digestAlg");
    let enforced = reader.flag("enforce.auth.enabled");
    let schemes = reader.list("enforce.auth.schemes");
    // COMPAT: the older switch takes precedence and forgets the list.
    let enforced_schemes = if reader.flag("sessionRequireClientSASLAuth") {
        vec!["sasl".to_string()]
    } else if enforced {
        schemes
    } else {
        Vec::new()
    };
    AuthSettings {
        is_digest_enabled: reader.flag("DigestAuthenticationProvider.enabled"),
        // These three are one algorithm to Java.
        digest_algorithm: match algorithm.as_str() {
            "SHA" | "SHA-1" => "SHA1".to_string(),
            _ => algorithm,
        },
        super_digest: reader.text("DigestAuthenticationProvider.superDigest"),
        super_users,
        sasl_super_password: reader.text("SASLAuthenticationProvider.superPassword"),
        extra_schemes,
        enforced_schemes,
        is_allow_sasl_failed_clients: reader.flag("allowSaslFailedClients"),
        any_sasl_user_id: reader.text("letAnySaslUserDoX"),
        ensemble_names: reader.list("ensembleAuthName"),
        jaas_file: reader.text("java.security.auth.login.config").map(PathBuf::from),
        jaas_section: reader.word("sasl.serverconfig"),
        is_remove_host_from_principal: reader.flag("kerberos.removeHostFromPrincipal"),
        is_remove_realm_from_principal: reader.flag("kerberos.removeRealmFromPrincipal"),
    }
}

/// The name of a property without its prefix.
fn name_of(key: &str) -> String {
    key.strip_prefix("zookeeper.").unwrap_or(key).to_string()
}

/// The schemes that `authProvider.*` adds. The name after the dot means nothing, the class counts.
fn extra_schemes(reader: &mut Reader) -> Vec<String> {
    let mut schemes = Vec::new();
    for found in reader.all("authProvider.*") {
        let name = name_of(&found.entry.key);
        let class = reader.word(&name);
        let short = class.strip_prefix("org.apache.zookeeper.server.auth.").unwrap_or("");
        let scheme = match short.strip_suffix("AuthenticationProvider") {
            Some("SASL") => "sasl",
            Some("Digest") => "digest",
            Some("IP") => "ip",
            Some("Ensemble") => "ensemble",
            Some("X509") => {
                let what = "certificates come with TLS, which is not built yet".to_string();
                reader.warn(&name, what, "the scheme x509 is missing");
                continue;
            }
            Some(_) | None => {
                let what = "Java classes cannot be loaded; its scheme is missing".to_string();
                let hint = "the classes SASL-, Digest-, IP- and EnsembleAuthenticationProvider \
                            of org.apache.zookeeper.server.auth are built in";
                reader.warn(&name, what, hint);
                continue;
            }
        };
        schemes.push(scheme.to_string());
    }
    schemes.sort();
    schemes.dedup();
    schemes
}

fn ring(reader: &mut Reader) -> RingSettings {
    RingSettings {
        network_cpus: reader.cpus("ringkeeper.cores.network"),
        pipeline_cpu: reader.cpu("ringkeeper.cores.pipeline"),
        log_cpu: reader.cpu("ringkeeper.cores.log"),
        network_threads: reader.natural("ringkeeper.network.threads"),
        busy_poll_us: reader.natural("ringkeeper.busyPollMicros"),
        log_segment_size_bytes: u64::from(reader.natural("ringkeeper.log.segmentSizeInKb")) << 10,
        log_direct_io: reader.auto("ringkeeper.log.directIo"),
        uring_multishot: reader.auto("ringkeeper.uring.multishot"),
        uring_entries: reader.natural("ringkeeper.uring.entries"),
    }
}

/// Notes the keys that have no effect here, and checks their values where ZooKeeper would refuse
/// to start.
fn note_other_keys(reader: &mut Reader, is_member: bool) {
    let refused: Vec<String> = reader
        .resolved
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.key.clone())
        .collect();
    let found: Vec<_> = reader.resolved.found.values().cloned().collect();
    for found in found {
        let (key, entry) = (found.key, &found.entry);
        if refused.contains(&entry.key) {
            continue;
        }
        let (severity, topic, what) = match key.status {
            Status::Supported => continue,
            Status::ForMembers if is_member => continue,
            Status::ForMembers => (
                Severity::Note,
                Topic::Ignored,
                "accepted without effect: used only by a member of an ensemble".to_string(),
            ),
            Status::Ignored(reason) => {
                (Severity::Note, Topic::Ignored, format!("accepted without effect: {reason}"))
            }
            Status::NotBuilt(feature) if feature.is_for_members() && !is_member => (
                Severity::Note,
                Topic::NotBuilt,
                format!(
                    "used only by a member of an ensemble; {} not built yet",
                    is_or_are(feature)
                ),
            ),
            Status::NotBuilt(feature) => {
                let is_default = match key.default {
                    Standard::Value(text) => text.eq_ignore_ascii_case(&entry.value),
                    Standard::Derived(_) | Standard::Unset | Standard::Required => false,
                };
                let severity = if is_default { Severity::Note } else { Severity::Warning };
                let what = format!("accepted without effect: {} not built yet", is_or_are(feature));
                (severity, Topic::NotBuilt, what)
            }
        };
        let strict = key.place == Place::File || matches!(key.kind, Kind::Choice(_));
        if strict && !values::is_allowed(key, &entry.value) {
            let what = format!("not allowed; it has to be {}", key.allowed());
            let hint = "correct it, or remove the line".to_string();
            let error = problem(Severity::Error, Topic::Value, entry, what, hint);
            reader.resolved.problems.push(error);
        } else {
            let note = problem(severity, topic, entry, what, String::new());
            reader.resolved.problems.push(note);
        }
    }
}

fn is_or_are(feature: Feature) -> String {
    let verb = match feature {
        Feature::Groups
        | Feature::ObserverMasters
        | Feature::LocalSessions
        | Feature::MetricsProvider
        | Feature::PathStatistics => "are",
        Feature::Oracle
        | Feature::QuorumSasl
        | Feature::Tls
        | Feature::AdminServer
        | Feature::Kerberos
        | Feature::AuditLog => "is",
    };
    format!("{} {verb}", feature.name())
}
