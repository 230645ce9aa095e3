//! Every word over a replica in memory. The texts were compared with Apache 3.9.5's in the
//! same scene; `mntr-3.9.5.keys` are its keys, those by namespace left out.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{AdminContext, Host, Live, MemberState, four_letter, version};
use crate::auth::{Auth, AuthOptions};
use crate::base::{ConnId, Instant, Now, SessionId, Zxid};
use crate::config::{self, Environment, RawConfig};
use crate::leader::LeaderOptions;
use crate::metrics::{Measures, TermFigures};
use crate::pipeline::PrepareOptions;
use crate::replica::{Effect, Effects, Input, Replica, ReplicaOptions, Restored};
use crate::tree::{Tree, TreeOptions};
use crate::wire::{
    ACL_OPEN_BYTES, OpCode, XID_PING, begin_frame, connect_frame, end_frame, put_bool, put_buffer,
    put_i32, put_str,
};

mod member;

/// 2026-11-20 23:07:10 UTC.
const WALL_MS: i64 = 1_795_216_030_000;
const FIRST_SESSION: i64 = 0x0100_0013_0c1d_0000;

/// A server without sockets and disk.
struct Scene {
    replica: Replica,
    context: AdminContext,
    now: Now,
    xid: i32,
    words: u32,
}

fn replica(now: Now) -> Replica {
    let options = ReplicaOptions {
        min_session_timeout_ms: 4000,
        max_session_timeout_ms: 40_000,
        leader: LeaderOptions {
            tick_ms: 2000,
            prepare: PrepareOptions { enforce_quota: true, ..PrepareOptions::default() },
            ..LeaderOptions::default()
        },
        snap_size_bytes: 0,
        snap_log_ratio: 0,
        ..ReplicaOptions::default()
    };
    let tree = Tree::new(TreeOptions::STOCK);
    let restored = Restored::fresh(tree);
    let auth = Auth::new(AuthOptions::default()).unwrap();
    let mut replica = Replica::new(now, options, auth, restored, SessionId(FIRST_SESSION));
    replica.lead(now);
    replica
}

impl Scene {
    fn new(whitelist: &str) -> Scene {
        Scene::with(whitelist, "")
    }

    /// With more lines of zoo.cfg, which may make it server 2 of an ensemble.
    fn with(whitelist: &str, lines: &str) -> Scene {
        let now = Now { mono: Instant::from_ms(1_000_000), wall_ms: WALL_MS };
        let mut raw = RawConfig::new();
        let text = format!(
            "dataDir=/data\ntickTime=2000\nclientPort=2181\n4lw.commands.whitelist={whitelist}\n\
             {lines}"
        );
        raw.add_file("zoo.cfg", text.as_bytes());
        raw.add_my_id("/data/myid", Ok(b"2".to_vec()));
        let (settings, _) = config::check(&raw, &Environment::default()).into_settings().unwrap();
        let address = SocketAddr::from(([0, 0, 0, 0], 2181));
        let host = Host {
            name: "here".to_owned(),
            os_version: "6.1".to_owned(),
            os_arch: "amd64".to_owned(),
            user_name: "zk".to_owned(),
            user_home: "/home/zk".to_owned(),
            user_dir: "/".to_owned(),
            temp_dir: "/tmp".to_owned(),
            executable: "/bin/ringkeeper".to_owned(),
            snap_dir: "/data/version-2".to_owned(),
            log_dir: "/data/version-2".to_owned(),
            open_files_max: 1024,
        };
        let mut context =
            AdminContext::new(&settings, address, host, Arc::new(Measures::default()));
        context.live = Live {
            dir_sizes: (478, 67_108_864),
            open_files: 15,
            memory_free: 5 << 20,
            memory_max: 7 << 20,
            memory_used: 6 << 20,
            state: MemberState::Alone,
            terms: TermFigures::default(),
        };
        Scene { replica: replica(now), context, now, xid: 0, words: 0 }
    }

    fn pass(&mut self, us: u64) {
        self.now.mono.0 += us * 1000;
    }

    /// Hands over an input; what it appends to the log is durable after 2.5 ms.
    fn handle(&mut self, input: Input<'_>) {
        let mut effects = Effects::default();
        self.replica.handle(self.now, input, &mut effects);
        self.replica.flush(&mut effects);
        let appended = effects.list.iter().find_map(|effect| match effect {
            Effect::Append(batch) => batch.last_zxid(),
            _ => None,
        });
        if let Some(zxid) = appended {
            self.pass(2500);
            self.replica.handle(self.now, Input::Logged { zxid }, &mut effects);
            self.replica.handle(self.now, Input::Committed { zxid }, &mut effects);
        }
        self.replica.check();
    }

    fn open(&mut self, conn: u32, peer: &str) -> ConnId {
        let conn = ConnId::new(conn, 0);
        self.handle(Input::Opened { conn, peer: peer.parse().unwrap() });
        conn
    }

    fn connect(&mut self, conn: u32, timeout_ms: i32, session: i64) -> ConnId {
        let conn = self.open(conn, &format!("127.0.0.1:{}", 5000 + conn));
        let frame = connect_frame(SessionId(session), timeout_ms);
        self.handle(Input::Frames { conn, bytes: &frame });
        conn
    }

    fn request(&mut self, conn: ConnId, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) {
        let xid = if op == OpCode::Ping {
            XID_PING
        } else {
            self.xid += 1;
            self.xid
        };
        let mut frame = Vec::new();
        let start = begin_frame(&mut frame);
        put_i32(&mut frame, xid);
        put_i32(&mut frame, op.code());
        body(&mut frame);
        end_frame(&mut frame, start);
        self.handle(Input::Frames { conn, bytes: &frame });
    }

    fn create(&mut self, conn: ConnId, path: &str, data: &[u8], flags: i32) {
        self.request(conn, OpCode::Create, |out| {
            put_str(out, path);
            put_buffer(out, Some(data));
            out.extend_from_slice(ACL_OPEN_BYTES);
            put_i32(out, flags);
        });
    }

    fn read(&mut self, conn: ConnId, op: OpCode, path: &str, watch: bool) {
        self.request(conn, op, |out| {
            put_str(out, path);
            put_bool(out, watch);
        });
    }

    fn set(&mut self, conn: ConnId, path: &str) {
        self.request(conn, OpCode::SetData, |out| {
            put_str(out, path);
            put_buffer(out, Some(b"yy"));
            put_i32(out, -1);
        });
    }

    /// Sends a word on a connection of its own.
    fn word(&mut self, word: &[u8; 4], argument: &[u8]) -> String {
        self.words += 1;
        let conn = self.open(900, &format!("10.0.0.9:{}", 7000 + self.words));
        let (context, replica) = (&mut self.context, &mut self.replica);
        let text = four_letter(context, replica, self.now, conn, *word, argument);
        self.handle(Input::Closed { conn });
        text
    }

    fn metric(&mut self, key: &str) -> String {
        let text = self.word(b"mntr", b"");
        let start = format!("zk_{key}\t");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("missing").to_owned()
    }
}

/// Two sessions, four nodes, two of them ephemeral, three watches.
fn busy() -> (Scene, ConnId, ConnId) {
    let mut scene = Scene::new("*");
    let a = scene.connect(1, 10_000, 0);
    let b = scene.connect(2, 6000, 0);
    scene.create(a, "/a", b"x", 0);
    scene.create(a, "/a/b", b"x", 0);
    scene.create(a, "/eph", b"x", 1);
    scene.create(b, "/eph2", b"x", 1);
    scene.read(a, OpCode::GetData, "/a", true);
    scene.read(b, OpCode::GetData, "/a", true);
    scene.read(b, OpCode::Exists, "/nope", true);
    scene.read(a, OpCode::GetData, "/missing", false);
    scene.request(b, OpCode::Ping, |_| {});
    scene.set(b, "/a/b");
    (scene, a, b)
}

const SERVER: &str = "\
Latency min/avg/max: 0/1.4583/2
Received: 13
Sent: 12
Connections: 3
Outstanding: 0
Zxid: 0x7
Mode: standalone
Node count: 9
";

#[test]
fn small_words() {
    let mut scene = Scene::new("*");
    for (word, argument, expect) in [
        (b"ruok", &b""[..], "imok"),
        (b"isro", b"", "rw"),
        (b"gtmk", b"", "306"),
        (b"stmk", &5i64.to_be_bytes(), "5"),
        (b"gtmk", b"", "5"),
        (b"stmk", &(-1i64).to_be_bytes(), "-1"),
        (b"hash", b"", ""),
        (b"dirs", b"", "datadir_size: 478\nlogdir_size: 67108864\n"),
        (b"crst", b"", "Connection stats reset.\n"),
        (b"srst", b"", "Server stats reset.\n"),
        (b"wchs", b"", "0 connections watching 0 paths\nTotal watches:0\n"),
        (b"wchc", b"", "\n"),
        (b"wchp", b"", "\n"),
        (b"\xff\xf4\xff\xfd", b"", ""),
    ] {
        assert_eq!(scene.word(word, argument), expect, "{word:?}");
    }
}

#[test]
fn words_not_in_the_list_are_refused_and_do_nothing() {
    let mut scene = Scene::new("mntr");
    let refused =
        |word: &str| format!("{word} is not executed because it is not in the whitelist.\n");
    assert_eq!(scene.word(b"ruok", b""), refused("ruok"));
    assert_eq!(scene.word(b"srst", b""), refused("srst"));
    assert_eq!(scene.word(b"\xff\xf4\xff\xfd", b""), refused("telnet close"));
    assert!(scene.word(b"mntr", b"").starts_with("zk_version\t3.9.5-"));
    let srvr = scene.word(b"srvr", b"");
    assert!(srvr.contains("\nReceived: 5\nSent: 4\nConnections: 1\n"), "{srvr}");
}

#[test]
fn the_version_is_one_that_clients_can_parse() {
    let version = version();
    let (number, rest) = version.split_once('-').unwrap();
    assert_eq!(number, "3.9.5");
    let (name, date) = rest.split_once(", built on ").unwrap();
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'), "{name}");
    assert_eq!(date.len(), "2026-02-11 20:18 UTC".len());
}

#[test]
fn srvr_and_stat() {
    let (mut scene, ..) = busy();
    let version = version();
    assert_eq!(scene.word(b"srvr", b""), format!("Zookeeper version: {version}\n{SERVER}"));
    let server = SERVER.replace("Received: 13\nSent: 12", "Received: 14\nSent: 13");
    let expect = format!(
        "Zookeeper version: {version}\nClients:\n \
         /127.0.0.1:5001[1](queued=0,recved=6,sent=6)\n \
         /127.0.0.1:5002[1](queued=0,recved=6,sent=6)\n \
         /10.0.0.9:7002[0](queued=0,recved=1,sent=0)\n\n{server}"
    );
    assert_eq!(scene.word(b"stat", b""), expect);
}

#[test]
fn cons_before_and_after_crst_and_on_a_session_taken_up() {
    let (mut scene, a, _) = busy();
    let est = WALL_MS;
    assert_eq!(
        scene.word(b"cons", b""),
        format!(
            " /127.0.0.1:5001[1](queued=0,recved=6,sent=6,sid=0x10000130c1d0000,lop=GETD,\
             est={est},to=10000,lcxid=0x8,lzxid=0x6,lresp=1000015,llat=0,minlat=0,avglat=1,\
             maxlat=2)\n \
             /127.0.0.1:5002[1](queued=0,recved=6,sent=6,sid=0x10000130c1d0001,lop=SETD,\
             est={est},to=6000,lcxid=0x9,lzxid=0x7,lresp=1000017,llat=2,minlat=0,avglat=1,\
             maxlat=2)\n \
             /10.0.0.9:7001[0](queued=0,recved=1,sent=0)\n\n"
        )
    );
    scene.word(b"crst", b"");
    scene.handle(Input::Closed { conn: a });
    scene.connect(3, 10_000, FIRST_SESSION);
    scene.open(4, "[2001:db8::1]:5004");
    assert_eq!(
        scene.word(b"cons", b""),
        format!(
            " /127.0.0.1:5002[1](queued=0,recved=0,sent=0,sid=0x10000130c1d0001,lop=NA,\
             est={est},to=6000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,\
             maxlat=0)\n \
             /127.0.0.1:5003[1](queued=0,recved=1,sent=1,sid=0x10000130c1d0000,lop=null,\
             est={est},to=10000,lcxid=0x0,lzxid=0x0,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n \
             /[2001:db8:0:0:0:0:0:1]:5004[1](queued=0,recved=0,sent=0)\n \
             /10.0.0.9:7003[0](queued=0,recved=1,sent=0)\n\n"
        )
    );
}

#[test]
fn a_failed_write_leaves_no_operation_a_failed_read_does() {
    let (mut scene, a, b) = busy();
    scene.set(b, "/nope");
    scene.read(a, OpCode::Exists, "/nope", false);
    let cons = scene.word(b"cons", b"");
    assert!(cons.contains("5002[1](queued=0,recved=7,sent=7,sid=0x10000130c1d0001,lop=NA,"));
    assert!(cons.contains("5001[1](queued=0,recved=7,sent=7,sid=0x10000130c1d0000,lop=EXIS,"));
}

#[test]
fn dump_lists_sessions_ephemerals_and_connections() {
    let (mut scene, ..) = busy();
    assert_eq!(
        scene.word(b"dump", b""),
        "SessionTracker dump:\n\
         Session Sets (2)/(2):\n\
         1 expire at Fri Nov 20 23:07:17 UTC 2026:\n\
         \t0x10000130c1d0001\n\
         1 expire at Fri Nov 20 23:07:21 UTC 2026:\n\
         \t0x10000130c1d0000\n\
         ephemeral nodes dump:\n\
         Sessions with Ephemerals (2):\n\
         0x10000130c1d0000:\n\
         \t/eph\n\
         0x10000130c1d0001:\n\
         \t/eph2\n\
         Connections dump:\n\
         Connections Sets (2)/(3):\n\
         1 expire at Fri Nov 20 23:07:19 UTC 2026:\n\
         \tip: /127.0.0.1:5002 sessionId: 0x10000130c1d0001\n\
         2 expire at Fri Nov 20 23:07:29 UTC 2026:\n\
         \tip: /127.0.0.1:5001 sessionId: 0x10000130c1d0000\n\
         \tip: /10.0.0.9:7001 sessionId: 0x0\n"
    );
}

#[test]
fn watches_by_session_and_by_path() {
    let (mut scene, ..) = busy();
    assert_eq!(scene.word(b"wchs", b""), "2 connections watching 2 paths\nTotal watches:3\n");
    assert_eq!(
        scene.word(b"wchc", b""),
        "0x10000130c1d0000\n\t/a\n0x10000130c1d0001\n\t/a\n\t/nope\n\n"
    );
    assert_eq!(
        scene.word(b"wchp", b""),
        "/a\n\t0x10000130c1d0000\n\t0x10000130c1d0001\n/nope\n\t0x10000130c1d0001\n\n"
    );
}

#[test]
fn hash_lists_every_128th_digest_as_a_signed_number() {
    let mut scene = Scene::new("*");
    let a = scene.connect(1, 10_000, 0);
    scene.create(a, "/a", b"x", 0);
    for _ in 0..140 {
        scene.set(a, "/a");
    }
    let digests: Vec<_> = scene.replica.tree().digest_log().collect();
    let [(Zxid(128), digest)] = digests[..] else { panic!("{digests:?}") };
    assert_eq!(scene.word(b"hash", b""), format!("80: {}\n", digest as i64));
}

#[test]
fn conf_and_envi() {
    let mut scene = Scene::new("*");
    assert_eq!(
        scene.word(b"conf", b""),
        "clientPort=2181\nsecureClientPort=-1\ndataDir=/data/version-2\ndataDirSize=478\n\
         dataLogDir=/data/version-2\ndataLogSize=67108864\ntickTime=2000\nmaxClientCnxns=60\n\
         minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\n\
         serverId=0\n"
    );
    assert_eq!(
        scene.word(b"envi", b""),
        format!(
            "Environment:\nzookeeper.version={}\nhost.name=here\njava.version=<NA>\n\
             java.vendor=none (Ringkeeper is native)\njava.home=<NA>\n\
             java.class.path=/bin/ringkeeper\njava.library.path=<NA>\njava.io.tmpdir=/tmp\n\
             java.compiler=<NA>\nos.name=Linux\nos.arch=amd64\nos.version=6.1\nuser.name=zk\n\
             user.home=/home/zk\nuser.dir=/\nos.memory.free=5MB\nos.memory.max=7MB\n\
             os.memory.total=6MB\n",
            version()
        )
    );
}

#[test]
fn mntr_has_apaches_keys_and_kinds_of_values() {
    let (mut scene, ..) = busy();
    let text = scene.word(b"mntr", b"");
    let mut keys: Vec<&str> = Vec::new();
    for line in text.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        if !key.ends_with("_per_namespace") {
            keys.push(key);
        }
        match key {
            "zk_version" => assert_eq!(value, version()),
            "zk_server_state" => assert_eq!(value, "standalone"),
            _ if key.starts_with("zk_avg_") || key == "zk_connection_drop_probability" => {
                assert!(value.contains('.'), "{line}");
            }
            _ => assert!(value.parse::<i64>().is_ok(), "{line}"),
        }
    }
    assert_eq!(keys[..2], ["zk_version", "zk_server_state"]);
    keys.sort_unstable();
    let expect: Vec<&str> = include_str!("mntr-3.9.5.keys").lines().collect();
    assert_eq!(keys, expect);
}

#[test]
fn mntr_measures() {
    let (mut scene, a, _) = busy();
    scene.pass(1_000_000);
    let measures = Arc::clone(&scene.context.measures);
    measures.log_write.record(2400);
    measures.log_batch.record(3);
    // Deletes a watched node: its watchers are told, and that is counted.
    scene.request(a, OpCode::Delete, |out| {
        put_str(out, "/a/b");
        put_i32(out, -1);
    });
    scene.set(a, "/a");
    for (key, expect) in [
        ("avg_latency", "1.6071"),
        ("packets_received", "16"),
        ("uptime", "1022"),
        ("znode_count", "8"),
        ("watch_count", "1"),
        ("ephemerals_count", "2"),
        ("global_sessions", "2"),
        ("open_file_descriptor_count", "15"),
        ("max_file_descriptor_count", "1024"),
        // A reply to getData: header, length, one byte of data, stat; without the frame's length.
        ("max_client_response_size", "89"),
        ("min_client_response_size", "16"),
        ("last_client_response_size", "84"),
        ("connection_request_count", "2"),
        ("cnt_readlatency", "5"),
        ("cnt_updatelatency", "9"),
        ("avg_updatelatency", "2.5"),
        ("max_updatelatency", "2"),
        ("sum_updatelatency", "22"),
        ("p99_updatelatency", "2"),
        ("cnt_node_changed_watch_count", "1"),
        ("max_node_changed_watch_count", "2"),
        ("cnt_node_deleted_watch_count", "0"),
        ("avg_fsynctime", "2.4"),
        ("max_fsynctime", "2"),
        ("sum_sync_processor_batch_size", "3"),
    ] {
        assert_eq!(scene.metric(key), expect, "{key}");
    }
}

#[test]
fn reads_behind_writes_are_measured() {
    let mut scene = Scene::new("*");
    let a = scene.connect(1, 10_000, 0);
    let mut frames = Vec::new();
    for (xid, op) in [(1, OpCode::SetData), (2, OpCode::Exists)] {
        let start = begin_frame(&mut frames);
        put_i32(&mut frames, xid);
        put_i32(&mut frames, op.code());
        put_str(&mut frames, "/");
        match op {
            OpCode::Exists => put_bool(&mut frames, false),
            _ => {
                put_buffer(&mut frames, Some(b""));
                put_i32(&mut frames, -1);
            }
        }
        end_frame(&mut frames, start);
    }
    scene.handle(Input::Frames { conn: a, bytes: &frames });
    assert_eq!(scene.metric("avg_readlatency"), "2.5");
}

#[test]
fn srst_resets_everything_but_gauges() {
    let (mut scene, ..) = busy();
    scene.context.measures.db_init.record(5000);
    let bad = scene.connect(3, 10_000, 0);
    scene.request(bad, OpCode::Auth, |out| {
        put_i32(out, 0);
        put_str(out, "no-such-scheme");
        put_buffer(out, Some(b"x"));
    });
    assert_eq!(scene.metric("auth_failed_count"), "1");
    scene.word(b"srst", b"");
    let srvr = scene.word(b"srvr", b"");
    let expect = "Latency min/avg/max: 0/0.0/0\nReceived: 1\nSent: 1\n";
    assert!(srvr.contains(expect), "{srvr}");
    for (key, expect) in [
        ("cnt_dbinittime", "0"),
        ("cnt_updatelatency", "0"),
        ("p999_updatelatency", "0"),
        ("connection_request_count", "0"),
        ("last_client_response_size", "-1"),
        ("min_client_response_size", "-1"),
        ("znode_count", "9"),
        ("auth_failed_count", "1"),
    ] {
        assert_eq!(scene.metric(key), expect, "{key}");
    }
}

#[test]
fn quotas_are_summed_by_namespace() {
    let mut scene = Scene::new("*");
    let a = scene.connect(1, 10_000, 0);
    for path in ["/q", "/q/x", "/q/y"] {
        scene.create(a, path, b"abc", 0);
    }
    let quotas = [("/q/x", "count=2,bytes=10"), ("/q/y", "count=3,bytes=5=;byteHardLimit=7")];
    scene.create(a, "/zookeeper/quota/q", b"", 0);
    for (path, limits) in quotas {
        scene.create(a, &format!("/zookeeper/quota{path}"), b"", 0);
        let at = format!("/zookeeper/quota{path}/zookeeper");
        scene.create(a, &format!("{at}_limits"), limits.as_bytes(), 0);
        scene.create(a, &format!("{at}_stats"), b"count=1,bytes=3", 0);
    }
    assert_eq!(scene.metric("q_quota_count_limit_per_namespace"), "5");
    assert_eq!(scene.metric("q_quota_bytes_limit_per_namespace"), "17");
    assert_eq!(scene.metric("q_quota_count_usage_per_namespace"), "2");
    assert_eq!(scene.metric("q_quota_bytes_usage_per_namespace"), "6");
    assert!(!scene.word(b"mntr", b"").contains("quota_exceeded"));
    scene.create(a, "/q/y/z", b"12345", 0);
    assert_eq!(scene.metric("q_quota_exceeded_error_per_namespace"), "1");
}

/// As an Apache 3.9.5 counts such requests.
#[test]
fn bytes_are_summed_by_namespace() {
    let mut scene = Scene::new("*");
    let a = scene.connect(1, 10_000, 0);
    assert!(!scene.word(b"mntr", b"").contains("per_namespace"));
    for (path, data) in [("/ns1", "abc"), ("/ns1/b", "abc"), ("/ns2", ""), ("/ns2/x/y", "abc")] {
        scene.create(a, path, data.as_bytes(), 0);
    }
    for path in ["/ns1/b", "/", "/nope", "/nope2/kk"] {
        scene.read(a, OpCode::GetData, path, false);
    }
    scene.read(a, OpCode::Exists, "/ns2", false);
    for path in ["/", "/ns1"] {
        scene.read(a, OpCode::GetChildren, path, false);
    }
    scene.read(a, OpCode::GetChildren2, "/ns1", false);
    scene.set(a, "/ns1");
    scene.set(a, "/");
    scene.request(a, OpCode::Delete, |out| {
        put_str(out, "/ns1/b");
        put_i32(out, -1);
    });
    scene.create(a, "/ee", b"1234", 1);
    scene.request(a, OpCode::CloseSession, |_| {});
    let shown = |text: String, of: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(of));
        lines.map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect()
    };
    let text = scene.word(b"mntr", b"");
    assert_eq!(shown(text.clone(), "_ns1_read_"), ["74.3333", "73", "77", "3", "223"]);
    assert_eq!(shown(text.clone(), "_ns2_read_"), ["72.0", "72", "72", "1", "72"]);
    assert_eq!(shown(text.clone(), "_ns1_write_"), ["7.0", "6", "9", "4", "28"]);
    assert_eq!(shown(text.clone(), "_ns2_write_"), ["4.0", "4", "4", "1", "4"]);
    assert_eq!(shown(text.clone(), "_ee_write_"), ["5.0", "3", "7", "2", "10"]);
    assert_eq!(text.matches("per_namespace").count(), 5 * 5);
    scene.word(b"srst", b"");
    let text = scene.word(b"mntr", b"");
    assert_eq!(shown(text.clone(), "_ns1_read_"), ["0.0", "0", "0", "0", "0"]);
    assert_eq!(text.matches("per_namespace").count(), 5 * 5);
}
