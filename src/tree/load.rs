//! Building a tree from a snapshot (`DataTree.deserialize`): ACL map first, then nodes with
//! parents before children. Child lists, owner lists, quotas and digest are rebuilt here.

use std::collections::BTreeMap;
use std::fmt;

use crate::wire::{AclBytes, PersistedStat};

use super::acl_table::AclId;
use super::node::NodeId;
use super::store::{Tree, TreeOptions};

/// Why a snapshot's nodes do not make a tree. The snapshot is corrupt; use an older one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// A node came before its parent, or its path is malformed.
    MissingParent(String),
    /// A node came twice.
    Duplicate(String),
    /// A node refers to an ACL that the map does not have.
    MissingAcl(String, i64),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::MissingParent(path) => {
                write!(f, "snapshot is corrupt: node {path:?} comes before its parent")
            }
            LoadError::Duplicate(path) => {
                write!(f, "snapshot is corrupt: node {path:?} comes twice")
            }
            LoadError::MissingAcl(path, id) => {
                write!(f, "snapshot is corrupt: node {path:?} has ACL {id}, missing in the ACL map")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// A tree in the making.
#[derive(Debug)]
pub struct TreeLoader {
    tree: Tree,
    acls: BTreeMap<i64, AclId>,
    has_root: bool,
    /// The parent of the last node, which most often is also the next one's parent.
    last_parent: (String, NodeId),
}

impl Tree {
    /// Begins loading into a new tree.
    pub fn begin_load(options: TreeOptions) -> TreeLoader {
        TreeLoader {
            tree: Tree::with_root(options),
            acls: BTreeMap::new(),
            has_root: false,
            last_parent: (String::new(), NodeId::ROOT),
        }
    }
}

impl TreeLoader {
    /// An entry of the ACL map. Ids count within the snapshot only; the tree has its own.
    pub fn acl(&mut self, id: i64, list: AclBytes<'_>) {
        let acl = self.tree.acls.intern(list);
        if let Some(old) = self.acls.insert(id, acl) {
            self.tree.acls.drop_use(old);
        }
    }

    /// A node; `""` and `"/"` are the root.
    pub fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl_id: i64,
        stat: &PersistedStat,
    ) -> Result<(), LoadError> {
        let acl = match acl_id {
            -1 => AclId::OPEN,
            id => match self.acls.get(&id) {
                Some(acl) => *acl,
                None => return Err(LoadError::MissingAcl(path.to_owned(), id)),
            },
        };
        if path.is_empty() || path == "/" {
            return self.root(data, acl, stat);
        }
        let key = self.tree.hasher.key(path);
        let parent = match key.parent_path() {
            same if same == self.last_parent.0 => self.last_parent.1,
            other => {
                let found = self.tree.find_parent(&key);
                let id = found.ok_or_else(|| LoadError::MissingParent(path.to_owned()))?;
                self.last_parent.0.clear();
                self.last_parent.0.push_str(other);
                self.last_parent.1 = id;
                id
            }
        };
        if !path.starts_with('/') || !Tree::is_storable(key.name()) {
            return Err(LoadError::MissingParent(path.to_owned()));
        }
        if self.tree.find(&key).is_some() {
            return Err(LoadError::Duplicate(path.to_owned()));
        }
        self.tree.acls.add_use(acl);
        self.tree.insert(&key, parent.0, data, acl, stat);
        Ok(())
    }

    fn root(
        &mut self,
        data: Option<&[u8]>,
        acl: AclId,
        stat: &PersistedStat,
    ) -> Result<(), LoadError> {
        if std::mem::replace(&mut self.has_root, true) {
            return Err(LoadError::Duplicate("/".to_owned()));
        }
        self.tree.acls.add_use(acl);
        self.tree.node_mut(0).acl = acl;
        self.tree.replace_data(0, data);
        // The root has no owner, even if a file names one: it must not go with a session.
        self.tree.set_stat(0, &PersistedStat { ephemeral_owner: 0, ..*stat });
        self.tree.refresh_digest(0, "");
        Ok(())
    }

    /// Drops unused ACLs, adds missing system nodes, recounts the quotas.
    pub fn finish(self) -> Result<Tree, LoadError> {
        let TreeLoader { mut tree, acls, .. } = self;
        for acl in acls.into_values() {
            tree.acls.drop_use(acl);
        }
        tree.acls.release();
        tree.add_system_nodes();
        tree.rebuild_quotas();
        Ok(tree)
    }
}
