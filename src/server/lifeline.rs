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
//! Each is made by a helper of that thread, with the same descriptors: a name server that does not
//! answer would hold up the lifelines of all others for half a minute.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select, unbounded};

use crate::base::{LifelineKey, LinkId, ServerId};
use crate::peer::Port;
use crate::sys::{file, net};
use crate::wire::vote::First;

use super::dials::{Addresses, dial};

/// How long a learner's address may take to answer.
const DIAL_LIMIT: Duration = Duration::from_secs(1);

/// Lifelines that are being made at a time; of more a learner has none.
const DIALS_MAX: usize = 64;

/// The thread, which ends with this, and the connections with it.
pub(super) struct Lifelines {
    orders: Sender<Order>,
}

enum Order {
    Make(LinkId, ServerId, LifelineKey),
    End(LinkId),
}

/// Connects to a learner's election port. May take long.
type Connect = dyn Fn(ServerId) -> Option<TcpStream> + Send + Sync;

/// What came of connecting.
type Outcome = (LinkId, LifelineKey, Option<TcpStream>);

impl Lifelines {
    /// To these addresses, from the server `sid`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(sid: ServerId, addresses: Addresses) -> io::Result<Lifelines> {
        let connect = move |learner| {
            let places = addresses.get(&(learner, Port::Election))?;
            dial(places, DIAL_LIMIT).ok().map(|(socket, _)| socket.into())
        };
        Lifelines::start_by(sid, Arc::new(connect))
    }

    fn start_by(sid: ServerId, connect: Arc<Connect>) -> io::Result<Lifelines> {
        let (orders, taken) = unbounded();
        let run = move || match file::have_own_descriptors() {
            Ok(()) => Keeper::new(sid, connect).run(&taken),
            Err(e) => log::warn!(
                "learners will notice some milliseconds later when this process has ended: a \
                 thread cannot have descriptors of its own (close_range): {e}"
            ),
        };
        Builder::new().name("lifelines".to_owned()).spawn(run)?;
        Ok(Lifelines { orders })
    }

    /// The learner at the other end of this connection is to see when this process ends. The key
    /// is the one that it has chosen.
    pub fn make(&self, link: LinkId, learner: ServerId, key: LifelineKey) {
        // A thread that could not begin takes nothing, and says why.
        let _ = self.orders.send(Order::Make(link, learner, key));
    }

    /// The connection is to end, and its lifeline with it, if there is one.
    pub fn end(&self, link: LinkId) {
        let _ = self.orders.send(Order::End(link));
    }
}

/// What the thread has.
struct Keeper {
    sid: ServerId,
    connect: Arc<Connect>,
    /// Those that are wanted; not all are there yet, or ever.
    lines: BTreeMap<LinkId, Option<TcpStream>>,
    out: Sender<Outcome>,
    connected: Receiver<Outcome>,
    under_way: usize,
}

impl Keeper {
    fn new(sid: ServerId, connect: Arc<Connect>) -> Keeper {
        let (out, connected) = unbounded();
        Keeper { sid, connect, lines: BTreeMap::new(), out, connected, under_way: 0 }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Make(link, learner, key)) => self.make(link, learner, key),
                    Ok(Order::End(link)) => {
                        // What fails here only costs the learner a look for another leader.
                        let line = self.lines.remove(&link).flatten();
                        let _ = line.map(|line| net::set_reset_on_close(&line));
                    }
                    Err(_) => return,
                },
                recv(self.connected) -> outcome => {
                    self.under_way -= 1;
                    if let Ok((link, key, Some(line))) = outcome {
                        self.begin(link, key, line);
                    }
                }
            }
        }
    }

    /// Looking a name up may take long, so each has a helper, which has this thread's descriptors.
    fn make(&mut self, link: LinkId, learner: ServerId, key: LifelineKey) {
        if self.under_way == DIALS_MAX {
            return;
        }
        let (connect, out) = (Arc::clone(&self.connect), self.out.clone());
        let help = move || {
            // The thread may have ended meanwhile.
            let _ = out.send((link, key, connect(learner)));
        };
        if Builder::new().name("lifeline".to_owned()).spawn(help).is_ok() {
            self.under_way += 1;
            self.lines.insert(link, None);
        }
    }

    /// Says that this connection is a lifeline. If none is wanted any more, it ends unsaid, and its
    /// end means nothing.
    fn begin(&mut self, link: LinkId, key: LifelineKey, mut line: TcpStream) {
        let Some(wanted) = self.lines.get_mut(&link) else { return };
        let mut first = Vec::new();
        First::encode_lifeline(self.sid, key, &mut first);
        if line.write_all(&first).is_ok() {
            *wanted = Some(line);
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
    const KEY: LifelineKey = LifelineKey(7);

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
        First::encode_lifeline(ServerId(3), KEY, &mut first);
        let arrived = |link| {
            lifelines.make(link, LEARNER, KEY);
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
        lifelines.make(LinkId(5), ServerId(9), KEY);
        drop(lifelines);
        assert_eq!(other.read(&mut [0; 1]).unwrap(), 0, "the thread has ended");
    }

    #[test]
    fn a_learner_whose_name_is_looked_up_for_long_holds_up_no_other() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (answer, answered) = unbounded::<()>();
        let slow = ServerId(4);
        let connect = move |learner| {
            let _ = (learner == slow).then(|| answered.recv_timeout(Duration::from_secs(30)));
            TcpStream::connect(at).ok()
        };
        let lifelines = Lifelines::start_by(ServerId(3), Arc::new(connect)).unwrap();
        let accepted = || {
            let (line, _) = listener.accept().unwrap();
            line.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            line
        };
        lifelines.make(LinkId(1), slow, KEY);
        lifelines.make(LinkId(3), LEARNER, KEY);
        let mut line = accepted();
        line.read_exact(&mut [0; 1]).unwrap();
        // Nobody wants the slow one any more when it is there, so it says nothing.
        lifelines.end(LinkId(1));
        lifelines.make(LinkId(5), LEARNER, KEY);
        accepted().read_exact(&mut [0; 1]).unwrap();
        drop(answer);
        assert_eq!(accepted().read(&mut [0; 1]).unwrap(), 0, "it ends unsaid");
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
