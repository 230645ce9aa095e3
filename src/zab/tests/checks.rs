//! What must hold in a world of simulated servers.

use super::world::World;

impl World {
    /// What a server has applied is the beginning of the one sequence.
    pub(super) fn check_applied(&mut self, at: usize) -> Result<(), String> {
        let known = self.committed.len().min(self.nodes[at].applied.len());
        let from = known.saturating_sub(20);
        if self.nodes[at].applied[from..known] != self.committed[from..known] {
            return Err(format!("server {at} has applied another sequence"));
        }
        for place in known..self.nodes[at].applied.len() {
            let entry = self.nodes[at].applied[place].clone();
            if self.proposed.get(&entry.0) != Some(&entry.1) {
                return Err(format!("{:?} was never proposed so", entry.0));
            }
            let holders = self.nodes[..self.faults.servers]
                .iter()
                .filter(|node| node.disk.all().nth(place) == Some(&entry))
                .count();
            if holders <= self.faults.servers / 2 {
                return Err(format!("{:?} is committed, and {holders} disks have it", entry.0));
            }
            self.committed.push(entry);
            self.seen.commits += 1;
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate() {
            if node.disk.current > node.disk.accepted {
                return Err(format!("{at} has entered an epoch that it did not promise"));
            }
            let disk = node.disk.all().map(|entry| entry.0);
            if !disk.is_sorted() {
                return Err(format!("the log of {at} is out of order"));
            }
        }
        Ok(())
    }
}
