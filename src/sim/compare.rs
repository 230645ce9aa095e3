//! The live tree against the model, node by node.

use std::collections::BTreeMap;

use crate::wire::AclBytes;

use super::model::{Model, Node as ModelNode};
use super::node::Node;

/// Every node of the live tree in the model's form.
pub(super) fn all_nodes(node: &Node) -> BTreeMap<String, ModelNode> {
    let tree = node.replica().tree();
    let mut found = BTreeMap::new();
    let mut todo = vec!["/".to_owned()];
    while let Some(path) = todo.pop() {
        let Some(id) = tree.find(&tree.key(&path)) else { continue };
        for name in tree.children(id) {
            let slash = if path == "/" { "" } else { "/" };
            todo.push(format!("{path}{slash}{}", String::from_utf8_lossy(name)));
        }
        let acl: AclBytes<'_> = tree.acls().bytes(tree.acl(id));
        let node = ModelNode {
            data: tree.data(id).map(<[u8]>::to_vec),
            stat: tree.persisted(id),
            acl: acl.bytes().to_vec(),
            children: tree.num_children(id) as i32,
        };
        found.insert(path, node);
    }
    found
}

/// Whether the server's tree is the model's last state; the first difference otherwise.
pub(super) fn compare(model: &Model, node: &Node, when: &str) -> Result<(), String> {
    let found = all_nodes(node);
    let mut count = 0;
    for (path, want) in model.nodes(model.last) {
        count += 1;
        match found.get(path) {
            None => return Err(format!("{path} is missing {when}")),
            Some(node) if node != want => {
                return Err(format!("{path} differs {when}: {node:?}, not {want:?}"));
            }
            Some(_) => {}
        }
    }
    if found.len() != count {
        let extra = found.keys().find(|path| model.at(path, model.last).is_none());
        return Err(format!("{extra:?} should not be there {when}"));
    }
    Ok(())
}
