//! Starting and stopping the servers that are compared, each in a fresh directory on a free port
//! of 127.0.0.1.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use ringkeeper::sys::signal::{self, Meaning};

use crate::admin::Admin;
use crate::cli::{cpu_list, value};
use crate::procfs;

/// A kind of server that takes part in a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Contestant {
    Ringkeeper,
    Ceiling,
    Apache,
}

impl Contestant {
    /// All, in the order of the tables.
    pub const ALL: [Contestant; 3] =
        [Contestant::Ringkeeper, Contestant::Ceiling, Contestant::Apache];

    /// In tables and options.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Ringkeeper => "ringkeeper",
            Contestant::Ceiling => "ceiling",
            Contestant::Apache => "apache",
        }
    }
}

/// Programs and directories with which servers are started.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The `ringkeeper` binary.
    pub ringkeeper: PathBuf,
    /// Java class path with Apache ZooKeeper.
    pub apache_classpath: Option<String>,
    /// Java heap in MiB; Apache's own scripts give 1000.
    pub heap_mib: u64,
    /// Data directories are made below it.
    pub dir: PathBuf,
    /// Cores for the servers; empty leaves it to the scheduler.
    pub cpus: Vec<usize>,
    /// More lines for the configuration file.
    pub config: Vec<String>,
}

/// The place of a server: what stays when its process ends.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Kind of server.
    pub who: Contestant,
    /// Configuration, data and log are in it.
    pub home: PathBuf,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Lines of its configuration that it does not share with servers elsewhere.
    pub lines: Vec<String>,
    /// Servers that the ceiling consists of.
    pub ceiling_servers: usize,
}

impl Seat {
    /// Of a server that is alone, on a free port.
    pub fn alone(who: Contestant, home: &Path) -> Result<Seat, String> {
        let addr = free_address()?;
        Ok(Seat { who, home: home.to_owned(), addr, lines: Vec::new(), ceiling_servers: 1 })
    }
}

/// A running server; killed when dropped.
pub struct Server {
    /// Kind of server.
    pub who: Contestant,
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    home: PathBuf,
}

/// Process ids of the servers that run now.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// From here on SIGINT and SIGTERM end the servers before they end this process.
pub fn end_with_us() -> Result<(), String> {
    signal::take().map_err(|e| format!("blocking signals: {e}"))?;
    std::thread::spawn(|| {
        let number = loop {
            match signal::wait() {
                Ok(row) if row.meaning != Meaning::End => {}
                received => break received.map_or(2, |row| row.number),
            }
        };
        for pid in RUNNING.lock().iter().flat_map(|pids| pids.iter()) {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        eprintln!("rk-bench: signal {number}: ended the servers; their directories are left");
        std::process::exit(128 + number);
    });
    Ok(())
}

/// The options of [`Programs::take_option`], for the help of a command.
pub const OPTIONS: &str = "\
servers:
  --ringkeeper PATH        (target/release/ringkeeper)
  --apache-classpath FILE  a file that holds a Java class path (else .cache, Maven Central, Debian)
  --heap-mib N             Java heap (1000, as in Apache's scripts)
  --dir D                  for data directories; choose the disk to be measured (.)
  --server-cpus LIST       their cores (left to the scheduler)
  --config LINE            one more line for zoo.cfg; may be repeated
";

/// How long a server may take to serve.
pub const START_PATIENCE: Duration = Duration::from_secs(120);

impl Programs {
    /// The defaults of all options.
    pub fn new() -> Programs {
        Programs {
            ringkeeper: PathBuf::from("target/release/ringkeeper"),
            apache_classpath: None,
            heap_mib: 1000,
            dir: PathBuf::from("."),
            cpus: Vec::new(),
            config: Vec::new(),
        }
    }

    /// Takes the option `name` if it is one of [`OPTIONS`].
    pub fn take_option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, String> {
        match name {
            "ringkeeper" => self.ringkeeper = value(parser, "ringkeeper")?,
            "apache-classpath" => {
                let file: PathBuf = value(parser, "apache-classpath")?;
                self.apache_classpath = Some(find_apache(Some(&file))?);
            }
            "heap-mib" => self.heap_mib = value(parser, "heap-mib")?,
            "dir" => self.dir = value(parser, "dir")?,
            "server-cpus" => self.cpus = cpu_list(parser, "server-cpus")?,
            "config" => self.config.push(value(parser, "config")?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes sure that all of `servers` can be started.
    pub fn get_ready(&mut self, servers: &[Contestant]) -> Result<(), String> {
        let dir = self.dir.canonicalize();
        self.dir = dir.map_err(|e| format!("--dir {}: {e}", self.dir.display()))?;
        if servers.contains(&Contestant::Apache) && self.apache_classpath.is_none() {
            self.apache_classpath = Some(find_apache(None)?);
        }
        servers.iter().try_for_each(|who| self.check(*who))
    }

    /// Whether `who` can be started; otherwise why not and what to do.
    pub fn check(&self, who: Contestant) -> Result<(), String> {
        match who {
            Contestant::Ceiling => Ok(()),
            Contestant::Ringkeeper if self.ringkeeper.is_file() => Ok(()),
            Contestant::Ringkeeper => Err(format!(
                "{} is missing: cargo build --release, or --ringkeeper PATH",
                self.ringkeeper.display()
            )),
            Contestant::Apache if self.apache_classpath.is_some() => Ok(()),
            Contestant::Apache => Err("no Apache ZooKeeper: --apache-classpath FILE".into()),
        }
    }

    /// Makes a new home directory for `who`.
    pub fn home(&self, who: Contestant, label: &str) -> Result<PathBuf, String> {
        let name = format!("rk-bench-{}-{}-{label}", std::process::id(), who.name());
        let home = self.dir.join(name);
        let say = |e| format!("{}: {e}", home.display());
        if home.exists() {
            fs::remove_dir_all(&home).map_err(say)?;
        }
        fs::create_dir_all(home.join("data")).map_err(say)?;
        Ok(home)
    }

    /// Starts `who` on the data in `home`, without waiting for it to serve.
    pub fn spawn(&self, who: Contestant, home: &Path) -> Result<Server, String> {
        self.spawn_at(&Seat::alone(who, home)?)
    }

    /// Starts the server of `seat` on its data, without waiting for it to serve.
    pub fn spawn_at(&self, seat: &Seat) -> Result<Server, String> {
        let (who, home) = (seat.who, &seat.home);
        let mut command = self.command(seat)?;
        let say = |e| format!("{}: {e}", home.display());
        let out = File::options().create(true).append(true).open(home.join("log")).map_err(say)?;
        let err = out.try_clone().map_err(say)?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        // A child inherits the cores of the thread that starts it, and so do its threads.
        let before = rustix::thread::sched_getaffinity(None);
        if !self.cpus.is_empty() {
            let mut set = rustix::thread::CpuSet::new();
            self.cpus.iter().for_each(|cpu| set.set(*cpu));
            rustix::thread::sched_setaffinity(None, &set).map_err(|e| format!("cores: {e}"))?;
        }
        let child = command.spawn();
        if let (false, Ok(before)) = (self.cpus.is_empty(), before) {
            let _ = rustix::thread::sched_setaffinity(None, &before);
        }
        let child = child.map_err(|e| format!("cannot start {}: {e}", who.name()))?;
        if let Ok(mut running) = RUNNING.lock() {
            running.push(child.id());
        }
        Ok(Server { who, addr: seat.addr, child, home: home.clone() })
    }

    /// Starts `who` and waits until it serves.
    pub fn start(&self, who: Contestant, home: &Path) -> Result<Server, String> {
        let mut server = self.spawn(who, home)?;
        server.wait_until_up()?.close();
        Ok(server)
    }

    fn command(&self, seat: &Seat) -> Result<Command, String> {
        let (who, home) = (seat.who, &seat.home);
        if who == Contestant::Ceiling {
            let me = std::env::current_exe().map_err(|e| e.to_string())?;
            let mut command = Command::new(me);
            command.arg("ceiling").arg("--port").arg(seat.addr.port().to_string());
            command.arg("--ensemble").arg(seat.ceiling_servers.to_string());
            command.arg("--dir").arg(home);
            return Ok(command);
        }
        let config = home.join("zoo.cfg");
        let text = self.config_text(seat);
        let say = |e| format!("{}: {e}", config.display());
        fs::write(&config, text).map_err(say)?;
        if who == Contestant::Ringkeeper {
            let mut command = Command::new(&self.ringkeeper);
            command.arg("server").arg(&config);
            return Ok(command);
        }
        let jars = self.apache_classpath.as_ref().ok_or("no Apache class path")?;
        fs::write(home.join("logback.xml"), LOGBACK).map_err(say)?;
        // The flags of Apache's own zkServer.sh.
        let mut command = Command::new("java");
        command
            .arg(format!("-Dzookeeper.log.dir={}", home.display()))
            .args(["-XX:+HeapDumpOnOutOfMemoryError", "-XX:OnOutOfMemoryError=kill -9 %p"])
            .arg(format!("-XX:HeapDumpPath={}", home.display()))
            .arg(format!("-Xmx{}m", self.heap_mib))
            .arg("-cp")
            .arg(format!("{}:{jars}", home.display()))
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&config);
        Ok(command)
    }

    /// The lines of `zoo.cfg`. One that `--config` gives takes the place of ours.
    fn config_text(&self, seat: &Seat) -> String {
        let ours = [
            "tickTime=2000".to_owned(),
            "initLimit=10".to_owned(),
            "syncLimit=5".to_owned(),
            format!("dataDir={}", seat.home.join("data").display()),
            format!("clientPort={}", seat.addr.port()),
            format!("clientPortAddress={}", seat.addr.ip()),
            "maxClientCnxns=0".to_owned(),
            "maxSessionTimeout=600000".to_owned(),
            "admin.enableServer=false".to_owned(),
        ];
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let is_replaced = |line: &String| self.config.iter().any(|other| key(other) == key(line));
        let ours = ours.into_iter().filter(|line| !is_replaced(line));
        let lines = ours.chain(seat.lines.iter().cloned()).chain(self.config.iter().cloned());
        lines.map(|line| line + "\n").collect()
    }
}

/// Apache's stock logging: INFO to the console, which its script sends to a file.
const LOGBACK: &str = r#"<configuration>
  <appender name="CONSOLE" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} [myid:%X{myid}] - %-5p [%t:%C{1}@%L] - %m%n</pattern></encoder>
    <filter class="ch.qos.logback.classic.filter.ThresholdFilter"><level>INFO</level></filter>
  </appender>
  <root level="INFO"><appender-ref ref="CONSOLE"/></root>
</configuration>
"#;

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process and those that it has started.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid()];
        pids.extend(procfs::children(self.pid()));
        pids
    }

    /// Sends it a signal; it fails for a process that has ended already, as it shall.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until a session can be opened.
    pub fn wait_until_up(&mut self) -> Result<Admin, String> {
        let start = Instant::now();
        loop {
            self.must_live()?;
            match Admin::probe(self.addr) {
                Ok(admin) => return Ok(admin),
                Err(e) if start.elapsed() > START_PATIENCE => {
                    return Err(format!("{}: {e}: {}", self.who.name(), self.last_words()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Fails if it has ended, with the last lines of its log.
    pub fn must_live(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                Err(format!("{} ended ({status}): {}", self.who.name(), self.last_words()))
            }
            _ => Ok(()),
        }
    }

    /// Has a Java server collect its garbage and returns the bytes of heap then in use; `None` for
    /// others, which have no garbage.
    pub fn live_heap(&self) -> Option<u64> {
        if self.who != Contestant::Apache {
            return None;
        }
        let pid = self.pid().to_string();
        let jcmd = |what: &str| Command::new("jcmd").args([&pid, what]).output().ok();
        jcmd("GC.run")?;
        heap_used(&String::from_utf8_lossy(&jcmd("GC.heap_info")?.stdout))
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Asks it to stop, kills it if it does not within ten seconds; its data stays.
    pub fn stop(mut self) {
        self.end();
    }

    /// Waits until it has ended as it was told to, and kills it if that takes ten seconds.
    pub fn wait(mut self) {
        self.wait_for_end();
        self.end();
    }

    /// Ends it at once (SIGKILL), as a crash would; its data stays.
    pub fn kill(mut self) {
        // It fails for a process that has ended already, as it shall.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end();
    }

    fn end(&mut self) {
        self.end_process();
        let pid = self.pid();
        if let Ok(mut running) = RUNNING.lock() {
            running.retain(|other| *other != pid);
        }
    }

    fn end_process(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::TERM);
        self.wait_for_end();
    }

    fn wait_for_end(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Adds up what `jcmd GC.heap_info` says is used, whichever the collector, class data left out.
fn heap_used(info: &str) -> Option<u64> {
    let used = |line: &str| -> Option<u64> {
        let (_, rest) = line.split_once("used ")?;
        let (kib, _) = rest.split_once('K')?;
        kib.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let is_heap = |line: &&str| {
        let line = line.trim_start();
        !line.starts_with("Metaspace") && !line.starts_with("class space")
    };
    info.lines()
        .filter(is_heap)
        .filter(|l| l.contains("total "))
        .filter_map(used)
        .reduce(|a, b| a + b)
}

/// A port below the range that outgoing connections use, so that a storm cannot take it. Runs side
/// by side have process ids close to each other: each looks in a place of its own first. None is
/// given out twice, as a member keeps its port while its process is away.
pub fn free_address() -> Result<SocketAddr, String> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    const PORTS: u16 = 5_000;
    let first = 20_000 + (std::process::id() % 700) as u16 * 10;
    for _ in 0..PORTS {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed) % PORTS;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err("no free port on 127.0.0.1".into())
}

/// Finds Apache ZooKeeper: the class path in `file`, or what the foreign tests fetched, or a
/// fresh copy from Maven Central below `.cache`, or Debian's package.
pub fn find_apache(file: Option<&Path>) -> Result<String, String> {
    if let Some(file) = file {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        return Ok(text.trim().to_owned());
    }
    for known in [".cache/apache/classpath", ".cache/bench/classpath"] {
        if let Ok(text) = fs::read_to_string(known) {
            return Ok(text.trim().to_owned());
        }
    }
    let maven = fetch_apache(Path::new(".cache/bench"));
    let debian = Path::new("/usr/share/java/zookeeper.jar");
    match maven {
        Ok(jars) => Ok(jars),
        Err(_) if debian.is_file() => Ok(format!("/etc/zookeeper/conf:{}/*", "/usr/share/java")),
        Err(e) => Err(format!("{e}; or install Debian's zookeeper, or --apache-classpath FILE")),
    }
}

fn fetch_apache(cache: &Path) -> Result<String, String> {
    let say = |e| format!("{}: {e}", cache.display());
    let lib = cache.join("lib");
    fs::create_dir_all(&lib).map_err(say)?;
    let lib = lib.canonicalize().map_err(say)?;
    fs::write(cache.join("pom.xml"), POM).map_err(say)?;
    eprintln!("fetching Apache ZooKeeper from Maven Central into {}", lib.display());
    let status = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(cache.join("pom.xml"))
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", lib.display()))
        .status()
        .map_err(|e| format!("mvn: {e}"))?;
    if !status.success() {
        return Err(format!("mvn could not fetch Apache ZooKeeper ({status})"));
    }
    let jars = format!("{}/*", lib.display());
    fs::write(cache.join("classpath"), &jars).map_err(say)?;
    Ok(jars)
}

/// Apache ZooKeeper as a server, with what its distribution adds to the published dependencies.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ringkeeper.bench</groupId><artifactId>apache</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId>
      <version>3.9.5</version></dependency>
    <dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId>
      <version>1.1.10.5</version></dependency>
    <dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId>
      <version>4.1.12.1</version></dependency>
    <dependency><groupId>commons-cli</groupId><artifactId>commons-cli</artifactId>
      <version>1.5.0</version></dependency>
    <dependency><groupId>ch.qos.logback</groupId><artifactId>logback-classic</artifactId>
      <version>1.3.15</version></dependency>
  </dependencies>
</project>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_command_line_takes_the_place_of_ours() {
        let mut programs = Programs::new();
        programs.config = vec!["tickTime = 200".into(), "snapCount=7".into()];
        let mut seat = Seat::alone(Contestant::Apache, Path::new("/x")).unwrap();
        seat.lines.push("server.1=127.0.0.1:1:2".into());
        let text = programs.config_text(&seat);
        assert!(!text.contains("tickTime=2000") && text.contains("tickTime = 200\n"), "{text}");
        assert!(text.contains("snapCount=7\n") && text.contains("syncLimit=5\n"), "{text}");
        assert!(text.contains("server.1=127.0.0.1:1:2\n"), "{text}");
        let other = Seat::alone(Contestant::Apache, Path::new("/x")).unwrap();
        assert_ne!(seat.addr, other.addr, "a port is given out once");
    }

    #[test]
    fn heap_in_use_of_any_collector() {
        let g1 = " garbage-first heap   total 65536K, used 2048K [0x1, 0x2)\n  \
                  region size 2048K, 1 young (2048K)\n \
                  Metaspace       used 118K, committed 256K, \
                  reserved 1114112K\n  class space    used 4K, committed 128K\n";
        assert_eq!(heap_used(g1), Some(2 << 20));
        let serial = " def new generation   total 9K, used 1K [0x1)\n  \
                      eden space 8K, 10% used [0x)\n \
                      tenured generation   total 20K, used 3K [0x)\n";
        assert_eq!(heap_used(serial), Some(4096));
        assert_eq!(heap_used("no such process"), None);
    }
}
