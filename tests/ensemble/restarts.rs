//! All members end at once, and come back.

use super::cluster::{Ensemble, SIZE};
use super::load::Load;

/// Sends all members `signal` under load, expects this exit code, and starts them again.
fn end_all(ensemble: &mut Ensemble, signal: &str, code: Option<i32>) {
    let load = Load::start(ensemble);
    load.wait_for(2000);
    ensemble.signal_all(signal);
    load.end();
    assert_eq!(ensemble.wait_for_ends(), [code; SIZE]);
    ensemble.start_all();
    load.verify(ensemble);
    ensemble.assert_equal("/");
}

#[test]
fn what_was_acknowledged_is_there_after_all_members_were_stopped() {
    end_all(&mut Ensemble::start(&[]), "TERM", Some(0));
}

#[test]
fn what_was_acknowledged_is_there_after_all_members_were_killed() {
    end_all(&mut Ensemble::start(&[]), "KILL", None);
}
