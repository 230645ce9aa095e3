//! The server side of SASL DIGEST-MD5 (RFC 2831) with quality of protection `auth`.
//!
//! Behaves as the JDK's `DigestMD5Server`: what it accepts and refuses was compared with it. One
//! attempt per exchange. Never offered: integrity, confidentiality, subsequent authentication.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::digest::same_secret;

/// Random bytes in a nonce; 40 characters of base64.
pub const NONCE_BYTES: usize = 30;

/// Larger responses are refused unread: real ones have some 250 bytes, names and all.
const RESPONSE_BYTES_MAX: usize = 4096;

/// The fixed names of one use of DIGEST-MD5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DigestMd5 {
    /// The realm offered; also the server name.
    pub realm: &'static str,
    /// `protocol/server name`.
    pub digest_uri: &'static str,
}

/// Clients, over op 102.
pub const CLIENT_MECHANISM: DigestMd5 =
    DigestMd5 { realm: "zk-sasl-md5", digest_uri: "zookeeper/zk-sasl-md5" };

/// Servers among each other, in `QuorumAuthPacket`s.
pub const QUORUM_MECHANISM: DigestMd5 =
    DigestMd5 { realm: "zk-quorum-sasl-md5", digest_uri: "zookeeper-quorum/zk-quorum-sasl-md5" };

/// A user who proved to know the password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The user name.
    pub user: String,
    /// The last token for the client: `rspauth=…`.
    pub token: Vec<u8>,
}

impl DigestMd5 {
    /// The nonce text for fresh random bytes.
    pub fn nonce(random: &[u8; NONCE_BYTES]) -> String {
        STANDARD.encode(random)
    }

    /// The challenge, the server's first token.
    pub fn challenge(&self, nonce: &str) -> Vec<u8> {
        format!("realm=\"{}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess", self.realm)
            .into_bytes()
    }

    /// Checks the client's answer to the challenge with `nonce`. The error says what is wrong,
    /// without secrets, for the log.
    pub fn verify<'p>(
        &self,
        nonce: &str,
        token: &[u8],
        password_of: impl FnOnce(&str) -> Option<&'p str>,
    ) -> Result<Verified, String> {
        let d = Directives::parse(token)?;
        self.check_fixed(&d, nonce)?;
        let user = String::from_utf8_lossy(d.required(Key::Username)?).into_owned();
        let cnonce = d.required(Key::Cnonce)?;
        let uri = d.required(Key::DigestUri)?;
        if !uri.eq_ignore_ascii_case(self.digest_uri.as_bytes()) {
            return Err("the digest-uri names another service".to_owned());
        }
        let response = d.required(Key::Response)?;
        let password = password_of(&user);
        let proof = Proof {
            user: &user,
            realm: self.realm,
            // An unknown user costs the same work, so that time does not tell who exists.
            password: password.unwrap_or(""),
            nonce: nonce.as_bytes(),
            cnonce,
            authzid: d.get(Key::Authzid),
            uri,
        };
        let is_right = same_secret(&proof.response(b"AUTHENTICATE:"), response);
        if password.is_none() {
            return Err(format!("the user {user:?} is not in the JAAS section"));
        }
        if !is_right {
            return Err(format!("wrong password for the user {user:?}"));
        }
        let mut token = b"rspauth=".to_vec();
        token.extend_from_slice(&proof.response(b":"));
        Ok(Verified { user, token })
    }

    /// The directives with one acceptable value each.
    fn check_fixed(&self, d: &Directives, nonce: &str) -> Result<(), String> {
        if d.get(Key::Charset).is_some_and(|v| v != b"utf-8") {
            return Err("the charset is not utf-8".to_owned());
        }
        let maxbuf = d.get(Key::Maxbuf).map(std::str::from_utf8);
        if maxbuf.is_some_and(|v| v.map_or(true, |v| v.parse::<i32>().is_err())) {
            return Err("maxbuf is not a number".to_owned());
        }
        // COMPAT(3.9): a missing realm is refused, although RFC 2831 would let it default.
        if d.get(Key::Realm) != Some(self.realm.as_bytes()) {
            return Err(format!("the realm is not '{}'", self.realm));
        }
        if !same_secret(d.required(Key::Nonce)?, nonce.as_bytes()) {
            return Err("the nonce is not the one sent".to_owned());
        }
        // Stricter than the JDK, which ignores the directive: a first response counts 1.
        let nc = d.get(Key::Nc).map(std::str::from_utf8);
        if nc.is_some_and(|v| v.map_or(true, |v| u32::from_str_radix(v, 16) != Ok(1))) {
            return Err("the nonce count is not 1".to_owned());
        }
        if d.get(Key::Qop).is_some_and(|v| v != b"auth") {
            return Err("a quality of protection other than auth".to_owned());
        }
        Ok(())
    }
}

/// The inputs of a response value.
struct Proof<'a> {
    user: &'a str,
    realm: &'a str,
    password: &'a str,
    nonce: &'a [u8],
    cnonce: &'a [u8],
    authzid: Option<&'a [u8]>,
    uri: &'a [u8],
}

impl Proof<'_> {
    /// The response value, 32 lower-case hexadecimal digits; `method` is `AUTHENTICATE:` for the
    /// client's and `:` for the server's.
    fn response(&self, method: &[u8]) -> [u8; 32] {
        let (user, realm) = (latin1_or_utf8(self.user), latin1_or_utf8(self.realm));
        let secret = md5(&[&user, b":", &realm, b":", &latin1_or_utf8(self.password)]);
        let ha1 = match self.authzid {
            None => md5(&[&secret, b":", self.nonce, b":", self.cnonce]),
            Some(id) => md5(&[&secret, b":", self.nonce, b":", self.cnonce, b":", id]),
        };
        let ha2 = md5(&[method, self.uri]);
        let parts: [&[u8]; 7] =
            [&hex(ha1), b":", self.nonce, b":00000001:", self.cnonce, b":auth:", &hex(ha2)];
        hex(md5(&parts))
    }
}

/// RFC 2831 2.1.2.1: text that fits ISO 8859-1 is hashed in it, other text in UTF-8.
fn latin1_or_utf8(text: &str) -> Vec<u8> {
    let latin1: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    latin1.unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(bytes: [u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    out
}

/// The directives that matter; others are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    Username,
    Realm,
    Nonce,
    Cnonce,
    Nc,
    Qop,
    DigestUri,
    Response,
    Charset,
    Maxbuf,
    Cipher,
    Authzid,
}

const KEYS: [(Key, &str); 12] = [
    (Key::Username, "username"),
    (Key::Realm, "realm"),
    (Key::Nonce, "nonce"),
    (Key::Cnonce, "cnonce"),
    (Key::Nc, "nc"),
    (Key::Qop, "qop"),
    (Key::DigestUri, "digest-uri"),
    (Key::Response, "response"),
    (Key::Charset, "charset"),
    (Key::Maxbuf, "maxbuf"),
    (Key::Cipher, "cipher"),
    (Key::Authzid, "authzid"),
];

/// A parsed response: at most one value per known directive.
#[derive(Default)]
struct Directives {
    values: [Option<Vec<u8>>; KEYS.len()],
}

impl Directives {
    fn get(&self, key: Key) -> Option<&[u8]> {
        self.values[key as usize].as_deref()
    }

    fn required(&self, key: Key) -> Result<&[u8], String> {
        let name = KEYS[key as usize].1;
        self.get(key).ok_or_else(|| format!("the directive '{name}' is missing"))
    }

    /// `key=value` or `key="value"`, separated by commas or blanks; names in any case.
    fn parse(token: &[u8]) -> Result<Directives, String> {
        if token.len() > RESPONSE_BYTES_MAX {
            return Err(format!("a response of {} bytes", token.len()));
        }
        let mut found = Directives::default();
        let mut rest = skip_blank(token);
        while let Some(first) = rest.first() {
            if *first == b',' {
                rest = skip_blank(&rest[1..]);
                continue;
            }
            let end = rest.iter().position(|b| *b == b'=' || *b == b',' || is_blank(*b));
            let (name, tail) = rest.split_at(end.unwrap_or(rest.len()));
            let tail = skip_blank(tail);
            let tail = tail.strip_prefix(b"=").ok_or("a directive without '='")?;
            if name.is_empty() {
                return Err("a directive without a name".to_owned());
            }
            let (value, tail) = take_value(skip_blank(tail))?;
            found.set(name, value)?;
            rest = skip_blank(tail);
        }
        Ok(found)
    }

    fn set(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), String> {
        let Some((key, text)) = KEYS.iter().find(|(_, k)| name.eq_ignore_ascii_case(k.as_bytes()))
        else {
            return Ok(());
        };
        match self.values[*key as usize].replace(value) {
            None => Ok(()),
            Some(_) => Err(format!("the directive '{text}' is there twice")),
        }
    }
}

/// One value and what follows it, which starts with a separator or is empty.
fn take_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        if text.is_empty() {
            return Err("a directive without a value".to_owned());
        }
        let end = text.iter().position(|b| *b == b',' || is_blank(*b)).unwrap_or(text.len());
        return Ok((text[..end].to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    loop {
        match rest {
            [b'\\', c, tail @ ..] => {
                value.push(*c);
                rest = tail;
            }
            [b'"', tail @ ..] => {
                let separated = tail.first().is_none_or(|b| *b == b',' || is_blank(*b));
                return if separated {
                    Ok((value, tail))
                } else {
                    Err("text right after a quoted value".to_owned())
                };
            }
            [] | [b'\\'] => return Err("a quoted value without its end".to_owned()),
            [c, tail @ ..] => {
                value.push(*c);
                rest = tail;
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn skip_blank(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|b| is_blank(**b)).count();
    &text[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2831_example() {
        let imap = Proof {
            user: "chris",
            realm: "elwood.innosoft.com",
            password: "secret",
            nonce: b"OA6MG9tEQGm2hh",
            cnonce: b"OA6MHXh6VqTrRk",
            authzid: None,
            uri: b"imap/elwood.innosoft.com",
        };
        assert_eq!(&imap.response(b"AUTHENTICATE:"), b"d388dad90d4bbd760a152321f2143af7");
        assert_eq!(&imap.response(b":"), b"ea40f60335c427b5527b84dbabcdfffd");
        let acap = Proof {
            nonce: b"OA9BSXrbuRhWay",
            cnonce: b"OA9BSuZWMSpW8m",
            uri: b"acap/elwood.innosoft.com",
            ..imap
        };
        assert_eq!(&acap.response(b"AUTHENTICATE:"), b"6084c6db3fede7352c551284490fd0fc");
        assert_eq!(&acap.response(b":"), b"2f0b3d7c3c2e486600ef710726aa2eae");
    }

    #[test]
    fn key_table_is_in_the_order_of_the_enum() {
        for (i, (key, _)) in KEYS.iter().enumerate() {
            assert_eq!(*key as usize, i);
        }
    }
}
