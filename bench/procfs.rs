//! What the kernel accounts to a process: CPU time, memory, threads; and the machine's identity.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

/// Clock ticks per second in `/proc/<pid>/stat`; fixed by the kernel's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process since its start, in seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cpu {
    /// In user mode.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

impl Cpu {
    /// Of process `pid`, or of this one for `None`. Resolution 10 ms.
    pub fn of(pid: Option<u32>) -> Option<Cpu> {
        let who = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        Cpu::parse(&fs::read_to_string(format!("/proc/{who}/stat")).ok()?)
    }

    /// Reads a `stat` line; the command name may hold spaces and brackets.
    fn parse(stat: &str) -> Option<Cpu> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some(Cpu { user: user / TICKS_PER_SECOND, system: system / TICKS_PER_SECOND })
    }

    /// User and kernel together.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// Of two processes together.
    pub fn and(self, other: Cpu) -> Cpu {
        Cpu { user: self.user + other.user, system: self.system + other.system }
    }

    /// Spent since `earlier`.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// CPU seconds that the whole machine was busy so far, time stolen by the hypervisor included.
pub fn machine_busy() -> Option<f64> {
    busy(&fs::read_to_string("/proc/stat").ok()?)
}

/// Reads the first line of `/proc/stat`: all but idle and waiting; guests are part of user.
fn busy(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> =
        line.split_ascii_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().sum::<f64>() - idle) / TICKS_PER_SECOND)
}

/// CPU seconds by thread name, numbers at the end of names dropped, so that `front-0` and
/// `front-1` are one stage.
pub fn threads(pid: u32) -> BTreeMap<String, f64> {
    let mut by_name = BTreeMap::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return by_name };
    for task in tasks.flatten() {
        let path = task.path();
        let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
        let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
        let ns = stat.split_ascii_whitespace().next().and_then(|t| t.parse::<f64>().ok());
        *by_name.entry(stage_name(&name)).or_insert(0.0) += ns.unwrap_or(0.0) / 1e9;
    }
    by_name
}

/// The processes that `pid` has started and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let child = |name: &str| {
        let number: u32 = name.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        (parent(&stat)? == pid).then_some(number)
    };
    let mut found: Vec<u32> =
        entries.flatten().filter_map(|entry| child(entry.file_name().to_str()?)).collect();
    found.sort_unstable();
    found
}

/// The parent in a `stat` line.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn stage_name(thread: &str) -> String {
    let thread = thread.trim_end();
    let base = thread.trim_end_matches(|c: char| c.is_ascii_digit() || "-#:. ".contains(c));
    if base.is_empty() { thread.to_owned() } else { base.to_owned() }
}

/// Resident memory of a process in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Everything resident.
    pub total: u64,
    /// Without file pages.
    pub anonymous: u64,
}

impl Memory {
    /// Of process `pid`.
    pub fn of(pid: u32) -> Option<Memory> {
        Memory::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    fn parse(status: &str) -> Option<Memory> {
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory { total: field("VmRSS:")?, anonymous: field("RssAnon:")? })
    }
}

/// Machine, kernel and file system, for the head of a report.
pub fn machine(dir: &std::path::Path) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name"));
    let model = model.map_or("unknown", |m| m.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|k| k.split_ascii_whitespace().next()?.parse::<u64>().ok());
    json!({
        "cpu": model,
        "cores": cores,
        "memory_gib": kib.unwrap_or(0) / 1024 / 1024,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "file_system": file_system(&read("/proc/self/mounts"), dir),
    })
}

/// What was run, when, how long and where: the head of every JSON result.
pub fn about_run(dir: &std::path::Path, took: std::time::Duration) -> Value {
    let command: Vec<String> = std::env::args().skip(1).collect();
    json!({
        "command": format!("rk-bench {}", command.join(" ")),
        "unix_time": std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()),
        "took_s": took.as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine(dir),
    })
}

/// The type of the file system that holds `dir`: of all mount points above `dir` the longest.
fn file_system(mounts: &str, dir: &std::path::Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut best = ("", "unknown");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if dir.starts_with(point) && point.len() >= best.0.len() {
            best = (point, kind);
        }
    }
    best.1.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_odd_names() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(Cpu::parse(line), Some(Cpu { user: 2.5, system: 0.5 }));
        assert_eq!(Cpu::parse("garbage"), None);
        assert_eq!((parent(line), parent("garbage")), (Some(1), None));
        let both = Cpu { user: 2.5, system: 0.5 }.and(Cpu { user: 1.0, system: 1.0 });
        assert_eq!(both, Cpu { user: 3.5, system: 1.5 });
        assert!(Cpu::of(None).is_some());
    }

    #[test]
    fn idle_time_is_not_busy() {
        let stat = "cpu  100 0 200 9000 800 10 20 70 5 0\ncpu0 1 1\n";
        assert_eq!(busy(stat), Some(4.0));
        assert_eq!(busy("intr 5"), None);
    }

    #[test]
    fn status_and_names() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t    1024 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!((memory.total, memory.anonymous), (2 << 20, 1 << 20));
        for (thread, stage) in [("front-0\n", "front"), ("log\n", "log"), ("12", "12")] {
            assert_eq!(stage_name(thread), stage);
        }
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = "none / overlay rw 0 0\n/dev/x /tmp ext4 rw 0 0\n/dev/y /tmpx xfs rw 0 0\n";
        assert_eq!(file_system(mounts, std::path::Path::new("/tmp/nowhere")), "ext4");
        assert_eq!(file_system(mounts, std::path::Path::new("/nowhere")), "overlay");
    }
}
