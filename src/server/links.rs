//! Queues between workers and the bell that wakes a sleeping one.
//!
//! A message is a whole turn's worth of work. The sender rings only when the receiver said that
//! it sleeps; the receiver looks at its queues once more after saying so, so no message is missed.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::base::{ConnId, Zxid};
use crate::log::Batch;
use crate::replica::Effects;
use crate::sys::signal::EventFd;

/// Messages a queue holds; a full one is back-pressure.
const QUEUE: usize = 256;

/// Wakes one worker.
#[derive(Debug)]
pub struct Bell {
    sleeping: AtomicBool,
    eventfd: EventFd,
}

impl Bell {
    /// A bell for a worker that is awake.
    pub fn new() -> std::io::Result<Bell> {
        Ok(Bell { sleeping: AtomicBool::new(false), eventfd: EventFd::new()? })
    }

    /// Call after queueing a message.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.eventfd.signal();
        }
    }

    /// The worker is about to sleep; it must look at its queues after this.
    pub fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Descriptor to wait on.
    pub fn fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsRawFd;
        self.eventfd.as_raw_fd()
    }
}

/// Something that happened on a connection, for a replica on another worker.
#[derive(Debug)]
pub enum FrontEvent {
    /// A connection was accepted.
    Opened(ConnId, SocketAddr),
    /// Whole frames: a range of the message's bytes.
    Frames(ConnId, usize, usize),
    /// A four-letter word with its argument.
    Word(ConnId, [u8; 4], Vec<u8>),
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

/// A message to a worker.
#[derive(Debug)]
pub enum Message {
    /// To the replica.
    FromFront(FrontTurn),
    /// To a front: what the replica wants done there.
    ToFront(Effects),
    /// To a front: a connection that another front accepted.
    Adopt(OwnedFd, SocketAddr),
    /// To the log.
    Append(Vec<Arc<Batch>>),
    /// To the replica.
    Synced(Zxid),
    /// To all: stop accepting, finish, end.
    Drain,
    /// To all: end now.
    Stop,
}

/// Sending side of a worker's queue.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: Sender<Message>,
    bell: Arc<Bell>,
}

impl Mailbox {
    /// A queue for one worker.
    pub fn new() -> std::io::Result<(Mailbox, Receiver<Message>)> {
        let (sender, receiver) = bounded(QUEUE);
        Ok((Mailbox { sender, bell: Arc::new(Bell::new()?) }, receiver))
    }

    /// Queues a message, or gives it back if the queue is full. A worker that is gone takes
    /// everything and does nothing.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        match self.sender.try_send(message) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(message)) => {
                self.bell.ring();
                Err(message)
            }
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// The worker's bell.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}
