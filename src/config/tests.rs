//! Tests of the whole path from text to settings, and of the key table and the samples.

use super::key::Standard;
use super::*;

pub(super) fn file(text: &str) -> RawConfig {
    let mut raw = RawConfig::new();
    raw.add_file("zoo.cfg", text.as_bytes());
    raw
}

/// A zoo.cfg with the required key on its first line, and `text` from line 2.
pub(super) fn with(text: &str) -> RawConfig {
    file(&format!("dataDir=/d\n{text}\nclientPort=2181\n"))
}

pub(super) fn shell(variables: &[(&str, &str)]) -> ShellVariables {
    ShellVariables::new(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

pub(super) fn checked(raw: &RawConfig) -> Check {
    check(raw, &Environment::default())
}

pub(super) fn texts<'a>(problems: impl Iterator<Item = &'a Problem>) -> Vec<String> {
    problems.map(Problem::to_string).collect()
}

#[track_caller]
pub(super) fn settings(raw: &RawConfig) -> Settings {
    let check = checked(raw);
    assert_eq!(texts(check.errors()), Vec::<String>::new());
    check.settings().unwrap().clone()
}

/// The only error has to begin with `begin` and contain `part`.
#[track_caller]
fn check_error(raw: &RawConfig, begin: &str, part: &str) {
    let check = checked(raw);
    let errors = texts(check.errors());
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].starts_with(begin), "{errors:#?}");
    assert!(errors[0].contains(part), "{errors:#?}");
    assert!(check.settings().is_none());
    assert_eq!(check.exit_code(), 2);
}

/// The only warning has to begin with `begin` and contain `part`; there are no errors.
#[track_caller]
pub(super) fn check_warning(raw: &RawConfig, begin: &str, part: &str) {
    let check = checked(raw);
    let warnings = texts(check.warnings());
    assert_eq!(texts(check.errors()), Vec::<String>::new());
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].starts_with(begin), "{warnings:#?}");
    assert!(warnings[0].contains(part), "{warnings:#?}");
}

#[track_caller]
fn check_silent(raw: &RawConfig) {
    let check = checked(raw);
    assert_eq!(texts(check.errors()), Vec::<String>::new());
    assert_eq!(texts(check.warnings()), Vec::<String>::new());
}

#[test]
fn embedded_default() {
    let found = settings(&RawConfig::new());
    assert_eq!(found.client_host.as_deref(), Some("127.0.0.1"));
    assert_eq!(found.client_port, 2181);
    assert_eq!(found.storage.data_dir.to_str(), Some("./data"));
    assert_eq!(found.storage.data_log_dir.to_str(), Some("./data"));
    assert_eq!(found.client_cnxns_max, 60);
    check_silent(&RawConfig::new());
}

#[test]
fn defaults_are_those_of_zookeeper() {
    let found = settings(&with(""));
    let expected = Settings {
        client_port: 2181,
        client_host: None,
        listen_backlog: None,
        tick_ms: 3000,
        session_timeout_ms_min: 6000,
        session_timeout_ms_max: 60_000,
        client_cnxns_max: 60,
        cnxns_max: 0,
        outstanding_max: 1000,
        packet_size_max: 0xf_ffff,
        txn_size_max: 2 * 0xf_ffff,
        sessionless_timeout_ms: 10_000,
        is_client_keep_alive: false,
        is_read_only_mode: false,
        is_reconfig: false,
        ensemble: None,
        four_letter_words: vec!["srvr".to_string()],
        storage: StorageSettings {
            data_dir: "/d".into(),
            data_log_dir: "/d".into(),
            is_datadir_autocreate: true,
            is_db_autocreate: true,
            snap_count: 100_000,
            is_snap_count_set: false,
            snap_log_size_bytes: Some(4 << 30),
            txn_log_size_bytes_max: None,
            is_force_sync: true,
            sync_warning_ms: 1000,
            snapshot_compression: String::new(),
            is_trust_empty_snapshot: false,
            accepted_truncated_log: None,
            is_snapshot_zxid: true,
            is_digest: true,
            is_close_session_txn: true,
            purge_snap_retain_count: 3,
            purge_interval_ms: None,
        },
        nodes: NodeSettings {
            is_extended_types: false,
            is_emulate_353_ttl: false,
            container_check_interval_ms: 60_000,
            container_deletions_per_minute_max: 10_000,
            container_never_used_ms_max: 0,
            is_enforce_quota: false,
            is_skip_acl: false,
            is_eager_acl_check: false,
        },
        connection_throttle: ConnectionThrottle {
            tokens: 0,
            fill_time_ms: 1,
            fill_count: 1,
            freeze_time_ms: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            is_weight_enabled: false,
            global_session_weight: 3,
            renew_session_weight: 2,
        },
        request_throttle: RequestThrottle {
            requests_max: 0,
            is_drop_stale: true,
            is_stale_latency_check: false,
            is_stale_connection_check: true,
            throttled_op_wait_ms: None,
        },
        large_requests: LargeRequests { total_size_max: 104_857_600, threshold: None },
        auth: AuthSettings {
            is_digest_enabled: true,
            digest_algorithm: "SHA1".to_string(),
            super_digest: None,
            super_users: Vec::new(),
            sasl_super_password: None,
            extra_schemes: Vec::new(),
            enforced_schemes: Vec::new(),
            is_allow_sasl_failed_clients: false,
            any_sasl_user_id: None,
            ensemble_names: Vec::new(),
            jaas_file: None,
            jaas_section: "Server".to_string(),
            is_remove_host_from_principal: false,
            is_remove_realm_from_principal: false,
        },
        ring: RingSettings {
            network_cpus: Vec::new(),
            pipeline_cpu: None,
            log_cpu: None,
            network_threads: 0,
            busy_poll_us: 0,
            log_segment_size_bytes: 64 << 20,
            log_direct_io: None,
            uring_multishot: None,
            uring_entries: 4096,
        },
    };
    assert_eq!(found, expected);
    check_silent(&with(""));
}

#[test]
fn every_kind_of_value_is_read() {
    let raw = with(
        "dataLogDir=/l\nclientPortAddress=[::1]\nclientPortListenBacklog=50\n\
         tickTime=2000\nminSessionTimeout=1000\nmaxSessionTimeout=90000\nmaxClientCnxns=-1\n\
         maxCnxns=7\nforceSync=no\nsnapshot.compression.method=GZ\nautopurge.purgeInterval=90m\n\
         4lw.commands.whitelist= mntr, ruok ,\nsnapSizeLimitInKb=-1\ntxnLogSizeLimitInKb=10\n\
         flushDelay=10\nconnection_throttle_drop_increase=0.5\nlargeRequestThreshold=1000\n\
         superUser=a\nsuperUser.x=b\nensembleAuthName=e1, e2\nringkeeper.cores.network=0,2-3\n\
         ringkeeper.cores.log=4\nringkeeper.log.directIo=off\nringkeeper.uring.multishot=on\n\
         DigestAuthenticationProvider.digestAlg=sha-1\nthrottled_op_wait_time=20\n\
         serializeLastProcessedZxid.enabled=FALSE\nmaxWriteQueuePollTime=2",
    );
    let found = settings(&raw);
    assert_eq!(found.storage.data_log_dir.to_str(), Some("/l"));
    assert_eq!(found.client_host.as_deref(), Some("::1"));
    assert_eq!(found.listen_backlog, Some(50));
    assert_eq!((found.session_timeout_ms_min, found.session_timeout_ms_max), (1000, 90_000));
    assert_eq!((found.client_cnxns_max, found.cnxns_max), (0, 7));
    assert!(!found.storage.is_force_sync);
    assert_eq!(found.storage.snapshot_compression, "gz");
    assert_eq!(found.storage.purge_interval_ms, Some(5_400_000));
    assert_eq!(found.four_letter_words, ["mntr", "ruok", "srvr"]);
    assert_eq!(found.storage.snap_log_size_bytes, None);
    assert_eq!(found.storage.txn_log_size_bytes_max, Some(10 << 10));
    assert_eq!(found.connection_throttle.drop_increase, 0.5);
    assert_eq!(found.large_requests.threshold, Some(1000));
    assert_eq!(found.auth.super_users, ["a", "b"]);
    assert_eq!(found.auth.ensemble_names, ["e1", "e2"]);
    assert_eq!(found.ring.network_cpus, [0, 2, 3]);
    assert_eq!(found.ring.log_cpu, Some(4));
    assert_eq!(found.ring.log_direct_io, Some(false));
    assert_eq!(found.ring.uring_multishot, Some(true));
    assert_eq!(found.auth.digest_algorithm, "SHA1");
    assert_eq!(found.request_throttle.throttled_op_wait_ms, Some(20));
    assert!(!found.storage.is_snapshot_zxid);
}

#[test]
fn arguments() {
    let mut raw = RawConfig::new();
    raw.add_arguments(&["2182", "/d"]);
    let found = settings(&raw);
    assert_eq!((found.client_port, found.client_host, found.client_cnxns_max), (2182, None, 0));
    assert_eq!(found.tick_ms, 3000);
    check_silent(&raw);
    let mut raw = RawConfig::new();
    raw.add_arguments(&["0", "/d", "100", "5"]);
    let found = settings(&raw);
    assert_eq!((found.client_port, found.tick_ms, found.client_cnxns_max), (0, 100, 5));
    let mut raw = RawConfig::new();
    raw.add_arguments(&["x", "/d"]);
    check_error(&raw, "command line: error: clientPort=x: not allowed", "from 0 to 65535");
    let mut raw = RawConfig::new();
    raw.add_arguments(&["1", "/d", "3", "4", "5"]);
    check_error(&raw, "command line: error: cannot use the arguments `1 /d 3 4 5`", "zoo.cfg");
}

#[test]
fn wrong_values_name_file_and_line() {
    let cases = [
        ("tickTime=abc", "from 1 to 107374182 ms"),
        ("tickTime=0", "from 1 to"),
        ("tickTime=999999999", "107374182"),
        ("clientPortListenBacklog=-2", "from -1 to"),
        ("standaloneEnabled=yes", "true or false"),
        ("reconfigEnabled=1", "true or false"),
        ("snapshot.compression.method=lz4", "one of ``, `gz`, `snappy`"),
        ("autopurge.purgeInterval=2w", "ms, s, m, h, d"),
        ("connection_throttle_drop_increase=2", "from 0 to 1"),
        ("DigestAuthenticationProvider.digestAlg=crc", "SHA-256"),
        ("snapCount=many", "less than 2 counts as 2"),
        ("ringkeeper.cores.network=0-", "such as 0,2-3"),
        ("ringkeeper.cores.log=0,1", "one CPU"),
        ("ringkeeper.log.directIo=yes", "auto, on or off"),
        ("ringkeeper.uring.entries=1", "from 64 to 32768"),
        ("ringkeeper.log.segmentSizeInKb=65", "multiple of 4"),
        ("electionAlg=0", "one of `3`"),
        ("syncLimit=x", "from 1 to 2147483647 ticks"),
        ("peerType=leader", "participant"),
        ("serverCnxnFactory=my.Factory", "NettyServerCnxnFactory"),
        ("metricsProvider.className=my.Provider", "PrometheusMetricsProvider"),
        ("quorum.auth.learnerRequireSasl=true", "enableSasl=true"),
        ("quorum.auth.serverRequireSasl=true", "learnerRequireSasl=true"),
        ("enforce.auth.enabled=true", "enforce.auth.schemes"),
        ("sessionRequireClientSASLAuth=true", "authProvider.sasl="),
        ("minSessionTimeout=99999", "larger than maxSessionTimeout"),
        ("maxSessionTimeout=10", "larger than maxSessionTimeout"),
        ("peerType=observer", "no servers are listed"),
        ("standaloneEnabled=false", "without server.N"),
    ];
    for (line, part) in cases {
        let (key, value) = line.split_once('=').unwrap();
        check_error(&with(line), &format!("zoo.cfg:2: error: {key}={value}: "), part);
    }
}

#[test]
fn what_is_missing_is_an_error() {
    check_error(&file("clientPort=1"), "error: dataDir: not set", "dataDir=/var/lib/zookeeper");
    check_error(&file("dataDir=/d"), "error: clientPort: not set", "clientPort=2181");
    check_error(
        &file("dataDir=/d\nclientPort=0"),
        "zoo.cfg:2: error: clientPort=0: 0 counts as",
        "",
    );
    check_error(
        &file("dataDir=/d\nclientPortAddress=a\nclientPort=0"),
        "zoo.cfg:3: error: clientPort=0: 0 counts as not set, as in ZooKeeper, so no client",
        "write the port, for example clientPort=2181",
    );
    check_error(&file("dataDir=/d\nclientPort=x"), "zoo.cfg:2: error: clientPort=x: not al", "");
    check_error(
        &file("dataDir=/d\nclientPortAddress=a"),
        "zoo.cfg:2: error: clientPortAddress=a: set without clientPort",
        "",
    );
    check_error(
        &file("dataDir=/d\nsecureClientPort=2281"),
        "zoo.cfg:2: error: secureClientPort=2281: ",
        "TLS is not built yet",
    );
    check_error(&file("dataDir=/d\nclientPort=1\na=\\u00"), "zoo.cfg:3: error: `\\u00`", "");
}

#[test]
fn all_errors_come_together() {
    let check = checked(&file("tickTime=a\nsnapCount=b\nelectionAlg=1\n"));
    let errors = texts(check.errors());
    assert_eq!(errors.len(), 5, "{errors:#?}");
    let report = check.report();
    for error in errors {
        assert!(report.contains(&error), "{report}");
    }
    assert!(report.contains("  tickTime=3000 ms  # default\n"), "{report}");
    let verdict = "5 error(s), 0 warning(s): the server cannot start with this configuration.\n";
    assert!(report.contains(verdict), "{report}");
    assert_eq!(check.into_settings().unwrap_err().len(), 5);
}

#[test]
fn doubtful_values_warn() {
    let cases = [
        ("snapCount=1", "too small; 2 is used"),
        ("autopurge.snapRetainCount=1", "too small; 3 is used"),
        ("enforceQuota=yes", "read as false"),
        ("forceSync=false", "read as yes"),
        ("skipACL=true", "read as no"),
        ("forceSync=no", "a crash can lose them"),
        ("skipACL=yes", "every client may"),
        ("dataLogDir=logs", "a relative path"),
        ("4lw.commands.whitelist=mntr,quit", "`quit` is no four-letter word"),
        ("DigestAuthenticationProvider.superDigest=x", "user:hash"),
        ("authProvider.1=my.Provider", "Java classes cannot be loaded"),
        ("secureClientPort=2281", "TLS is not built yet"),
        ("admin.enableServer=true", "the HTTP admin server is not built yet"),
        ("audit.enable=true", "the audit log is not built yet"),
        ("metricsProvider.httpPort=7000", "metrics providers are not built yet"),
        ("pathStats.enabled=true", "path statistics are not built yet"),
        ("kinit=/bin/kinit", "Kerberos is not built yet"),
    ];
    for (line, part) in cases {
        check_warning(&with(line), "zoo.cfg:2: warning: ", part);
    }
    assert_eq!(settings(&with("snapCount=1")).storage.snap_count, 2);
    assert!(settings(&with("snapCount=100000")).storage.is_snap_count_set);
    assert!(settings(&with("forceSync=false")).storage.is_force_sync);
    assert!(!settings(&with("skipACL=true")).nodes.is_skip_acl);
}

#[test]
fn keys_without_effect_that_need_no_warning() {
    for line in [
        "initLimit=10\nsyncLimit=5\ncnxTimeout=1",
        "admin.enableServer=false",
        "nio.numWorkerThreads=4",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        "metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
        "dataLogDir=./logs",
        "jvm.pause.monitor=true",
    ] {
        check_silent(&with(line));
    }
    let report = checked(&with("nio.numWorkerThreads=4\ninitLimit=10")).report();
    assert!(report.contains("ringkeeper.network.threads instead"), "{report}");
    assert!(report.contains("initLimit=10: accepted without effect: used only by"), "{report}");
}

#[test]
fn unknown_keys_warn_with_the_name_that_was_meant() {
    let cases = [
        ("tickTimes=1", "did you mean tickTime?"),
        ("Datadir=/x", "did you mean dataDir?"),
        ("zookeeper.snapCount=5", "did you mean snapCount?"),
        ("wholly.unknown.key=5", "check its spelling"),
        ("jute.maxbuffer=5", "put -Djute.maxbuffer=5 on the command line"),
        ("readonlymode.enabled=true", "-Dreadonlymode.enabled=true"),
    ];
    for (line, part) in cases {
        check_warning(&with(line), "zoo.cfg:2: warning: ", part);
    }
    for key in KEYS {
        for misnomer in key.misnomers {
            let begin = format!("zoo.cfg:2: warning: {misnomer}=1: ");
            let part = format!("the name that is read is {}", key.name);
            check_warning(&with(&format!("{misnomer}=1")), &begin, &part);
        }
    }
    let mut raw = with("");
    raw.define("zookeeper.connectionMaxTokens=5");
    check_warning(&raw, "command line: ", "-Dzookeeper.connection_throttle_tokens");
    assert_eq!(settings(&raw).connection_throttle.tokens, 0);
    assert_eq!(settings(&with("jute.maxbuffer=5")).packet_size_max, 0xf_ffff);
}

#[test]
fn properties() {
    let define = |definition: &str| {
        let mut raw = with("");
        raw.define(definition);
        raw
    };
    let raw = define("zookeeper.snapCount=50");
    assert_eq!(settings(&raw).storage.snap_count, 50);
    check_silent(&raw);
    let raw = define("jute.maxbuffer=0x1fffff");
    assert_eq!(settings(&raw).packet_size_max, 0x1f_ffff);
    assert_eq!(settings(&raw).txn_size_max, 2 * 0x1f_ffff);
    check_silent(&raw);
    let raw = define("readonlymode.enabled=true");
    assert_eq!(settings(&raw).four_letter_words, ["isro", "srvr"]);
    for definition in ["ringkeeper.uring.entries=64", "zookeeper.ringkeeper.uring.entries=64"] {
        assert_eq!(settings(&define(definition)).ring.uring_entries, 64);
        check_silent(&define(definition));
    }
    assert_eq!(settings(&with("zookeeper.ringkeeper.uring.entries=64")).ring.uring_entries, 64);
    for definition in ["user.timezone=UTC", "java.net.preferIPv4Stack=true", "log.dir=/x"] {
        check_silent(&define(definition));
    }
    check_warning(&define("snapCount=5"), "command line: ", "write -Dzookeeper.snapCount=5");
    check_warning(&define("zookeeper.jute.maxbuffer=5"), "command line: ", "write -Djute.maxb");
    check_warning(&define("zookeeper.clientPort=5"), "command line: ", "into zoo.cfg");
    check_error(
        &define("zookeeper.snapCount=x"),
        "command line: error: zookeeper.snapCount=x: not allowed",
        "default, 100000",
    );
    assert!(!settings(&define("zookeeper.digest.enabled")).storage.is_digest);
}

#[test]
fn precedence() {
    // zoo.cfg wins over -D, in whichever order they are handed in.
    let mut raw = RawConfig::new();
    raw.define("zookeeper.snapCount=10");
    raw.add_file("zoo.cfg", b"dataDir=/d\nclientPort=1\nsnapCount=20\n");
    assert_eq!(settings(&raw).storage.snap_count, 20);
    let begin = "command line: warning: zookeeper.snapCount=10: overridden by snapCount at zoo.";
    check_warning(&raw, begin, "zoo.cfg:3");
    // The same value twice deserves no warning.
    let mut raw = with("snapCount=20");
    raw.define("zookeeper.snapCount=20");
    check_silent(&raw);
    // The later of two equals.
    check_warning(&with("snapCount=20\nsnapCount=30"), "zoo.cfg:2: ", "zoo.cfg:3");
    assert_eq!(settings(&with("snapCount=20\nsnapCount=30")).storage.snap_count, 30);
    let mut raw = with("");
    raw.add_shell(&shell(&[("SERVER_JVMFLAGS", "-Xmx2g -Dzookeeper.snapCount=20")]));
    raw.define("zookeeper.snapCount=30");
    assert_eq!(settings(&raw).storage.snap_count, 30);
    check_warning(&raw, "variable SERVER_JVMFLAGS: ", "at command line");
    let mut raw = with("");
    let flags = "-Dzookeeper.snapCount=20";
    raw.add_shell(&shell(&[("SERVER_JVMFLAGS", flags), ("JVMFLAGS", flags)]));
    check_silent(&raw);
    check_warning(&with("snapCount=20\nsnapCount=20"), "zoo.cfg:2: ", "zoo.cfg:3");
    // With prefix over without, as FileTxnLog does.
    let mut raw = with("");
    raw.define("zookeeper.fsync.warningthresholdms=20");
    raw.define("fsync.warningthresholdms=30");
    assert_eq!(settings(&raw).storage.sync_warning_ms, 20);
    let mut raw = with("");
    raw.define("fsync.warningthresholdms=30");
    assert_eq!(settings(&raw).storage.sync_warning_ms, 30);
}

#[test]
fn membership() {
    let raw = with("server.1=h:2888:3888");
    check_warning(&raw, "zoo.cfg:2: warning: server.1=h:2888:3888: only one server", "standalone");
    let listed = file("dataDir=/d\nserver.1=h:2888:3888:participant;10.0.0.1:2183");
    let found = settings(&listed);
    assert_eq!((found.client_host.as_deref(), found.client_port), (Some("10.0.0.1"), 2183));
    let found = settings(&file("dataDir=/d\nserver.1=[fe80::1]:2888:3888;2183"));
    assert_eq!((found.client_host, found.client_port), (None, 2183));
    check_error(&with("server.1=a:1:2\nstandaloneEnabled=false"), "zoo.cfg:3: ", "quorum of one");
    for (listed, part) in [
        ("standaloneEnabled=false\nserver.1=a:1:2;2181", "quorum of one"),
        ("server.1=a:1:2;2181\nserver.2=b:1:2:observer", "one participant runs standalone"),
        ("server.1=a:1:2:observer;2181", "observers without any participant"),
    ] {
        check_error(&file(&format!("dataDir=/d\n{listed}")), "zoo.cfg:2: error: ", part);
    }
    check_error(&with("server.1=a:1:2;2182"), "zoo.cfg:3: error: clientPort=2181: ", "2182");
    for (line, part) in [
        ("server.1=a:1:2:observer", "observers without any participant"),
        ("server.1=a:1", "election port missing"),
        ("server.1=a", "no host and ports"),
        ("server.1=:1:2", "no host name"),
        ("server.1=a:1:1", "are the same"),
        ("server.1=a:1:70000", "`70000` is not a port"),
        ("server.1=a:1:2:leader", "`leader` is not a role"),
        ("server.1=a:1:2;x", "`x` is not a port"),
        ("server.1=a:1:2;1;2;3", "only one `;` may stand"),
        ("server.1=a:1:2;2181;2182", "`;2182` after the client address: only one `;`"),
        ("server.1=a:1:2;2181;", "only one `;`"),
        ("server.1=a:1:2:participant:x", "`x` after the role"),
        ("server.1=a:1:2:participant|b:1:2:observer", "give different roles"),
        ("server.1=a:1:2:observer|b:1:2", "observers without any participant"),
        ("server.one=a:1:2", "not a number"),
    ] {
        check_error(&with(line), "zoo.cfg:2: error: ", part);
    }
}

#[test]
fn dynamic_file() {
    let raw = with("dynamicConfigFile=/c/zoo.cfg.dynamic.1");
    assert_eq!(raw.dynamic_config_file(), Some("/c/zoo.cfg.dynamic.1"));
    check_error(&raw, "zoo.cfg:2: error: dynamicConfigFile=", "was not read");
    let mut raw = file("dataDir=/d\ndynamicConfigFile=d1");
    raw.add_dynamic_file("d1", b"server.1=a:1:2;2181");
    assert_eq!(settings(&raw).client_port, 2181);
    raw.add_dynamic_file("d1", b"\ntickTime=5");
    check_error(&raw, "d1:2: error: tickTime=5: ", "only server.N");
    let mut raw = with("dynamicConfigFile=d1\nserver.1=a:1:2");
    raw.add_dynamic_file("d1", b"");
    check_error(&raw, "zoo.cfg:3: error: server.1=a:1:2: ", "dynamicConfigFile names");
}

/// It hides no other mistake, and what may stand in it is not missed elsewhere.
#[test]
fn a_dynamic_file_that_cannot_be_read_is_one_error_among_others() {
    let mut raw = file("dataDir=/d\ndynamicConfigFile=d1\nstandaloneEnabled=false\ntickTime=x");
    raw.miss_dynamic_file("No such file");
    let check = checked(&raw);
    let errors = texts(check.errors());
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let unread = "zoo.cfg:2: error: dynamicConfigFile=d1: cannot be read: No such file; correct";
    assert!(errors.iter().any(|error| error.starts_with(unread)), "{errors:#?}");
    assert!(errors.iter().any(|error| error.starts_with("zoo.cfg:4: error: tickTime=x: ")));
    assert_eq!(check.exit_code(), 2);
}

#[test]
fn the_report_says_what_holds_only_for_a_default() {
    let rule = "      Not before the log has grown by 64 MiB and by four times the size of the";
    assert!(checked(&with("")).report().contains(&format!("snapCount=100000  # default\n{rule}")));
    assert!(!checked(&with("snapCount=100000")).report().contains(rule));
}

#[test]
fn authentication() {
    let sasl = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
    let found = settings(&with(&format!("{sasl}\nsessionRequireClientSASLAuth=true")));
    assert_eq!(found.auth.extra_schemes, ["sasl"]);
    assert_eq!(found.auth.enforced_schemes, ["sasl"]);
    let both = "enforce.auth.enabled=true\nenforce.auth.schemes=";
    assert_eq!(
        settings(&with(&format!("{both}digest, ip"))).auth.enforced_schemes,
        ["digest", "ip"]
    );
    assert_eq!(
        settings(&with("enforce.auth.schemes=digest")).auth.enforced_schemes,
        Vec::<String>::new()
    );
    check_error(&with(&format!("{both}x509")), "zoo.cfg:3: ", "x509 is not available");
    let off = "DigestAuthenticationProvider.enabled=false\n";
    check_error(&with(&format!("{off}{both}digest")), "zoo.cfg:4: ", "digest is not available");
}

#[test]
fn cpus_have_to_be_usable() {
    let environment = Environment { usable_cpus: Some(vec![0, 1]) };
    let found = check(&with("ringkeeper.cores.network=0-2"), &environment);
    let errors = texts(found.errors());
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("cannot use CPU 2; it may use [0, 1]"), "{errors:?}");
    assert!(check(&with("ringkeeper.cores.network=1,0"), &environment).is_ok());
    let raw = with("ringkeeper.cores.network=0-2\nringkeeper.network.threads=2");
    check_warning(&raw, "zoo.cfg:3: ", "3 CPUs");
}

#[test]
fn autocreate_default_comes_from_the_environment() {
    let autocreate = |text: &str, value: &str| {
        let mut raw = with(text);
        raw.add_shell(&shell(&[("ZOO_DATADIR_AUTOCREATE_DISABLE", value)]));
        let check = checked(&raw);
        let effective = check.effective().iter().find(|e| e.name == "datadir.autocreate").unwrap();
        let is_autocreate = check.settings().unwrap().storage.is_datadir_autocreate;
        (is_autocreate, effective.origin.to_string())
    };
    let variable = "variable ZOO_DATADIR_AUTOCREATE_DISABLE";
    assert_eq!(autocreate("", "1"), (false, variable.to_string()));
    assert_eq!(autocreate("", ""), (true, "default".to_string()));
    assert_eq!(autocreate("datadir.autocreate=true", "1"), (true, "zoo.cfg:2".to_string()));
}

#[test]
fn secrets_stay_out_of_reports() {
    let mut raw = with(
        "DigestAuthenticationProvider.superDigest=hunter2\n\
         SASLAuthenticationProvider.superPassword=hunter2\nssl.keyStore.password=hunter2\n\
         ssl.keystore.pasword=hunter2\nSslKeyStorePassword=hunter2\n\
         SASLAuthenticationProvider.superPassword=hunter2",
    );
    raw.define("DigestAuthenticationProvider.superDigest=hunter2");
    raw.define("SASLAuthenticationProvider.superPasswrd=hunter2");
    raw.define("zookeeper.metricsProvider.ssl.keyStore.password=hunter2");
    raw.define("javax.net.ssl.keyStorePassword=hunter2");
    let report = checked(&raw).report();
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("SASLAuthenticationProvider.superPassword=***"), "{report}");
}

#[test]
fn report_shows_values_with_their_origin() {
    let mut raw = with("snapCount=7\nautopurge.purgeInterval=90m");
    raw.define("zookeeper.maxCnxns=9");
    let report = checked(&raw).report();
    for line in [
        "  snapCount=7  # zoo.cfg:2\n",
        "  maxCnxns=9  # command line\n",
        "  tickTime=3000 ms  # default\n",
        "  autopurge.purgeInterval=90m  # zoo.cfg:3\n",
        "  minSessionTimeout=6000 ms  # default\n",
        "  dataLogDir=/d  # default\n",
        "  clientPortAddress=all addresses  # default\n",
        "\n0 error(s), 0 warning(s): the server can start with this configuration.\n",
        "\n  ringkeeper.log.directIo=auto  # default\n      The log bypasses the page cache; on \
         refuses to start where that is impossible. (auto, on or off)\n",
    ] {
        assert!(report.contains(line), "{line:?} in\n{report}");
    }
}

#[test]
fn findings_have_the_place_of_their_key() {
    let (what, hint) = ("unusable", "mend it");
    let find = |key: &'static str, verdict| {
        let (what, hint) = (what.to_string(), hint.to_string());
        Finding { key: key.into(), what, hint, verdict }
    };
    let refuse = |key, exit_code| find(key, Verdict::Refused { exit_code });
    let mut found = checked(&with("dataLogDir=/l"));
    found.add_findings(|settings| {
        assert_eq!(settings.storage.data_log_dir.to_str(), Some("/l"));
        vec![refuse("dataLogDir", 3), refuse("clientPortAddress", 2)]
    });
    let errors = ["zoo.cfg:2: error: dataLogDir=/l: unusable; mend it", "error: clientPortAddress"];
    for (text, begin) in texts(found.errors()).iter().zip(errors) {
        assert!(text.starts_with(begin), "{text}");
    }
    // The first decides what the process ends with, whenever the others are found.
    found.add_findings(|_| vec![refuse("clientPort", 1)]);
    assert_eq!((found.errors().count(), found.exit_code()), (3, 3));
    // What is wrong by itself is said once, and decides the exit code.
    let mut found = checked(&file("clientPort=1\nsnapCount=x"));
    found.add_findings(|_| vec![refuse("dataDir", 3), refuse("dataLogDir", 3)]);
    assert_eq!((found.errors().count(), found.exit_code()), (3, 2));
    // What does not keep it from starting is a warning or a note.
    let mut found = checked(&with("dataLogDir=/l"));
    found.add_findings(|_| {
        vec![find("dataDir", Verdict::Noted), find("dataLogDir", Verdict::Doubtful)]
    });
    let warnings = texts(found.warnings());
    assert_eq!(warnings, ["zoo.cfg:2: warning: dataLogDir=/l: unusable; mend it"]);
    assert_eq!(found.exit_code(), 0);
    assert!(found.report().contains("zoo.cfg:1: note: dataDir=/d: unusable"));
}

#[test]
fn a_log_line_does_not_repeat_the_severity() {
    let check = checked(&with("tickTimes=1"));
    let warning = check.warnings().next().unwrap();
    assert!(warning.to_string().starts_with("zoo.cfg:2: warning: tickTimes=1: unknown key"));
    assert!(warning.unrated().starts_with("zoo.cfg:2: tickTimes=1: unknown key"));
}

#[test]
fn every_key_is_documented_and_valid() {
    for (index, key) in KEYS.iter().enumerate() {
        assert!(key.doc.len() > 10 && key.doc.ends_with('.'), "{}", key.name);
        assert!(!KEYS[..index].iter().any(|other| other.name == key.name), "{} twice", key.name);
        let sample = key.name.replace('*', "9");
        assert_eq!(find(&sample).map(|found| found.name), Some(key.name));
        if let Standard::Value(text) = key.default {
            assert!(values::is_allowed(key, text), "{}", key.name);
        }
        for misnomer in key.misnomers {
            assert!(find(misnomer).is_none(), "{misnomer}");
        }
        assert!(!key.allowed().is_empty() && !key.spellings().is_empty());
    }
}

#[test]
fn every_supported_key_is_read() {
    let check = checked(&with(""));
    for key in KEYS.iter().filter(|key| key.status == Status::Supported) {
        let count = check.effective().iter().filter(|e| e.name == key.name).count();
        let expected = usize::from(!key.name.ends_with('*'));
        assert_eq!(count, expected, "{}", key.name);
    }
    let listed = "server.1=a:1:2\nsuperUser.1=a\nauthProvider.1=b";
    let check = checked(&with(listed));
    for name in ["server.1", "superUser.1", "authProvider.1"] {
        assert!(check.effective().iter().any(|e| e.name == name), "{name}");
    }
    for effective in check.effective() {
        let key = find(&effective.name).unwrap();
        assert_eq!(key.status, Status::Supported, "{} is read", key.name);
    }
}

#[test]
fn every_key_works_by_each_of_its_spellings() {
    for key in KEYS.iter().filter(|key| key.place != Place::Membership) {
        let value = match key.default {
            Standard::Value(text) => text,
            Standard::Derived(_) | Standard::Unset | Standard::Required => "1",
        };
        if !values::is_allowed(key, value) {
            continue;
        }
        for spelling in key.spellings() {
            let line = format!("{}={value}", spelling.replace('*', "9"));
            let mut raw = RawConfig::new();
            match line.strip_prefix("-D") {
                Some(definition) => raw.define(definition),
                None => raw.add_file("zoo.cfg", line.as_bytes()),
            }
            let check = checked(&raw);
            let unread = check.problems().iter().filter(|p| p.topic == Topic::Unknown);
            assert_eq!(texts(unread), Vec::<String>::new());
        }
    }
}

#[test]
fn samples_are_silent_and_show_true_defaults() {
    let samples = [
        ("zoo.cfg", include_str!("../../conf/zoo.cfg")),
        ("zoo_sample_tuned.cfg", include_str!("../../conf/zoo_sample_tuned.cfg")),
        ("zoo_sample_ensemble.cfg", include_str!("../../conf/zoo_sample_ensemble.cfg")),
    ];
    for (name, text) in samples {
        let mut raw = RawConfig::new();
        raw.add_file(name, text.as_bytes());
        raw.add_my_id("myid", Ok(b"1".to_vec()));
        check_silent(&raw);
        let is_used = |key: &Key| match key.status {
            Status::Supported => true,
            Status::ForMembers => settings(&raw).ensemble.is_some(),
            Status::Ignored(_) | Status::NotBuilt(_) => false,
        };
        for line in text.lines() {
            assert!(line.len() <= 100, "{name}: {line}");
            // A comment is `# text`, a commented setting `#key=default`.
            let setting = line.strip_prefix('#').unwrap_or(line);
            if setting.is_empty() || setting.starts_with(' ') {
                continue;
            }
            let (key, value) = setting.split_once('=').unwrap();
            let key = find(key).unwrap();
            assert!(is_used(key), "{name}: {line}");
            if line.starts_with('#') {
                let standard = match key.default {
                    Standard::Value(text) => text,
                    Standard::Derived(_) | Standard::Unset | Standard::Required => "",
                };
                assert_eq!(value, standard, "{name}: {line}");
            }
        }
    }
}

#[test]
fn no_input_panics() {
    let mut rng = crate::base::Rng::new(7);
    let words: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    let values = ["", "0", "-1", "true", "9223372036854775807", "a:1:2;", "[", "0-9", "\\u", "é"];
    for _ in 0..2000 {
        let mut raw = RawConfig::new();
        let mut text = String::new();
        for _ in 0..5 {
            let word = words[(rng.next_u64() % words.len() as u64) as usize];
            let value = values[(rng.next_u64() % values.len() as u64) as usize];
            text.push_str(&format!("{}={value}\n", word.replace('*', "1")));
            raw.define(&format!("zookeeper.{word}={value}"));
        }
        raw.add_file("f", text.as_bytes());
        let found = checked(&raw);
        assert_eq!(found.settings().is_some(), found.exit_code() == 0);
        assert!(!found.report().is_empty());
    }
}
