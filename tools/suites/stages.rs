//! Stages on separate threads, as on a machine of four CPUs and more. With one or two CPUs the
//! server takes one thread for all stages, so a small machine has to ask for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::context::{Context, Failure};

/// The environment variable in which Ringkeeper looks for properties.
pub const VARIABLE: &str = "SERVER_JVMFLAGS";

/// How the server's line about its stages begins.
const LINE: &str = "stages: ";

/// Threads that the server must then have: two network loops, pipeline, log.
const THREADS: usize = 4;

/// Only a server that hangs takes that long to say how it runs.
const START_TIME: Duration = Duration::from_secs(120);

/// Properties that give every stage a thread of its own. Two network loops are pinned to no CPU;
/// pipeline and log are pinned to different ones, since stages of one CPU share a thread.
pub fn flags(cpus: &[usize]) -> Result<String, Failure> {
    let [pipeline, log, ..] = cpus else {
        return Err("stages on separate threads need two CPUs".to_owned());
    };
    Ok(format!(
        "-Dringkeeper.network.threads=2 -Dringkeeper.cores.pipeline={pipeline} \
         -Dringkeeper.cores.log={log}"
    ))
}

/// The CPUs that this process may use, as the kernel lists them.
pub fn usable_cpus() -> Result<Vec<usize>, Failure> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| cpus(list.trim())).ok_or(format!("{path} has no list of CPUs"))
}

/// Reads `0-2,5`.
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        found.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(found)
}

/// Starts a server in this environment and fails unless it says that its stages are apart.
pub fn prove(context: &Context) -> Result<(), Failure> {
    let home = context.cache.join("stages");
    crate::context::clear(&home)?;
    let probe = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr());
    let port = probe.map_err(|e| format!("a free port: {e}"))?.port();
    let config = home.join("zoo.cfg");
    let data = home.join("data");
    let lines =
        format!("dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n", data.display());
    fs::write(&config, lines).map_err(|e| format!("{}: {e}", config.display()))?;
    let mut command = context.command(context.ringkeeper());
    command.env("RUST_LOG", "info").arg("server").arg(config).stderr(Stdio::piped());
    let mut server = command.spawn().map_err(|e| format!("ringkeeper: {e}"))?;
    let said = what_it_says(&mut server);
    // A server that ended by itself is as good as killed.
    let _ = server.kill();
    let _ = server.wait();
    match said {
        Some(stages) if are_apart(&stages) => Ok(()),
        Some(stages) => Err(format!("stages are not on separate threads: {stages}")),
        None => Err("the server said nothing about its stages".to_owned()),
    }
}

/// The stages of each thread, after [`LINE`].
fn what_it_says(server: &mut Child) -> Option<String> {
    let lines = BufReader::new(server.stderr.take()?).lines();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = lines.map_while(Result::ok);
        let found = lines.find_map(|line| Some(line.split_once(LINE)?.1.to_owned()));
        // Nobody listens any more once the time is over.
        let _ = tell.send(found);
    });
    told.recv_timeout(START_TIME).ok().flatten()
}

fn are_apart(stages: &str) -> bool {
    !stages.contains('+') && stages.split(';').count() == THREADS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus("0"), Some(vec![0]));
        assert_eq!(cpus("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(cpus("none"), None);
        assert!(usable_cpus().is_ok_and(|found| !found.is_empty()));
    }

    #[test]
    fn pipeline_and_log_get_different_cpus() {
        let expect = "-Dringkeeper.network.threads=2 -Dringkeeper.cores.pipeline=3 \
                      -Dringkeeper.cores.log=5";
        assert_eq!(flags(&[3, 5, 6]), Ok(expect.to_owned()));
        assert!(flags(&[3]).is_err());
    }

    #[test]
    fn a_shared_thread_is_noticed() {
        assert!(are_apart(
            "network 0 on any CPU; network 1 on any CPU; pipeline on CPU 0; log on CPU 1"
        ));
        assert!(!are_apart("network 0 + pipeline + log on any CPU"));
        assert!(!are_apart("network 0 on any CPU; network 1 on any CPU; pipeline + log on CPU 0"));
        assert!(!are_apart("network 0 on CPU 0; pipeline on CPU 1; log on CPU 2"));
    }
}
