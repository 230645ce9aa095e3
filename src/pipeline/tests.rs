//! What the pending view makes of requests that overtake the committed tree.

use crate::auth::{Auth, AuthOptions, Identities};
use crate::base::{SessionId, Xid, Zxid};
use crate::tree::{ApplyHint, ApplyMode, NoSink, Tree, TreeOptions};
use crate::wire::{AclBytes, Create, CreateTxn, OpCode, PathVersion, Txn, TxnHeader, TxnType};

use super::{PendingView, PrepareOptions, Preparer};

/// Found by the simulator: a client deletes another's ephemeral and makes a node of its own there;
/// before that is applied, the first owner's session ends.
#[test]
fn closing_a_session_spares_what_others_made_in_place_of_its_ephemerals() {
    let options =
        TreeOptions { extended_types: true, emulate_353_ttl: false, digest: true, hash_seed: 3 };
    let mut tree = Tree::new(options);
    let header = TxnHeader {
        session: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(1),
        time_ms: 0,
        kind: TxnType::Create,
    };
    let create = |path| {
        let (data, acl) = (None, AclBytes::OPEN);
        Txn::Create(CreateTxn { path, data, acl, ephemeral: true, parent_cversion: 1, ttl: 0 })
    };
    for path in ["/taken", "/kept"] {
        tree.apply(&header, &create(path), ApplyMode::Live, &mut NoSink);
    }
    let auth = Auth::new(AuthOptions::default()).unwrap();
    let mut pending = PendingView::new();
    let mut as_session = |session, zxid, act: &mut dyn FnMut(&mut Preparer<'_>)| {
        act(&mut Preparer {
            tree: &tree,
            pending: &mut pending,
            auth: &auth,
            options: &PrepareOptions::default(),
            session: SessionId(session),
            identities: &Identities::none(),
            zxid: Zxid(zxid),
            touched: &mut Vec::new(),
            scratch: &mut Vec::new(),
            hint: &mut { ApplyHint::NONE },
        });
    };
    as_session(2, 2, &mut |preparer| {
        let delete = PathVersion { path: Some("/taken".into()), version: -1 };
        assert_eq!(preparer.delete(&delete, &mut Vec::new()), Ok(TxnType::Delete));
    });
    as_session(2, 3, &mut |preparer| {
        let (data, acl) = (None, AclBytes::OPEN);
        let create = Create { path: Some("/taken".into()), data, acl, flags: 1, ttl: -1 };
        let outcome = preparer.create(OpCode::Create, &create, &mut Vec::new());
        assert_eq!(outcome, Ok(TxnType::Create));
    });
    let mut paths = Vec::new();
    as_session(1, 4, &mut |preparer| preparer.close_session(&mut paths));
    assert_eq!(paths, ["/kept"]);
    paths.clear();
    as_session(2, 5, &mut |preparer| preparer.close_session(&mut paths));
    assert_eq!(paths, ["/taken"]);
}
