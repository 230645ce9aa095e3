//! Termination signals as a flag and a descriptor to wake on, and the eventfd that wakes loops.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::net::adopt;

/// A counter in the kernel that one thread signals and another waits for.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new, unsignalled one.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: plain system call without pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(EventFd(adopt(fd))) }
    }

    /// Wakes the waiter. Only fails when the counter is about to overflow, and then the waiter is
    /// awake anyway.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer and length describe the array above.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Blocks SIGTERM, SIGINT and SIGHUP for the calling thread and all it starts later, and ignores
/// SIGPIPE; [`wait_for_termination`] then receives them.
pub fn block_termination() -> io::Result<()> {
    let set = termination_set();
    // SAFETY: the pointers describe an initialised set and null.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    Ok(())
}

fn termination_set() -> libc::sigset_t {
    // SAFETY: all zeros is a valid sigset_t, and sigemptyset below initialises it properly.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer describes the set above.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the pointer describes the set above and the number is a signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGTERM) };
    // SAFETY: the pointer describes the set above and the number is a signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGINT) };
    if !is_ignored(libc::SIGHUP) {
        // SAFETY: the pointer describes the set above and the number is a signal.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGHUP) };
    }
    set
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks: no new action is passed, and the pointer describes the struct above.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Waits until the process is asked to end; returns the signal's number.
///
/// SIGHUP, from a terminal that closes, counts like the others unless whoever started the process
/// has it ignored (`nohup`), as with Java: what is blocked would arrive here all the same.
pub fn wait_for_termination() -> io::Result<i32> {
    let set = termination_set();
    let mut signal = 0;
    // SAFETY: the pointers describe an initialised set and an int.
    let result = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
    if result == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Name of a signal that [`wait_for_termination`] returns.
pub fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        _ => "SIGTERM",
    }
}
