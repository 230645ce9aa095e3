//! Driver for the configuration: any text gives settings or problems.

use ringkeeper::base::Rng;
use ringkeeper::config::{Environment, KEYS, RawConfig, ShellVariables, check};

use super::harness::{Driver, run};
use super::input::{input, int, pick};

const VALUES: &[&str] = &[
    "",
    "true",
    "TRUE",
    "no",
    "1",
    "0",
    "-1",
    "2181",
    "65536",
    "99999999999999999999",
    "0x10",
    "1e9",
    "NaN",
    "inf",
    "-0.0",
    "0.5",
    "/data",
    "./data",
    "127.0.0.1",
    "::1",
    "[::1]:2181",
    "127.0.0.1:2888:3888;2181",
    "a:1:2:observer;0.0.0.0:1|b:3:4",
    "1:2:3",
    "gz",
    "snappy",
    "SHA-1",
    "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
    "é",
    "0-3,7",
    "\\u00e9\\",
    "fatal.disk",
];

fn text(rng: &mut Rng) -> Vec<u8> {
    let mut out = String::from("tickTime=2000\ndataDir=/tmp/d\nclientPort=2181\n");
    for _ in 0..rng.below(12) {
        let key = &KEYS[rng.below(KEYS.len() as u64) as usize];
        let names = key.spellings();
        let name = &names[rng.below(names.len() as u64) as usize];
        let server = format!("server.{}", int(rng));
        let name = if rng.chance(1, 12) { &server } else { name };
        let value = match rng.below(3) {
            0 => int(rng).to_string(),
            _ => pick(rng, VALUES).to_string(),
        };
        let between = pick(rng, &["=", " = ", ":", " ", "\t=\\\n  ", ""]);
        let end = pick(rng, &["\n", "\r\n", "\n", "\n\n# é\n", "\\\n", "\r"]);
        out += &format!("{name}{between}{value}{end}");
    }
    out.into_bytes()
}

/// Pieces of a shell script, in any order.
fn script(rng: &mut Rng) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "export ", "JVMFLAGS", "=", "+=", "\"", "'", "`", "\\", "$", "${", "}", ":-", "(", ")",
        "-D", "a=b", " ", "\n", ";", "&&", "|", "<<", "#", "if", "then", "fi", "case", "esac", "é",
        "~", "{",
    ];
    let count = rng.below(60);
    (0..count).flat_map(|_| pick(rng, PIECES).bytes()).collect()
}

fn files(rng: &mut Rng) {
    let (file, _) = input(rng, text);
    let mut raw = RawConfig::new();
    raw.add_file("zoo.cfg", &file);
    if rng.chance(1, 4) {
        raw.add_dynamic_file("zoo.cfg.dynamic", &input(rng, text).0);
    }
    if rng.chance(1, 4) {
        let other = text(rng);
        let other = String::from_utf8_lossy(&other);
        raw.define(other.lines().last().unwrap_or_default());
        let flags = format!("-D\"{other}' -Da -D=b");
        let mut shell = ShellVariables::new([("SERVER_JVMFLAGS".to_owned(), flags)]);
        shell.run("java.env", &script(rng));
        raw.add_shell(&shell);
    }
    if rng.chance(1, 16) {
        raw.add_arguments(&[pick(rng, VALUES), pick(rng, VALUES), pick(rng, VALUES)]);
    }
    raw.choose_paths(|path| path.len().is_multiple_of(2));
    raw.dynamic_config_file();
    let found = check(&raw, &Environment::default());
    assert_eq!(found.is_ok(), found.settings().is_some());
    assert_eq!(found.is_ok(), found.errors().next().is_none());
    assert!(!found.report().is_empty() || found.is_ok());
}

#[test]
fn configuration_files() {
    run(Driver { name: "config::configuration_files", budget: 1_500, case: files });
}
