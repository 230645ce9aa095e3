//! Every byte layout that ZooKeeper's peers, clients and files share: jute primitives, opcodes,
//! error codes, request and reply records, transactions, and what members of an ensemble say.
//!
//! Decoding borrows from the input and never panics; encoding appends to a caller's `Vec<u8>`.
//! Nothing here decides anything: rules live in `pipeline`, state in `tree` and `session`.
#![forbid(unsafe_code)]

mod acl;
mod connect;
mod error;
#[cfg(test)]
mod golden;
mod jute;
mod op;
mod properties;
pub mod quorum;
mod reply;
mod request;
mod stat;
mod txn;
pub mod vote;

pub use acl::{ACL_OPEN_BYTES, Acl, AclBytes, Perms};
#[cfg(test)]
pub use connect::connect_frame;
pub use connect::{ConnectRequest, ConnectResponse, session_password};
pub use error::ErrorCode;
#[cfg(test)]
pub(crate) use golden::{FOLLOWER, OBSERVER, REFILLED, TRUNCATED, VOTES, hex, recorded};
pub use jute::{DecodeError, Reader, put_bool, put_buffer, put_i32, put_i64, put_str};
pub use op::{CreateMode, OpCode, XID_AUTH, XID_NOTIFICATION, XID_PING, XID_SET_WATCHES};
pub use properties::{BadEscape, Line, has_byte_order_mark, parse_properties, parse_property_text};
pub use reply::{
    EventType, FrameStart, VectorStart, begin_frame, begin_reply, begin_vector, end_frame,
    end_vector, put_error_reply, put_multi_end, put_multi_error, put_multi_header,
    put_notification, put_stat_reply,
};
pub use request::{
    AddWatch, Auth, CheckVersion, Create, MultiOp, MultiOps, PathVersion, PathWatch, Reconfig,
    RequestHeader, SetAcl, SetData, StrVector, WatchPath, requested_path, split_frame, text,
};
pub use stat::{PersistedStat, Stat};
pub use txn::{
    CreateTxn, MultiTxn, PathList, SetAclTxn, SetDataTxn, SubTxn, SubTxnStart, Txn, TxnDigest,
    TxnHeader, TxnType, begin_sub_txn, end_sub_txn, leading_path, leading_path_of_txn,
    put_close_session_txn, put_create_txn, put_error_txn, restart_sub_txn,
};
