//! The `digest` scheme (`DigestAuthenticationProvider`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

/// The hash of `user:password` (`zookeeper.DigestAuthenticationProvider.digestAlg`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are Java's own")]
pub enum DigestAlg {
    Md5,
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

impl DigestAlg {
    /// The algorithm that Java's `MessageDigest.getInstance(name)` gives; case is ignored.
    pub fn from_name(name: &str) -> Option<DigestAlg> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MD5" => DigestAlg::Md5,
            "SHA" | "SHA1" | "SHA-1" => DigestAlg::Sha1,
            "SHA-224" | "SHA224" => DigestAlg::Sha224,
            "SHA-256" | "SHA256" => DigestAlg::Sha256,
            "SHA-384" | "SHA384" => DigestAlg::Sha384,
            "SHA-512" | "SHA512" => DigestAlg::Sha512,
            "SHA-512/224" => DigestAlg::Sha512_224,
            "SHA-512/256" => DigestAlg::Sha512_256,
            "SHA3-224" => DigestAlg::Sha3_224,
            "SHA3-256" => DigestAlg::Sha3_256,
            "SHA3-384" => DigestAlg::Sha3_384,
            "SHA3-512" => DigestAlg::Sha3_512,
            _ => return None,
        })
    }

    fn hash_base64(self, input: &[u8]) -> String {
        match self {
            DigestAlg::Md5 => STANDARD.encode(md5::Md5::digest(input)),
            DigestAlg::Sha1 => STANDARD.encode(sha1::Sha1::digest(input)),
            DigestAlg::Sha224 => STANDARD.encode(sha2::Sha224::digest(input)),
            DigestAlg::Sha256 => STANDARD.encode(sha2::Sha256::digest(input)),
            DigestAlg::Sha384 => STANDARD.encode(sha2::Sha384::digest(input)),
            DigestAlg::Sha512 => STANDARD.encode(sha2::Sha512::digest(input)),
            DigestAlg::Sha512_224 => STANDARD.encode(sha2::Sha512_224::digest(input)),
            DigestAlg::Sha512_256 => STANDARD.encode(sha2::Sha512_256::digest(input)),
            DigestAlg::Sha3_224 => STANDARD.encode(sha3::Sha3_224::digest(input)),
            DigestAlg::Sha3_256 => STANDARD.encode(sha3::Sha3_256::digest(input)),
            DigestAlg::Sha3_384 => STANDARD.encode(sha3::Sha3_384::digest(input)),
            DigestAlg::Sha3_512 => STANDARD.encode(sha3::Sha3_512::digest(input)),
        }
    }
}

/// The id of `user:password`: `user:base64(hash(user:password))`.
///
/// COMPAT(3.9): Java turns the bytes into text and back, so malformed UTF-8 is hashed as U+FFFD.
pub fn digest_id(alg: DigestAlg, credentials: &[u8]) -> String {
    let text = String::from_utf8_lossy(credentials);
    format!("{}:{}", user_of(&text), alg.hash_base64(text.as_bytes()))
}

/// The part before the first colon.
pub(super) fn user_of(id: &str) -> &str {
    id.split(':').next().unwrap_or(id)
}

/// Whether `id` may stand in an ACL: exactly two pieces once Java's `split(":")` has dropped
/// trailing empty ones (`:b` and `a:b:` do, `a:` and `a:b:c` do not).
pub(super) fn is_valid(id: &str) -> bool {
    id.trim_end_matches(':').bytes().filter(|b| *b == b':').count() == 1
}

/// Equality whose duration depends on the lengths only.
pub(super) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && core::hint::black_box(a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y))) == 0
}
