//! Smoke runs of `rk-bench`: each command that starts servers, with sizes of a few seconds. The
//! figures are looked at only as far as they cannot depend on the speed of the machine.

use crate::util::{eventually, free_port};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const RINGKEEPER: &str = env!("CARGO_BIN_EXE_ringkeeper");

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rk-bench"))
}

/// Runs `rk-bench` with data directories below `dir`; what it printed.
fn run(dir: &Path, arguments: &[&str]) -> String {
    let output = bench().args(arguments).arg("--dir").arg(dir).output().expect("rk-bench");
    let Output { status, stdout, stderr } = output;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{arguments:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// The values of every `"name": value` in a JSON text that is printed one to a line.
fn values<'a>(json: &'a str, name: &str) -> Vec<&'a str> {
    let key = format!("\"{name}\": ");
    let value = |line: &'a str| line.trim().strip_prefix(&key).map(|v| v.trim_end_matches(','));
    json.lines().filter_map(value).collect()
}

/// The bench refuses to show figures of requests that were not done.
#[test]
fn every_stage_does_what_is_measured() {
    let output = bench().args(["stages", "--keys", "300", "--rounds", "2"]).output();
    let Output { status, stdout, stderr } = output.expect("rk-bench");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("  set ")).count(), 2, "{stdout}");
}

#[test]
fn every_flood_is_measured_beside_its_neighbours() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let json = run(
        dir.path(),
        &[
            "fair",
            "--ringkeeper",
            RINGKEEPER,
            "--json",
            "--seconds",
            "0.1",
            "--first-warmup",
            "0",
            "--patience",
            "20",
            "--entries",
            "50",
            "--watches",
            "100",
            "--watchers",
            "5",
        ],
    );
    assert!(json.contains("\"failures\": []"), "{json}");
    // Of each of the sixteen kinds, once quiet and once beside the flood.
    let rates: Vec<&str> = values(&json, "ops_per_s");
    assert_eq!(rates.len(), 32, "{json}");
    assert!(values(&json, "lost").iter().all(|lost| *lost == "0"), "{json}");
    assert_eq!(values(&json, "sent").len(), 16);
    assert!(values(&json, "sent").iter().all(|sent| *sent != "0"), "a flood did not flow: {json}");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0, "directories are left");
}

#[test]
fn a_server_that_was_killed_under_load_is_started_again() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let json = run(
        dir.path(),
        &[
            "restart",
            "--ringkeeper",
            RINGKEEPER,
            "--json",
            "--seconds",
            "1",
            "--segment-kib",
            "64",
            "--config",
            "snapCount=1000",
            "--patience",
            "60",
            "--payload",
            "numbers",
        ],
    );
    assert_eq!(values(&json, "lost_acknowledged"), ["false"], "{json}");
    assert_ne!(values(&json, "segments_used_again"), ["0"], "{json}");
    assert_ne!(values(&json, "acknowledged_zxid"), ["0"], "{json}");
}

#[test]
fn two_binaries_take_turns() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let json = run(
        dir.path(),
        &[
            "pair",
            "--server",
            RINGKEEPER,
            "--server",
            RINGKEEPER,
            "--json",
            "--rounds",
            "2",
            "--only",
            "get,set-lone,storm",
            "--seconds",
            "0.1",
            "--warmup",
            "0",
            "--first-warmup",
            "0.1",
            "--quiet-seconds",
            "0",
            "--sessions",
            "20",
        ],
    );
    // get: rate and CPU; set-lone: two percentiles; storm: arrival and return.
    assert_eq!(values(&json, "b_to_a").len(), 6, "{json}");
    assert_eq!(values(&json, "lost").len(), 2 * 3 * 5, "{json}");
    assert!(values(&json, "lost").iter().all(|lost| *lost == "0"), "{json}");
}

#[test]
fn ensembles_of_three_are_compared() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let out = tempfile::tempdir().expect("temporary dir");
    run(
        dir.path(),
        &[
            "compare",
            "--ensemble",
            "3",
            "--servers",
            "ringkeeper,ceiling",
            "--ringkeeper",
            RINGKEEPER,
            "--rounds",
            "1",
            "--only",
            "set-lone,get,set-half",
            "--keys",
            "100",
            "--seconds",
            "0.1",
            "--warmup",
            "0",
            "--first-warmup",
            "0.1",
            "--quiet-seconds",
            "0",
            "--out",
            &out.path().display().to_string(),
        ],
    );
    let json = fs::read_to_string(out.path().join("compare.json")).expect("compare.json");
    assert!(json.contains("\"failures\": []"), "{json}");
    assert!(!json.contains("\"failed\""), "{json}");
    // Eight loads on two ensembles of three processes each, and one on single servers.
    assert_eq!(values(&json, "server_rss_mib").len(), 9 * 2, "{json}");
    let memory = values(&json, "rss_mib");
    assert_eq!(memory.len(), 8 * 2 * 3, "{json}");
    assert!(memory.iter().all(|mib| *mib != "0" && *mib != "null"), "{json}");
    assert_eq!(values(&json, "full_per_s").len(), 2 * 2, "{json}");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0, "directories are left");
    let home = dir.path().display().to_string();
    eventually("all processes end", || (!is_running(&home)).then_some(()));
}

#[test]
fn the_ceiling_of_an_ensemble_has_three_logs_of_the_same_groups() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let port = free_port();
    let mut leader = bench()
        .args(["ceiling", "--ensemble", "3", "--port", &port.to_string(), "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("rk-bench ceiling");
    let address = format!("127.0.0.1:{port}");
    eventually("the ceiling serves", || std::net::TcpStream::connect(&address).ok());
    let load = bench()
        .args(["load", "--mix", "set", "--requests", "2000", "--warmup", "0", "--json", &address])
        .output()
        .expect("rk-bench load");
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));
    let head = |place: &str| {
        let log = fs::read(dir.path().join(place).join("ceiling.log")).expect("log");
        log[..100_000].to_vec()
    };
    let written = head("");
    assert!(written.iter().filter(|byte| **byte != 0).count() > 50_000, "nothing was logged");
    // A majority has it at once, the third server a moment later.
    eventually("both followers have it", || {
        (head("follower-1") == written && head("follower-2") == written).then_some(())
    });
    leader.kill().expect("kill");
    leader.wait().expect("wait");
    let home = dir.path().display().to_string();
    eventually("the followers end with their leader", || (!is_running(&home)).then_some(()));
}

#[test]
fn leaders_are_killed_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let json = run(
        dir.path(),
        &[
            "failover",
            "--ringkeeper",
            RINGKEEPER,
            "--json",
            "--kills",
            "2",
            "--calm",
            "6",
            "--lone",
            "3",
            "--pipelined",
            "3",
            "--depth",
            "4",
            "--pause",
            "0.1",
            "--timeout-ms",
            "30000",
        ],
    );
    for fault in ["writes_missing", "writes_doubled", "writes_overtaken", "sessions_lost"] {
        assert_eq!(values(&json, fault), ["0"], "{json}");
    }
    assert_eq!(values(&json, "follows_again_ms").len(), 2, "{json}");
    // Twelve clients. In each of two changes the eight of the survivors have written again, which
    // stayed or were cut off, and the four of the leader.
    let clients = values(&json, "clients");
    let clients: u64 = clients.iter().filter_map(|value| value.parse::<u64>().ok()).sum();
    assert_eq!(clients, 12 + 2 * (8 + 8 + 4), "{json}");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0, "directories are left");
}

#[test]
fn a_follower_that_was_away_comes_back_under_load() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let json = run(
        dir.path(),
        &[
            "catchup",
            "--ringkeeper",
            RINGKEEPER,
            "--json",
            "--transactions",
            "3000",
            "--znodes",
            "200",
            "--rate",
            "200",
            "--connections",
            "4",
            "--seconds",
            "0.2",
            "--empty",
        ],
    );
    assert_eq!(values(&json, "transactions_missed"), ["3000"], "{json}");
    let number = |name: &str| values(&json, name)[0].parse::<f64>().expect("number");
    assert!(number("serves_ms") <= number("in_step_ms"), "{json}");
    assert!(values(&json, "errors").iter().all(|errors| *errors == "{}"), "{json}");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0, "directories are left");
}

/// Whether a process has a path below `home` among its arguments.
fn is_running(home: &str) -> bool {
    fs::read_dir("/proc").expect("/proc").flatten().any(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(home)
    })
}

#[test]
fn charts_are_drawn_from_what_was_measured() {
    let dir = tempfile::tempdir().expect("temporary dir");
    let file = dir.path().join("compare.json");
    let round = |rate: u32| {
        format!(
            "[{{\"round\": 1, \"ops_per_s\": {rate}, \"client_share\": 0.5, \"latency\": \
             {{\"p50_us\": 60, \"p99_us\": 900, \"p999_us\": 7000}}}}]"
        )
    };
    let json = format!(
        "{{\"machine\": {{}}, \"rounds\": 1, \"results\": {{\"set\": {{\"title\": \"set\", \
         \"rounds\": {{\"ringkeeper\": {}, \"apache\": {}}}}}}}}}",
        round(1_000_000),
        round(40_000)
    );
    fs::write(&file, json).expect("compare.json");
    let charts = || bench().arg("charts").arg(&file).arg("-o").arg(dir.path()).output();
    let output = charts().expect("rk-bench charts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let overview = fs::read_to_string(dir.path().join("overview.svg")).expect("overview");
    assert!(overview.contains("1.00 M/s (25×)"), "{overview}");
    let latency = fs::read_to_string(dir.path().join("latency.svg")).expect("latency");
    assert!(latency.contains("10 ms</text>"), "{latency}");
    fs::write(&file, "{\"x\": 1}").expect("compare.json");
    let output = charts().expect("rk-bench charts");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("not the JSON of `rk-bench compare`"), "{stderr}");
}
