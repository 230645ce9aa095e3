//! Latencies and counts of a run.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::mix::Kind;

/// Latencies in nanoseconds, three significant digits, up to two minutes.
#[derive(Clone)]
pub struct Latency(Histogram<u64>);

impl Latency {
    const LONGEST_NS: u64 = 120_000_000_000;

    /// Nothing recorded.
    pub fn new() -> Latency {
        let histogram = Histogram::new_with_bounds(1, Latency::LONGEST_NS, 3);
        Latency(histogram.expect("constant bounds are valid"))
    }

    /// Records `count` operations that took `ns` each.
    #[inline]
    pub fn record(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns.max(1), count);
    }

    /// Adds what another one recorded.
    pub fn merge(&mut self, other: &Latency) {
        // Same bounds, so this cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// Number of operations.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency below which the share `quantile` of operations stayed, in microseconds.
    pub fn at_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Percentiles as a JSON object, microseconds.
    pub fn json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        json!({
            "count": self.0.len(),
            "mean_us": round3(self.0.mean() / 1e3),
            "p50_us": round3(self.at_us(0.5)),
            "p90_us": round3(self.at_us(0.9)),
            "p99_us": round3(self.at_us(0.99)),
            "p999_us": round3(self.at_us(0.999)),
            "max_us": round3(self.0.max() as f64 / 1e3),
        })
    }
}

/// Three decimals are enough for anything reported here.
pub fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Measurements of one generator thread, or of all together.
#[derive(Clone)]
pub struct Tally {
    /// By kind of request.
    pub latency: Vec<Latency>,
    /// Replies within the measured window.
    pub completed: u64,
    /// Requests sent since the start, warm-up included.
    pub sent: u64,
    /// Replies with an error code, by code.
    pub errors: BTreeMap<i32, u64>,
    /// Watch events received.
    pub notifications: u64,
    /// Requests that were never answered within the time allowed after the end.
    pub unanswered: u64,
}

impl Tally {
    /// Nothing measured.
    pub fn new() -> Tally {
        Tally {
            latency: vec![Latency::new(); Kind::ALL.len()],
            completed: 0,
            sent: 0,
            errors: BTreeMap::new(),
            notifications: 0,
            unanswered: 0,
        }
    }

    /// Adds what another thread measured.
    pub fn merge(&mut self, other: &Tally) {
        for (mine, theirs) in self.latency.iter_mut().zip(&other.latency) {
            mine.merge(theirs);
        }
        self.completed += other.completed;
        self.sent += other.sent;
        self.notifications += other.notifications;
        self.unanswered += other.unanswered;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }

    /// Latencies of every kind together.
    pub fn all(&self) -> Latency {
        let mut all = Latency::new();
        for latency in &self.latency {
            all.merge(latency);
        }
        all
    }
}

/// The figure at `pointer` (a JSON pointer) of each round that has it.
pub fn values(rounds: &[Value], pointer: &str) -> Vec<f64> {
    rounds.iter().filter_map(|round| round.pointer(pointer).and_then(Value::as_f64)).collect()
}

/// The middle value, the mean of the middle two for an even count; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The smallest value that at least the share `quantile` of the values does not exceed; `None` of
/// nothing.
pub fn quantile(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn quantiles_are_values_that_occur() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (share, expect) in [(0.0, 1.0), (0.25, 1.0), (0.5, 2.0), (0.99, 4.0), (1.0, 4.0)] {
            assert_eq!(quantile(&values, share), Some(expect), "{share}");
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn latencies_merge_and_saturate() {
        let mut a = Latency::new();
        a.record(1_000, 99);
        let mut b = Latency::new();
        b.record(u64::MAX, 1);
        a.merge(&b);
        assert_eq!(a.count(), 100);
        assert!((a.at_us(0.5) - 1.0).abs() < 0.01);
        assert!(a.at_us(0.999) > 1e8);
    }
}
