//! Tests of what comes along from Apache: the encoding of zoo.cfg, and the scripts beside it.

use super::tests::{check_warning, checked, file, settings, shell, texts, with};
use super::*;

#[test]
fn letters_beyond_ascii_are_those_of_zookeeper() {
    let read = |bytes: &[u8], exists: fn(&str) -> bool| {
        let mut raw = RawConfig::new();
        raw.add_file("zoo.cfg", bytes);
        raw.choose_paths(exists);
        checked(&raw)
    };
    let latin = read(b"clientPort=2181\ndataDir=/d\xe9", |_| false);
    assert_eq!(latin.settings().unwrap().storage.data_dir.to_str(), Some("/dé"));
    assert_eq!(latin.warnings().count(), 0);
    let utf8 = "clientPort=2181\ndataDir=/dé".as_bytes();
    let refused = texts(read(utf8, |_| false).errors());
    let names = "zoo.cfg:2: error: dataDir=/dÃ©: can mean /dÃ©, as ZooKeeper reads the line \
                 (ISO-8859-1), or /dé, as UTF-8, neither of which exists";
    assert!(refused.len() == 1 && refused[0].starts_with(names), "{refused:#?}");
    let found = read(utf8, |path| path == "/dé");
    assert_eq!(found.settings().unwrap().storage.data_dir.to_str(), Some("/dé"));
    assert_eq!(found.warnings().count(), 1);
    let found = read(utf8, |path| path == "/dÃ©");
    assert_eq!(found.settings().unwrap().storage.data_dir.to_str(), Some("/dÃ©"));
    assert_eq!(texts(found.warnings()), Vec::<String>::new());
}

#[test]
fn text_that_may_be_utf8_is_read_as_zookeeper_reads_it_with_a_warning() {
    let raw = with("superUser=é");
    assert_eq!(settings(&raw).auth.super_users, ["Ã©"]);
    check_warning(&raw, "zoo.cfg:2: warning: superUser=Ã©: read as ISO-8859-1", "write \\u00e9");
    let raw = with("SASLAuthenticationProvider.superPassword=é");
    check_warning(&raw, "zoo.cfg:2: warning: SASLAuthenticationProvider.superPassword=***", "and");
    assert!(!checked(&raw).report().contains('é'));
    let marked = "\u{feff}dataDir=/d\nclientPort=2181";
    check_warning(&file(marked), "zoo.cfg:1: warning: begins with a byte order mark", "without");
}

#[test]
fn scripts_beside_the_file_count_as_the_command_line_does() {
    let mut raw = with("");
    let mut shell = shell(&[("JVMFLAGS", "-Dzookeeper.snapCount=10")]);
    shell.run("c/java.env", b"export JVMFLAGS=\"$JVMFLAGS -Djute.maxbuffer=7000\"\n");
    shell.run("c/java.env", b"SERVER_JVMFLAGS=\"-Dzookeeper.snapCount=9 \\\n-DtickTime=7\"\n");
    raw.add_shell(&shell);
    let check = checked(&raw);
    let origin = |name: &str| {
        let all = check.effective();
        all.iter().find(|effective| effective.name == name).unwrap().origin.to_string()
    };
    let found = check.settings().unwrap();
    assert_eq!((found.packet_size_max, found.storage.snap_count), (7000, 10));
    assert_eq!(origin("jute.maxbuffer"), "c/java.env:1");
    assert_eq!(origin("snapCount"), "variable JVMFLAGS");
    let warnings = texts(check.warnings());
    let overridden = "c/java.env:1: warning: zookeeper.snapCount=9: overridden by \
                      zookeeper.snapCount at variable JVMFLAGS";
    assert!(warnings[1].starts_with(overridden), "{warnings:#?}");
    let unread = "c/java.env:2: warning: tickTime=7: ZooKeeper reads this only from zoo.cfg";
    assert!(warnings.len() == 2 && warnings[0].starts_with(unread), "{warnings:#?}");
}
