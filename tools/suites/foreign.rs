//! The suites that talk to the server through programs of others: kazoo, Java, C, Rust and Kafka;
//! those with Apache ZooKeeper's data directories, and with its servers as members of an ensemble.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arguments::OLDER_APACHES;
use crate::context::{Context, Failure, Log, read};
use crate::counts::Counts;
use crate::own::Outcome;
use crate::setup;

/// The super user of the Java checks and of Apache's tests: the digest of `super:test`.
pub const SUPER: &str = "-Dzookeeper.DigestAuthenticationProvider.superDigest=\
                         super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// kazoo's tests in `parts`, files or folders of its source; `name` names the report.
pub fn kazoo(context: &Context, log: &Log, name: &str, parts: &[&str]) -> Outcome {
    setup::kazoo(context)?;
    setup::server(context)?;
    let report = context.logs().join(format!("{name}.xml"));
    if report.exists() {
        fs::remove_file(&report).map_err(|e| format!("{}: {e}", report.display()))?;
    }
    let mut python = context.command(context.cache.join("venv/bin/python"));
    let foreign = &context.foreign;
    let path = [foreign.clone(), foreign.join("kazoo"), ".".into()];
    python.current_dir(context.cache.join("kazoo")).env("PYTHONPATH", joined(&path)?);
    python.args(["-m", "pytest", "-q", "-o", "log_cli=false", "-p", "no:cacheprovider"]);
    python.args(["-p", "foreign_server", "--color=no", "-rfER", "--timeout", "300"]);
    let is_one_address = context.arguments.members == 1 || context.arguments.is_at_follower;
    let exclude = if is_one_address { "exclude.txt" } else { "exclude-ensemble.txt" };
    python.args(["--reruns", "2", "--foreign-exclude"]).arg(foreign.join("kazoo").join(exclude));
    let has_ended_well = log.run(python.arg("--junit-xml").arg(&report).args(parts))?;
    let counts = Counts::of_pytest(&read(&report)?);
    let counts = counts.ok_or(format!("{} has no counts", report.display()))?;
    log.append(&format!("{} passed, {} failed\n", counts.passed, counts.failed))?;
    Ok((counts, has_ended_well))
}

/// Our checks through Apache's Java client, its shell, and Curator.
pub fn java(context: &Context, log: &Log) -> Outcome {
    setup::java(context)?;
    setup::server(context)?;
    let class_path = setup::java_class_path(context)?;
    setup::compile_java(context, "checks", &class_path)?;
    // Members do not change their list at run time yet.
    let reconfig = if context.arguments.members == 1 {
        "reconfigEnabled=true"
    } else {
        "reconfigEnabled=false"
    };
    let mut checks = around(
        context,
        &[
            "extendedTypesEnabled=true",
            "enforceQuota=true",
            reconfig,
            "-Dznode.container.checkIntervalMs=200",
            SUPER,
        ],
    );
    checks.arg("java").arg(logback(context)).args(["-Dforeign.log=OFF", "-cp"]);
    checks.arg(format!("{}:{class_path}", context.cache.join("java/checks").display()));
    let has_ended_well = log.run(checks.arg("Checks"))?;
    Ok((Counts::of_checks(&log.text()?), has_ended_well))
}

/// Where the Java programs find how to log.
pub fn logback(context: &Context) -> String {
    let file = context.foreign.join("apache/logback.xml");
    format!("-Dlogback.configurationFile={}", file.display())
}

/// Our checks through the C client, and its shell.
pub fn c(context: &Context, log: &Log) -> Outcome {
    setup::c()?;
    setup::server(context)?;
    let program = context.cache.join("c/checks");
    crate::context::clear(&context.cache.join("c"))?;
    let mut gcc = context.command("gcc");
    gcc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    gcc.arg(context.foreign.join("c/checks.c")).args(["-lzookeeper_mt", "-pthread"]);
    if !log.run(&mut gcc)? {
        return Ok((Counts::default(), false));
    }
    let mut have_ended_well = true;
    for checks in [program, context.foreign.join("c/cli.py")] {
        have_ended_well &= log.run(around(context, &["extendedTypesEnabled=true"]).arg(checks))?;
    }
    Ok((Counts::of_checks(&log.text()?), have_ended_well))
}

/// Our checks through the `zookeeper-client` crate.
pub fn rust(context: &Context, log: &Log) -> Outcome {
    setup::server(context)?;
    let target = context.target.join("foreign-rust");
    let mut cargo = context.command("cargo");
    cargo.env("CARGO_TARGET_DIR", &target).args(["build", "--locked", "--quiet"]);
    cargo.arg("--manifest-path").arg(context.foreign.join("rust/Cargo.toml"));
    if !log.run(&mut cargo)? {
        return Ok((Counts::default(), false));
    }
    let mut checks = around(context, &["extendedTypesEnabled=true"]);
    let has_ended_well = log.run(checks.arg(target.join("debug/foreign-rust")))?;
    Ok((Counts::of_checks(&log.text()?), has_ended_well))
}

/// Kafka brokers that keep their state in the servers; all checks, or those
/// up to the one whose name begins so.
pub fn kafka(context: &Context, log: &Log, until: Option<&str>) -> Outcome {
    setup::kafka(context)?;
    setup::server(context)?;
    let mut arguments = vec![context.cache.join("kafka/classpath").into_os_string()];
    arguments.extend(until.map(OsString::from));
    checks_in_python(context, log, "kafka/checks.py", &arguments)
}

/// Data directories exchanged with each Apache ZooKeeper, and with an ensemble of three.
pub fn apache_data(context: &Context, log: &Log) -> Outcome {
    setup::kazoo(context)?;
    setup::apache(context)?;
    setup::older_apaches(context)?;
    setup::server(context)?;
    let older = OLDER_APACHES.iter().map(|version| format!("apache-{version}"));
    let all = older.chain(["apache".to_owned(), "3xapache".to_owned()]);
    let arguments: Vec<OsString> = all.map(OsString::from).collect();
    checks_in_python(context, log, "apache-data/checks.py", &arguments)
}

/// Ensembles of servers under test and Apache ZooKeepers: the newest, and one that a rolling
/// upgrade may begin with. `rounds`: times that an ensemble of theirs becomes one of ours, and goes
/// back.
pub fn mixed(context: &Context, log: &Log, rounds: u32) -> Outcome {
    setup::kazoo(context)?;
    setup::apache(context)?;
    setup::older_apaches(context)?;
    setup::server(context)?;
    let rounds = format!("--rounds={rounds}");
    let arguments = [rounds.as_str(), "apache", "apache-3.8.6"].map(OsString::from);
    checks_in_python(context, log, "mixed/checks.py", &arguments)
}

/// Our checks that are a Python program below `tests/foreign`, with kazoo.
fn checks_in_python(context: &Context, log: &Log, file: &str, arguments: &[OsString]) -> Outcome {
    let mut python = context.command(context.cache.join("venv/bin/python"));
    python.env("PYTHONPATH", context.cache.join("kazoo"));
    let has_ended_well = log.run(python.arg(context.foreign.join(file)).args(arguments))?;
    Ok((Counts::of_checks(&log.text()?), has_ended_well))
}

/// Servers around a command that the caller adds; `options` are lines of its configuration or
/// properties.
fn around(context: &Context, options: &[&str]) -> Command {
    let mut command = context.command(context.foreign.join("around.py"));
    command.args(options).arg("--");
    command
}

fn joined(paths: &[impl AsRef<Path>]) -> Result<OsString, Failure> {
    std::env::join_paths(paths.iter().map(AsRef::as_ref)).map_err(|e| e.to_string())
}
