//! Frames from a server as text in which everything is kept that must be equal and nothing that
//! may differ: session ids become ordinals, zxids count from the start of the history, times
//! become the relations they must satisfy, unordered lists are sorted.

use crate::codec::{Input, Malformed, hex, quote};
use std::collections::BTreeMap;

/// What is known about one server's ids and times during one history.
#[derive(Clone, Debug)]
pub struct Normalizer {
    base: i64,
    // Further zxids to count from, ascending.
    marks: Vec<i64>,
    now_ms: i64,
    sessions: Vec<i64>,
    times: BTreeMap<i64, i64>,
}

/// Wall clocks of tester and server are the same machine's; a server that stores another unit
/// than milliseconds or another moment is far outside this.
const CLOCK_SLACK_MS: i64 = 3_600_000;

const MULTI_READ: i32 = 22;

impl Normalizer {
    /// For a history that starts when the server's last zxid is `base` and the time is `now_ms`.
    pub fn new(base: i64, now_ms: i64) -> Normalizer {
        let (marks, sessions) = (Vec::new(), Vec::new());
        Normalizer { base, marks, now_ms, sessions, times: BTreeMap::new() }
    }

    /// Zxid at the start of the history, or the last that was marked.
    pub fn base(&self) -> i64 {
        self.marks.last().copied().unwrap_or(self.base)
    }

    /// From here on zxids count from `zxid`, which must be the server's last: how many
    /// transactions there were before is up to timing.
    pub fn mark(&mut self, zxid: i64) {
        self.marks.push(zxid);
    }

    /// A zxid relative to the start; older ones are all the same, as other histories made them.
    pub fn zxid(&self, zxid: i64) -> String {
        let marks = self.marks.partition_point(|mark| *mark <= zxid);
        match (zxid, marks) {
            (..=0, _) => zxid.to_string(),
            _ if zxid < self.base => "old".to_owned(),
            (_, 0) => format!("z+{}", zxid - self.base),
            (_, n) => format!("z{n}+{}", zxid - self.marks[n - 1]),
        }
    }

    /// A session id as the ordinal of its first appearance.
    pub fn session(&mut self, id: i64) -> String {
        if id == 0 {
            return "0".to_owned();
        }
        let at = self.sessions.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.sessions.push(id);
            self.sessions.len() - 1
        });
        format!("S{at}")
    }

    /// The time of transaction `zxid`: every node that it touched must show the same, and later
    /// transactions no earlier one.
    fn time(&mut self, zxid: i64, time: i64) -> String {
        if time == 0 || zxid < self.base {
            return if time == 0 { "0" } else { "old" }.to_owned();
        }
        if (time - self.now_ms).abs() > CLOCK_SLACK_MS {
            return format!("not-a-current-time({time})");
        }
        let known = *self.times.entry(zxid).or_insert(time);
        if known != time {
            return format!("not-the-time-of-its-zxid({time}, before {known})");
        }
        let earlier = self.times.range(..zxid).next_back().is_some_and(|(_, t)| *t > time);
        let later = self.times.range(zxid + 1..).next().is_some_and(|(_, t)| *t < time);
        if earlier || later { "not-monotonic" } else { "ok" }.to_owned()
    }

    fn stat(&mut self, r: &mut Input<'_>) -> Result<String, Malformed> {
        let (czxid, mzxid, ctime, mtime) = (r.long()?, r.long()?, r.long()?, r.long()?);
        let (version, cversion, aversion) = (r.int()?, r.int()?, r.int()?);
        let (owner, length, children, pzxid) = (r.long()?, r.int()?, r.int()?, r.long()?);
        Ok(format!(
            "stat{{czxid={} mzxid={} ctime={} mtime={} version={version} cversion={cversion} \
             aversion={aversion} owner={} dataLength={length} numChildren={children} pzxid={}}}",
            self.zxid(czxid),
            self.zxid(mzxid),
            self.time(czxid, ctime),
            self.time(mzxid, mtime),
            self.session(owner),
            self.zxid(pzxid),
        ))
    }

    /// A ConnectResponse.
    pub fn connect_response(&mut self, frame: &[u8]) -> String {
        let mut r = Input::new(frame);
        let text = (|| {
            let (protocol, timeout, id) = (r.int()?, r.int()?, r.long()?);
            let password = r.buffer()?;
            let password = match password {
                Some(bytes) if id != 0 && bytes == password_of(id) => "right".to_owned(),
                other => quote(other),
            };
            let read_only = r.byte().map_or("absent".to_owned(), |b| b.to_string());
            Ok(format!(
                "connected protocol={protocol} timeout={timeout} session={} password={password} \
                 readOnly={read_only}",
                self.session(id)
            ))
        })();
        finish(text, r, frame)
    }

    /// A notification or the reply to a request with opcode `op`.
    pub fn reply(&mut self, op: i32, frame: &[u8]) -> String {
        let mut r = Input::new(frame);
        let text = (|| {
            let (xid, zxid, err) = (r.int()?, r.long()?, r.int()?);
            let zxid = self.zxid(zxid);
            if xid == -1 {
                let (kind, state, path) = (r.int()?, r.int()?, r.quoted()?);
                return Ok(format!(
                    "event zxid={zxid} err={err} type={kind} state={state} path={path}"
                ));
            }
            let body = match (err, op) {
                (0, _) => self.body(op, &mut r)?,
                // One that fails as a whole still shows what was read before, times included.
                (_, MULTI_READ) if !r.rest().is_empty() => self.body(op, &mut r)?,
                _ => String::new(),
            };
            Ok(format!("reply xid={xid} zxid={zxid} err={err}{body}"))
        })();
        finish(text, r, frame)
    }

    fn body(&mut self, op: i32, r: &mut Input<'_>) -> Result<String, Malformed> {
        Ok(match op {
            1 | 9 => format!(" path={}", r.quoted()?),
            3 | 5 | 7 => format!(" {}", self.stat(r)?),
            4 | 16 => format!(" data={} {}", data(r.buffer()?), self.stat(r)?),
            6 => format!(" acl={} {}", acl(r)?, self.stat(r)?),
            8 | 103 => format!(" names={}", sorted(r)?),
            12 => format!(" names={} {}", sorted(r)?, self.stat(r)?),
            14 | 22 => self.results(r)?,
            15 | 19 | 21 => format!(" path={} {}", r.quoted()?, self.stat(r)?),
            102 => format!(" token={}", quote(r.buffer()?)),
            104 => format!(" total={}", r.int()?),
            106 => format!(" err={}", r.int()?),
            107 => identities(r)?,
            _ => String::new(),
        })
    }

    fn results(&mut self, r: &mut Input<'_>) -> Result<String, Malformed> {
        let mut text = String::new();
        loop {
            let (kind, done, err) = (r.int()?, r.byte()?, r.int()?);
            if done != 0 {
                return Ok(format!("{text} end({kind},{done},{err})"));
            }
            let result = match kind {
                -1 => format!(" code={}", r.int()?),
                8 => format!(" names={}", sorted(r)?),
                1 | 2 | 4 | 5 | 13 | 15 => self.body(kind, r)?,
                _ => return Err(Malformed),
            };
            text.push_str(&format!(" [type={kind} err={err}{result}]"));
        }
    }
}

/// The data of a node; in the list of an ensemble's members the ports are left out.
fn data(bytes: Option<&[u8]>) -> String {
    let text = quote(bytes);
    if text.starts_with("\"server.") { without_ports(&text) } else { text }
}

/// A list of members, with a word in the place of their ports.
pub fn without_ports(text: &str) -> String {
    let mut parts: Vec<&str> = text.split(':').collect();
    let is_port = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.iter_mut().filter(|part| is_port(part)).for_each(|part| *part = "port");
    parts.join(":")
}

fn acl(r: &mut Input<'_>) -> Result<String, Malformed> {
    let entries = r.vector(|r| Ok(format!("{}:{}:{}", r.int()?, r.quoted()?, r.quoted()?)))?;
    Ok(entries.map_or("null".to_owned(), |entries| format!("[{}]", entries.join(", "))))
}

fn sorted(r: &mut Input<'_>) -> Result<String, Malformed> {
    let Some(mut names) = r.vector(Input::quoted)? else { return Ok("null".to_owned()) };
    names.sort();
    Ok(format!("[{}]", names.join(" ")))
}

fn identities(r: &mut Input<'_>) -> Result<String, Malformed> {
    let mut all = r.vector(|r| Ok(format!("{}:{}", r.quoted()?, r.quoted()?)))?.unwrap_or_default();
    all.sort();
    Ok(format!(" identities=[{}]", all.join(" ")))
}

fn finish(text: Result<String, Malformed>, r: Input<'_>, frame: &[u8]) -> String {
    match text {
        Err(Malformed) => format!("UNDECODABLE {}", hex(frame)),
        Ok(text) if r.rest().is_empty() => text,
        Ok(text) => format!("{text} SURPLUS {}", hex(r.rest())),
    }
}

/// The password that belongs to a session id: 16 bytes of `java.util.Random` seeded from the id.
pub fn password_of(session: i64) -> [u8; 16] {
    const MASK: i64 = (1 << 48) - 1;
    let mut seed = (session ^ 0xB341_5C00 ^ 0x5_DEEC_E66D) & MASK;
    std::array::from_fn::<[u8; 4], 4, _>(|_| {
        seed = seed.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
        let [a, b, c, d, ..] = (seed >> 16).to_le_bytes();
        [a, b, c, d]
    })
    .as_flattened()
    .try_into()
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_match_the_published_vector() {
        assert_eq!(hex(&password_of(0x0100_0013_0c1d_0000)), "39c2031ad2193abb3f76887c6b3b0dda");
    }

    #[test]
    fn zxids_are_relative_and_sessions_ordinal() {
        let mut n = Normalizer::new(10, 0);
        assert_eq!((n.zxid(-1), n.zxid(9), n.zxid(12)), ("-1".into(), "old".into(), "z+2".into()));
        n.mark(15);
        assert_eq!((n.zxid(12), n.zxid(17), n.base()), ("z+2".into(), "z1+2".into(), 15));
        assert_eq!(
            (n.session(77), n.session(5), n.session(77)),
            ("S0".into(), "S1".into(), "S0".into())
        );
    }

    #[test]
    fn members_differ_in_their_ports() {
        let list = b"server.1=127.0.0.1:35585:41735:participant\nserver.2=h:1:2:observer";
        let expect = "\"server.1=127.0.0.1:port:port:participant\\nserver.2=h:port:port:observer\"";
        assert_eq!(data(Some(list)), expect);
        assert_eq!(data(Some(b"a:1")), "\"a:1\"");
    }

    #[test]
    fn a_wrong_time_shows() {
        let mut n = Normalizer::new(10, 1_000_000_000);
        assert_eq!(n.time(12, 1_000_000_005), "ok");
        assert_eq!(n.time(13, 1_000_000_004), "not-monotonic");
        assert!(n.time(12, 1_000_000_006).starts_with("not-the-time"));
        assert!(n.time(14, 1_000_000).starts_with("not-a-current"));
    }
}
