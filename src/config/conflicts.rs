//! Checks of settings against each other and against the machine.
//!
//! Corresponds to the second half of `QuorumPeerConfig.parseProperties`, `AuthenticationHelper` and
//! `VerifyingFileFactory`.

use std::path::Path;

use super::reader::Reader;
use super::settings::{Environment, Settings};

/// Reports what does not go together.
pub(super) fn find(reader: &mut Reader, settings: &Settings, environment: &Environment) {
    check_sessions(reader, settings);
    check_paths(reader, settings);
    check_auth(reader, settings);
    check_quorum_sasl(reader);
    check_server_ids(reader, settings);
    check_ring(reader, settings, environment);
}

fn check_sessions(reader: &mut Reader, settings: &Settings) {
    let (min, max) = (settings.session_timeout_ms_min, settings.session_timeout_ms_max);
    if min > max {
        let name = if reader.is_set("minSessionTimeout") {
            "minSessionTimeout"
        } else {
            "maxSessionTimeout"
        };
        let what =
            format!("minSessionTimeout, {min} ms, is larger than maxSessionTimeout, {max} ms");
        reader.error(name, what, "raise maxSessionTimeout, lower minSessionTimeout or tickTime");
    }
    let large = &settings.large_requests;
    if large.threshold.is_some_and(|threshold| threshold > large.total_size_max) {
        let what = "larger than largeRequestMaxBytes: every large request would fail".to_string();
        reader.warn("largeRequestThreshold", what, "lower it, or raise largeRequestMaxBytes");
    }
    if !settings.storage.is_force_sync {
        let what = "writes are acknowledged before they are on disk; a crash can lose them";
        reader.warn("forceSync", what.to_string(), "remove the line unless that is acceptable");
    }
    if settings.nodes.is_skip_acl {
        let what = "no permission is checked: every client may read and change everything";
        reader.warn("skipACL", what.to_string(), "remove the line unless that is intended");
    }
}

fn check_paths(reader: &mut Reader, settings: &Settings) {
    let storage = &settings.storage;
    for (name, path) in [("dataDir", &storage.data_dir), ("dataLogDir", &storage.data_log_dir)] {
        // As with ZooKeeper, a leading `./` says that a relative path is meant.
        if reader.is_set(name) && is_accidentally_relative(path) {
            let what = "a relative path; it depends on where the server is started".to_string();
            reader.warn(name, what, "begin it with / or, if it is intended, with ./");
        }
    }
}

fn is_accidentally_relative(path: &Path) -> bool {
    path.is_relative() && !path.as_os_str().is_empty() && !path.starts_with(".")
}

fn check_auth(reader: &mut Reader, settings: &Settings) {
    let auth = &settings.auth;
    if let Some(digest) = &auth.super_digest
        && !digest.split_once(':').is_some_and(|(user, hash)| !user.is_empty() && !hash.is_empty())
    {
        let what = "not of the form user:hash, so nobody can become super user".to_string();
        let name = "DigestAuthenticationProvider.superDigest";
        reader.warn(name, what, "write the user, a colon and the base64 hash of user:password");
    }
    let by_sasl = settings_require_sasl(reader);
    let name = if by_sasl { "sessionRequireClientSASLAuth" } else { "enforce.auth.schemes" };
    for scheme in &auth.enforced_schemes {
        let is_available = match scheme.as_str() {
            "digest" => auth.is_digest_enabled || auth.extra_schemes.contains(scheme),
            "ip" => true,
            _ => auth.extra_schemes.contains(scheme),
        };
        if !is_available {
            let what = format!("the scheme {scheme} is not available, so no client could log in");
            let hint = if scheme == "sasl" {
                "add authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
            } else {
                "remove the scheme, or configure its provider"
            };
            reader.error(name, what, hint);
        }
    }
    let enforces = reader.resolved.found.get("enforce.auth.enabled");
    let enforces = enforces.is_some_and(|f| f.entry.value.eq_ignore_ascii_case("true"));
    if enforces && auth.enforced_schemes.is_empty() {
        let what = "no scheme is listed in enforce.auth.schemes".to_string();
        reader.error(
            "enforce.auth.enabled",
            what,
            "add it, for example enforce.auth.schemes=digest",
        );
    }
}

fn settings_require_sasl(reader: &Reader) -> bool {
    let found = reader.resolved.found.get("sessionRequireClientSASLAuth");
    found.is_some_and(|found| found.entry.value.eq_ignore_ascii_case("true"))
}

/// The combinations of quorum SASL flags at which ZooKeeper refuses to start.
fn check_quorum_sasl(reader: &mut Reader) {
    let is_on = |reader: &Reader, name: &str| {
        let found = reader.resolved.found.get(name);
        found.is_some_and(|found| found.entry.value.eq_ignore_ascii_case("true"))
    };
    let enabled = is_on(reader, "quorum.auth.enableSasl");
    let learner = is_on(reader, "quorum.auth.learnerRequireSasl");
    let server = is_on(reader, "quorum.auth.serverRequireSasl");
    if learner && !enabled {
        let what = "requires quorum.auth.enableSasl=true".to_string();
        reader.error("quorum.auth.learnerRequireSasl", what, "add it, or remove this line");
    }
    if server && !(enabled && learner) {
        let what = "requires quorum.auth.enableSasl=true and quorum.auth.learnerRequireSasl=true";
        let name = "quorum.auth.serverRequireSasl";
        reader.error(name, what.to_string(), "add them, or remove this line");
    }
}

/// Numbers of members that are too large for what is made of them.
fn check_server_ids(reader: &mut Reader, settings: &Settings) {
    let Some(ensemble) = &settings.ensemble else { return };
    let sid = ensemble.sid.0;
    // COMPAT(3.9): `EphemeralType.validateServerId`. Owners that begin with 255 are kinds of nodes.
    if settings.nodes.is_extended_types && sid > 254 {
        let what = format!("server {sid} has too large a number for it");
        let hint = "give this server a number up to 254, or remove the line";
        reader.error("extendedTypesEnabled", what, hint);
    }
    for member in ensemble.membership.members().filter(|member| !(0..256).contains(&member.sid.0)) {
        let what = "session ids begin with the last 8 bits of this number, so two servers may give \
                    out the same";
        let name = format!("server.{}", member.sid.0);
        reader.warn(&name, what.to_string(), "give all servers numbers from 1 to 255");
    }
}

fn check_ring(reader: &mut Reader, settings: &Settings, environment: &Environment) {
    let ring = &settings.ring;
    if !ring.log_segment_size_bytes.is_multiple_of(4096) {
        let what = "not a multiple of 4 KiB, the block size of the log".to_string();
        reader.error("ringkeeper.log.segmentSizeInKb", what, "round it to a multiple of 4");
    }
    let threads = usize::try_from(ring.network_threads).unwrap_or(usize::MAX);
    if threads > 0 && !ring.network_cpus.is_empty() && threads != ring.network_cpus.len() {
        let what = format!(
            "does not fit the {} CPUs of ringkeeper.cores.network",
            ring.network_cpus.len()
        );
        let hint = "remove ringkeeper.network.threads to get one event loop on each of them";
        reader.warn("ringkeeper.network.threads", what, hint);
    }
    let Some(usable) = &environment.usable_cpus else { return };
    let pinned = [
        ("ringkeeper.cores.network", ring.network_cpus.clone()),
        ("ringkeeper.cores.pipeline", ring.pipeline_cpu.into_iter().collect()),
        ("ringkeeper.cores.log", ring.log_cpu.into_iter().collect()),
    ];
    for (name, cpus) in pinned {
        let missing: Vec<_> = cpus.iter().filter(|c| !usable.contains(c)).collect();
        if let Some(cpu) = missing.first() {
            let what = format!("this process cannot use CPU {cpu}; it may use {usable:?}");
            reader.error(name, what, "choose other CPUs, or widen the affinity of the process");
        }
    }
}
