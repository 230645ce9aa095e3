//! File names in the `version-2` directories.

use crate::base::Zxid;

use super::Compression;

/// Name of the file that keeps Apache away, see `disk::guard`: to Apache the newest log there can
/// be. No log of Apache's has it, since no transaction is numbered so.
pub const GUARD_NAME: &str = "log.7fffffffffffffff";

/// What a file name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileName {
    /// `snapshot.<hex>[.anything]`
    Snapshot(Zxid),
    /// `log.<hex>[.anything]`: Apache's log.
    ApacheLog(Zxid),
    /// `wal.<hex>`: a native segment.
    Segment(Zxid),
    /// `spare.<hex>`: a preallocated segment, not named by its first transaction yet.
    Spare,
    /// `truncate.<hex>`: the log was decided to end with this transaction, see `truncate`.
    Truncate(Zxid),
    /// `received.<hex>[.anything]`: a snapshot that another member sent, see `retire`.
    Received(Zxid),
    /// `retire.<hex>`: the snapshot that was received at this position was decided to become the
    /// database, see `retire`.
    Retire(Zxid),
    /// A leftover of an unfinished write of ours: `snapshot.*.tmp`, `spare.*.tmp`.
    Temporary,
    /// Anything else.
    Other,
}

impl FileName {
    /// Parses as Apache does: split at dots, the second part hexadecimal, further parts ignored.
    pub fn parse(name: &str) -> FileName {
        let mut parts = name.split('.');
        let kind = parts.next().unwrap_or("");
        let zxid = parts.next().and_then(hex);
        let rest = parts.next_back();
        match (kind, zxid) {
            ("snapshot" | "spare", _) if rest == Some("tmp") => FileName::Temporary,
            ("snapshot", Some(zxid)) => FileName::Snapshot(zxid),
            ("log", Some(zxid)) => FileName::ApacheLog(zxid),
            ("wal", Some(zxid)) if rest.is_none() => FileName::Segment(zxid),
            ("spare", _) if rest.is_none() => FileName::Spare,
            ("truncate", Some(zxid)) if rest.is_none() => FileName::Truncate(zxid),
            ("received", Some(zxid)) => FileName::Received(zxid),
            ("retire", Some(zxid)) if rest.is_none() => FileName::Retire(zxid),
            _ => FileName::Other,
        }
    }
}

fn hex(text: &str) -> Option<Zxid> {
    i64::from_str_radix(text, 16).ok().filter(|z| *z >= 0).map(Zxid)
}

/// Name of the snapshot at `zxid`.
pub fn snapshot_name(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{zxid}{}", compression.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_as_apache_parses_them() {
        for (name, want) in [
            ("snapshot.1f", FileName::Snapshot(Zxid(0x1f))),
            ("snapshot.1f.gz", FileName::Snapshot(Zxid(0x1f))),
            ("snapshot.1f.tmp", FileName::Temporary),
            ("snapshot.1f.snappy.tmp", FileName::Temporary),
            ("snapshot.xyz", FileName::Other),
            ("log.100000001", FileName::ApacheLog(Zxid(0x1_0000_0001))),
            ("log.1f.bak", FileName::ApacheLog(Zxid(0x1f))),
            ("log.", FileName::Other),
            ("wal.a", FileName::Segment(Zxid(10))),
            ("wal.a.bak", FileName::Other),
            ("spare.12", FileName::Spare),
            ("spare.12.tmp", FileName::Temporary),
            ("truncate.a", FileName::Truncate(Zxid(10))),
            ("truncate.a.bak", FileName::Other),
            ("received.a", FileName::Received(Zxid(10))),
            ("received.a.gz", FileName::Received(Zxid(10))),
            ("retire.a", FileName::Retire(Zxid(10))),
            ("retire.a.bak", FileName::Other),
            ("currentEpoch.tmp", FileName::Other),
            ("myid", FileName::Other),
        ] {
            assert_eq!(FileName::parse(name), want, "{name}");
        }
    }
}
