//! Configurations for the members of a new ensemble, as `ringkeeper init` writes them.
//!
//! ZooKeeper has no such command. Nothing that exists is changed: a directory that is there already
//! is an error before anything is written.

use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crate::config::escaped;

/// The ports of Apache's samples: for clients, for learners, for votes.
const PORTS: [u16; 3] = [2181, 2888, 3888];

/// Session ids have 8 bits for the number of a server.
const MEMBERS_MAX: usize = 255;

/// Which machines the members are for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Members {
    /// This many on this machine, on ports of their own, reached from this machine only.
    Here(usize),
    /// One on each of these hosts.
    On(Vec<String>),
}

/// One member to be.
struct Plan {
    /// Name of its directory.
    name: String,
    /// What follows `server.N=`.
    line: String,
    /// Where clients connect.
    client: String,
}

impl Members {
    fn plans(&self) -> Result<Vec<Plan>, String> {
        let plans: Vec<Plan> = match self {
            Members::Here(count) => (0..*count).take(MEMBERS_MAX + 1).map(here).collect(),
            Members::On(hosts) => hosts.iter().map(|host| on(host)).collect::<Result<_, _>>()?,
        };
        if !(2..=MEMBERS_MAX).contains(&plans.len()) {
            return Err(format!(
                "an ensemble has 2 to {MEMBERS_MAX} members, and three survive the loss of one; \
                 a server alone needs no `init`"
            ));
        }
        for (at, plan) in plans.iter().enumerate() {
            if plans[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&plan.name)) {
                return Err(format!("{} is named twice", plan.name));
            }
        }
        Ok(plans)
    }
}

/// The member after `index` others of this machine.
fn here(index: usize) -> Plan {
    let step = u16::try_from(index).unwrap_or(0);
    let [client, quorum, election] = PORTS.map(|port| port + step);
    let client = format!("127.0.0.1:{client}");
    let line = format!("127.0.0.1:{quorum}:{election};{client}");
    Plan { name: (index + 1).to_string(), line, client }
}

fn on(host: &str) -> Result<Plan, String> {
    let is_address = host.parse::<Ipv6Addr>().is_ok();
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_name = host.bytes().all(is_letter) && host.starts_with(|c: char| c != '.' && c != '-');
    if !is_address && !is_name {
        return Err(format!("`{host}` is neither a host name nor an address"));
    }
    let shown = if is_address { format!("[{host}]") } else { host.to_owned() };
    let [client, quorum, election] = PORTS;
    let line = format!("{shown}:{quorum}:{election};{client}");
    Ok(Plan { name: host.to_owned(), line, client: format!("{shown}:{client}") })
}

/// Writes a directory for each member below `dir`: `zoo.cfg`, and `data` with `myid` and the file
/// `initialize`, without which a member with an empty directory has no say before it has got
/// everything from a leader. Returns what to do next.
///
/// # Errors
/// What is wrong with the request, or which file could not be written. What was written before that
/// stays.
pub fn init(dir: &Path, members: &Members) -> Result<String, String> {
    let plans = members.plans()?;
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| format!("cannot write {path}: {e}")
    };
    let homes: Vec<PathBuf> = plans.iter().map(|plan| dir.join(&plan.name)).collect();
    if let Some(there) = homes.iter().find(|home| fs::symlink_metadata(home).is_ok()) {
        return Err(format!("{} is there already, and stays as it is", there.display()));
    }
    fs::create_dir_all(dir).map_err(failed(dir))?;
    for (index, home) in homes.iter().enumerate() {
        // Not over what somebody else has made since.
        fs::create_dir(home).map_err(failed(home))?;
        let data = match members {
            Members::Here(_) => std::path::absolute(home).map_err(failed(home))?.join("data"),
            // The directory is about to be copied somewhere.
            Members::On(_) => PathBuf::from("./data"),
        };
        let data_dir = data.to_str().ok_or_else(|| format!("{} is not UTF-8", data.display()))?;
        let (config, id) = (home.join("zoo.cfg"), home.join("data/myid"));
        let is_new = home.join("data/initialize");
        write_new(&config, &zoo_cfg(index, data_dir, &plans)).map_err(failed(&config))?;
        fs::create_dir(home.join("data")).map_err(failed(&home.join("data")))?;
        write_new(&id, &format!("{}\n", index + 1)).map_err(failed(&id))?;
        write_new(&is_new, "").map_err(failed(&is_new))?;
    }
    Ok(next_steps(&homes, members, &plans))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn zoo_cfg(index: usize, data_dir: &str, plans: &[Plan]) -> String {
    let mut text = format!(
        "# Server {} of {}. `ringkeeper check zoo.cfg` tells what each line means.\n\
         # The server.N lines are the same at every member; the file myid in dataDir says which\n\
         # one is this: server.N=host:port for learners:port for votes;port for clients.\n\
         dataDir={}\n\
         tickTime=2000\n\
         initLimit=10\n\
         syncLimit=5\n\
         autopurge.purgeInterval=24\n\
         # Emptied later, it does not vote before it has everything from a leader again.\n\
         db.autocreate=false\n\
         4lw.commands.whitelist=srvr,stat,mntr,ruok,hash\n",
        index + 1,
        plans.len(),
        escaped(data_dir)
    );
    for (index, plan) in plans.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "server.{}={}", index + 1, plan.line);
    }
    text
}

fn next_steps(homes: &[PathBuf], members: &Members, plans: &[Plan]) -> String {
    let mut text = String::new();
    match members {
        Members::Here(_) => {
            text.push_str("Start each of them, for instance in a terminal of its own:\n");
            for home in homes {
                let _ = writeln!(text, "  ringkeeper {}", home.join("zoo.cfg").display());
            }
        }
        Members::On(_) => {
            text.push_str("Copy each directory to its host, and start the server inside it:\n");
            for (home, plan) in homes.iter().zip(plans) {
                let _ = writeln!(text, "  {} to {}", home.display(), plan.name);
            }
            text.push_str("  ringkeeper zoo.cfg\n");
        }
    }
    let clients: Vec<&str> = plans.iter().map(|plan| plan.client.as_str()).collect();
    let _ = writeln!(text, "Clients connect to {}", clients.join(","));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, RawConfig, Settings, check};

    /// What a start from `home` would go by, without a single warning.
    fn settings(home: &Path) -> Settings {
        let config = home.join("zoo.cfg");
        let mut raw = RawConfig::new();
        raw.add_file("zoo.cfg", &fs::read(&config).unwrap());
        let id = raw.my_id_file().unwrap();
        raw.add_my_id(&id, fs::read(home.join(&id)).map_err(|e| e.to_string()));
        let (settings, warnings) = check(&raw, &Environment::default()).into_settings().unwrap();
        assert_eq!(warnings, []);
        settings
    }

    #[test]
    fn members_of_one_machine_have_ports_of_their_own() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("trial é");
        let said = init(&dir, &Members::Here(3)).unwrap();
        assert!(said.contains(&format!("  ringkeeper {}/2/zoo.cfg\n", dir.display())), "{said}");
        assert!(said.ends_with("127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183\n"), "{said}");
        for number in 1..=3_u16 {
            let found = settings(&dir.join(number.to_string()));
            let ensemble = found.ensemble.clone().unwrap();
            assert_eq!(ensemble.sid.0, i64::from(number));
            assert_eq!(ensemble.membership.quorums().voters().len(), 3);
            assert_eq!((found.client_host.as_deref(), found.client_port), {
                (Some("127.0.0.1"), 2180 + number)
            });
            assert_eq!(found.storage.data_dir, dir.join(number.to_string()).join("data"));
            assert!(!found.storage.is_db_autocreate);
            assert!(found.storage.data_dir.join("initialize").exists());
            // Documents have an operator ask these.
            assert_eq!(found.four_letter_words, ["hash", "mntr", "ruok", "srvr", "stat"]);
        }
    }

    #[test]
    fn members_of_several_hosts_find_their_data_beside_their_configuration() {
        let home = tempfile::tempdir().unwrap();
        let hosts = ["zk-1.example.org", "10.0.0.2", "fe80::3"].map(str::to_owned).to_vec();
        init(home.path(), &Members::On(hosts)).unwrap();
        let found = settings(&home.path().join("fe80::3"));
        assert_eq!(found.storage.data_dir, Path::new("./data"));
        let ensemble = found.ensemble.unwrap();
        assert_eq!(ensemble.this().unwrap().to_string(), {
            "[fe80::3]:2888:3888:participant;0.0.0.0:2181"
        });
    }

    #[test]
    fn nothing_that_is_there_is_touched() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("2")).unwrap();
        let error = init(home.path(), &Members::Here(3)).unwrap_err();
        assert!(error.ends_with("/2 is there already, and stays as it is"), "{error}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_ensemble_is_refused() {
        let error = |members: Members| init(Path::new("/dev/null/none"), &members).unwrap_err();
        let on = |hosts: &[&str]| Members::On(hosts.iter().map(ToString::to_string).collect());
        for count in [0, 1, 256, usize::MAX] {
            assert!(error(Members::Here(count)).contains("2 to 255 members"), "{count}");
        }
        assert!(error(on(&["a"])).contains("2 to 255 members"));
        assert_eq!(error(on(&["a", "b", "A"])), "A is named twice");
        for host in ["", "..", "a/b", "a:1", "a;b", "-a", "a b", "é"] {
            assert!(error(on(&["b", host])).contains("neither a host name nor"), "{host}");
        }
        assert!(error(on(&["a", "b"])).starts_with("cannot write /dev/null/none: "));
    }
}
