//! What an administrator can set about authentication; plain values, resolved by `config`.

use super::digest::DigestAlg;
use super::jaas::JaasSection;

/// Settings of [`super::Auth`]; the default is Apache's default. Holds passwords, hence no `Debug`.
#[derive(Clone)]
pub struct AuthOptions {
    /// `zookeeper.DigestAuthenticationProvider.enabled`.
    pub digest_enabled: bool,
    /// `zookeeper.DigestAuthenticationProvider.digestAlg`.
    pub digest_alg: DigestAlg,
    /// `zookeeper.DigestAuthenticationProvider.superDigest`: `super:base64(hash(super:password))`.
    pub super_digest: Option<String>,
    /// `zookeeper.skipACL=yes`: every access is allowed.
    pub skip_acl: bool,
    /// Values of `zookeeper.superUser` and `zookeeper.superUser.*`: sasl ids that are super.
    pub super_users: Vec<String>,
    /// `zookeeper.SASLAuthenticationProvider.superPassword`: replaces the JAAS password of `super`.
    pub super_password: Option<String>,
    /// `zookeeper.letAnySaslUserDoX`: an ACL id that matches any sasl identity.
    pub let_any_sasl_user_do_x: Option<String>,
    /// Some `authProvider.*` names `SASLAuthenticationProvider`: `sasl` is usable in ACLs.
    pub sasl_provider_enabled: bool,
    /// `zookeeper.allowSaslFailedClients`.
    pub allow_sasl_failed_clients: bool,
    /// Schemes of which a connection needs one; `None` when not enforced.
    /// `zookeeper.sessionRequireClientSASLAuth=true` is `["sasl"]`; else
    /// `zookeeper.enforce.auth.schemes` if `zookeeper.enforce.auth.enabled=true`.
    pub enforce: Option<Vec<String>>,
    /// Some `authProvider.*` names `EnsembleAuthenticationProvider`.
    pub ensemble_provider_enabled: bool,
    /// `zookeeper.ensembleAuthName`, split at commas and trimmed.
    pub ensemble_names: Option<Vec<String>>,
    /// `zookeeper.kerberos.removeHostFromPrincipal`.
    pub remove_host: bool,
    /// `zookeeper.kerberos.removeRealmFromPrincipal`.
    pub remove_realm: bool,
    /// A TLS client port is configured: `x509` is usable in ACLs.
    pub x509_enabled: bool,
    /// `zookeeper.X509AuthenticationProvider.superUser`: a subject DN.
    pub x509_super_user: Option<String>,
    /// The JAAS section of the server (`Server`, or what `zookeeper.sasl.serverconfig` names);
    /// `None` turns SASL off. `zookeeper.fips-mode` does not matter to it before 3.10.
    pub jaas_server: Option<JaasSection>,
}

impl Default for AuthOptions {
    fn default() -> AuthOptions {
        AuthOptions {
            digest_enabled: true,
            digest_alg: DigestAlg::Sha1,
            super_digest: None,
            skip_acl: false,
            super_users: Vec::new(),
            super_password: None,
            let_any_sasl_user_do_x: None,
            sasl_provider_enabled: false,
            allow_sasl_failed_clients: false,
            enforce: None,
            ensemble_provider_enabled: false,
            ensemble_names: None,
            remove_host: false,
            remove_realm: false,
            x509_enabled: false,
            x509_super_user: None,
            jaas_server: None,
        }
    }
}
