//! The committed znode tree (`DataTree`): nodes, path index, ACL table, ephemerals, quotas,
//! digest, and the two ways in and out of it: applying transactions and snapshots.
//!
//! One writer, no locks, no clock, no I/O. Checks (versions, permissions, existence) belong to the
//! prepare stage; what arrives here is committed and is applied by rules that are idempotent, so
//! that a fuzzy snapshot plus the log gives the live tree again.
//!
//! Layout of one node: 64 bytes in a chunked slab, name and data in one blob of a size-class
//! arena, 8 bytes and a tag in a sharded path index, 4 bytes in the parent's child list. Only
//! nodes that are not plain leaves have an extension record. Nothing ever grows by moving all of
//! it: every table is chunked or sharded, so growing costs microseconds, not a pause.
#![forbid(unsafe_code)]

mod acl_table;
mod apply;
mod blob;
mod check;
mod children;
mod digest;
mod find;
mod foresight;
mod index;
mod lists;
mod load;
mod node;
mod owner;
mod quota;
mod slab;
mod store;
#[cfg(test)]
mod tests;
mod walk;

pub use acl_table::{AclId, AclTable};
pub use apply::{ApplyHint, ApplyMode, ApplySink, Change, ChangeKind, NoSink, OpResult};
pub use digest::{DIGEST_LOG_INTERVAL, DIGEST_LOG_SIZE, is_digested, node_digest};
pub use foresight::Foresight;
pub use load::{LoadError, TreeLoader};
pub use node::NodeId;
pub use owner::{OwnerKind, TTL_MAX_MS, ttl_owner};
pub use quota::{Quota, QuotaValues};
pub use store::{MemoryUse, NodeView, Tree, TreeOptions};
pub use walk::{NodeRecord, Walk};
