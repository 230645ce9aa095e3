//! The identities of a connection (`ServerCnxn.authInfo`, `org.apache.zookeeper.data.Id`).
//!
//! Invariant: identities are only ever added, never removed, and no pair occurs twice.

use std::borrow::Cow;
use std::sync::Arc;

use crate::wire::{DecodeError, Reader, put_i32, put_str};

/// Most identities that one connection may collect by auth packets; the next one fails. Apache has
/// no bound, so a client could make every later request of its own carry megabytes to the leader.
pub const IDENTITIES_MAX: usize = 1_000;

/// One (scheme, id) pair, such as ("ip", "127.0.0.1"), ("digest", "bob:hash") or ("super", "").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The scheme that vouches for the id.
    pub scheme: Cow<'static, str>,
    /// Scheme-specific text; empty for `super`.
    pub id: String,
}

impl Identity {
    /// An identity of one of the schemes known at compile time.
    pub fn new(scheme: &'static str, id: impl Into<String>) -> Identity {
        Identity { scheme: Cow::Borrowed(scheme), id: id.into() }
    }
}

/// The identities that a request was captured with; a clone is one reference count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identities(Arc<[Identity]>);

impl Identities {
    /// A set of the given pairs; repeated ones are dropped.
    pub fn new(pairs: impl IntoIterator<Item = Identity>) -> Identities {
        let mut list: Vec<Identity> = Vec::new();
        for pair in pairs {
            if !list.contains(&pair) {
                list.push(pair);
            }
        }
        Identities(list.into())
    }

    /// No identity at all: what the server's own internal requests carry.
    pub fn none() -> Identities {
        Identities(Arc::from([]))
    }

    /// These and `more`; the same allocation when nothing is new.
    pub fn with(&self, more: impl IntoIterator<Item = Identity>) -> Identities {
        let mut new: Vec<Identity> = Vec::new();
        for pair in more {
            if !self.0.contains(&pair) && !new.contains(&pair) {
                new.push(pair);
            }
        }
        if new.is_empty() {
            return self.clone();
        }
        Identities(self.0.iter().cloned().chain(new).collect())
    }

    /// The pairs in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Identity> {
        self.0.iter()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some pair has this scheme.
    pub fn has_scheme(&self, scheme: &str) -> bool {
        self.0.iter().any(|i| i.scheme == scheme)
    }

    /// Whether ACLs do not apply.
    pub fn is_super(&self) -> bool {
        self.has_scheme("super")
    }

    /// Appends `vector<Id>`, the form in which a learner forwards them (`QuorumPacket.authinfo`).
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i32(out, i32::try_from(self.0.len()).unwrap_or(i32::MAX));
        for identity in self.0.iter() {
            put_str(out, &identity.scheme);
            put_str(out, &identity.id);
        }
    }

    /// Reads a `vector<Id>`; pairs with a null field are dropped, as they can match nothing.
    pub fn decode_from(r: &mut Reader<'_>) -> Result<Identities, DecodeError> {
        let mut list = Vec::new();
        for _ in 0..r.count("authinfo count")?.unwrap_or(0) {
            let scheme = r.text("authinfo scheme")?;
            let id = r.text("authinfo id")?;
            if let (Some(scheme), Some(id)) = (scheme, id) {
                let scheme = match known_scheme(&scheme) {
                    Some(name) => Cow::Borrowed(name),
                    None => Cow::Owned(scheme.into_owned()),
                };
                list.push(Identity { scheme, id: id.into_owned() });
            }
        }
        Ok(Identities(list.into()))
    }
}

fn known_scheme(scheme: &str) -> Option<&'static str> {
    ["ip", "digest", "sasl", "x509", "super"].into_iter().find(|name| *name == scheme)
}
