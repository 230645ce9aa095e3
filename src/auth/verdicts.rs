//! What long ACLs grant to identities, so that a list of 20,000 entries is gone through once and
//! not for each request of 23 bytes.
//!
//! Lists and sets of identities are known by numbers that are never given to others, and neither
//! ever changes: a connection that gets one more identity has another set. So a verdict is true as
//! long as it is remembered.

use crate::wire::Perms;

/// Verdicts that are remembered, a power of two. A new one takes the place of an old one.
const PLACES: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Verdict {
    acl: u64,
    identities: u64,
    granted: Perms,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Empty until the first long list is met, which is never for most servers.
    places: Vec<Option<Verdict>>,
}

fn place(acl: u64, identities: u64) -> usize {
    // Numbers follow each other, so neighbours get different places.
    (acl.wrapping_mul(61).wrapping_add(identities)) as usize % PLACES
}

impl Verdicts {
    /// Forgets all: lists are numbered anew.
    pub fn clear(&mut self) {
        self.places.fill(None);
    }

    /// What the list grants to the identities, if that is remembered.
    pub fn get(&self, acl: u64, identities: u64) -> Option<Perms> {
        let found = (*self.places.get(place(acl, identities))?)?;
        (found.acl == acl && found.identities == identities).then_some(found.granted)
    }

    /// Remembers what the list grants to the identities.
    pub fn put(&mut self, acl: u64, identities: u64, granted: Perms) {
        self.places.resize(PLACES, None);
        self.places[place(acl, identities)] = Some(Verdict { acl, identities, granted });
    }
}
