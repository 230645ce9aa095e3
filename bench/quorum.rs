//! The followers of the ceiling of an ensemble, as processes of their own, and the leader's side of
//! them. A group is the writes of one turn of the leader's loop: its number, its length, its bytes.
//! A follower makes it durable with one write and one fdatasync and answers with the number. There
//! is no election and no epoch; the connection alone keeps groups in order.
#![forbid(unsafe_code)]

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::net::Poll;
use crate::roundlog::RoundLog;

const HEAD_BYTES: usize = 12;
const ACK_BYTES: usize = 8;
/// How long a follower may take to fill its log with zeroes and to connect.
const START_PATIENCE: Duration = Duration::from_secs(60);

struct Follower {
    stream: TcpStream,
    /// The part of an answer that has arrived.
    answer: Vec<u8>,
    /// The last group that it has made durable.
    durable: u64,
}

/// The leader's side. Ends the followers when it is dropped.
pub struct Quorum {
    poll: Poll,
    followers: Vec<Follower>,
    children: Vec<Child>,
    /// Followers that must have synced besides the leader.
    needed: usize,
    group: u64,
    out: Vec<u8>,
}

impl Quorum {
    /// Starts `servers` − 1 followers with logs below `dir` and waits until they are ready.
    ///
    /// # Errors
    /// A follower cannot be started, ends, or does not connect in time.
    pub fn start(servers: usize, dir: &Path) -> Result<Quorum, String> {
        if !(2..=9).contains(&servers) {
            return Err(format!("--ensemble {servers}: from 2 to 9 servers"));
        }
        let say = |e: io::Error| format!("followers: {e}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(say)?;
        listener.set_nonblocking(true).map_err(say)?;
        let port = listener.local_addr().map_err(say)?.port();
        let mut quorum = Quorum {
            poll: Poll::new(servers).map_err(say)?,
            followers: Vec::new(),
            children: Vec::new(),
            needed: servers / 2,
            group: 0,
            out: Vec::new(),
        };
        let program = std::env::current_exe().map_err(say)?;
        for number in 1..servers {
            let home = dir.join(format!("follower-{number}"));
            std::fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
            let mut command = Command::new(&program);
            command.args(["ceiling", "--follow", &port.to_string(), "--dir"]).arg(&home);
            command.stdin(Stdio::null());
            quorum.children.push(command.spawn().map_err(say)?);
        }
        let begin = Instant::now();
        while quorum.followers.len() + 1 < servers {
            match listener.accept() {
                Ok((stream, _)) => quorum.adopt(stream).map_err(say)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    quorum.check_children(begin)?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => return Err(say(e)),
            }
        }
        Ok(quorum)
    }

    fn adopt(&mut self, stream: TcpStream) -> io::Result<()> {
        // Groups are written at once or not at all; only answers are read without waiting.
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        self.poll.add(&stream, self.followers.len(), false)?;
        self.followers.push(Follower { stream, answer: Vec::new(), durable: 0 });
        Ok(())
    }

    fn check_children(&mut self, begin: Instant) -> Result<(), String> {
        for child in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("a follower ended ({status})"));
            }
        }
        if begin.elapsed() > START_PATIENCE {
            return Err(format!("followers did not connect in {} s", START_PATIENCE.as_secs()));
        }
        Ok(())
    }

    /// Sends `group` to every follower.
    pub fn send(&mut self, group: &[u8]) -> io::Result<()> {
        self.group += 1;
        self.out.clear();
        self.out.extend_from_slice(&head(self.group, group.len()));
        self.out.extend_from_slice(group);
        for follower in &mut self.followers {
            follower.stream.write_all(&self.out)?;
        }
        Ok(())
    }

    /// Waits until a majority, the leader counted, has made the last group durable.
    pub fn wait(&mut self) -> io::Result<()> {
        loop {
            let group = self.group;
            let synced = self.followers.iter().filter(|f| f.durable >= group).count();
            if synced >= self.needed {
                return Ok(());
            }
            self.poll.wait(None)?;
            for i in 0..self.poll.ready_count() {
                let follower = &mut self.followers[self.poll.ready(i).token];
                let mut buf = [0; 512];
                match follower.stream.read(&mut buf)? {
                    0 => return Err(io::Error::other("a follower is gone")),
                    n => follower.take(&buf[..n]),
                }
            }
        }
    }
}

impl Drop for Quorum {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It fails for a process that has ended already, as it shall.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Follower {
    fn take(&mut self, bytes: &[u8]) {
        self.answer.extend_from_slice(bytes);
        let whole = self.answer.len() / ACK_BYTES * ACK_BYTES;
        if let Some(last) = self.answer[..whole].last_chunk::<ACK_BYTES>() {
            self.durable = u64::from_be_bytes(*last);
        }
        self.answer.drain(..whole);
    }
}

fn head(group: u64, len: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&group.to_be_bytes());
    head[8..].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    head
}

/// A follower: serves the leader at `port` of 127.0.0.1 until the leader is gone.
///
/// # Errors
/// The log cannot be written, or the leader cannot be reached.
pub fn follow(port: u16, dir: &Path) -> Result<(), String> {
    let log = RoundLog::new(dir)?;
    let leader = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect(leader).map_err(|e| format!("leader at {leader}: {e}"))?;
    serve(stream, log).map_err(|e| format!("follower: {e}"))
}

fn serve(stream: TcpStream, mut log: RoundLog) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(256 * 1024, stream);
    let mut group = Vec::new();
    loop {
        let mut head = [0; HEAD_BYTES];
        match input.read_exact(&mut head) {
            Ok(()) => {}
            // The leader has ended.
            Err(e) if is_end(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
        let (number, len) = head.split_at(8);
        let len = len.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
        group.resize(len, 0);
        match input.read_exact(&mut group) {
            Ok(()) => {}
            Err(e) if is_end(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
        log.append(&group)?;
        match input.get_mut().write_all(number) {
            Ok(()) => {}
            Err(e) if is_end(&e) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

fn is_end(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_answers_each_group_and_ends_with_its_leader() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let home = dir.path().to_owned();
        let follower = std::thread::spawn(move || follow(port, &home));
        let (mut stream, _) = listener.accept().unwrap();
        for (number, group) in [(1, &b"first"[..]), (2, b""), (3, b"third")] {
            stream.write_all(&head(number, group.len())).unwrap();
            stream.write_all(group).unwrap();
            let mut answer = [0; ACK_BYTES];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(u64::from_be_bytes(answer), number);
        }
        drop(stream);
        assert_eq!(follower.join().unwrap(), Ok(()));
        let log = std::fs::read(dir.path().join("ceiling.log")).unwrap();
        assert!(log.starts_with(b"firstthird\0"));
    }

    #[test]
    fn answers_may_arrive_in_pieces() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut follower = Follower { stream, answer: Vec::new(), durable: 0 };
        let bytes: Vec<u8> = (1..=3u64).flat_map(u64::to_be_bytes).collect();
        follower.take(&bytes[..11]);
        assert_eq!(follower.durable, 1);
        follower.take(&bytes[11..]);
        assert_eq!((follower.durable, follower.answer.len()), (3, 0));
    }
}
