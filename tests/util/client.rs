//! A raw client: one connection, frames built and taken apart by hand (jute over TCP).

use super::PATIENCE;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Operation codes.
pub mod op {
    #![allow(missing_docs, reason = "the names are ZooKeeper's own")]
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
}

/// Builds a record field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jute(pub Vec<u8>);

impl Jute {
    /// An empty record.
    pub fn new() -> Jute {
        Jute::default()
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Jute {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `boolean`.
    pub fn bool(self, value: bool) -> Jute {
        self.raw(&[u8::from(value)])
    }

    /// `int`.
    pub fn int(self, value: i32) -> Jute {
        self.raw(&value.to_be_bytes())
    }

    /// `long`.
    pub fn long(self, value: i64) -> Jute {
        self.raw(&value.to_be_bytes())
    }

    /// `buffer`.
    pub fn buffer(self, value: &[u8]) -> Jute {
        self.int(i32::try_from(value.len()).expect("fits a frame")).raw(value)
    }

    /// A null `buffer`, `ustring` or `vector`.
    pub fn null(self) -> Jute {
        self.int(-1)
    }

    /// `ustring`.
    pub fn string(self, value: &str) -> Jute {
        self.buffer(value.as_bytes())
    }

    /// `vector<ustring>`.
    pub fn strings(self, values: &[&str]) -> Jute {
        let count = self.int(i32::try_from(values.len()).expect("fits a frame"));
        values.iter().fold(count, |jute, value| jute.string(value))
    }

    /// `vector<ACL>` of (permissions, scheme, id).
    pub fn acl(self, entries: &[(i32, &str, &str)]) -> Jute {
        let count = self.int(i32::try_from(entries.len()).expect("fits a frame"));
        entries
            .iter()
            .fold(count, |jute, (perms, scheme, id)| jute.int(*perms).string(scheme).string(id))
    }

    /// The usual ACL: everybody may do everything.
    pub fn open_acl(self) -> Jute {
        self.acl(&[(31, "world", "anyone")])
    }

    /// `MultiHeader` before a sub-operation.
    pub fn multi_header(self, op: i32) -> Jute {
        self.int(op).bool(false).int(-1)
    }

    /// `MultiHeader` after the last sub-operation.
    pub fn multi_end(self) -> Jute {
        self.int(-1).bool(true).int(-1)
    }
}

/// Takes a record apart; panics where the bytes do not fit, since that is a failed test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).expect("the record is longer");
        self.0 = rest;
        taken
    }

    /// `boolean`.
    pub fn bool(&mut self) -> bool {
        match self.take(1) {
            [0] => false,
            [1] => true,
            other => panic!("{other:?} is no boolean"),
        }
    }

    /// `int`.
    pub fn int(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("4 bytes"))
    }

    /// `long`.
    pub fn long(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().expect("8 bytes"))
    }

    /// `buffer`; `None` is null.
    pub fn buffer(&mut self) -> Option<&'a [u8]> {
        match self.int() {
            -1 => None,
            length => Some(self.take(usize::try_from(length).expect("a length"))),
        }
    }

    /// `ustring` that is not null.
    pub fn string(&mut self) -> String {
        let bytes = self.buffer().expect("a string, not null");
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    /// `vector<ustring>`.
    pub fn strings(&mut self) -> Vec<String> {
        (0..self.int()).map(|_| self.string()).collect()
    }

    /// `vector<ACL>` of (permissions, scheme, id).
    pub fn acl(&mut self) -> Vec<(i32, String, String)> {
        (0..self.int()).map(|_| (self.int(), self.string(), self.string())).collect()
    }

    /// `Stat`.
    pub fn stat(&mut self) -> Stat {
        Stat {
            czxid: self.long(),
            mzxid: self.long(),
            ctime: self.long(),
            mtime: self.long(),
            version: self.int(),
            cversion: self.int(),
            aversion: self.int(),
            ephemeral_owner: self.long(),
            data_length: self.int(),
            num_children: self.int(),
            pzxid: self.long(),
        }
    }

    /// Asserts that nothing is left.
    pub fn end(&self) {
        assert!(self.0.is_empty(), "{} bytes too many: {:02x?}", self.0.len(), self.0);
    }
}

/// `Stat` in wire order.
#[allow(missing_docs, reason = "the names are ZooKeeper's own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// What a ConnectResponse granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Zero if the session asked for is not valid.
    pub id: i64,
    /// 16 bytes.
    pub password: Vec<u8>,
    /// Negotiated, in milliseconds.
    pub timeout_ms: i32,
    /// Whether the server is read-only.
    pub read_only: bool,
}

/// A reply frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The xid of the request.
    pub xid: i32,
    /// As in the header.
    pub zxid: i64,
    /// The error code, 0 for none.
    pub err: i32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body, to be taken apart; asserts that the request succeeded.
    pub fn ok(&self) -> Reader<'_> {
        assert_eq!(self.err, 0, "the request failed: {self:?}");
        Reader(&self.body)
    }
}

/// A watch notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of the header.
    pub zxid: i64,
    /// 1 created, 2 deleted, 3 data changed, 4 children changed.
    pub kind: i32,
    /// 3 is connected.
    pub state: i32,
    /// The client's path.
    pub path: String,
}

/// One connection with a session. Requests may be pipelined: `send` and `receive` apart.
pub struct Client {
    link: TcpStream,
    /// What the server granted.
    pub session: Session,
    /// The highest zxid of any reply, as a real client would keep for its next connection.
    pub last_zxid: i64,
    xid: i32,
    events: VecDeque<Event>,
}

impl Client {
    /// Connects with a new session.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Client {
        let timeout_ms = i32::try_from(timeout.as_millis()).expect("a short timeout");
        let fresh = Session { id: 0, password: vec![0; 16], timeout_ms, read_only: false };
        let client = Client::handshake(address, &fresh, 0).expect("handshake");
        assert_ne!(client.session.id, 0, "no session was granted");
        client
    }

    /// Connects with a session that exists; the session id of the result is 0 if it does not.
    pub fn reconnect(address: SocketAddr, session: &Session, last_zxid: i64) -> Client {
        Client::handshake(address, session, last_zxid).expect("handshake")
    }

    /// Connects and asks for `session`; an error if the server closes instead of answering.
    pub fn handshake(address: SocketAddr, session: &Session, last_zxid: i64) -> io::Result<Client> {
        Client::granted(Client::ask(address, session, last_zxid)?, last_zxid)
    }

    /// The first half of [`Client::handshake`]: does not wait for the answer.
    pub fn ask(address: SocketAddr, session: &Session, last_zxid: i64) -> io::Result<TcpStream> {
        let mut link = raw_connect(address)?;
        let request = Jute::new()
            .int(0)
            .long(last_zxid)
            .int(session.timeout_ms)
            .long(session.id)
            .buffer(&session.password)
            .bool(session.read_only);
        write_frame(&mut link, &request.0)?;
        Ok(link)
    }

    /// The second half: waits for the answer.
    pub fn granted(mut link: TcpStream, last_zxid: i64) -> io::Result<Client> {
        let frame = read_frame(&mut link)?;
        let mut response = Reader(&frame);
        assert_eq!(response.int(), 0, "protocol version");
        let session = Session {
            timeout_ms: response.int(),
            id: response.long(),
            password: response.buffer().expect("a password").to_vec(),
            read_only: response.bool(),
        };
        response.end();
        Ok(Client { link, session, last_zxid, xid: 0, events: VecDeque::new() })
    }

    /// Sends a request with the next xid and returns that xid.
    pub fn send(&mut self, op: i32, body: Jute) -> i32 {
        self.xid += 1;
        self.send_as(self.xid, op, body);
        self.xid
    }

    /// Like `send`; an error if the server is gone.
    pub fn try_send(&mut self, op: i32, body: &Jute) -> io::Result<i32> {
        self.xid += 1;
        let frame = Jute::new().int(self.xid).int(op).raw(&body.0);
        write_frame(&mut self.link, &frame.0)?;
        Ok(self.xid)
    }

    /// Sends a request with a chosen xid.
    pub fn send_as(&mut self, xid: i32, op: i32, body: Jute) {
        let frame = Jute::new().int(xid).int(op).raw(&body.0);
        write_frame(&mut self.link, &frame.0).expect("send");
    }

    /// Sends bytes as they are, for malformed input.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.link.write_all(bytes).expect("send");
    }

    /// The next reply; events on the way are kept for [`Client::event`].
    pub fn receive(&mut self) -> Reply {
        self.try_receive().expect("a reply")
    }

    /// Like `receive`; an error if the server closed or stays silent for [`PATIENCE`].
    pub fn try_receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.receive_any()? {
                return Ok(reply);
            }
        }
    }

    /// Reads one frame; an event is queued and yields `None`.
    fn receive_any(&mut self) -> io::Result<Option<Reply>> {
        let frame = read_frame(&mut self.link)?;
        let mut reader = Reader(&frame);
        let (xid, zxid, err) = (reader.int(), reader.long(), reader.int());
        if xid != -1 {
            self.last_zxid = self.last_zxid.max(zxid);
            return Ok(Some(Reply { xid, zxid, err, body: reader.0.to_vec() }));
        }
        let event = Event { zxid, kind: reader.int(), state: reader.int(), path: reader.string() };
        reader.end();
        self.events.push_back(event);
        Ok(None)
    }

    /// The next watch event; a reply before it is an error, since nobody would read it.
    pub fn event(&mut self) -> Event {
        while self.events.is_empty() {
            let reply = self.receive_any().expect("an event");
            assert_eq!(reply, None, "a reply instead of an event");
        }
        self.events.pop_front().expect("an event")
    }

    /// Events that arrived so far: all that precede the reply to a ping.
    pub fn events(&mut self) -> Vec<Event> {
        self.ping();
        self.events.drain(..).collect()
    }

    /// Sends a request and waits for its reply.
    pub fn request(&mut self, op: i32, body: Jute) -> Reply {
        let xid = self.send(op, body);
        let reply = self.receive();
        assert_eq!(reply.xid, xid, "replies come in the order of requests");
        reply
    }

    /// Like `request`; an error if the server closed the connection instead of answering.
    pub fn try_request(&mut self, op: i32, body: &Jute) -> io::Result<Reply> {
        let xid = self.try_send(op, body)?;
        let reply = self.try_receive()?;
        assert_eq!(reply.xid, xid, "replies come in the order of requests");
        Ok(reply)
    }

    /// Sends a ping and waits for its reply.
    pub fn ping(&mut self) {
        self.send_as(-2, op::PING, Jute::new());
        assert_eq!(self.receive().xid, -2);
    }

    /// Adds an identity to the connection.
    pub fn auth(&mut self, scheme: &str, credentials: &str) -> Reply {
        let body = Jute::new().int(0).string(scheme).string(credentials);
        self.send_as(-4, op::AUTH, body);
        self.receive()
    }

    /// create2 with an open ACL; see §9.2 for the flags.
    pub fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Reply {
        let body = Jute::new().string(path).buffer(data).open_acl().int(flags);
        self.request(op::CREATE2, body)
    }

    /// delete.
    pub fn delete(&mut self, path: &str, version: i32) -> Reply {
        self.request(op::DELETE, Jute::new().string(path).int(version))
    }

    /// setData.
    pub fn set(&mut self, path: &str, data: &[u8], version: i32) -> Reply {
        self.request(op::SET_DATA, Jute::new().string(path).buffer(data).int(version))
    }

    /// The data of a node that exists.
    pub fn get(&mut self, path: &str) -> (Vec<u8>, Stat) {
        let reply = self.get_data(path, false);
        let mut body = reply.ok();
        let found = (body.buffer().unwrap_or_default().to_vec(), body.stat());
        body.end();
        found
    }

    /// getData.
    pub fn get_data(&mut self, path: &str, watch: bool) -> Reply {
        self.request(op::GET_DATA, Jute::new().string(path).bool(watch))
    }

    /// exists: the node's stat, or none.
    pub fn exists(&mut self, path: &str, watch: bool) -> Option<Stat> {
        let reply = self.request(op::EXISTS, Jute::new().string(path).bool(watch));
        (reply.err != -101).then(|| reply.ok().stat())
    }

    /// getChildren of a node that exists, sorted.
    pub fn children(&mut self, path: &str, watch: bool) -> Vec<String> {
        let reply = self.request(op::GET_CHILDREN, Jute::new().string(path).bool(watch));
        let mut names = reply.ok().strings();
        names.sort();
        names
    }

    /// sync.
    pub fn sync(&mut self, path: &str) {
        self.request(op::SYNC, Jute::new().string(path)).ok();
    }

    /// closeSession, and waits until the server closed the connection.
    pub fn close(mut self) {
        self.request(op::CLOSE_SESSION, Jute::new()).ok();
        self.assert_closed();
    }

    /// The socket itself.
    pub fn link(&self) -> &TcpStream {
        &self.link
    }

    /// Breaks the connection; the session lives on until it expires.
    pub fn abandon(self) -> (Session, i64) {
        (self.session, self.last_zxid)
    }

    /// Asserts that the server closes without another frame.
    pub fn assert_closed(mut self) {
        let mut rest = Vec::new();
        match self.link.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "bytes before the end: {rest:02x?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

/// A plain connection with the harness's deadline on every read and write.
pub fn raw_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let link = TcpStream::connect_timeout(&address, PATIENCE)?;
    link.set_nodelay(true)?;
    link.set_read_timeout(Some(PATIENCE))?;
    link.set_write_timeout(Some(PATIENCE))?;
    Ok(link)
}

/// Writes length and frame in one piece.
pub fn write_frame(link: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    link.write_all(&Jute::new().buffer(frame).0)
}

/// Reads one frame without its length.
pub fn read_frame(link: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    link.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
    let mut frame = vec![0; length];
    link.read_exact(&mut frame)?;
    Ok(frame)
}
