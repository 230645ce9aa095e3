//! Three servers that elect a leader, lose it, and take it back.

use crate::util::{Options, Server, eventually, free_port};
use std::fs;

/// Three members that have never run.
fn members() -> Vec<Server> {
    let mut config = vec!["initLimit=20".to_owned(), "syncLimit=10".to_owned()];
    for number in 1..=3 {
        let (quorum, election) = (free_port(), free_port());
        config.push(format!("server.{number}=127.0.0.1:{quorum}:{election}"));
    }
    let prepare = |number: u32| {
        let options = Options { config: config.clone(), ..Options::default() };
        let server = Server::prepare(options);
        fs::write(server.data_dir().join("myid"), number.to_string()).expect("myid");
        server
    };
    (1..=3).map(prepare).collect()
}

/// Whether it has come as far as to answer.
fn is_started(server: &Server) -> bool {
    server.stderr().contains("stages: ")
}

fn is_in_role(server: &Server, role: &str) -> bool {
    is_started(server) && server.ask("srvr").contains(&format!("\nMode: {role}\n"))
}

/// The place of the leader, once all of these are in step.
fn leader(servers: &[Server]) -> usize {
    eventually("one leads and the others follow", || {
        let leads: Vec<bool> = servers.iter().map(|server| is_in_role(server, "leader")).collect();
        let mut others = servers.iter().zip(&leads).filter(|(_, leads)| !**leads);
        let all_follow = others.all(|(server, _)| is_in_role(server, "follower"));
        let one_leads = leads.iter().filter(|leads| **leads).count() == 1;
        (one_leads && all_follow).then(|| leads.iter().position(|leads| *leads))?
    })
}

/// Through each of these, a client that has asked for the newest state finds this data.
fn all_have(servers: &[Server], path: &str, data: &[u8]) {
    for server in servers {
        let mut client = server.connect();
        client.sync("/");
        assert_eq!(client.get(path).0, data, "{path}");
        client.close();
    }
}

#[test]
fn what_one_member_acknowledged_outlives_the_leader() {
    let mut servers = members();
    servers.iter_mut().for_each(Server::spawn);
    let first = leader(&servers);
    let shown = servers[first].ask("mntr");
    assert!(shown.contains("\nzk_synced_followers\t2\n"), "{shown}");
    let follower = (first + 1) % 3;
    servers[follower].connect().create("/before", b"1", 0).ok();
    all_have(&servers, "/before", b"1");

    let mut killed = servers.remove(first);
    killed.kill();
    let second = leader(&servers);
    all_have(&servers, "/before", b"1");
    servers[1 - second].connect().create("/after", b"2", 0).ok();

    killed.run();
    servers.push(killed);
    assert_eq!(leader(&servers), second, "one that comes back follows");
    all_have(&servers, "/after", b"2");
    for mut server in servers {
        assert!(server.stop().success(), "{}", server.stderr());
    }
}

#[test]
fn an_emptied_member_gets_everything_from_its_leader() {
    let mut servers = members();
    servers.iter_mut().for_each(Server::spawn);
    let leading = leader(&servers);
    servers[leading].connect().create("/kept", b"1", 0).ok();
    let mut emptied = servers.remove((leading + 1) % 3);
    emptied.kill();
    fs::remove_dir_all(emptied.data_dir().join("version-2")).expect("version-2");
    emptied.run();
    servers.push(emptied);
    leader(&servers);
    all_have(&servers, "/kept", b"1");
}

#[test]
fn a_member_alone_serves_nobody_and_ends_when_it_is_told_to() {
    let mut servers = members();
    servers[0].spawn();
    eventually("it is started", || is_started(&servers[0]).then_some(()));
    let answer = servers[0].ask("srvr");
    assert_eq!(answer, "This ZooKeeper instance is not currently serving requests\n");
    assert!(servers[0].stop().success(), "{}", servers[0].stderr());
}
