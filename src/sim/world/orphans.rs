//! A data directory with ephemerals of sessions that do not exist, at paths that clients use.

use crate::log::SnapshotWriter;
use crate::wire::PersistedStat;

use super::{Checked, World};

/// Position of the planted snapshot. Not 0: then the log alone would be taken for everything.
const AT: i64 = 5;
const OWNERS: [i64; 2] = [0xbad, 0x100_0000_0bad];

impl World {
    /// Puts a snapshot on the empty disk. Each start must give its nodes until a transaction has
    /// taken them away, and from then on none of them.
    pub(super) fn plant_orphans(&mut self, host: usize) -> Checked {
        if !self.swarm.orphans {
            return Ok(());
        }
        let mut out = Vec::new();
        let mut writer = SnapshotWriter::begin([].into_iter(), [].into_iter(), &mut out);
        let [one, two] = OWNERS;
        let nodes = [("", 0), ("/r0", one), ("/r1", 0), ("/r1/k0", two), ("/e0", one)];
        for (path, owner) in nodes {
            let cversion = if ["", "/r1"].contains(&path) { 3 } else { 0 };
            let stat =
                PersistedStat { ephemeral_owner: owner, cversion, ..PersistedStat::default() };
            writer.node(path, Some(b"old"), -1, &stat, &mut out);
        }
        writer.finish(None, None, &mut out);
        let planted = self.hosts[host].files.disk().plant(&format!("snapshot.{AT:x}"), &out);
        planted.map_err(|e| self.wrong_at(host, format!("no disk to begin with: {e:?}")))?;
        self.books.begin_at(host, AT);
        Ok(())
    }
}
