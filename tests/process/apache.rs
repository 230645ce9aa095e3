//! Taking over from Apache ZooKeeper on the same directory, and handing back.

use std::collections::BTreeMap;
use std::path::Path;

use ringkeeper::log::GUARD_NAME;

use crate::util::{Client, Jute, Kind, Options, Server, Session, Stat, op};

/// All that a client can see of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    data: Option<Vec<u8>>,
    stat: Stat,
    acl: Vec<(i32, String, String)>,
    children: Vec<String>,
}

/// Everything below `/`, read as the super user.
fn tree(server: &Server) -> BTreeMap<String, Node> {
    let mut client = server.connect();
    client.auth("digest", "super:test").ok();
    let mut found = BTreeMap::new();
    let mut queue = vec!["/".to_owned()];
    while let Some(path) = queue.pop() {
        let reply = client.get_data(&path, false);
        let mut body = reply.ok();
        let (data, stat) = (body.buffer().map(<[u8]>::to_vec), body.stat());
        let acl = client.request(op::GET_ACL, Jute::new().string(&path)).ok().acl();
        let children = client.children(&path, false);
        let prefix = if path == "/" { "" } else { &path };
        queue.extend(children.iter().map(|name| format!("{prefix}/{name}")));
        found.insert(path, Node { data, stat, acl, children });
    }
    client.close();
    found
}

/// A create of an open node, for the operations that take one.
fn make(path: &str, flags: i32) -> Jute {
    Jute::new().string(path).buffer(b"data").open_acl().int(flags)
}

/// One that succeeds and one that fails.
fn write_multis(c: &mut Client) {
    let multi = Jute::new()
        .multi_header(op::CREATE)
        .raw(&make("/multi", 0).0)
        .multi_header(op::CREATE)
        .raw(&make("/multi/a", 0).0)
        .multi_header(op::SET_DATA)
        .string("/multi")
        .buffer(b"two")
        .int(0)
        .multi_header(op::CHECK)
        .string("/multi")
        .int(1)
        .multi_header(op::DELETE)
        .string("/multi/a")
        .int(-1)
        .multi_end();
    c.request(op::MULTI, multi).ok();
    let failing = Jute::new()
        .multi_header(op::CREATE)
        .raw(&make("/never", 0).0)
        .multi_header(op::DELETE)
        .string("/nowhere")
        .int(-1)
        .multi_end();
    c.request(op::MULTI, failing);
}

/// Some of everything; returns a session with ephemerals that goes on.
fn write_some_of_everything(server: &Server) -> Session {
    let mut c = server.connect();
    c.auth("digest", "bob:secret").ok();
    c.request(op::CREATE, make("/plain", 0)).ok();
    c.request(op::CREATE2, make("/plain/child", 0)).ok();
    for _ in 0..3 {
        c.request(op::CREATE, make("/plain/seq-", 2)).ok();
    }
    c.request(op::CREATE, Jute::new().string("/null").null().open_acl().int(0)).ok();
    c.request(op::CREATE, Jute::new().string("/umlaut-ü-\u{20ac}").buffer(b"").open_acl().int(0))
        .ok();
    c.request(op::CREATE_CONTAINER, make("/container", 4)).ok();
    c.request(op::CREATE_TTL, make("/ttl", 5).long(3_600_000)).ok();
    c.request(op::CREATE_TTL, make("/ttl-seq-", 6).long(3_600_000)).ok();
    for number in 0..20 {
        c.set("/plain", format!("version {number}").as_bytes(), number).ok();
    }
    c.set("/plain", &vec![b'x'; 200_000], -1).ok();
    let sealed = Jute::new().string("/sealed").buffer(b"s");
    c.request(op::CREATE, sealed.acl(&[(31, "auth", ""), (1, "ip", "10.0.0.0/8")]).int(0)).ok();
    c.request(
        op::SET_ACL,
        Jute::new()
            .string("/plain/child")
            .acl(&[(1, "world", "anyone"), (15, "digest", "a:b")])
            .int(0),
    )
    .ok();
    c.create("/gone", b"", 0).ok();
    c.delete("/gone", 0).ok();
    // Errors take a zxid too.
    assert_eq!(c.delete("/nowhere", -1).err, -101);
    assert_eq!(c.set("/plain", b"", 3).err, -103);
    assert_eq!(c.create("/plain", b"", 0).err, -110);
    write_multis(&mut c);
    let quota = "/zookeeper/quota/plain";
    c.create(quota, b"", 0).ok();
    c.create(&format!("{quota}/zookeeper_limits"), b"count=1000,bytes=-1", 0).ok();
    c.create(&format!("{quota}/zookeeper_stats"), b"count=5,bytes=200000", 0).ok();
    c.create("/plain/counted", b"12345", 0).ok();
    c.create("/plain/mine", b"e", 1).ok();
    c.create("/plain/mine-", b"e", 3).ok();
    let mut closed = server.connect();
    closed.create("/plain/theirs", b"", 1).ok();
    closed.close();
    for number in 0..500 {
        c.create(&format!("/many-{number}"), b"0123456789", 0).ok();
    }
    c.abandon().0
}

fn options(kind: Kind, properties: &[&str]) -> Options {
    let superuser =
        "zookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
    let usual = [superuser, "zookeeper.extendedTypesEnabled=true"];
    Options {
        kind,
        properties: usual.iter().chain(properties).map(|p| (*p).to_owned()).collect(),
        ..Options::default()
    }
}

/// Field by field, with the first difference in words.
fn assert_same(left: &BTreeMap<String, Node>, right: &BTreeMap<String, Node>) {
    let paths = |tree: &BTreeMap<String, Node>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(left), paths(right));
    for (path, node) in left {
        let other = &right[path];
        assert_eq!(node.stat, other.stat, "the stat of {path}");
        assert_eq!(node.acl, other.acl, "the ACL of {path}");
        assert_eq!(node.children, other.children, "the children of {path}");
        assert!(node.data == other.data, "the data of {path}");
    }
}

/// The session goes on with its nodes.
fn assert_reconnects(server: &Server, session: &Session) {
    let mut client = Client::reconnect(server.address(), session, 0);
    assert_eq!(client.session.id, session.id, "the session was lost");
    assert_eq!(client.session.timeout_ms, session.timeout_ms);
    let (_, stat) = client.get("/plain/mine");
    assert_eq!(stat.ephemeral_owner, session.id);
}

/// Names of the files in a directory that begin like this, sorted.
fn list(dir: &Path, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("directory");
    let names = entries.map(|entry| entry.expect("entry").file_name().display().to_string());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

fn files(server: &Server, prefix: &str) -> Vec<String> {
    list(&server.data_dir().join("version-2"), prefix)
}

fn has_file(dir: &Path, prefix: &str, suffix: &str) -> bool {
    list(&dir.join("version-2"), prefix).iter().any(|name| name.ends_with(suffix))
}

/// Apache writes and ends; Ringkeeper goes on there; Apache takes it back.
fn there_and_back(compression: &str, kill: bool, snap_count: &str) {
    let method = format!("zookeeper.snapshot.compression.method={compression}");
    let count = format!("zookeeper.snapCount={snap_count}");
    let properties: Vec<&str> =
        if compression.is_empty() { vec![&count] } else { vec![&count, &method] };
    let mut server = Server::start(options(Kind::Apache, &properties));
    let session = write_some_of_everything(&server);
    let written = tree(&server);
    if kill {
        server.kill()
    } else {
        server.stop()
    };

    *server.options_mut() = options(Kind::Ringkeeper, &properties);
    server.run();
    assert_same(&written, &tree(&server));
    assert_reconnects(&server, &session);
    assert!(!server.stderr().contains("DIGESTS DIFFER"), "{}", server.stderr());
    let mut client = server.connect();
    client.create("/ours", b"written by Ringkeeper", 0).ok();
    client.set("/plain", b"changed by Ringkeeper", -1).ok();
    client.delete("/many-7", -1).ok();
    client
        .request(op::SET_ACL, Jute::new().string("/many-8").acl(&[(31, "digest", "c:d")]).int(-1))
        .ok();
    client.close();
    // A crash first: from here on both kinds of log are needed.
    server.crash_and_restart();
    let changed = tree(&server);
    assert_reconnects(&server, &session);
    assert!(server.stop().success());
    let suffix = match compression {
        "gz" => ".gz",
        "snappy" => ".snappy",
        _ => "",
    };
    assert!(has_file(&server.data_dir(), "snapshot.", suffix));

    *server.options_mut() = options(Kind::Apache, &properties);
    server.run();
    assert_same(&changed, &tree(&server));
    assert_reconnects(&server, &session);
    server.kill();
}

/// As the README says: what a killed Ringkeeper left is started and stopped once more.
#[test]
fn apache_takes_over_after_a_kill_a_start_and_a_stop() {
    let mut server = Server::start(options(Kind::Ringkeeper, &[]));
    let mut client = server.connect();
    for number in 0..20 {
        client.create(&format!("/node-{number}"), b"kept", 0).ok();
    }
    client.abandon();
    server.wait_for_output(0, "is complete");
    server.kill();
    server.run();
    assert!(server.stop().success());
    *server.options_mut() = options(Kind::Apache, &[]);
    server.run();
    let mut client = server.connect();
    assert_eq!(client.get("/node-19").0, b"kept");
    client.close();
    server.kill();
    *server.options_mut() = options(Kind::Ringkeeper, &[]);
    server.run();
    assert_eq!(server.connect().children("/", false).len(), 21);
}

/// Apache is started on what a killed Ringkeeper left, serves an older state, and is left again.
#[test]
fn what_apache_wrote_on_an_older_state_is_no_continuation() {
    let mut server = Server::start(options(Kind::Ringkeeper, &[]));
    server.wait_for_output(0, "is complete");
    let mut client = server.connect();
    for number in 0..20 {
        client.create(&format!("/ours-{number}"), b"kept", 0).ok();
    }
    client.abandon();
    server.kill();
    *server.options_mut() = options(Kind::Apache, &[]);
    let (code, text) = server.run_to_end();
    assert!(code != Some(0) && text.contains("magic number"), "{code:?}: {text}");
    // The operator removes what keeps Apache away.
    let guard = server.data_dir().join("version-2").join(GUARD_NAME);
    std::fs::remove_file(guard).expect("a killed server leaves its guard file");
    // The second start leaves a snapshot of what the first one wrote.
    for round in 0..2 {
        server.run();
        let mut client = server.connect();
        assert_eq!(client.children("/", false).len(), 1 + round);
        client.create(&format!("/theirs-{round}"), b"", 0).ok();
        client.close();
        server.stop();
    }
    *server.options_mut() = options(Kind::Ringkeeper, &[]);
    let logs_and_snapshots = |server: &Server| {
        let all = files(server, "").into_iter();
        // What is unfinished and ours is removed by any start.
        all.filter(|name| !name.ends_with(".tmp")).collect::<Vec<_>>()
    };
    let before = logs_and_snapshots(&server);
    let (code, text) = server.run_to_end();
    assert_eq!(code, Some(3), "{text}");
    for part in ["mixes two histories", "from 0x0", "move log.1, all later log.*", "move wal.1 "] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert_eq!(logs_and_snapshots(&server), before);

    // As the message says, either way; the files are still there to change one's mind.
    let version_2 = server.data_dir().join("version-2");
    let aside = server.home().join("aside");
    std::fs::create_dir(&aside).expect("directory");
    let moves = |prefixes: &[&str], from: &Path, to: &Path| {
        for name in prefixes.iter().flat_map(|prefix| list(from, prefix)) {
            if name != "snapshot.0" {
                std::fs::rename(from.join(&name), to.join(&name)).expect("rename");
            }
        }
    };
    moves(&["log.", "snapshot."], &version_2, &aside);
    server.run();
    assert_eq!(server.connect().children("/", false).len(), 21);
    server.kill();
    moves(&["wal.", "spare."], &version_2, server.home());
    moves(&["log.", "snapshot."], &aside, &version_2);
    server.run();
    assert_eq!(server.connect().children("/", false), ["theirs-0", "theirs-1", "zookeeper"]);
}

#[test]
fn take_over_from_a_stopped_apache_and_back() {
    there_and_back("", false, "100000");
}

#[test]
fn take_over_from_a_killed_apache_with_many_snapshots() {
    there_and_back("", true, "100");
}

#[test]
fn take_over_with_gzip_snapshots() {
    there_and_back("gz", true, "150");
}

#[test]
fn take_over_with_snappy_snapshots() {
    there_and_back("snappy", false, "150");
}
