//! Access checks against long lists and many identities: answers, and what they cost.

use super::tests::{Entry, auth, everything, ids, list};
use super::{Auth, Identities, Identity};
use crate::base::Rng;
use crate::wire::{AclBytes, Perms};

fn digests(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("u{i}:h")).collect()
}

/// What a check has cost.
fn cost(auth: &Auth, acl: &[u8], serial: Option<u64>, perm: Perms, ids: &Identities) -> u64 {
    auth.take_cost();
    auth.allows(AclBytes::parse(acl).unwrap(), serial, perm, ids);
    auth.take_cost()
}

#[test]
fn a_long_list_is_gone_through_once() {
    let auth = everything();
    let names = digests(20_000);
    let entries: Vec<Entry<'_>> =
        names.iter().map(|name| (Perms::READ.0, Some("digest"), Some(&**name))).collect();
    let acl = list(&entries);
    let last = auth.number(ids(&[("digest", "u19999:h")]));
    // Once for each list and each set of identities, whatever is asked for.
    let whole = cost(&auth, &acl, Some(1), Perms::WRITE, &last);
    assert!(whole >= 20_000, "{whole}");
    for perm in [Perms::READ, Perms::WRITE, Perms::ADMIN] {
        assert_eq!(cost(&auth, &acl, Some(1), perm, &last), 0);
        let may = auth.allows(AclBytes::parse(&acl).unwrap(), Some(1), perm, &last);
        assert_eq!(may, perm == Perms::READ);
    }
    // Another list, also one that takes its place, and other identities.
    assert_eq!(cost(&auth, &acl, Some(1 + 4096), Perms::READ, &last), whole);
    assert_eq!(cost(&auth, &acl, Some(1), Perms::READ, &last), whole);
    let more = auth.number(last.with([Identity::new("digest", "eve:h")]));
    assert_eq!(cost(&auth, &acl, Some(1), Perms::READ, &more), whole);
    // One without a number is gone through each time.
    assert_eq!(cost(&auth, &acl, None, Perms::WRITE, &last), whole);
    assert_eq!(cost(&auth, &acl, None, Perms::WRITE, &last), whole);
}

#[test]
fn an_entry_is_not_compared_with_every_identity() {
    let auth = everything();
    let (names, entries) = (digests(1_000), digests(3_000));
    let many = Identities::new(names.iter().map(|name| Identity::new("digest", name.clone())));
    let entries: Vec<Entry<'_>> =
        entries[1_000..].iter().map(|name| (1, Some("digest"), Some(&**name))).collect();
    let acl = list(&entries);
    let few = ids(&[("digest", "eve:h")]);
    let of_few = cost(&auth, &acl, None, Perms::READ, &few);
    assert_eq!(cost(&auth, &acl, None, Perms::READ, &many), of_few);
    // An identity that is there already is not copied beside the others.
    let again = many.with([Identity::new("digest", "u500:h")]);
    assert!(std::ptr::eq(again.iter().as_slice(), many.iter().as_slice()));
    assert!(many.contains(&Identity::new("digest", "u999:h")));
    assert_eq!(many.of_scheme("digest").iter().count(), 1_000);
    assert!(many.of_scheme("sasl").is_empty());
}

/// With or without remembered verdicts, the answer is the one of a naive comparison.
#[test]
fn remembered_verdicts_are_those_of_a_naive_check() {
    let auth = auth(|o| o.sasl_provider_enabled = true);
    let mut rng = Rng::new(7);
    let schemes = ["digest", "sasl", "ip", "world", "foo"];
    let mut callers: Vec<Identities> = Vec::new();
    for _ in 0..8 {
        let pairs = (0..rng.below(6)).map(|_| {
            let scheme = schemes[rng.below(3) as usize];
            let n = rng.below(50);
            let id = if scheme == "ip" { format!("10.0.0.{n}") } else { format!("u{n}") };
            Identity::new(scheme, id)
        });
        callers.push(auth.number(Identities::new(pairs.collect::<Vec<_>>())));
    }
    for serial in 1..200 {
        let names: Vec<_> = (0..100)
            .map(|_| {
                let n = rng.below(1_000);
                let scheme = schemes[rng.below(5) as usize];
                let id =
                    if scheme == "ip" { format!("10.0.0.{}", n % 256) } else { format!("u{n}") };
                (1 << rng.below(5), scheme, id)
            })
            .collect();
        let entries: Vec<Entry<'_>> =
            names.iter().map(|(perms, scheme, id)| (*perms, Some(*scheme), Some(&**id))).collect();
        let acl = list(&entries);
        for ids in &callers {
            for perm in [1, 2, 4, 8, 16].map(Perms) {
                let naive = names.iter().any(|(perms, scheme, id)| {
                    perms & perm.0 != 0
                        && *scheme != "foo"
                        && ids.iter().any(|held| held.scheme == *scheme && held.id == *id)
                });
                let parsed = AclBytes::parse(&acl).unwrap();
                for serial in [None, Some(serial), Some(serial)] {
                    assert_eq!(auth.allows(parsed, serial, perm, ids), naive);
                }
            }
        }
    }
}
