//! What one change of the leader looked like to the clients: when each had a set acknowledged that
//! a new leader has made. A reply that was on its way when the old leader died does not count: it
//! shows the old epoch.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stats::{quantile, round3};

/// What became of a client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was to a survivor, and stayed.
    Stayed,
    /// It was to a survivor, which closed it.
    Closed,
    /// It was to the leader that died.
    Moved,
}

impl Fate {
    /// All, with their names in the JSON.
    pub const ALL: [(Fate, &str); 3] =
        [(Fate::Stayed, "stayed"), (Fate::Closed, "closed"), (Fate::Moved, "moved")];
}

struct Seen {
    fate: Fate,
    after: Option<Duration>,
}

/// One change of the leader, as it is seen.
pub struct Watch {
    begin: Instant,
    epoch: i64,
    clients: Vec<Seen>,
    waiting: usize,
}

impl Watch {
    /// From `begin` on: the leader at place `victim`, in the epoch `epoch`, dies; `places` says to
    /// which member each client is connected.
    pub fn new(begin: Instant, epoch: i64, victim: usize, places: Vec<usize>) -> Watch {
        let fate = |place| if place == victim { Fate::Moved } else { Fate::Stayed };
        let clients: Vec<Seen> =
            places.into_iter().map(|place| Seen { fate: fate(place), after: None }).collect();
        Watch { begin, epoch, waiting: clients.len(), clients }
    }

    /// The connection of `client` is gone.
    pub fn lost(&mut self, client: usize) {
        let seen = &mut self.clients[client];
        if seen.after.is_none() && seen.fate == Fate::Stayed {
            seen.fate = Fate::Closed;
        }
    }

    /// A set of `client` was acknowledged, with a zxid of this epoch.
    pub fn acknowledged(&mut self, client: usize, epoch: i64, now: Instant) {
        let seen = &mut self.clients[client];
        if epoch > self.epoch && seen.after.is_none() {
            seen.after = Some(now.saturating_duration_since(self.begin));
            self.waiting -= 1;
        }
    }

    /// Whether every client has had one.
    pub fn is_complete(&self) -> bool {
        self.waiting == 0
    }

    /// By fate: how many clients, and when the first and the last of them were served. `survivors`
    /// are the clients of the survivors, whatever became of their connections.
    pub fn json(&self) -> Value {
        let mut figures = json!({ "survivors": self.group(|fate| fate != Fate::Moved) });
        for (wanted, name) in Fate::ALL {
            figures[name] = self.group(|fate| fate == wanted);
        }
        figures
    }

    fn group(&self, is_in: impl Fn(Fate) -> bool) -> Value {
        let ms: Vec<f64> = self
            .clients
            .iter()
            .filter(|seen| is_in(seen.fate))
            .filter_map(|seen| Some(seen.after?.as_secs_f64() * 1e3))
            .collect();
        let at = |share: f64| quantile(&ms, share).map(round3);
        json!({
            "clients": ms.len(),
            "first_ms": at(0.0),
            "p50_ms": at(0.5),
            "last_ms": at(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_new_leader_has_made_counts() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut watch = Watch::new(begin, 7, 1, vec![0, 1, 2, 2]);
        watch.acknowledged(0, 7, at(1));
        watch.lost(1);
        watch.lost(2);
        watch.acknowledged(0, 8, at(20));
        watch.acknowledged(0, 8, at(21));
        watch.acknowledged(3, 8, at(25));
        watch.acknowledged(1, 8, at(30));
        assert!(!watch.is_complete());
        watch.acknowledged(2, 9, at(40));
        assert!(watch.is_complete());
        // What happens later belongs to something else.
        watch.lost(0);
        let json = watch.json();
        let shown = |name: &str| {
            let group = &json[name];
            (group["clients"].as_u64(), group["first_ms"].as_f64(), group["last_ms"].as_f64())
        };
        assert_eq!(shown("survivors"), (Some(3), Some(20.0), Some(40.0)));
        assert_eq!(shown("stayed"), (Some(2), Some(20.0), Some(25.0)));
        assert_eq!(shown("closed"), (Some(1), Some(40.0), Some(40.0)));
        assert_eq!(shown("moved"), (Some(1), Some(30.0), Some(30.0)));
    }

    #[test]
    fn a_group_of_nobody_has_no_times() {
        let watch = Watch::new(Instant::now(), 1, 0, vec![0]);
        assert_eq!(watch.json()["survivors"]["clients"], 0);
        assert!(watch.json()["survivors"]["first_ms"].is_null());
    }
}
