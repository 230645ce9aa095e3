//! Identities that a learner forwards with the requests of its clients.
//!
//! Members trust each other: what a learner says is what its client has proved, `super` included.
//! Most clients have one identity, and the same with each request, so sets that were decoded a
//! while ago are known again by their bytes. It saves the decoding, and verdicts on long ACLs are
//! remembered for the same set only (`verdicts`).

use std::hash::Hasher;

use super::engine::Auth;
use super::identity::{IDENTITIES_MAX, Identities};
use crate::base::{FixedHasher, spread};
use crate::wire::quorum::AuthIds;
use crate::wire::{DecodeError, Reader};

/// Most identities of one request: more than a client of ours can collect, see [`IDENTITIES_MAX`].
/// A client of an Apache learner can, and its requests fail then.
const COUNT_MAX: usize = 2 * IDENTITIES_MAX;

/// Most bytes of them.
const BYTES_MAX: usize = 1 << 20;

/// Sets that are remembered: 2 to the power of this.
const PLACES_LOG: u32 = 12;

/// Encoded bytes of all sets that are remembered; decoded they take a few times as much.
const KNOWN_BYTES_MAX: usize = 4 << 20;

/// Sets of identities by their encoded form. A new one takes the place of an old one.
#[derive(Debug, Default)]
pub(super) struct KnownSets {
    /// Empty until the first request is forwarded, which is never for a lone server.
    places: Vec<Option<(Box<[u8]>, Identities)>>,
    bytes: usize,
}

fn place(bytes: &[u8]) -> usize {
    let mut hasher = FixedHasher::default();
    hasher.write(bytes);
    (spread(hasher.finish()) >> (64 - PLACES_LOG)) as usize
}

impl KnownSets {
    fn get(&self, bytes: &[u8]) -> Option<Identities> {
        let (known, ids) = self.places.get(place(bytes))?.as_ref()?;
        (**known == *bytes).then(|| ids.clone())
    }

    fn put(&mut self, bytes: &[u8], ids: Identities) {
        if self.bytes + bytes.len() > KNOWN_BYTES_MAX {
            self.places.fill(None);
            self.bytes = 0;
        }
        self.places.resize(1 << PLACES_LOG, None);
        let before = self.places[place(bytes)].replace((bytes.into(), ids));
        self.bytes += bytes.len();
        self.bytes -= before.map_or(0, |(bytes, _)| bytes.len());
    }
}

impl Auth {
    /// The identities of a forwarded request.
    ///
    /// # Errors
    /// If they are too many or too large.
    pub fn forwarded(&self, ids: AuthIds<'_>) -> Result<Identities, DecodeError> {
        let bytes = ids.as_bytes();
        if let Some(known) = self.known_sets.borrow().get(bytes) {
            return Ok(known);
        }
        let count = Reader::new(bytes).count("authinfo")?.unwrap_or(0);
        if count > COUNT_MAX || bytes.len() > BYTES_MAX {
            return Err(DecodeError::BadValue("number of identities", count as i64));
        }
        let ids = self.number(Identities::decode_from(&mut Reader::new(bytes))?);
        self.add_identities_cost(ids.len());
        self.known_sets.borrow_mut().put(bytes, ids.clone());
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{auth, ids, list};
    use super::*;
    use crate::base::Rng;
    use crate::wire::{AclBytes, Perms, put_i32};

    fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        AuthIds::put(&mut out, pairs.iter().copied());
        out
    }

    fn forwarded(auth: &Auth, bytes: &[u8]) -> Result<Identities, DecodeError> {
        auth.forwarded(AuthIds::parse(bytes).unwrap())
    }

    #[test]
    fn a_learner_says_who_its_client_is() {
        let auth = auth(|_| {});
        let pairs = [("ip", "10.0.0.7"), ("digest", "bob:h"), ("mine", "x")];
        let found = forwarded(&auth, &encoded(&pairs)).unwrap();
        assert_eq!(found.len(), 3);
        assert!(found.has_scheme("mine") && !found.is_super());
        let acl = list(&[(Perms::WRITE.0, Some("digest"), Some("bob:h"))]);
        let acl = AclBytes::parse(&acl).unwrap();
        assert!(auth.allows(acl, None, Perms::WRITE, &found));
        let nobody = auth.forwarded(AuthIds::NONE).unwrap();
        assert!(nobody.is_empty() && !auth.allows(acl, None, Perms::WRITE, &nobody));
        let above = forwarded(&auth, &encoded(&[("super", "")])).unwrap();
        assert!(auth.allows(acl, None, Perms::WRITE, &above));
    }

    #[test]
    fn the_same_identities_are_the_same_set() {
        let auth = auth(|_| {});
        let (bob, eve) = (encoded(&[("digest", "bob:h")]), encoded(&[("digest", "eve:h")]));
        let first = forwarded(&auth, &bob).unwrap();
        let other = forwarded(&auth, &eve).unwrap();
        let again = forwarded(&auth, &bob).unwrap();
        assert!(first.serial().is_some(), "verdicts on it are remembered");
        assert_eq!(again.serial(), first.serial());
        assert_ne!(other.serial(), first.serial());
    }

    #[test]
    fn identities_are_bounded_in_number_and_size() {
        let auth = auth(|_| {});
        let names: Vec<String> = (0..=COUNT_MAX).map(|i| format!("u{i}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| ("digest", &**name)).collect();
        assert_eq!(forwarded(&auth, &encoded(&pairs[1..])).unwrap().len(), COUNT_MAX);
        assert!(forwarded(&auth, &encoded(&pairs)).is_err());
        let large = "x".repeat(BYTES_MAX - 30);
        assert!(forwarded(&auth, &encoded(&[("digest", &large)])).is_ok());
        assert!(forwarded(&auth, &encoded(&[("digest", &large), ("ip", "10.0.0.123")])).is_err());
        // Neither is a count that its bytes cannot hold.
        let mut lying = Vec::new();
        put_i32(&mut lying, i32::MAX);
        assert!(AuthIds::parse(&lying).is_err());
    }

    /// Sets that take each other's places, and more than are kept.
    #[test]
    fn what_is_remembered_is_what_was_said() {
        let auth = auth(|_| {});
        let mut rng = Rng::new(3);
        for _ in 0..30_000 {
            let name = format!("u{}", rng.below(10_000));
            let name = if rng.chance(1, 200) { name.repeat(20_000) } else { name };
            let found = forwarded(&auth, &encoded(&[("digest", &name)])).unwrap();
            assert_eq!(found, ids(&[("digest", &name)]));
            assert!(auth.known_sets.borrow().bytes <= KNOWN_BYTES_MAX);
        }
        let sets = auth.known_sets.borrow();
        let bytes = sets.places.iter().flatten().map(|(bytes, _)| bytes.len()).sum::<usize>();
        assert_eq!(bytes, sets.bytes);
    }
}
