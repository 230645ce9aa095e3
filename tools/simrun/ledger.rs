//! The ledger: which seed catches which planted mistake first.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

use ringkeeper::sim::{Bug, SimOptions, run};

/// Characters of a complaint that are shown.
const SHOWN: usize = 60;

/// Prints a table with a line for each bug: its faults, and the first of at most `count` seeds that
/// catches it. Returns how many are not caught.
pub fn print(bugs: &[Bug], options: &SimOptions, count: u64) -> usize {
    set_hook(Box::new(|_| {}));
    println!("| mistake | faults | first seed | complaint |\n| --- | --- | --- | --- |");
    let mut missed = 0;
    for &bug in bugs {
        let ensemble = options.ensemble.or(bug.faults());
        let faults = ensemble.map_or("alone".to_owned(), |faults| format!("{faults:?}"));
        let options = SimOptions { ensemble, bug: Some(bug), verbose: false, ..options.clone() };
        match hunt(&options, count) {
            Some((seed, what)) => println!("| `{bug:?}` | {faults} | {seed} | {what} |"),
            None => {
                missed += 1;
                println!("| `{bug:?}` | {faults} | none of {count} | |");
            }
        }
    }
    println!("{} of {} were caught", bugs.len() - missed, bugs.len());
    missed
}

/// The first seed that catches the bug, and the complaint. A seed that complains without the bug,
/// too, has caught something else.
fn hunt(options: &SimOptions, count: u64) -> Option<(u64, String)> {
    let seeds = options.seed..options.seed.saturating_add(count);
    seeds.into_iter().find_map(|seed| {
        let options = SimOptions { seed, ..options.clone() };
        let complaint = complaint(&options)?;
        let without = SimOptions { bug: None, ..options };
        self::complaint(&without).is_none().then(|| (seed, shorten(&complaint)))
    })
}

/// What is wrong with a run.
fn complaint(options: &SimOptions) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(options).1)) {
        Ok(outcome) => Some(outcome.err()?.what),
        Err(payload) => Some(format!("assertion: {}", message(&*payload))),
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("")
}

/// The beginning of a complaint, with dots in place of what differs from seed to seed.
fn shorten(complaint: &str) -> String {
    let has_digit = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let words = complaint.split_whitespace().map(|word| if has_digit(word) { ".." } else { word });
    let text = words.collect::<Vec<_>>().join(" ").replace('|', "/");
    let text: String = text.chars().take(SHOWN).collect();
    text.trim_end_matches([' ', ':', ',']).to_owned()
}
