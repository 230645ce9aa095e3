//! An io_uring instance whose operations own their buffers.
//!
//! A buffer given to the kernel is moved into the operation's slot and comes back with its
//! completion, so nothing that safe code holds can be freed under the kernel. A slot is reused
//! only after the kernel's last completion for it, so a late completion can never name another
//! operation. When a ring is dropped with operations in flight their buffers are leaked, because
//! the kernel may still write to them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use memmap2::MmapMut;
use slab::Slab;

use super::file::AlignedBuf;

/// What to ask of the kernel when a ring is made.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Submission queue size; the completion queue is four times as large.
    pub entries: u32,
    /// Use multishot accept and receive where the kernel has them.
    pub multishot: bool,
    /// Number of provided receive buffers; a power of two.
    pub buffers: u16,
    /// Bytes of each provided receive buffer.
    pub buffer_size: u32,
}

/// What the kernel offered and this ring uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingFeatures {
    /// `IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN`.
    pub defer_taskrun: bool,
    /// Multishot accept.
    pub multishot_accept: bool,
    /// Multishot receive from a provided-buffer ring.
    pub multishot_recv: bool,
}

impl fmt::Display for RingFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "yes" } else { "no" };
        write!(
            f,
            "io_uring: deferred task work {}, multishot accept {}, multishot receive with \
             provided buffers {}",
            word(self.defer_taskrun),
            word(self.multishot_accept),
            word(self.multishot_recv)
        )
    }
}

/// Whose turn it is. What is begun in one lane is never held up by the other: its completions stand
/// in a queue of their own, and its receives have buffers of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// For the many; see [`Ring::next_completion`].
    Common,
    /// For the few; see [`Ring::next_first`].
    First,
}

/// Bytes received into one of the ring's provided buffers; give it back with
/// [`Ring::release`].
#[derive(Debug)]
#[must_use]
pub struct Provided {
    lane: Lane,
    id: u16,
    len: u32,
}

/// Bytes that a receive brought.
#[derive(Debug)]
#[must_use]
pub enum Bytes {
    /// In a provided buffer.
    Provided(Provided),
    /// In a buffer of their own (kernels without buffer rings).
    Owned(Vec<u8>),
}

/// A finished step of an operation. `token` is what the caller passed when it began.
#[derive(Debug)]
pub enum Completion {
    /// A listening socket accepted a connection, or failed to (`-errno`). `more` says that the
    /// accept stays armed.
    Accepted {
        /// Caller's token.
        token: u64,
        /// New descriptor.
        result: io::Result<RawFd>,
        /// Whether the operation goes on.
        more: bool,
    },
    /// A receive brought bytes; `Ok(None)` is the end of the stream. `more` says that the
    /// receive stays armed.
    Received {
        /// Caller's token.
        token: u64,
        /// Bytes, end of stream, or the error.
        result: io::Result<Option<Bytes>>,
        /// Whether the operation goes on.
        more: bool,
    },
    /// A send ended; the buffer comes back after a failure, too.
    Sent {
        /// Caller's token.
        token: u64,
        /// The caller's buffer.
        buf: Vec<u8>,
        /// Bytes accepted by the socket.
        result: io::Result<usize>,
    },
    /// A file write ended; the buffer comes back after a failure, too.
    Written {
        /// Caller's token.
        token: u64,
        /// The caller's buffer.
        buf: AlignedBuf,
        /// Bytes written and, with `RWF_DSYNC`, durable.
        result: io::Result<usize>,
    },
    /// The eventfd of [`Ring::read_eventfd`] was signalled; the read is not armed any more.
    Woken {
        /// Caller's token.
        token: u64,
    },
}

enum Op {
    Accept { token: u64 },
    RecvProvided { token: u64 },
    RecvOwned { token: u64, buf: Vec<u8> },
    Send { token: u64, buf: Vec<u8> },
    Write { token: u64, buf: AlignedBuf },
    Eventfd { token: u64, _value: Box<[u8; 8]> },
}

/// Handle to an operation in flight, for cancelling it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpId(u64);

const IGNORED: u64 = u64::MAX;
/// Marks the operations of [`Lane::First`], above the number of their slot.
const FIRST: u64 = 1 << 62;
/// Bytes of one send; more would say nothing for as long as the peer takes to read it all.
const SEND_MAX: u32 = 256 << 10;
/// Tries to submit that bring neither success nor completions, before it is an error.
const FRUITLESS_MAX: u32 = 1000;

struct Buffers {
    ring: MmapMut,
    memory: MmapMut,
    entries: u16,
    size: u32,
    tail: u16,
}

/// One io_uring with its operations and receive buffers. Not shared between threads.
pub struct Ring {
    uring: IoUring,
    ops: Slab<Op>,
    buffers: Option<Buffers>,
    first_buffers: Option<Buffers>,
    features: RingFeatures,
    cqes: Vec<cqueue::Entry>,
    next_cqe: usize,
    /// Completions of [`Lane::First`].
    first: VecDeque<cqueue::Entry>,
    /// Something was begun in that lane.
    has_first: bool,
    recv_size: u32,
}

/// Explains a failed set-up in the terms an operator can act on.
fn explain(error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring (Linux 5.11 or newer is needed), or the seccomp profile \
             of a container hides it: allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::EPERM) => {
            "io_uring is not allowed to this process: set the sysctl kernel.io_uring_disabled to \
             0, and let the seccomp profile of the container, or SystemCallFilter of the unit, \
             allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::ENOMEM) => "too little locked memory: raise the limit shown by `ulimit -l`",
        Some(libc::EMFILE) => "too many open files: raise the limit shown by `ulimit -n`",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("cannot set up io_uring: {error}: {hint}"))
}

fn build(entries: u32, defer: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(entries.saturating_mul(4));
    if defer {
        builder.setup_submit_all().setup_single_issuer();
        builder.setup_defer_taskrun().setup_taskrun_flag();
    }
    builder.build(entries)
}

impl Buffers {
    fn register(uring: &IoUring, lane: Lane, entries: u16, size: u32) -> io::Result<Buffers> {
        assert!(entries.is_power_of_two(), "buffer count is a power of two");
        let ring = MmapMut::map_anon(usize::from(entries) * size_of::<BufRingEntry>())?;
        let memory = MmapMut::map_anon(usize::from(entries) * size as usize)?;
        let submitter = uring.submitter();
        // SAFETY: the ring memory is a page-aligned anonymous mapping of entries * 16 bytes that
        // lives in `Buffers` next to the io_uring; `Ring` unmaps it only after closing the ring.
        unsafe {
            submitter.register_buf_ring_with_flags(
                ring.as_ptr() as u64,
                entries,
                lane as u16,
                0,
            )?;
        }
        let mut buffers = Buffers { ring, memory, entries, size, tail: 0 };
        for id in 0..entries {
            buffers.push(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    fn push(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.entries - 1));
        let address = self.memory.as_ptr() as u64 + u64::from(id) * u64::from(self.size);
        let base = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: slot < entries, so the pointer stays inside the mapping.
        let entry = unsafe { base.add(slot) };
        // SAFETY: the entry is inside the mapping, aligned, and the kernel reads it only after
        // the tail that covers it was published.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let base = self.ring.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `base` points at a registered buffer ring, whose tail overlays entry 0.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: the tail is a u16 that only this thread writes; the kernel reads it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn bytes(&self, provided: &Provided) -> &[u8] {
        let start = usize::from(provided.id) * self.size as usize;
        &self.memory[start..start + provided.len as usize]
    }
}

impl Ring {
    /// Sets up a ring for the calling thread, using what the kernel has.
    ///
    /// # Errors
    /// Where io_uring is missing or not allowed; the text says what to change.
    pub fn new(options: RingOptions) -> io::Result<Ring> {
        let (uring, defer_taskrun) = match build(options.entries, true) {
            Ok(uring) => (uring, true),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                (build(options.entries, false).map_err(explain)?, false)
            }
            Err(e) => return Err(explain(e)),
        };
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe).map_err(explain)?;
        for (code, name) in [
            (opcode::Accept::CODE, "accept"),
            (opcode::Recv::CODE, "recv"),
            (opcode::Send::CODE, "send"),
            (opcode::Write::CODE, "write"),
            (opcode::AsyncCancel::CODE, "cancel"),
        ] {
            if !probe.is_supported(code) {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("this kernel's io_uring lacks the operation {name}"),
                ));
            }
        }
        // SOCKET arrived in the kernel (5.19) that brought multishot accept and buffer rings;
        // SEND_ZC (6.0) in the one that brought multishot receive.
        let multishot_accept = options.multishot && probe.is_supported(opcode::Socket::CODE);
        let multishot_recv = options.multishot && probe.is_supported(opcode::SendZc::CODE);
        let buffers = if multishot_recv {
            Buffers::register(&uring, Lane::Common, options.buffers, options.buffer_size).ok()
        } else {
            None
        };
        let features =
            RingFeatures { defer_taskrun, multishot_accept, multishot_recv: buffers.is_some() };
        Ok(Ring {
            uring,
            ops: Slab::new(),
            buffers,
            first_buffers: None,
            features,
            cqes: Vec::new(),
            next_cqe: 0,
            first: VecDeque::new(),
            has_first: false,
            recv_size: options.buffer_size,
        })
    }

    /// Gives the receives of [`Lane::First`] that many buffers, a power of two, if this kernel has
    /// rings of buffers.
    pub fn add_first_buffers(&mut self, entries: u16) -> io::Result<()> {
        if let Some(common) = &self.buffers {
            let buffers = Buffers::register(&self.uring, Lane::First, entries, common.size)?;
            self.first_buffers = Some(buffers);
        }
        Ok(())
    }

    /// What this ring uses.
    pub fn features(&self) -> RingFeatures {
        self.features
    }

    /// Number of operations in flight.
    pub fn in_flight(&self) -> usize {
        self.ops.len()
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        let mut fruitless = 0;
        loop {
            // SAFETY: every buffer that the entry points to is owned by the operation's slot or
            // by this ring, so it outlives the operation.
            let pushed = unsafe { self.uring.submission().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            let submitted = self.uring.submit();
            self.after_submit(submitted, &mut fruitless)?;
        }
    }

    /// Makes the next try possible where the kernel takes nothing (EBUSY) before it has room for
    /// its completions: they are kept here until asked for. Gives up if that goes on without any.
    fn after_submit(
        &mut self,
        submitted: io::Result<usize>,
        fruitless: &mut u32,
    ) -> io::Result<()> {
        let Err(error) = submitted else { return Ok(()) };
        let errno = error.raw_os_error();
        if !matches!(errno, Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)) {
            return Err(error);
        }
        *fruitless = if self.gather() { 0 } else { *fruitless + 1 };
        if *fruitless > FRUITLESS_MAX {
            return Err(error);
        }
        Ok(())
    }

    /// Hands the operations begun so far to the kernel without waiting for any. What it does not
    /// take now goes with the next call.
    pub fn submit(&mut self) -> io::Result<()> {
        if self.uring.submission().is_empty() {
            return Ok(());
        }
        let submitted = self.uring.submit();
        self.after_submit(submitted, &mut 0)
    }

    fn start(&mut self, lane: Lane, op: Op, entry: squeue::Entry) -> io::Result<OpId> {
        let mark = if lane == Lane::First { FIRST } else { 0 };
        self.has_first |= lane == Lane::First;
        let id = self.ops.insert(op) as u64 | mark;
        self.push(&entry.user_data(id))?;
        Ok(OpId(id))
    }

    /// Accepts on a listening socket; stays armed where [`RingFeatures::multishot_accept`].
    pub fn accept(&mut self, lane: Lane, listener: RawFd, token: u64) -> io::Result<OpId> {
        let flags = libc::SOCK_CLOEXEC;
        let entry = if self.features.multishot_accept {
            opcode::AcceptMulti::new(Fd(listener)).flags(flags).build()
        } else {
            let none = std::ptr::null_mut();
            opcode::Accept::new(Fd(listener), none, std::ptr::null_mut()).flags(flags).build()
        };
        self.start(lane, Op::Accept { token }, entry)
    }

    /// Receives from a socket; stays armed where [`RingFeatures::multishot_recv`].
    pub fn recv(&mut self, lane: Lane, socket: RawFd, token: u64) -> io::Result<OpId> {
        if self.buffers_of(lane).is_none() {
            return self.recv_once(lane, socket, token);
        }
        let entry = opcode::RecvMulti::new(Fd(socket), lane as u16).build();
        self.start(lane, Op::RecvProvided { token }, entry)
    }

    /// Receives from a socket what one buffer holds.
    pub fn recv_once(&mut self, lane: Lane, socket: RawFd, token: u64) -> io::Result<OpId> {
        if self.buffers_of(lane).is_some() {
            let entry = opcode::Recv::new(Fd(socket), std::ptr::null_mut(), self.recv_size)
                .buf_group(lane as u16)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT);
            return self.start(lane, Op::RecvProvided { token }, entry);
        }
        let mut buf = vec![0; self.recv_size as usize];
        let entry = opcode::Recv::new(Fd(socket), buf.as_mut_ptr(), self.recv_size).build();
        self.start(lane, Op::RecvOwned { token, buf }, entry)
    }

    /// Sends `buf[from..]`; the kernel retries short sends of a stream socket by itself.
    pub fn send(
        &mut self,
        lane: Lane,
        socket: RawFd,
        buf: Vec<u8>,
        from: usize,
        token: u64,
    ) -> io::Result<OpId> {
        let rest = &buf[from..];
        // Of a large rest the kernel reports what the socket takes, piece by piece.
        let (len, wait) = match u32::try_from(rest.len()) {
            Ok(len) if len <= SEND_MAX => (len, libc::MSG_WAITALL),
            _ => (SEND_MAX, 0),
        };
        let entry = opcode::Send::new(Fd(socket), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | wait)
            .build();
        self.start(lane, Op::Send { token, buf }, entry)
    }

    /// Writes `buf[..len]` at `offset` of a file; with `RWF_DSYNC` among `rw_flags` the
    /// completion means that the bytes are on stable storage.
    pub fn write(
        &mut self,
        file: RawFd,
        buf: AlignedBuf,
        len: usize,
        offset: u64,
        rw_flags: i32,
        token: u64,
    ) -> io::Result<OpId> {
        let bytes = &buf[..len];
        let len = u32::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let entry = opcode::Write::new(Fd(file), bytes.as_ptr(), len)
            .offset(offset)
            .rw_flags(rw_flags)
            .build();
        self.start(Lane::Common, Op::Write { token, buf }, entry)
    }

    /// Waits for an eventfd to be signalled, once.
    pub fn read_eventfd(&mut self, eventfd: RawFd, token: u64) -> io::Result<OpId> {
        let mut value = Box::new([0u8; 8]);
        let entry = opcode::Read::new(Fd(eventfd), value.as_mut_ptr(), 8).build();
        self.start(Lane::Common, Op::Eventfd { token, _value: value }, entry)
    }

    /// Asks the kernel to end an operation; its own completion still arrives.
    pub fn cancel(&mut self, op: OpId) -> io::Result<()> {
        self.push(&opcode::AsyncCancel::new(op.0).build().user_data(IGNORED))
    }

    /// Submits what was begun and, if `timeout` is not zero, waits for a completion at most that
    /// long (`None`: until one arrives).
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let waiting = timeout != Some(Duration::ZERO) && !self.has_completions();
        let result = match timeout {
            _ if !waiting => {
                // Deferred task work runs only inside a call that asks for events.
                if self.features.defer_taskrun {
                    let args = SubmitArgs::new();
                    let spec = Timespec::new();
                    let args = args.timespec(&spec);
                    self.uring.submitter().submit_with_args(1, &args)
                } else {
                    self.uring.submit()
                }
            }
            None => self.uring.submit_and_wait(1),
            Some(limit) => {
                let spec = Timespec::from(limit);
                let args = SubmitArgs::new().timespec(&spec);
                self.uring.submitter().submit_with_args(1, &args)
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn has_completions(&mut self) -> bool {
        self.next_cqe < self.cqes.len()
            || !self.first.is_empty()
            || !self.uring.completion().is_empty()
    }

    /// Takes what has arrived out of the kernel's queue. Returns whether there was anything.
    ///
    /// Kernels from 6.13 on put no more than 20 deferred completions into the queue at a time. The
    /// others are asked for here: after one wait for each 20 of them, a thousand connections that
    /// come and go would keep all others waiting for a second.
    fn gather(&mut self) -> bool {
        if self.take_arrived() {
            return true;
        }
        if !self.uring.submission().taskrun() {
            return false;
        }
        // An error shows again when the loop waits the next time.
        let _ = self.uring.submit();
        self.take_arrived()
    }

    fn take_arrived(&mut self) -> bool {
        if self.next_cqe * 2 >= self.cqes.len() {
            self.cqes.drain(..self.next_cqe);
            self.next_cqe = 0;
        }
        let before = self.cqes.len() + self.first.len();
        let arrived = self.uring.completion();
        if self.has_first {
            for cqe in arrived {
                match cqe.user_data() & FIRST {
                    0 => self.cqes.push(cqe),
                    _ => self.first.push_back(cqe),
                }
            }
        } else {
            self.cqes.extend(arrived);
        }
        self.cqes.len() + self.first.len() > before
    }

    /// The next completion of [`Lane::First`] that has arrived, if any, however many of the other
    /// lane came before it.
    pub fn next_first(&mut self) -> Option<Completion> {
        self.gather();
        while let Some(cqe) = self.first.pop_front() {
            if let Some(completion) = self.complete(&cqe) {
                return Some(completion);
            }
        }
        None
    }

    /// The next completion of [`Lane::Common`] that has arrived, if any.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            if self.next_cqe == self.cqes.len() {
                self.gather();
                if self.cqes.is_empty() {
                    return None;
                }
            }
            let cqe = self.cqes[self.next_cqe].clone();
            self.next_cqe += 1;
            if let Some(completion) = self.complete(&cqe) {
                return Some(completion);
            }
        }
    }

    fn complete(&mut self, cqe: &cqueue::Entry) -> Option<Completion> {
        if cqe.user_data() == IGNORED {
            return None;
        }
        let slot = usize::try_from(cqe.user_data() & !FIRST).ok()?;
        let lane = if cqe.user_data() & FIRST == 0 { Lane::Common } else { Lane::First };
        let more = cqueue::more(cqe.flags());
        let result = match cqe.result() {
            n if n < 0 => Err(io::Error::from_raw_os_error(-n)),
            n => Ok(n as usize),
        };
        if more {
            return match self.ops.get(slot)? {
                Op::Accept { token } => Some(Completion::Accepted {
                    token: *token,
                    result: result.map(|fd| fd as RawFd),
                    more,
                }),
                Op::RecvProvided { token } => {
                    let result = result.map(|n| provided(cqe, lane, n));
                    Some(Completion::Received { token: *token, result, more })
                }
                _ => None,
            };
        }
        match self.ops.try_remove(slot)? {
            Op::Accept { token } => {
                let result = result.map(|fd| fd as RawFd);
                Some(Completion::Accepted { token, result, more })
            }
            Op::RecvProvided { token } => {
                let result = result.map(|n| provided(cqe, lane, n));
                Some(Completion::Received { token, result, more })
            }
            Op::RecvOwned { token, mut buf } => {
                let result = result.map(|n| {
                    buf.truncate(n);
                    if n == 0 { None } else { Some(Bytes::Owned(buf)) }
                });
                Some(Completion::Received { token, result, more })
            }
            Op::Send { token, buf } => Some(Completion::Sent { token, buf, result }),
            Op::Write { token, buf } => Some(Completion::Written { token, buf, result }),
            Op::Eventfd { token, .. } => Some(Completion::Woken { token }),
        }
    }

    /// The bytes of a receive.
    ///
    /// # Panics
    /// Never for bytes that this ring gave out.
    pub fn bytes<'a>(&'a self, bytes: &'a Bytes) -> &'a [u8] {
        match bytes {
            Bytes::Owned(buf) => buf,
            Bytes::Provided(provided) => {
                self.buffers_of(provided.lane).map_or(&[], |buffers| buffers.bytes(provided))
            }
        }
    }

    fn buffers_of(&self, lane: Lane) -> Option<&Buffers> {
        match lane {
            Lane::Common => self.buffers.as_ref(),
            Lane::First => self.first_buffers.as_ref(),
        }
    }

    /// Gives a receive's buffer back to the kernel.
    pub fn release(&mut self, bytes: Bytes) {
        let Bytes::Provided(provided) = bytes else { return };
        let buffers = match provided.lane {
            Lane::Common => &mut self.buffers,
            Lane::First => &mut self.first_buffers,
        };
        if let Some(buffers) = buffers {
            buffers.push(provided.id);
            buffers.publish();
        }
    }
}

fn provided(cqe: &cqueue::Entry, lane: Lane, n: usize) -> Option<Bytes> {
    let id = cqueue::buffer_select(cqe.flags())?;
    if n == 0 {
        // The end of the stream consumes no buffer.
        return None;
    }
    Some(Bytes::Provided(Provided { lane, id, len: n as u32 }))
}

/// Whether a receive ended for want of a free buffer or by [`Ring::cancel`]: the socket is sound.
pub fn may_receive_again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED))
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still use these; see the module's introduction.
        if !self.ops.is_empty() {
            std::mem::forget(std::mem::take(&mut self.ops));
            std::mem::forget((self.buffers.take(), self.first_buffers.take()));
        }
    }
}

#[cfg(test)]
mod tests;
