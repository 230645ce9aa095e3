//! The handshake records and the session password.

use crate::base::{SessionId, Zxid};

use super::{DecodeError, Reader, put_bool, put_buffer, put_i32, put_i64};

/// First frame of a connection; has no request header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectRequest<'a> {
    /// Ignored by servers.
    pub protocol_version: i32,
    /// Highest zxid the client has observed.
    pub last_zxid_seen: Zxid,
    /// Requested session timeout in ms.
    pub timeout_ms: i32,
    /// 0 asks for a new session.
    pub session: SessionId,
    /// 16 bytes when reconnecting; anything for a new session.
    pub password: &'a [u8],
    /// `None` from old clients, which do not send the byte and must not get it back.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads the record; trailing bytes are ignored.
    pub fn decode(bytes: &'a [u8]) -> Result<ConnectRequest<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        Ok(ConnectRequest {
            protocol_version: r.i32("protocolVersion")?,
            last_zxid_seen: Zxid(r.i64("lastZxidSeen")?),
            timeout_ms: r.i32("timeOut")?,
            session: SessionId(r.i64("sessionId")?),
            password: r.buffer("passwd")?.unwrap_or(&[]),
            read_only: r.bool("readOnly").ok(),
        })
    }

    /// Appends the record.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_i32(out, self.protocol_version);
        put_i64(out, self.last_zxid_seen.0);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session.0);
        put_buffer(out, Some(self.password));
        if let Some(read_only) = self.read_only {
            put_bool(out, read_only);
        }
    }
}

/// Answer to a [`ConnectRequest`]; has no reply header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectResponse {
    /// Negotiated timeout in ms; 0 says that the session is not valid.
    pub timeout_ms: i32,
    /// 0 if the session is not valid.
    pub session: SessionId,
    /// All zero if the session is not valid.
    pub password: [u8; 16],
    /// Present only if the request carried the byte.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The refusal: "your session is not valid".
    pub fn refused(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { timeout_ms: 0, session: SessionId(0), password: [0; 16], read_only }
    }

    /// Appends the whole frame, length included.
    pub fn encode_frame_into(&self, out: &mut Vec<u8>) {
        put_i32(out, 36 + i32::from(self.read_only.is_some()));
        put_i32(out, 0);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session.0);
        put_buffer(out, Some(&self.password));
        if let Some(read_only) = self.read_only {
            put_bool(out, read_only);
        }
    }

    /// Reads the body of the frame.
    pub fn decode(bytes: &[u8]) -> Result<ConnectResponse, DecodeError> {
        let mut r = Reader::new(bytes);
        r.i32("protocolVersion")?;
        let timeout_ms = r.i32("timeOut")?;
        let session = SessionId(r.i64("sessionId")?);
        let found = r.buffer("passwd")?.unwrap_or(&[]);
        let password =
            found.try_into().map_err(|_| DecodeError::BadLength("passwd", found.len() as i32))?;
        Ok(ConnectResponse { timeout_ms, session, password, read_only: r.bool("readOnly").ok() })
    }
}

/// The password of a session: what `java.util.Random(id ^ 0xB3415C00).nextBytes(16)` gives. Every
/// server computes it from the id alone, which is why a session can move between servers.
pub fn session_password(session: SessionId) -> [u8; 16] {
    const MASK: u64 = (1 << 48) - 1;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    let mut seed = ((session.0 as u64) ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
    let mut password = [0u8; 16];
    for word in password.chunks_exact_mut(4) {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((seed >> 16) as u32).to_le_bytes());
    }
    password
}

/// The frame in which a client of a test asks for a session, or to go on with one.
#[cfg(test)]
pub fn connect_frame(session: SessionId, timeout_ms: i32) -> Vec<u8> {
    let mut frame = Vec::new();
    let start = super::begin_frame(&mut frame);
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(0),
        timeout_ms,
        session,
        password: &session_password(session),
        read_only: Some(false),
    }
    .encode_into(&mut frame);
    super::end_frame(&mut frame, start);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn passwords_match_the_reference_vectors() {
        for (id, expect) in [
            (0x0100_0013_0c1d_0000_i64, "39c2031ad2193abb3f76887c6b3b0dda"),
            (0x0100_0013_0c1d_0011, "1ad25b1a73ab24b2e1897bf10537d9d5"),
            (1, "054cc74a37327db215e702e20c73f005"),
            (0xfe00_0000_0000_0001_u64 as i64, "054cc74a37327db215e702e20c73f005"),
        ] {
            assert_eq!(hex(&session_password(SessionId(id))), expect, "{id:#x}");
        }
    }

    #[test]
    fn frames_have_the_lengths_clients_expect() {
        let response = ConnectResponse {
            timeout_ms: 10_000,
            session: SessionId(0x0100_0013_0c1d_0000),
            password: session_password(SessionId(0x0100_0013_0c1d_0000)),
            read_only: Some(false),
        };
        let mut out = Vec::new();
        response.encode_frame_into(&mut out);
        assert_eq!(
            hex(&out),
            "000000250000000000002710010000130c1d000000000010\
             39c2031ad2193abb3f76887c6b3b0dda00"
        );
        assert_eq!(ConnectResponse::decode(&out[4..]), Ok(response));
        let mut out = Vec::new();
        ConnectResponse::refused(None).encode_frame_into(&mut out);
        assert_eq!(out.len(), 40);
    }

    #[test]
    fn the_read_only_byte_is_optional() {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(5),
            timeout_ms: 4000,
            session: SessionId(0),
            password: &[0; 16],
            read_only: None,
        };
        let mut out = Vec::new();
        request.encode_into(&mut out);
        assert_eq!(out.len(), 44);
        assert_eq!(ConnectRequest::decode(&out), Ok(request));
        assert!(ConnectRequest::decode(&out[..43]).is_err());
        out.push(2);
        assert_eq!(ConnectRequest::decode(&out).unwrap().read_only, Some(true));
    }
}
