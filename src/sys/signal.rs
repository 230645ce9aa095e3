//! Signals as a table of what each one means to a server, and the eventfd that wakes loops.
//!
//! Every signal whose default action ends a process is decided here: a server that dies without a
//! word because somebody expected something else of a signal has no excuse.

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

/// What a signal does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Ends the process cleanly.
    End,
    /// Has the process describe its state and go on.
    Report,
    /// Is noted in the log and does nothing.
    Nothing,
    /// Is not delivered: the operation that raised it fails with an error instead.
    Error,
    /// Ends the process as the kernel does by default.
    Default,
}

/// A signal and its meaning.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The kernel's number.
    pub number: i32,
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: Meaning,
    /// The reason for that.
    pub why: &'static str,
}

const fn row(number: i32, name: &'static str, meaning: Meaning, why: &'static str) -> Row {
    Row { number, name, meaning, why }
}

/// All signals whose default action ends a process, but SIGKILL, which nobody can take, and the
/// real-time signals, which are all like [`REALTIME`].
pub const TABLE: [Row; 23] = [
    row(libc::SIGTERM, "SIGTERM", Meaning::End, "service managers and `kill` end a server with it"),
    row(libc::SIGINT, "SIGINT", Meaning::End, "Ctrl-C in a terminal"),
    row(libc::SIGHUP, "SIGHUP", Meaning::End, "the terminal is gone; `nohup` has it ignored"),
    row(libc::SIGPWR, "SIGPWR", Meaning::End, "the power is about to fail"),
    row(libc::SIGXCPU, "SIGXCPU", Meaning::End, "the limit of CPU time; SIGKILL comes next"),
    row(
        libc::SIGQUIT,
        "SIGQUIT",
        Meaning::Report,
        "a Java server prints its threads, and serves on",
    ),
    row(libc::SIGUSR1, "SIGUSR1", Meaning::Nothing, "other servers open their logs again"),
    row(libc::SIGUSR2, "SIGUSR2", Meaning::Nothing, "free for programs, and unused here"),
    row(libc::SIGALRM, "SIGALRM", Meaning::Nothing, "no timer of this process; so a stray one"),
    row(libc::SIGVTALRM, "SIGVTALRM", Meaning::Nothing, "as SIGALRM"),
    row(libc::SIGPROF, "SIGPROF", Meaning::Nothing, "as SIGALRM"),
    row(libc::SIGIO, "SIGIO", Meaning::Nothing, "no descriptor of this process raises it"),
    row(libc::SIGSTKFLT, "SIGSTKFLT", Meaning::Nothing, "the kernel does not raise it"),
    row(libc::SIGPIPE, "SIGPIPE", Meaning::Error, "the peer is gone: the write fails with EPIPE"),
    row(libc::SIGXFSZ, "SIGXFSZ", Meaning::Error, "`ulimit -f`: the write fails with EFBIG"),
    row(libc::SIGABRT, "SIGABRT", Meaning::Default, "a panic ends the process; perhaps a core"),
    row(libc::SIGSEGV, "SIGSEGV", Meaning::Default, "a fault in the program"),
    row(libc::SIGBUS, "SIGBUS", Meaning::Default, "a mapped page that the disk cannot deliver"),
    row(libc::SIGILL, "SIGILL", Meaning::Default, "a fault in the program"),
    row(libc::SIGFPE, "SIGFPE", Meaning::Default, "a fault in the program"),
    row(libc::SIGTRAP, "SIGTRAP", Meaning::Default, "debuggers"),
    row(libc::SIGSYS, "SIGSYS", Meaning::Default, "a seccomp profile that kills"),
    REALTIME,
];

/// The real-time signals, whose numbers only the C library knows.
const REALTIME: Row =
    row(0, "a real-time signal", Meaning::Nothing, "free for programs, and unused here");

impl Row {
    fn is_taken(&self) -> bool {
        matches!(self.meaning, Meaning::End | Meaning::Report | Meaning::Nothing)
    }
}

/// The row of a signal.
fn find(number: i32) -> &'static Row {
    let last = &TABLE[TABLE.len() - 1];
    TABLE.iter().find(|row| row.number == number).unwrap_or(last)
}

/// Blocks the signals that [`wait`] receives, for the calling thread and all threads it starts
/// later, and makes errors of the others. Call it before the first thread starts.
///
/// # Errors
/// The error of `pthread_sigmask`.
pub fn take() -> io::Result<()> {
    mask(libc::SIG_BLOCK, &taken_set())?;
    for row in TABLE.iter().filter(|row| row.meaning == Meaning::Error) {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(row.number, libc::SIG_IGN) };
    }
    Ok(())
}

fn mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the pointers describe an initialised set and null.
    let result =
        unsafe { libc::pthread_sigmask(how, std::ptr::from_ref(set), std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

fn set_of(signals: impl Iterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: all zeros is a valid sigset_t, and sigemptyset below initialises it properly.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer describes the set above.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: the pointer describes the set above and the number is a signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// SIGHUP, from a terminal that closes, counts unless the process was started with it ignored
/// (`nohup`), as with Java: once blocked, an ignored signal would arrive here all the same.
fn taken_set() -> libc::sigset_t {
    let listed = TABLE.iter().filter(|row| row.is_taken() && row.number != 0);
    let listed = listed.map(|row| row.number);
    let wanted = listed.filter(|signal| *signal != libc::SIGHUP || !is_ignored(*signal));
    set_of(wanted.chain(libc::SIGRTMIN()..=libc::SIGRTMAX()))
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks: no new action is passed, and the pointer describes the struct above.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Waits for the next signal that [`take`] has blocked.
///
/// # Errors
/// The error of `sigwait`.
pub fn wait() -> io::Result<&'static Row> {
    let set = taken_set();
    let mut signal = 0;
    // SAFETY: the pointers describe an initialised set and an int.
    let result = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
    if result == 0 { Ok(find(signal)) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Ends the process at once as this signal does by default, so that the parent process sees which
/// signal ended it.
pub fn end_by(row: &Row) -> ! {
    // SAFETY: the default action installs no handler.
    unsafe { libc::signal(row.number, libc::SIG_DFL) };
    let _ = mask(libc::SIG_UNBLOCK, &set_of([row.number].into_iter()));
    // SAFETY: plain library call without pointers.
    unsafe { libc::raise(row.number) };
    // A signal whose default is another: never one of those in the table that end.
    std::process::exit(128 + row.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// signal(7): what ends a process by default, with or without a core.
    #[test]
    fn every_signal_that_ends_a_process_is_decided() {
        let harmless = [
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGURG,
            libc::SIGWINCH,
        ];
        for number in (1..=31).filter(|number| !harmless.contains(number)) {
            let rows = TABLE.iter().filter(|row| row.number == number).count();
            assert_eq!(rows, usize::from(number != libc::SIGKILL), "signal {number}");
        }
        assert_eq!(find(libc::SIGRTMIN() + 3).meaning, Meaning::Nothing);
        assert_eq!(find(libc::SIGQUIT).name, "SIGQUIT");
        assert!(TABLE.iter().all(|row| !row.why.is_empty()));
    }
}
