//! The two ports of a member for other members: listening on them, and the addresses of all others.
//! Counterparts: `QuorumCnxManager.Listener` and the server socket of `Leader`.
//!
//! Ours listens on the quorum port also while it does not lead: a follower may know of its election
//! earlier than the leader itself.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crossbeam_channel::after;

use crate::config::{EnsembleSettings, Finding, Verdict};
use crate::peer::Port;
use crate::quorum::{MemberAddress, Membership};
use crate::sys::net;

use super::boot::BootError;
use super::dials::{Addresses, MemberPorts};
use super::listen::{CANNOT_LISTEN, attempt};
use super::listeners::listeners;

/// Pause between two attempts to listen, as in ZooKeeper.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted: an ensemble has few members.
const BACKLOG: i32 = 128;

/// Where a port for members listens.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    port: Port,
    /// `None` is every address of this machine.
    host: Option<String>,
    number: u16,
}

impl Place {
    fn all(ensemble: &EnsembleSettings) -> Vec<Place> {
        let addresses = ensemble.this().map_or(&[][..], |this| this.addresses.as_slice());
        let mut all: Vec<Place> = Vec::new();
        for address in addresses {
            for port in [Port::Election, Port::Quorum] {
                let host = Some(address.host.clone()).filter(|_| !ensemble.is_listen_on_all_ips);
                let place = Place { port, host, number: number(address, port) };
                if !all.contains(&place) {
                    all.push(place);
                }
            }
        }
        all
    }

    fn resolve(&self) -> Result<SocketAddr, String> {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), self.number);
        let Some(host) = &self.host else { return Ok(everywhere) };
        match (host.as_str(), self.number).to_socket_addrs().map(|mut all| all.next()) {
            // COMPAT: Java's 0.0.0.0 is every address, of IPv4 and of IPv6.
            Ok(Some(address)) if address.ip().is_unspecified() => Ok(everywhere),
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(format!("{host} has no address")),
            Err(e) => Err(format!("{host} cannot be resolved to an address: {e}")),
        }
    }

    /// Does `on` with the address; the error says what is wrong and what to do.
    fn with<T>(&self, on: impl Fn(&SocketAddr) -> io::Result<T>) -> Result<T, String> {
        let address = self.resolve()?;
        attempt(address, on).map_err(|refusal| {
            let advice = match listeners(self.number).first() {
                Some(other) if refusal.is_taken() => format!("{other} listens there"),
                None | Some(_) => {
                    "the host has to be this machine, or quorumListenOnAllIPs true".to_owned()
                }
            };
            format!("{}; {advice}", refusal.what())
        })
    }
}

fn number(address: &MemberAddress, port: Port) -> u16 {
    match port {
        Port::Election => address.election_port,
        Port::Quorum => address.quorum_port,
    }
}

fn purpose(port: Port) -> &'static str {
    match port {
        Port::Election => "votes",
        Port::Quorum => "learners",
    }
}

/// Listens on both ports of this member, with as many attempts as are configured. `tick` is
/// `tickTime`.
///
/// # Errors
/// Why the last attempt failed.
pub fn open(ensemble: &EnsembleSettings, tick: Duration) -> Result<MemberPorts, BootError> {
    Ok(MemberPorts {
        sid: ensemble.sid,
        listeners: bind(ensemble)?,
        addresses: addresses(&ensemble.membership),
        dial_timeout: Duration::from_millis(u64::from(ensemble.cnx_timeout_ms)),
        // With the silence that learners bear on top, they leave within `syncLimit`.
        held_up_max: tick * ensemble.sync_limit / 2,
    })
}

fn bind(ensemble: &EnsembleSettings) -> Result<Vec<(Port, OwnedFd)>, BootError> {
    let mut bound = Vec::new();
    for place in Place::all(ensemble) {
        let sockets = retry_while_taken(ensemble.bind_attempts_max, || {
            place.with(|address| net::listen(address, BACKLOG, 1))
        });
        let sockets = sockets.map_err(|what| BootError {
            message: format!("server.{} for {}: {what}", ensemble.sid.0, purpose(place.port)),
            exit_code: CANNOT_LISTEN,
        })?;
        for socket in sockets {
            if let Ok(address) = net::local_addr(&socket) {
                log::info!("listening on {address} for {}", purpose(place.port));
            }
            bound.push((place.port, socket));
        }
    }
    Ok(bound)
}

/// Tries `on` again and again, for instance because the port is still taken, up to `attempts_max`
/// times; without limit if that is `None`.
fn retry_while_taken<T>(
    attempts_max: Option<u32>,
    on: impl Fn() -> Result<T, String>,
) -> Result<T, String> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match on() {
            Err(what) if attempts_max.is_none_or(|max| attempts < max) => {
                log::warn!("{what}; trying again in {} s", BIND_PAUSE.as_secs());
                let _ = after(BIND_PAUSE).recv();
            }
            result => return result,
        }
    }
}

/// Where the ports of all members are, in the order in which they are to be tried.
fn addresses(membership: &Membership) -> Addresses {
    let mut all = Addresses::new();
    for member in membership.members() {
        for port in [Port::Election, Port::Quorum] {
            let places = member.addresses.iter();
            let places = places.map(|at| (at.host.clone(), number(at, port))).collect();
            all.insert((member.sid, port), places);
        }
    }
    all
}

/// What a start would meet: ports of this member that cannot be had, and names of others that lead
/// nowhere. `is_running` says that this member runs already, and so has its ports.
pub fn foresee(ensemble: &EnsembleSettings, is_running: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for place in Place::all(ensemble) {
        let problem = place.with(|address| match net::try_bind(address) {
            Err(e) if is_running && e.kind() == io::ErrorKind::AddrInUse => Ok(()),
            result => result,
        });
        found.extend(problem.err().map(|what| Finding {
            key: format!("server.{}", ensemble.sid.0).into(),
            what: format!("for {}: {what}", purpose(place.port)),
            hint: String::new(),
            verdict: Verdict::Refused { exit_code: CANNOT_LISTEN },
        }));
    }
    let others = ensemble.membership.members().filter(|member| member.sid != ensemble.sid);
    for member in others {
        for address in &member.addresses {
            let place = Place {
                port: Port::Quorum,
                host: Some(address.host.clone()),
                number: address.quorum_port,
            };
            found.extend(place.resolve().err().map(|what| Finding {
                key: format!("server.{}", member.sid.0).into(),
                what,
                hint: "until it can, this member cannot reach the other one".to_owned(),
                verdict: Verdict::Doubtful,
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::base::ServerId;
    use crate::config::{Environment, RawConfig, check};

    fn ensemble(lines: &str) -> EnsembleSettings {
        let mut raw = RawConfig::new();
        let text = format!("dataDir=/d\nclientPort=1\ninitLimit=1\nsyncLimit=1\n{lines}");
        raw.add_file("zoo.cfg", text.as_bytes());
        raw.add_my_id("myid", Ok(b"1".to_vec()));
        check(&raw, &Environment::default()).into_settings().unwrap().0.ensemble.unwrap()
    }

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn both_ports_listen_at_the_address_of_the_line_or_everywhere() {
        let (quorum, election) = (free_port(), free_port());
        let lines =
            format!("server.1=127.0.0.1:{quorum}:{election}\nserver.2=b:1:2\nserver.3=c:1:2\n");
        for (more, ip) in [("", "127.0.0.1"), ("quorumListenOnAllIPs=true\n", "::")] {
            let bound = bind(&ensemble(&format!("{lines}{more}"))).unwrap();
            let at: Vec<_> = bound
                .iter()
                .map(|(port, socket)| (*port, net::local_addr(socket).unwrap()))
                .collect();
            let expect = |number| SocketAddr::new(ip.parse().unwrap(), number);
            assert_eq!(at, [(Port::Election, expect(election)), (Port::Quorum, expect(quorum))]);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named_after_the_last_attempt() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        let ensemble = ensemble(&format!(
            "electionPortBindRetry=1\nserver.1=127.0.0.1:{}:{taken}\nserver.2=127.0.0.1:1:2\n\
             server.3=no such host:1:2\n",
            free_port()
        ));
        let error = bind(&ensemble).unwrap_err();
        assert_eq!(error.exit_code, 1);
        let begin = format!("server.1 for votes: cannot listen on 127.0.0.1:{taken}: ");
        assert!(error.message.starts_with(&begin), "{error}");
        assert!(error.message.contains(&format!("process {} (", std::process::id())), "{error}");
        let found = foresee(&ensemble, false);
        let keys: Vec<_> = found.iter().map(|finding| finding.key.as_ref()).collect();
        assert_eq!(keys, ["server.1", "server.3"]);
        assert_eq!(found[0].verdict, Verdict::Refused { exit_code: 1 });
        assert_eq!(found[1].verdict, Verdict::Doubtful);
        assert_eq!(foresee(&ensemble, true).len(), 1);
    }

    #[test]
    fn every_member_has_both_ports_at_each_of_its_addresses() {
        let all = addresses(
            &ensemble(
                "multiAddress.enabled=true\nserver.1=a:1:2|b:3:4\nserver.2=c:5:6:observer\n\
             server.3=d:7:8\nserver.4=e:9:10\n",
            )
            .membership,
        );
        let at = |host: &str, port| (host.to_owned(), port);
        assert_eq!(all.len(), 8);
        assert_eq!(all[&(ServerId(1), Port::Election)], [at("a", 2), at("b", 4)]);
        assert_eq!(all[&(ServerId(1), Port::Quorum)], [at("a", 1), at("b", 3)]);
        assert_eq!(all[&(ServerId(2), Port::Election)], [at("c", 6)]);
    }
}
