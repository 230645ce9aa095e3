//! The members: each knows the others by the addresses of proxies.

use super::proxy::{self, Ways};
use crate::util::{Options, Server, eventually, free_port};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Silence is noticed soon: `syncLimit` is a second. Segments are small, as disks fill up.
const LINES: [&str; 4] =
    ["tickTime=200", "initLimit=50", "syncLimit=5", "ringkeeper.log.segmentSizeInKb=1024"];

/// How long a word may take.
const WORD_PATIENCE: Duration = Duration::from_secs(2);

/// The members, counted from 0.
pub struct Members {
    servers: Vec<Server>,
    /// What passes between them.
    pub ways: Arc<Ways>,
}

impl Members {
    /// Starts `size` members, and waits until all serve.
    pub fn start(size: usize) -> Members {
        let ways = Ways::new(size);
        let own: Vec<[u16; 2]> = (0..size).map(|_| [free_port(), free_port()]).collect();
        let servers = (0..size).map(|at| prepare(at, &own, &ways)).collect();
        let mut members = Members { servers, ways };
        members.start_all();
        members
    }

    /// Starts all that do not run, and waits until all serve.
    pub fn start_all(&mut self) {
        for server in self.servers.iter_mut().filter(|server| !server.is_started()) {
            server.spawn();
        }
        for at in 0..self.servers.len() {
            eventually("a member serves", || {
                let server = &mut self.servers[at];
                if let Some(status) = server.exited() {
                    panic!("member {at} ended with {status}:\n{}", server.stderr());
                }
                self.is_serving(at).then_some(())
            });
        }
    }

    fn mode(&self, at: usize) -> Option<String> {
        let answer = self.servers[at].try_ask("srvr", WORD_PATIENCE).ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ").map(str::to_owned))
    }

    /// Whether this member leads or follows.
    pub fn is_serving(&self, at: usize) -> bool {
        self.mode(at).is_some()
    }

    /// Who leads, if anybody does now.
    pub fn leader(&self) -> Option<usize> {
        (0..self.servers.len()).find(|&at| self.mode(at).as_deref() == Some("leader"))
    }

    /// The process of a member.
    pub fn server(&mut self, at: usize) -> &mut Server {
        &mut self.servers[at]
    }

    /// From now on this member's files may not grow, as on a disk that is full: it ends.
    pub fn fill_disk(&mut self, at: usize) {
        let pid = self.servers[at].pid().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, "--fsize=4096"]).status();
        assert!(status.expect("prlimit (util-linux)").success(), "prlimit --pid {pid}");
    }

    /// The directory of a member.
    pub fn home(&self, at: usize) -> &Path {
        self.servers[at].home()
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Server::address).collect()
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A member whose configuration has the proxies to the others, and its own ports.
fn prepare(at: usize, own: &[[u16; 2]], ways: &Arc<Ways>) -> Server {
    let mut config: Vec<String> = LINES.iter().map(|line| (*line).to_owned()).collect();
    for (to, ports) in own.iter().enumerate() {
        let [quorum, election] = ports.map(|port| {
            if to == at {
                return port;
            }
            let listener = TcpListener::bind(local(0)).expect("a port for a proxy");
            let proxy = listener.local_addr().expect("its address").port();
            proxy::listen(ways, at, to, local(port), listener);
            proxy
        });
        config.push(format!("server.{}=127.0.0.1:{quorum}:{election}", to + 1));
    }
    let server = Server::prepare(Options { config, ..Options::default() });
    fs::write(server.data_dir().join("myid"), format!("{}\n", at + 1)).expect("myid");
    server
}
