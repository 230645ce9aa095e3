//! Which watch events a connection must have been told by when.

use std::collections::{BTreeMap, VecDeque};

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
#[derive(Debug, Default)]
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
        [DATA, EXIST, CHILD, PERSISTENT, RECURSIVE].map(|flag| {
            let has = |flags: u8| flags & flag != 0;
            self.watches.iter().filter(|(_, f)| has(**f)).map(|(p, _)| p.clone()).collect()
        })
    }

    /// Whether there is no watch.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// setWatches2 was answered at `zxid`: the events it must have sent before.
    pub fn restore(
        &mut self,
        model: &Model,
        lists: &[Vec<String>; 5],
        relative: i64,
        zxid: i64,
    ) -> Vec<(i32, String)> {
        let mut missed = Vec::new();
        for (list, paths) in lists.iter().enumerate() {
            for path in paths {
                let stat = model.at(path, zxid).map(|node| node.stat);
                let event = match (list, stat) {
                    (0 | 2, None) => Some(2),
                    (0, Some(stat)) if stat.mzxid > relative => Some(3),
                    (1, Some(_)) => Some(1),
                    (2, Some(stat)) if stat.pzxid > relative => Some(4),
                    _ => None,
                };
                match event {
                    Some(event) => missed.push((event, path.clone())),
                    None => self.add(path, [DATA, EXIST, CHILD, PERSISTENT, RECURSIVE][list]),
                }
            }
        }
        missed
    }
}
