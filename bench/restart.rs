//! `rk-bench restart`: killed under full load, started again. How long until it serves, how many
//! transactions it replayed, and whether anything that was acknowledged is gone.
//!
//! Old records can make such a start slow: a segment that is used again still holds the records of
//! its earlier life, and the search for the end of the log meets them. So the load runs until
//! segments have been used again.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringkeeper::base::Xid;
use ringkeeper::wire::OpCode;
use serde_json::{Value as Json, json};

use crate::admin::{self, Admin};
use crate::cli::{seconds, value};
use crate::codec;

use crate::flood::{self, Flood, Manner, Signals};
use crate::options::{Common, contestant, rounds};
use crate::procfs::{self, Cpu};
use crate::scenario::remove;
use crate::servers::{self, Contestant, Server};
use crate::stats::round3;

const HELP: &str = "\
rk-bench restart [options]

Kills a server under a load of pipelined sets (SIGKILL) after some of its log segments have been
used again, starts it on its data, and says how long it took to serve and what it replayed.

  --server NAME            ringkeeper or apache (ringkeeper)
  --rounds N               (1)
  --seconds S              load before the kill (10); up to 30 s longer, until a segment has been
                           used again
  --segment-kib N          segment size of the log (the server's default)
  --nodes N                znodes that are set (70); --size N: bytes of data (200)
  --payload KIND           random, or numbers: every word of the data could be a number of the log
                           (random)
  --connections N          (8); --depth N: requests in flight on each (100)
  --patience S             give a start up after this long (60)
";

/// The time that a start may take besides the replay.
const GOAL_BASE_S: f64 = 1.0;
/// Transactions that a start shall replay per second.
const GOAL_REPLAY_PER_S: f64 = 3e6;
/// How much longer the load runs while no segment has been used again.
const REUSE_PATIENCE: Duration = Duration::from_secs(30);
const ROOT: &str = "/restart";
/// A server that takes a connection while it recovers may leave a word unanswered.
const WORD_PATIENCE: Duration = Duration::from_millis(50);

/// What the data of the sets looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Payload {
    Random,
    /// Small numbers, in turn with the highest and the lowest byte first.
    Numbers,
}

impl Payload {
    fn bytes(self, size: usize) -> Vec<u8> {
        if self == Payload::Random {
            return codec::filler(size);
        }
        let word = |i: u64| {
            let number = 1000 * (i + 1);
            if i.is_multiple_of(2) { number.to_be_bytes() } else { number.to_le_bytes() }
        };
        (0..size.div_ceil(8) as u64).flat_map(word).take(size).collect()
    }
}

struct Restart {
    common: Common,
    who: Contestant,
    rounds: usize,
    load: Duration,
    nodes: usize,
    size: usize,
    payload: Payload,
    connections: usize,
    depth: usize,
    patience: Duration,
}

/// Runs `rk-bench restart`.
pub fn run(parser: &mut lexopt::Parser) -> Result<(), String> {
    let Some(restart) = parse(parser)? else { return Ok(()) };
    servers::end_with_us()?;
    let begin = Instant::now();
    let rounds = rounds(restart.rounds, || restart.round(), line)?;
    let mut json = procfs::about_run(&restart.common.programs.dir, begin.elapsed());
    json["server"] = json!(restart.who.name());
    json["rounds"] = json!(rounds);
    restart.common.write(&json, || rounds.iter().map(|round| line(round) + "\n").collect())
}

fn parse(parser: &mut lexopt::Parser) -> Result<Option<Restart>, String> {
    let mut restart = Restart {
        common: Common::new(),
        who: Contestant::Ringkeeper,
        rounds: 1,
        load: Duration::from_secs(10),
        nodes: 70,
        size: 200,
        payload: Payload::Random,
        connections: 8,
        depth: 100,
        patience: Duration::from_secs(60),
    };
    let common = Common::parse(parser, "restart", HELP, |common, name, parser| {
        match name {
            "server" => restart.who = contestant(parser)?,
            "rounds" => restart.rounds = value(parser, "rounds")?,
            "seconds" => restart.load = seconds(parser, "seconds")?,
            "segment-kib" => {
                let kib: u64 = value(parser, "segment-kib")?;
                common.programs.config.push(format!("ringkeeper.log.segmentSizeInKb={kib}"));
            }
            "nodes" => restart.nodes = value::<usize>(parser, "nodes")?.max(1),
            "size" => restart.size = value(parser, "size")?,
            "payload" => restart.payload = payload(&value::<String>(parser, "payload")?)?,
            "connections" => restart.connections = value::<usize>(parser, "connections")?.max(1),
            "depth" => restart.depth = value::<usize>(parser, "depth")?.max(1),
            "patience" => restart.patience = seconds(parser, "patience")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(common) = common else { return Ok(None) };
    restart.common = common;
    // `ruok` is not among the words that are answered by default. The operator's lines come after
    // this one, and win.
    restart.common.programs.config.insert(0, "4lw.commands.whitelist=*".to_owned());
    restart.common.programs.get_ready(&[restart.who])?;
    Ok(Some(restart))
}

fn payload(name: &str) -> Result<Payload, String> {
    match name {
        "random" => Ok(Payload::Random),
        "numbers" => Ok(Payload::Numbers),
        _ => Err(format!("--payload {name}: random or numbers")),
    }
}

/// State of the log when the load was killed.
struct Killed {
    /// The highest zxid that was acknowledged.
    acknowledged: i64,
    sets_per_s: f64,
    reused: usize,
    seconds: f64,
}

impl Restart {
    fn round(&self) -> Result<Json, String> {
        let home = self.common.programs.home(self.who, "restart")?;
        let server = self.common.programs.start(self.who, &home)?;
        let killed = self.load_and_kill(server, &home)?;
        let snapshot = newest_snapshot(&home).unwrap_or(0);
        let figures = self.start_again(&home, &killed, snapshot);
        if !self.common.keep {
            remove(&home);
        }
        figures
    }

    /// Sets until the time is over and segments have been used again; then SIGKILL.
    fn load_and_kill(&self, server: Server, home: &Path) -> Result<Killed, String> {
        let floods = self.floods(server.addr)?;
        let addr = server.addr;
        let signals = Signals::default();
        std::thread::scope(|scope| {
            let load = scope.spawn(|| flood::run(addr, &floods, &[], &signals));
            let mut segments = Segments::default();
            let begin = Instant::now();
            let wants_more = |segments: &Segments| {
                let elapsed = begin.elapsed();
                let is_waiting = self.who == Contestant::Ringkeeper && segments.reused() == 0;
                elapsed < self.load || is_waiting && elapsed < self.load + REUSE_PATIENCE
            };
            while wants_more(&segments) && !load.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
                segments.look(home);
            }
            let seconds = begin.elapsed().as_secs_f64();
            server.kill();
            signals.stop.store(true, Ordering::Relaxed);
            let outcome = load.join().map_err(|_| "the load's thread panicked")??;
            if let Some((code, count)) = outcome.replies.errors.iter().next() {
                return Err(format!("{count} sets were answered {code}"));
            }
            Ok(Killed {
                acknowledged: outcome.replies.zxid,
                sets_per_s: (outcome.replies.answered as f64 / seconds).round(),
                reused: segments.reused(),
                seconds,
            })
        })
    }

    fn floods(&self, addr: SocketAddr) -> Result<Vec<Flood>, String> {
        let path = |i: usize| format!("{ROOT}/node-{i:05}");
        let mut admin = Admin::connect(addr)?;
        admin.create_all(std::iter::once(ROOT.to_owned()).chain((0..self.nodes).map(path)))?;
        admin.close();
        let data = self.payload.bytes(self.size);
        let frames: Vec<_> =
            (0..self.nodes).map(|i| codec::set_frame(Xid(1), &path(i), &data)).collect();
        let flood = |_| {
            let admin = Admin::connect(addr)?;
            Ok(Flood {
                session: admin.session(),
                prologue: Vec::new(),
                frames: frames.clone(),
                depth: self.depth,
                manner: Manner::Stays,
            })
        };
        (0..self.connections).map(flood).collect()
    }

    /// Starts it on its data and watches until it serves or patience ends.
    fn start_again(&self, home: &Path, killed: &Killed, snapshot: i64) -> Result<Json, String> {
        let begin = Instant::now();
        let mut server = self.common.programs.spawn(self.who, home)?;
        let mut ruok_s = None;
        let mut serving = None;
        while begin.elapsed() < self.patience {
            server.must_live()?;
            if ruok_s.is_none() && says_imok(server.addr) {
                ruok_s = Some(begin.elapsed().as_secs_f64());
            }
            if let Ok(admin) = Admin::probe(server.addr) {
                serving = Some((begin.elapsed().as_secs_f64(), admin));
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let cpu_s = Cpu::of(Some(server.pid())).map(|cpu| round3(cpu.total()));
        let mut figures = json!({
            "load_s": round3(killed.seconds),
            "sets_per_s": killed.sets_per_s,
            "segments_used_again": killed.reused,
            "acknowledged_zxid": killed.acknowledged,
            "snapshot_zxid": snapshot,
            "start_cpu_s": cpu_s,
            "ruok_s": ruok_s.map(round3),
            "serving_s": serving.as_ref().map(|(s, _)| round3(*s)),
        });
        let Some((serving_s, mut admin)) = serving else {
            figures["gave_up_after_s"] = json!(self.patience.as_secs_f64());
            figures["met"] = json!(false);
            let begin = Instant::now();
            server.stop();
            figures["sigterm_s"] = json!(round3(begin.elapsed().as_secs_f64()));
            return Ok(figures);
        };
        let node = format!("{ROOT}/node-00000");
        let (err, _) = admin.call(|xid| codec::read_frame(xid, OpCode::GetData, &node, false))?;
        // One is this session's own.
        let recovered = admin.zxid - 1;
        let replayed = (recovered - snapshot).max(0);
        let goal_s = GOAL_BASE_S + replayed as f64 / GOAL_REPLAY_PER_S;
        let is_lost = err != 0 || recovered < killed.acknowledged;
        figures["recovered_zxid"] = json!(recovered);
        figures["replayed"] = json!(replayed);
        figures["goal_s"] = json!(round3(goal_s));
        figures["lost_acknowledged"] = json!(is_lost);
        figures["met"] = json!(serving_s <= goal_s && !is_lost);
        drop(admin);
        server.kill();
        Ok(figures)
    }
}

/// One round for people.
fn line(figures: &Json) -> String {
    let f = |name: &str| figures[name].as_f64().unwrap_or(0.0);
    let head = format!(
        "killed after {:.1} s of {:.0} sets/s, {} segments used again",
        f("load_s"),
        f("sets_per_s"),
        figures["segments_used_again"],
    );
    let ruok = match figures["ruok_s"].as_f64() {
        Some(s) => format!("ruok after {s:.3} s"),
        None => "ruok not answered before".to_owned(),
    };
    let cpu = f("start_cpu_s");
    if let Some(after) = figures["gave_up_after_s"].as_f64() {
        return format!(
            "{head}: NOT SERVING after {after:.0} s ({cpu:.1} s of CPU), {ruok}; SIGTERM took \
             {:.1} s",
            f("sigterm_s")
        );
    }
    let lost =
        if figures["lost_acknowledged"] == true { "; ACKNOWLEDGED SETS ARE LOST" } else { "" };
    let verdict = if figures["met"] == true { "met" } else { "missed" };
    format!(
        "{head}: serves after {:.3} s ({cpu:.2} s of CPU), {ruok}, {} replayed; goal {:.3} s \
         {verdict}{lost}",
        f("serving_s"),
        figures["replayed"],
        f("goal_s"),
    )
}

/// Whether the four-letter word is answered; a server that does not listen yet says no.
fn says_imok(addr: SocketAddr) -> bool {
    admin::word(addr, "ruok", WORD_PATIENCE).is_ok_and(|answer| answer == "imok")
}

/// The zxid in the name of the newest snapshot below `home`.
fn newest_snapshot(home: &Path) -> Option<i64> {
    let entries = std::fs::read_dir(home.join("data/version-2")).ok()?;
    let zxid = |name: &str| {
        let hex = name.strip_prefix("snapshot.")?.split('.').next()?;
        // A file that is not complete yet ends in `.tmp`.
        (!name.ends_with(".tmp")).then(|| i64::from_str_radix(hex, 16).ok())?
    };
    entries.flatten().filter_map(|entry| zxid(entry.file_name().to_str()?)).max()
}

/// The names that each file of the log has had: one that had two was used again.
#[derive(Default)]
struct Segments {
    names: BTreeMap<(u64, SystemTime), Vec<String>>,
}

impl Segments {
    fn look(&mut self, home: &Path) {
        let Ok(entries) = std::fs::read_dir(home.join("data/version-2")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(found) = entry.metadata() else { continue };
            if name.starts_with("wal.") {
                // A new file may get the number of one that is gone, so its birth counts, too.
                self.saw((found.ino(), found.created().unwrap_or(UNIX_EPOCH)), name);
            }
        }
    }

    fn saw(&mut self, file: (u64, SystemTime), name: String) {
        let names = self.names.entry(file).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }

    /// Times that a file was seen to get another name.
    fn reused(&self) -> usize {
        self.names.values().map(|names| names.len() - 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_was_used_again() {
        let mut segments = Segments::default();
        for (inode, name) in [(1, "wal.1"), (2, "wal.2"), (1, "wal.1"), (1, "wal.3"), (1, "wal.9")]
        {
            segments.saw((inode, UNIX_EPOCH), name.to_owned());
        }
        assert_eq!(segments.reused(), 2);
    }

    #[test]
    fn numbers_fill_the_data() {
        for size in [0, 7, 8, 200, 201] {
            assert_eq!(Payload::Numbers.bytes(size).len(), size);
            assert_eq!(Payload::Random.bytes(size).len(), size);
        }
        let bytes = Payload::Numbers.bytes(16);
        assert_eq!(bytes[..8], 1000u64.to_be_bytes());
        assert_eq!(bytes[8..], 2000u64.to_le_bytes());
    }

    #[test]
    fn a_start_that_was_given_up_says_so() {
        let slow = json!({"gave_up_after_s": 60.0, "segments_used_again": 3, "met": false});
        assert!(line(&slow).contains("NOT SERVING after 60 s"), "{}", line(&slow));
        let lost =
            json!({"serving_s": 0.5, "goal_s": 1.0, "met": false, "lost_acknowledged": true});
        assert!(line(&lost).contains("missed; ACKNOWLEDGED"), "{}", line(&lost));
    }
}
