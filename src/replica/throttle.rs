//! The limit on new sessions: a bucket of tokens, with early drops at random if wanted
//! (`BlueThrottle`).
//!
//! Every ConnectRequest takes tokens; one that finds too few is refused. With a freeze time set,
//! requests are also refused with a probability that rises while the bucket is empty and falls
//! while it is full, as in the BLUE queue management algorithm. Probabilities and shares are whole
//! billionths, so that every machine decides alike.

use crate::base::{Instant, Rng};

/// A probability of 1, or a whole bucket.
pub const BILLION: u64 = 1_000_000_000;

/// Settings of the throttle, keys `connection_throttle_*`.
#[derive(Clone, Debug)]
pub struct ThrottleOptions {
    /// Size of the bucket in tokens; 0 is off.
    pub tokens: u64,
    /// Milliseconds in which `fill_count` tokens flow in; at least 1.
    pub fill_time_ms: u64,
    /// Tokens that flow in during `fill_time_ms`.
    pub fill_count: u64,
    /// Milliseconds between changes of the drop probability; `None` never drops early.
    pub freeze_time_ms: Option<u64>,
    /// Step up of the drop probability, billionths.
    pub drop_increase: u64,
    /// Step down of the drop probability, billionths.
    pub drop_decrease: u64,
    /// The drop probability falls while at most this share of the bucket is missing, billionths.
    pub decrease_ratio: u64,
    /// Tokens for a new session.
    pub new_session_weight: u64,
    /// Tokens for a renewed session.
    pub renew_session_weight: u64,
}

impl Default for ThrottleOptions {
    fn default() -> ThrottleOptions {
        ThrottleOptions {
            tokens: 0,
            fill_time_ms: 1,
            fill_count: 1,
            freeze_time_ms: None,
            drop_increase: BILLION / 50,
            drop_decrease: BILLION / 500,
            decrease_ratio: 0,
            new_session_weight: 1,
            renew_session_weight: 1,
        }
    }
}

/// See the module's introduction. Invariant: `tokens <= options.tokens`.
#[derive(Clone, Debug)]
pub struct ConnectionThrottle {
    options: ThrottleOptions,
    tokens: u64,
    /// Until when tokens have been credited, in ms.
    filled_ms: u64,
    /// When the drop probability was last looked at, in ms.
    frozen_ms: u64,
    /// Drop probability in billionths.
    drop: u64,
}

impl ConnectionThrottle {
    /// A full bucket.
    pub fn new(now: Instant, options: ThrottleOptions) -> ConnectionThrottle {
        ConnectionThrottle {
            tokens: options.tokens,
            filled_ms: now.as_ms(),
            frozen_ms: now.as_ms(),
            drop: 0,
            options,
        }
    }

    /// Whether there is any limit.
    pub fn is_on(&self) -> bool {
        self.options.tokens != 0
    }

    /// Whether a ConnectRequest may go on; if so, its tokens are taken.
    pub fn admit(&mut self, now: Instant, renews: bool, rng: &mut Rng) -> bool {
        if !self.is_on() {
            return true;
        }
        self.fill(now.as_ms());
        let drops = self.drops_early(now.as_ms(), rng);
        let need = match renews {
            true => self.options.renew_session_weight,
            false => self.options.new_session_weight,
        };
        if drops || self.tokens < need {
            return false;
        }
        self.tokens -= need;
        true
    }

    fn fill(&mut self, now_ms: u64) {
        let ThrottleOptions { fill_time_ms, fill_count, tokens: size, .. } = self.options;
        let passed = u128::from(now_ms.saturating_sub(self.filled_ms));
        let time = u128::from(fill_time_ms.max(1));
        let count = u128::from(fill_count);
        let due = passed * count / time;
        if due >= u128::from(size - self.tokens) {
            self.tokens = size;
            self.filled_ms = now_ms;
        } else if due > 0 {
            self.tokens += due as u64;
            // Time that did not make a whole token yet is not lost.
            self.filled_ms += (due * time).div_ceil(count) as u64;
        }
    }

    fn drops_early(&mut self, now_ms: u64, rng: &mut Rng) -> bool {
        // No connection is dropped at random unless the operator asked for it.
        let Some(freeze_ms) = self.options.freeze_time_ms else { return false };
        if now_ms.saturating_sub(self.frozen_ms) > freeze_ms {
            let threshold = u128::from(self.options.tokens)
                * u128::from(self.options.decrease_ratio)
                / u128::from(BILLION);
            if self.tokens == 0 {
                self.drop = (self.drop + self.options.drop_increase).min(BILLION);
            } else if u128::from(self.deficit()) <= threshold {
                self.drop = self.drop.saturating_sub(self.options.drop_decrease);
            }
            self.frozen_ms = now_ms;
        }
        rng.chance(self.drop, BILLION)
    }

    /// Tokens missing in the bucket (`connection_token_deficit`).
    pub fn deficit(&self) -> u64 {
        self.options.tokens - self.tokens
    }

    /// Probability of an early drop in billionths (`connection_drop_probability`).
    pub fn drop_probability(&self) -> u64 {
        self.drop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(change: impl FnOnce(&mut ThrottleOptions)) -> ConnectionThrottle {
        let mut options =
            ThrottleOptions { tokens: 3, fill_time_ms: 10, ..ThrottleOptions::default() };
        change(&mut options);
        ConnectionThrottle::new(Instant::from_ms(1_000), options)
    }

    fn admitted(throttle: &mut ConnectionThrottle, at_ms: u64, tries: u32) -> u32 {
        let mut rng = Rng::new(1);
        let at = Instant::from_ms(at_ms);
        (0..tries).map(|_| u32::from(throttle.admit(at, false, &mut rng))).sum()
    }

    #[test]
    fn without_tokens_it_is_off() {
        let mut off = throttle(|options| options.tokens = 0);
        assert!(!off.is_on());
        assert_eq!(admitted(&mut off, 1_000, 1_000), 1_000);
    }

    #[test]
    fn the_bucket_empties_and_fills_at_its_pace() {
        let mut throttle = throttle(|_| {});
        assert_eq!(admitted(&mut throttle, 1_000, 10), 3);
        assert_eq!(throttle.deficit(), 3);
        for (at_ms, expect) in [(1_009, 0), (1_010, 1), (1_019, 0), (1_025, 1), (1_030, 1)] {
            assert_eq!(admitted(&mut throttle, at_ms, 10), expect, "{at_ms}");
        }
        // It overflows instead of saving up.
        assert_eq!(admitted(&mut throttle, 1_000_000, 10), 3);
        assert_eq!(admitted(&mut throttle, u64::MAX / 2_000_000, 10), 3);
    }

    #[test]
    fn sessions_take_what_they_weigh() {
        let mut throttle = throttle(|options| {
            options.tokens = 5;
            (options.new_session_weight, options.renew_session_weight) = (3, 2);
        });
        let (mut rng, now) = (Rng::new(1), Instant::from_ms(1_000));
        assert!(throttle.admit(now, false, &mut rng));
        assert!(!throttle.admit(now, false, &mut rng));
        assert!(throttle.admit(now, true, &mut rng));
        assert_eq!(throttle.deficit(), 5);
    }

    /// Random drops begin under pressure and end when the bucket stays full.
    #[test]
    fn early_drops_come_and_go() {
        let mut throttle = throttle(|options| {
            options.freeze_time_ms = Some(5);
            options.drop_increase = BILLION / 4;
            options.drop_decrease = BILLION / 4;
        });
        let mut rng = Rng::new(1);
        for ms in 0..1_000 {
            throttle.admit(Instant::from_ms(1_000 + ms), false, &mut rng);
        }
        assert!(throttle.drop_probability() >= BILLION / 4, "{}", throttle.drop_probability());
        for minute in 1..20 {
            throttle.admit(Instant::from_ms(60_000 * minute), false, &mut rng);
        }
        assert_eq!(throttle.drop_probability(), 0);
        assert_eq!(admitted(&mut throttle, 1_900_000, 10), 3);
    }

    #[test]
    fn certain_drops_refuse_everything() {
        let mut throttle = throttle(|_| {});
        throttle.options.freeze_time_ms = Some(1_000_000_000);
        throttle.drop = BILLION;
        assert_eq!(admitted(&mut throttle, 1_000, 10), 0);
        assert_eq!(throttle.deficit(), 0);
    }
}
