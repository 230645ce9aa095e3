//! From request to transaction and from transaction to reply: the rules of every operation.
//!
//! `prepare` judges writes against the pending view and encodes transactions; `read` answers from
//! the committed tree. Neither knows about connections, queues or disks.
#![forbid(unsafe_code)]

mod lists;
mod parts;
mod pending;
mod prepare;
mod read;

pub use parts::Parts;
pub use pending::{Pending, PendingView, Slot};
pub use prepare::{Multi, Outcome, PrepareOptions, Preparer};
pub use read::{ReadContext, ReadResult, bytes_cost};

#[cfg(test)]
mod tests;
