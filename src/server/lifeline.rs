//! Shows learners at once that their leader's process has ended.
//!
//! The kernel frees a killed process's memory before it closes its connections: 10 ms later, or 30
//! with a million znodes, and so long nobody looks for another leader. But each thread that has
//! descriptors of its own closes them when it ends itself, whatever the others still have to do. So
//! a thread keeps a connection to each learner of ours that nobody else here has, over which
//! nothing goes. When it ends in order, the process has ended: one that is not needed any more is
//! reset instead.
//!
//! Nobody relies on one: where it cannot be made, learners see the end of the other connection.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::{LinkId, ServerId};
use crate::peer::Port;
use crate::sys::{file, net};
use crate::wire::vote::First;

use super::dials::{Addresses, dial};

/// How long a learner's address may take to answer: others wait meanwhile.
const DIAL_LIMIT: Duration = Duration::from_secs(1);

/// The thread, which ends with this, and the connections with it.
pub(super) struct Lifelines {
    orders: Sender<Order>,
}

enum Order {
    Make(LinkId, ServerId),
    End(LinkId),
}

impl Lifelines {
    /// To these addresses, from the server `sid`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(sid: ServerId, addresses: Addresses) -> io::Result<Lifelines> {
        let (orders, taken) = unbounded();
        let run = move || match file::have_own_descriptors() {
            Ok(()) => run(sid, &addresses, &taken),
            Err(e) => log::warn!(
                "learners will notice some milliseconds later when this process has ended: a \
                 thread cannot have descriptors of its own (close_range): {e}"
            ),
        };
        Builder::new().name("lifelines".to_owned()).spawn(run)?;
        Ok(Lifelines { orders })
    }

    /// The learner at the other end of this connection is to see when this process ends.
    pub fn make(&self, link: LinkId, learner: ServerId) {
        // A thread that could not begin takes nothing, and says why.
        let _ = self.orders.send(Order::Make(link, learner));
    }

    /// The connection is to end, and its lifeline with it, if there is one.
    pub fn end(&self, link: LinkId) {
        let _ = self.orders.send(Order::End(link));
    }
}

fn run(sid: ServerId, addresses: &Addresses, orders: &Receiver<Order>) {
    let mut first = Vec::new();
    First::encode_lifeline(sid, &mut first);
    let mut lines: BTreeMap<LinkId, TcpStream> = BTreeMap::new();
    for order in orders {
        match order {
            Order::Make(link, learner) => {
                let Some(places) = addresses.get(&(learner, Port::Election)) else { continue };
                let Ok((socket, _)) = dial(places, DIAL_LIMIT) else { continue };
                let mut line = TcpStream::from(socket);
                if line.write_all(&first).is_ok() {
                    lines.insert(link, line);
                }
            }
            Order::End(link) => {
                // What fails here only costs the learner a look for another leader.
                let _ = lines.remove(&link).map(|line| net::set_reset_on_close(&line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    const LINK: LinkId = LinkId(1);
    const LEARNER: ServerId = ServerId(2);

    #[test]
    fn a_lifeline_says_whose_it_is_and_lasts_until_its_connection_or_the_process_ends() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let addresses = Addresses::from([(
            (LEARNER, Port::Election),
            vec![("127.0.0.1".to_owned(), at.port())],
        )]);
        let lifelines = Lifelines::start(ServerId(3), addresses).unwrap();
        let mut first = Vec::new();
        First::encode_lifeline(ServerId(3), &mut first);
        let arrived = |link| {
            lifelines.make(link, LEARNER);
            let (mut line, _) = listener.accept().unwrap();
            line.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut bytes = vec![0; first.len()];
            line.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, first);
            line
        };
        let (mut line, mut other) = (arrived(LINK), arrived(LinkId(3)));
        other.set_nonblocking(true).unwrap();
        lifelines.end(LINK);
        let end = line.read(&mut [0; 1]).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "this process goes on");
        let stays = other.read(&mut [0; 1]).unwrap_err();
        assert_eq!(stays.kind(), io::ErrorKind::WouldBlock, "the other one has not");
        other.set_nonblocking(false).unwrap();
        // One that nobody listens for, or has no address, is none.
        lifelines.make(LinkId(5), ServerId(9));
        drop(lifelines);
        assert_eq!(other.read(&mut [0; 1]).unwrap(), 0, "the thread has ended");
    }

    #[test]
    fn descriptors_that_the_process_opens_are_not_the_threads() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (go, gone) = unbounded::<()>();
        let (began, has_begun) = unbounded();
        let keeper = std::thread::spawn(move || {
            began.send(file::have_own_descriptors()).unwrap();
            let _ = gone.recv();
        });
        has_begun.recv().unwrap().unwrap();
        drop(theirs);
        ours.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0, "the thread does not keep it open");
        drop(go);
        keeper.join().unwrap();
    }
}
