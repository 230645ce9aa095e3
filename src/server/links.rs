//! Queues between workers and the bell that wakes a sleeping one.
//!
//! A message is a whole turn's worth of work. The sender rings only when the receiver said that
//! it sleeps; the receiver looks at its queues once more after saying so, so no message is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::sys::signal::EventFd;

use super::uring_io::UringIo;

/// A message to a worker.
pub type Message = crate::driver::Message<UringIo>;

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

    /// Messages that wait.
    pub fn queued(&self) -> usize {
        self.sender.len()
    }

    /// The worker's bell.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}
