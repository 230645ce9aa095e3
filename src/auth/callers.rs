//! A caller's identities, prepared for being compared with many ACL entries: an entry is looked for
//! among the identities of its scheme, not compared with all of them.

use crate::wire::Acl;

use super::engine::{Auth, Provider};
use super::identity::{Identities, OfScheme};
use super::ip;

/// Identities of one scheme.
struct Known<'a> {
    ids: OfScheme<'a>,
    /// One of them may do everything that any id of this scheme may do.
    is_any: bool,
}

/// See the module.
pub(super) struct Callers<'a> {
    auth: &'a Auth,
    ids: &'a Identities,
    /// By provider, filled when the first entry of its scheme comes.
    known: [Option<Known<'a>>; Provider::COUNT],
}

impl<'a> Callers<'a> {
    pub fn new(auth: &'a Auth, ids: &'a Identities) -> Callers<'a> {
        Callers { auth, ids, known: [const { None }; Provider::COUNT] }
    }

    /// Whether one of the identities is the one that `entry` names, or may stand for it.
    pub fn are_granted(&mut self, entry: &Acl<'_>) -> bool {
        let (Some(scheme), Some(wanted)) = (entry.scheme.as_deref(), entry.id.as_deref()) else {
            return false;
        };
        if scheme == "world" && wanted == "anyone" {
            return true;
        }
        let Some(provider) = self.auth.provider(scheme) else { return false };
        let (auth, ids) = (self.auth, self.ids);
        let known = self.known[provider as usize].get_or_insert_with(|| {
            let ids = ids.of_scheme(scheme);
            Known { ids, is_any: auth.has_any(provider, &ids) }
        });
        let allowed = auth.options().let_any_sasl_user_do_x.as_deref();
        match provider {
            Provider::Digest => known.ids.contains(wanted),
            Provider::Ip => known.ids.iter().any(|id| ip::matches(id, wanted)),
            Provider::Sasl => {
                known.is_any
                    || known.ids.contains(wanted)
                    || !known.ids.is_empty() && allowed == Some(wanted)
            }
            Provider::X509 => known.is_any || known.ids.contains(wanted),
            Provider::Ensemble => false,
        }
    }
}

impl Auth {
    /// Whether one of `ids` may do everything that any id of its scheme may do.
    fn has_any(&self, provider: Provider, ids: &OfScheme<'_>) -> bool {
        match provider {
            Provider::Sasl => ids.contains("super"),
            Provider::X509 => {
                self.options().x509_super_user.as_deref().is_some_and(|user| ids.contains(user))
            }
            Provider::Digest | Provider::Ip | Provider::Ensemble => false,
        }
    }
}
