//! CRC-32C of any range of some bytes, in a time that does not depend on the range's length.
//!
//! A scan that looks for a record among bytes that anybody may have chosen meets lengths that
//! anybody may have chosen, too. Summing up each of those ranges costs the product of their number
//! and their length: hours. Here all bytes are summed up once, with a checkpoint every [`STRIDE`]
//! bytes; the CRC of a range then follows from the two checkpoints near its ends.
//!
//! For instance with `crc(0..1000)` and `crc(0..9000)` known: a CRC is linear, and 8000 more bytes
//! multiply it by a power of x, so `crc(1000..9000)` is `crc(0..9000) ^ shift(crc(0..1000), 8000)`.
//!
//! Invariant: all ranges together cost at most one pass over the bytes, and less than two strides
//! each. Counterpart: none.

use super::segment::checksum;

/// Bytes between two checkpoints.
pub(super) const STRIDE: usize = 64;
/// The polynomial of CRC-32C; the highest bit is the coefficient of x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;
const X_8: u32 = 1 << 23;
/// Digits of a length, see [`CrcRanges::shift`].
const DIGIT: usize = 4096;

/// Checkpoints of some bytes.
pub(super) struct CrcRanges<'a> {
    bytes: &'a [u8],
    /// CRC of the bytes before each multiple of [`STRIDE`].
    checkpoints: Vec<u32>,
    /// What that many bytes multiply a CRC by.
    ones: Vec<u32>,
    /// The same for as many times [`DIGIT`] bytes.
    digits: Vec<u32>,
}

impl<'a> CrcRanges<'a> {
    /// Sums up all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> CrcRanges<'a> {
        let mut crc = 0;
        let mut checkpoints = vec![crc];
        for stride in bytes.chunks(STRIDE) {
            crc = checksum(crc, stride);
            checkpoints.push(crc);
        }
        let ones = powers(X_8, DIGIT);
        let digit = multiply(ones[DIGIT - 1], X_8);
        CrcRanges { bytes, checkpoints, ones, digits: powers(digit, bytes.len() / DIGIT + 1) }
    }

    /// What `crc32c_append(seed, &bytes[from..to])` gives.
    pub fn append(&self, seed: u32, from: usize, to: usize) -> u32 {
        self.shift(seed ^ self.up_to(from), to - from) ^ self.up_to(to)
    }

    fn up_to(&self, at: usize) -> u32 {
        checksum(self.checkpoints[at / STRIDE], &self.bytes[at / STRIDE * STRIDE..at])
    }

    /// What a CRC contributes to the CRC of the same bytes and `len` more. For instance 10 000
    /// bytes are two digits of 4096 bytes and 1808 ones.
    fn shift(&self, crc: u32, len: usize) -> u32 {
        multiply(multiply(crc, self.ones[len % DIGIT]), self.digits[len / DIGIT])
    }
}

/// The first `count` powers of `base`.
fn powers(base: u32, count: usize) -> Vec<u32> {
    std::iter::successors(Some(ONE), |&power| Some(multiply(power, base))).take(count).collect()
}

/// Product of two polynomials, modulo the polynomial of CRC-32C.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn a_range_has_the_crc_of_its_bytes() {
        for len in [0, 1, 63, 64, 65, 4096, 50_000] {
            let mut rng = Rng::new(len);
            let mut bytes = vec![0; len as usize];
            rng.fill(&mut bytes);
            let ranges = CrcRanges::new(&bytes);
            for _ in 0..500 {
                let from = rng.below(len + 1);
                let to = from + rng.below(len - from + 1);
                let (from, to, seed) = (from as usize, to as usize, rng.next_u64() as u32);
                let want = crc32c::crc32c_append(seed, &bytes[from..to]);
                assert_eq!(ranges.append(seed, from, to), want, "{from}..{to} of {len}");
            }
        }
    }
}
