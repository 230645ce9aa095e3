//! ACLs. A list is kept in its encoded form (`vector<ACL>`), because that is what requests carry,
//! what transactions, snapshots and replies want back, and what interning compares.

use std::borrow::Cow;

use super::{DecodeError, Reader, put_i32, put_str};

/// Permission bits (`ZooDefs.Perms`). Other bits are stored, not rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Perms(pub i32);

impl Perms {
    /// getData, getChildren, exists, check, watch delivery.
    pub const READ: Perms = Perms(1);
    /// setData.
    pub const WRITE: Perms = Perms(2);
    /// Create of a child.
    pub const CREATE: Perms = Perms(4);
    /// Delete of a child.
    pub const DELETE: Perms = Perms(8);
    /// setACL.
    pub const ADMIN: Perms = Perms(16);
    /// All five.
    pub const ALL: Perms = Perms(31);

    /// Whether any bit is shared, which is all that ZooKeeper asks for.
    pub fn shares(self, other: Perms) -> bool {
        self.0 & other.0 != 0
    }
}

/// One entry of an ACL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl<'a> {
    /// Granted bits.
    pub perms: Perms,
    /// `world`, `digest`, `ip`, …; `None` if null on the wire.
    pub scheme: Option<Cow<'a, str>>,
    /// Scheme-specific id; `None` if null on the wire.
    pub id: Option<Cow<'a, str>>,
}

impl Acl<'_> {
    /// Appends the entry; null fields stay null.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i32(out, self.perms.0);
        for field in [&self.scheme, &self.id] {
            match field {
                Some(text) => put_str(out, text),
                None => put_i32(out, -1),
            }
        }
    }
}

/// The encoded form of `world:anyone` with all permissions: one entry, by far the most common.
pub const ACL_OPEN_BYTES: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";

/// A well-formed encoded `vector<ACL>`, count included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclBytes<'a>(&'a [u8]);

impl<'a> AclBytes<'a> {
    /// `world:anyone`, all permissions.
    pub const OPEN: AclBytes<'static> = AclBytes(ACL_OPEN_BYTES);

    /// Grants nothing to anybody: an entry without permissions.
    pub const NOTHING: AclBytes<'static> =
        AclBytes(b"\0\0\0\x01\0\0\0\0\0\0\0\x05world\0\0\0\x06anyone");

    /// Reads a `vector<ACL>`, checking its shape.
    pub fn read(r: &mut Reader<'a>) -> Result<AclBytes<'a>, DecodeError> {
        let start = r.rest();
        if start.starts_with(ACL_OPEN_BYTES) {
            r.take(ACL_OPEN_BYTES.len(), "acl")?;
            return Ok(AclBytes(&start[..ACL_OPEN_BYTES.len()]));
        }
        for _ in 0..r.count("acl count")?.unwrap_or(0) {
            r.i32("acl perms")?;
            r.buffer("acl scheme")?;
            r.buffer("acl id")?;
        }
        Ok(AclBytes(&start[..start.len() - r.remaining()]))
    }

    /// The whole of `bytes` as one list.
    pub fn parse(bytes: &'a [u8]) -> Result<AclBytes<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        let list = AclBytes::read(&mut r)?;
        match r.remaining() {
            0 => Ok(list),
            n => Err(DecodeError::BadValue("bytes after acl list", n as i64)),
        }
    }

    /// The bytes of a list that was read or parsed before, without looking through it again: lists
    /// that are kept are asked for with each request, and may be long. No bytes at all, which is
    /// what a dropped list leaves, grant nothing.
    #[inline]
    pub fn known(bytes: &'a [u8]) -> AclBytes<'a> {
        debug_assert!(bytes.is_empty() || AclBytes::parse(bytes).is_ok(), "no list: {bytes:?}");
        if bytes.is_empty() { AclBytes::NOTHING } else { AclBytes(bytes) }
    }

    /// The encoded bytes, count included.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Null, which stands for no entries nearly everywhere.
    pub fn is_null(self) -> bool {
        self.0.starts_with(&(-1i32).to_be_bytes())
    }

    /// Null or no entries.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The entries in order.
    pub fn iter(self) -> impl Iterator<Item = Acl<'a>> {
        let mut r = Reader::new(self.0);
        let count = r.count("acl count").ok().flatten().unwrap_or(0);
        // The shape was checked in `read`, so the fallible steps below cannot end early.
        (0..count).map_while(move |_| {
            let perms = Perms(r.i32("acl perms").ok()?);
            let scheme = r.text("acl scheme").ok()?;
            let id = r.text("acl id").ok()?;
            Some(Acl { perms, scheme, id })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_acl_is_what_encoding_gives() {
        let mut out = Vec::new();
        put_i32(&mut out, 1);
        Acl { perms: Perms::ALL, scheme: Some("world".into()), id: Some("anyone".into()) }
            .encode_into(&mut out);
        assert_eq!(out, ACL_OPEN_BYTES);
        let list = AclBytes::parse(&out).unwrap();
        assert_eq!(list.iter().count(), 1);
        assert!(AclBytes::parse(&out[..out.len() - 1]).is_err());
        let null = AclBytes::parse(&[0xff; 4]).unwrap();
        assert!(null.is_empty() && null.is_null());
        assert!(!AclBytes::parse(&[0; 4]).unwrap().is_null());
        assert_eq!(AclBytes::known(&out), list);
        assert_eq!(AclBytes::known(&[]), AclBytes::NOTHING);
    }
}
