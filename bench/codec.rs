//! Request templates that are patched in place, and the scan over a buffer of replies.
//!
//! A generator that encodes every request field by field would measure itself; here a request is
//! one copy of a prepared frame plus a few stores. `ringkeeper::wire` defines the layouts.
#![forbid(unsafe_code)]

use ringkeeper::base::{Rng, SessionId, Xid, Zxid};
use ringkeeper::wire::{
    ACL_OPEN_BYTES, ConnectRequest, OpCode, put_bool, put_buffer, put_i32, put_i64, put_multi_end,
    put_str,
};

/// Digits of a key in a path; also the limit on the number of keys.
pub const KEY_DIGITS: usize = 8;
/// Digits of the directory a key lives in: a thousand keys each.
pub const DIR_DIGITS: usize = 5;
/// Digits of a connection number.
pub const CONN_DIGITS: usize = 5;
/// Digits of a connection's own sequence of created nodes.
pub const SEQ_DIGITS: usize = 10;

/// A value to be written into a template before it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patch {
    /// A key: directory digits at the first offset, key digits at the second.
    Key(usize, usize),
    /// The connection number.
    Conn(usize),
    /// The next number to create by this connection.
    SeqCreate(usize),
    /// The oldest number that this connection created and did not delete.
    SeqDelete(usize),
    /// Eight varying bytes of node data.
    Value(usize),
    /// The watch flag.
    Watch(usize),
}

/// One prepared request frame.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// Length prefix, header and record.
    pub bytes: Vec<u8>,
    /// What to write into it for each request.
    pub patches: Vec<Patch>,
    /// Number of nodes that one request creates, or removes if it deletes.
    pub seq_count: u32,
}

/// What every template of a run has in common.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Everything is created below this path.
    pub root: String,
    /// Bytes of node data.
    pub size: usize,
    /// Operations per multi.
    pub multi_ops: usize,
}

impl Template {
    fn begin(op: OpCode) -> Template {
        let mut bytes = Vec::with_capacity(256);
        put_i32(&mut bytes, 0);
        put_i32(&mut bytes, 0);
        put_i32(&mut bytes, op.code());
        Template { bytes, ..Template::default() }
    }

    fn end(mut self) -> Template {
        let len = i32::try_from(self.bytes.len() - 4).unwrap_or(i32::MAX);
        self.bytes[..4].copy_from_slice(&len.to_be_bytes());
        self
    }

    fn key_path(&mut self, shape: &Shape) {
        let at = self.bytes.len() + 4 + shape.root.len() + "/d".len();
        put_str(&mut self.bytes, &key_path(&shape.root, 0));
        self.patches.push(Patch::Key(at, at + DIR_DIGITS + "/node-".len()));
    }

    fn own_path(&mut self, shape: &Shape, seq: fn(usize) -> Patch) {
        let at = self.bytes.len() + 4 + shape.root.len() + "/c".len();
        put_str(&mut self.bytes, &own_path(&shape.root, 0, 0));
        self.patches.push(Patch::Conn(at));
        self.patches.push(seq(at + CONN_DIGITS + "/s".len()));
        self.seq_count += 1;
    }

    fn data(&mut self, shape: &Shape) {
        let at = self.bytes.len() + 4;
        put_buffer(&mut self.bytes, Some(&filler(shape.size)));
        if shape.size >= 8 {
            self.patches.push(Patch::Value(at));
        }
    }

    fn flag(&mut self) {
        self.patches.push(Patch::Watch(self.bytes.len()));
        put_bool(&mut self.bytes, false);
    }

    fn multi_item(&mut self, op: OpCode) {
        put_i32(&mut self.bytes, op.code());
        put_bool(&mut self.bytes, false);
        put_i32(&mut self.bytes, -1);
    }

    /// getData or exists of a key.
    pub fn read(op: OpCode, shape: &Shape) -> Template {
        let mut t = Template::begin(op);
        t.key_path(shape);
        t.flag();
        t.end()
    }

    /// getChildren of the list directory.
    pub fn list(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::GetChildren);
        put_str(&mut t.bytes, &list_dir(&shape.root));
        t.flag();
        t.end()
    }

    /// setData of a key, any version.
    pub fn set(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::SetData);
        t.set_body(shape);
        t.end()
    }

    fn set_body(&mut self, shape: &Shape) {
        self.key_path(shape);
        self.data(shape);
        put_i32(&mut self.bytes, -1);
    }

    fn create_rest(&mut self, shape: &Shape) {
        self.data(shape);
        self.bytes.extend_from_slice(ACL_OPEN_BYTES);
        put_i32(&mut self.bytes, 0);
    }

    /// create of the connection's next node.
    pub fn create(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::Create);
        t.own_path(shape, Patch::SeqCreate);
        t.create_rest(shape);
        t.end()
    }

    /// delete of the connection's oldest node.
    pub fn delete(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::Delete);
        t.own_path(shape, Patch::SeqDelete);
        put_i32(&mut t.bytes, -1);
        t.end()
    }

    /// create of a key, for filling the tree before a run.
    pub fn fill(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::Create);
        t.key_path(shape);
        t.create_rest(shape);
        t.end()
    }

    /// A multi of setData.
    pub fn multi_set(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::Multi);
        for _ in 0..shape.multi_ops {
            t.multi_item(OpCode::SetData);
            t.set_body(shape);
        }
        put_multi_end(&mut t.bytes);
        t.end()
    }

    /// A multi of creates of the connection's next nodes.
    pub fn multi_create(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::Multi);
        for _ in 0..shape.multi_ops {
            t.multi_item(OpCode::Create);
            t.own_path(shape, Patch::SeqCreate);
            t.create_rest(shape);
        }
        put_multi_end(&mut t.bytes);
        t.end()
    }

    /// A request with no record.
    pub fn empty(op: OpCode) -> Template {
        Template::begin(op).end()
    }

    /// sync of the root.
    pub fn sync(shape: &Shape) -> Template {
        let mut t = Template::begin(OpCode::Sync);
        put_str(&mut t.bytes, &shape.root);
        t.end()
    }
}

/// Path of key `key`.
pub fn key_path(root: &str, key: u64) -> String {
    format!("{root}/d{:05}/node-{key:08}", key / 1000)
}

/// Path of the directory of keys `1000 * dir ..`.
pub fn dir_path(root: &str, dir: u64) -> String {
    format!("{root}/d{dir:05}")
}

/// Path of node `seq` that connection `conn` creates.
pub fn own_path(root: &str, conn: usize, seq: u64) -> String {
    format!("{root}/c{conn:05}/s{seq:010}")
}

/// Path of the parent of what connection `conn` creates.
pub fn own_dir(root: &str, conn: usize) -> String {
    format!("{root}/c{conn:05}")
}

/// Path of the directory whose children are listed.
pub fn list_dir(root: &str) -> String {
    format!("{root}/list")
}

/// Node data that neither repeats nor compresses well.
pub fn filler(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    Rng::new(1).fill(&mut data);
    data
}

const PAIRS: [u8; 200] = {
    let mut table = [0u8; 200];
    let mut i = 0;
    while i < 100 {
        table[2 * i] = b'0' + (i / 10) as u8;
        table[2 * i + 1] = b'0' + (i % 10) as u8;
        i += 1;
    }
    table
};

/// Writes `value` as decimal digits that fill `out`.
#[inline]
pub fn put_digits(out: &mut [u8], mut value: u64) {
    let mut end = out.len();
    while end >= 2 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        out[end - 2..end].copy_from_slice(&PAIRS[pair..pair + 2]);
        end -= 2;
    }
    if end == 1 {
        out[0] = b'0' + (value % 10) as u8;
    }
}

/// The head of one reply frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHead {
    /// Echoed xid; -1 for notifications.
    pub xid: i32,
    /// Zxid the server had reached.
    pub zxid: i64,
    /// 0 or an error code.
    pub err: i32,
    /// Bytes of the whole frame, length prefix included.
    pub frame_len: usize,
}

/// Reads the head of the reply frame that starts `bytes`, if the whole frame is there.
///
/// # Errors
/// A frame too short for a reply header, or of impossible length: not a ZooKeeper server.
#[inline]
pub fn reply_head(bytes: &[u8]) -> Result<Option<ReplyHead>, String> {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let len = i32::from_be_bytes(*len);
    if !(16..=1 << 30).contains(&len) {
        return Err(format!("the server sent a reply frame of {len} bytes"));
    }
    let len = len as usize;
    if rest.len() < len {
        return Ok(None);
    }
    let Some((head, _)) = rest.split_first_chunk::<16>() else { return Ok(None) };
    let [x0, x1, x2, x3, z @ .., e0, e1, e2, e3] = head;
    let mut zxid = [0u8; 8];
    zxid.copy_from_slice(z);
    Ok(Some(ReplyHead {
        xid: i32::from_be_bytes([*x0, *x1, *x2, *x3]),
        zxid: i64::from_be_bytes(zxid),
        err: i32::from_be_bytes([*e0, *e1, *e2, *e3]),
        frame_len: len + 4,
    }))
}

/// The body of a whole frame that starts `bytes`, for frames without a reply header.
pub fn frame_body(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(i32::from_be_bytes(*len)).ok()?)
}

/// The frame that opens a session (`session` 0) or returns to one.
pub fn connect_frame(
    session: SessionId,
    password: &[u8; 16],
    timeout_ms: i32,
    seen: Zxid,
) -> Vec<u8> {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: seen,
        timeout_ms,
        session,
        password,
        read_only: Some(false),
    };
    let mut out = vec![0; 4];
    request.encode_into(&mut out);
    finish(out)
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let len = i32::try_from(out.len() - 4).unwrap_or(i32::MAX);
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// A request frame with the record that `body` appends.
pub fn request(xid: Xid, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_i32(&mut out, xid.0);
    put_i32(&mut out, op.code());
    body(&mut out);
    finish(out)
}

/// A create frame with an open ACL; `flags` is the create mode (0 persistent, 1 ephemeral).
pub fn create_frame(xid: Xid, path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    request(xid, OpCode::Create, |out| {
        put_str(out, path);
        put_buffer(out, Some(data));
        out.extend_from_slice(ACL_OPEN_BYTES);
        put_i32(out, flags);
    })
}

/// A setData frame, any version.
pub fn set_frame(xid: Xid, path: &str, data: &[u8]) -> Vec<u8> {
    request(xid, OpCode::SetData, |out| {
        put_str(out, path);
        put_buffer(out, Some(data));
        put_i32(out, -1);
    })
}

/// A delete frame, any version.
pub fn delete_frame(xid: Xid, path: &str) -> Vec<u8> {
    request(xid, OpCode::Delete, |out| {
        put_str(out, path);
        put_i32(out, -1);
    })
}

/// getData, exists or getChildren, with or without a watch.
pub fn read_frame(xid: Xid, op: OpCode, path: &str, watch: bool) -> Vec<u8> {
    request(xid, op, |out| {
        put_str(out, path);
        put_bool(out, watch);
    })
}

/// setWatches with data watches only.
pub fn set_watches_frame(xid: Xid, seen: Zxid, data_watches: &[&str]) -> Vec<u8> {
    request(xid, OpCode::SetWatches, |out| {
        put_i64(out, seen.0);
        put_i32(out, i32::try_from(data_watches.len()).unwrap_or(i32::MAX));
        for path in data_watches {
            put_str(out, path);
        }
        put_i32(out, 0);
        put_i32(out, 0);
    })
}

/// A request without a record: ping, closeSession.
pub fn empty_frame(xid: Xid, op: OpCode) -> Vec<u8> {
    request(xid, op, |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkeeper::wire::{Create, MultiOp, MultiOps, PathWatch, Reader, RequestHeader, SetData};

    fn shape() -> Shape {
        Shape { root: "/bench".to_owned(), size: 20, multi_ops: 3 }
    }

    #[test]
    fn digits_fill_their_field() {
        for (value, width, expect) in
            [(0, 5, "00000"), (7, 1, "7"), (1_234_567, 8, "01234567"), (99_999, 5, "99999")]
        {
            let mut out = vec![b'x'; width];
            put_digits(&mut out, value);
            assert_eq!(out, expect.as_bytes());
        }
    }

    #[test]
    fn patched_offsets_are_those_of_the_path() {
        let mut t = Template::set(&shape());
        let Some(&Patch::Key(dir, key)) = t.patches.first() else { panic!("{:?}", t.patches) };
        put_digits(&mut t.bytes[dir..dir + DIR_DIGITS], 12);
        put_digits(&mut t.bytes[key..key + KEY_DIGITS], 12_345);
        let mut r = Reader::new(&t.bytes[4..]);
        assert_eq!(RequestHeader::decode_from(&mut r).unwrap().op, 5);
        let set = SetData::decode_from(&mut r).unwrap();
        assert_eq!(set.path, Some(key_path("/bench", 12_345).as_bytes()));
        assert_eq!(set.data.map(<[u8]>::len), Some(20));
        assert_eq!((set.version, r.remaining()), (-1, 0));
    }

    #[test]
    fn creates_name_the_connection_and_the_number() {
        let mut t = Template::create(&shape());
        for patch in t.patches.clone() {
            match patch {
                Patch::Conn(at) => put_digits(&mut t.bytes[at..at + CONN_DIGITS], 42),
                Patch::SeqCreate(at) => put_digits(&mut t.bytes[at..at + SEQ_DIGITS], 9_876_543),
                Patch::Value(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let mut r = Reader::new(&t.bytes[12..]);
        let create = Create::decode_from(&mut r, OpCode::Create).unwrap();
        assert_eq!(create.path.as_deref(), Some(&*own_path("/bench", 42, 9_876_543)));
        assert_eq!((create.flags, r.remaining()), (0, 0));
    }

    #[test]
    fn watch_flags_and_multis_decode() {
        let mut t = Template::read(OpCode::GetData, &shape());
        let Some(&Patch::Watch(at)) = t.patches.last() else { panic!("{:?}", t.patches) };
        t.bytes[at] = 1;
        assert!(PathWatch::decode_from(&mut Reader::new(&t.bytes[12..])).unwrap().watch);
        let t = Template::multi_set(&shape());
        let ops: Vec<_> = MultiOps::new(Reader::new(&t.bytes[12..])).collect();
        assert_eq!(ops.len(), 3);
        assert!(ops.iter().all(|op| matches!(op, Ok(MultiOp::SetData(_)))));
        assert_eq!(Template::multi_create(&shape()).seq_count, 3);
    }

    #[test]
    fn replies_are_scanned_whole_only() {
        let mut bytes =
            vec![0, 0, 0, 0x10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 255, 255, 255, 0x92];
        let head = reply_head(&bytes).unwrap().unwrap();
        assert_eq!(head, ReplyHead { xid: 2, zxid: 4, err: -110, frame_len: 20 });
        assert_eq!(reply_head(&bytes[..19]), Ok(None));
        assert_eq!(reply_head(&bytes[..3]), Ok(None));
        bytes[3] = 15;
        assert!(reply_head(&bytes).is_err());
    }
}
