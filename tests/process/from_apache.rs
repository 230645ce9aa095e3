//! Coming from Apache, nothing is silently different: addresses, files beside zoo.cfg, the encoding
//! of zoo.cfg, and a kernel that refuses what Java never needed.

use crate::util::{Client, Options, Server, Session, eventually};
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    texts.concat()
}

#[test]
fn every_address_is_reached_through_both_families() {
    for any in ["0.0.0.0", "::", "[::]"] {
        let config = vec![format!("clientPortAddress={any}")];
        let server = Server::start(Options { config, ..Options::default() });
        let port = server.address().port();
        for local in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            let local: SocketAddr = local.parse().expect("address");
            let fresh =
                Session { id: 0, password: vec![0; 16], timeout_ms: 10_000, read_only: false };
            let client = eventually("a session", || Client::handshake(local, &fresh, 0).ok());
            assert_ne!(client.session.id, 0, "{any} through {local}");
        }
    }
}

/// Runs its arguments with io_uring_setup (425) answering EPERM (1), as Docker's default profile
/// does: a filter that loads the number of the system call, compares, and allows the others.
const WITHOUT_IO_URING: &str = "
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack('HP', len(steps), ctypes.addressof(code)))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn check_and_start_say_the_same_where_io_uring_is_not_allowed() {
    let server = Server::prepare(Options::default());
    let mut told = Vec::new();
    for word in ["check", "server"] {
        let output = Command::new("python3")
            .args(["-c", WITHOUT_IO_URING, env!("CARGO_BIN_EXE_ringkeeper"), word])
            .arg(server.config_path())
            .output()
            .expect("python3");
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{word}: {text}");
        let line = text.lines().find(|line| line.contains("error: ")).expect("an error");
        told.push(line.trim().trim_start_matches("ringkeeper: ").to_owned());
    }
    assert_eq!(told[0], told[1]);
    assert!(told[0].starts_with("error: cannot set up io_uring: Operation not perm"), "{told:?}");
    assert!(told[0].contains("seccomp profile of the container"), "{told:?}");
    assert!(
        !fs::exists(server.data_dir().join("version-2")).expect("home"),
        "the start left files"
    );
}
