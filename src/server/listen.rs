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

/// Where to listen; the error says why the host's name leads nowhere.
pub fn resolve(settings: &Settings) -> Result<SocketAddr, String> {
    let port = settings.client_port;
    let Some(host) = &settings.client_host else {
        // Every address, IPv4 included, as Java's wildcard.
        return Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    };
    match (host.as_str(), port).to_socket_addrs().map(|mut all| all.next()) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err("the name has no address".to_owned()),
        Err(e) => Err(format!("cannot be resolved to an address: {e}")),
    }
}

/// How long the port may still be taken by a server that was killed: the kernel closes the sockets
/// of its ring only a moment after the process is gone.
const PORT_WAIT: Duration = Duration::from_secs(2);

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

fn listen(address: &SocketAddr, settings: &Settings) -> io::Result<Vec<OwnedFd>> {
    let (backlog, sockets) = backlog(settings.listen_backlog, host::somaxconn());
    let pause = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match net::listen(address, backlog, sockets) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && waited < PORT_WAIT => {
                let _ = after(pause).recv();
                waited += pause;
            }
            result => return result,
        }
    }
}

/// What to do when an address cannot be listened on.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is another server running there? change clientPort or clientPortAddress, or stop it"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address; correct clientPortAddress, or remove \
             it to listen on all addresses"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE or a lower \
             net.ipv4.ip_unprivileged_port_start; change clientPort, or grant it"
        }
        _ => "change clientPort or clientPortAddress",
    }
}

/// Listens where the configuration says.
pub fn bind(settings: &Settings) -> Result<(Vec<OwnedFd>, SocketAddr), BootError> {
    let mut address =
        resolve(settings).map_err(|what| misconfigured(format!("clientPortAddress: {what}")))?;
    let mut bound = listen(&address, settings);
    if let Err(e) = &bound
        && settings.client_host.is_none()
        && !matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
    {
        // No IPv6 on this machine.
        address = SocketAddr::from(([0, 0, 0, 0], settings.client_port));
        bound = listen(&address, settings);
    }
    let sockets = bound.map_err(|e| BootError {
        message: format!("cannot listen on {address}: {e}: {}", advice(&e)),
        exit_code: 1,
    })?;
    let address = net::local_addr(&sockets[0]).map_err(unexpected("getsockname"))?;
    Ok((sockets, address))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let advice = |kind: io::ErrorKind| advice(&kind.into());
        assert!(advice(io::ErrorKind::AddrInUse).starts_with("is another server running"));
        assert!(advice(io::ErrorKind::AddrNotAvailable).starts_with("no interface of this"));
        assert!(advice(io::ErrorKind::PermissionDenied).starts_with("ports below 1024 need"));
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
    }
}
