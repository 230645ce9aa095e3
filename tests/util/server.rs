//! A server process with its own directory and port, ours or Apache's.

use super::{Client, PATIENCE, SESSION_TIMEOUT, eventually};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whose server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The binary that cargo built for this test run.
    #[default]
    Ringkeeper,
    /// Apache ZooKeeper, the reference; fetched by `tools/test --setup-apache` if need be.
    Apache,
}

/// What a server is started with, beside the port and directories that the harness chooses.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whose server.
    pub kind: Kind,
    /// Further lines of zoo.cfg; a key given here replaces the harness's own line for that key.
    pub config: Vec<String>,
    /// `-Dname=value` arguments, without the `-D`.
    pub properties: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// A command that runs the server given as its further arguments, such as `prlimit`. It must
    /// replace itself by the server, so that signals reach it.
    pub wrapper: Vec<String>,
}

/// A server and its directory. Dropping it kills the process and removes the directory.
pub struct Server {
    options: Options,
    home: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// Starts a Ringkeeper with default options and waits until it serves.
    pub fn ringkeeper() -> Server {
        Server::start(Options::default())
    }

    /// Starts an Apache ZooKeeper with default options and waits until it serves.
    pub fn apache() -> Server {
        Server::start(Options { kind: Kind::Apache, ..Options::default() })
    }

    /// Starts a server in a fresh directory and waits until it serves.
    pub fn start(options: Options) -> Server {
        let mut server = Server::prepare(options);
        server.run();
        server
    }

    /// Makes directory and zoo.cfg without starting anything.
    pub fn prepare(options: Options) -> Server {
        let home = tempfile::Builder::new().prefix("server-").tempdir().expect("temporary dir");
        let server = Server { options, home, port: free_port(), process: None };
        fs::create_dir(server.data_dir()).expect("data directory");
        fs::write(server.config_path(), server.config_text()).expect("zoo.cfg");
        server
    }

    fn config_text(&self) -> String {
        let own = [
            "tickTime=500".to_owned(),
            format!("dataDir={}", self.data_dir().display()),
            format!("clientPort={}", self.port),
            "clientPortAddress=127.0.0.1".to_owned(),
            "maxClientCnxns=0".to_owned(),
            "admin.enableServer=false".to_owned(),
            "4lw.commands.whitelist=*".to_owned(),
            format!("maxSessionTimeout={}", SESSION_TIMEOUT.as_millis()),
        ];
        let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
        let own =
            own.iter().filter(|line| !self.options.config.iter().any(|o| key(o) == key(line)));
        let lines: Vec<_> = own.chain(&self.options.config).map(String::as_str).collect();
        lines.join("\n") + "\n"
    }

    /// What the server is started with the next time; take care to leave its kind alone unless
    /// the directory is meant to move.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Writes zoo.cfg anew, after [`Server::options_mut`] changed it.
    pub fn rewrite_config(&self) {
        fs::write(self.config_path(), self.config_text()).expect("zoo.cfg");
    }

    /// Starts the process on the directory as it is and waits until it serves.
    pub fn run(&mut self) {
        self.spawn();
        let address = self.address();
        // Apache never closes a connection whose word came too early, so a short patience; but a
        // busy machine may need more for any answer.
        let mut patience = Duration::from_millis(500);
        eventually("the server answers srvr", || {
            if let Some(status) = self.exited() {
                panic!("the server ended with {status}:\n{}", self.stderr());
            }
            let asked = Instant::now();
            let answer = ask(address, "srvr", patience).ok();
            if asked.elapsed() >= patience {
                patience = (patience * 2).min(Duration::from_secs(10));
            }
            answer.filter(|answer| answer.contains("Mode:"))
        });
    }

    /// Starts the process without waiting for anything, for servers that are meant to refuse.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("log");
        let mut command = wrapped(&self.options.wrapper, self.command());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("log")).stderr(log);
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(command.spawn().expect("the server's executable"));
    }

    fn command(&self) -> Command {
        let properties = self.options.properties.iter().map(|property| format!("-D{property}"));
        match self.options.kind {
            Kind::Ringkeeper => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ringkeeper"));
                command.arg("server").args(properties).arg(self.config_path());
                command
            }
            Kind::Apache => {
                apache_class_path();
                let mut command = Command::new(repository().join("tests/foreign/server"));
                command.env("FOREIGN_SERVER", "apache").args(properties).arg(self.config_path());
                command
            }
        }
    }

    /// Asks the server to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Kills the process at once (SIGKILL).
    pub fn kill(&mut self) -> ExitStatus {
        self.child().kill().expect("kill");
        self.wait()
    }

    /// Kills the process and starts it on the same directory.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Sends a signal by name, such as `STOP` and `CONT`.
    pub fn signal(&mut self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
        assert!(status.success(), "kill -s {name} {pid}");
    }

    /// Starts the process, which is meant to end by itself; returns its exit code and what it
    /// wrote this time.
    pub fn run_to_end(&mut self) -> (Option<i32>, String) {
        let before = self.stderr().len();
        self.spawn();
        let status = self.wait();
        (status.code(), self.stderr().split_off(before))
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the server ends", || self.exited())
    }

    /// The exit status, once the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child().try_wait().expect("wait")?;
        self.process = None;
        Some(status)
    }

    fn child(&mut self) -> &mut Child {
        self.process.as_mut().expect("a running server")
    }

    /// Whether the process was started and is not known to have ended.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// The process id, for looking at the process from outside.
    pub fn pid(&mut self) -> u32 {
        self.child().id()
    }

    /// Memory of the process that is resident, in KiB.
    pub fn resident_kib(&mut self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The directory that everything of this server is in.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// dataDir of zoo.cfg.
    pub fn data_dir(&self) -> PathBuf {
        self.home().join("data")
    }

    /// zoo.cfg.
    pub fn config_path(&self) -> PathBuf {
        self.home().join("zoo.cfg")
    }

    fn log_path(&self) -> PathBuf {
        self.home().join("stderr")
    }

    /// What the server wrote to standard output and error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until `text` stands in the server's output, after its first `from` bytes.
    pub fn wait_for_output(&self, from: usize, text: &str) {
        eventually(text, || self.stderr()[from..].contains(text).then_some(()));
    }

    /// Sends a four-letter word and returns the whole answer.
    pub fn ask(&self, word: &str) -> String {
        ask(self.address(), word, PATIENCE)
            .unwrap_or_else(|error| panic!("{word}: {error}\n{}", self.stderr()))
    }

    /// Sends a four-letter word to a server that may be away, looking for a leader, or paused.
    pub fn try_ask(&self, word: &str, patience: Duration) -> io::Result<String> {
        ask(self.address(), word, patience)
    }

    /// A connection with a new session.
    pub fn connect(&self) -> Client {
        Client::connect(self.address(), SESSION_TIMEOUT)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {:?} on {} ---\n{}", self.options.kind, self.address(), self.stderr());
        }
    }
}

/// `command`, run by `wrapper`.
fn wrapped(wrapper: &[String], command: Command) -> Command {
    let Some((program, arguments)) = wrapper.split_first() else { return command };
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
    outer
}

fn ask(address: SocketAddr, word: &str, patience: Duration) -> io::Result<String> {
    let mut link = TcpStream::connect_timeout(&address, PATIENCE)?;
    link.set_read_timeout(Some(patience))?;
    link.write_all(word.as_bytes())?;
    let mut answer = String::new();
    link.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A port on 127.0.0.1 that nobody listens on. Ports are taken in turn below the range from
/// which the kernel serves outgoing connections, so none is handed out twice in a row.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 8_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        AtomicU16::new(u16::try_from(std::process::id() % u32::from(COUNT)).expect("below COUNT"))
    });
    eventually("a free port", || {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    })
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The class path of Apache ZooKeeper; fetches it the first time.
pub fn apache_class_path() -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let output = Command::new(repository().join("tools/test"))
            .arg("--setup-apache")
            .stderr(Stdio::inherit())
            .output()
            .expect("tools/test");
        assert!(output.status.success(), "tools/test --setup-apache failed");
        let file = String::from_utf8(output.stdout).expect("a path");
        fs::read_to_string(file.trim()).expect("class path file")
    })
}
