//! The socket and readiness calls that the generator and the ceiling share: non-blocking TCP and
//! epoll with nanosecond timeouts, without a line of unsafe code.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{Resource, Rlimit};

/// One epoll instance and the events of its last wait.
pub struct Poll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token given when it was added.
    pub token: usize,
    /// Bytes, an end of stream or an error can be read.
    pub readable: bool,
    /// Bytes can be written, or a connect has finished.
    pub writable: bool,
}

impl Poll {
    /// A new instance whose waits return at most `capacity` events.
    pub fn new(capacity: usize) -> io::Result<Poll> {
        // Paced sends must not be late by the default 50 µs.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Ok(Poll {
            fd: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(capacity.max(1)),
        })
    }

    fn flags(writable: bool) -> epoll::EventFlags {
        if writable {
            epoll::EventFlags::IN | epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        }
    }

    /// Watches `source` for reading, and for writing too if `writable`.
    pub fn add(&self, source: &impl AsFd, token: usize, writable: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::add(&self.fd, source, data, Poll::flags(writable))?)
    }

    /// Watches `source` for writing, too, or no more.
    pub fn modify(&self, source: &impl AsFd, token: usize, writable: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::modify(&self.fd, source, data, Poll::flags(writable))?)
    }

    /// Waits for events; `None` waits for ever.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.fd, spare, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Number of events of the last wait.
    pub fn ready_count(&self) -> usize {
        self.events.len()
    }

    /// The event at `index` of the last wait.
    pub fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        let flags = event.flags;
        let broken = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        Ready {
            token: event.data.u64() as usize,
            readable: flags.intersects(epoll::EventFlags::IN | broken),
            writable: flags.intersects(epoll::EventFlags::OUT | broken),
        }
    }
}

/// Addresses that connects to loopback come from in turn.
const SOURCES: usize = 64;

/// Starts a connect that completes when the socket becomes writable. To loopback, the `nth` comes
/// from one of many addresses, as clients do: from a single one the kernel soon spends most of the
/// time looking for a free port among those that the connections before still occupy.
pub fn connect_nonblocking(addr: SocketAddr, nth: usize) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if addr.ip() == Ipv4Addr::LOCALHOST {
        let source = Ipv4Addr::new(127, 0, 1, 1 + (nth % SOURCES) as u8);
        rustix::net::bind(&fd, &SocketAddr::from((source, 0)))?;
    }
    match rustix::net::connect(&fd, &addr) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(e) => return Err(e.into()),
    }
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A non-blocking listener with room for a storm of connects (std's own is 128).
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::bind(&fd, &addr)?;
    rustix::net::listen(&fd, 16_384)?;
    Ok(TcpListener::from(fd))
}

/// Writes as much of `out[from..]` as the socket takes; returns the new start, and resets the
/// buffer when all of it went out.
pub fn flush(mut stream: &TcpStream, out: &mut Vec<u8>, from: usize) -> io::Result<usize> {
    let mut at = from;
    while at < out.len() {
        match stream.write(&out[at..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => at += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(at),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    out.clear();
    Ok(0)
}

/// Raises the soft limit on open files to the hard one and returns it.
pub fn raise_file_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if rustix::process::setrlimit(Resource::Nofile, wanted).is_ok() {
        limit.maximum.unwrap_or(u64::MAX)
    } else {
        limit.current.unwrap_or(u64::MAX)
    }
}
