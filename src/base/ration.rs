//! One line for many equal complaints: what happens a thousand times a second would bury the rest
//! of the log and fill the disk. Corresponds to `RateLogger`.

use std::fmt;
use std::time::Duration;

use super::Instant;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Complaints of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ration {
    /// When the next line may be written.
    next: Instant,
    held_back: u64,
}

/// How many complaints there were since the last line; for the end of the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct More(u64);

impl Ration {
    /// There is something to complain about: `None` if it is not to be written.
    pub fn take(&mut self, now: Instant) -> Option<More> {
        self.take_many(now, 1)
    }

    /// There are `count` equal complaints, of which one at most is to be written.
    pub fn take_many(&mut self, now: Instant, count: u64) -> Option<More> {
        if count == 0 {
            return None;
        }
        if now < self.next {
            self.held_back += count;
            return None;
        }
        self.next = now + PAUSE;
        Some(More(std::mem::take(&mut self.held_back) + count - 1))
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_counts_the_others() {
        let mut ration = Ration::default();
        let mut at = |ms: u64| ration.take(Instant(0) + Duration::from_millis(ms));
        assert_eq!(at(1).map(|more| more.to_string()).as_deref(), Some(""));
        assert_eq!((2..9_000).filter_map(&mut at).count(), 0);
        let more = at(10_001).map(|more| more.to_string());
        assert_eq!(more.as_deref(), Some(" (and 8998 more since the last such line)"));
        assert_eq!(at(20_000), None);
        assert_eq!(at(30_000), Some(More(1)));
    }

    #[test]
    fn of_many_at_once_one_is_written_and_the_others_are_counted() {
        let mut ration = Ration::default();
        let mut at =
            |ms: u64, count| ration.take_many(Instant(0) + Duration::from_millis(ms), count);
        assert_eq!(at(0, 0), None);
        assert_eq!(at(0, 100_000), Some(More(99_999)));
        assert_eq!(at(1, 5), None);
        assert_eq!(at(10_000, 1), Some(More(5)));
    }
}
