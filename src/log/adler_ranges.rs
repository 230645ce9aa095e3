//! Adler-32 of any range of some bytes, in a time that does not depend on the range's length; see
//! `crc_ranges` for why that is needed.
//!
//! Adler-32 is two sums modulo 65521: `a` of the bytes, and `b` of the values that `a` takes, byte
//! by byte. For example, bytes 2, 3, 4: `a` = 1 + 2 + 3 + 4 = 10, and `b` = 3 + 6 + 10 = 19. Both
//! are differences of what they are up to the range's two ends. Counterpart: none.

/// Bytes between two checkpoints.
pub(super) const STRIDE: usize = 64;
const MODULUS: u64 = 65521;

/// The two sums from the first byte on.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Of the bytes.
    a: u64,
    /// Of what `a` was after each byte.
    b: u64,
}

impl Sums {
    fn add(mut self, bytes: &[u8]) -> Sums {
        #[cfg(test)]
        super::segment::SUMMED.with(|summed| summed.set(summed.get() + bytes.len() as u64));
        for &byte in bytes {
            self.a += u64::from(byte);
            self.b += self.a;
        }
        Sums { a: self.a % MODULUS, b: self.b % MODULUS }
    }
}

/// Checkpoints of some bytes.
pub(super) struct AdlerRanges<'a> {
    bytes: &'a [u8],
    /// Sums before each multiple of [`STRIDE`].
    checkpoints: Vec<Sums>,
}

impl<'a> AdlerRanges<'a> {
    /// Sums up all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> AdlerRanges<'a> {
        let mut sums = Sums::default();
        let mut checkpoints = vec![sums];
        for stride in bytes.chunks(STRIDE) {
            sums = sums.add(stride);
            checkpoints.push(sums);
        }
        AdlerRanges { bytes, checkpoints }
    }

    /// The Adler-32 of `bytes[from..to]`.
    pub fn of(&self, from: usize, to: usize) -> u32 {
        let (start, end) = (self.up_to(from), self.up_to(to));
        let len = (to - from) as u64 % MODULUS;
        let a = (1 + end.a + MODULUS - start.a) % MODULUS;
        // Each value of `a` had the bytes before the range in it, and has its own 1 instead.
        let b = (end.b + MODULUS - start.b + len * (1 + MODULUS - start.a)) % MODULUS;
        (b << 16 | a) as u32
    }

    fn up_to(&self, at: usize) -> Sums {
        self.checkpoints[at / STRIDE].add(&self.bytes[at / STRIDE * STRIDE..at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn a_range_has_the_adler_sum_of_its_bytes() {
        for len in [0, 1, 63, 64, 65, 4096, 200_000] {
            let mut rng = Rng::new(len);
            let mut bytes = vec![0xff; len as usize];
            if len < 100_000 {
                rng.fill(&mut bytes);
            }
            let ranges = AdlerRanges::new(&bytes);
            for _ in 0..500 {
                let from = rng.below(len + 1);
                let to = from + rng.below(len - from + 1);
                let (from, to) = (from as usize, to as usize);
                let want = simd_adler32::adler32(&&bytes[from..to]);
                assert_eq!(ranges.of(from, to), want, "{from}..{to} of {len}");
            }
        }
    }
}
