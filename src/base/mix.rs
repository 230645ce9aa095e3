//! The two mixing steps from which the hashes and the seeds of the deterministic core are made.

/// 2^64 divided by the golden ratio: odd, and its multiples spread evenly over 64 bits.
pub(super) const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// Neighbouring numbers become numbers that are far apart; different ones stay different. The high
/// bits are the better ones.
#[inline]
pub const fn spread(n: u64) -> u64 {
    n.wrapping_mul(GOLDEN_RATIO)
}

/// The number after `n` of a sequence that visits all of them.
#[inline]
pub const fn step(n: u64) -> u64 {
    n.wrapping_add(GOLDEN_RATIO)
}

/// The product of two numbers, its halves folded into one.
#[inline]
pub const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Takes a number into a hash.
#[inline]
pub const fn absorb(hash: u64, n: u64) -> u64 {
    fold(hash ^ n ^ GOLDEN_RATIO, 0xd6e8_feb8_6659_fd93)
}

/// Every bit of the result depends on every bit of `n`; different numbers stay different.
#[inline]
pub const fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
