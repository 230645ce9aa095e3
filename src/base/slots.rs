//! Values by connection, found by the connection's slot.

use super::{ConnId, invariant};

/// A table of values by connection. A slot serves one connection after the other, so the whole id
/// is compared: the id of a connection that is gone finds nothing.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Vec<Option<(ConnId, T)>>,
    count: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { entries: Vec::new(), count: 0 }
    }
}

impl<T> Slots<T> {
    /// Number of connections.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of slots that are in use or have been; each is below this number.
    pub fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The value of a connection, unless it is gone.
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&T> {
        let (id, value) = self.entries.get(conn.slot() as usize)?.as_ref()?;
        (*id == conn).then_some(value)
    }

    /// As [`Slots::get`].
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let (id, value) = self.entries.get_mut(conn.slot() as usize)?.as_mut()?;
        (*id == conn).then_some(value)
    }

    /// The value in a slot, if there is one.
    pub fn at(&self, slot: u32) -> Option<&T> {
        self.entries.get(slot as usize)?.as_ref().map(|(_, value)| value)
    }

    /// Adds a connection, whose slot is free.
    pub fn insert(&mut self, conn: ConnId, value: T) {
        let slot = conn.slot() as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        let entry = &mut self.entries[slot];
        invariant!(entry.is_none(), "{conn:?} takes the slot of another connection");
        *entry = Some((conn, value));
        self.count += 1;
    }

    /// Removes a connection, unless it is gone.
    pub fn remove(&mut self, conn: ConnId) -> Option<T> {
        self.get(conn)?;
        let (_, value) = self.entries.get_mut(conn.slot() as usize)?.take()?;
        self.count -= 1;
        Some(value)
    }

    /// All values, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten().map(|(_, value)| value)
    }

    /// All values, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_gone_finds_nothing_in_its_slot() {
        let mut slots = Slots::default();
        let (first, other, second) = (ConnId::new(3, 1), ConnId::new(0, 1), ConnId::new(3, 2));
        slots.insert(first, 'a');
        slots.insert(other, 'b');
        assert_eq!((slots.len(), slots.slots()), (2, 4));
        assert_eq!(slots.get(second), None);
        assert_eq!(slots.remove(second), None);
        assert_eq!(slots.remove(first), Some('a'));
        slots.insert(second, 'c');
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.get(second), Some(&'c'));
        assert_eq!((slots.at(3), slots.at(1), slots.at(9)), (Some(&'c'), None, None));
        assert_eq!(slots.iter().collect::<String>(), "bc");
        assert_eq!((slots.remove(first), slots.len()), (None, 2));
    }

    #[test]
    fn a_slot_that_is_in_use_is_not_given_away() {
        let mut slots = Slots::default();
        slots.insert(ConnId::new(0, 1), ());
        let attempt = std::panic::AssertUnwindSafe(|| slots.insert(ConnId::new(0, 2), ()));
        assert!(std::panic::catch_unwind(attempt).is_err());
    }
}
