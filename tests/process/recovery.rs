//! While recovery runs: the port answers probes, and signals mean what they always do.
//!
//! A recovery takes as long as a test wants where the snapshot is a named pipe: opening it waits
//! for a writer. An empty `snapshot.0` without logs loses nothing, so that the start goes on then.

use crate::util::{Options, Server, raw_connect};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// A server whose recovery does not end.
fn recovering(config: &[&str]) -> Server {
    let config = config.iter().map(|line| (*line).to_owned()).collect();
    let mut server = Server::prepare(Options { config, ..Options::default() });
    let dir = server.data_dir().join("version-2");
    fs::create_dir(&dir).expect("version-2");
    let made = Command::new("mkfifo").arg(dir.join("snapshot.0")).status().expect("mkfifo");
    assert!(made.success());
    server.spawn();
    server.wait_for_output(0, "answers probes while recovery runs");
    server
}

/// Lets the recovery go on, for as long as the result lives.
fn let_it_go_on(server: &Server) -> File {
    let pipe = server.data_dir().join("version-2/snapshot.0");
    File::options().read(true).write(true).open(pipe).expect("the pipe")
}

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

#[test]
fn the_port_answers_probes_and_closes_clients_until_the_server_serves() {
    let mut server = recovering(&["4lw.commands.whitelist=ruok,srvr,isro,hash,gtmk"]);
    assert_eq!(server.ask("ruok"), "imok");
    assert_eq!(server.ask("srvr"), format!("{NOT_SERVING}\n"));
    assert_eq!(server.ask("hash"), NOT_SERVING);
    assert_eq!(server.ask("isro"), "null");
    assert_eq!(server.ask("gtmk"), "306");
    for word in ["mntr", "stmk"] {
        let refused = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(server.ask(word), refused);
    }
    // What is more than the word is read, or closing would lose the answer.
    assert_eq!(server.ask("ruok\r\n"), "imok");
    let mut client = raw_connect(server.address()).expect("a connection");
    client.write_all(&[0, 0, 0, 44, 0]).expect("the beginning of a connect request");
    let mut rest = Vec::new();
    let ended = client.read_to_end(&mut rest);
    assert!(matches!(ended, Ok(0)) || ended.is_err(), "closed, but it said {rest:?}");
    assert!(!server.stderr().contains("listening on"), "{}", server.stderr());
    let waiting = raw_connect(server.address()).expect("a connection");

    let pipe = let_it_go_on(&server);
    server.wait_for_output(0, "listening on");
    assert!(server.ask("srvr").contains("Mode: standalone"));
    let mut client = server.connect();
    client.create("/a", b"", 0).ok();
    drop((waiting, pipe));
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr());
}

#[test]
fn an_end_is_not_held_up_by_a_recovery_and_changes_nothing() {
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let mut server = recovering(&[]);
        // First what changes nothing at all.
        server.signal("QUIT");
        server.wait_for_output(0, "SIGQUIT: state of this server: recovering, up ");
        let asked = Instant::now();
        server.signal(signal);
        let status = server.wait();
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!((status.signal(), status.code()), (Some(number), None));
        let text = server.stderr();
        let last = text.lines().last().unwrap_or("");
        assert!(last.contains(&format!("SIG{signal} during recovery: ended before it")), "{text}");
        assert!(last.ends_with("no transaction and no snapshot was changed"), "{text}");
    }
}

#[test]
fn a_second_server_on_the_port_is_refused_while_the_first_recovers() {
    let mut first = recovering(&[]);
    let config = vec![format!("clientPort={}", first.address().port())];
    let mut second = Server::prepare(Options { config, ..Options::default() });
    let (code, text) = second.run_to_end();
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("process {} (ringkeeper) listens there", first.pid())),
        "{text}"
    );
    assert!(!text.contains("recovered"), "{text}");
    assert_eq!(first.ask("ruok"), "imok");
}

#[test]
fn a_state_report_names_every_stage_and_the_server_serves_on() {
    let mut server = Server::ringkeeper();
    let mut client = server.connect();
    client.create("/a", b"", 0).ok();
    server.wait_for_output(0, "is complete");
    server.signal("QUIT");
    server.wait_for_output(0, "SIGQUIT: state of this server: serving, up ");
    let text = server.stderr();
    for part in
        ["applied up to 0x2, 1 sessions, 1 connections", "log durable up to 0x2 in ", "no snapshot"]
    {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    client.create("/b", b"", 0).ok();
    drop(client);
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr());
}

#[test]
fn signals_that_mean_nothing_here_end_nothing() {
    let mut server = Server::ringkeeper();
    let mut client = server.connect();
    for signal in
        ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "POLL", "STKFLT", "PIPE", "XFSZ", "RTMIN+5"]
    {
        server.signal(signal);
        client.ping();
    }
    server.wait_for_output(0, "SIGUSR1 does nothing here");
    drop(client);
    // A signal that ends it, then a check of the directory.
    server.signal("PWR");
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", server.stderr());
}

/// `ulimit -f`: the write that goes beyond it fails, and the server says so.
#[test]
fn a_limit_of_file_sizes_is_an_error_with_words() {
    let wrapper = ["prlimit", "--fsize=300000"].map(str::to_owned).to_vec();
    let mut server = Server::prepare(Options { wrapper, ..Options::default() });
    server.spawn();
    let status = server.wait();
    let text = server.stderr();
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(text.contains("ulimit -f"), "{text}");
}

/// The reader of a server's stderr stalls: no client notices, and the server ends when told to.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut server = Server::prepare(Options::default());
    let pipe = server.home().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let script = "exec 2<>\"$0\"; exec \"$@\"";
    let pipe = pipe.display().to_string();
    server.options_mut().wrapper = ["sh", "-c", script, &pipe].map(str::to_owned).to_vec();
    server.run();
    let mut client = server.connect();
    // A pipe takes 64 KiB; so do some 100 reports.
    for _ in 0..400 {
        server.signal("QUIT");
        client.ping();
    }
    client.create("/a", b"", 0).ok();
    drop(client);
    assert_eq!(server.stop().code(), Some(0));
}
