//! Real processes: killed, stopped, starved of disk, flooded, fed with broken files, and moved
//! between Apache ZooKeeper and Ringkeeper.
//!
//! Every test starts servers of its own on directories of its own. What needs a privilege or a
//! tool fails with its name where that is missing; nothing is skipped in silence.

mod apache;
mod bench;
mod command_line;
mod crash;
mod directory;
mod disk_full;
mod ensemble;
mod from_apache;
mod limits;
mod load;
mod messages;
mod orphans;
mod presence;
mod recovery;
mod regress;
mod shutdown;
