//! Two servers, one history: run, compare, shrink.

use crate::history::Op;
use crate::known::{self, Known};
use crate::link::Canary;
use crate::run::{self, Options, Step};
use crate::servers::Server;
use std::io;
use std::time::{Duration, Instant};

/// The pair under comparison.
pub struct Pair {
    /// The reference.
    pub a: Server,
    /// The server that must be like it.
    pub b: Server,
    /// Restart both before each history and compare zxids as they are.
    pub is_fresh: bool,
    /// Print what the first server's clients saw.
    pub is_trace: bool,
    /// Change one frame of the second server.
    pub canary: Canary,
    /// What clients of the second server saw in the last history.
    pub last: Vec<Step>,
}

/// What comparing one history found.
pub enum Outcome {
    /// Nothing.
    Same,
    /// A difference that is accepted; the rest of the history was not compared.
    Accepted(&'static Known),
    /// A difference.
    Different(Difference),
}

/// The first step at which the servers differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Index of the operation, or [`run::AT_THE_END`].
    pub index: usize,
    /// What clients of the first server saw.
    pub a: Vec<String>,
    /// What clients of the second server saw.
    pub b: Vec<String>,
    /// How long it took on each, for differences that do not show again.
    pub pace: String,
}

/// How long shrinking may take.
const SHRINK_TIME: Duration = Duration::from_secs(60);

impl Pair {
    /// Runs `ops` on both servers and compares what their clients saw.
    pub fn compare(&mut self, ops: &[&Op], root: &str) -> io::Result<Outcome> {
        if self.is_fresh {
            self.restart()?;
        }
        let options =
            |canary| Options { root: root.to_owned(), is_zxid_absolute: self.is_fresh, canary };
        let (for_a, for_b) = (options(Canary::default()), options(self.canary));
        let (at_a, at_b) = (self.a.addresses(), self.b.addresses());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let (end_a, end_b) = std::thread::scope(|scope| {
            let on_b = scope.spawn(|| run::run(&at_b, ops, &for_b, &mut b));
            let end_a = run::run(&at_a, ops, &for_a, &mut a);
            let panicked = |_| Err(io::Error::other("the tester's thread panicked"));
            (end_a, on_b.join().unwrap_or_else(panicked))
        });
        finish(&mut a, end_a);
        finish(&mut b, end_b);
        if self.is_trace {
            for (op, step) in ops.iter().zip(&a) {
                println!("{op}");
                step.lines.iter().for_each(|line| println!("       {line}"));
            }
        }
        let outcome = first_difference(ops, &a, &b);
        self.last = b;
        Ok(outcome)
    }

    /// Empty servers, where they are ours.
    pub fn restart(&mut self) -> io::Result<()> {
        self.a.restart()?;
        self.b.restart()?;
        Ok(())
    }

    /// Leaves out operations as long as a difference remains; returns the others.
    pub fn shrink<'a>(&mut self, ops: &[&'a Op], root: &str) -> io::Result<Vec<&'a Op>> {
        let until = Instant::now() + SHRINK_TIME;
        let mut kept = ops.to_vec();
        let mut chunk = kept.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            let mut is_smaller = false;
            while at < kept.len() && Instant::now() < until {
                let end = (at + chunk).min(kept.len());
                let fewer: Vec<&Op> = [&kept[..at], &kept[end..]].concat();
                if let Outcome::Different(found) = self.compare(&fewer, root)? {
                    kept = fewer;
                    kept.retain(|op| op.index <= found.index);
                    is_smaller = true;
                } else {
                    at = end;
                }
            }
            if Instant::now() >= until {
                break;
            }
            if chunk > 1 || !is_smaller {
                chunk /= 2;
            }
        }
        Ok(kept)
    }
}

/// An unusable server is a last step that no usable one has.
fn finish(steps: &mut Vec<Step>, end: io::Result<()>) {
    if let Err(error) = end {
        let lines = vec![format!("SERVER UNUSABLE: {error}")];
        match steps.last_mut() {
            Some(last) => last.lines.extend(lines),
            None => steps.push(Step { index: 0, lines, took: Duration::ZERO }),
        }
    }
}

fn first_difference(ops: &[&Op], a: &[Step], b: &[Step]) -> Outcome {
    let missing = |index| {
        let lines = vec!["(not reached)".to_owned()];
        Step { index, lines, took: Duration::ZERO }
    };
    for at in 0..a.len().max(b.len()) {
        let index = ops.get(at).map_or(run::AT_THE_END, |op| op.index);
        let (of_a, of_b) = (a.get(at).cloned(), b.get(at).cloned());
        let of_a = of_a.unwrap_or_else(|| missing(index));
        let of_b = of_b.unwrap_or_else(|| missing(index));
        if of_a.lines == of_b.lines {
            continue;
        }
        if let Some(known) = known::explain(&ops[..ops.len().min(at + 1)], &of_a, &of_b) {
            return Outcome::Accepted(known);
        }
        let pace = format!("a: {}; b: {}", pace(a, at), pace(b, at));
        return Outcome::Different(Difference { index, a: of_a.lines, b: of_b.lines, pace });
    }
    Outcome::Same
}

/// How long the steps took up to the one at `at`.
fn pace(steps: &[Step], at: usize) -> String {
    let until = &steps[..steps.len().min(at + 1)];
    let all: Duration = until.iter().map(|step| step.took).sum();
    let last = until.last().map_or(Duration::ZERO, |step| step.took);
    let slowest = until.iter().max_by_key(|step| step.took);
    let slowest = slowest.map_or_else(String::new, |step| {
        let place =
            if step.index == run::AT_THE_END { "end".to_owned() } else { step.index.to_string() };
        format!(", the slowest (op {place}) {:.1?}", step.took)
    });
    format!("{all:.1?} in all, this step {last:.1?}{slowest}")
}
