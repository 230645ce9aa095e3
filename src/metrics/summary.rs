//! Running summaries (`AvgMinMaxCounter`) and histograms with percentiles
//! (`AvgMinMaxPercentileCounter`).

/// Number, sum and extremes of what was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The least; `u64::MAX` before the first.
    pub min: u64,
    /// The greatest.
    pub max: u64,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { count: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Summary {
    /// Takes in a value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// The least value; 0 before the first, as it is shown.
    pub fn least(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// Of everything that either holds.
    pub fn merged(&self, other: &Summary) -> Summary {
        Summary {
            count: self.count + other.count,
            sum: self.sum.saturating_add(other.sum),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// Each power of two is cut into this many buckets: percentiles are good to a sixteenth.
const STEPS: u64 = 16;
const STEP_BITS: u32 = STEPS.ilog2();
/// Values of 2^40 and more (twelve days in microseconds) share the last bucket.
const TOP_BIT: u32 = 39;
const BUCKETS: usize = (TOP_BIT - STEP_BITS + 2) as usize * STEPS as usize;

/// A summary with percentiles: buckets as wide as a sixteenth of their value, so that recording is
/// a few instructions and never allocates.
#[derive(Clone, Debug)]
pub struct Histogram {
    summary: Summary,
    buckets: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { summary: Summary::default(), buckets: Box::new([0; BUCKETS]) }
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let bit = value.ilog2();
    if bit > TOP_BIT {
        return BUCKETS - 1;
    }
    let step = value >> (bit - STEP_BITS) & (STEPS - 1);
    (u64::from(bit - STEP_BITS + 1) * STEPS + step) as usize
}

/// The greatest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    let (row, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if row == 0 { step } else { ((STEPS + step + 1) << (row - 1)) - 1 }
}

impl Histogram {
    /// Takes in a value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.summary.record(value);
        self.buckets[bucket_of(value)] += 1;
    }

    /// Without the percentiles.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The value that `permille` of 1000 values do not exceed; 0 before the first.
    pub fn percentile(&self, permille: u64) -> u64 {
        let wanted = (u128::from(self.summary.count) * u128::from(permille)).div_ceil(1000);
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += u128::from(count);
            if count > 0 && seen >= wanted {
                return top_of(bucket).clamp(self.summary.min, self.summary.max);
            }
        }
        0
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.summary = Summary::default();
        self.buckets.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for bucket in 0..BUCKETS {
            let top = top_of(bucket);
            assert_eq!(bucket_of(top), bucket, "{bucket}");
            assert!(bucket == 0 || bucket_of(last + 1) == bucket, "{bucket}");
            assert!(top - last <= last / STEPS + 1, "{bucket}");
            last = top;
        }
        assert_eq!(last, (1 << (TOP_BIT + 1)) - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_near_and_within_the_extremes() {
        let mut all = Histogram::default();
        assert_eq!(all.percentile(500), 0);
        all.record(70_000);
        assert_eq!(all.percentile(500), 70_000);
        for value in 1..=1000 {
            all.record(value * 10);
        }
        assert_eq!(all.summary().count, 1001);
        assert_eq!(all.summary().least(), 10);
        for (permille, exact) in [(500, 5010), (950, 9510), (990, 9910)] {
            let found = all.percentile(permille);
            assert!(found >= exact && found <= exact + exact / 16, "{permille}: {found}");
        }
        assert_eq!(all.percentile(1000), 70_000);
        all.reset();
        assert_eq!((all.percentile(999), *all.summary()), (0, Summary::default()));
    }
}
