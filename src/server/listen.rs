//! The client port: resolving its address, and listening with room for a storm of arrivals.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crossbeam_channel::after;

use crate::config::Settings;
use crate::sys::net;

use super::boot::{BootError, misconfigured, unexpected};
use super::host;
use super::listeners::{Listener, listeners};

/// Where to listen; the error says why the host's name leads nowhere.
pub fn resolve(settings: &Settings) -> Result<SocketAddr, String> {
    let port = settings.client_port;
    let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let Some(host) = &settings.client_host else { return Ok(everywhere) };
    match (host.as_str(), port).to_socket_addrs().map(|mut all| all.next()) {
        // COMPAT: Java's 0.0.0.0 is every address, of IPv4 and of IPv6, and so is its `::`.
        Ok(Some(address)) if address.ip().is_unspecified() => Ok(everywhere),
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err("the name has no address".to_owned()),
        Err(e) => Err(format!("cannot be resolved to an address: {e}")),
    }
}

/// How long the port may still be taken by a server that was killed: the kernel closes the sockets
/// of its ring only a moment after the process is gone.
const PORT_WAIT: Duration = Duration::from_secs(2);
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// Connections that may wait to be accepted, unless configured: clients of a whole cluster that
/// reconnect at once must not be turned away, because TCP tries again only after a second.
const ARRIVALS: u32 = 16_384;

/// Sockets that listen together, at most.
const LISTENERS_MAX: u32 = 16;

/// The backlog of each listening socket, and how many of them it takes: `net.core.somaxconn` bounds
/// the first.
fn backlog(configured: Option<u32>, somaxconn: u32) -> (i32, usize) {
    let wanted = configured.unwrap_or(ARRIVALS);
    let sockets = wanted.div_ceil(somaxconn.max(1)).clamp(1, LISTENERS_MAX);
    (i32::try_from(wanted).unwrap_or(i32::MAX), sockets as usize)
}

/// Tries until it succeeds, or fails for another reason than a port that may be free soon, or
/// [`PORT_WAIT`] is over. `may_pass` is told how long it has waited.
fn retry_while_taken<T, E>(
    on: impl Fn() -> Result<T, E>,
    may_pass: impl Fn(&E, Duration) -> bool,
) -> Result<T, E> {
    let mut waited = Duration::ZERO;
    loop {
        match on() {
            Err(e) if waited < PORT_WAIT && may_pass(&e, waited) => {
                let _ = after(PORT_PAUSE).recv();
                waited += PORT_PAUSE;
            }
            result => return result,
        }
    }
}

fn listen(address: &SocketAddr, settings: &Settings) -> io::Result<Vec<OwnedFd>> {
    let (backlog, sockets) = backlog(settings.listen_backlog, host::somaxconn());
    let may_pass = |e: &io::Error, waited: Duration| {
        let is_taken = e.kind() == io::ErrorKind::AddrInUse;
        if is_taken && waited.is_zero() {
            log::warn!(
                "{address} is taken; waiting up to {} s for the process that listens there to end",
                PORT_WAIT.as_secs()
            );
        }
        is_taken
    };
    retry_while_taken(|| net::listen(address, backlog, sockets), may_pass)
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct Refusal {
    address: SocketAddr,
    error: io::Error,
    /// The key that is to be corrected.
    pub key: &'static str,
}

impl Refusal {
    fn new(address: SocketAddr, error: io::Error) -> Refusal {
        let is_address = error.kind() == io::ErrorKind::AddrNotAvailable;
        let key = if is_address { "clientPortAddress" } else { "clientPort" };
        Refusal { address, error, key }
    }

    /// Whether somebody listens there, who may end.
    pub fn is_taken(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }

    /// What is wrong.
    pub fn what(&self) -> String {
        format!("cannot listen on {}: {}", self.address, self.error)
    }

    /// What to do, if these listen on the port.
    pub fn advice(&self, listeners: &[Listener]) -> String {
        let text = match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                let who = match listeners {
                    [] => "is another server running there?".to_owned(),
                    [first, ..] => format!("{first} listens there;"),
                };
                return format!("{who} change clientPort or clientPortAddress, or stop it");
            }
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has that address; correct clientPortAddress, or \
                 remove it to listen on all addresses"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need the capability CAP_NET_BIND_SERVICE or a lower \
                 net.ipv4.ip_unprivileged_port_start; change clientPort, or grant it"
            }
            _ => "change clientPort or clientPortAddress",
        };
        text.to_owned()
    }
}

/// Tries `wanted`. On a machine without IPv6, every address means every IPv4 address.
pub(super) fn attempt<T>(
    wanted: SocketAddr,
    on: impl Fn(&SocketAddr) -> io::Result<T>,
) -> Result<T, Refusal> {
    let refused = match on(&wanted) {
        Ok(done) => return Ok(done),
        Err(error) => Refusal::new(wanted, error),
    };
    let is_final = refused.is_taken() || refused.error.kind() == io::ErrorKind::PermissionDenied;
    if !wanted.ip().is_unspecified() || is_final {
        return Err(refused);
    }
    let address = SocketAddr::from(([0, 0, 0, 0], wanted.port()));
    on(&address).map_err(|error| Refusal::new(address, error))
}

/// Whether [`bind`] could have this address now. Takes nothing.
pub fn probe(address: SocketAddr) -> Result<(), Refusal> {
    attempt(address, net::try_bind)
}

/// As [`probe`], but waits as [`bind`] does while the port still belongs to a process that has
/// ended.
pub fn probe_while_taken(address: SocketAddr) -> Result<(), Refusal> {
    let is_leaving =
        |refusal: &Refusal, _| refusal.is_taken() && listeners(address.port()).is_empty();
    retry_while_taken(|| probe(address), is_leaving)
}

/// Listens where the configuration says.
pub fn bind(settings: &Settings) -> Result<(Vec<OwnedFd>, SocketAddr), BootError> {
    let address =
        resolve(settings).map_err(|what| misconfigured(format!("clientPortAddress: {what}")))?;
    let bound = attempt(address, |address| listen(address, settings));
    let sockets = bound.map_err(|refusal| BootError {
        message: format!(
            "{}: {}",
            refusal.what(),
            refusal.advice(&listeners(settings.client_port))
        ),
        exit_code: CANNOT_LISTEN,
    })?;
    let address = net::local_addr(&sockets[0]).map_err(unexpected("getsockname"))?;
    Ok((sockets, address))
}

/// Exit code without a port: Apache's for what it did not expect. Whatever starts the server may
/// try again, as an address or a port may be free in a moment.
pub const CANNOT_LISTEN: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, RawConfig, check};

    #[test]
    fn a_backlog_bounded_by_the_kernel_takes_more_sockets() {
        assert_eq!(backlog(None, 4096), (16_384, 4));
        assert_eq!(backlog(None, 65_536), (16_384, 1));
        assert_eq!(backlog(None, 128), (16_384, 16));
        assert_eq!(backlog(None, 0), (16_384, 16));
        assert_eq!(backlog(Some(50), 128), (50, 1));
        assert_eq!(backlog(Some(8192), 4096), (8192, 2));
        assert_eq!(backlog(Some(0), 4096), (0, 1));
    }

    #[test]
    fn the_advice_fits_the_error() {
        let address = SocketAddr::from(([127, 0, 0, 1], 2181));
        let refusal = |kind: io::ErrorKind| Refusal::new(address, kind.into());
        let taken = refusal(io::ErrorKind::AddrInUse);
        assert!(taken.is_taken() && taken.key == "clientPort");
        assert!(taken.what().starts_with("cannot listen on 127.0.0.1:2181: "));
        assert!(taken.advice(&[]).starts_with("is another server running"));
        let java = Listener { pid: 7, name: "java".to_owned() };
        assert!(taken.advice(&[java]).starts_with("process 7 (java) listens there; change client"));
        let foreign = refusal(io::ErrorKind::AddrNotAvailable);
        assert!(foreign.advice(&[]).starts_with("no interface of this"));
        assert_eq!(foreign.key, "clientPortAddress");
        let denied = refusal(io::ErrorKind::PermissionDenied);
        assert!(denied.advice(&[]).starts_with("ports below 1024 need"));
    }

    #[test]
    fn every_address_is_one_socket_for_both_families() {
        let resolved = |line: &str| {
            let mut raw = RawConfig::new();
            let text = format!("dataDir=/d\nclientPort=2181\n{line}\n");
            raw.add_file("zoo.cfg", text.as_bytes());
            let (settings, _) = check(&raw, &Environment::default()).into_settings().unwrap();
            resolve(&settings).unwrap().to_string()
        };
        for any in ["", "clientPortAddress=0.0.0.0", "clientPortAddress=::"] {
            assert_eq!(resolved(any), "[::]:2181", "{any}");
        }
        assert_eq!(resolved("clientPortAddress=[::]"), "[::]:2181");
        assert_eq!(resolved("clientPortAddress=127.0.0.1"), "127.0.0.1:2181");
        assert_eq!(resolved("clientPortAddress=[::1]"), "[::1]:2181");
    }

    #[test]
    fn a_machine_without_ipv6_listens_on_all_addresses_of_ipv4() {
        let without_ipv6 = |address: &SocketAddr| match address {
            SocketAddr::V4(_) => Ok(*address),
            SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let any: SocketAddr = "[::]:2181".parse().unwrap();
        assert_eq!(attempt(any, without_ipv6).unwrap().to_string(), "0.0.0.0:2181");
        // An operator who names one address gets this address or none.
        let local: SocketAddr = "[::1]:2181".parse().unwrap();
        let refusal = attempt(local, without_ipv6).unwrap_err();
        assert!(refusal.what().starts_with("cannot listen on [::1]:2181: "), "{}", refusal.what());
        // A port that is taken is not tried with half of the addresses.
        let taken = |_: &SocketAddr| Err::<(), _>(io::Error::from(io::ErrorKind::AddrInUse));
        assert_eq!(attempt(any, taken).unwrap_err().address, any);
    }

    #[test]
    fn nobody_else_listens_on_the_port() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = net::listen(&any, 16, 4).unwrap();
        let taken = net::local_addr(&sockets[0]).unwrap();
        for socket in &sockets {
            assert_eq!(net::local_addr(socket).unwrap(), taken);
        }
        for sharing in [1, 4] {
            let error = net::listen(&taken, 16, sharing).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        assert!(std::net::TcpListener::bind(taken).is_err());
        let trial = net::try_bind(&taken).unwrap_err();
        assert_eq!(trial.kind(), io::ErrorKind::AddrInUse);
        let found = listeners(taken.port());
        assert!(found.iter().any(|listener| listener.pid == std::process::id()), "{found:?}");
        drop(sockets);
        net::try_bind(&taken).unwrap();
        assert_eq!(listeners(taken.port()), []);
    }
}
