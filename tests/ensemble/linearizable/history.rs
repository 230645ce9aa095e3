//! Whether one order explains a history of requests on nodes that hold a value and a version.
//!
//! Each write has a value of its own and makes the next version, so a request that succeeded says
//! itself where it stands among the requests of its node: a write that made version 7 comes after
//! all that saw 6, and before all that saw 7. What is left to check is that this order agrees with
//! real time (one that ended before another began comes first), that each version has one write,
//! and that versions of which nobody saw the write can be the work of writes whose fate is unknown.

use std::collections::{BTreeMap, BTreeSet};

/// Nanoseconds since the beginning.
pub type Time = u64;

/// When a request ended of which no answer came: its write may happen at any time.
pub const NEVER: Time = Time::MAX;

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `value` was written, if the version was `expected` where that is asked for. It has become
    /// `version`; `None` is unknown.
    Write { value: u64, expected: Option<i32>, version: Option<i32> },
    /// A write was refused, as the version was not this one.
    Refused { expected: i32 },
    /// After a `sync`.
    Read { value: u64, version: i32 },
}

/// A request on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub client: usize,
    pub key: usize,
    pub began: Time,
    pub ended: Time,
    pub kind: Kind,
    /// Of the answer's header; 0 where none came.
    pub zxid: i64,
}

/// Everything that clients saw. All nodes began with version 0 and value 0.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub requests: Vec<Request>,
}

/// Where a request stands: its version, and whether it came after the write that made it.
type Place = (i32, bool);

impl Request {
    fn place(&self) -> Option<Place> {
        match self.kind {
            Kind::Write { version, .. } => version.map(|version| (version, false)),
            Kind::Read { version, .. } => Some((version, true)),
            Kind::Refused { .. } => None,
        }
    }
}

impl History {
    /// Counts by kind.
    pub fn summary(&self) -> String {
        let count = |is: fn(&Kind) -> bool| self.requests.iter().filter(|it| is(&it.kind)).count();
        format!(
            "{} writes acknowledged, {} of unknown fate, {} refused, {} reads",
            count(|kind| matches!(kind, Kind::Write { version: Some(_), .. })),
            count(|kind| matches!(kind, Kind::Write { version: None, .. })),
            count(|kind| matches!(kind, Kind::Refused { .. })),
            count(|kind| matches!(kind, Kind::Read { .. })),
        )
    }

    /// Whether there is one order of all.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self) -> Result<(), String> {
        let keys: BTreeSet<usize> = self.requests.iter().map(|request| request.key).collect();
        for key in keys {
            let of_key = self.requests.iter().filter(|request| request.key == key);
            Register::new(of_key.copied().collect())?.check()?;
        }
        self.check_zxids()
    }

    /// Over all nodes: what begins later has a higher zxid than what has ended before.
    fn check_zxids(&self) -> Result<(), String> {
        let answered = self.requests.iter().filter(|it| it.zxid != 0 && it.place().is_some());
        let mut by_end: Vec<&Request> = answered.collect();
        let mut by_begin = by_end.clone();
        by_end.sort_by_key(|request| request.ended);
        by_begin.sort_by_key(|request| request.began);
        let (mut ended, mut last): (usize, Option<&Request>) = (0, None);
        for request in by_begin {
            while ended < by_end.len() && by_end[ended].ended < request.began {
                if last.is_none_or(|last| last.zxid < by_end[ended].zxid) {
                    last = Some(by_end[ended]);
                }
                ended += 1;
            }
            let is_write = matches!(request.kind, Kind::Write { .. });
            if let Some(before) = last
                && (request.zxid < before.zxid || is_write && request.zxid == before.zxid)
            {
                return Err(format!("{request:?}\nbegan after the end of\n{before:?}"));
            }
        }
        Ok(())
    }
}

/// The requests of one node.
struct Register {
    /// With the place of each, where that is known. Of writes whose value somebody saw it is.
    requests: Vec<(Request, Option<Place>)>,
    /// The value of each version that somebody saw.
    values: BTreeMap<i32, u64>,
    /// The last place of all that had ended by a time, by times.
    ended: Vec<(Time, Place)>,
}

impl Register {
    fn new(mut requests: Vec<Request>) -> Result<Register, String> {
        let mut values = BTreeMap::from([(0, 0)]);
        for request in &requests {
            let (version, value) = match request.kind {
                Kind::Write { value, version: Some(version), .. }
                | Kind::Read { value, version } => (version, value),
                Kind::Write { version: None, .. } | Kind::Refused { .. } => continue,
            };
            if *values.entry(version).or_insert(value) != value {
                let first = values[&version];
                return Err(format!("version {version} is {value} and {first}: {request:?}"));
            }
        }
        let mut versions = BTreeMap::new();
        for (&version, &value) in &values {
            if let Some(first) = versions.insert(value, version) {
                return Err(format!("value {value} is version {first} and {version}"));
            }
        }
        let mut written = BTreeSet::from([0]);
        for request in &mut requests {
            if let Kind::Write { value, version, expected } = &mut request.kind {
                *version = version.or(versions.get(value).copied());
                written.extend(version.is_some().then_some(*value));
                if let (Some(version), Some(expected)) = (*version, *expected)
                    && version != expected + 1
                {
                    return Err(format!("it was to follow version {expected}: {request:?}"));
                }
            }
        }
        match values.values().find(|value| !written.contains(value)) {
            Some(value) => Err(format!("nobody has written {value}")),
            None => Ok(Register::with(requests, values)),
        }
    }

    fn with(mut requests: Vec<Request>, values: BTreeMap<i32, u64>) -> Register {
        requests.sort_by_key(|request| request.began);
        let mut register = Register { requests: Vec::new(), values, ended: Vec::new() };
        // Of those that have begun, what they know when they end.
        let mut ending: BTreeSet<(Time, Place)> = BTreeSet::new();
        for request in requests {
            while let Some(&(ended, place)) = ending.first()
                && ended < request.began
            {
                ending.pop_first();
                register.ended.push((ended, place.max(register.place_before(NEVER))));
            }
            let place = match request.kind {
                // It was refused because of a change that came while it was under way.
                Kind::Refused { expected } if register.place_before(NEVER).0 == expected => {
                    Some((expected + 1, true))
                }
                _ => request.place(),
            };
            ending.extend(place.map(|place| (request.ended, place)));
            register.requests.push((request, place));
        }
        register
    }

    fn check(&self) -> Result<(), String> {
        self.check_order()?;
        self.check_gaps()
    }

    /// The last place of what had ended before `time`.
    fn place_before(&self, time: Time) -> Place {
        let count = self.ended.partition_point(|(ended, _)| *ended < time);
        count.checked_sub(1).map_or((0, true), |at| self.ended[at].1)
    }

    fn check_order(&self) -> Result<(), String> {
        for (request, place) in &self.requests {
            let Some(place) = *place else { continue };
            let before = self.place_before(request.began);
            if place < before || place == (0, false) {
                return Err(format!("{before:?} was there when this began: {request:?}"));
            }
        }
        Ok(())
    }

    /// Writes of which nobody saw whether they have happened: condition, begin, and the first
    /// version that each can have made by what had ended when it began.
    fn open_writes(&self) -> Vec<(Option<i32>, Time, i32)> {
        let open = self.requests.iter().filter_map(|(request, _)| match request.kind {
            Kind::Write { version: None, expected, .. } => {
                let (version, _) = self.place_before(request.began);
                Some((expected, request.began, version + 1))
            }
            _ => None,
        });
        open.collect()
    }

    /// Each version that nobody saw needs a write of unknown fate, which has to have begun before
    /// anything ended that comes after it.
    fn check_gaps(&self) -> Result<(), String> {
        let placed =
            || self.requests.iter().filter_map(|(it, place)| Some((it.ended, (*place)?.0)));
        let last = placed().map(|(_, version)| version).max().unwrap_or(0);
        let mut open = self.open_writes();
        for version in (1..=last).filter(|version| !self.values.contains_key(version)) {
            let later = placed().filter(|(_, after)| *after >= version);
            let ends = later.map(|(ended, _)| ended).min().unwrap_or(NEVER);
            let can_be = |(expected, began, first): &(Option<i32>, Time, i32)| {
                *first <= version
                    && *began <= ends
                    && expected.is_none_or(|expected| expected + 1 == version)
            };
            // One with a condition is good for nothing else. What is left of the others can make
            // any later version, too.
            let conditional = open.iter().position(|it| it.0.is_some() && can_be(it));
            match conditional.or_else(|| open.iter().position(can_be)) {
                Some(at) => drop(open.remove(at)),
                None => return Err(format!("nobody can have written version {version}")),
            }
        }
        Ok(())
    }
}
