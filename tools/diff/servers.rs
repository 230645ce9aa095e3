//! The two servers, or ensembles: processes of our own in fresh directories, or running ones by
//! address.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::words;

/// Where a server comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Apache ZooKeeper with this class path file.
    Apache(PathBuf),
    /// This `ringkeeper` binary.
    Ringkeeper(PathBuf),
    /// A running server; it cannot be restarted.
    Running(SocketAddr),
}

impl Source {
    /// Reads `apache[:CLASSPATH-FILE]`, `ringkeeper[:BINARY]` or `HOST:PORT`.
    pub fn parse(text: &str) -> Result<Source, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("apache", "") => apache_class_path().map(Source::Apache),
            ("apache", file) => Ok(Source::Apache(file.into())),
            ("ringkeeper", "") => ringkeeper_binary().map(Source::Ringkeeper),
            ("ringkeeper", file) => Ok(Source::Ringkeeper(file.into())),
            _ => text
                .to_socket_addrs()
                .ok()
                .and_then(|mut all| all.next())
                .map(Source::Running)
                .ok_or_else(|| {
                    format!("{text}: neither apache[:FILE], ringkeeper[:BINARY] nor HOST:PORT")
                }),
        }
    }

    /// For reports.
    pub fn name(&self) -> String {
        match self {
            Source::Apache(_) => "apache".to_owned(),
            Source::Ringkeeper(_) => "ringkeeper".to_owned(),
            Source::Running(address) => address.to_string(),
        }
    }
}

fn apache_class_path() -> Result<PathBuf, String> {
    if let Some(file) = std::env::var_os("RK_APACHE_CLASSPATH") {
        return Ok(file.into());
    }
    let here = PathBuf::from(".cache/apache/classpath");
    if here.exists() {
        return Ok(here);
    }
    Err("Apache ZooKeeper is not set up: run tools/test --setup-apache once, or set \
         RK_APACHE_CLASSPATH to a file that holds its class path"
        .to_owned())
}

fn ringkeeper_binary() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let beside = this.with_file_name("ringkeeper");
    if beside.exists() {
        return Ok(beside);
    }
    Err(format!("{} does not exist: build it, or give ringkeeper:BINARY", beside.display()))
}

/// How often a start is tried.
const STARTS_MAX: u32 = 4;

/// How long a start may take; a JVM on a busy machine needs its time.
const START_TIME: Duration = Duration::from_secs(120);

/// Lines of a server's log in a report.
const LOG_LINES: usize = 20;

/// A server under test, or an ensemble of several.
pub struct Server {
    source: Source,
    home: PathBuf,
    extra_lines: Vec<String>,
    count: usize,
    starts: u32,
    members: Vec<Member>,
}

/// One process.
struct Member {
    directory: PathBuf,
    address: SocketAddr,
    // `None` if it is not ours.
    process: Option<Child>,
}

impl Server {
    /// Starts the server, or `count` members of an ensemble, in directories below `home`, or finds
    /// the running one.
    pub fn start(
        source: Source,
        home: PathBuf,
        extra_lines: Vec<String>,
        count: usize,
    ) -> io::Result<Server> {
        let mut members = Vec::new();
        if let Source::Running(address) = source {
            members.push(Member { directory: home.clone(), address, process: None });
        }
        let mut server = Server { source, home, extra_lines, count, starts: 0, members };
        server.restart()?;
        Ok(server)
    }

    /// Where clients connect; of an ensemble the leader comes first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// For reports.
    pub fn name(&self) -> String {
        self.source.name()
    }

    /// Ends the process and starts a new one with an empty data directory; false if this server
    /// is not ours to restart.
    pub fn restart(&mut self) -> io::Result<bool> {
        if let Source::Running(_) = self.source {
            return Ok(false);
        }
        // Somebody else may take the port before the server does: then it ends, and a new one is
        // tried.
        for _ in 1..STARTS_MAX {
            if self.try_start().is_ok() {
                return Ok(true);
            }
        }
        self.try_start()?;
        Ok(true)
    }

    fn try_start(&mut self) -> io::Result<()> {
        self.stop();
        // Hundreds of them would fill the disk. If one cannot be removed, the run's end tells.
        let _ = fs::remove_dir_all(self.directory());
        self.starts += 1;
        let listed: Vec<(u16, String)> =
            (1..=self.count).map(listed_member).collect::<io::Result<_>>()?;
        for (sid, (port, _)) in (1..).zip(&listed) {
            let directory = self.directory().join(sid.to_string());
            fs::create_dir_all(directory.join("data"))?;
            let mut config = self.config(&directory, *port);
            if self.count > 1 {
                fs::write(directory.join("data/myid"), format!("{sid}\n"))?;
                config.push_str("initLimit=60\nsyncLimit=30\n");
                listed.iter().for_each(|(_, line)| config.push_str(line));
            }
            fs::write(directory.join("zoo.cfg"), config)?;
            let log = File::create(directory.join("log"))?;
            let mut command = self.command(&directory)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let (address, process) = (SocketAddr::from(([127, 0, 0, 1], *port)), command.spawn()?);
            self.members.push(Member { directory, address, process: Some(process) });
        }
        self.members.iter_mut().try_for_each(Member::wait_until_serving)?;
        self.members.sort_by_key(|member| !member.says("srvr", "Mode: leader", START_TIME));
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        self.home.join(format!("{}-{}", self.name(), self.starts))
    }

    /// The end of what the processes have logged.
    pub fn log_tail(&self) -> Vec<String> {
        self.members.iter().flat_map(Member::log_tail).collect()
    }

    fn config(&self, directory: &Path, port: u16) -> String {
        let own = format!(
            "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
             minSessionTimeout=200000\nmaxSessionTimeout=600000\nextendedTypesEnabled=true\n\
             enforceQuota=true\nsnapCount=1000000\n\
             DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=\n",
            directory.join("data").display()
        );
        let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        let is_replaced = |line: &str| self.extra_lines.iter().any(|l| name(l) == name(line));
        let own = own.lines().filter(|line| !is_replaced(line));
        let lines = own.chain(self.extra_lines.iter().map(String::as_str));
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn command(&self, directory: &Path) -> io::Result<Command> {
        // Containers and TTL nodes must not vanish in the middle of a history.
        let reaper = "-Dznode.container.checkIntervalMs=86400000";
        // Nor may a handshake that waits for a slow disk.
        let patience = "-Dzookeeper.nio.sessionlessCnxnTimeout=600000";
        let config = directory.join("zoo.cfg");
        Ok(match &self.source {
            Source::Ringkeeper(binary) => {
                let mut command = Command::new(binary);
                command.arg("server").args([reaper, patience]).arg(config);
                command
            }
            Source::Apache(file) => {
                let mut command = Command::new("java");
                command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
                command.args(["-XX:-UsePerfData", "-Dfile.encoding=UTF-8", reaper, patience]);
                command.arg("-cp").arg(absolute_class_path(file)?);
                command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(config);
                command
            }
            Source::Running(_) => return Err(io::Error::other("a running server is not started")),
        })
    }

    fn stop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            // Already ended is as good as killed; the directory is thrown away either way.
            let _ = process.kill();
            let _ = process.wait();
        }
        self.members.clear();
    }
}

impl Member {
    /// The end of what the process has logged.
    fn log_tail(&self) -> Vec<String> {
        // A server that is not ours has none to show.
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut tail: Vec<String> = log.lines().rev().take(LOG_LINES).map(str::to_owned).collect();
        tail.reverse();
        tail
    }

    fn says(&self, word: &str, what: &str, patience: Duration) -> bool {
        words::ask_within(patience, self.address, word)
            .is_ok_and(|answer| String::from_utf8_lossy(&answer).contains(what))
    }

    fn wait_until_serving(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIME;
        // Another server that got the port would answer as well.
        let own = fs::canonicalize(self.directory.join("data"))?;
        let own = format!("dataDir={}/", own.display());
        // The reference may leave a word that comes while it starts without any answer.
        let mut patience = Duration::from_millis(100);
        loop {
            let asked = Instant::now();
            if self.says("srvr", "Mode: ", patience) && self.says("conf", &own, patience) {
                return Ok(());
            }
            if asked.elapsed() >= patience {
                patience = (patience * 2).min(Duration::from_secs(5));
            }
            let ended = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "{} does not serve on {} ({ended:?}); the end of its log:\n  {}",
                    self.directory.display(),
                    self.address,
                    self.log_tail().join("\n  ")
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Class path entries that are relative to the directory of the class path file, made absolute.
fn absolute_class_path(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
    let directory = file.parent().unwrap_or(Path::new("."));
    let entries = text.trim().split(':').map(|entry| {
        let path = Path::new(entry);
        if path.exists() { path.to_owned() } else { directory.join(path) }
    });
    let entries: Vec<_> = entries.map(|path| path.to_string_lossy().into_owned()).collect();
    Ok(entries.join(":"))
}

/// A client port, and the line for an ensemble with two more ports.
fn listed_member(sid: usize) -> io::Result<(u16, String)> {
    let (client, learners, votes) = (free_port()?, free_port()?, free_port()?);
    Ok((client, format!("server.{sid}=127.0.0.1:{learners}:{votes}\n")))
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}
