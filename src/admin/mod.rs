//! Four-letter words: texts rendered from what the replica shows of itself.
//!
//! Corresponds to `server/command/*`. Knows nothing of sockets; the server sends what it returns.
#![forbid(unsafe_code)]

mod words;

pub use words::{AdminContext, four_letter};
