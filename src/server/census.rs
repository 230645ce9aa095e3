//! Who is connected, over all network threads: the limits `maxClientCnxns` and `maxCnxns`.
//!
//! One count for all, so that the limits are exact however connections are spread. It is touched
//! only when a connection comes or goes. Corresponds to `ipMap` and `cnxns` of
//! `NIOServerCnxnFactory`.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::FixedMap;

/// See the module's introduction.
#[derive(Debug)]
pub struct Census {
    /// `maxClientCnxns`: connections per address; 0 for no limit.
    max_per_ip: u32,
    /// `maxCnxns`: connections in all; 0 for no limit.
    max_total: u32,
    /// Connections for which the process may open files.
    max_files: u32,
    counts: Mutex<Counts>,
}

/// Invariant: `total` is the sum of `per_ip`, which holds no zero.
#[derive(Debug, Default)]
struct Counts {
    total: u32,
    per_ip: FixedMap<IpAddr, u32>,
}

/// Why a connection may not stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooMany {
    /// The limit of all connections is reached, which is this number.
    InAll(u32),
    /// The limit of connections from its address is reached, which is this number.
    FromThere(u32),
    /// This number of connections leaves just the open files that the server itself needs.
    Files(u32),
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooMany::InAll(count) => write!(f, "{count} connections, maxCnxns reached"),
            TooMany::FromThere(count) => {
                write!(f, "{count} connections from there, maxClientCnxns reached")
            }
            TooMany::Files(count) => write!(
                f,
                "{count} connections, and the files that this process may still open are for log \
                 and snapshots; raise LimitNOFILE of its unit, or `ulimit -n`"
            ),
        }
    }
}

impl Census {
    /// Nobody is connected. A limit is a number of connections, as configured; 0 is no limit.
    pub fn new(max_per_ip: u32, max_total: u32) -> Census {
        Census { max_per_ip, max_total, max_files: u32::MAX, counts: Mutex::default() }
    }

    /// Takes no more than `max_files` connections, even if the configuration allows more.
    pub fn with_room(self, max_files: u32) -> Census {
        Census { max_files, ..self }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics between two changes that belong together.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, unless there are too many.
    pub fn enter(&self, ip: IpAddr) -> Result<(), TooMany> {
        let mut counts = self.counts();
        if self.max_total != 0 && counts.total >= self.max_total {
            return Err(TooMany::InAll(counts.total));
        }
        if counts.total >= self.max_files {
            return Err(TooMany::Files(counts.total));
        }
        let from_there = counts.per_ip.entry(ip).or_insert(0);
        if self.max_per_ip != 0 && *from_there >= self.max_per_ip {
            return Err(TooMany::FromThere(*from_there));
        }
        *from_there += 1;
        counts.total += 1;
        Ok(())
    }

    /// A connection that [`Census::enter`] counted is gone.
    pub fn leave(&self, ip: IpAddr) {
        let mut counts = self.counts();
        let Some(from_there) = counts.per_ip.get_mut(&ip) else { return };
        *from_there -= 1;
        if *from_there == 0 {
            counts.per_ip.remove(&ip);
        }
        counts.total -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn limits_are_exact_and_places_are_given_back() {
        let census = Census::new(2, 3);
        assert_eq!(census.enter(ip(1)), Ok(()));
        assert_eq!(census.enter(ip(1)), Ok(()));
        assert_eq!(census.enter(ip(1)), Err(TooMany::FromThere(2)));
        assert_eq!(census.enter(ip(2)), Ok(()));
        assert_eq!(census.enter(ip(3)), Err(TooMany::InAll(3)));
        census.leave(ip(1));
        assert_eq!(census.enter(ip(3)), Ok(()));
        for last in [1, 2, 3] {
            census.leave(ip(last));
        }
        assert!(census.counts().per_ip.is_empty());
        assert_eq!(census.counts().total, 0);
        // Who was never counted takes nobody's place.
        census.leave(ip(9));
        assert_eq!(census.counts().total, 0);
    }

    #[test]
    fn zero_is_no_limit() {
        let census = Census::new(0, 0);
        assert!((0..10_000).all(|_| census.enter(ip(1)).is_ok()));
    }

    #[test]
    fn files_are_a_limit_of_their_own() {
        let census = Census::new(0, 0).with_room(2);
        assert_eq!((census.enter(ip(1)), census.enter(ip(2))), (Ok(()), Ok(())));
        assert_eq!(census.enter(ip(3)), Err(TooMany::Files(2)));
        census.leave(ip(1));
        assert_eq!(census.enter(ip(3)), Ok(()));
    }

    #[test]
    fn fronts_on_threads_of_their_own_share_the_limits() {
        let census = Census::new(500, 0);
        let entered = || (0..1000).filter(|_| census.enter(ip(1)).is_ok()).count();
        let entered: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(entered)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(entered, 500);
    }
}
