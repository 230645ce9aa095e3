//! Where a front's input goes: straight into the replica of the same loop, or into the message
//! that this turn sends to the replica's loop.

use std::net::SocketAddr;

use crate::base::{ConnId, Now};
use crate::front::FrontSink;
use crate::replica::Input;

use super::message::{FrontEvent, FrontTurn};
use super::port::Io;
use super::replica_stage::ReplicaStage;

/// See the module's introduction.
pub(super) enum Sink<'a, I: Io> {
    Local { now: Now, stage: &'a mut ReplicaStage<I> },
    Remote(&'a mut FrontTurn),
}

impl<I: Io> FrontSink for Sink<'_, I> {
    fn frames(&mut self, conn: ConnId, bytes: &[u8]) {
        match self {
            Sink::Local { now, stage } => stage.handle(*now, Input::Frames { conn, bytes }),
            Sink::Remote(turn) => {
                let start = turn.bytes.len();
                turn.bytes.extend_from_slice(bytes);
                turn.events.push(FrontEvent::Frames(conn, start, turn.bytes.len()));
            }
        }
    }

    fn heard(&mut self, conn: ConnId) {
        match self {
            Sink::Local { now, stage } => stage.handle(*now, Input::Heard { conn }),
            Sink::Remote(turn) => turn.events.push(FrontEvent::Heard(conn)),
        }
    }

    fn drained(&mut self, conn: ConnId) {
        match self {
            Sink::Local { now, stage } => stage.handle(*now, Input::Drained { conn }),
            Sink::Remote(turn) => turn.events.push(FrontEvent::Drained(conn)),
        }
    }

    fn word(&mut self, conn: ConnId, word: [u8; 4], argument: &[u8]) {
        match self {
            Sink::Local { stage, .. } => stage.asked(conn, word, argument),
            Sink::Remote(turn) => {
                turn.events.push(FrontEvent::Word(conn, word, argument.to_vec()));
            }
        }
    }
}

impl<I: Io> Sink<'_, I> {
    pub fn opened(&mut self, conn: ConnId, peer: SocketAddr) {
        match self {
            Sink::Local { now, stage } => stage.handle(*now, Input::Opened { conn, peer }),
            Sink::Remote(turn) => turn.events.push(FrontEvent::Opened(conn, peer)),
        }
    }

    pub fn closed(&mut self, conn: ConnId) {
        match self {
            Sink::Local { now, stage } => stage.handle(*now, Input::Closed { conn }),
            Sink::Remote(turn) => turn.events.push(FrontEvent::Closed(conn)),
        }
    }
}
