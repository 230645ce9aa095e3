//! The ceiling: the least a server can do and still look like one.
//!
//! It parses each frame, answers a canned reply of the right shape, keeps no state, and for writes
//! does one write + fdatasync per turn of its loop, in line: a plain epoll loop, single-threaded.
//! Opening and closing a session count as writes, as they do in ZooKeeper. A real server does more
//! work per request, so it can be faster only by a better loop than epoll's: the ceiling says what
//! this machine allows.
//!
//! As the ceiling of an ensemble it is the leader: it sends the writes of each turn as one group to
//! its followers ([`crate::quorum`]), and replies leave when it and a majority have synced.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use ringkeeper::base::{SessionId, Xid, Zxid};
use ringkeeper::wire::{
    self, ConnectRequest, ConnectResponse, ErrorCode, MultiOp, MultiOps, OpCode, Reader, Stat,
    begin_reply, end_frame, put_buffer, put_error_reply, put_i32, put_multi_end, put_multi_header,
    put_str, session_password,
};

use crate::codec;
use crate::net::{self, Poll};
use crate::quorum::Quorum;
use crate::roundlog::RoundLog;

const LISTENER: usize = usize::MAX;
const READ_BUFFER: usize = 256 * 1024;
/// Largest frame accepted, as in ZooKeeper's default `jute.maxbuffer`.
const FRAME_MAX: usize = 0xfffff;

/// Sizes of the canned replies.
#[derive(Clone, Copy, Debug)]
pub struct Canned {
    /// Bytes of data that getData returns.
    pub size: usize,
    /// Children that a list returns, and the length of their names.
    pub list: (usize, usize),
}

struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    out_at: usize,
    carry: Vec<u8>,
    connected: bool,
    closing: bool,
    wrote: bool,
    watching_write: bool,
}

/// The server.
pub struct Ceiling {
    poll: Poll,
    listener: TcpListener,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    log: RoundLog,
    quorum: Option<Quorum>,
    batch: Vec<u8>,
    buf: Vec<u8>,
    zxid: i64,
    next_session: i64,
    data: Vec<u8>,
    children: Vec<u8>,
    stat: Vec<u8>,
}

impl Ceiling {
    /// Listens on `addr` and keeps its log in `dir`; with a `quorum` it is the leader of that.
    pub fn bind(
        addr: SocketAddr,
        dir: &Path,
        canned: Canned,
        quorum: Option<Quorum>,
    ) -> Result<Ceiling, String> {
        let log = RoundLog::new(dir)?;
        let listener = net::listen(addr).map_err(|e| format!("cannot listen on {addr}: {e}"))?;
        let poll = Poll::new(1024).map_err(|e| e.to_string())?;
        poll.add(&listener, LISTENER, false).map_err(|e| e.to_string())?;
        let mut children = Vec::new();
        put_i32(&mut children, i32::try_from(canned.list.0).unwrap_or(0));
        for i in 0..canned.list.0 {
            put_str(&mut children, &format!("{i:0width$}", width = canned.list.1));
        }
        let mut data = Vec::new();
        put_buffer(&mut data, Some(&codec::filler(canned.size)));
        let mut stat = Vec::new();
        let data_length = i32::try_from(canned.size).unwrap_or(0);
        Stat { data_length, ..Stat::default() }.encode_into(&mut stat);
        Ok(Ceiling {
            poll,
            listener,
            clients: Vec::new(),
            free: Vec::new(),
            log,
            quorum,
            batch: Vec::new(),
            buf: vec![0; READ_BUFFER],
            zxid: 0,
            next_session: 0x0100_0000_0000_0001,
            data,
            children,
            stat,
        })
    }

    /// Serves for ever.
    pub fn run(mut self) -> Result<(), String> {
        loop {
            self.turn().map_err(|e| format!("ceiling: {e}"))?;
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.poll.wait(None)?;
        let count = self.poll.ready_count();
        for i in 0..count {
            let ready = self.poll.ready(i);
            if ready.token == LISTENER {
                self.accept()?;
            } else if ready.readable {
                self.read(ready.token);
            }
        }
        // A client that only reads need not wait for the disk.
        if !self.batch.is_empty() {
            self.flush_ready(count, false)?;
            self.sync()?;
        }
        self.flush_ready(count, true)
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(quorum) = &mut self.quorum {
            quorum.send(&self.batch)?;
        }
        self.log.append(&self.batch)?;
        if let Some(quorum) = &mut self.quorum {
            quorum.wait()?;
        }
        self.batch.clear();
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = self.free.pop().unwrap_or(self.clients.len());
            self.poll.add(&stream, token, false)?;
            let client = Some(Client {
                stream,
                out: Vec::new(),
                out_at: 0,
                carry: Vec::new(),
                connected: false,
                closing: false,
                wrote: false,
                watching_write: false,
            });
            match self.clients.get_mut(token) {
                Some(slot) => *slot = client,
                None => self.clients.push(client),
            }
        }
    }

    fn drop_client(&mut self, token: usize) {
        if let Some(slot) = self.clients.get_mut(token)
            && slot.take().is_some()
        {
            self.free.push(token);
        }
    }

    fn read(&mut self, token: usize) {
        let Some(mut client) = self.clients.get_mut(token).and_then(Option::take) else { return };
        let mut buf = std::mem::take(&mut self.buf);
        let alive = self.read_from(&mut client, &mut buf);
        self.buf = buf;
        if alive {
            self.clients[token] = Some(client);
        } else {
            self.free.push(token);
        }
    }

    /// One read: level-triggered readiness brings the rest in the next turn.
    fn read_from(&mut self, client: &mut Client, buf: &mut [u8]) -> bool {
        let start = client.carry.len();
        if start + FRAME_MAX / 8 > buf.len() && start > FRAME_MAX {
            return false;
        }
        let mut large;
        let buf = if start * 2 > buf.len() {
            large = vec![0; FRAME_MAX + 4096];
            &mut large[..]
        } else {
            buf
        };
        buf[..start].copy_from_slice(&client.carry);
        let n = match client.stream.read(&mut buf[start..]) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => return false,
        };
        let mut rest = &buf[..start + n];
        while !client.closing {
            let Some((len, after)) = rest.split_first_chunk::<4>() else { break };
            let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else { return false };
            if len > FRAME_MAX {
                return false;
            }
            let Some(frame) = after.get(..len) else { break };
            if self.handle(client, frame).is_none() {
                return false;
            }
            rest = &after[len..];
        }
        client.carry.clear();
        client.carry.extend_from_slice(rest);
        true
    }

    fn handle(&mut self, client: &mut Client, frame: &[u8]) -> Option<()> {
        if !client.connected {
            return self.connect(client, frame);
        }
        let mut r = Reader::new(frame);
        let xid = Xid(r.i32("xid").ok()?);
        let op = r.i32("type").ok()?;
        self.answer(client, xid, op, r, frame)
    }

    fn connect(&mut self, client: &mut Client, frame: &[u8]) -> Option<()> {
        let request = ConnectRequest::decode(frame).ok()?;
        let session = if request.session == SessionId(0) {
            self.next_session += 1;
            self.log_write(client, frame);
            SessionId(self.next_session)
        } else {
            request.session
        };
        client.connected = true;
        ConnectResponse {
            timeout_ms: request.timeout_ms,
            session,
            password: session_password(session),
            read_only: request.read_only,
        }
        .encode_frame_into(&mut client.out);
        Some(())
    }

    fn log_write(&mut self, client: &mut Client, frame: &[u8]) {
        self.zxid += 1;
        self.batch.extend_from_slice(frame);
        client.wrote = true;
    }

    fn answer(
        &mut self,
        client: &mut Client,
        xid: Xid,
        op: i32,
        mut r: Reader<'_>,
        frame: &[u8],
    ) -> Option<()> {
        // The common ones first; `from_code` searches a list.
        const GET: i32 = OpCode::GetData as i32;
        const SET: i32 = OpCode::SetData as i32;
        match op {
            GET => {
                r.buffer("path").ok()?;
                self.reply(client, xid, |c, out| {
                    out.extend_from_slice(&c.data);
                    out.extend_from_slice(&c.stat);
                });
                return Some(());
            }
            SET => {
                r.buffer("path").ok()?;
                r.buffer("data").ok()?;
                self.log_write(client, frame);
                self.reply(client, xid, |c, out| out.extend_from_slice(&c.stat));
                return Some(());
            }
            _ => {}
        }
        let Some(op) = OpCode::from_code(op) else {
            put_error_reply(&mut client.out, xid, Zxid(self.zxid), ErrorCode::Unimplemented);
            return Some(());
        };
        self.answer_rare(client, xid, op, r, frame)
    }

    fn answer_rare(
        &mut self,
        client: &mut Client,
        xid: Xid,
        op: OpCode,
        mut r: Reader<'_>,
        frame: &[u8],
    ) -> Option<()> {
        match op {
            OpCode::Create | OpCode::Create2 => {
                let path = r.buffer("path").ok()?;
                self.log_write(client, frame);
                self.reply(client, xid, |c, out| {
                    put_buffer(out, path);
                    if op == OpCode::Create2 {
                        out.extend_from_slice(&c.stat);
                    }
                });
            }
            OpCode::Delete => {
                self.log_write(client, frame);
                self.reply(client, xid, |_, _| {});
            }
            OpCode::CloseSession => {
                self.log_write(client, frame);
                self.reply(client, xid, |_, _| {});
                client.closing = true;
            }
            OpCode::SetAcl => {
                self.log_write(client, frame);
                self.reply(client, xid, |c, out| out.extend_from_slice(&c.stat));
            }
            OpCode::Exists => self.reply(client, xid, |c, out| out.extend_from_slice(&c.stat)),
            OpCode::GetChildren => {
                self.reply(client, xid, |c, out| out.extend_from_slice(&c.children));
            }
            OpCode::GetChildren2 => self.reply(client, xid, |c, out| {
                out.extend_from_slice(&c.children);
                out.extend_from_slice(&c.stat);
            }),
            OpCode::Sync => {
                let path = r.buffer("path").ok()?;
                self.reply(client, xid, |_, out| put_buffer(out, path));
            }
            OpCode::Ping => self.reply(client, Xid(wire::XID_PING), |_, _| {}),
            OpCode::AddWatch | OpCode::GetAllChildrenNumber => {
                self.reply(client, xid, |_, out| put_i32(out, 0));
            }
            OpCode::Multi | OpCode::MultiRead => {
                if op == OpCode::Multi {
                    self.log_write(client, frame);
                }
                self.multi(client, xid, r)?;
            }
            OpCode::Auth | OpCode::SetWatches | OpCode::SetWatches2 => {
                self.reply(client, xid, |_, _| {});
            }
            _ => {
                put_error_reply(&mut client.out, xid, Zxid(self.zxid), ErrorCode::Unimplemented);
            }
        }
        Some(())
    }

    #[inline]
    fn reply(&self, client: &mut Client, xid: Xid, body: impl FnOnce(&Ceiling, &mut Vec<u8>)) {
        let start = begin_reply(&mut client.out, xid, Zxid(self.zxid), ErrorCode::Ok.code());
        body(self, &mut client.out);
        end_frame(&mut client.out, start);
    }

    fn multi(&self, client: &mut Client, xid: Xid, r: Reader<'_>) -> Option<()> {
        let out = &mut client.out;
        let start = begin_reply(out, xid, Zxid(self.zxid), ErrorCode::Ok.code());
        for op in MultiOps::new(r) {
            match op.ok()? {
                MultiOp::Create(op, create) => {
                    put_multi_header(out, op.code());
                    put_str(out, create.path.as_deref().unwrap_or_default());
                    if op != OpCode::Create {
                        out.extend_from_slice(&self.stat);
                    }
                }
                MultiOp::Delete(_) => put_multi_header(out, OpCode::Delete.code()),
                MultiOp::Check(_) => put_multi_header(out, OpCode::Check.code()),
                MultiOp::SetData(_) => {
                    put_multi_header(out, OpCode::SetData.code());
                    out.extend_from_slice(&self.stat);
                }
                MultiOp::GetData(_) => {
                    put_multi_header(out, OpCode::GetData.code());
                    out.extend_from_slice(&self.data);
                    out.extend_from_slice(&self.stat);
                }
                MultiOp::GetChildren(_) => {
                    put_multi_header(out, OpCode::GetChildren.code());
                    out.extend_from_slice(&self.children);
                }
            }
        }
        put_multi_end(out);
        end_frame(out, start);
        Some(())
    }

    /// Sends the replies of this turn; with `synced` also the replies to writes.
    fn flush_ready(&mut self, count: usize, synced: bool) -> io::Result<()> {
        for i in 0..count {
            let token = self.poll.ready(i).token;
            let Some(client) = self.clients.get_mut(token).and_then(Option::as_mut) else {
                continue;
            };
            if client.wrote && !synced {
                continue;
            }
            client.wrote = false;
            if client.out.is_empty() && !client.watching_write {
                continue;
            }
            let Ok(at) = net::flush(&client.stream, &mut client.out, client.out_at) else {
                self.drop_client(token);
                continue;
            };
            client.out_at = at;
            let full = !client.out.is_empty();
            if client.closing && !full {
                self.drop_client(token);
                continue;
            }
            if full != client.watching_write {
                client.watching_write = full;
                self.poll.modify(&client.stream, token, full)?;
            }
        }
        Ok(())
    }
}
