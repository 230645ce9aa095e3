//! The command line: which suites, on which server.

use std::ffi::OsString;

use crate::suite::Suite;

/// `--help`.
pub const USAGE: &str = "\
Runs every test, or the suites named: tools/test [option...] [suite...]

  cargo        formatting, clippy, cargo test (with the process tests)
  kazoo        kazoo's own tests
  java         our checks through Apache's Java client, its shell, and Curator
  zookeeper    Apache ZooKeeper's own client tests
  c            our checks through the C client and its shell
  rust         our checks through the zookeeper-client crate
  kafka        two Kafka brokers that keep their state in ours, while all of them end and come back
  apache-data  data directories that Apache 3.5 to 3.9 wrote, read by ours; the way back; both for
               an ensemble, too
  mixed        ensembles of servers of ours and of Apache's, 3.9 and 3.8, whose members are killed
               and replaced by each other while clients write
  ensemble     a part of kazoo, java, c, rust, kafka and diff on three members, which are killed
               where the suites kill a server
  stages       a part of kazoo's tests and of the comparison with Apache, with every stage of the
               server on a thread of its own
  curator      Curator's own tests; only when named: a quarter of an hour, and some of them fail
               when the machine is busy
  mixed-long   mixed, in which ten times all members are replaced; only when named
  diff         the comparison with Apache (rk-diff) on ten times the seeds of cargo; only when named

  --server apache    run the foreign suites against Apache ZooKeeper, to prove the suites
  --members N        run these suites on an ensemble of N: kazoo, java, c, rust, kafka, whose
                     clients get all addresses, and zookeeper and curator, with that of a follower
  --follower         with --members: clients of all suites get the address of a follower
  --separate-stages  run with every stage of the server on a thread of its own; without a suite
                     named: kazoo, java and diff
  --no-tls           leave out what needs a TLS port; always so for Ringkeeper, which has none yet
  --skip SUITE       leave a suite out; the summary says so
  --setup-apache     fetch Apache ZooKeeper, print the path of its class path file, and end
  --setup            fetch everything that the suites need, and end

What a suite lacks of Debian's packages (a JDK and Maven, python3-venv, gcc and the C client), it
installs with apt-get, as root or by sudo. What else is fetched is kept in .cache/; logs are in
.cache/logs/. The last line is the verdict.
";

/// The newest of each line whose parent POM is in the repository; 3.9 is `tests/foreign/apache`.
pub const OLDER_APACHES: [&str; 4] = ["3.5.10", "3.6.4", "3.7.2", "3.8.6"];

/// What the command line asks for.
#[derive(PartialEq, Eq, Debug)]
pub enum Request {
    /// Print [`USAGE`].
    Help,
    /// Fetch Apache ZooKeeper.
    SetupApache,
    /// Fetch everything.
    Setup,
    /// Run suites.
    Run(Arguments),
}

/// Which suites run, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arguments {
    /// `ringkeeper`, `apache`, or an older Apache as in `apache-3.5.10`.
    pub server: String,
    /// Leave out what needs a TLS port.
    pub is_without_tls: bool,
    /// Every stage of the server on a thread of its own.
    pub is_separate: bool,
    /// Servers under test: 1, or the members of an ensemble.
    pub members: u8,
    /// Clients get the address of one member, which follows.
    pub is_at_follower: bool,
    /// In the order in which they run.
    pub suites: Vec<Suite>,
    /// Left out, though they may be among `suites`.
    pub skipped: Vec<Suite>,
}

const OURS: &str = "ringkeeper";
/// As many as have ports in `tests/foreign/process.py`.
const MEMBERS_MAX: u8 = 9;

/// Reads the command line; the error is a message for the user.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let (mut server, mut is_without_tls, mut is_separate) = (OURS.to_owned(), false, false);
    let (mut members, mut is_at_follower) = (1, false);
    let (mut named, mut skipped) = (Vec::new(), Vec::new());
    let mut parser = lexopt::Parser::from_args(words);
    let text = |e: lexopt::Error| e.to_string();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Long("server") => server = parser.value().and_then(ValueExt::string).map_err(text)?,
            Long("no-tls") => is_without_tls = true,
            Long("separate-stages") => is_separate = true,
            Long("members") => members = parser.value().and_then(|v| v.parse()).map_err(text)?,
            Long("follower") => is_at_follower = true,
            Long("skip") => {
                skipped.push(suite(parser.value().and_then(ValueExt::string).map_err(text)?)?);
            }
            Long("setup-apache") => return Ok(Request::SetupApache),
            Long("setup") => return Ok(Request::Setup),
            Long("help") | Short('h') => return Ok(Request::Help),
            Value(name) => named.push(suite(name.string().map_err(text)?)?),
            Long(option) => return Err(format!("no option --{option}")),
            Short(option) => return Err(format!("no option -{option}")),
        }
    }
    let is_older = server.strip_prefix("apache-").is_some_and(|v| OLDER_APACHES.contains(&v));
    if server != OURS && server != "apache" && !is_older {
        return Err(format!("no server {server}"));
    }
    check_members(members, is_at_follower, &named)?;
    let suites = select(&named, server == OURS, is_separate)?;
    // TLS is not built yet: with it goes the first condition, and kazoo's TLS test must pass.
    let is_without_tls = server == OURS || is_without_tls;
    Ok(Request::Run(Arguments {
        server,
        is_without_tls,
        is_separate,
        members,
        is_at_follower,
        suites,
        skipped,
    }))
}

fn check_members(members: u8, is_at_follower: bool, named: &[Suite]) -> Result<(), String> {
    if members == 1 {
        return if is_at_follower { Err("--follower is for --members".to_owned()) } else { Ok(()) };
    }
    if !(3..=MEMBERS_MAX).contains(&members) {
        return Err(format!("--members takes 3 to {MEMBERS_MAX}"));
    }
    match named.iter().find(|suite| !suite.is_for_members()) {
        Some(suite) => Err(format!("{suite} chooses its servers itself: not with --members")),
        None if named.is_empty() => Err("--members needs the names of suites".to_owned()),
        None => Ok(()),
    }
}

fn suite(name: String) -> Result<Suite, String> {
    Suite::find(&name).ok_or(format!("no suite {name}"))
}

/// The suites that run: those named, or those that make sense for the server and the configuration.
fn select(named: &[Suite], is_ours: bool, is_separate: bool) -> Result<Vec<Suite>, String> {
    if is_separate && !is_ours {
        return Err("--separate-stages is for Ringkeeper".to_owned());
    }
    let is_wrong = |suite: &&Suite| {
        is_separate && !suite.is_for_any_configuration()
            || !is_ours && matches!(suite, Suite::Stages | Suite::Ensemble | Suite::Diff)
    };
    if let Some(suite) = named.iter().find(is_wrong) {
        let option = if is_separate { "--separate-stages" } else { "--server" };
        return Err(format!("{suite} chooses its servers itself: not with {option}"));
    }
    Ok(match named {
        [] if is_separate => Suite::SEPARATE.to_vec(),
        [] => {
            let default = Suite::ALL.into_iter().filter(|suite| suite.is_default());
            default.filter(|suite| is_ours || suite.is_for_any_server()).collect()
        }
        named => named.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn run(line: &str) -> Arguments {
        match parse_line(line) {
            Ok(Request::Run(arguments)) => arguments,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn check(line: &str, expect: &str) {
        let names: Vec<&str> = run(line).suites.into_iter().map(Suite::name).collect();
        assert_eq!(names.join(" "), expect, "{line}");
    }

    #[test]
    fn suites_are_those_named_or_those_that_make_sense() {
        check("", "cargo kazoo java zookeeper c rust kafka apache-data mixed ensemble stages");
        check("--server apache", "kazoo java zookeeper c rust kafka apache-data mixed");
        check("--separate-stages", "kazoo java diff");
        check("rust kazoo", "rust kazoo");
        check("curator --server apache-3.5.10", "curator");
        check("--separate-stages rust", "rust");
        check("cargo --server apache", "cargo");
    }

    #[test]
    fn a_skipped_suite_stays_in_the_list_for_the_summary() {
        let arguments = run("--skip kafka --skip=c kafka rust");
        assert_eq!(arguments.suites, [Suite::Kafka, Suite::Rust]);
        assert_eq!(arguments.skipped, [Suite::Kafka, Suite::C]);
    }

    #[test]
    fn ringkeeper_has_no_tls_and_apache_has_unless_told() {
        assert!(run("").is_without_tls);
        assert!(!run("--server apache").is_without_tls);
        assert!(run("--server apache --no-tls").is_without_tls);
    }

    #[test]
    fn an_ensemble_has_members_and_maybe_a_follower_for_clients() {
        let one = run("kazoo");
        assert_eq!((one.members, one.is_at_follower), (1, false));
        let three = run("--members 3 kazoo c");
        assert_eq!((three.members, three.is_at_follower), (3, false));
        assert!(run("zookeeper --members 3 --follower --server apache").is_at_follower);
    }

    #[test]
    fn what_is_no_run() {
        assert_eq!(parse_line("-h"), Ok(Request::Help));
        assert_eq!(parse_line("--setup-apache"), Ok(Request::SetupApache));
        assert_eq!(parse_line("--no-tls --setup"), Ok(Request::Setup));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expect) in [
            ("--fast", "no option --fast"),
            ("-x", "no option -x"),
            ("cargo kazo", "no suite kazo"),
            ("--skip all", "no suite all"),
            ("--server nginx", "no server nginx"),
            ("--server apache-3.4.0", "no server apache-3.4.0"),
            ("--members 2 kazoo", "--members takes 3 to 9"),
            ("--members 3", "--members needs the names of suites"),
            ("--members 3 mixed", "mixed chooses its servers itself: not with --members"),
            ("--follower kazoo", "--follower is for --members"),
            ("--server apache --separate-stages", "--separate-stages is for Ringkeeper"),
            ("--server apache diff", "diff chooses its servers itself: not with --server"),
            (
                "--separate-stages cargo",
                "cargo chooses its servers itself: not with --separate-stages",
            ),
        ] {
            assert_eq!(parse_line(line), Err(expect.to_owned()), "{line}");
        }
    }
}
