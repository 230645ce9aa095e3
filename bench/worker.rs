//! One generator thread: its connections, its loop, its measurements.
//!
//! Requests leave in batches (one write per connection and turn), replies are scanned in bulk, and
//! requests sent in the same turn share one time stamp, so that a pipelined request costs about a
//! copy and a few stores. Replies are matched by order, which ZooKeeper guarantees per session,
//! and every xid is checked against that order.
//!
//! Latency in a closed loop runs from the write that carried the request to the read that carried
//! the reply. In an open loop it runs from the moment the request was *due*: a server that stalls
//! delays the requests that fall due meanwhile, and each of them counts with its full wait (no
//! coordinated omission).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringkeeper::base::Rng;

use crate::codec::{
    self, CONN_DIGITS, DIR_DIGITS, KEY_DIGITS, Patch, SEQ_DIGITS, Template, put_digits,
};
use crate::load::{Load, Pace, Stop};
use crate::mix::Kind;
use crate::net::{self, Poll};
use crate::stats::Tally;

/// Requests one connection may have in flight in an open loop before others take over.
const OPEN_IN_FLIGHT_MAX: u32 = 8192;
/// How long answers are awaited after the end of the run.
const DRAIN: Duration = Duration::from_secs(10);
/// An open loop sends what has become due together, this often, so that it leaves the processor to
/// the servers on the same machine. Latency counts from when each request was due.
const BUNCH_NS: u64 = 200_000;
const READ_BUFFER: usize = 128 * 1024;

/// Requests of one kind that left, or were due, at the same moment.
struct Batch {
    at: u64,
    kind: Kind,
    count: u32,
}

/// One session on its connection.
pub struct Conn {
    stream: TcpStream,
    /// Number among all connections of the run.
    number: usize,
    out: Vec<u8>,
    out_at: usize,
    /// The incomplete frame at the end of the last read.
    carry: Vec<u8>,
    fifo: VecDeque<Batch>,
    in_flight: u32,
    xid: i32,
    xid_expected: i32,
    seq_create: u64,
    seq_delete: u64,
    watching_write: bool,
    dirty: bool,
}

impl Conn {
    /// A session on `stream`, which is past the handshake; `seq` is the first number it creates.
    pub fn new(stream: TcpStream, number: usize, seq: u64) -> io::Result<Conn> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Conn {
            stream,
            number,
            out: Vec::with_capacity(32 * 1024),
            out_at: 0,
            carry: Vec::new(),
            fifo: VecDeque::new(),
            in_flight: 0,
            xid: 1,
            xid_expected: 1,
            seq_create: seq,
            seq_delete: seq,
            watching_write: false,
            dirty: false,
        })
    }
}

/// When to measure and when to stop, nanoseconds on the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Start of the run.
    pub origin: Instant,
    /// Warm-up is over.
    pub from: u64,
    /// Nothing is sent from here on.
    pub to: u64,
}

/// Makes requests. Apart from the connections, so that both can be borrowed at once.
struct Maker {
    templates: Vec<Template>,
    table: Vec<Kind>,
    single: Option<Kind>,
    rng: Rng,
    keys: u64,
    watch_permille: u64,
    fill_next: u64,
    fill_step: u64,
    left: u64,
    sent: u64,
}

/// One generator thread.
pub struct Worker {
    poll: Poll,
    conns: Vec<Conn>,
    maker: Maker,
    pace: Pace,
    threads: u64,
    buf: Vec<u8>,
    tally: Tally,
    window: Window,
    stop: Stop,
    in_flight: u64,
    dirty: Vec<usize>,
}

#[inline]
fn next_xid(xid: i32) -> i32 {
    if xid == i32::MAX { 1 } else { xid + 1 }
}

impl Maker {
    fn new(load: &Load, index: usize) -> Maker {
        let table = load.mix.table();
        let share = |total: u64| {
            let threads = load.threads as u64;
            total / threads + u64::from((index as u64) < total % threads)
        };
        Maker {
            templates: Kind::ALL.iter().map(|k| k.template(&load.shape)).collect(),
            single: if load.mix.parts.len() == 1 { table.first().copied() } else { None },
            table,
            rng: Rng::derived(load.seed, "worker", index as u64),
            keys: load.keys.max(1),
            watch_permille: u64::from(load.watch_permille),
            fill_next: index as u64,
            fill_step: load.threads as u64,
            left: load.requests.map_or(u64::MAX, share),
            sent: 0,
        }
    }

    /// Appends one request to what `conn` will send.
    #[inline]
    fn put(&mut self, conn: &mut Conn, at: u64) {
        let mut kind = match self.single {
            Some(kind) => kind,
            None => {
                let pick = (self.rng.next_u64() >> 54) as usize;
                self.table.get(pick).copied().unwrap_or(Kind::Get)
            }
        };
        if kind == Kind::Delete && conn.seq_delete >= conn.seq_create {
            kind = Kind::Create;
        }
        let random = self.rng.next_u64();
        let mut template = std::mem::take(&mut self.templates[kind as usize]);
        for i in 0..template.patches.len() {
            let patch = template.patches[i];
            self.patch(&mut template.bytes, patch, conn, kind, random);
        }
        let xid = if kind == Kind::Ping { ringkeeper::wire::XID_PING } else { conn.xid };
        template.bytes[4..8].copy_from_slice(&xid.to_be_bytes());
        conn.out.extend_from_slice(&template.bytes);
        self.templates[kind as usize] = template;
        conn.xid = next_xid(conn.xid);
        match conn.fifo.back_mut() {
            Some(last) if last.at == at && last.kind == kind => last.count += 1,
            _ => conn.fifo.push_back(Batch { at, kind, count: 1 }),
        }
        conn.in_flight += 1;
        self.left -= 1;
        self.sent += 1;
    }

    #[inline]
    fn patch(&mut self, b: &mut [u8], patch: Patch, conn: &mut Conn, kind: Kind, random: u64) {
        match patch {
            Patch::Key(dir, at) => {
                let key = if kind == Kind::Fill {
                    let key = self.fill_next;
                    self.fill_next += self.fill_step;
                    key
                } else {
                    ((u128::from(self.rng.next_u64()) * u128::from(self.keys)) >> 64) as u64
                };
                put_digits(&mut b[dir..dir + DIR_DIGITS], key / 1000);
                put_digits(&mut b[at..at + KEY_DIGITS], key);
            }
            Patch::Conn(at) => put_digits(&mut b[at..at + CONN_DIGITS], conn.number as u64),
            Patch::SeqCreate(at) => {
                put_digits(&mut b[at..at + SEQ_DIGITS], conn.seq_create);
                conn.seq_create += 1;
            }
            Patch::SeqDelete(at) => {
                put_digits(&mut b[at..at + SEQ_DIGITS], conn.seq_delete);
                conn.seq_delete += 1;
            }
            Patch::Value(at) => b[at..at + 8].copy_from_slice(&random.to_le_bytes()),
            Patch::Watch(at) => b[at] = u8::from(random % 1000 < self.watch_permille),
        }
    }
}

impl Worker {
    /// A worker for thread `index` of `load`.
    pub fn new(load: &Load, index: usize, conns: Vec<Conn>, window: Window) -> io::Result<Worker> {
        let poll = Poll::new(conns.len())?;
        for (token, conn) in conns.iter().enumerate() {
            poll.add(&conn.stream, token, false)?;
        }
        Ok(Worker {
            poll,
            maker: Maker::new(load, index),
            pace: load.pace,
            threads: load.threads as u64,
            buf: vec![0; READ_BUFFER],
            tally: Tally::new(),
            window,
            stop: load.stop.clone(),
            in_flight: 0,
            dirty: Vec::with_capacity(conns.len()),
            conns,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.window.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time; from the moment at which the run shall stop, that is its end.
    fn now_or_end(&mut self) -> u64 {
        let now = self.now();
        if self.stop.is_set() {
            self.window.to = self.window.to.min(now);
        }
        now
    }

    /// Runs to the end and returns what was measured, and the connections, still open.
    ///
    /// # Errors
    /// A connection that broke, or a reply that does not belong to the oldest request.
    pub fn run(mut self) -> Result<(Tally, Vec<Conn>), String> {
        match self.pace {
            Pace::Closed { depth } => self.run_closed(depth)?,
            Pace::Open { rate } => self.run_open(rate)?,
        }
        self.tally.sent = self.maker.sent;
        Ok((self.tally, self.conns))
    }

    fn run_closed(&mut self, depth: u32) -> Result<(), String> {
        let at = self.now();
        for c in 0..self.conns.len() {
            self.refill(c, depth, at);
        }
        self.flush_dirty()?;
        loop {
            let now = self.now_or_end();
            let ended = now >= self.window.to || self.maker.left == 0;
            let overdue = now >= self.window.to.saturating_add(DRAIN.as_nanos() as u64);
            if (ended && self.in_flight == 0) || overdue {
                break;
            }
            self.wait(100_000_000)?;
            for i in 0..self.poll.ready_count() {
                let ready = self.poll.ready(i);
                if ready.readable {
                    let at = self.read(ready.token)?;
                    if at < self.window.to {
                        self.refill(ready.token, depth, at);
                    }
                }
                self.flush(ready.token)?;
            }
        }
        self.give_up(false);
        Ok(())
    }

    fn refill(&mut self, c: usize, depth: u32, at: u64) {
        let conn = &mut self.conns[c];
        let before = conn.in_flight;
        while conn.in_flight < depth && self.maker.left > 0 {
            self.maker.put(conn, at);
        }
        self.in_flight += u64::from(conn.in_flight - before);
        self.mark_dirty(c);
    }

    /// Sends what is due, at most once in `BUNCH_NS`.
    fn run_open(&mut self, rate: u64) -> Result<(), String> {
        let schedule = Schedule::new(rate, self.threads, &self.window);
        let (mut next, mut send_at) = (0u64, 0u64);
        loop {
            let now = self.now_or_end();
            let mut blocked = false;
            let sends = now >= send_at && schedule.due(next) <= now;
            if sends {
                send_at = now + BUNCH_NS;
            }
            while sends && schedule.due(next) <= now && schedule.due(next) < self.window.to {
                let Some(c) = self.roomy(next) else {
                    blocked = true;
                    break;
                };
                let due = schedule.due(next);
                self.maker.put(&mut self.conns[c], due);
                self.in_flight += 1;
                self.mark_dirty(c);
                next += 1;
            }
            self.flush_dirty()?;
            let all_sent = schedule.due(next) >= self.window.to;
            let overdue = now >= self.window.to.saturating_add(DRAIN.as_nanos() as u64);
            if (all_sent && self.in_flight == 0) || overdue {
                break;
            }
            let patience = if blocked || all_sent {
                100_000_000
            } else {
                schedule.due(next).max(send_at).saturating_sub(self.now())
            };
            self.wait(patience)?;
            for i in 0..self.poll.ready_count() {
                let ready = self.poll.ready(i);
                if ready.readable {
                    self.read(ready.token)?;
                }
                self.flush(ready.token)?;
            }
        }
        self.give_up(true);
        let now = self.now();
        while schedule.due(next) < self.window.to {
            self.count_unanswered(Kind::Get, schedule.due(next), now, 1, true);
            next += 1;
        }
        Ok(())
    }

    /// The connection for request `index`: in turn, but past those that are full.
    fn roomy(&self, index: u64) -> Option<usize> {
        let count = self.conns.len();
        let first = (index % count as u64) as usize;
        (0..count)
            .map(|i| (first + i) % count)
            .find(|c| self.conns[*c].in_flight < OPEN_IN_FLIGHT_MAX)
    }

    fn wait(&mut self, ns: u64) -> Result<(), String> {
        let timeout = Duration::from_nanos(ns.min(100_000_000));
        self.poll.wait(Some(timeout)).map_err(|e| format!("epoll_wait: {e}"))
    }

    fn mark_dirty(&mut self, c: usize) {
        if !self.conns[c].dirty {
            self.conns[c].dirty = true;
            self.dirty.push(c);
        }
    }

    fn flush_dirty(&mut self) -> Result<(), String> {
        while let Some(c) = self.dirty.pop() {
            self.flush(c)?;
        }
        Ok(())
    }

    fn flush(&mut self, c: usize) -> Result<(), String> {
        let conn = &mut self.conns[c];
        conn.dirty = false;
        if conn.out.is_empty() && !conn.watching_write {
            return Ok(());
        }
        let broken = |e| format!("connection {}: {e} while sending", conn.number);
        conn.out_at = net::flush(&conn.stream, &mut conn.out, conn.out_at).map_err(broken)?;
        let full = !conn.out.is_empty();
        if full != conn.watching_write {
            conn.watching_write = full;
            self.poll.modify(&conn.stream, c, full).map_err(|e| format!("epoll_ctl: {e}"))?;
        }
        Ok(())
    }

    /// Takes in what has arrived on connection `c`; returns the time at which it had.
    fn read(&mut self, c: usize) -> Result<u64, String> {
        loop {
            let conn = &mut self.conns[c];
            let start = conn.carry.len();
            if self.buf.len() < start * 2 {
                self.buf.resize(start * 2, 0);
            }
            self.buf[..start].copy_from_slice(&conn.carry);
            let n = match conn.stream.read(&mut self.buf[start..]) {
                Ok(0) => return Err(format!("connection {}: closed by the server", conn.number)),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(self.now()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(format!("connection {}: {e}", conn.number)),
            };
            let at = self.now();
            self.scan(c, start + n, at)?;
            if start + n < self.buf.len() {
                return Ok(at);
            }
        }
    }

    /// Goes through the replies in the first `end` bytes of the buffer.
    fn scan(&mut self, c: usize, end: usize, at: u64) -> Result<(), String> {
        let conn = &mut self.conns[c];
        let tally = &mut self.tally;
        let open = matches!(self.pace, Pace::Open { .. });
        let window = (self.window.from, self.window.to);
        let mut pos = 0;
        let mut run = 0u32;
        while let Some(head) = codec::reply_head(&self.buf[pos..end])? {
            pos += head.frame_len;
            if head.xid == ringkeeper::wire::XID_NOTIFICATION {
                tally.notifications += 1;
                continue;
            }
            let Some(batch) = conn.fifo.front_mut() else {
                return Err(format!("reply {head:?} to no request"));
            };
            if head.xid != conn.xid_expected && batch.kind != Kind::Ping {
                let expected = conn.xid_expected;
                return Err(format!("out of order: {head:?} where xid {expected} was due"));
            }
            conn.xid_expected = next_xid(conn.xid_expected);
            if head.err != 0 {
                *tally.errors.entry(head.err).or_default() += 1;
            }
            run += 1;
            if run == batch.count {
                record(tally, batch, run, at, window, open);
                self.in_flight -= u64::from(run);
                conn.in_flight -= run;
                conn.fifo.pop_front();
                run = 0;
            }
        }
        if let (Some(batch), true) = (conn.fifo.front_mut(), run > 0) {
            record(tally, batch, run, at, window, open);
            batch.count -= run;
            self.in_flight -= u64::from(run);
            conn.in_flight -= run;
        }
        conn.carry.clear();
        conn.carry.extend_from_slice(&self.buf[pos..end]);
        Ok(())
    }

    /// Requests that were not answered in time count with the time they have waited so far.
    fn give_up(&mut self, open: bool) {
        let now = self.now();
        let conns = std::mem::take(&mut self.conns);
        for batch in conns.iter().flat_map(|conn| &conn.fifo) {
            self.count_unanswered(batch.kind, batch.at, now, u64::from(batch.count), open);
        }
        self.conns = conns;
    }

    fn count_unanswered(&mut self, kind: Kind, at: u64, now: u64, count: u64, open: bool) {
        self.tally.unanswered += count;
        if !open || (self.window.from..self.window.to).contains(&at) {
            self.tally.latency[kind as usize].record(now.saturating_sub(at), count);
        }
    }
}

/// Counts `run` replies that arrived at `at`. The window holds arrivals in a closed loop, due
/// times in an open one.
fn record(tally: &mut Tally, batch: &Batch, run: u32, at: u64, window: (u64, u64), open: bool) {
    let inside = window.0..window.1;
    if inside.contains(&at) {
        tally.completed += u64::from(run);
    }
    if inside.contains(if open { &batch.at } else { &at }) {
        tally.latency[batch.kind as usize].record(at.saturating_sub(batch.at), u64::from(run));
    }
}

/// When the requests of an open loop are due.
struct Schedule {
    first: u64,
    interval_ns: f64,
}

impl Schedule {
    fn new(rate: u64, threads: u64, window: &Window) -> Schedule {
        let now = u64::try_from(window.origin.elapsed().as_nanos()).unwrap_or(0);
        Schedule { first: now, interval_ns: 1e9 * threads as f64 / rate.max(1) as f64 }
    }

    #[inline]
    fn due(&self, index: u64) -> u64 {
        self.first + (index as f64 * self.interval_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(at: u64) -> Batch {
        Batch { at, kind: Kind::Set, count: 4 }
    }

    #[test]
    fn an_open_loop_counts_the_wait_from_the_due_time() {
        // Ten requests due every 100 ns from 1000; the server stalls and all arrive at 2000.
        let mut tally = Tally::new();
        for i in 0..10 {
            record(&mut tally, &batch(1000 + i * 100), 1, 2000, (1000, 2000), true);
        }
        let set = &tally.latency[Kind::Set as usize];
        assert_eq!(set.count(), 10);
        // The first waited 1000 ns, the last 100: not ten times the last.
        assert!((set.at_us(1.0) - 1.0).abs() < 0.01, "{}", set.at_us(1.0));
        assert!((set.at_us(0.0) - 0.1).abs() < 0.01, "{}", set.at_us(0.0));
        // Arrivals at the very end are outside the throughput window.
        assert_eq!(tally.completed, 0);
    }

    #[test]
    fn a_closed_loop_counts_what_arrives_inside_the_window() {
        let mut tally = Tally::new();
        record(&mut tally, &batch(10), 4, 99, (100, 200), false);
        record(&mut tally, &batch(90), 4, 150, (100, 200), false);
        record(&mut tally, &batch(190), 4, 200, (100, 200), false);
        assert_eq!(tally.completed, 4);
        assert_eq!(tally.latency[Kind::Set as usize].count(), 4);
    }

    #[test]
    fn schedules_spread_the_rate_over_threads() {
        let window = Window { origin: Instant::now(), from: 0, to: u64::MAX };
        let schedule = Schedule::new(1_000_000, 2, &window);
        assert_eq!(schedule.due(0), schedule.first);
        assert_eq!(schedule.due(1_000) - schedule.first, 2_000_000);
    }

    #[test]
    fn xids_stay_positive() {
        assert_eq!(next_xid(1), 2);
        assert_eq!(next_xid(i32::MAX), 1);
    }
}
