//! What a client was told about the one node that it alone sets. Every set raises the node's
//! version by one, and carries its number as data. So the versions in the replies show a set that
//! was acknowledged and is gone, and one that was done twice, also in the middle of a long run.
#![forbid(unsafe_code)]

/// The record of one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Book {
    /// Sets that were sent; the last one carries this number.
    pub sent: u64,
    /// Sets that were acknowledged.
    pub acknowledged: u64,
    /// The number of the last one that was acknowledged.
    last: u64,
    /// The version in its reply.
    version: u64,
    /// What is wrong so far.
    pub faults: Faults,
}

/// Counts of broken promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Sets that were acknowledged and are gone.
    pub missing: u64,
    /// Sets that were done more often than they were sent.
    pub doubled: u64,
    /// Nodes with the data of a set that was sent before the last acknowledged one.
    pub overtaken: u64,
}

impl Faults {
    /// Of both.
    pub fn and(self, other: Faults) -> Faults {
        Faults {
            missing: self.missing + other.missing,
            doubled: self.doubled + other.doubled,
            overtaken: self.overtaken + other.overtaken,
        }
    }

    /// Whether a promise was broken.
    pub fn any(self) -> bool {
        self != Faults::default()
    }
}

impl Book {
    /// The number of the next set.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Set `number` was acknowledged, with the node's `version` after it. Sets between the last one
    /// and this one whose fate is unknown may have been done, each once.
    pub fn acknowledge(&mut self, number: u64, version: u64) {
        self.compare(version, self.version + 1, number.saturating_sub(self.last));
        self.acknowledged += 1;
        self.last = number;
        self.version = version;
    }

    /// What the node looks like at the end, as a member shows it.
    pub fn at_the_end(&self, number: u64, version: u64) -> Faults {
        let mut end = Book { faults: Faults::default(), ..*self };
        end.compare(version, self.version, self.sent - self.last);
        end.faults.overtaken += u64::from(number < self.last);
        end.faults
    }

    /// `version` is at least `least`, and no more than `sets` above the last one.
    fn compare(&mut self, version: u64, least: u64, sets: u64) {
        self.faults.missing += least.saturating_sub(version);
        self.faults.doubled += version.saturating_sub(self.version + sets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(sets: &[(u64, u64)]) -> Book {
        let mut book = Book::default();
        for (number, version) in sets {
            while book.sent < *number {
                book.send();
            }
            book.acknowledge(*number, *version);
        }
        book
    }

    #[test]
    fn sets_of_unknown_fate_may_be_done_or_not() {
        // The second was lost, or the third, or none of them.
        for last in [(4, 2), (4, 3), (4, 4)] {
            let mut book = book(&[(1, 1), last]);
            assert_eq!(book.faults, Faults::default(), "{last:?}");
            assert_eq!(book.acknowledged, 2);
            book.send();
            for end in [(4, last.1), (5, last.1 + 1)] {
                assert!(!book.at_the_end(end.0, end.1).any(), "{last:?} {end:?}");
            }
        }
    }

    #[test]
    fn an_acknowledged_set_that_is_gone_is_noticed_by_the_next_one() {
        let faults = book(&[(1, 1), (2, 2), (3, 2)]).faults;
        assert_eq!(faults, Faults { missing: 1, ..Faults::default() });
    }

    #[test]
    fn a_set_that_was_done_twice_is_noticed() {
        assert_eq!(book(&[(1, 1), (2, 3)]).faults.doubled, 1);
        let end = book(&[(1, 1)]).at_the_end(1, 2);
        assert_eq!(end, Faults { doubled: 1, ..Faults::default() });
    }

    #[test]
    fn the_end_shows_what_is_gone_and_what_came_late() {
        let book = book(&[(1, 1), (2, 2), (3, 3)]);
        assert_eq!(book.at_the_end(1, 1), Faults { missing: 2, doubled: 0, overtaken: 1 });
        assert_eq!(book.at_the_end(2, 3), Faults { overtaken: 1, ..Faults::default() });
        assert_eq!(book.at_the_end(3, 3).and(book.at_the_end(2, 2)).missing, 1);
    }
}
