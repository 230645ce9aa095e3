//! The command line.

use crate::generate::Limits;
use crate::servers::Source;
use std::path::PathBuf;

/// `--help`.
pub const USAGE: &str = "\
rk-diff: compare two ZooKeeper servers by random histories of client operations

  --a SERVER     reference (default: apache)
  --b SERVER     server that must be like it (default: ringkeeper)
                 SERVER is apache[:CLASSPATH-FILE], ringkeeper[:BINARY] or HOST:PORT
  --seed N       first seed (default: 1)
  --count N      how many histories, with consecutive seeds (default: 20)
  --ops N        operations per history (default: 60)
  --keep I,J,..  only these operations of each history (printed for every difference)
  --fresh        restart both servers before each history, compare zxids as they are
  --all          also generate what differs on purpose
  --no-words     leave four-letter words out
  --expiry       also let sessions expire (slow: more than a second each)
  --members N    ensembles of N servers each; clients are on different members and move
  --config LINE  a further line for both servers' zoo.cfg (repeatable)
  --dir PATH     for the servers' files (default: below the system's temporary directory)
  --max N        stop after N differences (default: 1)
  --canary       flip one bit of one received frame per history; fails if a flip in a reply
                 header goes unnoticed
  --trace        also print every step of the histories with what clients of the first server saw
  --print        print the history of --seed and exit

Exit code: 0 no difference, 1 difference, 2 could not compare.";

/// Not more than histories have use for.
const MEMBERS_MAX: usize = 7;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// Reference, as given and as found.
    pub a: String,
    /// Server that must be like it.
    pub b: String,
    /// First seed.
    pub seed: u64,
    /// Number of histories.
    pub count: u64,
    /// What histories may contain.
    pub limits: Limits,
    /// Indices of the operations to run; all if `None`.
    pub keep: Option<Vec<usize>>,
    /// Restart the servers before each history.
    pub is_fresh: bool,
    /// Servers on each side.
    pub members: usize,
    /// Further lines of zoo.cfg.
    pub config: Vec<String>,
    /// Directory of the servers' files.
    pub dir: PathBuf,
    /// Differences after which to stop.
    pub max: u64,
    /// Leave four-letter words out.
    pub is_wordless: bool,
    /// Damage frames.
    pub is_canary: bool,
    /// Print what clients of the first server saw.
    pub is_trace: bool,
    /// Only print the history.
    pub is_print: bool,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            a: "apache".to_owned(),
            b: "ringkeeper".to_owned(),
            seed: 1,
            count: 20,
            limits: Limits { ops: 60, is_everything: false, is_expiring: false },
            keep: None,
            is_fresh: false,
            members: 1,
            config: Vec::new(),
            dir: std::env::temp_dir().join(format!("rk-diff-{}", std::process::id())),
            max: 1,
            is_wordless: false,
            is_canary: false,
            is_trace: false,
            is_print: false,
        }
    }
}

impl Arguments {
    /// Reads the command line; `None` if it asks for help.
    pub fn parse() -> Result<Option<Arguments>, String> {
        use lexopt::prelude::Long;
        let mut out = Arguments::default();
        let mut parser = lexopt::Parser::from_env();
        let text = |e: lexopt::Error| format!("{e}; see --help");
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                Long("a") => out.a = value(&mut parser)?,
                Long("b") => out.b = value(&mut parser)?,
                Long("seed") => out.seed = number(&mut parser)?,
                Long("count") => out.count = number(&mut parser)?,
                Long("max") => out.max = number(&mut parser)?,
                Long("ops") => out.limits.ops = number(&mut parser)? as usize,
                Long("keep") => out.keep = Some(indices(&value(&mut parser)?)?),
                Long("fresh") => out.is_fresh = true,
                Long("all") => out.limits.is_everything = true,
                Long("expiry") => out.limits.is_expiring = true,
                Long("members") => out.members = number(&mut parser)? as usize,
                Long("config") => out.config.push(value(&mut parser)?),
                Long("dir") => out.dir = value(&mut parser)?.into(),
                Long("no-words") => out.is_wordless = true,
                Long("canary") => out.is_canary = true,
                Long("trace") => out.is_trace = true,
                Long("print") => out.is_print = true,
                Long("help") => return Ok(None),
                other => return Err(text(other.unexpected())),
            }
        }
        if out.members == 0 || out.members == 2 || out.members > MEMBERS_MAX {
            return Err(format!("--members takes 1, or 3 to {MEMBERS_MAX}"));
        }
        Ok(Some(out))
    }

    /// The servers to compare.
    pub fn sources(&self) -> Result<(Source, Source), String> {
        let (a, b) = (Source::parse(&self.a)?, Source::parse(&self.b)?);
        if self.members > 1 && [&a, &b].into_iter().any(|s| matches!(s, Source::Running(_))) {
            return Err("--members starts its servers: not with HOST:PORT".to_owned());
        }
        Ok((a, b))
    }

    /// The command that runs these operations of one seed again.
    pub fn replay(&self, seed: u64, keep: &[usize]) -> String {
        let mut out = format!("rk-diff --a {} --b {} --ops {}", self.a, self.b, self.limits.ops);
        for (is_given, flag) in [
            (self.is_fresh, " --fresh"),
            (self.limits.is_everything, " --all"),
            (self.limits.is_expiring, " --expiry"),
            (self.is_wordless, " --no-words"),
        ] {
            out.push_str(if is_given { flag } else { "" });
        }
        if self.members > 1 {
            out.push_str(&format!(" --members {}", self.members));
        }
        self.config.iter().for_each(|line| out.push_str(&format!(" --config '{line}'")));
        let keep: Vec<_> = keep.iter().map(usize::to_string).collect();
        format!("{out} --seed {seed} --count 1 --keep {}", keep.join(","))
    }
}

fn indices(text: &str) -> Result<Vec<usize>, String> {
    let all: Result<Vec<_>, _> = text.split(',').map(|i| i.trim().parse()).collect();
    all.map_err(|e| format!("--keep {text}: {e}"))
}

fn value(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|e| e.to_string())?;
    value.into_string().map_err(|value| format!("{value:?} is not UTF-8"))
}

fn number(parser: &mut lexopt::Parser) -> Result<u64, String> {
    let text = value(parser)?;
    text.parse().map_err(|e| format!("{text}: {e}"))
}
