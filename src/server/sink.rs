//! Where a front's input goes: straight into the replica of the same worker, or into the message
//! that this turn sends to the replica's worker.

use std::net::SocketAddr;

use crate::base::{ConnId, Now};
use crate::front::FrontSink;
use crate::replica::Input;

use super::links::{FrontEvent, FrontTurn};
use super::worker::Brain;

/// See the module's introduction.
pub enum Sink<'a> {
    Local { now: Now, brain: &'a mut Brain },
    Remote(&'a mut FrontTurn),
}

impl FrontSink for Sink<'_> {
    fn frames(&mut self, conn: ConnId, bytes: &[u8]) {
        match self {
            Sink::Local { now, brain } => {
                brain.replica.handle(*now, Input::Frames { conn, bytes }, &mut brain.fx);
            }
            Sink::Remote(turn) => {
                let start = turn.bytes.len();
                turn.bytes.extend_from_slice(bytes);
                turn.events.push(FrontEvent::Frames(conn, start, turn.bytes.len()));
            }
        }
    }

    fn drained(&mut self, conn: ConnId) {
        match self {
            Sink::Local { now, brain } => {
                brain.replica.handle(*now, Input::Drained { conn }, &mut brain.fx);
            }
            Sink::Remote(turn) => turn.events.push(FrontEvent::Drained(conn)),
        }
    }

    fn word(&mut self, conn: ConnId, word: [u8; 4], argument: &[u8]) {
        match self {
            Sink::Local { now, brain } => brain.word(*now, conn, word, argument),
            Sink::Remote(turn) => {
                turn.events.push(FrontEvent::Word(conn, word, argument.to_vec()));
            }
        }
    }
}

impl Sink<'_> {
    pub fn opened(&mut self, conn: ConnId, peer: SocketAddr) {
        match self {
            Sink::Local { now, brain } => {
                brain.replica.handle(*now, Input::Opened { conn, peer }, &mut brain.fx);
            }
            Sink::Remote(turn) => turn.events.push(FrontEvent::Opened(conn, peer)),
        }
    }

    pub fn closed(&mut self, conn: ConnId) {
        match self {
            Sink::Local { now, brain } => {
                brain.replica.handle(*now, Input::Closed { conn }, &mut brain.fx);
            }
            Sink::Remote(turn) => turn.events.push(FrontEvent::Closed(conn)),
        }
    }
}
