//! Znode paths: validation and the hash that every path-keyed table shares.
//!
//! A path is hashed once when a request is decoded. Tree, pending view and watch tables are all
//! keyed by that hash, and the parent's hash falls out of the same pass, because the hash of a
//! child extends the hash of its parent.

/// Seeded path hash. The seed is drawn once per process, so that a client cannot prepare names
/// that collide.
#[derive(Clone, Copy, Debug)]
pub struct PathHasher {
    seed: u64,
}

/// A path with its hash and its parent's hash.
#[derive(Clone, Copy, Debug)]
pub struct PathKey<'a> {
    /// The absolute path; the root is `"/"`, the empty string is an alias of it.
    pub path: &'a str,
    /// Hash of the path under the process's [`PathHasher`].
    pub hash: u64,
    /// Hash of the parent path; for the root, its own hash.
    pub parent_hash: u64,
}

impl<'a> PathKey<'a> {
    /// Whether this names the root.
    pub fn is_root(&self) -> bool {
        self.path.len() <= 1
    }

    /// Path of the parent: the text before the last `/`, `"/"` for children of the root.
    pub fn parent_path(&self) -> &'a str {
        match self.path.rfind('/') {
            None | Some(0) => "/",
            Some(at) => &self.path[..at],
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &'a str {
        match self.path.rfind('/') {
            None => "",
            Some(at) => &self.path[at + 1..],
        }
    }
}

const K: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl PathHasher {
    /// A hasher whose values depend on `seed` only.
    pub fn new(seed: u64) -> PathHasher {
        PathHasher { seed: seed | 1 }
    }

    /// Hash of the root.
    pub fn root(&self) -> u64 {
        self.seed
    }

    /// Hash of the child `name` of the node whose path hash is `parent`.
    pub fn child(&self, parent: u64, name: &[u8]) -> u64 {
        let mut h = parent;
        let (chunks, rest) = name.as_chunks::<8>();
        for chunk in chunks {
            h = mix(h ^ u64::from_le_bytes(*chunk), K);
        }
        self.last(h, little_word(rest), name.len())
    }

    /// Folds in the last, short word of a component and its length.
    #[inline]
    fn last(&self, h: u64, word: u64, len: usize) -> u64 {
        mix(h ^ word ^ (len as u64).wrapping_mul(K), self.seed ^ K)
    }

    /// Hashes `path` (absolute, components separated by single slashes). Paths of other shapes
    /// get a hash too; they just match nothing.
    #[inline]
    pub fn key<'a>(&self, path: &'a str) -> PathKey<'a> {
        let bytes = path.as_bytes();
        let mut hash = self.root();
        let mut parent_hash = hash;
        if bytes.len() > 1 {
            let mut start = usize::from(bytes[0] == b'/');
            loop {
                let (next, end) = self.component(hash, bytes, start);
                parent_hash = hash;
                hash = next;
                if end >= bytes.len() {
                    break;
                }
                start = end + 1;
            }
        }
        PathKey { path, hash, parent_hash }
    }

    /// Hashes the component that begins at `start` and finds its end in the same pass.
    #[inline]
    fn component(&self, parent: u64, bytes: &[u8], start: usize) -> (u64, usize) {
        let mut h = parent;
        let mut at = start;
        loop {
            let (word, have) = word_at(bytes, at);
            let slash = first_slash(word).min(have);
            if slash == 8 {
                h = mix(h ^ word, K);
                at += 8;
                continue;
            }
            let kept = word & ((1u64 << (8 * slash)) - 1);
            return (self.last(h, kept, at + slash - start), at + slash);
        }
    }
}

/// Up to eight bytes from `at` on as a little-endian word, and how many they are.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> (u64, usize) {
    if let Some(chunk) = bytes[at..].first_chunk::<8>() {
        return (u64::from_le_bytes(*chunk), 8);
    }
    let have = bytes.len() - at;
    if let Some(chunk) = bytes.last_chunk::<8>()
        && have > 0
    {
        // One load that ends where the path ends is much cheaper than a copy of a few bytes.
        return (u64::from_le_bytes(*chunk) >> (8 * (8 - have)), have);
    }
    (little_word(&bytes[at..]), have)
}

/// Up to seven bytes as a little-endian word.
#[inline]
fn little_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Position of the first `/` in a little-endian word; 8 if there is none.
#[inline]
fn first_slash(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let x = word ^ (ONES * u64::from(b'/'));
    // The lowest set high bit marks the first zero byte of `x`; borrows only disturb later ones.
    let zeros = x.wrapping_sub(ONES) & !x & (ONES << 7);
    (zeros.trailing_zeros() / 8) as usize
}

/// Why a path is not valid, in the words of ZooKeeper's `PathUtils.validatePath`.
pub fn validate_path(path: &str) -> Result<(), &'static str> {
    let bytes = path.as_bytes();
    match bytes.first() {
        None => return Err("path length must be > 0"),
        Some(b'/') => {}
        Some(_) => return Err("path must start with / character"),
    }
    if bytes.len() == 1 || is_plain(bytes) {
        return Ok(());
    }
    if bytes.last() == Some(&b'/') {
        return Err("path must not end with / character");
    }
    for component in path[1..].split('/') {
        match component {
            "" => return Err("empty node name specified"),
            "." | ".." => return Err("relative paths not allowed"),
            _ => {}
        }
    }
    for c in path.chars() {
        let forbidden = matches!(u32::from(c),
            0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..);
        if forbidden {
            return Err("invalid character");
        }
    }
    Ok(())
}

/// Whether a path is of the common kind that needs no closer look: printable ASCII, no component
/// that is empty or begins with a dot.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let odd = bytes.iter().fold(false, |odd, &b| odd | !(0x20..0x7f).contains(&b));
    let pairs = bytes.iter().zip(&bytes[1..]);
    let dots = pairs.fold(false, |odd, (&a, &b)| odd | ((a == b'/') & (b == b'/' || b == b'.')));
    !odd && !dots && bytes.last() != Some(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_hash_is_the_hash_of_the_parent() {
        let hasher = PathHasher::new(7);
        for (path, parent) in [("/a", "/"), ("/a/b", "/a"), ("/a/b/c-0000000001", "/a/b")] {
            let key = hasher.key(path);
            assert_eq!(key.parent_hash, hasher.key(parent).hash, "{path}");
            assert_eq!(key.parent_path(), parent);
        }
        let long = "/a/".to_owned() + &"x".repeat(7) + "/" + &"y".repeat(8) + "/" + &"z".repeat(17);
        let mut hash = hasher.root();
        for name in long[1..].split('/') {
            hash = hasher.child(hash, name.as_bytes());
        }
        assert_eq!(hasher.key(&long).hash, hash);
        assert_eq!(hasher.key("").hash, hasher.key("/").hash);
        assert_ne!(hasher.key("/ab").hash, hasher.key("/a/b").hash);
    }

    #[test]
    fn validation_follows_path_utils() {
        for good in ["/", "/a", "/a..b", "/...", "/.a", "/ü/x", "/a b"] {
            assert!(validate_path(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/../b",
            "/a\0",
            "/\u{1}",
            "/\u{7f}",
            "/\u{e000}",
            "/\u{fffd}",
            "/\u{1f600}",
        ] {
            assert!(validate_path(bad).is_err(), "{bad:?}");
        }
    }
}
