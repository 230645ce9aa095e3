//! Drivers for what authentication reads: JAAS files, SASL tokens, auth packets, ACLs.

use std::net::{IpAddr, Ipv4Addr};

use ringkeeper::auth::{Auth, AuthOptions, AuthOutcome, Identity, SaslOutcome, parse_jaas};
use ringkeeper::base::Rng;
use ringkeeper::wire::{AclBytes, Perms, Reader};

use super::harness::{Driver, run};
use super::input::{bytes, input, pick};
use super::requests::put_acl;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const JAAS: &str = "/* é */ Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule \
                    required\n  user_super=\"a\\\"b\" // c\n  user_bob=\"bob\";\n};\n";

fn jaas_file(rng: &mut Rng) -> Vec<u8> {
    let mut out = JAAS.repeat(1 + rng.below(2) as usize);
    let extra = pick(rng, &["", "# end", "/* open", "Client { a.B optional x=\"\\", "\"${HOME}\""]);
    out.push_str(extra);
    out.into_bytes()
}

fn jaas(rng: &mut Rng) {
    let (text, _) = input(rng, jaas_file);
    let text = String::from_utf8_lossy(&text);
    match parse_jaas(&text) {
        Ok(jaas) => {
            if let Some(section) = jaas.section("Server") {
                let jaas_server = Some(section.clone());
                let _ = Auth::new(AuthOptions { jaas_server, ..AuthOptions::default() });
            }
        }
        Err(e) => assert!(e.line as usize <= 1 + text.split(['\n', '\r']).count(), "{e}"),
    }
}

fn engine() -> Auth {
    let jaas_server = parse_jaas(JAAS).unwrap().section("Server").cloned();
    let options =
        AuthOptions { jaas_server, sasl_provider_enabled: true, ..AuthOptions::default() };
    Auth::new(options).unwrap()
}

fn sasl(rng: &mut Rng) {
    let auth = engine();
    let mut session = auth.sasl_begin();
    let ids = auth.initial(HERE);
    let mut random = |out: &mut [u8; ringkeeper::auth::NONCE_BYTES]| out.fill(7);
    let first = session.step(&auth, &ids, &[], &mut random);
    let SaslOutcome::Continue(challenge) = first else { panic!("no challenge: {first:?}") };
    let challenge = String::from_utf8(challenge).unwrap();
    let nonce = challenge.split('"').nth(3).unwrap();
    let (token, _) = input(rng, |rng| {
        let user = pick(rng, &["bob", "super", "é", "a\\\"b", "", "x@y@z", "a/b@C"]);
        let qop = pick(rng, &["auth", "auth-int", "\"auth\"", ""]);
        let nc = pick(rng, &["00000001", "1", "zz", "99999999999999"]);
        format!(
            "charset=utf-8,username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",nc={nc},\
             cnonce=\"abc\",digest-uri=\"zookeeper/zk-sasl-md5\",maxbuf=65536,\
             response=0123456789abcdef0123456789abcdef,qop={qop}"
        )
        .into_bytes()
    });
    for token in [&token[..], &token[..], &[]] {
        let outcome = session.step(&auth, &ids, token, &mut random);
        assert!(!matches!(outcome, SaslOutcome::Done { .. }), "a wrong answer is no proof");
    }
}

fn packets(rng: &mut Rng) {
    let auth = engine();
    let mut ids = auth.initial(HERE);
    if rng.chance(1, 2) {
        ids = ids.with([Identity::new("sasl", "bob")]);
    }
    for _ in 0..rng.below(4) {
        let scheme = pick(rng, &["digest", "ip", "sasl", "x509", "ensemble", "super", "", "é"]);
        let data = bytes(rng, 40);
        let data = rng.chance(7, 8).then_some(&data[..]);
        if let AuthOutcome::Added(more) = auth.add_auth(&ids, HERE, Some(scheme), data) {
            assert!(!more.is_super(), "nobody is super here");
            ids = more;
        }
    }
    let mut listed = Vec::new();
    auth.who_am_i(&ids, &mut listed);
    let (acl, _) = input(rng, |rng| {
        let mut out = Vec::new();
        put_acl(rng, &mut out);
        out
    });
    let Ok(acl) = AclBytes::read(&mut Reader::new(&acl)) else { return };
    auth.allows(acl, None, Perms(rng.next_u64() as i32), &ids);
    let mut shown = Vec::new();
    auth.redact(acl, &mut shown);
    let mut room = Vec::new();
    let Ok(fixed) = auth.fix_up(acl, &ids, &mut room) else { return };
    // What is stored can be read, and stays as it is but for duplicates: as in Apache, they are
    // removed before `auth` is replaced, which can make new ones.
    let stored = AclBytes::parse(fixed.bytes()).unwrap();
    let mut unique = Vec::new();
    for entry in stored.iter() {
        if !unique.contains(&entry) {
            unique.push(entry);
        }
    }
    let mut room = Vec::new();
    let again = auth.fix_up(stored, &ids, &mut room).unwrap();
    assert!(again.bytes() == stored.bytes() || again.iter().eq(unique), "{stored:x?}");
}

#[test]
fn jaas_files() {
    run(Driver { name: "auth::jaas_files", budget: 10_000, case: jaas });
}

#[test]
fn sasl_tokens() {
    run(Driver { name: "auth::sasl_tokens", budget: 3_000, case: sasl });
}

#[test]
fn auth_packets_and_acls() {
    run(Driver { name: "auth::auth_packets_and_acls", budget: 10_000, case: packets });
}
