//! Connections between two members go through here, and what one says to the other can be held up
//! or lost, each way for itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What becomes of bytes from one member to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// They arrive.
    Open,
    /// They wait, as where packets are lost for a while.
    Stalled,
    /// Connections end, and new ones end at once.
    Cut,
}

/// How often a connection on which nothing comes looks whether it is cut.
const LOOK: Duration = Duration::from_millis(50);

/// The ways from each member to each.
pub struct Ways {
    ways: Mutex<Vec<Vec<Way>>>,
    changed: Condvar,
}

impl Ways {
    /// All are open.
    pub fn new(size: usize) -> Arc<Ways> {
        let ways = Mutex::new(vec![vec![Way::Open; size]; size]);
        Arc::new(Ways { ways, changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Way>>> {
        self.ways.lock().expect("no thread panics with it")
    }

    /// Changes all ways for which `change` yields something.
    pub fn set(&self, change: impl Fn(usize, usize) -> Option<Way>) {
        for (from, ways) in self.lock().iter_mut().enumerate() {
            for (to, way) in ways.iter_mut().enumerate() {
                *way = change(from, to).unwrap_or(*way);
            }
        }
        self.changed.notify_all();
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        let ways = self.lock();
        ways[one][other] == Way::Cut || ways[other][one] == Way::Cut
    }

    /// Waits until bytes may pass; false if the connection ends.
    fn pass(&self, from: usize, to: usize) -> bool {
        let is_stalled = |ways: &mut Vec<Vec<Way>>| ways[from][to] == Way::Stalled;
        let ways = self.changed.wait_while(self.lock(), is_stalled);
        drop(ways.expect("no thread panics with it"));
        !self.is_cut(from, to)
    }
}

/// Takes connections of member `from` to a port of member `to`, until the process ends.
pub fn listen(ways: &Arc<Ways>, from: usize, to: usize, target: SocketAddr, listener: TcpListener) {
    let ways = Arc::clone(ways);
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            if ways.is_cut(from, to) {
                continue;
            }
            // One that nobody takes is dropped.
            let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else {
                continue;
            };
            carry(&ways, (from, to), &near, &far);
            carry(&ways, (to, from), &far, &near);
        }
    });
}

/// Carries what comes on `source` over to `sink`, in a thread.
fn carry(ways: &Arc<Ways>, (from, to): (usize, usize), source: &TcpStream, sink: &TcpStream) {
    let (Ok(mut source), Ok(mut sink)) = (source.try_clone(), sink.try_clone()) else { return };
    let ways = Arc::clone(ways);
    std::thread::spawn(move || {
        let _ = sink.set_nodelay(true);
        let _ = source.set_read_timeout(Some(LOOK));
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(_) => break,
            };
            if !ways.pass(from, to) || sink.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // An end is carried over, too.
        let _ = sink.shutdown(Shutdown::Both);
        let _ = source.shutdown(Shutdown::Both);
    });
}
