//! Newtypes, time, randomness and path keys that every module shares.
#![forbid(unsafe_code)]

mod four_letter;
mod ids;
mod invariant;
mod map;
mod mark;
mod mix;
mod mutation;
mod path;
mod ration;
mod rng;
mod slots;
mod time;

pub use four_letter::FOUR_LETTER_WORDS;
pub use ids::{
    CONTAINER_OWNER, ConnId, Cxid, Epoch, LifelineKey, LinkId, ServerId, SessionId, Xid, Zxid,
};
pub(crate) use invariant::invariant;
pub use map::{FixedHasher, FixedMap};
pub use mark::{Mark, mark, take_marks};
pub use mix::{absorb, spread};
pub use mutation::{Mutation, is_mutated, plant};
pub use path::{PathHasher, PathKey, validate_path};
pub use ration::{More, Ration};
pub use rng::{Rng, derive_seed};
pub use slots::Slots;
pub use time::{Instant, Now};
