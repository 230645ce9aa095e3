//! What `ephemeralOwner` means (`EphemeralType`): nothing, a session, a container or a TTL.

use crate::base::{CONTAINER_OWNER, SessionId};

/// Largest TTL in ms: the lower 40 bits of an owner value.
pub const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

/// Top byte of the extended encodings.
const EXTENDED: u64 = 0xff;

/// Kinds of nodes by owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnerKind {
    /// No owner.
    Persistent,
    /// Goes with its session.
    Ephemeral(SessionId),
    /// Goes when its last child has gone.
    Container,
    /// Goes when it has no children and was not written for this time, in milliseconds.
    Ttl(i64),
}

impl OwnerKind {
    /// Reads a raw owner. Extended encodings with an unknown feature id are taken for sessions
    /// (Apache refuses to work with them), which keeps them visible and deletable.
    pub fn classify(owner: i64, extended_types: bool, emulate_353: bool) -> OwnerKind {
        let top = (owner as u64) >> 56;
        let feature = (owner >> 40) & 0xffff;
        match owner {
            0 => OwnerKind::Persistent,
            CONTAINER_OWNER => OwnerKind::Container,
            _ if extended_types && emulate_353 && owner < 0 => OwnerKind::Ttl(owner & TTL_MAX_MS),
            _ if extended_types && top == EXTENDED && feature == 0 => {
                OwnerKind::Ttl(owner & TTL_MAX_MS)
            }
            _ => OwnerKind::Ephemeral(SessionId(owner)),
        }
    }
}

/// Owner value of a node that lives `ttl_ms` (1 to 2^40 - 1; higher bits are dropped).
pub fn ttl_owner(ttl_ms: i64) -> i64 {
    ((EXTENDED << 56) as i64) | (ttl_ms & TTL_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_apart() {
        let s = |id| OwnerKind::Ephemeral(SessionId(id));
        assert_eq!(OwnerKind::classify(0, true, true), OwnerKind::Persistent);
        assert_eq!(OwnerKind::classify(CONTAINER_OWNER, false, false), OwnerKind::Container);
        assert_eq!(OwnerKind::classify(CONTAINER_OWNER, true, true), OwnerKind::Container);
        assert_eq!(OwnerKind::classify(ttl_owner(77), true, false), OwnerKind::Ttl(77));
        assert_eq!(OwnerKind::classify(ttl_owner(77), false, false), s(ttl_owner(77)));
        let old = CONTAINER_OWNER | 77;
        assert_eq!(OwnerKind::classify(old, true, true), OwnerKind::Ttl(77));
        assert_eq!(OwnerKind::classify(old, true, false), s(old));
        assert_eq!(
            OwnerKind::classify(0x0100_0000_0000_0001, true, true),
            s(0x0100_0000_0000_0001)
        );
    }
}
