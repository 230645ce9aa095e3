//! The checker, proven: it agrees with a search through all orders on thousands of small histories,
//! good and bad ones.

use super::history::{History, Kind, NEVER, Request, Time};
use ringkeeper::base::Rng;

/// Tries every order that agrees with real time.
fn has_order(left: &[Request], version: i32, value: u64) -> bool {
    let is_open = |request: &Request| matches!(request.kind, Kind::Write { version: None, .. });
    if left.iter().all(is_open) {
        return true;
    }
    let first_end = left.iter().map(|request| request.ended).min().unwrap_or(NEVER);
    (0..left.len()).any(|at| {
        let request = left[at];
        if request.began > first_end {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        match request.kind {
            Kind::Write { value, expected, version: made } => {
                let happens = expected.is_none_or(|expected| expected == version)
                    && made.is_none_or(|made| made == version + 1);
                happens && has_order(&rest, version + 1, value)
            }
            Kind::Refused { expected } => expected != version && has_order(&rest, version, value),
            Kind::Read { value: seen, version: at } => {
                (seen, at) == (value, version) && has_order(&rest, version, value)
            }
        }
    })
}

/// What clients of a register may see; some of it is spoiled afterwards.
fn small(rng: &mut Rng) -> History {
    let count = 2 + rng.below(6);
    let mut moments: Vec<(Time, u64)> = (0..count).map(|at| (1 + rng.below(40), at)).collect();
    moments.sort_unstable();
    let (mut version, mut value) = (0, 0);
    let mut requests = Vec::new();
    for (moment, number) in moments {
        let (began, ended) = (moment.saturating_sub(rng.below(12)), moment + rng.below(12));
        let mut request = |ended, kind| {
            requests.push(Request { client: 0, key: 0, began, ended, kind, zxid: 0 });
        };
        let own = number + 1;
        let expected = rng.chance(1, 2).then(|| version - rng.below(2) as i32);
        let happens = expected.is_none_or(|expected| expected == version);
        match rng.below(4) {
            0 | 1 if happens => {
                (version, value) = (version + 1, own);
                let made = rng.chance(2, 3).then_some(version);
                let ended = if made.is_some() { ended } else { NEVER };
                request(ended, Kind::Write { value: own, expected, version: made });
            }
            0 => request(NEVER, Kind::Write { value: own, expected, version: None }),
            1 => request(ended, Kind::Refused { expected: expected.unwrap_or(-1) }),
            _ => request(ended, Kind::Read { value, version }),
        }
    }
    History { requests }
}

/// Changes what one request says, or when.
fn spoil(rng: &mut Rng, history: &mut History) {
    let all = history.requests.clone();
    let at = rng.below(all.len() as u64) as usize;
    let other = all[rng.below(all.len() as u64) as usize];
    let request = &mut history.requests[at];
    match (&mut request.kind, rng.below(3)) {
        (Kind::Read { value, version }, 0 | 1) => match other.kind {
            Kind::Write { value: seen, version: Some(made), .. } => {
                (*value, *version) = (seen, made);
            }
            _ => *version += 1,
        },
        (Kind::Write { version: Some(version), .. }, 0) => *version += 1,
        (Kind::Refused { expected }, 0 | 1) => *expected += 1,
        _ => {
            let by = rng.below(25);
            request.began += by;
            request.ended = request.ended.saturating_add(by);
        }
    }
}

#[test]
fn the_checker_agrees_with_a_search_through_all_orders() {
    let mut rng = Rng::new(4);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..30_000 {
        let mut history = small(&mut rng);
        assert_eq!(history.check(), Ok(()), "{history:#?}");
        for _ in 0..rng.below(3) {
            spoil(&mut rng, &mut history);
        }
        let has_order = has_order(&history.requests, 0, 0);
        let told = history.check();
        assert_eq!(told.is_ok(), has_order, "{told:?} of {history:#?}");
        if has_order { good += 1 } else { bad += 1 }
    }
    assert!(good > 5_000 && bad > 5_000, "{good} good, {bad} bad");
}

/// A history of requests that follow each other: kind and zxid.
fn in_turn(all: &[(Kind, i64)]) -> History {
    let request = |(at, &(kind, zxid)): (usize, &(Kind, i64))| {
        let began = 10 * at as Time;
        Request { client: at, key: at % 2, began, ended: began + 5, kind, zxid }
    };
    History { requests: all.iter().enumerate().map(request).collect() }
}

#[test]
fn the_order_of_writes_holds_over_all_nodes() {
    let write = |value| Kind::Write { value, expected: None, version: Some(1) };
    let read = |value, version| Kind::Read { value, version };
    assert_eq!(in_turn(&[(write(1), 7), (write(2), 8), (read(1, 1), 8)]).check(), Ok(()));
    assert!(in_turn(&[(write(1), 8), (write(2), 7)]).check().is_err());
    assert!(in_turn(&[(write(1), 8), (read(0, 0), 7)]).check().is_err(), "a read that is late");
}
