//! Kerberos-shaped names (`KerberosName`): ids of the `sasl` scheme, in ACLs and after SASL.

/// `primary[/instance]@REALM`, taken apart.
struct Principal<'a> {
    primary: &'a str,
    instance: Option<&'a str>,
    realm: &'a str,
}

/// `Ok(None)` for a name without `@`, which is valid whatever it holds.
fn parse(name: &str) -> Result<Option<Principal<'_>>, ()> {
    let Some((left, realm)) = name.split_once('@') else { return Ok(None) };
    let (primary, instance) = match left.split_once('/') {
        Some((primary, instance)) => (primary, Some(instance)),
        None => (left, None),
    };
    if realm.contains(['/', '@']) || instance.is_some_and(|i| i.contains('/')) {
        return Err(());
    }
    Ok(Some(Principal { primary, instance, realm }))
}

/// Whether `name` may stand in an ACL.
pub(super) fn is_valid(name: &str) -> bool {
    parse(name).is_ok()
}

/// The authorization id of a user who proved to be `name`; `None` if the name is malformed.
///
/// Only the `DEFAULT` rule with an empty default realm applies, as on a server without a Kerberos
/// configuration: a name of another realm has no short name and stays as it is.
/// Unlike Apache, a client's own `authzid` is never taken, not even when no rule applies.
pub(super) fn authorization_id(
    name: &str,
    remove_host: bool,
    remove_realm: bool,
) -> Option<String> {
    let Some(principal) = parse(name).ok()? else { return Some(name.to_owned()) };
    if !principal.realm.is_empty() {
        return Some(name.to_owned());
    }
    let mut id = principal.primary.to_owned();
    if let Some(instance) = principal.instance.filter(|_| !remove_host) {
        id.push('/');
        id.push_str(instance);
    }
    if !remove_realm {
        id.push('@');
    }
    Some(id)
}
