//! CPU affinity, clocks and process limits.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::{Instant, Now};

/// The CPUs this process may use, in ascending order.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: all zeros is a valid cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let pointer = &raw mut set;
    // SAFETY: the pointer and size describe the set above.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), pointer) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let capacity = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: every index is below the set's capacity.
    Ok((0..capacity).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Pins the calling thread to one CPU.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no CPU {cpu}")));
    }
    // SAFETY: all zeros is a valid cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index was checked against the set's capacity.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    let pointer = &raw const set;
    // SAFETY: the pointer and size describe the set above.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), pointer) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Steps between a thread that others wait for and one that nobody waits for: about a third of the
/// CPU's share when both want it, and a thread that wakes up does not wait until the slice of the
/// other one, some milliseconds, is over.
const GIVES_WAY: libc::c_int = 5;

/// The calling thread's work can wait when there are not enough CPUs for all. On Linux this
/// concerns the thread and not the process. Failure only costs others' latency.
pub fn give_way() {
    // SAFETY: it takes an integer only.
    unsafe { libc::nice(GIVES_WAY) };
}

/// Reads both clocks.
pub fn now() -> Now {
    // SAFETY: all zeros is a valid timespec.
    let mut spec: libc::timespec = unsafe { std::mem::zeroed() };
    let pointer = &raw mut spec;
    // SAFETY: the pointer describes the timespec above; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, pointer) };
    let mono = Instant(spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono, wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX) }
}

/// CPU time used by the calling thread, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    // SAFETY: all zeros is a valid timespec.
    let mut spec: libc::timespec = unsafe { std::mem::zeroed() };
    let pointer = &raw mut spec;
    // SAFETY: the pointer describes the timespec above; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, pointer) };
    spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64
}

/// Raises the soft limit of open files to the hard limit; returns the limit in force.
pub fn raise_open_files() -> io::Result<u64> {
    // SAFETY: all zeros is a valid rlimit.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    let pointer = &raw mut limit;
    // SAFETY: the pointer describes the rlimit above.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, pointer) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer describes an initialised rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Keeps the kernel from backing this process's memory with huge pages, which round a tree of many
/// small arenas up by a tenth. Failure only costs memory.
pub fn forgo_huge_pages() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: PR_SET_THP_DISABLE takes integers only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// The soft limit of open files.
pub fn open_files_max() -> io::Result<u64> {
    // SAFETY: all zeros is a valid rlimit.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    let pointer = &raw mut limit;
    // SAFETY: the pointer describes the rlimit above.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, pointer) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}
