//! The client port while recovery runs: four-letter words are answered, so that a liveness probe
//! does not end a server that takes long to start; a client is accepted and its connection closed
//! as soon as it says something, so that it tries again. Apache does the same: its connection
//! factory is started before the database is loaded, and `NIOServerCnxn.readLength` closes what is
//! no word while the server is not running.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::admin::{self, AdminContext};
use crate::base::Instant;
use crate::front::{First, classify};
use crate::sys::signal::EventFd;
use crate::sys::{cpu, net};

/// Connections held at a time; the oldest makes room for the next.
const VISITORS_MAX: usize = 256;

/// How long a connection may say nothing, or take to read its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause after an accept that failed: the process has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The thread that answers.
pub struct Probe {
    stop: Arc<EventFd>,
    thread: JoinHandle<io::Result<Vec<OwnedFd>>>,
}

impl Probe {
    /// Answers on these until [`Probe::stop`].
    ///
    /// # Errors
    /// The thread cannot be started, or the descriptors that it waits on cannot be made.
    pub fn start(listeners: Vec<OwnedFd>, admin: AdminContext) -> io::Result<Probe> {
        let stop = Arc::new(EventFd::new()?);
        let told = Arc::clone(&stop);
        let listeners: Vec<TcpListener> = listeners.into_iter().map(TcpListener::from).collect();
        // For as long as this waits for several at once.
        listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        let now = cpu::now().mono;
        let desk = Desk { listeners, visitors: VecDeque::new(), admin, accept_from: now };
        let thread = Builder::new().name("probe".to_owned()).spawn(move || desk.run(&told))?;
        Ok(Probe { stop, thread })
    }

    /// Closes the connections it has, and hands back what it answered on.
    ///
    /// # Errors
    /// Why it had ended before.
    pub fn stop(self) -> io::Result<Vec<OwnedFd>> {
        self.stop.signal();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }
}

struct Visitor {
    link: TcpStream,
    said: Vec<u8>,
    /// It has its answer, and is to read it.
    answered: bool,
    until: Instant,
}

struct Desk {
    listeners: Vec<TcpListener>,
    visitors: VecDeque<Visitor>,
    admin: AdminContext,
    accept_from: Instant,
}

impl Desk {
    fn run(mut self, stop: &EventFd) -> io::Result<Vec<OwnedFd>> {
        loop {
            let now = cpu::now().mono;
            self.visitors.retain(|visitor| visitor.until > now);
            let is_accepting = self.accept_from <= now;
            let mut fds = vec![stop.as_raw_fd()];
            fds.extend(self.visitors.iter().map(|visitor| visitor.link.as_raw_fd()));
            let mut wake = self.visitors.iter().map(|visitor| visitor.until).min();
            if is_accepting {
                fds.extend(self.listeners.iter().map(AsRawFd::as_raw_fd));
            } else {
                wake = Some(wake.map_or(self.accept_from, |at| at.min(self.accept_from)));
            }
            let ready = net::wait_readable(&fds, wake.map(|at| at.since(now)))?;
            let (stopped, ready) = ready.split_first().unwrap_or((&true, &[]));
            if *stopped {
                self.listeners.iter().try_for_each(|listener| listener.set_nonblocking(false))?;
                return Ok(self.listeners.into_iter().map(OwnedFd::from).collect());
            }
            let (spoke, arrived) = ready.split_at(self.visitors.len());
            self.hear(spoke);
            for (index, _) in arrived.iter().enumerate().filter(|(_, arrived)| **arrived) {
                self.accept(index);
            }
        }
    }

    fn hear(&mut self, spoke: &[bool]) {
        let visitors = std::mem::take(&mut self.visitors);
        for (mut visitor, spoke) in visitors.into_iter().zip(spoke) {
            if !spoke || self.heard(&mut visitor) {
                self.visitors.push_back(visitor);
            }
        }
    }

    /// Whether the connection stays.
    fn heard(&mut self, visitor: &mut Visitor) -> bool {
        let mut bytes = [0; 512];
        let count = match visitor.link.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(e) => return matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if visitor.answered {
            return true;
        }
        visitor.said.extend_from_slice(&bytes[..count]);
        match classify(&visitor.said, self.admin.takes_mask()) {
            First::Unknown => true,
            First::Frame => false,
            First::Word(word, taken) => {
                let argument = visitor.said.get(4..taken).unwrap_or(&[]);
                let text = admin::not_serving(&mut self.admin, word, argument);
                visitor.answered = true;
                // It fits any socket's buffer.
                visitor.link.write_all(text.as_bytes()).is_ok()
                    && visitor.link.shutdown(Shutdown::Write).is_ok()
            }
        }
    }

    fn accept(&mut self, index: usize) {
        let now = cpu::now().mono;
        match self.listeners[index].accept() {
            Ok((link, _)) if link.set_nonblocking(true).is_ok() => {
                if self.visitors.len() == VISITORS_MAX {
                    self.visitors.pop_front();
                }
                let (said, until) = (Vec::new(), now + PATIENCE);
                self.visitors.push_back(Visitor { link, said, answered: false, until });
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.accept_from = now + ACCEPT_PAUSE,
        }
    }
}
