//! What loops tell each other. A message is a whole turn's worth of work.

use std::net::SocketAddr;

use crate::base::{ConnId, Zxid};
use crate::log::{LogDone, LogTicket};
use crate::replica::Effects;

use super::log_stage::LogWork;
use super::port::Io;

/// Something that happened on a connection, for a replica on another loop.
#[derive(Debug)]
pub enum FrontEvent {
    /// A connection was accepted.
    Opened(ConnId, SocketAddr),
    /// Whole frames: a range of the message's bytes.
    Frames(ConnId, usize, usize),
    /// A four-letter word with its argument.
    Word(ConnId, [u8; 4], Vec<u8>),
    /// A connection whose input is held back is alive.
    Heard(ConnId),
    /// All output of a connection is sent.
    Drained(ConnId),
    /// The connection is gone.
    Closed(ConnId),
}

/// One turn of a front.
#[derive(Debug, Default)]
pub struct FrontTurn {
    /// Bytes that frame events refer to.
    pub bytes: Vec<u8>,
    /// What happened, in order.
    pub events: Vec<FrontEvent>,
}

/// A message to a loop.
pub enum Message<I: Io> {
    /// To the replica.
    FromFront(FrontTurn),
    /// To a front: the effects that concern its connections.
    ToFront(Effects),
    /// To a front: a connection that another front accepted.
    Adopt(I::Socket, SocketAddr),
    /// To the log.
    Log(Vec<LogWork>),
    /// To the replica: everything up to here is durable.
    Synced(Zxid),
    /// To the replica: what a change of the log came to.
    LogDone(LogTicket, LogDone),
    /// To all: describe the state of your stages.
    Describe(Box<dyn FnOnce(String) + Send>),
    /// To all: stop accepting, finish, end.
    Drain,
    /// To all: end now.
    Stop,
}
