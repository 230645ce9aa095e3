//! What a start would find: everything that the configuration names outside of itself. Nothing is
//! changed.
//!
//! [`preflight`] comes first in every start and in `ringkeeper check`, so that both say the same,
//! with the line that is to be corrected: directories, the JAAS file, the address of the client
//! port, the kernel's rings. [`foresee_start`] belongs to `check` only: a directory in use, no
//! room, a port that is taken. A start just tries, because it may wait or make room. Damaged files
//! show only at the start.

use std::fs;
use std::io;
use std::path::Path;

use crate::auth::{Auth, AuthOptions, Jaas, parse_jaas};
use crate::config::{Finding, Settings, Verdict};
use crate::disk::{DirError, closed_file, foresee_epochs, foresee_lock, foresee_room};
use crate::log::Party;
use crate::sys::file::{is_of_kernel, may_write};

use super::boot::segment_size;
use super::host;
use super::listen::{self, CANNOT_LISTEN};
use super::listeners::{Listener, listeners};
use super::member_ports;
use super::rings;

/// Exit code of a data directory that cannot be used.
const UNUSABLE_DIR: u8 = 3;

/// Findings that keep a server with these settings from starting, or from doing what they ask for.
/// An empty directory name is passed over: the configuration's own check has reported it.
pub fn preflight(settings: &Settings) -> Vec<Finding> {
    let storage = &settings.storage;
    let mut found = Vec::new();
    found.extend(rings::preflight(settings));
    found.extend(address(settings));
    found.extend(jaas_file(settings));
    let autocreate = storage.is_datadir_autocreate;
    found.extend(directory("dataDir", &storage.data_dir, autocreate));
    if storage.data_log_dir != storage.data_dir {
        found.extend(directory("dataLogDir", &storage.data_log_dir, autocreate));
    }
    found
}

/// Findings beyond [`preflight`] that a start at this moment would meet. A server that runs on the
/// directory is only noted: its operator checks what a start would find once it has ended. So what
/// ends with that server is no error.
pub fn foresee_start(settings: &Settings) -> Vec<Finding> {
    let storage = &settings.storage;
    let (data_dir, log_dir) = (&storage.data_dir, &storage.data_log_dir);
    let mut found = Vec::new();
    if data_dir.as_os_str().is_empty() {
        return found;
    }
    let user = foresee_lock(data_dir);
    let log_user = (log_dir != data_dir).then(|| foresee_lock(log_dir)).flatten();
    // Where Apache leaves its mark there is its dataDir.
    let log_user = log_user.filter(|user| matches!(user, DirError::Locked { .. }));
    let stranger =
        log_user.filter(|log_user| user.as_ref().is_none_or(|user| user.user() != log_user.user()));
    if let Some(stranger) = &stranger {
        found.push(finding("dataLogDir", UNUSABLE_DIR, stranger.to_string(), ""));
    }
    match &user {
        Some(user) => found.push(Finding {
            key: "dataDir".into(),
            what: user.to_string(),
            hint: "until then a start is refused".to_owned(),
            verdict: Verdict::Noted,
        }),
        None if stranger.is_some() => {}
        None => {
            let key = if log_dir == data_dir { "dataDir" } else { "dataLogDir" };
            let full = foresee_room(log_dir, segment_size(settings)).err();
            found.extend(full.map(|e| finding(key, UNUSABLE_DIR, e.to_string(), "")));
            found.extend(epochs(settings));
        }
    }
    // What cannot be resolved has been said.
    if let Ok(at) = listen::resolve(settings)
        && let Err(refusal) = listen::probe_while_taken(at)
        && refusal.is_taken()
    {
        let who = listeners(settings.client_port);
        if !is_its_own(user.as_ref(), &who) {
            let advice = refusal.advice(&who);
            found.push(finding(refusal.key, CANNOT_LISTEN, refusal.what(), &advice));
        }
    }
    if let Some(ensemble) = &settings.ensemble {
        found.extend(member_ports::foresee(ensemble, user.is_some()));
    }
    found
}

/// What is wrong with the epoch files. Only members need them.
fn epochs(settings: &Settings) -> Option<Finding> {
    let (party, hint, verdict) = match settings.ensemble {
        None => (Party::Alone, "a server alone starts all the same", Verdict::Noted),
        Some(_) => (Party::Member, "", Verdict::Refused { exit_code: UNUSABLE_DIR }),
    };
    let error = foresee_epochs(&settings.storage.data_dir.join("version-2"), party)?;
    let (key, hint) = ("dataDir".into(), hint.to_owned());
    Some(Finding { key, what: error.to_string(), hint, verdict })
}

/// Whether the directory's user is the one that listens; assumed if that user cannot be seen.
fn is_its_own(user: Option<&DirError>, listeners: &[Listener]) -> bool {
    let Some(user) = user else { return false };
    let Some(pid) = user.user() else { return true };
    listeners.is_empty() || listeners.iter().any(|listener| listener.pid == pid)
}

fn finding(key: &'static str, exit_code: u8, what: String, hint: &str) -> Finding {
    let key = key.into();
    Finding { key, what, hint: hint.to_owned(), verdict: Verdict::Refused { exit_code } }
}

/// Whether there is such an address here. That somebody else listens there is for later: at a start
/// this may be the predecessor, which is about to be gone.
fn address(settings: &Settings) -> Option<Finding> {
    let address = match listen::resolve(settings) {
        Ok(address) => address,
        Err(what) => {
            let hint = "write an address of this machine or a name that leads to one, or remove \
                        it to listen on all addresses";
            return Some(finding("clientPortAddress", 2, what, hint));
        }
    };
    let refusal = listen::probe(address).err().filter(|refusal| !refusal.is_taken())?;
    Some(finding(refusal.key, CANNOT_LISTEN, refusal.what(), &refusal.advice(&[])))
}

fn jaas_file(settings: &Settings) -> Option<Finding> {
    let path = settings.auth.jaas_file.as_deref()?;
    let section = &settings.auth.jaas_section;
    let key = "java.security.auth.login.config";
    let jaas = read_jaas(path);
    if let Some(found) = jaas.as_ref().ok().and_then(|jaas| jaas.section(section)) {
        let options = AuthOptions { jaas_server: Some(found.clone()), ..AuthOptions::default() };
        let what = format!("{}: {}", path.display(), Auth::new(options).err()?);
        return Some(finding(key, 2, what, "or remove the property to do without SASL"));
    }
    let (what, hint, verdict) = match jaas {
        // COMPAT(3.9): it starts, and without a word. Nobody who sets the property means that.
        Ok(_) => (
            format!(
                "{} has no section {section} with a login module, so nobody can log in with SASL",
                path.display()
            ),
            "add it, or name the section that is meant with zookeeper.sasl.serverconfig",
            Verdict::Doubtful,
        ),
        Err(what) => (
            what,
            "correct the file or its name, or remove the property to do without SASL",
            Verdict::Refused { exit_code: 2 },
        ),
    };
    Some(Finding { key: key.into(), what, hint: hint.to_owned(), verdict })
}

/// Reads a JAAS file; the error names it.
pub(super) fn read_jaas(path: &Path) -> Result<Jaas, String> {
    let text = fs::read_to_string(path)
        .map_err(|e| format!("cannot read the JAAS file {}: {e}", path.display()))?;
    parse_jaas(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Looks at a directory, or at what it would be created in.
fn directory(key: &'static str, dir: &Path, autocreate: bool) -> Option<Finding> {
    if dir.as_os_str().is_empty() {
        return None;
    }
    let refuse = |what: String, hint: &str| Some(finding(key, UNUSABLE_DIR, what, hint));
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let version_dir = dir.join("version-2");
    // The nearest that exists: itself, or what it would be created in.
    for at in version_dir.ancestors() {
        let shown = at.display();
        match fs::metadata(at) {
            Ok(meta) if !meta.is_dir() => {
                let what = format!("{shown} is a file, not a directory");
                return refuse(what, "move the file away, or name another directory");
            }
            Ok(_) if at != version_dir && !autocreate => {
                let missing = if at == dir { &version_dir } else { &dir };
                let what =
                    format!("{} does not exist and datadir.autocreate is false", missing.display());
                return refuse(what, "create it, or correct the line");
            }
            Ok(_) if is_of_kernel(at) => {
                let what =
                    format!("{shown} only shows what the kernel knows: no file can be there");
                return refuse(what, "name a directory on a disk");
            }
            Ok(_) => {
                if let Err(denied) = may_write(at) {
                    let what = format!("{shown} cannot be written: {denied}");
                    return refuse(what, &writer_hint());
                }
                let (file, denied) = closed_file(&version_dir)?;
                let what = format!("{} cannot be opened: {denied}", file.display());
                let hint = format!(
                    "this runs as {}; a server that ran as another user has left it: give all of \
                     version-2 to one of them (chown -R), or run it as the other",
                    host::user_name()
                );
                return refuse(what, &hint);
            }
            Err(e) if is_absent(&e) => {}
            Err(e) => {
                let what = format!("{shown} cannot be looked at: {e}");
                return refuse(what, &writer_hint());
            }
        }
    }
    None
}

fn writer_hint() -> String {
    format!(
        "this runs as {}, who must be able to write there: change the owner or the mount, or run \
         it as another user",
        host::user_name()
    )
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_looked_at_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (file, dir) = (home.path().join("file"), home.path().join("dir"));
        fs::write(&file, b"").unwrap();
        let what = |dir: &Path, autocreate| {
            directory("dataDir", dir, autocreate).map_or(String::new(), |found| found.what)
        };
        assert_eq!(what(&dir, true), "");
        assert!(what(&dir, false).ends_with("dir does not exist and datadir.autocreate is false"));
        assert_eq!(what(&dir.join("a/b"), true), "");
        assert!(what(&file, true).ends_with("file is a file, not a directory"));
        assert!(what(&file.join("a"), true).ends_with("file is a file, not a directory"));
        assert!(what(Path::new("/proc/foo"), true).starts_with("/proc only shows"));
        assert!(!dir.exists());
        fs::create_dir(&dir).unwrap();
        assert!(what(&dir, false).contains("dir/version-2 does not exist"));
        fs::create_dir(dir.join("version-2")).unwrap();
        assert_eq!(what(&dir, false), "");
        assert_eq!(what(Path::new(""), true), "");
    }
}
