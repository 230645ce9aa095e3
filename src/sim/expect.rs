//! Which watch events a connection must have been told by when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::model::{Change, Model, parent_of};

/// One-shot watch set where a node was.
pub const DATA: u8 = 1;
/// One-shot watch on children.
pub const CHILD: u8 = 2;
/// Persistent watch.
pub const PERSISTENT: u8 = 4;
/// Persistent recursive watch.
pub const RECURSIVE: u8 = 8;
/// One-shot watch set where no node was; fires as `DATA` does.
pub const EXIST: u8 = 16;

/// zxid, event type, path.
pub type Event = (i64, i32, String);

/// The watches of one connection, with the events that are due.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    watches: BTreeMap<String, u8>,
    due: VecDeque<Event>,
    pos: i64,
}

impl Expected {
    /// Makes the events up to `zxid` due.
    pub fn advance(&mut self, model: &Model, zxid: i64) {
        if zxid <= self.pos {
            return;
        }
        if !self.watches.is_empty() {
            for change in model.changes(self.pos, zxid) {
                self.change(change);
            }
        }
        self.pos = zxid;
    }

    fn change(&mut self, change: &Change) {
        let path = &change.path;
        let mut mask = DATA | EXIST | PERSISTENT | RECURSIVE;
        if change.kind == 2 {
            mask |= CHILD;
        }
        let mut above = path.as_str();
        let mut recursive = false;
        while above != "/" {
            above = parent_of(above);
            recursive |= self.flags(above) & RECURSIVE != 0;
        }
        if self.flags(path) & mask != 0 || recursive {
            self.due.push_back((change.zxid, change.kind, path.clone()));
            self.clear(path, mask & (DATA | EXIST | CHILD));
        }
        let parent = parent_of(path);
        if change.kind != 3 && self.flags(parent) & (CHILD | PERSISTENT) != 0 {
            self.due.push_back((change.zxid, 4, parent.to_owned()));
            self.clear(parent, CHILD);
        }
    }

    /// Watches at a path.
    pub fn flags(&self, path: &str) -> u8 {
        self.watches.get(path).copied().unwrap_or(0)
    }

    /// Adds watches.
    pub fn add(&mut self, path: &str, flags: u8) {
        *self.watches.entry(path.to_owned()).or_default() |= flags;
    }

    /// Takes watches away.
    pub fn clear(&mut self, path: &str, flags: u8) {
        if let Some(left) = self.watches.get_mut(path) {
            *left &= !flags;
            if *left == 0 {
                self.watches.remove(path);
            }
        }
    }

    /// Takes one event that arrived; what is wrong with it otherwise.
    pub fn arrived(&mut self, model: &Model, event: &Event) -> Result<(), String> {
        self.advance(model, event.0);
        match self.due.pop_front() {
            Some(due) if due == *event => Ok(()),
            due => Err(format!("event {event:x?} arrived where {due:x?} is due")),
        }
    }

    /// A reply reveals everything up to `zxid`: no event may be missing then.
    pub fn revealed(&mut self, model: &Model, zxid: i64) -> Result<(), String> {
        self.advance(model, zxid);
        match self.due.front() {
            None => Ok(()),
            Some(due) => Err(format!("a reply at 0x{zxid:x} came before the event {due:x?}")),
        }
    }

    /// The lists of setWatches2, for a new connection.
    pub fn lists(&self) -> [Vec<String>; 5] {
        LISTS.map(|flag| {
            let has = |flags: u8| flags & flag != 0;
            self.watches.iter().filter(|(_, f)| has(**f)).map(|(p, _)| p.clone()).collect()
        })
    }

    /// Whether there is no watch.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// setWatches2 was answered: goes on with its watches, if what arrived since it was asked is
    /// right.
    pub fn restore(&mut self, model: &Model, asked: &Restoring<'_>) -> Result<(), String> {
        let mut dead_ends = BTreeSet::new();
        let begun = Expected { pos: asked.relative, ..Expected::default() };
        let (relative, zxid) = (asked.relative, asked.zxid);
        *self = asked.explain(model, 0, 0, begun, &mut dead_ends).ok_or_else(|| {
            let found = asked.arrived;
            format!("no order of work from 0x{relative:x} to 0x{zxid:x} sends {found:x?}")
        })?;
        Ok(())
    }

    /// Takes what is due from the front of what arrived; how much, unless something else arrived.
    fn take_due(&mut self, arrived: &[Event]) -> Option<usize> {
        let due = std::mem::take(&mut self.due);
        let is_equal = due.len() <= arrived.len() && due.iter().zip(arrived).all(|(a, b)| a == b);
        is_equal.then_some(due.len())
    }
}

/// A setWatches2 with all that arrived from when it was asked until its reply.
///
/// A server restores the watches in their order, and others change the tree meanwhile. So each
/// path is compared at a place of its own between what the client had seen and the reply. A watch
/// that is restored fires at once, also before the reply: for the client it was there all the time.
#[derive(Debug)]
pub struct Restoring<'a> {
    /// Data, exist, child, persistent, recursive: the flags and the path of each.
    pub items: Vec<(u8, &'a str)>,
    /// What the client had seen.
    pub relative: i64,
    /// The reply's.
    pub zxid: i64,
    /// Events of zxid -1 tell of a change before the watch was restored.
    pub arrived: &'a [Event],
}

/// What each list of setWatches2 restores.
pub const LISTS: [u8; 5] = [DATA, EXIST, CHILD, PERSISTENT, RECURSIVE];

impl Restoring<'_> {
    /// The watches after the reply, if the items from `item` on can have led to what arrived from
    /// `used` on. Where that was tried in vain stands in `dead_ends`.
    fn explain(
        &self,
        model: &Model,
        item: usize,
        used: usize,
        before: Expected,
        dead_ends: &mut BTreeSet<(usize, usize, i64)>,
    ) -> Option<Expected> {
        let Some(&(flag, path)) = self.items.get(item) else {
            let mut after = before;
            after.advance(model, self.zxid);
            let taken = after.take_due(&self.arrived[used..])?;
            return (used + taken == self.arrived.len()).then_some(after);
        };
        let from = before.pos;
        if dead_ends.contains(&(item, used, from)) {
            return None;
        }
        for at in self.places(model, path, from) {
            let mut now = before.clone();
            now.advance(model, at);
            // Later places have what is wrong here, too.
            let Some(taken) = now.take_due(&self.arrived[used..]) else { break };
            let mut used = used + taken;
            match self.missed(model, flag, path, at) {
                Some(event) if self.arrived.get(used) != Some(&event) => continue,
                Some(_) => used += 1,
                None => now.add(path, flag),
            }
            let found = self.explain(model, item + 1, used, now, dead_ends);
            if found.is_some() {
                return found;
            }
        }
        dead_ends.insert((item, used, from));
        None
    }

    /// Where it makes a difference to restore a watch, from `from` on.
    fn places(&self, model: &Model, path: &str, from: i64) -> BTreeSet<i64> {
        let is_below = |change: &Change| {
            let rest = change.path.strip_prefix(path);
            rest.is_some_and(|rest| path == "/" || rest.is_empty() || rest.starts_with('/'))
        };
        let changes = model.changes(from, self.zxid).iter().filter(|change| is_below(change));
        let within = |&zxid: &i64| from < zxid && zxid <= self.zxid;
        let arrived = self.arrived.iter().map(|event| event.0).filter(within);
        changes.map(|change| change.zxid).chain(arrived).chain([from]).collect()
    }

    /// The event of a watch that is not restored, as it would have fired before.
    fn missed(&self, model: &Model, flag: u8, path: &str, at: i64) -> Option<Event> {
        let stat = model.at(path, at).map(|node| node.stat);
        let kind = match (flag, stat) {
            (DATA | CHILD, None) => 2,
            (DATA, Some(stat)) if stat.mzxid > self.relative => 3,
            (EXIST, Some(_)) => 1,
            (CHILD, Some(stat)) if stat.pzxid > self.relative => 4,
            _ => return None,
        };
        Some((-1, kind, path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SessionId;
    use crate::sim::model::Context;
    use crate::sim::ops::Op;

    /// `/a` comes with 1, changes with 2 and 4; `/b` comes with 3.
    fn model() -> Model {
        let mut model = Model::default();
        model.adopt("/", crate::sim::model::Node::default());
        let create = |path: &str| Op::Create {
            path: path.into(),
            data: Vec::new(),
            flags: 0,
            with_stat: false,
        };
        let set = || Op::SetData { path: "/a".into(), data: Vec::new(), version: -1 };
        for (zxid, op) in (1..).zip([create("/a"), set(), create("/b"), set()]) {
            let at = Context { session: SessionId(1), zxid, time_ms: 0 };
            assert_eq!(model.write(at, zxid as i32, &op).err, 0);
        }
        model
    }

    fn event(zxid: i64, kind: i32, path: &str) -> Event {
        (zxid, kind, path.to_owned())
    }

    /// Watches of a client that had seen 1, with a reply at `zxid`.
    fn restored(zxid: i64, items: &[(u8, &str)], arrived: &[Event]) -> Result<Expected, String> {
        let mut expected = Expected::default();
        let asked = Restoring { items: items.to_vec(), relative: 1, zxid, arrived };
        expected.restore(&model(), &asked).map(|()| expected)
    }

    #[test]
    fn a_change_is_told_as_missed_or_as_an_event_of_its_own_and_not_twice() {
        let items = [(DATA, "/a")];
        let (missed, fired) = (event(-1, 3, "/a"), event(2, 3, "/a"));
        assert!(restored(2, &items, std::slice::from_ref(&missed)).unwrap().is_empty());
        // It was restored at 1 already.
        assert!(restored(2, &items, std::slice::from_ref(&fired)).unwrap().is_empty());
        restored(2, &items, &[]).unwrap_err();
        restored(2, &items, &[missed, fired]).unwrap_err();
        // Nothing had happened yet, or the reply comes too early for what it shows.
        assert_eq!(restored(1, &items, &[]).unwrap().flags("/a"), DATA);
        restored(1, &items, &[event(2, 3, "/a")]).unwrap_err();
    }

    #[test]
    fn watches_are_restored_in_their_order_while_others_change_the_tree() {
        let items = [(DATA, "/a"), (EXIST, "/b")];
        let (missed_b, fired_b) = (event(-1, 1, "/b"), event(3, 1, "/b"));
        // `/a` at 1, `/b` at 3: in between `/a` fires.
        restored(4, &items, &[event(2, 3, "/a"), missed_b.clone()]).unwrap();
        restored(4, &items, &[event(-1, 3, "/a"), fired_b.clone()]).unwrap();
        restored(4, &items, &[missed_b, event(2, 3, "/a")]).unwrap_err();
        restored(4, &items, &[fired_b, event(2, 3, "/a")]).unwrap_err();
    }

    #[test]
    fn a_persistent_watch_fires_for_all_that_comes_behind_it() {
        let items = [(PERSISTENT, "/a")];
        let (second, fourth) = (event(2, 3, "/a"), event(4, 3, "/a"));
        restored(4, &items, &[]).unwrap();
        restored(4, &items, std::slice::from_ref(&fourth)).unwrap();
        restored(4, &items, &[second.clone(), fourth]).unwrap();
        restored(4, &items, &[second]).unwrap_err();
    }
}
