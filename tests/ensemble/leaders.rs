//! Leaders that are killed under load, again and again.

use super::cluster::{Ensemble, SIZE};
use super::load::Load;
use crate::util::Client;

/// Kills the leader `rounds` times; the killed one comes back each time.
fn kill_leaders(ensemble: &mut Ensemble, rounds: usize) {
    let load = Load::start(ensemble);
    for round in 0..rounds {
        let path = format!("/round-{round}");
        let mut idle: Vec<Client> = (0..SIZE).map(|at| ensemble.connect(at)).collect();
        for client in &mut idle {
            assert_eq!(client.exists(&path, true), None);
        }
        load.wait_for(300);
        let leader = ensemble.leader();
        ensemble.member(leader).kill();
        let survivors = Ensemble::others(leader);
        let next = ensemble.leader_among(&survivors);
        eprintln!("round {round}: member {next} leads after {leader}");
        ensemble.connect(survivors[0]).create(&path, b"", 0).ok();
        let (session, last_zxid) = idle.remove(leader).abandon();
        for mut client in idle {
            // On the connection that was there before; this one watched while nobody led.
            assert_eq!(client.event().path, path);
            client.close();
        }
        ensemble.reconnect(survivors[1], &session, last_zxid).close();
        load.wait_for(300);
        ensemble.restart(leader);
    }
    load.verify(ensemble);
    ensemble.assert_equal("/");
}

#[test]
fn leaders_that_are_killed_lose_no_write_no_session_and_no_idle_connection() {
    kill_leaders(&mut Ensemble::start(&[]), 5);
}

#[test]
fn leaders_with_stages_on_separate_threads_are_killed_without_loss() {
    let lines =
        ["ringkeeper.network.threads=2", "ringkeeper.cores.pipeline=0", "ringkeeper.cores.log=1"];
    let mut ensemble = Ensemble::start(&lines);
    for at in 0..SIZE {
        ensemble.member(at).wait_for_output(0, "; pipeline on CPU 0; log on CPU 1");
    }
    kill_leaders(&mut ensemble, 2);
}
