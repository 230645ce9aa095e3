//! The live tree against the model, node by node.

use std::collections::BTreeMap;

use crate::tree::{NodeId, Tree};

use super::model::{Model, Node as ModelNode};
use super::node::Node;

/// Shows every node of a tree, found by way of its parents' lists.
fn walk(
    tree: &Tree,
    visit: &mut impl FnMut(&str, NodeId) -> Result<(), String>,
) -> Result<(), String> {
    let mut todo = vec!["/".to_owned()];
    while let Some(path) = todo.pop() {
        let Some(id) = tree.find(&tree.key(&path)) else { continue };
        for name in tree.children(id) {
            let slash = if path == "/" { "" } else { "/" };
            todo.push(format!("{path}{slash}{}", String::from_utf8_lossy(name)));
        }
        visit(&path, id)?;
    }
    Ok(())
}

/// A node in the model's form.
fn model_node(tree: &Tree, id: NodeId) -> ModelNode {
    ModelNode {
        data: tree.data(id).map(<[u8]>::to_vec),
        stat: tree.persisted(id),
        acl: tree.acls().bytes(tree.acl(id)).bytes().to_vec(),
        children: tree.num_children(id) as i32,
    }
}

/// Where a member shows the membership, which is of its own configuration, not of a transaction:
/// when that was read is its own, too.
pub(super) const MEMBERSHIP: &str = "/zookeeper/config";

fn is_equal(tree: &Tree, path: &str, id: NodeId, want: &ModelNode) -> bool {
    let mut stat = tree.persisted(id);
    if path == MEMBERSHIP {
        stat.mtime = want.stat.mtime;
    }
    tree.data(id) == want.data.as_deref()
        && stat == want.stat
        && tree.acls().bytes(tree.acl(id)).bytes() == want.acl
        && tree.num_children(id) as i32 == want.children
}

/// Every node of the live tree in the model's form.
pub(super) fn all_nodes(node: &Node) -> BTreeMap<String, ModelNode> {
    let tree = node.replica().tree();
    let mut found = BTreeMap::new();
    let _ = walk(tree, &mut |path, id| {
        found.insert(path.to_owned(), model_node(tree, id));
        Ok(())
    });
    found
}

/// Whether the server's tree is the model's state at `at`; the first difference otherwise.
pub(super) fn compare(model: &Model, at: i64, node: &Node, when: &str) -> Result<(), String> {
    let tree = node.replica().tree();
    let mut count = 0;
    walk(tree, &mut |path, id| {
        count += 1;
        match model.at(path, at) {
            None => Err(format!("{path} should not be there {when}")),
            Some(want) if !is_equal(tree, path, id, want) => {
                let found = model_node(tree, id);
                Err(format!("{path} differs {when}: {found:?}, not {want:?}"))
            }
            Some(_) => Ok(()),
        }
    })?;
    if model.nodes(at).count() == count {
        return Ok(());
    }
    let found = all_nodes(node);
    let missing = model.nodes(at).find(|(path, _)| !found.contains_key(*path));
    Err(format!("{:?} is missing {when}", missing.map(|(path, _)| path)))
}
