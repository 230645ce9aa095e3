//! How long transactions take on their way between members, as one of them sees it.

use super::Histogram;

/// Measures how long it takes until a mark that only rises has reached a number, for one number at
/// a time: the next measurement begins when the last one is over, so that nothing gathers however
/// much is under way. Times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// The number that is waited for, and since when.
    awaited: Option<(i64, u64)>,
    times: Histogram,
}

impl Pace {
    /// Something with this number begins its way now.
    pub fn begin(&mut self, number: i64, now_us: u64) {
        self.awaited.get_or_insert((number, now_us));
    }

    /// Everything up to this number has got there.
    #[inline]
    pub fn reached(&mut self, number: i64, now_us: u64) {
        if let Some((awaited, since)) = self.awaited
            && awaited <= number
        {
            self.times.record(now_us.saturating_sub(since));
            self.awaited = None;
        }
    }

    /// What is under way does not get there.
    pub fn give_up(&mut self) {
        self.awaited = None;
    }

    /// The times so far.
    pub fn times(&self) -> &Histogram {
        &self.times
    }
}

/// What a member shows of the way of transactions from the leader to the others, in its present
/// term.
#[derive(Clone, Debug, Default)]
pub struct WayFigures {
    /// As a leader: from a proposal until a quorum has it on its disks.
    pub quorum: Histogram,
    /// As a leader: until each voter has it on its disk, by its number in `myid`.
    pub voters: Vec<(i64, Histogram)>,
    /// As a learner: transactions that came.
    pub proposals: u64,
    /// As a learner: those that the leader has called committed.
    pub commits: u64,
    /// As a learner: from the leader's clock at a transaction to its own when it came.
    pub proposal: Histogram,
    /// As a learner: the same for its commit.
    pub commit: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_is_measured_at_a_time() {
        let mut pace = Pace::default();
        pace.reached(5, 1);
        assert_eq!(pace.times().summary().count, 0, "nothing has begun");
        pace.begin(7, 100);
        pace.begin(9, 200);
        pace.reached(6, 300);
        assert_eq!(pace.times().summary().count, 0);
        pace.reached(8, 450);
        pace.reached(9, 999);
        assert_eq!((pace.times().summary().count, pace.times().summary().max), (1, 350));
        pace.begin(10, 1_000);
        pace.give_up();
        pace.begin(11, 2_000);
        pace.reached(11, 2_010);
        assert_eq!((pace.times().summary().count, pace.times().summary().least()), (2, 10));
    }
}
