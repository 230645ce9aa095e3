//! Which processes listen on a port, as far as this user may see: only root sees the processes of
//! other users.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process that listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Its id.
    pub pid: u32,
    /// Name of its program.
    pub name: String,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The processes that listen on a TCP port, on any address.
pub fn listeners(port: u16) -> Vec<Listener> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| listening_inode(line, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !sockets.is_empty() && has_any(&process.path(), &sockets) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(Listener { pid, name: name.trim().to_owned() });
        }
    }
    found
}

/// The inode in a line of `/proc/net/tcp`, if it is of a socket that listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (_, local_port) = local.rsplit_once(':')?;
    (*state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port)).then_some(*inode)
}

fn has_any(process: &Path, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets
        .into_iter()
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = "   0: 0100007F:0885 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                    0        0 20983 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listening_inode(line, 2181), Some("20983"));
        assert_eq!(listening_inode(line, 2182), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), 2181), None);
        assert_eq!(listening_inode("  sl  local_address rem_address   st", 2181), None);
        assert_eq!(listening_inode("", 2181), None);
    }
}
