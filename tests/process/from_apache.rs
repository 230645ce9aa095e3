//! Coming from Apache, nothing is silently different: addresses, files beside zoo.cfg, the encoding
//! of zoo.cfg, and a kernel that refuses what Java never needed.

use crate::util::{Client, Jute, Options, Server, Session, eventually, op};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

fn ringkeeper(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringkeeper"));
    for variable in ["JVMFLAGS", "SERVER_JVMFLAGS", "ZOO_DATADIR_AUTOCREATE_DISABLE"] {
        command.env_remove(variable);
    }
    command.args(arguments).output().expect("ringkeeper")
}

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

#[test]
fn scripts_beside_zoo_cfg_reach_the_server_with_their_lines() {
    let mut server = Server::prepare(Options::default());
    let config = server.config_path().display().to_string();
    let script = |name: &str| server.config_path().with_file_name(name);
    let env = "ZOO_LOG_DIR=/var/log\nJVMFLAGS=\"-Djute.maxbuffer=5000\"\n";
    fs::write(script("zookeeper-env.sh"), env).expect("script");
    let java = "# memory\nexport JVMFLAGS=\"$JVMFLAGS -Dzookeeper.snapCount=77\"\n\
                if [ -n \"$X\" ]; then SERVER_JVMFLAGS=-Dzookeeper.maxCnxns=3; fi\n";
    fs::write(script("java.env"), java).expect("script");
    let [env, java] =
        ["zookeeper-env.sh", "java.env"].map(|name| script(name).display().to_string());
    let text = text(&ringkeeper(&["check", &config]));
    for part in [
        format!("jute.maxbuffer=5000 bytes  # {env}:2"),
        format!("# {java}:2"),
        format!("{java}:3: warning: `if` is no plain assignment"),
        "it may set SERVER_JVMFLAGS; not taken: zookeeper.maxCnxns;".to_owned(),
        format!("{env}:1: note: ZOO_LOG_DIR: "),
    ] {
        assert!(text.contains(&part), "{part} in:\n{text}");
    }
    server.run();
    server.connect().create("/a", &[0; 4000], 0).ok();
    let body = Jute::new().string("/b").buffer(&[0; 6000]).open_acl().int(0);
    let mut client = server.connect();
    client.send(op::CREATE, body);
    assert!(client.try_receive().is_err(), "a request larger than jute.maxbuffer was taken");
    assert!(server.stderr().contains("`if` is no plain assignment"), "{}", server.stderr());
}

/// A directory that Java made from a zoo.cfg in UTF-8, and one that is meant by UTF-8.
#[test]
fn a_directory_with_an_accent_is_found_or_the_start_is_refused() {
    let home = tempfile::tempdir().expect("temporary dir");
    let file = home.path().join("zoo.cfg");
    let config = file.display().to_string();
    let dir = |name: &str| home.path().join(name).display().to_string();
    let write = |name: &[u8]| {
        let lines = [b"clientPort=2181\ndataDir=", home.path().as_os_str().as_bytes(), b"/", name];
        fs::write(&file, lines.concat()).expect("zoo.cfg");
    };
    let says = |part: &str| {
        let text = text(&ringkeeper(&["check", &config]));
        assert!(text.contains(part), "{part:?} in:\n{text}");
    };
    write(b"d\xe9");
    says(&format!("dataDir={}  #", dir("dé")));
    write("dé".as_bytes());
    let neither = format!(
        "can mean {}, as ZooKeeper reads the line (ISO-8859-1), or {}, as UTF-8, \
         neither of which exists",
        dir("dÃ©"),
        dir("dé")
    );
    says(&neither);
    let started = ringkeeper(&["server", &config]);
    assert_eq!(started.status.code(), Some(2));
    assert!(text(&started).contains(&neither), "{}", text(&started));
    fs::create_dir(dir("dÃ©")).expect("directory");
    says(&format!("dataDir={}  #", dir("dÃ©")));
    fs::create_dir(dir("dé")).expect("directory");
    says(&format!("of which exist: {} and {}", dir("dÃ©"), dir("dé")));
    fs::remove_dir(dir("dÃ©")).expect("directory");
    says(&format!("means {}, because the line is read as UTF-8", dir("dé")));
}
