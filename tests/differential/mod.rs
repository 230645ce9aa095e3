//! Ringkeeper against Apache ZooKeeper: `rk-diff` on a few seeds, and the proof that it can fail.
//!
//! Needs Apache's class path, which `tools/test --setup-apache` fetches; without it these tests
//! say so and pass, unless RK_REQUIRE_APACHE=1 is set, as `tools/test` does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn class_path() -> Option<PathBuf> {
    let given = std::env::var_os("RK_APACHE_CLASSPATH").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/apache/classpath");
    let found = given.or(Some(usual)).filter(|file| file.exists());
    let is_required = std::env::var_os("RK_REQUIRE_APACHE").is_some_and(|value| value == "1");
    assert!(found.is_some() || !is_required, "run tools/test --setup-apache first");
    if found.is_none() {
        // Past the test harness, which keeps what a passing test prints to itself.
        let text = b"SKIPPED: not compared with Apache ZooKeeper, see tools/test --setup-apache\n";
        std::io::stderr().write_all(text).expect("standard error");
    }
    found
}

fn rk_diff(b: &str, arguments: &[&str]) -> Option<Output> {
    let file = class_path()?;
    let dir = tempfile::tempdir().expect("temporary dir");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rk-diff"));
    command.env("RK_APACHE_CLASSPATH", file).args(["--a", "apache", "--b", b]);
    command.arg("--dir").arg(dir.path().join("servers")).args(arguments);
    Some(command.output().expect("rk-diff"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn one_flipped_bit_is_noticed() {
    let Some(output) = rk_diff("apache", &["--count", "4", "--ops", "30", "--canary"]) else {
        return;
    };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn apache_is_like_itself() {
    let Some(output) = rk_diff("apache", &["--count", "5"]) else { return };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn ringkeeper_is_like_apache() {
    let binary = format!("ringkeeper:{}", env!("CARGO_BIN_EXE_ringkeeper"));
    // The second batch is of long histories, the third of everything there is.
    for batch in [
        &["--count", "120"][..],
        &["--seed", "10000", "--count", "40", "--ops", "100"],
        &["--seed", "500", "--count", "20", "--all"],
    ] {
        let Some(output) = rk_diff(&binary, batch) else { return };
        assert!(output.status.success(), "{}", text(&output));
    }
}
