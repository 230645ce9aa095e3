//! A blocking client for setting a server up: connect, single calls, pipelined batches.
#![forbid(unsafe_code)]

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringkeeper::base::{SessionId, Xid, Zxid};
use ringkeeper::wire::{ConnectResponse, OpCode, put_str};

use crate::codec::{self, ReplyHead};

/// NODEEXISTS: setting up twice is fine.
pub const NODE_EXISTS: i32 = -110;
/// NONODE.
pub const NO_NODE: i32 = -101;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// While a server starts it may take a connection and never answer it.
const PROBE_PATIENCE: Duration = Duration::from_millis(100);

/// An open session on a blocking socket.
pub struct Admin {
    addr: SocketAddr,
    stream: BufReader<TcpStream>,
    xid: i32,
    session: SessionId,
    password: [u8; 16],
    /// Highest zxid seen in a reply.
    pub zxid: i64,
}

/// The answer to a four-letter word, within `patience`.
pub fn word(addr: SocketAddr, word: &str, patience: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connects and sends the connect request, without waiting for the answer.
pub fn dial(addr: SocketAddr, timeout_ms: i32) -> Result<TcpStream, String> {
    dial_within(addr, timeout_ms, PATIENCE)
}

fn dial_within(addr: SocketAddr, timeout_ms: i32, patience: Duration) -> Result<TcpStream, String> {
    let say = |e: std::io::Error| format!("cannot connect to {addr}: {e}");
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10)).map_err(say)?;
    stream.set_nodelay(true).map_err(say)?;
    stream.set_read_timeout(Some(patience)).map_err(say)?;
    let frame = codec::connect_frame(SessionId(0), &[0; 16], timeout_ms, Zxid::ZERO);
    stream.write_all(&frame).map_err(say)?;
    Ok(stream)
}

/// Reads the answer to [`dial`].
pub fn finish_handshake(
    addr: SocketAddr,
    stream: &mut TcpStream,
) -> Result<ConnectResponse, String> {
    let mut answer = [0u8; 41];
    stream
        .read_exact(&mut answer)
        .map_err(|e| format!("{addr} did not open a session ({e}); is it serving?"))?;
    let body = codec::frame_body(&answer).unwrap_or(&[]);
    let response = ConnectResponse::decode(body).map_err(|e| format!("{addr}: {e}"))?;
    if response.session == SessionId(0) {
        Err(format!("{addr} refused the session"))
    } else {
        Ok(response)
    }
}

impl Admin {
    /// Opens a session.
    pub fn connect(addr: SocketAddr) -> Result<Admin, String> {
        let mut stream = dial(addr, 120_000)?;
        let response = finish_handshake(addr, &mut stream)?;
        Ok(Admin::new(addr, stream, &response))
    }

    fn new(addr: SocketAddr, stream: TcpStream, response: &ConnectResponse) -> Admin {
        let (session, password) = (response.session, response.password);
        let stream = BufReader::with_capacity(1 << 16, stream);
        Admin { addr, stream, xid: 1, session, password, zxid: 0 }
    }

    /// Id and password, with which another connection can take the session over.
    pub fn session(&self) -> (SessionId, [u8; 16]) {
        (self.session, self.password)
    }

    /// Opens a session with a server that may not be up yet; fails soon.
    pub fn probe(addr: SocketAddr) -> Result<Admin, String> {
        let mut stream = dial_within(addr, 120_000, PROBE_PATIENCE)?;
        let response = finish_handshake(addr, &mut stream)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        Ok(Admin::new(addr, stream, &response))
    }

    /// The connection, past the handshake and with no reply on the way.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn next_xid(&mut self) -> Xid {
        let xid = self.xid;
        self.xid += 1;
        Xid(xid)
    }

    fn send(&mut self, frames: &[u8]) -> Result<(), String> {
        let addr = self.addr;
        let say = |e| format!("sending to {addr}: {e}");
        self.stream.get_mut().write_all(frames).map_err(say)
    }

    fn receive(&mut self) -> Result<(ReplyHead, Vec<u8>), String> {
        let addr = self.addr;
        let say = |e| format!("receiving from {addr}: {e}");
        loop {
            let mut frame = vec![0u8; 4];
            self.stream.read_exact(&mut frame).map_err(say)?;
            let len = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            let len = usize::try_from(len).map_err(|_| "negative frame length".to_owned())?;
            frame.resize(len + 4, 0);
            self.stream.read_exact(&mut frame[4..]).map_err(say)?;
            let head = codec::reply_head(&frame)?.ok_or("short reply frame")?;
            if head.xid != ringkeeper::wire::XID_NOTIFICATION {
                self.zxid = self.zxid.max(head.zxid);
                return Ok((head, frame.split_off(20)));
            }
        }
    }

    /// One request, one reply: the error code and the body.
    pub fn call(&mut self, frame: impl FnOnce(Xid) -> Vec<u8>) -> Result<(i32, Vec<u8>), String> {
        let xid = self.next_xid();
        self.send(&frame(xid))?;
        let (head, body) = self.receive()?;
        Ok((head.err, body))
    }

    /// Waits until this server has everything that was acknowledged anywhere before.
    pub fn sync(&mut self) -> Result<(), String> {
        let frame = |xid| codec::request(xid, OpCode::Sync, |out| put_str(out, "/"));
        match self.call(frame)? {
            (0, _) => Ok(()),
            (err, _) => Err(format!("sync: {err}")),
        }
    }

    /// Many requests, a few hundred in flight; error codes other than `expected` are failures.
    pub fn batch(
        &mut self,
        expected: i32,
        frames: impl Iterator<Item = Box<dyn FnOnce(Xid) -> Vec<u8>>>,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        let mut waiting = 0;
        for frame in frames {
            let xid = self.next_xid();
            out.extend_from_slice(&frame(xid));
            waiting += 1;
            if waiting == 256 {
                self.finish_batch(expected, &mut out, &mut waiting)?;
            }
        }
        self.finish_batch(expected, &mut out, &mut waiting)
    }

    fn finish_batch(
        &mut self,
        expected: i32,
        out: &mut Vec<u8>,
        waiting: &mut usize,
    ) -> Result<(), String> {
        self.send(out)?;
        out.clear();
        for _ in 0..std::mem::take(waiting) {
            let (head, _) = self.receive()?;
            if head.err != 0 && head.err != expected {
                return Err(format!("the server answered {} while setting up", head.err));
            }
        }
        Ok(())
    }

    /// Creates `paths`, parents first; those that exist are left as they are.
    pub fn create_all(&mut self, paths: impl Iterator<Item = String>) -> Result<(), String> {
        let frame = |path: String| -> Box<dyn FnOnce(Xid) -> Vec<u8>> {
            Box::new(move |xid| codec::create_frame(xid, &path, b"", 0))
        };
        self.batch(NODE_EXISTS, paths.map(frame))
    }

    /// Children of `path`, or nothing if it does not exist.
    pub fn children(&mut self, path: &str) -> Result<Vec<String>, String> {
        let list = |xid| codec::read_frame(xid, OpCode::GetChildren, path, false);
        let (err, body) = self.call(list)?;
        if err != 0 {
            return if err == NO_NODE { Ok(Vec::new()) } else { Err(format!("list: {err}")) };
        }
        let mut r = ringkeeper::wire::Reader::new(&body);
        let count = r.i32("count").map_err(|e| e.to_string())?;
        (0..count)
            .map(|_| Ok(r.text("child").map_err(|e| e.to_string())?.unwrap_or_default().into()))
            .collect()
    }

    /// Deletes everything below and including `root`, two levels deep: what a run creates.
    pub fn remove_tree(&mut self, root: &str) -> Result<(), String> {
        let delete = |path: String| -> Box<dyn FnOnce(Xid) -> Vec<u8>> {
            Box::new(move |xid| codec::delete_frame(xid, &path))
        };
        for dir in self.children(root)? {
            let dir = format!("{root}/{dir}");
            let nodes = self.children(&dir)?;
            self.batch(NO_NODE, nodes.into_iter().map(|n| delete(format!("{dir}/{n}"))))?;
            self.batch(NO_NODE, std::iter::once(delete(dir)))?;
        }
        self.batch(NO_NODE, std::iter::once(delete(root.to_owned())))
    }

    /// Ends the session.
    pub fn close(mut self) {
        // A server that is gone has nothing left to close.
        let _ = self.call(|xid| codec::empty_frame(xid, OpCode::CloseSession));
    }
}
