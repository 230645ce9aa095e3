//! `rk-bench stages`: what one request costs each stage of Ringkeeper, alone and in memory.
//!
//! The stages are the server's own code, driven as a worker drives them, without sockets, kernel
//! or disk. On a large machine each stage has cores of its own, so the slowest of these figures
//! bounds what the machine can do.

use std::time::Instant as Clock;

use ringkeeper::auth::{Auth, AuthOptions};
use ringkeeper::base::{ConnId, Instant, Now, Rng, SessionId, Xid, Zxid};
use ringkeeper::front::{Front, FrontOptions, FrontSink};
use ringkeeper::log::{Appender, Batch, Plan, SegmentHeader};
use ringkeeper::replica::{Effect, Effects, FairOptions, Input, Replica, ReplicaOptions, Restored};
use ringkeeper::tree::{Tree, TreeOptions};
use ringkeeper::wire::{
    ACL_OPEN_BYTES, ConnectRequest, OpCode, TxnHeader, TxnType, begin_frame, end_frame, put_bool,
    put_buffer, put_i32, put_str,
};

const CONNS: usize = 16;
const DEPTH: usize = 64;
const SIZE: usize = 100;

struct Bench {
    replica: Replica,
    effects: Effects,
    conns: Vec<ConnId>,
    now: Now,
    rng: Rng,
    keys: u64,
}

fn path(key: u64) -> String {
    format!("/bench/d{:02}/k{key:08}", key % 100)
}

fn frame(op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_frame(&mut out);
    put_i32(&mut out, 1);
    put_i32(&mut out, op.code());
    body(&mut out);
    end_frame(&mut out, start);
    out
}

fn create(path: &str) -> Vec<u8> {
    frame(OpCode::Create, |out| {
        put_str(out, path);
        put_buffer(out, Some(&[7; SIZE]));
        out.extend_from_slice(ACL_OPEN_BYTES);
        put_i32(out, 0);
    })
}

fn request(kind: OpCode, key: u64) -> Vec<u8> {
    let path = path(key);
    match kind {
        OpCode::SetData => frame(kind, |out| {
            put_str(out, &path);
            put_buffer(out, Some(&[9; SIZE]));
            put_i32(out, -1);
        }),
        OpCode::Create => create(&format!("{path}-new")),
        OpCode::Delete => frame(kind, |out| {
            put_str(out, &format!("{path}-new"));
            put_i32(out, -1);
        }),
        _ => frame(kind, |out| {
            put_str(out, &path);
            put_bool(out, false);
        }),
    }
}

impl Bench {
    fn new(keys: u64) -> Result<Bench, String> {
        let tree = Tree::new(TreeOptions { hash_seed: 42, ..TreeOptions::STOCK });
        let restored = Restored::fresh(tree);
        let auth = Auth::new(AuthOptions::default())?;
        let options = ReplicaOptions {
            outstanding_limit: u64::MAX,
            snap_count: u64::MAX / 4,
            // Whatever comes is done in its turn.
            fair: FairOptions {
                turn: u64::MAX >> 8,
                turn_beside_lone: u64::MAX >> 8,
                share: u64::MAX >> 8,
                ..FairOptions::default()
            },
            ..ReplicaOptions::default()
        };
        let now = Now { mono: Instant::from_ms(1000), wall_ms: 1_000_000_000_000 };
        let mut replica = Replica::new(now, options, auth, restored, SessionId(1 << 56));
        replica.lead(now);
        let mut bench = Bench {
            replica,
            effects: Effects::default(),
            conns: Vec::new(),
            now,
            rng: Rng::new(1),
            keys,
        };
        bench.connect();
        bench.fill();
        Ok(bench)
    }

    fn connect(&mut self) {
        for slot in 0..CONNS as u32 {
            let conn = ConnId::new(slot, 1);
            let peer = ([127, 0, 0, 1], 1000).into();
            self.replica.handle(self.now, Input::Opened { conn, peer }, &mut self.effects);
            let mut hello = Vec::new();
            let start = begin_frame(&mut hello);
            ConnectRequest {
                protocol_version: 0,
                last_zxid_seen: Zxid::ZERO,
                timeout_ms: 30_000,
                session: SessionId(0),
                password: &[0; 16],
                read_only: Some(false),
            }
            .encode_into(&mut hello);
            end_frame(&mut hello, start);
            self.feed(conn, &hello);
            self.conns.push(conn);
        }
        self.settle();
    }

    fn fill(&mut self) {
        let conn = self.conns[0];
        self.feed(conn, &create("/bench"));
        for dir in 0..100 {
            self.feed(conn, &create(&format!("/bench/d{dir:02}")));
        }
        for key in 0..self.keys {
            self.feed(conn, &create(&path(key)));
            if key % 1024 == 0 {
                self.sync();
            }
        }
        self.sync();
    }

    fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        self.replica.handle(self.now, Input::Frames { conn, bytes }, &mut self.effects);
    }

    /// Everything prepared becomes durable and is applied.
    fn sync(&mut self) {
        self.replica.flush(&mut self.effects);
        let last = self.effects.list.iter().rev().find_map(|effect| match effect {
            Effect::Append(batch) => batch.last_zxid(),
            _ => None,
        });
        self.effects.clear();
        if let Some(zxid) = last {
            self.replica.handle(self.now, Input::Logged { zxid }, &mut self.effects);
            self.replica.handle(self.now, Input::Committed { zxid }, &mut self.effects);
            self.effects.clear();
        }
    }

    /// As [`Bench::sync`], also of what waits for its turn.
    fn settle(&mut self) {
        while !self.replica.is_settled() || self.replica.outstanding() > 0 {
            self.replica.handle(self.now, Input::Tick, &mut self.effects);
            self.sync();
        }
    }

    /// Everybody takes the replies that there are.
    fn drain(&mut self) {
        for &conn in &self.conns {
            self.replica.handle(self.now, Input::Drained { conn }, &mut self.effects);
        }
    }

    fn burst(&mut self, kind: OpCode, used: &mut Vec<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..DEPTH {
            let key = match kind {
                OpCode::Delete => used.pop().unwrap_or(0),
                OpCode::Create => {
                    let key = used.len() as u64 % self.keys;
                    used.push(key);
                    key
                }
                _ => self.rng.below(self.keys),
            };
            bytes.extend_from_slice(&request(kind, key));
        }
        bytes
    }

    /// Median over rounds of the nanoseconds per request: taking it, and applying it.
    fn measure(
        &mut self,
        kind: OpCode,
        used: &mut Vec<u64>,
        rounds: usize,
    ) -> Result<(f64, f64), String> {
        let (mut take, mut apply) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let bursts: Vec<_> = (0..CONNS).map(|_| self.burst(kind, used)).collect();
            self.drain();
            let start = Clock::now();
            for (at, bytes) in bursts.iter().enumerate() {
                let conn = self.conns[at];
                self.feed(conn, bytes);
            }
            let middle = Clock::now();
            self.sync();
            let per = (CONNS * DEPTH) as f64;
            take.push((middle - start).as_nanos() as f64 / per);
            apply.push(middle.elapsed().as_nanos() as f64 / per);
            if self.replica.outstanding() > 0 {
                return Err(format!("a {kind:?} waits, and its cost would not be measured"));
            }
        }
        Ok((median(take), median(apply)))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

struct Count(u64);

impl FrontSink for Count {
    fn frames(&mut self, _: ConnId, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }

    fn heard(&mut self, _: ConnId) {}

    fn drained(&mut self, _: ConnId) {}

    fn word(&mut self, _: ConnId, _: [u8; 4], _: &[u8]) {}
}

/// Framing and queueing of a reply; sockets and kernel not included.
fn front(kind: OpCode) -> Result<f64, String> {
    let mut front = Front::new(FrontOptions::default());
    let conn = front.accept(Instant(0), ([127, 0, 0, 1], 1).into());
    let bytes: Vec<u8> = (0..DEPTH as u64).flat_map(|key| request(kind, key)).collect();
    let reply = [0u8; 88];
    let mut sink = Count(0);
    let mut times = Vec::new();
    for _ in 0..2000 {
        let start = Clock::now();
        front.received(Instant(0), conn, &bytes, &mut sink);
        for _ in 0..DEPTH {
            front.queue(conn, &reply);
        }
        let sent = front.take_output(conn, Vec::new);
        front.sent(conn);
        times.push(start.elapsed().as_nanos() as f64 / DEPTH as f64);
        std::hint::black_box(sent);
    }
    if sink.0 == 0 {
        return Err("the front handed nothing on".to_owned());
    }
    Ok(median(times))
}

/// Copying transactions into the write buffer with their checksums; the write not included.
fn log_stage() -> Result<f64, String> {
    let mut staging = vec![0u8; 2 << 20];
    let mut appender = Appender::new(1, Zxid::ZERO);
    let mut zxid = 0;
    let mut times = Vec::new();
    for _ in 0..2000 {
        let mut batch = Batch::new();
        for _ in 0..CONNS * DEPTH {
            zxid += 1;
            let header = TxnHeader {
                session: SessionId(1),
                cxid: Xid(1),
                zxid: Zxid(zxid),
                time_ms: 1,
                kind: TxnType::SetData,
            };
            let entry = batch.entry();
            header.encode_into(entry);
            put_str(entry, &path(zxid as u64 % 10_000));
            put_buffer(entry, Some(&[1; SIZE]));
            put_i32(entry, 1);
            batch.finish_entry(Zxid(zxid));
        }
        let batch = std::sync::Arc::new(batch);
        let start = Clock::now();
        appender.submit(batch);
        loop {
            match appender.plan(&mut staging) {
                Plan::Write(plan) => {
                    std::hint::black_box(&staging[..plan.len]);
                }
                Plan::Roll { .. } => {
                    appender.roll(&SegmentHeader::new(zxid as u64, 64 << 20));
                }
                Plan::Stage { .. } => return Err("a transaction larger than the buffer".into()),
                Plan::Idle => break,
            }
        }
        times.push(start.elapsed().as_nanos() as f64 / (CONNS * DEPTH) as f64);
    }
    Ok(median(times))
}

/// One line of the table: nanoseconds per request, and millions of requests per second that a core
/// could do if it did nothing else.
fn line(name: &str, ns: f64, parts: &str) {
    println!("{name:<34} {ns:>8.0} {:>12.1}{parts}", 1e3 / ns.max(0.001));
}

/// Measures every stage and prints a table.
pub fn run(keys: u64, rounds: usize) -> Result<(), String> {
    println!("median of {rounds} bursts of {CONNS} x {DEPTH}, {SIZE} B of data");
    println!("{:<34} {:>8} {:>12}", "stage", "ns", "M/s a core");
    line("front: frame and reply of a get", front(OpCode::GetData)?, "");
    line("front: frame and reply of a set", front(OpCode::SetData)?, "");
    line("log: copy and checksum of a set", log_stage()?, "");
    for keys in [10_000.min(keys), keys] {
        let mut bench = Bench::new(keys)?;
        println!("replica, {keys} znodes:");
        for (name, kind) in [("  get", OpCode::GetData), ("  exists", OpCode::Exists)] {
            line(name, bench.measure(kind, &mut Vec::new(), rounds)?.0, "");
        }
        let mut used = Vec::new();
        // The first creates are also the first to touch their memory, which costs what the kernel,
        // and under a virtual machine its host, takes for a page. The second ones are in memory
        // that deletes gave back.
        for (name, kind) in [
            ("  set", OpCode::SetData),
            ("  create, in new memory", OpCode::Create),
            ("  delete", OpCode::Delete),
            ("  create, in freed memory", OpCode::Create),
        ] {
            let rounds = if kind == OpCode::SetData { rounds } else { rounds.min(8) };
            let (take, apply) = bench.measure(kind, &mut used, rounds)?;
            let parts = format!("   (prepare {take:.0}, apply and reply {apply:.0} ns)");
            line(name, take + apply, &parts);
        }
    }
    Ok(())
}
