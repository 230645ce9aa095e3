//! Connections to other members that are being made, and what a loop needs for them.
//!
//! Looking a name up and connecting may take seconds, so each dial has a short-lived thread; what
//! it comes to is taken by the loop, whose bell it rings.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::{LinkId, ServerId};
use crate::peer::{DialError, Port};

use super::links::Bell;

/// Dials under way at a time. A name server that does not answer keeps a thread for half a minute.
const DIALS_MAX: usize = 64;

/// Host and port as configured, of each address that a member has.
pub type Addresses = BTreeMap<(ServerId, Port), Vec<(String, u16)>>;

/// What the loop with the replica needs for other members.
#[derive(Debug)]
pub struct MemberPorts {
    /// This server.
    pub sid: ServerId,
    /// Where they connect.
    pub listeners: Vec<(Port, OwnedFd)>,
    /// Where they listen.
    pub addresses: Addresses,
    /// How long one address may take to answer (`cnxTimeout`).
    pub dial_timeout: Duration,
    /// How long this server's loop may be held up before its learners are to leave it.
    pub held_up_max: Duration,
}

/// What a dial came to.
type Outcome = Result<(OwnedFd, SocketAddr), DialError>;

/// Connections that are being made.
#[derive(Debug)]
pub(super) struct Dials {
    addresses: Addresses,
    timeout: Duration,
    bell: Arc<Bell>,
    out: Sender<(LinkId, Outcome)>,
    ended: Receiver<(LinkId, Outcome)>,
    under_way: usize,
}

impl Dials {
    /// To these addresses; the bell tells of an end.
    pub fn new(addresses: Addresses, timeout: Duration, bell: Arc<Bell>) -> Dials {
        let (out, ended) = unbounded();
        Dials { addresses, timeout, bell, out, ended, under_way: 0 }
    }

    /// Connects to a member.
    pub fn begin(&mut self, link: LinkId, to: ServerId, port: Port) {
        self.under_way += 1;
        if let Err(why) = self.spawn(link, to, port) {
            self.end(link, Err(DialError::Failed(why)));
        }
    }

    fn spawn(&self, link: LinkId, to: ServerId, port: Port) -> Result<(), String> {
        let no_address = || format!("server {} has no address for that", to.0);
        let addresses = self.addresses.get(&(to, port)).ok_or_else(no_address)?.clone();
        if self.under_way > DIALS_MAX {
            return Err(format!("{DIALS_MAX} connections are being made already"));
        }
        let (timeout, out, bell) = (self.timeout, self.out.clone(), Arc::clone(&self.bell));
        let dial = move || {
            // The loop may have ended meanwhile.
            let _ = out.send((link, dial(&addresses, timeout)));
            bell.ring();
        };
        let thread = std::thread::Builder::new().name("dial".to_owned()).spawn(dial);
        thread.map(drop).map_err(|e| format!("no thread to connect with: {e}"))
    }

    /// One that ends before it has begun.
    fn end(&self, link: LinkId, outcome: Outcome) {
        let _ = self.out.send((link, outcome));
    }

    /// Whether one has ended that was not taken.
    pub fn have_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// The next one that has ended.
    pub fn next(&mut self) -> Option<(LinkId, Outcome)> {
        let ended = self.ended.try_recv().ok()?;
        self.under_way -= 1;
        Some(ended)
    }
}

/// Connects to the first of these addresses that answers.
pub(super) fn dial(addresses: &[(String, u16)], timeout: Duration) -> Outcome {
    let mut failures = Failures::default();
    for (host, port) in addresses {
        let found = match (host.as_str(), *port).to_socket_addrs() {
            Ok(found) => found,
            Err(e) => {
                failures.unknown(format!("{host} cannot be resolved to an address: {e}"));
                continue;
            }
        };
        for address in found {
            match connect(&address, timeout) {
                Ok(stream) => return Ok((stream.into(), address)),
                Err(error) => failures.add(&address, &error),
            }
        }
    }
    Err(failures.error())
}

fn connect(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, timeout)?;
    // Where nobody listens on a port of this machine that the kernel may choose for the near end,
    // a connection can meet itself.
    if stream.local_addr()? == *address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Why none of the addresses has answered.
#[derive(Debug, Default)]
struct Failures {
    refused: bool,
    /// Somebody may be there who could not be asked.
    is_unsure: bool,
    texts: Vec<String>,
}

impl Failures {
    fn unknown(&mut self, text: String) {
        self.is_unsure = true;
        self.texts.push(text);
    }

    fn add(&mut self, address: &SocketAddr, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => self.refused = true,
            // This machine has no way to such addresses at all, for instance without IPv6.
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {}
            _ => self.is_unsure = true,
        }
        self.texts.push(format!("{address}: {error}"));
    }

    fn error(self) -> DialError {
        match self {
            Failures { refused: true, is_unsure: false, .. } => DialError::Refused,
            Failures { texts, .. } if texts.is_empty() => {
                DialError::Failed("its name has no address".to_owned())
            }
            Failures { texts, .. } => DialError::Failed(texts.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_member_refuses_if_no_address_leaves_doubt() {
        let address = SocketAddr::from(([127, 0, 0, 1], 3888));
        let (refused, no_route, silent) = (
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::TimedOut,
        );
        for (kinds, is_refused) in [
            (&[refused][..], true),
            (&[no_route, refused], true),
            (&[refused, silent], false),
            (&[silent], false),
            (&[no_route], false),
            (&[], false),
        ] {
            let mut failures = Failures::default();
            kinds.iter().for_each(|&kind| failures.add(&address, &kind.into()));
            assert_eq!(failures.error() == DialError::Refused, is_refused, "{kinds:?}");
        }
        let mut failures = Failures::default();
        failures.add(&address, &refused.into());
        failures.unknown("b cannot be resolved to an address: no".to_owned());
        let DialError::Failed(text) = failures.error() else { panic!("b may be there") };
        assert!(
            text.contains("127.0.0.1:3888: ")
                && text.ends_with("; b cannot be resolved to an address: no")
        );
    }

    #[test]
    fn addresses_are_tried_in_turn_until_one_answers() {
        let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let places = [("127.0.0.1", gone), ("no\0name", at), ("127.0.0.1", at)];
        let places = places.map(|(host, at)| (host.to_owned(), at.port()));
        let limit = Duration::from_secs(5);
        assert_eq!(dial(&places, limit).unwrap().1, at);
        assert_eq!(dial(&places[..1], limit).unwrap_err(), DialError::Refused);
        // The second may be where it listens.
        assert!(matches!(dial(&places[..2], limit), Err(DialError::Failed(_))));
    }

    #[test]
    fn more_dials_than_name_servers_should_hold_up_fail_at_once() {
        let addresses = BTreeMap::from([((ServerId(2), Port::Quorum), Vec::new())]);
        let bell = Arc::new(Bell::new().unwrap());
        let mut dials = Dials::new(addresses, Duration::from_secs(5), bell);
        dials.under_way = DIALS_MAX;
        dials.begin(LinkId(2), ServerId(2), Port::Quorum);
        assert!(dials.have_ended());
        let Some((LinkId(2), Err(DialError::Failed(why)))) = dials.next() else {
            panic!("it is told")
        };
        assert_eq!(why, "64 connections are being made already");
        assert_eq!(dials.under_way, DIALS_MAX);
    }
}
