//! Real processes that elect a leader: killed, paused, stopped, emptied, cut off and disturbed.
//!
//! Every test has an ensemble of its own on free ports. What a client may rely on is checked from
//! the outside only: acknowledged writes, the order of each client's writes, sessions, watches,
//! and equal trees at all members.

mod cluster;
mod load;

mod absent;
mod crowd;
mod epochs;
mod half_open;
mod leaders;
mod linearizable;
mod paused;
mod restarts;
mod strangers;
mod sync;
