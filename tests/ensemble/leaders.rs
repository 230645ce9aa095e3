//! Leaders that are killed under load, again and again.

use super::cluster::{Ensemble, SIZE};
use super::load::Load;
use crate::util::{Client, Jute, eventually, raw_connect};
use std::fs;
use std::io::{Read, Write};

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

/// Sockets that only the thread with the lifelines has open, by their names in /proc.
fn lifelines(process: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("threads of a member");
    let is_it = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "lifelines\n")
    };
    let task = tasks.map(|task| task.expect("a thread").path()).find(is_it).expect("the thread");
    let files = fs::read_dir(task.join("fd")).expect("its descriptors");
    let targets = files.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// The kernel closes them before it frees the process's memory, and all else after that.
#[test]
fn a_leader_has_a_lifeline_to_each_learner_on_a_thread_with_its_own_descriptors() {
    let mut ensemble = Ensemble::start(&[]);
    let leader = ensemble.leader();
    let process = ensemble.member(leader).pid();
    eventually("a lifeline to each", || (lifelines(process) == SIZE - 1).then_some(()));
    for at in Ensemble::others(leader) {
        let process = ensemble.member(at).pid();
        assert_eq!(lifelines(process), 0, "nobody follows {at}");
    }
    // Anybody can reach the port, and only the leader knows what its learner has told it.
    let learner = Ensemble::others(leader)[0];
    let mut client = ensemble.connect(learner);
    let said = ensemble.member(learner).stderr().len();
    let mut line = raw_connect(ensemble.peer_ports(learner)[1]).expect("the port for votes");
    let first = Jute::new().long(-0x726b_0001).long(leader as i64 + 1).long(7);
    line.write_all(&first.0).expect("a lifeline");
    line.shutdown(std::net::Shutdown::Write).expect("its end");
    ensemble.member(learner).wait_for_output(said, "does not know what this server has told");
    assert_eq!(line.read(&mut [0; 1]).expect("an end"), 0, "nothing is said on it");
    client.create("/after", b"", 0).ok();
    assert_eq!(ensemble.leader(), leader);
    assert_eq!(lifelines(process), SIZE - 1);
    let seen = ensemble.member(learner).stderr();
    assert!(!seen[said..].contains("has ended"), "{}", &seen[said..]);
}
