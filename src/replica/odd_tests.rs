//! Requests that no ordinary client sends, answered as Apache 3.9.5 answers them: whether a zxid
//! is spent, which code comes back, what of a reply's body remains. Each case was seen there with
//! `rk-diff`.

use std::net::SocketAddr;

use super::{CloseHow, Effect, Effects, Input, Replica, ReplicaOptions, Restored};
use crate::base::{CONTAINER_OWNER, ConnId, Instant, Now, SessionId};
use crate::leader::LeaderOptions;
use crate::pipeline::PrepareOptions;
use crate::tree::{Tree, TreeOptions};
use crate::wire::{
    begin_frame, connect_frame, end_frame, put_bool, put_buffer, put_i32, put_i64, put_multi_end,
};

const CONN: ConnId = ConnId(1 << 32);
const OPEN: &[(i32, Option<&str>, Option<&str>)] = &[(31, Some("world"), Some("anyone"))];

/// Entries of an ACL: permissions, scheme, id.
type Entries<'a> = &'a [(i32, Option<&'a str>, Option<&'a str>)];

/// A body under construction.
#[derive(Clone, Default)]
struct Body(Vec<u8>);

impl Body {
    fn int(mut self, v: i32) -> Body {
        put_i32(&mut self.0, v);
        self
    }

    fn long(mut self, v: i64) -> Body {
        put_i64(&mut self.0, v);
        self
    }

    fn flag(mut self, v: bool) -> Body {
        put_bool(&mut self.0, v);
        self
    }

    fn text(mut self, v: Option<&str>) -> Body {
        put_buffer(&mut self.0, v.map(str::as_bytes));
        self
    }

    fn raw(mut self, v: &[u8]) -> Body {
        self.0.extend_from_slice(v);
        self
    }

    fn acl(self, entries: Option<Entries<'_>>) -> Body {
        let Some(entries) = entries else { return self.int(-1) };
        let head = self.int(entries.len() as i32);
        entries
            .iter()
            .fold(head, |body, (perms, scheme, id)| body.int(*perms).text(*scheme).text(*id))
    }

    fn paths(self, paths: Option<&[Option<&str>]>) -> Body {
        let Some(paths) = paths else { return self.int(-1) };
        paths.iter().fold(self.int(paths.len() as i32), |body, path| body.text(*path))
    }
}

fn create(path: Option<&str>, acl: Option<Entries<'_>>, flags: i32) -> Body {
    Body::default().text(path).text(Some("")).acl(acl).int(flags)
}

fn delete(path: Option<&str>) -> Body {
    Body::default().text(path).int(-1)
}

fn set_data(path: Option<&str>, data: &str) -> Body {
    Body::default().text(path).text(Some(data)).int(-1)
}

fn watch(path: Option<&str>) -> Body {
    Body::default().text(path).flag(false)
}

fn multi(parts: &[(i32, Body)]) -> Body {
    let head = |body: Body, op: i32| body.int(op).flag(false).int(-1);
    let mut body =
        parts.iter().fold(Body::default(), |body, (op, part)| head(body, *op).raw(&part.0));
    put_multi_end(&mut body.0);
    body
}

/// One server and one client; what is written is durable at once.
struct Scene {
    replica: Replica,
    now: Now,
    effects: Effects,
    xid: i32,
}

impl Scene {
    fn new() -> Scene {
        let now = Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 };
        let prepare = PrepareOptions {
            extended_types: true,
            enforce_quota: true,
            ..PrepareOptions::default()
        };
        let leader = LeaderOptions { prepare, ..LeaderOptions::default() };
        let options = ReplicaOptions { leader, digest: false, ..ReplicaOptions::default() };
        let tree =
            Tree::new(TreeOptions { extended_types: true, digest: false, ..TreeOptions::STOCK });
        let restored = Restored::fresh(tree);
        let mut replica = Replica::for_tests(now, options, restored);
        replica.lead(now);
        let mut scene = Scene { replica, now, effects: Effects::default(), xid: 0 };
        scene.handle(Input::Opened { conn: CONN, peer: SocketAddr::from(([127, 0, 0, 1], 1)) });
        let frame = connect_frame(SessionId(0), 10_000);
        scene.handle(Input::Frames { conn: CONN, bytes: &frame });
        scene.effects.clear();
        scene
    }

    fn handle(&mut self, input: Input<'_>) {
        self.replica.handle(self.now, input, &mut self.effects);
        self.replica.flush(&mut self.effects);
        let appended = self.effects.list.iter().rev().find_map(|effect| match effect {
            Effect::Append(batch) => batch.last_zxid(),
            _ => None,
        });
        if let Some(zxid) = appended {
            self.replica.handle(self.now, Input::Logged { zxid }, &mut self.effects);
            self.replica.handle(self.now, Input::Committed { zxid }, &mut self.effects);
        }
        self.replica.check();
    }

    /// Sends a request; the frames that come back, without lengths.
    fn frames(&mut self, op: i32, body: &Body) -> Vec<Vec<u8>> {
        self.xid += 1;
        let mut frame = Vec::new();
        let start = begin_frame(&mut frame);
        put_i32(&mut frame, self.xid);
        put_i32(&mut frame, op);
        frame.extend_from_slice(&body.0);
        end_frame(&mut frame, start);
        self.effects.clear();
        self.handle(Input::Frames { conn: CONN, bytes: &frame });
        let mut frames = Vec::new();
        for effect in &self.effects.list {
            let Effect::Send { start, end, .. } = effect else { continue };
            let mut rest = &self.effects.bytes[*start..*end];
            while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
                frames.push(frame.to_vec());
                rest = tail;
            }
        }
        frames
    }

    /// Code, number of zxids spent, body of the one reply.
    fn ask(&mut self, op: i32, body: &Body) -> (i32, i64, Vec<u8>) {
        let before = self.replica.last_processed();
        let frames = self.frames(op, body);
        assert_eq!(frames.len(), 1, "op {op}");
        let after = self.replica.last_processed();
        let zxid = i64::from_be_bytes(frames[0][4..12].try_into().unwrap());
        assert_eq!(zxid, after.0, "op {op}");
        let code = i32::from_be_bytes(frames[0][12..16].try_into().unwrap());
        (code, after.0 - before.0, frames[0][16..].to_vec())
    }

    fn code(&mut self, op: i32, body: &Body) -> (i32, i64) {
        let (code, spent, _) = self.ask(op, body);
        (code, spent)
    }

    fn expect(&mut self, op: i32, body: &Body, code: i32, spent: i64) {
        assert_eq!(self.code(op, body), (code, spent), "op {op}: {:x?}", body.0);
    }

    /// As it is stored, which clients do not see.
    fn owner(&self, path: &str) -> Option<i64> {
        let tree = self.replica.tree();
        tree.find(&tree.key(path)).map(|node| tree.view(node).owner)
    }

    /// A multi that gets as far as its operations: their results' types and errors.
    fn results(&mut self, parts: &[(i32, Body)]) -> Vec<(i32, i32)> {
        let (code, spent, body) = self.ask(14, &multi(parts));
        assert_eq!((code, spent), (0, 1));
        let mut rest = &body[..];
        let mut found = Vec::new();
        let int = |rest: &[u8], at: usize| i32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        while rest[4] == 0 {
            let (kind, err) = (int(rest, 0), int(rest, 5));
            rest = &rest[9..];
            let length = match kind {
                -1 => 4,
                1 => 4 + int(rest, 0) as usize,
                15 => 4 + int(rest, 0) as usize + 68,
                5 => 68,
                _ => 0,
            };
            rest = &rest[length..];
            found.push((kind, err));
        }
        assert_eq!(rest.len(), 9);
        found
    }
}

#[test]
fn a_null_path_fails_where_the_path_is_first_looked_at() {
    let mut s = Scene::new();
    s.expect(2, &delete(None), -5, 1);
    for op in [1, 15, 19] {
        s.expect(op, &create(None, Some(OPEN), 0), -5, 1);
        s.expect(op, &create(None, None, 7), -8, 1);
        s.expect(op, &create(None, Some(OPEN), 5), -8, 1);
    }
    s.expect(21, &create(None, Some(OPEN), 5).long(9), -5, 1);
    s.expect(21, &create(None, Some(OPEN), 5).long(0), -8, 1);
    s.expect(5, &set_data(None, ""), -8, 1);
    s.expect(5, &set_data(Some(""), ""), -8, 1);
    s.expect(7, &Body::default().text(None).acl(Some(OPEN)).int(-1), -8, 1);
    s.expect(7, &Body::default().text(None).acl(None).int(-1), -8, 1);
    s.expect(16, &Body::default().text(None).text(None).text(None).long(-1), -123, 1);
}

#[test]
fn a_write_that_does_not_decode_spends_no_zxid() {
    let mut s = Scene::new();
    for op in [1, 2, 5, 7, 15, 16, 19, 21] {
        s.expect(op, &Body::default().int(9), -5, 0);
    }
    s.expect(14, &Body::default().int(9), -5, 1);
}

#[test]
fn what_fails_a_multi_as_a_whole() {
    let mut s = Scene::new();
    let failing = (2, delete(Some("/none")));
    for null in [
        (1, create(None, Some(OPEN), 0)),
        (2, delete(None)),
        (5, set_data(None, "")),
        (13, delete(None)),
    ] {
        s.expect(14, &multi(std::slice::from_ref(&null)), -5, 1);
        s.expect(14, &multi(&[failing.clone(), null]), -5, 1);
    }
    for op in [1, 15, 19] {
        let null = (op, create(Some("/a"), None, 0));
        s.expect(14, &multi(std::slice::from_ref(&null)), -5, 0);
        s.expect(14, &multi(&[failing.clone(), null.clone()]), -5, 0);
        // What is met first while decoding decides.
        s.expect(14, &multi(&[(op, create(Some("/a"), Some(OPEN), 7)), null]), -5, 1);
    }
    let good = (1, create(Some("/good"), Some(OPEN), 0));
    for scheme in ["digest", "world", "ip"] {
        let acl: Entries<'_> = &[(31, Some(scheme), None)];
        let null = (1, create(Some("/b"), Some(acl), 0));
        s.expect(14, &multi(&[good.clone(), null.clone()]), -5, 1);
        assert_eq!(s.results(&[failing.clone(), null]), [(-1, -101), (-1, -2)]);
    }
    s.expect(3, &watch(Some("/good")), -101, 0);
    // The multi was taken back whole, so it works now.
    assert_eq!(s.results(&[good]), [(1, 0)]);
}

#[test]
fn what_fails_one_operation_of_a_multi() {
    let mut s = Scene::new();
    let ttl = |acl, flags| vec![(21, create(Some("/a"), acl, flags).long(5))];
    assert_eq!(s.results(&ttl(None, 5)), [(-1, -114)]);
    assert_eq!(s.results(&ttl(Some(OPEN), 7)), [(-1, -8)]);
    assert_eq!(s.results(&ttl(Some(OPEN), 5)), [(15, 0)]);
}

#[test]
fn what_kind_of_node_an_operation_of_a_multi_makes() {
    let mut s = Scene::new();
    for (at, (op, flags, kind)) in
        [(19, 0, 15), (19, 1, 15), (19, 2, 15), (19, 3, 15), (1, 4, 15), (15, 4, 15), (21, 4, 15)]
            .into_iter()
            .enumerate()
    {
        let path = format!("/c{at}");
        let mut body = create(Some(&path), Some(OPEN), flags);
        if op == 21 {
            body = body.long(5);
        }
        assert_eq!(s.results(&[(op, body)]), [(kind, 0)], "op {op} flags {flags}");
        let path = if matches!(flags, 2 | 3) { format!("{path}{at:010}") } else { path };
        let owner = s.owner(&path);
        assert_eq!(owner, Some(CONTAINER_OWNER), "{path}");
    }
    assert_eq!(s.results(&[(21, create(Some("/e"), Some(OPEN), 1).long(5))]), [(1, 0)]);
    assert_eq!(s.owner("/e"), Some(1 << 56));
    // Not yet a container while the multi is prepared.
    let parent = (19, create(Some("/p"), Some(OPEN), 1));
    let child = (1, create(Some("/p/a"), Some(OPEN), 0));
    assert_eq!(s.results(&[parent, child]), [(-1, 0), (-1, -108)]);
}

#[test]
fn a_multi_read_shows_what_it_read_before_it_failed() {
    let mut s = Scene::new();
    let data = (4, watch(Some("/")));
    let whole = s.ask(22, &multi(std::slice::from_ref(&data)));
    assert_eq!((whole.0, whole.1), (0, 0));
    for (bad, code) in [((4, watch(None)), -5), ((8, watch(None)), -5)] {
        let found = s.ask(22, &multi(&[data.clone(), bad]));
        assert_eq!(found, (code, 0, whole.2.clone()));
    }
    let writes = s.ask(22, &multi(&[(2, delete(Some("/none")))]));
    assert_eq!(writes, (-5, 0, Body::default().int(-1).flag(true).int(-1).0));
    let mixed = [data.clone(), (2, delete(Some("/none")))];
    for bodyless in [
        multi(&mixed),
        multi(&[data.clone(), (3, watch(Some("/")))]),
        multi(&[(1, create(Some("/a"), None, 0))]),
        Body(multi(std::slice::from_ref(&data)).0[..20].to_vec()),
    ] {
        assert_eq!(s.ask(22, &bodyless), (-5, 0, Vec::new()));
    }
}

#[test]
fn set_watches_decodes_everything_first_and_stops_at_a_null() {
    let mut s = Scene::new();
    let missing: &[Option<&str>] = &[Some("/none")];
    let null: &[Option<&str>] = &[Some("/none"), None, Some("/none")];
    let body = |lists: &[Option<&[Option<&str>]>]| {
        lists.iter().fold(Body::default().long(0), |body, list| body.paths(*list))
    };
    let mut check = |op, body: &Body, events: usize, code: i32| {
        let frames = s.frames(op, body);
        let (reply, before) = frames.split_last().unwrap();
        assert_eq!(before.len(), events, "{:x?}", body.0);
        assert_eq!(reply[12..], code.to_be_bytes(), "{:x?}", body.0);
    };
    let none: Option<&[Option<&str>]> = Some(&[]);
    check(101, &body(&[Some(missing), none, Some(missing)]), 2, 0);
    check(101, &body(&[Some(null), none, Some(missing)]), 1, -5);
    check(101, &body(&[Some(missing), Some(&[None]), Some(missing)]), 1, -5);
    check(101, &body(&[Some(missing), none, None]), 1, -5);
    check(101, &body(&[Some(missing), None, Some(missing)]), 1, -5);
    let five = [Some(missing), none, Some(missing), Some(null), Some(null)];
    check(105, &body(&five), 2, 0);
    let whole = body(&five).0;
    check(105, &Body(whole[..whole.len() - 1].to_vec()), 0, -5);
}

#[test]
fn a_null_sasl_token_ends_the_connection() {
    let mut s = Scene::new();
    assert!(s.frames(102, &Body::default().text(None)).is_empty());
    let is_close = |e: &Effect| matches!(e, Effect::Close { conn: CONN, how: CloseHow::Now });
    assert!(s.effects.list.iter().any(is_close));
}

#[test]
fn sync_returns_any_path_and_the_empty_path_counts_the_root() {
    let mut s = Scene::new();
    let null = Body::default().text(None);
    assert_eq!(s.ask(9, &null), (0, 0, null.0));
    let count = |s: &mut Scene, path| s.ask(104, &Body::default().text(Some(path)));
    assert_eq!(count(&mut s, "/").2, Body::default().int(3).0);
    assert_eq!(count(&mut s, "").2, Body::default().int(4).0);
}

#[test]
fn a_hard_quota_refuses_also_what_shrinks_and_needs_a_usage_node() {
    let mut s = Scene::new();
    let quota = "/zookeeper/quota/q";
    let limits = format!("{quota}/zookeeper_limits");
    let stats = format!("{quota}/zookeeper_stats");
    s.expect(1, &create(Some("/q"), Some(OPEN), 0), 0, 1);
    s.expect(5, &set_data(Some("/q"), "123456789"), 0, 1);
    s.expect(1, &create(Some(quota), Some(OPEN), 0), 0, 1);
    s.expect(1, &create(Some(&limits), Some(OPEN), 0), 0, 1);
    let limit = "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=1";
    s.expect(5, &set_data(Some(&limits), limit), 0, 1);
    s.expect(1, &create(Some("/q/a"), Some(OPEN), 0), 0, 1);
    s.expect(5, &set_data(Some("/q"), "12345678"), 0, 1);
    s.expect(1, &create(Some(&stats), Some(OPEN), 0), 0, 1);
    s.expect(1, &create(Some("/q/b"), Some(OPEN), 0), -125, 1);
    s.expect(5, &set_data(Some("/q"), "1234567"), -125, 1);
    s.expect(5, &set_data(Some("/q"), "87654321"), 0, 1);
    s.expect(5, &set_data(Some("/q"), "12345"), 0, 1);
}
