//! Rules of the module against facts recorded from Apache ZooKeeper 3.9.5 and the JDK.

use core::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::base::Rng;
use crate::wire::{Acl, AclBytes, ErrorCode, Perms, Reader, put_i32};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn auth(change: impl FnOnce(&mut AuthOptions)) -> Auth {
    let mut options = AuthOptions::default();
    change(&mut options);
    Auth::new(options).unwrap()
}

pub(super) fn everything() -> Auth {
    auth(|o| {
        o.sasl_provider_enabled = true;
        o.x509_enabled = true;
        o.ensemble_provider_enabled = true;
    })
}

pub(super) type Entry<'a> = (i32, Option<&'a str>, Option<&'a str>);

pub(super) fn list(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_i32(&mut out, entries.len() as i32);
    for (perms, scheme, id) in entries {
        let acl =
            Acl { perms: Perms(*perms), scheme: scheme.map(Into::into), id: id.map(Into::into) };
        acl.encode_into(&mut out);
    }
    out
}

pub(super) fn ids(pairs: &[(&'static str, &str)]) -> Identities {
    Identities::new(pairs.iter().map(|(scheme, id)| Identity::new(scheme, *id)))
}

fn added(outcome: AuthOutcome) -> Identities {
    match outcome {
        AuthOutcome::Added(ids) => ids,
        AuthOutcome::Failed | AuthOutcome::CloseSilently => panic!("{outcome:?}"),
    }
}

#[test]
fn addresses_are_written_as_java_does() {
    for (address, text) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8::a0", "2001:db8:0:0:0:0:0:a0"),
    ] {
        assert_eq!(java_text(address.parse().unwrap()), text);
    }
}

#[test]
fn ip_ids_valid_and_invalid() {
    for id in [
        "1.2.3.4",
        "1.2.3.4/08",
        "1.2.3.4/-0",
        "1.2.3.4/+8",
        "+1.2.3.4",
        "1.2.3.-0",
        "01.002.3.4",
        "::",
        "::1",
        "1::",
        "1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7::",
        "::2:3:4:5:6:7:8",
        "::/0",
        "::/128",
        "::1/064",
        "2001:DB8::/32",
        "+1::",
        "-1::",
    ] {
        assert!(ip::is_valid(id), "{id}");
    }
    for id in [
        "",
        "1.2.3.4/",
        "1.2.3.4/33",
        "1.2.3",
        "1.2.3.4.",
        "1.2.3.256",
        "0x1.2.3.4",
        " 1.2.3.4",
        "1.2.3.4/8/9",
        "1:2:3:4:5:6:7",
        "1:2:3:4::5:6:7:8",
        "1::2::3",
        ":::",
        ":1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:",
        "12345::",
        "g::",
        "::ffff:1.2.3.4",
        "fe80::1%eth0",
        "::/129",
        "::/",
        "/8",
        "1:2:3:4:5:6:7:8:9",
        "::1:",
        "1:::2",
        ":",
        "1.2.3.4/ 8",
        "00001::",
        "localhost",
    ] {
        assert!(!ip::is_valid(id), "{id}");
    }
}

#[test]
fn ip_prefixes_match() {
    for (peer, expr, expect) in [
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "10.0.0.0/8", true),
        ("10.1.2.3", "10.9.9.9/8", true),
        ("11.1.2.3", "10.0.0.0/8", false),
        ("1.2.3.4", "9.9.9.9/0", true),
        ("1.2.3.4", "::/0", false),
        ("0:0:0:0:0:0:0:1", "::1", true),
        ("0:0:0:0:0:0:0:1", "::/0", true),
        ("0:0:0:0:0:0:0:1", "0.0.0.0/0", false),
        ("2001:db8:0:0:0:0:0:5", "2001:db8::/32", true),
        ("2001:db9:0:0:0:0:0:5", "2001:db8::/32", false),
        ("2001:db9:0:0:0:0:0:5", "2001:db8::/31", true),
        ("fe80:0:0:0:0:0:0:1%eth0", "fe80::/10", false),
        ("10.1.2.3", "10.1.2.3/", false),
        ("1.2.3.255", "1.2.3.128/25", true),
        ("1.2.3.127", "1.2.3.128/25", false),
    ] {
        assert_eq!(ip::matches(peer, expr), expect, "{peer} in {expr}");
    }
}

#[test]
fn digest_ids() {
    let sha1 = DigestAlg::default();
    assert_eq!(digest_id(sha1, b"bob:pw"), "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=");
    assert_eq!(digest_id(sha1, b"super:admin"), "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
    assert_eq!(digest_id(sha1, b"no colon").split(':').next(), Some("no colon"));
    for (name, length) in [("sha-256", 44), ("SHA3-256", 44), ("SHA-512", 88), ("MD5", 24)] {
        let id = digest_id(DigestAlg::from_name(name).unwrap(), b"a:b");
        assert_eq!(id.len(), 2 + length, "{name}");
    }
    assert_eq!(DigestAlg::from_name("CRC"), None);
    for id in ["a:b", ":b", "a:b:", "a:b::"] {
        assert!(digest::is_valid(id), "{id}");
    }
    for id in ["a", "a:", "a:b:c", "", ":", "::", "a::b", "::b"] {
        assert!(!digest::is_valid(id), "{id}");
    }
}

#[test]
fn sasl_and_x509_ids() {
    for id in ["", "bob", "a/b", "a/b/c", "a@R", "a/b@R", "@", "a@", "@R", "/@"] {
        assert!(principal::is_valid(id), "{id}");
    }
    for id in ["a/b/c@R", "a@b@c", "a@R/x"] {
        assert!(!principal::is_valid(id), "{id}");
    }
    for id in [
        "",
        "CN=bob",
        "cn=bob",
        "CN=",
        "CN=a,O=b",
        "CN=a;O=b",
        "CN=a+O=b",
        "CN=a\\,b",
        "CN=\"a,b\"",
        "1.2.3=a",
        "OID.1.2.3=a",
        "C=US",
        "CN = a , O = b",
        "CN=a=b",
        "UID=x",
        "EMAILADDRESS=x",
        "SERIALNUMBER=1",
        "T=x",
        "S=x",
        "CN=\\41",
        "CN=\\e9",
        "CN=#0c0161",
        "CN=a\nO=b",
        "CN=  ",
        "DNQ=x",
        "EMAIL=a",
        "CN=é",
    ] {
        assert!(dn::is_valid(id), "{id}");
    }
    for id in [
        "bob",
        "=bob",
        "CN=a,",
        "CN=a,,O=b",
        ",CN=a",
        "CN=a\\",
        "CN=\"a",
        "FOO=a",
        "1.2.3=#0401",
        "1.2.3=#zz",
        "E=x",
        "SN=x",
        "TITLE=x",
        "CN=#ab",
        "CN=<",
        "CN=a\"b",
        "1=a",
        "3.1=a",
    ] {
        assert!(!dn::is_valid(id), "{id}");
    }
}

#[test]
fn auth_packets() {
    let auth = auth(|o| {
        o.super_digest = Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".to_owned());
        o.ensemble_provider_enabled = true;
        o.ensemble_names = Some(vec!["east".to_owned()]);
    });
    let start = auth.initial(LOCAL);
    let add = |scheme, data| auth.add_auth(&start, LOCAL, scheme, data);
    assert_eq!(start, ids(&[("ip", "127.0.0.1")]));
    let bob = added(add(Some("digest"), Some(b"bob:pw")));
    assert_eq!(bob, ids(&[("ip", "127.0.0.1"), ("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")]));
    let again = auth.add_auth(&bob, LOCAL, Some("digest"), Some(b"bob:pw"));
    assert_eq!(added(again), bob);
    let superuser = added(add(Some("digest"), Some(b"super:admin")));
    assert!(superuser.is_super() && superuser.has_scheme("digest") && superuser.len() == 3);
    assert!(!added(add(Some("digest"), Some(b"super:admim"))).is_super());
    assert_eq!(added(add(Some("ip"), None)), start);
    assert_eq!(added(add(Some("ensemble"), None)), start);
    assert_eq!(added(add(Some("ensemble"), Some(b"east"))), start);
    assert_eq!(add(Some("ensemble"), Some(b"west")), AuthOutcome::CloseSilently);
    for scheme in [None, Some("world"), Some("auth"), Some("sasl"), Some("super"), Some("x509")] {
        assert_eq!(add(scheme, Some(b"x")), AuthOutcome::Failed, "{scheme:?}");
    }
    assert_eq!(add(Some("digest"), None), AuthOutcome::Failed);
    let off = super::tests::auth(|o| o.digest_enabled = false);
    assert_eq!(off.add_auth(&start, LOCAL, Some("digest"), Some(b"a:b")), AuthOutcome::Failed);
}

#[test]
fn identities_are_bounded_and_travel() {
    let auth = auth(|_| {});
    let mut held = auth.initial(LOCAL);
    for i in 1..IDENTITIES_MAX {
        held = held.with([Identity::new("digest", format!("u{i}:x"))]);
    }
    assert_eq!(auth.add_auth(&held, LOCAL, Some("digest"), Some(b"one:more")), AuthOutcome::Failed);
    let mut bytes = Vec::new();
    held.encode_into(&mut bytes);
    assert_eq!(Identities::decode_from(&mut Reader::new(&bytes)), Ok(held));
}

#[test]
fn fix_up_rules() {
    let auth = everything();
    let caller = ids(&[("ip", "10.0.0.1"), ("digest", "bob:h"), ("sasl", "bob"), ("super", "")]);
    let nobody = ids(&[("ip", "10.0.0.1")]);
    let world = (31, Some("world"), Some("anyone"));
    let check = |ids: &Identities, input: &[Entry<'_>], expect: Result<&[Entry<'_>], AclError>| {
        let (bytes, mut out) = (list(input), Vec::new());
        let got = auth.fix_up(AclBytes::parse(&bytes).unwrap(), ids, &mut out);
        assert_eq!(got.map(|a| a.bytes().to_vec()), expect.map(list), "{input:?}");
    };
    let invalid = Err(AclError::InvalidAcl);
    let null = Err(AclError::Marshalling);
    check(&nobody, &[world], Ok(&[world]));
    check(
        &nobody,
        &[world, (1, Some("ip"), Some("::1")), world],
        Ok(&[world, (1, Some("ip"), Some("::1"))]),
    );
    check(&nobody, &[], invalid);
    check(&nobody, &[(31, None, Some("x"))], invalid);
    check(&nobody, &[(31, Some("world"), None)], null);
    check(&nobody, &[(31, Some("world"), Some("nobody"))], invalid);
    check(&nobody, &[(31, Some("digest"), None)], null);
    check(&nobody, &[(31, Some("ip"), None)], null);
    check(&nobody, &[(31, Some("ensemble"), None)], invalid);
    check(&nobody, &[(31, Some("ensemble"), Some("east"))], invalid);
    check(&nobody, &[(31, Some("super"), Some(""))], invalid);
    check(&nobody, &[(31, Some("foo"), None)], invalid);
    check(&nobody, &[(31, Some("auth"), None)], invalid);
    check(&nobody, &[(-1, Some("digest"), Some("a:b"))], Ok(&[(-1, Some("digest"), Some("a:b"))]));
    let own = [(3, Some("digest"), Some("bob:h")), (3, Some("sasl"), Some("bob"))];
    check(&caller, &[(3, Some("auth"), None)], Ok(&own));
    check(&caller, &[(3, Some("auth"), Some("whatever"))], Ok(&own));
    // Duplicates are removed before the expansion, not after it.
    check(&caller, &[own[0], (3, Some("auth"), None)], Ok(&[own[0], own[0], own[1]]));
    let null_list = [0xff; 4];
    let list = AclBytes::parse(&null_list).unwrap();
    assert_eq!(auth.fix_up(list, &caller, &mut Vec::new()), Err(AclError::InvalidAcl));
}

#[test]
fn fix_up_bounds_what_auth_expands_to() {
    let auth = everything();
    let many = Identities::new((0..500).map(|i| Identity::new("digest", format!("u{i}:x"))));
    let entries: Vec<Entry<'_>> = (0..2_000).map(|i| (i, Some("auth"), None)).collect();
    let bytes = list(&entries);
    let mut out = Vec::new();
    let got = auth.fix_up(AclBytes::parse(&bytes).unwrap(), &many, &mut out);
    assert_eq!(got, Err(AclError::InvalidAcl));
    assert!(out.len() < 2 * ACL_BYTES_MAX);
}

#[test]
fn access() {
    let auth = auth(|o| {
        o.sasl_provider_enabled = true;
        o.let_any_sasl_user_do_x = Some("any".to_owned());
    });
    let check = |entries: &[Entry<'_>], perm, caller: &[(&'static str, &str)]| {
        auth.allows(AclBytes::parse(&list(entries)).unwrap(), None, perm, &ids(caller))
    };
    let bob = [(Perms::READ.0, Some("digest"), Some("bob:h"))];
    assert!(check(&bob, Perms::READ, &[("ip", "1.2.3.4"), ("digest", "bob:h")]));
    assert!(!check(&bob, Perms::WRITE, &[("digest", "bob:h")]));
    assert!(check(&bob, Perms(3), &[("digest", "bob:h")]), "any common bit");
    assert!(!check(&bob, Perms::READ, &[("digest", "bob:i"), ("sasl", "bob:h")]));
    assert!(check(&bob, Perms::WRITE, &[("super", "")]));
    assert!(check(&[], Perms::ADMIN, &[]));
    assert!(check(&[(31, Some("ip"), Some("10.0.0.0/8"))], Perms::READ, &[("ip", "10.9.8.7")]));
    assert!(check(&[(31, Some("sasl"), Some("any"))], Perms::READ, &[("sasl", "eve")]));
    assert!(check(&[(31, Some("sasl"), Some("bob"))], Perms::READ, &[("sasl", "super")]));
    assert!(!check(&[(31, Some("sasl"), Some("bob"))], Perms::READ, &[("sasl", "eve")]));
    assert!(!check(&[(31, Some("foo"), Some("x"))], Perms::READ, &[("foo", "x")]));
    assert!(auth.allows(AclBytes::OPEN, None, Perms::CREATE, &Identities::none()));
    assert!(!auth.allows(AclBytes::OPEN, None, Perms(32), &Identities::none()));
    let open = super::tests::auth(|o| o.skip_acl = true);
    let bob = list(&bob);
    assert!(open.allows(AclBytes::parse(&bob).unwrap(), None, Perms::READ, &Identities::none()));
}

#[test]
fn x509_identities() {
    let auth = auth(|o| {
        o.x509_enabled = true;
        o.x509_super_user = Some("CN=root".to_owned());
    });
    let root = auth.add_x509(&auth.initial(LOCAL), "CN=root");
    assert!(root.is_super());
    assert_eq!(auth.add_auth(&root, LOCAL, Some("x509"), None), AuthOutcome::Added(root));
    assert!(!auth.add_x509(&Identities::none(), "CN=bob").is_super());
}

#[test]
fn redaction_and_who_am_i() {
    let auth = everything();
    let shown = [
        (31, Some("digest"), Some("bob:a:b")),
        (1, Some("sasl"), Some("a:b")),
        (1, Some("digest"), Some("x")),
    ];
    let bytes = list(&shown);
    let mut out = Vec::new();
    auth.redact(AclBytes::parse(&bytes).unwrap(), &mut out);
    assert_eq!(out, list(&[(31, Some("digest"), Some("bob:x")), shown[1], shown[2]]));
    out.clear();
    auth.redact(AclBytes::parse(&[0xff; 4]).unwrap(), &mut out);
    assert_eq!(out, [0xff; 4]);

    out.clear();
    let caller = ids(&[("ip", "::1"), ("digest", "bob:h"), ("super", "CN=x"), ("foo", "y")]);
    auth.who_am_i(&caller, &mut out);
    let mut r = Reader::new(&out);
    assert_eq!(r.count("n"), Ok(Some(4)));
    for expect in ["ip", "::1", "digest", "bob", "super", "", "foo", ""] {
        assert_eq!(r.text("field").unwrap().unwrap(), expect);
    }
    assert_eq!(r.remaining(), 0);
}

#[test]
fn enforcement() {
    let refused = |enforce: &[&str]| {
        let schemes = enforce.iter().map(|s| (*s).to_owned()).collect();
        Auth::new(AuthOptions { enforce: Some(schemes), ..AuthOptions::default() }).is_err()
    };
    assert!(refused(&[]) && refused(&["sasl"]) && refused(&["digest", "foo"]));
    assert!(!refused(&["digest"]));
    let auth = auth(|o| o.enforce = Some(vec!["digest".to_owned(), "ip".to_owned()]));
    assert!(auth.is_enforced_ok(&auth.initial(LOCAL)));
    assert!(!auth.is_enforced_ok(&Identities::none()));
    assert!(!auth.is_sasl_required());
}

#[test]
fn random_lists_never_panic_and_stay_fixed() {
    let auth = everything();
    let schemes = ["world", "auth", "digest", "ip", "sasl", "x509", "ensemble", "foo", ""];
    let texts = ["anyone", "a:b", "", "1.2.3.4/8", "::1", "bob", "a@b@c", "CN=x", ":", "bob:h"];
    let caller = ids(&[("ip", "1.2.3.4"), ("digest", "bob:h"), ("sasl", "bob"), ("x509", "CN=x")]);
    for seed in 0..3_000 {
        let mut rng = Rng::new(seed);
        let pick = |rng: &mut Rng, from: &[&'static str]| match rng.chance(1, 20) {
            true => None,
            false => Some(from[rng.below(from.len() as u64) as usize]),
        };
        let most = if rng.chance(1, 8) { 60 } else { 5 };
        let count = rng.below(most);
        let mut entries = Vec::new();
        for _ in 0..count {
            let scheme = match rng.chance(1, 5) {
                true => pick(&mut rng, &schemes),
                false => Some("digest"),
            };
            let id = match scheme {
                Some("digest") if rng.chance(19, 20) => Some("a:b"),
                _ => pick(&mut rng, &texts),
            };
            entries.push((rng.below(4) as i32, scheme, id));
        }
        let bytes = list(&entries);
        let (mut out, mut again) = (Vec::new(), Vec::new());
        let Ok(first) = auth.fix_up(AclBytes::parse(&bytes).unwrap(), &caller, &mut out) else {
            continue;
        };
        // Fixing a fixed list only removes what expansion repeated.
        let mut distinct: Vec<Acl<'_>> = Vec::new();
        for entry in first.iter() {
            if !distinct.contains(&entry) {
                distinct.push(entry);
            }
        }
        let second = auth.fix_up(first, &caller, &mut again).unwrap();
        assert_eq!(second.iter().collect::<Vec<_>>(), distinct, "seed {seed}");
        let mut shown = Vec::new();
        auth.redact(first, &mut shown);
        assert!(AclBytes::parse(&shown).is_ok(), "seed {seed}");
        for entry in distinct.iter().filter(|e| e.scheme.as_deref() == Some("world")) {
            let may = auth.allows(first, None, Perms::READ, &caller);
            assert!(!entry.perms.shares(Perms::READ) || may);
        }
    }
}

#[test]
fn random_text_never_panics() {
    let alphabet = b"aC=N,;+\"\\#0:/.@%19f{} \n*user_$=\xc3\xa9-";
    for seed in 0..20_000 {
        let mut rng = Rng::new(seed);
        let length = rng.below(24) as usize;
        let bytes: Vec<u8> =
            (0..length).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
        let text = String::from_utf8_lossy(&bytes);
        ip::is_valid(&text);
        ip::matches("1.2.3.4", &text);
        ip::matches(&text, "::/0");
        digest::is_valid(&text);
        digest_id(DigestAlg::Sha1, &bytes);
        principal::is_valid(&text);
        principal::authorization_id(&text, true, false);
        dn::is_valid(&text);
        let _ = parse_jaas(&text);
        let _ = parse_jaas(&format!("A {{ b required {text}"));
        let mut token = b"charset=utf-8,realm=\"zk-sasl-md5\",".to_vec();
        token.extend_from_slice(&bytes);
        let _ = CLIENT_MECHANISM.verify("n", &token, |_| Some("x"));
        let _ = CLIENT_MECHANISM.verify("n", &bytes, |_| None);
    }
}

fn jaas_of(text: &str) -> JaasSection {
    parse_jaas(text).unwrap().section("Server").unwrap().clone()
}

#[test]
fn jaas_files() {
    let server = jaas_of(
        "// c\n/* x\n */ Server {\n a.B REQUIRED debug=true\n user_a-b=\"p\\\"q\\n\\101\";\n \
         c.D optional x=y;\n};\nClient { a.B required; };",
    );
    assert_eq!(server.modules.len(), 2);
    assert_eq!((&*server.modules[0].class, &*server.modules[0].flag), ("a.B", "required"));
    let option = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    assert_eq!(server.modules[0].options, [option("debug", "true"), option("user_a-b", "p\"q\nA")]);
    for (text, value) in [
        ("x=\"a/b#c\"", "a/b#c"),
        ("x=a1.2-b_$*", "a1.2-b_$*"),
        ("x=\"\"", ""),
        ("x=é", "é"),
        ("y=b x=1a", "?"),
        ("x=a x=b", "b"),
    ] {
        match parse_jaas(&format!("\"Server\" {{ \"a.B\" \"required\" {text}; }};")) {
            Ok(jaas) => assert!(jaas.sections[0].modules[0].options.contains(&option("x", value))),
            Err(_) => assert_eq!(value, "?"),
        }
    }
    assert!(parse_jaas("").unwrap().section("Server").is_none());
    assert!(parse_jaas("Server { };").unwrap().section("Server").is_none());
    for (text, line) in [
        ("Server { a.B required user_a=12; };", 1),
        ("Server {\n a.B required user_a='x'; };", 2),
        ("Server { a.B required };", 1),
        ("Server { a.B required; }", 1),
        ("Server { a.B required a=b, c=d; };", 1),
        ("Server { a.B\n\n wanted; };", 3),
        ("Server { a.B required x=\"a\n\"; };", 1),
        ("Server { a.B required x=${user.name}; };", 1),
        ("Server { a.B required x=\"${nope}\"; };", 1),
        ("Server { a.B required; };\n Server { a.B required; };", 2),
        ("# hi\nServer { a.B required; };", 1),
        ("Server { a.B required x=a/b; };", 1),
        ("Server { a.B required 1x=y; };", 1),
        ("Server { a.B required user_x@R=\"z\"; };", 1),
        ("Server { a.B required x=\"a", 1),
        ("Server { a.B required x=-b; };", 1),
        ("/* a\n/*", 1),
        ("/*/", 1),
    ] {
        assert_eq!(parse_jaas(text).map_err(|e| e.line), Err(line), "{text}");
    }
}

/// Entries of a request that has nulls, and what becomes of it.
type NullCase<'a> = (&'a [(i32, Option<&'a str>, Option<&'a str>)], Option<AclError>);

#[test]
fn duplicates_are_found_as_java_finds_them() {
    let auth = auth(|_| ());
    let ids = auth.initial(LOCAL);
    let cases: &[NullCase<'_>] = &[
        (&[(31, Some("world"), Some("anyone")), (31, Some("world"), Some("anyone"))], None),
        (&[(31, None, Some("x"))], Some(AclError::InvalidAcl)),
        (&[(31, None, Some("x")), (31, Some("world"), Some("anyone"))], Some(AclError::InvalidAcl)),
        (
            &[(31, Some("world"), Some("anyone")), (31, None, Some("x"))],
            Some(AclError::Marshalling),
        ),
        (&[(1, Some("world"), Some("anyone")), (31, None, Some("x"))], Some(AclError::InvalidAcl)),
        (&[(31, None, Some("a")), (31, None, Some("b"))], Some(AclError::Marshalling)),
        (
            &[(31, Some("nosuch"), Some("x")), (31, Some("nosuch"), None)],
            Some(AclError::Marshalling),
        ),
        (&[(31, Some("nosuch"), None), (31, Some("nosuch"), None)], Some(AclError::Marshalling)),
        (
            &[(31, Some("nosuch"), None), (31, Some("nosuch"), Some("x"))],
            Some(AclError::InvalidAcl),
        ),
        (&[(31, Some("nosuch"), Some("x")), (31, Some("world"), None)], Some(AclError::InvalidAcl)),
        (
            &[(31, Some("world"), Some("anyone")), (1, Some("world"), None)],
            Some(AclError::Marshalling),
        ),
    ];
    // The same after more entries than a scan looks at.
    for padding in [0, 20] {
        for (entries, expect) in cases {
            let mut out = Vec::new();
            put_i32(&mut out, padding + entries.len() as i32);
            for perms in 0..padding {
                let (scheme, id) = (Some("ip".into()), Some("1.2.3.4".into()));
                Acl { perms: Perms(1000 + perms), scheme, id }.encode_into(&mut out);
            }
            for (perms, scheme, id) in *entries {
                let (scheme, id) = (scheme.map(Into::into), id.map(Into::into));
                Acl { perms: Perms(*perms), scheme, id }.encode_into(&mut out);
            }
            let acl = AclBytes::parse(&out).unwrap();
            let mut room = Vec::new();
            let found = auth.fix_up(acl, &ids, &mut room);
            assert_eq!(found.err(), *expect, "{padding} {entries:?}");
            if let Ok(kept) = auth.fix_up(acl, &ids, &mut Vec::new()) {
                assert_eq!(kept.iter().count(), padding as usize + 1);
            }
        }
    }
}

fn sasl_auth(change: impl FnOnce(&mut AuthOptions)) -> Auth {
    auth(|o| {
        o.sasl_provider_enabled = true;
        o.jaas_server = Some(jaas_of(
            "Server { org.apache.zookeeper.server.auth.DigestLoginModule required \
             user_super=\"adminsecret\" user_bob=\"bobsecret\" \"user_böb\"=\"päss\" \
             \"user_боб\"=\"€\" \"user_a\\\"b\\\\c\"=\"p\\\"w\"; };",
        ));
        change(o);
    })
}

/// Answers of the JDK's own client to nonces of the JDK's server, and that server's last token.
const EXCHANGES: [(&str, &str, &str, &str, &str); 4] = [
    (
        "bob",
        "L3f97nn5ZTtjZP5Mxj5RMxQGAnvSsG3tOQ2SYgqi",
        "UplnehKZwcTnbt0ss33mAM1/mbnkegqf5tsVdiHt",
        "26041dd6122fdbb7559508893e94d73a",
        "725a1a523f05f2494743ddea3a7d9567",
    ),
    (
        "böb",
        "yK7k4RWgy4wrrDSLP78IqDzdl7mY1crDG7DHmzvY",
        "UrIHeNKNnWAbTzJohZikoUvDtEUKlrY2T68RbNi3",
        "49244ba6583678260b668de6246b2848",
        "baaaa13b9b3ee89eefafb74003c2f15a",
    ),
    (
        "боб",
        "8tsIFOxjNfqknamDPq8XrGQznRFTfUtEXiBHygIQ",
        "CMFukgMlSrDDeC2Jcxa0PdRl+bqiuhKehIvaXnxG",
        "494c74184aaf565f9d8813068f34eb86",
        "d3c11834a56247af68563d90e07c014f",
    ),
    (
        "a\\\"b\\\\c",
        "0YbCCqM6cENcdkMO4+S09VeACd7MqM8LSF0/zHZg",
        "oTQQpSm6pH+CgIm/zlsv97e0k4vkZ0j8xjkrmLYH",
        "8d2a3525f5699e5d63a43338c8067c76",
        "b2dd934d6866cce8cf748f2c9fa2284c",
    ),
];

fn nonce_bytes(nonce: &str) -> [u8; NONCE_BYTES] {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(nonce).unwrap().try_into().unwrap()
}

fn answer(user: &str, nonce: &str, cnonce: &str, response: &str) -> String {
    format!(
        "charset=utf-8,username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",nc=00000001,\
         cnonce=\"{cnonce}\",digest-uri=\"zookeeper/zk-sasl-md5\",maxbuf=65536,\
         response={response},qop=auth"
    )
}

#[test]
fn sasl_exchanges_recorded_from_java() {
    let auth = sasl_auth(|o| o.super_users = vec!["bob".to_owned()]);
    for (user, nonce, cnonce, response, rspauth) in EXCHANGES {
        let mut session = auth.sasl_begin();
        let start = auth.initial(LOCAL);
        let mut random = |out: &mut [u8; NONCE_BYTES]| *out = nonce_bytes(nonce);
        let challenge =
            format!("realm=\"zk-sasl-md5\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
        assert_eq!(
            session.step(&auth, &start, b"", &mut random),
            SaslOutcome::Continue(challenge.into_bytes())
        );
        let token = answer(user, nonce, cnonce, response);
        let name = user.replace("\\\"", "\"").replace("\\\\", "\\");
        let mut expect = vec![Identity::new("sasl", name)];
        if user == "bob" {
            expect.push(Identity::new("super", ""));
        }
        assert_eq!(
            session.step(&auth, &start, token.as_bytes(), &mut random),
            SaslOutcome::Done {
                token: format!("rspauth={rspauth}").into_bytes(),
                ids: start.with(expect)
            }
        );
        for _ in 0..2 {
            let after = session.step(&auth, &start, b"", &mut random);
            assert!(matches!(
                after,
                SaslOutcome::Failed { close_with: Some(ErrorCode::AuthFailed), .. }
            ));
        }
    }
}

/// The verdict on bob's recorded answer after `change`.
fn verdict(change: impl FnOnce(String) -> String) -> bool {
    let (user, nonce, cnonce, response, _) = EXCHANGES[0];
    let token = change(answer(user, nonce, cnonce, response));
    CLIENT_MECHANISM
        .verify(nonce, token.as_bytes(), |u| (u == "bob").then_some("bobsecret"))
        .is_ok()
}

#[test]
fn sasl_answers_accepted_and_refused_as_java_does() {
    let swap = |from: &'static str, to: &'static str| {
        move |t: String| {
            assert!(t.contains(from));
            t.replace(from, to)
        }
    };
    assert!(verdict(|t| t));
    assert!(verdict(swap(",qop=auth", "")));
    assert!(verdict(swap(",nc=00000001", "")));
    assert!(verdict(swap("nc=00000001", "nc=1")));
    assert!(verdict(swap("charset=utf-8,", "")));
    assert!(verdict(swap("maxbuf=65536", "maxbuf=5")));
    assert!(verdict(swap("maxbuf=65536,", "")));
    assert!(verdict(swap("username=\"bob\"", "username=bob")));
    assert!(verdict(swap("username=\"bob\"", "username=\"b\\ob\"")));
    assert!(verdict(swap("username=", "USERname \t= ")));
    assert!(verdict(swap(",", " , \t\r\n")));
    assert!(verdict(|t| format!(",, ,{t},,")));
    assert!(verdict(|t| format!("{t},x=1,x=2,cipher=rc4")));

    assert!(!verdict(swap("nc=00000001", "nc=00000002")));
    assert!(!verdict(swap("realm=\"zk-sasl-md5\",", "")));
    assert!(!verdict(swap("realm=\"zk-sasl-md5\"", "realm=\"\"")));
    assert!(!verdict(swap("charset=utf-8", "charset=UTF-8")));
    assert!(!verdict(swap("qop=auth", "qop=auth-int")));
    assert!(!verdict(swap("qop=auth", "qop=AUTH")));
    assert!(!verdict(swap("maxbuf=65536", "maxbuf=x")));
    assert!(!verdict(swap("md5\",maxbuf", "md5/foo\",maxbuf")));
    assert!(!verdict(swap("zookeeper/zk", "ZooKeeper/zk")), "another text is hashed");
    assert!(!verdict(swap("response=26", "response=27")));
    assert!(!verdict(swap("dd6122fdbb", "DD6122FDBB")));
    assert!(!verdict(swap("username=\"bob\"", "username=\"eve\"")));
    assert!(!verdict(swap("username=\"bob\",", "")));
    assert!(!verdict(swap("nonce=\"L3f", "nonce=\"L3g")));
    assert!(!verdict(swap(",", ";")));
    assert!(!verdict(|t| format!("{t},username=\"bob\"")));
    assert!(!verdict(|t| format!("{t},charset=utf-8")));
    assert!(!verdict(|t| format!("{t},authzid=\"eve\"")), "authzid is part of the hash");
    assert!(!verdict(|t| format!("{t},x=\"a\"b")));
    assert!(!verdict(|t| format!("{t},x=\"a")));
    assert!(!verdict(|t| format!("{t},x=")));
    assert!(!verdict(|t| format!("{t},=x")));
    assert!(!verdict(|_| " ".repeat(5_000)));
}

#[test]
fn sasl_failures() {
    let ids = Identities::none();
    let mut random = |_: &mut [u8; NONCE_BYTES]| {};
    let fail = |auth: &Auth| {
        let mut session = auth.sasl_begin();
        session.step(auth, &ids, b"", &mut |_| {});
        match session.step(auth, &ids, b"username=x", &mut |_| {}) {
            SaslOutcome::Failed { close_with, .. } => close_with,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fail(&sasl_auth(|_| {})), Some(ErrorCode::AuthFailed));
    assert_eq!(fail(&sasl_auth(|o| o.allow_sasl_failed_clients = true)), None);
    let required = sasl_auth(|o| {
        o.allow_sasl_failed_clients = true;
        o.enforce = Some(vec!["sasl".to_owned()]);
    });
    assert_eq!(fail(&required), Some(ErrorCode::SessionClosedRequireSaslAuth));
    let without = auth(|_| {});
    let outcome = without.sasl_begin().step(&without, &ids, b"", &mut random);
    assert_eq!(outcome, SaslOutcome::NotConfigured);
    let kerberos = jaas_of("Server { com.sun.security.auth.module.Krb5LoginModule required; };");
    let refused = Auth::new(AuthOptions { jaas_server: Some(kerberos), ..Default::default() });
    assert!(refused.unwrap_err().contains("Kerberos"));
}

#[test]
fn sasl_names_and_super_password() {
    let auth = sasl_auth(|o| o.super_password = Some("other".to_owned()));
    assert_eq!(auth.sasl_users.as_ref().unwrap()["super"], "other");
    for (name, host, realm, expect) in [
        ("bob", true, true, Some("bob")),
        ("a/b", true, true, Some("a/b")),
        ("a/b@", false, false, Some("a/b@")),
        ("a/b@", true, true, Some("a")),
        ("a/b@R", true, true, Some("a/b@R")),
        ("a@b@c", false, false, None),
    ] {
        assert_eq!(principal::authorization_id(name, host, realm).as_deref(), expect, "{name}");
    }
}
