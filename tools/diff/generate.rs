//! Histories from seeds.
//!
//! The path alphabet is tiny, so that operations of different clients meet on the same nodes.
//! What would end the reference server or depend on its timers is left out on purpose; see
//! [`Limits`].

use crate::codec::{Writer, quote};
use crate::history::{Action, Connect, Identity, Op, Request, SLOTS, Seen, Since};
use crate::requests;
use crate::words;
use ringkeeper::base::Rng;

/// What a generated history may contain.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations.
    pub ops: usize,
    /// Also what differs on purpose: opcodes 20 and -10 from clients.
    pub is_everything: bool,
    /// Sessions that expire; each takes the servers more than a second.
    pub is_expiring: bool,
}

/// State of the generator.
pub struct Generator {
    /// Source of all choices.
    pub rng: Rng,
    /// Parent of every ordinary node.
    pub root: String,
    /// What this history does more of than others.
    pub theme: Theme,
    limits: Limits,
    xid: i32,
}

/// Half of a history's requests serve its theme, so that rare combinations meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Everything alike.
    Mixed,
    /// Registering and firing watches.
    Watches,
    /// Identities and access control lists.
    Acl,
    /// Quota nodes for the root, and writes that meet the limits.
    Quota,
    /// Transactions of several operations that mostly succeed.
    Multi,
    /// Ephemerals, session ends and session moves.
    Sessions,
    /// Auth packets among pipelined requests.
    Auth,
    /// Long pipelines on few nodes: what replaces what while both are pending.
    Pipelines,
}

const THEMES: [Theme; 8] = [
    Theme::Mixed,
    Theme::Watches,
    Theme::Acl,
    Theme::Quota,
    Theme::Multi,
    Theme::Sessions,
    Theme::Auth,
    Theme::Pipelines,
];

/// An action, and the slot that must do it if it matters.
type Step = (Option<usize>, Action);

/// The history of `seed` below `root`.
pub fn history(seed: u64, root: &str, limits: Limits) -> Vec<Op> {
    let rng = Rng::derived(seed, "history", 0);
    let mut g = Generator { rng, root: root.to_owned(), theme: Theme::Mixed, limits, xid: 0 };
    g.theme = g.pick(&THEMES);
    let mut steps: Vec<Step> =
        requests::preamble(&mut g).into_iter().map(|r| (None, Action::Call(r))).collect();
    while steps.len() < limits.ops {
        match g.script() {
            Some(script) => steps.extend(script),
            None => steps.push((None, g.action())),
        }
    }
    let mut op = |(index, (slot, action)): (usize, Step)| {
        let any = g.pick(&[0, 0, 0, 1, 1, 2]) % SLOTS;
        Op { index, slot: slot.unwrap_or(any), action }
    };
    steps.into_iter().enumerate().map(&mut op).collect()
}

impl Generator {
    /// One of `from`, each with the same probability.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let at = self.rng.below(from.len() as u64) as usize;
        from[at].clone()
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.rng.chance(percent, 100)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> usize {
        self.rng.below(bound) as usize
    }

    /// Now and then several actions that only mean something together.
    fn script(&mut self) -> Option<Vec<Step>> {
        let percent = match self.theme {
            Theme::Sessions => 8,
            Theme::Watches => 5,
            _ => 1,
        };
        if !self.percent(percent) {
            return None;
        }
        let slot = self.below(SLOTS as u64);
        let other = (slot + 1 + self.below(SLOTS as u64 - 1)) % SLOTS;
        Some(if self.percent(50) { self.comeback(slot, other) } else { self.move_to(slot, other) })
    }

    /// A client loses its connection, comes back and registers its watches again.
    fn comeback(&mut self, slot: usize, other: usize) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..self.below(3) {
            steps.push((Some(slot), Action::Call(requests::watching(self))));
        }
        steps.push((Some(slot), Action::Disconnect));
        for _ in 0..self.below(4) {
            steps.push((Some(other), Action::Call(requests::simple_write(self))));
        }
        let seen = self.pick(&[Seen::Zero, Seen::Last]);
        let connect = Connect { identity: Identity::Slot(slot), seen, ..Connect::PLAIN };
        let mut request = requests::set_watches(self);
        if self.percent(70) {
            request.text = request.text.replacen("relativeZxid=z+", "relativeZxid=last seen+", 1);
            request.since = Some(Since::LastSeen);
            request.body.splice(..8, [0; 8]);
        }
        if self.percent(50) {
            steps.push((Some(slot), Action::Connect(connect)));
            steps.push((Some(slot), Action::Call(request)));
        } else {
            steps.push((Some(slot), Action::Eager(connect, vec![request])));
        }
        for _ in 0..=self.below(3) {
            steps.push((Some(other), Action::Call(requests::simple_write(self))));
        }
        steps
    }

    /// A session is taken over by another connection while the first one lives, and perhaps ends
    /// there.
    fn move_to(&mut self, slot: usize, other: usize) -> Vec<Step> {
        let identity = match self.below(8) {
            0 => Identity::WrongPassword(slot),
            1 => Identity::ShortPassword(slot),
            _ => Identity::Slot(slot),
        };
        let connect = Connect { identity, seen: Seen::Last, ..Connect::PLAIN };
        let mut steps = vec![
            (Some(slot), Action::Call(requests::ephemeral(self))),
            (Some(slot), Action::Call(requests::watching(self))),
            (Some(other), Action::Connect(connect)),
            (Some(other), Action::Call(requests::ephemeral(self))),
        ];
        if self.percent(40) {
            let close = self.numbered(-11, Writer::new(), "closeSession".into());
            steps.push((Some(other), Action::Call(close)));
        }
        if self.percent(50) {
            let back = Connect { identity: Identity::Slot(slot), ..connect };
            steps.push((Some(slot), Action::Connect(back)));
        }
        for at in [slot, other] {
            steps.push((Some(at), Action::Call(requests::any(self))));
        }
        steps
    }

    fn action(&mut self) -> Action {
        if self.theme == Theme::Sessions && self.percent(12) {
            return if self.percent(80) {
                Action::Connect(self.connect())
            } else {
                Action::Disconnect
            };
        }
        if self.limits.is_expiring && self.percent(3) {
            return Action::Expire((0..4).map(|_| requests::ephemeral(self)).collect());
        }
        if matches!(self.theme, Theme::Auth | Theme::Pipelines) && self.percent(40) {
            return self.burst();
        }
        match self.below(1000) {
            0..30 => Action::Connect(self.connect()),
            30..40 => {
                let Action::Burst(requests) = self.burst() else { return Action::Disconnect };
                Action::Eager(self.connect(), requests)
            }
            40..50 => Action::Disconnect,
            50..58 => self.raw(),
            58..66 => self.hello(),
            66..92 => Action::Word(self.pick(&words::WORDS).to_owned()),
            92..130 => self.burst(),
            130..134 => Action::Call(self.huge()),
            134..180 => Action::Call(self.mutated()),
            _ => Action::Call(self.request()),
        }
    }

    fn connect(&mut self) -> Connect {
        let slot = self.below(SLOTS as u64);
        let identity = match self.below(20) {
            0..8 => Identity::New,
            8..16 => Identity::Slot(slot),
            16..18 => Identity::WrongPassword(slot),
            18 => Identity::ShortPassword(slot),
            _ => Identity::Unknown,
        };
        // Sessions that expire by themselves would do so at any step.
        let shortest: &[i32] =
            if self.limits.is_expiring { &[200_000] } else { &[0, -1, i32::MIN, 200_000] };
        let timeout_ms = match self.below(2) {
            0 => self.pick(shortest),
            _ => self.pick(&[300_000, 300_000, 599_999, 600_000, i32::MAX]),
        };
        Connect {
            timeout_ms,
            read_only: self.pick(&[Some(0), Some(0), None, Some(1), Some(2)]),
            identity,
            seen: self.pick(&[Seen::Zero, Seen::Zero, Seen::Last, Seen::Last, Seen::Ahead]),
        }
    }

    /// A request with the next xid, now and then with an odd one.
    pub fn numbered(&mut self, op: i32, body: Writer, text: String) -> Request {
        self.xid += 1;
        let xid = match self.below(60) {
            0 => self.pick(&[0, -3, -4, -8, i32::MIN, i32::MAX, 1]),
            _ => self.xid,
        };
        Request { xid, op, body: body.0, text, since: None }
    }

    fn request(&mut self) -> Request {
        if self.limits.is_everything && self.percent(2) {
            return requests::on_purpose(self);
        }
        if self.percent(50) { requests::themed(self) } else { requests::any(self) }
    }

    /// Pipelined requests. What the reference answers by timing is left out: writes behind a
    /// setACL or under a quota, which are checked against whatever has been applied by then, and
    /// behind a multi that an exception ends, of which it takes the first operations for carried
    /// out until then, or a container with an ephemeral's flag, which is one until then. Xids are
    /// all different, so that replies that overtake can be told apart.
    fn burst(&mut self) -> Action {
        let longest = if self.theme == Theme::Pipelines { 24 } else { 7 };
        let count = 2 + self.below(longest);
        let auths = if self.theme == Theme::Auth { 25 } else { 4 };
        let mut all: Vec<Request> = Vec::with_capacity(count);
        while all.len() < count {
            let mut request = match self.below(100) {
                at if at < auths => requests::auth(self),
                99 => self.numbered(-11, Writer::new(), "closeSession".into()),
                at if at < auths + 3 => trailed(self.request()),
                _ => self.request(),
            };
            // Without a scheme the reference closes on the spot, whatever it still has to send;
            // it answers auth packets until the session's end is applied; and a reply to anything
            // before a failed auth packet makes it go on reading what is behind, for a moment.
            let is_ended = all.iter().any(|before| before.op == -11);
            let is_failed = all.iter().any(requests::is_bad_auth);
            if is_failed && request.is_write() {
                // The reference carries it out or not.
                if self.percent(70) {
                    continue;
                }
                request = requests::futile(self);
            }
            request.xid = self.xid;
            let is_racing = request.op == 100 && (is_ended || requests::is_schemeless(&request))
                || is_failed && matches!(request.op, -11 | 100);
            let is_last = request.op == 7
                || requests::is_torn_multi(&request)
                || requests::makes_odd_container(&request)
                || (self.theme == Theme::Quota && request.is_write());
            if requests::may_be_pipelined(request.op) && !is_racing {
                all.push(request);
                if is_last {
                    break;
                }
            }
        }
        Action::Burst(all)
    }

    /// A frame of exactly the largest size, or a little more or less.
    fn huge(&mut self) -> Request {
        const MAX: usize = 0xfffff;
        let over = self.pick(&[-1i32, 0, 0, 1]);
        let name = self.pick(&["a", "b", "huge"]);
        let path = format!("{}/{name}", self.root);
        let record = |op, data: &[u8]| match op {
            5 => Writer::new().text(&path).buffer(Some(data)).int(-1),
            _ => requests::plain_create_of(&path, data),
        };
        let op = self.pick(&[1, 5, 5, 15]);
        let is_multi = self.percent(30);
        let body = |data: &[u8]| match is_multi {
            true => requests::multi_body(&[(op, &record(op, data).0)]),
            false => record(op, data),
        };
        let length = MAX.saturating_add_signed(over as isize) - 8 - body(&[]).0.len();
        let name = if op == 5 { "setData" } else { "create" };
        let text = format!(
            "{}{name} {path} so that the frame has {MAX}{over:+} bytes",
            if is_multi { "multi of " } else { "" }
        );
        let body = body(&vec![b'x'; length]);
        self.numbered(if is_multi { 14 } else { op }, body, text)
    }

    /// A request whose record was damaged on the way.
    fn mutated(&mut self) -> Request {
        let mut request = self.request();
        // A changed TTL can end the reference server, see `requests::create_ttl`.
        let is_fragile = matches!(request.op, 14 | 21 | -11);
        let length = request.body.len() as u64;
        let how = match self.below(if is_fragile { 2 } else { 5 }) {
            0 => {
                let to = self.below(length);
                request.body.truncate(to);
                format!("cut to {to} bytes")
            }
            1 => return trailed(request),
            2 if length >= 4 => {
                let wrong: i32 = self.pick(&[-1, -2, i32::MIN, i32::MAX, 0x10_0000, 0]);
                request.body[..4].copy_from_slice(&wrong.to_be_bytes());
                format!("first length {wrong}")
            }
            _ if length > 0 => {
                let at = self.below(length);
                let with = self.pick(&[0, 0x80, 0xff, b'/', 1]);
                request.body[at] = with;
                format!("byte {at} changed to {with:#x}")
            }
            _ => "unchanged".to_owned(),
        };
        request.text = format!("{} MUTATED: {how}", request.text);
        request
    }

    fn raw(&mut self) -> Action {
        let (bytes, text): (Vec<u8>, &str) = match self.below(6) {
            0 => ((-1i32).to_be_bytes().to_vec(), "length -1"),
            1 => (0i32.to_be_bytes().to_vec(), "length 0"),
            2 => (Writer::new().int(5).frame(), "a frame of 4 bytes"),
            3 => (Writer::new().int(5).raw(&[0; 3]).frame(), "a frame of 7 bytes"),
            4 => (0x10_0000i32.to_be_bytes().to_vec(), "length 0x100000"),
            _ => (b"ruok".to_vec(), "ruok after the handshake"),
        };
        Action::Raw(bytes, text.to_owned())
    }

    fn hello(&mut self) -> Action {
        let whole = Writer::new().int(7).long(0).int(30_000).long(0).buffer(Some(&[0; 16])).byte(0);
        let (bytes, text) = match self.below(9) {
            0 => {
                let cut = self.below(24);
                (
                    Writer::new().raw(&whole.0[..cut]).frame(),
                    format!("handshake cut to {cut} bytes"),
                )
            }
            1 => (whole.raw(&[9; 10]).frame(), "handshake with 10 more bytes".to_owned()),
            2 => {
                let w = Writer::new().int(0).long(0).int(30_000).long(0).buffer(None).byte(1);
                (w.frame(), "handshake with null password".to_owned())
            }
            3 => {
                let w = Writer::new().int(0).long(0).int(30_000).long(0).buffer(Some(&[3; 99]));
                (w.frame(), "handshake with a password of 99 bytes, no readOnly".to_owned())
            }
            4 => {
                let w = Writer::new().int(0).long(0).int(30_000).long(0).buffer(None);
                (w.frame(), "handshake with null password, no readOnly".to_owned())
            }
            5 => (0i32.to_be_bytes().to_vec(), "length 0".to_owned()),
            6 => ((-5i32).to_be_bytes().to_vec(), "length -5".to_owned()),
            7 => (0x10_0000i32.to_be_bytes().to_vec(), "length 0x100000".to_owned()),
            _ => {
                let w =
                    Writer::new().int(0).long(i64::MIN).int(30_000).long(0).buffer(Some(&[0; 16]));
                (w.byte(0).frame(), "handshake with the smallest lastZxidSeen".to_owned())
            }
        };
        Action::Hello(bytes, text)
    }

    /// A path: mostly of a few short ones below the root, sometimes an odd one.
    pub fn path(&mut self) -> Option<Vec<u8>> {
        if self.percent(7) {
            return self.odd_path();
        }
        Some(self.ordinary_path().into_bytes())
    }

    /// A path of a few short ones at or below the root.
    pub fn ordinary_path(&mut self) -> String {
        let depth = self.pick(&[0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3]);
        let mut path = self.root.clone();
        for _ in 0..depth {
            path.push('/');
            path.push_str(self.pick(&["a", "a", "a", "b", "b", "c", "a0000000001", "0000000000"]));
        }
        path
    }

    fn odd_path(&mut self) -> Option<Vec<u8>> {
        let root = self.root.clone();
        let tails = [
            "/",
            "/a/",
            "//a",
            "/./a",
            "/..",
            "/a\u{1}",
            "/a\0b",
            "/\u{e000}",
            "/\u{fffd}",
            "/é",
            "/\u{1f600}",
            "/.a",
            "/a..b",
            "/\u{7f}",
            "/a/b/c/d/a",
        ];
        let whole = [
            "",
            "/",
            "a",
            "//",
            "/zookeeper",
            "/zookeeper/config",
            "/zookeeper/quota",
            "/..",
            "/.",
            "no slash",
            "no/slash",
            "/zookeeper/quota/x",
            "/zookeeper/new",
        ];
        match self.below(30) {
            0 => None,
            1 => Some([root.as_bytes(), b"/\xff\xfe"].concat()),
            2 => Some([root.as_bytes(), b"/\xc3"].concat()),
            3..15 => Some(self.pick(&whole).as_bytes().to_vec()),
            _ => Some(format!("{root}{}", self.pick(&tails)).into_bytes()),
        }
    }

    /// Several paths for setWatches; `None` is the null vector.
    pub fn paths(&mut self) -> Option<Vec<Option<Vec<u8>>>> {
        let count = self.pick(&[0, 0, 1, 1, 2, 3]);
        if self.percent(2) { None } else { Some((0..count).map(|_| self.path()).collect()) }
    }

    /// Node data.
    pub fn data(&mut self) -> Option<Vec<u8>> {
        let length = match self.below(12) {
            0 => return None,
            1 => 0,
            2 => 1000,
            n => n,
        };
        Some(vec![b'd'; length])
    }

    /// An ACL list, encoded, with its description; mostly one that lets everybody do everything.
    pub fn acl(&mut self) -> (Writer, String) {
        let entries = match self.below(20) {
            0..12 => {
                return (
                    entry(Writer::new().int(1), 31, Some("world"), Some("anyone")),
                    "open".into(),
                );
            }
            12 => return (Writer::new().int(-1), "null".into()),
            13 => return (Writer::new().int(0), "empty".into()),
            _ => 1 + self.below(3),
        };
        let mut writer = Writer::new().int(entries as i32);
        let mut text = Vec::new();
        for _ in 0..entries {
            let perms = self.pick(&[31, 31, 31, 1, 1, 2, 4, 8, 16, 15, 30, 0, 64, -1]);
            let (scheme, id) = self.identity();
            writer = entry(writer, perms, scheme, id);
            let show = |s: Option<&str>| quote(s.map(str::as_bytes));
            text.push(format!("{perms}:{}:{}", show(scheme), show(id)));
        }
        (writer, format!("[{}]", text.join(", ")))
    }

    fn identity(&mut self) -> (Option<&'static str>, Option<&'static str>) {
        let usual = [
            ("world", "anyone"),
            ("world", "anyone"),
            ("auth", ""),
            ("auth", ""),
            ("digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM="),
            ("digest", "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E="),
            ("ip", "127.0.0.1"),
            ("ip", "10.0.0.0/8"),
            ("ip", "127.0.0.0/8"),
        ];
        let odd = [
            ("world", "somebody"),
            ("world", ""),
            ("auth", "ignored"),
            ("digest", "a:b"),
            ("digest", ":b"),
            ("digest", "a:b:"),
            ("digest", "a"),
            ("digest", "a:"),
            ("digest", "a:b:c"),
            ("digest", ""),
            ("digest", "\u{1f600}:x"),
            ("ip", "1.2.3.4/"),
            ("ip", "1.2.3.4/08"),
            ("ip", "1.2.3.4/33"),
            ("ip", "1.2.3"),
            ("ip", "1.2.3.256"),
            ("ip", "::1"),
            ("ip", "fe80::1/64"),
            ("ip", "1::2::3"),
            ("ip", "localhost"),
            ("ip", ""),
            ("ip", "0.0.0.0/0"),
            ("super", ""),
            ("super", "x"),
            ("sasl", "bob"),
            ("x509", "CN=a"),
            ("nosuch", "x"),
            ("", ""),
        ];
        match self.below(20) {
            0 => (None, Some("x")),
            1 => (Some(self.pick(&["world", "digest", "ip", "auth", "nosuch"])), None),
            2..5 => {
                let (scheme, id) = self.pick(&odd);
                (Some(scheme), Some(id))
            }
            _ => {
                let (scheme, id) = self.pick(&usual);
                (Some(scheme), Some(id))
            }
        }
    }
}

/// The request with bytes after the end of its record.
fn trailed(mut request: Request) -> Request {
    request.body.extend([1, 2, 3, 4, 5]);
    request.text.push_str(" MUTATED: 5 bytes appended");
    request
}

fn entry(writer: Writer, perms: i32, scheme: Option<&str>, id: Option<&str>) -> Writer {
    writer.int(perms).buffer(scheme.map(str::as_bytes)).buffer(id.map(str::as_bytes))
}
