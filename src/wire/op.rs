//! Opcodes, create modes and the special xids (`ZooDefs.OpCode`, `CreateMode`).

use super::DecodeError;

/// Request types. Numbers outside this list are answered UNIMPLEMENTED.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum OpCode {
    CloseSession = -11,
    CreateSession = -10,
    Error = -1,
    Create = 1,
    Delete = 2,
    Exists = 3,
    GetData = 4,
    SetData = 5,
    GetAcl = 6,
    SetAcl = 7,
    GetChildren = 8,
    Sync = 9,
    Ping = 11,
    GetChildren2 = 12,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CheckWatches = 17,
    RemoveWatches = 18,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
    MultiRead = 22,
    Auth = 100,
    SetWatches = 101,
    Sasl = 102,
    GetEphemerals = 103,
    GetAllChildrenNumber = 104,
    SetWatches2 = 105,
    AddWatch = 106,
    WhoAmI = 107,
}

impl OpCode {
    /// Every opcode, in numeric order.
    pub const ALL: [OpCode; 32] = [
        OpCode::CloseSession,
        OpCode::CreateSession,
        OpCode::Error,
        OpCode::Create,
        OpCode::Delete,
        OpCode::Exists,
        OpCode::GetData,
        OpCode::SetData,
        OpCode::GetAcl,
        OpCode::SetAcl,
        OpCode::GetChildren,
        OpCode::Sync,
        OpCode::Ping,
        OpCode::GetChildren2,
        OpCode::Check,
        OpCode::Multi,
        OpCode::Create2,
        OpCode::Reconfig,
        OpCode::CheckWatches,
        OpCode::RemoveWatches,
        OpCode::CreateContainer,
        OpCode::DeleteContainer,
        OpCode::CreateTtl,
        OpCode::MultiRead,
        OpCode::Auth,
        OpCode::SetWatches,
        OpCode::Sasl,
        OpCode::GetEphemerals,
        OpCode::GetAllChildrenNumber,
        OpCode::SetWatches2,
        OpCode::AddWatch,
        OpCode::WhoAmI,
    ];

    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The opcode numbered `code`, if there is one.
    #[inline]
    pub fn from_code(code: i32) -> Option<OpCode> {
        let index = match code {
            -11 => 0,
            -10 => 1,
            -1 => 2,
            1..=9 => code + 2,
            11..=22 => code + 1,
            100..=107 => code - 76,
            _ => return None,
        };
        Some(OpCode::ALL[index as usize])
    }

    /// Position in [`OpCode::ALL`].
    #[inline]
    pub fn index(self) -> usize {
        let code = self.code();
        let index = match code {
            -11 => 0,
            -10 => 1,
            -1 => 2,
            1..=9 => code + 2,
            11..=22 => code + 1,
            _ => code - 76,
        };
        index as usize
    }

    /// Whether a client's request of this type is a write, other than the end of its session.
    #[inline(always)]
    pub fn is_write(self) -> bool {
        matches!(
            self,
            OpCode::Create
                | OpCode::Create2
                | OpCode::CreateContainer
                | OpCode::CreateTtl
                | OpCode::Delete
                | OpCode::SetData
                | OpCode::SetAcl
                | OpCode::Multi
                | OpCode::Reconfig
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_positions_agree() {
        for (index, op) in OpCode::ALL.into_iter().enumerate() {
            assert_eq!(OpCode::from_code(op.code()), Some(op));
            assert_eq!(op.index(), index);
        }
        for unknown in [0, 10, 23, 99, 108, -2, -12, i32::MIN, i32::MAX] {
            assert_eq!(OpCode::from_code(unknown), None);
        }
    }
}

/// Notifications carry this xid.
pub const XID_NOTIFICATION: i32 = -1;
/// Pings are answered with this xid, even if the client sent another one.
pub const XID_PING: i32 = -2;
/// Java, C and Python clients send auth packets with this xid.
pub const XID_AUTH: i32 = -4;
/// Java and C clients send setWatches with this xid.
pub const XID_SET_WATCHES: i32 = -8;

/// What kind of node a create makes (`CreateMode`; flags are an enumeration, not bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum CreateMode {
    Persistent,
    Ephemeral,
    PersistentSequential,
    EphemeralSequential,
    Container,
    PersistentWithTtl,
    PersistentSequentialWithTtl,
}

impl CreateMode {
    /// Decodes the `flags` field.
    pub fn from_flags(flags: i32) -> Result<CreateMode, DecodeError> {
        Ok(match flags {
            0 => CreateMode::Persistent,
            1 => CreateMode::Ephemeral,
            2 => CreateMode::PersistentSequential,
            3 => CreateMode::EphemeralSequential,
            4 => CreateMode::Container,
            5 => CreateMode::PersistentWithTtl,
            6 => CreateMode::PersistentSequentialWithTtl,
            other => return Err(DecodeError::BadValue("create flags", i64::from(other))),
        })
    }

    /// The node is bound to its session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// The name gets a counter suffix.
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::PersistentSequentialWithTtl
        )
    }

    /// The node expires when unused.
    pub fn is_ttl(self) -> bool {
        matches!(self, CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl)
    }
}
