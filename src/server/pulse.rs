//! Shows learners that their leader's process lives while its loop is held up.
//!
//! A turn takes as long as the longest piece of work that is not divided, and on a busy machine a
//! loop may have to wait for its CPU. Learners of ours leave a leader of which nothing comes for
//! some hundred milliseconds (`zab::silence`): that is right when the process is gone or stopped,
//! or the network between, and wrong while it works. So a thread of its own looks whether turns
//! begin. While none does, it sends a BEAT to each learner, but not for ever: a loop that does not
//! go on is of no use to anybody.
//!
//! Both write to the same socket. A BEAT leaves between two sends of the loop only, which end with
//! a whole packet, and under the lock that the loop takes before it begins one. It leaves only when
//! the other end's kernel has everything that was sent before: then the socket has room for it, and
//! the learner has heard nothing later.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::base::{Instant, LinkId};
use crate::sys::{cpu, net};
use crate::wire::quorum::{BEAT, Packet};

/// Between two looks at the loop.
const LOOK: Duration = Duration::from_millis(50);

/// A loop of which no turn begins for so long is held up: with learners, one begins each 50 ms.
const HELD_UP: Duration = Duration::from_millis(100);

/// The thread, which ends with this.
pub(super) struct Pulse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// When the loop began its last turn.
    turn_at: AtomicU64,
    lanes: Mutex<Lanes>,
    changed: Condvar,
}

#[derive(Default)]
struct Lanes {
    of: BTreeMap<LinkId, Lane>,
    is_over: bool,
}

/// A learner's connection.
struct Lane {
    socket: OwnedFd,
    /// Bytes of the loop's send that the socket has not taken.
    left: usize,
}

impl Pulse {
    /// Shows nothing to anybody yet, and nothing more once the loop was held up for `limit`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(limit: Duration) -> io::Result<Pulse> {
        let turn_at = AtomicU64::new(cpu::now().mono.0);
        let (lanes, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { turn_at, lanes, changed });
        let of_thread = Arc::clone(&shared);
        let thread = Builder::new().name("pulse".to_owned()).spawn(move || of_thread.run(limit))?;
        Ok(Pulse { shared, thread: Some(thread) })
    }

    /// The loop begins a turn.
    pub fn turn_begins(&self, now: Instant) {
        self.shared.turn_at.store(now.0, Ordering::Relaxed);
    }

    /// This connection wants to see that the process lives. Of a send of the loop's, the socket has
    /// `left` bytes to take.
    pub fn add(&self, socket: &OwnedFd, link: LinkId, left: usize) {
        // Without a descriptor for it the learner leaves early, which is no harm.
        let Ok(socket) = socket.try_clone() else { return };
        self.shared.lanes().of.insert(link, Lane { socket, left });
        self.shared.changed.notify_one();
    }

    /// It does not, or is no more.
    pub fn remove(&self, link: LinkId) {
        self.shared.lanes().of.remove(&link);
    }

    /// The loop sends this number of bytes on a connection from now on.
    pub fn send_begins(&self, link: LinkId, bytes: usize) {
        if let Some(lane) = self.shared.lanes().of.get_mut(&link) {
            lane.left = bytes;
        }
    }

    /// The send is over, and the socket has taken this number of bytes. A failed one is never over.
    pub fn send_ends(&self, link: LinkId, bytes: usize) {
        if let Some(lane) = self.shared.lanes().of.get_mut(&link) {
            lane.left = lane.left.saturating_sub(bytes);
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.lanes().is_over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, limit: Duration) {
        let mut beat = Vec::new();
        Packet::bare(BEAT, Packet::NO_ZXID).encode_into(&mut beat);
        let mut lanes = self.lanes();
        while !lanes.is_over {
            if lanes.of.is_empty() {
                lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let looked = self.changed.wait_timeout(lanes, LOOK);
            lanes = looked.unwrap_or_else(PoisonError::into_inner).0;
            let turn_at = Instant(self.turn_at.load(Ordering::Relaxed));
            let lasts = cpu::now().mono.since(turn_at);
            if (HELD_UP..limit).contains(&lasts) {
                lanes.of.values().filter(|lane| lane.left == 0).for_each(|lane| lane.send(&beat));
            }
        }
    }
}

impl Lane {
    fn send(&self, beat: &[u8]) {
        if net::unsent(&self.socket) > 0 {
            return;
        }
        let sent = net::send_now(&self.socket, beat);
        if sent.is_ok_and(|bytes| bytes < beat.len()) {
            // What follows would be no packet.
            net::shutdown(&self.socket, net::Direction::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LINK: LinkId = LinkId(1);

    /// The leader's end and the learner's.
    fn connection() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let learner = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0.into(), learner)
    }

    /// What the learner got within `wait`.
    fn heard(learner: &mut TcpStream, wait: Duration) -> Vec<u8> {
        learner.set_read_timeout(Some(wait)).unwrap();
        let mut bytes = [0; 4096];
        learner.read(&mut bytes).map_or_else(|_| Vec::new(), |count| bytes[..count].to_vec())
    }

    #[test]
    fn a_loop_that_is_held_up_shows_that_it_lives_until_that_takes_too_long() {
        let limit = Duration::from_secs(1);
        let (pulse, (socket, mut learner)) = (Pulse::start(limit).unwrap(), connection());
        let begins = cpu::now().mono;
        pulse.turn_begins(begins);
        pulse.add(&socket, LINK, 0);
        let mut beats = Vec::new();
        loop {
            let more = heard(&mut learner, limit);
            if more.is_empty() {
                break;
            }
            beats.extend(more);
        }
        let lasted = cpu::now().mono.since(begins);
        assert!(lasted >= limit, "it says nothing after {lasted:?}");
        let mut beat = Vec::new();
        Packet::bare(BEAT, Packet::NO_ZXID).encode_into(&mut beat);
        assert!(beats.len() >= beat.len() && beats.chunks(beat.len()).all(|one| one == beat));
        // It goes on.
        pulse.turn_begins(cpu::now().mono);
        assert!(!heard(&mut learner, limit).is_empty());
    }

    #[test]
    fn nothing_comes_in_between_while_the_loop_sends() {
        let limit = Duration::from_secs(60);
        let (pulse, (socket, mut learner)) = (Pulse::start(limit).unwrap(), connection());
        pulse.turn_begins(cpu::now().mono);
        pulse.add(&socket, LINK, 5);
        let wait = Duration::from_millis(400);
        assert_eq!(heard(&mut learner, wait), [], "a send was under way");
        pulse.send_ends(LINK, 3);
        assert_eq!(heard(&mut learner, wait), [], "it has taken a part");
        pulse.send_begins(LINK, 2);
        pulse.send_ends(LINK, 2);
        assert!(!heard(&mut learner, Duration::from_secs(10)).is_empty());
        pulse.remove(LINK);
        while !heard(&mut learner, wait).is_empty() {}
        drop((pulse, socket));
        assert_eq!(learner.read(&mut [0; 1]).unwrap(), 0, "nothing keeps the connection open");
    }
}
