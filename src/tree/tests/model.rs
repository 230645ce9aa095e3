//! Random transactions against the naive model.

use std::collections::VecDeque;

use crate::base::Rng;
use crate::tree::{ApplyMode, Foresight, Tree};
use crate::wire::TxnType;

use super::OPTIONS;
use super::workload::{Recorder, Workload};

#[test]
fn random_transactions_agree_with_the_naive_model() {
    for seed in 0..40 {
        let mut tree = Tree::new(OPTIONS);
        let mut work = Workload::new(seed, &tree, true);
        for step in 0..400 {
            let hint = format!("seed {seed} step {step}");
            let txn = work.next();
            let mut got = Recorder::default();
            txn.apply(&mut tree, ApplyMode::Live, &mut got);
            work.check(got, txn.header.kind, &hint);
            assert_eq!(tree.digest(), work.model.digest(), "{hint}");
            tree.check_next();
            if step % 40 == 39 {
                work.model.check(&tree, &hint);
            }
        }
        work.model.check(&tree, &format!("seed {seed}"));
    }
}

#[test]
fn replaying_the_whole_log_again_changes_nothing() {
    for seed in 100..120 {
        let mut tree = Tree::new(OPTIONS);
        let mut work = Workload::new(seed, &tree, false);
        let log: Vec<_> = (0..200).map(|_| work.next()).collect();
        // From any point back: applied up to `end`, then again from `start`.
        for round in 0..4 {
            let end = log.len() - round * 10;
            let start = end / 3 * round;
            let mut twice = Tree::new(OPTIONS);
            for txn in log[..end].iter().chain(&log[start.min(end)..]) {
                txn.apply(&mut twice, ApplyMode::Replay, &mut Recorder::default());
            }
            work.model.check(&twice, &format!("seed {seed} round {round}"));
        }
        for txn in &log {
            txn.apply(&mut tree, ApplyMode::Live, &mut Recorder::default());
        }
        work.model.check(&tree, &format!("seed {seed}"));
    }
}

/// Transactions are counted in while some before them are not applied yet.
#[test]
fn the_digest_is_foreseen_of_random_transactions() {
    for seed in 0..60 {
        let mut tree = Tree::new(OPTIONS);
        let mut work = Workload::new(seed, &tree, false);
        let mut foresight = Foresight::new(&tree);
        let (mut rng, mut under_way) = (Rng::new(seed), VecDeque::new());
        for step in 0..400 {
            let mut txn = work.next();
            if txn.header.kind == TxnType::CloseSession && rng.chance(1, 2) {
                // It lists no paths.
                txn.body.clear();
            }
            let mut entry = Vec::new();
            txn.header.encode_into(&mut entry);
            entry.extend_from_slice(&txn.body);
            let digest = foresight.foresee(&tree, &entry).map(|digest| digest.tree_digest);
            let goes_without = match txn.header.kind {
                TxnType::CloseSession => txn.body.is_empty(),
                kind => kind == TxnType::Error,
            };
            let expected = (!goes_without).then(|| work.model.digest());
            assert_eq!(digest, expected, "seed {seed} step {step} {:?}", txn.header.kind);
            under_way.push_back(txn);
            while under_way.len() as u64 > rng.below(30)
                && let Some(txn) = under_way.pop_front()
            {
                txn.apply(&mut tree, ApplyMode::Live, &mut Recorder::default());
                if rng.chance(1, 3) {
                    foresight.forget(&tree, txn.header.zxid);
                }
            }
        }
    }
}
