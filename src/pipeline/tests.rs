//! What the pending view makes of requests that overtake the committed tree.

use crate::auth::{Auth, AuthOptions, Identities};
use crate::base::{CONTAINER_OWNER, Instant, Ration, Rng, SessionId, Xid, Zxid};
use crate::tree::{ApplyHint, ApplyMode, NoSink, Tree, TreeOptions, ttl_owner};
use crate::wire::{
    AclBytes, Create, CreateTxn, OpCode, PathVersion, PersistedStat, SetAcl, SetData, SetDataTxn,
    Txn, TxnHeader, TxnType,
};

use super::{PendingView, PrepareOptions, Preparer, Slot};

/// Found by the simulator: a client deletes another's ephemeral and makes a node of its own there;
/// before that is applied, the first owner's session ends.
#[test]
fn closing_a_session_spares_what_others_made_in_place_of_its_ephemerals() {
    let mut scene = Scene::new(&["/taken", "/kept"]);
    let (first, other) = (SessionId(1), SessionId(2));
    scene.delete(2, other, "/taken");
    scene.create(3, other, "/taken", 1);
    let mut paths = Vec::new();
    scene.act(4, first, |preparer| preparer.close_session(&mut paths));
    assert_eq!(paths, ["/kept"]);
    paths.clear();
    scene.act(5, other, |preparer| preparer.close_session(&mut paths));
    assert_eq!(paths, ["/taken"]);
}

/// A node that was a session's ephemeral and is another session's by now is on the first one's list
/// no more: its record there would soon stand for a node that has nothing to do with either.
#[test]
fn closing_a_session_spares_what_its_records_once_stood_for() {
    for in_multi in [false, true] {
        let mut scene = Scene::new(&["/mine"]);
        let me = SessionId(1);
        let mut slots = Vec::new();
        slots.push(scene.create(2, me, "/e", 1));
        slots.push(scene.delete(3, me, "/e"));
        if in_multi {
            // Somebody else's ephemeral there, taken back.
            scene.pending.begin_multi(Zxid(4));
            scene.create(4, SessionId(2), "/e", 1);
            scene.pending.rollback();
        }
        slots.push(scene.create(5, me, "/e", 0));
        for (zxid, touched) in [2, 3, 5].into_iter().zip(slots) {
            for slot in touched {
                scene.pending.release(slot, Zxid(zxid));
            }
        }
        assert!(scene.pending.is_empty());
        let set = SetData { path: Some(b"/mine"), data: None, version: -1, encoded: b"" };
        scene.act(6, me, |preparer| {
            assert_eq!(preparer.set_data(&set, &mut Vec::new()), Ok(TxnType::SetData));
        });
        let mut paths = Vec::new();
        scene.act(7, me, |preparer| preparer.close_session(&mut paths));
        assert_eq!(paths, ["/mine"], "in a multi: {in_multi}");
    }
}

#[test]
fn closing_a_session_names_each_of_its_ephemerals_once() {
    let mut scene = Scene::new(&["/again", "/stays", "/goes"]);
    let me = SessionId(1);
    scene.delete(2, me, "/again");
    scene.create(3, me, "/again", 1);
    scene.create(4, me, "/new", 1);
    scene.delete(5, me, "/goes");
    let mut paths = Vec::new();
    scene.act(6, me, |preparer| preparer.close_session(&mut paths));
    paths.sort_unstable();
    assert_eq!(paths, ["/again", "/new", "/stays"]);
}

/// What a multi did to the lists of ephemerals is taken back with it.
#[test]
fn a_failed_multi_leaves_the_ephemerals_to_their_sessions() {
    let mut scene = Scene::new(&[]);
    let (me, other) = (SessionId(1), SessionId(2));
    scene.create(2, me, "/e", 1);
    scene.pending.begin_multi(Zxid(3));
    scene.delete(3, other, "/e");
    scene.create(3, other, "/e", 1);
    scene.pending.rollback();
    let mut paths = Vec::new();
    scene.act(4, other, |preparer| preparer.close_session(&mut paths));
    assert!(paths.is_empty(), "{paths:?}");
    scene.act(5, me, |preparer| preparer.close_session(&mut paths));
    assert_eq!(paths, ["/e"]);
}

/// Where [`Scene::try_anything`] writes.
const PATHS: [&str; 4] = ["/a", "/b", "/c", "/c/d"];

/// Whatever a multi has done, and however often to the same node, is taken back.
#[test]
fn a_failed_multi_leaves_every_node_as_it_was() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::new(&["/a", "/b"]);
        let multi = 2 + rng.below(8) as i64;
        (2..multi).for_each(|zxid| scene.try_anything(zxid, &mut rng));
        let before = scene.shown();
        scene.pending.begin_multi(Zxid(multi));
        (0..20).for_each(|_| scene.try_anything(multi, &mut rng));
        scene.pending.rollback();
        assert_eq!(scene.shown(), before, "seed {seed}");
    }
}

/// A tree in which session 1 has ephemerals, and the transactions prepared on top of it.
struct Scene {
    tree: Tree,
    pending: PendingView,
    auth: Auth,
}

impl Scene {
    fn new(ephemerals: &[&str]) -> Scene {
        let options = TreeOptions { extended_types: true, hash_seed: 3, ..TreeOptions::STOCK };
        let mut tree = Tree::new(options);
        for path in ephemerals {
            let (data, acl) = (None, AclBytes::OPEN);
            let txn = CreateTxn { path, data, acl, ephemeral: true, parent_cversion: 1, ttl: 0 };
            let header = TxnHeader {
                session: SessionId(1),
                cxid: Xid(1),
                zxid: Zxid(1),
                time_ms: 0,
                kind: TxnType::Create,
            };
            tree.apply(&header, &Txn::Create(txn), ApplyMode::Live, &mut NoSink);
        }
        let auth = Auth::new(AuthOptions::default()).unwrap();
        Scene { tree, pending: PendingView::new(), auth }
    }

    /// Prepares something; the records it touched are returned.
    fn act(
        &mut self,
        zxid: i64,
        session: SessionId,
        act: impl FnOnce(&mut Preparer<'_>),
    ) -> Vec<Slot> {
        let mut touched = Vec::new();
        act(&mut Preparer {
            tree: &self.tree,
            pending: &mut self.pending,
            auth: &self.auth,
            options: &PrepareOptions::default(),
            session,
            identities: &Identities::none(),
            zxid: Zxid(zxid),
            touched: &mut touched,
            scratch: &mut Vec::new(),
            hint: &mut { ApplyHint::NONE },
            now: Instant(0),
            soft_quota: &mut Ration::default(),
        });
        touched
    }

    fn create(&mut self, zxid: i64, session: SessionId, path: &str, flags: i32) -> Vec<Slot> {
        let (data, acl) = (None, AclBytes::OPEN);
        let create = Create { path: Some(path.into()), data, acl, flags, ttl: -1 };
        self.act(zxid, session, |preparer| {
            let outcome = preparer.create(OpCode::Create, &create, &mut Vec::new());
            assert_eq!(outcome, Ok(TxnType::Create));
        })
    }

    fn delete(&mut self, zxid: i64, session: SessionId, path: &str) -> Vec<Slot> {
        let delete = PathVersion { path: Some(path.into()), version: -1 };
        self.act(zxid, session, |preparer| {
            assert_eq!(preparer.delete(&delete, &mut Vec::new()), Ok(TxnType::Delete));
        })
    }

    /// A write of any kind, which may be refused.
    fn try_anything(&mut self, zxid: i64, rng: &mut Rng) {
        let path = PATHS[rng.below(PATHS.len() as u64) as usize];
        let (session, kind) = (SessionId(1 + rng.below(2) as i64), rng.below(4));
        let (flags, acl) = (rng.below(2) as i32, AclBytes::OPEN);
        self.act(zxid, session, |preparer| {
            let body = &mut Vec::new();
            let _ = match kind {
                0 => {
                    let path = Some(path.into());
                    let create = Create { path, data: None, acl, flags, ttl: -1 };
                    preparer.create(OpCode::Create, &create, body)
                }
                1 => preparer.delete(&PathVersion { path: Some(path.into()), version: -1 }, body),
                2 => {
                    let path = Some(path.as_bytes());
                    preparer
                        .set_data(&SetData { path, data: None, version: -1, encoded: b"" }, body)
                }
                _ => preparer.set_acl(&SetAcl { path: Some(path.into()), acl, version: -1 }, body),
            };
        });
    }

    /// All that writes can see: every node, and every session's pending ephemerals.
    fn shown(&self) -> String {
        let nodes = ["/"].iter().chain(&PATHS).map(|path| {
            let found = self.pending.get(&self.tree, &self.tree.key(path))?;
            Some((found.view, found.acl.bytes().to_vec()))
        });
        let ephemerals = [1, 2].map(|session| {
            let mut paths = Vec::new();
            self.pending.ephemerals_of(SessionId(session), |path| paths.push(path.to_owned()));
            paths.sort_unstable();
            paths
        });
        let nodes: Vec<_> = nodes.collect();
        format!("{nodes:?} {ephemerals:?} {}", self.pending.len())
    }
}

#[test]
fn versions_count_on_through_minus_one() {
    let mut scene = Scene::new(&["/e"]);
    let header = TxnHeader {
        session: SessionId(1),
        cxid: Xid(2),
        zxid: Zxid(2),
        time_ms: 0,
        kind: TxnType::SetData,
    };
    let txn = SetDataTxn { path: b"/e", data: None, version: -3 };
    scene.tree.apply(&header, &Txn::SetData(txn), ApplyMode::Live, &mut NoSink);
    // As Apache 3.9 does it; only what follows 3.9 leaves -1 out.
    for (zxid, expected, next) in [(3, -3, -2), (4, -2, -1), (5, -1, 0), (6, 0, 1)] {
        let set = SetData {
            path: Some(b"/e"),
            data: None,
            version: expected,
            encoded: b"\xff\xff\xff\xff",
        };
        scene.act(zxid, SessionId(1), |preparer| {
            let mut body = Vec::new();
            assert_eq!(preparer.set_data(&set, &mut body), Ok(TxnType::SetData));
            assert_eq!(body[body.len() - 4..], i32::to_be_bytes(next), "after {expected}");
        });
    }
}

#[test]
fn prepare_and_tree_agree_on_what_an_owner_is() {
    let session = 0x0100_0000_0000_0001;
    let unknown_feature = (0xff_u64 << 56 | 1 << 40) as i64;
    let owners = [0, session, CONTAINER_OWNER, CONTAINER_OWNER | 77, ttl_owner(77), -1]
        .into_iter()
        .chain([unknown_feature]);
    for owner in owners {
        for (extended_types, emulate_353_ttl) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let options =
                PrepareOptions { extended_types, emulate_353_ttl, ..PrepareOptions::default() };
            let tree = TreeOptions { extended_types, emulate_353_ttl, digest: false, hash_seed: 1 };
            let mut loader = Tree::begin_load(tree);
            let stat = PersistedStat { ephemeral_owner: owner, ..PersistedStat::default() };
            loader.node("", None, -1, &PersistedStat::default()).unwrap();
            loader.node("/a", None, -1, &stat).unwrap();
            let is_ephemeral = loader.finish().unwrap().sessions_with_ephemerals().next().is_some();
            let hint = format!("{owner:x} {extended_types} {emulate_353_ttl}");
            assert_eq!(options.is_session_owner(owner), is_ephemeral, "{hint}");
        }
    }
}
