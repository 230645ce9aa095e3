//! A look at what the configuration names outside of itself, which changes nothing: directories,
//! the JAAS file, the address of the client port. `ringkeeper check` and every start begin with it,
//! so that both say the same, with the line that is to be corrected.
//!
//! What only the attempt can tell (a port that is taken, damaged files) is left to the start.

use std::fs;
use std::io;
use std::path::Path;

use crate::auth::{Jaas, parse_jaas};
use crate::config::{Finding, Settings};
use crate::sys::file::{is_of_kernel, may_write};

use super::listen;

/// What keeps a server with these settings from starting, or from doing what they ask for. An empty
/// directory name is passed over: that it is missing was said before.
pub fn look(settings: &Settings) -> Vec<Finding> {
    let storage = &settings.storage;
    let mut found = Vec::new();
    if let Err(what) = listen::resolve(settings) {
        let hint = "write an address of this machine or a name that leads to one, or remove it \
                    to listen on all addresses";
        found.push(finding("clientPortAddress", 2, what, hint));
    }
    found.extend(jaas_file(settings));
    let autocreate = storage.is_datadir_autocreate;
    found.extend(directory("dataDir", &storage.data_dir, autocreate));
    if storage.data_log_dir != storage.data_dir {
        found.extend(directory("dataLogDir", &storage.data_log_dir, autocreate));
    }
    found
}

fn finding(key: &'static str, exit_code: u8, what: String, hint: &str) -> Finding {
    Finding { key, what, hint: hint.to_owned(), exit_code: Some(exit_code) }
}

fn jaas_file(settings: &Settings) -> Option<Finding> {
    let path = settings.auth.jaas_file.as_deref()?;
    let section = &settings.auth.jaas_section;
    let (what, hint, exit_code) = match read_jaas(path) {
        Ok(jaas) if jaas.section(section).is_some() => return None,
        // COMPAT(3.9): it starts, and without a word. Nobody who sets the property means that.
        Ok(_) => (
            format!(
                "{} has no section {section} with a login module, so nobody can log in with SASL",
                path.display()
            ),
            "add it, or name the section that is meant with zookeeper.sasl.serverconfig",
            None,
        ),
        Err(what) => (
            what,
            "correct the file or its name, or remove the property to do without SASL",
            Some(2),
        ),
    };
    Some(Finding { key: "java.security.auth.login.config", what, hint: hint.to_owned(), exit_code })
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
    let refuse = |what: String, hint: &str| Some(finding(key, 3, what, hint));
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
                let denied = may_write(at).err()?;
                let what = format!("{shown} cannot be written: {denied}");
                return refuse(what, "the server's user must be able to write there");
            }
            Err(e) if is_absent(&e) => {}
            Err(e) => {
                let what = format!("{shown} cannot be looked at: {e}");
                return refuse(what, "the server's user must be able to write there");
            }
        }
    }
    None
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
