//! What a load is put on: a server, or an ensemble of servers of one kind on one machine.
#![forbid(unsafe_code)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, setpriority_process};

use crate::admin;
use crate::scenario::remove;
use crate::servers::{Contestant, Programs, START_PATIENCE, Seat, Server, free_address};

/// The most members; as many as the ceiling can have.
const MEMBERS_MAX: usize = 9;
/// A member that looks for a leader may leave a word unanswered.
const WORD_PATIENCE: Duration = Duration::from_secs(2);
/// The niceness of a process that takes only the CPU time which others leave.
const LEAST_PRIORITY: i32 = 19;
/// Between two looks at members that are not ready.
const PAUSE: Duration = Duration::from_millis(2);

/// Addresses and processes for a load.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kind of server.
    pub who: Contestant,
    /// Addresses of the members, the leader's first.
    pub addrs: Vec<SocketAddr>,
    /// Process ids, the leader's first.
    pub pids: Vec<u32>,
}

impl Target {
    /// A server that is alone.
    pub fn alone(server: &Server) -> Target {
        Target { who: server.who, addrs: vec![server.addr], pids: server.pids() }
    }

    /// The leader, or the server that is alone.
    pub fn leader(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// All members, followers first, so that a client that is alone is on a follower.
    pub fn members(&self) -> Vec<SocketAddr> {
        let mut members = self.addrs.clone();
        members.rotate_left(1);
        members
    }
}

/// What a member says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It leads, and serves.
    Leader,
    /// It follows, and serves.
    Follower,
    /// It is no member of an ensemble, and serves.
    Standalone,
    /// It does not serve, or does not answer.
    Away,
}

impl Role {
    /// From the answer to `srvr`.
    fn parse(answer: &str) -> Role {
        match answer.lines().find_map(|line| line.strip_prefix("Mode: ")) {
            Some("leader") => Role::Leader,
            Some("follower") => Role::Follower,
            Some("standalone") => Role::Standalone,
            _ => Role::Away,
        }
    }

    /// Of the server at `addr`.
    pub fn of(addr: SocketAddr) -> Role {
        Role::parse(&admin::word(addr, "srvr", WORD_PATIENCE).unwrap_or_default())
    }
}

/// An ensemble, or a server that is alone. Its processes end when it is dropped.
pub struct Ensemble {
    programs: Programs,
    home: PathBuf,
    seats: Vec<Seat>,
    /// `None` while its process is away.
    running: Vec<Option<Server>>,
}

impl Ensemble {
    /// Starts `count` servers in fresh directories and waits until all serve. One is a plain
    /// server. The ceiling is one process for clients, which starts the others itself.
    pub fn start(
        programs: &Programs,
        who: Contestant,
        label: &str,
        count: usize,
    ) -> Result<Ensemble, String> {
        let home = programs.home(who, label)?;
        let seats = if count == 1 || who == Contestant::Ceiling {
            vec![Seat { ceiling_servers: count, ..Seat::alone(who, &home)? }]
        } else {
            member_seats(who, &home, count)?
        };
        let running = seats.iter().map(|_| None).collect();
        let mut ensemble = Ensemble { programs: programs.clone(), home, seats, running };
        let all = 0..ensemble.seats.len();
        all.into_iter()
            .try_for_each(|place| ensemble.spawn(place))
            .and_then(|()| ensemble.wait_until_up())
            .map_err(|e| ensemble.left(&e))?;
        Ok(ensemble)
    }

    /// Whether `count` can be had.
    pub fn check(count: usize) -> Result<(), String> {
        match count {
            2..=MEMBERS_MAX => Ok(()),
            _ => Err(format!("--ensemble {count}: from 2 to {MEMBERS_MAX} servers")),
        }
    }

    /// Kind of server.
    pub fn who(&self) -> Contestant {
        self.seats[0].who
    }

    /// The addresses of all members, in the order of their numbers.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.seats.iter().map(|seat| seat.addr).collect()
    }

    /// The place of the member that listens there.
    pub fn place(&self, addr: SocketAddr) -> Option<usize> {
        self.seats.iter().position(|seat| seat.addr == addr)
    }

    /// The process of the member at `place`.
    pub fn server(&self, place: usize) -> Option<&Server> {
        self.running.get(place)?.as_ref()
    }

    /// Takes the process of the member at `place` out, to end it; its seat stays.
    pub fn take(&mut self, place: usize) -> Option<Server> {
        self.running.get_mut(place)?.take()
    }

    /// Removes the data of a member without a process.
    pub fn remove_data(&self, place: usize) -> Result<(), String> {
        let data = self.seats[place].home.join("data/version-2");
        fs::remove_dir_all(&data).map_err(|e| format!("{}: {e}", data.display()))
    }

    /// Starts the member at `place` on its data, without waiting for it.
    pub fn spawn(&mut self, place: usize) -> Result<(), String> {
        self.running[place] = Some(self.programs.spawn_at(&self.seats[place])?);
        Ok(())
    }

    /// Gives a process what CPU time the others leave.
    pub fn lower_priority(&self, place: usize) -> Result<(), String> {
        let pids = self.running[place].as_ref().map(Server::pids).unwrap_or_default();
        for pid in pids {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            setpriority_process(pid, LEAST_PRIORITY).map_err(|e| format!("setpriority: {e}"))?;
        }
        Ok(())
    }

    /// Waits until every process serves, and one leads.
    fn wait_until_up(&mut self) -> Result<(), String> {
        self.wait_until_led()?;
        for server in self.running.iter_mut().flatten() {
            server.wait_until_up()?.close();
        }
        Ok(())
    }

    /// Waits until one member leads and all others that run follow; the leader's place.
    pub fn wait_until_led(&mut self) -> Result<usize, String> {
        let begin = Instant::now();
        loop {
            self.must_live()?;
            if self.seats.len() == 1 {
                return Ok(0);
            }
            let roles = self.roles();
            if let Some(leader) = led(&roles) {
                return Ok(leader);
            }
            if begin.elapsed() > START_PATIENCE {
                return Err(format!(
                    "{}: no leader that all others follow in {} s ({roles:?})\n{}",
                    self.who().name(),
                    START_PATIENCE.as_secs(),
                    self.last_words()
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The last lines of the logs of all members that run.
    pub fn last_words(&self) -> String {
        let number = |place: usize| format!("-- member {}\n", place + 1);
        let members = self.running.iter().enumerate();
        let words = members
            .filter_map(|(place, server)| Some(number(place) + &server.as_ref()?.last_words()));
        words.collect::<Vec<String>>().join("\n")
    }

    /// Fails if a process has ended that nobody has taken out.
    pub fn must_live(&mut self) -> Result<(), String> {
        self.running.iter_mut().flatten().try_for_each(Server::must_live)
    }

    /// By place; `None` without a process.
    fn roles(&self) -> Vec<Option<Role>> {
        let role = |server: &Option<Server>| server.as_ref().map(|server| Role::of(server.addr));
        self.running.iter().map(role).collect()
    }

    /// Addresses and processes as they are now, once one leads and the others follow.
    pub fn target(&mut self) -> Result<Target, String> {
        let leader = self.wait_until_led()?;
        let mut places: Vec<usize> = (0..self.seats.len()).collect();
        places.retain(|place| *place != leader);
        places.insert(0, leader);
        let servers = || places.iter().filter_map(|place| self.running[*place].as_ref());
        Ok(Target {
            who: self.who(),
            addrs: servers().map(|server| server.addr).collect(),
            pids: servers().flat_map(Server::pids).collect(),
        })
    }

    /// A failure, with the place of the directories that are left to look for its cause.
    fn left(&self, failure: &str) -> String {
        format!("{failure}\n(directories are left in {})", self.home.display())
    }

    /// Stops all after a measurement. Directories stay if it failed, or if they shall be kept.
    pub fn conclude<T>(self, found: Result<T, String>, keep: bool) -> Result<T, String> {
        let found = found.map_err(|e| self.left(&e));
        self.end(keep || found.is_err());
        found
    }

    /// Stops all; removes the directories unless they shall be kept.
    pub fn end(mut self, keep: bool) {
        for server in self.running.iter().flatten() {
            // All at once: with a quorum gone, none of the others has to be waited for.
            server.signal(rustix::process::Signal::TERM);
        }
        self.running.iter_mut().for_each(|server| drop(server.take()));
        if !keep {
            remove(&self.home);
        }
    }
}

/// The place of the leader, if every process leads or follows and exactly one leads.
fn led(roles: &[Option<Role>]) -> Option<usize> {
    let all_there =
        roles.iter().flatten().all(|role| matches!(role, Role::Leader | Role::Follower));
    let leaders = roles.iter().filter(|role| **role == Some(Role::Leader)).count();
    let leader = roles.iter().position(|role| *role == Some(Role::Leader));
    leader.filter(|_| all_there && leaders == 1)
}

/// The seats of `count` members, each in a directory of its own below `home`.
fn member_seats(
    who: Contestant,
    home: &std::path::Path,
    count: usize,
) -> Result<Vec<Seat>, String> {
    let mut members = Vec::new();
    for number in 1..=count {
        let (quorum, election) = (free_address()?, free_address()?);
        members.push(format!("server.{number}={quorum}:{}", election.port()));
    }
    let seat = |number: usize| {
        let home = home.join(number.to_string());
        let say = |e| format!("{}: {e}", home.display());
        fs::create_dir_all(home.join("data")).map_err(say)?;
        fs::write(home.join("data/myid"), format!("{number}\n")).map_err(say)?;
        Ok(Seat { lines: members.clone(), ..Seat::alone(who, &home)? })
    };
    (1..=count).map(seat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_the_answer() {
        let answer =
            "Zookeeper version: 3.9\nLatency min/avg/max: 0/0/0\nMode: leader\nNode count: 5\n";
        assert_eq!(Role::parse(answer), Role::Leader);
        assert_eq!(Role::parse("Mode: follower\n"), Role::Follower);
        let away = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(Role::parse(away), Role::Away);
    }

    #[test]
    fn an_ensemble_is_led_when_all_that_run_agree() {
        use Role::{Away, Follower, Leader};
        let some = |roles: &[Role]| roles.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(led(&some(&[Follower, Leader, Follower])), Some(1));
        assert_eq!(led(&[Some(Follower), Some(Leader), None]), Some(1));
        assert_eq!(led(&some(&[Away, Leader, Follower])), None);
        assert_eq!(led(&some(&[Leader, Leader, Follower])), None);
        assert_eq!(led(&some(&[Follower, Follower, Follower])), None);
    }

    #[test]
    fn members_have_directories_numbers_and_ports_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let seats = member_seats(Contestant::Apache, dir.path(), 3).unwrap();
        let id = |n: usize| fs::read_to_string(dir.path().join(format!("{n}/data/myid"))).unwrap();
        assert_eq!([id(1), id(2), id(3)], ["1\n", "2\n", "3\n"]);
        let mut ports: Vec<&str> =
            seats[0].lines.iter().flat_map(|l| l.rsplit(':').take(2)).collect();
        let own: Vec<String> = seats.iter().map(|seat| seat.addr.port().to_string()).collect();
        ports.extend(own.iter().map(String::as_str));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9, "{seats:?}");
    }

    #[test]
    fn clients_that_are_spread_begin_with_the_followers() {
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let addrs = vec![addr(1), addr(2), addr(3)];
        let target = Target { who: Contestant::Apache, addrs, pids: Vec::new() };
        assert_eq!(target.leader(), addr(1));
        assert_eq!(target.members(), [addr(2), addr(3), addr(1)]);
    }
}
