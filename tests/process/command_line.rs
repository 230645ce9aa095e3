//! `ringkeeper check`, `version`, wrong usage, and every way to hand settings in.

use crate::util::{Client, Options, Server, Session, eventually, free_port};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

fn ringkeeper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringkeeper"));
    command.env_remove("JVMFLAGS").env_remove("SERVER_JVMFLAGS");
    command
}

fn run(arguments: &[&str]) -> Output {
    ringkeeper().args(arguments).output().expect("ringkeeper")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory with a zoo.cfg of these lines, in which `{home}` is that directory.
fn config(lines: &[&str]) -> (TempDir, String) {
    let home = tempfile::tempdir().expect("temporary dir");
    let file = home.path().join("zoo.cfg");
    let lines = lines.join("\n").replace("{home}", &home.path().display().to_string());
    fs::write(&file, lines).expect("zoo.cfg");
    let path = file.display().to_string();
    (home, path)
}

/// For those who check a whole configuration, which includes that nobody listens there.
fn free_port_line() -> String {
    format!("clientPort={}", free_port())
}

fn check(lines: &[&str]) -> (Option<i32>, String, String) {
    let (_home, file) = config(lines);
    let output = run(&["check", &file]);
    (output.status.code(), stdout(&output), file)
}

#[test]
fn version_and_help_say_so_and_succeed() {
    for word in ["version", "--version", "-V", "-v"] {
        let output = run(&[word]);
        assert!(output.status.success());
        assert_eq!(stdout(&output), format!("ringkeeper {}\n", env!("CARGO_PKG_VERSION")));
    }
    for words in [&["help"][..], &["--help"], &["-h"], &["server", "--help"], &["check", "-h"]] {
        let output = run(words);
        assert!(output.status.success());
        assert!(stdout(&output).starts_with("usage: ringkeeper"));
    }
}

#[test]
fn wrong_usage_ends_with_2_and_the_usage() {
    for arguments in [&["--frobnicate"][..], &["server", "-x"], &["check", "-q", "zoo.cfg"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("unknown option"), "{}", stderr(&output));
        assert!(stderr(&output).contains("usage: ringkeeper"));
    }
    for (arguments, part) in [
        (&["-D"][..], "-D defines nothing; write -Dkey=value without a blank"),
        (&["check", "-D", "tickTime=1"], "-D defines nothing"),
        (&["-D=1"], "-D=1 defines nothing"),
        (&["2181"], "a dataDir is missing behind the port 2181"),
        (&[""], "an argument is empty"),
        (&["version", "zoo.cfg"], "`zoo.cfg` behind version means nothing"),
        (&["servr"], "no such command or file: servr; did you mean `server`?"),
        (&["serve", "r"], "no such command or file: serve; did you mean `server`?"),
        (&["xyz"], "no such command or file: xyz\n"),
        (&["chek", "zoo.cfg"], "did you mean `check`?"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert!(stderr(&output).contains("usage: ringkeeper"));
    }
}

#[test]
fn init_writes_members_once_and_never_over_anything() {
    let home = tempfile::tempdir().expect("temporary dir");
    let dir = home.path().join("trial");
    let dir = dir.to_str().expect("UTF-8");
    let output = run(&["init", "--members=3", dir]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("  ringkeeper {dir}/3/zoo.cfg\n")));
    let id = fs::read_to_string(format!("{dir}/3/data/myid")).expect("myid");
    let config = fs::read_to_string(format!("{dir}/3/zoo.cfg")).expect("zoo.cfg");
    assert!(id == "3\n" && config.contains("\nserver.3=127.0.0.1:2890:3890;127.0.0.1:2183\n"));
    let report = stdout(&run(&["check", &format!("{dir}/3/zoo.cfg")]));
    assert!(report.starts_with("Server 3, one participant of an ensemble of 3"), "{report}");
    let again = run(&["init", dir]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("trial/1 is there already"), "{}", stderr(&again));
    for (arguments, part) in [
        (&["init"][..], "init needs the directory"),
        (&["init", "a", "b"], "`b` is one directory too many"),
        (&["init", "--members"], "--members needs a value"),
        (&["init", "--members", "x", "a"], "--members: `x` is not a number"),
        (&["init", "--hosts", "a,b", "--members", "3", "a"], "either --members or --hosts"),
        (&["init", "--frobnicate", "3", "a"], "unknown option --frobnicate"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
        assert!(stderr(&output).contains("usage: ringkeeper"));
    }
}

/// The usage would bury the one line that helps.
#[test]
fn a_file_that_cannot_be_read_is_named_and_nothing_else() {
    let text = stderr(&run(&["server", "/nowhere/zoo.cfg"]));
    assert!(text.starts_with("ringkeeper: cannot read /nowhere/zoo.cfg: No such file"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_dynamic_file_that_cannot_be_read_hides_no_other_mistake() {
    let (_home, file) = config(&["dynamicConfigFile=/nowhere/dynamic", "tickTime=fast"]);
    for command in ["check", "server"] {
        let output = run(&[command, &file]);
        assert_eq!(output.status.code(), Some(2));
        let text = stdout(&output) + &stderr(&output);
        let unread = ":1: error: dynamicConfigFile=/nowhere/dynamic: cannot be read: No such file";
        for part in [unread, ":2: error: tickTime=fast: ", "error: dataDir: not set"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn an_argument_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"zoo\xff.cfg");
    let output = ringkeeper().arg("check").arg(odd).output().expect("ringkeeper");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(".cfg is not UTF-8\nusage: "), "{}", stderr(&output));
}

/// What `check` sees, the start says in the same words, with the same exit code.
#[test]
fn check_finds_what_would_keep_the_server_from_starting() {
    let home = tempfile::tempdir().expect("temporary dir");
    let (file, dir) = (home.path().join("file"), home.path().join("dir"));
    fs::write(&file, b"Server {").expect("file");
    let (file, dir) = (file.display().to_string(), dir.display().to_string());
    let jaas = format!("-Djava.security.auth.login.config={file}");
    let no_jaas = format!("-Djava.security.auth.login.config={dir}");
    let kerberos = home.path().join("kerberos");
    let module = "com.sun.security.auth.module.Krb5LoginModule required;";
    fs::write(&kerberos, format!("Server {{ {module} }};")).expect("file");
    let kerberos = format!("-Djava.security.auth.login.config={}", kerberos.display());
    let no_create = "-Dzookeeper.datadir.autocreate=false";
    let data = |at: &str| format!("dataDir={at}");
    let refused = [
        (3, data(&file), "", "", format!(":2: error: dataDir={file}: {file} is a file, not")),
        (3, data("/proc/foo"), "", "", ":2: error: dataDir=/proc/foo: ".to_owned()),
        (3, data(&dir), "", no_create, format!(":2: error: dataDir={dir}: {dir} does not exist")),
        (
            2,
            data(&dir),
            "clientPortAddress=no.such.host.invalid",
            "",
            ":3: error: clientPortAddress=no.such.host.invalid: cannot be resolved".to_owned(),
        ),
        (
            1,
            data(&dir),
            "clientPortAddress=192.0.2.1",
            "",
            ":3: error: clientPortAddress=192.0.2.1: cannot listen on 192.0.2.1:2181: ".to_owned(),
        ),
        (2, data(&dir), "", &kerberos, "the JAAS section 'Server' asks for Kerberos".to_owned()),
        (2, data(&dir), "", &jaas, format!("command line: error: {}: {file}: ", &jaas[2..])),
        (2, data(&dir), "", &no_jaas, format!("{}: cannot read the JAAS file", &no_jaas[2..])),
    ];
    for (code, data, line, property, part) in refused {
        let (_files, file) = config(&["clientPort=2181", &data, line]);
        let mut texts = Vec::new();
        for command in ["check", "server"] {
            let properties = (!property.is_empty()).then_some(property);
            let output = run(&[Some(command), properties, Some(&file)].map(|a| a.unwrap_or("-Dx")));
            assert_eq!(output.status.code(), Some(code), "{command} {data} {line} {property}");
            let text = stdout(&output) + &stderr(&output);
            assert!(text.contains(&part), "{part:?} in:\n{text}");
            let told = text.lines().find(|line| line.contains("error: ")).expect("an error");
            texts.push(told.trim().trim_start_matches("ringkeeper: ").to_owned());
        }
        assert_eq!(texts[0], texts[1]);
    }
    assert!(!fs::exists(&dir).expect("home"), "check created {dir}");
}

/// What a start meets in its course, and what ends with a server that runs on the directory.
#[test]
fn check_looks_at_the_port_and_tells_a_stranger_from_its_own_server() {
    let mut server = Server::ringkeeper();
    let pid = server.pid();
    let check = |lines: &[String]| {
        let (_home, file) = config(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let output = run(&["check", &file]);
        (output.status.code(), stdout(&output))
    };
    let own = format!("dataDir={}", server.data_dir().display());
    let at = "clientPortAddress=127.0.0.1".to_owned();
    let port = format!("clientPort={}", server.address().port());
    // Beside the server whose configuration it is: all is well.
    let (code, text) = check(&[own.clone(), port.clone(), at.clone()]);
    assert_eq!(code, Some(0), "{text}");
    let used = format!("in use by another server (process {pid})");
    assert!(text.contains("\nIn use now:\n") && text.contains(&used), "{text}");
    assert!(text.contains("0 error(s), 0 warning(s)"), "{text}");
    // The same port for another directory.
    let home = tempfile::tempdir().expect("temporary dir");
    let other = format!("dataDir={}", home.path().display());
    let (code, text) = check(&[other.clone(), port.clone(), at.clone()]);
    assert_eq!(code, Some(1), "{text}");
    let told = format!("error: {port}: cannot listen on {}: ", server.address());
    assert!(text.contains(&told) && text.contains(&format!("; process {pid} (ri")), "{text}");
    // A port of somebody else for the next start of the server that runs.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = format!("clientPort={}", taken.local_addr().expect("address").port());
    let (code, text) = check(&[own.clone(), port.clone(), at.clone()]);
    assert_eq!(code, Some(1), "{text}");
    let told = format!("error: {port}: cannot listen on ");
    assert!(text.contains(&told) && text.contains(&used), "{text}");
    drop(taken);
    // A log directory that another server writes to.
    let log = own.replace("dataDir", "dataLogDir");
    let (code, text) = check(&[other, port.clone(), at.clone(), log]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("error: dataLogDir=") && text.contains(&used), "{text}");
    // It has disturbed nothing.
    server.connect().ping();
    server.stop();
    let (code, text) = check(&[own, port, at]);
    assert_eq!((code, text.contains("In use now")), (Some(0), false), "{text}");
    assert_eq!(fs::read_dir(home.path()).expect("directory").count(), 0);
}

/// Apache starts without SASL then, too, and does not say so.
#[test]
fn a_jaas_file_without_the_section_that_is_asked_for_is_warned_about() {
    let home = tempfile::tempdir().expect("temporary dir");
    let users = home.path().join("users");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"x\";";
    fs::write(&users, format!("Server {{ {module} }}; Empty {{ }};")).expect("file");
    let users = users.display().to_string();
    let (_files, file) = config(&[&free_port_line(), "dataDir={home}/data"]);
    for section in ["Server", "Mine", "Empty"] {
        let properties = [
            format!("-Djava.security.auth.login.config={users}"),
            format!("-Dzookeeper.sasl.serverconfig={section}"),
        ];
        let output = run(&["check", &properties[0], &properties[1], &file]);
        assert_eq!(output.status.code(), Some(0));
        let text = stdout(&output);
        let warning = format!("{users} has no section {section} with a login module, so nobody");
        assert_eq!(text.contains(&warning), section != "Server", "{text}");
        if section == "Mine" {
            let properties = properties.map(|property| property["-D".len()..].to_owned()).into();
            let server = Server::start(Options { properties, ..Options::default() });
            server.wait_for_output(0, &warning);
        }
    }
}

#[test]
fn a_log_level_that_is_none_is_complained_about() {
    let output = ringkeeper().arg("check").env("RUST_LOG", "chatty").output();
    let text = stderr(&output.expect("ringkeeper"));
    assert!(text.contains("RUST_LOG=chatty: `chatty` is no level; info is used"), "{text}");
}

#[test]
fn a_good_file_passes_the_check() {
    let (code, text, file) = check(&["dataDir={home}/data", &free_port_line(), "tickTime=3000"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("tickTime=3000 ms"), "{text}");
    assert!(text.contains(&format!("{file}:3")), "{text}");
    assert!(text.contains("the server can start with this configuration"), "{text}");
    assert!(text.contains("Nothing was changed."), "{text}");
    assert!(text.contains("Submission queue entries of each io_uring"), "{text}");
}

#[test]
fn bad_unknown_and_unbuilt_keys_are_named_with_their_line() {
    let lines = [
        "dataDir=/somewhere",
        "clientPort=2181",
        "tickTime=fast",
        "tickTimes=2000",
        "secureClientPort=2281",
    ];
    let (code, text, file) = check(&lines);
    assert_eq!(code, Some(2), "{text}");
    for (section, line, key) in [
        ("Wrong or doubtful values", 3, "tickTime"),
        ("Not read", 4, "tickTimes"),
        ("Not built yet", 5, "secureClientPort"),
    ] {
        let section = text.split(&format!("\n{section}:\n")).nth(1).unwrap_or_else(|| {
            panic!("no section {section:?} in: {text}");
        });
        let section = section.split("\n\n").next().unwrap_or("");
        assert!(section.contains(&format!("{file}:{line}")), "{line} not in {section:?}");
        assert!(section.contains(key), "{key} not in {section:?}");
    }
    assert!(text.contains("the server cannot start"), "{text}");

    // The server says the same and does not start.
    let (_home, file) = config(&lines);
    let output = run(&["server", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(&format!("{file}:3")), "{}", stderr(&output));
}

/// A running process that is killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(quiet.spawn().expect("ringkeeper"))
}

/// A session, as soon as the server serves. One connection at a time, for servers that allow
/// no more.
fn connected(port: u16) -> Client {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let fresh = Session { id: 0, password: vec![0; 16], timeout_ms: 300_000, read_only: false };
    eventually("a session", || Client::handshake(address, &fresh, 0).ok())
}

#[test]
fn port_and_directory_are_enough() {
    let home = tempfile::tempdir().expect("temporary dir");
    let (port, dir) = (free_port(), home.path().join("data").display().to_string());
    let _running = start(ringkeeper().args([&port.to_string(), &dir, "6000", "1"]));
    let mut client = connected(port);
    // tickTime 6000 allows 12000 to 120000 ms.
    assert_eq!(client.session.timeout_ms, 120_000);
    client.create("/a", b"", 0).ok();
    assert!(home.path().join("data/version-2").is_dir());
    // maxClientCnxns 1: the second one is not served.
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(Client::handshake(address, &client.session.clone(), 0).is_err());
}

#[test]
fn without_arguments_the_built_in_configuration_serves_from_the_current_directory() {
    let home = tempfile::tempdir().expect("temporary dir");
    let checked = ringkeeper().arg("check").current_dir(&home).output().expect("ringkeeper");
    let text = stdout(&checked);
    // Only that somebody listens on the usual port may keep it from starting.
    let is_free = !text.contains("error: clientPort: cannot listen on 127.0.0.1:2181: ");
    assert_eq!(checked.status.code(), Some(i32::from(!is_free)), "{text}");
    for value in ["clientPort=2181", "clientPortAddress=127.0.0.1", "dataDir=./data"] {
        assert!(text.contains(value), "no {value} in: {text}");
    }
}

#[test]
fn properties_and_jvm_flags_reach_the_settings_in_order() {
    let (_home, file) = config(&["dataDir={home}/data", &free_port_line()]);
    let output = ringkeeper()
        .args(["check", "-Dzookeeper.snapCount=777", &file])
        .env("JVMFLAGS", "-Xmx2g -Dzookeeper.globalOutstandingLimit=55 -Dzookeeper.snapCount=5")
        .env("SERVER_JVMFLAGS", "-Dzookeeper.preAllocSize=4096")
        .output()
        .expect("ringkeeper");
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    for value in ["snapCount=777", "globalOutstandingLimit=55", "preAllocSize=4096"] {
        assert!(text.contains(value), "no {value} in: {text}");
    }
}

/// The unit makes the directory of the sample, and starts nothing anew that would end the same.
#[test]
fn the_unit_fits_the_sample_and_the_exit_codes() {
    let read = |name: &str| fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR")));
    let unit = read("conf/ringkeeper.service").expect("unit");
    let sample = read("conf/zoo.cfg").expect("sample");
    let line = |text: &str, key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        value.unwrap_or_else(|| panic!("no {key}")).to_owned()
    };
    let dir = format!("/var/lib/{}", line(&unit, "StateDirectory"));
    assert_eq!(line(&sample, "dataDir"), dir);
    let (code, text, _) = check(&["dataDir=/proc/foo", "clientPort=2181"]);
    assert_eq!(code, Some(3), "{text}");
    let (code, text, _) = check(&["dataDir={home}/data", "clientPort=x"]);
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(line(&unit, "RestartPreventExitStatus"), "2 3");
}

/// Apache refuses the first, too, and runs the second as a quorum of one, which is not built yet.
#[test]
fn a_quorum_without_others_is_refused_before_anything_is_touched() {
    let home = tempfile::tempdir().expect("temporary dir");
    let data = home.path().join("data");
    let data_line = format!("dataDir={}", data.display());
    let port_line = format!("clientPort={}", free_port());
    for (server, reason, remedy) in [
        ("#", "without server.N lines", "remove the line, or set it to true"),
        ("server.1=127.0.0.1:2888:3888", "a quorum of one", "remove standaloneEnabled=false"),
    ] {
        let (_files, file) = config(&[&data_line, &port_line, "standaloneEnabled=false", server]);
        for command in ["server", "check"] {
            let output = run(&[command, &file]);
            assert_eq!(output.status.code(), Some(2), "{command} {server}");
            let text = stdout(&output) + &stderr(&output);
            assert!(text.contains(":3: error: standaloneEnabled=false: "), "{text}");
            assert!(text.contains(reason) && text.contains(remedy), "{text}");
            assert_eq!(text.matches("error: ").count(), 1, "{text}");
        }
        assert!(!data.exists(), "nothing was made");
    }
}
