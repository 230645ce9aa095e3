//! A host's two clocks: each has its own zero and runs a little too fast or too slow, and the wall
//! clock jumps.

use crate::base::{Instant, Now, Rng};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Parts per million.
const PPM: i128 = 1_000_000;
/// The wall clock of a host that is right when the run begins.
const WALL_MS: i64 = 1_700_000_000_000;

/// How far a run's clocks go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ClockOptions {
    /// Parts per million by which a clock is too fast or too slow at most.
    pub drift_ppm: u64,
    /// The wall clocks of hosts differ by at most this.
    pub wall_offset_ms: u64,
}

/// See the module's introduction. True time is the run's, in nanoseconds.
#[derive(Debug)]
pub(super) struct Clock {
    rng: Rng,
    /// What the monotonic clock showed at `since`.
    mono: u64,
    since: u64,
    mono_ppm: i64,
    wall_ms: i64,
    wall_ppm: i64,
}

fn drift(rng: &mut Rng, most: u64) -> i64 {
    rng.below(2 * most + 1) as i64 - most as i64
}

impl Clock {
    /// The clock of a host that is switched on at `now`.
    pub fn new(now: u64, options: ClockOptions, mut rng: Rng) -> Clock {
        let offset = drift(&mut rng, options.wall_offset_ms);
        let mut clock = Clock {
            mono: 0,
            since: now,
            mono_ppm: drift(&mut rng, options.drift_ppm),
            wall_ms: WALL_MS + offset,
            wall_ppm: drift(&mut rng, options.drift_ppm),
            rng,
        };
        clock.boot(now);
        clock
    }

    /// The machine starts anew: its monotonic clock begins anywhere.
    pub fn boot(&mut self, now: u64) {
        self.mono = self.rng.below(1 << 50) + SECOND;
        self.since = now;
    }

    /// What both show.
    pub fn at(&self, now: u64) -> Now {
        let wall_ms = self.wall_ms + scale(now, self.wall_ppm) as i64 / MS as i64;
        Now { mono: self.mono(now), wall_ms }
    }

    /// What the monotonic clock shows.
    pub fn mono(&self, now: u64) -> Instant {
        Instant(self.mono + scale(now - self.since, self.mono_ppm) as u64)
    }

    /// The first moment at which the monotonic clock shows this or more.
    pub fn when(&self, mono: Instant) -> u64 {
        let Some(ahead) = mono.0.checked_sub(self.mono) else { return self.since };
        let rate = PPM + i128::from(self.mono_ppm);
        let took = (i128::from(ahead) * PPM + rate - 1) / rate;
        self.since.saturating_add(u64::try_from(took).unwrap_or(u64::MAX))
    }

    /// The wall clock is set anew.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_ms += by_ms;
    }
}

fn scale(time: u64, ppm: i64) -> i128 {
    i128::from(time) * (PPM + i128::from(ppm)) / PPM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_when_the_clock_shows_it() {
        let options = ClockOptions { drift_ppm: 50_000, wall_offset_ms: 1_000 };
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut clock = Clock::new(SECOND, options, Rng::new(seed));
            for _ in 0..20 {
                let mono = Instant(clock.mono + rng.below(1_000 * SECOND));
                let when = clock.when(mono);
                assert!(clock.mono(when) >= mono);
                assert!(when == clock.since || clock.mono(when - 1) < mono);
            }
            assert_eq!(clock.when(Instant(0)), SECOND, "it is past already");
            clock.boot(9 * SECOND);
            assert_eq!(clock.when(clock.mono(9 * SECOND)), 9 * SECOND);
        }
    }
}
