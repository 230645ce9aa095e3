//! Where everything is, and how a command of a suite is started.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::arguments::Arguments;
use crate::stages;

/// What went wrong outside of the tests themselves, as the log says it.
pub type Failure = String;

/// Places, and the environment of every command.
#[derive(Clone)]
pub struct Context {
    /// The repository.
    pub root: PathBuf,
    /// What was fetched or compiled, and logs.
    pub cache: PathBuf,
    /// Sources of the foreign suites.
    pub foreign: PathBuf,
    /// Cargo's output.
    pub target: PathBuf,
    /// The server under test.
    pub arguments: Arguments,
    /// Set for every command that starts servers.
    variables: Vec<(&'static str, String)>,
}

impl Context {
    /// For the repository in the current directory.
    pub fn new(arguments: Arguments) -> Result<Context, Failure> {
        let root = env::current_dir().map_err(|e| format!("the current directory: {e}"))?;
        let foreign = root.join("tests/foreign");
        if !foreign.is_dir() {
            return Err(format!("{} does not exist: start tools/test", foreign.display()));
        }
        let target = root.join(env::var_os("RK_TARGET").unwrap_or_else(|| "target".into()));
        let mut context = Context {
            cache: root.join(".cache"),
            foreign,
            target,
            root,
            arguments,
            variables: Vec::new(),
        };
        let ringkeeper = context.ringkeeper().display().to_string();
        let server = context.arguments.server.clone();
        context.variables = vec![("FOREIGN_SERVER", server), ("RINGKEEPER", ringkeeper)];
        if context.arguments.is_without_tls {
            context.variables.push(("FOREIGN_NO_TLS", "1".to_owned()));
        }
        let (members, is_at_follower) =
            (context.arguments.members, context.arguments.is_at_follower);
        if members > 1 {
            context = context.ensemble(members, is_at_follower);
        }
        if context.arguments.is_separate { context.separate() } else { Ok(context) }
    }

    /// The same, with an ensemble in the place of one server.
    pub fn ensemble(mut self, members: u8, is_at_follower: bool) -> Context {
        self.variables.push(("FOREIGN_MEMBERS", members.to_string()));
        if is_at_follower {
            self.variables.push(("FOREIGN_FOLLOWER", "1".to_owned()));
        }
        self.arguments.members = members;
        self.arguments.is_at_follower = is_at_follower;
        self
    }

    /// The same, with every stage of the server on a thread of its own.
    pub fn separate(mut self) -> Result<Context, Failure> {
        let before = env::var(stages::VARIABLE).unwrap_or_default();
        let flags = stages::flags(&stages::usable_cpus()?)?;
        self.variables.push((stages::VARIABLE, format!("{before} {flags}").trim().to_owned()));
        self.arguments.is_separate = true;
        Ok(self)
    }

    /// The binary under test.
    pub fn ringkeeper(&self) -> PathBuf {
        self.target.join("release/ringkeeper")
    }

    /// Logs of the suites.
    pub fn logs(&self) -> PathBuf {
        self.cache.join("logs")
    }

    /// A command in the root of the repository, with the environment of the suites.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A line of progress on standard error.
pub fn say(what: impl AsRef<str>) {
    eprintln!("== {}", what.as_ref());
}

/// Runs a command that prepares something; what it prints goes to standard error.
pub fn prepare(command: &mut Command) -> Result<(), Failure> {
    let status = command.stdout(io::stderr()).status();
    let status = status.map_err(|e| failed(command, &e))?;
    if status.success() { Ok(()) } else { Err(failed(command, &status)) }
}

fn failed(command: &Command, why: &dyn std::fmt::Display) -> Failure {
    format!("{}: {why}", command.get_program().display())
}

/// The log of a suite: a file that commands append to.
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// An empty log.
    pub fn create(path: PathBuf) -> Result<Log, Failure> {
        File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Log { path })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn text(&self) -> Result<String, Failure> {
        read(&self.path)
    }

    /// Adds a text.
    pub fn append(&self, text: &str) -> Result<(), Failure> {
        let opened = self.open()?;
        (&opened).write_all(text.as_bytes()).map_err(|e| format!("{}: {e}", self.path.display()))
    }

    /// Runs a command whose output goes to the log; true if it ended well.
    pub fn run(&self, command: &mut Command) -> Result<bool, Failure> {
        let out = self.open()?;
        let err = out.try_clone().map_err(|e| format!("{}: {e}", self.path.display()))?;
        let status = command.stdout(out).stderr(err).status();
        Ok(status.map_err(|e| failed(command, &e))?.success())
    }

    fn open(&self) -> Result<File, Failure> {
        let opened = OpenOptions::new().append(true).open(&self.path);
        opened.map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// A file as text; bytes that are not UTF-8 are replaced.
pub fn read(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Removes the directory with all its files, if there is one, and makes an empty one.
pub fn clear(directory: &Path) -> Result<(), Failure> {
    let removed = match fs::remove_dir_all(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let made = removed.and_then(|()| fs::create_dir_all(directory));
    made.map_err(|e| format!("{}: {e}", directory.display()))
}
