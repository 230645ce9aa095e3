//! What a start makes of a data directory: exit code and message for each state.

use super::load::Load;
use crate::util::{Options, Server, eventually};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

fn version_2(server: &Server) -> PathBuf {
    server.data_dir().join("version-2")
}

/// Files with this prefix, by the hexadecimal number that follows it.
fn files(server: &Server, prefix: &str) -> Vec<PathBuf> {
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(prefix)?.to_owned();
        i64::from_str_radix(name.split('.').next()?, 16).ok()
    };
    let entries = fs::read_dir(version_2(server)).expect("data directory");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("entry").path())
        .filter_map(|path| number(&path).map(|at| (at, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The server must refuse with exit code 3 and a message that has all of `parts`.
fn refuses(server: &mut Server, parts: &[&str]) {
    let (code, text) = server.run_to_end();
    assert_eq!(code, Some(3), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// A server that was killed with acknowledged writes in its log.
fn killed(config: &[&str], requests: u64) -> (Server, Load) {
    let config = config.iter().map(|line| (*line).to_owned()).collect();
    let mut server = Server::start(Options { config, ..Options::default() });
    let mut load = Load::prepare(&server, 2);
    load.start(&server, requests);
    load.join();
    server.kill();
    (server, load)
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_with_the_first_ones_id() {
    let mut first = Server::ringkeeper();
    let pid = first.pid();
    let config = vec![format!("dataDir={}", first.data_dir().display())];
    let mut second = Server::prepare(Options { config, ..Options::default() });
    let dir = version_2(&first);
    refuses(
        &mut second,
        &[
            &dir.display().to_string(),
            "in use by another server",
            &format!("process {pid}"),
            "stop it",
        ],
    );
    first.connect().ping();
    first.kill();
    second.run();
}

/// A process, ended with this.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_directory_of_a_running_apache_is_refused() {
    let mut server = Server::prepare(Options::default());
    let note =
        |pid: u32| fs::write(server.data_dir().join("zookeeper_server.pid"), pid.to_string());
    // What its command line looks like to others.
    let script = "exec -a org.apache.zookeeper.server.quorum.QuorumPeerMain sleep 1000";
    let process = std::process::Command::new("bash").args(["-c", script]).spawn().expect("bash");
    let process = Process(process);
    let pid = process.0.id();
    eventually("the name", || {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("command line");
        command.starts_with("org").then_some(())
    });
    note(pid).expect("file");
    let says = format!("Apache ZooKeeper (process {pid}");
    let dir = server.data_dir().display().to_string();
    refuses(&mut server, &[&dir, "in use by", &says, "zookeeper_server.pid", "stop it"]);
    assert!(files(&server, "snapshot.").is_empty());
    // What a killed one left, and whose number another process has now.
    drop(process);
    server.run();
    server.stop();
    fs::write(server.data_dir().join("zookeeper_server.pid"), "1\n").expect("file");
    server.run();
}

#[test]
fn a_missing_directory_is_created_only_if_that_is_wanted() {
    let mut server = Server::prepare(Options::default());
    fs::remove_dir(server.data_dir()).expect("empty directory");
    server.options_mut().properties = vec!["zookeeper.datadir.autocreate=false".to_owned()];
    let dir = server.data_dir().display().to_string();
    refuses(&mut server, &[&dir, "does not exist", "datadir.autocreate", "create it"]);
    assert!(!server.data_dir().exists());
    server.options_mut().properties.clear();
    server.options_mut().environment =
        vec![("ZOO_DATADIR_AUTOCREATE_DISABLE".to_owned(), "1".to_owned())];
    refuses(&mut server, &[&dir, "does not exist"]);
    server.options_mut().environment.clear();
    server.run();
}

#[test]
fn a_file_where_a_directory_should_be_is_named() {
    let mut server = Server::prepare(Options::default());
    fs::write(version_2(&server), b"").expect("file");
    let dir = version_2(&server).display().to_string();
    refuses(&mut server, &["zoo.cfg:2: error: dataDir=", &dir, "is a file, not a directory"]);
}

#[test]
fn a_read_only_directory_is_refused() {
    let mut server = Server::ringkeeper();
    server.stop();
    let dir = server.data_dir().display().to_string();
    // As root, permissions would not bite; a read-only mount of its own does.
    let script =
        format!("mount --bind '{dir}' '{dir}' && mount -o remount,ro,bind '{dir}' && exec \"$@\"");
    let wrapper = ["unshare", "-m", "sh", "-ec", &script, "sh"];
    server.options_mut().wrapper = wrapper.map(str::to_owned).to_vec();
    refuses(
        &mut server,
        &[&dir, "cannot be written: Read-only", "runs as root, who must be able to write"],
    );
    server.options_mut().wrapper.clear();
    server.run();
}

/// What a first try as root leaves to a service that runs as somebody else.
#[test]
fn a_file_of_another_user_is_named() {
    let mut server = Server::ringkeeper();
    server.connect().create("/a", b"", 0).ok();
    server.stop();
    // Root as anybody: subject to permissions.
    let wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    server.options_mut().wrapper = wrapper.map(str::to_owned).to_vec();
    let somebody = 65_534;
    for prefix in ["snapshot.", "wal.", "ringkeeper.lock"] {
        let path = match files(&server, prefix).pop() {
            Some(path) => path,
            None => version_2(&server).join(prefix),
        };
        std::os::unix::fs::chown(&path, Some(somebody), Some(somebody)).expect("chown");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        let told = format!("{} cannot be opened: Permission denied", path.display());
        refuses(&mut server, &["zoo.cfg:2: error: dataDir=", &told, "runs as root", "chown"]);
        std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("chown");
    }
    // One that is not needed.
    let older = version_2(&server).join("snapshot.0");
    fs::set_permissions(&older, fs::Permissions::from_mode(0o000)).expect("chmod");
    std::os::unix::fs::chown(&older, Some(somebody), Some(somebody)).expect("chown");
    server.run();
}

#[test]
fn a_torn_tail_is_cut_and_everything_before_it_is_there() {
    for cut in [1, 17, 1000, 5000] {
        let (mut server, mut load) = killed(&["ringkeeper.log.segmentSizeInKb=64"], 1000);
        // An unfinished write at the end: half of what a group commit would have left.
        let newest = files(&server, "wal.").pop().expect("a segment");
        let bytes = fs::read(&newest).expect("segment");
        let used = bytes.iter().rposition(|byte| *byte != 0).expect("records") + 1;
        let end = used.next_multiple_of(4096);
        let file = File::options().write(true).open(&newest).expect("segment");
        let torn: Vec<u8> = (0..cut).map(|at| (at % 251) as u8 + 1).collect();
        if end + cut <= bytes.len() {
            file.write_all_at(&torn, end as u64).expect("write");
        }
        server.run();
        load.verify(&server);
        server.crash_and_restart();
        load.verify(&server);
    }
}

/// The newest segment's last bytes are zero, as after a crash in the middle of a write, or missing,
/// as in a copy that ended early: only to go on without these somebody has to say so.
#[test]
fn a_segment_cut_off_anywhere_still_starts_with_all_before_it() {
    let (mut server, _) = killed(&["ringkeeper.log.segmentSizeInKb=1024"], 300);
    let newest = files(&server, "wal.").pop().expect("a segment");
    let name = newest.file_name().expect("a name").display().to_string();
    let accept = format!("ringkeeper.log.acceptTruncated={name}");
    let whole = fs::read(&newest).expect("segment");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("records") + 1;
    let mut all = Vec::new();
    let count = |server: &mut Server| {
        server.run();
        let nodes = server.connect().children("/load/0", false).len();
        server.kill();
        for extra in files(server, "wal.") {
            fs::remove_file(extra).expect("segment");
        }
        nodes
    };
    for eighth in (1..8).rev() {
        let keep = used * eighth / 8;
        let mut torn = whole.clone();
        torn[keep..].fill(0);
        fs::write(&newest, &torn).expect("segment");
        let nodes = count(&mut server);
        all.push(nodes);

        fs::write(&newest, &whole[..keep]).expect("segment");
        refuses(&mut server, &[&name, "it was cut short", "start once with", &accept]);
        server.options_mut().properties.push(accept.clone());
        assert_eq!(count(&mut server), nodes, "{keep} bytes");
        server.options_mut().properties.clear();
    }
    assert!(all.is_sorted_by(|longer, shorter| longer >= shorter), "{all:?}");
    assert!(all[6] < all[0], "{all:?}");
}

#[test]
fn damage_before_the_end_is_refused_with_its_place() {
    let (mut server, mut load) = killed(&["ringkeeper.log.segmentSizeInKb=1024"], 2000);
    let newest = files(&server, "wal.").pop().expect("a segment");
    let file = File::options().read(true).write(true).open(&newest).expect("segment");
    // Not in the zeros between two group commits, which are where timing has put them.
    let bytes = fs::read(&newest).expect("segment");
    let behind = 4096 + 8200;
    let at = behind + bytes[behind..].iter().position(|byte| *byte != 0).expect("records");
    let (byte, at) = ([bytes[at]], at as u64);
    file.write_all_at(&[byte[0] ^ 4], at).expect("write");
    let name = newest.display().to_string();
    refuses(&mut server, &[&name, "offset", "damaged", "last readable transaction", "backup"]);
    // Nothing was changed: repaired, it starts.
    file.write_all_at(&byte, at).expect("write");
    server.run();
    load.verify(&server);
}

#[test]
fn a_missing_segment_is_refused() {
    let (mut server, mut load) = killed(&["ringkeeper.log.segmentSizeInKb=64"], 2000);
    let segments = files(&server, "wal.");
    assert!(segments.len() >= 3, "{segments:?}");
    let aside = server.home().join("aside");
    fs::rename(&segments[1], &aside).expect("rename");
    refuses(&mut server, &[&segments[2].display().to_string(), "is missing", "backup"]);
    fs::rename(&aside, &segments[1]).expect("rename");
    server.run();
    load.verify(&server);
}

fn flip_a_byte(path: &PathBuf) {
    let mut bytes = fs::read(path).expect("file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("file");
}

#[test]
fn a_corrupt_newest_snapshot_is_passed_over_for_an_older_one() {
    let mut server = Server::ringkeeper();
    let mut load = Load::prepare(&server, 2);
    for _ in 0..2 {
        load.start(&server, 100);
        load.join();
        assert!(server.stop().success());
        server.run();
    }
    load.start(&server, 100);
    load.join();
    server.kill();
    let snapshots = files(&server, "snapshot.");
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    let newest = snapshots.last().expect("a snapshot");
    flip_a_byte(newest);
    server.run();
    load.verify(&server);
    assert!(server.stderr().contains(&format!("{} cannot be used", newest.display())));
}

#[test]
fn a_corrupt_only_snapshot_is_refused() {
    let mut server = Server::ringkeeper();
    let mut load = Load::prepare(&server, 2);
    load.start(&server, 500);
    load.join();
    assert!(server.stop().success());
    // As an operator would have it who kept only the newest, to save space.
    let mut snapshots = files(&server, "snapshot.");
    let newest = snapshots.pop().expect("a snapshot");
    for older in snapshots.into_iter().chain(files(&server, "wal.")) {
        fs::remove_file(older).expect("file");
    }
    flip_a_byte(&newest);
    let name = newest.display().to_string();
    refuses(&mut server, &[&name, "no snapshot in this directory can be loaded", "backup"]);
    let (_, text) = server.run_to_end();
    assert!(text.contains("Emptying them would lose everything: nobody else has"), "{text}");
    assert!(!text.contains("ensemble"), "{text}");
    flip_a_byte(&newest);
    server.run();
    load.verify(&server);
}

#[test]
fn logs_without_their_snapshot_are_refused() {
    let mut server = Server::ringkeeper();
    server.connect().create("/a", b"", 0).ok();
    server.stop();
    server.run();
    server.connect().create("/b", b"", 0).ok();
    server.kill();
    let segments = files(&server, "wal.");
    fs::remove_file(&segments[0]).expect("the first segment");
    for snapshot in files(&server, "snapshot.") {
        fs::remove_file(snapshot).expect("snapshot");
    }
    refuses(&mut server, &["no snapshot", "Put the snapshots back"]);
}

#[test]
fn an_occupied_port_is_named() {
    let mut first = Server::ringkeeper();
    let config = vec![format!("clientPort={}", first.address().port())];
    let mut second = Server::prepare(Options { config, ..Options::default() });
    let (code, text) = second.run_to_end();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("cannot listen on {}", first.address())), "{text}");
    let waits = format!("{} is taken; waiting up to 2 s", first.address());
    let said = text.find(&waits).expect("that it waits");
    assert!(said < text.find("cannot listen").expect("the error"), "{text}");
    assert!(text.contains(&format!("process {} (", first.pid())), "{text}");
    assert!(text.contains("clientPort"), "{text}");
}

#[test]
fn a_start_says_whether_the_end_before_it_was_clean() {
    const UNCLEAN: &str = "did not end cleanly";
    let mut server = Server::start(Options::default());
    let mut client = server.connect();
    client.create("/a", b"", 0).ok();
    let created = client.create("/b", b"", 0);
    server.kill();
    server.run();
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains(UNCLEAN)).expect("a warning");
    // The first snapshot, of an empty tree, may have been finished or not.
    let last = format!("; the last one, zxid 0x{:x}, is of ", created.zxid);
    for told in ["3 transactions were replayed", last.as_str()] {
        assert!(line.contains(told), "{told}: {line}");
    }
    let before = log.len();
    assert!(server.stop().success());
    server.run();
    assert!(!server.stderr()[before..].contains(UNCLEAN), "{}", server.stderr());
}
