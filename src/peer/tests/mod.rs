//! Tests of the room as a whole: servers joined by a network in memory, the bytes of Apache, and
//! bytes of strangers.

mod election;
mod network;
mod quorum;
