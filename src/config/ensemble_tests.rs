//! Tests of what makes a server a member of an ensemble.

use super::tests::{check_warning, checked, file, settings, texts};
use super::*;
use crate::base::{ServerId, Zxid};
use crate::quorum::Role;

const THREE: &str = "server.1=a:1:2;2181\nserver.2=b:1:2;2182\nserver.3=c:1:2:observer;2183\n\
                     server.4=d:1:2;2184\n";

/// The configuration of a member whose `myid` has this content.
fn member(id: &str, lines: &str) -> RawConfig {
    let mut raw = file(&format!("dataDir=/d\ninitLimit=10\nsyncLimit=5\n{lines}"));
    raw.add_my_id("/d/myid", Ok(id.as_bytes().to_vec()));
    raw
}

#[track_caller]
fn ensemble(raw: &RawConfig) -> EnsembleSettings {
    settings(raw).ensemble.expect("a member")
}

/// The only error has to begin with `begin` and contain `part`.
#[track_caller]
fn check_error(raw: &RawConfig, begin: &str, part: &str) {
    let errors = texts(checked(raw).errors());
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].starts_with(begin) && errors[0].contains(part), "{errors:#?}");
}

#[test]
fn a_member_has_the_defaults_of_zookeeper() {
    let raw = member("2\n", THREE);
    let found = ensemble(&raw);
    let expected = EnsembleSettings {
        sid: ServerId(2),
        membership: found.membership.clone(),
        init_limit: 10,
        sync_limit: 5,
        is_leader_serving: true,
        is_adaptive_timeout: true,
        is_create2_in_multi: true,
        epoch_transactions: u32::MAX - (1 << 20),
        cnx_timeout_ms: 5000,
        is_listen_on_all_ips: false,
        bind_attempts_max: Some(3),
        vote_repeat_ms_min: 200,
        vote_repeat_ms_max: 60_000,
    };
    assert_eq!(found, expected);
    assert_eq!(found.membership.quorums().voters(), [1, 2, 4].map(ServerId));
    assert_eq!(found.membership.version(), Zxid::ZERO);
    assert_eq!(found.role(), Role::Participant);
    assert_eq!(texts(checked(&raw).warnings()), Vec::<String>::new());
    let report = checked(&raw).report();
    assert!(report.starts_with("Server 2, one participant of an ensemble of 3 participants and 1"));
}

#[test]
fn every_key_of_a_member_is_read() {
    let raw = member(
        "3\r\n",
        &format!(
            "{THREE}cnxTimeout=100\nquorumListenOnAllIPs=true\n\
             electionPortBindRetry=0\nfastleader.minNotificationInterval=50\n\
             fastleader.maxNotificationInterval=900\nelectionAlg=3\npeerType=observer\n\
             multiAddress.enabled=true\n"
        ),
    );
    let found = ensemble(&raw);
    assert_eq!((found.sid, found.role()), (ServerId(3), Role::Observer));
    assert_eq!(found.cnx_timeout_ms, 100);
    assert!(found.is_listen_on_all_ips);
    assert_eq!(found.bind_attempts_max, None);
    assert_eq!((found.vote_repeat_ms_min, found.vote_repeat_ms_max), (50, 900));
    let check = checked(&raw);
    for key in KEYS.iter().filter(|key| key.status == Status::ForMembers) {
        let count = check.effective().iter().filter(|e| e.name == key.name).count();
        assert_eq!(count, 1, "{}", key.name);
    }
}

#[test]
fn the_client_address_is_the_one_in_the_line_of_this_server() {
    assert_eq!(settings(&member("4", THREE)).client_port, 2184);
    let lines = "server.1=a:1:2;10.0.0.1:2181\nserver.2=b:1:2;9\nserver.3=c:1:2\n";
    let same = settings(&member("1", &format!("{lines}clientPort=2181")));
    assert_eq!((same.client_host.as_deref(), same.client_port), (Some("10.0.0.1"), 2181));
    let own = settings(&member("3", &format!("{lines}clientPort=2181")));
    assert_eq!((own.client_host, own.client_port), (None, 2181));
    let raw = member("2", &format!("{lines}clientPort=2181"));
    check_error(&raw, "zoo.cfg:7: error: clientPort=2181: differs from the client address", "9");
    check_error(&member("3", lines), "error: clientPort: not set", "no client could connect");
}

#[test]
fn a_server_that_does_not_know_which_it_is_does_not_start() {
    let refused = "/d/myid:1: error: ";
    check_error(&member("", THREE), refused, "serverid `` is not a number");
    check_error(&member("one\n1", THREE), refused, "serverid `one` is not a number");
    check_error(&member("5", THREE), refused, "my id 5 is not in the list of servers; write");
    check_error(&member("5", THREE), refused, "one of 1, 2, 3, 4");
    let mut raw = member("1", THREE);
    raw.add_my_id("/d/myid", Err("No such file".to_string()));
    let missing = "zoo.cfg:1: error: dataDir=/d: myid file is missing: /d/myid cannot be read: No";
    check_error(&raw, missing, "write the number of this server into it, one of 1, 2, 3, 4");
    assert_eq!(raw.my_id_file().as_deref(), Some("/d/myid"));
    // A server alone needs none.
    let mut alone = file("dataDir=/d/\nserver.1=a:1:2;2181");
    alone.add_my_id("/d/myid", Err("No such file".to_string()));
    assert_eq!((settings(&alone).ensemble, alone.my_id_file().as_deref()), (None, Some("/d/myid")));
}

#[test]
fn limits_are_required() {
    let mut raw = file(&format!("dataDir=/d\n{THREE}"));
    raw.add_my_id("/d/myid", Ok(b"1".to_vec()));
    let errors = texts(checked(&raw).errors());
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("error: initLimit: not set; a member"), "{errors:#?}");
    assert!(errors[1].contains("add it, for example syncLimit=5"), "{errors:#?}");
    let zero = member("1", &format!("{THREE}initLimit=0"));
    check_error(&zero, "zoo.cfg:8: error: initLimit=0: not allowed", "from 1");
}

/// Two of Apache's open mistakes are in what is not built: ZOOKEEPER-5088 (an observer master lacks
/// proposals) and -3526 (a read-only server makes transactions).
#[test]
fn what_is_not_built_is_refused_with_its_line() {
    for (line, part) in [
        ("reconfigEnabled=true", "changes of the membership at run time are not built yet"),
        ("quorum.auth.enableSasl=true", "SASL between members is not built yet"),
        ("sslQuorum=true", "TLS between members is not built yet"),
        ("localSessionsEnabled=true", "local sessions are not built yet"),
        ("oraclePath=/o", "the oracle of two members is not built yet"),
        ("observerMasterPort=2191", "observers follow the leader"),
        ("group.1=1:2:4", "quorums of groups and weights are not built yet"),
        ("weight.1=2", "quorums of groups and weights are not built yet"),
    ] {
        check_error(&member("1", &format!("{THREE}{line}")), "zoo.cfg:8: error: ", part);
    }
    let mut raw = member("1", THREE);
    raw.define("readonlymode.enabled=true");
    check_error(&raw, "command line: error: readonlymode.enabled=true: read-only", "not built");
    for line in ["reconfigEnabled=false", "observerMasterPort=0", "localSessionsEnabled=false"] {
        assert!(checked(&member("1", &format!("{THREE}{line}"))).is_ok(), "{line}");
    }
}

#[test]
fn doubtful_lists_are_warned_about() {
    let two = "server.1=a:1:2;1\nserver.2=b:1:2;2\n";
    check_warning(&member("1", two), "zoo.cfg:4: warning: server.1=a:1:2;1: with two", "stops");
    let four = format!("{two}server.3=c:1:2\nserver.4=d:1:2\n");
    check_warning(&member("1", &four), "zoo.cfg:4: warning: ", "no more failures than 3 do");
    let raw = member("1", &format!("{THREE}peerType=observer"));
    check_warning(&raw, "zoo.cfg:8: warning: peerType=observer: ", "a participant, which counts");
    let raw = member("300", "server.1=a:1:2;1\nserver.2=b:1:2;2\nserver.300=c:1:2;3\n");
    check_warning(&raw, "zoo.cfg:6: warning: server.300=c:1:2;3: session ids begin", "1 to 255");
    let raw = member(
        "300",
        "server.1=a:1:2\nserver.2=b:1:2\nserver.300=c:1:2;3\n\
                             extendedTypesEnabled=true",
    );
    check_error(&raw, "zoo.cfg:7: error: extendedTypesEnabled=true: server 300 has", "up to 254");
}

#[test]
fn no_two_members_have_one_place() {
    let lines = "server.1=h:1:2;1\nserver.2=H:2:3;2\nserver.3=i:1:2;3\n";
    check_error(&member("1", lines), "zoo.cfg:5: error: ", "server 1 has port 2 of h already");
    let lines = "server.1=h:1:2;1\nserver.01=i:1:2;1\nserver.3=j:1:2;1\n";
    check_error(&member("1", lines), "zoo.cfg:", "server 1 is listed twice");
    let several = "server.1=h:1:2|i:1:2;1\nserver.2=j:1:2\nserver.3=k:1:2\n";
    check_error(&member("1", several), "zoo.cfg:4: error: ", "add multiAddress.enabled=true");
    let raw = member("1", &format!("{several}multiAddress.enabled=true"));
    assert_eq!(ensemble(&raw).this().map(|this| this.addresses.len()), Some(2));
}

#[test]
fn the_name_of_the_dynamic_file_ends_with_the_version() {
    let version = |name: &str| {
        let mut raw = member("1", &format!("dynamicConfigFile={name}"));
        raw.add_dynamic_file(name, THREE.as_bytes());
        ensemble(&raw).membership.version()
    };
    assert_eq!(version("zoo.cfg.dynamic.10000000f"), Zxid(0x1_0000_000f));
    assert_eq!(version("zoo.cfg.dynamic"), Zxid::ZERO);
    assert_eq!(version("members"), Zxid::ZERO);
    let mut raw = member("1", "dynamicConfigFile=members");
    raw.add_dynamic_file("members", b"server.1=a:1:2;2181\nversion=5\n");
    check_error(&raw, "members:2: error: version=5: ", "only server.N");
}

#[test]
fn all_errors_of_a_member_come_together() {
    let mut raw = file(&format!("dataDir=/d\n{THREE}sslQuorum=true\ntickTime=x"));
    raw.add_my_id("/d/myid", Ok(b"9".to_vec()));
    let errors = texts(checked(&raw).errors());
    assert_eq!(errors.len(), 5, "{errors:#?}");
}
