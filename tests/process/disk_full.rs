//! A full or failing disk, in a mount namespace that only the test sees.
//!
//! There is no device-mapper on the usual test machines, and a preloaded library sees nothing of
//! io_uring; so a failing disk is an ext4 of its own on a loop device that is shut down under the
//! server. (A loop device on a full tmpfs would not do: it reports short writes as complete.) All
//! of this needs root, python3 and mkfs.ext4; without them these tests fail and say so.

use super::load::Load;
use crate::util::{Options, Server, eventually};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mount namespace; it ends with this.
struct Mounts {
    keeper: Child,
}

impl Mounts {
    /// Runs `script` (shell) in a new namespace, which stays.
    fn new(script: &str) -> Mounts {
        let mut keeper = Command::new("unshare")
            .args(["-m", "sh", "-ec", &format!("{script}\necho ready\nexec cat")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux)");
        let mut line = String::new();
        let out = keeper.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n", "mounting needs root and CAP_SYS_ADMIN; see above");
        Mounts { keeper }
    }

    /// The command that runs another one in here.
    fn wrapper(&self) -> Vec<String> {
        ["nsenter", "-m", "-t", &self.keeper.id().to_string()].map(str::to_owned).to_vec()
    }

    /// Runs a command in here, which must succeed.
    fn run(&self, command: &[&str]) {
        let wrapper = self.wrapper();
        let status = Command::new(&wrapper[0]).args(&wrapper[1..]).args(command).status();
        assert!(status.expect("nsenter (util-linux)").success(), "{command:?}");
    }

    /// A path as it is in here, for this process.
    fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Takes all the space that is left.
fn fill(dir: &Path) -> PathBuf {
    use std::io::Write;
    let path = dir.join("filler");
    let mut file = fs::File::create(&path).expect("filler");
    for size in [1 << 16, 1 << 12] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    path
}

fn small(lines: &[&str]) -> Vec<String> {
    let usual = ["ringkeeper.log.segmentSizeInKb=256"];
    usual.iter().chain(lines).map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_full_disk_ends_the_server_and_loses_nothing() {
    let mut server = Server::prepare(Options { config: small(&[]), ..Options::default() });
    let mounts =
        Mounts::new(&format!("mount -t tmpfs -o size=16m tmpfs '{}'", server.data_dir().display()));
    server.options_mut().wrapper = mounts.wrapper();
    server.run();
    let mut load = Load::prepare(&server, 2);
    let filler = fill(&mounts.path(&server.data_dir()));
    load.start(&server, u64::MAX / 2);
    assert_eq!(server.wait().code(), Some(1), "{}", server.stderr());
    load.join();
    let log = server.stderr();
    assert!(log.contains("No space left on device"), "{log}");
    assert!(log.contains("Free space on that file system"), "{log}");
    assert!(log.contains("nothing acknowledged is lost"), "{log}");
    assert!(load.answered() > 0);

    // A start needs no space, neither to refuse nor to serve the data, and changes nothing.
    fs::remove_file(filler).expect("filler");
    server.run();
    load.verify(&server);
    load.start(&server, 100);
    load.join();
    load.verify(&server);
}

/// There is room for the segment that is needed, and for no other one ahead of need.
#[test]
fn a_volume_with_room_for_one_segment_serves() {
    let config = ["ringkeeper.log.segmentSizeInKb=20480".to_owned()].to_vec();
    let mut server = Server::prepare(Options { config, ..Options::default() });
    let mounts =
        Mounts::new(&format!("mount -t tmpfs -o size=33m tmpfs '{}'", server.data_dir().display()));
    server.options_mut().wrapper = mounts.wrapper();
    for round in 0..8 {
        server.run();
        let mut client = server.connect();
        for number in 0..20 {
            client.create(&format!("/{round}-{number}"), b"", 0).ok();
        }
        server.kill();
    }
}

/// A server that is not started yet: its snapshots are on a volume of 1 MiB, its log is elsewhere.
fn with_little_room_for_snapshots(config: Vec<String>) -> (Server, Mounts) {
    let mut server = Server::prepare(Options { config, ..Options::default() });
    let log_dir = server.home().join("log");
    fs::create_dir(&log_dir).expect("log directory");
    server.options_mut().config.push(format!("dataLogDir={}", log_dir.display()));
    server.rewrite_config();
    let mounts =
        Mounts::new(&format!("mount -t tmpfs -o size=1m tmpfs '{}'", server.data_dir().display()));
    server.options_mut().wrapper = mounts.wrapper();
    (server, mounts)
}

#[test]
fn a_disk_too_full_for_snapshots_keeps_the_server_up() {
    let (mut server, mounts) = with_little_room_for_snapshots(small(&["snapCount=200"]));
    server.run();
    let mut load = Load::prepare(&server, 2);
    let filler = fill(&mounts.path(&server.data_dir()));
    load.start(&server, 2000);
    load.join();
    assert!(load.answered() >= 4000);
    eventually("a snapshot fails", || server.stderr().contains("failed at").then_some(()));
    load.verify(&server);
    fs::remove_file(filler).expect("filler");
    let before = server.stderr().matches("is complete").count();
    load.start(&server, 1000);
    load.join();
    eventually("a later snapshot succeeds", || {
        (server.stderr().matches("is complete").count() > before).then_some(())
    });
    server.crash_and_restart();
    load.verify(&server);
}

#[test]
fn a_disk_without_room_for_a_segment_is_refused_at_the_start() {
    let mut server = Server::prepare(Options::default());
    let data = server.data_dir();
    let mounts = Mounts::new(&format!("mount -t tmpfs -o size=20m tmpfs '{}'", data.display()));
    server.options_mut().wrapper = mounts.wrapper();
    let (code, text) = server.run_to_end();
    assert_eq!(code, Some(3), "{text}");
    let dir = data.join("version-2").display().to_string();
    for part in [&*dir, "67108864 bytes", "No space left", "Make room", "segmentSizeInKb"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert!(!text.contains("listening"), "{text}");
    let check = |server: &Server| {
        let wrapper = mounts.wrapper();
        let mut check = Command::new(&wrapper[0]);
        check.args(&wrapper[1..]).arg(env!("CARGO_BIN_EXE_ringkeeper")).arg("check");
        let output = check.arg(server.config_path()).output().expect("ringkeeper");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check(&server);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("zoo.cfg:2: error: dataDir="), "{text}");
    assert!(text.contains("67108864 bytes: No space left"), "{text}");
    let names = fs::read_dir(mounts.path(&data.join("version-2"))).expect("directory");
    let names: Vec<_> = names.map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(names, ["ringkeeper.lock"]);
    // What an earlier run has left unfinished makes room.
    let unfinished = mounts.path(&data.join("version-2/spare.1.tmp"));
    fs::rename(fill(&mounts.path(&data)), unfinished).expect("rename");
    server.options_mut().config = small(&[]);
    server.rewrite_config();
    assert_eq!(check(&server).0, Some(0));
    server.run();
    // The segment that the server made is enough, however full the disk is.
    server.wait_for_output(0, "is complete");
    eventually("a spare segment", || {
        let names = fs::read_dir(mounts.path(&data.join("version-2"))).expect("directory");
        let mut names = names.map(|entry| entry.expect("entry").file_name().display().to_string());
        names.find(|name| name.starts_with("spare.") && !name.ends_with(".tmp"))
    });
    server.kill();
    fill(&mounts.path(&data));
    assert_eq!(check(&server).0, Some(0));
    server.run();
    server.connect().ping();
}

#[test]
fn a_clean_end_without_its_final_snapshot_has_a_code_of_its_own() {
    let (mut server, mounts) = with_little_room_for_snapshots(small(&[]));
    server.run();
    eventually("the first snapshot", || server.stderr().contains("is complete").then_some(()));
    let mut load = Load::prepare(&server, 2);
    let filler = fill(&mounts.path(&server.data_dir()));
    load.start(&server, 100);
    load.join();
    assert_eq!(server.stop().code(), Some(10), "{}", server.stderr());
    assert!(server.stderr().contains("an Apache server does not start from it"));
    // Started and stopped once more, with room for it, it leaves everything.
    fs::remove_file(filler).expect("filler");
    server.run();
    load.verify(&server);
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr());
    let before = server.stderr().len();
    server.run();
    server.wait_for_output(before, " 0 transactions replayed");
}

#[test]
fn a_failing_file_system_ends_the_server_and_loses_nothing() {
    let mut server = Server::prepare(Options { config: small(&[]), ..Options::default() });
    let disk = server.home().join("disk").display().to_string();
    let data = server.data_dir().display().to_string();
    let mount = format!("mount -o loop '{disk}' '{data}'");
    let mounts = Mounts::new(&format!("truncate -s 64m '{disk}'\nmkfs.ext4 -q '{disk}'\n{mount}"));
    server.options_mut().wrapper = mounts.wrapper();
    server.run();
    let mut load = Load::prepare(&server, 2);
    load.start(&server, u64::MAX / 2);
    load.wait_for(1000);
    // FS_IOC_SHUTDOWN without writing the journal back: every access fails from now on, and the
    // disk is as if the power had gone.
    let shutdown = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
    mounts.run(&["python3", "-c", shutdown, &data]);
    assert_eq!(server.wait().code(), Some(1), "{}", server.stderr());
    load.join();
    let log = server.stderr();
    assert!(log.contains("the transaction log"), "{log}");
    assert!(log.contains("nothing later was acknowledged"), "{log}");
    mounts.run(&["sh", "-ec", &format!("umount '{data}'; {mount}")]);
    server.run();
    load.verify(&server);
}
