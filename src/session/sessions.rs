//! The session table and its expiry buckets.
//!
//! Corresponds to `SessionTrackerImpl` (table, ids, closing) and `ExpiryQueue` (rounding).
//! Invariants: every session that is not closing sits in the bucket `queued`, which is never later
//! than the one it expires in, so a touch only stores a number; bucket entries whose session is
//! gone or queued elsewhere are void; ids expire in the order of their expiry, then of the id.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::net::SocketAddr;

use hashbrown::HashTable;

use crate::base::{CONTAINER_OWNER, Instant, LinkId, ServerId, SessionId, invariant, spread};

/// Handle of a tracked session: an index into the table, void after the session's removal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionSlot {
    index: u32,
    generation: u32,
}

/// The member through which a session's requests come. A client that moves to another member may
/// have left requests behind at the old one: they must not be done after its newer ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// This server.
    Here,
    /// The learner at the other end of this link. When the link has ended the session stays its
    /// own until the client shows up somewhere.
    Learner(LinkId),
}

/// Whether a request may be done for its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// It may.
    Granted,
    /// The session is unknown, or it is closing.
    Gone,
    /// The session belongs to another member now.
    Moved,
}

/// A tracked session. In the order of use: what each request reads and writes lies together.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Session {
    /// Whether a closeSession is under way: requests are dropped, nothing revives it.
    pub closing: bool,
    /// The timeout that it was last touched with, in milliseconds.
    pub granted_ms: i32,
    /// Bucket in which it expires, in ticks of the monotonic clock.
    expiry: u64,
    /// Bucket that holds it; 0 for none.
    queued: u64,
    /// When it was last touched.
    pub heard: Instant,
    /// Whose it is; `None` until its first request under this leader.
    pub owner: Option<Owner>,
    /// Its id.
    pub id: SessionId,
    /// The other end of the last connection of this server that spoke for it; `None` since a
    /// restart.
    pub peer: Option<SocketAddr>,
}

impl Session {
    /// The first one that asks becomes the owner.
    #[inline(always)]
    fn claim(&mut self, owner: Owner) -> Claim {
        if *self.owner.get_or_insert(owner) == owner { Claim::Granted } else { Claim::Moved }
    }
}

#[repr(C)]
struct Place {
    generation: u32,
    session: Option<Session>,
}

const _: () = assert!(
    offset_of!(Place, session) + offset_of!(Session, peer) <= 64,
    "a request finds all that it needs of its session in 64 bytes"
);

/// All sessions.
pub struct Sessions {
    tick_ms: u64,
    places: Vec<Place>,
    free: Vec<u32>,
    index: HashTable<u32>,
    buckets: BTreeMap<u64, Vec<SessionSlot>>,
    /// The place that [`Sessions::check_next`] looks at next.
    next_check: usize,
}

/// The first session id a server gives out: its own id in the top byte, then 40 bits of `t_ms`,
/// then 16 zero bits. `t_ms` must not repeat over restarts of the server, or ids would.
pub fn initial_session_id(server: ServerId, t_ms: u64) -> SessionId {
    let id = ((t_ms << 24) >> 8 | server.0.cast_unsigned() << 56).cast_signed();
    SessionId(if id == CONTAINER_OWNER { id + 1 } else { id })
}

/// Gives out session ids, in order.
#[derive(Clone, Debug)]
pub struct SessionIds {
    next: i64,
}

impl SessionIds {
    /// The first id is `first`, see [`initial_session_id`].
    pub fn new(first: SessionId) -> SessionIds {
        SessionIds { next: first.0 }
    }

    /// A fresh id; ids that are taken, and 0, which means "none", are passed over.
    pub fn next(&mut self, is_taken: impl Fn(SessionId) -> bool) -> SessionId {
        loop {
            let id = SessionId(self.next);
            self.next = self.next.wrapping_add(1);
            if id.0 != 0 && !is_taken(id) {
                return id;
            }
        }
    }
}

fn id_hash(id: SessionId) -> u64 {
    let h = spread(id.0.cast_unsigned());
    h ^ h >> 32
}

fn get(places: &[Place], index: u32) -> Option<&Session> {
    places.get(index as usize)?.session.as_ref()
}

impl Sessions {
    /// An empty table; `tick_ms` is the width of an expiry bucket (`tickTime`), at least 1.
    pub fn new(tick_ms: u64) -> Sessions {
        Sessions {
            tick_ms: tick_ms.max(1),
            places: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            buckets: BTreeMap::new(),
            next_check: 0,
        }
    }

    /// Tracks a session and gives it a full timeout. One that is already tracked is touched, unless
    /// it is closing.
    pub fn create(&mut self, id: SessionId, timeout_ms: i32, now: Instant) -> SessionSlot {
        let slot = self.get(id).unwrap_or_else(|| self.insert(id));
        let is_touched = self.touch(slot, timeout_ms, now);
        invariant!(
            is_touched != self.is_closing(slot),
            "a session that is not closing starts its timeout afresh"
        );
        slot
    }

    /// The handle of a tracked session.
    pub fn get(&self, id: SessionId) -> Option<SessionSlot> {
        let is_it = |&i: &u32| get(&self.places, i).is_some_and(|session| session.id == id);
        let index = *self.index.find(id_hash(id), is_it)?;
        Some(SessionSlot { index, generation: self.places[index as usize].generation })
    }

    /// The session of a handle; `None` once it was removed.
    pub fn session(&self, slot: SessionSlot) -> Option<&Session> {
        let place = self.places.get(slot.index as usize)?;
        place.session.as_ref().filter(|_| place.generation == slot.generation)
    }

    /// Starts the timeout afresh with the connection's negotiated `timeout_ms`. False when the
    /// session is gone or closing: the request that touched it is dropped without a reply.
    pub fn touch(&mut self, slot: SessionSlot, timeout_ms: i32, now: Instant) -> bool {
        self.touch_and(slot, timeout_ms, now, |_| ()).is_some()
    }

    /// As [`Sessions::touch`], for a request that comes through `owner`. A request that comes too
    /// late, as the session has moved, also touches it: a session that lives longer is safe.
    #[inline]
    pub fn admit(
        &mut self,
        slot: SessionSlot,
        owner: Owner,
        timeout_ms: i32,
        now: Instant,
    ) -> Claim {
        self.touch_and(slot, timeout_ms, now, |session| session.claim(owner)).unwrap_or(Claim::Gone)
    }

    #[inline(always)]
    fn touch_and<R>(
        &mut self,
        slot: SessionSlot,
        timeout_ms: i32,
        now: Instant,
        then: impl FnOnce(&mut Session) -> R,
    ) -> Option<R> {
        let expiry = self.bucket_of(timeout_ms, now);
        let session = self.session_mut(slot)?;
        if session.closing {
            return None;
        }
        session.expiry = expiry;
        session.heard = now;
        session.granted_ms = timeout_ms;
        // Later than where it sits: it moves on when its bucket comes up. Only a timeout shorter
        // than before needs a place in an earlier bucket at once; the old entry becomes void.
        let moves = session.queued == 0 || expiry < session.queued;
        if moves {
            session.queued = expiry;
        }
        invariant!(
            0 < session.queued && session.queued <= session.expiry,
            "bucket {} comes up no later than {:?} expires, in {}",
            session.queued,
            session.id,
            session.expiry
        );
        let result = then(session);
        if moves {
            self.buckets.entry(expiry).or_default().push(slot);
        }
        Some(result)
    }

    /// Whether a request that comes through `owner` may be done, without touching the session.
    pub fn claim(&mut self, slot: SessionSlot, owner: Owner) -> Claim {
        let session = self.session_mut(slot).filter(|session| !session.closing);
        session.map_or(Claim::Gone, |session| session.claim(owner))
    }

    /// The client has come to `owner`: requests that come through another one are late.
    pub fn set_owner(&mut self, slot: SessionSlot, owner: Owner) {
        if let Some(session) = self.session_mut(slot) {
            session.owner = Some(owner);
        }
    }

    /// Whether the session is closing; a session that is gone counts as closing.
    pub fn is_closing(&self, slot: SessionSlot) -> bool {
        self.session(slot).is_none_or(|session| session.closing)
    }

    /// Marks the session as closing: it is touched and expired no more.
    pub fn set_closing(&mut self, slot: SessionSlot) {
        if let Some(session) = self.session_mut(slot) {
            invariant!(
                session.closing == (session.queued == 0),
                "{:?} is in a bucket until it closes",
                session.id
            );
            session.closing = true;
            session.queued = 0;
        }
    }

    /// Notes the other end of a connection that speaks for the session from now on.
    pub fn set_peer(&mut self, slot: SessionSlot, peer: SocketAddr) {
        if let Some(session) = self.session_mut(slot) {
            session.peer = Some(peer);
        }
    }

    /// Forgets a session; its last state, or `None` if it was not tracked.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let slot = self.get(id)?;
        let entry = self.index.find_entry(id_hash(id), |&i| i == slot.index);
        invariant!(entry.is_ok(), "{id:?} is filed under the hash of its id");
        if let Ok(entry) = entry {
            entry.remove();
        }
        let place = &mut self.places[slot.index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot.index);
        place.session.take()
    }

    /// Marks every session whose time has come as closing and appends its id to `out`. A caller
    /// that was held up should first handle the requests that have arrived meanwhile.
    pub fn expire(&mut self, now: Instant, out: &mut Vec<SessionId>) {
        while let Some(first) = self.buckets.first_entry() {
            let bucket = *first.key();
            if bucket.saturating_mul(self.tick_ms) > now.as_ms() {
                return;
            }
            let start = out.len();
            for slot in first.remove() {
                let Some(session) = self.session_mut(slot) else { continue };
                if session.queued != bucket {
                    continue;
                }
                invariant!(!session.closing, "{:?} is closing and expires", session.id);
                if session.expiry > bucket {
                    session.queued = session.expiry;
                    let later = session.expiry;
                    self.buckets.entry(later).or_default().push(slot);
                } else {
                    session.queued = 0;
                    session.closing = true;
                    out.push(session.id);
                }
            }
            out[start..].sort_unstable();
        }
    }

    /// When to call [`Sessions::expire`] next; at most one call per tick is ever asked for.
    pub fn deadline(&self) -> Option<Instant> {
        let bucket = self.buckets.keys().next()?;
        Some(Instant::from_ms(bucket.saturating_mul(self.tick_ms)))
    }

    /// Checks what must always hold of one session, the next at each call, in a time that does not
    /// depend on how many there are.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_next(&mut self) {
        invariant!(
            self.index.len() + self.free.len() == self.places.len(),
            "{} sessions and {} free places are not {} places",
            self.index.len(),
            self.free.len(),
            self.places.len()
        );
        let index = self.next_check;
        self.next_check = if index + 1 < self.places.len() { index + 1 } else { 0 };
        let Some(session) = self.places.get(index).and_then(|place| place.session.as_ref()) else {
            return;
        };
        let found = self.get(session.id).map(|slot| slot.index as usize);
        invariant!(found == Some(index), "{:?} is at {index}, found at {found:?}", session.id);
        invariant!(
            session.closing == (session.queued == 0),
            "{:?} is in a bucket until it closes",
            session.id
        );
        invariant!(
            session.closing || self.buckets.contains_key(&session.queued),
            "{:?} waits in bucket {}, which there is not",
            session.id,
            session.queued
        );
        invariant!(session.queued <= session.expiry, "{:?} would expire late", session.id);
    }

    /// Number of tracked sessions, closing ones included (`global_sessions`).
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no session is tracked.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// For `dump`: expiry in monotonic milliseconds with the sessions that expire then, both
    /// ascending; sessions that are closing are left out.
    pub fn expiries(&self) -> BTreeMap<u64, Vec<SessionId>> {
        let mut all: BTreeMap<u64, Vec<SessionId>> = BTreeMap::new();
        for session in self.places.iter().filter_map(|p| p.session.as_ref()) {
            if !session.closing {
                let at = session.expiry.saturating_mul(self.tick_ms);
                all.entry(at).or_default().push(session.id);
            }
        }
        all.values_mut().for_each(|ids| ids.sort_unstable());
        all
    }

    /// Number of bucket entries.
    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.buckets.values().map(Vec::len).sum()
    }

    /// Rounded up to the next multiple of the tick, so that nothing ever expires early.
    fn bucket_of(&self, timeout_ms: i32, now: Instant) -> u64 {
        let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
        now.as_ms().saturating_add(timeout_ms) / self.tick_ms + 1
    }

    fn session_mut(&mut self, slot: SessionSlot) -> Option<&mut Session> {
        let place = self.places.get_mut(slot.index as usize)?;
        let generation = place.generation;
        place.session.as_mut().filter(|_| generation == slot.generation)
    }

    fn insert(&mut self, id: SessionId) -> SessionSlot {
        let session = Session {
            closing: false,
            granted_ms: 0,
            expiry: 0,
            queued: 0,
            heard: Instant::default(),
            owner: None,
            id,
            peer: None,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
            invariant!(index != u32::MAX, "more than {} sessions", u32::MAX);
            self.places.push(Place { generation: 0, session: None });
            index
        });
        let place = &mut self.places[index as usize];
        invariant!(place.session.is_none(), "place {index} of a session was free");
        place.session = Some(session);
        let generation = place.generation;
        let places = &self.places;
        let hash_of = |&i: &u32| get(places, i).map_or(0, |session| id_hash(session.id));
        self.index.insert_unique(id_hash(id), index, hash_of);
        SessionSlot { index, generation }
    }
}
