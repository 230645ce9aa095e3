//! [`Settings`]: everything a server needs, typed, in base units, already checked.
//!
//! Stands for the fields of `ServerConfig` and the static properties of many server classes. All
//! fields are plain types, so that code which gets them need not know this module. Defaults come
//! from the key table.

use std::path::PathBuf;

use crate::base::ServerId;
use crate::quorum::{Member, Membership, Role};

/// What the surroundings contribute to checks; the caller finds it out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// CPUs this process may use; `None` leaves CPU numbers unchecked. Default `None`.
    pub usable_cpus: Option<Vec<usize>>,
}

/// The settings of a server.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// TCP port for clients; 0, possible only as an argument, lets the system choose.
    /// `clientPort`, default 2181 without any configuration.
    pub client_port: u16,
    /// Address or host name on which to listen, without brackets; `None` is all addresses.
    /// `clientPortAddress`, default all, but 127.0.0.1 without any configuration.
    pub client_host: Option<String>,
    /// Connections that may wait to be accepted; `None` leaves it to the system.
    /// `clientPortListenBacklog`, default `None`.
    pub listen_backlog: Option<u32>,
    /// Basic unit of time, milliseconds. `tickTime`, default 3000.
    pub tick_ms: u32,
    /// Shortest session timeout, milliseconds. `minSessionTimeout`, default two ticks.
    pub session_timeout_ms_min: u32,
    /// Longest session timeout, milliseconds. `maxSessionTimeout`, default twenty ticks.
    pub session_timeout_ms_max: u32,
    /// Connections from one address; 0 is unlimited. `maxClientCnxns`, default 60, but 0 with
    /// positional arguments.
    pub client_cnxns_max: u32,
    /// Connections in all; 0 is unlimited. `maxCnxns`, default 0.
    pub cnxns_max: u32,
    /// Requests in progress above which no more are read from a connection that already has one
    /// in progress. `globalOutstandingLimit`, default 1000.
    pub outstanding_max: u32,
    /// Largest packet, bytes. `jute.maxbuffer`, default 1048575.
    pub packet_size_max: u32,
    /// Largest transaction, bytes: a packet, and `jute.maxbuffer.extrasize`, default once more
    /// `jute.maxbuffer`.
    pub txn_size_max: u32,
    /// A connection without a session is closed after this time, milliseconds.
    /// `nio.sessionlessCnxnTimeout`, default 10000.
    pub sessionless_timeout_ms: u32,
    /// TCP keep-alive for clients. `clientTcpKeepAlive`, default false.
    pub is_client_keep_alive: bool,
    /// Read-only service without a quorum. `readonlymode.enabled`, default false.
    pub is_read_only_mode: bool,
    /// Clients may change the membership. `reconfigEnabled`, default false.
    pub is_reconfig: bool,
    /// This server is a member of an ensemble; `None` if it stands alone. `server.N`, default
    /// `None`.
    pub ensemble: Option<EnsembleSettings>,
    /// Four-letter words to answer, sorted. `4lw.commands.whitelist`, default `srvr`; `srvr` is
    /// always in it, `isro` if `is_read_only_mode`.
    pub four_letter_words: Vec<String>,
    /// Directories, logs and snapshots.
    pub storage: StorageSettings,
    /// Node types, quotas and permissions.
    pub nodes: NodeSettings,
    /// Limits on new sessions.
    pub connection_throttle: ConnectionThrottle,
    /// Limits on requests.
    pub request_throttle: RequestThrottle,
    /// Limits on the memory of large requests.
    pub large_requests: LargeRequests,
    /// Authentication.
    pub auth: AuthSettings,
    /// Our own settings.
    pub ring: RingSettings,
}

/// A member of an ensemble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnsembleSettings {
    /// This server, one of `membership`. The file `myid` in `dataDir`.
    pub sid: ServerId,
    /// All members. `server.N`; its version ends the name of `dynamicConfigFile`.
    pub membership: Membership,
    /// Time to find a leader's history and to get it, ticks. `initLimit`, no default.
    pub init_limit: u32,
    /// Time that a leader or a learner may be silent, ticks. `syncLimit`, no default.
    pub sync_limit: u32,
    /// Clients are served while this server leads. `leaderServes`, default yes.
    pub is_leader_serving: bool,
    /// A leader of ours that is silent is left before that. `ringkeeper.quorum.adaptiveTimeout`,
    /// default true.
    pub is_adaptive_timeout: bool,
    /// A create2 inside a multi is logged as one. `ringkeeper.quorum.create2InMulti`, default true.
    pub is_create2_in_multi: bool,
    /// Transactions of an epoch after which its leader begins the next one.
    /// `ringkeeper.quorum.epochTransactions`, default 4293918719.
    pub epoch_transactions: u32,
    /// Time limit of a connection to another member, milliseconds. `cnxTimeout`, default 5000.
    pub cnx_timeout_ms: u32,
    /// The two ports for members listen on all addresses. `quorumListenOnAllIPs`, default false.
    pub is_listen_on_all_ips: bool,
    /// Attempts to listen on a port for members; `None` is endless. `electionPortBindRetry`,
    /// default 3.
    pub bind_attempts_max: Option<u32>,
    /// Until a vote is repeated for the first time, milliseconds.
    /// `fastleader.minNotificationInterval`, default 200.
    pub vote_repeat_ms_min: u32,
    /// The longest pause between two repetitions, milliseconds.
    /// `fastleader.maxNotificationInterval`, default 60000.
    pub vote_repeat_ms_max: u32,
}

impl EnsembleSettings {
    /// This server's line.
    pub fn this(&self) -> Option<&Member> {
        self.membership.member(self.sid)
    }

    /// Whether this server has a vote.
    pub fn role(&self) -> Role {
        self.this().map_or(Role::Observer, |member| member.role)
    }
}

/// Directories, logs and snapshots.
#[derive(Clone, PartialEq, Debug)]
pub struct StorageSettings {
    /// Directory of snapshots and `myid`. `dataDir`, default `./data` without any configuration.
    pub data_dir: PathBuf,
    /// Directory of transaction logs. `dataLogDir`, default `data_dir`.
    pub data_log_dir: PathBuf,
    /// Missing directories are created. `datadir.autocreate`, default true.
    pub is_datadir_autocreate: bool,
    /// An empty database needs no `initialize` file. `db.autocreate`, default true.
    pub is_db_autocreate: bool,
    /// A snapshot after half to all of this many transactions. `snapCount`, default 100000.
    pub snap_count: u32,
    /// Somebody chose `snapCount`, so that it is obeyed to the letter; otherwise a snapshot waits
    /// for enough log as well.
    pub is_snap_count_set: bool,
    /// A snapshot after half to all of this many log bytes. `snapSizeLimitInKb`, default 4 GiB;
    /// `None` is off.
    pub snap_log_size_bytes: Option<u64>,
    /// A new log file after this many bytes. `txnLogSizeLimitInKb`, default `None`, off.
    pub txn_log_size_bytes_max: Option<u64>,
    /// Sync before acknowledging. `forceSync`, default true.
    pub is_force_sync: bool,
    /// A slower sync is warned about, milliseconds. `fsync.warningthresholdms`, default 1000.
    pub sync_warning_ms: u32,
    /// `""`, `"gz"` or `"snappy"`. `snapshot.compression.method`, default `""`.
    pub snapshot_compression: String,
    /// Starts from logs without a snapshot. `snapshot.trust.empty`, default false.
    pub is_trust_empty_snapshot: bool,
    /// Name of a log file that may be cut short. `log.acceptTruncated`, default `None`.
    pub accepted_truncated_log: Option<String>,
    /// Snapshots end with their zxid. `serializeLastProcessedZxid.enabled`, default true.
    pub is_snapshot_zxid: bool,
    /// Digests in logs and snapshots. `digest.enabled`, default true.
    pub is_digest: bool,
    /// closeSession transactions list the deleted nodes. `closeSessionTxn.enabled`, default true.
    pub is_close_session_txn: bool,
    /// Snapshots that purging keeps. `autopurge.snapRetainCount`, default 3, at least 3.
    pub purge_snap_retain_count: u32,
    /// Time between purges, milliseconds. `autopurge.purgeInterval`, default `None`, off.
    pub purge_interval_ms: Option<u64>,
}

/// Node types, quotas and permissions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSettings {
    /// TTL nodes. `extendedTypesEnabled`, default false.
    pub is_extended_types: bool,
    /// TTL nodes as 3.5.3 wrote them. `emulate353TTLNodes`, default false.
    pub is_emulate_353_ttl: bool,
    /// Time between searches for nodes to delete, milliseconds.
    /// `znode.container.checkIntervalMs`, default 60000.
    pub container_check_interval_ms: u32,
    /// Such deletions in a minute. `znode.container.maxPerMinute`, default 10000.
    pub container_deletions_per_minute_max: u32,
    /// Age at which a container that never had a child is deleted, milliseconds; 0 is never.
    /// `znode.container.maxNeverUsedIntervalMs`, default 0.
    pub container_never_used_ms_max: u32,
    /// Hard quotas are enforced. `enforceQuota`, default false.
    pub is_enforce_quota: bool,
    /// Permissions are not checked at all. `skipACL`, default false.
    pub is_skip_acl: bool,
    /// Permissions are checked before a write is forwarded. `enableEagerACLCheck`, default false.
    pub is_eager_acl_check: bool,
}

/// Token bucket for new sessions (`BlueThrottle`); keys `connection_throttle_*`.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnectionThrottle {
    /// Size of the bucket; 0 is off, the default.
    pub tokens: u32,
    /// Time between refills, milliseconds. Default 1.
    pub fill_time_ms: u32,
    /// Tokens in a refill. Default 1.
    pub fill_count: u32,
    /// Time between changes of the drop probability, milliseconds. Default `None`, never.
    pub freeze_time_ms: Option<u32>,
    /// Step up of the drop probability, 0 to 1. Default 0.02.
    pub drop_increase: f64,
    /// Step down of the drop probability, 0 to 1. Default 0.002.
    pub drop_decrease: f64,
    /// Fill of the bucket above which the probability falls, 0 to 1. Default 0.
    pub decrease_ratio: f64,
    /// The three weights apply; otherwise each session takes one token. Default false.
    pub is_weight_enabled: bool,
    /// Tokens for a new global session. Default 3.
    pub global_session_weight: u32,
    /// Tokens for a renewed session. Default 2.
    pub renew_session_weight: u32,
}

/// Limits on requests (`RequestThrottler`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestThrottle {
    /// Requests in the pipeline; 0 is unlimited. `request_throttle_max_requests`, default 0.
    pub requests_max: u32,
    /// Stale requests are dropped. `request_throttle_drop_stale`, default true.
    pub is_drop_stale: bool,
    /// Older than the session timeout is stale. `request_stale_latency_check`, default false.
    pub is_stale_latency_check: bool,
    /// A closed connection is stale. `request_stale_connection_check`, default true.
    pub is_stale_connection_check: bool,
    /// A longer wait fails the request, milliseconds. `throttled_op_wait_time`, default `None`,
    /// off.
    pub throttled_op_wait_ms: Option<u32>,
}

/// Limits on the memory of large requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LargeRequests {
    /// Bytes of all large requests in progress. `largeRequestMaxBytes`, default 100 MiB.
    pub total_size_max: u32,
    /// Size above which a request is large, bytes. `largeRequestThreshold`, default `None`, off.
    pub threshold: Option<u32>,
}

/// Authentication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthSettings {
    /// The digest scheme is on. `DigestAuthenticationProvider.enabled`, default true.
    pub is_digest_enabled: bool,
    /// Hash of the digest scheme: `SHA1`, `MD5`, `SHA-224`, `SHA-256`, `SHA-384`, `SHA-512` or
    /// the same sizes of `SHA3-`. `DigestAuthenticationProvider.digestAlg`, default `SHA1`.
    pub digest_algorithm: String,
    /// `user:hash` of the super user. `DigestAuthenticationProvider.superDigest`, default none.
    pub super_digest: Option<String>,
    /// SASL ids of super users. `superUser` and `superUser.*`, default empty.
    pub super_users: Vec<String>,
    /// DIGEST-MD5 password of `super`. `SASLAuthenticationProvider.superPassword`, default none.
    pub sasl_super_password: Option<String>,
    /// Schemes added by `authProvider.*`, of `digest`, `ip`, `sasl`, `ensemble`; sorted. Default
    /// empty. `digest` and `ip` are there without being listed.
    pub extra_schemes: Vec<String>,
    /// Schemes of which a client has to hold one; empty demands none. From
    /// `sessionRequireClientSASLAuth`, or `enforce.auth.enabled` and `enforce.auth.schemes`.
    /// Default empty.
    pub enforced_schemes: Vec<String>,
    /// A failed SASL login keeps its connection. `allowSaslFailedClients`, default false.
    pub is_allow_sasl_failed_clients: bool,
    /// ACL id that matches every SASL user. `letAnySaslUserDoX`, default none.
    pub any_sasl_user_id: Option<String>,
    /// Accepted names of this ensemble; empty accepts all. `ensembleAuthName`, default empty.
    pub ensemble_names: Vec<String>,
    /// JAAS file. `java.security.auth.login.config`, default none.
    pub jaas_file: Option<PathBuf>,
    /// Section of the JAAS file. `sasl.serverconfig`, default `Server`.
    pub jaas_section: String,
    /// `kerberos.removeHostFromPrincipal`, default false.
    pub is_remove_host_from_principal: bool,
    /// `kerberos.removeRealmFromPrincipal`, default false.
    pub is_remove_realm_from_principal: bool,
}

/// Our own settings, keys `ringkeeper.*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingSettings {
    /// CPUs of the network loops, in order; empty pins none. `cores.network`, default empty.
    pub network_cpus: Vec<usize>,
    /// CPU of the pipeline. `cores.pipeline`, default `None`, not pinned.
    pub pipeline_cpu: Option<usize>,
    /// CPU of the log. `cores.log`, default `None`, not pinned.
    pub log_cpu: Option<usize>,
    /// Number of network loops; 0 lets the server choose. `network.threads`, default 0.
    pub network_threads: u32,
    /// Time to spin before sleeping, microseconds. `busyPollMicros`, default 0, off.
    pub busy_poll_us: u32,
    /// Size of a log segment, bytes, a multiple of 4096. `log.segmentSizeInKb`, default 64 MiB.
    pub log_segment_size_bytes: u64,
    /// The log bypasses the page cache; `None` where it can. `log.directIo`, default `None`.
    pub log_direct_io: Option<bool>,
    /// Multishot operations; `None` where the kernel has them. `uring.multishot`, default `None`.
    pub uring_multishot: Option<bool>,
    /// Submission queue entries of each ring. `uring.entries`, default 4096.
    pub uring_entries: u32,
}
