//! TCP sockets: what `std::net` cannot express (backlog, linger, adoption of descriptors that the
//! ring accepted).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::cpu::open_files_max;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes ownership of a descriptor that an accept completion delivered.
pub fn adopt(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "a descriptor from the kernel");
    // SAFETY: the descriptor comes from an accept completion of this process and has no other
    // owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn to_storage(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let raw = &raw mut storage;
    match address {
        SocketAddr::V4(v4) => {
            let sin = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as sockaddr_in.
            unsafe { raw.cast::<libc::sockaddr_in>().write(sin) };
            (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            let sin6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as sockaddr_in6.
            unsafe { raw.cast::<libc::sockaddr_in6>().write(sin6) };
            (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn from_storage(storage: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let raw = std::ptr::from_ref(storage);
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in.
            let sin = unsafe { raw.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(sin.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddr::from((ip, u16::from_be(sin.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that this is a sockaddr_in6.
            let sin6 = unsafe { raw.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(sin6.sin6_addr.s6_addr);
            Ok(SocketAddr::from((ip, u16::from_be(sin6.sin6_port))))
        }
        other => Err(io::Error::other(format!("unexpected address family {other}"))),
    }
}

fn set_option(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let pointer = (&raw const value).cast();
    // SAFETY: the pointer and length describe a c_int that lives across the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, len) }).map(|_| ())
}

/// TCP sockets that listen on `address` together: each has a backlog of its own, and the kernel
/// deals arrivals among them. It fails if a process listens there already. Another process can join
/// later only if it is this user's and sets `SO_REUSEPORT`.
///
/// # Errors
/// The error of socket, bind or listen; the caller adds the address to the message.
pub fn listen(address: &SocketAddr, backlog: i32, sockets: usize) -> io::Result<Vec<OwnedFd>> {
    // The first listens without sharing, which fails if anybody else does.
    let mut all = vec![bound(address, false)?];
    start_listening(&all[0], backlog)?;
    if sockets > 1 {
        let address = local_addr(&all[0])?;
        set_option(&all[0], libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        for _ in 1..sockets {
            let socket = bound(&address, true)?;
            start_listening(&socket, backlog)?;
            all.push(socket);
        }
    }
    Ok(all)
}

/// Whether [`listen`] could have `address` now. Nobody can connect meanwhile.
///
/// # Errors
/// The error of socket or bind.
pub fn try_bind(address: &SocketAddr) -> io::Result<()> {
    bound(address, false).map(drop)
}

fn start_listening(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: plain system call without pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(|_| ())
}

fn bound(address: &SocketAddr, sharing: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain system call without pointers.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    let socket = adopt(fd);
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if sharing {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if address.is_ipv6() {
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    let (storage, len) = to_storage(address);
    let pointer = (&raw const storage).cast::<libc::sockaddr>();
    // SAFETY: the pointer and length describe an initialised address.
    check(unsafe { libc::bind(socket.as_raw_fd(), pointer, len) })?;
    Ok(socket)
}

fn address_of(
    call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
) -> io::Result<SocketAddr> {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    check(call((&raw mut storage).cast(), &raw mut len))?;
    from_storage(&storage)
}

/// IPv4-mapped IPv6 addresses are given as IPv4, as Java does.
fn unmapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    SocketAddr::new(ip, address.port())
}

/// Address of the other end.
pub fn peer_addr(fd: &impl AsRawFd) -> io::Result<SocketAddr> {
    let fd = fd.as_raw_fd();
    // SAFETY: the caller gives writable memory and its length.
    address_of(|pointer, len| unsafe { libc::getpeername(fd, pointer, len) }).map(unmapped)
}

/// Address of this end.
pub fn local_addr(fd: &impl AsRawFd) -> io::Result<SocketAddr> {
    let fd = fd.as_raw_fd();
    // SAFETY: the caller gives writable memory and its length.
    address_of(|pointer, len| unsafe { libc::getsockname(fd, pointer, len) })
}

/// Sends small frames at once.
pub fn set_nodelay(fd: &impl AsRawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Lets the kernel probe idle peers (`clientTcpKeepAlive`).
pub fn set_keepalive(fd: &impl AsRawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
}

/// Ends a connection of which the other end is gone without a word, within 20 s: a firewall on the
/// way may have forgotten it. By default the kernel sends again for a quarter of an hour, and asks
/// an idle end after two hours.
pub fn set_impatient(fd: &impl AsRawFd) -> io::Result<()> {
    set_keepalive(fd)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 5)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 5)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 20_000)
}

/// Bytes that the kernel has taken for the peer and the peer has not confirmed; 0 where it cannot
/// be asked.
pub fn unsent(fd: &impl AsRawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one c_int, which lives across the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { 0 } else { usize::try_from(bytes).unwrap_or(0) }
}

/// Sends as many of these bytes as the socket takes at once; their number.
///
/// # Errors
/// The error of send: it takes none, or the connection has ended.
pub fn send_now(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length describe the slice, which lives across the call.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether the peer has closed the connection or reset it, though there may be more to read.
pub fn is_hung_up(fd: &impl AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the pointer is to one pollfd, which lives across the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

/// Makes the coming close reset the connection, as Apache does for refused connections.
pub fn set_reset_on_close(fd: &impl AsRawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    let pointer = (&raw const linger).cast();
    // SAFETY: the pointer and length describe a linger struct that lives across the call.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, pointer, len)
    };
    check(result).map(|_| ())
}

/// What to do about an accept that failed, for the end of a message; empty if there is no advice.
pub fn accept_advice(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => format!(
            "; this process may have {} files open: raise LimitNOFILE of its unit, or `ulimit -n`",
            open_files_max().unwrap_or(0)
        ),
        Some(libc::ENFILE) => {
            "; the machine may not have more files open: raise fs.file-max".into()
        }
        _ => String::new(),
    }
}

/// Waits until one of `fds` can be read (or accepted from, or has failed), or `timeout` is over.
/// Returns for each of them whether it can.
///
/// # Errors
/// The error of poll. An interruption is none: it counts as a time-out.
pub fn wait_readable(fds: &[RawFd], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    // Rounded up, so that a wait for a time does not end before it.
    let timeout = timeout
        .map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    let count = polled.len() as libc::nfds_t;
    // SAFETY: the pointer and count describe the vector above, which lives across the call.
    let result = check(unsafe { libc::poll(polled.as_mut_ptr(), count, timeout) });
    match result {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(polled.iter().map(|one| one.revents != 0).collect()),
    }
}

/// Which directions [`shutdown`] ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Sending: the peer sees the end of the stream after what was sent.
    Write,
    /// Both: pending receives end too.
    Both,
}

/// Ends one or both directions; errors of already dead connections do not matter.
pub fn shutdown(fd: &impl AsRawFd, direction: Direction) {
    let how = match direction {
        Direction::Write => libc::SHUT_WR,
        Direction::Both => libc::SHUT_RDWR,
    };
    // SAFETY: plain system call without pointers.
    unsafe { libc::shutdown(fd.as_raw_fd(), how) };
}
