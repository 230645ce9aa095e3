//! Client connections up to whole frames: first bytes, framing, idle times, output queues. Knows
//! nothing of requests.
//!
//! Sans-IO: the server tells it what sockets did and it says what to hand on; corresponds to
//! `NIOServerCnxn` and `NIOServerCnxnFactory` below the request pipeline.
#![forbid(unsafe_code)]

mod conns;
mod framing;

pub use conns::{Front, FrontOptions, FrontSink, MIN_RATE, Queued, Sent, Verdict, Who};
pub use framing::{First, FrameError, Offence, classify, whole_frames};

#[cfg(test)]
mod tests;
