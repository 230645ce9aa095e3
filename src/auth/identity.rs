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

/// What a connection holds, and what was found out about it.
#[derive(Debug)]
struct Inner {
    /// In the order in which they were added.
    list: Vec<Identity>,
    /// Places in `list`, ordered by scheme and id.
    order: Vec<u32>,
    /// See [`Identities::serial`].
    serial: u64,
}

/// The identities that a request was captured with; a clone is one reference count.
#[derive(Clone, Debug)]
pub struct Identities(Arc<Inner>);

impl PartialEq for Identities {
    fn eq(&self, other: &Identities) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.list == other.0.list
    }
}

impl Eq for Identities {}

impl Inner {
    /// Where the pair is in `order`, or where it would be.
    fn find(&self, scheme: &str, id: &str) -> Result<usize, usize> {
        self.order.binary_search_by(|&at| {
            let held = &self.list[at as usize];
            (&*held.scheme, &*held.id).cmp(&(scheme, id))
        })
    }

    fn add(&mut self, pair: Identity) {
        if let Err(place) = self.find(&pair.scheme, &pair.id) {
            self.order.insert(place, self.list.len() as u32);
            self.list.push(pair);
        }
    }
}

impl Identities {
    /// A set of the given pairs; repeated ones are dropped.
    pub fn new(pairs: impl IntoIterator<Item = Identity>) -> Identities {
        let mut inner = Inner { list: Vec::new(), order: Vec::new(), serial: 0 };
        pairs.into_iter().for_each(|pair| inner.add(pair));
        Identities(Arc::new(inner))
    }

    /// No identity at all: what the server's own internal requests carry.
    pub fn none() -> Identities {
        Identities::new([])
    }

    /// These and `more`; the same allocation when nothing is new.
    pub fn with(&self, more: impl IntoIterator<Item = Identity>) -> Identities {
        let mut new = more.into_iter().filter(|pair| !self.contains(pair)).peekable();
        if new.peek().is_none() {
            return self.clone();
        }
        let Inner { list, order, .. } = &*self.0;
        let mut inner = Inner { list: list.clone(), order: order.clone(), serial: 0 };
        new.for_each(|pair| inner.add(pair));
        Identities(Arc::new(inner))
    }

    /// Whether the pair is among them.
    pub fn contains(&self, pair: &Identity) -> bool {
        self.0.find(&pair.scheme, &pair.id).is_ok()
    }

    /// The pairs in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Identity> {
        self.0.list.iter()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.list.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.list.is_empty()
    }

    /// The ids of one scheme, in ascending order.
    pub fn of_scheme(&self, scheme: &str) -> OfScheme<'_> {
        let Inner { list, order, .. } = &*self.0;
        let begin = order.partition_point(|&at| *list[at as usize].scheme < *scheme);
        let len = order[begin..].partition_point(|&at| list[at as usize].scheme == scheme);
        OfScheme { list, order: &order[begin..begin + len] }
    }

    /// Whether some pair has this scheme.
    pub fn has_scheme(&self, scheme: &str) -> bool {
        !self.of_scheme(scheme).order.is_empty()
    }

    /// Whether ACLs do not apply.
    pub fn is_super(&self) -> bool {
        self.has_scheme("super")
    }

    /// A number that no other set has which [`super::Auth`] made, by which it knows them again;
    /// `None` for a set that it did not make.
    pub(super) fn serial(&self) -> Option<u64> {
        (self.0.serial != 0).then_some(self.0.serial)
    }

    /// Numbers a set that was just made.
    pub(super) fn numbered(mut self, next: impl FnOnce() -> u64) -> Identities {
        if let Some(inner) = Arc::get_mut(&mut self.0)
            && inner.serial == 0
        {
            inner.serial = next();
        }
        self
    }

    /// Appends `vector<Id>`, the form in which a learner forwards them (`QuorumPacket.authinfo`).
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i32(out, i32::try_from(self.len()).unwrap_or(i32::MAX));
        for identity in self.iter() {
            put_str(out, &identity.scheme);
            put_str(out, &identity.id);
        }
    }

    /// Reads a `vector<Id>`; pairs with a null field are dropped, as they can match nothing, and
    /// so are repeated ones.
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
        Ok(Identities::new(list))
    }
}

/// The ids of one scheme among [`Identities`].
#[derive(Clone, Copy, Debug)]
pub struct OfScheme<'a> {
    list: &'a [Identity],
    order: &'a [u32],
}

impl<'a> OfScheme<'a> {
    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        let list = self.list;
        self.order.iter().map(move |&at| &*list[at as usize].id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether this id is there. Few are compared with, however many there are.
    pub fn contains(&self, id: &str) -> bool {
        self.order.binary_search_by(|&at| (*self.list[at as usize].id).cmp(id)).is_ok()
    }
}

fn known_scheme(scheme: &str) -> Option<&'static str> {
    ["ip", "digest", "sasl", "x509", "super"].into_iter().find(|name| *name == scheme)
}
