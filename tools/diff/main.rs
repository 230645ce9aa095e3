//! `rk-diff`: the same random histories of client operations on two servers, everything that
//! clients see compared.
//!
//! Each history has a seed, a root node of its own and three clients. Replies, stats, errors,
//! notifications and closings are compared field by field; session ids, times and the order of
//! unordered lists are normalized (see `decode`). A difference is shrunk and printed with a
//! command that shows it again. `--canary` damages one frame per history to prove that the tester
//! notices.
#![forbid(unsafe_code)]

mod arguments;
mod codec;
mod compare;
mod decode;
mod generate;
mod history;
mod known;
mod link;
mod requests;
mod run;
mod servers;
mod words;

use arguments::{Arguments, USAGE};
use compare::{Difference, Outcome, Pair};
use history::{Action, Op};
use link::Canary;
use ringkeeper::base::Rng;
use servers::{Server, Source};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = Arguments::parse().and_then(|arguments| match arguments {
        None => {
            println!("{USAGE}");
            Ok(true)
        }
        Some(arguments) if arguments.is_print => {
            let (seed, limits) = (arguments.seed, arguments.limits);
            let ops = generate::history(seed, &root_of(seed), limits);
            ops.iter().for_each(|op| println!("{op}"));
            Ok(true)
        }
        Some(arguments) => compare_all(&arguments),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("rk-diff: {error}");
            ExitCode::from(2)
        }
    }
}

fn root_of(seed: u64) -> String {
    format!("/h{seed}")
}

fn compare_all(arguments: &Arguments) -> Result<bool, String> {
    let mut config = arguments.config.clone();
    if arguments.limits.is_expiring {
        config.extend(["tickTime=200".to_owned(), format!("minSessionTimeout={}", run::EXPIRY_MS)]);
    }
    let start = |source: &Source, side| {
        let home = arguments.dir.join(side);
        Server::start(source.clone(), home, config.clone(), arguments.members)
            .map_err(|e| e.to_string())
    };
    let (a, b) = arguments.sources()?;
    let mut pair = Pair {
        a: start(&a, "a")?,
        b: start(&b, "b")?,
        is_fresh: arguments.is_fresh,
        is_trace: arguments.is_trace,
        canary: Canary::default(),
        last: Vec::new(),
    };
    let result = if arguments.is_canary {
        canaries(&mut pair, arguments)
    } else {
        histories(&mut pair, arguments)
    };
    drop(pair);
    // Files of a failed start are worth keeping, and a failed start returned above.
    if std::fs::remove_dir_all(&arguments.dir).is_err() && arguments.dir.exists() {
        eprintln!("rk-diff: {} could not be removed", arguments.dir.display());
    }
    result.map_err(|e| e.to_string())
}

fn selected<'a>(history: &'a [Op], arguments: &Arguments) -> Vec<&'a Op> {
    let is_kept = |op: &&Op| {
        let is_wanted = !arguments.is_wordless || !matches!(op.action, Action::Word(_));
        let is_alike = arguments.members == 1 || op.requests().iter().all(requests::is_for_members);
        is_wanted && is_alike && arguments.keep.as_ref().is_none_or(|keep| keep.contains(&op.index))
    };
    history.iter().filter(is_kept).collect()
}

fn histories(pair: &mut Pair, arguments: &Arguments) -> std::io::Result<bool> {
    let mut accepted: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    let (mut differences, mut steps) = (0, 0);
    for seed in arguments.seed..arguments.seed + arguments.count {
        // Every history has a top-level node of its own, and `mntr` shows a limited number of them.
        if seed > arguments.seed && (seed - arguments.seed).is_multiple_of(500) {
            pair.restart()?;
        }
        let root = root_of(seed);
        let history = generate::history(seed, &root, arguments.limits);
        let ops = selected(&history, arguments);
        steps += ops.len();
        match pair.compare(&ops, &root)? {
            Outcome::Same => {}
            Outcome::Accepted(known) => {
                accepted.entry(known.name).or_insert((0, known.reason)).0 += 1;
                pair.restart()?;
            }
            Outcome::Different(found) => {
                differences += u64::from(investigate(pair, arguments, seed, &ops, &found)?);
                if differences >= arguments.max {
                    break;
                }
            }
        }
    }
    for (name, (count, reason)) in &accepted {
        println!("accepted {}: {name}: {reason}", counted(*count, "time"));
    }
    println!(
        "{} and {}: {} in {}, {}",
        pair.a.name(),
        pair.b.name(),
        counted(differences, "difference"),
        counted(steps as u64, "operation"),
        seeds(arguments.seed, arguments.count)
    );
    Ok(differences == 0)
}

/// A number with its noun in the singular or in the plural.
fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

/// Which histories: the last seed is named, so that it can be given again.
fn seeds(first: u64, count: u64) -> String {
    match count {
        0 => "no seed".to_owned(),
        1 => format!("seed {first}"),
        _ => format!("seeds {first} to {}", first + (count - 1)),
    }
}

/// Makes the history small and prints it with both servers' answers; false if it was the reference
/// that answered otherwise the second time.
fn investigate(
    pair: &mut Pair,
    arguments: &Arguments,
    seed: u64,
    ops: &[&Op],
    first: &Difference,
) -> std::io::Result<bool> {
    let root = root_of(seed);
    let mut until: Vec<&Op> = ops.to_vec();
    until.retain(|op| op.index <= first.index);
    let logs = [pair.a.log_tail(), pair.b.log_tail()];
    pair.restart()?;
    let (kept, found, note) = match pair.compare(&until, &root)? {
        Outcome::Different(again) => {
            let kept = pair.shrink(&until, &root)?;
            pair.restart()?;
            match pair.compare(&kept, &root)? {
                Outcome::Different(last) => (kept, last, ""),
                _ => (until, again, "shrunk history not reproducible; this is the whole one"),
            }
        }
        // A sync of Apache's may be answered before a member has what was acknowledged elsewhere.
        _ if arguments.members > 1 && is_again(&pair.last, first) => {
            println!("seed {seed} op {}: {} changed its answer", first.index, pair.a.name());
            pair.restart()?;
            return Ok(false);
        }
        _ => (until, first.clone(), "not seen again on fresh servers: timing or earlier histories"),
    };
    println!("{}", report(pair, arguments, seed, (&kept, ops.len()), &found, note));
    if !note.is_empty() {
        println!("when it was first seen: {}", first.pace);
        for (side, log) in ["a", "b"].into_iter().zip(logs) {
            println!("end of the log of {side}:\n  {}", log.join("\n  "));
        }
    }
    pair.restart()?;
    Ok(true)
}

/// Whether clients of the second server saw the same again where the servers differed.
fn is_again(steps: &[run::Step], first: &Difference) -> bool {
    steps.iter().any(|step| step.index == first.index && step.lines == first.b)
}

fn report(
    pair: &Pair,
    arguments: &Arguments,
    seed: u64,
    (kept, whole): (&[&Op], usize),
    found: &Difference,
    note: &str,
) -> String {
    let mut text = String::new();
    let mut line = |s: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{s}");
    };
    let count = kept.len();
    let place = match found.index {
        run::AT_THE_END => "in the state at the end".to_owned(),
        index => format!("op {index}"),
    };
    line(format!("DIFFERENCE seed {seed} {place}: {count} of {whole} ops needed {note}"));
    kept.iter().for_each(|op| line(op.to_string()));
    let (name_a, name_b) = (pair.a.name(), pair.b.name());
    if found.a.len() == found.b.len() {
        for (of_a, of_b) in found.a.iter().zip(&found.b) {
            if of_a == of_b {
                line(format!("  both: {of_a}"));
            } else {
                line(format!("  {name_a} (a): {of_a}"));
                line(format!("  {name_b} (b): {of_b}"));
            }
        }
    } else {
        // Long answers differ in a few lines.
        let only = |of: &[String], other: &[String], name: &str| {
            let is_shown = |l: &&String| of.len() < 20 || !other.contains(l);
            of.iter().filter(is_shown).map(|l| format!("  {name}: {l}")).collect::<Vec<_>>()
        };
        only(&found.a, &found.b, &format!("{name_a} (a)")).into_iter().for_each(&mut line);
        only(&found.b, &found.a, &format!("{name_b} (b)")).into_iter().for_each(&mut line);
    }
    let keep: Vec<_> = kept.iter().map(|op| op.index).collect();
    line(format!("replay: {}", arguments.replay(seed, &keep)));
    text
}

/// One flipped bit per history; those in the first 16 bytes, the reply header, must be noticed.
fn canaries(pair: &mut Pair, arguments: &Arguments) -> std::io::Result<bool> {
    let (mut noticed, mut missed_in_header) = (0, 0);
    for seed in arguments.seed..arguments.seed + arguments.count {
        let mut rng = Rng::new(seed);
        let history = generate::history(seed, &root_of(seed), arguments.limits);
        // Past the first handshake, whose ids and passwords are normalized.
        let frames = 2 + rng.below(arguments.limits.ops as u64) as u32;
        // Every other one anywhere in the frame, where times may hide it.
        let offset = rng.below(if seed % 2 == 0 { 16 } else { 200 }) as usize;
        pair.canary = Canary { frames_left: Some(frames), offset };
        match pair.compare(&selected(&history, arguments), &root_of(seed))? {
            Outcome::Different(_) => noticed += 1,
            Outcome::Same | Outcome::Accepted(_) if seed % 2 == 0 => {
                missed_in_header += 1;
                println!("not noticed: seed {seed}, frame {frames}, byte {offset} of the header");
            }
            Outcome::Same | Outcome::Accepted(_) => {}
        }
        pair.canary = Canary::default();
    }
    println!(
        "canary: {noticed} of {} flips noticed, headers missed: {missed_in_header}",
        arguments.count
    );
    Ok(missed_in_header == 0 && noticed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!(counted(0, "difference"), "0 differences");
        assert_eq!(counted(1, "difference"), "1 difference");
        assert_eq!(seeds(7, 0), "no seed");
        assert_eq!(seeds(7, 1), "seed 7");
        assert_eq!(seeds(7, 3), "seeds 7 to 9");
    }
}
