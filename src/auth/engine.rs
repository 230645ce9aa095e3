//! The rules: auth packets, ACL fix-up, access checks, redaction, whoAmI, enforcement.
//!
//! Corresponds to `ProviderRegistry`, `PrepRequestProcessor.fixupACL`, `ZooKeeperServer.checkACL`,
//! `AuthenticationHelper` and the getACL and whoAmI parts of `FinalRequestProcessor`.

use core::cell::{Cell, RefCell};
use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::callers::Callers;
use super::digest::{self, digest_id, same_secret};
use super::forwarded::KnownSets;
use super::identity::{IDENTITIES_MAX, Identities, Identity};
use super::options::AuthOptions;
use super::verdicts::Verdicts;
use super::{dn, ip, principal, sasl};
use crate::wire::{ACL_OPEN_BYTES, Acl, AclBytes, ErrorCode, Perms, put_i32, put_str};

/// Largest list that [`Auth::fix_up`] produces, in bytes. `auth` entries multiply by the
/// identities of the caller, so a request within `jute.maxbuffer` could otherwise expand to
/// gigabytes. 4 MiB is four times the default frame limit.
pub const ACL_BYTES_MAX: usize = 4 << 20;

/// From this many entries on, duplicates are found through an ordered set instead of by scanning.
const SCAN_ENTRIES_MAX: usize = 16;

/// An ACL of more bytes is long: what it grants is remembered.
const LONG_BYTES: usize = 512;

/// Cost of an entry that is decoded and compared with the identities of its scheme.
const ENTRY_COST: u64 = 30;
/// Cost of an entry whose repetitions are looked for.
const FIX_UP_ENTRY_COST: u64 = 165;
/// Cost of an identity that is copied beside a new one.
const IDENTITY_COST: u64 = 40;

/// Why a requested ACL was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclError {
    /// Empty list, unknown scheme, malformed id, or `auth` without an identity: INVALIDACL.
    InvalidAcl,
    /// A null id where the scheme needs one: MARSHALLINGERROR, as Java's null pointer gives.
    Marshalling,
}

impl AclError {
    /// The code that the client sees.
    pub fn code(self) -> ErrorCode {
        match self {
            AclError::InvalidAcl => ErrorCode::InvalidAcl,
            AclError::Marshalling => ErrorCode::MarshallingError,
        }
    }
}

/// What became of an auth packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthOutcome {
    /// Reply 0; later requests carry these identities.
    Added(Identities),
    /// Reply AUTHFAILED, then close.
    Failed,
    /// Close without a reply: the client is meant to try another server.
    CloseSilently,
}

/// A scheme that has a provider in this configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Provider {
    Digest,
    Ip,
    Sasl,
    X509,
    Ensemble,
}

impl Provider {
    pub const COUNT: usize = 5;

    /// Whether `auth` entries expand to identities of this scheme.
    fn is_authenticated(self) -> bool {
        match self {
            Provider::Digest | Provider::Sasl | Provider::X509 => true,
            Provider::Ip | Provider::Ensemble => false,
        }
    }
}

/// Authentication and authorization under one fixed configuration.
pub struct Auth {
    pub(super) options: AuthOptions,
    /// DIGEST-MD5 users and their passwords; `None` when SASL is not configured.
    pub(super) sasl_users: Option<BTreeMap<String, String>>,
    /// See [`Auth::take_cost`].
    cost: Cell<u64>,
    /// Identities of the address that connected last: connections of one host share them, and what
    /// is known of them.
    last_initial: RefCell<Option<(IpAddr, Identities)>>,
    verdicts: RefCell<Verdicts>,
    /// What learners have forwarded.
    pub(super) known_sets: RefCell<KnownSets>,
    /// Sets of identities made so far.
    numbered: Cell<u64>,
}

impl fmt::Debug for Auth {
    /// Names nothing of the configuration: it holds passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

impl Auth {
    /// Checks the options as a whole. The error is a sentence for the administrator; the server
    /// must not start with it.
    pub fn new(options: AuthOptions) -> Result<Auth, String> {
        let sasl_users = match &options.jaas_server {
            Some(section) => Some(sasl::users(section, options.super_password.as_deref())?),
            None => None,
        };
        let auth = Auth {
            options,
            sasl_users,
            cost: Cell::new(0),
            last_initial: RefCell::new(None),
            verdicts: RefCell::default(),
            known_sets: RefCell::default(),
            numbered: Cell::new(0),
        };
        let Some(schemes) = &auth.options.enforce else { return Ok(auth) };
        if schemes.is_empty() {
            return Err("zookeeper.enforce.auth.enabled is true, but \
                zookeeper.enforce.auth.schemes names no scheme"
                .to_owned());
        }
        for scheme in schemes {
            if auth.provider(scheme).is_none() {
                return Err(format!(
                    "authentication is enforced with the scheme '{scheme}', which is not available \
                     here; for sasl set authProvider.1=\
                     org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
                ));
            }
        }
        Ok(auth)
    }

    /// The options in force.
    pub fn options(&self) -> &AuthOptions {
        &self.options
    }

    /// What going through lists has cost since the last call, in nanoseconds.
    #[inline]
    pub fn take_cost(&self) -> u64 {
        self.cost.take()
    }

    fn add_cost(&self, count: usize, each: u64) {
        self.cost.set(self.cost.get() + count as u64 * each);
    }

    /// A set of `count` identities was made.
    pub(super) fn add_identities_cost(&self, count: usize) {
        self.add_cost(count, IDENTITY_COST);
    }

    pub(super) fn provider(&self, scheme: &str) -> Option<Provider> {
        let (provider, enabled) = match scheme {
            "digest" => (Provider::Digest, self.options.digest_enabled),
            "ip" => (Provider::Ip, true),
            "sasl" => (Provider::Sasl, self.options.sasl_provider_enabled),
            "x509" => (Provider::X509, self.options.x509_enabled),
            "ensemble" => (Provider::Ensemble, self.options.ensemble_provider_enabled),
            _ => return None,
        };
        enabled.then_some(provider)
    }

    /// The identities of a connection just accepted from `remote`.
    pub fn initial(&self, remote: IpAddr) -> Identities {
        let mut last = self.last_initial.borrow_mut();
        if let Some((address, ids)) = &*last
            && *address == remote
        {
            return ids.clone();
        }
        let ids = self.number(Identities::new([Identity::new("ip", ip::java_text(remote))]));
        *last = Some((remote, ids.clone()));
        ids
    }

    /// The identities of a connection whose TLS client certificate has the subject `dn`
    /// (RFC 2253 text); the chain was verified by the caller.
    pub fn add_x509(&self, ids: &Identities, dn: &str) -> Identities {
        let is_super = self.options.x509_super_user.as_deref() == Some(dn);
        let superuser = is_super.then(|| Identity::new("super", dn));
        self.number(ids.with(superuser.into_iter().chain([Identity::new("x509", dn)])))
    }

    /// Numbers a set of identities that was just made, so that verdicts on it can be remembered.
    pub(super) fn number(&self, ids: Identities) -> Identities {
        ids.numbered(|| {
            self.numbered.set(self.numbered.get() + 1);
            self.numbered.get()
        })
    }

    /// Handles the scheme and data of an auth packet from `remote`.
    pub fn add_auth(
        &self,
        ids: &Identities,
        remote: IpAddr,
        scheme: Option<&str>,
        data: Option<&[u8]>,
    ) -> AuthOutcome {
        let Some(provider) = scheme.and_then(|scheme| self.provider(scheme)) else {
            return AuthOutcome::Failed;
        };
        let added = match (provider, data) {
            (Provider::Digest, Some(credentials)) => ids.with(self.digest_identities(credentials)),
            (Provider::Ip, _) => ids.with([Identity::new("ip", ip::java_text(remote))]),
            // The chain was taken over when the TLS handshake ended; there is nothing to add.
            (Provider::X509, _) if ids.has_scheme("x509") => ids.clone(),
            (Provider::Ensemble, name) => {
                if !self.is_our_ensemble(name.unwrap_or_default()) {
                    return AuthOutcome::CloseSilently;
                }
                ids.clone()
            }
            (Provider::Digest, None) | (Provider::X509 | Provider::Sasl, _) => {
                return AuthOutcome::Failed;
            }
        };
        if added.len() != ids.len() {
            self.add_identities_cost(added.len());
        }
        if added.len() > IDENTITIES_MAX {
            return AuthOutcome::Failed;
        }
        AuthOutcome::Added(self.number(added))
    }

    fn digest_identities(&self, credentials: &[u8]) -> impl Iterator<Item = Identity> {
        let id = digest_id(self.options.digest_alg, credentials);
        let is_super = match &self.options.super_digest {
            Some(wanted) => same_secret(wanted.as_bytes(), id.as_bytes()),
            None => false,
        };
        let superuser = is_super.then(|| Identity::new("super", ""));
        superuser.into_iter().chain([Identity::new("digest", id)])
    }

    fn is_our_ensemble(&self, name: &[u8]) -> bool {
        match &self.options.ensemble_names {
            Some(ours) if !name.is_empty() => ours.iter().any(|our| our.as_bytes() == name),
            Some(_) | None => true,
        }
    }

    /// The list to store for a requested `acl`: duplicates removed in order, `auth` replaced by
    /// the caller's identities, every id checked by its scheme. `out` is only the room for a list
    /// that differs from the request; the common `world:anyone` comes back as it is.
    pub fn fix_up<'a>(
        &self,
        acl: AclBytes<'a>,
        ids: &Identities,
        out: &'a mut Vec<u8>,
    ) -> Result<AclBytes<'a>, AclError> {
        if acl.bytes() == ACL_OPEN_BYTES {
            return Ok(acl);
        }
        out.clear();
        put_i32(out, 0);
        let mut count = 0;
        let entries = unique(acl)?;
        self.add_cost(entries.len(), FIX_UP_ENTRY_COST);
        for entry in entries {
            count += self.fix_up_entry(&entry, ids, out)?;
            if out.len() > ACL_BYTES_MAX {
                return Err(AclError::InvalidAcl);
            }
        }
        if count == 0 {
            return Err(AclError::InvalidAcl);
        }
        out[..4].copy_from_slice(&count.to_be_bytes());
        // Just encoded, so it has the right shape.
        Ok(AclBytes::known(out))
    }

    /// Appends what `entry` becomes and returns the number of entries appended.
    fn fix_up_entry(
        &self,
        entry: &Acl<'_>,
        ids: &Identities,
        out: &mut Vec<u8>,
    ) -> Result<i32, AclError> {
        let scheme = entry.scheme.as_deref().ok_or(AclError::InvalidAcl)?;
        match (scheme, entry.id.as_deref()) {
            ("world", None) => Err(AclError::Marshalling),
            ("world", Some("anyone")) => {
                entry.encode_into(out);
                Ok(1)
            }
            ("auth", _) => self.expand(entry.perms, ids, out),
            (_, id) => {
                let provider = self.provider(scheme).ok_or(AclError::InvalidAcl)?;
                if !is_valid(provider, id)? {
                    return Err(AclError::InvalidAcl);
                }
                entry.encode_into(out);
                Ok(1)
            }
        }
    }

    fn expand(&self, perms: Perms, ids: &Identities, out: &mut Vec<u8>) -> Result<i32, AclError> {
        let mut count = 0;
        for identity in ids.iter() {
            if self.provider(&identity.scheme).is_some_and(Provider::is_authenticated) {
                put_i32(out, perms.0);
                put_str(out, &identity.scheme);
                put_str(out, &identity.id);
                count += 1;
            }
        }
        if count == 0 { Err(AclError::InvalidAcl) } else { Ok(count) }
    }

    /// Forgets what the numbers of lists stood for: another tree numbers its lists anew.
    pub fn forget_verdicts(&self) {
        self.verdicts.borrow_mut().clear();
    }

    /// Whether a caller with `ids` has one of the bits of `perm` on a node with this `acl`.
    /// `serial` is a number that no other list has or will have, if there is one: then what a long
    /// list grants is found out only once.
    #[inline]
    pub fn allows(
        &self,
        acl: AclBytes<'_>,
        serial: Option<u64>,
        perm: Perms,
        ids: &Identities,
    ) -> bool {
        // Nearly always it is not only the same list but the very same.
        let is_open = std::ptr::eq(acl.bytes(), ACL_OPEN_BYTES) || acl.bytes() == ACL_OPEN_BYTES;
        is_open && Perms::ALL.shares(perm) || self.allows_some(acl, serial, perm, ids)
    }

    fn allows_some(
        &self,
        acl: AclBytes<'_>,
        serial: Option<u64>,
        perm: Perms,
        ids: &Identities,
    ) -> bool {
        if self.options.skip_acl || acl.is_empty() || ids.is_super() {
            return true;
        }
        let is_long = acl.bytes().len() > LONG_BYTES && perm.0 & !Perms::ALL.0 == 0;
        let known = serial.filter(|_| is_long).zip(ids.serial());
        if let Some((serial, by)) = known
            && let Some(granted) = self.verdicts.borrow().get(serial, by)
        {
            return granted.shares(perm);
        }
        let mut callers = Callers::new(self, ids);
        let (mut compared, mut granted) = (0, Perms(0));
        for entry in acl.iter() {
            compared += 1;
            if entry.perms.0 & !granted.0 != 0 && callers.are_granted(&entry) {
                granted.0 |= entry.perms.0;
                if known.is_none() && granted.shares(perm) {
                    break;
                }
            }
        }
        self.add_cost(compared, ENTRY_COST);
        if let Some((serial, by)) = known {
            self.verdicts.borrow_mut().put(serial, by, granted);
        }
        granted.shares(perm)
    }

    /// Appends `acl` as getACL shows it to a caller without ADMIN: the hash of every `digest` id
    /// becomes `x`.
    pub fn redact(&self, acl: AclBytes<'_>, out: &mut Vec<u8>) {
        let Some(count) = acl.bytes().first_chunk::<4>() else { return };
        out.extend_from_slice(count);
        for mut entry in acl.iter() {
            if entry.scheme.as_deref() == Some("digest") {
                let hidden = entry.id.as_deref().and_then(|id| id.split_once(':'));
                if let Some((user, _)) = hidden {
                    entry.id = Some(format!("{user}:x").into());
                }
            }
            entry.encode_into(out);
        }
    }

    /// Appends the body of a whoAmI reply: `vector<ClientInfo{authScheme, user}>`.
    pub fn who_am_i(&self, ids: &Identities, out: &mut Vec<u8>) {
        put_i32(out, i32::try_from(ids.len()).unwrap_or(i32::MAX));
        for identity in ids.iter() {
            put_str(out, &identity.scheme);
            put_str(
                out,
                match self.provider(&identity.scheme) {
                    Some(Provider::Digest) => digest::user_of(&identity.id),
                    Some(_) => &identity.id,
                    None => "",
                },
            );
        }
    }

    /// Whether the connection may send requests other than auth and sasl. If not, the answer is
    /// SESSIONCLOSEDREQUIRESASLAUTH and the end of the connection.
    pub fn is_enforced_ok(&self, ids: &Identities) -> bool {
        match &self.options.enforce {
            None => true,
            Some(schemes) => schemes.iter().any(|scheme| ids.has_scheme(scheme)),
        }
    }

    /// Whether a client has to authenticate by SASL.
    pub fn is_sasl_required(&self) -> bool {
        self.options.enforce.as_ref().is_some_and(|schemes| schemes.iter().any(|s| s == "sasl"))
    }
}

fn is_valid(provider: Provider, id: Option<&str>) -> Result<bool, AclError> {
    let Some(id) = id else {
        // Only this provider does not look at the id.
        return if provider == Provider::Ensemble { Ok(false) } else { Err(AclError::Marshalling) };
    };
    Ok(match provider {
        Provider::Digest => digest::is_valid(id),
        Provider::Ip => ip::is_valid(id),
        Provider::Sasl => principal::is_valid(id),
        Provider::X509 => dn::is_valid(id),
        Provider::Ensemble => false,
    })
}

/// The entries without repetitions, in order. Lists come from clients and may have tens of
/// thousands of entries, so long ones must not cost a scan per entry.
///
/// Java compares each entry with those kept before it, field by field, and a null field of the new
/// one is a null pointer as soon as the fields before it are equal.
fn unique(acl: AclBytes<'_>) -> Result<Vec<Acl<'_>>, AclError> {
    let mut entries: Vec<Acl<'_>> = Vec::new();
    if acl.iter().nth(SCAN_ENTRIES_MAX).is_none() {
        for entry in acl.iter() {
            let mut is_new = true;
            for kept in &entries {
                is_new &= !is_same(&entry, kept)?;
            }
            if is_new {
                entries.push(entry);
            }
        }
        return Ok(entries);
    }
    type Fields<'a> = (i32, Option<Cow<'a, str>>, Option<Cow<'a, str>>);
    let mut seen: BTreeSet<Fields<'_>> = BTreeSet::new();
    for entry in acl.iter() {
        if entry.scheme.is_none() || entry.id.is_none() {
            // Null is the least value: if any entry has the fields before the null, the next has.
            let least: Fields<'_> = (entry.perms.0, entry.scheme.clone(), None);
            let next = seen.range(least..).next();
            let is_null_pointer = next.is_some_and(|(perms, scheme, _)| {
                *perms == entry.perms.0 && (entry.scheme.is_none() || *scheme == entry.scheme)
            });
            if is_null_pointer {
                return Err(AclError::Marshalling);
            }
        }
        if seen.insert((entry.perms.0, entry.scheme.clone(), entry.id.clone())) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// `ACL.equals`, with its null pointers.
fn is_same(entry: &Acl<'_>, kept: &Acl<'_>) -> Result<bool, AclError> {
    if entry.perms != kept.perms {
        return Ok(false);
    }
    let scheme = entry.scheme.as_ref().ok_or(AclError::Marshalling)?;
    if Some(scheme) != kept.scheme.as_ref() {
        return Ok(false);
    }
    let id = entry.id.as_ref().ok_or(AclError::Marshalling)?;
    Ok(Some(id) == kept.id.as_ref())
}
