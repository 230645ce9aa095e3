//! The one pseudo-random generator of the deterministic core: seeded, never from the system.

use super::mix::{absorb, scramble, step};

/// The seed of one concern of a run: what draws from it never shifts the numbers of another,
/// however much it draws. `index` tells many of a kind apart.
///
/// A run with seed 7 gives its network `derive_seed(7, "network", 0)`, and the disk of its third
/// host `derive_seed(7, "disk", 2)`.
pub fn derive_seed(seed: u64, concern: &str, index: u64) -> u64 {
    let named =
        concern.bytes().fold(scramble(step(seed)), |hash, byte| absorb(hash, u64::from(byte)));
    scramble(absorb(named, index))
}

/// SplitMix64: small, fast, equidistributed; not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence depends on `seed` only.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The generator of one concern, see [`derive_seed`].
    pub fn derived(seed: u64, concern: &str, index: u64) -> Rng {
        Rng::new(derive_seed(seed, concern, index))
    }

    /// The next 64 uniformly distributed bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = step(self.0);
        scramble(self.0)
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with probability `numerator / denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_concern_has_a_seed_of_its_own() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            for concern in ["network", "networks", "disk", ""] {
                seen.extend((0..10).map(|index| derive_seed(seed, concern, index)));
            }
        }
        assert_eq!(seen.len(), 100 * 4 * 10);
    }

    #[test]
    fn the_sequence_is_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!(first[..2], published);
    }
}
