//! Op 102: one SASL exchange per connection (`ZooKeeperSaslServer`, `ZooKeeperServer.processSasl`,
//! `SaslServerCallbackHandler`). DIGEST-MD5 only.

use std::collections::BTreeMap;

use super::digest_md5::{CLIENT_MECHANISM, DigestMd5, NONCE_BYTES};
use super::engine::Auth;
use super::identity::{Identities, Identity};
use super::jaas::JaasSection;
use super::principal;
use crate::wire::ErrorCode;

/// How far a connection's exchange is. One per connection; 24 bytes until a client starts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SaslSession {
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Start,
    /// The challenge with this nonce was sent.
    Challenged(Box<str>),
    /// Succeeded or failed; there is no second attempt on a connection.
    Finished,
}

/// What to answer to one op 102. A reply body is always present, also on an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SaslOutcome {
    /// Reply err 0 with this token; more rounds follow.
    Continue(Vec<u8>),
    /// Reply err 0 with this token; later requests carry `ids`.
    Done {
        /// The last token of the server.
        token: Vec<u8>,
        /// The identities so far and those that SASL adds.
        ids: Identities,
    },
    /// Reply with a null token.
    Failed {
        /// Reply with this error and close; `None`: reply err 0 and go on unauthenticated.
        close_with: Option<ErrorCode>,
        /// What went wrong, for the log; holds no secret.
        reason: String,
    },
    /// Reply err 0 with a null token: SASL is not configured.
    NotConfigured,
}

impl SaslSession {
    /// Handles one token of the client. `fill_random` is called once per exchange, for the nonce;
    /// it must be unpredictable.
    pub fn step(
        &mut self,
        auth: &Auth,
        ids: &Identities,
        token: &[u8],
        fill_random: &mut dyn FnMut(&mut [u8; NONCE_BYTES]),
    ) -> SaslOutcome {
        let Some(users) = &auth.sasl_users else {
            return SaslOutcome::NotConfigured;
        };
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Start if token.is_empty() => {
                let mut random = [0; NONCE_BYTES];
                fill_random(&mut random);
                let nonce = DigestMd5::nonce(&random);
                let challenge = CLIENT_MECHANISM.challenge(&nonce);
                self.state = State::Challenged(nonce.into());
                SaslOutcome::Continue(challenge)
            }
            State::Start => {
                // A client may still start over with an empty token, as with the JDK.
                self.state = State::Start;
                auth.sasl_failed(
                    "the first token is not empty: the client wants GSSAPI (Kerberos), which is \
                     not supported; use DIGEST-MD5"
                        .to_owned(),
                )
            }
            State::Challenged(nonce) => {
                let password_of = |user: &str| users.get(user).map(String::as_str);
                match CLIENT_MECHANISM.verify(&nonce, token, password_of) {
                    Err(reason) => auth.sasl_failed(reason),
                    Ok(verified) => auth.sasl_done(ids, &verified.user, verified.token),
                }
            }
            State::Finished => auth.sasl_failed("the exchange is over".to_owned()),
        }
    }
}

impl Auth {
    /// A connection's exchange, not started.
    pub fn sasl_begin(&self) -> SaslSession {
        SaslSession::default()
    }

    fn sasl_done(&self, ids: &Identities, user: &str, token: Vec<u8>) -> SaslOutcome {
        let o = &self.options;
        let Some(id) = principal::authorization_id(user, o.remove_host, o.remove_realm) else {
            return self.sasl_failed(format!("the user name {user:?} is no Kerberos name"));
        };
        let superuser = o.super_users.contains(&id).then(|| Identity::new("super", ""));
        let added = [Identity::new("sasl", id)].into_iter().chain(superuser);
        SaslOutcome::Done { token, ids: self.number(ids.with(added)) }
    }

    fn sasl_failed(&self, reason: String) -> SaslOutcome {
        let close_with = if self.is_sasl_required() {
            Some(ErrorCode::SessionClosedRequireSaslAuth)
        } else if self.options.allow_sasl_failed_clients {
            None
        } else {
            Some(ErrorCode::AuthFailed)
        };
        SaslOutcome::Failed { close_with, reason }
    }
}

/// The DIGEST-MD5 users of a JAAS section: its options `user_<name>="password"`, all modules
/// together. The error is for the administrator.
pub(super) fn users(
    section: &JaasSection,
    super_password: Option<&str>,
) -> Result<BTreeMap<String, String>, String> {
    let mut users = BTreeMap::new();
    for module in &section.modules {
        if module.class.ends_with("Krb5LoginModule") {
            return Err(format!(
                "the JAAS section '{}' asks for Kerberos ({}), which is not supported yet; use \
                 org.apache.zookeeper.server.auth.DigestLoginModule with user_<name>=\"password\"",
                section.name, module.class
            ));
        }
        if module.class != "org.apache.zookeeper.server.auth.DigestLoginModule" {
            return Err(format!(
                "the JAAS section '{}' names the login module {}, which is not known here; use \
                 org.apache.zookeeper.server.auth.DigestLoginModule",
                section.name, module.class
            ));
        }
        for (key, value) in &module.options {
            if let Some(name) = key.strip_prefix("user_") {
                users.insert(name.to_owned(), value.clone());
            }
        }
    }
    if let (Some(password), Some(slot)) = (super_password, users.get_mut("super")) {
        password.clone_into(slot);
    }
    Ok(users)
}
