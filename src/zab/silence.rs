//! When a leader that says nothing counts as gone.
//!
//! Apache's learners wait for `syncLimit` ticks, ten seconds by default, because its leader
//! sends a PING each half tick and nothing else when there is nothing new. A leader of ours
//! that has nothing to say to a learner of ours repeats its last COMMIT after [`BEAT`]. So the
//! learner knows how often to expect something, and a leader whose machine has stopped, or
//! whose packets are dropped, is left in a fraction of a second. A connection that ends says so
//! at once, and needs none of this.
//!
//! A leader whose loop is held up is not gone: a turn may take as long as the longest piece of work
//! that is not divided, and a busy machine may let a loop wait. Meanwhile something beside the loop
//! sends BEATs (`Effect::KeepAlive`), for a part of `syncLimit` at most. So a machine that has
//! stopped is noticed within a second, and a loop that does not go on within `syncLimit`. Rejected:
//! announcing long work before it begins, which has to foresee each kind of it and how busy the
//! machine is; and growing patience alone, which comes after the first leader was lost for nothing.
//!
//! How long is too long follows from the mean interval between what came so far, as in failure
//! detectors that adapt (Chen, Toueg and Aguilera, DSN 2000): a leader that is often held up is
//! given more time. For example: under load something comes each millisecond, and the leader is
//! left after 408 ms; with nothing to do it comes each 100 ms, and that is 1.2 s. The mean forgets
//! a pause within milliseconds of load, so the longest one of the last minute counts, too: a leader
//! that has just been silent for 300 ms is left after 608 ms.

use std::time::Duration;

use crate::base::{Instant, Mark, mark};

/// The longest interval between two packets of a leader of ours that is not held up.
pub(super) const BEAT: Duration = Duration::from_millis(100);

/// A leader may be held up for so long at any time: twice the pauses that hypervisors, page reclaim
/// and a busy disk are known for.
const PAUSE: Duration = Duration::from_millis(400);

/// Mean intervals that are waited for on top of it.
const INTERVALS: u32 = 8;

/// How long the longest interval counts.
const MEMORY: Duration = Duration::from_secs(60);

/// The mean's weight: an interval counts for one in this number.
const WEIGHT: u32 = 8;

/// A look that comes later than asked for by this much says that this server was held up itself.
const LATE: Duration = Duration::from_millis(20);

/// The silence of one leader.
///
/// Invariant: it ends after `heard_at`.
#[derive(Debug)]
pub(super) struct Silence {
    heard_at: Instant,
    ends_at: Instant,
    /// Mean interval between what came; `None` where the leader does not promise any.
    mean: Option<Duration>,
    /// The longest interval of the last minute, and when it ended.
    longest: (Duration, Instant),
    /// Once since something came, this server was held up itself.
    was_excused: bool,
}

impl Silence {
    /// The leader is asked for something now and has `limit` to answer.
    pub fn new(now: Instant, limit: Duration) -> Silence {
        let (longest, was_excused) = ((Duration::ZERO, now), false);
        Silence { heard_at: now, ends_at: now + limit, mean: None, longest, was_excused }
    }

    /// From now on the leader sends something at short intervals.
    pub fn expect_beats(&mut self) {
        self.mean = Some(BEAT);
    }

    /// Something came. The leader may be silent for `limit` at most.
    pub fn heard(&mut self, now: Instant, limit: Duration) {
        let interval = now.since(self.heard_at);
        (self.heard_at, self.was_excused) = (now, false);
        let Some(mean) = &mut self.mean else {
            self.ends_at = now + limit;
            return;
        };
        // What comes in one turn of the loop came together.
        if !interval.is_zero() {
            *mean = (*mean * (WEIGHT - 1) + interval.min(limit)) / WEIGHT;
        }
        let (longest, ended_at) = self.longest;
        if interval >= longest || now.since(ended_at) > MEMORY {
            // A longer one is a pause of this server, or the leader would have been left.
            self.longest = (interval.min(PAUSE), now);
        }
        let pause = PAUSE.max(self.longest.0 * 2);
        self.ends_at = now + (pause + *mean * INTERVALS).min(limit);
    }

    /// When it has lasted too long.
    pub fn ends_at(&self) -> Instant {
        self.ends_at
    }

    /// How long it lasts, if that is too long.
    ///
    /// A server that was held up itself has to look at what came meanwhile first: it waits once
    /// more.
    pub fn check(&mut self, now: Instant) -> Option<Duration> {
        if now < self.ends_at {
            return None;
        }
        let is_excused = self.mean.is_some() && !self.was_excused && now.since(self.ends_at) > LATE;
        if is_excused {
            mark(Mark::HeldUpItself);
            (self.was_excused, self.ends_at) = (true, now + PAUSE);
            return None;
        }
        Some(now.since(self.heard_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn at(ms: u64) -> Instant {
        Instant::from_ms(ms)
    }

    /// One who hears something each `interval` ms; returns it with the time of the last one.
    fn hearing(interval: u64) -> (Silence, u64) {
        let mut silence = Silence::new(at(0), LIMIT);
        silence.expect_beats();
        for nth in 0..1_000 {
            assert_eq!(silence.check(at(nth * interval)), None);
            silence.heard(at(nth * interval), LIMIT);
        }
        (silence, 999 * interval)
    }

    fn lasts(silence: &Silence, since: u64) -> Duration {
        silence.ends_at().since(at(since))
    }

    #[test]
    fn a_leader_that_promises_nothing_has_the_whole_limit() {
        let mut silence = Silence::new(at(0), LIMIT);
        silence.heard(at(50), LIMIT);
        assert_eq!(silence.check(at(10_049)), None);
        assert_eq!(silence.check(at(10_050)), Some(LIMIT));
    }

    #[test]
    fn a_busy_leader_is_left_within_half_a_second_and_an_idle_one_within_one_and_a_half() {
        let (busy, last) = hearing(1);
        assert!(lasts(&busy, last) < Duration::from_millis(450), "{busy:?}");
        let (idle, last) = hearing(100);
        assert!(lasts(&idle, last) < Duration::from_millis(1_250), "{idle:?}");
    }

    /// Under load, and when load has just ended.
    #[test]
    fn a_pause_of_200_ms_is_no_end() {
        let (mut busy, last) = hearing(1);
        for nth in 1..100 {
            let now = at(last + nth * 300);
            assert_eq!(busy.check(now), None, "{nth}");
            busy.heard(now, LIMIT);
        }
    }

    /// A machine that pauses is likely to do so again, for longer, when it is busy besides.
    #[test]
    fn a_pause_is_remembered_for_a_minute() {
        let (mut busy, last) = hearing(1);
        let mut now = last + 300;
        busy.heard(at(now), LIMIT);
        let hear_until = |busy: &mut Silence, now: &mut u64, until: u64| {
            while *now < until {
                *now += 1;
                assert_eq!(busy.check(at(*now)), None);
                busy.heard(at(*now), LIMIT);
            }
        };
        hear_until(&mut busy, &mut now, last + 300 + 60_000);
        assert_eq!(lasts(&busy, now).as_millis(), 608);
        hear_until(&mut busy, &mut now, last + 300 + 60_001);
        assert_eq!(lasts(&busy, now).as_millis(), 408);
        now += 5_000;
        busy.heard(at(now), LIMIT);
        let until = now + 100;
        hear_until(&mut busy, &mut now, until);
        assert_eq!(lasts(&busy, now).as_millis(), 808, "one of its own is not the leader's");
    }

    #[test]
    fn a_leader_that_is_often_held_up_has_more_time_but_never_more_than_the_limit() {
        let (slow, last) = hearing(350);
        assert!(lasts(&slow, last) > Duration::from_secs(3), "{slow:?}");
        let mut silence = hearing(350).0;
        silence.heard(at(last + 9_000), Duration::from_millis(700));
        assert_eq!(lasts(&silence, last + 9_000), Duration::from_millis(700));
    }

    #[test]
    fn a_server_that_was_held_up_itself_looks_twice() {
        let (mut silence, last) = hearing(1);
        let woken = last + 5_000;
        assert_eq!(silence.check(at(woken)), None, "it has not read what came meanwhile");
        assert_eq!(silence.check(at(woken + 399)), None);
        assert!(silence.check(at(woken + 400)).is_some());
        // On time it is not held up.
        let (mut silence, _) = hearing(1);
        let ends_at = silence.ends_at();
        assert!(silence.check(ends_at).is_some());
    }
}
