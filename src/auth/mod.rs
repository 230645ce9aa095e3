//! Who a connection is and what it may do: identities, the auth packet, SASL, ACL fix-up and check.
//!
//! Pure: the caller hands in addresses, tokens and random bytes; nothing here reads a clock, a file
//! or a socket. No input from a client can make it panic or allocate beyond a stated bound.
//! Corresponds to `server/auth/*`, `AuthenticationHelper`, `ZooKeeperSaslServer` and the ACL parts
//! of `PrepRequestProcessor` and `ZooKeeperServer.checkACL`. Kerberos (GSSAPI) is not supported.
#![forbid(unsafe_code)]

mod callers;
mod digest;
mod digest_md5;
mod dn;
mod engine;
mod forwarded;
mod identity;
mod ip;
mod jaas;
mod options;
mod principal;
mod sasl;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verdict_tests;
mod verdicts;

pub use digest::{DigestAlg, digest_id};
pub use digest_md5::{CLIENT_MECHANISM, DigestMd5, NONCE_BYTES, QUORUM_MECHANISM, Verified};
pub use engine::{ACL_BYTES_MAX, AclError, Auth, AuthOutcome};
pub use identity::{IDENTITIES_MAX, Identities, Identity};
pub use ip::java_text;
pub use jaas::{Jaas, JaasError, JaasModule, JaasSection, parse_jaas};
pub use options::AuthOptions;
pub use sasl::{SaslOutcome, SaslSession};
