//! Very many clients come back at once.

use super::cluster::{Ensemble, SIZE};
use super::load::Load;
use crate::util::{Client, Session, eventually};
use std::net::TcpStream;

/// Clients; `RK_CROWD=10000` by hand, where a process may have 20 000 open files (`ulimit -n`).
const CROWD: usize = 700;

fn crowd() -> usize {
    let set = std::env::var("RK_CROWD").ok();
    set.map_or(CROWD, |text| text.parse().expect("RK_CROWD is a number"))
}

/// Terms that have begun at this member, or that it has followed.
fn terms(ensemble: &mut Ensemble, at: usize) -> usize {
    ensemble.member(at).stderr().matches("leads by the vote of a quorum").count()
}

/// Clients of all members come back, all to the next leader in its first moments, while others
/// write. It goes on to lead, and every session goes on.
#[test]
fn a_crowd_that_comes_back_to_a_new_leader_neither_unseats_it_nor_loses_a_session() {
    let mut ensemble = Ensemble::start(&["maxClientCnxns=0"]);
    let fresh = Session { id: 0, password: vec![0; 16], timeout_ms: 20_000, read_only: false };
    let addresses = ensemble.addresses();
    let each = (0..crowd()).map(|number| addresses[number % SIZE]);
    let links: Vec<TcpStream> =
        each.map(|address| Client::ask(address, &fresh, 0).expect("a connection")).collect();
    let clients: Vec<Client> =
        links.into_iter().map(|link| Client::granted(link, 0).expect("a session")).collect();
    let sessions: Vec<Session> = clients.iter().map(|client| client.session.clone()).collect();
    assert!(sessions.iter().all(|session| session.id != 0));
    let load = Load::start(&ensemble);
    load.wait_for(300);

    let leader = ensemble.leader();
    ensemble.member(leader).kill();
    drop(clients);
    let survivors = Ensemble::others(leader);
    let next = ensemble.leader_among(&survivors);
    let before = survivors.map(|at| terms(&mut ensemble, at));
    let mut left = sessions;
    eventually("everybody has the session back", || {
        let asked: Vec<_> =
            left.iter().map(|session| Client::ask(addresses[next], session, 0)).collect();
        let mut refused = Vec::new();
        for (link, session) in asked.into_iter().zip(left.drain(..)) {
            match link.and_then(|link| Client::granted(link, 0)) {
                Ok(client) => assert_eq!(client.session.id, session.id, "the session was lost"),
                // One that came while the server was not ready for it comes again.
                Err(_) => refused.push(session),
            }
        }
        left = refused;
        left.is_empty().then_some(())
    });
    load.wait_for(300);
    assert_eq!(ensemble.leader_among(&survivors), next);
    assert_eq!(survivors.map(|at| terms(&mut ensemble, at)), before, "nobody was elected since");
    ensemble.restart(leader);
    load.verify(&ensemble);
}
