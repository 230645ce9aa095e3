//! `rk-bench failover`: leaders of an ensemble are killed under load. How long the clients wait for
//! their next acknowledged write, whether sessions are lost, and whether everything that was
//! acknowledged is still there, once.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ringkeeper::wire::OpCode;
use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::admin::Admin;
use crate::book::Faults;
use crate::cli::{seconds, value};
use crate::codec;
use crate::crew::{self, Crew, Log, Order, Word};
use crate::ensemble::Ensemble;

use crate::load::{self, Load};
use crate::mix::{Kind, Mix};
use crate::options::{Common, contestant};
use crate::procfs;
use crate::report::cell;
use crate::servers::{self, Contestant, Server};
use crate::stats::{quantile, round3, values};

const HELP: &str = "\
rk-bench failover [options]

Starts an ensemble, lets clients of all members write, and kills the leader again and again. Says
how long the clients waited for their next acknowledged write, which sessions were lost, and whether
an acknowledged write is missing on any member at the end.

  --server NAME            ringkeeper or apache (ringkeeper)
  --ensemble N             members (3)
  --kills N                (20)
  --term                   end the leader by SIGTERM, as a rolling restart does
  --stop                   pause the leader (SIGSTOP) until another one leads
  --calm N                 clients that write once in an interval (60); --interval-ms N (50)
  --lone N                 clients with one write in flight at any time (24)
  --pipelined N            clients with many in flight (6); --depth N: how many (32)
  --size N                 bytes of data of a write (100)
  --timeout-ms N           session timeout (6000)
  --pause S                load between the return of one leader and the end of the next (0.3)
  --znodes N               nodes of a tree that is there besides (0)
  --patience S             all clients must write again within it (60)
";

/// How the leader ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Kill,
    Term,
    Stop,
}

struct Failover {
    common: Common,
    who: Contestant,
    members: usize,
    kills: usize,
    end: End,
    crew: Crew,
    pause: Duration,
    znodes: u64,
    patience: Duration,
}

/// Runs `rk-bench failover`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(failover) = parse(parser)? else { return Ok(()) };
    servers::end_with_us()?;
    let begin = Instant::now();
    let (figures, faults) = failover.measure()?;
    let mut json = procfs::about_run(&failover.common.programs.dir, begin.elapsed());
    json["server"] = json!(failover.who.name());
    json["ensemble"] = json!(failover.members);
    json["end"] = json!(format!("{:?}", failover.end).to_lowercase());
    json["znodes"] = json!(failover.znodes);
    if let Json::Object(figures) = figures {
        figures.into_iter().for_each(|(name, value)| json[name] = value);
    }
    failover.common.write(&json, || text(&json))?;
    if faults.any() { Err("what was acknowledged does not hold".to_owned()) } else { Ok(()) }
}

fn default() -> Failover {
    Failover {
        common: Common::new(),
        who: Contestant::Ringkeeper,
        members: 3,
        kills: 20,
        end: End::Kill,
        crew: Crew {
            addrs: Vec::new(),
            calm: 60,
            lone: 24,
            pipelined: 6,
            depth: 32,
            interval: Duration::from_millis(50),
            size: 100,
            timeout: Duration::from_millis(6000),
        },
        pause: Duration::from_millis(300),
        znodes: 0,
        patience: Duration::from_secs(60),
    }
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Failover>, String> {
    let mut this = default();
    let common = Common::parse(parser, "failover", HELP, |_, name, parser| {
        match name {
            "server" => this.who = contestant(parser)?,
            "ensemble" => this.members = value(parser, "ensemble")?,
            "kills" => this.kills = value(parser, "kills")?,
            "term" => this.end = End::Term,
            "stop" => this.end = End::Stop,
            "calm" => this.crew.calm = value(parser, "calm")?,
            "lone" => this.crew.lone = value(parser, "lone")?,
            "pipelined" => this.crew.pipelined = value(parser, "pipelined")?,
            "depth" => this.crew.depth = value(parser, "depth")?,
            "interval-ms" => {
                this.crew.interval = Duration::from_millis(value(parser, "interval-ms")?);
            }
            "size" => this.crew.size = value(parser, "size")?,
            "timeout-ms" => this.crew.timeout = Duration::from_millis(value(parser, "timeout-ms")?),
            "pause" => this.pause = seconds(parser, "pause")?,
            "znodes" => this.znodes = value(parser, "znodes")?,
            "patience" => this.patience = seconds(parser, "patience")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(common) = common else { return Ok(None) };
    this.common = common;
    if this.members < 3 {
        return Err(format!("--ensemble {}: no leader can be spared", this.members));
    }
    Ensemble::check(this.members)?;
    if this.crew.count() == 0 {
        return Err("no clients: --calm, --lone, --pipelined".into());
    }
    this.common.programs.get_ready(&[this.who])?;
    Ok(Some(this))
}

impl Failover {
    fn measure(&self) -> Result<(Json, Faults), String> {
        let mut ensemble =
            Ensemble::start(&self.common.programs, self.who, "failover", self.members)?;
        let found = self.measure_on(&mut ensemble);
        ensemble.conclude(found, self.common.keep)
    }

    fn measure_on(&self, ensemble: &mut Ensemble) -> Result<(Json, Faults), String> {
        if self.znodes > 0 {
            fill(ensemble, self.znodes)?;
        }
        let crew = Crew { addrs: ensemble.addrs(), ..self.crew.clone() };
        let clients = crew.count();
        let (orders, heard) = channel();
        let (words, said) = channel();
        let work = std::thread::spawn(move || crew.set_out(heard, words)?.run());
        let begin = Instant::now();
        let bridge = Bridge { orders, said, patience: self.patience };
        let changes = self.changes(ensemble, &bridge);
        let seconds = begin.elapsed().as_secs_f64();
        // The crew may have failed, which `changes` then says, too.
        let _ = bridge.orders.send(Order::End);
        let log = work.join().map_err(|_| "the clients' thread panicked".to_owned())?;
        let (log, changes) = match (log, changes) {
            (Ok(log), Ok(changes)) => (log, changes),
            (Err(e), _) | (_, Err(e)) => return Err(e),
        };
        let faults = at_the_end(ensemble, &log)?;
        let acknowledged: u64 = log.books.iter().map(|book| book.acknowledged).sum();
        let mut json = json!({
            "clients": clients,
            "changes": changes,
            "summary": summary(&changes),
            "writes_acknowledged": acknowledged,
            "writes_per_s": (acknowledged as f64 / seconds.max(1e-9)).round(),
            "sessions_lost": log.sessions_lost,
        });
        json["errors"] = log.errors.iter().map(|(code, n)| (code.to_string(), json!(n))).collect();
        json["writes_missing"] = json!(faults.missing);
        json["writes_doubled"] = json!(faults.doubled);
        json["writes_overtaken"] = json!(faults.overtaken);
        Ok((json, faults))
    }

    /// One end of a leader after the other.
    fn changes(&self, ensemble: &mut Ensemble, bridge: &Bridge) -> Result<Vec<Json>, String> {
        let mut changes = Vec::new();
        for number in 1..=self.kills {
            let leader = ensemble.wait_until_led()?;
            bridge.settle(ensemble)?;
            std::thread::sleep(self.pause);
            let mut change = self.change(ensemble, leader, bridge)?;
            change["number"] = json!(number);
            change["leader"] = json!(leader + 1);
            eprintln!("  {}", line(&change));
            changes.push(change);
        }
        ensemble.wait_until_led()?;
        bridge.settle(ensemble)?;
        Ok(changes)
    }

    /// Ends the leader, waits until every client has written again, and brings it back.
    fn change(
        &self,
        ensemble: &mut Ensemble,
        leader: usize,
        bridge: &Bridge,
    ) -> Result<Json, String> {
        let begin = Instant::now();
        bridge.send(Order::Watch { begin, victim: leader })?;
        let watched = match self.end {
            End::Kill => {
                ensemble.take(leader).into_iter().for_each(Server::kill);
                bridge.watched(ensemble)
            }
            End::Term => {
                let server = ensemble.take(leader);
                server.iter().for_each(|server| server.signal(Signal::TERM));
                let watched = bridge.watched(ensemble);
                server.into_iter().for_each(Server::wait);
                watched
            }
            End::Stop => {
                let signal =
                    |signal| ensemble.server(leader).into_iter().for_each(|s| s.signal(signal));
                signal(Signal::STOP);
                let watched = bridge.watched(ensemble);
                ensemble.server(leader).into_iter().for_each(|s| s.signal(Signal::CONT));
                watched
            }
        };
        let mut change = watched?;
        let back = Instant::now();
        if self.end != End::Stop {
            ensemble.spawn(leader)?;
        }
        ensemble.wait_until_led()?;
        change["follows_again_ms"] = json!(round3(back.elapsed().as_secs_f64() * 1e3));
        Ok(change)
    }
}

/// The way to the clients' thread and back.
struct Bridge {
    orders: Sender<Order>,
    said: Receiver<Word>,
    patience: Duration,
}

impl Bridge {
    fn send(&self, order: Order) -> Result<(), String> {
        self.orders.send(order).map_err(|_| "the clients have ended".to_owned())
    }

    /// The next word. A failure says what the members said last.
    fn word(&self, ensemble: &mut Ensemble, waiting_for: &str) -> Result<Word, String> {
        let failure = match self.said.recv_timeout(self.patience) {
            Ok(word) => return Ok(word),
            Err(RecvTimeoutError::Timeout) => {
                format!("after {} s not {waiting_for}", self.patience.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => "the clients have ended".to_owned(),
        };
        ensemble.must_live()?;
        Err(format!("{failure}\n{}", ensemble.last_words()))
    }

    /// Waits until every client is at its own member and has had a write acknowledged.
    fn settle(&self, ensemble: &mut Ensemble) -> Result<(), String> {
        self.send(Order::Settle)?;
        loop {
            match self.word(ensemble, "every client has written through its own member")? {
                Word::Settled => return Ok(()),
                Word::Watched(_) => {}
            }
        }
    }

    /// The figures of a change, once every client has written again.
    fn watched(&self, ensemble: &mut Ensemble) -> Result<Json, String> {
        loop {
            match self.word(ensemble, "every client has written again")? {
                Word::Watched(watch) => return Ok(watch.json()),
                Word::Settled => {}
            }
        }
    }
}

/// A tree of `znodes` nodes, which the load does not touch.
fn fill(ensemble: &mut Ensemble, znodes: u64) -> Result<(), String> {
    let target = ensemble.target()?;
    let mut load = Load::new(target.members(), Mix::only(Kind::Get));
    load.keys = znodes;
    eprintln!("  creating {znodes} znodes");
    load::prepare(&load)?;
    load::fill(&load)
}

/// What each member has at the end, compared with what its clients were told.
fn at_the_end(ensemble: &mut Ensemble, log: &Log) -> Result<Faults, String> {
    ensemble.wait_until_led()?;
    let mut faults = log.books.iter().fold(Faults::default(), |sum, book| sum.and(book.faults));
    for addr in ensemble.addrs() {
        let mut admin = Admin::connect(addr)?;
        admin.sync()?;
        for (number, book) in log.books.iter().enumerate() {
            let path = crew::node(number);
            let read = |xid| codec::read_frame(xid, OpCode::GetData, &path, false);
            let (err, body) = admin.call(read)?;
            let (last, version) = match (err, crew::read_node(&body)) {
                (0, Some(found)) => found,
                _ => (0, 0),
            };
            faults = faults.and(book.at_the_end(last, version));
        }
        admin.close();
    }
    Ok(faults)
}

/// The figures of a change that are summed up: name in the JSON, pointer, for people.
const FIGURES: [(&str, &str, &str); 8] = [
    ("survivors_first", "/survivors/first_ms", "clients of survivors: the first writes"),
    ("survivors_last", "/survivors/last_ms", "clients of survivors: all have written"),
    ("stayed_first", "/stayed/first_ms", "connections that stayed: the first writes"),
    ("stayed_last", "/stayed/last_ms", "connections that stayed: all have written"),
    ("closed_last", "/closed/last_ms", "connections that survivors closed: all have written"),
    ("moved_first", "/moved/first_ms", "clients of the leader: the first writes"),
    ("moved_last", "/moved/last_ms", "clients of the leader: all have written"),
    ("follows_again", "/follows_again_ms", "the old leader follows again"),
];

/// Over all changes: median, 99th percentile and maximum of each figure.
fn summary(changes: &[Json]) -> Json {
    let one = |(name, pointer, _): &(&str, &str, &str)| {
        let values = values(changes, pointer);
        let at = |share: f64| quantile(&values, share).map(round3);
        let row = json!({
            "changes": values.len(),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "max_ms": at(1.0),
        });
        ((*name).to_owned(), row)
    };
    Json::Object(FIGURES.iter().map(one).collect())
}

/// One change for people.
fn line(change: &Json) -> String {
    let ms = |pointer: &str| cell(change.pointer(pointer).and_then(Json::as_f64));
    let count = |name: &str| change[name]["clients"].as_u64().unwrap_or(0);
    format!(
        "{:>4}: survivors' first write after {} ms, all after {} ms; stayed {}, closed {}, moved \
         {} (all after {} ms); back after {} ms",
        change["number"].as_u64().unwrap_or(0),
        ms("/survivors/first_ms"),
        ms("/survivors/last_ms"),
        count("stayed"),
        count("closed"),
        count("moved"),
        ms("/moved/last_ms"),
        ms("/follows_again_ms"),
    )
}

fn text(json: &Json) -> String {
    let changes = json["changes"].as_array().map_or(0, Vec::len);
    let mut out = format!(
        "{}, {} members, {} clients, {} changes of the leader ({})\n{:<54}{:>10}{:>10}{:>10}\n",
        json["server"].as_str().unwrap_or_default(),
        json["ensemble"],
        json["clients"],
        changes,
        json["end"].as_str().unwrap_or_default(),
        "ms after the end of the leader",
        "p50",
        "p99",
        "max",
    );
    for (name, _, meaning) in FIGURES {
        let row = &json["summary"][name];
        let cell = |name: &str| cell(row[name].as_f64());
        out.push_str(&format!(
            "{meaning:<54}{:>10}{:>10}{:>10}\n",
            cell("p50_ms"),
            cell("p99_ms"),
            cell("max_ms")
        ));
    }
    out.push_str(&format!(
        "{} writes acknowledged ({} a second); missing {}, done twice {}, overtaken {}; sessions \
         lost {}; error replies {}\n",
        json["writes_acknowledged"],
        json["writes_per_s"],
        json["writes_missing"],
        json["writes_doubled"],
        json["writes_overtaken"],
        json["sessions_lost"],
        json["errors"],
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_summed_up() {
        let change = |ms: f64| json!({"number": 1, "stayed": {"first_ms": ms}, "moved": {}});
        let changes: Vec<Json> = (1..=100).map(|ms| change(f64::from(ms))).collect();
        let summary = summary(&changes);
        assert_eq!(summary["stayed_first"]["p50_ms"], 50.0);
        assert_eq!(summary["stayed_first"]["p99_ms"], 99.0);
        assert_eq!(summary["stayed_first"]["max_ms"], 100.0);
        assert!(summary["moved_first"]["p50_ms"].is_null());
        assert!(line(&changes[0]).contains("stayed 0"));
        let json = json!({"server": "apache", "summary": summary, "changes": changes});
        assert!(text(&json).contains("100 changes"), "{}", text(&json));
    }
}
