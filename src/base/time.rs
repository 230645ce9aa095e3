//! Time as the core sees it: handed in, never read.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Whole milliseconds since the clock's start.
    pub fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The instant `ms` milliseconds after the clock's start.
    pub fn from_ms(ms: u64) -> Instant {
        Instant(ms.saturating_mul(1_000_000))
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, rhs: Instant) -> Duration {
        self.since(rhs)
    }
}

/// The two clocks of one moment: monotonic for deadlines, wall for times that are stored or shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic clock.
    pub mono: Instant,
    /// Milliseconds since the Unix epoch (`ctime`, `mtime`, `est=`).
    pub wall_ms: i64,
}
