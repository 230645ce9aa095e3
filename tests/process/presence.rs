//! What is open is removed under a running server: it notices, acknowledges nothing more, and says
//! what is true.

use crate::util::{Options, Server};
use std::fs;
use std::path::PathBuf;

fn version_2(server: &Server) -> PathBuf {
    server.data_dir().join("version-2")
}

/// A server with two transactions, of a session and of a node.
fn server(config: &[String]) -> Server {
    let server = Server::start(Options { config: config.to_vec(), ..Options::default() });
    let mut client = server.connect();
    client.create("/a", b"", 0).ok();
    // With the snapshot that comes first, the background has nothing left to do.
    server.wait_for_output(0, "is complete");
    client.abandon();
    server
}

/// The server must end by itself and say all of `parts`, and nothing that calms.
fn ends(mut server: Server, parts: &[&str]) {
    let status = server.wait();
    let text = server.stderr();
    assert_eq!(status.code(), Some(1), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    for lie in ["are safe", "nothing acknowledged is lost", "holds everything", "ended cleanly"] {
        assert!(!text.contains(lie), "{lie:?} in: {text}");
    }
}

#[test]
fn a_directory_that_is_removed_ends_the_server() {
    let server = server(&[]);
    fs::remove_dir_all(version_2(&server)).expect("version-2");
    let path = version_2(&server).display().to_string();
    let what = format!("the directory of the log and the snapshots, {path}, is gone");
    ends(server, &[&what, "Every transaction up to 0x2 may be lost", "restore a backup"]);
}

#[test]
fn each_of_two_directories_is_watched() {
    for remove_log in [true, false] {
        let logs = tempfile::tempdir().expect("temporary dir");
        let log_dir = logs.path().join("version-2");
        let server = server(&[format!("dataLogDir={}", logs.path().display())]);
        if remove_log {
            fs::remove_dir_all(&log_dir).expect("version-2");
            ends(server, &["the directory of the log, ", "up to 0x2 that no snapshot in"]);
        } else {
            fs::remove_dir_all(version_2(&server)).expect("version-2");
            ends(server, &["the directory of the snapshots, ", "the log holds up to 0x2"]);
        }
    }
}

#[test]
fn a_segment_that_is_removed_ends_the_server() {
    let server = server(&[]);
    fs::remove_file(version_2(&server).join("wal.1")).expect("segment");
    ends(server, &["wal.1, is gone", "transactions from 0x1 to 0x2"]);
}

#[test]
fn an_end_right_after_a_removal_claims_nothing() {
    let mut server = server(&[]);
    fs::remove_dir_all(version_2(&server)).expect("version-2");
    server.signal("TERM");
    let status = server.wait();
    let text = server.stderr();
    // 10 if the final snapshot was tried, 1 if it was not.
    assert!(matches!(status.code(), Some(1 | 10)), "{status}: {text}");
    for lie in ["are safe", "holds everything", "the log holds what", "ended cleanly"] {
        assert!(!text.contains(lie), "{lie:?} in: {text}");
    }
    assert!(text.contains("Every transaction up to 0x2 may be lost"), "{text}");
}

/// The directory is locked itself, not by the file in it alone.
#[test]
fn a_second_server_is_refused_although_the_lock_file_was_removed() {
    let mut first = Server::ringkeeper();
    fs::remove_file(version_2(&first).join("ringkeeper.lock")).expect("lock file");
    let config = vec![format!("dataDir={}", first.data_dir().display())];
    let mut second = Server::prepare(Options { config, ..Options::default() });
    let (code, text) = second.run_to_end();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("in use by another server"), "{text}");
    assert_eq!(first.stop().code(), Some(0), "{}", first.stderr());
}
