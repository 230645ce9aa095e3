//! Random well-formed requests, one function per group of opcodes.

use crate::codec::{Writer, quote};
use crate::generate::{Generator, Theme};
use crate::history::{Request, Since};
use ringkeeper::pipeline::Multi;
use ringkeeper::wire::Reader;

/// Texts of quota limits, soft and hard.
const LIMITS: [&str; 7] = [
    "count=3,bytes=-1",
    "count=-1,bytes=20",
    "count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=6",
    "count=-1,bytes=-1=;countHardLimit=5",
    "count=-1,bytes=-1=;byteHardLimit=30",
    "count=2,bytes=-1=;countHardLimit=0",
    "count=5,bytes=30=;byteHardLimit=60;countHardLimit=-1",
];

/// Identities that can be proved.
const USUAL_IDS: [&str; 5] = ["bob:pw", "bob:pw", "bob:pw", "alice:secret", "super:admin"];

/// What clients write into the statistics of a new quota.
const UNUSED: &str = "count=-1,bytes=-1";

const MULTI_END: (i32, u8, i32) = (-1, 1, -1);

/// Any request that must be answered alike.
pub fn any(g: &mut Generator) -> Request {
    match g.below(1000) {
        0..170 => create(g, 1),
        170..230 => create(g, 15),
        230..260 => create(g, 19),
        260..290 => create_ttl(g),
        290..380 => path_version(g, 2, "delete"),
        380..450 => path_flag(g, 3, "exists"),
        450..510 => path_flag(g, 4, "getData"),
        510..600 => set_data(g),
        600..625 => path_only(g, 6, "getACL"),
        625..660 => set_acl(g),
        660..700 => path_flag(g, 8, "getChildren"),
        700..730 => path_flag(g, 12, "getChildren2"),
        730..745 => path_only(g, 9, "sync"),
        745..750 => g.numbered(11, Writer::new(), "ping".into()),
        750..820 => multi(g),
        820..835 => multi_read(g),
        835..860 => path_int(g, 17, "checkWatches", &[1, 2, 3, 3, 4, 5, 0, 6]),
        860..885 => path_int(g, 18, "removeWatches", &[1, 2, 3, 3, 4, 5, 0, 6]),
        885..915 => path_int(g, 106, "addWatch", &[0, 0, 0, 1, 1, 1, 2, -1]),
        915..930 => set_watches(g),
        930..938 => path_only(g, 103, "getEphemerals"),
        938..946 => path_only(g, 104, "getAllChildrenNumber"),
        946..952 => g.numbered(107, Writer::new(), "whoAmI".into()),
        952..972 => auth(g),
        972..985 if g.theme == Theme::Quota => quota(g),
        972..985 => path_flag(g, 3, "exists"),
        985..994 => g.numbered(-11, Writer::new(), "closeSession".into()),
        _ => rare(g),
    }
}

/// Nodes that most histories start with.
pub fn preamble(g: &mut Generator) -> Vec<Request> {
    let mut out = Vec::new();
    if g.theme == Theme::Quota {
        let quota = format!("/zookeeper/quota{}", g.root);
        let limits = g.pick(&LIMITS);
        let nodes = [("", ""), ("/zookeeper_limits", limits), ("/zookeeper_stats", UNUSED)];
        for (tail, data) in nodes {
            out.push(make(g, &format!("{quota}{tail}"), data));
        }
    }
    if g.percent(80) {
        for tail in ["/a", "/b", "/a/a", "/a/b"] {
            let path = format!("{}{tail}", g.root);
            out.push(make(g, &path, "data"));
        }
    }
    out
}

fn make(g: &mut Generator, path: &str, data: &str) -> Request {
    g.numbered(1, plain_create(path, data), format!("create {path} {data}"))
}

/// A request that serves the theme of the history.
pub fn themed(g: &mut Generator) -> Request {
    match (g.theme, g.below(10)) {
        (Theme::Mixed, _) => any(g),
        (Theme::Watches, 0) => set_watches(g),
        (Theme::Watches, 1 | 2) => path_int(g, 106, "addWatch", &[0, 1]),
        (Theme::Watches, 3) => watch_kind(g),
        (Theme::Watches, 4 | 5) => watching_read(g),
        (Theme::Auth, 0 | 1) => auth(g),
        (Theme::Auth, 2) => g.numbered(107, Writer::new(), "whoAmI".into()),
        (Theme::Auth, 3 | 4) => simple_acl(g),
        (Theme::Auth, 5) => create(g, 1),
        (Theme::Auth, 6) => path_only(g, 6, "getACL"),
        (Theme::Acl, 0) => auth(g),
        (Theme::Acl, 1) => set_acl(g),
        (Theme::Acl, 2 | 3) => simple_acl(g),
        (Theme::Acl, 4) => path_only(g, 6, "getACL"),
        (Theme::Acl, 5) => create(g, 1),
        (Theme::Acl, 6) => watching_read(g),
        (Theme::Quota, 0 | 1) => quota(g),
        (Theme::Multi, 0..6) => simple_multi(g),
        (Theme::Pipelines, 0) => simple_multi(g),
        (Theme::Pipelines, 1 | 2) => watching_read(g),
        (Theme::Pipelines, 3) if g.percent(20) => {
            g.numbered(-11, Writer::new(), "closeSession".into())
        }
        (Theme::Pipelines, 3..6) => {
            let flags = g.pick(&[0, 1, 1, 2, 3, 4]);
            simple_create(g, flags)
        }
        (Theme::Sessions, 0) => g.numbered(-11, Writer::new(), "closeSession".into()),
        (Theme::Sessions, 1) => path_only(g, 103, "getEphemerals"),
        (Theme::Sessions, 2..5) => {
            let flags = g.pick(&[1, 1, 3]);
            simple_create(g, flags)
        }
        _ => simple_write(g),
    }
}

/// A read of an ordinary path that leaves a watch.
fn watching_read(g: &mut Generator) -> Request {
    let reads = [(3, "exists"), (4, "getData"), (8, "getChildren"), (12, "getChildren2")];
    let ((op, name), path) = (g.pick(&reads), g.ordinary_path());
    g.numbered(op, Writer::new().text(&path).byte(1), format!("{name} {path} watch=1"))
}

/// Checks or removes the watches of one kind on an ordinary path.
fn watch_kind(g: &mut Generator) -> Request {
    let (path, kind) = (g.ordinary_path(), g.pick(&[1, 2, 3, 4, 5]));
    let (op, name) = g.pick(&[(17, "checkWatches"), (18, "removeWatches")]);
    g.numbered(op, Writer::new().text(&path).int(kind), format!("{name} {path} {kind}"))
}

/// A request that leaves a watch, of any kind.
pub fn watching(g: &mut Generator) -> Request {
    if g.percent(70) {
        return watching_read(g);
    }
    let (path, mode) = (g.ordinary_path(), g.pick(&[0, 1]));
    g.numbered(106, Writer::new().text(&path).int(mode), format!("addWatch {path} {mode}"))
}

/// Valid ACLs that forbid something to somebody, on an ordinary path.
fn simple_acl(g: &mut Generator) -> Request {
    let (path, perms) = (g.ordinary_path(), g.pick(&[31, 1, 2, 4, 8, 16, 30, 29, 27, 23, 15]));
    let entries = [
        ("world", "anyone"),
        ("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM="),
        ("digest", "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E="),
        ("ip", "127.0.0.1"),
        ("ip", "10.0.0.0/8"),
    ];
    let (scheme, id) = g.pick(&entries);
    let body = Writer::new().text(&path).int(1).int(perms).text(scheme).text(id).int(-1);
    g.numbered(7, body, format!("setACL {path} acl=[{perms}:{scheme}:{id}] version=-1"))
}

/// A write that succeeds if the node's existence and ACLs allow it.
pub fn simple_write(g: &mut Generator) -> Request {
    let path = g.ordinary_path();
    match g.below(10) {
        0..4 => {
            let flags = g.pick(&[0, 0, 0, 1, 2]);
            simple_create(g, flags)
        }
        4..7 => {
            let data = g.data();
            let text = format!("setData {path} data={} version=-1", quote(data.as_deref()));
            g.numbered(5, Writer::new().text(&path).buffer(data.as_deref()).int(-1), text)
        }
        _ => g.numbered(2, Writer::new().text(&path).int(-1), format!("delete {path} version=-1")),
    }
}

/// Mostly creates of ephemerals.
pub fn ephemeral(g: &mut Generator) -> Request {
    if g.percent(70) { simple_create(g, 1) } else { simple_write(g) }
}

fn simple_create(g: &mut Generator, flags: i32) -> Request {
    let (path, data, op) = (g.ordinary_path(), g.data(), g.pick(&[1, 1, 15]));
    let body = Writer::new().text(&path).buffer(data.as_deref()).int(1).int(31);
    let body = body.text("world").text("anyone").int(flags);
    let name = if op == 1 { "create" } else { "create2" };
    let text = format!("{name} {path} data={} acl=open flags={flags}", quote(data.as_deref()));
    g.numbered(op, body, text)
}

fn simple_multi(g: &mut Generator) -> Request {
    let count = 1 + g.below(4);
    let parts: Vec<Request> = (0..count).map(|_| simple_write(g)).collect();
    multi_of(g, &parts)
}

/// The record of a multi of these opcodes and records.
pub fn multi_body(parts: &[(i32, &[u8])]) -> Writer {
    let head = |writer: Writer, op| writer.int(op).byte(0).int(-1);
    let body = parts.iter().fold(Writer::new(), |body, (op, part)| head(body, *op).raw(part));
    let (kind, done, err) = MULTI_END;
    body.int(kind).byte(done).int(err)
}

/// A write that changes nothing whether it is carried out or not, but for the zxid it takes.
pub fn futile(g: &mut Generator) -> Request {
    let path = format!("{}/none/none", g.root);
    let delete = Writer::new().text(&path).int(-1);
    match g.below(4) {
        0 => g.numbered(2, delete, format!("delete {path} version=-1")),
        1 => {
            let body = Writer::new().text(&path).buffer(Some(b"x")).int(-1);
            g.numbered(5, body, format!("setData {path} x"))
        }
        2 => g.numbered(14, multi_body(&[(2, &delete.0)]), format!("multi {{ delete {path} }}")),
        _ => make(g, &path, ""),
    }
}

fn multi_of(g: &mut Generator, parts: &[Request]) -> Request {
    let mut body = Writer::new();
    for part in parts {
        body = body.int(part.op).byte(0).int(g.pick(&[-1, -1, 0])).raw(&part.body);
    }
    let (kind, done, err) = MULTI_END;
    let text: Vec<_> = parts.iter().map(|part| part.text.as_str()).collect();
    let text = format!("multi {{ {} }}", text.join("; "));
    g.numbered(14, body.int(kind).byte(done).int(err), text)
}

/// Whether the reply is always the same, and its place in the stream fixed or an auth packet's.
pub fn may_be_pipelined(op: i32) -> bool {
    matches!(op, -11 | 1..=9 | 11..=12 | 14..=15 | 17..=19 | 21..=22 | 100..=101 | 103..=107)
}

/// Whether it is an auth packet that may fail.
pub fn is_bad_auth(request: &Request) -> bool {
    let is_good = |id: &&str| request.text.ends_with(&format!("\"digest\" {id:?}"));
    request.op == 100 && !USUAL_IDS.iter().any(is_good)
}

/// Whether it is a multi with a path or an identity that is null, which ends it on the reference
/// without taking its changes back.
pub fn is_torn_multi(request: &Request) -> bool {
    request.op == 14 && [" null", ":null"].iter().any(|n| request.text.contains(n))
}

/// Whether ensembles of both kinds answer it alike.
pub fn is_for_members(request: &Request) -> bool {
    !ends_ensemble(request) && !is_refused_by_members(request) && !makes_odd_node(request)
}

/// Whether it makes a node of a kind that needs more than a create has. A leader of Apache's looks
/// at that before it sees that a session has moved, and Ringkeeper's after it.
fn makes_odd_node(request: &Request) -> bool {
    let count = |parts: &[&str]| -> usize {
        parts.iter().map(|part| request.text.matches(part).count()).sum()
    };
    let good_ttls = count(&["flags=5 ttl=5000000", "flags=6 ttl=5000000"]);
    match request.op {
        1 | 15 | 19 => count(&["flags=5", "flags=6", "flags=7", "flags=-"]) > 0,
        14 | 21 => count(&["createTTL "]) > good_ttls,
        _ => false,
    }
}

/// Whether a member of ours answers the request itself: a multi that it cannot read, and a request
/// for other members. In Apache's ensembles the error is a transaction.
fn is_refused_by_members(request: &Request) -> bool {
    request.op == 16
        || request.op == 14 && Multi::check(Reader::new(&request.body), |_| {}).is_err()
}

/// Whether an ensemble of Apache's may commit nothing any more after this request: one that its
/// leader cannot read becomes no transaction, and is waited for.
fn ends_ensemble(request: &Request) -> bool {
    let is_damaged = request.text.contains("MUTATED") && !request.text.contains("appended");
    let is_unreadable_multi = is_torn_multi(request) || request.text.contains("acl=null");
    (request.is_write() || request.op == 13) && is_damaged
        || request.op == 14 && is_unreadable_multi
}

/// Whether it creates a container with the flag of an ephemeral.
pub fn makes_odd_container(request: &Request) -> bool {
    let mut parts = request.text.split("; ");
    parts.any(|part| part.contains("createContainer ") && part.contains(" flags=1"))
}

/// Whether an auth packet has no scheme.
pub fn is_schemeless(request: &Request) -> bool {
    request.body.get(4..8) == Some(&[0xff; 4])
}

fn show(path: Option<&[u8]>) -> String {
    quote(path)
}

fn path_only(g: &mut Generator, op: i32, name: &str) -> Request {
    let path = g.path();
    let text = format!("{name} {}", show(path.as_deref()));
    g.numbered(op, Writer::new().buffer(path.as_deref()), text)
}

fn path_flag(g: &mut Generator, op: i32, name: &str) -> Request {
    let (path, watch) = (g.path(), g.pick(&[0u8, 1, 1, 1, 2]));
    let text = format!("{name} {} watch={watch}", show(path.as_deref()));
    g.numbered(op, Writer::new().buffer(path.as_deref()).byte(watch), text)
}

fn path_int(g: &mut Generator, op: i32, name: &str, values: &[i32]) -> Request {
    let (path, value) = (g.path(), g.pick(values));
    let text = format!("{name} {} {value}", show(path.as_deref()));
    g.numbered(op, Writer::new().buffer(path.as_deref()).int(value), text)
}

fn version(g: &mut Generator) -> i32 {
    g.pick(&[-1, -1, -1, -1, -1, 0, 0, 1, 2, -2, i32::MAX])
}

fn path_version(g: &mut Generator, op: i32, name: &str) -> Request {
    let (path, version) = (g.path(), version(g));
    let text = format!("{name} {} version={version}", show(path.as_deref()));
    g.numbered(op, Writer::new().buffer(path.as_deref()).int(version), text)
}

fn set_data(g: &mut Generator) -> Request {
    let (path, data, version) = (g.path(), g.data(), version(g));
    let text = format!(
        "setData {} data={} version={version}",
        show(path.as_deref()),
        quote(data.as_deref())
    );
    let body = Writer::new().buffer(path.as_deref()).buffer(data.as_deref()).int(version);
    g.numbered(5, body, text)
}

fn set_acl(g: &mut Generator) -> Request {
    let (path, (acl, acl_text), version) = (g.path(), g.acl(), version(g));
    let text = format!("setACL {} acl={acl_text} version={version}", show(path.as_deref()));
    let body = Writer::new().buffer(path.as_deref()).raw(&acl.0).int(version);
    g.numbered(7, body, text)
}

fn create_body(g: &mut Generator, flags: i32) -> (Writer, String) {
    let (path, data, (acl, acl_text)) = (g.path(), g.data(), g.acl());
    let text = format!(
        "{} data={} acl={acl_text} flags={flags}",
        show(path.as_deref()),
        quote(data.as_deref())
    );
    let writer = Writer::new().buffer(path.as_deref()).buffer(data.as_deref());
    (writer.raw(&acl.0).int(flags), text)
}

fn create(g: &mut Generator, op: i32) -> Request {
    let flags = match op {
        19 => g.pick(&[4, 4, 4, 4, 0, 1, 2, 5, 7]),
        _ => g.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, -1]),
    };
    let (body, text) = create_body(g, flags);
    let name = match op {
        1 => "create",
        15 => "create2",
        _ => "createContainer",
    };
    g.numbered(op, body, format!("{name} {text}"))
}

/// Never a flag of another mode with a negative TTL: that passes the reference's checks and then
/// ends its process.
fn create_ttl(g: &mut Generator) -> Request {
    let (flags, ttl) = ttl(g);
    let (body, text) = create_body(g, flags);
    g.numbered(21, body.long(ttl), format!("createTTL {text} ttl={ttl}"))
}

fn ttl(g: &mut Generator) -> (i32, i64) {
    let limit = 0xff_ffff_ffff;
    match g.below(10) {
        0 => (g.pick(&[0, 1, 2, 3, 4]), g.pick(&[0, 1, 5_000_000])),
        1 => (7, 1),
        _ => {
            let ttl = g.pick(&[5_000_000, 5_000_000, 5_000_000, limit, limit + 1, 0, -1, i64::MIN]);
            (g.pick(&[5, 5, 6]), ttl)
        }
    }
}

fn multi(g: &mut Generator) -> Request {
    let count = g.pick(&[0, 1, 2, 2, 3, 3, 4, 6]);
    let parts: Vec<Request> = (0..count).map(|_| sub_request(g)).collect();
    multi_of(g, &parts)
}

fn sub_request(g: &mut Generator) -> Request {
    match g.below(100) {
        0..35 => create(g, 1),
        35..45 => create(g, 15),
        45..50 => create(g, 19),
        50..55 => create_ttl(g),
        55..70 => path_version(g, 2, "delete"),
        70..85 => set_data(g),
        85..97 => path_version(g, 13, "check"),
        97 => set_acl(g),
        98 => path_flag(g, 4, "getData"),
        _ => g.numbered(99, Writer::new(), "type 99".into()),
    }
}

fn multi_read(g: &mut Generator) -> Request {
    let count = g.below(5);
    let mut body = Writer::new();
    let mut text = Vec::new();
    for _ in 0..count {
        let request = match g.below(20) {
            0..10 => path_flag(g, 4, "getData"),
            10..18 => path_flag(g, 8, "getChildren"),
            18 => path_version(g, 2, "delete"),
            _ => path_flag(g, 3, "exists"),
        };
        body = body.int(request.op).byte(0).int(-1).raw(&request.body);
        text.push(request.text);
    }
    let (kind, done, err) = MULTI_END;
    let body = body.int(kind).byte(done).int(err);
    g.numbered(22, body, format!("multiRead {{ {} }}", text.join("; ")))
}

/// setWatches or setWatches2 with a few paths.
pub fn set_watches(g: &mut Generator) -> Request {
    let relative = g.pick(&[0i64, 1, 3, 6, 10, 20, 30, 1_000]);
    let is_two = g.percent(50);
    let lists: Vec<_> = (0..if is_two { 5 } else { 3 }).map(|_| g.paths()).collect();
    let mut body = Writer::new().long(relative);
    let mut text = Vec::new();
    for (name, list) in ["data", "exist", "child", "persistent", "recursive"].iter().zip(&lists) {
        body = body.paths(list.as_deref());
        let shown = list.as_ref().map_or("null".to_owned(), |paths| {
            paths.iter().map(|p| show(p.as_deref())).collect::<Vec<_>>().join(" ")
        });
        text.push(format!("{name}=[{shown}]"));
    }
    let (op, name) = if is_two { (105, "setWatches2") } else { (101, "setWatches") };
    let text = format!("{name} relativeZxid=z+{relative} {}", text.join(" "));
    Request { since: Some(Since::Start), ..g.numbered(op, body, text) }
}

/// An auth packet, good or bad.
pub fn auth(g: &mut Generator) -> Request {
    let odd = ["bob:wrong", "super:wrong", "no colon", "", ":", "\u{1f600}:x", "a:b:c"];
    let (scheme, id) = match g.below(40) {
        0 => (Some("ip"), Some("9.9.9.9")),
        1 => (Some("world"), Some("anyone")),
        2 => (Some("nosuch"), Some("x")),
        3 => (Some("digest"), None),
        4 => (None, Some("x")),
        5 => (Some("sasl"), Some("bob")),
        6 => (Some("ip"), None),
        7 => (Some("auth"), Some("")),
        8 => (Some("super"), Some("x")),
        9..18 => (Some("digest"), Some(g.pick(&odd))),
        _ => (Some("digest"), Some(g.pick(&USUAL_IDS))),
    };
    let bytes = |s: Option<&str>| s.map(|s| s.as_bytes().to_vec());
    let (scheme, id) = (bytes(scheme), bytes(id));
    let kind = g.pick(&[0, 0, 0, 7]);
    let text = format!("auth {} {}", quote(scheme.as_deref()), quote(id.as_deref()));
    let body = Writer::new().int(kind).buffer(scheme.as_deref()).buffer(id.as_deref());
    g.numbered(100, body, text)
}

/// Quota nodes for the root of the history or a node below, made in one multi, and changes of
/// them. Never a limit on `/` and never text without numbers: both end the reference server.
fn quota(g: &mut Generator) -> Request {
    let tail = g.pick(&["", "", "/a"]);
    let below = format!("{}{tail}", g.root);
    let text = g.pick(&LIMITS);
    let quota = format!("/zookeeper/quota{below}");
    let limits = format!("{quota}/zookeeper_limits");
    let stats = format!("{quota}/zookeeper_stats");
    match g.below(8) {
        0 => path_text(g, 4, &stats, 0, "getData"),
        1 => path_text(g, 4, &limits, 0, "getData"),
        2 => {
            let body = Writer::new().text(&limits).int(-1);
            g.numbered(2, body, format!("delete {limits}"))
        }
        3 => {
            let body = Writer::new().text(&limits).text(text).int(-1);
            g.numbered(5, body, format!("setData {limits} {text}"))
        }
        _ => {
            let mut parents: Vec<String> = Vec::new();
            let mut at = "/zookeeper/quota".len();
            while let Some(next) = quota[at + 1..].find('/') {
                at += 1 + next;
                parents.push(quota[..at].to_owned());
            }
            parents.push(quota);
            // A multi stops at the first parent that exists, so make them one by one at random.
            if g.percent(50) {
                let path = g.pick(&parents);
                let body = plain_create(&path, "");
                return g.numbered(1, body, format!("create {path}"));
            }
            let (path, data) = g.pick(&[(limits.as_str(), text), (stats.as_str(), UNUSED)]);
            g.numbered(1, plain_create(path, data), format!("create {path} {data}"))
        }
    }
}

fn plain_create(path: &str, data: &str) -> Writer {
    plain_create_of(path, data.as_bytes())
}

/// The record of a create of an ordinary node.
pub fn plain_create_of(path: &str, data: &[u8]) -> Writer {
    let writer = Writer::new().text(path).buffer(Some(data)).int(1).int(31);
    writer.text("world").text("anyone").int(0)
}

fn path_text(g: &mut Generator, op: i32, path: &str, watch: u8, name: &str) -> Request {
    g.numbered(op, Writer::new().text(path).byte(watch), format!("{name} {path}"))
}

/// Requests that end a connection or are refused as a whole.
fn rare(g: &mut Generator) -> Request {
    match g.below(8) {
        0 => {
            let op = g.pick(&[10, 23, 99, 108, 1000, -2, -12, i32::MIN, i32::MAX]);
            g.numbered(op, Writer::new(), format!("unknown opcode {op}"))
        }
        1 => {
            let op = g.pick(&[0, -1]);
            g.numbered(op, Writer::new(), format!("internal opcode {op}"))
        }
        2 => path_version(g, 13, "check outside multi"),
        3 | 4 => {
            let token = g.pick(&[None, Some(&b""[..]), Some(&b"token"[..])]);
            let text = format!("sasl {}", quote(token));
            g.numbered(102, Writer::new().buffer(token), text)
        }
        _ => {
            let members = g.pick(&[None, Some(&b"server.1=a:1:2;3"[..])]);
            let body = Writer::new().buffer(None).buffer(None).buffer(members).long(-1);
            g.numbered(16, body, format!("reconfig newMembers={}", quote(members)))
        }
    }
}

/// Requests on which the servers differ on purpose, see `known`.
pub fn on_purpose(g: &mut Generator) -> Request {
    if g.percent(50) {
        return path_only(g, 20, "deleteContainer from a client");
    }
    g.numbered(-10, Writer::new().int(30_000), "createSession from a client".into())
}
