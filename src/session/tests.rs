//! The session table against a naive model, and the rules of ids and expiry in tables.

use std::collections::BTreeMap;

use super::{Claim, Owner, SessionIds, SessionSlot, Sessions, initial_session_id};
use crate::base::{Instant, LinkId, Rng, ServerId, SessionId};

fn ms(ms: u64) -> Instant {
    Instant::from_ms(ms)
}

fn expired(sessions: &mut Sessions, now_ms: u64) -> Vec<i64> {
    let mut out = Vec::new();
    sessions.expire(ms(now_ms), &mut out);
    out.into_iter().map(|id| id.0).collect()
}

#[test]
fn initial_ids() {
    let check = |server, t_ms, want: u64| {
        let id = initial_session_id(ServerId(server), t_ms).0.cast_unsigned();
        assert_eq!(id, want, "{server} {t_ms:#x}");
    };
    check(1, 0, 0x0100_0000_0000_0000);
    check(1, 0x1234, 0x0100_0000_1234_0000);
    // Only 40 bits of the time count; ids from 128 up make negative numbers.
    check(2, 0xabcd_ff00_0000_0001, 0x0200_0000_0001_0000);
    check(2, 0xff_ffff_ffff, 0x02ff_ffff_ffff_0000);
    check(200, 1, 0xc800_0000_0001_0000);
    check(128, 0, 0x8000_0000_0000_0001);
}

#[test]
fn fresh_ids_pass_over_tracked_ones() {
    let mut sessions = Sessions::new(2000);
    sessions.create(SessionId(1), 4000, ms(0));
    let mut ids = SessionIds::new(SessionId(-2));
    let is_taken = |id| sessions.get(id).is_some();
    let ids: Vec<i64> = (0..4).map(|_| ids.next(is_taken).0).collect();
    assert_eq!(ids, [-2, -1, 2, 3]);
}

#[test]
fn expiry_rounds_up_to_the_next_tick() {
    for (now, timeout, want) in [
        (0, 4000, 6000),
        (1, 4000, 6000),
        (1999, 4000, 6000),
        (2000, 4000, 8000),
        (1493, 4000, 6000),
        (7, 0, 2000),
        (7, -5, 2000),
        (0, i32::MAX, 2_147_484_000),
    ] {
        let mut sessions = Sessions::new(2000);
        sessions.create(SessionId(5), timeout, ms(now));
        assert_eq!(sessions.deadline(), Some(ms(want)), "{now} {timeout}");
        assert_eq!(expired(&mut sessions, want - 1), [0; 0], "{now} {timeout}");
        assert_eq!(expired(&mut sessions, want), [5], "{now} {timeout}");
        assert_eq!(sessions.deadline(), None);
    }
}

#[test]
fn a_closing_session_is_neither_touched_nor_expired() {
    let mut sessions = Sessions::new(1000);
    let slot = sessions.create(SessionId(5), 4000, ms(0));
    sessions.set_closing(slot);
    assert!(sessions.is_closing(slot));
    assert!(!sessions.touch(slot, 4000, ms(1)));
    assert_eq!(sessions.create(SessionId(5), 4000, ms(1)), slot);
    assert_eq!(expired(&mut sessions, 60_000), [0; 0]);
    assert_eq!(sessions.len(), 1);
    assert!(sessions.remove(SessionId(5)).is_some_and(|session| session.closing));
    assert!(sessions.remove(SessionId(5)).is_none());
}

#[test]
fn a_handle_is_void_after_removal() {
    let mut sessions = Sessions::new(1000);
    let old = sessions.create(SessionId(5), 4000, ms(0));
    sessions.remove(SessionId(5));
    let new = sessions.create(SessionId(6), 4000, ms(0));
    assert!(!sessions.touch(old, 4000, ms(1)));
    assert!(sessions.session(old).is_none());
    assert!(sessions.is_closing(old));
    sessions.set_closing(old);
    assert!(sessions.touch(new, 4000, ms(1)));
}

#[test]
fn touching_adds_nothing_to_the_buckets() {
    let mut sessions = Sessions::new(1000);
    let slots: Vec<SessionSlot> =
        (1..=1000).map(|id| sessions.create(SessionId(id), 4000, ms(0))).collect();
    for now in 1..5000 {
        for &slot in &slots[..10] {
            assert!(sessions.touch(slot, 4000, ms(now)));
        }
    }
    assert_eq!(sessions.queue_len(), 1000);
    assert_eq!(expired(&mut sessions, 5000).len(), 990);
    assert_eq!(sessions.queue_len(), 10);
}

#[test]
fn a_session_belongs_to_whom_its_client_came_to_last() {
    let (first, second) = (Owner::Learner(LinkId(1)), Owner::Learner(LinkId(2)));
    let mut sessions = Sessions::new(1000);
    let slot = sessions.create(SessionId(5), 4000, ms(0));
    // Nobody's yet: the first one that asks has it.
    assert_eq!(sessions.claim(slot, first), Claim::Granted);
    assert_eq!(sessions.claim(slot, first), Claim::Granted);
    for late in [second, Owner::Here] {
        assert_eq!(sessions.claim(slot, late), Claim::Moved);
        assert_eq!(sessions.admit(slot, late, 4000, ms(1)), Claim::Moved);
    }
    sessions.set_owner(slot, Owner::Here);
    assert_eq!(sessions.claim(slot, first), Claim::Moved);
    assert_eq!(sessions.admit(slot, Owner::Here, 4000, ms(1)), Claim::Granted);
    // To be known again, or touched otherwise, changes nothing.
    sessions.create(SessionId(5), 4000, ms(2));
    sessions.touch(slot, 4000, ms(2));
    assert_eq!(sessions.claim(slot, first), Claim::Moved);
    sessions.set_closing(slot);
    assert_eq!(sessions.claim(slot, Owner::Here), Claim::Gone);
    assert_eq!(sessions.admit(slot, first, 4000, ms(3)), Claim::Gone);
    sessions.remove(SessionId(5));
    assert_eq!(sessions.claim(slot, Owner::Here), Claim::Gone);
}

#[derive(Clone)]
struct Modelled {
    slot: SessionSlot,
    expiry_ms: u64,
    closing: bool,
    owner: Option<Owner>,
}

impl Modelled {
    fn claimed_by(&mut self, owner: Owner) -> Claim {
        match (self.closing, self.owner) {
            (true, _) => Claim::Gone,
            (false, Some(other)) if other != owner => Claim::Moved,
            (false, _) => {
                self.owner = Some(owner);
                Claim::Granted
            }
        }
    }
}

/// Requests and revalidations of one session, on both sides.
fn request(
    rng: &mut Rng,
    (sessions, m): (&mut Sessions, &mut Modelled),
    (now, timeout, expiry_ms): (u64, i32, u64),
) {
    let owner =
        [Owner::Here, Owner::Learner(LinkId(1)), Owner::Learner(LinkId(2))][rng.below(3) as usize];
    match rng.below(4) {
        0 => {
            sessions.set_owner(m.slot, owner);
            m.owner = Some(owner);
        }
        1 => assert_eq!(sessions.claim(m.slot, owner), m.claimed_by(owner)),
        _ => {
            let claim = sessions.admit(m.slot, owner, timeout, ms(now));
            assert_eq!(claim, m.claimed_by(owner));
            if !m.closing {
                m.expiry_ms = expiry_ms;
            }
        }
    }
}

fn compare(sessions: &mut Sessions, model: &BTreeMap<i64, Modelled>, (seed, step): (u64, usize)) {
    let mut expiries: BTreeMap<u64, Vec<SessionId>> = BTreeMap::new();
    for (&id, m) in model.iter().filter(|(_, m)| !m.closing) {
        expiries.entry(m.expiry_ms).or_default().push(SessionId(id));
    }
    let first = expiries.keys().next().map(|&at| ms(at));
    assert!(first.is_none() || sessions.deadline().is_some_and(|at| Some(at) <= first));
    assert_eq!(sessions.expiries(), expiries, "seed {seed} step {step}");
    assert_eq!(sessions.len(), model.len(), "seed {seed} step {step}");
    sessions.check_next();
}

fn run_model(seed: u64) {
    let mut rng = Rng::new(seed);
    let tick = [1, 7, 100, 2000][(seed % 4) as usize];
    let mut sessions = Sessions::new(tick);
    let mut model: BTreeMap<i64, Modelled> = BTreeMap::new();
    let mut now = rng.below(100_000);
    let round = |now: u64, timeout: i32| ((now + timeout as u64) / tick + 1) * tick;
    for step in 0..2000 {
        let id = rng.below(60) as i64 - 30;
        let timeout = rng.below(tick * 8) as i32;
        let known = model.get(&id).cloned();
        assert_eq!(sessions.get(SessionId(id)), known.map(|m| m.slot), "seed {seed} step {step}");
        match rng.below(24) {
            20.. => {
                if let Some(m) = model.get_mut(&id) {
                    let at = (now, timeout, round(now, timeout));
                    request(&mut rng, (&mut sessions, m), at);
                }
            }
            0..5 => {
                let slot = sessions.create(SessionId(id), timeout, ms(now));
                let expiry_ms = round(now, timeout);
                let fresh = Modelled { slot, expiry_ms, closing: false, owner: None };
                let entry = model.entry(id).or_insert(fresh);
                assert_eq!(entry.slot, slot, "seed {seed}");
                if !entry.closing {
                    entry.expiry_ms = expiry_ms;
                }
            }
            5..12 => {
                if let Some(m) = model.get_mut(&id) {
                    assert_eq!(sessions.touch(m.slot, timeout, ms(now)), !m.closing, "seed {seed}");
                    if !m.closing {
                        m.expiry_ms = round(now, timeout);
                    }
                }
            }
            12 => {
                if let Some(m) = model.get_mut(&id) {
                    sessions.set_closing(m.slot);
                    m.closing = true;
                }
            }
            13..15 => {
                let had = model.remove(&id).map(|m| m.closing);
                let got = sessions.remove(SessionId(id)).map(|s| s.closing);
                assert_eq!(got, had, "seed {seed} step {step}");
            }
            _ => {
                now += rng.below(tick * 2);
                let mut due: Vec<(u64, i64)> = Vec::new();
                for (&id, m) in &mut model {
                    if !m.closing && m.expiry_ms <= now {
                        m.closing = true;
                        due.push((m.expiry_ms, id));
                    }
                }
                due.sort_unstable();
                let due: Vec<i64> = due.into_iter().map(|d| d.1).collect();
                assert_eq!(expired(&mut sessions, now), due, "seed {seed} step {step}");
            }
        }
        compare(&mut sessions, &model, (seed, step));
    }
}

#[test]
fn agrees_with_the_model() {
    for seed in 0..60 {
        run_model(seed);
    }
}
