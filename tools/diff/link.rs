//! One TCP connection to a server under test: whole frames in, bytes out.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before it counts as missing: only a server that hangs lets a tester
/// wait that long, and a loaded machine with a slow disk must not.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What came next on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A frame, without its length.
    Frame(Vec<u8>),
    /// The server closed the connection (FIN and RST are the same to a client).
    Closed,
    /// Nothing within the connection's patience.
    Silence,
}

/// A change made to one received frame, to prove that the tester notices changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Canary {
    /// Frames that still pass unchanged; the next one is hit.
    pub frames_left: Option<u32>,
    /// Byte of that frame, modulo its length.
    pub offset: usize,
}

impl Canary {
    /// How long connections wait for answers: a changed length or xid is waited for in vain.
    pub fn patience(&self) -> Duration {
        if self.frames_left.is_some() { Duration::from_secs(5) } else { PATIENCE }
    }
}

/// A connection; dropping it closes the socket without telling the server more.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects to `address`; an answer that takes longer than `patience` counts as missing.
    pub fn open(address: SocketAddr, patience: Duration) -> io::Result<Link> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Link { stream, buffer: Vec::new() })
    }

    /// Sends bytes; a connection that is already closed shows when it is read.
    pub fn send(&mut self, bytes: &[u8]) {
        // The peer may have closed: what it sent before is still to be read, so this is no error.
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame.
    pub fn receive(&mut self, canary: &mut Canary) -> Incoming {
        let mut chunk = [0u8; 16 * 1024];
        loop {
            if let Some(frame) = self.whole_frame() {
                return Incoming::Frame(corrupted(frame, canary));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Incoming::Closed,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_timeout(&e) => return Incoming::Silence,
                Err(_) => return Incoming::Closed,
            }
        }
    }

    fn whole_frame(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.buffer.split_first_chunk::<4>()?;
        // A length that no server sends makes the reader wait, which then shows as silence.
        let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
        let frame = rest.get(..length)?.to_vec();
        self.buffer.drain(..4 + length);
        Some(frame)
    }

    /// Everything until the server closes, for four-letter words.
    pub fn read_all(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.buffer);
        // A reset after the answer loses nothing that was read before.
        let _ = self.stream.read_to_end(&mut out);
        out
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn corrupted(mut frame: Vec<u8>, canary: &mut Canary) -> Vec<u8> {
    match canary.frames_left {
        Some(0) if !frame.is_empty() => {
            canary.frames_left = None;
            let at = canary.offset % frame.len();
            frame[at] ^= 1;
        }
        Some(left) => canary.frames_left = Some(left.saturating_sub(1)),
        None => {}
    }
    frame
}
