//! What the four-letter words tell about the machine and the process.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::admin::Host;
use crate::disk::DataDir;
use crate::sys::cpu;

fn text(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// `net.core.somaxconn`: what bounds the backlog of a listening socket.
pub fn somaxconn() -> u32 {
    text("/proc/sys/net/core/somaxconn").parse().unwrap_or(128)
}

/// A path from the root, for those who do not know where the server was started.
pub fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The user as whom this runs: the name, or the number where there is none.
pub fn user_name() -> String {
    let Ok(me) = fs::metadata("/proc/self") else { return String::new() };
    let uid = me.uid().to_string();
    let accounts = text("/etc/passwd");
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

/// What does not change while the process runs.
pub fn host(dir: &DataDir, open_files_max: u64) -> Host {
    let shown = |path: std::io::Result<PathBuf>| {
        path.map(|path| path.display().to_string()).unwrap_or_default()
    };
    let variable = |name: &str| env::var(name).unwrap_or_default();
    Host {
        name: text("/proc/sys/kernel/hostname"),
        os_version: text("/proc/sys/kernel/osrelease"),
        os_arch: match env::consts::ARCH {
            "x86_64" => "amd64".to_owned(),
            other => other.to_owned(),
        },
        user_name: user_name(),
        user_home: variable("HOME"),
        user_dir: shown(env::current_dir()),
        temp_dir: env::temp_dir().display().to_string(),
        executable: shown(env::current_exe()),
        snap_dir: absolute(dir.snap_dir()),
        log_dir: absolute(dir.log_dir()),
        open_files_max,
    }
}

/// The limit of open files; 1024, the usual one, if it cannot be found out.
pub fn open_files_max() -> u64 {
    cpu::open_files_max().unwrap_or(1024)
}

/// Number of open files; 0 if it cannot be found out.
pub fn open_files() -> u64 {
    const FDS: &str = "/proc/self/fd";
    // Since Linux 6.2 the directory's size is their number; before, it is 0.
    match fs::metadata(FDS).map(|fds| fds.len()) {
        Ok(0) => fs::read_dir(FDS).map_or(0, |fds| fds.count() as u64),
        Ok(count) => count,
        Err(_) => 0,
    }
}

/// Bytes of memory: what the machine could still give, what it has, what this process holds.
pub fn memory() -> (u64, u64, u64) {
    let field = |file: &str, name: &str| {
        let text = text(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kb = line.trim_start_matches(':').split_whitespace().next();
        kb.and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    (
        field("/proc/meminfo", "MemAvailable"),
        field("/proc/meminfo", "MemTotal"),
        field("/proc/self/status", "VmRSS"),
    )
}
