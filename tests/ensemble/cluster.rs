//! Three members and what can be done to them.

use crate::util::{Client, Jute, Options, Server, Session, eventually, free_port, op};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// How many members an ensemble of these tests has.
pub const SIZE: usize = 3;

/// Short ticks, so that silence is noticed soon: `syncLimit` of them are a second.
const TICKS: [&str; 3] = ["tickTime=200", "initLimit=50", "syncLimit=5"];

/// How long a word may take at a member that is not paused; asked again until PATIENCE is over.
const WORD_PATIENCE: Duration = Duration::from_secs(2);

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It leads, and serves.
    Leader,
    /// It follows, and serves.
    Follower,
}

/// The members, counted from 0; the number in `myid` is one higher.
pub struct Ensemble {
    members: Vec<Server>,
    quorum_ports: Vec<u16>,
    election_ports: Vec<u16>,
}

impl Ensemble {
    /// Starts three members with further lines of zoo.cfg and waits until all serve. A key given
    /// here replaces the line of that key in `TICKS`.
    pub fn start(lines: &[&str]) -> Ensemble {
        Ensemble::start_with(lines, &[])
    }

    /// The same, with `-D` arguments, too.
    pub fn start_with(lines: &[&str], properties: &[&str]) -> Ensemble {
        let ports = || (0..SIZE).map(|_| free_port()).collect::<Vec<_>>();
        let (quorum_ports, election_ports) = (ports(), ports());
        let key = |line: &str| line.split('=').next().map(str::to_owned);
        let ticks = TICKS.iter().filter(|own| !lines.iter().any(|line| key(line) == key(own)));
        let mut config: Vec<String> = ticks.chain(lines).map(|line| (*line).to_owned()).collect();
        let pairs = quorum_ports.iter().zip(&election_ports).enumerate();
        config.extend(pairs.map(|(at, (q, e))| format!("server.{}=127.0.0.1:{q}:{e}", at + 1)));
        let properties: Vec<String> = properties.iter().map(|one| (*one).to_owned()).collect();
        let options = Options { config, properties, ..Options::default() };
        let prepare = |at: usize| {
            let member = Server::prepare(options.clone());
            fs::write(member.data_dir().join("myid"), format!("{}\n", at + 1)).expect("myid");
            member
        };
        let members = (0..SIZE).map(prepare).collect();
        let mut ensemble = Ensemble { members, quorum_ports, election_ports };
        ensemble.start_all();
        ensemble
    }

    /// Starts every member that does not run, and waits until all serve.
    pub fn start_all(&mut self) {
        for member in &mut self.members {
            if !member.is_started() {
                member.spawn();
            }
        }
        self.wait_until_all_serve();
    }

    /// Starts one member on its directory as it is, and waits until it serves.
    pub fn restart(&mut self, at: usize) {
        self.members[at].spawn();
        self.wait_until_serving(at);
    }

    /// Waits until all members serve.
    pub fn wait_until_all_serve(&mut self) {
        for at in 0..SIZE {
            self.wait_until_serving(at);
        }
    }

    /// Waits until this member leads or follows.
    pub fn wait_until_serving(&mut self, at: usize) -> Mode {
        self.wait_for_mode(at, |mode| mode)
    }

    /// Waits until `wanted` yields something for what this member says of itself. It must not end.
    pub fn wait_for_mode<T>(&mut self, at: usize, wanted: impl Fn(Option<Mode>) -> Option<T>) -> T {
        eventually("a member changes its mode", || {
            let member = &mut self.members[at];
            if let Some(status) = member.exited() {
                panic!("member {at} ended with {status}:\n{}", member.stderr());
            }
            wanted(self.mode(at))
        })
    }

    /// What this member says of itself; none while it is away or looking for a leader.
    pub fn mode(&self, at: usize) -> Option<Mode> {
        let answer = self.members[at].try_ask("srvr", WORD_PATIENCE).ok()?;
        match answer.lines().find_map(|line| line.strip_prefix("Mode: "))? {
            "leader" => Some(Mode::Leader),
            "follower" => Some(Mode::Follower),
            other => panic!("a member of an ensemble says that it is {other}"),
        }
    }

    /// Waits until one of `among` leads.
    pub fn leader_among(&self, among: &[usize]) -> usize {
        eventually("a leader", || {
            among.iter().copied().find(|&at| self.mode(at) == Some(Mode::Leader))
        })
    }

    /// Waits until one of all members leads.
    pub fn leader(&self) -> usize {
        self.leader_among(&[0, 1, 2])
    }

    /// The members but for this one.
    pub fn others(at: usize) -> [usize; SIZE - 1] {
        [(at + 1) % SIZE, (at + 2) % SIZE]
    }

    /// The process of a member.
    pub fn member(&mut self, at: usize) -> &mut Server {
        &mut self.members[at]
    }

    /// Sends all members a signal by name, one right after the other.
    pub fn signal_all(&mut self, name: &str) {
        for member in &mut self.members {
            member.signal(name);
        }
    }

    /// Waits until the process of every member has ended; their exit codes.
    pub fn wait_for_ends(&mut self) -> Vec<Option<i32>> {
        self.members.iter_mut().map(|member| member.wait().code()).collect()
    }

    /// Where clients connect, in the order of members.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Server::address).collect()
    }

    /// The ports on which this member takes learners and votes.
    pub fn peer_ports(&self, at: usize) -> [SocketAddr; 2] {
        [self.quorum_ports[at], self.election_ports[at]]
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// A connection to this member with a new session.
    pub fn connect(&self, at: usize) -> Client {
        self.members[at].connect()
    }

    /// A connection to this member with a session that must still exist.
    pub fn reconnect(&self, at: usize, session: &Session, last_zxid: i64) -> Client {
        let address = self.members[at].address();
        // A member that is behind what the client has seen closes the connection.
        let client = eventually("a member takes a session over", || {
            Client::handshake(address, session, last_zxid).ok()
        });
        assert_eq!(client.session.id, session.id, "the session was lost");
        client
    }

    /// Asserts that all members show the same children, with the same stats and data, of `path`.
    pub fn assert_equal(&self, path: &str) -> usize {
        let trees: Vec<_> = (0..SIZE).map(|at| subtree(&mut self.connect(at), path)).collect();
        for (at, tree) in trees.iter().enumerate().skip(1) {
            let differs = trees[0].iter().zip(tree).find(|(a, b)| a != b);
            assert_eq!(differs, None, "below {path}, members 0 and {at}");
            assert_eq!(trees[0].len(), tree.len(), "below {path}, members 0 and {at}");
        }
        trees[0].len()
    }
}

/// Name and whole reply, without its header, of each child; after a sync.
fn subtree(client: &mut Client, path: &str) -> Vec<(String, Vec<u8>)> {
    client.sync(path);
    let names = client.children(path, false);
    let parent = path.trim_end_matches('/');
    let mut found = Vec::with_capacity(names.len());
    for window in names.chunks(256) {
        for name in window {
            client.send(op::GET_DATA, Jute::new().string(&format!("{parent}/{name}")).bool(false));
        }
        for name in window {
            found.push((name.clone(), client.receive().ok().0.to_vec()));
        }
    }
    found
}
