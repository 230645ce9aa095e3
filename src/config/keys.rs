//! The key table: every key that ZooKeeper's server knows, and our own, in one place.
//!
//! Parsing, checking, `ringkeeper check` and the samples in `conf/` all go by it. Stands for the
//! constants spread over `QuorumPeerConfig`, `ZooKeeperServer`, `FileTxnLog` and many more classes.

use super::key::{
    FROM_MINUS_1, Feature, INT, Key, Kind, NATURAL, ON_UNLESS_NO, PORT, POSITIVE, Standard,
    at_least, within,
};

/// 20 ticks, the default of maxSessionTimeout, have to fit into a Java int.
pub(super) const TICK_TIME_MS_MAX: i64 = i32::MAX as i64 / 20;

/// Sizes in KiB are kept in bytes; this many bytes fit into a signed 64-bit number.
const KIB_MAX: i64 = i64::MAX >> 10;
/// The counter of a zxid has 32 bits, and some numbers are left for the turn that notices.
const EPOCH_TRANSACTIONS_MAX: i64 = u32::MAX as i64 - (1 << 20);

const CNXN_FACTORIES: &[&str] = &[
    "org.apache.zookeeper.server.NIOServerCnxnFactory",
    "org.apache.zookeeper.server.NettyServerCnxnFactory",
];

const METRICS_PROVIDERS: &[&str] = &[
    "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
    "org.apache.zookeeper.metrics.impl.NullMetricsProvider",
    "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider",
];

/// Names of `java.security.MessageDigest`.
const DIGESTS: &[&str] = &[
    "SHA1", "SHA-1", "SHA", "MD5", "SHA-224", "SHA-256", "SHA-384", "SHA-512", "SHA3-224",
    "SHA3-256", "SHA3-384", "SHA3-512",
];

/// The key that `name`, written without the `zookeeper.` prefix, means. An exact name wins over
/// one that ends in `*`.
pub fn find(name: &str) -> Option<&'static Key> {
    let exact = KEYS.iter().find(|key| key.name == name);
    exact.or_else(|| KEYS.iter().find(|key| key.matches(name)))
}

/// All keys.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    // zoo.cfg keys that are read directly.
    Key::file("dataDir", Kind::Path, Standard::Required)
        .doc("Directory of snapshots, and of transaction logs unless dataLogDir is set."),
    Key::file("dataLogDir", Kind::Path, Standard::Derived("dataDir"))
        .doc("Directory of transaction logs; a device of its own keeps writes fast."),
    Key::file("clientPort", PORT, Standard::Required)
        .doc("TCP port for clients; may stand in the server.N line instead."),
    Key::file("clientPortAddress", Kind::Text, Standard::Derived("all addresses"))
        .doc("Local address or host name on which clientPort listens."),
    Key::file("secureClientPort", PORT, Standard::Unset).not_built(Feature::Tls)
        .doc("TCP port for clients with TLS."),
    Key::file("secureClientPortAddress", Kind::Text, Standard::Derived("all addresses"))
        .not_built(Feature::Tls)
        .doc("Local address on which secureClientPort listens."),
    Key::file("clientPortListenBacklog", FROM_MINUS_1, Standard::Value("-1"))
        .doc("Connections that may wait to be accepted; -1 is room for 16384."),
    Key::file("observerMasterPort", PORT, Standard::Value("0")).not_built(Feature::ObserverMasters)
        .doc("Port on which followers serve observers; 0 is off."),
    Key::file("tickTime", within(1, TICK_TIME_MS_MAX), Standard::Value("3000")).unit("ms")
        .doc("Basic time unit of sessions, heartbeats and time limits."),
    Key::file("initLimit", POSITIVE, Standard::Unset).unit("ticks").for_members()
        .doc("Ticks a follower may take to connect and synchronize."),
    Key::file("syncLimit", POSITIVE, Standard::Unset).unit("ticks").for_members()
        .doc("Ticks a follower may be silent."),
    Key::file("connectToLearnerMasterLimit", NATURAL, Standard::Derived("initLimit")).unit("ticks")
        .ignored("after a few attempts a learner looks for a leader again")
        .doc("Ticks a learner tries to connect."),
    Key::file("maxClientCnxns", INT, Standard::Value("60"))
        .doc("Connections allowed from one IP address; 0 is unlimited."),
    Key::file("minSessionTimeout", FROM_MINUS_1, Standard::Derived("2 x tickTime")).unit("ms")
        .doc("Shortest session timeout a client can get; -1 is the default."),
    Key::file("maxSessionTimeout", FROM_MINUS_1, Standard::Derived("20 x tickTime")).unit("ms")
        .doc("Longest session timeout a client can get; -1 is the default."),
    Key::file("localSessionsEnabled", Kind::Bool, Standard::Value("false"))
        .not_built(Feature::LocalSessions)
        .doc("New sessions are local until they need to be global."),
    Key::file("localSessionsUpgradingEnabled", Kind::Bool, Standard::Value("false"))
        .not_built(Feature::LocalSessions)
        .doc("A local session becomes global when it creates an ephemeral node."),
    Key::file("electionAlg", Kind::Choice(&["3"]), Standard::Value("3"))
        .for_members()
        .doc("Election algorithm; only 3, fast leader election."),
    Key::file("quorumListenOnAllIPs", Kind::Bool, Standard::Value("false"))
        .for_members()
        .doc("Quorum and election ports listen on all addresses."),
    Key::file("peerType",
        Kind::Choice(&["participant", "observer"]), Standard::Value("participant"))
        .for_members()
        .doc("Whether this server votes."),
    Key::file("syncEnabled", Kind::Bool, Standard::Value("true"))
        .ignored("observers always write, so that they know where they were after a restart")
        .doc("Observers write logs and snapshots."),
    Key::file("dynamicConfigFile", Kind::Path, Standard::Unset)
        .doc("File with the server.N lines."),
    Key::file("autopurge.snapRetainCount", at_least(3), Standard::Value("3"))
        .doc("Snapshots that purging keeps, with their logs."),
    Key::file("autopurge.purgeInterval", Kind::HoursOrTime, Standard::Value("0")).unit("h")
        .doc("Time between purges of old snapshots and logs; 0 is off."),
    Key::file("standaloneEnabled", Kind::Bool, Standard::Value("true"))
        .doc("A single server runs without a quorum."),
    Key::file("reconfigEnabled", Kind::Bool, Standard::Value("false"))
        .doc("Clients may change the membership."),
    Key::file("sslQuorum", Kind::Bool, Standard::Value("false")).not_built(Feature::Tls)
        .doc("TLS between servers."),
    Key::file("portUnification", Kind::Bool, Standard::Value("false")).not_built(Feature::Tls)
        .doc("The quorum port takes TLS and plain connections."),
    Key::file("sslQuorumReloadCertFiles", Kind::Bool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Certificates for the quorum are reloaded when their files change."),
    Key::file("quorum.auth.enableSasl", Kind::Bool, Standard::Value("false"))
        .not_built(Feature::QuorumSasl)
        .doc("SASL between servers."),
    Key::file("quorum.auth.serverRequireSasl", Kind::Bool, Standard::Value("false"))
        .not_built(Feature::QuorumSasl)
        .doc("A server refuses learners without SASL."),
    Key::file("quorum.auth.learnerRequireSasl", Kind::Bool, Standard::Value("false"))
        .not_built(Feature::QuorumSasl)
        .doc("A learner refuses servers without SASL."),
    Key::file("quorum.auth.learner.saslLoginContext", Kind::Text, Standard::Value("QuorumLearner"))
        .not_built(Feature::QuorumSasl)
        .doc("JAAS section of the connecting side."),
    Key::file("quorum.auth.server.saslLoginContext", Kind::Text, Standard::Value("QuorumServer"))
        .not_built(Feature::QuorumSasl)
        .doc("JAAS section of the accepting side."),
    Key::file("quorum.auth.kerberos.servicePrincipal",
        Kind::Text, Standard::Value("zkquorum/localhost"))
        .not_built(Feature::Kerberos)
        .doc("Kerberos principal of the servers."),
    Key::file("quorum.cnxn.threads.size", POSITIVE, Standard::Value("20"))
        .ignored("connections need no threads here")
        .doc("Threads for election connections with SASL."),
    Key::file("jvm.pause.monitor", Kind::Bool, Standard::Value("false"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Watches for pauses of the virtual machine."),
    Key::file("jvm.pause.info-threshold.ms", NATURAL, Standard::Value("1000")).unit("ms")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Pause that is logged."),
    Key::file("jvm.pause.warn-threshold.ms", NATURAL, Standard::Value("10000")).unit("ms")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Pause that is warned about."),
    Key::file("jvm.pause.sleep.time.ms", NATURAL, Standard::Value("500")).unit("ms")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Time between looks."),
    Key::file("metricsProvider.className",
        Kind::Choice(METRICS_PROVIDERS),
        Standard::Value("org.apache.zookeeper.metrics.impl.DefaultMetricsProvider"))
        .not_built(Feature::MetricsProvider)
        .doc("Class that exports metrics."),
    Key::property("multiAddress.enabled", Kind::Bool, Standard::Value("false"))
        .for_members()
        .doc("Several addresses for one server."),
    Key::property("multiAddress.reachabilityCheckTimeoutMs", NATURAL, Standard::Value("1000"))
        .unit("ms")
        .ignored("the addresses of a member are tried one after the other")
        .doc("Time limit of the test whether an address answers."),
    Key::property("multiAddress.reachabilityCheckEnabled", Kind::Bool, Standard::Value("true"))
        .ignored("the addresses of a member are tried one after the other")
        .doc("Tests which address of a server answers."),
    Key::file("oraclePath", Kind::Path, Standard::Unset).not_built(Feature::Oracle)
        .doc("File that decides for one of two servers."),
    Key::member("server.*", Kind::Text, Standard::Unset)
        .doc("A member: host:quorumPort:electionPort[:role][;[host:]clientPort]."),
    Key::member("group*", Kind::Text, Standard::Unset).not_built(Feature::Groups)
        .doc("Servers of a group of a hierarchical quorum."),
    Key::member("weight*", Kind::Text, Standard::Value("1")).not_built(Feature::Groups)
        .doc("Votes of a server in its group."),
    Key::member("version", Kind::Text, Standard::Unset)
        .ignored("counts where it ends the name of the dynamic file")
        .doc("Version of the membership, hexadecimal; only inside a server."),
    // Storage.
    Key::property("preAllocSize", POSITIVE, Standard::Value("65536")).unit("KiB")
        .ignored("a segment of the log is allocated whole: set ringkeeper.log.segmentSizeInKb")
        .doc("Disk space a transaction log takes at a time."),
    Key::property("snapCount", at_least(2), Standard::Value("100000"))
        .doc("Transactions between snapshots, at least half of it at random.")
        .unless_set("Not before the log has grown by 64 MiB and by four times the size of the last \
                     snapshot, but no later than at snapSizeLimitInKb; set it to count \
                     transactions alone, as Apache does."),
    Key::property("snapSizeLimitInKb", within(-1, KIB_MAX), Standard::Value("4194304")).unit("KiB")
        .doc("Log size that brings a snapshot, at least half of it at random; 0 or less is off."),
    Key::property("txnLogSizeLimitInKb", within(-1, KIB_MAX), Standard::Value("-1")).unit("KiB")
        .doc("Upper limit of the size of a segment of the log; 0 or less is off."),
    Key::property("commitLogCount", at_least(500), Standard::Value("500"))
        .ignored("a leader keeps what it sent last by bytes, and reads the rest from its log")
        .doc("Committed transactions kept in memory for followers."),
    Key::property("snapshotSizeFactor", Kind::Decimal, Standard::Value("0.33"))
        .ignored("a leader keeps what it sent last by bytes, and reads the rest from its log")
        .doc("Share of the snapshot size up to which logs on disk serve a follower."),
    Key::property("forceSync", ON_UNLESS_NO, Standard::Value("yes"))
        .doc("Writes reach the disk before they are acknowledged; no risks their loss."),
    Key::either("fsync.warningthresholdms", NATURAL, Standard::Value("1000")).unit("ms")
        .doc("A sync of the log that takes longer is warned about."),
    Key::property("snapshot.compression.method",
        Kind::Choice(&["", "gz", "snappy"]), Standard::Value(""))
        .doc("Compression of snapshots."),
    Key::property("snapshot.trust.empty", Kind::JavaBool, Standard::Value("false"))
        .doc("Starts from logs without any snapshot; for one start after an old version."),
    Key::property("serializeLastProcessedZxid.enabled", Kind::JavaBool, Standard::Value("true"))
        .doc("Snapshots end with the zxid they hold."),
    Key::property("digest.enabled", Kind::JavaBool, Standard::Value("true"))
        .doc("Digests of the tree in logs and snapshots."),
    Key::property("closeSessionTxn.enabled", Kind::JavaBool, Standard::Value("true"))
        .doc("A closeSession transaction lists the nodes it deletes."),
    Key::property("datadir.autocreate",
        Kind::JavaBool, Standard::Derived("true unless ZOO_DATADIR_AUTOCREATE_DISABLE is set"))
        .doc("Missing data directories are created."),
    Key::property("db.autocreate", Kind::JavaBool, Standard::Value("true"))
        .doc("An empty database is accepted without a file named initialize."),
    Key::property("flushDelay", NATURAL, Standard::Value("0")).unit("ms")
        .ignored("what comes during a write to the log goes into the next; waiting gains nothing")
        .doc("Time the log may wait for more transactions before it syncs."),
    Key::property("maxWriteQueuePollTime", NATURAL, Standard::Derived("flushDelay / 3")).unit("ms")
        .ignored("what comes during a write to the log goes into the next; waiting gains nothing")
        .doc("Time the log waits for the next transaction before it syncs."),
    Key::property("maxBatchSize", NATURAL, Standard::Value("1000"))
        .ignored("what comes during a write to the log goes into the next; waiting gains nothing")
        .doc("Transactions in one sync of the log; 0 is unlimited."),
    Key::property("forceSnapshotSync", Kind::JavaBool, Standard::Value("false"))
        .ignored("serves ZooKeeper tests only")
        .doc("The leader always sends snapshots; for tests."),
    Key::property("enableEagerACLCheck", Kind::JavaBool, Standard::Value("false"))
        .doc("A server checks permissions before it forwards a write."),
    Key::property("test.allowDiscontinuousProposals", Kind::JavaBool, Standard::Value("false"))
        .ignored("serves ZooKeeper tests only")
        .doc("For ZooKeeper tests only."),
    Key::property("testingonly.initialZxid", Kind::Text, Standard::Unset)
        .ignored("serves ZooKeeper tests only")
        .doc("For ZooKeeper tests only."),
    // Data model.
    Key::property("extendedTypesEnabled", Kind::JavaBool, Standard::Value("false"))
        .doc("Nodes may have a time to live."),
    Key::property("emulate353TTLNodes", Kind::JavaBool, Standard::Value("false"))
        .doc("Reads the TTL nodes of version 3.5.3."),
    Key::bare("znode.container.checkIntervalMs", POSITIVE, Standard::Value("60000")).unit("ms")
        .doc("Time between searches for empty containers and expired nodes."),
    Key::bare("znode.container.maxPerMinute", POSITIVE, Standard::Value("10000"))
        .doc("Containers and expired nodes deleted in a minute."),
    Key::bare("znode.container.maxNeverUsedIntervalMs", NATURAL, Standard::Value("0"))
        .unit("ms")
        .doc("Age at which a container that never had a child is deleted; 0 is never."),
    Key::property("enforceQuota", Kind::JavaBool, Standard::Value("false"))
        .doc("Writes that exceed a hard quota fail."),
    Key::property("skipACL", Kind::Switch { flips: "yes" }, Standard::Value("no"))
        .doc("No permission is ever checked."),
    Key::property("watchManagerName",
        Kind::Text, Standard::Value("org.apache.zookeeper.server.watch.WatchManager"))
        .ignored("there is one compact watch table, with all watch modes")
        .doc("Class that keeps watches."),
    Key::property("watcherCleanThreadsNum", POSITIVE, Standard::Value("2"))
        .ignored("dead watchers are removed at once")
        .doc("Threads that remove dead watchers."),
    Key::property("watcherCleanThreshold", POSITIVE, Standard::Value("1000"))
        .ignored("dead watchers are removed at once")
        .doc("Dead watchers removed together."),
    Key::property("watcherCleanIntervalInSeconds", POSITIVE, Standard::Value("600")).unit("s")
        .ignored("dead watchers are removed at once")
        .doc("Time between removals of dead watchers."),
    Key::property("maxInProcessingDeadWatchers", FROM_MINUS_1, Standard::Value("-1"))
        .ignored("dead watchers are removed at once")
        .doc("Dead watchers that may wait."),
    Key::property("bitHashCacheSize", NATURAL, Standard::Value("10"))
        .ignored("dead watchers are removed at once")
        .doc("Cache of the optimized watch manager."),
    Key::property("maxResponseCacheSize", FROM_MINUS_1, Standard::Value("400"))
        .ignored("replies are built from the tree without a cache")
        .doc("Cached getData replies."),
    Key::property("maxGetChildrenResponseCacheSize", FROM_MINUS_1, Standard::Value("400"))
        .ignored("replies are built from the tree without a cache")
        .doc("Cached getChildren replies."),
    Key::property("pathStats.enabled", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::PathStatistics)
        .doc("Logs the busiest paths."),
    Key::property("pathStats.slotCapacity", POSITIVE, Standard::Value("60"))
        .not_built(Feature::PathStatistics)
        .doc("Time slots kept."),
    Key::property("pathStats.slotDuration", POSITIVE, Standard::Value("15")).unit("s")
        .not_built(Feature::PathStatistics)
        .doc("Length of a slot."),
    Key::property("pathStats.maxDepth", POSITIVE, Standard::Value("6"))
        .not_built(Feature::PathStatistics)
        .doc("Depth to which paths are told apart."),
    Key::property("pathStats.sampleRate", Kind::Share, Standard::Value("0.1"))
        .not_built(Feature::PathStatistics)
        .doc("Share of requests that is counted."),
    Key::property("pathStats.initialDelay", NATURAL, Standard::Value("5")).unit("min")
        .not_built(Feature::PathStatistics)
        .doc("Time before the first report."),
    Key::property("pathStats.delay", NATURAL, Standard::Value("5")).unit("min")
        .not_built(Feature::PathStatistics)
        .doc("Time between reports."),
    Key::property("pathStats.topPathMax", POSITIVE, Standard::Value("20"))
        .not_built(Feature::PathStatistics)
        .doc("Paths in a report."),
    // Connections, sessions, throttling.
    Key::bare("jute.maxbuffer", POSITIVE, Standard::Value("1048575")).unit("bytes")
        .doc("Largest packet, so also about the largest node; set it alike on servers and \
            clients."),
    Key::property("jute.maxbuffer.extrasize", NATURAL, Standard::Derived("jute.maxbuffer"))
        .unit("bytes")
        .doc("Room beyond jute.maxbuffer for what servers add to a request; no transaction is \
            larger than both together."),
    Key::property("maxCnxns", INT, Standard::Value("0"))
        .doc("Connections allowed in all; 0 is unlimited."),
    Key::property("globalOutstandingLimit", NATURAL, Standard::Value("1000"))
        .doc("Requests in progress above which no more are read from busy clients."),
    Key::property("serverCnxnFactory",
        Kind::Choice(CNXN_FACTORIES),
        Standard::Value("org.apache.zookeeper.server.NIOServerCnxnFactory"))
        .ignored("one event loop serves all connections; both class names are accepted")
        .doc("Class that serves connections."),
    Key::property("nio.numSelectorThreads", POSITIVE, Standard::Derived("from the number of CPUs"))
        .ignored("set ringkeeper.network.threads instead")
        .doc("Threads that wait for input."),
    Key::property("nio.numWorkerThreads", NATURAL, Standard::Derived("2 x CPUs"))
        .ignored("set ringkeeper.network.threads instead")
        .doc("Threads that read and write."),
    Key::property("nio.sessionlessCnxnTimeout", POSITIVE, Standard::Value("10000")).unit("ms")
        .doc("A connection without a session is closed after this time."),
    Key::property("nio.directBufferBytes", NATURAL, Standard::Value("65536")).unit("bytes")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Buffer of a writing thread."),
    Key::property("nio.shutdownTimeout", NATURAL, Standard::Value("5000")).unit("ms")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Time limit for the end of worker threads."),
    Key::property("netty.advancedFlowControl.enabled", Kind::JavaBool, Standard::Value("false"))
        .ignored("a busy server always holds back input").not(&["advancedFlowControlEnabled"])
        .doc("How Netty holds back input."),
    Key::property("netty.server.outstandingHandshake.limit", FROM_MINUS_1, Standard::Value("-1"))
        .not_built(Feature::Tls)
        .doc("TLS handshakes at a time; -1 is unlimited."),
    Key::property("netty.server.earlyDropSecureConnectionHandshakes",
        Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("TLS handshakes are refused while the server does not serve."),
    Key::property("intBufferStartingSizeBytes", at_least(32), Standard::Value("1024")).unit("bytes")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("First size of a reply buffer."),
    Key::property("tcpKeepAlive", Kind::JavaBool, Standard::Value("false"))
        .ignored("connections between members always have it")
        .doc("TCP keep-alive on election connections."),
    Key::property("clientTcpKeepAlive", Kind::JavaBool, Standard::Value("false"))
        .doc("TCP keep-alive on client connections."),
    Key::property("connection_throttle_tokens", NATURAL, Standard::Value("0"))
        .not(&["connectionMaxTokens"])
        .doc("Size of the bucket from which each new session takes tokens; 0 is off."),
    Key::property("connection_throttle_fill_time", POSITIVE, Standard::Value("1")).unit("ms")
        .not(&["connectionTokenFillTime"])
        .doc("Time between refills of the bucket."),
    Key::property("connection_throttle_fill_count", POSITIVE, Standard::Value("1"))
        .not(&["connectionTokenFillCount"])
        .doc("Tokens in a refill."),
    Key::property("connection_throttle_freeze_time", FROM_MINUS_1, Standard::Value("-1")).unit("ms")
        .not(&["connectionFreezeTime"])
        .doc("Time between changes of the drop probability; -1 never drops early."),
    Key::property("connection_throttle_drop_increase", Kind::Share, Standard::Value("0.02"))
        .not(&["connectionDropIncrease"])
        .doc("Step by which the drop probability rises."),
    Key::property("connection_throttle_drop_decrease", Kind::Share, Standard::Value("0.002"))
        .not(&["connectionDropDecrease"])
        .doc("Step by which the drop probability falls."),
    Key::property("connection_throttle_decrease_ratio", Kind::Share, Standard::Value("0"))
        .not(&["connectionDecreaseRatio"])
        .doc("Fill of the bucket above which the drop probability falls."),
    Key::property("connection_throttle_weight_enabled", Kind::JavaBool, Standard::Value("false"))
        .doc("Kinds of sessions take different numbers of tokens."),
    Key::property("connection_throttle_global_session_weight", POSITIVE, Standard::Value("3"))
        .doc("Tokens for a new global session."),
    Key::property("connection_throttle_local_session_weight", POSITIVE, Standard::Value("1"))
        .not_built(Feature::LocalSessions)
        .doc("Tokens for a new local session."),
    Key::property("connection_throttle_renew_session_weight", POSITIVE, Standard::Value("2"))
        .doc("Tokens for a renewed session."),
    Key::property("request_throttle_max_requests", NATURAL, Standard::Value("0"))
        .not(&["requestThrottleLimit"])
        .doc("Requests in the pipeline above which more have to wait; 0 is off."),
    Key::property("request_throttle_stall_time", POSITIVE, Standard::Value("100")).unit("ms")
        .not(&["requestThrottleStallTime"])
        .ignored("a waiting request goes on as soon as there is room, without polling")
        .doc("Time a waiting request waits at a time."),
    Key::property("request_throttle_drop_stale", Kind::JavaBool, Standard::Value("true"))
        .not(&["requestThrottleDropStale"])
        .doc("Requests of dead connections are dropped."),
    Key::property("request_stale_latency_check", Kind::JavaBool, Standard::Value("false"))
        .not(&["requestStaleLatencyCheck"])
        .doc("A request older than the session timeout is stale."),
    Key::property("request_stale_connection_check", Kind::JavaBool, Standard::Value("true"))
        .not(&["requestStaleConnectionCheck"])
        .doc("A request whose connection is closed is stale."),
    Key::property("request_throttler.shutdownTimeout", NATURAL, Standard::Value("10000")).unit("ms")
        .ignored("requests that were taken are finished, which takes one write to the log")
        .doc("Time the server waits at its end for requests to finish."),
    Key::property("throttled_op_wait_time", NATURAL, Standard::Value("0")).unit("ms")
        .not(&["throttledOpWaitTime"])
        .doc("A request that waited longer fails with THROTTLEDOP; 0 is off."),
    Key::property("largeRequestMaxBytes", POSITIVE, Standard::Value("104857600")).unit("bytes")
        .doc("Bytes of large requests in progress above which a large request closes its \
            connection."),
    Key::property("largeRequestThreshold", FROM_MINUS_1, Standard::Value("-1")).unit("bytes")
        .doc("Size from which a request is large; -1 is off."),
    Key::property("commitProcessor.numWorkerThreads", NATURAL, Standard::Derived("CPUs"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Threads that answer reads."),
    Key::property("commitProcessor.maxReadBatchSize", FROM_MINUS_1, Standard::Value("-1"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Reads before the next commit."),
    Key::property("commitProcessor.maxCommitBatchSize", POSITIVE, Standard::Value("1"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Commits before the next reads."),
    Key::property("commitProcessor.shutdownTimeout", NATURAL, Standard::Value("5000")).unit("ms")
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Time limit for the end of worker threads."),
    Key::property("messageTracker.Enabled", Kind::JavaBool, Standard::Value("false"))
        .ignored("messages between members are not remembered")
        .doc("Remembers the last messages of each learner."),
    Key::property("messageTracker.BufferSize", POSITIVE, Standard::Value("10"))
        .ignored("messages between members are not remembered")
        .doc("Messages remembered."),
    // Ensemble.
    Key::property("cnxTimeout", POSITIVE, Standard::Value("5000")).unit("ms")
        .for_members()
        .doc("Time limit to connect to an election port."),
    Key::property("quorumCnxnTimeoutMs", FROM_MINUS_1, Standard::Value("-1")).unit("ms")
        .ignored("a dead connection is found by TCP keep-alive")
        .doc("Read time limit of election connections."),
    Key::property("electionPortBindRetry", NATURAL, Standard::Value("3"))
        .for_members()
        .doc("Attempts to bind the election port; 0 is endless."),
    Key::property("fastleader.minNotificationInterval", POSITIVE, Standard::Value("200")).unit("ms")
        .for_members()
        .doc("First delay before a vote is sent again."),
    Key::property("fastleader.maxNotificationInterval", POSITIVE, Standard::Value("60000"))
        .unit("ms").for_members()
        .doc("Largest delay before a vote is sent again."),
    Key::property("leaderServes", ON_UNLESS_NO, Standard::Value("yes"))
        .for_members()
        .doc("The leader accepts clients."),
    Key::property("leader.maxConcurrentSnapSyncs", POSITIVE, Standard::Value("10"))
        .ignored("what waits for each follower is bounded in bytes")
        .doc("Followers that receive a snapshot at a time."),
    Key::property("leader.maxConcurrentDiffSyncs", POSITIVE, Standard::Value("100"))
        .ignored("what waits for each follower is bounded in bytes")
        .doc("Followers that receive a difference at a time."),
    Key::property("leader.maxTimeToWaitForEpoch", FROM_MINUS_1, Standard::Value("-1")).unit("ms")
        .ignored("a new leader waits for initLimit")
        .doc("Time limit for the epoch of a new leader."),
    Key::property("leader.ackLoggingFrequency", POSITIVE, Standard::Value("1000"))
        .ignored("acknowledgements are not logged")
        .doc("Acknowledgements from one that is logged to the next."),
    Key::either("leader.closeSocketAsync", Kind::JavaBool, Standard::Value("false"))
        .ignored("closing a connection never blocks here")
        .doc("The leader closes connections in the background."),
    Key::either("learner.closeSocketAsync", Kind::JavaBool, Standard::Value("false"))
        .ignored("closing a connection never blocks here")
        .doc("A learner closes connections in the background."),
    Key::either("learner.asyncSending", Kind::JavaBool, Standard::Value("false"))
        .ignored("sending never blocks here")
        .doc("A learner sends in the background."),
    Key::bare("leader.nodelay", Kind::JavaBool, Standard::Value("true"))
        .ignored("what is sent to members is never delayed")
        .doc("TCP_NODELAY on the side of the leader."),
    Key::bare("follower.nodelay", Kind::JavaBool, Standard::Value("true"))
        .ignored("what is sent to members is never delayed")
        .doc("TCP_NODELAY on the side of the follower."),
    Key::property("leaderConnectDelayDuringRetryMs", NATURAL, Standard::Value("100")).unit("ms")
        .ignored("members find their own pauses between attempts")
        .doc("Delay before a learner tries again to connect."),
    Key::property("observer.reconnectDelayMs", NATURAL, Standard::Value("0")).unit("ms")
        .ignored("members find their own pauses between attempts")
        .doc("Largest random delay before an observer connects again."),
    Key::property("observer.election.DelayMs", NATURAL, Standard::Value("200")).unit("ms")
        .ignored("members find their own pauses between attempts")
        .doc("Delay before an observer looks for a leader."),
    Key::property("observer.syncEnabled", Kind::JavaBool, Standard::Value("false"))
        .ignored("observers always write, so that they know where they were after a restart")
        .doc("Replaces syncEnabled where it is set."),
    Key::property("observerMaster.sizeLimit", POSITIVE, Standard::Value("33554432")).unit("bytes")
        .not_built(Feature::ObserverMasters)
        .doc("Proposals kept for observers."),
    Key::property("follower.skipLearnerRequestToNextProcessor",
        Kind::JavaBool, Standard::Value("false"))
        .ignored("tunes the stages of ZooKeeper")
        .doc("How a follower passes on requests of its observers."),
    Key::property("forward_learner_requests_to_commit_processor_disabled",
        Kind::JavaBool, Standard::Value("false"))
        .ignored("tunes the stages of ZooKeeper")
        .doc("How a leader passes on requests of learners."),
    Key::bare("readonlymode.enabled", Kind::JavaBool, Standard::Value("false"))
        .doc("A server without a quorum serves reads to clients that accept it."),
    // Security.
    Key::property("DigestAuthenticationProvider.enabled", Kind::JavaBool, Standard::Value("true"))
        .doc("The digest scheme is available."),
    Key::property("DigestAuthenticationProvider.superDigest", Kind::Text, Standard::Unset).secret()
        .doc("user:hash of the super user of the digest scheme."),
    Key::property("DigestAuthenticationProvider.digestAlg",
        Kind::Choice(DIGESTS), Standard::Value("SHA1"))
        .doc("Hash of the digest scheme; a change makes old digest ACLs useless."),
    Key::property("IPAuthenticationProvider.usexforwardedfor",
        Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::AdminServer)
        .doc("The admin server trusts X-Forwarded-For."),
    Key::property("X509AuthenticationProvider.superUser", Kind::Text, Standard::Unset)
        .not_built(Feature::Tls)
        .doc("Subject of the certificate of the super user."),
    Key::property("superUser", Kind::Text, Standard::Unset).doc("SASL id of a super user."),
    Key::property("superUser.*", Kind::Text, Standard::Unset)
        .doc("SASL id of a further super user."),
    Key::property("SASLAuthenticationProvider.superPassword", Kind::Text, Standard::Unset).secret()
        .doc("DIGEST-MD5 password of the user super."),
    Key::property("authProvider.*", Kind::Text, Standard::Unset)
        .doc("Class of a further authentication provider."),
    Key::property("letAnySaslUserDoX", Kind::Text, Standard::Unset)
        .doc("ACL id that matches every SASL user; for tests."),
    Key::property("allowSaslFailedClients", Kind::JavaBool, Standard::Value("false"))
        .doc("A client whose SASL login failed may stay."),
    Key::property("sessionRequireClientSASLAuth", Kind::JavaBool, Standard::Value("false"))
        .doc("Every client has to log in with SASL."),
    Key::property("enforce.auth.enabled", Kind::JavaBool, Standard::Value("false"))
        .doc("Every client has to log in with one of enforce.auth.schemes."),
    Key::property("enforce.auth.schemes", Kind::List, Standard::Unset)
        .doc("Schemes with one of which clients have to log in."),
    Key::property("ensembleAuthName", Kind::List, Standard::Unset)
        .doc("Names of this ensemble; a client that gives another name is cut off."),
    Key::property("sasl.serverconfig", Kind::Text, Standard::Value("Server"))
        .doc("JAAS section of the server."),
    Key::bare("java.security.auth.login.config", Kind::Path, Standard::Unset)
        .doc("JAAS file with the users of DIGEST-MD5."),
    Key::property("kerberos.removeHostFromPrincipal", Kind::JavaBool, Standard::Value("false"))
        .doc("SASL ids lose their host part."),
    Key::property("kerberos.removeRealmFromPrincipal", Kind::JavaBool, Standard::Value("false"))
        .doc("SASL ids lose their realm."),
    Key::property("kerberos.canonicalizeHostNames", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Kerberos)
        .doc("Host names in principals become canonical."),
    Key::property("kerberos.minReLoginTimeMs", NATURAL, Standard::Value("60000")).unit("ms")
        .not_built(Feature::Kerberos)
        .doc("Shortest time between Kerberos logins."),
    Key::property("security.auth_to_local", Kind::Text, Standard::Value("DEFAULT"))
        .not_built(Feature::Kerberos)
        .doc("Rules from Kerberos principals to short names."),
    Key::property("requireKerberosConfig", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Kerberos)
        .doc("Fails without a Kerberos configuration."),
    Key::property("kinit", Kind::Path, Standard::Value("/usr/bin/kinit"))
        .not_built(Feature::Kerberos)
        .doc("Program that renews tickets."),
    Key::property("server.realm", Kind::Text, Standard::Unset).not_built(Feature::Kerberos)
        .doc("Realm of the principal of the server."),
    Key::property("fips-mode", Kind::JavaBool, Standard::Value("true"))
        .ignored("DIGEST-MD5 works with both, as in ZooKeeper 3.9, and TLS is not built yet")
        .doc("Only what FIPS allows: no SASL with DIGEST-MD5, TLS 1.2 by default."),
    Key::property("audit.enable", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::AuditLog)
        .doc("Writes an audit log."),
    Key::property("audit.impl.class",
        Kind::Text, Standard::Value("org.apache.zookeeper.audit.Slf4jAuditLogger"))
        .not_built(Feature::AuditLog)
        .doc("Class that writes the audit log."),
    Key::property("4lw.commands.whitelist", Kind::List, Standard::Value("srvr"))
        .doc("Four-letter words that are answered; * is all. srvr always is."),
    // TLS.
    Key::property("ssl.keyStore.location", Kind::Path, Standard::Unset).not_built(Feature::Tls)
        .doc("Key store of connections to clients."),
    Key::property("ssl.quorum.keyStore.location", Kind::Path, Standard::Unset)
        .not_built(Feature::Tls)
        .doc("Key store of connections between servers."),
    Key::property("ssl.keyStore.password", Kind::Text, Standard::Unset).not_built(Feature::Tls)
        .secret()
        .doc("Password of the store."),
    Key::property("ssl.quorum.keyStore.password", Kind::Text, Standard::Unset)
        .not_built(Feature::Tls).secret()
        .doc("Password of the store."),
    Key::property("ssl.keyStore.passwordPath", Kind::Path, Standard::Unset).not_built(Feature::Tls)
        .doc("File with the password of the store."),
    Key::property("ssl.quorum.keyStore.passwordPath", Kind::Path, Standard::Unset)
        .not_built(Feature::Tls)
        .doc("File with the password of the store."),
    Key::property("ssl.keyStore.type",
        Kind::Choice(&["JKS", "PEM", "PKCS12", "BCFKS"]), Standard::Derived("by the file name"))
        .not_built(Feature::Tls)
        .doc("Format of the store."),
    Key::property("ssl.quorum.keyStore.type",
        Kind::Choice(&["JKS", "PEM", "PKCS12", "BCFKS"]), Standard::Derived("by the file name"))
        .not_built(Feature::Tls)
        .doc("Format of the store."),
    Key::property("ssl.trustStore.location", Kind::Path, Standard::Unset).not_built(Feature::Tls)
        .doc("Trust store of connections to clients."),
    Key::property("ssl.quorum.trustStore.location", Kind::Path, Standard::Unset)
        .not_built(Feature::Tls)
        .doc("Trust store of connections between servers."),
    Key::property("ssl.trustStore.password", Kind::Text, Standard::Unset).not_built(Feature::Tls)
        .secret()
        .doc("Password of the store."),
    Key::property("ssl.quorum.trustStore.password", Kind::Text, Standard::Unset)
        .not_built(Feature::Tls).secret()
        .doc("Password of the store."),
    Key::property("ssl.trustStore.passwordPath", Kind::Path, Standard::Unset)
        .not_built(Feature::Tls)
        .doc("File with the password of the store."),
    Key::property("ssl.quorum.trustStore.passwordPath", Kind::Path, Standard::Unset)
        .not_built(Feature::Tls)
        .doc("File with the password of the store."),
    Key::property("ssl.trustStore.type",
        Kind::Choice(&["JKS", "PEM", "PKCS12", "BCFKS"]), Standard::Derived("by the file name"))
        .not_built(Feature::Tls)
        .doc("Format of the store."),
    Key::property("ssl.quorum.trustStore.type",
        Kind::Choice(&["JKS", "PEM", "PKCS12", "BCFKS"]), Standard::Derived("by the file name"))
        .not_built(Feature::Tls)
        .doc("Format of the store."),
    Key::property("ssl.protocol", Kind::Text, Standard::Derived("TLSv1.2 while fips-mode is true"))
        .not_built(Feature::Tls)
        .doc("TLS version of connections to clients."),
    Key::property("ssl.quorum.protocol",
        Kind::Text, Standard::Derived("TLSv1.2 while fips-mode is true"))
        .not_built(Feature::Tls)
        .doc("TLS version of connections between servers."),
    Key::property("ssl.enabledProtocols", Kind::List, Standard::Derived("protocol"))
        .not_built(Feature::Tls)
        .doc("TLS versions accepted."),
    Key::property("ssl.quorum.enabledProtocols", Kind::List, Standard::Derived("protocol"))
        .not_built(Feature::Tls)
        .doc("TLS versions accepted."),
    Key::property("ssl.ciphersuites", Kind::List, Standard::Unset).not_built(Feature::Tls)
        .doc("Cipher suites accepted."),
    Key::property("ssl.quorum.ciphersuites", Kind::List, Standard::Unset).not_built(Feature::Tls)
        .doc("Cipher suites accepted."),
    Key::property("ssl.context.supplier.class", Kind::Text, Standard::Unset)
        .ignored("Java classes cannot be loaded")
        .doc("Class that makes TLS contexts."),
    Key::property("ssl.quorum.context.supplier.class", Kind::Text, Standard::Unset)
        .ignored("Java classes cannot be loaded")
        .doc("Class that makes TLS contexts."),
    Key::property("ssl.hostnameVerification", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::Tls)
        .doc("Certificates have to name the host."),
    Key::property("ssl.quorum.hostnameVerification", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::Tls)
        .doc("Certificates have to name the host."),
    Key::property("ssl.clientHostnameVerification", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Certificates of connecting sides have to name their host."),
    Key::property("ssl.quorum.clientHostnameVerification", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::Tls)
        .doc("Certificates of connecting sides have to name their host."),
    Key::property("ssl.allowReverseDnsLookup", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Reverse DNS helps to verify host names."),
    Key::property("ssl.quorum.allowReverseDnsLookup", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Reverse DNS helps to verify host names."),
    Key::property("ssl.crl", Kind::JavaBool, Standard::Value("false")).not_built(Feature::Tls)
        .doc("Certificates are looked up in revocation lists."),
    Key::property("ssl.quorum.crl", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Certificates are looked up in revocation lists."),
    Key::property("ssl.ocsp", Kind::JavaBool, Standard::Value("false")).not_built(Feature::Tls)
        .doc("Certificates are checked by OCSP."),
    Key::property("ssl.quorum.ocsp", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Certificates are checked by OCSP."),
    Key::property("ssl.clientAuth",
        Kind::Choice(&["need", "want", "none"]), Standard::Value("need"))
        .not_built(Feature::Tls)
        .doc("Whether the connecting side has to show a certificate."),
    Key::property("ssl.quorum.clientAuth",
        Kind::Choice(&["need", "want", "none"]), Standard::Value("need"))
        .not_built(Feature::Tls)
        .doc("Whether the connecting side has to show a certificate."),
    Key::property("ssl.handshakeDetectionTimeoutMillis", POSITIVE, Standard::Value("5000"))
        .unit("ms").not_built(Feature::Tls)
        .doc("Time limit to tell TLS from plain on a unified port."),
    Key::property("ssl.quorum.handshakeDetectionTimeoutMillis", POSITIVE, Standard::Value("5000"))
        .unit("ms").not_built(Feature::Tls)
        .doc("Time limit to tell TLS from plain on a unified port."),
    Key::property("ssl.authProvider", Kind::Text, Standard::Value("x509")).not_built(Feature::Tls)
        .doc("Scheme that checks client certificates."),
    Key::property("ssl.sslProvider", Kind::Text, Standard::Value("JDK"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("TLS library."),
    Key::property("client.portUnification", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("The secure client port takes plain connections too."),
    Key::property("client.certReload", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::Tls)
        .doc("Certificates for clients are reloaded when their files change."),
    Key::bare("jdk.tls.rejectClientInitiatedRenegotiation", Kind::JavaBool, Standard::Value("true"))
        .ignored("renegotiation is never possible here")
        .doc("Clients cannot renegotiate TLS."),
    // Admin server and metrics.
    Key::property("admin.enableServer", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::AdminServer)
        .doc("Runs the HTTP admin server."),
    Key::property("admin.serverAddress", Kind::Text, Standard::Value("0.0.0.0"))
        .not_built(Feature::AdminServer)
        .doc("Address of the admin server."),
    Key::property("admin.serverPort", PORT, Standard::Value("8080")).not_built(Feature::AdminServer)
        .doc("Port of the admin server."),
    Key::property("admin.idleTimeout", POSITIVE, Standard::Value("30000")).unit("ms")
        .not_built(Feature::AdminServer)
        .doc("Time after which an idle connection is closed."),
    Key::property("admin.commandURL", Kind::Text, Standard::Value("/commands"))
        .not_built(Feature::AdminServer)
        .doc("Path of the commands."),
    Key::property("admin.httpVersion", Kind::Text, Standard::Value("11")).ignored("HTTP 1.1 only")
        .doc("Version of HTTP."),
    Key::property("admin.portUnification", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::AdminServer)
        .doc("The admin port takes HTTP and HTTPS."),
    Key::property("admin.forceHttps", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::AdminServer)
        .doc("The admin port takes HTTPS only."),
    Key::property("admin.needClientAuth", Kind::JavaBool, Standard::Value("false"))
        .not_built(Feature::AdminServer)
        .doc("HTTPS clients have to show a certificate."),
    Key::property("admin.rateLimiterIntervalInMS", NATURAL, Standard::Value("300000")).unit("ms")
        .not_built(Feature::AdminServer)
        .doc("Shortest time between snapshots or restores."),
    Key::property("admin.snapshot.enabled", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::AdminServer)
        .doc("The snapshot command is available."),
    Key::property("admin.restore.enabled", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::AdminServer)
        .doc("The restore command is available."),
    Key::file("metricsProvider.httpHost", Kind::Text, Standard::Value("0.0.0.0"))
        .not_built(Feature::MetricsProvider)
        .doc("Address of the Prometheus port."),
    Key::file("metricsProvider.httpPort", within(-1, 65_535), Standard::Value("-1"))
        .not_built(Feature::MetricsProvider)
        .doc("Prometheus port; -1 is off."),
    Key::file("metricsProvider.httpsPort", within(-1, 65_535), Standard::Value("-1"))
        .not_built(Feature::MetricsProvider)
        .doc("Prometheus port with TLS; -1 is off."),
    Key::file("metricsProvider.exportJvmInfo", Kind::JavaBool, Standard::Value("true"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Exports figures of the virtual machine."),
    Key::file("metricsProvider.numWorkerThreads", NATURAL, Standard::Value("1"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Deprecated."),
    Key::file("metricsProvider.maxQueueSize", NATURAL, Standard::Value("10000"))
        .ignored("tunes the Java virtual machine or its threads")
        .doc("Deprecated."),
    Key::file("metricsProvider.workerShutdownTimeoutMs", NATURAL, Standard::Value("1000"))
        .unit("ms").ignored("tunes the Java virtual machine or its threads")
        .doc("Time limit for the end of threads."),
    Key::file("metricsProvider.prometheusMetricsSummaryRotateIntervalSeconds",
        POSITIVE, Standard::Value("60"))
        .unit("s").not_built(Feature::MetricsProvider)
        .doc("Time a summary looks back."),
    Key::file("metricsProvider.ssl.keyStore.location", Kind::Path, Standard::Unset)
        .not_built(Feature::MetricsProvider)
        .doc("Store of the Prometheus port."),
    Key::file("metricsProvider.ssl.keyStore.password", Kind::Text, Standard::Unset)
        .not_built(Feature::MetricsProvider).secret()
        .doc("Password of the store."),
    Key::file("metricsProvider.ssl.keyStore.type", Kind::Text, Standard::Unset)
        .not_built(Feature::MetricsProvider)
        .doc("Format of the store."),
    Key::file("metricsProvider.ssl.trustStore.location", Kind::Path, Standard::Unset)
        .not_built(Feature::MetricsProvider)
        .doc("Store of the Prometheus port."),
    Key::file("metricsProvider.ssl.trustStore.password", Kind::Text, Standard::Unset)
        .not_built(Feature::MetricsProvider).secret()
        .doc("Password of the store."),
    Key::file("metricsProvider.ssl.trustStore.type", Kind::Text, Standard::Unset)
        .not_built(Feature::MetricsProvider)
        .doc("Format of the store."),
    Key::file("metricsProvider.ssl.need.client.auth", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::MetricsProvider)
        .doc("Clients have to show a certificate."),
    Key::file("metricsProvider.ssl.want.client.auth", Kind::JavaBool, Standard::Value("true"))
        .not_built(Feature::MetricsProvider)
        .doc("Clients are asked for a certificate."),
    Key::file("metricsProvider.ssl.enabledProtocols", Kind::List, Standard::Unset)
        .not_built(Feature::MetricsProvider)
        .doc("TLS versions accepted."),
    Key::file("metricsProvider.ssl.ciphersuites", Kind::List, Standard::Unset)
        .not_built(Feature::MetricsProvider)
        .doc("Cipher suites accepted."),
    Key::file("metricsProvider.*", Kind::Text, Standard::Unset).not_built(Feature::MetricsProvider)
        .doc("Any other key is for the metrics provider."),
    // Java management, logging, tests.
    Key::property("jmx.log4j.disable", Kind::JavaBool, Standard::Value("false"))
        .ignored("there is no JMX")
        .doc("No management of log4j."),
    Key::property("jmx.log4j.mbean", Kind::Text, Standard::Unset).ignored("there is no JMX")
        .doc("Name under which log4j is managed."),
    Key::property("controllerPort", PORT, Standard::Unset).ignored("serves ZooKeeper tests only")
        .doc("Port of the controller service."),
    Key::property("log.dir", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("Directory of the log of the server."),
    Key::property("log.file", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("File name of the log of the server."),
    Key::property("root.logger", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("Level and sink of the log."),
    Key::property("log.threshold", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("Level of the log file."),
    Key::property("console.threshold", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("Level of the console."),
    Key::property("tracelog.dir", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("Directory of the trace log."),
    Key::property("tracelog.file", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("File name of the trace log."),
    Key::property("auditlog.file", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("File name of the audit log."),
    Key::property("auditlog.threshold", Kind::Text, Standard::Unset)
        .ignored("set by the ZooKeeper scripts for Java logging, which does not exist here")
        .doc("Level of the audit log."),
    // Properties of the Java client, which often stand beside the server's.
    Key::property("client.secure", Kind::JavaBool, Standard::Value("false"))
        .ignored("read by clients only")
        .doc("The client uses TLS."),
    Key::property("clientCnxnSocket",
        Kind::Text, Standard::Value("org.apache.zookeeper.ClientCnxnSocketNIO"))
        .ignored("read by clients only")
        .doc("Class of the connection of a client."),
    Key::property("request.timeout", NATURAL, Standard::Value("0")).unit("ms")
        .ignored("read by clients only")
        .doc("Time limit of a call."),
    Key::property("sasl.client", Kind::JavaBool, Standard::Value("true"))
        .ignored("read by clients only")
        .doc("The client uses SASL where it is configured."),
    Key::property("sasl.clientconfig", Kind::Text, Standard::Value("Client"))
        .ignored("read by clients only")
        .doc("JAAS section of the client."),
    Key::property("sasl.client.username", Kind::Text, Standard::Value("zookeeper"))
        .ignored("read by clients only")
        .doc("First part of the principal of the server."),
    Key::property("sasl.client.canonicalize.hostname", Kind::JavaBool, Standard::Value("true"))
        .ignored("read by clients only")
        .doc("The client makes host names canonical."),
    Key::property("sasl.client.allowReverseDnsLookup", Kind::JavaBool, Standard::Value("false"))
        .ignored("read by clients only")
        .doc("The client uses reverse DNS."),
    Key::property("server.principal", Kind::Text, Standard::Unset).ignored("read by clients only")
        .doc("Principal the client expects."),
    Key::property("disableAutoWatchReset", Kind::JavaBool, Standard::Value("false"))
        .ignored("read by clients only")
        .doc("The client does not set its watches again."),
    Key::property("shuffleDnsResponse", Kind::JavaBool, Standard::Value("false"))
        .ignored("read by clients only")
        .doc("The client shuffles addresses."),
    Key::property("hostProvider.dnsSrvRefreshIntervalSeconds", NATURAL, Standard::Value("60"))
        .unit("s").ignored("read by clients only")
        .doc("Time between DNS SRV look-ups."),
    // Our own.
    Key::own("ringkeeper.cores.network", Kind::Cpus, Standard::Unset)
        .doc("CPUs to which the network event loops are pinned."),
    Key::own("ringkeeper.cores.pipeline", Kind::Cpu, Standard::Unset)
        .doc("CPU to which the request pipeline is pinned."),
    Key::own("ringkeeper.cores.log", Kind::Cpu, Standard::Unset)
        .doc("CPU to which the transaction log is pinned."),
    Key::own("ringkeeper.network.threads", within(0, 1_024), Standard::Value("0"))
        .doc("Network event loops; 0 lets the server choose."),
    Key::own("ringkeeper.busyPollMicros", within(0, 1_000_000), Standard::Value("0")).unit("us")
        .doc("Time an event loop spins before it sleeps; 0 is off."),
    Key::own("ringkeeper.log.segmentSizeInKb", within(64, 4_194_304), Standard::Value("65536"))
        .unit("KiB")
        .doc("Size of a segment of the transaction log, a multiple of 4."),
    Key::own("ringkeeper.quorum.adaptiveTimeout", ON_UNLESS_NO, Standard::Value("yes"))
        .for_members()
        .doc("Leave a silent leader after a fraction of a second, where it is Ringkeeper, too."),
    Key::own("ringkeeper.quorum.create2InMulti", ON_UNLESS_NO, Standard::Value("yes"))
        .for_members()
        .doc("A create2 in a multi is logged as such; no where a member is Apache 3.8.0 or 3.8.1."),
    Key::own("ringkeeper.quorum.epochTransactions", within(1_000, EPOCH_TRANSACTIONS_MAX),
        Standard::Value("4293918719"))
        .for_members()
        .doc("Transactions of an epoch before the leader begins the next one; small ones try it."),
    Key::own("ringkeeper.log.directIo", Kind::Auto, Standard::Value("auto"))
        .doc("The log bypasses the page cache; on refuses to start where that is impossible."),
    Key::own("ringkeeper.log.acceptTruncated", Kind::Text, Standard::Unset)
        .doc("Name of a log file that was cut short: start without the part that is missing."),
    Key::own("ringkeeper.uring.multishot", Kind::Auto, Standard::Value("auto"))
        .doc("Multishot accept and receive; on refuses to start where the kernel lacks it."),
    Key::own("ringkeeper.uring.entries", within(64, 32_768), Standard::Value("4096"))
        .doc("Submission queue entries of each io_uring."),
];
